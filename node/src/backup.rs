//! Backup of a node, running or not, and restore.
//!
//! A backup is a directory like the node's own, up to one moment, checked by `verify`, with a file `backup.json` that keeps
//! it from being run: two nodes with one key write two logs under one name. `restore` copies it to an empty directory and
//! leaves a file `restored.json` there: the node that starts with it takes back from its peers what it lacks before it
//! records anything (`runtime::store`), and lets the file go then. Who cannot wait says so (`--write-at-once`); the fork is
//! then a CLONED_TERMINAL case. Nothing is ever overwritten here.
//!
//! Of a hub whose log is in a database the backup holds the log as segment files: it needs no database to be read, checked
//! or brought back, and what is brought back runs without one.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::error::Failure;
use crate::runtime::clock::{now_ms, rfc3339};
use crate::storage::{self, Place, Snapshot, StorageError, private, snapshot};
use crate::verify::verify;

const BACKUP: &str = "backup.json";
const RESTORED: &str = "restored.json";
/// Small files of a node; the log is copied by the storage, the index is made anew.
const FILES: [&str; 4] = ["hub.json", "vault", "vault.copy", "manifest"];
/// Tries to copy the small files in a moment in which none of them changes.
const TRIES: usize = 3;

/// What `backup.json` and `restored.json` say.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Note {
    format: u32,
    /// When the backup was made, RFC 3339.
    made_at: String,
    /// Where its log ends.
    end: u64,
    /// The copy is whole.
    complete: bool,
}

/// Copies a node's directory to the new directory `to` and verifies the copy.
///
/// # Errors
/// No node's directory, `to` is not empty, the copy does not verify, or a disk refuses. What was copied stays for a look,
/// but it is no backup and `restore` refuses it.
pub fn backup(dir: &Path, to: &Path) -> Result<Value, Failure> {
    make(dir, to).map_err(|failure| failure.during("backup"))
}

fn make(dir: &Path, to: &Path) -> Result<Value, Failure> {
    if !dir.join("hub.json").exists() && !dir.join("identity/enrolment.json").exists() {
        return Err(Failure::refused(format!("{} is no data directory of a till or hub", dir.display())));
    }
    make_empty(to)?;
    let made_at = rfc3339(now_ms());
    let mut note = Note { format: 1, made_at, end: 0, complete: false };
    note.write(&to.join(BACKUP))?;
    copy_small_files(dir, to)?;
    let Snapshot { end, segments, bytes, live } = snapshot(dir, to).map_err(Failure::refused)?;
    let report = checked(to)?;
    remove(&to.join("index"))?;
    note.end = end.0;
    note.complete = true;
    note.write(&to.join(BACKUP))?;
    Ok(json!({
        "backup": to.display().to_string(),
        "made_at": note.made_at,
        "live": live,
        "end": end.0,
        "segments": segments,
        "bytes": bytes,
        "checked": report["checked"],
    }))
}

/// Makes the directory of a further hub of a company that several hubs can serve: the company's key, authority and settings,
/// and the word where its logs are. Whoever has it can speak for the company.
///
/// # Errors
/// The directory is no hub's, its logs are not spread over shards in a database, `to` is not empty, or a disk refuses.
pub fn add_hub(dir: &Path, to: &Path) -> Result<Value, Failure> {
    let made = || {
        if !dir.join("hub.json").exists() {
            return Err(Failure::refused(format!("{} is no data directory of a hub", dir.display())));
        }
        if Place::of(dir).map_err(Failure::refused)?.is_none() {
            return Err(Failure::refused(format!(
                "the log of {} is not in a database, and only one hub can have it; see docs/scaling.md",
                dir.display()
            )));
        }
        make_empty(to)?;
        copy_small_files_with(dir, to, Place::copy)?;
        Ok(json!({"dir": to.display().to_string()}))
    };
    made().map_err(|failure: Failure| failure.during("hub add"))
}

/// Copies a backup to the new directory `dir`, for a node to run on.
///
/// # Errors
/// No whole backup, `dir` is not empty, the copy does not verify, or a disk refuses.
pub fn restore(from: &Path, dir: &Path) -> Result<Value, Failure> {
    bring_back(from, dir).map_err(|failure| failure.during("restore"))
}

fn bring_back(from: &Path, dir: &Path) -> Result<Value, Failure> {
    let note = Note::read(&from.join(BACKUP))?.filter(|note| note.complete).ok_or_else(|| {
        Failure::refused(format!("{} is no whole backup; make one with `tillsync backup`", from.display()))
    })?;
    make_empty(dir)?;
    // First of all, and not complete: cut off, nobody takes the half for a node.
    let mut restored = Note { complete: false, ..note };
    restored.write(&dir.join(RESTORED))?;
    copy_small_files(from, dir)?;
    snapshot(from, dir).map_err(Failure::refused)?;
    let report = checked(dir)?;
    restored.complete = true;
    restored.write(&dir.join(RESTORED))?;
    Ok(json!({"dir": dir.display().to_string(), "made_at": restored.made_at, "checked": report["checked"]}))
}

/// Whether a directory that a node is to run on was restored and has not met its peers since.
///
/// # Errors
/// It is a backup itself, or a restore that was cut off.
pub fn is_restored(dir: &Path) -> Result<bool, Failure> {
    if dir.join(BACKUP).exists() {
        return Err(Failure::refused(format!(
            "{} is a backup; bring it back with `tillsync restore --from {} --dir …`",
            dir.display(),
            dir.display()
        )));
    }
    match Note::read(&dir.join(RESTORED))? {
        None => Ok(false),
        Some(note) if note.complete => Ok(true),
        Some(_) => Err(Failure::refused(format!(
            "a restore into {} was interrupted; empty the directory and run `tillsync restore` again",
            dir.display()
        ))),
    }
}

