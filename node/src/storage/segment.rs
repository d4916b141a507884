//! A segment: one file of the log, its header, its name, and how it is walked frame by frame.
//!
//! ```text
//! 0    8  magic "TILLSYNC"
//! 8    1  kind of file: 'L' (log segment)
//! 9    1  format version: 1
//! 10   1  cipher: 0 = none, 1 = XChaCha20-Poly1305
//! 11   5  zero
//! 16  16  log id
//! 32   8  base position, little endian (also the file's name, 20 digits)
//! 40  16  id of the data key with a cipher, else zero
//! 56  40  zero
//! 96  32  BLAKE3 of bytes 0..96
//! 128 …   frames, then zeros written ahead
//! ```
//!
//! Positions count frames only, so they run on without a gap over segments: offset = 128 + position − base. A segment
//! appears under its name only complete (written aside, synced, renamed), so a bad header is damage and never a
//! crash. This file reads; only writer.rs and recovery.rs write.

use super::disk::{Disk, Role, read_at, with_suffix};
use super::frame::{HEAD_BYTES, Head, Seal};
use super::lost::Lost;
use super::{Damage, Position, StorageError, private};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of a segment before its first frame.
pub(super) const HEADER_BYTES: u64 = RAW_HEADER_BYTES as u64;
const RAW_HEADER_BYTES: usize = 128;
const MAGIC: &[u8; 8] = b"TILLSYNC";
const KIND_LOG: u8 = b'L';
const VERSION: u8 = 1;
const CIPHER_NONE: u8 = 0;
const CIPHER_XCHACHA20_POLY1305: u8 = 1;
/// How much of a segment a walk holds in memory at a time.
const WINDOW_BYTES: usize = 256 << 10;

/// The name of the segment that begins at `base`.
pub(super) fn name_of(base: u64) -> String {
    format!("{base:020}.seg")
}

/// The bases of all segments in the log's folder, rising.
pub(super) fn bases_in(log: &Path) -> Result<Vec<u64>, StorageError> {
    let failed = |e: io::Error| StorageError::io("listing", log, &e);
    let mut bases = Vec::new();
    for entry in fs::read_dir(log).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let base =
            name.to_str().and_then(|name| name.strip_suffix(".seg")).and_then(|base| base.parse().ok());
        // Only the exact name counts: "7.seg" is not ours.
        bases.extend(base.filter(|base| name.to_str() == Some(name_of(*base).as_str())));
    }
    bases.sort_unstable();
    Ok(bases)
}

/// What a header says, once its hash has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) log_id: [u8; 16],
    pub(super) base: u64,
    /// Names the data key of an encrypted segment.
    pub(super) key: Option<[u8; 16]>,
}

impl Header {
    pub(super) fn encode(&self) -> [u8; RAW_HEADER_BYTES] {
        let mut raw = [0; RAW_HEADER_BYTES];
        let cipher = if self.key.is_some() { CIPHER_XCHACHA20_POLY1305 } else { CIPHER_NONE };
        raw[..8].copy_from_slice(MAGIC);
        raw[8..11].copy_from_slice(&[KIND_LOG, VERSION, cipher]);
        raw[16..32].copy_from_slice(&self.log_id);
        raw[32..40].copy_from_slice(&self.base.to_le_bytes());
        raw[40..56].copy_from_slice(&self.key.unwrap_or_default());
        let hash = blake3::hash(&raw[..96]);
        raw[96..].copy_from_slice(hash.as_bytes());
        raw
    }

    /// `Ok(None)` when the header is damaged; an error when it is intact but not for this version.
    pub(super) fn decode(raw: &[u8], segment: &str) -> Result<Option<Header>, StorageError> {
        let segment = segment.to_string();
        if raw.len() < RAW_HEADER_BYTES
            || &raw[..8] != MAGIC
            || raw[96..128] != *blake3::hash(&raw[..96]).as_bytes()
        {
            return Ok(None);
        }
        match (raw[8], raw[9], raw[10]) {
            (KIND_LOG, VERSION, CIPHER_NONE | CIPHER_XCHACHA20_POLY1305) => {}
            (KIND_LOG, VERSION, cipher) => return Err(StorageError::NeedsKey { segment, cipher }),
            (KIND_LOG, version, _) => return Err(StorageError::NewerFormat { segment, version }),
            _ => return Ok(None),
        }
        let (mut log_id, mut base, mut key) = ([0; 16], [0; 8], [0; 16]);
        key.copy_from_slice(&raw[40..56]);
        log_id.copy_from_slice(&raw[16..32]);
        base.copy_from_slice(&raw[32..40]);
        let key = (raw[10] != CIPHER_NONE).then_some(key);
        Ok(Some(Header { log_id, base: u64::from_le_bytes(base), key }))
    }

