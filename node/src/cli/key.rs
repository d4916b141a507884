//! `key`: the key of an encrypted data directory. Asks for nothing and prints no secret; `storage::vault` does the work.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::out::Out;
use super::table::Table;
use crate::error::Failure;
use crate::storage::vault::{self, Source};

/// Encrypt a data directory, give it another key, or make a key file
#[derive(Debug, clap::Subcommand)]
pub(super) enum Key {
    /// Make a new key file, readable by its owner only
    New(New),
    /// Say whether a data directory is encrypted, and by what it is opened; needs no key
    Show(At),
    /// Encrypt the data directory of a stopped node with the key given by --key-file, --passphrase-file or the environment
    ///
    /// The files are written anew, checked, and put in place of the plain ones. Interrupted, the directory is as it was,
    /// or the same command finishes it. What a disk keeps of deleted files is not wiped: a device that must not give
    /// anything away is better enrolled anew with a key from its first day.
    Encrypt(At),
    /// Give an encrypted data directory another key or passphrase; the node may go on running
    ///
    /// The old key is given as always, by --key-file, --passphrase-file or the environment. The data stay as they are:
    /// their key is wrapped anew, so whoever had both the old key and the old `vault` file still knows it.
    Rotate(Rotate),
}

/// Makes a key file.
#[derive(Debug, clap::Args)]
pub(super) struct New {
    /// The file; there must be none yet
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Names a data directory.
#[derive(Debug, clap::Args)]
pub(super) struct At {
    /// Data directory of the node
    #[arg(long)]
    dir: PathBuf,
}

/// Gives a directory another key.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("new").required(true))]
pub(super) struct Rotate {
    /// Data directory of the node
    #[arg(long)]
    dir: PathBuf,
    /// File with the new key
    #[arg(long, value_name = "FILE", group = "new")]
    new_key_file: Option<PathBuf>,
    /// File with the new passphrase
    #[arg(long, value_name = "FILE", group = "new")]
    new_passphrase_file: Option<PathBuf>,
}

impl Key {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::New(new) => new.run(out).map_err(|failure| failure.during("key new")),
            Self::Show(at) => show(&at.dir, out).map_err(|failure| failure.during("key show")),
            Self::Encrypt(at) => encrypt(&at.dir, out).map_err(|failure| failure.during("key encrypt")),
            Self::Rotate(rotate) => rotate.run(out).map_err(|failure| failure.during("key rotate")),
        }
    }
}

impl New {
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        vault::new_key_file(&self.file).map_err(Failure::refused)?;
        let file = self.file.display();
        if out.json() {
            return out.document(&json!({"key_file": file.to_string()}));
        }
        out.text(&format!(
            "{file} is the key. Keep a copy apart from the data: without it nobody reads them again."
        ))
    }
}

fn show(dir: &Path, out: &mut Out) -> Result<(), Failure> {
    let Some(vault) = vault::describe(dir).map_err(Failure::refused)? else {
        if out.json() {
            return out.document(&json!({"encrypted": false}));
        }
        return out.text(&format!("{} is not encrypted.", dir.display()));
    };
    if out.json() {
        return out.document(&json!({
            "encrypted": true,
            "data_key": vault.id,
            "opened_by": vault.opened_by,
            "generation": vault.generation,
            "unfinished": vault.unfinished,
        }));
    }
    let state = if vault.unfinished { "interrupted: run `tillsync key encrypt` again" } else { "complete" };
    let mut list = Table::list();
    list.row(["encryption", state])
        .row(["opened by", vault.opened_by])
        .row(["data key", &vault.id])
        .row(["generation", &vault.generation.to_string()]);
    out.text(&list.set())
}

fn encrypt(dir: &Path, out: &mut Out) -> Result<(), Failure> {
    let done = vault::encrypt(dir, &given()?).map_err(Failure::refused)?;
    let left: Vec<String> = done.left.iter().map(|path| path.display().to_string()).collect();
    if out.json() {
        return out.document(
            &json!({"entries": done.entries, "files": done.files, "resumed": done.resumed, "left": left}),
        );
    }
    let mut page = if done.resumed {
        format!("{}: the interrupted encryption is finished.", dir.display())
    } else {
        format!("{}: {} log entries and {} files are encrypted.", dir.display(), done.entries, done.files)
    };
    if !left.is_empty() {
        page.push_str(&format!("\nNot the node's, and left as they are: {}", left.join(", ")));
    }
    out.text(&page)
}

impl Rotate {
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let new = match (&self.new_key_file, &self.new_passphrase_file) {
            (Some(file), _) => Source::key_file(file),
            (None, Some(file)) => Source::passphrase_file(file),
            (None, None) => return Err(Failure::usage("name --new-key-file or --new-passphrase-file")),
        };
        let (old, new) = (given()?, new.map_err(Failure::refused)?);
        let generation = vault::rotate(&self.dir, &old, &new).map_err(Failure::refused)?;
        if out.json() {
            return out.document(&json!({"generation": generation}));
        }
        out.text(&format!("{} is opened by {} from now on.", self.dir.display(), new.origin()))
    }
}

/// The key that this process was given.
fn given() -> Result<Source, Failure> {
    let source = Source::of_process().map_err(Failure::refused)?;
    source.ok_or_else(|| {
        Failure::usage("no key was given; use --key-file FILE or --passphrase-file FILE (`tillsync key new FILE` makes one)")
    })
}
