//! Measures Tillsync on the machine it runs on, beside what the machine's disk can do with the same bytes in the same
//! run. `report` takes minutes and prints a table; `smoke` takes seconds and judges counts and contents, never times;
//! `instructions` counts what the engine's hot paths cost and holds them against a baseline.
//!
//! Rooms: `workload` (what is sold), `raw` (the disk alone), `capture`, `live`, `drain` and `restart` (the product, as
//! processes over loopback), `projection` (the books alone), `simulator`, `scale` (what grows), `hubs` (several hubs on one
//! PostgreSQL, and what follows for other sizes), `pair` (the engine without disk or network), `shop`, `process`, `relay`, `http`
//! and `postgres_server` (how nodes and the database are run and asked), `beside` and `peers` (other programs, where they are
//! built in; `bars` draws them), `stats` and `table` (what comes out). Two rows that are compared are
//! measured in turns: A B A B.

#[cfg(feature = "peers")]
mod bars;
mod beside;
mod capture;
mod console;
mod drain;
mod http;
mod hubs;
mod instructions;
mod live;
mod memory;
mod pair;
#[cfg(feature = "peers")]
mod peers;
mod postgres_server;
mod process;
mod profile;
mod projection;
mod raw;
mod relay;
mod restart;
mod scale;
mod shop;
mod simulator;
mod stats;
mod table;
mod workload;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use stats::Measure;
use table::Table;

/// What every measurement gives, or why it could not be taken.
type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Measures Tillsync beside what this machine's disk can do.
#[derive(Debug, Parser)]
#[command(name = "benches", max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Task,
    /// The `tillsync` program to measure; otherwise the one beside this program
    #[arg(long, global = true, value_name = "PATH")]
    tillsync: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// A tiny run that checks counts and contents and judges no times (for CI)
    Smoke,
    /// The whole run; prints one Markdown table
    Report {
        /// Rounds; medians are taken over them
        #[arg(long, default_value_t = 3)]
        rounds: u64,
        /// Only some of the parts
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<Part>,
        /// Write charts of what was measured into this directory, as SVG
        #[arg(long, value_name = "DIR")]
        plots: Option<PathBuf>,
    },
    /// The same measures over more and more history, and over more and more tills; prints what stays flat and what grows
    Scale(scale::Arguments),
    /// Several hubs on one PostgreSQL, beside one on files and beside PostgreSQL's own COPY; and how soon a dead hub's tills are served
    Hubs(hubs::Arguments),
    /// Says what the last whole run of `hubs` means for 10 to 100,000 stores
    ScalingModel {
        #[command(flatten)]
        assumed: hubs::Assumed,
        /// Put the tables into docs/scaling.md, as they are by what is assumed there
        #[arg(long)]
        write: bool,
    },
    /// Counts the instructions of the engine's hot paths under valgrind and holds them against the baseline (for CI)
    Instructions {
        /// Write the counts as the new baseline
        #[arg(long)]
        write: bool,
    },
    /// Says where the instructions of those paths go, function by function (needs valgrind)
    Profile,
    /// Does one of those paths' work, for `instructions`
    #[command(hide = true)]
    InstructionsOf {
        /// Which
        name: String,
        /// How many times
        times: usize,
    },
}

/// Parts of the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    Capture,
    Live,
    Drain,
    /// Only what encryption costs: capture in process and the drain of one till, with and without it.
    Sealed,
    Projection,
    Memory,
    Simulator,
    /// Other programs beside Tillsync (in a whole run if this was built with `--features peers`).
    Peers,
    /// First page and grid of the console of a large company (not in a whole run: it takes gigabytes and minutes).
    Console,
}

const PARTS: [Part; 6] =
    [Part::Capture, Part::Live, Part::Drain, Part::Projection, Part::Memory, Part::Simulator];

/// What a whole run measures of other programs.
const BESIDE: &[Part] = if beside::BUILT { &[Part::Peers] } else { &[] };

/// How much of everything.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Transactions captured one at a time, and disk writes beside them.
    single: usize,
    /// Transactions captured 32 at a time, and in groups by the raw disk.
    many: usize,
    /// Live transactions of each kind.
    live: usize,
    /// Transactions captured offline and drained.
    drain: usize,
    /// Tills of the wider drain.
    tills: usize,
    /// History in the books, smallest first.
    histories: &'static [usize],
    /// Records that hub and tills keep when their memory is measured: few, and many.
    kept: (usize, usize),
    /// How long nodes lie there before their memory is measured: the allocator gives back what it has no use for.
    rests: Duration,
    /// Records added one by one to each history.
    more: usize,
    /// Stores, tills a store and records a till of a large company.
    console: (usize, usize, usize),
    /// Seeds that the simulator plays, and for how many days each.
    seeds: u64,
    /// See `seeds`.
    simulated_days: u64,
}

const FULL: Sizes = Sizes {
    single: 3_000,
    many: 16_000,
    live: 1_000,
    drain: 10_000,
    tills: 8,
    histories: &[1_000, 10_000, 100_000],
    kept: (10_000, 100_000),
    rests: Duration::from_secs(20),
    more: 1_000,
    console: (500, 10, 200),
    seeds: 10,
    simulated_days: 7,
};

