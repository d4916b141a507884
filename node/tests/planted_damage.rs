//! Planted damage: every file of a till's and a hub's directory, plain and encrypted, is bent in every way that disks and
//! people bend files. Each damage is found by `verify`, or nothing that the directory says has changed; and no opening
//! shows a log from which an acknowledged entry is silently missing.
//!
//! Deterministic by its seed. `TILLSYNC_DAMAGES` sets how many (default 1,500; the full number is 10,000),
//! `TILLSYNC_DAMAGE_SEED` another seed. Prints a table of what was planted and what came of it.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use common::{Company, Node, sale, strs, till_with, tillsync, until};
use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use engine::policy::Policy;
use engine::replica::{Identity, Input, Replica};
use engine::time::Instant;
use node::hub::HubConfig;
use node::identity::{Authority, Enrolment, NodeKey};
use node::runtime::restore::{Images, restore};
use node::runtime::workroom::Home;
use node::storage::{Entry, IndexState, Options, Position, Scan, Storage, StorageError, vault};
use node::verify::verify;

/// Segments of the directories that are damaged: small, so that there are several, and damage hits what is written.
const SEGMENT_BYTES: u64 = 64 << 10;
const PAGE: usize = 4096;
const SECTOR: usize = 512;

/// xorshift64*: the same damages in every run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(drawn).unwrap() % limit.max(1)
    }
}

/// A whole directory and an older copy of it.
struct Sample {
    name: &'static str,
    whole: PathBuf,
    older: PathBuf,
    /// Files by kind, so that a kind with many files is not hit more often.
    kinds: BTreeMap<&'static str, Vec<PathBuf>>,
    meaning: Meaning,
}

/// Everything that a directory says: what must be the same after harmless damage.
#[derive(PartialEq)]
struct Meaning {
    entries: Vec<(Position, Entry)>,
    key: [u8; 32],
    enrolment: Option<Enrolment>,
    /// Hub: configuration and certificate authority.
    hub: Option<(String, Vec<u8>)>,
    /// Of each store, the books as a starting node restores them, with the checkpoint in the index if it fits.
    books: Vec<(StoreId, [u8; 32])>,
}

impl Meaning {
    fn of(dir: &Path) -> Result<Self, String> {
        let key = NodeKey::load(dir).map_err(|error| error.to_string())?.ok_or("no key")?;
        let enrolment = Enrolment::load(dir).map_err(|error| error.to_string())?;
        let hub = if enrolment.is_none() {
            let config = HubConfig::load(dir).map_err(|error| error.message)?;
            let authority = Authority::load(dir).map_err(|error| error.to_string())?.ok_or("no CA")?;
            Some((serde_json::to_string(&config).unwrap(), authority.certificate().to_vec()))
        } else {
            None
        };
        let (books, entries) = books_and_entries(dir, &key, enrolment.as_ref())?;
        Ok(Self { entries, key: key.public(), enrolment, hub, books })
    }
}

fn entries(dir: &Path) -> Result<Vec<(Position, Entry)>, StorageError> {
    let (storage, _) = Storage::open(dir, &Options { reserve_bytes: 0, ..Options::default() })?;
    let mut entries = Vec::new();
    storage.replay(Position(0), &mut |at, entry| {
        entries.push((at, entry));
        Ok::<(), StorageError>(())
    })?;
    storage.close()?;
    Ok(entries)
}

type BooksAndEntries = (Vec<(StoreId, [u8; 32])>, Vec<(Position, Entry)>);

