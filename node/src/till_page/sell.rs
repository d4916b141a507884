//! Selling: lines that are typed or scanned, cash with its change, or a card.

use std::sync::Arc;

use axum::extract::{Form, State};
use axum::response::{IntoResponse, Response};
use maud::{Markup, html};
use serde_json::json;

use super::strip::{self, Facts, facts};
use super::{form, record};
use crate::api::problem::Problem;
use crate::api::till::Till;
use crate::console::Fields;
use crate::console::layout::{Page, Tone};
use crate::console::show;

/// Lines that a page has at first, and at most.
const LINES: usize = 1;
const LINES_LIMIT: usize = 60;

/// `GET /`.
pub async fn page(State(till): State<Arc<Till>>) -> Result<Page, Problem> {
    shown(&till, &Fields::default(), LINES, None).await
}

async fn shown(
    till: &Till,
    fields: &Fields,
    lines: usize,
    said: Option<(Tone, String)>,
) -> Result<Page, Problem> {
    let facts = facts(till).await?;
    strip::page(till, "/", "Sell", said, register(&facts, fields, lines)).await
}

fn register(facts: &Facts, fields: &Fields, lines: usize) -> Markup {
    let of = |name: &str, at: usize| fields.all(name).nth(at).unwrap_or("").to_owned();
    html! {
        h1 { "Sell" }
        form.register method="post" action="/" data-register="" data-digits=(facts.currency.exponent()) data-currency=(facts.currency.code()) {
            fieldset.lines {
                legend { "Goods" }
                @for at in 0..lines {
                    div.line data-line="" {
                        div.field { label for={ "what-" (at) } { "What" } input id={ "what-" (at) } name="what" value=(of("what", at)) maxlength="120" autocomplete="off"; }
                        div.field { label for={ "quantity-" (at) } { "How many" } input id={ "quantity-" (at) } name="quantity" value=(of("quantity", at)) inputmode="decimal" placeholder="1" autocomplete="off"; }
                        div.field { label for={ "price-" (at) } { "Price of one" } input id={ "price-" (at) } name="price" value=(of("price", at)) inputmode="decimal" autocomplete="off"; }
                        div.field { label for={ "rate-" (at) } { "Tax in it %" } input id={ "rate-" (at) } name="rate" value=(fields.all("rate").nth(at).unwrap_or(&facts.tax.0)) inputmode="decimal" autocomplete="off"; }
                    }
                }
                p { button.second type="submit" name="do" value="line" formnovalidate { "Another line" } }
            }
            p.total { "Total " output #total for="price-0" { "–" } }
            div.fields {
                (form::common(facts, fields))
                div.field { label for="given" { "Cash given (for the change)" } input #given name="given" value=(fields.text("given")) inputmode="decimal" autocomplete="off"; }
                div.field { label for="auth" { "Card: number of the authorisation" } input #auth name="auth" value=(fields.text("auth")) maxlength="60" autocomplete="off"; }
            }
            p.change.soft { "Change " output #change { "–" } }
            div.pay {
                button type="submit" name="do" value="cash" { "Cash" }
                button type="submit" name="do" value="card" { "Card, authorised" }
                button.second type="submit" name="do" value="card-later" { "Card, to be confirmed later" }
            }
        }
    }
}

/// `POST /`.
pub async fn sell(
    State(till): State<Arc<Till>>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let fields = Fields(fields);
    let lines = fields.all("price").count().clamp(LINES, LINES_LIMIT);
    if fields.text("do") == "line" {
        return Ok(shown(&till, &fields, (lines + 1).min(LINES_LIMIT), None).await?.into_response());
    }
    match try_sell(&till, &fields).await {
        Ok(response) => Ok(response),
        Err(problem) => {
            let said = Some((Tone::Bad, format!("Nothing was sold: {}.", problem.detail)));
            Ok((problem.status, shown(&till, &fields, lines, said).await?).into_response())
        }
    }
}

async fn try_sell(till: &Till, fields: &Fields) -> Result<Response, Problem> {
    let facts = facts(till).await?;
    let (mut lines, mut total) = (Vec::new(), 0_i64);
    for (at, price) in fields.all("price").take(LINES_LIMIT).enumerate() {
        let of = |name| fields.all(name).nth(at).unwrap_or("");
        if price.trim().is_empty() && of("what").trim().is_empty() {
            continue;
        }
        let typed = form::line(lines.len() + 1, of("what"), of("quantity"), price, of("rate"), &facts)?;
        total = total.saturating_add(typed.amount_minor);
        lines.push(typed.json);
    }
    if lines.is_empty() {
        return Err(Problem::invalid("type at least one price"));
    }
    let how = fields.text("do");
    let mut tender = form::tender(how, total, fields);
    if let (true, Some(given)) = (how == "cash", fields.filled("given")) {
        let given = form::amount(&given, facts.currency)?;
        if given < total {
            let (given, total) = (show::money(given, facts.currency), show::money(total, facts.currency));
            return Err(Problem::invalid(format!("{given} is less than the total of {total}")));
        }
        tender["tendered_minor"] = json!(given);
        tender["change_minor"] = json!(given - total);
    }
    let mut sale = form::transaction("sale", fields, &facts)?;
    sale["currency"] = json!(facts.currency);
    sale["lines"] = json!(lines);
    sale["tenders"] = json!([tender]);
    record(till, &sale).await
}
