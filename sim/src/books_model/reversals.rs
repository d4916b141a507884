//! Stage E of LEDGER-RULES section 5: refunds, voids and exchanges against the sales they name, in the order K, those
//! that a reviewer prefers first.

use std::collections::{BTreeMap, BTreeSet};

use engine::ids::RecordId;
use engine::policy::BlindRefunds;
use engine::record::Record;
use engine::transaction::{Body, DecisionAction, HubRecord, Kind, Line, LineFlag, Reference, TenderType};

use super::judgement::Judgement;
use super::set::{Set, Target};

/// A part of a sale's line that a refund or exchange uses up.
#[derive(Clone, Copy)]
struct Use {
    by: RecordId,
    sale: RecordId,
    line: u32,
    quantity: i64,
    amount_minor: i64,
    tax_minor: i64,
}

/// What stage E knows while it walks.
#[derive(Default)]
struct Walk {
    uses: Vec<Use>,
    /// Reversals of a record that count or reserve: original -> reversals, in the order they were walked.
    reversals: BTreeMap<RecordId, Vec<RecordId>>,
    /// Records whose void was accepted (not merely held by policy).
    accepted_void: BTreeSet<RecordId>,
    /// Voids that follow held records: original -> void.
    followed: BTreeMap<RecordId, RecordId>,
}

/// Why a reversal is held, in which case and with whom.
struct Problem {
    reason: &'static str,
    subject: String,
    others: Vec<RecordId>,
}

/// Stage E.
pub(super) fn judge(books: &mut Judgement<'_>) {
    let preferred = preferred(books);
    let reverses = |record: &&Record| match &record.transaction.body {
        Body::Refund { .. } | Body::Void { .. } => true,
        Body::Sale(basket) => basket.lines.iter().any(|line| line.flag == LineFlag::ReturnInSale),
        _ => false,
    };
    let walkers: Vec<&Record> =
        books.set.of_tills().filter(reverses).filter(|record| !books.is_held(&record.id)).collect();
    let mut walkers = books.set.in_order(walkers);
    walkers.sort_by_key(|record| !preferred.contains(&record.id));
    let mut walk = Walk::default();
    for record in walkers {
        if record.transaction.kind() == Kind::Void {
            judge_void(books, &mut walk, record);
        } else {
            judge_returns(books, &mut walk, record);
        }
    }
    conflict_members(books, &walk);
}

/// Section 9 `prefer`: per case the latest one counts.
fn preferred(books: &Judgement<'_>) -> BTreeSet<RecordId> {
    let mut winners: BTreeMap<&String, RecordId> = BTreeMap::new();
    for (_, made) in books.set.decisions() {
        if made.action == DecisionAction::Prefer && made.case_type == "REVERSAL_CONFLICT" {
            winners.extend(made.member.map(|winner| (&made.subject, winner)));
        }
    }
    winners.into_values().collect()
}

