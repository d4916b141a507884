//! *Receipts*: any number, and what became of it: the receipt, its way into the books with times, its family, its
//! postings, and the batch and key that vouch for it.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use engine::ids::RecordId;
use engine::record::Record;
use engine::replica::{CustodyStep, Replica};
use maud::{Markup, html};
use serde::Deserialize;

use super::door::Visitor;
use super::layout::{self, Page, Tone, chip, heading, nothing};
use super::{Console, show, slip, words};
use crate::api::problem::Problem;
use crate::runtime::clock::{Clock, now_ms};

/// Receipts listed for one number, and newest ones without a number.
const LISTED: usize = 100;
const NEWEST: usize = 15;

/// What is looked for.
#[derive(Deserialize, Default)]
pub struct Wanted {
    #[serde(default)]
    q: String,
}

/// `GET /receipts`.
pub async fn search(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Query(wanted): Query<Wanted>,
) -> Result<Page, Problem> {
    let asked = wanted.q.trim().to_owned();
    let mut rows: Vec<(i64, Markup)> = Vec::new();
    for store in console.hub.stores() {
        let (name, clock) = (asked.clone(), console.hub.clock().clone());
        let found: Vec<(i64, Markup)> = store.ask(move |replica| found(replica, &name, &clock)).await?;
        rows.extend(found);
    }
    rows.sort_by_key(|row| std::cmp::Reverse(row.0));
    rows.truncate(if asked.is_empty() { NEWEST } else { LISTED });
    let body = html! {
        (heading("Receipts", "Any receipt of any till: where it is, what it belongs to, what the books say of it."))
        form.row method="get" role="search" {
            div.field { label for="q" { "Receipt number or id" } input #q type="search" name="q" value=(asked) autocomplete="off"; }
            button type="submit" { "Find" }
        }
        h2 { @if asked.is_empty() { "The newest" } @else { "Found" } }
        @if rows.is_empty() && asked.is_empty() { (nothing("No receipt has arrived yet.")) }
        @else if rows.is_empty() { (nothing("No receipt of this number has arrived here. If its till is offline, it comes when the line is back.")) }
        @else {
            div.wide { table.stack {
                thead { tr { th scope="col" { "Receipt" } th scope="col" { "What" } th scope="col" { "Store" } th scope="col" { "Till" } th scope="col" { "When" } th.num scope="col" { "Total" } th scope="col" { "Where it is" } } }
                tbody { @for row in &rows { (row.1) } }
            } }
        }
    };
    Ok(layout::page(&visitor, "/receipts", "Receipts", false, &body))
}

fn found(replica: &Replica, name: &str, clock: &Clock) -> Vec<(i64, Markup)> {
    let books = replica.books();
    let records: Vec<&Record> = if name.is_empty() {
        // The end of every log: the newest of the store are among them.
        let heads = replica.log_heads();
        let logs = heads.iter().filter(|head| !head.0.terminal.is_hub());
        logs.flat_map(|(log, head)| books.log_records(log, head.saturating_sub(NEWEST as u64 - 1))).collect()
    } else if let Ok(id) = name.parse::<RecordId>() {
        books.record(&id).map(|record| &**record).into_iter().collect()
    } else {
        books.find_receipt(name).iter().filter_map(|id| books.record(id)).map(|it| &**it).collect()
    };
    let mut records = records;
    records.sort_by_key(|record| std::cmp::Reverse(record.effective_ms));
    records.truncate(if name.is_empty() { NEWEST } else { LISTED });
    records.into_iter().map(|record| (record.effective_ms, row(replica, record, clock))).collect()
}

fn row(replica: &Replica, record: &Record, clock: &Clock) -> Markup {
    let step = replica.custody(&record.id).map_or(CustodyStep::Saved, |custody| custody.state);
    let tone = match step {
        CustodyStep::InReview => Tone::Warn,
        CustodyStep::Posted | CustodyStep::Exported => Tone::Good,
        _ => Tone::Calm,
    };
    html! {
        tr data-row="" {
            th scope="row" { a href={ "/receipts/" (record.id) } { (record.transaction.receipt) } }
            td data-name="What" { (words::kind(record.transaction.kind())) }
            td data-name="Store" { (record.store) }
            td data-name="Till" { (record.log.terminal) }
            td data-name="When" { (show::ago(record.at.ms, now_ms(), clock)) }
            td.num data-name="Total" { @if let Some(basket) = record.transaction.basket() { (show::money(basket.total_minor(), basket.currency)) } }
            td data-name="Where it is" { (chip(tone, words::custody(step))) }
        }
    }
}

/// `GET /receipts/{id}`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Path(name): Path<String>,
) -> Result<Page, Problem> {
    for store in console.hub.stores() {
        let wanted = name.clone();
        let id = store.ask(move |replica| crate::api::till::find(replica, &wanted)).await?;
        let Some(id) = id else { continue };
        let exported = console.hub.exported_at_ms(&store, &id).await;
        let clock = console.hub.clock().clone();
        let body = store.ask(move |replica| body(replica, &id, exported, &clock)).await?;
        return Ok(layout::page(&visitor, "/receipts", "Receipt", true, &body));
    }
    Err(Problem::not_found(format!(
        "no receipt {name:?} has arrived here. If its till is offline, it comes when the line is back"
    )))
}

