//! The writer: one thread that owns the session, commits groups and answers for them.
//!
//! The law of the segment files' writer holds: nothing of group g+1 is sent before group g is committed, and nobody is
//! answered before the group holding all his entries is. A group whose outcome is unknown is neither answered nor sent
//! again before the log was claimed anew and asked.
//!
//! While the database is away the writer tries again, ever less often, and everything waits: what this thread has in hand,
//! and what stands in the queue, which has an end. After `GRACE` the door counts as full, so nothing new is taken in.

use super::super::mark::Mark;
use super::super::queue::{Job, Next};
use super::super::shared::{Alarm, Shared, answer, refuse};
use super::super::writer::Sizes;
use super::super::{Position, StorageError};
use super::reader::Reader;
use super::row::Rows;
use super::session::{Claim, Claimed, Group, NotAppended, Outcome, Session};
use super::{Log, hex};
use crate::database::{DatabaseError, Link, Passes, schema};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// A database that is away for longer than this, or that does not answer for so long, stops what comes in.
const GRACE: Duration = Duration::from_secs(2);
/// How often an idle writer prolongs its lease, and so sees whether the log is still its own; a lease is 5 s.
const LOOK_EVERY: Duration = Duration::from_millis(1_500);
/// Shortest and longest pause between two tries.
const PAUSE: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(3)];
/// Steps of a pause, so that a writer that is to stop notices.
const STEP: Duration = Duration::from_millis(100);
/// Tries at once of an append that met another transaction.
const CROSSINGS: u32 = 20;

/// The thread's own state.
pub(super) struct Writer {
    pub(super) shared: Arc<Shared>,
    log: Log,
    runtime: Runtime,
    /// `None` while the database is away.
    session: Option<Session>,
    /// This process, as the log's row names it.
    me: [u8; 16],
    /// End of what is committed.
    end: u64,
    bytes: u64,
    reader: Arc<Reader>,
    mark: Mark,
    sizes: Sizes,
    away: Option<Away>,
    looked: Instant,
}

/// Since when the database is not there.
struct Away {
    since: Instant,
    tries: u32,
}

/// Why a try did not commit.
enum Failed {
    /// What is there contradicts what was written; trying again would make it worse.
    Never(StorageError),
    /// The database is not there, or cannot do it now.
    Later(DatabaseError),
}

