//! From a plain data directory to an encrypted one, of a stopped node.
//!
//! Everything is written encrypted into `encrypting/` beside what it replaces, synced, and read back against the plain
//! log. Then a vault file that says `moving` appears: from here on there is only forward, and nobody opens the
//! directory. The encrypted files take the places of the plain ones, one by one, and the vault file is written again
//! without `moving`. Cut off before the vault file, the directory is as plain as it was; cut off after it, the same
//! command goes on, or the node that starts next. Frames get longer, so positions change, and the index is made anew from the log.
//!
//! What the disk still holds of files that were deleted is the disk's: flash and copy-on-write systems keep old blocks.

use super::super::postgres::Place;
use super::header::Header;
use super::{Source, Vault, VaultError, keep_apart, take_turn};
use crate::storage::disk::{Disk, Role};
use crate::storage::inspect::Paths;
use crate::storage::recovery::take_lock;
use crate::storage::{Entry, Options, Position, Recovery, Scan, Storage, StorageError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// The folder that everything is prepared in.
const ASIDE: &str = "encrypting";
/// What takes the place of its plain version; the log and its mark belong together.
const MOVED: [&str; 4] = ["log", "mark", "identity", "hub.json"];
/// Small files of a node, besides those in `identity/`.
const FILES: [&str; 1] = ["hub.json"];
/// Bytes of entries appended at once.
const STEP_BYTES: usize = 1 << 20;
/// What lies in a data directory and needs no encryption, or goes away.
const UNSEALED: [&str; 8] = ["lock", "lost", "manifest", "vault", "vault.copy", "vault.lock", "log", "mark"];

/// What an encryption did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encrypted {
    /// Entries of the log.
    pub entries: u64,
    /// Small files.
    pub files: u64,
    /// It only finished what an interrupted one had begun.
    pub resumed: bool,
    /// Files in the directory that are not the node's, left as they are.
    pub left: Vec<PathBuf>,
}

/// Encrypts the plain data directory of a stopped node, or finishes what was interrupted.
///
/// # Errors
/// A node holds the directory, it is encrypted already, its log is damaged, or the disk refuses. Unless the message says
/// that the encryption was interrupted, the directory is as it was.
pub fn encrypt(dir: &Path, source: &Source) -> Result<Encrypted, VaultError> {
    encrypt_on(&Disk::default(), dir, source)
}

pub(super) fn encrypt_on(disk: &Disk, dir: &Path, source: &Source) -> Result<Encrypted, VaultError> {
    let refused =
        |reason: String| VaultError::Refused { operation: "encrypting", dir: dir.to_path_buf(), reason };
    if !super::CONTENTS.iter().any(|name| dir.join(name).exists()) && Header::load(dir)?.is_none() {
        return Err(refused("it is no data directory of a till or hub; choose another --dir".into()));
    }
    keep_apart(dir, source, "encrypting")?;
    if Place::of(dir).map_err(|e| storage(dir, &e))?.is_some() {
        return Err(refused(
            "its log is in a database; only a hub that began with a key encrypts there".into(),
        ));
    }
    if Header::load(dir)?.is_some_and(|(header, _)| !header.moving) {
        return Err(refused("it is encrypted already; `tillsync key rotate` gives it another key".into()));
    }
    let _turn = take_turn(dir)?;
    match Header::load(dir)? {
        Some((header, _)) => {
            let _lock = take_lock(&Paths::new(dir), true).map_err(|e| storage(dir, &e))?;
            let vault = header.unwrap(dir, source)?;
            finish(disk, dir, &vault, source, header.generation)?;
            Ok(Encrypted { resumed: true, left: strangers(dir)?, ..Encrypted::default() })
        }
        None => {
            let vault = Vault::generate(dir)?;
            let aside = dir.join(ASIDE);
            remove(&aside)?;
            disk.create_folder(&aside).map_err(|e| storage(dir, &e))?;
            let mut done = Encrypted::default();
            // The plain log is held open until the end: its lock keeps every node away.
            let (_log, _lock);
            if dir.join("log").exists() {
                let (log, entries) = copy_log(disk, dir, &aside, &vault)?;
                (_log, done.entries) = (Some(log), entries);
            } else {
                _lock = take_lock(&Paths::new(dir), true).map_err(|e| storage(dir, &e))?;
            }
            done.files = copy_files(disk, dir, &aside, &vault)?;
            disk.sync_folder(&aside).and_then(|()| disk.sync_folder(dir)).map_err(|e| storage(dir, &e))?;
            Header::wrap(&vault, source, 0, true)?.save(disk, dir)?;
            finish(disk, dir, &vault, source, 0)?;
            done.left = strangers(dir)?;
            Ok(done)
        }
    }
}

/// Finishes an encryption that was interrupted after its point of no return, if there is one. True if there was.
///
/// # Errors
/// The key is another one, a node holds the directory, or the disk refuses; it can be tried again.
pub(super) fn finish_interrupted(dir: &Path, source: &Source) -> Result<bool, VaultError> {
    let interrupted = Header::load(dir)?.is_some_and(|(header, _)| header.moving);
    if interrupted {
        encrypt(dir, source)?;
    }
    Ok(interrupted)
}

