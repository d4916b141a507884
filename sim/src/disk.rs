//! A node's disk: lines in the order in which they were appended, of which a part is durable. It may hang, fail an
//! fsync, be full, keep a part of what was not synced when power fails, or rot. What is read back is checked, as the
//! node's storage does it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use engine::batch::Sealed;
use engine::entry::Entry;
use engine::host::{Line, Looked};
use engine::ids::WriterId;
use engine::sync::Carried;

/// How a disk behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskState {
    /// Well.
    #[default]
    Works,
    /// Nothing becomes durable until the node restarts.
    Hangs,
    /// The next sync fails.
    SyncFails,
    /// There is no room.
    Full,
}

/// A line, what it is checked by when it is read, and when it was written (true ms).
#[derive(Debug, Clone)]
struct Written {
    line: Line,
    check: [u8; 16],
    at_ms: i64,
}

/// Lines with their checks.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    /// How it behaves.
    pub state: DiskState,
    lines: Vec<Written>,
    durable: usize,
    /// Lengths of the appends that are on their way.
    appends: VecDeque<usize>,
    /// Where the batches are, by ordinal.
    batches: Vec<usize>,
    /// How far each log goes in the batches of the first `looked_through` lines, all of them durable.
    heads: BTreeMap<WriterId, u64>,
    looked_through: usize,
}

/// A line that is not what was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotten {
    /// Which line.
    pub line: usize,
}

fn check(line: &Line) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[line.kind]).update(&line.bytes);
    let mut check = [0; 16];
    check.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    check
}

impl Disk {
    /// Takes lines in at a time (true ms); they are durable after `synced`.
    pub fn append(&mut self, lines: Vec<Line>, at_ms: i64) {
        self.appends.push_back(lines.len());
        for line in lines {
            if line.looked == Looked::Batch {
                self.batches.push(self.lines.len());
            }
            let check = check(&line);
            self.lines.push(Written { line, check, at_ms });
        }
    }

    /// The oldest append on its way is durable; gives its length.
    pub fn synced(&mut self) -> Option<usize> {
        let lines = self.appends.pop_front()?;
        self.durable += lines;
        Some(lines)
    }

    /// How many lines are durable.
    #[must_use]
    pub fn durable(&self) -> usize {
        self.durable
    }

    /// How many appends are on their way.
    #[must_use]
    pub fn on_their_way(&self) -> usize {
        self.appends.len()
    }

    /// Power fails: of what was not durable, the first `survive` lines happen to be there.
    pub fn lose_power(&mut self, survive: usize) {
        let kept = self.lines.len().min(self.durable + survive);
        self.lines.truncate(kept);
        self.durable = kept;
        self.appends.clear();
        self.batches.retain(|line| *line < kept);
        self.state = DiskState::Works;
    }

    /// How many lines are there that are not durable.
    #[must_use]
    pub fn unsynced(&self) -> usize {
        self.lines.len() - self.durable
    }

    /// A copy of what is durable.
    #[must_use]
    pub fn copy(&self) -> Self {
        let lines = self.lines[..self.durable].to_vec();
        let batches = self.batches.iter().copied().filter(|line| *line < self.durable).collect();
        Self { lines, durable: self.durable, batches, ..Self::default() }
    }

    /// A copy of the first so many lines, all of them durable.
    #[must_use]
    pub fn prefix(&self, lines: usize) -> Self {
        let whole = self.copy();
        let batches = whole.batches.into_iter().filter(|line| *line < lines).collect();
        let lines: Vec<Written> = whole.lines.into_iter().take(lines).collect();
        Self { durable: lines.len(), lines, batches, ..Self::default() }
    }

    /// Whether the same is durable on another one.
    #[must_use]
    pub fn holds_the_same(&self, other: &Self) -> bool {
        let checks = |disk: &Self| disk.lines[..disk.durable].iter().map(|row| row.check).collect::<Vec<_>>();
        checks(self) == checks(other)
    }

