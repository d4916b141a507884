//! Stage E of LEDGER-RULES section 5: refunds, voids and exchanges against the sales they name, in the order K, those
//! that a reviewer prefers first.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use engine::ids::{LogId, RecordId};
use engine::money::Currency;
use engine::policy::BlindRefunds;
use engine::record::Record;
use engine::transaction::{
    Basket, Body, Decision, DecisionAction, HubRecord, Kind, Line, LineFlag, Reference, TenderType,
};

use super::judgement::Judgement;
use super::money;
use super::set::{CanonicalKey, Set, Target, UNLOCKED};

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
    let reverses = |record: &&Record| match &record.transaction.body {
        Body::Refund { .. } | Body::Void { .. } => true,
        Body::Sale(basket) => basket.lines.iter().any(|line| line.flag == LineFlag::ReturnInSale),
        _ => false,
    };
    let walkers: Vec<&Record> =
        books.set.of_tills().filter(reverses).filter(|record| !books.is_held(&record.id)).collect();
    books.waiting = walkers.iter().map(|record| record.id).collect();
    let preferred = preferred(books);
    let mut walkers = books.set.in_order(walkers);
    walkers.sort_by_cached_key(|record| place(books, &preferred, record));
    let mut walk = Walk::default();
    for record in walkers {
        if record.transaction.kind() == Kind::Void {
            judge_void(books, &mut walk, record);
        } else {
            judge_returns(books, &mut walk, record);
        }
        books.waiting.remove(&record.id);
    }
    conflict_members(books, &walk);
}

/// Section 9 `prefer`: per case the latest one counts. Winner -> the original it reverses, and the first lock that the
/// hub took after that decision.
fn preferred(books: &Judgement<'_>) -> BTreeMap<RecordId, (RecordId, u64)> {
    let mut winners: BTreeMap<&String, (Option<RecordId>, u64)> = BTreeMap::new();
    for (by, made) in books.set.decisions() {
        if made.action == DecisionAction::Prefer && made.case_type == "REVERSAL_CONFLICT" {
            let later = books.set.locks().into_iter().filter(|(lock_by, _)| lock_by.seq > by.seq);
            let open = later.map(|(_, lock)| lock.number).min().unwrap_or(UNLOCKED);
            winners.insert(&made.subject, (made.member, open));
        }
    }
    let named = winners.into_iter();
    let named = named.filter_map(|(subject, (winner, open))| Some((winner?, (subject.parse().ok()?, open))));
    let reverses = |row: &(RecordId, (RecordId, u64))| {
        books.set.records.get(&row.0).is_some_and(|winner| books.set.targets_of(winner).contains(&row.1.0))
    };
    named.filter(reverses).collect()
}

/// The order of the walk: K; what a reviewer prefers comes right after its original, before any other reversal of it,
/// but behind what was locked before the reviewer preferred it (P7, I9)
fn place(
    books: &Judgement<'_>,
    preferred: &BTreeMap<RecordId, (RecordId, u64)>,
    record: &Record,
) -> (u64, i64, LogId, u64, RecordId, bool, CanonicalKey) {
    let own = books.set.key(record);
    let anchor = preferred.get(&record.id).and_then(|(original, _)| books.set.target(original));
    let open = preferred.get(&record.id).map_or(UNLOCKED, |row| row.1);
    let mut rank = own.0;
    let (ms, log, seq, id) = match anchor {
        Some(Target::Here(original)) => {
            let key = books.set.key(original);
            rank = key.0.max(rank.min(open));
            (key.1, original.log.clone(), original.seq, original.id)
        }
        // The hub's statement stands for a sale of another store.
        Some(Target::Elsewhere(sale)) => {
            rank = rank.min(open);
            let by = books.set.vouched_by(&sale.id);
            by.map_or((own.1, record.log.clone(), record.seq, record.id), |by| {
                (sale.effective_ms, by.log.clone(), by.seq, by.id)
            })
        }
        None => (own.1, record.log.clone(), record.seq, record.id),
    };
    (rank, ms, log, seq, id, preferred.contains_key(&record.id), own)
}

