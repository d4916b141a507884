//! What sled may see of an encrypted index: names as keyed hashes, values encrypted and bound to their name.
//!
//! A value is sealed together with its real key, so a scan can tell what it found. This file never touches sled.

use super::super::vault::Vault;
use super::super::vault::cipher::Cipher;
use super::{Pair, Put};
use zeroize::Zeroizing;

/// The two keys of one index.
pub(super) struct Cover {
    names: Zeroizing<[u8; 32]>,
    values: Cipher,
}

impl Cover {
    pub(super) fn new(vault: &Vault, log_id: &[u8; 16]) -> Cover {
        Cover {
            names: vault.derive("tillsync 2026 vault index names v1", log_id),
            values: Cipher::new(&vault.derive("tillsync 2026 vault index values v1", log_id)),
        }
    }

    /// The name under which a key lies in sled.
    pub(super) fn name(&self, key: &[u8]) -> Vec<u8> {
        blake3::keyed_hash(&self.names, key).as_bytes().to_vec()
    }

    /// A key and its new value as sled gets them.
    pub(super) fn pair(&self, key: &[u8], value: Option<&[u8]>) -> Put {
        let name = self.name(key);
        let sealed = value.map(|value| {
            let length = u16::try_from(key.len()).unwrap_or(u16::MAX).to_le_bytes();
            self.values.seal(&name, &[&length[..], key, value].concat())
        });
        (name, sealed)
    }

    /// Key and value of what lies in sled under a name.
    pub(super) fn open(&self, name: &[u8], raw: &[u8]) -> Option<Pair> {
        let plain = self.values.open(name, raw)?;
        let (length, rest) = plain.split_first_chunk::<2>()?;
        let (key, value) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
        Some((key.to_vec(), value.to_vec()))
    }
}
