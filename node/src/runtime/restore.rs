//! Starting again: the node's log makes the replicas of every store, the positions of their batches and the audit
//! ring. What a checkpoint in the index holds already is not replayed.

use std::collections::{BTreeMap, VecDeque};

use engine::entry::{Entry as LogEntry, NODE_KINDS_FROM};
use engine::host::Looked;
use engine::ids::StoreId;
use engine::replica::Replica;

use super::audit::{self, AUDIT_KIND, AuditEvent};
use super::checkpoint;
use super::positions::Positions;
use crate::error::Failure;
use crate::storage::{Entry, Position, Storage, StorageError};

/// A store as the log left it.
pub struct RestoredStore {
    /// The replica.
    pub replica: Replica,
    /// Where its entries stand.
    pub positions: Positions,
}

/// Everything that a node's log holds.
#[derive(Default)]
pub struct Restored {
    /// The stores.
    pub stores: BTreeMap<StoreId, RestoredStore>,
    /// The newest audit events.
    pub audit: VecDeque<AuditEvent>,
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
    let mut restored = Restored::default();
    storage.replay(Position(0), &mut |at, entry| {
        take(&mut restored, &mut fresh, at, entry).map_err(|reason| RestoreFailure::Entry { at, reason })
    })?;
    for (store, made) in &mut restored.stores {
        let checkpoint = checkpoint::read(storage, store);
        let used = made.replica.restored(checkpoint.as_ref());
        tracing::info!(%store, records = made.replica.books().len(), from_checkpoint = used, "books restored");
    }
    Ok(restored)
}

fn take(
    restored: &mut Restored,
    fresh: &mut impl FnMut(&StoreId) -> Result<Replica, String>,
    at: Position,
    entry: Entry,
) -> Result<(), String> {
    if entry.kind == AUDIT_KIND {
        audit::restore(&mut restored.audit, &entry.bytes);
        return Ok(());
    }
    if entry.kind >= NODE_KINDS_FROM {
        restored.own.push((entry.kind, entry.bytes));
        return Ok(());
    }
    let (store, log_entry) = LogEntry::decode(entry.kind, &entry.bytes).map_err(|error| error.to_string())?;
    if !restored.stores.contains_key(&store) {
        let made = RestoredStore { replica: fresh(&store)?, positions: Positions::default() };
        restored.stores.insert(store.clone(), made);
    }
    let Some(made) = restored.stores.get_mut(&store) else { return Ok(()) };
    made.positions.note(Looked::of(&log_entry), at);
    made.replica.restore(log_entry).map_err(|error| error.to_string())
}
