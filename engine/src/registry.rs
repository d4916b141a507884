//! Which key writes which log: learned from the hub's enrolments, in whatever order they arrive.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{LogId, TerminalId, WriterId};
use crate::transaction::Enrolment;

/// The writers of a store.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Registry {
    hub: WriterId,
    writers: BTreeMap<WriterId, LogId>,
}

impl Registry {
    /// A registry that knows the hub only.
    #[must_use]
    pub fn new(hub: WriterId) -> Self {
        let hub_log = LogId { terminal: TerminalId::hub(), incarnation: 1 };
        Self { hub, writers: BTreeMap::from([(hub, hub_log)]) }
    }

    /// The hub's key.
    #[must_use]
    pub fn hub(&self) -> WriterId {
        self.hub
    }

    /// Takes an enrolment from the hub's log in.
    pub fn enrol(&mut self, enrolment: &Enrolment) {
        if enrolment.writer != self.hub && !enrolment.log.terminal.is_hub() {
            self.writers.insert(enrolment.writer, enrolment.log.clone());
        }
    }

    /// The log that a key writes.
    #[must_use]
    pub fn log_of(&self, writer: &WriterId) -> Option<&LogId> {
        self.writers.get(writer)
    }

    /// The key that writes a log.
    #[must_use]
    pub fn writer_of(&self, log: &LogId) -> Option<WriterId> {
        self.writers.iter().find(|(_, known)| *known == log).map(|(writer, _)| *writer)
    }

    /// Highest incarnation of a terminal so far; 0 if it was never enrolled.
    #[must_use]
    pub fn incarnation(&self, terminal: &TerminalId) -> u32 {
        let of_terminal = self.writers.values().filter(|log| log.terminal == *terminal);
        of_terminal.map(|log| log.incarnation).max().unwrap_or(0)
    }

    /// Every writer with its log.
    pub fn writers(&self) -> impl Iterator<Item = (WriterId, &LogId)> {
        self.writers.iter().map(|(writer, log)| (*writer, log))
    }
}
