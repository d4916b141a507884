//! A hub with its tills, in memory: frames are carried when somebody says so, and everything is durable at once.

use std::collections::VecDeque;

use ed25519_dalek::SigningKey;
use engine::entry::Entry;
use engine::host::{Effect, Host, Line, Looked, Stored};
use engine::ids::{LogId, TerminalId, WriterId};
use engine::policy::Policy;
use engine::replica::{Capture, Identity, Input, Replica};
use engine::sync::{Carried, Dialect, Message};
use engine::time::Instant;
use engine::transaction::{Draft, Enrolment, HubRecord};

/// When everything begins: 2026-11-23, in the morning.
const START_MS: i64 = 1_795_420_800_000;
const HUB: usize = 0;

pub(super) struct Shop {
    nodes: Vec<Node>,
    linked: Vec<bool>,
    pub(super) now: Instant,
    token: u64,
}

struct Node {
    host: Host,
    log: Vec<Line>,
    out: VecDeque<(usize, Vec<u8>)>,
    starts: u8,
}

fn key(node: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(node).unwrap() + 1; 32])
}

fn writer(node: usize) -> WriterId {
    WriterId(key(node).verifying_key().to_bytes())
}

fn node_of(peer: WriterId) -> usize {
    (0..10).find(|node| writer(*node) == peer).unwrap()
}

fn log_of(node: usize) -> LogId {
    let till = || format!("till-{node}").parse().unwrap();
    LogId { terminal: if node == HUB { TerminalId::hub() } else { till() }, incarnation: 1 }
}

fn replica(node: usize, start: u8) -> Replica {
    let (store, nonce) = ("s1".parse().unwrap(), [start; 16]);
    let identity = Identity { store, log: log_of(node), key: key(node), nonce, hub: writer(HUB) };
    Replica::new(identity, Policy::default())
}

impl Shop {
    /// A hub that has enrolled so many tills; nobody is connected.
    pub(super) fn new(tills: usize) -> Self {
        let node = |node| Node {
            host: Host::new(replica(node, 0)),
            log: Vec::new(),
            out: VecDeque::new(),
            starts: 0,
        };
        let nodes = (0..=tills).map(node).collect();
        let mut shop = Self { nodes, linked: vec![false; tills + 1], now: Instant::utc(START_MS), token: 0 };
        for till in 1..=tills {
            let enrolment = Enrolment { log: log_of(till), writer: writer(till) };
            shop.nodes[till].host.replica_mut().trust_enrolment(&enrolment);
            shop.token += 1;
            let (token, receipt) = (shop.token, format!("H-{till}"));
            shop.give(HUB, Input::State { token, record: Box::new(HubRecord::Enrol(enrolment)), receipt });
        }
        shop
    }

    pub(super) fn hub(&self) -> &Replica {
        self.nodes[HUB].host.replica()
    }

    /// A till records what a POS would hand over.
    pub(super) fn capture(&mut self, till: usize, json: &[String]) {
        let mut captures = Vec::new();
        for json in json {
            self.token += 1;
            captures.push(Capture { token: self.token, draft: Draft::from_json(json).unwrap() });
        }
        self.give(till, Input::Capture(captures));
    }

    pub(super) fn link(&mut self, till: usize) {
        if !std::mem::replace(&mut self.linked[till], true) {
            self.give(HUB, Input::PeerUp(writer(till), Dialect::Short));
            self.give(till, Input::PeerUp(writer(HUB), Dialect::Short));
        }
    }

    pub(super) fn cut(&mut self, till: usize) {
        if std::mem::replace(&mut self.linked[till], false) {
            self.nodes[HUB].out.retain(|(to, _)| *to != till);
            self.nodes[till].out.clear();
            self.give(HUB, Input::PeerDown(writer(till)));
            self.give(till, Input::PeerDown(writer(HUB)));
        }
    }

    /// Carries so many frames, if there are so many, and lets the hub settle what it has.
    pub(super) fn carry(&mut self, frames: usize) {
        for _ in 0..frames {
            let Some(from) = (0..self.nodes.len()).find(|node| !self.nodes[*node].out.is_empty()) else {
                break;
            };
            let Some((to, frame)) = self.nodes[from].out.pop_front() else { break };
            if self.linked[from.max(to)] {
                self.give(to, Input::Message(writer(from), frame));
            }
        }
        self.settle();
    }

    /// Time passes.
    pub(super) fn wait(&mut self, ms: i64) {
        self.now.ms += ms;
        for node in 0..self.nodes.len() {
            self.give(node, Input::Wakeup);
        }
        self.settle();
    }

    /// The hub starts again from its log; nobody is connected.
    pub(super) fn restart_hub(&mut self) {
        (1..self.nodes.len()).for_each(|till| self.cut(till));
        let hub = &mut self.nodes[HUB];
        hub.starts += 1;
        let entries: Vec<Entry> = hub.log.iter().map(read).collect();
        hub.host = Host::new(Replica::from_log(replica(HUB, hub.starts), &entries).unwrap());
        self.settle();
    }

    /// As a store's task does before it answers a question.
    fn settle(&mut self) {
        self.give(HUB, Input::Wakeup);
        while self.hub().next_wakeup() == Some(0) {
            self.give(HUB, Input::Wakeup);
        }
    }

    fn give(&mut self, node: usize, input: Input) {
        self.nodes[node].host.give(self.now, input);
        loop {
            let effects = self.nodes[node].host.turn(self.now);
            if effects.is_empty() {
                return;
            }
            // A conversation that ends gives the node another turn: only when what this one asked for is done.
            let ended: Vec<usize> =
                effects.into_iter().filter_map(|effect| self.obey(node, effect)).collect();
            ended.into_iter().for_each(|peer| self.cut(node.max(peer)));
        }
    }

    /// Does what an effect asks for; gives the peer whose conversation is to end.
    fn obey(&mut self, node: usize, effect: Effect) -> Option<usize> {
        match effect {
            Effect::Append(lines) => {
                let count = lines.len() as u64;
                self.nodes[node].log.extend(lines);
                self.nodes[node].host.appended(self.now, count);
            }
            Effect::Answer(_, answer) => drop(answer.unwrap()),
            Effect::Send(to, frame) => self.send(node, to, frame),
            Effect::SendBatches { peer, number, batches } => {
                let batches = batches.into_iter().map(|stored| self.carried(node, stored)).collect();
                self.send(node, peer, Message::Batches { number, batches }.encode());
            }
            Effect::End(peer, _) => return Some(node_of(peer)),
            Effect::Case(_) | Effect::Event(_) => {}
        }
        None
    }

    fn send(&mut self, node: usize, to: WriterId, frame: Vec<u8>) {
        self.nodes[node].out.push_back((node_of(to), frame));
    }

    fn carried(&self, node: usize, stored: Stored) -> Carried {
        let ordinal = match stored {
            Stored::Here(carried) => return carried,
            Stored::InLog(ordinal) => usize::try_from(ordinal).unwrap(),
        };
        let mut batches = self.nodes[node].log.iter().filter(|line| line.looked == Looked::Batch);
        match batches.nth(ordinal).map(read) {
            Some(Entry::Batch(batch)) => Carried { bytes: batch.bytes, change: batch.change },
            other => panic!("batch {ordinal} is not in the log: {other:?}"),
        }
    }
}

fn read(line: &Line) -> Entry {
    Entry::decode(line.kind, &line.bytes).unwrap().1
}
