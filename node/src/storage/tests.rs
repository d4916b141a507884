//! Stories about the storage as a whole: crashes, damage, full and failing disks, many callers, a second process.
//!
//! Damage is done to copies of a small log, byte by byte; opening is tried without index and writer where hundreds of
//! openings are needed (`reopen`), and through the door everywhere else.

use super::disk::Disk;
use super::reader::Reader;
use super::writer::Sizes;
use super::*;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use tempfile::TempDir;

mod index;

fn small() -> Options {
    let log_id = Some(*b"sixteen byte id!");
    let (segment_bytes, ahead_bytes, reserve_bytes) = (4096, 1024, 0);
    Options { segment_bytes, ahead_bytes, reserve_bytes, log_id, ..Options::default() }
}

/// The same, encrypted: what is told from what by its bytes must be told so there too.
fn both() -> [Options; 2] {
    [small(), Options { vault: Some(vault::Vault::for_tests([3; 32])), ..small() }]
}

fn entry(number: usize) -> Entry {
    let kind = u8::try_from(number % 251).expect("small");
    let text = format!("receipt {number} ");
    Entry { kind, bytes: text.repeat(1 + number % 7).into_bytes() }
}

type Acked = BTreeMap<Position, Entry>;

/// Appends groups of so many entries, one after the other; what was acknowledged is added to `acked`.
fn fill(storage: &Storage, groups: &[usize], acked: &mut Acked) {
    for count in groups {
        let entries: Vec<Entry> = (0..*count).map(|nth| entry(acked.len() + nth)).collect();
        let positions = storage.append_blocking(entries.clone()).expect("append");
        acked.extend(positions.into_iter().zip(entries));
    }
}

fn temp() -> TempDir {
    tempfile::tempdir().expect("temp dir")
}

/// For thousands of openings: in memory where there is such a place. What is tested there is judgement, not the disk.
fn quick_temp() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| temp())
}

pub(super) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("create");
    for item in fs::read_dir(from).expect("list") {
        let item = item.expect("item");
        let target = to.join(item.file_name());
        if item.path().is_dir() {
            copy(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).expect("copy");
        }
    }
}

/// The log alone: lock, mark and segments, without the index.
fn copy_log(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    copy(&from.join("log"), &to.join("log"));
    fs::copy(from.join("mark"), to.join("mark")).expect("copy");
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir.join("log")).expect("list").map(|item| item.expect("item").path()).collect();
    paths.sort();
    paths
}

/// Opens the log without index and writer, and reads all of it.
fn reopen(dir: &Path, options: &Options) -> Result<(Recovery, Acked), StorageError> {
    let opened = recovery::open(dir, options, &Sizes::new(options)?, &Disk::default())?;
    let seal = frame::Seal::new(&opened.log_id, options.vault.as_ref());
    let reader = Reader::new(dir.join("log"), seal, opened.lost, opened.bases, opened.end);
    let mut found = Acked::new();
    reader.replay(Position(0), &mut |at, entry| {
        found.insert(at, entry);
        Ok::<_, StorageError>(())
    })?;
    Ok((opened.report, found))
}

/// A log of several segments whose last group is not acknowledged to anybody: returns what was before it.
fn log_with_last_group(dir: &Path, options: &Options, groups: &[usize]) -> (Acked, Acked) {
    let (storage, _) = Storage::open(dir, options).expect("open");
    let mut acked = Acked::new();
    fill(&storage, &groups[..groups.len() - 1], &mut acked);
    let mark = fs::read(dir.join("mark")).expect("mark");
    let before = acked.clone();
    fill(&storage, &groups[groups.len() - 1..], &mut acked);
    storage.close().expect("close");
    // The crash came before the mark of the last group.
    fs::write(dir.join("mark"), mark).expect("mark");
    (before, acked)
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).expect("read");
    bytes[at] ^= 0x10;
    fs::write(path, bytes).expect("write");
}

