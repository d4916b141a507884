//! Questions to a replica: what waits, where a record is, what the store's logs, policy and registry say. Changes
//! nothing.

use serde::Serialize;

use super::{BatchMeta, Identity, Replica};
use crate::document::{Document, DocumentError};
use crate::ids::{LogId, RecordId, WriterId};
use crate::ledger::{Books, Effect, Heard, Possible, Standing, TillDay};
use crate::money::Currency;
use crate::policy::Policies;
use crate::record::Record;
use crate::registry::Registry;
use crate::review::Case;
use crate::sync::Peer;
use crate::time::Day;
use crate::transaction::Decision;
use std::collections::BTreeMap;

/// Where a record is on its way into the books.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CustodyStep {
    /// Durable at the till.
    Saved,
    /// Durable at another till as well.
    OnPeer,
    /// Durable at the hub.
    AtHub,
    /// In the hub's books, explained.
    Posted,
    /// In the hub's books, its reason side in suspense until a person decides.
    InReview,
    /// In an export.
    Exported,
}

/// A record's custody: the state it is in, and when it reached each.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Custody {
    /// Present state.
    pub state: CustodyStep,
    /// States reached with the time, ms since 1970, by the clock of the node that is asked.
    pub history: Vec<(CustodyStep, i64)>,
}

/// Own records that the hub does not hold yet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Waiting {
    /// How many.
    pub count: u64,
    /// Gross value per currency: sales count up, refunds and voids down.
    pub value_minor: BTreeMap<Currency, i64>,
    /// Clock of the oldest, ms since 1970.
    pub oldest_ms: Option<i64>,
}

impl Replica {
    /// Who this node is here.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The key this node writes with.
    #[must_use]
    pub fn writer(&self) -> WriterId {
        self.writer
    }

    /// How many entries this replica has handed out to be persisted.
    #[must_use]
    pub fn persisted(&self) -> u64 {
        self.persisted
    }

    /// Own records that no batch holds yet.
    #[must_use]
    pub fn unsealed_count(&self) -> usize {
        self.unsealed.len()
    }

    /// The own record with a receipt number (of the hub: with the name of a statement).
    #[must_use]
    pub fn own_record(&self, receipt: &str) -> Option<&Record> {
        self.own_receipts.get(receipt).and_then(|id| self.books.record(id)).map(|record| &**record)
    }

    /// Whether the hub is connected, and since when it is or is not, ms since 1970.
    #[must_use]
    pub fn hub_link(&self) -> (bool, Option<i64>) {
        (self.peers.contains_key(&self.identity.hub), self.hub_link_ms)
    }

    /// The books.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// The registry of writers.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The policy versions.
    #[must_use]
    pub fn policies(&self) -> &Policies {
        &self.policies
    }

    /// What may be decided on a case of the books, each with what it would do.
    pub fn options(&mut self, case: &Case) -> Vec<Possible> {
        self.books.options(case)
    }

    /// What a decision would do, without taking it.
    pub fn effect_of(&mut self, decision: &Decision) -> Effect {
        self.books.effect_of(decision)
    }

    /// What is known of the node that writes a log, beside its records: its last status, else its last batch.
    #[must_use]
    pub fn heard(&self, log: &LogId) -> Heard {
        let Some(writer) = self.registry.writer_of(log) else { return Heard::default() };
        let status = self.heard.get(&writer);
        let batch =
            || self.batches.iter().rev().find(|meta| meta.writer == writer).map(|meta| meta.admitted_ms);
        Heard {
            at_ms: status.map(|row| row.0).or_else(batch),
            head_seq: status.map_or(0, |row| row.1.head_seq),
        }
    }

    /// How far a business day of the store has come, till by till.
    #[must_use]
    pub fn day(&self, day: Day, now_ms: i64, day_ends_ms: i64) -> Vec<TillDay> {
        let logs = self.registry.writers().map(|(_, log)| log).filter(|log| !log.terminal.is_hub());
        let mut logs: Vec<&LogId> = logs.collect();
        logs.sort();
        let till = |log: &LogId| self.books.till_day(log, day, self.heard(log), now_ms, day_ends_ms);
        // A device that was not there yet, or was replaced since, is named only if it has something of the day.
        let expected = |till: &TillDay| {
            let there = self.books.enrolled_on(&till.log).is_none_or(|since| since <= day);
            let replaced = till.log.incarnation < self.registry.incarnation(&till.log.terminal);
            till.records > 0 || till.missing_count() > 0 || (there && !replaced)
        };
        logs.into_iter().map(till).filter(expected).collect()
    }

