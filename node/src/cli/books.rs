//! `ledger`: the books as the hub holds them. It reads; every figure is the hub's.

use serde_json::Value;

use super::amount;
use super::client::{Client, Role, Where, with_query};
use super::out::Out;
use super::table::{Side, Table};
use super::words::{count, local_time, one_line, text};
use crate::error::Failure;

/// Journal entries asked for at a time.
const PAGE_ENTRIES: &str = "1000";

/// The books: balances, journal, trial balance
#[derive(Debug, clap::Subcommand)]
pub(super) enum Ledger {
    /// What each account holds; debit is positive, credit negative
    Balances(Part),
    /// Every entry with its postings and the receipt it comes from
    Journal(Journal),
    /// Debits against credits, per currency; the difference must be zero
    TrialBalance(Part),
}

/// Which part of the books.
#[derive(Debug, clap::Args)]
pub(super) struct Part {
    /// Only this store
    #[arg(long)]
    store: Option<String>,
    /// Only this business day
    #[arg(long, value_name = "YYYY-MM-DD")]
    day: Option<String>,
    #[command(flatten)]
    at: Where,
}

/// The journal, entry by entry. With --json one document {"entries":[…]}, written as it is read.
#[derive(Debug, clap::Args)]
pub(super) struct Journal {
    #[command(flatten)]
    part: Part,
    /// Only entries after this number of the store's journal
    #[arg(long, value_name = "NUMBER", requires = "store")]
    after: Option<u64>,
}

impl Part {
    fn path(&self, path: &str) -> String {
        with_query(path, &[("store", self.store.as_deref()), ("day", self.day.as_deref())])
    }
}

impl Ledger {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::Balances(part) => {
                let client = part.at.client(Role::Hub, "ledger balances")?;
                let balances = client.get(&part.path("/v1/ledger/balances"))?;
                if out.json() { out.document(&balances) } else { out.text(&balances_page(&balances)) }
            }
            Self::TrialBalance(part) => {
                let client = part.at.client(Role::Hub, "ledger trial-balance")?;
                let trial = client.get(&part.path("/v1/ledger/trial-balance"))?;
                if out.json() { out.document(&trial) } else { out.text(&trial_balance_page(&trial)) }
            }
            Self::Journal(journal) => journal.run(out),
        }
    }
}

fn balances_page(balances: &Value) -> String {
    let mut table = Table::new(&[("Account", Side::Left), ("Balance", Side::Right), ("", Side::Left)]);
    for (name, minor) in balances["balances"].as_object().into_iter().flatten() {
        let (account, currency) = name.rsplit_once(' ').unwrap_or((name, ""));
        table.row([account, &amount::show(minor, currency), currency]);
    }
    let as_of = format!("as of {}; books {}", local_time(&balances["as_of"]), text(&balances["view_hash"]));
    if table.is_empty() {
        format!("Every account is at zero, {as_of}\n")
    } else {
        format!("{}\n{as_of}\n", table.set())
    }
}

fn trial_balance_page(trial: &Value) -> String {
    let heads = [
        ("Currency", Side::Left),
        ("Debits", Side::Right),
        ("Credits", Side::Right),
        ("Difference", Side::Right),
    ];
    let mut table = Table::new(&heads);
    let mut equal = true;
    for (currency, row) in trial["currencies"].as_object().into_iter().flatten() {
        let shown = |field: &str| amount::show(&row[field], currency);
        equal &= amount::minor(&row["difference_minor"]) == Some(0);
        table.row([
            currency.as_str(),
            &shown("debits_minor"),
            &shown("credits_minor"),
            &shown("difference_minor"),
        ]);
    }
    match (table.is_empty(), equal) {
        (true, _) => "The books are empty.\n".to_owned(),
        (_, true) => format!("{}\nBoth sides are equal.\n", table.set()),
        (_, false) => {
            format!("{}\nTHE SIDES DIFFER: stop the hub and run `tillsync verify --dir DIR`.\n", table.set())
        }
    }
}

impl Journal {
    /// Page by page and store by store: numbers count within a store, so only there a page can follow a page.
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.part.at.client(Role::Hub, "ledger journal")?;
        let stores = match &self.part.store {
            Some(store) => vec![store.clone()],
            None => client
                .get("/v1/stores")?
                .as_array()
                .into_iter()
                .flatten()
                .map(|it| text(&it["store"]))
                .collect(),
        };
        let mut entries: u64 = 0;
        if out.json() {
            out.bytes(b"{\"entries\":[")?;
        }
        for store in &stores {
            self.store(&client, store, &mut |entry| {
                entries += 1;
                if out.json() {
                    let comma: &[u8] = if entries == 1 { b"\n" } else { b",\n" };
                    out.bytes(comma)?;
                    out.bytes(entry.to_string().as_bytes())
                } else {
                    out.bytes(entry_text(&entry).as_bytes())
                }
            })?;
        }
        match (out.json(), entries) {
            (true, _) => out.bytes(b"\n]}\n")?,
            (false, 0) => out.text("No entry.")?,
            (false, _) => out.text(&format!("{}.", count(entries, "entry", "entries")))?,
        }
        out.flush()
    }

    fn store(
        &self,
        client: &Client,
        store: &str,
        take: &mut impl FnMut(Value) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let mut after = self.after.unwrap_or(0);
        loop {
            let from = after.to_string();
            let parameters = [
                ("store", Some(store)),
                ("day", self.part.day.as_deref()),
                ("after", Some(from.as_str())),
                ("limit", Some(PAGE_ENTRIES)),
            ];
            let mut page = client.get(&with_query("/v1/ledger/journal", &parameters))?;
            for entry in page["entries"].as_array_mut().into_iter().flatten() {
                take(entry.take())?;
            }
            match page["next"].as_u64() {
                // A number that does not grow would ask for the same page for ever.
                Some(next) if next > after => after = next,
                _ => return Ok(()),
            }
        }
    }
}

