//! Reading the rows: one at a position, or all of them in pages by key, verified. A thread of its own with a connection of
//! its own, so that the door can be asked from anywhere; it connects anew when it has to.
//!
//! A read waits for the database, for `WAIT` at most, and not at all once the writer has found it away. A long replay holds one page and asks for the next meanwhile.

use super::row::{damaged, entry};
use super::{Kept, Log, signed, unsigned};
use crate::database::{DatabaseError, Link, Passes, Row, Statement, schema};
use crate::storage::{Entry, Position, StorageError};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc as answers;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::sync::mpsc;

/// The longest that a read waits.
const WAIT: Duration = Duration::from_secs(20);
/// Bytes that a page aims at.
const PAGE_BYTES: u64 = 4 << 20;
/// Rows of a page: at first (an entry has at most one MiB or so), and at most.
const PAGE_ROWS: [u64; 2] = [32, 8192];
/// Tries of a page when the connection is lost in the middle of a replay.
const PAGE_TRIES: u32 = 5;

const PAGE: &str = "SELECT position, kind, bytes, hash FROM tillsync.entry
    WHERE log_id = $1 AND position >= $2 AND position < $3 ORDER BY position LIMIT $4";
const HEAD: &str = "SELECT next_position, total_bytes FROM tillsync.log WHERE log_id = $1";

/// A question to the reader's thread.
struct Ask {
    about: About,
    answer: answers::SyncSender<Result<Vec<Row>, DatabaseError>>,
}

/// What is asked for.
#[derive(Clone, Copy)]
enum About {
    /// Rows from a position on, before another, so many at most.
    Rows { from: u64, to: u64, limit: u64 },
    /// How far the log reaches.
    Head,
}

/// The rows of a log, for any thread.
pub(in crate::storage) struct Reader {
    log: Log,
    end: AtomicU64,
    bytes: AtomicU64,
    /// The writer cannot reach the database: nobody waits for it here either.
    away: AtomicBool,
    asks: Option<mpsc::UnboundedSender<Ask>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// A connection and the statements on it.
struct Serving {
    link: Link,
    page: Statement,
    head: Statement,
}

impl Reader {
    /// Reads a log that ends at `end`; connects when it is first asked.
    pub(super) fn start(log: Log, end: u64, bytes: u64) -> Result<Self, StorageError> {
        let (asks, asked) = mpsc::unbounded_channel();
        let runtime = super::runtime(Path::new("the reader"))?;
        let serving = log.clone();
        let thread = thread::Builder::new().name("storage-reader".into());
        let thread = thread.spawn(move || runtime.block_on(serve(serving, asked)));
        let failed = |e: io::Error| StorageError::io("starting the reader of", Path::new("the database"), &e);
        let (end, bytes, away) = (AtomicU64::new(end), AtomicU64::new(bytes), AtomicBool::new(false));
        Ok(Reader {
            log,
            end,
            bytes,
            away,
            asks: Some(asks),
            thread: Mutex::new(Some(thread.map_err(failed)?)),
        })
    }

    /// Reads a log that nobody here writes, as far as its row says.
    pub(super) fn at_rest(log: Log) -> Result<Self, StorageError> {
        let asking = log.clone();
        // On a thread of its own: this may be called from inside a runtime.
        let asked = thread::spawn(move || -> Result<Option<(u64, u64)>, StorageError> {
            super::runtime(Path::new("the reader"))?.block_on(async {
                let link = Link::connect(&asking.database, "reader").await?;
                schema::check(schema::version(&link).await?)?;
                let rows = link.query("reading the log's row", HEAD, &[&&asking.log_id[..]]).await?;
                Ok(rows.first().map(|row| (unsigned(row.get(0)), unsigned(row.get(1)))))
            })
        });
        let head = asked.join().unwrap_or(Err(StorageError::Closed { operation: "read" }))?;
        let Some((end, bytes)) = head else {
            let (log_id, place) = (super::hex(&log.log_id), log.database.shown().to_owned());
            return Err(StorageError::LogNotInDatabase { log_id, place });
        };
        Self::start(log, end, bytes)
    }

