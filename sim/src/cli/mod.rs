//! The commands of `tillsync-sim`: what they take, and what they leave to whom. Exit codes: 0 held, 1 refused or failed,
//! 2 usage, 4 an invariant does not hold. Results go to stdout, progress and diagnostics to stderr.

mod pool;
mod summary;
mod sweep;

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use sim::chance::Chance;
use sim::file;
use sim::limits::{self, DAYS_LIMIT, HUBS_LIMIT, TILLS_LIMIT, TRANSACTIONS_LIMIT};
use sim::scenario::{Scenario, Trade};
use sim::shipped::{self, Shipped};

use self::summary::Summary;

/// An invariant does not hold.
const BROKEN: u8 = 4;
/// Transactions of a till and day, about, unless something else is said.
const TRANSACTIONS: u64 = 12;
/// Most seeds of one command.
const SEEDS_LIMIT: u64 = 1_000_000;

/// The network-partition simulator of Tillsync: whole weeks of a store under a virtual clock, with cuts, crashes, bad
/// disks, wrong clocks and stolen keys; every run ends mended, and every invariant is checked.
#[derive(Parser)]
#[command(name = "tillsync-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs seeds: each thinks up its own trade and draws its own faults, the same ones every time.
    ///
    /// On a failure: the invariant in words, the seed, and a shrunk scenario file that fails the same way; exit code 4.
    Run(Run),
    /// Runs one scenario: a file, or one of those that `scenarios` lists.
    Replay {
        /// A scenario file, or a name that `scenarios` lists.
        scenario: String,
        /// Draws the run as a web page into this file.
        #[arg(long, value_name = "FILE")]
        report: Option<PathBuf>,
        /// One JSON document instead of words.
        #[arg(long)]
        json: bool,
    },
    /// Lists the scenarios that come with the simulator, or prints the file of one, to start one's own from.
    Scenarios {
        /// The one to print.
        name: Option<String>,
        /// One JSON document instead of words.
        #[arg(long, conflicts_with = "name")]
        json: bool,
    },
    /// What if: runs the same scenario with several values of a setting of the policy, and compares how old the hub's
    /// books are, what is sent, and how long catching up takes.
    Sweep(sweep::Sweep),
    /// Prints what a shell needs to complete commands and options: bash `source <(tillsync-sim completions bash)`.
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Args)]
struct Run {
    /// One seed.
    #[arg(long, conflicts_with = "seeds", value_parser = clap::value_parser!(u64).range(..=SEED_LIMIT))]
    seed: Option<u64>,
    /// Several seeds, first and last, such as 1..40. Without --seed and --seeds: 1..20.
    #[arg(long, value_name = "A..B", value_parser = parse_range)]
    seeds: Option<RangeInclusive<u64>>,
    /// Number of tills [default: 5, or what the file of --faults says].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=TILLS_LIMIT))]
    tills: Option<u64>,
    /// Days [default: 7, or what the file of --faults says].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=DAYS_LIMIT))]
    days: Option<u64>,
    /// Transactions of a till and day, about [default: 12, or what the file of --faults says].
    #[arg(long, value_parser = clap::value_parser!(u64).range(..=TRANSACTIONS_LIMIT))]
    transactions: Option<u64>,
    /// Hubs on one database: 1 to 8; 0 is one hub on its disk; `drawn` draws it from each seed: half of them one on its disk,
    /// the others 2 to 4 [default: 0, or what the file of --faults says].
    #[arg(long, value_name = "N|drawn", value_parser = parse_hubs)]
    hubs: Option<Hubs>,
    /// Which faults: `swarm` draws some from each seed, `none` has none, a scenario file (or a name that `scenarios`
    /// lists) gives its own, together with the trade of each seed.
    #[arg(long, default_value = "swarm", value_name = "swarm|none|FILE")]
    faults: String,
    /// Draws the run of the first seed as a web page into this file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// One JSON document instead of words.
    #[arg(long)]
    json: bool,
    /// Runs at a time [default: one on each core].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=1_024))]
    jobs: Option<u64>,
    /// Where the shrunk scenario of a failure is written.
    #[arg(long, value_name = "DIR", default_value = ".")]
    out: PathBuf,
    /// How many runs may be spent on shrinking a failure; 0 writes it as it is.
    #[arg(long, default_value_t = 300, value_name = "N")]
    shrink_tries: u64,
}

/// Largest seed: TOML has no larger numbers.
const SEED_LIMIT: u64 = i64::MAX.unsigned_abs();

