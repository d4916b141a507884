//! A store's policy: limits and intervals (LEDGER-RULES section 16). `versions`: who changes it, for whom and from when.

mod versions;

pub use versions::{INHERIT, Policies, PolicyChange, Scope, Setting};

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::money::Currency;

/// What happens to a refund that names no sale.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlindRefunds {
    /// Held for review.
    Hold,
    /// Posted, with an advisory case.
    Flag,
    /// Posted without a word.
    Allow,
}

/// Within what a receipt number is unique.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptScope {
    /// One till's log.
    Till,
    /// The store.
    Store,
    /// The company (judged within the store's own records).
    Company,
}

/// How a discount shows in the books.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Discounts {
    /// Sales are what was paid.
    Net,
    /// Sales are what the list says; the discount, net of tax, stands against them in an account of its own.
    Contra,
}

/// Everything that can be configured for a store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// Currencies accepted; empty: any, the store's first currency being its own.
    pub currencies: Vec<Currency>,
    /// Refunds above this need an approver; `None`: unlimited.
    pub refund_limit_minor: Option<i64>,
    /// What happens to a refund that names no sale.
    pub blind_refunds: BlindRefunds,
    /// Within what a receipt number is unique.
    pub receipt_scope: ReceiptScope,
    /// How a discount shows in the books.
    pub discounts: Discounts,
    /// Smallest cash unit per currency, minor units; 1 where not named.
    pub cash_unit_minor: BTreeMap<Currency, i64>,
    /// Days after which a refund is advisory.
    pub refund_window_days: u32,
    /// Offline card: limit per payment.
    pub offline_card_limit_minor: i64,
    /// Offline card: payments per till.
    pub offline_card_count: u32,
    /// Offline card: hours until the outcome is `expired`.
    pub offline_card_hours: u32,
    /// Clock differences below this are no case, ms.
    pub clock_tolerance_ms: i64,
    /// Same lines and amounts within this are a suspected duplicate, ms.
    pub duplicate_window_ms: i64,
    /// Cash differences up to this are no case.
    pub over_short_tolerance_minor: i64,
    /// Decisions above this need a second approver.
    pub four_eyes_limit_minor: i64,
    /// Hours after which gaps and awaited originals become urgent.
    pub ageing_hours: u32,
    /// Time of day of the nightly batch that latency is compared with, minutes after midnight.
    pub batch_baseline_minutes: u32,
    /// How long captured records may wait before they are sealed and sent, ms; 0: at once.
    pub sync_interval_ms: u64,
    /// How many captured records are sealed at once at the latest.
    pub batch_threshold: u32,
    /// Days of history that a till keeps.
    pub retention_days: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            currencies: Vec::new(),
            refund_limit_minor: Some(10_000),
            blind_refunds: BlindRefunds::Hold,
            receipt_scope: ReceiptScope::Till,
            discounts: Discounts::Net,
            cash_unit_minor: BTreeMap::new(),
            refund_window_days: 90,
            offline_card_limit_minor: 25_000,
            offline_card_count: 500,
            offline_card_hours: 24,
            clock_tolerance_ms: 5 * 60_000,
            duplicate_window_ms: 60_000,
            over_short_tolerance_minor: 500,
            four_eyes_limit_minor: 50_000,
            ageing_hours: 24,
            batch_baseline_minutes: 120,
            sync_interval_ms: 0,
            batch_threshold: 256,
            retention_days: 35,
        }
    }
}

/// Longest time that captured records may wait on one disk while the hub is there, ms.
const SYNC_INTERVAL_LIMIT_MS: u64 = 3_600_000;

/// Why a policy setting was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSetting {
    /// No such key.
    #[error("{key:?} is not a policy setting; the settings are {known}")]
    UnknownKey {
        /// What was given.
        key: String,
        /// All keys.
        known: String,
    },
    /// The value does not fit.
    #[error("{value:?} does not fit policy setting {key}: give {want}")]
    BadValue {
        /// The key.
        key: String,
        /// What was given.
        value: String,
        /// What is wanted.
        want: &'static str,
    },
    /// The scope before the key is none.
    #[error(
        "{0:?} names nobody for whom a setting could be made; write company:KEY, till:NAME:KEY or KEY for the store"
    )]
    BadScope(String),
    /// A till has no say in it.
    #[error("{0} is the same for a whole store; set it for the store or the company")]
    NotForTill(String),
    /// Not `key=value`.
    #[error("{0:?} is not a setting; write key=value, such as refund_limit_minor=5000")]
    NotKeyValue(String),
}

