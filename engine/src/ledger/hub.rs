//! What the hub states in its own log: outcomes, settlements, decisions, locks, policies, revocations. Filed by the
//! hub's own numbers, so that "the last" and "the first" mean the same everywhere. Nothing here judges a record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::facts::{Facts, Joint, UNLOCKED};
use super::families::Slot;
use super::log::LogCase;
use crate::ids::{LogId, RecordId, TerminalId};
use crate::policy::{Policy, PolicyChange, ReceiptScope};
use crate::review::{CaseKey, DecisionBook, Issued};
use crate::time::Day;
use crate::transaction::{Decision, ForeignOriginal, HubRecord, Lock, Outcome};

/// Order of the hub's records: its log's generation, its number, and the id for a hub that forked.
pub(crate) type HubPlace = (u32, u64, RecordId);

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Revocation {
    terminal: TerminalId,
    incarnation: Option<u32>,
    last_valid_seq: u64,
}

/// A lock as filed: when it was taken, and the first day it left open.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct LockFact {
    place: HubPlace,
    open_day: Day,
}

/// The hub's statements about a store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct HubFacts {
    base: Policy,
    changes: BTreeMap<HubPlace, PolicyChange>,
    /// Tills with settings of their own; the others have the store's.
    tills: BTreeSet<TerminalId>,
    #[serde(skip)]
    judged_by: BTreeMap<(Day, u64, Option<TerminalId>), Arc<Policy>>,
    payments: BTreeMap<String, BTreeMap<HubPlace, (Outcome, Slot)>>,
    settled: BTreeMap<String, BTreeMap<HubPlace, i64>>,
    pub(crate) decisions: DecisionBook,
    locks: BTreeMap<(u64, RecordId), LockFact>,
    lock_heads: BTreeMap<RecordId, u64>,
    revocations: BTreeMap<HubPlace, Revocation>,
    enrolled: BTreeMap<LogId, HubPlace>,
}

impl HubFacts {
    pub(crate) fn new(base: Policy) -> Self {
        Self {
            base,
            changes: BTreeMap::new(),
            tills: BTreeSet::new(),
            judged_by: BTreeMap::new(),
            payments: BTreeMap::new(),
            settled: BTreeMap::new(),
            decisions: DecisionBook::default(),
            locks: BTreeMap::new(),
            lock_heads: BTreeMap::new(),
            revocations: BTreeMap::new(),
            enrolled: BTreeMap::new(),
        }
    }

    /// The store's policy of a day, for records covered by lock `lock` (or by none).
    pub(crate) fn policy(&self, day: Day, lock: u64) -> Arc<Policy> {
        self.policy_for(day, lock, None)
    }

    /// The policy of a day for records of a till.
    pub(crate) fn policy_of_till(&self, day: Day, lock: u64, till: &TerminalId) -> Arc<Policy> {
        self.policy_for(day, lock, self.tills.get(till))
    }

    fn policy_for(&self, day: Day, lock: u64, till: Option<&TerminalId>) -> Arc<Policy> {
        match self.judged_by.get(&(day, lock, till.cloned())) {
            Some(policy) => Arc::clone(policy),
            None => Arc::new(self.derive_policy(day, lock, till)),
        }
    }

    /// Remembers the policies of all days in sight, so that judging a record costs a look-up.
    pub(crate) fn prepare_policy(&mut self, day: Day, lock: u64, till: &TerminalId) {
        let till = self.tills.get(till).cloned();
        let of = (day, lock, till);
        if !self.judged_by.contains_key(&of) {
            let policy = Arc::new(self.derive_policy(day, lock, of.2.as_ref()));
            self.judged_by.insert(of, policy);
        }
    }

    /// A change never re-judges what a lock covered before it, nor, if it names no day, a day that was locked.
    fn derive_policy(&self, day: Day, lock: u64, till: Option<&TerminalId>) -> Policy {
        let locked_at =
            self.locks.iter().find(|((number, _), _)| *number == lock).map(|(_, fact)| fact.place);
        let applies = |place: &HubPlace, change: &PolicyChange| {
            let begun = match change.from {
                Some(from) => from <= day,
                None => !self.locks.values().any(|lock| lock.place < *place && day < lock.open_day),
            };
            begun && locked_at.is_none_or(|locked| *place < locked)
        };
        let changes: Vec<&PolicyChange> =
            self.changes.iter().filter(|row| applies(row.0, row.1)).map(|row| row.1).collect();
        let mut policy = self.base.clone();
        policy.apply(&changes.iter().copied(), till);
        policy
    }

