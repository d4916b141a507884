//! A node's door to the network: it dials, and where asked to, listens. Dropping the last clone of a listening
//! endpoint closes it with its links; links of one that only dials live on until they are dropped themselves.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Mutex, OwnedMutexGuard, mpsc};
use tokio::time::{sleep, timeout};

use crate::identity::{HubAddress, Identity, Instance, JoinDesk, PublicKey, Role, facts};

use super::hubs::{HubLine, HubStream};
use super::leisure::{Leisure, Pace};
use super::link::{Link, LinkError};
use super::listener::{ACCEPT_QUEUE, Listener};
use super::papers::{self, Keeper};
use super::quic::{Caller, Connection, End, Socket, dial_alone};
use super::registry::Registry;
use super::{ALPN_HUBS, ALPN_LINKS, ALPN_RENEW, Admit, EventSink, Settings, close_code, tls};

/// Purpose under which the reset key is derived from the node's key.
const RESET_PURPOSE: &str = "tillsync 2026 QUIC stateless reset";
/// At shutdown, peers have this long to hear goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// Peers of a former life are told one after the other, at this distance: some 500 a second come back.
const FORMER_INTERVAL: Duration = Duration::from_millis(2);

/// An accepted link, as a later life of this node must know it to end it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Linked {
    /// Where the peer was.
    pub address: SocketAddr,
    /// By what it names the connection: seen by whoever sees its packets, and worth nothing without this node's key.
    pub id: [u8; 8],
}

/// Whose it is to ask for a link, of several dials at once.
pub(super) type Turn = Arc<Mutex<()>>;

/// Why a dial gave no link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Nobody answered, or the network is away: dialling again later is the cure.
    #[error("cannot reach {address}: {reason}; the node retries by itself, check the network if it lasts")]
    Unreachable {
        /// Where we dialled.
        address: SocketAddr,
        /// What happened.
        reason: String,
    },
    /// A hub of the company answered, and another one has this till's store.
    #[error("{address} sends this till on to {}", hub.as_ref().map_or("another hub, not known yet", HubAddress::as_str))]
    Elsewhere {
        /// Where we dialled.
        address: SocketAddr,
        /// Where to go, if that hub knows.
        hub: Option<HubAddress>,
    },
    /// This node's certificate has ended or its authority was replaced, and it could not be renewed by itself.
    #[error("{address} does not accept this node's certificate any more: {reason}; enrol the device anew")]
    Ended {
        /// Where we dialled.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
    /// Somebody answered and the two do not go together: a person has to look.
    #[error(
        "{address} and this node do not accept each other: {reason}; check the enrolment and the clock of both"
    )]
    Refused {
        /// Where we dialled.
        address: SocketAddr,
        /// Why.
        reason: String,
    },
}

/// Counts since the endpoint was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Links accepted, replacements included.
    pub accepted: u64,
    /// Links that replaced an older one of the same certificate.
    pub replaced: u64,
    /// Callers not let in, for any reason.
    pub rejected: u64,
    /// Of these, by TLS: foreign, self-made or expired certificates.
    pub handshakes_refused: u64,
    /// Join conversations begun.
    pub joins: u64,
    /// Callers asked to prove their address first, under load.
    pub asked_again: u64,
}

/// [`Counters`] as they are counted.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) accepted: AtomicU64,
    pub(super) replaced: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) handshakes_refused: AtomicU64,
    pub(super) joins: AtomicU64,
    pub(super) asked_again: AtomicU64,
}

impl Tally {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Counters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            accepted: get(&self.accepted),
            replaced: get(&self.replaced),
            rejected: get(&self.rejected),
            handshakes_refused: get(&self.handshakes_refused),
            joins: get(&self.joins),
            asked_again: get(&self.asked_again),
        }
    }
}

/// A node's door to the network. Cheap to clone.
#[derive(Clone)]
pub struct Endpoint(Arc<Door>);

struct Door {
    /// Where it listens; `None`: it only dials, each time from a socket of its own.
    socket: Option<Socket>,
    caller: Caller,
    /// Dials for papers, and what keeps them (a till's).
    renewer: Option<Renewer>,
    settings: Settings,
    registry: Arc<Registry>,
    tally: Arc<Tally>,
    links: Mutex<mpsc::Receiver<Link>>,
    /// Dials other hubs of the company (a hub's), and what they ask.
    hubs: Option<Hubs>,
}

/// The way to other hubs of the company, and from them.
struct Hubs {
    /// The key that all of them show.
    key: PublicKey,
    caller: Caller,
    streams: Mutex<mpsc::Receiver<HubStream>>,
}

