//! What runs did, added up: in words or as one JSON document. A failure is named, shrunk, and written as a file that
//! fails the same way.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::{Value, json};
use sim::checks::{Broken, CHECKED};
use sim::file;
use sim::run::Outcome;
use sim::scenario::Scenario;
use sim::shrink::shrink;

use super::{Refused, pool};

/// Of what was found, so many characters are shown.
const SHOWN: usize = 1_500;

/// A run that failed.
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    broken: Broken,
    shrunk: Option<Written>,
}

/// A failing scenario on the disk.
struct Written {
    file: PathBuf,
    happenings: (usize, usize),
    tries: u64,
    minimal: bool,
}

/// What runs did.
pub struct Summary {
    name: String,
    seeds: (u64, u64),
    workers: usize,
    start: Instant,
    elapsed_ms: u64,
    outcomes: Vec<(u64, Outcome)>,
    /// Runs that failed, by seed.
    pub failures: Vec<Failure>,
}

impl Failure {
    /// Of a run that failed so.
    pub fn new(seed: u64, broken: Broken) -> Self {
        Self { seed, broken, shrunk: None }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let found: String = self.broken.found.chars().take(SHOWN).collect();
        format!("seed {}: it does not hold that {}: {found}", self.seed, self.broken.invariant)
    }

    /// Shrinks the scenario that failed and writes what is left.
    pub fn shrink(&mut self, scenario: &Scenario, tries: u64, folder: &Path) -> Result<(), Refused> {
        let bar = pool::bar(tries, "tries to shrink the failure");
        let explicit = scenario.explicit();
        let mut fails = |candidate: &Scenario| {
            bar.inc(1);
            pool::attempt(candidate, false).err()
        };
        let mut shrunk = shrink(&explicit, &self.broken, tries, &mut fails);
        bar.finish_and_clear();
        let found: String = shrunk.broken.found.chars().take(300).collect();
        shrunk.scenario.about = format!("it does not hold that {}: {found}", shrunk.broken.invariant);
        let file = folder.join(format!("failing-seed-{}.toml", self.seed));
        let written =
            fs::create_dir_all(folder).and_then(|()| fs::write(&file, file::write(&shrunk.scenario)));
        written.map_err(|error| {
            let file = file.display();
            Refused::failed(format!(
                "{}\ntillsync-sim: cannot write the shrunk scenario {file}: {error}; give --out a folder one may write to",
                self.line()
            ))
        })?;
        let happenings = (explicit.happens.len(), shrunk.scenario.happens.len());
        self.shrunk = Some(Written { file, happenings, tries: shrunk.tries, minimal: shrunk.minimal });
        Ok(())
    }

    /// As JSON.
    pub fn json(&self) -> Value {
        let mut value = json!({
            "seed": self.seed, "invariant": self.broken.invariant, "found": self.broken.found,
        });
        if let Some(shrunk) = &self.shrunk {
            value["scenario_file"] = json!(shrunk.file.display().to_string());
            value["happenings"] = json!(shrunk.happenings.1);
            value["happenings_before"] = json!(shrunk.happenings.0);
            value["tries"] = json!(shrunk.tries);
            value["minimal"] = json!(shrunk.minimal);
        }
        value
    }
}

fn list(counts: &BTreeMap<String, u64>) -> String {
    if counts.is_empty() {
        return "none".to_owned();
    }
    counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
}

