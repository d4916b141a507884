//! Time goes on: the next thing happens, a node's host is asked what is to be done, and it is done.

use engine::host::{Effect, Stored};
use engine::ids::WriterId;
use engine::replica::Input;
use engine::sync::{Carried, Message};

use super::{Happening, Name, Node, World, is_hub};
use crate::disk::DiskState;
use crate::network::Frame;

/// A device whose place was taken by another with its key tries again after this, ms.
const REPLACED_REST_MS: i64 = 1_800_000;
/// A node's task sleeps at most so long, ms.
const SLEEP_LIMIT_MS: i64 = 60_000;
/// Events of a node kept for looking at.
const EVENTS_KEPT: usize = 10_000;

/// Whether a hub is busy at a moment (true ms): it hears what comes then before its books follow.
fn is_busy(now_ms: i64) -> bool {
    now_ms % 3 == 0
}

impl Node {
    /// What a till believes to be at the hub, if that is more than before: its key and the number of the record.
    fn newly_believes(&mut self) -> Option<(WriterId, u64)> {
        if is_hub(&self.name) {
            return None;
        }
        let believed = self.host.as_ref().map_or(0, |host| host.replica().at_hub_through());
        let before = std::mem::replace(&mut self.custody, believed);
        (believed > before).then(|| (self.writer(), believed))
    }

    /// When it is to be woken, true ms, unless an alarm before that is set already.
    fn alarm(&mut self, now_ms: i64) -> Option<(i64, Happening)> {
        let shows_ms = self.clock.shows_ms(now_ms);
        let wake = self.host.as_ref().and_then(|host| host.replica().next_wakeup())?;
        let at_ms = now_ms + (wake.saturating_sub(shows_ms)).clamp(1, SLEEP_LIMIT_MS);
        if self.woken_at.is_some_and(|known| known > now_ms && known <= at_ms) {
            return None;
        }
        self.woken_at = Some(at_ms);
        Some((at_ms, Happening::Wake { node: self.name.clone(), start: self.start }))
    }
}

