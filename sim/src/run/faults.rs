//! What goes wrong: each fault strikes if it can, and is counted when it did.

use std::collections::BTreeSet;

use engine::policy::PolicyChange;
use engine::transaction::{HubRecord, Outcome as PaymentOutcome, Payment};

use super::Run;
use crate::disk::DiskState;
use crate::liar;
use crate::network::{Broken as BrokenTransport, LinkSpeed, Loss, Verdict};
use crate::scenario::{Meddling, What};
use crate::world::{DATABASE, HUB, is_hub};

impl Run {
    /// What the hub states, and what goes wrong.
    #[expect(clippy::collapsible_match, reason = "what strikes is one thing, whether it can is another")]
    pub(super) fn strike_or_state(&mut self, what: &What) {
        match what {
            What::Outcome { of, approved } => {
                if self.truth.sales.contains_key(of) {
                    let outcome = if *approved { PaymentOutcome::Approved } else { PaymentOutcome::Declined };
                    let stated =
                        self.world.state(HubRecord::Payment(Payment { payment: format!("P-{of}"), outcome }));
                    self.outcomes.extend(stated.map(|token| (token, (of.clone(), *approved))));
                }
            }
            What::Decide { draw } => self.decide(*draw),
            What::Lock => self.lock(),
            What::Policy { setting } => {
                if let Ok(change) = PolicyChange::parse([setting.as_str()], None, "admin")
                    && self.world.state(HubRecord::Config(change)).is_some()
                {
                    self.strike("policy");
                    self.truth.policy_changed = true;
                }
            }
            What::Revoke { till } => self.revoke(till),
            What::Block { from, to } => {
                let known = |name: &String| name == DATABASE || self.world.nodes.contains_key(name);
                if known(from) && known(to) {
                    let now_ms = self.world.now_ms;
                    self.world.network.block(from, to, now_ms);
                    self.cut.insert((from.clone(), to.clone()));
                    self.strike("partition");
                    self.tell(
                        if is_hub(from) && to != DATABASE { to } else { from },
                        "block",
                        0,
                        from.clone(),
                    );
                }
            }
            What::Open { from, to } => {
                self.world.network.unblock(from, to);
                if self.cut.remove(&(from.clone(), to.clone())) {
                    self.outage_ended_ms = Some(self.world.now_ms);
                }
                self.tell(if is_hub(from) && to != DATABASE { to } else { from }, "open", 0, from.clone());
            }
            What::Gossip { one, two } => {
                if self.world.network.is_open(one, two) && one != two {
                    self.world.connect(one, two);
                    self.strike("gossip");
                }
            }
            What::Crash { node, down_ms, survive } => self.crash(node, *down_ms, *survive),
            What::Restart { node } => {
                if self.world.is_up(node) {
                    self.collect();
                    self.world.shut_down(node);
                    self.start(node);
                    self.strike("restart");
                }
            }
            What::Kill { node, down_ms } => {
                if self.world.is_up(node) {
                    self.collect();
                    self.world.kill_hub(node, false);
                    self.strike("hub-killed");
                    self.restarts.insert((self.world.now_ms + (*down_ms).max(1), node.clone()));
                }
            }
            What::Pause { node, lasts_ms } => {
                if self.world.is_up(node) {
                    self.world.pause_hub(node, (*lasts_ms).max(1));
                    self.strike("hub-paused");
                }
            }
            What::Database { how, lasts_ms, once_in } => {
                self.world.ail(*how, *lasts_ms, *once_in);
                self.strike(how.name());
            }
            What::DiskHangs { node } => self.disk(node, DiskState::Hangs, "disk-hangs"),
            What::SyncFails { node } => self.disk(node, DiskState::SyncFails, "sync-fails"),
            What::DiskFull { node } => self.disk(node, DiskState::Full, "disk-full"),
            What::Rot { node, draw } => self.rot(node, *draw),
            What::Backup { node } => {
                let held = self.held_by(node);
                self.backups.insert(node.clone(), (self.world.backup(node), held));
            }
            What::RestoreBackup { node } => self.restore_backup(node),
            What::Wipe { till } => {
                if self.hub_enrols() {
                    self.lose_device(till, &BTreeSet::new());
                    self.world.wipe(till);
                    self.truth.suspicious.insert(till.clone());
                    self.strike("wipe");
                }
            }
            What::CloneDevice { till, copy } => {
                if !self.world.nodes.contains_key(copy) && self.world.nodes[till].is_up() {
                    self.world.clone_device(till, copy);
                    self.world.dial(copy, HUB);
                    self.copies.insert(till.clone(), copy.clone());
                    self.truth.suspicious.extend([till.clone(), copy.clone()]);
                    self.truth.forked.extend([till.clone(), copy.clone()]);
                    self.strike("clone");
                }
            }
            What::Clock { node, ahead_ms } => {
                let now_ms = self.world.now_ms;
                let shows_ms = if *ahead_ms == i64::MIN { 0 } else { (now_ms + ahead_ms).max(0) };
                self.world.node(node).clock.set(now_ms, shows_ms);
                self.truth.suspicious.insert(node.clone());
                self.strike(if *ahead_ms == i64::MIN { "clock-1970" } else { "clock-jump" });
            }
            What::Drift { node, ppm } => {
                let now_ms = self.world.now_ms;
                let clock = &mut self.world.node(node).clock;
                (clock.drift_ppm, clock.since_ms) = (*ppm, now_ms);
                self.strike("drift");
            }
            What::Slow { node, disk_ms, link_ms, bytes_a_ms } => {
                let slow = self.world.node(node);
                slow.disk_ms = (0, (*disk_ms).max(0));
                slow.speed = LinkSpeed { delay_ms: (1, (*link_ms).max(1)), bytes_a_ms: *bytes_a_ms };
                self.strike("slow");
            }
            What::Loss { percent } => self.world.network.meddle(Box::new(Loss { percent: *percent })),
            What::Meddle { how, once_in } => {
                let how = match how {
                    Meddling::Duplicate => Verdict::Twice,
                    Meddling::Reorder => Verdict::Overtake,
                    Meddling::Drop => Verdict::Lost,
                };
                self.world.network.meddle(Box::new(BrokenTransport { once_in: *once_in, how }));
            }
            What::Lie { till, how } => {
                if liar::lie(&mut self.world, &mut self.truth, till, *how) {
                    self.strike("lie");
                }
            }
            What::Heal => self.heal(),
            _ => {}
        }
    }

