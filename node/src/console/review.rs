//! *Review*: the queue of what a person has to judge, the most urgent first, with filters.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, State};
use engine::ids::StoreId;
use engine::money::Currency;
use engine::replica::Replica;
use engine::review::{CaseState, CaseType, Knowledge};
use maud::{Markup, html};
use serde::Deserialize;

use super::door::Visitor;
use super::layout::{self, Page, Tone, chip, heading, nothing};
use super::{Console, show, words};
use crate::api::problem::Problem;
use crate::runtime::clock::{Clock, now_ms};

/// Cases on one page.
const CASES_A_PAGE: usize = 100;

/// Which cases are wanted. Empty means any.
#[derive(Deserialize, Default, Clone)]
pub struct Filter {
    #[serde(default)]
    state: String,
    #[serde(default)]
    urgency: String,
    #[serde(default)]
    store: String,
    #[serde(default, rename = "type")]
    case_type: String,
    #[serde(default)]
    sort: String,
    #[serde(default)]
    page: usize,
}

/// A case in the queue.
pub struct Row {
    id: String,
    store: StoreId,
    case_type: CaseType,
    about: String,
    receipts: Vec<String>,
    severity: u8,
    state: CaseState,
    knowledge: Option<Knowledge>,
    amount_minor: i64,
    currency: Option<Currency>,
    opened_ms: i64,
}

impl Filter {
    fn state(&self) -> Option<CaseState> {
        let states = [CaseState::Open, CaseState::Decided, CaseState::SelfCancelled];
        if self.state.is_empty() {
            return Some(CaseState::Open);
        }
        states.into_iter().find(|state| state.as_str() == self.state)
    }

    fn query(&self, page: usize) -> String {
        let part = |name: &str, value: &str| format!("{name}={}", super::escape(value));
        [
            part("state", &self.state),
            part("urgency", &self.urgency),
            part("store", &self.store),
            part("type", &self.case_type),
            part("sort", &self.sort),
            format!("page={page}"),
        ]
        .join("&")
    }
}

fn rows(replica: &Replica, filter: &Filter) -> Vec<Row> {
    let now = now_ms();
    let ageing = replica.policies().on(engine::time::Instant::utc(now).day()).ageing_hours;
    let (state, case_type) = (filter.state(), filter.case_type.parse::<CaseType>().ok());
    let urgency: Option<u8> = filter.urgency.parse().ok();
    let wanted = replica.books().cases().filter(|case| {
        state.is_none_or(|state| case.state == state)
            && case_type.is_none_or(|wanted| case.key.case_type == wanted)
            && urgency.is_none_or(|urgency| case.severity_at(now, ageing) == urgency)
    });
    let row = |case: &engine::review::Case| {
        let receipt = |id| replica.books().record(id).map(|record| record.transaction.receipt.clone());
        Row {
            id: case.id.clone(),
            store: replica.identity().store.clone(),
            case_type: case.key.case_type,
            about: case.about.clone(),
            receipts: case.members.iter().filter_map(receipt).collect(),
            severity: case.severity_at(now, ageing),
            state: case.state,
            knowledge: case.knowledge(),
            amount_minor: case.amount_minor,
            currency: case.currency,
            opened_ms: case.opened_ms,
        }
    };
    wanted.map(row).collect()
}

/// `GET /review`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Query(filter): Query<Filter>,
) -> Result<Page, Problem> {
    let hub = &console.hub;
    let (mut found, mut known, mut types) = (Vec::new(), Vec::new(), std::collections::BTreeSet::new());
    for store in hub.stores() {
        known.push(store.store().clone());
        if !filter.store.is_empty() && store.store().as_str() != filter.store {
            continue;
        }
        let asked = filter.clone();
        let (of_store, of_types): (Vec<Row>, Vec<CaseType>) = store
            .ask(move |replica| {
                let types = replica.books().cases().map(|case| case.key.case_type).collect();
                (rows(replica, &asked), types)
            })
            .await?;
        found.extend(of_store);
        types.extend(of_types);
    }
    match filter.sort.as_str() {
        "amount" => found.sort_by_key(|row| (std::cmp::Reverse(row.amount_minor.abs()), row.opened_ms)),
        "age" => found.sort_by_key(|row| row.opened_ms),
        _ => found.sort_by_key(|row| (row.severity, row.opened_ms)),
    }
    let twins = found.iter().filter(|row| {
        row.state == CaseState::Open
            && matches!(row.case_type, CaseType::DuplicateCapture | CaseType::SuspectedDuplicate)
    });
    let twins = twins.count();
    let pages = found.len().div_ceil(CASES_A_PAGE).max(1);
    let at = filter.page.min(pages - 1);
    let shown: Vec<&Row> = found.iter().skip(at * CASES_A_PAGE).take(CASES_A_PAGE).collect();
    let body = html! {
        (heading("Review", "What a person has to judge. Nothing here is lost or hidden: the money is in the books, only its reason is open."))
        (filters(&filter, &known, &types))
        div #queue data-fresh="" {
            div.row.apart {
                p.soft { (show::count(found.len() as u64, "case", "cases")) "." }
                @if twins > 1 { p { a href="/duplicates" { "Decide identical duplicates together" } } }
            }
            @if shown.is_empty() { (nothing("Nothing to decide here.")) }
            @else { (queue(&shown, hub.clock())) }
            @if pages > 1 {
                nav.row aria-label="Pages" {
                    @if at > 0 { a href={ "/review?" (filter.query(at - 1)) } { "Before" } }
                    span.soft { "Page " (at + 1) " of " (pages) }
                    @if at + 1 < pages { a href={ "/review?" (filter.query(at + 1)) } { "Next" } }
                }
            }
        }
        p.small.soft { "By keyboard: j and k go down and up the list, Enter opens a case." }
    };
    Ok(layout::page(&visitor, "/review", "Review", true, &body))
}