#[test]
fn what_was_appended_is_read_again_after_reopening() {
    let dir = temp();
    let mut acked = Acked::new();
    let (storage, first) = Storage::open(dir.path(), &small()).expect("open");
    assert!(first.fresh && first.index == IndexState::Created && first.end == Position(0));
    fill(&storage, &[1, 3, 0, 40, 2, 9, 30], &mut acked);
    let end = storage.end();
    assert_eq!(end.0, acked.values().map(|entry| 28 + entry.bytes.len() as u64).sum::<u64>(), "gapless");
    storage.close().expect("close");

    let (storage, second) = Storage::open(dir.path(), &small()).expect("open");
    assert!(!second.fresh && second.mark_found && second.index == IndexState::Kept && second.segments > 1);
    assert_eq!((second.end, second.last, second.torn_at), (end, acked.keys().last().copied(), None));
    for (at, entry) in &acked {
        assert_eq!(storage.read(*at).expect("read"), *entry);
    }
    let middle = *acked.keys().nth(acked.len() / 2).expect("middle");
    let mut found = Acked::new();
    let replayed = storage.replay::<StorageError>(middle, &mut |at, entry| {
        found.insert(at, entry);
        Ok(())
    });
    assert_eq!(replayed.expect("replay"), end);
    assert_eq!(found, acked.split_off(&middle));
    assert!(matches!(storage.read(end), Err(StorageError::NotInLog { .. })));
    assert!(matches!(storage.read(Position(middle.0 + 1)), Err(StorageError::Damaged(_))));
}

#[test]
fn entries_of_any_admitted_size_pass() {
    let dir = temp();
    let (storage, _) = Storage::open(dir.path(), &Options::default()).expect("open");
    for size in [0, 1, MAX_ENTRY_BYTES] {
        let entry = Entry { kind: 0, bytes: vec![0; size] };
        let at = storage.append_blocking(vec![entry.clone()]).expect("append")[0];
        assert_eq!(storage.read(at).expect("read"), entry);
    }
    let too_big = Entry { kind: 0, bytes: vec![0; MAX_ENTRY_BYTES + 1] };
    assert!(matches!(storage.append_blocking(vec![too_big]), Err(StorageError::TooLarge { .. })));
    let many = vec![Entry { kind: 0, bytes: vec![0; MAX_ENTRY_BYTES] }; 8];
    assert!(matches!(storage.append_blocking(many), Err(StorageError::TooLarge { .. })));
    storage.close().expect("close");
    assert_eq!(audit(dir.path()).expect("audit").entries, 3);
}

/// A crash cuts the last group at any byte, or keeps only what came after that byte: nothing acknowledged is lost, what
/// is kept is intact, and the log goes on.
#[test]
fn a_tail_torn_at_any_byte_is_cut() {
    for options in both() {
        let (dir, work) = (quick_temp(), quick_temp());
        let (before, all) = log_with_last_group(dir.path(), &options, &[20, 3, 1, 3]);
        let newest = segments(dir.path()).pop().expect("segment");
        let base: u64 =
            newest.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok()).expect("base");
        let start =
            usize::try_from(all.keys().nth(before.len()).expect("group").0 - base).expect("small") + 128;
        let whole = fs::read(&newest).expect("read");
        let end = whole.iter().rposition(|byte| *byte != 0).expect("written") + 1;
        let copied = work.path().join("log").join(newest.file_name().expect("name"));
        for cut in start..end {
            for keep_rear in [false, true] {
                copy_log(dir.path(), work.path());
                let mut torn = whole.clone();
                let gone = if keep_rear { start..cut + 1 } else { cut..end };
                torn[gone].fill(0);
                fs::write(&copied, torn).expect("write");
                let (report, found) = reopen(work.path(), &options).expect("a torn tail opens");
                assert!(before.iter().all(|(at, entry)| found.get(at) == Some(entry)), "lost at {cut}");
                assert!(found.iter().all(|(at, entry)| all.get(at) == Some(entry)), "wrong at {cut}");
                assert!(report.damage.is_empty() && report.end <= Position(end as u64 + base));
                let (again, found_again) = reopen(work.path(), &options).expect("and opens again");
                assert_eq!((again.torn_bytes, again.end, found_again), (0, report.end, found));
            }
        }
    }
}

