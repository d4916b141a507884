//! A handful of nodes in memory: each a replica with its durable log, linked by queues that a test can cut.

use std::collections::{BTreeMap, VecDeque};

use ed25519_dalek::SigningKey;
use engine::entry::Entry;
use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use engine::policy::Policy;
use engine::replica::{Capture, CaptureError, Identity, Input, Output, Receipt, Replica, SyncEvent};
use engine::sync::{Carried, Message};
use engine::time::Instant;
use engine::transaction::{Draft, Enrolment, HubRecord};

/// Name of the only store.
pub const STORE: &str = "s1";
/// First instant of every test: 2026-11-23T10:00:00Z.
pub const START_MS: i64 = 1_795_428_000_000;

/// One node: its replica, what is durable, what it answered.
pub struct Node {
    pub replica: Replica,
    pub log: Vec<Entry>,
    identity: Identity,
    batches: Vec<Carried>,
    starts: u8,
    pub answers: BTreeMap<u64, Result<Receipt, CaptureError>>,
    pub events: Vec<SyncEvent>,
    /// When false, what is persisted is never reported durable.
    pub disk: bool,
    pending: u64,
    restored: u64,
}

/// All nodes, the links between them, the time.
pub struct World {
    pub nodes: BTreeMap<WriterId, Node>,
    links: BTreeMap<(WriterId, WriterId), VecDeque<Message>>,
    pub now_ms: i64,
    tokens: u64,
}

pub fn key(name: &str) -> SigningKey {
    SigningKey::from_bytes(blake3::hash(name.as_bytes()).as_bytes())
}

pub fn writer(name: &str) -> WriterId {
    WriterId(key(name).verifying_key().to_bytes())
}

pub fn log(name: &str) -> LogId {
    LogId { terminal: name.parse::<TerminalId>().unwrap(), incarnation: 1 }
}

fn identity(name: &str, start: u8) -> Identity {
    Identity {
        store: STORE.parse::<StoreId>().unwrap(),
        log: log(name),
        key: key(name),
        nonce: [start; 16],
        hub: writer("hub"),
    }
}

impl World {
    /// A hub that has enrolled the named tills; nobody is connected.
    pub fn new(tills: &[&str]) -> Self {
        let mut world = Self { nodes: BTreeMap::new(), links: BTreeMap::new(), now_ms: START_MS, tokens: 0 };
        for name in std::iter::once(&"hub").chain(tills) {
            let identity = identity(name, 1);
            let node = Node {
                replica: Replica::new(identity.clone(), Policy::default()),
                identity,
                log: Vec::new(),
                batches: Vec::new(),
                starts: 1,
                answers: BTreeMap::new(),
                events: Vec::new(),
                disk: true,
                pending: 0,
                restored: 0,
            };
            world.nodes.insert(writer(name), node);
        }
        for name in tills {
            world.state(HubRecord::Enrol(Enrolment { log: log(name), writer: writer(name) }));
        }
        world
    }

