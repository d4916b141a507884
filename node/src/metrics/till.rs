//! A till's metrics: what waits, how old it is, how long capturing and the hub's word take.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;

use super::text::{CONTENT_TYPE, Exposition};
use super::{ACKNOWLEDGED, CAPTURE, common};
use crate::api::openapi::Refused;
use crate::api::problem::Problem;
use crate::api::till::Till;
use crate::runtime::clock::now_ms;

/// `GET /metrics` of a till.
#[utoipa::path(get, path = "/metrics", tag = "till", responses((status = 200, description = "Figures in the text format of Prometheus.", content_type = "text/plain", body = String), Refused))]
pub async fn metrics(State(till): State<Arc<Till>>) -> Result<Response, Problem> {
    let mut out = Exposition::default();
    common(&mut out, "terminal", &[&till.storage]);
    let asked = till.store.ask(|replica| {
        let (online, since_ms) = replica.hub_link();
        (
            replica.waiting(),
            online,
            since_ms,
            replica.kpi_captured().rejected_batches,
            replica.policies().version(),
        )
    });
    let (waiting, online, since_ms, refused, policy) = asked.await?;
    out.gauge("tillsync_queue_records", "Records captured here that the hub does not hold yet.", |put| {
        put(&[], waiting.count.into());
    });
    out.gauge(
        "tillsync_queue_oldest_seconds",
        "Age of the oldest record that waits; 0 if none does.",
        |put| {
            let age_ms = waiting.oldest_ms.map_or(0, |oldest| (now_ms() - oldest).max(0));
            put(&[], (age_ms / 1_000).into());
        },
    );
    out.gauge(
        "tillsync_queue_value_minor_units",
        "Gross value of what waits, sales less refunds and voids.",
        |put| {
            for (currency, minor) in &waiting.value_minor {
                put(&[("currency", currency.code())], (*minor).into());
            }
        },
    );
    out.gauge("tillsync_hub_connected", "1 if the hub is connected.", |put| put(&[], i128::from(online)));
    out.gauge(
        "tillsync_hub_link_changed_timestamp_seconds",
        "When the line to the hub last came or went.",
        |put| {
            if let Some(since_ms) = since_ms {
                put(&[], (since_ms / 1_000).into());
            }
        },
    );
    out.gauge("tillsync_policy_version", "Version of the store's policy in force.", |put| {
        put(&[], policy.into());
    });
    out.counter("tillsync_batches_refused_total", "Batches refused as unauthentic or malformed.", |put| {
        put(&[], refused.into());
    });
    out.histogram(
        "tillsync_capture_duration_seconds",
        "From a transaction's coming to its durable answer.",
        &CAPTURE,
    );
    out.histogram(
        "tillsync_hub_ack_duration_seconds",
        "From a receipt's time to the hub's word that it is durable there, waiting for the line included.",
        &ACKNOWLEDGED,
    );
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], out.finish()).into_response())
}

/// What these endpoints are, for OpenAPI.
#[derive(OpenApi)]
#[openapi(paths(metrics))]
pub struct Doc;
