//! Scenario files: what is shipped holds, what failed once holds still, what is written reads the same, and a file that
//! makes no sense is refused with the line and the key.

use std::fs;
use std::path::Path;

use sim::file::{duration, read, write};
use sim::run::run;
use sim::scenario::{Scenario, What};
use sim::shipped;

#[test]
fn every_shipped_scenario_holds_and_does_what_it_is_about() {
    for shipped in shipped::ALL {
        let scenario = shipped.scenario().unwrap_or_else(|bad| panic!("{bad}"));
        assert!(shipped.text.starts_with('#') && !scenario.about.is_empty(), "{} teaches", shipped.name);
        let outcome = run(&scenario).unwrap_or_else(|broken| panic!("{}: {broken:?}", shipped.name));
        assert!(outcome.transactions > 50, "{}: {outcome:?}", shipped.name);
        let wanted: &[&str] = match shipped.name {
            "black-friday" => &["partition", "loss", "crash"],
            "three-days-offline" => &["partition", "gossip"],
            "hub-restored" => &["hub-backup", "partition"],
            "cloned-handheld" => &["clone", "clock-jump"],
            "reviewers-and-a-thief" => &["revoke", "lie", "decide"],
            "slow-2g" => &["loss", "partition"],
            "bad-disks" => &["sync-fails", "disk-full", "rot", "crash"],
            "two-days-of-abuse" => {
                &["lie", "clone", "crash", "disk-full", "sync-fails", "rot", "loss", "revoke"]
            }
            "three-hubs" => &["hub-killed", "hub-paused", "partition", "log-taken-over", "log-handed-over"],
            "database-at-noon" => {
                &["database-loses", "database-fails-over", "commit-found", "commit-written-again"]
            }
            other => panic!("say here what {other} must do"),
        };
        for fault in wanted {
            assert!(outcome.faults.contains_key(*fault), "{}: {fault} in {:?}", shipped.name, outcome.faults);
        }
    }
}

#[test]
fn what_failed_once_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/regressions");
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let scenario = read(&name, &fs::read_to_string(&file).unwrap()).unwrap_or_else(|bad| panic!("{bad}"));
        let outcome = run(&scenario).unwrap_or_else(|broken| panic!("{name}: {broken:?}"));
        assert!(outcome.transactions > 0, "{name} does something");
    }
}

#[test]
fn what_is_written_reads_as_the_same_scenario() {
    for seed in 0..40 {
        let scenario = Scenario::swarm(seed, 4, 3, 6, true);
        let explicit = Scenario { policy: vec!["sync_interval=5s".to_owned()], ..scenario.explicit() };
        let hubs = Scenario { hubs: 2 + seed % 3, ..scenario.clone() }.explicit();
        for scenario in [scenario, explicit, hubs] {
            let text = write(&scenario);
            assert_eq!(read("written", &text).unwrap_or_else(|bad| panic!("{bad}\n{text}")), scenario);
        }
    }
}

#[test]
fn times_are_written_as_people_say_them() {
    let table = [
        ("1d 2h 30m", Ok(95_400_000)),
        ("90s", Ok(90_000)),
        ("250ms", Ok(250)),
        ("0s", Ok(0)),
        ("2h 1ms", Ok(7_200_001)),
        ("", Err(())),
        ("5", Err(())),
        ("-5s", Err(())),
        ("1.5h", Err(())),
        ("5 s", Err(())),
        ("99999999999d", Err(())),
    ];
    for (text, wanted) in table {
        assert_eq!(duration(text).map_err(drop), wanted, "{text:?}");
    }
}