    pub(crate) fn receipt_scope_ever_wide(&self) -> bool {
        let wide = |change: &PolicyChange| {
            change.parts().any(|setting| setting.key == "receipt_scope" && setting.value != "till")
        };
        self.base.receipt_scope != ReceiptScope::Till || self.changes.values().any(wide)
    }

    /// The last outcome of a payment, and the record that states it.
    pub(crate) fn outcome(&self, payment: &str) -> Option<(Outcome, Slot)> {
        self.payments.get(payment)?.values().next_back().copied()
    }

    /// Earliest effective time of a settlement that contains a payment (by payment id or authorisation).
    pub(crate) fn settled_ms(&self, payment: &str) -> Option<i64> {
        self.settled.get(payment)?.values().min().copied()
    }

    pub(crate) fn is_revoked_terminal(&self, terminal: &TerminalId) -> bool {
        self.revocations.values().any(|revocation| revocation.terminal == *terminal)
    }

    /// Whether a record was written after its till lost the right to. A revocation of all incarnations means those
    /// enrolled by then; one that comes after a lock does not reach what the lock covers.
    pub(crate) fn is_revoked(&self, log: &LogId, seq: u64, lock: u64) -> bool {
        let locked_at =
            self.locks.iter().find(|((number, _), _)| *number == lock).map(|(_, fact)| fact.place);
        self.revocations.iter().any(|(place, revocation)| {
            let enrolled_later = revocation.incarnation.is_none()
                && self.enrolled.get(log).is_some_and(|enrolled| enrolled > place);
            revocation.terminal == log.terminal
                && revocation.incarnation.is_none_or(|incarnation| incarnation == log.incarnation)
                && seq > revocation.last_valid_seq
                && !enrolled_later
                && locked_at.is_none_or(|locked| *place < locked)
        })
    }

    /// The record that enrolled a log.
    pub(crate) fn enrolled_by(&self, log: &LogId) -> Option<RecordId> {
        self.enrolled.get(log).map(|place| place.2)
    }

    /// Number of the last lock; 0 before the first.
    pub(crate) fn last_lock(&self) -> u64 {
        self.locks.keys().map(|(number, _)| *number).max().unwrap_or(0)
    }

    /// First day that no lock covers; `None` before the first lock.
    pub(crate) fn open_day(&self) -> Option<Day> {
        self.locks.values().map(|lock| lock.open_day).max()
    }

    /// Number of the first lock that the hub took after a place in its log.
    pub(crate) fn first_lock_after(&self, place: HubPlace) -> u64 {
        let later = self.locks.iter().filter(|(_, lock)| lock.place > place);
        later.map(|((number, _), _)| *number).min().unwrap_or(UNLOCKED)
    }

    /// Whether a record of `day` that lock `rank` covers (or none) came after a lock had closed its day.
    pub(crate) fn is_late(&self, day: Day, rank: u64) -> bool {
        self.locks.iter().any(|((number, _), lock)| *number < rank && day < lock.open_day)
    }

    /// The lock that names a record as head of its log.
    pub(crate) fn lock_of_head(&self, id: &RecordId) -> u64 {
        self.lock_heads.get(id).copied().unwrap_or(UNLOCKED)
    }
}

impl Facts {
    /// Files a hub record and marks everything it bears on.
    pub(super) fn file_hub(&mut self, slot: Slot, statement: &HubRecord) {
        let record = Arc::clone(self.record(slot));
        let place: HubPlace = (record.log.incarnation, record.seq, record.id);
        match statement {
            HubRecord::Enrol(enrolment) => {
                let first = self.hub.enrolled.entry(enrolment.log.clone()).or_insert(place);
                *first = place.min(*first);
                self.touch_terminal(&enrolment.log.terminal, slot);
            }
            HubRecord::Revoke { terminal, incarnation, last_valid_seq } => {
                let revocation = Revocation {
                    terminal: terminal.clone(),
                    incarnation: *incarnation,
                    last_valid_seq: *last_valid_seq,
                };
                self.hub.revocations.insert(place, revocation);
                self.touch_terminal(terminal, slot);
            }
            HubRecord::Config(change) => self.file_policy(place, change, slot),
            HubRecord::Payment(payment) => {
                let outcomes = self.hub.payments.entry(payment.payment.clone()).or_default();
                outcomes.insert(place, (payment.outcome, slot));
                self.unanswered.remove(&payment.payment);
                self.touch_payment(&payment.payment, slot);
            }
            HubRecord::Settlement(settlement) => {
                for settled in &settlement.payments {
                    let times = self.hub.settled.entry(settled.payment.clone()).or_default();
                    times.insert(place, record.effective_ms);
                    self.touch_payment(&settled.payment, slot);
                }
            }
            HubRecord::Decision(decision) => {
                self.file_decision(&record.log, record.seq, record.id, decision, slot);
            }
            HubRecord::Lock(lock) => self.file_lock(place, lock, slot),
            HubRecord::ForeignOriginal(sale) => self.file_foreign(slot, sale),
        }
    }

