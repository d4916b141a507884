//! One store on one node: its logs, documents, books and conversations, behind one door.
//!
//! How to run it: give every event to [`Replica::handle`] with the current time, carry out the [`Output`]s in
//! order, report what became durable with [`Input::Durable`], and call again with [`Input::Wakeup`] when
//! [`Replica::next_wakeup`] has come. Nothing else happens inside: no thread, clock, socket, file or chance.
//!
//! One law: **nothing is said before it is durable.** Every output that promises something waits inside until the
//! entries it rests on were reported durable. How: `capture` numbers and seals, `admit` checks what peers bring,
//! `exchange` talks, `restore` starts again from the log (after an `image`, if there is one), `ask` answers questions, `links` and `kpi` measure.

mod admit;
mod ask;
mod batches;
mod capture;
mod exchange;
mod filing;
mod image;
mod kpi;
mod links;
mod restore;
mod unsealed;
mod waiting;

pub use crate::image::Stale;
pub use admit::Refusal;
pub use ask::{Custody, CustodyStep, Live, Revision};
pub use batches::BatchMeta;
pub use capture::{Capture, CaptureError, Receipt};
pub use image::Image;
pub use kpi::KpiRange;
pub use links::LinkSpan;
pub use restore::{ReadBack, RestoreError, records_of};
pub use waiting::Waiting;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ed25519_dalek::SigningKey;

use self::batches::Batches;
use crate::attic::Workroom;
use crate::batch::session_id;
use crate::document::Document;
use crate::entry::{CustodyMark, Entry};
use crate::ids::{BatchHash, LogId, RecordId, SessionId, StoreId, WriterId};
use crate::journal_run::JournalRun;
use crate::ledger::{Books, Settled, WorkLimits};
use crate::policy::{Policies, Policy};
use crate::registry::Registry;
use crate::review::CaseEvent;
use crate::shelf::Shelf;
use crate::sync::{Dialect, Message, Peer, Status};
use crate::time::{Day, Instant};
use crate::transaction::HubRecord;

/// Who this node is in the store.
#[derive(Clone)]
pub struct Identity {
    /// The store.
    pub store: StoreId,
    /// The log this node writes.
    pub log: LogId,
    /// The key that names the log and signs its batches.
    pub key: SigningKey,
    /// Fresh at every start: opens a new session.
    pub nonce: [u8; 16],
    /// The hub's key.
    pub hub: WriterId,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input {
    /// Transactions to record; those that arrive together share one fsync and one batch.
    Capture(Vec<Capture>),
    /// A statement of the hub, to be recorded in its own log (hub only).
    State {
        /// Returned with the answer.
        token: u64,
        /// What is stated.
        record: Box<HubRecord>,
        /// Receipt-like number for people.
        receipt: String,
    },
    /// A peer is connected; the node has checked its certificate. What both understand.
    PeerUp(WriterId, Dialect),
    /// A peer is gone.
    PeerDown(WriterId),
    /// A frame from a peer.
    Message(WriterId, Vec<u8>),
    /// The first `entries` entries ever persisted by this replica are durable.
    Durable {
        /// How many.
        entries: u64,
    },
    /// The time of [`Replica::next_wakeup`] has come.
    Wakeup,
}

/// Something to do. In order.
#[derive(Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "outputs are moved once, and most are Persist")]
pub enum Output {
    /// Append to the node's log. `ordinal` numbers the batches, so that the node can find them again.
    Persist {
        /// The entry.
        entry: Entry,
        /// Set for batches: 0, 1, 2 … over the replica's life.
        ordinal: Option<u64>,
    },
    /// A transaction or statement is durable, or refused.
    Captured {
        /// From the input.
        token: u64,
        /// What was recorded.
        result: Result<Receipt, CaptureError>,
    },
    /// Send a message.
    Send(WriterId, Message),
    /// Send batches that the node holds, as one `Message::Batches`, or `Message::Short` where the peer understands it.
    SendBatches {
        /// To whom.
        peer: WriterId,
        /// Number of the message.
        number: u64,
        /// Ordinals of the batches.
        ordinals: Vec<u64>,
    },
    /// End a conversation.
    Disconnect(WriterId, String),
    /// For the sync-event log.
    Event(SyncEvent),
    /// A review case opened, changed or ended.
    Case(CaseEvent),
}

/// What happened in replication, for the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SyncEvent {
    /// A peer is connected.
    Connected(WriterId),
    /// A peer is gone.
    Disconnected(WriterId),
    /// Both sides know what the other lacks.
    Level {
        /// With whom.
        peer: WriterId,
        /// Batches to send.
        to_send: usize,
    },
    /// Batches were admitted.
    Admitted {
        /// From whom.
        peer: WriterId,
        /// How many batches, records, and batches that were here already.
        batches: usize,
        /// Records in them.
        records: usize,
        /// Batches that were here already.
        redelivered: usize,
    },
    /// The peer made batches durable.
    Acknowledged {
        /// By whom.
        peer: WriterId,
        /// How many batches.
        batches: usize,
    },
    /// A batch was refused, here or by the peer.
    Refused {
        /// Who delivered or refused it.
        peer: WriterId,
        /// The batch, as far as it could be told.
        batch: BatchHash,
        /// Why.
        reason: String,
        /// Whether the peer refused ours.
        by_peer: bool,
    },
    /// A frame was not understood.
    Garbled {
        /// From whom.
        peer: WriterId,
        /// Why.
        reason: String,
    },
    /// Records were sealed.
    Sealed {
        /// How many batches.
        batches: usize,
        /// How many records.
        records: usize,
    },
    /// The document of a day failed and is rebuilt.
    Document(String),
}

