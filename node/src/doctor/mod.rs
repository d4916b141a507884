//! `tillsync doctor`: what is wrong with a node and what to do about it, check by check, whether it runs or not. It looks
//! and repairs nothing: it writes one file of its own to try the disk, and removes it.
//!
//! `directory` looks at the files, `machine` at disk, clock and ports, `papers` at certificates, `company` at what
//! nodes say of each other. What a running node says is asked by the command line and handed over.

mod company;
mod directory;
mod machine;
mod papers;

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Well,
    /// Works, and somebody should know.
    Note,
    /// Somebody has to do something.
    Wrong,
    /// Could not be looked at.
    Unknown,
}

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub state: State,
    /// What was found, for a person.
    pub found: String,
    /// What to do next, where there is something to do.
    pub next: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn well(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Well, found: found.into(), next: None }
    }

    /// It works, and somebody should know.
    pub fn note(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, state: State::Note, found: found.into(), next: Some(next.into()) }
    }

    /// Somebody has to do something.
    pub fn wrong(check: &'static str, found: impl Into<String>, next: impl Into<String>) -> Self {
        Self { check, state: State::Wrong, found: found.into(), next: Some(next.into()) }
    }

    /// It could not be looked at.
    pub fn unknown(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, state: State::Unknown, found: found.into(), next: None }
    }

    /// An error of ours, whose words end with the way out after a semicolon.
    fn of_error(check: &'static str, error: &impl std::fmt::Display) -> Self {
        let text = error.to_string();
        match text.split_once("; ") {
            Some((found, next)) => Self::wrong(check, found, next),
            None => Self::wrong(check, text, "see docs/operations.md; keep the directory as it is"),
        }
    }
}

/// Which node a directory is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A till.
    Till,
    /// The hub.
    Hub,
}

/// What the node of the directory says, if it runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// No process holds the directory.
    Stopped,
    /// A process holds the directory and does not answer.
    Silent(String),
    /// It runs and answers.
    Running(Answers),
}

/// What a running node answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answers {
    /// Its process.
    pub pid: u32,
    /// Address of its API.
    pub http: String,
    /// Address for tills (a hub's).
    pub quic: Option<String>,
    /// The version that runs.
    pub software: Option<String>,
    /// A till: `/v1/status`; a hub: `/v1/stores`.
    pub status: Value,
    /// A hub: `/v1/terminals`.
    pub terminals: Value,
    /// A hub: `/v1/alarms`.
    pub alarms: Value,
    /// Its storage failed, and it refuses every write until it is started again.
    pub poisoned: bool,
}

/// Where a stopped node would listen.
#[derive(Debug, Clone)]
pub struct Addresses {
    /// HTTP.
    pub http: String,
    /// QUIC (a hub's).
    pub listen: String,
}

/// Which node a directory is of; the error says why it is of none.
///
/// # Errors
/// A finding: there is no directory, or no node in it.
pub fn role_of(dir: &Path) -> Result<Role, Finding> {
    directory::role_of(dir)
}

/// Looks at everything there is to look at.
#[must_use]
pub fn examine(dir: &Path, role: Role, node: &Node, at: &Addresses) -> Vec<Finding> {
    let mut found = vec![running(node)];
    let opens = directory::key(dir, &mut found);
    directory::files(dir, &mut found);
    machine::disk(dir, node, &mut found);
    machine::clock(dir, node, &mut found);
    machine::ports(role, node, at, &mut found);
    if !opens {
        found.push(Finding::unknown("certificate", "it is in the encrypted directory, which did not open"));
        return found;
    }
    let told = directory::told(dir, role, node, &mut found);
    match role {
        Role::Till => {
            let identity = papers::of_till(dir, &mut found);
            company::hub_of_till(dir, identity, node, &mut found);
            company::contact(node, told.as_ref(), &mut found);
            company::waiting(node, told.as_ref(), &mut found);
        }
        Role::Hub => {
            papers::of_hub(dir, &mut found);
            company::tills_of_hub(node, &mut found);
        }
    }
    company::versions(role, node, &mut found);
    company::alarms(role, node, &mut found);
    found
}

fn running(node: &Node) -> Finding {
    match node {
        Node::Stopped => Finding::well("node", "not running; what needs a running node was not asked"),
        Node::Silent(reason) => Finding::wrong(
            "node",
            format!("a process holds the directory and does not answer: {reason}"),
            "wait if it has just been started or another command works on the directory; otherwise look at its log \
             lines (journalctl -u tillsync-till or tillsync-hub) and restart it",
        ),
        Node::Running(answers) if answers.poisoned => Finding::wrong(
            "node",
            format!("process {} runs, but its storage failed: it refuses every write", answers.pid),
            "look at the disk first (journalctl -k, smartctl); if it is whole, restart the node",
        ),
        Node::Running(answers) => Finding::well("node", format!("process {} runs and answers", answers.pid)),
    }
}

/// A span in the unit that matters.
fn age(seconds: u64) -> String {
    let (number, unit) = match seconds {
        0..60 => (seconds, "second"),
        60..7_200 => (seconds / 60, "minute"),
        7_200..172_800 => (seconds / 3_600, "hour"),
        _ => (seconds / 86_400, "day"),
    };
    format!("{number} {unit}{}", if number == 1 { "" } else { "s" })
}

/// Seconds since a time of ours in text, none if it is no time or lies ahead.
fn seconds_since(text: &Value) -> Option<u64> {
    let at: jiff::Timestamp = text.as_str()?.parse().ok()?;
    u64::try_from(crate::runtime::clock::now_ms().saturating_sub(at.as_millisecond()) / 1_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_ours_is_taken_apart_into_what_is_wrong_and_what_to_do() {
        let finding = Finding::of_error("key", &"unlocking /d failed: no key; give it with --key-file");
        assert_eq!(finding.found, "unlocking /d failed: no key");
        assert_eq!(finding.next.as_deref(), Some("give it with --key-file"));
    }

    #[test]
    fn spans_are_told_in_the_unit_that_matters() {
        for (seconds, told) in [(1, "1 second"), (119, "1 minute"), (7_200, "2 hours"), (400_000, "4 days")] {
            assert_eq!(age(seconds), told);
        }
    }

    #[test]
    fn a_node_that_is_silent_or_whose_storage_failed_is_wrong() {
        assert_eq!(running(&Node::Silent("nobody answers".into())).state, State::Wrong);
        let poisoned = Answers { poisoned: true, ..Answers::default() };
        assert_eq!(running(&Node::Running(poisoned)).state, State::Wrong);
        assert_eq!(running(&Node::Running(Answers::default())).state, State::Well);
    }
}
