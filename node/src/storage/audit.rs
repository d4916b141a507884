//! Verifying a log that is at rest: every segment, every frame, all the damage, nothing repaired.
//!
//! This is the storage half of `tillsync verify`. It takes the lock if the folder has one, so it never judges a tail
//! that is being written, and it writes nothing, so it may be run on the only copy there is.

use super::inspect::{Paths, inspect};
use super::logs::audit_spread;
use super::postgres::{self, Place};
use super::recovery::take_lock;
use super::vault::Vault;
use super::{Damage, Options, Position, Scan, StorageError};
use std::ops::Range;
use std::path::Path;

/// What a verification found.
#[derive(Debug, Clone, Default)]
pub struct Audit {
    /// Segments looked at, those that are missing included.
    pub segments: usize,
    /// Intact entries.
    pub entries: u64,
    /// Bytes of their frames.
    pub bytes: u64,
    /// Where the log ends.
    pub end: Position,
    /// The mark, if one of its slots is intact: everything below was durable.
    pub mark: Option<Position>,
    /// An unacknowledged group that a crash cut short; opening will cut it. No problem.
    pub torn: Option<Range<Position>>,
    /// Ranges whose loss was accepted by an earlier opening with quarantine.
    pub lost: Vec<Range<Position>>,
    /// Everything that is wrong, in the order of positions.
    pub problems: Vec<Problem>,
}

/// One thing that is wrong with a log.
#[derive(Debug, Clone)]
pub enum Problem {
    /// A stretch that is not what was written.
    Damaged(Damage),
    /// A file that could not be read, or not by this version; what lies in it is unknown.
    Unreadable(StorageError),
    /// Both slots of the mark are damaged or its file is gone; the next opening writes it anew.
    MarkLost,
    /// What is wrong with one of several logs.
    OfShard(u16, Box<Problem>),
}

impl Problem {
    /// Says in which log it is, if not in the only one.
    pub(super) fn of_shard(self, number: u16) -> Problem {
        if number == 0 { self } else { Problem::OfShard(number, Box::new(self)) }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Problem::Damaged(damage) => write!(f, "damaged: {damage}"),
            Problem::Unreadable(error) => write!(f, "unreadable: {error}"),
            Problem::MarkLost => f.write_str("the high-water mark is lost; the next start writes it anew"),
            Problem::OfShard(number, problem) => write!(f, "shard {number}: {problem}"),
        }
    }
}

/// Goes through the whole log of a data folder. An empty folder gives an empty audit.
pub fn audit(dir: &Path) -> Result<Audit, StorageError> {
    audit_with(dir, &Options { vault: Vault::of(dir)?, ..Options::default() })
}

/// As `audit`, with key and database in hand.
///
/// # Errors
/// As `audit`.
pub fn audit_with(dir: &Path, options: &Options) -> Result<Audit, StorageError> {
    let vault = options.vault.as_ref();
    let Some(place) = Place::of(dir)? else { return audit_files(dir, vault) };
    let database = match options.database.clone() {
        Some(kept) => kept.database,
        None => postgres::given(dir, &place)?,
    };
    match postgres::spread(&database, place.log_id)? {
        0 => postgres::audit(dir, &place, &database, vault),
        shards => audit_spread(dir, &place, shards, &database, vault),
    }
}

/// As `audit`, of segment files.
pub(super) fn audit_files(dir: &Path, vault: Option<&Vault>) -> Result<Audit, StorageError> {
    let paths = Paths::new(dir);
    let _lock = if paths.lock.is_file() { Some(take_lock(&paths, false)?) } else { None };
    let Some(found) = inspect(&paths, Scan::All, [0; 16], vault)? else { return Ok(Audit::default()) };
    let mut problems = Vec::new();
    if found.mark.is_none() {
        problems.push(Problem::MarkLost);
    }
    let end = found.end();
    problems.extend(found.damage.into_iter().map(Problem::Damaged));
    problems.extend(found.unreadable.into_iter().map(Problem::Unreadable));
    Ok(Audit {
        segments: found.bases.len(),
        entries: found.entries,
        bytes: found.bytes,
        end,
        mark: found.mark.map(|mark| Position(mark.end)),
        torn: (found.tail.torn_to > end.0).then_some(end..Position(found.tail.torn_to)),
        lost: found.lost.ranges(),
        problems,
    })
}

/// Whether a process holds the folder. A folder that nobody has run in is not in use.
///
/// # Errors
/// The disk refuses.
pub fn is_in_use(dir: &Path) -> Result<bool, StorageError> {
    let paths = Paths::new(dir);
    if !paths.lock.is_file() {
        return Ok(false);
    }
    match take_lock(&paths, false) {
        Ok(_lock) => Ok(false),
        Err(StorageError::InUse { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