/// As a starting node sees them. Before `entries`, which must not be the first to open a damaged index.
fn books_and_entries(
    dir: &Path,
    key: &NodeKey,
    enrolment: Option<&Enrolment>,
) -> Result<BooksAndEntries, String> {
    let (storage, _) = Storage::open(dir, &Options::default()).map_err(|error| error.to_string())?;
    let hub = enrolment.map_or_else(|| key.public(), |enrolment| enrolment.hub_public_key);
    let terminal = enrolment.map_or_else(TerminalId::hub, |enrolment| enrolment.terminal.parse().unwrap());
    let home = Home::of_node(dir, &storage);
    let fresh = |store: &StoreId| {
        let log = LogId { terminal: terminal.clone(), incarnation: 1 };
        let (key, nonce, hub) = (key.signing_key().clone(), [0; 16], WriterId(hub));
        let policy = Policy { currencies: vec!["GBP".parse().unwrap()], ..Policy::default() };
        let identity = Identity { store: store.clone(), log, key, nonce, hub };
        Ok(Replica::new(identity, policy).in_room(&home.room()))
    };
    let books = |images| {
        let mut restored = restore(&storage, images, fresh).map_err(|error| error.to_string())?;
        let books = restored.stores.iter_mut().map(|(store, made)| {
            made.replica.handle(Instant::utc(1_800_000_000_000), Input::Wakeup);
            (store.clone(), made.replica.books().view_hash())
        });
        Ok::<_, String>(books.collect())
    };
    // A piece that cannot be read ends the store's work, and it begins anew from its log (`runtime::supervise`).
    let found = catch_unwind(AssertUnwindSafe(|| books(Images::of(&home))));
    let found = found.unwrap_or_else(|_| books(Images::None))?;
    // Whoever has the storage holds the folder.
    drop(home);
    storage.close().map_err(|error| error.to_string())?;
    Ok((found, entries(dir).map_err(|error| error.to_string())?))
}

/// In memory where there is such a place: what is tested is judgement, not the disk.
fn quick_temp() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}

fn files_below(dir: &Path, below: &Path, found: &mut Vec<PathBuf>) {
    let mut items: Vec<PathBuf> =
        fs::read_dir(dir.join(below)).unwrap().map(|item| below.join(item.unwrap().file_name())).collect();
    items.sort();
    for item in items {
        if dir.join(&item).is_dir() { files_below(dir, &item, found) } else { found.push(item) }
    }
}

fn kind_of(file: &Path) -> &'static str {
    let text = file.to_str().unwrap();
    match text {
        _ if text.starts_with("log/") => "segment",
        _ if text.starts_with("index/") => "index",
        _ if text.ends_with(".key") => "key",
        _ if text.ends_with(".crt") => "certificate",
        "identity/enrolment.json" => "enrolment",
        "hub.json" => "hub.json",
        "mark" => "mark",
        "scratch" => "scratch",
        "manifest" => "manifest",
        "vault" | "vault.copy" => "vault",
        _ => "other",
    }
}

/// The same log in small segments, its positions unchanged, so that the index with the node's checkpoints still fits.
fn in_small_segments(dir: &Path) {
    let mut kept = Vec::new();
    let (storage, found) = Storage::open(dir, &Options { scan: Scan::All, ..Options::default() }).unwrap();
    storage
        .replay(Position(0), &mut |at, entry| {
            kept.push((at, entry));
            Ok::<(), StorageError>(())
        })
        .unwrap();
    storage.close().unwrap();
    // Aside meanwhile: over a log that is shorter than it knows it would be thrown away.
    fs::rename(dir.join("index"), dir.join("index-kept")).unwrap();
    fs::remove_dir_all(dir.join("log")).unwrap();
    fs::remove_file(dir.join("mark")).unwrap();
    let options = Options {
        segment_bytes: SEGMENT_BYTES,
        ahead_bytes: 16 << 10,
        reserve_bytes: 0,
        log_id: Some(found.log_id),
        ..Options::default()
    };
    let (storage, _) = Storage::open(dir, &options).unwrap();
    for (at, entry) in kept {
        assert_eq!(storage.append_blocking(vec![entry]).unwrap(), [at], "positions stay");
    }
    storage.close().unwrap();
    fs::remove_dir_all(dir.join("index")).unwrap();
    fs::rename(dir.join("index-kept"), dir.join("index")).unwrap();
    let (storage, found) = Storage::open(dir, &Options { reserve_bytes: 0, ..Options::default() }).unwrap();
    assert_eq!(found.index, IndexState::Kept, "the checkpoints are there to be damaged");
    storage.close().unwrap();
}

