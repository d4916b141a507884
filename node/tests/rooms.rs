//! What the storage's door promises, whichever room is behind it: segment files or a database, plain or encrypted.
//!
//! The tests of this file wait for each other: a server's programs are started beside them, and a child that has just been
//! forked holds for a moment what this process holds, a folder's lock too.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use node::database::Database;
use node::storage::vault::{Source, Vault, new_key_file};
use node::storage::{
    Entry, InDatabase, IndexState, MAX_ENTRY_BYTES, Options, Position, Recovery, Storage, StorageError,
    audit_with,
};
use postgres::Server;
use tempfile::TempDir;

#[path = "common/postgres.rs"]
mod postgres;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

type Acked = BTreeMap<Position, Entry>;

fn small() -> Options {
    let (segment_bytes, ahead_bytes, reserve_bytes) = (4096, 1024, 0);
    Options { segment_bytes, ahead_bytes, reserve_bytes, ..Options::default() }
}

fn entry(number: usize) -> Entry {
    let kind = u8::try_from(number % 251).expect("small");
    let text = format!("receipt {number} ");
    Entry { kind, bytes: text.repeat(1 + number % 7).into_bytes() }
}

/// Appends groups of so many entries, one after the other; what was acknowledged is added to `acked`.
fn fill(storage: &Storage, groups: &[usize], acked: &mut Acked) {
    for count in groups {
        let entries: Vec<Entry> = (0..*count).map(|nth| entry(acked.len() + nth)).collect();
        let positions = storage.append_blocking(entries.clone()).expect("append");
        acked.extend(positions.into_iter().zip(entries));
    }
}

/// A place for a log, and how it is opened.
struct Room {
    title: &'static str,
    dir: TempDir,
    options: Options,
    /// Lives as long as its log is used.
    #[allow(dead_code)]
    server: Option<Server>,
}

impl Room {
    fn open(&self) -> (Storage, Recovery) {
        Storage::open(self.dir.path(), &self.options).unwrap_or_else(|e| panic!("{}: {e}", self.title))
    }

    /// Entries that `verify` would count, and that it finds nothing wrong.
    fn audited(&self) -> u64 {
        let found =
            audit_with(self.dir.path(), &self.options).unwrap_or_else(|e| panic!("{}: {e}", self.title));
        assert!(found.problems.is_empty(), "{}: {:?}", self.title, found.problems);
        found.entries
    }
}

/// Every room that this machine has, and the turn of the test that uses them.
fn rooms() -> (Vec<Room>, MutexGuard<'static, ()>) {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut all = Vec::new();
    for (title, encrypted) in [("files", false), ("encrypted files", true)] {
        all.push(room(title, encrypted, None));
    }
    for (title, encrypted) in [("a database", false), ("encrypted in a database", true)] {
        all.extend(Server::start().map(|server| room(title, encrypted, Some(server))));
    }
    (all, turn)
}

fn room(title: &'static str, encrypted: bool, server: Option<Server>) -> Room {
    let dir = tempfile::tempdir().expect("temp dir");
    let vault = encrypted.then(|| {
        let keys = tempfile::tempdir().expect("temp dir");
        let file = keys.path().join("key");
        new_key_file(&file).expect("a key");
        Vault::create(dir.path(), &Source::key_file(&file).expect("read")).expect("vault")
    });
    let database = server.as_ref().map(|server| {
        let database = Database::parse(&server.url("postgres")).expect("address");
        InDatabase { database, store_of: |_, _| None, hub: None }
    });
    let options = Options { vault, database, ..small() };
    Room { title, dir, options, server }
}

