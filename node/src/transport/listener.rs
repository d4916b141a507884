//! The accepting side: limits first, then TLS, then who it is, then one link a certificate.
//!
//! A caller costs us, in this order: nothing while there is no room (refused), nothing while too many handshakes are
//! open (asked to prove its address), one handshake with a deadline, and only then a place in the list. Without a
//! certificate it can hold one join conversation and nothing else. Which peers are admitted is the hub's to say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::identity::{JoinDesk, JoinOutcome, PublicKey, TokenBucket, facts};

use super::endpoint::Tally;
use super::link::Link;
use super::quic::{Connection, End, Incoming, Socket};
use super::registry::Registry;
use super::{ALPN_JOIN, ALPN_LINK, Admit, Event, EventSink, Settings, close_code};

/// Handshake and preface must both be done within this.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// Handshakes at the same time; more callers are refused.
const HANDSHAKE_LIMIT: usize = 256;
/// Accepted links that nobody has taken yet.
pub(super) const ACCEPT_QUEUE: usize = 64;
/// Connections without a certificate, talking at the join desk, waiting for it or saying goodbye.
const JOIN_CONNECTIONS: usize = 64;
/// After its answer the joining device has this long to take it and close.
const JOIN_FAREWELL: Duration = Duration::from_secs(3);
/// Rejections reported as events: a burst, then a few a second; all are counted.
const REJECTIONS_BURST: u32 = 50;
const REJECTIONS_INTERVAL: Duration = Duration::from_millis(200);

/// Everything an accepting task needs.
pub(super) struct Listener {
    pub(super) registry: Arc<Registry>,
    pub(super) tally: Arc<Tally>,
    settings: Settings,
    join: Option<JoinDesk>,
    admit: Admit,
    events: EventSink,
    links: mpsc::Sender<Link>,
    handshakes: AtomicUsize,
    join_room: Semaphore,
    rejections: Mutex<TokenBucket>,
}

impl Listener {
    pub(super) fn new(
        settings: Settings,
        join: Option<JoinDesk>,
        admit: Admit,
        events: EventSink,
        links: mpsc::Sender<Link>,
    ) -> Self {
        Self {
            registry: Arc::default(),
            tally: Arc::default(),
            settings,
            join,
            admit,
            events,
            links,
            handshakes: AtomicUsize::new(0),
            join_room: Semaphore::new(JOIN_CONNECTIONS),
            rejections: Mutex::new(TokenBucket::new(REJECTIONS_BURST, REJECTIONS_INTERVAL)),
        }
    }

    /// Until the socket is closed.
    pub(super) async fn run(self: Arc<Self>, socket: Socket) {
        while let Some(caller) = socket.next_caller().await {
            let open = self.handshakes.load(Ordering::Relaxed);
            if open >= HANDSHAKE_LIMIT || self.registry.len() + open >= self.settings.connections_max {
                self.reject(caller.remote(), "no room for more connections");
                caller.refuse();
            } else if open >= self.settings.handshakes_before_retry && !caller.address_is_proven() {
                Tally::add(&self.tally.asked_again);
                caller.ask_again();
            } else {
                let seat = Seat::take(&self);
                tokio::spawn(Arc::clone(&self).receive(caller, seat));
            }
        }
    }

    async fn receive(self: Arc<Self>, caller: Incoming, seat: Seat) {
        let remote = caller.remote();
        let greeting = timeout(HANDSHAKE_DEADLINE, self.greet(caller, remote)).await;
        drop(seat);
        match greeting {
            Ok(Some(Greeted::Link(connection, peer, link))) => self.keep(connection, peer, *link).await,
            Ok(Some(Greeted::Join(connection))) => self.hold_join(connection, remote).await,
            Ok(None) => {}
            Err(_) => self.reject(remote, "handshake not finished in time"),
        }
    }

