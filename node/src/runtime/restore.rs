//! Starting again: the node's log makes the replicas of every store, the positions of their batches and the audit
//! ring. What a checkpoint in the index holds already is not replayed.

use std::collections::{BTreeMap, VecDeque};

use engine::entry::{Entry as LogEntry, NODE_KINDS_FROM};
use engine::host::Looked;
use engine::ids::StoreId;
use engine::replica::{ReadBack, Replica, Stale};

use super::audit::{self, AUDIT_KIND, AuditEvent};
use super::checkpoint;
use super::filing::{Filing, Misfit};
use super::notes::ToldCases;
use super::positions::Positions;
use crate::error::Failure;
use crate::storage::{Entry, Position, Storage, StorageError};

/// A store as the log left it.
pub struct RestoredStore {
    /// The replica.
    pub replica: Replica,
    /// Where its entries stand.
    pub positions: Positions,
    /// How many of its records a checkpoint had judged.
    pub judged: u64,
    /// What of its cases the audit log tells already: judging the others again must not tell it again.
    pub told: ToldCases,
}

impl RestoredStore {
    /// A store of which the log holds nothing yet.
    #[must_use]
    pub fn of(fresh: Replica) -> Self {
        let positions = Positions::new(fresh.room());
        Self { replica: fresh, positions, judged: 0, told: ToldCases::default() }
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

/// Reads a node's log. `fresh` makes the empty replica of a store when the log first names it.
///
/// # Errors
/// The log is damaged or contradicts itself.
pub fn restore(
    storage: &Storage,
    mut fresh: impl FnMut(&StoreId) -> Result<Replica, String>,
) -> Result<Restored, RestoreFailure> {
    let from_checkpoint = |store: &StoreId, replica: &mut Replica| {
        if let Some(image) = checkpoint::read(storage, store) {
            replica.restore_from(image);
        }
    };
    match read_log(storage, &mut fresh, from_checkpoint)? {
        Ok(restored) => Ok(restored),
        Err((store, stale)) => {
            tracing::warn!(%store, "{stale}");
            let anew = read_log(storage, &mut fresh, |_, _| {})?;
            Ok(anew.unwrap_or_else(|_| unreachable!("without a checkpoint none is stale")))
        }
    }
}

/// Reads the log from its start; the inner error is that of a checkpoint that does not fit.
fn read_log(
    storage: &Storage,
    fresh: &mut impl FnMut(&StoreId) -> Result<Replica, String>,
    begin: impl Fn(&StoreId, &mut Replica),
) -> Result<Result<Restored, (StoreId, Stale)>, RestoreFailure> {
    let mut restored = Restored::default();
    let mut made = |store: &StoreId| {
        let mut replica = fresh(store)?;
        begin(store, &mut replica);
        Ok(replica)
    };
    let (read, filed) = std::thread::scope(|scope| {
        let mut filing = Filing::new(scope);
        let read = storage.replay(Position(0), &mut |at, entry| {
            take(&mut restored, &mut filing, &mut made, at, entry)
                .map_err(|reason| RestoreFailure::Entry { at, reason })
        });
        (read, filing.finish())
    });
    // What did not fit where it was filed stands before the entry at which the reading noticed it.
    restored.stores = filed.map_err(|Misfit { at, reason }| RestoreFailure::Entry { at, reason })?;
    read?;
    for (store, made) in &mut restored.stores {
        match made.replica.restored() {
            Ok(judged) => {
                let records = made.replica.books().len();
                tracing::info!(%store, records, from_checkpoint = judged, "books restored");
                made.judged = judged;
                made.told = restored.told.remove(store.as_str()).unwrap_or_default();
            }
            Err(stale) => return Ok(Err((store.clone(), stale))),
        }
    }
    Ok(Ok(restored))
}

/// Reads one store back from a node's log into an empty replica of it.
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
        made.positions.note(Looked::of(&log_entry), at);
        made.replica.restore(log_entry).map_err(|error| failed(error.to_string()))
    })?;
    // After a panic nothing is taken over that was judged before it.
    made.replica
        .restored()
        .map_err(|stale| RestoreFailure::Entry { at: Position(0), reason: stale.to_string() })?;
    Ok(made)
}

fn take(
    restored: &mut Restored,
    filing: &mut Filing<'_>,
    fresh: &mut impl FnMut(&StoreId) -> Result<Replica, String>,
    at: Position,
    entry: Entry,
) -> Result<(), String> {
    if entry.kind == AUDIT_KIND {
        if let Some(event) = AuditEvent::decode(&entry.bytes) {
            if let Some(store) = &event.store {
                restored.told.entry(store.clone()).or_default().note(&event);
            }
            audit::keep(&mut restored.audit, event);
        }
        return Ok(());
    }
    if entry.kind >= NODE_KINDS_FROM {
        restored.own.push((entry.kind, entry.bytes));
        return Ok(());
    }
    let (store, log_entry) = LogEntry::decode(entry.kind, &entry.bytes).map_err(|error| error.to_string())?;
    let stopped = |_| "what was read before it does not fit".to_owned();
    if !filing.knows(&store) {
        filing.begin(&store, RestoredStore::of(fresh(&store)?)).map_err(stopped)?;
    }
    let looked = Looked::of(&log_entry);
    let ready = ReadBack::of(log_entry).map_err(|error| error.to_string())?;
    filing.take(&store, at, looked, ready, entry.bytes.len()).map_err(stopped)
}