    /// Whether the segment is under this key, or as plain as the directory. Nothing in it is judged otherwise: to a
    /// wrong key every frame looks torn.
    pub(super) fn fits(&self, key: Option<[u8; 16]>, segment: String) -> Result<(), StorageError> {
        match (self.key, key) {
            (None, None) => Ok(()),
            (Some(found), Some(expected)) if found == expected => Ok(()),
            (None, Some(_)) => Err(StorageError::NotEncrypted { segment }),
            (Some(_), None) => Err(StorageError::NeedsKey { segment, cipher: CIPHER_XCHACHA20_POLY1305 }),
            (Some(_), Some(_)) => Err(StorageError::OtherKey { segment }),
        }
    }
}

/// A segment file opened for reading.
pub(super) struct Segment {
    pub(super) base: u64,
    pub(super) path: PathBuf,
    pub(super) file: File,
    /// Length of the file when it was opened.
    pub(super) length: u64,
}

impl Segment {
    pub(super) fn open(log: &Path, base: u64, to_write: bool) -> Result<Segment, StorageError> {
        let path = log.join(name_of(base));
        let failed = |e: io::Error| StorageError::io("opening", &path, &e);
        let file = File::options().read(true).write(to_write).open(&path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok(Segment { base, path, file, length })
    }

    /// Creates the segment aside, complete and synced, and renames it into place. The caller syncs the folder.
    pub(super) fn create(disk: &Disk, log: &Path, header: Header, ahead: u64) -> Result<Segment, io::Error> {
        let path = log.join(name_of(header.base));
        let aside = with_suffix(&path, ".tmp");
        let create = || -> io::Result<File> {
            let file = private::options().read(true).write(true).create(true).truncate(true).open(&aside)?;
            disk.write_at(Role::Segment, &file, &header.encode(), 0)?;
            write_zeros(disk, Role::Segment, &file, HEADER_BYTES, HEADER_BYTES + ahead)?;
            disk.sync(Role::Segment, &file)?;
            fs::rename(&aside, &path)?;
            Ok(file)
        };
        match create() {
            Ok(file) => Ok(Segment { base: header.base, path, file, length: HEADER_BYTES + ahead }),
            Err(e) => {
                // Best effort: a leftover is deleted at the next opening anyway.
                let _ = fs::remove_file(&aside);
                Err(e)
            }
        }
    }

    pub(super) fn name(&self) -> String {
        name_of(self.base)
    }

    /// Position after the last byte that the file could hold as it is.
    pub(super) fn limit(&self) -> u64 {
        self.base + self.length.saturating_sub(HEADER_BYTES)
    }

    pub(super) fn offset_of(&self, at: u64) -> u64 {
        HEADER_BYTES + (at - self.base)
    }

    pub(super) fn header(&self) -> Result<Option<Header>, StorageError> {
        let mut raw = [0; RAW_HEADER_BYTES];
        let count = read_at(&self.file, &mut raw, 0).map_err(|e| self.failed(&e))?;
        Header::decode(&raw[..count], &self.name())
    }

    pub(super) fn failed(&self, error: &io::Error) -> StorageError {
        StorageError::io("reading", &self.path, error)
    }

    pub(super) fn damage(&self, from: u64, to: u64, what: impl Into<String>) -> Damage {
        let (offset, what) = (self.offset_of(from), what.into());
        Damage { segment: self.name(), offset, from: Position(from), to: Position(to), what }
    }
}

/// Writes zeros over a range of the file, in steps that do not need much memory.
pub(super) fn write_zeros(disk: &Disk, role: Role, file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(usize::MAX).min(1 << 20)];
    let mut at = from;
    while at < to {
        let count = usize::try_from(to - at).unwrap_or(usize::MAX).min(zeros.len());
        disk.write_at(role, file, &zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

/// What a walk found at its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An intact frame; `Walk::take_body` gives its bytes until the next step.
    Frame { at: u64, kind: u8, length: usize },
    /// Nothing written here, or the limit was reached.
    End { at: u64 },
    /// Not what was written; the walk stays here until `seek`.
    Bad { at: u64, why: &'static str },
}

/// Goes through one segment frame by frame, verified, stepping over ranges that are known to be lost.
pub(super) struct Walk<'a> {
    segment: &'a Segment,
    seal: &'a Seal,
    lost: &'a Lost,
    /// The position looked at next.
    at: u64,
    /// No frame ends behind this position.
    limit: u64,
    window: Vec<u8>,
    /// Position of the window's first byte.
    window_at: u64,
    body: Vec<u8>,
}

/// The last byte that is not zero. Most of what is looked through are zeros, which compare fastest many at once.
fn last_written(bytes: &[u8]) -> Option<usize> {
    const ZEROS: [u8; 256] = [0; 256];
    let (mut end, mut chunks) = (bytes.len(), bytes.rchunks(ZEROS.len()));
    let written = chunks.find(|chunk| {
        let zero = **chunk == ZEROS[..chunk.len()];
        end -= if zero { chunk.len() } else { 0 };
        !zero
    })?;
    let last = written.iter().rposition(|byte| *byte != 0)?;
    Some(end - written.len() + last)
}

impl<'a> Walk<'a> {
    pub(super) fn new(segment: &'a Segment, seal: &'a Seal, lost: &'a Lost, from: u64, limit: u64) -> Self {
        let limit = limit.min(segment.limit());
        Walk { segment, seal, lost, at: from, limit, window: Vec::new(), window_at: 0, body: Vec::new() }
    }

    /// The next frame, or why there is none.
    pub(super) fn step(&mut self) -> Result<Found, StorageError> {
        while let Some(end) = self.lost.end_of(self.at) {
            self.at = end;
        }
        let at = self.at;
        let Some(room) = self.limit.checked_sub(at).filter(|room| *room > 0) else {
            return Ok(Found::End { at });
        };
        if room < HEAD_BYTES as u64 {
            // Too little for a frame: the zeros at a segment's very end.
            let zero = self.bytes(at, HEAD_BYTES)?.iter().all(|byte| *byte == 0);
            return Ok(if zero { Found::End { at } } else { Found::Bad { at, why: "a frame is cut off" } });
        }
        let seal = self.seal;
        let length = match seal.head(at, self.bytes(at, HEAD_BYTES)?) {
            Head::End => return Ok(Found::End { at }),
            Head::Bad => return Ok(Found::Bad { at, why: "the frame's head does not match its check" }),
            Head::Frame { length, .. } => length,
        };
        if length as u64 > room {
            return Ok(Found::Bad { at, why: "the frame reaches beyond the end of its segment" });
        }
        let mut body = std::mem::take(&mut self.body);
        let kind = seal.open(at, self.bytes(at, length)?, &mut body);
        self.body = body;
        let Some(kind) = kind else {
            return Ok(Found::Bad { at, why: "the frame's body does not match its hash" });
        };
        self.at = at + length as u64;
        Ok(Found::Frame { at, kind, length })
    }

    /// The body of the frame found last; once.
    pub(super) fn take_body(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.body)
    }

    /// Continues at another position.
    pub(super) fn seek(&mut self, at: u64) {
        self.at = at;
    }

    /// Position after the last byte that is not zero, at or after `from`; `from` when all are zero.
    pub(super) fn written_end(&mut self, from: u64) -> Result<u64, StorageError> {
        let (mut at, mut end) = (from, from);
        while at < self.limit {
            let bytes = self.bytes(at, WINDOW_BYTES)?;
            if bytes.is_empty() {
                break;
            }
            let count = bytes.len() as u64;
            if let Some(last) = last_written(bytes) {
                end = at + last as u64 + 1;
            }
            at += count;
        }
        Ok(end)
    }

    /// Searches byte by byte, from `from` to `to`, for an intact frame whose commit group began at or after
    /// `group_from`.
    pub(super) fn search(
        &mut self,
        from: u64,
        to: u64,
        group_from: u64,
    ) -> Result<Option<u64>, StorageError> {
        let (seal, mut body) = (self.seal, Vec::new());
        for at in from..to.min(self.limit) {
            let bytes = self.bytes(at, HEAD_BYTES)?;
            if bytes.len() < HEAD_BYTES {
                break;
            }
            let Head::Frame { length, back, .. } = seal.head(at, bytes) else { continue };
            let began_late = at.checked_sub(back).is_some_and(|group| group >= group_from);
            let fits = at + length as u64 <= self.limit;
            if began_late && fits && seal.open(at, self.bytes(at, length)?, &mut body).is_some() {
                return Ok(Some(at));
            }
        }
        Ok(None)
    }

    /// Up to `want` bytes at a position; fewer only at the limit or at the end of the file.
    fn bytes(&mut self, at: u64, want: usize) -> Result<&[u8], StorageError> {
        let want = usize::try_from(self.limit.saturating_sub(at)).unwrap_or(usize::MAX).min(want);
        let held = at >= self.window_at && at + want as u64 <= self.window_at + self.window.len() as u64;
        if !held {
            self.window.resize(want.max(WINDOW_BYTES), 0);
            let offset = self.segment.offset_of(at);
            let count = read_at(&self.segment.file, &mut self.window, offset);
            let count = count.map_err(|e| self.segment.failed(&e))?;
            self.window.truncate(count);
            self.window_at = at;
            if count < want {
                // The limit was taken from the file's length: somebody shortened it meanwhile.
                return Err(self.segment.failed(&io::ErrorKind::UnexpectedEof.into()));
            }
        }
        let start = usize::try_from(at - self.window_at).unwrap_or(usize::MAX);
        Ok(&self.window[start..(start + want).min(self.window.len())])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_byte_that_was_written_is_found_wherever_it_stands() {
        for length in [0, 1, 255, 256, 257, 700] {
            assert_eq!(last_written(&vec![0; length]), None);
            for at in [0, 1, 254, 255, 256, 300, 511, 512, 699].into_iter().filter(|at| *at < length) {
                let mut bytes = vec![0; length];
                bytes[at] = 1;
                bytes[0] |= 1;
                assert_eq!(last_written(&bytes), Some(at), "{length} bytes");
            }
        }
    }
}
