//! The states of cases (LEDGER-RULES section 8): open, decided, self-cancelled.

use std::collections::BTreeSet;

use engine::ids::RecordId;
use engine::record::Record;
use engine::transaction::DecisionAction;

use super::ModelCase;
use super::judgement::{Draft, Judgement, Key};
use super::money;

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
        let lifted = draft.members.iter().any(|member| draft.lifted.contains(member));
        return if lifted || answered(books, key, draft) { "decided" } else { "open" };
    }
    let netted = |id: &RecordId| books.follows.values().any(|followed| followed == id);
    let disposed =
        |id: &RecordId| books.set.records.get(id).is_some_and(|record| books.disposition(record).is_some());
    let waiting: Vec<&RecordId> = draft.held.keys().filter(|id| !netted(id)).collect();
    match waiting.as_slice() {
        [] => "self-cancelled",
        left if left.iter().all(|id| disposed(id)) => "decided",
        _ => "open",
    }
}

/// Whether a reviewer answered an advisory or a payment case for one of its members. A missing end of a log has none:
/// there (silent) the last records that are here stand for it.
fn answered(books: &Judgement<'_>, key: &Key, draft: &Draft) -> bool {
    let answers = |action: DecisionAction| match action {
        DecisionAction::Acknowledge => is_advisory(key.0),
        DecisionAction::Classify => key.0 == "TENDER_MISMATCH",
        action => money::allowed(key.0, action),
    };
    let members = if draft.members.is_empty() { last_of_log(books, key) } else { draft.members.clone() };
    members.iter().any(|member| books.decisions_in(key, member).iter().any(|made| answers(made.action)))
}

fn last_of_log(books: &Judgement<'_>, key: &Key) -> BTreeSet<RecordId> {
    let of_log =
        |record: &&Record| key.1.rsplit_once(':').is_some_and(|(log, _)| log == record.log.to_string());
    let records: Vec<&Record> = books.set.of_tills().filter(of_log).collect();
    let top = records.iter().map(|record| record.seq).max();
    records.iter().filter(|record| Some(record.seq) == top).map(|record| record.id).collect()
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
