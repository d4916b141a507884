//! The manifest: which format a data directory has, and what its small files were when they were written.
//!
//! The log proves itself, frame by frame. The small files beside it (`hub.json`, `identity/*`) are read as they are, and a
//! flipped bit in a company's name or an older copy of an enrolment would look like any other. So the file `manifest`
//! holds the BLAKE3 of each of them:
//!
//! ```text
//! { "format": 1, "files": { "hub.json": ["<hash>"], … }, "check": "<hash of the rest>" }
//! ```
//!
//! Whoever replaces a file announces the new hash beside the old one, replaces, and settles on the new one; cut off
//! between, either version fits. `tillsync verify` reports what fits none. A starting node refuses another key, and takes
//! other changes for a person's (`hub.json` may be edited) with a warning. A directory without a manifest is of the
//! format before it and gets one at the next start; one of a newer format is refused. The manifest never says what a
//! file means and holds no secret.

use super::StorageError;
use super::disk::{Disk, Role};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

/// The newest format of a data directory that this program knows. Directories without a manifest are format 0.
pub const DIRECTORY_FORMAT: u32 = 1;
const FILE: &str = "manifest";
/// Files that the manifest is about, besides everything in `identity/`.
const FILES: [&str; 2] = ["hub.json", "database.json"];
/// Far more than a dozen names and hashes.
const BYTES_MAX: u64 = 64 << 10;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Manifest {
    format: u32,
    /// Name in the directory: hashes that it may have, in hex.
    files: BTreeMap<String, Vec<String>>,
    check: String,
}

/// What every format says.
#[derive(Deserialize)]
struct AnyFormat {
    format: u32,
}

impl Manifest {
    fn new(files: BTreeMap<String, Vec<String>>) -> Self {
        let mut made = Self { format: DIRECTORY_FORMAT, files, check: String::new() };
        made.check = made.expected_check();
        made
    }

    fn expected_check(&self) -> String {
        let unchecked = Self { check: String::new(), ..self.clone() };
        hash(&serde_json::to_vec(&unchecked).unwrap_or_default())
    }

    fn save(&self, dir: &Path) -> Result<(), StorageError> {
        let text = serde_json::to_vec_pretty(self).unwrap_or_default();
        Disk::default().replace_file(Role::Manifest, &dir.join(FILE), &text)
    }
}

/// What became of a manifest.
enum Found {
    /// The directory is older than manifests.
    None,
    Damaged,
    Whole(Manifest),
}

fn load(dir: &Path) -> Result<Found, StorageError> {
    let path = dir.join(FILE);
    let bytes = match fs::metadata(&path) {
        Ok(facts) if facts.len() > BYTES_MAX => return Ok(Found::Damaged),
        Ok(_) => fs::read(&path).map_err(|e| StorageError::io("reading", &path, &e))?,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::None),
        Err(e) => return Err(StorageError::io("reading", &path, &e)),
    };
    let Ok(AnyFormat { format }) = serde_json::from_slice(&bytes) else { return Ok(Found::Damaged) };
    match serde_json::from_slice::<Manifest>(&bytes) {
        Ok(manifest) if format <= DIRECTORY_FORMAT && manifest.check == manifest.expected_check() => {
            Ok(Found::Whole(manifest))
        }
        // A newer format may look different; a flipped bit in a manifest of ours must not look like one.
        Ok(_) if format <= DIRECTORY_FORMAT => Ok(Found::Damaged),
        Ok(manifest) if manifest.check != manifest.expected_check() => Ok(Found::Damaged),
        _ if format > DIRECTORY_FORMAT => {
            Err(StorageError::NewerDirectory { dir: dir.to_path_buf(), format })
        }
        _ => Ok(Found::Damaged),
    }
}

/// Whether a directory has a manifest; one of the format before it has none.
#[must_use]
pub fn exists(dir: &Path) -> bool {
    dir.join(FILE).is_file()
}

/// Refuses a directory of a newer format.
pub(super) fn check_format(dir: &Path) -> Result<(), StorageError> {
    load(dir).map(drop)
}

/// Says that a small file is about to be replaced by these bytes.
pub(crate) fn announce(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), StorageError> {
    let mut files = known(dir)?;
    let mut hashes = vec![hash(bytes)];
    hashes.extend(hash_of(dir, name)?.filter(|old| *old != hashes[0]));
    files.insert(name.to_owned(), hashes);
    Manifest::new(files).save(dir)
}

/// Says that it has been replaced.
pub(crate) fn settle(dir: &Path, name: &str) -> Result<(), StorageError> {
    let mut files = known(dir)?;
    let now = hash_of(dir, name)?.into_iter().collect();
    if files.get(name) == Some(&now) {
        return Ok(());
    }
    files.insert(name.to_owned(), now);
    Manifest::new(files).save(dir)
}

/// Says that a small file is about to be removed for good.
pub(crate) fn forget(dir: &Path, name: &str) -> Result<(), StorageError> {
    let mut files = known(dir)?;
    match files.remove(name) {
        Some(_) => Manifest::new(files).save(dir),
        None => Ok(()),
    }
}

/// Every small file that is not what was written, in words.
///
/// # Errors
/// The directory is of a newer format, or a file cannot be read.
pub fn problems(dir: &Path) -> Result<Vec<String>, StorageError> {
    let manifest = match load(dir)? {
        Found::None => return Ok(Vec::new()),
        Found::Damaged => {
            return Ok(vec!["the manifest is damaged; the next start writes it anew".to_owned()]);
        }
        Found::Whole(manifest) => manifest,
    };
    let mut problems = Vec::new();
    for (name, hashes) in &manifest.files {
        match hash_of(dir, name)? {
            None => problems.push(format!("{name} is missing; restore it from a backup")),
            Some(now) if !hashes.contains(&now) => problems.push(format!(
                "{name} is not what this node wrote: it is damaged, an older copy, or was edited (then the next start \
                 takes it as it is)"
            )),
            Some(_) => {}
        }
    }
    for name in present(dir)? {
        if !manifest.files.contains_key(&name) {
            problems.push(format!("{name} was not written by this node"));
        }
    }
    Ok(problems)
}

