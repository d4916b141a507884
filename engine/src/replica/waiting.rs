//! What waits at a till for the hub: asked for with every status and by everybody who looks at the till, so it is kept up to
//! date at the cost of what is new, not of all that waits.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::Replica;
use crate::ids::WriterId;
use crate::ledger::Books;
use crate::money::Currency;
use crate::record::Record;

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

impl Waiting {
    /// Adds what waits elsewhere.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.oldest_ms = match (self.oldest_ms, other.oldest_ms) {
            (Some(one), Some(another)) => Some(one.min(another)),
            (one, another) => one.or(another),
        };
        for (currency, minor) in &other.value_minor {
            let value = self.value_minor.entry(*currency).or_insert(0);
            *value = value.saturating_add(*minor);
        }
    }
}

/// What was reckoned last.
#[derive(Default)]
pub(super) struct Reckoned(Mutex<Rows>);

impl Reckoned {
    pub(super) fn of(rows: Rows) -> Self {
        Self(Mutex::new(rows))
    }

    pub(super) fn rows(&self) -> MutexGuard<'_, Rows> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The records that wait, from a number on without a gap.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Rows {
    from: u64,
    rows: VecDeque<Row>,
    /// Of each currency how many have a value, and the sum.
    sums: BTreeMap<Currency, (u64, i128)>,
}

/// A record: its clock, and its value if it has one.
#[derive(Serialize, Deserialize)]
struct Row {
    ms: i64,
    value: Option<(Currency, i64)>,
}

impl Row {
    fn of(record: &Record) -> Self {
        let signed = record.transaction.direction();
        let basket = record.transaction.basket();
        let value = basket.map(|basket| (basket.currency, basket.total_minor().saturating_mul(signed)));
        Self { ms: record.at.ms, value }
    }
}

impl Rows {
    fn add(&mut self, row: Row) {
        if let Some((currency, value)) = row.value {
            let (count, sum) = self.sums.entry(currency).or_default();
            (*count, *sum) = (*count + 1, *sum + i128::from(value));
        }
        self.rows.push_back(row);
    }

    /// Forgets what is before a number.
    fn forget_before(&mut self, from: u64) {
        while self.from < from {
            let Some(row) = self.rows.pop_front() else { break };
            self.from += 1;
            let Some((currency, value)) = row.value else { continue };
            let Some((count, sum)) = self.sums.get_mut(&currency) else { continue };
            (*count, *sum) = (*count - 1, *sum - i128::from(value));
            if *count == 0 {
                self.sums.remove(&currency);
            }
        }
        if self.rows.is_empty() {
            *self = Self { from, ..Self::default() };
        }
    }

    /// The clocks of records with some numbers, first and last; `None` if not all of them are here.
    fn clocks(&self, (first, last): (u64, u64)) -> Option<Vec<i64>> {
        let at =
            |seq: u64| usize::try_from(seq.checked_sub(self.from)?).ok().filter(|at| *at < self.rows.len());
        let (first, last) = (at(first)?, at(last)?);
        Some(self.rows.range(first..=last.max(first)).map(|row| row.ms).collect())
    }

    fn sum(&self) -> Waiting {
        let clamped = |sum: i128| i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX });
        Waiting {
            count: self.rows.len() as u64,
            value_minor: self.sums.iter().map(|(currency, (_, sum))| (*currency, clamped(*sum))).collect(),
            oldest_ms: self.rows.front().map(|row| row.ms),
        }
    }
}

impl Replica {
    /// Own records that the hub does not hold yet, oldest first.
    pub fn waiting_records(&self) -> impl Iterator<Item = &Record> {
        self.books.log_records(&self.identity.log, self.at_hub_through() + 1)
    }

