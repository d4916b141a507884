//! The report: one Markdown table, rows in the order of the plan below, each with the row it is held against.

use std::collections::BTreeMap;

use crate::stats::{Measure, ratio, spread};

/// What a row is compared by.
#[derive(Clone, Copy)]
enum By {
    /// How many a second, a fraction of the base's.
    Rate(&'static str),
    /// Median time, a multiple of the base's.
    Time(&'static str),
    /// Nothing.
    Nothing,
}

/// Names of the rows, which are their keys.
pub mod row {
    pub const RAW_GROWING: &str = "raw: append + fdatasync, growing file";
    pub const RAW: &str = "raw: write + fdatasync, preallocated file";
    pub const RAW_16: &str = "raw: 16 a write + fdatasync, preallocated";
    pub const RAW_1000: &str = "raw: 1,000 a write + fdatasync, preallocated";
    pub const RAW_TWICE: &str = "raw: two fdatasyncs in a row (two files)";
    pub const CAPTURE_1: &str = "capture in process, one at a time";
    pub const CAPTURE_32: &str = "capture in process, 32 at a time";
    pub const CAPTURE_1_SEALED: &str = "capture in process, one at a time, encrypted";
    pub const CAPTURE_32_SEALED: &str = "capture in process, 32 at a time, encrypted";
    pub const HTTP_1: &str = "capture `POST /v1/transactions`, one at a time";
    pub const HTTP_32: &str = "capture `POST /v1/transactions`, 32 at a time";
    pub const HTTP_LINES: &str = "capture `POST` of 100 NDJSON lines (time per POST)";
    pub const HTTP_EMPTY: &str = "HTTP alone: `GET /healthz`, one at a time";
    pub const LIVE_SAVED: &str = "live: POST until saved at the till (online)";
    pub const LIVE_BOOKS: &str = "live: POST until in the hub's books";
    pub const LIVE_CUSTODY: &str = "live: POST until the till shows it at the hub";
    pub const LIVE_POLL: &str = "live: one poll of the hub (how coarse the above is)";
    pub const DRAIN_1: &str = "drain, 1 till: ready until all in the books";
    pub const DRAIN_1_SEALED: &str = "drain, 1 till: ready until all in the books, both encrypted";
    pub const DRAIN_1_BACK: &str = "drain, 1 till: hub back until all in the books";
    pub const DRAIN_8: &str = "drain, 8 tills: first till ready until all in the books";
    pub const DRAIN_8_BACK: &str = "drain, 8 tills: hub back until all in the books";
    pub const WIRE_1: [&str; 2] =
        ["drain, 1 till: bytes on the wire, till to hub", "drain, 1 till: bytes on the wire, hub to till"];
    pub const WIRE_8: [&str; 2] = [
        "drain, 8 tills: bytes on the wire, tills to hub",
        "drain, 8 tills: bytes on the wire, hub to tills",
    ];
    pub const TILL_CLEAN: &str = "restart: till, 10,000 records, after a clean stop";
    pub const TILL_KILLED: &str = "restart: till, 10,000 records, after kill -9";
    pub const HUB_CLEAN: &str = "restart: hub, 10,000 records, after a clean stop";
    pub const HUB_KILLED: &str = "restart: hub, 10,000 records, after kill -9";
    pub const MEMORY_HUB: &str = "memory: hub, each further record of history (of 25 days)";
    pub const MEMORY_HUB_AGAIN: &str = "memory: hub after a restart, each further record of history";
    pub const MEMORY_TILL: &str = "memory: till, each further record of its store's history";
    pub const LONG_CLEAN: &str = "restart: hub, 100,000 records over 25 days, after a clean stop";
    pub const LONG_KILLED: &str = "restart: hub, 100,000 records over 25 days, after kill -9";
    pub const BOOKS_SMALL: &str = "books: 10,000 records at once";
    pub const BOOKS_LARGE: &str = "books: 100,000 records at once";
    pub const BOOKS_FILING: &str = "books: 100,000 records at once, of which filing (before `settle`)";
    pub const ONE_MORE: [&str; 3] = [
        "books: one more record on 1,000",
        "books: one more record on 10,000",
        "books: one more record on 100,000",
    ];
    pub const CONSOLE_JUDGE: &str =
        "console: first start of a hub with 500 stores, 5,000 tills, 1,000,000 records, none of them judged";
    pub const CONSOLE_START: &str = "console: its next start";
    pub const CONSOLE_FIRST: &str = "console: its first page, the first time";
    pub const CONSOLE_WHOLE: &str = "console: until that page has every store";
    pub const CONSOLE_AGAIN: &str = "console: its first page, afterwards";
    pub const CONSOLE_GRID_FIRST: &str = "console: its grid of days, the first time";
    pub const CONSOLE_GRID_AGAIN: &str = "console: its grid of days, afterwards";
    pub const SIMULATED_HOURS: &str = "simulator: hours of five tills and a hub with faults, one thread";
    pub const SIMULATED_SEEDS: &str = "simulator: one seed of a week; beside it seeds a minute, one thread";
}

const PLAN: &[(&str, By)] = &[
    (row::RAW_GROWING, By::Rate(row::RAW)),
    (row::RAW, By::Nothing),
    (row::RAW_16, By::Rate(row::RAW)),
    (row::RAW_1000, By::Rate(row::RAW)),
    (row::CAPTURE_1, By::Rate(row::RAW)),
    (row::HTTP_1, By::Rate(row::RAW)),
    (row::CAPTURE_32, By::Rate(row::RAW_16)),
    (row::HTTP_32, By::Rate(row::RAW_16)),
    (row::CAPTURE_1_SEALED, By::Rate(row::CAPTURE_1)),
    (row::CAPTURE_32_SEALED, By::Rate(row::CAPTURE_32)),
    (row::HTTP_LINES, By::Rate(row::RAW_1000)),
    (row::HTTP_EMPTY, By::Nothing),
    (row::RAW_TWICE, By::Nothing),
    (row::LIVE_SAVED, By::Time(row::RAW_TWICE)),
    (row::LIVE_CUSTODY, By::Time(row::RAW_TWICE)),
    (row::LIVE_BOOKS, By::Time(row::RAW_TWICE)),
    (row::LIVE_POLL, By::Nothing),
    (row::DRAIN_1, By::Rate(row::RAW_1000)),
    (row::DRAIN_1_SEALED, By::Rate(row::DRAIN_1)),
    (row::DRAIN_8, By::Rate(row::RAW_1000)),
    (row::DRAIN_1_BACK, By::Rate(row::RAW_1000)),
    (row::DRAIN_8_BACK, By::Rate(row::RAW_1000)),
    (row::WIRE_1[0], By::Nothing),
    (row::WIRE_1[1], By::Nothing),
    (row::WIRE_8[0], By::Nothing),
    (row::WIRE_8[1], By::Nothing),
    (row::BOOKS_SMALL, By::Nothing),
    (row::BOOKS_LARGE, By::Rate(row::BOOKS_SMALL)),
    (row::BOOKS_FILING, By::Time(row::BOOKS_LARGE)),
    (row::ONE_MORE[0], By::Nothing),
    (row::ONE_MORE[1], By::Time(row::ONE_MORE[0])),
    (row::ONE_MORE[2], By::Time(row::ONE_MORE[0])),
    (row::TILL_CLEAN, By::Nothing),
    (row::TILL_KILLED, By::Time(row::TILL_CLEAN)),
    (row::HUB_CLEAN, By::Nothing),
    (row::HUB_KILLED, By::Time(row::HUB_CLEAN)),
    (row::LONG_CLEAN, By::Time(row::HUB_CLEAN)),
    (row::LONG_KILLED, By::Time(row::LONG_CLEAN)),
    (row::MEMORY_HUB, By::Nothing),
    (row::MEMORY_HUB_AGAIN, By::Nothing),
    (row::MEMORY_TILL, By::Nothing),
    (row::CONSOLE_JUDGE, By::Nothing),
    (row::CONSOLE_START, By::Nothing),
    (row::CONSOLE_FIRST, By::Nothing),
    (row::CONSOLE_WHOLE, By::Nothing),
    (row::CONSOLE_AGAIN, By::Nothing),
    (row::CONSOLE_GRID_FIRST, By::Nothing),
    (row::CONSOLE_GRID_AGAIN, By::Nothing),
    (row::SIMULATED_HOURS, By::Nothing),
    (row::SIMULATED_SEEDS, By::Nothing),
];

/// Everything that was measured, by row.
#[derive(Default)]
pub struct Table {
    rows: BTreeMap<&'static str, Vec<Measure>>,
}

impl Table {
    /// One round of a row.
    pub fn add(&mut self, row: &'static str, measure: Measure) {
        assert!(PLAN.iter().any(|(planned, _)| *planned == row), "{row} is in no plan");
        self.rows.entry(row).or_default().push(measure);
    }

    /// How many rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The table.
    #[must_use]
    pub fn markdown(&self, rounds: u64, load: &str) -> String {
        let mut text = format!(
            "Medians of {rounds} rounds (smallest–largest). {load}\n\n| | p50 or whole, µs | p99, µs | a second | B each | held against |\n|---|--:|--:|--:|--:|---|\n"
        );
        for (name, by) in PLAN.iter().filter(|(name, _)| self.rows.contains_key(name)) {
            let cell = |field: fn(&Measure) -> Option<u64>, form: fn(u64) -> String| {
                self.spread(name, field).map_or_else(String::new, |[median, low, high]| {
                    format!("{} ({}–{})", form(median), form(low), form(high))
                })
            };
            text.push_str(&format!(
                "| {name} | {} | {} | {} | {} | {} |\n",
                cell(|measure| measure.p50_ns, micros),
                cell(|measure| measure.p99_ns, micros),
                cell(|measure| measure.rate, thousands),
                cell(|measure| measure.bytes_tenths, |tenths| format!("{}.{}", tenths / 10, tenths % 10)),
                self.held_against(name, *by)
            ));
        }
        text
    }

    fn spread(&self, row: &str, field: fn(&Measure) -> Option<u64>) -> Option<[u64; 3]> {
        spread(self.rows.get(row)?.iter().filter_map(field))
    }

    fn held_against(&self, row: &str, by: By) -> String {
        let (base, field, what): (_, fn(&Measure) -> Option<u64>, _) = match by {
            By::Nothing => return String::new(),
            By::Rate(base) => (base, |measure| measure.rate, "rate"),
            By::Time(base) => (base, |measure| measure.p50_ns, "time"),
        };
        match (self.spread(row, field), self.spread(base, field)) {
            (Some([own, ..]), Some([its, ..])) => format!("{} × the {what} of “{base}”", ratio(own, its)),
            _ => String::new(),
        }
    }
}

/// Nanoseconds as microseconds: a tenth of one where one is little.
pub fn micros(ns: u64) -> String {
    if ns < 100_000 { format!("{}.{}", ns / 1_000, ns % 1_000 / 100) } else { thousands(ns / 1_000) }
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(
            (thousands(7), thousands(1_000), thousands(1_234_567)),
            ("7".into(), "1,000".into(), "1,234,567".into())
        );
        assert_eq!(
            (micros(1_250), micros(99_999), micros(1_234_567)),
            ("1.2".into(), "99.9".into(), "1,234".into())
        );
    }

    #[test]
    fn a_row_is_held_against_its_base() {
        let mut table = Table::default();
        table.add(row::RAW, Measure { rate: Some(8_000), ..Measure::default() });
        table.add(row::CAPTURE_1, Measure { rate: Some(4_000), ..Measure::default() });
        let text = table.markdown(1, "");
        assert!(text.contains("0.50 × the rate of “raw: write"), "{text}");
    }
}
