//! Whole runs: seeds that must hold, and the promise that a scenario says everything.

use sim::run::run;
use sim::scenario::Scenario;

fn small(seed: u64, faults: bool) -> Scenario {
    Scenario::swarm(seed, 3, 2, 12, faults)
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_byte() {
    let first = run(&small(11, true)).unwrap();
    let second = run(&small(11, true)).unwrap();
    assert_eq!(first, second);
    assert_ne!(first.trace, run(&small(12, true)).unwrap().trace);
}

#[test]
fn a_quiet_network_holds_and_flags_what_was_planted() {
    let outcome = run(&small(3, false)).unwrap();
    assert!(outcome.transactions > 40, "{outcome:?}");
    assert!(outcome.faults.is_empty());
}

#[test]
fn swarms_of_faults_hold() {
    let (mut mischief, mut struck) = (0, 0);
    for seed in 100..124 {
        let outcome = run(&small(seed, true)).unwrap_or_else(|broken| panic!("seed {seed}: {broken:?}"));
        mischief += outcome.mischief;
        struck += outcome.faults.values().sum::<u64>();
    }
    assert!(mischief > 20 && struck > 50, "the runs did something: {mischief} conflicts, {struck} faults");
}

/// Weeks of ten thousand that did not hold once: a liar's message took the number of one that was lost, and its
/// acknowledgement was taken for the lost one's (3100, 4106); a clock that was set back by hours kept a till from noticing
/// that it waited for an answer (3715); and one that was the simulator's own mistake: a conversation that ended gave the hub
/// a turn inside a turn, whose appends overtook the others (7151).
#[test]
fn weeks_that_did_not_hold_once_hold() {
    for seed in [3_100, 3_715, 4_106, 7_151] {
        let week = Scenario::swarm(seed, 5, 7, 4, true);
        run(&week).unwrap_or_else(|broken| panic!("seed {seed}: {broken:?}"));
    }
}
