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
//! known.rs   what the tables say already
//! rows.rs    what is new, as columns
//! write.rs   one transaction
//! forget.rs  a company whose log has left the database
//! webhooks/  the feed that comes of it, brought to receivers
//! ```

mod forget;
mod gather;
mod known;
mod rows;
#[cfg(test)]
mod tests;
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
use crate::runtime::clock::{Clock, now_ms};
use crate::runtime::store::{StoreError, StoreHandle};
use crate::storage::Kept;
pub(crate) use forget::forget;
use gather::{Look, News, gather};
use known::Known;
use write::{Cursor, Portion, Target};

/// How often stores are asked whether they have something new.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How soon they are asked again when that brought a whole portion: more is on its way.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How often the days are looked at that change although nothing new is recorded of them: time alone changes their state.
const DAYS_EVERY: Duration = Duration::from_secs(60);
/// Shortest and longest pause after a failure.
const PAUSE: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(30)];
/// Records of one transaction, and journal entries: while a store is level, and at most when much waits. Others wait while
/// the store's task gathers them.
const PORTION: [usize; 2] = [1_000, 4_000];
/// A portion that took longer to write is not followed by a greater one.
const UNHURRIED: Duration = Duration::from_secs(1);

/// What is remembered of a store between two looks.
struct Followed {
    cursor: Cursor,
    known: Arc<Known>,
    /// What was brought over last, if everything was.
    revision: Option<Revision>,
    /// When the days were looked at last that time changes.
    days_looked: Option<Instant>,
    portion: usize,
}

impl Followed {
    fn new((cursor, known): (Cursor, Known)) -> Self {
        let known = Arc::new(known);
        Self { cursor, known, revision: None, days_looked: None, portion: PORTION[0] }
    }
}

/// Why a look ended early.
enum Broken {
    /// The database, or another follower: begin again from what the tables say.
    Failed(String),
    /// The node is stopping, or the log is another hub's.
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
            StoreError::Stopping | StoreError::ChangesHands => Broken::Stopping,
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
    let target = match target {
        Ok(target) => target,
        Err(error) => return error.into(),
    };
    let mut followed: BTreeMap<StoreId, Followed> = BTreeMap::new();
    let mut exports = None;
    loop {
        let busy = match follow_stores(rooms, number, &target, &mut followed).await {
            Ok(busy) => busy,
            Err(broken) => return broken,
        };
        if number == 0
            && let Err(error) = bring_exports(rooms, &target, kept.log_id, &mut exports).await
        {
            return error.into();
        }
        *failures = 0;
        tokio::time::sleep(if busy { LOOK_AGAIN } else { LOOK_EVERY }).await;
    }
}

/// Brings over what is new of the stores of a log. While a portion is written the next one is gathered, of the same store or
/// of another. Whether that was a whole portion of some store, so that more can be expected soon.
async fn follow_stores(
    rooms: &Rooms,
    number: u16,
    target: &Target,
    all: &mut BTreeMap<StoreId, Followed>,
) -> Result<bool, Broken> {
    let (mut ready, mut busy) = (None::<Portion>, false);
    for handle in rooms.own_of(number) {
        let store = handle.store();
        if !all.contains_key(store) {
            // What is asked then must not come into the midst of a transaction.
            write(target, ready.take()).await?;
            all.insert(store.clone(), Followed::new(begin(target, &handle).await?));
        }
        let Some(followed) = all.get_mut(store) else { continue };
        loop {
            let gathered = followed.next(&handle, &rooms.clock, target.took() < UNHURRIED);
            let (written, next) = tokio::join!(write(target, ready.take()), gathered);
            written?;
            ready = next?;
            busy |= ready.as_ref().is_some_and(|portion| portion.rows.receipts.len() >= PORTION[0]);
            if followed.revision.is_some() || ready.is_none() {
                break;
            }
        }
    }
    write(target, ready).await?;
    Ok(busy)
}

async fn write(target: &Target, portion: Option<Portion>) -> Result<(), Broken> {
    match portion {
        Some(portion) => Ok(target.write(&portion).await?),
        None => Ok(()),
    }
}

impl Followed {
    /// The next portion of what is new, taken for written: if it is not, the follower begins again from what the tables say.
    /// `None`: nothing is new.
    async fn next(
        &mut self,
        handle: &StoreHandle,
        clock: &Clock,
        unhurried: bool,
    ) -> Result<Option<Portion>, Broken> {
        let for_time = self.days_looked.is_none_or(|looked| looked.elapsed() >= DAYS_EVERY);
        if !for_time && self.revision.is_some() && handle.revision_shown() == self.revision {
            return Ok(None);
        }
        let look = Look {
            seen: self.revision,
            from: self.cursor.batches,
            records: self.portion,
            for_time,
            now_ms: now_ms(),
        };
        let (known, clock) = (Arc::clone(&self.known), clock.clone());
        let asked = handle.ask(move |replica| gather(replica, look, &known, &clock)).await?;
        let Some(news) = asked else { return Ok(None) };
        // Nothing is written that a crash could take back.
        if !news.durable && !handle.is_durable_at(news.revision, news.persisted).await? {
            self.revision = None;
            return Ok(None);
        }
        let from = self.cursor;
        // Of a store that is level nothing is read.
        let journal = if news.journal_head > from.journal {
            handle.journal(from.journal + 1, self.portion).await?
        } else {
            Vec::new()
        };
        let through = journal.last().map_or(from.journal, |entry| entry.number);
        let whole = !news.more && through >= news.journal_head;
        let [least, most] = PORTION;
        self.portion = if whole || !unhurried { least } else { (2 * self.portion).min(most) };
        self.cursor = Cursor { batches: news.batches, journal: through };
        self.revision = whole.then_some(news.revision);
        if for_time {
            self.days_looked = Some(Instant::now());
        }
        // The question is over, and with it the other handle.
        let News { changes, rows, .. } = news;
        Arc::make_mut(&mut self.known).take(changes);
        let store = handle.store().to_string();
        let portion = Portion { store, from, to: self.cursor, rows, journal };
        Ok((!portion.is_empty()).then_some(portion))
    }
}

/// What the tables say of a store. Tables that are ahead of the log, or of another journal, are emptied: the log is the
/// truth, and it may have been replaced by an older copy.
async fn begin(target: &Target, handle: &StoreHandle) -> Result<(Cursor, Known), Broken> {
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
    target: &Target,
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
