//! HTTP at any of the hubs: the one that serves the company answers, the others pass on what they are asked. Whether a hub is
//! well is each one's own to say.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::between::{self, FROM_MACHINE, nobody};
use crate::api::problem::Problem;
use crate::hub::{Rooms, same};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The routes of a hub that is one of several.
pub(super) fn router(rooms: Arc<Rooms>) -> Router {
    Router::new()
        .route("/healthz", get(crate::api::openapi::healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(of_company)
        .with_state(rooms)
}

/// Whether this hub takes in what tills send it.
async fn readyz(State(rooms): State<Arc<Rooms>>) -> Result<&'static str, Problem> {
    let held = rooms.held();
    if let Some(reason) = held.values().find_map(|room| room.storage().is_poisoned()) {
        return Err(nobody(&reason));
    }
    let away = held.values().find_map(|room| room.storage().is_away());
    let cut_off = rooms.elsewhere.as_ref().and_then(|elsewhere| elsewhere.cut_off());
    match away.or(cut_off) {
        None => Ok("ready"),
        Some(_) => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "database away",
            "nothing new is taken in; the hub's own log says why",
        )),
    }
}

/// Each hub's own figures, for whoever may see the company's.
async fn metrics(state: State<Arc<Rooms>>, from: ConnectInfo<SocketAddr>, request: Request) -> Response {
    let rooms = state.0.clone();
    if rooms.company().is_some() {
        return of_company(state, from, request).await;
    }
    let mut asking = Request::new(Body::empty());
    *asking.headers_mut() = request.headers().clone();
    *asking.uri_mut() = Uri::from_static("/v1/authority");
    let allowed = of_company(state, from, asking).await;
    if allowed.status() != StatusCode::OK {
        return allowed;
    }
    crate::metrics::hub::of(&rooms).await.into_response()
}

async fn of_company(
    State(rooms): State<Arc<Rooms>>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    mut request: Request,
) -> Response {
    request.headers_mut().remove(FROM_MACHINE);
    if let Some(hub) = rooms.company() {
        return between::company(hub, request).await;
    }
    let (Some(elsewhere), Some(door)) = (&rooms.elsewhere, rooms.door.get()) else {
        return nobody("this hub does not listen yet").into_response();
    };
    let Some(address) = elsewhere.address_of(0) else {
        return nobody("none has taken the company's log yet").into_response();
    };
    let bearer = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or("");
    if from.ip().is_loopback() && same(token, &rooms.run_token) {
        request.headers_mut().insert(FROM_MACHINE, HeaderValue::from_static("yes"));
    }
    if !from.ip().is_loopback()
        && let Ok(from) = HeaderValue::from_str(&from.ip().to_string())
    {
        request.headers_mut().insert(FORWARDED_FOR, from);
    }
    // On the way between hubs a request names its path only.
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    if let Ok(uri) = path.parse::<Uri>() {
        *request.uri_mut() = uri;
    }
    let passed_on = elsewhere.lines().send(&door.endpoint, &address, request).await;
    passed_on.unwrap_or_else(|reason| nobody(&format!("the hub at {address}: {reason}")).into_response())
}
