//! `database.json`: the word in a directory that its log is in a database, and which log it is. It holds no password; where
//! the database is, the process is told.
//!
//! `database.writer`: which process of this very directory claimed the log last. Whoever holds the directory's lock knows that
//! process dead, and need not wait for its lease. A copied directory has another place on the disk, and has to wait.

use super::super::disk::{Disk, Role};
use super::super::{StorageError, manifest, private};
use super::hex;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::Path;

const FILE: &str = "database.json";
const FORMAT: u32 = 1;

/// Where a directory's log is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) log_id: [u8; 16],
    /// Where it was begun, without a password; it may have moved since.
    pub(crate) begun_at: String,
}

#[derive(Serialize, Deserialize)]
struct Written {
    format: u32,
    log_id: String,
    begun_at: String,
}

impl Place {
    /// What a directory says; `None`: its log is in the directory itself, or there is none yet.
    pub(crate) fn of(dir: &Path) -> Result<Option<Place>, StorageError> {
        let path = dir.join(FILE);
        let damaged = |what: &str| {
            let what = format!("{FILE} {what}");
            Err(StorageError::OtherFile { dir: dir.to_path_buf(), what })
        };
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(StorageError::io("reading", &path, &e)),
        };
        let Ok(written) = serde_json::from_slice::<Written>(&text) else { return damaged("is damaged") };
        if written.format != FORMAT {
            return damaged("is of a newer format than this program knows");
        }
        let id = data_encoding::HEXLOWER.decode(written.log_id.as_bytes()).ok();
        let Some(log_id) = id.and_then(|id| <[u8; 16]>::try_from(id).ok()) else {
            return damaged("names no log");
        };
        Ok(Some(Place { log_id, begun_at: written.begun_at }))
    }

    /// Says the same in a copy of the directory.
    ///
    /// # Errors
    /// The disk refuses.
    pub(crate) fn copy(from: &Path, to: &Path) -> Result<(), StorageError> {
        Self::of(from)?.map_or(Ok(()), |place| place.write(&Disk::default(), to))
    }

    /// Takes the word out of a copy of the directory whose log lies in the copy itself.
    ///
    /// # Errors
    /// The disk refuses.
    pub(crate) fn forget(dir: &Path) -> Result<(), StorageError> {
        manifest::forget(dir, FILE)
    }

    /// Ties a directory to a log in a database, durably.
    pub(super) fn write(&self, disk: &Disk, dir: &Path) -> Result<(), StorageError> {
        let written = Written { format: FORMAT, log_id: hex(&self.log_id), begun_at: self.begun_at.clone() };
        let text = serde_json::to_vec_pretty(&written).unwrap_or_default();
        private::make_folder(dir).map_err(|e| StorageError::io("creating the folder", dir, &e))?;
        manifest::announce(dir, FILE, &text)?;
        disk.replace_file(Role::Manifest, &dir.join(FILE), &text)?;
        manifest::settle(dir, FILE)
    }
}

const WRITER: &str = "database.writer";

#[derive(Serialize, Deserialize)]
struct Writer {
    writer: String,
    /// The directory that it was written in.
    of: String,
}

/// The process that claimed the log last, if it ran in this directory.
pub(super) fn last_writer(dir: &Path) -> Option<[u8; 16]> {
    let written: Writer = serde_json::from_slice(&fs::read(dir.join(WRITER)).ok()?).ok()?;
    let writer = data_encoding::HEXLOWER.decode(written.writer.as_bytes()).ok()?.try_into().ok()?;
    (written.of == identity_of(dir)?).then_some(writer)
}

/// Notes a process that is about to claim the log. Lost in a crash, it costs the next start the rest of a lease.
pub(super) fn note_writer(dir: &Path, writer: [u8; 16]) -> Result<(), StorageError> {
    let Some(of) = identity_of(dir) else { return Ok(()) };
    let text = serde_json::to_vec(&Writer { writer: hex(&writer), of }).unwrap_or_default();
    Disk::default().replace_file(Role::Manifest, &dir.join(WRITER), &text)
}

/// This directory on this machine: a copy of it has another.
#[cfg(unix)]
fn identity_of(dir: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let facts = fs::metadata(dir).ok()?;
    let machine = fs::read("/etc/machine-id").unwrap_or_default();
    let mut hasher = blake3::Hasher::new();
    hasher.update(&machine).update(host().as_bytes());
    hasher.update(&facts.dev().to_le_bytes()).update(&facts.ino().to_le_bytes());
    Some(hasher.finalize().to_hex().to_string())
}

/// A name for whatever process runs in this directory of this machine, one after the other; at random where nothing tells
/// directories apart.
pub(crate) fn name_of(dir: &Path) -> [u8; 16] {
    let Some(identity) = identity_of(dir) else { return rand::random() };
    let mut name = [0; 16];
    name.copy_from_slice(&blake3::hash(identity.as_bytes()).as_bytes()[..16]);
    name
}

/// Where nothing tells directories apart, every start waits for the lease.
#[cfg(not(unix))]
fn identity_of(_dir: &Path) -> Option<String> {
    None
}

fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "a machine without a name".to_owned() } else { name.trim().to_owned() }
}

/// This process, for people who look for it.
pub(crate) fn this_process(dir: &Path) -> String {
    let dir = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    format!("{} on {}, process {}", dir.display(), host(), std::process::id())
}
