//! The plain-text journal that hledger and ledger-cli both read (LEDGER-RULES section 14): commodities, accounts and
//! tags declared, amounts with exactly the currency's digits, a balance assertion on the last posting of each drawer.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use engine::ledger::Account;
use engine::money::Currency;

use super::ExportEntry;

/// Writes one export batch. Drawers that have postings in earlier batches (`earlier`) get no assertion, so that the
/// file holds by itself.
#[must_use]
pub fn write(
    company: &str,
    number: u64,
    hash: &str,
    entries: &[ExportEntry],
    earlier: &BTreeSet<(Account, Currency)>,
) -> String {
    let mut sorted: Vec<&ExportEntry> = entries.iter().collect();
    // Programs check assertions in the order of dates, so the file is in that order.
    sorted.sort_by(|a, b| {
        (a.entry.date, &a.store, a.entry.number).cmp(&(b.entry.date, &b.store, b.entry.number))
    });
    let mut text = String::new();
    let _ = writeln!(text, "; {} · Tillsync export batch {number} · {hash}", one_line(company));
    declare(&mut text, &sorted);
    let mut last: BTreeMap<(Account, Currency), (usize, usize)> = BTreeMap::new();
    for (at, entry) in sorted.iter().enumerate() {
        for (posting_at, posting) in entry.entry.postings.iter().enumerate() {
            if matches!(posting.account, Account::Drawer(_)) {
                last.insert((posting.account.clone(), posting.currency), (at, posting_at));
            }
        }
    }
    let mut balances: BTreeMap<(Account, Currency), i128> = BTreeMap::new();
    for (at, entry) in sorted.iter().enumerate() {
        head(&mut text, entry);
        for (posting_at, posting) in entry.entry.postings.iter().enumerate() {
            let key = (posting.account.clone(), posting.currency);
            let balance = balances.entry(key.clone()).or_default();
            *balance += i128::from(posting.amount_minor);
            let amount = posting.currency.format(i128::from(posting.amount_minor));
            let _ =
                write!(text, "    {:<44}  {amount:>14} {}", posting.account.to_string(), posting.currency);
            if last.get(&key) == Some(&(at, posting_at)) && !earlier.contains(&key) {
                let _ = write!(text, " = {} {}", posting.currency.format(*balance), posting.currency);
            }
            text.push('\n');
        }
        text.push('\n');
    }
    text
}

fn declare(text: &mut String, entries: &[&ExportEntry]) {
    let postings = || entries.iter().flat_map(|entry| &entry.entry.postings);
    let currencies: BTreeSet<Currency> = postings().map(|posting| posting.currency).collect();
    for currency in currencies {
        let sample = currency.format(1_000 * 10_i128.pow(u32::from(currency.exponent())));
        // A decimal mark is wanted even where the currency has no decimals.
        let mark = if currency.exponent() == 0 { "." } else { "" };
        let _ = writeln!(text, "\ncommodity {currency}\n    format {sample}{mark} {currency}");
    }
    let accounts: BTreeSet<String> = postings().map(|posting| posting.account.to_string()).collect();
    text.push('\n');
    for account in accounts {
        let _ = writeln!(text, "account {account}");
    }
    let _ = writeln!(text, "\ntag record\ntag store\ntag journal\ntag because\n");
}

/// `!` marks entries that leave something in suspense.
fn head(text: &mut String, entry: &ExportEntry) {
    let held = entry.entry.postings.iter().any(|posting| posting.account.is_suspense());
    let mark = if held { '!' } else { '*' };
    let number = entry.receipt.replace(['(', ')'], "");
    let _ = writeln!(text, "{} {mark} ({}) {}", entry.entry.date, one_line(&number), one_line(&entry.text));
    let _ = writeln!(text, "    ; record: {}", entry.entry.record);
    let _ = writeln!(text, "    ; store: {}", entry.store);
    let _ = writeln!(text, "    ; journal: {}", entry.entry.number);
    if let Some(because) = &entry.because {
        let _ = writeln!(text, "    ; because: {}", one_line(because));
    }
}

/// Text that cannot end a line or start a comment.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || matches!(c, ';' | '|' | ',') { ' ' } else { c }).collect()
}
