//! What if: one scenario under several values of a setting of the policy, side by side.

use std::ops::RangeInclusive;
use std::sync::atomic::AtomicBool;

use clap::Args;
use engine::policy::Policy;
use serde_json::{Value, json};
use sim::figures::{Ages, Spread};
use sim::run::Outcome;
use sim::scenario::Scenario;

use super::summary::Failure;
use super::{Refused, TRANSACTIONS, find, parse_range, pool, seeded};

/// What `sweep` takes.
#[derive(Args)]
pub struct Sweep {
    /// A scenario file, or a name that `scenarios` lists. Without it: 5 tills, 7 days, no faults.
    #[arg(long, value_name = "FILE|NAME")]
    scenario: Option<String>,
    /// A setting of the policy and the values to compare, such as sync_interval=1s,5s,30s,5m.
    #[arg(long, value_name = "KEY=V,V,…")]
    sweep: String,
    /// Seeds of each value, first and last.
    #[arg(long, value_name = "A..B", default_value = "1..3", value_parser = parse_range)]
    seeds: RangeInclusive<u64>,
    /// One JSON document instead of a table.
    #[arg(long)]
    json: bool,
    /// Runs at a time [default: one on each core].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    jobs: Option<u64>,
}

/// The runs of one value, added up.
#[derive(Default)]
struct Row {
    value: String,
    runs: u64,
    ages: Ages,
    transactions: u64,
    batches: u64,
    messages: u64,
    bytes: u64,
    drained_ms: i64,
}

impl Row {
    fn add(&mut self, outcome: &Outcome) {
        self.runs += 1;
        self.ages.add(&outcome.ages);
        self.transactions += outcome.transactions;
        self.batches += outcome.batches;
        self.messages += outcome.messages;
        self.bytes += outcome.bytes;
        self.drained_ms = self.drained_ms.max(outcome.drained_ms);
    }

    fn json(&self) -> Value {
        json!({
            "value": self.value, "runs": self.runs, "transactions": self.transactions,
            "age": Spread::of(&self.ages.all_ms), "age_online": Spread::of(&self.ages.online_ms),
            "batches": self.batches, "messages": self.messages, "bytes": self.bytes,
            "drained_ms": self.drained_ms,
        })
    }

    fn cells(&self) -> Vec<String> {
        let (all, online) = (Spread::of(&self.ages.all_ms), Spread::of(&self.ages.online_ms));
        let mut cells = vec![self.value.clone(), self.runs.to_string(), all.count.to_string()];
        for spread in [all, online] {
            cells.extend([spread.p50_ms, spread.p95_ms, spread.max_ms].map(short));
        }
        let sums = [self.batches, self.messages, self.bytes / 1_000];
        cells.extend(sums.map(|sum| sum.to_string()));
        cells.push(short(self.drained_ms));
        cells
    }
}

const HEAD: [&str; 13] = [
    "value",
    "runs",
    "records",
    "age p50",
    "p95",
    "max",
    "online p50",
    "p95",
    "max",
    "batches",
    "messages",
    "kB",
    "drained in",
];

/// A duration in the unit that suits it.
fn short(ms: i64) -> String {
    match ms {
        ..=999 => format!("{ms}ms"),
        1_000..=119_999 => format!("{}.{}s", ms / 1_000, ms % 1_000 / 100),
        120_000..=7_199_999 => format!("{}m{:02}s", ms / 60_000, ms % 60_000 / 1_000),
        _ => format!("{}h{:02}m", ms / 3_600_000, ms % 3_600_000 / 60_000),
    }
}

fn values_of(text: &str) -> Result<(String, Vec<String>), Refused> {
    let (key, values) = text.split_once('=').ok_or_else(|| {
        Refused::usage(format!("cannot sweep {text}: write key=value,value, such as sync_interval=1s,5s,30s"))
    })?;
    let values: Vec<String> = values.split(',').map(|value| value.trim().to_owned()).collect();
    for value in &values {
        Policy::default()
            .set(key, value)
            .map_err(|error| Refused::usage(format!("cannot sweep {text}: {error}")))?;
    }
    Ok((key.to_owned(), values))
}

/// Runs the comparison and prints it.
pub fn sweep(arguments: &Sweep) -> Result<bool, Refused> {
    let (key, values) = values_of(&arguments.sweep)?;
    let base = match &arguments.scenario {
        Some(name) => find(name)?,
        None => Scenario { name: "no faults".to_owned(), ..Scenario::swarm(0, 5, 7, TRANSACTIONS, false) },
    };
    let prefix = format!("{key}=");
    let seeds: Vec<u64> = arguments.seeds.clone().collect();
    let job = |at: usize| {
        let (value, seed) = (&values[at / seeds.len()], seeds[at % seeds.len()]);
        let mut scenario = seeded(&base, seed);
        scenario.policy.retain(|setting| !setting.starts_with(&prefix));
        scenario.policy.push(format!("{prefix}{value}"));
        pool::Job { scenario, page: false }
    };
    let count = values.len() * seeds.len();
    let bar = pool::bar(count as u64, "runs");
    let done = pool::run_all(count, pool::workers(arguments.jobs), &bar, &AtomicBool::new(false), job);
    let mut rows: Vec<Row> =
        values.iter().map(|value| Row { value: value.clone(), ..Row::default() }).collect();
    let mut failures = Vec::new();
    for (at, done) in done.into_iter().enumerate() {
        match done.result {
            Ok(outcome) => rows[at / seeds.len()].add(&outcome),
            Err(broken) => {
                failures.push((
                    rows[at / seeds.len()].value.clone(),
                    Failure::new(seeds[at % seeds.len()], broken),
                ));
            }
        }
    }
    if arguments.json {
        print_json(&base.name, &key, arguments, &rows, &failures);
    } else {
        print_table(&base.name, &key, &rows, &failures);
    }
    Ok(failures.is_empty())
}

fn print_json(name: &str, key: &str, arguments: &Sweep, rows: &[Row], failures: &[(String, Failure)]) {
    let failures: Vec<Value> = failures
        .iter()
        .map(|(value, failure)| {
            let mut row = failure.json();
            row["value"] = json!(value);
            row
        })
        .collect();
    let document = json!({
        "scenario": name, "key": key,
        "seeds": {"first": arguments.seeds.start(), "last": arguments.seeds.end()},
        "rows": rows.iter().map(Row::json).collect::<Vec<_>>(), "failures": failures,
    });
    println!("{document}");
}

fn print_table(name: &str, key: &str, rows: &[Row], failures: &[(String, Failure)]) {
    println!("{name}, {key}: age of a record when it reaches the hub; online: sold while connected to it");
    let mut table: Vec<Vec<String>> = vec![HEAD.map(str::to_owned).to_vec()];
    table.extend(rows.iter().map(Row::cells));
    let width = |column: usize| table.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    for row in &table {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:>width$}")).collect();
        println!("{}", cells.join("  "));
    }
    for (value, failure) in failures {
        println!("{key}={value}, {}", failure.line());
    }
}
