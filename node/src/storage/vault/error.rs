//! What can go wrong with keys, in words: the operation, the reason, the way out. No secret is ever in a message.

use std::io;
use std::path::{Path, PathBuf};

/// How a key is given; the end of every message that misses one.
const HOW: &str = "give it with --key-file FILE or --passphrase-file FILE, the variables TILLSYNC_KEY_FILE, TILLSYNC_KEY, \
                   TILLSYNC_PASSPHRASE_FILE or TILLSYNC_PASSPHRASE, or a systemd credential named tillsync.key or \
                   tillsync.passphrase";

/// Why a data directory cannot be unlocked, encrypted or given another key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VaultError {
    /// The operating system refused a file operation.
    #[error("{operation} {} failed: {reason}; check the disk, its free space and the rights, then try again", path.display())]
    Io {
        /// What was being done.
        operation: &'static str,
        /// To which file or folder.
        path: PathBuf,
        /// The system's words.
        reason: String,
    },
    /// The directory is encrypted and nobody gave a key.
    #[error("unlocking {} failed: it is encrypted and no key was given; {HOW}", dir.display())]
    NeedsKey {
        /// The data directory.
        dir: PathBuf,
    },
    /// A key was given where a passphrase opens, or the other way round.
    #[error("unlocking {} failed: it is opened by a {wanted}, and {origin} is none; {HOW}", dir.display())]
    OtherKind {
        /// The data directory.
        dir: PathBuf,
        /// `key` or `passphrase`.
        wanted: &'static str,
        /// Where the given secret came from.
        origin: String,
    },
    /// The key given is not the one.
    #[error(
        "unlocking {} failed: {origin} does not open it; nothing was changed; use the key it was encrypted or last rotated with",
        dir.display()
    )]
    WrongKey {
        /// The data directory.
        dir: PathBuf,
        /// Where the given secret came from.
        origin: String,
    },
    /// What was given can be no key.
    #[error("reading {origin} failed: {reason}; `tillsync key new FILE` makes a key file")]
    BadKey {
        /// Where it came from.
        origin: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file is not what was written.
    #[error("reading {} failed: {reason}; restore it from a backup of this directory", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A plain file in an encrypted directory.
    #[error(
        "reading {} failed: it is not encrypted although the directory is, so nobody knows who wrote it; restore the file from \
         a backup of this directory",
        path.display()
    )]
    NotEncrypted {
        /// The file.
        path: PathBuf,
    },
    /// An encrypted file in a directory without a vault file.
    #[error(
        "reading {} failed: it is encrypted, but the directory's vault file is missing; restore `vault` from a backup of this \
         directory",
        path.display()
    )]
    NoVault {
        /// The file.
        path: PathBuf,
    },
    /// `key encrypt` was interrupted after its point of no return.
    #[error("unlocking {} failed: its encryption was interrupted; start the node with its key, or finish it with `tillsync key encrypt --dir {}`", dir.display(), dir.display())]
    Unfinished {
        /// The data directory.
        dir: PathBuf,
    },
    /// The step makes no sense here.
    #[error("{operation} {} refused: {reason}", dir.display())]
    Refused {
        /// What was being done.
        operation: &'static str,
        /// The data directory.
        dir: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
}

impl VaultError {
    pub(super) fn io(operation: &'static str, path: &Path, error: &io::Error) -> Self {
        VaultError::Io { operation, path: path.to_path_buf(), reason: error.to_string() }
    }
}
