//! Random sets of records: a few tills with bad clocks, partitions, forks, gaps and hasty cashiers, and a hub that
//! decides, locks, revokes, settles and changes its policy. Everything follows from a seed. It makes records; whether
//! they are judged well is for others to say.

mod basket;
mod hub;
mod till;

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::attic::Workroom;
use engine::ids::{LogId, RecordId, StoreId, TerminalId};
use engine::ledger::Books;
use engine::policy::{BlindRefunds, Policy};
use engine::record::{Record, effective_ms};
use engine::time::{Day, Instant};
use engine::transaction::{Body, Transaction};

use crate::chance::Chance;

/// A record with what its writer had newly seen.
pub type Arrival = (Arc<Record>, Vec<(LogId, u64)>);

/// First business day of every set.
pub const FIRST_DAY: Day = Day(20_775);
/// A day after everything: where corrections go.
pub const TODAY: Day = Day(20_780);

const START_MS: i64 = 1_795_000_000_000;
const STEP_MS: i64 = 20_000;

/// A set of records, in the order in which they were made.
pub struct RecordSet {
    /// The records.
    pub arrivals: Vec<Arrival>,
    /// The policy that the store starts from.
    pub policy: Policy,
    /// Books of what was made so far: what reviewers and closing tills look at.
    books: Books,
    chance: Chance,
    step: i64,
}

/// Where a record goes in its log, before it is written.
struct Place {
    log: LogId,
    seq: u64,
    prev: Option<RecordId>,
    at_ms: i64,
    business_day: Day,
}

impl RecordSet {
    /// The set of a seed, made in `steps` steps (about as many records).
    #[must_use]
    pub fn random(seed: u64, steps: usize) -> Self {
        let mut chance = Chance::new(seed, "record set");
        let policy = some_policy(&mut chance);
        let books = Books::in_room(store(), policy.clone(), &Workroom::tightest());
        let mut set = Self { arrivals: Vec::new(), policy, books, chance, step: 0 };
        for _ in 0..steps {
            set.step += 1;
            if set.chance.below(10) < 7 { set.till_step() } else { set.hub_step() }
        }
        set
    }

    /// Empty books under the set's policy.
    #[must_use]
    pub fn empty_books(&self) -> Books {
        Books::in_room(store(), self.policy.clone(), &Workroom::tightest())
    }

    /// The engine's books of the whole set, settled once.
    #[must_use]
    pub fn books(&self) -> Books {
        books_of(&self.arrivals, &self.policy)
    }

    /// The records in some order, some of them twice.
    pub fn shuffled(&self, chance: &mut Chance) -> Vec<Arrival> {
        let mut arrivals = self.arrivals.clone();
        arrivals.extend(self.arrivals.iter().filter(|_| chance.once_in(4)).cloned());
        shuffle(&mut arrivals, chance);
        arrivals
    }

    fn now_ms(&self) -> i64 {
        START_MS + self.step * STEP_MS
    }

    /// Heads of other logs, as a till that was connected to some of them would have seen.
    fn seen(&mut self, own: &LogId) -> Vec<(LogId, u64)> {
        let mut heads: BTreeMap<LogId, u64> = BTreeMap::new();
        for (record, _) in &self.arrivals {
            let head = heads.entry(record.log.clone()).or_default();
            *head = record.seq.max(*head);
        }
        heads.remove(own);
        heads.into_iter().filter(|_| self.chance.once_in(2)).collect()
    }

    /// Writes a record down: its effective time follows from what its writer knew.
    fn push(&mut self, place: Place, transaction: Transaction, seen: Vec<(LogId, u64)>) {
        if let Err(error) = transaction.validate_schema() {
            unreachable!("a generated transaction is well formed: {error}");
        }
        let Place { log, seq, prev, at_ms, business_day } = place;
        let before = self.arrivals.iter().find(|row| Some(row.0.id) == prev).map(|row| row.0.effective_ms);
        let knew = |record: &Record| seen.iter().any(|(log, to)| *log == record.log && record.seq <= *to);
        let horizon = self.arrivals.iter().filter(|row| knew(&row.0)).map(|row| row.0.effective_ms).max();
        let at = Instant::utc(at_ms);
        let record = Arc::new(Record {
            id: RecordId::symbolic(&format!("record {}", self.arrivals.len())),
            store: store(),
            log,
            seq,
            prev,
            business_day,
            at,
            effective_ms: effective_ms(at, before, horizon),
            transaction,
        });
        self.books.insert(Arc::clone(&record), &seen);
        self.arrivals.push((record, seen));
    }

    /// One of the latest sales, refunds and voids.
    fn some_record(&mut self) -> Option<Arc<Record>> {
        self.some_record_where(|record| record.transaction.basket().is_some())
    }

    fn some_record_where(&mut self, fits: impl Fn(&Record) -> bool) -> Option<Arc<Record>> {
        let fitting: Vec<Arc<Record>> =
            self.arrivals.iter().map(|row| Arc::clone(&row.0)).filter(|record| fits(record)).collect();
        let recent = fitting.len().min(8);
        let from = fitting.get(fitting.len() - recent..).filter(|list| !list.is_empty())?;
        Some(Arc::clone(self.chance.pick(from)))
    }

    fn transaction(&mut self, body: Body) -> Transaction {
        let receipt = if self.chance.once_in(14) { "R-dup".to_owned() } else { format!("R-{}", self.step) };
        let idempotency_key = self.chance.once_in(9).then(|| format!("k{}", self.chance.below(3)));
        let operator = self.chance.once_in(3).then(|| "bob".to_owned());
        Transaction { receipt, operator, idempotency_key, offline: self.chance.once_in(4), body }
    }
}

/// The engine's books of some records, settled once.
#[must_use]
pub fn books_of(arrivals: &[Arrival], policy: &Policy) -> Books {
    let mut books = Books::in_room(store(), policy.clone(), &Workroom::tightest());
    for (record, seen) in arrivals {
        books.insert(Arc::clone(record), seen);
    }
    books.settle(TODAY);
    books
}

/// Puts a list into an order of chance.
pub fn shuffle<T>(list: &mut [T], chance: &mut Chance) {
    for at in (1..list.len()).rev() {
        let other = usize::try_from(chance.below(at as u64 + 1)).unwrap_or(at);
        list.swap(at, other);
    }
}

fn store() -> StoreId {
    "s1".parse().expect("a plain name")
}

fn terminal(number: u64) -> TerminalId {
    format!("till-0{number}").parse().expect("a plain name")
}

fn some_policy(chance: &mut Chance) -> Policy {
    let mut policy = Policy::default();
    let (pounds, euros) = (basket::pounds(), basket::euros());
    if chance.once_in(3) {
        policy.refund_limit_minor = None;
    }
    policy.blind_refunds =
        *chance.pick(&[BlindRefunds::Hold, BlindRefunds::Hold, BlindRefunds::Flag, BlindRefunds::Allow]);
    policy.currencies =
        chance.pick(&[vec![], vec![pounds], vec![pounds, euros], vec![pounds, euros]]).clone();
    policy.cash_unit_minor.insert(pounds, *chance.pick(&[1, 5]));
    policy.refund_window_days = *chance.pick(&[0, 1, 90]);
    policy
}
