//! Stage H: the postings that a record requires (LEDGER-RULES sections 6, 7, 9). Dr +, Cr −.

use std::collections::{BTreeMap, BTreeSet};

use engine::ids::RecordId;
use engine::money::Currency;
use engine::record::Record;
use engine::transaction::{
    Basket, Body, CashMovement, DayClose, DecisionAction, HubRecord, Kind, LineFlag, Settlement, Tender,
};

use super::capture::rounding_is_allowed;
use super::judgement::Judgement;
use super::money::{drawer, is_relieved, is_removed, money_side};
use super::set::Target;

/// Postings of one record: account and currency -> amount.
pub(super) type Sheet = BTreeMap<(String, Currency), i128>;

const DIFFERENCES: &str = "Assets:Suspense:Differences";

fn add(sheet: &mut Sheet, account: impl Into<String>, currency: Currency, amount_minor: i64) {
    *sheet.entry((account.into(), currency)).or_default() += i128::from(amount_minor);
}

/// Everything one record requires, corrections by decisions included.
pub(super) fn postings(books: &Judgement<'_>, record: &Record) -> Sheet {
    if is_removed(books, record) {
        return Sheet::new();
    }
    let mut sheet = match &record.transaction.body {
        Body::Sale(basket) | Body::Refund { basket, .. } | Body::Void { basket, .. } => {
            basket_sheet(books, record, basket)
        }
        Body::CashMove { movement, amount_minor, currency, .. } => {
            cash_move(books, record, *movement, *amount_minor, *currency)
        }
        // Silent: a held close posts nothing. It moved no money; whether the drawer is off is not known of it.
        Body::DayClose(close) if books.counts(record) => over_short(record, close),
        Body::Hub(HubRecord::Settlement(batch)) => settlement(batch),
        Body::DayClose(_) | Body::Hub(_) => Sheet::new(),
    };
    sheet.retain(|_, amount| *amount != 0);
    sheet
}

fn over_short(record: &Record, close: &DayClose) -> Sheet {
    let mut sheet = Sheet::new();
    for totals in &close.totals {
        let over = totals.counted_cash_minor - totals.expected_cash_minor;
        add(&mut sheet, drawer(record.log.terminal.as_str()), totals.currency, over);
        add(&mut sheet, "Expenses:Cash-Over-Short", totals.currency, -over);
    }
    sheet
}

fn basket_sheet(books: &Judgement<'_>, record: &Record, basket: &Basket) -> Sheet {
    let mut sheet = Sheet::new();
    for (account, currency, amount_minor) in money_side(books, record, basket) {
        add(&mut sheet, account, currency, amount_minor);
    }
    for tender in basket.tenders.iter().filter(|tender| is_relieved(books, record, tender)) {
        relieve(&mut sheet, basket, tender);
    }
    if let Some(account) = held_account(books, record) {
        // P3: held whole, never line by line.
        balance(&mut sheet, &account);
        return sheet;
    }
    for ((account, currency), amount) in reason_side(books, record, basket) {
        *sheet.entry((account, currency)).or_default() += amount;
    }
    let account = difference_account(books, record);
    balance(&mut sheet, &account);
    sheet
}

/// Puts what a sheet is off, per currency, into one account.
fn balance(sheet: &mut Sheet, account: &str) {
    let mut sums: BTreeMap<Currency, i128> = BTreeMap::new();
    for ((_, currency), amount) in &*sheet {
        *sums.entry(*currency).or_default() += amount;
    }
    for (currency, sum) in sums {
        *sheet.entry((account.to_owned(), currency)).or_default() -= sum;
    }
}

/// Where the reason side of a record is that does not count: in suspense, or where a reviewer put it.
fn held_account(books: &Judgement<'_>, record: &Record) -> Option<String> {
    if let Some(target) = books.follows.get(&record.id) {
        // "The void of a held record uses its target's account and nets it."
        let target = books.set.records.get(target)?;
        return held_account(books, target).or_else(|| Some(suspense(target)));
    }
    if books.counts(record) {
        return None;
    }
    let account = match books.disposition(record).map(|made| made.action) {
        Some(DecisionAction::Goodwill) => "Expenses:Goodwill".to_owned(),
        Some(DecisionAction::WriteOff) => "Expenses:Refund-Losses".to_owned(),
        Some(DecisionAction::OverShort) => "Expenses:Cash-Over-Short".to_owned(),
        Some(DecisionAction::Recover) => "Assets:Receivable:Recovery".to_owned(),
        _ => suspense(record),
    };
    Some(account)
}