fn sample(name: &'static str, dir: &Path, older: &Path, folder: &Path) -> Sample {
    let (whole, old) = (folder.join(name), folder.join(format!("{name}-older")));
    copy(dir, &whole);
    copy(older, &old);
    in_small_segments(&whole);
    in_small_segments(&old);
    let report = verify(&whole).unwrap();
    assert_eq!(report["ok"], true, "{name}: {report}");
    let meaning = Meaning::of(&whole).unwrap_or_else(|error| panic!("{name}: {error}"));
    let mut files = Vec::new();
    files_below(&whole, Path::new(""), &mut files);
    let mut kinds: BTreeMap<&'static str, Vec<PathBuf>> = BTreeMap::new();
    for file in files {
        if fs::metadata(whole.join(&file)).unwrap().len() > 0 {
            kinds.entry(kind_of(&file)).or_default().push(file);
        }
    }
    Sample { name, whole, older: old, kinds, meaning }
}

fn capture(node: &Node, from: usize, to: usize) {
    let lines: String =
        (from..to).map(|n| sale(&format!("R-{n}"), 100 + i64::try_from(n).unwrap()) + "\n").collect();
    let output = tillsync(&["capture", "-", "--api", &node.http], &lines);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A company with a till, its directories as they were after a few sales and as they are in the end: the last sales were
/// made offline.
fn company(encrypted: bool, folder: &Path) -> (PathBuf, PathBuf, PathBuf, PathBuf) {
    let mut company = if encrypted { Company::encrypted("Shops") } else { Company::new() };
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let key = company.key.clone();
    if encrypted {
        vault::declare(Some(PathBuf::from(&key[1])), None);
    }
    let word = if encrypted { "encrypted" } else { "plain" };
    let [hub_old, till_old, hub_now, till_now] =
        ["hub-old", "till-old", "hub-now", "till-now"].map(|name| folder.join(format!("raw-{word}-{name}")));
    let node = till_with(&dir, &strs(&key));
    capture(&node, 0, 10);
    until("the first sales at the hub", || company.records() == 10);
    node.stop();
    hub.stop();
    copy(&company.dir, &hub_old);
    copy(&dir, &till_old);
    let hub = company.hub();
    // So that an older copy of the small files differs: another till is let in, the clock has gone on.
    company.join("store-1", "till-02");
    let node = till_with(&dir, &strs(&key));
    capture(&node, 10, 30);
    until("more sales at the hub", || company.records() == 30);
    hub.stop();
    capture(&node, 30, 42);
    node.stop();
    copy(&company.dir, &hub_now);
    copy(&dir, &till_now);
    if encrypted {
        // Opened once while the key file is there: from here on this process knows the data keys.
        for dir in [&hub_now, &till_now, &hub_old, &till_old] {
            NodeKey::load(dir).unwrap();
        }
    }
    (till_now, till_old, hub_now, hub_old)
}

/// Bends one file; says how, or `None` if its bytes stayed the same.
fn bend(chance: &mut Chance, sample: &Sample, dir: &Path, file: &Path) -> Option<&'static str> {
    let path = dir.join(file);
    let before = fs::read(&path).unwrap();
    let mut bytes = before.clone();
    // Half of the places are among what is written: much of a log is zeros ahead.
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(bytes.len(), |last| last + 1);
    let reach = if chance.below(2) == 0 { written } else { bytes.len() };
    let how = match chance.below(10) {
        0..=2 => {
            let at = chance.below(reach);
            bytes[at] ^= 1 << chance.below(8);
            "flipped bit"
        }
        3 => {
            let at = chance.below(reach) / PAGE * PAGE;
            let end = (at + PAGE).min(bytes.len());
            bytes[at..end].fill(0);
            "zeroed page"
        }
        4 | 5 => {
            let sectors = bytes.len() / SECTOR;
            if sectors < 2 {
                return None;
            }
            let (one, other) = (chance.below(reach / SECTOR) * SECTOR, chance.below(sectors) * SECTOR);
            for nth in 0..SECTOR {
                bytes.swap(one + nth, other + nth);
            }
            "swapped sectors"
        }
        6 => {
            bytes.truncate(chance.below(reach));
            "truncated"
        }
        7 => {
            bytes = fs::read(sample.older.join(file)).ok()?;
            "older copy"
        }
        8 => {
            let (from, length) = (chance.below(reach), 1 + chance.below(2 * PAGE));
            let end = (from + length).min(bytes.len());
            for byte in &mut bytes[from..end] {
                *byte = u8::try_from(chance.below(256)).unwrap();
            }
            "noise"
        }
        _ => {
            fs::remove_file(&path).unwrap();
            return Some("deleted");
        }
    };
    if bytes == before {
        return None;
    }
    fs::write(&path, bytes).unwrap();
    Some(how)
}

