//! Writing the few small files of an identity so that a power cut leaves the old one or the new one, never a
//! half. In an encrypted data directory they are encrypted, here and nowhere else. Never used for logs: those have their own room.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::IdentityError;
use crate::storage::{manifest, vault};

/// Largest identity file that is read: a certificate is under 1 KiB, an enrolment under 64 KiB.
const FILE_LIMIT: u64 = 256 * 1024;

/// Who may read the file on systems that have modes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Readers {
    /// Only the owner (0600): keys.
    Owner,
    /// Everybody (0644): certificates.
    All,
}

/// `dir/identity`, where everything of this room lives.
pub(super) fn folder(dir: &Path) -> PathBuf {
    dir.join("identity")
}

/// Written aside, fsynced, renamed, and the folder fsynced: after `Ok` the file is there whatever happens.
pub(super) fn write_durably(path: &Path, bytes: &[u8], readers: Readers) -> Result<(), IdentityError> {
    let disk = |operation| move |source| IdentityError::Disk { operation, path: path.to_path_buf(), source };
    let folder = path.parent().unwrap_or(Path::new("."));
    let (dir, name) = place(path);
    let bytes = vault::cover(dir, &name, bytes)?;
    make_folder(folder).map_err(disk("create the folder of"))?;
    manifest::announce(dir, &name, &bytes)?;
    let aside = path.with_extension("new");
    // A leftover of an interrupted write may carry wider permissions than we ask for: start from nothing.
    match fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(disk("replace the leftover beside")(e)),
        _ => {}
    }
    let mut file = open_new(&aside, readers).map_err(disk("create the new version of"))?;
    file.write_all(&bytes).map_err(disk("write"))?;
    file.sync_all().map_err(disk("fsync"))?;
    drop(file);
    fs::rename(&aside, path).map_err(disk("rename into place"))?;
    sync_folder(folder).map_err(disk("fsync the folder of"))?;
    Ok(manifest::settle(dir, &name)?)
}

/// Removes a file, if it is there, so that it stays removed.
pub(super) fn remove_durably(path: &Path) -> Result<(), IdentityError> {
    let disk = |operation| move |source| IdentityError::Disk { operation, path: path.to_path_buf(), source };
    let (dir, name) = place(path);
    manifest::forget(dir, &name)?;
    match fs::remove_file(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(disk("remove"))?,
    }
    sync_folder(path.parent().unwrap_or(Path::new("."))).map_err(disk("fsync the folder of"))
}

/// The file's bytes, or `None` when it does not exist.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, IdentityError> {
    let disk = |source| IdentityError::Disk { operation: "read", path: path.to_path_buf(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(disk(e)),
    };
    let mut bytes = Vec::new();
    file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).map_err(disk)?;
    if bytes.len() as u64 > FILE_LIMIT {
        let reason = format!("it is larger than {FILE_LIMIT} bytes");
        return Err(IdentityError::Damaged { path: path.to_path_buf(), reason });
    }
    let (dir, name) = place(path);
    Ok(Some(vault::uncover(dir, &name, bytes)?))
}

/// The data directory of a file of this room, and its name there.
fn place(path: &Path) -> (&Path, String) {
    let dir = path.parent().and_then(Path::parent).unwrap_or(Path::new(""));
    let dir = if dir.as_os_str().is_empty() { Path::new(".") } else { dir };
    (dir, format!("identity/{}", path.file_name().unwrap_or_default().to_string_lossy()))
}

/// Creates the folder (private where modes exist) and makes its own entry durable.
fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    folder.parent().map_or(Ok(()), sync_folder)
}

fn open_new(path: &Path, readers: Readers) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(
        &mut options,
        if readers == Readers::Owner { 0o600 } else { 0o644 },
    );
    #[cfg(not(unix))]
    let _ = readers;
    options.open(path)
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    // Windows cannot open a folder for fsync; NTFS journals the rename itself.
    if cfg!(windows) {
        return Ok(());
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// Whether others than the owner may read the file; always false where there are no modes.
pub(super) fn others_can_read(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o077 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}
