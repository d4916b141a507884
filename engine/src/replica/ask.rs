//! Questions to a replica: what waits, where a record is, what the store's logs, policy and registry say. Changes
//! nothing.

use serde::Serialize;

use super::{BatchMeta, Identity, Replica};
use crate::document::{Document, DocumentError};
use crate::ids::{LogId, RecordId, WriterId};
use crate::ledger::{Books, Standing};
use crate::money::Currency;
use crate::policy::Policies;
use crate::record::Record;
use crate::registry::Registry;
use crate::sync::Peer;
use crate::time::Day;
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

    /// When the batch that holds a record was admitted here.
    fn admitted_ms(&self, record: &Record) -> Option<i64> {
        let holds = |meta: &&BatchMeta| {
            (meta.first_seq..=meta.last_seq).contains(&record.seq)
                && self.registry.log_of(&meta.writer) == Some(&record.log)
        };
        self.batches.iter().rev().find(holds).map(|meta| meta.admitted_ms)
    }
}
