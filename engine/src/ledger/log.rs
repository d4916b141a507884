//! Stage B, the integrity of each log: clones, broken chains, gaps (LEDGER-RULES section 5). A record's hold follows
//! from its number, its predecessor and the locks alone, so it is kept up to date number by number: what changes at
//! one number is passed on to the next until nothing changes. Decisions do not enter here.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::facts::{Facts, UNLOCKED};
use super::families::Slot;
use super::numbers::Numbers;
use crate::attic::Workroom;
use crate::ids::{LogId, TerminalId};
use crate::record::Record;
use crate::review::{CaseKey, CaseType, Reason, subject};
use crate::time::Day;
use crate::transaction::Kind;

/// Why a log holds a record: the reason, and the number where the trouble started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct ChainHold {
    pub(crate) reason: Reason,
    pub(crate) point: u64,
}

/// A case that belongs to a log rather than to a family.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) enum LogCase {
    /// Clone or broken chain that started at a number.
    Chain(LogId, ChainHold),
    /// The number before this one is missing.
    Gap(LogId, u64),
    /// The clock ran backwards at this number.
    Skew(LogId, u64),
    /// The till was revoked.
    Revoked(TerminalId),
    /// Numbers up to this one are known, though nothing after the head has arrived.
    Tail(LogId, u64),
}

impl LogCase {
    /// The key of the case. A gap and a missing tail before one number have the same.
    pub(crate) fn key(&self) -> CaseKey {
        match self {
            Self::Chain(id, hold) => CaseKey::new(hold.reason.case_type(), subject::point(id, hold.point)),
            Self::Gap(id, seq) => {
                CaseKey::new(CaseType::SequenceGap, subject::point(id, seq.saturating_sub(1)))
            }
            Self::Tail(id, seq) => CaseKey::new(CaseType::SequenceGap, subject::point(id, *seq)),
            Self::Skew(id, seq) => CaseKey::new(CaseType::ClockSkew, subject::point(id, *seq)),
            Self::Revoked(terminal) => CaseKey::new(CaseType::RevokedTerminal, terminal.as_str()),
        }
    }

    /// The cases of every kind that stand at numbers of a log, as ranges in their order.
    pub(crate) fn at_numbers(log: &LogId, first: u64, last: u64) -> [RangeInclusive<Self>; 3] {
        let range = |of: fn(LogId, u64) -> Self, first, last| of(log.clone(), first)..=of(log.clone(), last);
        [range(Self::Gap, first, last), range(Self::Skew, first, last), range(Self::Tail, first, last)]
    }

    /// The case of another form that would have the same subject.
    pub(crate) fn other_form(&self) -> Option<Self> {
        match self {
            Self::Gap(log, seq) => Some(Self::Tail(log.clone(), seq.checked_sub(1)?)),
            Self::Tail(log, seq) => Some(Self::Gap(log.clone(), seq.checked_add(1)?)),
            Self::Chain(..) | Self::Skew(..) | Self::Revoked(_) => None,
        }
    }
}

/// The cases of logs that are there.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub(crate) struct LogCases {
    by_key: BTreeMap<CaseKey, LogCase>,
    in_order: BTreeSet<LogCase>,
}

impl LogCases {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    pub(crate) fn get(&self, key: &CaseKey) -> Option<&LogCase> {
        self.by_key.get(key)
    }

    pub(crate) fn insert(&mut self, key: &CaseKey, case: LogCase) {
        if let Some(before) = self.by_key.insert(key.clone(), case.clone()) {
            self.in_order.remove(&before);
        }
        self.in_order.insert(case);
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, key: &CaseKey) -> bool {
        self.by_key.remove(key).is_some_and(|case| self.in_order.remove(&case))
    }

    /// Those at numbers of a log, from the first to the last.
    pub(crate) fn at_numbers(
        &self,
        log: &LogId,
        first: u64,
        last: u64,
    ) -> impl Iterator<Item = LogCase> + use<'_> {
        let ranges = LogCase::at_numbers(log, first, last);
        ranges.into_iter().flat_map(|range| self.in_order.range(range).cloned())
    }
}