/// The story that rules out "a later group number means damage": a group was cut in its middle at one crash, so its
/// first entry has no successor of its own group; the next group is torn at the next crash, in its first frame only.
/// That is a torn tail again, for its frames say that their group began where the tear is.
#[test]
fn two_torn_groups_in_a_row_are_no_damage() {
    for options in both() {
        let dir = temp();
        let mut acked = Acked::new();
        for nth in 0..4 {
            let (storage, report) = Storage::open(dir.path(), &options).expect("a torn tail opens");
            assert_eq!((report.torn_bytes > 0, report.damage.is_empty()), (nth > 0, true));
            let kept = report.end;
            storage
                .replay::<StorageError>(Position(0), &mut |at, entry| {
                    acked.insert(at, entry);
                    Ok(())
                })
                .expect("replay");
            let mark = fs::read(dir.path().join("mark")).expect("mark");
            let group =
                storage.append_blocking((0..3).map(|at| entry(nth * 3 + at)).collect()).expect("append");
            storage.close().expect("close");
            fs::write(dir.path().join("mark"), mark).expect("the mark is older");
            // Alternately the second and the first frame of the group is torn; what follows it stays.
            let torn = group[(nth + 1) % 2];
            flip(&segments(dir.path())[0], usize::try_from(torn.0).expect("small") + 128 + 30);
            assert!(torn >= kept);
        }
        let (_, found) = reopen(dir.path(), &options).expect("open");
        assert_eq!(found, acked, "two groups left their first entry");
        assert_eq!(found.len(), 2);
    }
}

/// Every byte of a small log is flipped, and then the mark is gone as well. What was acknowledged and marked is never
/// lost silently; without the mark only the very last group may count as torn, and then it is reported.
#[test]
fn every_flipped_byte_is_found() {
    for options in both() {
        let (dir, work) = (quick_temp(), quick_temp());
        let (storage, _) = Storage::open(dir.path(), &options).expect("open");
        let mut acked = Acked::new();
        fill(&storage, &[30, 25, 2, 1, 2, 1], &mut acked);
        storage.close().expect("close");
        let options = Options { scan: Scan::All, ..options.clone() };
        let last_group = *acked.keys().last().expect("last");
        let (mut refused, mut harmless, mut torn) = (0, 0, 0);
        for with_mark in [true, false] {
            for (nth, path) in segments(dir.path()).iter().enumerate() {
                let bytes = fs::read(path).expect("read");
                let written = bytes.iter().rposition(|byte| *byte != 0).expect("header") + 1;
                // Every byte of the newest segment, samples of the closed one, some of the zeros behind.
                let step = if with_mark && nth > 0 { 1 } else { 13 };
                let zeros = (written..bytes.len()).step_by(97);
                for byte in (0..written).step_by(step).chain(zeros) {
                    copy_log(dir.path(), work.path());
                    if !with_mark {
                        fs::remove_file(work.path().join("mark")).expect("remove");
                    }
                    flip(&work.path().join("log").join(path.file_name().expect("name")), byte);
                    match reopen(work.path(), &options) {
                        Err(StorageError::DamagedMiddle { damage }) => {
                            assert_eq!(damage.len(), 1, "{damage:?}");
                            refused += 1;
                        }
                        Err(other) => panic!("byte {byte} of {path:?}: {other}"),
                        Ok((_, found)) if found == acked => harmless += 1,
                        Ok((report, found)) => {
                            assert!(
                                !with_mark && report.torn_at == Some(last_group),
                                "byte {byte} of {path:?}"
                            );
                            assert_eq!(found.len(), acked.len() - 1);
                            torn += 1;
                        }
                    }
                }
            }
        }
        assert!(refused > 800 && harmless > 5 && torn > 3, "{refused} {harmless} {torn}");
    }
}

