//! Day close (LEDGER-RULES section 10): the till's Z report from its own records, and the cases of a close. Held records
//! count: the Z states money, not reasons. `z_check` compares the two.

use std::collections::BTreeMap;

use super::casework::clamp;
use super::facts::Facts;
use super::families::Slot;
use super::judgement::Judgement;
use crate::ids::{LogId, RecordId};
use crate::money::Currency;
use crate::record::Record;
use crate::review::{CaseKey, CaseType, subject};
use crate::transaction::{
    Basket, Body, CashMovement, CloseTotals, CountSum, DayClose, Kind, Tender, TenderType,
};

/// Totals in the making, wide enough for any number of records.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Totals {
    counts: BTreeMap<Kind, (u64, i128)>,
    tax: BTreeMap<String, i128>,
    tenders: BTreeMap<TenderType, i128>,
    cash: i128,
    grand_total: i128,
}

impl Totals {
    fn count(&self, kind: Kind) -> CountSum {
        let (count, sum) = self.counts.get(&kind).copied().unwrap_or_default();
        CountSum { count, sum_minor: clamp(sum) }
    }

    /// Nothing was traded (the perpetual total aside).
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self { grand_total: self.grand_total, ..Self::default() }
    }

    fn add_basket(&mut self, record: &Record, basket: &Basket) {
        let direction = i128::from(record.transaction.direction());
        let (count, sum) = self.counts.entry(record.transaction.kind()).or_default();
        *count += 1;
        *sum += i128::from(basket.total_minor());
        for line in &basket.lines {
            let code = line.tax_code.clone().unwrap_or_default();
            *self.tax.entry(code).or_default() += direction * i128::from(line.tax_minor);
        }
        if record.transaction.kind() == Kind::Sale {
            self.grand_total += i128::from(basket.total_minor()).max(0);
        }
    }

    /// Money counts in the currency it was taken in, even where the record is held for that (P2).
    fn add_tender(&mut self, record: &Record, tender: &Tender) {
        let amount = i128::from(record.transaction.direction()) * i128::from(tender.amount_minor);
        *self.tenders.entry(tender.tender).or_default() += amount;
        self.cash += if tender.tender == TenderType::Cash { amount } else { 0 };
    }

    pub(super) fn close(&self, currency: Currency) -> CloseTotals {
        let nonzero = |sum: &&i128| **sum != 0;
        let tax =
            self.tax.iter().filter(|(_, sum)| nonzero(sum)).map(|(code, sum)| (code.clone(), clamp(*sum)));
        let tenders =
            self.tenders.iter().filter(|(_, sum)| nonzero(sum)).map(|(kind, sum)| (*kind, clamp(*sum)));
        CloseTotals {
            currency,
            sales: self.count(Kind::Sale),
            refunds: self.count(Kind::Refund),
            voids: self.count(Kind::Void),
            tax: tax.collect(),
            tenders: tenders.collect(),
            expected_cash_minor: clamp(self.cash),
            counted_cash_minor: clamp(self.cash),
            grand_total_minor: clamp(self.grand_total),
        }
    }
}

impl Facts {
    /// The Z report of a till as its own records stand: everything since its last close. The counted cash is set to
    /// what is expected; the till puts in what was counted. `None` if the log is not here.
    pub(crate) fn z_report(&self, id: &LogId) -> Option<DayClose> {
        let log = self.logs.get(id)?;
        let last = log.head();
        let before = log.close_before(last.saturating_add(1));
        let first = before.unwrap_or(0) + 1;
        let tip = log.last_before(last.saturating_add(1), |slot| self.by_clock(slot));
        let covered = self.covered(id, tip, first);
        let previous = before.and_then(|seq| self.close_at(id, seq));
        let totals = self.close_totals(&covered, previous);
        Some(DayClose {
            z_number: previous.map_or(1, |close| close.z_number.saturating_add(1)),
            covers: (first <= last).then_some((first, last)),
            totals: totals.iter().map(|(currency, totals)| totals.close(*currency)).collect(),
        })
    }

