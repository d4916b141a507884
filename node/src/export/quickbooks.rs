//! Journal entries for the import of `QuickBooks` Online (LEDGER-RULES section 14): lines with one journal number form a
//! journal, accounts are `Parent:Child`, one of debit and credit is blank, dates are the company's.

use engine::time::Day;

use super::journal::{by_currency, journals};
use super::names::{Rules, plain};
use super::options::{DateFormat, Form};
use super::totals::{self, Sums};
use super::{Batch, ExportError, File, csv_rows, csv_text, one_side};

/// How `QuickBooks` wants accounts named.
pub const RULES: Rules = Rules { plain, fold: true, leaves: false };

/// What `QuickBooks` asks for; currency, location and class are offered where the company tracks them.
const HEADER: [&str; 9] = [
    "Journal No.",
    "Journal Date",
    "Account Name",
    "Description",
    "Debits",
    "Credits",
    "Currency",
    "Location",
    "Class",
];

/// Writes one export batch.
///
/// # Errors
/// The text cannot be made.
pub fn write(batch: &Batch<'_>, form: &Form) -> Result<Vec<File>, ExportError> {
    let names = batch.names(RULES);
    let mut rows = Vec::new();
    for journal in by_currency(journals(batch.entries, form.detail, usize::MAX)) {
        for line in &journal.lines {
            let amount = line.currency.format(line.amount_minor.abs());
            let (debit, credit) =
                if line.amount_minor > 0 { (amount, String::new()) } else { (String::new(), amount) };
            let case = line.case.as_ref().map_or_else(String::new, |case| format!(", case {case}"));
            rows.push(vec![
                journal.label(batch.number),
                date(journal.date, form.date_format),
                names.of(&line.account),
                format!("{}{case}", line.memo),
                debit,
                credit,
                line.currency.to_string(),
                journal.store.to_string(),
                line.terminal.clone(),
            ]);
        }
    }
    Ok(vec![File { name: batch.file(form, "-quickbooks.csv"), content: csv_text(&HEADER, rows)? }])
}

/// A date as a company writes it.
pub(super) fn date(day: Day, format: DateFormat) -> String {
    let iso = day.to_string();
    let [year, month, date] = iso.splitn(3, '-').collect::<Vec<_>>()[..] else { return iso };
    match format {
        DateFormat::Mdy => format!("{month}/{date}/{year}"),
        DateFormat::Dmy => format!("{date}/{month}/{year}"),
        DateFormat::Ymd => iso,
    }
}

/// Sums the lines, per account and currency.
///
/// # Errors
/// A line lacks a column, or has an amount on both sides or on none.
pub fn read(files: &[File]) -> Result<Sums, ExportError> {
    let mut sums = Sums::new();
    for file in files {
        csv_rows(&file.content, |column| {
            let currency = column("Currency")?.parse().ok()?;
            let amount = one_side(&column("Debits")?, &column("Credits")?, |text| {
                totals::read_amount(text, currency)
            })?;
            totals::add(&mut sums, column("Account Name")?, currency, amount);
            Some(())
        })?;
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{form, of, sale_day};
    use super::super::write;
    use super::*;

    #[test]
    fn a_day_as_an_accountant_reads_it() {
        let entries = sale_day();
        let written = write(&of(&entries, &[]), &form("quickbooks", "summary")).unwrap();
        let wanted = "\
Journal No.,Journal Date,Account Name,Description,Debits,Credits,Currency,Location,Class
TS3-1,11/23/2026,Assets:Cash:Drawer:till-1,2 entries,168.00,,GBP,s1,till-1
TS3-1,11/23/2026,Assets:Cash:Drawer:till-2,2 entries,,12.35,GBP,s1,till-2
TS3-1,11/23/2026,Assets:Suspense:Refunds,\"refund till-2 R-3, case C-1\",12.00,,GBP,s1,till-2
TS3-1,11/23/2026,Liabilities:Sales-Tax:S,2 entries,,28.00,GBP,s1,till-1
TS3-1,11/23/2026,Income:Sales,2 entries,,140.00,GBP,s1,till-1
TS3-1,11/23/2026,Expenses:Cash-Over-Short,day_close till-2 Z-4,0.35,,GBP,s1,till-2
";
        assert_eq!(written.files[0].name, "tillsync-000003-quickbooks.csv");
        assert_eq!(written.files[0].content, wanted);
    }

    #[test]
    fn detail_is_a_journal_a_record() {
        let entries = sale_day();
        let written = write(&of(&entries, &[]), &form("quickbooks", "record")).unwrap();
        assert_eq!(written.files[0].name, "tillsync-000003-record-quickbooks.csv");
        for (number, lines) in [("TS3-1", 3), ("TS3-2", 3), ("TS3-3", 2), ("TS3-4", 2)] {
            assert_eq!(written.files[0].content.matches(number).count(), lines, "{number}");
        }
    }

    #[test]
    fn dates_are_those_of_the_company() {
        let day = "2026-11-03".parse().unwrap();
        let shown = [DateFormat::Mdy, DateFormat::Dmy, DateFormat::Ymd].map(|format| date(day, format));
        assert_eq!(shown, ["11/03/2026", "03/11/2026", "2026-11-03"]);
    }
}
