//! Replicas in memory: what they hold is the same at the end, whatever was cut, restarted or delivered twice.

mod world;

use engine::replica::{CustodyStep, SyncEvent};
use world::{START_MS, World};

fn sale(receipt: &str, amount: i64) -> String {
    format!(
        r#"{{"kind":"sale","receipt":"{receipt}","currency":"GBP","lines":[{{"sku":"A","quantity":"1","amount_minor":{amount},
        "tax_minor":0}}],"tenders":[{{"type":"cash","amount_minor":{amount}}}]}}"#
    )
}

#[test]
fn a_sale_captured_offline_reaches_the_hub_and_the_other_till() {
    let mut world = World::new(&["till-1", "till-2"]);
    let receipt = world.capture("till-1", &sale("R-1", 120)).unwrap().unwrap();
    assert_eq!(receipt.seq, 1);
    assert_eq!(world.node("till-1").replica.waiting().count, 1);
    world.connect("till-1", "hub");
    world.connect("till-2", "hub");
    world.run();
    world.assert_converged();
    assert_eq!(world.node("till-1").replica.waiting().count, 0);
    let custody = world.node("till-1").replica.custody(&receipt.id).unwrap();
    assert_eq!(custody.state, CustodyStep::Posted);
    assert!(world.node("till-2").replica.books().record(&receipt.id).is_some());
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    let mut world = World::new(&["till-1"]);
    world.node("till-1").disk = false;
    assert_eq!(world.capture("till-1", &sale("R-1", 120)), None, "no fsync, no receipt");
    world.restart("till-1");
    let again = world.capture("till-1", &sale("R-1", 120)).unwrap().unwrap();
    assert!(!again.repeated, "what was not durable is gone, and may be captured anew");
    world.node("hub").disk = false;
    world.connect("till-1", "hub");
    world.run();
    assert_eq!(world.node("till-1").replica.at_hub_through(), 0, "the hub has not fsynced");
    world.restart("hub");
    world.connect("till-1", "hub");
    world.run();
    assert_eq!(world.node("till-1").replica.at_hub_through(), 1);
    world.assert_converged();
}

#[test]
fn the_same_receipt_twice_makes_one_record_and_other_content_is_refused() {
    let mut world = World::new(&["till-1"]);
    let first = world.capture("till-1", &sale("R-1", 120)).unwrap().unwrap();
    world.restart("till-1");
    let again = world.capture("till-1", &sale("R-1", 120)).unwrap().unwrap();
    assert!(again.repeated && again.id == first.id && again.seq == first.seq);
    let error = world.capture("till-1", &sale("R-1", 99)).unwrap().unwrap_err().to_string();
    assert!(error.contains("receipt \"R-1\" was already used"), "{error}");
    assert_eq!(world.node("till-1").replica.waiting().count, 1);
}

#[test]
fn level_peers_push_live_both_ways_and_a_resync_of_nothing_moves_no_batch() {
    let mut world = World::new(&["till-1", "till-2"]);
    for till in ["till-1", "till-2"] {
        world.connect(till, "hub");
    }
    world.run();
    for n in 0..300 {
        let till = if n % 3 == 0 { "till-1" } else { "till-2" };
        world.capture(till, &sale(&format!("R-{n}"), 100 + n)).unwrap().unwrap();
        while n % 7 == 0 && world.deliver(0) {}
    }
    world.run();
    world.assert_converged();
    world.cut("till-1", "hub");
    world.node("till-1").events.clear();
    world.connect("till-1", "hub");
    world.run();
    let level =
        world.node("till-1").events.iter().any(|event| matches!(event, SyncEvent::Level { to_send: 0, .. }));
    assert!(level, "{:?}", world.node("till-1").events);
}

#[test]
fn any_cut_and_restart_in_any_order_of_delivery_converges() {
    for seed in 0..40u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            usize::try_from(random % below as u64).unwrap()
        };
        let tills = ["till-1", "till-2", "till-3"];
        let mut world = World::new(&tills);
        let mut receipts = 0;
        for _ in 0..200 {
            let till = tills[next(3)];
            match next(20) {
                0..=6 => {
                    receipts += 1;
                    world.capture(till, &sale(&format!("{till}-{receipts}"), 100)).unwrap().unwrap();
                }
                7 | 8 => world.connect(till, "hub"),
                9 => world
                    .connect(till, tills[(next(2) + 1 + tills.iter().position(|t| *t == till).unwrap()) % 3]),
                10 => world.cut(till, "hub"),
                11 => world.restart(till),
                12 if next(4) == 0 => world.restart("hub"),
                _ => {
                    for _ in 0..next(6) {
                        let pick = next(8);
                        world.deliver(pick);
                    }
                }
            }
        }
        for till in tills {
            world.cut(till, "hub");
            world.connect(till, "hub");
        }
        world.run();
        world.assert_converged();
        for till in tills {
            let replica = &world.node(till).replica;
            assert_eq!(replica.waiting().count, 0, "seed {seed}: {till} waits");
        }
        let records = world.node("hub").replica.log_heads().values().sum::<u64>();
        assert_eq!(records, receipts + 3, "seed {seed}: every receipt and enrolment is numbered once");
        assert!(world.now_ms >= START_MS);
    }
}
