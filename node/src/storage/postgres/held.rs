//! All logs of a company in the hands of a process that takes them elsewhere (`hub move`): no hub can append to one of them, not
//! even one that was paused and wakes up later. In the end the logs are marked as moved, all in one transaction and only if nobody
//! took one meanwhile. A moved log has a lease that does not end, so every hub that still names it is refused and told where it went.

use super::company::{ask, log_id};
use super::row::entry;
use super::{Seal, StorageError, Vault, place};
use crate::database::{Database, DatabaseError, Link, Passes, Row, ToSql, schema};
use crate::storage::Entry;
use crate::storage::logs::folder_of;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

/// How often the leases are prolonged; one is 5 s, as a hub's.
const KEEP_EVERY: Duration = Duration::from_millis(1_500);
/// How long a lease in force is waited for, a little longer than a hub's.
const WAIT: Duration = Duration::from_secs(8);
/// Tries to mark the logs as moved when the connection is lost.
const TRIES: u32 = 5;

const MAKE: &str =
    "INSERT INTO tillsync.log (log_id, next_position, total_bytes, fence, writer, last_append)
    SELECT log_id, 0, 0, 0, $2::bytea, $2::bytea FROM unnest($1::bytea[]) AS rows (log_id) ON CONFLICT DO NOTHING";
const TAKE: &str = "UPDATE tillsync.log
    SET fence = fence + 1, writer = $2, holder = $3, hub = $5, lease_until = now() + interval '5 seconds'
    WHERE log_id = ANY($1) AND (lease_until <= now() OR writer = $2 OR writer = ANY($4))";
const OTHERS: &str = "SELECT holder, lease_until::text FROM tillsync.log
    WHERE log_id = ANY($1) AND lease_until > now() AND writer <> $2 AND writer <> ALL($3) ORDER BY log_id";
const HUBS: &str = "SELECT holder, alive_until::text FROM tillsync.hub
    WHERE company = $1 AND hub <> $2 AND alive_until > now() ORDER BY hub";
const KEEP: &str = "UPDATE tillsync.log SET lease_until = now() + interval '5 seconds'
    WHERE log_id = ANY($1) AND writer = $2";
const MOVED: &str = "UPDATE tillsync.log
    SET fence = fence + 1, holder = $3, hub = NULL, lease_until = '9999-12-31 00:00:00+00'
    WHERE log_id = ANY($1) AND writer = $2";
const RELEASE: &str = "UPDATE tillsync.log SET lease_until = now()
    WHERE log_id = ANY($1) AND writer = $2 AND lease_until < '9000-01-01 00:00:00+00'";
const WHERE_TO: &str = "SELECT holder, writer FROM tillsync.log
    WHERE log_id = $1 AND lease_until > '9000-01-01 00:00:00+00'";
const FIRSTS: &str = "SELECT l.log_id, l.holder, e.kind, e.bytes, e.hash
    FROM tillsync.log l JOIN tillsync.entry e ON e.log_id = l.log_id AND e.position = 0
    WHERE l.lease_until < '9000-01-01 00:00:00+00'";

/// Logs that this process holds until it lets them go.
pub(crate) struct Held {
    asks: Option<Sender<Ask>>,
    thread: Option<JoinHandle<()>>,
}

/// Asks to mark the logs, for people in these words, as moved.
struct Ask {
    holder: String,
    answer: Sender<Result<(), StorageError>>,
}

/// Where a log went, if it was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gone {
    /// In words.
    pub(crate) holder: String,
    /// The move that took it.
    pub(crate) mover: Vec<u8>,
}

/// Looks whether a log was moved away.
///
/// # Errors
/// The database cannot be asked.
pub(crate) async fn gone(link: &Link, log_id: [u8; 16]) -> Result<Option<Gone>, DatabaseError> {
    let rows = link.query("looking whether the log was moved", WHERE_TO, &[&&log_id[..]]).await?;
    Ok(rows.first().map(|row| Gone { holder: row.get(0), mover: row.get(1) }))
}

/// As `gone`, over a connection of its own. Blocking.
///
/// # Errors
/// The database cannot be asked.
pub(crate) fn where_it_went(database: &Database, log_id: [u8; 16]) -> Result<Option<Gone>, StorageError> {
    ask(database, |link| async move { gone(&link, log_id).await })
}

