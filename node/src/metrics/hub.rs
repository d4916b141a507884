//! The hub's metrics: stores and tills, what is known and not here, cases by type, suspense by account. One series a store
//! at most: tills are too many to name each.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use engine::ids::StoreId;
use engine::replica::{Replica, Waiting};
use utoipa::OpenApi;

use super::common;
use super::text::{CONTENT_TYPE, Exposition};
use crate::api::openapi::Refused;
use crate::api::problem::Problem;
use crate::hub::{Hub, Rooms};
use crate::runtime::store::several::ask_each;
use crate::storage::Storage;

/// What a store gives.
struct Store {
    name: StoreId,
    terminals: u64,
    connected: u64,
    committed: u64,
    captured: u64,
    in_review: u64,
    refused: u64,
    /// What its tills said last that waits there.
    waiting: Waiting,
    /// By type and state.
    cases: BTreeMap<(&'static str, &'static str), u64>,
    oldest_case_ms: Option<i64>,
    /// By account and currency.
    suspense: BTreeMap<(String, String), i128>,
}

fn store(replica: &Replica) -> Store {
    let books = replica.books();
    let captured = replica.kpi_captured();
    let mut cases = BTreeMap::new();
    let mut oldest_case_ms: Option<i64> = None;
    for case in books.cases() {
        *cases.entry((case.key.case_type.as_str(), case.state.as_str())).or_default() += 1;
        if case.state.as_str() == "open" {
            oldest_case_ms = Some(oldest_case_ms.map_or(case.opened_ms, |oldest| oldest.min(case.opened_ms)));
        }
    }
    let suspense = books.balances().into_iter().filter(|row| row.0.0.is_suspense());
    let newest = |log: &engine::ids::LogId| replica.registry().incarnation(&log.terminal) == log.incarnation;
    let terminals = replica.registry().writers().filter(|row| !row.1.terminal.is_hub() && newest(row.1));
    Store {
        name: replica.identity().store.clone(),
        terminals: terminals.count() as u64,
        connected: replica.peers().count() as u64,
        committed: captured.committed,
        captured: captured.captured,
        in_review: captured.in_review,
        refused: captured.rejected_batches,
        waiting: replica.waiting_at_tills(),
        cases,
        oldest_case_ms,
        suspense: suspense
            .map(|((account, currency), minor)| ((account.to_string(), currency.to_string()), minor))
            .collect(),
    }
}

/// `GET /metrics` of the hub.
#[utoipa::path(get, path = "/metrics", tag = "hub", responses((status = 200, description = "Figures in the text format of Prometheus.", content_type = "text/plain", body = String), Refused), security(("token" = [])))]
pub async fn metrics(State(hub): State<Arc<Hub>>) -> Result<Response, Problem> {
    of(hub.rooms()).await
}

/// The figures of the stores that this process has, and its own.
pub(crate) async fn of(rooms: &Rooms) -> Result<Response, Problem> {
    let stores = ask_each(rooms.own(), |replica| store(replica)).await?;
    let mut out = Exposition::default();
    let logs: Vec<Storage> = rooms.held().values().map(|room| room.storage().clone()).collect();
    common(&mut out, "hub", &logs.iter().collect::<Vec<_>>());
    out.gauge(
        "tillsync_hub_logs",
        "Logs that this hub has; more than one where several hubs serve.",
        |put| {
            put(&[], logs.len() as i128);
        },
    );
    let mut each = |name: &str, help: &str, value: &dyn Fn(&Store) -> u64| {
        out.gauge(name, help, |put| {
            for store in &stores {
                put(&[("store", store.name.as_str())], value(store).into());
            }
        });
    };
    each("tillsync_terminals", "Tills of the store.", &|it| it.terminals);
    each("tillsync_terminals_connected", "Tills that are connected.", &|it| it.connected);
    each("tillsync_records_known", "Records that tills are known to have made.", &|it| it.committed);
    each("tillsync_records_captured", "Records that are here.", &|it| it.captured);
    each("tillsync_records_in_review", "Records that wait for a reviewer.", &|it| it.in_review);
    each("tillsync_waiting_records", "Records that tills said wait there for the hub.", &|it| {
        it.waiting.count
    });
    out.gauge(
        "tillsync_waiting_value_minor_units",
        "Gross value of what tills said waits there, sales less refunds and voids.",
        |put| {
            for store in &stores {
                for (currency, minor) in &store.waiting.value_minor {
                    let labels = [("store", store.name.as_str()), ("currency", currency.code())];
                    put(&labels, (*minor).into());
                }
            }
        },
    );
    out.gauge(
        "tillsync_waiting_oldest_timestamp_seconds",
        "When the oldest record that waits at a till was captured, by the till's clock.",
        |put| {
            for store in &stores {
                if let Some(oldest) = store.waiting.oldest_ms {
                    put(&[("store", store.name.as_str())], (oldest / 1_000).into());
                }
            }
        },
    );
    out.counter(
        "tillsync_batches_refused_total",
        "Batches refused as unauthentic or malformed, since the start.",
        |put| {
            for store in &stores {
                put(&[("store", store.name.as_str())], store.refused.into());
            }
        },
    );
    let (mut cases, mut suspense) = (BTreeMap::new(), BTreeMap::new());
    for store in &stores {
        for (key, count) in &store.cases {
            *cases.entry(*key).or_insert(0_u64) += count;
        }
        for (key, minor) in &store.suspense {
            *suspense.entry(key).or_insert(0_i128) += minor;
        }
    }
    out.gauge("tillsync_cases", "Review cases by type and state.", |put| {
        for ((kind, state), count) in &cases {
            put(&[("type", kind), ("state", state)], (*count).into());
        }
    });
    out.gauge(
        "tillsync_case_oldest_open_timestamp_seconds",
        "When the oldest open case was opened.",
        |put| {
            if let Some(oldest) = stores.iter().filter_map(|store| store.oldest_case_ms).min() {
                put(&[], (oldest / 1_000).into());
            }
        },
    );
    out.gauge("tillsync_suspense_minor_units", "Balance of the suspense accounts, debit positive.", |put| {
        for ((account, currency), minor) in &suspense {
            put(&[("account", account), ("currency", currency)], *minor);
        }
    });
    webhooks(&mut out, rooms);
    Ok(([(header::CONTENT_TYPE, CONTENT_TYPE)], out.finish()).into_response())
}

fn webhooks(out: &mut Exposition, rooms: &Rooms) {
    out.counter(
        "tillsync_webhook_deliveries_total",
        "Attempts to deliver changes to a webhook, by what became of them.",
        |put| {
            for (outcome, count) in rooms.webhooks.attempts() {
                put(&[("outcome", outcome)], count.into());
            }
        },
    );
    let behind = "Changes that a webhook's receiver has not accepted yet, at most: not all need be for it.";
    out.gauge("tillsync_webhook_behind", behind, |put| {
        for (id, count) in rooms.webhooks.behind() {
            put(&[("webhook", id.as_str())], count.into());
        }
    });
}

/// What these endpoints are, for OpenAPI.
#[derive(OpenApi)]
#[openapi(paths(metrics))]
pub struct Doc;