/// Damage to the mark itself costs nothing but the mark.
#[test]
fn a_damaged_mark_is_reported_and_replaced() {
    let (dir, work) = (temp(), temp());
    let (storage, _) = Storage::open(dir.path(), &small()).expect("open");
    let mut acked = Acked::new();
    fill(&storage, &[3, 4], &mut acked);
    storage.close().expect("close");
    for noise in [&b""[..], &[0x5a; 8192], &[0; 100]] {
        copy_log(dir.path(), work.path());
        fs::write(work.path().join("mark"), noise).expect("write");
        assert_eq!(audit(work.path()).expect("audit").problems.len(), 1);
        let (report, found) = reopen(work.path(), &small()).expect("open");
        assert!(!report.mark_found && found == acked);
        assert!(reopen(work.path(), &small()).expect("open").0.mark_found);
    }
}

/// Damage of every coarse kind: refused by default, listed by the audit, and quarantined when asked; the rest of the
/// log stays readable, the lost positions are never used again, and the next opening is content.
#[test]
fn coarse_damage_is_refused_listed_and_quarantined() {
    type Harm = (&'static str, fn(&Path));
    fn nth(dir: &Path, nth: usize) -> PathBuf {
        segments(dir).swap_remove(nth)
    }
    fn newest(dir: &Path) -> PathBuf {
        segments(dir).pop().expect("segment")
    }
    fn zero(path: &Path, from: usize, to: usize) {
        let mut bytes = fs::read(path).expect("read");
        bytes[from..to].fill(0);
        fs::write(path, bytes).expect("write");
    }
    fn shorten(path: &Path, to: u64) {
        File::options().write(true).open(path).and_then(|file| file.set_len(to)).expect("shorten");
    }
    use std::fs::File;
    let harms: Vec<Harm> = vec![
        ("zeroed page in a closed segment", |dir| zero(&nth(dir, 0), 512, 1024)),
        ("zeroed page in the newest segment", |dir| zero(&newest(dir), 200, 400)),
        ("zeroed end of the newest segment", |dir| zero(&newest(dir), 600, 1100)),
        ("zeroed end of a closed segment", |dir| zero(&nth(dir, 0), 2000, 3200)),
        ("closed segment shortened", |dir| shorten(&nth(dir, 1), 1000)),
        ("closed segment emptied", |dir| shorten(&nth(dir, 1), 0)),
        ("newest segment shortened", |dir| shorten(&newest(dir), 300)),
        ("newest segment emptied", |dir| shorten(&newest(dir), 0)),
        ("first segment deleted", |dir| fs::remove_file(nth(dir, 0)).expect("remove")),
        ("middle segment deleted", |dir| fs::remove_file(nth(dir, 1)).expect("remove")),
        ("newest segment deleted", |dir| fs::remove_file(newest(dir)).expect("remove")),
        ("all segments deleted", |dir| {
            segments(dir).iter().for_each(|path| fs::remove_file(path).expect("remove"));
        }),
        ("two segments swapped", |dir| {
            let aside = dir.join("aside");
            fs::rename(nth(dir, 0), &aside).expect("rename");
            let (first, second) = (dir.join("log").join(segment::name_of(0)), nth(dir, 0));
            fs::rename(&second, &first).expect("rename");
            fs::rename(aside, second).expect("rename");
        }),
        ("newest replaced by an older one", |dir| {
            fs::copy(nth(dir, 0), newest(dir)).expect("copy");
        }),
        ("header of the newest damaged", |dir| zero(&newest(dir), 0, 100)),
        ("header of a closed one damaged", |dir| zero(&nth(dir, 1), 30, 40)),
    ];
    let (dir, work) = (temp(), temp());
    let (storage, _) = Storage::open(dir.path(), &small()).expect("open");
    let mut acked = Acked::new();
    fill(&storage, &[30, 30, 30, 3, 2, 9, 1, 2, 2], &mut acked);
    let end = storage.end();
    storage.close().expect("close");
    assert_eq!(segments(dir.path()).len(), 3, "the stories below count on three segments");
    for (title, harm) in harms {
        copy_log(dir.path(), work.path());
        harm(work.path());
        let harmed: Vec<Vec<u8>> =
            segments(work.path()).iter().map(|path| fs::read(path).expect("read")).collect();
        let options = Options { scan: Scan::All, ..small() };
        let refused = reopen(work.path(), &options);
        assert!(matches!(refused, Err(StorageError::DamagedMiddle { .. })), "{title}: {refused:?}");
        let after: Vec<Vec<u8>> =
            segments(work.path()).iter().map(|path| fs::read(path).expect("read")).collect();
        assert!(harmed == after, "{title}: a refusal changes nothing");
        assert!(!audit(work.path()).expect("audit").problems.is_empty(), "{title}");

        let options = Options { on_damage: OnDamage::Quarantine, scan: Scan::All, ..small() };
        let (storage, report) =
            Storage::open(work.path(), &options).unwrap_or_else(|e| panic!("{title}: {e}"));
        assert!(!report.damage.is_empty(), "{title}");
        let is_lost = |at: &Position| report.lost.iter().any(|range| range.contains(at));
        let mut all = acked.clone();
        all.retain(|at, _| !is_lost(at));
        for at in all.keys() {
            assert_eq!(storage.read(*at).expect(title), acked[at]);
        }
        assert!(storage.end() >= end, "{title}: {} is before {end}", storage.end());
        fill(&storage, &[2, 30, 30], &mut all);
        drop(storage);
        let (_, found) = reopen(work.path(), &small()).unwrap_or_else(|e| panic!("{title}, again: {e}"));
        assert!(found == all, "{title}: {} found, {} expected", found.len(), all.len());
        let audited = audit(work.path()).expect("audit");
        assert!(audited.problems.is_empty(), "{title}: {:?}", audited.problems);
        assert_eq!(audited.entries, all.len() as u64, "{title}");
    }
}

#[test]
fn damage_met_while_running_is_a_typed_error() {
    let dir = temp();
    let (storage, _) = Storage::open(dir.path(), &small()).expect("open");
    let mut acked = Acked::new();
    fill(&storage, &[30, 30], &mut acked);
    let (at, next) = (*acked.keys().nth(3).expect("fourth"), *acked.keys().nth(4).expect("fifth"));
    flip(&segments(dir.path())[0], usize::try_from(at.0).expect("small") + 128 + 30);
    let Err(StorageError::Damaged(damage)) = storage.read(at) else { panic!("not found") };
    assert_eq!(
        (damage.segment.as_str(), damage.offset, damage.from),
        (segment::name_of(0).as_str(), at.0 + 128, at)
    );
    let replayed = storage.replay::<StorageError>(Position(0), &mut |_, _| Ok(()));
    let Err(StorageError::Damaged(damage)) = replayed else { panic!("not found") };
    assert_eq!((damage.from, damage.to), (at, next));
}

#[test]
fn a_foreign_or_encrypted_or_newer_log_is_named() {
    let dir = temp();
    drop(Storage::open(dir.path(), &small()).expect("open"));
    let other = Options { log_id: Some([9; 16]), ..small() };
    assert!(matches!(reopen(dir.path(), &other), Err(StorageError::ForeignLog { .. })));
    let path = segments(dir.path()).remove(0);
    let whole = fs::read(&path).expect("read");
    let with = |at: usize, value: u8| {
        let mut raw = whole.clone();
        raw[at] = value;
        let hash = blake3::hash(&raw[..96]);
        raw[96..128].copy_from_slice(hash.as_bytes());
        fs::write(&path, raw).expect("write");
        reopen(dir.path(), &small())
    };
    assert!(matches!(with(10, 1), Err(StorageError::NeedsKey { cipher: 1, .. })));
    assert!(matches!(with(9, 2), Err(StorageError::NewerFormat { version: 2, .. })));
}

/// Which operations fail, and how.
type Rule = (fn(Act) -> bool, Verdict);

/// Scripted disk: fails the operations of one kind from the n-th on, for a while.
#[derive(Default)]
struct Script {
    rule: Mutex<Option<Rule>>,
    commits: AtomicUsize,
}

impl Script {
    fn set(&self, rule: Option<Rule>) {
        *self.rule.lock().expect("rule") = rule;
    }
}

impl Faults for Script {
    fn judge(&self, act: Act) -> Verdict {
        if act == Act::Sync(Role::Commit) {
            self.commits.fetch_add(1, Ordering::SeqCst);
        }
        match *self.rule.lock().expect("rule") {
            Some((applies, verdict)) if applies(act) => verdict,
            _ => Verdict::Pass,
        }
    }
}

fn scripted() -> (Arc<Script>, Options) {
    let script = Arc::new(Script::default());
    let faults: Arc<dyn Faults> = script.clone();
    (script, Options { faults: Some(faults), ..small() })
}

/// A commit that fails in any way poisons: it and everything later is refused, even after the disk recovers, until the
/// store is opened again; nothing acknowledged is lost.
#[test]
fn a_failed_commit_poisons_until_reopened() {
    let write: fn(Act) -> bool = |act| matches!(act, Act::Write(Role::Commit, _));
    let sync: fn(Act) -> bool = |act| act == Act::Sync(Role::Commit);
    let full = io::ErrorKind::StorageFull;
    let failures = [
        (write, Verdict::Fail(io::ErrorKind::Other)),
        (write, Verdict::Fail(full)),
        (write, Verdict::Short(40, io::ErrorKind::Other)),
        (sync, Verdict::Fail(io::ErrorKind::Other)),
        (|act| matches!(act, Act::Write(Role::Ahead, _)), Verdict::Fail(io::ErrorKind::Other)),
        (|act| act == Act::Sync(Role::Folder), Verdict::Fail(full)),
    ];
    for (nth, rule) in failures.into_iter().enumerate() {
        let dir = temp();
        let (script, options) = scripted();
        let (storage, _) = Storage::open(dir.path(), &options).expect("open");
        let mut acked = Acked::new();
        fill(&storage, &[4, 3], &mut acked);
        script.set(Some(rule));
        let filling = vec![Entry { kind: 1, bytes: vec![7; if nth == 5 { 3700 } else { 3300 }] }];
        let Err(StorageError::Poisoned { reason }) = storage.append_blocking(filling.clone()) else {
            panic!("failure {nth} was not noticed")
        };
        assert!(reason.contains("injected fault"), "{reason}");
        script.set(None);
        assert!(matches!(storage.append_blocking(filling), Err(StorageError::Poisoned { .. })));
        assert!(storage.is_poisoned().is_some());
        for (at, entry) in &acked {
            assert_eq!(storage.read(*at).expect("reading goes on"), *entry);
        }
        assert!(storage.close().is_err());
        let (storage, _) = Storage::open(dir.path(), &options).expect("reopening recovers");
        fill(&storage, &[2], &mut Acked::new());
        assert!(acked.iter().all(|(at, entry)| storage.read(*at).expect("read") == *entry));
    }
}

/// The mark is not in the acknowledgement path: its failure refuses later appends, not the durable one.
#[test]
fn a_failed_mark_poisons_after_the_answer() {
    let dir = temp();
    let (script, options) = scripted();
    let (storage, _) = Storage::open(dir.path(), &options).expect("open");
    script.set(Some((|act| matches!(act, Act::Write(Role::Mark, _)), Verdict::Fail(io::ErrorKind::Other))));
    storage.append_blocking(vec![entry(1)]).expect("durable all the same");
    assert!(matches!(storage.append_blocking(vec![entry(2)]), Err(StorageError::Poisoned { .. })));
}

/// A full disk refuses ordinary appends before anything is written, lets urgent ones use the reserve, and is forgotten
/// when space returns.
#[test]
fn a_full_disk_refuses_and_recovers() {
    let dir = temp();
    let (script, options) = scripted();
    let options = Options { reserve_bytes: 1024, segment_bytes: 8192, ..options };
    let (storage, _) = Storage::open(dir.path(), &options).expect("open");
    let big = || vec![Entry { kind: 1, bytes: vec![7; 900] }];
    let full = Verdict::Fail(io::ErrorKind::StorageFull);
    script.set(Some((|act| matches!(act, Act::Write(Role::Ahead | Role::Segment, _)), full)));
    let mut taken = 0;
    let refusal = loop {
        match storage.append_blocking(big()) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 100, "the disk is full");
    };
    let StorageError::DiskFull { needed, .. } = refusal else { panic!("{refusal}") };
    assert!(needed > 0 && storage.is_poisoned().is_none());
    let urgent = || {
        let (send, receive) = mpsc::channel();
        storage.append_urgent(big(), move |result| send.send(result).expect("send"));
        receive.recv().expect("answer")
    };
    assert!(urgent().is_ok(), "the reserve is there");
    assert!(matches!(urgent(), Err(StorageError::DiskFull { .. })), "and has an end");
    script.set(None);
    for _ in 0..30 {
        storage.append_blocking(big()).expect("space returned");
    }
    storage.close().expect("close");
    assert_eq!(audit(dir.path()).expect("audit").entries, taken + 1 + 30);
}

