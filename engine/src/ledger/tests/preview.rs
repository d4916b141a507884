//! What a decision is said to do is what it does: every decision that is possible on a case of the fixtures is tried
//! and then taken.

use std::sync::Arc;

use super::golden::fixtures;
use crate::ids::{LogId, RecordId, TerminalId};
use crate::ledger::{Books, Effect};
use crate::record::Record;
use crate::review::CaseState;
use crate::time::Instant;
use crate::transaction::{Body, Decision, HubRecord, Transaction};

fn taken(decision: &Decision, seq: u64, books: &Books) -> Record {
    Record {
        id: RecordId::symbolic("tried"),
        store: books.store().clone(),
        log: LogId { terminal: TerminalId::hub(), incarnation: 9 },
        seq,
        prev: None,
        business_day: crate::time::Day(20_780),
        at: Instant::utc(1_795_900_000_000),
        effective_ms: 1_795_900_000_000,
        transaction: Transaction {
            receipt: "decision".to_owned(),
            operator: None,
            idempotency_key: None,
            offline: false,
            body: Body::Hub(HubRecord::Decision(decision.clone())),
        },
    }
}

#[test]
fn every_possible_decision_does_what_was_shown_before_it_was_taken() {
    let mut tried = 0;
    for scenario in fixtures() {
        let mut books = scenario.run();
        let cases: Vec<_> =
            books.cases().filter(|case| case.state != CaseState::SelfCancelled).cloned().collect();
        for case in cases {
            for possible in books.options(&case) {
                let decision = Decision {
                    number: books.next_decision_number(),
                    case_type: case.key.case_type.as_str().to_owned(),
                    subject: case.key.subject.clone(),
                    case_version: Some(case.version),
                    member: possible.choice.member,
                    action: possible.choice.action,
                    parameter: possible.effect.is_none().then(|| "Expenses:Other".to_owned()),
                    terminal: None,
                    reviewer: "anna".to_owned(),
                    approver: Some("bert".to_owned()),
                    reason: "tried".to_owned(),
                };
                let name = format!("{}: {:?} on {}", scenario.name, possible.choice, case.about);
                assert_eq!(books.permit(&case, &decision), Ok(()), "{name}");
                let before = (books.view_hash(), books.cases().cloned().collect::<Vec<_>>());
                let shown = books.effect_of(&decision);
                assert_eq!(
                    before,
                    (books.view_hash(), books.cases().cloned().collect()),
                    "{name}: only tried"
                );
                if let Some(effect) = possible.effect {
                    assert_eq!(effect, shown, "{name}");
                }
                assert_eq!(shown, effect_in(&books, &case.key, &decision), "{name}");
                tried += 1;
            }
        }
    }
    assert!(tried == 0 || tried > 60, "only {tried} decisions were possible");
}

/// What really happens, on a copy.
fn effect_in(books: &Books, key: &crate::review::CaseKey, decision: &Decision) -> Effect {
    let mut copy = books.clone();
    copy.insert(Arc::new(taken(decision, 1, books)), &[]);
    let settled = copy.settle(crate::time::Day(20_780));
    let mut postings: Vec<_> =
        settled.journal.into_iter().map(|entry| (entry.record, entry.postings)).collect();
    let view: Vec<RecordId> =
        copy.day_hashes().keys().flat_map(|day| copy.day_view(*day)).map(|row| row.0).collect();
    postings.sort_by_key(|row: &(RecordId, _)| view.iter().position(|id| *id == row.0));
    let known = |books: &Books, key: &crate::review::CaseKey| books.cases().any(|case| case.key == *key);
    Effect {
        postings,
        state: copy.cases().find(|case| case.key == *key).map(|case| case.state),
        opens: copy.cases().filter(|case| !known(books, &case.key)).cloned().collect(),
        ends: books
            .cases()
            .filter(|case| !known(&copy, &case.key) && case.key != *key)
            .map(|case| case.key.clone())
            .collect(),
    }
}
