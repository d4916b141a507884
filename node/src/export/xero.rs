//! Manual journals for the import of Xero (LEDGER-RULES section 14): at most 300 lines a file, and no journal in two
//! files. A summary that is longer becomes several journals that balance; a single entry that is longer is summed up by
//! account code, which is all that Xero books to. A manual journal has no currency, so each currency has its own files.

use std::collections::BTreeMap;

use engine::money::Currency;

use super::journal::{Journal, Line, by_currency, journals};
use super::options::{DateFormat, Form};
use super::quickbooks::date;
use super::totals::{self, Sums};
use super::{Batch, ExportError, File, csv_rows, csv_text};

/// Lines that Xero takes in one file.
pub const LINES_MAX: usize = 300;

const HEADER: [&str; 10] = [
    "Narration",
    "Date",
    "Description",
    "AccountCode",
    "TaxRate",
    "Amount",
    "TrackingName1",
    "TrackingOption1",
    "TrackingName2",
    "TrackingOption2",
];

/// The usual name of the rate without tax where a currency is at home. Tax is a line of its own.
fn no_tax(currency: Currency) -> &'static str {
    match currency.code() {
        "GBP" => "No VAT",
        "AUD" => "BAS Excluded",
        "NZD" => "No GST",
        _ => "Tax Exempt",
    }
}

/// Writes one export batch.
///
/// # Errors
/// One entry has more than 300 account codes, or the text cannot be made.
pub fn write(batch: &Batch<'_>, form: &Form) -> Result<Vec<File>, ExportError> {
    let mut currencies: BTreeMap<Currency, Vec<Vec<Vec<String>>>> = BTreeMap::new();
    for mut journal in by_currency(journals(batch.entries, form.detail, LINES_MAX)) {
        if journal.lines.len() > LINES_MAX {
            journal.lines = by_code(std::mem::take(&mut journal.lines));
        }
        if journal.lines.len() > LINES_MAX {
            return Err(ExportError::TooLong {
                store: journal.store.clone(),
                number: journal.numbers.0,
                lines: journal.lines.len(),
                limit: LINES_MAX,
                program: "Xero",
            });
        }
        let Some(currency) = journal.currency() else { continue };
        let rate = form.tax_rate.clone().unwrap_or_else(|| no_tax(currency).to_owned());
        let rows: Vec<Vec<String>> =
            journal.lines.iter().map(|line| row(batch, &journal, line, currency, &rate)).collect();
        let files = currencies.entry(currency).or_default();
        match files.last_mut() {
            Some(file) if file.len() + rows.len() <= LINES_MAX => file.extend(rows),
            _ => files.push(rows),
        }
    }
    let mut written = Vec::new();
    for (currency, files) in currencies {
        for (at, rows) in files.into_iter().enumerate() {
            let name = batch.file(form, &format!("-xero-{currency}-{:03}.csv", at + 1));
            written.push(File { name, content: csv_text(&HEADER, rows)? });
        }
    }
    Ok(written)
}

/// Journals of one narration and date are one journal, so the narration is the batch's own.
fn row(batch: &Batch<'_>, journal: &Journal<'_>, line: &Line, currency: Currency, rate: &str) -> Vec<String> {
    let label = journal.label(batch.number);
    let case = line.case.as_ref().map_or_else(String::new, |case| format!(", case {case}"));
    let till = if line.terminal.is_empty() { "" } else { "Till" };
    vec![
        format!("{label} {} {currency}: {}", journal.store, journal.title()),
        date(journal.date, DateFormat::Dmy),
        format!("{}: {}{case}", line.account, line.memo),
        line.account.code().to_string(),
        rate.to_owned(),
        line.currency.format(line.amount_minor),
        "Store".to_owned(),
        journal.store.to_string(),
        till.to_owned(),
        line.terminal.clone(),
    ]
}

