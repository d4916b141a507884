//! What the books know, as rows of the tables. Amounts are minor units, times RFC 3339, ids hexadecimal.

use engine::ledger::TillDay;
use engine::record::Record;
use engine::review::Case;
use engine::transaction::Basket;

use crate::runtime::clock::rfc3339;

/// A till's record.
#[derive(Debug, Clone)]
pub(super) struct ReceiptRow {
    pub(super) record_id: String,
    pub(super) receipt: String,
    pub(super) kind: &'static str,
    pub(super) terminal: String,
    pub(super) incarnation: i32,
    pub(super) seq: i64,
    pub(super) business_day: String,
    pub(super) at: String,
    pub(super) at_hub: String,
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
            business_day: record.business_day.to_string(),
            at: record.at.to_string(),
            at_hub: rfc3339(admitted_ms),
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
    pub(super) case_type: &'static str,
    pub(super) subject: String,
    pub(super) about: String,
    pub(super) severity: i32,
    pub(super) state: &'static str,
    pub(super) amount_minor: i64,
    pub(super) currency: Option<String>,
    pub(super) opened_at: String,
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
            case_type: case.key.case_type.as_str(),
            subject: clean(&case.key.subject),
            about: clean(&case.about),
            severity: i32::from(case.severity),
            state: case.state.as_str(),
            amount_minor: case.amount_minor,
            currency: case.currency.map(|currency| currency.to_string()),
            opened_at: rfc3339(case.opened_ms),
            version: case.version.to_string(),
            decisions: i32::try_from(case.decisions.len()).unwrap_or(i32::MAX),
            members: case.members.iter().map(|id| (id.to_string(), held(id))).collect(),
        }
    }
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
        // The word that JSON has for it.
        let state = serde_json::to_value(till.state).ok();
        Self {
            state: state.and_then(|word| word.as_str().map(str::to_owned)).unwrap_or_default(),
            records: i64::try_from(till.records).unwrap_or(i64::MAX),
            not_arrived: i64::try_from(till.missing_count()).unwrap_or(i64::MAX),
            closed: till.close.is_some(),
            z_agrees: till.z_agrees,
        }
    }
}

/// A text column holds no NUL.
fn clean(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}
