//! The shrinker, against failures that are asked for: it finds the fewest happenings, tills and days, the same ones every
//! time, within its budget, and what it writes down fails the same way.

use sim::checks::Broken;
use sim::file::{read, write};
use sim::run::run;
use sim::scenario::{Scenario, What};
use sim::shrink::shrink;

const INVARIANT: &str = "nobody voids at a till that loses power";

/// A failure that needs no run: a till voids, and the same till crashes.
fn void_and_crash(scenario: &Scenario) -> Option<Broken> {
    let voids = scenario.happens.iter().filter(|timed| matches!(timed.what, What::Void { .. }));
    let tills: Vec<&String> = voids.flat_map(|timed| timed.what.nodes()).collect();
    let crash = scenario
        .happens
        .iter()
        .find(|timed| matches!(&timed.what, What::Crash { node, .. } if tills.contains(&node)))?;
    Some(Broken::new(INVARIANT, format!("{crash:?}")))
}

fn week() -> Scenario {
    let faults = (0..).map(|seed| Scenario::swarm(seed, 5, 7, 10, true).explicit());
    faults.into_iter().find(|scenario| void_and_crash(scenario).is_some()).unwrap()
}

#[test]
fn a_void_and_a_crash_are_all_that_is_left_of_a_week() {
    let week = week();
    let broken = void_and_crash(&week).unwrap();
    let shrunk = shrink(&week, &broken, 2_000, &mut void_and_crash);
    let left = &shrunk.scenario;
    assert!(shrunk.minimal && shrunk.tries < 2_000, "{} tries", shrunk.tries);
    assert_eq!((left.tills, left.happens.len()), (1, 3), "{left:#?}");
    assert!(left.days <= 2, "days on which nothing happens are gone: {left:#?}");
    let count = |is: fn(&What) -> bool| left.happens.iter().filter(|timed| is(&timed.what)).count();
    assert_eq!(count(|what| matches!(what, What::Sale { .. })), 1, "the sale that is voided stays");
    assert_eq!(count(|what| matches!(what, What::Void { .. })), 1);
    assert_eq!(count(|what| matches!(what, What::Crash { .. })), 1);
    assert!(left.happens.iter().flat_map(|timed| timed.what.nodes()).all(|name| name == "till-01"));
    assert_eq!(shrunk.broken, void_and_crash(left).unwrap(), "what is reported is how the small one fails");
    assert_eq!(shrink(&week, &broken, 2_000, &mut void_and_crash), shrunk, "the same every time");
    let again = read("failing", &write(left)).unwrap();
    assert_eq!((&again, void_and_crash(&again)), (left, Some(shrunk.broken)));
}

#[test]
fn another_invariant_is_not_the_same_failure() {
    let week = week();
    let broken = Broken::new("another one", "");
    let shrunk = shrink(&week, &broken, 500, &mut void_and_crash);
    assert_eq!(shrunk.scenario, week);
}

#[test]
fn the_budget_is_kept() {
    let week = week();
    let broken = void_and_crash(&week).unwrap();
    let mut tries = 0;
    let mut fails = |scenario: &Scenario| {
        tries += 1;
        void_and_crash(scenario)
    };
    let shrunk = shrink(&week, &broken, 9, &mut fails);
    assert_eq!((tries, shrunk.tries, shrunk.minimal), (9, 9, false));
    assert!(void_and_crash(&shrunk.scenario).is_some() && shrunk.scenario.happens.len() < week.happens.len());
    let untouched = shrink(&week, &broken, 0, &mut |_| panic!("there is no budget"));
    assert_eq!(untouched.scenario, week);
}

/// A failure that only a run shows: the books flag competing reversals.
fn conflict(scenario: &Scenario) -> Option<Broken> {
    let outcome = run(scenario).ok()?;
    let cases = *outcome.cases.get("REVERSAL_CONFLICT")?;
    Some(Broken::new("no two reversals compete", format!("{cases} do")))
}

#[test]
fn what_a_run_shows_is_shrunk_to_one_conflict_whose_file_fails_again() {
    let scenario = (0..)
        .map(|seed| Scenario::swarm(seed, 2, 1, 6, false).explicit())
        .find(|scenario| conflict(scenario).is_some())
        .unwrap();
    let broken = conflict(&scenario).unwrap();
    let shrunk = shrink(&scenario, &broken, 300, &mut conflict);
    assert!(shrunk.minimal, "{} tries", shrunk.tries);
    // A sale, and two that reverse it.
    assert_eq!((shrunk.scenario.days, shrunk.scenario.happens.len()), (1, 3), "{:#?}", shrunk.scenario);
    let again = read("failing", &write(&shrunk.scenario)).unwrap();
    assert_eq!(conflict(&again), Some(shrunk.broken));
}
