//! What history costs a hub and a till when it only lies there: the memory of the whole process with a short and with a
//! long history over many business days, and how long a hub takes to answer again with the long one.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::drain::drained;
use crate::process::until;
use crate::shop::Shop;
use crate::stats::Measure;
use crate::table::row;
use crate::workload::{Transaction, transactions};
use crate::{Outcome, Sizes};

/// Business days over which a history is spread: fewer than a refund may come after its sale.
const DAYS: usize = 25;
/// First of them.
const FIRST_DAY: &str = "2026-09-01";
/// How often a till is asked whether it has everything.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Memory and restart of hub and till over a short and a long history.
///
/// # Errors
/// A node does not start, or something does not arrive.
pub fn measure(program: &Path, sizes: &Sizes, round: u64) -> Outcome<Vec<(&'static str, Measure)>> {
    let (small, large) = sizes.kept;
    let before = used(program, sizes, round, small)?;
    let after = used(program, sizes, round, large)?;
    let more = |what: fn(&Used) -> u64, count: usize| {
        Measure::bytes(count, what(&after).saturating_sub(what(&before)))
    };
    Ok(vec![
        (row::MEMORY_HUB, more(|used| used.hub, large - small)),
        (row::MEMORY_HUB_AGAIN, more(|used| used.hub_again, large - small)),
        (row::MEMORY_TILL, more(|used| used.till, large - small)),
        (row::LONG_CLEAN, Measure::once(after.clean)),
        (row::LONG_KILLED, Measure::once(after.killed)),
    ])
}

/// Bytes of memory that processes used, and times to the first answer.
struct Used {
    hub: u64,
    hub_again: u64,
    till: u64,
    clean: Duration,
    killed: Duration,
}

fn used(program: &Path, sizes: &Sizes, round: u64, records: usize) -> Outcome<Used> {
    let mut shop = Shop::open(program, sizes.tills)?;
    shop.stop_hub()?;
    let mut work = Vec::new();
    for till in &shop.tills {
        let dated = over_days(transactions(&till.name, records / shop.tills.len(), round))?;
        till.capture(&dated)?;
        work.push((till.name.clone(), dated));
    }
    shop.start_hub()?;
    drained(&mut shop.ask_hub()?, &work)?;
    // The first record of a till may be older than what it had of the hub by then: a clock to look at.
    shop.check_with_cases(&work, shop.tills.len())?;
    level(&shop)?;
    std::thread::sleep(sizes.rests);
    let hub = shop.hub.as_ref().ok_or("the hub does not run")?.memory()?;
    let till = shop.tills[0].node()?.memory()?;
    let again = |shop: &mut Shop| -> Outcome<Duration> {
        let start = Instant::now();
        shop.start_hub()?;
        let arrived = Shop::arrived(&mut shop.ask_hub()?)?;
        let took = start.elapsed();
        let expected: usize = work.iter().map(|row| row.1.len()).sum();
        assert_eq!(arrived.values().sum::<u64>(), expected as u64, "records after a restart");
        Ok(took)
    };
    shop.stop_hub()?;
    let clean = again(&mut shop)?;
    std::thread::sleep(sizes.rests);
    let hub_again = shop.hub.as_ref().ok_or("the hub does not run")?.memory()?;
    drop(shop.hub.take());
    let killed = again(&mut shop)?;
    Ok(Used { hub, hub_again, till, clean, killed })
}

/// Waits until every till has the books of the hub.
fn level(shop: &Shop) -> Outcome<()> {
    for till in &shop.tills {
        let mut http = till.node()?.connect()?;
        until("a till that has the hub's books", LOOK_EVERY, || {
            let there = shop.ask_hub()?.get("/v1/stores")?.json()?;
            Ok(http.get("/v1/status")?.json()?["view_hash"] == there[0]["view_hash"])
        })?;
    }
    Ok(())
}

/// From eight in the morning on, ten transactions a second.
fn at_ms(day: engine::time::Day, number: usize) -> i64 {
    let seconds = i64::from(day.0) * 86_400 + 8 * 3_600;
    seconds * 1_000 + i64::try_from(number).unwrap_or(0) * 100
}

/// Gives the transactions business days, in order, and the clock of that day.
fn over_days(work: Vec<Transaction>) -> Outcome<Vec<Transaction>> {
    let count = work.len().max(1);
    let first: engine::time::Day = FIRST_DAY.parse()?;
    let dated = |(number, mut transaction): (usize, Transaction)| -> Outcome<Transaction> {
        let mut value: Value = serde_json::from_str(&transaction.json)?;
        let day = first.plus(i32::try_from(number * DAYS / count)?);
        value["business_day"] = json!(day.to_string());
        value["at"] =
            json!(engine::time::Instant::utc(at_ms(day, number % count.div_ceil(DAYS))).to_string());
        transaction.json = value.to_string();
        Ok(transaction)
    };
    // Voids belong to the day of their sale; here they would come days later.
    let sold = work.into_iter().filter(|transaction| !transaction.json.contains(r#""kind":"void""#));
    sold.enumerate().map(dated).collect()
}
