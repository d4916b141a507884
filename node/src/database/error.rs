//! What went wrong at the database, whether it passes by itself, and what a person can do.

use std::fmt;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passes {
    /// Two transactions crossed: at once.
    AtOnce,
    /// The connection, the server, its disk, a password: when somebody or something has put it right.
    Later,
    /// What is there is not what we wrote, or not of this version: never.
    Never,
}

/// The database refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseError {
    operation: &'static str,
    reason: String,
    next: &'static str,
    /// Whether trying again can help.
    pub passes: Passes,
    /// The statement reached the server and was refused there, so it changed nothing.
    pub refused: bool,
    /// The server's code of five letters, if it said one.
    pub code: Option<String>,
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "database: {} failed: {}; {}", self.operation, self.reason, self.next)
    }
}

impl std::error::Error for DatabaseError {}

impl DatabaseError {
    /// An address that is none.
    pub(super) fn address(what: &str) -> Self {
        let next = "write it as postgres://user:password@host:port/database (docs/database.md)";
        Self::never("reading the address", what, next)
    }

    /// Something that no repetition mends.
    pub fn never(operation: &'static str, reason: impl fmt::Display, next: &'static str) -> Self {
        let reason = reason.to_string();
        Self { operation, reason, next, passes: Passes::Never, refused: true, code: None }
    }

    /// No answer came within the time limit.
    pub(super) fn silent(operation: &'static str, seconds: u64) -> Self {
        let reason = format!("no answer within {seconds} s");
        let next = "look whether the server runs and is reachable; a running hub tries again by itself";
        Self { operation, reason, next, passes: Passes::Later, refused: false, code: None }
    }

    pub(super) fn of(operation: &'static str, error: &Error) -> Self {
        let Some(said) = error.as_db_error() else {
            let reason = chain(error);
            let next = "look whether the server runs, and whether host, port and certificate of the address are right; \
                        a running hub tries again by itself";
            // A value that does not fit its column is a mistake of ours, not of the connection.
            let ours = reason.contains("serializ") || reason.contains("deserializ");
            let passes = if ours { Passes::Never } else { Passes::Later };
            return Self { operation, reason, next, passes, refused: false, code: None };
        };
        let state = said.code();
        let (passes, next) = judged(state);
        // The server may commit after all, and not know whether it will (CockroachDB's 40003, XXA00).
        let refused = !matches!(state.code(), "40003" | "XXA00") && !state.code().starts_with("08");
        let reason = format!("{} (SQLSTATE {})", said.message(), state.code());
        Self { operation, reason, next, passes, refused, code: Some(state.code().to_owned()) }
    }

    /// Whether two hubs made the same thing at the same moment.
    pub(super) fn is_race_of_makers(&self) -> bool {
        let code = self.code.as_deref();
        self.passes == Passes::AtOnce || matches!(code, Some("23505" | "42P07" | "42710" | "42P06" | "XX000"))
    }
}

/// What a code of the server means for us.
fn judged(state: &SqlState) -> (Passes, &'static str) {
    const PASSWORD: &str = "check user and password in --database or TILLSYNC_DATABASE";
    const ADDRESS: &str = "create it (`createdb`), or correct the name in --database or TILLSYNC_DATABASE";
    const RIGHTS: &str = "give the role the rights that docs/database.md lists, or let the owner run `tillsync db migrate` once";
    const SPACE: &str = "free space at the database server; a running hub tries again by itself";
    const FULL: &str = "raise max_connections or end other connections; a running hub tries again by itself";
    const LATER: &str = "look at the server's log; a running hub tries again by itself";
    const FOREIGN: &str =
        "something else has changed Tillsync's tables; restore the database from its own backup";
    const AGAIN: &str = "two transactions met; it is tried again by itself";
    match state.code() {
        "40001" | "40P01" => (Passes::AtOnce, AGAIN),
        "28P01" | "28000" => (Passes::Later, PASSWORD),
        "3D000" => (Passes::Later, ADDRESS),
        "42501" => (Passes::Later, RIGHTS),
        "53100" => (Passes::Later, SPACE),
        "53300" => (Passes::Later, FULL),
        code if ["22", "23", "42", "0A"].contains(&&code[..2]) => (Passes::Never, FOREIGN),
        _ => (Passes::Later, LATER),
    }
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        source = inner.source();
    }
    text
}
