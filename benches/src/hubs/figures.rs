//! What was measured: tables, a row a measure, a column a number of hubs; and the file beside the source that keeps the last
//! whole run, from which documents and model are made. Integers only.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::drain::{ALL, LOGS};
use crate::Outcome;
use crate::stats::{ratio, spread};
use crate::table::{micros, thousands};

/// The last whole run.
const KEPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/hubs.json");

/// Names of the rows, which are their keys.
pub mod row {
    pub const ACKNOWLEDGED: &str = "until every till says that nothing waits, records a second";
    pub const HALF: &str = "half of the tills said so after, ms";
    pub const LAST: &str = "the last till said so after, ms";
    pub const BOOKS: &str = "until posted in the journals, durably, records a second";
    pub const TABLES: &str = "until in the tables that people query, records a second";
    pub const CPU_BOOKS: [&str; 3] = [
        "processor time until posted, hubs, µs a record",
        "processor time until posted, tills, µs a record",
        "processor time until posted (COPY: until committed), server, µs a record",
    ];
    pub const CPU_TABLES: [&str; 3] = [
        "processor time until in the tables, hubs, µs a record",
        "processor time until in the tables, tills, µs a record",
        "processor time until in the tables, server, µs a record",
    ];
    pub const WAL: &str = "write-ahead log, all of it, B a record";
    pub const ROWS: &str = "rows of the logs, for 1,000 records";
    pub const ROW_BYTES: &str = "bytes in these rows, B a record";
    pub const ENTRY_DISK: &str = "`tillsync.entry` on the disk, with indexes, B a record";
    pub const TABLE_DISK: &str = "tables that people query, with indexes, B a record";
    pub const CONNECTIONS: &str = "connections of all hubs to the database";

    pub const SAVED: [&str; 2] =
        ["POST until saved at the till, p50, µs", "POST until saved at the till, p99, µs"];
    pub const AT_HUB: [&str; 2] = [
        "POST until the till shows it at the hub, p50, µs",
        "POST until the till shows it at the hub, p99, µs",
    ];
    pub const BUSY: &str = "all tills at once, one at a time each, at the hubs, records a second";
    pub const BUSY_CPU: [&str; 3] = [
        "processor time for them, hubs, µs a record",
        "processor time for them, tills, µs a record",
        "processor time for them, server, µs a record",
    ];
    pub const BUSY_WAL: &str = "write-ahead log for them, B a record";
    pub const BUSY_ROWS: &str = "rows of the logs for 1,000 of them";
    pub const BUSY_ROW_BYTES: &str = "bytes in these rows for them, B a record";
    pub const BUSY_COMMITS: &str = "commits for 1,000 of them";
    pub const BUSY_DISK: &str = "all tables on the disk for them, with indexes, B a record";
    pub const IDLE_CPU: [&str; 2] = ["nobody sells: hubs, % of a core", "nobody sells: server, % of a core"];
    pub const IDLE_WAL: &str = "nobody sells: write-ahead log, B a second";
    pub const IDLE_COMMITS: &str = "nobody sells: commits a second";
    /// Connections by what the server's list of them shows.
    pub const PURPOSES: [(&str, &str); 5] = [
        ("tillsync hub members", "connections: hubs see each other"),
        ("tillsync hub writer", "connections: logs are written"),
        ("tillsync hub reader", "connections: logs are read, own and along"),
        ("tillsync hub ledger", "connections: the books as tables"),
        ("tillsync hub webhooks", "connections: webhooks"),
    ];

    pub const FOLLOWED: &str =
        "before: captured, posted and in the tables of the one shard, records a second";
    pub const ALONG_CPU: &str =
        "before: head office's hub, which reads the shard along, processor time, µs a record";
    pub const ALONG_MEMORY: &str = "before: its memory for them, B a record";
    pub const WARM: &str = "killed; the other hub has read the shard along, ms";
    pub const COLD: &str = "killed; what it kept of the shard is gone: it reads from the first entry, ms";
    pub const ORDERLY: &str = "stopped in order; the other hub is warm, ms";
}

/// How a number is written.
#[derive(Clone, Copy)]
enum Form {
    Plain,
    /// Nanoseconds as microseconds.
    Micros,
    /// Nanoseconds as milliseconds.
    Millis,
    /// Thousandths of a hundredth of a core.
    Load,
}

