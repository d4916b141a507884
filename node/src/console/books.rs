//! *Books*: the trial balance and every account, and what stands in suspense, by age.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, State};
use engine::ids::{RecordId, StoreId};
use engine::ledger::Account;
use engine::money::Currency;
use engine::replica::Replica;
use engine::review::CaseState;
use engine::time::Day;
use maud::{Markup, html};
use serde::Deserialize;

use super::door::Visitor;
use super::layout::{self, Page, Tone, chip, figure, heading, nothing};
use super::{Console, show, words};
use crate::api::problem::Problem;
use crate::hub::Hub;
use crate::runtime::clock::now_ms;
use crate::runtime::store::StoreHandle;

/// Rows of suspense listed.
const SUSPENSE_LISTED: usize = 300;
const DAY_MS: i64 = 86_400_000;
/// Ages that people ask for.
const AGES: [(&str, i64); 4] = [
    ("up to a day", DAY_MS),
    ("up to a week", 7 * DAY_MS),
    ("up to a month", 30 * DAY_MS),
    ("older", i64::MAX),
];

/// Which books.
#[derive(Deserialize, Default)]
pub struct Part {
    #[serde(default)]
    pub store: String,
    #[serde(default)]
    day: String,
}

/// The rooms inside the books.
pub fn tabs(here: &str) -> Markup {
    let rooms = [
        ("/books", "Trial balance"),
        ("/books/journal", "Journal"),
        ("/books/suspense", "Suspense"),
        ("/books/exports", "Exports"),
    ];
    html! {
        nav aria-label="Books" { ul.tabs {
            @for (path, name) in rooms { li { a href=(path) aria-current=[(path == here).then_some("page")] { (name) } } }
        } }
    }
}

/// The stores that a filter means.
pub fn chosen(hub: &Hub, store: &str) -> Result<Vec<StoreHandle>, Problem> {
    if store.is_empty() {
        return Ok(hub.stores());
    }
    let id: StoreId = store.parse().map_err(Problem::invalid)?;
    let found = hub.store(&id).ok_or_else(|| Problem::not_found(format!("there is no store {id}")))?;
    Ok(vec![found])
}

/// A choice of store.
pub fn store_field(hub: &Hub, chosen: &str, all: bool) -> Markup {
    html! {
        div.field {
            label for="store" { "Store" }
            select #store name="store" {
                @if all { option value="" { "all stores" } }
                @for store in hub.stores() { option value=(store.store()) selected[store.store().as_str() == chosen] { (store.store()) } }
            }
        }
    }
}

type Balances = BTreeMap<(Account, Currency), i128>;

/// `GET /books`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Query(part): Query<Part>,
) -> Result<Page, Problem> {
    let hub = &console.hub;
    let day: Option<Day> =
        if part.day.is_empty() { None } else { Some(part.day.parse().map_err(Problem::invalid)?) };
    let mut sum = Balances::new();
    for store in chosen(hub, &part.store)? {
        let balances = store
            .ask(move |replica| {
                let books = replica.books();
                day.map_or_else(|| books.balances(), |day| books.balances_between(day, day))
            })
            .await?;
        for (key, minor) in balances {
            *sum.entry(key).or_default() += minor;
        }
    }
    sum.retain(|_, minor| *minor != 0);
    let body = html! {
        (heading("Books", "What all receipts together say, in double entry. Every amount can be followed down to its receipt."))
        (tabs("/books"))
        form.filters.fields method="get" {
            (store_field(hub, &part.store, true))
            div.field { label for="day" { "Day" } input #day type="date" name="day" value=(part.day); }
            div.go { button.second type="submit" { "Show" } }
        }
        div #books data-fresh="" {
            @if sum.is_empty() { (nothing("Nothing was posted here.")) } @else { (trial(&sum, &part)) }
        }
    };
    Ok(layout::page(&visitor, "/books", "Books", true, &body))
}

fn trial(sum: &Balances, part: &Part) -> Markup {
    let mut currencies: BTreeMap<Currency, Vec<(&Account, i128)>> = BTreeMap::new();
    for ((account, currency), minor) in sum {
        currencies.entry(*currency).or_default().push((account, *minor));
    }
    html! {
        @for (currency, mut accounts) in currencies {
            ({ accounts.sort_by_key(|row| (row.0.code(), row.0.to_string())); html! {} })
            @let debits: i128 = accounts.iter().map(|row| row.1.max(0)).sum();
            @let credits: i128 = accounts.iter().map(|row| (-row.1).max(0)).sum();
            div.wide {
                table {
                    caption { "Trial balance, " (currency) " " @if debits == credits { (chip(Tone::Good, "balances")) } @else { (chip(Tone::Bad, "does not balance")) } }
                    thead { tr { th scope="col" { "Account" } th.num scope="col" { "Debit" } th.num scope="col" { "Credit" } } }
                    tbody { @for (account, minor) in &accounts {
                        @let name = account.to_string();
                        tr {
                            th scope="row" {
                                a href={ "/books/journal?account=" (super::escape(&name)) "&store=" (super::escape(&part.store)) } { (name) }
                                @if account.is_suspense() { " " (chip(Tone::Warn, "to decide")) }
                                div.soft.small { (account.code()) " · " (words::account(account)) }
                            }
                            td.num { @if *minor > 0 { (show::money(*minor, currency)) } }
                            td.num { @if *minor < 0 { (show::money(-*minor, currency)) } }
                        }
                    } }
                    tfoot { tr { th scope="row" { "Total" } td.num { (show::money(debits, currency)) } td.num { (show::money(credits, currency)) } } }
                }
            }
        }
    }
}

