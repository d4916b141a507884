//! Faults drawn from a seed. Each seed draws its own subset and how often each strikes (a swarm), because a fault that
//! always strikes hides what only its absence allows.

use crate::chance::Chance;
use crate::database::Ailing;
use crate::scenario::{Lying, Meddling, Scenario, Timed, What};
use crate::trade::DAY_MS;
use crate::world::{DATABASE, HUB, hub_names};

/// Names of the faults, as the report counts them.
pub const FAULTS: &[&str] = &[
    "partition",
    "one-way",
    "flapping",
    "hub-outage",
    "offline-days",
    "gossip",
    "crash",
    "torn-write",
    "hub-crash",
    "restart",
    "disk-hangs",
    "sync-fails",
    "disk-full",
    "rot",
    "old-backup",
    "hub-backup",
    "wipe",
    "clone",
    "clock-jump",
    "clock-1970",
    "drift",
    "slow",
    "loss",
    "meddle",
    "lie",
    "revoke",
    "policy",
    "decide",
    "lock",
    "forgotten-till",
];

/// Names of what only several hubs and their database suffer, as they are drawn.
const OF_HUBS: &[&str] = &[
    "kill",
    "crash",
    "restart",
    "pause",
    "short-pause",
    "cut",
    "cut-from-till",
    "one-way",
    "slow",
    "database",
    "together",
];

struct Drawer<'a> {
    tills: &'a [String],
    chance: Chance,
    end_ms: i64,
    happens: Vec<Timed>,
}

/// Nothing is drawn for the last two hours, ms.
fn end_of(days: u64) -> i64 {
    i64::try_from(days).unwrap_or(1) * DAY_MS - 2 * 3_600_000
}

/// The faults of a seed.
#[must_use]
pub fn draw(seed: u64, tills: &[String], days: u64) -> Vec<Timed> {
    let end_ms = end_of(days);
    let mut drawer = Drawer { tills, chance: Chance::new(seed, "swarm"), end_ms, happens: Vec::new() };
    for fault in FAULTS {
        // About a third of the faults are in a run.
        if !drawer.chance.once_in(3) {
            continue;
        }
        let times = match *fault {
            "wipe" | "clone" | "rot" | "old-backup" | "hub-backup" | "revoke" | "loss" | "meddle"
            | "offline-days" | "forgotten-till" => 1,
            "lie" => 2 + drawer.chance.below(6),
            "decide" => 4 + drawer.chance.below(12),
            _ => 1 + drawer.chance.below(2 + days),
        };
        for _ in 0..times {
            drawer.strike(fault);
        }
    }
    drawer.happens
}

