//! How far a business day has come (LEDGER-RULES section 10): for each till complete, missing records, gap, finished;
//! and what a lock through a day would name. It reads the books and changes nothing.

use super::books::Books;
use super::families::Slot;
use crate::ids::{LogId, RecordId};
use crate::review::Case;
use crate::time::Day;
use crate::transaction::LogHead;

/// What is known of a till beside its records: from its status, which it tells every few seconds while something happens, and
/// every two minutes at least while connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Heard {
    /// When it was last heard of, ms since 1970; `None`: never.
    pub at_ms: Option<i64>,
    /// The last number that it said its log has.
    pub head_seq: u64,
}

/// How far a till's day has come. The order is that of urgency, the worst first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DayState {
    /// Numbers are missing before others that are here.
    Gap,
    /// Records are known to exist that have not arrived.
    Missing,
    /// Nothing is known to be missing, but the till has not been heard of since the day: it may hold records.
    Unheard,
    /// The till has not closed the day.
    Open,
    /// The close is here and every number up to it; the Z or a case of severity 1 still wants somebody.
    Complete,
    /// The till made no record on that day.
    NoTrade,
    /// Complete, the Z agrees, and no case of severity 1 names the day.
    Finished,
}

/// A till's day.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TillDay {
    /// The till's log.
    pub log: LogId,
    /// How far it has come.
    pub state: DayState,
    /// Records of the day that are here.
    pub records: u64,
    /// First and last number of the day here.
    pub numbers: Option<(u64, u64)>,
    /// Ranges of numbers that are missing before the last one known.
    pub missing: Vec<(u64, u64)>,
    /// The last close of the day.
    pub close: Option<RecordId>,
    /// Whether the close agrees with the records.
    pub z_agrees: bool,
    /// Open cases of severity 1 that name a record of the day, or its log.
    pub urgent: Vec<String>,
    /// What is known of the till.
    pub heard: Heard,
}

impl TillDay {
    /// How many records are known to exist and have not arrived.
    #[must_use]
    pub fn missing_count(&self) -> u64 {
        self.missing.iter().map(|(first, last)| last - first + 1).sum()
    }
}

impl Books {
    /// Every business day that has a record here, oldest first.
    pub fn business_days(&self) -> impl DoubleEndedIterator<Item = Day> {
        self.facts.days.all()
    }

    /// How far a till's day has come. `now_ms` ages cases; `day_ends_ms` is when the day is over by the shop's clock.
    #[must_use]
    pub fn till_day(&self, log: &LogId, day: Day, heard: Heard, now_ms: i64, day_ends_ms: i64) -> TillDay {
        let of_day = self.facts.days.of_log(day, log);
        let numbers = of_day.map(|of_day| of_day.numbers);
        let close = of_day.and_then(|of_day| of_day.close);
        let closed_at = close.map(|(seq, ..)| seq);
        let known = self.facts.logs.get(log).map_or(0, |known| known.known_to.max(known.head()));
        let known = known.max(heard.head_seq);
        let missing = self.missing_numbers(log, closed_at.unwrap_or(known));
        let head = self.facts.logs.get(log).map_or(0, super::log::Log::head);
        let urgent = self.urgent_cases(log, day, now_ms);
        let z_agrees = close.is_some_and(|(.., slot)| self.z_agrees(slot));
        let traded_after = numbers.is_some_and(|numbers| closed_at.is_some_and(|closed| numbers.1 > closed));
        let later = self.facts.logs.get(log).is_some_and(|log| log.latest_day > day);
        let state = match (numbers, closed_at) {
            _ if missing.iter().any(|range| range.1 < head) => DayState::Gap,
            _ if !missing.is_empty() => DayState::Missing,
            (Some(_), Some(_)) if traded_after => DayState::Open,
            (Some(_), Some(_)) if z_agrees && urgent.is_empty() => DayState::Finished,
            (Some(_), Some(_)) => DayState::Complete,
            (Some(_), None) => DayState::Open,
            (None, _) if later || heard.at_ms.is_some_and(|at| at >= day_ends_ms) => DayState::NoTrade,
            (None, _) => DayState::Unheard,
        };
        let close = close.map(|(_, id, _)| id);
        let records = of_day.map_or(0, |of_day| of_day.slots.len() as u64);
        TillDay { log: log.clone(), state, records, numbers, missing, close, z_agrees, urgent, heard }
    }

    /// Business day on which a till's log was enrolled.
    #[must_use]
    pub fn enrolled_on(&self, log: &LogId) -> Option<Day> {
        let record = self.facts.hub.enrolled_by(log)?;
        self.facts.slot(&record).map(|slot| self.facts.record(slot).business_day)
    }

    /// When a till's log was enrolled, ms since 1970.
    pub(crate) fn enrolled_at(&self, log: &LogId) -> Option<i64> {
        let record = self.facts.hub.enrolled_by(log)?;
        self.facts.slot(&record).map(|slot| self.facts.record(slot).at.ms)
    }

    /// How many records wait for a reviewer.
    pub(crate) fn in_review(&self) -> u64 {
        self.outcomes.in_review()
    }

    /// Ranges of numbers up to `last` that are not here.
    fn missing_numbers(&self, log: &LogId, last: u64) -> Vec<(u64, u64)> {
        let known = self.facts.logs.get(log);
        let first = known.map_or(0, |log| log.complete_to) + 1;
        let (mut from, mut missing) = (first, Vec::new());
        for seq in known.into_iter().flat_map(|log| log.numbers_between(first, last)) {
            if seq > from {
                missing.push((from, seq - 1));
            }
            from = from.max(seq + 1);
        }
        if from <= last {
            missing.push((from, last));
        }
        missing
    }

    fn urgent_cases(&self, log: &LogId, day: Day, now_ms: i64) -> Vec<String> {
        let ageing = self.facts.hub.policy(day, super::facts::UNLOCKED).ageing_hours;
        let urgent = |case: &&Case| case.severity_at(now_ms, ageing) == 1;
        self.open_cases_of(day, log).filter(urgent).map(|case| case.id.clone()).collect()
    }

    /// Whether a close agrees with its records. It is a function of what its log has before it, which only grows: reckoned
    /// again when that has, and not whenever somebody asks.
    fn z_agrees(&self, close: Slot) -> bool {
        let record = self.facts.record(close);
        let crate::transaction::Body::DayClose(stated) = &record.transaction.body else { return false };
        let before = self.facts.logs.get(&record.log).map_or(0, |log| log.count_below(record.seq));
        self.z_checked.agrees(close, before, || !self.facts.z_differs(close, stated))
    }

    /// What a lock that leaves `open_day` as the first open day names: of every log the last record of a day before
    /// it. Of a forked log the branch that stands.
    #[must_use]
    pub fn lock_heads(&self, open_day: Day) -> Vec<LogHead> {
        let mut heads = Vec::new();
        for (log, known) in self.facts.logs.iter().filter(|(log, _)| !log.terminal.is_hub()) {
            let covered = known.from(0).filter(|slot| {
                self.facts.record(*slot).business_day < open_day && self.facts.entry(*slot).chain.is_none()
            });
            let order = |slot: &Slot| {
                let record = self.facts.record(*slot);
                (record.seq, std::cmp::Reverse((record.at.ms, record.id)))
            };
            if let Some(head) = covered.max_by_key(order) {
                let record = self.facts.record(head);
                heads.push(LogHead { log: log.clone(), seq: record.seq, id: record.id });
            }
        }
        heads
    }

    /// Number of the next lock of the store.
    #[must_use]
    pub fn next_lock_number(&self) -> u64 {
        self.facts.hub.last_lock() + 1
    }
}