/// How a till keeps its papers new.
struct Renewer {
    caller: Caller,
    /// For links to a hub that is the only one.
    resting: Caller,
    pace: Pace,
    keeper: Keeper,
    /// What this start of the process goes by.
    instance: Instance,
}

impl Drop for Door {
    fn drop(&mut self) {
        // The accepting task holds its own handle of the socket: without this it would never end.
        if let Some(socket) = &self.socket {
            socket.close(close_code::DONE, "this node stops");
        }
    }
}

impl Endpoint {
    /// Listens as a hub: nodes of the company get links, devices with a join code a conversation at the `join` desk.
    ///
    /// # Errors
    /// When the address cannot be listened on, or the certificates cannot be used.
    pub fn hub(
        listen: SocketAddr,
        identity: &Identity,
        join: Option<JoinDesk>,
        admit: Admit,
        events: EventSink,
        settings: Settings,
    ) -> io::Result<Self> {
        let server = tls::server(identity, join.is_some()).map_err(io::Error::other)?;
        let reset_key = identity.key().derive(RESET_PURPOSE);
        let socket = Socket::listen(listen, server, reset_key, &settings)?;
        let (links, taken) = mpsc::channel(ACCEPT_QUEUE);
        let (asked, streams) = mpsc::channel(ACCEPT_QUEUE);
        let key = identity.public();
        let hubs =
            Hubs { key, caller: caller(identity, &[ALPN_HUBS], &settings)?, streams: Mutex::new(streams) };
        let (clock, hears) = (identity.clock().clone(), (key, asked));
        let listener = Arc::new(Listener::new(settings.clone(), clock, join, admit, events, links, hears));
        let (registry, tally) = (listener.registry.clone(), listener.tally.clone());
        tokio::spawn(listener.run(socket.clone()));
        let caller = caller(identity, ALPN_LINKS, &settings)?;
        let (socket, links) = (Some(socket), Mutex::new(taken));
        Ok(Self(Arc::new(Door {
            socket,
            caller,
            renewer: None,
            settings,
            registry,
            tally,
            links,
            hubs: Some(hubs),
        })))
    }

    /// Listens as a till, for other tills of the company; no desk, certificates are mandatory in TLS itself.
    ///
    /// # Errors
    /// As [`Endpoint::hub`].
    pub fn till_listening(
        listen: SocketAddr,
        identity: &Identity,
        admit: Admit,
        events: EventSink,
        settings: Settings,
    ) -> io::Result<Self> {
        Self::hub(listen, identity, None, admit, events, settings)
    }

    /// Only dials.
    ///
    /// # Errors
    /// When the certificates cannot be used.
    pub fn till(identity: &Identity, settings: Settings) -> io::Result<Self> {
        Self::dialling(identity, None, settings)
    }

    /// Only dials; and keeps its papers new by asking the hubs that it reaches.
    ///
    /// # Errors
    /// As [`Endpoint::till`].
    pub fn till_for_life(identity: &Identity, keeper: Keeper, settings: Settings) -> io::Result<Self> {
        Self::dialling(identity, Some(keeper), settings)
    }

    fn dialling(identity: &Identity, keeper: Option<Keeper>, settings: Settings) -> io::Result<Self> {
        let (_, nobody) = mpsc::channel(1);
        let renewer = match keeper {
            None => None,
            Some(keeper) => {
                let caller = caller(identity, &[ALPN_RENEW], &settings)?;
                let resting = self::caller(identity, ALPN_LINKS, &settings.clone().at_leisure())?;
                Some(Renewer { caller, resting, pace: Pace::default(), keeper, instance: rand::random() })
            }
        };
        let caller = caller(identity, ALPN_LINKS, &settings)?;
        let links = Mutex::new(nobody);
        let (registry, tally) = (Arc::default(), Arc::default());
        Ok(Self(Arc::new(Door {
            socket: None,
            caller,
            renewer,
            settings,
            registry,
            tally,
            links,
            hubs: None,
        })))
    }

    /// The next stream of another hub; `None` once the endpoint is closed or does not listen.
    pub async fn asked_by_hub(&self) -> Option<HubStream> {
        self.0.hubs.as_ref()?.streams.lock().await.recv().await
    }

