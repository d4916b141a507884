//! A store without clock, disk or network of its own: replicas at home in their hosts, a log in memory, and frames that go
//! only when they are carried. Everything is as durable as it is asked to be at once.

use std::collections::VecDeque;

use ed25519_dalek::SigningKey;
use engine::entry::Entry;
use engine::host::{Effect, Host, Line, Looked, Stored};
use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use engine::policy::Policy;
use engine::replica::{Capture, Identity, Input, Replica, SyncEvent};
use engine::sync::{Carried, Dialect, Message};
use engine::time::Instant;
use engine::transaction::{Draft, Enrolment, HubRecord};

/// The hub's place in [`Shop::nodes`].
pub const HUB: usize = 0;
/// When everything begins: 2026-11-23, in the morning.
pub const START_MS: i64 = 1_795_420_800_000;

/// Key of a node.
pub fn key(node: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(node).unwrap_or(u8::MAX).wrapping_add(1); 32])
}

/// Public key of a node.
pub fn writer(node: usize) -> WriterId {
    WriterId(key(node).verifying_key().to_bytes())
}

/// The store.
pub fn store() -> StoreId {
    "s1".parse().expect("a store's name")
}

/// The log of a node.
pub fn log_of(node: usize) -> LogId {
    let terminal = match node {
        HUB => TerminalId::hub(),
        till => format!("till-{till}").parse().expect("a till's name"),
    };
    LogId { terminal, incarnation: 1 }
}

fn replica(node: usize, start: u8) -> Replica {
    let identity =
        Identity { store: store(), log: log_of(node), key: key(node), nonce: [start; 16], hub: writer(HUB) };
    Replica::new(identity, Policy::default())
}

/// An empty replica of the hub.
pub fn hub_replica() -> Replica {
    replica(HUB, 0)
}

/// A node: its replica, its log, and what it wants carried.
pub struct Node {
    /// The replica at home.
    pub host: Host,
    log: Vec<Line>,
    /// Frames to be carried, each with the node it is for.
    pub out: VecDeque<(usize, Vec<u8>)>,
    /// Tokens that were answered with a receipt.
    pub saved: Vec<u64>,
    start: u8,
}

/// A hub and its tills.
pub struct Shop {
    /// The hub first.
    pub nodes: Vec<Node>,
    /// What all clocks show.
    pub now: Instant,
    linked: Vec<bool>,
    tokens: u64,
}

impl Shop {
    /// A hub that has enrolled so many tills; nobody is connected.
    pub fn new(tills: usize) -> Self {
        let mut shop = Self {
            nodes: Vec::new(),
            now: Instant::utc(START_MS),
            linked: vec![false; tills + 1],
            tokens: 0,
        };
        for node in 0..=tills {
            let (host, start) = (Host::new(replica(node, 0)), 0);
            shop.nodes.push(Node { host, log: Vec::new(), out: VecDeque::new(), saved: Vec::new(), start });
        }
        for till in 1..=tills {
            let enrolment = Enrolment { log: log_of(till), writer: writer(till) };
            shop.nodes[till].host.replica_mut().trust_enrolment(&enrolment);
            shop.state(HubRecord::Enrol(enrolment));
        }
        shop
    }

    /// The hub states something.
    pub fn state(&mut self, record: HubRecord) {
        self.tokens += 1;
        let (token, receipt) = (self.tokens, format!("H-{}", self.tokens));
        self.give(HUB, Input::State { token, record: Box::new(record), receipt });
    }

    /// A till records something; gives the token of the answer.
    pub fn capture(&mut self, node: usize, draft: Draft) -> u64 {
        self.tokens += 1;
        let token = self.tokens;
        self.give(node, Input::Capture(vec![Capture { token, draft }]));
        token
    }

    /// Gives a node an event and does what follows from it.
    pub fn give(&mut self, node: usize, input: Input) {
        self.nodes[node].host.give(self.now, input);
        self.run(node);
    }

    /// Whether a till's link to the hub is up.
    pub fn is_linked(&self, till: usize) -> bool {
        self.linked[till]
    }

    /// Connects a till with the hub.
    pub fn link(&mut self, till: usize) {
        if !std::mem::replace(&mut self.linked[till], true) {
            // Every second till is of an older version.
            let dialect = if till % 2 == 1 { Dialect::Short } else { Dialect::Full };
            self.give(HUB, Input::PeerUp(writer(till), dialect));
            self.give(till, Input::PeerUp(writer(HUB), dialect));
        }
    }

    /// Cuts a till off; what was on its way is lost.
    pub fn cut(&mut self, till: usize) {
        if std::mem::replace(&mut self.linked[till], false) {
            self.nodes[HUB].out.retain(|(to, _)| *to != till);
            self.nodes[till].out.clear();
            self.give(HUB, Input::PeerDown(writer(till)));
            self.give(till, Input::PeerDown(writer(HUB)));
        }
    }

    /// Delivers a frame, if the link is up.
    pub fn deliver(&mut self, from: usize, to: usize, frame: Vec<u8>) {
        let till = from.max(to);
        if self.linked[till] {
            self.give(to, Input::Message(writer(from), frame));
        }
    }

