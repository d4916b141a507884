//! Nodes, links and time. A node is the engine's host over a simulated disk, clock and network; events happen in the
//! order of virtual time, ties in the order in which they were made. Nothing here decides what a node does: it carries
//! out the host's effects, as the node's task does.

mod hubs;
mod power;
mod turns;
mod watching;

use std::collections::BTreeMap;
use std::sync::Arc;

use ed25519_dalek::SigningKey;
use engine::attic::Workroom;
use engine::document::DocumentError;
use engine::host::{Host, NotRecorded};
use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use engine::ledger::WorkLimits;
use engine::policy::Policy;
use engine::replica::{Capture, Identity, Input, Receipt, Replica, SyncEvent};
use engine::sync::Dialect;
use engine::time::Day;
use engine::transaction::{Draft, Enrolment, HubRecord};

use crate::chance::Chance;
use crate::clock::NodeClock;
use crate::disk::Disk;
use crate::network::{LinkSpeed, Network};
use crate::saved::Saved;
use crate::watch::Watch;

use hubs::Stir;

pub use hubs::{Company, DATABASE, SERVED_MS, hub_names};

/// First instant of every run: 2026-11-23T08:00:00Z.
pub const START_MS: i64 = 1_795_420_800_000;
/// The only store.
pub const STORE: &str = "store-1";
/// The hub's name.
pub const HUB: &str = "hub";

/// Name of a node, to be handed on without copying it.
pub type Name = Arc<str>;

/// What happens at a point in time.
#[derive(Debug)]
enum Happening {
    /// A frame arrives, if the link it was sent on is still up.
    Arrive { from: Name, to: Name, link: u64, bytes: Vec<u8> },
    /// The disk of a node has made its oldest append durable, if the node did not restart since.
    Synced { node: Name, start: u32 },
    /// A node wanted to be woken.
    Wake { node: Name, start: u32 },
    /// A node tries to reach another.
    Dial { from: Name, to: Name },
    /// Something among several hubs and their database.
    Stir(Stir),
}

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub struct Delays {
    /// One way over a link, ms: shortest and longest.
    pub link_ms: (i64, i64),
    /// An fsync, ms: shortest and longest.
    pub disk_ms: (i64, i64),
}

/// One node.
pub struct Node {
    /// Its name: that of its terminal.
    pub name: Name,
    /// Its clock.
    pub clock: NodeClock,
    /// Its disk.
    pub disk: Disk,
    /// What it answered: token → what was recorded or why not.
    pub answers: BTreeMap<u64, Result<Receipt, NotRecorded>>,
    /// What its replica reported, the newest last.
    pub events: Vec<SyncEvent>,
    /// How fast its links are.
    pub speed: LinkSpeed,
    /// An fsync takes so long, ms.
    pub disk_ms: (i64, i64),
    /// Whom it calls by itself when there is no link.
    pub dials: Option<String>,
    /// When another device with its key took its place: it comes back much later.
    replaced_ms: Option<i64>,
    host: Option<Host>,
    identity: Identity,
    limits: WorkLimits,
    start: u32,
    woken_at: Option<i64>,
    last_sync_ms: i64,
    saved: Saved,
    /// The start and the lines of its log that the image was made of, if it is known.
    checkpoint_of: Option<(u32, usize)>,
    custody: u64,
}

impl Node {
    /// Whether it runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.host.is_some()
    }

    /// Its replica.
    ///
    /// # Panics
    /// If it is down.
    #[must_use]
    pub fn replica(&self) -> &Replica {
        self.host.as_ref().expect("a node that runs").replica()
    }

    /// Its replica, for questions that keep what they reckoned.
    ///
    /// # Panics
    /// If it is down.
    pub fn replica_mut(&mut self) -> &mut Replica {
        self.host.as_mut().expect("a node that runs").replica_mut()
    }

    /// Heads of its documents by day, those that are not in memory read from its disk.
    ///
    /// # Errors
    /// A document failed.
    ///
    /// # Panics
    /// If it is down.
    pub fn document_heads(&mut self) -> Result<BTreeMap<Day, Vec<[u8; 32]>>, DocumentError> {
        let disk = &self.disk;
        let replica = self.host.as_mut().expect("a node that runs").replica_mut();
        replica.document_heads(|ordinal| disk.batch(ordinal).map(|carried| carried.bytes))
    }

    /// Its host, if it runs.
    #[must_use]
    pub fn host(&self) -> Option<&Host> {
        self.host.as_ref()
    }

    /// Who it is.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// How much of its books it keeps unpacked.
    #[must_use]
    pub fn limits(&self) -> WorkLimits {
        self.limits
    }

    /// What the hub states to enrol it.
    #[must_use]
    pub fn enrolment(&self) -> Enrolment {
        Enrolment { log: self.identity.log.clone(), writer: self.writer() }
    }

    /// The key it writes with.
    #[must_use]
    pub fn writer(&self) -> WriterId {
        WriterId(self.identity.key.verifying_key().to_bytes())
    }
}

