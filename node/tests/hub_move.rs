//! A hub's log goes into a database and back: real trade on both sides of each move, the same books throughout, a move killed at
//! every step and run again, and commands that open the directory of a company whose stores are spread over shards.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use common::postgres::{PASSWORD, Server};
use common::{
    Company, Node, begin, captured, is_on_postgres, json, path, sales, set_database, strs, till, till_with,
    tillsync, until, void,
};
use serde_json::Value;

/// A server; none where companies begin in a database, whose way in is not told here.
fn server() -> Option<Server> {
    if is_on_postgres() {
        eprintln!("skipped: the companies of this run begin in a database");
        return None;
    }
    Server::start()
}

/// What must be the same before and after a move: view hash of each store, balances, cases, exports, people.
#[derive(Debug, PartialEq)]
struct State {
    books: BTreeMap<String, String>,
    balances: BTreeMap<String, i64>,
    cases: Value,
    exports: Value,
    people: Value,
}

fn state(company: &Company) -> State {
    let stores = company.ask(&["stores"]);
    let word = |store: &Value, field: &str| store[field].as_str().unwrap().to_owned();
    let books = stores.as_array().unwrap().iter().map(|it| (word(it, "store"), word(it, "view_hash")));
    State {
        books: books.collect(),
        balances: company.balances(),
        cases: company.ask(&["cases"]),
        exports: company.ask(&["export", "--list"]),
        people: company.ask(&["hub", "people", "list"]),
    }
}

fn verified(company: &Company) -> Value {
    json(&[&["verify", "--json", "--dir", path(&company.dir)][..], &strs(&company.key)].concat())
}

