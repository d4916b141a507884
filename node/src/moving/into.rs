//! From segment files into a database. The switch is the appearance of `database.json`; before it the rows belong to nobody.

use std::path::Path;

use serde_json::Value;

use super::copy::{self, Writing};
use super::note::{Note, Phase, Way};
use super::{ASIDE, MOVED, examined, held_against, remove, rename_all, told};
use crate::cluster::{self, SHARDS_MAX};
use crate::database::{Database, Link, schema};
use crate::error::Failure;
use crate::storage::vault::Vault;
use crate::storage::{Entry, Logs, Place, begins_like, note_mark, tie};

/// What is the log in a directory of segment files.
const LOG: [&str; 3] = ["log", "mark", "lost"];
/// What is made again.
const REBUILT: [&str; 4] = ["index", "index.doubt", "scratch", ASIDE];

pub(super) fn go(
    dir: &Path,
    database: &Database,
    shards: Option<u16>,
    note: Option<Note>,
    say: &dyn Fn(&str),
) -> Result<Value, Failure> {
    if shards.is_some_and(|shards| shards > SHARDS_MAX) {
        return Err(Failure::refused(format!("--shards is 0 to {SHARDS_MAX}")));
    }
    let place = Place::of(dir).map_err(Failure::refused)?;
    if let Some(note) = &note {
        note.must_be(Way::Database, database, shards)?;
    }
    match (&note, place) {
        (Some(note), Some(place)) if place.log_id == note.log_id()? => {
            return finish(dir, database, note, None, say);
        }
        (_, Some(place)) => {
            return Err(Failure::refused(format!(
                "the log of {} is in a database already (begun at {}); `tillsync hub move --to files` brings it out, and then in \
                 again with other shards",
                dir.display(),
                place.begun_at
            )));
        }
        (_, None) => {}
    }
    let resumed = note.is_some();
    let vault = Vault::of(dir).map_err(Failure::refused)?;
    let source = Logs::in_files(dir, vault.as_ref()).map_err(Failure::refused)?;
    if source.ends().is_empty() {
        return Err(Failure::refused(format!(
            "{} has no log yet; `tillsync hub run --database …` begins it in the database",
            dir.display()
        )));
    }
    if source.has_lost() {
        return Err(Failure::refused(
            "ranges of the log were accepted as lost, and a move would forget where; restore the directory from a backup first",
        ));
    }
    say("checking the log in the directory");
    let report = examined(dir, &source, "the log in the directory")?;
    let note = match note {
        Some(note) => note,
        None => {
            // Of an earlier life in a database, or of a move that was given up.
            remove(&dir.join("logs"))?;
            remove(&dir.join(ASIDE))?;
            let note = Note::new(Way::Database, shards.unwrap_or(0), database, None);
            is_new_there(&source, database, vault.as_ref())?;
            note.write(dir)?;
            note
        }
    };
    prepare(database, &note)?;
    say("copying into the database");
    let company = note.log_id()?;
    let writing =
        Writing { dir, database, company, shards: note.shards, vault: vault.clone(), mover: note.mover()? };
    let end = writing.write(&source, &dir.join(ASIDE))?;
    say("checking what is in the database");
    let there = Logs::in_database(database, company, vault.as_ref()).map_err(Failure::refused)?;
    copy::compare(&copy::prints(&source, note.shards)?, &copy::prints_of_copy(&there)?)?;
    let copied = examined(dir, &there, "the copy in the database")?;
    held_against(&report, &copied)?;
    let note = note.in_phase(Phase::Switching);
    note.write(dir)?;
    say("switching");
    if note.shards == 0 {
        note_mark(dir, company, end).map_err(Failure::refused)?;
    }
    tie(dir, database, company).map_err(Failure::refused)?;
    drop((source, there));
    let mut done = finish(dir, database, &note, Some(copied), say)?;
    done["resumed"] = resumed.into();
    Ok(done)
}

/// The database's tables, and the word there that the company has shards.
fn prepare(database: &Database, note: &Note) -> Result<(), Failure> {
    let (company, shards) = (note.log_id()?, note.shards);
    crate::runtime::block_on(async {
        let link = Link::connect(database, "hub move").await.map_err(Failure::refused)?;
        schema::migrate(&link).await.map_err(Failure::refused)?;
        if shards > 0 {
            cluster::begin(&link, company, shards).await.map_err(Failure::refused)?;
        }
        Ok(())
    })
}

/// Refuses a database in which a log begins as this one does: another copy of this directory was moved there, or runs there.
fn is_new_there(source: &Logs, database: &Database, vault: Option<&Vault>) -> Result<(), Failure> {
    // The first of all, and the first that is the company's own: one of them begins the company's log wherever it lies.
    let mut first: [Option<Entry>; 2] = [None, None];
    let read = source.replay(&mut |_, entry| {
        if copy::number_of(&entry, 1)? == 0 {
            first[1].get_or_insert_with(|| entry.clone());
        }
        first[0].get_or_insert(entry);
        // Both are enough.
        if first[1].is_some() { Err(Failure::refused("seen")) } else { Ok(()) }
    });
    let seen = first.iter().flatten().cloned().collect::<Vec<_>>();
    if let Err(failure) = read
        && first[1].is_none()
    {
        return Err(failure);
    }
    match begins_like(database, vault, &seen).map_err(Failure::refused)? {
        None => Ok(()),
        Some((log_id, holder)) => Err(Failure::refused(format!(
            "the database {} has this company already: log {log_id} begins as this one does (held last by {holder}). If a hub runs \
             there, this directory is an older copy of it: keep it stopped. If an interrupted move left it, its rows can be \
             removed (docs/database.md, \"Move\")",
            database.shown()
        ))),
    }
}

/// Behind the switch: what was the log goes aside.
fn finish(
    dir: &Path,
    database: &Database,
    note: &Note,
    report: Option<Value>,
    say: &dyn Fn(&str),
) -> Result<Value, Failure> {
    say("putting the old log aside");
    let kept = dir.join(MOVED).join(note.folder_name());
    rename_all(&LOG, dir, &kept)?;
    for name in REBUILT {
        remove(&dir.join(name))?;
    }
    let resumed = report.is_none();
    let report = match report {
        Some(report) => report,
        None => {
            let vault = Vault::of(dir).map_err(Failure::refused)?;
            let there = Logs::in_database(database, note.log_id()?, vault.as_ref());
            examined(dir, &there.map_err(Failure::refused)?, "the log in the database")?
        }
    };
    Note::remove(dir)?;
    Ok(told(dir, note, &report, &kept.display().to_string(), resumed))
}