    pub(super) fn disk(&mut self, node: &str, state: DiskState, name: &str) {
        if self.world.nodes[node].is_up() {
            self.world.node(node).disk.state = state;
            self.strike(name);
        }
    }

    pub(super) fn crash(&mut self, node: &str, down_ms: i64, survive: usize) {
        if !self.world.nodes.contains_key(node) || !self.world.is_up(node) {
            return;
        }
        self.collect();
        let unsynced = self.world.nodes[node].disk.unsynced();
        self.world.stop(node, survive.min(unsynced));
        self.strike(if survive > 0 && unsynced > 0 { "torn-write" } else { "crash" });
        // The others trade on meanwhile.
        self.restarts.insert((self.world.now_ms + down_ms.max(1), node.to_owned()));
    }

    pub(super) fn heal(&mut self) {
        self.world.network.heal();
        self.moment(HUB, "heal", 0);
        if !self.cut.is_empty() {
            self.cut.clear();
            self.outage_ended_ms = Some(self.world.now_ms);
        }
    }

    pub(super) fn start(&mut self, node: &str) {
        self.outage_ended_ms = Some(self.world.now_ms);
        // What rot has eaten is found at the start: the device is given up.
        if self.world.start(node).is_err() {
            self.give_up(node);
        }
        self.abandon(node);
    }

    pub(super) fn rot(&mut self, node: &str, draw: u64) {
        // A damaged device is enrolled anew, so the hub has to be there.
        if is_hub(node) || !self.world.nodes[node].is_up() || !self.hub_enrols() {
            return;
        }
        self.collect();
        self.world.stop(node, 0);
        if self.world.node(node).disk.rot(draw).is_some() {
            self.strike("rot");
        }
        self.start(node);
    }

    /// Whether the hub can enrol somebody: an operator who is refused comes back another day.
    fn hub_enrols(&self) -> bool {
        self.world.hub_records()
    }

    /// A damaged device is enrolled anew; what only it held is gone.
    pub(super) fn give_up(&mut self, node: &str) {
        self.lose_device(node, &BTreeSet::new());
        self.world.wipe(node);
        self.truth.suspicious.insert(node.to_owned());
        self.strike("rot-found");
    }
}
