//! The vault file: the data key, wrapped, and how its wrapping is opened. It is what a rotation replaces, in O(1).
//!
//! `vault`, JSON, and `vault.copy` with the same bytes, because one bad sector must not cost all the data. Each is
//! replaced whole (written aside, fsynced, renamed, folder fsynced), `vault` first. Of the intact ones the higher
//! `generation` counts, so a rotation that was cut off between the two has happened.
//!
//! ```text
//! format      1
//! cipher      "xchacha20poly1305"
//! id          of the data key (16 bytes, hex): BLAKE3[derive_key "tillsync 2026 vault key id v1"] of it, shortened
//! generation  0 at first, one more for each rotation
//! moving      true while `key encrypt` puts the encrypted files in place of the plain ones
//! stretch     for a passphrase: Argon2id's salt (16 bytes, hex), memory_kib, passes, lanes
//! wrapped     nonce 24 ‖ data key 32 encrypted ‖ tag 16, hex; bound to all fields above
//! check       BLAKE3 of all fields above, hex: tells damage from a wrong key
//! ```

use super::cipher::Cipher;
use super::source::{Source, Stretch};
use super::{Vault, VaultError};
use crate::storage::disk::{Disk, Role};
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

const FORMAT: u32 = 1;
const CIPHER: &str = "xchacha20poly1305";
/// A vault file is under 1 KiB.
const FILE_LIMIT: u64 = 16 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Header {
    format: u32,
    cipher: String,
    id: String,
    pub(super) generation: u64,
    pub(super) moving: bool,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    stretch: Option<StretchText>,
    wrapped: String,
    check: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StretchText {
    salt: String,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

pub(super) fn paths(dir: &Path) -> [PathBuf; 2] {
    ["vault", "vault.copy"].map(|name| dir.join(name))
}

impl Header {
    /// Wraps a data key for the owner of `source`.
    pub(super) fn wrap(
        vault: &Vault,
        source: &Source,
        generation: u64,
        moving: bool,
    ) -> Result<Header, VaultError> {
        let stretch = source.is_passphrase().then(|| Stretch::new(rand::random()));
        let text = |it: &Stretch| StretchText {
            salt: HEXLOWER.encode(&it.salt),
            memory_kib: it.memory_kib,
            passes: it.passes,
            lanes: it.lanes,
        };
        let mut header = Header {
            format: FORMAT,
            cipher: CIPHER.into(),
            id: HEXLOWER.encode(&vault.id()),
            generation,
            moving,
            stretch: stretch.as_ref().map(text),
            wrapped: String::new(),
            check: String::new(),
        };
        let key = source.wrapping_key(stretch.as_ref())?;
        header.wrapped = HEXLOWER.encode(&Cipher::new(&key).seal(&header.about(), vault.data_key()));
        header.check = header.expected_check();
        Ok(header)
    }

    /// The data key, for the owner of `source`.
    pub(super) fn unwrap(&self, dir: &Path, source: &Source) -> Result<Vault, VaultError> {
        let damaged = |reason: &str| VaultError::Damaged { path: dir.join("vault"), reason: reason.into() };
        let (origin, dir) = (source.origin().to_owned(), dir.to_path_buf());
        if self.stretch.is_some() != source.is_passphrase() {
            let wanted = if self.stretch.is_some() { "passphrase" } else { "key" };
            return Err(VaultError::OtherKind { dir, wanted, origin });
        }
        let stretch = self.stretch.as_ref().map(|text| {
            let salt = HEXLOWER.decode(text.salt.as_bytes()).ok()?.try_into().ok()?;
            let StretchText { memory_kib, passes, lanes, .. } = *text;
            Some(Stretch { salt, memory_kib, passes, lanes }).filter(Stretch::is_bounded)
        });
        let stretch = match stretch {
            Some(None) => return Err(damaged("the cost of its passphrase is out of bounds")),
            Some(stretch) => stretch,
            None => None,
        };
        let wrapped = HEXLOWER.decode(self.wrapped.as_bytes());
        let wrapped = wrapped.map_err(|_| damaged("its wrapped key is no hex"))?;
        let key = source.wrapping_key(stretch.as_ref())?;
        let plain = Cipher::new(&key).open(&self.about(), &wrapped).map(Zeroizing::new);
        let data_key = plain.as_deref().and_then(|plain| <[u8; 32]>::try_from(plain.as_slice()).ok());
        let vault = data_key.map(|key| Vault::new(Zeroizing::new(key)));
        vault
            .filter(|vault| HEXLOWER.encode(&vault.id()) == self.id)
            .ok_or(VaultError::WrongKey { dir, origin })
    }

    /// What the wrapping is bound to: everything but itself.
    fn about(&self) -> Vec<u8> {
        let bare = Header { wrapped: String::new(), check: String::new(), ..self.clone() };
        let fields = serde_json::to_vec(&bare).expect("strings and numbers are JSON");
        [b"tillsync 2026 vault v1 ", fields.as_slice()].concat()
    }

    fn expected_check(&self) -> String {
        let bare = Header { check: String::new(), ..self.clone() };
        let fields = serde_json::to_vec(&bare).expect("strings and numbers are JSON");
        blake3::hash(&fields).to_hex().to_string()
    }

    /// How the directory is opened, for people.
    pub(super) fn opened_by(&self) -> &'static str {
        if self.stretch.is_some() { "passphrase" } else { "key" }
    }

    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The vault file of a directory, if it has one. Whether its copy has to be written again is the second answer.
    pub(super) fn load(dir: &Path) -> Result<Option<(Header, bool)>, VaultError> {
        let mut found: Vec<Header> = Vec::new();
        let mut broken = None;
        for path in paths(dir) {
            match read(&path)? {
                None => {}
                Some(Ok(header)) => found.push(header),
                Some(Err(reason)) => broken = Some(VaultError::Damaged { path, reason }),
            }
        }
        let whole = found.len() == 2 && found[0] == found[1];
        let newest = found.into_iter().max_by_key(|header| header.generation);
        match (newest, broken) {
            (Some(header), _) => Ok(Some((header, !whole))),
            (None, Some(error)) => Err(error),
            (None, None) => Ok(None),
        }
    }

    /// Puts it in place, the file first and then its copy.
    pub(super) fn save(&self, disk: &Disk, dir: &Path) -> Result<(), VaultError> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("strings and numbers are JSON");
        bytes.push(b'\n');
        for path in paths(dir) {
            disk.replace_file(Role::Vault, &path, &bytes).map_err(|error| VaultError::Io {
                operation: "writing",
                path,
                reason: error.to_string(),
            })?;
        }
        Ok(())
    }
}

/// The file: missing, intact, or why it is not.
fn read(path: &Path) -> Result<Option<Result<Header, String>>, VaultError> {
    let length = match fs::metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| VaultError::io("reading", path, &e))?.len(),
    };
    if length > FILE_LIMIT {
        return Ok(Some(Err(format!("it is larger than {FILE_LIMIT} bytes"))));
    }
    let bytes = fs::read(path).map_err(|e| VaultError::io("reading", path, &e))?;
    Ok(Some(decode(&bytes)))
}

fn decode(bytes: &[u8]) -> Result<Header, String> {
    let header: Header = serde_json::from_slice(bytes).map_err(|error| format!("no vault file: {error}"))?;
    if header.check != header.expected_check() {
        return Err("its fields do not match their check".into());
    }
    if header.format != FORMAT || header.cipher != CIPHER {
        return Err(format!(
            "it has format {} with cipher {:?}, this program reads {FORMAT} with {CIPHER:?}; update tillsync",
            header.format, header.cipher
        ));
    }
    Ok(header)
}
