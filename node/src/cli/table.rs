//! Tables for people: columns as wide as what stands in them, numbers to the right. Knows nothing of what it sets.

use super::words::one_line;

/// Space between columns.
const GAP: &str = "  ";

/// How a column stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Words.
    Left,
    /// Numbers and amounts.
    Right,
}

/// A table in the making.
#[derive(Debug, Clone)]
pub(super) struct Table {
    sides: Vec<Side>,
    rows: Vec<Vec<String>>,
    headed: bool,
}

impl Table {
    /// A table with a headed column for each name.
    pub(super) fn new(columns: &[(&str, Side)]) -> Self {
        let heads = columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        Self { sides: columns.iter().map(|(_, side)| *side).collect(), rows: vec![heads], headed: true }
    }

    /// A list of `name  value` without headings.
    pub(super) fn list() -> Self {
        Self { sides: vec![Side::Left; 2], rows: Vec::new(), headed: false }
    }

    /// A table without headings.
    pub(super) fn bare(sides: &[Side]) -> Self {
        Self { sides: sides.to_vec(), rows: Vec::new(), headed: false }
    }

    /// Adds a row. A missing cell stays empty; what is in a cell cannot break the line or command the terminal.
    pub(super) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) -> &mut Self {
        let mut row: Vec<String> = cells.into_iter().map(|cell| one_line(cell.as_ref())).collect();
        row.resize(self.sides.len(), String::new());
        self.rows.push(row);
        self
    }

    /// Whether nothing but the heading is there.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() <= usize::from(self.headed)
    }

    /// The table as text: a rule under the heading, no blanks at the ends of lines.
    pub(super) fn set(&self) -> String {
        let widths: Vec<usize> = (0..self.sides.len())
            .map(|at| self.rows.iter().map(|row| width(&row[at])).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for (number, row) in self.rows.iter().enumerate() {
            self.line(&mut text, row, &widths);
            if self.headed && number == 0 {
                let rules: Vec<String> = widths.iter().map(|width| "─".repeat(*width)).collect();
                self.line(&mut text, &rules, &widths);
            }
        }
        text
    }

    fn line(&self, text: &mut String, row: &[String], widths: &[usize]) {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            if at > 0 {
                line.push_str(GAP);
            }
            let blanks = " ".repeat(widths[at].saturating_sub(width(cell)));
            match self.sides[at] {
                Side::Left => line.extend([cell.as_str(), &blanks]),
                Side::Right => line.extend([&blanks, cell.as_str()]),
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
}

/// Columns a text takes, reckoned one a character: right for the scripts that receipts are printed in here.
fn width(text: &str) -> usize {
    text.chars().count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stand_left_and_amounts_right() {
        let mut table = Table::new(&[("Account", Side::Left), ("GBP", Side::Right)]);
        table.row(["Assets:Cash", "120.00"]).row(["Café", "-7.50"]);
        assert_eq!(
            table.set(),
            "Account         GBP\n───────────  ──────\nAssets:Cash  120.00\nCafé          -7.50\n"
        );
    }

    #[test]
    fn a_short_row_is_filled_and_a_cell_stays_on_its_line() {
        let mut table = Table::list();
        table.row(["a\nb"]).row(["c", "d\u{1b}[31m"]);
        assert_eq!(table.set(), "a b\nc    d\u{fffd}[31m\n");
    }

    #[test]
    fn an_empty_table_knows_it() {
        let mut table = Table::new(&[("A", Side::Left)]);
        assert!(table.is_empty());
        assert!(!table.row(["x"]).is_empty());
        assert!(Table::bare(&[Side::Left]).is_empty());
    }
}
