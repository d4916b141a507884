//! Reading what is durable: one entry at a position, or all of them in order, verified, while the writer goes on.
//!
//! Nothing here is believed without its hash, nothing beyond the durable end is shown, nothing is repaired.

use super::frame::{FRAME_BYTES_MAX, HEAD_BYTES, Head, Seal};
use super::lost::Lost;
use super::segment::{Found, Segment, Walk, name_of};
use super::{Damage, Entry, Position, StorageError, disk};
use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Segments kept open for `read`; a hub has thousands, a process has 1024 descriptors.
const OPEN_SEGMENTS_MAX: usize = 64;
/// Read with the head: most entries fit, so most reads are one call.
const FIRST_READ_BYTES: usize = 1024;

/// The durable part of the log, for any thread.
pub(super) struct Reader {
    log: PathBuf,
    seal: Seal,
    lost: Lost,
    /// Where the segments begin, rising.
    bases: RwLock<Vec<u64>>,
    end: AtomicU64,
    open: Mutex<VecDeque<Arc<Segment>>>,
}

impl Reader {
    pub(super) fn new(log: PathBuf, seal: Seal, lost: Lost, bases: Vec<u64>, end: u64) -> Self {
        let (bases, end, open) = (RwLock::new(bases), AtomicU64::new(end), Mutex::default());
        Reader { log, seal, lost, bases, end, open }
    }

    /// Bytes of the frame of an entry with so many bytes.
    pub(super) fn frame_bytes(&self, entry: usize) -> usize {
        self.seal.frame_bytes(entry)
    }

    pub(super) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The writer made everything below `end` durable.
    pub(super) fn publish(&self, end: u64) {
        self.end.store(end, Ordering::Release);
    }

    pub(super) fn add_segment(&self, base: u64) {
        self.bases.write().unwrap_or_else(PoisonError::into_inner).push(base);
    }

    pub(super) fn lost(&self) -> &Lost {
        &self.lost
    }

    pub(super) fn read(&self, at: Position) -> Result<Entry, StorageError> {
        let end = self.end();
        let base = self.base_of(at.0);
        let Some(base) = base.filter(|_| at.0 < end) else {
            return Err(StorageError::NotInLog { at, end: Position(end) });
        };
        if let Some(to) = self.lost.end_of(at.0) {
            return Err(StorageError::Damaged(missing(base, at.0, to, "lost in an earlier damage")));
        }
        let segment = self.segment(base)?;
        let bad = |what| Err(StorageError::Damaged(segment.damage(at.0, end.min(at.0 + 1), what)));
        let offset = segment.offset_of(at.0);
        let mut frame = vec![0; FIRST_READ_BYTES];
        let mut count = disk::read_at(&segment.file, &mut frame, offset).map_err(|e| segment.failed(&e))?;
        if count < HEAD_BYTES {
            return bad("the segment is shorter than what was written to it");
        }
        let Head::Frame { length, .. } = self.seal.head(at.0, &frame) else {
            return bad("no frame begins here: the position is wrong or the frame's head is damaged");
        };
        assert!(length <= FRAME_BYTES_MAX, "the head is bounded");
        frame.resize(length, 0);
        if count < length {
            let rest = disk::read_at(&segment.file, &mut frame[count..], offset + count as u64);
            count += rest.map_err(|e| segment.failed(&e))?;
        }
        let mut bytes = Vec::with_capacity(length);
        let kind = if count < length { None } else { self.seal.open(at.0, &frame, &mut bytes) };
        let Some(kind) = kind else { return bad("the frame's body does not match its hash") };
        Ok(Entry { kind, bytes })
    }

    /// Visits every entry from `from` to the durable end as it was when called; returns that end.
    pub(super) fn replay<E: From<StorageError>>(
        &self,
        from: Position,
        visit: &mut dyn FnMut(Position, Entry) -> Result<(), E>,
    ) -> Result<Position, E> {
        let end = self.end();
        if from.0 > end {
            return Err(StorageError::NotInLog { at: from, end: Position(end) }.into());
        }
        let bases = self.bases.read().unwrap_or_else(PoisonError::into_inner).clone();
        for (nth, base) in bases.iter().copied().enumerate() {
            let close = bases.get(nth + 1).copied().unwrap_or(end).min(end);
            let from = from.0.max(base);
            if from >= close || self.lost.covers(from, close) {
                continue;
            }
            let segment = match Segment::open(&self.log, base, false) {
                Err(StorageError::Io { kind: io::ErrorKind::NotFound, .. }) => {
                    return Err(
                        StorageError::Damaged(missing(base, from, close, "the segment is missing")).into()
                    );
                }
                other => other?,
            };
            self.replay_segment(&segment, from, close, visit)?;
        }
        Ok(Position(end))
    }

    fn replay_segment<E: From<StorageError>>(
        &self,
        segment: &Segment,
        from: u64,
        close: u64,
        visit: &mut dyn FnMut(Position, Entry) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut walk = Walk::new(segment, &self.seal, &self.lost, from, close);
        loop {
            let (at, why) = match walk.step()? {
                Found::Frame { at, kind, .. } => {
                    visit(Position(at), Entry { kind, bytes: walk.take_body() })?;
                    continue;
                }
                Found::End { at } if at >= close => return Ok(()),
                Found::End { at } => (at, "frames are missing here"),
                Found::Bad { at, why } => (at, why),
            };
            let to = walk.search(at + 1, close, 0)?.unwrap_or(close);
            return Err(StorageError::Damaged(segment.damage(at, to, why)).into());
        }
    }

    /// Whether an entry begins at `at`, or the log ends there: a place from which a replay can start.
    pub(super) fn is_boundary(&self, at: Position) -> bool {
        at.0 == self.end()
            || self.bases.read().unwrap_or_else(PoisonError::into_inner).contains(&at.0)
            || self.lost.end_of(at.0).is_some()
            || self.read(at).is_ok()
    }

    fn base_of(&self, at: u64) -> Option<u64> {
        let bases = self.bases.read().unwrap_or_else(PoisonError::into_inner);
        bases[..bases.partition_point(|base| *base <= at)].last().copied()
    }

    fn segment(&self, base: u64) -> Result<Arc<Segment>, StorageError> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let segment = match open.iter().position(|segment| segment.base == base) {
            Some(nth) => open.remove(nth),
            None => None,
        };
        let segment = match segment {
            Some(segment) => segment,
            None => Arc::new(Segment::open(&self.log, base, false)?),
        };
        open.push_back(Arc::clone(&segment));
        if open.len() > OPEN_SEGMENTS_MAX {
            open.pop_front();
        }
        Ok(segment)
    }
}

/// Damage in a segment that need not exist as a file.
pub(super) fn missing(base: u64, from: u64, to: u64, what: &str) -> Damage {
    let offset = super::segment::HEADER_BYTES + from.saturating_sub(base);
    Damage { segment: name_of(base), offset, from: Position(from), to: Position(to), what: what.to_string() }
}