/// What to do, in order.
pub type Outputs = Vec<Output>;

/// Head of a log, as far as it arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Head {
    seq: u64,
    id: RecordId,
    effective_ms: i64,
}

/// A session as far as it arrived.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct SessionState {
    writer: WriterId,
    head: Head,
}

/// One store on one node.
pub struct Replica {
    identity: Identity,
    writer: WriterId,
    session: SessionId,
    registry: Registry,
    policies: Policies,
    books: Books,
    /// Newest head of every log.
    heads: BTreeMap<WriterId, Head>,
    sessions: BTreeMap<SessionId, SessionState>,
    documents: BTreeMap<Day, Document>,
    /// Ordinals of the batches of a day's session, by index.
    places: BTreeMap<(Day, SessionId), Vec<u32>>,
    batches: Batches,
    /// Own records captured and not sealed.
    unsealed: unsealed::Unsealed,
    /// What this session's batches have said they had seen.
    seen_told: BTreeMap<WriterId, u64>,
    /// Latest effective time among records of others.
    horizon_ms: Option<i64>,
    /// Custody of the own log at the hub, oldest first.
    custody: Vec<CustodyMark>,
    peers: BTreeMap<WriterId, Peer>,
    /// When each till was connected (hub), and when the batches, by ordinal, were in the books (hub).
    links: links::Links,
    posted_ms: Shelf<i64>,
    /// The last time that the log told while it was read back, until the first wake-up.
    log_ends_ms: Option<i64>,
    /// Batches refused since the start.
    refused: u64,
    /// The last status of everybody who was ever connected since the start, with the time it came.
    heard: BTreeMap<WriterId, (i64, Status)>,
    /// Tills that are connected to the hub that has the store, for a replica that only reads along.
    elsewhere: BTreeSet<WriterId>,
    /// Entries handed out and reported durable, and what waits for them.
    persisted: u64,
    durable: u64,
    waiting: VecDeque<(u64, Held)>,
    reckoned: waiting::Reckoned,
    unsettled: bool,
    unfiled: filing::Unfiled,
    families_at_once: usize,
    /// While the log is read back.
    restoring: Option<restore::Restoring>,
    /// What the clock showed last.
    clock_ms: i64,
    flush_at_ms: Option<i64>,
    /// When something was captured last.
    captured_ms: i64,
    /// When the last status was told, and what it rested on: entries persisted, peers.
    status_told_ms: i64,
    /// What peers owe an answer to, and since when.
    owed: BTreeMap<WriterId, (u64, i64)>,
    /// Writers that were not known when a peer brought a batch of theirs, with that peer.
    turned_away: BTreeSet<(WriterId, WriterId)>,
    status_rests_on: (u64, usize),
    status_rests_ms: i64,
    hub_link_ms: Option<i64>,
    policy_today: Policy,
    policy_day: Day,
}

/// Something that waits until entries are durable.
#[allow(clippy::large_enum_variant, reason = "holds outputs")]
enum Held {
    Output(Output),
    Offer(u64),
}

