//! Small books for the tests of the formats: written as an accountant writes them.

use engine::ids::{RecordId, StoreId};
use engine::ledger::{Account, JournalEntry, Posting};
use engine::money::Currency;

use super::options::{Form, Wishes};
use super::{Batch, ExportEntry};

/// Date, kind, till, receipt, postings in minor units of GBP.
pub type Row<'a> = (&'a str, &'a str, &'a str, &'a str, &'a [(&'a str, i64)]);

/// Entries of store `s1`, numbered from 1.
pub fn batch(rows: &[Row<'_>]) -> Vec<ExportEntry> {
    batch_in("GBP", rows)
}

/// The same in another currency.
pub fn batch_in(currency: &str, rows: &[Row<'_>]) -> Vec<ExportEntry> {
    let currency: Currency = currency.parse().unwrap();
    let store: StoreId = "s1".parse().unwrap();
    let numbered = rows.iter().zip(1..);
    numbered
        .map(|((date, kind, till, receipt, postings), number)| {
            let postings = postings.iter().map(|(account, amount_minor)| Posting {
                account: account.parse::<Account>().unwrap(),
                currency,
                amount_minor: *amount_minor,
            });
            let entry = JournalEntry {
                number,
                date: date.parse().unwrap(),
                record: RecordId([u8::try_from(number % 250).unwrap(); 32]),
                because: None,
                postings: postings.collect(),
                prev: [0; 32],
                hash: [0; 32],
            };
            ExportEntry {
                store: store.clone(),
                entry,
                kind: (*kind).to_owned(),
                terminal: (*till).to_owned(),
                receipt: (*receipt).to_owned(),
                because: None,
                case: None,
            }
        })
        .collect()
}

/// Two sales, a refund that is held, and a drawer that was 0.35 short.
pub fn sale_day() -> Vec<ExportEntry> {
    let drawer = "Assets:Cash:Drawer:till-1";
    let tax = "Liabilities:Sales-Tax:S";
    let mut entries = batch(&[
        (
            "2026-11-23",
            "sale",
            "till-1",
            "R-1",
            &[(drawer, 12_000), (tax, -2_000), ("Income:Sales", -10_000)],
        ),
        ("2026-11-23", "sale", "till-1", "R-2", &[(drawer, 4_800), (tax, -800), ("Income:Sales", -4_000)]),
        (
            "2026-11-23",
            "refund",
            "till-2",
            "R-3",
            &[("Assets:Cash:Drawer:till-2", -1_200), ("Assets:Suspense:Refunds", 1_200)],
        ),
        (
            "2026-11-23",
            "day_close",
            "till-2",
            "Z-4",
            &[("Assets:Cash:Drawer:till-2", -35), ("Expenses:Cash-Over-Short", 35)],
        ),
    ]);
    entries[2].case = Some("C-1".to_owned());
    entries
}

/// A batch of entries.
pub fn of<'a>(entries: &'a [ExportEntry], earlier: &'a [(Account, Currency)]) -> Batch<'a> {
    Batch { company: "Shops & Sons", number: 3, hash: "abcd", prev: "ef01", entries, earlier }
}

/// A form by its words.
pub fn form(format: &str, detail: &str) -> Form {
    let wishes = Wishes {
        format: Some(format.parse().unwrap()),
        detail: Some(detail.parse().unwrap()),
        ..Wishes::default()
    };
    Form::of(&wishes, None).unwrap()
}
