//! Stories about keys: who opens a directory, what a crash leaves of a rotation and of an encryption, and what is found
//! when somebody meddles.

use super::super::disk::{Act, Faults, Verdict};
use super::super::{Entry, Options, Position, Storage, StorageError};
use super::*;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

fn key(folder: &Path, name: &str) -> Source {
    let path = folder.join(name);
    if !path.exists() {
        new_key_file(&path).unwrap();
    }
    Source::key_file(&path).unwrap()
}

fn passphrase(folder: &Path, words: &str) -> Source {
    let path = folder.join("words");
    fs::write(&path, words).unwrap();
    Source::passphrase_file(&path).unwrap()
}

/// An encrypted directory with nothing in it but its vault file.
fn made(dir: &Path, source: &Source) -> Vault {
    fs::create_dir_all(dir).unwrap();
    let vault = Vault::create(dir, source).unwrap();
    // As in a process that has not opened it yet.
    OPENED.lock().unwrap().retain(|known| known.id() != vault.id());
    vault
}

/// A disk that dies at the n-th act and stays dead.
struct DiesAt {
    at: usize,
    done: AtomicUsize,
    torn: bool,
}

impl DiesAt {
    fn disk(at: usize, torn: bool) -> (Disk, Arc<DiesAt>) {
        let faults = Arc::new(DiesAt { at, done: AtomicUsize::new(0), torn });
        (Disk::new(Some(faults.clone())), faults)
    }
}

impl Faults for DiesAt {
    fn judge(&self, act: Act) -> Verdict {
        let nth = self.done.fetch_add(1, Ordering::SeqCst);
        match act {
            _ if nth < self.at => Verdict::Pass,
            Act::Write(_, bytes) if nth == self.at && self.torn => {
                Verdict::Short(bytes / 2, std::io::ErrorKind::Other)
            }
            _ => Verdict::Fail(std::io::ErrorKind::Other),
        }
    }
}

#[test]
fn the_right_key_opens_and_every_other_way_in_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let (right, wrong) = (key(folder.path(), "a"), key(folder.path(), "b"));
    let vault = made(&dir, &right);
    assert_eq!(Vault::open(&dir, &right).unwrap().unwrap().id(), vault.id());
    assert!(matches!(Vault::open(&dir, &wrong), Err(VaultError::WrongKey { .. })));
    let words = passphrase(folder.path(), "correct horse");
    assert!(matches!(Vault::open(&dir, &words), Err(VaultError::OtherKind { wanted: "key", .. })));
    assert!(matches!(Vault::of(&dir), Err(VaultError::NeedsKey { .. })), "no key was given to this process");
    assert_eq!(format!("{vault:?}"), format!("Vault({})", hex(&vault.id())));
    // The key beside what it locks.
    let inside = key(&dir, "k");
    assert!(matches!(rotate(&dir, &right, &inside), Err(VaultError::Refused { .. })));
}

#[test]
fn a_passphrase_opens_too_and_keys_and_passphrases_follow_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let words = passphrase(folder.path(), "correct horse battery\n");
    let vault = made(&dir, &words);
    assert_eq!(Vault::open(&dir, &words).unwrap().unwrap().id(), vault.id());
    let other = passphrase(folder.path(), "correct horse battery staple");
    assert!(matches!(Vault::open(&dir, &other), Err(VaultError::WrongKey { .. })));
    let next = key(folder.path(), "a");
    assert_eq!(rotate(&dir, &words, &next).unwrap(), 1);
    assert_eq!(Vault::open(&dir, &next).unwrap().unwrap().id(), vault.id(), "the data key stays");
    assert!(Vault::open(&dir, &words).is_err());
    assert_eq!(rotate(&dir, &next, &words).unwrap(), 2);
    assert_eq!(describe(&dir).unwrap().unwrap().opened_by, "passphrase");
}