    pub(in crate::storage) fn frame_bytes(&self, entry: usize) -> usize {
        self.log.seal.frame_bytes(entry)
    }

    pub(in crate::storage) fn kept(&self) -> Kept {
        let Log { database, log_id, writer, hidden, .. } = self.log.clone();
        Kept { database, log_id, writer, encrypted: hidden }
    }

    pub(in crate::storage) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(in crate::storage) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Acquire)
    }

    /// The writer has committed everything below `end`.
    pub(super) fn publish(&self, end: u64, bytes: u64) {
        self.bytes.store(bytes, Ordering::Release);
        self.end.store(end, Ordering::Release);
    }

    /// The writer says whether it can reach the database.
    pub(super) fn set_away(&self, away: bool) {
        self.away.store(away, Ordering::Release);
    }

    /// Asks how far the log reaches, for who reads what another one writes.
    pub(super) fn look(&self) -> Result<(), StorageError> {
        let (answer, answered) = answers::sync_channel(1);
        let _ = self.asks.as_ref().map(|asks| asks.send(Ask { about: About::Head, answer }));
        if let Some(row) = wait(&answered)?.first() {
            self.publish(unsigned(row.get(0)), unsigned(row.get(1)));
        }
        Ok(())
    }

    pub(in crate::storage) fn read(&self, at: Position) -> Result<Entry, StorageError> {
        if self.away.load(Ordering::Acquire) {
            let reason = "an append waits for it".to_owned();
            return Err(StorageError::DatabaseAway { reason });
        }
        let end = self.end();
        if at.0 >= end {
            return Err(StorageError::NotInLog { at, end: Position(end) });
        }
        let rows = wait(&self.ask(at.0, at.0 + 1, 1))?;
        let row = rows.first().ok_or_else(|| damaged(at.0, at.0 + 1, "the row is missing"))?;
        self.entry(at.0, row)
    }

    /// Visits every entry from `from` to the end as it was when called; returns that end.
    pub(in crate::storage) fn replay<E: From<StorageError>>(
        &self,
        from: Position,
        visit: &mut dyn FnMut(Position, Entry) -> Result<(), E>,
    ) -> Result<Position, E> {
        self.replay_to(from, Position(self.end()), visit)
    }

    /// As `replay`, up to a place before the end.
    pub(super) fn replay_to<E: From<StorageError>>(
        &self,
        from: Position,
        to: Position,
        visit: &mut dyn FnMut(Position, Entry) -> Result<(), E>,
    ) -> Result<Position, E> {
        let end = self.end();
        if from.0 > end {
            return Err(StorageError::NotInLog { at: from, end: Position(end) }.into());
        }
        let end = to.0.min(end);
        let [mut limit, most] = PAGE_ROWS;
        let mut at = from.0;
        let mut coming = (at < end).then(|| self.ask(at, end, limit));
        while let Some(asked) = coming.take() {
            let rows = self.page(asked, at, end, limit)?;
            let next = at + rows.len() as u64;
            let bytes: u64 = rows.iter().map(|row| row.get::<_, &[u8]>(2).len() as u64 + 64).sum();
            limit = (PAGE_BYTES * rows.len() as u64 / bytes.max(1)).clamp(PAGE_ROWS[0], most);
            coming = (next < end && !rows.is_empty()).then(|| self.ask(next, end, limit));
            if rows.is_empty() {
                return Err(damaged(at, end, "rows are missing here").into());
            }
            for row in &rows {
                let entry = self.entry(at, row)?;
                visit(Position(at), entry)?;
                at += 1;
            }
        }
        Ok(Position(end))
    }

    /// Waits for a page that was asked for; asks again when the connection was lost.
    fn page(&self, asked: Answer, from: u64, to: u64, limit: u64) -> Result<Vec<Row>, StorageError> {
        let mut asked = asked;
        for tried in 1.. {
            match wait(&asked) {
                Err(StorageError::Database(error)) if error.passes != Passes::Never && tried < PAGE_TRIES => {
                    thread::sleep(Duration::from_millis(200 * u64::from(tried)));
                    asked = self.ask(from, to, limit);
                }
                other => return other,
            }
        }
        unreachable!("the last try is an answer")
    }

    /// The entry of the row that should stand at `at`.
    fn entry(&self, at: u64, row: &Row) -> Result<Entry, StorageError> {
        let position: i64 = row.get(0);
        if position != signed(at) {
            return Err(damaged(at, unsigned(position), "rows are missing here"));
        }
        entry(&self.log.seal, at, row.get(1), row.get(2), row.get(3))
    }

    fn ask(&self, from: u64, to: u64, limit: u64) -> Answer {
        let (answer, answered) = answers::sync_channel(1);
        let about = About::Rows { from, to, limit };
        // Without a thread nobody answers, and `wait` says so.
        let _ = self.asks.as_ref().map(|asks| asks.send(Ask { about, answer }));
        answered
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.asks = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != thread::current().id()) {
            let _ = thread.join();
        }
    }
}

