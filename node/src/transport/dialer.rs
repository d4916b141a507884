//! Keeps one link to a peer alive for ever: search it, hand the link over, and when it ends, wait and search again.
//!
//! A wait ends early when the network changed ([`super::network`]) or when a peer that was silent answers a
//! [`knock`]. Only the change from silent to answering counts: a hub that answers knocks but refuses us, or drowns in
//! handshakes, must not be dialled every two seconds by every till. It never gives up and never decides whether a
//! link is needed; stop it through `shutdown`.
//!
//! A hub that gives the till's store to another one closes the link with
//! [`ELSEWHERE`](super::close_code::ELSEWHERE): then there is no wait, or only a breath of one.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep, sleep_until};

use crate::identity::{HubAddress, HubList, PublicKey, Role};

use super::endpoint::Endpoint;
use super::leisure::unanswered;
use super::link::{Link, LinkControl};
use super::quic::End;
use super::search::{HOPS_MAX, Known, search};
use super::{Backoff, close_code, knock, network};

/// A link that lived this long was a good one: the next wait is a first one again.
const GOOD_LINK: Duration = Duration::from_secs(10);
/// After an answered knock, each till waits a random part of this.
const KNOCK_SPREAD: Duration = Duration::from_millis(500);
/// A till whose store is changing hands asks again after this on average: from half of it to one and a half.
pub(super) const BREATH: Duration = Duration::from_secs(1);

/// Whom to dial, and how patiently.
#[derive(Debug, Clone)]
pub struct DialPlan {
    /// Where the peer may be; read anew at every search.
    pub addresses: HubList,
    /// What the peer must prove to be.
    pub role: Role,
    /// Whom the peer must prove to be; `None`: any node of the company with that role.
    pub peer: Option<PublicKey>,
    /// How long to wait between searches.
    pub backoff: Backoff,
    /// How often to knock while waiting.
    pub knock_every: Duration,
    /// How often to look at the local network while waiting.
    pub look_every: Duration,
}

impl DialPlan {
    /// The usual patience.
    #[must_use]
    pub fn new(addresses: HubList, role: Role, peer: Option<PublicKey>) -> Self {
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
    /// Another hub of the company has this till's store: nothing is wrong, the till goes there.
    Moved {
        /// Where it is, if that is known.
        to: Option<HubAddress>,
    },
    /// The link is dialled anew because of how long the hub lets links rest.
    Paced {
        /// Whether the next one rests.
        rests: bool,
    },
    /// The next search is this far away, unless something happens first.
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
    let known = Known { first: None, reached: Vec::new(), silent: true };
    let mut dialer = Dialer { endpoint, plan, links, events, known, sent_on: 0 };
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
    known: Known,
    /// Links in a row that a hub ended soon, sending us on.
    sent_on: usize,
}

/// What comes after a link.
enum Next {
    Search,
    Breathe,
    BackOff,
}

impl Dialer {
    async fn run(&mut self) {
        while !self.links.is_closed() {
            // Taken before the dials, so that a change during them is not lost.
            let network = network::signature();
            let search = search(&self.endpoint, &self.plan, &self.events, &mut self.known);
            let link = tokio::select! {
                link = search => link,
                () = self.links.closed() => return,
            };
            let next = match link {
                None => Next::BackOff,
                Some(link) => {
                    let (control, since) = (link.control(), Instant::now());
                    if self.links.send(link).await.is_err() {
                        return;
                    }
                    self.watch(&control, since).await
                }
            };
            let wait = match next {
                Next::Search => continue,
                Next::Breathe => breath(BREATH, rand::random()),
                Next::BackOff => self.plan.backoff.next_wait(rand::random()),
            };
            self.wait(network, wait).await;
        }
    }

    /// Until the link ends, or has to; what comes then.
    async fn watch(&mut self, control: &LinkControl, since: Instant) -> Next {
        let end = tokio::select! {
            end = control.closed() => end,
            () = unanswered(control) => {
                control.close(close_code::STALLED, "no answer");
                End::TimedOut
            }
            rests = self.other_pace(control) => {
                control.close(close_code::DONE, "dialled anew at another pace");
                (self.events)(DialEvent::Paced { rests });
                return Next::Search;
            }
        };
        if let (Some((pace, _)), Some(leisure)) = (self.endpoint.pace(), control.leisure()) {
            pace.ended(leisure, end == End::TimedOut, since.elapsed());
        }
        self.after(&end, since.elapsed())
    }

    /// Until another link must take the place of this one; whether that one rests.
    async fn other_pace(&self, control: &LinkControl) -> bool {
        let Some((pace, leisure)) = self.endpoint.pace() else { return pending().await };
        let rests = control.leisure().is_some();
        pace.changes(leisure, rests).await;
        !rests
    }

    /// What the end of a link that lived so long tells.
    fn after(&mut self, end: &End, lived: Duration) -> Next {
        let code = match end {
            End::Peer { code, .. } => u32::try_from(*code).ok(),
            _ => None,
        };
        let (ousted, recalled) = (code == Some(close_code::REPLACED), code == Some(close_code::RENEW));
        // Whoever sends us away is there: its answer to a knock is no news.
        self.known.silent = code.is_none_or(|code| code == close_code::DONE);
        let good = lived >= GOOD_LINK && !ousted;
        // A cloned device would otherwise fight its double once a second.
        if recalled || good {
            self.plan.backoff.reset();
        }
        let Some(hub) = end.elsewhere() else {
            self.sent_on = 0;
            (self.events)(DialEvent::Lost { reason: end.to_string() });
            return Next::BackOff;
        };
        (self.events)(DialEvent::Moved { to: hub.clone() });
        // Two hubs that each let us in and send us to the other are not followed for ever.
        self.sent_on = if good { 1 } else { self.sent_on + 1 };
        if self.sent_on > HOPS_MAX {
            return Next::BackOff;
        }
        match hub {
            None => Next::Breathe,
            Some(hub) => {
                self.known.first = Some(hub);
                Next::Search
            }
        }
    }

    /// Until the wait is over, the network changed since `network`, or a silent peer answers.
    async fn wait(&mut self, network: u64, wait: Duration) {
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
        let Known { reached, silent, .. } = &mut self.known;
        let woken = tokio::select! {
            () = sleep_until(Instant::now() + wait) => None,
            () = changed => Some("the network changed"),
            () = heard(reached, self.plan.knock_every, silent) => Some("the peer answers again"),
            () = self.links.closed() => None,
        };
        if let Some(reason) = woken {
            (self.events)(DialEvent::Woken { reason });
            if reason == "the network changed" {
                self.plan.backoff.reset();
                self.known.silent = true;
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

/// Half of `pace`, and a random part of it.
pub(super) fn breath(pace: Duration, random: u32) -> Duration {
    pace / 2 + part_of(pace, random)
}

/// `whole · random / 2³²`, in integers.
fn part_of(whole: Duration, random: u32) -> Duration {
    let nanos = (whole.as_nanos() * u128::from(random)) >> 32;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
