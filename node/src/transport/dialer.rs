//! Keeps one link to a peer alive for ever: dial, hand the link over, and when it ends, wait and dial again.
//!
//! A wait ends early when the network changed ([`super::network`]) or when a peer that was silent answers a
//! [`knock`]. Only the change from silent to answering counts: a hub that answers knocks but refuses us, or drowns in
//! handshakes, must not be dialled every two seconds by every till. It never gives up and never decides whether a
//! link is needed; stop it through `shutdown`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep, sleep_until};

use crate::identity::{PublicKey, Role};

use super::endpoint::{DialError, Endpoint};
use super::link::Link;
use super::quic::End;
use super::{Backoff, close_code, knock, network};

/// Addresses dialled of all that the names resolve to.
const ADDRESS_LIMIT: usize = 8;
/// Longest the resolver may take.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// A link that lived this long was a good one: the next wait is a first one again.
const GOOD_LINK: Duration = Duration::from_secs(10);
/// After an answered knock, each till waits a random part of this.
const KNOCK_SPREAD: Duration = Duration::from_millis(500);

/// Whom to dial, and how patiently.
#[derive(Debug, Clone)]
pub struct DialPlan {
    /// `host:port` texts, in the order of preference; resolved at every attempt.
    pub addresses: Vec<String>,
    /// What the peer must prove to be.
    pub role: Role,
    /// Whom the peer must prove to be; `None`: any node of the company with that role.
    pub peer: Option<PublicKey>,
    /// How long to wait between dials.
    pub backoff: Backoff,
    /// How often to knock while waiting.
    pub knock_every: Duration,
    /// How often to look at the local network while waiting.
    pub look_every: Duration,
}

impl DialPlan {
    /// The usual patience.
    #[must_use]
    pub fn new(addresses: Vec<String>, role: Role, peer: Option<PublicKey>) -> Self {
        Self {
            addresses,
            role,
            peer,
            backoff: Backoff::default(),
            knock_every: Duration::from_secs(2),
            look_every: Duration::from_secs(1),
        }
    }
}

/// What the dialer does, for the sync-event log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DialEvent {
    /// A dial begins.
    Connecting {
        /// Where.
        address: SocketAddr,
    },
    /// The link is up and the peer has admitted us.
    Connected {
        /// The peer's name.
        peer: PublicKey,
        /// Where.
        address: SocketAddr,
    },
    /// The link ended.
    Lost {
        /// Why.
        reason: String,
    },
    /// Nobody answered, or the name has no address.
    Failed {
        /// Why.
        reason: String,
    },
    /// Somebody answered, but the two do not accept each other; a person may have to look.
    Refused {
        /// Why.
        reason: String,
    },
    /// The next dial is this far away, unless something happens first.
    Waiting {
        /// How long.
        wait: Duration,
    },
    /// A wait was cut short.
    Woken {
        /// By what.
        reason: &'static str,
    },
}

/// Where dialer events go; must return at once.
pub type DialEvents = Arc<dyn Fn(DialEvent) + Send + Sync>;

/// Runs until `shutdown` becomes true or its sender is gone, or nobody takes links any more.
pub async fn keep_connected(
    endpoint: Endpoint,
    plan: DialPlan,
    links: mpsc::Sender<Link>,
    events: DialEvents,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut dialer = Dialer { endpoint, plan, links, events, addresses: Vec::new(), silent: true };
    tokio::select! {
        () = dialer.run() => {}
        _ = shutdown.wait_for(|stop| *stop) => {}
    }
}

struct Dialer {
    endpoint: Endpoint,
    plan: DialPlan,
    links: mpsc::Sender<Link>,
    events: DialEvents,
    /// What the names last resolved to.
    addresses: Vec<SocketAddr>,
    /// The peer was heard to be silent since a knock last brought a dial forward.
    silent: bool,
}

