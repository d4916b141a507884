//! Starting again: the node's log makes the replicas of every store, the positions of their batches and the audit
//! ring. What the image of a store in the index holds is not looked into.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use engine::entry::{Entry as LogEntry, NODE_KINDS_FROM};
use engine::host::Looked;
use engine::ids::StoreId;
use engine::replica::{ReadBack, Replica, Stale};

use super::audit::{AUDIT_KIND, AuditEvent, Gathered};
use super::checkpoint::Saved;
use super::filing::{Filing, Misfit, Stopped};
use super::notes::ToldCases;
use super::positions::Positions;
use super::reached::Reached;
use super::workroom::Home;
use crate::error::Failure;
use crate::storage::{At, Entry, Logs, Position, Scratch, Storage, StorageError};

/// A store as the log left it.
pub struct RestoredStore {
    /// The replica.
    pub replica: Replica,
    /// Where its entries stand.
    pub positions: Positions,
    /// The last of them.
    pub through: Position,
    /// How many of its records were in an image.
    pub judged: u64,
    /// What of its cases the audit log tells already: judging the others again must not tell it again.
    pub told: ToldCases,
}

impl RestoredStore {
    /// A store of which the log holds nothing yet.
    #[must_use]
    pub fn of(fresh: Replica) -> Self {
        let positions = Positions::new(fresh.room());
        let (through, told) = (Position::default(), ToldCases::default());
        Self { replica: fresh, positions, through, judged: 0, told }
    }

    /// Notes where an entry of it stands.
    pub(super) fn note(&mut self, looked: Looked, at: Position) {
        self.positions.note(looked, at);
        self.through = at;
    }
}

/// Whether a start may go on from images.
#[derive(Clone, Copy)]
pub enum Images<'a> {
    /// Everything is read from the log.
    None,
    /// With their pieces in the scratch file.
    Of(&'a Scratch),
}

impl<'a> Images<'a> {
    /// Those of a node, if it has a scratch file.
    #[must_use]
    pub fn of(home: &'a Home) -> Self {
        home.scratch.as_deref().map_or(Self::None, Self::Of)
    }
}

/// Everything that a node's log holds.
#[derive(Default)]
pub struct Restored {
    /// The stores.
    pub stores: BTreeMap<StoreId, RestoredStore>,
    /// The newest audit events.
    pub audit: VecDeque<AuditEvent>,
    /// What the audit log tells of cases, by store; it goes to the stores when everything is read.
    told: BTreeMap<String, ToldCases>,
    /// The node's own entries (kinds from 65), in order.
    pub own: Vec<(u8, Vec<u8>)>,
}

/// A log that does not restore: damage, or an entry that contradicts what came before.
#[derive(Debug, thiserror::Error)]
pub enum RestoreFailure {
    /// The storage could not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// An entry does not fit.
    #[error(
        "entry at position {at} of the log does not fit: {reason}; run `tillsync verify` and restore the directory from a backup, or enrol anew and let the hub send the records back"
    )]
    Entry {
        /// Where it stands.
        at: Position,
        /// What is wrong.
        reason: String,
    },
}

impl From<RestoreFailure> for Failure {
    fn from(error: RestoreFailure) -> Self {
        Self::refused(error)
    }
}