fn suspense(record: &Record) -> String {
    let kind = match record.transaction.kind() {
        Kind::Refund => "Refunds",
        Kind::Void => "Voids",
        _ => "Sales",
    };
    format!("Assets:Suspense:{kind}")
}

/// Section 9 `tax-relief`: Dr Tax, Cr Bad-Debt. Silent: of a payment that is only a part of the price, its share of the
/// tax of each code.
fn relieve(sheet: &mut Sheet, basket: &Basket, tender: &Tender) {
    let currency = tender.currency.unwrap_or(basket.currency);
    let (paid, total) = (i128::from(tender.amount_minor), i128::from(basket.total_minor()));
    let codes: BTreeSet<&Option<String>> = basket.lines.iter().map(|line| &line.tax_code).collect();
    for code in codes.into_iter().filter(|_| total > 0) {
        let of_code = basket.lines.iter().filter(|line| line.tax_code == *code);
        let tax: i128 = of_code.map(|line| i128::from(line.tax_minor)).sum();
        let share = (2 * tax * paid.min(total) + total).div_euclid(2 * total);
        *sheet.entry((tax_account(code.as_deref()), currency)).or_default() += share;
        *sheet.entry(("Expenses:Bad-Debt".to_owned(), currency)).or_default() -= share;
    }
}

fn tax_account(code: Option<&str>) -> String {
    code.map_or_else(|| "Liabilities:Sales-Tax".to_owned(), |code| format!("Liabilities:Sales-Tax:{code}"))
}

/// The reason side of a record that counts. That of a void is the exact mirror of its original's.
fn reason_side(books: &Judgement<'_>, record: &Record, basket: &Basket) -> Sheet {
    let direction = books.direction(record);
    if record.transaction.kind() != Kind::Void {
        return plain_reason(books, record, basket, direction, record.transaction.kind() == Kind::Refund);
    }
    let original = books.set.original_of(record).and_then(|id| books.set.records.get(&id)).copied();
    let theirs = original.and_then(|original| Some((original, original.transaction.basket()?)));
    let mut sheet = match theirs {
        Some((original, theirs)) => {
            let refund = original.transaction.kind() == Kind::Refund;
            plain_reason(books, original, theirs, direction, refund)
        }
        // Approved without its original: the void's own lines.
        None => plain_reason(books, record, basket, direction, direction > 0),
    };
    // `convert`: a late void becomes a refund, so what was Sales is Returns.
    if books.disposition(record).is_some_and(|made| made.action == DecisionAction::Convert) {
        let sales: Vec<_> = sheet.keys().filter(|key| key.0 == "Income:Sales").cloned().collect();
        for key in sales {
            let amount = sheet.remove(&key).unwrap_or_default();
            *sheet.entry(("Income:Returns".to_owned(), key.1)).or_default() += amount;
        }
    }
    sheet
}

/// Section 7, reason side of a sale or refund as stated, line by line.
fn plain_reason(
    books: &Judgement<'_>,
    record: &Record,
    basket: &Basket,
    direction: i64,
    refund: bool,
) -> Sheet {
    let mut sheet = Sheet::new();
    for line in &basket.lines {
        let net = line.gross_minor() - line.tax_minor;
        let account = match line.flag {
            LineFlag::GiftCardSold => "Liabilities:Gift-Cards",
            LineFlag::ReturnInSale => "Income:Returns",
            LineFlag::Item | LineFlag::LineVoid if refund => "Income:Returns",
            LineFlag::Item | LineFlag::LineVoid => "Income:Sales",
        };
        add(&mut sheet, account, basket.currency, -direction * net);
        add(&mut sheet, tax_account(line.tax_code.as_deref()), basket.currency, -direction * line.tax_minor);
    }
    add(&mut sheet, "Liabilities:Tips", basket.currency, -direction * basket.tip_minor);
    // Section 2.7: a rounding beyond half a cash unit is none, and stays in the difference.
    if rounding_is_allowed(books, record, basket) {
        add(&mut sheet, "Income:Cash-Rounding", basket.currency, -direction * basket.rounding_minor);
    }
    sheet
}

