//! The simulator itself: how much of a shop's life it plays in a second, on one thread. More threads play more seeds at
//! once; they share nothing.

use std::time::Instant;

use sim::run::run;
use sim::scenario::Scenario;

use crate::stats::{Measure, Samples, per_second};
use crate::table::row;
use crate::{Outcome, Sizes};

const HOUR_MS: i64 = 3_600_000;
/// Tills and sales of a till and day, as `tillsync-sim run` has them.
const TILLS: u64 = 5;
const TRANSACTIONS: u64 = 12;

/// Seeds with faults, one after the other; other seeds each round.
///
/// # Errors
/// An invariant does not hold.
pub fn measure(sizes: &Sizes, round: u64) -> Outcome<Vec<(&'static str, Measure)>> {
    let (mut samples, mut simulated_ms) = (Samples::default(), 0);
    let first = (round - 1) * sizes.seeds + 1;
    let start = Instant::now();
    for seed in first..first + sizes.seeds {
        let from = Instant::now();
        let outcome = run(&Scenario::swarm(seed, TILLS, sizes.simulated_days, TRANSACTIONS, true))
            .map_err(|broken| format!("seed {seed}: {}: {}", broken.invariant, broken.found))?;
        samples.push(from.elapsed());
        assert!(outcome.transactions > 0, "seed {seed} sold something");
        simulated_ms += outcome.simulated_ms;
    }
    let took = start.elapsed();
    let hours = usize::try_from(simulated_ms / HOUR_MS)?;
    let a_minute = per_second(usize::try_from(sizes.seeds * 60)?, took);
    Ok(vec![
        (row::SIMULATED_HOURS, Measure { rate: Some(per_second(hours, took)), ..Measure::default() }),
        (row::SIMULATED_SEEDS, Measure { rate: Some(a_minute), ..samples.latency() }),
    ])
}
