//! The money side (LEDGER-RULES section 7) and stage F: into which account each tender goes now, and what became of
//! payments.

use engine::ids::RecordId;
use engine::record::Record;
use engine::transaction::{Basket, DecisionAction, Kind, Outcome, Tender, TenderStatus, TenderType};

use super::judgement::{Judgement, Key};
use super::set::Target;

pub(super) const CLEARING: &str = "Assets:Card:Clearing";
pub(super) const DECLINED: &str = "Assets:Receivable:Declined-Cards";
pub(super) const REFUNDS_DUE: &str = "Liabilities:Customer-Refunds-Due";
const OFFLINE_PENDING: &str = "Assets:Card:Offline-Pending";
const SUSPENSE_PAYMENTS: &str = "Assets:Suspense:Payments";

/// The account of a tender.
pub(super) fn account(books: &Judgement<'_>, record: &Record, tender: &Tender) -> String {
    let name = match tender.tender {
        TenderType::Cash => return drawer(record.log.terminal.as_str()),
        TenderType::GiftCard => "Liabilities:Gift-Cards",
        TenderType::StoreCredit => "Liabilities:Store-Credit",
        TenderType::Coupon => "Assets:Coupons-Receivable",
        TenderType::Other => "Assets:Other-Tender",
        TenderType::Card => return card(books, record, tender),
    };
    name.to_owned()
}

pub(super) fn drawer(terminal: &str) -> String {
    format!("Assets:Cash:Drawer:{terminal}")
}

fn card(books: &Judgement<'_>, record: &Record, tender: &Tender) -> String {
    // "Card whose authorisation belongs to an earlier record (DUPLICATE_PAYMENT)."
    let duplicate = books
        .holds_of(&record.id)
        .iter()
        .any(|hold| hold.reason == "DUPLICATE_PAYMENT" && tender.auth.as_ref() == Some(&hold.case.1));
    if duplicate {
        return SUSPENSE_PAYMENTS.to_owned();
    }
    let failed = if books.direction(record) > 0 { DECLINED } else { REFUNDS_DUE };
    let name = match tender.status {
        TenderStatus::Approved => CLEARING,
        TenderStatus::Declined => failed,
        TenderStatus::Pending => match outcome(books, tender) {
            None => OFFLINE_PENDING,
            Some(Outcome::Approved) => CLEARING,
            Some(Outcome::Declined | Outcome::Expired) => failed,
        },
        TenderStatus::Mirror => return mirrored(books, record, tender),
    };
    name.to_owned()
}

/// The last outcome of a payment counts (stage F).
fn outcome(books: &Judgement<'_>, tender: &Tender) -> Option<Outcome> {
    let payment = tender.payment.as_deref()?;
    books.set.outcomes(payment).last().map(|row| row.1)
}

/// The account in which the original's tender is now; if that one was pending when voided and was approved after
/// all, the customer is owed the money.
fn mirrored(books: &Judgement<'_>, record: &Record, tender: &Tender) -> String {
    let Some((original, theirs)) = mirrored_tender(books, record, tender) else {
        return SUSPENSE_PAYMENTS.to_owned();
    };
    if approved_after_void(books, record, theirs) {
        return REFUNDS_DUE.to_owned();
    }
    card(books, original, theirs)
}

/// The tender of the original that a `mirror` tender stands for: same place among the cards, or same amount.
fn mirrored_tender<'a>(
    books: &Judgement<'a>,
    record: &Record,
    tender: &Tender,
) -> Option<(&'a Record, &'a Tender)> {
    let original = record.transaction.original().and_then(|original| books.set.resolve(original))?;
    let Some(Target::Here(original)) = books.set.target(&original) else { return None };
    let theirs = original.transaction.basket()?.tenders.iter().filter(|one| one.tender == TenderType::Card);
    let theirs: Vec<&Tender> = theirs.filter(|one| one.status != TenderStatus::Mirror).collect();
    let same =
        theirs.iter().find(|one| one.payment == tender.payment && one.amount_minor == tender.amount_minor);
    let near = same.or_else(|| theirs.iter().find(|one| one.amount_minor == tender.amount_minor));
    near.or_else(|| theirs.first()).map(|one| (original, *one))
}

