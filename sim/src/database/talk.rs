//! What hubs ask their database, what they are told, and what may be wrong with it: the words of `database`.

use engine::host::Line;
use engine::lease::{Held, HubName, Member};

/// What goes wrong with the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ailing {
    /// It stops, and starts again after a while: every connection ends.
    Restarts,
    /// Its standby takes over: every connection ends; of a commit on its way nobody knows whether it is there.
    FailsOver,
    /// It answers nothing for a while, then everything.
    Hangs,
    /// Its disk is full: appends are refused.
    Full,
    /// It refuses one statement in so many: two transactions crossed.
    Crosses,
    /// It loses one connection in so many statements, before or after it has done what it was asked.
    Loses,
}

impl Ailing {
    /// All of them.
    pub const ALL: &'static [Self] =
        &[Self::Restarts, Self::FailsOver, Self::Hangs, Self::Full, Self::Crosses, Self::Loses];

    /// Its name in the report.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Restarts => "database-restarts",
            Self::FailsOver => "database-fails-over",
            Self::Hangs => "database-hangs",
            Self::Full => "database-full",
            Self::Crosses => "database-crosses",
            Self::Loses => "database-loses",
        }
    }
}

/// A connection, by a number that is never used again.
pub type Connection = u64;

/// An append on its way.
#[derive(Debug, Clone)]
pub struct Group {
    /// This append and no other.
    pub id: u64,
    /// Where it begins.
    pub from: u64,
    /// Its lines, each with when its hub handed it out, true ms.
    pub lines: Vec<(i64, Line)>,
}

impl Group {
    /// Where it ends.
    #[must_use]
    pub fn to(&self) -> u64 {
        self.from + self.lines.len() as u64
    }
}

/// What a client asks.
#[derive(Debug, Clone)]
pub enum Request {
    /// To be let in.
    Connect,
    /// To be noted as a member, and what the tables of hubs and logs say.
    Look(HubName),
    /// The log, with a higher fence: where its lease is over or the asker's own (`TAKE`), or only from itself (`AGAIN`).
    Claim {
        /// The log.
        log: u16,
        /// Who asks.
        hub: HubName,
        /// Over a new connection, by who had it.
        again: bool,
    },
    /// The beginning of an append: `BEGIN`, the row moved on, the entries inserted.
    State {
        /// The log.
        log: u16,
        /// The asker's fence.
        fence: u64,
        /// What is appended.
        group: Group,
    },
    /// Its end.
    Commit,
    /// Nothing of it.
    RollBack,
    /// A longer lease, where fence and end are still these.
    Hold {
        /// The log.
        log: u16,
        /// The asker's fence.
        fence: u64,
        /// The end that it knows.
        end: u64,
    },
    /// The end of the lease.
    Release {
        /// The log.
        log: u16,
        /// The asker's fence.
        fence: u64,
    },
    /// The end of the membership.
    Leave(HubName),
    /// The end of the connection.
    Close,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// It is done.
    Done,
    /// The tables.
    Tables(Vec<Member>, Vec<Held>),
    /// The log is the asker's.
    Claimed {
        /// Its fence from now on.
        fence: u64,
        /// Where the log ends.
        end: u64,
        /// What was appended last.
        last_append: u64,
    },
    /// No row was as the statement wanted it.
    NoRow,
    /// Two transactions crossed: nothing is done, trying at once helps.
    Crossed,
    /// Nothing is done, trying later may help.
    Refused,
    /// The connection ended.
    Cut,
}

/// What follows from a statement.
#[derive(Debug)]
pub enum Told {
    /// A reply to the statement of that number.
    Reply(Connection, u64, Reply),
    /// A commit is flushed after a while: [`super::Database::flushed`].
    Flush(Connection, u64),
    /// To be looked at after so many ms: [`super::Database::overdue`].
    Later(i64, Connection, u64),
}

/// The log whose row a statement writes.
pub(super) fn log_of(request: &Request) -> Option<u16> {
    match request {
        Request::Claim { log, .. }
        | Request::State { log, .. }
        | Request::Hold { log, .. }
        | Request::Release { log, .. } => Some(*log),
        Request::Connect
        | Request::Look(_)
        | Request::Commit
        | Request::RollBack
        | Request::Leave(_)
        | Request::Close => None,
    }
}
