//! The till's API, on loopback only: capture, one transaction with its custody, what waits, how it is going.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use engine::ids::RecordId;
use engine::replica::Replica;
use engine::transaction::{Draft, mask_card_numbers};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use utoipa::{IntoParams, OpenApi};

use super::openapi::Refused;
use super::problem::Problem;
use super::shapes;
use super::views;
use crate::runtime::alarms::Alarms;
use crate::runtime::audit::{AuditEvent, AuditLog};
use crate::runtime::clock::{Clock, rfc3339};
use crate::runtime::store::{StoreError, StoreHandle};
use crate::storage::Storage;

/// Longest line of NDJSON, in bytes.
const LINE_BYTES: usize = 1 << 20;
/// Records listed by `pending`.
const PENDING_LISTED: usize = 1_000;

/// What the till's endpoints need.
#[derive(Clone)]
pub struct Till {
    /// The store's task.
    pub store: StoreHandle,
    /// The sync-event log.
    pub audit: AuditLog,
    /// What somebody should look at.
    pub alarms: Alarms,
    /// The shop's clock.
    pub clock: Clock,
    /// The node's log.
    pub storage: Storage,
}

/// The routes of the till.
pub fn router(till: Till) -> Router {
    let till = Arc::new(till);
    Router::new()
        .route("/v1/transactions", post(capture))
        .route("/v1/transactions/{name}", get(transaction))
        .route("/v1/status", get(status))
        .route("/v1/pending", get(pending))
        .route("/v1/cases", get(cases))
        .route("/v1/audit", get(audit))
        .route("/v1/events", get(events))
        .route("/metrics", get(crate::metrics::till::metrics))
        .route("/healthz", get(super::openapi::healthz))
        .route("/openapi.json", get(|| async { Json(super::openapi::till()) }))
        .fallback(|| async { Problem::not_found("no such endpoint at a till; GET /v1/status is one") })
        .with_state(till.clone())
        .merge(crate::till_page::router(till))
        .layer(axum::middleware::from_fn(refuse_strangers))
        .layer(axum::middleware::from_fn(super::problem::everywhere))
}

/// The API listens on loopback, where every program of the device may use it, a web page of another site may not: its
/// requests carry its own origin, or (with a name that resolves to this device) its own host.
async fn refuse_strangers(request: Request, next: Next) -> Response {
    match stranger(request.headers()) {
        None => next.run(request).await,
        Some(host) => {
            let detail = format!("a page or program of {host:?} may not use this till's API");
            Problem::new(StatusCode::FORBIDDEN, "not from this device", detail).into_response()
        }
    }
}

/// The host or origin that is not this device, if a request names one.
fn stranger(headers: &HeaderMap) -> Option<String> {
    let header = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let origin =
        header(header::ORIGIN).map(|origin| origin.split_once("://").map_or(origin, |parts| parts.1));
    let named = [header(header::HOST), origin];
    named.into_iter().flatten().find(|host| !is_loopback(host)).map(|host| host.chars().take(80).collect())
}

fn is_loopback(host: &str) -> bool {
    let name =
        host.rsplit_once(':').map_or(host, |(name, port)| if port.ends_with(']') { host } else { name });
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[utoipa::path(post, path = "/v1/transactions", tag = "till", params(("Idempotency-Key" = Option<String>, Header, description = "One for each basket: the same key again gets the first answer again")), request_body = Value, responses((status = 201, description = "Recorded and durable.", body = shapes::ReceiptSaved), (status = 200, description = "Recorded before: the first answer again; or NDJSON, an answer a line.", body = shapes::ReceiptSaved), Refused))]
async fn capture(State(till): State<Arc<Till>>, headers: HeaderMap, body: Bytes) -> Response {
    let content_type =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content_type.contains("ndjson") {
        return capture_lines(&till, &body).await;
    }
    let key = headers.get("idempotency-key").and_then(|value| value.to_str().ok());
    match capture_one(&till, &body, key).await {
        Ok(response) => response,
        Err(problem) => problem.into_response(),
    }
}

async fn capture_one(till: &Till, body: &[u8], key: Option<&str>) -> Result<Response, Problem> {
    let mut draft = parse(body)?;
    if let Some(key) = key {
        let stated = draft.transaction.idempotency_key.get_or_insert_with(|| key.to_owned());
        if stated != key {
            return Err(Problem::invalid("idempotency_key: differs from the Idempotency-Key header"));
        }
    }
    let receipt = till.store.capture(draft).await?;
    let status = if receipt.repeated { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Json(views::receipt(&receipt))).into_response())
}