fn judge_void(books: &mut Judgement<'_>, walk: &mut Walk, record: &Record) {
    let Some(reference) = record.transaction.original() else {
        return books.hold(record, "INVALID_REFERENCE", record.id.to_string(), &[]);
    };
    let Some(id) = books.set.resolve(reference) else {
        if approved_unseen(books, record, reference) {
            return;
        }
        return hold_all(books, record, vec![unresolved(&books.set, reference)]);
    };
    let original = match books.set.target(&id) {
        Some(Target::Here(original)) if reversible(original) && id != record.id => original,
        _ => {
            let here: Vec<RecordId> = books.set.records.contains_key(&id).then_some(id).into_iter().collect();
            return books.hold(record, "INVALID_REFERENCE", record.id.to_string(), &here);
        }
    };
    if approved_unseen(books, record, reference) {
        accept_void(books, walk, record, original, true);
        return;
    }
    // The target is held: the first void follows it, the next is a double void.
    if !books.counts(original) {
        if walk.followed.contains_key(&id) {
            return books.hold(record, "DOUBLE_VOID", id.to_string(), &[id]);
        }
        walk.followed.insert(id, record.id);
        books.follows.insert(record.id, id);
        free(walk, id);
        return;
    }
    if let Some(first) = walk.reversals.get(&id).and_then(|list| list.first()) {
        let void = books.set.records.get(first).is_some_and(|one| one.transaction.kind() == Kind::Void);
        let reason = if void { "DOUBLE_VOID" } else { "VOID_AFTER_REFUND" };
        return books.hold(record, reason, id.to_string(), &[id]);
    }
    if by_type(record) != by_type(original) {
        books.hold(record, "VOID_TENDER_MISMATCH", record.id.to_string(), &[id]);
        if books.counts(record) {
            accept_void(books, walk, record, original, true);
        }
        return;
    }
    let late = after_close(books, record, original);
    if late {
        books.hold(record, "VOID_AFTER_CLOSE", id.to_string(), &[id]);
        if frees(books, record) {
            return;
        }
    }
    let accepted = books.counts(record);
    accept_void(books, walk, record, original, accepted);
}

/// Only sales and refunds can be voided.
fn reversible(original: &Record) -> bool {
    matches!(original.transaction.kind(), Kind::Sale | Kind::Refund)
}

/// A void counts (or, held by policy, reserves): nothing remains of its sale; of a refund or exchange, what it had
/// used is free again, but only once the void is agreed ("policy holds reserve, they never release").
fn accept_void(
    books: &mut Judgement<'_>,
    walk: &mut Walk,
    record: &Record,
    original: &Record,
    accepted: bool,
) {
    walk.reversals.entry(original.id).or_default().push(record.id);
    books.voided_by.insert(original.id, record.id);
    if accepted {
        walk.accepted_void.insert(original.id);
        free(walk, original.id);
    }
}

/// What a record had used up or reserved is free again.
fn free(walk: &mut Walk, id: RecordId) {
    walk.uses.retain(|one| one.by != id);
    for list in walk.reversals.values_mut() {
        list.retain(|one| *one != id);
    }
}

/// Sums by tender type: a void pays back what was paid, the same way.
fn by_type(record: &Record) -> BTreeMap<(TenderType, engine::money::Currency), i64> {
    let mut sums = BTreeMap::new();
    if let Some(basket) = record.transaction.basket() {
        for tender in &basket.tenders {
            *sums.entry((tender.tender, tender.currency.unwrap_or(basket.currency))).or_default() +=
                tender.amount_minor;
        }
    }
    sums.retain(|_, sum| *sum != 0);
    sums
}

/// Another business day; or a day close of the original's log after it precedes the void in K; or a settlement that
/// holds the original's card payment is not later than the void.
fn after_close(books: &Judgement<'_>, void: &Record, original: &Record) -> bool {
    let closed = books.set.of_tills().any(|record| {
        record.transaction.kind() == Kind::DayClose
            && record.log == original.log
            && record.seq > original.seq
            && books.set.key(record) < books.set.key(void)
    });
    let cards: Vec<&String> = original
        .transaction
        .basket()
        .into_iter()
        .flat_map(|basket| &basket.tenders)
        .filter(|tender| tender.tender == TenderType::Card)
        .flat_map(|tender| tender.payment.iter().chain(&tender.auth))
        .collect();
    let void_ms = books.set.effective_ms[&void.id];
    let settled = books.set.hub_statements().into_iter().any(|(record, statement)| match statement {
        HubRecord::Settlement(batch) => {
            books.set.effective_ms[&record.id] <= void_ms
                && batch.payments.iter().any(|row| cards.contains(&&row.payment))
        }
        _ => false,
    });
    void.business_day != original.business_day || closed || settled
}

