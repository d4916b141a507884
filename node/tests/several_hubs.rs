//! Several hubs of one company on a real PostgreSQL: any of them takes any till's connection, each store is with one of them,
//! people ask whichever they like, and when one dies or goes the others have its stores within seconds.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use common::chain::{Chain, online, waiting};
use common::relay::{Deed, Relay};
use common::{Node, captured, json, path, sale, sales, till, tillsync, until};
use serde_json::Value;

#[test]
fn stores_spread_over_two_hubs_and_either_answers_for_all() {
    let Some(chain) = Chain::new(2) else { return };
    let hubs = [chain.start(0), chain.start(1)];
    until("each hub has some of the logs", || {
        let list = chain.ask(0, &["hub", "list"]);
        list.as_array().unwrap().len() == 2
    });
    // Enrolled through one hub or the other, whichever serves the company.
    let stores = ["north", "south", "east", "west", "docks", "mill"];
    let dirs: Vec<PathBuf> =
        stores.iter().enumerate().map(|(n, store)| chain.join(store, &format!("t-{store}"), n % 2)).collect();
    let tills: Vec<Node> = dirs.iter().map(|dir| till(dir)).collect();
    for (till, store) in tills.iter().zip(stores) {
        captured(till, &sales(store, 0, 20));
    }
    until("everything is at a hub", || tills.iter().all(|till| online(till) && waiting(till) == 0));
    until("both have stores", || {
        let list = chain.ask(1, &["hub", "list"]);
        let list = list.as_array().unwrap();
        list.len() == 2 && list.iter().all(|hub| !hub["stores"].as_array().unwrap().is_empty())
    });
    // Tills that come later, in stores of either hub; and one that goes.
    let more: Vec<Node> = stores
        .iter()
        .enumerate()
        .map(|(n, store)| till(&chain.join(store, &format!("u-{store}"), n % 2)))
        .collect();
    until("the later ones are served", || more.iter().all(online));
    for store in stores {
        chain.ask(1, &["hub", "revoke", "--terminal", &format!("u-{store}")]);
    }
    until("the revoked ones are out", || more.iter().all(|till| !online(till)));
    drop(more);
    until("all books are seen", || chain.records(0) == 120 && chain.records(1) == 120);
    for asked in 0..2 {
        let trial = chain.ask(asked, &["ledger", "trial-balance"]);
        assert_eq!(trial["currencies"]["GBP"]["difference_minor"], 0, "{trial}");
    }
    // Whoever looks sees every till, with what it said of itself, wherever it is connected.
    until("every till is seen", || {
        let tills = chain.ask(0, &["terminals"]);
        let tills = tills.as_array().unwrap();
        let (gone, there): (Vec<&Value>, Vec<&Value>) =
            tills.iter().partition(|till| till["revoked"] == true);
        let well = |till: &&Value| till["online"] == true && till["software"].is_string();
        there.len() == 6
            && there.iter().all(well)
            && gone.len() == 6
            && gone.iter().all(|till| till["online"] == false)
    });
    let balances = chain.ask(0, &["ledger", "balances"]);
    assert_eq!(balances["balances"], chain.ask(1, &["ledger", "balances"])["balances"]);

    // A refund beyond what was sold is a case, decided through a hub that does not have the store.
    let refund = sale("north-r", 100).replace("\"kind\":\"sale\"", "\"kind\":\"refund\"");
    captured(&tills[0], &[refund.replacen('{', "{\"original_receipt\":\"unknown-1\",", 1)]);
    until("the case is seen by both", || {
        (0..2).all(|asked| {
            let cases = chain.ask(asked, &["cases", "--store", "north"]);
            !cases.as_array().unwrap().is_empty()
        })
    });
    let limit = |hub: usize| {
        let policy = chain.ask(hub, &["policy", "get", "--store", "south"]);
        policy["settings"]["refund_limit_minor"].clone()
    };
    let set = ["policy", "set", "--store", "south", "refund_limit_minor=4200"];
    chain.ask(1, &set);
    assert_eq!(limit(0), limit(1));
    assert_eq!(limit(0).to_string().trim_matches('"'), "4200");
    let export = chain.ask(0, &["export", "--format", "csv"]);
    assert_eq!(export["number"], 1, "{export}");
    assert!(chain.ask(1, &["export", "--list"]).as_array().unwrap().len() == 1);
    drop(hubs);
}