/// Copies the log entry by entry and compares what was written with what was read.
fn copy_log(disk: &Disk, dir: &Path, aside: &Path, vault: &Vault) -> Result<(Storage, u64), VaultError> {
    let failed = |error: StorageError| storage(dir, &error);
    let (from, found) =
        Storage::open(dir, &Options { scan: Scan::All, ..Options::default() }).map_err(failed)?;
    if !found.lost.is_empty() {
        let reason = "parts of its log are known to be lost, and that would be forgotten; enrol the device anew \
                      with a key, or restore a whole backup";
        let dir = dir.to_path_buf();
        return Err(VaultError::Refused { operation: "encrypting", dir, reason: reason.into() });
    }
    let options = Options {
        log_id: Some(found.log_id),
        vault: Some(vault.clone()),
        faults: disk.faults(),
        ..Options::default()
    };
    let (to, Recovery { fresh, .. }) = Storage::open(aside, &options).map_err(failed)?;
    assert!(fresh, "the folder was emptied");
    let (mut waiting, mut bytes) = (Vec::new(), 0);
    from.replay(Position(0), &mut |_, entry: Entry| {
        bytes += entry.bytes.len();
        waiting.push(entry);
        if bytes < STEP_BYTES {
            return Ok(());
        }
        bytes = 0;
        to.append_blocking(std::mem::take(&mut waiting)).map(drop)
    })
    .and_then(|_| to.append_blocking(waiting))
    .map_err(failed)?;
    let (plain, sealed) = (summary(&from).map_err(failed)?, summary(&to).map_err(failed)?);
    assert!(plain == sealed, "the encrypted log holds what the plain one holds");
    to.close().map_err(failed)?;
    for name in ["index", "lock"] {
        remove(&aside.join(name))?;
    }
    Ok((from, plain.0))
}

/// Number and hash of all entries.
fn summary(log: &Storage) -> Result<(u64, blake3::Hash), StorageError> {
    let (mut count, mut hasher) = (0, blake3::Hasher::new());
    log.replay(Position(0), &mut |_, entry: Entry| {
        count += 1;
        hasher.update(&(entry.bytes.len() as u64).to_le_bytes()).update(&[entry.kind]).update(&entry.bytes);
        Ok::<_, StorageError>(())
    })?;
    Ok((count, hasher.finalize()))
}

fn copy_files(disk: &Disk, dir: &Path, aside: &Path, vault: &Vault) -> Result<u64, VaultError> {
    let mut names: Vec<String> =
        FILES.map(str::to_owned).into_iter().filter(|it| dir.join(it).exists()).collect();
    if dir.join("identity").is_dir() {
        disk.create_folder(&aside.join("identity")).map_err(|e| storage(dir, &e))?;
        for entry in list(&dir.join("identity"))? {
            // A leftover of an interrupted write is never read.
            if let Some(name) =
                entry.file_name().and_then(|it| it.to_str()).filter(|it| !it.ends_with(".new"))
            {
                names.push(format!("identity/{name}"));
            }
        }
    }
    for name in &names {
        let (from, to) = (dir.join(name), aside.join(name));
        let plain = fs::read(&from).map_err(|e| VaultError::io("reading", &from, &e))?;
        disk.replace_file(Role::Vault, &to, &vault.seal(name, &plain)).map_err(|e| storage(dir, &e))?;
        let rights = fs::metadata(&from).and_then(|from| fs::set_permissions(&to, from.permissions()));
        rights.map_err(|e| VaultError::io("setting the rights of", &to, &e))?;
    }
    Ok(names.len() as u64)
}

/// Puts everything prepared in place. Each step can be repeated: what is still aside has not been moved.
fn finish(
    disk: &Disk,
    dir: &Path,
    vault: &Vault,
    source: &Source,
    generation: u64,
) -> Result<(), VaultError> {
    let aside = dir.join(ASIDE);
    let sync = |path: &Path| disk.sync_folder(path).map_err(|e| storage(dir, &e));
    for name in MOVED {
        let (from, to) = (aside.join(name), dir.join(name));
        if from.exists() {
            remove(&to)?;
            sync(dir)?;
            fs::rename(&from, &to).map_err(|e| VaultError::io("moving into place", &to, &e))?;
            sync(dir)?;
            sync(&aside)?;
        }
    }
    for path in list(dir)? {
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or("");
        // The plain index with what only it can open, and addresses and tokens of nodes that are gone.
        if ["index", "scratch", "run.json", "callers"]
            .iter()
            .any(|old| name == *old || name.starts_with(&format!("{old}.")))
        {
            remove(&path)?;
        }
    }
    remove(&aside)?;
    sync(dir)?;
    crate::storage::manifest::rebuild(dir).map_err(|e| storage(dir, &e))?;
    Header::wrap(vault, source, generation + 1, false)?.save(disk, dir)
}

/// Files that are not a node's: somebody put them there, and nobody encrypts them.
fn strangers(dir: &Path) -> Result<Vec<PathBuf>, VaultError> {
    let known = |path: &PathBuf| {
        let name = path.file_name().and_then(|it| it.to_str()).unwrap_or("");
        MOVED.contains(&name) || UNSEALED.contains(&name)
    };
    Ok(list(dir)?.into_iter().filter(|path| !known(path)).collect())
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, VaultError> {
    let failed = |e: io::Error| VaultError::io("listing", folder, &e);
    let entries = fs::read_dir(folder).map_err(failed)?;
    let mut paths =
        entries.map(|entry| entry.map(|it| it.path())).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    paths.sort();
    Ok(paths)
}

fn remove(path: &Path) -> Result<(), VaultError> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(VaultError::io("removing", path, &e)),
        _ => Ok(()),
    }
}

fn storage(dir: &Path, error: &StorageError) -> VaultError {
    VaultError::Refused { operation: "encrypting", dir: dir.to_path_buf(), reason: error.to_string() }
}
