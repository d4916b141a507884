//! The plain-text journal that hledger and ledger-cli both read (LEDGER-RULES section 14): commodities, accounts and
//! tags declared, amounts with exactly the currency's digits, a balance assertion on the last posting of each drawer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use engine::ledger::Account;
use engine::money::Currency;

use super::journal::{Journal, journals};
use super::names::{Names, Rules, plain};
use super::options::Form;
use super::totals::{self, Sums};
use super::{Batch, ExportError, File};

/// How hledger and ledger-cli want accounts named.
pub const RULES: Rules = Rules { plain, fold: false, leaves: false };

/// Writes one export batch. Drawers that have postings in earlier batches get no assertion, so that the file holds by
/// itself.
#[must_use]
pub fn write(batch: &Batch<'_>, form: &Form) -> Vec<File> {
    let names = batch.names(RULES);
    let journals = journals(batch.entries, form.detail, usize::MAX);
    let mut text = String::new();
    let company = one_line(batch.company);
    let _ = writeln!(text, "; {company} · Tillsync export batch {} · {}", batch.number, batch.hash);
    declare(&mut text, &journals, &names);
    let earlier: BTreeSet<(&Account, Currency)> =
        batch.earlier.iter().map(|(account, currency)| (account, *currency)).collect();
    let mut last: BTreeMap<(&Account, Currency), (usize, usize)> = BTreeMap::new();
    for (at, journal) in journals.iter().enumerate() {
        for (line_at, line) in journal.lines.iter().enumerate() {
            if matches!(line.account, Account::Drawer(_)) {
                last.insert((&line.account, line.currency), (at, line_at));
            }
        }
    }
    // Programs check assertions in the order of dates, or of the file: it is the same order.
    let mut balances: BTreeMap<(&Account, Currency), i128> = BTreeMap::new();
    for (at, journal) in journals.iter().enumerate() {
        head(&mut text, batch, journal);
        for (line_at, line) in journal.lines.iter().enumerate() {
            let key = (&line.account, line.currency);
            let balance = balances.entry(key).or_default();
            *balance += line.amount_minor;
            let amount = line.currency.format(line.amount_minor);
            let _ = write!(text, "    {:<44}  {amount:>14} {}", names.of(&line.account), line.currency);
            if last.get(&key) == Some(&(at, line_at)) && !earlier.contains(&key) {
                let _ = write!(text, " = {} {}", line.currency.format(*balance), line.currency);
            }
            text.push('\n');
            if let (None, Some(record)) = (journal.single, line.record) {
                let case = line.case.as_ref().map_or_else(String::new, |case| format!(", case: {case}"));
                let _ = writeln!(text, "    ; record: {record}{case}");
            }
        }
        text.push('\n');
    }
    vec![File { name: batch.file(form, ".journal"), content: text }]
}

fn declare(text: &mut String, journals: &[Journal<'_>], names: &Names) {
    let lines = || journals.iter().flat_map(|journal| &journal.lines);
    let currencies: BTreeSet<Currency> = lines().map(|line| line.currency).collect();
    for currency in currencies {
        let _ = writeln!(text, "\ncommodity {currency}");
        // Without decimals there is no form that both programs take: hledger wants a decimal mark, ledger none.
        if currency.exponent() > 0 {
            let sample = currency.format(1_000 * 10_i128.pow(u32::from(currency.exponent())));
            let _ = writeln!(text, "    format {sample} {currency}");
        }
    }
    let accounts: BTreeSet<String> = lines().map(|line| names.of(&line.account)).collect();
    text.push('\n');
    for account in accounts {
        let _ = writeln!(text, "account {account}");
    }
    let _ = writeln!(text, "\ntag record\ntag store\ntag journal\ntag because");
    if lines().any(|line| line.case.is_some()) {
        let _ = writeln!(text, "tag case");
    }
    text.push('\n');
}

/// `!` marks journals that leave something in suspense.
fn head(text: &mut String, batch: &Batch<'_>, journal: &Journal<'_>) {
    let mark = if journal.is_held() { '!' } else { '*' };
    let (code, title) = match journal.single {
        Some(entry) => (entry.receipt.clone(), entry.text()),
        None => (journal.label(batch.number), format!("{} {}", journal.store, journal.title())),
    };
    let code = code.replace(['(', ')'], "");
    let _ = writeln!(text, "{} {mark} ({}) {}", journal.date, one_line(&code), one_line(&title));
    if let Some(entry) = journal.single {
        let _ = writeln!(text, "    ; record: {}", entry.entry.record);
    }
    let _ = writeln!(text, "    ; store: {}", journal.store);
    let _ = writeln!(text, "    ; journal: {}", journal.range());
    let Some(entry) = journal.single else { return };
    if let Some(because) = &entry.because {
        let _ = writeln!(text, "    ; because: {}", one_line(because));
    }
    if let Some(case) = &entry.case {
        let _ = writeln!(text, "    ; case: {case}");
    }
}

/// Text that cannot end a line or start a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, ';' | '|' | ',') { ' ' } else { c }).collect()
}

