//! Whole runs: seeds that must hold, and the promise that a seed says everything.

use sim::faults::Faults;
use sim::run::{Size, run};

const SMALL: Size = Size { tills: 3, turns: 120 };

#[test]
fn the_same_seed_gives_the_same_run_to_the_byte() {
    let first = run(11, SMALL, Faults::swarm(11)).unwrap();
    let second = run(11, SMALL, Faults::swarm(11)).unwrap();
    assert_eq!(first, second);
    assert_ne!(first.trace, run(12, SMALL, Faults::swarm(12)).unwrap().trace);
}

#[test]
fn a_quiet_network_holds_and_flags_what_was_planted() {
    let outcome = run(3, SMALL, Faults::none()).unwrap();
    assert!(outcome.transactions > 80 && outcome.mischief > 0, "{outcome:?}");
    assert!(outcome.faults.is_empty());
}

#[test]
fn swarms_of_faults_hold() {
    let (mut mischief, mut struck) = (0, 0);
    for seed in 100..116 {
        let outcome =
            run(seed, SMALL, Faults::swarm(seed)).unwrap_or_else(|broken| panic!("seed {seed}: {broken:?}"));
        mischief += outcome.mischief;
        struck += outcome.faults.values().sum::<u64>();
    }
    assert!(mischief > 20 && struck > 50, "the runs did something: {mischief} conflicts, {struck} faults");
}
