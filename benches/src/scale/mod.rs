//! The same measures at many sizes, and what grows with them. A shop's cost should follow its open day and the till that
//! sells, not what lies in the books or who else is connected: each row says whether that is so.
//!
//! Rooms: `history` (more and more records in one store), `tills` (more and more tills at one hub), `place` (hub and tills),
//! `fill` (a history as tills write it), `crew` (many tills in one process), `sheet` and `curves` (what comes out).

mod crew;
mod curves;
mod fill;
mod history;
pub mod place;
mod sheet;
mod tills;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::Outcome;
use crate::stats::{Measure, Samples, nanos};
use sheet::{Reading, Sheet, Unit};

/// What to run.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Only some of the parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Rounds; medians are taken over them
    #[arg(long, default_value_t = 1)]
    rounds: u64,
    /// Only sizes from this one on
    #[arg(long, value_name = "SIZE")]
    from: Option<usize>,
    /// Only sizes up to this one
    #[arg(long, value_name = "SIZE")]
    up_to: Option<usize>,
    /// Measure also the start and the memory of a hub with 10,000,000 records
    #[arg(long)]
    ten_million: bool,
    /// Write a line plot of each family of measures here, as SVG
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

/// Parts of a scale run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// More and more records in one store.
    History,
    /// More and more tills at one hub.
    Tills,
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
struct Steps {
    /// Records in the store.
    histories: &'static [usize],
    /// Tills at the hub.
    tills: &'static [usize],
    /// Live transactions.
    live: usize,
    /// Transactions captured while the hub is away, singly and again as many in lines.
    captured: usize,
    /// Records added one by one to books in memory.
    more: usize,
    /// How often a page is asked for.
    looks: usize,
    /// How long nodes rest before their memory is looked at.
    rests: Duration,
    /// After this long, the links of tills that do nothing rest, and they say nothing for two minutes at a time.
    settles: Duration,
    /// How long an idle connection, or hub, is watched.
    idle: Duration,
    /// Transactions a second that all tills capture together while some are timed.
    steady: usize,
    /// Transactions that all tills capture together as fast as they can.
    burst: usize,
    /// Transactions that all tills capture together while the hub is away.
    away: usize,
}

const FULL: Steps = Steps {
    histories: &[1_000, 10_000, 100_000, 1_000_000],
    tills: &[1, 10, 100, 1_000],
    live: 500,
    captured: 2_000,
    more: 1_000,
    looks: 20,
    rests: Duration::from_secs(5),
    settles: Duration::from_secs(90),
    idle: Duration::from_secs(30),
    steady: 100,
    burst: 20_000,
    away: 100_000,
};

const TINY: Steps = Steps {
    histories: &[50, 300],
    tills: &[1, 3],
    live: 10,
    captured: 20,
    more: 10,
    looks: 2,
    rests: Duration::from_millis(100),
    settles: Duration::ZERO,
    idle: Duration::from_millis(300),
    steady: 50,
    burst: 60,
    away: 120,
};

/// Larger than what `histories` goes up to: only the start and the memory.
const TEN_MILLION: usize = 10_000_000;

/// Runs the parts and prints a table for each.
///
/// # Errors
/// A node does not start, or something does not arrive as it was handed over.
pub fn run(program: &Path, arguments: &Arguments) -> Outcome<()> {
    let all = [Part::History, Part::Tills];
    let parts = if arguments.only.is_empty() { &all[..] } else { &arguments.only };
    for part in parts {
        let (mut sheet, before) = (Sheet::default(), crate::load());
        for round in 1..=arguments.rounds.max(1) {
            for size in sizes(*part, &FULL, arguments) {
                eprintln!("round {round}: {part:?}, {size}, load {}", crate::load());
                let readings = measure(*part, program, &FULL, size, round)?;
                // A later size takes long and may fail: what is known is told at once.
                for Reading { family, row, unit, value } in &readings {
                    eprintln!("  {family}: {row}, {}: {}", unit.name(), unit.form(*value));
                }
                sheet.add(size, readings);
            }
        }
        let what = match part {
            Part::History => "records in the store",
            Part::Tills => "tills at the hub",
        };
        let load = format!("Load average of the machine: {before} before, {} after.", crate::load());
        println!("{}", sheet.markdown(what, arguments.rounds.max(1), &load));
        if let Some(dir) = &arguments.plots {
            curves::write(dir, &sheet, what)?;
        }
    }
    Ok(())
}

/// Two small sizes of each part: counts and contents, no times.
///
/// # Errors
/// Something does not arrive as it was handed over.
pub fn smoke(program: &Path) -> Outcome<()> {
    let mut rows = 0;
    for (part, sizes) in [(Part::History, TINY.histories), (Part::Tills, TINY.tills)] {
        let mut sheet = Sheet::default();
        for size in sizes {
            eprintln!("scale: {part:?}, {size}, load {}", crate::load());
            sheet.add(*size, measure(part, program, &TINY, *size, 1)?);
        }
        rows += sheet.rows.len();
        assert!(!sheet.markdown("", 1, "").is_empty());
        curves::write(tempfile::tempdir()?.path(), &sheet, "")?;
    }
    println!("smoke: {rows} rows of two sizes; every count and content as it must be");
    Ok(())
}

fn sizes(part: Part, steps: &Steps, arguments: &Arguments) -> Vec<usize> {
    let (sizes, more) = match part {
        Part::History => (steps.histories, arguments.ten_million.then_some(TEN_MILLION)),
        Part::Tills => (steps.tills, None),
    };
    let (least, most) = (arguments.from.unwrap_or(0), arguments.up_to.unwrap_or(usize::MAX));
    let wanted = |size: &usize| (least..=most).contains(size);
    sizes.iter().copied().filter(wanted).chain(more).collect()
}

fn measure(part: Part, program: &Path, steps: &Steps, size: usize, round: u64) -> Outcome<Vec<Reading>> {
    match part {
        Part::History if size >= TEN_MILLION => history::opened(program, steps, size, round),
        Part::History => history::measure(program, steps, size, round),
        Part::Tills => tills::measure(program, steps, size, round),
    }
}

/// Readings as they are taken.
#[derive(Default)]
struct Said(Vec<Reading>);

impl Said {
    fn push(&mut self, family: &'static str, row: &'static str, unit: Unit, value: u64) {
        self.0.push(Reading { family, row, unit, value });
    }

    fn time(&mut self, family: &'static str, row: &'static str, took: Duration) {
        self.push(family, row, Unit::Time, nanos(took));
    }

    fn bytes(&mut self, family: &'static str, row: &'static str, bytes: u64) {
        self.push(family, row, Unit::Bytes, bytes);
    }

    /// Median and 99th percentile.
    fn latency(&mut self, family: &'static str, rows: [&'static str; 2], samples: Samples) {
        let Measure { p50_ns, p99_ns, .. } = samples.latency();
        for (row, value) in rows.into_iter().zip([p50_ns, p99_ns]) {
            self.push(family, row, Unit::Time, value.unwrap_or(0));
        }
    }
}
