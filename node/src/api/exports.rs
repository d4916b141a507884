//! The hub's endpoints for exports: cut the next batch, give one again, list them. It translates; the hub decides.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use engine::ids::StoreId;
use serde::Deserialize;
use serde_json::Value;

use super::problem::Problem;
use crate::error::Failure;
use crate::export::options::Wishes;
use crate::hub::{Hub, Person, Role};

/// The routes, by the role that they ask for.
pub fn routes(needs: impl Fn(Role, Router<Arc<Hub>>) -> Router<Arc<Hub>>) -> Router<Arc<Hub>> {
    let viewer =
        Router::new().route("/v1/exports", get(list)).route("/v1/exports/{number}", get(export_again));
    let reviewer = Router::new().route("/v1/exports", post(export));
    needs(Role::Viewer, viewer).merge(needs(Role::Reviewer, reviewer))
}

type Answer = Result<Json<Value>, Problem>;

/// How the files shall be. Words, so that a wrong one is answered with the right ones.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    format: Option<String>,
    detail: Option<String>,
    date_format: Option<String>,
    tax_rate: Option<String>,
    /// Cut only this store's entries.
    store: Option<StoreId>,
}

impl Form {
    fn wishes(self) -> Result<Wishes, Failure> {
        Ok(Wishes {
            format: self.format.map(|text| text.parse()).transpose()?,
            detail: self.detail.map(|text| text.parse()).transpose()?,
            date_format: self.date_format.map(|text| text.parse()).transpose()?,
            tax_rate: self.tax_rate,
        })
    }
}

async fn export(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    Json(form): Json<Form>,
) -> Answer {
    let store = form.store.clone();
    Ok(Json(hub.export(form.wishes()?, store, by.name).await?))
}

async fn export_again(
    State(hub): State<Arc<Hub>>,
    Path(number): Path<u64>,
    Query(form): Query<Form>,
) -> Answer {
    if form.store.is_some() {
        return Err(Problem::invalid("store: a batch holds the stores that it was cut from; leave it out"));
    }
    Ok(Json(hub.export_again(number, &form.wishes()?).await?))
}

async fn list(State(hub): State<Arc<Hub>>) -> Answer {
    Ok(Json(hub.export_list().await?))
}
