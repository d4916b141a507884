//! One CSV line a posting, in minor units, for programs and spreadsheets (LEDGER-RULES section 14), with a file of the
//! control totals beside it. Accounts have their own names, untouched.

use engine::money::Currency;

use super::journal::journals;
use super::options::Form;
use super::totals::{self, Sums, Totals};
use super::{Batch, ExportError, File, csv_rows, csv_text, one_side};

const HEADER: [&str; 13] = [
    "batch",
    "journal_no",
    "date",
    "record",
    "case",
    "account_code",
    "account",
    "debit_minor",
    "credit_minor",
    "currency",
    "store",
    "terminal",
    "memo",
];

/// Writes one export batch: the lines, then the control totals.
///
/// # Errors
/// The text cannot be made.
pub fn write(batch: &Batch<'_>, form: &Form, totals: &Totals) -> Result<Vec<File>, ExportError> {
    let mut rows = Vec::new();
    for journal in journals(batch.entries, form.detail, usize::MAX) {
        for line in &journal.lines {
            let (debit, credit) = match line.amount_minor {
                amount if amount > 0 => (amount.to_string(), String::new()),
                amount => (String::new(), (-amount).to_string()),
            };
            rows.push(vec![
                batch.number.to_string(),
                journal.range(),
                journal.date.to_string(),
                line.record.map_or_else(String::new, |record| record.to_string()),
                line.case.clone().unwrap_or_default(),
                line.account.code().to_string(),
                line.account.to_string(),
                debit,
                credit,
                line.currency.to_string(),
                journal.store.to_string(),
                line.terminal.clone(),
                line.memo.clone(),
            ]);
        }
    }
    Ok(vec![
        File { name: batch.file(form, ".csv"), content: csv_text(&HEADER, rows)? },
        File { name: batch.file(form, "-totals.csv"), content: control(batch, totals)? },
    ])
}

fn control(batch: &Batch<'_>, totals: &Totals) -> Result<String, ExportError> {
    let row = |total: &str, of: String, currency: Option<Currency>, value: String| {
        vec![total.to_owned(), of, currency.map_or_else(String::new, |it| it.to_string()), value]
    };
    let mut rows = vec![
        row("batch", String::new(), None, batch.number.to_string()),
        row("hash", String::new(), None, batch.hash.to_owned()),
        row("previous_hash", String::new(), None, batch.prev.to_owned()),
        row("entries", String::new(), None, totals.entries.to_string()),
    ];
    for (store, (first, last)) in &totals.numbers {
        rows.push(row("first_journal_no", store.to_string(), None, first.to_string()));
        rows.push(row("last_journal_no", store.to_string(), None, last.to_string()));
    }
    for (currency, (debits, credits)) in &totals.sides {
        rows.push(row("debits_minor", String::new(), Some(*currency), debits.to_string()));
        rows.push(row("credits_minor", String::new(), Some(*currency), credits.to_string()));
    }
    for ((account, currency), balance) in &totals.accounts {
        rows.push(row("balance_minor", account.to_string(), Some(*currency), balance.to_string()));
    }
    csv_text(&["total", "of", "currency", "value"], rows)
}

/// Sums the lines, per account and currency.
///
/// # Errors
/// A line lacks a column, or has an amount on both sides or on none.
pub fn read(files: &[File]) -> Result<Sums, ExportError> {
    let mut sums = Sums::new();
    let Some(lines) = files.first() else { return Ok(sums) };
    csv_rows(&lines.content, |column| {
        let amount = one_side(&column("debit_minor")?, &column("credit_minor")?, |text| text.parse().ok())?;
        totals::add(&mut sums, column("account")?, column("currency")?.parse().ok()?, amount);
        Some(())
    })?;
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{batch, form, of, sale_day};
    use super::super::write;

    #[test]
    fn a_held_refund_and_its_control_totals_as_an_accountant_reads_them() {
        let entries = sale_day();
        let written = write(&of(&entries[2..3], &[]), &form("csv", "record")).unwrap();
        let record = "03".repeat(32);
        let lines = format!(
            "\
batch,journal_no,date,record,case,account_code,account,debit_minor,credit_minor,currency,store,terminal,memo
3,3,2026-11-23,{record},C-1,1010,Assets:Cash:Drawer:till-2,,1200,GBP,s1,till-2,refund till-2 R-3
3,3,2026-11-23,{record},C-1,1910,Assets:Suspense:Refunds,1200,,GBP,s1,till-2,refund till-2 R-3
"
        );
        let totals = "\
total,of,currency,value
batch,,,3
hash,,,abcd
previous_hash,,,ef01
entries,,,1
first_journal_no,s1,,3
last_journal_no,s1,,3
debits_minor,,GBP,1200
credits_minor,,GBP,1200
balance_minor,Assets:Cash:Drawer:till-2,GBP,-1200
balance_minor,Assets:Suspense:Refunds,GBP,1200
";
        let names: Vec<&str> = written.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["tillsync-000003.csv", "tillsync-000003-totals.csv"]);
        assert_eq!(written.files[0].content, lines);
        assert_eq!(written.files[1].content, totals);
    }

    #[test]
    fn a_comma_or_quotation_mark_in_a_receipt_stays_in_its_cell() {
        let entries =
            batch(&[("2026-11-23", "sale", "t", "=1,\"2\"", &[("Income:Sales", 1), ("Income:Returns", -1)])]);
        let written = write(&of(&entries, &[]), &form("csv", "record")).unwrap();
        assert!(
            written.files[0].content.contains(",\"sale t =1,\"\"2\"\"\"\n"),
            "{}",
            written.files[0].content
        );
    }
}
