//! Several hubs on one database: seeds that must hold, stories of one fault each, and checks that are broken on purpose.

use engine::ids::RecordId;
use engine::policy::Policy;
use sim::checks;
use sim::database::Ailing;
use sim::drafts;
use sim::file::read;
use sim::run::run;
use sim::scenario::Scenario;
use sim::world::{Company, Delays, SERVED_MS, World, hub_names};

const TILL: &str = "till-01";

fn world(hubs: u64) -> World {
    let delays = Delays { link_ms: (2, 40), disk_ms: (0, 4) };
    let policy = Policy { currencies: vec!["GBP".parse().unwrap()], ..Policy::default() };
    let mut world = World::of_company(&[TILL.to_owned()], delays, &policy, 7, (hubs, 4));
    // Long enough for the logs to be shared.
    world.run_for(8 * SERVED_MS);
    world
}

fn company(world: &mut World) -> &mut Company {
    world.company.as_mut().unwrap()
}

/// A till pays money in; gives whether the hub has it after a while, ms.
fn reaches_the_hub(world: &mut World, receipt: &str, within_ms: i64) -> bool {
    world.capture(TILL, drafts::cash(receipt, 100));
    world.run_for(within_ms);
    world.nodes[TILL].replica().waiting().count == 0
        && world.hub_node().replica().books().find_receipt(receipt).len() == 1
}

fn in_order(world: &World) {
    checks::hubs_keep_order(world.company.as_deref().unwrap()).unwrap();
}

