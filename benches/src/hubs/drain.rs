//! What tills captured while no hub ran reaches the hubs, all of it at once: until every till says that nothing waits, until the
//! journals in the logs have posted all of it, and until the books stand there as tables; and the very rows that came of it
//! brought into the same server by its own COPY.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Sizes;
use super::books::{Books, Copied, What};
use super::chain::{Chain, Kept, LOOK_EVERY, Used};
use super::figures::{Figures, row};
use crate::Outcome;
use crate::process::until;
use crate::shop::check_books;
use crate::stats::{nanos, per_second};

/// Heads of the columns of COPY.
const COPIES: [(&str, What); 3] =
    [(LOGS, What::Logs), ("COPY of them, 1 connection a log", What::LogsApart), (ALL, What::AllTables)];
/// Those that hubs are held against.
pub const LOGS: &str = "COPY of the logs' rows";
pub const ALL: &str = "COPY of all tables";

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
    chain.stop_hubs()?;
    let work = chain.work(sizes.drain, round);
    let records: usize = work.iter().map(|(_, transactions)| transactions.len()).sum();
    chain.capture(&work)?;
    chain.stop_tills()?;
    chain.start_hubs()?;

    let column = kept.name();
    let mut say = |row, value| figures.add(row, &column, value);
    let each = |sum: u64| sum / records.max(1) as u64;
    let mut books = if kept == Kept::Files { None } else { Some(Books::open(&chain)?) };
    let (mark, used, start) = (books.as_mut().map(Books::mark).transpose()?, chain.used()?, Instant::now());
    let mut done = chain.start_tills()?;
    done.sort_unstable();
    let last = done.last().copied().unwrap_or(Duration::ZERO);
    say(row::ACKNOWLEDGED, per_second(records, last));
    say(row::HALF, nanos(done.get(done.len() / 2).copied().unwrap_or(last)));
    say(row::LAST, nanos(last));
    if let (Some(books), Some(mark)) = (&mut books, mark) {
        books.until_posted(records)?;
        say(row::BOOKS, per_second(records, start.elapsed()));
        until_told(&chain, used, &mut say, &each, row::CPU_BOOKS)?;
        books.until_followed()?;
        say(row::TABLES, per_second(records, start.elapsed()));
        until_told(&chain, used, &mut say, &each, row::CPU_TABLES)?;
        let after = books.mark()?;
        say(row::WAL, each(after.wal - mark.wal));
        say(row::ROWS, 1_000 * (after.rows - mark.rows) / records as u64);
        say(row::ROW_BYTES, each(after.bytes - mark.bytes));
        say(row::ENTRY_DISK, each(after.entry_disk - mark.entry_disk));
        say(row::TABLE_DISK, each(after.table_disk - mark.table_disk));
        say(row::CONNECTIONS, books.connections()?.values().sum());
    } else {
        let mut http = chain.ask(0)?;
        until("all records in the books", LOOK_EVERY, || Ok(Chain::records(&mut http)? == records as u64))?;
        say(row::BOOKS, per_second(records, start.elapsed()));
        until_told(&chain, used, &mut say, &each, row::CPU_BOOKS)?;
    }

    let mut http = chain.ask(0)?;
    until(
        "all records seen by head office",
        LOOK_EVERY,
        || Ok(Chain::records(&mut http)? == records as u64),
    )?;
    check_books(&mut http, &work, 0)?;
    chain.stop_tills()?;
    chain.stop_hubs()?;
    let Some(mut books) = books else { return Ok(()) };
    for (column, what) in COPIES {
        let Copied { took, server, wal } = books.copy(&chain, what)?;
        let (rate, cpu) = if what == What::AllTables {
            (row::TABLES, row::CPU_TABLES[2])
        } else {
            (row::ACKNOWLEDGED, row::CPU_BOOKS[2])
        };
        figures.add(rate, column, per_second(records, took));
        figures.add(cpu, column, each(server));
        figures.add(row::WAL, column, each(wal));
    }
    Ok(())
}

/// Processor time a record by who used it.
fn until_told(
    chain: &Chain,
    before: Used,
    say: &mut impl FnMut(&'static str, u64),
    each: &impl Fn(u64) -> u64,
    rows: [&'static str; 3],
) -> Outcome<()> {
    // The tills started after `before`: all of theirs counts.
    let Used { hubs, tills, server } = chain.used()?.since(Used { tills: 0, ..before });
    for (row, used) in rows.into_iter().zip([hubs, tills, server]) {
        say(row, each(used));
    }
    Ok(())
}
