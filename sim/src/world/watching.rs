//! What is written down for the report. All of it does nothing unless somebody wants to look.

use engine::host::NotRecorded;
use engine::replica::{Receipt, SyncEvent};
use engine::review::{CaseChange, CaseEvent};

use super::{Node, START_MS, World, is_hub};
use crate::watch::{SAMPLE_MS, Way};

impl World {
    pub(super) fn moment(&mut self, node: &str, what: &str, figure: u64, text: impl FnOnce() -> String) {
        let at_ms = self.now_ms - START_MS;
        if let Some(watch) = &mut self.watch {
            watch.moment(at_ms, node, what, figure, text());
        }
    }

    pub(super) fn watch_link(&mut self, one: &str, two: &str, up: bool) {
        match (one, two) {
            (till, hub) | (hub, till) if is_hub(hub) && !is_hub(till) => {
                self.moment(till, if up { "link-up" } else { "link-down" }, 0, String::new);
            }
            _ => {}
        }
    }

    pub(super) fn watch_commit(&mut self, at: &str, result: &Result<Receipt, NotRecorded>) {
        let (at_ms, offline) = (self.now_ms - START_MS, self.linked_hub(at).is_none());
        if let (Some(watch), Ok(receipt)) = (&mut self.watch, result)
            && !is_hub(at)
        {
            let way = Way { till: at.to_owned(), committed_ms: at_ms, offline, arrived_ms: None };
            watch.ways.entry(receipt.id).or_insert(way);
        }
    }

    /// At the hub, what was admitted is there.
    pub(super) fn watch_event(&mut self, at: &str, event: &SyncEvent) {
        let at_ms = self.now_ms - START_MS;
        if let (SyncEvent::Acknowledged { .. }, Some(watch)) = (event, &mut self.watch)
            && let Some(host) = self.nodes.get(at).filter(|node| !is_hub(&node.name)).and_then(Node::host)
        {
            watch.waits(at_ms, at, host.replica().waiting_records().count() as u64);
        }
        let SyncEvent::Admitted { peer, records, .. } = event else { return };
        let from = self.linked_writer(at, *peer);
        let Some(watch) = self.watch.as_mut().filter(|_| is_hub(at)) else { return };
        if let Some(from) = from {
            watch.moment(at_ms, &from, "sync", *records as u64, String::new());
        }
        let Some(host) = self.nodes.get(at).and_then(Node::host) else { return };
        // A hub that was restored from a backup holds fewer than before.
        for meta in host.replica().batch_metas(watch.batches) {
            let Some(node) = self.nodes.values().find(|node| node.writer() == meta.writer) else { continue };
            let records = host.replica().books().log_records(&node.identity.log, meta.first_seq);
            for record in records.take_while(|record| record.seq <= meta.last_seq) {
                if let Some(way) = watch.ways.get_mut(&record.id) {
                    way.arrived_ms.get_or_insert(at_ms);
                }
            }
        }
        watch.batches = host.replica().batch_count();
    }

    pub(super) fn watch_case(&mut self, at: &str, event: &CaseEvent) {
        if !is_hub(at) || event.change != CaseChange::Opened || self.watch.is_none() {
            return;
        }
        let case = &event.case;
        let books = self.nodes.get(at).and_then(Node::host).map(|host| host.replica().books());
        let record =
            case.held.keys().chain(&case.members).find_map(|id| books.and_then(|books| books.record(id)));
        let till = record.map_or_else(|| at.to_owned(), |record| record.log.terminal.to_string());
        let severity = u64::from(case.severity);
        self.moment(&till, "case", severity, || format!("{}: {}", case.key.case_type, case.about));
    }

    /// Looks at the queues whenever it is time to, until a time.
    pub(super) fn sample_until(&mut self, until_ms: i64) {
        let Some(watch) = &mut self.watch else { return };
        while START_MS + watch.sample_ms <= until_ms {
            for node in self.nodes.values() {
                let Some(host) = &node.host else { continue };
                if !is_hub(&node.name) {
                    let waiting = host.replica().waiting_records().count() as u64;
                    watch.waits(watch.sample_ms, &node.name, waiting);
                }
            }
            watch.sample_ms += SAMPLE_MS;
        }
    }
}
