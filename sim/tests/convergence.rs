//! Stories of a few nodes: nothing is promised before it is durable, and everybody arrives at the same.

use engine::host::NotRecorded;
use engine::policy::Policy;
use engine::replica::{CustodyStep, Receipt, SyncEvent};
use engine::transaction::Draft;
use sim::disk::{Disk, DiskState};
use sim::world::{Delays, World};

fn shop(tills: &[&str]) -> World {
    let tills: Vec<String> = tills.iter().map(|till| (*till).to_owned()).collect();
    World::new(&tills, Delays { link_ms: (1, 20), disk_ms: (1, 3) }, &Policy::default(), 7)
}

fn sale(receipt: &str, amount: i64) -> Draft {
    let text = format!(
        r#"{{"kind":"sale","receipt":"{receipt}","currency":"GBP","lines":[{{"sku":"A","quantity":"1",
        "amount_minor":{amount},"tax_minor":0}}],"tenders":[{{"type":"cash","amount_minor":{amount}}}]}}"#
    );
    Draft::from_json(&text).unwrap()
}

/// Records a sale and waits for the disk; the answer, if there is one.
fn ring(world: &mut World, till: &str, receipt: &str, amount: i64) -> Option<Result<Receipt, NotRecorded>> {
    let token = world.capture(till, sale(receipt, amount));
    world.run_for(10);
    world.node(till).answers.get(&token).cloned()
}

#[test]
fn a_sale_captured_offline_reaches_the_hub_and_the_other_till() {
    let mut world = shop(&["till-1", "till-2"]);
    let receipt = ring(&mut world, "till-1", "R-1", 120).unwrap().unwrap();
    assert_eq!(world.node("till-1").replica().waiting().count, 1);
    world.connect("till-1", "hub");
    world.connect("till-2", "hub");
    world.run_for(5_000);
    assert_eq!(world.node("till-1").replica().waiting().count, 0);
    let custody = world.node("till-1").replica().custody(&receipt.id).unwrap();
    assert_eq!(custody.state, CustodyStep::Posted);
    assert!(world.node("till-2").replica().books().record(&receipt.id).is_some());
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    let mut world = shop(&["till-1"]);
    world.run_for(100);
    world.node("till-1").disk.state = DiskState::Hangs;
    assert_eq!(ring(&mut world, "till-1", "R-1", 120), None, "no fsync, no receipt");
    world.crash("till-1");
    let again = ring(&mut world, "till-1", "R-1", 120).unwrap().unwrap();
    assert!(!again.repeated, "what was not durable is gone, and may be captured anew");
    world.node("hub").disk.state = DiskState::Hangs;
    world.connect("till-1", "hub");
    world.run_for(5_000);
    assert_eq!(world.node("till-1").replica().at_hub_through(), 0, "the hub has not fsynced");
    world.crash("hub");
    world.connect("till-1", "hub");
    world.run_for(5_000);
    assert_eq!(world.node("till-1").replica().at_hub_through(), 1);
}

#[test]
fn the_same_receipt_twice_makes_one_record_and_other_content_is_refused() {
    let mut world = shop(&["till-1"]);
    let first = ring(&mut world, "till-1", "R-1", 120).unwrap().unwrap();
    world.crash("till-1");
    let again = ring(&mut world, "till-1", "R-1", 120).unwrap().unwrap();
    assert!(again.repeated && again.id == first.id && again.seq == first.seq);
    let error = ring(&mut world, "till-1", "R-1", 99).unwrap().unwrap_err().to_string();
    assert!(error.contains("receipt \"R-1\" was already used"), "{error}");
    assert_eq!(world.node("till-1").replica().waiting().count, 1);
}

#[test]
fn a_resync_of_nothing_moves_no_batch() {
    let mut world = shop(&["till-1", "till-2"]);
    world.connect("till-1", "hub");
    world.connect("till-2", "hub");
    for n in 0..60 {
        let till = if n % 3 == 0 { "till-1" } else { "till-2" };
        ring(&mut world, till, &format!("R-{n}"), 100 + n).unwrap().unwrap();
    }
    world.run_for(5_000);
    world.node("till-1").events.clear();
    world.connect("till-1", "hub");
    world.run_for(5_000);
    let level =
        world.node("till-1").events.iter().any(|event| matches!(event, SyncEvent::Level { to_send: 0, .. }));
    assert!(level, "{:?}", world.node("till-1").events);
}

#[test]
fn tills_that_meet_without_the_hub_carry_each_others_records_there() {
    let mut world = shop(&["till-1", "till-2"]);
    world.connect("till-1", "hub");
    world.connect("till-2", "hub");
    world.run_for(5_000);
    world.cut("till-1", "hub");
    world.cut("till-2", "hub");
    let receipt = ring(&mut world, "till-1", "R-1", 120).unwrap().unwrap();
    world.connect("till-1", "till-2");
    world.run_for(5_000);
    world.cut("till-1", "till-2");
    world.connect("till-2", "hub");
    world.run_for(5_000);
    assert!(world.node("hub").replica().books().record(&receipt.id).is_some(), "till-2 brought it");
}

/// A till was restored from an old copy and sold before it met the hub again. Its next sales continued a session whose
/// numbers the other branch had taken; every node refused them, and the till believed them delivered.
#[test]
fn a_till_restored_from_an_old_copy_loses_nothing_and_the_fork_is_seen() {
    let mut world = shop(&["till-1"]);
    world.connect("till-1", "hub");
    world.run_for(5_000);
    ring(&mut world, "till-1", "R-1", 100).unwrap().unwrap();
    let backup = world.backup("till-1");
    for n in 2..6 {
        ring(&mut world, "till-1", &format!("R-{n}"), 100).unwrap().unwrap();
    }
    world.run_for(5_000);
    world.restore("till-1", backup);
    ring(&mut world, "till-1", "forked", 7).unwrap().unwrap();
    world.connect("till-1", "hub");
    world.run_for(5_000);
    for n in 0..3 {
        ring(&mut world, "till-1", &format!("after-{n}"), 1_000).unwrap().unwrap();
    }
    world.run_for(5_000);
    world.crash("till-1");
    ring(&mut world, "till-1", "last", 1_000).unwrap().unwrap();
    world.connect("till-1", "hub");
    world.run_for(5_000);
    let hub = world.node("hub").replica();
    let drawer: i128 = hub
        .books()
        .balances()
        .iter()
        .filter(|row| row.0.0.to_string().contains("Drawer"))
        .map(|row| row.1)
        .sum();
    assert_eq!(drawer, 5 * 100 + 7 + 4 * 1_000, "every acknowledged sale is in the drawer once");
    assert!(
        hub.books().cases().any(|case| case.key.case_type.as_str() == "CLONED_TERMINAL"),
        "the fork is seen"
    );
    let view = hub.books().view_hash();
    assert_eq!(world.node("till-1").replica().books().view_hash(), view);
    assert_eq!(world.node("till-1").replica().waiting().count, 0);
}

#[test]
fn a_batch_that_the_hub_refuses_still_waits() {
    let mut world = shop(&["till-1"]);
    // The hub forgets the enrolment with its disk: it refuses what it cannot place.
    world.restore("hub", Disk::default());
    ring(&mut world, "till-1", "R-1", 100).unwrap().unwrap();
    world.connect("till-1", "hub");
    world.run_for(5_000);
    assert_eq!(world.node("till-1").replica().waiting().count, 1, "refused is not delivered");
}
