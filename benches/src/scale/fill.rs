//! A history that tills have written: eight of them, business day after business day, sealed and signed as tills seal and
//! put into the hub's log as if it had arrived. A day has so many records at most, so that more history is more days,
//! and no reversal is further from its sale than three weeks.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

use ed25519_dalek::SigningKey;
use engine::batch::{Batch, BatchEntry, Sealed};
use engine::document::Document;
use engine::entry::{AdmittedBatch, Entry as LogEntry};
use engine::ids::{LogId, RecordId, TerminalId, WriterId};
use engine::replica::records_of;
use engine::time::{Day, Instant};
use engine::transaction::{Body, Draft, Enrolment, HubRecord, Transaction as Recorded};
use node::identity::NodeKey;
use node::runtime::clock::Clock;
use node::storage::{Entry, Options, Storage};

use super::place::STORE;
use crate::Outcome;
use crate::workload::{Transaction, transactions};

/// Tills that wrote the history.
pub const TILLS: usize = 8;
/// Most records of a business day, all tills together.
const A_DAY: usize = 4_000;
/// Days that one seed's workload is spread over: fewer than a refund may come after its sale.
const DAYS_A_SEED: usize = 20;
/// Most records of a batch.
const BATCH: usize = 100;
/// The shop opens at eight and trades for twelve hours.
const OPENS_MS: i64 = 8 * 3_600_000;
const TRADES_MS: i64 = 12 * 3_600_000;
const DAY_MS: i64 = 86_400_000;
/// Batches that go into the log at once.
const APPEND: usize = 16;

/// What was written.
#[derive(Default)]
pub struct Filled {
    /// Records.
    pub records: usize,
    /// What they brought in, minor units.
    pub net_minor: i64,
    /// The last of every till, as it was handed over.
    pub last: Vec<Option<Transaction>>,
}

/// A till in the making.
struct Till {
    name: String,
    key: SigningKey,
    log: LogId,
    head: (u64, Option<RecordId>),
    /// What it still sells in this run of days, the next last.
    work: Vec<Transaction>,
}

impl Till {
    fn new(number: usize) -> Outcome<Self> {
        let name = format!("past-{:02}", number + 1);
        let key = SigningKey::from_bytes(&[u8::try_from(number)? + 101; 32]);
        let log = LogId { terminal: name.parse()?, incarnation: 1 };
        Ok(Self { name, key, log, head: (1, None), work: Vec::new() })
    }

    fn writer(&self) -> WriterId {
        WriterId(self.key.verifying_key().to_bytes())
    }

