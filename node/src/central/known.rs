//! What is known to stand in the tables: what is new is what differs from it.

use std::collections::{BTreeMap, BTreeSet};

use engine::replica::{Replica, Revision};
use engine::review::{Case, CaseKey};

use super::rows::{CaseMark, DayKey, DayRow};

/// What the tables say of a store's cases and days.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) cases: BTreeMap<String, CaseMark>,
    pub(super) days: BTreeMap<DayKey, DayRow>,
    /// All of it was compared with the books as they were then: what changed since is enough.
    compared: Option<Compared>,
}

/// A case that may differ from what is known.
pub(super) struct Suspect<'a> {
    pub(super) id: String,
    /// `None`: it ended before anybody looked.
    pub(super) key: Option<&'a CaseKey>,
    /// As it is now; `None`: gone.
    pub(super) case: Option<&'a Case>,
}

/// The books at a moment: their life, and how often a case had changed in it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compared {
    revision: Revision,
    case_changes: u64,
}

impl Compared {
    /// The books as they are.
    pub(super) fn with(replica: &Replica) -> Self {
        Self { revision: replica.revision(), case_changes: replica.books().case_changes() }
    }
}

/// What `Known` becomes once the news are written.
#[derive(Debug)]
pub(super) struct Changes {
    pub(super) cases: BTreeMap<String, Option<CaseMark>>,
    pub(super) days: BTreeMap<DayKey, DayRow>,
    pub(super) compared: Compared,
}

impl Known {
    /// Whether the books were never compared with all that is known, in this life of theirs.
    pub(super) fn is_new_to(&self, replica: &Replica) -> bool {
        let revision = replica.revision();
        !self.compared.is_some_and(|compared| compared.revision.is_of_one_life_with(&revision))
    }

    /// Cases that may differ from what is known.
    pub(super) fn suspects<'a>(&self, replica: &'a Replica) -> Vec<Suspect<'a>> {
        let books = replica.books();
        let since = self.compared.filter(|_| !self.is_new_to(replica));
        if let Some(changed) = since.and_then(|compared| books.cases_changed_since(compared.case_changes)) {
            let suspect =
                |(key, case): (&'a CaseKey, _)| Suspect { id: key.id(books.store()), key: Some(key), case };
            return changed.into_iter().map(suspect).collect();
        }
        let here = |case: &'a Case| Suspect { id: case.id.clone(), key: Some(&case.key), case: Some(case) };
        let mut all: Vec<Suspect<'a>> = books.cases().map(here).collect();
        let ids: BTreeSet<&str> = all.iter().map(|suspect| suspect.id.as_str()).collect();
        let gone = self.cases.keys().filter(|id| !ids.contains(id.as_str()));
        let gone: Vec<Suspect<'a>> =
            gone.map(|id| Suspect { id: id.clone(), key: None, case: None }).collect();
        all.extend(gone);
        all
    }

    pub(super) fn take(&mut self, changes: Changes) {
        self.compared = Some(changes.compared);
        self.days.extend(changes.days);
        for (id, mark) in changes.cases {
            match mark {
                Some(mark) => drop(self.cases.insert(id, mark)),
                None => drop(self.cases.remove(&id)),
            }
        }
    }
}