    /// Connected peers.
    pub fn peers(&self) -> impl Iterator<Item = (WriterId, &Peer)> {
        self.peers.iter().map(|(peer, state)| (*peer, state))
    }

    /// Every batch held, in the order of admission.
    #[must_use]
    pub fn batch_metas(&self) -> &[BatchMeta] {
        &self.batches
    }

    /// Business days that have a document.
    pub fn days(&self) -> impl Iterator<Item = (Day, &Document)> {
        self.documents.iter().map(|(day, document)| (*day, document))
    }

    /// Applies what waits for Automerge to every document, and returns the heads by day.
    ///
    /// # Errors
    /// A document failed; it is rebuilt from its batches.
    pub fn document_heads(&mut self) -> Result<BTreeMap<Day, Vec<[u8; 32]>>, DocumentError> {
        let mut heads = BTreeMap::new();
        for (day, document) in &mut self.documents {
            document.apply()?;
            heads.insert(*day, document.heads().unwrap_or_default());
        }
        Ok(heads)
    }

    /// Highest number of every log, as far as it arrived here.
    #[must_use]
    pub fn log_heads(&self) -> BTreeMap<LogId, u64> {
        let logs = self
            .heads
            .iter()
            .filter_map(|(writer, head)| Some((self.registry.log_of(writer)?.clone(), head.seq)));
        let mut heads: BTreeMap<LogId, u64> = logs.collect();
        if let Some(head) = self.own_head() {
            heads.insert(self.identity.log.clone(), head.seq);
        }
        heads
    }

    /// Last number of the own log that the hub holds.
    #[must_use]
    pub fn at_hub_through(&self) -> u64 {
        self.custody.last().map_or(0, |mark| mark.through_seq)
    }

    /// Own records that the hub does not hold yet, oldest first.
    pub fn waiting_records(&self) -> impl Iterator<Item = &Record> {
        self.books.log_records(&self.identity.log, self.at_hub_through() + 1)
    }

    /// How much waits.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        let mut waiting = Waiting::default();
        if self.writer == self.identity.hub {
            return waiting;
        }
        for record in self.waiting_records() {
            waiting.count += 1;
            waiting.oldest_ms.get_or_insert(record.at.ms);
            if let Some(basket) = record.transaction.basket() {
                let value = waiting.value_minor.entry(basket.currency).or_insert(0);
                let signed = basket.total_minor().saturating_mul(record.transaction.direction());
                *value = value.saturating_add(signed);
            }
        }
        waiting
    }

    /// Where a record is on its way into the books, as far as this node knows.
    #[must_use]
    pub fn custody(&self, id: &RecordId) -> Option<Custody> {
        let record = self.books.record(id)?;
        let mut history = vec![(CustodyStep::Saved, record.at.ms)];
        let at_hub_ms = if self.writer == self.identity.hub {
            self.admitted_ms(record)
        } else if record.log == self.identity.log {
            self.custody.iter().find(|mark| mark.through_seq >= record.seq).map(|mark| mark.at_ms)
        } else {
            None
        };
        if let Some(at_ms) = at_hub_ms {
            history.push((CustodyStep::AtHub, at_ms));
            let step = match self.books.standing(id) {
                Some(Standing::Posted) => Some(CustodyStep::Posted),
                Some(Standing::InReview) => Some(CustodyStep::InReview),
                _ => None,
            };
            history.extend(step.map(|step| (step, at_ms)));
        }
        let state = history.last().map_or(CustodyStep::Saved, |step| step.0);
        Some(Custody { state, history })
    }

    /// Payments accepted offline that the store's policy gives up at a time: no outcome so many hours after the record
    /// that took them arrived here.
    #[must_use]
    pub fn payments_past_age(&self, now_ms: i64) -> Vec<String> {
        let past = |record: &&Record| {
            let hours = self.books.policy_of(&record.id).map_or(24, |policy| policy.offline_card_hours);
            let since = self.admitted_ms(record).unwrap_or(now_ms);
            now_ms.saturating_sub(since) > i64::from(hours) * 3_600_000
        };
        let unanswered = self.books.unanswered_payments();
        let due = unanswered.filter(|(_, records)| !records.is_empty() && records.iter().all(&past));
        due.map(|(payment, _)| payment.to_owned()).collect()
    }

    /// When the batch that holds a record was admitted here.
    fn admitted_ms(&self, record: &Record) -> Option<i64> {
        let holds = |meta: &&BatchMeta| {
            (meta.first_seq..=meta.last_seq).contains(&record.seq)
                && self.registry.log_of(&meta.writer) == Some(&record.log)
        };
        self.batches.iter().rev().find(holds).map(|meta| meta.admitted_ms)
    }
}