    /// Dials another hub of the company: whoever answers must show the same key as this one.
    ///
    /// # Errors
    /// When nobody answers in time, or it is no hub of the company.
    pub async fn dial_hub(&self, address: SocketAddr) -> Result<HubLine, DialError> {
        let refused = |reason: &str| DialError::Refused { address, reason: reason.to_owned() };
        let Some(hubs) = &self.0.hubs else { return Err(refused("only hubs dial hubs")) };
        let dial = async { Ok(self.connect(&hubs.caller, address, Role::Hub).await?) };
        let connection = self.in_time(address, dial).await?;
        let shown = connection.peer_certificate().and_then(|certificate| facts(&certificate).ok());
        if shown.is_none_or(|facts| facts.public_key != hubs.key) {
            connection.close(close_code::NOT_ADMITTED, "another company's hub");
            return Err(refused("it does not show the company's hub key"));
        }
        Ok(HubLine::new(connection))
    }

    /// The next accepted link; `None` once the endpoint is closed or does not listen.
    pub async fn accept(&self) -> Option<Link> {
        self.0.links.lock().await.recv().await
    }

    /// Dials a node that must prove to be of our company and to have this role. The link comes back only when the
    /// other side has admitted us.
    ///
    /// # Errors
    /// When nobody answers in time, or the two do not accept each other.
    pub async fn dial(&self, address: SocketAddr, role: Role) -> Result<Link, DialError> {
        self.dial_in_turn(address, role, &Turn::default()).await.map(|(link, _)| link)
    }

    /// As [`Endpoint::dial`], beside other dials of this node: handshakes run together, but only who has the turn asks for
    /// its link. A hub that is reached by two addresses would take the second link for one that replaces the first. The
    /// turn comes back with the link, to be kept until the other dials were given up.
    pub(super) async fn dial_in_turn(
        &self,
        address: SocketAddr,
        role: Role,
        turn: &Turn,
    ) -> Result<(Link, OwnedMutexGuard<()>), DialError> {
        let (link, held) = match self.dial_once(address, role, turn).await {
            Err(ended @ DialError::Ended { .. }) => {
                let Some(renewer) = self.0.renewer.as_ref().filter(|_| role == Role::Hub) else {
                    return Err(ended);
                };
                self.renew(address, renewer).await?;
                self.dial_once(address, role, turn).await?
            }
            other => other?,
        };
        if let Some(renewer) = self.0.renewer.as_ref().filter(|_| role == Role::Hub) {
            papers::keep_new(&link, renewer.instance, renewer.keeper.clone(), renewer.pace.clone());
        }
        Ok((link, held))
    }

    async fn dial_once(
        &self,
        address: SocketAddr,
        role: Role,
        turn: &Turn,
    ) -> Result<(Link, OwnedMutexGuard<()>), DialError> {
        let resting = self.0.renewer.as_ref().filter(|renewer| role == Role::Hub && renewer.pace.rests());
        let caller = resting.map_or(&self.0.caller, |renewer| &renewer.resting);
        let handshake = async { Ok(self.connect(caller, address, role).await?) };
        let connection = self.in_time(address, handshake).await?;
        let held = turn.clone().lock_owned().await;
        let leisure = resting.map(|_| self.0.settings.leisure);
        let link = self.in_time(address, Link::dialled(connection, leisure)).await?;
        Ok((link, held))
    }

    /// The certificate has ended: a connection for nothing but a new one.
    async fn renew(&self, address: SocketAddr, renewer: &Renewer) -> Result<(), DialError> {
        let conversation = async {
            let connection = self.connect(&renewer.caller, address, Role::Hub).await?;
            let renewed = papers::ask(&connection, &renewer.instance, &renewer.keeper).await;
            connection.close(close_code::DONE, "thank you");
            Ok(renewed)
        };
        match self.in_time(address, conversation).await? {
            Ok(_) => Ok(()),
            Err(reason) => Err(DialError::Refused { address, reason }),
        }
    }

    /// How fast a till's links go; `None`: of a node that asks for no papers.
    pub(super) fn pace(&self) -> Option<(&Pace, Leisure)> {
        self.0.renewer.as_ref().map(|renewer| (&renewer.pace, self.0.settings.leisure))
    }

