//! Who a node is: its key, the company's certificate authority, and how a new till is let in.
//!
//! A node is named by its 32-byte ed25519 public key. The same key signs the node's batches and proves its
//! TLS identity, so the owner of a log and the peer of a connection cannot be two different things. This room
//! knows keys, certificates, join codes and the join conversation over any byte stream. It never opens a
//! socket, never decides which till may join (the hub does, in `decide`), and knows nothing of the engine.

mod authority;
mod certificate;
mod enrolled;
mod enrolment;
mod files;
mod holds;
mod hub_address;
mod join_answer;
mod join_code;
mod keys;
mod papers;
mod rate;
mod reign;
mod renewal;
mod twins;

use std::path::PathBuf;

pub use authority::Authority;
pub use certificate::{
    BACKDATE_SECONDS, CertificateFacts, HUB_SERVER_NAME, LIFETIME_SECONDS, Role, TILL_SERVER_NAME,
    TrustClock, facts, inside_life, verify_chain, verify_under,
};
pub use enrolled::Enrolment;
pub use enrolment::{Enrols, JOIN_DEADLINE, JOIN_MESSAGE_LIMIT, JOIN_SEATS, JoinDesk, ask_to_join};
pub use holds::Holds;
pub use hub_address::{HUBS_MAX, HubAddress, HubList, each_once};
pub use join_answer::{Applicant, Decide, Decision, Grant, JoinError, JoinOutcome, Refusal};
pub use join_code::{CaFingerprint, JoinCode, JoinCodeError, JoinSecret, PendingJoin, Verdict};
pub use keys::NodeKey;
pub use papers::{Identity, Papers};
pub use rate::{AddressGate, JoinGate, TokenBucket};
pub use reign::{Former, Reign, Terms};
pub use renewal::{RENEW_DEADLINE, Reply, Standing, accept_reply, answer_renewal, ask_for_papers};
pub use twins::{Instance, Twins};

/// A node's name: its ed25519 public key.
pub type PublicKey = [u8; 32];

/// Why a key, a certificate or an enrolment could not be made, kept or read.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The disk said no.
    #[error("cannot {operation} {}: {source}; check that the data directory exists, is writable and has space", path.display())]
    Disk {
        /// What was tried.
        operation: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the operating system answered.
        source: std::io::Error,
    },
    /// The file is there, but not what it should be.
    #[error("{} is not usable: {reason}; restore it from a backup, or enrol this device anew in an empty data directory", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Overwriting would destroy an identity.
    #[error("{} exists already and is never overwritten; use another data directory, or move the old one away", .0.display())]
    Exists(PathBuf),
    /// The directory is encrypted and cannot be unlocked, or the file is not what was encrypted.
    #[error(transparent)]
    Vault(#[from] crate::storage::VaultError),
    /// The manifest of the directory could not be written, or is of a newer format.
    #[error(transparent)]
    Manifest(#[from] crate::storage::StorageError),
    /// A certificate could not be made or does not fit.
    #[error("cannot {operation}: {reason}")]
    Certificate {
        /// What was tried.
        operation: &'static str,
        /// Why it failed.
        reason: String,
    },
}

/// The system clock in whole seconds since 1970; 0 for a clock that is set before that.
#[must_use]
pub fn system_seconds() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
