//! Conversations with peers: hello, days, vectors, batches both ways, acknowledgements, status. What a peer says is
//! bounded before it is decoded; what it gets wrong is named and costs only its own conversation.

use std::collections::{BTreeMap, BTreeSet};

use super::admit::{Admission, Refusal};
use super::{Output, Outputs, Replica, SyncEvent};
use crate::entry::{CustodyMark, Entry, LinkChange};
use crate::ids::{BatchHash, SessionId, StoreId, WriterId};
use crate::sync::{
    Announced, Carried, Dialect, Digest, Held, Message, Peer, Short, Status, WAITING_CURRENCIES,
};
use crate::time::{Day, Instant};

/// Sessions told in one vector message; a longer vector goes in several.
const VECTOR_SESSIONS: usize = 20_000;
/// Unknown writers remembered, with the peers that brought their batches.
const TURNED_AWAY_LIMIT: usize = 1_024;
/// Longest reason passed on to a peer, in characters.
const REASON_LIMIT: usize = 300;

/// A link to the hub that comes again so soon was dialled anew: what a policy holds back stays held back.
const REDIALLED_MS: i64 = 10_000;

impl Replica {
    /// Whether a key may talk to this replica: the hub, and the store's enrolled terminals.
    #[must_use]
    pub fn accepts(&self, peer: &WriterId) -> bool {
        *peer != self.writer && self.registry.log_of(peer).is_some()
    }

    pub(super) fn peer_up(&mut self, now: Instant, peer: WriterId, dialect: Dialect, outputs: &mut Outputs) {
        let lost = self.hub_link_ms.filter(|_| peer == self.identity.hub);
        let again = lost.is_some_and(|lost_ms| now.ms.saturating_sub(lost_ms) < REDIALLED_MS);
        self.peers.insert(peer, Peer::speaking(dialect));
        self.note_hub_link(now, peer);
        self.note_link(now, peer, LinkChange::Up, outputs);
        outputs.push(Output::Event(SyncEvent::Connected(peer)));
        if again {
            self.persist_or_seal(now, outputs);
        } else {
            self.seal_all(now, outputs);
        }
        let hello =
            Message::Hello { store: self.identity.store.clone(), digest: self.digest(), clock_ms: now.ms };
        self.when_durable(Output::Send(peer, hello), outputs);
        self.tell_status(now, outputs);
        self.ask_clock(now, peer, outputs);
    }

    pub(super) fn peer_down(&mut self, now: Instant, peer: WriterId, outputs: &mut Outputs) {
        self.owed.remove(&peer);
        self.turned_away.retain(|(_, by)| *by != peer);
        // What waits for the disk belongs to this conversation: said in the next one it would be out of turn.
        let of_it =
            |held: &super::Held| matches!(held, super::Held::Output(Output::Send(to, _)) if *to == peer);
        self.waiting.retain(|(_, held)| !of_it(held));
        if self.peers.remove(&peer).is_some() {
            self.note_hub_link(now, peer);
            self.note_link(now, peer, LinkChange::Down, outputs);
            outputs.push(Output::Event(SyncEvent::Disconnected(peer)));
        }
    }

    fn note_hub_link(&mut self, now: Instant, peer: WriterId) {
        if peer == self.identity.hub {
            self.hub_link_ms = Some(now.ms);
        }
    }

