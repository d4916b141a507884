//! The database of several hubs: a plain model of what PostgreSQL does with the statements of `node/src/storage/postgres`.
//! A log is a row (fence, end, last append, lease) and its entries; an append is a transaction that moves the row on under
//! its lock and is there once it was flushed, with the standby. Statements are carried out one after the other. What a
//! client was not told, it does not know: nothing here says whether it took a reply in.

mod talk;

use std::collections::{BTreeMap, VecDeque};

use engine::lease::{Held, HubName, Member};

use crate::chance::Chance;
use crate::disk::Disk;

use talk::log_of;
pub use talk::{Ailing, Connection, Group, Reply, Request, Told};

/// A lease, ms.
pub const LEASE_MS: i64 = 5_000;
/// A hub that has not looked for so long is no member any more, ms. As long as a lease: a dead hub must not be given what it held.
pub const MEMBER_MS: i64 = LEASE_MS;
/// A hub that has been there so long is given what others hold, ms.
pub const SETTLED_MS: i64 = 10_000;
/// The server ends a transaction whose client says nothing for so long, ms (`idle_in_transaction_session_timeout`). With
/// more than a lease, a hub that is paused inside an append keeps the log from everybody else.
pub const IDLE_IN_TRANSACTION_MS: i64 = 3_000;
/// A statement waits so long for a row, ms (`lock_timeout`).
pub const LOCK_MS: i64 = 10_000;

/// An append between its beginning and its end.
#[derive(Debug)]
struct Open {
    log: u16,
    fence: u64,
    group: Group,
    begun_ms: i64,
    flushing: bool,
}

/// What the server knows of a connection.
#[derive(Debug, Default)]
struct Session {
    /// The number of its last statement.
    last: u64,
    open: Option<Open>,
    /// Which claim of a log was made over it.
    claimed: Option<(u16, u64)>,
}

/// A log.
#[derive(Debug, Default)]
struct Log {
    /// What is committed.
    disk: Disk,
    fence: u64,
    last_append: u64,
    writer: Option<HubName>,
    /// How often it was claimed. Kept apart from the fence, for who doubts the fence.
    claims: u64,
    lease_until_ms: i64,
    given_back: bool,
    locked_by: Option<Connection>,
}

/// A statement that waits for a row.
#[derive(Debug)]
struct Waiting {
    connection: Connection,
    number: u64,
    since_ms: i64,
    request: Request,
}

/// The database.
#[derive(Debug)]
pub struct Database {
    logs: Vec<Log>,
    /// Since when each hub is there, and when it looked last, true ms.
    members: BTreeMap<HubName, (i64, i64)>,
    connections: BTreeMap<Connection, Session>,
    waiting: VecDeque<Waiting>,
    /// What is wrong with it, until when (true ms) and how often.
    ailing: Vec<(Ailing, i64, u64)>,
    /// Appends that came into the log although another had claimed it since: there must be none.
    pub late: Vec<String>,
    chance: Chance,
}

impl Database {
    /// An empty one: the company's log and so many shards.
    #[must_use]
    pub fn new(shards: u16, seed: u64) -> Self {
        Self {
            logs: (0..=shards).map(|_| Log::default()).collect(),
            members: BTreeMap::new(),
            connections: BTreeMap::new(),
            waiting: VecDeque::new(),
            ailing: Vec::new(),
            late: Vec::new(),
            chance: Chance::new(seed, "database"),
        }
    }

    /// How many logs there are.
    #[must_use]
    pub fn logs(&self) -> u16 {
        u16::try_from(self.logs.len()).unwrap_or(u16::MAX)
    }

    /// What is committed in a log.
    #[must_use]
    pub fn log(&self, number: u16) -> &Disk {
        &self.logs[usize::from(number)].disk
    }

    /// See [`Database::log`]; for questions that keep what they found.
    pub fn log_mut(&mut self, number: u16) -> &mut Disk {
        &mut self.logs[usize::from(number)].disk
    }

    /// Whose a log is and under which fence, whether the lease is in force or not.
    #[must_use]
    pub fn holder(&self, number: u16) -> Option<(HubName, u64)> {
        let log = &self.logs[usize::from(number)];
        log.writer.map(|writer| (writer, log.fence))
    }

