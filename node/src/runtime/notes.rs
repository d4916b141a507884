//! What a store's task notes in the audit log. What happens with every sale is counted and noted once a second, so
//! that the log of events does not outgrow the log of records.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use engine::ids::{StoreId, WriterId};
use engine::registry::Registry;
use engine::replica::SyncEvent;
use engine::review::CaseEvent;

use super::audit::{AuditEvent, AuditLog, Noted};
use super::clock::now_ms;
use crate::identity::TokenBucket;

/// The word of events about cases.
const CASE: &str = "case";
/// How often counted events are noted.
const NOTE_INTERVAL_MS: i64 = 1_000;
/// Cases noted with one append.
const CASES_AN_APPEND: usize = 1_024;
/// Wrongs of a peer noted one by one, and after that one in so long.
const WRONGS_BURST: u32 = 100;
const WRONGS_INTERVAL: Duration = Duration::from_secs(30);
/// Peers whose wrongs are counted.
const WRONGS_PEERS: usize = 10_000;

/// What an audit log tells of cases. A start judges again what no checkpoint holds, and every case of that opens anew; by
/// this what was noted before is not noted a second time. It is dropped when everything is judged.
#[derive(Debug, Default)]
pub struct ToldCases(HashSet<u64>);

impl ToldCases {
    /// Takes an event of the log in; those that are not about cases do not matter.
    pub(super) fn note(&mut self, event: &AuditEvent) {
        if event.event == CASE {
            self.0.insert(Self::key(&event.detail));
        }
    }

    fn holds(&self, detail: &str) -> bool {
        !self.0.is_empty() && self.0.contains(&Self::key(detail))
    }

    /// Of some hundred thousand cases two have one key once in a billion starts; then one line is missing in the audit log.
    fn key(detail: &str) -> u64 {
        let mut first = [0; 8];
        first.copy_from_slice(&blake3::hash(detail.as_bytes()).as_bytes()[..8]);
        u64::from_le_bytes(first)
    }
}

/// The notes of one store.
pub(super) struct Notes {
    audit: AuditLog,
    store: StoreId,
    /// What happened to cases in this turn: a bulk arrival may bring one for each of its records.
    cases: Vec<Noted>,
    told: ToldCases,
    /// Batches, records and redeliveries, by peer and event.
    counts: BTreeMap<(String, &'static str), [usize; 3]>,
    due_ms: i64,
    /// What peers did wrong: what may still be noted, and how many were not.
    wrongs: BTreeMap<WriterId, (TokenBucket, u64)>,
}

impl Notes {
    pub(super) fn new(audit: AuditLog, store: StoreId, told: ToldCases) -> Self {
        Self {
            audit,
            store,
            cases: Vec::new(),
            told,
            counts: BTreeMap::new(),
            due_ms: 0,
            wrongs: BTreeMap::new(),
        }
    }

    /// Notes something about a peer, or about the store.
    pub(super) fn note(&self, who: Option<String>, event: &str, detail: String) {
        self.audit.note(now_ms(), Some(self.store.as_str()), who, event, detail);
    }

    /// Notes what a peer did wrong: each at first, and then some of it with the number of the others. What one peer can
    /// make the log of events grow by is bounded, and it cannot wash out what it did before.
    fn evidence(&mut self, peer: WriterId, who: String, event: &str, detail: &str) {
        let now = Instant::now();
        if self.wrongs.len() >= WRONGS_PEERS && !self.wrongs.contains_key(&peer) {
            self.wrongs.clear();
        }
        let fresh = || (TokenBucket::new(WRONGS_BURST, WRONGS_INTERVAL), 0);
        let (bucket, unsaid) = self.wrongs.entry(peer).or_insert_with(fresh);
        if !bucket.take(now) {
            *unsaid += 1;
            return;
        }
        let more = match std::mem::take(unsaid) {
            0 => String::new(),
            more => format!(" (and {more} more since the last)"),
        };
        self.note(Some(who), event, format!("{detail}{more}"));
    }

