//! The hub's endpoints for exports: cut the next batch, give one again, list them. It translates; the hub decides.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use engine::ids::StoreId;
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::openapi::Refused;
use super::problem::Problem;
use super::shapes;
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
#[derive(Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Form {
    format: Option<String>,
    detail: Option<String>,
    date_format: Option<String>,
    tax_rate: Option<String>,
    /// Cut only this store's entries.
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
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

#[utoipa::path(post, path = "/v1/exports", tag = "exports", request_body = Form, responses((status = 200, description = "The next batch with its files.", body = shapes::ExportShape), Refused), security(("token" = [])))]
async fn export(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    Json(form): Json<Form>,
) -> Answer {
    let store = form.store.clone();
    Ok(Json(hub.export(form.wishes()?, store, by.name).await?))
}

#[utoipa::path(get, path = "/v1/exports/{number}", tag = "exports", params(("number" = u64, Path, description = "Number of the batch"), Form), responses((status = 200, description = "An earlier batch, byte for byte.", body = shapes::ExportShape), Refused), security(("token" = [])))]
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

#[utoipa::path(get, path = "/v1/exports", tag = "exports", responses((status = 200, description = "Every batch with its control totals.", body = Vec<shapes::ExportShape>), Refused), security(("token" = [])))]
async fn list(State(hub): State<Arc<Hub>>) -> Answer {
    Ok(Json(hub.export_list().await?))
}

/// What these endpoints are, for OpenAPI.
#[derive(OpenApi)]
#[openapi(paths(export, export_again, list))]
pub struct Doc;
