//! Where a key comes from: a key file, the environment, systemd's credential folder, or a passphrase.
//!
//! What is typed outranks a variable, a variable outranks the credential folder. Nothing is ever asked for, nothing
//! that was read is printed, and memory that held it is wiped.

use super::VaultError;
use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::{BASE64, HEXLOWER_PERMISSIVE};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use zeroize::Zeroizing;

/// A passphrase shorter than this is no secret, in bytes.
const PASSPHRASE_BYTES_MIN: usize = 8;
/// A secret file larger than this is something else.
const FILE_LIMIT: u64 = 4096;

/// Cost of guessing a passphrase (Argon2id). Kept beside the data, so that it may rise later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) salt: [u8; 16],
    /// Memory, KiB.
    pub(super) memory_kib: u32,
    /// Passes over it.
    pub(super) passes: u32,
    /// Lanes.
    pub(super) lanes: u32,
}

impl Stretch {
    /// The second recommendation of RFC 9106, section 4: 64 MiB, 3 passes, 4 lanes.
    pub(super) fn new(salt: [u8; 16]) -> Stretch {
        Stretch { salt, memory_kib: 64 << 10, passes: 3, lanes: 4 }
    }

    /// Whether this is a cost that a header may ask for: a forged one must not take all memory or for ever.
    pub(super) fn is_bounded(&self) -> bool {
        (1..=16).contains(&self.lanes)
            && (1..=64).contains(&self.passes)
            && (8 * self.lanes..=1 << 20).contains(&self.memory_kib)
    }
}

/// What opens a data directory.
#[derive(Clone)]
pub struct Source {
    secret: Secret,
    origin: String,
    /// The file it was read from, if any.
    path: Option<PathBuf>,
}

#[derive(Clone)]
enum Secret {
    Key(Zeroizing<[u8; 32]>),
    Passphrase(Zeroizing<Vec<u8>>),
}

/// What the command line said, once for the process.
static DECLARED: OnceLock<(Option<PathBuf>, Option<PathBuf>)> = OnceLock::new();

/// Says which files the command line named; the first to say so counts.
pub fn declare(key_file: Option<PathBuf>, passphrase_file: Option<PathBuf>) {
    let _ = DECLARED.set((key_file, passphrase_file));
}

impl Source {
    /// What this process was given, if anything.
    ///
    /// # Errors
    /// Something was given that cannot be read or can be no key.
    pub fn of_process() -> Result<Option<Source>, VaultError> {
        let (key_file, passphrase_file) = DECLARED.get().cloned().unwrap_or_default();
        if let Some(path) = key_file {
            return Source::key_file(&path).map(Some);
        }
        if let Some(path) = passphrase_file {
            return Source::passphrase_file(&path).map(Some);
        }
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        if let Some(path) = variable("TILLSYNC_KEY_FILE") {
            return Source::key_file(Path::new(&path)).map(Some);
        }
        if let Some(key) = variable("TILLSYNC_KEY") {
            let key = Zeroizing::new(key.into_encoded_bytes());
            return Source::key(&key, "the variable TILLSYNC_KEY".into()).map(Some);
        }
        if let Some(path) = variable("TILLSYNC_PASSPHRASE_FILE") {
            return Source::passphrase_file(Path::new(&path)).map(Some);
        }
        if let Some(words) = variable("TILLSYNC_PASSPHRASE") {
            let words = Zeroizing::new(words.into_encoded_bytes());
            return Source::passphrase(&words, "the variable TILLSYNC_PASSPHRASE".into()).map(Some);
        }
        let Some(folder) = variable("CREDENTIALS_DIRECTORY").map(PathBuf::from) else { return Ok(None) };
        let [key, passphrase] = ["tillsync.key", "tillsync.passphrase"].map(|name| folder.join(name));
        if key.exists() {
            return Source::key_file(&key).map(Some);
        }
        if passphrase.exists() {
            return Source::passphrase_file(&passphrase).map(Some);
        }
        Ok(None)
    }

    /// The key in a file: 32 bytes, or as 64 hexadecimal digits, or in base64.
    ///
    /// # Errors
    /// The file cannot be read or holds no key.
    pub fn key_file(path: &Path) -> Result<Source, VaultError> {
        let bytes = read(path)?;
        let made = Source::key(&bytes, format!("the key file {}", path.display()))?;
        Ok(Source { path: Some(path.to_path_buf()), ..made })
    }

    /// The passphrase in a file; one line end behind it does not count.
    ///
    /// # Errors
    /// The file cannot be read, or the passphrase is too short.
    pub fn passphrase_file(path: &Path) -> Result<Source, VaultError> {
        let bytes = read(path)?;
        let words = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let words = words.strip_suffix(b"\r").unwrap_or(words);
        let made = Source::passphrase(words, format!("the passphrase file {}", path.display()))?;
        Ok(Source { path: Some(path.to_path_buf()), ..made })
    }

    fn key(bytes: &[u8], origin: String) -> Result<Source, VaultError> {
        let text = bytes.trim_ascii();
        let key = match (bytes.len(), text.len()) {
            (32, _) => Some(Zeroizing::new(bytes.to_vec())),
            (_, 64) => HEXLOWER_PERMISSIVE.decode(text).ok().map(Zeroizing::new),
            (_, 44) => BASE64.decode(text).ok().map(Zeroizing::new),
            _ => None,
        };
        let key = key.as_deref().and_then(|key| <[u8; 32]>::try_from(key.as_slice()).ok());
        let Some(key) = key.map(Zeroizing::new) else {
            let reason = "a key is 32 bytes, 64 hexadecimal digits, or 44 letters of base64".to_owned();
            return Err(VaultError::BadKey { origin, reason });
        };
        if key.iter().all(|byte| *byte == key[0]) {
            return Err(VaultError::BadKey { origin, reason: "all its bytes are the same".into() });
        }
        Ok(Source { secret: Secret::Key(key), origin, path: None })
    }

