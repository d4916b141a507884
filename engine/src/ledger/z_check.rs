//! A Z report held against the records it covers (LEDGER-RULES section 10): which figures differ, which numbers are
//! missing, which receipts would account for it. It judges nothing; `close` makes the cases.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use super::close::Totals;
use super::facts::Facts;
use super::families::Slot;
use crate::ids::RecordId;
use crate::money::Currency;
use crate::transaction::{Body, CloseTotals, DayClose};

/// A figure of a Z that differs from the records.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Figure {
    /// Which: `sales`, `tax S`, `cash`, `expected cash` …
    pub name: String,
    /// Its currency.
    pub currency: Currency,
    /// What the till stated (minor units, or how many).
    pub stated_minor: i64,
    /// What its records say.
    pub found_minor: i64,
}

/// A Z report held against the records it covers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ZCheck {
    /// Figures that differ.
    pub figures: Vec<Figure>,
    /// Ranges of covered numbers that are not here.
    pub missing: Vec<(u64, u64)>,
    /// Receipts that alone would account for a difference, if one was left out or counted twice.
    pub suspects: Vec<RecordId>,
}

/// Which closes agreed when they were checked last, with how many records stood before them then. Not part of an image.
#[derive(Debug, Default)]
pub(crate) struct ZChecked(Mutex<BTreeMap<Slot, (u64, bool)>>);

impl Clone for ZChecked {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl ZChecked {
    /// Whether a close agrees, checked if more stands before it than when it was checked last.
    pub(super) fn agrees(&self, close: Slot, before: u64, check: impl FnOnce() -> bool) -> bool {
        let mut checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match checked.get(&close) {
            Some((then, agrees)) if *then == before => *agrees,
            _ => {
                let agrees = check();
                checked.insert(close, (before, agrees));
                agrees
            }
        }
    }
}

const EXPECTED_CASH: &str = "expected cash";
const GRAND_TOTAL: &str = "grand total";
const COUNT: &str = " count";

impl Facts {
    /// Whether a Z differs from its records, or numbers are missing.
    pub(super) fn z_differs(&self, slot: Slot, close: &DayClose) -> bool {
        let check = self.z_check(slot, close);
        !check.figures.is_empty() || !check.missing.is_empty()
    }

    /// Holds a Z against the records it covers: every figure that differs, every number that is missing, and the
    /// receipts that alone would account for a difference.
    pub(super) fn z_check(&self, slot: Slot, close: &DayClose) -> ZCheck {
        let record = self.record(slot);
        let Some(log) = self.logs.get(&record.log) else { return ZCheck::default() };
        let before = log.close_before(record.seq);
        let (first, last) = close.covers.unwrap_or((before.unwrap_or(0) + 1, record.seq.saturating_sub(1)));
        let tip = self.predecessor(slot).or_else(|| log.last_before(record.seq, |slot| self.by_clock(slot)));
        let covered = self.covered(&record.log, tip, first);
        let covered: Vec<Slot> = covered.into_iter().filter(|slot| self.record(*slot).seq <= last).collect();
        let previous = before.and_then(|seq| self.close_at(&record.log, seq));
        let sums = self.close_totals(&covered, previous);
        let mut check = ZCheck { missing: self.not_covered(&covered, first, last), ..ZCheck::default() };
        for stated in &close.totals {
            let own = sums.get(&stated.currency).cloned().unwrap_or_default().close(stated.currency);
            // A close that does not say what it covers (in a what-if) states its cash only.
            let cash_only = close.covers.is_none();
            check.figures.extend(differing(&own, stated).filter(|it| !cash_only || it.name == EXPECTED_CASH));
        }
        for (currency, own) in &sums {
            if !own.is_nothing() && !close.totals.iter().any(|stated| stated.currency == *currency) {
                check.figures.extend(differing(&own.close(*currency), &Totals::default().close(*currency)));
            }
        }
        check.suspects = self.accounting_for(&check.figures, &covered);
        check
    }

    /// Ranges of numbers that a Z covers and that are not here.
    fn not_covered(&self, covered: &[Slot], first: u64, last: u64) -> Vec<(u64, u64)> {
        let here: BTreeSet<u64> = covered.iter().map(|slot| self.record(*slot).seq).collect();
        let (mut missing, mut from) = (Vec::new(), first);
        for seq in here {
            if seq > from {
                missing.push((from, seq - 1));
            }
            from = seq.saturating_add(1);
        }
        if from <= last {
            missing.push((from, last));
        }
        missing
    }

    /// Receipts without which, or twice with which, a figure that differs would agree.
    fn accounting_for(&self, figures: &[Figure], covered: &[Slot]) -> Vec<RecordId> {
        let explains = |slot: &Slot| {
            let alone = self.close_totals(&[*slot], None);
            alone.iter().any(|(currency, totals)| {
                let share = totals.close(*currency);
                let nothing = Totals::default().close(*currency);
                let shares: Vec<Figure> = differing(&share, &nothing).collect();
                figures.iter().any(|figure| {
                    let difference = i128::from(figure.stated_minor) - i128::from(figure.found_minor);
                    let same =
                        |share: &&Figure| share.name == figure.name && share.currency == figure.currency;
                    figure.name != GRAND_TOTAL
                        && !figure.name.ends_with(COUNT)
                        && shares
                            .iter()
                            .find(same)
                            .is_some_and(|share| i128::from(share.found_minor).abs() == difference.abs())
                })
            })
        };
        covered.iter().rev().filter(|slot| explains(slot)).map(|slot| self.record(*slot).id).collect()
    }
}

impl super::books::Books {
    /// A day close held against the records it covers; `None` if the record is no close.
    #[must_use]
    pub fn z_check(&self, id: &RecordId) -> Option<ZCheck> {
        let slot = self.facts.slot(id)?;
        match &self.facts.record(slot).transaction.body {
            Body::DayClose(close) => Some(self.facts.z_check(slot, close)),
            _ => None,
        }
    }
}

/// The figures in which two closes differ; the counted cash is the till's own.
fn differing(own: &CloseTotals, stated: &CloseTotals) -> impl Iterator<Item = Figure> {
    let (found, said) = (figures(own), figures(stated));
    let names: BTreeSet<String> = found.keys().chain(said.keys()).cloned().collect();
    let currency = own.currency;
    names.into_iter().filter_map(move |name| {
        let value = |of: &BTreeMap<String, i64>| of.get(&name).copied().unwrap_or(0);
        let (found_minor, stated_minor) = (value(&found), value(&said));
        (found_minor != stated_minor).then_some(Figure { name, currency, stated_minor, found_minor })
    })
}

fn figures(totals: &CloseTotals) -> BTreeMap<String, i64> {
    let mut figures = BTreeMap::new();
    let counts = [("sales", totals.sales), ("refunds", totals.refunds), ("voids", totals.voids)];
    for (name, sum) in counts {
        figures.insert(name.to_owned(), sum.sum_minor);
        figures.insert(format!("{name}{COUNT}"), i64::try_from(sum.count).unwrap_or(i64::MAX));
    }
    for (code, minor) in &totals.tax {
        let sum = figures.entry(format!("tax {code}").trim_end().to_owned()).or_insert(0);
        *sum = sum.saturating_add(*minor);
    }
    for (tender, minor) in &totals.tenders {
        let sum = figures.entry(tender.as_str().to_owned()).or_insert(0);
        *sum = sum.saturating_add(*minor);
    }
    figures.insert(EXPECTED_CASH.to_owned(), totals.expected_cash_minor);
    figures.insert(GRAND_TOTAL.to_owned(), totals.grand_total_minor);
    figures
}