/// A record's money in suspense.
struct Held {
    store: StoreId,
    case: String,
    doubt: &'static str,
    record: RecordId,
    receipt: String,
    account: Account,
    amount_minor: i64,
    currency: Currency,
    since_ms: i64,
}

fn held(replica: &Replica) -> (Vec<Held>, Balances) {
    let books = replica.books();
    let mut rows: BTreeMap<(RecordId, Account), Held> = BTreeMap::new();
    for case in books.cases().filter(|case| case.state == CaseState::Open) {
        for record in case.members.iter().filter_map(|id| books.record(id)) {
            for posting in books.postings_of(&record.id).iter().filter(|it| it.account.is_suspense()) {
                let row = Held {
                    store: books.store().clone(),
                    case: case.id.clone(),
                    doubt: words::doubt(case.key.case_type),
                    record: record.id,
                    receipt: record.transaction.receipt.clone(),
                    account: posting.account.clone(),
                    amount_minor: posting.amount_minor,
                    currency: posting.currency,
                    since_ms: record.effective_ms,
                };
                // One record may be in two cases; its money is there once. The case that holds it is named.
                if case.held.contains_key(&record.id) {
                    rows.insert((record.id, posting.account.clone()), row);
                } else {
                    rows.entry((record.id, posting.account.clone())).or_insert(row);
                }
            }
        }
    }
    let mut balances = books.balances();
    balances.retain(|key, _| key.0.is_suspense());
    (rows.into_values().collect(), balances)
}

/// `GET /books/suspense`.
pub async fn suspense(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Query(part): Query<Part>,
) -> Result<Page, Problem> {
    let (mut rows, mut balances) = (Vec::new(), Balances::new());
    for store in chosen(&console.hub, &part.store)? {
        let (of_store, sums) = store.ask(|replica| held(replica)).await?;
        rows.extend(of_store);
        for (key, minor) in sums {
            *balances.entry(key).or_default() += minor;
        }
    }
    rows.sort_by_key(|row| row.since_ms);
    let body = html! {
        (heading("Books", "Money that is in the books and whose reason a person has to name. Nothing stays here unseen."))
        (tabs("/books/suspense"))
        form.filters.fields method="get" { (store_field(&console.hub, &part.store, true)) div.go { button.second type="submit" { "Show" } } }
        div #suspense data-fresh="" {
            @if rows.is_empty() && balances.values().all(|minor| *minor == 0) { (nothing("Nothing is in suspense.")) }
            @else { (ages(&rows)) (suspense_table(&rows, &console)) (rest(&rows, &balances)) }
        }
    };
    Ok(layout::page(&visitor, "/books", "Suspense", true, &body))
}

fn ages(rows: &[Held]) -> Markup {
    let now = now_ms();
    let mut buckets: BTreeMap<(usize, Currency), (u64, i128)> = BTreeMap::new();
    for row in rows {
        let age = now - row.since_ms;
        let at = AGES.iter().position(|limit| age <= limit.1).unwrap_or(AGES.len() - 1);
        let bucket = buckets.entry((at, row.currency)).or_default();
        bucket.0 += 1;
        bucket.1 += i128::from(row.amount_minor.abs());
    }
    html! {
        div.figures {
            @for ((at, currency), (count, minor)) in &buckets {
                (figure(AGES[*at].0, &show::money(*minor, *currency), &html! { (show::count(*count, "receipt", "receipts")) }, if *at > 1 { Tone::Bad } else { Tone::Warn }))
            }
        }
    }
}

fn suspense_table(rows: &[Held], console: &Console) -> Markup {
    html! {
        div.wide { table.stack {
            thead { tr { th scope="col" { "Receipt" } th scope="col" { "Store" } th scope="col" { "Account" } th.num scope="col" { "Amount" } th scope="col" { "Since" } th scope="col" { "Case" } } }
            tbody { @for row in rows.iter().take(SUSPENSE_LISTED) {
                tr data-row="" {
                    th scope="row" { a href={ "/receipts/" (row.record) } { (row.receipt) } }
                    td data-name="Store" { (row.store) }
                    td data-name="Account" { (words::account(&row.account)) }
                    td.num data-name="Amount" { @if row.amount_minor > 0 { "debit " } @else { "credit " } (show::money(row.amount_minor.abs(), row.currency)) }
                    td data-name="Since" { (show::ago(row.since_ms, now_ms(), console.hub.clock())) }
                    td data-name="Case" { a href={ "/review/" (row.case) } { (row.doubt) } }
                }
            } }
        } }
        @if rows.len() > SUSPENSE_LISTED { p.soft { "And " (rows.len() - SUSPENSE_LISTED) " more; choose a store." } }
    }
}

/// What the accounts hold beside the rows above: it must be nothing, or something was decided halfway.
fn rest(rows: &[Held], balances: &Balances) -> Markup {
    let mut left = balances.clone();
    for row in rows {
        *left.entry((row.account.clone(), row.currency)).or_default() -= i128::from(row.amount_minor);
    }
    left.retain(|_, minor| *minor != 0);
    html! {
        @for ((account, currency), minor) in &left {
            p.notice.warn { (account.to_string()) " holds " (show::money(*minor, *currency)) " beside these: decided cases that left money there, to be settled by their own decision." }
        }
    }
}
