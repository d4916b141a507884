//! What is here: records of a log by number, open references, payments. Changes nothing.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::books::Books;
use super::facts::Joint;
use super::families::Slot;
use super::judgement::Standing;
use crate::ids::{LogId, RecordId};
use crate::record::Record;
use crate::transaction::Outcome;

impl Books {
    /// Records of a log from a number on, in order.
    pub fn log_records(&self, log: &LogId, from: u64) -> impl Iterator<Item = &Record> {
        let slots = self.facts.logs.get(log).into_iter().flat_map(move |log| log.from(from));
        slots.map(|slot| &**self.facts.record(slot))
    }

    /// The slot of a record.
    pub(crate) fn slot_of(&self, id: &RecordId) -> Option<Slot> {
        self.facts.slot(id)
    }

    /// Calls `each` for the records of slots, in ascending order, and keeps none unpacked for it.
    pub(crate) fn visit_slots(&self, slots: &[Slot], mut each: impl FnMut(&Record)) {
        self.facts.records.for_slots(slots, |_, record| each(record));
    }

    /// The head of a log with one record for every number up to it; `None` if it has gaps or branches.
    #[must_use]
    pub fn unbroken_to(&self, log: &LogId) -> Option<u64> {
        self.facts.logs.get(log).map_or(Some(0), super::log::Log::unbroken_to)
    }

    /// Calls `each` for the records of a log with some numbers, first and last, and keeps none unpacked for it.
    pub fn visit_log(&self, log: &LogId, numbers: (u64, u64), mut each: impl FnMut(&Record)) {
        let slots = self.facts.logs.get(log).into_iter().flat_map(|log| log.between(numbers.0, numbers.1));
        let slots: Vec<Slot> = slots.collect();
        self.facts.records.for_slots(&slots, |_, record| each(record));
    }

    /// As `visit_log`, with where each record stands, once it is settled.
    pub(crate) fn visit_log_standing(
        &self,
        log: &LogId,
        numbers: (u64, u64),
        mut each: impl FnMut(&Record, Option<Standing>),
    ) {
        let slots = self.facts.logs.get(log).into_iter().flat_map(|log| log.between(numbers.0, numbers.1));
        let slots: Vec<Slot> = slots.collect();
        let mut standing = Vec::with_capacity(slots.len());
        self.outcomes.for_slots(&slots, |_, outcome| {
            standing.push(outcome.as_ref().map(|outcome| outcome.standing));
        });
        let mut standing = standing.into_iter();
        self.facts.records.for_slots(&slots, |_, record| each(record, standing.next().flatten()));
    }

    /// The first record of a log with a receipt number (of the hub's: with the name of a statement).
    #[must_use]
    pub fn with_receipt(&self, log: &LogId, receipt: &str) -> Option<&Arc<Record>> {
        let slots = self.facts.any_with_receipt(receipt).into_iter();
        slots.map(|slot| self.facts.record(slot)).find(|record| record.log == *log)
    }

    /// The first record of a log with an idempotency key.
    #[must_use]
    pub fn with_key(&self, log: &LogId, key: &str) -> Option<&Arc<Record>> {
        let slots = self.facts.any_with_key(key).into_iter();
        slots.map(|slot| self.facts.record(slot)).find(|record| record.log == *log)
    }

    /// The record of a log with a number; one of them, if the log is forked there.
    #[must_use]
    pub fn log_record(&self, log: &LogId, seq: u64) -> Option<&Arc<Record>> {
        let slot = self.facts.logs.get(log)?.at(seq).next()?;
        Some(self.facts.record(slot))
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

    /// Whether a record here names a payment, as its id or as its authorisation.
    #[must_use]
    pub fn knows_payment(&self, payment: &str) -> bool {
        let joints = [Joint::Payment(payment), Joint::Authorisation(payment)];
        joints.into_iter().any(|joint| !self.facts.sharing(joint).is_empty())
    }

    /// The last outcome of a payment.
    #[must_use]
    pub fn payment_outcome(&self, payment: &str) -> Option<Outcome> {
        self.facts.hub.outcome(payment).map(|found| found.0)
    }

    /// Payments accepted offline that have no outcome yet, each with the records that took it.
    pub fn unanswered_payments(&self) -> impl Iterator<Item = (&str, Vec<&Record>)> {
        let records = |slots: &BTreeSet<Slot>| slots.iter().map(|slot| &**self.facts.record(*slot)).collect();
        self.facts.unanswered.iter().map(move |(payment, slots)| (payment.as_str(), records(slots)))
    }

    /// Every record that is here with what its writer had seen, as they were filed: the set that the books are a
    /// function of.
    pub fn arrivals(&self) -> impl Iterator<Item = (Arc<Record>, Vec<(LogId, u64)>)> {
        self.facts.slots().map(|slot| {
            let record = self.facts.record(slot);
            (Arc::clone(record), self.facts.seen.learned_at(&record.log, record.seq))
        })
    }
}
