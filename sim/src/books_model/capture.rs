//! Stages C and D of LEDGER-RULES section 5: is a record well formed, and is it the only one of its kind.

use std::collections::{BTreeMap, BTreeSet};

use engine::ids::RecordId;
use engine::policy::ReceiptScope;
use engine::record::Record;
use engine::transaction::{Basket, Kind, LineFlag, TenderStatus, TenderType};

use super::judgement::Judgement;
use super::set::Target;

/// Stage C.
pub(super) fn judge_structure(books: &mut Judgement<'_>) {
    for (record, basket) in books.set.with_baskets().collect::<Vec<_>>() {
        if books.is_held(&record.id) {
            continue;
        }
        let policy = books.set.policy(record);
        let accepted = policy.currencies.is_empty() || policy.currencies.contains(&basket.currency);
        let foreign =
            basket.tenders.iter().any(|tender| tender.currency.is_some_and(|own| own != basket.currency));
        if !accepted || foreign {
            books.hold(record, "CURRENCY_MISMATCH", record.id.to_string(), &[]);
        }
        if has_wrong_sign(record, basket) {
            books.hold(record, "NEGATIVE_AMOUNT", record.id.to_string(), &[]);
        }
    }
}

/// Section 8, NEGATIVE_AMOUNT: negative quantity, price, amount or tender that is not `return_in_sale` or
/// `line_void`; negative line in a refund; tax larger than amount. (The law is silent on a flagged line that is
/// positive, and on a negative discount: both are held, as the till refuses both.)
fn has_wrong_sign(record: &Record, basket: &Basket) -> bool {
    let refund = record.transaction.kind() == Kind::Refund;
    let wrong_line = basket.lines.iter().any(|line| {
        let reversed = matches!(line.flag, LineFlag::ReturnInSale | LineFlag::LineVoid);
        let sign = if reversed { -1 } else { 1 };
        let (amount, tax) = (sign * line.amount_minor, sign * line.tax_minor);
        line.quantity.0 < 0
            || line.unit_price_minor.is_some_and(|price| price < 0)
            || line.discount_minor < 0
            || (reversed && refund)
            || amount < 0
            || tax < 0
            || (tax > amount && !line.adjustment.tax_exclusive)
    });
    let exchange = !refund && basket.lines.iter().any(|line| line.flag == LineFlag::ReturnInSale);
    wrong_line || (!exchange && basket.tenders.iter().any(|tender| tender.amount_minor < 0))
}

/// Section 2.7: what the tenders are off, per the record's own words; and whether its rounding is one.
pub(super) fn rounding_is_allowed(books: &Judgement<'_>, record: &Record, basket: &Basket) -> bool {
    let limit = books.set.policy(record).rounding_limit_minor(basket.currency);
    let cash = basket.tenders.iter().any(|tender| tender.tender == TenderType::Cash);
    basket.rounding_minor == 0 || (cash && basket.rounding_minor.abs() <= limit)
}

/// Stage C, what posts with a difference: Σ tenders ≠ total + rounding + tip, or a rounding that is none. A void only
/// repeats its original: it is flagged if it is off by something else. Only what is posted has a difference; a held
/// record is in suspense whole (P3).
pub(super) fn judge_differences(books: &mut Judgement<'_>) {
    for (record, basket) in books.set.with_baskets().collect::<Vec<_>>() {
        let original = books.void_target(record).and_then(|target| match target {
            Target::Here(original) => Some((original, original.transaction.basket()?)),
            Target::Elsewhere(_) => None,
        });
        let off = match original {
            Some((original, theirs)) if original.id != record.id => {
                in_own_currency(basket) != in_own_currency(theirs)
            }
            _ => {
                let owed = basket.total_minor() + basket.rounding_minor + basket.tip_minor;
                in_own_currency(basket) != owed || !rounding_is_allowed(books, record, basket)
            }
        };
        if off && books.counts(record) {
            books.flag("TENDER_MISMATCH", record.id.to_string(), &[record.id]);
        }
    }
}

fn in_own_currency(basket: &Basket) -> i64 {
    let own = basket.tenders.iter().filter(|tender| tender.currency.is_none_or(|one| one == basket.currency));
    own.map(|tender| tender.amount_minor).sum()
}

