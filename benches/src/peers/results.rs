//! What was measured of the contenders, and the tables of it: medians of the rounds with their spread, each beside the
//! SQLite outbox and the limit that the machine itself sets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use super::Promises;
use crate::Outcome;
use crate::stats::{ratio, spread};
use crate::table::{micros, thousands};

/// The contender that everybody is held against: what a shop would build at home.
pub const SQLITE: &str = "SQLite outbox over TCP";
/// What all this is about.
pub const TILLSYNC: &str = "Tillsync, a store for each till";
/// The limit of a drain.
pub const QUIC: &str = "limit: QUIC + TLS, zstd blocks of 1,000, append + fdatasync + ack";
/// The limit of capture.
pub const DISK: &str = "limit: write + fdatasync, preallocated file";

/// What a number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Figure {
    /// Transactions a second, so many in each durable step.
    Capture(usize),
    /// Transactions a second from the first connection to the last acknowledgement, by so many tills.
    Drain(usize),
    /// The same until all are in the hub's books.
    DrainBooks(usize),
    /// Tenths of a byte for each of them.
    DrainWire(usize),
    /// The most memory that the hub took, bytes.
    DrainMemory(usize),
    /// As `Drain`, of the last tenth.
    Again,
    /// As `DrainBooks`, of the last tenth.
    AgainBooks,
    /// As `DrainWire`, of the last tenth.
    AgainWire,
    /// ns until acknowledged.
    LiveP50,
    /// ns until acknowledged.
    LiveP99,
    /// ns until in the books.
    LiveBooksP50,
    /// ns until in the books.
    LiveBooksP99,
    /// Tenths of a byte for each.
    LiveWire,
    /// Tenths of a byte a till.
    NothingWire,
    /// ns for all tills.
    NothingTime,
    /// Tenths of a byte a transaction.
    Disk,
    /// ns.
    Reopen,
}

