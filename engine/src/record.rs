//! A record: a transaction in a till's log, numbered, chained and time-stamped. Its id is the hash of everything
//! in it, so ids are derived, never sent.

use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use serde::{Deserialize, Serialize};

use crate::codec;
use crate::ids::{LogId, RecordId, StoreId, WriterId};
use crate::time::{Day, Instant};
use crate::transaction::Transaction;

/// Version of the canonical encoding of a record.
pub const RECORD_VERSION: u8 = 1;

/// A transaction in a log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Hash of everything else (and of the writer's key).
    pub id: RecordId,
    /// The store.
    pub store: StoreId,
    /// The log: terminal and incarnation.
    pub log: LogId,
    /// Number in the log, from 1 without gaps, across days and sessions.
    pub seq: u64,
    /// The record before it in the log.
    pub prev: Option<RecordId>,
    /// Accounting date, chosen by the till.
    pub business_day: Day,
    /// The till's clock.
    pub at: Instant,
    /// `at`, or later: strictly after everything the till knew (LEDGER-RULES section 4). Milliseconds since 1970.
    pub effective_ms: i64,
    /// What happened.
    pub transaction: Transaction,
}

/// Where a record stands in its log: what its id is derived from, beside the transaction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Place {
    /// The store.
    pub store: StoreId,
    /// The key that writes the log.
    pub writer: WriterId,
    /// The log.
    pub log: LogId,
    /// Number in the log.
    pub seq: u64,
    /// The record before it.
    pub prev: Option<RecordId>,
    /// Accounting date.
    pub business_day: Day,
    /// The till's clock.
    pub at: Instant,
    /// Effective time, ms since 1970.
    pub effective_ms: i64,
}

impl Record {
    /// Puts a transaction in its place and derives the id.
    #[must_use]
    pub fn new(place: Place, transaction: Transaction) -> Self {
        Self::measured(place, transaction).0
    }

    /// As [`Record::new`], and how many bytes the transaction has encoded.
    #[must_use]
    pub fn measured(place: Place, transaction: Transaction) -> (Self, usize) {
        let encoded = codec::encode(&transaction);
        let id = derive_id(&place, &encoded);
        let Place { store, writer: _, log, seq, prev, business_day, at, effective_ms } = place;
        let record = Self { id, store, log, seq, prev, business_day, at, effective_ms, transaction };
        (record, encoded.len())
    }
}

/// The effective time of a record: its own clock, but not before its predecessor, and after everything its till
/// had received (`horizon_ms` is the latest effective time among those).
#[must_use]
pub fn effective_ms(at: Instant, prev_ms: Option<i64>, horizon_ms: Option<i64>) -> i64 {
    let after_seen = horizon_ms.map_or(i64::MIN, |ms| ms.saturating_add(1));
    at.ms.max(prev_ms.unwrap_or(i64::MIN)).max(after_seen)
}

/// The key that the context of record ids gives: derived once, not for every record.
static CONTEXT: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("tillsync record v1"));

/// The id of a record by its place and its encoded transaction.
pub(crate) fn derive_id(place: &Place, transaction: &[u8]) -> RecordId {
    let mut hasher = blake3::Hasher::new_from_context_key(&CONTEXT);
    hasher.update(&[RECORD_VERSION]);
    hasher.update(&codec::encode(place));
    hasher.update(transaction);
    RecordId(*hasher.finalize().as_bytes())
}
