//! The books of one store: the one door of the merge layer. Records go in with `insert`; `settle` judges again what
//! they touched, appends to the journal what changed (D − J) and tells which cases opened, changed or ended.
//! Invariant: after every settle, the books equal those that a full projection of the same set would give.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::case_index::{CaseChanges, Cases, OpenCases};
use super::facts::{Facts, RefKey, references};
use super::families::Slot;
use super::image::{Views, read_views, write_views};
use super::journal::{JournalEntry, JournalHead, Posting, Sheet, difference};
use super::judgement::{Outcome, Standing, Verdicts, judge};
use super::log::{LogCase, LogCases};
use super::outcomes::Outcomes;
use super::z_check::ZChecked;
use crate::attic::Workroom;
use crate::ids::{LogId, RecordId, StoreId};
use crate::money::Currency;
use crate::policy::Policy;
use crate::record::Record;
use crate::review::{Case, CaseChange, CaseEvent, CaseKey, CaseState, CaseType};
use crate::shelf::Due;
use crate::time::Day;
use crate::transaction::{Body, DayClose, Reference};

/// What a settle changed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settled {
    /// Entries appended to the journal.
    pub journal: Vec<JournalEntry>,
    /// What happened to cases.
    pub cases: Vec<CaseEvent>,
    /// Records whose standing is new.
    pub standing: Vec<(RecordId, Standing)>,
}

/// Cases of logs that are looked at with one family.
const LOG_CASES_A_FAMILY: usize = 8;

/// The books of one store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Books {
    pub(super) facts: Facts,
    pub(super) base: Policy,
    pub(super) outcomes: Outcomes,
    pub(super) cases: Cases,
    pub(super) open_cases: OpenCases,
    #[serde(skip)]
    pub(super) case_changes: CaseChanges,
    #[serde(skip)]
    pub(super) z_checked: ZChecked,
    /// Cases by the family that has them, under one of its members.
    pub(super) family_cases: BTreeMap<Slot, BTreeSet<CaseKey>>,
    pub(super) log_cases: LogCases,
    pub(super) journal: JournalHead,
    /// Journal of records that were not judged yet since the start.
    pub(super) restored: BTreeMap<RecordId, Sheet>,
    pub(super) sheets: BTreeMap<Day, Sheet>,
    /// The rows of the restated view of each day: added up when they are first asked for, and kept up to date from then on.
    #[serde(serialize_with = "write_views", deserialize_with = "read_views")]
    pub(super) day_views: Views,
}

impl Books {
    /// Empty books. `policy` is what the store starts from; the hub's records change it.
    #[must_use]
    pub fn new(store: StoreId, policy: Policy) -> Self {
        Self::in_room(store, policy, &Workroom::default())
    }

    /// Empty books that keep more or less unpacked, and the rest elsewhere.
    #[must_use]
    pub fn in_room(store: StoreId, policy: Policy, room: &Workroom) -> Self {
        Self {
            facts: Facts::new(store, policy.clone(), room),
            base: policy,
            outcomes: Outcomes::new(room),
            cases: Cases::default(),
            open_cases: OpenCases::default(),
            case_changes: CaseChanges::default(),
            z_checked: ZChecked::default(),
            family_cases: BTreeMap::new(),
            log_cases: LogCases::default(),
            journal: JournalHead::default(),
            restored: BTreeMap::new(),
            sheets: BTreeMap::new(),
            day_views: BTreeMap::new(),
        }
    }