    /// The tables, as a transaction that begins now sees them.
    #[must_use]
    pub fn tables(&self, now_ms: i64) -> (Vec<Member>, Vec<Held>) {
        let members = self.members.iter().filter(|row| now_ms < row.1.1 + MEMBER_MS);
        let members = members
            .map(|(hub, (since_ms, _))| Member { hub: *hub, settled: now_ms - since_ms >= SETTLED_MS })
            .collect();
        let held = |(number, log): (usize, &Log)| Held {
            number: u16::try_from(number).unwrap_or(u16::MAX),
            holder: log.writer.filter(|_| now_ms < log.lease_until_ms),
            before: log.writer.filter(|_| now_ms >= log.lease_until_ms),
            lapsed: now_ms >= log.lease_until_ms && !log.given_back,
        };
        (members, self.logs.iter().enumerate().map(held).collect())
    }

    /// Something is wrong with it for a while. Gives what its clients hear of it.
    pub fn ail(&mut self, how: Ailing, now_ms: i64, for_ms: i64, once_in: u64) -> Vec<Told> {
        self.ailing.push((how, now_ms + for_ms, once_in.max(1)));
        let mut told = Vec::new();
        if matches!(how, Ailing::Restarts | Ailing::FailsOver) {
            for connection in self.connections.keys().copied().collect::<Vec<_>>() {
                let flushing = self.connections[&connection].open.as_ref().is_some_and(|open| open.flushing);
                // The standby has it already, or the disk, or not.
                if flushing && self.chance.once_in(2) {
                    self.apply(connection, now_ms);
                }
                self.end(connection, &mut told);
            }
            self.waiting.clear();
        }
        told
    }

    /// Everything is well again.
    pub fn heal(&mut self) {
        self.ailing.clear();
    }

    fn is(&self, how: Ailing, now_ms: i64) -> Option<u64> {
        let rows = self.ailing.iter().filter(|row| row.0 == how && now_ms < row.1);
        rows.map(|row| row.2).min()
    }

    /// Whether nothing is wrong with it.
    #[must_use]
    pub fn is_well(&self, now_ms: i64) -> bool {
        self.ailing.iter().all(|row| now_ms >= row.1)
    }

    /// Whether an operator would find it ready to take an append.
    #[must_use]
    pub fn takes(&self, now_ms: i64) -> bool {
        [Ailing::Restarts, Ailing::FailsOver, Ailing::Hangs, Ailing::Full]
            .iter()
            .all(|how| self.is(*how, now_ms).is_none())
    }

    /// Until when it answers nothing.
    #[must_use]
    pub fn hangs_until(&self, now_ms: i64) -> Option<i64> {
        let rows = self.ailing.iter().filter(|row| row.0 == Ailing::Hangs && now_ms < row.1);
        rows.map(|row| row.1).max()
    }

    /// Whether it answers.
    #[must_use]
    pub fn is_there(&self, now_ms: i64) -> bool {
        !self.is_down(now_ms) && self.hangs_until(now_ms).is_none()
    }

    fn is_down(&self, now_ms: i64) -> bool {
        self.is(Ailing::Restarts, now_ms).or(self.is(Ailing::FailsOver, now_ms)).is_some()
    }

    /// A statement arrives.
    pub fn arrive(
        &mut self,
        now_ms: i64,
        connection: Connection,
        number: u64,
        request: Request,
    ) -> Vec<Told> {
        let mut told = Vec::new();
        if matches!(request, Request::Connect) && !self.is_down(now_ms) {
            self.connections.insert(connection, Session::default());
        }
        let Some(known) = self.connections.get_mut(&connection) else {
            told.push(Told::Reply(connection, number, Reply::Cut));
            return told;
        };
        known.last = number;
        let loses = self.is(Ailing::Loses, now_ms).is_some_and(|once_in| self.chance.once_in(once_in));
        if loses && self.chance.once_in(2) {
            self.end(connection, &mut told);
            return told;
        }
        let commits = matches!(request, Request::Commit);
        self.carry_out(now_ms, connection, number, request, &mut told);
        if loses && !commits {
            told.retain(|told| !matches!(told, Told::Reply(to, ..) if *to == connection));
            self.end(connection, &mut told);
        } else if loses {
            // It is there, and nobody is told so.
            told.retain(|told| !matches!(told, Told::Flush(..)));
            self.apply(connection, now_ms);
            self.end(connection, &mut told);
        }
        self.go_on(now_ms, &mut told);
        told
    }

