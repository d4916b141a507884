//! The money side (LEDGER-RULES section 7) and stage F: into which account each tender goes now, and what became of
//! payments.

use std::collections::BTreeSet;

use engine::ids::RecordId;
use engine::money::Currency;
use engine::record::Record;
use engine::transaction::{
    Basket, Decision, DecisionAction, Kind, Outcome, Tender, TenderStatus, TenderType,
};

use super::judgement::{Judgement, Key};

const CLEARING: &str = "Assets:Card:Clearing";
const DECLINED: &str = "Assets:Receivable:Declined-Cards";
const REFUNDS_DUE: &str = "Liabilities:Customer-Refunds-Due";
const OFFLINE_PENDING: &str = "Assets:Card:Offline-Pending";
const SUSPENSE_PAYMENTS: &str = "Assets:Suspense:Payments";

/// The drawer of a till.
pub(super) fn drawer(terminal: &str) -> String {
    format!("Assets:Cash:Drawer:{terminal}")
}

/// The money of a record: account, currency and amount of every tender.
pub(super) fn money_side(
    books: &Judgement<'_>,
    record: &Record,
    basket: &Basket,
) -> Vec<(String, Currency, i64)> {
    let direction = books.direction(record);
    let mut side = Vec::new();
    for tender in &basket.tenders {
        let currency = tender.currency.unwrap_or(basket.currency);
        for (account, amount_minor) in parts(books, record, tender, &mut BTreeSet::new()) {
            side.push((account, currency, direction * amount_minor));
        }
    }
    side
}

/// The account of a tender, or, for a `mirror`, those of the tenders it gives back. `passed` stops a circle of voids
/// that mirror each other.
fn parts(
    books: &Judgement<'_>,
    record: &Record,
    tender: &Tender,
    passed: &mut BTreeSet<RecordId>,
) -> Vec<(String, i64)> {
    let name = match tender.tender {
        TenderType::Cash => return vec![(drawer(record.log.terminal.as_str()), tender.amount_minor)],
        TenderType::GiftCard => "Liabilities:Gift-Cards",
        TenderType::StoreCredit => "Liabilities:Store-Credit",
        TenderType::Coupon => "Assets:Coupons-Receivable",
        TenderType::Other => "Assets:Other-Tender",
        TenderType::Card if is_mirror(books, record, tender) => {
            return mirrored(books, record, tender, passed);
        }
        TenderType::Card => return vec![(card(books, record, tender), tender.amount_minor)],
    };
    vec![(name.to_owned(), tender.amount_minor)]
}

/// A void repeats the tenders of its original (section 3): `pending` with the same payment means `mirror` too.
fn is_mirror(books: &Judgement<'_>, record: &Record, tender: &Tender) -> bool {
    let repeats = || {
        let original = books.set.original_of(record).and_then(|id| books.set.records.get(&id));
        let basket = original.and_then(|original| original.transaction.basket());
        basket.is_some_and(|basket| {
            basket.tenders.iter().any(|other| other.payment.is_some() && other.payment == tender.payment)
        })
    };
    let void = record.transaction.kind() == Kind::Void;
    tender.status == TenderStatus::Mirror || (void && tender.status == TenderStatus::Pending && repeats())
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
    if has_failed(books, tender) {
        let money_in = books.direction(record) > 0;
        let case_type = if money_in { "FAILED_PAYMENT" } else { "FAILED_REFUND_PAYMENT" };
        let decided = decided_account(books, &payment_case(case_type, record, tender), record);
        return decided.unwrap_or_else(|| (if money_in { DECLINED } else { REFUNDS_DUE }).to_owned());
    }
    let waits = tender.status == TenderStatus::Pending && outcome(books, tender).is_none();
    (if waits { OFFLINE_PENDING } else { CLEARING }).to_owned()
}

/// The last outcome of a payment counts (stage F).
fn outcome(books: &Judgement<'_>, tender: &Tender) -> Option<Outcome> {
    let payment = tender.payment.as_deref()?;
    books.set.outcomes(payment).last().map(|row| row.1)
}

fn has_failed(books: &Judgement<'_>, tender: &Tender) -> bool {
    match tender.status {
        TenderStatus::Declined => true,
        TenderStatus::Pending => {
            matches!(outcome(books, tender), Some(Outcome::Declined | Outcome::Expired))
        }
        TenderStatus::Approved | TenderStatus::Mirror => false,
    }
}

/// The accounts in which the original's tenders are now; if one was pending when voided and was approved after all,
/// the customer is owed the money. Silent: several cards are given back in their order; what finds no card is card
/// money that nothing explains yet.
fn mirrored(
    books: &Judgement<'_>,
    record: &Record,
    tender: &Tender,
    passed: &mut BTreeSet<RecordId>,
) -> Vec<(String, i64)> {
    let targets = books.set.targets_of(record).into_iter();
    let first = targets.min_by_key(|id| books.set.key_of_target(id)).filter(|_| passed.insert(record.id));
    let original = first.and_then(|id| books.set.records.get(&id)).copied();
    let (mut given, mut left) = (Vec::new(), tender.amount_minor);
    let basket = original.and_then(|original| original.transaction.basket());
    if let (Some(original), Some(basket)) = (original, basket) {
        for theirs in basket.tenders.iter().filter(|one| one.tender == TenderType::Card) {
            let part = left.min(theirs.amount_minor);
            if part <= 0 {
                continue;
            }
            left -= part;
            if approved_after_void(books, record, theirs) {
                let case = payment_case("PAYMENT_AFTER_VOID", original, theirs);
                let decided = decided_account(books, &case, record);
                given.push((decided.unwrap_or_else(|| REFUNDS_DUE.to_owned()), part));
            } else {
                let part_of = Tender { amount_minor: part, ..theirs.clone() };
                given.extend(parts(books, original, &part_of, passed));
            }
        }
    }
    if left != 0 {
        given.push((SUSPENSE_PAYMENTS.to_owned(), left));
    }
    given
}