fn judge_returns(books: &mut Judgement<'_>, walk: &mut Walk, record: &Record) {
    let Some(basket) = record.transaction.basket() else { return };
    let refund = record.transaction.kind() == Kind::Refund;
    let policy = books.set.policy(record);
    let lines = basket.lines.iter().filter(|line| refund || line.flag == LineFlag::ReturnInSale);
    let (mut problems, mut used, mut blind, mut returned_minor) = (Vec::new(), Vec::new(), false, 0);
    let mut named = Vec::new();
    for line in lines {
        returned_minor += line.gross_minor().abs();
        let by_line = line.original.as_ref().and_then(|original| original.reference.as_ref());
        let Some(reference) = by_line.or_else(|| record.transaction.original()) else {
            blind = true;
            continue;
        };
        match judge_line(books, walk, record, line, reference, &used) {
            Ok(one) => {
                named.push(one.sale);
                used.push(one);
            }
            Err(None) => {}
            Err(Some(problem)) => problems.push(problem),
        }
    }
    if blind {
        match policy.blind_refunds {
            BlindRefunds::Hold => problems.push(Problem {
                reason: "NO_REFERENCE",
                subject: record.id.to_string(),
                others: Vec::new(),
            }),
            BlindRefunds::Flag => books.flag("NO_REFERENCE", record.id.to_string(), &[record.id]),
            BlindRefunds::Allow => {}
        }
    }
    let approver = matches!(&record.transaction.body, Body::Refund { approver: Some(_), .. });
    let over = policy.refund_limit_minor.is_some_and(|limit| returned_minor > limit);
    if problems.is_empty() && over && !approver {
        problems.push(Problem { reason: "REFUND_OVER_LIMIT", subject: record.id.to_string(), others: named });
    }
    let only_policy = problems.iter().all(|problem| problem.reason == "REFUND_OVER_LIMIT");
    hold_all(books, record, problems);
    let reserves = books.counts(record) || (only_policy && !frees(books, record));
    if reserves {
        for one in used {
            let list = walk.reversals.entry(one.sale).or_default();
            if !list.contains(&record.id) {
                list.push(record.id);
            }
            walk.uses.push(one);
        }
    }
}

/// One line of a refund or exchange against its original: what it uses up, or what is wrong (`None`: nothing is, and
/// nothing is used up).
fn judge_line(
    books: &Judgement<'_>,
    walk: &Walk,
    record: &Record,
    line: &Line,
    reference: &Reference,
    used_before: &[Use],
) -> Result<Use, Option<Problem>> {
    let approved = approved_unseen(books, record, reference);
    let Some(id) = books.set.resolve(reference) else {
        return Err((!approved).then(|| unresolved(&books.set, reference)));
    };
    let invalid = || {
        let others = books.set.records.contains_key(&id).then_some(id).into_iter().collect();
        Some(Problem { reason: "INVALID_REFERENCE", subject: record.id.to_string(), others })
    };
    let target = books.set.target(&id).ok_or_else(invalid)?;
    if let Target::Here(original) = target
        && !books.counts(original)
        && !approved
    {
        return Err(Some(Problem { reason: "AWAITING_ORIGINAL", subject: id.to_string(), others: vec![id] }));
    }
    let (currency, lines, _) = target.basket().ok_or_else(invalid)?;
    let own_currency = record.transaction.basket().map(|basket| basket.currency);
    if !target.is_sale() || own_currency != Some(currency) || id == record.id {
        return Err(invalid());
    }
    let sold = original_line(line, lines).ok_or_else(invalid)?;
    let one = Use {
        by: record.id,
        sale: id,
        line: sold.number,
        quantity: line.quantity.0.abs(),
        amount_minor: line.gross_minor().abs(),
        tax_minor: line.tax_minor.abs(),
    };
    let taken = |pick: fn(&Use) -> i64| -> i64 {
        let of_line = |row: &&Use| row.sale == id && row.line == sold.number;
        walk.uses.iter().chain(used_before).filter(of_line).map(pick).sum()
    };
    let fits = taken(|row| row.quantity) + one.quantity <= sold.quantity.0
        && taken(|row| row.amount_minor) + one.amount_minor <= sold.gross_minor()
        && taken(|row| row.tax_minor) + one.tax_minor <= sold.tax_minor
        && !books.voided_by.contains_key(&id);
    if fits || approved {
        return Ok(one);
    }
    let reason = if walk.accepted_void.contains(&id) { "REFUND_AFTER_VOID" } else { "OVER_REFUND" };
    Err(Some(Problem { reason, subject: id.to_string(), others: vec![id] }))
}