fn judge_void(books: &mut Judgement<'_>, walk: &mut Walk, record: &Record) {
    let Some(reference) = record.transaction.original() else {
        return books.hold(record, "INVALID_REFERENCE", record.id.to_string(), &[]);
    };
    let Some(id) = books.set.resolve_from(reference, record) else {
        return hold_all(books, record, vec![unresolved(&books.set, reference)]);
    };
    let original = match books.set.target(&id) {
        Some(Target::Here(original)) if reversible(original) && id != record.id => original,
        _ => return books.hold(record, "INVALID_REFERENCE", record.id.to_string(), &[id]),
    };
    let failed = |reason, subject| Some(Problem { reason, subject, others: vec![id] });
    let late = after_close(books, record, original);
    let problem = if !books.counts(original) {
        if books.waiting.contains(&id) {
            failed("AWAITING_ORIGINAL", id.to_string())
        } else if money::is_removed(books, original) {
            // Silent: what was judged never to have happened cannot be undone.
            failed("INVALID_REFERENCE", record.id.to_string())
        } else if let Entry::Vacant(first) = walk.followed.entry(id) {
            first.insert(record.id);
            books.follows.insert(record.id, id);
            return free(books, walk, id);
        } else {
            failed("DOUBLE_VOID", id.to_string())
        }
    } else if books.voided_by.contains_key(&id) {
        failed("DOUBLE_VOID", id.to_string())
    } else if books.reversals.get(&id).is_some_and(|list| !list.is_empty()) {
        // One that is held by policy counts as well: it reserves what the void would take (I4).
        failed("VOID_AFTER_REFUND", id.to_string())
    } else if by_type(record) != by_type(original) {
        failed("VOID_TENDER_MISMATCH", record.id.to_string())
    } else if late {
        failed("VOID_AFTER_CLOSE", id.to_string())
    } else {
        None
    };
    let by_policy = problem.as_ref().is_some_and(|problem| problem.reason == "VOID_AFTER_CLOSE");
    hold_all(books, record, problem.into_iter().collect());
    books.waiting.remove(&record.id);
    if books.counts(record) {
        accept_void(books, walk, record, original, true);
    } else if by_policy && books.disposition(record).is_none() {
        accept_void(books, walk, record, original, false);
    }
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
    books.voided_by.insert(original.id, record.id);
    if accepted {
        free(books, walk, original.id);
    }
}

/// What a record had used up or reserved is free again.
fn free(books: &mut Judgement<'_>, walk: &mut Walk, id: RecordId) {
    walk.uses.retain(|one| one.by != id);
    for list in books.reversals.values_mut() {
        list.retain(|one| *one != id);
    }
}

/// Sums by tender type: a void pays back what was paid, the same way.
fn by_type(record: &Record) -> (Option<Currency>, BTreeMap<TenderType, i64>) {
    let mut sums = BTreeMap::new();
    let basket = record.transaction.basket();
    for tender in basket.into_iter().flat_map(|basket| &basket.tenders) {
        *sums.entry(tender.tender).or_default() += tender.amount_minor;
    }
    sums.retain(|_, sum| *sum != 0);
    (basket.map(|basket| basket.currency), sums)
}