/// Stage D.
pub(super) fn judge_duplicates(books: &mut Judgement<'_>) {
    // "Leave out every record that some void in the set names as its original."
    let undone: BTreeSet<RecordId> = books
        .set
        .with_baskets()
        .filter(|(record, _)| record.transaction.kind() == Kind::Void)
        .filter_map(|(record, _)| books.set.original_of(record))
        .collect();
    let eligible: Vec<(&Record, &Basket)> = books
        .set
        .with_baskets()
        .filter(|(record, _)| !undone.contains(&record.id) && !books.is_held(&record.id))
        .collect();
    let mut captures: BTreeMap<String, Vec<&Record>> = BTreeMap::new();
    let mut payments: BTreeMap<(String, Kind), Vec<&Record>> = BTreeMap::new();
    for (record, basket) in &eligible {
        if let Some(key) = &record.transaction.idempotency_key {
            captures.entry(format!("key:{key}")).or_default().push(record);
        }
        captures.entry(receipt_subject(books, record)).or_default().push(record);
        // A void repeats its original's tenders (section 3): the authorisation in it is not its own.
        let void = record.transaction.kind() == Kind::Void;
        let own = basket.tenders.iter().filter(|tender| {
            tender.tender == TenderType::Card && tender.status != TenderStatus::Mirror && !void
        });
        let auths: BTreeSet<&String> = own.filter_map(|tender| tender.auth.as_ref()).collect();
        for auth in auths {
            payments.entry((auth.clone(), record.transaction.kind())).or_default().push(record);
        }
    }
    // Keys before receipt numbers. Silent: where a receipt number says of the same records what a key has said already,
    // it makes no case of its own.
    let mut repeats: BTreeMap<RecordId, RecordId> = BTreeMap::new();
    for (subject, group) in captures {
        let group = books.set.in_order(group);
        let said = group.iter().skip(1).all(|record| repeats.get(&record.id) == Some(&group[0].id));
        if !said {
            repeats.extend(group.iter().skip(1).map(|record| (record.id, group[0].id)));
            hold_later(books, &group, "DUPLICATE_CAPTURE", &subject);
        }
    }
    for ((auth, _), group) in payments {
        let group = books.set.in_order(group);
        hold_later(books, &group, "DUPLICATE_PAYMENT", &auth);
    }
}

/// The first of a group by K is posted, the others are held.
fn hold_later(books: &mut Judgement<'_>, group: &[&Record], reason: &'static str, subject: &str) {
    for record in group.iter().skip(1) {
        books.hold(record, reason, subject.to_owned(), &[group[0].id]);
    }
}

/// A receipt number within its scope (section 16).
fn receipt_subject(books: &Judgement<'_>, record: &Record) -> String {
    let receipt = &record.transaction.receipt;
    match books.set.policy(record).receipt_scope {
        ReceiptScope::Till => format!("receipt:{}:{receipt}", record.log.terminal),
        ReceiptScope::Store | ReceiptScope::Company => format!("receipt:{receipt}"),
    }
}

/// Stage D, advisory: same till, same lines, same amounts within the window without a common key, neither of the two
/// held or undone. (Silent: the tenders have to be alike as well; the case names the nearest one before.)
pub(super) fn suspect(books: &mut Judgement<'_>) {
    let undone = |id: &RecordId| {
        books.voided_by.contains_key(id) || books.follows.values().any(|followed| followed == id)
    };
    let alike: Vec<(&Record, &Basket)> = books
        .set
        .with_baskets()
        .filter(|(record, _)| record.transaction.kind() != Kind::Void)
        .filter(|(record, _)| books.counts(record) && !undone(&record.id))
        .collect();
    let mut found = Vec::new();
    for (later, basket) in &alike {
        let window_ms = books.set.policy(later).duplicate_window_ms;
        let twin = |row: &&(&Record, &Basket)| {
            let (earlier, other) = **row;
            let key = &later.transaction.idempotency_key;
            let common = key.is_some() && *key == earlier.transaction.idempotency_key;
            earlier.log.terminal == later.log.terminal
                && earlier.transaction.kind() == later.transaction.kind()
                && same_goods(basket, other)
                && (later.at.ms - earlier.at.ms).abs() <= window_ms
                && books.set.key(earlier) < books.set.key(later)
                && !common
        };
        let nearest = alike.iter().filter(twin).max_by_key(|row| books.set.key(row.0));
        found.extend(nearest.map(|row| (later.id, row.0.id)));
    }
    for (later, earlier) in found {
        books.flag("SUSPECTED_DUPLICATE", later.to_string(), &[later, earlier]);
    }
}

fn same_goods(one: &Basket, other: &Basket) -> bool {
    let lines = |basket: &Basket| -> Vec<_> {
        basket.lines.iter().map(|line| (line.sku.clone(), line.quantity, line.amount_minor)).collect()
    };
    let paid = |basket: &Basket| -> Vec<_> {
        basket.tenders.iter().map(|tender| (tender.tender, tender.amount_minor)).collect()
    };
    one.currency == other.currency && lines(one) == lines(other) && paid(one) == paid(other)
}