    /// Handshake, identity, preface. `None`: rejected, and said so.
    async fn greet(&self, caller: Incoming, remote: SocketAddr) -> Option<Greeted> {
        let connection = match caller.answer().await {
            Ok(connection) => connection,
            Err(end) => {
                if matches!(end, End::Handshake(_)) {
                    Tally::add(&self.tally.handshakes_refused);
                }
                self.reject(remote, &end.to_string());
                return None;
            }
        };
        let turn_away = |code: u32, reason: &str| {
            connection.close(code, reason);
            self.reject(remote, reason);
            None
        };
        let alpn = connection.alpn();
        if alpn == ALPN_JOIN && self.join.is_some() {
            return Some(Greeted::Join(connection));
        }
        let Some(certificate) = connection.peer_certificate().filter(|_| alpn == ALPN_LINK) else {
            return turn_away(close_code::NO_CERTIFICATE, "no certificate; join first");
        };
        let peer = match facts(&certificate) {
            Ok(facts) => facts.public_key,
            Err(e) => return turn_away(close_code::NOT_ADMITTED, &e.to_string()),
        };
        if let Err(reason) = (self.admit)(&peer) {
            return turn_away(close_code::NOT_ADMITTED, &reason);
        }
        match Link::accepted(connection.clone()).await {
            Ok(link) => Some(Greeted::Link(connection, peer, Box::new(link))),
            Err(e) => turn_away(close_code::PROTOCOL, &e.to_string()),
        }
    }

    /// Gives the link out, closes the peer's older one, and stays until this one ends.
    async fn keep(&self, connection: Connection, peer: PublicKey, link: Link) {
        let remote = connection.remote();
        match self.registry.put(peer, connection.clone()) {
            Some(older) => {
                Tally::add(&self.tally.replaced);
                let from = older.remote();
                older.close(close_code::REPLACED, "a newer connection with the same certificate took over");
                (self.events)(Event::Replaced { peer, remote, older: from });
            }
            None => (self.events)(Event::Accepted { peer, remote }),
        }
        Tally::add(&self.tally.accepted);
        if self.links.send(link).await.is_err() {
            connection.close(close_code::DONE, "this node stops");
        }
        let end = connection.closed().await;
        // The older one's end is part of `Replaced`.
        if self.registry.remove(&peer, &connection) {
            (self.events)(Event::Ended { peer, reason: end.to_string() });
        }
    }

    async fn hold_join(&self, connection: Connection, remote: SocketAddr) {
        let Some(desk) = &self.join else { return };
        let Ok(_room) = self.join_room.try_acquire() else {
            connection.close(close_code::FULL, "too many devices are joining; try again in a few seconds");
            return self.reject(remote, "too many join connections");
        };
        Tally::add(&self.tally.joins);
        let outcome = match timeout(HANDSHAKE_DEADLINE, connection.accept_stream()).await {
            Ok(Ok(stream)) => desk.serve(stream.into_io(), remote).await,
            Ok(Err(end)) => JoinOutcome::Broken(end.to_string()),
            Err(_) => JoinOutcome::Broken("no question within the deadline".into()),
        };
        (self.events)(Event::Join { remote, outcome });
        // The device closes when it has its answer; closing first could overtake it.
        let _ = timeout(JOIN_FAREWELL, connection.closed()).await;
        connection.close(close_code::DONE, "join conversation over");
    }

    fn reject(&self, remote: SocketAddr, reason: &str) {
        Tally::add(&self.tally.rejected);
        let report = self.rejections.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
        if report {
            (self.events)(Event::Rejected { remote, reason: reason.to_owned() });
        }
    }
}

/// One open handshake; given back however the handshake ends, even by a panic in a callback.
struct Seat(Arc<Listener>);

impl Seat {
    fn take(listener: &Arc<Listener>) -> Self {
        listener.handshakes.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(listener))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}

enum Greeted {
    Link(Connection, PublicKey, Box<Link>),
    Join(Connection),
}
