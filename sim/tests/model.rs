//! The engine against the plain model written from the rules: the golden scenarios exactly, then random sets.

use std::collections::BTreeMap;
use std::path::Path;

use engine::review::{CaseType, Reason};
use engine::scenario::{Scenario, read};
use engine::transaction::{Body, DecisionAction, HubRecord};
use serde_json::{Map, Value, json};
use sim::books_model::{ModelBooks, Standing, project};
use sim::chance::Chance;
use sim::compare::{differences, disagreements, in_plain_words, smallest_story};
use sim::sets::RecordSet;

/// The fixtures of the law, or nothing (said aloud) where the product is built without them.
fn fixtures() -> Vec<Scenario> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden/golden.json");
    match std::fs::read_to_string(&path) {
        Ok(text) => read(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        Err(error) => {
            println!("skipped: no golden scenarios at {} ({error})", path.display());
            Vec::new()
        }
    }
}

fn report(scenario: &Scenario, books: &ModelBooks) -> Value {
    let balances: Map<String, Value> = books
        .balances
        .iter()
        .map(|((account, currency), amount)| {
            (format!("{account} {currency}"), json!(i64::try_from(*amount).unwrap()))
        })
        .collect();
    let mut cases: Vec<Value> = books
        .cases
        .iter()
        .map(|case| {
            let mut members: Vec<String> = case.members.iter().map(|id| scenario.name_of(id)).collect();
            members.sort();
            let held: Map<String, Value> =
                case.held.iter().map(|(id, reason)| (scenario.name_of(id), json!(reason))).collect();
            let subject =
                case.subject.parse().map_or_else(|_| case.subject.clone(), |id| scenario.name_of(&id));
            json!({"type": case.case_type, "subject": subject, "members": members, "held": held, "status": case.state})
        })
        .collect();
    cases.sort_by_key(|case| (case["type"].to_string(), case["subject"].to_string()));
    json!({"balances": balances, "cases": cases})
}

#[test]
fn the_model_gives_exactly_what_every_golden_scenario_says() {
    let mut wrong = Vec::new();
    for scenario in fixtures() {
        let got = report(&scenario, &project(&scenario.records, scenario.policy()));
        let want = scenario.expect.clone().unwrap();
        if got != want {
            wrong.push(format!("{}\n  want {want}\n  got  {got}", scenario.name));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// How many sets are compared; `TILLSYNC_SETS` says otherwise.
const SETS: u64 = 1_500;

fn sets() -> impl Iterator<Item = (u64, RecordSet)> {
    let count = std::env::var("TILLSYNC_SETS").ok().and_then(|text| text.parse().ok()).unwrap_or(SETS);
    (0..count).map(|seed| (seed, RecordSet::random(seed, 20 + usize::try_from(seed % 4).unwrap() * 15)))
}

#[test]
fn engine_and_model_agree_on_random_sets() {
    let mut differing = 0;
    for (seed, set) in sets() {
        if !disagreements(&set.arrivals, &set.policy).is_empty() {
            differing += 1;
            if differing <= 3 {
                println!("seed {seed}:\n{}", smallest_story(&set.arrivals, &set.policy));
            }
        }
    }
    assert_eq!(differing, 0, "sets on which engine and model differ (the smallest stories are above)");
}

#[test]
fn the_model_does_not_care_about_order_or_redelivery() {
    for (seed, set) in sets().take(100) {
        let shuffled = set.shuffled(&mut Chance::new(seed, "model"));
        assert_eq!(project(&shuffled, &set.policy), project(&set.arrivals, &set.policy), "seed {seed}");
    }
}

/// The sets are only worth something if they go everywhere: every type of case, in every state it can be in, every
/// reason of a hold, every action of a reviewer.
#[test]
fn random_sets_reach_every_case_every_hold_and_every_decision() {
    let mut counts: BTreeMap<(&str, String), usize> = BTreeMap::new();
    let words = CaseType::ALL.iter().map(|word| ("case", word.as_str()));
    let reasons = Reason::ALL.iter().map(|word| ("hold", word.as_str()));
    let states = ["open", "decided", "self-cancelled"].map(|word| ("state", word));
    let actions = ACTIONS.iter().map(|action| ("decision", action_word(*action)));
    for (what, word) in words.chain(reasons).chain(states).map(|row| (row.0, row.1.to_owned())).chain(actions)
    {
        counts.insert((what, word), 0);
    }
    for (_, set) in sets() {
        for case in set.books().cases() {
            *counts.entry(("case", case.key.case_type.to_string())).or_default() += 1;
            *counts.entry(("state", case.state.as_str().to_owned())).or_default() += 1;
            for reason in case.held.values() {
                *counts.entry(("hold", reason.to_string())).or_default() += 1;
            }
        }
        for (record, _) in &set.arrivals {
            if let Body::Hub(HubRecord::Decision(made)) = &record.transaction.body {
                *counts.entry(("decision", action_word(made.action))).or_default() += 1;
            }
        }
    }
    for ((what, word), count) in &counts {
        println!("{what:<9} {word:<24} {count:>7}");
    }
    let missing: Vec<_> = counts.iter().filter(|row| *row.1 == 0).map(|row| row.0).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

const ACTIONS: [DecisionAction; 17] = [
    DecisionAction::Approve,
    DecisionAction::Convert,
    DecisionAction::Prefer,
    DecisionAction::Remove,
    DecisionAction::Genuine,
    DecisionAction::Goodwill,
    DecisionAction::WriteOff,
    DecisionAction::OverShort,
    DecisionAction::Recover,
    DecisionAction::Classify,
    DecisionAction::Retry,
    DecisionAction::Paid,
    DecisionAction::BadDebt,
    DecisionAction::TaxRelief,
    DecisionAction::Reversed,
    DecisionAction::PaidOut,
    DecisionAction::Acknowledge,
];

fn action_word(action: DecisionAction) -> String {
    serde_json::to_value(action).unwrap().as_str().unwrap().to_owned()
}

/// A comparer that never complains proves nothing: each part of the books is spoilt once, and it has to say which.
#[test]
fn the_comparer_complains_about_a_spoilt_result() {
    let set = RecordSet::random(1, 60);
    let model = project(&set.arrivals, &set.policy);
    let engine = in_plain_words(&set.books(), &model);
    assert_eq!(differences(&engine, &model), [""; 0]);
    let complaint = |spoil: &dyn Fn(&mut ModelBooks)| {
        let mut spoilt = engine.clone();
        spoil(&mut spoilt);
        differences(&spoilt, &model).join("\n")
    };
    let balance = complaint(&|books| *books.balances.values_mut().next().unwrap() += 1);
    assert!(balance.starts_with("balance of"), "{balance}");
    let dropped = complaint(&|books| drop(books.cases.remove(0)));
    assert!(dropped.starts_with("case") && dropped.contains("engine None"), "{dropped}");
    let state = complaint(&|books| books.cases[0].state = "reopened".to_owned());
    assert!(state.contains("reopened"), "{state}");
    let member = complaint(&|books| books.cases[0].members.clear());
    assert!(member.starts_with("case"), "{member}");
    let standing = complaint(&|books| {
        let first = books.standing.values_mut().find(|standing| **standing == Standing::Posted).unwrap();
        *first = Standing::Removed;
    });
    assert!(standing.starts_with("standing of"), "{standing}");
    let postings = complaint(&|books| books.postings.values_mut().for_each(BTreeMap::clear));
    assert!(postings.starts_with("postings of"), "{postings}");
}
