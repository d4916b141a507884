//! *Store-days*: how far each store's days have come, as a grid.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Query, State};
use engine::ids::{RecordId, StoreId};
use engine::ledger::{DayState, TillDay};
use engine::replica::Replica;
use engine::time::Day;
use maud::html;
use serde::Deserialize;

use super::door::Visitor;
use super::layout::{self, Page, Tone, heading, nothing};
use super::{Console, show, words};
use crate::api::problem::Problem;
use crate::runtime::clock::now_ms;
use crate::runtime::store::several::gather;

/// Days across, and stores down, of one grid.
const DAYS_ACROSS: i32 = 10;
const STORES_DOWN: usize = 60;

/// Which part of the grid.
#[derive(Deserialize, Default)]
pub struct Part {
    through: Option<String>,
    #[serde(default)]
    page: usize,
}

/// A day of a store in a cell.
#[derive(Clone)]
pub struct CellView {
    day: Day,
    /// How it looks.
    pub(super) tone: Tone,
    /// What it says.
    pub(super) word: String,
    below: String,
    /// Records whose entries an export has to hold before the day is exported; asked for locked days only.
    entries: Option<Vec<RecordId>>,
}

/// The tills of a day. What is missing is known by number only: it is not of a day before the till was there, nor of one
/// that the number before it had left behind. A lock is more careful than this; it shows, it decides nothing.
pub(super) fn tills_of(replica: &Replica, day: Day, ends_ms: i64) -> Vec<TillDay> {
    let books = replica.books();
    let mut tills = replica.day(day, now_ms(), ends_ms);
    tills.retain(|till| till.records > 0 || books.enrolled_on(&till.log).is_none_or(|since| since <= day));
    for till in &mut tills {
        let later = |range: &(u64, u64)| {
            let before = books.log_record(&till.log, range.0.saturating_sub(1));
            before.is_some_and(|record| record.business_day > day)
        };
        let known = till.missing.len();
        till.missing.retain(|range| !later(range));
        if till.missing.is_empty() && known > 0 && till.records == 0 {
            till.state = DayState::NoTrade;
        }
    }
    tills
}

/// A day of a store, summed up.
pub(super) fn cell(replica: &Replica, day: Day, ends_ms: i64) -> CellView {
    let tills = tills_of(replica, day, ends_ms);
    let missing: u64 = tills.iter().map(TillDay::missing_count).sum();
    let records: u64 = tills.iter().map(|till| till.records).sum();
    let worst = tills.iter().map(|till| till.state).min().unwrap_or(DayState::NoTrade);
    let locked = replica.books().open_day().is_some_and(|open| day < open);
    let urgent = tills.iter().any(|till| !till.urgent.is_empty());
    let (tone, word) = match worst {
        DayState::Gap => (Tone::Bad, "gap".to_owned()),
        DayState::Missing => (Tone::Warn, format!("{missing} not arrived")),
        _ if urgent => (Tone::Bad, "flagged".to_owned()),
        DayState::Unheard if records == 0 => (Tone::Calm, "nothing heard".to_owned()),
        DayState::Complete => (Tone::Warn, "to check".to_owned()),
        state => (words::till_day(state).0, words::till_day(state).1.to_owned()),
    };
    let (tone, word) =
        if locked && missing == 0 && !urgent { (Tone::Good, "locked".to_owned()) } else { (tone, word) };
    let posted = |row: (RecordId, Vec<engine::ledger::Posting>)| (!row.1.is_empty()).then_some(row.0);
    let entries = locked.then(|| replica.books().day_view(day).into_iter().filter_map(posted).collect());
    let below = match (locked && word != "locked", records) {
        (true, _) => "locked".to_owned(),
        (false, 0) => String::new(),
        (false, records) => show::count(records, "receipt", "receipts"),
    };
    CellView { day, tone, word, below, entries }
}

/// `GET /days`.
pub async fn page(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    Query(part): Query<Part>,
) -> Result<Page, Problem> {
    let hub = &console.hub;
    let today = hub.clock().now().day();
    let through = part.through.as_deref().and_then(|day| day.parse().ok()).unwrap_or(today).min(today);
    let days: Vec<Day> = (0..DAYS_ACROSS).map(|back| through.plus(-back)).collect();
    let stores = hub.stores();
    let pages = stores.len().div_ceil(STORES_DOWN).max(1);
    let at = part.page.min(pages - 1);
    let shown = stores.iter().skip(at * STORES_DOWN).take(STORES_DOWN).cloned();
    let asked = shown.map(|store| {
        let asked: Vec<(Day, i64)> =
            days.iter().map(|day| (*day, hub.clock().start_of(day.plus(1)))).collect();
        let kept = console.grid.clone();
        async move {
            let cells = store.ask(move |replica| {
                let of = |day: &(Day, i64)| kept.of(replica, day.0, || cell(replica, day.0, day.1));
                asked.iter().map(|day| CellView::clone(&of(day))).collect()
            });
            let cells: Vec<CellView> = cells.await?;
            Ok((store.store().clone(), cells))
        }
    });
    let mut rows: Vec<(StoreId, Vec<CellView>)> = gather(asked).await?;
    for (store, cells) in &mut rows {
        for cell in cells {
            if let Some(entries) = cell.entries.take()
                && !entries.is_empty()
                && hub.all_exported(store, &entries).await
            {
                "exported".clone_into(&mut cell.below);
            }
        }
    }
    let link = |day: Day| format!("/days?through={day}&page={at}");
    let body = html! {
        (heading("Store-days", "Each store, each day: is everything here, does it agree, is it locked? Choose a day to see it in full."))
        nav.row aria-label="Days" {
            a href=(link(through.plus(-DAYS_ACROSS))) { "Earlier" }
            @if through < today { a href=(link(through.plus(DAYS_ACROSS).min(today))) { "Later" } a href="/days" { "Today" } }
        }
        div #grid data-fresh="" {
            @if rows.is_empty() { (nothing("No store yet.")) } @else {
                div.wide tabindex="0" role="region" aria-label="Stores and days" {
                    table.days {
                        thead { tr { th scope="col" { "Store" } @for day in &days { th scope="col" { (show::short_day(*day)) } } } }
                        tbody { @for (store, cells) in &rows {
                            tr {
                                th scope="row" { (store) }
                                @for cell in cells {
                                    td { a class={ "cell " (cell.tone.class()) } href={ "/days/" (store) "/" (cell.day) } { (cell.word) small { (cell.below) } } }
                                }
                            }
                        } }
                    }
                }
            }
            @if pages > 1 { nav.row aria-label="Pages" {
                @for page in 0..pages { a href={ "/days?through=" (through) "&page=" (page) } aria-current=[(page == at).then_some("page")] { (page + 1) } }
            } }
        }
    };
    Ok(layout::page(&visitor, "/days", "Store-days", true, &body))
}
