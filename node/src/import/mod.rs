//! Logs of other POS, read as transactions that a till can take: `poslog` (ARTS POSLog XML), `origin` (lines of
//! several tills taken into one log). Streams; what it holds at a time has limits with names. It sends nothing, and
//! judges no transaction: it refuses only what it cannot say truly in the form of CONTRACT section 2.

mod element;
mod guard;
mod origin;
pub mod poslog;
mod xml;

pub use origin::{Origins, Own};

use serde_json::{Map, Value};

/// Where something stands in an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Place {
    /// Number of the transaction, from 1; none of a format whose transactions are lines.
    pub transaction: Option<u64>,
    /// Line, from 1.
    pub line: u64,
    /// Byte in the line, from 1; none of a format whose transactions are lines.
    pub column: Option<u64>,
}

impl Place {
    /// A whole line.
    #[must_use]
    pub fn of_line(line: u64) -> Self {
        Self { line, ..Self::default() }
    }

    /// What `--from` counts: transactions, or else lines.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.transaction.unwrap_or(self.line)
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.transaction, self.column) {
            (Some(number), Some(column)) => {
                write!(f, "transaction {number} (line {}, column {column})", self.line)
            }
            (None, Some(column)) => write!(f, "line {}, column {column}", self.line),
            _ => write!(f, "line {}", self.line),
        }
    }
}

/// What one transaction of an input comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// For the till, in the form of CONTRACT section 2.
    Transaction(Map<String, Value>),
    /// For the till once what it cancels was read there.
    Void(Box<PostVoid>),
    /// No business: the reason, to be counted.
    Skipped(String),
    /// Not understood, or not true in itself.
    Refused {
        /// Its receipt number, if it could be told.
        receipt: Option<String>,
        /// What is wrong, and what to do.
        problem: String,
    },
}

/// A post-void. Its lines and tenders are those of what it cancels, which only the till knows for sure.
#[derive(Debug, Clone, PartialEq)]
pub struct PostVoid {
    /// Everything but lines and tenders.
    pub fields: Map<String, Value>,
    /// Receipt number of what it cancels.
    pub of: String,
    /// Lines and tenders as the log repeats them, for when the original is not there.
    pub repeated: Option<Map<String, Value>>,
    /// What the log says it amounts to, without sign.
    pub total_minor: Option<i64>,
}

/// Why an input cannot be read any further. What came before stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{problem}, at {place}")]
pub struct Broken {
    /// Where.
    pub place: Place,
    /// What is wrong, and what to do.
    pub problem: String,
}