/// Brings the manifest up to the directory as a starting node takes it; returns what has changed without the node.
/// Migrates a directory that has none. Whoever calls holds the lock.
///
/// # Errors
/// A key is not the one that was written, the directory is of a newer format, or the disk refuses.
pub fn adopt(dir: &Path) -> Result<Vec<String>, StorageError> {
    let changed = problems(dir)?;
    if let Some(key) = changed.iter().find(|it| it.split(' ').next().is_some_and(|it| it.ends_with(".key"))) {
        return Err(StorageError::OtherFile { dir: dir.to_path_buf(), what: key.clone() });
    }
    rebuild(dir)?;
    Ok(changed)
}

/// Writes the manifest of the files as they are, if it says anything else.
pub(super) fn rebuild(dir: &Path) -> Result<(), StorageError> {
    let mut files = BTreeMap::new();
    for name in present(dir)? {
        let hashes = hash_of(dir, &name)?.into_iter().collect();
        files.insert(name, hashes);
    }
    let made = Manifest::new(files);
    match load(dir)? {
        Found::Whole(there) if there == made => Ok(()),
        _ => made.save(dir),
    }
}

/// What the manifest says so far; nothing if there is none, or a damaged one.
fn known(dir: &Path) -> Result<BTreeMap<String, Vec<String>>, StorageError> {
    match load(dir)? {
        Found::Whole(manifest) => Ok(manifest.files),
        Found::None | Found::Damaged => {
            let mut files = BTreeMap::new();
            for name in present(dir)? {
                files.insert(name.clone(), hash_of(dir, &name)?.into_iter().collect());
            }
            Ok(files)
        }
    }
}

/// The small files of a directory, leftovers of interrupted writes not counted.
fn present(dir: &Path) -> Result<Vec<String>, StorageError> {
    let mut names: Vec<String> =
        FILES.into_iter().filter(|name| dir.join(name).is_file()).map(str::to_owned).collect();
    let identity = dir.join("identity");
    if identity.is_dir() {
        let failed = |e: io::Error| StorageError::io("listing", &identity, &e);
        for entry in fs::read_dir(&identity).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let name = name.to_str().filter(|name| !name.ends_with(".new"));
            names.extend(name.map(|name| format!("identity/{name}")));
        }
    }
    names.sort();
    Ok(names)
}

fn hash_of(dir: &Path, name: &str) -> Result<Option<String>, StorageError> {
    let path = dir.join(name);
    match fs::read(&path) {
        Ok(bytes) => Ok(Some(hash(&bytes))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(StorageError::io("reading", &path, &e)),
    }
}

fn hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("identity")).unwrap();
        dir
    }

    fn replace(dir: &Path, name: &str, bytes: &[u8]) {
        announce(dir, name, bytes).unwrap();
        fs::write(dir.join(name), bytes).unwrap();
        settle(dir, name).unwrap();
    }

    /// Cut off at any moment of a replacement the file fits; afterwards its older copy does not.
    #[test]
    fn a_replacement_fits_at_every_moment_and_an_older_copy_never_again() {
        let dir = directory();
        let (dir, name) = (dir.path(), "hub.json");
        replace(dir, name, b"one");
        announce(dir, name, b"two").unwrap();
        assert_eq!(problems(dir).unwrap(), Vec::<String>::new());
        fs::write(dir.join(name), b"two").unwrap();
        assert_eq!(problems(dir).unwrap(), Vec::<String>::new());
        settle(dir, name).unwrap();
        fs::write(dir.join(name), b"one").unwrap();
        assert!(problems(dir).unwrap()[0].contains("older copy"));
        assert_eq!(adopt(dir).unwrap().len(), 1, "a person may edit it");
        assert_eq!(problems(dir).unwrap(), Vec::<String>::new());
    }

    /// A directory of the format before manifests opens and gets one; another key is refused; a newer format too.
    #[test]
    fn older_directories_get_a_manifest_and_newer_ones_are_refused() {
        let dir = directory();
        let dir = dir.path();
        fs::write(dir.join("identity/node.key"), b"key").unwrap();
        check_format(dir).unwrap();
        assert_eq!(adopt(dir).unwrap(), Vec::<String>::new());
        assert!(dir.join(FILE).exists());
        fs::write(dir.join("identity/node.key"), b"kez").unwrap();
        assert!(matches!(adopt(dir), Err(StorageError::OtherFile { .. })));
        let newer = br#"{"format": 2, "something": "else"}"#;
        fs::write(dir.join(FILE), newer).unwrap();
        let refused = check_format(dir).unwrap_err();
        assert!(refused.to_string().contains("format 2"), "{refused}");
    }

    #[test]
    fn a_flipped_bit_in_the_manifest_is_damage_and_never_another_format() {
        let dir = directory();
        let dir = dir.path();
        replace(dir, "hub.json", b"one");
        let whole = fs::read(dir.join(FILE)).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(dir.join(FILE), bytes).unwrap();
            let problems = problems(dir).unwrap_or_else(|refused| vec![refused.to_string()]);
            let same = matches!(load(dir), Ok(Found::Whole(_)));
            assert!(same || !problems.is_empty(), "bit {bit}");
        }
    }
}
