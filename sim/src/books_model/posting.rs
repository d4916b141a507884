//! Stage H: the postings that a record requires (LEDGER-RULES sections 6, 7, 9). Dr +, Cr −.

use std::collections::BTreeMap;

use engine::ids::RecordId;
use engine::money::Currency;
use engine::record::Record;
use engine::transaction::{
    Basket, Body, CashMovement, DecisionAction, HubRecord, Kind, LineFlag, Settlement,
};

use super::capture::rounding_is_allowed;
use super::judgement::Judgement;
use super::money::{CLEARING, DECLINED, PaymentCase, REFUNDS_DUE, drawer, is_removed, money_side};

/// Postings of one record: account and currency -> amount.
pub(super) type Sheet = BTreeMap<(String, Currency), i128>;

const DIFFERENCES: &str = "Assets:Suspense:Differences";

fn add(sheet: &mut Sheet, account: impl Into<String>, currency: Currency, amount_minor: i64) {
    *sheet.entry((account.into(), currency)).or_default() += i128::from(amount_minor);
}

/// Everything one record requires, corrections by decisions included.
pub(super) fn postings(books: &Judgement<'_>, payments: &[PaymentCase], record: &Record) -> Sheet {
    let mut sheet = match &record.transaction.body {
        Body::Sale(basket) | Body::Refund { basket, .. } | Body::Void { basket, .. } => {
            basket_sheet(books, record, basket)
        }
        Body::CashMove { movement, amount_minor, currency, reason } => {
            cash_move(books, record, *movement, *amount_minor, *currency, reason.as_deref())
        }
        Body::DayClose(close) => {
            let mut sheet = Sheet::new();
            for totals in &close.totals {
                let over = totals.counted_cash_minor - totals.expected_cash_minor;
                add(&mut sheet, drawer(record.log.terminal.as_str()), totals.currency, over);
                add(&mut sheet, "Expenses:Cash-Over-Short", totals.currency, -over);
            }
            sheet
        }
        Body::Hub(HubRecord::Settlement(batch)) => settlement(batch),
        Body::Hub(_) => Sheet::new(),
    };
    if !is_removed(books, record) {
        for payment in payments.iter().filter(|payment| payment.record == record.id) {
            decided_payment(books, &mut sheet, record, payment);
        }
    }
    sheet.retain(|_, amount| *amount != 0);
    sheet
}

