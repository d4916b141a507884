//! A PostgreSQL server of a test's own: made in a temporary folder, on a port of loopback, with a password, stopped when it
//! goes. It must not run as root; where we are root, an account without rights runs it.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::Seek;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Set where the tests must not be skipped.
const NEEDED: &str = "TILLSYNC_TEST_POSTGRES";
/// Where distributions put the server's programs, below a directory for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// Accounts that may run it where we are root.
const ACCOUNTS: [&str; 2] = ["postgres", "nobody"];
/// The password of the role `postgres`.
pub const PASSWORD: &str = "till roll";

/// A running server.
pub struct Server {
    programs: PathBuf,
    account: Option<&'static str>,
    pub port: u16,
    dir: tempfile::TempDir,
}

impl Server {
    /// Makes and starts a server; `None`, said aloud, where none is installed.
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            assert!(
                std::env::var_os(NEEDED).is_none(),
                "{NEEDED} is set, and no PostgreSQL server is installed"
            );
            eprintln!(
                "SKIPPED: no PostgreSQL server is installed (apt-get install postgresql); set {NEEDED} to insist"
            );
            return None;
        };
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().metadata().unwrap().uid() == 0;
        let account = root.then(|| own(dir.path()));
        // Free a moment ago; if somebody takes it now, the server says so.
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let server = Self { programs, account, port, dir };
        let (data, word) = (server.path("data"), server.path("password"));
        std::fs::write(&word, PASSWORD).unwrap();
        let secret = ["-A", "scram-sha-256", "--pwfile", &word];
        server.run("initdb", &[&["-D", &data, "-U", "postgres", "--no-sync"][..], &secret].concat());
        server.resume();
        Some(server)
    }

    /// The address of a database, for the role `postgres`.
    pub fn url(&self, database: &str) -> String {
        self.url_of("postgres", PASSWORD, database)
    }

    pub fn url_of(&self, user: &str, password: &str, database: &str) -> String {
        let password = password.replace(' ', "%20");
        format!("postgres://{user}:{password}@127.0.0.1:{}/{database}", self.port)
    }

    /// Starts it again.
    pub fn resume(&self) {
        let (data, log) = (self.path("data"), self.path("log"));
        let options = format!(
            "-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={}",
            self.port,
            self.dir.path().display()
        );
        self.run("pg_ctl", &["-D", &data, "-o", &options, "-l", &log, "-w", "start"]);
    }

    /// Stops it: `fast` ends its connections, `immediate` is a crash.
    pub fn stop(&self, mode: &str) {
        self.run("pg_ctl", &["-D", &self.path("data"), "-m", mode, "-w", "stop"]);
    }

    /// Speaks TLS from now on, with this certificate and key.
    pub fn encrypt(&self, certificate: &str, key: &str) {
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let file = self.dir.path().join("data").join(name);
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            let owner = self.dir.path().metadata().unwrap();
            chown(&file, Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        self.sql("ALTER SYSTEM SET ssl = on");
        self.stop("fast");
        self.resume();
    }

    /// Runs statements in the database `postgres` and gives what they print, bare.
    pub fn sql(&self, statements: &str) -> String {
        self.sql_as("postgres", PASSWORD, statements).unwrap()
    }

    /// As `sql`, as another role.
    pub fn sql_as(&self, user: &str, password: &str, statements: &str) -> Result<String, String> {
        let output = Command::new(self.programs.join("psql"))
            .args([
                "-X",
                "-A",
                "-t",
                "-q",
                "-v",
                "ON_ERROR_STOP=1",
                "-h",
                "127.0.0.1",
                "-p",
                &self.port.to_string(),
            ])
            .args(["-U", user, "-d", "postgres", "-c", statements])
            .env("PGPASSWORD", password)
            .output()
            .unwrap();
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() { Ok(said(&output.stdout)) } else { Err(said(&output.stderr)) }
    }

    /// Ends every connection of Tillsync's; how many there were.
    pub fn cut(&self) -> usize {
        let cut = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE application_name LIKE 'tillsync%'";
        self.sql(cut).parse().unwrap()
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let path = self.programs.join(program);
        let mut command = match self.account {
            Some(account) => {
                let mut command = Command::new("runuser");
                command.args(["-u", account, "--"]).arg(path);
                command
            }
            None => Command::new(path),
        };
        // The server inherits what it may keep open: nothing of ours, or reading its output would never end.
        let mut said = tempfile::tempfile().unwrap();
        let status = command
            .args(arguments)
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .stdout(said.try_clone().unwrap())
            .stderr(said.try_clone().unwrap())
            .status()
            .unwrap();
        said.rewind().unwrap();
        let said = std::io::read_to_string(said).unwrap();
        assert!(status.success(), "{program}: {status}: {}", said.trim());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A test may have stopped it already.
        if Path::new(&self.path("data")).join("postmaster.pid").exists() {
            self.stop("immediate");
        }
    }
}

/// The directory of the server's programs, the newest if there are several.
fn programs() -> Option<PathBuf> {
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
    everywhere.into_iter().find(|bin| ["initdb", "pg_ctl", "psql"].iter().all(|name| bin.join(name).exists()))
}

/// Gives a folder to an account that may run the server.
fn own(dir: &Path) -> &'static str {
    for name in ACCOUNTS {
        let number = |option: &str| -> Option<u32> {
            let Output { status, stdout, .. } = Command::new("id").args([option, name]).output().ok()?;
            status.success().then(|| String::from_utf8_lossy(&stdout).trim().parse().ok())?
        };
        if let (Some(user), Some(group)) = (number("-u"), number("-g")) {
            chown(dir, Some(user), Some(group)).unwrap();
            return name;
        }
    }
    panic!("there is no account that could run PostgreSQL");
}
