//! One transaction at a time, online, from the POST at the till until it is in the hub's books, over QUIC on loopback.
//! Found out by asking without a pause over a kept connection: half of the transactions by asking the hub (it answers
//! from settled books), half by asking the till (custody). Asking takes processor time from the nodes, and the answer
//! is late by up to one question; how long a question takes is a row of its own.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::http::Http;
use crate::shop::Shop;
use crate::stats::{Measure, Samples};
use crate::table::row;
use crate::workload::{Transaction, transactions};
use crate::{Outcome, Sizes};

/// Transactions of one kind in a row before those of the other.
const TURN: usize = 50;
/// Unmeasured transactions at first.
const WARM_UP: usize = 50;
const PATIENCE: Duration = Duration::from_secs(20);

/// A round: as many transactions asked for at the hub as at the till, in turns.
///
/// # Errors
/// A node does not start, or something does not arrive as it was handed over.
pub fn measure(program: &Path, sizes: &Sizes, round: u64) -> Outcome<Vec<(&'static str, Measure)>> {
    let shop = Shop::open(program, 1)?;
    let name = shop.tills[0].name.clone();
    let work = transactions(&name, WARM_UP + 2 * sizes.live, round);
    let mut till = shop.tills[0].node()?.connect()?;
    let mut till_asked = shop.tills[0].node()?.connect()?;
    let mut hub = shop.ask_hub()?;
    let [mut saved, mut books, mut custody, mut poll] = [(); 4].map(|()| Samples::default());
    for (at, transaction) in work.iter().enumerate() {
        let at_hub = (at / TURN).is_multiple_of(2);
        let asked = if at_hub { &mut hub } else { &mut till_asked };
        let from = Instant::now();
        let answer = till.post("/v1/transactions", "application/json", transaction.json.as_bytes())?;
        let saved_after = from.elapsed();
        if answer.status != 201 {
            return Err(format!("not saved: {}", String::from_utf8_lossy(&answer.body)).into());
        }
        let (there_after, last_poll) = ask_until_there(asked, transaction, at_hub, from)?;
        if at < WARM_UP {
            continue;
        }
        saved.push(saved_after);
        if at_hub {
            books.push(there_after);
            poll.push(last_poll);
        } else {
            custody.push(there_after);
        }
    }
    shop.check(&[(name, work)])?;
    Ok(vec![
        (row::LIVE_SAVED, saved.latency()),
        (row::LIVE_CUSTODY, custody.latency()),
        (row::LIVE_BOOKS, books.latency()),
        (row::LIVE_POLL, poll.latency()),
    ])
}

/// Asks until the transaction is there; how long that took since `from`, and the last question alone.
///
/// # Errors
/// It does not arrive as it was handed over.
pub fn ask_until_there(
    asked: &mut Http,
    transaction: &Transaction,
    at_hub: bool,
    from: Instant,
) -> Outcome<(Duration, Duration)> {
    let path = format!("/v1/transactions/{}", transaction.receipt);
    loop {
        let question = Instant::now();
        let answer = asked.get(&path)?;
        let (there_after, question) = (from.elapsed(), question.elapsed());
        if answer.status == 200 {
            let there: Value = answer.json()?;
            if at_hub {
                // In the books means posted, and what is there is what was handed over.
                assert_eq!(there["custody"]["state"], "posted", "{there}");
                crate::shop::same_content(&there, transaction)?;
                return Ok((there_after, question));
            }
            if there["custody"]["state"] != "saved" {
                return Ok((there_after, question));
            }
        }
        if there_after > PATIENCE {
            return Err(format!("{} did not arrive", transaction.receipt).into());
        }
    }
}
