//! Hubs keep themselves warm in logs of others: whoever takes a log goes on from images of its stores and reads what came after. What
//! such an image is worth is decided by the log alone: whatever becomes of hubs, images and the database, the books are those of
//! the log.

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::chain::{Chain, online, waiting};
use common::{Node, captured, path, sales, till, tillsync, until, void};
use engine::lease::shard_of;
use serde_json::Value;

const STORES: [&str; 4] = ["north", "south", "east", "west"];
const SHARDS: u16 = 4;

/// Tills of four stores, and how many records each has captured.
struct Tills {
    dirs: Vec<PathBuf>,
    nodes: Vec<Node>,
    captured: usize,
}

impl Tills {
    fn join(chain: &Chain) -> Self {
        let dirs: Vec<PathBuf> =
            STORES.iter().map(|store| chain.join(store, &format!("t-{store}"), 0)).collect();
        Self { nodes: dirs.iter().map(|dir| till(dir)).collect(), dirs, captured: 0 }
    }

    fn capture(&mut self, count: usize) {
        for (till, store) in self.nodes.iter().zip(STORES) {
            captured(till, &sales(store, self.captured, self.captured + count));
        }
        self.captured += count;
    }

    fn until_served(&self) {
        until("everything is at a hub", || self.nodes.iter().all(|till| online(till) && waiting(till) == 0));
    }

    fn all(&self) -> u64 {
        (self.captured * STORES.len()) as u64
    }
}

fn numbers(hub: &Value, key: &str) -> Vec<u16> {
    hub[key].as_array().unwrap().iter().map(|number| number.as_u64().unwrap().try_into().unwrap()).collect()
}

/// Waits until every shard has somebody who is warm in it besides the one who has it, and the logs are shared.
fn until_warm(chain: &Chain, asked: usize, hubs: usize) {
    until("the logs are shared and somebody is warm in each", || {
        let list = chain.ask(asked, &["hub", "list"]);
        let list = list.as_array().unwrap();
        let held: Vec<Vec<u16>> = list.iter().map(|hub| numbers(hub, "logs")).collect();
        let few = held.iter().map(Vec::len).min().unwrap_or(0);
        let many = held.iter().map(Vec::len).max().unwrap_or(0);
        let is_warm = |number: u16| list.iter().any(|hub| numbers(hub, "warm").contains(&number));
        list.len() == hubs && many <= few + 1 && (1..=SHARDS).all(is_warm)
    });
}

/// How many logs somebody has.
const HELD: &str = "SELECT count(*) FROM tillsync.log WHERE lease_until > now()";

/// Which hub has a log, by its place in the chain.
fn holder_of(chain: &Chain, asked: usize, number: u16) -> usize {
    let mut found = None;
    until("somebody has the log", || {
        let list = chain.ask(asked, &["hub", "list"]);
        let its = list.as_array().unwrap().iter().find(|hub| numbers(hub, "logs").contains(&number)).cloned();
        let quic = chain.quic.borrow();
        found =
            its.and_then(|hub| quic.iter().find(|(_, at)| hub["address"] == **at).map(|(place, _)| *place));
        found.is_some()
    });
    found.unwrap()
}

/// How many records of a shard's stores were in images when it was taken last, and all there were.
fn taken(chain: &Chain, asked: usize, number: u16) -> (u64, u64) {
    let events = chain.ask(asked, &["audit"]);
    let what = format!("shard {number}, ");
    let is_taking =
        |event: &&Value| event["event"] == "hub-took" && event["detail"].as_str().unwrap().starts_with(&what);
    let last = events.as_array().unwrap().iter().rfind(is_taking);
    let detail = last.unwrap()["detail"].as_str().unwrap();
    let count = |after: &str| -> u64 {
        let (before, _) = detail.split_once(after).unwrap();
        before.rsplit([' ', ',']).next().unwrap().parse().unwrap()
    };
    (count(" of them from"), count(" records"))
}

