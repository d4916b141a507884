//! The image of the books for a restart: what was judged, so that nothing has to be judged again. In parts, one per
//! business day and one shared, so that saving costs what changed. The records themselves are not in it: the log has
//! them, and they are filed again on opening. An image that does not fit the records is refused, never mended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::books::Books;
use super::families::Slot;
use super::journal::{JournalHead, Sheet};
use super::judgement::Outcome;
use super::log::LogCase;
use crate::ids::{LogId, RecordId, StoreId};
use crate::money::Currency;
use crate::policy::Policy;
use crate::record::Record;
use crate::review::Case;
use crate::time::Day;

/// Outcomes of the records of one business day, with the hash of its view.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DayPart {
    day: Day,
    view: [u8; 32],
    outcomes: Vec<(RecordId, Outcome)>,
}

type Amounts = Vec<(Account, Currency, i128)>;

/// A record with what its writer had seen, as it is filed.
pub type Filed = (Arc<Record>, Vec<(LogId, u64)>);

/// What belongs to no day: the journal's head, balances, cases.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SharedPart {
    records: u64,
    journal: JournalHead,
    balances: Vec<(Day, Amounts)>,
    family_cases: Vec<(RecordId, Vec<Case>)>,
    log_cases: Vec<(LogCase, Case)>,
    other_cases: Vec<Case>,
}

/// Why an image cannot be used: judge everything anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint does not fit the records ({0}); the books have to be projected anew from the log")]
pub struct Stale(String);

impl Books {
    /// Days whose part changed since the last call.
    pub fn take_dirty_days(&mut self) -> BTreeSet<Day> {
        std::mem::take(&mut self.dirty_days)
    }

    /// The part of a day. Call after a settle.
    #[must_use]
    pub fn day_part(&self, day: Day) -> DayPart {
        let slots = self.facts.days.get(&day).map_or(&[][..], Vec::as_slice);
        let judged = slots
            .iter()
            .filter_map(|slot| Some((self.facts.record(*slot).id, self.outcomes[*slot as usize].clone()?)));
        let outcomes = judged.collect();
        DayPart { day, view: self.day_hashes().get(&day).copied().unwrap_or_default(), outcomes }
    }

    /// The shared part. Call after a settle.
    #[must_use]
    pub fn shared_part(&self) -> SharedPart {
        let amounts = |sheet: &Sheet| {
            sheet.iter().map(|(account, currency, sum)| (account.clone(), currency, sum)).collect()
        };
        let mut others: BTreeMap<_, _> = self.cases.clone();
        let mut family_cases = Vec::new();
        for (slot, keys) in &self.family_cases {
            let cases: Vec<Case> = keys.iter().filter_map(|key| others.remove(key)).collect();
            family_cases.push((self.facts.record(*slot).id, cases));
        }
        let log_cases =
            self.log_cases.iter().filter_map(|(key, of)| Some((of.clone(), others.remove(key)?))).collect();
        SharedPart {
            records: self.outcomes.iter().flatten().count() as u64,
            journal: self.journal,
            balances: self.sheets.iter().map(|(day, sheet)| (*day, amounts(sheet))).collect(),
            family_cases,
            log_cases,
            other_cases: others.into_values().collect(),
        }
    }

    /// Books as they were at the checkpoint, with what has come since filed and touched.
    ///
    /// # Errors
    /// The image names a record that is not there, or not as many as it should.
    pub fn restore(
        store: StoreId,
        policy: Policy,
        records: &[Filed],
        shared: SharedPart,
        days: Vec<DayPart>,
    ) -> Result<Self, Stale> {
        let mut books = Self::new(store, policy);
        let judged: BTreeSet<RecordId> =
            days.iter().flat_map(|part| part.outcomes.iter().map(|row| row.0)).collect();
        for (record, seen) in records.iter().filter(|(record, _)| judged.contains(&record.id)) {
            books.insert(Arc::clone(record), seen);
        }
        if books.len() != judged.len() || judged.len() as u64 != shared.records {
            return Err(Stale(format!("{} of {} records", books.len(), shared.records)));
        }
        books.facts.settle_cycles();
        books.facts.families.clear_touched();
        books.facts.dirty_logs.clear();
        books.facts.take_decided();
        books.take_image(shared, days)?;
        for (record, seen) in records.iter().filter(|(record, _)| !judged.contains(&record.id)) {
            books.insert(Arc::clone(record), seen);
        }
        Ok(books)
    }

    fn take_image(&mut self, shared: SharedPart, days: Vec<DayPart>) -> Result<(), Stale> {
        for part in days {
            self.day_views.insert(part.day, OnceLock::from(part.view));
            for (id, outcome) in part.outcomes {
                let slot = self.slot_of(&id)?;
                self.outcomes[slot as usize] = Some(outcome);
            }
        }
        self.journal = shared.journal;
        for (day, amounts) in shared.balances {
            let sheet = self.sheets.entry(day).or_default();
            amounts.into_iter().for_each(|(account, currency, sum)| sheet.add(account, currency, sum));
        }
        for (id, cases) in shared.family_cases {
            let slot = self.slot_of(&id)?;
            self.family_cases.insert(slot, cases.iter().map(|case| case.key.clone()).collect());
            self.cases.extend(cases.into_iter().map(|case| (case.key.clone(), case)));
        }
        for (log_case, case) in shared.log_cases {
            self.log_cases.insert(case.key.clone(), log_case);
            self.cases.insert(case.key.clone(), case);
        }
        self.cases.extend(shared.other_cases.into_iter().map(|case| (case.key.clone(), case)));
        Ok(())
    }

    fn slot_of(&self, id: &RecordId) -> Result<Slot, Stale> {
        self.facts.slot(id).ok_or_else(|| Stale(format!("no record {}", id.short())))
    }
}
