//! The states of cases (LEDGER-RULES section 8): open, decided, self-cancelled.

use engine::ids::RecordId;
use engine::transaction::DecisionAction;

use super::ModelCase;
use super::judgement::{Draft, Judgement, Key};
use super::posting;

/// Cases as they stand once everything is judged.
pub(super) fn close_up(books: &Judgement<'_>) -> Vec<ModelCase> {
    let finished = books.cases.iter().map(|(key, draft)| ModelCase {
        case_type: key.0.to_owned(),
        subject: key.1.clone(),
        members: draft.members.clone(),
        held: draft.held.iter().map(|(id, reason)| (*id, (*reason).to_owned())).collect(),
        state: state(books, key, draft).to_owned(),
    });
    finished.collect()
}

/// Open while a held member has no disposition, or while an advisory is not acknowledged.
fn state(books: &Judgement<'_>, key: &Key, draft: &Draft) -> &'static str {
    if draft.held.is_empty() {
        let settled =
            draft.members.iter().all(|member| draft.lifted.contains(member) || answered(books, key, member));
        let lifted = !draft.lifted.is_empty();
        return if lifted || settled { "decided" } else { "open" };
    }
    let netted = |id: &RecordId| books.follows.values().any(|followed| followed == id);
    let disposed =
        |id: &RecordId| books.set.records.get(id).is_some_and(|record| books.disposition(record).is_some());
    let mut waiting = draft.held.keys().filter(|id| !disposed(id));
    if waiting.clone().next().is_none() {
        return "decided";
    }
    if waiting.all(netted) { "self-cancelled" } else { "open" }
}

/// Whether a reviewer answered an advisory or a payment case for a member.
fn answered(books: &Judgement<'_>, key: &Key, member: &RecordId) -> bool {
    books.decisions_in(key, member).iter().any(|made| match made.action {
        DecisionAction::Acknowledge => is_advisory(key.0),
        DecisionAction::Classify => key.0 == "TENDER_MISMATCH",
        action => posting::allowed(key.0, action),
    })
}

/// Cases that hold nothing and move no money.
fn is_advisory(case_type: &str) -> bool {
    [
        "SUSPECTED_DUPLICATE",
        "SEQUENCE_GAP",
        "CLOCK_SKEW",
        "REFUND_OTHER_TENDER",
        "LATE_RECORD",
        "Z_MISMATCH",
        "CASH_OVER_SHORT",
        "LINE_ARITHMETIC",
        "TAX_ARITHMETIC",
        "REFUND_WINDOW",
        "NO_REFERENCE",
    ]
    .contains(&case_type)
}
