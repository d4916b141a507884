//! One log at one hub's process, as its writer has it: claims it, appends group after group, looks after a lost connection
//! whether its append is there, and lets go when another hub has the log. A plain model of
//! `node/src/storage/postgres/{writer,session}.rs` (which the simulator does not run): the same statements in the same order,
//! the same answer to each reply. It knows no socket and no clock; what it wants done is a [`Deed`].

use std::collections::VecDeque;

use engine::host::Line;
use engine::lease::HubName;

use crate::chance::Chance;
use crate::database::{Group, LEASE_MS, Reply, Request};

/// A lease is prolonged so often, ms.
pub const PROLONG_MS: i64 = 1_500;
/// Tries at once of a statement that met another transaction.
const CROSSINGS: i64 = 20;
/// Shortest and longest pause between two tries, ms.
const PAUSE_MS: (i64, i64) = (50, 3_000);

/// What a writer wants done.
#[derive(Debug)]
pub enum Deed {
    /// A new connection.
    Connect,
    /// A statement over the connection that it has.
    Ask(Request),
    /// The end of that connection.
    Close,
    /// The log was taken: what is in it is to be read.
    Took,
    /// An append whose outcome was not known is there, or is written again. Nothing to do but to count it.
    Looked(bool),
    /// These lines are committed: whoever waits for them may be answered.
    Committed(Vec<(i64, Line)>),
    /// To be called again after so many ms.
    Rest(i64),
    /// It ends.
    Gone(Gone),
}

/// Why a writer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Another hub was faster, or the database was not there: it never had the log.
    Beaten,
    /// Another hub has the log.
    TakenOver,
    /// It gave the log back.
    Released,
    /// The log is not what this writer knows that it was: the database has lost something.
    Behind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Nothing,
    Connecting,
    Claiming,
    Stating,
    Committing,
    TakingBack(Failed),
    Holding,
    Releasing,
    Resting,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failed {
    Fenced,
    Crossed,
    Refused,
}

/// The writer of a log.
#[derive(Debug)]
pub struct Writer {
    log: u16,
    hub: HubName,
    connected: bool,
    /// The fence of the claim over this connection.
    fence: Option<u64>,
    /// Whether it has ever had the log.
    taken: bool,
    end: u64,
    doing: Doing,
    queue: VecDeque<(i64, Line)>,
    group: Option<Group>,
    lease_until_ms: i64,
    /// When the last statement began of which the lease counts.
    asked_ms: i64,
    /// When the lease was prolonged last.
    held_ms: i64,
    crossings: i64,
    tries: u32,
    releasing: bool,
    /// Whether a COMMIT was sent whose outcome is not known.
    unknown: bool,
    chance: Chance,
}

impl Writer {
    /// A writer that wants a log.
    #[must_use]
    pub fn new(log: u16, hub: HubName, chance: Chance) -> Self {
        Self {
            log,
            hub,
            connected: false,
            fence: None,
            taken: false,
            end: 0,
            doing: Doing::Nothing,
            queue: VecDeque::new(),
            group: None,
            lease_until_ms: i64::MIN,
            asked_ms: 0,
            held_ms: 0,
            crossings: 0,
            tries: 0,
            releasing: false,
            unknown: false,
            chance,
        }
    }

    /// Whether its lease is in force as far as it knows, from when it asked for it.
    #[must_use]
    pub fn has_lease(&self, now_ms: i64) -> bool {
        self.taken && now_ms < self.lease_until_ms
    }

    /// The fence that it has now; none while it has no claim.
    #[must_use]
    pub fn fence(&self) -> Option<u64> {
        self.fence
    }

    /// How much of the log it knows to be committed.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether it has the log and means to keep it.
    #[must_use]
    pub fn keeps(&self) -> bool {
        self.taken && !self.releasing
    }

