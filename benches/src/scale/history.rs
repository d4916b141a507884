//! More and more records in one store, at a real hub with a real till, both processes over loopback: what a sale, a start,
//! a reconnect and a page cost then. Eight tills wrote the history; the one that is measured joined today and has taken
//! everything over. Every step counts what arrived, and at the end everything is there.

use std::collections::BTreeMap;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use engine::ledger::{Books, Settled, WorkLimits};
use engine::replica::records_of;
use node::hub::base_policy;
use node::runtime::clock::Clock;
use serde_json::{Value, json};

use super::fill::{self, Filled};
use super::place::{PATIENCE, Place, STORE, Till};
use super::sheet::{Reading, Unit};
use super::{Said, Steps};
use crate::Outcome;
use crate::http::Http;
use crate::live::ask_until_there;
use crate::relay::Relay;
use crate::shop::{post_lines, same_content};
use crate::stats::{Samples, per_second};
use crate::workload::{Transaction, net_minor, transactions};

const NAME: &str = "till-01";
/// Unmeasured transactions at first.
const WARM_UP: usize = 20;
/// Lines of a POST of NDJSON.
const LINES: usize = 100;
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// The names of carts, payments and authorisations have twelve digits: of many more records chance gives some the same name, and
/// they are cases then.
const NAMES_DIFFER_UP_TO: usize = 1_000_000;
/// A conversation in which nothing is new is over after so long a silence.
const SILENCE: Duration = Duration::from_millis(500);

/// All measures over so many records.
///
/// # Errors
/// A node does not start, or something does not arrive as it was handed over.
pub fn measure(program: &Path, steps: &Steps, records: usize, round: u64) -> Outcome<Vec<Reading>> {
    let mut said = Said::default();
    one_more(&mut said, steps, records, round)?;
    let (mut place, filled) = filled(&mut said, program, records, round)?;
    let dir = place.enrol(&mut place.ask()?, STORE, NAME)?;
    let start = Instant::now();
    let mut till = Till::start(program, dir)?;
    level(&place, &till)?;
    said.push(
        "history-take-over",
        "a new till gets everything",
        Unit::Rate,
        per_second(records, start.elapsed()),
    );
    let mut work = transactions(NAME, WARM_UP + steps.live + 2 * steps.captured, 1_000_000 + round);
    let captured = work.split_off(WARM_UP + steps.live);
    live(&mut said, &place, &till, &work)?;
    memory(&mut said, steps, &place, Some(&till), ["hub, after live sales", "till, after live sales"])?;
    capture(&mut said, &mut place, &till, &captured, filled.records + work.len())?;
    work.extend(captured);
    restarts(&mut said, &mut place, Some(&mut till), filled.records + work.len())?;
    level(&place, &till)?;
    memory(&mut said, steps, &place, Some(&till), ["hub, restarted", "till, restarted"])?;
    resync(&mut said, steps, &place, &mut till)?;
    console(&mut said, steps, &mut place)?;
    check(&place, &till, &filled, &work)?;
    till.end(true)?;
    place.end_hub(true)?;
    Ok(said.0)
}

/// Only the start and the memory of a hub with so many records.
///
/// # Errors
/// The hub does not start, or has not everything.
pub fn opened(program: &Path, steps: &Steps, records: usize, round: u64) -> Outcome<Vec<Reading>> {
    let mut said = Said::default();
    let (mut place, filled) = filled(&mut said, program, records, round)?;
    restarts(&mut said, &mut place, None, filled.records)?;
    memory(&mut said, steps, &place, None, ["hub, restarted", ""])?;
    Ok(said.0)
}

/// Founds a company with a history; its hub runs, and has judged it.
fn filled(said: &mut Said, program: &Path, records: usize, round: u64) -> Outcome<(Place, Filled)> {
    let mut place = Place::found(program)?;
    let filled = fill::hub(&place.hub_dir(), records, round)?;
    let start = Instant::now();
    place.start_hub()?;
    let (there, cases) = Place::counts(&mut place.ask()?)?;
    said.time("history-restart", "hub's first start, which judges everything", start.elapsed());
    assert_eq!(there, filled.records as u64, "records of the history");
    let types = if cases == 0 { BTreeMap::new() } else { case_types(&mut place.ask()?)? };
    assert!(cases == 0 || records > NAMES_DIFFER_UP_TO, "cases of a history: {types:?}");
    if cases > 0 {
        eprintln!("cases: {types:?}");
    }
    Ok((place, filled))
}

/// How many cases of each type the hub has.
fn case_types(hub: &mut Http) -> Outcome<BTreeMap<String, usize>> {
    let cases = hub.get("/v1/cases?state=open")?.json()?;
    let mut types = BTreeMap::new();
    for case in cases.as_array().into_iter().flatten() {
        *types.entry(case["type"].as_str().unwrap_or("?").to_owned()).or_default() += 1;
    }
    Ok(types)
}

