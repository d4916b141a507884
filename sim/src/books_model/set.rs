//! The set of records and what is looked up in it: references, locks, canonical order, policies, payment outcomes,
//! decisions (LEDGER-RULES sections 3, 4, 16). It judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::ids::{LogId, RecordId};
use engine::policy::{Policy, PolicyChange};
use engine::record::Record;
use engine::time::Day;
use engine::transaction::{
    Basket, Body, Decision, ForeignOriginal, HubRecord, Kind, Lock, Outcome, Reference, Transaction,
};

/// A record with what its writer had newly seen when it wrote it: log and highest number.
pub type Arrival = (Arc<Record>, Vec<(LogId, u64)>);

/// K of section 4: rank, effective time, terminal, incarnation, number, id.
pub(super) type CanonicalKey = (u64, i64, String, u32, u64, RecordId);

/// Rank of what no lock covers.
pub(super) const UNLOCKED: u64 = u64::MAX;

/// All records, each once (section 5 A: the same id again is a redelivery).
pub(super) struct Set<'a> {
    pub(super) records: BTreeMap<RecordId, &'a Record>,
    seen: BTreeMap<RecordId, &'a [(LogId, u64)]>,
    foreign: BTreeMap<RecordId, (&'a Record, &'a ForeignOriginal)>,
    base: &'a Policy,
    pub(super) rank_of_lock: BTreeMap<RecordId, u64>,
    rank: BTreeMap<RecordId, u64>,
    pub(super) effective_ms: BTreeMap<RecordId, i64>,
}