/// How many hubs.
#[derive(Debug, Clone, Copy)]
enum Hubs {
    /// So many.
    Count(u64),
    /// Each seed says it.
    Drawn,
}

fn parse_hubs(text: &str) -> Result<Hubs, String> {
    if text == "drawn" {
        return Ok(Hubs::Drawn);
    }
    let count = text.parse::<u64>().ok().filter(|count| *count <= HUBS_LIMIT);
    count.map(Hubs::Count).ok_or_else(|| format!("write 0 to {HUBS_LIMIT}, or drawn"))
}

fn parse_range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write first and last seed, such as 1..40")?;
    let number = |part: &str| part.trim_start_matches('=').parse::<u64>().map_err(|error| error.to_string());
    let (from, to) = (number(from)?, number(to)?);
    if from > to || to > SEED_LIMIT || to - from >= SEEDS_LIMIT {
        return Err(format!("write the smaller seed first, and at most {SEEDS_LIMIT} seeds"));
    }
    Ok(from..=to)
}

/// Why a command ended without a result: a message that names operation, reason and way out, and the exit code.
pub struct Refused {
    message: String,
    code: u8,
}

impl Refused {
    fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Verb::Run(arguments) => run(&arguments),
        Verb::Replay { scenario, report, json } => replay(&scenario, report.as_deref(), json),
        Verb::Scenarios { name: Some(name), .. } => print_scenario(&name),
        Verb::Scenarios { name: None, json } => list_scenarios(json),
        Verb::Sweep(arguments) => sweep::sweep(&arguments),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "tillsync-sim", &mut io::stdout());
            Ok(true)
        }
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(BROKEN),
        Err(refused) => {
            eprintln!("tillsync-sim: {}", refused.message);
            ExitCode::from(refused.code)
        }
    }
}

fn run(arguments: &Run) -> Result<bool, Refused> {
    let seeds = arguments.seeds.clone().unwrap_or_else(|| arguments.seed.map_or(1..=20, |seed| seed..=seed));
    let base = base_of(arguments)?;
    let first = *seeds.start();
    let bar = pool::bar(seeds.end() - seeds.start() + 1, "seeds");
    let workers = pool::workers(arguments.jobs);
    let (from, count) = (first, usize::try_from(seeds.end() - first + 1).unwrap_or(usize::MAX));
    let job = |at: usize| {
        let seed = from + at as u64;
        pool::Job {
            scenario: with_hubs(seeded(&base, seed), arguments.hubs),
            page: at == 0 && arguments.report.is_some(),
        }
    };
    let stop = interruption()?;
    let mut summary = Summary::new(&base.name, (from, *seeds.end()), workers);
    let mut page = None;
    for (at, done) in pool::run_all(count, workers, &bar, &stop, job).into_iter().enumerate() {
        page = page.or(done.page);
        summary.add(from + at as u64, done.result);
    }
    summary.stop_clock();
    if let Some(failure) = summary.failures.first_mut() {
        let scenario = with_hubs(seeded(&base, failure.seed), arguments.hubs);
        // Who interrupts does not want to wait for hundreds of runs more.
        let tries = if stop.load(Ordering::Relaxed) { 0 } else { arguments.shrink_tries };
        failure.shrink(&scenario, tries, &arguments.out)?;
    }
    summary.print(arguments.json);
    write_page(arguments.report.as_deref(), page)?;
    if summary.made() < count as u64 {
        let next = first + summary.made();
        let message = format!(
            "interrupted after {} of {count} seeds; go on with --seeds {next}..{}",
            summary.made(),
            seeds.end()
        );
        return Err(Refused { message, code: if summary.failures.is_empty() { 1 } else { BROKEN } });
    }
    Ok(summary.failures.is_empty())
}

/// The flag that Ctrl-C sets: what was made until then is told like any other result.
fn interruption() -> Result<Arc<AtomicBool>, Refused> {
    pool::interruption()
        .map_err(|error| Refused::failed(format!("cannot listen for an interruption: {error}")))
}

