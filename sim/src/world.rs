//! Nodes, links and time. A node is the engine's host over a simulated disk, clock and network; events happen in the
//! order of virtual time, ties in the order in which they were made. Nothing here decides what a node does: it carries
//! out the host's effects, as the node's task does.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use engine::host::{Effect, Host, NotRecorded, Stored};
use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use engine::policy::Policy;
use engine::replica::{Capture, Checkpoint, Identity, Input, Receipt, Replica, SyncEvent};
use engine::review::{CaseChange, CaseEvent};
use engine::sync::{Carried, Message};
use engine::transaction::{Draft, Enrolment, HubRecord};

use crate::chance::Chance;
use crate::clock::NodeClock;
use crate::disk::{Disk, DiskState, Rotten};
use crate::network::{Frame, LinkSpeed, Network};
use crate::watch::{SAMPLE_MS, Watch, Way};

/// First instant of every run: 2026-11-23T08:00:00Z.
pub const START_MS: i64 = 1_795_420_800_000;
/// The only store.
pub const STORE: &str = "store-1";
/// The hub's name.
pub const HUB: &str = "hub";
/// A device whose place was taken by another with its key tries again after this, ms.
const REPLACED_REST_MS: i64 = 1_800_000;
/// A node's task sleeps at most so long, ms.
const SLEEP_LIMIT_MS: i64 = 60_000;
/// Events of a node kept for looking at.
const EVENTS_KEPT: usize = 10_000;