/// Sums the postings of a journal text, per account and currency.
///
/// # Errors
/// A posting is not written as `    ACCOUNT  AMOUNT CURRENCY`.
pub fn read(files: &[File]) -> Result<Sums, ExportError> {
    let mut sums = Sums::new();
    for line in files.iter().flat_map(|file| file.content.lines()) {
        let Some(posting) = line.strip_prefix("    ").filter(|rest| !rest.starts_with([';', ' '])) else {
            continue;
        };
        if posting.starts_with("format ") {
            continue;
        }
        let read = || {
            let (account, amount) = posting.split_once("  ")?;
            let mut words = amount.split_whitespace();
            let (amount, currency) = (words.next()?, words.next()?.parse().ok()?);
            Some((account.to_owned(), currency, totals::read_amount(amount, currency)?))
        };
        let (account, currency, amount) =
            read().ok_or_else(|| ExportError::Unreadable(format!("{line:?}")))?;
        totals::add(&mut sums, account, currency, amount);
    }
    Ok(sums)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{batch, batch_in, form, of, sale_day};
    use super::*;

    fn text(entries: &[super::super::ExportEntry], detail: &str) -> String {
        write(&of(entries, &[]), &form("hledger", detail)).remove(0).content
    }

    #[test]
    fn a_sale_as_an_accountant_reads_it() {
        let entries = sale_day();
        let record = "03".repeat(32);
        let wanted = format!(
            "\
; Shops & Sons · Tillsync export batch 3 · abcd

commodity GBP
    format 1000.00 GBP

account Assets:Cash:Drawer:till-2
account Assets:Suspense:Refunds

tag record
tag store
tag journal
tag because
tag case

2026-11-23 ! (R-3) refund till-2
    ; record: {record}
    ; store: s1
    ; journal: 3
    ; case: C-1
    Assets:Cash:Drawer:till-2                             -12.00 GBP = -12.00 GBP
    Assets:Suspense:Refunds                                12.00 GBP

"
        );
        assert_eq!(text(&entries[2..3], "record"), wanted);
    }

    #[test]
    fn a_summary_names_the_records_in_suspense() {
        let text = text(&sale_day(), "summary");
        assert!(
            text.contains("2026-11-23 ! (TS3-1) s1 4 entries\n    ; store: s1\n    ; journal: 1-4\n"),
            "{text}"
        );
        let record = "03".repeat(32);
        assert!(text.contains(&format!("12.00 GBP\n    ; record: {record}, case: C-1\n")), "{text}");
    }

    #[test]
    fn digits_are_those_of_the_currency_and_yen_have_no_format_line() {
        let rows: &[super::super::testing::Row<'_>] = &[(
            "2026-11-23",
            "sale",
            "t-1",
            "R-1",
            &[("Assets:Cash:Drawer:t-1", 1_234), ("Income:Sales", -1_234)],
        )];
        for (currency, amount, declared) in [
            ("JPY", " 1234 JPY = 1234 JPY", "commodity JPY\n\n"),
            ("KWD", " 1.234 KWD = 1.234 KWD", "commodity KWD\n    format 1000.000 KWD\n"),
            ("USD", " 12.34 USD = 12.34 USD", "commodity USD\n    format 1000.00 USD\n"),
        ] {
            let text = text(&batch_in(currency, rows), "record");
            assert!(text.contains(amount) && text.contains(declared), "{text}");
        }
    }

    #[test]
    fn an_assertion_is_made_once_and_only_where_it_holds_in_the_file_by_itself() {
        let drawer = "Assets:Cash:Drawer:till-1";
        let rows: &[super::super::testing::Row<'_>] = &[
            ("2026-11-24", "sale", "till-1", "R-1", &[(drawer, 100), ("Income:Sales", -100)]),
            ("2026-11-23", "sale", "till-1", "R-2", &[(drawer, 50), ("Income:Sales", -50)]),
        ];
        let entries = batch(rows);
        let text = text(&entries, "record");
        assert_eq!(text.matches(" = ").count(), 1);
        assert!(text.contains("1.00 GBP = 1.50 GBP"), "{text}");
        let earlier = [(drawer.parse().unwrap(), "GBP".parse().unwrap())];
        let text = write(&of(&entries, &earlier), &form("hledger", "record")).remove(0).content;
        assert!(!text.contains(" = "), "{text}");
    }

    #[test]
    fn a_receipt_number_cannot_break_out_of_its_place() {
        let entries = batch(&[(
            "2026-11-23",
            "sale",
            "t",
            "R(1);a|b,c\n",
            &[("Income:Sales", 1), ("Income:Returns", -1)],
        )]);
        assert!(text(&entries, "record").contains("2026-11-23 * (R1 a b c ) sale t\n"));
    }
}
