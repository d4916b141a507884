//! The books alone, without disk or network: many records at once, and one more on a history.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use engine::ids::{LogId, RecordId, StoreId, WriterId};
use engine::ledger::Books;
use engine::record::{Place, Record};
use engine::time;
use engine::transaction::Draft;
use node::hub::base_policy;

use crate::stats::{Measure, Samples};
use crate::table::row;
use crate::workload::transactions;
use crate::{Outcome, Sizes};

/// Tills that wrote the history.
const TILLS: usize = 8;
/// First instant: 2026-11-23T00:00:00Z.
const START_MS: i64 = 1_795_392_000_000;
/// The shop's trade is spread over this many milliseconds of one day.
const DAY_MS: usize = 80_000_000;

/// Books in bulk, then one more at a time, on every history.
///
/// # Errors
/// The workload is refused.
pub fn measure(sizes: &Sizes, round: u64) -> Outcome<Vec<(&'static str, Measure)>> {
    let today = time::Instant::utc(START_MS).day();
    let largest = sizes.histories.last().copied().unwrap_or(0);
    let mut rows = Vec::new();
    for (at, history) in sizes.histories.iter().enumerate() {
        let records = records(*history + sizes.more, largest + sizes.more, round)?;
        let mut books = Books::new("high-street".parse()?, base_policy("GBP".parse()?));
        let (many, more) = records.split_at(*history);
        let start = Instant::now();
        for record in many {
            books.insert(Arc::clone(record), &[]);
        }
        let filed = start.elapsed();
        let settled = books.settle(today);
        let took = start.elapsed();
        assert_eq!((books.len(), settled.cases.len()), (many.len(), 0), "records in the books, and cases");
        let mut samples = Samples::default();
        for record in more {
            let from = Instant::now();
            books.insert(Arc::clone(record), &[]);
            let settled = books.settle(today);
            samples.push(from.elapsed());
            assert!(settled.cases.is_empty() && !settled.journal.is_empty(), "a record is posted at once");
        }
        for (currency, (debits, credits)) in books.trial_balance() {
            assert_eq!(debits, credits, "debits and credits in {currency}");
        }
        match history {
            10_000 => rows.push((row::BOOKS_SMALL, Measure::whole(many.len(), took))),
            100_000 => rows.extend([
                (row::BOOKS_LARGE, Measure::whole(many.len(), took)),
                (row::BOOKS_FILING, Measure::whole(many.len(), filed)),
            ]),
            _ => {}
        }
        rows.push((row::ONE_MORE[at], samples.latency()));
    }
    Ok(rows)
}

/// Records of eight tills, in the order in which they happened; `of` says how many share the day.
fn records(count: usize, of: usize, seed: u64) -> Outcome<Vec<Arc<Record>>> {
    let store: StoreId = "high-street".parse()?;
    let mut tills = Vec::new();
    for number in 0..TILLS {
        let name = format!("till-{:02}", number + 1);
        let log = LogId { terminal: name.parse()?, incarnation: 1 };
        tills.push((log, transactions(&name, count.div_ceil(TILLS), seed)));
    }
    let mut last: BTreeMap<usize, (u64, RecordId)> = BTreeMap::new();
    let mut records = Vec::with_capacity(count);
    for number in 0..count {
        let till = number % TILLS;
        let (log, work) = &tills[till];
        let at = time::Instant::utc(START_MS + i64::try_from(number * DAY_MS / of.max(1))?);
        let (seq, prev) = last.get(&till).map_or((1, None), |(seq, id)| (seq + 1, Some(*id)));
        let place = Place {
            store: store.clone(),
            writer: WriterId([u8::try_from(till)?; 32]),
            log: log.clone(),
            seq,
            prev,
            business_day: at.day(),
            at,
            effective_ms: at.ms,
        };
        let draft = Draft::from_json(&work[number / TILLS].json)?;
        let record = Record::new(place, draft.transaction);
        last.insert(till, (seq, record.id));
        records.push(Arc::new(record));
    }
    Ok(records)
}
