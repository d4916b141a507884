//! The plain-text journal of Beancount (LEDGER-RULES section 14), held against its pedantic plugins: accounts and
//! commodities declared, each transaction with a link of its own, a balance the day after for drawers that begin here.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use engine::ledger::Account;
use engine::money::Currency;
use engine::time::Day;

use super::journal::{Journal, Line, journals};
use super::names::{Names, Rules};
use super::options::Form;
use super::totals::{self, Sums};
use super::{Batch, ExportError, File};

/// How Beancount wants accounts named.
pub const RULES: Rules = Rules { plain: capitalised, fold: false, leaves: true };

/// Every component starts with a capital or digit and goes on with letters, digits and dashes.
fn capitalised(account: &Account) -> String {
    let name = match account {
        // An account with postings has no accounts below it, so tax without a code stands beside the codes.
        Account::SalesTax(None) => "Liabilities:Sales-Tax:Uncoded".to_owned(),
        Account::SalesTax(Some(code)) => format!("Liabilities:Sales-Tax:{}", code.replace(':', "-")),
        other => other.to_string(),
    };
    let component = |part: &str| {
        let kept: String = part.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        match kept.chars().next() {
            Some(first) if first.is_ascii_alphanumeric() => {
                format!("{}{}", first.to_ascii_uppercase(), &kept[1..])
            }
            _ => format!("X{kept}"),
        }
    };
    name.split(':').map(component).collect::<Vec<_>>().join(":")
}

/// Writes one export batch.
#[must_use]
pub fn write(batch: &Batch<'_>, form: &Form) -> Vec<File> {
    let names = batch.names(RULES);
    let journals = journals(batch.entries, form.detail, usize::MAX);
    let mut text = String::new();
    let _ = writeln!(text, ";; Tillsync export batch {} · {}", batch.number, batch.hash);
    let _ = writeln!(text, "option \"title\" {}", quoted(batch.company));
    let _ = writeln!(text, "plugin \"beancount.plugins.pedantic\"\n");
    declare(&mut text, &journals, &names);
    for journal in &journals {
        transaction(&mut text, batch, journal, &names);
    }
    balances(&mut text, batch, &journals, &names);
    vec![File { name: batch.file(form, ".beancount"), content: text }]
}

fn declare(text: &mut String, journals: &[Journal<'_>], names: &Names) {
    let Some(first) = journals.first().map(|journal| journal.date) else { return };
    let lines = || journals.iter().flat_map(|journal| &journal.lines);
    for currency in lines().map(|line| line.currency).collect::<BTreeSet<Currency>>() {
        let _ = writeln!(text, "{first} commodity {currency}");
    }
    let mut accounts: BTreeMap<String, BTreeSet<Currency>> = BTreeMap::new();
    for line in lines() {
        accounts.entry(names.of(&line.account)).or_default().insert(line.currency);
    }
    text.push('\n');
    for (account, currencies) in accounts {
        let currencies: Vec<String> = currencies.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "{first} open {account:<44} {}", currencies.join(","));
    }
    text.push('\n');
}

/// `!` marks transactions that leave something in suspense.
fn transaction(text: &mut String, batch: &Batch<'_>, journal: &Journal<'_>, names: &Names) {
    let flag = if journal.is_held() { '!' } else { '*' };
    let link = match journal.single {
        Some(entry) => format!("^{}.{} ^{}", journal.store, entry.entry.number, entry.entry.record),
        None => format!("^{}", journal.label(batch.number)),
    };
    let narration = match journal.single {
        Some(_) => journal.title(),
        None => format!("{} {}", journal.store, journal.title()),
    };
    let _ = writeln!(text, "{} {flag} {} {link}", journal.date, quoted(&narration));
    let _ = writeln!(text, "  store: {}", quoted(journal.store.as_str()));
    let _ = writeln!(text, "  journal: {}", quoted(&journal.range()));
    if let Some(case) = journal.single.and_then(|entry| entry.case.as_ref()) {
        let _ = writeln!(text, "  case: {}", quoted(case));
    }
    for line in &journal.lines {
        let amount = line.currency.format(line.amount_minor);
        let _ = writeln!(text, "  {:<44}  {amount:>14} {}", names.of(&line.account), line.currency);
        if journal.single.is_none() {
            kept(text, line);
        }
    }
    text.push('\n');
}

fn kept(text: &mut String, line: &Line) {
    if let Some(record) = line.record {
        let _ = writeln!(text, "    record: {}", quoted(&record.to_string()));
    }
    if let Some(case) = &line.case {
        let _ = writeln!(text, "    case: {}", quoted(case));
    }
}

