//! Entries of the books as the journals of an export: each entry by itself, or one journal a store, business day and
//! currency. It only gathers: whatever it gathers balances, because each entry does.

use std::collections::BTreeMap;

use engine::ids::{RecordId, StoreId};
use engine::ledger::{Account, Posting};
use engine::money::Currency;
use engine::time::Day;

use super::ExportEntry;
use super::options::Detail;

/// One line of a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Account.
    pub account: Account,
    /// Currency.
    pub currency: Currency,
    /// Minor units; debit positive, never zero.
    pub amount_minor: i128,
    /// The till: of a drawer its own, otherwise the record's.
    pub terminal: String,
    /// What the line is, for people.
    pub memo: String,
    /// The record, where the line stands for one.
    pub record: Option<RecordId>,
    /// The review case of the record, when the batch was cut.
    pub case: Option<String>,
}

/// Lines that balance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal<'a> {
    /// Place in the batch, from 1.
    pub index: usize,
    /// The store.
    pub store: &'a StoreId,
    /// The accounting date.
    pub date: Day,
    /// First and last number of its entries in the store's journal.
    pub numbers: (u64, u64),
    /// How many entries it stands for.
    pub entries: usize,
    /// The entry, where it stands for one.
    pub single: Option<&'a ExportEntry>,
    /// Its lines, in the order of the chart.
    pub lines: Vec<Line>,
}

impl Journal<'_> {
    /// Whether a line waits for a reviewer.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.lines.iter().any(|line| line.account.is_suspense())
    }

    /// A name that no other journal of the company has: batch and place in it.
    #[must_use]
    pub fn label(&self, batch: u64) -> String {
        format!("TS{batch}-{}", self.index)
    }

    /// The currency of a journal that has one.
    #[must_use]
    pub fn currency(&self) -> Option<Currency> {
        self.lines.first().map(|line| line.currency)
    }

    /// What the journal is, for people.
    #[must_use]
    pub fn title(&self) -> String {
        self.single.map_or_else(|| counted(self.entries), ExportEntry::memo)
    }

    /// The journal numbers it stands for: `7`, or `3-9` for a day.
    #[must_use]
    pub fn range(&self) -> String {
        match self.numbers {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        }
    }
}

fn counted(entries: usize) -> String {
    if entries == 1 { "1 entry".to_owned() } else { format!("{entries} entries") }
}

/// Lines that a summary keeps one by one, because somebody will ask about each.
#[must_use]
pub fn is_kept(account: &Account) -> bool {
    account.is_suspense() || *account == Account::CashOverShort
}

/// The journals of a batch, in the order of date, store and number. A journal of a summary has at most `lines_max`
/// lines, unless a single entry has more: what does not fit goes into another that balances as well.
#[must_use]
pub fn journals(entries: &[ExportEntry], detail: Detail, lines_max: usize) -> Vec<Journal<'_>> {
    let mut sorted: Vec<&ExportEntry> = entries.iter().collect();
    sorted.sort_by_key(|entry| (entry.entry.date, &entry.store, entry.entry.number));
    let mut journals: Vec<Journal<'_>> = match detail {
        Detail::Record => sorted.into_iter().map(record).collect(),
        Detail::Summary => {
            let mut days: BTreeMap<(Day, &StoreId, Currency), Vec<&ExportEntry>> = BTreeMap::new();
            for entry in sorted {
                let mut currencies: Vec<Currency> =
                    entry.entry.postings.iter().map(|posting| posting.currency).collect();
                currencies.sort_unstable();
                currencies.dedup();
                for currency in currencies {
                    days.entry((entry.entry.date, &entry.store, currency)).or_default().push(entry);
                }
            }
            days.into_iter()
                .flat_map(|((date, store, currency), entries)| {
                    summaries(date, store, currency, &entries, lines_max)
                })
                .collect()
        }
    };
    number(&mut journals);
    journals
}