/// Records every line; the answers come in the order of the lines, a refused one beside the others.
async fn capture_lines(till: &Till, body: &[u8]) -> Response {
    let mut waiting = Vec::new();
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.iter().all(u8::is_ascii_whitespace)) {
        let name = receipt_of(line);
        let sent = match parse(line) {
            Ok(draft) => till.store.capture_later(draft).await.map_err(Problem::from),
            Err(problem) => Err(problem),
        };
        waiting.push((name, sent));
    }
    let mut answers = String::new();
    for (name, sent) in waiting {
        let answer = match sent {
            Ok(answer) => answer.await.unwrap_or(Err(StoreError::Stopping)).map_err(Problem::from),
            Err(problem) => Err(problem),
        };
        let view = match answer {
            Ok(receipt) => views::receipt(&receipt),
            Err(problem) => json!({"receipt": name, "error": problem.to_json()}),
        };
        answers.push_str(&view.to_string());
        answers.push('\n');
    }
    ([(header::CONTENT_TYPE, "application/x-ndjson")], answers).into_response()
}

fn parse(bytes: &[u8]) -> Result<Draft, Problem> {
    if bytes.len() > LINE_BYTES {
        return Err(Problem::invalid(format!("input: has {} bytes; the limit is {LINE_BYTES}", bytes.len())));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::invalid("input: is not UTF-8"))?;
    Ok(Draft::from_json(text)?)
}

/// The receipt number of a line, as far as it can be told, for the answer to a refused one.
fn receipt_of(line: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        receipt: Option<String>,
    }
    let named: Named = serde_json::from_slice(line).ok()?;
    named.receipt.map(|receipt| mask_card_numbers(&receipt))
}

/// Finds a record by id or receipt number; the newest, if a receipt number is there twice.
pub(crate) fn find(replica: &Replica, name: &str) -> Option<RecordId> {
    if let Ok(id) = name.parse::<RecordId>() {
        return replica.books().record(&id).map(|record| record.id);
    }
    let found = replica.books().find_receipt(name);
    found
        .into_iter()
        .max_by_key(|id| replica.books().record(id).map(|record| (record.effective_ms, record.id)))
}

#[utoipa::path(get, path = "/v1/transactions/{name}", tag = "till", params(("name" = String, Path, description = "Id or receipt number")), responses((status = 200, description = "The transaction with custody, postings and cases.", body = shapes::RecordShape), Refused))]
async fn transaction(
    State(till): State<Arc<Till>>,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let asked = name.clone();
    let view = till
        .store
        .ask(move |replica| find(replica, &name).and_then(|id| views::record_in_full(replica, &id, None)))
        .await?;
    view.map(Json)
        .ok_or_else(|| Problem::not_found(format!("this till holds no transaction {asked:?}; the hub may")))
}

#[utoipa::path(get, path = "/v1/status", tag = "till", responses((status = 200, description = "How the till stands.", body = shapes::TillStatusShape), Refused))]
async fn status(State(till): State<Arc<Till>>) -> Result<Json<Value>, Problem> {
    let mut view = till.store.ask(till_status).await?;
    view["alarms"] = till.alarms.view();
    view["disk_full"] = json!(till.store.is_disk_full());
    Ok(Json(view))
}

/// The till's state, as `status --json` shows it.
pub fn till_status(replica: &mut Replica) -> Value {
    let identity = replica.identity();
    let through = replica.at_hub_through();
    let receipt =
        replica.books().log_record(&identity.log, through).map(|record| record.transaction.receipt.clone());
    let (online, since_ms) = replica.hub_link();
    let peers: Vec<Value> = replica
        .peers()
        .map(|(writer, peer)| {
            json!({
                "peer": replica.registry().log_of(&writer).map(ToString::to_string),
                "level": peer.is_level(),
                "backlog": peer.backlog(),
                "refused": peer.refused().count(),
                "last_status": peer.status.as_ref().map(|(at_ms, status)| json!({
                    "at": rfc3339(*at_ms),
                    "clock_offset_ms": status.clock_ms - at_ms,
                    "waiting": status.waiting,
                    "policy_version": status.policy_version,
                    "software": status.software,
                })),
            })
        })
        .collect();
    json!({
        "store": identity.store,
        "terminal": identity.log.terminal,
        "incarnation": identity.log.incarnation,
        "online": online,
        "since": since_ms.map(rfc3339),
        "waiting": views::waiting(replica),
        "at_hub_through": {"seq": through, "receipt": receipt},
        "head_seq": replica.log_heads().get(&identity.log).copied().unwrap_or(0),
        "policy_version": replica.policies().version(),
        "view_hash": data_encoding::HEXLOWER.encode(&replica.books().view_hash()),
        "open_cases": replica.books().open_case_count(),
        "peers": peers,
        "software": env!("CARGO_PKG_VERSION"),
    })
}

