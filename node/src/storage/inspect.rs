//! Looking at a log without touching it: which segments there are, what is intact, what is torn, what is damaged.
//!
//! Opening (recovery.rs) and verifying (audit.rs) judge by the same eyes. This file never writes.
//!
//! **Tail against middle.** The first place P in the newest segment that is not an intact frame is a torn tail, and
//! may be cut, only if nothing shows that P was once durable. Two things show it:
//! * the mark: it lies beyond P;
//! * a frame behind P whose commit group began behind P. Group g+1 is written only after g is durable, and P belongs
//!   to an earlier group then. (A frame behind P whose group began at or before P shows nothing: it is P's own
//!   group, of which a disk may keep any part.)
//!
//! In every other segment all frames were durable before the next one was created: anything wrong there is damage.

use super::lost::Lost;
use super::mark::{self, NO_SEGMENT, Slot};
use super::reader::missing;
use super::segment::{Found, Segment, Walk, bases_in};
use super::{Damage, Position, Scan, StorageError};
use super::{frame::Seal, segment::name_of, vault::Vault};
use std::path::{Path, PathBuf};

/// The names inside a data folder.
pub(super) struct Paths {
    pub(super) dir: PathBuf,
    pub(super) lock: PathBuf,
    pub(super) log: PathBuf,
    pub(super) mark: PathBuf,
    pub(super) lost: PathBuf,
}

impl Paths {
    pub(super) fn new(dir: &Path) -> Paths {
        let [lock, log, mark, lost] = ["lock", "log", "mark", "lost"].map(|name| dir.join(name));
        Paths { dir: dir.to_path_buf(), lock, log, mark, lost }
    }
}

/// The end of the log as found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tail {
    /// End of the last intact frame (or of the lost range behind it).
    pub(super) end: u64,
    /// End of what a torn group left behind `end`; equal to `end` if nothing.
    pub(super) torn_to: u64,
    /// The newest segment holds damage: nothing may be appended to it.
    pub(super) damaged: bool,
    /// Durable frames are lost at the very end: nobody knows how far the log went.
    pub(super) open_ended: bool,
}

/// Everything found.
pub(super) struct Inspection {
    pub(super) mark: Option<Slot>,
    pub(super) log_id: [u8; 16],
    pub(super) bases: Vec<u64>,
    pub(super) lost: Lost,
    pub(super) damage: Vec<Damage>,
    /// Segments whose header is damaged though their place is known.
    pub(super) bad_headers: Vec<u64>,
    /// What could not be read at all: the system's errors, foreign versions and ciphers.
    pub(super) unreadable: Vec<StorageError>,
    pub(super) tail: Tail,
    pub(super) last: Option<u64>,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// Looks at the log; `None` if none was ever completed here. `fallback_id` serves if no header and no mark is left.
pub(super) fn inspect(
    paths: &Paths,
    scan: Scan,
    fallback_id: [u8; 16],
    vault: Option<&Vault>,
) -> Result<Option<Inspection>, StorageError> {
    let mark = mark::load(&paths.mark)?;
    let mut bases = if paths.log.is_dir() { bases_in(&paths.log)? } else { Vec::new() };
    if bases.is_empty() && mark.is_none_or(|mark| mark.base == NO_SEGMENT) {
        return Ok(None);
    }
    let log_id = match mark {
        Some(mark) => mark.log_id,
        None => first_id(&paths.log, &bases).unwrap_or(fallback_id),
    };
    let lost = Lost::load(&paths.lost, &log_id)?;
    let marked = mark.map(|mark| mark.base).filter(|base| *base != NO_SEGMENT && !bases.contains(base));
    bases.extend(marked);
    bases.sort_unstable();
    let (damage, bad_headers, unreadable) = (Vec::new(), Vec::new(), Vec::new());
    let (tail, last, entries, bytes) = (Tail::default(), None, 0, 0);
    let mut found =
        Inspection { mark, log_id, bases, lost, damage, bad_headers, unreadable, tail, last, entries, bytes };
    found.look_at_all(&paths.log, scan, vault);
    found.damage.sort_by_key(|damage| damage.from);
    Ok(Some(found))
}

fn first_id(log: &Path, bases: &[u64]) -> Option<[u8; 16]> {
    bases.iter().find_map(|base| Some(Segment::open(log, *base, false).ok()?.header().ok()??.log_id))
}

impl Inspection {
    fn look_at_all(&mut self, log: &Path, scan: Scan, vault: Option<&Vault>) {
        let (seal, key) = (Seal::new(&self.log_id, vault), vault.map(Vault::id));
        let first = self.bases.first().copied().unwrap_or(0);
        if !self.lost.covers(0, first) {
            self.damage.push(missing(0, 0, first, "the first segments are missing"));
        }
        // From the newest backwards, until an entry was found: without that the log's last position is unknown.
        for nth in (0..self.bases.len()).rev() {
            let (base, close) = (self.bases[nth], self.bases.get(nth + 1).copied());
            let deep = scan == Scan::All || close.is_none() || self.last.is_none();
            if let Err(error) = self.look_at(log, (&seal, key), base, close, deep) {
                self.unreadable.push(error);
            }
        }
    }

