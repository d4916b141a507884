//! What is new of a store since the last look, asked inside the store's task: it must be short. Batches are taken a portion
//! at a time; of cases and days what may have changed is compared with what was written before, and only what differs
//! leaves. What a look costs follows what came since the last one, and neither the day nor the history.

use std::collections::{BTreeMap, BTreeSet};

use engine::ids::{LogId, RecordId};
use engine::ledger::TillDay;
use engine::replica::{Replica, Revision};
use engine::review::{Case, CaseKey, CaseType};
use engine::time::Day;

use super::known::{Changes, Compared, Known, Suspect};
use super::rows::{CaseMark, CaseRow, DayRow, ReceiptRow, Rows};
use crate::runtime::clock::Clock;

/// The newest business days are looked at every time, and when a follower begins so many.
const NEWEST_DAYS: usize = 3;
const FIRST_DAYS: usize = 400;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    /// What was brought over last, if everything was.
    pub(super) seen: Option<Revision>,
    /// The batches before this one were brought over.
    pub(super) from: u64,
    /// Records of one portion; a batch is taken whole.
    pub(super) records: usize,
    /// Also the days that time alone may have changed.
    pub(super) for_time: bool,
    pub(super) now_ms: i64,
}

/// What is new of a store.
pub(super) struct News {
    pub(super) revision: Revision,
    /// Everything in here rests on so many entries of the store.
    pub(super) persisted: u64,
    /// They are durable already.
    pub(super) durable: bool,
    /// The cursor behind the batches in here.
    pub(super) batches: u64,
    /// More batches wait.
    pub(super) more: bool,
    /// Number of the newest journal entry.
    pub(super) journal_head: u64,
    pub(super) rows: Rows,
    pub(super) changes: Changes,
    /// How many cases and till-days were looked at.
    pub(super) looked_at: usize,
}

/// Till-days to be looked at.
type TillDays = BTreeMap<Day, BTreeSet<LogId>>;

/// Gathers what is new; `None` if nothing was recorded since `seen`, and time is not asked about.
pub(super) fn gather(replica: &Replica, look: Look, known: &Known, clock: &Clock) -> Option<News> {
    let revision = replica.revision();
    if look.seen == Some(revision) && !look.for_time {
        return None;
    }
    let books = replica.books();
    let mut news = News {
        revision,
        persisted: replica.persisted(),
        durable: replica.durable() >= replica.persisted(),
        batches: look.from,
        more: false,
        journal_head: books.journal_head().number,
        rows: Rows { open_day: books.open_day(), ..Rows::default() },
        changes: Changes { cases: BTreeMap::new(), days: BTreeMap::new(), compared: Compared::with(replica) },
        looked_at: 0,
    };
    let mut days = TillDays::new();
    receipts(replica, look.records, &mut news, &mut days);
    cases(replica, known, &mut news, &mut days);
    let first = known.is_new_to(replica);
    if first || look.for_time {
        days_in_motion(replica, known, &mut days);
    }
    for day in books.business_days().rev().take(if first { FIRST_DAYS } else { NEWEST_DAYS }) {
        let tills = replica.registry().writers().map(|(_, log)| log).filter(|log| !log.terminal.is_hub());
        days.entry(day).or_default().extend(tills.cloned());
    }
    for (day, logs) in days {
        let ends_ms = clock.start_of(day.plus(1));
        for log in logs {
            news.looked_at += 1;
            if let Some(till) = replica.till_day(&log, day, look.now_ms, ends_ms) {
                compare_day(day, &till, known, &mut news);
            }
        }
    }
    Some(news)
}

