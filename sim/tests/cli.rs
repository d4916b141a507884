//! The commands as scripts use them: exit codes, JSON, what is said where.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn tillsync_sim(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tillsync-sim")).args(arguments).current_dir(folder).output().unwrap()
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", out(output)))
}

const SMALL: [&str; 6] = ["--tills", "2", "--days", "1", "--transactions", "6"];

#[test]
fn seeds_hold_and_the_document_does_not_depend_on_how_many_run_at_a_time() {
    let folder = TempDir::new().unwrap();
    let document = |jobs: &str| {
        let mut arguments = vec!["run", "--seeds", "1..6", "--json", "--jobs", jobs];
        arguments.extend(SMALL);
        let output = tillsync_sim(folder.path(), &arguments);
        assert_eq!((code(&output), err(&output)), (0, String::new()));
        let mut document = json(&output);
        for volatile in ["elapsed_ms", "seeds_per_minute"] {
            assert!(document[volatile].is_u64());
            document[volatile] = Value::Null;
        }
        document
    };
    let one = document("1");
    assert_eq!(one, document("3"));
    assert_eq!((&one["ok"], &one["held"], &one["failed"]), (&true.into(), &6.into(), &0.into()));
    let seeds: Vec<u64> =
        one["runs"].as_array().unwrap().iter().map(|run| run["seed"].as_u64().unwrap()).collect();
    assert_eq!(seeds, [1, 2, 3, 4, 5, 6]);
    assert!(one["transactions"].as_u64().unwrap() > 50 && one["simulated_hours"].as_u64().unwrap() >= 6 * 24);
    assert!(!one["faults"].as_object().unwrap().is_empty());
    assert!(one["checked"].as_array().unwrap().len() > 20);
}

#[test]
fn words_say_what_ran_and_what_was_checked() {
    let folder = TempDir::new().unwrap();
    let mut arguments = vec!["run", "--seed", "3", "--faults", "none"];
    arguments.extend(SMALL);
    let output = tillsync_sim(folder.path(), &arguments);
    let text = out(&output);
    assert_eq!(code(&output), 0, "{text}");
    for words in [
        "faults none, seed 3: 1 held, 0 failed",
        "seeds/min",
        "h simulated",
        " transactions, ",
        "planted conflicts",
        "faults injected: none",
        "case types reached: ",
        "checked in every run: the trial balance is zero; ",
    ] {
        assert!(text.contains(words), "{words} in {text}");
    }
}

#[test]
fn what_does_not_hold_is_named_shrunk_written_and_exits_4() {
    let folder = TempDir::new().unwrap();
    // Under this policy honest refunds are held, which is not what the simulator expects of honest people.
    let text = "name = \"mean\"\ntills = 2\ndays = 2\npolicy = [\"refund_limit_minor=1\", \"sync_interval=1s\"]\n\
                [trade]\ntransactions = 8\nmischief_percent = 0\n";
    std::fs::write(folder.path().join("mean.toml"), text).unwrap();
    let output = tillsync_sim(
        folder.path(),
        &["run", "--seeds", "1..2", "--faults", "mean.toml", "--shrink-tries", "150"],
    );
    let text = out(&output);
    assert_eq!(code(&output), 4, "{text}{}", err(&output));
    assert!(text.contains("it does not hold that nothing honest is held"), "{text}");
    assert!(text.contains("tillsync-sim replay ./failing-seed-2.toml"), "{text}");
    let output = tillsync_sim(folder.path(), &["replay", "failing-seed-2.toml", "--json"]);
    assert_eq!(code(&output), 4);
    let document = json(&output);
    assert_eq!((&document["ok"], &document["failed"]), (&false.into(), &1.into()));
    assert_eq!(document["failures"][0]["invariant"], "nothing honest is held");
    let shrunk =
        sim::file::read("", &std::fs::read_to_string(folder.path().join("failing-seed-2.toml")).unwrap());
    let shrunk = shrunk.unwrap();
    assert_eq!((shrunk.happens.len(), shrunk.policy.len()), (2, 1), "a sale and a refund: {shrunk:#?}");
}

