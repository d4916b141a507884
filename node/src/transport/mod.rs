//! How nodes reach each other: QUIC with mutual TLS, one connection a peer, one control stream of frames.
//!
//! A peer is named by the ed25519 public key of its verified certificate, never by its address (tills roam).
//! This room moves frames and keeps links alive; it never looks into a frame, never decides what a peer may see,
//! and knows nothing of the engine. Exactly one file, `quic.rs`, names the QUIC library.
//!
//! ```text
//! dialer ─► search ─► endpoint ─► link        listener (inside endpoint) ─► link, join desk
//!    │                    └────────┴──► quic ─► tls ─► identity
//!    └► backoff, knock, network, leisure
//! ```

mod backoff;
mod dialer;
mod endpoint;
mod hubs;
mod join;
mod knock;
mod leisure;
mod link;
mod listener;
mod network;
mod papers;
mod probe;
mod quic;
mod registry;
mod search;
mod tls;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

pub use backoff::Backoff;
pub use dialer::{DialEvent, DialEvents, DialPlan, keep_connected};
pub use endpoint::{Counters, DialError, Endpoint, Linked};
pub use hubs::{HubLine, HubStream};
pub use join::join;
pub use knock::knock;
pub use leisure::Leisure;
pub use link::{
    FRAME_LIMIT, Link, LinkControl, LinkError, LinkReceiver, LinkSender, LinkStats, QUEUE_BYTES, QUEUE_FRAMES,
};
pub use papers::Keeper;
pub use probe::probe;
pub use quic::End;

use crate::identity::{JoinOutcome, PublicKey};

/// ALPN of links between nodes.
pub const ALPN_LINK: &[u8] = b"tillsync/1";
/// ALPN of links whose frames may also be short batches: what nodes offer first and take where the other knows it.
pub const ALPN_LINK_SHORT: &[u8] = b"tillsync/2";
/// Both, what is liked better first.
const ALPN_LINKS: &[&[u8]] = &[ALPN_LINK_SHORT, ALPN_LINK];
/// ALPN of join conversations.
pub const ALPN_JOIN: &[u8] = b"tillsync-join/1";

/// ALPN of connections that renew a certificate and do nothing else.
pub const ALPN_RENEW: &[u8] = b"tillsync-renew/1";

/// ALPN of connections between hubs of one company.
pub const ALPN_HUBS: &[u8] = b"tillsync-hubs/1";

/// Codes with which a connection is closed, part of the wire.
pub mod close_code {
    /// Nothing is wrong: the work is done, or the node stops.
    pub const DONE: u32 = 0;
    /// Only join conversations go without a certificate.
    pub const NO_CERTIFICATE: u32 = 1;
    /// A newer connection of the same certificate took over.
    pub const REPLACED: u32 = 2;
    /// The certificate is in order, but its owner may not connect (revoked, unknown).
    pub const NOT_ADMITTED: u32 = 3;
    /// What was said is not the protocol.
    pub const PROTOCOL: u32 = 4;
    /// Started something and did not go on.
    pub const STALLED: u32 = 5;
    /// No room for more connections.
    pub const FULL: u32 = 6;
    /// The certificate has ended, or its authority was replaced: renew it, then come again.
    pub const RENEW: u32 = 7;
    /// Another hub of the company has this till's store: the reason is its `host:port`, or empty when it is not known now.
    pub const ELSEWHERE: u32 = 8;
}

/// What can be set from outside.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The dialling side says something at least this often.
    pub keep_alive: Duration,
    /// After this long without a word the peer is gone. A till notices the silent death of its hub at the latest after this
    /// and `keep_alive`, because its own next word begins the time anew.
    pub idle: Duration,
    /// Longest a dial may take.
    pub connect: Duration,
    /// Connections held at the same time.
    pub connections_max: usize,
    /// Handshake and preface must both be done within this.
    pub handshake: Duration,
    /// With more handshakes open than this, a caller must first prove its address (one round trip more).
    pub handshakes_before_retry: usize,
    /// How a link may rest whose hub is the only one.
    pub leisure: Leisure,
}

impl Settings {
    /// Of a hub that serves its company alone, and of links to it: with nobody else to go to, a till gains nothing by knowing
    /// within seconds that its hub is silent.
    #[must_use]
    pub fn at_leisure(self) -> Self {
        Self { keep_alive: self.leisure.keep_alive, idle: self.leisure.idle(), ..self }
    }
}

impl Default for Settings {
    /// For a company with several hubs. A till has to be served again ten seconds after its hub died, by another that needs six to take its store over: so it
    /// must notice within six and a half. Lost datagrams cut no link, because QUIC repeats an unanswered word at doubling
    /// distances, six times or so in five seconds; a silence of less than two and a half seconds (a Wi-Fi client that
    /// changes its access point) never does. One that is longer may, which costs a dial of two round trips.
    fn default() -> Self {
        Self {
            keep_alive: Duration::from_millis(1_500),
            idle: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            handshake: Duration::from_secs(10),
            connections_max: 4096,
            handshakes_before_retry: 64,
            leisure: Leisure::default(),
        }
    }
}

/// What happens at a listening endpoint, for the sync-event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A peer connected.
    Accepted {
        /// Its name.
        peer: PublicKey,
        /// Where it is.
        remote: SocketAddr,
    },
    /// A peer connected again, its older connection was closed.
    Replaced {
        /// Its name.
        peer: PublicKey,
        /// Where the newer connection comes from.
        remote: SocketAddr,
        /// Where the older one came from.
        older: SocketAddr,
    },
    /// A peer's connection ended.
    Ended {
        /// Its name.
        peer: PublicKey,
        /// Why.
        reason: String,
    },
    /// Somebody was not let in: foreign or no certificate, not admitted, no room, broken handshake.
    Rejected {
        /// Where it is.
        remote: SocketAddr,
        /// Why.
        reason: String,
    },
    /// Two processes use one key: an instance came back after another had followed it.
    Cloned {
        /// The key.
        peer: PublicKey,
        /// Where the one that came back is.
        remote: SocketAddr,
    },
    /// A peer asked for papers and got a new certificate.
    Renewed {
        /// Its name.
        peer: PublicKey,
        /// When the new certificate ends, seconds since 1970.
        ends: u64,
        /// Whether the old one had ended.
        ended: bool,
    },
    /// A join conversation ended.
    Join {
        /// Where the device is.
        remote: SocketAddr,
        /// How it ended.
        outcome: JoinOutcome,
    },
}

/// Where events go; called from network tasks, so it must return at once.
pub type EventSink = Arc<dyn Fn(Event) + Send + Sync>;
/// Whether the owner of a valid certificate may connect here.
pub type Admit = Arc<dyn Fn(&PublicKey) -> Result<(), NotHere> + Send + Sync>;

/// Why the owner of a valid certificate gets no link at this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotHere {
    /// It may not connect at all; the text says why.
    Refused(String),
    /// Another hub of the company has its store: that one's `host:port`, if it is known. It may still renew its papers here,
    /// because all hubs of a company share the authority.
    Elsewhere(Option<String>),
}