type Getter = fn(&Policy) -> String;
type Setter = fn(&mut Policy, &str) -> Option<()>;

/// Name, what a value looks like, how it is read out, how it is set.
const SETTINGS: &[(&str, &str, Getter, Setter)] = &[
    (
        "accepted_currencies",
        "currency codes separated by commas, such as GBP,EUR",
        get_currencies,
        set_currencies,
    ),
    ("ageing_hours", "hours", |p| p.ageing_hours.to_string(), |p, v| put(&mut p.ageing_hours, v)),
    (
        "batch_baseline",
        "a time of day such as 02:00",
        |p| format!("{:02}:{:02}", p.batch_baseline_minutes / 60, p.batch_baseline_minutes % 60),
        set_baseline,
    ),
    (
        "batch_threshold",
        "a number of records from 1 to 1000",
        |p| p.batch_threshold.to_string(),
        set_threshold,
    ),
    (
        "blind_refunds",
        "hold, flag or allow",
        |p| word(&p.blind_refunds),
        |p, v| set_word(&mut p.blind_refunds, v),
    ),
    (
        "cash_unit_minor",
        "CUR:minor units separated by commas, such as SEK:100,CHF:5",
        get_cash_units,
        set_cash_units,
    ),
    (
        "clock_tolerance",
        "a duration such as 5m",
        |p| duration(p.clock_tolerance_ms),
        |p, v| set_ms(&mut p.clock_tolerance_ms, v),
    ),
    ("discounts", "net or contra", |p| word(&p.discounts), |p, v| set_word(&mut p.discounts, v)),
    (
        "duplicate_window",
        "a duration such as 60s",
        |p| duration(p.duplicate_window_ms),
        |p, v| set_ms(&mut p.duplicate_window_ms, v),
    ),
    (
        "four_eyes_limit_minor",
        "minor units",
        |p| p.four_eyes_limit_minor.to_string(),
        |p, v| amount(&mut p.four_eyes_limit_minor, v),
    ),
    (
        "offline_card_count",
        "a number of payments",
        |p| p.offline_card_count.to_string(),
        |p, v| put(&mut p.offline_card_count, v),
    ),
    (
        "offline_card_hours",
        "hours",
        |p| p.offline_card_hours.to_string(),
        |p, v| put(&mut p.offline_card_hours, v),
    ),
    (
        "offline_card_limit_minor",
        "minor units",
        |p| p.offline_card_limit_minor.to_string(),
        |p, v| amount(&mut p.offline_card_limit_minor, v),
    ),
    (
        "over_short_tolerance_minor",
        "minor units",
        |p| p.over_short_tolerance_minor.to_string(),
        |p, v| amount(&mut p.over_short_tolerance_minor, v),
    ),
    (
        "receipt_scope",
        "till, store or company",
        |p| word(&p.receipt_scope),
        |p, v| set_word(&mut p.receipt_scope, v),
    ),
    (
        "refund_limit_minor",
        "minor units, or unlimited",
        |p| p.refund_limit_minor.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string()),
        set_refund_limit,
    ),
    (
        "refund_window_days",
        "days",
        |p| p.refund_window_days.to_string(),
        |p, v| put(&mut p.refund_window_days, v),
    ),
    ("retention_days", "days", |p| p.retention_days.to_string(), |p, v| put(&mut p.retention_days, v)),
    (
        "sync_interval",
        "a duration up to 1h, such as 5s; 0s sends at once",
        |p| duration(i64::try_from(p.sync_interval_ms).unwrap_or(i64::MAX)),
        set_sync_interval,
    ),
];

impl Policy {
    /// Sets one value from text.
    ///
    /// # Errors
    /// Unknown key, or a value that does not fit; both say what would.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), BadSetting> {
        let Some((_, want, _, setter)) = SETTINGS.iter().find(|setting| setting.0 == key) else {
            let known = SETTINGS.iter().map(|setting| setting.0).collect::<Vec<_>>().join(", ");
            return Err(BadSetting::UnknownKey { key: key.to_owned(), known });
        };
        setter(self, value).ok_or_else(|| BadSetting::BadValue {
            key: key.to_owned(),
            value: value.to_owned(),
            want,
        })
    }

    /// Every setting as text, by name.
    #[must_use]
    pub fn settings(&self) -> BTreeMap<&'static str, String> {
        SETTINGS.iter().map(|(key, _, get, _)| (*key, get(self))).collect()
    }

    /// One setting as text.
    fn get(&self, key: &str) -> Option<String> {
        SETTINGS.iter().find(|setting| setting.0 == key).map(|setting| setting.2(self))
    }

    /// Half the cash unit of a currency: the largest rounding that is one (LEDGER-RULES section 2.7).
    #[must_use]
    pub fn rounding_limit_minor(&self, currency: Currency) -> i64 {
        self.cash_unit_minor.get(&currency).copied().unwrap_or(1) / 2
    }
}

