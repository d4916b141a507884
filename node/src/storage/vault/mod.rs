//! Encryption at rest: the key of a data directory, and who may open it.
//!
//! **The directory decides.** A folder with a `vault` file is encrypted: whoever opens its log or reads one of its files
//! comes through here, and without the key there is an error, never a plain file beside encrypted ones and never a new
//! beginning. A folder without one is plain, as all were before.
//!
//! A random data key encrypts; it is wrapped by a key that a key file, the environment or a passphrase gives
//! (source.rs, header.rs). So another key is one small file written anew (`rotate`), and the data stay as they are.
//! Everything else is derived from the data key, one key a purpose: log frames (frame.rs), names and values of the
//! index (index.rs), small files (`cover`). convert.rs turns a plain folder into an encrypted one.
//!
//! What it does not do: a thief sees the sizes and times of files, how long each entry is, and where nodes listen. An
//! older copy of the whole folder put back is not noticed here, but by the hub, which knows more than the copy.

pub(crate) mod cipher;
mod convert;
mod error;
mod header;
mod source;
#[cfg(test)]
mod tests;

pub use convert::encrypt;
pub use error::VaultError;
pub use source::{Source, declare};

use super::disk::Disk;
use cipher::Cipher;
use header::Header;
use rand::TryRng;
use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// Before the sealed bytes of a small file.
const COVER_MAGIC: &[u8; 8] = b"TSCOVER\x01";
/// Files that only a node or an interrupted join has put there.
const CONTENTS: [&str; 4] = ["identity", "hub.json", "log", "mark"];

/// The opened key of a data directory. Clones share it; it is wiped when the last one goes.
#[derive(Clone)]
pub struct Vault(Arc<Keys>);

struct Keys {
    data: Zeroizing<[u8; 32]>,
    files: Cipher,
    id: [u8; 16],
}

/// Vaults opened in this process: a passphrase is stretched once and not for each file, and a node whose key is rotated
/// while it runs goes on with the data key that it knows.
static OPENED: Mutex<Vec<Vault>> = Mutex::new(Vec::new());
/// Vaults remembered: a process has one directory, a test many.
const OPENED_MAX: usize = 16;

impl Vault {
    fn new(data: Zeroizing<[u8; 32]>) -> Vault {
        let files = Zeroizing::new(blake3::derive_key("tillsync 2026 vault files v1", data.as_slice()));
        let mut id = [0; 16];
        let hash = blake3::derive_key("tillsync 2026 vault key id v1", data.as_slice());
        id.copy_from_slice(&hash[..16]);
        Vault(Arc::new(Keys { files: Cipher::new(&files), data, id }))
    }

    /// A known data key.
    #[cfg(test)]
    pub(super) fn for_tests(data: [u8; 32]) -> Vault {
        Vault::new(Zeroizing::new(data))
    }

    /// A new data key, from the operating system.
    fn generate(dir: &Path) -> Result<Vault, VaultError> {
        Ok(Vault::new(random_key(dir)?))
    }

    /// The vault of a directory, opened with what this process was given; `None` when the directory is plain.
    ///
    /// # Errors
    /// It is encrypted and the key is missing or another one, or the vault file is damaged.
    pub fn of(dir: &Path) -> Result<Option<Vault>, VaultError> {
        let Some((header, _)) = Header::load(dir)? else { return Ok(None) };
        if header.moving {
            return Err(VaultError::Unfinished { dir: dir.to_path_buf() });
        }
        let known = {
            let opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
            opened.iter().find(|vault| hex(&vault.id()) == header.id()).cloned()
        };
        if known.is_some() {
            return Ok(known);
        }
        let source = Source::of_process()?.ok_or_else(|| VaultError::NeedsKey { dir: dir.to_path_buf() })?;
        let vault = header.unwrap(dir, &source)?;
        remember(&vault);
        Ok(Some(vault))
    }

    /// As `of`, with a key in hand.
    ///
    /// # Errors
    /// As `of`.
    pub fn open(dir: &Path, source: &Source) -> Result<Option<Vault>, VaultError> {
        let Some((header, _)) = Header::load(dir)? else { return Ok(None) };
        if header.moving {
            return Err(VaultError::Unfinished { dir: dir.to_path_buf() });
        }
        header.unwrap(dir, source).map(Some)
    }

