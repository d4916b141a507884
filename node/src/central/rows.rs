//! What the books know, as rows of the tables. Amounts are minor units, ids hexadecimal.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::ids::RecordId;
use engine::ledger::{DayState, TillDay};
use engine::record::Record;
use engine::review::Case;
use engine::time::Day;
use engine::transaction::Basket;

/// What is new of a store.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) open_day: Option<Day>,
    pub(super) receipts: Vec<ReceiptRow>,
    /// Records whose custody may have changed, new ones among them.
    pub(super) custody: Vec<(RecordId, &'static str)>,
    pub(super) cases: Vec<CaseRow>,
    /// Cases that are no more.
    pub(super) ended: Vec<String>,
    pub(super) days: Vec<(DayKey, DayRow)>,
}

impl Rows {
    pub(super) fn is_empty(&self) -> bool {
        self.receipts.is_empty()
            && self.custody.is_empty()
            && self.cases.is_empty()
            && self.ended.is_empty()
            && self.days.is_empty()
    }
}

/// Day, terminal and incarnation.
pub(super) type DayKey = (Day, String, i32);

/// A till's record.
#[derive(Debug, Clone)]
pub(super) struct ReceiptRow {
    pub(super) record_id: String,
    pub(super) receipt: String,
    pub(super) kind: &'static str,
    pub(super) terminal: String,
    pub(super) incarnation: i32,
    pub(super) seq: i64,
    /// Days since 1970-01-01, as a `Day` counts.
    pub(super) business_day: i32,
    pub(super) at: SystemTime,
    pub(super) at_hub: SystemTime,
    pub(super) operator: Option<String>,
    pub(super) currency: Option<String>,
    pub(super) total_minor: Option<i64>,
    pub(super) tax_minor: Option<i64>,
    pub(super) custody: &'static str,
}

impl ReceiptRow {
    pub(super) fn of(record: &Record, admitted_ms: i64, custody: &'static str) -> Self {
        let transaction = &record.transaction;
        let basket = transaction.basket();
        Self {
            record_id: record.id.to_string(),
            receipt: clean(&transaction.receipt),
            kind: transaction.kind().as_str(),
            terminal: record.log.terminal.to_string(),
            incarnation: i32::try_from(record.log.incarnation).unwrap_or(i32::MAX),
            seq: i64::try_from(record.seq).unwrap_or(i64::MAX),
            business_day: record.business_day.0,
            at: time(record.at.ms),
            at_hub: time(admitted_ms),
            operator: transaction.operator.as_deref().map(clean),
            currency: basket.map(|basket| basket.currency.to_string()),
            total_minor: basket.map(Basket::total_minor),
            tax_minor: basket.map(Basket::tax_minor),
            custody,
        }
    }
}

/// A review case.
#[derive(Debug, Clone)]
pub(super) struct CaseRow {
    pub(super) id: String,
    pub(super) case_type: String,
    pub(super) subject: String,
    pub(super) about: String,
    pub(super) severity: i32,
    pub(super) state: String,
    pub(super) amount_minor: i64,
    pub(super) currency: Option<String>,
    pub(super) opened_ms: i64,
    pub(super) version: String,
    pub(super) decisions: i32,
    /// Record and, if it is held, the reason.
    pub(super) members: Vec<(String, Option<String>)>,
}

impl CaseRow {
    pub(super) fn of(case: &Case) -> Self {
        let held = |id| case.held.get(id).map(|reason| reason.as_str().to_owned());
        Self {
            id: case.id.clone(),
            case_type: case.key.case_type.as_str().to_owned(),
            subject: clean(&case.key.subject),
            about: clean(&case.about),
            severity: i32::from(case.severity),
            state: case.state.as_str().to_owned(),
            amount_minor: case.amount_minor,
            currency: case.currency.map(|currency| currency.to_string()),
            opened_ms: case.opened_ms,
            version: case.version.to_string(),
            decisions: i32::try_from(case.decisions.len()).unwrap_or(i32::MAX),
            members: case.members.iter().map(|id| (id.to_string(), held(id))).collect(),
        }
    }

    /// A hash of everything in the row that can change, and of the rows of the members in their order.
    pub(super) fn digest(&self) -> [u8; 16] {
        let numbers = [self.severity.into(), self.amount_minor, self.opened_ms, self.decisions.into()];
        let mut hasher = blake3::Hasher::new();
        for number in numbers {
            hasher.update(&number.to_le_bytes());
        }
        let mut text = |text: Option<&str>| {
            let length = text.map_or(u64::MAX, |text| text.len() as u64);
            hasher.update(&length.to_le_bytes());
            hasher.update(text.unwrap_or_default().as_bytes());
        };
        for own in [&self.about, &self.state, &self.version] {
            text(Some(own));
        }
        text(self.currency.as_deref());
        for (id, held) in &self.members {
            text(Some(id));
            text(held.as_deref());
        }
        let mut short = [0; 16];
        short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        short
    }
}

/// What was written of a case: it is written again when this changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CaseMark {
    /// See `CaseRow::digest`.
    pub(super) said: [u8; 16],
    pub(super) members: Vec<RecordId>,
}

/// A till's day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DayRow {
    pub(super) state: String,
    pub(super) records: i64,
    pub(super) not_arrived: i64,
    pub(super) closed: bool,
    pub(super) z_agrees: bool,
}

impl DayRow {
    pub(super) fn of(till: &TillDay) -> Self {
        Self {
            state: word(till.state),
            records: i64::try_from(till.records).unwrap_or(i64::MAX),
            not_arrived: i64::try_from(till.missing_count()).unwrap_or(i64::MAX),
            closed: till.close.is_some(),
            z_agrees: till.z_agrees,
        }
    }

    /// Only a record of the day, or a case that names one, changes it still.
    pub(super) fn is_at_rest(&self) -> bool {
        [DayState::Finished, DayState::NoTrade].into_iter().any(|state| self.state == word(state))
    }
}

/// The word that JSON has for it.
fn word(state: DayState) -> String {
    let word = serde_json::to_value(state).ok();
    word.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default()
}

/// What a column of times takes.
pub(super) fn time(ms: i64) -> SystemTime {
    let apart = Duration::from_millis(ms.unsigned_abs());
    let time = if ms < 0 { UNIX_EPOCH.checked_sub(apart) } else { UNIX_EPOCH.checked_add(apart) };
    time.unwrap_or(UNIX_EPOCH)
}

/// A text column holds no NUL.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
