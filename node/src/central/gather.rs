//! What is new of a store since the last look, asked inside the store's task: it must be short. Batches are taken a portion
//! at a time; cases and days are compared with what was written before, and only what differs leaves.

use std::collections::{BTreeMap, BTreeSet};

use engine::ids::{LogId, RecordId};
use engine::ledger::TillDay;
use engine::replica::{Replica, Revision};
use engine::review::Case;
use engine::time::Day;

use super::rows::{CaseRow, DayRow, ReceiptRow};
use crate::runtime::clock::{Clock, now_ms};

/// Records of one portion; a batch is taken whole.
const RECORDS_MAX: usize = 1_000;
/// The newest business days are looked at every time, and when a follower begins so many.
const NEWEST_DAYS: usize = 3;
const FIRST_DAYS: usize = 400;

/// What was written of a case: it is written again when this changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CaseMark {
    pub(super) state: String,
    pub(super) version: String,
    pub(super) amount_minor: i64,
    pub(super) decisions: i32,
}

/// What the tables say of a store's cases and days.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    pub(super) cases: BTreeMap<String, CaseMark>,
    pub(super) days: BTreeMap<DayKey, DayRow>,
    /// Something was compared with all of it already.
    pub(super) settled: bool,
}

/// Day, terminal and incarnation.
pub(super) type DayKey = (Day, String, i32);

/// What `Known` becomes once the news are written.
#[derive(Debug, Default)]
pub(super) struct Changes {
    cases: BTreeMap<String, Option<CaseMark>>,
    days: BTreeMap<DayKey, DayRow>,
}

impl Known {
    pub(super) fn take(&mut self, changes: Changes) {
        self.settled = true;
        self.days.extend(changes.days);
        for (id, mark) in changes.cases {
            match mark {
                Some(mark) => drop(self.cases.insert(id, mark)),
                None => drop(self.cases.remove(&id)),
            }
        }
    }
}

/// What is new of a store.
pub(super) struct News {
    pub(super) revision: Revision,
    /// Everything in here rests on so many entries of the store.
    pub(super) persisted: u64,
    /// The cursor behind the batches in here.
    pub(super) batches: u64,
    /// More batches wait.
    pub(super) more: bool,
    /// Number of the newest journal entry.
    pub(super) journal_head: u64,
    pub(super) open_day: Option<Day>,
    pub(super) receipts: Vec<ReceiptRow>,
    /// Records that are not new whose custody may have changed.
    pub(super) custody: Vec<(RecordId, &'static str)>,
    pub(super) cases: Vec<CaseRow>,
    /// Cases that are no more.
    pub(super) ended: Vec<String>,
    pub(super) days: Vec<(DayKey, DayRow)>,
    pub(super) changes: Changes,
}

impl News {
    pub(super) fn is_empty(&self) -> bool {
        self.receipts.is_empty()
            && self.custody.is_empty()
            && self.cases.is_empty()
            && self.ended.is_empty()
            && self.days.is_empty()
    }
}

/// Gathers what is new; `None` if nothing was recorded since `seen`.
pub(super) fn gather(
    replica: &Replica,
    seen: Option<Revision>,
    from: u64,
    known: &Known,
    clock: &Clock,
) -> Option<News> {
    let revision = replica.revision();
    if seen == Some(revision) {
        return None;
    }
    let mut news = News {
        revision,
        persisted: replica.persisted(),
        batches: from,
        more: false,
        journal_head: replica.books().journal_head().number,
        open_day: replica.books().open_day(),
        receipts: Vec::new(),
        custody: Vec::new(),
        cases: Vec::new(),
        ended: Vec::new(),
        days: Vec::new(),
        changes: Changes::default(),
    };
    let mut days = BTreeSet::new();
    receipts(replica, &mut news, &mut days);
    cases(replica, known, &mut news, &mut days);
    let newest = if known.settled { NEWEST_DAYS } else { FIRST_DAYS };
    let business_days: Vec<Day> = replica.books().business_days().collect();
    days.extend(business_days.iter().rev().take(newest));
    for day in days {
        for till in replica.day(day, now_ms(), clock.start_of(day.plus(1))) {
            compare_day(day, &till, known, &mut news);
        }
    }
    Some(news)
}

/// The tills' records in the next batches.
fn receipts(replica: &Replica, news: &mut News, days: &mut BTreeSet<Day>) {
    let books = replica.books();
    let from = usize::try_from(news.batches).unwrap_or(usize::MAX);
    for meta in replica.batch_metas(from) {
        if news.receipts.len() >= RECORDS_MAX {
            news.more = true;
            return;
        }
        news.batches += 1;
        let Some(log) = replica.registry().log_of(&meta.writer).filter(|log| !log.terminal.is_hub()) else {
            continue;
        };
        days.insert(meta.day);
        books.visit_log(log, (meta.first_seq, meta.last_seq), |record| {
            let state = custody(replica, &record.id);
            news.receipts.push(ReceiptRow::of(record, meta.admitted_ms, state));
        });
    }
}

fn custody(replica: &Replica, id: &RecordId) -> &'static str {
    replica.custody(id).map_or("at_hub", |custody| custody.state.as_str())
}

/// Cases that are new, changed or gone, and what they mean for their members.
fn cases(replica: &Replica, known: &Known, news: &mut News, days: &mut BTreeSet<Day>) {
    let books = replica.books();
    let mut there = BTreeSet::new();
    for case in books.cases() {
        there.insert(case.id.as_str());
        let mark = mark_of(case);
        if known.cases.get(&case.id) == Some(&mark) {
            continue;
        }
        for id in &case.members {
            if let Some(record) = books.record(id) {
                days.insert(record.business_day);
                news.custody.push((*id, custody(replica, id)));
            }
        }
        news.cases.push(CaseRow::of(case));
        news.changes.cases.insert(case.id.clone(), Some(mark));
    }
    for id in known.cases.keys().filter(|id| !there.contains(id.as_str())) {
        news.ended.push(id.clone());
        news.changes.cases.insert(id.clone(), None);
    }
}

fn mark_of(case: &Case) -> CaseMark {
    CaseMark {
        state: case.state.as_str().to_owned(),
        version: case.version.to_string(),
        amount_minor: case.amount_minor,
        decisions: i32::try_from(case.decisions.len()).unwrap_or(i32::MAX),
    }
}

fn compare_day(day: Day, till: &TillDay, known: &Known, news: &mut News) {
    let LogId { terminal, incarnation } = &till.log;
    let key = (day, terminal.to_string(), i32::try_from(*incarnation).unwrap_or(i32::MAX));
    let row = DayRow::of(till);
    if known.days.get(&key) != Some(&row) {
        news.days.push((key.clone(), row.clone()));
        news.changes.days.insert(key, row);
    }
}
