//! Stage G of LEDGER-RULES section 5: what is worth a look and holds nothing.

use std::collections::BTreeSet;

use engine::money::line_amount;
use engine::record::Record;
use engine::transaction::{Kind, Line, LineFlag};

use super::judgement::Judgement;
use super::logs::point;
use super::set::Target;

/// Stage G, without the day closes (`close`). Section 5 says that a stage looks only at what no earlier one has held,
/// section 2 that every difference is an advisory: clocks, days and arithmetic are looked at in every record, the rest
/// in what counts.
pub(super) fn judge(books: &mut Judgement<'_>) {
    for record in books.set.of_tills().collect::<Vec<_>>() {
        if clock_is_off(books, record) {
            books.flag("CLOCK_SKEW", point(&record.log, record.seq), &[record.id]);
        }
        if is_late(books, record) {
            books.flag("LATE_RECORD", record.id.to_string(), &[record.id]);
        }
        arithmetic(books, record);
        if record.transaction.kind() == Kind::Refund && books.counts(record) {
            refund(books, record);
        }
    }
}

/// Time runs backwards by more than the tolerance, in the log or before something seen; or the business day is more
/// than one day from the clock. What was seen shows in the effective time that the till stated: it is 1 ms more than
/// the latest of that, wherever it is beyond the till's clock and predecessor. (Silent: whether what was seen long
/// before counts again. It does not, and where the predecessor is missing nothing is said.)
fn clock_is_off(books: &Judgement<'_>, record: &Record) -> bool {
    let tolerance_ms = books.set.policy(record).clock_tolerance_ms;
    let before = books.set.predecessor(record);
    let after_predecessor = before.is_some_and(|before| before.at.ms - record.at.ms > tolerance_ms);
    let known_ms = before.map_or(record.at.ms, |before| before.effective_ms.max(record.at.ms));
    let after_seen = record.effective_ms > known_ms
        && (record.seq == 1 || before.is_some())
        && record.effective_ms - 1 - record.at.ms > tolerance_ms;
    let days = (record.business_day.0 - record.at.day().0).abs();
    after_predecessor || after_seen || days > 1
}

/// The business day was locked by a lock that the record was not in.
fn is_late(books: &Judgement<'_>, record: &Record) -> bool {
    let own = books.set.lock_of(record);
    books.set.locks().into_iter().any(|(_, lock)| lock.number < own && record.business_day < lock.open_day)
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
        let amount = line.amount_minor.abs();
        let want =
            if line.adjustment.tax_exclusive { rate.tax_on_net(amount) } else { rate.tax_in_gross(amount) };
        (line.tax_minor.abs() - want).abs() > 1
    })
}

/// Refunds by a tender the sale did not have, and refunds after the window.
fn refund(books: &mut Judgement<'_>, record: &Record) {
    let Some(basket) = record.transaction.basket() else { return };
    let named = books.set.targets_of(record);
    let sales: Vec<_> = named.iter().filter_map(|id| books.set.target(id)).collect();
    if sales.is_empty() {
        return;
    }
    let had: BTreeSet<_> =
        sales.iter().filter_map(Target::basket).flat_map(|row| row.2).map(|tender| tender.tender).collect();
    if basket.tenders.iter().any(|tender| !had.contains(&tender.tender)) {
        books.flag("REFUND_OTHER_TENDER", record.id.to_string(), &[record.id]);
    }
    let window = i64::from(books.set.policy(record).refund_window_days);
    let days = |from: engine::time::Day| i64::from(record.business_day.0) - i64::from(from.0);
    if sales.iter().any(|sale| days(sale.business_day()) > window) {
        books.flag("REFUND_WINDOW", record.id.to_string(), &[record.id]);
    }
}