/// Books in memory: one more record on the history, filed and judged.
fn one_more(said: &mut Said, steps: &Steps, records: usize, round: u64) -> Outcome<()> {
    let today = Clock::in_zone("Europe/London")?.now().day();
    let mut books = Books::new(STORE.parse()?, base_policy("GBP".parse()?));
    let mut samples = Samples::default();
    let (mut filed, mut slowest) = (0, Duration::ZERO);
    let at_once = WorkLimits::default().families_at_once;
    // The books stand at `records` when those begin that are timed.
    fill::batches(records + steps.more, round, today, |sealed| {
        for record in records_of(&sealed) {
            let from = Instant::now();
            books.insert(record.into(), &[]);
            filed += 1;
            if filed > records {
                let settled = books.settle(today);
                let took = from.elapsed();
                samples.push(took);
                slowest = slowest.max(took);
                assert!(!settled.journal.is_empty(), "a record is posted at once");
            } else if filed == records {
                // In portions, as a node does it.
                while books.settle_part(today, at_once, &mut Settled::default()) {}
            }
        }
        Ok(())
    })?;
    let cases: Vec<_> = books.cases().collect();
    assert!(cases.is_empty(), "{} cases, the first: {:?}", cases.len(), cases.first());
    assert_eq!(books.len(), records + steps.more, "records in the books");
    said.latency("history-books", ["one more record, p50", "one more record, p99"], samples);
    said.time("history-books", "one more record, the slowest of them", slowest);
    Ok(())
}

/// One at a time, online, from the POST at the till until it is in the hub's books.
fn live(said: &mut Said, place: &Place, till: &Till, work: &[Transaction]) -> Outcome<()> {
    let (mut http, mut hub) = (till.ask()?, place.ask()?);
    let [mut saved, mut books] = [(); 2].map(|()| Samples::default());
    for (at, transaction) in work.iter().enumerate() {
        let from = Instant::now();
        let answer = http.post("/v1/transactions", "application/json", transaction.json.as_bytes())?;
        let saved_after = from.elapsed();
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        let (there_after, _) = ask_until_there(&mut hub, transaction, true, from)?;
        if at >= WARM_UP {
            saved.push(saved_after);
            books.push(there_after);
        }
    }
    said.latency("history-live", ["saved at the till, p50", "saved at the till, p99"], saved);
    said.latency("history-live", ["in the hub's books, p50", "in the hub's books, p99"], books);
    Ok(())
}

/// Capture while the hub is away, singly and in lines; then everything arrives.
fn capture(
    said: &mut Said,
    place: &mut Place,
    till: &Till,
    work: &[Transaction],
    before: usize,
) -> Outcome<()> {
    place.end_hub(true)?;
    let mut http = till.ask()?;
    let (singly, in_lines) = work.split_at(work.len() / 2);
    let start = Instant::now();
    for transaction in singly {
        let answer = http.post("/v1/transactions", "application/json", transaction.json.as_bytes())?;
        assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    }
    said.push("history-capture", "one at a time", Unit::Rate, per_second(singly.len(), start.elapsed()));
    let start = Instant::now();
    for chunk in in_lines.chunks(LINES) {
        post_lines(&mut http, chunk)?;
    }
    said.push("history-capture", "100 lines a POST", Unit::Rate, per_second(in_lines.len(), start.elapsed()));
    place.start_hub()?;
    let mut hub = place.ask()?;
    let wanted = (before + work.len()) as u64;
    patiently("what was captured at the hub", || Ok(Place::counts(&mut hub)?.0 == wanted))
}

/// From the start of a process to its first answer, after a clean stop and after it was killed.
fn restarts(said: &mut Said, place: &mut Place, till: Option<&mut Till>, records: usize) -> Outcome<()> {
    for (row, clean) in [("hub, after a clean stop", true), ("hub, after kill -9", false)] {
        place.end_hub(clean)?;
        let start = Instant::now();
        place.start_hub()?;
        let (there, _) = Place::counts(&mut place.ask()?)?;
        said.time("history-restart", row, start.elapsed());
        assert_eq!(there, records as u64, "records after a restart");
    }
    let Some(till) = till else { return Ok(()) };
    for (row, clean) in [("till, after a clean stop", true), ("till, after kill -9", false)] {
        let head = status(till)?["head_seq"].clone();
        till.end(clean)?;
        let start = Instant::now();
        till.again()?;
        let again = status(till)?["head_seq"].clone();
        said.time("history-restart", row, start.elapsed());
        assert_eq!(head, again, "own records of the till after a restart");
    }
    Ok(())
}