/// Suspense:Differences, or the account that a reviewer named (`classify`); a void goes where its original went.
fn difference_account(books: &Judgement<'_>, record: &Record) -> String {
    let original = || match books.void_target(record) {
        Some(Target::Here(original)) => classified(books, original),
        _ => None,
    };
    classified(books, record).or_else(original).unwrap_or_else(|| DIFFERENCES.to_owned())
}

fn classified(books: &Judgement<'_>, record: &Record) -> Option<String> {
    let made = books.decisions_in(&("TENDER_MISMATCH", record.id.to_string()), &record.id);
    let named = made.into_iter().filter(|made| made.action == DecisionAction::Classify);
    named.filter_map(|made| made.parameter.clone()).rfind(|account| is_account(account))
}

/// The account of the reason code of a cash movement.
fn reason_code(record: &Record) -> Option<String> {
    let Body::CashMove { reason, .. } = &record.transaction.body else { return None };
    reason.clone().filter(|text| is_account(text))
}

/// Paid in or out without a reason code: it waits in Suspense:Differences, so (P8; the table of section 8 is silent) it
/// is a TENDER_MISMATCH, which `classify` ends.
pub(super) fn judge_cash_moves(books: &mut Judgement<'_>) {
    for record in books.set.of_tills().collect::<Vec<_>>() {
        let Body::CashMove { movement, amount_minor, .. } = &record.transaction.body else { continue };
        let paid = matches!(movement, CashMovement::PaidIn | CashMovement::PaidOut);
        if paid && *amount_minor != 0 && reason_code(record).is_none() && books.counts(record) {
            books.flag("TENDER_MISMATCH", record.id.to_string(), &[record.id]);
        }
    }
}

fn cash_move(
    books: &Judgement<'_>,
    record: &Record,
    movement: CashMovement,
    amount_minor: i64,
    currency: Currency,
) -> Sheet {
    let mut sheet = Sheet::new();
    let direction = match movement {
        CashMovement::Float | CashMovement::PaidIn => 1,
        CashMovement::PaidOut | CashMovement::Pickup => -1,
    };
    let against = match movement {
        // Silent: the reason side of a held movement waits with the differences.
        _ if !books.counts(record) => DIFFERENCES.to_owned(),
        CashMovement::Float | CashMovement::Pickup => format!("Assets:Cash:Safe:{}", record.store),
        CashMovement::PaidIn | CashMovement::PaidOut => classified(books, record)
            .or_else(|| reason_code(record))
            .unwrap_or_else(|| DIFFERENCES.to_owned()),
    };
    add(&mut sheet, drawer(record.log.terminal.as_str()), currency, direction * amount_minor);
    add(&mut sheet, against, currency, -direction * amount_minor);
    sheet
}

/// Whether a reason code is an account: one of the five roots and names below it.
fn is_account(text: &str) -> bool {
    let mut parts = text.split(':');
    let root = parts
        .next()
        .is_some_and(|root| ["Assets", "Liabilities", "Equity", "Income", "Expenses"].contains(&root));
    let names: Vec<&str> = parts.collect();
    let plain = |name: &&str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    root && !names.is_empty() && names.iter().all(plain)
}

fn settlement(batch: &Settlement) -> Sheet {
    let mut sheet = Sheet::new();
    let gross: i64 = batch.payments.iter().map(|row| row.amount_minor).sum();
    add(&mut sheet, "Assets:Bank:Settlement", batch.currency, gross - batch.fees_minor);
    add(&mut sheet, "Expenses:Card-Fees", batch.currency, batch.fees_minor);
    add(&mut sheet, "Assets:Card:Clearing", batch.currency, -gross);
    sheet
}

/// Where a record stands, in the words of invariant I3.
pub(super) fn standing(books: &Judgement<'_>, record: &Record, id: &RecordId) -> super::Standing {
    if let Body::Hub(statement) = &record.transaction.body {
        let posts = matches!(statement, HubRecord::Settlement(_));
        return if posts { super::Standing::Posted } else { super::Standing::Stated };
    }
    if books.follows.contains_key(id) {
        super::Standing::Following
    } else if is_removed(books, record) {
        super::Standing::Removed
    } else if books.is_held(id) && books.disposition(record).is_none() {
        super::Standing::Held
    } else {
        super::Standing::Posted
    }
}
