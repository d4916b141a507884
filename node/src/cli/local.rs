//! `verify`, `project`, `demo`: what needs no running node. Hands on what other rooms of this crate find, and gives
//! it the exit code that scripts rely on.

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::out::Out;
use super::table::{Side, Table};
use super::words::{count, text};
use crate::error::Failure;

/// Check a data directory of a stopped node against everything that must be true of it
///
/// Checks the data directory of a stopped node, till or hub: frames, signatures, chains, documents, journal, and that
/// the books add up to what the records require. Believes nothing that was computed before. Exit code 4 if anything
/// is untrue.
#[derive(Debug, clap::Args)]
pub(super) struct Verify {
    /// Data directory of the node
    #[arg(long)]
    dir: PathBuf,
}

/// What the rules would make of records that never happened, or of real ones under another policy
///
/// With a FILE: balances and cases for each scenario of the file, one JSON line each; touches no node. With --from-dir:
/// what a changed policy would post or hold differently in the books of a stopped node; changes nothing there.
#[derive(Debug, clap::Args)]
pub(super) struct Project {
    /// File of scenarios, as a JSON list or one a line; - reads standard input
    #[arg(value_name = "FILE", required_unless_present = "from_dir", conflicts_with = "from_dir")]
    file: Option<PathBuf>,
    /// Data directory of a stopped node whose books are judged anew
    #[arg(long, value_name = "DIR", requires = "policy")]
    from_dir: Option<PathBuf>,
    /// What is set otherwise, such as refund_limit_minor=5000; may be given several times
    #[arg(long, value_name = "KEY=VALUE", requires = "from_dir")]
    policy: Vec<String>,
    /// Only this store
    #[arg(long, requires = "from_dir")]
    store: Option<String>,
    /// First business day that the changed policy judges; otherwise every day that no lock covers
    #[arg(long, value_name = "YYYY-MM-DD", requires = "from_dir")]
    from: Option<engine::time::Day>,
}

/// Show the whole product on this machine: a hub, tills, an outage, the books and the open cases
///
/// Shows the whole product on this machine: a hub and tills with real disks and connections, a network that fails, a
/// sale voided on two tills that cannot see each other, the network back, the books, and what a person has to judge.
#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// Folder for the data; without it a temporary one that goes away again
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Number of tills, at least 3
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = at_least_three)]
    tills: usize,
    /// Sales before the network fails, over all tills
    #[arg(long, value_name = "N", default_value_t = 60)]
    transactions: usize,
    /// Keep everything running afterwards, to look around
    #[arg(long)]
    serve: bool,
}

fn at_least_three(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|tills| *tills >= 3)
        .ok_or_else(|| "the story needs a number of at least 3 tills".to_owned())
}

impl Verify {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let report = crate::verify::verify(&self.dir)?;
        if out.json() {
            out.document(&report)?;
        } else {
            out.text(&verify_page(&report))?;
        }
        judged(&report, &self.dir)
    }
}

/// Only an express yes is a yes.
fn judged(report: &Value, dir: &Path) -> Result<(), Failure> {
    if report["ok"] == true {
        return Ok(());
    }
    let problems = report["problems"].as_array().map_or(&[][..], Vec::as_slice);
    let first = problems.first().map_or_else(|| "the check was not completed".to_owned(), text);
    Err(Failure::untrue(format!(
        "verify: {} has {}: {first}; keep a copy of the directory before anything else, and delete nothing in it before its records are known to be at the hub",
        dir.display(),
        count(problems.len() as u64, "problem", "problems"),
    )))
}

fn verify_page(report: &Value) -> String {
    let mut table = Table::bare(&[Side::Left, Side::Right]);
    for (name, number) in report["checked"].as_object().into_iter().flatten() {
        table.row([&name.replace('_', " "), &text(number)]);
    }
    let mut page = format!("Checked\n{}", table.set());
    let problems = report["problems"].as_array().map_or(&[][..], Vec::as_slice);
    if report["ok"] == true {
        page.push_str("\nNothing is missing, nothing was changed, the books are right.\n");
    } else {
        page.push_str("\nProblems, the first is the one to look at:\n");
        let mut list = Table::bare(&[Side::Right, Side::Left]);
        for (at, problem) in problems.iter().enumerate() {
            list.row([&(at + 1).to_string(), &text(problem)]);
        }
        page.push_str(&list.set());
    }
    page
}