impl Dialer {
    async fn run(&mut self) {
        while !self.links.is_closed() {
            // Taken before the dial, so that a change during it is not lost.
            let network = network::signature();
            if let Some(link) = self.dial().await {
                let (control, since) = (link.control(), Instant::now());
                if self.links.send(link).await.is_err() {
                    return;
                }
                let end = control.closed().await;
                let ousted = matches!(end, End::Peer { code, .. } if code == u64::from(close_code::REPLACED));
                (self.events)(DialEvent::Lost { reason: end.to_string() });
                let recalled = matches!(end, End::Peer { code, .. } if code == u64::from(close_code::RENEW));
                // Whoever sends us away is there: its answer to a knock is no news.
                self.silent = !matches!(end, End::Peer { code, .. } if code != u64::from(close_code::DONE));
                // A cloned device would otherwise fight its double once a second.
                if recalled || (since.elapsed() >= GOOD_LINK && !ousted) {
                    self.plan.backoff.reset();
                }
            }
            self.wait(network).await;
        }
    }

    async fn dial(&mut self) -> Option<Link> {
        self.resolve().await;
        for address in self.addresses.clone() {
            (self.events)(DialEvent::Connecting { address });
            match self.endpoint.dial(address, self.plan.role).await {
                Ok(link) if self.plan.peer.is_some_and(|wanted| wanted != link.peer()) => {
                    link.control().close(close_code::NOT_ADMITTED, "another node was wanted");
                    let reason = format!("{address} is another node of the company than the one wanted");
                    (self.events)(DialEvent::Refused { reason });
                }
                Ok(link) => {
                    (self.events)(DialEvent::Connected { peer: link.peer(), address });
                    return Some(link);
                }
                Err(e @ (DialError::Refused { .. } | DialError::Ended { .. })) => {
                    self.silent = false;
                    (self.events)(DialEvent::Refused { reason: e.to_string() });
                }
                Err(e @ DialError::Unreachable { .. }) => {
                    (self.events)(DialEvent::Failed { reason: e.to_string() });
                }
            }
        }
        None
    }

    /// All names at once; those that do not resolve now keep nobody waiting for long.
    async fn resolve(&mut self) {
        let mut found = Vec::new();
        for name in &self.plan.addresses {
            match tokio::time::timeout(RESOLVE_DEADLINE, tokio::net::lookup_host(name)).await {
                Ok(Ok(addresses)) => found.extend(addresses),
                Ok(Err(e)) => {
                    (self.events)(DialEvent::Failed { reason: format!("cannot resolve {name}: {e}") });
                }
                Err(_) => {
                    (self.events)(DialEvent::Failed { reason: format!("cannot resolve {name} in time") });
                }
            }
        }
        found.truncate(ADDRESS_LIMIT);
        self.addresses = found;
    }

    /// Until the backoff is over, the network changed since `network`, or a silent peer answers.
    async fn wait(&mut self, network: u64) {
        let wait = self.plan.backoff.next_wait(rand::random());
        (self.events)(DialEvent::Waiting { wait });
        let mut look = interval(self.plan.look_every);
        let changed = async {
            loop {
                look.tick().await;
                if network::signature() != network {
                    break;
                }
            }
        };
        let woken = tokio::select! {
            () = sleep_until(Instant::now() + wait) => None,
            () = changed => Some("the network changed"),
            () = heard(&self.addresses, self.plan.knock_every, &mut self.silent) => Some("the peer answers again"),
            () = self.links.closed() => None,
        };
        if let Some(reason) = woken {
            (self.events)(DialEvent::Woken { reason });
            if reason == "the network changed" {
                self.plan.backoff.reset();
                self.silent = true;
            }
        }
    }
}

/// Until a peer that had been silent answers a knock, and a random moment more.
async fn heard(addresses: &[SocketAddr], every: Duration, silent: &mut bool) {
    loop {
        let next = Instant::now() + every;
        // No network at all is silence too.
        let answered = knock(addresses, every).await.unwrap_or(false);
        if !answered {
            *silent = true;
        } else if *silent {
            *silent = false;
            let part = part_of(KNOCK_SPREAD, rand::random());
            sleep(part).await;
            return;
        }
        sleep_until(next).await;
    }
}

/// `whole · random / 2³²`, in integers.
fn part_of(whole: Duration, random: u32) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(random)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
