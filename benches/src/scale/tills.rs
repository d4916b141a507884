//! More and more tills at one hub, ten to a store: what they cost it when nobody sells, and what a sale takes when all of
//! them sell. The hub is a process, the tills are a [`Crew`]; all joined through the hub's API.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;

use super::crew::Crew;
use super::place::Place;
use super::sheet::{Reading, Unit};
use super::{Said, Steps};
use crate::Outcome;
use crate::http::Http;
use crate::live::ask_until_there;
use crate::process::until;
use crate::shop::same_content;
use crate::stats::{Samples, nanos, per_second};
use crate::workload::{Transaction, net_minor, transactions};

/// Tills of a store.
const A_STORE: usize = 10;
/// How often the hub is asked what has arrived: each question goes to every store.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Kinds of work in a round, each with transactions of its own.
const KINDS: u64 = 4;
/// A timed sale every so often.
const PACE: Duration = Duration::from_millis(10);

/// All measures with so many tills.
///
/// # Errors
/// A till does not join, or something does not arrive as it was handed over.
pub fn measure(program: &Path, steps: &Steps, tills: usize, round: u64) -> Outcome<Vec<Reading>> {
    let mut said = Said::default();
    let mut place = Place::found(program)?;
    place.start_hub()?;
    let mut http = place.ask()?;
    sleep(steps.rests);
    let (empty, own) = (place.hub()?.memory()?, own_memory()?);
    let (mut dirs, start) = (Vec::new(), Instant::now());
    for number in 0..tills {
        dirs.push(place.enrol(&mut http, &store(number), &name(number))?);
    }
    said.push(
        "tills-connect",
        "enrolled and joined, one after the other",
        Unit::Rate,
        per_second(tills, start.elapsed()),
    );
    let start = Instant::now();
    let crew = Crew::start(&dirs)?;
    let mut http = place.ask()?;
    until("all tills online", LOOK_EVERY, || Ok(online(&mut http)? == tills as u64))?;
    said.push(
        "tills-connect",
        "started and connected, one after the other",
        Unit::Rate,
        per_second(tills, start.elapsed()),
    );
    sleep(steps.rests);
    let each = |now: u64, before: u64| now.saturating_sub(before) / tills as u64;
    said.bytes("tills-memory", "hub, each till", each(place.hub()?.memory()?, empty));
    said.bytes("tills-memory", "till, each of many in one process", each(own_memory()?, own));
    sleep(steps.settles);
    said.push(
        "tills-load",
        "hub, all tills idle",
        Unit::Load,
        load_during(&place, || {
            sleep(steps.idle);
            Ok(())
        })?,
    );
    let mut work = sell(&mut said, steps, &place, &crew, tills, round)?;
    away(&mut said, steps, &mut place, &crew, &mut work, tills, round)?;
    check(&mut place.ask()?, &work)?;
    crew.stop()?;
    place.end_hub(true)?;
    Ok(said.0)
}

/// Timed sales of the first till while all sell steadily, and then all as fast as they can. What each till sold.
fn sell(
    said: &mut Said,
    steps: &Steps,
    place: &Place,
    crew: &Crew,
    tills: usize,
    round: u64,
) -> Outcome<BTreeMap<usize, Vec<Transaction>>> {
    let burst = steps.burst.div_ceil(tills);
    // Enough for as long as the timed sales may take on a busy machine.
    let steadily = (steps.live * 4).div_ceil(tills) + 1;
    // Each kind of work has its own sales to reverse: not all that is ready to be sold beside the timed sales is sold.
    let all = |count: usize, seed: u64| -> Vec<Vec<Transaction>> {
        (0..tills).map(|till| transactions(&name(till), count, KINDS * round + seed)).collect()
    };
    let (mut beside, fast) = (all(steadily, 0), all(burst, 1));
    let timed = transactions(&name(0), steps.live, KINDS * round + 2);
    let over = AtomicBool::new(false);
    let mut hub = place.ask()?;
    let [mut saved, mut books] = [(); 2].map(|()| Samples::default());
    let every = Duration::from_nanos(1_000_000_000 / steps.steady.max(1) as u64);
    let mut load = 0;
    let sold = std::thread::scope(|scope| {
        let selling = scope.spawn(|| crew.steadily(&beside, every, &over));
        let measured = load_during(place, || {
            for transaction in &timed {
                let from = Instant::now();
                crew.capture(0, transaction)?;
                saved.push(from.elapsed());
                books.push(ask_until_there(&mut hub, transaction, true, from)?.0);
                sleep(PACE);
            }
            Ok(())
        });
        over.store(true, Ordering::Relaxed);
        let sold = selling.join().expect("selling does not panic")?;
        load = measured?;
        Outcome::Ok(sold)
    })?;
    said.latency("tills-live", ["saved at the till, p50", "saved at the till, p99"], saved);
    said.latency("tills-live", ["in the hub's books, p50", "in the hub's books, p99"], books);
    said.push(
        "tills-load",
        "hub, all tills selling steadily (and the timed sales asked for)",
        Unit::Load,
        load,
    );
    for (work, sold) in beside.iter_mut().zip(&sold) {
        work.truncate(*sold);
    }
    let before = timed.len() + sold.iter().sum::<usize>();
    arrive(place, before)?;
    let count = fast.iter().map(Vec::len).sum::<usize>();
    let start = Instant::now();
    crew.at_once(&fast)?;
    said.push(
        "tills-rate",
        "saved at the tills, all at once",
        Unit::Rate,
        per_second(count, start.elapsed()),
    );
    arrive(place, before + count)?;
    said.push(
        "tills-rate",
        "in the hub's books, all at once",
        Unit::Rate,
        per_second(count, start.elapsed()),
    );
    let mut work: BTreeMap<usize, Vec<Transaction>> = BTreeMap::new();
    work.insert(0, timed);
    for (till, sold) in beside.into_iter().enumerate().chain(fast.into_iter().enumerate()) {
        work.entry(till).or_default().extend(sold);
    }
    Ok(work)
}

