//! Several hubs on one database: processes that live, pause and die; each looks every second, reckons by
//! `engine::lease::plan` which logs to take and which to give away, and serves the store while it has the log of its shard.
//! Tills ask them in turn and are told who has their store. The company has more logs than the one of its only store: the
//! others are empty, and are taken, prolonged and given away like it.

mod logs;
mod processes;
mod serving;
mod wire;

use std::collections::{BTreeMap, VecDeque};

use engine::ids::RecordId;
use engine::lease::{Held as HeldLog, HubName, Member, Warm, plan, shard_of};
use engine::replica::Input;

use super::{Delays, Happening, Name, STORE, World};
use crate::chance::Chance;
use crate::database::{Connection, Database, Reply, Request, SETTLED_MS};
use crate::disk::DiskState;
use crate::writer::Writer;

/// What the database is called where nodes are named: a hub is cut from it like from any other.
pub const DATABASE: &str = "database";
/// A hub looks at the tables so often, ms.
const LOOK_MS: i64 = 1_000;
/// A statement that was not answered for so long is given up, and its connection with it, ms.
const PATIENCE_MS: i64 = 15_000;
/// What cannot get through now is tried again after this, ms.
const AGAIN_MS: i64 = 250;
/// A till that hears nothing from its hub for so long calls another, ms (the transport's idle limit): what it should be with
/// several hubs, and what it is with one. With the longer one a hub that has lost its log talks to tills for longer.
const IDLE_MS: [i64; 2] = [5_000, 12_000];
/// A till that a hub could send nowhere asks the next after this, ms; one that was not answered, after this.
const RETRY_MS: i64 = 1_000;
const UNANSWERED_MS: i64 = 500;
/// Reading a log takes so long, ms: shortest and longest.
const READING_MS: (i64, i64) = (20, 1_500);
/// A commit takes so long to reach the disk and the standby, ms: shortest and longest.
const FLUSH_MS: (i64, i64) = (0, 12);
/// A till is served again within this once a hub and the database are there, ms; what the longer idle limit takes more is added.
pub const SERVED_MS: i64 = 10_000;
/// A hub is too slow for that from here on, ms one way to the database.
const SLOW_MS: i64 = 100;

/// What happens among hubs and database.
#[derive(Debug)]
pub(super) enum Stir {
    /// The oldest statement of a connection arrives at the database.
    Up(Connection),
    /// The oldest reply arrives at the hub.
    Down(Connection),
    /// A commit has reached the disks.
    Flushed(Connection, u64),
    /// Something takes long at the database.
    Overdue(Connection, u64),
    /// A hub's patience with a statement ends.
    Patience { connection: Connection, number: u64 },
    /// A hub looks.
    Look { hub: Name, life: u32 },
    /// A writer goes on.
    Rest { hub: Name, life: u32, log: u16 },
    /// The log of the store was read.
    Read { hub: Name, life: u32, fence: u64 },
    /// A hub that was paused goes on.
    Wake { hub: Name, life: u32 },
    /// What was to be given to a hub that was paused.
    Give { hub: Name, input: Input },
    /// A till has heard nothing from its hub for long.
    Silence { till: Name, hub: Name, link: u64 },
    /// Somebody looks whether tills are served.
    Watch,
}

/// A way to the database and back; what was sent first arrives first, also after its hub is gone.
#[derive(Debug)]
struct Wire {
    hub: Name,
    life: u32,
    asked: u64,
    /// Which log's writer uses it; none: the hub, to look.
    log: Option<u16>,
    up: VecDeque<(u64, Request)>,
    up_ms: i64,
    down: VecDeque<(u64, Reply)>,
    down_ms: i64,
}

/// A hub's connection for looking.
#[derive(Debug, Clone, Copy)]
struct Looking {
    connection: Connection,
    /// The statement that is not answered.
    asked: Option<u64>,
}

/// A hub's process.
#[derive(Debug, Default)]
struct Hub {
    /// Its name as a process, another in each life.
    process: HubName,
    life: u32,
    up: bool,
    paused: bool,
    /// What came while it was paused.
    held: Vec<Happening>,
    looking: Option<Looking>,
    /// What the tables said last.
    looked: (Vec<Member>, Vec<HeldLog>),
    writers: BTreeMap<u16, Writer>,
    connections: BTreeMap<u16, (Connection, u64)>,
    /// Whether it takes tills in.
    open: bool,
}

impl Hub {
    fn runs(&self) -> bool {
        self.up && !self.paused
    }
}

/// How a till looks for its hub.
#[derive(Debug, Default, Clone)]
struct Try {
    next: usize,
    told: Option<Name>,
    /// It was sent on already, and is not again before it has rested.
    sent_on: bool,
}