    /// Notes what happened to a case, together with the others of this turn.
    pub(super) fn case(&mut self, event: &CaseEvent) {
        let case = &event.case;
        let change = format!("{:?}", event.change).to_lowercase();
        let detail = format!("{} {} {change}: {}", case.id, case.key.case_type.as_str(), case.about);
        if !self.told.holds(&detail) {
            self.cases.push((None, CASE.to_owned(), detail));
        }
    }

    /// Notes or counts what happened in replication.
    pub(super) fn event(&mut self, registry: &Registry, event: SyncEvent) {
        match event {
            SyncEvent::Connected(peer) => self.note(Some(name(registry, &peer)), "connected", String::new()),
            SyncEvent::Disconnected(peer) => {
                self.note(Some(name(registry, &peer)), "disconnected", String::new());
            }
            SyncEvent::Level { peer, to_send } => {
                self.note(Some(name(registry, &peer)), "level", format!("{to_send} batches to send"));
            }
            SyncEvent::Refused { peer, batch, reason, by_peer } => {
                let word = if by_peer { "refused-by-peer" } else { "refused" };
                self.evidence(peer, name(registry, &peer), word, &format!("batch {batch}: {reason}"));
            }
            SyncEvent::Garbled { peer, reason } => {
                self.evidence(peer, name(registry, &peer), "garbled", &reason);
            }
            SyncEvent::Document(reason) => self.note(None, "document", reason),
            SyncEvent::Admitted { peer, batches, records, redelivered } => {
                self.count(name(registry, &peer), "received", [batches, records, redelivered]);
            }
            SyncEvent::Acknowledged { peer, batches } => {
                self.count(name(registry, &peer), "acknowledged", [batches, 0, 0]);
            }
            SyncEvent::Sealed { batches, records } => {
                self.count(String::new(), "sealed", [batches, records, 0]);
            }
        }
    }

    /// When counted events are to be noted, ms since 1970.
    pub(super) fn due_ms(&self) -> Option<i64> {
        (!self.counts.is_empty()).then_some(self.due_ms)
    }

    /// Ends a turn: notes what happened to cases, and what was counted if it is time. `settled`: everything is judged;
    /// `heard`: a peer said something new of itself.
    pub(super) fn end_turn(&mut self, settled: bool, heard: bool) {
        if heard {
            self.audit.hint();
        }
        if settled {
            self.told = ToldCases::default();
        }
        while !self.cases.is_empty() {
            let rest = self.cases.split_off(self.cases.len().min(CASES_AN_APPEND));
            let cases = std::mem::replace(&mut self.cases, rest);
            self.audit.note_all(now_ms(), self.store.as_str(), cases);
        }
        // Further away than it ever is: the clock was set back.
        let waits = |due: i64| (1..=NOTE_INTERVAL_MS).contains(&(due - now_ms()));
        if self.due_ms().is_none_or(waits) {
            return;
        }
        for ((who, event), [batches, records, redelivered]) in std::mem::take(&mut self.counts) {
            let again =
                if redelivered > 0 { format!(", {redelivered} known already") } else { String::new() };
            let detail = match event {
                "acknowledged" => format!("{batches} batches durable there"),
                _ => format!("{batches} batches with {records} records{again}"),
            };
            self.note((!who.is_empty()).then_some(who), event, detail);
        }
    }

    fn count(&mut self, who: String, event: &'static str, add: [usize; 3]) {
        if self.counts.is_empty() {
            self.due_ms = now_ms() + NOTE_INTERVAL_MS;
        }
        let counts = self.counts.entry((who, event)).or_default();
        for (count, add) in counts.iter_mut().zip(add) {
            *count += add;
        }
    }
}

/// What people call a peer.
pub(super) fn name(registry: &Registry, peer: &WriterId) -> String {
    registry.log_of(peer).map_or_else(|| peer.short(), ToString::to_string)
}