/// Another business day; or a day close of the original's log after it (the next one, which covers it) precedes the void
/// in K; or a settlement that holds the original's card payment is not later than the void.
fn after_close(books: &Judgement<'_>, void: &Record, original: &Record) -> bool {
    let closes: Vec<&Record> = books
        .set
        .of_tills()
        .filter(|record| record.transaction.kind() == Kind::DayClose)
        .filter(|record| record.log == original.log && record.seq > original.seq)
        .collect();
    let next = closes.iter().map(|record| record.seq).min();
    let closed =
        closes.iter().any(|record| Some(record.seq) == next && books.set.key(record) < books.set.key(void));
    let cards: Vec<&String> = original
        .transaction
        .basket()
        .into_iter()
        .flat_map(|basket| &basket.tenders)
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
    let whole = record.transaction.original();
    let (mut problems, mut used, mut blind) = (Vec::new(), Vec::new(), false);
    for line in basket.lines.iter().filter(|line| refund || line.flag == LineFlag::ReturnInSale) {
        // `OriginalLine::reference`: "`None`: the one that the transaction names".
        let by_line = own_reference(line);
        match by_line.or(whole) {
            None => blind = true,
            Some(reference) => match judge_line(books, walk, record, line, reference, &used) {
                Ok(one) => used.push(one),
                // Silent: lines name their sales one by one, this one names none, and the sale that the whole names has
                // no such item: a return without a sale, as real logs have them.
                Err(problem)
                    if by_line.is_none()
                        && basket.lines.iter().any(|other| own_reference(other).is_some())
                        && problem.reason == "INVALID_REFERENCE"
                        && judge_original(books, record, reference).is_ok() =>
                {
                    blind = true;
                }
                Err(problem) => problems.push(problem),
            },
        }
    }
    if basket.lines.is_empty() {
        blind |= whole.is_none();
        problems.extend(whole.and_then(|whole| judge_original(books, record, whole).err()));
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
    if problems.is_empty() && lacks_approval(books, record, basket, policy.refund_limit_minor) {
        let others = books.set.targets_of(record).into_iter().collect();
        problems.push(Problem { reason: "REFUND_OVER_LIMIT", subject: record.id.to_string(), others });
    }
    let only_policy = problems.iter().all(|problem| problem.reason == "REFUND_OVER_LIMIT");
    hold_all(books, record, problems);
    books.waiting.remove(&record.id);
    if books.counts(record) || (only_policy && books.disposition(record).is_none()) {
        for one in used {
            let list = books.reversals.entry(one.sale).or_default();
            if !list.contains(&record.id) {
                list.push(record.id);
            }
            walk.uses.push(one);
        }
    }
}

/// Total (of an exchange: the money out) above the limit, and no approver. What a reviewer approved in another case
/// (silent: as long as nobody decided in this one) needs no second approval.
fn lacks_approval(books: &Judgement<'_>, record: &Record, basket: &Basket, limit_minor: Option<i64>) -> bool {
    let (out_minor, approver) = match &record.transaction.body {
        Body::Refund { approver, .. } => (basket.total_minor(), approver.is_some()),
        _ => (-basket.total_minor(), false),
    };
    let over = limit_minor.is_some_and(|limit| out_minor > limit);
    let here =
        |made: &Decision| made.case_type == "REFUND_OVER_LIMIT" && made.subject == record.id.to_string();
    let decided_here = books.set.decisions().iter().any(|(_, made)| here(made));
    over && !approver && (decided_here || !approved_elsewhere(books, record))
}

fn approved_elsewhere(books: &Judgement<'_>, record: &Record) -> bool {
    let decisions = books.set.decisions();
    let about = decisions.iter().filter(|(_, made)| {
        made.member == Some(record.id)
            && ["REFUND_OVER_LIMIT", "NO_REFERENCE", "ORPHAN_REFERENCE", "AWAITING_ORIGINAL"]
                .contains(&made.case_type.as_str())
    });
    about.into_iter().next_back().is_some_and(|(_, made)| made.action == DecisionAction::Approve)
}

/// The original of a line, if it can be returned at all.
fn judge_original<'a>(
    books: &Judgement<'a>,
    record: &Record,
    reference: &Reference,
) -> Result<(RecordId, &'a [Line]), Problem> {
    let Some(id) = books.set.resolve_from(reference, record) else {
        return Err(unresolved(&books.set, reference));
    };
    let invalid =
        || Problem { reason: "INVALID_REFERENCE", subject: record.id.to_string(), others: vec![id] };
    let target = books.set.target(&id).ok_or_else(invalid)?;
    // What is no sale is invalid whether it is held or not: of two holds the first in the list of section 5.
    if !target.is_sale() || id == record.id {
        return Err(invalid());
    }
    if let Target::Here(original) = target
        && !books.counts(original)
    {
        return Err(Problem { reason: "AWAITING_ORIGINAL", subject: id.to_string(), others: vec![id] });
    }
    let (currency, lines, _) = target.basket().ok_or_else(invalid)?;
    let own_currency = record.transaction.basket().map(|basket| basket.currency);
    if own_currency == Some(currency) { Ok((id, lines)) } else { Err(invalid()) }
}

/// The sale that a line names for itself.
fn own_reference(line: &Line) -> Option<&engine::transaction::Reference> {
    line.original.as_ref().and_then(|original| original.reference.as_ref())
}

/// One line of a refund or exchange against its original: what it uses up, or what is wrong.
fn judge_line(
    books: &Judgement<'_>,
    walk: &Walk,
    record: &Record,
    line: &Line,
    reference: &Reference,
    used_before: &[Use],
) -> Result<Use, Problem> {
    let (id, lines) = judge_original(books, record, reference)?;
    let left: Vec<Sold> = sold(lines)
        .into_iter()
        .map(|mut one| {
            let of_line = |row: &&Use| row.sale == id && row.line == one.number;
            for row in walk.uses.iter().chain(used_before).filter(of_line) {
                one.quantity -= row.quantity;
                one.amount_minor -= row.amount_minor;
                one.tax_minor -= row.tax_minor;
            }
            one
        })
        .collect();
    let Some(meant) = line_meant(line, &left) else {
        return Err(Problem {
            reason: "INVALID_REFERENCE",
            subject: record.id.to_string(),
            others: vec![id],
        });
    };
    let one = Use {
        by: record.id,
        sale: id,
        line: meant.number,
        quantity: line.quantity.0,
        amount_minor: line.gross_minor().abs(),
        tax_minor: line.tax_minor.abs(),
    };
    let voided = books.voided_by.contains_key(&id);
    // Nothing remains of a voided sale; a line of nothing still fits (silent).
    let remains = |left: i64| if voided { 0 } else { left };
    let fits = one.quantity <= remains(meant.quantity)
        && one.amount_minor <= remains(meant.amount_minor)
        && one.tax_minor <= remains(meant.tax_minor);
    // A void that is held by policy comes first all the same (section 8: "a sale whose void comes first").
    let reason = if voided { "REFUND_AFTER_VOID" } else { "OVER_REFUND" };
    if fits { Ok(one) } else { Err(Problem { reason, subject: id.to_string(), others: vec![id] }) }
}

