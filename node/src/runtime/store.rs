//! One store's task: it owns the host of the store's replica, gives it events and carries out what it asks for, with the
//! node's disk and links. Captures that wait together go in together. What is grouped, promised and refused is decided
//! by `engine::host`; nothing is decided here.
//!
//! **A full disk** refuses before it is too late: nothing new is taken in (captures, statements, peers' batches) while the
//! storage says that it is full, and what was taken in before is appended into the storage's reserve. Batches of peers
//! wait here, unacknowledged; acknowledgements and everything that is asked go on. When space returns, so does all.

mod handle;
mod line;
mod saving;
mod seats;
pub mod several;
mod space;
#[cfg(test)]
mod tests;

use handle::Reply;
pub(super) use handle::Shown;
pub(crate) use handle::{GoesOn, Job};
pub use handle::{StoreError, StoreHandle};
pub(crate) use line::Jobs;
pub(crate) use seats::Seat;
pub use seats::Seats;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use engine::entry::Entry as LogEntry;
use engine::host::{Effect, Host, Line, Looked, Stored};
use engine::ids::WriterId;
use engine::ledger::JournalEntry;
use engine::replica::{Capture, Input, SyncEvent};
use engine::shelf::Due;
use engine::sync::{Carried, Message};
use tokio::sync::{OwnedMutexGuard, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::alarms::Alarms;
use super::audit::AuditLog;
use super::clock::{Clock, now_ms};
use super::conversation::{InHand, Outbox};
use super::notes::{Notes, name};
use super::positions::Positions;
use super::restore::RestoredStore;
use super::supervise::{Fresh, Life, Suspects};
use super::take_back::TakeBack;
use super::workroom::Home;
use crate::metrics::{ACKNOWLEDGED, CAPTURE};
use crate::storage::{Debt, Entry, Position, Storage, StorageError};

/// Jobs taken in one turn, and how long they may take before those are answered that are done.
const JOBS_A_TURN: usize = 512;
const LONGEST_TURN: Duration = Duration::from_millis(20);
/// Records that may wait to be judged while more is taken in: what waits is in memory, some 1.3 kB each.
const BACKLOG_RECORDS: usize = 512;
/// A store that has heard of no sale for so long keeps little unpacked; it wakes for that within a minute.
const IDLE: Duration = Duration::from_secs(30);
/// How often a store's task looks whether a full disk has space again.
const FULL_LOOK_MS: i64 = 250;

/// What the storage reports of one append.
struct Written {
    positions: Vec<(Looked, Position)>,
    bytes: usize,
    failed: Option<String>,
}

/// Who waits for an answer, and since when if it is a capture.
struct Promise {
    reply: Reply,
    captured: Option<Instant>,
}

pub(super) struct StoreTask {
    host: Host,
    home: Home,
    storage: Storage,
    notes: Notes,
    clock: Clock,
    jobs: OwnedMutexGuard<Jobs>,
    suspects: Suspects,
    written: mpsc::UnboundedReceiver<Written>,
    report: mpsc::UnboundedSender<Written>,
    positions: Positions,
    links: BTreeMap<WriterId, (u64, Outbox)>,
    replies: BTreeMap<u64, Promise>,
    /// Last number of the own log whose coming to the hub was measured (tills).
    measured_through: u64,
    next_token: u64,
    stopping: Vec<oneshot::Sender<()>>,
    /// Bytes on their way to the disk.
    in_flight: usize,
    /// Bytes that will be, once what was taken in is in the books.
    debt: Debt,
    /// Nothing is taken in until the books have everything.
    catching_up: bool,
    /// Of the bulk that was taken in and is not in the books.
    seat: Option<Seat>,
    /// Records when they were counted last, and since when it has been as many.
    counted: (usize, Instant),
    /// Peers' batches that wait for space, with peer and link.
    held: VecDeque<(WriterId, u64, Vec<u8>, InHand)>,
    held_bytes: usize,
    /// Room for the first of them was asked for.
    asked: bool,
    granted: bool,
    /// It could not be had when it was asked for last, and is asked for again at this time.
    short: bool,
    ask_again: Instant,
    room: mpsc::UnboundedReceiver<bool>,
    room_report: mpsc::UnboundedSender<bool>,
    /// Nothing is taken in because the disk is full.
    full: Arc<AtomicBool>,
    shown: Shown,
    /// Of a restored node: nothing is recorded until its peers have given back what they hold.
    take_back: Option<TakeBack>,
    /// The last entry of the store that is durable.
    through: Position,
    /// Records and the last entry that the last image holds, and bytes of the log then.
    saved_records: usize,
    saved_through: Position,
    saved_bytes: u64,
    /// When something was asked for last.
    last_job: Instant,
    /// The image that is being kept.
    keeping: Option<JoinHandle<()>>,
}

/// Appends of more bytes are left to the writer's thread.
const WRITTEN_HERE: usize = 64 << 10;

/// Starts a store's task over a restored replica; a panic is its end.
#[must_use]
pub fn start(restored: RestoredStore, home: Home, audit: AuditLog, clock: Clock) -> StoreHandle {
    let store = restored.replica.identity().store.clone();
    let life = Life {
        store,
        home,
        audit,
        clock,
        alarms: Alarms::default(),
        fresh: None,
        take_back: None,
        full: Arc::default(),
        shown: Shown::default(),
    };
    begin(life, restored)
}

/// Starts a store's task over a restored store; after a panic it begins anew from the log, read into what `fresh` makes.
/// `take_back`: of a node that was restored from a backup.
#[must_use]
pub fn start_for_life(
    restored: RestoredStore,
    home: Home,
    audit: AuditLog,
    clock: Clock,
    alarms: Alarms,
    fresh: Fresh,
    take_back: Option<TakeBack>,
) -> StoreHandle {
    let store = restored.replica.identity().store.clone();
    begin(
        Life {
            store,
            home,
            audit,
            clock,
            alarms,
            fresh: Some(fresh),
            take_back,
            full: Arc::default(),
            shown: Shown::default(),
        },
        restored,
    )
}

fn begin(life: Life, restored: RestoredStore) -> StoreHandle {
    let (handle, waiting) = StoreHandle::with(
        life.store.clone(),
        Arc::clone(&life.full),
        life.shown.clone(),
        life.home.seats.clone(),
    );
    tokio::spawn(life.live(waiting, restored));
    handle
}

impl StoreTask {
    /// A task over a restored store.
    pub(super) fn new(
        life: &Life,
        restored: RestoredStore,
        jobs: OwnedMutexGuard<Jobs>,
        suspects: Suspects,
    ) -> Self {
        let (report, written) = mpsc::unbounded_channel();
        let (room_report, room) = mpsc::unbounded_channel();
        let RestoredStore { replica, positions, through, judged, told } = restored;
        let store = replica.identity().store.clone();
        let saved_records = usize::try_from(judged).unwrap_or(0);
        let measured_through = replica.at_hub_through();
        Self {
            host: Host::new(replica),
            home: life.home.clone(),
            storage: life.home.storage.clone(),
            notes: Notes::new(life.audit.clone(), store, told),
            clock: life.clock.clone(),
            jobs,
            suspects,
            written,
            report,
            positions,
            links: BTreeMap::new(),
            replies: BTreeMap::new(),
            measured_through,
            next_token: 0,
            stopping: Vec::new(),
            in_flight: 0,
            debt: life.home.storage.debt(),
            catching_up: false,
            seat: None,
            counted: (0, Instant::now()),
            held: VecDeque::new(),
            held_bytes: 0,
            asked: false,
            granted: false,
            short: false,
            ask_again: Instant::now(),
            room,
            room_report,
            full: Arc::clone(&life.full),
            shown: life.shown.clone(),
            take_back: life.take_back.clone(),
            through,
            saved_records,
            saved_through: if judged > 0 { through } else { Position::default() },
            // What came since the image is not much, or it is saved soon for its records.
            saved_bytes: life.home.storage.log_bytes(),
            last_job: Instant::now(),
            keeping: None,
        }
    }

    pub(super) async fn run(mut self) {
        self.give(Input::Wakeup);
        self.turn().await;
        loop {
            let wait = self.until_wakeup();
            tokio::select! {
                biased;
                written = self.written.recv() => {
                    if let Some(written) = written {
                        self.take_written(written);
                    }
                }
                job = self.jobs.recv(), if self.in_flight <= self.in_flight_max() && !self.catching_up && !self.is_overdue() => match job {
                    Some(job) => self.take_jobs(job),
                    None => return,
                },
                there = self.room.recv() => {
                    self.asked = false;
                    self.short = there == Some(false);
                    self.granted = there == Some(true);
                    self.ask_again = Instant::now() + space::ROOM_ASK;
                }
                () = tokio::time::sleep(wait) => self.give(Input::Wakeup),
            }
            self.take_all_written();
            self.turn().await;
            self.look_at_space().await;
            self.look_at_peers();
            self.rest().await;
            let revision = self.host.replica().revision();
            let heard = self.shown.show(revision).is_some_and(|before| revision.has_heard_since(&before));
            self.notes.end_turn(self.host.is_settled(), heard);
            if self.is_due() && self.host.is_settled() {
                self.write_checkpoint().await;
            }
            if !self.stopping.is_empty() && (self.host.is_settled() || self.host.failed().is_some()) {
                self.write_checkpoint().await;
                if let Some(keeping) = self.keeping.take() {
                    let _ = keeping.await;
                }
                for reply in self.stopping.drain(..) {
                    let _ = reply.send(());
                }
                return;
            }
        }
    }

    /// Packs what is not in use while nobody waits, for this task or for what the disk has done: whoever was just answered
    /// goes on first.
    async fn rest(&mut self) {
        let due = if self.goes_idle() { Due::Idle } else { Due::Now };
        loop {
            tokio::task::yield_now().await;
            let waits = !self.jobs.is_empty() || !self.written.is_empty();
            if waits || !self.host.replica_mut().rest_a_chunk(due) {
                return;
            }
        }
    }

    /// Whether it is not needed soon what the store has unpacked: it has heard of no sale for a while, or others wait to
    /// take in what their tills have, each as much.
    fn goes_idle(&mut self) -> bool {
        let (records, now) = (self.records(), Instant::now());
        if self.counted.0 != records {
            self.counted = (records, now);
        }
        now - self.counted.1 >= IDLE || self.seat.is_none() && self.home.seats.are_taken()
    }

    fn records(&self) -> usize {
        self.host.replica().books().len()
    }

    fn until_wakeup(&self) -> Duration {
        let at = [self.host.replica().next_wakeup(), self.notes.due_ms()].into_iter().flatten().min();
        let longest =
            if self.full.load(Ordering::Acquire) || self.storage.is_full() { FULL_LOOK_MS } else { 60_000 };
        let ms = at.map_or(longest, |at| (at - now_ms()).clamp(1, longest));
        let wait = Duration::from_millis(u64::try_from(ms).unwrap_or(1));
        self.quiet_in().map_or(wait, |quiet| wait.min(quiet))
    }

    /// Takes what waits, captures together.
    fn take_jobs(&mut self, first: Job) {
        self.last_job = Instant::now();
        let mut captures = Vec::new();
        let mut next = Some(first);
        let (mut taken, taken_max, began) = (0, self.in_flight_max(), Instant::now());
        for _ in 0..JOBS_A_TURN {
            let enough = taken > taken_max
                || self.host.replica().backlog() > BACKLOG_RECORDS
                || began.elapsed() >= LONGEST_TURN;
            // The first has been taken out of the line already: it is done whatever waits.
            let more = || if enough { None } else { self.jobs.try_recv() };
            let Some(job) = next.take().or_else(more) else { break };
            if let Job::Frame(_, _, bytes, _) = &job {
                taken += bytes.len();
            }
            match job {
                Job::Capture(_, reply) if self.refusal().is_some() => {
                    let _ = reply.send(self.refusal().map_or(Err(StoreError::Stopping), Err));
                }
                Job::Capture(draft, reply) => {
                    let token = self.promise(reply, Some(Instant::now()));
                    captures.push(Capture { token, draft: *draft });
                }
                other => {
                    self.take_captures(&mut captures);
                    self.take_job(other);
                }
            }
        }
        self.take_captures(&mut captures);
    }

    fn take_captures(&mut self, captures: &mut Vec<Capture>) {
        if !captures.is_empty() {
            self.give(Input::Capture(std::mem::take(captures)));
        }
    }

    fn take_job(&mut self, job: Job) {
        match job {
            Job::Capture(..) => {}
            Job::State(_, _, reply) if self.refusal().is_some() => {
                let _ = reply.send(self.refusal().map_or(Err(StoreError::Stopping), Err));
            }
            Job::State(record, receipt, reply) => {
                let token = self.promise(reply, None);
                self.give(Input::State { token, record, receipt });
            }
            // Letting go of its outbox ends the link.
            Job::LinkUp(peer, ..) if self.suspects.is_banned(&peer) => {
                self.notes.note(
                    Some(self.name(&peer)),
                    "not-heard",
                    "this store's work failed over it".into(),
                );
            }
            Job::LinkUp(peer, link, dialect, frames) => {
                if self.links.insert(peer, (link, frames)).is_some() {
                    self.give(Input::PeerDown(peer));
                }
                self.give(Input::PeerUp(peer, dialect));
            }
            Job::LinkDown(peer, link) => {
                if self.links.get(&peer).is_some_and(|known| known.0 == link) {
                    self.links.remove(&peer);
                    self.give(Input::PeerDown(peer));
                }
            }
            Job::Frame(peer, link, bytes, room) => self.take_frame(peer, link, bytes, room),
            Job::Ask(ask) => {
                self.settle();
                ask(self.host.replica_mut());
            }
            Job::Journal(from, limit, reply) => {
                self.settle();
                let _ = reply.send(self.read_journal(from, limit));
            }
            Job::Stop(reply) => self.stopping.push(reply),
        }
    }

    /// Brings the books up to date before a question.
    fn settle(&mut self) {
        self.give(Input::Wakeup);
        while self.host.replica().next_wakeup() == Some(0) {
            self.give(Input::Wakeup);
        }
    }

    /// Gives a peer's frame to the replica, with its seat if it is a bulk; a panic over it is that peer's.
    fn judge(&mut self, peer: WriterId, bytes: Vec<u8>, seat: Option<Seat>) {
        self.seat = seat.or(self.seat.take());
        self.debt.add(self.log_bytes_of(&bytes));
        let suspects = self.suspects.clone();
        suspects.judging(peer, || self.give(Input::Message(peer, bytes)));
    }

    /// Remembers who waits for an answer.
    fn promise(&mut self, reply: Reply, captured: Option<Instant>) -> u64 {
        self.next_token += 1;
        self.replies.insert(self.next_token, Promise { reply, captured });
        self.next_token
    }

    fn give(&mut self, input: Input) {
        self.host.give(self.clock.now(), input);
    }

    /// Does what the host asks for, until it asks for nothing more or the disk has enough to do: judging goes on when
    /// some of that is durable. Whoever was told something goes on before it does, and what has been said meanwhile is
    /// taken in before it: peers wait for the disk, not for the books.
    async fn turn(&mut self) {
        loop {
            let listens = self.listens();
            let effects = if listens { self.host.listen() } else { self.host.turn(self.clock.now()) };
            if effects.is_empty() {
                // A till's books follow without a word to anybody: who catches up goes on until they have.
                if self.catches_up() && self.host.replica().next_wakeup() == Some(0) {
                    tokio::task::yield_now().await;
                    continue;
                }
                self.catching_up = false;
                return;
            }
            let told = effects.iter().any(Effect::is_told);
            for effect in effects {
                self.carry_out(effect, told);
            }
            self.take_all_written();
            if self.in_flight > self.in_flight_max() {
                return;
            }
            if told || !listens {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Whether what has been said is taken in before the books follow.
    fn listens(&mut self) -> bool {
        !self.catches_up() && !self.jobs.is_empty()
    }

    /// Whether the books catch up before anything more is taken in. Once they are far behind they do until they have
    /// everything: what waits to be judged is in memory, and whoever reads along waits for a moment when nothing does.
    fn catches_up(&mut self) -> bool {
        let backlog = self.host.replica().backlog();
        if backlog == 0 {
            self.debt.is_paid();
        }
        if backlog == 0 || self.host.failed().is_some() {
            self.seat = None;
        }
        self.catching_up = backlog > if self.catching_up { 0 } else { BACKLOG_RECORDS };
        self.catching_up
    }

    fn carry_out(&mut self, effect: Effect, told: bool) {
        match effect {
            Effect::Append(lines) => self.append(lines, told),
            Effect::Answer(token, result) => {
                if let Some(Promise { reply, captured }) = self.replies.remove(&token) {
                    if let Some(since) = captured.filter(|_| result.is_ok()) {
                        CAPTURE.observe(since.elapsed());
                    }
                    let _ = reply.send(result.map_err(StoreError::from));
                }
            }
            Effect::Send(peer, frame) => self.send(peer, frame),
            Effect::SendBatches { peer, number, batches } => self.send_batches(peer, number, batches),
            Effect::End(peer, reason) => {
                self.notes.note(Some(self.name(&peer)), "disconnect", reason);
                self.links.remove(&peer);
            }
            Effect::Event(event @ SyncEvent::Acknowledged { .. }) => {
                self.measure_custody();
                self.notes.event(self.host.replica().registry(), event);
            }
            Effect::Event(event) => self.notes.event(self.host.replica().registry(), event),
            Effect::Case(event) => self.notes.case(&event),
        }
    }

    /// How long what the hub has just taken over was on its way.
    fn measure_custody(&mut self) {
        let (replica, now) = (self.host.replica(), now_ms());
        let through = replica.at_hub_through();
        if through > self.measured_through {
            for at_ms in replica.own_clocks((self.measured_through + 1, through)) {
                ACKNOWLEDGED.observe(Duration::from_millis(u64::try_from(now - at_ms).unwrap_or(0)));
            }
        }
        self.measured_through = self.measured_through.max(through);
    }

    fn name(&self, peer: &WriterId) -> String {
        name(self.host.replica().registry(), peer)
    }

    /// Appends lines. What a cashier waits for, and nothing else does, is written by this thread: changing to the writer's
    /// and back takes as long as many a disk. A hub has others who ask meanwhile.
    fn append(&mut self, lines: Vec<Line>, told: bool) {
        let looked: Vec<Looked> = lines.iter().map(|line| line.looked).collect();
        let bytes: usize = lines.iter().map(|line| line.bytes.len()).sum();
        let replica = self.host.replica();
        let here = replica.writer() != replica.identity().hub
            && self.in_flight == 0
            && bytes <= WRITTEN_HERE
            && lines.iter().any(Line::is_awaited)
            && !told
            && self.jobs.is_empty()
            && tokio::runtime::Handle::current().metrics().num_workers() > 1;
        self.in_flight += bytes;
        let entries = lines.into_iter().map(|line| Entry { kind: line.kind, bytes: line.bytes }).collect();
        let report = self.report.clone();
        let done = move |result: Result<Vec<Position>, StorageError>| {
            let _ = report.send(match result {
                Ok(at) => Written { positions: looked.into_iter().zip(at).collect(), bytes, failed: None },
                Err(error) => Written { positions: Vec::new(), bytes, failed: Some(error.to_string()) },
            });
        };
        // Urgent: it was decided before the disk was full, or follows from what was.
        if here {
            self.storage.append_here(entries, done);
        } else {
            self.storage.append_urgent(entries, done);
        }
    }

    fn take_all_written(&mut self) {
        while let Ok(written) = self.written.try_recv() {
            self.take_written(written);
        }
    }

    fn take_written(&mut self, written: Written) {
        self.in_flight -= written.bytes;
        if let Some(reason) = written.failed {
            if self.host.failed().is_none() {
                tracing::error!(store = %self.host.replica().identity().store, "the storage failed: {reason}");
            }
            self.host.append_failed(&reason);
            return;
        }
        let lines = written.positions.len() as u64;
        for (looked, at) in written.positions {
            self.positions.note(looked, at);
            self.through = self.through.max(at);
        }
        self.host.appended(self.clock.now(), lines);
    }

    fn send(&mut self, peer: WriterId, frame: Vec<u8>) {
        let Some((_, frames)) = self.links.get(&peer) else { return };
        if !frames.put(frame) {
            // It asks and does not listen, or is gone: its conversation ends, and begins anew when it reads again.
            self.links.remove(&peer);
            self.notes.note(Some(self.name(&peer)), "stalled", "does not read".to_owned());
            self.give(Input::PeerDown(peer));
        }
    }

    fn send_batches(&mut self, peer: WriterId, number: u64, batches: Vec<Stored>) {
        let carried: Result<Vec<Carried>, String> = batches
            .into_iter()
            .map(|stored| match stored {
                Stored::Here(carried) => Ok(carried),
                Stored::InLog(ordinal) => self.read_batch(ordinal),
            })
            .collect();
        match carried {
            Ok(batches) => self.send(peer, Message::Batches { number, batches }.encode()),
            Err(reason) => {
                tracing::error!("a batch cannot be read back: {reason}");
                self.notes.note(Some(self.name(&peer)), "unreadable", reason);
                self.links.remove(&peer);
                self.give(Input::PeerDown(peer));
            }
        }
    }

    fn read_batch(&self, ordinal: u64) -> Result<Carried, String> {
        let at = self.positions.batch(ordinal).ok_or("it is not durable")?;
        let entry = self.storage.read(at).map_err(|error| error.to_string())?;
        match LogEntry::decode(entry.kind, &entry.bytes) {
            Ok((_, LogEntry::Batch(batch))) => Ok(Carried { bytes: batch.bytes, change: batch.change }),
            Ok(_) => Err(format!("position {at} holds no batch")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn read_journal(&self, from: u64, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        read_journal(&self.positions, (from, limit), |at| self.storage.read(at))
    }
}

/// Entries of a store's journal from a number on, so many at most, from where they stand.
pub(crate) fn read_journal(
    positions: &Positions,
    (from, limit): (u64, usize),
    read_at: impl Fn(Position) -> Result<Entry, StorageError>,
) -> Result<Vec<JournalEntry>, StoreError> {
    let failed = |reason: String| StoreError::Unreadable(format!("the journal cannot be read: {reason}"));
    let mut read = Vec::new();
    for at in positions.journal(from, limit) {
        let entry = read_at(at).map_err(|error| failed(error.to_string()))?;
        let run = match LogEntry::decode(entry.kind, &entry.bytes) {
            Ok((_, LogEntry::Journal(run))) => run,
            Ok(_) => return Err(failed(format!("position {at} holds something else"))),
            Err(error) => return Err(failed(error.to_string())),
        };
        read.extend(run.entries().map_err(|error| failed(error.to_string()))?);
    }
    read.retain(|entry| entry.number >= from);
    read.truncate(limit);
    Ok(read)
}
