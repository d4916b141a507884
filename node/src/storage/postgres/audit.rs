//! Verifying a log in a database that nobody writes, and copying one into segment files.

use super::super::inspect::Paths;
use super::super::mark;
use super::super::recovery::take_lock;
use super::super::{Audit, Entry, Options, Position, Problem, Snapshot, Storage, StorageError};
use super::{MARK, Place, given, reader_of};
use crate::database::Database;
use crate::storage::vault::Vault;
use std::path::Path;

/// Bytes that a copy appends at a time.
const STEP_BYTES: usize = 4 << 20;

/// Goes through every row of a directory's log.
pub(in crate::storage) fn audit(
    dir: &Path,
    place: &Place,
    database: Database,
    vault: Option<&Vault>,
) -> Result<Audit, StorageError> {
    let paths = Paths::new(dir);
    let _lock = if paths.lock.is_file() { Some(take_lock(&paths, false)?) } else { None };
    let reader = reader_of(place, database, vault)?;
    let slot = mark::load(&dir.join(MARK))?.filter(|slot| slot.log_id == place.log_id);
    let mut found = Audit {
        end: Position(reader.end()),
        bytes: reader.bytes(),
        mark: slot.map(|slot| Position(slot.end)),
        ..Audit::default()
    };
    if slot.is_none() {
        found.problems.push(Problem::MarkLost);
    }
    if let Some(slot) = slot.filter(|slot| slot.end > reader.end()) {
        let place = place.begun_at.clone();
        let behind = StorageError::DatabaseBehind { place, end: reader.end(), marked: slot.end };
        found.problems.push(Problem::Unreadable(behind));
    }
    // Damage is listed stretch by stretch; reading goes on behind each.
    let mut from = Position(0);
    loop {
        let replayed = reader.replay(from, &mut |_, _| {
            found.entries += 1;
            Ok::<(), StorageError>(())
        });
        match replayed {
            Ok(_) => return Ok(found),
            Err(StorageError::Damaged(damage)) => {
                from = damage.to;
                found.problems.push(Problem::Damaged(damage));
            }
            Err(error) => {
                found.problems.push(Problem::Unreadable(error));
                return Ok(found);
            }
        }
    }
}

/// Visits every entry of a directory's log.
pub(in crate::storage) fn look<E: From<StorageError>>(
    dir: &Path,
    place: &Place,
    visit: &mut dyn FnMut(Position, Entry) -> Result<(), E>,
) -> Result<(), E> {
    let paths = Paths::new(dir);
    let _lock = if paths.lock.is_file() { Some(take_lock(&paths, false)?) } else { None };
    let vault = Vault::of(dir).map_err(StorageError::from)?;
    reader_of(place, given(dir, place)?, vault.as_ref())?.replay(Position(0), visit).map(drop)
}

/// Copies the log, up to where it ends now, into segment files in the empty directory `to`: a copy that needs no database.
pub(in crate::storage) fn snapshot(dir: &Path, place: &Place, to: &Path) -> Result<Snapshot, StorageError> {
    let paths = Paths::new(dir);
    let held = if paths.lock.is_file() { take_lock(&paths, false).map(Some) } else { Ok(None) };
    let live = match held {
        Ok(_) => false,
        Err(StorageError::InUse { .. }) => true,
        Err(error) => return Err(error),
    };
    let vault = Vault::of(dir)?;
    let reader = reader_of(place, given(dir, place)?, vault.as_ref())?;
    let options = Options { log_id: Some(place.log_id), vault, ..Options::default() };
    let (copy, _) = Storage::open(to, &options)?;
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    reader.replay(Position(0), &mut |_, entry: Entry| {
        bytes += entry.bytes.len();
        waiting.push(entry);
        if bytes < STEP_BYTES {
            return Ok(());
        }
        bytes = 0;
        copy.append_blocking(std::mem::take(&mut waiting)).map(drop)
    })?;
    copy.append_blocking(waiting)?;
    let end = copy.end();
    copy.close()?;
    let segments = super::super::audit::audit(to)?.segments;
    Ok(Snapshot { end, segments, bytes: end.0, live })
}
