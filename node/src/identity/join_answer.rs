//! The words of the join conversation that both sides and their callers need: who asks, what is granted, why
//! it is refused, and how it failed. Data only; the conversation itself is in `enrolment.rs`.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::enrolled::base64;
use super::{JoinSecret, PublicKey};

/// The place that the hub gives a till.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Store of the till.
    pub store: String,
    /// Its name there.
    pub terminal: String,
    /// 1 for the till's first key, one more for each reinstallation.
    pub incarnation: u64,
    /// IANA time zone of the store.
    pub time_zone: String,
    /// ISO 4217 currency of the store.
    pub currency: String,
    /// Whatever else the hub wants its till to know; with the rest it must fit in [`JOIN_MESSAGE_LIMIT`].
    #[serde(with = "base64", default)]
    pub extra: Vec<u8>,
}

/// Why a hub does not let a device in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Refusal {
    /// No invitation has this secret.
    #[error(
        "the hub does not know this join code; it was withdrawn or belongs to another hub: make a new one with `tillsync hub enroll`"
    )]
    Unknown,
    /// Too late.
    #[error("the join code has expired; make a new one with `tillsync hub enroll`")]
    Expired,
    /// Another device was faster.
    #[error("the join code was used by another device; make a new one, and look into who used the old one")]
    Used,
    /// The terminal is taken or revoked, the store is closed, and so on.
    #[error("the hub does not allow it: {detail}")]
    NotAllowed {
        /// In the hub's words.
        detail: String,
    },
    /// Too many wrong codes.
    #[error("too many wrong join codes; wait {seconds} s and try again")]
    TooManyAttempts {
        /// How long to wait.
        seconds: u64,
    },
    /// All seats are taken.
    #[error("the hub is busy with other devices; try again in a few seconds")]
    Busy,
    /// The question was not understood.
    #[error("the hub did not understand this device ({detail}); update both to the same version")]
    Malformed {
        /// What was wrong.
        detail: String,
    },
    /// The hub itself failed; the code is still good.
    #[error("the hub could not do it ({detail}); try again, then look at the hub's log")]
    HubFailed {
        /// What happened.
        detail: String,
    },
    /// A reason that only newer hubs know.
    #[serde(other)]
    #[error("the hub refused for a reason that this version does not know; update this device")]
    Unrecognised,
}

/// Why joining failed, at the till.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The hub said no.
    #[error("cannot join: {0}")]
    Refused(#[from] Refusal),
    /// Nobody answered.
    #[error(
        "cannot join: no hub reached at {address} ({reason}); check the address, the network and UDP port, or give --hub HOST:PORT"
    )]
    Unreachable {
        /// Where we dialled.
        address: String,
        /// What happened.
        reason: String,
    },
    /// Somebody answered, but not the hub of the code.
    #[error(
        "cannot join: {address} is not the hub that made this code ({reason}); nothing was sent to it. Check the address; if it is right, somebody may be in between"
    )]
    WrongHub {
        /// Where we dialled.
        address: String,
        /// How we know.
        reason: String,
    },
    /// The company's hubs are there, and none of those asked enrols now.
    #[error(
        "cannot join: {address} answered, and which hub of the company enrols is being settled; try the same code again in some seconds"
    )]
    Elsewhere {
        /// Who said so last.
        address: String,
    },
    /// The conversation broke off.
    #[error("cannot join: the conversation broke off ({0}); try the same code again on this device")]
    Broken(String),
    /// The hub's answer does not fit.
    #[error("cannot join: the hub's answer does not fit ({0}); make a new code, and check the hub")]
    BadAnswer(String),
}

/// A device that asks to be let in, after it proved that it owns its key.
#[derive(Debug, Clone)]
pub struct Applicant {
    /// What it knows.
    pub secret: JoinSecret,
    /// Its name from now on.
    pub public_key: PublicKey,
    /// What it calls itself; for people, not to be trusted.
    pub label: String,
    /// Where it is.
    pub remote: SocketAddr,
}

/// What [`Decide`] gives back.
pub type Decision = Pin<Box<dyn Future<Output = Result<Grant, Refusal>> + Send>>;
/// The hub's judgement. It must have marked the code as used, durably, before it says yes, and should give the
/// same grant again to the same key (the first answer may have been lost): see
/// [`PendingJoin::check`](super::PendingJoin::check).
pub type Decide = Arc<dyn Fn(Applicant) -> Decision + Send + Sync>;

/// How a join conversation ended, for the hub's audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinOutcome {
    /// A till was let in and its certificate sent.
    Granted {
        /// The new till's key.
        public_key: PublicKey,
        /// Its store.
        store: String,
        /// Its name there.
        terminal: String,
    },
    /// It was not.
    Refused(Refusal),
    /// The conversation broke off before an answer.
    Broken(String),
}