    async fn in_time<T>(
        &self,
        address: SocketAddr,
        work: impl Future<Output = Result<T, LinkError>>,
    ) -> Result<T, DialError> {
        let unreachable = |reason: String| DialError::Unreachable { address, reason };
        match timeout(self.0.settings.connect, work).await {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(LinkError::Closed(end))) if end.elsewhere().is_some() => {
                Err(DialError::Elsewhere { address, hub: end.elsewhere().flatten() })
            }
            Ok(Err(LinkError::Closed(End::Peer { code, reason })))
                if code == u64::from(close_code::RENEW) =>
            {
                Err(DialError::Ended { address, reason })
            }
            Ok(Err(e)) if is_refusal(&e) => Err(DialError::Refused { address, reason: e.to_string() }),
            Ok(Err(e)) => Err(unreachable(e.to_string())),
            Err(_) => Err(unreachable(format!("no answer within {:?}", self.0.settings.connect))),
        }
    }

    /// The handshake, as a node with this role is dialled.
    async fn connect(&self, caller: &Caller, address: SocketAddr, role: Role) -> Result<Connection, End> {
        let Some(socket) = &self.0.socket else {
            return dial_alone(caller, address, role.server_name()).await;
        };
        let none = || End::Transport("no socket of its kind".into());
        let socket = socket_for(std::slice::from_ref(socket), address).ok_or_else(none)?;
        socket.dial(caller, address, role.server_name()).await
    }

    /// Where the endpoint listens.
    ///
    /// # Errors
    /// When the system does not say, or it only dials.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.socket.as_ref().map_or_else(|| Err(io::ErrorKind::NotConnected.into()), Socket::local_addr)
    }

    /// Closes the accepted link of a peer, if there is one (a revoked till).
    pub fn disconnect(&self, peer: &PublicKey, reason: &str) -> bool {
        let connection = self.0.registry.get(peer);
        connection.inspect(|c| c.close(close_code::NOT_ADMITTED, reason)).is_some()
    }

    /// Ends the accepted link of a peer, if there is one, whose store another hub has; `address`: that hub's, if known.
    pub fn send_elsewhere(&self, peer: &PublicKey, address: &str) {
        if let Some(connection) = self.0.registry.get(peer) {
            connection.close(close_code::ELSEWHERE, address);
        }
    }

    /// Closes every accepted link, so that the peers come anew (they ask for papers then). Gives their number.
    pub fn recall(&self, reason: &str) -> usize {
        let all = self.0.registry.all();
        all.iter().for_each(|connection| connection.close(close_code::RENEW, reason));
        all.len()
    }

    /// Peers with an accepted link, in the order of their names.
    #[must_use]
    pub fn peers(&self) -> Vec<PublicKey> {
        self.0.registry.peers()
    }

    /// Counts since the endpoint was opened.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.tally.read()
    }

    /// The accepted links, as a later life of this node must know them.
    #[must_use]
    pub fn linked(&self) -> Vec<Linked> {
        let all = self.0.registry.all();
        all.iter().filter_map(|one| Some(Linked { address: one.remote(), id: one.named()? })).collect()
    }

    /// Until an accepted link came or went since this was last asked; for one who asks.
    pub async fn links_changed(&self) {
        self.0.registry.changed().await;
    }

    /// Tells the peers of a former life, which ended without a goodbye, that their links are gone. Not all in one moment,
    /// because they come back.
    pub async fn end_former(&self, former: &[Linked]) {
        for link in former {
            self.0.socket.iter().for_each(|socket| socket.reset(link.address, link.id));
            sleep(FORMER_INTERVAL).await;
        }
    }

    /// Closes everything that a listening endpoint has and gives the peers a moment to hear it.
    pub async fn shutdown(&self) {
        if let Some(socket) = &self.0.socket {
            socket.close(close_code::DONE, "this node stops");
            let _ = timeout(FAREWELL, socket.wait_idle()).await;
        }
    }
}

fn caller(identity: &Identity, alpn: &[&[u8]], settings: &Settings) -> io::Result<Caller> {
    Caller::new(tls::client(identity, alpn).map_err(io::Error::other)?, settings)
}

/// One socket for each family that the system has: dual-stack sockets behave differently on every system.
pub(super) fn dial_sockets() -> io::Result<Vec<Socket>> {
    let v4 = Socket::dial_only((Ipv4Addr::UNSPECIFIED, 0).into());
    let v6 = Socket::dial_only((Ipv6Addr::UNSPECIFIED, 0).into());
    match (v4, v6) {
        (Err(e), Err(_)) => Err(e),
        (v4, v6) => Ok(v4.into_iter().chain(v6).collect()),
    }
}

pub(super) fn socket_for(sockets: &[Socket], address: SocketAddr) -> Option<&Socket> {
    sockets.iter().find(|s| s.local_addr().is_ok_and(|a| a.is_ipv6() == address.is_ipv6()))
}

/// Whether it was a person's answer, so to speak: dialling again soon would get the same one.
fn is_refusal(error: &LinkError) -> bool {
    match error {
        LinkError::Closed(End::Handshake(_)) | LinkError::NotALink => true,
        LinkError::Closed(End::Peer { code, .. }) => {
            *code != u64::from(close_code::DONE) && *code != u64::from(close_code::FULL)
        }
        _ => false,
    }
}