type Answer = answers::Receiver<Result<Vec<Row>, DatabaseError>>;

fn wait(asked: &Answer) -> Result<Vec<Row>, StorageError> {
    match asked.recv_timeout(WAIT) {
        Ok(rows) => rows.map_err(StorageError::from),
        Err(answers::RecvTimeoutError::Disconnected) => Err(StorageError::Closed { operation: "read" }),
        Err(answers::RecvTimeoutError::Timeout) => {
            let reason = "the reader's connection does not answer".to_owned();
            Err(StorageError::DatabaseAway { reason })
        }
    }
}

/// Answers until the reader is gone, several questions at a time.
async fn serve(log: Log, mut asked: mpsc::UnboundedReceiver<Ask>) {
    let connection = Arc::new(tokio::sync::Mutex::new(None));
    let log = Arc::new(log);
    while let Some(ask) = asked.recv().await {
        let (log, connection) = (Arc::clone(&log), Arc::clone(&connection));
        tokio::spawn(async move {
            let rows = rows(&log, &connection, &ask).await;
            // Who asked may have stopped waiting.
            let _ = ask.answer.send(rows);
        });
    }
}

type Connection = tokio::sync::Mutex<Option<Arc<Serving>>>;

/// Asks over the connection there is; one that had ended while nobody asked is made anew, once.
async fn rows(log: &Log, connection: &Connection, ask: &Ask) -> Result<Vec<Row>, DatabaseError> {
    let had_one = connection.lock().await.is_some();
    match once(log, connection, ask).await {
        Err(error) if had_one && error.passes == Passes::Later => once(log, connection, ask).await,
        other => other,
    }
}

async fn once(log: &Log, connection: &Connection, ask: &Ask) -> Result<Vec<Row>, DatabaseError> {
    let serving = {
        let mut held = connection.lock().await;
        match held.as_ref().filter(|serving| !serving.link.is_closed()) {
            Some(serving) => Arc::clone(serving),
            None => {
                *held = None;
                let link = Link::connect(&log.database, "hub reader").await?;
                let page = link.prepare("preparing to read the log", PAGE).await?;
                let head = link.prepare("preparing to read the log", HEAD).await?;
                Arc::clone(held.insert(Arc::new(Serving { link, page, head })))
            }
        }
    };
    let (operation, id) = ("reading the log", &log.log_id[..]);
    let read = match ask.about {
        About::Rows { from, to, limit } => {
            let (from, to, limit) = (signed(from), signed(to), signed(limit));
            serving.link.query(operation, &serving.page, &[&id, &from, &to, &limit]).await
        }
        About::Head => serving.link.query(operation, &serving.head, &[&id]).await,
    };
    if read.is_err() {
        let mut held = connection.lock().await;
        if held.as_ref().is_some_and(|held| Arc::ptr_eq(held, &serving)) {
            *held = None;
        }
    }
    read
}
