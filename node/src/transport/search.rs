//! One search for the peer: all its addresses are dialled, the next a moment after the one before, and the first link
//! wins. So a dead address costs a till a moment, and not the patience that a slow one deserves.
//!
//! A hub that answers [`ELSEWHERE`](super::close_code::ELSEWHERE) names the hub that has the till's store; that one is
//! dialled at once. One that names nobody, or one that is gone, is asked again about once a second: the store is being
//! taken over. The search ends with a link, or when nobody is left to be asked; how to wait then is the dialler's.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use crate::identity::{HubAddress, each_once};

use super::close_code;
use super::dialer::{BREATH, DialEvent, DialEvents, DialPlan, breath};
use super::endpoint::{DialError, Endpoint, Turn};
use super::link::Link;

/// A till is sent on so often in a row; then it waits as if nobody had answered.
pub(super) const HOPS_MAX: usize = 4;
/// From one dial to the next while none has ended: a round trip of a mobile network, so that a peer that answers is
/// mostly the only one dialled. Sixteen dead addresses cost five seconds.
const STAGGER: Duration = Duration::from_millis(300);
/// Addresses of one name that are dialled.
const ADDRESSES_MAX: usize = 8;
/// Addresses that are knocked at while the till waits.
const REACHED_MAX: usize = 64;
/// Longest the resolver may take.
const RESOLVE_DEADLINE: Duration = Duration::from_secs(5);
/// A store changes hands within seconds. When it takes longer something is wrong, and the hubs are asked less often.
const SOON: Duration = Duration::from_secs(60);
/// So often then.
const LATER: Duration = Duration::from_secs(5);

/// What is remembered from one search to the next.
pub(super) struct Known {
    /// Where to begin: who answered last, or was named by who did.
    pub(super) first: Option<HubAddress>,
    /// What the addresses resolved to.
    pub(super) reached: Vec<SocketAddr>,
    /// The peer was heard to be silent since a knock last brought a search forward.
    pub(super) silent: bool,
}

/// Searches until there is a link, or nobody left to ask.
pub(super) async fn search(
    endpoint: &Endpoint,
    plan: &DialPlan,
    events: &DialEvents,
    known: &mut Known,
) -> Option<Link> {
    let now = Instant::now();
    known.reached.clear();
    let mut search = Search {
        endpoint,
        plan,
        events,
        known,
        turn: Turn::default(),
        attempts: JoinSet::new(),
        under_way: BTreeSet::new(),
        line: BTreeMap::new(),
        seen: 0,
        next: now,
        again: None,
        began: now,
        astray: false,
        told: None,
    };
    search.run().await
}

struct Search<'a> {
    endpoint: &'a Endpoint,
    plan: &'a DialPlan,
    events: &'a DialEvents,
    known: &'a mut Known,
    turn: Turn,
    attempts: JoinSet<Done>,
    /// What `attempts` are about, so that nothing is tried twice at a time.
    under_way: BTreeSet<Attempt>,
    /// Who is dialled next, by the place of its name and the order in which it was found.
    line: BTreeMap<(usize, usize), (SocketAddr, Way)>,
    seen: usize,
    /// When the next in line is dialled.
    next: Instant,
    /// When the hubs that answered are asked again.
    again: Option<Instant>,
    began: Instant,
    /// We were sent on too often: whoever answered is not asked again in this search.
    astray: bool,
    /// The last that was told of where the store is.
    told: Option<Option<HubAddress>>,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Attempt {
    Resolve(HubAddress),
    Dial(SocketAddr),
}

enum Done {
    Resolved(usize, Way, Result<Vec<SocketAddr>, String>),
    Dialled(SocketAddr, Way, Box<Dialled>),
}

type Dialled = Result<(Link, OwnedMutexGuard<()>), DialError>;

/// How we come to an address.
#[derive(Clone)]
struct Way {
    name: HubAddress,
    /// How often we were sent on in a row.
    hops: usize,
}