/// Wherever a rotation is cut off, torn writes included: exactly one of the two keys opens, with the same data key, and
/// once a rotation has said that it is done, it is the new one.
#[test]
fn a_rotation_cut_off_anywhere_leaves_one_key_that_opens() {
    let (mut died, mut news, mut at) = (0, 0, 0);
    loop {
        for torn in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let dir = folder.path().join("data");
            let (old, new) = (key(folder.path(), "old"), key(folder.path(), "new"));
            let vault = made(&dir, &old);
            let (disk, faults) = DiesAt::disk(at, torn);
            let done = rotate_on(&disk, &dir, &old, &new).is_ok();
            let opened: Vec<bool> = [&old, &new]
                .into_iter()
                .map(|source| match Vault::open(&dir, source) {
                    Ok(found) => found.unwrap().id() == vault.id(),
                    Err(VaultError::WrongKey { .. }) => false,
                    Err(error) => panic!("at {at}: {error}"),
                })
                .collect();
            assert!(opened[0] != opened[1], "at {at}: {opened:?}");
            assert!(!done || opened[1], "at {at}");
            // It can be done again with whichever opens, and heals the copy.
            rotate(&dir, if opened[0] { &old } else { &new }, &new).unwrap();
            assert!(Vault::open(&dir, &new).is_ok());
            let [one, two] = header::paths(&dir).map(|path| fs::read(path).unwrap());
            assert_eq!(one, two);
            died += usize::from(!done);
            news += usize::from(opened[1]);
            if done {
                assert!(faults.done.load(Ordering::SeqCst) <= at);
                assert!(at > 4 && died >= 8 && news > 2, "{at} acts, {died} deaths, {news} with the new key");
                return;
            }
        }
        at += 1;
    }
}

#[test]
fn one_of_two_vault_files_is_enough_and_no_flipped_bit_passes() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let right = key(folder.path(), "a");
    let vault = made(&dir, &right);
    let [file, copy] = header::paths(&dir);
    let good = fs::read(&file).unwrap();
    for harmed in [&file, &copy] {
        fs::write(harmed, b"").unwrap();
        assert!(Vault::open(&dir, &right).unwrap().is_some());
        fs::remove_file(harmed).unwrap();
        vault.heal(&Disk::default(), &dir).unwrap();
        assert_eq!(fs::read(harmed).unwrap(), good, "healed");
    }
    fs::remove_file(&copy).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x04;
        fs::write(&file, &bad).unwrap();
        match Vault::open(&dir, &right) {
            Err(VaultError::Damaged { .. }) => {}
            // White space between fields is nobody's.
            Ok(Some(found)) if good[at].is_ascii_whitespace() => assert_eq!(found.id(), vault.id()),
            other => panic!("byte {at}: {other:?}"),
        }
    }
    // Both gone is no plain directory: what lies in it is recognised.
    fs::remove_file(&file).unwrap();
    let sealed = vault.seal("hub.json", b"{}");
    assert!(matches!(uncover(&dir, "hub.json", sealed), Err(VaultError::NoVault { .. })));
}

#[test]
fn a_small_file_is_bound_to_its_name_and_a_plain_one_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("data");
    let right = key(folder.path(), "a");
    made(&dir, &right);
    let vault = Vault::open(&dir, &right).unwrap().unwrap();
    remember(&vault);
    let sealed = cover(&dir, "identity/node.key", b"secret").unwrap();
    assert!(!sealed.windows(6).any(|window| window == b"secret"));
    assert_eq!(uncover(&dir, "identity/node.key", sealed.clone()).unwrap(), b"secret");
    assert!(matches!(uncover(&dir, "identity/ca.key", sealed), Err(VaultError::Damaged { .. })));
    assert!(matches!(uncover(&dir, "hub.json", b"{}".to_vec()), Err(VaultError::NotEncrypted { .. })));
    // A node that runs while its key is rotated goes on reading and writing.
    rotate(&dir, &right, &key(folder.path(), "b")).unwrap();
    let sealed = cover(&dir, "identity/node.key", b"renewed").unwrap();
    assert_eq!(uncover(&dir, "identity/node.key", sealed).unwrap(), b"renewed");
}

type Log = Vec<(u8, Vec<u8>)>;

fn read_all(dir: &Path, vault: Option<Vault>) -> Result<Log, StorageError> {
    let (storage, _) = Storage::open(dir, &Options { vault, ..small() })?;
    let mut found = Log::new();
    storage.replay(Position(0), &mut |_, entry| {
        found.push((entry.kind, entry.bytes));
        Ok::<_, StorageError>(())
    })?;
    storage.close()?;
    Ok(found)
}

fn small() -> Options {
    Options { segment_bytes: 4096, ahead_bytes: 1024, reserve_bytes: 0, ..Options::default() }
}

/// A plain till with a log of several segments and an identity.
fn plain(dir: &Path) -> Log {
    fs::create_dir_all(dir.join("identity")).unwrap();
    fs::write(dir.join("identity/node.key"), "PLANTED key").unwrap();
    fs::write(dir.join("hub.json"), "{\"company\":\"PLANTED\"}").unwrap();
    fs::write(dir.join("run.json"), "{\"token\":\"PLANTED\"}").unwrap();
    fill(dir, None)
}