    pub(super) fn close_at(&self, id: &LogId, seq: u64) -> Option<&DayClose> {
        let closes = self.logs.get(id)?.at(seq).filter(|slot| self.is_close(*slot));
        match &self.record(closes.min_by_key(|slot| self.by_clock(*slot))?).transaction.body {
            Body::DayClose(close) => Some(close),
            _ => None,
        }
    }

    /// Order of the branches of a fork where nothing else tells them apart.
    pub(super) fn by_clock(&self, slot: Slot) -> (i64, RecordId) {
        let record = self.record(slot);
        (record.at.ms, record.id)
    }

    /// The records of one branch of a log from `tip` down to number `first`: by `prev`, and across a hole by number.
    pub(super) fn covered(&self, id: &LogId, tip: Option<Slot>, first: u64) -> Vec<Slot> {
        let (mut covered, mut at) = (Vec::new(), tip);
        while let Some(slot) = at.filter(|slot| self.record(*slot).seq >= first) {
            covered.push(slot);
            let before = self.record(slot).seq;
            at = self.predecessor(slot).or_else(|| {
                self.logs.get(id)?.last_before(before, |slot| {
                    let record = self.record(slot);
                    (record.at.ms, record.id)
                })
            });
        }
        covered
    }

    pub(super) fn close_totals(
        &self,
        covered: &[Slot],
        previous: Option<&DayClose>,
    ) -> BTreeMap<Currency, Totals> {
        let mut sums: BTreeMap<Currency, Totals> = BTreeMap::new();
        for totals in previous.map_or(&[][..], |close| close.totals.as_slice()) {
            sums.entry(totals.currency).or_default().grand_total = i128::from(totals.grand_total_minor);
        }
        for record in covered.iter().map(|slot| self.record(*slot)) {
            match &record.transaction.body {
                Body::Sale(basket) | Body::Refund { basket, .. } | Body::Void { basket, .. } => {
                    sums.entry(basket.currency).or_default().add_basket(record, basket);
                    for tender in &basket.tenders {
                        let currency = tender.currency.unwrap_or(basket.currency);
                        sums.entry(currency).or_default().add_tender(record, tender);
                    }
                }
                Body::CashMove { movement, amount_minor, currency, .. } => {
                    let into_drawer = matches!(movement, CashMovement::Float | CashMovement::PaidIn);
                    let amount = i128::from(*amount_minor);
                    sums.entry(*currency).or_default().cash += if into_drawer { amount } else { -amount };
                }
                Body::DayClose(_) | Body::Hub(_) => {}
            }
        }
        sums
    }
}

impl Judgement<'_> {
    /// `Z_MISMATCH` and `CASH_OVER_SHORT` of a day close.
    pub(crate) fn judge_close(&mut self, slot: Slot, close: &DayClose) {
        let facts = self.facts;
        let record = facts.record(slot);
        let branches = facts.logs.get(&record.log).map_or(1, |log| log.at(record.seq).count());
        // Two closes of a forked log under one number are two subjects.
        let suffix = if branches > 1 { format!("#{}", record.id.short()) } else { String::new() };
        let subject = subject::close(&record.log, record.seq) + &suffix;
        let about = format!("day close {} of {}", close.z_number, record.log.terminal);
        if facts.z_differs(slot, close) {
            let draft = self.draft(CaseKey::new(CaseType::ZMismatch, subject.as_str()));
            draft.members.insert(slot);
            draft.about = Some(about.clone());
        }
        let tolerance = i128::from(facts.policy(slot).over_short_tolerance_minor);
        let differences = close.totals.iter().map(|totals| {
            (i128::from(totals.counted_cash_minor) - i128::from(totals.expected_cash_minor), totals.currency)
        });
        if let Some(worst) = differences.filter(|row| row.0.abs() > tolerance).max_by_key(|row| row.0.abs()) {
            let draft = self.draft(CaseKey::new(CaseType::CashOverShort, subject));
            draft.members.insert(slot);
            draft.amount = Some(worst);
            draft.about = Some(about);
        }
    }
}