#[test]
fn a_cut_stands_for_blocks_and_openings() {
    let text = "tills = 1\ndays = 1\n[[happens]]\nat = \"1h\"\ndo = \"cut\"\nfrom = \"till-01\"\nto = \"hub\"\nlasts = \"10s\"\n\
                times = 3\nevery = \"1m\"\n";
    let scenario = read("cut", text).unwrap();
    let rows: Vec<(i64, &str)> = scenario
        .happens
        .iter()
        .map(|timed| match &timed.what {
            What::Block { from, .. } => (timed.at_ms, from.as_str()),
            What::Open { from, .. } => (-timed.at_ms, from.as_str()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(rows.len(), 12);
    assert_eq!(
        rows[..4],
        [(3_600_000, "till-01"), (-3_610_000, "till-01"), (3_600_000, "hub"), (-3_610_000, "hub")]
    );
    assert_eq!(rows[11], (-3_730_000, "hub"));
}

/// A good head; a case's own lines begin at line 4.
const HEAD: &str = "name = \"bad\"\ntills = 5\ndays = 2\n";

#[test]
fn a_file_that_makes_no_sense_is_refused_with_line_and_key() {
    // Lines after the head, line of the error, key, words of the reason.
    let table: &[(&str, usize, &str, &str)] = &[
        ("tillz = 3", 4, "tillz", "unknown field `tillz`"),
        ("speed = { link_ms = [9, 2] }", 4, "link_ms", "[9, 2] is no range"),
        ("swarm = \"yes\"", 4, "swarm", "expected a boolean"),
        ("policy = [\"sync_intervall=5s\"]", 4, "policy", "sync_intervall"),
        ("policy = [\"sync_interval=9h\"]", 4, "policy", "does not fit"),
        ("[trade]\ntransactions = 5\nmischief = 4", 6, "mischief", "unknown field"),
        ("[trade]\nmischief_percent = 400\ntransactions = 5", 5, "mischief_percent", "no percentage"),
        ("[trade]\nmischief_percent = 4", 4, "transactions", "missing field"),
        (
            "[[happens]]\nat = \"1h\"\ndo = \"crash\"\nnode = \"till-09\"\ndown_ms = 5",
            7,
            "node",
            "till-09 is no node of this scenario; there are hub, till-01 … till-05",
        ),
        ("[[happens]]\nat = \"1h\"\ndo = \"crashes\"", 6, "do", "unknown variant `crashes`"),
        (
            "[[happens]]\nat = \"1h\"\ndo = \"crash\"\nnode = \"hub\"\ndown_ms = \"5s\"",
            8,
            "down_ms",
            "expected i64",
        ),
        ("[[happens]]\nat = \"1h\"\ndo = \"crash\"\nnode = \"hub\"", 4, "down_ms", "missing field"),
        (
            "[[happens]]\nat = \"1h\"\ndo = \"restart\"\nnode = \"hub\"\nfor = 3",
            8,
            "for",
            "keys in table: for",
        ),
        ("[[happens]]\nat = \"soon\"\ndo = \"lock\"", 5, "at", "is no time"),
        ("[[happens]]\nat = \"3d\"\ndo = \"lock\"", 5, "at", "not within the 2 days"),
        ("[[happens]]\ndo = \"lock\"", 4, "at", "the time is missing"),
        ("[[happens]]\nat = \"1h\"\nat_ms = 5\ndo = \"lock\"", 5, "at", "give one of them"),
        ("[[happens]]\nat_ms = 5", 4, "do", "what happens is missing"),
        ("[[happens]]\nat_ms = 5\ndo = \"revoke\"\ntill = \"hub\"", 7, "till", "the hub does not do that"),
        (
            "[[happens]]\nat_ms = 5\ndo = \"void\"\ntill = \"till-01\"\nreceipt = \"V\"\nof = \"R\"",
            9,
            "of",
            "there is no sale R",
        ),
        (
            "[[happens]]\nat_ms = 5\ndo = \"close\"\ntill = \"till-01\"\nreceipt = \"Z1\"\n[trade]\ntransactions = 1",
            8,
            "receipt",
            "may be one of the trade's own numbers",
        ),
        ("[[happens]]\nat_ms = 5\ndo = \"policy\"\nsetting = \"colour=red\"", 7, "setting", "colour"),
        (
            "[[happens]]\nat_ms = 5\ndo = \"meddle\"\nhow = \"drop\"\nonce_in = 0",
            8,
            "once_in",
            "out of bounds",
        ),
        (
            "[[happens]]\nat_ms = 5\ndo = \"lie\"\ntill = \"till-01\"\nhow = \"fib\"",
            8,
            "how",
            "unknown variant `fib`",
        ),
        (
            "[[happens]]\nat_ms = 5\ndo = \"cut\"\nfrom = \"till-01\"\nto = \"hub\"",
            4,
            "lasts",
            "lasts is missing",
        ),
        (
            "[[happens]]\nat_ms = 5\ndo = \"cut\"\nfrom = \"till-01\"\nto = \"hub\"\nlasts = \"2s\"\nfor = 1",
            10,
            "for",
            "unknown field",
        ),
        (
            "[[happens]]\nat_ms = 5\ndo = \"clone-device\"\ntill = \"till-01\"\ncopy = \"twin\"",
            8,
            "copy",
            "is called till-01-copy",
        ),
        ("about = \"unfinished", 4, "about", ""),
    ];
    for (lines, line, key, words) in table {
        let bad = read("bad.toml", &format!("{HEAD}{lines}\n")).expect_err(lines);
        assert_eq!((bad.line, bad.key.as_str()), (*line, *key), "{lines}: {bad}");
        assert!(bad.reason.contains(words), "{lines}: {bad}");
        let shown = format!("cannot read the scenario bad.toml, line {line}, key {key}: ");
        assert!(bad.to_string().starts_with(&shown), "{bad}");
    }
    for (text, key) in
        [("tills = 0\ndays = 1", "tills"), ("tills = 1\ndays = 4000", "days"), ("days = 1", "tills")]
    {
        assert_eq!(read("bad.toml", text).unwrap_err().key, key);
    }
}
