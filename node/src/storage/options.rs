//! How a log is opened, and what opening it found.

use super::vault::Vault;
use super::{Damage, Faults, GROUP_BYTES_MAX, InDatabase, Position, RESERVE_BYTES};
use std::ops::Range;
use std::sync::Arc;

/// What to do when the log is found damaged in its middle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnDamage {
    /// Refuse to open, listing every place; change nothing.
    #[default]
    Refuse,
    /// Open without the lost ranges, remember them, never use their positions again.
    Quarantine,
}

/// How much of the log is read when opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Scan {
    /// The newest segment's every frame; of the others that they are there, theirs, and long enough. Their frames are
    /// verified whenever they are read.
    #[default]
    Tail,
    /// Every frame of every segment.
    All,
}

/// Version of what a node keeps in the index (`runtime::checkpoint`, `runtime::reached`, `scratch`).
pub(super) const INDEX_VERSION: u32 = 2;

/// How to open.
#[derive(Clone)]
pub struct Options {
    /// Length of a segment file: 4 KiB to 1 GiB.
    pub segment_bytes: u64,
    /// Zeros are written ahead in steps of this many bytes.
    pub ahead_bytes: u64,
    /// Room that ordinary appends leave free in the newest segment, for `append_urgent` on a full disk. Written ahead as
    /// zeros, so that it is there when it is needed.
    pub reserve_bytes: u64,
    /// The most that one fdatasync covers, at most `GROUP_BYTES_MAX`.
    pub group_bytes_max: usize,
    /// What to do about damage.
    pub on_damage: OnDamage,
    /// How much to read when opening.
    pub scan: Scan,
    /// The log that must be here, and the id of a new one. `None`: whatever is here, a random id for a new one.
    pub log_id: Option<[u8; 16]>,
    /// Version of what the caller keeps in the index; another one throws the index away.
    pub index_version: u32,
    /// The key in hand. `None`: what the directory says and this process was given (`Vault::of`).
    pub vault: Option<Vault>,
    /// Where a new log is begun, and one that is there must be. `None`: a new one in the directory; one that is there, where
    /// the directory says (and this process was told, `Database::of_process`).
    pub database: Option<InDatabase>,
    /// A disk's bad day, for tests and the simulator.
    pub faults: Option<Arc<dyn Faults>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            segment_bytes: 64 << 20,
            ahead_bytes: 1 << 20,
            reserve_bytes: RESERVE_BYTES,
            group_bytes_max: GROUP_BYTES_MAX,
            on_damage: OnDamage::Refuse,
            scan: Scan::Tail,
            log_id: None,
            index_version: INDEX_VERSION,
            vault: None,
            database: None,
            faults: None,
        }
    }
}

/// What became of the index at opening.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexState {
    /// It was kept; replay from `Recovery::index_through`.
    Kept,
    /// There was none; replay everything.
    Created,
    /// It was thrown away for this reason; replay everything.
    Discarded(String),
}

/// What opening found and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// There was no log here.
    pub fresh: bool,
    /// The log's id.
    pub log_id: [u8; 16],
    /// Segment files.
    pub segments: usize,
    /// Where the next entry will be.
    pub end: Position,
    /// The last entry.
    pub last: Option<Position>,
    /// Where an unacknowledged group was cut, if one was torn.
    pub torn_at: Option<Position>,
    /// How many bytes of it were cut.
    pub torn_bytes: u64,
    /// Damage found now and quarantined (with `OnDamage::Quarantine` only).
    pub damage: Vec<Damage>,
    /// Every range that is lost, from now and from earlier openings: refetch these from hub or peers.
    pub lost: Vec<Range<Position>>,
    /// Whether the high-water mark was readable. If not, and the tail was damaged too, its last moments cannot be told
    /// from a torn tail.
    pub mark_found: bool,
    /// What became of the index.
    pub index: IndexState,
    /// Replay from here to bring the index up to date.
    pub index_through: Position,
}