/// Pending when it was voided, as far as the voiding till knew, and approved after all.
fn approved_after_void(books: &Judgement<'_>, void: &Record, theirs: &Tender) -> bool {
    let payment = theirs.payment.as_deref().filter(|_| theirs.status == TenderStatus::Pending);
    let last = payment.and_then(|payment| books.set.outcomes(payment).last().copied());
    void.transaction.kind() == Kind::Void
        && last.is_some_and(|(by, outcome)| {
            outcome == Outcome::Approved && !books.set.had_seen(void, &by.log, by.seq)
        })
}

/// The subject of a payment's case: the payment, or (silent) the record if the payment has no name.
fn payment_case(case_type: &'static str, record: &Record, tender: &Tender) -> Key {
    (case_type, tender.payment.clone().unwrap_or_else(|| record.id.to_string()))
}

/// Section 9: where a reviewer put the money of a payment. The latest decision that the case allows counts.
fn decided_account(books: &Judgement<'_>, case: &Key, record: &Record) -> Option<String> {
    use DecisionAction as A;
    let made = latest_allowed(books, case, record)?;
    let till_or_clearing = || {
        let terminal = made.terminal.as_ref().unwrap_or(&record.log.terminal);
        let card = made.parameter.as_deref() == Some("card");
        if card { CLEARING.to_owned() } else { drawer(terminal.as_str()) }
    };
    Some(match made.action {
        A::Paid | A::PaidOut => till_or_clearing(),
        // Silent: tax relief says that the payment is given up as well.
        A::BadDebt | A::WriteOff | A::TaxRelief => "Expenses:Bad-Debt".to_owned(),
        A::Reversed => CLEARING.to_owned(),
        _ => DECLINED.to_owned(),
    })
}

fn latest_allowed<'a>(books: &Judgement<'a>, case: &Key, record: &Record) -> Option<&'a Decision> {
    books.decisions_in(case, &record.id).into_iter().rfind(|made| allowed(case.0, made.action))
}

/// Section 9, "allowed for", for payments.
pub(super) fn allowed(case_type: &str, action: DecisionAction) -> bool {
    use DecisionAction as A;
    match action {
        A::Retry | A::Paid | A::BadDebt | A::WriteOff | A::TaxRelief => case_type == "FAILED_PAYMENT",
        A::Reversed | A::PaidOut => ["PAYMENT_AFTER_VOID", "FAILED_REFUND_PAYMENT"].contains(&case_type),
        _ => false,
    }
}

/// Whether a reviewer gave a failed payment up with relief of its tax (P9: only expressly).
pub(super) fn is_relieved(books: &Judgement<'_>, record: &Record, tender: &Tender) -> bool {
    let failed = tender.tender == TenderType::Card && has_failed(books, tender);
    let case = payment_case("FAILED_PAYMENT", record, tender);
    failed
        && books.direction(record) > 0
        && latest_allowed(books, &case, record).is_some_and(|made| made.action == DecisionAction::TaxRelief)
}

/// Stage F: the cases of payments.
pub(super) fn judge_payments(books: &mut Judgement<'_>) {
    for (record, basket) in books.set.with_baskets().collect::<Vec<_>>() {
        if is_removed(books, record) {
            continue;
        }
        for tender in basket.tenders.iter().filter(|tender| tender.tender == TenderType::Card) {
            if is_mirror(books, record, tender) {
                late_approvals(books, record);
            } else if has_failed(books, tender) && !is_given_back(books, record, tender) {
                let money_in = books.direction(record) > 0;
                let case_type = if money_in { "FAILED_PAYMENT" } else { "FAILED_REFUND_PAYMENT" };
                let case = payment_case(case_type, record, tender);
                books.flag(case.0, case.1, &[record.id]);
            }
        }
    }
}

/// Goods returned, by a void or by refunds with `mirror` tenders: the case ends.
fn is_given_back(books: &Judgement<'_>, record: &Record, tender: &Tender) -> bool {
    let voided = books.voided_by.contains_key(&record.id)
        || books.follows.values().any(|followed| *followed == record.id);
    let reversals = books.reversals.get(&record.id).into_iter().flatten();
    let baskets = reversals.filter_map(|id| books.set.records.get(id)?.transaction.basket());
    let mirrors = baskets.flat_map(|basket| &basket.tenders).filter(|one| one.status == TenderStatus::Mirror);
    let back_minor: i64 = mirrors.map(|one| one.amount_minor).sum();
    voided || (back_minor > 0 && back_minor >= tender.amount_minor)
}

fn late_approvals(books: &mut Judgement<'_>, record: &Record) {
    if record.transaction.kind() != Kind::Void {
        return;
    }
    let Some(id) = books.set.original_of(record) else { return };
    let Some(original) = books.set.records.get(&id).copied() else { return };
    let Some(basket) = original.transaction.basket() else { return };
    for theirs in basket.tenders.iter().filter(|tender| tender.tender == TenderType::Card) {
        if approved_after_void(books, record, theirs) {
            let case = payment_case("PAYMENT_AFTER_VOID", original, theirs);
            books.flag(case.0, case.1, &[record.id, id]);
        }
    }
}

/// Section 9 `remove`: judged never to have happened.
pub(super) fn is_removed(books: &Judgement<'_>, record: &Record) -> bool {
    books.disposition(record).is_some_and(|made| made.action == DecisionAction::Remove)
}
