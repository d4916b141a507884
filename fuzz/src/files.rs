//! What a disk may hold: the small files of a node, and its log.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use node::hub::HubConfig;
use node::identity::{Authority, Enrolment, NodeKey};
use node::runtime::run_file::RunFile;
use node::storage::{self, Entry, OnDamage, Options, Scan, Storage, StorageError, manifest, vault};
use tempfile::TempDir;

use crate::chance::Chance;

/// Files that a directory may have, relative to it.
pub(crate) const FILES: &[&str] = &[
    "hub.json",
    "identity/enrolment.json",
    "run.json",
    "vault",
    "manifest",
    "restored.json",
    "backup.json",
    "identity/node.key",
    "identity/authority.json",
    "identity/ca.key",
    "identity/ca.crt",
];

fn scratch() -> TempDir {
    // In memory where there is such a place: a fuzzer writes a directory a run.
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.expect("a temporary directory")
}

/// One or two small files with any content, read by everything that reads them.
pub fn node_files(bytes: &[u8]) {
    let chance = &mut Chance::new(bytes);
    let dir = scratch();
    let path = dir.path();
    fs::create_dir(path.join("identity")).expect("a folder");
    let first = *chance.of(FILES);
    if chance.one_in(4) {
        let (second, length) = (*chance.of(FILES), chance.below(2_000));
        fs::write(path.join(second), chance.bytes(length)).expect("a file");
    }
    let length = usize::MAX;
    fs::write(path.join(first), chance.bytes(length)).expect("a file");
    let _ = HubConfig::load(path).map(|config| config.clock());
    let _ = Enrolment::load(path)
        .map(|enrolment| enrolment.map(|enrolment| enrolment.identity(NodeKey::from_seed(&[5; 32]))));
    let _ = RunFile::read(path);
    let _ = vault::describe(path);
    let _ = manifest::problems(path);
    let _ = manifest::adopt(path);
    let _ = node::backup::is_restored(path);
    let _ = NodeKey::load(path);
    let _ = Authority::load(path);
}

/// A log as it was written: several segments, groups of one and of many.
struct Honest {
    files: Vec<(PathBuf, Vec<u8>)>,
    entries: Vec<(u64, Entry)>,
}

static HONEST: LazyLock<Honest> = LazyLock::new(|| {
    let dir = scratch();
    let mut entries = Vec::new();
    let (storage, _) = Storage::open(dir.path(), &options()).expect("a log");
    for group in 0_u8..14 {
        let of_group = (0..=group % 3)
            .map(|at| Entry { kind: 64 + at, bytes: vec![group; 60 + usize::from(group) * 40] });
        let of_group: Vec<Entry> = of_group.collect();
        let positions = storage.append_blocking(of_group.clone()).expect("an append");
        entries.extend(positions.into_iter().map(|position| position.0).zip(of_group));
    }
    storage.close().expect("it closes");
    let mut files = Vec::new();
    read_all(dir.path(), dir.path(), &mut files);
    files.retain(|(name, _)| !name.starts_with("index") && name.to_str() != Some("lock"));
    files.sort();
    Honest { files, entries }
});

fn options() -> Options {
    Options {
        segment_bytes: 8 << 10,
        ahead_bytes: 1 << 10,
        reserve_bytes: 0,
        log_id: Some([9; 16]),
        ..Options::default()
    }
}

fn read_all(root: &Path, folder: &Path, into: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read_all(root, &path, into);
        } else {
            let name = path.strip_prefix(root).expect("it lies below").to_path_buf();
            into.push((name, fs::read(&path).expect("a file")));
        }
    }
}

/// Files of a log that were changed, cut, swapped or lost. It opens or says why not; and whatever it hands out is what
/// was written at that position.
pub fn log_files(bytes: &[u8]) {
    let chance = &mut Chance::new(bytes);
    let dir = scratch();
    let mut files = HONEST.files.clone();
    let mut touched = Vec::new();
    for _ in 0..=chance.below(3) {
        let at = chance.below(files.len());
        touched.push(at);
        match chance.below(8) {
            0 => files[at].1.clear(),
            1 => {
                let other = chance.below(files.len());
                let there = files[other].1.clone();
                touched.push(other);
                files[other].1 = std::mem::replace(&mut files[at].1, there);
            }
            2 => {
                let length = files[at].1.len().max(1);
                let from = chance.below(length);
                let to = (from + 1 + chance.below(length)).min(files[at].1.len());
                files[at].1.get_mut(from..to).into_iter().for_each(|part| part.fill(0));
            }
            _ => chance.mangle(&mut files[at].1),
        }
    }
    for (at, (name, content)) in files.iter().enumerate() {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().expect("a file has a folder")).expect("a folder");
        // A file that was emptied is gone in one of two cases.
        if !(content.is_empty() && touched.contains(&at) && chance.one_in(2)) {
            fs::write(path, content).expect("a file");
        }
    }
    let _ = storage::audit(dir.path());
    let _ = manifest::problems(dir.path());
    let on_damage = if chance.one_in(3) { OnDamage::Refuse } else { OnDamage::Quarantine };
    let scan = if chance.one_in(3) { Scan::Tail } else { Scan::All };
    let Ok((storage, _)) = Storage::open(dir.path(), &Options { on_damage, scan, ..options() }) else {
        return;
    };
    let mut found = Vec::new();
    let _ = storage.replay(storage::Position(0), &mut |position, entry| {
        found.push((position.0, entry));
        Ok::<(), StorageError>(())
    });
    for (position, entry) in &found {
        let written = HONEST.entries.iter().find(|(at, _)| at == position).map(|(_, entry)| entry);
        assert_eq!(written, Some(entry), "something that was not written stands at {position}");
    }
    // It goes on where it is, and what is acknowledged from now on is there.
    if storage.is_poisoned().is_none() && !storage.is_full() {
        let entry = Entry { kind: 99, bytes: vec![1, 2, 3] };
        if let Ok(positions) = storage.append_blocking(vec![entry.clone()]) {
            assert_eq!(storage.read(positions[0]).expect("what was just written"), entry);
        }
    }
    let _ = storage.close();
}
