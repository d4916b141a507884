//! What two nodes say to each other. One message is one frame: a version byte and a bincode value, bounded before
//! it is decoded.

use serde::{Deserialize, Serialize};

use crate::batch::{BATCH_BYTES_LIMIT, SIGNATURE_BYTES};
use crate::codec::{self, CodecError};
use crate::document::ChangeId;
use crate::ids::{BatchHash, SessionId, StoreId};
use crate::money::Currency;
use crate::time::Day;

/// Version of the conversation.
pub const PROTOCOL_VERSION: u8 = 1;
/// Most bytes of an encoded message: a largest batch and its envelope.
pub const MESSAGE_BYTES_LIMIT: usize = BATCH_BYTES_LIMIT + (64 << 10);

/// What a node holds of one business day: how many batches of each session.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// The business day.
    pub day: Day,
    /// Batches held, by session, without gaps from the first.
    pub sessions: Vec<(SessionId, u32)>,
}

/// Head of a hash over the batches that went one way over a connection, in order.
pub type Digest = [u8; 8];

/// The digest of what went before and then these batches; before the first it is zero.
#[must_use]
pub fn digest(before: Digest, batches: impl IntoIterator<Item = BatchHash>) -> Digest {
    let mut hasher = blake3::Hasher::new_derive_key("tillsync batches on a connection v1");
    hasher.update(&before);
    for batch in batches {
        hasher.update(&batch.0);
    }
    let mut head = Digest::default();
    head.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    head
}

/// A sealed batch on its way.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Carried {
    /// The sealed bytes.
    #[serde(with = "super::bytes")]
    pub bytes: Vec<u8>,
    /// Hash of the Automerge change that the sender built from them; the receiver must arrive at the same.
    pub change: ChangeId,
}

/// A batch written by its likeness to what both ends expect of its session (`sync::familiar`).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Short {
    /// Which of the expected bodies it is written by: 1 is that of the session that wrote last; 0 none.
    pub like: u8,
    /// Head of the hash of the Automerge change; the receiver must arrive at the same.
    pub change: [u8; 8],
    /// The signature, and the steps that make the body.
    #[serde(with = "super::bytes")]
    pub rest: Vec<u8>,
}

/// What a sender says of the Automerge change that it built from a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Announced {
    /// Its hash.
    Whole(ChangeId),
    /// The first bytes of its hash. It is a check that both ends build the same, not one that a forger has to pass: a batch
    /// is believed for its signature, and what is stored is the change that was built here.
    Head([u8; 8]),
}

impl Announced {
    /// Whether a change is the one that was announced.
    #[must_use]
    pub fn is(&self, change: &ChangeId) -> bool {
        match self {
            Self::Whole(whole) => change == whole,
            Self::Head(head) => change.starts_with(head),
        }
    }
}

/// What both ends of a link understand; they find out when they connect, and it holds as long as the link.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// Every batch in full; all that older nodes know.
    Full,
    /// Batches of one record also as [`Message::Short`].
    Short,
}

/// How a node is doing, told every few seconds.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// The sender's wall clock, ms since 1970.
    pub clock_ms: i64,
    /// Records captured there that the hub does not hold yet.
    pub waiting: u64,
    /// Policy version in force there.
    pub policy_version: u64,
    /// Last number of the sender's own log.
    pub head_seq: u64,
    /// Version of the software.
    pub software: String,
    /// When the oldest record that waits was captured, by the sender's clock, ms since 1970; `None` if none waits.
    pub oldest_waiting_ms: Option<i64>,
    /// Gross value of what waits, by currency: sales less refunds and voids, minor units.
    pub waiting_minor: Vec<(Currency, i64)>,
}

/// Currencies whose waiting value is told; a store that takes more has the others left out.
pub const WAITING_CURRENCIES: usize = 16;
/// Longest version text, in bytes.
const SOFTWARE_BYTES: usize = 100;

/// What is said.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Message {
    /// First word of both sides: the store, and a digest of everything held.
    Hello {
        /// The store that this conversation is about.
        store: StoreId,
        /// Digest over the digests of all days.
        digest: [u8; 32],
        /// The sender's wall clock, ms since 1970.
        clock_ms: i64,
    },
    /// The digests differ: each day's.
    Days(Vec<(Day, [u8; 16])>),
    /// What is held of the days that differ.
    Vector {
        /// The days.
        held: Vec<Held>,
        /// The sender wants the receiver's vector of the same days.
        reply: bool,
    },
    /// Batches the other side lacks, in causal order.
    Batches {
        /// Number of this message in this direction of the connection, from 1.
        number: u64,
        /// The batches.
        batches: Vec<Carried>,
    },
    /// Every batch up to this message is durable here, or refused.
    Ack {
        /// Number of the last message.
        number: u64,
        /// What came in all of them (`sync::digest`): whoever sent something else must not take this for its own.
        digest: Digest,
    },
    /// A batch was not admitted; those beside it were.
    Refused {
        /// The batch.
        batch: BatchHash,
        /// Why.
        reason: String,
    },
    /// How the sender is doing.
    Status(Status),
    /// Clocks, compared once a connection: asked with `echo: None`, answered with what was asked.
    Clock {
        /// The sender's clock as it sends, ms since 1970.
        sent_ms: i64,
        /// In the answer: the other's `sent_ms`, and the sender's clock as it arrived.
        echo: Option<(i64, i64)>,
    },
    /// As `Batches`, each of one record and written by what both ends have seen; only in [`Dialect::Short`].
    Short {
        /// Number of this message, counted together with those of `Batches`.
        number: u64,
        /// The batches, at most [`SHORT_BATCHES_LIMIT`].
        batches: Vec<Short>,
    },
}