#[test]
fn planted_damage_is_found_or_changes_nothing_and_no_entry_is_silently_missing() {
    let number = |name: &str, otherwise: u64| std::env::var(name).map_or(otherwise, |it| it.parse().unwrap());
    let (wanted, seed) = (number("TILLSYNC_DAMAGES", 1_500), number("TILLSYNC_DAMAGE_SEED", 20_261_124));
    let folder = quick_temp();
    let mut samples = Vec::new();
    // The encrypted one last: a key that is declared would be offered to the plain one, too.
    for (encrypted, [till_name, hub_name]) in
        [(false, ["till", "hub"]), (true, ["encrypted-till", "encrypted-hub"])]
    {
        let (till_now, till_old, hub_now, hub_old) = company(encrypted, folder.path());
        samples.push(sample(till_name, &till_now, &till_old, folder.path()));
        samples.push(sample(hub_name, &hub_now, &hub_old, folder.path()));
    }
    let (mut chance, mut planted) = (Chance(seed), 0);
    let mut table: BTreeMap<(&str, &str), [u64; 2]> = BTreeMap::new();
    let mut missed = Vec::new();
    let dir = folder.path().join("damaged");
    while planted < wanted {
        let sample = &samples[chance.below(samples.len())];
        let _ = fs::remove_dir_all(&dir);
        copy(&sample.whole, &dir);
        let whole_index = chance.below(40) == 0;
        let (kind, file, how) = if whole_index {
            fs::remove_dir_all(dir.join("index")).unwrap();
            ("index", PathBuf::from("index"), "deleted")
        } else {
            let (kind, files) = sample.kinds.iter().nth(chance.below(sample.kinds.len())).unwrap();
            let file = &files[chance.below(files.len())];
            let Some(how) = bend(&mut chance, sample, &dir, file) else { continue };
            (*kind, file.clone(), how)
        };
        planted += 1;
        let place = format!("number {planted}: {} {how} in {}", sample.name, file.display());
        let found = match verify(&dir) {
            Ok(report) => report["ok"] != true,
            Err(_) => true,
        };
        table.entry((kind, how)).or_default()[usize::from(!found)] += 1;
        // Opening shows every acknowledged entry, or refuses.
        match entries(&dir) {
            Ok(entries) if entries == sample.meaning.entries => {}
            Ok(entries) => missed.push(format!("{place}: opened with {} entries", entries.len())),
            Err(_) if found => {}
            Err(error) => missed.push(format!("{place}: verify found nothing, opening fails: {error}")),
        }
        if !found {
            match Meaning::of(&dir) {
                Ok(meaning) if meaning == sample.meaning => {}
                Ok(_) => missed.push(format!("{place}: verify found nothing, and it says something else")),
                Err(error) => missed.push(format!("{place}: verify found nothing, and {error}")),
            }
        }
    }
    println!("{:<12} {:<16} {:>8} {:>9}", "file", "damage", "found", "harmless");
    for ((kind, how), [found, harmless]) in &table {
        println!("{kind:<12} {how:<16} {found:>8} {harmless:>9}");
    }
    println!("planted {planted}, missed {}", missed.len());
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
