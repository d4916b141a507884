//! The cases of a store, and what is asked of them more often than all can be looked through: how many are open, which are
//! open on a till's day, and which have changed since somebody looked. Decides nothing about a case.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize, Serializer};

use super::books::Books;
use crate::ids::LogId;
use crate::review::{Case, CaseKey, CaseState, CaseType};
use crate::time::Day;

/// Cases by type and subject. Its image is the cases alone.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(from = "BTreeMap<CaseKey, Case>")]
pub(crate) struct Cases {
    rows: BTreeMap<CaseKey, Case>,
    open: usize,
}

impl From<BTreeMap<CaseKey, Case>> for Cases {
    fn from(rows: BTreeMap<CaseKey, Case>) -> Self {
        let open = rows.values().filter(|case| case.state == CaseState::Open).count();
        Self { rows, open }
    }
}

impl Serialize for Cases {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.rows.serialize(to)
    }
}

impl Cases {
    /// Puts a case in the place of the one with its key, or takes that one away; gives back what was there.
    pub(crate) fn set(&mut self, key: &CaseKey, case: Option<Case>) -> Option<Case> {
        let is_open = |case: &Option<Case>| case.as_ref().is_some_and(|case| case.state == CaseState::Open);
        let opens = is_open(&case);
        let old = match case {
            Some(case) => self.rows.insert(key.clone(), case),
            None => self.rows.remove(key),
        };
        self.open = self.open + usize::from(opens) - usize::from(is_open(&old));
        old
    }

    pub(crate) fn get(&self, key: &CaseKey) -> Option<&Case> {
        self.rows.get(key)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Case> {
        self.rows.values()
    }

    /// Those of one type, by subject.
    pub(crate) fn of_type(&self, case_type: CaseType) -> impl Iterator<Item = &Case> {
        let rows = self.rows.range(CaseKey::new(case_type, "")..);
        rows.map(|row| row.1).take_while(move |case| case.key.case_type == case_type)
    }
}

/// Open cases by where they are.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct OpenCases {
    /// By the till's day of each member.
    of_till_day: BTreeMap<(Day, LogId), BTreeSet<CaseKey>>,
    /// Those without members: they are about a log.
    of_logs: BTreeSet<CaseKey>,
}

impl OpenCases {
    /// Files a case under the till-days of its members, if it is open.
    pub(crate) fn add(&mut self, case: &Case, till_days: impl Iterator<Item = (Day, LogId)>) {
        if case.state != CaseState::Open {
            return;
        }
        if case.members.is_empty() {
            self.of_logs.insert(case.key.clone());
        }
        for till_day in till_days {
            self.of_till_day.entry(till_day).or_default().insert(case.key.clone());
        }
    }

    /// Takes a case out that was added.
    pub(crate) fn take_out(&mut self, case: &Case, till_days: impl Iterator<Item = (Day, LogId)>) {
        if case.state != CaseState::Open {
            return;
        }
        self.of_logs.remove(&case.key);
        for till_day in till_days {
            if let Some(keys) = self.of_till_day.get_mut(&till_day) {
                keys.remove(&case.key);
                if keys.is_empty() {
                    self.of_till_day.remove(&till_day);
                }
            }
        }
    }

    /// The cases that name a record of a till's day, or its log, by type and subject.
    fn of(&self, day: Day, log: &LogId) -> BTreeSet<&CaseKey> {
        let mut keys: BTreeSet<&CaseKey> =
            self.of_till_day.get(&(day, log.clone())).into_iter().flatten().collect();
        if !self.of_logs.is_empty() {
            let subject = format!("{log}:");
            keys.extend(self.of_logs.iter().filter(|key| key.subject.starts_with(&subject)));
        }
        keys
    }
}

/// Changes that are remembered; whoever has not looked for longer compares all cases.
const CHANGES_KEPT: usize = 1_024;

/// Which cases changed last. Not part of an image: it counts from the start of the process.
#[derive(Clone, Debug, Default)]
pub(crate) struct CaseChanges {
    count: u64,
    newest: VecDeque<CaseKey>,
}

impl CaseChanges {
    /// Notes that a case opened, changed or ended.
    pub(crate) fn note(&mut self, key: &CaseKey) {
        if self.newest.len() == CHANGES_KEPT {
            self.newest.pop_front();
        }
        self.newest.push_back(key.clone());
        self.count += 1;
    }

    /// Each case that changed after so many changes, once; `None` if that is longer ago than is remembered.
    fn since(&self, count: u64) -> Option<BTreeSet<&CaseKey>> {
        let new = usize::try_from(self.count.checked_sub(count)?).ok()?;
        let from = self.newest.len().checked_sub(new)?;
        Some(self.newest.range(from..).collect())
    }
}