    /// How much waits.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        if self.writer == self.identity.hub {
            return Waiting::default();
        }
        let (from, log) = (self.at_hub_through() + 1, &self.identity.log);
        let visit = |books: &Books, rows: &mut Rows, first: u64| {
            books.visit_log(log, (first, u64::MAX), |record| rows.add(Row::of(record)));
        };
        let Some(head) = self.books.unbroken_to(log) else {
            // A copied device wrote in it too, or something of it is missing here: numbers do not count its records.
            let mut rows = Rows::default();
            visit(&self.books, &mut rows, from);
            return rows.sum();
        };
        let mut rows = self.reckoned.rows();
        let next = rows.from + rows.rows.len() as u64;
        // A hub that was restored from a backup holds less than it did.
        if from < rows.from || head < next.saturating_sub(1) {
            *rows = Rows { from, ..Rows::default() };
        }
        rows.forget_before(from);
        let next = rows.from + rows.rows.len() as u64;
        if next <= head {
            visit(&self.books, &mut rows, next);
        }
        rows.sum()
    }

    /// The clocks of own records with some numbers, first and last, ms since 1970: how long they have waited. Those that
    /// were counted as waiting are not read again.
    #[must_use]
    pub fn own_clocks(&self, numbers: (u64, u64)) -> Vec<i64> {
        let log = &self.identity.log;
        if self.books.unbroken_to(log).is_some()
            && let Some(clocks) = self.reckoned.rows().clocks(numbers)
        {
            return clocks;
        }
        let mut clocks = Vec::new();
        self.books.visit_log(log, numbers, |record| clocks.push(record.at.ms));
        clocks
    }

    /// What waits at a till, as it said last, and has not arrived since.
    #[must_use]
    pub fn waiting_at(&self, writer: &WriterId) -> Waiting {
        let mut waits = Waiting::default();
        let Some((_, status)) = self.last_status(writer) else { return waits };
        let here = self.heads.get(writer).map_or(0, |head| head.seq);
        waits.count = status.waiting.min(status.head_seq.saturating_sub(here));
        if waits.count > 0 {
            waits.oldest_ms = status.oldest_waiting_ms;
            waits.value_minor = status.waiting_minor.iter().copied().collect();
        }
        waits
    }

    /// The same of every till of the store together.
    #[must_use]
    pub fn waiting_at_tills(&self) -> Waiting {
        let mut sum = Waiting::default();
        for (writer, _) in self.registry.writers().filter(|row| !row.1.terminal.is_hub()) {
            sum.add(&self.waiting_at(&writer));
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_hub_has_is_taken_off_row_by_row() {
        let [pound, euro]: [Currency; 2] = ["GBP", "EUR"].map(|code| code.parse().unwrap());
        let values = [Some((pound, 700)), None, Some((euro, 40)), Some((pound, -200)), Some((pound, 5))];
        let mut rows = Rows { from: 11, ..Rows::default() };
        for (ms, value) in (0..).zip(values) {
            rows.add(Row { ms, value });
        }
        for gone in 0..=values.len() {
            rows.forget_before(11 + gone as u64);
            let mut plain = Waiting::default();
            for (ms, value) in (0..).zip(values).skip(gone) {
                plain.count += 1;
                plain.oldest_ms = plain.oldest_ms.or(Some(ms));
                if let Some((currency, minor)) = value {
                    *plain.value_minor.entry(currency).or_default() += minor;
                }
            }
            assert_eq!(rows.sum(), plain, "{gone} have gone");
        }
        assert_eq!(rows.from, 16);
    }

    #[test]
    fn clocks_are_known_of_what_is_counted_and_of_nothing_else() {
        let mut rows = Rows { from: 11, ..Rows::default() };
        (100..105).for_each(|ms| rows.add(Row { ms, value: None }));
        assert_eq!(rows.clocks((11, 15)), Some(vec![100, 101, 102, 103, 104]));
        assert_eq!(rows.clocks((13, 13)), Some(vec![102]));
        assert_eq!((rows.clocks((10, 12)), rows.clocks((14, 16))), (None, None));
        rows.forget_before(13);
        assert_eq!((rows.clocks((12, 13)), rows.clocks((13, 14))), (None, Some(vec![102, 103])));
    }
}