impl Search<'_> {
    async fn run(&mut self) -> Option<Link> {
        self.line_up();
        while !(self.line.is_empty() && self.attempts.is_empty() && self.again.is_none()) {
            let again = self.again.unwrap_or(self.next);
            tokio::select! {
                () = sleep_until(self.next), if !self.line.is_empty() => self.dial_next(),
                () = sleep_until(again), if self.again.is_some() => {
                    self.again = None;
                    self.line_up();
                }
                Some(done) = self.attempts.join_next(), if !self.attempts.is_empty() => {
                    match done.expect("an attempt does not panic") {
                        Done::Resolved(place, way, found) => self.resolved(place, &way, found),
                        Done::Dialled(address, way, dialled) => {
                            self.under_way.remove(&Attempt::Dial(address));
                            if let Some(link) = self.dialled(address, way, *dialled) {
                                return Some(link);
                            }
                        }
                    }
                }
            }
        }
        None
    }

    /// All addresses, the one to begin with first. The others begin at a random one, so that a dead hub's tills do not
    /// all come to the same survivor to be sent on.
    fn line_up(&mut self) {
        let mut names = self.plan.addresses.get();
        if !names.is_empty() {
            let by = rand::random_range(0..names.len());
            names.rotate_left(by);
        }
        let names = each_once(self.known.first.clone().into_iter().chain(names));
        self.next = Instant::now() + STAGGER;
        for (place, name) in names.into_iter().enumerate() {
            self.find(place, Way { name, hops: 0 });
        }
    }

    /// The one at place 0 is dialled as soon as its name is resolved.
    fn find(&mut self, place: usize, way: Way) {
        if let Ok(address) = way.name.as_str().parse() {
            return self.found(place, &way, vec![address]);
        }
        if self.under_way.insert(Attempt::Resolve(way.name.clone())) {
            self.attempts.spawn(async move {
                let name = way.name.as_str();
                let found = match timeout(RESOLVE_DEADLINE, tokio::net::lookup_host(name)).await {
                    Ok(Ok(addresses)) => Ok(addresses.take(ADDRESSES_MAX).collect()),
                    Ok(Err(e)) => Err(format!("cannot resolve {name}: {e}")),
                    Err(_) => Err(format!("cannot resolve {name} in time")),
                };
                Done::Resolved(place, way, found)
            });
        }
    }

    fn resolved(&mut self, place: usize, way: &Way, found: Result<Vec<SocketAddr>, String>) {
        self.under_way.remove(&Attempt::Resolve(way.name.clone()));
        match found {
            Ok(addresses) => self.found(place, way, addresses),
            Err(reason) => {
                (self.events)(DialEvent::Failed { reason });
                self.next = Instant::now();
            }
        }
    }

    fn found(&mut self, place: usize, way: &Way, addresses: Vec<SocketAddr>) {
        if place == 0 {
            self.next = Instant::now();
        }
        for address in addresses {
            let reached = &mut self.known.reached;
            if reached.len() < REACHED_MAX && !reached.contains(&address) {
                reached.push(address);
            }
            let waits = self.line.iter().find(|(_, (waiting, _))| *waiting == address).map(|(at, _)| *at);
            match waits {
                Some(_) if place > 0 => continue,
                Some(at) => drop(self.line.remove(&at)),
                None => {}
            }
            self.line.insert((place, self.seen), (address, way.clone()));
            self.seen += 1;
        }
    }

    fn dial_next(&mut self) {
        let Some((_, (address, way))) = self.line.pop_first() else { return };
        if !self.under_way.insert(Attempt::Dial(address)) {
            return;
        }
        (self.events)(DialEvent::Connecting { address });
        let (endpoint, role, turn) = (self.endpoint.clone(), self.plan.role, self.turn.clone());
        self.attempts.spawn(async move {
            let dialled = endpoint.dial_in_turn(address, role, &turn).await;
            Done::Dialled(address, way, Box::new(dialled))
        });
        self.next = Instant::now() + STAGGER;
    }

    fn dialled(&mut self, address: SocketAddr, way: Way, dialled: Dialled) -> Option<Link> {
        match dialled {
            Ok((link, _)) if self.plan.peer.is_some_and(|wanted| wanted != link.peer()) => {
                link.control().close(close_code::NOT_ADMITTED, "another node was wanted");
                let reason = format!("{address} is another node of the company than the one wanted");
                (self.events)(DialEvent::Refused { reason });
            }
            Ok((link, turn)) => {
                // Before another dial that is under way has the turn.
                self.attempts.abort_all();
                drop(turn);
                (self.events)(DialEvent::Connected { peer: link.peer(), address });
                self.known.first = Some(way.name);
                return Some(link);
            }
            Err(DialError::Elsewhere { hub, .. }) => {
                self.known.silent = false;
                self.sent_on(hub, way.hops);
                self.known.first = Some(way.name);
                return None;
            }
            Err(e @ (DialError::Refused { .. } | DialError::Ended { .. })) => {
                self.known.silent = false;
                (self.events)(DialEvent::Refused { reason: e.to_string() });
            }
            Err(e @ DialError::Unreachable { .. }) => {
                (self.events)(DialEvent::Failed { reason: e.to_string() });
            }
        }
        self.next = Instant::now();
        None
    }

    /// A hub to which we came by so many hops has said that another one has the store.
    fn sent_on(&mut self, hub: Option<HubAddress>, hops: usize) {
        if self.told.as_ref() != Some(&hub) {
            (self.events)(DialEvent::Moved { to: hub.clone() });
            self.told = Some(hub.clone());
        }
        if hub.is_some() && hops >= HOPS_MAX {
            // They disagree. What is under way may still find somebody.
            self.astray = true;
            self.again = None;
            return;
        }
        if !self.astray {
            // Even where one is named: it may be the one that has just died.
            let pace = if self.began.elapsed() < SOON { BREATH } else { LATER };
            self.again.get_or_insert_with(|| Instant::now() + breath(pace, rand::random()));
        }
        if let Some(name) = hub {
            self.find(0, Way { name, hops: hops + 1 });
        }
    }
}
