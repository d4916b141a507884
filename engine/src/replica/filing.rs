//! What was admitted goes into the books. A hub files it when it has taken in what came with it: whoever waits for an
//! acknowledgement waits for checks and disk, not for the books.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Replica;
use crate::batch::Batch;
use crate::ids::LogId;
use crate::record::Record;
use crate::transaction::{Body, HubRecord};

/// What writers had received when they sealed.
type Seen = Vec<(LogId, u64)>;

/// Records that the log has and the books do not, in the order of arrival; with the first of a batch, what its writer had
/// seen.
#[derive(Default)]
pub(super) struct Unfiled(VecDeque<(Arc<Record>, Seen)>);

impl Unfiled {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Replica {
    /// Takes the records of a foreign batch in.
    pub(super) fn take_records(&mut self, batch: &Batch, records: Vec<Record>) {
        let seen = batch.seen.iter();
        let mut seen: Seen =
            seen.filter_map(|(writer, seq)| Some((self.registry.log_of(writer)?.clone(), *seq))).collect();
        for record in records {
            if batch.writer != self.writer {
                self.horizon_ms =
                    Some(self.horizon_ms.map_or(record.effective_ms, |ms| ms.max(record.effective_ms)));
            }
            let seen = std::mem::take(&mut seen);
            if self.files_later() {
                self.heed(&record);
                self.unfiled.0.push_back((Arc::new(record), seen));
                self.unsettled = true;
            } else {
                self.take_record(record, &seen);
            }
        }
    }

    /// Takes one record into the books, and a statement of the hub into force.
    pub(super) fn take_record(&mut self, record: Record, seen: &[(LogId, u64)]) {
        self.heed(&record);
        self.books.insert(Arc::new(record), seen);
        self.unsettled = true;
    }

    /// Takes a statement of the hub into force.
    fn heed(&mut self, record: &Record) {
        let Body::Hub(statement) = &record.transaction.body else { return };
        match statement {
            HubRecord::Enrol(enrolment) => self.registry.enrol(enrolment),
            HubRecord::Config(change) => {
                self.policies.insert(record.seq, record.id, change.clone());
                self.policy_today = self.policies.of_till(self.policy_day, &self.identity.log.terminal);
            }
            _ => {}
        }
    }

    /// A till refers to what it has received with the next sale, and a log that is read back has nobody who waits.
    fn files_later(&self) -> bool {
        self.is_hub() && self.restoring.is_none()
    }

    /// Files records that were put off, at most so many, the oldest first.
    pub(super) fn file(&mut self, at_most: usize) {
        for _ in 0..at_most {
            let Some((record, seen)) = self.unfiled.0.pop_front() else { return };
            self.books.insert(record, &seen);
        }
    }

    /// About how many records wait to be filed or judged.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.unfiled.0.len() + self.books.unjudged()
    }
}