fn fill(dir: &Path, vault: Option<Vault>) -> Log {
    let (storage, _) = Storage::open(dir, &Options { vault, ..small() }).unwrap();
    let mut log = Log::new();
    for number in 0..90u8 {
        let bytes = format!("receipt PLANTED-{number} ").repeat(3).into_bytes();
        storage.append_blocking(vec![Entry { kind: number, bytes: bytes.clone() }]).unwrap();
        log.push((number, bytes));
    }
    storage.index().put_batch(vec![(b"PLANTED".to_vec(), Some(b"PLANTED".to_vec()))], None).unwrap();
    storage.index().checkpoint(storage.end()).unwrap();
    storage.close().unwrap();
    log
}

/// Every file below a folder that holds the bytes.
fn files_with(folder: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, bytes));
        } else if fs::read(&path).unwrap().windows(bytes.len()).any(|window| window == bytes) {
            found.push(path);
        }
    }
    found
}

fn assert_encrypted(dir: &Path, source: &Source, log: &Log) {
    let vault = Vault::open(dir, source).unwrap();
    assert_eq!(files_with(dir, b"PLANTED"), Vec::<PathBuf>::new());
    assert_eq!(read_all(dir, vault.clone()).unwrap(), *log);
    let vault = vault.unwrap();
    for (name, text) in [("identity/node.key", "PLANTED key"), ("hub.json", "{\"company\":\"PLANTED\"}")] {
        assert_eq!(vault.unseal(name, &fs::read(dir.join(name)).unwrap()).unwrap(), text.as_bytes());
    }
    assert!(!dir.join("encrypting").exists() && !dir.join("run.json").exists());
    assert!(read_all(dir, None).is_err(), "without the key");
}

/// Wherever an encryption is cut off: the directory is as plain as it was and opens, or it says that it is unfinished;
/// run again, it is encrypted with every entry.
#[test]
fn an_encryption_cut_off_anywhere_is_undone_or_finished() {
    let (pristine, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let log = plain(pristine.path());
    let source = key(keys.path(), "a");
    let (mut at, mut plains, mut unfinished) = (0, 0, 0);
    loop {
        let folder: TempDir =
            tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap());
        let dir = folder.path().join("data");
        super::super::tests::copy(pristine.path(), &dir);
        let (disk, _) = DiesAt::disk(at, at % 2 == 1);
        let done = convert::encrypt_on(&disk, &dir, &source);
        if done.is_err() {
            match describe(&dir).unwrap() {
                None => {
                    plains += 1;
                    assert_eq!(read_all(&dir, None).unwrap(), log, "at {at}");
                }
                Some(vault) if vault.unfinished => {
                    unfinished += 1;
                    let opened = Storage::open(&dir, &small()).map(drop).unwrap_err();
                    assert!(opened.to_string().contains("tillsync key encrypt"), "{opened}");
                }
                // Only the copy of the vault file was missing.
                Some(_) => {}
            }
            // Half of them are left to the node that starts next.
            let by_node = at % 4 >= 2 && convert::finish_interrupted(&dir, &source).unwrap();
            match encrypt(&dir, &source) {
                Ok(again) if by_node => panic!("at {at}: it was not finished: {again:?}"),
                Ok(again) => assert_eq!(again.resumed, again.entries == 0, "at {at}"),
                Err(error) => assert!(error.to_string().contains("encrypted already"), "at {at}: {error}"),
            }
        }
        assert_encrypted(&dir, &source, &log);
        if let Ok(done) = done {
            assert_eq!((done.entries, done.files, done.resumed), (90, 2, false));
            assert!(plains > 10 && unfinished > 8, "{at} acts: {plains} plain, {unfinished} unfinished");
            return;
        }
        at += 1;
    }
}

/// Over many segments, with an index that was written, checkpointed, scanned and opened again, nothing shows; the same
/// search finds the words in a plain directory.
#[test]
fn neither_rotated_segments_nor_the_index_show_anything() {
    let (folder, open) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let vault = Some(Vault::for_tests([4; 32]));
    let log = fill(folder.path(), vault.clone());
    assert!(fs::read_dir(folder.path().join("log")).unwrap().count() > 1, "segments were rotated");
    assert_eq!(files_with(folder.path(), b"PLANTED"), Vec::<PathBuf>::new());
    let (storage, report) = Storage::open(folder.path(), &Options { vault, ..small() }).unwrap();
    assert_eq!(report.index, super::super::IndexState::Kept);
    let pair = (b"PLANTED".to_vec(), b"PLANTED".to_vec());
    assert_eq!(storage.index().get(b"PLANTED").unwrap(), Some(pair.1.clone()));
    assert_eq!(storage.index().scan_prefix(b"PLAN", None, 9).unwrap(), [pair]);
    assert_eq!(storage.index().scan_prefix(b"PLAN", Some(b"PLANTED"), 9).unwrap(), []);
    storage.close().unwrap();
    assert_eq!(files_with(folder.path(), b"PLANTED"), Vec::<PathBuf>::new());
    assert_eq!(plain(open.path()), log);
    assert!(files_with(open.path(), b"PLANTED").len() > 5);
}

