//! A batch: the records that a writer seals and signs together. The sealed bytes are what is stored, sent and put
//! into the Automerge document, bit for bit. A [`Sealed`] value has always passed its own checks; whether it fits
//! the logs is the replica's question.

use std::sync::Arc;

use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::columns::{self, ColumnError};
use crate::ids::{BatchHash, LogId, RecordId, SessionId, StoreId, WriterId};
use crate::residuals;
use crate::time::{Day, Instant};
use crate::transaction::Transaction;

/// Version byte of a sealed batch.
pub const BATCH_VERSION: u8 = 1;
/// Most records in a batch.
pub const BATCH_RECORDS_LIMIT: usize = 1_000;
/// Most bytes of a sealed batch, compressed or not.
pub const BATCH_BYTES_LIMIT: usize = 1 << 20;
/// Most bytes of one encoded transaction.
pub const TRANSACTION_BYTES_LIMIT: usize = 128 << 10;
/// Most entries of `seen`.
const SEEN_LIMIT: usize = 4_096;
/// Memory that decoding a batch may claim: decoded values are larger than their bytes.
const DECODE_LIMIT: usize = 16 << 20;
/// The same of columns, texts included: the most lines that are lawful, and what they say.
const COLUMNS_DECODE_LIMIT: usize = 32 << 20;
/// Bytes of a signature.
pub const SIGNATURE_BYTES: usize = 64;
/// Version, codec, plain length, signature.
const HEADER_BYTES: usize = 1 + 1 + 4 + SIGNATURE_BYTES;
/// Smaller bodies are not compressed: on a link they are written by their likeness to the one before (`sync`), which
/// compressed bytes have none of.
const COMPRESS_FROM: usize = 1_000;
/// Fewer records gain nothing from columns: what tells them apart takes more than it saves.
const COLUMNS_FROM: usize = 12;

/// How hard packing rows tries (zstd).
const LEVEL: i32 = 3;

const PLAIN: u8 = 0;
const ZSTD: u8 = 1;
/// As columns, compressed.
const COLUMNS: u8 = 2;
/// As columns, amounts as residuals, compressed.
const RESIDUALS: u8 = 3;

/// What a writer seals: records in a row, and what it had received when it captured them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Batch {
    /// The store.
    pub store: StoreId,
    /// The key that writes and signs.
    pub writer: WriterId,
    /// The log: terminal and incarnation.
    pub log: LogId,
    /// Makes the session: hash of key and nonce.
    pub nonce: [u8; 16],
    /// Business day: which document.
    pub day: Day,
    /// Position in the session's list of that day's document, from 0 without gaps.
    pub index: u32,
    /// Number of the first record.
    pub first_seq: u64,
    /// The record before the first.
    pub prev: Option<RecordId>,
    /// What changed, since the writer's last batch, in what it holds: writer → highest number.
    pub seen: Vec<(WriterId, u64)>,
    /// The records, in order.
    pub entries: Vec<BatchEntry>,
}

/// A record inside a batch: what cannot be derived from its place.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BatchEntry {
    /// The till's clock.
    pub at: Instant,
    /// Effective time − `at`, ms; mostly 0.
    pub effective_later_ms: u64,
    /// What happened.
    pub transaction: Transaction,
}

/// A batch with its signature, as bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sealed {
    /// Identity of the batch: hash of its bytes without the signature.
    pub hash: BatchHash,
    /// What is stored and sent.
    pub bytes: Arc<[u8]>,
    /// What they say.
    pub batch: Batch,
}

/// Why bytes are not a sealed batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// Shorter than its header, or larger than the limit.
    #[error("a batch of {0} bytes is outside the limits ({HEADER_BYTES} to {BATCH_BYTES_LIMIT})")]
    Size(usize),
    /// A later version.
    #[error("batch version {0} is not known here; upgrade this node")]
    Version(u8),
    /// An unknown or lying compression.
    #[error("the compressed body does not fit its header")]
    Compression,
    /// The body does not decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// The columns of the body are none of a batch.
    #[error("the columns do not decode: {0}")]
    Columns(#[from] ColumnError),
    /// The signature is not the writer's.
    #[error("the signature is not of writer {0}")]
    Signature(WriterId),
    /// A list is empty or too long.
    #[error("{0} is empty or over its limit")]
    Limit(&'static str),
}

impl Batch {
    /// The session that sealed it.
    #[must_use]
    pub fn session(&self) -> SessionId {
        session_id(&self.writer, &self.nonce)
    }

    /// Number of the last record.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.first_seq + self.entries.len() as u64 - 1
    }
}