impl Project {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        if let Some(dir) = &self.from_dir {
            let stores = crate::project::under_policy(dir, self.store.as_deref(), &self.policy, self.from)?;
            return stores.iter().try_for_each(|store| {
                if out.json() { out.document(store) } else { out.text(&what_if_page(store)) }
            });
        }
        let Some(file) = &self.file else { return Ok(()) };
        let refused = |error: std::io::Error| {
            Failure::refused(format!(
                "project: cannot read {}: {error}; name a file of scenarios, or -",
                file.display()
            ))
        };
        let text = if file == Path::new("-") {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).map_err(refused)?;
            text
        } else {
            std::fs::read_to_string(file).map_err(refused)?
        };
        crate::project::project(&text)?.iter().try_for_each(|scenario| out.document(scenario))
    }
}

/// What a changed policy would do in a store.
fn what_if_page(store: &Value) -> String {
    let policy = store["policy"].as_object().into_iter().flatten();
    let settings: Vec<String> = policy.map(|(key, value)| format!("{key}={}", text(value))).collect();
    let entries = store["entries"].as_array().map_or(0, Vec::len) as u64;
    let mut page = format!(
        "Store {} with {}: {} of {} would be posted otherwise.\n",
        text(&store["store"]),
        settings.join(" "),
        count(entries, "record", "records"),
        text(&store["records"]),
    );
    let mut table =
        Table::new(&[("Account", Side::Left), ("Now", Side::Right), ("Then", Side::Right), ("", Side::Left)]);
    for (name, row) in store["balances"].as_object().into_iter().flatten() {
        let (account, currency) = name.rsplit_once(' ').unwrap_or((name, ""));
        let shown = |field: &str| super::amount::show(&row[field], currency);
        table.row([account, &shown("now_minor"), &shown("then_minor"), currency]);
    }
    if !table.is_empty() {
        page.push_str(&format!("\n{}", table.set()));
    }
    for (word, list) in [("would open", "opened"), ("would end", "ended"), ("would change", "changed")] {
        for case in store["cases"][list].as_array().into_iter().flatten() {
            let amount = super::amount::show_with_currency(&case["amount_minor"], &text(&case["currency"]));
            let line = format!("{word}: {} {} {amount}", text(&case["type"]), text(&case["about"]));
            page.push_str(&format!("{}\n", line.trim_end()));
        }
    }
    page
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        let Self { dir, tills, transactions, serve } = self;
        crate::demo::run(&crate::demo::Options { dir, tills, transactions, serve })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_an_express_yes_is_exit_0() {
        let dir = Path::new("d");
        assert!(judged(&json!({"ok": true, "problems": []}), dir).is_ok());
        assert_eq!(judged(&json!({}), dir).unwrap_err().code, 4);
        let failure = judged(&json!({"ok": false, "problems": ["segment 1: torn", "x"]}), dir).unwrap_err();
        assert_eq!(failure.code, 4);
        assert!(failure.message.starts_with("verify: d has 2 problems: segment 1: torn;"), "{failure}");
    }

    #[test]
    fn the_report_lists_what_was_checked_and_what_is_wrong() {
        let page = verify_page(
            &json!({"ok": false, "checked": {"journal_entries": 12, "records": 3}, "problems": ["torn"]}),
        );
        assert_eq!(
            page,
            "Checked\njournal entries  12\nrecords           3\n\nProblems, the first is the one to look at:\n1  torn\n"
        );
        assert!(verify_page(&json!({"ok": true, "checked": {}})).contains("the books are right"));
    }

    #[test]
    fn the_story_needs_three_tills() {
        assert_eq!(at_least_three("3"), Ok(3));
        assert!(at_least_three("2").is_err());
        assert!(at_least_three("many").is_err());
    }
}