/// The hash of every store's books, as a hub says.
fn hashes(chain: &Chain, asked: usize) -> BTreeMap<String, String> {
    let stores = chain.ask(asked, &["stores"]);
    let row = |store: &Value| {
        (store["store"].as_str().unwrap().to_owned(), store["view_hash"].as_str().unwrap().to_owned())
    };
    stores.as_array().unwrap().iter().map(row).collect()
}

/// What the logs make of the books, read from their first entries with no hub running.
fn hashes_of_logs(chain: &Chain, hub: usize) -> BTreeMap<String, String> {
    let output = tillsync(&["verify", "--json", "--dir", path(&chain.dirs[hub])], "");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}");
    let told: Value = serde_json::from_str(&said).unwrap();
    let stores = told["stores"].as_object().unwrap_or_else(|| panic!("{told}"));
    stores.iter().map(|(store, it)| (store.clone(), it["view_hash"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn whoever_takes_the_logs_of_a_dead_hub_goes_on_from_images_that_it_made_by_reading_along() {
    let Some(chain) = Chain::new(3) else { return };
    let first = chain.start(0);
    let mut tills = Tills::join(&chain);
    tills.capture(400);
    tills.until_served();
    // The others come, and never had anything.
    let mut hubs: Vec<Option<Node>> = vec![Some(first), Some(chain.start(1)), Some(chain.start(2))];
    until_warm(&chain, 0, 3);
    tills.dirs.iter().for_each(|dir| chain.until_told(dir));
    tills.capture(20);
    tills.until_served();
    let number = shard_of("north", SHARDS);
    let dead = holder_of(&chain, 0, number);
    let lost: Vec<u16> = {
        let list = chain.ask(0, &["hub", "list"]);
        let quic = chain.quic.borrow();
        let row = list.as_array().unwrap().iter().find(|hub| hub["address"] == *quic[&dead]).unwrap();
        numbers(row, "logs").into_iter().filter(|number| *number > 0).collect()
    };
    hubs[dead].take().unwrap().kill();
    let asked = (dead + 1) % 3;
    tills.capture(20);
    tills.until_served();
    until("all of it is seen", || chain.records(asked) == tills.all());
    for number in lost {
        let mut found = (0, 0);
        until("the taking is told", || {
            found = taken(&chain, asked, number);
            holder_of(&chain, asked, number) != dead
        });
        let (from_images, all) = found;
        let stores = STORES.iter().filter(|store| shard_of(store, SHARDS) == number).count() as u64;
        assert!(from_images >= 400 * stores, "shard {number}: {from_images} of {all} records were in images");
    }
    let trial = chain.ask(asked, &["ledger", "trial-balance"]);
    assert_eq!(trial["currencies"]["GBP"]["difference_minor"], 0, "{trial}");
    let books = hashes(&chain, asked);
    hubs.into_iter().flatten().for_each(|hub| drop(hub.stop()));
    assert_eq!(hashes_of_logs(&chain, 0), books);
}

/// Its images are old: there is much that they do not hold, some of it about what they do.
#[test]
fn an_image_that_lags_behind_is_gone_on_from_and_a_head_that_starts_again_has_all_books() {
    let Some(chain) = Chain::new(2) else { return };
    let mut first = chain.start(0);
    let mut tills = Tills::join(&chain);
    tills.capture(60);
    tills.until_served();
    let second = chain.start(1);
    until_warm(&chain, 0, 2);
    second.stop();
    until("the first has all logs again", || {
        let list = chain.ask(0, &["hub", "list"]);
        list.as_array().unwrap().len() == 1 && numbers(&list[0], "logs").len() == 5
    });
    tills.until_served();
    tills.capture(200);
    for (till, store) in tills.nodes.iter().zip(STORES) {
        captured(till, &[void(&format!("{store}-void"), &format!("{store}-7"), 107)]);
    }
    tills.until_served();
    let all = tills.all() + 4;
    until("the first has all of it", || chain.records(0) == all);
    first.kill();
    // It takes them at once when it starts, and has not read along before.
    until("the leases are over", || chain.server.sql(HELD) == "0");
    let second = chain.start(1);
    until("the second has all logs", || chain.server.sql(HELD) == "5");
    until("the second has all of it", || chain.records(1) == all);
    let from_images: u64 = (1..=SHARDS).map(|number| taken(&chain, 1, number).0).sum();
    assert!((1..all).contains(&from_images), "{from_images} of {all} records were in images");
    let books = hashes(&chain, 1);
    let first = chain.start(0);
    until_warm(&chain, 1, 2);
    // Whoever has the company's log reads along in the other's: it is killed, and is back before its leases end.
    let head = holder_of(&chain, 1, 0);
    let mut hubs = [first, second];
    hubs[head].kill();
    hubs[head] = chain.start(head);
    until("it has all of it", || chain.records(head) == all && hashes(&chain, head) == books);
    hubs.into_iter().for_each(|hub| drop(hub.stop()));
    assert_eq!(hashes_of_logs(&chain, 0), books);
}

/// The database goes back to an older state, and on from there otherwise: the books are those of the log that is there, whatever a
/// hub kept of the other. That images of another log are refused is shown by `images.rs` and by the tests of `cluster/copies` and
/// `runtime/reached`; here none is used either way.
#[test]
fn after_a_log_went_back_and_then_on_the_books_are_those_of_the_log_that_is_there() {
    let Some(chain) = Chain::new(3) else { return };
    let first = chain.start(0);
    let mut tills = Tills::join(&chain);
    tills.capture(50);
    tills.until_served();
    let rows = || -> BTreeMap<String, [u64; 2]> {
        let rows = "SELECT string_agg(concat_ws(' ', encode(log_id, 'hex'), next_position, total_bytes), ',') FROM tillsync.log";
        let rows = chain.server.sql(rows);
        let row = |row: &str| {
            let (log, numbers) = row.split_once(' ').unwrap();
            let (end, bytes) = numbers.split_once(' ').unwrap();
            (log.to_owned(), [end.parse().unwrap(), bytes.parse().unwrap()])
        };
        rows.split(',').map(row).collect()
    };
    let before = rows();
    tills.capture(100);
    tills.until_served();
    let second = chain.start(1);
    until_warm(&chain, 0, 2);
    second.stop();
    first.stop();
    let longer = rows();
    for (log, [end, bytes]) in &before {
        let log = format!("log_id = decode('{log}', 'hex')");
        chain.server.sql(&format!("DELETE FROM tillsync.entry WHERE {log} AND position >= {end}"));
        let row = format!("next_position = {end}, total_bytes = {bytes}");
        chain.server.sql(&format!("UPDATE tillsync.log SET {row} WHERE {log}"));
    }
    // A third hub knows nothing of what was there, and goes on: the others' marks would refuse such a database.
    let third = chain.start(2);
    let late = till(&chain.join("north", "t-late", 2));
    let north =
        chain.server.sql("SELECT encode(log_id, 'hex') FROM tillsync.entry WHERE store = 'north' LIMIT 1");
    assert!(before[&north][0] < longer[&north][0]);
    let mut count = 0;
    until("the log is longer than it was", || {
        captured(&late, &sales("late", count, count + 5));
        count += 5;
        until("at a hub", || online(&late) && waiting(&late) == 0);
        rows()[&north][0] > longer[&north][0]
    });
    let books = hashes(&chain, 2);
    third.stop();
    // As if it had only ever read along.
    for number in 0..=SHARDS {
        let _ = std::fs::remove_file(chain.dirs[1].join(format!("logs/{number:03}/database.mark")));
    }
    let second = chain.start(1);
    until("the books are those of the log", || hashes(&chain, 1) == books);
    second.stop();
    assert_eq!(hashes_of_logs(&chain, 2), books);
}