#[test]
fn swarms_of_faults_hold_with_two_to_four_hubs() {
    let mut struck = std::collections::BTreeMap::new();
    for seed in 1..7 {
        let scenario = Scenario { hubs: 2 + seed % 3, ..Scenario::swarm(seed, 3, 1, 12, true) };
        let outcome = run(&scenario).unwrap_or_else(|broken| panic!("seed {seed}: {broken:?}"));
        for (name, times) in outcome.faults {
            *struck.entry(name).or_insert(0) += times;
        }
    }
    for name in [
        "log-taken-over",
        "log-handed-over",
        "hub-killed",
        "hub-paused",
        "commit-found",
        "commit-written-again",
    ] {
        assert!(struck.contains_key(name), "{name} in {struck:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run_with_several_hubs_too() {
    let scenario = |seed| Scenario { hubs: 3, ..Scenario::swarm(seed, 2, 1, 8, true) };
    let first = run(&scenario(3)).unwrap();
    assert_eq!(first, run(&scenario(3)).unwrap());
    assert_ne!(first.trace, run(&scenario(4)).unwrap().trace);
}

#[test]
fn a_till_goes_on_at_another_hub_when_its_own_dies_or_sleeps_or_loses_the_database() {
    let mut world = world(3);
    assert!(reaches_the_hub(&mut world, "C-1", 10_000));
    let first = world.hub().to_owned();
    world.kill_hub(&first, true);
    assert!(reaches_the_hub(&mut world, "C-2", SERVED_MS + 5_000));
    let second = world.hub().to_owned();
    assert_ne!(first, second);
    world.start_hub(&first);
    world.run_for(SERVED_MS);

    let holder = world.hub().to_owned();
    world.pause_hub(&holder, 20_000);
    assert!(reaches_the_hub(&mut world, "C-3", SERVED_MS + 5_000));
    assert_ne!(world.hub(), holder);
    world.run_for(20_000);
    assert!(!world.nodes[&holder].is_up(), "it woke, and has let go of the store");

    let holder = world.hub().to_owned();
    let now_ms = world.now_ms;
    world.network.block(&holder, "database", now_ms);
    assert!(reaches_the_hub(&mut world, "C-4", SERVED_MS + 10_000));
    assert_ne!(world.hub(), holder);
    in_order(&world);
}

#[test]
fn an_append_is_there_once_whatever_becomes_of_its_commit() {
    let mut world = world(2);
    world.ail(Ailing::Loses, 300_000, 5);
    for number in 0..100 {
        world.capture(TILL, drafts::cash(&format!("L-{number}"), 100));
        world.run_for(3_000);
    }
    world.run_for(30_000);
    let books = world.hub_node().replica().books();
    assert!((0..100).all(|number| books.find_receipt(&format!("L-{number}")).len() == 1));
    let counts = &world.company.as_ref().unwrap().counts;
    let both = ["commit-found", "commit-written-again"];
    assert!(both.iter().all(|outcome| counts.contains_key(outcome)), "{counts:?}");
    in_order(&world);
}

#[test]
fn the_checks_of_several_hubs_complain() {
    let mut world = world(3);
    assert!(reaches_the_hub(&mut world, "C-1", 10_000));
    let level = |world: &World| checks::hubs_are_level(world, world.company.as_deref().unwrap());
    level(&world).unwrap();
    let invariant = |broken: checks::Broken| broken.invariant;

    company(&mut world).stated.push(RecordId::default());
    assert_eq!(invariant(level(&world).unwrap_err()), "what was acknowledged is in the books");
    company(&mut world).stated.pop();

    let shard = company(&mut world).shard;
    let less = company(&mut world).database.log(shard).prefix(1);
    let all = std::mem::replace(company(&mut world).database.log_mut(shard), less);
    assert_eq!(invariant(level(&world).unwrap_err()), "a hub has what its log in the database has");
    *company(&mut world).database.log_mut(shard) = all;

    let other = hub_names(3).into_iter().find(|name| name != world.hub()).unwrap();
    world.kill_hub(&other, false);
    world.run_for(500);
    assert_eq!(
        invariant(level(&world).unwrap_err()),
        "every log is at one hub, and the hubs share them evenly"
    );
    world.run_for(SERVED_MS);
    level(&world).unwrap();

    // Nobody may give what the tills wait for, and nothing is wrong.
    for name in hub_names(3) {
        world.kill_hub(&name, false);
    }
    world.run_for(3 * SERVED_MS);
    in_order(&world);
    company(&mut world).database.late.push("an append".to_owned());
    let late = checks::hubs_keep_order(world.company.as_deref().unwrap()).unwrap_err();
    assert_eq!(invariant(late), "nothing is committed under an old fence");
}

#[test]
fn what_happens_to_hubs_is_refused_where_it_makes_no_sense() {
    let head = "tills = 1\ndays = 1\n";
    let table = [
        (
            "[[happens]]\nat_ms = 5\ndo = \"pause\"\nnode = \"hub\"\nlasts_ms = 9",
            "node",
            "give hubs = 2 or more",
        ),
        ("hubs = 90", "hubs", "too many"),
        ("hubs = 2\n[[happens]]\nat_ms = 5\ndo = \"kill\"\nnode = \"hub-3\"\ndown_ms = 9", "node", "no node"),
        (
            "hubs = 2\n[[happens]]\nat_ms = 5\ndo = \"kill\"\nnode = \"till-01\"\ndown_ms = 9",
            "node",
            "is no hub",
        ),
        (
            "hubs = 2\n[[happens]]\nat_ms = 5\ndo = \"disk-full\"\nnode = \"hub-1\"",
            "node",
            "no disk of their own",
        ),
        (
            "hubs = 2\n[[happens]]\nat_ms = 5\ndo = \"cut\"\nfrom = \"till-01\"\nto = \"database\"\nlasts = \"1s\"",
            "to",
            "does not talk",
        ),
        (
            "hubs = 2\n[[happens]]\nat_ms = 5\ndo = \"database\"\nhow = \"naps\"\nlasts_ms = 9",
            "how",
            "unknown variant",
        ),
    ];
    for (lines, key, words) in table {
        let bad = read("bad.toml", &format!("{head}{lines}\n")).expect_err(lines);
        assert!(bad.key == key && bad.reason.contains(words), "{lines}: {bad}");
    }
}
