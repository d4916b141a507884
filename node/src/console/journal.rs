//! The journal of a store: entries as they were appended, each with the receipt that it explains and, where one entry
//! corrects another, what caused it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, State};
use engine::ledger::{Account, JournalEntry};
use engine::replica::Replica;
use engine::time::Day;
use maud::{Markup, html};
use serde::Deserialize;

use super::books::{chosen, store_field, tabs};
use super::door::Visitor;
use super::layout::{self, Page, heading, nothing};
use super::slip::posting_table;
use super::{Console, show};
use crate::api::problem::Problem;

/// Entries on one page, and entries looked through for them.
const ENTRIES_A_PAGE: usize = 50;
const ENTRIES_READ: u64 = 5_000;

/// Which entries.
#[derive(Deserialize, Default)]
pub struct Part {
    #[serde(default)]
    store: String,
    #[serde(default)]
    day: String,
    #[serde(default)]
    account: String,
    /// Only entries below this number.
    before: Option<u64>,
}

/// `GET /books/journal`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Query(mut part): Query<Part>,
) -> Result<Page, Problem> {
    let hub = &console.hub;
    if part.store.is_empty() {
        part.store = hub.stores().first().map(|store| store.store().to_string()).unwrap_or_default();
    }
    let day: Option<Day> =
        if part.day.is_empty() { None } else { Some(part.day.parse().map_err(Problem::invalid)?) };
    let account: Option<Account> =
        if part.account.is_empty() { None } else { Some(part.account.parse().map_err(Problem::invalid)?) };
    let mut found = html! {};
    if let Some(store) = chosen(hub, &part.store)?.first().filter(|_| !part.store.is_empty()) {
        let head = store.ask(|replica| replica.books().journal_head().number).await?;
        let last = part.before.map_or(head, |before| before.saturating_sub(1).min(head));
        let first = last.saturating_sub(ENTRIES_READ).max(1);
        let mut entries = Vec::new();
        let mut next = first;
        while next <= last {
            let limit = usize::try_from((last - next + 1).min(1_000)).unwrap_or(1_000);
            let page = store.journal(next, limit).await?;
            let Some(end) = page.last() else { break };
            next = end.number + 1;
            entries.extend(page);
        }
        let wanted = |entry: &JournalEntry| {
            entry.number <= last
                && day.is_none_or(|day| entry.date == day)
                && account
                    .as_ref()
                    .is_none_or(|account| entry.postings.iter().any(|posting| posting.account == *account))
        };
        let mut shown: Vec<JournalEntry> =
            entries.into_iter().rev().filter(wanted).take(ENTRIES_A_PAGE + 1).collect();
        let more = shown.len() > ENTRIES_A_PAGE;
        shown.truncate(ENTRIES_A_PAGE);
        let older = if more { shown.last().map(|entry| entry.number) } else { (first > 1).then_some(first) };
        let rows = store.ask(move |replica| table(replica, &shown)).await?;
        found = html! { (rows) (pager(&part, older)) };
    }
    let body = html! {
        (heading("Books", "Every entry that was ever posted, the newest first. Nothing is changed or taken out; corrections are entries of their own."))
        (tabs("/books/journal"))
        form.filters.fields method="get" {
            (store_field(hub, &part.store, false))
            div.field { label for="day" { "Day" } input #day type="date" name="day" value=(part.day); }
            div.field { label for="account" { "Account" } input #account name="account" value=(part.account) placeholder="Income:Sales"; }
            div.go { button.second type="submit" { "Show" } }
        }
        div #journal data-fresh="" { (found) }
    };
    Ok(layout::page(&visitor, "/books", "Journal", true, &body))
}

fn pager(part: &Part, older: Option<u64>) -> Markup {
    let query = format!(
        "store={}&day={}&account={}",
        super::escape(&part.store),
        super::escape(&part.day),
        super::escape(&part.account)
    );
    html! {
        nav.row aria-label="Pages" {
            @if part.before.is_some() { a href={ "/books/journal?" (query) } { "Newest" } }
            @if let Some(older) = older { a href={ "/books/journal?" (query) "&before=" (older) } { "Older" } }
        }
    }
}

fn table(replica: &Replica, entries: &[JournalEntry]) -> Markup {
    if entries.is_empty() {
        return nothing("No such entry.");
    }
    let record = |id| replica.books().record(id);
    html! {
        div.wide { table.stack {
            thead { tr { th scope="col" { "Entry" } th scope="col" { "Date" } th scope="col" { "Receipt" } th scope="col" { "Postings" } } }
            tbody { @for entry in entries {
                tr data-row="" {
                    th scope="row" { (entry.number) }
                    td data-name="Date" { (show::day(entry.date)) }
                    td data-name="Receipt" {
                        div {
                            @match record(&entry.record) {
                                Some(of) => { a href={ "/receipts/" (entry.record) } { (of.transaction.receipt) } " of " (of.log.terminal) },
                                None => code { (entry.record.short()) },
                            }
                            @if let Some(because) = &entry.because {
                                div.soft.small { "corrected because of " @match record(because) {
                                    Some(cause) => a href={ "/receipts/" (because) } { (cause.transaction.receipt) },
                                    None => code { (because.short()) },
                                } }
                            }
                        }
                    }
                    td data-name="" { (posting_table(&entry.postings)) }
                }
            } }
        } }
    }
}