/// How often a node tells its peers how it is doing while something happens, once nothing does, and while it goes on like that:
/// idle tills wake their hub for these words, too, and not only to keep their links alive.
const STATUS_INTERVAL_MS: i64 = 3_000;
const IDLE_STATUS_INTERVAL_MS: i64 = 30_000;
const RESTING_STATUS_INTERVAL_MS: i64 = 120_000;
/// A peer that owes an answer so long is talked to anew: something was lost that no transport should lose.
const OWED_LIMIT_MS: i64 = 120_000;
/// Changes, and bytes of batches in them, that wait for Automerge before they are applied without being asked for.
const DOCUMENT_PENDING_LIMIT: usize = 1_024;
const DOCUMENT_PENDING_BYTES: usize = 1 << 20;
/// Business days whose documents are kept applied: the newest.
const DOCUMENTS_KEPT: usize = 2;

impl Replica {
    /// An empty replica. `policy` is what the store starts from.
    #[must_use]
    pub fn new(identity: Identity, policy: Policy) -> Self {
        let writer = WriterId(identity.key.verifying_key().to_bytes());
        Self {
            writer,
            session: session_id(&writer, &identity.nonce),
            registry: Registry::new(identity.hub),
            policies: Policies::starting_from(policy.clone()),
            books: Books::new(identity.store.clone(), policy.clone()),
            identity,
            heads: BTreeMap::new(),
            sessions: BTreeMap::new(),
            documents: BTreeMap::new(),
            places: BTreeMap::new(),
            batches: Batches::new(&Workroom::default()),
            unsealed: unsealed::Unsealed::default(),
            seen_told: BTreeMap::new(),
            horizon_ms: None,
            custody: Vec::new(),
            peers: BTreeMap::new(),
            links: links::Links::default(),
            posted_ms: Shelf::of_small(&Workroom::default()),
            log_ends_ms: None,
            refused: 0,
            heard: BTreeMap::new(),
            elsewhere: BTreeSet::new(),
            persisted: 0,
            durable: 0,
            waiting: VecDeque::new(),
            reckoned: waiting::Reckoned::default(),
            unsettled: false,
            unfiled: filing::Unfiled::default(),
            families_at_once: WorkLimits::default().families_at_once,
            restoring: None,
            clock_ms: i64::MIN,
            flush_at_ms: None,
            captured_ms: i64::MIN,
            status_told_ms: 0,
            owed: BTreeMap::new(),
            turned_away: BTreeSet::new(),
            status_rests_on: (0, 0),
            status_rests_ms: IDLE_STATUS_INTERVAL_MS,
            hub_link_ms: None,
            policy_today: policy,
            policy_day: Day::default(),
        }
    }

    /// Keeps more or less of the books unpacked, the rest elsewhere, and judges more or less at once. Before anything
    /// else.
    #[must_use]
    pub fn in_room(mut self, room: &Workroom) -> Self {
        self.books = Books::in_room(self.identity.store.clone(), self.policy_today.clone(), room);
        self.batches = Batches::new(room);
        self.posted_ms = Shelf::of_small(room);
        self.families_at_once = room.limits.families_at_once;
        self
    }

    /// Takes one event in and says what to do.
    pub fn handle(&mut self, now: Instant, input: Input) -> Outputs {
        let mut outputs = Outputs::new();
        self.mind_clock(now);
        match input {
            Input::Capture(captures) => self.capture(now, captures, &mut outputs),
            Input::State { token, record, receipt } => {
                // It says what the hub had received: the books have that before.
                self.file(usize::MAX);
                self.state(now, token, *record, receipt, &mut outputs);
            }
            Input::PeerUp(peer, dialect) => self.peer_up(now, peer, dialect, &mut outputs),
            Input::PeerDown(peer) => self.peer_down(now, peer, &mut outputs),
            Input::Message(peer, bytes) => self.message(now, peer, &bytes, &mut outputs),
            Input::Durable { entries } => self.made_durable(entries, &mut outputs),
            Input::Wakeup => self.wake(now, &mut outputs),
        }
        self.pump(&mut outputs);
        outputs
    }

    /// When to call with [`Input::Wakeup`] if nothing else happens before, ms since 1970; `None`: not at all.
    #[must_use]
    pub fn next_wakeup(&self) -> Option<i64> {
        let settle = self.unsettled.then_some(0);
        let status = (!self.peers.is_empty()).then_some(self.status_due_ms());
        [settle, self.flush_at_ms, self.seal_at_rest_ms(), status].into_iter().flatten().min()
    }

