//! Where the database is: a `postgres://` address, read once, shown without its password ever after.

use std::fmt;
use std::path::PathBuf;
use std::sync::OnceLock;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use super::DatabaseError;

/// The variable that keeps the password out of the list of processes.
const VARIABLE: &str = "TILLSYNC_DATABASE";
/// The credential of the service that keeps it out of the environment, too.
const CREDENTIAL: &str = "tillsync.database";

static DECLARED: OnceLock<Option<String>> = OnceLock::new();

/// Says which address the command line named; the first to say so counts.
pub fn declare(address: Option<String>) {
    let _ = DECLARED.set(address);
}

/// Where a database is and how it is spoken to.
#[derive(Clone)]
pub struct Database {
    pub(super) config: Config,
    /// Whose signature the server's certificate must bear; `None`: not encrypted.
    pub(super) roots: Option<PathBuf>,
    shown: String,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({})", self.shown)
    }
}

impl Database {
    /// What this process was given, by `--database`, by `TILLSYNC_DATABASE` or as a credential of its service, if anything.
    ///
    /// # Errors
    /// It is no address, or the credential cannot be read.
    pub fn of_process() -> Result<Option<Self>, DatabaseError> {
        let named = DECLARED.get().cloned().flatten();
        let named = named.or_else(|| std::env::var(VARIABLE).ok()).filter(|address| !address.is_empty());
        if let Some(address) = named {
            return Self::parse(&address).map(Some);
        }
        let Some(folder) = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) else {
            return Ok(None);
        };
        match std::fs::read_to_string(folder.join(CREDENTIAL)) {
            Ok(address) => Self::parse(address.trim()).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => {
                Err(DatabaseError::address(&format!("the credential {CREDENTIAL} cannot be read: {error}")))
            }
        }
    }

    /// Reads `postgres://user:password@host:port/database?sslmode=verify-full&sslrootcert=FILE`.
    ///
    /// A server on this machine is spoken to as it is; any other one proves by a certificate under `sslrootcert` that it
    /// is the one named, unless `sslmode=disable` says that the way to it is private.
    ///
    /// # Errors
    /// It is no such address.
    pub fn parse(address: &str) -> Result<Self, DatabaseError> {
        let (base, query) = address.split_once('?').unwrap_or((address, ""));
        if !base.starts_with("postgres://") && !base.starts_with("postgresql://") {
            return Err(DatabaseError::address("it does not begin with postgres://"));
        }
        let (mut mode, mut roots, mut rest) = (None, None, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some(("sslmode", value)) => mode = Some(value.to_owned()),
                Some(("sslrootcert", value)) => roots = Some(PathBuf::from(decoded(value)?)),
                _ => rest.push(pair),
            }
        }
        let base = if rest.is_empty() { base.to_owned() } else { format!("{base}?{}", rest.join("&")) };
        let mut config: Config =
            base.parse().map_err(|e: tokio_postgres::Error| DatabaseError::address(&error_text(&e)))?;
        if config.get_hosts().is_empty() || config.get_user().is_none() {
            return Err(DatabaseError::address("it names no host or no user"));
        }
        let encrypted = match mode.as_deref() {
            Some("disable") => false,
            Some("require" | "verify-full") => true,
            None => !config.get_hosts().iter().all(is_here),
            Some(other) => {
                let what = format!("sslmode={other} is not known; say verify-full or disable");
                return Err(DatabaseError::address(&what));
            }
        };
        if encrypted && roots.is_none() {
            return Err(DatabaseError::address(
                "sslrootcert is missing: the file with the certificate authority that the database's own certificate is \
                 under (for a public one the system's, such as /etc/ssl/certs/ca-certificates.crt); sslmode=disable \
                 does without encryption",
            ));
        }
        config.ssl_mode(if encrypted { SslMode::Require } else { SslMode::Disable });
        let shown = shown(&config);
        Ok(Self { config, roots: roots.filter(|_| encrypted), shown })
    }

    /// Host, port, database and user; no password.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

/// A host that is this machine.
fn is_here(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => {
            name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|it| it.is_loopback())
        }
        #[cfg(unix)]
        Host::Unix(_) => true,
    }
}

fn shown(config: &Config) -> String {
    let host = match config.get_hosts().first() {
        Some(Host::Tcp(name)) if name.contains(':') => format!("[{name}]"),
        Some(Host::Tcp(name)) => name.clone(),
        #[cfg(unix)]
        Some(Host::Unix(path)) => path.display().to_string(),
        None => String::new(),
    };
    let user = config.get_user().unwrap_or_default();
    let port = config.get_ports().first().copied().unwrap_or(5432);
    format!("{user}@{host}:{port}/{}", config.get_dbname().unwrap_or(user))
}

fn error_text(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string)
}

/// `%20` and its like.
fn decoded(text: &str) -> Result<String, DatabaseError> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let byte = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        bytes.push(
            byte.ok_or_else(|| DatabaseError::address("a % is not followed by two hexadecimal digits"))?,
        );
        rest = &after[2..];
    }
    String::from_utf8(bytes).map_err(|_| DatabaseError::address("sslrootcert is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_without_its_password() {
        let database = Database::parse("postgres://hub:s%20cret@127.0.0.1:5433/shops").unwrap();
        assert_eq!(database.shown(), "hub@127.0.0.1:5433/shops");
        assert_eq!(format!("{database:?}"), "Database(hub@127.0.0.1:5433/shops)");
        assert_eq!(database.config.get_password(), Some(&b"s cret"[..]));
        assert_eq!(Database::parse("postgresql://hub@[::1]/").unwrap().shown(), "hub@[::1]:5432/hub");
    }

    /// Anything beyond this machine is encrypted and proves who it is, unless somebody says that the way is private.
    #[test]
    fn a_server_elsewhere_proves_who_it_is() {
        let mode = |address: &str| Database::parse(address).map(|it| (it.config.get_ssl_mode(), it.roots));
        assert_eq!(mode("postgres://h@localhost/d").unwrap(), (SslMode::Disable, None));
        assert_eq!(mode("postgres://h@db.example/d?sslmode=disable").unwrap(), (SslMode::Disable, None));
        let roots = Some(PathBuf::from("/etc/my ca.pem"));
        let elsewhere = "postgres://h@db.example/d?sslrootcert=/etc/my%20ca.pem&connect_timeout=3";
        assert_eq!(mode(elsewhere).unwrap(), (SslMode::Require, roots));
        let refused = mode("postgres://h@db.example/d").unwrap_err().to_string();
        assert!(refused.contains("sslrootcert"), "{refused}");
        for wrong in [
            "mysql://h@x/d",
            "postgres://h@x/d?sslmode=prefer",
            "postgres:///d",
            "postgres://h@localhost/d?x=1",
        ] {
            assert!(mode(wrong).is_err(), "{wrong}");
        }
        let secret = mode("postgres://h:secret@x/d?sslmode=maybe").unwrap_err().to_string();
        assert!(!secret.contains("secret"), "{secret}");
    }
}
