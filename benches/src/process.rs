//! A node as the process that it is in a shop: started, asked, stopped or killed. Whatever was started ends with its
//! value here.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use node::runtime::run_file::RunFile;

use crate::Outcome;
use crate::http::Http;

/// Longest a node may take to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// The variable that tells a hub where its database is.
const DATABASE: &str = "TILLSYNC_DATABASE";

/// A running node.
pub struct Node {
    child: Child,
    /// `host:port` of its API.
    pub http: String,
    /// `host:port` of its QUIC listener (hub).
    pub quic: Option<String>,
    token: Option<String>,
}

impl Node {
    /// Starts `tillsync` on a directory, with the key file of an encrypted one, and waits for its `ready` line.
    ///
    /// # Errors
    /// It does not start; its log says why.
    pub fn start(program: &Path, dir: &Path, arguments: &[&str], key: Option<&Path>) -> Outcome<Self> {
        Self::start_on(program, dir, arguments, key, None)
    }

    /// As [`Node::start`], with the address of the database that a hub's log lies in.
    ///
    /// # Errors
    /// It does not start; its log says why.
    pub fn start_on(
        program: &Path,
        dir: &Path,
        arguments: &[&str],
        key: Option<&Path>,
        database: Option<&str>,
    ) -> Outcome<Self> {
        let log = dir.join("node.log");
        let mut command = Command::new(program);
        command.args(arguments).arg("--dir").arg(dir);
        if let Some(key) = key {
            command.arg("--key-file").arg(key);
        }
        match database {
            Some(url) => command.env(DATABASE, url),
            None => command.env_remove(DATABASE),
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut node = Self { child: command.spawn()?, http: String::new(), quic: None, token: None };
        let mut line = String::new();
        if let Some(stdout) = node.child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let field =
            |name: &str| line.split_whitespace().find_map(|word| word.strip_prefix(name).map(str::to_owned));
        let Some(http) = field("http=") else {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("`tillsync {}` did not start: {}", arguments.join(" "), log.trim()).into());
        };
        (node.http, node.quic) = (http, field("quic="));
        node.token = RunFile::read(dir)?.and_then(|run| run.token);
        Ok(node)
    }

    /// A connection to its API.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self) -> Outcome<Http> {
        Ok(Http::connect(&self.http, self.token.as_deref())?)
    }

    /// Asks it to stop, as a service manager does, and waits until it has.
    ///
    /// # Errors
    /// It does not.
    pub fn stop(mut self) -> Outcome<()> {
        Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status()?;
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if self.child.try_wait()?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Err("a node did not stop".into())
    }

    /// Resident memory of the process, bytes.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn memory(&self) -> Outcome<u64> {
        self.status("VmRSS:")
    }

    /// The most that it ever was, bytes.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn peak_memory(&self) -> Outcome<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|rest| rest.split_whitespace().next());
        let kib = kib.ok_or_else(|| format!("the system does not say {name}"))?;
        Ok(kib.parse::<u64>()? * 1_024)
    }

    /// Its number in the system.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it without a word, as a power cut does.
    pub fn kill(self) {
        drop(self);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something holds, looking every so often, and says how long it took.
///
/// # Errors
/// It does not within a minute or two, or looking fails.
pub fn until(what: &str, every: Duration, holds: impl FnMut() -> Outcome<bool>) -> Outcome<Duration> {
    until_within(what, every, Duration::from_secs(120), holds)
}

/// As [`until`], with a patience of its own.
///
/// # Errors
/// It does not within that, or looking fails.
pub fn until_within(
    what: &str,
    every: Duration,
    patience: Duration,
    mut holds: impl FnMut() -> Outcome<bool>,
) -> Outcome<Duration> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > patience {
            return Err(format!("{what}: not within {} s", patience.as_secs()).into());
        }
        std::thread::sleep(every);
    }
    Ok(start.elapsed())
}
