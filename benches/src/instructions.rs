//! What the engine's hot paths cost in instructions, counted by callgrind and held against a stored baseline: a time on a
//! busy machine says little, a count is the same every time. `benches instructions` runs this program under valgrind,
//! once doing some work and once doing it twice, so that what goes before falls out of the difference.

use std::collections::BTreeMap;
use std::process::Command;

use engine::entry::Entry;
use engine::host::Line;
use engine::ids::TerminalId;
use engine::replica::Replica;
use engine::transaction::Draft;
use serde::{Deserialize, Serialize};

use crate::Outcome;
use crate::pair::{Pair, replica};
use crate::workload::transactions;

/// The baseline, beside the source.
const BASELINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.json");
/// A path may cost this much more than the baseline says, in a hundred.
const ALLOWED_PERCENT: u64 = 5;

/// Something that is done for every transaction.
pub(crate) struct Hot {
    pub(crate) name: &'static str,
    /// Transactions of the shorter run.
    pub(crate) work: usize,
    /// Makes ready for twice the work, and does it so many times.
    run: fn(usize, usize) -> Outcome<()>,
}

pub(crate) const PATHS: [Hot; 5] = [
    Hot { name: "a draft is read", work: 500, run: drafts },
    Hot { name: "a till captures one at a time", work: 200, run: capture },
    Hot { name: "a hub takes in a bulk", work: 1_000, run: drain },
    Hot { name: "a hub takes in one at a time", work: 100, run: live },
    Hot { name: "a hub reads its log back", work: 1_000, run: restart },
];

/// Counts by path, and which compiler made the program.
#[derive(Serialize, Deserialize)]
struct Counts {
    compiler: String,
    instructions_per_transaction: BTreeMap<String, u64>,
}

/// Counts, prints, and compares with the baseline or writes it.
///
/// # Errors
/// There is no valgrind, or a path costs more than it may.
pub fn check(write: bool) -> Outcome<()> {
    let mut counts = BTreeMap::new();
    for hot in &PATHS {
        let (once, twice) = (counted(hot.name, 1)?, counted(hot.name, 2)?);
        counts.insert(hot.name.to_owned(), twice.saturating_sub(once) / hot.work as u64);
    }
    let counted = Counts { compiler: compiler()?, instructions_per_transaction: counts };
    if write {
        std::fs::write(BASELINE, serde_json::to_string_pretty(&counted)? + "\n")?;
    }
    let baseline: Counts = serde_json::from_str(&std::fs::read_to_string(BASELINE)?)?;
    let mut over = Vec::new();
    println!("| instructions a transaction | now | baseline | change |\n|---|--:|--:|--:|");
    for (name, now) in &counted.instructions_per_transaction {
        let Some(then) = baseline.instructions_per_transaction.get(name).copied().filter(|then| *then > 0)
        else {
            return Err(
                format!("{name} has no baseline; write one with `benches instructions --write`").into()
            );
        };
        let change = (i128::from(*now) - i128::from(then)) * 1_000 / i128::from(then);
        let sign = if change < 0 { '-' } else { '+' };
        println!("| {name} | {now} | {then} | {sign}{}.{} % |", change.abs() / 10, change.abs() % 10);
        if *now * 100 > then * (100 + ALLOWED_PERCENT) {
            over.push(name.as_str());
        }
    }
    if counted.compiler != baseline.compiler {
        println!("The baseline is of {}, this is {}: not judged.", baseline.compiler, counted.compiler);
        return Ok(());
    }
    if over.is_empty() {
        return Ok(());
    }
    Err(format!(
        "over the baseline by more than {ALLOWED_PERCENT} %: {}; make it cheaper, or say in the commit why not and write the \
         baseline anew with `benches instructions --write`",
        over.join(", ")
    )
    .into())
}

/// Does a path's work, in the process that valgrind watches.
///
/// # Errors
/// There is no such path, or it fails.
pub fn run(name: &str, times: usize) -> Outcome<()> {
    let hot =
        PATHS.iter().find(|hot| hot.name == name).ok_or_else(|| format!("there is no path {name:?}"))?;
    (hot.run)(hot.work, times)
}

fn counted(name: &str, times: usize) -> Outcome<u64> {
    let output = command("--callgrind-out-file=/dev/null", name, times)?
        .output()
        .map_err(|error| format!("cannot count instructions: {error}; install valgrind"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    let count = said.lines().find_map(|line| line.split_once("Collected :")).map(|parts| parts.1.trim());
    match count.filter(|_| output.status.success()) {
        Some(count) => Ok(count.parse()?),
        None => Err(format!("valgrind ended without a count for {name:?}: {said}").into()),
    }
}

/// This program doing a path's work under callgrind.
pub(crate) fn command(out: &str, name: &str, times: usize) -> Outcome<Command> {
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", out]).arg(std::env::current_exe()?);
    command.args(["instructions-of", name, &times.to_string()]);
    Ok(command)
}

fn compiler() -> Outcome<String> {
    let output = Command::new("rustc").arg("--version").output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

/// Drafts for the work done twice.
fn made_for(work: usize) -> Outcome<Vec<Draft>> {
    transactions("till-01", 2 * work, 1).iter().map(|one| Ok(Draft::from_json(&one.json)?)).collect()
}

fn drafts(work: usize, times: usize) -> Outcome<()> {
    let texts = transactions("till-01", 2 * work, 1);
    for text in &texts[..work * times] {
        std::hint::black_box(Draft::from_json(&text.json)?);
    }
    Ok(())
}

fn capture(work: usize, times: usize) -> Outcome<()> {
    let (mut pair, mut drafts) = (Pair::new(), made_for(work)?);
    drafts.truncate(work * times);
    for draft in drafts {
        pair.capture(vec![draft]);
    }
    pair.arrived(0, work * times)
}

fn drain(work: usize, times: usize) -> Outcome<()> {
    let (mut pair, drafts) = (Pair::new(), made_for(work)?);
    for group in drafts[..work * times].chunks(100) {
        pair.capture(group.to_vec());
    }
    pair.link();
    pair.arrived(work * times, work * times)
}

fn live(work: usize, times: usize) -> Outcome<()> {
    let (mut pair, mut drafts) = (Pair::new(), made_for(work)?);
    drafts.truncate(work * times);
    pair.link();
    for draft in drafts {
        pair.capture(vec![draft]);
    }
    pair.arrived(work * times, work * times)
}

fn restart(work: usize, times: usize) -> Outcome<()> {
    let mut pair = Pair::new();
    for group in made_for(work)?[..work].chunks(100) {
        pair.capture(group.to_vec());
    }
    pair.link();
    pair.arrived(work, work)?;
    let read = |line: &Line| Ok(Entry::decode(line.kind, &line.bytes)?.1);
    let entries: Vec<Entry> = pair.hub.log.iter().map(read).collect::<Outcome<_>>()?;
    for _ in 0..times {
        let again = Replica::from_log(replica(TerminalId::hub(), 0), &entries)?;
        if again.books().len() != pair.hub.host.replica().books().len() {
            return Err("the log gives other books".into());
        }
    }
    Ok(())
}