/// A balance holds at the beginning of its day, hence the day after the drawer's last posting; to the last digit.
fn balances(text: &mut String, batch: &Batch<'_>, journals: &[Journal<'_>], names: &Names) {
    let earlier: BTreeSet<(&Account, Currency)> =
        batch.earlier.iter().map(|(account, currency)| (account, *currency)).collect();
    let mut drawers: BTreeMap<(&Account, Currency), (Day, i128)> = BTreeMap::new();
    for journal in journals {
        for line in journal.lines.iter().filter(|line| matches!(line.account, Account::Drawer(_))) {
            let drawer = drawers.entry((&line.account, line.currency)).or_default();
            *drawer = (drawer.0.max(journal.date), drawer.1 + line.amount_minor);
        }
    }
    for ((account, currency), (day, amount)) in drawers {
        if !earlier.contains(&(account, currency)) {
            let (amount, exactly) = (currency.format(amount), currency.format(0));
            let day = day.plus(1);
            let _ = writeln!(text, "{day} balance {:<44} {amount} ~ {exactly} {currency}", names.of(account));
        }
    }
}

fn quoted(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("\"{}\"", plain.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Sums the postings of a journal text, per account and currency.
///
/// # Errors
/// A posting is not written as `  ACCOUNT  AMOUNT CURRENCY`.
pub fn read(files: &[File]) -> Result<Sums, ExportError> {
    let mut sums = Sums::new();
    for line in files.iter().flat_map(|file| file.content.lines()) {
        let posting =
            line.strip_prefix("  ").filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()));
        let Some(posting) = posting else { continue };
        let words: Vec<&str> = posting.split_whitespace().collect();
        let read = || {
            let &[account, amount, currency] = words.as_slice() else { return None };
            let currency = currency.parse().ok()?;
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
    use super::super::testing::{batch, form, of, sale_day};
    use super::*;

    #[test]
    fn a_held_refund_as_an_accountant_reads_it() {
        let entries = sale_day();
        let record = "03".repeat(32);
        let wanted = format!(
            "\
;; Tillsync export batch 3 · abcd
option \"title\" \"Shops & Sons\"
plugin \"beancount.plugins.pedantic\"

2026-11-23 commodity GBP

2026-11-23 open Assets:Cash:Drawer:Till-2                    GBP
2026-11-23 open Assets:Suspense:Refunds                      GBP

2026-11-23 ! \"refund till-2 R-3\" ^s1.3 ^{record}
  store: \"s1\"
  journal: \"3\"
  case: \"C-1\"
  Assets:Cash:Drawer:Till-2                             -12.00 GBP
  Assets:Suspense:Refunds                                12.00 GBP

2026-11-24 balance Assets:Cash:Drawer:Till-2                    -12.00 ~ 0.00 GBP
"
        );
        assert_eq!(write(&of(&entries[2..3], &[]), &form("beancount", "record"))[0].content, wanted);
    }

    #[test]
    fn accounts_are_capitalised_and_stay_apart() {
        for (account, name) in [
            (Account::Drawer("till_1.a".parse().unwrap()), "Assets:Cash:Drawer:Till-1-a"),
            (Account::Safe("9th-street".parse().unwrap()), "Assets:Cash:Safe:9th-street"),
            (Account::tax(None), "Liabilities:Sales-Tax:Uncoded"),
            (Account::tax(Some("20 % é")), "Liabilities:Sales-Tax:20----"),
            (Account::tax(Some("-")), "Liabilities:Sales-Tax:X-"),
            (Account::tax(Some("")), "Liabilities:Sales-Tax:X"),
        ] {
            assert_eq!(capitalised(&account), name);
        }
        let tills = ["till-1", "Till-1", "till.1"].map(|till| Account::Drawer(till.parse().unwrap()));
        let names = Names::give(RULES, tills.iter());
        let given: BTreeSet<String> = tills.iter().map(|till| names.of(till)).collect();
        assert_eq!(given.len(), 3, "{given:?}");
        assert_eq!(names.of(&tills[0]), "Assets:Cash:Drawer:Till-1");
    }

    #[test]
    fn two_honest_sales_of_one_amount_are_told_apart_by_their_links() {
        let sale: super::super::testing::Row<'_> =
            ("2026-11-23", "sale", "t", "R-1", &[("Income:Sales", -1), ("Assets:Card:Clearing", 1)]);
        let text = write(&of(&batch(&[sale, sale]), &[]), &form("beancount", "record")).remove(0).content;
        assert!(text.contains("^s1.1 ") && text.contains("^s1.2 "), "{text}");
    }

    #[test]
    fn a_quotation_mark_does_not_end_the_narration() {
        assert_eq!(quoted("R\"1\\\n"), "\"R\\\"1\\\\ \"");
    }

    #[test]
    fn a_drawer_with_a_past_gets_no_balance() {
        let entries = sale_day();
        let earlier = [("Assets:Cash:Drawer:till-2".parse().unwrap(), "GBP".parse().unwrap())];
        let text = write(&of(&entries, &earlier), &form("beancount", "summary")).remove(0).content;
        assert_eq!(text.matches(" balance ").count(), 1);
        assert!(text.contains("2026-11-23 ! \"s1 4 entries\" ^TS3-1\n"), "{text}");
        assert!(text.contains("    case: \"C-1\"\n"), "{text}");
    }
}