/// Pending at the void (no outcome preceded it in K) and approved now.
fn approved_after_void(books: &Judgement<'_>, void: &Record, theirs: &Tender) -> bool {
    let Some(payment) = theirs.payment.as_deref().filter(|_| theirs.status == TenderStatus::Pending) else {
        return false;
    };
    let outcomes = books.set.outcomes(payment);
    let known = outcomes.iter().any(|(record, _)| books.set.key(record) < books.set.key(void));
    !known && outcomes.last().is_some_and(|row| row.1 == Outcome::Approved)
}

/// A payment that a person has to look at.
pub(super) struct PaymentCase {
    pub(super) key: Key,
    pub(super) record: RecordId,
    pub(super) amount_minor: i64,
    pub(super) currency: engine::money::Currency,
}

/// Stage F: the cases of payments, each with the record whose money it is about.
pub(super) fn judge_payments(books: &mut Judgement<'_>) -> Vec<PaymentCase> {
    let mut found = Vec::new();
    for (record, basket) in books.set.with_baskets().collect::<Vec<_>>() {
        for tender in basket.tenders.iter().filter(|tender| tender.tender == TenderType::Card) {
            let amount_minor = books.direction(record) * tender.amount_minor;
            let currency = tender.currency.unwrap_or(basket.currency);
            let case = |case_type, subject| PaymentCase {
                key: (case_type, subject),
                record: record.id,
                amount_minor,
                currency,
            };
            if let Some(payment) = failed(books, record, tender) {
                let case_type =
                    if books.direction(record) > 0 { "FAILED_PAYMENT" } else { "FAILED_REFUND_PAYMENT" };
                books.flag(case_type, payment.clone(), &[record.id]);
                found.push(case(case_type, payment));
            }
            if let Some((original, theirs)) = paid_after_void(books, record, tender) {
                let payment = theirs.payment.clone().unwrap_or_default();
                books.flag("PAYMENT_AFTER_VOID", payment.clone(), &[record.id, original]);
                found.push(case("PAYMENT_AFTER_VOID", payment));
            }
        }
    }
    found
}

/// The payment of a tender that was declined or expired, unless a void has undone the sale or it never happened.
fn failed(books: &Judgement<'_>, record: &Record, tender: &Tender) -> Option<String> {
    let declined = tender.status == TenderStatus::Declined;
    let lapsed = tender.status == TenderStatus::Pending
        && matches!(outcome(books, tender), Some(Outcome::Declined | Outcome::Expired));
    let undone = books.voided_by.contains_key(&record.id)
        || books.follows.values().any(|followed| *followed == record.id)
        || is_removed(books, record);
    let name =
        tender.payment.clone().or_else(|| tender.auth.clone()).unwrap_or_else(|| record.id.to_string());
    ((declined || lapsed) && !undone).then_some(name)
}

fn paid_after_void<'a>(
    books: &Judgement<'a>,
    record: &Record,
    tender: &Tender,
) -> Option<(RecordId, &'a Tender)> {
    if record.transaction.kind() != Kind::Void || tender.status != TenderStatus::Mirror {
        return None;
    }
    let (original, theirs) = mirrored_tender(books, record, tender)?;
    (approved_after_void(books, record, theirs) && !is_removed(books, record))
        .then_some((original.id, theirs))
}

/// Section 9 `remove`: judged never to have happened.
pub(super) fn is_removed(books: &Judgement<'_>, record: &Record) -> bool {
    books.disposition(record).is_some_and(|made| made.action == DecisionAction::Remove)
}

/// The money of a record: account, currency and amount of every tender.
pub(super) fn money_side(
    books: &Judgement<'_>,
    record: &Record,
    basket: &Basket,
) -> Vec<(String, engine::money::Currency, i64)> {
    let direction = books.direction(record);
    basket
        .tenders
        .iter()
        .map(|tender| {
            let currency = tender.currency.unwrap_or(basket.currency);
            (account(books, record, tender), currency, direction * tender.amount_minor)
        })
        .collect()
}
