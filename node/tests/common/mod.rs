//! A company of real processes on loopback, for the end-to-end tests. With `TILLSYNC_TEST_HUBS_ON_POSTGRES` set its hub keeps
//! its log in a PostgreSQL server of its own, so the same tests are told of the other room; with the value `shards`, spread
//! over several logs, as a company of several hubs has it.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod chain;
pub mod postgres;
pub mod receiver;
pub mod relay;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Set, companies keep their hub's log in a database.
const ON_POSTGRES: &str = "TILLSYNC_TEST_HUBS_ON_POSTGRES";

/// The databases of hubs, by the hub's directory.
static DATABASES: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// Whether companies keep their hub's log in a database. A test that is about a disk's bad day says that it is not told then.
pub fn is_on_postgres() -> bool {
    std::env::var_os(ON_POSTGRES).is_some()
}

/// Commands about a hub's directory are given this database.
pub fn in_database(dir: &Path, url: &str) {
    let mut databases = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
    databases.insert(path(dir).to_owned(), url.to_owned());
}

/// Starts the hub of a directory; where tills reach it.
pub fn hub_at(dir: &Path, listen: &str, more: &[&str]) -> (Node, String) {
    let run = ["hub", "run", "--listen", listen, "--http", "127.0.0.1:0", "--dir", path(dir)];
    let (node, fields) = start(dir, &[&run[..], more].concat(), false);
    (node, fields["quic"].clone())
}

/// A directory was copied: commands about the copy need the same database.
pub fn copied(from: &Path, to: &Path) {
    let mut databases = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(url) = databases.get(path(from)).cloned() {
        databases.insert(path(to).to_owned(), url);
    }
}

/// Commands about a hub's directory are given this database from now on; `None`: none.
pub fn set_database(dir: &Path, url: Option<String>) {
    let mut databases = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
    match url {
        Some(url) => databases.insert(path(dir).to_owned(), url),
        None => databases.remove(path(dir)),
    };
}

/// As `tillsync`, begun and not waited for; its standard error can be read.
pub fn begin(arguments: &[&str]) -> Child {
    let program = env!("CARGO_BIN_EXE_tillsync");
    let mut command = Command::new(program);
    let command = in_surroundings(&mut command, arguments).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn has_database(dir: &Path) -> bool {
    DATABASES.lock().unwrap_or_else(PoisonError::into_inner).contains_key(path(dir))
}

/// Gives a command the database of the hub whose directory it names, if it has one, and nothing else of the surroundings.
fn in_surroundings<'a>(command: &'a mut Command, arguments: &[&str]) -> &'a mut Command {
    let command =
        command.env_remove("TILLSYNC_TOKEN").env_remove("TILLSYNC_API").env_remove("TILLSYNC_KEY_FILE");
    let databases = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
    match arguments.iter().find_map(|argument| databases.get(*argument)) {
        Some(url) => command.env("TILLSYNC_DATABASE", url),
        None => command.env_remove("TILLSYNC_DATABASE"),
    }
}

/// Runs a command to its end, with an input.
pub fn tillsync(arguments: &[&str], input: &str) -> Output {
    let mut child = in_surroundings(&mut Command::new(env!("CARGO_BIN_EXE_tillsync")), arguments)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // Beside reading what it answers, or both wait for the other; a command that reads no input closes it.
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let _ = stdin.write_all(input.as_bytes());
        });
        child.wait_with_output().unwrap()
    })
}

