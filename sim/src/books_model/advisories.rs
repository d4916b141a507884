//! Stage G of LEDGER-RULES section 5: what is worth a look and holds nothing.

use std::collections::BTreeSet;

use engine::ids::RecordId;
use engine::money::line_amount;
use engine::record::Record;
use engine::transaction::{Kind, Line, LineFlag};

use super::judgement::Judgement;
use super::logs::point;

/// Stage G, without the day closes (`close`).
pub(super) fn judge(books: &mut Judgement<'_>) {
    for record in books.set.of_tills().collect::<Vec<_>>() {
        if clock_is_off(books, record) {
            books.flag("CLOCK_SKEW", point(&record.log, record.seq), &[record.id]);
        }
        if is_late(books, record) {
            books.flag("LATE_RECORD", record.id.to_string(), &[record.id]);
        }
        if books.is_held(&record.id) {
            continue;
        }
        arithmetic(books, record);
        if record.transaction.kind() == Kind::Refund {
            refund(books, record);
        }
    }
}

/// Time runs backwards by more than the tolerance, in the log or before something seen; or the business day is more
/// than one day from the clock.
fn clock_is_off(books: &Judgement<'_>, record: &Record) -> bool {
    let tolerance_ms = books.set.policy(record).clock_tolerance_ms;
    let before = record.prev.and_then(|prev| books.set.records.get(&prev)).copied();
    let known = books.set.seen_by(record).into_iter().chain(before);
    let backwards = known.into_iter().any(|earlier| earlier.at.ms - record.at.ms > tolerance_ms);
    let days = (record.business_day.0 - record.at.day().0).abs();
    backwards || days > 1
}

/// The business day was locked, and the record was not in that lock.
fn is_late(books: &Judgement<'_>, record: &Record) -> bool {
    let locked = books.set.locks().into_iter().any(|(_, lock)| record.business_day < lock.open_day);
    locked && !books.set.rank_of_lock.contains_key(&record.id)
}

/// Sections 2.3 and 2.4: more than 1 minor unit on a line that states what it was reckoned from.
fn arithmetic(books: &mut Judgement<'_>, record: &Record) {
    let Some(basket) = record.transaction.basket() else { return };
    if basket.lines.iter().any(amount_is_off) {
        books.flag("LINE_ARITHMETIC", record.id.to_string(), &[record.id]);
    }
    if basket.lines.iter().any(tax_is_off) {
        books.flag("TAX_ARITHMETIC", record.id.to_string(), &[record.id]);
    }
}

fn sign(line: &Line) -> i64 {
    if matches!(line.flag, LineFlag::ReturnInSale | LineFlag::LineVoid) { -1 } else { 1 }
}

fn amount_is_off(line: &Line) -> bool {
    line.unit_price_minor.is_some_and(|price| {
        let want = line_amount(price, line.quantity, line.discount_minor);
        (sign(line) * line.amount_minor - want).abs() > 1
    })
}

fn tax_is_off(line: &Line) -> bool {
    line.tax_rate.is_some_and(|rate| {
        let (amount, tax) = (sign(line) * line.amount_minor, sign(line) * line.tax_minor);
        let want =
            if line.adjustment.tax_exclusive { rate.tax_on_net(amount) } else { rate.tax_in_gross(amount) };
        (tax - want).abs() > 1
    })
}

/// Refunds by a tender the sale did not have, and refunds after the window.
fn refund(books: &mut Judgement<'_>, record: &Record) {
    let Some(basket) = record.transaction.basket() else { return };
    let by_line =
        basket.lines.iter().map(|line| line.original.as_ref().and_then(|one| one.reference.as_ref()));
    let named: BTreeSet<RecordId> = by_line
        .filter_map(|reference| books.set.resolve(reference.or_else(|| record.transaction.original())?))
        .collect();
    let sales: Vec<_> = named.iter().filter_map(|id| books.set.target(id)).collect();
    if sales.is_empty() {
        return;
    }
    let had: BTreeSet<_> = sales
        .iter()
        .filter_map(|sale| sale.basket())
        .flat_map(|row| row.2)
        .map(|tender| tender.tender)
        .collect();
    if basket.tenders.iter().any(|tender| !had.contains(&tender.tender)) {
        books.flag("REFUND_OTHER_TENDER", record.id.to_string(), &[record.id]);
    }
    let window = i64::from(books.set.policy(record).refund_window_days);
    let days = |from: engine::time::Day| i64::from(record.business_day.0) - i64::from(from.0);
    if sales.iter().any(|sale| days(sale.business_day()) > window) {
        books.flag("REFUND_WINDOW", record.id.to_string(), &[record.id]);
    }
}