    /// Carries frames honestly until there are none.
    pub fn carry_all(&mut self) {
        for _ in 0..100_000 {
            let Some(from) = (0..self.nodes.len()).find(|node| !self.nodes[*node].out.is_empty()) else {
                return;
            };
            if let Some((to, frame)) = self.nodes[from].out.pop_front() {
                self.deliver(from, to, frame);
            }
        }
        panic!("two honest nodes never stop talking");
    }

    /// Time passes, and everybody is woken who wanted to be.
    pub fn wait(&mut self, ms: i64) {
        self.now.ms += ms;
        for node in 0..self.nodes.len() {
            self.run(node);
        }
    }

    /// A node loses its memory and starts again from its log.
    pub fn restart(&mut self, node: usize) {
        let tills: Vec<usize> = if node == HUB { (1..self.nodes.len()).collect() } else { vec![node] };
        tills.into_iter().for_each(|till| self.cut(till));
        let entries = self.entries(node);
        self.nodes[node].start += 1;
        let start = self.nodes[node].start;
        let fresh = || {
            let mut fresh = replica(node, start);
            if node != HUB {
                fresh.trust_enrolment(&Enrolment { log: log_of(node), writer: writer(node) });
            }
            fresh
        };
        let replica = Replica::from_log(fresh(), &entries).expect("a node reads what it wrote");
        self.nodes[node].host = Host::new(replica);
        self.run(node);
    }

    /// What a node's log holds.
    pub fn entries(&self, node: usize) -> Vec<Entry> {
        self.nodes[node].log.iter().map(read).collect()
    }

    fn run(&mut self, node: usize) {
        loop {
            let effects = self.nodes[node].host.turn(self.now);
            if effects.is_empty() {
                return;
            }
            // A conversation that ends gives the node another turn: only when what this one asked for is done.
            let ended: Vec<WriterId> =
                effects.into_iter().filter_map(|effect| self.obey(node, effect)).collect();
            for peer in ended {
                self.cut(node.max(self.node_of(peer)));
            }
        }
    }

    /// Does what an effect asks for; gives the peer whose conversation is to end.
    fn obey(&mut self, node: usize, effect: Effect) -> Option<WriterId> {
        match effect {
            Effect::Append(lines) => {
                let count = lines.len() as u64;
                self.nodes[node].log.extend(lines);
                self.nodes[node].host.appended(self.now, count);
            }
            Effect::Answer(token, Ok(_)) => self.nodes[node].saved.push(token),
            Effect::Answer(..) | Effect::Case(_) => {}
            Effect::Send(to, frame) => self.send(node, to, frame),
            Effect::SendBatches { peer, number, batches } => {
                let batches = batches.into_iter().map(|stored| self.carried(node, stored)).collect();
                self.send(node, peer, Message::Batches { number, batches }.encode());
            }
            Effect::End(peer, _) => return Some(peer),
            Effect::Event(SyncEvent::Document(reason)) => panic!("a document failed: {reason}"),
            Effect::Event(_) => {}
        }
        None
    }

    fn send(&mut self, node: usize, to: WriterId, frame: Vec<u8>) {
        let to = self.node_of(to);
        self.nodes[node].out.push_back((to, frame));
    }

    fn node_of(&self, peer: WriterId) -> usize {
        (0..self.nodes.len()).find(|node| writer(*node) == peer).expect("only nodes of the shop are peers")
    }

    fn carried(&self, node: usize, stored: Stored) -> Carried {
        let ordinal = match stored {
            Stored::Here(carried) => return carried,
            Stored::InLog(ordinal) => usize::try_from(ordinal).unwrap_or(usize::MAX),
        };
        let batches = self.nodes[node].log.iter().filter(|line| line.looked == Looked::Batch);
        match batches.map(read).nth(ordinal) {
            Some(Entry::Batch(batch)) => Carried { bytes: batch.bytes, change: batch.change },
            other => panic!("batch {ordinal} is not in the log: {other:?}"),
        }
    }

    /// What holds at every moment, whatever peers said: the books of every node add up.
    pub fn assert_books_add_up(&self) {
        for node in &self.nodes {
            for (currency, (debits, credits)) in node.host.replica().books().trial_balance() {
                assert_eq!(debits, credits, "{currency}");
            }
        }
    }

    /// What holds at the end: books are those of their records projected from nothing, and documents are what their
    /// batches imply.
    pub fn assert_sound(&mut self) {
        self.assert_books_add_up();
        let day = self.now.day();
        for at in 0..self.nodes.len() {
            let log: Vec<Entry> =
                self.nodes[at].log.iter().filter(|l| l.looked == Looked::Batch).map(read).collect();
            let replica = self.nodes[at].host.replica_mut();
            let books = replica.books();
            assert_eq!(
                books.view_hash(),
                books.rebuild(day).view_hash(),
                "incremental books are others than rebuilt ones"
            );
            let implied: Vec<_> =
                replica.days().map(|(day, document)| (day, document.implied_heads())).collect();
            let read = |ordinal: u64| match log.get(usize::try_from(ordinal).ok()?)? {
                Entry::Batch(batch) => Some(batch.bytes.clone()),
                _ => None,
            };
            let heads = replica.document_heads(read).expect("documents apply");
            assert_eq!(
                heads.into_iter().collect::<Vec<_>>(),
                implied,
                "a document is another than its batches imply"
            );
        }
    }
}

fn read(line: &Line) -> Entry {
    Entry::decode(line.kind, &line.bytes).expect("a node reads what it wrote").1
}