impl Drawer<'_> {
    fn put(&mut self, at_ms: i64, what: What) {
        self.happens.push(Timed { at_ms: at_ms.min(self.end_ms), what });
    }

    fn till(&mut self) -> String {
        self.chance.pick(self.tills).clone()
    }

    fn any(&mut self) -> String {
        if self.chance.once_in(4) { HUB.to_owned() } else { self.till() }
    }

    fn when(&mut self) -> i64 {
        self.chance.between(600_000, self.end_ms.max(600_001))
    }

    /// A till records something every few seconds, so that more than one message is on its way to the hub at once.
    fn hurry(&mut self, till: &str, letter: char, from_ms: i64, times: i64) {
        for number in 0..times {
            let receipt = format!("{letter}-{till}-{from_ms}-{number}");
            let at_ms = from_ms + number * 2_000;
            if at_ms < self.end_ms {
                self.put(at_ms, What::Cash { till: till.to_owned(), receipt, amount_minor: 100 });
            }
        }
    }

    fn cut(&mut self, one: &str, two: &str, from_ms: i64, for_ms: i64) {
        for (from, to) in [(one, two), (two, one)] {
            self.put(from_ms, What::Block { from: from.to_owned(), to: to.to_owned() });
            self.put(from_ms + for_ms, What::Open { from: from.to_owned(), to: to.to_owned() });
        }
    }

    /// A till is enrolled anew while it cannot hear so, and sells; later the hub is set back to a backup from before: what
    /// the till brings then is refused until the others have told the hub of it, and must not count as delivered.
    fn forget(&mut self, till: &str, at_ms: i64) {
        self.put(at_ms, What::Backup { node: HUB.to_owned() });
        self.cut(till, HUB, at_ms + 1_000, 300_000);
        self.put(at_ms + 2_000, What::Wipe { till: till.to_owned() });
        self.hurry(till, 'N', at_ms + 60_000, 2);
        self.put(at_ms + 600_000, What::RestoreBackup { node: HUB.to_owned() });
        self.hurry(till, 'O', at_ms + 630_000, 10);
    }

    #[expect(clippy::too_many_lines, reason = "one table: a fault a row")]
    fn strike(&mut self, fault: &str) {
        let at_ms = self.when();
        let till = self.till();
        match fault {
            "partition" => {
                let for_ms = self.chance.between(20_000, 3 * 3_600_000);
                self.cut(&till, HUB, at_ms, for_ms);
            }
            "one-way" => {
                let for_ms = self.chance.between(5_000, 1_800_000);
                let (from, to) =
                    if self.chance.once_in(2) { (till, HUB.to_owned()) } else { (HUB.to_owned(), till) };
                self.put(at_ms, What::Block { from: from.clone(), to: to.clone() });
                self.put(at_ms + for_ms, What::Open { from, to });
            }
            "flapping" => {
                let mut from_ms = at_ms;
                for _ in 0..self.chance.between(4, 20) {
                    let for_ms = self.chance.between(1_000, 50_000);
                    self.cut(&till, HUB, from_ms, for_ms);
                    from_ms += for_ms + self.chance.between(500, 20_000);
                }
            }
            "hub-outage" => {
                let down_ms = self.chance.between(10_000, 4 * 3_600_000);
                self.put(at_ms, What::Crash { node: HUB.to_owned(), down_ms, survive: 0 });
            }
            "offline-days" => {
                let for_ms = self.chance.between(1, 3) * DAY_MS;
                self.cut(&till, HUB, at_ms, for_ms);
            }
            "gossip" => {
                let other = self.till();
                if other != till {
                    self.put(at_ms, What::Gossip { one: till, two: other });
                }
            }
            "crash" | "torn-write" => {
                let down_ms = self.chance.between(100, 600_000);
                let survive =
                    if fault == "crash" { 0 } else { 1 + usize::try_from(self.chance.below(3)).unwrap_or(0) };
                self.put(at_ms, What::Crash { node: till, down_ms, survive });
            }
            "hub-crash" => {
                let down_ms = self.chance.between(100, 60_000);
                self.put(at_ms, What::Crash { node: HUB.to_owned(), down_ms, survive: 0 });
            }
            "restart" => {
                let node = self.any();
                self.put(at_ms, What::Restart { node });
            }
            "disk-hangs" | "sync-fails" | "disk-full" => {
                let node = self.any();
                self.put(
                    at_ms,
                    match fault {
                        "disk-hangs" => What::DiskHangs { node: node.clone() },
                        "sync-fails" => What::SyncFails { node: node.clone() },
                        _ => What::DiskFull { node: node.clone() },
                    },
                );
                // Somebody notices that the till refuses, and starts it again.
                let noticed_ms = at_ms + self.chance.between(60_000, 900_000);
                self.put(noticed_ms, What::Crash { node, down_ms: 5_000, survive: 0 });
            }
            "rot" => {
                let draw = self.chance.draw() >> 1;
                self.put(at_ms, What::Rot { node: till, draw });
            }
            "old-backup" | "hub-backup" => {
                let node = if fault == "old-backup" { till } else { HUB.to_owned() };
                let later_ms = at_ms + self.chance.between(600_000, DAY_MS);
                self.put(at_ms, What::Backup { node: node.clone() });
                self.put(later_ms, What::RestoreBackup { node });
            }
            "wipe" => self.put(at_ms, What::Wipe { till }),
            "clone" => {
                let copy = format!("{till}-copy");
                self.put(at_ms, What::CloneDevice { till, copy });
            }
            "clock-jump" => {
                let node = self.any();
                let ahead_ms =
                    *self.chance.pick(&[-7_200_000, -600_000, -90_000, 90_000, 600_000, 7_200_000]);
                self.put(at_ms, What::Clock { node, ahead_ms });
            }
            "clock-1970" => self.put(at_ms, What::Clock { node: till, ahead_ms: i64::MIN }),
            "drift" => {
                let node = self.any();
                let ppm = self.chance.between(-300, 300);
                self.put(at_ms, What::Drift { node, ppm });
            }
            "slow" => {
                let node = self.any();
                let (disk_ms, link_ms) = (self.chance.between(1, 400), self.chance.between(5, 3_000));
                let bytes_a_ms = if self.chance.once_in(2) { 1 + self.chance.below(50) } else { 0 };
                self.put(at_ms, What::Slow { node, disk_ms, link_ms, bytes_a_ms });
            }
            "loss" => {
                let percent = 1 + self.chance.below(40);
                self.put(at_ms, What::Loss { percent });
            }
            "meddle" => {
                let how = *self.chance.pick(&[Meddling::Duplicate, Meddling::Reorder, Meddling::Drop]);
                let once_in = 3 + self.chance.below(200);
                self.put(at_ms, What::Meddle { how, once_in });
                if how == Meddling::Drop {
                    // What is lost shows when something comes behind it.
                    for _ in 0..4 {
                        let (till, from_ms) =
                            (self.till(), self.chance.between(at_ms, self.end_ms.max(at_ms + 1)));
                        self.hurry(&till, 'H', from_ms, 40);
                    }
                }
            }
            "lie" => {
                let how = *self.chance.pick(Lying::ALL);
                self.put(at_ms, What::Lie { till, how });
            }
            "revoke" => self.put(at_ms, What::Revoke { till }),
            "policy" => {
                let settings = [
                    "refund_limit_minor=unlimited",
                    "refund_limit_minor=2000",
                    "sync_interval=5s",
                    "sync_interval=0s",
                    "blind_refunds=flag",
                    "duplicate_window=10s",
                    "batch_threshold=10",
                    "receipt_scope=store",
                    "company:refund_limit_minor=4000",
                    "till:till-01:refund_limit_minor=500",
                    "till:till-02:sync_interval=30s",
                    "till:till-01:refund_limit_minor=inherit",
                ];
                let setting = (*self.chance.pick(&settings)).to_owned();
                self.put(at_ms, What::Policy { setting });
            }
            "decide" => {
                let draw = self.chance.draw() >> 1;
                self.put(at_ms, What::Decide { draw });
            }
            "forgotten-till" => self.forget(&till, at_ms),
            _ => self.put(at_ms, What::Lock),
        }
    }
}