    fn touch_terminal(&mut self, terminal: &TerminalId, cause: Slot) {
        if !self.hub.is_revoked_terminal(terminal) {
            return;
        }
        self.dirty_logs.insert(LogCase::Revoked(terminal.clone()));
        let slots: Vec<Slot> = self.logs_of(terminal).flat_map(|(_, log)| log.from(0)).collect();
        for slot in slots {
            self.touch(slot, Some(cause));
        }
    }

    fn touch_payment(&mut self, payment: &str, cause: Slot) {
        for joint in [Joint::Payment(payment), Joint::Authorisation(payment)] {
            let first = self.sharing(joint).first().copied();
            first.into_iter().for_each(|slot| self.touch(slot, Some(cause)));
        }
    }

    fn file_policy(&mut self, place: HubPlace, change: &PolicyChange, cause: Slot) {
        let was_wide = self.hub.receipt_scope_ever_wide();
        self.hub.tills.extend(change.tills());
        self.hub.changes.insert(place, change.clone());
        self.hub.judged_by.clear();
        if !was_wide && self.hub.receipt_scope_ever_wide() {
            self.join_receipts_store_wide();
        }
        self.touch_all(cause);
    }

    /// A new rule: everything is judged again (what a lock covers comes out as before).
    fn touch_all(&mut self, cause: Slot) {
        self.families.touch_everything(Some(cause));
        self.dirty_everything();
    }

    fn file_decision(&mut self, log: &LogId, seq: u64, id: RecordId, decision: &Decision, cause: Slot) {
        let issued = Issued { id, log: log.clone(), seq, decision: decision.clone() };
        let Some(key) = self.hub.decisions.insert(issued) else { return };
        let named = decision.member.and_then(|member| self.slot(&member));
        let subject = decision.subject.parse::<RecordId>().ok();
        let about = subject.and_then(|id| self.slot(&id).or_else(|| self.first_referrer(&id)));
        for slot in named.into_iter().chain(about) {
            self.touch(slot, Some(cause));
        }
        self.hub_decided.insert(key, cause);
    }

    pub(super) fn first_referrer(&self, id: &RecordId) -> Option<Slot> {
        self.referring(super::facts::RefKey::Id(id)).first().copied()
    }

    /// Cases that were decided since the last call, with the decision's record.
    pub(crate) fn take_decided(&mut self) -> BTreeMap<CaseKey, Slot> {
        std::mem::take(&mut self.hub_decided)
    }

    fn file_lock(&mut self, place: HubPlace, lock: &Lock, cause: Slot) {
        let fact = LockFact { place, open_day: lock.open_day };
        self.hub.locks.insert((lock.number, place.2), fact);
        self.hub.judged_by.clear();
        for head in &lock.heads {
            let first = self.hub.lock_heads.entry(head.id).or_insert(lock.number);
            *first = lock.number.min(*first);
            if let Some(slot) = self.slot(&head.id) {
                self.settle_lock(slot);
            }
        }
        for slot in self.days.slots(..lock.open_day) {
            if self.entry(slot).lock > lock.number {
                self.touch(slot, Some(cause));
            }
        }
        if self.hub.changes.values().any(|change| change.from.is_none()) || !self.hub.revocations.is_empty() {
            self.touch_all(cause);
        }
    }

    fn file_foreign(&mut self, slot: Slot, sale: &ForeignOriginal) {
        self.entry_mut(slot).ms = sale.effective_ms;
        let place = |slot: Slot| {
            let record = self.record(slot);
            (record.log.incarnation, record.seq, record.id)
        };
        let known = self.foreign.get(&sale.id).copied();
        if known.is_none_or(|known| place(slot) < place(known)) {
            self.foreign.insert(sale.id, slot);
        }
        for referrer in self.referrers_of(slot) {
            self.families.join(referrer, slot);
            self.settle_time(referrer);
        }
    }
}
