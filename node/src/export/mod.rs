//! Exports for accounting programs: one file a format (`hledger`, `beancount`, `generic_csv`, `quickbooks`, `xero`), and
//! what they share: `options`, `journal` (what becomes one journal), `names` (of accounts), `totals` (control totals).
//! They print integers exactly, read back what they wrote, and decide nothing about money.

pub mod beancount;
pub mod generic_csv;
pub mod hledger;
pub mod journal;
pub mod names;
pub mod options;
pub mod quickbooks;
#[cfg(test)]
mod testing;
pub mod totals;
pub mod xero;

use engine::ids::StoreId;
use engine::ledger::{Account, JournalEntry};
use engine::money::Currency;

use options::{Form, Format};
use totals::{Sums, Totals};

/// A journal entry with what a bookkeeper reads beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportEntry {
    /// The store whose journal it is from.
    pub store: StoreId,
    /// The entry.
    pub entry: JournalEntry,
    /// Kind of its record.
    pub kind: String,
    /// Till of its record.
    pub terminal: String,
    /// Receipt number of its record.
    pub receipt: String,
    /// Receipt number of what caused a correction.
    pub because: Option<String>,
    /// Review case of its record when the batch was cut, for entries with something in suspense or over/short.
    pub case: Option<String>,
}

impl ExportEntry {
    /// Kind and till.
    #[must_use]
    pub fn text(&self) -> String {
        format!("{} {}", self.kind, self.terminal)
    }

    /// Kind, till, receipt and cause on one line. It begins with a word of ours, so that no spreadsheet takes it for a
    /// formula.
    #[must_use]
    pub fn memo(&self) -> String {
        let because = self.because.as_ref().map_or_else(String::new, |it| format!(", because of {it}"));
        let memo = format!("{} {}{because}", self.text(), self.receipt);
        memo.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

/// A batch to be written: nothing in it changes after it was cut.
#[derive(Debug, Clone, Copy)]
pub struct Batch<'a> {
    /// Company name.
    pub company: &'a str,
    /// Number of the batch.
    pub number: u64,
    /// Its hash.
    pub hash: &'a str,
    /// Hash of the batch before; empty for the first.
    pub prev: &'a str,
    /// Its entries, those of a store in the order of their numbers.
    pub entries: &'a [ExportEntry],
    /// Accounts of earlier batches, in the order of batches.
    pub earlier: &'a [(Account, Currency)],
}

impl Batch<'_> {
    /// Name of a file: `tillsync-000003-summary.journal`.
    #[must_use]
    fn file(&self, form: &Form, rest: &str) -> String {
        let detail = match (form.is_unusual(), form.detail) {
            (false, _) => "",
            (true, options::Detail::Summary) => "-summary",
            (true, options::Detail::Record) => "-record",
        };
        format!("tillsync-{:06}{detail}{rest}", self.number)
    }

    /// The names of the accounts under the rules of a format.
    fn names(&self, rules: names::Rules) -> names::Names {
        let mut own: Vec<&Account> = self
            .entries
            .iter()
            .flat_map(|entry| &entry.entry.postings)
            .map(|posting| &posting.account)
            .collect();
        own.sort_unstable();
        own.dedup();
        names::Names::give(rules, self.earlier.iter().map(|(account, _)| account).chain(own))
    }
}

/// A file of an export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Plain file name.
    pub name: String,
    /// Its text.
    pub content: String,
}

/// Files with the control totals that they were held against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The files.
    pub files: Vec<File>,
    /// The control totals.
    pub totals: Totals,
}

/// Why a batch was not written. Nothing is cut then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExportError {
    /// An entry of the books does not balance.
    #[error(
        "entry {number} of store {store} differs by {difference}; nothing is exported: stop the hub and run \
         `tillsync verify --dir DIR`"
    )]
    Unbalanced {
        /// The store.
        store: StoreId,
        /// Number in its journal.
        number: u64,
        /// Debits less credits.
        difference: String,
    },
    /// The text that was written says something else than the books.
    #[error(
        "read back, the file says {says} for {account} and the books say {should}; nothing is exported: choose another \
         --format, and report this"
    )]
    RoundTrip {
        /// The account, as the format names it.
        account: String,
        /// What the file says.
        says: String,
        /// What the books say.
        should: String,
    },
    /// The text that was written cannot be read back.
    #[error(
        "the file cannot be read back: {0}; nothing is exported: choose another --format, and report this"
    )]
    Unreadable(String),
    /// One entry has more lines than the program takes.
    #[error(
        "entry {number} of store {store} has {lines} lines, and {program} takes {limit}; choose another --format"
    )]
    TooLong {
        /// The store.
        store: StoreId,
        /// Number in its journal.
        number: u64,
        /// Lines of the journal.
        lines: usize,
        /// What the program takes.
        limit: usize,
        /// The program.
        program: &'static str,
    },
}

