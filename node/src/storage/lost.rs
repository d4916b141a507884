//! The ranges that are known to be lost: what an opening with quarantine has accepted, so that it need not be
//! accepted again at every start.
//!
//! File `lost`, replaced whole: magic "TSLOST\0\x01", log id (16), then from and to (8 + 8) per range, then BLAKE3 of
//! all before it. Positions in these ranges are never used again. A damaged file counts as empty: the damage it listed
//! is then found and refused again, which is safe. This file never decides that something is lost.

use super::disk::{Disk, Role};
use super::{Position, StorageError};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

const MAGIC: &[u8; 8] = b"TSLOST\0\x01";

/// Sorted, disjoint, non-empty ranges of positions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Lost(Vec<Range<u64>>);

impl Lost {
    pub(super) fn load(path: &Path, log_id: &[u8; 16]) -> Result<Lost, StorageError> {
        match fs::read(path) {
            Ok(bytes) => Ok(decode(&bytes, log_id).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Lost::default()),
            Err(e) => Err(StorageError::io("reading", path, &e)),
        }
    }

    pub(super) fn save(&self, disk: &Disk, path: &Path, log_id: &[u8; 16]) -> Result<(), StorageError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(log_id);
        for range in &self.0 {
            bytes.extend_from_slice(&range.start.to_le_bytes());
            bytes.extend_from_slice(&range.end.to_le_bytes());
        }
        let hash = blake3::hash(&bytes);
        bytes.extend_from_slice(hash.as_bytes());
        disk.replace_file(Role::Lost, path, &bytes)
    }

    pub(super) fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.0.push(range);
        self.0.sort_by_key(|range| range.start);
        let mut merged: Vec<Range<u64>> = Vec::new();
        for range in self.0.drain(..) {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        self.0 = merged;
    }

    /// The end of the lost range that holds `at`.
    pub(super) fn end_of(&self, at: u64) -> Option<u64> {
        let after = self.0.partition_point(|range| range.start <= at);
        self.0[..after].last().filter(|range| at < range.end).map(|range| range.end)
    }

    /// Whether every position from `from` up to `to` is lost.
    pub(super) fn covers(&self, from: u64, to: u64) -> bool {
        from >= to || self.end_of(from).is_some_and(|end| end >= to)
    }

    pub(super) fn ranges(&self) -> Vec<Range<Position>> {
        self.0.iter().map(|range| Position(range.start)..Position(range.end)).collect()
    }

    /// Position after the last lost range.
    pub(super) fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }
}

fn decode(bytes: &[u8], log_id: &[u8; 16]) -> Option<Lost> {
    let (body, hash) = bytes.split_last_chunk::<32>()?;
    let (magic, rest) = body.split_first_chunk::<8>()?;
    let (id, rest) = rest.split_first_chunk::<16>()?;
    let (ranges, odd) = rest.as_chunks::<16>();
    if magic != MAGIC || id != log_id || !odd.is_empty() || blake3::hash(body).as_bytes() != hash {
        return None;
    }
    let mut lost = Lost::default();
    for raw in ranges {
        let (from, to) = (raw.first_chunk::<8>()?, raw.last_chunk::<8>()?);
        lost.add(u64::from_le_bytes(*from)..u64::from_le_bytes(*to));
    }
    Some(lost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_and_answer() {
        let mut lost = Lost::default();
        for range in [50..60, 10..20, 20..25, 12..14, 7..7] {
            lost.add(range);
        }
        assert_eq!(lost.0, vec![10..25, 50..60]);
        assert_eq!(
            (lost.end_of(9), lost.end_of(10), lost.end_of(24), lost.end_of(25)),
            (None, Some(25), Some(25), None)
        );
        assert!(lost.covers(10, 25) && lost.covers(3, 3) && !lost.covers(10, 26) && !lost.covers(9, 12));
    }

    #[test]
    fn a_damaged_list_counts_as_empty() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("lost");
        let mut lost = Lost::default();
        lost.add(5..9);
        lost.save(&Disk::default(), &path, &[1; 16]).expect("save");
        assert_eq!(Lost::load(&path, &[1; 16]).expect("load"), lost);
        assert_eq!(Lost::load(&path, &[2; 16]).expect("load"), Lost::default());
        let mut bytes = fs::read(&path).expect("read");
        bytes[30] ^= 1;
        fs::write(&path, bytes).expect("write");
        assert_eq!(Lost::load(&path, &[1; 16]).expect("load"), Lost::default());
    }
}