    /// The vault of a directory that is about to be filled: opened, or made if this process was given a key.
    ///
    /// # Errors
    /// As `of`; or the directory holds plain files already.
    pub fn begin(dir: &Path) -> Result<Option<Vault>, VaultError> {
        if let Some(vault) = Vault::of(dir)? {
            return Ok(Some(vault));
        }
        let Some(source) = Source::of_process()? else { return Ok(None) };
        if CONTENTS.iter().any(|name| dir.join(name).exists()) {
            let reason =
                "it holds unencrypted files already; encrypt them with `tillsync key encrypt`".into();
            return Err(VaultError::Refused { operation: "encrypting", dir: dir.to_path_buf(), reason });
        }
        Vault::create(dir, &source).map(Some)
    }

    /// For a node that starts: finishes an encryption of its directory that was interrupted, with the key that this process
    /// was given. True if there was one. A command that only reads must not, and names the way out instead.
    ///
    /// # Errors
    /// The key is missing or another one, another process is at it, or the disk refuses.
    pub fn finish_encryption(dir: &Path) -> Result<bool, VaultError> {
        match Source::of_process()? {
            Some(source) => convert::finish_interrupted(dir, &source),
            None => Ok(false),
        }
    }

    /// A vault with a new data key in an empty directory.
    ///
    /// # Errors
    /// The key lies in the directory, or the disk refuses.
    pub fn create(dir: &Path, source: &Source) -> Result<Vault, VaultError> {
        keep_apart(dir, source, "encrypting")?;
        let vault = Vault::generate(dir)?;
        let header = Header::wrap(&vault, source, 0, false)?;
        header.save(&Disk::default(), dir)?;
        remember(&vault);
        Ok(vault)
    }

    /// Writes the copy of the vault file again if a crash or damage has left it behind. Whoever calls holds the lock.
    pub(super) fn heal(&self, disk: &Disk, dir: &Path) -> Result<(), VaultError> {
        if !matches!(Header::load(dir)?, Some((_, true))) {
            return Ok(());
        }
        // A rotation at this moment would be undone; it writes the copy itself.
        let Ok(_turn) = take_turn(dir) else { return Ok(()) };
        match Header::load(dir)? {
            Some((header, true)) if header.id() == hex(&self.id()) => header.save(disk, dir),
            _ => Ok(()),
        }
    }

    /// Names the data key; no secret.
    pub(super) fn id(&self) -> [u8; 16] {
        self.0.id
    }

    fn data_key(&self) -> &[u8] {
        self.0.data.as_slice()
    }

    /// A key for one purpose, and for one log if it is of a log.
    pub(super) fn derive(&self, purpose: &str, of: &[u8]) -> Zeroizing<[u8; 32]> {
        let mut hasher = blake3::Hasher::new_derive_key(purpose);
        hasher.update(self.data_key()).update(of);
        Zeroizing::new(*hasher.finalize().as_bytes())
    }

    /// The bytes of a small file as they lie on the disk, bound to its name inside the directory.
    fn seal(&self, name: &str, plain: &[u8]) -> Vec<u8> {
        [COVER_MAGIC, self.0.files.seal(name.as_bytes(), plain).as_slice()].concat()
    }

    fn unseal(&self, name: &str, sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.files.open(name.as_bytes(), sealed.strip_prefix(COVER_MAGIC)?)
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vault({})", hex(&self.0.id))
    }
}

/// What to write for a small file of a directory: sealed if the directory is encrypted, as it is if not.
///
/// # Errors
/// The directory is encrypted and the key is missing or another one.
pub fn cover(dir: &Path, name: &str, plain: &[u8]) -> Result<Vec<u8>, VaultError> {
    Ok(Vault::of(dir)?.map_or_else(|| plain.to_vec(), |vault| vault.seal(name, plain)))
}

/// What such a file says.
///
/// # Errors
/// As `cover`; or the file was changed, belongs elsewhere, or is plain in an encrypted directory.
pub fn uncover(dir: &Path, name: &str, bytes: Vec<u8>) -> Result<Vec<u8>, VaultError> {
    let path = || dir.join(name);
    match (Vault::of(dir)?, bytes.starts_with(COVER_MAGIC)) {
        (None, false) => Ok(bytes),
        (None, true) => Err(VaultError::NoVault { path: path() }),
        (Some(_), false) => Err(VaultError::NotEncrypted { path: path() }),
        (Some(vault), true) => vault.unseal(name, &bytes).ok_or_else(|| VaultError::Damaged {
            path: path(),
            reason: "its bytes are not what was encrypted under this name".into(),
        }),
    }
}

