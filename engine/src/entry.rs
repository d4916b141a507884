//! What a node's own log holds, entry by entry: the only truth that survives a restart. The engine decides what is
//! written; the node writes it, in this order, and says when it is durable.

use serde::{Deserialize, Serialize};

use crate::batch::BatchEntry;
use crate::codec::{self, CodecError};
use crate::document::ChangeId;
use crate::ids::{StoreId, WriterId};
use crate::journal_run::JournalRun;
use crate::time::Day;

/// Memory that decoding one entry may claim.
const DECODE_LIMIT: usize = 64 << 20;
/// The same for the name of a store.
const STORE_LIMIT: usize = 1 << 10;

/// One entry of a node's log.
#[derive(Clone, PartialEq, Debug)]
pub enum Entry {
    /// A record captured here and not sealed yet: the offline queue.
    Captured(Box<Captured>),
    /// A sealed batch, this node's own or a peer's, as admitted.
    Batch(AdmittedBatch),
    /// Journal entries appended by the merge layer together (hub).
    Journal(JournalRun),
    /// The hub holds this node's records up to a number.
    Custody(CustodyMark),
    /// Batches up to an ordinal are in the books (hub).
    Posted(PostedMark),
    /// A till's connection came, went, or told its clock (hub).
    Link(LinkMark),
}

/// A record captured here and not sealed yet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Captured {
    /// Number in this node's log.
    pub seq: u64,
    /// Business day.
    pub day: Day,
    /// The rest.
    pub entry: BatchEntry,
}

/// A sealed batch as admitted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AdmittedBatch {
    /// When it was admitted here, ms since 1970, by this node's clock.
    pub admitted_ms: i64,
    /// The peer that delivered it; `None`: sealed here.
    pub from: Option<WriterId>,
    /// Hash of its Automerge change.
    pub change: ChangeId,
    /// The sealed bytes.
    pub bytes: Vec<u8>,
}

/// The hub holds this node's records up to a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CustodyMark {
    /// Last number of this node's log that the hub has made durable.
    pub through_seq: u64,
    /// When this node learned it, ms since 1970.
    pub at_ms: i64,
}

/// Batches are in the books: posted, or held in suspense.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct PostedMark {
    /// How many batches, counted from the first.
    pub batches: u64,
    /// When, ms since 1970 by this node's clock.
    pub at_ms: i64,
}

/// Something about a connection to a till, for measuring what arrives how late.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LinkMark {
    /// The till's key.
    pub peer: WriterId,
    /// When, ms since 1970 by this node's clock.
    pub at_ms: i64,
    /// What.
    pub what: LinkChange,
}

/// What happened to a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum LinkChange {
    /// It came.
    Up,
    /// It went.
    Down,
    /// The till's clock less this node's, ms, and by how much that may be wrong (half the round trip).
    Clock {
        /// Offset, ms.
        offset_ms: i64,
        /// Error, ms.
        error_ms: i64,
    },
}

const CAPTURED: u8 = 1;
const BATCH: u8 = 2;
const JOURNAL: u8 = 3;
const CUSTODY: u8 = 4;
const POSTED: u8 = 5;
const LINK: u8 = 6;
const JOURNAL_RUN: u8 = 7;

/// Kinds from here on are the node's own (audit, enrolments); the engine neither writes nor reads them.
pub const NODE_KINDS_FROM: u8 = 64;

impl Entry {
    /// The kind byte and the bytes, as they stand in the log of a node that serves `store`.
    #[must_use]
    pub fn encode(&self, store: &StoreId) -> (u8, Vec<u8>) {
        match self {
            Self::Captured(captured) => (CAPTURED, codec::encode(&(store, captured))),
            Self::Batch(batch) => (BATCH, codec::encode(&(store, batch))),
            Self::Journal(run) => {
                let (alone, bytes) = run.encode(store);
                (if alone { JOURNAL } else { JOURNAL_RUN }, bytes)
            }
            Self::Custody(mark) => (CUSTODY, codec::encode(&(store, mark))),
            Self::Posted(mark) => (POSTED, codec::encode(&(store, mark))),
            Self::Link(mark) => (LINK, codec::encode(&(store, mark))),
        }
    }

    /// Whether somebody waits until an entry of a kind is durable.
    #[must_use]
    pub fn is_awaited(kind: u8) -> bool {
        matches!(kind, CAPTURED | BATCH)
    }

    /// The store that the bytes of an entry belong to, without reading the rest.
    ///
    /// # Errors
    /// Malformed.
    pub fn store_of(bytes: &[u8]) -> Result<StoreId, CodecError> {
        codec::decode_first::<_, STORE_LIMIT>(bytes)
    }

    /// Reads an entry back, with the store it belongs to.
    ///
    /// # Errors
    /// Not an entry of the engine, or malformed.
    pub fn decode(kind: u8, bytes: &[u8]) -> Result<(StoreId, Self), CodecError> {
        match kind {
            CAPTURED => codec::decode::<_, DECODE_LIMIT>(bytes)
                .map(|(store, it)| (store, Self::Captured(Box::new(it)))),
            BATCH => codec::decode::<_, DECODE_LIMIT>(bytes).map(|(store, it)| (store, Self::Batch(it))),
            JOURNAL | JOURNAL_RUN => JournalRun::decode::<DECODE_LIMIT>(kind == JOURNAL, bytes)
                .map(|(store, it)| (store, Self::Journal(it))),
            CUSTODY => codec::decode::<_, DECODE_LIMIT>(bytes).map(|(store, it)| (store, Self::Custody(it))),
            POSTED => codec::decode::<_, DECODE_LIMIT>(bytes).map(|(store, it)| (store, Self::Posted(it))),
            LINK => codec::decode::<_, DECODE_LIMIT>(bytes).map(|(store, it)| (store, Self::Link(it))),
            _ => Err(CodecError::Malformed(format!("kind {kind} is not an entry of the engine"))),
        }
    }
}