    /// Whether nothing is on its way or in line.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.doing == Doing::Nothing && self.group.is_none() && self.queue.is_empty()
    }

    /// When it wants to prolong its lease, if it does nothing.
    #[must_use]
    pub fn prolongs_ms(&self) -> Option<i64> {
        (self.doing == Doing::Nothing).then_some(self.held_ms + PROLONG_MS)
    }

    /// Takes lines in; they are committed in this order.
    pub fn append(&mut self, lines: Vec<Line>, now_ms: i64) {
        self.queue.extend(lines.into_iter().map(|line| (now_ms, line)));
    }

    /// It is to give the log back once nothing waits.
    pub fn release(&mut self) {
        self.releasing = true;
    }

    /// What it does next, if it can do something.
    pub fn go_on(&mut self, now_ms: i64) -> Option<Deed> {
        if self.doing != Doing::Nothing {
            return None;
        }
        if !self.connected {
            self.doing = Doing::Connecting;
            return Some(Deed::Connect);
        }
        let (log, hub) = (self.log, self.hub);
        let Some(fence) = self.fence else {
            (self.doing, self.asked_ms) = (Doing::Claiming, now_ms);
            return Some(Deed::Ask(Request::Claim { log, hub, again: self.taken }));
        };
        if self.group.is_none() && !self.queue.is_empty() {
            let lines = std::mem::take(&mut self.queue).into();
            self.group = Some(Group { id: self.chance.draw(), from: self.end, lines });
        }
        if let Some(group) = &self.group {
            (self.doing, self.asked_ms) = (Doing::Stating, now_ms);
            return Some(Deed::Ask(Request::State { log, fence, group: group.clone() }));
        }
        if self.releasing {
            self.doing = Doing::Releasing;
            return Some(Deed::Ask(Request::Release { log, fence }));
        }
        if now_ms - self.held_ms >= PROLONG_MS {
            (self.doing, self.asked_ms) = (Doing::Holding, now_ms);
            return Some(Deed::Ask(Request::Hold { log, fence, end: self.end }));
        }
        None
    }

    /// Its pause is over.
    pub fn rested(&mut self) {
        if self.doing == Doing::Resting {
            self.doing = Doing::Nothing;
        }
    }

    /// What it does about a reply. [`Reply::Cut`] also stands for one that did not come in time.
    pub fn hear(&mut self, reply: &Reply) -> Vec<Deed> {
        match (self.doing, reply) {
            (Doing::Connecting, Reply::Done) => {
                (self.connected, self.doing) = (true, Doing::Nothing);
                Vec::new()
            }
            (Doing::Claiming, Reply::Claimed { fence, end, last_append }) => {
                self.fence = Some(*fence);
                self.claimed(*end, *last_append)
            }
            (Doing::Claiming, Reply::NoRow) if self.taken => self.gone(Gone::TakenOver),
            (Doing::Claiming, Reply::NoRow) => self.gone(Gone::Beaten),
            (Doing::Stating, Reply::Done) => {
                self.doing = Doing::Committing;
                vec![Deed::Ask(Request::Commit)]
            }
            (Doing::Stating, Reply::NoRow) => self.take_back(Failed::Fenced),
            (Doing::Stating, Reply::Crossed) => self.take_back(Failed::Crossed),
            (Doing::Stating, Reply::Refused) => self.take_back(Failed::Refused),
            (Doing::TakingBack(Failed::Fenced), Reply::Done) => self.gone(Gone::TakenOver),
            (Doing::TakingBack(Failed::Crossed), Reply::Done)
            | (Doing::Committing | Doing::Claiming, Reply::Crossed) => self.crossed(),
            (Doing::Committing, Reply::Done) => self.committed(),
            (Doing::Holding, Reply::Done) => {
                self.prolonged();
                self.doing = Doing::Nothing;
                Vec::new()
            }
            (Doing::Holding, Reply::NoRow) => self.gone(Gone::TakenOver),
            (Doing::Releasing, _) => self.gone(Gone::Released),
            _ => self.away(),
        }
    }

    /// The log is this writer's: for the first time, or again after a lost connection, whose append is there or not.
    fn claimed(&mut self, there: u64, last_append: u64) -> Vec<Deed> {
        self.prolonged();
        self.doing = Doing::Nothing;
        let unknown = std::mem::take(&mut self.unknown);
        if !self.taken {
            (self.taken, self.end) = (true, there);
            return vec![Deed::Took];
        }
        let looked = |found: bool| unknown.then_some(Deed::Looked(found));
        if there == self.end {
            return looked(false).into_iter().collect();
        }
        match &self.group {
            Some(group) if there == group.to() && last_append == group.id => {
                looked(true).into_iter().chain(self.committed()).collect()
            }
            _ => self.gone(Gone::Behind),
        }
    }

    fn committed(&mut self) -> Vec<Deed> {
        self.prolonged();
        (self.doing, self.crossings, self.tries) = (Doing::Nothing, 0, 0);
        let Some(group) = self.group.take() else { return Vec::new() };
        self.end = group.to();
        vec![Deed::Committed(group.lines)]
    }

    fn prolonged(&mut self) {
        (self.held_ms, self.lease_until_ms) = (self.asked_ms, self.asked_ms + LEASE_MS);
    }

    fn take_back(&mut self, why: Failed) -> Vec<Deed> {
        self.doing = Doing::TakingBack(why);
        vec![Deed::Ask(Request::RollBack)]
    }

    fn crossed(&mut self) -> Vec<Deed> {
        self.crossings += 1;
        if self.crossings >= CROSSINGS {
            return self.away();
        }
        self.doing = Doing::Resting;
        vec![Deed::Rest(2 * self.crossings)]
    }

    /// The database is not there, or cannot do it now: later, over a new connection.
    fn away(&mut self) -> Vec<Deed> {
        if !self.taken {
            return self.gone(Gone::Beaten);
        }
        if self.releasing && self.group.is_none() && self.queue.is_empty() {
            // The lease ends by itself.
            return self.gone(Gone::Released);
        }
        self.unknown |= self.doing == Doing::Committing;
        (self.connected, self.fence, self.crossings) = (false, None, 0);
        self.doing = Doing::Resting;
        self.tries += 1;
        let full = (PAUSE_MS.0 << self.tries.min(8)).min(PAUSE_MS.1);
        vec![Deed::Close, Deed::Rest(full / 2 + self.chance.between(0, full / 2))]
    }

    fn gone(&mut self, why: Gone) -> Vec<Deed> {
        self.doing = Doing::Resting;
        vec![Deed::Close, Deed::Gone(why)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::{Database, Told};
    use crate::world::START_MS;
    use engine::entry::{CustodyMark, Entry};
    use engine::host::Looked;

    const ME: HubName = [1; 16];
    const OTHER: HubName = [2; 16];

    fn line(byte: u64) -> Line {
        let mark = Entry::Custody(CustodyMark { through_seq: byte, at_ms: 1 });
        let (kind, bytes) = mark.encode(&"store-1".parse().unwrap());
        Line { kind, bytes, looked: Looked::Not }
    }

    /// A statement and what it is told at once; a commit is flushed.
    fn ask(database: &mut Database, now_ms: i64, connection: u64, request: Request) -> Option<Reply> {
        let mut told = database.arrive(now_ms, connection, 1, request);
        if told.iter().any(|told| matches!(told, Told::Flush(..))) {
            told = database.flushed(now_ms, connection, 1);
        }
        told.into_iter().find_map(|told| match told {
            Told::Reply(to, _, reply) if to == connection => Some(reply),
            _ => None,
        })
    }

    /// Lets a writer do what it wants over a connection, with the reply to COMMIT lost if wanted; what was committed and
    /// why it ended.
    fn drive(
        writer: &mut Writer,
        database: &mut Database,
        now_ms: i64,
        mut connection: u64,
        lose_commit: bool,
    ) -> (usize, Option<Gone>) {
        let (mut lines, mut deeds) = (0, Vec::new());
        loop {
            let Some(deed) = deeds.pop().or_else(|| writer.go_on(now_ms)) else { return (lines, None) };
            let request = match deed {
                Deed::Connect => Request::Connect,
                Deed::Ask(request) => request,
                Deed::Committed(more) => {
                    lines += more.len();
                    continue;
                }
                Deed::Gone(why) => return (lines, Some(why)),
                Deed::Rest(_) => {
                    writer.rested();
                    continue;
                }
                Deed::Close => {
                    ask(database, now_ms, connection, Request::Close);
                    connection += 100;
                    continue;
                }
                Deed::Took | Deed::Looked(_) => continue,
            };
            let lost = lose_commit && matches!(request, Request::Commit);
            let reply = ask(database, now_ms, connection, request).unwrap_or(Reply::Cut);
            deeds = writer.hear(if lost { &Reply::Cut } else { &reply });
            deeds.reverse();
        }
    }

    #[test]
    fn a_lost_commit_is_looked_up_and_a_stale_writer_changes_nothing() {
        let mut database = Database::new(1, 1);
        let mut writer = Writer::new(1, ME, Chance::new(1, "writer"));
        assert_eq!(drive(&mut writer, &mut database, START_MS, 1, false), (0, None));
        writer.append(vec![line(1), line(2)], START_MS);
        // The first try is committed and not told so; the second finds it there.
        assert_eq!(drive(&mut writer, &mut database, START_MS, 1, true), (2, None));
        assert_eq!((database.log(1).durable(), writer.end(), writer.fence()), (2, 2, Some(2)));
        // While it sleeps its lease ends, and another takes the log.
        let later_ms = START_MS + LEASE_MS;
        let mut other = Writer::new(1, OTHER, Chance::new(2, "writer"));
        assert_eq!(drive(&mut other, &mut database, later_ms - 1, 8, false), (0, Some(Gone::Beaten)));
        let mut other = Writer::new(1, OTHER, Chance::new(2, "writer"));
        assert_eq!(drive(&mut other, &mut database, later_ms, 9, false), (0, None));
        writer.append(vec![line(3)], later_ms);
        assert_eq!(drive(&mut writer, &mut database, later_ms, 101, false), (0, Some(Gone::TakenOver)));
        assert_eq!((database.log(1).durable(), database.holder(1)), (2, Some((OTHER, 3))));
        assert!(database.late.is_empty());
    }

    #[test]
    fn a_claim_waits_for_the_end_of_an_append_on_its_way() {
        let mut database = Database::new(1, 1);
        for connection in [1, 2] {
            ask(&mut database, START_MS, connection, Request::Connect);
        }
        let claim = |hub| Request::Claim { log: 1, hub, again: false };
        ask(&mut database, START_MS, 1, claim(ME));
        let group = Group { id: 7, from: 0, lines: vec![(START_MS, line(1))] };
        let stated = Request::State { log: 1, fence: 1, group };
        assert_eq!(ask(&mut database, START_MS, 1, stated), Some(Reply::Done));
        let later_ms = START_MS + LEASE_MS + 1;
        assert_eq!(ask(&mut database, later_ms, 2, claim(OTHER)), None, "the row is locked");
        database.arrive(later_ms, 1, 1, Request::Commit);
        let told = database.flushed(later_ms, 1, 1);
        let claimed = Reply::Claimed { fence: 2, end: 1, last_append: 7 };
        assert!(
            told.iter().any(|told| matches!(told, Told::Reply(2, _, reply) if *reply == claimed)),
            "{told:?}: the lease that the append prolonged had begun before"
        );
    }
}