    fn passphrase(words: &[u8], origin: String) -> Result<Source, VaultError> {
        if words.len() < PASSPHRASE_BYTES_MIN {
            let reason = format!("the passphrase is shorter than {PASSPHRASE_BYTES_MIN} bytes");
            return Err(VaultError::BadKey { origin, reason });
        }
        Ok(Source { secret: Secret::Passphrase(Zeroizing::new(words.to_vec())), origin, path: None })
    }

    /// Where it came from, for messages.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    pub(super) fn is_passphrase(&self) -> bool {
        matches!(self.secret, Secret::Passphrase(_))
    }

    /// A key that lies in the folder it protects is stolen with it.
    pub(super) fn lies_in(&self, dir: &Path) -> bool {
        let path = self.path.as_deref().and_then(|path| path.canonicalize().ok());
        path.zip(dir.canonicalize().ok()).is_some_and(|(path, dir)| path.starts_with(dir))
    }

    /// The key that wraps the data key. A passphrase is stretched: slow on purpose, a fifth of a second and 64 MiB.
    pub(super) fn wrapping_key(&self, stretch: Option<&Stretch>) -> Result<Zeroizing<[u8; 32]>, VaultError> {
        let derived = |secret: &[u8]| {
            Zeroizing::new(blake3::derive_key("tillsync 2026 vault key encryption key v1", secret))
        };
        match (&self.secret, stretch) {
            (Secret::Passphrase(words), Some(stretch)) => {
                let failed = |error: argon2::Error| VaultError::BadKey {
                    origin: self.origin.clone(),
                    reason: format!("Argon2id refused: {error}"),
                };
                let Stretch { salt, memory_kib, passes, lanes } = stretch;
                let params = Params::new(*memory_kib, *passes, *lanes, Some(32)).map_err(failed)?;
                let mut out = Zeroizing::new([0; 32]);
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                argon2.hash_password_into(words, salt, out.as_mut_slice()).map_err(failed)?;
                Ok(derived(out.as_slice()))
            }
            (Secret::Key(key), _) => Ok(derived(key.as_slice())),
            (Secret::Passphrase(_), None) => Err(VaultError::BadKey {
                origin: self.origin.clone(),
                reason: "a passphrase was given where a key opens".into(),
            }),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({})", self.origin)
    }
}

fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, VaultError> {
    let failed = |error: &std::io::Error| VaultError::io("reading the key in", path, error);
    let length = fs::metadata(path).map_err(|e| failed(&e))?.len();
    if length > FILE_LIMIT {
        let reason = format!("it is larger than {FILE_LIMIT} bytes");
        return Err(VaultError::BadKey { origin: path.display().to_string(), reason });
    }
    let bytes = Zeroizing::new(fs::read(path).map_err(|e| failed(&e))?);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        if fs::metadata(path).is_ok_and(|it| it.permissions().mode() & 0o077 != 0) {
            tracing::warn!(path = %path.display(), "other users of this machine can read the key; chmod 600 it");
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key_of(bytes: &[u8]) -> Option<[u8; 32]> {
        match Source::key(bytes, "test".into()).ok()?.secret {
            Secret::Key(key) => Some(*key),
            Secret::Passphrase(_) => None,
        }
    }

    #[test]
    fn a_key_has_three_forms_and_anything_else_is_refused() {
        let key: Vec<u8> = (1..33).collect();
        let expected = <[u8; 32]>::try_from(key.as_slice()).ok();
        assert_eq!(key_of(&key), expected);
        assert_eq!(key_of(format!("{}\n", HEXLOWER_PERMISSIVE.encode(&key)).as_bytes()), expected);
        assert_eq!(key_of(BASE64.encode(&key).as_bytes()), expected);
        for wrong in [&b""[..], b"secret", &[7; 31], &[0; 32], &[b'x'; 64]] {
            assert_eq!(key_of(wrong), None, "{wrong:?}");
        }
    }

    /// Every parameter reaches the function.
    #[test]
    fn a_passphrase_is_stretched_by_its_salt_and_cost() {
        let source = Source::passphrase(b"correct horse", "test".into()).unwrap();
        let stretch = Stretch { salt: [1; 16], memory_kib: 64, passes: 1, lanes: 1 };
        let key = |stretch: Stretch| *source.wrapping_key(Some(&stretch)).unwrap();
        assert_eq!(key(stretch), key(stretch));
        for other in [
            Stretch { salt: [2; 16], ..stretch },
            Stretch { memory_kib: 128, ..stretch },
            Stretch { passes: 2, ..stretch },
            Stretch { lanes: 2, ..stretch },
        ] {
            assert_ne!(key(stretch), key(other), "{other:?}");
        }
        assert!(Source::passphrase(b"short", "test".into()).is_err());
    }

    #[test]
    fn a_header_cannot_ask_for_all_memory_or_for_ever() {
        let good = Stretch::new([0; 16]);
        assert!(good.is_bounded());
        for bad in [
            Stretch { memory_kib: u32::MAX, ..good },
            Stretch { memory_kib: 8, ..good },
            Stretch { passes: 0, ..good },
            Stretch { passes: 65, ..good },
            Stretch { lanes: 0, ..good },
            Stretch { lanes: u32::MAX / 8, ..good },
        ] {
            assert!(!bad.is_bounded(), "{bad:?}");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let source = Source::passphrase(b"correct horse", "the file f".into()).unwrap();
        assert_eq!(format!("{source:?}"), "Source(the file f)");
    }
}