/// One log: the records by number, and what is remarkable about it.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Log {
    numbers: Numbers,
    /// The latest business day of a record.
    pub(crate) latest_day: Day,
    /// Every number up to this one is here.
    pub(crate) complete_to: u64,
    /// Highest number known from any source.
    pub(crate) known_to: u64,
    /// Numbers that something refers to.
    pub(crate) referred: BTreeSet<u64>,
    closes: BTreeSet<u64>,
    /// Who is held by what.
    pub(crate) held: BTreeMap<ChainHold, BTreeSet<Slot>>,
}

impl Log {
    pub(crate) fn new(room: &Workroom) -> Self {
        Self {
            numbers: Numbers::new(room),
            latest_day: Day(i32::MIN),
            complete_to: 0,
            known_to: 0,
            referred: BTreeSet::new(),
            closes: BTreeSet::new(),
            held: BTreeMap::new(),
        }
    }

    /// Packs what an image names.
    pub(super) fn pack(&mut self) {
        self.numbers.pack();
    }

    /// The records with a number: none, one, or the branches of a fork.
    pub(crate) fn at(&self, seq: u64) -> impl Iterator<Item = Slot> + use<'_> {
        self.numbers.at(seq)
    }

    /// The highest number that is here.
    pub(crate) fn head(&self) -> u64 {
        self.numbers.head()
    }

    /// The head, if every number up to it has one record.
    pub(crate) fn unbroken_to(&self) -> Option<u64> {
        self.numbers.unbroken_to()
    }

    /// How many numbers have a record.
    pub(crate) fn distinct_numbers(&self) -> u64 {
        self.numbers.distinct()
    }

    /// The records from a number on.
    pub(crate) fn from(&self, seq: u64) -> impl Iterator<Item = Slot> + use<'_> {
        self.between(seq, u64::MAX)
    }

    /// The records with numbers from the first to the last, in order.
    pub(crate) fn between(&self, first: u64, last: u64) -> impl Iterator<Item = Slot> + use<'_> {
        self.numbers.between(first, last).map(|row| row.1)
    }

    /// The numbers from the first to the last that have a record, in order; of a fork more than once.
    pub(crate) fn numbers_between(&self, first: u64, last: u64) -> impl Iterator<Item = u64> + use<'_> {
        self.numbers.between(first, last).map(|row| row.0)
    }

    /// How many records have a number below one. They are never fewer, and as many are the same.
    pub(crate) fn count_below(&self, seq: u64) -> u64 {
        self.numbers.count_below(seq)
    }

    fn take(&mut self, slot: Slot, record: &Record) {
        self.numbers.insert(record.seq, slot);
        self.latest_day = self.latest_day.max(record.business_day);
    }

    /// Every day close.
    pub(crate) fn close_slots(&self) -> impl Iterator<Item = Slot> + use<'_> {
        self.closes.iter().flat_map(|seq| self.at(*seq))
    }

    /// The last day close before a number.
    pub(crate) fn close_before(&self, seq: u64) -> Option<u64> {
        self.closes.range(..seq).next_back().copied()
    }

    /// The first day close after a number.
    pub(crate) fn close_after(&self, seq: u64) -> Option<u64> {
        self.closes.range(seq.saturating_add(1)..).next().copied()
    }

    /// All day closes after a number.
    fn closes_after(&self, seq: u64) -> impl Iterator<Item = Slot> + use<'_> {
        self.closes.range(seq.saturating_add(1)..).flat_map(|close| self.at(*close))
    }

    /// A record with the highest number below `seq`; of several branches the first by `order`.
    pub(crate) fn last_before<K: Ord>(&self, seq: u64, order: impl Fn(Slot) -> K) -> Option<Slot> {
        let number = self.numbers.below(seq)?;
        self.at(number).min_by_key(|slot| order(*slot))
    }

    /// Whether everything up to `seq` that this log is known to have is here.
    fn whole_up_to(&self, seq: u64) -> bool {
        self.complete_to >= seq.min(self.known_to)
    }
}

