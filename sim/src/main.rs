//! `tillsync-sim`: runs seeds and says what held. Exit code 4 when an invariant does not hold.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand};
use sim::run::run;
use sim::scenario::Scenario;

/// The network-partition simulator of Tillsync.
#[derive(Parser)]
#[command(name = "tillsync-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs seeds; every run ends with everything mended and every invariant checked.
    Run {
        /// One seed.
        #[arg(long, conflicts_with = "seeds")]
        seed: Option<u64>,
        /// Several seeds, such as 1..40.
        #[arg(long, value_parser = parse_range)]
        seeds: Option<RangeInclusive<u64>>,
        /// Number of tills.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=64))]
        tills: u64,
        /// Days.
        #[arg(long, default_value_t = 7)]
        days: u64,
        /// Transactions of a till and day, about.
        #[arg(long, default_value_t = 12)]
        transactions: u64,
        /// No faults.
        #[arg(long)]
        quiet: bool,
    },
}

fn parse_range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write a range such as 1..40")?;
    let number = |part: &str| part.trim_start_matches('=').parse::<u64>().map_err(|error| error.to_string());
    Ok(number(from)?..=number(to)?)
}

fn main() -> ExitCode {
    let Verb::Run { seed, seeds, tills, days, transactions, quiet } = Arguments::parse().command;
    let seeds = seeds.unwrap_or_else(|| seed.map_or(1..=20, |seed| seed..=seed));
    let start = Instant::now();
    let mut totals: BTreeMap<String, u64> = BTreeMap::new();
    let mut ran = 0;
    let mut failed = 0;
    for seed in seeds {
        match run(&Scenario::swarm(seed, tills, days, transactions, !quiet)) {
            Ok(outcome) => {
                ran += 1;
                *totals.entry("transactions".into()).or_default() += outcome.transactions;
                *totals.entry("mischief".into()).or_default() += outcome.mischief;
                *totals.entry("messages".into()).or_default() += outcome.messages;
                for (name, times) in outcome.faults.into_iter().chain(outcome.cases) {
                    *totals.entry(name).or_default() += times;
                }
            }
            Err(broken) => {
                if std::env::var_os("SHOW").is_some() {
                    for timed in Scenario::swarm(seed, tills, days, transactions, !quiet).explicit().happens {
                        println!("{timed:?}");
                    }
                }
                println!(
                    "seed {seed}: it does not hold that {}: {}",
                    broken.invariant,
                    broken.found.chars().take(1500).collect::<String>()
                );
                failed += 1;
            }
        }
    }
    println!("{ran} held, {failed} failed in {:?}: {totals:#?}", start.elapsed());
    if failed > 0 { ExitCode::from(4) } else { ExitCode::SUCCESS }
}
