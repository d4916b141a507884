//! A till's store that is far behind, without a link to anybody, and a clock that stands still.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use engine::entry::Entry as LogEntry;
use engine::ids::{LogId, WriterId};
use engine::policy::Policy;
use engine::replica::{Capture, Identity, Input, Output, Replica};
use engine::sync::{Carried, Dialect, Message};
use engine::transaction::{Draft, Enrolment};
use tokio::time::timeout;

use super::super::alarms::Alarms;
use super::super::audit::AuditLog;
use super::super::clock::Clock;
use super::super::restore::RestoredStore;
use super::super::supervise::{Life, Suspects};
use super::super::workroom::Home;
use super::{BACKLOG_RECORDS, Shown, StoreHandle, StoreTask};
use crate::storage::{Options, Storage};

/// What the other till sold: several portions more than what is judged each time that a store's task wakes.
const SOLD: usize = BACKLOG_RECORDS + 2_000;
/// A store that waits for its clock is given up after this long.
const GIVEN_UP: Duration = Duration::from_secs(20);

const HUB: u8 = 1;
const TILL: u8 = 2;
const OTHER: u8 = 3;

fn writer(node: u8) -> WriterId {
    WriterId(SigningKey::from_bytes(&[node; 32]).verifying_key().to_bytes())
}

fn log(node: u8) -> LogId {
    LogId { terminal: format!("till-{node}").parse().unwrap(), incarnation: 1 }
}

fn replica(node: u8) -> Replica {
    let (store, key) = ("high-street".parse().unwrap(), SigningKey::from_bytes(&[node; 32]));
    let identity = Identity { store, log: log(node), key, nonce: [node; 16], hub: writer(HUB) };
    Replica::new(identity, Policy::default())
}

/// No two are alike, and none states a tax that does not fit: a case over one of them would be told. They follow no line, or a
/// batch of them would be so small that it needs no seat.
fn sale(number: usize) -> Draft {
    let mixed = (number as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let odd = (mixed ^ mixed >> 29).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 47;
    let amount = 100 + odd;
    let text = format!(
        r#"{{"kind":"sale","receipt":"R-{number}","operator":"op-1","currency":"GBP","tenders":[{{"type":"cash",
        "amount_minor":{amount}}}],"lines":[{{"sku":"SKU-{number}-{odd}","quantity":"1","amount_minor":{amount}}}]}}"#
    );
    Draft::from_json(&text).unwrap()
}

fn clock() -> Clock {
    Clock::in_zone("Europe/London").unwrap()
}

/// What the hub brings of a till that sold while nobody was there: a message for each batch.
fn bulk() -> Vec<Vec<u8>> {
    let (mut other, now) = (replica(OTHER), clock().now());
    let captures = (0..SOLD).map(|number| Capture { token: number as u64, draft: sale(number) }).collect();
    other.handle(now, Input::Capture(captures));
    let sealed = other.handle(now, Input::PeerUp(writer(HUB), Dialect::Full));
    let batches = sealed.into_iter().filter_map(|output| match output {
        Output::Persist { entry: LogEntry::Batch(batch), .. } => {
            Some(Carried { bytes: batch.bytes, change: batch.change })
        }
        _ => None,
    });
    let message = |(number, batch)| Message::Batches { number, batches: vec![batch] }.encode();
    (1..).zip(batches).map(message).collect()
}

/// A till's task that was brought all of it at once, by a hub that has gone again: there is nobody left to be told anything.
async fn far_behind(dir: &tempfile::TempDir) -> (StoreTask, StoreHandle) {
    let (storage, _) = Storage::open(dir.path(), &Options::default()).unwrap();
    let mut replica = replica(TILL);
    replica.trust_enrolment(&Enrolment { log: log(OTHER), writer: writer(OTHER) });
    let life = Life {
        store: replica.identity().store.clone(),
        home: Home::in_memory(storage),
        audit: AuditLog::in_memory(),
        clock: clock(),
        alarms: Alarms::default(),
        fresh: None,
        take_back: None,
        full: Arc::new(AtomicBool::new(false)),
        shown: Shown::default(),
    };
    let seats = life.home.seats.clone();
    let (handle, jobs) = StoreHandle::with(life.store.clone(), life.full.clone(), life.shown.clone(), seats);
    let jobs = Arc::new(tokio::sync::Mutex::new(jobs)).lock_owned().await;
    let mut task = StoreTask::new(&life, RestoredStore::of(replica), jobs, Suspects::default());
    task.give(Input::PeerUp(writer(HUB), Dialect::Full));
    for message in bulk() {
        // Each came with the seat of its store, when it was free.
        let seat = match task.seat.take() {
            Some(seat) => Some(seat),
            None => handle.seat(&message).await,
        };
        assert!(seat.is_some());
        task.judge(writer(HUB), message, seat);
    }
    task.give(Input::PeerDown(writer(HUB)));
    // What came is durable: nothing but its clock would wake the task.
    for effect in task.host.listen() {
        task.carry_out(effect, true);
    }
    while task.in_flight > 0 {
        let written = task.written.recv().await.unwrap();
        task.take_written(written);
    }
    assert_eq!(task.host.replica().backlog(), SOLD);
    (task, handle)
}

/// The books of a till follow without an effect; its task returned from the turn all the same, and took nothing in while it
/// waited for its clock: between two portions, or half a minute after the last.
#[tokio::test(start_paused = true)]
async fn a_till_that_has_caught_up_records_the_next_sale_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (task, till) = far_behind(&dir).await;
    // The clock goes on by itself only while no such thread is at work.
    let (_sold, still) = mpsc::channel::<()>();
    let stands_still = tokio::task::spawn_blocking(move || still.recv_timeout(GIVEN_UP));
    tokio::spawn(task.run());
    tokio::select! {
        receipt = till.capture(sale(SOLD)) => assert_eq!(receipt.unwrap().seq, 1),
        _ = stands_still => panic!("the sale waits for a timer"),
    }
}

#[tokio::test]
async fn whoever_catches_up_goes_on_until_the_books_have_everything() {
    let dir = tempfile::tempdir().unwrap();
    let (mut task, till) = far_behind(&dir).await;
    let next = bulk().swap_remove(0);
    assert!(timeout(Duration::ZERO, till.seat(&next)).await.is_err(), "the next bulk waits for the books");
    task.turn().await;
    assert!(timeout(Duration::ZERO, till.seat(&next)).await.is_ok_and(|seat| seat.is_some()));
    assert_eq!(task.host.replica().books().cases().count(), 0, "nothing of them is told");
    assert_eq!(task.host.replica().backlog(), 0);
    assert_eq!(task.host.replica().next_wakeup(), None, "and nothing is put off");
    assert!(!task.catching_up, "what comes next is taken in");
}
