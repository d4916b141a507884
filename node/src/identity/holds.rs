//! What a till holds of a hub's answers about papers, as hashes: it says them when it asks, so that the hub need not repeat
//! what has not changed. They prove nothing and open nothing; where one does not fit, the answer is whole.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

/// Context of the hashes.
const CONTEXT: &str = "tillsync 2026 papers that a till holds v1";
/// Bytes kept of a hash.
const HASH_BYTES: usize = 16;

/// Hashes of the two lists that a till keeps; what is not held, or not said, is an empty text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holds {
    /// Of the company certificates that it believes, in their order, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    trusted: String,
    /// Of the list of hubs that it was told last, in its order, 32 hexadecimal digits.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    hubs: String,
}

impl Holds {
    /// Of company certificates (DER), and of hubs (`host:port`) as they were told.
    #[must_use]
    pub fn of(trusted: &[Vec<u8>], hubs: &[String]) -> Self {
        Self { trusted: hash(trusted), hubs: hash(hubs) }
    }

    /// Whether whoever holds this has both lists already. An empty list of hubs has nothing to say.
    #[must_use]
    pub fn has(&self, trusted: &[Vec<u8>], hubs: &[String]) -> bool {
        !trusted.is_empty() && self.trusted == hash(trusted) && (hubs.is_empty() || self.hubs == hash(hubs))
    }
}

/// Of a list and its order; empty for an empty list.
fn hash<T: AsRef<[u8]>>(list: &[T]) -> String {
    if list.is_empty() {
        return String::new();
    }
    let mut hasher = blake3::Hasher::new_derive_key(CONTEXT);
    for piece in list {
        let piece = piece.as_ref();
        hasher.update(&(piece.len() as u64).to_le_bytes());
        hasher.update(piece);
    }
    HEXLOWER.encode(&hasher.finalize().as_bytes()[..HASH_BYTES])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_holds_other_lists_or_says_nothing_has_not_these() {
        let (one, two) = (vec![1; 300], vec![2; 300]);
        let hubs = ["a:1".to_owned(), "b:1".to_owned()];
        let holds = Holds::of(&[one.clone(), two.clone()], &hubs);
        assert!(holds.has(&[one.clone(), two.clone()], &hubs));
        assert!(holds.has(&[one.clone(), two.clone()], &[]), "a hub that is alone names none");
        assert!(!holds.has(&[two.clone(), one.clone()], &hubs), "the first is the one that signs");
        assert!(
            !holds.has(std::slice::from_ref(&one), &hubs)
                && !holds.has(&[one.clone(), two.clone()], &hubs[..1])
        );
        assert!(!holds.has(&[[one.clone(), two.clone()].concat()], &hubs), "where one ends counts");
        assert!(
            !Holds::of(std::slice::from_ref(&one), &[]).has(std::slice::from_ref(&one), &hubs),
            "it was told no hubs"
        );
        assert!(!Holds::default().has(&[one], &[]) && !Holds::default().has(&[], &[]));
    }
}