#[utoipa::path(get, path = "/v1/pending", tag = "till", responses((status = 200, description = "What the hub does not hold yet.", body = shapes::PendingShape), Refused))]
async fn pending(State(till): State<Arc<Till>>) -> Result<Json<Value>, Problem> {
    let view = till
        .store
        .ask(|replica| {
            let records: Vec<Value> = replica
                .waiting_records()
                .take(PENDING_LISTED)
                .map(|record| {
                    let basket = record.transaction.basket();
                    json!({
                        "receipt": record.transaction.receipt,
                        "id": record.id,
                        "seq": record.seq,
                        "kind": record.transaction.kind(),
                        "at": record.at.to_string(),
                        "total_minor": basket.map(engine::transaction::Basket::total_minor),
                        "currency": basket.map(|basket| basket.currency),
                    })
                })
                .collect();
            let mut view = views::waiting(replica);
            view["records"] = json!(records);
            view
        })
        .await?;
    Ok(Json(view))
}

#[utoipa::path(get, path = "/v1/cases", tag = "till", responses((status = 200, description = "Cases, as far as this till knows.", body = Vec<shapes::CaseShape>), Refused))]
async fn cases(State(till): State<Arc<Till>>) -> Result<Json<Value>, Problem> {
    let view = till
        .store
        .ask(|replica| replica.books().cases().map(|case| views::case(replica, case)).collect())
        .await?;
    Ok(Json(view))
}

/// Which audit events are wanted.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AuditQuery {
    #[serde(default)]
    after: u64,
    #[serde(default = "default_limit")]
    limit: usize,
}

fn default_limit() -> usize {
    500
}

/// An audit event in JSON form.
#[must_use]
pub fn audit_view(event: &AuditEvent) -> Value {
    json!({
        "number": event.number,
        "at": rfc3339(event.at_ms),
        "store": event.store,
        "who": event.who,
        "event": event.event,
        "detail": event.detail,
    })
}

/// Events of an audit log, as a JSON list.
pub fn audit_list(log: &AuditLog, query: &AuditQuery) -> Json<Value> {
    Json(log.read(query.after, query.limit.min(20_000)).iter().map(audit_view).collect())
}

#[utoipa::path(get, path = "/v1/audit", tag = "till", params(AuditQuery), responses((status = 200, description = "Events, oldest first.", body = Vec<shapes::AuditShape>), Refused))]
async fn audit(State(till): State<Arc<Till>>, Query(query): Query<AuditQuery>) -> Json<Value> {
    audit_list(&till.audit, &query)
}

#[utoipa::path(get, path = "/v1/events", tag = "till", responses((status = 200, description = "Events as they happen; Last-Event-ID resumes.", content_type = "text/event-stream", body = String), Refused))]
async fn events(State(till): State<Arc<Till>>, headers: HeaderMap) -> Response {
    event_stream(&till.audit, &headers, || true)
}

/// Server-sent events of an audit log, as long as its reader `may` have them; `Last-Event-ID` resumes.
pub fn event_stream(
    log: &AuditLog,
    headers: &HeaderMap,
    may: impl Fn() -> bool + Send + 'static,
) -> Response {
    let resume = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let mut live = log.listen();
    let missed = resume.map(|after| log.read(after, usize::MAX)).unwrap_or_default();
    let (send, receive) = mpsc::channel::<Result<Event, Infallible>>(64);
    tokio::spawn(async move {
        let mut last = 0;
        for event in missed {
            last = event.number;
            if send.send(Ok(sse(&event))).await.is_err() {
                return;
            }
        }
        loop {
            match live.recv().await {
                Ok(event) if event.number > last => {
                    if !may() || send.send(Ok(sse(&event))).await.is_err() {
                        return;
                    }
                }
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
    Sse::new(stream).keep_alive(KeepAlive::default()).into_response()
}

fn sse(event: &AuditEvent) -> Event {
    let data = audit_view(event).to_string();
    Event::default().id(event.number.to_string()).event(event.event.clone()).data(data)
}

/// What these endpoints are, for OpenAPI.
#[derive(OpenApi)]
#[openapi(paths(capture, transaction, status, pending, cases, audit, events))]
pub struct Doc;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_web_page_of_another_site_is_a_stranger() {
        let of = |host: &str, origin: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, host.parse().unwrap());
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, origin.parse().unwrap());
            }
            stranger(&headers)
        };
        for host in ["127.0.0.1:7401", "localhost", "[::1]:7401", "localhost:80"] {
            assert_eq!(of(host, None), None, "{host}");
        }
        assert_eq!(of("127.0.0.1:7401", Some("http://localhost:3000")), None);
        assert_eq!(of("127.0.0.1:7401", Some("http://evil.example")), Some("evil.example".to_owned()));
        assert_eq!(of("evil.example", None), Some("evil.example".to_owned()));
        assert_eq!(of("127.0.0.1:7401", Some("null")), Some("null".to_owned()));
    }
}