    /// Those who wait for a row that is free now.
    fn go_on(&mut self, now_ms: i64, told: &mut Vec<Told>) {
        let mut at = 0;
        while at < self.waiting.len() {
            let free = log_of(&self.waiting[at].request)
                .is_none_or(|log| self.logs[usize::from(log)].locked_by.is_none());
            if !free {
                at += 1;
                continue;
            }
            if let Some(waiting) = self.waiting.remove(at) {
                // `now()` is when the statement began to wait.
                let Waiting { connection, number, since_ms, request } = waiting;
                self.do_now(now_ms, since_ms, connection, number, request, told);
            }
        }
    }

    fn carry_out(
        &mut self,
        now_ms: i64,
        connection: Connection,
        number: u64,
        request: Request,
        told: &mut Vec<Told>,
    ) {
        let statement = !matches!(request, Request::Connect | Request::RollBack | Request::Close);
        if statement && self.is(Ailing::Crosses, now_ms).is_some_and(|once_in| self.chance.once_in(once_in)) {
            if matches!(request, Request::Commit) {
                self.unlock(connection);
            }
            told.push(Told::Reply(connection, number, Reply::Crossed));
            return;
        }
        let locked = log_of(&request).and_then(|log| self.logs[usize::from(log)].locked_by);
        if locked.is_some_and(|by| by != connection) {
            self.waiting.push_back(Waiting { connection, number, since_ms: now_ms, request });
            told.push(Told::Later(LOCK_MS, connection, number));
            return;
        }
        self.do_now(now_ms, now_ms, connection, number, request, told);
    }

    fn do_now(
        &mut self,
        now_ms: i64,
        began_ms: i64,
        connection: Connection,
        number: u64,
        request: Request,
        told: &mut Vec<Told>,
    ) {
        let row = |found: bool| if found { Reply::Done } else { Reply::NoRow };
        let reply = match request {
            Request::Connect => Reply::Done,
            Request::Look(hub) => {
                let since_ms = self.members.get(&hub).filter(|row| now_ms < row.1 + MEMBER_MS);
                let since_ms = since_ms.map_or(now_ms, |row| row.0);
                self.members.insert(hub, (since_ms, now_ms));
                let (members, logs) = self.tables(now_ms);
                Reply::Tables(members, logs)
            }
            Request::Claim { log, hub, again } => self.claim(began_ms, connection, log, hub, again),
            Request::State { log, fence, group } => {
                let reply = self.state(now_ms, began_ms, connection, log, fence, group);
                if reply == Reply::Done {
                    told.push(Told::Later(IDLE_IN_TRANSACTION_MS, connection, number));
                }
                reply
            }
            Request::Commit => {
                let session = self.connections.get_mut(&connection);
                if let Some(open) = session.and_then(|session| session.open.as_mut()) {
                    open.flushing = true;
                    told.push(Told::Flush(connection, number));
                    return;
                }
                // `COMMIT` without a transaction is a warning, and never sent by a session that stated its append.
                Reply::Refused
            }
            Request::RollBack => {
                self.unlock(connection);
                Reply::Done
            }
            Request::Hold { log, fence, end } => {
                let log = &mut self.logs[usize::from(log)];
                let is_so = log.fence == fence && log.disk.durable() as u64 == end;
                if is_so {
                    log.lease_until_ms = began_ms + LEASE_MS;
                }
                row(is_so)
            }
            Request::Release { log, fence } => {
                let log = &mut self.logs[usize::from(log)];
                if log.fence == fence {
                    (log.lease_until_ms, log.given_back) = (began_ms, true);
                }
                row(log.fence == fence)
            }
            Request::Leave(hub) => {
                self.members.remove(&hub);
                Reply::Done
            }
            Request::Close => {
                self.end(connection, &mut Vec::new());
                return;
            }
        };
        told.push(Told::Reply(connection, number, reply));
    }

