//! From a database into segment files. The logs are held meanwhile, all of them, and marked as moved when the copy is whole; the
//! switch is the end of `database.json`. Between the two no hub runs anywhere, and the same command goes on.

use std::path::Path;

use serde_json::Value;

use super::copy;
use super::note::{Note, Phase, Way};
use super::{ASIDE, MOVED, examined, held_against, remove, rename_all, sync_folder, told};
use crate::central;
use crate::database::Database;
use crate::error::Failure;
use crate::storage::vault::Vault;
use crate::storage::{
    Held, Logs, Place, StorageError, all_marked, manifest, spread, this_process, where_it_went,
};

/// What is the log in a directory of segment files.
const LOG: [&str; 2] = ["log", "mark"];
/// What belongs to a log in a database, or is made again.
const REBUILT: [&str; 7] =
    ["logs", "database.mark", "database.writer", "index", "index.doubt", "scratch", ASIDE];
const PLACE: &str = "database.json";

pub(super) fn go(
    dir: &Path,
    database: &Database,
    note: Option<Note>,
    say: &dyn Fn(&str),
) -> Result<Value, Failure> {
    if let Some(note) = &note {
        note.must_be(Way::Files, database, None)?;
    }
    let Some(place) = Place::of(dir).map_err(Failure::refused)? else {
        return match note {
            Some(note) => finish(dir, database, &note, None, say),
            None => Err(Failure::refused(format!("the log of {} is in files already", dir.display()))),
        };
    };
    let resumed = note.is_some();
    let gone = where_it_went(database, place.log_id).map_err(Failure::refused)?;
    let (note, report) = match (note, gone) {
        (Some(note), Some(gone)) if gone.mover == note.mover()? => (note, None),
        (_, Some(gone)) => {
            let place = database.shown().to_owned();
            return Err(Failure::refused(StorageError::Moved { place, holder: gone.holder }));
        }
        (note, None) => copied(dir, database, &place, note, say)?,
    };
    say("switching");
    put_in_place(dir, &note)?;
    manifest::forget(dir, PLACE).map_err(Failure::refused)?;
    remove(&dir.join(PLACE))?;
    sync_folder(dir)?;
    let mut done = finish(dir, database, &note, report, say)?;
    done["resumed"] = resumed.into();
    Ok(done)
}

/// A whole copy in the folder `move`, and the logs in the database marked as moved.
fn copied(
    dir: &Path,
    database: &Database,
    place: &Place,
    note: Option<Note>,
    say: &dyn Fn(&str),
) -> Result<(Note, Option<Value>), Failure> {
    let vault = Vault::of(dir).map_err(Failure::refused)?;
    let shards = spread(database, place.log_id).map_err(Failure::refused)?;
    let note = match note.filter(|note| note.source().is_ok_and(|source| source == place.log_id)) {
        Some(note) => note.in_phase(Phase::Copying),
        None => Note::new(Way::Files, shards, database, Some(place.log_id)),
    };
    say("taking the logs in the database");
    let held = Held::take(database, place.log_id, shards, dir, note.mover()?).map_err(Failure::refused)?;
    note.write(dir)?;
    let source = Logs::in_database(database, place.log_id, vault.as_ref()).map_err(Failure::refused)?;
    all_marked(dir, place, database, &source).map_err(Failure::refused)?;
    say("checking the logs in the database");
    let report = examined(dir, &source, "the log in the database")?;
    let aside = dir.join(ASIDE);
    remove(&aside)?;
    say("copying into files");
    copy::into_files(&source, &aside, note.log_id()?, vault.clone())?;
    say("checking the files");
    let there = Logs::in_files(&aside, vault.as_ref()).map_err(Failure::refused)?;
    copy::compare(&copy::prints(&source, 0)?, &copy::prints_of_copy(&there)?)?;
    let copy = examined(dir, &there, "the copy in files")?;
    held_against(&report, &copy)?;
    let note = note.in_phase(Phase::Switching);
    note.write(dir)?;
    say("marking the logs in the database as moved");
    held.mark(format!("moved into files by {}", this_process(dir))).map_err(Failure::refused)?;
    Ok((note, Some(copy)))
}

/// The files of the copy become the directory's, which still names the database. May be repeated.
fn put_in_place(dir: &Path, note: &Note) -> Result<(), Failure> {
    let aside = dir.join(ASIDE);
    for name in LOG {
        // Not of this copy: what a move into the database left when it was cut off behind its switch.
        if aside.join(name).exists() && dir.join(name).exists() {
            rename_all(&[name], dir, &dir.join(MOVED).join(format!("{}-before", note.folder_name())))?;
        }
    }
    rename_all(&LOG, &aside, dir)?;
    let whole = LOG.iter().all(|name| dir.join(name).exists());
    if whole {
        return Ok(());
    }
    Err(Failure::refused(format!(
        "the copy in {} is gone, though the logs in the database are marked as moved; give them back with the statement in \
         docs/database.md, and run this again",
        aside.display()
    )))
}

/// Behind the switch: what belonged to the logs in the database goes.
fn finish(
    dir: &Path,
    database: &Database,
    note: &Note,
    report: Option<Value>,
    say: &dyn Fn(&str),
) -> Result<Value, Failure> {
    say("tidying up");
    // Who reads the books there must not find them twice when the company comes back.
    central::forget(database, note.source()?, note.shards)?;
    for name in REBUILT {
        remove(&dir.join(name))?;
    }
    let report = match report {
        Some(report) => report,
        None => {
            let vault = Vault::of(dir).map_err(Failure::refused)?;
            let there = Logs::in_files(dir, vault.as_ref()).map_err(Failure::refused)?;
            examined(dir, &there, "the log in the directory")?
        }
    };
    Note::remove(dir)?;
    let kept = format!("{}, marked as moved", note.database);
    Ok(told(dir, note, &report, &kept, true))
}
