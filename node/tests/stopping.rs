//! Stopping properly: a node that has said `ready` obeys at once, and a till says what has not reached the hub.

mod common;

use common::{Company, assert_verified, path, sale, till, tillsync, until};
use engine::ids::{LogId, WriterId};
use engine::policy::Policy;
use engine::replica::{Identity, Input, Output, Replica};
use engine::time::Instant;
use node::identity::{Enrolment, NodeKey};
use node::runtime::restore::{Images, restore};
use node::storage::{Entry, Options, Storage};

#[test]
fn a_stop_right_after_ready_is_obeyed_and_says_what_waits() {
    let mut company = Company::new();
    // Asked to stop in the moment it says that it is ready, not once but often: the handlers are there before the word.
    for _ in 0..5 {
        company.hub().stop();
    }
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    for _ in 0..5 {
        let said = till(&dir).stop();
        assert!(said.starts_with("stopped waiting=0"), "{said}");
    }
    drop(hub);
    let node = till(&dir);
    for n in 0..3 {
        assert!(
            tillsync(&["capture", "-", "--api", &node.http], &sale(&format!("R-{n}"), 100)).status.success()
        );
    }
    let said = node.stop();
    assert!(said.starts_with("stopped waiting=3") && said.contains("safe on this device"), "{said}");
    assert_verified(&dir);
    // With the hub there, what was captured a moment before goes out before the till goes.
    let hub = company.hub();
    let node = till(&dir);
    until("online", || node.status()["online"] == true);
    assert!(tillsync(&["capture", "-", "--api", &node.http], &sale("R-9", 100)).status.success());
    let said = node.stop();
    assert!(said.starts_with("stopped waiting=0"), "{said}");
    assert_eq!(company.records(), 4);
    hub.stop();
}

/// A till seals what waits when it meets the hub. Killed between that and the hub's first word, it holds a batch of a
/// writer of whose enrolment only its own certificate speaks: `verify` called that a problem.
#[test]
fn a_till_killed_between_its_first_hello_and_the_hubs_first_word_verifies() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    drop(hub);
    let node = till(&dir);
    assert!(tillsync(&["capture", "-", "--api", &node.http], &sale("R-1", 100)).status.success());
    node.stop();

    let enrolment = Enrolment::load(&dir).unwrap().unwrap();
    let hub = WriterId(enrolment.hub_public_key);
    let (storage, _) = Storage::open(&dir, &Options::default()).unwrap();
    let restored = restore(&storage, Images::None, |store| {
        let log = LogId { terminal: enrolment.terminal.parse().unwrap(), incarnation: 1 };
        let key = NodeKey::load(&dir).unwrap().unwrap().signing_key().clone();
        let policy = Policy { currencies: vec!["GBP".parse().unwrap()], ..Policy::default() };
        Ok(Replica::new(Identity { store: store.clone(), log, key, nonce: [0; 16], hub }, policy))
    });
    let (store, mut made) = restored.unwrap().stores.pop_first().unwrap();
    let outputs =
        made.replica.handle(Instant::utc(1_800_000_000_000), Input::PeerUp(hub, engine::sync::Dialect::Full));
    let sealed: Vec<Entry> = outputs
        .iter()
        .filter_map(|output| match output {
            Output::Persist { entry, .. } => {
                let (kind, bytes) = entry.encode(&store);
                Some(Entry { kind, bytes })
            }
            _ => None,
        })
        .collect();
    storage.append_blocking(sealed).unwrap();
    storage.close().unwrap();
    assert_verified(&dir);
}

/// `project` took every directory for the hub's: what had waited unsealed in a till's log was there twice, once as the
/// till's and once as the hub's.
#[test]
fn project_counts_what_a_till_captured_offline_once() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    drop(hub);
    let node = till(&dir);
    for n in 0..3 {
        assert!(
            tillsync(&["capture", "-", "--api", &node.http], &sale(&format!("R-{n}"), 100)).status.success()
        );
    }
    let hub = company.hub();
    until("the sales at the hub", || node.status()["waiting"]["count"] == 0);
    node.stop();
    hub.stop();
    let records = |dir| {
        let arguments = ["project", "--json", "--from-dir", path(dir), "--policy", "refund_limit_minor=5000"];
        common::json(&arguments)["records"].as_u64().unwrap()
    };
    assert_eq!(records(&dir), records(&company.dir));
}

/// A start judges again what no checkpoint holds. The audit log does not tell of the same cases again each time: a till
/// that is killed often would otherwise fill its disk with them, and each start would take longer than the one before.
#[test]
fn a_start_after_a_kill_does_not_tell_of_cases_again() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    hub.stop();
    let cases = |node: &common::Node| -> Vec<String> {
        let events = common::json(&["audit", "--json", "--api", &node.http]);
        let of_cases = events.as_array().unwrap().iter().filter(|event| event["event"] == "case");
        of_cases.map(|event| event["detail"].as_str().unwrap().to_owned()).collect()
    };
    let mut told = Vec::new();
    for turn in 0..4 {
        let mut node = till(&dir);
        // Equal sales within minutes are suspected duplicates.
        for n in 0..2 {
            let line = sale(&format!("R-{turn}-{n}"), 100);
            assert!(tillsync(&["capture", "-", "--api", &node.http], &line).status.success());
        }
        let last = format!("sale R-{turn}-1 of");
        until("the case of the last sale", || cases(&node).iter().any(|case| case.contains(&last)));
        told = cases(&node);
        node.kill();
    }
    let different: std::collections::BTreeSet<&String> = told.iter().collect();
    assert!(told.len() >= 7, "{told:?}");
    assert_eq!(told.len(), different.len(), "{told:?}");
}