    fn claim(
        &mut self,
        began_ms: i64,
        connection: Connection,
        number: u16,
        hub: HubName,
        again: bool,
    ) -> Reply {
        let log = &mut self.logs[usize::from(number)];
        let own = log.writer == Some(hub);
        if !own && (again || began_ms < log.lease_until_ms) {
            return Reply::NoRow;
        }
        log.fence += 1;
        log.claims += 1;
        if let Some(session) = self.connections.get_mut(&connection) {
            session.claimed = Some((number, log.claims));
        }
        (log.writer, log.lease_until_ms, log.given_back) = (Some(hub), began_ms + LEASE_MS, false);
        Reply::Claimed { fence: log.fence, end: log.disk.durable() as u64, last_append: log.last_append }
    }

    fn state(
        &mut self,
        now_ms: i64,
        begun_ms: i64,
        connection: Connection,
        number: u16,
        fence: u64,
        group: Group,
    ) -> Reply {
        let log = &mut self.logs[usize::from(number)];
        if log.fence != fence || log.disk.durable() as u64 != group.from {
            return Reply::NoRow;
        }
        if self.is(Ailing::Full, now_ms).is_some() {
            return Reply::Refused;
        }
        let log = &mut self.logs[usize::from(number)];
        log.locked_by = Some(connection);
        if let Some(known) = self.connections.get_mut(&connection) {
            known.open = Some(Open { log: number, fence, group, begun_ms, flushing: false });
        }
        Reply::Done
    }

    /// A commit has reached the disk, and the standby.
    pub fn flushed(&mut self, now_ms: i64, connection: Connection, number: u64) -> Vec<Told> {
        let mut told = Vec::new();
        if self.apply(connection, now_ms) {
            told.push(Told::Reply(connection, number, Reply::Done));
        }
        self.go_on(now_ms, &mut told);
        told
    }

    /// What was stated is there; the row is free. `false`: the connection ended before.
    fn apply(&mut self, connection: Connection, now_ms: i64) -> bool {
        let Some(session) = self.connections.get_mut(&connection) else { return false };
        let claimed = session.claimed;
        let Some(Open { log: number, fence, group, begun_ms, .. }) = session.open.take() else {
            return false;
        };
        let log = &mut self.logs[usize::from(number)];
        if claimed != Some((number, log.claims)) {
            let (at, now) = (now_ms - crate::world::START_MS, log.fence);
            self.late
                .push(format!("log {number} at {at} ms: an append under fence {fence}, the log's is {now}"));
        }
        for (at_ms, line) in group.lines {
            log.disk.append(vec![line], at_ms);
            log.disk.synced();
        }
        (log.last_append, log.locked_by) = (group.id, None);
        log.lease_until_ms = begun_ms + LEASE_MS;
        true
    }

    /// Something may have taken too long: a lock, or a client in the middle of an append.
    pub fn overdue(&mut self, now_ms: i64, connection: Connection, number: u64) -> Vec<Told> {
        let mut told = Vec::new();
        let waits = |waiting: &Waiting| waiting.connection == connection && waiting.number == number;
        if let Some(at) = self.waiting.iter().position(waits) {
            self.waiting.remove(at);
            told.push(Told::Reply(connection, number, Reply::Refused));
        } else if self.connections.get(&connection).is_some_and(|session| {
            session.last == number && session.open.as_ref().is_some_and(|open| !open.flushing)
        }) {
            self.end(connection, &mut told);
        }
        self.go_on(now_ms, &mut told);
        told
    }

    fn unlock(&mut self, connection: Connection) {
        if let Some(session) = self.connections.get_mut(&connection) {
            session.open = None;
        }
        for log in self.logs.iter_mut().filter(|log| log.locked_by == Some(connection)) {
            log.locked_by = None;
        }
    }

    /// A connection ends, and with it what it had not committed.
    fn end(&mut self, connection: Connection, told: &mut Vec<Told>) {
        self.unlock(connection);
        self.waiting.retain(|waiting| waiting.connection != connection);
        if let Some(session) = self.connections.remove(&connection) {
            told.push(Told::Reply(connection, session.last, Reply::Cut));
        }
    }
}