fn memory(
    said: &mut Said,
    steps: &Steps,
    place: &Place,
    till: Option<&Till>,
    rows: [&'static str; 2],
) -> Outcome<()> {
    sleep(steps.rests);
    said.bytes("history-memory", rows[0], place.hub()?.memory()?);
    if let Some(till) = till {
        said.bytes("history-memory", rows[1], till.node()?.memory()?);
    }
    Ok(())
}

/// The till comes back with nothing new, and then says nothing: bytes on the wire both ways.
fn resync(said: &mut Said, steps: &Steps, place: &Place, till: &mut Till) -> Outcome<()> {
    till.end(true)?;
    let relay = Relay::start(place.address().parse()?)?;
    till.look_at(&relay.address.to_string())?;
    till.again()?;
    let (start, mut http) = (Instant::now(), till.ask()?);
    patiently("a till that is level", || Ok(is_level(&http.get("/v1/status")?.json()?)))?;
    said.time(
        "history-resync-time",
        "from the till's ready word until it is level, nothing new",
        start.elapsed(),
    );
    let mut passed = sum(&relay);
    loop {
        sleep(SILENCE);
        let now = sum(&relay);
        if now - passed < 500 {
            break;
        }
        passed = now;
    }
    said.bytes("history-resync-bytes", "reconnect with nothing new, handshake included", passed);
    sleep(steps.settles);
    let before = sum(&relay);
    sleep(steps.idle);
    let a_minute = u128::from(sum(&relay) - before) * 60_000 / steps.idle.as_millis().max(1);
    said.bytes("history-resync-bytes", "an idle connection, each minute", u64::try_from(a_minute)?);
    level(place, till)?;
    till.end(true)?;
    till.look_at(place.address())?;
    till.again()
}

fn sum(relay: &Relay) -> u64 {
    relay.bytes().iter().sum()
}

/// The console's first page, right after a start and afterwards.
fn console(said: &mut Said, steps: &Steps, place: &mut Place) -> Outcome<()> {
    place.end_hub(true)?;
    place.start_hub()?;
    let address = &place.hub()?.http;
    let cookie = crate::console::log_in(address, &place.token)?;
    let mut http = Http::connect_as(address, &format!("cookie: {cookie}\r\n"))?;
    let mut look = || -> Outcome<(Duration, String)> {
        let start = Instant::now();
        let answer = http.get("/")?;
        let took = start.elapsed();
        let page = String::from_utf8(answer.body)?;
        assert!(answer.status == 200 && page.contains("Tills online"), "the first page: {}", answer.status);
        Ok((took, page))
    };
    let (start, whole) = (Instant::now(), format!("of {}", fill::TILLS + 1));
    said.time("history-console", "first page after a start", look()?.0);
    // The first look gets what is reckoned by then.
    patiently("a page with every store", || Ok(look()?.1.contains(&whole)))?;
    said.time("history-console", "until it has the whole store", start.elapsed());
    let mut samples = Samples::default();
    for _ in 0..steps.looks {
        samples.push(look()?.0);
    }
    said.latency("history-console", ["first page, p50", "first page, p99"], samples);
    Ok(())
}

/// Everything that was written and sold is in the books of hub and till.
fn check(place: &Place, till: &Till, filled: &Filled, work: &[Transaction]) -> Outcome<()> {
    level(place, till)?;
    let mut hub = place.ask()?;
    let (records, cases) = Place::counts(&mut hub)?;
    assert_eq!((records, cases), ((filled.records + work.len()) as u64, 0), "records and cases");
    let trial = hub.get("/v1/ledger/trial-balance")?.json()?;
    assert_eq!(trial["currencies"]["GBP"]["difference_minor"], json!(0), "{trial}");
    let balances = hub.get("/v1/ledger/balances")?.json()?;
    let balances = balances["balances"].as_object().into_iter().flatten();
    let assets = balances.filter(|(account, _)| account.starts_with("Assets:"));
    let assets: i64 = assets.filter_map(|(_, minor)| minor.as_i64()).sum();
    assert_eq!(assets, filled.net_minor + net_minor(work), "money that came in");
    for last in filled.last.iter().flatten().chain(work.last()) {
        same_content(&hub.get(&format!("/v1/transactions/{}", last.receipt))?.json()?, last)?;
    }
    Ok(())
}

fn status(till: &Till) -> Outcome<Value> {
    Ok(till.ask()?.get("/v1/status")?.json()?)
}

fn is_level(status: &Value) -> bool {
    status["online"] == json!(true) && status["peers"][0]["level"] == json!(true)
}

/// Waits until the till has the books of the hub.
fn level(place: &Place, till: &Till) -> Outcome<()> {
    let mut http = till.ask()?;
    patiently("a till with the hub's books", || {
        let status = http.get("/v1/status")?.json()?;
        if !is_level(&status) {
            return Ok(false);
        }
        // Nodes close connections on which nobody has asked anything for a while.
        Ok(place.ask()?.get("/v1/stores")?.json()?[0]["view_hash"] == status["view_hash"])
    })
}

fn patiently(what: &str, mut holds: impl FnMut() -> Outcome<bool>) -> Outcome<()> {
    let start = Instant::now();
    while !holds()? {
        if start.elapsed() > PATIENCE {
            return Err(format!("{what}: not within {} s", PATIENCE.as_secs()).into());
        }
        sleep(LOOK_EVERY);
    }
    Ok(())
}