/// An outage: the hub ends, all tills sell as fast as they can, and then it is started again. What it takes until everything
/// is in its books, and the most memory that it had from its start on.
fn away(
    said: &mut Said,
    steps: &Steps,
    place: &mut Place,
    crew: &Crew,
    work: &mut BTreeMap<usize, Vec<Transaction>>,
    tills: usize,
    round: u64,
) -> Outcome<()> {
    let before: usize = work.values().map(Vec::len).sum();
    let count = steps.away.div_ceil(tills);
    let sold: Vec<_> = (0..tills).map(|till| transactions(&name(till), count, KINDS * round + 3)).collect();
    place.end_hub(true)?;
    crew.at_once(&sold)?;
    sleep(steps.rests);
    let start = Instant::now();
    place.start_hub()?;
    arrive(place, before + count * tills)?;
    said.push(
        "tills-rate",
        "in the hub's books after an outage, from its start",
        Unit::Rate,
        per_second(count * tills, start.elapsed()),
    );
    said.bytes("tills-peak", "hub, the most from its start until then", place.hub()?.peak_memory()?);
    for (till, sold) in sold.into_iter().enumerate() {
        work.entry(till).or_default().extend(sold);
    }
    Ok(())
}

fn arrive(place: &Place, records: usize) -> Outcome<()> {
    let mut hub = place.ask()?;
    until("what was sold at the hub", LOOK_EVERY, || Ok(Place::counts(&mut hub)?.0 == records as u64))
        .map(|_| ())
}

/// Everything that was sold is in the books.
fn check(hub: &mut Http, work: &BTreeMap<usize, Vec<Transaction>>) -> Outcome<()> {
    let count: usize = work.values().map(Vec::len).sum();
    assert_eq!(Place::counts(hub)?, (count as u64, 0), "records and cases");
    let trial = hub.get("/v1/ledger/trial-balance")?.json()?;
    assert_eq!(trial["currencies"]["GBP"]["difference_minor"], json!(0), "{trial}");
    let balances = hub.get("/v1/ledger/balances")?.json()?;
    let balances = balances["balances"].as_object().into_iter().flatten();
    let assets = balances.filter(|(account, _)| account.starts_with("Assets:"));
    let assets: i64 = assets.filter_map(|(_, minor)| minor.as_i64()).sum();
    assert_eq!(assets, work.values().map(|work| net_minor(work)).sum::<i64>(), "money that came in");
    for last in work.values().filter_map(|work| work.last()).take(A_STORE) {
        same_content(&hub.get(&format!("/v1/transactions/{}", last.receipt))?.json()?, last)?;
    }
    Ok(())
}

fn store(till: usize) -> String {
    format!("store-{:03}", till / A_STORE)
}

fn name(till: usize) -> String {
    format!("till-{till:04}")
}

fn online(hub: &mut Http) -> Outcome<u64> {
    let stores = hub.get("/v1/stores")?.json()?;
    Ok(stores.as_array().into_iter().flatten().filter_map(|store| store["online"].as_u64()).sum())
}

/// Resident memory of this process, bytes.
fn own_memory() -> Outcome<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).ok_or("the system does not say VmRSS")?;
    Ok(kib.parse::<u64>()? * 1_024)
}

/// Which part of a core the hub takes while something is done.
fn load_during(place: &Place, work: impl FnOnce() -> Outcome<()>) -> Outcome<u64> {
    let pid = place.hub()?.pid();
    let (before, start) = (processor_ns(pid)?, Instant::now());
    work()?;
    let (took, used) = (nanos(start.elapsed()), processor_ns(pid)?.saturating_sub(before));
    Ok(u64::try_from(u128::from(used) * 100_000 / u128::from(took.max(1)))?)
}

/// Processor time of all threads of a process, ns; `stat` counts hundredths of a second only.
fn processor_ns(pid: u32) -> Outcome<u64> {
    let mut sum = 0;
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while it is looked at.
        let Ok(text) = std::fs::read_to_string(thread?.path().join("schedstat")) else { continue };
        sum += text.split_whitespace().next().unwrap_or("0").parse::<u64>()?;
    }
    Ok(sum)
}
