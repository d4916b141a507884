//! Verifying a log in a database, and copying what a database holds of a company into segment files.

use super::super::inspect::Paths;
use super::super::logs::{Logs, lock_of};
use super::super::mark;
use super::super::reading::Reading;
use super::super::recovery::take_lock;
use super::super::{Audit, Entry, Options, Position, Problem, Snapshot, Storage, StorageError};
use super::{MARK, Place, given, reader_of};
use crate::database::Database;
use crate::storage::vault::Vault;
use std::path::Path;
use std::sync::Arc;

/// Bytes that a copy appends at a time.
const STEP_BYTES: usize = 4 << 20;

/// Goes through every row of a directory's log.
pub(in crate::storage) fn audit(
    dir: &Path,
    place: &Place,
    database: &Database,
    vault: Option<&Vault>,
) -> Result<Audit, StorageError> {
    let paths = Paths::new(dir);
    let _lock = if paths.lock.is_file() { Some(take_lock(&paths, false)?) } else { None };
    let reader = reader_of(database, place.log_id, vault)?;
    let marked = marked(dir, place.log_id)?;
    let mut found = Audit {
        end: Position(reader.end()),
        bytes: reader.bytes(),
        mark: marked.map(Position),
        ..Audit::default()
    };
    if marked.is_none() {
        found.problems.push(Problem::MarkLost);
    }
    if let Some(marked) = marked.filter(|marked| *marked > reader.end()) {
        let place = place.begun_at.clone();
        let behind = StorageError::DatabaseBehind { place, end: reader.end(), marked };
        found.problems.push(Problem::Unreadable(behind));
    }
    audit_rows(&Reading::Database(Arc::new(reader)), &mut found, &|problem| problem);
    Ok(found)
}

/// How far a log was durable when the hub of a directory last looked, if it has had it.
pub(in crate::storage) fn marked(dir: &Path, log_id: [u8; 16]) -> Result<Option<u64>, StorageError> {
    let slot = mark::load(&dir.join(MARK))?.filter(|slot| slot.log_id == log_id);
    Ok(slot.map(|slot| slot.end))
}

/// Reads every row. Damage is listed stretch by stretch; reading goes on behind each.
pub(in crate::storage) fn audit_rows(log: &Reading, found: &mut Audit, named: &dyn Fn(Problem) -> Problem) {
    let mut from = Position(0);
    loop {
        let replayed = log.replay(from, &mut |_, _| {
            found.entries += 1;
            Ok::<(), StorageError>(())
        });
        match replayed {
            Ok(_) => return,
            Err(StorageError::Damaged(damage)) => {
                from = damage.to;
                found.problems.push(named(Problem::Damaged(damage)));
            }
            Err(error) => return found.problems.push(named(Problem::Unreadable(error))),
        }
    }
}

/// Copies the log, or all logs of a company with shards, up to where they end now, into segment files in the empty directory
/// `to`: one log, a copy that needs no database.
pub(in crate::storage) fn snapshot(dir: &Path, place: &Place, to: &Path) -> Result<Snapshot, StorageError> {
    let live = match lock_of(dir) {
        Ok(_) => false,
        Err(StorageError::InUse { .. }) => true,
        Err(error) => return Err(error),
    };
    let vault = Vault::of(dir)?;
    let logs = Logs::in_database(&given(dir, place)?, place.log_id, vault.as_ref())?;
    let options = Options { log_id: Some(place.log_id), vault, ..Options::default() };
    let (copy, _) = Storage::open(to, &options)?;
    pour(&logs, &copy)?;
    let end = copy.end();
    copy.close()?;
    let segments = super::super::audit::audit(to)?.segments;
    Ok(Snapshot { end, segments, bytes: end.0, live })
}

/// Appends everything that logs hold to one, the company's own entries first.
pub(in crate::storage) fn pour(logs: &Logs, into: &Storage) -> Result<(), StorageError> {
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    logs.replay(&mut |_, entry: Entry| {
        bytes += entry.bytes.len();
        waiting.push(entry);
        if bytes < STEP_BYTES {
            return Ok(());
        }
        bytes = 0;
        into.append_blocking(std::mem::take(&mut waiting)).map(drop)
    })?;
    into.append_blocking(waiting).map(drop)
}
