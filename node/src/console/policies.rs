//! Policies of the company, its stores and tills: what is in force and for whom it was made, what the default is, who
//! changed what when, and the version on each till.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use engine::ids::{LogId, StoreId};
use engine::money::Currency;
use engine::policy::{Policies, Scope};
use engine::replica::Replica;
use engine::time::Day;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::door::Visitor;
use super::layout::{self, Page, Tone, chip, may, nothing, notice};
use super::{Console, Fields, show};
use crate::api::problem::Problem;
use crate::hub::{Role, Whose, base_policy};
use crate::runtime::store::several::ask_each;

/// What is said above the page.
#[derive(Deserialize, Default)]
pub struct Said {
    #[serde(default)]
    done: String,
}

/// `GET /fleet/policies/{store}`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Path(store): Path<String>,
    Query(said): Query<Said>,
) -> Result<Page, Problem> {
    let said = (!said.done.is_empty())
        .then(|| (Tone::Good, format!("Version {} is recorded and on its way to the tills.", said.done)));
    shown(&console, &visitor, &store, said).await
}

async fn shown(
    console: &Console,
    visitor: &Visitor,
    store: &str,
    said: Option<(Tone, String)>,
) -> Result<Page, Problem> {
    let id: StoreId = store.parse().map_err(Problem::invalid)?;
    let handle =
        console.hub.store(&id).ok_or_else(|| Problem::not_found(format!("there is no store {id}")))?;
    let currency = console.hub.config().currency;
    let default = base_policy(console.hub.config().currency).settings();
    let asked = visitor.clone();
    let body = handle
        .ask(move |replica| {
            let now = replica.policies().on(Day(i32::MAX)).settings();
            let made_for = replica.policies().made_for(Day(i32::MAX), None);
            html! {
                p.crumbs { a href="/fleet" { "Fleet" } " / " a href="/fleet/policies" { "Policy of the company" } }
                div.heading { h1 { "Policy of " (id) } p.lead { "Version " (replica.policies().version()) ". It is sent to every till and obeyed there without the network. A till's own setting counts before its store's, that before the company's." } }
                @if let Some((tone, text)) = &said { (notice(*tone, text)) }
                @if may(&asked, Role::Admin) { (form(&asked, &format!("/fleet/policies/{id}/set"), &now, &whom(replica))) }
                div.wide tabindex="0" role="region" aria-label="In force in the store" { table {
                    caption { "In force in the store" }
                    thead { tr { th scope="col" { "Setting" } th scope="col" { "Here" } th scope="col" { "Default" } } }
                    tbody { @for (key, value) in &now {
                        @let usual = default.get(key).map_or("", String::as_str);
                        tr { th scope="row" { (name(key)) } td { (spoken(key, value, currency)) (origin(made_for.get(key))) } td.soft { (spoken(key, usual, currency)) } }
                    } }
                } }
                (own_of_tills(replica, currency))
                (in_force(replica))
                (history(replica.policies()))
            }
        })
        .await?;
    Ok(layout::page(visitor, "/fleet", "Policy", false, &body))
}

/// For whom a setting was made, if for anybody.
fn origin(scope: Option<&Scope>) -> Markup {
    let word = match scope {
        None => return html! {},
        Some(Scope::Company) => "set for the company",
        Some(Scope::Store) => "set for the store",
        Some(Scope::Till(_)) => "set for this till",
    };
    html! { " " (chip(Tone::Calm, word)) }
}

/// For whom a setting can be made here: form value and words.
fn whom(replica: &Replica) -> Vec<(String, String)> {
    let newest = |row: &(engine::ids::WriterId, &LogId)| {
        !row.1.terminal.is_hub() && replica.registry().incarnation(&row.1.terminal) == row.1.incarnation
    };
    let mut tills: Vec<String> =
        replica.registry().writers().filter(newest).map(|row| row.1.terminal.to_string()).collect();
    tills.sort();
    let tills = tills.into_iter().map(|till| (till.clone(), format!("only {till}")));
    std::iter::once((String::new(), "the whole store".to_owned())).chain(tills).collect()
}

/// Tills that have settings of their own, with these.
fn own_of_tills(replica: &Replica, currency: Currency) -> Markup {
    let policies = replica.policies();
    let rows: Vec<(String, Vec<(String, String)>)> = policies
        .tills()
        .iter()
        .map(|till| {
            let settings = policies.of_till(Day(i32::MAX), till).settings();
            let made = policies.made_for(Day(i32::MAX), Some(till));
            let own = made.iter().filter(|row| matches!(row.1, Scope::Till(_)));
            let own = own.map(|(key, _)| {
                let value = settings.get(key).map_or("", String::as_str);
                (name(key), spoken(key, value, currency))
            });
            (till.to_string(), own.collect())
        })
        .filter(|row: &(String, Vec<_>)| !row.1.is_empty())
        .collect();
    html! {
        @if !rows.is_empty() {
            section.card #own { h2 { "Tills with settings of their own" }
                ul { @for (till, own) in &rows { li { strong { (till) } ": "
                    @for (at, (key, value)) in own.iter().enumerate() { @if at > 0 { ", " } (key) " = " strong { (value) } } } } }
            }
        }
    }
}