impl World {
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
        let Some(happening) = self.hold_back(happening) else { return };
        match happening {
            Happening::Stir(stir) => self.happen_among_hubs(stir),
            Happening::Arrive { from, to, link, bytes } => match self.network.arrives(&from, &to, link) {
                None => {}
                // Sent again and again by the transport until it gets through or the link dies.
                Some(false) => {
                    self.put(self.now_ms + 250, Happening::Arrive { from, to, link, bytes });
                }
                Some(true) => {
                    self.messages += 1;
                    self.watch_stale(&to);
                    self.trace.update(&self.now_ms.to_le_bytes());
                    self.trace.update(&bytes);
                    let writer = self.nodes[&*from].writer();
                    self.give(&to, Input::Message(writer, bytes));
                }
            },
            Happening::Synced { node, start } => self.synced(&node, start),
            Happening::Wake { node, start } => {
                // Only the alarm that was set last rings: an older one, set for later, would set another each time.
                let now_ms = self.now_ms;
                let rings =
                    |known: &&mut Node| known.start == start && known.woken_at.is_some_and(|at| at <= now_ms);
                if let Some(known) = self.nodes.get_mut(&*node).filter(rings) {
                    known.woken_at = None;
                    self.give(&node, Input::Wakeup);
                }
            }
            Happening::Dial { from, to } => {
                let wanted = self.nodes.get(&*from).is_some_and(|node| node.dials.as_deref() == Some(&*to));
                let calls_hubs = self.company.is_some() && is_hub(&to);
                let there =
                    if calls_hubs { self.linked_hub(&from).is_some() } else { self.connected(&from, &to) };
                if !wanted || there || !self.nodes[&*from].is_up() {
                    return;
                }
                let replaced_ms = self.nodes[&*from].replaced_ms;
                if replaced_ms.is_some_and(|at_ms| self.now_ms - at_ms < REPLACED_REST_MS) {
                    let at_ms = self.now_ms + self.chance.between(REPLACED_REST_MS / 2, REPLACED_REST_MS);
                    self.put(at_ms, Happening::Dial { from, to });
                } else if calls_hubs {
                    self.ask_hubs(&from);
                } else if self.nodes[&*to].is_up() && self.network.is_open(&from, &to) {
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

    pub(super) fn give(&mut self, at: &str, input: Input) {
        let Some(input) = self.hold_input(at, input) else { return };
        let now_ms = self.now_ms;
        let Some(node) = self.nodes.get_mut(at) else { return };
        let now = node.clock.shows(now_ms);
        let Some(host) = &mut node.host else { return };
        host.give(now, input);
        self.turn(at);
    }

    /// Does what a node's host asks for until it asks for nothing more, as the node's task does.
    pub(super) fn turn(&mut self, at: &str) {
        loop {
            let now_ms = self.now_ms;
            let Some(node) = self.nodes.get_mut(at) else { return };
            let now = node.clock.shows(now_ms);
            let Some(host) = &mut node.host else { return };
            let effects = if is_hub(at) && is_busy(now_ms) { host.listen() } else { host.turn(now) };
            if effects.is_empty() {
                let believes = node.newly_believes();
                let alarm = node.alarm(now_ms);
                if let Some((at_ms, wake)) = alarm {
                    self.put(at_ms, wake);
                }
                if let Some((writer, believed)) = believes {
                    self.watch_custody(at, writer, believed);
                }
                return;
            }
            // A conversation that ends gives the node another turn: only when what this one asked for is done, or appends
            // would overtake each other.
            let ended: Vec<WriterId> =
                effects.into_iter().filter_map(|effect| self.carry_out(at, effect)).collect();
            for peer in ended {
                self.end(at, peer);
            }
        }
    }

    /// Does what an effect asks for; gives the peer whose conversation is to end.
    fn carry_out(&mut self, at: &str, effect: Effect) -> Option<WriterId> {
        match effect {
            Effect::Append(lines) => self.append(at, lines),
            Effect::Answer(token, result) => {
                self.trace.update(&token.to_le_bytes());
                self.trace.update(&[u8::from(result.is_ok())]);
                self.watch_commit(at, &result);
                if let (Some(company), Ok(receipt)) = (&mut self.company, &result)
                    && is_hub(at)
                {
                    company.stated.push(receipt.id);
                }
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
                    None => return Some(peer),
                }
            }
            Effect::End(peer, _) => return Some(peer),
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
        None
    }

    fn append(&mut self, at: &str, lines: Vec<engine::host::Line>) {
        if self.company.is_some() && is_hub(at) {
            return self.append_to_log(at, lines);
        }
        let now_ms = self.now_ms;
        let node = self.nodes.get_mut(at).expect("a node of that name");
        if node.disk.state == DiskState::Full {
            if let Some(host) = &mut node.host {
                host.append_failed("no space left on the disk");
            }
            return;
        }
        node.disk.append(lines, now_ms);
        let delay_ms = self.chance.between(node.disk_ms.0, node.disk_ms.1);
        let at_ms = (now_ms + delay_ms).max(node.last_sync_ms);
        node.last_sync_ms = at_ms;
        let synced = Happening::Synced { node: node.name.clone(), start: node.start };
        self.put(at_ms, synced);
    }

    /// The linked node that writes with a key.
    pub(super) fn linked_writer(&self, at: &str, peer: WriterId) -> Option<Name> {
        let mut linked = self.network.linked_to(at).map(|name| &self.nodes[name]);
        linked.find(|node| node.writer() == peer).map(|node| node.name.clone())
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
        let (sender, receiver) = (&self.nodes[from], &self.nodes[to]);
        let (one, two) = (sender.speed, receiver.speed);
        let (from_name, to_name) = (sender.name.clone(), receiver.name.clone());
        // The slower end tells.
        let speed = if one.delay_ms.1 >= two.delay_ms.1 { one } else { two };
        let frame = Frame { from, to, bytes, now_ms: self.now_ms };
        for departure in self.network.send(&frame, speed, &mut self.chance) {
            let arrive = Happening::Arrive {
                from: from_name.clone(),
                to: to_name.clone(),
                link: departure.link,
                bytes: bytes.to_vec(),
            };
            self.put(departure.at_ms, arrive);
        }
    }

    pub(super) fn put(&mut self, at_ms: i64, happening: Happening) {
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

    /// What a till newly believes to be at the hub must be durable there at this very moment.
    fn watch_custody(&mut self, at: &str, writer: WriterId, believed: u64) {
        let there = match &mut self.company {
            Some(company) => {
                let shard = company.shard;
                company.database.log_mut(shard).durable_head(&writer)
            }
            None => self.node(super::HUB).disk.durable_head(&writer),
        };
        if believed > there {
            let found = format!("{at} believes {believed}, in the hub's log is {there}");
            self.overstated.entry(at.to_owned()).or_insert(found);
        }
    }
}
