//! The 59 scenarios of LEDGER-RULES section 17: exact balances and cases, in every order of arrival, with
//! redelivery, settled in one go or bit by bit.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use crate::scenario::{Scenario, read};

/// The fixtures, or nothing (said aloud) where the product is built without them.
pub(super) fn fixtures() -> Vec<Scenario> {
    let path = std::env::var_os("TILLSYNC_GOLDEN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/golden/golden.json")),
        PathBuf::from,
    );
    match std::fs::read_to_string(&path) {
        Ok(text) => read(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
        Err(error) => {
            println!("SKIPPED: no golden scenarios at {} ({error}); set TILLSYNC_GOLDEN", path.display());
            Vec::new()
        }
    }
}

fn expected(scenario: &Scenario) -> Value {
    let mut expect = scenario.expect.clone().expect("a fixture says what it must give");
    expect["name"] = scenario.name.as_str().into();
    expect
}

/// A small generator with a seed: the same shuffles in every run.
fn next(seed: &mut u64) -> usize {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    usize::try_from(*seed >> 40).expect("24 bits")
}

#[test]
fn every_scenario_gives_exactly_its_balances_and_cases() {
    let mut wrong = Vec::new();
    let scenarios = fixtures();
    for scenario in &scenarios {
        let (got, want) = (scenario.report(&scenario.run()), expected(scenario));
        if got != want {
            wrong.push(format!("{}\n  want {want}\n  got  {got}", scenario.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), scenarios.len(), wrong.join("\n"));
}

#[test]
fn neither_order_nor_redelivery_nor_settling_in_between_changes_anything() {
    for scenario in fixtures() {
        let whole = scenario.run();
        for round in 0..30 {
            let mut seed = round;
            let mut arrivals = scenario.records.clone();
            arrivals.extend(scenario.records.iter().filter(|_| next(&mut seed).is_multiple_of(3)).cloned());
            for at in (1..arrivals.len()).rev() {
                arrivals.swap(at, next(&mut seed) % (at + 1));
            }
            let mut books = scenario.books();
            for (record, seen) in arrivals {
                books.insert(Arc::clone(&record), &seen);
                if next(&mut seed).is_multiple_of(2) {
                    books.settle(scenario.today());
                }
                // Whoever was asked keeps the sums up to date, whatever is judged then and what later.
                if next(&mut seed).is_multiple_of(3) {
                    let _ = books.day_hashes();
                }
            }
            books.settle(scenario.today());
            assert_eq!(scenario.report(&books), expected(&scenario), "{} round {round}", scenario.name);
            assert_eq!(books.view_hash(), whole.view_hash(), "{} round {round}", scenario.name);
        }
    }
}

#[test]
fn the_hash_of_a_day_that_was_kept_up_to_date_is_that_of_its_rows_and_tells_each_of_them() {
    let mut told = std::collections::BTreeMap::new();
    for scenario in fixtures() {
        let mut books = scenario.books();
        for (record, seen) in scenario.records.clone() {
            books.insert(record, &seen);
            books.settle(scenario.today());
            let whole = books.rebuild(scenario.today());
            assert_eq!(books.day_hashes(), whole.day_hashes(), "{}", scenario.name);
            for (day, hash) in books.day_hashes() {
                let mut view = books.day_view(day);
                view.retain(|row| !row.1.is_empty());
                let before = told.entry(hash).or_insert_with(|| view.clone());
                assert_eq!(*before, view, "{}: another view has the same hash", scenario.name);
            }
        }
    }
}
