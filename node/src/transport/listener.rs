//! The accepting side: limits first, then TLS, then who it is, then one link a certificate.
//!
//! A caller costs us, in this order: nothing while there is no room (refused), nothing while too many handshakes are
//! open (asked to prove its address), one handshake with a deadline, and only then a place in the list. Without a
//! certificate it can hold one join conversation and nothing else. Which peers are admitted is the hub's to say.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

use crate::identity::{
    CertificateFacts, JoinDesk, JoinOutcome, PublicKey, Standing, TokenBucket, TrustClock, answer_renewal,
    facts, system_seconds,
};

use super::endpoint::Tally;
use super::hubs::{HubStream, STREAMS_OF_HUB};
use super::link::{Link, LinkError};
use super::quic::{Connection, End, Incoming, Socket, Stream};
use super::registry::Registry;
use super::{
    ALPN_HUBS, ALPN_JOIN, ALPN_LINKS, ALPN_RENEW, Admit, Event, EventSink, NotHere, Settings, close_code,
};

/// Handshakes at the same time; more callers are refused.
const HANDSHAKE_LIMIT: usize = 256;
/// Accepted links that nobody has taken yet.
pub(super) const ACCEPT_QUEUE: usize = 64;
/// Connections without a certificate, talking at the join desk, waiting for it or saying goodbye.
const JOIN_CONNECTIONS: usize = 64;
/// Longest that one connection lives, whatever its certificate: a timer's limit, and a yearly look at everybody.
const CONNECTION_LIFE_MAX_SECONDS: u64 = 365 * 86_400;
/// Further streams on a link, for papers: a few at once, then one in so long.
const QUESTIONS_BURST: u32 = 8;
const QUESTIONS_INTERVAL: Duration = Duration::from_secs(1);
/// After its answer the joining device has this long to take it and close.
const JOIN_FAREWELL: Duration = Duration::from_secs(3);
/// Rejections reported as events: a burst, then one in so long; all are counted.
const REJECTIONS_BURST: u32 = 50;
const REJECTIONS_INTERVAL: Duration = Duration::from_secs(2);
/// Connections of one key: a burst, then one in so long. A till in a tunnel needs fewer.
const CONNECTS_BURST: u32 = 30;
const CONNECTS_INTERVAL: Duration = Duration::from_secs(3);
/// Keys whose connections are counted; admitted ones only, so a company's tills.
const CONNECTS_KEYS: usize = 100_000;

/// Everything an accepting task needs.
pub(super) struct Listener {
    pub(super) registry: Arc<Registry>,
    pub(super) tally: Arc<Tally>,
    settings: Settings,
    clock: Arc<TrustClock>,
    join: Option<JoinDesk>,
    admit: Admit,
    events: EventSink,
    links: mpsc::Sender<Link>,
    /// This node's own key, which other hubs of the company show as well, and where their streams go.
    hubs: (PublicKey, mpsc::Sender<HubStream>),
    handshakes: AtomicUsize,
    join_room: Semaphore,
    rejections: Mutex<TokenBucket>,
    connects: Mutex<BTreeMap<PublicKey, TokenBucket>>,
}