/// Sixteen callers: every position is its own, everything is readable, and they share fdatasyncs.
#[test]
fn many_callers_share_a_commit() {
    let dir = temp();
    let (script, options) = scripted();
    let options = Options { segment_bytes: 64 << 10, ahead_bytes: 16 << 10, ..options };
    let (storage, _) = Storage::open(dir.path(), &options).expect("open");
    let (callers, each) = (16, 40);
    let acked: Vec<(Position, Entry)> = thread::scope(|scope| {
        let work = |caller: usize| {
            let storage = storage.clone();
            move || {
                let append = |nth| {
                    let entry = entry(caller * each + nth);
                    (storage.append_blocking(vec![entry.clone()]).expect("append")[0], entry)
                };
                (0..each).map(append).collect::<Vec<_>>()
            }
        };
        let threads: Vec<_> = (0..callers).map(|caller| scope.spawn(work(caller))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("join")).collect()
    });
    let unique: Acked = acked.iter().cloned().collect();
    assert_eq!(unique.len(), callers * each);
    assert!(unique.iter().all(|(at, entry)| storage.read(*at).expect("read") == *entry));
    let commits = script.commits.load(Ordering::SeqCst);
    assert!(commits < callers * each, "{commits} commits");
    storage.close().expect("close");
    assert_eq!(reopen(dir.path(), &options).expect("open").1, unique);
}

