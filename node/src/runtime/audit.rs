//! The sync-event and admin log: every connection, batch, acknowledgement, refusal and decision with time, peer and
//! counts. Kept in the node's log, the newest in memory for reading. Nothing waits for it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast, watch};

use crate::storage::{Entry, Storage, StorageError};

/// Kind byte of an audit event in the node's log.
pub const AUDIT_KIND: u8 = 64;
/// Events kept in memory.
const RING_EVENTS: usize = 20_000;
/// Events a slow listener may fall behind.
const LISTEN_EVENTS: usize = 1_024;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEvent {
    /// Number in this node's log of events, from 1.
    pub number: u64,
    /// When, ms since 1970.
    pub at_ms: i64,
    /// The store, if it concerns one.
    pub store: Option<String>,
    /// The peer or person, if there is one.
    pub who: Option<String>,
    /// What, in one word.
    pub event: String,
    /// The rest, for people.
    pub detail: String,
}

/// Who, what in one word, and the rest.
pub type Noted = (Option<String>, String, String);

/// The audit log of a node. Clones share it; those of several logs share what is in memory.
#[derive(Clone)]
pub struct AuditLog {
    inner: Arc<Inner>,
    /// Where events are kept; `None`: in memory and in the node's log lines only.
    storage: Option<Storage>,
}

struct Inner {
    ring: Mutex<(u64, VecDeque<AuditEvent>)>,
    listeners: broadcast::Sender<AuditEvent>,
    hints: watch::Sender<()>,
}

impl AuditLog {
    /// An audit log over a node's storage, with the events that its log already holds.
    #[must_use]
    pub fn new(storage: Storage, restored: VecDeque<AuditEvent>) -> Self {
        Self { storage: Some(storage), ..Self::of(restored) }
    }

    /// An audit log of a process that holds no log yet.
    #[must_use]
    pub fn in_memory() -> Self {
        Self::of(VecDeque::new())
    }

    fn of(restored: VecDeque<AuditEvent>) -> Self {
        let last = restored.back().map_or(0, |event| event.number);
        let (listeners, _) = broadcast::channel(LISTEN_EVENTS);
        let inner = Inner { ring: Mutex::new((last, restored)), listeners, hints: watch::Sender::new(()) };
        Self { inner: Arc::new(inner), storage: None }
    }

    /// The audit log that is kept in another log of this process, with the events that it already holds: they are numbered
    /// anew, for numbers belong to a process.
    #[must_use]
    pub fn kept_in(&self, storage: Storage, restored: VecDeque<AuditEvent>) -> Self {
        self.take_in(restored);
        Self { inner: Arc::clone(&self.inner), storage: Some(storage) }
    }

    /// Takes in events that another process noted, or this one in an earlier life; what is known stays as it is.
    pub fn take_in(&self, events: impl IntoIterator<Item = AuditEvent>) {
        let mut events = events.into_iter().peekable();
        if events.peek().is_none() {
            return;
        }
        let mut ring = self.inner.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let known: BTreeSet<_> = ring.1.iter().map(AuditEvent::content).collect();
        let news: Vec<_> = events.filter(|event| !known.contains(&event.content())).collect();
        for event in news {
            ring.0 += 1;
            let event = AuditEvent { number: ring.0, ..event };
            keep(&mut ring.1, event);
        }
    }

    /// Notes an event.
    pub fn note(&self, at_ms: i64, store: Option<&str>, who: Option<String>, event: &str, detail: String) {
        self.note_and(at_ms, store, who, event, detail, |_| {});
    }

    /// Notes an event; `done` hears, from the storage's thread, when it and all that was appended before it is durable.
    pub fn note_and(
        &self,
        at_ms: i64,
        store: Option<&str>,
        who: Option<String>,
        event: &str,
        detail: String,
        done: impl FnOnce(Result<(), StorageError>) + Send + 'static,
    ) {
        self.enter(at_ms, store, vec![(who, event.to_owned(), detail)], done);
    }

    /// Notes events of one store together: one append for all of them.
    pub fn note_all(&self, at_ms: i64, store: &str, notes: Vec<Noted>) {
        self.enter(at_ms, Some(store), notes, |_| {});
    }

