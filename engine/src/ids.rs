//! Names of things: stores, terminals, receipts, and the hashes and keys that identify records, batches,
//! writers and sessions. A name is checked once, when it is made.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest store, terminal or operator name, in bytes.
pub const NAME_LIMIT: usize = 64;

/// Why a text cannot name a store or terminal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be a name: use 1 to {NAME_LIMIT} letters, digits, '-', '_' or '.', starting with a letter or digit"
)]
pub struct BadName(pub String);

fn check_name(text: &str) -> Result<Arc<str>, BadName> {
    let fits = !text.is_empty() && text.len() <= NAME_LIMIT;
    let starts = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits && starts && plain { Ok(text.into()) } else { Err(BadName(text.chars().take(80).collect())) }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = BadName;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                check_name(text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name! {
    /// A store (ARTS BusinessUnit).
    StoreId
}

name! {
    /// A till (ARTS WorkstationID), unique in the company; or `hub`, the head office's own log in a store.
    TerminalId
}

impl TerminalId {
    /// The hub's name in its own logs. No till can be enrolled under it.
    #[must_use]
    pub fn hub() -> Self {
        Self("hub".into())
    }

    /// Whether this is the hub's own log.
    #[must_use]
    pub fn is_hub(&self) -> bool {
        &*self.0 == "hub"
    }
}

macro_rules! hash_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// The first characters, for people.
            #[must_use]
            pub fn short(&self) -> String {
                data_encoding::HEXLOWER.encode(&self.0[..6])
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.short())
            }
        }

        impl FromStr for $name {
            type Err = BadHash;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let bad = || BadHash { want: $len * 2, got: text.chars().take(80).collect() };
                let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|_| bad())?;
                bytes.try_into().map(Self).map_err(|_| bad())
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                if serializer.is_human_readable() {
                    serializer.collect_str(self)
                } else {
                    self.0.serialize(serializer)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                if deserializer.is_human_readable() {
                    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
                } else {
                    <[u8; $len]>::deserialize(deserializer).map(Self)
                }
            }
        }
    };
}

/// Why a text is not a hash or key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is not an identifier of {want} hexadecimal digits")]
pub struct BadHash {
    want: usize,
    got: String,
}

hash_id! {
    /// Identity of a record: BLAKE3 of the canonical encoding of everything in it.
    RecordId, 32
}

hash_id! {
    /// BLAKE3 of a sealed batch.
    BatchHash, 32
}

hash_id! {
    /// A writer: the ed25519 public key that names a log and signs its batches.
    WriterId, 32
}

hash_id! {
    /// A session of a writer (one start of a node): hash of key and nonce; also its Automerge actor.
    SessionId, 16
}

impl RecordId {
    /// An identity made from a symbolic name, for what-if scenarios whose records were never captured.
    #[must_use]
    pub fn symbolic(name: &str) -> Self {
        Self(
            *blake3::Hasher::new_derive_key("tillsync symbolic record id v1")
                .update(name.as_bytes())
                .finalize()
                .as_bytes(),
        )
    }
}

/// A log by what people call it: a terminal and the generation of its log (new after a wipe).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// The terminal that writes the log.
    pub terminal: TerminalId,
    /// Restart generation of the log, from 1.
    pub incarnation: u32,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.terminal, self.incarnation)
    }
}

impl fmt::Debug for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_mislead_a_path_or_a_reader_are_refused() {
        for good in ["store-1", "427", "till_07.b"] {
            assert_eq!(good.parse::<StoreId>().unwrap().as_str(), good);
        }
        let long = "x".repeat(NAME_LIMIT + 1);
        for bad in ["", "-x", "../etc", "a b", "tïll", "a:b", long.as_str()] {
            assert!(bad.parse::<TerminalId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn hashes_round_trip_through_text() {
        let id = RecordId::symbolic("S1");
        assert_eq!(id.to_string().parse::<RecordId>().unwrap(), id);
        assert!("zz".parse::<RecordId>().is_err());
    }
}
