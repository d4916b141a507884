//! The few system calls that durability rests on, and the place where tests make them fail.
//!
//! Everything the log does to a disk goes through `Disk`: positioned writes, data syncs, folder syncs. The shipped
//! build carries the same hook as the tests (`Options::faults`, absent by default), so that what was tested is what
//! runs. It never retries and never hides an error: after a failed fsync a second one may lie (the kernel marks the
//! pages clean), so the caller poisons instead.

use super::{StorageError, private};
use std::fmt;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which of the storage's files an operation touches, and to what end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A commit group in the newest segment.
    Commit,
    /// Zeros written ahead of the commits.
    Ahead,
    /// A new segment: its header and first zeros.
    Segment,
    /// Repair of the tail while opening.
    Repair,
    /// The high-water mark.
    Mark,
    /// The list of ranges known to be lost.
    Lost,
    /// The vault file, and files that are encrypted for the first time.
    Vault,
    /// The manifest of small files.
    Manifest,
    /// What rests outside of memory while the node runs; never synced.
    Scratch,
    /// A folder, synced so that a name in it is durable.
    Folder,
}

/// An operation about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// A positioned write of so many bytes.
    Write(Role, usize),
    /// An fdatasync, or the fsync of a folder.
    Sync(Role),
}

/// What the fault hook wants to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Do it.
    Pass,
    /// Do nothing and fail with this kind of error.
    Fail(io::ErrorKind),
    /// Write only so many bytes, then fail with this kind of error.
    Short(usize, io::ErrorKind),
}

/// A disk's bad day, scripted by a test or by the simulator.
pub trait Faults: Send + Sync {
    /// Called before each operation, from the thread that does it.
    fn judge(&self, act: Act) -> Verdict;
}

/// The system calls, with the hook in front.
#[derive(Clone, Default)]
pub(crate) struct Disk {
    faults: Option<Arc<dyn Faults>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.faults.is_some() { "Disk(with faults)" } else { "Disk" })
    }
}

impl Disk {
    pub(super) fn new(faults: Option<Arc<dyn Faults>>) -> Self {
        Disk { faults }
    }

    /// The hook, for another storage on the same disk.
    pub(super) fn faults(&self) -> Option<Arc<dyn Faults>> {
        self.faults.clone()
    }

    fn judge(&self, act: Act) -> Verdict {
        self.faults.as_ref().map_or(Verdict::Pass, |faults| faults.judge(act))
    }

    pub(super) fn write_at(&self, role: Role, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        match self.judge(Act::Write(role, bytes.len())) {
            Verdict::Pass => write_all_at(file, bytes, offset),
            Verdict::Fail(kind) => Err(injected(kind)),
            Verdict::Short(count, kind) => {
                write_all_at(file, &bytes[..count.min(bytes.len())], offset)?;
                Err(injected(kind))
            }
        }
    }

    /// Makes the file's data durable, and its length when that changed (fdatasync does both).
    pub(super) fn sync(&self, role: Role, file: &File) -> io::Result<()> {
        match self.judge(Act::Sync(role)) {
            Verdict::Pass => {
                let start = std::time::Instant::now();
                let done = file.sync_data();
                crate::metrics::FSYNC.observe(start.elapsed());
                done
            }
            Verdict::Fail(kind) | Verdict::Short(_, kind) => Err(injected(kind)),
        }
    }

    /// Makes the names in a folder durable.
    pub(super) fn sync_folder(&self, path: &Path) -> Result<(), StorageError> {
        let done = match self.judge(Act::Sync(Role::Folder)) {
            Verdict::Pass => sync_folder_now(path),
            Verdict::Fail(kind) | Verdict::Short(_, kind) => Err(injected(kind)),
        };
        done.map_err(|e| StorageError::io("syncing the folder", path, &e))
    }

    /// Puts a whole small file in place so that a crash leaves either the old one or the new one.
    pub(super) fn replace_file(&self, role: Role, path: &Path, bytes: &[u8]) -> Result<(), StorageError> {
        let aside = with_suffix(path, ".tmp");
        let write = || -> io::Result<()> {
            // Only its owner's: the mark says how much was sold, the vault file what opens the rest.
            let file = private::options().write(true).create(true).truncate(true).open(&aside)?;
            self.write_at(role, &file, bytes, 0)?;
            self.sync(role, &file)?;
            fs::rename(&aside, path)
        };
        write().map_err(|e| StorageError::io("writing", path, &e))?;
        self.sync_folder(parent(path))
    }

    /// Creates a folder and its missing parents, each name durable before the next.
    ///
    /// An existing folder's parent is synced too: its creator may have been killed before it could do so.
    pub(super) fn create_folder(&self, path: &Path) -> Result<(), StorageError> {
        let existed = path.is_dir();
        if !existed {
            if !parent(path).is_dir() {
                self.create_folder(parent(path))?;
            }
            match fs::create_dir(path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(StorageError::io("creating the folder", path, &e));
                }
                _ => {}
            }
        }
        match self.sync_folder(parent(path)) {
            // An app's sandbox may forbid to read the parent; the folder itself came from the system then.
            Err(StorageError::Io { kind: io::ErrorKind::PermissionDenied, .. }) if existed => Ok(()),
            other => other,
        }
    }
}

/// Whether an error means that there is no space: the one failure that passes when space returns.
pub(super) fn is_full(error: &io::Error) -> bool {
    use io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// The folder holding `path`; `.` for a bare name.
pub(super) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

pub(super) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_os_string();
    name.push(suffix);
    PathBuf::from(name)
}

fn injected(kind: io::ErrorKind) -> io::Error {
    io::Error::new(kind, format!("injected fault: {kind}"))
}

/// Reads up to `buffer.len()` bytes; fewer only at the end of the file.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_some(file, &mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(filled)
}

#[cfg(unix)]
fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, offset)
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(unix)]
fn sync_folder_now(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(windows)]
fn read_some(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, offset)
}

#[cfg(windows)]
fn write_all_at(file: &File, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
    while !bytes.is_empty() {
        let count = std::os::windows::fs::FileExt::seek_write(file, bytes, offset)?;
        if count == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[count..];
        offset += count as u64;
    }
    Ok(())
}

/// NTFS journals names itself and offers no handle to sync a folder with.
#[cfg(windows)]
fn sync_folder_now(_path: &Path) -> io::Result<()> {
    Ok(())
}