fn number(journals: &mut [Journal<'_>]) {
    for (at, journal) in journals.iter_mut().enumerate() {
        journal.index = at + 1;
    }
}

/// Journals of one currency each, for programs whose journals know no other.
#[must_use]
pub fn by_currency(journals: Vec<Journal<'_>>) -> Vec<Journal<'_>> {
    let mut split = Vec::new();
    for mut journal in journals {
        let mut parts: BTreeMap<Currency, Vec<Line>> = BTreeMap::new();
        for line in std::mem::take(&mut journal.lines) {
            parts.entry(line.currency).or_default().push(line);
        }
        split.extend(parts.into_values().map(|lines| Journal { lines, ..journal.clone() }));
    }
    number(&mut split);
    split
}

fn record(entry: &ExportEntry) -> Journal<'_> {
    let number = entry.entry.number;
    let lines = entry.entry.postings.iter().map(|posting| Line {
        account: posting.account.clone(),
        currency: posting.currency,
        amount_minor: i128::from(posting.amount_minor),
        terminal: terminal(entry, posting),
        memo: entry.memo(),
        record: Some(entry.entry.record),
        case: entry.case.clone(),
    });
    Journal {
        index: 0,
        store: &entry.store,
        date: entry.entry.date,
        numbers: (number, number),
        entries: 1,
        single: Some(entry),
        lines: lines.collect(),
    }
}

fn terminal(entry: &ExportEntry, posting: &Posting) -> String {
    match &posting.account {
        Account::Drawer(terminal) => terminal.to_string(),
        _ => entry.terminal.clone(),
    }
}

/// What is added up into one line.
type Key = (Account, String, Option<RecordId>);

#[derive(Default)]
struct Sum<'a> {
    amount_minor: i128,
    entries: usize,
    last: Option<&'a ExportEntry>,
}

fn summaries<'a>(
    date: Day,
    store: &'a StoreId,
    currency: Currency,
    entries: &[&'a ExportEntry],
    lines_max: usize,
) -> Vec<Journal<'a>> {
    let (mut journals, mut first): (Vec<Journal<'a>>, usize) = (Vec::new(), 0);
    let mut sums: BTreeMap<Key, Sum<'a>> = BTreeMap::new();
    let mut close = |sums: BTreeMap<Key, Sum<'a>>, entries: &[&'a ExportEntry]| {
        let lines: Vec<Line> = lines(sums, currency).collect();
        // A day that was undone to the penny leaves nothing to book.
        if !lines.is_empty() {
            let numbers = entries.iter().map(|entry| entry.entry.number);
            journals.push(Journal {
                index: 0,
                store,
                date,
                numbers: (numbers.clone().min().unwrap_or(0), numbers.max().unwrap_or(0)),
                entries: entries.len(),
                single: None,
                lines,
            });
        }
    };
    for (at, entry) in entries.iter().enumerate() {
        let postings = || entry.entry.postings.iter().filter(|posting| posting.currency == currency);
        let key = |posting: &Posting| {
            let record = is_kept(&posting.account).then_some(entry.entry.record);
            (posting.account.clone(), terminal(entry, posting), record)
        };
        let new = postings().filter(|posting| !sums.contains_key(&key(posting))).count();
        if sums.len() + new > lines_max && !sums.is_empty() {
            close(std::mem::take(&mut sums), &entries[first..at]);
            first = at;
        }
        for posting in postings() {
            let sum = sums.entry(key(posting)).or_default();
            sum.amount_minor += i128::from(posting.amount_minor);
            sum.entries += 1;
            sum.last = Some(entry);
        }
    }
    close(sums, &entries[first..]);
    journals
}

