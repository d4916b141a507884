//! The set of records of one store with everything that is looked up in it. Inserting only files a record and marks
//! what has to be judged again; nothing here judges. No answer depends on the order of arrival.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::families::{Families, Slot};
use super::hub::HubFacts;
use super::log::{ChainHold, Log, LogCase};
use super::seen::Seen;
use crate::ids::{LogId, RecordId, StoreId, TerminalId};
use crate::policy::{Policy, ReceiptScope};
use crate::record::Record;
use crate::review::CaseKey;
use crate::time::Day;
use crate::transaction::{Basket, Body, HubRecord, Kind, Reference, TenderStatus, TenderType};

/// A record with what the set says about it.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) record: Arc<Record>,
    /// Effective time with what the set adds to that of capture (see `order`).
    pub(crate) ms: i64,
    /// Number of the first lock that covers it.
    pub(crate) lock: u64,
    /// Held by the integrity of its log, decisions aside (see `log`).
    pub(crate) chain: Option<ChainHold>,
}

/// No lock covers the record.
pub(crate) const UNLOCKED: u64 = u64::MAX;

/// Something that two records may share.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Joint {
    Key(String),
    Authorisation(String),
    Payment(String),
}

/// What a reference can be found by, the most telling first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum RefKey {
    Id(RecordId),
    Seq(TerminalId, u64),
    TillReceipt(TerminalId, String),
    Receipt(String),
}

impl RefKey {
    /// The key of a reference; `None` if it names nothing.
    pub(crate) fn of(reference: &Reference) -> Option<Self> {
        if let Some(id) = reference.id {
            return Some(Self::Id(id));
        }
        match (&reference.terminal, reference.seq, &reference.receipt) {
            (Some(terminal), Some(seq), _) => Some(Self::Seq(terminal.clone(), seq)),
            (Some(terminal), None, Some(receipt)) => {
                Some(Self::TillReceipt(terminal.clone(), receipt.clone()))
            }
            (None, _, Some(receipt)) => Some(Self::Receipt(receipt.clone())),
            _ => None,
        }
    }
}

/// The set of records of a store.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) store: StoreId,
    pub(crate) hub: HubFacts,
    pub(crate) seen: Seen,
    pub(crate) families: Families,
    pub(crate) logs: BTreeMap<LogId, Log>,
    pub(crate) days: BTreeMap<Day, Vec<Slot>>,
    pub(crate) dirty_logs: BTreeSet<LogCase>,
    pub(super) entries: Vec<Entry>,
    pub(super) by_id: BTreeMap<RecordId, Slot>,
    pub(super) receipts: BTreeMap<String, Vec<Slot>>,
    pub(super) joints: BTreeMap<Joint, Vec<Slot>>,
    pub(super) referrers: BTreeMap<RefKey, Vec<Slot>>,
    pub(super) awaited_numbers: BTreeMap<TerminalId, BTreeSet<(u64, Slot)>>,
    pub(super) foreign: BTreeMap<RecordId, Slot>,
    /// Baskets by fingerprint, clock and number: the same order on every replica.
    pub(super) twins: BTreeSet<(u64, i64, u64, Slot)>,
    /// Payments accepted offline that have no outcome yet, with the records that took them.
    pub(super) unanswered: BTreeMap<String, BTreeSet<Slot>>,
    pub(super) cyclic: bool,
    pub(super) hub_decided: BTreeMap<CaseKey, Slot>,
}

impl Facts {
    pub(crate) fn new(store: StoreId, policy: Policy) -> Self {
        Self {
            store,
            hub: HubFacts::new(policy),
            seen: Seen::default(),
            families: Families::default(),
            logs: BTreeMap::new(),
            days: BTreeMap::new(),
            dirty_logs: BTreeSet::new(),
            entries: Vec::new(),
            by_id: BTreeMap::new(),
            receipts: BTreeMap::new(),
            joints: BTreeMap::new(),
            referrers: BTreeMap::new(),
            awaited_numbers: BTreeMap::new(),
            foreign: BTreeMap::new(),
            twins: BTreeSet::new(),
            unanswered: BTreeMap::new(),
            cyclic: false,
            hub_decided: BTreeMap::new(),
        }
    }

    pub(crate) fn entry(&self, slot: Slot) -> &Entry {
        &self.entries[slot as usize]
    }

    pub(crate) fn record(&self, slot: Slot) -> &Record {
        &self.entries[slot as usize].record
    }