impl Writer {
    #[allow(clippy::too_many_arguments)] // each comes from another step of opening
    pub(super) fn new(
        log: Log,
        runtime: Runtime,
        session: Session,
        claimed: &Claimed,
        shared: Arc<Shared>,
        reader: Arc<Reader>,
        mark: Mark,
        sizes: Sizes,
    ) -> Self {
        let Claimed { writer, end, bytes, .. } = *claimed;
        let (session, away, looked) = (Some(session), None, Instant::now());
        Writer { shared, log, runtime, session, me: writer, end, bytes, reader, mark, sizes, away, looked }
    }

    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Runs until the door closes; then syncs the mark.
    pub(super) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _alarm = Alarm(&shared);
        loop {
            let usable = shared.usable().is_ok();
            let look = if self.away.is_some() { self.pause() } else { LOOK_EVERY };
            let timeout = self.mark.due_in().into_iter().chain([look]).min().filter(|_| usable);
            if timeout == Some(Duration::ZERO) {
                self.sync_mark();
                continue;
            }
            match shared.queue.wait(timeout) {
                Next::Group => self.commit(shared.queue.take(self.sizes.group_max)),
                Next::Nudged => {}
                Next::Idle => {
                    self.sync_mark();
                    self.look();
                }
                Next::Closed => break,
            }
        }
        if shared.usable().is_ok() {
            self.sync_mark();
            // If it does not arrive, the lease ends by itself.
            if let Some(session) = &self.session {
                let _ = self.runtime.block_on(session.release());
            }
        }
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        if let Err(error) = self.shared.usable() {
            return refuse(jobs, &error);
        }
        let (group, positions) = self.lay_out(&jobs);
        // Who appended nothing, or only asked for room, waits for nothing.
        if group.rows.len() > 0
            && let Err(error) = self.until_committed(&group)
        {
            self.shared.poison(&error);
            return refuse(jobs, &self.shared.refusal());
        }
        self.end = group.to();
        self.bytes += group.rows.total;
        self.reader.publish(self.end, self.bytes);
        // The group is committed whatever happens to the mark, so it is answered with Ok either way.
        if let Err(error) = self.mark.advance(self.end, 0) {
            self.shared.poison(&error);
        }
        for (job, positions) in jobs.into_iter().zip(positions) {
            answer(job, Ok(positions));
        }
    }

    /// The rows of all jobs, and where each entry will be.
    fn lay_out(&self, jobs: &[Job]) -> (Group, Vec<Vec<Position>>) {
        let (mut rows, mut at) = (Rows::default(), self.end);
        let mut place = |entry| {
            rows.push(&self.log, at, entry);
            at += 1;
            Position(at - 1)
        };
        let positions = jobs.iter().map(|job| job.entries.iter().map(&mut place).collect()).collect();
        (Group { id: rand::random(), from: self.end, rows }, positions)
    }

    /// Tries until the group is committed. An error is the end of this writer.
    fn until_committed(&mut self, group: &Group) -> Result<(), StorageError> {
        loop {
            match self.attempt(Some(group)) {
                Ok(()) => {
                    self.is_back();
                    return Ok(());
                }
                Err(Failed::Never(error)) => return Err(error),
                Err(Failed::Later(error)) => self.is_away(&error),
            }
            if !self.rest() {
                let reason = self.shared.away().unwrap_or_default();
                return Err(StorageError::DatabaseAway { reason });
            }
        }
    }

    /// Looks whether the log is still this writer's; comes back to a database that was away.
    fn look(&mut self) {
        if self.shared.usable().is_err() || (self.away.is_none() && self.looked.elapsed() < LOOK_EVERY) {
            return;
        }
        match self.attempt(None) {
            Ok(()) => self.is_back(),
            Err(Failed::Later(error)) => self.is_away(&error),
            Err(Failed::Never(error)) => self.shared.poison(&error),
        }
    }

    /// One try: with a session, over a new one if there is none.
    fn attempt(&mut self, group: Option<&Group>) -> Result<(), Failed> {
        self.looked = Instant::now();
        let slow = SlowAlarm { shared: Arc::clone(&self.shared), reader: Arc::clone(&self.reader) };
        let (session, log, me) = (self.session.take(), self.log.clone(), self.me);
        let (end, bytes) = (self.end, self.bytes);
        let trying = async move {
            let session = match session {
                Some(session) => session,
                None => match come_back(&log, me, end, bytes, group).await? {
                    (session, true) => return Ok(session),
                    (session, false) => session,
                },
            };
            match group {
                Some(group) => append(&log, session, group).await,
                None if session.holds(end).await.map_err(later)? => Ok(session),
                None => Err(Failed::Never(taken_over(&log))),
            }
        };
        let done = self.runtime.block_on(slow.beside(trying));
        self.session = Some(done?);
        Ok(())
    }

    fn is_away(&mut self, error: &DatabaseError) {
        if self.away.is_none() {
            tracing::error!("{error}: appends wait, nothing is acknowledged meanwhile");
        }
        let away = self.away.get_or_insert(Away { since: Instant::now(), tries: 0 });
        away.tries += 1;
        if away.tries.is_multiple_of(20) {
            tracing::warn!(tries = away.tries, "still away: {error}");
        }
        *self.shared.away.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        self.reader.set_away(true);
        if away.since.elapsed() >= GRACE {
            self.shared.full.store(true, Ordering::Release);
        }
    }

    fn is_back(&mut self) {
        if let Some(away) = self.away.take() {
            tracing::warn!(seconds = away.since.elapsed().as_secs(), "the database is back; appends go on");
        }
        *self.shared.away.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.reader.set_away(false);
        self.shared.full.store(false, Ordering::Release);
    }

    /// The pause before the next try: longer from try to try, and never the same at two hubs.
    fn pause(&self) -> Duration {
        let tries = self.away.as_ref().map_or(0, |away| away.tries.min(8));
        let [shortest, longest] = PAUSE;
        let full = (shortest * 2u32.pow(tries)).min(longest);
        let jitter: u16 = rand::random();
        full / 2 + full / 2 * u32::from(jitter) / u32::from(u16::MAX)
    }

    /// Pauses; `false` if the writer is to stop and has waited long enough.
    fn rest(&self) -> bool {
        let until = Instant::now() + self.pause();
        loop {
            let stop = *self.shared.wait_until.lock().unwrap_or_else(PoisonError::into_inner);
            if stop.is_some_and(|stop| Instant::now() >= stop) {
                return false;
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return true;
            }
            std::thread::sleep(left.min(STEP));
        }
    }

    fn sync_mark(&mut self) {
        if let Err(error) = self.mark.sync() {
            self.shared.poison(&error);
        }
    }
}

