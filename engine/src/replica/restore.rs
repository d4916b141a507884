//! Starting again: the log of a node, read in order, makes the same replica. What was captured and not sealed is the
//! queue again; nothing is signed or sent a second time. What an image holds is not read: the entries after it follow.

use std::sync::Arc;

use super::{Head, Replica};
use crate::batch::{BatchError, Sealed};
use crate::document::ChangeId;
use crate::entry::{AdmittedBatch, Captured, Entry};
use crate::ledger::{JournalEntry, Settled};
use crate::record::{Place, Record};
use crate::time::Instant;

/// Why an entry does not continue the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A batch does not decode.
    #[error("a batch in the log does not decode: {0}")]
    Batch(#[from] BatchError),
    /// A batch yields another change than when it was admitted.
    #[error("batch {0} yields another Automerge change than when it was admitted")]
    Change(String),
    /// A run of the journal does not unpack.
    #[error("{0}")]
    Journal(String),
    /// A captured record does not continue the own log.
    #[error("captured record {0} does not continue the log: {1} is next")]
    Captured(u64, u64),
}

/// An entry of the log, decoded as far as no replica is needed for it: on another thread than the replica's, if there
/// is one.
#[derive(Debug)]
pub struct ReadBack(Ready);

#[derive(Debug)]
enum Ready {
    Batch(Box<ReadBatch>),
    Other(Entry),
}

#[derive(Debug)]
struct ReadBatch {
    admitted_ms: i64,
    change: ChangeId,
    sealed: Sealed,
    records: Vec<Record>,
}

impl ReadBack {
    /// Makes an entry ready.
    ///
    /// # Errors
    /// It is a batch that does not decode.
    pub fn of(entry: Entry) -> Result<Self, RestoreError> {
        Ok(Self(match entry {
            Entry::Batch(batch) => Ready::Batch(Box::new(ReadBatch::of(batch)?)),
            other => Ready::Other(other),
        }))
    }
}

impl ReadBatch {
    fn of(admitted: AdmittedBatch) -> Result<Self, RestoreError> {
        let sealed = Sealed::reopen(Arc::from(admitted.bytes))?;
        let records = records_of(&sealed);
        Ok(Self { admitted_ms: admitted.admitted_ms, change: admitted.change, sealed, records })
    }
}

/// What is known while the log is read back.
#[derive(Default)]
pub(super) struct Restoring {
    /// Journal entries that the image does not know.
    journal: Vec<JournalEntry>,
}

impl Replica {
    /// A replica of a whole log.
    ///
    /// # Errors
    /// An entry does not continue the log.
    pub fn from_log(fresh: Self, entries: &[Entry]) -> Result<Self, RestoreError> {
        let mut replica = fresh;
        for entry in entries {
            replica.restore(entry.clone())?;
        }
        replica.restored();
        Ok(replica)
    }

    /// Ends the reading back.
    pub fn restored(&mut self) {
        let restoring = self.restoring.take().unwrap_or_default();
        self.unsettled = true;
        for entry in &restoring.journal {
            self.books.restore_journal(entry);
        }
    }

    /// For a replica that only reads along in a log that another process writes: judges what was taken back since the last
    /// time. Nothing is persisted, sealed or sent. It is to be called where the writer had judged everything, behind an
    /// entry of kind [`Entry::Posted`]; then the books are the writer's. Returns how many journal entries the log should
    /// hold and does not: with any, the log is another one's or was cut at the wrong place, and this replica is of no use.
    pub fn read_along(&mut self, now: Instant) -> usize {
        if self.restoring.is_some() {
            self.restored();
            // Who keeps what he reckoned of this replica reckons anew.
            self.persisted += 1;
            self.durable = self.persisted;
        }
        let mut settled = Settled::default();
        while std::mem::take(&mut self.unsettled) {
            self.unsettled = self.books.settle_part(now.day(), self.families_at_once, &mut settled);
        }
        settled.journal.len()
    }