/// The tills' records in the next batches.
fn receipts(replica: &Replica, limit: usize, news: &mut News, days: &mut TillDays) {
    let from = usize::try_from(news.batches).unwrap_or(usize::MAX);
    for meta in replica.batch_metas(from) {
        if news.rows.receipts.len() >= limit {
            news.more = true;
            return;
        }
        news.batches += 1;
        let Some(log) = replica.registry().log_of(&meta.writer).filter(|log| !log.terminal.is_hub()) else {
            continue;
        };
        days.entry(meta.day).or_default().insert(log.clone());
        let before = news.rows.receipts.len();
        replica.visit_batch(meta, |record, custody| {
            news.rows.receipts.push(ReceiptRow::of(record, meta.admitted_ms, custody.as_str()));
        });
        // Of a fork every branch is told with each batch that has its numbers; a statement takes a row once.
        if (news.rows.receipts.len() - before) as u64 > meta.last_seq - meta.first_seq + 1 {
            let mut there = BTreeSet::new();
            news.rows.receipts.retain(|row| there.insert(row.record_id.clone()));
        }
    }
}

/// Cases that are new, changed or gone, and what they mean for their members and for those that they had.
fn cases(replica: &Replica, known: &Known, news: &mut News, days: &mut TillDays) {
    let mut members: BTreeSet<RecordId> = BTreeSet::new();
    for Suspect { id, key, case } in known.suspects(replica) {
        news.looked_at += 1;
        let (before, row) = (known.cases.get(&id), case.map(CaseRow::of));
        let mark = case.zip(row.as_ref()).map(|(case, row)| mark_of(case, row));
        if before == mark.as_ref() {
            continue;
        }
        if let Some(key) = key {
            days_of_log(replica, known, key, days);
        }
        members.extend(before.into_iter().flat_map(|mark| &mark.members));
        members.extend(mark.iter().flat_map(|mark| &mark.members));
        match row {
            Some(row) => news.rows.cases.push(row),
            None => news.rows.ended.push(id.clone()),
        }
        news.changes.cases.insert(id, mark);
    }
    for id in members {
        if let Some(record) = replica.books().record(&id) {
            days.entry(record.business_day).or_default().insert(record.log.clone());
            news.rows
                .custody
                .push((id, replica.custody(&id).map_or("at_hub", |custody| custody.state.as_str())));
        }
    }
}

fn mark_of(case: &Case, row: &CaseRow) -> CaseMark {
    CaseMark { said: row.digest(), members: case.members.iter().copied().collect() }
}

/// The till-days that are known of the log that a case without members is about.
fn days_of_log(replica: &Replica, known: &Known, key: &CaseKey, days: &mut TillDays) {
    if key.case_type != CaseType::SequenceGap {
        return;
    }
    let mut logs = replica.registry().writers().map(|(_, log)| log);
    let Some(log) = logs.find(|log| key.subject.starts_with(&format!("{log}:"))) else { return };
    let (terminal, incarnation) = (log.terminal.to_string(), i32::try_from(log.incarnation));
    let of_log = known.days.keys().filter(|key| key.1 == terminal && Ok(key.2) == incarnation);
    for key in of_log {
        days.entry(key.0).or_default().insert(log.clone());
    }
}

/// Till-days that may change although no record of them comes: what waits for something, and what a case is about that
/// becomes urgent with age.
fn days_in_motion(replica: &Replica, known: &Known, days: &mut TillDays) {
    for (day, log) in replica.books().till_days_in_question() {
        days.entry(*day).or_default().insert(log.clone());
    }
    for key in replica.books().cases_of_logs() {
        days_of_log(replica, known, key, days);
    }
    for ((day, terminal, incarnation), _) in known.days.iter().filter(|(_, row)| !row.is_at_rest()) {
        let (Ok(terminal), Ok(incarnation)) = (terminal.parse(), u32::try_from(*incarnation)) else {
            continue;
        };
        days.entry(*day).or_default().insert(LogId { terminal, incarnation });
    }
}

fn compare_day(day: Day, till: &TillDay, known: &Known, news: &mut News) {
    let LogId { terminal, incarnation } = &till.log;
    let key = (day, terminal.to_string(), i32::try_from(*incarnation).unwrap_or(i32::MAX));
    let row = DayRow::of(till);
    if known.days.get(&key) != Some(&row) {
        news.rows.days.push((key.clone(), row.clone()));
        news.changes.days.insert(key, row);
    }
}
