//! Closing the day: the till's own totals, and the cash that was counted.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::{Form, State};
use axum::response::{IntoResponse, Response};
use engine::transaction::CloseTotals;
use maud::{Markup, html};
use serde_json::json;

use super::strip::{self, facts};
use super::{form, record};
use crate::api::problem::Problem;
use crate::api::till::Till;
use crate::console::layout::{Page, Tone, nothing};
use crate::console::{Fields, show, tender_words};

/// `GET /close`.
pub async fn page(State(till): State<Arc<Till>>) -> Result<Page, Problem> {
    shown(&till, &Fields::default(), None).await
}

async fn shown(till: &Till, fields: &Fields, said: Option<(Tone, String)>) -> Result<Page, Problem> {
    let facts = facts(till).await?;
    let report = till.store.ask(|replica| replica.books().z_report(&replica.identity().log)).await?;
    let report = report.filter(|report| report.covers.is_some()).unwrap_or_default();
    let body = html! {
        h1 { "Close the day" }
        @if report.totals.is_empty() { (nothing("Nothing was rung since the last close.")) }
        @if report.covers.is_some() {
            form.register method="post" action="/close" {
                @for totals in &report.totals { (figures(totals, report.z_number, fields)) }
                div.fields { (form::common(&facts, fields)) }
                p.soft { "The till has no need of the hub for this. What waits is sent when the line is back." }
                div.pay { button type="submit" { "Close the day" } }
            }
        }
    };
    strip::page(till, "/close", "Close the day", said, body).await
}

fn figures(totals: &CloseTotals, number: u64, fields: &Fields) -> Markup {
    let currency = totals.currency;
    let name = format!("counted-{currency}");
    html! {
        section.card {
            h2 { "Z " (number) ", " (currency) }
            dl.pairs.sums {
                dt { (show::count(totals.sales.count, "sale", "sales")) } dd { (show::money(totals.sales.sum_minor, currency)) }
                dt { (show::count(totals.refunds.count, "refund", "refunds")) } dd { (show::money(-totals.refunds.sum_minor, currency)) }
                dt { (show::count(totals.voids.count, "void", "voids")) } dd { (show::money(-totals.voids.sum_minor, currency)) }
                @for (tender, minor) in &totals.tenders { dt { (tender_words(*tender)) } dd { (show::money(*minor, currency)) } }
                @for (code, minor) in &totals.tax { dt { "Tax " (code) } dd { (show::money(*minor, currency)) } }
                dt { strong { "Cash that should be in the drawer" } } dd { strong { (show::money(totals.expected_cash_minor, currency)) } }
            }
            div.field { label for=(name) { "Cash counted, " (currency) } input id=(name) name=(name) value=(fields.text(&name)) required inputmode="decimal" autocomplete="off"; }
        }
    }
}

/// `POST /close`.
pub async fn close(
    State(till): State<Arc<Till>>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let fields = Fields(fields);
    match try_close(&till, &fields).await {
        Ok(response) => Ok(response),
        Err(problem) => {
            let said = Some((Tone::Bad, format!("The day was not closed: {}.", problem.detail)));
            Ok((problem.status, shown(&till, &fields, said).await?).into_response())
        }
    }
}

async fn try_close(till: &Till, fields: &Fields) -> Result<Response, Problem> {
    let facts = facts(till).await?;
    let mut counted = BTreeMap::new();
    for (name, text) in &fields.0 {
        let Some(code) = name.strip_prefix("counted-") else { continue };
        let currency = code.parse().map_err(|error| Problem::invalid(format!("{code}: {error}")))?;
        counted.insert(code.to_owned(), form::amount(text, currency)?);
    }
    if counted.is_empty() {
        return Err(Problem::invalid("count the cash first"));
    }
    let mut close = form::transaction("day_close", fields, &facts)?;
    close["counted"] = json!(counted);
    record(till, &close).await
}