/// Everything.
pub struct World {
    /// Nodes by name.
    pub nodes: BTreeMap<String, Node>,
    /// The network.
    pub network: Network,
    /// Virtual time, ms since 1970.
    pub now_ms: i64,
    /// How many messages arrived.
    pub messages: u64,
    /// A running hash of everything that happened.
    pub trace: blake3::Hasher,
    /// What stores start from.
    pub policy: Policy,
    /// What is worth looking at, if somebody wants to look.
    pub watch: Option<Watch>,
    /// Tills that believed more to be at the hub than was durable there at that moment, with what they believed.
    pub overstated: BTreeMap<String, String>,
    /// Several hubs and their database, instead of one hub on its disk.
    pub company: Option<Box<Company>>,
    queue: BTreeMap<(i64, u64), Happening>,
    made: u64,
    tokens: u64,
    seed: u64,
    chance: Chance,
}

/// Whether a node of that name is a hub.
#[must_use]
pub fn is_hub(name: &str) -> bool {
    name == HUB || name.starts_with("hub-")
}

/// The key of a node, by name and incarnation.
#[must_use]
pub fn key(name: &str, incarnation: u32) -> SigningKey {
    let seed = if incarnation == 1 { name.to_owned() } else { format!("{name}/{incarnation}") };
    SigningKey::from_bytes(blake3::hash(seed.as_bytes()).as_bytes())
}

/// The public key of a node's first incarnation, by name.
#[must_use]
pub fn writer(name: &str) -> WriterId {
    WriterId(key(name, 1).verifying_key().to_bytes())
}

/// The log of a terminal.
///
/// # Panics
/// If the name is none of a terminal.
#[must_use]
pub fn log_of(name: &str, incarnation: u32) -> LogId {
    let terminal: TerminalId = name.parse().expect("names of the simulator are names");
    LogId { terminal, incarnation }
}

fn identity(name: &str, incarnation: u32, nonce: u64) -> Identity {
    let name = if is_hub(name) { HUB } else { name };
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&nonce.to_le_bytes());
    let store: StoreId = STORE.parse().expect("the store has a name");
    Identity {
        store,
        log: log_of(name, incarnation),
        key: key(name, incarnation),
        nonce: bytes,
        hub: writer(HUB),
    }
}

impl World {
    /// A hub that has enrolled the tills; nobody is connected, and nobody dials.
    #[must_use]
    pub fn new(tills: &[String], delays: Delays, policy: &Policy, seed: u64) -> Self {
        let mut world = Self::empty(policy, seed);
        for name in std::iter::once(HUB).chain(tills.iter().map(String::as_str)) {
            world.add(name, 1, delays);
        }
        for name in tills {
            world.enrol(name, 1);
        }
        world
    }

    fn empty(policy: &Policy, seed: u64) -> Self {
        Self {
            nodes: BTreeMap::new(),
            network: Network::default(),
            now_ms: START_MS,
            messages: 0,
            trace: blake3::Hasher::new(),
            policy: policy.clone(),
            watch: None,
            overstated: BTreeMap::new(),
            company: None,
            queue: BTreeMap::new(),
            made: 0,
            tokens: 0,
            seed,
            chance: Chance::new(seed, "delays"),
        }
    }

    fn add(&mut self, name: &str, incarnation: u32, delays: Delays) {
        let identity = identity(name, incarnation, 1);
        let limits = limits_of(self.seed, name);
        let saved = Saved::default();
        let node = Node {
            name: Name::from(name),
            clock: NodeClock::default(),
            disk: Disk::default(),
            answers: BTreeMap::new(),
            events: Vec::new(),
            speed: LinkSpeed { delay_ms: delays.link_ms, bytes_a_ms: 0 },
            disk_ms: delays.disk_ms,
            dials: None,
            replaced_ms: None,
            host: Some(Host::new(fresh(&identity, &self.policy, &saved.room(limits)))),
            saved,
            identity,
            limits,
            start: 1,
            woken_at: None,
            last_sync_ms: 0,
            checkpoint_of: None,
            custody: 0,
        };
        self.nodes.insert(name.to_owned(), node);
    }

