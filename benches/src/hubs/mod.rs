//! Several hubs of one company on one PostgreSQL, beside one hub on files and beside PostgreSQL's own COPY of the rows that came
//! of it: how fast, what it costs whom, how long a record takes that travels alone, and how long until another hub has what a
//! hub had that ended. Everything on one machine: hubs, tills and server share its cores, so processor time a record is what
//! can be carried elsewhere, and `model` carries it.
//!
//! Rooms: `chain` (hubs, tills and server as processes), `books` (what the database says, and COPY), `processor` (who used how
//! much), `drain`, `live` and `takeover` (what is measured), `figures` (tables, and the file that keeps them), `model` (what
//! follows from them for other sizes).

mod books;
mod chain;
mod drain;
mod figures;
mod live;
mod model;
mod processor;
mod takeover;

use std::path::Path;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::Outcome;
use crate::postgres_server::programs;
use chain::Kept;
use figures::Figures;

pub use model::{Assumed, print, write};

/// What to run.
#[derive(Debug, Args)]
pub struct Arguments {
    /// Rounds; medians are taken over them
    #[arg(long, default_value_t = 3)]
    rounds: u64,
    /// Only some of the parts
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Keep the figures in benches/hubs.json, and put the tables that follow from them into docs/scaling.md
    #[arg(long)]
    write: bool,
    /// A short form, to see that everything works: its figures say nothing
    #[arg(long, conflicts_with = "write")]
    short: bool,
    /// What the machine did meanwhile, for the tables: "nothing else ran"
    #[arg(long, default_value = "other work was on the machine")]
    note: String,
}

/// Parts of a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What was captured offline, all of it at once.
    Drain,
    /// One record at a time, and nothing at all.
    Live,
    /// A hub ends.
    Takeover,
}

/// How much of everything.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Tills, each in a store of its own.
    tills: usize,
    /// Shards of the company.
    shards: u16,
    /// Hubs of the drain.
    drain_hubs: &'static [usize],
    /// Records drained.
    drain: usize,
    /// Hubs of the live part.
    live_hubs: &'static [usize],
    /// Records one after the other, of all tills together.
    live: usize,
    /// Records of all tills at once.
    busy: usize,
    /// Tills of the shard that is taken over.
    takeover_tills: usize,
    /// Records in it.
    takeover: &'static [usize],
    /// How long an idle company is watched.
    idle: Duration,
    /// Until the server has counted what it committed.
    rests: Duration,
    /// Until the allocator of a hub has given back what it has no use for.
    settles: Duration,
}

const FULL: Sizes = Sizes {
    tills: 16,
    shards: 8,
    drain_hubs: &[1, 2, 4],
    drain: 96_000,
    live_hubs: &[1, 3],
    live: 800,
    busy: 16_000,
    takeover_tills: 4,
    takeover: &[10_000, 100_000, 200_000],
    idle: Duration::from_secs(15),
    rests: Duration::from_millis(1_500),
    settles: Duration::from_secs(10),
};

const TINY: Sizes = Sizes {
    tills: 4,
    shards: 4,
    drain_hubs: &[2],
    drain: 400,
    live_hubs: &[2],
    live: 8,
    busy: 40,
    takeover_tills: 2,
    takeover: &[100],
    idle: Duration::from_millis(500),
    rests: Duration::from_millis(200),
    settles: Duration::from_millis(200),
};

/// Measures and prints; keeps the figures where that is wanted.
///
/// # Errors
/// No PostgreSQL server is installed, a node does not start, or something does not arrive as it was handed over.
pub fn run(program: &Path, arguments: &Arguments) -> Outcome<()> {
    let all = [Part::Drain, Part::Live, Part::Takeover];
    let parts = if arguments.only.is_empty() { &all[..] } else { &arguments.only };
    let postgres = programs().ok_or("no PostgreSQL server is installed (apt-get install postgresql)")?;
    let sizes = if arguments.short { &TINY } else { &FULL };
    let (rounds, before) = (arguments.rounds.max(1), crate::load());
    let mut figures = Figures::default();
    for round in 1..=rounds {
        for part in parts {
            measure(*part, program, &postgres, sizes, round, &mut figures)?;
        }
    }
    figures.conditions = format!(
        "Medians of {rounds} rounds in turns (smallest–largest); {}; {}; load average {before} before, {} after.",
        machine(),
        arguments.note,
        crate::load()
    );
    print!("{}", figures.markdown());
    if arguments.write {
        figures.keep()?;
        model::write()?;
    }
    Ok(())
}

/// A short form: counts and contents, no times. Says so where there is no server.
///
/// # Errors
/// Something does not arrive as it was handed over.
pub fn smoke(program: &Path) -> Outcome<()> {
    let Some(postgres) = programs() else {
        println!(
            "smoke: several hubs SKIPPED: no PostgreSQL server is installed (apt-get install postgresql)"
        );
        return Ok(());
    };
    let mut figures = Figures::default();
    for part in [Part::Drain, Part::Live, Part::Takeover] {
        measure(part, program, &postgres, &TINY, 1, &mut figures)?;
    }
    assert!(!figures.markdown().is_empty());
    println!("smoke: {} figures of several hubs; every count and content as it must be", figures.len());
    Ok(())
}

fn measure(
    part: Part,
    program: &Path,
    postgres: &Path,
    sizes: &Sizes,
    round: u64,
    figures: &mut Figures,
) -> Outcome<()> {
    let in_turns = |hubs: &'static [usize]| {
        let shards = sizes.shards;
        let several = hubs.iter().map(move |hubs| Kept::Database { hubs: *hubs, shards });
        std::iter::once(Kept::Files).chain(several)
    };
    let say = |what: &str| eprintln!("hubs: round {round}: {part:?}, {what}, load {}", crate::load());
    match part {
        Part::Drain => in_turns(sizes.drain_hubs).try_for_each(|kept| {
            say(&kept.name());
            drain::measure(program, postgres, sizes, kept, round, figures)
        }),
        Part::Live => in_turns(sizes.live_hubs).try_for_each(|kept| {
            say(&kept.name());
            live::measure(program, postgres, sizes, kept, round, figures)
        }),
        Part::Takeover => sizes.takeover.iter().try_for_each(|records| {
            say(&format!("{records} records"));
            takeover::measure(program, postgres, sizes, *records, round, figures)
        }),
    }
}

/// Cores and kind of processor.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let model = model.map_or("an unknown processor", |(_, name)| name.trim());
    format!("{cores} cores of {model}, shared by hubs, tills and server")
}