impl Form {
    fn text(self, value: u64) -> String {
        match self {
            Self::Plain => thousands(value),
            Self::Micros => micros(value),
            Self::Millis => thousands(value / 1_000_000),
            Self::Load => format!("{}.{}", value / 1_000, value % 1_000 / 100),
        }
    }
}

/// A row and how its numbers are written.
type Planned = (&'static str, Form);

const DRAIN: &[Planned] = &[
    (row::ACKNOWLEDGED, Form::Plain),
    (row::HALF, Form::Millis),
    (row::LAST, Form::Millis),
    (row::BOOKS, Form::Plain),
    (row::TABLES, Form::Plain),
    (row::CPU_BOOKS[0], Form::Micros),
    (row::CPU_BOOKS[1], Form::Micros),
    (row::CPU_BOOKS[2], Form::Micros),
    (row::CPU_TABLES[0], Form::Micros),
    (row::CPU_TABLES[1], Form::Micros),
    (row::CPU_TABLES[2], Form::Micros),
    (row::WAL, Form::Plain),
    (row::ROWS, Form::Plain),
    (row::ROW_BYTES, Form::Plain),
    (row::ENTRY_DISK, Form::Plain),
    (row::TABLE_DISK, Form::Plain),
    (row::CONNECTIONS, Form::Plain),
];

const LIVE: &[Planned] = &[
    (row::SAVED[0], Form::Micros),
    (row::SAVED[1], Form::Micros),
    (row::AT_HUB[0], Form::Micros),
    (row::AT_HUB[1], Form::Micros),
    (row::BUSY, Form::Plain),
    (row::BUSY_CPU[0], Form::Micros),
    (row::BUSY_CPU[1], Form::Micros),
    (row::BUSY_CPU[2], Form::Micros),
    (row::BUSY_WAL, Form::Plain),
    (row::BUSY_ROWS, Form::Plain),
    (row::BUSY_ROW_BYTES, Form::Plain),
    (row::BUSY_COMMITS, Form::Plain),
    (row::BUSY_DISK, Form::Plain),
    (row::IDLE_CPU[0], Form::Load),
    (row::IDLE_CPU[1], Form::Load),
    (row::IDLE_WAL, Form::Plain),
    (row::IDLE_COMMITS, Form::Plain),
    (row::PURPOSES[0].1, Form::Plain),
    (row::PURPOSES[1].1, Form::Plain),
    (row::PURPOSES[2].1, Form::Plain),
    (row::PURPOSES[3].1, Form::Plain),
    (row::PURPOSES[4].1, Form::Plain),
];

const TAKEOVER: &[Planned] = &[
    (row::WARM, Form::Millis),
    (row::COLD, Form::Millis),
    (row::ORDERLY, Form::Millis),
    (row::FOLLOWED, Form::Plain),
    (row::ALONG_CPU, Form::Micros),
    (row::ALONG_MEMORY, Form::Plain),
];

/// Head of each table, and its rows.
const TABLES: &[(&str, &[Planned])] = &[
    ("captured offline, all of it at once", DRAIN),
    ("tills online", LIVE),
    ("a hub ends: until the shard's tills are served by the other; records in the shard", TAKEOVER),
];

/// Rows that are held against a column, in a row of their own.
const AGAINST: [(&str, &str); 2] = [(row::ACKNOWLEDGED, LOGS), (row::TABLES, ALL)];

/// A number of a row and column over all rounds: in the file, median, smallest and largest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cell {
    row: String,
    column: String,
    rounds: Vec<u64>,
}

/// Everything that was measured, in the order in which it was first measured.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Figures {
    /// Machine and rounds, for people.
    pub conditions: String,
    cells: Vec<Cell>,
}

impl Figures {
    /// One round of a cell.
    pub fn add(&mut self, row: &'static str, column: &str, value: u64) {
        assert!(
            TABLES.iter().any(|(_, rows)| rows.iter().any(|(name, _)| *name == row)),
            "{row} is in no plan"
        );
        match self.cells.iter_mut().find(|cell| cell.row == row && cell.column == column) {
            Some(cell) => cell.rounds.push(value),
            None => {
                self.cells.push(Cell { row: row.to_owned(), column: column.to_owned(), rounds: vec![value] });
            }
        }
    }

    /// How many cells.
    #[must_use]
    pub fn len(&self) -> usize {
        self.cells.len()
    }

