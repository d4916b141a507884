//! Nodes, links and time. A node is a replica with a disk that has two parts: what is durable and what is not; a link
//! is a reliable, ordered stream while it is up, as QUIC is, and loses what is on its way when it goes down. Events
//! happen in the order of virtual time, ties in the order in which they were made.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use engine::entry::Entry;
use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use engine::policy::Policy;
use engine::replica::{Capture, CaptureError, Identity, Input, Output, Receipt, Replica, SyncEvent};
use engine::sync::{Carried, Message};
use engine::time::Instant;
use engine::transaction::{Draft, Enrolment, HubRecord};

/// First instant of every run: 2026-11-23T08:00:00Z.
pub const START_MS: i64 = 1_795_420_800_000;
/// The only store.
pub const STORE: &str = "store-1";

/// What happens at a point in time.
#[derive(Debug)]
enum Happening {
    /// A message arrives, if the link it was sent on is still up.
    Arrive { from: WriterId, to: WriterId, link: u64, message: Message },
    /// The disk of a node has made `entries` durable, if the node did not restart since.
    Synced { node: WriterId, start: u32, entries: u64 },
    /// A node wanted to be woken.
    Wake { node: WriterId, start: u32 },
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
    /// Its replica.
    pub replica: Replica,
    /// Name of its terminal.
    pub name: String,
    /// How far its clock is off, ms.
    pub clock_skew_ms: i64,
    /// What it answered: token → what was recorded or why not.
    pub answers: BTreeMap<u64, Result<Receipt, CaptureError>>,
    /// What its replica reported.
    pub events: Vec<SyncEvent>,
    /// False while the disk hangs: nothing becomes durable.
    pub disk_works: bool,
    identity: Identity,
    log: Vec<Entry>,
    durable: usize,
    restored: usize,
    batches: Vec<Carried>,
    start: u32,
    woken_at: Option<i64>,
}

/// Everything.
pub struct World {
    /// Nodes by key.
    pub nodes: BTreeMap<WriterId, Node>,
    /// Virtual time, ms since 1970.
    pub now_ms: i64,
    /// How long things take.
    pub delays: Delays,
    /// How many messages arrived.
    pub messages: u64,
    /// A running hash of everything that happened.
    pub trace: blake3::Hasher,
    links: BTreeMap<(WriterId, WriterId), (u64, i64)>,
    next_link: u64,
    queue: BTreeMap<(i64, u64), Happening>,
    made: u64,
    tokens: u64,
    chance: crate::chance::Chance,
}

/// The key of a node, by name.
#[must_use]
pub fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(name.as_bytes()).as_bytes())
}

/// The public key of a node, by name.
#[must_use]
pub fn writer(name: &str) -> WriterId {
    WriterId(key(name).verifying_key().to_bytes())
}

fn name_log(name: &str) -> LogId {
    let terminal: TerminalId = name.parse().expect("names of the simulator are names");
    LogId { terminal, incarnation: 1 }
}

fn identity(name: &str, start: u32) -> Identity {
    let mut nonce = [0; 16];
    nonce[..4].copy_from_slice(&start.to_le_bytes());
    let store: StoreId = STORE.parse().expect("the store has a name");
    Identity { store, log: name_log(name), key: key(name), nonce, hub: writer("hub") }
}

impl World {
    /// A hub that has enrolled the tills; nobody is connected.
    #[must_use]
    pub fn new(tills: &[String], delays: Delays, policy: &Policy, seed: u64) -> Self {
        let mut world = Self {
            nodes: BTreeMap::new(),
            now_ms: START_MS,
            delays,
            messages: 0,
            trace: blake3::Hasher::new(),
            links: BTreeMap::new(),
            next_link: 0,
            queue: BTreeMap::new(),
            made: 0,
            tokens: 0,
            chance: crate::chance::Chance::new(seed, "delays"),
        };
        for name in std::iter::once("hub").chain(tills.iter().map(String::as_str)) {
            let identity = identity(name, 1);
            let node = Node {
                replica: Replica::new(identity.clone(), policy.clone()),
                name: name.to_owned(),
                clock_skew_ms: 0,
                answers: BTreeMap::new(),
                events: Vec::new(),
                disk_works: true,
                identity,
                log: Vec::new(),
                durable: 0,
                restored: 0,
                batches: Vec::new(),
                start: 1,
                woken_at: None,
            };
            world.nodes.insert(writer(name), node);
        }
        for name in tills {
            world.state(HubRecord::Enrol(Enrolment { log: name_log(name), writer: writer(name) }));
        }
        world
    }