impl Facts {
    /// Notes every case that any log could have.
    pub(super) fn dirty_everything(&mut self) {
        for (id, log) in self.logs.iter().filter(|row| !row.0.terminal.is_hub()) {
            for hold in log.held.keys() {
                self.dirty_logs.insert(LogCase::Chain(id.clone(), *hold));
            }
            self.dirty_logs.numbers(id, 0, log.complete_to);
            let behind = log.numbers.between(log.complete_to, u64::MAX).map(|row| row.0);
            for number in behind.chain([log.known_to]) {
                self.dirty_logs.numbers(id, number, number);
            }
            self.dirty_logs.insert(LogCase::Revoked(id.terminal.clone()));
        }
    }

    /// The cases that a log may have at its numbers from the first to the last. What is here without a gap before it has
    /// none but the skew of its clock.
    pub(super) fn log_cases_at(&self, id: &LogId, first: u64, last: u64) -> Vec<LogCase> {
        let Some(log) = self.logs.get(id).filter(|_| !id.terminal.is_hub()) else { return Vec::new() };
        let skewed = log.numbers.between(first, last).filter(|row| self.clock_is_skewed(row.1));
        let mut cases: Vec<LogCase> = skewed.map(|row| LogCase::Skew(id.clone(), row.0)).collect();
        let behind = log.numbers.between(first.max(log.complete_to.saturating_add(1)), last);
        cases.extend(behind.map(|row| LogCase::Gap(id.clone(), row.0)));
        if (first..=last).contains(&log.known_to) {
            cases.push(LogCase::Tail(id.clone(), log.known_to));
        }
        cases
    }

    /// Whether the reference to number `seq` of a till cannot be fulfilled any more: some log of the till is complete
    /// up to it, and no other of its logs has a hole below it.
    pub(crate) fn is_complete_up_to(&self, terminal: &TerminalId, seq: u64) -> bool {
        let mut logs = self.logs_of(terminal).peekable();
        let reached = self.logs_of(terminal).any(|(_, log)| log.complete_to >= seq);
        logs.peek().is_some() && reached && logs.all(|(_, log)| log.whole_up_to(seq))
    }