#[test]
fn when_a_hub_dies_or_goes_its_tills_are_served_by_the_others_within_seconds() {
    let Some(chain) = Chain::new(2) else { return };
    let mut first = chain.start(0);
    let second = chain.start(1);
    let stores = ["north", "south", "east", "west"];
    let dirs: Vec<PathBuf> = stores.iter().map(|store| chain.join(store, &format!("t-{store}"), 0)).collect();
    let tills: Vec<Node> = dirs.iter().map(|dir| till(dir)).collect();
    for (till, store) in tills.iter().zip(stores) {
        captured(till, &sales(store, 0, 5));
    }
    until("everything is at a hub", || tills.iter().all(|till| online(till) && waiting(till) == 0));
    until("the logs are shared", || {
        let list = chain.ask(1, &["hub", "list"]);
        let list = list.as_array().unwrap();
        list.len() == 2 && list.iter().all(|hub| !hub["stores"].as_array().unwrap().is_empty())
    });
    dirs.iter().for_each(|dir| chain.until_told(dir));

    // Killed: nobody says goodbye.
    let died = Instant::now();
    first.kill();
    for (till, store) in tills.iter().zip(stores) {
        captured(till, &sales(store, 5, 10));
    }
    until("everything is at the other hub", || tills.iter().all(|till| online(till) && waiting(till) == 0));
    let took = died.elapsed();
    println!("served again {took:?} after the death");
    until("the other hub has all of it", || chain.records(1) == 40);

    // It comes back, and the other one goes in order: no till notices more than a new connection.
    let first = chain.start(0);
    until("the logs are shared again", || {
        let list = chain.ask(0, &["hub", "list"]);
        let list = list.as_array().unwrap();
        list.len() == 2 && list.iter().all(|hub| !hub["stores"].as_array().unwrap().is_empty())
    });
    second.stop();
    for (till, store) in tills.iter().zip(stores) {
        captured(till, &sales(store, 10, 15));
    }
    until("everything is at the first", || tills.iter().all(|till| online(till) && waiting(till) == 0));
    until("the first has all of it", || chain.records(0) == 60);
    let trial = chain.ask(0, &["ledger", "trial-balance"]);
    assert_eq!(trial["currencies"]["GBP"]["difference_minor"], 0, "{trial}");
    first.stop();
}

/// A hub that stood still for longer than its leases wakes up late: what it had is another one's, and it changes nothing.
#[test]
fn a_paused_hub_that_wakes_up_late_changes_nothing_and_goes_on_with_what_it_is_given() {
    let Some(chain) = Chain::new(2) else { return };
    let hubs = [chain.start(0), chain.start(1)];
    until("the logs are shared", || {
        let list = chain.ask(0, &["hub", "list"]);
        list.as_array().unwrap().len() == 2
    });
    let dir = chain.join("north", "t-north", 0);
    let till = till(&dir);
    captured(&till, &sales("north", 0, 5));
    until("at a hub", || online(&till) && waiting(&till) == 0);
    chain.until_told(&dir);
    // It may be changing hands, as long as the logs are being shared out.
    let mut holder = None;
    until("a hub has it", || {
        holder = chain.holder(0, "north");
        holder.is_some()
    });
    let holder = holder.unwrap();
    let paused = usize::from(chain.quic.borrow()[&1] == holder);
    let other = 1 - paused;
    signal(&hubs[paused], "-STOP");
    captured(&till, &sales("north", 5, 10));
    until("at the other", || online(&till) && waiting(&till) == 0);
    until("the other has all of it", || chain.records(other) == 10);
    until("it is told to be there", || chain.holder(other, "north").is_some_and(|now| now != holder));
    signal(&hubs[paused], "-CONT");
    captured(&till, &sales("north", 10, 15));
    until("at a hub", || online(&till) && waiting(&till) == 0);
    until("the woken hub is one of two again", || {
        chain.ask(other, &["hub", "list"]).as_array().unwrap().len() == 2
    });
    until("both see all of it", || chain.records(0) == 15 && chain.records(1) == 15);
    hubs.into_iter().for_each(|hub| drop(hub.stop()));
}

/// Hubs that begin at the same moment see the same logs free, and only one of them has each: the others go on without it.
#[test]
fn hubs_that_begin_together_all_begin() {
    let Some(chain) = Chain::new(3) else { return };
    for hub in 0..3 {
        // Where each listens is known from here on.
        chain.start(hub).stop();
    }
    for _ in 0..3 {
        let mut starts = Vec::new();
        for hub in 0..3 {
            let (dir, listen) = (chain.dirs[hub].clone(), chain.quic.borrow()[&hub].clone());
            starts.push(std::thread::spawn(move || common::hub_at(&dir, &listen, &[]).0));
        }
        let hubs: Vec<Node> = starts.into_iter().map(|start| start.join().unwrap()).collect();
        until("the logs are shared", || {
            let held = chain
                .server
                .sql("SELECT count(*), count(DISTINCT hub) FROM tillsync.log WHERE lease_until > now()");
            held == "5|3"
        });
        hubs.into_iter().for_each(|hub| drop(hub.stop()));
    }
}

