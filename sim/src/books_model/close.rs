//! Day closes (LEDGER-RULES section 10): the hub recomputes every figure of a Z report from the till's own records,
//! those that it holds included.

use std::collections::BTreeMap;

use engine::money::Currency;
use engine::record::Record;
use engine::transaction::{Body, CashMovement, CloseTotals, DayClose, Kind, TenderType};

use super::judgement::Judgement;

/// Flags closes whose figures are not those of the records, or whose drawer is off by more than the tolerance.
pub(super) fn judge(books: &mut Judgement<'_>) {
    for record in books.set.of_tills().collect::<Vec<_>>() {
        let Body::DayClose(close) = &record.transaction.body else { continue };
        let subject = format!("{}:{}", record.log.terminal, record.seq);
        if !agrees(books, record, close) {
            books.flag("Z_MISMATCH", subject.clone(), &[record.id]);
        }
        let tolerance = books.set.policy(record).over_short_tolerance_minor;
        let off =
            |totals: &CloseTotals| (totals.counted_cash_minor - totals.expected_cash_minor).abs() > tolerance;
        if close.totals.iter().any(off) {
            books.flag("CASH_OVER_SHORT", subject, &[record.id]);
        }
    }
}

/// The figures of one currency, as the hub reckons them.
#[derive(Default, PartialEq, Eq)]
struct Figures {
    sales: (u64, i64),
    refunds: (u64, i64),
    voids: (u64, i64),
    tax: BTreeMap<String, i64>,
    tenders: BTreeMap<TenderType, i64>,
    cash_minor: i64,
}

fn agrees(books: &Judgement<'_>, record: &Record, close: &DayClose) -> bool {
    let last = books
        .set
        .of_tills()
        .filter(|other| other.log == record.log && other.seq < record.seq)
        .filter(|other| other.transaction.kind() == Kind::DayClose)
        .map(|other| other.seq)
        .max();
    let (first, to) = close.covers.unwrap_or((last.map_or(1, |seq| seq + 1), record.seq.saturating_sub(1)));
    let missing = (first..=to).any(|seq| books.set.at(&record.log, seq).is_empty());
    let covered: Vec<&Record> = books
        .set
        .of_tills()
        .filter(|other| other.log == record.log && (first..=to).contains(&other.seq))
        .collect();
    let mut figures: BTreeMap<Currency, Figures> = BTreeMap::new();
    for other in covered {
        add(books, &mut figures, other);
    }
    let fits = |totals: &CloseTotals| {
        let none = Figures::default();
        let own = figures.get(&totals.currency).unwrap_or(&none);
        let cash = own.cash_minor == totals.expected_cash_minor;
        cash && (close.covers.is_none() || all_fit(books, record, own, totals))
    };
    !missing && close.totals.iter().all(fits)
}

fn all_fit(books: &Judgement<'_>, record: &Record, own: &Figures, totals: &CloseTotals) -> bool {
    let stated_tax: BTreeMap<String, i64> = totals.tax.iter().filter(|row| row.1 != 0).cloned().collect();
    let stated_tenders: BTreeMap<TenderType, i64> =
        totals.tenders.iter().filter(|row| row.1 != 0).copied().collect();
    let mut own_tax = own.tax.clone();
    own_tax.retain(|_, minor| *minor != 0);
    let mut own_tenders = own.tenders.clone();
    own_tenders.retain(|_, minor| *minor != 0);
    own.sales == (totals.sales.count, totals.sales.sum_minor)
        && own.refunds == (totals.refunds.count, totals.refunds.sum_minor)
        && own.voids == (totals.voids.count, totals.voids.sum_minor)
        && own_tax == stated_tax
        && own_tenders == stated_tenders
        && totals.grand_total_minor == grand_total(books, record, totals.currency)
}

/// The perpetual total never resets and never decreases: gross sales of the log up to the close.
fn grand_total(books: &Judgement<'_>, close: &Record, currency: Currency) -> i64 {
    let sales = books.set.with_baskets().filter(|(record, basket)| {
        record.log == close.log
            && record.seq < close.seq
            && basket.currency == currency
            && record.transaction.kind() == Kind::Sale
    });
    sales.map(|(_, basket)| basket.total_minor()).sum()
}

fn add(books: &Judgement<'_>, figures: &mut BTreeMap<Currency, Figures>, record: &Record) {
    match &record.transaction.body {
        Body::Sale(basket) | Body::Refund { basket, .. } | Body::Void { basket, .. } => {
            let direction = books.direction(record);
            let own = figures.entry(basket.currency).or_default();
            let sum = match record.transaction.kind() {
                Kind::Sale => &mut own.sales,
                Kind::Refund => &mut own.refunds,
                _ => &mut own.voids,
            };
            *sum = (sum.0 + 1, sum.1 + basket.total_minor());
            for line in &basket.lines {
                *own.tax.entry(line.tax_code.clone().unwrap_or_default()).or_default() +=
                    direction * line.tax_minor;
            }
            for tender in &basket.tenders {
                let own = figures.entry(tender.currency.unwrap_or(basket.currency)).or_default();
                let minor = direction * tender.amount_minor;
                *own.tenders.entry(tender.tender).or_default() += minor;
                if tender.tender == TenderType::Cash {
                    own.cash_minor += minor;
                }
            }
        }
        Body::CashMove { movement, amount_minor, currency, .. } => {
            let direction = match movement {
                CashMovement::Float | CashMovement::PaidIn => 1,
                CashMovement::PaidOut | CashMovement::Pickup => -1,
            };
            figures.entry(*currency).or_default().cash_minor += direction * amount_minor;
        }
        Body::DayClose(_) | Body::Hub(_) => {}
    }
}