    pub(crate) fn logs_of<'a>(
        &'a self,
        terminal: &TerminalId,
    ) -> impl Iterator<Item = (&'a LogId, &'a Log)> + use<'a> {
        let first = LogId { terminal: terminal.clone(), incarnation: 0 };
        let last = LogId { terminal: terminal.clone(), incarnation: u32::MAX };
        self.logs.range(first..=last)
    }

    /// The record before a record in its log, if it is here.
    pub(crate) fn predecessor(&self, slot: Slot) -> Option<Slot> {
        let record = self.record(slot);
        let log = self.logs.get(&record.log)?;
        log.at(record.seq.checked_sub(1)?).find(|before| Some(self.id(*before)) == record.prev)
    }

    /// Records that follow a record in its log.
    pub(crate) fn successors(&self, slot: Slot) -> Vec<Slot> {
        let record = self.record(slot);
        let Some(log) = self.logs.get(&record.log) else { return Vec::new() };
        let after = log.at(record.seq.saturating_add(1));
        after.filter(|next| self.record(*next).prev == Some(record.id)).collect()
    }

    /// Whether no record with the number before is here.
    pub(crate) fn follows_a_gap(&self, log: &LogId, seq: u64) -> bool {
        seq > 1 && self.logs.get(log).is_none_or(|log| log.at(seq - 1).next().is_none())
    }

    fn log_mut(&mut self, id: &LogId) -> &mut Log {
        let room = self.records.room();
        self.logs.entry(id.clone()).or_insert_with(|| Log::new(room))
    }

    /// A number is known to exist, whether its record is here or not.
    pub(super) fn know_number(&mut self, id: &LogId, seq: u64) {
        let log = self.log_mut(id);
        let before = log.known_to;
        if seq > before {
            log.known_to = seq;
            let from = log.complete_to;
            for number in [before, seq] {
                self.dirty_logs.numbers(id, number, number);
            }
            if before <= from {
                self.touch_awaiting(&id.terminal, from);
            }
        }
    }

    pub(super) fn file_in_log(&mut self, slot: Slot, record: &Record, is_referred: bool) {
        if record.log.terminal.is_hub() {
            self.log_mut(&record.log).take(slot, record);
            return;
        }
        self.know_number(&record.log, record.seq);
        let log = self.logs.get_mut(&record.log).expect("known a line above");
        log.take(slot, record);
        if record.transaction.kind() == Kind::DayClose {
            log.closes.insert(record.seq);
            // A gap that a close covers is urgent.
            for (number, _) in log.numbers.between(log.complete_to, record.seq) {
                self.dirty_logs.numbers(&record.log, number, number);
            }
        }
        if is_referred {
            log.referred.insert(record.seq);
        }
        let complete_before = log.complete_to;
        while log.at(log.complete_to + 1).next().is_some() {
            log.complete_to += 1;
        }
        let known_to = log.known_to;
        if log.complete_to > complete_before {
            self.touch_awaiting(&record.log.terminal, complete_before);
        }
        self.dirty_logs.numbers(&record.log, record.seq, record.seq.saturating_add(1));
        self.dirty_logs.numbers(&record.log, known_to, known_to);
        if self.hub.is_revoked_terminal(&record.log.terminal) {
            self.dirty_logs.insert(LogCase::Revoked(record.log.terminal.clone()));
        }
        self.touch_neighbours(slot, record);
        self.settle_chain(&record.log, record.seq, slot);
    }

    /// The cases of a log that tell a record's time or judge it by its policy.
    pub(super) fn dirty_point(&mut self, slot: Slot) {
        let record = self.record(slot);
        let (id, seq) = (record.log.clone(), record.seq);
        if let Some(log) = self.logs.get(&id).filter(|_| !id.terminal.is_hub()) {
            for number in [seq, log.known_to] {
                self.dirty_logs.numbers(&id, number, number);
            }
        }
    }

    /// A close counts what is before it; siblings at one number share its cases.
    fn touch_neighbours(&mut self, slot: Slot, record: &Record) {
        let log = &self.logs[&record.log];
        let close =
            log.close_after(record.seq).map(|seq| log.at(seq).collect::<Vec<_>>()).unwrap_or_default();
        let siblings: Vec<Slot> = log.at(record.seq).filter(|other| *other != slot).collect();
        for other in close.into_iter().chain(siblings) {
            self.families.touch(other, Some(slot));
        }
    }

    /// References beyond what is complete may have become orphans, or the other way round.
    fn touch_awaiting(&mut self, terminal: &TerminalId, complete_before: u64) {
        let Some(awaited) = self.awaited_numbers.get(terminal) else { return };
        let touched: Vec<Slot> = awaited.range((complete_before, 0)..).map(|row| row.1).collect();
        for slot in touched {
            self.families.touch(slot, None);
        }
    }

    /// Brings the holds of a log up to date from a number on, as far as they change.
    pub(super) fn settle_chain(&mut self, id: &LogId, from: u64, cause: Slot) {
        let mut pending: BTreeSet<u64> = [from.saturating_sub(1), from, from.saturating_add(1)].into();
        while let Some(seq) = pending.pop_first() {
            let branches: Vec<Slot> = self.logs[id].at(seq).collect();
            let holds = self.chain_holds(id, seq, &branches);
            if branches.len() > 1 {
                for hold in holds.iter().flatten() {
                    self.dirty_logs.insert(LogCase::Chain(id.clone(), *hold));
                }
            }
            for (slot, hold) in branches.into_iter().zip(holds) {
                let before = self.entry(slot).chain;
                if before != hold {
                    self.set_chain(id, slot, hold);
                    self.touch(slot, Some(cause));
                    pending.insert(seq.saturating_add(1));
                }
            }
        }
    }

    fn set_chain(&mut self, id: &LogId, slot: Slot, hold: Option<ChainHold>) {
        let before = std::mem::replace(&mut self.entry_mut(slot).chain, hold);
        let log = self.logs.get_mut(id).expect("the log of a filed record");
        if let Some(before) = before {
            if let Some(held) = log.held.get_mut(&before) {
                held.remove(&slot);
                if held.is_empty() {
                    log.held.remove(&before);
                }
            }
            self.dirty_logs.insert(LogCase::Chain(id.clone(), before));
        }
        if let Some(hold) = hold {
            log.held.entry(hold).or_default().insert(slot);
            self.dirty_logs.insert(LogCase::Chain(id.clone(), hold));
        }
    }

    /// The holds of all records with one number (rules 1, 2 and 4 of stage B).
    fn chain_holds(&self, id: &LogId, seq: u64, branches: &[Slot]) -> Vec<Option<ChainHold>> {
        // Nearly always: no fork, so nothing to choose.
        if let [only] = branches {
            let locked = self.entry(*only).lock != UNLOCKED;
            return vec![if locked { None } else { self.inherited_hold(id, *only) }];
        }
        let first_hold: Vec<Option<ChainHold>> =
            branches.iter().map(|slot| self.inherited_hold(id, *slot)).collect();
        // Who is held already started trouble elsewhere and is no branch of a fork here; a broken one may be, but
        // never wins over a sound one.
        let contenders = |at: &usize| first_hold[*at].is_none_or(|hold| hold.point == seq);
        let contending: Vec<usize> = (0..branches.len()).filter(contenders).collect();
        let order = |at: &usize| {
            let entry = self.entry(branches[*at]);
            (entry.lock, first_hold[*at].is_some(), self.record(branches[*at]).at.ms, self.id(branches[*at]))
        };
        let winner = contending.iter().copied().min_by_key(order);
        let hold_of = |at: usize| {
            let locked = self.entry(branches[at]).lock != UNLOCKED;
            if locked {
                None
            } else if contending.contains(&at) && winner != Some(at) {
                Some(ChainHold { reason: Reason::ClonedTerminal, point: seq })
            } else {
                first_hold[at]
            }
        };
        (0..branches.len()).map(hold_of).collect()
    }

    /// The hold a record has from its predecessor, or from not following it.
    fn inherited_hold(&self, id: &LogId, slot: Slot) -> Option<ChainHold> {
        let record = self.record(slot);
        let log = &self.logs[id];
        let broken = Some(ChainHold { reason: Reason::BrokenChain, point: record.seq });
        let contradicts_locked = log
            .at(record.seq.saturating_add(1))
            .any(|next| self.entry(next).lock != UNLOCKED && self.record(next).prev != Some(record.id));
        let before_is_here = record.seq > 1 && log.at(record.seq - 1).next().is_some();
        match self.predecessor(slot) {
            Some(before) if self.entry(before).chain.is_some() => self.entry(before).chain,
            None if before_is_here => broken,
            _ if contradicts_locked => broken,
            _ => None,
        }
    }

    /// The first day close after a record in its log (each branch of a fork has its own).
    pub(crate) fn closes_after(&self, slot: Slot) -> Vec<Slot> {
        let record = self.record(slot);
        let Some(log) = self.logs.get(&record.log) else { return Vec::new() };
        let first = log.closes_after(record.seq).next().map(|close| self.record(close).seq);
        first.into_iter().flat_map(|seq| log.at(seq)).filter(|close| self.is_close(*close)).collect()
    }

    pub(crate) fn is_close(&self, slot: Slot) -> bool {
        self.record(slot).transaction.kind() == Kind::DayClose
    }

    /// The cases of its log that a record is (or may be) held in.
    pub(crate) fn integrity_cases(&self, slot: Slot) -> Vec<LogCase> {
        let entry = self.entry(slot);
        let record = self.record(slot);
        let log = &record.log;
        let chain = entry.chain.map(|hold| LogCase::Chain(log.clone(), hold));
        let revoked = self.hub.is_revoked(log, record.seq, entry.lock);
        chain.into_iter().chain(revoked.then(|| LogCase::Revoked(log.terminal.clone()))).collect()
    }

    /// The branch that a fork at a number leaves standing, if there is a fork.
    pub(crate) fn fork_winner(&self, id: &LogId, seq: u64) -> Option<Slot> {
        let log = self.logs.get(id)?;
        log.at(seq)
            .filter(|slot| self.entry(*slot).chain.is_none())
            .min_by_key(|slot| (self.entry(*slot).lock, self.record(*slot).at.ms, self.id(*slot)))
    }
}
