//! A store's day in full: each till's Z against the books, what is missing by number, what came late; and the lock.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Redirect, Response};
use engine::ids::{LogId, RecordId, StoreId};
use engine::kpi::Cell;
use engine::ledger::{DayState, TillDay};
use engine::replica::Replica;
use engine::review::{CaseState, CaseType};
use engine::time::Day;
use engine::transaction::Body;
use maud::{Markup, html};
use serde::Deserialize;

use super::days::{cell, tills_of};
use super::door::Visitor;
use super::layout::{self, Page, Tone, chip, may, nothing, notice};
use super::{Console, Fields, show, words};
use crate::api::problem::Problem;
use crate::hub::{LockRequest, Role};
use crate::runtime::clock::{Clock, now_ms};

/// What is said above the page.
#[derive(Deserialize, Default)]
pub struct Said {
    #[serde(default)]
    done: String,
}

/// `GET /days/{store}/{day}`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Path((store, day)): Path<(String, Day)>,
    Query(part): Query<Said>,
) -> Result<Page, Problem> {
    let said =
        (!part.done.is_empty()).then(|| (Tone::Good, "The days through this one are locked.".to_owned()));
    shown(&console, &visitor, &store, day, said).await
}

async fn shown(
    console: &Console,
    visitor: &Visitor,
    store: &str,
    day: Day,
    said: Option<(Tone, String)>,
) -> Result<Page, Problem> {
    let hub = &console.hub;
    let id: StoreId = store.parse().map_err(Problem::invalid)?;
    let handle = hub.store(&id).ok_or_else(|| Problem::not_found(format!("there is no store {id}")))?;
    let (clock, ends_ms) = (hub.clock().clone(), hub.clock().start_of(day.plus(1)));
    let asked = visitor.clone();
    let over = day <= hub.clock().now().day();
    let body = handle
        .ask(move |replica| {
            let tills = tills_of(replica, day, ends_ms);
            let whole = cell(replica, day, ends_ms);
            let locked = replica.books().open_day().is_some_and(|open| day < open);
            html! {
                p.crumbs { a href="/days" { "Store-days" } }
                div.heading { h1 { (id) ", " (show::day(day)) } }
                @if let Some((tone, text)) = &said { (notice(*tone, text)) }
                div #day data-fresh="" {
                    p.row { (chip(whole.tone, &whole.word)) @if locked { (chip(Tone::Good, "locked")) } }
                    (till_table(&tills, &clock))
                    (missing(&tills))
                    (z_tables(replica, &tills, day))
                    (late(replica, day, ends_ms, &clock))
                    (open_cases(replica, day))
                }
                @if over && !locked { (lock_form(&asked, &id, day, whole.tone)) }
            }
        })
        .await?;
    Ok(layout::page(visitor, "/days", &format!("{store} {day}"), true, &body))
}

fn till_table(tills: &[TillDay], clock: &Clock) -> Markup {
    if tills.is_empty() {
        return nothing("No till belonged to this store then.");
    }
    html! {
        div.wide { table.stack {
            caption { "Tills" }
            thead { tr { th scope="col" { "Till" } th scope="col" { "State" } th.num scope="col" { "Receipts" } th scope="col" { "Numbers" } th scope="col" { "Not arrived" } th scope="col" { "Last heard of" } } }
            tbody { @for till in tills {
                @let (tone, word) = words::till_day(till.state);
                tr {
                    th scope="row" { (till.log.terminal) @if till.log.incarnation > 1 { span.soft { " device " (till.log.incarnation) } } }
                    td data-name="State" { (chip(tone, word)) }
                    td.num data-name="Receipts" { (show::number(till.records)) }
                    td data-name="Numbers" { @if let Some((first, last)) = till.numbers { (first) " to " (last) } }
                    td data-name="Not arrived" { @if till.missing_count() > 0 { (till.missing_count()) } @else { "none known" } }
                    td data-name="Last heard of" { @match till.heard.at_ms { Some(at) => (show::ago(at, now_ms(), clock)), None => "never" } }
                }
            } }
        } }
    }
}

