//! Tills that are online. One record at a time at one till after the other: how long until the till says that a hub has it. Then
//! all tills at once, each one record at a time: what a record costs that travels alone. Then nobody sells: what hubs cost the
//! database while nothing happens.

use std::path::Path;
use std::time::Instant;

use super::Sizes;
use super::books::Books;
use super::chain::{Chain, Kept, Used};
use super::figures::{Figures, row};
use crate::Outcome;
use crate::live::ask_until_there;
use crate::shop::check_books;
use crate::stats::{Measure, Samples, nanos, per_second};
use crate::workload::{Transaction, transactions};

/// A round.
///
/// # Errors
/// A node does not start, or something does not arrive as it was handed over.
pub fn measure(
    program: &Path,
    postgres: &Path,
    sizes: &Sizes,
    kept: Kept,
    round: u64,
    figures: &mut Figures,
) -> Outcome<()> {
    let mut chain = Chain::found(program, postgres, kept)?;
    chain.enrol(sizes.tills)?;
    chain.start_hubs()?;
    let column = kept.name();
    let mut say = |row, value| figures.add(row, &column, value);

    let each = sizes.live.div_ceil(sizes.tills);
    let [mut saved, mut at_hub] = [(); 2].map(|()| Samples::default());
    let alone: Vec<Vec<Transaction>> =
        chain.tills.iter().map(|till| transactions(&till.name, each, 3 * round)).collect();
    for (counter, transactions) in chain.tills.iter().zip(&alone) {
        let (mut http, mut asked) = (counter.till.ask()?, counter.till.ask()?);
        // Where its store went while the hubs shared the logs, the till may still be on its way.
        counter.until_done()?;
        for transaction in transactions {
            let from = Instant::now();
            let answer = http.post("/v1/transactions", "application/json", transaction.json.as_bytes())?;
            saved.push(from.elapsed());
            assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
            at_hub.push(ask_until_there(&mut asked, transaction, false, from)?.0);
        }
    }
    for (rows, samples) in [(row::SAVED, saved), (row::AT_HUB, at_hub)] {
        let Measure { p50_ns, p99_ns, .. } = samples.latency();
        for (row, value) in rows.into_iter().zip([p50_ns, p99_ns]) {
            say(row, value.unwrap_or(0));
        }
    }

    let busy = chain
        .tills
        .iter()
        .map(|till| (till.name.clone(), transactions(&till.name, sizes.busy / sizes.tills, 3 * round + 1)));
    let busy: Vec<_> = busy.collect();
    let records: usize = busy.iter().map(|(_, transactions)| transactions.len()).sum();
    let a_record = |sum: u64| sum / records.max(1) as u64;
    let mut books = if kept == Kept::Files { None } else { Some(Books::open(&chain)?) };
    let posted = match &mut books {
        Some(books) => {
            books.until_posted(alone.iter().map(Vec::len).sum())?;
            books.until_followed()?;
            books.posted()?
        }
        None => 0,
    };
    std::thread::sleep(sizes.rests);
    let mark = books.as_mut().map(|books| Outcome::Ok((books.mark()?, books.commits()?))).transpose()?;
    let (used, start) = (chain.used()?, Instant::now());
    chain.each(|at, counter| {
        let mut http = counter.till.ask()?;
        for transaction in &busy[at].1 {
            let answer = http.post("/v1/transactions", "application/json", transaction.json.as_bytes())?;
            assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
        }
        counter.until_done()
    })?;
    say(row::BUSY, per_second(records, start.elapsed()));
    if let (Some(books), Some((mark, commits))) = (&mut books, mark) {
        books.until_posted(posted + records)?;
        books.until_followed()?;
        let Used { hubs, tills, server } = chain.used()?.since(used);
        for (row, value) in row::BUSY_CPU.into_iter().zip([hubs, tills, server]) {
            say(row, a_record(value));
        }
        // The server counts commits a second late.
        std::thread::sleep(sizes.rests);
        let after = books.mark()?;
        say(row::BUSY_WAL, a_record(after.wal - mark.wal));
        say(row::BUSY_ROWS, 1_000 * (after.rows - mark.rows) / records as u64);
        say(row::BUSY_ROW_BYTES, a_record(after.bytes - mark.bytes));
        say(row::BUSY_COMMITS, 1_000 * (books.commits()?.saturating_sub(commits)) / records as u64);
        say(
            row::BUSY_DISK,
            a_record(after.entry_disk + after.table_disk - mark.entry_disk - mark.table_disk),
        );
    } else {
        let Used { hubs, tills, .. } = chain.used()?.since(used);
        say(row::BUSY_CPU[0], a_record(hubs));
        say(row::BUSY_CPU[1], a_record(tills));
    }
    let mut work = busy;
    for ((_, transactions), alone) in work.iter_mut().zip(alone) {
        transactions.splice(0..0, alone);
    }
    check_books(&mut chain.ask(0)?, &work, 0)?;
    idle(&mut chain, sizes, &mut say, books)
}

/// Nobody sells.
fn idle(
    chain: &mut Chain,
    sizes: &Sizes,
    say: &mut impl FnMut(&'static str, u64),
    books: Option<Books>,
) -> Outcome<()> {
    let Some(mut books) = books else { return Ok(()) };
    std::thread::sleep(sizes.rests);
    let (used, wal, commits, start) = (chain.used()?, books.wal()?, books.commits()?, Instant::now());
    std::thread::sleep(sizes.idle);
    let (now, took) = (chain.used()?.since(used), start.elapsed());
    let a_second = |sum: u64| {
        u64::try_from(u128::from(sum) * 1_000_000_000 / u128::from(nanos(took).max(1))).unwrap_or(u64::MAX)
    };
    // Nanoseconds a second, as thousandths of a hundredth of a core.
    say(row::IDLE_CPU[0], a_second(now.hubs) / 10_000);
    say(row::IDLE_CPU[1], a_second(now.server) / 10_000);
    say(row::IDLE_WAL, a_second(books.wal()? - wal));
    say(row::IDLE_COMMITS, a_second(books.commits()?.saturating_sub(commits)));
    for (purpose, count) in books.connections()? {
        if let Some((_, row)) = row::PURPOSES.iter().find(|(name, _)| *name == purpose) {
            say(row, count);
        }
    }
    Ok(())
}
