//! A hub and its tills without a disk or a network: what an append gives is durable at once, and what is said is carried when a
//! test says so.

use std::collections::VecDeque;

use ed25519_dalek::SigningKey;
use engine::entry::Entry;
use engine::host::{Effect, Host, Line, Looked, Stored};
use engine::ids::{LogId, WriterId};
use engine::policy::Policy;
use engine::replica::{Capture, Identity, Input, Replica, SyncEvent};
use engine::sync::{Carried, Dialect, Message};
use engine::time::Instant;
use engine::transaction::{Draft, Enrolment, HubRecord};

/// The hub's place among the nodes.
pub const HUB: usize = 0;

pub fn key(node: usize) -> SigningKey {
    SigningKey::from_bytes(&[u8::try_from(node).unwrap() + 1; 32])
}

pub fn writer(node: usize) -> WriterId {
    WriterId(key(node).verifying_key().to_bytes())
}

pub fn log(node: usize) -> LogId {
    let name = if node == HUB { "hub".to_owned() } else { format!("till-{node:02}") };
    LogId { terminal: name.parse().unwrap(), incarnation: 1 }
}

/// What an append gives is durable at once.
pub struct Node {
    pub host: Host,
    pub log: Vec<Line>,
    pub out: VecDeque<(usize, Vec<u8>)>,
    /// Conversations that it ended itself: with whom, and why.
    pub ended: Vec<(usize, String)>,
    /// What it refused.
    pub refused: Vec<String>,
}

/// Who a node is; each `life` opens a session of its own.
pub fn identity(node: usize, life: u8) -> Identity {
    let nonce = [u8::try_from(node).unwrap() + 50 * life; 16];
    Identity { store: "s1".parse().unwrap(), log: log(node), key: key(node), nonce, hub: writer(HUB) }
}

impl Node {
    pub fn over(replica: Replica) -> Self {
        let (log, out) = (Vec::new(), VecDeque::new());
        Self { host: Host::new(replica), log, out, ended: Vec::new(), refused: Vec::new() }
    }

    /// The replica that a start makes of the log, in a session of its own.
    pub fn restarted(&self, node: usize, life: u8) -> Replica {
        let entries: Vec<Entry> =
            self.log.iter().map(|line| Entry::decode(line.kind, &line.bytes).unwrap().1).collect();
        Replica::from_log(Replica::new(identity(node, life), Policy::default()), &entries).unwrap()
    }
}

/// A hub and its tills.
pub struct Shop {
    pub nodes: Vec<Node>,
    pub now: Instant,
    pub token: u64,
    /// The hub hears everything before its books follow, until this is taken back.
    pub busy: bool,
}

impl Shop {
    pub fn new(tills: usize) -> Self {
        let node = |node: usize| Node::over(Replica::new(identity(node, 0), Policy::default()));
        let now = Instant::utc(1_795_420_800_000);
        let mut shop = Self { nodes: (0..=tills).map(node).collect(), now, token: 0, busy: false };
        for till in 1..=tills {
            let enrolment = Enrolment { log: log(till), writer: writer(till) };
            shop.nodes[till].host.replica_mut().trust_enrolment(&enrolment);
            let record = Box::new(HubRecord::Enrol(enrolment));
            shop.token += 1;
            let (token, receipt) = (shop.token, format!("enrol-{till}"));
            shop.give(HUB, Input::State { token, record, receipt });
        }
        shop
    }

    pub fn give(&mut self, at: usize, input: Input) {
        let now = self.now;
        self.nodes[at].host.give(now, input);
        loop {
            let host = &mut self.nodes[at].host;
            let effects = if at == HUB && self.busy { host.listen() } else { host.turn(now) };
            if effects.is_empty() {
                return;
            }
            effects.into_iter().for_each(|effect| self.obey(at, effect));
        }
    }

    fn obey(&mut self, at: usize, effect: Effect) {
        let node_of = |peer: WriterId| (0..).find(|node| writer(*node) == peer).unwrap();
        match effect {
            Effect::Append(lines) => {
                let count = lines.len() as u64;
                self.nodes[at].log.extend(lines);
                self.nodes[at].host.appended(self.now, count);
            }
            Effect::Send(peer, frame) => self.nodes[at].out.push_back((node_of(peer), frame)),
            Effect::SendBatches { peer, number, batches } => {
                let carried = batches.into_iter().map(|stored| match stored {
                    Stored::Here(carried) => carried,
                    Stored::InLog(ordinal) => self.batch(at, usize::try_from(ordinal).unwrap()),
                });
                let frame = Message::Batches { number, batches: carried.collect() }.encode();
                self.nodes[at].out.push_back((node_of(peer), frame));
            }
            Effect::End(peer, why) => self.nodes[at].ended.push((node_of(peer), why)),
            Effect::Answer(_, answer) => assert!(answer.is_ok(), "{answer:?}"),
            Effect::Event(SyncEvent::Refused { reason, by_peer: false, .. }) => {
                self.nodes[at].refused.push(reason);
            }
            Effect::Event(_) | Effect::Case(_) => {}
        }
    }

