//! What of a log is here: its records by number. Changes nothing.

use std::sync::Arc;

use super::books::Books;
use crate::ids::LogId;
use crate::record::Record;

impl Books {
    /// Records of a log from a number on, in order.
    pub fn log_records(&self, log: &LogId, from: u64) -> impl Iterator<Item = &Record> {
        let slots = self.facts.logs.get(log).into_iter().flat_map(move |log| log.from(from));
        slots.map(|slot| self.facts.record(slot))
    }

    /// The record of a log with a number; one of them, if the log is forked there.
    #[must_use]
    pub fn log_record(&self, log: &LogId, seq: u64) -> Option<&Arc<Record>> {
        let slot = self.facts.logs.get(log)?.at(seq).next()?;
        Some(&self.facts.entry(slot).record)
    }

    /// Receipt numbers that held records refer to and that nothing here carries: the hub looks for them in the other
    /// stores of the company.
    #[must_use]
    pub fn unresolved_receipts(&self) -> Vec<String> {
        let open = self.unresolved_references().into_iter().filter(|reference| reference.id.is_none());
        let elsewhere = open.filter(|reference| {
            reference.terminal.is_none()
                || reference.store.as_ref().is_some_and(|store| store != self.store())
        });
        elsewhere.filter_map(|reference| reference.receipt).collect()
    }
}