/// Claims the log over a new connection. `true`: the group, whose outcome was unknown, is there.
async fn come_back(
    log: &Log,
    me: [u8; 16],
    end: u64,
    bytes: u64,
    group: Option<&Group>,
) -> Result<(Session, bool), Failed> {
    let link = Link::connect(&log.database, "hub writer").await.map_err(later)?;
    schema::check(schema::version(&link).await.map_err(later)?).map_err(later)?;
    let claimed = Session::claim(link, log.log_id, Claim::Again { writer: me }).await.map_err(later)?;
    let Outcome::Mine(session, Claimed { end: there, bytes: total, last_append, .. }) = claimed else {
        return Err(Failed::Never(taken_over(log)));
    };
    if there == end && total == bytes {
        return Ok((*session, false));
    }
    match group {
        Some(group) if there == group.to() && last_append == group.id => Ok((*session, true)),
        _ => Err(Failed::Never(StorageError::DatabaseBehind {
            place: log.database.shown().to_owned(),
            end: there,
            marked: end,
        })),
    }
}

/// Appends; meets with other transactions are tried again at once.
async fn append(log: &Log, session: Session, group: &Group) -> Result<Session, Failed> {
    let begun = Instant::now();
    for crossing in 1.. {
        match session.append(group).await {
            Ok(()) => {
                crate::metrics::FSYNC.observe(begun.elapsed());
                return Ok(session);
            }
            Err(NotAppended::Fenced) => return Err(Failed::Never(taken_over(log))),
            Err(NotAppended::Refused(error)) if error.passes == Passes::AtOnce && crossing < CROSSINGS => {
                tokio::time::sleep(Duration::from_millis(u64::from(2 * crossing))).await;
            }
            Err(NotAppended::Refused(error) | NotAppended::Unknown(error)) => return Err(later(error)),
        }
    }
    unreachable!("the last crossing is an error")
}

fn later(error: DatabaseError) -> Failed {
    match error.passes {
        Passes::Never => Failed::Never(StorageError::Database(error)),
        Passes::AtOnce | Passes::Later => Failed::Later(error),
    }
}

fn taken_over(log: &Log) -> StorageError {
    StorageError::TakenOver { log_id: hex(&log.log_id), place: log.database.shown().to_owned() }
}

/// Says that the database does not answer while a try is still waiting for it.
struct SlowAlarm {
    shared: Arc<Shared>,
    reader: Arc<Reader>,
}

impl SlowAlarm {
    async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        if let Ok(done) = tokio::time::timeout(GRACE, &mut work).await {
            return done;
        }
        self.ring();
        work.await
    }

    fn ring(&self) {
        let mut away = self.shared.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.get_or_insert_with(|| "the database does not answer".to_owned());
        self.reader.set_away(true);
        self.shared.full.store(true, Ordering::Release);
    }
}