/// The restored node has taken back what its peers held.
///
/// # Errors
/// The disk refuses.
pub fn forget_restored(dir: &Path) -> Result<(), Failure> {
    remove(&dir.join(RESTORED))?;
    Ok(File::open(dir)?.sync_all()?)
}

/// Accepts that the database of a hub has less than the hub acknowledged: as after a restore, the hub takes back from the tills
/// what they hold before it records anything.
///
/// # Errors
/// The log is not in a database, a node holds the directory, nothing is missing, or the database cannot be asked.
pub fn accept_loss(dir: &Path) -> Result<Value, Failure> {
    let mut told = (0, 0);
    storage::accept_loss(dir, |known, there| {
        told = (known.0, there.0);
        Note { format: 1, made_at: rfc3339(now_ms()), end: there.0, complete: true }
            .write(&dir.join(RESTORED))
    })?;
    let (known, there) = told;
    Ok(json!({"dir": dir.display().to_string(), "known": known, "there": there, "missing": known - there}))
}

impl Note {
    fn write(&self, path: &Path) -> Result<(), Failure> {
        let aside = path.with_extension("tmp");
        let text = serde_json::to_vec_pretty(self).map_err(Failure::refused)?;
        let write = || -> std::io::Result<()> {
            fs::write(&aside, text)?;
            File::open(&aside)?.sync_all()?;
            fs::rename(&aside, path)?;
            File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
        };
        write().map_err(|error| Failure::refused(format!("cannot write {}: {error}", path.display())))
    }

    fn read(path: &Path) -> Result<Option<Self>, Failure> {
        let text = match fs::read(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => {
                other.map_err(|error| Failure::refused(format!("cannot read {}: {error}", path.display())))?
            }
        };
        let damaged = |error| Failure::refused(format!("{} is damaged: {error}", path.display()));
        let note: Self = serde_json::from_slice(&text).map_err(damaged)?;
        if note.format != 1 {
            let format = note.format;
            return Err(Failure::refused(format!("{} has format {format}; update tillsync", path.display())));
        }
        Ok(Some(note))
    }
}

fn make_empty(dir: &Path) -> Result<(), Failure> {
    let failed = |error| Failure::refused(format!("cannot make {}: {error}", dir.display()));
    let missing: Vec<&Path> =
        dir.ancestors().take_while(|it| !it.as_os_str().is_empty() && !it.exists()).collect();
    private::make_folder(dir).map_err(failed)?;
    for folder in missing {
        let parent = folder.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed)?;
    }
    if fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(Failure::refused(format!("{} is not empty; name a new directory", dir.display())));
    }
    Ok(())
}

/// Copies the small files until a pass in which the manifest fits them all: a running node may replace one meanwhile.
fn copy_small_files(from: &Path, to: &Path) -> Result<(), Failure> {
    copy_small_files_with(from, to, |_, to| Place::forget(to))
}

/// `place` sees to the word where the log is.
fn copy_small_files_with(
    from: &Path,
    to: &Path,
    place: fn(&Path, &Path) -> Result<(), StorageError>,
) -> Result<(), Failure> {
    for attempt in 1.. {
        let names = small_files(from)?;
        for name in &names {
            copy_small_file(&from.join(name), &to.join(name))?;
        }
        place(from, to).map_err(Failure::refused)?;
        let problems = crate::storage::manifest::problems(to).map_err(Failure::refused)?;
        if problems.is_empty() || attempt == TRIES {
            break;
        }
    }
    Ok(File::open(to)?.sync_all()?)
}

fn small_files(dir: &Path) -> Result<Vec<PathBuf>, Failure> {
    let mut names: Vec<PathBuf> =
        FILES.into_iter().map(PathBuf::from).filter(|it| dir.join(it).is_file()).collect();
    if dir.join("identity").is_dir() {
        for entry in fs::read_dir(dir.join("identity"))? {
            let name = entry?.file_name();
            if !name.to_string_lossy().ends_with(".new") {
                names.push(Path::new("identity").join(name));
            }
        }
    }
    names.sort();
    Ok(names)
}

fn copy_small_file(from: &Path, to: &Path) -> Result<(), Failure> {
    let copy = || -> std::io::Result<()> {
        let folder = to.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(folder)?;
        let bytes = fs::read(from)?;
        let mut file = File::create(to)?;
        // With its rights, before anything is in it: a key stays its owner's.
        file.set_permissions(fs::metadata(from)?.permissions())?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        File::open(folder)?.sync_all()
    };
    copy().map_err(|error| {
        Failure::refused(format!("cannot copy {} to {}: {error}", from.display(), to.display()))
    })
}

/// The copy holds what must be true of it.
fn checked(dir: &Path) -> Result<Value, Failure> {
    let report = verify(dir)?;
    if report["ok"] == true {
        return Ok(report);
    }
    let problems: Vec<&str> =
        report["problems"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    Err(Failure::untrue(format!("the copy in {} does not verify: {}", dir.display(), problems.join("; "))))
}

fn remove(path: &Path) -> Result<(), Failure> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::refused(format!("cannot remove {}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}
