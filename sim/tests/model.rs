//! The engine against the plain model written from the rules: the golden scenarios exactly, then random sets.

use std::path::Path;

use engine::scenario::{Scenario, read};
use serde_json::{Map, Value, json};
use sim::books_model::{ModelBooks, project};

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
