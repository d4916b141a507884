//! Tillsync as it runs in shops: a process for the hub, one for each till, QUIC between them, their own disks. And its
//! capture alone, without HTTP, for those who compare with libraries.
//!
//! A drain begins with the first till that the hub sees and therefore contains the start of the other tills' processes.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Contender, Drained, Fleet, Held, Last, Lived, Nothing, Promises, Reopened, results};
use crate::Outcome;
use crate::capture::{self, LINES};
use crate::drain::{Work, drained};
use crate::live::ask_until_there;
use crate::process::{Node, until};
use crate::shop::Shop;
use crate::stats::Measure;
use crate::workload::Transaction;

/// How often a node is asked for something that is timed.
const LOOK_EVERY: Duration = Duration::from_millis(3);
/// The line is still if nothing passes for so long: what a meeting says last has been said.
const STILL: Duration = Duration::from_millis(300);
/// Transactions asked for at the till in a row, before as many at the hub.
const TURN: usize = 25;

const PROMISES: Promises =
    Promises { durable: true, encrypted: true, authenticated: true, verified: true, in_the_books: true };

/// Tills of one store share its books: each files what all others sold, within this machine. More of them than this
/// would measure that, and for minutes.
const TOGETHER_MAX: usize = 8;

/// The product.
pub struct Tillsync {
    /// Its program.
    pub program: PathBuf,
    /// A store for each till, so that nothing flows from till to till, as nothing does with the others.
    pub apart: bool,
}

impl Contender for Tillsync {
    fn name(&self) -> &'static str {
        if self.apart {
            results::TILLSYNC
        } else {
            "Tillsync, tills of one store, each gets the others' records"
        }
    }

    fn promises(&self) -> Promises {
        PROMISES
    }

    /// Over HTTP, which is how a till is spoken to.
    fn capture(&self, work: &[Transaction], group: usize) -> Outcome<Option<Measure>> {
        if !self.apart {
            return Ok(None);
        }
        let mut shop = Shop::open(&self.program, 1)?;
        shop.stop_hub()?;
        let till = shop.tills[0].node()?;
        let measure = match group {
            1 => capture::over_http(till, work, 1)?,
            LINES => capture::lines(till, work)?,
            _ => return Ok(None),
        };
        let status = till.connect()?.get("/v1/status")?.json()?;
        assert_eq!(status["head_seq"], json!(work.len()), "records at the till");
        Ok(Some(measure))
    }

    fn open(&self, tills: usize, counted: bool) -> Outcome<Option<Box<dyn Fleet>>> {
        let shop = match (self.apart, counted) {
            (true, _) => Shop::open_apart(&self.program, tills, counted)?,
            // One till is the same either way.
            (false, _) if !(2..=TOGETHER_MAX).contains(&tills) => return Ok(None),
            (false, true) => Shop::open_counted(&self.program, tills)?,
            (false, false) => Shop::open(&self.program, tills)?,
        };
        Ok(Some(Box::new(Company { shop, work: Work::new() })))
    }

    fn needs_relay(&self) -> bool {
        true
    }
}

/// Its capture in this process.
pub struct InProcess;

impl Contender for InProcess {
    fn name(&self) -> &'static str {
        "Tillsync, in process (no HTTP)"
    }

    fn promises(&self) -> Promises {
        PROMISES
    }

    fn capture(&self, work: &[Transaction], group: usize) -> Outcome<Option<Measure>> {
        capture::in_groups(work, group).map(Some)
    }

    fn open(&self, _tills: usize, _counted: bool) -> Outcome<Option<Box<dyn Fleet>>> {
        Ok(None)
    }
}

struct Company {
    shop: Shop,
    /// Everything that was recorded.
    work: Work,
}

impl Company {
    fn passed(&self) -> Option<u64> {
        self.shop.relay.as_ref().map(|relay| relay.bytes().iter().sum())
    }

    /// As [`Company::passed`], once nothing passes any more.
    fn passed_and_still(&self) -> Option<u64> {
        let mut before = self.passed()?;
        loop {
            std::thread::sleep(STILL);
            let now = self.passed()?;
            if now == before {
                return Some(now);
            }
            before = now;
        }
    }

    fn stop_tills(&mut self) -> Outcome<()> {
        self.shop.tills.iter_mut().try_for_each(crate::shop::Till::stop)
    }
}

impl Fleet for Company {
    fn record(&mut self, work: &Work) -> Outcome<()> {
        self.shop.stop_hub()?;
        for (till, (name, transactions)) in self.shop.tills.iter().zip(work) {
            till.capture(transactions)?;
            match self.work.iter_mut().find(|(known, _)| known == name) {
                Some((_, known)) => known.extend_from_slice(transactions),
                None => self.work.push((name.clone(), transactions.clone())),
            }
        }
        Ok(())
    }

