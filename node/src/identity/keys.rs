//! The device's ed25519 key: made here, kept here, never sent anywhere.
//!
//! The file is an ordinary PKCS#8 PEM, so that an administrator can look at it with openssl. It is written
//! once and never overwritten: a lost key is a lost log, and a reinstalled till simply gets a new one.

use std::fmt;
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use rand::TryRng;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};

use super::{IdentityError, PublicKey, files};

/// RFC 8410: `OneAsymmetricKey` version 1 of an Ed25519 key; the 32 bytes of the seed follow.
const PKCS8_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// A node's secret key.
#[derive(Clone)]
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// A new key from the operating system's randomness.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn generate() -> Result<Self, IdentityError> {
        let mut seed = [0; 32];
        rand::rngs::SysRng.try_fill_bytes(&mut seed).map_err(|e| IdentityError::Certificate {
            operation: "make a device key",
            reason: format!("the operating system gave no randomness ({e}); try again later"),
        })?;
        Ok(Self(SigningKey::from_bytes(&seed)))
    }

    /// The key made of a known seed: for tests and simulators.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The key of the node in `dir`, or `None` when it has none yet.
    ///
    /// # Errors
    /// When the file cannot be read or is not a key.
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        Self::read(&key_path(dir))
    }

    /// Writes the key to `dir/identity/node.key`, readable by the owner only.
    ///
    /// # Errors
    /// When there is a key already (it is never overwritten), or the disk fails.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        self.write(&key_path(dir))
    }

    /// The key in `dir`; made and saved first when there is none. A join that was interrupted goes on with
    /// the same key, so that the hub can answer the repeat with the same grant.
    ///
    /// # Errors
    /// As [`NodeKey::load`] and [`NodeKey::save`].
    pub fn load_or_create(dir: &Path) -> Result<Self, IdentityError> {
        if let Some(key) = Self::load(dir)? {
            return Ok(key);
        }
        let key = Self::generate()?;
        key.save(dir)?;
        Ok(key)
    }

    /// The node's name.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.0.verifying_key().to_bytes()
    }

    /// For the signer of batches.
    #[must_use]
    pub fn signing_key(&self) -> &SigningKey {
        &self.0
    }

    /// A signature of `message`.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// For the TLS stack.
    #[must_use]
    pub fn rustls_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.pkcs8()))
    }

    /// For making certificates.
    ///
    /// # Errors
    /// Only when the certificate library refuses ed25519.
    pub fn rcgen_key(&self) -> Result<rcgen::KeyPair, IdentityError> {
        let der = PrivatePkcs8KeyDer::from(self.pkcs8());
        rcgen::KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ED25519).map_err(|e| {
            IdentityError::Certificate { operation: "use the ed25519 key", reason: e.to_string() }
        })
    }

    /// A secret that only this device can derive, for one named purpose.
    #[must_use]
    pub fn derive(&self, purpose: &str) -> [u8; 32] {
        blake3::derive_key(purpose, self.0.as_bytes())
    }

    fn pkcs8(&self) -> Vec<u8> {
        [PKCS8_PREFIX.as_slice(), self.0.as_bytes()].concat()
    }

    pub(super) fn read(path: &Path) -> Result<Option<Self>, IdentityError> {
        let Some(text) = files::read(path)? else { return Ok(None) };
        if files::others_can_read(path) {
            tracing::warn!(path = %path.display(), "other users of this machine can read the key; chmod 600 it");
        }
        let damaged = |reason: String| IdentityError::Damaged { path: path.to_path_buf(), reason };
        let der =
            PrivatePkcs8KeyDer::from_pem_slice(&text).map_err(|e| damaged(format!("no PEM key: {e}")))?;
        let seed =
            der.secret_pkcs8_der().strip_prefix(&PKCS8_PREFIX).and_then(|s| <[u8; 32]>::try_from(s).ok());
        let seed = seed.ok_or_else(|| damaged("it is no ed25519 key in PKCS#8 version 1".into()))?;
        Ok(Some(Self(SigningKey::from_bytes(&seed))))
    }

    pub(super) fn write(&self, path: &Path) -> Result<(), IdentityError> {
        if path.exists() {
            return Err(IdentityError::Exists(path.to_path_buf()));
        }
        let text = pem("PRIVATE KEY", &self.pkcs8());
        files::write_durably(path, text.as_bytes(), files::Readers::Owner)
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeKey({}…)", data_encoding::HEXLOWER.encode(&self.public()[..4]))
    }
}

/// Whether `signature` over `message` was made by the owner of `key`; strict, so that one signature has one
/// form.
pub(super) fn verifies(key: &PublicKey, message: &[u8], signature: &[u8; 64]) -> bool {
    VerifyingKey::from_bytes(key)
        .is_ok_and(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok())
}

/// RFC 7468 text of one DER object.
pub(super) fn pem(label: &str, der: &[u8]) -> String {
    let body = BASE64.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|l| std::str::from_utf8(l).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn key_path(dir: &Path) -> PathBuf {
    files::folder(dir).join("node.key")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_the_disk_and_is_never_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        assert!(NodeKey::load(dir.path()).unwrap().is_none());
        let key = NodeKey::load_or_create(dir.path()).unwrap();
        assert_eq!(NodeKey::load_or_create(dir.path()).unwrap().public(), key.public());
        assert!(matches!(NodeKey::generate().unwrap().save(dir.path()), Err(IdentityError::Exists(_))));
        assert!(!files::others_can_read(&key_path(dir.path())));
        assert_eq!(key.rcgen_key().unwrap().public_key_raw(), key.public());
        let signature = key.sign(b"a batch");
        assert!(
            verifies(&key.public(), b"a batch", &signature)
                && !verifies(&key.public(), b"another", &signature)
        );
    }

    #[test]
    fn a_damaged_key_is_named_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        NodeKey::load_or_create(dir.path()).unwrap();
        std::fs::write(
            key_path(dir.path()),
            "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        )
        .unwrap();
        let error = NodeKey::load_or_create(dir.path()).unwrap_err();
        assert!(error.to_string().contains("node.key"), "{error}");
    }
}