fn missing(tills: &[TillDay]) -> Markup {
    let lacking: Vec<&TillDay> = tills.iter().filter(|till| !till.missing.is_empty()).collect();
    html! {
        @if !lacking.is_empty() {
            section.card {
                h2 { "Known and not arrived" }
                ul { @for till in lacking { li {
                    strong { (till.log.terminal) } ": "
                    @for (at, (first, last)) in till.missing.iter().enumerate() {
                        @if at > 0 { ", " }
                        @if first == last { "number " (first) } @else { "numbers " (first) " to " (last) }
                    }
                    @if till.state == DayState::Gap { " (later numbers are here: one was lost or is held back)" } @else { " (they come when the till has its line back)" }
                } } }
            }
        }
    }
}

/// The till's own day close beside the books, per tender and tax.
fn z_tables(replica: &Replica, tills: &[TillDay], day: Day) -> Markup {
    let cells: std::collections::BTreeMap<LogId, Vec<Cell>> = replica.kpi_cells((day, day));
    html! {
        @for till in tills {
            @if let Some(close) = till.close.and_then(|id| replica.books().record(&id)) {
                section.card {
                    h2 { "Day close of " (till.log.terminal) " " @if till.z_agrees { (chip(Tone::Good, "agrees with its receipts")) } @else { (chip(Tone::Bad, "differs from its receipts")) } }
                    p.small { a href={ "/receipts/" (close.id) } { "Receipt " (close.transaction.receipt) } @if let Body::DayClose(z) = &close.transaction.body { ", Z " (z.z_number) } ", " (show::instant(close.at)) }
                    @if let Some(cells) = cells.get(&till.log) { (cell_table(cells)) }
                    @if !till.z_agrees { (differences(replica, &close.id)) }
                }
            }
        }
    }
}

fn cell_table(cells: &[Cell]) -> Markup {
    html! {
        div.wide { table.stack {
            thead { tr { th scope="col" { "Figure" } th.num scope="col" { "Till's Z" } th.num scope="col" { "Books" } th.num scope="col" { "Difference" } th scope="col" { "" } } }
            tbody { @for cell in cells {
                tr {
                    th scope="row" { (cell.name) }
                    td.num data-name="Till's Z" { (show::money(cell.control_minor, cell.currency)) }
                    td.num data-name="Books" { (show::money(cell.ledger_minor, cell.currency)) }
                    td.num data-name="Difference" { (show::money(cell.ledger_minor - cell.control_minor, cell.currency)) }
                    td data-name="" { @if cell.control_minor == cell.ledger_minor { (chip(Tone::Good, "equal")) } @else if cell.explained { (chip(Tone::Warn, "under review")) } @else { (chip(Tone::Bad, "not explained")) } }
                }
            } }
        } }
    }
}

fn differences(replica: &Replica, close: &RecordId) -> Markup {
    let Some(check) = replica.books().z_check(close) else { return html! {} };
    html! {
        @if !check.figures.is_empty() {
            p { "The till says otherwise than its receipts:" }
            ul { @for figure in &check.figures { li {
                (figure.name) ": the till "
                @if figure.name.ends_with("count") { (figure.stated_minor) ", the receipts " (figure.found_minor) }
                @else { (show::money(figure.stated_minor, figure.currency)) ", the receipts " (show::money(figure.found_minor, figure.currency)) }
            } } }
        }
        @if !check.missing.is_empty() {
            p { "It covers numbers that are not here: " @for (at, (first, last)) in check.missing.iter().enumerate() { @if at > 0 { ", " } @if first == last { (first) } @else { (first) " to " (last) } } "." }
        }
        @if !check.suspects.is_empty() {
            p { "One of these receipts would account for it: "
                @for (at, id) in check.suspects.iter().take(10).enumerate() { @if at > 0 { ", " } @if let Some(record) = replica.books().record(id) { a href={ "/receipts/" (id) } { (record.transaction.receipt) } } }
                "." }
        }
    }
}

