//! Where the instructions of the hot paths go: callgrind counts each function with what it calls, once for some work and once
//! for twice as much, so that what goes before falls out. `benches profile` prints a table for each path.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use crate::Outcome;
use crate::instructions::{PATHS, command};

/// Functions listed for a path.
const LISTED: usize = 22;
/// Beside the engine's own functions: where the work of others begins.
const OTHERS: [&str; 8] = [
    "malloc",
    "free",
    "ed25519_dalek",
    "blake3::Hasher",
    "zstd_safe::",
    "automerge::",
    "serde_json::",
    "bincode::",
];
/// Listed from so many hundredths of a percent of the path on.
const FROM_SHARE: u64 = 150;

/// Instructions of each function with what it calls.
type Inclusive = BTreeMap<String, u64>;

/// Prints the tables.
///
/// # Errors
/// There is no valgrind.
pub fn print() -> Outcome<()> {
    println!("{}", tables()?);
    Ok(())
}

/// The tables, as Markdown.
///
/// # Errors
/// There is no valgrind.
fn tables() -> Outcome<String> {
    let mut text = String::new();
    for hot in &PATHS {
        let (once, twice) = (inclusive(hot.name, 1)?, inclusive(hot.name, 2)?);
        let of = |name: &String, count: u64| {
            count.saturating_sub(once.get(name).copied().unwrap_or(0)) / hot.work as u64
        };
        let mut rows: Vec<(u64, &String)> =
            twice.iter().map(|(name, count)| (of(name, *count), name)).collect();
        rows.sort_unstable_by(|a, b| b.cmp(a));
        let whole = rows.first().map_or(0, |row| row.0);
        writeln!(
            text,
            "\n## {}\n\n| instructions a transaction | of the whole | function, with what it calls |\n|--:|--:|---|",
            hot.name
        )?;
        let ours =
            |name: &str| name.contains("engine::") || OTHERS.iter().any(|other| name.starts_with(other));
        let listed = rows.iter().filter(|row| ours(row.1) && row.0 * 10_000 >= whole * FROM_SHARE);
        for (count, name) in listed.take(LISTED) {
            writeln!(text, "| {count} | {} % | `{name}` |", count * 100 / whole.max(1))?;
        }
    }
    Ok(text)
}

fn inclusive(name: &str, times: usize) -> Outcome<Inclusive> {
    let file = tempfile::NamedTempFile::new()?;
    let out = format!("--callgrind-out-file={}", file.path().display());
    let done = command(&out, name, times)?.output().map_err(|error| format!("{error}; install valgrind"))?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned().into());
    }
    let listed = Command::new("callgrind_annotate")
        .args(["--inclusive=yes", "--threshold=100", "--auto=no"])
        .arg(file.path())
        .output()?;
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let mut found = Inclusive::new();
    for (count, function) in listed.lines().filter_map(row) {
        // A function stands once for each file that was inlined into it; the largest is the whole of it.
        let known = found.entry(function).or_default();
        *known = count.max(*known);
    }
    Ok(found)
}

/// `1,234 (5.6%)  file:function [object]`.
fn row(line: &str) -> Option<(u64, String)> {
    let (count, rest) = line.trim_start().split_once(" (")?;
    let count = count.replace(',', "").parse().ok()?;
    let (_, place) = rest.split_once(")  ")?;
    let place = place.split(" [").next()?;
    let function =
        place.split_once(".rs:").or_else(|| place.split_once(".c:")).or_else(|| place.split_once("???:"));
    Some((count, function?.1.trim().to_owned()))
}