/// The session of a writer that a nonce opens.
#[must_use]
pub fn session_id(writer: &WriterId, nonce: &[u8; 16]) -> SessionId {
    let mut hasher = blake3::Hasher::new_derive_key("tillsync session v1");
    hasher.update(&writer.0);
    hasher.update(nonce);
    let mut id = [0; 16];
    id.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    SessionId(id)
}

impl Sealed {
    /// Encodes, compresses where it helps, and signs.
    ///
    /// # Panics
    /// If `key` is not the batch's writer, or the batch is over its limits: both are our own bugs.
    #[must_use]
    pub fn seal(batch: Batch, key: &SigningKey) -> Self {
        assert_eq!(key.verifying_key().to_bytes(), batch.writer.0, "a writer seals its own log only");
        check_limits(&batch).expect("the log cuts batches within the limits");
        let mut batch = batch;
        let (codec_byte, plain_len, body) = pack(&mut batch);
        let plain_len = u32::try_from(plain_len).expect("a batch is far below 4 GiB");
        let hash = hash(codec_byte, plain_len, &body);
        let mut bytes = Vec::with_capacity(HEADER_BYTES + body.len());
        bytes.extend([BATCH_VERSION, codec_byte]);
        bytes.extend(plain_len.to_le_bytes());
        bytes.extend(key.sign(&hash.0).to_bytes());
        bytes.extend(&body);
        Self { hash, bytes: bytes.into(), batch }
    }

    /// Checks bytes of any origin: size, version, bounded decompression, signature, limits, schema of every
    /// transaction.
    ///
    /// # Errors
    /// The first thing that does not hold.
    pub fn open(bytes: Arc<[u8]>) -> Result<Self, BatchError> {
        let (sealed, signature) = Self::parse(bytes)?;
        let writer = sealed.batch.writer;
        let key = VerifyingKey::from_bytes(&writer.0).map_err(|_| BatchError::Signature(writer))?;
        key.verify_strict(&sealed.hash.0, &signature).map_err(|_| BatchError::Signature(writer))?;
        Ok(sealed)
    }

    /// Reads back bytes that this node checked before it stored them; the storage's own checksum covers them.
    ///
    /// # Errors
    /// As [`Sealed::open`], but for the signature.
    pub fn reopen(bytes: Arc<[u8]>) -> Result<Self, BatchError> {
        Self::parse(bytes).map(|(sealed, _)| sealed)
    }

    fn parse(bytes: Arc<[u8]>) -> Result<(Self, Signature), BatchError> {
        if bytes.len() <= HEADER_BYTES || bytes.len() > BATCH_BYTES_LIMIT {
            return Err(BatchError::Size(bytes.len()));
        }
        if bytes[0] != BATCH_VERSION {
            return Err(BatchError::Version(bytes[0]));
        }
        let plain_len = u32::from_le_bytes([bytes[2], bytes[3], bytes[4], bytes[5]]);
        let mut signature = [0; 64];
        signature.copy_from_slice(&bytes[6..HEADER_BYTES]);
        let body = &bytes[HEADER_BYTES..];
        let hash = hash(bytes[1], plain_len, body);
        let plain = decompress(bytes[1], plain_len, body)?;
        let batch: Batch = match bytes[1] {
            COLUMNS => columns::decode(&plain, COLUMNS_DECODE_LIMIT)?,
            RESIDUALS => {
                let mut batch: Batch = columns::decode(&plain, COLUMNS_DECODE_LIMIT)?;
                residuals::put_back(&mut batch.entries);
                batch
            }
            _ => codec::decode::<_, DECODE_LIMIT>(&plain)?,
        };
        check_limits(&batch)?;
        Ok((Self { hash, bytes, batch }, Signature::from_bytes(&signature)))
    }
}