/// Runs a command that must succeed and print JSON.
pub fn json(arguments: &[&str]) -> Value {
    let output = tillsync(arguments, "");
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A running node; killed when dropped.
pub struct Node {
    pub dir: PathBuf,
    pub http: String,
    child: Child,
    /// What it prints after `ready`.
    out: BufReader<ChildStdout>,
}

impl Node {
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks the node to stop and waits until it has; what it said as it went.
    pub fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let mut said = String::new();
        self.out.read_to_string(&mut said).unwrap();
        assert!(self.child.wait().unwrap().success());
        said
    }

    /// Asks the node to stop and waits until it has; the exit code.
    pub fn ended(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        self.child.wait().unwrap().code()
    }

    pub fn status(&self) -> Value {
        json(&["status", "--json", "--api", &self.http])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A hub's directory, and the tills enrolled there.
pub struct Company {
    pub dir: PathBuf,
    pub token: String,
    pub quic: Option<String>,
    /// `--key-file` and its file, if the directories are encrypted.
    pub key: Vec<String>,
    folder: tempfile::TempDir,
    /// Where its hub's log lies, if not in its directory.
    _server: Option<postgres::Server>,
}

impl Company {
    pub fn new() -> Self {
        Self::in_currency("GBP")
    }

    pub fn in_currency(currency: &str) -> Self {
        Self::made(currency, "Shops", false)
    }

    /// A company whose directories are encrypted from their first day.
    pub fn encrypted(name: &str) -> Self {
        Self::made("GBP", name, true)
    }

    fn made(currency: &str, name: &str, encrypted: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = if is_on_postgres() { postgres::Server::start() } else { None };
        let dir = folder.path().join("hub");
        if let Some(server) = &server {
            let mut databases = DATABASES.lock().unwrap_or_else(PoisonError::into_inner);
            databases.insert(path(&dir).to_owned(), server.url("postgres"));
        }
        let file = folder.path().join("key");
        let mut key = Vec::new();
        if encrypted {
            assert!(tillsync(&["key", "new", path(&file)], "").status.success());
            key = vec!["--key-file".to_owned(), path(&file).to_owned()];
        }
        let named = ["--company", name, "--currency", currency, "--json"];
        let init = ["hub", "init", "--dir", path(&dir)];
        let made = json(&[&init[..], &named, &strs(&key)].concat());
        Self {
            dir,
            token: made["token"].as_str().unwrap().to_owned(),
            quic: None,
            key,
            folder,
            _server: server,
        }
    }

    /// Starts the hub; again on the address it had before.
    pub fn hub(&mut self) -> Node {
        self.hub_with(&[], false)
    }

    /// As `hub`, living on when a file may not grow any more.
    pub fn hub_ignoring_file_size(&mut self) -> Node {
        self.hub_with(&[], true)
    }

    /// As `hub`, with more arguments.
    pub fn hub_with(&mut self, more: &[&str], ignoring_file_size: bool) -> Node {
        let listen = self.quic.clone().unwrap_or_else(|| "127.0.0.1:0".to_owned());
        let run = ["hub", "run", "--listen", &listen, "--http", "127.0.0.1:0", "--dir", path(&self.dir)];
        let spread = std::env::var_os(ON_POSTGRES).is_some_and(|value| value == "shards");
        // One that was brought back from a backup runs without a database.
        let spread = spread && has_database(&self.dir);
        let shards: &[&str] = if spread && !more.contains(&"--shards") { &["--shards", "4"] } else { &[] };
        let arguments = [&run[..], &strs(&self.key), shards, more].concat();
        let (node, fields) = start(&self.dir, &arguments, ignoring_file_size);
        self.quic = Some(fields["quic"].clone());
        node
    }

    /// Enrols a till while the hub runs; returns its directory.
    pub fn join(&self, store: &str, terminal: &str) -> PathBuf {
        let enroll = ["hub", "enroll", "--dir", path(&self.dir), "--store", store, "--terminal", terminal];
        let code = json(&[&enroll[..], &["--json"], &strs(&self.key)].concat());
        let dir = self.folder.path().join(terminal);
        let code = code["code"].as_str().unwrap();
        let join = ["terminal", "join", "--dir", path(&dir), "--code", code];
        let output = tillsync(&[&join[..], &strs(&self.key)].concat(), "");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        dir
    }

    /// Asks the running hub.
    pub fn ask(&self, arguments: &[&str]) -> Value {
        json(&[arguments, &["--json", "--dir", path(&self.dir)], &strs(&self.key)].concat())
    }

    pub fn balances(&self) -> BTreeMap<String, i64> {
        let view = self.ask(&["ledger", "balances"]);
        let rows = view["balances"].as_object().unwrap().iter();
        rows.map(|(account, minor)| (account.clone(), minor.as_i64().unwrap())).collect()
    }

    /// Records of tills that the hub holds.
    pub fn records(&self) -> u64 {
        self.ask(&["stores"]).as_array().unwrap().iter().map(|store| store["records"].as_u64().unwrap()).sum()
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

/// Starts a till.
pub fn till(dir: &Path) -> Node {
    till_with(dir, &[])
}

/// Starts a till with more arguments, such as its key.
pub fn till_with(dir: &Path, more: &[&str]) -> Node {
    start(dir, &[&["terminal", "run", "--http", "127.0.0.1:0", "--dir", path(dir)][..], more].concat(), false)
        .0
}

/// Starts a till that lives on when a file may not grow any more.
pub fn till_ignoring_file_size(dir: &Path) -> Node {
    start(dir, &["terminal", "run", "--http", "127.0.0.1:0", "--dir", path(dir)], true).0
}

/// As arguments.
pub fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn start(dir: &Path, arguments: &[&str], ignoring_file_size: bool) -> (Node, BTreeMap<String, String>) {
    let program = env!("CARGO_BIN_EXE_tillsync");
    let mut command = Command::new(if ignoring_file_size { "sh" } else { program });
    if ignoring_file_size {
        // A write beyond the limit is an error then and no signal.
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", program]);
    }
    let mut child = in_surroundings(&mut command, arguments)
        .args(arguments)
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    if !line.starts_with("ready") {
        let mut reason = String::new();
        child.stderr.take().unwrap().read_to_string(&mut reason).unwrap();
        panic!("{arguments:?} did not start: {reason}");
    }
    // The node must not block on its own log lines.
    let mut stderr = child.stderr.take().unwrap();
    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
    let fields: BTreeMap<String, String> = line
        .split_whitespace()
        .filter_map(|word| word.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    let http = format!("http://{}", fields["http"]);
    (Node { dir: dir.to_owned(), http, child, out }, fields)
}

/// Waits until something holds; the patience is for slow machines, not a measurement.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(90), "{what} did not happen");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// `verify` finds nothing.
pub fn assert_verified(dir: &Path) {
    let output = tillsync(&["verify", "--json", "--dir", path(dir)], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A small cash sale.
pub fn sale(receipt: &str, amount: i64) -> String {
    format!(
        r#"{{"kind":"sale","receipt":"{receipt}","currency":"GBP","lines":[{{"sku":"A-{amount}","quantity":"1","amount_minor":{amount},"tax_minor":0}}],"tenders":[{{"type":"cash","amount_minor":{amount}}}]}}"#
    )
}

/// Gives a till lines; all of them must be saved.
pub fn captured(node: &Node, lines: &[String]) {
    let output = tillsync(&["capture", "-", "--api", &node.http], &(lines.join("\n") + "\n"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// So many small sales of a till, each of another amount.
pub fn sales(till: &str, from: usize, to: usize) -> Vec<String> {
    (from..to).map(|n| sale(&format!("{till}-{n}"), 100 + i64::try_from(n).unwrap())).collect()
}

/// A void that names its sale by the receipt.
pub fn void(receipt: &str, of: &str, amount: i64) -> String {
    let line = sale(receipt, amount).replace("\"kind\":\"sale\"", "\"kind\":\"void\"");
    line.replacen('{', &format!("{{\"original_receipt\":\"{of}\","), 1)
}

/// A file of the shared test data, if it is there.
pub fn shared(name: &str) -> Option<String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name);
    let text = std::fs::read_to_string(&file).ok();
    if text.is_none() {
        eprintln!("skipped: {} is not here", file.display());
    }
    text
}