fn filters(filter: &Filter, stores: &[StoreId], types: &std::collections::BTreeSet<CaseType>) -> Markup {
    let select = |name: &str, label: &str, chosen: &str, options: &[(String, String)]| {
        html! {
            div.field {
                label for={ "f-" (name) } { (label) }
                select id={ "f-" (name) } name=(name) {
                    @for (value, text) in options { option value=(value) selected[value == chosen] { (text) } }
                }
            }
        }
    };
    let pairs = |rows: &[(&str, &str)]| {
        rows.iter().map(|row| (row.0.to_owned(), row.1.to_owned())).collect::<Vec<_>>()
    };
    let any = |text: &str| (String::new(), text.to_owned());
    let stores: Vec<_> = std::iter::once(any("all"))
        .chain(stores.iter().map(|store| (store.to_string(), store.to_string())))
        .collect();
    let types: Vec<_> = std::iter::once(any("all"))
        .chain(types.iter().map(|it| (it.as_str().to_owned(), words::doubt(*it).to_owned())))
        .collect();
    html! {
        form.filters.fields method="get" {
            (select("state", "State", &filter.state, &pairs(&[("", "to decide"), ("decided", "decided"), ("self-cancelled", "cancelled themselves"), ("all", "all")])))
            (select("urgency", "Urgency", &filter.urgency, &pairs(&[("", "all"), ("1", "today"), ("2", "before the month is locked"), ("3", "for information")])))
            (select("type", "What", &filter.case_type, &types))
            (select("store", "Store", &filter.store, &stores))
            (select("sort", "First", &filter.sort, &pairs(&[("", "the most urgent"), ("age", "the oldest"), ("amount", "the largest amount")])))
            div.go { button.second type="submit" { "Show" } }
        }
    }
}

fn queue(rows: &[&Row], clock: &Clock) -> Markup {
    html! {
        div.wide {
            table.stack {
                thead { tr {
                    th scope="col" { "What" } th scope="col" { "Urgency" } th scope="col" { "Receipts" } th scope="col" { "Store" }
                    th.num scope="col" { "Amount" } th scope="col" { "Could they know?" } th scope="col" { "Since" } th scope="col" { "State" }
                } }
                tbody { @for row in rows { (line(row, clock)) } }
            }
        }
    }
}

fn line(row: &Row, clock: &Clock) -> Markup {
    let ((tone, urgency), (state_tone, state)) = (words::urgency(row.severity), words::case_state(row.state));
    let receipts = match row.receipts.len() {
        0 => row.about.clone(),
        1..=3 => row.receipts.join(", "),
        more => format!("{} and {} more", row.receipts[0], more - 1),
    };
    html! {
        tr data-row="" {
            th scope="row" { a href={ "/review/" (row.id) } { (words::doubt(row.case_type)) } }
            td data-name="Urgency" { (chip(tone, urgency)) }
            td.long data-name="Receipts" { (receipts) }
            td data-name="Store" { (row.store) }
            td.num data-name="Amount" { (show::money_of(row.amount_minor, row.currency)) }
            td data-name="Could they know?" {
                @match row.knowledge {
                    Some(Knowledge::Knowing) => (chip(Tone::Bad, "yes, it knew")),
                    Some(Knowledge::Concurrent) => (chip(Tone::Calm, "no, no line")),
                    None => "",
                }
            }
            td data-name="Since" { (show::ago(row.opened_ms, now_ms(), clock)) }
            td data-name="State" { (chip(state_tone, state)) }
        }
    }
}
