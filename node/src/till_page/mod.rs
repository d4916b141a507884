//! The till's page: a simple register in a browser on the till itself, with or without the hub. A file a task: `sell`,
//! `refund`, `void`, `close`, `receipt`; `strip` is the line that always says how it stands, `form` reads what was
//! typed. It spells transactions as a POS app would and hands them to the till, which judges and numbers them.

mod close;
mod form;
mod receipt;
mod refund;
mod sell;
mod strip;
mod void;

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::middleware::from_fn;
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use engine::transaction::Draft;
use serde_json::Value;

use crate::api::problem::Problem;
use crate::api::till::Till;
use crate::console::{asset, changes, dress, secure};

/// The pages of the till.
pub fn router(till: Arc<Till>) -> Router {
    Router::new()
        .route("/", get(sell::page).post(sell::sell))
        .route("/refund", get(refund::page).post(refund::refund))
        .route("/void", get(void::page).post(void::void))
        .route("/close", get(close::page).post(close::close))
        .route("/receipts", get(receipt::list))
        .route("/receipts/{id}", get(receipt::page))
        .route("/live", get(live))
        .route("/assets/{name}", get(asset))
        .layer(from_fn(dress))
        .layer(from_fn(secure))
        .with_state(till)
}

async fn live(State(till): State<Arc<Till>>, headers: HeaderMap) -> Response {
    changes(&till.audit, &headers, || true)
}

/// Records what a form spelled, and goes to its receipt. The form's key makes a second tap find the first receipt.
async fn record(till: &Till, transaction: &Value) -> Result<Response, Problem> {
    let draft = Draft::from_json(&transaction.to_string())?;
    let receipt = till.store.capture(draft).await?;
    let again = if receipt.repeated { "?again=yes" } else { "?new=yes" };
    Ok(Redirect::to(&format!("/receipts/{}{again}", receipt.id)).into_response())
}