    fn look_at(
        &mut self,
        log: &Path,
        seal: (&Seal, Option<[u8; 16]>),
        base: u64,
        close: Option<u64>,
        deep: bool,
    ) -> Result<(), StorageError> {
        let (seal, key) = seal;
        let mark_end = self.mark.map_or(0, |mark| mark.end);
        if close.is_some_and(|close| self.lost.covers(base, close)) {
            return Ok(());
        }
        if !log.join(name_of(base)).is_file() {
            let to = close.unwrap_or(mark_end.max(base));
            self.lose_segment(missing(base, base, to, "the segment is missing"), close);
            return Ok(());
        }
        let segment = Segment::open(log, base, false)?;
        match segment.header()? {
            None => {
                self.bad_headers.push(base);
                self.damage.push(segment.damage(base, base, "the segment's header is damaged"));
            }
            Some(header) if header.log_id != self.log_id || header.base != base => {
                let whose = if header.log_id == self.log_id { "this" } else { "another" };
                let what = format!("the file is {} of {whose} log; rename it back", name_of(header.base));
                let to = close.unwrap_or(mark_end.max(segment.limit()).max(base + 1));
                self.lose_segment(segment.damage(base, to, what), close);
                return Ok(());
            }
            Some(header) => header.fits(key, segment.name())?,
        }
        match close {
            None => self.scan_newest(&segment, seal, mark_end),
            Some(close) if deep => self.scan_closed(&segment, seal, close),
            Some(close) if segment.limit() < close && !self.lost.covers(segment.limit(), close) => {
                let what = "the segment is shorter than its frames";
                self.damage.push(segment.damage(segment.limit(), close, what));
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    /// A whole segment cannot be used. If it was the newest, nobody knows how far it went.
    fn lose_segment(&mut self, damage: Damage, close: Option<u64>) {
        if close.is_none() {
            self.tail = Tail { end: damage.from.0, torn_to: damage.from.0, damaged: true, open_ended: true };
        }
        self.damage.push(damage);
    }

    fn count(&mut self, at: u64, length: usize) {
        self.last = self.last.max(Some(at));
        self.entries += 1;
        self.bytes += length as u64;
    }

    fn scan_closed(&mut self, segment: &Segment, seal: &Seal, close: u64) -> Result<(), StorageError> {
        let lost = self.lost.clone();
        let mut walk = Walk::new(segment, seal, &lost, segment.base, close);
        loop {
            let (at, why) = match walk.step()? {
                Found::Frame { at, length, .. } => {
                    self.count(at, length);
                    continue;
                }
                Found::End { at } if at >= close => return Ok(()),
                Found::End { at } => (at, "frames are missing here"),
                Found::Bad { at, why } => (at, why),
            };
            let next = walk.search(at + 1, close, 0)?.unwrap_or(close);
            self.damage.push(segment.damage(at, next, why));
            walk.seek(next);
        }
    }

    fn scan_newest(&mut self, segment: &Segment, seal: &Seal, mark_end: u64) -> Result<(), StorageError> {
        let lost = self.lost.clone();
        let limit = segment.limit();
        let mut walk = Walk::new(segment, seal, &lost, segment.base, limit);
        loop {
            let (at, why) = match walk.step()? {
                Found::Frame { at, length, .. } => {
                    self.count(at, length);
                    continue;
                }
                Found::End { at } => (at, "frames are missing here"),
                Found::Bad { at, why } => (at, why),
            };
            // A frame cannot begin in the zeros at the end, so the search need not go there.
            let written_to = walk.written_end(at)?;
            let was_durable = at < mark_end || walk.search(at + 1, written_to, at + 1)?.is_some();
            if !was_durable {
                self.tail = Tail { end: at, torn_to: written_to, ..self.tail };
                return Ok(());
            }
            self.tail.damaged = true;
            let next = walk.search(at + 1, written_to, 0)?;
            let to = next.unwrap_or(mark_end.max(written_to));
            self.damage.push(segment.damage(at, to, why));
            let Some(next) = next else {
                self.tail = Tail { end: at, torn_to: at, damaged: true, open_ended: true };
                return Ok(());
            };
            walk.seek(next);
        }
    }

    /// The end of the log as a position.
    pub(super) fn end(&self) -> Position {
        Position(self.tail.end)
    }
}
