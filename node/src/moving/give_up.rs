//! Not to move after all: what was copied goes, and the word that a move was begun.

use std::path::Path;

use serde_json::{Value, json};

use super::note::{Note, Way};
use super::{ASIDE, remove};
use crate::database::{Database, Link, Patience};
use crate::error::Failure;
use crate::storage::{Place, log_id, where_it_went};

pub(super) fn go(dir: &Path, database: &Database, note: Option<Note>) -> Result<Value, Failure> {
    let Some(note) = note else {
        return Err(Failure::refused(format!("no move of the log of {} was begun", dir.display())));
    };
    note.must_be(note.way, database, None)?;
    let forward = |to: &str| {
        Err(Failure::refused(format!(
            "the move has passed its switch; finish it: tillsync hub move --to {to}"
        )))
    };
    let place = Place::of(dir).map_err(Failure::refused)?;
    match (note.way, place) {
        (Way::Database, Some(place)) if place.log_id == note.log_id()? => return forward("database"),
        (Way::Database, Some(_)) => {}
        (Way::Database, None) => {
            take_out(database, note.log_id()?, note.shards)?;
            remove(&dir.join("logs"))?;
        }
        (Way::Files, None) => return forward("files"),
        (Way::Files, Some(place)) => {
            if where_it_went(database, place.log_id).map_err(Failure::refused)?.is_some() {
                return forward("files");
            }
        }
    }
    remove(&dir.join(ASIDE))?;
    Note::remove(dir)?;
    Ok(json!({"dir": dir.display().to_string(), "given_up": true}))
}

/// Removes the rows of a copy that never was the log.
fn take_out(database: &Database, company: [u8; 16], shards: u16) -> Result<(), Failure> {
    let hex = |id: [u8; 16]| format!("decode('{}', 'hex')", data_encoding::HEXLOWER.encode(&id));
    let logs: Vec<String> = (0..=shards).map(|number| hex(log_id(company, number))).collect();
    let logs = logs.join(", ");
    crate::runtime::block_on(async {
        let link = Link::connect(database, "hub move").await.map_err(Failure::refused)?;
        for (table, ids) in [("entry", &logs), ("log", &logs), ("company", &hex(company))] {
            let sql = format!("DELETE FROM tillsync.{table} WHERE log_id IN ({ids})");
            let removed = link.batch_patiently("removing the copy", &sql, Patience::Long).await;
            removed.map_err(Failure::refused)?;
        }
        Ok(())
    })
}