    /// Takes one entry of the own log in again. Entries come in the order in which they were persisted;
    /// [`Replica::restored`] ends it.
    ///
    /// # Errors
    /// The entry does not fit what came before: the log is damaged.
    pub fn restore(&mut self, entry: Entry) -> Result<(), RestoreError> {
        self.take_back(ReadBack::of(entry)?)
    }

    /// As [`Replica::restore`], of an entry that was made ready.
    ///
    /// # Errors
    /// The entry does not fit what came before: the log is damaged.
    pub fn take_back(&mut self, ready: ReadBack) -> Result<(), RestoreError> {
        self.restoring.get_or_insert_default();
        let entry = match ready.0 {
            Ready::Batch(batch) => {
                self.log_ends_ms = self.log_ends_ms.max(Some(batch.admitted_ms));
                return self.restore_batch(*batch);
            }
            Ready::Other(entry) => entry,
        };
        let told_ms = match &entry {
            Entry::Posted(mark) => Some(mark.at_ms),
            Entry::Link(mark) => Some(mark.at_ms),
            Entry::Batch(_) | Entry::Captured(_) | Entry::Journal(_) | Entry::Custody(_) => None,
        };
        self.log_ends_ms = self.log_ends_ms.max(told_ms);
        match entry {
            Entry::Captured(captured) => self.restore_captured(*captured),
            Entry::Batch(batch) => self.restore_batch(ReadBatch::of(batch)?),
            Entry::Journal(run) => {
                let entries = run.entries().map_err(|error| RestoreError::Journal(error.to_string()))?;
                self.restoring.get_or_insert_default().journal.extend(entries);
                Ok(())
            }
            Entry::Custody(mark) => {
                self.custody.push(mark);
                Ok(())
            }
            Entry::Posted(mark) => {
                self.take_posted(mark);
                Ok(())
            }
            Entry::Link(mark) => {
                self.links.take(&mark);
                Ok(())
            }
        }
    }

    fn restore_captured(&mut self, captured: Captured) -> Result<(), RestoreError> {
        let before = self.own_head();
        let next = before.map_or(1, |head| head.seq + 1);
        if captured.seq < next {
            return Ok(());
        }
        if captured.seq > next {
            return Err(RestoreError::Captured(captured.seq, next));
        }
        self.enqueue(captured, before.map(|head| head.id), true);
        Ok(())
    }

    fn restore_batch(&mut self, read: ReadBatch) -> Result<(), RestoreError> {
        let ReadBatch { admitted_ms, change, sealed, records } = read;
        let batch = &sealed.batch;
        let own_session = batch.writer == self.writer;
        let prepared = self.document(batch.day).prepare(batch.writer, batch.session(), &sealed.bytes);
        if prepared.id() != change {
            return Err(RestoreError::Change(sealed.hash.to_string()));
        }
        let Some(head) = records.last().map(|record| Head {
            seq: record.seq,
            id: record.id,
            effective_ms: record.effective_ms,
        }) else {
            return Ok(());
        };
        self.place_batch(&sealed, prepared, head, admitted_ms);
        if own_session {
            // What a batch of this node holds is no longer queued.
            self.unsealed.drop_through(head.seq);
        }
        self.take_records(&sealed.batch, records);
        Ok(())
    }
}

/// The records of a batch that was checked when it was admitted.
#[must_use]
pub fn records_of(sealed: &Sealed) -> Vec<Record> {
    let batch = &sealed.batch;
    let mut prev = batch.prev;
    let mut records = Vec::with_capacity(batch.entries.len());
    for (seq, entry) in (batch.first_seq..).zip(&batch.entries) {
        let place = Place {
            store: batch.store.clone(),
            writer: batch.writer,
            log: batch.log.clone(),
            seq,
            prev,
            business_day: batch.day,
            at: entry.at,
            effective_ms: entry.at.ms.saturating_add_unsigned(entry.effective_later_ms),
        };
        let record = Record::new(place, entry.transaction.clone());
        prev = Some(record.id);
        records.push(record);
    }
    records
}
