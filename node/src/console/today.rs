//! *Today*: every store and till at a glance, what wants somebody first. Figures come from what the hub holds and from what
//! each till said last.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, State};
use engine::ids::{LogId, StoreId};
use engine::ledger::DayState;
use engine::replica::{Replica, Waiting};
use engine::review::{Case, CaseState};
use engine::time::Day;
use maud::{Markup, html};
use serde::Deserialize;

use super::board::{Reading, unfinished};
use super::door::Visitor;
use super::layout::{self, Page, Tone, chip, figure, heading, nothing};
use super::{Console, kpis, show, words};
use crate::api::problem::Problem;
use crate::runtime::clock::{Clock, now_ms};
use crate::runtime::store::StoreHandle;

/// Stores on one page.
const STORES_A_PAGE: usize = 40;
/// With more tills than this, only the stores are open that want somebody.
const TILLS_OPEN: usize = 60;
/// A clock that is off by more than this is pointed out, ms.
const CLOCK_OFF_MS: i64 = 60_000;

/// Which stores are wanted.
#[derive(Deserialize, Default)]
pub struct Part {
    #[serde(default)]
    page: usize,
    #[serde(default)]
    q: String,
}

/// A till as the hub knows it.
pub struct TillRow {
    /// Its log.
    pub log: LogId,
    /// Whether it is connected.
    pub online: bool,
    /// When it was last heard of, ms.
    pub heard_ms: Option<i64>,
    /// When its connection went, ms.
    pub gone_ms: Option<i64>,
    /// Records that it said it has and that are not here.
    pub waiting: u64,
    /// Its clock less the hub's, ms.
    pub clock_off_ms: Option<i64>,
    /// The policy version in force there.
    pub policy: Option<u64>,
    /// How far its day has come.
    pub day: DayState,
    /// Records of today that are here.
    pub records: u64,
}

/// A store as the hub knows it.
pub struct StoreRow {
    /// The store.
    pub store: StoreId,
    /// Its tills.
    pub tills: Vec<TillRow>,
    /// What its tills said last that waits there, with value and age.
    pub waiting: Waiting,
    /// Open cases, and those of today's urgency.
    pub cases: (usize, usize),
    /// The policy's newest version.
    pub policy: u64,
}

impl TillRow {
    /// Whether somebody should look at it.
    fn wants_somebody(&self) -> bool {
        !self.online || self.waiting > 0 || self.clock_is_off() || self.day == DayState::Gap
    }

    fn clock_is_off(&self) -> bool {
        self.clock_off_ms.is_some_and(|off| off.abs() > CLOCK_OFF_MS)
    }
}

/// What is reckoned over the records of a store's day.
pub struct Brief {
    /// Each till's log, how far its day has come, and its records of the day.
    tills: Vec<(LogId, DayState, u64)>,
    /// Open cases, and those of today's urgency.
    cases: (usize, usize),
}

fn brief(replica: &Replica, today: Day, day_ends_ms: i64) -> Brief {
    let now = now_ms();
    let tills = replica.day(today, now, day_ends_ms).into_iter();
    let ageing = replica.policies().on(today).ageing_hours;
    let books = replica.books();
    let is_urgent = |case: &&Case| case.state == CaseState::Open && case.severity_at(now, ageing) == 1;
    Brief {
        tills: tills.map(|till| (till.log, till.state, till.records)).collect(),
        cases: (books.open_case_count(), books.cases().filter(is_urgent).count()),
    }
}

/// Every till of a replica's store.
fn store_row(replica: &Replica, brief: &Brief) -> StoreRow {
    let heads = replica.log_heads();
    let tills = brief.tills.iter().map(|(log, day, records)| {
        let writer = replica.registry().writer_of(log);
        let heard = replica.heard(log);
        let online = writer.and_then(|writer| replica.online(&writer));
        let status = online.flatten();
        let span = writer.and_then(|writer| replica.links_of(&writer).last().copied());
        let head = heads.get(log).copied().unwrap_or(0);
        TillRow {
            online: online.is_some(),
            heard_ms: heard.at_ms,
            gone_ms: span.and_then(|span| span.down_ms),
            waiting: heard.head_seq.saturating_sub(head),
            clock_off_ms: span.and_then(|span| span.clock).map(|clock| clock.0),
            policy: status.map(|told| told.1.policy_version),
            day: *day,
            records: *records,
            log: log.clone(),
        }
    });
    StoreRow {
        store: replica.identity().store.clone(),
        tills: tills.collect(),
        waiting: replica.waiting_at_tills(),
        cases: brief.cases,
        policy: replica.policies().version(),
    }
}