impl Books {
    /// The current cases, by type and subject.
    pub fn cases(&self) -> impl Iterator<Item = &Case> {
        self.cases.all()
    }

    /// A case by its id.
    #[must_use]
    pub fn case(&self, id: &str) -> Option<&Case> {
        self.cases().find(|case| case.id == id)
    }

    /// How many cases are open.
    #[must_use]
    pub fn open_case_count(&self) -> usize {
        self.cases.open
    }

    /// How many times a case opened, changed or ended since these books were made or read back.
    #[must_use]
    pub fn case_changes(&self) -> u64 {
        self.case_changes.count
    }

    /// Key and present form (`None`: it ended) of each case that changed after so many changes; `None` if that is longer ago
    /// than is remembered, and all have to be compared.
    #[must_use]
    pub fn cases_changed_since(&self, count: u64) -> Option<Vec<(&CaseKey, Option<&Case>)>> {
        let changed = self.case_changes.since(count)?;
        Some(changed.into_iter().map(|key| (key, self.cases.get(key))).collect())
    }

    /// Till-days of the records that a case names.
    pub fn till_days_of<'a>(&'a self, case: &'a Case) -> impl Iterator<Item = (Day, LogId)> + use<'a> {
        case.members.iter().filter_map(|id| {
            let record = self.record(id)?;
            Some((record.business_day, record.log.clone()))
        })
    }

    /// Every till-day that an open case names.
    pub fn till_days_in_question(&self) -> impl Iterator<Item = &(Day, LogId)> {
        self.open_cases.of_till_day.keys()
    }

    /// Open cases that name no record but a log, and with it each of its days.
    pub fn cases_of_logs(&self) -> impl Iterator<Item = &CaseKey> {
        self.open_cases.of_logs.iter()
    }

    /// Open cases that name a record of a till's day, or its log, by type and subject.
    pub(super) fn open_cases_of(&self, day: Day, log: &LogId) -> impl Iterator<Item = &Case> {
        self.open_cases.of(day, log).into_iter().filter_map(|key| self.cases.get(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(key: &CaseKey, state: CaseState) -> Case {
        Case {
            id: String::new(),
            key: key.clone(),
            about: String::new(),
            severity: 1,
            state,
            members: BTreeSet::new(),
            held: BTreeMap::new(),
            amount_minor: 0,
            currency: None,
            verdicts: Vec::new(),
            opened_ms: 0,
            version: Case::version_of(&BTreeSet::new()),
            decisions: Vec::new(),
        }
    }

    #[test]
    fn open_cases_are_counted_as_they_open_change_and_end_and_when_an_image_is_read() {
        let key = |n: usize| CaseKey::new(CaseType::SequenceGap, n.to_string());
        let mut cases = Cases::default();
        let mut set = |n: usize, state: Option<CaseState>| {
            cases.set(&key(n), state.map(|state| case(&key(n), state)));
            let open = cases.all().filter(|case| case.state == CaseState::Open).count();
            let read_back: Cases = crate::codec::decode::<_, 4_096>(&crate::codec::encode(&cases)).unwrap();
            assert_eq!((cases.open, read_back.open), (open, open));
            open
        };
        let (open, decided) = (Some(CaseState::Open), Some(CaseState::Decided));
        assert_eq!([set(1, open), set(2, open), set(2, open), set(3, decided)], [1, 2, 2, 2]);
        assert_eq!(
            [set(1, decided), set(1, open), set(1, None), set(1, None), set(3, None)],
            [1, 2, 1, 1, 1]
        );
        let of = |case_type| cases.of_type(case_type).map(|case| case.key.clone()).collect::<Vec<_>>();
        assert_eq!(of(CaseType::SequenceGap), [key(2)]);
        assert!(of(CaseType::SuspectedDuplicate).is_empty());
    }

    #[test]
    fn changes_are_told_once_and_forgotten_ones_are_not_passed_over() {
        let key = |n: usize| CaseKey::new(CaseType::SequenceGap, n.to_string());
        let mut changes = CaseChanges::default();
        assert_eq!(changes.since(0), Some(BTreeSet::new()));
        for n in [1, 2, 1] {
            changes.note(&key(n));
        }
        assert_eq!(changes.since(0), Some([&key(1), &key(2)].into()));
        assert_eq!(changes.since(2), Some([&key(1)].into()));
        assert_eq!(changes.since(3), Some(BTreeSet::new()));
        assert_eq!(changes.since(4), None, "a count of another life");
        for n in 0..CHANGES_KEPT {
            changes.note(&key(n));
        }
        assert_eq!(changes.since(2), None);
        assert_eq!(changes.since(3).map(|keys| keys.len()), Some(CHANGES_KEPT));
    }
}
