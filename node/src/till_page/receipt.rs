//! A receipt at the till: what was recorded, whether it is saved here and safe at the hub, what waits; and finding one.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use engine::ids::RecordId;
use engine::record::Record;
use engine::replica::{CustodyStep, Replica};
use engine::transaction::{Body, Kind};
use maud::{Markup, html};
use serde::Deserialize;

use super::strip;
use crate::api::problem::Problem;
use crate::api::till::{Till, find};
use crate::console::layout::{Page, Tone, chip, nothing};
use crate::console::{custody_words, kind_words, show, slip};

/// Receipts listed.
const LISTED: usize = 40;

/// Why a receipt is shown, and what is looked for.
#[derive(Deserialize, Default)]
pub struct Asked {
    #[serde(default)]
    again: String,
    #[serde(default)]
    new: String,
    #[serde(default)]
    q: String,
}

/// `GET /receipts`: the newest of this till, or those of a number of any till of the store.
pub async fn list(State(till): State<Arc<Till>>, Query(asked): Query<Asked>) -> Result<Page, Problem> {
    let (wanted, clock) = (asked.q.trim().to_owned(), till.clock.clone());
    let looked = wanted.clone();
    let rows = till.store.ask(move |replica| rows(replica, &looked, &clock)).await?;
    let body = html! {
        h1 { "Receipts" }
        form.row method="get" role="search" {
            div.field { label for="q" { "Receipt number" } input #q type="search" name="q" value=(wanted) autocomplete="off"; }
            button type="submit" { "Find" }
        }
        div #list data-fresh="" { (rows) }
    };
    strip::page(&till, "/receipts", "Receipts", None, body).await
}

fn rows(replica: &Replica, wanted: &str, clock: &crate::runtime::clock::Clock) -> Markup {
    let books = replica.books();
    let own = replica.identity().log.clone();
    let head = replica.log_heads().get(&own).copied().unwrap_or(0);
    let mut found: Vec<&Record> = if wanted.is_empty() {
        books.log_records(&own, head.saturating_sub(LISTED as u64 - 1)).collect()
    } else {
        books.find_receipt(wanted).iter().filter_map(|id| books.record(id)).map(|it| &**it).collect()
    };
    found.sort_by_key(|record| std::cmp::Reverse((record.effective_ms, record.seq)));
    found.truncate(LISTED);
    if found.is_empty() {
        return nothing(if wanted.is_empty() {
            "Nothing was rung here yet."
        } else {
            "This till does not hold this number. The hub or another till may."
        });
    }
    html! {
        div.wide { table.stack {
            thead { tr { th scope="col" { "Receipt" } th scope="col" { "What" } th scope="col" { "Till" } th scope="col" { "When" } th.num scope="col" { "Total" } th scope="col" { "Where it is" } } }
            tbody { @for record in found { tr data-row="" {
                th scope="row" { a href={ "/receipts/" (record.id) } { (record.transaction.receipt) } }
                td data-name="What" { (kind_words(record.transaction.kind())) }
                td data-name="Till" { (record.log.terminal) }
                td data-name="When" { (show::time(record.at.ms, clock)) }
                td.num data-name="Total" { @if let Some(basket) = record.transaction.basket() { (show::money(basket.total_minor(), basket.currency)) } }
                td data-name="Where it is" { (place(replica, record)) }
            } } }
        } }
    }
}

fn place(replica: &Replica, record: &Record) -> Markup {
    if record.log != replica.identity().log {
        return chip(Tone::Calm, "from another till");
    }
    match replica.custody(&record.id).map_or(CustodyStep::Saved, |custody| custody.state) {
        CustodyStep::Saved => chip(Tone::Warn, "saved here, waits for the hub"),
        step => chip(Tone::Good, custody_words(step)),
    }
}

/// `GET /receipts/{id}`.
pub async fn page(
    State(till): State<Arc<Till>>,
    Path(name): Path<String>,
    Query(asked): Query<Asked>,
) -> Result<Page, Problem> {
    let wanted = name.clone();
    let body = till.store.ask(move |replica| Some(body(replica, &find(replica, &wanted)?))).await?;
    let body =
        body.ok_or_else(|| Problem::not_found(format!("this till holds no receipt {name:?}; the hub may")))?;
    let said = match (asked.again.is_empty(), asked.new.is_empty()) {
        (false, _) => Some((Tone::Calm, "This was recorded already; it is there once.".to_owned())),
        (true, false) => Some((Tone::Good, "Saved.".to_owned())),
        _ => None,
    };
    strip::page(&till, "/receipts", "Receipt", said, body).await
}

fn body(replica: &Replica, id: &RecordId) -> Markup {
    let Some(record) = replica.books().record(id) else { return html! {} };
    let kind = record.transaction.kind();
    let unchecked = record.transaction.offline && matches!(kind, Kind::Refund | Kind::Void);
    let change = record
        .transaction
        .basket()
        .and_then(|basket| basket.tenders.iter().find_map(|tender| Some((tender.cash?.1, basket.currency))));
    let case =
        replica.books().cases().find(|case| case.held.contains_key(id) && case.state.as_str() == "open");
    html! {
        h1 { (kind_words(kind)) " " (record.transaction.receipt) }
        @if let Some((change, currency)) = change { p.total { "Change " (show::money(change, currency)) } }
        div #state data-fresh="" {
            p.row { (place(replica, record)) @if case.is_some() { (chip(Tone::Warn, "head office will look at it")) } }
            @if unchecked && replica.at_hub_through() < record.seq { p.notice.warn { "Made offline: not checked against other tills. The hub checks it when the line is back." } }
        }
        div.receipts {
            (slip::slip(replica, record, case.and_then(|case| case.held.get(id).copied())))
            @if let Body::DayClose(close) = &record.transaction.body {
                section.card { h2 { "Cash" } @for totals in &close.totals {
                    @let off = totals.counted_cash_minor - totals.expected_cash_minor;
                    p.row { @if off == 0 { (chip(Tone::Good, "exact")) } @else if off > 0 { (chip(Tone::Warn, &format!("{} too much", show::money(off, totals.currency)))) } @else { (chip(Tone::Warn, &format!("{} too little", show::money(-off, totals.currency)))) } }
                } }
            }
        }
        p.row {
            a.button href="/" { "Next sale" }
            @if kind == Kind::Sale { a.button.second href={ "/refund?receipt=" (id) } { "Refund" } }
            @if matches!(kind, Kind::Sale | Kind::Refund) { a.button.second href={ "/void?receipt=" (id) } { "Void" } }
        }
    }
}