    /// A node by name.
    ///
    /// # Panics
    /// If there is none.
    pub fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(&writer(name)).expect("a node of that name")
    }

    /// The hub states something.
    pub fn state(&mut self, record: HubRecord) {
        self.tokens += 1;
        let (token, receipt) = (self.tokens, format!("hub-{}", self.tokens));
        self.give(writer("hub"), Input::State { token, record: Box::new(record), receipt });
    }

    /// A till is asked to record a transaction. Returns the token under which it will answer.
    pub fn capture(&mut self, name: &str, draft: Draft) -> u64 {
        self.tokens += 1;
        let token = self.tokens;
        self.give(writer(name), Input::Capture(vec![Capture { token, draft }]));
        token
    }

    /// Connects two nodes. An older link between them ends.
    pub fn connect(&mut self, one: &str, two: &str) {
        self.cut(one, two);
        let (one, two) = (writer(one), writer(two));
        self.next_link += 1;
        for ends in [(one, two), (two, one)] {
            self.links.insert(ends, (self.next_link, self.now_ms));
        }
        self.give(one, Input::PeerUp(two));
        self.give(two, Input::PeerUp(one));
    }

    /// Cuts a link: what is on its way is lost.
    pub fn cut(&mut self, one: &str, two: &str) {
        let (one, two) = (writer(one), writer(two));
        let was_up = self.links.remove(&(one, two)).is_some();
        self.links.remove(&(two, one));
        if was_up {
            self.give(one, Input::PeerDown(two));
            self.give(two, Input::PeerDown(one));
        }
    }

    /// Whether two nodes are connected.
    #[must_use]
    pub fn connected(&self, one: &str, two: &str) -> bool {
        self.links.contains_key(&(writer(one), writer(two)))
    }

    /// A node loses power: what was not durable is gone. It starts again from what was.
    pub fn crash(&mut self, name: &str, policy: &Policy) {
        let at = writer(name);
        let others: Vec<String> =
            self.nodes.values().map(|node| node.name.clone()).filter(|other| other != name).collect();
        for other in others {
            self.cut(name, &other);
        }
        let node = self.nodes.get_mut(&at).expect("a node of that name");
        node.start += 1;
        node.identity = identity(name, node.start);
        node.log.truncate(node.durable);
        node.restored = node.durable;
        node.disk_works = true;
        node.woken_at = None;
        node.batches.clear();
        let mut replica = Replica::new(node.identity.clone(), policy.clone());
        for entry in &node.log {
            if let Entry::Batch(batch) = entry {
                node.batches.push(Carried { bytes: batch.bytes.clone(), change: batch.change });
            }
            replica.restore(entry.clone()).expect("what was durable restores");
        }
        replica.restored(None);
        node.replica = replica;
        self.give(at, Input::Wakeup);
    }

    /// A copy of what a node has on its disk.
    #[must_use]
    pub fn backup(&self, name: &str) -> Vec<Entry> {
        let node = &self.nodes[&writer(name)];
        node.log[..node.durable].to_vec()
    }

    /// A node loses its disk and starts from a backup.
    pub fn restore(&mut self, name: &str, backup: Vec<Entry>, policy: &Policy) {
        let node = self.node(name);
        node.durable = backup.len();
        node.log = backup;
        self.crash(name, policy);
    }

    /// Lets the next thing happen, if it is due before `until_ms`; otherwise time goes on to there.
    pub fn step(&mut self, until_ms: i64) -> bool {
        let due = self.queue.first_key_value().map(|((at, _), _)| *at).filter(|at| *at <= until_ms);
        let Some(at) = due else {
            self.now_ms = self.now_ms.max(until_ms);
            return false;
        };
        self.now_ms = self.now_ms.max(at);
        let Some((_, happening)) = self.queue.pop_first() else { return false };
        match happening {
            Happening::Arrive { from, to, link, message } => {
                if self.links.get(&(from, to)).is_some_and(|up| up.0 == link) {
                    self.messages += 1;
                    let bytes = message.encode();
                    self.trace.update(&self.now_ms.to_le_bytes());
                    self.trace.update(&bytes);
                    self.give(to, Input::Message(from, bytes));
                }
            }
            Happening::Synced { node, start, entries } => self.synced(node, start, entries),
            Happening::Wake { node, start } => {
                let current = self.nodes.get_mut(&node).filter(|known| known.start == start);
                if let Some(known) = current {
                    known.woken_at = None;
                    self.give(node, Input::Wakeup);
                }
            }
        }
        true
    }

    fn synced(&mut self, at: WriterId, start: u32, entries: u64) {
        let Some(node) = self.nodes.get_mut(&at).filter(|node| node.start == start && node.disk_works) else {
            return;
        };
        node.durable = node.durable.max(node.restored + usize::try_from(entries).expect("a log in memory"));
        self.give(at, Input::Durable { entries });
    }

    fn give(&mut self, at: WriterId, input: Input) {
        let Some(node) = self.nodes.get_mut(&at) else { return };
        let now = Instant::utc((self.now_ms + node.clock_skew_ms).max(0));
        let outputs = node.replica.handle(now, input);
        let before = node.log.len();
        let mut sends = Vec::new();
        let mut ended = Vec::new();
        for output in outputs {
            match output {
                Output::Persist { entry, ordinal } => {
                    if let Entry::Batch(batch) = &entry {
                        assert_eq!(ordinal, Some(node.batches.len() as u64), "batches are numbered in a row");
                        node.batches.push(Carried { bytes: batch.bytes.clone(), change: batch.change });
                    }
                    node.log.push(entry);
                }
                Output::Captured { token, result } => {
                    assert!(node.answers.insert(token, result).is_none(), "an answer is given once");
                }
                Output::Send(peer, message) => sends.push((peer, message)),
                Output::SendBatches { peer, number, ordinals } => {
                    let carried =
                        |ordinal: &u64| node.batches[usize::try_from(*ordinal).expect("in memory")].clone();
                    sends.push((
                        peer,
                        Message::Batches { number, batches: ordinals.iter().map(carried).collect() },
                    ));
                }
                Output::Disconnect(peer, _) => ended.push(peer),
                Output::Event(event) => node.events.push(event),
                Output::Case(_) => {}
            }
        }
        let grown = node.log.len() > before;
        let (start, entries) = (node.start, (node.log.len() - node.restored) as u64);
        let wake = node.replica.next_wakeup().map(|at_ms| (at_ms - node.clock_skew_ms).max(self.now_ms));
        let wake = wake.filter(|at_ms| node.woken_at.is_none_or(|known| *at_ms < known));
        if wake.is_some() {
            node.woken_at = wake;
        }
        if grown {
            let (low, high) = self.delays.disk_ms;
            let at_ms = self.now_ms + self.chance.between(low, high);
            self.put(at_ms, Happening::Synced { node: at, start, entries });
        }
        if let Some(at_ms) = wake {
            self.put(at_ms, Happening::Wake { node: at, start });
        }
        for (peer, message) in sends {
            self.send(at, peer, message);
        }
        for peer in ended {
            let name = |key: &WriterId| self.nodes.get(key).map(|node| node.name.clone()).unwrap_or_default();
            let (one, two) = (name(&at), name(&peer));
            self.cut(&one, &two);
        }
    }

    /// Puts a message on a link, behind those sent before it.
    fn send(&mut self, from: WriterId, to: WriterId, message: Message) {
        let (low, high) = self.delays.link_ms;
        let delay = self.chance.between(low, high);
        let Some((link, last_ms)) = self.links.get_mut(&(from, to)) else { return };
        let at_ms = (self.now_ms + delay).max(*last_ms);
        *last_ms = at_ms;
        let link = *link;
        self.put(at_ms, Happening::Arrive { from, to, link, message });
    }

    fn put(&mut self, at_ms: i64, happening: Happening) {
        self.made += 1;
        self.queue.insert((at_ms, self.made), happening);
    }

    /// Lets time go on for `ms`.
    pub fn run_for(&mut self, ms: i64) {
        let until = self.now_ms + ms;
        while self.step(until) {}
    }
}
