//! An entry as a row. It is sealed as the frame of a segment file is (frame.rs), and the frame is taken apart: kind, bytes
//! and check have columns of their own. So a row is bound to its log, its position, its kind and its length, and in an
//! encrypted log the columns hold what the frame would.

use super::super::frame::{HEAD_BYTES, Seal};
use super::super::{Damage, Entry, Position, StorageError};
use super::{Log, signed};

/// The table, for messages.
const TABLE: &str = "tillsync.entry";

/// The rows of one append, column by column, as `unnest` takes them.
#[derive(Default)]
pub(super) struct Rows {
    pub(super) positions: Vec<i64>,
    pub(super) kinds: Vec<i16>,
    pub(super) stores: Vec<String>,
    pub(super) bytes: Vec<Vec<u8>>,
    pub(super) hashes: Vec<Vec<u8>>,
    /// Bytes of the column `bytes`.
    pub(super) total: u64,
}

impl Rows {
    pub(super) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(super) fn push(&mut self, log: &Log, at: u64, entry: &Entry) {
        let mut frame = Vec::with_capacity(log.seal.frame_bytes(entry.bytes.len()));
        log.seal.encode(&mut frame, at, 0, entry.kind, &entry.bytes);
        let store = if log.hidden { None } else { (log.store_of)(entry.kind, &entry.bytes) };
        self.positions.push(signed(at));
        self.kinds.push(i16::from(frame[4]));
        // A text column holds no NUL.
        self.stores.push(store.filter(|store| !store.contains('\0')).unwrap_or_default());
        self.hashes.push(frame[12..HEAD_BYTES].to_vec());
        let bytes = frame.split_off(HEAD_BYTES);
        self.total += bytes.len() as u64;
        self.bytes.push(bytes);
    }
}

/// The entry of a row, if the row is what was written at this position.
pub(super) fn entry(
    seal: &Seal,
    at: u64,
    kind: i16,
    bytes: &[u8],
    hash: &[u8],
) -> Result<Entry, StorageError> {
    let wrong = || damaged(at, at + 1, "the row is not what was written");
    let (Ok(kind), Ok(hash)) = (u8::try_from(kind), <[u8; 16]>::try_from(hash)) else { return Err(wrong()) };
    let Ok(length) = u32::try_from(HEAD_BYTES + bytes.len()) else { return Err(wrong()) };
    let mut frame = Vec::with_capacity(HEAD_BYTES + bytes.len());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&[kind, 0, 0, 0]);
    // The check of the head is for walking over files; here the row's own columns are the head.
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(&hash);
    frame.extend_from_slice(bytes);
    let mut body = Vec::with_capacity(bytes.len());
    let kind = seal.open(at, &frame, &mut body).ok_or_else(wrong)?;
    Ok(Entry { kind, bytes: body })
}

/// Rows that are missing or changed.
pub(super) fn damaged(from: u64, to: u64, what: &str) -> StorageError {
    StorageError::Damaged(Damage {
        segment: TABLE.to_owned(),
        offset: from,
        from: Position(from),
        to: Position(to),
        what: what.to_owned(),
    })
}
