//! One of two hubs ends, and the other takes its shard: how long until the tills of the shard have at the other hub what they
//! recorded since. Killed, so that nobody says goodbye, with a shard that the other hub has read along but never held; killed
//! again, when what the other hub kept of the shard has been deleted; and stopped as a service manager does. Before that, what it
//! costs the other hub, which has the company's log, to read along in a shard that is not its own.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Sizes;
use super::books::Books;
use super::chain::{Chain, Counter, Kept, LOOK_EVERY};
use super::figures::{Figures, row};
use super::processor;
use crate::Outcome;
use crate::process::until;
use crate::shop::check_books;
use crate::stats::{nanos, per_second};
use crate::table::thousands;
use crate::workload::{Transaction, transactions};

/// Which hub has the company's log, and which the shard and goes.
const OFFICE: usize = 0;
const GOES: usize = 1;
/// Where a hub keeps what it has made of the shard.
const SHARD_KEPT: &str = "logs/001";
/// Records that every till records when the hub has gone.
const SINCE: usize = 5;

/// A round with so many records in the shard.
///
/// # Errors
/// A node does not start, or something does not arrive as it was handed over.
pub fn measure(
    program: &Path,
    postgres: &Path,
    sizes: &Sizes,
    records: usize,
    round: u64,
    figures: &mut Figures,
) -> Outcome<()> {
    let kept = Kept::Database { hubs: 2, shards: 1 };
    let mut chain = Chain::found(program, postgres, kept)?;
    chain.enrol(sizes.takeover_tills)?;
    // The second hub comes when the first has nothing to give but an empty shard.
    chain.start_hubs()?;
    let mut work = chain.work(records, 10 * round);
    let count = |work: &[(String, Vec<Transaction>)]| work.iter().map(|(_, all)| all.len()).sum::<usize>();
    let office = chain.hub(OFFICE)?;
    let (memory, processor, start) = (office.memory()?, processor::of(office.pid())?, Instant::now());
    chain.capture(&work)?;
    at_hubs(&chain)?;
    let mut books = Books::open(&chain)?;
    books.until_posted(count(&work))?;
    books.until_followed()?;
    let followed = per_second(count(&work), start.elapsed());
    until_seen(&chain, count(&work))?;
    let column = thousands(records as u64);
    std::thread::sleep(sizes.settles);
    let office = chain.hub(OFFICE)?;
    let each = |sum: u64| sum / count(&work) as u64;
    figures.add(row::FOLLOWED, &column, followed);
    figures.add(row::ALONG_CPU, &column, each(processor::of(office.pid())?.saturating_sub(processor)));
    figures.add(row::ALONG_MEMORY, &column, each(office.memory()?.saturating_sub(memory)));

    for (time, row) in [row::WARM, row::COLD, row::ORDERLY].into_iter().enumerate() {
        if row == row::COLD {
            let kept = chain.dir(OFFICE).join(SHARD_KEPT);
            if kept.exists() {
                std::fs::remove_dir_all(kept)?;
            }
        }
        let start = Instant::now();
        let node = chain.take_hub(GOES).ok_or("the hub does not run")?;
        if row == row::ORDERLY {
            node.stop()?;
        } else {
            node.kill();
        }
        let more = since(&chain, 10 * round + 1 + time as u64);
        chain.capture(&more)?;
        let took = chain.each(|_, counter| counter.until_done())?.into_iter().max().unwrap_or(Duration::ZERO);
        figures.add(row, &column, nanos(start.elapsed().max(took)));
        for ((_, all), (_, new)) in work.iter_mut().zip(more) {
            all.extend(new);
        }
        // It comes back and is given the shard again, in order: the other one is warm in it.
        chain.start_hub(GOES)?;
        chain.until_spread(2)?;
        at_hubs(&chain)?;
    }
    until_seen(&chain, count(&work))?;
    check_books(&mut chain.ask(OFFICE)?, &work, 0)
}

/// Waits until head office counts so many records.
fn until_seen(chain: &Chain, records: usize) -> Outcome<()> {
    let mut http = chain.ask(OFFICE)?;
    until("all records at head office", LOOK_EVERY, || Ok(Chain::records(&mut http)? == records as u64))
        .map(drop)
}

fn at_hubs(chain: &Chain) -> Outcome<()> {
    chain.tills.iter().try_for_each(Counter::until_done)
}

fn since(chain: &Chain, seed: u64) -> Vec<(String, Vec<Transaction>)> {
    chain
        .tills
        .iter()
        .map(|counter| (counter.name.clone(), transactions(&counter.name, SINCE, seed)))
        .collect()
}