#[test]
fn bad_files_exit_1_and_name_line_and_key_and_bad_usage_exits_2() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("bad.toml"), "tills = 1\ndays = 1\ncolour = 1\n").unwrap();
    let text = "tills = 5\ndays = 2\n[[happens]]\nat = \"1h\"\ndo = \"restart\"\nnode = \"till-05\"\n";
    std::fs::write(folder.path().join("five.toml"), text).unwrap();
    let table: &[(&[&str], i32, &str)] = &[
        (&["replay", "bad.toml"], 1, "bad.toml, line 3, key colour: unknown field"),
        (&["replay", "nothing.toml"], 1, "give a file, or one of black-friday"),
        (&["run", "--faults", "bad.toml"], 1, "line 3"),
        (&["run", "--faults", "five.toml", "--tills", "2"], 2, "till-05 is no node of this scenario"),
        (&["scenarios", "nothing"], 1, "no scenario of that name"),
        (&["run", "--seeds", "9..1"], 2, "smaller seed first"),
        (&["run", "--tills", "0"], 2, "--tills"),
        (&["run", "--seed", "1", "--seeds", "1..2"], 2, "cannot be used with"),
        (&["sweep", "--sweep", "sync_interval=1s,soon"], 2, "does not fit"),
        (&["sweep", "--sweep", "colour"], 2, "write key=value"),
        (&["fly"], 2, "unrecognized"),
    ];
    for (arguments, wanted, words) in table {
        let output = tillsync_sim(folder.path(), arguments);
        assert_eq!(code(&output), *wanted, "{arguments:?}: {}", err(&output));
        assert!(err(&output).contains(words) && out(&output).is_empty(), "{arguments:?}: {}", err(&output));
    }
}

#[test]
fn a_file_of_faults_strikes_the_trade_of_each_seed() {
    let folder = TempDir::new().unwrap();
    let text = "tills = 2\ndays = 1\n[[happens]]\nat = \"1h\"\ndo = \"restart\"\nnode = \"till-02\"\n";
    std::fs::write(folder.path().join("faults.toml"), text).unwrap();
    let arguments = [
        "run",
        "--seeds",
        "1..2",
        "--faults",
        "faults.toml",
        "--transactions",
        "5",
        "--tills",
        "3",
        "--json",
    ];
    let document = json(&tillsync_sim(folder.path(), &arguments));
    assert_eq!(document["faults"], serde_json::json!({"restart": 2}));
    let runs = document["runs"].as_array().unwrap();
    assert_ne!(runs[0]["trace"], runs[1]["trace"]);
    assert!(document["transactions"].as_u64().unwrap() > 10);
}

#[test]
fn shipped_scenarios_are_listed_printed_and_replayed_by_name() {
    let folder = TempDir::new().unwrap();
    let listed = json(&tillsync_sim(folder.path(), &["scenarios", "--json"]));
    assert!(listed.as_array().unwrap().len() >= 6);
    let words = out(&tillsync_sim(folder.path(), &["scenarios"]));
    let printed = out(&tillsync_sim(folder.path(), &["scenarios", "slow-2g"]));
    assert!(words.contains("black-friday") && printed.starts_with("# A market stall"));
    let document = json(&tillsync_sim(folder.path(), &["replay", "slow-2g", "--json"]));
    assert_eq!((&document["ok"], &document["name"]), (&true.into(), &"Slow 2G line".into()));
}

#[test]
fn a_sweep_compares_values_of_a_setting() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("small.toml"), "tills = 2\ndays = 1\n[trade]\ntransactions = 10\n")
        .unwrap();
    let arguments =
        ["sweep", "--scenario", "small.toml", "--sweep", "sync_interval=1s,5m", "--seeds", "1..2"];
    let document = json(&tillsync_sim(folder.path(), &[arguments.as_slice(), &["--json"]].concat()));
    let rows = document["rows"].as_array().unwrap();
    let figure = |row: usize, path: &str| rows[row].pointer(path).and_then(Value::as_u64).unwrap();
    assert_eq!(rows.len(), 2);
    assert!(figure(0, "/age/p95_ms") < figure(1, "/age/p95_ms"), "{document}");
    assert!(figure(0, "/batches") > figure(1, "/batches"), "{document}");
    assert_eq!(figure(0, "/runs"), 2);
    assert!(figure(0, "/age_online/count") <= figure(0, "/age/count") && figure(0, "/age/count") > 20);
    let table = out(&tillsync_sim(folder.path(), &arguments));
    assert_eq!(table.lines().count(), 4, "{table}");
}

#[test]
fn every_command_explains_itself() {
    let folder = TempDir::new().unwrap();
    for command in ["run", "replay", "scenarios", "sweep"] {
        let output = tillsync_sim(folder.path(), &[command, "--help"]);
        assert!(code(&output) == 0 && out(&output).lines().count() > 8, "{}", out(&output));
    }
}
