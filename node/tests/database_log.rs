//! Stories about a log in a database: connections cut at the worst moment, a server that restarts, hangs, is replaced by
//! an older copy, or refuses; two hubs on one log; rows that were changed.
//!
//! Between hub and server stands a relay (`Relay`) where a story needs the connection to end exactly before or after the
//! server has heard COMMIT.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use node::database::{Database, Link, schema};
use node::storage::{
    Audit, Entry, InDatabase, Options, Position, Problem, Storage, StorageError, audit_with,
};
use postgres::Server;
use tempfile::TempDir;

#[path = "common/postgres.rs"]
mod postgres;

/// The tests of this file wait for each other: a child that has just been forked for a server's program holds for a moment
/// what this process holds, a folder's lock too.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A server, if there can be one, and the turn of the test that has it.
fn server() -> Option<(Server, MutexGuard<'static, ()>)> {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    Some((Server::start()?, turn))
}

fn temp() -> TempDir {
    tempfile::tempdir().expect("temp dir")
}

/// Opens in a database, small enough for its limits to be met.
fn at(url: &str) -> Options {
    let database = Database::parse(url).expect("address");
    let database =
        Some(InDatabase { database, store_of: |kind, _| Some(format!("store {}", kind % 3)), hub: None });
    let (segment_bytes, ahead_bytes, reserve_bytes) = (1 << 20, 1024, 0);
    Options { segment_bytes, ahead_bytes, reserve_bytes, database, ..Options::default() }
}

/// Waits until something holds; the patience is for slow machines, not a measurement.
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "{what} did not happen");
        thread::sleep(Duration::from_millis(10));
    }
}

fn replayed(storage: &Storage) -> Vec<Entry> {
    let mut found = Vec::new();
    storage
        .replay::<StorageError>(Position(0), &mut |at, entry| {
            assert_eq!(at.0, found.len() as u64, "no gap");
            found.push(entry);
            Ok(())
        })
        .expect("replay");
    found
}

fn audited(dir: &Path, options: &Options) -> Audit {
    audit_with(dir, options).expect("audit")
}

/// Numbered entries, each of its own bytes.
fn numbered(number: u64) -> Entry {
    Entry { kind: u8::try_from(number % 200).expect("small"), bytes: number.to_be_bytes().to_vec() }
}

/// A storm of appends while every connection is cut again and again and the server crashes twice: every append is
/// acknowledged in the end, everything is there once, at the positions that were said.
#[test]
fn a_storm_of_cut_connections_loses_nothing_and_doubles_nothing() {
    let Some((server, _turn)) = server() else { return };
    let (dir, options) = (temp(), at(&server.url("postgres")));
    let (storage, _) = Storage::open(dir.path(), &options).expect("open");
    let (callers, calm) = (8, AtomicBool::new(false));
    let (acked, cut) = thread::scope(|scope| {
        let work = |caller: u64| {
            let (storage, calm) = (storage.clone(), &calm);
            move || {
                let mut acked = Vec::new();
                while !calm.load(Ordering::SeqCst) {
                    let entry = numbered(caller << 32 | acked.len() as u64);
                    let at = storage.append_blocking(vec![entry.clone()]).expect("append");
                    acked.push((at[0], entry));
                }
                acked
            }
        };
        let threads: Vec<_> = (0..callers).map(|caller| scope.spawn(work(caller))).collect();
        let (mut cut, mut crashes) = (0, 0);
        until("forty connections are cut", || {
            thread::sleep(Duration::from_millis(30));
            cut += server.cut();
            if cut / 15 > crashes {
                crashes += 1;
                server.stop("immediate");
                server.resume();
            }
            cut >= 40
        });
        calm.store(true, Ordering::SeqCst);
        let acked: Vec<_> = threads.into_iter().flat_map(|it| it.join().expect("join")).collect();
        (acked, cut)
    });
    assert!(cut >= 40 && acked.len() > 40, "{cut} connections cut, {} appends", acked.len());
    assert_eq!(storage.is_away(), None);
    let there = replayed(&storage);
    assert_eq!(there.len(), acked.len(), "nothing twice");
    for (at, entry) in &acked {
        assert_eq!(&there[usize::try_from(at.0).expect("small")], entry);
    }
    storage.close().expect("close");
    assert!(audited(dir.path(), &options).problems.is_empty());
}

