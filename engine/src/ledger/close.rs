//! Day close (LEDGER-RULES section 10): the till's Z report from its own records, and the hub's comparison of a Z with
//! the records it covers. Held records count: the Z states money, not reasons.

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
struct Totals {
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

    fn close(&self, currency: Currency) -> CloseTotals {
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

    fn close_at(&self, id: &LogId, seq: u64) -> Option<&DayClose> {
        let closes = self.logs.get(id)?.at(seq).filter(|slot| self.is_close(*slot));
        match &self.record(closes.min_by_key(|slot| self.by_clock(*slot))?).transaction.body {
            Body::DayClose(close) => Some(close),
            _ => None,
        }
    }

    /// Order of the branches of a fork where nothing else tells them apart.
    fn by_clock(&self, slot: Slot) -> (i64, RecordId) {
        let record = self.record(slot);
        (record.at.ms, record.id)
    }

    /// The records of one branch of a log from `tip` down to number `first`: by `prev`, and across a hole by number.
    fn covered(&self, id: &LogId, tip: Option<Slot>, first: u64) -> Vec<Slot> {
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

    fn close_totals(&self, covered: &[Slot], previous: Option<&DayClose>) -> BTreeMap<Currency, Totals> {
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

    /// Whether a Z differs from its records, or numbers are missing.
    fn z_differs(&self, slot: Slot, close: &DayClose) -> bool {
        let record = self.record(slot);
        let Some(log) = self.logs.get(&record.log) else { return false };
        let before = log.close_before(record.seq);
        let (first, last) = close.covers.unwrap_or((before.unwrap_or(0) + 1, record.seq.saturating_sub(1)));
        let tip = self
            .predecessor(slot)
            .or_else(|| log.last_before(record.seq, |slot| (self.record(slot).at.ms, self.record(slot).id)));
        let covered = self.covered(&record.log, tip, first);
        let covered: Vec<Slot> = covered.into_iter().filter(|slot| self.record(*slot).seq <= last).collect();
        let wanted = last.saturating_add(1).saturating_sub(first);
        let previous = before.and_then(|seq| self.close_at(&record.log, seq));
        let sums = self.close_totals(&covered, previous);
        let untrue = close.totals.iter().any(|stated| {
            let own = sums.get(&stated.currency).cloned().unwrap_or_default().close(stated.currency);
            if close.covers.is_none() {
                return own.expected_cash_minor != stated.expected_cash_minor;
            }
            !same_figures(&own, stated)
        });
        let unstated = sums.iter().any(|(currency, own)| {
            *own != Totals { grand_total: own.grand_total, ..Totals::default() }
                && !close.totals.iter().any(|stated| stated.currency == *currency)
        });
        untrue || unstated || covered.len() as u64 != wanted
    }
}

/// Everything but the counted cash, zeros and order aside.
fn same_figures(own: &CloseTotals, stated: &CloseTotals) -> bool {
    let mut tax = stated.tax.clone();
    tax.retain(|row| row.1 != 0);
    tax.sort();
    let mut tenders = stated.tenders.clone();
    tenders.retain(|row| row.1 != 0);
    tenders.sort();
    let figures = (own.sales, own.refunds, own.voids, own.expected_cash_minor, own.grand_total_minor);
    let given =
        (stated.sales, stated.refunds, stated.voids, stated.expected_cash_minor, stated.grand_total_minor);
    figures == given && own.tax == tax && own.tenders == tenders
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
