//! The store at the hub that has its log, and the tills: they ask the hubs in turn, and somebody looks whether they are served.

use std::collections::{BTreeMap, BTreeSet};

use engine::entry::Entry;
use engine::host::{Host, Line};
use engine::replica::Input;

use super::{AGAIN_MS, DATABASE, IDLE_MS, LOOK_MS, RETRY_MS, SERVED_MS, SLOW_MS, Stir, UNANSWERED_MS};
use crate::world::{HUB, Happening, Name, START_MS, World, fresh, is_hub};

impl World {
    /// What a hub's host wants appended goes to its writer.
    pub(in crate::world) fn append_to_log(&mut self, name: &str, lines: Vec<Line>) {
        let now_ms = self.now_ms;
        let shard = self.company_mut().shard;
        let writer = self.writer(name, shard).expect("a hub that serves a store has its log");
        writer.append(lines, now_ms);
        self.drive(name, shard, Vec::new());
    }

    pub(super) fn committed(&mut self, name: &str, log: u16, lines: Vec<(i64, Line)>) {
        let (now_ms, shard) = (self.now_ms, self.company_mut().shard);
        let node = self.nodes.get_mut(name).expect("a node of that name");
        let now = node.clock.shows(now_ms);
        let Some(host) = node.host.as_mut().filter(|_| log == shard) else { return };
        let count = lines.len() as u64;
        for (at_ms, line) in lines {
            node.disk.append(vec![line], at_ms);
            node.disk.synced();
        }
        host.appended(now, count);
        self.trace.update(&now_ms.to_le_bytes());
        self.trace.update(&count.to_le_bytes());
        self.turn(name);
    }

    /// The log that was taken is read: the hub serves its store.
    pub(super) fn begin_serving(&mut self, name: &str, life: u32, fence: u64) {
        let (now_ms, shard) = (self.now_ms, self.company_mut().shard);
        let Some(writer) = self.writer(name, shard) else { return };
        let (end, has_lease) =
            (usize::try_from(writer.end()).unwrap_or(usize::MAX), writer.has_lease(now_ms));
        // A claim anew is another read; one that came back over a new connection has a higher fence and goes on.
        if !writer.keeps() || writer.fence().is_some_and(|now| now < fence) || self.nodes[name].host.is_some()
        {
            return;
        }
        let there = self.company_mut().database.is_there(now_ms);
        if !there || !self.network.is_open(name, DATABASE) {
            return self.stir(AGAIN_MS, Stir::Read { hub: name.into(), life, fence });
        }
        let (policy, nonce) = (self.policy.clone(), self.chance.draw());
        let disk = self.company_mut().database.log(shard).prefix(end);
        let entries = disk.read().expect("the database keeps what it was given");
        let node = self.node(name);
        node.disk = disk;
        node.start += 1;
        node.identity.nonce[..8].copy_from_slice(&nonce.to_le_bytes());
        (node.woken_at, node.checkpoint_of) = (None, None);
        let empty = fresh(&node.identity, &policy, &node.saved.room(node.limits));
        let replica = node.saved.start(empty, &entries).expect("what was committed restores");
        let told = entries.iter().rev().find_map(|entry| match entry {
            Entry::Journal(run) => Some(run.last_number()),
            _ => None,
        });
        let head = replica.books().journal_head().number;
        assert_eq!(head, told.unwrap_or(0), "the hub goes on with its journal where its log ends");
        node.host = Some(Host::new(replica));
        if let Some(hub) = self.company_mut().hubs.get_mut(name) {
            hub.open = has_lease;
        }
        self.moment(name, "up", 0, String::new);
        self.give(name, Input::Wakeup);
    }

