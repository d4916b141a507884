//! Who plays in the demo: the hub and the tills as processes of this very program, and the HTTP calls that a POS app
//! would make.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cable::Cable;
use crate::error::Failure;
use crate::runtime::run_file::RunFile;

/// A running node.
pub struct Player {
    child: Child,
    /// Its data directory.
    pub dir: PathBuf,
    /// Its local API, `http://…`.
    pub api: String,
    token: Option<String>,
    agent: ureq::Agent,
}

impl Player {
    /// Starts `tillsync` with arguments and waits for its `ready` line.
    pub fn start(dir: &Path, arguments: &[&str]) -> Result<(Self, Option<SocketAddr>), Failure> {
        let program = std::env::current_exe()?;
        let mut command = Command::new(program);
        command.args(arguments).arg("--dir").arg(dir).stdin(Stdio::null()).stdout(Stdio::piped());
        let log = std::fs::File::create(dir.join("node.log"))?;
        command.stderr(log);
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| Failure::refused("a node has no output"))?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let field =
            |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name).map(str::to_owned));
        let Some(http) = field("http=") else {
            let _ = child.kill();
            let log = std::fs::read_to_string(dir.join("node.log")).unwrap_or_default();
            return Err(Failure::refused(format!("{} did not start: {}", arguments.join(" "), log.trim())));
        };
        let quic = field("quic=").and_then(|address| address.parse().ok());
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(30)))
            .http_status_as_error(false)
            .build();
        let token = RunFile::read(dir)?.and_then(|run| run.token);
        Ok((
            Self { child, dir: dir.to_owned(), api: format!("http://{http}"), token, agent: config.into() },
            quic,
        ))
    }

    /// Reads something from the node.
    pub fn get(&self, path: &str) -> Result<Value, Failure> {
        let mut request = self.agent.get(format!("{}{path}", self.api));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = request.call().map_err(Failure::refused)?;
        let body: Value = response.body_mut().read_json().map_err(Failure::refused)?;
        if response.status().is_success() {
            Ok(body)
        } else {
            Err(Failure::refused(format!("{path}: {body}")))
        }
    }

    /// Asks the node to do something.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let mut request = self.agent.post(format!("{}{path}", self.api));
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let mut response = request.send_json(body).map_err(Failure::refused)?;
        let answer: Value = response.body_mut().read_json().map_err(Failure::refused)?;
        if response.status().is_success() {
            Ok(answer)
        } else {
            Err(Failure::refused(format!("{path}: {answer}")))
        }
    }

    /// Captures transactions, as a POS app would.
    pub fn capture(&self, transactions: &[Value]) -> Result<Vec<Value>, Failure> {
        let lines: Vec<String> = transactions.iter().map(ToString::to_string).collect();
        let request = self.agent.post(format!("{}/v1/transactions", self.api));
        let request = request.header("Content-Type", "application/x-ndjson");
        let mut response = request.send(lines.join("\n")).map_err(Failure::refused)?;
        let text = response.body_mut().read_to_string().map_err(Failure::refused)?;
        let answers: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        let answers = answers.map_err(Failure::refused)?;
        match answers.iter().find(|answer| answer.get("error").is_some()) {
            Some(refused) => Err(Failure::refused(format!("a till refused a transaction: {refused}"))),
            None => Ok(answers),
        }
    }

    /// How many receipts wait here.
    pub fn waiting(&self) -> Result<u64, Failure> {
        Ok(self.get("/v1/status")?["waiting"]["count"].as_u64().unwrap_or(0))
    }

    /// Ends the process without a word, as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) {
        let _ = self.child.wait();
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A till with its cable.
pub struct TillPlayer {
    /// Its name.
    pub name: String,
    /// The cable to the hub.
    pub cable: Cable,
    /// The node.
    pub node: Player,
}

/// Waits until something holds, and says how long it took.
pub fn until(
    what: &str,
    patience: Duration,
    mut holds: impl FnMut() -> Result<bool, Failure>,
) -> Result<Duration, Failure> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > patience {
            return Err(Failure::refused(format!("{what} did not happen within {} s", patience.as_secs())));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(start.elapsed())
}
