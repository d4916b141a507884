//! One seed, from the first sale to the last check.

use std::collections::BTreeMap;

use engine::policy::Policy;

use crate::chance::Chance;
use crate::checks::{Broken, at_every_turn, at_the_end};
use crate::faults::Faults;
use crate::shop::Shop;
use crate::world::{World, writer};

/// How long after mending everything must be level, virtual ms.
const CONVERGENCE_MS: i64 = 120_000;
/// Turns between checks of the whole state.
const CHECK_EVERY: u64 = 16;

/// How big a run is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Number of tills.
    pub tills: u64,
    /// Number of turns: in each, something happens in a shop and something may go wrong.
    pub turns: u64,
}

impl Default for Size {
    fn default() -> Self {
        Self { tills: 3, turns: 300 }
    }
}

/// What a run did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Acknowledged transactions.
    pub transactions: u64,
    /// Sales that were reversed more than there was, all flagged.
    pub mischief: u64,
    /// Messages that arrived.
    pub messages: u64,
    /// Virtual time, ms.
    pub simulated_ms: i64,
    /// How often each fault struck.
    pub faults: BTreeMap<&'static str, u64>,
    /// Hash of everything that happened: the same for the same seed.
    pub trace: String,
}

/// Runs a seed.
///
/// # Errors
/// The invariant that does not hold.
pub fn run(seed: u64, size: Size, mut faults: Faults) -> Result<Outcome, Broken> {
    let policy = Policy::default();
    let mut chance = Chance::new(seed, "turns");
    let tills: Vec<String> = (1..=size.tills).map(|n| format!("till-{n:02}")).collect();
    let mut world = World::new(&tills, faults.delays, &policy, seed);
    for name in tills.iter().map(String::as_str).chain(["hub"]) {
        let skew = faults.clock_skew_ms;
        world.node(name).clock_skew_ms = chance.between(-skew, skew);
    }
    for till in &tills {
        world.connect(till, "hub");
    }
    // A till cannot sell before it knows what it is enrolled for.
    world.run_for(60_000);
    let mut shop = Shop::default();
    for turn in 0..size.turns {
        let till = chance.pick(&tills).clone();
        let (draft, asked) = shop.happen(&till, &mut chance);
        let token = world.capture(&till, draft);
        shop.asked.insert((till.clone(), token), asked);
        go_wrong(&mut world, &mut faults, &mut shop, &tills, &policy, &mut chance);
        world.run_for(chance.between(1, 3_000));
        collect(&mut world, &mut shop);
        if turn % CHECK_EVERY == 0 {
            at_every_turn(&world)?;
        }
    }
    mend(&mut world, &mut shop, &tills, &policy);
    at_the_end(&mut world, &shop)?;
    Ok(Outcome {
        transactions: shop.acknowledged.len() as u64,
        mischief: shop.sales.values().filter(|sale| sale.is_mischief()).count() as u64,
        messages: world.messages,
        simulated_ms: world.now_ms - crate::world::START_MS,
        faults: faults.struck,
        trace: world.trace.finalize().to_hex().to_string(),
    })
}

/// Something may go wrong, or be mended, at any till.
fn go_wrong(
    world: &mut World,
    faults: &mut Faults,
    shop: &mut Shop,
    tills: &[String],
    policy: &Policy,
    chance: &mut Chance,
) {
    let till = chance.pick(tills).clone();
    if faults.strikes("cut", faults.cut, chance) {
        world.cut(&till, "hub");
    }
    let mended = chance.pick(tills).clone();
    if chance.once_in(faults.mend) && !world.connected(&mended, "hub") {
        world.connect(&mended, "hub");
    }
    let other = chance.pick(tills).clone();
    if other != till && faults.strikes("gossip", faults.gossip, chance) {
        world.connect(&till, &other);
    }
    if faults.strikes("disk-hang", faults.disk_hang, chance) {
        world.node(&till).disk_works = false;
    }
    if faults.strikes("till-crash", faults.till_crash, chance) {
        crash(world, shop, &till, policy);
    }
    if faults.strikes("hub-crash", faults.hub_crash, chance) {
        crash(world, shop, "hub", policy);
    }
}

/// Power fails. What was answered before counts; what was asked and not answered may or may not have happened, so the
/// cashier looks at the till afterwards, as people do, and counts what it holds.
fn crash(world: &mut World, shop: &mut Shop, name: &str, policy: &Policy) {
    collect(world, shop);
    world.crash(name, policy);
    let unanswered: Vec<(String, u64)> =
        shop.asked.keys().filter(|(till, _)| till == name).cloned().collect();
    for key in unanswered {
        let Some(asked) = shop.asked.remove(&key) else { continue };
        let receipt = match &asked {
            crate::shop::Asked::Sale(sale) => sale.receipt.clone(),
            crate::shop::Asked::Refund(_, own, _) | crate::shop::Asked::Void(_, own) => own.clone(),
        };
        let books = world.nodes[&writer(name)].replica.books();
        let kept = books.find_receipt(&receipt).first().and_then(|id| books.record(id)).cloned();
        if let Some(record) = kept {
            let receipt = engine::replica::Receipt {
                id: record.id,
                receipt,
                seq: record.seq,
                business_day: record.business_day,
                repeated: false,
            };
            shop.acknowledge(name, asked, receipt);
        }
    }
}

/// Takes the answers that tills have given.
fn collect(world: &mut World, shop: &mut Shop) {
    for node in world.nodes.values_mut() {
        for (token, result) in std::mem::take(&mut node.answers) {
            let Some(asked) = shop.asked.remove(&(node.name.clone(), token)) else { continue };
            if let Ok(receipt) = result {
                shop.acknowledge(&node.name, asked, receipt);
            }
        }
    }
}

/// Everything works again; time enough passes for everybody to be level.
fn mend(world: &mut World, shop: &mut Shop, tills: &[String], policy: &Policy) {
    collect(world, shop);
    let hanging: Vec<String> =
        world.nodes.values().filter(|node| !node.disk_works).map(|node| node.name.clone()).collect();
    for name in hanging {
        crash(world, shop, &name, policy);
    }
    for till in tills {
        world.connect(till, "hub");
    }
    world.run_for(CONVERGENCE_MS);
    collect(world, shop);
}