    fn enter(
        &self,
        at_ms: i64,
        store: Option<&str>,
        notes: Vec<Noted>,
        done: impl FnOnce(Result<(), StorageError>) + Send + 'static,
    ) {
        let mut ring = self.inner.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::with_capacity(notes.len());
        for (who, event, detail) in notes {
            ring.0 += 1;
            let event =
                AuditEvent { number: ring.0, at_ms, store: store.map(str::to_owned), who, event, detail };
            tracing::info!(event = event.event, store = event.store, who = event.who, "{}", event.detail);
            if let Ok(bytes) = serde_json::to_vec(&event) {
                entries.push(Entry { kind: AUDIT_KIND, bytes });
            }
            keep(&mut ring.1, event.clone());
            let _ = self.inner.listeners.send(event);
        }
        let Some(storage) = &self.storage else { return done(Ok(())) };
        let count = entries.len();
        storage.append(entries, move |result| {
            if let Err(error) = &result {
                tracing::warn!("{count} events of the audit log are in memory only: {error}");
            }
            done(result.map(|_| ()));
        });
    }

    /// Notes which small files of the directory changed without the node.
    pub fn note_changed(&self, at_ms: i64, changed: &[String]) {
        for what in changed {
            tracing::warn!("{what}");
            self.note(at_ms, None, None, "file-changed", what.clone());
        }
    }

    /// Events after number `after`, oldest first, at most `limit` of the newest.
    #[must_use]
    pub fn read(&self, after: u64, limit: usize) -> Vec<AuditEvent> {
        let ring = self.inner.ring.lock().unwrap_or_else(PoisonError::into_inner);
        let newer = ring.1.iter().filter(|event| event.number > after).count();
        ring.1
            .iter()
            .filter(|event| event.number > after)
            .skip(newer.saturating_sub(limit))
            .cloned()
            .collect()
    }

    /// Listens to events from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<AuditEvent> {
        self.inner.listeners.subscribe()
    }

    /// Tells open pages that something changed which is no event: a till said how much waits there.
    pub fn hint(&self) {
        self.inner.hints.send_replace(());
    }

    /// Listens to hints from now on.
    #[must_use]
    pub fn hints(&self) -> watch::Receiver<()> {
        self.inner.hints.subscribe()
    }
}

impl AuditEvent {
    /// Everything but the number.
    fn content(&self) -> (i64, Option<String>, Option<String>, String, String) {
        let Self { at_ms, store, who, event, detail, .. } = self.clone();
        (at_ms, store, who, event, detail)
    }

    /// An event of the node's log; `None` if another version wrote something else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}

/// The newest events of a log as they are read from it. A log that was made of several (a backup of a company whose stores are
/// spread, `hub move`) has them one log after the other, each numbered by the process that noted it: they are put in the order
/// of their times and numbered anew.
#[derive(Default)]
pub(super) struct Gathered {
    events: VecDeque<AuditEvent>,
    mixed: bool,
}

impl Gathered {
    pub(super) fn take(&mut self, event: AuditEvent) {
        self.mixed |= self.events.back().is_some_and(|last| event.number <= last.number);
        self.events.push_back(event);
        if self.events.len() == 2 * RING_EVENTS {
            self.settle();
        }
    }

    /// Those that are kept, oldest first, their numbers rising.
    pub(super) fn in_order(mut self) -> VecDeque<AuditEvent> {
        self.settle();
        if self.mixed {
            for (number, event) in (1..).zip(&mut self.events) {
                event.number = number;
            }
        }
        self.events
    }

    fn settle(&mut self) {
        if self.mixed {
            self.events.make_contiguous().sort_by_key(|event| event.at_ms);
        }
        self.events.drain(..self.events.len().saturating_sub(RING_EVENTS));
    }
}

/// Keeps an event in a ring of the newest.
fn keep(ring: &mut VecDeque<AuditEvent>, event: AuditEvent) {
    if ring.len() == RING_EVENTS {
        ring.pop_front();
    }
    ring.push_back(event);
}