/// `GET /fleet/policies`.
pub async fn company(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Query(said): Query<Said>,
) -> Result<Page, Problem> {
    let said = (!said.done.is_empty())
        .then(|| (Tone::Good, format!("Version {} is recorded and on its way to every store.", said.done)));
    company_shown(&console, &visitor, said).await
}

async fn company_shown(
    console: &Console,
    visitor: &Visitor,
    said: Option<(Tone, String)>,
) -> Result<Page, Problem> {
    let hub = &console.hub;
    let currency = hub.config().currency;
    let default = base_policy(currency).settings();
    let mut policies = Policies::starting_from(base_policy(currency));
    for (seq, change) in (1..).zip(hub.company_policy().await?) {
        policies.insert(seq, engine::ids::RecordId([0; 32]), change);
    }
    let now = policies.on(Day(i32::MAX)).settings();
    let made_for = policies.made_for(Day(i32::MAX), None);
    let own = ask_each(hub.stores(), |replica| {
        let made = replica.policies().made_for(Day(i32::MAX), None);
        let count = made.values().filter(|scope| **scope == Scope::Store).count();
        (replica.identity().store.clone(), count, replica.policies().tills().len())
    })
    .await?;
    let body = html! {
        p.crumbs { a href="/fleet" { "Fleet" } }
        div.heading { h1 { "Policy of the company" } p.lead { "It holds in every store, also in those that come, where the store or a till has no setting of its own." } }
        @if let Some((tone, text)) = &said { (notice(*tone, text)) }
        @if own.is_empty() { (nothing("No store yet to keep it in: enrol the first till, then set it.")) }
        @else if may(visitor, Role::Admin) { (form(visitor, "/fleet/policies/set", &now, &[])) }
        div.wide tabindex="0" role="region" aria-label="In force in the company" { table {
            caption { "In force in the company" }
            thead { tr { th scope="col" { "Setting" } th scope="col" { "Company" } th scope="col" { "Default" } } }
            tbody { @for (key, value) in &now {
                @let usual = default.get(key).map_or("", String::as_str);
                tr { th scope="row" { (name(key)) } td { (spoken(key, value, currency)) (origin(made_for.get(key))) } td.soft { (spoken(key, usual, currency)) } }
            } }
        } }
        section.card { h2 { "Stores" }
            ul { @for (store, settings, tills) in &own { li {
                a href={ "/fleet/policies/" (store) } { (store) }
                @if *settings > 0 { " " (chip(Tone::Calm, &show::count(*settings as u64, "setting of its own", "settings of its own"))) }
                @if *tills > 0 { " " (chip(Tone::Calm, &show::count(*tills as u64, "till with its own", "tills with their own"))) }
            } } }
        }
        (history(&policies))
    };
    Ok(layout::page(visitor, "/fleet", "Policy", false, &body))
}

/// What a setting is called across the counter; others keep their own name.
fn name(key: &str) -> String {
    let known = match key {
        "accepted_currencies" => "Currencies taken",
        "ageing_hours" => "Hours until waiting becomes urgent",
        "batch_baseline" => "Time of the old nightly batch, for comparison",
        "batch_threshold" => "Receipts sent together at most",
        "blind_refunds" => "Refunds without a receipt",
        "cash_unit_minor" => "Smallest coin",
        "clock_tolerance" => "A clock may be off by",
        "discounts" => "How discounts are booked",
        "duplicate_window" => "The same basket again is looked at within",
        "four_eyes_limit_minor" => "Two people decide above",
        "offline_card_count" => "Offline card payments at most",
        "offline_card_hours" => "Hours until an offline card payment is given up",
        "offline_card_limit_minor" => "Offline card payment at most",
        "over_short_tolerance_minor" => "Cash may differ by",
        "receipt_scope" => "A receipt number is unique in the",
        "refund_limit_minor" => "Refund without approval at most",
        "refund_window_days" => "Days for refunds",
        "retention_days" => "Days a till keeps",
        "sync_interval" => "Receipts are sent every (0: at once)",
        other => return other.replace('_', " "),
    };
    known.to_owned()
}

/// A value as it is said: whole minor units become an amount.
fn spoken(key: &str, value: &str, currency: Currency) -> String {
    let minor = value.parse::<i64>().ok().filter(|_| key.ends_with("_minor"));
    minor.map_or_else(|| value.to_owned(), |minor| show::money(minor, currency))
}