/// The faults of a seed where the company has several hubs on a database: what was drawn for the hub strikes one of them, or
/// its way to all; what was drawn for its disk falls away; and what only they suffer is drawn besides.
#[must_use]
pub fn for_hubs(drawn: Vec<Timed>, scenario: &Scenario) -> Vec<Timed> {
    let hubs = hub_names(scenario.hubs);
    let mut chance = Chance::new(scenario.seed, "swarm of hubs");
    let mut happens = Vec::new();
    for Timed { at_ms, what } in drawn {
        match &what {
            What::Block { from, to } | What::Open { from, to } if from == HUB || to == HUB => {
                for hub in &hubs {
                    let mut way = what.clone();
                    for name in way.nodes_mut().into_iter().filter(|name| *name == HUB) {
                        name.clone_from(hub);
                    }
                    happens.push(Timed { at_ms, what: way });
                }
            }
            What::DiskHangs { node }
            | What::SyncFails { node }
            | What::DiskFull { node }
            | What::Backup { node }
            | What::RestoreBackup { node }
                if node == HUB => {}
            _ => {
                let (mut what, hub) = (what.clone(), chance.pick(&hubs).clone());
                for name in what.nodes_mut().into_iter().filter(|name| *name == HUB) {
                    name.clone_from(&hub);
                }
                happens.push(Timed { at_ms, what });
            }
        }
    }
    let (tills, end_ms) = (scenario.till_names(), end_of(scenario.days));
    let mut drawer = Drawer { tills: &tills, chance, end_ms, happens };
    for fault in OF_HUBS {
        if !drawer.chance.once_in(2) {
            continue;
        }
        for _ in 0..2 + drawer.chance.below(4 + 4 * scenario.days) {
            drawer.strike_hubs(fault, &hubs);
        }
    }
    drawer.happens
}

