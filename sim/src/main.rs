//! `tillsync-sim`: runs seeds and says what held. Exit code 4 when an invariant does not hold.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum};
use serde_json::json;
use sim::faults::Faults;
use sim::run::{Size, run};

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
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=64))]
        tills: u64,
        /// Turns of a run: in each, something happens in a shop and something may go wrong.
        #[arg(long, default_value_t = 300)]
        turns: u64,
        /// What goes wrong.
        #[arg(long, value_enum, default_value_t = Which::Swarm)]
        faults: Which,
        /// One JSON document on stdout.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    /// A random subset of faults, each seed its own.
    Swarm,
    /// Nothing.
    None,
}

fn parse_range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write a range such as 1..40")?;
    let number = |part: &str| part.trim_start_matches('=').parse::<u64>().map_err(|error| error.to_string());
    Ok(number(from)?..=number(to)?)
}

fn main() -> ExitCode {
    let Verb::Run { seed, seeds, tills, turns, faults, json: as_json } = Arguments::parse().command;
    let seeds = seeds.unwrap_or_else(|| seed.map_or(1..=20, |seed| seed..=seed));
    let size = Size { tills, turns };
    let start = Instant::now();
    let (mut ran, mut transactions, mut mischief, mut messages, mut simulated_ms) = (0u64, 0, 0, 0, 0);
    let mut struck: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in seeds {
        let drawn = match faults {
            Which::Swarm => Faults::swarm(seed),
            Which::None => Faults::none(),
        };
        match run(seed, size, drawn) {
            Ok(outcome) => {
                ran += 1;
                transactions += outcome.transactions;
                mischief += outcome.mischief;
                messages += outcome.messages;
                simulated_ms += outcome.simulated_ms;
                for (fault, times) in outcome.faults {
                    *struck.entry(fault).or_insert(0) += times;
                }
            }
            Err(broken) => {
                if as_json {
                    println!(
                        "{}",
                        json!({"ok": false, "seed": seed, "invariant": broken.invariant, "found": broken.found})
                    );
                }
                eprintln!("seed {seed}: it does not hold that {}: {}", broken.invariant, broken.found);
                eprintln!("again: tillsync-sim run --seed {seed} --tills {tills} --turns {turns}");
                return ExitCode::from(4);
            }
        }
    }
    let elapsed_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX).max(1);
    let seeds_per_minute = ran * 60_000 / elapsed_ms;
    if as_json {
        let report = json!({
            "ok": true, "seeds": ran, "seeds_per_minute": seeds_per_minute, "simulated_hours": simulated_ms / 3_600_000,
            "transactions": transactions, "mischief_flagged": mischief, "messages": messages, "faults": struck,
        });
        println!("{report}");
    } else {
        println!("{ran} seeds held ({seeds_per_minute} a minute): {transactions} acknowledged transactions,");
        println!(
            "{mischief} planted conflicts, all flagged; {messages} messages; {} simulated hours",
            simulated_ms / 3_600_000
        );
        for (fault, times) in struck {
            println!("  {fault:<12} {times}");
        }
        println!(
            "checked: acknowledged = in the books once; same documents and books everywhere; trial balance zero;"
        );
        println!(
            "         suspense = held; money = what tills took; custody true; no conflict escaped, nothing honest held"
        );
    }
    ExitCode::SUCCESS
}
