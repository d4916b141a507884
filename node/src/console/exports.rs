//! Exports: what was handed to the bookkeeper, numbered and unchangeable, with its control totals; the next batch; files.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Redirect, Response};
use engine::money::Currency;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::books::{store_field, tabs};
use super::door::Visitor;
use super::layout::{self, Page, Tone, heading, may, nothing, notice};
use super::{Console, Fields, show};
use crate::api::problem::Problem;
use crate::export::options::Wishes;
use crate::hub::Role;

const FORMATS: [(&str, &str); 5] = [
    ("xero", "Xero"),
    ("quickbooks", "QuickBooks"),
    ("csv", "CSV (any program)"),
    ("hledger", "hledger / Ledger"),
    ("beancount", "Beancount"),
];

/// Which batch is opened.
#[derive(Deserialize, Default)]
pub struct Part {
    batch: Option<u64>,
    #[serde(default)]
    done: String,
}

/// `GET /books/exports`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Query(part): Query<Part>,
) -> Result<Page, Problem> {
    let said = (!part.done.is_empty())
        .then(|| (Tone::Good, format!("Batch {} is cut. Its files are below.", part.done)));
    shown(&console, &visitor, part.batch, said).await
}

async fn shown(
    console: &Console,
    visitor: &Visitor,
    batch: Option<u64>,
    said: Option<(Tone, String)>,
) -> Result<Page, Problem> {
    let hub = &console.hub;
    let list = hub.export_list().await?;
    let opened = match batch {
        Some(number) => Some(hub.export_again(number, &Wishes::default()).await?),
        None => None,
    };
    let batches: Vec<&Value> = list.as_array().into_iter().flatten().rev().collect();
    let body = html! {
        (heading("Books", "A batch holds every new entry once. It keeps its number and never changes; the same batch gives the same file, byte for byte."))
        (tabs("/books/exports"))
        @if let Some((tone, text)) = said { (notice(tone, &text)) }
        @if let Some(opened) = &opened { (files(opened)) }
        @if may(visitor, Role::Reviewer) {
            section.card {
                h2 { "Cut the next batch" }
                form.fields method="post" action="/books/exports/cut" {
                    (layout::csrf(visitor))
                    div.field { label for="format" { "For which program" } select #format name="format" { @for (value, name) in FORMATS { option value=(value) { (name) } } } }
                    (store_field(hub, "", true))
                    div.go { button type="submit" { "Cut" } }
                }
            }
        }
        @if batches.is_empty() { (nothing("Nothing was exported yet.")) } @else { (table(&batches)) }
    };
    Ok(layout::page(visitor, "/books", "Exports", false, &body))
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or("")
}

fn totals(batch: &Value) -> Markup {
    let amount = |row: &Value, field: &str, currency: &str| {
        let minor = row[field].as_i64().map(i128::from).or_else(|| row[field].as_str()?.parse().ok());
        match (minor, currency.parse::<Currency>()) {
            (Some(minor), Ok(currency)) => show::money(minor, currency),
            _ => String::new(),
        }
    };
    html! {
        @for (currency, row) in batch["totals"]["currencies"].as_object().into_iter().flatten() {
            div { "debits " (amount(row, "debits_minor", currency)) ", credits " (amount(row, "credits_minor", currency)) }
        }
    }
}

fn table(batches: &[&Value]) -> Markup {
    html! {
        div.wide { table.stack {
            thead { tr { th scope="col" { "Batch" } th scope="col" { "Cut" } th scope="col" { "For" } th.num scope="col" { "Entries" } th scope="col" { "Control totals" } th scope="col" { "Hash" } } }
            tbody { @for batch in batches {
                tr data-row="" {
                    th scope="row" { a href={ "/books/exports?batch=" (batch["number"]) } { "Batch " (batch["number"]) } }
                    td data-name="Cut" { (text(batch, "at").replace('T', " ").get(..19).unwrap_or("")) " UTC" }
                    td data-name="For" { (text(batch, "format")) }
                    td.num data-name="Entries" { (show::number(batch["totals"]["entries"].as_u64().unwrap_or(0))) }
                    td data-name="Control totals" { div { (totals(batch)) } }
                    td data-name="Hash" { code { (text(batch, "hash").get(..12).unwrap_or("")) } }
                }
            } }
        } }
    }
}

fn files(batch: &Value) -> Markup {
    html! {
        section.card {
            h2 { "Batch " (batch["number"]) }
            dl.pairs {
                dt { "Entries" } dd { (batch["totals"]["entries"]) }
                dt { "Totals" } dd { (totals(batch)) }
                dt { "Hash" } dd { code.long { (text(batch, "hash")) } }
                dt { "Follows" } dd { @if text(batch, "prev").is_empty() { "the beginning" } @else { code.long { (text(batch, "prev")) } } }
            }
            p.row { @for file in batch["files"].as_array().into_iter().flatten() {
                a.button href={ "/books/exports/" (batch["number"]) "/" (super::escape(text(file, "name"))) } download=(text(file, "name")) { "Download " (text(file, "name")) }
            } }
        }
    }
}

/// `GET /books/exports/{number}/{file}`.
pub async fn file(
    State(console): State<Arc<Console>>,
    Path((number, name)): Path<(u64, String)>,
) -> Result<Response, Problem> {
    let batch = console.hub.export_again(number, &Wishes::default()).await?;
    let files = batch["files"].as_array().into_iter().flatten();
    let Some(file) = files.into_iter().find(|file| file["name"] == *name) else {
        return Err(Problem::not_found(format!("batch {number} has no file {name:?}")));
    };
    let quoted: String =
        name.chars().filter(|it| it.is_ascii_alphanumeric() || "-_.".contains(*it)).collect();
    let headers = [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{quoted}\"")),
    ];
    Ok((headers, text(file, "content").to_owned()).into_response())
}

/// `POST /books/exports/cut`.
pub async fn cut(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
) -> Result<Response, Problem> {
    let wishes = Wishes {
        format: fields.filled("format").map(|format| format.parse()).transpose()?,
        ..Wishes::default()
    };
    let store = fields.filled("store").map(|store| store.parse()).transpose();
    let store = store.map_err(|error: engine::ids::BadName| Problem::invalid(error))?;
    match console.hub.export(wishes, store, visitor.person.name.clone()).await {
        Ok(batch) => {
            let number = &batch["number"];
            Ok(Redirect::to(&format!("/books/exports?batch={number}&done={number}")).into_response())
        }
        Err(failure) => {
            let text = format!("Nothing was cut: {}.", failure.message.trim_end_matches('.'));
            Ok(shown(&console, &visitor, None, Some((Tone::Warn, text))).await?.into_response())
        }
    }
}