impl Drawer<'_> {
    fn strike_hubs(&mut self, fault: &str, hubs: &[String]) {
        // Half of it happens while the shops are busiest, when something is on its way.
        let mut at_ms = self.when();
        if self.chance.once_in(2) {
            at_ms = at_ms / DAY_MS * DAY_MS + 4 * 3_600_000 + self.chance.between(0, 3_600_000);
        }
        let (hub, till) = (self.chance.pick(hubs).clone(), self.till());
        if self.chance.once_in(2) {
            self.hurry(&till, 'U', at_ms - 6_000, 12);
        }
        match fault {
            "kill" => {
                let down_ms = self.chance.between(100, 120_000);
                self.put(at_ms, What::Kill { node: hub, down_ms });
            }
            "crash" => {
                let down_ms = self.chance.between(1_000, 600_000);
                self.put(at_ms, What::Crash { node: hub, down_ms, survive: 0 });
            }
            "restart" => self.put(at_ms, What::Restart { node: hub }),
            "pause" => {
                let lasts_ms = self.chance.between(500, 120_000);
                self.put(at_ms, What::Pause { node: hub, lasts_ms });
            }
            // One after the other, so that whoever has the store wakes up when another has just taken it, or is about to.
            "short-pause" => {
                for (hub, later_ms) in hubs.iter().zip([0, 60_000, 120_000, 180_000]) {
                    let lasts_ms = self.chance.between(4_000, 8_000);
                    self.put(at_ms + later_ms, What::Pause { node: hub.clone(), lasts_ms });
                }
            }
            "cut" => {
                let for_ms = self.chance.between(500, 60_000);
                self.cut(&hub, DATABASE, at_ms, for_ms);
            }
            "cut-from-till" => {
                let for_ms = self.chance.between(500, 600_000);
                self.cut(&till, &hub, at_ms, for_ms);
            }
            "one-way" => {
                let for_ms = self.chance.between(500, 30_000);
                let (mut from, mut to) = (hub, DATABASE.to_owned());
                if self.chance.once_in(2) {
                    std::mem::swap(&mut from, &mut to);
                }
                self.put(at_ms, What::Block { from: from.clone(), to: to.clone() });
                self.put(at_ms + for_ms, What::Open { from, to });
            }
            "slow" => {
                let (disk_ms, link_ms) = (self.chance.between(1, 400), self.chance.between(5, 1_000));
                self.put(at_ms, What::Slow { node: hub, disk_ms, link_ms, bytes_a_ms: 0 });
            }
            "database" => {
                let how = *self.chance.pick(Ailing::ALL);
                let often = matches!(how, Ailing::Crosses | Ailing::Loses);
                let lasts_ms = self.chance.between(200, if often { 1_800_000 } else { 40_000 });
                let once_in = 2 + self.chance.below(30);
                self.put(at_ms, What::Database { how, lasts_ms, once_in });
                if often {
                    let till = self.till();
                    self.hurry(&till, 'W', at_ms, 60);
                }
            }
            // One thing comes while another lasts.
            _ => {
                let other = self.chance.pick(hubs).clone();
                let lasts_ms = self.chance.between(1_000, 12_000);
                self.put(at_ms, What::Pause { node: hub, lasts_ms });
                let how = *self.chance.pick(&[Ailing::FailsOver, Ailing::Restarts, Ailing::Hangs]);
                let after_ms = self.chance.between(0, 8_000);
                self.put(at_ms + after_ms, What::Database { how, lasts_ms: lasts_ms / 2, once_in: 1 });
                let after_ms = self.chance.between(0, 8_000);
                self.put(at_ms + after_ms, What::Kill { node: other, down_ms: 20_000 });
            }
        }
    }
}
