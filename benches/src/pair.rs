//! A hub and a till without a disk or a network: what one appends is durable at once, and what it says is carried over
//! by hand. Only the engine works.

use std::collections::VecDeque;

use ed25519_dalek::SigningKey;
use engine::attic::Workroom;
use engine::entry::Entry;
use engine::host::{Effect, Host, Line, Stored};
use engine::ids::{LogId, TerminalId, WriterId};
use engine::replica::{Capture, Identity, Input, Replica};
use engine::sync::{Dialect, Message};
use engine::time::Instant;
use engine::transaction::{Draft, Enrolment, HubRecord};
use node::hub::base_policy;

use crate::Outcome;

/// The clock of everybody: 2026-11-23, in the morning.
const NOW: Instant = Instant { ms: 1_795_420_800_000, offset_minutes: 0 };

fn key(node: u8) -> SigningKey {
    SigningKey::from_bytes(&[node + 1; 32])
}

fn writer(node: u8) -> WriterId {
    WriterId(key(node).verifying_key().to_bytes())
}

/// A node's replica, empty, with as much room as such a node has.
#[must_use]
pub fn replica(terminal: TerminalId, node: u8) -> Replica {
    let room = Workroom::default();
    let room = if terminal.is_hub() { room } else { room.of_one_store() };
    let identity = Identity {
        store: "s1".parse().expect("a store's name"),
        log: LogId { terminal, incarnation: 1 },
        key: key(node),
        nonce: [node; 16],
        hub: writer(0),
    };
    Replica::new(identity, base_policy("GBP".parse().expect("a currency"))).in_room(&room)
}

/// A node without a disk or a network: what it appends is durable at once.
pub struct Bare {
    /// The engine.
    pub host: Host,
    /// What it had appended.
    pub log: Vec<Line>,
    out: VecDeque<Vec<u8>>,
}

/// A hub and a till, and by which keys they know each other.
pub struct Pair {
    /// The hub.
    pub hub: Bare,
    /// The till.
    pub till: Bare,
    hub_key: WriterId,
    till_key: WriterId,
}

impl Bare {
    fn new(replica: Replica) -> Self {
        Self { host: Host::new(replica), log: Vec::new(), out: VecDeque::new() }
    }

    fn give(&mut self, input: Input) {
        self.host.give(NOW, input);
        loop {
            let effects = self.host.turn(NOW);
            if effects.is_empty() {
                return;
            }
            effects.into_iter().for_each(|effect| self.obey(effect));
        }
    }

    fn obey(&mut self, effect: Effect) {
        match effect {
            Effect::Append(lines) => {
                let count = lines.len() as u64;
                self.log.extend(lines);
                self.host.appended(NOW, count);
            }
            Effect::Send(_, frame) => self.out.push_back(frame),
            Effect::SendBatches { number, batches, .. } => {
                let carried = batches.into_iter().map(|stored| match stored {
                    Stored::Here(carried) => carried,
                    Stored::InLog(ordinal) => self.read_back(ordinal),
                });
                self.out.push_back(Message::Batches { number, batches: carried.collect() }.encode());
            }
            Effect::Answer(_, answer) => assert!(answer.is_ok(), "{answer:?}"),
            Effect::End(_, reason) => panic!("a conversation ended: {reason}"),
            Effect::Event(_) | Effect::Case(_) => {}
        }
    }

    fn read_back(&self, ordinal: u64) -> engine::sync::Carried {
        let mut batches = self.log.iter().filter(|line| line.looked == engine::host::Looked::Batch);
        let line = batches.nth(usize::try_from(ordinal).unwrap_or(usize::MAX));
        match line.map(|line| Entry::decode(line.kind, &line.bytes)) {
            Some(Ok((_, Entry::Batch(batch)))) => {
                engine::sync::Carried { bytes: batch.bytes, change: batch.change }
            }
            other => panic!("batch {ordinal} is not in the log: {other:?}"),
        }
    }
}

impl Pair {
    /// Both, not linked; the hub has enrolled the till.
    #[must_use]
    pub fn new() -> Self {
        let terminal: TerminalId = "till-01".parse().expect("a till's name");
        let enrolment =
            Enrolment { log: LogId { terminal: terminal.clone(), incarnation: 1 }, writer: writer(1) };
        let mut pair = Self {
            hub: Bare::new(replica(TerminalId::hub(), 0)),
            till: Bare::new(replica(terminal, 1)),
            hub_key: writer(0),
            till_key: writer(1),
        };
        pair.till.host.replica_mut().trust_enrolment(&enrolment);
        let record = Box::new(HubRecord::Enrol(enrolment));
        pair.hub.give(Input::State { token: 1, record, receipt: "enrol".to_owned() });
        pair
    }

    /// The till captures some together; what that gives to say is carried.
    pub fn capture(&mut self, drafts: Vec<Draft>) {
        let captures = drafts.into_iter().map(|draft| Capture { token: 2, draft }).collect();
        self.till.give(Input::Capture(captures));
        self.carry();
    }

    /// Links the two and carries everything that they have to say.
    pub fn link(&mut self) {
        self.hub.give(Input::PeerUp(self.till_key, Dialect::Short));
        self.till.give(Input::PeerUp(self.hub_key, Dialect::Short));
        self.carry();
    }

    fn carry(&mut self) {
        loop {
            if let Some(frame) = self.till.out.pop_front() {
                self.hub.give(Input::Message(self.till_key, frame));
            } else if let Some(frame) = self.hub.out.pop_front() {
                self.till.give(Input::Message(self.hub_key, frame));
            } else {
                return;
            }
        }
    }

    /// The work was done: so many of the till's records are in the books of hub and till.
    ///
    /// # Errors
    /// There are others.
    pub fn arrived(&self, at_hub: usize, at_till: usize) -> Outcome<()> {
        let log = self.till.host.replica().identity().log.clone();
        let held = |node: &Bare| node.host.replica().books().log_records(&log, 1).count();
        let there = (held(&self.hub), held(&self.till));
        if there == (at_hub, at_till) { Ok(()) } else { Err(format!("{there:?} records arrived").into()) }
    }
}