    pub fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.get_mut(&writer(name)).unwrap()
    }

    pub fn state(&mut self, record: HubRecord) {
        self.tokens += 1;
        let (token, receipt) = (self.tokens, format!("hub-{}", self.tokens));
        self.give("hub", Input::State { token, record: Box::new(record), receipt });
    }

    pub fn give(&mut self, name: &str, input: Input) {
        self.give_key(writer(name), input);
    }

    fn give_key(&mut self, at: WriterId, input: Input) {
        let now = Instant::utc(self.now_ms);
        let Some(node) = self.nodes.get_mut(&at) else { return };
        let outputs = node.replica.handle(now, input);
        self.obey(at, outputs);
    }

    fn obey(&mut self, at: WriterId, outputs: Vec<Output>) {
        let Some(node) = self.nodes.get_mut(&at) else { return };
        let before = node.log.len();
        for output in outputs {
            match output {
                Output::Persist { entry, ordinal } => {
                    if let Entry::Batch(batch) = &entry {
                        assert_eq!(ordinal, Some(node.batches.len() as u64));
                        node.batches.push(Carried { bytes: batch.bytes.clone(), change: batch.change });
                    }
                    node.log.push(entry);
                }
                Output::Captured { token, result } => assert!(node.answers.insert(token, result).is_none()),
                Output::Send(peer, message) => {
                    if let Some(link) = self.links.get_mut(&(at, peer)) {
                        link.push_back(message);
                    }
                }
                Output::SendBatches { peer, number, ordinals } => {
                    let batches = ordinals
                        .iter()
                        .map(|at| node.batches[usize::try_from(*at).unwrap()].clone())
                        .collect();
                    if let Some(link) = self.links.get_mut(&(at, peer)) {
                        link.push_back(Message::Batches { number, batches });
                    }
                }
                Output::Disconnect(peer, reason) => panic!("{at} ends with {peer}: {reason}"),
                Output::Event(event) => node.events.push(event),
                Output::Case(_) => {}
            }
        }
        node.pending += (node.log.len() - before) as u64;
        if node.disk && node.pending > 0 {
            node.pending = 0;
            let entries = node.log.len() as u64 - node.restored;
            self.give_key(at, Input::Durable { entries });
        }
    }

    /// Records a transaction from JSON at a till; the answer, if it came at once.
    pub fn capture(&mut self, name: &str, json: &str) -> Option<Result<Receipt, CaptureError>> {
        self.tokens += 1;
        let token = self.tokens;
        let draft = Draft::from_json(json).unwrap();
        self.now_ms += 1_000;
        self.give(name, Input::Capture(vec![Capture { token, draft }]));
        self.node(name).answers.get(&token).cloned()
    }

    pub fn connect(&mut self, one: &str, two: &str) {
        let (one, two) = (writer(one), writer(two));
        self.links.insert((one, two), VecDeque::new());
        self.links.insert((two, one), VecDeque::new());
        self.give_key(one, Input::PeerUp(two));
        self.give_key(two, Input::PeerUp(one));
    }

    /// Cuts a link: what is on its way is lost.
    pub fn cut(&mut self, one: &str, two: &str) {
        let (one, two) = (writer(one), writer(two));
        self.links.remove(&(one, two));
        self.links.remove(&(two, one));
        self.give_key(one, Input::PeerDown(two));
        self.give_key(two, Input::PeerDown(one));
    }

    /// Delivers one waiting message of some link, chosen by `pick`; `false` if there is none.
    pub fn deliver(&mut self, pick: usize) -> bool {
        let waiting: Vec<_> =
            self.links.iter().filter(|(_, link)| !link.is_empty()).map(|(ends, _)| *ends).collect();
        if waiting.is_empty() {
            return false;
        }
        let (from, to) = waiting[pick % waiting.len()];
        let message = self.links.get_mut(&(from, to)).and_then(VecDeque::pop_front).unwrap();
        self.give_key(to, Input::Message(from, message.encode()));
        true
    }

    /// Delivers until nothing is on its way, and settles the books.
    pub fn run(&mut self) {
        let mut steps = 0;
        while self.deliver(steps) {
            steps += 1;
            assert!(steps < 100_000, "the conversation does not end");
        }
        for at in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.give_key(at, Input::Wakeup);
        }
        while self.deliver(0) {}
    }

    /// Stops a node without warning and starts it again from what was durable.
    pub fn restart(&mut self, name: &str) {
        let at = writer(name);
        for other in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.links.remove(&(at, other)).is_some() {
                self.links.remove(&(other, at));
                self.give_key(other, Input::PeerDown(at));
            }
        }
        let node = self.node(name);
        node.starts += 1;
        node.identity.nonce = [node.starts; 16];
        let durable = node.log.len() - usize::try_from(node.pending).unwrap();
        node.log.truncate(durable);
        node.pending = 0;
        node.disk = true;
        let mut replica = Replica::new(node.identity.clone(), Policy::default());
        node.batches.clear();
        for entry in node.log.clone() {
            if let Entry::Batch(batch) = &entry {
                node.batches.push(Carried { bytes: batch.bytes.clone(), change: batch.change });
            }
            replica.restore(entry).unwrap();
        }
        replica.restored(None);
        node.replica = replica;
        node.restored = node.log.len() as u64;
    }

    /// Every replica holds the same documents and the same books.
    pub fn assert_converged(&mut self) {
        let mut views = Vec::new();
        for node in self.nodes.values_mut() {
            let heads = node.replica.document_heads().unwrap();
            for (day, document) in node.replica.days() {
                assert_eq!(heads[&day], document.implied_heads(), "Automerge agrees with the batches");
            }
            views.push((node.replica.digest(), heads, node.replica.books().view_hash()));
        }
        assert!(views.windows(2).all(|pair| pair[0] == pair[1]), "replicas differ");
    }
}