/// What every seed starts from.
fn base_of(arguments: &Run) -> Result<Scenario, Refused> {
    let (tills, days) = (arguments.tills.unwrap_or(5), arguments.days.unwrap_or(7));
    let transactions = arguments.transactions.unwrap_or(TRANSACTIONS);
    let base = match arguments.faults.as_str() {
        word @ ("swarm" | "none") => {
            let name = format!("faults {word}");
            Scenario { name, ..Scenario::swarm(0, tills, days, transactions, word == "swarm") }
        }
        file => {
            let mut base = find(file)?;
            base.tills = arguments.tills.unwrap_or(base.tills);
            base.days = arguments.days.unwrap_or(base.days);
            let mut trade =
                base.trade.take().unwrap_or(Trade { transactions, mischief_percent: 4, closes: true });
            trade.transactions = arguments.transactions.unwrap_or(trade.transactions);
            base.trade = Some(trade);
            base
        }
    };
    limits::check(&base).map_err(|problem| {
        let nth = problem.happening.map_or(String::new(), |at| format!(" of happening {}", at + 1));
        Refused::usage(format!("cannot run this: {}{nth}: {}", problem.key, problem.reason))
    })?;
    Ok(base)
}

fn seeded(base: &Scenario, seed: u64) -> Scenario {
    Scenario { seed, name: format!("{}, seed {seed}", base.name), ..base.clone() }
}

fn with_hubs(mut scenario: Scenario, hubs: Option<Hubs>) -> Scenario {
    scenario.hubs = match hubs {
        None => scenario.hubs,
        Some(Hubs::Count(count)) => count,
        Some(Hubs::Drawn) => {
            let mut chance = Chance::new(scenario.seed, "how many hubs");
            if chance.once_in(2) { 0 } else { 2 + chance.below(3) }
        }
    };
    scenario
}

fn replay(name: &str, report: Option<&Path>, json: bool) -> Result<bool, Refused> {
    let scenario = find(name)?;
    let mut summary = Summary::new(&scenario.name, (scenario.seed, scenario.seed), 1);
    let job = |_| pool::Job { scenario: scenario.clone(), page: report.is_some() };
    let bar = pool::bar(1, "run");
    let mut page = None;
    for done in pool::run_all(1, 1, &bar, &AtomicBool::new(false), job) {
        page = page.or(done.page);
        summary.add(scenario.seed, done.result);
    }
    summary.stop_clock();
    summary.print(json);
    write_page(report, page)?;
    Ok(summary.failures.is_empty())
}

/// A scenario by its file, or by the name of one that is shipped.
fn find(name: &str) -> Result<Scenario, Refused> {
    let path = Path::new(name);
    if !path.exists()
        && let Some(shipped) = Shipped::named(name)
    {
        return shipped.scenario().map_err(|bad| Refused::failed(bad.to_string()));
    }
    let text = fs::read_to_string(path).map_err(|error| {
        let known: Vec<&str> = shipped::ALL.iter().map(|shipped| shipped.name).collect();
        Refused::failed(format!(
            "cannot read the scenario {name}: {error}; give a file, or one of {}",
            known.join(", ")
        ))
    })?;
    let mut scenario = file::read(name, &text).map_err(|bad| Refused::failed(bad.to_string()))?;
    if scenario.name.is_empty() {
        name.clone_into(&mut scenario.name);
    }
    Ok(scenario)
}

fn print_scenario(name: &str) -> Result<bool, Refused> {
    let Some(shipped) = Shipped::named(name) else {
        let reason =
            format!("cannot print {name}: no scenario of that name is shipped; `scenarios` lists them");
        return Err(Refused::failed(reason));
    };
    print!("{}", shipped.text);
    Ok(true)
}

fn list_scenarios(json: bool) -> Result<bool, Refused> {
    let mut rows = Vec::new();
    for shipped in shipped::ALL {
        let scenario = shipped.scenario().map_err(|bad| Refused::failed(bad.to_string()))?;
        if !json {
            println!(
                "{:22} {:2} tills {:2} days  {}",
                shipped.name, scenario.tills, scenario.days, scenario.about
            );
        }
        rows.push(serde_json::json!({
            "name": shipped.name, "title": scenario.name, "about": scenario.about,
            "tills": scenario.tills, "days": scenario.days, "happenings": scenario.happens.len(),
        }));
    }
    if json {
        println!("{}", serde_json::Value::from(rows));
    }
    Ok(true)
}

fn write_page(file: Option<&Path>, page: Option<String>) -> Result<(), Refused> {
    let Some(file) = file else { return Ok(()) };
    let shown = file.display();
    let Some(page) = page else {
        eprintln!("tillsync-sim: {shown} is not written: a run that fails has no report");
        return Ok(());
    };
    fs::write(file, page).map_err(|error| {
        Refused::failed(format!(
            "cannot write {shown}: {error}; give --report a file in a folder that is there"
        ))
    })?;
    eprintln!("tillsync-sim: the report is in {shown}");
    Ok(())
}