fn basket_sheet(books: &Judgement<'_>, record: &Record, basket: &Basket) -> Sheet {
    let mut sheet = Sheet::new();
    if is_removed(books, record) {
        return sheet;
    }
    for (account, currency, amount_minor) in money_side(books, record, basket) {
        add(&mut sheet, account, currency, amount_minor);
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

/// The reason side of a record that counts.
fn reason_side(books: &Judgement<'_>, record: &Record, basket: &Basket) -> Sheet {
    if record.transaction.kind() != Kind::Void {
        return plain_reason(books, record, basket, books.direction(record));
    }
    let original = record.transaction.original().and_then(|original| books.set.resolve(original));
    let original = original.and_then(|id| books.set.records.get(&id)).copied();
    let mut sheet = Sheet::new();
    // `convert`: a late void becomes a refund, so Sales and Returns change places.
    let converted = books.disposition(record).is_some_and(|made| made.action == DecisionAction::Convert);
    match original {
        Some(original) => {
            // Exact mirror of the original, its difference included.
            for ((account, currency), amount) in original
                .transaction
                .basket()
                .map(|theirs| basket_reason(books, original, theirs))
                .unwrap_or_default()
            {
                *sheet.entry((account, currency)).or_default() -= amount;
            }
        }
        // Approved without its original: the void's own lines.
        None => sheet = plain_reason(books, record, basket, books.direction(record)),
    }
    if converted {
        let moved: Vec<_> = sheet.keys().filter(|key| key.0 == "Income:Sales").cloned().collect();
        for key in moved {
            let amount = sheet.remove(&key).unwrap_or_default();
            *sheet.entry(("Income:Returns".to_owned(), key.1)).or_default() += amount;
        }
    }
    sheet
}

/// The reason side of an original with its recorded difference, which its void takes back as well.
fn basket_reason(books: &Judgement<'_>, record: &Record, basket: &Basket) -> Sheet {
    let mut sheet = plain_reason(books, record, basket, books.direction(record));
    let mut whole = sheet.clone();
    for (account, currency, amount_minor) in money_side(books, record, basket) {
        add(&mut whole, account, currency, amount_minor);
    }
    let mut off = Sheet::new();
    for ((_, currency), amount) in whole {
        *off.entry((difference_account(books, record), currency)).or_default() -= amount;
    }
    for (key, amount) in off {
        *sheet.entry(key).or_default() += amount;
    }
    sheet
}

/// Section 7, reason side of a sale or refund as stated, line by line.
fn plain_reason(books: &Judgement<'_>, record: &Record, basket: &Basket, direction: i64) -> Sheet {
    let mut sheet = Sheet::new();
    let refund = record.transaction.kind() == Kind::Refund;
    for line in &basket.lines {
        let net = line.gross_minor() - line.tax_minor;
        let account = match line.flag {
            LineFlag::GiftCardSold => "Liabilities:Gift-Cards",
            LineFlag::ReturnInSale => "Income:Returns",
            LineFlag::Item | LineFlag::LineVoid if refund => "Income:Returns",
            LineFlag::Item | LineFlag::LineVoid => "Income:Sales",
        };
        add(&mut sheet, account, basket.currency, -direction * net);
        let tax = match &line.tax_code {
            Some(code) => format!("Liabilities:Sales-Tax:{code}"),
            None => "Liabilities:Sales-Tax".to_owned(),
        };
        add(&mut sheet, tax, basket.currency, -direction * line.tax_minor);
    }
    add(&mut sheet, "Liabilities:Tips", basket.currency, -direction * basket.tip_minor);
    // Section 2.7: a rounding beyond half a cash unit is none, and stays in the difference.
    if rounding_is_allowed(books, record, basket) {
        add(&mut sheet, "Income:Cash-Rounding", basket.currency, -direction * basket.rounding_minor);
    }
    sheet
}

/// Suspense:Differences, or the account that a reviewer named (`classify`).
fn difference_account(books: &Judgement<'_>, record: &Record) -> String {
    let case = ("TENDER_MISMATCH", record.id.to_string());
    let made = books.decisions_in(&case, &record.id);
    let named = made.last().filter(|made| made.action == DecisionAction::Classify);
    named.and_then(|made| made.parameter.clone()).unwrap_or_else(|| DIFFERENCES.to_owned())
}

fn cash_move(
    books: &Judgement<'_>,
    record: &Record,
    movement: CashMovement,
    amount_minor: i64,
    currency: Currency,
    reason: Option<&str>,
) -> Sheet {
    let mut sheet = Sheet::new();
    let safe = format!("Assets:Cash:Safe:{}", record.store);
    let named = reason
        .filter(|text| is_account(text))
        .map_or_else(|| difference_account(books, record), str::to_owned);
    let (direction, other) = match movement {
        CashMovement::Float => (1, safe),
        CashMovement::Pickup => (-1, safe),
        CashMovement::PaidIn => (1, named),
        CashMovement::PaidOut => (-1, named),
    };
    add(&mut sheet, drawer(record.log.terminal.as_str()), currency, direction * amount_minor);
    add(&mut sheet, other, currency, -direction * amount_minor);
    sheet
}

/// Whether a reason code is an account: one of the five roots and names below it.
pub(super) fn is_account(text: &str) -> bool {
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
    add(&mut sheet, CLEARING, batch.currency, -gross);
    sheet
}

/// Section 9: what a reviewer decided about a payment. Tax relief is a separate entry beside the bad debt.
fn decided_payment(books: &Judgement<'_>, sheet: &mut Sheet, record: &Record, payment: &PaymentCase) {
    use DecisionAction as A;
    let made = books.decisions_in(&payment.key, &record.id);
    let (amount, currency) = (payment.amount_minor, payment.currency);
    let at = |terminal: &Option<engine::ids::TerminalId>| {
        terminal.as_ref().map_or_else(|| drawer(record.log.terminal.as_str()), |named| drawer(named.as_str()))
    };
    let main = made.iter().rfind(|made| allowed(payment.key.0, made.action) && made.action != A::TaxRelief);
    let Some(main) = main else { return };
    match main.action {
        A::Paid => {
            let card = main.parameter.as_deref() == Some("card");
            let account = if card { CLEARING.to_owned() } else { at(&main.terminal) };
            add(sheet, account, currency, amount);
            add(sheet, DECLINED, currency, -amount);
        }
        A::BadDebt => {
            add(sheet, "Expenses:Bad-Debt", currency, amount);
            add(sheet, DECLINED, currency, -amount);
        }
        A::Reversed => {
            add(sheet, REFUNDS_DUE, currency, -amount);
            add(sheet, CLEARING, currency, amount);
        }
        A::PaidOut => {
            add(sheet, REFUNDS_DUE, currency, -amount);
            add(sheet, at(&main.terminal), currency, amount);
        }
        _ => {}
    }
    let relief = made.iter().any(|made| made.action == A::TaxRelief);
    if relief
        && main.action == A::BadDebt
        && let Some(basket) = record.transaction.basket()
    {
        add(sheet, "Liabilities:Sales-Tax", currency, basket.tax_minor());
        add(sheet, "Expenses:Bad-Debt", currency, -basket.tax_minor());
    }
}

/// Section 9, "allowed for", for payments.
pub(super) fn allowed(case_type: &str, action: DecisionAction) -> bool {
    use DecisionAction as A;
    match action {
        A::Retry | A::Paid | A::BadDebt | A::TaxRelief => case_type == "FAILED_PAYMENT",
        A::Reversed | A::PaidOut => ["PAYMENT_AFTER_VOID", "FAILED_REFUND_PAYMENT"].contains(&case_type),
        _ => false,
    }
}

/// Where a record stands, in the words of invariant I3.
pub(super) fn standing(books: &Judgement<'_>, record: &Record, id: &RecordId) -> super::Standing {
    if record.transaction.kind() == Kind::Hub {
        super::Standing::Stated
    } else if books.follows.contains_key(id) {
        super::Standing::Following
    } else if is_removed(books, record) {
        super::Standing::Removed
    } else if books.is_held(id) && books.disposition(record).is_none() {
        super::Standing::Held
    } else {
        super::Standing::Posted
    }
}