/// Gives a directory another key or passphrase: the vault file is written anew, the data stay as they are. A running
/// node does not notice. Cut off at any moment, the directory opens with the one or with the other.
///
/// # Errors
/// The directory is plain, the old key does not open it, the disk refuses.
pub fn rotate(dir: &Path, old: &Source, new: &Source) -> Result<u64, VaultError> {
    rotate_on(&Disk::default(), dir, old, new)
}

fn rotate_on(disk: &Disk, dir: &Path, old: &Source, new: &Source) -> Result<u64, VaultError> {
    let _turn = take_turn(dir)?;
    let Some((header, _)) = Header::load(dir)? else {
        let reason = "it is not encrypted; `tillsync key encrypt` does that".into();
        return Err(VaultError::Refused { operation: "rotating the key of", dir: dir.to_path_buf(), reason });
    };
    if header.moving {
        return Err(VaultError::Unfinished { dir: dir.to_path_buf() });
    }
    keep_apart(dir, new, "rotating the key of")?;
    let vault = header.unwrap(dir, old)?;
    let next = Header::wrap(&vault, new, header.generation + 1, false)?;
    // Tried before it counts: what cannot be opened must not take the place of what can.
    next.unwrap(dir, new)?;
    next.save(disk, dir)?;
    Ok(next.generation)
}

/// Whether a directory is encrypted, by what, and how often its key was rotated; needs no key.
///
/// # Errors
/// The vault file is damaged.
pub fn describe(dir: &Path) -> Result<Option<Description>, VaultError> {
    Ok(Header::load(dir)?.map(|(header, _)| Description {
        id: header.id().to_owned(),
        opened_by: header.opened_by(),
        generation: header.generation,
        unfinished: header.moving,
    }))
}

/// What anybody may know of a vault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// Names the data key.
    pub id: String,
    /// `key` or `passphrase`.
    pub opened_by: &'static str,
    /// Rotations so far.
    pub generation: u64,
    /// `key encrypt` has to be run again.
    pub unfinished: bool,
}

/// Makes a key file, readable by its owner only; never over another file.
///
/// # Errors
/// There is one already, or the disk refuses.
pub fn new_key_file(path: &Path) -> Result<(), VaultError> {
    use std::io::Write;
    let failed = |e: std::io::Error| VaultError::io("making the key file", path, &e);
    let key = random_key(path)?;
    let text = Zeroizing::new(data_encoding::HEXLOWER.encode(key.as_slice()) + "\n");
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(failed)?;
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
    let folder = super::disk::parent(path);
    Disk::default().sync_folder(folder).map_err(|error| VaultError::Io {
        operation: "making the key file",
        path: path.to_path_buf(),
        reason: error.to_string(),
    })
}

fn random_key(path: &Path) -> Result<Zeroizing<[u8; 32]>, VaultError> {
    let mut key = Zeroizing::new([0; 32]);
    rand::rngs::SysRng.try_fill_bytes(key.as_mut_slice()).map_err(|error| VaultError::Io {
        operation: "asking the operating system for randomness for",
        path: path.to_path_buf(),
        reason: error.to_string(),
    })?;
    Ok(key)
}

fn remember(vault: &Vault) {
    let mut opened = OPENED.lock().unwrap_or_else(PoisonError::into_inner);
    if opened.len() >= OPENED_MAX {
        opened.remove(0);
    }
    opened.push(vault.clone());
}

fn keep_apart(dir: &Path, source: &Source, operation: &'static str) -> Result<(), VaultError> {
    if !source.lies_in(dir) {
        return Ok(());
    }
    let reason = format!("{} lies inside it and would be stolen with it; keep it elsewhere", source.origin());
    Err(VaultError::Refused { operation, dir: dir.to_path_buf(), reason })
}

/// One rotation or encryption at a time.
fn take_turn(dir: &Path) -> Result<File, VaultError> {
    let path = dir.join("vault.lock");
    let failed = |e: std::io::Error| VaultError::io("locking", &path, &e);
    let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(failed)?;
    match file.try_lock() {
        Err(fs::TryLockError::WouldBlock) => {
            let reason = "another `tillsync key` is at work on it; wait for it".into();
            Err(VaultError::Refused { operation: "locking the vault of", dir: dir.to_path_buf(), reason })
        }
        _ => Ok(file),
    }
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}