/// What a sale offers to be returned, by line.
struct Sold {
    number: u32,
    sku: String,
    quantity: i64,
    amount_minor: i64,
    tax_minor: i64,
}

/// Only what was sold can come back: items and gift cards, less (silent) what was reversed before tender, which comes
/// off the first line of its item that can bear it.
fn sold(lines: &[Line]) -> Vec<Sold> {
    let one = |line: &Line| Sold {
        number: line.number,
        sku: line.sku.clone(),
        quantity: line.quantity.0,
        amount_minor: line.gross_minor().abs(),
        tax_minor: line.tax_minor.abs(),
    };
    let goods = lines.iter().filter(|line| matches!(line.flag, LineFlag::Item | LineFlag::GiftCardSold));
    let mut sold: Vec<Sold> = goods.map(one).collect();
    for reversed in lines.iter().filter(|line| line.flag == LineFlag::LineVoid).map(one) {
        let bears = |line: &Sold| {
            line.sku == reversed.sku
                && line.quantity >= reversed.quantity
                && line.amount_minor >= reversed.amount_minor
                && line.tax_minor >= reversed.tax_minor
        };
        let of_item = |line: &Sold| line.sku == reversed.sku;
        // Or, where tax or amount are printed differently, off the first of the item, down to nothing.
        if let Some(at) = sold.iter().position(bears).or_else(|| sold.iter().position(of_item)) {
            let line = &mut sold[at];
            line.quantity = (line.quantity - reversed.quantity).max(0);
            line.amount_minor = (line.amount_minor - reversed.amount_minor).max(0);
            line.tax_minor = (line.tax_minor - reversed.tax_minor).max(0);
        }
    }
    sold
}

/// `OriginalLine::line`: the line named, or the one with the same number and item, or the first of that item (silent:
/// of which something is left).
fn line_meant<'a>(line: &Line, left: &'a [Sold]) -> Option<&'a Sold> {
    if let Some(number) = line.original.as_ref().and_then(|original| original.line) {
        return left.iter().find(|one| one.number == number);
    }
    let of_item = || left.iter().filter(|one| one.sku == line.sku);
    let same = of_item().find(|one| one.number == line.number);
    same.or_else(|| of_item().find(|one| one.quantity > 0)).or_else(|| of_item().next())
}

/// Section 5, AWAITING or ORPHAN: complete up to the number and not there, or still to come.
fn unresolved(set: &Set<'_>, reference: &Reference) -> Problem {
    let orphan = set.is_complete_up_to(reference);
    let reason = if orphan { "ORPHAN_REFERENCE" } else { "AWAITING_ORIGINAL" };
    Problem { reason, subject: reference_subject(reference), others: Vec::new() }
}

/// A reference that names nothing here, as the subject of a case.
fn reference_subject(reference: &Reference) -> String {
    if let Some(id) = reference.id {
        return id.to_string();
    }
    let printed = [
        reference.store.as_ref().map(|store| format!("store:{store}")),
        reference.terminal.as_ref().map(|terminal| format!("till:{terminal}")),
        reference.seq.map(|seq| format!("seq:{seq}")),
        reference.receipt.as_ref().map(|receipt| format!("receipt:{receipt}")),
    ];
    printed.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn hold_all(books: &mut Judgement<'_>, record: &Record, problems: Vec<Problem>) {
    for problem in problems {
        books.hold(record, problem.reason, problem.subject, &problem.others);
    }
}

/// The members of a conflict: the original, and every reversal of it that counts, reserves or is held for it.
fn conflict_members(books: &mut Judgement<'_>, walk: &Walk) {
    let subjects = books.cases.keys().filter(|case| case.0 == "REVERSAL_CONFLICT").map(|case| case.1.clone());
    for subject in subjects.collect::<Vec<_>>() {
        let Ok(id) = subject.parse::<RecordId>() else { continue };
        let mut members = books.reversals.get(&id).cloned().unwrap_or_default();
        members.extend(books.voided_by.get(&id).into_iter().chain(walk.followed.get(&id)));
        books.flag("REVERSAL_CONFLICT", subject, &members);
    }
}