const TINY: Sizes = Sizes {
    single: 40,
    many: 320,
    live: 30,
    drain: 600,
    tills: 3,
    histories: &[300, 1_000],
    kept: (300, 900),
    rests: Duration::from_millis(500),
    more: 50,
    console: (3, 2, 20),
    seeds: 2,
    simulated_days: 1,
};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match &cli.command {
        Task::Smoke => {
            let parts = [&PARTS[..], BESIDE, &[Part::Console]].concat();
            run(cli.tillsync.as_deref(), &TINY, 1, &parts, true, None)
                .and_then(|()| program(cli.tillsync.as_deref(), true))
                .and_then(|program| scale::smoke(&program).and_then(|()| hubs::smoke(&program)))
        }
        Task::Report { rounds, only, plots } => {
            let parts = if only.is_empty() { [&PARTS[..], BESIDE].concat() } else { only.clone() };
            run(cli.tillsync.as_deref(), &FULL, (*rounds).max(1), &parts, false, plots.as_deref())
        }
        Task::Scale(arguments) => {
            program(cli.tillsync.as_deref(), false).and_then(|program| scale::run(&program, arguments))
        }
        Task::Hubs(arguments) => {
            program(cli.tillsync.as_deref(), false).and_then(|program| hubs::run(&program, arguments))
        }
        Task::ScalingModel { write: true, .. } => hubs::write(),
        Task::ScalingModel { assumed, write: false } => hubs::print(assumed),
        Task::Instructions { write } => instructions::check(*write),
        Task::Profile => profile::print(),
        Task::InstructionsOf { name, times } => instructions::run(name, *times),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("benches: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(
    tillsync: Option<&Path>,
    sizes: &Sizes,
    rounds: u64,
    parts: &[Part],
    smoke: bool,
    plots: Option<&Path>,
) -> Outcome<()> {
    let program = program(tillsync, smoke)?;
    let (mut table, before) = (Table::default(), load());
    let mut beside = beside::Beside::new(&program, smoke);
    for round in 1..=rounds {
        for part in parts {
            eprintln!("round {round} of {rounds}: {part:?}, load {}", load());
            if *part == Part::Peers {
                beside.round(round)?;
                continue;
            }
            for (row, measure) in measure(*part, &program, sizes, round)? {
                table.add(row, measure);
            }
        }
    }
    if smoke {
        beside.verdict()?;
        let rows = table.len() + beside.len();
        println!("smoke: {rows} rows measured; every count and content as it must be");
    } else {
        let load = format!("Load average of the machine: {before} before, {} after.", load());
        if table.len() > 0 {
            println!("{}", table.markdown(rounds, &load));
        }
        print!("{}", beside.markdown(rounds, &load));
    }
    if let Some(dir) = plots {
        beside.plots(dir)?;
    }
    beside.verdict()
}

/// One round of a part: rows that are compared with each other stand in one part.
fn measure(part: Part, program: &Path, sizes: &Sizes, round: u64) -> Outcome<Vec<(&'static str, Measure)>> {
    match part {
        Part::Capture => {
            let mut rows = raw::measure(sizes, round)?;
            rows.extend(capture::in_process(sizes, round)?);
            rows.extend(capture::product(program, sizes, round)?);
            Ok(rows)
        }
        Part::Live => {
            let mut rows = raw::twice(sizes, round)?;
            rows.extend(live::measure(program, sizes, round)?);
            Ok(rows)
        }
        Part::Drain => {
            let mut rows = drain::measure(program, sizes, round, 1)?;
            rows.extend(drain::sealed(program, sizes, round)?);
            rows.extend(drain::measure(program, sizes, round, sizes.tills)?);
            rows.extend(drain::wire(program, sizes, round)?);
            Ok(rows)
        }
        Part::Sealed => {
            let mut rows = capture::in_process(sizes, round)?;
            rows.extend(drain::measure(program, sizes, round, 1)?);
            rows.extend(drain::sealed(program, sizes, round)?);
            Ok(rows)
        }
        Part::Projection => projection::measure(sizes, round),
        Part::Memory => memory::measure(program, sizes, round),
        Part::Simulator => simulator::measure(sizes, round),
        Part::Console => console::measure(program, sizes),
        Part::Peers => Ok(Vec::new()),
    }
}

/// The program to measure. A smoke run builds it if it is missing, because CI runs nothing before it.
fn program(given: Option<&Path>, build: bool) -> Outcome<PathBuf> {
    let path = match given {
        Some(path) => path.to_owned(),
        None => std::env::current_exe()?.with_file_name(format!("tillsync{}", std::env::consts::EXE_SUFFIX)),
    };
    if !path.exists() && build && given.is_none() {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "-p", "node", "--bin", "tillsync"]);
        if !cfg!(debug_assertions) {
            cargo.arg("--release");
        }
        // Cargo's own target directory, wherever it is: this program stands in `<target>/<profile>/`.
        if let Some(target) = path.parent().and_then(Path::parent) {
            cargo.env("CARGO_TARGET_DIR", target);
        }
        let built = cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status()?;
        if !built.success() {
            return Err(format!("tillsync could not be built: {built}").into());
        }
    }
    if path.exists() {
        return Ok(path);
    }
    let path = path.display();
    Err(format!(
        "{path} is missing; build it with `cargo build --release -p node`, or name one with --tillsync"
    )
    .into())
}

/// Load of the machine over the last minute, as the system tells it: numbers of a busy machine say so.
fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace().next().unwrap_or("unknown").to_owned()
}