/// The hubs of a company and their database.
#[derive(Debug)]
pub struct Company {
    /// The database.
    pub database: Database,
    /// The log of the store.
    pub shard: u16,
    /// What hubs said is recorded of their own statements.
    pub stated: Vec<RecordId>,
    /// Which hubs say that they are warm in which logs: drawn, for whoever is must make no difference but to who takes what.
    pub warm: Warm,
    /// A till that was not served in time.
    pub unserved: Option<String>,
    /// A hub found less in the database than it had been told.
    pub behind: Option<String>,
    /// How often something came about that faults lead to.
    pub counts: BTreeMap<&'static str, u64>,
    hubs: BTreeMap<String, Hub>,
    wires: BTreeMap<Connection, Wire>,
    made: Connection,
    tries: BTreeMap<String, Try>,
    chance: Chance,
    /// When something last changed that may keep a till from being served, and what could not get through then.
    changed_ms: i64,
    blocked: Vec<(String, bool)>,
    /// Since when each till is not served.
    waits: BTreeMap<String, i64>,
}

impl Company {
    fn new(shards: u16, seed: u64) -> Self {
        Self {
            database: Database::new(shards, seed),
            shard: shard_of(STORE, shards),
            stated: Vec::new(),
            warm: Warm::new(),
            unserved: None,
            behind: None,
            counts: BTreeMap::new(),
            hubs: BTreeMap::new(),
            wires: BTreeMap::new(),
            made: 0,
            tries: BTreeMap::new(),
            chance: Chance::new(seed, "hubs"),
            changed_ms: super::START_MS,
            blocked: Vec::new(),
            waits: BTreeMap::new(),
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// The hub that has the log of the store, if that process lives.
    #[must_use]
    pub fn holder(&self) -> Option<&str> {
        let (process, _) = self.database.holder(self.shard)?;
        self.hubs.iter().find(|(_, hub)| hub.up && hub.process == process).map(|(name, _)| name.as_str())
    }

    /// Whether a hub's process goes on.
    #[must_use]
    pub fn runs(&self, name: &str) -> bool {
        self.hubs.get(name).is_some_and(Hub::runs)
    }

    /// Whether a hub's process is there, paused or not.
    #[must_use]
    pub fn is_up(&self, name: &str) -> bool {
        self.hubs.get(name).is_some_and(|hub| hub.up)
    }

    /// What keeps the logs from being where they belong: each at one hub that lives, and no hub with more than it should.
    #[must_use]
    pub fn not_spread(&self, now_ms: i64) -> Vec<String> {
        let (members, logs) = self.database.tables(now_ms);
        let mut found = Vec::new();
        for log in &logs {
            let number = log.number;
            let holds = |hub: &&Hub| {
                let fence = hub.writers.get(&number).filter(|writer| writer.keeps()).and_then(Writer::fence);
                hub.up
                    && Some(hub.process) == log.holder
                    && fence == self.database.holder(number).map(|row| row.1)
            };
            let keeps = self.hubs.values().filter(|hub| hub.writers.contains_key(&number)).count();
            if self.hubs.values().filter(holds).count() != 1 || keeps != 1 {
                found.push(format!("log {number} is held by {:?}, and {keeps} hubs write it", log.holder));
            }
        }
        let count = |hub: &Hub| logs.iter().filter(|log| log.holder == Some(hub.process)).count();
        let counts: Vec<usize> = self.hubs.values().filter(|hub| hub.up).map(count).collect();
        let (most, least) = (counts.iter().max().unwrap_or(&0), counts.iter().min().unwrap_or(&0));
        if most - least > 1 {
            found.push(format!("the hubs hold {counts:?} logs"));
        }
        for (name, hub) in self.hubs.iter().filter(|row| row.1.up) {
            let steps = plan(hub.process, &members, &logs, &self.warm);
            if !steps.is_empty() {
                found.push(format!("{name} wants {steps:?}"));
            }
        }
        found
    }
}

/// Names of so many hubs.
#[must_use]
pub fn hub_names(hubs: u64) -> Vec<String> {
    (1..=hubs).map(|number| format!("hub-{number}")).collect()
}

impl World {
    /// Several hubs on a database of so many shards, and tills that nobody has enrolled yet; time has gone on until a hub
    /// has the store.
    ///
    /// # Panics
    /// No hub takes it.
    #[must_use]
    pub fn of_company(
        tills: &[String],
        delays: Delays,
        policy: &engine::policy::Policy,
        seed: u64,
        (hubs, shards): (u64, u16),
    ) -> Self {
        let mut world = Self::empty(policy, seed);
        world.network.idle_ms = *Chance::new(seed, "idle limit").pick(&IDLE_MS);
        world.company = Some(Box::new(Company::new(shards, seed)));
        let names = hub_names(hubs);
        for name in names.iter().chain(tills) {
            world.add(name, 1, delays);
        }
        for name in &names {
            world.node(name).host = None;
            world.company_mut().hubs.insert(name.clone(), Hub::default());
            world.start_hub(name);
        }
        world.stir(LOOK_MS, Stir::Watch);
        // Before those that came later have settled and are given some of the logs.
        world.run_for(SETTLED_MS - 2 * LOOK_MS);
        assert!(world.hub_serves(), "a hub takes the store");
        for name in tills {
            world.enrol(name, 1);
            world.dial(name, super::HUB);
        }
        world
    }

    fn company_mut(&mut self) -> &mut Company {
        self.company.as_mut().expect("a world of several hubs")
    }

    fn stir(&mut self, after_ms: i64, stir: Stir) {
        self.put(self.now_ms + after_ms, Happening::Stir(stir));
    }

    /// Something changed that may keep tills from being served.
    fn changed(&mut self) {
        let now_ms = self.now_ms;
        self.company_mut().changed_ms = now_ms;
    }

    pub(super) fn happen_among_hubs(&mut self, stir: Stir) {
        let lives = |world: &Self, hub: &str, life: u32| {
            world
                .company
                .as_ref()
                .and_then(|company| company.hubs.get(hub))
                .is_some_and(|it| it.up && it.life == life)
        };
        match stir {
            Stir::Up(connection) => self.reach_database(connection),
            Stir::Down(connection) => self.reach_hub(connection),
            Stir::Flushed(connection, number) => {
                let now_ms = self.now_ms;
                let database = &mut self.company_mut().database;
                if let Some(until_ms) = database.hangs_until(now_ms) {
                    self.put(until_ms, Happening::Stir(Stir::Flushed(connection, number)));
                } else {
                    let told = database.flushed(now_ms, connection, number);
                    self.tell(told);
                }
            }
            Stir::Overdue(connection, number) => {
                let now_ms = self.now_ms;
                let told = self.company_mut().database.overdue(now_ms, connection, number);
                self.tell(told);
            }
            Stir::Patience { connection, number } => self.lose_patience(connection, number),
            Stir::Look { hub, life } if lives(self, &hub, life) => self.look(&hub, life),
            Stir::Rest { hub, life, log } if lives(self, &hub, life) => {
                if let Some(writer) = self.writer(&hub, log) {
                    writer.rested();
                    self.drive(&hub, log, Vec::new());
                }
            }
            Stir::Read { hub, life, fence } if lives(self, &hub, life) => {
                self.begin_serving(&hub, life, fence);
            }
            Stir::Look { .. } | Stir::Rest { .. } | Stir::Read { .. } => {}
            Stir::Wake { hub, life } => self.wake_hub(&hub, life),
            Stir::Give { hub, input } => self.give(&hub, input),
            Stir::Silence { till, hub, link } => {
                let silent = !self.company_mut().runs(&hub) || !self.network.is_open(&till, &hub);
                if silent && self.network.between(&till, &hub) == Some(link) {
                    self.cut(&till, &hub);
                }
            }
            Stir::Watch => self.watch_service(),
        }
    }

    fn writer(&mut self, hub: &str, log: u16) -> Option<&mut Writer> {
        self.company_mut().hubs.get_mut(hub)?.writers.get_mut(&log)
    }
}

impl World {
    /// The node that speaks for the hub: of several, the one that has the log of the store.
    #[must_use]
    pub fn hub(&self) -> &str {
        let Some(company) = &self.company else { return super::HUB };
        let first = company.hubs.keys().next().map_or(super::HUB, String::as_str);
        company.holder().unwrap_or(first)
    }

    /// See [`World::hub`].
    #[must_use]
    pub fn hub_node(&self) -> &super::Node {
        &self.nodes[self.hub()]
    }

    /// Whether somebody at the office would find the hub working.
    #[must_use]
    pub fn hub_serves(&self) -> bool {
        let hub = self.hub();
        self.nodes[hub].is_up() && self.company.as_ref().is_none_or(|company| company.runs(hub))
    }

    /// Whether a node runs: a hub's process also while it serves no store.
    #[must_use]
    pub fn is_up(&self, name: &str) -> bool {
        match &self.company {
            Some(company) if super::is_hub(name) => company.is_up(name),
            _ => self.nodes[name].is_up(),
        }
    }

    /// The hub that a till is linked to.
    #[must_use]
    pub fn linked_hub(&self, till: &str) -> Option<Name> {
        self.network.linked_to(till).find(|name| super::is_hub(name)).map(Name::from)
    }

    /// Whether the hub can record something new at this moment.
    #[must_use]
    pub fn hub_records(&self) -> bool {
        let node = &self.nodes[self.hub()];
        let well =
            node.disk.state == DiskState::Works && node.host().is_some_and(|host| host.failed().is_none());
        let takes = |company: &Company| company.database.takes(self.now_ms) && self.hub_serves();
        well && self.company.as_deref().is_none_or(takes)
    }
}