#[test]
fn what_was_appended_is_read_again() {
    let (rooms, _turn) = rooms();
    for room in rooms {
        let title = room.title;
        let (storage, first) = room.open();
        assert!(first.fresh && first.index == IndexState::Created && first.end == Position(0), "{title}");
        let mut acked = Acked::new();
        fill(&storage, &[1, 3, 0, 40, 2, 9, 30], &mut acked);
        let end = storage.end();
        assert_eq!(acked.len(), 85, "{title}: every position is its own");
        storage.index().put_batch(vec![(b"k".to_vec(), Some(b"v".to_vec()))], Some(end)).expect("index");
        storage.close().expect("close");

        let (storage, second) = room.open();
        assert!(!second.fresh && second.mark_found && second.index == IndexState::Kept, "{title}");
        assert_eq!((second.log_id, second.index_through), (first.log_id, end), "{title}");
        assert_eq!((second.end, second.last), (end, acked.keys().last().copied()), "{title}");
        for (at, entry) in &acked {
            assert_eq!(storage.read(*at).expect("read"), *entry, "{title}");
        }
        let middle = *acked.keys().nth(acked.len() / 2).expect("middle");
        let mut found = Acked::new();
        let replayed = storage.replay::<StorageError>(middle, &mut |at, entry| {
            found.insert(at, entry);
            Ok(())
        });
        assert_eq!(replayed.expect("replay"), end, "{title}");
        assert_eq!(found, acked.split_off(&middle), "{title}");
        assert!(matches!(storage.read(end), Err(StorageError::NotInLog { .. })), "{title}");
        let stopped = storage.replay(Position(0), &mut |at, _| {
            if at.0 > 0 { Err(StorageError::Closed { operation: "test" }) } else { Ok(()) }
        });
        assert!(matches!(stopped, Err(StorageError::Closed { .. })), "{title}: a visitor may say no");
        storage.close().expect("close");
        assert_eq!(room.audited(), 85, "{title}");
    }
}

#[test]
fn entries_of_any_admitted_size_pass() {
    let (rooms, _turn) = rooms();
    for mut room in rooms {
        room.options = Options {
            vault: room.options.vault.clone(),
            database: room.options.database.clone(),
            ..Options::default()
        };
        let (storage, _) = room.open();
        for size in [0, 1, MAX_ENTRY_BYTES] {
            for kind in [0, 1, 255] {
                let entry = Entry { kind, bytes: vec![0; size] };
                let at = storage.append_blocking(vec![entry.clone()]).expect("append")[0];
                assert_eq!(storage.read(at).expect("read"), entry, "{}", room.title);
            }
        }
        let too_big = Entry { kind: 0, bytes: vec![0; MAX_ENTRY_BYTES + 1] };
        assert!(matches!(storage.append_blocking(vec![too_big]), Err(StorageError::TooLarge { .. })));
        let many = vec![Entry { kind: 0, bytes: vec![0; MAX_ENTRY_BYTES] }; 8];
        assert!(matches!(storage.append_blocking(many), Err(StorageError::TooLarge { .. })));
        storage.close().expect("close");
        assert_eq!(room.audited(), 9, "{}", room.title);
    }
}

#[test]
fn a_second_process_is_refused() {
    let (rooms, _turn) = rooms();
    for room in rooms {
        let (storage, _) = room.open();
        let again = || Storage::open(room.dir.path(), &room.options);
        assert!(matches!(again(), Err(StorageError::InUse { .. })), "{}", room.title);
        let clone = storage.clone();
        drop(storage);
        assert!(matches!(again(), Err(StorageError::InUse { .. })), "{}", room.title);
        clone.close().expect("close");
        again().expect("free again");
    }
}

/// Sixteen callers: every position is its own, and everything is there once.
#[test]
fn many_callers_share_the_log() {
    let (rooms, _turn) = rooms();
    for room in rooms {
        let (storage, _) = room.open();
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
        assert_eq!(unique.len(), callers * each, "{}", room.title);
        let mut found = Acked::new();
        storage
            .replay::<StorageError>(Position(0), &mut |at, entry| {
                found.insert(at, entry);
                Ok(())
            })
            .expect("replay");
        assert_eq!(found, unique, "{}", room.title);
        storage.close().expect("close");
        assert_eq!(room.audited(), (callers * each) as u64, "{}", room.title);
    }
}

/// A callback that panics, and one that drops the last handle, leave everything in order.
#[test]
fn callbacks_may_misbehave() {
    let (rooms, _turn) = rooms();
    for room in rooms {
        let (storage, _) = room.open();
        storage.append(vec![entry(1)], |_| panic!("a bug in the caller (this panic belongs to the test)"));
        storage.append_blocking(vec![entry(2)]).expect("the writer lives");
        let (send, receive) = mpsc::channel();
        let last = storage.clone();
        storage.append(vec![entry(3)], move |result| {
            drop(last);
            send.send(result).expect("send");
        });
        drop(storage);
        receive.recv().expect("answer").expect("ok");
        let storage = (0..400).find_map(|_| {
            Storage::open(room.dir.path(), &room.options).ok().or_else(|| {
                thread::sleep(Duration::from_millis(5));
                None
            })
        });
        let (storage, _) = storage.unwrap_or_else(|| panic!("{}: not free", room.title));
        storage.close().expect("close");
        assert_eq!(room.audited(), 3, "{}", room.title);
    }
}