    /// A batch of a node's log.
    pub fn batch(&self, at: usize, ordinal: usize) -> Carried {
        let line =
            self.nodes[at].log.iter().filter(|line| line.looked == Looked::Batch).nth(ordinal).unwrap();
        match Entry::decode(line.kind, &line.bytes) {
            Ok((_, Entry::Batch(batch))) => Carried { bytes: batch.bytes, change: batch.change },
            other => panic!("{other:?}"),
        }
    }

    pub fn link(&mut self, till: usize, dialect: Dialect) {
        self.give(HUB, Input::PeerUp(writer(till), dialect));
        self.give(till, Input::PeerUp(writer(HUB), dialect));
        self.carry();
    }

    pub fn cut(&mut self, till: usize) {
        self.nodes[HUB].out.retain(|(to, _)| *to != till);
        self.nodes[till].out.clear();
        self.give(HUB, Input::PeerDown(writer(till)));
        self.give(till, Input::PeerDown(writer(HUB)));
    }

    /// Carries what everybody has to say. Gives the messages of batches: from whom, to whom, how many bytes, and what.
    pub fn carry(&mut self) -> Vec<(usize, usize, usize, Message)> {
        let mut carried = Vec::new();
        while let Some(from) = (0..self.nodes.len()).find(|node| !self.nodes[*node].out.is_empty()) {
            let (to, frame) = self.nodes[from].out.pop_front().unwrap();
            let message = Message::decode(&frame).unwrap();
            if matches!(message, Message::Batches { .. } | Message::Short { .. }) {
                carried.push((from, to, frame.len(), message));
            }
            self.give(to, Input::Message(writer(from), frame));
        }
        carried
    }

    pub fn sell(&mut self, till: usize) {
        self.token += 1;
        self.now.ms += 1_000;
        let (token, amount) = (self.token, 100 + self.token);
        let text = format!(
            r#"{{"kind":"sale","receipt":"R-{till}-{token:06}","operator":"op-1","currency":"GBP","tenders":[{{"type":"cash",
            "amount_minor":{amount}}}],"lines":[{{"sku":"SKU-{token:08}","description":"Lantern, white","quantity":"1",
            "amount_minor":{amount},"tax_code":"S","tax_rate":"20"}}]}}"#
        );
        self.give(till, Input::Capture(vec![Capture { token, draft: Draft::from_json(&text).unwrap() }]));
    }

    /// A till's sale, and what it made everybody say of batches.
    pub fn sell_live(&mut self, till: usize) -> Vec<(usize, usize, usize, Message)> {
        self.sell(till);
        self.carry()
    }

    /// Everybody holds the same books of so many records of tills, and nobody ended a conversation.
    pub fn assert_level(&mut self, records: u64) {
        self.give(HUB, Input::Wakeup);
        self.carry();
        let heads = self.nodes[HUB].host.replica().log_heads();
        let of_tills =
            heads.iter().filter(|(log, _)| !log.terminal.is_hub()).map(|(_, seq)| seq).sum::<u64>();
        assert_eq!(of_tills, records);
        for at in 0..self.nodes.len() {
            while self.nodes[at].host.replica().next_wakeup() == Some(0) {
                self.give(at, Input::Wakeup);
            }
            let replica = self.nodes[at].host.replica();
            assert_eq!(replica.digest(), self.nodes[HUB].host.replica().digest(), "documents of {at}");
            assert_eq!(replica.log_heads(), heads, "logs of {at}");
            assert_eq!(replica.books().view_hash(), self.nodes[HUB].host.replica().books().view_hash());
            if at != HUB {
                assert_eq!(replica.waiting().count, 0, "the hub holds what till {at} sold");
            }
        }
    }

    pub fn nobody_ended(&self) -> bool {
        self.nodes.iter().all(|node| node.ended.is_empty())
    }
}
