//! Own records that no batch holds yet. What they say is in the books, where it rests like everything else; the queue knows
//! which they are, so a till that is offline for long takes little memory for it, and its images stay small.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Head, Replica};
use crate::batch::{BATCH_RECORDS_LIMIT, BatchEntry};
use crate::entry::Captured;
use crate::ids::RecordId;
use crate::record::Record;
use crate::shelf::Slot;
use crate::time::Day;

/// Encoded transactions put into one batch, in bytes, if one is not larger.
const BATCH_FILL_BYTES: usize = 512 << 10;

/// The queue, oldest first; their numbers have no gap.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Unsealed {
    /// Number of the first.
    first_seq: u64,
    rows: VecDeque<Row>,
    /// So many of them, from the first on, are in the log.
    persisted: usize,
    /// Head of the log with the last of them.
    head: Option<Head>,
}

/// A record that waits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Row {
    slot: Slot,
    day: Day,
    /// About so many bytes encoded.
    bytes: u32,
}

/// Records that go into one batch.
pub(super) struct Run {
    pub day: Day,
    /// Number of the first, and the record before it.
    pub first_seq: u64,
    pub prev: Option<RecordId>,
    pub entries: Vec<BatchEntry>,
    /// The last of them.
    pub head: Head,
}

impl Unsealed {
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Head of the log with the last of them.
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// Adds the record of a slot. `persisted`: the log has it.
    pub fn push(&mut self, head: Head, (slot, day, bytes): (Slot, Day, usize), persisted: bool) {
        if self.rows.is_empty() {
            self.first_seq = head.seq;
        }
        self.head = Some(head);
        self.rows.push_back(Row { slot, day, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) });
        self.persisted += usize::from(persisted);
    }

    /// Forgets those up to a number: a batch holds them.
    pub fn drop_through(&mut self, seq: u64) {
        let gone = seq.saturating_add(1).saturating_sub(self.first_seq);
        self.take(usize::try_from(gone).unwrap_or(usize::MAX).min(self.rows.len()));
    }

    /// Those that the log does not have; from now on it does.
    fn take_fresh(&mut self) -> Vec<Slot> {
        let from = std::mem::replace(&mut self.persisted, self.rows.len());
        self.rows.range(from..).map(|row| row.slot).collect()
    }

    /// Takes out what goes into the next batch: records of one day, as many as fit.
    fn take_run(&mut self) -> Vec<Slot> {
        let (mut count, mut bytes) = (0, 0);
        let day = self.rows.front().map(|row| row.day);
        for row in &self.rows {
            let full = count == BATCH_RECORDS_LIMIT || bytes + row.bytes as usize > BATCH_FILL_BYTES;
            if Some(row.day) != day || (full && count > 0) {
                break;
            }
            (count, bytes) = (count + 1, bytes + row.bytes as usize);
        }
        self.take(count)
    }

    fn take(&mut self, count: usize) -> Vec<Slot> {
        self.first_seq += count as u64;
        self.persisted = self.persisted.saturating_sub(count);
        let taken = self.rows.drain(..count).map(|row| row.slot).collect();
        if self.rows.is_empty() {
            self.head = None;
        }
        taken
    }
}

impl Replica {
    /// What the log does not have of the queue; the caller puts it there.
    pub(super) fn take_fresh(&mut self) -> Vec<Captured> {
        let slots = self.unsealed.take_fresh();
        let mut fresh = Vec::with_capacity(slots.len());
        self.books.visit_slots(&slots, |record| {
            fresh.push(Captured { seq: record.seq, day: record.business_day, entry: entry_of(record) });
        });
        fresh
    }

    /// What goes into the next batch.
    pub(super) fn take_run(&mut self) -> Option<Run> {
        let slots = self.unsealed.take_run();
        let mut run: Option<Run> = None;
        self.books.visit_slots(&slots, |record| {
            let head = Head { seq: record.seq, id: record.id, effective_ms: record.effective_ms };
            let run = run.get_or_insert_with(|| Run {
                day: record.business_day,
                first_seq: record.seq,
                prev: record.prev,
                entries: Vec::with_capacity(slots.len()),
                head,
            });
            run.entries.push(entry_of(record));
            run.head = head;
        });
        run
    }
}

/// What a batch says of a record.
fn entry_of(record: &Record) -> BatchEntry {
    let later = record.effective_ms.saturating_sub(record.at.ms);
    BatchEntry {
        at: record.at,
        effective_later_ms: u64::try_from(later).expect("effective time is never before the clock"),
        transaction: record.transaction.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(days: &[i32], bytes: usize) -> Unsealed {
        let mut queue = Unsealed::default();
        for (at, day) in days.iter().enumerate() {
            let head = Head { seq: 11 + at as u64, id: RecordId([7; 32]), effective_ms: 0 };
            queue.push(head, (Slot::try_from(at).unwrap(), Day(*day), bytes), at < 2);
        }
        queue
    }

    #[test]
    fn a_run_is_of_one_day_and_of_bounded_size() {
        let mut queue_of_days = queue(&[1, 1, 2, 1], 100);
        assert_eq!(queue_of_days.take_run(), [0, 1]);
        assert_eq!(queue_of_days.take_run(), [2]);
        assert_eq!(queue_of_days.take_run(), [3]);
        assert_eq!((queue_of_days.take_run(), queue_of_days.head()), (vec![], None));
        let mut large = queue(&[1, 1, 1], BATCH_FILL_BYTES);
        assert_eq!((large.take_run(), large.take_run()), (vec![0], vec![1]));
        let mut many = queue(&vec![1; BATCH_RECORDS_LIMIT + 5], 1);
        assert_eq!((many.take_run().len(), many.take_run().len()), (BATCH_RECORDS_LIMIT, 5));
    }

    #[test]
    fn what_the_log_lacks_is_asked_for_once_and_what_a_batch_has_is_gone() {
        let mut queue = queue(&[1, 1, 1, 1], 1);
        assert_eq!(queue.take_fresh(), [2, 3]);
        assert!(queue.take_fresh().is_empty());
        queue.drop_through(12);
        assert_eq!((queue.len(), queue.take_fresh()), (2, vec![]));
        queue.drop_through(10);
        assert_eq!(queue.len(), 2, "what is no more cannot be dropped again");
        queue.drop_through(u64::MAX);
        assert!(queue.is_empty() && queue.head().is_none());
    }
}
