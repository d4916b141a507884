//! The set of records of one store with everything that is looked up in it. Inserting only files a record and marks
//! what has to be judged again; nothing here judges. No answer depends on the order of arrival.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::days::Days;
use super::dirty::DirtyLogs;
use super::families::{Families, Slot};
use super::hub::HubFacts;
use super::log::{ChainHold, Log};
use super::records::Records;
use super::seen::Seen;
use super::slot_index::{SlotIndex, Tag};
use crate::attic::Workroom;
use crate::ids::{LogId, RecordId, StoreId, TerminalId};
use crate::policy::{Policy, ReceiptScope};
use crate::record::Record;
use crate::review::CaseKey;
use crate::runs::{Row, Runs};
use crate::shelf::{Due, Pressed, Shelf};
use crate::transaction::{Basket, Body, HubRecord, Kind, Reference, TenderStatus, TenderType};

/// What the set says about a record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Entry {
    /// Effective time with what the set adds to that of capture (see `order`).
    pub(crate) ms: i64,
    /// Number of the first lock that covers it.
    pub(crate) lock: u64,
    /// Held by the integrity of its log, decisions aside (see `log`).
    pub(crate) chain: Option<ChainHold>,
    /// The same basket was rung within `TWIN_MARK_MS`.
    has_twin: bool,
}

/// No lock covers the record.
pub(crate) const UNLOCKED: u64 = u64::MAX;