    /// Median of a cell.
    ///
    /// # Errors
    /// It was not measured.
    pub fn median(&self, row: &str, column: &str) -> Outcome<u64> {
        let found = self.spread(row, column).map(|[median, ..]| median);
        found.ok_or_else(|| {
            format!("{row:?} was not measured for {column:?}; `benches hubs --write` does").into()
        })
    }

    fn spread(&self, row: &str, column: &str) -> Option<[u64; 3]> {
        let cell = self.cells.iter().find(|cell| cell.row == row && cell.column == column)?;
        spread(cell.rounds.iter().copied())
    }

    /// The last whole run.
    ///
    /// # Errors
    /// There is none.
    pub fn kept() -> Outcome<Self> {
        Self::read(Path::new(KEPT))
    }

    fn read(path: &Path) -> Outcome<Self> {
        Ok(serde_json::from_str(&std::fs::read_to_string(path)?)?)
    }

    /// Keeps this run as the last one.
    ///
    /// # Errors
    /// Part of it was not measured, or the disk refuses.
    pub fn keep(&self) -> Outcome<()> {
        for (head, rows) in TABLES {
            if let Some((row, _)) =
                rows.iter().find(|(row, _)| !self.cells.iter().any(|cell| cell.row == *row))
            {
                return Err(format!("only whole runs are kept: {head} has no {row:?}").into());
            }
        }
        Ok(std::fs::write(KEPT, serde_json::to_string_pretty(self)? + "\n")?)
    }

    /// The tables.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("{}\n", self.conditions);
        for (head, rows) in TABLES {
            let mut columns: Vec<&str> = Vec::new();
            for cell in self.cells.iter().filter(|cell| rows.iter().any(|(row, _)| *row == cell.row)) {
                if !columns.contains(&cell.column.as_str()) {
                    columns.push(&cell.column);
                }
            }
            if columns.is_empty() {
                continue;
            }
            text.push_str(&format!(
                "\n| {head} | {} |\n|---|{}\n",
                columns.join(" | "),
                "--:|".repeat(columns.len())
            ));
            for (row, form) in *rows {
                let cell = |column: &&str| self.cell(row, column, *form);
                let cells: Vec<String> = columns.iter().map(cell).collect();
                text.push_str(&format!("| {row} | {} |\n", cells.join(" | ")));
                if let Some((_, base)) = AGAINST.iter().find(|(held, _)| held == row) {
                    let held = |column: &&str| self.against(row, column, base);
                    let cells: Vec<String> = columns.iter().map(held).collect();
                    text.push_str(&format!(
                        "| the same as a multiple of “{base}” | {} |\n",
                        cells.join(" | ")
                    ));
                }
            }
        }
        text
    }

    fn cell(&self, row: &str, column: &str, form: Form) -> String {
        match self.spread(row, column) {
            None => String::new(),
            Some([median, low, high]) if form.text(low) == form.text(high) => form.text(median),
            Some([median, low, high]) => {
                format!("{} ({}–{})", form.text(median), form.text(low), form.text(high))
            }
        }
    }

    fn against(&self, row: &str, column: &str, base: &str) -> String {
        match (self.spread(row, column), self.spread(row, base)) {
            (Some([own, ..]), Some([its, ..])) => ratio(own, its),
            _ => String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_column_for_what_was_measured_and_the_first_row_is_held_against_copy() {
        let mut figures = Figures::default();
        for rate in [9_000, 10_000, 14_000] {
            figures.add(row::ACKNOWLEDGED, "2 hubs", rate);
        }
        figures.add(row::ACKNOWLEDGED, LOGS, 100_000);
        figures.add(row::CPU_BOOKS[0], "2 hubs", 51_234);
        let text = figures.markdown();
        assert!(
            text.contains("| captured offline, all of it at once | 2 hubs | COPY of the logs' rows |"),
            "{text}"
        );
        assert!(text.contains("| 10,000 (9,000–14,000) | 100,000 |"), "{text}");
        assert!(text.contains("| 0.10 | 1.00 |") && text.contains("| 51.2 |  |"), "{text}");
        assert!(!text.contains("tills online"), "{text}");
        assert_eq!(figures.median(row::ACKNOWLEDGED, "2 hubs").unwrap(), 10_000);
        assert!(figures.median(row::ACKNOWLEDGED, "3 hubs").is_err());
    }

    #[test]
    fn half_a_run_is_not_kept() {
        let mut figures = Figures::default();
        figures.add(row::ACKNOWLEDGED, "1 hub", 1);
        assert!(figures.keep().is_err());
    }
}