/// An entry as a bookkeeper writes it: date, number, receipt; accounts below, amounts to the right.
fn entry_text(entry: &Value) -> String {
    let because = match entry["because"].as_str() {
        Some(record) => format!(", because of {record}"),
        None => String::new(),
    };
    let from = format!("{} {}", text(&entry["terminal"]), text(&entry["receipt"]));
    let title = format!(
        "{}  {} no. {}  {}{because}",
        text(&entry["date"]),
        text(&entry["store"]),
        text(&entry["number"]),
        from.trim()
    );
    let mut lines = vec![one_line(&title)];
    for posting in entry["postings"].as_array().into_iter().flatten() {
        let currency = text(&posting["currency"]);
        let shown = amount::show(&posting["amount_minor"], &currency);
        // One width for all entries, so that the eye can run down the amounts.
        lines.push(one_line(&format!("    {:<44} {shown:>14}  {currency}", text(&posting["account"]))));
    }
    format!("{}\n\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::super::out::Page;
    use super::super::stand_in::StandIn;
    use super::*;
    use serde_json::json;

    fn at(node: &StandIn) -> Where {
        Where { api: Some(node.api()), ..Where::default() }
    }

    #[test]
    fn balances_stand_in_columns_with_the_digits_of_their_currency() {
        let page = balances_page(&json!({
            "balances": {"Assets:Card:Clearing GBP": 12000, "Income:Sales GBP": -10000, "Income:Sales JPY": -7},
            "as_of": "t", "view_hash": "h"
        }));
        let wanted = "\
Account               Balance
────────────────────  ───────  ───
Assets:Card:Clearing   120.00  GBP
Income:Sales          -100.00  GBP
Income:Sales               -7  JPY

as of t; books h
";
        assert_eq!(page, wanted);
    }

    #[test]
    fn a_trial_balance_that_differs_is_loud() {
        let row = |difference: i64| json!({"currencies": {"GBP": {"debits_minor": 1, "credits_minor": 1, "difference_minor": difference}}});
        assert!(trial_balance_page(&row(0)).ends_with("Both sides are equal.\n"));
        assert!(trial_balance_page(&row(1)).contains("THE SIDES DIFFER"));
    }

    #[test]
    fn the_journal_is_read_store_by_store_and_page_by_page() {
        let node = StandIn::routes(&[
            ("/v1/stores", r#"[{"store":"a"},{"store":"b"}]"#),
            (
                "/v1/ledger/journal?store=a&after=0&limit=1000",
                r#"{"entries":[{"number":1},{"number":2}],"next":2}"#,
            ),
            ("/v1/ledger/journal?store=a&after=2&limit=1000", r#"{"entries":[{"number":3}],"next":null}"#),
            ("/v1/ledger/journal?store=b&after=0&limit=1000", r#"{"entries":[{"number":1}],"next":null}"#),
        ]);
        let journal = Journal { part: Part { store: None, day: None, at: at(&node) }, after: None };
        let page = Page::default();
        journal.run(&mut Out::to(page.clone(), true)).unwrap();
        let document: Value = serde_json::from_str(&page.read()).unwrap();
        let numbers: Vec<u64> = document["entries"]
            .as_array()
            .unwrap()
            .iter()
            .map(|entry| entry["number"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, [1, 2, 3, 1]);
    }

    #[test]
    fn an_empty_journal_is_still_a_document() {
        let node = StandIn::routes(&[("/v1/stores", "[]")]);
        let journal = Journal { part: Part { store: None, day: None, at: at(&node) }, after: None };
        let page = Page::default();
        journal.run(&mut Out::to(page.clone(), true)).unwrap();
        assert_eq!(serde_json::from_str::<Value>(&page.read()).unwrap(), json!({"entries": []}));
    }

    #[test]
    fn an_entry_reads_as_a_bookkeeper_writes_it() {
        let entry = json!({
            "number": 7, "store": "s1", "date": "2026-11-23", "terminal": "till-01", "receipt": "R-1", "because": null,
            "postings": [{"account": "Assets:Card:Clearing", "amount_minor": 12000, "currency": "GBP"},
                         {"account": "Income:Sales", "amount_minor": -12000, "currency": "GBP"}]
        });
        let wanted = "2026-11-23  s1 no. 7  till-01 R-1
    Assets:Card:Clearing                                 120.00  GBP
    Income:Sales                                        -120.00  GBP

";
        assert_eq!(entry_text(&entry), wanted);
    }
}
