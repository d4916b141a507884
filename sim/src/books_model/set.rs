//! The set of records and what is looked up in it: references, locks, canonical order, policies, payment outcomes,
//! decisions (LEDGER-RULES sections 3, 4, 16). It judges nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use engine::ids::{LogId, RecordId};
use engine::money::Currency;
use engine::policy::{Policy, PolicyChange};
use engine::record::Record;
use engine::time::Day;
use engine::transaction::{
    Basket, Body, Decision, ForeignOriginal, HubRecord, Kind, Line, Lock, Outcome, Reference, Reverses,
    Tender, Transaction,
};

/// Settings in which a till has no say of its own.
const WHOLE_STORE: [&str; 5] =
    ["ageing_hours", "batch_baseline", "discounts", "four_eyes_limit_minor", "receipt_scope"];

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
        set.rank = set.records.values().map(|one| (one.id, set.rank_of(one, &mut BTreeSet::new()))).collect();
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

    /// The highest number of each till's log known from any source: its records, and what others had seen.
    pub(super) fn highest_known(&self) -> BTreeMap<LogId, u64> {
        let mut highest: BTreeMap<LogId, u64> = BTreeMap::new();
        let mut know = |log: &LogId, seq: u64| {
            let known = highest.entry(log.clone()).or_default();
            *known = (*known).max(seq);
        };
        for record in self.of_tills() {
            know(&record.log, record.seq);
        }
        for (record, seen) in self.records.values().map(|record| (record, &self.seen[&record.id])) {
            seen.iter()
                .filter(|row| !row.0.terminal.is_hub() && row.0 != record.log)
                .for_each(|row| know(&row.0, row.1));
        }
        highest
    }

    /// Logs of tills.
    pub(super) fn logs(&self) -> BTreeSet<LogId> {
        self.of_tills().map(|record| record.log.clone()).collect()
    }

    /// What a reference names: by id, or else whatever fits all that is printed. If several fit (the law is silent):
    /// the kind that can be meant first, then by lock and by the time of capture.
    pub(super) fn resolve_from(&self, reference: &Reference, from: &Record) -> Option<RecordId> {
        let elsewhere = reference.store.as_ref().is_some_and(|store| *store != from.store);
        if let Some(id) = reference.id {
            let here = !elsewhere && self.records.contains_key(&id);
            return (here || self.foreign.contains_key(&id)).then_some(id);
        }
        let fits = |log: &LogId, seq: u64, receipt: &str| {
            reference.terminal.as_ref().is_none_or(|named| *named == log.terminal)
                && reference.seq.is_none_or(|named| named == seq)
                && reference.receipt.as_ref().is_none_or(|named| named == receipt)
        };
        let mut here: Vec<&Record> = self
            .of_tills()
            .filter(|record| fits(&record.log, record.seq, &record.transaction.receipt) && !elsewhere)
            .filter(|record| reference.seq.is_some() || record.transaction.basket().is_some())
            .collect();
        if here.len() > 1 {
            here.retain(|record| record.id != from.id);
        }
        let wanted = match &from.transaction.body {
            Body::Void { reverses: Reverses::Refund, .. } => Kind::Refund,
            _ => Kind::Sale,
        };
        let order = |record: &&Record| {
            let kind = record.transaction.kind();
            let other = if matches!(kind, Kind::Sale | Kind::Refund) { 1 } else { 2 };
            let fit = if kind == wanted { 0 } else { other };
            (fit, self.lock_of(record), record.effective_ms, record.log.clone(), record.seq, record.id)
        };
        let first = here.into_iter().min_by_key(order).map(|record| record.id);
        first.or_else(|| {
            let of_store = |sale: &&ForeignOriginal| {
                reference.store.as_ref().is_none_or(|store| *store == sale.store)
                    && fits(&sale.log, sale.seq, &sale.receipt)
            };
            let sales = self.foreign.values().map(|row| row.1);
            sales.filter(of_store).map(|sale| (sale.log.clone(), sale.seq, sale.id)).min().map(|row| row.2)
        })
    }

    /// What the whole of a record names.
    pub(super) fn original_of(&self, record: &Record) -> Option<RecordId> {
        self.resolve_from(record.transaction.original()?, record)
    }

    /// Everything in the set that a record names, as a whole or by line, itself aside.
    pub(super) fn targets_of(&self, record: &Record) -> BTreeSet<RecordId> {
        let named = Self::references(&record.transaction).into_iter();
        named
            .filter_map(|reference| self.resolve_from(reference, record))
            .filter(|id| *id != record.id)
            .collect()
    }

    /// Number of the first lock that covers a record.
    pub(super) fn lock_of(&self, record: &Record) -> u64 {
        self.rank_of_lock.get(&record.id).copied().unwrap_or(UNLOCKED)
    }

    /// The hub's place of the lock that covers a record.
    fn locked_at(&self, record: &Record) -> Option<u64> {
        let number = self.rank_of_lock.get(&record.id)?;
        let locks = self.locks().into_iter().filter(|(_, lock)| lock.number == *number);
        locks.map(|(by, _)| by.seq).min()
    }

    /// The record before a record in its log, if it is here.
    pub(super) fn predecessor(&self, record: &Record) -> Option<&'a Record> {
        let before = self.records.get(&record.prev?).copied()?;
        (before.log == record.log && before.seq + 1 == record.seq).then_some(before)
    }

    /// The hub's statement about a sale of another store: the first, if there are several.
    pub(super) fn vouched_by(&self, sale: &RecordId) -> Option<&'a Record> {
        self.foreign.get(sale).map(|row| row.0)
    }

    /// The record or foreign sale of an id.
    pub(super) fn target(&self, id: &RecordId) -> Option<Target<'a>> {
        let here = self.records.get(id).map(|record| Target::Here(record));
        here.or_else(|| self.foreign.get(id).map(|(_, sale)| Target::Elsewhere(sale)))
    }

    /// Whether what a reference names cannot arrive any more (section 5 E): the log it names is complete up to its
    /// number. A till with several incarnations (silent): one is complete, and no other has a hole below.
    pub(super) fn is_complete_up_to(&self, reference: &Reference) -> bool {
        let (Some(terminal), Some(seq)) = (&reference.terminal, reference.seq) else { return false };
        let known = self.highest_known();
        let logs: Vec<&LogId> = known.keys().filter(|log| log.terminal == *terminal).collect();
        let whole = |log: &LogId, to: u64| (1..=to).all(|number| !self.at(log, number).is_empty());
        logs.iter().any(|log| whole(log, seq)) && logs.iter().all(|log| whole(log, seq.min(known[*log])))
    }

    /// Every record and sale that a transaction refers to, as a whole or by line.
    pub(super) fn references(transaction: &Transaction) -> Vec<&Reference> {
        let lines = transaction.basket().into_iter().flat_map(|basket| &basket.lines);
        let by_line = lines.filter_map(|line| line.original.as_ref()?.reference.as_ref());
        transaction.original().into_iter().chain(by_line).collect()
    }

    /// Section 4: a lock covers the ancestors of the heads it names (by `prev`, so far as they are here); the first
    /// lock that covers a record is its rank.
    fn locked(&self) -> BTreeMap<RecordId, u64> {
        let mut covered: BTreeMap<RecordId, u64> = BTreeMap::new();
        for (_, lock) in self.locks() {
            for head in &lock.heads {
                let mut at = self.records.get(&head.id).copied();
                while let Some(record) = at {
                    let rank = covered.entry(record.id).or_insert(lock.number);
                    *rank = lock.number.min(*rank);
                    at = self.predecessor(record);
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

    /// Section 4: for a refund or void at least the rank of what it refers to; a cycle contributes nothing. (The lines of
    /// a void repeat its original's references: it is the original that it refers to.)
    fn rank_of(&self, record: &Record, below: &mut BTreeSet<RecordId>) -> u64 {
        let own = self.lock_of(record);
        if own == UNLOCKED || !below.insert(record.id) {
            return own;
        }
        let targets = match record.transaction.kind() {
            Kind::Refund => self.targets_of(record),
            Kind::Void => self.original_of(record).into_iter().collect(),
            _ => BTreeSet::new(),
        };
        let here =
            targets.iter().filter(|id| !below.contains(*id)).filter_map(|id| self.records.get(id).copied());
        let ranks: Vec<u64> =
            here.collect::<Vec<_>>().into_iter().map(|one| self.rank_of(one, below)).collect();
        below.remove(&record.id);
        ranks.into_iter().fold(own, u64::max)
    }

    /// Section 4: the maximum of the record's own clock, its predecessor's effective time, and 1 ms more than that of
    /// everything it refers to or had seen. What the till stated (`Record::effective_ms`) counts as its own clock: it
    /// holds what the till had seen, even of records that are not in this set.
    fn effective_times(&self) -> BTreeMap<RecordId, i64> {
        // (record, cause, ms more than the cause)
        let mut chain: Vec<(RecordId, RecordId, i64)> = Vec::new();
        let mut references: Vec<(RecordId, RecordId, i64)> = Vec::new();
        for record in self.records.values() {
            chain.extend(self.predecessor(record).map(|before| (record.id, before.id, 0)));
            references.extend(self.targets_of(record).into_iter().map(|target| (record.id, target, 1)));
        }
        let all: Vec<_> = chain.iter().chain(&references).copied().collect();
        let causes = |from: RecordId| {
            let (mut found, mut to_visit) = (BTreeSet::new(), vec![from]);
            while let Some(at) = to_visit.pop() {
                let next = all.iter().filter(|edge| edge.0 == at).map(|edge| edge.1);
                to_visit.extend(next.filter(|cause| found.insert(*cause)));
            }
            found
        };
        // A reference that lies on a cycle contributes nothing.
        references.retain(|edge| !causes(edge.1).contains(&edge.0));
        let after: Vec<_> = chain.into_iter().chain(references).collect();
        let mut times: BTreeMap<RecordId, i64> =
            self.records.values().map(|record| (record.id, record.effective_ms)).collect();
        times.extend(self.foreign.values().map(|(_, sale)| (sale.id, sale.effective_ms)));
        loop {
            let before = times.clone();
            for (record, cause, more) in &after {
                if let (Some(least), Some(own)) = (before.get(cause), times.get_mut(record)) {
                    *own = (*own).max(least.saturating_add(*more));
                }
            }
            if before == times {
                return times;
            }
        }
    }

    /// K of section 4.
    pub(super) fn key(&self, record: &Record) -> CanonicalKey {
        let rank = self.rank.get(&record.id).copied().unwrap_or(UNLOCKED);
        let effective_ms = self.effective_ms.get(&record.id).copied().unwrap_or(record.effective_ms);
        let log = &record.log;
        (rank, effective_ms, log.terminal.to_string(), log.incarnation, record.seq, record.id)
    }

    /// K of what a reference names; the hub's statement stands for a sale of another store.
    pub(super) fn key_of_target(&self, id: &RecordId) -> Option<CanonicalKey> {
        if let Some(record) = self.records.get(id) {
            return Some(self.key(record));
        }
        let (by, sale) = self.foreign.get(id)?;
        let log = &by.log;
        Some((UNLOCKED, sale.effective_ms, log.terminal.to_string(), log.incarnation, by.seq, by.id))
    }

    /// Records in canonical order.
    pub(super) fn in_order(&self, records: impl IntoIterator<Item = &'a Record>) -> Vec<&'a Record> {
        let mut list: Vec<&Record> = records.into_iter().collect();
        list.sort_by_cached_key(|record| self.key(record));
        list
    }

    /// Whether a record's writer had seen a number of another log when it wrote the record, or before.
    pub(super) fn had_seen(&self, record: &Record, log: &LogId, seq: u64) -> bool {
        self.seen_until(record).into_iter().any(|row| row.0 == *log && seq <= row.1)
    }

    /// Everything a record's writer had seen of other logs when it wrote the record.
    pub(super) fn seen_until(&self, record: &Record) -> Vec<(LogId, u64)> {
        let own = |other: &&Record| other.log == record.log && other.seq <= record.seq;
        let earlier = self.records.values().copied().filter(own);
        let rows = earlier.flat_map(|other| self.seen[&other.id].iter().cloned());
        rows.filter(|row| row.0 != record.log).collect()
    }

    /// Section 16: the policy in force on the record's business day. A change never re-judges a locked record: what
    /// the hub stated after the lock that covers it does not count; nor, if it names no day, does it count for a day
    /// that was locked before it (`PolicyChange::from`).
    pub(super) fn policy(&self, record: &Record) -> Policy {
        let locked_at = self.locked_at(record);
        let day = record.business_day;
        let mut rows: Vec<(&str, &str)> = Vec::new();
        for (by, statement) in self.hub_statements() {
            let HubRecord::Config(PolicyChange { from, settings, .. }) = statement else { continue };
            let day_was_locked = || {
                self.locks().into_iter().any(|(lock_by, lock)| lock_by.seq < by.seq && day < lock.open_day)
            };
            let applies = from.map_or_else(|| !day_was_locked(), |from| from <= day);
            if applies && locked_at.is_none_or(|locked| by.seq < locked) {
                rows.extend(settings.iter().map(|row| (row.0.as_str(), row.1.as_str())));
            }
        }
        let own = format!("till:{}:", record.log.terminal);
        let mut policy = self.base.clone();
        // The company's settings, over them the store's, over them the till's; `inherit` gives back what lay below.
        for prefix in ["company:", "", own.as_str()] {
            let below = policy.settings();
            for (written, value) in &rows {
                let Some(key) = written.strip_prefix(prefix) else { continue };
                let of_tills = prefix == own;
                if key.contains(':') || (of_tills && WHOLE_STORE.contains(&key)) {
                    continue;
                }
                let value =
                    if *value == "inherit" { below.get(key).map_or("", String::as_str) } else { value };
                // Settings of newer versions that this one does not know are left aside.
                let _ = policy.set(key, value);
            }
        }
        policy
    }

    /// B5: whether a record was written after its till lost the right to. A revocation of all incarnations means those
    /// enrolled by then; one that comes after the lock that covers a record does not reach it (P7, I9).
    pub(super) fn is_revoked(&self, record: &Record) -> bool {
        let locked_at = self.locked_at(record);
        let statements = self.hub_statements();
        let enrolled =
            |statement: &HubRecord| matches!(statement, HubRecord::Enrol(row) if row.log == record.log);
        let enrolled_at = statements.iter().filter(|row| enrolled(row.1)).map(|row| row.0.seq).min();
        statements.iter().any(|(by, statement)| match statement {
            HubRecord::Revoke { terminal, incarnation, last_valid_seq } => {
                let newer = incarnation.is_none() && enrolled_at.is_some_and(|at| at > by.seq);
                record.log.terminal == *terminal
                    && incarnation.is_none_or(|one| one == record.log.incarnation)
                    && record.seq > *last_valid_seq
                    && !newer
                    && locked_at.is_none_or(|locked| by.seq < locked)
            }
            _ => false,
        })
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
        all.sort_by_key(|(record, decision)| (decision.number, record.id));
        all
    }
}

impl<'a> Target<'a> {
    /// The lines, tenders and currency of a sale or refund.
    pub(super) fn basket(&self) -> Option<(Currency, &'a [Line], &'a [Tender])> {
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