    /// Files a record, in any order, as often as it comes. `seen`: what changed in what its writer held (log → highest
    /// number), given with the first record of a batch. Nothing is posted before `settle`.
    #[allow(
        clippy::needless_pass_by_value,
        reason = "the caller hands the record over; how it is kept is ours"
    )]
    pub fn insert(&mut self, record: Arc<Record>, seen: &[(LogId, u64)]) {
        if self.facts.insert(&record, seen).is_some() {
            self.outcomes.push();
            self.rest_a_chunk(Due::Overdue);
        }
    }

    /// Takes an entry of the journal back from the log, at a restart, before the first settle.
    pub fn restore_journal(&mut self, entry: &JournalEntry) {
        self.restored.entry(entry.record).or_default().add_all(&entry.postings, 1);
        self.sheets.entry(entry.date).or_default().add_all(&entry.postings, 1);
        self.journal = JournalHead { number: entry.number, hash: entry.hash };
    }

    /// Judges everything that was touched since the last settle. `today` dates corrections.
    pub fn settle(&mut self, today: Day) -> Settled {
        let mut settled = Settled::default();
        while self.settle_part(today, usize::MAX, &mut settled) {}
        settled
    }

    /// Judges some of what was touched, about `limit` families, and adds to `settled` what that changed. Returns whether
    /// something is left: until then a record that was not judged stands as if it had not arrived.
    pub fn settle_part(&mut self, today: Day, limit: usize, settled: &mut Settled) -> bool {
        self.facts.settle_cycles();
        let mut suspects = self.touch_decided();
        let touched = self.facts.families.take_touched(limit);
        for (members, cause) in &touched {
            for slot in members {
                let (record, lock) = (Arc::clone(self.facts.record(*slot)), self.facts.entry(*slot).lock);
                self.facts.hub.prepare_policy(record.business_day, lock, &record.log.terminal);
            }
            let verdicts = judge(&self.facts, members);
            suspects.extend(self.with_twins(members));
            self.apply(members, verdicts, *cause, today, settled);
            self.rest_a_chunk(Due::Overdue);
        }
        self.settle_log_cases(limit.saturating_mul(LOG_CASES_A_FAMILY), settled);
        for slot in suspects {
            self.settle_suspect(slot, settled);
            self.rest_a_chunk(Due::Overdue);
        }
        self.facts.families.is_touched() || !self.facts.dirty_logs.is_empty()
    }

    /// About how many records wait to be judged.
    pub(crate) fn unjudged(&self) -> usize {
        self.facts.families.touched()
    }

    /// Packs a chunk of what is not in use; whether there was any. No answer depends on it.
    pub(crate) fn rest_a_chunk(&mut self, due: Due) -> bool {
        self.facts.rest_a_chunk(due) || self.outcomes.rest_a_chunk(due)
    }

    /// A decision touches the members of the case it names, wherever the case comes from.
    fn touch_decided(&mut self) -> BTreeSet<Slot> {
        let mut suspects = BTreeSet::new();
        for (key, cause) in self.facts.take_decided() {
            let members: Vec<Slot> = self.cases.get(&key).map(|case| self.slots_of(case)).unwrap_or_default();
            for slot in members {
                self.facts.touch(slot, Some(cause));
            }
            if let Some(case) = self.log_cases.get(&key) {
                self.facts.dirty_logs.insert(case.clone());
            }
            if key.case_type == CaseType::SuspectedDuplicate {
                suspects.extend(key.subject.parse::<RecordId>().ok().and_then(|id| self.facts.slot(&id)));
            }
        }
        suspects
    }

    fn slots_of(&self, case: &Case) -> Vec<Slot> {
        case.members.iter().filter_map(|id| self.facts.slot(id)).collect()
    }

    /// Records whose suspected duplicates may have changed with these.
    fn with_twins(&self, members: &[Slot]) -> BTreeSet<Slot> {
        let mut with = BTreeSet::new();
        for slot in members {
            if self.facts.record(*slot).transaction.basket().is_some() {
                let window = self.facts.policy(*slot).duplicate_window_ms;
                // Half the history may be judged by another policy: look twice as far.
                let twins = self.facts.twins(*slot, window.saturating_mul(2));
                // One without twins is suspected by nobody, unless it was before.
                if !twins.is_empty() || self.has_suspects() {
                    with.insert(*slot);
                    with.extend(twins);
                }
            }
        }
        with
    }

    fn apply(
        &mut self,
        members: &[Slot],
        verdicts: Verdicts,
        cause: Option<Slot>,
        today: Day,
        settled: &mut Settled,
    ) {
        for (slot, outcome) in verdicts.outcomes {
            self.apply_outcome(slot, outcome, cause, today, settled);
        }
        let before: BTreeSet<CaseKey> =
            members.iter().filter_map(|slot| self.family_cases.remove(slot)).flatten().collect();
        let after: BTreeMap<CaseKey, Case> =
            verdicts.cases.into_iter().map(|case| (case.key.clone(), case)).collect();
        for key in before.iter().filter(|key| !after.contains_key(key)) {
            self.set_case(key, None, settled);
        }
        if !after.is_empty() {
            self.family_cases.insert(members[0], after.keys().cloned().collect());
        }
        for (key, case) in after {
            self.set_case(&key, Some(case), settled);
        }
    }

    fn apply_outcome(
        &mut self,
        slot: Slot,
        outcome: Outcome,
        cause: Option<Slot>,
        today: Day,
        settled: &mut Settled,
    ) {
        let record = Arc::clone(self.facts.record(slot));
        let of_log = self.facts.integrity_cases(slot);
        of_log.into_iter().for_each(|case| self.facts.dirty_logs.insert(case));
        let before = self.outcomes.get(slot).cloned();
        if let Some(sum) = self.day_views.entry(record.business_day).or_default().get_mut() {
            sum.replace(record.id, before.as_ref(), &outcome);
        }
        if before.as_ref().map(|before| before.standing) != Some(outcome.standing) {
            settled.standing.push((record.id, outcome.standing));
        }
        let restored = self.restored.remove(&record.id).map(|sheet| sheet.postings());
        let first = before.is_none() && restored.is_none();
        // Both are there if a checkpoint judged the record and the log posted corrections after it.
        let judged = before.map(|before| before.postings.into_vec()).unwrap_or_default();
        let posted: Vec<Posting> = judged.into_iter().chain(restored.unwrap_or_default()).collect();
        let missing = difference(&outcome.postings, &posted);
        if !missing.is_empty() {
            let open = self.facts.hub.open_day();
            let in_time = first && open.is_none_or(|open| record.business_day >= open);
            let date = if in_time { record.business_day } else { open.map_or(today, |open| today.max(open)) };
            let because =
                cause.filter(|cause| !first && *cause != slot).map(|cause| self.facts.record(cause).id);
            self.sheets.entry(date).or_default().add_all(&missing, 1);
            settled.journal.push(self.journal.append(date, record.id, because, missing));
        }
        self.outcomes.set(slot, outcome);
    }

    fn settle_log_cases(&mut self, limit: usize, settled: &mut Settled) {
        let taken = self.facts.dirty_logs.take(limit);
        let mut dirty: BTreeSet<LogCase> = taken.cases.into_iter().collect();
        for (log, first, last) in taken.spans {
            dirty.extend(self.facts.log_cases_at(&log, first, last));
            dirty.extend(self.log_cases.at_numbers(&log, first, last));
        }
        // A gap and a missing tail have one form of subject; only one of them can be there.
        let others: Vec<LogCase> = dirty.iter().filter_map(LogCase::other_form).collect();
        dirty.extend(others);
        let mut found: BTreeMap<CaseKey, Option<(LogCase, Case)>> = BTreeMap::new();
        for log_case in dirty {
            let netted = |slot: Slot| self.outcomes.get(slot).is_some_and(|outcome| outcome.netted);
            match self.facts.log_case(&log_case, netted) {
                Some(case) => drop(found.insert(case.key.clone(), Some((log_case, case)))),
                // Nearly always: nothing is there and nothing was, which is known without spelling a key.
                None if self.log_cases.is_empty() => {}
                None => drop(found.entry(log_case.key()).or_default()),
            }
        }
        for (key, case) in found {
            match case {
                Some((log_case, case)) => {
                    self.log_cases.insert(&key, log_case);
                    self.set_case(&key, Some(case), settled);
                }
                None if self.log_cases.remove(&key) => self.set_case(&key, None, settled),
                None => {}
            }
        }
    }

    fn settle_suspect(&mut self, slot: Slot, settled: &mut Settled) {
        let is_twin = |slot: Slot| self.outcomes.get(slot).is_some_and(|outcome| outcome.twin_ok);
        let key = |slot: Slot| self.facts.record(slot).transaction.idempotency_key.as_ref();
        let same_key = |other: Slot| key(slot).is_some() && key(slot) == key(other);
        match self.facts.suspect(slot, is_twin, same_key) {
            Some(case) => self.set_case(&case.key.clone(), Some(case), settled),
            None if self.has_suspects() => self.set_case(&self.facts.suspect_key(slot), None, settled),
            None => {}
        }
    }

    /// Whether any suspected duplicate is a case.
    fn has_suspects(&self) -> bool {
        self.cases.of_type(CaseType::SuspectedDuplicate).next().is_some()
    }

    fn set_case(&mut self, key: &CaseKey, case: Option<Case>, settled: &mut Settled) {
        let before = self.cases.get(key);
        let change = match (before, &case) {
            (None, None) => return,
            (Some(before), Some(after)) if before == after => return,
            (_, None) => CaseChange::Resolved,
            (before, Some(after)) => match (before.map(|case| case.state), after.state) {
                (None, _) => CaseChange::Opened,
                (Some(was), CaseState::Decided) if was != CaseState::Decided => CaseChange::Decided,
                (Some(was), CaseState::SelfCancelled) if was != CaseState::SelfCancelled => {
                    CaseChange::SelfCancelled
                }
                _ => CaseChange::Changed,
            },
        };
        let old = self.cases.set(key, case.clone());
        self.index_case(key, old.as_ref());
        settled.cases.extend(case.or(old).map(|case| CaseEvent { change, case }));
    }

    /// Files a case that has just changed where it is looked up, in the place of what it was.
    fn index_case(&mut self, key: &CaseKey, before: Option<&Case>) {
        let mut open = std::mem::take(&mut self.open_cases);
        if let Some(before) = before {
            open.take_out(before, self.till_days_of(before));
        }
        if let Some(case) = self.cases.get(key) {
            open.add(case, self.till_days_of(case));
        }
        self.open_cases = open;
        self.case_changes.note(key);
    }

    /// Where they rest.
    #[must_use]
    pub fn room(&self) -> &Workroom {
        self.facts.records.room()
    }

    /// What the store starts from.
    #[must_use]
    pub fn base_policy(&self) -> &Policy {
        &self.base
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &StoreId {
        &self.facts.store
    }

    /// How many records are here.
    #[must_use]
    pub fn len(&self) -> usize {
        self.outcomes.len()
    }

    /// Whether no record is here.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.outcomes.len() == 0
    }

    /// Balance of every account that is not zero.
    #[must_use]
    pub fn balances(&self) -> BTreeMap<(Account, Currency), i128> {
        self.balances_of(self.sheets.values())
    }

    /// Balances of the journal entries dated in a range of days.
    #[must_use]
    pub fn balances_between(&self, first: Day, last: Day) -> BTreeMap<(Account, Currency), i128> {
        let days = if first <= last { Some(self.sheets.range(first..=last)) } else { None };
        self.balances_of(days.into_iter().flatten().map(|day| day.1))
    }

    fn balances_of<'a>(
        &self,
        sheets: impl Iterator<Item = &'a Sheet>,
    ) -> BTreeMap<(Account, Currency), i128> {
        let mut total = Sheet::default();
        for (account, currency, amount) in sheets.flat_map(Sheet::iter) {
            total.add(account.clone(), currency, amount);
        }
        total.into_map()
    }

    /// Sums of debit and of credit balances per currency; equal, always.
    #[must_use]
    pub fn trial_balance(&self) -> BTreeMap<Currency, (i128, i128)> {
        let mut sums: BTreeMap<Currency, (i128, i128)> = BTreeMap::new();
        for ((_, currency), amount) in self.balances() {
            let (debits, credits) = sums.entry(currency).or_default();
            *debits += amount.max(0);
            *credits += (-amount).max(0);
        }
        sums
    }

    /// A record by its id.
    #[must_use]
    pub fn record(&self, id: &RecordId) -> Option<&Arc<Record>> {
        self.facts.slot(id).map(|slot| self.facts.record(slot))
    }

    /// Records of tills with a receipt number, cash movements and day closes too, in the order K.
    #[must_use]
    pub fn find_receipt(&self, receipt: &str) -> Vec<RecordId> {
        let mut slots = self.facts.any_with_receipt(receipt);
        slots.retain(|slot| !matches!(self.facts.record(*slot).transaction.body, Body::Hub(_)));
        self.in_order(slots)
    }

    /// The record that a reference means here.
    #[must_use]
    pub fn resolve(&self, reference: &Reference) -> Option<RecordId> {
        self.facts.resolve(reference, None).map(|slot| self.facts.id_of(slot))
    }

    /// Everyone who is judged together with a record, in the order K.
    #[must_use]
    pub fn family(&self, id: &RecordId) -> Vec<RecordId> {
        self.facts.slot(id).map(|slot| self.in_order(self.facts.families.of(slot))).unwrap_or_default()
    }

    fn in_order(&self, mut slots: Vec<Slot>) -> Vec<RecordId> {
        slots.sort_by_cached_key(|slot| self.facts.place(*slot));
        slots.into_iter().map(|slot| self.facts.id(slot)).collect()
    }

    /// Where a record stands, once it is settled.
    #[must_use]
    pub fn standing(&self, id: &RecordId) -> Option<Standing> {
        self.outcome(id).map(|outcome| outcome.standing)
    }

    /// What the books say of a record now: its entries summed up.
    #[must_use]
    pub fn postings_of(&self, id: &RecordId) -> &[Posting] {
        self.outcome(id).map_or(&[], |outcome| &outcome.postings)
    }

    fn outcome(&self, id: &RecordId) -> Option<&Outcome> {
        self.outcomes.get(self.facts.slot(id)?)
    }

    /// The policy that judges a record.
    #[must_use]
    pub fn policy_of(&self, id: &RecordId) -> Option<Arc<Policy>> {
        self.facts.slot(id).map(|slot| self.facts.policy(slot))
    }

    /// First day that no lock covers; `None` before the first lock.
    #[must_use]
    pub fn open_day(&self) -> Option<Day> {
        self.facts.hub.open_day()
    }

    /// Where the journal stands.
    #[must_use]
    pub fn journal_head(&self) -> JournalHead {
        self.journal
    }

    /// References of held records that nothing here answers: the hub may find them in other stores.
    #[must_use]
    pub fn unresolved_references(&self) -> Vec<Reference> {
        let waiting = [CaseType::AwaitingOriginal, CaseType::OrphanReference];
        let held =
            waiting.into_iter().flat_map(|of| self.cases.of_type(of)).flat_map(|case| case.held.keys());
        let slots: BTreeSet<Slot> = held.filter_map(|id| self.facts.slot(id)).collect();
        let named = slots
            .iter()
            .flat_map(|slot| references(self.facts.record(*slot)).map(move |named| (*slot, named)));
        let open = named.filter(|(slot, named)| {
            RefKey::of(named).is_some() && self.facts.resolve(named, Some(*slot)).is_none()
        });
        open.map(|(_, reference)| reference.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The Z report of a till from its own records since its last close, counted cash set to what is expected.
    #[must_use]
    pub fn z_report(&self, log: &LogId) -> Option<DayClose> {
        self.facts.z_report(log)
    }

    /// Numbers that are known to exist in a log, and how many of them are here.
    #[must_use]
    pub fn capture_count(&self, log: &LogId) -> (u64, u64) {
        self.facts.logs.get(log).map_or((0, 0), |log| (log.known_to.max(log.head()), log.distinct_numbers()))
    }

    /// The same set, projected from nothing: what the incremental books must equal.
    #[must_use]
    pub fn rebuild(&self, today: Day) -> Self {
        let mut books = Self::new(self.facts.store.clone(), self.base.clone());
        self.facts.records.for_each(|_, record| {
            books.insert(Arc::clone(record), &self.facts.seen.learned_at(&record.log, record.seq));
        });
        books.settle(today);
        books
    }
}