/// A relay that ends the connection when the hub says COMMIT: before the server hears it, or before the hub hears that
/// it was done.
struct Relay {
    port: u16,
    deed: Arc<Mutex<Deed>>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Deed {
    Pass,
    /// The next COMMIT does not arrive.
    LoseCommit,
    /// The next COMMIT arrives, and its answer does not.
    LoseAnswer,
    /// Nothing passes in either direction, and nobody is told.
    Hang,
    /// So many bytes more in one direction, then the connection ends, in the middle of whatever it is.
    CutAfter {
        from_hub: bool,
        bytes: usize,
    },
}

impl Relay {
    fn start(to: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
        let port = listener.local_addr().expect("address").port();
        let deed = Arc::new(Mutex::new(Deed::Pass));
        let shared = Arc::clone(&deed);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let silent = Arc::new(AtomicBool::new(false));
                let ends = (client.try_clone().expect("clone"), server.try_clone().expect("clone"));
                pass(client, server, Arc::clone(&shared), Arc::clone(&silent), true);
                pass(ends.1, ends.0, Arc::clone(&shared), silent, false);
            }
        });
        Relay { port, deed }
    }

    fn url(&self, server: &Server) -> String {
        server.url("postgres").replace(&format!(":{}/", server.port), &format!(":{}/", self.port))
    }

    fn set(&self, deed: Deed) {
        *self.deed.lock().expect("deed") = deed;
    }

    fn get(&self) -> Deed {
        *self.deed.lock().expect("deed")
    }
}