fn form(
    visitor: &Visitor,
    action: &str,
    now: &BTreeMap<&'static str, String>,
    whom: &[(String, String)],
) -> Markup {
    html! {
        section.card {
            h2 { "Change a setting" }
            form.fields method="post" action=(action) {
                (layout::csrf(visitor))
                @if !whom.is_empty() {
                    div.field { label for="till" { "For" } select #till name="till" { @for (value, words) in whom { option value=(value) { (words) } } } }
                }
                div.field { label for="key" { "Setting" } select #key name="key" { @for (key, value) in now { option value=(key) { (name(key)) " (now " (value) ")" } } } }
                div.field { label for="value" { "New value" } input #value name="value" required maxlength="200" aria-describedby="value-hint"; p.hint #value-hint { "Amounts in whole pence or cents, times such as 5m; \u{201c}inherit\u{201d} takes it back" } }
                div.field { label for="from" { "From day (empty: at once)" } input #from type="date" name="from"; }
                div.go { button type="submit" { "Change" } }
            }
        }
    }
}

fn in_force(replica: &Replica) -> Markup {
    let newest = replica.policies().version();
    let mut rows: Vec<(String, Option<u64>)> = replica
        .registry()
        .writers()
        .filter(|row| {
            !row.1.terminal.is_hub() && replica.registry().incarnation(&row.1.terminal) == row.1.incarnation
        })
        .map(|(writer, log)| {
            let version = replica.online(&writer).flatten().map(|told| told.1.policy_version);
            (log.terminal.to_string(), version)
        })
        .collect();
    rows.sort();
    html! {
        section.card {
            h2 { "On the tills" }
            ul { @for (till, version) in &rows { li {
                (till) ": "
                @match version {
                    Some(version) if *version == newest => (chip(Tone::Good, &format!("version {version}"))),
                    Some(version) => (chip(Tone::Warn, &format!("version {version}, not yet {newest}"))),
                    None => (chip(Tone::Calm, "offline; it has what it had")),
                }
            } } }
        }
    }
}

fn history(policies: &Policies) -> Markup {
    let changes: Vec<_> = policies.changes().collect();
    let whom = |scope: &Scope| match scope {
        Scope::Company => "for the company: ".to_owned(),
        Scope::Store => String::new(),
        Scope::Till(till) => format!("for {till}: "),
    };
    html! {
        section.card {
            h2 { "Changes" }
            @if changes.is_empty() { (nothing("Nobody has changed anything yet.")) } @else {
                ul { @for (_, change) in changes.iter().rev() { li {
                    @for (at, part) in change.parts().enumerate() { @if at > 0 { ", " } (whom(&part.scope)) (name(part.key)) " = " strong { (part.value) } }
                    ", by " (change.by) @if let Some(from) = change.from { ", from " (show::day(from)) }
                } } }
            }
        }
    }
}

/// `POST /fleet/policies/{store}/set`.
pub async fn set(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Path(store): Path<String>,
    Extension(fields): Extension<Fields>,
) -> Result<Response, Problem> {
    let id: StoreId = store.parse().map_err(Problem::invalid)?;
    let whose = match fields.filled("till") {
        Some(till) => Whose::Till(id.clone(), till.parse().map_err(Problem::invalid)?),
        None => Whose::Store(id.clone()),
    };
    match made(&console, &visitor, &fields, &whose).await? {
        Ok(said) => {
            let to = format!("/fleet/policies/{id}?done={}", said["version"]);
            Ok(Redirect::to(&to).into_response())
        }
        Err(said) => Ok(shown(&console, &visitor, &store, Some(said)).await?.into_response()),
    }
}

/// `POST /fleet/policies/set`.
pub async fn set_company(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Extension(fields): Extension<Fields>,
) -> Result<Response, Problem> {
    match made(&console, &visitor, &fields, &Whose::Company).await? {
        Ok(said) => {
            let to = format!("/fleet/policies?done={}", said["company_version"]);
            Ok(Redirect::to(&to).into_response())
        }
        Err(said) => Ok(company_shown(&console, &visitor, Some(said)).await?.into_response()),
    }
}

/// Makes the change that a form asks for; the inner error is for the page.
async fn made(
    console: &Console,
    visitor: &Visitor,
    fields: &Fields,
    whose: &Whose,
) -> Result<Result<Value, (Tone, String)>, Problem> {
    let from: Option<Day> =
        fields.filled("from").map(|day| day.parse()).transpose().map_err(Problem::invalid)?;
    let setting = format!("{}={}", fields.text("key"), fields.text("value").trim());
    let made = console.hub.set_policy(whose, &[setting], from, &visitor.person.name).await;
    Ok(made.map_err(|failure| (Tone::Bad, format!("Not changed: {}.", failure.message))))
}