fn put<T: std::str::FromStr>(field: &mut T, text: &str) -> Option<()> {
    *field = text.parse().ok()?;
    Some(())
}

fn amount(field: &mut i64, text: &str) -> Option<()> {
    let value: i64 = text.parse().ok()?;
    (0..=crate::money::AMOUNT_LIMIT_MINOR).contains(&value).then(|| *field = value)
}

fn word<T: Serialize + fmt::Debug>(value: &T) -> String {
    serde_json::to_value(value).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

fn set_word<T: for<'de> Deserialize<'de>>(field: &mut T, text: &str) -> Option<()> {
    *field = serde_json::from_value(serde_json::Value::String(text.to_owned())).ok()?;
    Some(())
}

/// Reads `250ms`, `5s`, `5m`, `2h`, `1d`.
#[must_use]
pub fn parse_duration_ms(text: &str) -> Option<i64> {
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let (digits, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    digits.parse::<i64>().ok()?.checked_mul(factor)
}

fn duration(ms: i64) -> String {
    if ms % 60_000 == 0 && ms > 0 {
        format!("{}m", ms / 60_000)
    } else if ms % 1_000 == 0 {
        format!("{}s", ms / 1_000)
    } else {
        format!("{ms}ms")
    }
}

fn set_ms(field: &mut i64, text: &str) -> Option<()> {
    *field = parse_duration_ms(text)?;
    Some(())
}

fn set_sync_interval(policy: &mut Policy, text: &str) -> Option<()> {
    let interval_ms = u64::try_from(parse_duration_ms(text)?).ok()?;
    (interval_ms <= SYNC_INTERVAL_LIMIT_MS).then(|| policy.sync_interval_ms = interval_ms)
}

fn set_threshold(policy: &mut Policy, text: &str) -> Option<()> {
    let value: u32 = text.parse().ok()?;
    (1..=1_000).contains(&value).then(|| policy.batch_threshold = value)
}

fn set_refund_limit(policy: &mut Policy, text: &str) -> Option<()> {
    if text == "unlimited" {
        policy.refund_limit_minor = None;
        return Some(());
    }
    let mut value = 0;
    amount(&mut value, text)?;
    policy.refund_limit_minor = Some(value);
    Some(())
}

fn set_baseline(policy: &mut Policy, text: &str) -> Option<()> {
    let (hours, minutes) = text.split_once(':')?;
    let (hours, minutes): (u32, u32) = (hours.parse().ok()?, minutes.parse().ok()?);
    (hours < 24 && minutes < 60).then(|| policy.batch_baseline_minutes = hours * 60 + minutes)
}

fn get_currencies(policy: &Policy) -> String {
    policy.currencies.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn set_currencies(policy: &mut Policy, text: &str) -> Option<()> {
    let codes = text.split(',').map(str::trim).filter(|code| !code.is_empty());
    policy.currencies = codes.map(|code| code.parse().ok()).collect::<Option<_>>()?;
    Some(())
}

fn get_cash_units(policy: &Policy) -> String {
    policy.cash_unit_minor.iter().map(|(cur, unit)| format!("{cur}:{unit}")).collect::<Vec<_>>().join(",")
}

fn set_cash_units(policy: &mut Policy, text: &str) -> Option<()> {
    let mut units = BTreeMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (code, unit) = pair.split_once(':')?;
        let unit: i64 = unit.parse().ok()?;
        if !(1..=1_000_000).contains(&unit) {
            return None;
        }
        units.insert(code.parse().ok()?, unit);
    }
    policy.cash_unit_minor = units;
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_reads_back_what_it_prints() {
        let policy = Policy::default();
        for (key, value) in policy.settings() {
            let mut again = Policy::default();
            again.set(key, &value).unwrap();
            assert_eq!(again, policy, "{key}");
        }
    }

    #[test]
    fn settings_are_sorted_and_errors_say_what_would_fit() {
        assert!(SETTINGS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let unknown = Policy::default().set("refund_limit", "1").unwrap_err().to_string();
        assert!(unknown.contains("refund_limit_minor"), "{unknown}");
        let bad = Policy::default().set("refund_limit_minor", "-1").unwrap_err().to_string();
        assert!(bad.contains("unlimited"), "{bad}");
    }
}
