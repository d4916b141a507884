//! What a scale run says: one Markdown table, a row a measure, a column a size, and at the end of each row whether it
//! stayed flat. Integers only.

use std::collections::BTreeMap;

use crate::stats::{ratio, spread};
use crate::table::{micros, thousands};

/// What a number counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Nanoseconds.
    Time,
    /// Things a second.
    Rate,
    /// Bytes.
    Bytes,
    /// Thousandths of a hundredth of a core.
    Load,
}

impl Unit {
    /// What stands behind the name of a row.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "µs",
            Self::Rate => "a second",
            Self::Bytes => "B",
            Self::Load => "% of a core",
        }
    }

    /// A number of it, for people.
    #[must_use]
    pub fn form(self, value: u64) -> String {
        match self {
            Self::Time => micros(value),
            Self::Rate | Self::Bytes => thousands(value),
            Self::Load => format!("{}.{:03}", value / 1_000, value % 1_000),
        }
    }
}

/// One number of one round.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// What is drawn together; names the plot's file.
    pub family: &'static str,
    /// The row.
    pub row: &'static str,
    /// What it counts.
    pub unit: Unit,
    /// How much.
    pub value: u64,
}

/// A row: all rounds by size.
pub struct Row {
    /// See [`Reading`].
    pub family: &'static str,
    /// See [`Reading`].
    pub name: &'static str,
    /// See [`Reading`].
    pub unit: Unit,
    cells: BTreeMap<usize, Vec<u64>>,
}

impl Row {
    /// Median by size.
    #[must_use]
    pub fn medians(&self) -> Vec<(usize, u64)> {
        let median = |(size, rounds): (&usize, &Vec<u64>)| Some((*size, spread(rounds.iter().copied())?[0]));
        self.cells.iter().filter_map(median).collect()
    }

    /// Whether the largest size costs what the smallest does: "flat" within half as much again, otherwise the factor.
    #[must_use]
    pub fn verdict(&self) -> String {
        let medians = self.medians();
        let (Some((_, first)), Some((_, last))) = (medians.first(), medians.last()) else {
            return String::new();
        };
        let within = |a: u64, b: u64| a.saturating_mul(2) <= b.saturating_mul(3);
        match (*first, *last) {
            _ if medians.len() < 2 => String::new(),
            (a, b) if within(a, b) && within(b, a) => format!("flat ({})", ratio(b, a)),
            (0, _) => "from nothing".to_owned(),
            (a, b) => format!("× {}", ratio(b, a)),
        }
    }
}

/// Everything that was read, in the order in which it was first read.
#[derive(Default)]
pub struct Sheet {
    /// The rows.
    pub rows: Vec<Row>,
}

impl Sheet {
    /// Takes in what a round says of a size.
    pub fn add(&mut self, size: usize, readings: Vec<Reading>) {
        for Reading { family, row: name, unit, value } in readings {
            let at = self.rows.iter().position(|row| row.name == name && row.family == family);
            let at = at.unwrap_or_else(|| {
                self.rows.push(Row { family, name, unit, cells: BTreeMap::new() });
                self.rows.len() - 1
            });
            self.rows[at].cells.entry(size).or_default().push(value);
        }
    }

    /// Families in order.
    #[must_use]
    pub fn families(&self) -> Vec<&'static str> {
        let mut families: Vec<_> = self.rows.iter().map(|row| row.family).collect();
        families.dedup();
        families
    }

    /// The table; `what` is what the columns count.
    #[must_use]
    pub fn markdown(&self, what: &str, rounds: u64, load: &str) -> String {
        let mut sizes: Vec<usize> = self.rows.iter().flat_map(|row| row.cells.keys().copied()).collect();
        sizes.sort_unstable();
        sizes.dedup();
        let mut text =
            format!("Medians of {rounds} rounds (smallest–largest where they differ). {load}\n\n| {what} |");
        for size in &sizes {
            text.push_str(&format!(" {} |", thousands(*size as u64)));
        }
        text.push_str(" largest over smallest |\n|---|");
        text.push_str(&"--:|".repeat(sizes.len()));
        text.push_str("---|\n");
        for row in &self.rows {
            text.push_str(&format!("| {}: {}, {} |", row.family, row.name, row.unit.name()));
            for size in &sizes {
                let found = row.cells.get(size).and_then(|rounds| spread(rounds.iter().copied()));
                let cell = found.map_or_else(String::new, |[median, low, high]| {
                    let form = |value| row.unit.form(value);
                    if low == high {
                        form(median)
                    } else {
                        format!("{} ({}–{})", form(median), form(low), form(high))
                    }
                });
                text.push_str(&format!(" {cell} |"));
            }
            text.push_str(&format!(" {} |\n", row.verdict()));
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_flat_within_half_as_much_again_and_otherwise_says_its_factor() {
        let verdict = |values: &[u64]| {
            let mut sheet = Sheet::default();
            for (at, value) in values.iter().enumerate() {
                let reading = Reading { family: "f", row: "r", unit: Unit::Time, value: *value };
                sheet.add(10_usize.pow(u32::try_from(at).unwrap()), vec![reading]);
            }
            sheet.rows[0].verdict()
        };
        let cases: [(&[u64], &str); 5] = [
            (&[100, 900, 150], "flat (1.50)"),
            (&[150, 100], "flat (0.67)"),
            (&[100, 151], "× 1.51"),
            (&[100, 10], "× 0.10"),
            (&[7], ""),
        ];
        for (values, wanted) in cases {
            assert_eq!(verdict(values), wanted, "{values:?}");
        }
    }
}