    /// Voids belong to the day of their sale; here they would come days later.
    fn order(&mut self, wanted: usize, seed: u64, names: &mut HashSet<u64>) {
        let made = transactions(&self.name, wanted + wanted / 10 + 50, seed).into_iter();
        self.work = made.filter(|one| !one.json.contains(r#""kind":"void""#)).take(wanted).collect();
        self.work.reverse();
        self.work.iter_mut().for_each(|one| name_once(one, names));
    }

    fn seal(
        &mut self,
        day: Day,
        index: usize,
        work: Vec<Recorded>,
        at: impl Fn(usize) -> i64,
    ) -> Outcome<Sealed> {
        let count = work.len() as u64;
        let entries = work.into_iter().enumerate().map(|(number, transaction)| BatchEntry {
            at: Instant::utc(at(number)),
            effective_later_ms: 0,
            transaction,
        });
        let batch = Batch {
            store: STORE.parse()?,
            writer: self.writer(),
            log: self.log.clone(),
            nonce: [1; 16],
            day,
            index: u32::try_from(index)?,
            first_seq: self.head.0,
            prev: self.head.1,
            seen: Vec::new(),
            entries: entries.collect(),
        };
        let sealed = Sealed::seal(batch, &self.key);
        self.head = (self.head.0 + count, records_of(&sealed).last().map(|record| record.id));
        Ok(sealed)
    }
}

/// Names of carts and payments are drawn by chance, and in a million draws some come twice, which the books would ask
/// about: the second gets another.
fn name_once(transaction: &mut Transaction, names: &mut HashSet<u64>) {
    for field in [r#""idempotency_key":""#, r#""payment":""#] {
        let text = transaction.json.split_once(field).and_then(|(_, rest)| rest.split_once('"'));
        let Some((name, _)) = text else { continue };
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        if !names.insert(hasher.finish()) {
            let (old, new) = (format!("{field}{name}"), format!("{field}{name}-{}", names.len()));
            transaction.json = transaction.json.replacen(&old, &new, 1);
        }
    }
}

/// Makes a history of so many records that ends yesterday and gives every batch to `each`.
///
/// # Errors
/// The workload is refused, or `each` fails.
pub fn batches(
    records: usize,
    seed: u64,
    today: Day,
    mut each: impl FnMut(Sealed) -> Outcome<()>,
) -> Outcome<Filled> {
    let mut tills: Vec<Till> = (0..TILLS).map(Till::new).collect::<Outcome<_>>()?;
    let (days, mut names) = (records.div_ceil(A_DAY), HashSet::new());
    let mut filled = Filled { last: vec![None; TILLS], ..Filled::default() };
    for number in 0..days {
        let day = today.plus(i32::try_from(number)? - i32::try_from(days)?);
        let of_day = A_DAY.min(records - number * A_DAY);
        let share = |till: usize| (of_day + TILLS - 1 - till) / TILLS;
        for (at, till) in tills.iter_mut().enumerate() {
            if number.is_multiple_of(DAYS_A_SEED) {
                let run = seed * 1_000 + u64::try_from(number / DAYS_A_SEED)?;
                till.order(A_DAY / TILLS * DAYS_A_SEED, run, &mut names);
            }
            let opens_ms = i64::from(day.0) * DAY_MS + OPENS_MS + i64::try_from(at)?;
            let step_ms = TRADES_MS / i64::try_from(share(at).max(1))?;
            for (index, first) in (0..share(at)).step_by(BATCH).enumerate() {
                let sold = till.work.split_off(till.work.len() - BATCH.min(share(at) - first));
                filled.records += sold.len();
                filled.net_minor += crate::workload::net_minor(&sold);
                filled.last[at] = sold.first().cloned();
                let drafts = sold.iter().rev().map(|one| Ok(Draft::from_json(&one.json)?.transaction));
                let at_ms = |number: usize| opens_ms + step_ms * i64::try_from(first + number).unwrap_or(0);
                each(till.seal(day, index, drafts.collect::<Outcome<_>>()?, at_ms)?)?;
            }
        }
    }
    Ok(filled)
}

/// Writes a history into the log of a hub that does not run.
///
/// # Errors
/// The workload is refused, or the disk is.
pub fn hub(dir: &Path, records: usize, seed: u64) -> Outcome<Filled> {
    let own = NodeKey::load(dir)?.ok_or("the hub has no key")?.signing_key().clone();
    let (storage, _) = Storage::open(dir, &Options::default())?;
    let today = Clock::in_zone("Europe/London")?.now().day();
    let (mut document, mut entries): (Option<(Day, Document)>, Vec<Entry>) = (None, Vec::new());
    let mut write = |sealed: Sealed| -> Outcome<()> {
        let (day, store) = (sealed.batch.day, sealed.batch.store.clone());
        if document.as_ref().is_none_or(|(of, _)| *of != day) {
            document = Some((day, Document::new(store.clone(), day)));
        }
        let (_, document) = document.as_mut().ok_or("a day has a document")?;
        let prepared = document.prepare(sealed.batch.writer, sealed.batch.session(), &sealed.bytes);
        document.admit_unread(&prepared);
        let admitted_ms = sealed.batch.entries.last().map_or(0, |entry| entry.at.ms);
        let from = Some(sealed.batch.writer);
        let bytes = sealed.bytes.to_vec();
        let entry = LogEntry::Batch(AdmittedBatch { admitted_ms, from, change: prepared.id(), bytes });
        let (kind, bytes) = entry.encode(&store);
        entries.push(Entry { kind, bytes });
        if entries.len() == APPEND {
            storage.append_blocking(std::mem::take(&mut entries))?;
        }
        Ok(())
    };
    let before = today.plus(-i32::try_from(records.div_ceil(A_DAY))? - 1);
    write(enrolments(own, before)?)?;
    let filled = batches(records, seed, today, &mut write)?;
    if !entries.is_empty() {
        storage.append_blocking(entries)?;
    }
    storage.close()?;
    Ok(filled)
}

/// The hub's word that the tills are its own, of the day before the first.
fn enrolments(key: SigningKey, day: Day) -> Outcome<Sealed> {
    let log = LogId { terminal: TerminalId::hub(), incarnation: 1 };
    let mut hub = Till { name: String::new(), key, log, head: (1, None), work: Vec::new() };
    let mut records = Vec::new();
    for number in 0..TILLS {
        let till = Till::new(number)?;
        let enrolment = Enrolment { log: till.log.clone(), writer: till.writer() };
        records.push(Recorded {
            receipt: format!("enrol-{}", till.name),
            operator: None,
            idempotency_key: None,
            offline: false,
            body: Body::Hub(HubRecord::Enrol(enrolment)),
        });
    }
    hub.seal(day, 0, records, |_| i64::from(day.0) * DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_has_the_records_that_were_asked_for_and_more_days_not_longer_ones() {
        for (wanted, days) in [(9, 1), (4_001, 2), (9_000, 3)] {
            let (mut seen, mut count) = (std::collections::BTreeSet::new(), 0);
            let filled = batches(wanted, 1, Day(20_000), |sealed| {
                seen.insert(sealed.batch.day);
                count += sealed.batch.entries.len();
                Ok(())
            });
            assert_eq!((filled.unwrap().records, count, seen.len()), (wanted, wanted, days));
        }
    }
}