/// Reads a node's log. `fresh` makes the empty replica of a store when the log first names it. With `images`, a store that
/// has one goes on from there, and of the log only what came after it is looked into.
///
/// # Errors
/// The log is damaged or contradicts itself.
pub fn restore(
    storage: &Storage,
    images: Images<'_>,
    mut fresh: impl FnMut(&StoreId) -> Result<Replica, String>,
) -> Result<Restored, RestoreFailure> {
    let saved = |store: &StoreId| match images {
        Images::Of(_) => Saved::read(storage.index(), store),
        Images::None => None,
    };
    let reached = match images {
        Images::Of(_) if storage.in_database() => reached(storage)?,
        _ => Reached::default(),
    };
    let begins = reached.begins();
    let replay = |visit: &mut Visit<'_>| storage.replay(begins, visit).map(drop);
    let read = catch_unwind(AssertUnwindSafe(|| read_log(&replay, &mut fresh, saved, &reached)));
    let replay = |visit: &mut Visit<'_>| storage.replay(Position(0), visit).map(drop);
    let restored = match read {
        Ok(Err(Unread::Log(failure))) => return Err(failure),
        Ok(Ok(restored)) => restored,
        Ok(Err(Unread::Image(store, stale))) => {
            tracing::warn!(%store, "{stale}");
            without_images(&replay, &mut fresh)?
        }
        Err(panic) => match images {
            Images::None => resume_unwind(panic),
            // A piece that an image names cannot be read: everything is in the log.
            Images::Of(_) => {
                tracing::warn!("a checkpoint cannot be used; everything is read from the log");
                without_images(&replay, &mut fresh)?
            }
        },
    };
    if let Images::Of(scratch) = images {
        scratch.settle();
    }
    Ok(restored)
}

/// As `restore`, from every log of a directory that no node runs on. A store is in one log, and positions are those in it.
///
/// # Errors
/// A log is damaged or contradicts itself.
pub fn restore_at_rest(
    logs: &Logs,
    mut fresh: impl FnMut(&StoreId) -> Result<Replica, String>,
) -> Result<Restored, RestoreFailure> {
    let replay = |visit: &mut Visit<'_>| {
        logs.replay(&mut |at: At, entry| {
            visit(at.position, entry).map_err(|failure| match failure {
                RestoreFailure::Entry { reason, .. } if at.log > 0 => {
                    RestoreFailure::Entry { at: at.position, reason: format!("shard {}: {reason}", at.log) }
                }
                other => other,
            })
        })
    };
    without_images(&replay, &mut fresh)
}

/// How far the images reach together, if the log is the one of which they were made.
fn reached(storage: &Storage) -> Result<Reached, StorageError> {
    let Some(reached) = Reached::read(storage.index()) else { return Ok(Reached::default()) };
    if !reached.seen.is_in(storage.end(), |at| storage.read(at))? {
        tracing::warn!("the log is another one than when it was read along; it is read from its start");
        return Ok(Reached::default());
    }
    tracing::info!(from = reached.from.0, "the log is read from where the checkpoints end");
    Ok(reached)
}

fn without_images(
    replay: Replay<'_>,
    fresh: &mut impl FnMut(&StoreId) -> Result<Replica, String>,
) -> Result<Restored, RestoreFailure> {
    read_log(replay, fresh, |_| None, &Reached::default()).map_err(|unread| match unread {
        Unread::Log(failure) => failure,
        Unread::Image(..) => unreachable!("there is none"),
    })
}

/// What is done with an entry.
type Visit<'a> = dyn FnMut(Position, Entry) -> Result<(), RestoreFailure> + 'a;
/// Gives every entry to a visitor, in order.
type Replay<'a> = &'a dyn Fn(&mut Visit<'_>) -> Result<(), RestoreFailure>;

/// Why a log was not read to its end.
enum Unread {
    Log(RestoreFailure),
    Image(StoreId, Stale),
}

/// Reads the log from its start, or from where its images reach; stores begin with what is saved of them.
fn read_log(
    replay: Replay<'_>,
    fresh: &mut impl FnMut(&StoreId) -> Result<Replica, String>,
    saved: impl Fn(&StoreId) -> Option<Saved>,
    reached: &Reached,
) -> Result<Restored, Unread> {
    let (mut restored, mut events) = (Restored::default(), Gathered::default());
    let (read, filed) = std::thread::scope(|scope| {
        let mut filing = Filing::new(scope);
        let mut begin = |filing: &mut Filing<'_>, store: &StoreId| {
            let (made, saved) = (RestoredStore::of(fresh(store)?), saved(store));
            if saved.is_none() && reached.stores.contains(store) {
                return Err(filing.is_missing(store));
            }
            filing.begin(store, made, saved, reached.seen.at).map_err(stopped)
        };
        let begun = reached.stores.iter().try_for_each(|store| begin(&mut filing, store));
        let at = reached.from;
        let begun = begun.map_err(|reason| RestoreFailure::Entry { at, reason });
        let read = begun.and_then(|()| {
            replay(&mut |at, entry| {
                if at < reached.from && entry.kind != AUDIT_KIND {
                    return Ok(());
                }
                take(&mut restored, &mut events, &mut filing, &mut begin, at, entry)
                    .map_err(|reason| RestoreFailure::Entry { at, reason })
            })
        });
        let whole = read.is_ok();
        (read, filing.finish(whole))
    });
    // What did not fit where it was filed stands before the entry at which the reading noticed it.
    restored.stores = filed.map_err(|misfit| match misfit {
        Misfit::Entry { at, reason } => Unread::Log(RestoreFailure::Entry { at, reason }),
        Misfit::Image(store, stale) => Unread::Image(store, stale),
    })?;
    read.map_err(Unread::Log)?;
    restored.audit = events.in_order();
    for (store, made) in &mut restored.stores {
        made.replica.restored();
        let records = made.replica.books().len();
        tracing::info!(%store, records, from_checkpoint = made.judged, "books restored");
        made.told = restored.told.remove(store.as_str()).unwrap_or_default();
    }
    Ok(restored)
}