/// Every store of the hub.
async fn stores(console: &Console) -> Reading<StoreRow> {
    let clock = console.hub.clock();
    let today = clock.now().day();
    let ends_ms = clock.start_of(today.plus(1));
    let handles: BTreeMap<StoreId, StoreHandle> =
        console.hub.stores().into_iter().map(|handle| (handle.store().clone(), handle)).collect();
    let names: Vec<StoreId> = handles.keys().cloned().collect();
    let ask = |store: &StoreId| {
        let (kept, handle) = (console.today.clone(), handles[store].clone());
        async move {
            let row = handle.ask(move |replica| {
                let brief = kept.of(replica, today, || brief(replica, today, ends_ms));
                store_row(replica, &brief)
            });
            row.await
        }
    };
    console.stores.read(&names, ask).await
}

/// Reckons what the first page shows, so that the first to look need not wait for it.
pub async fn prepare(console: Arc<Console>) {
    stores(&console).await;
}

/// `GET /`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Query(part): Query<Part>,
) -> Result<Page, Problem> {
    let hub = &console.hub;
    let reading = stores(&console).await;
    let mut rows = reading.rows.clone();
    // What reads every record must not hold up what the page still waits for.
    let report = match reading.unknown {
        0 => console.kpis.report(hub, reading.fresh).await,
        _ => console.kpis.last(),
    };
    let summary = summary(&rows);
    let wanted = part.q.trim().to_lowercase();
    rows.retain(|row| {
        let of_till = |till: &TillRow| till.log.terminal.as_str().to_lowercase().contains(&wanted);
        row.store.as_str().to_lowercase().contains(&wanted) || row.tills.iter().any(of_till)
    });
    rows.sort_by_key(|row| {
        let trouble = row.tills.iter().filter(|till| till.wants_somebody()).count();
        (std::cmp::Reverse((row.cases.1, trouble)), row.store.clone())
    });
    let tills: usize = rows.iter().map(|row| row.tills.len()).sum();
    let pages = rows.len().div_ceil(STORES_A_PAGE).max(1);
    let at = part.page.min(pages - 1);
    let shown = rows.iter().skip(at * STORES_A_PAGE).take(STORES_A_PAGE);
    let body = html! {
        (heading("Today", &format!("{}, {}", hub.config().company, show::day(hub.clock().now().day()))))
        div #today data-fresh="" {
            (unfinished(&reading))
            (summary)
            (kpis::panel(report.as_deref()))
        }
        div.row.apart {
            h2 { "Stores" }
            @if tills > TILLS_OPEN || !part.q.is_empty() { (finder(&part)) }
        }
        div #stores data-fresh="" {
            @if rows.is_empty() && reading.unknown > 0 {
            } @else if rows.is_empty() && part.q.is_empty() {
                (nothing("No store yet. A store begins with its first till: enrol one in the room Fleet."))
            } @else if rows.is_empty() {
                (nothing("No store or till has this in its name."))
            }
            @for row in shown { (store_card(row, tills <= TILLS_OPEN, hub.clock())) }
            (pager(at, pages, &part.q))
        }
    };
    Ok(layout::page(&visitor, "/", "Today", true, &body))
}