    pub(crate) fn slot(&self, id: &RecordId) -> Option<Slot> {
        self.by_id.get(id).copied()
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + use<> {
        0..Slot::try_from(self.entries.len()).expect("slots are 32 bits")
    }

    pub(crate) fn with_receipt(&self, receipt: &str) -> &[Slot] {
        self.receipts.get(receipt).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn sharing(&self, joint: &Joint) -> &[Slot] {
        self.joints.get(joint).map_or(&[], Vec::as_slice)
    }

    /// The policy that judges a record: that of its day, and no change later than the lock that covers it.
    pub(crate) fn policy(&self, slot: Slot) -> Arc<Policy> {
        let entry = self.entry(slot);
        self.hub.policy(entry.record.business_day, entry.lock)
    }

    /// Files a record. The same id again has no effect; what its writer had seen counts all the same.
    pub(crate) fn insert(&mut self, record: &Arc<Record>, seen: &[(LogId, u64)]) -> Option<Slot> {
        self.learn(&record.log, record.seq, seen);
        if self.by_id.contains_key(&record.id) {
            return None;
        }
        let slot = self.families.push();
        let (ms, lock) = (record.effective_ms, UNLOCKED);
        self.by_id.insert(record.id, slot);
        self.days.entry(record.business_day).or_default().push(slot);
        self.entries.push(Entry { record: Arc::clone(record), ms, lock, chain: None });
        self.touch(slot, Some(slot));
        self.file_joints(slot, record);
        self.file_references(slot, record);
        self.file_in_log(slot, record);
        self.settle_lock(slot);
        self.settle_time(slot);
        if let Body::Hub(hub) = &record.transaction.body {
            self.file_hub(slot, hub);
        }
        Some(slot)
    }

    /// Marks a record to be judged again, and with it whatever looks at it across families.
    pub(crate) fn touch(&mut self, slot: Slot, cause: Option<Slot>) {
        self.families.touch(slot, cause);
        let record = Arc::clone(&self.entries[slot as usize].record);
        if record.transaction.kind() == Kind::DayClose {
            self.touch_voided_before(&record.log, record.seq, cause);
        }
    }

    /// A close decides whether voids of what came before it are late.
    fn touch_voided_before(&mut self, log: &LogId, close: u64, cause: Option<Slot>) {
        let Some(log) = self.logs.get(log) else { return };
        let after = log.close_before(close).unwrap_or(0);
        let voided: Vec<Slot> = log.referred.range(after..close).flat_map(|seq| log.at(*seq)).collect();
        for slot in voided {
            self.families.touch(slot, cause);
        }
    }

    fn file_joints(&mut self, slot: Slot, record: &Record) {
        let Some(basket) = record.transaction.basket() else { return };
        if let Some(twin) = fingerprint(record, basket) {
            self.twins.insert((twin, record.at.ms, record.seq, slot));
        }
        let pending = basket.tenders.iter().filter(|tender| tender.status == TenderStatus::Pending);
        for payment in pending.filter_map(|tender| tender.payment.as_ref()) {
            if self.hub.outcome(payment).is_none() {
                self.unanswered.entry(payment.clone()).or_default().insert(slot);
            }
        }
        for joint in joints(record, basket) {
            let sharing = self.joints.entry(joint).or_default();
            sharing.push(slot);
            let first = sharing[0];
            self.families.join(first, slot);
        }
        let receipt = &record.transaction.receipt;
        let store_wide = self.hub.receipt_scope_ever_wide();
        let same: Vec<Slot> = self.with_receipt(receipt).to_vec();
        for other in same {
            if store_wide || self.record(other).log.terminal == record.log.terminal {
                self.families.join(other, slot);
            }
        }
        self.receipts.entry(receipt.clone()).or_default().push(slot);
    }

    /// Receipt numbers are from now on unique in the store: whoever shares one is judged together.
    pub(super) fn join_receipts_store_wide(&mut self) {
        for sharing in self.receipts.values() {
            for pair in sharing.windows(2) {
                self.families.join(pair[0], pair[1]);
            }
        }
    }

    fn file_references(&mut self, slot: Slot, record: &Record) {
        for referrer in self.referrers_of(slot) {
            self.families.join(referrer, slot);
        }
        for reference in references(record) {
            let Some(key) = RefKey::of(reference) else { continue };
            let same = self.referrers.entry(key).or_default();
            same.push(slot);
            let first = same[0];
            self.families.join(first, slot);
            for target in self.candidates(reference) {
                self.families.join(target, slot);
                self.mark_referred(target);
            }
            if let (Some(terminal), Some(seq)) = (&reference.terminal, reference.seq) {
                self.awaited_numbers.entry(terminal.clone()).or_default().insert((seq, slot));
            }
        }
    }

    /// Records whose references may mean this one.
    pub(super) fn referrers_of(&self, slot: Slot) -> Vec<Slot> {
        let record = self.record(slot);
        let (id, terminal, seq, receipt) = match &record.transaction.body {
            Body::Hub(HubRecord::ForeignOriginal(sale)) => {
                (sale.id, &sale.log.terminal, sale.seq, &sale.receipt)
            }
            _ => (record.id, &record.log.terminal, record.seq, &record.transaction.receipt),
        };
        let keys = [
            RefKey::Id(id),
            RefKey::Seq(terminal.clone(), seq),
            RefKey::TillReceipt(terminal.clone(), receipt.clone()),
            RefKey::Receipt(receipt.clone()),
        ];
        keys.iter().filter_map(|key| self.referrers.get(key)).flatten().copied().collect()
    }

    fn mark_referred(&mut self, target: Slot) {
        let record = Arc::clone(&self.entries[target as usize].record);
        if let Some(log) = self.logs.get_mut(&record.log) {
            log.referred.insert(record.seq);
        }
    }

    /// Whether receipt numbers count for the whole store under the policy of the record.
    pub(crate) fn receipt_scope(&self, slot: Slot) -> ReceiptScope {
        self.policy(slot).receipt_scope
    }

    /// Sales or refunds of the till with the same lines and amounts, at most `window_ms` before or after: the nearest
    /// few on each side, since a till that rings one basket a thousand times a minute has a thousand of them.
    pub(crate) fn twins(&self, slot: Slot, window_ms: i64) -> Vec<Slot> {
        let record = self.record(slot);
        let Some(twin) = record.transaction.basket().and_then(|basket| fingerprint(record, basket)) else {
            return Vec::new();
        };
        let (from, to) = (record.at.ms.saturating_sub(window_ms), record.at.ms.saturating_add(window_ms));
        let own = (twin, record.at.ms, record.seq, slot);
        let before = self.twins.range((twin, from, 0, 0)..own).rev().take(TWINS_NEAREST);
        let after =
            self.twins.range((twin, record.at.ms, record.seq, slot)..=(twin, to, u64::MAX, Slot::MAX));
        let after = after.filter(|row| row.3 != slot).take(TWINS_NEAREST);
        before.chain(after).map(|row| row.3).collect()
    }
}

/// How many baskets on each side are looked at for a suspected duplicate.
const TWINS_NEAREST: usize = 8;

/// Everything a record refers to: as a whole, and line by line.
pub(crate) fn references(record: &Record) -> impl Iterator<Item = &Reference> {
    let lines = record.transaction.basket().map_or(&[][..], |basket| basket.lines.as_slice());
    let by_line = lines.iter().filter_map(|line| line.original.as_ref()?.reference.as_ref());
    record.transaction.original().into_iter().chain(by_line)
}

fn joints(record: &Record, basket: &Basket) -> BTreeSet<Joint> {
    let key = record.transaction.idempotency_key.iter().map(|key| Joint::Key(key.clone()));
    let cards = basket.tenders.iter().filter(|tender| tender.tender == TenderType::Card);
    let auths = cards.filter_map(|tender| tender.auth.clone()).map(Joint::Authorisation);
    let payments = basket.tenders.iter().filter_map(|tender| tender.payment.clone()).map(Joint::Payment);
    key.chain(auths).chain(payments).collect()
}

/// Same till, kind, lines and amounts: what a suspected duplicate has in common. Voids are judged as reversals.
fn fingerprint(record: &Record, basket: &Basket) -> Option<u64> {
    if record.transaction.kind() == Kind::Void {
        return None;
    }
    let lines: Vec<_> =
        basket.lines.iter().map(|line| (&line.sku, line.quantity, line.amount_minor)).collect();
    let tenders: Vec<_> = basket.tenders.iter().map(|tender| (tender.tender, tender.amount_minor)).collect();
    let what = (&record.log.terminal, record.transaction.kind(), basket.currency, lines, tenders);
    let hash = blake3::hash(&crate::codec::encode(&what));
    hash.as_bytes().first_chunk::<8>().map(|head| u64::from_le_bytes(*head))
}
