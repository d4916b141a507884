//! What was captured offline reaches the hub's books. Twice: with tills that start when the hub is there (the drain
//! itself, from the first till that is ready), and with running tills to which the hub comes back (what a shop sees: finding it
//! again included, which tills do at random moments within half a second and knock for every two).

use std::path::Path;
use std::time::{Duration, Instant};

use crate::http::Http;
use crate::process::until;
use crate::relay::Relay;
use crate::restart;
use crate::shop::Shop;
use crate::stats::Measure;
use crate::table::row;
use crate::workload::{Transaction, transactions};
use crate::{Outcome, Sizes};

/// How often the hub is asked what has arrived. Each question settles its books, so asking more often would slow it.
const LOOK_EVERY: Duration = Duration::from_millis(3);

/// A round with `count` tills; that with one till ends with restarts over what was drained.
///
/// # Errors
/// A node does not start, or something does not arrive.
pub fn measure(
    program: &Path,
    sizes: &Sizes,
    round: u64,
    count: usize,
) -> Outcome<Vec<(&'static str, Measure)>> {
    let (row, row_back) =
        if count == 1 { (row::DRAIN_1, row::DRAIN_1_BACK) } else { (row::DRAIN_8, row::DRAIN_8_BACK) };
    let (mut shop, work) = offline(Shop::open(program, count)?, sizes, round)?;
    let took = from_ready(&mut shop, &work)?;
    let mut rows = vec![(row, Measure::whole(sizes.drain, took))];
    shop.check(&work)?;
    if count == 1 {
        rows.extend(restart::measure(&mut shop, sizes.drain)?);
        shop.check(&work)?;
    }
    drop(shop);

    let (mut shop, work) = offline(Shop::open(program, count)?, sizes, round)?;
    shop.start_hub()?;
    rows.push((row_back, Measure::whole(sizes.drain, drained(&mut shop.ask_hub()?, &work)?)));
    shop.check(&work)?;
    Ok(rows)
}

/// The drain of one till that has just started, with the directories of till and hub encrypted.
///
/// # Errors
/// A node does not start, or something does not arrive.
pub fn sealed(program: &Path, sizes: &Sizes, round: u64) -> Outcome<Vec<(&'static str, Measure)>> {
    let (mut shop, work) = offline(Shop::open_sealed(program, 1)?, sizes, round)?;
    let took = from_ready(&mut shop, &work)?;
    shop.check(&work)?;
    Ok(vec![(row::DRAIN_1_SEALED, Measure::whole(sizes.drain, took))])
}

/// Starts the tills beside a running hub and waits until everything is in its books. Counted from the first till that is ready.
fn from_ready(shop: &mut Shop, work: &Work) -> Outcome<Duration> {
    for till in &mut shop.tills {
        till.stop()?;
    }
    shop.start_hub()?;
    let mut hub = shop.ask_hub()?;
    let start = shop.start_tills()?;
    drained(&mut hub, work)?;
    Ok(start.elapsed())
}

/// Bytes on the wire for the same drains, untimed: connecting, and everything that is said until all is in the books.
///
/// # Errors
/// A node does not start, or something does not arrive.
pub fn wire(program: &Path, sizes: &Sizes, round: u64) -> Outcome<Vec<(&'static str, Measure)>> {
    let mut rows = Vec::new();
    for (row, count) in [(row::WIRE_1, 1), (row::WIRE_8, sizes.tills)] {
        let (mut shop, work) = offline(Shop::open_counted(program, count)?, sizes, round)?;
        let passed = |shop: &Shop| shop.relay.as_ref().map_or([0; 2], Relay::bytes);
        let before = passed(&shop);
        shop.start_hub()?;
        drained(&mut shop.ask_hub()?, &work)?;
        for (at, (after, before)) in passed(&shop).into_iter().zip(before).enumerate() {
            rows.push((row[at], Measure::bytes(sizes.drain, after - before)));
        }
        shop.check(&work)?;
    }
    Ok(rows)
}

/// What each till recorded.
pub type Work = Vec<(String, Vec<Transaction>)>;

/// A shop whose hub is down and whose tills have captured everything.
fn offline(mut shop: Shop, sizes: &Sizes, round: u64) -> Outcome<(Shop, Work)> {
    shop.stop_hub()?;
    let mut work = Vec::new();
    for till in &shop.tills {
        let transactions = transactions(&till.name, sizes.drain / shop.tills.len(), round);
        till.capture(&transactions)?;
        work.push((till.name.clone(), transactions));
    }
    Ok((shop, work))
}

/// Waits until every record is in the hub's books. Gives how long that took from now.
///
/// # Errors
/// It takes too long.
pub fn drained(hub: &mut Http, work: &Work) -> Outcome<Duration> {
    let start = Instant::now();
    until("the drain", LOOK_EVERY, || {
        let arrived = Shop::arrived(hub)?;
        Ok(work.iter().all(|(till, transactions)| arrived.get(till) == Some(&(transactions.len() as u64))))
    })?;
    Ok(start.elapsed())
}