/// Signature and body of sealed bytes whose body is plain; `None` if it is not, or the header says something else.
#[must_use]
pub fn plain_parts(sealed: &[u8]) -> Option<(&[u8; SIGNATURE_BYTES], &[u8])> {
    let (header, body) = sealed.split_first_chunk::<HEADER_BYTES>()?;
    let (start, signature) = header.split_last_chunk()?;
    (start == plain_start(body.len())?).then_some((signature, body))
}

/// The sealed bytes of a plain body and its signature; [`plain_parts`] takes them apart.
///
/// # Panics
/// If the body is over [`BATCH_BYTES_LIMIT`].
#[must_use]
pub fn of_plain_parts(signature: &[u8; SIGNATURE_BYTES], body: &[u8]) -> Vec<u8> {
    let start = plain_start(body.len()).expect("a body is within the limits of a batch");
    [&start, signature.as_slice(), body].concat()
}

/// What stands before the signature of a plain body of that length.
fn plain_start(length: usize) -> Option<[u8; HEADER_BYTES - SIGNATURE_BYTES]> {
    let length = u32::try_from(length).ok()?.to_le_bytes();
    Some([BATCH_VERSION, PLAIN, length[0], length[1], length[2], length[3]])
}

fn check_limits(batch: &Batch) -> Result<(), BatchError> {
    if batch.entries.is_empty() || batch.entries.len() > BATCH_RECORDS_LIMIT {
        return Err(BatchError::Limit("the list of records"));
    }
    if batch.seen.len() > SEEN_LIMIT {
        return Err(BatchError::Limit("seen"));
    }
    let highest = batch.first_seq.checked_add(batch.entries.len() as u64);
    if batch.first_seq == 0 || highest.is_none_or(|seq| seq > 1 << 48) {
        return Err(BatchError::Limit("first_seq"));
    }
    Ok(())
}

fn hash(codec_byte: u8, plain_len: u32, body: &[u8]) -> BatchHash {
    let mut hasher = blake3::Hasher::new_derive_key("tillsync batch v1");
    hasher.update(&[BATCH_VERSION, codec_byte]);
    hasher.update(&plain_len.to_le_bytes());
    hasher.update(body);
    BatchHash(*hasher.finalize().as_bytes())
}

/// How the body is written, how long it is before it is compressed, and the body.
fn pack(batch: &mut Batch) -> (u8, usize, Vec<u8>) {
    if batch.entries.len() >= COLUMNS_FROM {
        residuals::take_off(&mut batch.entries);
        let packed = columns::pack(batch);
        residuals::put_back(&mut batch.entries);
        if let Ok(packed) = packed
            && packed.plain_len.max(HEADER_BYTES + packed.bytes.len()) <= BATCH_BYTES_LIMIT
        {
            return (RESIDUALS, packed.plain_len, packed.bytes);
        }
    }
    let plain = codec::encode(batch);
    if plain.len() >= COMPRESS_FROM
        && let Ok(packed) = zstd::bulk::compress(&plain, LEVEL)
        && packed.len() < plain.len()
    {
        return (ZSTD, plain.len(), packed);
    }
    (PLAIN, plain.len(), plain)
}

fn decompress(codec_byte: u8, plain_len: u32, body: &[u8]) -> Result<Vec<u8>, BatchError> {
    let plain_len = usize::try_from(plain_len).map_err(|_| BatchError::Compression)?;
    if plain_len > BATCH_BYTES_LIMIT {
        return Err(BatchError::Compression);
    }
    let plain = match codec_byte {
        PLAIN => body.to_vec(),
        ZSTD | COLUMNS | RESIDUALS => {
            zstd::bulk::decompress(body, plain_len).map_err(|_| BatchError::Compression)?
        }
        _ => return Err(BatchError::Compression),
    };
    if plain.len() == plain_len { Ok(plain) } else { Err(BatchError::Compression) }
}