fn stopped(_: Stopped) -> String {
    "what was read before it does not fit".to_owned()
}

/// Reads one store back from a node's log into an empty replica of it. It is done after a panic, so nothing is taken over that
/// was in memory before it.
///
/// # Errors
/// The log is damaged or contradicts itself.
pub fn restore_store(
    storage: &Storage,
    store: &StoreId,
    fresh: Replica,
) -> Result<RestoredStore, RestoreFailure> {
    let mut made = RestoredStore::of(fresh);
    storage.replay(Position(0), &mut |at, entry: Entry| {
        let failed = |reason: String| RestoreFailure::Entry { at, reason };
        if entry.kind == AUDIT_KIND {
            let event = AuditEvent::decode(&entry.bytes);
            let of_store = event.filter(|event| event.store.as_deref() == Some(store.as_str()));
            of_store.iter().for_each(|event| made.told.note(event));
            return Ok(());
        }
        if entry.kind >= AUDIT_KIND.min(NODE_KINDS_FROM) {
            return Ok(());
        }
        let (of, log_entry) =
            LogEntry::decode(entry.kind, &entry.bytes).map_err(|error| failed(error.to_string()))?;
        if of != *store {
            return Ok(());
        }
        made.note(Looked::of(&log_entry), at);
        made.replica.restore(log_entry).map_err(|error| failed(error.to_string()))
    })?;
    made.replica.restored();
    Ok(made)
}

fn take(
    restored: &mut Restored,
    events: &mut Gathered,
    filing: &mut Filing<'_>,
    begin: &mut impl FnMut(&mut Filing<'_>, &StoreId) -> Result<(), String>,
    at: Position,
    entry: Entry,
) -> Result<(), String> {
    if entry.kind == AUDIT_KIND {
        if let Some(event) = AuditEvent::decode(&entry.bytes) {
            if let Some(store) = &event.store {
                restored.told.entry(store.clone()).or_default().note(&event);
            }
            events.take(event);
        }
        return Ok(());
    }
    if entry.kind >= NODE_KINDS_FROM {
        restored.own.push((entry.kind, entry.bytes));
        return Ok(());
    }
    let store = LogEntry::store_of(&entry.bytes).map_err(|error| error.to_string())?;
    if !filing.knows(&store) {
        begin(filing, &store)?;
    }
    if filing.holds(&store, at, &entry).map_err(stopped)? {
        return Ok(());
    }
    let (_, log_entry) = LogEntry::decode(entry.kind, &entry.bytes).map_err(|error| error.to_string())?;
    let looked = Looked::of(&log_entry);
    let ready = ReadBack::of(log_entry).map_err(|error| error.to_string())?;
    filing.take(&store, at, looked, ready, entry.bytes.len()).map_err(stopped)
}
