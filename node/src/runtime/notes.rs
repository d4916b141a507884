//! What a store's task notes in the audit log. What happens with every sale is counted and noted once a second, so
//! that the log of events does not outgrow the log of records.

use std::collections::BTreeMap;

use engine::ids::{StoreId, WriterId};
use engine::registry::Registry;
use engine::replica::SyncEvent;
use engine::review::CaseEvent;

use super::audit::AuditLog;
use super::clock::now_ms;

/// How often counted events are noted.
const NOTE_INTERVAL_MS: i64 = 1_000;

/// The notes of one store.
pub(super) struct Notes {
    audit: AuditLog,
    store: StoreId,
    /// Batches, records and redeliveries, by peer and event.
    counts: BTreeMap<(String, &'static str), [usize; 3]>,
    due_ms: i64,
}

impl Notes {
    pub(super) fn new(audit: AuditLog, store: StoreId) -> Self {
        Self { audit, store, counts: BTreeMap::new(), due_ms: 0 }
    }

    /// Notes something about a peer, or about the store.
    pub(super) fn note(&self, who: Option<String>, event: &str, detail: String) {
        self.audit.note(now_ms(), Some(self.store.as_str()), who, event, detail);
    }

    /// Notes what happened to a case.
    pub(super) fn case(&self, event: &CaseEvent) {
        let case = &event.case;
        let change = format!("{:?}", event.change).to_lowercase();
        let detail = format!("{} {} {change}: {}", case.id, case.key.case_type.as_str(), case.about);
        self.note(None, "case", detail);
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
                self.note(Some(name(registry, &peer)), word, format!("batch {batch}: {reason}"));
            }
            SyncEvent::Garbled { peer, reason } => self.note(Some(name(registry, &peer)), "garbled", reason),
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

    /// Notes what was counted, if it is time.
    pub(super) fn note_counts(&mut self) {
        if self.due_ms().is_none_or(|due| due > now_ms()) {
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