/// A database that is away for longer than the leases: each hub comes back to what it had, and none takes what the others are
/// about to come back to, so no log is read anew and no till changes its hub.
#[test]
fn when_the_database_comes_back_every_hub_keeps_what_it_had() {
    let Some(chain) = Chain::new(3) else { return };
    let hubs = [chain.start(0), chain.start(1), chain.start(2)];
    let writers = || {
        chain.server.sql(
            "SELECT encode(hub, 'hex'), encode(writer, 'hex') FROM tillsync.log WHERE lease_until > now() ORDER BY log_id",
        )
    };
    let each = || {
        let counts = chain.server.sql(
            "SELECT string_agg(count::text, ' ' ORDER BY count) FROM
            (SELECT count(*) FROM tillsync.log WHERE lease_until > now() GROUP BY hub) AS hubs",
        );
        counts == "1 2 2"
    };
    until("the logs are shared", each);
    let dir = chain.join("north", "t-north", 0);
    let till = till(&dir);
    captured(&till, &sales("north", 0, 5));
    until("at a hub", || online(&till) && waiting(&till) == 0);
    for mode in ["immediate", "fast"] {
        until("the logs are shared", each);
        let before = writers();
        chain.server.stop(mode);
        std::thread::sleep(Duration::from_secs(7));
        chain.server.resume();
        until("the logs are held again", each);
        std::thread::sleep(Duration::from_secs(6));
        assert_eq!(writers(), before, "{mode}");
    }
    captured(&till, &sales("north", 5, 10));
    until("at a hub", || online(&till) && waiting(&till) == 0);
    hubs.into_iter().for_each(|hub| drop(hub.stop()));
}

fn signal(node: &Node, signal: &str) {
    assert!(Command::new("kill").args([signal, &node.pid().to_string()]).status().unwrap().success());
}

/// A hub that does not reach the database can acknowledge nothing, though tills reach it well: it sends them to the other one,
/// which has their stores once the leases are over. Nothing tells it so: the connections stay and are silent.
#[test]
fn a_hub_that_is_cut_off_from_the_database_sends_its_tills_to_the_other() {
    let Some(chain) = Chain::new(2) else { return };
    let relay = Relay::start(chain.server.port);
    let direct = chain.server.url("postgres");
    common::in_database(&chain.dirs[0], &relay.url(&direct, chain.server.port));
    let hubs = [chain.start(0), chain.start(1)];
    let stores = ["north", "south", "east", "west"];
    let dirs: Vec<PathBuf> = stores.iter().map(|store| chain.join(store, &format!("t-{store}"), 0)).collect();
    let tills: Vec<Node> = dirs.iter().map(|dir| till(dir)).collect();
    for (till, store) in tills.iter().zip(stores) {
        captured(till, &sales(store, 0, 5));
    }
    until("everything is at a hub", || tills.iter().all(|till| online(till) && waiting(till) == 0));
    until("the logs are shared", || {
        let list = chain.ask(1, &["hub", "list"]);
        let list = list.as_array().unwrap();
        list.len() == 2 && list.iter().all(|hub| !hub["stores"].as_array().unwrap().is_empty())
    });
    dirs.iter().for_each(|dir| chain.until_told(dir));
    relay.set(Deed::Hang);
    for (till, store) in tills.iter().zip(stores) {
        captured(till, &sales(store, 5, 10));
    }
    until("everything is at the other", || tills.iter().all(|till| online(till) && waiting(till) == 0));
    until("the other has all of it", || chain.records(1) == 40);
    relay.set(Deed::Pass);
    for (till, store) in tills.iter().zip(stores) {
        captured(till, &sales(store, 10, 15));
    }
    until("both see all of it", || chain.records(0) == 60 && chain.records(1) == 60);
    hubs.into_iter().for_each(|hub| drop(hub.stop()));
}

/// What is refused, and how.
#[test]
fn a_hub_that_cannot_be_one_of_several_says_why() {
    let Some(chain) = Chain::new(1) else { return };
    let refused = |arguments: &[&str], word: &str| {
        let output = tillsync(arguments, "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(word), "{arguments:?}: {said}");
    };
    let dir = path(&chain.dirs[0]);
    let run = ["hub", "run", "--http", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--dir"];
    refused(&[&run[..], &[dir, "--shards", "5"]].concat(), "4 shards");
    let alone: &Path = &chain.folder.path().join("alone");
    json(&["hub", "init", "--company", "Alone", "--currency", "GBP", "--json", "--dir", path(alone)]);
    refused(&[&run[..], &[path(alone), "--shards", "4"]].concat(), "--database");
    let to = chain.folder.path().join("more");
    refused(&["hub", "add", "--dir", path(alone), "--to", path(&to)], "not in a database");
    let hub = chain.start(0);
    refused(&[&run[..], &[dir]].concat(), "in use");
    let patience = Instant::now() + Duration::from_secs(60);
    while chain.ask(0, &["hub", "list"]).as_array().unwrap().len() != 1 {
        assert!(Instant::now() < patience);
    }
    hub.stop();
}