/// Everything that was measured, in the order in which contenders came.
#[derive(Default)]
pub struct Results {
    contenders: Vec<(&'static str, Promises)>,
    figures: BTreeMap<(Figure, &'static str), Vec<u64>>,
    /// Contenders that could not be measured, and why.
    absent: BTreeSet<String>,
    /// Measurements that failed.
    failed: Vec<String>,
}

/// A column of a table: its title, what stands in it, and how that is written.
type Column = (String, Content);

enum Content {
    Number(Figure, fn(u64) -> String),
    /// A fraction of what a contender reached, or a multiple of what it took.
    Ratio(Figure, &'static str),
}

impl Results {
    /// A contender takes part.
    pub fn promise(&mut self, name: &'static str, promises: Promises) {
        if !self.contenders.iter().any(|(known, _)| *known == name) {
            self.contenders.push((name, promises));
        }
    }

    /// One does not, and why.
    pub fn absent(&mut self, why: String) {
        self.absent.insert(why);
    }

    /// A measurement failed; others go on.
    pub fn failed(&mut self, what: String) {
        self.failed.push(what);
    }

    /// Whether all went well.
    ///
    /// # Errors
    /// Everything that did not.
    pub fn verdict(&self) -> Outcome<()> {
        if self.failed.is_empty() { Ok(()) } else { Err(self.failed.join("\n").into()) }
    }

    /// A number of one round.
    pub fn add(&mut self, name: &'static str, figure: Figure, value: u64) {
        self.figures.entry((figure, name)).or_default().push(value);
    }

    /// How many numbers there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.figures.len()
    }

    /// Median, smallest and largest of a number.
    #[must_use]
    pub fn of(&self, name: &'static str, figure: Figure) -> Option<[u64; 3]> {
        spread(self.figures.get(&(figure, name))?.iter().copied())
    }

    /// Names of the contenders, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.contenders.iter().map(|(name, _)| *name)
    }

    /// Numbers of tills that drained, smallest first.
    #[must_use]
    pub fn tills(&self) -> Vec<usize> {
        let tills = self.figures.keys().filter_map(|(figure, _)| match figure {
            Figure::Drain(tills) => Some(*tills),
            _ => None,
        });
        tills.collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The tables.
    #[must_use]
    pub fn markdown(&self, rounds: u64, load: &str) -> String {
        let mut text = format!(
            "## Beside other programs\n\nMedians of {rounds} rounds (smallest–largest). {load}\n\n{NOTES}\n"
        );
        for why in self.absent.iter().chain(&self.failed) {
            let _ = writeln!(text, "\n{why}");
        }
        text.push_str("\n### What \"the hub has it\" promises\n\n");
        text.push_str("| | durable at the hub | encrypted | authenticated | signed, chained, checked | in the books |\n|---|---|---|---|---|---|\n");
        for (name, promises) in &self.contenders {
            let Promises { durable, encrypted, authenticated, verified, in_the_books } = *promises;
            let said = [durable, encrypted, authenticated, verified, in_the_books]
                .map(|kept| if kept { "yes" } else { "–" });
            let _ = writeln!(text, "| {name} | {} |", said.join(" | "));
        }
        self.table(&mut text, "Capture at one till, transactions a second", &Self::captures(&self.figures));
        for tills in self.tills() {
            let title = format!("Drain from an empty hub, tills: {tills}");
            let figures = [Figure::Drain(tills), Figure::DrainBooks(tills), Figure::DrainWire(tills)];
            let peak =
                ("hub's peak memory, MB".to_owned(), Content::Number(Figure::DrainMemory(tills), megabytes));
            let columns: Vec<Column> = drains(figures).into_iter().chain([peak]).collect();
            self.table(&mut text, &title, &columns);
        }
        let figures = [Figure::Again, Figure::AgainBooks, Figure::AgainWire];
        self.table(&mut text, "Drain of the last tenth, when the hub has the rest", &drains(figures));
        self.table(&mut text, "One at a time, over that history", &live());
        self.table(&mut text, "Nothing new; the hub's disk and return", &rest());
        text
    }

    fn captures(figures: &BTreeMap<(Figure, &'static str), Vec<u64>>) -> Vec<Column> {
        let groups = figures.keys().filter_map(|(figure, _)| match figure {
            Figure::Capture(group) => Some(*group),
            _ => None,
        });
        let mut columns = Vec::new();
        for group in groups.collect::<BTreeSet<_>>() {
            let figure = Figure::Capture(group);
            columns.push((format!("by {group}"), Content::Number(figure, thousands)));
            columns.push(("× SQLite".to_owned(), Content::Ratio(figure, SQLITE)));
            columns.push(("× limit".to_owned(), Content::Ratio(figure, DISK)));
        }
        columns
    }

    /// A table of those contenders that have something in it.
    fn table(&self, text: &mut String, title: &str, columns: &[Column]) {
        let titles: Vec<&str> = columns.iter().map(|(title, _)| title.as_str()).collect();
        let _ = write!(
            text,
            "\n### {title}\n\n| | {} |\n|---|{}\n",
            titles.join(" | "),
            "--:|".repeat(titles.len())
        );
        for name in self.names() {
            let cells: Vec<String> = columns.iter().map(|(_, content)| self.cell(name, content)).collect();
            if cells.iter().any(|cell| cell != NONE) {
                let _ = writeln!(text, "| {name} | {} |", cells.join(" | "));
            }
        }
    }

    fn cell(&self, name: &'static str, content: &Content) -> String {
        let cell = match content {
            Content::Number(figure, form) => self.of(name, *figure).map(|[median, low, high]| {
                if low == high {
                    form(median)
                } else {
                    format!("{} ({}–{})", form(median), form(low), form(high))
                }
            }),
            Content::Ratio(figure, base) => self
                .of(name, *figure)
                .zip(self.of(base, *figure))
                .map(|([own, ..], [its, ..])| ratio(own, its)),
        };
        cell.unwrap_or_else(|| NONE.to_owned())
    }
}

/// What stands where a measurement makes no sense, or was not taken.
const NONE: &str = "–";

/// What a reader must know of every row.
const NOTES: &str = "\
Tillsync's hub and tills are processes; those of the others are threads of the measuring program, which spares them \
switching and waiting. Bytes on the wire: of QUIC as its ends count them (datagrams with 28 B of headers each), of \
Tillsync and PostgreSQL by a relay on loopback in drains of their own that are not timed (of TCP the payload without \
headers), of SQLite and samod in the stream (without headers), of documents in process the messages alone. A ratio \
above 1 is faster where it is a rate, slower where it is a time. A drain of Tillsync is timed from the first till \
that the hub sees and has the start of the other tills' processes in it, after two seconds in which they rested; its \
no-op is a restart of all of them. One \
document or table a till, nothing flows from till to till; only the tills of one store of Tillsync tell each other \
everything, which takes most of the machine and the line in that row. \"–\": makes no sense there, or there is none.";

fn drains([acknowledged, books, wire]: [Figure; 3]) -> Vec<Column> {
    // What is in the books is held against what others have acknowledged: they have no books.
    vec![
        ("acknowledged, a second".to_owned(), Content::Number(acknowledged, thousands)),
        ("× SQLite".to_owned(), Content::Ratio(acknowledged, SQLITE)),
        ("× limit".to_owned(), Content::Ratio(acknowledged, QUIC)),
        ("in the books, a second".to_owned(), Content::Number(books, thousands)),
        ("wire, B each".to_owned(), Content::Number(wire, bytes)),
        ("× SQLite".to_owned(), Content::Ratio(wire, SQLITE)),
        ("× limit".to_owned(), Content::Ratio(wire, QUIC)),
    ]
}

fn live() -> Vec<Column> {
    vec![
        ("acknowledged p50, µs".to_owned(), Content::Number(Figure::LiveP50, micros)),
        ("× SQLite".to_owned(), Content::Ratio(Figure::LiveP50, SQLITE)),
        ("p99, µs".to_owned(), Content::Number(Figure::LiveP99, micros)),
        ("× SQLite".to_owned(), Content::Ratio(Figure::LiveP99, SQLITE)),
        ("in the books p50, µs".to_owned(), Content::Number(Figure::LiveBooksP50, micros)),
        ("p99, µs".to_owned(), Content::Number(Figure::LiveBooksP99, micros)),
        ("wire, B each".to_owned(), Content::Number(Figure::LiveWire, bytes)),
    ]
}

fn rest() -> Vec<Column> {
    vec![
        ("no-op, B a till".to_owned(), Content::Number(Figure::NothingWire, bytes)),
        ("no-op of all tills, µs".to_owned(), Content::Number(Figure::NothingTime, micros)),
        ("hub disk, B a transaction".to_owned(), Content::Number(Figure::Disk, bytes)),
        ("× SQLite".to_owned(), Content::Ratio(Figure::Disk, SQLITE)),
        ("hub's return, µs".to_owned(), Content::Number(Figure::Reopen, micros)),
        ("× SQLite".to_owned(), Content::Ratio(Figure::Reopen, SQLITE)),
    ]
}

fn megabytes(bytes: u64) -> String {
    thousands(bytes / 1_000_000)
}

/// Tenths of a byte as bytes: whole ones where they are many.
pub fn bytes(tenths: u64) -> String {
    if tenths < 10_000 { format!("{}.{}", tenths / 10, tenths % 10) } else { thousands(tenths / 10) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_contender_stands_beside_sqlite_and_the_limit_and_has_a_dash_where_it_has_no_number() {
        let mut results = Results::default();
        for (name, rate) in [(QUIC, 1_000), (SQLITE, 100), ("other", 250)] {
            results.promise(name, Promises::NOTHING);
            results.add(name, Figure::Drain(8), rate);
        }
        results.add("other", Figure::Drain(8), 350);
        results.add("other", Figure::Drain(8), 150);
        let text = results.markdown(3, "");
        let line = "| other | 250 (150–350) | 2.50 | 0.25 | – | – | – | – |";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn a_contender_without_a_number_has_no_row() {
        let mut results = Results::default();
        results.promise("silent", Promises::NOTHING);
        let text = results.markdown(1, "");
        assert_eq!(text.matches("silent").count(), 1, "only among the promises: {text}");
    }
}
