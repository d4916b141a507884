//! Encryption at rest, with real processes: a stolen directory shows nothing and opens for nobody without its key, also
//! after kills; another key is a matter of a moment; a plain directory becomes an encrypted one; meddling is found.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use common::{Company, Node, json, path, sale, strs, till, till_with, tillsync, until};

/// Words of the business that no thief may read: company, store, till, receipt, SKU, item, operator, a person.
const PLANTED: [&str; 8] = [
    "Plantagenet Shops",
    "plantstore",
    "planttill",
    "PLANTRECEIPT",
    "PLANTSKU",
    "Planted lantern",
    "plantoperator",
    "plantanna",
];

fn planted_sale(number: usize) -> String {
    format!(
        r#"{{"kind":"sale","receipt":"PLANTRECEIPT-{number}","operator":"plantoperator","currency":"GBP","lines":[{{"sku":"PLANTSKU","description":"Planted lantern","quantity":"1","amount_minor":500,"tax_minor":0}}],"tenders":[{{"type":"cash","amount_minor":500}}]}}"#
    )
}

fn capture(node: &Node, from: usize, count: usize) {
    let lines: String = (from..from + count).map(|number| planted_sale(number) + "\n").collect();
    let output = tillsync(&["capture", "-", "--api", &node.http], &lines);
    assert!(output.status.success(), "{}", stderr(&output));
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Every file below a folder, with its bytes.
fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

/// Which of the words stand in any file of a folder, or in the name of one.
fn shown<'a>(folder: &Path, words: &[&'a str]) -> Vec<(&'a str, PathBuf)> {
    let mut found = Vec::new();
    for (path, bytes) in files(folder) {
        for word in words {
            let named = path.strip_prefix(folder).unwrap().to_string_lossy().contains(word);
            if named || bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                found.push((*word, path.clone()));
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for (path, bytes) in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, bytes).unwrap();
    }
    common::copied(from, to);
}

/// A command that must be refused, with exit code 1 and this in its message.
fn refused(arguments: &[&str], says: &[&str]) {
    let output = tillsync(arguments, "");
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {message}");
    for word in says {
        assert!(message.contains(word), "{arguments:?}: {message}");
    }
}

fn verified(dir: &Path, more: &[&str]) {
    let output = tillsync(&[&["verify", "--json", "--dir", path(dir)][..], more].concat(), "");
    assert!(output.status.success(), "{}{}", String::from_utf8_lossy(&output.stdout), stderr(&output));
}

/// The story of a company in one run: traded, killed, drained, asked, exported, stopped. Returns what a thief could look
/// for, and the two directories.
fn trade(company: &mut Company) -> (Vec<String>, PathBuf) {
    let mut words: Vec<String> = PLANTED.map(str::to_owned).to_vec();
    words.push(company.token.clone());
    let key = company.key.clone();
    let mut hub = company.hub();
    let person = company.ask(&["hub", "people", "add", "--name", "plantanna", "--role", "reviewer"]);
    words.push(person["token"].as_str().unwrap().to_owned());
    let dir = company.join("plantstore", "planttill");
    // Without the hub each record lies in the log by itself: batches are compressed, which hides words from anybody.
    hub.kill();
    let mut node = till_with(&dir, &strs(&key));
    capture(&node, 0, 60);
    node.kill();
    let hub = company.hub();
    let mut node = till_with(&dir, &strs(&key));
    capture(&node, 60, 60);
    until("the drain", || node.status()["waiting"]["count"] == 0);
    until("every record at the hub", || company.records() == 120);
    let out = company.folder().join("books");
    company.ask(&["export", "--format", "csv", "--out", path(&out)]);
    assert_eq!(company.balances()["Assets:Cash:Drawer:planttill GBP"], 120 * 500);
    // A clean stop writes the checkpoint of the books; the kill after it leaves everything as a thief finds it.
    node.kill();
    let node = till_with(&dir, &strs(&key));
    assert_eq!(node.status()["head_seq"], 120);
    node.stop();
    hub.stop();
    let mut hub = company.hub();
    words.push(run_token(company));
    hub.kill();
    (words, dir)
}