/// What a refund or void may point at: a record here, or a sale of another store.
#[derive(Clone, Copy)]
pub(super) enum Target<'a> {
    Here(&'a Record),
    Elsewhere(&'a ForeignOriginal),
}

impl<'a> Set<'a> {
    pub(super) fn new(arrivals: &'a [Arrival], base: &'a Policy) -> Self {
        let mut set = Self {
            records: arrivals.iter().map(|(record, _)| (record.id, &**record)).collect(),
            seen: arrivals.iter().map(|(record, seen)| (record.id, seen.as_slice())).collect(),
            foreign: BTreeMap::new(),
            base,
            rank_of_lock: BTreeMap::new(),
            rank: BTreeMap::new(),
            effective_ms: BTreeMap::new(),
        };
        for (record, statement) in set.hub_statements() {
            if let HubRecord::ForeignOriginal(original) = statement {
                set.foreign.entry(original.id).or_insert((record, original));
            }
        }
        set.rank_of_lock = set.locked();
        set.rank = set.records.keys().map(|id| (*id, set.rank_of(id, &mut BTreeSet::new()))).collect();
        set.effective_ms = set.effective_times();
        set
    }

    /// Records of the tills, in the order of their ids.
    pub(super) fn of_tills(&self) -> impl Iterator<Item = &'a Record> + '_ {
        self.records.values().copied().filter(|record| record.transaction.kind() != Kind::Hub)
    }

    /// Sales, refunds and voids.
    pub(super) fn with_baskets(&self) -> impl Iterator<Item = (&'a Record, &'a Basket)> + '_ {
        self.records.values().filter_map(|record| Some((*record, record.transaction.basket()?)))
    }

    /// The hub's statements in the order of its log (one writer, numbered).
    pub(super) fn hub_statements(&self) -> Vec<(&'a Record, &'a HubRecord)> {
        let mut statements: Vec<(&Record, &HubRecord)> = self
            .records
            .values()
            .filter_map(|record| match &record.transaction.body {
                Body::Hub(statement) => Some((*record, statement)),
                _ => None,
            })
            .collect();
        statements.sort_by_key(|(record, _)| (record.log.clone(), record.seq, record.id));
        statements
    }

    /// Records of one log at one number (two, if the log is forked).
    pub(super) fn at(&self, log: &LogId, seq: u64) -> Vec<&'a Record> {
        self.records.values().copied().filter(|record| record.log == *log && record.seq == seq).collect()
    }

    /// Logs of tills.
    pub(super) fn logs(&self) -> BTreeSet<LogId> {
        self.of_tills().map(|record| record.log.clone()).collect()
    }

    /// What a reference names: by id, or else whatever fits all that is printed.
    pub(super) fn resolve(&self, reference: &Reference) -> Option<RecordId> {
        if let Some(id) = reference.id {
            return (self.records.contains_key(&id) || self.foreign.contains_key(&id)).then_some(id);
        }
        let fits = |store: &engine::ids::StoreId, log: &LogId, seq: u64, receipt: &str| {
            reference.store.as_ref().is_none_or(|named| named == store)
                && reference.terminal.as_ref().is_none_or(|named| *named == log.terminal)
                && reference.seq.is_none_or(|named| named == seq)
                && reference.receipt.as_ref().is_none_or(|named| named == receipt)
        };
        let here = self
            .of_tills()
            .filter(|record| fits(&record.store, &record.log, record.seq, &record.transaction.receipt))
            .map(|record| (0, record.log.clone(), record.seq, record.id));
        let elsewhere = self
            .foreign
            .values()
            .map(|(_, original)| *original)
            .filter(|sale| fits(&sale.store, &sale.log, sale.seq, &sale.receipt))
            .map(|sale| (1, sale.log.clone(), sale.seq, sale.id));
        here.chain(elsewhere).min().map(|row| row.3)
    }

    /// The record or foreign sale of an id.
    pub(super) fn target(&self, id: &RecordId) -> Option<Target<'a>> {
        let here = self.records.get(id).map(|record| Target::Here(record));
        here.or_else(|| self.foreign.get(id).map(|(_, sale)| Target::Elsewhere(sale)))
    }

    /// Whether the log that a reference names is complete up to the number it names (section 5 E: then what it
    /// names does not exist, else it may still arrive).
    pub(super) fn is_complete_up_to(&self, reference: &Reference) -> bool {
        let (Some(terminal), Some(seq)) = (&reference.terminal, reference.seq) else { return false };
        let logs = self.logs().into_iter().filter(|log| log.terminal == *terminal);
        logs.into_iter().any(|log| (1..=seq).all(|number| !self.at(&log, number).is_empty()))
    }

    /// Every record and sale that a transaction refers to, as a whole or by line.
    pub(super) fn references(transaction: &Transaction) -> Vec<&Reference> {
        let lines = transaction.basket().into_iter().flat_map(|basket| &basket.lines);
        let by_line = lines.filter_map(|line| line.original.as_ref()?.reference.as_ref());
        transaction.original().into_iter().chain(by_line).collect()
    }

    /// Section 4: a lock covers the ancestors of the heads it names; the first lock that covers a record is its rank.
    fn locked(&self) -> BTreeMap<RecordId, u64> {
        let mut covered: BTreeMap<RecordId, u64> = BTreeMap::new();
        for (_, lock) in self.locks() {
            for head in &lock.heads {
                let mut at = self.records.get(&head.id).copied();
                let mut passed = BTreeSet::new();
                while let Some(record) = at {
                    if !passed.insert(record.id) {
                        break;
                    }
                    let rank = covered.entry(record.id).or_insert(lock.number);
                    *rank = lock.number.min(*rank);
                    at = record.prev.and_then(|prev| self.records.get(&prev)).copied();
                }
            }
        }
        covered
    }

    /// Locks with the hub's number of the record that states each.
    pub(super) fn locks(&self) -> Vec<(&'a Record, &'a Lock)> {
        let locks = self.hub_statements().into_iter().filter_map(|(record, statement)| match statement {
            HubRecord::Lock(lock) => Some((record, lock)),
            _ => None,
        });
        locks.collect()
    }

    /// Section 4: for a refund or void at least the rank of what it refers to; a cycle contributes nothing.
    fn rank_of(&self, id: &RecordId, below: &mut BTreeSet<RecordId>) -> u64 {
        let own = self.rank_of_lock.get(id).copied().unwrap_or(UNLOCKED);
        if !below.insert(*id) {
            return 0;
        }
        let original = self.records.get(id).and_then(|record| record.transaction.original());
        let target = original.and_then(|original| self.resolve(original));
        let rank = match target {
            Some(target) if self.records.contains_key(&target) => own.max(self.rank_of(&target, below)),
            _ => own,
        };
        below.remove(id);
        rank
    }

    /// Section 4: the maximum of the record's own clock, its predecessor's effective time, and 1 ms more than that of
    /// everything it refers to or had seen. What the till stated (`Record::effective_ms`) counts as its own clock: it
    /// holds what the till knew, even of records that are not in this set.
    fn effective_times(&self) -> BTreeMap<RecordId, i64> {
        // (record, cause, ms more than the cause)
        let mut after: Vec<(RecordId, RecordId, i64)> = Vec::new();
        for record in self.records.values() {
            after.extend(record.prev.map(|prev| (record.id, prev, 0)));
            for other in self.records.values() {
                let seen = &self.seen[&record.id];
                if seen.iter().any(|(log, to)| *log == other.log && other.seq <= *to) && other.id != record.id
                {
                    after.push((record.id, other.id, 1));
                }
            }
        }
        let known = after.clone();
        for record in self.records.values() {
            let named = Self::references(&record.transaction);
            for target in named.into_iter().filter_map(|reference| self.resolve(reference)) {
                after.push((record.id, target, 1));
            }
        }
        let causes = |edges: &[(RecordId, RecordId, i64)], from: RecordId| {
            let (mut found, mut to_visit) = (BTreeSet::new(), vec![from]);
            while let Some(at) = to_visit.pop() {
                let next = edges.iter().filter(|edge| edge.0 == at).map(|edge| edge.1);
                to_visit.extend(next.filter(|cause| found.insert(*cause)));
            }
            found
        };
        // A reference into a cycle contributes nothing.
        let reference_edges = after.split_off(known.len());
        let all: Vec<_> = known.iter().chain(&reference_edges).copied().collect();
        after.extend(
            reference_edges
                .into_iter()
                .filter(|edge| !causes(&all, edge.1).contains(&edge.0) && edge.0 != edge.1),
        );
        let mut times: BTreeMap<RecordId, i64> =
            self.records.values().map(|record| (record.id, record.effective_ms.max(record.at.ms))).collect();
        times.extend(self.foreign.values().map(|(_, sale)| (sale.id, sale.effective_ms)));
        for _ in 0..=self.records.len() {
            let before = times.clone();
            for (record, cause, more) in &after {
                if let (Some(least), Some(own)) = (before.get(cause), times.get_mut(record)) {
                    *own = (*own).max(least.saturating_add(*more));
                }
            }
            if before == times {
                break;
            }
        }
        times
    }

    /// K of section 4.
    pub(super) fn key(&self, record: &Record) -> CanonicalKey {
        let rank = self.rank.get(&record.id).copied().unwrap_or(UNLOCKED);
        let effective_ms = self.effective_ms.get(&record.id).copied().unwrap_or(record.effective_ms);
        let log = &record.log;
        (rank, effective_ms, log.terminal.to_string(), log.incarnation, record.seq, record.id)
    }

    /// Records in canonical order.
    pub(super) fn in_order(&self, records: impl IntoIterator<Item = &'a Record>) -> Vec<&'a Record> {
        let mut list: Vec<&Record> = records.into_iter().collect();
        list.sort_by_cached_key(|record| self.key(record));
        list
    }

    /// What a record had newly seen, and all that its writer had seen before.
    pub(super) fn seen_by(&self, record: &Record) -> Vec<&'a Record> {
        let knew = &self.seen[&record.id];
        let is_seen = |other: &&&Record| knew.iter().any(|(log, to)| *log == other.log && other.seq <= *to);
        self.records.values().filter(is_seen).copied().collect()
    }

    /// Section 16: the policy in force on the record's business day. A change never re-judges a locked record: what
    /// the hub stated after the lock that covers it does not count.
    pub(super) fn policy(&self, record: &Record) -> Policy {
        let lock_seq = self.rank_of_lock.get(&record.id).and_then(|number| {
            self.locks().into_iter().filter(|(_, lock)| lock.number == *number).map(|(by, _)| by.seq).min()
        });
        self.policy_on(record.business_day, lock_seq)
    }

    fn policy_on(&self, day: Day, up_to_seq: Option<u64>) -> Policy {
        let mut policy = self.base.clone();
        for (record, statement) in self.hub_statements() {
            let HubRecord::Config(PolicyChange { from, settings, .. }) = statement else { continue };
            let counts = from.is_none_or(|from| from <= day) && up_to_seq.is_none_or(|to| record.seq <= to);
            for (key, value) in settings.iter().filter(|_| counts) {
                // Settings of newer versions that this one does not know are left aside.
                let _ = policy.set(key, value);
            }
        }
        policy
    }

    /// Outcomes of a payment, oldest first.
    pub(super) fn outcomes(&self, payment: &str) -> Vec<(&'a Record, Outcome)> {
        let all = self.hub_statements().into_iter().filter_map(|(record, statement)| match statement {
            HubRecord::Payment(row) if row.payment == payment => Some((record, row.outcome)),
            _ => None,
        });
        all.collect()
    }

    /// Decisions, by their number: the higher one counts (section 9).
    pub(super) fn decisions(&self) -> Vec<(&'a Record, &'a Decision)> {
        let all = self.hub_statements().into_iter().filter_map(|(record, statement)| match statement {
            HubRecord::Decision(decision) => Some((record, decision)),
            _ => None,
        });
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(record, decision)| (decision.number, record.seq, record.id));
        all
    }
}

impl<'a> Target<'a> {
    /// The lines, tenders and currency of a sale or refund.
    pub(super) fn basket(
        &self,
    ) -> Option<(engine::money::Currency, &'a [engine::transaction::Line], &'a [engine::transaction::Tender])>
    {
        match self {
            Self::Here(record) => record
                .transaction
                .basket()
                .map(|basket| (basket.currency, basket.lines.as_slice(), basket.tenders.as_slice())),
            Self::Elsewhere(sale) => Some((sale.currency, &sale.lines, &sale.tenders)),
        }
    }

    pub(super) fn is_sale(&self) -> bool {
        match self {
            Self::Here(record) => record.transaction.kind() == Kind::Sale,
            Self::Elsewhere(_) => true,
        }
    }

    pub(super) fn business_day(&self) -> Day {
        match self {
            Self::Here(record) => record.business_day,
            Self::Elsewhere(sale) => sale.business_day,
        }
    }
}
