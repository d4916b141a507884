//! The hub console: pages for the people of the head office, served by the hub and made on it, without anything from
//! elsewhere. A file a room: `today`, `review` with `case` and `duplicates`, `days` and `day`, `books` with `journal` and `exports`,
//! `receipts`, `fleet` with `policies`, `audit`. `door` lets people in, `live` says when something changed,
//! `layout`, `show`, `words` and `slip` are what pages are made of, `kept` remembers what they reckon, `board`
//! is what all stores said last. It reads the hub and asks it to act; every rule about
//! who may do what to the books is the hub's.

mod assets;
mod audit;
mod board;
mod books;
mod case;
mod day;
mod days;
mod door;
mod duplicates;
mod effect;
mod exports;
mod fleet;
mod journal;
mod kept;
mod knowledge;
mod kpis;
pub mod layout;
mod live;
mod policies;
mod receipts;
mod review;
pub mod show;
pub mod slip;
mod today;
mod words;

use std::sync::Arc;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post};

pub use assets::{asset, dress, secure};
pub use door::escape;
pub use live::changes;
pub use words::{custody as custody_words, kind as kind_words, tender_name as tender_words};

use crate::hub::{Hub, Role};
use board::Board;
use kept::Kept;
use kpis::Kpis;

/// What the pages need.
pub struct Console {
    hub: Arc<Hub>,
    kpis: Kpis,
    today: Kept<today::Brief>,
    stores: Board<today::StoreRow>,
    grid: Kept<days::CellView>,
}

/// The fields of a form that the door has read and let in.
#[derive(Clone, Debug, Default)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The first value of a field; nothing if it is not there.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.0.iter().find(|field| field.0 == name).map_or("", |field| field.1.as_str())
    }

    /// The same, trimmed; `None` where nothing was filled in.
    #[must_use]
    pub fn filled(&self, name: &str) -> Option<String> {
        Some(self.text(name).trim().to_owned()).filter(|text| !text.is_empty())
    }

    /// Every value of a field.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |field| field.0 == name).map(|field| field.1.as_str())
    }
}

/// The routes of the console, by the role that they ask for.
pub fn router(hub: Arc<Hub>) -> Router {
    let console = Arc::new(Console {
        hub,
        kpis: Kpis::default(),
        today: Kept::default(),
        stores: Board::default(),
        grid: Kept::default(),
    });
    tokio::spawn(today::prepare(Arc::clone(&console)));
    let needs = |role: Role, routes: Router<Arc<Console>>| {
        routes.route_layer(from_fn_with_state((console.clone(), role), door::guard))
    };
    let viewer = Router::new()
        .route("/", get(today::page))
        .route("/live", get(live::events))
        .route("/review", get(review::page))
        .route("/review/{id}", get(case::page))
        .route("/duplicates", get(duplicates::page))
        .route("/days", get(days::page))
        .route("/days/{store}/{day}", get(day::page))
        .route("/books", get(books::page))
        .route("/books/suspense", get(books::suspense))
        .route("/books/journal", get(journal::page))
        .route("/books/exports", get(exports::page))
        .route("/books/exports/{number}/{file}", get(exports::file))
        .route("/receipts", get(receipts::search))
        .route("/receipts/{id}", get(receipts::page))
        .route("/fleet", get(fleet::page))
        .route("/fleet/policies", get(policies::company))
        .route("/fleet/policies/{store}", get(policies::page))
        .route("/audit", get(audit::page))
        .route("/audit.csv", get(audit::csv))
        .route("/logout", post(door::log_out));
    let reviewer = Router::new()
        .route("/review/{id}/decide", post(case::decide))
        .route("/duplicates/decide", post(duplicates::decide))
        .route("/days/{store}/{day}/lock", post(day::lock))
        .route("/books/exports/cut", post(exports::cut));
    let admin = Router::new()
        .route("/fleet/enrol", post(fleet::enrol))
        .route("/fleet/revoke", post(fleet::revoke))
        .route("/fleet/policies/set", post(policies::set_company))
        .route("/fleet/policies/{store}/set", post(policies::set));
    Router::new()
        .merge(needs(Role::Viewer, viewer))
        .merge(needs(Role::Reviewer, reviewer))
        .merge(needs(Role::Admin, admin))
        .route("/login", get(door::form).post(door::log_in))
        .route("/assets/{name}", get(asset))
        .layer(from_fn(dress))
        .layer(from_fn(secure))
        .with_state(console)
}
