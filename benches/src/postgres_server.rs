//! A PostgreSQL server of its own in a temporary directory: made, started on a port of loopback, stopped with its value. It
//! runs as it is installed, so `fsync` is on, and `synchronous_commit` is said to be.
//! It must not run as root; where we are root, an account without rights runs it.

use std::io::Seek;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use postgres::{Client, NoTls};
use tempfile::TempDir;

use crate::Outcome;

/// Where distributions put the server's programs, below a directory for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Accounts that may run it where we are root.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];

/// A running server.
pub struct Server {
    programs: PathBuf,
    account: Option<Account>,
    port: u16,
    dir: TempDir,
}

struct Account {
    name: &'static str,
    user: u32,
    group: u32,
}

/// The directory of the server's programs, the newest if there are several.
pub fn programs() -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = std::fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let everywhere = versions.into_iter().rev().map(|(_, bin)| bin).chain(std::env::split_paths(&path));
    everywhere.into_iter().find(|bin| bin.join("initdb").exists() && bin.join("pg_ctl").exists())
}

impl Server {
    /// Makes a directory and starts a server on it.
    ///
    /// # Errors
    /// It does not start; says what the programs said.
    pub fn start(programs: &Path) -> Outcome<Self> {
        let dir = tempfile::tempdir()?;
        let root = dir.path().metadata()?.uid() == 0;
        let account = if root { Some(account()?) } else { None };
        if let Some(account) = &account {
            chown(dir.path(), Some(account.user), Some(account.group))?;
        }
        // Free a moment ago; if somebody takes it now, the server says so.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let server = Self { programs: programs.to_owned(), account, port, dir };
        let data = server.data();
        server.run("initdb", &["-D", &data, "-A", "trust", "-U", "postgres", "--no-sync"])?;
        server.resume()?;
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its database, as a hub is told of it.
    pub fn url(&self) -> String {
        format!("postgres://postgres@{}/postgres", self.address())
    }

    /// A connection.
    ///
    /// # Errors
    /// It refuses.
    pub fn connect(&self) -> Outcome<Client> {
        connect(self.address())
    }

    /// The process that all of its others come from.
    ///
    /// # Errors
    /// It does not run.
    pub fn pid(&self) -> Outcome<u32> {
        let text = std::fs::read_to_string(self.dir.path().join("data/postmaster.pid"))?;
        Ok(text.lines().next().unwrap_or_default().trim().parse()?)
    }

    /// Starts it again.
    ///
    /// # Errors
    /// It does not start.
    pub fn resume(&self) -> Outcome<()> {
        let (data, log) = (self.data(), self.dir.path().join("log").display().to_string());
        let sockets = self.dir.path().display();
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={sockets} -c synchronous_commit=on",
            self.port
        );
        self.run("pg_ctl", &["-D", &data, "-o", &options, "-l", &log, "-w", "start"])
    }

    /// Stops it properly.
    ///
    /// # Errors
    /// It does not stop.
    pub fn stop(&self) -> Outcome<()> {
        self.run("pg_ctl", &["-D", &self.data(), "-m", "fast", "-w", "stop"])
    }

    fn data(&self) -> String {
        self.dir.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Outcome<()> {
        let path = self.programs.join(program);
        let mut command = match &self.account {
            Some(account) => {
                let mut command = Command::new("runuser");
                command.args(["-u", account.name, "--"]).arg(path);
                command
            }
            None => Command::new(path),
        };
        // The server inherits what it may keep open: nothing of ours, or reading its output would never end.
        let mut said = tempfile::tempfile()?;
        let status = command
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(said.try_clone()?)
            .stderr(said.try_clone()?)
            .status()?;
        if status.success() {
            return Ok(());
        }
        said.rewind()?;
        let said = std::io::read_to_string(said)?;
        Err(format!("{program}: {status}: {}", said.trim()).into())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop();
    }
}

/// A connection to a server, or to what stands before it.
///
/// # Errors
/// Nobody answers.
pub fn connect(address: SocketAddr) -> Outcome<Client> {
    let (host, port) = (address.ip(), address.port());
    let config = format!("host={host} port={port} user=postgres dbname=postgres");
    Ok(Client::connect(&config, NoTls)?)
}

fn account() -> Outcome<Account> {
    for name in ACCOUNTS {
        let number = |option: &str| -> Option<u32> {
            let Output { status, stdout, .. } = Command::new("id").args([option, name]).output().ok()?;
            status.success().then(|| String::from_utf8_lossy(&stdout).trim().parse().ok())?
        };
        if let (Some(user), Some(group)) = (number("-u"), number("-g")) {
            return Ok(Account { name, user, group });
        }
    }
    Err("there is no account that could run PostgreSQL".into())
}
