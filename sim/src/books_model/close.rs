//! Day closes (LEDGER-RULES section 10): the hub recomputes every figure of a Z report from the till's own records,
//! those that it holds included.

use std::collections::BTreeMap;

use engine::money::Currency;
use engine::record::Record;
use engine::transaction::{Body, CashMovement, CloseTotals, DayClose, Kind, TenderType};

use super::judgement::Judgement;
use super::money;

/// Flags closes whose figures are not those of the records, or whose drawer is off by more than the tolerance. A held
/// close is not compared.
pub(super) fn judge(books: &mut Judgement<'_>) {
    for record in books.set.of_tills().collect::<Vec<_>>() {
        let Body::DayClose(close) = &record.transaction.body else { continue };
        if !books.counts(record) || money::is_removed(books, record) {
            continue;
        }
        let subject = subject(books, record);
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

/// Till and number; the incarnation where it is not the first, and which one of a fork.
fn subject(books: &Judgement<'_>, record: &Record) -> String {
    let log = &record.log;
    let place = if log.incarnation == 1 {
        format!("{}:{}", log.terminal, record.seq)
    } else {
        format!("{log}:{}", record.seq)
    };
    let forked = books.set.at(log, record.seq).len() > 1;
    if forked { format!("{place}#{}", record.id.short()) } else { place }
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
    grand_total_minor: i64,
}

impl Figures {
    fn is_nothing_but_perpetual(&self) -> bool {
        let kept = Self { grand_total_minor: self.grand_total_minor, ..Self::default() };
        *self == kept
    }
}

fn agrees(books: &Judgement<'_>, record: &Record, close: &DayClose) -> bool {
    let earlier = |other: &&Record| other.log == record.log && other.seq < record.seq;
    let closes = books.set.of_tills().filter(earlier).filter(|one| one.transaction.kind() == Kind::DayClose);
    let previous = closes.max_by_key(|one| (one.seq, std::cmp::Reverse((one.at.ms, one.id))));
    let (first, last) =
        close.covers.unwrap_or((previous.map_or(1, |one| one.seq + 1), record.seq.saturating_sub(1)));
    let covered: Vec<&Record> =
        branch(books, record, first).into_iter().filter(|one| one.seq <= last).collect();
    let mut figures: BTreeMap<Currency, Figures> = BTreeMap::new();
    // "The perpetual grand total never resets and never decreases": what the last close stated, and gross sales since.
    if let Some(Body::DayClose(stated)) = previous.map(|one| &one.transaction.body) {
        for totals in &stated.totals {
            figures.entry(totals.currency).or_default().grand_total_minor = totals.grand_total_minor;
        }
    }
    for other in &covered {
        add(&mut figures, other);
    }
    let none = Figures::default();
    let fits = |totals: &CloseTotals| {
        let own = figures.get(&totals.currency).unwrap_or(&none);
        own.cash_minor == totals.expected_cash_minor && (close.covers.is_none() || all_fit(own, totals))
    };
    let is_stated = |(currency, own): (&Currency, &Figures)| {
        own.is_nothing_but_perpetual() || close.totals.iter().any(|totals| totals.currency == *currency)
    };
    covered.len() as u64 == (last + 1).saturating_sub(first)
        && close.totals.iter().all(fits)
        && figures.iter().all(is_stated)
}

/// The till's own records before a close, down to a number: by `prev`, and (silent) across a hole or a break the branch
/// that its clock puts first.
fn branch<'a>(books: &Judgement<'a>, close: &Record, first: u64) -> Vec<&'a Record> {
    let before = |record: &Record| {
        let earlier = books.set.of_tills().filter(|one| one.log == record.log && one.seq < record.seq);
        let by_number = || earlier.min_by_key(|one| (std::cmp::Reverse(one.seq), one.at.ms, one.id));
        books.set.predecessor(record).or_else(by_number)
    };
    let (mut covered, mut at) = (Vec::new(), before(close));
    while let Some(record) = at.filter(|record| record.seq >= first) {
        covered.push(record);
        at = before(record);
    }
    covered
}

fn all_fit(own: &Figures, totals: &CloseTotals) -> bool {
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
        && totals.grand_total_minor == own.grand_total_minor
}

/// The till's own words count (P2): a void's direction is the one it states.
fn add(figures: &mut BTreeMap<Currency, Figures>, record: &Record) {
    match &record.transaction.body {
        Body::Sale(basket) | Body::Refund { basket, .. } | Body::Void { basket, .. } => {
            let direction = record.transaction.direction();
            let own = figures.entry(basket.currency).or_default();
            let sum = match record.transaction.kind() {
                Kind::Sale => &mut own.sales,
                Kind::Refund => &mut own.refunds,
                _ => &mut own.voids,
            };
            *sum = (sum.0 + 1, sum.1 + basket.total_minor());
            if record.transaction.kind() == Kind::Sale {
                own.grand_total_minor += basket.total_minor().max(0);
            }
            for line in &basket.lines {
                let code = line.tax_code.clone().unwrap_or_default();
                *own.tax.entry(code).or_default() += direction * line.tax_minor;
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