    pub(super) fn message(&mut self, now: Instant, peer: WriterId, bytes: &[u8], outputs: &mut Outputs) {
        if !self.peers.contains_key(&peer) {
            return;
        }
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => return Self::end(peer, error.to_string(), outputs),
        };
        match message {
            Message::Hello { store, digest, clock_ms: _ } => self.hello(now, peer, &store, digest, outputs),
            Message::Days(days) => self.compare_days(peer, &days, outputs),
            Message::Vector { held, reply } => self.vector(now, peer, &held, reply, outputs),
            Message::Batches { number, batches } => {
                let whole = |carried: Carried| (carried.bytes, Announced::Whole(carried.change));
                self.batches(now, peer, number, batches.into_iter().map(whole).collect(), outputs);
            }
            Message::Short { number, batches } => self.short(now, peer, number, &batches, outputs),
            Message::Ack { number, digest } => self.ack(now, peer, number, digest, outputs),
            Message::Refused { batch, reason } => self.refused(peer, batch, &reason, outputs),
            Message::Clock { sent_ms, echo } => self.clock(now, peer, sent_ms, echo, outputs),
            Message::Status(status) => {
                self.heard.insert(peer, (now.ms, status.clone()));
                if let Some(peer) = self.peers.get_mut(&peer) {
                    peer.status = Some((now.ms, status));
                }
            }
        }
    }

    fn end(peer: WriterId, reason: String, outputs: &mut Outputs) {
        outputs.push(Output::Event(SyncEvent::Garbled { peer, reason: reason.clone() }));
        outputs.push(Output::Disconnect(peer, reason));
    }

    fn hello(
        &mut self,
        now: Instant,
        peer: WriterId,
        store: &StoreId,
        digest: [u8; 32],
        outputs: &mut Outputs,
    ) {
        if *store != self.identity.store {
            let reason = format!("this node serves store {}, not {store}", self.identity.store);
            return Self::end(peer, reason, outputs);
        }
        if digest == self.digest() {
            self.level(peer, Vec::new(), outputs);
            self.mark_custody(now, peer, outputs);
            return;
        }
        self.tell_days(peer, outputs);
    }

    /// Digests of the days that are held: the peer answers with what it holds of those that differ.
    fn tell_days(&mut self, peer: WriterId, outputs: &mut Outputs) {
        let days = self.documents.iter().map(|(day, document)| (*day, document.digest())).collect();
        self.when_durable(Output::Send(peer, Message::Days(days)), outputs);
    }

    /// A batch whose writer was not known is refused, and what follows it in its session as well. Once the writer is
    /// known, who brought it is told what is held here, so that it comes again over the same link: a link may stay up
    /// for days.
    fn ask_again(&mut self, outputs: &mut Outputs) {
        let known = |row: &&(WriterId, WriterId)| self.registry.log_of(&row.0).is_some();
        let known: Vec<(WriterId, WriterId)> = self.turned_away.iter().filter(known).copied().collect();
        for row in &known {
            self.turned_away.remove(row);
        }
        let peers: BTreeSet<WriterId> = known.into_iter().map(|row| row.1).collect();
        for peer in peers {
            self.tell_days(peer, outputs);
        }
    }

    /// Answers with what is held of the days that differ: theirs, ours, or different in both.
    fn compare_days(&mut self, peer: WriterId, theirs: &[(Day, [u8; 16])], outputs: &mut Outputs) {
        let theirs: BTreeMap<Day, [u8; 16]> = theirs.iter().copied().collect();
        let ours: BTreeMap<Day, [u8; 16]> =
            self.documents.iter().map(|(day, document)| (*day, document.digest())).collect();
        let differing: BTreeSet<Day> = theirs
            .keys()
            .chain(ours.keys())
            .filter(|day| theirs.get(*day) != ours.get(*day))
            .copied()
            .collect();
        self.tell_vector(peer, &differing, true, outputs);
    }

    /// What is held of some days. Said when it is durable, like all that a peer may rest a promise on: a till that hears
    /// the hub holds its records tells the cashier so.
    fn tell_vector(&mut self, peer: WriterId, days: &BTreeSet<Day>, reply: bool, outputs: &mut Outputs) {
        let (mut held, mut sessions) = (Vec::new(), 0);
        for day in days {
            let of_day: Vec<(SessionId, u32)> = self
                .documents
                .get(day)
                .map(|document| document.chains().map(|(session, _, count, _)| (session, count)).collect())
                .unwrap_or_default();
            sessions += of_day.len();
            held.push(Held { day: *day, sessions: of_day });
            if sessions >= VECTOR_SESSIONS {
                let held = std::mem::take(&mut held);
                sessions = 0;
                self.when_durable(Output::Send(peer, Message::Vector { held, reply }), outputs);
            }
        }
        if !held.is_empty() || days.is_empty() {
            self.when_durable(Output::Send(peer, Message::Vector { held, reply }), outputs);
        }
    }

    /// The peer told what it holds of some days: now what it lacks of them is known.
    fn vector(&mut self, now: Instant, peer: WriterId, held: &[Held], reply: bool, outputs: &mut Outputs) {
        let days: BTreeSet<Day> = held.iter().map(|day| day.day).collect();
        if reply {
            self.tell_vector(peer, &days, false, outputs);
        }
        let Some(state) = self.peers.get_mut(&peer) else { return };
        state.learn_vector(held);
        state.forget_refused(&days);
        let mut missing = Vec::new();
        for day in &days {
            let sessions = self.places.range((*day, SessionId([0; 16]))..=(*day, SessionId([255; 16])));
            for ((_, session), ordinals) in sessions {
                let known = usize::try_from(state.holds(*day, *session)).unwrap_or(usize::MAX);
                missing.extend(ordinals.iter().skip(known).map(|ordinal| u64::from(*ordinal)));
            }
        }
        self.level(peer, missing, outputs);
        self.mark_custody(now, peer, outputs);
    }

    fn level(&mut self, peer: WriterId, missing: Vec<u64>, outputs: &mut Outputs) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        outputs.push(Output::Event(SyncEvent::Level { peer, to_send: missing.len() }));
        // A batch that is not durable here yet is offered when it is.
        let waiting: BTreeSet<u64> = self
            .waiting
            .iter()
            .filter_map(
                |(_, held)| if let super::Held::Offer(ordinal) = held { Some(*ordinal) } else { None },
            )
            .collect();
        state.set_level(missing.into_iter().filter(|ordinal| !waiting.contains(ordinal)));
    }

    /// Batches that are written short: they become what they are in full, and nothing is asked of them less.
    fn short(&mut self, now: Instant, peer: WriterId, number: u64, batches: &[Short], outputs: &mut Outputs) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        match state.read_short(batches) {
            Ok(batches) => self.batches(now, peer, number, batches, outputs),
            Err(error) => Self::end(peer, format!("message {number} of batches: {error}"), outputs),
        }
    }

    fn batches(
        &mut self,
        now: Instant,
        peer: WriterId,
        number: u64,
        batches: Vec<(Vec<u8>, Announced)>,
        outputs: &mut Outputs,
    ) {
        let in_order = self.peers.get_mut(&peer).is_some_and(|state| state.received(number));
        if !in_order {
            return Self::end(peer, format!("message {number} of batches is out of order"), outputs);
        }
        let (mut admitted, mut records, mut redelivered) = (0, 0, 0);
        let mut came = Vec::with_capacity(batches.len());
        for (bytes, announced) in batches {
            let (batch, admission) = self.admit(now, peer, bytes, announced, outputs);
            came.push(batch);
            match admission {
                Ok(Admission::Admitted(count)) => {
                    admitted += 1;
                    records += count;
                }
                Ok(Admission::Redelivered) => redelivered += 1,
                Err(refusal) => {
                    let reason: String = refusal.to_string().chars().take(REASON_LIMIT).collect();
                    self.refused += 1;
                    if let Refusal::UnknownWriter(writer) = refusal
                        && self.turned_away.len() < TURNED_AWAY_LIMIT
                    {
                        self.turned_away.insert((writer, peer));
                    }
                    outputs.push(Output::Send(peer, Message::Refused { batch, reason: reason.clone() }));
                    outputs.push(Output::Event(SyncEvent::Refused { peer, batch, reason, by_peer: false }));
                }
            }
        }
        if admitted + redelivered > 0 {
            outputs.push(Output::Event(SyncEvent::Admitted {
                peer,
                batches: admitted,
                records,
                redelivered,
            }));
        }
        let digest = self.peers.get_mut(&peer).map(|state| state.took(came)).unwrap_or_default();
        self.when_durable(Output::Send(peer, Message::Ack { number, digest }), outputs);
        // A till that was restored from an old copy gets its own records back: the hub holds what it sends.
        self.mark_custody(now, peer, outputs);
    }

    fn ack(&mut self, now: Instant, peer: WriterId, number: u64, digest: Digest, outputs: &mut Outputs) {
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let Some(keys) = state.acknowledged(number, digest) else {
            let reason = format!("it acknowledges, as message {number}, what was not sent to it");
            return Self::end(peer, reason, outputs);
        };
        let batches = keys.len();
        for (day, session, index) in keys {
            state.learn_next(day, session, index);
        }
        if batches > 0 {
            outputs.push(Output::Event(SyncEvent::Acknowledged { peer, batches }));
        }
        self.mark_custody(now, peer, outputs);
    }

    fn refused(&mut self, peer: WriterId, batch: BatchHash, reason: &str, outputs: &mut Outputs) {
        let reason = reason.chars().take(REASON_LIMIT).collect();
        outputs.push(Output::Event(SyncEvent::Refused { peer, batch, reason, by_peer: true }));
        let Some(state) = self.peers.get_mut(&peer) else { return };
        let sent = state.in_flight().filter_map(|ordinal| self.batches.at(ordinal));
        let mut places = sent.filter(|meta| meta.hash == batch).map(|it| (it.day, it.session, it.index));
        let place = places.next();
        drop(places);
        if let Some((day, session, index)) = place {
            state.refuse(day, session, index);
        }
    }

    /// Notes how far the hub holds the own log. Custody never goes back.
    fn mark_custody(&mut self, now: Instant, peer: WriterId, outputs: &mut Outputs) {
        if peer != self.identity.hub || self.is_hub() {
            return;
        }
        let Some(state) = self.peers.get(&peer).filter(|state| state.is_level()) else { return };
        let sealed = self.heads.get(&self.writer).map_or(0, |head| head.seq);
        let lacking = state
            .lacking()
            .filter_map(|ordinal| self.batches.at(ordinal))
            .chain(self.waiting_batches())
            .chain(self.refused_batches(state))
            .filter(|meta| meta.writer == self.writer && state.holds(meta.day, meta.session) <= meta.index)
            .map(|meta| meta.first_seq)
            .min();
        let through_seq = lacking.map_or(sealed, |first| first - 1);
        if through_seq > self.at_hub_through() {
            let mark = CustodyMark { through_seq, at_ms: now.ms };
            self.custody.push(mark);
            self.persist(Entry::Custody(mark), None, outputs);
        }
    }

    /// Batches that a peer refused: it does not hold them, whatever it acknowledged.
    fn refused_batches<'a>(&'a self, state: &'a Peer) -> impl Iterator<Item = &'a super::BatchMeta> {
        state.refused().filter_map(|(day, session, index)| {
            let ordinal = self.places.get(&(day, session))?.get(usize::try_from(index).ok()?)?;
            self.batches.get(*ordinal)
        })
    }

    /// Batches that no peer was offered yet, because they are not durable here.
    fn waiting_batches(&self) -> impl Iterator<Item = &super::BatchMeta> {
        self.waiting.iter().filter_map(|(_, held)| match held {
            super::Held::Offer(ordinal) => self.batches.at(*ordinal),
            super::Held::Output(_) => None,
        })
    }

    /// Sends each peer what its window allows.
    pub(super) fn pump(&mut self, outputs: &mut Outputs) {
        if !self.turned_away.is_empty() {
            self.ask_again(outputs);
        }
        let batches = &self.batches;
        let describe = |ordinal: u64| {
            let meta = batches.at(ordinal).expect("only batches that are here are offered");
            let size = usize::try_from(meta.size).unwrap_or(usize::MAX);
            ((meta.day, meta.session, meta.index), size, meta.hash)
        };
        for (peer, state) in &mut self.peers {
            while let Some(chunk) = state.next_chunk(describe) {
                let (number, ordinals) = (chunk.number, chunk.ordinals);
                outputs.push(Output::SendBatches { peer: *peer, number, ordinals });
            }
        }
    }

    /// Ends conversations in which the peer has owed the same answer for too long; the next one finds out what is missing.
    pub(super) fn end_stalled(&mut self, now: Instant, outputs: &mut Outputs) {
        let mut stalled = Vec::new();
        for (peer, state) in &self.peers {
            let Some(number) = state.owes() else {
                self.owed.remove(peer);
                continue;
            };
            let since = self.owed.entry(*peer).or_insert((number, now.ms));
            // It answered, and the time counts from here.
            if since.0 != number {
                *since = (number, now.ms);
            }
            if now.ms - since.1 > super::OWED_LIMIT_MS {
                stalled.push(*peer);
            }
        }
        for peer in stalled {
            self.owed.remove(&peer);
            Self::end(peer, "it has not answered for two minutes".to_owned(), outputs);
        }
    }

    /// When the next status is due: soon if something was recorded, admitted or acknowledged since the last.
    pub(super) fn status_due_ms(&self) -> i64 {
        let news = self.status_rests_on != (self.persisted, self.peers.len());
        let interval = if news { super::STATUS_INTERVAL_MS } else { self.status_rests_ms };
        self.status_told_ms.saturating_add(interval)
    }

    pub(super) fn tell_status(&mut self, now: Instant, outputs: &mut Outputs) {
        let rests_on = (self.persisted, self.peers.len());
        // Whoever owes an answer is looked at with each status: as long as somebody does, they come as often as ever.
        let idle = self.status_rests_on == rests_on && self.peers.values().all(|peer| peer.owes().is_none());
        self.status_rests_ms =
            if idle { super::RESTING_STATUS_INTERVAL_MS } else { super::IDLE_STATUS_INTERVAL_MS };
        (self.status_told_ms, self.status_rests_on) = (now.ms, rests_on);
        let waiting = self.waiting();
        let status = Status {
            clock_ms: now.ms,
            waiting: waiting.count,
            oldest_waiting_ms: waiting.oldest_ms,
            waiting_minor: waiting.value_minor.into_iter().take(WAITING_CURRENCIES).collect(),
            policy_version: self.policies.version(),
            head_seq: self.own_head().map_or(0, |head| head.seq),
            software: env!("CARGO_PKG_VERSION").to_owned(),
        };
        for peer in self.peers.keys() {
            outputs.push(Output::Send(*peer, Message::Status(status.clone())));
        }
    }

    /// Digest of everything held: equal digests, equal documents.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("tillsync store digest v1");
        for (day, document) in &self.documents {
            hasher.update(&day.0.to_le_bytes());
            hasher.update(&document.digest());
        }
        *hasher.finalize().as_bytes()
    }
}