/// Something that two records may share.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Joint<'a> {
    Key(&'a str),
    Authorisation(&'a str),
    Payment(&'a str),
}

/// What a reference can be found by, the most telling first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RefKey<'a> {
    Id(&'a RecordId),
    Seq(&'a TerminalId, u64),
    TillReceipt(&'a TerminalId, &'a str),
    Receipt(&'a str),
}

impl Joint<'_> {
    fn tag(self) -> Tag {
        match self {
            Self::Key(key) => Tag::of(&[b"key", key.as_bytes()]),
            Self::Authorisation(auth) => Tag::of(&[b"authorisation", auth.as_bytes()]),
            Self::Payment(payment) => Tag::of(&[b"payment", payment.as_bytes()]),
        }
    }
}

impl<'a> RefKey<'a> {
    fn tag(self) -> Tag {
        match self {
            Self::Id(id) => Tag::of_hash(&id.0),
            Self::Seq(terminal, seq) => Tag::of(&[b"seq", terminal.as_str().as_bytes(), &seq.to_le_bytes()]),
            Self::TillReceipt(terminal, receipt) => {
                Tag::of(&[b"till", terminal.as_str().as_bytes(), receipt.as_bytes()])
            }
            Self::Receipt(receipt) => Tag::of(&[b"receipt", receipt.as_bytes()]),
        }
    }

    /// The key of a reference; `None` if it names nothing.
    pub(crate) fn of(reference: &'a Reference) -> Option<Self> {
        if let Some(id) = &reference.id {
            return Some(Self::Id(id));
        }
        match (&reference.terminal, reference.seq, &reference.receipt) {
            (Some(terminal), Some(seq), _) => Some(Self::Seq(terminal, seq)),
            (Some(terminal), None, Some(receipt)) => Some(Self::TillReceipt(terminal, receipt)),
            (None, _, Some(receipt)) => Some(Self::Receipt(receipt)),
            _ => None,
        }
    }
}

/// The set of records of a store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) store: StoreId,
    pub(crate) hub: HubFacts,
    pub(crate) seen: Seen,
    pub(crate) families: Families,
    pub(crate) logs: BTreeMap<LogId, Log>,
    pub(crate) days: Days,
    pub(crate) dirty_logs: DirtyLogs,
    pub(super) records: Records,
    entries: Shelf<Entry>,
    receipts: SlotIndex,
    joints: SlotIndex,
    referrers: SlotIndex,
    pub(super) awaited_numbers: BTreeMap<TerminalId, BTreeSet<(u64, Slot)>>,
    pub(super) foreign: BTreeMap<RecordId, Slot>,
    /// Baskets by fingerprint, clock and number: the same order on every replica.
    twins: Runs<Twin>,
    /// Payments accepted offline that have no outcome yet, with the records that took them.
    pub(super) unanswered: BTreeMap<String, BTreeSet<Slot>>,
    pub(super) cyclic: bool,
    pub(super) hub_decided: BTreeMap<CaseKey, Slot>,
}

impl Facts {
    pub(crate) fn new(store: StoreId, policy: Policy, room: &Workroom) -> Self {
        Self {
            store,
            hub: HubFacts::new(policy),
            seen: Seen::default(),
            families: Families::new(room),
            logs: BTreeMap::new(),
            days: Days::new(room),
            dirty_logs: DirtyLogs::default(),
            records: Records::new(room),
            entries: Shelf::of_small(room),
            receipts: SlotIndex::new(room),
            joints: SlotIndex::new(room),
            referrers: SlotIndex::new(room),
            awaited_numbers: BTreeMap::new(),
            foreign: BTreeMap::new(),
            twins: Runs::new(room),
            unanswered: BTreeMap::new(),
            cyclic: false,
            hub_decided: BTreeMap::new(),
        }
    }

    pub(crate) fn entry(&self, slot: Slot) -> &Entry {
        self.entries.get(slot, &Pressed)
    }

    pub(super) fn entry_mut(&mut self, slot: Slot) -> &mut Entry {
        self.entries.get_mut(slot, &Pressed)
    }

    /// Packs a chunk of what is not in use; whether there was any.
    pub(super) fn rest_a_chunk(&mut self, due: Due) -> bool {
        self.records.rest_a_chunk(due)
            || self.entries.rest_a_chunk(due, &Pressed)
            || self.families.rest_a_chunk(due)
            || self.days.rest_a_chunk(due)
    }

    /// Packs what an image names.
    pub(super) fn pack(&mut self) {
        self.records.pack();
        self.entries.pack(&Pressed);
        self.families.pack();
        self.days.pack();
        self.logs.values_mut().for_each(Log::pack);
    }

    pub(crate) fn record(&self, slot: Slot) -> &Arc<Record> {
        self.records.get(slot)
    }

    /// The id of a record, without looking into it.
    pub(crate) fn id(&self, slot: Slot) -> RecordId {
        self.records.id(slot)
    }

    pub(crate) fn slot(&self, id: &RecordId) -> Option<Slot> {
        self.records.slot(id)
    }

    pub(crate) fn slots(&self) -> Range<Slot> {
        0..Slot::try_from(self.entries.len()).expect("slots are 32 bits")
    }

    /// Records with a receipt number that have lines and tenders, in the order of arrival.
    pub(crate) fn with_receipt(&self, receipt: &str) -> Vec<Slot> {
        let mut slots = self.any_with_receipt(receipt);
        slots.retain(|slot| self.record(*slot).transaction.basket().is_some());
        slots
    }

    /// Records of any kind with a receipt number, in the order of arrival.
    pub(crate) fn any_with_receipt(&self, receipt: &str) -> Vec<Slot> {
        let mut slots = self.receipts.find(Tag::of(&[receipt.as_bytes()]));
        slots.retain(|slot| self.record(*slot).transaction.receipt == receipt);
        slots
    }

    /// Records of any kind with an idempotency key, in the order of arrival.
    pub(crate) fn any_with_key(&self, key: &str) -> Vec<Slot> {
        let mut slots = self.joints.find(Joint::Key(key).tag());
        slots.retain(|slot| self.record(*slot).transaction.idempotency_key.as_deref() == Some(key));
        slots
    }

    /// Records that share something, in the order of arrival.
    pub(crate) fn sharing(&self, joint: Joint<'_>) -> Vec<Slot> {
        let mut slots = self.joints.find(joint.tag());
        slots.retain(|slot| {
            let record = self.record(*slot);
            record.transaction.basket().is_some_and(|basket| joints(record, basket).contains(&joint))
        });
        slots
    }

    /// Records that refer to something by a key, in the order of arrival.
    pub(super) fn referring(&self, key: RefKey<'_>) -> Vec<Slot> {
        let mut slots = self.referrers.find(key.tag());
        slots.retain(|slot| {
            references(self.record(*slot)).any(|reference| RefKey::of(reference) == Some(key))
        });
        slots
    }

    /// The policy that judges a record: that of its day, and no change later than the lock that covers it.
    pub(crate) fn policy(&self, slot: Slot) -> Arc<Policy> {
        let entry = self.entry(slot);
        let record = self.record(slot);
        self.hub.policy_of_till(record.business_day, entry.lock, &record.log.terminal)
    }

    /// Files a record. The same id again has no effect; what its writer had seen counts all the same.
    pub(crate) fn insert(&mut self, record: &Arc<Record>, seen: &[(LogId, u64)]) -> Option<Slot> {
        self.learn(&record.log, record.seq, seen);
        if self.slot(&record.id).is_some() {
            return None;
        }
        let slot = self.families.push();
        let (ms, lock) = (record.effective_ms, UNLOCKED);
        self.records.push(record);
        self.days.file(slot, record);
        self.entries.push(Entry { ms, lock, chain: None, has_twin: false });
        self.touch(slot, Some(slot));
        self.file_joints(slot, record);
        let referrers = self.file_references(slot, record);
        self.file_in_log(slot, record, !referrers.is_empty());
        self.settle_lock(slot);
        self.settle_time_with(slot, referrers);
        if let Body::Hub(hub) = &record.transaction.body {
            self.file_hub(slot, hub);
        }
        Some(slot)
    }

    /// Marks a record to be judged again, and with it whatever looks at it across families.
    pub(crate) fn touch(&mut self, slot: Slot, cause: Option<Slot>) {
        self.families.touch(slot, cause);
        let record = self.record(slot);
        if record.transaction.kind() == Kind::DayClose {
            let record = Arc::clone(record);
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
        let receipt = &record.transaction.receipt;
        let by_receipt = Tag::of(&[receipt.as_bytes()]);
        let Some(basket) = record.transaction.basket() else {
            let key = record.transaction.idempotency_key.as_deref().map(Joint::Key);
            key.into_iter().for_each(|key| self.joints.insert(key.tag(), slot));
            self.receipts.insert(by_receipt, slot);
            return;
        };
        if let Some(twin) = fingerprint(record, basket) {
            self.file_twin(Twin { basket: twin, ms: record.at.ms, seq: record.seq, slot });
        }
        let pending = basket.tenders.iter().filter(|tender| tender.status == TenderStatus::Pending);
        for payment in pending.filter_map(|tender| tender.payment.as_ref()) {
            if self.hub.outcome(payment).is_none() {
                self.unanswered.entry(payment.clone()).or_default().insert(slot);
            }
        }
        for joint in joints(record, basket) {
            let first = self.sharing(joint).first().copied();
            self.joints.insert(joint.tag(), slot);
            first.into_iter().for_each(|first| self.families.join(first, slot));
        }
        let store_wide = self.hub.receipt_scope_ever_wide();
        for other in self.with_receipt(receipt) {
            if store_wide || self.record(other).log.terminal == record.log.terminal {
                self.families.join(other, slot);
            }
        }
        self.receipts.insert(by_receipt, slot);
    }

    /// Files a basket, and notes of it and of its nearest neighbours in time that they have a twin. The next one that
    /// comes between two of them is near to one of them, so whoever has a twin near enough is known to have one; and
    /// because the row is not there yet when it is asked for, baskets that are alone read no page.
    fn file_twin(&mut self, own: Twin) {
        let from = Twin { ms: own.ms.saturating_sub(TWIN_MARK_MS), seq: 0, slot: 0, ..own };
        let to = Twin { ms: own.ms.saturating_add(TWIN_MARK_MS), seq: u64::MAX, slot: Slot::MAX, ..own };
        let before = self.twins.down(from, own, 1, &from.marks_up_to(own.ms));
        let after = self.twins.up(own, to, 1, &own.marks_up_to(to.ms));
        for near in before.into_iter().chain(after) {
            self.entry_mut(own.slot).has_twin = true;
            if !self.entry(near.slot).has_twin {
                self.entry_mut(near.slot).has_twin = true;
            }
        }
        self.twins.insert(own);
    }

    /// Receipt numbers are from now on unique in the store: whoever shares one is judged together.
    pub(super) fn join_receipts_store_wide(&mut self) {
        let mut first: BTreeMap<String, Slot> = BTreeMap::new();
        let mut pairs = Vec::new();
        self.records.for_each(|slot, record| {
            if record.transaction.basket().is_some() {
                let first = first.entry(record.transaction.receipt.clone()).or_insert(slot);
                pairs.push((*first, slot));
            }
        });
        pairs.into_iter().for_each(|(first, slot)| self.families.join(first, slot));
    }

    /// Joins the record with what it refers to and with what refers to it, which is returned: itself too, if it names
    /// itself.
    fn file_references(&mut self, slot: Slot, record: &Record) -> Vec<Slot> {
        let referrers = self.referrers_of(slot);
        for referrer in &referrers {
            self.families.join(*referrer, slot);
        }
        let mut refers = false;
        for reference in references(record) {
            let Some(key) = RefKey::of(reference) else { continue };
            let first = self.referring(key).first().copied();
            self.referrers.insert(key.tag(), slot);
            refers = true;
            first.into_iter().for_each(|first| self.families.join(first, slot));
            for target in self.candidates(reference) {
                self.families.join(target, slot);
                self.mark_referred(target);
            }
            if let (Some(terminal), Some(seq)) = (&reference.terminal, reference.seq) {
                self.awaited_numbers.entry(terminal.clone()).or_default().insert((seq, slot));
            }
        }
        if refers { self.referrers_of(slot) } else { referrers }
    }

    /// Records whose references may mean this one.
    pub(super) fn referrers_of(&self, slot: Slot) -> Vec<Slot> {
        if self.referrers.is_empty() {
            return Vec::new();
        }
        let record = self.record(slot);
        let (id, terminal, seq, receipt) = match &record.transaction.body {
            Body::Hub(HubRecord::ForeignOriginal(sale)) => {
                (&sale.id, &sale.log.terminal, sale.seq, &sale.receipt)
            }
            _ => (&record.id, &record.log.terminal, record.seq, &record.transaction.receipt),
        };
        let keys = [
            RefKey::Id(id),
            RefKey::Seq(terminal, seq),
            RefKey::TillReceipt(terminal, receipt),
            RefKey::Receipt(receipt),
        ];
        keys.into_iter().flat_map(|key| self.referring(key)).collect()
    }

    fn mark_referred(&mut self, target: Slot) {
        let record = Arc::clone(self.record(target));
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
        if window_ms <= TWIN_MARK_MS && !self.entry(slot).has_twin {
            return Vec::new();
        }
        let record = self.record(slot);
        let Some(twin) = record.transaction.basket().and_then(|basket| fingerprint(record, basket)) else {
            return Vec::new();
        };
        let own = Twin { basket: twin, ms: record.at.ms, seq: record.seq, slot };
        let from = Twin { ms: own.ms.saturating_sub(window_ms), seq: 0, slot: 0, ..own };
        let to = Twin { ms: own.ms.saturating_add(window_ms), seq: u64::MAX, slot: Slot::MAX, ..own };
        let before = self.twins.down(from, own, TWINS_NEAREST + 1, &from.marks_up_to(own.ms));
        let after = self.twins.up(own, to, TWINS_NEAREST + 1, &own.marks_up_to(to.ms));
        let near = |side: Vec<Twin>| side.into_iter().filter(|row| row.slot != slot).take(TWINS_NEAREST);
        near(before).chain(near(after)).map(|row| row.slot).collect()
    }
}

/// A basket by what it is, the clock and its number: the same order on every replica.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
struct Twin {
    /// See `fingerprint`.
    basket: u64,
    ms: i64,
    seq: u64,
    slot: Slot,
}

/// Baskets within so many ms have one mark: about half an hour.
const TWIN_MARK_MS: i64 = 1 << 21;
/// A window of more marks is looked through without them.
const TWIN_MARKS_LIMIT: i64 = 16;

impl Twin {
    fn mark_at(basket: u64, step: i64) -> u64 {
        basket ^ step.cast_unsigned().wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }

    /// The marks of such baskets up to a time; none if they are too many.
    fn marks_up_to(&self, ms: i64) -> Vec<u64> {
        let (first, last) = (self.ms.div_euclid(TWIN_MARK_MS), ms.div_euclid(TWIN_MARK_MS));
        let few = last - first < TWIN_MARKS_LIMIT;
        let steps = if few { first..=last } else { RangeInclusive::new(1, 0) };
        steps.map(|step| Self::mark_at(self.basket, step)).collect()
    }
}

impl Row for Twin {
    const BYTES: usize = 28;

    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.basket.to_le_bytes());
        to.extend(self.ms.to_le_bytes());
        to.extend(self.seq.to_le_bytes());
        to.extend(self.slot.to_le_bytes());
    }

    fn read(bytes: &[u8]) -> Self {
        let eight = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            number
        };
        Self {
            basket: u64::from_le_bytes(eight(0)),
            ms: i64::from_le_bytes(eight(8)),
            seq: u64::from_le_bytes(eight(16)),
            slot: Slot::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]),
        }
    }

    fn mark(&self) -> u64 {
        Self::mark_at(self.basket, self.ms.div_euclid(TWIN_MARK_MS))
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

fn joints<'a>(record: &'a Record, basket: &'a Basket) -> Vec<Joint<'a>> {
    let key = record.transaction.idempotency_key.as_deref().map(Joint::Key);
    let cards = basket.tenders.iter().filter(|tender| tender.tender == TenderType::Card);
    let auths = cards.filter_map(|tender| tender.auth.as_deref()).map(Joint::Authorisation);
    let payments = basket.tenders.iter().filter_map(|tender| tender.payment.as_deref()).map(Joint::Payment);
    let mut joints: Vec<Joint<'a>> = key.into_iter().chain(auths).chain(payments).collect();
    joints.sort_unstable();
    joints.dedup();
    joints
}

/// Same till, kind, lines and amounts: what a suspected duplicate has in common. Voids are judged as reversals.
fn fingerprint(record: &Record, basket: &Basket) -> Option<u64> {
    if record.transaction.kind() == Kind::Void {
        return None;
    }
    let mut told = Vec::with_capacity(128);
    let mut tell = |text: &[u8], numbers: &[i64]| {
        told.extend_from_slice(text);
        told.push(0xff);
        numbers.iter().for_each(|number| told.extend_from_slice(&number.to_le_bytes()));
    };
    let (kind, lines) = (record.transaction.kind(), basket.lines.len().try_into().unwrap_or(i64::MAX));
    tell(record.log.terminal.as_str().as_bytes(), &[kind as i64, lines]);
    tell(basket.currency.code().as_bytes(), &[]);
    for line in &basket.lines {
        tell(line.sku.as_bytes(), &[line.quantity.0, line.amount_minor]);
    }
    for tender in &basket.tenders {
        tell(&[], &[tender.tender as i64, tender.amount_minor]);
    }
    Some(xxh3_64(&told))
}