/// What happens at a point in time.
#[derive(Debug)]
enum Happening {
    /// A frame arrives, if the link it was sent on is still up.
    Arrive { from: String, to: String, link: u64, bytes: Vec<u8> },
    /// The disk of a node has made its oldest append durable, if the node did not restart since.
    Synced { node: String, start: u32 },
    /// A node wanted to be woken.
    Wake { node: String, start: u32 },
    /// A node tries to reach another.
    Dial { from: String, to: String },
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
    pub name: String,
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
    start: u32,
    woken_at: Option<i64>,
    last_sync_ms: i64,
    checkpoint: Option<Checkpoint>,
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
    queue: BTreeMap<(i64, u64), Happening>,
    made: u64,
    tokens: u64,
    chance: Chance,
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
        let mut world = Self {
            nodes: BTreeMap::new(),
            network: Network::default(),
            now_ms: START_MS,
            messages: 0,
            trace: blake3::Hasher::new(),
            policy: policy.clone(),
            watch: None,
            overstated: BTreeMap::new(),
            queue: BTreeMap::new(),
            made: 0,
            tokens: 0,
            chance: Chance::new(seed, "delays"),
        };
        for name in std::iter::once(HUB).chain(tills.iter().map(String::as_str)) {
            world.add(name, 1, delays);
        }
        for name in tills {
            world.enrol(name, 1);
        }
        world
    }

    fn add(&mut self, name: &str, incarnation: u32, delays: Delays) {
        let identity = identity(name, incarnation, 1);
        let node = Node {
            name: name.to_owned(),
            clock: NodeClock::default(),
            disk: Disk::default(),
            answers: BTreeMap::new(),
            events: Vec::new(),
            speed: LinkSpeed { delay_ms: delays.link_ms, bytes_a_ms: 0 },
            disk_ms: delays.disk_ms,
            dials: None,
            replaced_ms: None,
            host: Some(Host::new(Replica::new(identity.clone(), self.policy.clone()))),
            identity,
            start: 1,
            woken_at: None,
            last_sync_ms: 0,
            checkpoint: None,
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
        let up = self.nodes.get(HUB).is_some_and(Node::is_up);
        self.give(HUB, Input::State { token, record: Box::new(record), receipt });
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
            for linked in self.network.linked_to(own) {
                if linked != other && self.nodes[&linked].writer() == writer {
                    self.cut(own, &linked);
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
        self.give(one, Input::PeerUp(second));
        self.give(two, Input::PeerUp(first));
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
            if self.nodes[from].dials.as_deref() == Some(to) {
                self.dial_later(from, to);
            }
        }
    }

    /// From now on a node calls another by itself whenever there is no link.
    pub fn dial(&mut self, from: &str, to: &str) {
        self.node(from).dials = Some(to.to_owned());
        self.dial_later(from, to);
    }

    fn dial_later(&mut self, from: &str, to: &str) {
        let at_ms = self.now_ms + self.chance.between(200, 8_000);
        self.put(at_ms, Happening::Dial { from: from.to_owned(), to: to.to_owned() });
    }

    /// Whether two nodes are connected.
    #[must_use]
    pub fn connected(&self, one: &str, two: &str) -> bool {
        self.network.between(one, two).is_some()
    }

    /// A node loses power and starts again at once from what was durable.
    pub fn crash(&mut self, name: &str) {
        self.stop(name, 0);
        self.start(name).expect("a disk without rot starts");
    }

    /// A node loses power and stays down. Of what it had not synced, `survive` lines happen to be on the disk.
    pub fn stop(&mut self, name: &str, survive: usize) {
        self.unlink_all(name);
        let node = self.node(name);
        node.host = None;
        node.disk.lose_power(survive);
        self.moment(name, "down", 0, String::new);
    }

    /// A node is stopped in an orderly way: it keeps what it judged for a faster start.
    pub fn shut_down(&mut self, name: &str) {
        let node = self.node(name);
        let settled = node.host.as_ref().is_some_and(|host| host.is_settled() && host.failed().is_none());
        let checkpoint = node.host.as_ref().filter(|_| settled).map(|host| host.replica().checkpoint());
        self.stop(name, 0);
        self.node(name).checkpoint = checkpoint;
    }

    /// Every node that has nothing on its way keeps what it judged, as nodes do now and then: a crash later starts from
    /// there.
    pub fn keep_checkpoints(&mut self) {
        for node in self.nodes.values_mut() {
            let settled = |host: &&Host| {
                host.is_settled() && host.failed().is_none() && host.replica().next_wakeup() != Some(0)
            };
            if let Some(host) = node.host.as_ref().filter(settled) {
                node.checkpoint = Some(host.replica().checkpoint());
            }
        }
    }

    fn unlink_all(&mut self, name: &str) {
        for other in self.network.linked_to(name) {
            self.cut(name, &other);
        }
    }

    /// A node that was down starts from what is on its disk.
    ///
    /// # Errors
    /// The disk is damaged; the node stays down.
    ///
    /// # Panics
    /// If an undamaged log does not restore: then it was written wrong.
    pub fn start(&mut self, name: &str) -> Result<(), Rotten> {
        let (policy, nonce) = (self.policy.clone(), self.chance.draw());
        let node = self.node(name);
        if node.is_up() {
            return Ok(());
        }
        let entries = node.disk.read()?;
        node.start += 1;
        node.identity.nonce[..8].copy_from_slice(&nonce.to_le_bytes());
        node.woken_at = None;
        node.last_sync_ms = 0;
        let mut replica = Replica::new(node.identity.clone(), policy);
        for entry in entries {
            replica.restore(entry).expect("what was durable restores");
        }
        replica.restored(node.checkpoint.as_ref());
        node.host = Some(Host::new(replica));
        self.moment(name, "up", 0, String::new);
        self.give(name, Input::Wakeup);
        if let Some(to) = self.node(name).dials.clone() {
            self.dial_later(name, &to);
        }
        let callers: Vec<String> = self
            .nodes
            .values()
            .filter(|node| node.dials.as_deref() == Some(name))
            .map(|node| node.name.clone())
            .collect();
        for caller in callers {
            self.dial_later(&caller, name);
        }
        Ok(())
    }

    /// A copy of what a node has on its disk.
    #[must_use]
    pub fn backup(&self, name: &str) -> Disk {
        self.nodes[name].disk.copy()
    }

    /// A node loses its disk and starts from a backup.
    pub fn restore(&mut self, name: &str, backup: Disk) {
        self.stop(name, 0);
        let node = self.node(name);
        (node.disk, node.checkpoint) = (backup, None);
        self.start(name).expect("a backup without rot starts");
    }

    /// A till loses everything and is enrolled anew: another key, the next incarnation of its log.
    pub fn wipe(&mut self, name: &str) {
        self.unlink_all(name);
        let old = self.node(name);
        let incarnation = old.identity.log.incarnation + 1;
        let (speed, disk_ms, clock, dials, start) =
            (old.speed, old.disk_ms, old.clock, old.dials.clone(), old.start);
        let delays = Delays { link_ms: speed.delay_ms, disk_ms };
        self.add(name, incarnation, delays);
        let node = self.node(name);
        (node.speed, node.clock, node.start) = (speed, clock, start + 1);
        self.enrol(name, incarnation);
        if let Some(to) = dials {
            self.dial(name, &to);
        }
    }

    /// Somebody copies a till's device: another node with the same key, the same log and the same records.
    pub fn clone_device(&mut self, name: &str, copy: &str) {
        let delays = Delays { link_ms: self.nodes[name].speed.delay_ms, disk_ms: self.nodes[name].disk_ms };
        let (disk, identity) = (self.backup(name), self.nodes[name].identity.clone());
        self.add(copy, 1, delays);
        let nonce = self.chance.draw();
        let node = self.node(copy);
        (node.disk, node.identity, node.host) = (disk, identity, None);
        node.identity.nonce[..8].copy_from_slice(&nonce.to_le_bytes());
        self.start(copy).expect("a copy of a disk without rot starts");
    }

    /// Lets the next thing happen, if it is due before `until_ms`; otherwise time goes on to there.
    pub fn step(&mut self, until_ms: i64) -> bool {
        let due = self.queue.first_key_value().map(|((at, _), _)| *at);
        let death = self.network.next_death_ms();
        let next = due.into_iter().chain(death).min().filter(|at| *at <= until_ms);
        let Some(at) = next else {
            self.sample_until(until_ms);
            self.now_ms = self.now_ms.max(until_ms);
            return false;
        };
        self.sample_until(at);
        self.now_ms = self.now_ms.max(at);
        if death.is_some_and(|death| death <= self.now_ms) {
            for (one, two) in self.network.dead(self.now_ms) {
                self.cut(&one, &two);
            }
        }
        if due != Some(at) {
            return true;
        }
        let Some((_, happening)) = self.queue.pop_first() else { return false };
        self.happen(happening);
        true
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive { from, to, link, bytes } => match self.network.arrives(&from, &to, link) {
                None => {}
                // Sent again and again by the transport until it gets through or the link dies.
                Some(false) => {
                    self.put(self.now_ms + 250, Happening::Arrive { from, to, link, bytes });
                }
                Some(true) => {
                    self.messages += 1;
                    self.trace.update(&self.now_ms.to_le_bytes());
                    self.trace.update(&bytes);
                    let writer = self.nodes[&from].writer();
                    self.give(&to, Input::Message(writer, bytes));
                }
            },
            Happening::Synced { node, start } => self.synced(&node, start),
            Happening::Wake { node, start } => {
                let current = self.nodes.get_mut(&node).filter(|known| known.start == start);
                if let Some(known) = current {
                    known.woken_at = None;
                    self.give(&node, Input::Wakeup);
                }
            }
            Happening::Dial { from, to } => {
                let wanted =
                    self.nodes.get(&from).is_some_and(|node| node.dials.as_deref() == Some(to.as_str()));
                if !wanted || self.connected(&from, &to) || !self.nodes[&from].is_up() {
                    return;
                }
                let replaced_ms = self.nodes[&from].replaced_ms;
                if replaced_ms.is_some_and(|at_ms| self.now_ms - at_ms < REPLACED_REST_MS) {
                    let at_ms = self.now_ms + self.chance.between(REPLACED_REST_MS / 2, REPLACED_REST_MS);
                    self.put(at_ms, Happening::Dial { from, to });
                } else if self.nodes[&to].is_up() && self.network.is_open(&from, &to) {
                    self.connect(&from, &to);
                } else {
                    self.dial_later(&from, &to);
                }
            }
        }
    }

    fn synced(&mut self, at: &str, start: u32) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(at).filter(|node| node.start == start) else { return };
        let now = node.clock.shows(now_ms);
        let Some(host) = &mut node.host else { return };
        match node.disk.state {
            DiskState::Works => {
                let Some(lines) = node.disk.synced() else { return };
                host.appended(now, lines as u64);
            }
            DiskState::Hangs => return,
            DiskState::SyncFails | DiskState::Full => host.append_failed("the disk failed"),
        }
        self.turn(at);
    }

    fn give(&mut self, at: &str, input: Input) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(at) else { return };
        let now = node.clock.shows(now_ms);
        let Some(host) = &mut node.host else { return };
        host.give(now, input);
        self.turn(at);
    }

    /// Does what a node's host asks for until it asks for nothing more, as the node's task does.
    fn turn(&mut self, at: &str) {
        loop {
            let now_ms = self.now_ms;
            let Some(node) = self.nodes.get_mut(at) else { return };
            let now = node.clock.shows(now_ms);
            let Some(host) = &mut node.host else { return };
            let effects = host.turn(now);
            if effects.is_empty() {
                break;
            }
            for effect in effects {
                self.carry_out(at, effect);
            }
        }
        self.watch_custody(at);
        self.wake_later(at);
    }

    /// What a till newly believes to be at the hub must be durable there at this very moment.
    fn watch_custody(&mut self, at: &str) {
        let Some(node) = self.nodes.get_mut(at).filter(|node| node.name != HUB) else { return };
        let believed = node.host.as_ref().map_or(0, |host| host.replica().at_hub_through());
        let before = std::mem::replace(&mut node.custody, believed);
        if believed <= before {
            return;
        }
        let writer = node.writer();
        let there = self.node(HUB).disk.durable_head(&writer);
        if believed > there {
            let found = format!("{at} believes {believed}, on the hub's disk is {there}");
            self.overstated.entry(at.to_owned()).or_insert(found);
        }
    }

    fn wake_later(&mut self, at: &str) {
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(at) else { return };
        let shows_ms = node.clock.shows_ms(now_ms);
        let Some(wake) = node.host.as_ref().and_then(|host| host.replica().next_wakeup()) else { return };
        let at_ms = now_ms + (wake.saturating_sub(shows_ms)).clamp(1, SLEEP_LIMIT_MS);
        if node.woken_at.is_some_and(|known| known > now_ms && known <= at_ms) {
            return;
        }
        node.woken_at = Some(at_ms);
        let start = node.start;
        self.put(at_ms, Happening::Wake { node: at.to_owned(), start });
    }

    fn carry_out(&mut self, at: &str, effect: Effect) {
        match effect {
            Effect::Append(lines) => self.append(at, lines),
            Effect::Answer(token, result) => {
                self.trace.update(&token.to_le_bytes());
                self.trace.update(&[u8::from(result.is_ok())]);
                self.watch_commit(at, &result);
                let answers = &mut self.node(at).answers;
                assert!(answers.insert(token, result).is_none(), "an answer is given once");
            }
            Effect::Send(peer, bytes) => self.send(at, peer, &bytes),
            Effect::SendBatches { peer, number, batches } => {
                let disk = &self.nodes[at].disk;
                let carried = |stored: Stored| match stored {
                    Stored::Here(carried) => Some(carried),
                    Stored::InLog(ordinal) => disk.batch(ordinal),
                };
                match batches.into_iter().map(carried).collect::<Option<Vec<Carried>>>() {
                    Some(batches) => self.send(at, peer, &Message::Batches { number, batches }.encode()),
                    // What cannot be read back ends the conversation.
                    None => self.end(at, peer),
                }
            }
            Effect::End(peer, _) => self.end(at, peer),
            Effect::Event(event) => {
                self.watch_event(at, &event);
                let events = &mut self.node(at).events;
                if events.len() == EVENTS_KEPT {
                    events.clear();
                }
                events.push(event);
            }
            Effect::Case(event) => self.watch_case(at, &event),
        }
    }

    fn append(&mut self, at: &str, lines: Vec<engine::host::Line>) {
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(at).expect("a node of that name");
        if node.disk.state == DiskState::Full {
            if let Some(host) = &mut node.host {
                host.append_failed("no space left on the disk");
            }
            return;
        }
        node.disk.append(lines);
        let delay_ms = self.chance.between(node.disk_ms.0, node.disk_ms.1);
        let at_ms = (now_ms + delay_ms).max(node.last_sync_ms);
        node.last_sync_ms = at_ms;
        let start = node.start;
        self.put(at_ms, Happening::Synced { node: at.to_owned(), start });
    }

    /// The linked node that writes with a key.
    fn linked_writer(&self, at: &str, peer: WriterId) -> Option<String> {
        self.network.linked_to(at).into_iter().find(|name| self.nodes[name].writer() == peer)
    }

    fn end(&mut self, at: &str, peer: WriterId) {
        if let Some(other) = self.linked_writer(at, peer) {
            self.cut(at, &other);
        }
    }

    fn send(&mut self, at: &str, peer: WriterId, bytes: &[u8]) {
        if let Some(to) = self.linked_writer(at, peer) {
            self.put_frame(at, &to, bytes);
        }
    }

    /// Puts a frame on the link between two nodes, whoever made it: a liar's frames come this way too.
    pub fn put_frame(&mut self, from: &str, to: &str, bytes: &[u8]) {
        let (one, two) = (self.nodes[from].speed, self.nodes[to].speed);
        // The slower end tells.
        let speed = if one.delay_ms.1 >= two.delay_ms.1 { one } else { two };
        let frame = Frame { from, to, bytes, now_ms: self.now_ms };
        for departure in self.network.send(&frame, speed, &mut self.chance) {
            let arrive = Happening::Arrive {
                from: from.to_owned(),
                to: to.to_owned(),
                link: departure.link,
                bytes: bytes.to_vec(),
            };
            self.put(departure.at_ms, arrive);
        }
    }

    fn put(&mut self, at_ms: i64, happening: Happening) {
        self.made += 1;
        self.queue.insert((at_ms, self.made), happening);
    }

    /// Lets time go on until a time, true ms.
    pub fn run_until(&mut self, until_ms: i64) {
        while self.step(until_ms) {}
    }

    /// Lets time go on for `ms`.
    pub fn run_for(&mut self, ms: i64) {
        self.run_until(self.now_ms + ms);
    }
}

