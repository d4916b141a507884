//! `move.json`: a move of the log was begun, where it goes, and how far it is. It says nothing about where the log is.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::database::Database;
use crate::error::Failure;
use crate::runtime::clock::{now_ms, rfc3339};
use crate::storage::private;

const FILE: &str = "move.json";
const FORMAT: u32 = 1;

/// Which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Way {
    /// From files into a database.
    Database,
    /// From a database into files.
    Files,
}

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    /// The log is where it was; a copy of it is being made and checked.
    Copying,
    /// The copy is whole, and takes the place of the log.
    Switching,
}

/// A move that was begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Note {
    format: u32,
    pub(super) way: Way,
    pub(super) phase: Phase,
    /// Of the log in its new place; a company with shards: of its own.
    log_id: String,
    /// Names this move; the logs in a database that it holds are known by it.
    mover: String,
    pub(super) shards: u16,
    /// Address, without the password.
    pub(super) database: String,
    /// The log in a database that the files are a copy of; empty on the other way.
    source: String,
    /// When, RFC 3339.
    begun_at: String,
}

impl Note {
    /// A new one; `source`: of the log in a database that goes into files.
    pub(super) fn new(way: Way, shards: u16, database: &Database, source: Option<[u8; 16]>) -> Self {
        let source = source.map_or_else(String::new, |source| HEXLOWER.encode(&source));
        let [log_id, mover] = [(); 2].map(|()| HEXLOWER.encode(&rand::random::<[u8; 16]>()));
        let (database, begun_at) = (database.shown().to_owned(), rfc3339(now_ms()));
        let (format, phase) = (FORMAT, Phase::Copying);
        Self { format, way, phase, log_id, mover, shards, database, source, begun_at }
    }

    /// The same, so far.
    pub(super) fn in_phase(self, phase: Phase) -> Self {
        Self { phase, ..self }
    }

    pub(super) fn log_id(&self) -> Result<[u8; 16], Failure> {
        id(&self.log_id)
    }

    pub(super) fn source(&self) -> Result<[u8; 16], Failure> {
        id(&self.source)
    }

    pub(super) fn mover(&self) -> Result<[u8; 16], Failure> {
        id(&self.mover)
    }

    pub(super) fn log_id_text(&self) -> &str {
        &self.log_id
    }

    /// Where it goes, in a word.
    pub(super) fn to_word(&self) -> &'static str {
        match self.way {
            Way::Database => "database",
            Way::Files => "files",
        }
    }

    /// A name for a folder of this move's.
    pub(super) fn folder_name(&self) -> String {
        self.begun_at.replace(':', "-")
    }

    /// Refuses to go on with another move.
    pub(super) fn must_be(&self, way: Way, database: &Database, shards: Option<u16>) -> Result<(), Failure> {
        let other_shards = shards.is_some_and(|shards| shards != self.shards);
        if self.way == way && self.database == database.shown() && !other_shards {
            return Ok(());
        }
        let shards = if self.shards > 0 { format!(" --shards {}", self.shards) } else { String::new() };
        Err(Failure::refused(format!(
            "another move was begun on {} and not finished: --to {}{shards}, database {}; run that one again, or give it up \
             (tillsync hub move --give-up)",
            self.begun_at,
            self.to_word(),
            self.database
        )))
    }

    pub(super) fn read(dir: &Path) -> Result<Option<Self>, Failure> {
        let path = dir.join(FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Failure::refused(format!("cannot read {}: {error}", path.display()))),
            Ok(text) => text,
        };
        let note: Self = serde_json::from_slice(&text).map_err(|error| {
            Failure::refused(format!(
                "{} is damaged: {error}; docs/database.md, \"Move\", says what it was and how to go on without it",
                path.display()
            ))
        })?;
        if note.format != FORMAT {
            let format = note.format;
            return Err(Failure::refused(format!("{} has format {format}; update tillsync", path.display())));
        }
        Ok(Some(note))
    }

    pub(super) fn write(&self, dir: &Path) -> Result<(), Failure> {
        let (path, aside) = (dir.join(FILE), dir.join("move.json.tmp"));
        let text = serde_json::to_vec_pretty(self).map_err(Failure::refused)?;
        let write = || -> io::Result<()> {
            let mut file = private::options().write(true).create(true).truncate(true).open(&aside)?;
            file.write_all(&text)?;
            file.sync_all()?;
            fs::rename(&aside, &path)?;
            File::open(dir)?.sync_all()
        };
        write().map_err(|error| Failure::refused(format!("cannot write {}: {error}", path.display())))
    }

    /// The move is over.
    pub(super) fn remove(dir: &Path) -> Result<(), Failure> {
        super::remove(&dir.join(FILE))?;
        Ok(super::sync_folder(dir)?)
    }
}

/// Since when a move of a directory's log is unfinished, and where it goes.
pub(crate) fn begun(dir: &Path) -> Option<(String, &'static str)> {
    let note = Note::read(dir).ok()??;
    Some((note.begun_at.clone(), note.to_word()))
}

fn id(text: &str) -> Result<[u8; 16], Failure> {
    let bytes = HEXLOWER.decode(text.as_bytes()).ok().and_then(|bytes| bytes.try_into().ok());
    bytes.ok_or_else(|| {
        Failure::refused(format!(
            "{FILE} names no log; docs/database.md, \"Move\", says how to go on without it"
        ))
    })
}