/// The token that a running hub leaves for its owner's commands, as they get it.
fn run_token(company: &Company) -> String {
    let text = fs::read_to_string(company.dir.join("run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_str(&text).unwrap();
    match run["token"].as_str() {
        Some(token) => token.to_owned(),
        // Encrypted: what must not be there is anything that looks like one.
        None => "tsk_".to_owned(),
    }
}

#[test]
fn a_stolen_directory_shows_nothing_and_opens_for_nobody_without_the_key() {
    let mut company = Company::encrypted("Plantagenet Shops");
    let (words, dir) = trade(&mut company);
    let (hub, key) = (company.dir.clone(), company.key.clone());
    for stolen in [&hub, &dir] {
        assert_eq!(shown(stolen, &strs(&words)), [], "a thief reads");
        assert_eq!(shown(stolen, &["PRIVATE KEY", "CERTIFICATE", "admin_token_hash", "enrolled"]), []);
    }

    // Without the key, and with another: refused in words, and nothing is changed or begun anew.
    let other = company.folder().join("other");
    assert!(tillsync(&["key", "new", path(&other)], "").status.success());
    let wrong = ["--key-file", path(&other)];
    let before = [files(&hub), files(&dir)];
    for (more, says) in [(&[][..], "no key was given"), (&wrong[..], "does not open it")] {
        let says = ["unlocking", says, "key"];
        let run = |arguments: &[&str]| refused(&[arguments, more].concat(), &says);
        run(&["verify", "--dir", path(&hub)]);
        run(&["verify", "--dir", path(&dir)]);
        run(&["hub", "run", "--dir", path(&hub), "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"]);
        run(&["terminal", "run", "--dir", path(&dir), "--http", "127.0.0.1:0"]);
        run(&["terminal", "join", "--dir", path(&dir), "--code", "TS"]);
        run(&["hub", "enroll", "--dir", path(&hub), "--store", "s", "--terminal", "t"]);
        run(&["project", "--from-dir", path(&dir), "--policy", "refund_limit_minor=1"]);
        run(&["stores", "--dir", path(&hub)]);
    }
    refused(
        &["key", "encrypt", "--dir", path(&dir), key[0].as_str(), key[1].as_str()],
        &["encrypted already"],
    );
    assert!(before == [files(&hub), files(&dir)], "a refusal changes nothing");

    // With the key: verified, tried with another policy, copied as a backup, and run on.
    let key = strs(&key);
    let backup = company.folder().join("backup");
    copy(&hub, &backup);
    for whole in [&hub, &dir, &backup] {
        verified(whole, &key);
    }
    let tried = ["project", "--json", "--from-dir", path(&backup), "--policy", "refund_limit_minor=1"];
    // The sales, and the hub's word that the till was enrolled.
    assert_eq!(json(&[&tried[..], &key].concat())["records"], 121);
    let _hub = company.hub();
    until("the hub's books", || company.records() == 120);
}

/// The same search over the same story in plain directories finds what was planted: it can fail.
#[test]
fn in_a_plain_directory_the_same_search_finds_the_words() {
    if common::is_on_postgres() {
        eprintln!("skipped: a hub on a database has no log to search in its directory");
        return;
    }
    let mut company = Company::new();
    let (words, dir) = trade(&mut company);
    let found: Vec<&str> = shown(&dir, &strs(&words)).into_iter().map(|(word, _)| word).collect();
    for word in ["plantstore", "planttill", "PLANTRECEIPT", "PLANTSKU", "Planted lantern", "plantoperator"] {
        assert!(found.contains(&word), "{word} in {found:?}");
    }
    let found = shown(&company.dir, &strs(&words));
    assert!(found.iter().any(|(word, _)| *word == "plantanna"));
    assert!(found.iter().any(|(word, path)| word.starts_with("tsk_") && path.ends_with("run.json")));
}

#[test]
fn a_plain_till_becomes_an_encrypted_one_and_trades_on() {
    let mut company = Company::new();
    let mut hub = company.hub();
    let dir = company.join("plantstore", "planttill");
    // From the enrolment on out of the hub's reach: its certificate is all that says it may write.
    hub.kill();
    let mut node = till(&dir);
    capture(&node, 0, 50);
    let words = company.folder().join("words");
    fs::write(&words, "correct horse battery staple\n").unwrap();
    let key = ["--passphrase-file", path(&words)];
    let encrypt = [&["key", "encrypt", "--dir", path(&dir)][..], &key].concat();
    refused(&encrypt, &["in use", "stop"]);
    node.kill();
    // Nothing in the environment means a plain directory stays one.
    assert_eq!(json(&["key", "show", "--json", "--dir", path(&dir)])["encrypted"], false);
    let done = json(&[&encrypt[..], &["--json"]].concat());
    assert!(done["entries"].as_u64().unwrap() >= 50, "{done}");
    assert_eq!(done["left"], serde_json::json!([]));
    let shown_words: Vec<&str> =
        PLANTED.iter().copied().filter(|word| *word != "Plantagenet Shops").collect();
    assert_eq!(shown(&dir, &shown_words), []);
    refused(&["terminal", "run", "--dir", path(&dir)], &["no key was given"]);
    verified(&dir, &key);
    hub = company.hub();
    let node = till_with(&dir, &key);
    capture(&node, 50, 50);
    until("the drain", || node.status()["waiting"]["count"] == 0);
    until("every record at the hub", || company.records() == 100);
    node.stop();

    // systemd's credential folder and the environment are ways to give it, too.
    let credentials = company.folder().join("credentials");
    fs::create_dir(&credentials).unwrap();
    fs::copy(&words, credentials.join("tillsync.passphrase")).unwrap();
    for (name, value) in [
        ("CREDENTIALS_DIRECTORY", path(&credentials)),
        ("TILLSYNC_PASSPHRASE", "correct horse battery staple"),
        ("TILLSYNC_PASSPHRASE_FILE", path(&words)),
    ] {
        let mut verify = Command::new(env!("CARGO_BIN_EXE_tillsync"));
        let output = verify.args(["verify", "--dir", path(&dir)]).env(name, value).output().unwrap();
        assert!(output.status.success(), "{name}: {}", stderr(&output));
        let said = format!("{}{}", stderr(&output), String::from_utf8_lossy(&output.stdout));
        assert!(!said.contains("horse"), "{said}");
    }
    hub.kill();
}

/// Another key while the node runs; then rotations killed at every moment of their short lives: one key opens, always.
#[test]
fn a_key_is_rotated_under_a_running_node_and_a_kill_leaves_one_key_that_opens() {
    let mut company = Company::encrypted("Shops");
    let mut hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let node = till_with(&dir, &strs(&company.key));
    let keys: Vec<PathBuf> = ["key", "second", "third"].map(|name| company.folder().join(name)).to_vec();
    for file in &keys[1..] {
        assert!(tillsync(&["key", "new", path(file)], "").status.success());
        refused(&["key", "new", path(file)], &["exists"]);
    }
    let opens = |key: &Path| {
        let output = tillsync(
            &["key", "rotate", "--dir", path(&dir), "--key-file", path(key), "--new-key-file", path(key)],
            "",
        );
        match output.status.code() {
            Some(0) => true,
            Some(1) if stderr(&output).contains("does not open it") => false,
            code => panic!("{code:?}: {}", stderr(&output)),
        }
    };
    let line = sale("R-1", 700);
    assert!(tillsync(&["capture", "-", "--api", &node.http], &line).status.success());
    let rotate = [
        "key",
        "rotate",
        "--dir",
        path(&dir),
        "--key-file",
        path(&keys[0]),
        "--new-key-file",
        path(&keys[1]),
    ];
    assert!(tillsync(&rotate, "").status.success());
    assert!(
        tillsync(&["capture", "-", "--api", &node.http], &sale("R-2", 800)).status.success(),
        "it runs on"
    );
    assert!(!opens(&keys[0]) && opens(&keys[1]));
    node.stop();
    verified(&dir, &["--key-file", path(&keys[1])]);

    let (mut now, mut next) = (keys[1].clone(), keys[2].clone());
    for moment in 0..24 {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tillsync"))
            .args([
                "key",
                "rotate",
                "--dir",
                path(&dir),
                "--key-file",
                path(&now),
                "--new-key-file",
                path(&next),
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(moment * 500));
        let _ = child.kill();
        let _ = child.wait();
        let opened = [opens(&now), opens(&next)];
        assert!(opened[0] != opened[1], "after {moment}: {opened:?}");
        if opened[1] {
            std::mem::swap(&mut now, &mut next);
        }
    }
    verified(&dir, &["--key-file", path(&now)]);
    let node = till_with(&dir, &["--key-file", path(&now)]);
    assert_eq!(node.status()["head_seq"], 2);
    hub.kill();
}

#[test]
fn verify_finds_flipped_swapped_repeated_and_cut_frames() {
    let mut company = Company::encrypted("Shops");
    let mut hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let node = till_with(&dir, &strs(&company.key));
    // One after the other, so that each is a commit of its own.
    (0..30).for_each(|number| capture(&node, number + 100, 1));
    until("the drain", || node.status()["waiting"]["count"] == 0);
    node.stop();
    hub.kill();
    let key = strs(&company.key);
    verified(&dir, &key);
    let segment = dir.join("log").join(format!("{:020}.seg", 0));
    let good = fs::read(&segment).unwrap();
    assert_eq!(good[10], 1, "the cipher byte");
    let length = |at: usize| u32::from_le_bytes(good[at..at + 4].try_into().unwrap()) as usize;
    let starts: Vec<usize> = std::iter::successors(Some(128), |at| Some(at + length(*at)))
        .take_while(|at| length(*at) > 0)
        .collect();
    let twins = |one: &&usize| starts.iter().filter(|two| length(**two) == length(**one)).count() > 1;
    let one = *starts.iter().find(twins).unwrap();
    let two = *starts.iter().rfind(|two| length(**two) == length(one)).unwrap();
    let size = length(one);
    let mut harmed: Vec<(&str, Vec<u8>)> = Vec::new();
    for (title, at) in [("head", one + 5), ("tag", one + 14), ("nonce", one + 30), ("ciphertext", one + 60)] {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        harmed.push((title, bytes));
    }
    let mut bytes = good.clone();
    bytes[one..one + size].copy_from_slice(&good[two..two + size]);
    harmed.push(("repeated", bytes.clone()));
    bytes[two..two + size].copy_from_slice(&good[one..one + size]);
    harmed.push(("swapped", bytes));
    harmed.push(("cut", good[..two + 40].to_vec()));
    for (title, bytes) in harmed {
        fs::write(&segment, bytes).unwrap();
        let output = tillsync(&[&["verify", "--dir", path(&dir)][..], &key].concat(), "");
        assert_eq!(output.status.code(), Some(4), "{title}: {}", stderr(&output));
        refused(
            &[&["terminal", "run", "--dir", path(&dir), "--http", "127.0.0.1:0"][..], &key].concat(),
            &["damaged"],
        );
    }
    fs::write(&segment, good).unwrap();
    verified(&dir, &key);
}