    fn enrol(&mut self, name: &str, incarnation: u32) {
        let writer = WriterId(key(name, incarnation).verifying_key().to_bytes());
        self.state(HubRecord::Enrol(Enrolment { log: log_of(name, incarnation), writer }));
    }

    /// A node by name.
    ///
    /// # Panics
    /// If there is none.
    pub fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(name).expect("a node of that name")
    }

    /// The hub states something. Gives the token under which it will answer; `None` while it is down.
    pub fn state(&mut self, record: HubRecord) -> Option<u64> {
        self.tokens += 1;
        let (token, receipt) = (self.tokens, format!("hub-{}", self.tokens));
        let (hub, up) = (self.hub().to_owned(), self.hub_serves());
        self.give(&hub, Input::State { token, record: Box::new(record), receipt });
        up.then_some(token)
    }

    /// A till is asked to record a transaction. Gives the token under which it will answer.
    pub fn capture(&mut self, name: &str, draft: Draft) -> u64 {
        self.tokens += 1;
        let token = self.tokens;
        self.give(name, Input::Capture(vec![Capture { token, draft }]));
        token
    }

    /// Connects two nodes that run. An older link between them ends, and one of another device with the same key.
    pub fn connect(&mut self, one: &str, two: &str) {
        self.cut(one, two);
        for (own, other) in [(one, two), (two, one)] {
            let writer = self.nodes[other].writer();
            let same = |linked: &&str| *linked != other && self.nodes[*linked].writer() == writer;
            let replaced: Vec<String> = self.network.linked_to(own).filter(same).map(str::to_owned).collect();
            for linked in replaced {
                self.cut(own, &linked);
                // The hubs of a company have one key, and none of them is a copy.
                if !is_hub(&linked) {
                    self.node(&linked).replaced_ms = Some(self.now_ms);
                }
            }
        }
        if !self.nodes[one].is_up() || !self.nodes[two].is_up() {
            return;
        }
        self.network.link(one, two);
        self.watch_link(one, two, true);
        let (first, second) = (self.nodes[one].writer(), self.nodes[two].writer());
        let old = [one, two].into_iter().any(|name| is_old(self.seed, name));
        let dialect = if old { Dialect::Full } else { Dialect::Short };
        self.give(one, Input::PeerUp(second, dialect));
        self.give(two, Input::PeerUp(first, dialect));
    }

    /// Cuts a link: what is on its way is lost.
    pub fn cut(&mut self, one: &str, two: &str) {
        if !self.network.unlink(one, two) {
            return;
        }
        self.watch_link(one, two, false);
        let (first, second) = (self.nodes[one].writer(), self.nodes[two].writer());
        self.give(one, Input::PeerDown(second));
        self.give(two, Input::PeerDown(first));
        for (from, to) in [(one, two), (two, one)] {
            let called = if self.company.is_some() && is_hub(to) { HUB } else { to };
            if self.nodes[from].dials.as_deref() == Some(called) {
                self.dial_later(from, called);
            }
        }
    }

    /// From now on a node calls another by itself whenever there is no link.
    pub fn dial(&mut self, from: &str, to: &str) {
        self.node(from).dials = Some(to.to_owned());
        self.dial_later(from, to);
    }

    fn dial_later(&mut self, from: &str, to: &str) {
        let latest_ms = if self.company.is_some() { 1_000 } else { 8_000 };
        let at_ms = self.now_ms + self.chance.between(200, latest_ms);
        self.put(at_ms, Happening::Dial { from: from.into(), to: to.into() });
    }

    /// Whether two nodes are connected.
    #[must_use]
    pub fn connected(&self, one: &str, two: &str) -> bool {
        self.network.between(one, two).is_some()
    }
}

/// An empty replica, as every node begins.
pub(crate) fn fresh(identity: &Identity, policy: &Policy, room: &Workroom) -> Replica {
    Replica::new(identity.clone(), policy.clone()).in_room(room)
}

/// Whether a node speaks as the version before: one in four.
fn is_old(seed: u64, name: &str) -> bool {
    Chance::new(seed, &format!("version of {name}")).once_in(4)
}

/// How much a node keeps unpacked and judges at once: one in three as little as it can, the others what a real one does.
/// Nodes that differ in it must not differ in their books, so both are doubted.
fn limits_of(seed: u64, name: &str) -> WorkLimits {
    let tight = Chance::new(seed, &format!("room of {name}")).once_in(3);
    if tight { WorkLimits::TIGHTEST } else { WorkLimits::default() }
}
