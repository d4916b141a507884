//! The failure of a command: what a person reads, and the exit code that scripts read.

use std::fmt;

/// A command failed. The message names the operation, the reason and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Exit code: 1 refused or failed, 2 usage, 3 node not reachable, 4 an invariant does not hold.
    pub code: u8,
    /// One line for a person.
    pub message: String,
}

impl Failure {
    /// Refused or failed (exit code 1).
    pub fn refused(message: impl fmt::Display) -> Self {
        Self { code: 1, message: message.to_string() }
    }

    /// Wrong usage (exit code 2).
    pub fn usage(message: impl fmt::Display) -> Self {
        Self { code: 2, message: message.to_string() }
    }

    /// The node cannot be reached (exit code 3).
    pub fn unreachable(message: impl fmt::Display) -> Self {
        Self { code: 3, message: message.to_string() }
    }

    /// An invariant does not hold (exit code 4).
    pub fn untrue(message: impl fmt::Display) -> Self {
        Self { code: 4, message: message.to_string() }
    }

    /// Puts the operation in front of the message.
    #[must_use]
    pub fn during(self, operation: &str) -> Self {
        Self { message: format!("{operation}: {}", self.message), ..self }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::refused(error)
    }
}

impl From<crate::storage::StorageError> for Failure {
    fn from(error: crate::storage::StorageError) -> Self {
        Self::refused(error)
    }
}