    /// The tills have rested before: an outage is longer than the second after which they seal what fills batches.
    fn drain(&mut self) -> Outcome<Drained> {
        std::thread::sleep(REST);
        self.stop_tills()?;
        self.shop.start_hub()?;
        let before = self.passed();
        // A hub in a bulk answers late: whoever asks it for the first link hears of it when much has come already.
        let start = self.shop.start_tills()?;
        let acknowledged = acknowledged(&self.shop, &self.work)?;
        // Each question settles the hub's books: it is asked when the tills have their answer.
        drained(&mut self.shop.ask_hub()?, &self.work)?;
        let books = Instant::now();
        let wire = self.passed_and_still().zip(before).map(|(after, before)| after - before);
        self.shop.check(&self.work)?;
        let peak = self.shop.hub.as_ref().map(Node::peak_memory).transpose()?;
        Ok(Drained { acknowledged: acknowledged - start, books: Some(books - start), wire, peak })
    }

    fn held(&mut self) -> Outcome<Vec<Held>> {
        let mut hub = self.shop.ask_hub()?;
        let arrived = Shop::arrived(&mut hub)?;
        let mut held = Vec::new();
        for (till, transactions) in &self.work {
            let count = usize::try_from(arrived.get(till).copied().unwrap_or(0))?;
            let last = match transactions.last() {
                Some(last) => {
                    Some(Last::View(hub.get(&format!("/v1/transactions/{}", last.receipt))?.json()?))
                }
                None => None,
            };
            held.push(Held { count, last });
        }
        Ok(held)
    }

    /// The tills' processes stop and start again, until each holds the same as the hub: their start is in the time.
    fn again_nothing(&mut self) -> Outcome<Option<Nothing>> {
        self.stop_tills()?;
        let (before, start) = (self.passed_and_still(), Instant::now());
        self.shop.start_tills()?;
        for till in &self.shop.tills {
            let mut http = till.node()?.connect()?;
            until("a till that is level with the hub", LOOK_EVERY, || {
                let status = http.get("/v1/status")?.json()?;
                Ok(status["online"] == json!(true) && status["peers"][0]["level"] == json!(true))
            })?;
        }
        let took = start.elapsed();
        let wire = self.passed_and_still().zip(before).map(|(after, before)| after - before);
        Ok(Some(Nothing { took, wire }))
    }

    fn live(&mut self, work: &[Transaction]) -> Outcome<Option<Lived>> {
        let (mut lived, name) = (Lived::default(), self.shop.tills[0].name.clone());
        let node = self.shop.tills[0].node()?;
        let (mut till, mut asked, mut hub) = (node.connect()?, node.connect()?, self.shop.ask_hub()?);
        until("a till online", LOOK_EVERY, || Ok(till.get("/v1/status")?.json()?["online"] == json!(true)))?;
        let before = self.passed_and_still();
        for (at, transaction) in work.iter().enumerate() {
            let from = Instant::now();
            let answer = till.post("/v1/transactions", "application/json", transaction.json.as_bytes())?;
            if answer.status != 201 {
                return Err(format!("not saved: {}", String::from_utf8_lossy(&answer.body)).into());
            }
            if (at / TURN).is_multiple_of(2) {
                lived.acknowledged.push(ask_until_there(&mut asked, transaction, false, from)?.0);
            } else {
                lived.books.push(ask_until_there(&mut hub, transaction, true, from)?.0);
            }
        }
        lived.wire = self.passed_and_still().zip(before).map(|(after, before)| after - before);
        if let Some((_, known)) = self.work.iter_mut().find(|(known, _)| *known == name) {
            known.extend_from_slice(work);
        }
        Ok(Some(lived))
    }

    fn reopen(&mut self) -> Outcome<Option<Reopened>> {
        self.shop.stop_hub()?;
        let disk_bytes = super::disk_bytes(&self.shop.hub_dir())?;
        let start = Instant::now();
        self.shop.start_hub()?;
        let arrived = Shop::arrived(&mut self.shop.ask_hub()?)?;
        let took = start.elapsed();
        let expected: usize = self.work.iter().map(|(_, transactions)| transactions.len()).sum();
        assert_eq!(arrived.values().sum::<u64>(), expected as u64, "records after the hub's return");
        Ok(Some(Reopened { disk_bytes, took }))
    }
}

/// Tills rest for so long between what they capture and the drain.
const REST: Duration = Duration::from_secs(2);

/// When every till knew that the hub holds its last record. One is asked after the other: a record at the hub stays there.
fn acknowledged(shop: &Shop, work: &Work) -> Outcome<Instant> {
    for (till, (_, transactions)) in shop.tills.iter().zip(work) {
        let Some(last) = transactions.last() else { continue };
        let (mut http, path) = (till.node()?.connect()?, format!("/v1/transactions/{}", last.receipt));
        until("a till's last acknowledgement", LOOK_EVERY, || {
            let there: Value = http.get(&path)?.json()?;
            Ok(there["custody"]["state"] != "saved")
        })?;
    }
    Ok(Instant::now())
}