fn move_command<'a>(company: &'a Company, more: &[&'a str]) -> Vec<&'a str> {
    [&["hub", "move", "--dir", path(&company.dir), "--json"][..], more, &strs(&company.key)].concat()
}

/// Moves, which must succeed.
fn moved(company: &Company, more: &[&str]) -> Value {
    json(&move_command(company, more))
}

fn refused(arguments: &[&str], words: &str) {
    let output = tillsync(arguments, "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && said.contains(words), "{arguments:?}: {said}");
}

/// Every record of a till is at the hub, as the till says.
fn all_at_hub(tills: &[(&str, &Node)]) {
    for (name, node) in tills {
        until(&format!("everything of {name} at the hub"), || {
            let status = node.status();
            status["online"] == true && status["at_hub_through"]["seq"] == status["head_seq"]
        });
    }
}

const INTO: [&str; 4] = ["--to", "database", "--shards", "4"];
const OUT: [&str; 2] = ["--to", "files"];

#[test]
fn a_company_goes_into_a_database_and_back_while_its_tills_sell() {
    let Some(server) = server() else { return };
    let mut company = Company::new();
    let hub = company.hub();
    let names = ["north", "south", "east"];
    let dirs: Vec<PathBuf> =
        names.iter().enumerate().map(|(n, store)| company.join(store, &format!("till-{n}"))).collect();
    let twin = company.join("north", "till-9");
    let nodes: Vec<Node> = dirs.iter().map(|dir| till(dir)).collect();
    let twin = till(&twin);
    for (n, node) in nodes.iter().enumerate() {
        captured(node, &sales(&format!("R{n}"), 0, 20));
    }
    let tills: Vec<(&str, &Node)> = names.iter().copied().zip(&nodes).collect();
    all_at_hub(&tills);
    until("the other till knows the sale", || {
        tillsync(&["custody", "R0-3", "--api", &twin.http], "").status.success()
    });
    company.ask(&["hub", "people", "add", "--name", "anna", "--role", "reviewer"]);
    hub.stop();
    // Both tills of a store void one sale in the dark: a case.
    captured(&nodes[0], &[void("V-1", "R0-3", 103)]);
    captured(&twin, &[void("V-2", "R0-3", 103)]);
    let hub = company.hub();
    let to = company.folder().join("exported");
    all_at_hub(&[("north", &nodes[0]), ("twin", &twin)]);
    until("the case", || company.ask(&["cases"]).to_string().contains("REVERSAL_CONFLICT"));
    company.ask(&["export", "--format", "csv", "--out", path(&to)]);
    let before = state(&company);
    refused(
        &move_command(&company, &["--to", &server.url("postgres"), "--shards", "4"]),
        "in use by another process",
    );
    hub.stop();
    let (checked, files) = (verified(&company), fs::read_dir(company.dir.join("log")).unwrap().count());

    // In, while tills sell.
    captured(&nodes[1], &sales("R1", 20, 25));
    let done = moved(&company, &["--to", &server.url("postgres"), "--shards", "4"]);
    assert_eq!(
        (&done["stores"], &done["entries"]),
        (&checked["stores"], &checked["checked"]["entries"]),
        "{done}"
    );
    let kept = Path::new(done["kept"].as_str().unwrap());
    assert_eq!(fs::read_dir(kept.join("log")).unwrap().count(), files, "the old log is kept");
    assert!(!company.dir.join("log").exists() && !company.dir.join("move.json").exists());
    refused(&["verify", "--dir", path(&company.dir)], "TILLSYNC_DATABASE");
    set_database(&company.dir, Some(server.url("postgres")));
    let there = verified(&company);
    assert_eq!(
        (&there["stores"], &there["checked"]["shards"]),
        (&checked["stores"], &Value::from(4)),
        "{there}"
    );
    for what in ["entries", "batches", "records", "journal_entries", "export_batches"] {
        assert_eq!(there["checked"][what], checked["checked"][what], "{what}");
    }
    let hub = company.hub();
    all_at_hub(&tills);
    let five: i64 = (20..25).map(|n| 100 + n).sum();
    let drawer = "Assets:Cash:Drawer:till-1 GBP";
    let after = state(&company);
    assert_eq!(after.balances[drawer], before.balances[drawer] + five, "once, and nothing else");
    let same = |one: &State, other: &State| {
        assert_eq!((&one.cases, &one.exports, &one.people), (&other.cases, &other.exports, &other.people));
        for store in ["north", "east"] {
            assert_eq!(one.books[store], other.books[store], "{store}");
        }
    };
    same(&after, &before);
    for (n, node) in nodes.iter().enumerate() {
        captured(node, &sales(&format!("R{n}"), 30, 40));
    }
    all_at_hub(&tills);
    let custody = ["custody", "R0-35", "--api", &nodes[0].http];
    until("a new sale is posted", || tillsync(&custody, "").status.success());
    let sold = state(&company);
    refused(&move_command(&company, &OUT), "in use by another process");
    hub.stop();

    // What opens the directory sees every log, or says that it needs the hub.
    let stopped = verified(&company);
    assert_eq!(stopped["checked"]["stores"], 3);
    let (backup, restored) = (company.folder().join("backup"), company.folder().join("restored"));
    let made = json(&["backup", "--dir", path(&company.dir), "--to", path(&backup), "--json"]);
    assert_eq!(made["checked"]["records"], stopped["checked"]["records"], "{made}");
    json(&["restore", "--from", path(&backup), "--dir", path(&restored), "--json"]);
    let brought_back = json(&["verify", "--dir", path(&restored), "--json"]);
    assert_eq!(brought_back["stores"], stopped["stores"]);
    let enroll = ["hub", "enroll", "--dir", path(&company.dir), "--store", "north", "--terminal", "x"];
    refused(&enroll, "start the hub");
    let examined = tillsync(&["doctor", "--dir", path(&company.dir)], "");
    let said = String::from_utf8_lossy(&examined.stdout).into_owned();
    assert!(said.contains("the company's log and its 4 shards"), "{said}");
    let what_if = tillsync(
        &["project", "--from-dir", path(&company.dir), "--policy", "refund_limit_minor=1", "--json"],
        "",
    );
    assert_eq!(String::from_utf8_lossy(&what_if.stdout).lines().count(), 3, "{what_if:?}");
    refused(&["db", "accept-loss", "--dir", path(&company.dir)], "has everything");

    // And back.
    let done = moved(&company, &OUT);
    assert_eq!(done["stores"], stopped["stores"], "{done}");
    set_database(&company.dir, None);
    let back = verified(&company);
    assert_eq!(back["stores"], stopped["stores"]);
    assert!(!company.dir.join("database.json").exists() && !company.dir.join("logs").exists());
    let tables =
        server.sql("SELECT (SELECT count(*) FROM tillsync.posting) + (SELECT count(*) FROM tillsync.device)");
    assert_eq!(tables, "0", "the books are not there twice when it comes back");
    let hub = company.hub();
    all_at_hub(&tills);
    assert_eq!(state(&company), sold, "nothing refetched, nothing twice");
    let audit = company.ask(&["audit", "--last", "20000"]);
    let events: Vec<(u64, i64)> = audit.as_array().unwrap().iter().map(numbered).collect();
    assert!(
        events.windows(2).all(|it| it[0].0 < it[1].0 && it[0].1 <= it[1].1),
        "in their order: {events:?}"
    );
    captured(&nodes[2], &sales("R2", 50, 55));
    all_at_hub(&tills);
    hub.stop();
    drop((nodes, twin));
    verified(&company);

    // The restored hub is one that works, and an older copy of the company: it does not go in beside it.
    company.dir = restored;
    let hub = company.hub_with(&["--write-at-once"], false);
    assert_eq!(state(&company), sold);
    hub.stop();
}

fn numbered(event: &Value) -> (u64, i64) {
    let at = event["at"].as_str().map(|at| at.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    (event["number"].as_u64().unwrap(), at.or(event["at_ms"].as_i64()).unwrap())
}

/// Runs a move and kills it behind its `line`th word about what it does; `false`: it had come to its end.
fn killed(company: &Company, more: &[&str], line: usize) -> bool {
    let mut child = begin(&move_command(company, more));
    let said = BufReader::new(child.stderr.take().unwrap()).lines().take(line).count();
    if said == line {
        child.kill().unwrap();
    }
    !child.wait().unwrap().success()
}

/// Runs a move while the table of entries is locked in the database, and kills it where it waits for it.
fn killed_where_it_waits(
    server: &Server,
    company: &Company,
    (mode, more): (&str, &[&str]),
    until_there: impl Fn() -> bool,
) {
    std::thread::scope(|scope| {
        let lock = format!("BEGIN; LOCK TABLE tillsync.entry IN {mode} MODE; SELECT pg_sleep(100)");
        let locked = scope.spawn(move || server.sql_as("postgres", PASSWORD, &lock));
        let sleeps = "FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%' AND state = 'active'";
        until("the table is locked", || {
            let held = "relation = 'tillsync.entry'::regclass AND mode LIKE '%ExclusiveLock' AND granted";
            server.sql(&format!("SELECT count(*) FROM pg_locks WHERE {held}")) != "0"
        });
        let mut child = begin(&move_command(company, more));
        until("the move waits", until_there);
        child.kill().unwrap();
        child.wait().unwrap();
        server.sql(&format!("SELECT count(pg_terminate_backend(pid)) {sleeps}"));
        assert!(locked.join().unwrap().is_err());
    });
}

/// A small company, its till and what `verify` says of it.
fn small(company: &mut Company) -> (PathBuf, Node) {
    let hub = company.hub();
    let key = company.key.clone();
    let dir = company.join("store-1", "till-01");
    let node = till_with(&dir, &strs(&key));
    captured(&node, &sales("A", 0, 10));
    all_at_hub(&[("till-01", &node)]);
    hub.stop();
    (dir, node)
}

/// Killed behind each of its steps a move is finished by the same command, whether the hub ran in between or not; encrypted, so that
/// every entry is sealed anew.
#[test]
fn a_move_that_is_killed_at_any_step_is_finished_by_the_same_command() {
    if let Some(server) = server() {
        killed_at_every_step(&server, Company::encrypted("Shops"), &INTO);
    }
}

/// The same where everything stays in one log.
#[test]
fn so_is_one_of_a_company_without_shards() {
    if let Some(server) = server() {
        killed_at_every_step(&server, Company::new(), &INTO[..2]);
    }
}

fn killed_at_every_step(server: &Server, mut company: Company, into: &[&str]) {
    let (_, node) = small(&mut company);
    let url = server.url("postgres");
    let mut sold = 10;
    let mut kills = 0;
    for line in 1.. {
        let before = kills;
        for (more, behind) in [(into, Some(url.clone())), (&OUT[..], None)] {
            set_database(&company.dir, Some(url.clone()));
            if killed(&company, more, line) {
                kills += 1;
                // The hub runs where the directory says, if it runs.
                let inside = company.dir.join("database.json").exists();
                let ran = runs(&mut company, inside.then(|| url.clone()), &node, &mut sold);
                assert!(ran || (more == &OUT[..] && line > 1), "line {line} of {more:?}");
                set_database(&company.dir, Some(url.clone()));
                let ended = tillsync(&move_command(&company, more), "");
                let said = String::from_utf8_lossy(&ended.stderr).into_owned();
                // Killed behind its last word it may have been done.
                let done = said.contains("in files already") || said.contains("in a database already");
                assert!(ended.status.success() || done, "line {line} of {more:?}: {said}");
            }
            set_database(&company.dir, behind);
            let report = verified(&company);
            assert_eq!(report["checked"]["stores"], 1, "{report}");
            assert!(!company.dir.join("move.json").exists() && !company.dir.join("move").exists());
        }
        if kills == before {
            break;
        }
    }
    assert!(kills >= 8, "{kills} moves were killed");
    let hub = company.hub();
    all_at_hub(&[("till-01", &node)]);
    assert_eq!(company.records(), sold as u64, "nothing lost, nothing twice");
    let drawer = company.balances()["Assets:Cash:Drawer:till-01 GBP"];
    assert_eq!(drawer, (0..sold).map(|n| 100 + i64::try_from(n).unwrap()).sum::<i64>());
    assert!(!company.ask(&["cases"]).to_string().contains("CLONED"), "no fork");
    hub.stop();
}

/// A move that was cut off before its switch can be given up: nothing of it stays, and the hub goes on where it was.
#[test]
fn a_move_that_was_cut_off_can_be_given_up() {
    let Some(server) = server() else { return };
    let mut company = Company::new();
    let (_, node) = small(&mut company);
    let give_up = ["--give-up"];
    set_database(&company.dir, Some(server.url("postgres")));
    refused(&move_command(&company, &give_up), "was begun");
    json(&["db", "migrate", "--json", "--database", &server.url("postgres")]);
    let logs = || server.sql("SELECT count(*) FROM tillsync.log");
    killed_where_it_waits(&server, &company, ("EXCLUSIVE", &INTO), || logs() == "1");
    assert!(!company.dir.join("database.json").exists());
    let examined = tillsync(&["doctor", "--dir", path(&company.dir)], "");
    assert!(String::from_utf8_lossy(&examined.stdout).contains("a move of the log"), "{examined:?}");
    refused(&move_command(&company, &["--to", "database", "--shards", "2"]), "--shards 4");
    json(&move_command(&company, &give_up));
    assert_eq!(logs(), "0");
    assert!(!company.dir.join("move.json").exists() && !company.dir.join("logs").exists());
    moved(&company, &INTO);
    let move_json = company.dir.join("move.json");
    killed_where_it_waits(&server, &company, ("ACCESS EXCLUSIVE", &OUT), || move_json.exists());
    json(&move_command(&company, &give_up));
    let hub = company.hub();
    captured(&node, &sales("A", 10, 12));
    all_at_hub(&[("till-01", &node)]);
    assert_eq!(company.records(), 12);
    hub.stop();
    moved(&company, &OUT);
    refused(&move_command(&company, &give_up), "was begun");
}

/// A spread company's database comes back older than it was: `verify` and the hub say so; the loss accepted, the company takes
/// back from its tills in files what they hold, and goes in again.
#[test]
fn a_spread_company_whose_database_lost_something_takes_it_back_in_files() {
    let Some(server) = server() else { return };
    let mut company = Company::new();
    let (_, node) = small(&mut company);
    let url = server.url("postgres");
    set_database(&company.dir, Some(url.clone()));
    moved(&company, &INTO);
    server.sql("CREATE TABLE old_log AS SELECT * FROM tillsync.log; CREATE TABLE old_entry AS SELECT * FROM tillsync.entry");
    let hub = company.hub();
    captured(&node, &sales("A", 10, 20));
    all_at_hub(&[("till-01", &node)]);
    hub.stop();
    // As a restore of an older copy would have it.
    server.sql(
        "DELETE FROM tillsync.entry; INSERT INTO tillsync.entry SELECT * FROM old_entry;
        DELETE FROM tillsync.log; INSERT INTO tillsync.log SELECT * FROM old_log",
    );
    let output = tillsync(&["verify", "--json", "--dir", path(&company.dir)], "");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["problems"].to_string().contains("shard"), "{report}");
    let run = ["hub", "run", "--dir", path(&company.dir), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
    refused(&run, "is an older copy");
    refused(&move_command(&company, &OUT), "is an older copy");
    let done = json(&["db", "accept-loss", "--dir", path(&company.dir), "--json"]);
    assert!(done["missing"].as_u64() > Some(0), "{done}");
    refused(&run, "hub move --to files");
    moved(&company, &OUT);
    refused(&move_command(&company, &INTO), "has not met its tills");
    set_database(&company.dir, None);
    let hub = company.hub();
    until("it has taken back what the till holds", || company.records() == 20);
    captured(&node, &sales("A", 20, 25));
    all_at_hub(&[("till-01", &node)]);
    until("the waiting is over", || !company.dir.join("restored.json").exists());
    hub.stop();
    set_database(&company.dir, Some(url));
    moved(&company, &INTO);
    let hub = company.hub();
    all_at_hub(&[("till-01", &node)]);
    assert_eq!(company.records(), 25);
    assert!(!company.ask(&["cases"]).to_string().contains("CLONED"), "no fork");
    hub.stop();
}

/// Starts the hub where its log is, lets the till sell to it and stops it; `false`: it does not start, and says that a move took
/// its log.
fn runs(company: &mut Company, at: Option<String>, node: &Node, sold: &mut usize) -> bool {
    set_database(&company.dir, at);
    let listen = company.quic.clone().unwrap();
    let run = ["hub", "run", "--dir", path(&company.dir), "--listen", &listen, "--http", "127.0.0.1:0"];
    let mut child = begin(&[&run[..], &strs(&company.key)].concat());
    let mut ready = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    if !ready.starts_with("ready") {
        let said = std::io::read_to_string(child.stderr.take().unwrap()).unwrap();
        assert!(said.contains("was moved into files"), "{said}");
        child.wait().unwrap();
        return false;
    }
    captured(node, &sales("A", *sold, *sold + 3));
    *sold += 3;
    all_at_hub(&[("till-01", node)]);
    assert!(
        std::process::Command::new("kill")
            .args(["-TERM", &child.id().to_string()])
            .status()
            .unwrap()
            .success()
    );
    drop(child.stderr.take());
    child.wait().unwrap();
    true
}

/// A hub of the company that runs elsewhere, one that was carried elsewhere and starts after the move, a second copy of the
/// directory, and a place where the log is already: each is refused with the way out.
#[test]
fn what_would_make_two_logs_of_one_is_refused() {
    let Some(server) = server() else { return };
    let mut company = Company::new();
    let (_, node) = small(&mut company);
    let url = server.url("postgres");
    let copy = company.folder().join("copy");
    let backup = company.folder().join("backup");
    json(&["backup", "--dir", path(&company.dir), "--to", path(&backup), "--json"]);
    json(&["restore", "--from", path(&backup), "--dir", path(&copy), "--json"]);
    refused(&move_command(&company, &["--to", "files"]), "no database was named");
    refused(&move_command(&company, &["--to", "elsewhere"]), "--to is files, database");
    set_database(&company.dir, Some(url.clone()));
    refused(&move_command(&company, &OUT), "in files already");
    moved(&company, &["--to", "database", "--shards", "2"]);
    refused(&move_command(&company, &INTO), "is in a database already");

    set_database(&copy, Some(url.clone()));
    fs::remove_file(copy.join("restored.json")).unwrap();
    refused(&["hub", "move", "--dir", path(&copy), "--to", "database"], "has this company already");

    let second = company.folder().join("second");
    json(&["hub", "add", "--dir", path(&company.dir), "--to", path(&second), "--json"]);
    set_database(&second, Some(url.clone()));
    let run = ["hub", "run", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--dir", path(&second)];
    let mut other = begin(&run);
    let mut ready = String::new();
    BufReader::new(other.stdout.take().unwrap()).read_line(&mut ready).unwrap();
    assert!(ready.starts_with("ready"), "{ready}");
    // It has what nobody else has, and verifying looks on.
    until("it has the company's log", || {
        server.sql("SELECT count(*) FROM tillsync.log WHERE lease_until > now()") == "3"
    });
    assert_eq!(verified(&company)["checked"]["records"], verified(&company)["checked"]["records"]);
    refused(&move_command(&company, &OUT), path(&second));
    // Killed, its leases end; what it was about to write is fenced off.
    other.kill().unwrap();
    other.wait().unwrap();
    let done = moved(&company, &OUT);
    assert_eq!(done["shards"], 2, "{done}");
    refused(&run, "was moved into files");
    refused(&["verify", "--dir", path(&second)], "was moved into files");
    set_database(&company.dir, None);
    let hub = company.hub();
    captured(&node, &sales("A", 10, 12));
    all_at_hub(&[("till-01", &node)]);
    assert_eq!(company.records(), 12);
    hub.stop();
}
