//! `close-status` and `lock`: how far a store's day has come, and closing a period. What is finished, the hub says.

use serde_json::{Value, json};

use super::amount;
use super::client::{Role, Where, escape};
use super::out::Out;
use super::table::{Side, Table};
use super::words::{count, local_time, text, text_or_dash};
use crate::error::Failure;

/// How far a store's day has come, till by till
///
/// Says for each till whether its day is finished, complete, still open, has records that are known and have not
/// arrived, or a gap; and for a Z that differs, in which figures and by which receipts.
#[derive(Debug, clap::Args)]
pub(super) struct CloseStatus {
    /// The store
    #[arg(long)]
    store: String,
    /// The business day
    #[arg(long, value_name = "YYYY-MM-DD")]
    day: String,
    #[command(flatten)]
    at: Where,
}

/// Lock a store's days through one: their figures change no more
///
/// Locks every day up to and including one. Only finished days are locked; what arrives later for them is posted on the
/// first open day.
#[derive(Debug, clap::Args)]
pub(super) struct Lock {
    /// The store
    #[arg(long)]
    store: String,
    /// Last day that is locked
    #[arg(long, value_name = "YYYY-MM-DD")]
    through: String,
    /// Lock although a day is not finished; needs --reason
    #[arg(long = "override", requires = "reason")]
    over: bool,
    /// Why, in words
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    at: Where,
}

impl CloseStatus {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Hub, "close-status")?;
        let day = client.get(&format!("/v1/days/{}/{}", escape(&self.store), escape(&self.day)))?;
        if out.json() { out.document(&day) } else { out.text(&page(&day)) }
    }
}

impl Lock {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Hub, "lock")?;
        let reason = self.reason.clone().unwrap_or_default();
        let body = json!({"through": self.through, "override": self.over, "reason": reason});
        let lock = client.post(&format!("/v1/stores/{}/locks", escape(&self.store)), &body)?;
        if out.json() {
            return out.document(&lock);
        }
        out.text(&format!(
            "Lock {} of {}: days through {} are closed, {} is open. {} named.",
            text(&lock["lock"]),
            text(&lock["store"]),
            text(&lock["through"]),
            text(&lock["open_day"]),
            count(lock["heads"].as_array().map_or(0, Vec::len) as u64, "log is", "logs are"),
        ))
    }
}

/// A state as one would say it.
fn words(state: &str) -> &str {
    match state {
        "gap" => "gap: numbers are missing in between",
        "missing" => "known but not arrived",
        "unheard" => "not heard of since: may hold records",
        "open" => "not closed yet",
        "complete" => "complete, not finished",
        "no_trade" => "no trade",
        "finished" => "finished",
        other => other,
    }
}

fn page(day: &Value) -> String {
    let locked = if day["locked"] == true { ", locked" } else { "" };
    let state = words(day["state"].as_str().unwrap_or(""));
    let mut page = format!("{} {}: {state}{locked}\n\n", text(&day["store"]), text(&day["day"]));
    let heads = [
        ("Till", Side::Left),
        ("State", Side::Left),
        ("Records", Side::Right),
        ("Numbers", Side::Left),
        ("Missing", Side::Left),
        ("Z", Side::Left),
        ("Last heard", Side::Left),
    ];
    let mut table = Table::new(&heads);
    let mut notes = String::new();
    for till in day["terminals"].as_array().into_iter().flatten() {
        let numbers = match (till["first_seq"].as_u64(), till["last_seq"].as_u64()) {
            (Some(first), Some(last)) => format!("{first}-{last}"),
            _ => String::new(),
        };
        let z = match till["close"]["z_number"].as_u64() {
            Some(number) if till["close"]["agrees"] == true => format!("{number}, agrees"),
            Some(number) => format!("{number}, differs"),
            None => String::new(),
        };
        table.row([
            text(&till["terminal"]),
            words(till["state"].as_str().unwrap_or("")).to_owned(),
            text(&till["records"]),
            numbers,
            ranges(&till["missing"]),
            z,
            local_time(&json!(text_or_dash(&till["last_seen"]))),
        ]);
        notes.push_str(&till_notes(till));
    }
    page.push_str(&table.set());
    if table.is_empty() {
        page.push_str("No till was there on that day.\n");
    }
    page + &notes
}

/// What keeps a till's day from being finished.
fn till_notes(till: &Value) -> String {
    let name = text(&till["terminal"]);
    let mut notes = String::new();
    for figure in till["close"]["differences"].as_array().into_iter().flatten() {
        let currency = text(&figure["currency"]);
        let shown = |field: &str| {
            if text(&figure["figure"]).ends_with(" count") {
                text(&figure[field])
            } else {
                amount::show(&figure[field], &currency)
            }
        };
        notes.push_str(&format!(
            "{name}: its Z says {} {} {}, its records say {}\n",
            text(&figure["figure"]),
            shown("stated_minor"),
            currency,
            shown("found_minor"),
        ));
    }
    let missing = ranges(&till["close"]["missing"]);
    if !missing.is_empty() {
        notes.push_str(&format!("{name}: its Z covers numbers that have not arrived: {missing}\n"));
    }
    let receipts: Vec<String> =
        till["close"]["receipts"].as_array().into_iter().flatten().map(text).collect();
    if !receipts.is_empty() {
        notes.push_str(&format!("{name}: a difference is as large as receipt {}\n", receipts.join(", ")));
    }
    let cases: Vec<String> = till["urgent_cases"].as_array().into_iter().flatten().map(text).collect();
    if !cases.is_empty() {
        notes.push_str(&format!("{name}: open today: {}; `tillsync case ID` shows one\n", cases.join(", ")));
    }
    if notes.is_empty() { notes } else { format!("\n{notes}") }
}

/// `3, 7-9` of `[[3,3],[7,9]]`.
fn ranges(ranges: &Value) -> String {
    let one = |range: &Value| match (range[0].as_u64(), range[1].as_u64()) {
        (Some(first), Some(last)) if first == last => first.to_string(),
        (Some(first), Some(last)) => format!("{first}-{last}"),
        _ => String::new(),
    };
    ranges.as_array().into_iter().flatten().map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_tells_who_is_finished_who_is_missing_and_what_a_z_says_otherwise() {
        let page = page(&json!({
            "store": "s1", "day": "2026-11-23", "state": "missing", "locked": false,
            "terminals": [
                {"terminal": "till-01", "state": "complete", "records": 3, "first_seq": 1, "last_seq": 3, "missing": [],
                 "last_seen": "t", "urgent_cases": ["C-9"],
                 "close": {"z_number": 1, "agrees": false, "missing": [[2, 2]], "receipts": ["R-7"],
                    "differences": [{"figure": "expected cash", "currency": "GBP", "stated_minor": 12000, "found_minor": 10800}]}},
                {"terminal": "till-02", "state": "missing", "records": 1, "first_seq": 1, "last_seq": 1,
                 "missing": [[2, 4]], "last_seen": null, "urgent_cases": [], "close": null}
            ]
        }));
        let wanted = "\
s1 2026-11-23: known but not arrived

Till     State                   Records  Numbers  Missing  Z           Last heard
───────  ──────────────────────  ───────  ───────  ───────  ──────────  ──────────
till-01  complete, not finished        3  1-3               1, differs  t
till-02  known but not arrived         1  1-1      2-4                  –

till-01: its Z says expected cash 120.00 GBP, its records say 108.00
till-01: its Z covers numbers that have not arrived: 2
till-01: a difference is as large as receipt R-7
till-01: open today: C-9; `tillsync case ID` shows one
";
        assert_eq!(page, wanted);
    }
}
