//! Several hubs on one database: processes that live, pause and die; each looks every second, reckons by
//! `engine::lease::plan` which logs to take and which to give away, and serves the store while it has the log of its shard.
//! Tills ask them in turn and are told who has their store. The company has more logs than the one of its only store: the
//! others are empty, and are taken, prolonged and given away like it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use engine::entry::Entry;
use engine::host::{Host, Line};
use engine::ids::RecordId;
use engine::lease::{Held as HeldLog, HubName, Member, Step, plan, shard_of};
use engine::replica::Input;

use super::{Delays, Happening, Name, STORE, World, fresh};
use crate::chance::Chance;
use crate::database::{Ailing, Connection, Database, Reply, Request, Told};
use crate::disk::DiskState;
use crate::writer::{Deed, Gone, Writer};

/// What the database is called where nodes are named: a hub is cut from it like from any other.
pub const DATABASE: &str = "database";
/// A hub looks at the tables so often, ms.
const LOOK_MS: i64 = 1_000;
/// A statement that was not answered for so long is given up, and its connection with it, ms.
const PATIENCE_MS: i64 = 15_000;
/// What cannot get through now is tried again after this, ms.
const AGAIN_MS: i64 = 250;
/// A till that hears nothing from its hub for so long calls another, ms. (The transport's idle limit.)
pub const IDLE_MS: i64 = 5_000;
/// A till that a hub could send nowhere asks the next after this, ms; one that was not answered, after this.
const RETRY_MS: i64 = 1_000;
const UNANSWERED_MS: i64 = 500;
/// Reading a log takes so long, ms: shortest and longest.
const READING_MS: (i64, i64) = (20, 400);
/// A commit takes so long to reach the disk and the standby, ms: shortest and longest.
const FLUSH_MS: (i64, i64) = (0, 12);
/// A till is served again within this once a hub and the database are there, ms.
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
    /// A till that was not served in time.
    pub unserved: Option<String>,
    /// A hub found less in the database than it had been told.
    pub behind: Option<String>,
    /// How often a log was taken, and taken from a hub that was still there.
    pub taken: u64,
    /// See `taken`.
    pub taken_over: u64,
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
            unserved: None,
            behind: None,
            taken: 0,
            taken_over: 0,
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
            let steps = plan(hub.process, &members, &logs);
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
        world.network.idle_ms = IDLE_MS;
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
        world.run_for(SERVED_MS);
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

    /// A hub that is down starts, as a new process.
    pub fn start_hub(&mut self, name: &str) {
        let mut process = [0; 16];
        let company = self.company_mut();
        process[..8].copy_from_slice(&company.chance.draw().to_le_bytes());
        let first_ms = company.chance.between(0, LOOK_MS);
        let hub = company.hubs.get_mut(name).expect("a hub of that name");
        if hub.up {
            return;
        }
        *hub = Hub { process, life: hub.life + 1, up: true, ..Hub::default() };
        let life = hub.life;
        // Whoever was linked to the process before hears that this one knows nothing of it.
        self.unlink_all(name);
        self.changed();
        self.stir(first_ms, Stir::Look { hub: name.into(), life });
    }

    /// A hub's process is killed; or, if nobody is left to say so (`silent`), its machine loses power.
    pub fn kill_hub(&mut self, name: &str, silent: bool) {
        let company = self.company_mut();
        let hub = company.hubs.get_mut(name).expect("a hub of that name");
        if !hub.up {
            return;
        }
        (hub.up, hub.paused, hub.open, hub.looking) = (false, false, false, None);
        hub.held.clear();
        hub.writers.clear();
        hub.connections.clear();
        let life = hub.life;
        let own = |wire: &&Connection| {
            let wire = &company.wires[*wire];
            *wire.hub == *name && wire.life == life
        };
        let wires: Vec<Connection> = company.wires.keys().filter(own).copied().collect();
        for connection in wires.into_iter().filter(|_| !silent) {
            self.ask(connection, Request::Close);
        }
        self.drop_replica(name);
        self.silence(name);
        self.changed();
        self.moment(name, "down", 0, String::new);
    }

    /// A hub is stopped in an orderly way: it keeps what it judged, gives its leases back where nothing waits, and says
    /// good-bye.
    pub fn stop_hub(&mut self, name: &str) {
        self.keep_image(name);
        let hub = &self.company_mut().hubs[name];
        if !hub.runs() {
            return self.kill_hub(name, false);
        }
        let (process, looking) = (hub.process, hub.looking);
        let idle = |row: (&u16, &Writer)| {
            let (log, writer) = row;
            let (connection, _) = *hub.connections.get(log)?;
            let fence = writer.fence().filter(|_| writer.is_idle())?;
            Some((connection, Request::Release { log: *log, fence }))
        };
        let mut last: Vec<_> = hub.writers.iter().filter_map(idle).collect();
        last.extend(
            looking.filter(|it| it.asked.is_none()).map(|it| (it.connection, Request::Leave(process))),
        );
        for (connection, request) in last {
            self.ask(connection, request);
        }
        self.unlink_all(name);
        self.kill_hub(name, false);
    }

    /// A hub does nothing for a while, and does not know it.
    pub fn pause_hub(&mut self, name: &str, for_ms: i64) {
        let hub = self.company_mut().hubs.get_mut(name).expect("a hub of that name");
        if !hub.runs() {
            return;
        }
        hub.paused = true;
        let (hub, life) = (Name::from(name), hub.life);
        self.stir(for_ms, Stir::Wake { hub, life });
        self.silence(name);
        self.changed();
        self.moment(name, "down", 0, || "paused".to_owned());
    }

    /// Every hub that is paused goes on.
    pub fn wake_hubs(&mut self) {
        let company = self.company_mut();
        let paused = company.hubs.iter().filter(|row| row.1.paused);
        let paused: Vec<(String, u32)> = paused.map(|(name, hub)| (name.clone(), hub.life)).collect();
        for (name, life) in paused {
            self.wake_hub(&name, life);
        }
    }

    fn wake_hub(&mut self, name: &str, life: u32) {
        let Some(hub) = self.company_mut().hubs.get_mut(name) else { return };
        if !hub.paused || hub.life != life {
            return;
        }
        hub.paused = false;
        for happening in std::mem::take(&mut hub.held) {
            self.put(self.now_ms, happening);
        }
        self.changed();
        self.moment(name, "up", 0, || "goes on".to_owned());
    }

    /// Something is wrong with the database for a while.
    pub fn ail(&mut self, how: Ailing, for_ms: i64, once_in: u64) {
        let now_ms = self.now_ms;
        let told = self.company_mut().database.ail(how, now_ms, for_ms, once_in);
        self.tell(told);
        self.changed();
    }

    /// The tills of a hub that says nothing any more notice it one by one.
    fn silence(&mut self, name: &str) {
        let tills: Vec<Name> = self.network.linked_to(name).map(Name::from).collect();
        for till in tills {
            let Some(link) = self.network.between(&till, name) else { continue };
            let after_ms = self.company_mut().chance.between(IDLE_MS / 2, IDLE_MS);
            self.stir(after_ms, Stir::Silence { till, hub: name.into(), link });
        }
    }

    /// What is for a hub that is paused waits until it goes on.
    pub(super) fn hold_back(&mut self, happening: Happening) -> Option<Happening> {
        let Some(company) = &mut self.company else { return Some(happening) };
        let of = match &happening {
            Happening::Arrive { to: hub, .. }
            | Happening::Wake { node: hub, .. }
            | Happening::Stir(
                Stir::Look { hub, .. }
                | Stir::Rest { hub, .. }
                | Stir::Read { hub, .. }
                | Stir::Give { hub, .. },
            ) => Some(hub),
            Happening::Stir(Stir::Down(connection) | Stir::Patience { connection, .. }) => company
                .wires
                .get(connection)
                .filter(|wire| company.hubs.get(&*wire.hub).is_some_and(|hub| hub.life == wire.life))
                .map(|wire| &wire.hub),
            _ => None,
        };
        let of = of.map(|hub| hub.to_string());
        match of.and_then(|hub| company.hubs.get_mut(&hub)).filter(|hub| hub.paused) {
            Some(hub) => {
                hub.held.push(happening);
                None
            }
            None => Some(happening),
        }
    }

    /// The same of what a hub is given.
    pub(super) fn hold_input(&mut self, at: &str, input: Input) -> Option<Input> {
        let hub = self.company.as_mut().and_then(|company| company.hubs.get_mut(at));
        match hub.filter(|hub| hub.paused) {
            Some(hub) => {
                hub.held.push(Happening::Stir(Stir::Give { hub: at.into(), input }));
                None
            }
            None => Some(input),
        }
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
                self.begin_serving(&hub, life, fence)
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

    // ---- the way to the database and back

    fn connect_database(&mut self, hub: &str, log: Option<u16>) -> (Connection, u64) {
        let company = self.company_mut();
        company.made += 1;
        let (connection, life) = (company.made, company.hubs[hub].life);
        let (hub, up, down) = (Name::from(hub), VecDeque::new(), VecDeque::new());
        let wire = Wire { hub, life, asked: 0, log, up, up_ms: 0, down, down_ms: 0 };
        company.wires.insert(connection, wire);
        (connection, self.ask(connection, Request::Connect))
    }

    /// Sends a statement; gives its number.
    fn ask(&mut self, connection: Connection, request: Request) -> u64 {
        let now_ms = self.now_ms;
        let company = self.company.as_mut().expect("a world of several hubs");
        let Some(wire) = company.wires.get_mut(&connection) else { return 0 };
        let (low_ms, high_ms) = self.nodes[&*wire.hub].disk_ms;
        wire.asked += 1;
        let number = wire.asked;
        let ends = matches!(request, Request::Close);
        wire.up.push_back((number, request));
        wire.up_ms = wire.up_ms.max(now_ms + company.chance.between(low_ms, high_ms));
        let at_ms = wire.up_ms;
        self.put(at_ms, Happening::Stir(Stir::Up(connection)));
        if !ends {
            self.stir(PATIENCE_MS, Stir::Patience { connection, number });
        }
        number
    }

    fn reach_database(&mut self, connection: Connection) {
        let now_ms = self.now_ms;
        let company = self.company.as_mut().expect("a world of several hubs");
        let Some(wire) = company.wires.get_mut(&connection) else { return };
        if !self.network.gets_through(&wire.hub, DATABASE) {
            return self.stir(AGAIN_MS, Stir::Up(connection));
        }
        if let Some(until_ms) = company.database.hangs_until(now_ms) {
            return self.put(until_ms, Happening::Stir(Stir::Up(connection)));
        }
        let Some((number, request)) = wire.up.pop_front() else { return };
        let ends = matches!(request, Request::Close);
        let told = company.database.arrive(now_ms, connection, number, request);
        if ends {
            company.wires.remove(&connection);
        }
        self.tell(told);
    }

    fn tell(&mut self, told: Vec<Told>) {
        for told in told {
            let company = self.company.as_mut().expect("a world of several hubs");
            match told {
                Told::Reply(connection, number, reply) => {
                    let Some(wire) = company.wires.get_mut(&connection) else { continue };
                    let (low_ms, high_ms) = self.nodes[&*wire.hub].disk_ms;
                    wire.down.push_back((number, reply));
                    wire.down_ms = wire.down_ms.max(self.now_ms + company.chance.between(low_ms, high_ms));
                    let at_ms = wire.down_ms;
                    self.put(at_ms, Happening::Stir(Stir::Down(connection)));
                }
                Told::Flush(connection, number) => {
                    let after_ms = company.chance.between(FLUSH_MS.0, FLUSH_MS.1);
                    self.stir(after_ms, Stir::Flushed(connection, number));
                }
                Told::Later(after_ms, connection, number) => {
                    self.stir(after_ms, Stir::Overdue(connection, number));
                }
            }
        }
    }

    fn reach_hub(&mut self, connection: Connection) {
        let company = self.company.as_mut().expect("a world of several hubs");
        let Some(wire) = company.wires.get_mut(&connection) else { return };
        if !self.network.gets_through(DATABASE, &wire.hub) {
            return self.stir(AGAIN_MS, Stir::Down(connection));
        }
        let Some((number, reply)) = wire.down.pop_front() else { return };
        self.hear(connection, number, &reply);
    }

    fn lose_patience(&mut self, connection: Connection, number: u64) {
        if self.hear(connection, number, &Reply::Cut) {
            self.ask(connection, Request::Close);
        }
    }

    /// A hub hears what became of a statement, if it still waits for that; gives whether it did.
    fn hear(&mut self, connection: Connection, number: u64, reply: &Reply) -> bool {
        let company = self.company_mut();
        let Some(wire) = company.wires.get(&connection) else { return false };
        let (hub_name, log) = (wire.hub.clone(), wire.log);
        let Some(hub) = company.hubs.get_mut(&*hub_name).filter(|hub| hub.up && hub.life == wire.life) else {
            return false;
        };
        let Some(log) = log else {
            if hub
                .looking
                .is_none_or(|looking| (looking.connection, looking.asked) != (connection, Some(number)))
            {
                return false;
            }
            self.looked(&hub_name, connection, reply);
            return true;
        };
        if hub.connections.get(&log) != Some(&(connection, number)) {
            return false;
        }
        let Some(writer) = hub.writers.get_mut(&log) else { return false };
        let deeds = writer.hear(reply);
        self.drive(&hub_name, log, deeds);
        true
    }

    // ---- who has which log

    /// What a hub does every second.
    fn look(&mut self, name: &str, life: u32) {
        self.stir(LOOK_MS, Stir::Look { hub: name.into(), life });
        self.mind_lease(name);
        let hub = &self.company_mut().hubs[name];
        let process = hub.process;
        let asked = match hub.looking {
            None => self.connect_database(name, None),
            Some(Looking { connection, asked: None }) => {
                (connection, self.ask(connection, Request::Look(process)))
            }
            Some(_) => return,
        };
        self.note_asked(name, asked);
    }

    fn note_asked(&mut self, name: &str, (connection, number): (Connection, u64)) {
        if let Some(hub) = self.company_mut().hubs.get_mut(name) {
            hub.looking = Some(Looking { connection, asked: Some(number) });
        }
    }

    fn looked(&mut self, name: &str, connection: Connection, reply: &Reply) {
        let Some(hub) = self.company_mut().hubs.get_mut(name) else { return };
        let process = hub.process;
        hub.looking = Some(Looking { connection, asked: None });
        match reply {
            Reply::Done => {
                let number = self.ask(connection, Request::Look(process));
                self.note_asked(name, (connection, number));
            }
            Reply::Tables(members, logs) => {
                hub.looked = (members.clone(), logs.clone());
                for step in plan(process, members, logs) {
                    match step {
                        Step::Take(log) => self.take(name, log),
                        Step::HandOver(log) => self.hand_over(name, log),
                    }
                }
            }
            Reply::Crossed | Reply::Refused => {}
            Reply::Cut | Reply::NoRow | Reply::Claimed { .. } => {
                hub.looking = None;
                self.ask(connection, Request::Close);
            }
        }
    }

    fn take(&mut self, name: &str, log: u16) {
        let company = self.company_mut();
        let chance = Chance::new(company.chance.draw(), "writer");
        let hub = company.hubs.get_mut(name).expect("a hub of that name");
        // One that has it already may be away, and comes back by itself.
        if hub.writers.contains_key(&log) {
            return;
        }
        hub.writers.insert(log, Writer::new(log, hub.process, chance));
        self.drive(name, log, Vec::new());
    }

    fn hand_over(&mut self, name: &str, log: u16) {
        let shard = self.company_mut().shard;
        let Some(writer) = self.writer(name, log) else { return };
        writer.release();
        if log == shard {
            self.keep_image(name);
            self.send_away(name);
            self.drop_replica(name);
        }
        self.drive(name, log, Vec::new());
    }

    /// A hub whose lease is over as far as it knows takes no tills in, until it has it again.
    fn mind_lease(&mut self, name: &str) {
        let (now_ms, serves) = (self.now_ms, self.nodes[name].host.is_some());
        let shard = self.company_mut().shard;
        let open = serves
            && self.writer(name, shard).is_some_and(|writer| writer.keeps() && writer.has_lease(now_ms));
        let hub = self.company_mut().hubs.get_mut(name).expect("a hub of that name");
        let was = std::mem::replace(&mut hub.open, open);
        if was && !open {
            self.send_away(name);
        }
    }

    /// A hub's tills are told to go elsewhere; those that do not hear it notice the silence.
    fn send_away(&mut self, name: &str) {
        if let Some(hub) = self.company_mut().hubs.get_mut(name) {
            hub.open = false;
        }
        let linked: Vec<String> = self.network.linked_to(name).map(str::to_owned).collect();
        let (open, closed): (Vec<_>, Vec<_>) =
            linked.into_iter().partition(|till| self.network.is_open(till, name));
        for till in open {
            self.cut(&till, name);
        }
        for till in closed {
            let Some(link) = self.network.between(&till, name) else { continue };
            self.stir(IDLE_MS, Stir::Silence { till: till.as_str().into(), hub: name.into(), link });
        }
    }

    fn drop_replica(&mut self, name: &str) {
        let node = self.node(name);
        (node.host, node.checkpoint_of) = (None, None);
        node.start += 1;
    }

    /// A hub does what one of its writers wants, and then what it wants next.
    fn drive(&mut self, name: &str, log: u16, deeds: Vec<Deed>) {
        let mut deeds = VecDeque::from(deeds);
        loop {
            let now_ms = self.now_ms;
            let Some(writer) = self.writer(name, log) else { return };
            let Some(deed) = deeds.pop_front().or_else(|| writer.go_on(now_ms)) else { break };
            self.do_deed(name, log, deed);
        }
        let life = self.company_mut().hubs[name].life;
        if let Some(at_ms) = self.writer(name, log).and_then(|writer| writer.prolongs_ms()) {
            let at_ms = at_ms.max(self.now_ms + 1);
            self.put(at_ms, Happening::Stir(Stir::Rest { hub: name.into(), life, log }));
        }
    }

    fn do_deed(&mut self, name: &str, log: u16, deed: Deed) {
        let life = self.company_mut().hubs[name].life;
        match deed {
            Deed::Connect => {
                let asked = self.connect_database(name, Some(log));
                if let Some(hub) = self.company_mut().hubs.get_mut(name) {
                    hub.connections.insert(log, asked);
                }
            }
            Deed::Ask(request) => {
                let Some((connection, _)) = self.company_mut().hubs[name].connections.get(&log).copied()
                else {
                    return;
                };
                let number = self.ask(connection, request);
                if let Some(hub) = self.company_mut().hubs.get_mut(name) {
                    hub.connections.insert(log, (connection, number));
                }
            }
            Deed::Close => {
                let hub = self.company_mut().hubs.get_mut(name);
                if let Some((connection, _)) = hub.and_then(|hub| hub.connections.remove(&log)) {
                    self.ask(connection, Request::Close);
                }
            }
            Deed::Rest(ms) => self.stir(ms, Stir::Rest { hub: name.into(), life, log }),
            Deed::Took => {
                let company = self.company_mut();
                company.taken += 1;
                let reading_ms = company.chance.between(READING_MS.0, READING_MS.1);
                let fence = company.hubs[name].writers.get(&log).and_then(Writer::fence);
                if let Some(fence) = fence.filter(|_| log == company.shard) {
                    self.stir(reading_ms, Stir::Read { hub: name.into(), life, fence });
                }
            }
            Deed::Committed(lines) => self.committed(name, log, lines),
            Deed::Gone(why) => self.gone(name, log, why),
        }
    }

    fn gone(&mut self, name: &str, log: u16, why: Gone) {
        let company = self.company_mut();
        let shard = company.shard;
        if let Some(hub) = company.hubs.get_mut(name) {
            hub.writers.remove(&log);
        }
        match why {
            Gone::TakenOver => company.taken_over += 1,
            Gone::Behind => company.behind = Some(format!("{name} finds less in log {log} than it was told")),
            Gone::Beaten | Gone::Released => {}
        }
        if log == shard && why != Gone::Released && self.nodes[name].host.is_some() {
            self.send_away(name);
            self.drop_replica(name);
        }
    }

    // ---- what the hub of the store does with its log

    /// What a hub's host wants appended goes to its writer.
    pub(super) fn append_to_log(&mut self, name: &str, lines: Vec<Line>) {
        let now_ms = self.now_ms;
        let shard = self.company_mut().shard;
        let writer = self.writer(name, shard).expect("a hub that serves a store has its log");
        writer.append(lines, now_ms);
        self.drive(name, shard, Vec::new());
    }

    fn committed(&mut self, name: &str, log: u16, lines: Vec<(i64, Line)>) {
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
    fn begin_serving(&mut self, name: &str, life: u32, fence: u64) {
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

    // ---- tills

    /// A till asks the hubs in turn for its store's.
    pub(super) fn ask_hubs(&mut self, till: &str) {
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
            Some(ms) => {
                self.put(self.now_ms + ms, Happening::Dial { from: till.into(), to: super::HUB.into() })
            }
            None => self.connect(till, &asked),
        }
    }

    /// Every till that could be served is, or is again soon.
    fn watch_service(&mut self) {
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
        for till in self.nodes.keys().filter(|name| !super::is_hub(name)) {
            let served = holder.as_ref().is_some_and(|hub| self.network.between(till, hub).is_some());
            if served || !some_hub || !could.contains(till) {
                company.waits.remove(till);
                continue;
            }
            let since_ms = *company.waits.entry(till.clone()).or_insert(now_ms);
            let since_ms = since_ms.max(company.changed_ms);
            if now_ms - since_ms > SERVED_MS && company.unserved.is_none() {
                let linked: Vec<&str> = self.network.linked_to(till).collect();
                let at = now_ms - super::START_MS;
                let rows = company.database.holder(company.shard);
                company.unserved = Some(format!(
                    "{till} waits at {at} ms since {} ms, linked to {linked:?}; the log is {holder:?}'s ({rows:?})",
                    since_ms - super::START_MS
                ));
            }
        }
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