impl Summary {
    /// Of nothing yet; the clock runs.
    pub fn new(name: &str, seeds: (u64, u64), workers: usize) -> Self {
        Self {
            name: name.to_owned(),
            seeds,
            workers,
            start: Instant::now(),
            elapsed_ms: 0,
            outcomes: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// What a run did.
    pub fn add(&mut self, seed: u64, result: Result<Outcome, Broken>) {
        match result {
            Ok(outcome) => self.outcomes.push((seed, outcome)),
            Err(broken) => self.failures.push(Failure::new(seed, broken)),
        }
    }

    /// Number of runs made.
    pub fn made(&self) -> u64 {
        (self.outcomes.len() + self.failures.len()) as u64
    }

    /// All runs are made, or no more will be: the last seed is the one that was made last.
    pub fn stop_clock(&mut self) {
        self.seeds.1 = self.seeds.1.min(self.seeds.0 + self.made().saturating_sub(1));
        self.elapsed_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
    }

    fn sum(&self, of: impl Fn(&Outcome) -> u64) -> u64 {
        self.outcomes.iter().map(|(_, outcome)| of(outcome)).sum()
    }

    fn counts(&self, of: impl Fn(&Outcome) -> &BTreeMap<String, u64>) -> BTreeMap<String, u64> {
        let mut counts = BTreeMap::new();
        for (name, count) in self.outcomes.iter().flat_map(|(_, outcome)| of(outcome)) {
            *counts.entry(name.clone()).or_default() += count;
        }
        counts
    }

    fn hours(&self) -> u64 {
        self.sum(|outcome| u64::try_from(outcome.simulated_ms).unwrap_or(0)) / 3_600_000
    }

    fn runs_per_minute(&self) -> u64 {
        self.made() * 60_000 / self.elapsed_ms.max(1)
    }

    /// Prints everything.
    pub fn print(&self, json: bool) {
        if json { println!("{}", self.json()) } else { print!("{}", self.words()) }
    }

    fn words(&self) -> String {
        let mut text = String::new();
        let mut line = |words: String| {
            writeln!(text, "{words}").expect("text grows");
        };
        let (held, failed) = (self.outcomes.len(), self.failures.len());
        let (from, to) = self.seeds;
        let seeds = if from == to { format!("seed {from}") } else { format!("seeds {from}..{to}") };
        line(format!("{}, {seeds}: {held} held, {failed} failed", self.name));
        line(format!(
            "{} seeds/min ({}.{} s, {} at a time), {} h simulated",
            self.runs_per_minute(),
            self.elapsed_ms / 1_000,
            self.elapsed_ms % 1_000 / 100,
            self.workers,
            self.hours()
        ));
        line(format!(
            "{} transactions, {} planted conflicts, {} messages, {} kB sent",
            self.sum(|outcome| outcome.transactions),
            self.sum(|outcome| outcome.mischief),
            self.sum(|outcome| outcome.messages),
            self.sum(|outcome| outcome.bytes) / 1_000
        ));
        line(format!("faults injected: {}", list(&self.counts(|outcome| &outcome.faults))));
        line(format!("case types reached: {}", list(&self.counts(|outcome| &outcome.cases))));
        line(format!("checked in every run: {}", CHECKED.join("; ")));
        for failure in &self.failures {
            line(String::new());
            line(failure.line());
            match &failure.shrunk {
                Some(shrunk) => {
                    let file = shrunk.file.display();
                    let ended = if shrunk.minimal { "" } else { "; more tries may find less" };
                    line(format!(
                        "  shrunk from {} happenings to {} in {} tries{ended}: {file}",
                        shrunk.happenings.0, shrunk.happenings.1, shrunk.tries
                    ));
                    line(format!("  see it again: tillsync-sim replay {file}"));
                }
                None if from != to => {
                    line(format!("  shrink it: run it alone, with --seed {}", failure.seed));
                }
                None => {}
            }
        }
        text
    }

    fn json(&self) -> Value {
        let outcomes: Vec<Value> = self
            .outcomes
            .iter()
            .map(|(seed, outcome)| {
                let mut value = serde_json::to_value(outcome).expect("an outcome is plain data");
                value["seed"] = json!(seed);
                value
            })
            .collect();
        json!({
            "name": self.name,
            "ok": self.failures.is_empty(),
            "seeds": {"first": self.seeds.0, "last": self.seeds.1},
            "held": self.outcomes.len(),
            "failed": self.failures.len(),
            "elapsed_ms": self.elapsed_ms,
            "seeds_per_minute": self.runs_per_minute(),
            "simulated_hours": self.hours(),
            "transactions": self.sum(|outcome| outcome.transactions),
            "planted_conflicts": self.sum(|outcome| outcome.mischief),
            "messages": self.sum(|outcome| outcome.messages),
            "bytes": self.sum(|outcome| outcome.bytes),
            "faults": self.counts(|outcome| &outcome.faults),
            "cases": self.counts(|outcome| &outcome.cases),
            "checked": CHECKED,
            "runs": outcomes,
            "failures": self.failures.iter().map(Failure::json).collect::<Vec<_>>(),
        })
    }
}