/// Batches of the day that reached the hub when it was over, and records that a lock was ahead of.
fn late(replica: &Replica, day: Day, ends_ms: i64, clock: &Clock) -> Markup {
    let mut late = Vec::new();
    replica.visit_batches(|meta| {
        let log = replica.registry().log_of(&meta.writer).filter(|log| !log.terminal.is_hub());
        let log = log.filter(|_| meta.day == day && meta.admitted_ms >= ends_ms);
        late.extend(log.map(|log| (log, meta.clone())));
    });
    html! {
        @if !late.is_empty() {
            section.card {
                h2 { "Arrived after the day was over" }
                ul { @for (log, meta) in late.iter().take(50) { li {
                    (log.terminal) ": " @if meta.first_seq == meta.last_seq { "number " (meta.first_seq) } @else { "numbers " (meta.first_seq) " to " (meta.last_seq) }
                    ", on " (show::time(meta.admitted_ms, clock))
                } } }
                @if late.len() > 50 { p.soft { "And " (late.len() - 50) " more deliveries." } }
            }
        }
    }
}

fn open_cases(replica: &Replica, day: Day) -> Markup {
    let of_day = |id: &RecordId| replica.books().record(id).is_some_and(|record| record.business_day == day);
    let cases: Vec<_> = replica
        .books()
        .cases()
        .filter(|case| case.state == CaseState::Open && case.members.iter().any(of_day))
        .collect();
    let late = cases.iter().filter(|case| case.key.case_type == CaseType::LateRecord).count();
    html! {
        @if !cases.is_empty() {
            section.card {
                h2 { "To decide: " (show::count(cases.len() as u64, "case", "cases")) }
                @if late > 0 { p.soft { (show::count(late as u64, "receipt", "receipts")) " came after the lock and count on the first open day." } }
                ul { @for case in cases.iter().take(30) { li { a href={ "/review/" (case.id) } { (words::doubt(case.key.case_type)) } ", " (case.about) } } }
            }
        }
    }
}

fn lock_form(visitor: &Visitor, store: &StoreId, day: Day, tone: Tone) -> Markup {
    html! {
        section.card {
            h2 { "Lock" }
            p { "Locks every day of " (store) " through " (show::day(day)) ": their figures change no more. What still arrives counts on the first open day and says so." }
            @if may(visitor, Role::Reviewer) {
                form method="post" action={ "/days/" (store) "/" (day) "/lock" } {
                    (layout::csrf(visitor))
                    @if tone != Tone::Good {
                        div.field { label { input type="checkbox" name="override" value="yes"; " Lock although a day is not finished" } }
                        div.field { label for="reason" { "Why, in that case" } input #reason name="reason" maxlength="500"; }
                    }
                    p { button type="submit" { "Lock through " (show::day(day)) } }
                }
            } @else { p.soft { "A reviewer can lock." } }
        }
    }
}

/// `POST /days/{store}/{day}/lock`.
pub async fn lock(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Path((store, day)): Path<(String, Day)>,
    Extension(fields): Extension<Fields>,
) -> Result<Response, Problem> {
    let id: StoreId = store.parse().map_err(Problem::invalid)?;
    let request = LockRequest {
        through: day,
        over: !fields.text("override").is_empty(),
        reason: fields.text("reason").to_owned(),
    };
    match console.hub.lock(&id, request, &visitor.person).await {
        Ok(_) => Ok(Redirect::to(&format!("/days/{id}/{day}?done=lock")).into_response()),
        Err(error) => {
            let problem = Problem::from(error);
            let text = format!("Not locked: {}.", problem.detail);
            let page = shown(&console, &visitor, &store, day, Some((Tone::Bad, text))).await?;
            Ok((problem.status, page).into_response())
        }
    }
}
