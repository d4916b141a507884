//! Starting again: the log of a node, read in order, makes the same replica. What was captured and not sealed is the
//! queue again; nothing is signed or sent a second time, and what a checkpoint of the books holds is not judged again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Head, Replica, capture::Unsealed};
use crate::batch::{BatchError, Sealed};
use crate::codec::{self, CodecError};
use crate::entry::{AdmittedBatch, Captured, Entry};
use crate::ledger::{Books, DayPart, Filed, JournalEntry, SharedPart};
use crate::record::{Place, Record};

/// Why an entry does not continue the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// A batch does not decode.
    #[error("a batch in the log does not decode: {0}")]
    Batch(#[from] BatchError),
    /// A batch yields another change than when it was admitted.
    #[error("batch {0} yields another Automerge change than when it was admitted")]
    Change(String),
    /// A captured record does not continue the own log.
    #[error("captured record {0} does not continue the log: {1} is next")]
    Captured(u64, u64),
}

/// What the books are made of, gathered while the log is read back.
#[derive(Default)]
pub(super) struct Gathered {
    pub records: Vec<Filed>,
    pub journal: Vec<JournalEntry>,
}

/// Memory that decoding one part of a checkpoint may claim.
const PART_LIMIT: usize = 1 << 30;

/// The books as they were judged, in parts of bytes: one shared, one for each business day. It rests on the log and
/// is worth nothing without it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Checkpoint {
    /// What belongs to no day.
    pub shared: Vec<u8>,
    /// The days.
    pub days: Vec<Vec<u8>>,
}

impl Replica {
    /// The books as they are judged now, for a faster start. Call when nothing waits to be settled.
    #[must_use]
    pub fn checkpoint(&self) -> Checkpoint {
        let days = self.books.day_hashes().into_keys();
        Checkpoint {
            shared: codec::encode(&self.books.shared_part()),
            days: days.map(|day| codec::encode(&self.books.day_part(day))).collect(),
        }
    }

    /// Ends the reading back: makes the books of what was gathered. A checkpoint that does not fit is left aside, and
    /// everything is judged anew.
    ///
    /// Returns whether the checkpoint was used.
    pub fn restored(&mut self, checkpoint: Option<&Checkpoint>) -> bool {
        let Gathered { records, journal } = self.restoring.take().unwrap_or_default();
        self.unsettled = true;
        let from_image = checkpoint.and_then(|checkpoint| self.books_from(checkpoint, &records).ok());
        let used = from_image.is_some();
        match from_image {
            Some(books) => self.books = books,
            None => {
                for (record, seen) in records {
                    self.books.insert(record, &seen);
                }
            }
        }
        let through = self.books.journal_head().number;
        for entry in journal.iter().filter(|entry| entry.number > through) {
            self.books.restore_journal(entry);
        }
        used
    }

    fn books_from(&self, image: &Checkpoint, records: &[Filed]) -> Result<Books, String> {
        let failed = |error: CodecError| error.to_string();
        let shared: SharedPart = codec::decode::<_, PART_LIMIT>(&image.shared).map_err(failed)?;
        let days: Result<Vec<DayPart>, _> =
            image.days.iter().map(|day| codec::decode::<_, PART_LIMIT>(day)).collect();
        let (store, policy) = (self.identity.store.clone(), self.base.clone());
        Books::restore(store, policy, records, shared, days.map_err(failed)?)
            .map_err(|stale| stale.to_string())
    }

    /// Takes one entry of the own log in again. Entries come in the order in which they were persisted;
    /// [`Replica::restored`] ends it.
    ///
    /// # Errors
    /// The entry does not fit what came before: the log is damaged.
    pub fn restore(&mut self, entry: Entry) -> Result<(), RestoreError> {
        self.restoring.get_or_insert_default();
        match entry {
            Entry::Captured(captured) => self.restore_captured(*captured),
            Entry::Batch(batch) => self.restore_batch(batch),
            Entry::Journal(entry) => {
                if let Some(gathered) = &mut self.restoring {
                    gathered.journal.push(entry);
                }
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

    fn restore_batch(&mut self, admitted: AdmittedBatch) -> Result<(), RestoreError> {
        let sealed = Sealed::reopen(Arc::from(admitted.bytes))?;
        let batch = &sealed.batch;
        let own_session = batch.writer == self.writer;
        let prepared = self.document(batch.day).prepare(batch.writer, batch.session(), &sealed.bytes);
        if prepared.id() != admitted.change {
            return Err(RestoreError::Change(sealed.hash.to_string()));
        }
        let records = records_of(&sealed);
        let Some(head) = records.last().map(|record| Head {
            seq: record.seq,
            id: record.id,
            effective_ms: record.effective_ms,
        }) else {
            return Ok(());
        };
        self.place_batch(&sealed, prepared, head, admitted.admitted_ms);
        if own_session {
            self.drop_sealed(head.seq);
        }
        self.take_records(&sealed, records);
        Ok(())
    }

    /// Queue entries that a batch of this node holds are no longer queued.
    fn drop_sealed(&mut self, through_seq: u64) {
        while self.unsealed.front().is_some_and(|unsealed: &Unsealed| unsealed.captured.seq <= through_seq) {
            self.unsealed.pop_front();
        }
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
