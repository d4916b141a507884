//! Bytes to values and back: the one file that names bincode. Decoding is bounded before it allocates, and
//! trailing bytes are an error. Version bytes and hashes stand outside the codec (FORMAT.md).

use bincode::config::{Configuration, Limit, LittleEndian, Varint, standard};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why bytes do not decode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// The bytes are not of this type, or claim more than the limit.
    #[error("the bytes do not decode: {0}")]
    Malformed(String),
    /// Something follows the value.
    #[error("{0} bytes follow the value")]
    Trailing(usize),
}

/// Room for most values at once: growing byte by byte costs more than encoding.
const USUAL_BYTES: usize = 512;

/// Encodes a value canonically.
///
/// # Panics
/// Only on types that cannot be encoded at all, which no type of ours is.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    bincode::serde::encode_into_std_write(value, &mut bytes, standard()).expect("our own types encode");
    bytes
}

/// Decodes a value that fills `bytes` exactly and takes no more than `LIMIT` bytes of memory claims.
///
/// # Errors
/// Malformed, over the limit, or trailing bytes.
pub fn decode<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    let (value, rest) = decode_head::<T, LIMIT>(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError::Trailing(rest.len())) }
}

/// Decodes the value that bytes begin with.
///
/// # Errors
/// As [`decode`], but more may follow.
pub fn decode_first<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<T, CodecError> {
    decode_head::<T, LIMIT>(bytes).map(|(value, _)| value)
}

/// Decodes the value that bytes begin with; gives it and what follows.
///
/// # Errors
/// As [`decode`], but more may follow.
pub fn decode_head<T: DeserializeOwned, const LIMIT: usize>(bytes: &[u8]) -> Result<(T, &[u8]), CodecError> {
    let config: Configuration<LittleEndian, Varint, Limit<LIMIT>> = standard().with_limit::<LIMIT>();
    let (value, used) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|error| CodecError::Malformed(error.to_string().chars().take(160).collect()))?;
    Ok((value, &bytes[used..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_claims_terabytes_is_refused_without_allocating() {
        let claim = [253, 255, 255, 255, 255, 255, 255, 255, 127, 1, 2, 3];
        assert!(matches!(decode::<String, 1024>(&claim), Err(CodecError::Malformed(_))));
        assert!(matches!(decode::<Vec<u64>, 1024>(&claim), Err(CodecError::Malformed(_))));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&7u32);
        bytes.push(0);
        assert_eq!(decode::<u32, 64>(&bytes), Err(CodecError::Trailing(1)));
    }
}