fn pass(
    mut from: TcpStream,
    mut to: TcpStream,
    deed: Arc<Mutex<Deed>>,
    silent: Arc<AtomicBool>,
    from_hub: bool,
) {
    thread::spawn(move || {
        let mut buffer = [0; 64 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            while *deed.lock().expect("deed") == Deed::Hang {
                thread::sleep(Duration::from_millis(10));
            }
            let commits = from_hub && buffer[..count].windows(7).any(|it| it == b"COMMIT\0");
            if commits {
                let mut deed = deed.lock().expect("deed");
                match std::mem::replace(&mut *deed, Deed::Pass) {
                    Deed::LoseCommit => break,
                    Deed::LoseAnswer => silent.store(true, Ordering::SeqCst),
                    other => *deed = other,
                }
            }
            if !from_hub && silent.load(Ordering::SeqCst) {
                break;
            }
            if let Some(last) = last_bytes(&deed, from_hub, count) {
                let _ = to.write_all(&buffer[..last]);
                break;
            }
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
    });
}

/// How much of what came passes before the connection ends, if it is to end in it.
fn last_bytes(deed: &Mutex<Deed>, from_hub: bool, count: usize) -> Option<usize> {
    let mut deed = deed.lock().expect("deed");
    match *deed {
        Deed::CutAfter { from_hub: meant, bytes } if meant == from_hub => {
            if bytes <= count {
                *deed = Deed::Pass;
                return Some(bytes);
            }
            *deed = Deed::CutAfter { from_hub, bytes: bytes - count };
            None
        }
        _ => None,
    }
}

/// The connection ends after any number of bytes in either direction: in the middle of a statement, of an answer, of a
/// greeting. Every append is acknowledged in the end, at its place, and is there once.
#[test]
fn a_connection_may_end_at_any_byte() {
    let Some((server, _turn)) = server() else { return };
    let relay = Relay::start(server.port);
    let (dir, options) = (temp(), at(&relay.url(&server)));
    let (storage, _) = Storage::open(dir.path(), &options).expect("open");
    let mut number = 0;
    let mut ended = 0;
    for from_hub in [true, false] {
        for bytes in (0..700).step_by(11) {
            relay.set(Deed::CutAfter { from_hub, bytes });
            while relay.get() != Deed::Pass {
                let at = storage.append_blocking(vec![numbered(number)]).expect("append");
                assert_eq!(at, [Position(number)], "{bytes} bytes, from the hub: {from_hub}");
                number += 1;
            }
            ended += 1;
        }
    }
    assert_eq!(ended, 2 * 64);
    assert_eq!(replayed(&storage), (0..number).map(numbered).collect::<Vec<_>>());
    assert_eq!(server.sql("SELECT count(*) FROM tillsync.entry"), number.to_string());
    storage.close().expect("close");
}

/// The connection ends at COMMIT, in the one half of the cases before the server heard it, in the other after it had
/// committed: either way the append is there once when it is acknowledged.
#[test]
fn an_unknown_outcome_is_looked_up_before_it_is_acknowledged() {
    let Some((server, _turn)) = server() else { return };
    let relay = Relay::start(server.port);
    let (dir, options) = (temp(), at(&relay.url(&server)));
    let (storage, _) = Storage::open(dir.path(), &options).expect("open");
    for number in 0..40 {
        let deed = if number % 2 == 0 { Deed::LoseCommit } else { Deed::LoseAnswer };
        relay.set(deed);
        let at =
            storage.append_blocking(vec![numbered(2 * number), numbered(2 * number + 1)]).expect("append");
        assert_eq!(at, [Position(2 * number), Position(2 * number + 1)]);
        assert_eq!(relay.get(), Deed::Pass, "{deed:?} was done");
    }
    let wanted: Vec<Entry> = (0..80).map(numbered).collect();
    assert_eq!(replayed(&storage), wanted);
    assert_eq!(server.sql("SELECT count(*) FROM tillsync.entry"), "80");
    storage.close().expect("close");
}

/// A server that is gone, and one that hangs: appends wait unanswered, the door says so, and they are answered when the
/// server is back; whoever stops meanwhile is told that nothing was acknowledged.
#[test]
fn a_database_that_is_away_is_waited_for() {
    let Some((server, _turn)) = server() else { return };
    let relay = Relay::start(server.port);
    let (dir, options) = (temp(), at(&relay.url(&server)));
    let (storage, _) = Storage::open(dir.path(), &options).expect("open");
    storage.append_blocking(vec![numbered(0)]).expect("append");
    for hangs in [false, true] {
        if hangs {
            relay.set(Deed::Hang);
        } else {
            server.stop("fast");
        }
        let (send, answer) = mpsc::channel();
        let entry = numbered(storage.end().0);
        storage.append_urgent(vec![entry], move |result| send.send(result).expect("send"));
        until("the door says so", || storage.is_full() && storage.is_away().is_some());
        assert!(answer.try_recv().is_err(), "nothing is acknowledged");
        assert!(matches!(storage.read(Position(0)), Err(StorageError::DatabaseAway { .. })), "nobody waits");
        assert!(storage.is_poisoned().is_none());
        if hangs {
            relay.set(Deed::Pass);
        } else {
            server.resume();
        }
        answer.recv_timeout(Duration::from_secs(60)).expect("answered").expect("appended");
        until("the door forgets it", || !storage.is_full() && storage.is_away().is_none());
        assert_eq!(storage.read(Position(0)).expect("read"), numbered(0));
    }
    assert_eq!(replayed(&storage).len(), 3);

    // An idle writer notices too.
    server.stop("fast");
    until("noticed without an append", || storage.is_away().is_some());
    let (send, answer) = mpsc::channel();
    storage.append_urgent(vec![numbered(9)], move |result| send.send(result).expect("send"));
    assert!(storage.close().is_err());
    let refused = answer.recv().expect("answered").expect_err("not acknowledged").to_string();
    assert!(refused.contains("the database is away"), "{refused}");
    server.resume();
    let (storage, report) = Storage::open(dir.path(), &options).expect("open again");
    assert_eq!(report.end, Position(3));
    drop(storage);
}

/// A copy of a hub's directory: it has what ties it to the log.
fn twin_of(dir: &Path) -> TempDir {
    let twin = temp();
    for name in ["database.json", "database.mark", "database.writer"] {
        fs::copy(dir.join(name), twin.path().join(name)).expect("copy");
    }
    twin
}

/// While a hub lives, a second one on its log is refused and told who has it, though it has a copy of its directory. A hub that
/// has ended properly, or was killed and starts again in its directory, is not waited for.
#[test]
fn a_second_hub_is_refused_while_the_first_lives() {
    let Some((server, _turn)) = server() else { return };
    let (dir, options) = (temp(), at(&server.url("postgres")));
    let (first, _) = Storage::open(dir.path(), &options).expect("open");
    first.append_blocking(vec![numbered(0)]).expect("append");
    let twin = twin_of(dir.path());
    let refused = Storage::open(twin.path(), &options).map(drop).expect_err("held");
    let StorageError::LeaseHeld { holder, .. } = &refused else { panic!("{refused}") };
    assert!(holder.contains(&std::process::id().to_string()), "{refused}");
    first.append_blocking(vec![numbered(1)]).expect("undisturbed");
    first.close().expect("close");
    let (second, report) = Storage::open(twin.path(), &options).expect("given back");
    assert_eq!(report.end, Position(2));
    second.append_blocking(vec![numbered(2)]).expect("append");
    // A power cut: nothing was given back. The lease of a process of the same directory is nobody's.
    server.sql("UPDATE tillsync.log SET lease_until = now() + interval '1 hour'");
    let behind = second.append_blocking(vec![numbered(3)]).map(drop);
    assert!(behind.is_ok(), "{behind:?}");
    second.close().expect("close");
    server.sql("UPDATE tillsync.log SET lease_until = now() + interval '1 hour'");
    let (again, report) = Storage::open(twin.path(), &options).expect("its own directory");
    assert_eq!(report.end, Position(4));
    assert_eq!(replayed(&again), (0..4).map(numbered).collect::<Vec<_>>());
    drop(again);
}

/// A hub is paused in the middle of an append until its lease has ended and another one has the log. It wakes up late: what it
/// had in hand changes nothing, it says why, and it never appends again.
#[test]
fn a_paused_hub_that_wakes_up_late_appends_nothing() {
    let Some((server, _turn)) = server() else { return };
    let relay = Relay::start(server.port);
    let dir = temp();
    let (first, _) = Storage::open(dir.path(), &at(&relay.url(&server))).expect("open");
    first.append_blocking(vec![numbered(0)]).expect("append");
    let twin = twin_of(dir.path());
    relay.set(Deed::Hang);
    let (send, answer) = mpsc::channel();
    first.append_urgent(vec![numbered(100)], move |result| send.send(result).expect("send"));
    let (second, report) = Storage::open(twin.path(), &at(&server.url("postgres"))).expect("the lease ended");
    assert_eq!(report.end, Position(1));
    second.append_blocking(vec![numbered(1)]).expect("append");
    relay.set(Deed::Pass);
    let refused = answer.recv_timeout(Duration::from_secs(60)).expect("answered").expect_err("fenced");
    assert!(refused.to_string().contains("another hub was started on it"), "{refused}");
    assert!(first.append_blocking(vec![numbered(101)]).is_err() && first.is_poisoned().is_some());
    second.append_blocking(vec![numbered(2)]).expect("append");
    assert_eq!(replayed(&second), (0..3).map(numbered).collect::<Vec<_>>());
    assert!(first.close().is_err());

    // An idle hub whose log was taken notices without an append.
    server.sql("UPDATE tillsync.log SET fence = fence + 1");
    until("the idle one notices", || second.is_poisoned().is_some());
}

/// Rows that were changed, swapped or removed behind Tillsync's back are found when they are read, and all of them are
/// listed by the audit. A log that is shorter than it was is not gone on with.
#[test]
fn changed_rows_are_found() {
    let Some((server, _turn)) = server() else { return };
    let (dir, options) = (temp(), at(&server.url("postgres")));
    let (storage, _) = Storage::open(dir.path(), &options).expect("open");
    storage.append_blocking((0..100).map(numbered).collect()).expect("append");
    server.sql(
        "UPDATE tillsync.entry SET bytes = '\\x00' WHERE position = 7;
        UPDATE tillsync.entry SET kind = kind + 1 WHERE position = 8;
        UPDATE tillsync.entry SET hash = (SELECT hash FROM tillsync.entry WHERE position = 1) WHERE position = 20;
        DELETE FROM tillsync.entry WHERE position BETWEEN 50 AND 59 OR position = 99",
    );
    for bad in [7, 8, 20, 50, 59, 99] {
        let Err(StorageError::Damaged(damage)) = storage.read(Position(bad)) else { panic!("{bad} passed") };
        assert_eq!(damage.from, Position(bad));
    }
    assert_eq!(storage.read(Position(60)).expect("read"), numbered(60));
    let replayed = storage.replay::<StorageError>(Position(9), &mut |_, _| Ok(()));
    assert!(matches!(replayed, Err(StorageError::Damaged(damage)) if damage.from == Position(20)));
    storage.close().expect("close");
    let found = audited(dir.path(), &options);
    let places: Vec<(u64, u64)> = found
        .problems
        .iter()
        .map(|it| match it {
            Problem::Damaged(damage) => (damage.from.0, damage.to.0),
            other => panic!("{other}"),
        })
        .collect();
    assert_eq!(places, [(7, 8), (8, 9), (20, 21), (50, 60), (99, 100)]);
    assert!(
        found.problems[0].to_string().contains("tillsync.entry, positions 7 to 8"),
        "{}",
        found.problems[0]
    );

    server.sql("DELETE FROM tillsync.entry WHERE position >= 90; UPDATE tillsync.log SET next_position = 90");
    let refused = Storage::open(dir.path(), &options).map(drop).expect_err("an older copy");
    assert!(matches!(refused, StorageError::DatabaseBehind { end: 90, marked: 100, .. }), "{refused}");
    assert!(!audited(dir.path(), &options).problems.is_empty());
    server.sql("DELETE FROM tillsync.log");
    let refused = Storage::open(dir.path(), &options).map(drop).expect_err("no log");
    assert!(matches!(refused, StorageError::LogNotInDatabase { .. }), "{refused}");
}

/// What a person gets wrong is named with its reason and the way out, and a refused beginning leaves nothing behind.
#[test]
fn what_is_wrong_is_said_with_the_way_out() {
    let Some((server, _turn)) = server() else { return };
    server.sql("CREATE ROLE clerk LOGIN PASSWORD 'clerk'; REVOKE CREATE ON DATABASE postgres FROM PUBLIC");
    let wrong = [
        (
            "wrong password",
            server.url_of("postgres", "wrong", "postgres"),
            "28P01",
            "check user and password",
        ),
        ("no database", server.url("shops"), "3D000", "createdb"),
        ("no rights", server.url_of("clerk", "clerk", "postgres"), "42501", "tillsync db migrate"),
        ("no server", "postgres://hub:x@127.0.0.1:1/shops".to_owned(), "refused", "whether the server runs"),
    ];
    let dir = temp();
    for (title, url, reason, next) in wrong {
        let refused = Storage::open(dir.path(), &at(&url)).map(drop).expect_err(title).to_string();
        assert!(refused.contains(reason) && refused.contains(next), "{title}: {refused}");
        assert!(!refused.contains("wrong@") && !refused.contains("till roll"), "{title}: {refused}");
        assert!(!dir.path().join("database.json").exists(), "{title}");
    }

    let options = at(&server.url("postgres"));
    drop(Storage::open(dir.path(), &options).expect("open"));
    let alone = Storage::open(dir.path(), &Options::default()).map(drop).expect_err("not told").to_string();
    assert!(alone.contains("TILLSYNC_DATABASE") && !alone.contains("till roll"), "{alone}");
    let files = temp();
    drop(Storage::open(files.path(), &Options::default()).expect("open"));
    let kept = Storage::open(files.path(), &options).map(drop).expect_err("in files");
    assert!(matches!(kept, StorageError::KeptInFiles { .. }), "{kept}");

    // Once the owner has migrated, rights to rows are enough.
    server.sql(
        "GRANT USAGE ON SCHEMA tillsync TO clerk;
        GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA tillsync TO clerk",
    );
    let (storage, _) =
        Storage::open(temp().path(), &at(&server.url_of("clerk", "clerk", "postgres"))).expect("a clerk");
    storage.append_blocking(vec![numbered(1)]).expect("append");
    // Rights that are taken away are waited for: somebody may give them back.
    server.sql("REVOKE INSERT ON tillsync.entry FROM clerk");
    let (send, answer) = mpsc::channel();
    storage.append(vec![numbered(2)], move |result| send.send(result).expect("send"));
    until("away", || storage.is_away().is_some_and(|reason| reason.contains("42501")));
    server.sql("GRANT INSERT ON tillsync.entry TO clerk");
    answer.recv_timeout(Duration::from_secs(60)).expect("answered").expect("appended");
    drop(storage);

    server.sql("UPDATE tillsync.schema_version SET version = 99");
    let newer = Storage::open(dir.path(), &options).map(drop).expect_err("newer").to_string();
    assert!(newer.contains("version 99") && newer.contains(&format!("knows {}", schema::VERSION)), "{newer}");
    assert!(newer.contains("update tillsync"), "{newer}");
}

/// Transactions that meet others are refused by the server at a statement or not before COMMIT; they are tried again at once, as
/// a whole, and nobody hears of it. A full disk at the server is waited for.
#[test]
fn what_the_server_refuses_for_the_moment_is_tried_again() {
    let Some((server, _turn)) = server() else { return };
    let (dir, options) = (temp(), at(&server.url("postgres")));
    let (storage, _) = Storage::open(dir.path(), &options).expect("open");
    storage.append_blocking(vec![numbered(0)]).expect("append");
    server.sql("CREATE SEQUENCE meetings");
    let mut number = 1;
    for (code, when, timing) in [
        ("40001", "BEFORE", ""),
        ("40P01", "AFTER", ""),
        ("40001", "AFTER", "DEFERRABLE INITIALLY DEFERRED"),
        ("53100", "AFTER", ""),
    ] {
        // Two of three are refused; numbers of a sequence are not given back.
        server.sql(&format!(
            "CREATE FUNCTION meet() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                IF nextval('meetings') % 3 <> 0 THEN RAISE EXCEPTION 'not now' USING ERRCODE = '{code}'; END IF;
                RETURN NEW; END $$;
            CREATE {} TRIGGER meet {when} INSERT ON tillsync.entry {timing} FOR EACH ROW EXECUTE FUNCTION meet()",
            if timing.is_empty() { "" } else { "CONSTRAINT" }
        ));
        for _ in 0..8 {
            let at = storage.append_blocking(vec![numbered(number)]).expect("append");
            assert_eq!(at, [Position(number)], "{code} {when} {timing}");
            number += 1;
        }
        server.sql("DROP TRIGGER meet ON tillsync.entry; DROP FUNCTION meet()");
    }
    let met: u64 = server.sql("SELECT last_value FROM meetings").parse().expect("a number");
    assert!(met >= 3 * 31, "{met} inserts were tried for 32 appends");
    assert_eq!(replayed(&storage), (0..number).map(numbered).collect::<Vec<_>>());
    storage.close().expect("close");
}

/// A server that would lose what it has acknowledged is not used.
#[test]
fn a_server_without_fsync_is_refused() {
    let Some((server, _turn)) = server() else { return };
    let dir = temp();
    server.sql("ALTER SYSTEM SET fsync = off");
    server.sql("SELECT pg_reload_conf()");
    until("fsync is off", || server.sql("SHOW fsync") == "off");
    let refused = Storage::open(dir.path(), &at(&server.url("postgres"))).map(drop).expect_err("unsafe");
    assert!(refused.to_string().contains("fsync is off"), "{refused}");
    // What a role or a database has set is overruled.
    server.sql("ALTER SYSTEM RESET fsync");
    server.sql("SELECT pg_reload_conf(); ALTER ROLE postgres SET synchronous_commit = off");
    until("fsync is on", || server.sql("SHOW fsync") == "on");
    drop(Storage::open(dir.path(), &at(&server.url("postgres"))).expect("open"));
}

/// An authority of its own, and a certificate under it for a host.
fn certificate(host: &str) -> (String, String, String) {
    let mut authority = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().expect("key");
    let root = authority.self_signed(&authority_key).expect("authority").pem();
    let issuer = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate().expect("key");
    let leaf = rcgen::CertificateParams::new(vec![host.to_owned()]).expect("parameters");
    (root, leaf.signed_by(&key, &issuer).expect("certificate").pem(), key.serialize_pem())
}

/// Over TLS the server proves that it is the host named, under the authority named; any other is refused before the password
/// is said, and there is no falling back to plain.
#[test]
fn a_server_proves_who_it_is() {
    let Some((server, _turn)) = server() else { return };
    let (root, leaf, key) = certificate("localhost");
    let files = temp();
    let [right, wrong] = ["right.pem", "wrong.pem"].map(|name| files.path().join(name));
    fs::write(&right, root).expect("write");
    fs::write(&wrong, certificate("localhost").0).expect("write");
    let named = |host: &str, root: &Path| {
        let url = server.url("postgres").replace("127.0.0.1", host);
        at(&format!("{url}?sslmode=verify-full&sslrootcert={}", root.display()))
    };
    let refused = |options: &Options| {
        Storage::open(temp().path(), options).map(drop).expect_err("not believed").to_string()
    };
    let plain = refused(&named("localhost", &right));
    assert!(plain.contains("TLS"), "a server without TLS is not spoken to: {plain}");
    server.encrypt(&leaf, &key);
    let dir = temp();
    let (storage, _) = Storage::open(dir.path(), &named("localhost", &right)).expect("open");
    storage.append_blocking(vec![numbered(0)]).expect("append");
    assert_eq!(replayed(&storage), [numbered(0)]);
    let encrypted = "SELECT DISTINCT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE application_name LIKE 'tillsync%'";
    assert_eq!(server.sql(encrypted), "t");
    storage.close().expect("close");
    let stranger = refused(&named("localhost", &wrong));
    assert!(stranger.contains("UnknownIssuer") || stranger.contains("certificate"), "{stranger}");
    let other_host = refused(&named("127.0.0.1", &right));
    assert!(other_host.contains("certificate"), "{other_host}");
    assert!(refused(&named("localhost", Path::new("/nowhere.pem"))).contains("/nowhere.pem"));
}

/// Hubs that start together migrate one after the other, and a schema of before is brought up.
#[test]
fn hubs_that_start_together_migrate_once() {
    let Some((server, _turn)) = server() else { return };
    let url = server.url("postgres");
    let database = Database::parse(&url).expect("address");
    let migrated = |database: Database| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let link = Link::connect(&database, "test").await.expect("connect");
            schema::migrate(&link).await.expect("migrate")
        })
    };
    let all: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(|| migrated(database.clone()))).collect();
        threads.into_iter().map(|it| it.join().expect("join")).collect()
    });
    assert!(all.iter().all(|it| it.to == schema::VERSION), "{all:?}");
    // Cut off before its version was noted, a step is repeated.
    server.sql("UPDATE tillsync.schema_version SET version = 0");
    assert_eq!(migrated(database).from, 0);
    let version = || server.sql("SELECT version FROM tillsync.schema_version");
    assert_eq!(version(), schema::VERSION.to_string());
    // A hub brings the schema of an earlier version up, with what lies in it.
    let (dir, options) = (temp(), at(&url));
    let (storage, _) = Storage::open(dir.path(), &options).expect("open");
    storage.append_blocking(vec![numbered(0)]).expect("append");
    storage.close().expect("close");
    server.sql("DROP SCHEMA ledger CASCADE; DROP TABLE tillsync.receipt; UPDATE tillsync.schema_version SET version = 1");
    let (storage, _) = Storage::open(dir.path(), &options).expect("an older schema");
    assert_eq!(replayed(&storage), [numbered(0)]);
    assert_eq!(
        (version(), server.sql("SELECT count(*) FROM ledger.receipts")),
        (schema::VERSION.to_string(), "0".into())
    );
    storage.close().expect("close");
}

/// A thousand times more than a page: read back in pages, in order, while the connection is cut.
#[test]
fn a_long_log_is_read_in_pages() {
    let Some((server, _turn)) = server() else { return };
    let (dir, options) = (temp(), Options { segment_bytes: 64 << 20, ..at(&server.url("postgres")) });
    let (storage, _) = Storage::open(dir.path(), &options).expect("open");
    let total = 60_000;
    for from in (0..total).step_by(5_000) {
        storage.append_blocking((from..from + 5_000).map(numbered).collect()).expect("append");
    }
    let mut seen = 0;
    storage
        .replay::<StorageError>(Position(0), &mut |at, entry| {
            assert_eq!((at.0, entry), (seen, numbered(seen)));
            seen += 1;
            if seen % 20_000 == 7 {
                server.cut();
            }
            Ok(())
        })
        .expect("replay");
    assert_eq!(seen, total);
    let stores = server.sql("SELECT count(DISTINCT store) FROM tillsync.entry");
    assert_eq!(stores, "3", "a store's entries can be found");
    storage.close().expect("close");
}