    /// A clock that was set back (a battery that ran out, a server's time after days without) takes what is waited for with
    /// it: nothing may rest until the clock shows the old time again.
    fn mind_clock(&mut self, now: Instant) {
        let back = self.clock_ms.saturating_sub(now.ms);
        self.clock_ms = now.ms;
        if back <= 0 {
            return;
        }
        self.flush_at_ms = self.flush_at_ms.map(|at| at.saturating_sub(back));
        self.status_told_ms = self.status_told_ms.saturating_sub(back);
        self.captured_ms = self.captured_ms.saturating_sub(back);
        for (_, since_ms) in self.owed.values_mut() {
            *since_ms = since_ms.saturating_sub(back);
        }
    }

    /// Brings books and documents up to date, flushes what is due, tells peers how it is.
    fn wake(&mut self, now: Instant, outputs: &mut Outputs) {
        self.close_links(outputs);
        if self.flush_at_ms.is_some_and(|at| at <= now.ms) {
            self.seal_all(now, outputs);
        }
        self.seal_at_rest(now, outputs);
        self.settle(now, outputs);
        if !self.peers.is_empty() && self.status_due_ms() <= now.ms {
            self.tell_status(now, outputs);
            self.end_stalled(now, outputs);
        }
        self.follow(outputs);
    }

    /// Applies what waits for the documents, if it is much, and lets go of those of older days: what they hold is in
    /// the log, and they are applied again from there when somebody wants to read them.
    fn follow(&mut self, outputs: &mut Outputs) {
        let older = self.documents.len().saturating_sub(DOCUMENTS_KEPT);
        for (at, document) in self.documents.values_mut().enumerate() {
            let full = document.pending() >= DOCUMENT_PENDING_LIMIT
                || document.pending_bytes() >= DOCUMENT_PENDING_BYTES;
            let done = if at < older {
                document.release()
            } else if full {
                document.apply()
            } else {
                Ok(())
            };
            if let Err(error) = done {
                outputs.push(Output::Event(SyncEvent::Document(error.to_string())));
            }
        }
    }

    /// Projects what is new, a portion at a time: the next comes with the next wake-up, which is at once. The hub's journal is part of its log; a till's is derived again when needed.
    fn settle(&mut self, now: Instant, outputs: &mut Outputs) {
        if !std::mem::take(&mut self.unsettled) {
            return;
        }
        let mut settled = Settled::default();
        self.file(self.families_at_once);
        let more = self.books.settle_part(now.day(), self.families_at_once, &mut settled);
        self.unsettled = more || !self.unfiled.is_empty();
        if self.is_hub() {
            for run in JournalRun::cut(settled.journal) {
                self.persist(Entry::Journal(run), None, outputs);
            }
            if !self.unsettled {
                self.note_posted(now, outputs);
            }
        }
        outputs.extend(settled.cases.into_iter().map(Output::Case));
    }

    fn made_durable(&mut self, entries: u64, outputs: &mut Outputs) {
        assert!(entries <= self.persisted, "the node reported entries durable that it was never given");
        self.durable = self.durable.max(entries);
        while self.waiting.front().is_some_and(|(need, _)| *need <= self.durable) {
            match self.waiting.pop_front() {
                Some((_, Held::Output(output))) => outputs.push(output),
                Some((_, Held::Offer(ordinal))) => {
                    for peer in self.peers.values_mut() {
                        peer.offer(ordinal);
                    }
                }
                None => {}
            }
        }
    }

    fn persist(&mut self, entry: Entry, ordinal: Option<u64>, outputs: &mut Outputs) {
        self.persisted += 1;
        outputs.push(Output::Persist { entry, ordinal });
    }

    /// Emits an output once everything persisted so far is durable.
    fn when_durable(&mut self, output: Output, outputs: &mut Outputs) {
        if self.durable == self.persisted {
            outputs.push(output);
        } else {
            self.waiting.push_back((self.persisted, Held::Output(output)));
        }
    }

    fn is_hub(&self) -> bool {
        self.writer == self.identity.hub
    }

    /// The policy that judges records captured now.
    fn policy(&mut self, day: Day) -> &Policy {
        if self.policy_day != day {
            self.policy_day = day;
            self.policy_today = self.policies.of_till(day, &self.identity.log.terminal);
        }
        &self.policy_today
    }

    fn document(&mut self, day: Day) -> &mut Document {
        let store = &self.identity.store;
        self.documents.entry(day).or_insert_with(|| Document::new(store.clone(), day))
    }
}
