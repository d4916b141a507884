//! Power, disks and devices: nodes stop and start, lose what they held, are set back to a backup, or are copied.

use engine::entry::Entry;
use engine::host::Host;
use engine::replica::Input;

use super::{Delays, HUB, Name, World, fresh, is_hub};
use crate::chance::Chance;
use crate::disk::{Disk, Rotten};
use crate::saved::Saved;

impl World {
    /// A node loses power and starts again at once from what was durable.
    pub fn crash(&mut self, name: &str) {
        self.stop(name, 0);
        self.start(name).expect("a disk without rot starts");
    }

    /// A node loses power and stays down. Of what it had not synced, `survive` lines happen to be on the disk.
    pub fn stop(&mut self, name: &str, survive: usize) {
        if self.company.is_some() && is_hub(name) {
            return self.kill_hub(name, true);
        }
        self.unlink_all(name);
        let node = self.node(name);
        node.host = None;
        node.disk.lose_power(survive);
        self.moment(name, "down", 0, String::new);
    }

    /// A node is stopped in an orderly way: it keeps what it judged for a faster start.
    pub fn shut_down(&mut self, name: &str) {
        if self.company.is_some() && is_hub(name) {
            return self.stop_hub(name);
        }
        self.keep_image(name);
        self.stop(name, 0);
    }

    /// A node keeps what it judged, if nothing is on its way.
    pub(super) fn keep_image(&mut self, name: &str) {
        let node = self.node(name);
        let settled = node.host.as_ref().is_some_and(|host| host.is_settled() && host.failed().is_none());
        if let Some(host) = node.host.as_mut().filter(|_| settled) {
            node.saved.keep(host.replica_mut(), node.disk.durable(), true);
        }
        node.checkpoint_of = None;
    }

    /// Every node that has nothing on its way keeps what it judged, as nodes do now and then: a crash later starts from
    /// there. What was kept since the last line of its log was written still holds.
    pub fn keep_checkpoints(&mut self) {
        for node in self.nodes.values_mut() {
            let settled = |host: &&Host| {
                host.is_settled() && host.failed().is_none() && host.replica().next_wakeup() != Some(0)
            };
            let of = (node.start, node.disk.durable());
            if let Some(host) = node.host.as_mut().filter(|host| settled(&&**host))
                && node.checkpoint_of.replace(of) != Some(of)
            {
                let moment = format!("image of {} at {}", node.name, node.disk.durable());
                // An image costs as much as the node has: now and then is enough.
                let mut chance = Chance::new(self.seed, &moment);
                if chance.once_in(3) {
                    let is_durable = !chance.once_in(4);
                    node.saved.keep(host.replica_mut(), node.disk.durable(), is_durable);
                }
            }
        }
    }

    pub(super) fn unlink_all(&mut self, name: &str) {
        let others: Vec<String> = self.network.linked_to(name).map(str::to_owned).collect();
        for other in others {
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
        if self.company.is_some() && is_hub(name) {
            self.start_hub(name);
            return Ok(());
        }
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
        let empty = fresh(&node.identity, &policy, &node.saved.room(node.limits));
        let replica = node.saved.start(empty, &entries).expect("what was durable restores");
        // A till keeps no journal.
        if *name == *HUB {
            let told = entries.iter().rev().find_map(|entry| match entry {
                Entry::Journal(run) => Some(run.last_number()),
                _ => None,
            });
            let head = replica.books().journal_head().number;
            assert_eq!(head, told.unwrap_or(0), "the hub goes on with its journal where its log ends");
        }
        node.host = Some(Host::new(replica));
        self.moment(name, "up", 0, String::new);
        self.give(name, Input::Wakeup);
        if let Some(to) = self.node(name).dials.clone() {
            self.dial_later(name, &to);
        }
        let callers: Vec<Name> = self
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

    /// A copy of what a node has on its disk; of several hubs, of what the database has.
    #[must_use]
    pub fn backup(&self, name: &str) -> Disk {
        match &self.company {
            Some(company) if is_hub(name) => company.database.log(company.shard).copy(),
            _ => self.nodes[name].disk.copy(),
        }
    }

    /// A node loses its disk and starts from a backup.
    pub fn restore(&mut self, name: &str, backup: Disk) {
        self.stop(name, 0);
        let node = self.node(name);
        (node.disk, node.saved, node.checkpoint_of) = (backup, Saved::default(), None);
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
}