impl Listener {
    pub(super) fn new(
        settings: Settings,
        clock: Arc<TrustClock>,
        join: Option<JoinDesk>,
        admit: Admit,
        events: EventSink,
        links: mpsc::Sender<Link>,
        hubs: (PublicKey, mpsc::Sender<HubStream>),
    ) -> Self {
        Self {
            registry: Arc::default(),
            tally: Arc::default(),
            settings,
            clock,
            join,
            admit,
            events,
            links,
            hubs,
            handshakes: AtomicUsize::new(0),
            join_room: Semaphore::new(JOIN_CONNECTIONS),
            rejections: Mutex::new(TokenBucket::new(REJECTIONS_BURST, REJECTIONS_INTERVAL)),
            connects: Mutex::default(),
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
        let greeting = timeout(self.settings.handshake, self.greet(caller, remote)).await;
        drop(seat);
        match greeting {
            Ok(Some(Greeted::Link(connection, peer, shown, link))) => {
                self.keep(connection, peer, shown, *link).await;
            }
            Ok(Some(Greeted::Renewal(connection, peer, certificate))) => {
                self.hold_renewal(connection, peer, certificate).await;
            }
            Ok(Some(Greeted::Join(connection))) => self.hold_join(connection, remote).await,
            Ok(Some(Greeted::Hub(connection))) => self.hear_hub(connection).await,
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
        // Not told as rejections: they are sent on, and come in there.
        let send_on = |hub: Option<String>| {
            connection.close(close_code::ELSEWHERE, &hub.unwrap_or_default());
            None
        };
        if alpn == ALPN_JOIN
            && let Some(desk) = &self.join
        {
            return match desk.enrols() {
                Ok(()) => Some(Greeted::Join(connection)),
                Err(hub) => send_on(hub),
            };
        }
        let is_link = ALPN_LINKS.contains(&alpn.as_slice());
        let wanted = is_link || alpn == ALPN_RENEW || alpn == ALPN_HUBS;
        let Some(certificate) = connection.peer_certificate().filter(|_| wanted) else {
            return turn_away(close_code::NO_CERTIFICATE, "no certificate; join first");
        };
        let facts = match facts(&certificate) {
            Ok(facts) => facts,
            Err(e) => return turn_away(close_code::NOT_ADMITTED, &e.to_string()),
        };
        let peer = facts.public_key;
        if alpn == ALPN_HUBS {
            return match peer == self.hubs.0 {
                true => Some(Greeted::Hub(connection)),
                false => turn_away(close_code::NOT_ADMITTED, "only hubs of the company speak here"),
            };
        }
        match (self.admit)(&peer) {
            Err(NotHere::Refused(reason)) => return turn_away(close_code::NOT_ADMITTED, &reason),
            Err(NotHere::Elsewhere(hub)) if is_link => return send_on(hub),
            // Papers are given by any hub of the company.
            Err(NotHere::Elsewhere(_)) | Ok(()) => {}
        }
        if !self.may_connect(peer) {
            return turn_away(close_code::FULL, "this certificate connects too often; wait a little");
        }
        let good_for = match self.standing(&certificate, &facts) {
            Standing::Void { reason } => return turn_away(close_code::NOT_ADMITTED, &reason),
            _ if alpn == ALPN_RENEW => return Some(Greeted::Renewal(connection, peer, certificate)),
            Standing::RenewOnly { reason } => {
                // Not told as a rejection: it comes back by itself.
                connection.close(close_code::RENEW, &reason);
                return None;
            }
            Standing::Good { seconds } => Duration::from_secs(seconds.min(CONNECTION_LIFE_MAX_SECONDS)),
        };
        match Link::accepted(connection.clone()).await {
            Ok(link) => {
                let certificate = Shown { certificate, good_for };
                Some(Greeted::Link(connection, peer, certificate, Box::new(link)))
            }
            // It tried several addresses, and another was faster.
            Err(LinkError::Closed(End::Peer { code, .. })) if code == u64::from(close_code::DONE) => None,
            Err(e) => turn_away(close_code::PROTOCOL, &e.to_string()),
        }
    }

    /// Gives the link out, closes the peer's older one, and stays until this one ends.
    async fn keep(&self, connection: Connection, peer: PublicKey, shown: Shown, link: Link) {
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
        let end = tokio::select! {
            end = connection.closed() => end,
            () = self.serve_papers(&connection, peer, &shown.certificate) => connection.closed().await,
            () = tokio::time::sleep(shown.good_for) => {
                // By now it holds a newer one, unless its renewal fails; either way the next handshake tells.
                connection.close(close_code::RENEW, "the certificate of this connection has ended");
                connection.closed().await
            }
        };
        // The older one's end is part of `Replaced`.
        if self.registry.remove(&peer, &connection) {
            (self.events)(Event::Ended { peer, reason: end.to_string() });
        }
    }

    fn may_connect(&self, peer: PublicKey) -> bool {
        let mut connects = self.connects.lock().unwrap_or_else(PoisonError::into_inner);
        if connects.len() >= CONNECTS_KEYS && !connects.contains_key(&peer) {
            connects.clear();
        }
        let fresh = || TokenBucket::new(CONNECTS_BURST, CONNECTS_INTERVAL);
        connects.entry(peer).or_insert_with(fresh).take(Instant::now())
    }

    fn standing(&self, certificate: &[u8], facts: &CertificateFacts) -> Standing {
        match &self.join {
            Some(desk) => desk.authority().standing(certificate, desk.authority().time(system_seconds())),
            // Between tills: an ended certificate is refused by the clock that this node trusts.
            None if facts.not_after <= self.clock.judge(system_seconds()) => {
                Standing::Void { reason: "the certificate has ended; let the hub renew it".to_owned() }
            }
            None => Standing::Good { seconds: CONNECTION_LIFE_MAX_SECONDS },
        }
    }

    /// Answers questions for papers on a link's connection, one at a time, until it ends.
    async fn serve_papers(&self, connection: &Connection, peer: PublicKey, certificate: &[u8]) {
        let Some(desk) = &self.join else { return };
        let mut questions = TokenBucket::new(QUESTIONS_BURST, QUESTIONS_INTERVAL);
        while let Ok(stream) = connection.accept_stream().await {
            if !questions.take(Instant::now()) {
                connection.close(close_code::PROTOCOL, "too many further streams on a link");
                return;
            }
            self.renew(desk, stream, (peer, connection.remote()), certificate).await;
        }
    }

    async fn renew(
        &self,
        desk: &JoinDesk,
        stream: Stream,
        (peer, remote): (PublicKey, SocketAddr),
        certificate: &[u8],
    ) {
        let authority = desk.authority();
        let now = authority.time(system_seconds());
        let ended = !matches!(authority.standing(certificate, now), Standing::Good { .. });
        let twin_of = |instance| {
            if !desk.met(peer, instance) {
                return None;
            }
            (self.events)(Event::Cloned { peer, remote });
            Some(format!("this one is at {remote}"))
        };
        let told = (desk.hubs(), self.settings.idle);
        let answered =
            answer_renewal(&mut stream.into_io(), authority, certificate, now, told, twin_of).await;
        if let Ok(reply) = answered
            && let Ok(facts) = facts(&reply.certificate)
        {
            (self.events)(Event::Renewed { peer, ends: facts.not_after, ended });
        }
    }

    /// Hands on what another hub of the company asks, until it goes.
    async fn hear_hub(&self, connection: Connection) {
        connection.allow_streams(STREAMS_OF_HUB);
        while let Ok(stream) = connection.accept_stream().await {
            if self.hubs.1.send(Box::new(stream.into_io())).await.is_err() {
                connection.close(close_code::DONE, "this node stops");
                return;
            }
        }
    }

    /// One question for papers and nothing else.
    async fn hold_renewal(&self, connection: Connection, peer: PublicKey, certificate: Vec<u8>) {
        let Some(desk) = &self.join else { return };
        let Ok(_room) = self.join_room.try_acquire() else {
            connection.close(close_code::FULL, "too many devices are renewing; try again in a few seconds");
            return;
        };
        if let Ok(Ok(stream)) = timeout(self.settings.handshake, connection.accept_stream()).await {
            self.renew(desk, stream, (peer, connection.remote()), &certificate).await;
            let _ = timeout(JOIN_FAREWELL, connection.closed()).await;
        }
        connection.close(close_code::DONE, "renewal conversation over");
    }

    async fn hold_join(&self, connection: Connection, remote: SocketAddr) {
        let Some(desk) = &self.join else { return };
        let Ok(_room) = self.join_room.try_acquire() else {
            connection.close(close_code::FULL, "too many devices are joining; try again in a few seconds");
            return self.reject(remote, "too many join connections");
        };
        Tally::add(&self.tally.joins);
        let outcome = match timeout(self.settings.handshake, connection.accept_stream()).await {
            Ok(Ok(stream)) => desk.serve(stream.into_io(), remote).await,
            Ok(Err(end)) => JoinOutcome::Broken(end.to_string()),
            Err(_) => JoinOutcome::Broken("no question within the deadline".into()),
        };
        // Anybody can fail to join as often as they like; a success costs a code.
        if matches!(outcome, JoinOutcome::Granted { .. }) || self.may_report() {
            (self.events)(Event::Join { remote, outcome });
        }
        // The device closes when it has its answer; closing first could overtake it.
        let _ = timeout(JOIN_FAREWELL, connection.closed()).await;
        connection.close(close_code::DONE, "join conversation over");
    }

    fn may_report(&self) -> bool {
        self.rejections.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now())
    }

    fn reject(&self, remote: SocketAddr, reason: &str) {
        Tally::add(&self.tally.rejected);
        if self.may_report() {
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

/// The certificate of a connection, and for how long it holds.
struct Shown {
    certificate: Vec<u8>,
    good_for: Duration,
}

enum Greeted {
    Link(Connection, PublicKey, Shown, Box<Link>),
    Renewal(Connection, PublicKey, Vec<u8>),
    Join(Connection),
    Hub(Connection),
}