/// Writes a batch, reads it back, and holds it against the control totals.
///
/// # Errors
/// An entry does not balance, or what was written does not say what the books say.
pub fn write(batch: &Batch<'_>, form: &Form) -> Result<Written, ExportError> {
    let mut totals = Totals::default();
    for entry in batch.entries {
        totals.add(&entry.store, &entry.entry)?;
    }
    let files = match form.format {
        Format::Hledger => hledger::write(batch, form),
        Format::Beancount => beancount::write(batch, form),
        Format::Csv => generic_csv::write(batch, form, &totals)?,
        Format::Quickbooks => quickbooks::write(batch, form)?,
        Format::Xero => xero::write(batch, form)?,
    };
    check(batch, form.format, &files, &totals)?;
    Ok(Written { files, totals })
}

/// The round trip: what the files say, summed per account, is what the control totals say.
fn check(batch: &Batch<'_>, format: Format, files: &[File], totals: &Totals) -> Result<(), ExportError> {
    let named = |rules| {
        let names = batch.names(rules);
        totals.named(move |account| names.of(account))
    };
    let (written, wanted): (Sums, Sums) = match format {
        Format::Hledger => (hledger::read(files)?, named(hledger::RULES)),
        Format::Beancount => (beancount::read(files)?, named(beancount::RULES)),
        Format::Csv => (generic_csv::read(files)?, totals.named(ToString::to_string)),
        Format::Quickbooks => (quickbooks::read(files)?, named(quickbooks::RULES)),
        Format::Xero => (xero::read(files)?, totals.named(|account| account.code().to_string())),
    };
    totals::compare(written, &wanted)
}

/// Rows of a CSV text, header first.
fn csv_text(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> Result<String, ExportError> {
    let failed = |error: String| ExportError::Unreadable(error);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(header).map_err(|error| failed(error.to_string()))?;
    for row in rows {
        writer.write_record(&row).map_err(|error| failed(error.to_string()))?;
    }
    let bytes = writer.into_inner().map_err(|error| failed(error.to_string()))?;
    String::from_utf8(bytes).map_err(|error| failed(error.to_string()))
}

/// Hands each row of a CSV text to `take` as a look-up by column name.
fn csv_rows(
    text: &str,
    mut take: impl FnMut(&dyn Fn(&str) -> Option<String>) -> Option<()>,
) -> Result<(), ExportError> {
    let failed = |error: &dyn std::fmt::Display| ExportError::Unreadable(error.to_string());
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| failed(&error))?.clone();
    for (at, row) in reader.records().enumerate() {
        let row = row.map_err(|error| failed(&error))?;
        let column = |name: &str| {
            let at = header.iter().position(|known| known == name)?;
            row.get(at).map(str::to_owned)
        };
        take(&column).ok_or_else(|| failed(&format!("row {} is not what was to be written", at + 2)))?;
    }
    Ok(())
}

/// A debit and a credit column as one amount: exactly one of them is filled.
fn one_side(debit: &str, credit: &str, read: impl Fn(&str) -> Option<i128>) -> Option<i128> {
    match (debit.is_empty(), credit.is_empty()) {
        (false, true) => read(debit).filter(|amount| *amount > 0),
        (true, false) => read(credit).filter(|amount| *amount > 0).map(|amount| -amount),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{batch, form, of, sale_day};
    use super::*;

    #[test]
    fn every_format_reads_back_what_it_wrote_in_either_detail() {
        for format in ["hledger", "beancount", "csv", "quickbooks", "xero"] {
            for detail in ["record", "summary"] {
                let (entries, form) = (sale_day(), form(format, detail));
                let written = write(&of(&entries, &[]), &form).unwrap();
                assert_eq!(written, write(&of(&entries, &[]), &form).unwrap(), "{format} {detail}");
                assert_eq!(written.totals.entries, 4);
            }
        }
    }

    #[test]
    fn a_digit_that_changed_on_the_way_refuses_the_export() {
        for format in [Format::Hledger, Format::Beancount, Format::Csv, Format::Quickbooks, Format::Xero] {
            let (entries, form) = (sale_day(), form(format.as_str(), "record"));
            let batch = of(&entries, &[]);
            let Written { mut files, totals } = write(&batch, &form).unwrap();
            assert_eq!(check(&batch, format, &files, &totals), Ok(()));
            let wrong = if format == Format::Csv {
                files[0].content.replacen("12000", "12001", 1)
            } else {
                files[0].content.replacen("120.00", "120.01", 1)
            };
            assert_ne!(wrong, files[0].content);
            files[0].content = wrong;
            let error = check(&batch, format, &files, &totals).unwrap_err();
            assert!(matches!(error, ExportError::RoundTrip { .. }), "{format:?}: {error}");
        }
    }

    #[test]
    fn an_entry_that_does_not_balance_is_not_exported() {
        let entries = batch(&[(
            "2026-11-23",
            "sale",
            "t",
            "R",
            &[("Income:Sales", -100), ("Assets:Other-Tender", 99)],
        )]);
        let error = write(&of(&entries, &[]), &form("csv", "record")).unwrap_err();
        assert!(error.to_string().contains("entry 1 of store s1 differs by -0.01 GBP"), "{error}");
    }
}
