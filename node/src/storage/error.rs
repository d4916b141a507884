//! What can go wrong at the storage door, in words a shopkeeper's engineer can act on.
//!
//! Every error names the operation, the reason and the way out. They are cloned to everybody who waited for one
//! commit group, so an `io::Error` is kept as its kind and its text. Nothing here decides; nothing here logs.

use super::{Position, VaultError};
use crate::database::DatabaseError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// One stretch of the log that cannot be read back as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// File name of the segment inside `log/`; of a log in a database, the table.
    pub segment: String,
    /// Offset inside that file, in bytes, where the damage begins; in a table the position.
    pub offset: u64,
    /// First position that is lost.
    pub from: Position,
    /// First position after the loss (equal to `from` when only a header is damaged).
    pub to: Position,
    /// What was found there.
    pub what: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Damage { segment, offset, from, to, what } = self;
        if !segment.ends_with(".seg") {
            return write!(f, "{segment}, positions {} to {}: {what}", from.0, to.0);
        }
        write!(f, "log/{segment} at offset {offset} (positions {} to {}): {what}", from.0, to.0)
    }
}

/// Why the storage refused or failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused a file operation.
    #[error(
        "storage: {operation} {} failed: {reason}; check the disk, its free space and the folder's rights, then start again",
        path.display()
    )]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The kind of the system's error.
        kind: io::ErrorKind,
        /// The system's words.
        reason: String,
    },
    /// Another process holds the folder.
    #[error(
        "storage: {} is in use by another process; stop the other tillsync (or its verify) before starting this one",
        dir.display()
    )]
    InUse {
        /// The data folder.
        dir: PathBuf,
    },
    /// The options cannot work together.
    #[error("storage: opening with these options is impossible: {reason}; correct the configuration")]
    BadOptions {
        /// Which rule they break.
        reason: String,
    },
    /// A segment is encrypted, and the directory has no vault file (or this version does not know the cipher).
    #[error(
        "storage: log/{segment} is encrypted (cipher {cipher}) and the directory's vault file is missing or of another version; \
         restore `vault` from a backup of this directory, or update tillsync"
    )]
    NeedsKey {
        /// File name of the segment.
        segment: String,
        /// The cipher byte of its header.
        cipher: u8,
    },
    /// A segment is under another data key than the directory.
    #[error(
        "storage: log/{segment} is encrypted with another data key than this directory's; put back the segment or the vault \
         file that belongs here"
    )]
    OtherKey {
        /// File name of the segment.
        segment: String,
    },
    /// A plain segment in an encrypted directory.
    #[error(
        "storage: log/{segment} is not encrypted although the directory is, so nobody knows who wrote it; restore the segment \
         from a backup of this directory"
    )]
    NotEncrypted {
        /// File name of the segment.
        segment: String,
    },
    /// The directory cannot be unlocked.
    #[error("storage: {0}")]
    Vault(#[from] VaultError),
    /// A segment was written by a newer format.
    #[error("storage: log/{segment} has format version {version}, this program reads 1; update tillsync")]
    NewerFormat {
        /// File name of the segment.
        segment: String,
        /// The version byte of its header.
        version: u8,
    },
    /// The directory was made or brought up to date by a newer program.
    #[error(
        "storage: {} is a data directory of format {format}, this program knows {}; update tillsync, or restore a backup made \
         before the update",
        dir.display(), super::manifest::DIRECTORY_FORMAT
    )]
    NewerDirectory {
        /// The data folder.
        dir: PathBuf,
        /// Its format.
        format: u32,
    },
    /// A key of the directory is not the one that was written.
    #[error("storage: opening {} refused: {what}; restore the file from a backup of this directory", dir.display())]
    OtherFile {
        /// The data folder.
        dir: PathBuf,
        /// Which file, and what is wrong.
        what: String,
    },
    /// The folder holds another log than the one asked for.
    #[error(
        "storage: {} holds log {found}, not {wanted}; point the configuration at the right folder",
        dir.display()
    )]
    ForeignLog {
        /// The data folder.
        dir: PathBuf,
        /// The log id found, in hex.
        found: String,
        /// The log id asked for, in hex.
        wanted: String,
    },
    /// Durable, acknowledged data is damaged: not a torn tail, so nothing is cut and opening is refused.
    #[error(
        "storage: opening refused, the log is damaged in its middle in {} place(s): {}; keep a copy of the folder and \
         restore it from a backup; a till without one is enrolled anew",
        damage.len(), list(damage)
    )]
    DamagedMiddle {
        /// Every damaged stretch that the scan found.
        damage: Vec<Damage>,
    },
    /// One entry that was read or replayed is damaged.
    #[error(
        "storage: reading failed, {0}; run `tillsync verify` for the whole extent, keep a copy of the folder, and restore \
         it from a backup"
    )]
    Damaged(Damage),
    /// A position that the log does not hold.
    #[error("storage: reading position {} failed: the log ends at {}; use a position that append returned", at.0, end.0)]
    NotInLog {
        /// The position asked for.
        at: Position,
        /// The durable end of the log.
        end: Position,
    },
    /// No room for the next step of the log; nothing was written, the store goes on when space returns.
    #[error(
        "storage: append refused, the disk is full: {needed} more bytes are needed for {}; nothing was written, free some \
         space and try again",
        path.display()
    )]
    DiskFull {
        /// Bytes that could not be set aside.
        needed: u64,
        /// The file that should have grown.
        path: PathBuf,
    },
    /// An earlier write or fsync failed; nothing is accepted until the store is opened again.
    #[error(
        "storage: append refused, the store is poisoned since: {reason}; what was acknowledged is safe, what was not may \
         be missing; restart the node after checking the disk"
    )]
    Poisoned {
        /// The failure that poisoned it.
        reason: String,
    },
    /// An entry or append over the limit.
    #[error("storage: append refused, {bytes} bytes exceed the limit of {limit}; split it")]
    TooLarge {
        /// Bytes asked for (for an append: including the frames).
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The queue before the disk is full (`QUEUE_APPENDS_MAX`, `QUEUE_BYTES_MAX`).
    #[error("storage: append refused, {waiting} appends already wait for the disk; slow down and try again")]
    Busy {
        /// Appends in the queue.
        waiting: usize,
    },
    /// The storage was closed.
    #[error("storage: {operation} refused, the storage is closed; open it again")]
    Closed {
        /// What was being done.
        operation: &'static str,
    },
    /// The database refused or failed.
    #[error("storage: {0}")]
    Database(#[from] DatabaseError),
    /// The database is not there; nothing of the append is acknowledged.
    #[error(
        "storage: the database is away: {reason}; nothing was acknowledged, the tills keep their records and send them again \
         when it is back"
    )]
    DatabaseAway {
        /// What the last try said.
        reason: String,
    },
    /// The directory's log is in a database, and the process was not told where.
    #[error(
        "storage: the log of {} is in a database (begun at {place}); give its address with --database or in the variable \
         TILLSYNC_DATABASE",
        dir.display()
    )]
    KeptInDatabase {
        /// The data folder.
        dir: PathBuf,
        /// Where it was begun.
        place: String,
    },
    /// The directory has a log of its own, and a database was named.
    #[error(
        "storage: the log of {} is in the directory itself; run without --database and TILLSYNC_DATABASE, or bring it into the \
         database with `tillsync hub move`",
        dir.display()
    )]
    KeptInFiles {
        /// The data folder.
        dir: PathBuf,
    },
    /// The stores of the directory's company are in several logs.
    #[error(
        "storage: the stores of the company in {} are spread over {shards} logs, which only a running hub can take; start the hub \
         (`tillsync hub run --dir {}`) and say it again",
        dir.display(), dir.display()
    )]
    Spread {
        /// The data folder.
        dir: PathBuf,
        /// How many.
        shards: u16,
    },
    /// The log was moved out of the database.
    #[error(
        "storage: the log in the database {place} is one no more: it was {holder}; run the hub there. If that move was cut off, \
         run the same `tillsync hub move` again"
    )]
    Moved {
        /// Which database.
        place: String,
        /// Where it went.
        holder: String,
    },
    /// The database does not have the directory's log.
    #[error(
        "storage: the database {place} has no log {log_id}; name the database that this hub was begun in, or restore that \
         database from its backup"
    )]
    LogNotInDatabase {
        /// The log's id, in hex.
        log_id: String,
        /// Where it was looked for.
        place: String,
    },
    /// The database has less than was acknowledged, or something else.
    #[error(
        "storage: the log in the database {place} ends at entry {end}, but this hub knows it up to entry {marked}: the database \
         is an older copy, or a standby that lacked what was acknowledged; nothing was changed. Bring the newer one back; if it \
         is lost, `tillsync db accept-loss --dir …` lets the hub take back from the tills what they hold"
    )]
    DatabaseBehind {
        /// Which database.
        place: String,
        /// Where its log ends.
        end: u64,
        /// Where it should end.
        marked: u64,
    },
    /// Another hub has the log on lease.
    #[error(
        "storage: the log in the database {place} is in use by another hub ({holder}, lease until {until}); stop that one, or \
         wait until its lease has ended"
    )]
    LeaseHeld {
        /// Which database.
        place: String,
        /// Machine, process and directory of the other.
        holder: String,
        /// Until when it has it, unless prolonged.
        until: String,
    },
    /// Another process has claimed the log.
    #[error(
        "storage: log {log_id} in the database {place} has another writer now: another hub was started on it; let one of them \
         run"
    )]
    TakenOver {
        /// The log's id, in hex.
        log_id: String,
        /// Which database.
        place: String,
    },
    /// The index failed; it holds nothing that the log does not hold.
    #[error(
        "storage: index {operation} failed: {reason}; nothing is lost, restart and the index will be rebuilt from the log"
    )]
    Index {
        /// What was being done.
        operation: &'static str,
        /// What the index said.
        reason: String,
    },
}

impl StorageError {
    pub(super) fn io(operation: &'static str, path: &Path, error: &io::Error) -> Self {
        StorageError::Io {
            operation,
            path: path.to_path_buf(),
            kind: error.kind(),
            reason: error.to_string(),
        }
    }

    pub(super) fn index(operation: &'static str, reason: impl fmt::Display) -> Self {
        StorageError::Index { operation, reason: reason.to_string() }
    }
}

/// The first few places; a log with a thousand of them must not fill the screen (verify lists all).
fn list(damage: &[Damage]) -> String {
    let mut text = damage.iter().take(5).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if damage.len() > 5 {
        text.push_str("; …");
    }
    text
}