/// `OriginalLine::line`: the line named, or the one with the same number and item, or the first of that item. Only
/// what was sold can come back.
fn original_line<'a>(line: &Line, sold: &'a [Line]) -> Option<&'a Line> {
    let goods = || sold.iter().filter(|one| matches!(one.flag, LineFlag::Item | LineFlag::GiftCardSold));
    if let Some(number) = line.original.as_ref().and_then(|original| original.line) {
        return goods().find(|one| one.number == number);
    }
    let same = goods().find(|one| one.number == line.number && one.sku == line.sku);
    same.or_else(|| goods().find(|one| one.sku == line.sku))
}

/// Section 5, AWAITING or ORPHAN: complete up to the number and not there, or still to come.
fn unresolved(set: &Set<'_>, reference: &Reference) -> Problem {
    let orphan = set.is_complete_up_to(reference);
    let reason = if orphan { "ORPHAN_REFERENCE" } else { "AWAITING_ORIGINAL" };
    Problem { reason, subject: reference_subject(reference), others: Vec::new() }
}

/// A reference that names nothing here, as the subject of a case.
fn reference_subject(reference: &Reference) -> String {
    match (&reference.id, &reference.terminal, &reference.receipt, reference.seq) {
        (Some(id), ..) => id.to_string(),
        (_, Some(terminal), Some(receipt), _) => format!("receipt:{terminal}:{receipt}"),
        (_, None, Some(receipt), _) => format!("receipt:{receipt}"),
        (_, Some(terminal), None, Some(seq)) => format!("{terminal}:{seq}"),
        _ => String::new(),
    }
}

/// Section 9 `approve` of AWAITING_ORIGINAL or ORPHAN_REFERENCE: counts as accepted, and "a later arriving original is
/// used up".
fn approved_unseen(books: &Judgement<'_>, record: &Record, reference: &Reference) -> bool {
    ["AWAITING_ORIGINAL", "ORPHAN_REFERENCE"].into_iter().any(|case_type| {
        let made = books.decisions_in(&(case_type, reference_subject(reference)), &record.id);
        made.last().is_some_and(|made| made.action == DecisionAction::Approve)
    }) && books.set.resolve(reference).is_some()
}

/// A decision that the money was not a return frees what a policy hold reserves.
fn frees(books: &Judgement<'_>, record: &Record) -> bool {
    books
        .disposition(record)
        .is_some_and(|made| !matches!(made.action, DecisionAction::Approve | DecisionAction::Convert))
}

fn hold_all(books: &mut Judgement<'_>, record: &Record, problems: Vec<Problem>) {
    for problem in problems {
        books.hold(record, problem.reason, problem.subject, &problem.others);
    }
}

/// The members of a conflict: the original, and every reversal of it that counts, reserves or is held for it.
fn conflict_members(books: &mut Judgement<'_>, walk: &Walk) {
    let conflicts: Vec<String> =
        books.cases.keys().filter(|case| case.0 == "REVERSAL_CONFLICT").map(|case| case.1.clone()).collect();
    for subject in conflicts {
        let counting = walk.reversals.iter().find(|(id, _)| id.to_string() == subject);
        let members: Vec<RecordId> = counting.into_iter().flat_map(|(_, list)| list.clone()).collect();
        books.flag("REVERSAL_CONFLICT", subject, &members);
    }
}
