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

#[test]
fn explore() {
    let count: u64 = std::env::var("TILLSYNC_SETS").ok().and_then(|text| text.parse().ok()).unwrap_or(50);
    let steps: usize = std::env::var("STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(20);
    let mut shown = 0;
    let mut wrong = 0;
    for seed in 0..count {
        let set = sim::sets::RecordSet::random(seed, steps);
        let model = project(&set.arrivals, &set.policy);
        let engine = sim::compare::in_plain_words(&set.books(), &model);
        let found = sim::compare::differences(&engine, &model);
        if found.is_empty() {
            continue;
        }
        wrong += 1;
        if shown >= std::env::var("SHOW").ok().and_then(|t| t.parse().ok()).unwrap_or(6) {
            continue;
        }
        // smallest set by dropping records
        let mut arrivals = set.arrivals.clone();
        let differs = |arrivals: &[sim::sets::Arrival]| {
            let model = project(arrivals, &set.policy);
            let engine = sim::compare::in_plain_words(&sim::sets::books_of(arrivals, &set.policy), &model);
            sim::compare::differences(&engine, &model)
        };
        let mut at = 0;
        while at < arrivals.len() {
            let mut less = arrivals.clone();
            less.remove(at);
            if differs(&less).is_empty() {
                at += 1;
            } else {
                arrivals = less;
                at = 0;
            }
        }
        shown += 1;
        println!("==== seed {seed}");
        for (record, seen) in &arrivals {
            println!(
                "{} {} {}:{} prev {:?} day {} at {} eff {} seen {:?} {} key {:?} op {:?}\n     {:?}",
                record.id.short(),
                record.transaction.kind().as_str(),
                record.log,
                record.seq,
                record.prev,
                record.business_day,
                (record.at.ms - 1_795_000_000_000) / 1000,
                record.effective_ms - 1_795_000_000_000,
                seen,
                record.transaction.receipt,
                record.transaction.idempotency_key,
                record.transaction.operator,
                record.transaction.body
            );
        }
        for line in differs(&arrivals) {
            println!("  ** {line}");
        }
    }
    println!("{wrong} of {count} differ");
    assert_eq!(wrong, 0);
}