/// How bincode numbers [`Message::Batches`].
const BATCHES: u8 = 3;
/// How bincode numbers [`Message::Short`].
const SHORT: u8 = 8;
/// Most batches of a message that are written short.
pub const SHORT_BATCHES_LIMIT: usize = 64;
/// Largest body of a batch that is written short, in bytes; larger ones are compressed when they are sealed.
pub const SHORT_BODY_LIMIT: usize = 1_024;
/// Most bytes of sealed batches that a byte of them gives: each has its own signature and head of a hash.
const SHORT_GROWS: usize = SHORT_BODY_LIMIT.div_ceil(SIGNATURE_BYTES + 8) + 1;

/// Why bytes are not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// Too long.
    #[error("a message of {0} bytes is over the limit of {MESSAGE_BYTES_LIMIT}")]
    Size(usize),
    /// Another protocol version.
    #[error(
        "protocol version {0} is not spoken here (this node speaks {PROTOCOL_VERSION}); upgrade the older node"
    )]
    Version(u8),
    /// The value does not decode.
    #[error(transparent)]
    Codec(#[from] CodecError),
    /// Nothing at all.
    #[error("the message is empty")]
    Empty,
}

impl Message {
    /// The bytes of one frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![PROTOCOL_VERSION];
        bytes.extend(codec::encode(self));
        bytes
    }

    /// Most bytes of sealed batches that a frame may bring, whatever else it is. What is not surely another message is taken
    /// for a short one: numbers can be spelled longer than they are.
    #[must_use]
    pub fn brings_at_most(frame: &[u8]) -> usize {
        let surely_full = frame.get(1).is_none_or(|number| *number < SHORT);
        if surely_full { frame.len() } else { frame.len().saturating_mul(SHORT_GROWS) }
    }

    /// Whether a frame, as every honest node writes it, is [`Message::Batches`].
    #[must_use]
    pub fn is_batches(frame: &[u8]) -> bool {
        frame.get(1) == Some(&BATCHES)
    }

    /// Reads one frame.
    ///
    /// # Errors
    /// Too long, another version, or malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        if bytes.len() > MESSAGE_BYTES_LIMIT {
            return Err(MessageError::Size(bytes.len()));
        }
        let (&version, body) = bytes.split_first().ok_or(MessageError::Empty)?;
        if version != PROTOCOL_VERSION {
            return Err(MessageError::Version(version));
        }
        let message = codec::decode::<_, { 4 * MESSAGE_BYTES_LIMIT }>(body)?;
        match &message {
            // Kept for as long as the node runs.
            Self::Status(status)
                if status.software.len() > SOFTWARE_BYTES
                    || status.waiting_minor.len() > WAITING_CURRENCIES =>
            {
                Err(MessageError::Size(bytes.len()))
            }
            Self::Short { batches, .. } if batches.len() > SHORT_BATCHES_LIMIT => {
                Err(MessageError::Size(bytes.len()))
            }
            _ => Ok(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_short_batches_says_how_much_it_may_bring_and_is_bounded() {
        let short = |rest: usize| Short { like: 0, change: [0; 8], rest: vec![0; rest] };
        let message = |batches: Vec<Short>| Message::Short { number: 1, batches }.encode();
        let smallest = message(vec![short(SIGNATURE_BYTES); SHORT_BATCHES_LIMIT]);
        let most = SHORT_BATCHES_LIMIT * (SHORT_BODY_LIMIT + 6 + SIGNATURE_BYTES);
        assert!(Message::brings_at_most(&smallest) >= most);
        assert!(Message::decode(&smallest).is_ok());
        let more = message(vec![short(SIGNATURE_BYTES); SHORT_BATCHES_LIMIT + 1]);
        assert!(matches!(Message::decode(&more), Err(MessageError::Size(_))));
        let full = Message::Batches { number: 1, batches: Vec::new() }.encode();
        assert_eq!(Message::brings_at_most(&full), full.len());
        let spelled_longer = [&[PROTOCOL_VERSION, 251, SHORT, 0], &smallest[2..]].concat();
        assert_eq!(Message::decode(&spelled_longer), Message::decode(&smallest));
        assert!(Message::brings_at_most(&spelled_longer) >= most);
    }

    #[test]
    fn a_message_round_trips_and_garbage_is_refused() {
        let message =
            Message::Batches { number: 3, batches: vec![Carried { bytes: vec![1, 2, 3], change: [9; 32] }] };
        let bytes = message.encode();
        assert_eq!(Message::decode(&bytes), Ok(message));
        assert!(Message::is_batches(&bytes));
        assert!(!Message::is_batches(&Message::Days(Vec::new()).encode()));
        assert_eq!(Message::decode(&[]), Err(MessageError::Empty));
        assert_eq!(Message::decode(&[9, 1]), Err(MessageError::Version(9)));
        assert!(Message::decode(&bytes[..bytes.len() - 1]).is_err());
        assert!(matches!(Message::decode(&vec![1; MESSAGE_BYTES_LIMIT + 1]), Err(MessageError::Size(_))));
        let claim = [1, 3, 1, 253, 255, 255, 255, 255, 255, 255, 255, 127];
        assert!(matches!(Message::decode(&claim), Err(MessageError::Codec(_))));
    }
}
