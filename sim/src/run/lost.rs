//! Devices that are lost or set back to a backup: what that takes with it for good.

use std::collections::BTreeSet;

use engine::ids::WriterId;
use engine::ledger::Books;
use engine::replica::Replica;
use engine::transaction::HubRecord;

use super::Run;
use crate::saved::Saved;
use crate::world::{HUB, Node, is_hub};

impl Run {
    /// Receipts that a node holds.
    pub(super) fn held_by(&self, node: &str) -> BTreeSet<String> {
        let node = &self.world.nodes[node];
        if !node.is_up() {
            return BTreeSet::new();
        }
        self.acknowledged_in(node.replica().books())
    }

    /// A device is lost: what nobody else holds, and `kept` does not name, is gone for good.
    pub(super) fn lose_device(&mut self, node: &str, kept: &BTreeSet<String>) {
        self.collect();
        let others: BTreeSet<String> = self
            .world
            .nodes
            .keys()
            .filter(|other| *other != node)
            .flat_map(|other| self.held_on_disk(other))
            .chain(kept.iter().cloned())
            .collect();
        let gone = self.truth.acknowledged.keys().filter(|receipt| !others.contains(*receipt));
        let gone: Vec<String> = gone
            .filter(|receipt| node == HUB || self.truth.acknowledged[*receipt].1 == node)
            .cloned()
            .collect();
        if node != HUB {
            self.truth.destroyed.extend(gone);
        }
        self.asked.retain(|(till, _), _| till != node);
        self.last.remove(node);
    }

    /// Acknowledged receipts that are durable on a node's disk, whether it runs or not.
    pub(super) fn held_on_disk(&self, node: &str) -> BTreeSet<String> {
        let disk = self.world.backup(node);
        let Ok(entries) = disk.read() else { return BTreeSet::new() };
        let node = &self.world.nodes[node];
        let room = Saved::default().room(node.limits());
        let fresh = crate::world::fresh(node.identity(), &self.world.policy, &room);
        let replica = Replica::from_log(fresh, &entries).expect("what was durable restores");
        self.acknowledged_in(replica.books())
    }

    pub(super) fn restore_backup(&mut self, node: &str) {
        let Some((backup, held)) = self.backups.remove(node) else { return };
        if !self.world.nodes[node].is_up()
            || self.world.nodes[node].identity().log.incarnation > 1 && node != HUB
        {
            return;
        }
        self.lose_device(node, &held);
        if node == HUB {
            self.truth.hub_lost = true;
        } else {
            self.truth.suspicious.insert(node.to_owned());
            self.truth.forked.insert(node.to_owned());
        }
        self.world.restore(node, backup);
        if node == HUB {
            self.enrol_again();
        }
        self.strike(if node == HUB { "hub-backup" } else { "old-backup" });
    }

    /// The office goes through its devices: one that was enrolled after the hub's backup was made, and that no other node
    /// knows of, is enrolled again.
    pub(super) fn enrol_again(&mut self) {
        let running = || self.world.nodes.values().filter(|node| node.is_up());
        let known =
            |writer: WriterId| running().any(|node| node.replica().registry().log_of(&writer).is_some());
        let tills = self.world.nodes.values().filter(|node| !is_hub(&node.name));
        let lost: Vec<_> = tills.filter(|node| !known(node.writer())).map(Node::enrolment).collect();
        for enrolment in lost {
            self.world.state(HubRecord::Enrol(enrolment));
        }
    }

    /// Receipts whose acknowledged record is in some books.
    fn acknowledged_in(&self, books: &Books) -> BTreeSet<String> {
        let known = self.truth.acknowledged.iter().filter(|(_, (id, _))| books.record(id).is_some());
        known.map(|(receipt, _)| receipt.clone()).collect()
    }
}
