//! `tillsync hub move`: the log of a stopped hub goes from its directory into a database, or from there back. Nothing that tills
//! know changes: the hub's key, its people and papers stay in the directory, and every entry is copied as it is.
//!
//! The directory decides where the log is, by `database.json`, at every moment: that file appears, or goes, in the one step that is
//! the switch. Before it the copy is held against its source, entry by entry and store by store. `move.json` says that a move was
//! begun; the same command goes on with it, wherever it was cut off, and until the switch the hub may be run as before. What was the
//! log is kept: segment files in the folder `moved`, rows in the database marked as moved, so that no hub takes them for its own.
//!
//! ```text
//! note.rs     move.json
//! copy.rs     entries into logs, and whether they are the same
//! into.rs     from files into a database
//! out.rs      from a database into files
//! give_up.rs  not to move after all
//! ```

mod copy;
mod give_up;
mod into;
mod note;
mod out;

use std::fs::{self, File};
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::backup;
use crate::database::Database;
use crate::error::Failure;
use crate::storage::{Logs, hold, private};
use crate::verify::verify_logs;
use note::Note;
pub(crate) use note::begun;

/// The folder of a copy that is not the log yet.
const ASIDE: &str = "move";
/// The folder of segment files that are the log no more.
const MOVED: &str = "moved";

/// Where a log is to go.
#[derive(Debug, Clone)]
pub enum To {
    /// Into segment files in the directory; the database is the one that it is in.
    Files(Database),
    /// Into a database, spread over so many shards; `None` or 0: one log.
    Database(Database, Option<u16>),
}

/// Moves the log of a stopped hub, or finishes a move that was cut off. `say` hears what is being done.
///
/// # Errors
/// A hub runs on the log, it is there already, what was copied is not the same, or disk or database refuse. Unless the message says
/// otherwise the hub runs where it ran before, and the same command goes on with the move.
pub fn run(dir: &Path, to: To, say: &dyn Fn(&str)) -> Result<Value, Failure> {
    let moved = || {
        if !dir.join("hub.json").exists() {
            return Err(Failure::refused(format!(
                "{} is no data directory of a hub; check --dir",
                dir.display()
            )));
        }
        let restored = backup::is_restored(dir)?;
        let _held = hold(dir).map_err(Failure::refused)?;
        let note = Note::read(dir)?;
        match to {
            To::Files(database) => out::go(dir, &database, note, say),
            To::Database(_, shards) if restored && shards.unwrap_or(0) > 0 => Err(Failure::refused(
                "the hub was restored from a backup and has not met its tills; run it until the audit log says taken-back, then \
                 move it",
            )),
            To::Database(database, shards) => into::go(dir, &database, shards, note, say),
        }
    };
    moved().map_err(|failure| failure.during("hub move"))
}

/// Gives up a move that was begun and has not reached its switch; the hub goes on where its log is.
///
/// # Errors
/// None was begun, there is only a way forward, a hub runs, or disk or database refuse.
pub fn give_up(dir: &Path, database: &Database) -> Result<Value, Failure> {
    let given_up = || {
        let _held = hold(dir).map_err(Failure::refused)?;
        give_up::go(dir, database, Note::read(dir)?)
    };
    given_up().map_err(|failure| failure.during("hub move"))
}

/// What logs hold and what their books say; everything in them must be right.
fn examined(dir: &Path, logs: &Logs, which: &str) -> Result<Value, Failure> {
    let report = verify_logs(dir, logs)?;
    if report["ok"] == true {
        return Ok(report);
    }
    let first = report["problems"][0].as_str().unwrap_or("unknown").to_owned();
    Err(Failure::untrue(format!(
        "{which} does not verify: {first}; nothing was switched, the hub runs where it ran before. `tillsync verify` lists all of it"
    )))
}

/// Two examinations must say the same.
fn held_against(source: &Value, copy: &Value) -> Result<(), Failure> {
    let differs = ["entries", "batches", "records", "journal_entries", "export_batches"]
        .into_iter()
        .find(|what| source["checked"][what] != copy["checked"][what]);
    let none = Map::new();
    let stores = |report: &Value| report["stores"].as_object().unwrap_or(&none).clone();
    let other = stores(source).into_iter().find(|(store, books)| copy["stores"][store] != *books);
    let what = match (differs, other) {
        (Some(what), _) => {
            format!("it has {} {what}, the source {}", copy["checked"][what], source["checked"][what])
        }
        (None, Some((store, _))) => format!("the books of store {store} are not the same"),
        (None, None) if stores(source).len() != stores(copy).len() => "it has other stores".to_owned(),
        (None, None) => return Ok(()),
    };
    Err(Failure::untrue(format!(
        "the copy is not the source: {what}; nothing was switched, the hub runs where it ran before. Give the move \
         up (--give-up) and begin again; if it comes back, report it"
    )))
}

/// What is told at the end.
fn told(dir: &Path, note: &Note, report: &Value, kept: &str, resumed: bool) -> Value {
    json!({
        "dir": dir.display().to_string(),
        "to": note.to_word(),
        "database": note.database,
        "log_id": note.log_id_text(),
        "shards": note.shards,
        "entries": report["checked"]["entries"],
        "records": report["checked"]["records"],
        "stores": report["stores"],
        "kept": kept,
        "resumed": resumed,
    })
}

/// Removes what can be made again.
fn remove(path: &Path) -> Result<(), Failure> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::refused(format!(
            "cannot remove {}: {error}; remove it and run this again",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Gives files of a folder, those that are there, a place in another one, durably. May be repeated.
fn rename_all(names: &[&str], from: &Path, to: &Path) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let (from, to) = (from.display(), to.display());
        Failure::refused(format!("cannot move the files of {from} to {to}: {error}; run this again"))
    };
    if !names.iter().any(|name| from.join(name).exists()) {
        return Ok(());
    }
    private::make_folder(to).map_err(failed)?;
    for name in names.iter().filter(|name| from.join(name).exists()) {
        fs::rename(from.join(name), to.join(name)).map_err(failed)?;
    }
    let folders = [Some(to), to.parent(), Some(from)];
    folders.into_iter().flatten().try_for_each(sync_folder).map_err(failed)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}