/// A copy taken while the store is open (what a kill -9 leaves) opens with everything acknowledged, again and again.
#[test]
fn a_killed_store_reopens() {
    let (dir, work) = (temp(), temp());
    let (storage, _) = Storage::open(dir.path(), &small()).expect("open");
    let mut acked = Acked::new();
    for round in 0..6 {
        fill(&storage, &[1 + round * 5], &mut acked);
        let batch = acked.iter().map(|(at, entry)| (at.0.to_be_bytes().to_vec(), Some(entry.bytes.clone())));
        storage.index().put_batch(batch.collect(), Some(storage.end())).expect("index");
        if round % 2 == 0 {
            storage.index().checkpoint(storage.end()).expect("checkpoint");
        }
        let image = work.path().join(round.to_string());
        copy(dir.path(), &image);
        for _ in 0..2 {
            let (storage, report) = Storage::open(&image, &small()).expect("open");
            assert_eq!((report.end, report.torn_bytes), (storage.end(), 0));
            assert!(report.index_through <= report.end);
            assert!(acked.iter().all(|(at, entry)| storage.read(*at).expect("read") == *entry));
            assert!(acked.range(..report.index_through).all(|(at, entry)| {
                storage.index().get(&at.0.to_be_bytes()).expect("get").as_ref() == Some(&entry.bytes)
            }));
        }
    }
}
