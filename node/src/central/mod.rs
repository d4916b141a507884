//! The company's books as tables that people can query, in the database that the hub's log lies in.
//!
//! A follower in the hub brings over, store by store, what is durable in the log: receipts batch by batch, the journal entry
//! by entry, and what was decided since (cases, custody, days). Rows and the cursor that says how far they reach are
//! written in one transaction, which changes nothing if the cursor is not where this follower left it, or the log is another
//! process's by now; so whatever breaks off is there once or not at all, and a hub that was paused and wakes up late neither
//! writes nor empties anything. It is never in the way of an acknowledgement, and nothing in these tables is believed
//! by the hub: they can be dropped and are filled anew.
//!
//! ```text
//! gather.rs  asks a store's task what is new
//! rows.rs    what is new, as columns
//! write.rs   one transaction
//! forget.rs  a company whose log has left the database
//! webhooks/  the feed that comes of it, brought to receivers
//! ```

mod forget;
mod gather;
mod rows;
pub(crate) mod webhooks;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::ids::StoreId;
use engine::replica::Revision;
use tokio::sync::{Notify, watch};

use crate::cluster::log_id;
use crate::database::{DatabaseError, Link};
use crate::hub::{Room, Rooms};
use crate::runtime::store::{StoreError, StoreHandle};
use crate::storage::Kept;
pub(crate) use forget::forget;
use gather::{Known, News, gather};
use write::{Cursor, Target};

/// How often stores are asked whether they have something new.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the newest days are looked at although nothing new was recorded: time alone changes their state.
const DAYS_EVERY: Duration = Duration::from_secs(60);
/// Shortest and longest pause after a failure.
const PAUSE: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];
/// Journal entries of one transaction; the store's task reads them from the log meanwhile.
const ENTRIES_MAX: usize = 256;

/// What is remembered of a store between two looks.
struct Followed {
    cursor: Cursor,
    known: Arc<Known>,
    /// What was brought over last, if everything was.
    revision: Option<Revision>,
    looked: Instant,
}

/// Why a look ended early.
enum Broken {
    /// The database, or another follower: begin again from what the tables say.
    Failed(String),
    /// The node is stopping.
    Stopping,
}

impl From<DatabaseError> for Broken {
    fn from(error: DatabaseError) -> Self {
        Broken::Failed(error.to_string())
    }
}

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Stopping => Broken::Stopping,
            other => Broken::Failed(other.to_string()),
        }
    }
}

/// Fills the tables from one of the logs that this process holds, and tells receivers of it, until it stops or the log is
/// another hub's.
pub(crate) async fn follow(rooms: Arc<Rooms>, number: u16, stop: watch::Receiver<bool>) {
    let Some(room) = rooms.held().remove(&number) else { return };
    let Some(kept) = room.storage().kept_in() else { return };
    if kept.encrypted {
        tracing::info!("the log is encrypted, so its books are not written into tables");
        return;
    }
    let written = Arc::new(Notify::new());
    // Who follows a log delivers for it, and for no longer than that.
    tokio::select! {
        () = fill(&rooms, number, &room, &kept, &written, stop) => {}
        () = webhooks::deliver(&rooms, &kept.database, kept.log_id, &written) => {}
    }
}