    /// A till asks the hubs in turn for its store's.
    pub(in crate::world) fn ask_hubs(&mut self, till: &str) {
        let mut tries = self.company_mut().tries.get(till).cloned().unwrap_or_default();
        let company = self.company_mut();
        let names: Vec<&String> = company.hubs.keys().collect();
        let asked: Name =
            tries.told.take().unwrap_or_else(|| names[tries.next % names.len()].as_str().into());
        let hub = &company.hubs[&*asked];
        let (runs, open) = (hub.runs(), hub.open);
        let holder = hub.looked.1.iter().find(|log| log.number == company.shard).and_then(|log| log.holder);
        let elsewhere = holder.and_then(|process| company.hubs.iter().find(|row| row.1.process == process));
        let elsewhere = elsewhere.map(|row| Name::from(row.0.as_str())).filter(|name| *name != asked);
        let travel_ms = company.chance.between(10, 80);
        let wait_ms = if !runs || !self.network.is_open(till, &asked) {
            tries.next += 1;
            Some(UNANSWERED_MS)
        } else if open && self.nodes[&*asked].host.is_some() {
            tries.sent_on = false;
            None
        } else if let Some(name) = elsewhere.filter(|_| !tries.sent_on) {
            (tries.told, tries.sent_on) = (Some(name), true);
            Some(travel_ms)
        } else {
            tries.next += 1;
            tries.sent_on = false;
            Some(RETRY_MS)
        };
        self.company_mut().tries.insert(till.to_owned(), tries);
        match wait_ms {
            Some(ms) => self.put(self.now_ms + ms, Happening::Dial { from: till.into(), to: HUB.into() }),
            None => self.connect(till, &asked),
        }
    }

    /// A frame comes to a hub whose log another has by now.
    pub(in crate::world) fn watch_stale(&mut self, name: &str) {
        if let Some(company) = self.company.as_mut().filter(|_| is_hub(name) && self.nodes[name].is_up())
            && company.holder() != Some(name)
        {
            company.count("stale-hub-heard");
        }
    }

    /// Every till that could be served is, or is again soon.
    pub(super) fn watch_service(&mut self) {
        self.stir(LOOK_MS, Stir::Watch);
        let now_ms = self.now_ms;
        let company = self.company.as_mut().expect("a world of several hubs");
        let blocked: Vec<(String, bool)> = company
            .hubs
            .keys()
            .map(|hub| {
                (hub.clone(), self.network.is_open(hub, DATABASE) && self.nodes[hub].disk_ms.1 <= SLOW_MS)
            })
            .collect();
        if !company.database.is_well(now_ms) || company.blocked != blocked {
            company.changed_ms = now_ms;
        }
        company.blocked = blocked;
        let reaches = |hub: &String| company.blocked.iter().any(|row| row.0 == *hub && row.1);
        let some_hub = company.hubs.iter().any(|(name, hub)| hub.runs() && reaches(name));
        let holder =
            company.holder().map(str::to_owned).filter(|name| company.hubs[name].open && company.runs(name));
        let mut keys: BTreeMap<_, u32> = BTreeMap::new();
        for node in self.nodes.values() {
            *keys.entry(node.writer()).or_default() += 1;
        }
        let could: BTreeSet<&String> = self
            .nodes
            .iter()
            .filter(|(name, node)| {
                let reachable = company.hubs.keys().all(|hub| self.network.is_open(name, hub));
                node.dials.is_some()
                    && node.is_up()
                    && reachable
                    && keys[&node.writer()] == 1
                    && node.replaced_ms.is_none()
            })
            .map(|row| row.0)
            .collect();
        let served_ms = SERVED_MS + self.network.idle_ms - IDLE_MS[0];
        for till in self.nodes.keys().filter(|name| !is_hub(name)) {
            let served = holder.as_ref().is_some_and(|hub| self.network.between(till, hub).is_some());
            if served || !some_hub || !could.contains(till) {
                company.waits.remove(till);
                continue;
            }
            let since_ms = *company.waits.entry(till.clone()).or_insert(now_ms);
            let since_ms = since_ms.max(company.changed_ms);
            if now_ms - since_ms > served_ms && company.unserved.is_none() {
                let linked: Vec<&str> = self.network.linked_to(till).collect();
                let at = now_ms - START_MS;
                let rows = company.database.holder(company.shard);
                company.unserved = Some(format!(
                    "{till} waits at {at} ms since {} ms, linked to {linked:?}; the log is {holder:?}'s ({rows:?})",
                    since_ms - START_MS
                ));
            }
        }
    }
}