fn lines<'a>(sums: BTreeMap<Key, Sum<'a>>, currency: Currency) -> impl Iterator<Item = Line> + use<'a> {
    let sums = sums.into_iter().filter(|(_, sum)| sum.amount_minor != 0);
    sums.map(move |((account, terminal, record), sum)| {
        let entry = sum.last.filter(|_| record.is_some());
        Line {
            account,
            currency,
            amount_minor: sum.amount_minor,
            terminal,
            memo: entry.map_or_else(|| counted(sum.entries), ExportEntry::memo),
            record,
            case: entry.and_then(|entry| entry.case.clone()),
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{batch, sale_day};
    use super::*;

    fn shown(journals: &[Journal<'_>]) -> Vec<String> {
        let mut rows = Vec::new();
        for journal in journals {
            rows.push(format!("{} {} {} {}", journal.date, journal.store, journal.range(), journal.title()));
            for line in &journal.lines {
                let amount = line.currency.format(line.amount_minor);
                rows.push(format!(
                    "  {} {amount} {} [{}] {}",
                    line.account, line.currency, line.terminal, line.memo
                ));
            }
            let sum: i128 = journal.lines.iter().map(|line| line.amount_minor).sum();
            assert_eq!(sum, 0, "{rows:?}");
        }
        rows
    }

    #[test]
    fn a_summary_adds_up_a_day_and_keeps_what_is_in_suspense() {
        let entries = sale_day();
        let journals = journals(&entries, Detail::Summary, usize::MAX);
        assert_eq!(
            shown(&journals),
            [
                "2026-11-23 s1 1-4 4 entries",
                "  Assets:Cash:Drawer:till-1 168.00 GBP [till-1] 2 entries",
                "  Assets:Cash:Drawer:till-2 -12.35 GBP [till-2] 2 entries",
                "  Assets:Suspense:Refunds 12.00 GBP [till-2] refund till-2 R-3",
                "  Liabilities:Sales-Tax:S -28.00 GBP [till-1] 2 entries",
                "  Income:Sales -140.00 GBP [till-1] 2 entries",
                "  Expenses:Cash-Over-Short 0.35 GBP [till-2] day_close till-2 Z-4",
            ]
        );
        assert!(journals[0].is_held());
        assert_eq!(journals[0].lines[2].case.as_deref(), Some("C-1"));
    }

    #[test]
    fn a_summary_too_long_is_two_that_balance_and_say_the_same() {
        let entries = sale_day();
        let journals = journals(&entries, Detail::Summary, 4);
        assert_eq!(journals.iter().map(Journal::range).collect::<Vec<_>>(), ["1-2", "3-4"]);
        assert!(journals.iter().all(|journal| journal.lines.len() <= 4));
        shown(&journals);
    }

    #[test]
    fn what_was_undone_the_same_day_leaves_no_line() {
        let entries = batch(&[
            ("2026-11-23", "sale", "till-1", "R-1", &[("Income:Sales", -100), ("Assets:Card:Clearing", 100)]),
            ("2026-11-23", "void", "till-1", "R-2", &[("Income:Sales", 100), ("Assets:Card:Clearing", -100)]),
        ]);
        assert!(journals(&entries, Detail::Summary, usize::MAX).is_empty());
        assert_eq!(journals(&entries, Detail::Record, usize::MAX).len(), 2);
    }

    #[test]
    fn an_entry_in_two_currencies_becomes_two_journals() {
        let mut entries = batch(&[(
            "2026-11-23",
            "sale",
            "till-1",
            "R-1",
            &[
                ("Income:Sales", -100),
                ("Assets:Card:Clearing", 100),
                ("Income:Sales", -7),
                ("Assets:Card:Clearing", 7),
            ],
        )]);
        for posting in &mut entries[0].entry.postings[2..] {
            posting.currency = "JPY".parse().unwrap();
        }
        let split = by_currency(journals(&entries, Detail::Record, usize::MAX));
        let rows = split.iter().map(|journal| (journal.index, journal.currency().unwrap().to_string()));
        assert_eq!(rows.collect::<Vec<_>>(), [(1, "GBP".to_owned()), (2, "JPY".to_owned())]);
        shown(&split);
        assert_eq!(journals(&entries, Detail::Summary, usize::MAX).len(), 2);
    }
}
