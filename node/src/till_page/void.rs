//! Voiding a whole sale or refund: found by its number, also from another till, and repeated in full.

use std::sync::Arc;

use axum::extract::{Form, Query, State};
use axum::response::{IntoResponse, Response};
use engine::transaction::Kind;
use maud::{Markup, html};
use serde::Deserialize;

use super::strip::{self, Facts, facts};
use super::{form, record};
use crate::api::problem::Problem;
use crate::api::till::{Till, find};
use crate::api::views;
use crate::console::layout::{Page, Tone, nothing, notice};
use crate::console::{Fields, slip};

/// Which receipt.
#[derive(Deserialize, Default)]
pub struct Wanted {
    #[serde(default)]
    pub receipt: String,
}

/// The form that finds a receipt.
pub fn finder(what: &str, action: &str, wanted: &str) -> Markup {
    html! {
        form.row method="get" action=(action) role="search" {
            div.field { label for="receipt" { "Receipt number to " (what) } input #receipt type="search" name="receipt" value=(wanted) required autocomplete="off"; }
            button type="submit" { "Find" }
        }
    }
}

/// What an offline till cannot know.
pub fn unchecked(facts: &Facts) -> Markup {
    html! {
        @if !facts.online {
            (notice(Tone::Warn, "Offline: not checked against other tills. Another till may have given this back already; the hub checks it when the line is back."))
        }
    }
}

/// `GET /void`.
pub async fn page(State(till): State<Arc<Till>>, Query(wanted): Query<Wanted>) -> Result<Page, Problem> {
    shown(&till, wanted.receipt.trim(), &Fields::default(), None).await
}

async fn shown(
    till: &Till,
    wanted: &str,
    fields: &Fields,
    said: Option<(Tone, String)>,
) -> Result<Page, Problem> {
    let (facts, name, filled) = (facts(till).await?, wanted.to_owned(), fields.clone());
    let found = till
        .store
        .ask(move |replica| {
            let id = find(replica, &name)?;
            let original = replica.books().record(&id)?;
            let other = replica.books().family(&id).into_iter().filter(|it| *it != id).filter_map(|it| replica.books().record(&it));
            let before: Vec<String> = other
                .filter(|it| it.transaction.kind() == Kind::Void && it.transaction.original().is_some_and(|of| replica.books().resolve(of) == Some(id)))
                .map(|it| format!("{} of {}", it.transaction.receipt, it.log.terminal))
                .collect();
            let may = matches!(original.transaction.kind(), Kind::Sale | Kind::Refund);
            Some(html! {
                div.receipts { (slip::slip(replica, original, None)) }
                @if !may { (notice(Tone::Bad, "Only a sale or a refund can be voided.")) }
                @if !before.is_empty() { (notice(Tone::Bad, &format!("Already voided by {}.", before.join(", ")))) }
                @if may && before.is_empty() {
                    (unchecked(&facts))
                    form.register method="post" action="/void" {
                        input type="hidden" name="receipt" value=(id);
                        div.fields {
                            (form::common(&facts, &filled))
                            div.field { label for="reason" { "Why" } input #reason name="reason" value=(filled.text("reason")) required maxlength="200"; }
                        }
                        div.pay { button.danger type="submit" { "Void it and give the money back" } }
                    }
                }
            })
        })
        .await?;
    let body = html! {
        h1 { "Void" }
        (finder("void", "/void", wanted))
        @match found {
            Some(found) => (found),
            None if wanted.is_empty() => p.soft { "A void cancels a whole sale or refund on the same day. For part of it, or later, make a refund." },
            None => (nothing("This till does not hold this receipt, so it cannot repeat it. Make a refund with its number instead.")),
        }
    };
    strip::page(till, "/void", "Void", said, body).await
}

/// `POST /void`.
pub async fn void(
    State(till): State<Arc<Till>>,
    Form(fields): Form<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let fields = Fields(fields);
    match try_void(&till, &fields).await {
        Ok(response) => Ok(response),
        Err(problem) => {
            let said = Some((Tone::Bad, format!("Nothing was voided: {}.", problem.detail)));
            Ok((problem.status, shown(&till, fields.text("receipt"), &fields, said).await?).into_response())
        }
    }
}

async fn try_void(till: &Till, fields: &Fields) -> Result<Response, Problem> {
    let facts = facts(till).await?;
    let name = fields.text("receipt").to_owned();
    let original =
        till.store.ask(move |replica| Some(views::record(replica.books().record(&find(replica, &name)?)?)));
    let original =
        original.await?.ok_or_else(|| Problem::not_found("this till does not hold the receipt any more"))?;
    let mut void = form::transaction("void", fields, &facts)?;
    let repeated = crate::cli::cancelling(fields.text("receipt"), &original).map_err(Problem::invalid)?;
    for (field, value) in repeated {
        void[field] = value;
    }
    record(till, &void).await
}