/// Meddling with an encrypted log is found by verify: flips at every byte, frames swapped, repeated and taken from another
/// log under the same key, a segment cut, a plain segment put in.
#[test]
fn meddling_with_encrypted_frames_is_found() {
    let (folder, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let source = key(keys.path(), "a");
    let log = plain(folder.path());
    encrypt(folder.path(), &source).unwrap();
    let vault = Vault::open(folder.path(), &source).unwrap();
    let audit = |dir: &Path| super::super::audit::audit_files(dir, vault.as_ref()).unwrap();
    assert_eq!((audit(folder.path()).entries, audit(folder.path()).problems.len()), (90, 0));
    let segment = folder.path().join("log").join(format!("{:020}.seg", 0));
    let good = fs::read(&segment).unwrap();
    // All entries have nearly one size: find two neighbours of equal length.
    let length = |at: usize| u32::from_le_bytes(good[at..at + 4].try_into().unwrap()) as usize;
    let starts: Vec<usize> = std::iter::successors(Some(128), |at| Some(at + length(*at))).take(80).collect();
    let pair = starts.windows(2).find(|pair| length(pair[0]) == length(pair[1])).unwrap();
    let (one, two, size) = (pair[0], pair[1], length(pair[0]));
    let end = starts[79] + length(starts[79]);

    let mut harmed: Vec<(String, Vec<u8>)> = Vec::new();
    for at in (0..end).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        harmed.push((format!("flip at {at}"), bytes));
    }
    let mut bytes = good.clone();
    bytes[one..one + size].copy_from_slice(&good[two..two + size]);
    bytes[two..two + size].copy_from_slice(&good[one..one + size]);
    harmed.push(("two frames swapped".into(), bytes));
    let mut bytes = good.clone();
    bytes[two..two + size].copy_from_slice(&good[one..one + size]);
    harmed.push(("a frame repeated".into(), bytes));
    harmed.push(("cut in the middle".into(), good[..two + size / 2].to_vec()));
    harmed.push(("cut between frames".into(), good[..two].to_vec()));
    let mut bytes = good.clone();
    bytes[one..end].fill(0);
    harmed.push(("zeroed".into(), bytes));

    // A log of another id under the same data key, and the same log in plain.
    let other = tempfile::tempdir().unwrap();
    let (storage, _) =
        Storage::open(other.path(), &Options { vault: vault.clone(), ..Options::default() }).unwrap();
    for (kind, bytes) in &log {
        storage.append_blocking(vec![Entry { kind: *kind, bytes: bytes.clone() }]).unwrap();
    }
    storage.close().unwrap();
    let foreign = fs::read(other.path().join("log").join(format!("{:020}.seg", 0))).unwrap();
    harmed.push(("another log's frames".into(), [&good[..128], &foreign[128..]].concat()));
    harmed.push(("another log's segment".into(), foreign));
    let plain_too = tempfile::tempdir().unwrap();
    plain(plain_too.path());
    let bytes = fs::read(plain_too.path().join("log").join(format!("{:020}.seg", 0))).unwrap();
    harmed.push(("a plain segment".into(), bytes));

    for (title, bytes) in harmed {
        fs::write(&segment, bytes).unwrap();
        assert!(!audit(folder.path()).problems.is_empty(), "{title} was not found");
        if !title.starts_with("flip") {
            let opened =
                Storage::open(folder.path(), &Options { vault: vault.clone(), ..Options::default() });
            assert!(opened.is_err(), "{title}: opened");
        }
    }
    fs::write(&segment, &good).unwrap();
    assert_eq!(audit(folder.path()).problems.len(), 0);
    let stranger = Vault::for_tests([9; 32]);
    let error = super::super::audit::audit_files(folder.path(), Some(&stranger)).unwrap();
    assert!(
        error.problems.iter().all(|problem| problem.to_string().contains("another data key")),
        "{error:?}"
    );
    assert!(super::super::audit(folder.path()).is_err(), "no key");
}