/// Lines summed up by account code and till.
fn by_code(lines: Vec<Line>) -> Vec<Line> {
    let mut sums: BTreeMap<(u16, String), Line> = BTreeMap::new();
    for line in lines {
        match sums.entry((line.account.code(), line.terminal.clone())) {
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(line);
            }
            std::collections::btree_map::Entry::Occupied(mut place) => {
                let sum = place.get_mut();
                sum.amount_minor += line.amount_minor;
                "several accounts of one code".clone_into(&mut sum.memo);
            }
        }
    }
    sums.into_values().filter(|line| line.amount_minor != 0).collect()
}

/// Sums the lines, per account code and currency, which the file's name says. Every file is a whole.
///
/// # Errors
/// A file has too many lines, does not balance, or a line lacks a column.
pub fn read(files: &[File]) -> Result<Sums, ExportError> {
    let mut sums = Sums::new();
    for file in files {
        let currency: Option<Currency> =
            file.name.rsplit('-').nth(1).and_then(|currency| currency.parse().ok());
        let unreadable = |what: &str| ExportError::Unreadable(format!("{}: {what}", file.name));
        let currency = currency.ok_or_else(|| unreadable("its name says no currency"))?;
        let mut journals: BTreeMap<(String, String), i128> = BTreeMap::new();
        let mut lines = 0;
        csv_rows(&file.content, |column| {
            lines += 1;
            let amount = totals::read_amount(&column("Amount")?, currency)?;
            *journals.entry((column("Narration")?, column("Date")?)).or_default() += amount;
            totals::add(&mut sums, column("AccountCode")?, currency, amount);
            Some(())
        })?;
        if lines > LINES_MAX {
            return Err(unreadable("it has more lines than Xero takes"));
        }
        if let Some(((narration, _), difference)) = journals.iter().find(|(_, sum)| **sum != 0) {
            return Err(ExportError::RoundTrip {
                account: format!("journal {narration:?}"),
                says: format!("{} {currency}", currency.format(*difference)),
                should: format!("{} {currency}", currency.format(0)),
            });
        }
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use engine::ledger::Account;

    use super::super::ExportEntry;
    use super::super::testing::{batch, form, of, sale_day};
    use super::super::write;
    use super::*;

    #[test]
    fn a_day_as_an_accountant_reads_it() {
        let entries = sale_day();
        let written = write(&of(&entries, &[]), &form("xero", "summary")).unwrap();
        let wanted = "\
Narration,Date,Description,AccountCode,TaxRate,Amount,TrackingName1,TrackingOption1,TrackingName2,TrackingOption2
TS3-1 s1 GBP: 4 entries,23/11/2026,Assets:Cash:Drawer:till-1: 2 entries,1010,No VAT,168.00,Store,s1,Till,till-1
TS3-1 s1 GBP: 4 entries,23/11/2026,Assets:Cash:Drawer:till-2: 2 entries,1010,No VAT,-12.35,Store,s1,Till,till-2
TS3-1 s1 GBP: 4 entries,23/11/2026,\"Assets:Suspense:Refunds: refund till-2 R-3, case C-1\",1910,No VAT,12.00,Store,s1,Till,till-2
TS3-1 s1 GBP: 4 entries,23/11/2026,Liabilities:Sales-Tax:S: 2 entries,2100,No VAT,-28.00,Store,s1,Till,till-1
TS3-1 s1 GBP: 4 entries,23/11/2026,Income:Sales: 2 entries,4000,No VAT,-140.00,Store,s1,Till,till-1
TS3-1 s1 GBP: 4 entries,23/11/2026,Expenses:Cash-Over-Short: day_close till-2 Z-4,5100,No VAT,0.35,Store,s1,Till,till-2
";
        assert_eq!(written.files.len(), 1);
        assert_eq!(written.files[0].name, "tillsync-000003-xero-GBP-001.csv");
        assert_eq!(written.files[0].content, wanted);
    }

    fn many(records: usize) -> Vec<ExportEntry> {
        let row: super::super::testing::Row<'_> = (
            "2026-11-23",
            "refund",
            "till-2",
            "R-3",
            &[("Assets:Cash:Drawer:till-2", -1_200), ("Assets:Suspense:Refunds", 1_200)],
        );
        let mut entries = batch(&vec![row; records]);
        for (entry, n) in entries.iter_mut().zip(0_u8..) {
            entry.entry.record = engine::ids::RecordId([n; 32]);
            entry.entry.record.0[0] = u8::MAX;
        }
        entries
    }

    fn lines(files: &[File]) -> Vec<usize> {
        files.iter().map(|file| file.content.lines().count() - 1).collect()
    }

    #[test]
    fn journals_fill_files_of_300_lines_and_are_never_cut() {
        let entries = many(200);
        let written = write(&of(&entries, &[]), &form("xero", "record")).unwrap();
        assert_eq!(lines(&written.files), [300, 100]);
        let files: Vec<String> = written.files.iter().map(|file| file.name.clone()).collect();
        assert_eq!(
            files,
            ["tillsync-000003-record-xero-GBP-001.csv", "tillsync-000003-record-xero-GBP-002.csv"]
        );
    }

    #[test]
    fn a_summary_of_more_than_300_lines_is_several_that_balance() {
        // 254 refunds in suspense stay one by one; 60 tills make the day longer than a file.
        let mut entries = many(254);
        let tills: Vec<Account> =
            (0..60).map(|n| Account::Drawer(format!("till-{n}").parse().unwrap())).collect();
        for (entry, till) in entries.iter_mut().zip(tills.iter().cycle()) {
            entry.entry.postings[0].account = till.clone();
        }
        let written = write(&of(&entries, &[]), &form("xero", "summary")).unwrap();
        let counts = lines(&written.files);
        assert_eq!(counts.len(), 2, "{counts:?}");
        assert!(counts.iter().all(|count| *count <= LINES_MAX));
        assert!(written.files[1].content.contains("TS3-2 s1 GBP"));
    }

    #[test]
    fn an_entry_of_more_than_300_lines_is_summed_up_by_code() {
        let mut entries = batch(&[("2026-11-23", "sale", "t-1", "R-1", &[("Assets:Card:Clearing", 400)])]);
        let posting = entries[0].entry.postings[0].clone();
        entries[0].entry.postings.extend((0..400).map(|code| engine::ledger::Posting {
            account: Account::tax(Some(&code.to_string())),
            amount_minor: -1,
            ..posting.clone()
        }));
        for detail in ["record", "summary"] {
            let written = write(&of(&entries, &[]), &form("xero", detail)).unwrap();
            assert_eq!(lines(&written.files), [2]);
            assert!(written.files[0].content.contains(",2100,No VAT,-4.00,"));
        }
    }

    #[test]
    fn each_currency_has_its_files_and_its_rate() {
        let mut entries = batch(&[
            ("2026-11-23", "sale", "t-1", "R-1", &[("Assets:Card:Clearing", 400), ("Income:Sales", -400)]),
            ("2026-11-23", "sale", "t-1", "R-2", &[("Assets:Card:Clearing", 400), ("Income:Sales", -400)]),
        ]);
        for posting in &mut entries[1].entry.postings {
            posting.currency = "JPY".parse().unwrap();
        }
        let written = write(&of(&entries, &[]), &form("xero", "summary")).unwrap();
        assert_eq!(lines(&written.files), [2, 2]);
        assert!(written.files[0].content.contains(",No VAT,4.00,"));
        assert!(written.files[1].content.contains(",Tax Exempt,400,"));
        let mut named = form("xero", "summary");
        named.tax_rate = Some("Zero Rated Income".to_owned());
        let written = write(&of(&entries, &[]), &named).unwrap();
        assert!(written.files[1].content.contains(",Zero Rated Income,400,"));
    }
}
