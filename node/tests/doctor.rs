//! `tillsync doctor`: each thing that can go wrong is broken on purpose, and the words are read: what is wrong, and what
//! to do.

mod common;

use std::path::Path;
use std::time::{Duration, SystemTime};

use common::{Company, path, sale, till, tillsync, until};
use serde_json::Value;

/// What doctor says of a directory: its exit code and the document.
fn doctor(dir: &Path, more: &[&str]) -> (i32, Value) {
    let free = ["--http", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    let output = tillsync(&[&["doctor", "--json", "--dir", path(dir)], &free[..], more].concat(), "");
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|_| panic!("no JSON: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().unwrap(), document)
}

/// State, words and way out of a check (the worst, if it is there more than once).
fn of(document: &Value, check: &str) -> (String, String, String) {
    let worst = ["wrong", "note", "unknown", "well"];
    let all = document["checks"].as_array().unwrap().iter().filter(|it| it["check"] == check);
    let found = all.min_by_key(|it| worst.iter().position(|state| it["state"] == *state));
    let found = found.unwrap_or_else(|| panic!("no check {check} in {document}"));
    let word = |field: &str| found[field].as_str().unwrap_or_default().to_owned();
    (word("state"), word("found"), word("next"))
}

/// The check is wrong, its words hold these, and something is said about the way out.
#[track_caller]
fn assert_wrong(document: &Value, check: &str, words: &str) {
    let (state, found, next) = of(document, check);
    assert_eq!(state, "wrong", "{check}: {found}");
    assert!(found.contains(words), "{check}: {found:?} does not say {words:?}");
    assert!(next.len() > 10, "{check}: no way out in {next:?}");
    assert_eq!(document["well"], false);
}

fn refresh(dir: &Path, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let file = dir.join(name);
    let mut bytes = std::fs::read(&file).unwrap();
    change(&mut bytes);
    std::fs::write(&file, bytes).unwrap();
}

#[test]
fn a_healthy_company_is_well_running_and_stopped_and_without_the_hub_the_till_says_so() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("s1", "till-01");

    let (code, stopped) = doctor(&dir, &[]);
    assert_eq!((code, &stopped["well"]), (0, &true.into()), "{stopped}");
    assert_eq!(stopped["role"], "till");
    assert!(of(&stopped, "hub").1.contains("would let this till in"), "{stopped}");
    assert_eq!(of(&stopped, "contact").0, "note", "it has never run");

    let node = till(&dir);
    until("the till online", || node.status()["online"] == true);
    let (code, running) = doctor(&dir, &["--hub-http", &hub.http]);
    assert_eq!(code, 0, "{running}");
    for check in ["node", "hub", "hub http", "unsynced", "version", "alarm", "clock", "certificate", "port"] {
        assert_eq!(of(&running, check).0, "well", "{running}");
    }
    let (code, of_hub) = doctor(&company.dir, &[]);
    assert_eq!((code, of_hub["role"].as_str()), (0, Some("hub")), "{of_hub}");
    assert_eq!(of(&of_hub, "tills").1, "1 of 1 connected, which say that 0 records wait there");
    // Looking did not put anybody's line out, and nobody is taken for a clone.
    assert_eq!(node.status()["online"], true);
    assert_eq!(company.ask(&["audit"]).to_string().matches("cloned").count(), 0);
    assert_eq!(company.ask(&["audit"]).to_string().matches("replaced").count(), 0);

    drop(hub);
    until("the till offline", || node.status()["online"] == false);
    assert!(tillsync(&["capture", "-", "--api", &node.http], &sale("R-1", 700)).status.success());
    let (code, alone) = doctor(&dir, &[]);
    assert_eq!(code, 1);
    assert_wrong(&alone, "hub", "does not answer");
    let (state, found, _) = of(&alone, "unsynced");
    assert_eq!(state, "note");
    assert!(found.starts_with("1 record waits") && found.ends_with("700 GBP"), "{found}");

    drop(node);
    let (_, stopped) = doctor(&dir, &[]);
    let found = of(&stopped, "unsynced").1;
    assert!(found.starts_with("1 record waits") && found.ends_with("700 GBP"), "{found}");
    assert!(of(&stopped, "contact").1.contains("last met the hub"), "{stopped}");
    let text = tillsync(&["doctor", "--dir", path(&dir)], "");
    let shown = String::from_utf8(text.stdout).unwrap();
    assert!(shown.contains("WRONG") && shown.contains('→') && !shown.contains('\u{1b}'), "{shown}");
    assert!(String::from_utf8_lossy(&text.stderr).contains("doctor: "));
}

#[test]
fn what_is_broken_in_a_tills_directory_is_named_with_the_way_out() {
    let mut company = Company::new();
    let hub = company.hub();
    let made = |name: &str| company.join("s1", name);

    assert_wrong(&doctor(&company.folder().join("nowhere"), &[]).1, "directory", "is not there");
    assert_wrong(&doctor(company.folder(), &[]).1, "directory", "no node's directory");

    let dir = made("till-01");
    refresh(&dir, "identity/node.crt", |bytes| bytes[30] ^= 1);
    assert_wrong(&doctor(&dir, &[]).1, "files", "identity/node.crt is not what this node wrote");

    // The key of another till under this till's certificate.
    let (dir, other) = (made("till-02"), made("till-03"));
    std::fs::copy(other.join("identity/node.key"), dir.join("identity/node.key")).unwrap();
    let (_, swapped) = doctor(&dir, &[]);
    assert_wrong(&swapped, "certificate", "another key than this device's");
    assert_eq!(of(&swapped, "hub").0, "unknown");
    std::fs::remove_file(other.join("identity/node.key")).unwrap();
    assert_wrong(&doctor(&other, &[]).1, "certificate", "is missing");

    let dir = made("till-04");
    let newer = br#"{"format": 99, "something": "else"}"#;
    std::fs::write(dir.join("manifest"), newer).unwrap();
    assert_wrong(&doctor(&dir, &[]).1, "format", "format 99");

    let dir = made("till-05");
    let node = till(&dir);
    until("the till online", || node.status()["online"] == true);
    assert!(tillsync(&["capture", "-", "--api", &node.http], &sale("R-1", 700)).status.success());
    until("it at the hub", || node.status()["waiting"]["count"] == 0);
    node.stop();
    let ahead = SystemTime::now() + Duration::from_secs(3 * 3_600);
    let segment = std::fs::read_dir(dir.join("log")).unwrap().next().unwrap().unwrap().path();
    std::fs::File::options().write(true).open(&segment).unwrap().set_modified(ahead).unwrap();
    assert_wrong(&doctor(&dir, &[]).1, "clock", "clock was set back: the node wrote files 2 hours from now");
    std::fs::write(&segment, {
        let mut bytes = std::fs::read(&segment).unwrap();
        bytes[200] ^= 1;
        bytes
    })
    .unwrap();
    assert_wrong(&doctor(&dir, &[]).1, "log", "log/");

    let revoked = made("till-06");
    let dir_of_hub = path(&company.dir).to_owned();
    let revoke = ["hub", "revoke", "--dir", &dir_of_hub, "--terminal", "till-06"];
    assert!(tillsync(&revoke, "").status.success());
    assert_wrong(&doctor(&revoked, &[]).1, "hub", "does not let this till in");

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = tillsync(&["doctor", "--json", "--dir", path(&dir), "--http", &address], "");
    assert_wrong(&serde_json::from_slice(&output.stdout).unwrap(), "port", "cannot be listened on");
    drop(hub);
}

#[test]
fn an_encrypted_directory_without_its_key_says_so_and_with_it_is_well() {
    let mut company = Company::encrypted("Shops");
    let hub = company.hub();
    let dir = company.join("s1", "till-01");
    let key = common::strs(&company.key).iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let key: Vec<&str> = key.iter().map(String::as_str).collect();
    let (code, opened) = doctor(&dir, &key);
    assert_eq!(code, 0, "{opened}");
    assert!(of(&opened, "key").1.contains("opens it"), "{opened}");
    let (code, closed) = doctor(&dir, &[]);
    assert_eq!(code, 1);
    assert_wrong(&closed, "key", "it is encrypted and no key was given");
    assert_eq!(of(&closed, "certificate").0, "unknown");
    let (code, of_hub) = doctor(&company.dir, &key);
    assert_eq!(code, 0, "{of_hub}");
    drop(hub);
}

/// A limit on the length of files stands for a disk that takes nothing (a test that is root may write everywhere).
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_takes_nothing_and_a_node_that_hangs_are_wrong() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("s1", "till-01");
    let program = env!("CARGO_BIN_EXE_tillsync");
    let script = "trap '' XFSZ; ulimit -f 0; \"$@\" | cat";
    let arguments = ["-c", script, "sh", program, "doctor", "--json", "--dir", path(&dir)];
    let output = std::process::Command::new("sh").args(arguments).output().unwrap();
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_wrong(&told, "disk speed", "cannot be written");

    let node = till(&dir);
    let signal = |name: &str| {
        let pid = node.pid().to_string();
        assert!(std::process::Command::new("kill").args([name, &pid]).status().unwrap().success());
    };
    std::fs::rename(dir.join("run.json"), dir.join("run.away")).unwrap();
    let (code, silent) = doctor(&dir, &[]);
    assert_eq!(code, 1);
    assert_wrong(&silent, "node", "does not answer");
    std::fs::rename(dir.join("run.away"), dir.join("run.json")).unwrap();
    signal("-KILL");
    drop(node);
    assert!(
        of(&doctor(&dir, &[]).1, "node").1.contains("not running"),
        "a leftover run.json is no running node"
    );
    drop(hub);
}
