//! *Audit*: what happened between the nodes and what people did, with filters, and as a file.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use maud::html;
use serde::Deserialize;

use super::door::Visitor;
use super::layout::{self, Page, heading, nothing};
use super::{Console, show};
use crate::api::problem::Problem;
use crate::runtime::audit::AuditEvent;
use crate::runtime::clock::rfc3339;

/// Events on one page.
const EVENTS_A_PAGE: usize = 200;

/// Which events. Empty means any.
#[derive(Deserialize, Default)]
pub struct Filter {
    #[serde(default)]
    event: String,
    #[serde(default)]
    store: String,
    #[serde(default)]
    q: String,
    before: Option<u64>,
}

impl Filter {
    fn wants(&self, event: &AuditEvent) -> bool {
        let text = self.q.trim().to_lowercase();
        (self.event.is_empty() || event.event == self.event)
            && (self.store.is_empty() || event.store.as_deref() == Some(self.store.as_str()))
            && self.before.is_none_or(|before| event.number < before)
            && (text.is_empty()
                || event.detail.to_lowercase().contains(&text)
                || event.who.as_ref().is_some_and(|who| who.to_lowercase().contains(&text)))
    }

    fn query(&self) -> String {
        format!(
            "event={}&store={}&q={}",
            super::escape(&self.event),
            super::escape(&self.store),
            super::escape(&self.q)
        )
    }
}

/// `GET /audit`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Query(filter): Query<Filter>,
) -> Page {
    let all = console.hub.audit().read(0, usize::MAX);
    let kinds: std::collections::BTreeSet<&str> = all.iter().map(|event| event.event.as_str()).collect();
    let shown: Vec<&AuditEvent> =
        all.iter().rev().filter(|event| filter.wants(event)).take(EVENTS_A_PAGE).collect();
    let older = shown.last().filter(|_| shown.len() == EVENTS_A_PAGE).map(|event| event.number);
    let clock = console.hub.clock();
    let body = html! {
        (heading("Audit", "What happened between the tills and the hub, and what people did, the newest first."))
        form.filters.fields method="get" {
            div.field { label for="event" { "What" } select #event name="event" { option value="" { "all" } @for kind in &kinds { option value=(kind) selected[*kind == filter.event] { (kind) } } } }
            (super::books::store_field(&console.hub, &filter.store, true))
            div.field { label for="q" { "Who or what, in words" } input #q type="search" name="q" value=(filter.q); }
            div.row.go { button.second type="submit" { "Show" } a.button.second href={ "/audit.csv?" (filter.query()) } { "As a file" } }
        }
        div #events data-fresh="" {
            @if shown.is_empty() { (nothing("No such event.")) } @else {
                div.wide { table.stack {
                    thead { tr { th scope="col" { "Event" } th scope="col" { "When" } th scope="col" { "Store" } th scope="col" { "Who" } th scope="col" { "Details" } } }
                    tbody { @for event in &shown {
                        tr {
                            th scope="row" { (event.event) }
                            td data-name="When" { (show::time(event.at_ms, clock)) }
                            td data-name="Store" { (event.store.as_deref().unwrap_or("")) }
                            td.long data-name="Who" { (event.who.as_deref().unwrap_or("")) }
                            td.long data-name="Details" { (event.detail) }
                        }
                    } }
                } }
            }
            @if let Some(older) = older { p { a href={ "/audit?" (filter.query()) "&before=" (older) } { "Older" } } }
        }
    };
    layout::page(&visitor, "/audit", "Audit", filter.before.is_none(), &body)
}

/// `GET /audit.csv`.
pub async fn csv(
    State(console): State<Arc<Console>>,
    Query(filter): Query<Filter>,
) -> Result<Response, Problem> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let failed = |error: csv::Error| Problem::invalid(error);
    writer.write_record(["number", "at", "store", "who", "event", "detail"]).map_err(failed)?;
    for event in console.hub.audit().read(0, usize::MAX).iter().filter(|event| filter.wants(event)) {
        let row = [
            event.number.to_string(),
            rfc3339(event.at_ms),
            event.store.clone().unwrap_or_default(),
            event.who.clone().unwrap_or_default(),
            event.event.clone(),
            event.detail.clone(),
        ];
        writer.write_record(row.map(|cell| harmless(&cell))).map_err(failed)?;
    }
    let bytes = writer.into_inner().map_err(|error| Problem::invalid(error.to_string()))?;
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"audit.csv\""),
    ];
    Ok((headers, bytes).into_response())
}

/// A cell that a spreadsheet would run as a formula begins with an apostrophe.
fn harmless(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{cell}") } else { cell.to_owned() }
}