fn finder(part: &Part) -> Markup {
    html! {
        form.row method="get" role="search" {
            label for="find" { "Find a store or till" }
            div { input #find type="search" name="q" value=(part.q); }
        }
    }
}

fn pager(at: usize, pages: usize, query: &str) -> Markup {
    let to = |page: usize| format!("/?page={page}&q={}", super::escape(query));
    html! {
        @if pages > 1 {
            nav.row aria-label="Pages" {
                @if at > 0 { a href=(to(at - 1)) { "Before" } }
                span.soft { "Page " (at + 1) " of " (pages) }
                @if at + 1 < pages { a href=(to(at + 1)) { "Next" } }
            }
        }
    }
}

fn summary(rows: &[Arc<StoreRow>]) -> Markup {
    let tills = || rows.iter().flat_map(|row| &row.tills);
    let (all, online) = (tills().count(), tills().filter(|till| till.online).count());
    let waiting: u64 = tills().map(|till| till.waiting).sum();
    let mut told = Waiting::default();
    rows.iter().for_each(|row| told.add(&row.waiting));
    let (open, urgent) = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.cases.0, sum.1 + row.cases.1));
    let off = all - online;
    html! {
        div.figures {
            (figure("Tills online", &format!("{online} of {all}"), &html! {
                @if off == 0 { "Every till is connected." } @else { (show::count(off as u64, "till sells", "tills sell")) " without the hub; nothing is lost." }
            }, if off > 0 { Tone::Warn } else { Tone::Good }))
            (figure("Receipts not here yet", &show::number(waiting), &html! {
                @if waiting == 0 { "As far as the tills have told." } @else {
                    @for (currency, minor) in &told.value_minor { "Worth " strong { (show::money(*minor, *currency)) } ". " }
                    @if let Some(oldest) = told.oldest_ms { "The oldest is from " (show::span(now_ms() - oldest)) " ago. " }
                    "Tills said so; they come when the line is back."
                }
            }, if waiting > 0 { Tone::Warn } else { Tone::Good }))
            (figure("To decide", &show::number(open as u64), &html! {
                @if urgent > 0 { a href="/review?urgency=1" { (show::number(urgent as u64)) " today" } } @else { a href="/review" { "None is urgent" } }
            }, if urgent > 0 { Tone::Bad } else if open > 0 { Tone::Warn } else { Tone::Good }))
        }
    }
}

fn store_card(row: &StoreRow, all_open: bool, clock: &Clock) -> Markup {
    let trouble = row.tills.iter().filter(|till| till.wants_somebody()).count();
    let online = row.tills.iter().filter(|till| till.online).count();
    html! {
        details.card id={ "store-" (row.store) } open[all_open || trouble > 0] {
            summary {
                strong { (row.store) } " "
                @if online == row.tills.len() { (chip(Tone::Good, &format!("{online} online"))) }
                @else { (chip(Tone::Warn, &format!("{online} of {} online", row.tills.len()))) }
                " "
                @if row.cases.1 > 0 { (chip(Tone::Bad, &format!("{} to decide today", row.cases.1))) }
                @else if row.cases.0 > 0 { (chip(Tone::Warn, &format!("{} to decide", row.cases.0))) }
            }
            div.wide {
                table.stack {
                    thead { tr {
                        th scope="col" { "Till" } th scope="col" { "Line" } th scope="col" { "Last contact" }
                        th scope="col" { "Not here yet" } th.num scope="col" { "Receipts today" } th scope="col" { "Clock" }
                        th scope="col" { "Policy" } th scope="col" { "Day" }
                    } }
                    tbody { @for till in &row.tills { (till_line(till, row, clock)) } }
                }
            }
        }
    }
}

fn till_line(till: &TillRow, row: &StoreRow, clock: &Clock) -> Markup {
    let now = now_ms();
    let (tone, word) = words::till_day(till.day);
    html! {
        tr {
            th scope="row" { (till.log.terminal) @if till.log.incarnation > 1 { span.soft.small { " device " (till.log.incarnation) } } }
            td data-name="Line" {
                @if till.online { (chip(Tone::Good, "online")) }
                @else { (chip(Tone::Warn, &match till.gone_ms {
                    Some(at) => format!("offline for {}", show::span(now - at)),
                    None => "offline".to_owned(),
                })) }
            }
            td data-name="Last contact" {
                @match till.heard_ms { Some(at) => (show::ago(at, now, clock)), None => span.soft { "never" } }
            }
            td data-name="Not here yet" {
                @if till.waiting > 0 { (chip(Tone::Warn, &show::count(till.waiting, "receipt", "receipts"))) }
                @else if till.online { "none" } @else { span.soft { "not known while it is offline" } }
            }
            td.num data-name="Receipts today" { (show::number(till.records)) }
            td data-name="Clock" {
                @match till.clock_off_ms {
                    Some(off) if till.clock_is_off() => (chip(Tone::Bad, &format!("{} {}", show::span(off.abs()), if off > 0 { "fast" } else { "slow" }))),
                    Some(_) => "right",
                    None => span.soft { "not told" },
                }
            }
            td data-name="Policy" {
                @match till.policy {
                    Some(version) if version < row.policy => (chip(Tone::Warn, &format!("version {version}, not yet {}", row.policy))),
                    Some(version) => { "version " (version) },
                    None => span.soft { "not told" },
                }
            }
            td data-name="Day" { (chip(tone, word)) }
        }
    }
}