/// What is written down for the report. All of it does nothing unless somebody wants to look.
impl World {
    fn moment(&mut self, node: &str, what: &str, figure: u64, text: impl FnOnce() -> String) {
        let at_ms = self.now_ms - START_MS;
        if let Some(watch) = &mut self.watch {
            watch.moment(at_ms, node, what, figure, text());
        }
    }

    fn watch_link(&mut self, one: &str, two: &str, up: bool) {
        match (one, two) {
            (till, HUB) | (HUB, till) => {
                self.moment(till, if up { "link-up" } else { "link-down" }, 0, String::new);
            }
            _ => {}
        }
    }

    fn watch_commit(&mut self, at: &str, result: &Result<Receipt, NotRecorded>) {
        let (at_ms, offline) = (self.now_ms - START_MS, !self.connected(at, HUB));
        if let (Some(watch), Ok(receipt)) = (&mut self.watch, result)
            && at != HUB
        {
            let way = Way { till: at.to_owned(), committed_ms: at_ms, offline, arrived_ms: None };
            watch.ways.entry(receipt.id).or_insert(way);
        }
    }

    /// At the hub, what was admitted is there.
    fn watch_event(&mut self, at: &str, event: &SyncEvent) {
        let at_ms = self.now_ms - START_MS;
        if let (SyncEvent::Acknowledged { .. }, Some(watch)) = (event, &mut self.watch)
            && let Some(host) = self.nodes.get(at).filter(|node| node.name != HUB).and_then(Node::host)
        {
            watch.waits(at_ms, at, host.replica().waiting_records().count() as u64);
        }
        let SyncEvent::Admitted { peer, records, .. } = event else { return };
        let from = self.linked_writer(at, *peer);
        let Some(watch) = self.watch.as_mut().filter(|_| at == HUB) else { return };
        if let Some(from) = from {
            watch.moment(at_ms, &from, "sync", *records as u64, String::new());
        }
        let Some(host) = self.nodes.get(HUB).and_then(Node::host) else { return };
        let metas = host.replica().batch_metas();
        // A hub that was restored from a backup holds fewer than before.
        for meta in &metas[watch.batches.min(metas.len())..] {
            let Some(node) = self.nodes.values().find(|node| node.writer() == meta.writer) else { continue };
            let records = host.replica().books().log_records(&node.identity.log, meta.first_seq);
            for record in records.take_while(|record| record.seq <= meta.last_seq) {
                if let Some(way) = watch.ways.get_mut(&record.id) {
                    way.arrived_ms.get_or_insert(at_ms);
                }
            }
        }
        watch.batches = metas.len();
    }

    fn watch_case(&mut self, at: &str, event: &CaseEvent) {
        if at != HUB || event.change != CaseChange::Opened || self.watch.is_none() {
            return;
        }
        let case = &event.case;
        let books = self.nodes.get(HUB).and_then(Node::host).map(|host| host.replica().books());
        let record =
            case.held.keys().chain(&case.members).find_map(|id| books.and_then(|books| books.record(id)));
        let till = record.map_or_else(|| HUB.to_owned(), |record| record.log.terminal.to_string());
        let severity = u64::from(case.severity);
        self.moment(&till, "case", severity, || format!("{}: {}", case.key.case_type, case.about));
    }

    /// Looks at the queues whenever it is time to, until a time.
    fn sample_until(&mut self, until_ms: i64) {
        let Some(watch) = &mut self.watch else { return };
        while START_MS + watch.sample_ms <= until_ms {
            for node in self.nodes.values() {
                let Some(host) = &node.host else { continue };
                if node.name != HUB {
                    let waiting = host.replica().waiting_records().count() as u64;
                    watch.waits(watch.sample_ms, &node.name, waiting);
                }
            }
            watch.sample_ms += SAMPLE_MS;
        }
    }
}