/// Looks for a log that begins with one of these entries and was not moved away: its id and who held it last. Blocking.
///
/// # Errors
/// The database cannot be asked.
pub(crate) fn begins_like(
    database: &Database,
    vault: Option<&Vault>,
    entries: &[Entry],
) -> Result<Option<(String, String)>, StorageError> {
    let firsts = ask(database, |link| async move {
        if schema::version(&link).await? == 0 {
            return Ok(Vec::new());
        }
        link.query("looking which logs are there", FIRSTS, &[]).await
    })?;
    let begins = |row: &Row| {
        let id = <[u8; 16]>::try_from(row.get::<_, &[u8]>(0)).ok()?;
        let first = entry(&Seal::new(&id, vault), 0, row.get(2), row.get(3), row.get(4)).ok()?;
        entries.contains(&first).then(|| (super::hex(&id), row.get::<_, String>(1)))
    };
    Ok(firsts.iter().find_map(begins))
}

impl Held {
    /// Takes every log of a company for the move `mover`, which knows its own logs again when it is run again. Hubs that were killed
    /// in `dir` are not waited for. Blocking.
    ///
    /// # Errors
    /// A hub has one of them, or the database fails.
    pub(crate) fn take(
        database: &Database,
        company: [u8; 16],
        shards: u16,
        dir: &Path,
        mover: [u8; 16],
    ) -> Result<Held, StorageError> {
        let before = (0..=shards).filter_map(|number| place::last_writer(&folder_of(dir, number)));
        let before: Vec<Vec<u8>> =
            before.chain(place::last_writer(dir)).map(|writer| writer.to_vec()).collect();
        let keeper = Keeper {
            database: database.clone(),
            company,
            ids: (0..=shards).map(|number| log_id(company, number).to_vec()).collect(),
            mover,
            holder: format!("a move of {}", place::this_process(dir)),
            here: place::name_of(dir),
            before,
        };
        let (asks, asked) = mpsc::channel::<Ask>();
        let (send, taken) = mpsc::channel();
        let runtime = super::runtime(dir)?;
        let builder = thread::Builder::new().name("storage-held".into());
        let thread = builder.spawn(move || {
            let mut link = match runtime.block_on(keeper.take()) {
                Ok(link) => {
                    drop(send.send(Ok(())));
                    Some(link)
                }
                Err(error) => return drop(send.send(Err(error))),
            };
            loop {
                match asked.recv_timeout(KEEP_EVERY) {
                    // Only whether nobody took them in the end matters, and that is seen when they are marked.
                    Err(RecvTimeoutError::Timeout) => keeper.keep(&runtime, &mut link),
                    Err(RecvTimeoutError::Disconnected) => return keeper.release(&runtime, link.as_ref()),
                    Ok(Ask { holder, answer }) => {
                        return drop(answer.send(keeper.mark(&runtime, link, &holder)));
                    }
                }
            }
        });
        let thread = thread.map_err(|e| StorageError::io("starting the keeper of the logs of", dir, &e))?;
        let held = Held { asks: Some(asks), thread: Some(thread) };
        taken.recv().map_err(|_| StorageError::Closed { operation: "open" })??;
        // Should this process die, the next one in this directory need not wait for its lease.
        let folders = (0..=shards).map(|number| folder_of(dir, number)).filter(|folder| folder.is_dir());
        for folder in folders.chain([dir.to_path_buf()]) {
            place::note_writer(&folder, mover)?;
        }
        Ok(held)
    }