    /// A bit of a durable line flips. Gives the line; `None` of an empty disk.
    pub fn rot(&mut self, at: u64) -> Option<usize> {
        let line = usize::try_from(at % self.durable.max(1) as u64).ok().filter(|_| self.durable > 0)?;
        let bytes = &mut self.lines[line].line.bytes;
        let byte = usize::try_from(at / 7).unwrap_or(0) % bytes.len().max(1);
        *bytes.get_mut(byte)? ^= 1 << (at % 8);
        Some(line)
    }

    /// Reads every durable line, as a node does when it starts.
    ///
    /// # Errors
    /// A line is not what was written.
    ///
    /// # Panics
    /// If a line that passes its check is no entry: then it was written wrong.
    pub fn read(&self) -> Result<Vec<Entry>, Rotten> {
        Ok(self.read_with_times()?.into_iter().map(|row| row.1).collect())
    }

    /// The same with the time at which each line was written, true ms.
    ///
    /// # Errors
    /// A line is not what was written.
    ///
    /// # Panics
    /// As [`Disk::read`].
    pub fn read_with_times(&self) -> Result<Vec<(i64, Entry)>, Rotten> {
        let entry = |(at, written): (usize, &Written)| {
            if check(&written.line) != written.check {
                return Err(Rotten { line: at });
            }
            let decoded = Entry::decode(written.line.kind, &written.line.bytes);
            Ok((written.at_ms, decoded.expect("what passes its check was written so").1))
        };
        self.lines[..self.durable].iter().enumerate().map(entry).collect()
    }

    /// How far a log goes in the batches that are durable here.
    pub fn durable_head(&mut self, writer: &WriterId) -> u64 {
        for Written { line, .. } in &self.lines[self.looked_through..self.durable] {
            if line.looked == Looked::Batch
                && let Ok((_, Entry::Batch(batch))) = Entry::decode(line.kind, &line.bytes)
                && let Ok(sealed) = Sealed::reopen(Arc::from(batch.bytes))
            {
                let head = self.heads.entry(sealed.batch.writer).or_default();
                *head = (*head).max(sealed.batch.last_seq());
            }
        }
        self.looked_through = self.durable;
        self.heads.get(writer).copied().unwrap_or(0)
    }

    /// A batch by its ordinal, for sending.
    #[must_use]
    pub fn batch(&self, ordinal: u64) -> Option<Carried> {
        let line = *self.batches.get(usize::try_from(ordinal).ok()?)?;
        let Written { line, check: known, .. } = &self.lines[line];
        if check(line) != *known {
            return None;
        }
        match Entry::decode(line.kind, &line.bytes) {
            Ok((_, Entry::Batch(batch))) => Some(Carried { bytes: batch.bytes, change: batch.change }),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(byte: u8) -> Line {
        let mark = Entry::Custody(engine::entry::CustodyMark { through_seq: u64::from(byte), at_ms: 1 });
        let (kind, bytes) = mark.encode(&"store-1".parse().unwrap());
        Line { kind, bytes, looked: Looked::Not }
    }

    #[test]
    fn power_takes_what_was_not_synced_and_rot_is_found() {
        let mut disk = Disk::default();
        disk.append(vec![line(1), line(2)], 5);
        disk.append(vec![line(3)], 7);
        assert_eq!((disk.synced(), disk.durable(), disk.unsynced()), (Some(2), 2, 1));
        let copy = disk.copy();
        disk.lose_power(0);
        assert_eq!((disk.durable(), disk.unsynced(), copy.durable()), (2, 0, 2));
        let times = disk.read_with_times().unwrap().iter().map(|row| row.0).collect::<Vec<_>>();
        assert_eq!(times, [5, 5]);
        disk.rot(1);
        assert_eq!(disk.read().unwrap_err(), Rotten { line: 1 });
    }
}