/// Fills the tables until the hub stops or the log takes nothing more. `written` hears of every transaction.
async fn fill(
    rooms: &Arc<Rooms>,
    number: u16,
    room: &Room,
    kept: &Kept,
    written: &Arc<Notify>,
    mut stop: watch::Receiver<bool>,
) {
    let mut failures = 0_u32;
    loop {
        let following = run(rooms, number, kept, written, &mut failures);
        let broken = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            broken = following => broken,
        };
        match broken {
            Broken::Stopping => return,
            Broken::Failed(_) if room.storage().is_poisoned().is_some() => return,
            Broken::Failed(error) => {
                failures += 1;
                if failures.is_power_of_two() {
                    tracing::warn!("the tables of the books are behind: {error}");
                }
            }
        }
        let [shortest, longest] = PAUSE;
        let pause = (shortest * failures.min(8).pow(2)).min(longest);
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Follows over one connection until something breaks.
async fn run(
    rooms: &Arc<Rooms>,
    number: u16,
    kept: &Kept,
    written: &Arc<Notify>,
    failures: &mut u32,
) -> Broken {
    let target = match Link::connect(&kept.database, "hub ledger").await {
        Ok(link) => Target::new(link, kept, Arc::clone(written)).await,
        Err(error) => Err(error),
    };
    let mut target = match target {
        Ok(target) => target,
        Err(error) => return error.into(),
    };
    let mut followed: BTreeMap<StoreId, Followed> = BTreeMap::new();
    let mut exports = None;
    loop {
        for handle in rooms.own_of(number) {
            if let Err(broken) = follow_store(rooms, &mut target, &handle, &mut followed).await {
                return broken;
            }
        }
        if number == 0
            && let Err(error) = bring_exports(rooms, &mut target, kept.log_id, &mut exports).await
        {
            return error.into();
        }
        *failures = 0;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Brings over what is new of one store.
async fn follow_store(
    rooms: &Rooms,
    target: &mut Target,
    handle: &StoreHandle,
    all: &mut BTreeMap<StoreId, Followed>,
) -> Result<(), Broken> {
    let store = handle.store().clone();
    if !all.contains_key(&store) {
        let (cursor, known) = begin(target, handle).await?;
        let followed = Followed { cursor, known: Arc::new(known), revision: None, looked: Instant::now() };
        all.insert(store.clone(), followed);
    }
    let Some(followed) = all.get_mut(&store) else { return Ok(()) };
    loop {
        let time_is_up = followed.looked.elapsed() >= DAYS_EVERY;
        let seen = followed.revision.filter(|_| !time_is_up);
        let (known, from, clock) =
            (Arc::clone(&followed.known), followed.cursor.batches, rooms.clock.clone());
        let asked = handle.ask(move |replica| gather(replica, seen, from, &known, &clock)).await?;
        let Some(news) = asked else { return Ok(()) };
        // Nothing is written that a crash could take back.
        if !handle.is_durable_at(news.revision, news.persisted).await? {
            return Ok(());
        }
        let journal = handle.journal(followed.cursor.journal + 1, ENTRIES_MAX).await?;
        let through = journal.last().map_or(followed.cursor.journal, |entry| entry.number);
        let whole = !news.more && through >= news.journal_head;
        let next = Cursor { batches: news.batches, journal: through };
        if !news.is_empty() || next != followed.cursor {
            target.write(store.as_str(), followed.cursor, next, &news, &journal).await?;
        }
        let News { revision, changes, .. } = news;
        // The question is over, and with it the other handle.
        Arc::make_mut(&mut followed.known).take(changes);
        followed.cursor = next;
        followed.looked = Instant::now();
        followed.revision = whole.then_some(revision);
        if whole {
            return Ok(());
        }
    }
}

/// What the tables say of a store. Tables that are ahead of the log, or of another journal, are emptied: the log is the
/// truth, and it may have been replaced by an older copy.
async fn begin(target: &mut Target, handle: &StoreHandle) -> Result<(Cursor, Known), Broken> {
    let store = handle.store().as_str();
    let (cursor, known) = target.begin(store).await?;
    let (batches, journal) =
        handle.ask(|replica| (replica.batch_count() as u64, replica.books().journal_head().number)).await?;
    let ahead = cursor.batches > batches || cursor.journal > journal;
    let same = !ahead && {
        let last = if cursor.journal == 0 { Vec::new() } else { handle.journal(cursor.journal, 1).await? };
        target.journal_ends_with(store, cursor.journal, last.first()).await?
    };
    if same {
        return Ok((cursor, known));
    }
    tracing::warn!(store, "the tables of the books are not those of the log; they are filled anew");
    target.empty(store).await?;
    Ok(target.begin(store).await?)
}

/// Brings over which ranges of the journals were exported since.
async fn bring_exports(
    rooms: &Rooms,
    target: &mut Target,
    company: [u8; 16],
    done: &mut Option<u64>,
) -> Result<(), DatabaseError> {
    let Some(hub) = rooms.company() else { return Ok(()) };
    let log_of = |store: &StoreId| log_id(company, rooms.number_of(store));
    let (mut ranges, through) = hub.export_ranges(done.unwrap_or(0)).await;
    if done.is_none() {
        // What the tables have may be of a log that was replaced by an older copy.
        let logs: Vec<[u8; 16]> = (0..=rooms.shards).map(|number| log_id(company, number)).collect();
        target.keep_exports(&logs, &mut ranges, log_of).await?;
    }
    if !ranges.is_empty() {
        target.write_exports(&ranges, log_of).await?;
    }
    *done = Some(through);
    Ok(())
}