    /// Marks the logs as moved for good. `holder` says where to. May be said again by the same move. Blocking.
    ///
    /// # Errors
    /// A hub has taken one of them meanwhile, or the database fails; what this says is then not known to be so.
    pub(crate) fn mark(mut self, holder: String) -> Result<(), StorageError> {
        let closed = || StorageError::Closed { operation: "marking the logs as moved" };
        let (answer, answered) = mpsc::channel();
        let asks = self.asks.take().ok_or_else(closed)?;
        asks.send(Ask { holder, answer }).map_err(|_| closed())?;
        answered.recv().map_err(|_| closed())?
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.asks = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Keeper {
    database: Database,
    company: [u8; 16],
    ids: Vec<Vec<u8>>,
    mover: [u8; 16],
    holder: String,
    /// The hub of this directory, which does not run.
    here: [u8; 16],
    before: Vec<Vec<u8>>,
}

impl Keeper {
    async fn take(&self) -> Result<Link, StorageError> {
        let operation = "taking the company's logs";
        let link = Link::connect(&self.database, "hub move").await?;
        schema::migrate(&link).await?;
        let begun = Instant::now();
        loop {
            let held = self.others(&link, operation).await?;
            if held.is_empty() && self.try_take(&link, operation).await? {
                return Ok(link);
            }
            if let Some(row) = held.first().filter(|_| begun.elapsed() >= WAIT) {
                let (place, holder, until) = (self.database.shown().to_owned(), row.get(0), row.get(1));
                return Err(StorageError::LeaseHeld { place, holder, until });
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    }

    /// Who else has one of the logs, or is a hub of the company.
    async fn others(&self, link: &Link, operation: &'static str) -> Result<Vec<Row>, DatabaseError> {
        let mover = &self.mover[..];
        let held = link.query(operation, OTHERS, &[&self.ids, &mover, &self.before]).await?;
        if !held.is_empty() {
            return Ok(held);
        }
        link.query(operation, HUBS, &[&&self.company[..], &&self.here[..]]).await
    }

    /// All of them or none.
    async fn try_take(&self, link: &Link, operation: &'static str) -> Result<bool, DatabaseError> {
        let mover = &self.mover[..];
        // Those that no hub has begun, too, so that none begins one behind this.
        link.execute(operation, MAKE, &[&self.ids, &mover]).await?;
        let here = &self.here[..];
        let values: [&(dyn ToSql + Sync); 5] = [&self.ids, &mover, &self.holder, &self.before, &here];
        self.all_or_none(link, operation, TAKE, &values).await
    }

    async fn all_or_none(
        &self,
        link: &Link,
        operation: &'static str,
        sql: &str,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<bool, DatabaseError> {
        link.batch(operation, "BEGIN; SET LOCAL synchronous_commit TO on").await?;
        let touched = link.execute(operation, sql, values).await;
        if touched.as_ref().is_ok_and(|touched| *touched == self.ids.len() as u64) {
            return link.batch(operation, "COMMIT").await.map(|()| true);
        }
        link.batch(operation, "ROLLBACK").await?;
        touched.map(|_| false)
    }

    fn keep(&self, runtime: &Runtime, link: &mut Option<Link>) {
        let kept = runtime.block_on(async {
            let there = match link.take().filter(|link| !link.is_closed()) {
                Some(there) => there,
                None => Link::connect(&self.database, "hub move").await?,
            };
            there.execute("keeping the logs", KEEP, &[&self.ids, &&self.mover[..]]).await?;
            Ok::<_, DatabaseError>(there)
        });
        match kept {
            Ok(there) => *link = Some(there),
            Err(error) => tracing::warn!("the logs are not kept for now: {error}"),
        }
    }

    fn mark(&self, runtime: &Runtime, mut link: Option<Link>, holder: &str) -> Result<(), StorageError> {
        let operation = "marking the logs as moved";
        let values: [&(dyn ToSql + Sync); 3] = [&self.ids, &&self.mover[..], &holder];
        for tried in 1.. {
            let marked = runtime.block_on(async {
                let there = match link.take().filter(|link| !link.is_closed()) {
                    Some(there) => there,
                    None => Link::connect(&self.database, "hub move").await?,
                };
                let marked = self.all_or_none(&there, operation, MOVED, &values).await?;
                Ok::<_, DatabaseError>(marked)
            });
            match marked {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    let place = self.database.shown().to_owned();
                    return Err(StorageError::TakenOver { log_id: super::hex(&self.company), place });
                }
                // Said twice it is the same.
                Err(error) if error.passes != Passes::Never && tried < TRIES => {
                    thread::sleep(Duration::from_millis(200 * u64::from(tried)));
                }
                Err(error) => return Err(error.into()),
            }
        }
        unreachable!("the last try is an answer")
    }

    /// Gives them back; if it does not arrive, the leases end by themselves.
    fn release(&self, runtime: &Runtime, link: Option<&Link>) {
        if let Some(link) = link {
            let values: [&(dyn ToSql + Sync); 2] = [&self.ids, &&self.mover[..]];
            let _ = runtime.block_on(link.execute("giving the logs back", RELEASE, &values));
        }
    }
}