fn body(replica: &Replica, id: &RecordId, exported: Option<i64>, clock: &Clock) -> Markup {
    let books = replica.books();
    let Some(record) = books.record(id) else { return html! {} };
    let cases: Vec<_> = books.cases().filter(|case| case.members.contains(id)).collect();
    let held = cases
        .iter()
        .find_map(|case| case.held.get(id).copied())
        .filter(|_| books.standing(id) == Some(engine::ledger::Standing::InReview));
    html! {
        p.crumbs { a href="/receipts" { "Receipts" } }
        div.heading { h1 { (words::kind(record.transaction.kind())) " " (record.transaction.receipt) } p.lead { (record.store) ", " (record.log.terminal) ", " (show::day(record.business_day)) } }
        div #receipt.grid data-fresh="" {
            (slip::slip(replica, record, held))
            section.card { h2 { "Its way into the books" } (ladder(replica, id, exported, clock)) }
            section.card {
                h2 { "What the books say" }
                @if books.postings_of(id).is_empty() { p.soft { "It posts nothing." } } @else { (slip::posting_table(books.postings_of(id))) }
                @if !cases.is_empty() {
                    h3 { "Cases" }
                    ul { @for case in &cases { li { a href={ "/review/" (case.id) } { (words::doubt(case.key.case_type)) } " " (chip(words::case_state(case.state).0, words::case_state(case.state).1)) } } }
                }
            }
            (family(replica, id))
            (proof(replica, record))
        }
    }
}

fn ladder(replica: &Replica, id: &RecordId, exported: Option<i64>, clock: &Clock) -> Markup {
    let reached = replica.custody(id).map(|custody| custody.history).unwrap_or_default();
    let in_review = reached.iter().any(|step| step.0 == CustodyStep::InReview);
    let mut steps: Vec<(CustodyStep, Option<i64>)> =
        reached.iter().map(|(step, at)| (*step, Some(*at))).collect();
    let posted = if in_review { CustodyStep::InReview } else { CustodyStep::Posted };
    for step in [CustodyStep::AtHub, posted] {
        if !steps.iter().any(|known| known.0 == step) {
            steps.push((step, None));
        }
    }
    steps.push((CustodyStep::Exported, exported));
    html! {
        ol.story { @for (step, at) in &steps {
            li class=[at.is_none().then_some("todo")] {
                strong { (words::custody(*step)) } br;
                @match at { Some(at) => (show::time(*at, clock)), None => span.soft { "not yet" } }
            }
        } }
    }
}

fn family(replica: &Replica, id: &RecordId) -> Markup {
    let books = replica.books();
    let others: Vec<&Record> = books
        .family(id)
        .into_iter()
        .filter(|other| other != id)
        .filter_map(|other| books.record(&other))
        .map(|record| &**record)
        .collect();
    html! {
        @if !others.is_empty() {
            section.card {
                h2 { "Belongs together with" }
                ul { @for other in others.iter().take(50) { li {
                    (words::kind(other.transaction.kind())) " " a href={ "/receipts/" (other.id) } { (other.transaction.receipt) } " of " (other.log.terminal)
                    @if let Some(basket) = other.transaction.basket() { ", " (show::money(basket.total_minor(), basket.currency)) }
                } } }
                @if others.len() > 50 { p.soft { "And " (others.len() - 50) " more." } }
            }
        }
    }
}

/// What makes the record provable: its id, its place in the chain, the batch and the key that signed it.
fn proof(replica: &Replica, record: &Record) -> Markup {
    let batch = replica.batch_of(record);
    html! {
        section.card {
            h2 { "Proof" }
            dl.pairs.small {
                dt { "Id" } dd { code.long { (record.id) } }
                dt { "Follows" } dd { @match record.prev { Some(prev) => code.long { (prev) }, None => "nothing: the first of its till" } }
                @if let Some(batch) = batch {
                    dt { "Batch" } dd { code.long { (batch.hash) } " (numbers " (batch.first_seq) " to " (batch.last_seq) ", " (batch.size) " bytes)" }
                    dt { "Signed by" } dd { code.long { (batch.writer) } }
                }
            }
        }
    }
}
