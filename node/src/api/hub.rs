//! The hub's API: stores, terminals, cases, books, policies, enrolments, exports, audit. Bearer token on everything
//! but `/healthz`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use engine::ids::StoreId;
use engine::policy::PolicyChange;
use engine::time::Day;
use engine::transaction::HubRecord;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::exports;
use super::kpi;
use super::problem::Problem;
use super::review;
use super::till::{AuditQuery, audit_list, event_stream, find};
use super::views;
use crate::error::Failure;
use crate::hub::{Hub, Person, Role};
use crate::runtime::clock::{now_ms, rfc3339};
use crate::runtime::store::StoreHandle;

/// Journal entries in one answer.
const JOURNAL_PAGE: usize = 1_000;
/// Longest life of a join code.
const TTL_LIMIT: Duration = Duration::from_secs(7 * 86_400);

type Answer = Result<Json<Value>, Problem>;

/// The routes of the hub.
pub fn router(hub: Arc<Hub>) -> Router {
    let needs = |role: Role, routes: Router<Arc<Hub>>| {
        routes.route_layer(from_fn_with_state((hub.clone(), role), guard))
    };
    let viewer = Router::new()
        .route("/v1/stores", get(stores))
        .route("/v1/terminals", get(terminals))
        .route("/v1/ledger/balances", get(balances))
        .route("/v1/ledger/trial-balance", get(trial_balance))
        .route("/v1/ledger/journal", get(journal))
        .route("/v1/transactions/{name}", get(transaction))
        .route("/v1/policies/{store}", get(policy))
        .route("/v1/metrics-report", get(kpi::metrics_report))
        .route("/v1/audit", get(audit))
        .route("/v1/events", get(events));
    let admin = Router::new()
        .route("/v1/terminals/{terminal}/revoke", post(revoke))
        .route("/v1/enrolments", post(enrol))
        .route("/v1/policies/{store}", put(set_policy));
    Router::new()
        .route("/healthz", get(|| async { "ok" }))
        .merge(needs(Role::Viewer, viewer))
        .merge(needs(Role::Admin, admin))
        .merge(exports::routes(needs))
        .merge(review::routes(needs))
        .fallback(|| async { Problem::not_found("no such endpoint") })
        .with_state(hub)
}

/// Lets in who holds a token with the role that the endpoint asks for.
async fn guard(State((hub, needed)): State<(Arc<Hub>, Role)>, mut request: Request, next: Next) -> Response {
    let token = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let person = token.and_then(|value| value.strip_prefix("Bearer ")).and_then(|token| hub.who(token));
    let Some(person) = person else {
        let detail = "this needs a token of the hub: pass --token, set TILLSYNC_TOKEN, or use --dir on the hub's machine";
        return Problem::new(StatusCode::UNAUTHORIZED, "not authorised", detail).into_response();
    };
    if person.role < needed {
        let detail =
            format!("{} is a {}; this needs a {}", person.name, person.role.as_str(), needed.as_str());
        return Problem::new(StatusCode::FORBIDDEN, "not allowed", detail).into_response();
    }
    request.extensions_mut().insert(person);
    next.run(request).await
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", failure)
    }
}

/// Which part of the books is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Part {
    store: Option<StoreId>,
    day: Option<Day>,
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

impl Part {
    fn stores(&self, hub: &Hub) -> Result<Vec<StoreHandle>, Problem> {
        match &self.store {
            None => Ok(hub.stores()),
            Some(store) => hub
                .store(store)
                .map(|handle| vec![handle])
                .ok_or_else(|| Problem::not_found(format!("there is no store {store}"))),
        }
    }
}

async fn stores(State(hub): State<Arc<Hub>>) -> Answer {
    let mut views = Vec::new();
    for store in hub.stores() {
        let view = store
            .ask(|replica| {
                let books = replica.books();
                json!({
                    "store": replica.identity().store,
                    "terminals": replica.registry().writers().filter(|(_, log)| !log.terminal.is_hub()).count(),
                    "online": replica.peers().count(),
                    "records": replica.log_heads().iter().filter(|(log, _)| !log.terminal.is_hub()).map(|(_, seq)| seq).sum::<u64>(),
                    "open_cases": books.cases().filter(|case| case.state.as_str() == "open").count(),
                    "policy_version": replica.policies().version(),
                    "view_hash": data_encoding::HEXLOWER.encode(&books.view_hash()),
                })
            })
            .await?;
        views.push(view);
    }
    Ok(Json(json!(views)))
}

async fn terminals(State(hub): State<Arc<Hub>>) -> Answer {
    let mut views = Vec::new();
    for store in hub.stores() {
        let of_store: Vec<Value> = store
            .ask(|replica| {
                let heads = replica.log_heads();
                let terminals = replica.registry().writers().filter(|(_, log)| !log.terminal.is_hub());
                terminals
                    .map(|(writer, log)| {
                        let peer = replica.peers().find(|(peer, _)| *peer == writer).map(|(_, peer)| peer);
                        let status = peer.and_then(|peer| peer.status.as_ref());
                        json!({
                            "store": replica.identity().store,
                            "terminal": log.terminal,
                            "incarnation": log.incarnation,
                            "key": writer,
                            "online": peer.is_some(),
                            "records": heads.get(log).copied().unwrap_or(0),
                            "waiting": status.map(|(_, status)| status.waiting),
                            "clock_offset_ms": status.map(|(at_ms, status)| status.clock_ms - at_ms),
                            "policy_version": status.map(|(_, status)| status.policy_version),
                            "software": status.map(|(_, status)| &status.software),
                            "last_status": status.map(|(at_ms, _)| rfc3339(*at_ms)),
                        })
                    })
                    .collect()
            })
            .await?;
        views.extend(of_store);
    }
    Ok(Json(json!(views)))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnrolRequest {
    store: String,
    terminal: String,
    ttl_seconds: Option<u64>,
}

async fn enrol(State(hub): State<Arc<Hub>>, Json(request): Json<EnrolRequest>) -> Answer {
    let ttl = Duration::from_secs(request.ttl_seconds.unwrap_or(900)).min(TTL_LIMIT);
    Ok(Json(hub.invite(&request.store, &request.terminal, ttl).await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RevokeRequest {
    after_seq: Option<u64>,
}

async fn revoke(
    State(hub): State<Arc<Hub>>,
    Path(terminal): Path<String>,
    Json(request): Json<RevokeRequest>,
) -> Answer {
    Ok(Json(hub.revoke(&terminal, request.after_seq).await?))
}

async fn summed(hub: &Hub, part: &Part) -> Result<(Balances, String), Problem> {
    let mut sum = Balances::new();
    let mut hasher = blake3::Hasher::new_derive_key("tillsync company view v1");
    let stores = part.stores(hub)?;
    let single = stores.len() == 1;
    let mut only = String::new();
    for store in stores {
        let day = part.day;
        let (balances, view_hash) = store
            .ask(move |replica| {
                let books = replica.books();
                (
                    day.map_or_else(|| books.balances(), |day| books.balances_between(day, day)),
                    books.view_hash(),
                )
            })
            .await?;
        hasher.update(store.store().as_str().as_bytes());
        hasher.update(&view_hash);
        only = data_encoding::HEXLOWER.encode(&view_hash);
        for (key, minor) in balances {
            *sum.entry(key).or_default() += minor;
        }
    }
    Ok((sum, if single { only } else { hasher.finalize().to_hex().to_string() }))
}

type Balances = std::collections::BTreeMap<(engine::ledger::Account, engine::money::Currency), i128>;

async fn balances(State(hub): State<Arc<Hub>>, Query(part): Query<Part>) -> Answer {
    let (sum, view_hash) = summed(&hub, &part).await?;
    Ok(Json(json!({"balances": views::balances(&sum), "as_of": rfc3339(now_ms()), "view_hash": view_hash})))
}

async fn trial_balance(State(hub): State<Arc<Hub>>, Query(part): Query<Part>) -> Answer {
    let (sum, _) = summed(&hub, &part).await?;
    Ok(Json(views::trial_balance(&sum)))
}

async fn journal(State(hub): State<Arc<Hub>>, Query(part): Query<Part>) -> Answer {
    let (mut entries, mut next) = (Vec::new(), Value::Null);
    let limit = part.limit.unwrap_or(JOURNAL_PAGE).min(JOURNAL_PAGE);
    let stores = part.stores(&hub)?;
    if part.after > 0 && stores.len() > 1 {
        return Err(Problem::invalid("after: journal numbers belong to a store; name the store to read on"));
    }
    for store in stores {
        let (day, room) = (part.day, limit - entries.len());
        let read = store.journal(part.after + 1, room).await?;
        let last = read.last().map(|entry| entry.number);
        let full = read.len() == room;
        let page: Vec<Value> = store
            .ask(move |replica| {
                let wanted = read.iter().filter(|entry| day.is_none_or(|day| entry.date == day));
                wanted
                    .map(|entry| {
                        let mut view = views::journal_entry(replica.books(), entry);
                        view["store"] = json!(replica.identity().store);
                        view
                    })
                    .collect()
            })
            .await?;
        if full {
            next = json!(last);
        }
        entries.extend(page);
        if entries.len() == limit {
            break;
        }
    }
    Ok(Json(json!({"entries": entries, "next": next})))
}

async fn transaction(State(hub): State<Arc<Hub>>, Path(name): Path<String>) -> Answer {
    for store in hub.stores() {
        let wanted = name.clone();
        let found = store.ask(move |replica| find(replica, &wanted)).await?;
        let Some(id) = found else { continue };
        let exported = hub.exported_at_ms(&store, &id).await;
        let view = store.ask(move |replica| views::record_in_full(replica, &id, exported)).await?;
        return view.map(Json).ok_or_else(|| Problem::not_found(format!("no transaction {name:?}")));
    }
    Err(Problem::not_found(format!("no transaction {name:?} has arrived here; ask its till")))
}

fn known_store(hub: &Hub, name: &str) -> Result<StoreHandle, Problem> {
    let store = name.parse::<StoreId>().map_err(Problem::invalid)?;
    hub.store(&store).ok_or_else(|| {
        Problem::not_found(format!(
            "there is no store {store}; a store begins with its first `tillsync hub enroll`"
        ))
    })
}

async fn policy(State(hub): State<Arc<Hub>>, Path(name): Path<String>) -> Answer {
    let store = known_store(&hub, &name)?;
    let view = store
        .ask(|replica| {
            let policies = replica.policies();
            let settings: Map<String, Value> = policies
                .on(Day(i32::MAX))
                .settings()
                .into_iter()
                .map(|(key, value)| (key.to_owned(), json!(value)))
                .collect();
            let changes: Vec<Value> = policies
                .changes()
                .map(|(seq, change)| json!({"seq": seq, "from": change.from, "settings": change.settings, "by": change.by}))
                .collect();
            json!({"store": replica.identity().store, "version": policies.version(), "settings": settings, "changes": changes})
        })
        .await?;
    Ok(Json(view))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicyRequest {
    settings: Map<String, Value>,
    from: Option<Day>,
}

async fn set_policy(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    Path(name): Path<String>,
    Json(request): Json<PolicyRequest>,
) -> Answer {
    let store = known_store(&hub, &name)?;
    let settings: Vec<String> = request
        .settings
        .iter()
        .map(|(key, value)| {
            format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        })
        .collect();
    if settings.is_empty() {
        return Err(Problem::invalid("settings: is empty; give key=value"));
    }
    let change = PolicyChange::parse(settings.iter().map(String::as_str), request.from, &by.name)
        .map_err(Problem::invalid)?;
    let number = store.ask(|replica| replica.policies().version() + 1).await?;
    store.state(HubRecord::Config(change), format!("policy-{number}")).await?;
    hub.audit().note(now_ms(), Some(store.store().as_str()), Some(by.name), "policy", settings.join(" "));
    Ok(Json(json!({"store": store.store(), "version": number, "settings": request.settings})))
}

async fn audit(State(hub): State<Arc<Hub>>, Query(query): Query<AuditQuery>) -> Json<Value> {
    audit_list(hub.audit(), &query)
}

async fn events(State(hub): State<Arc<Hub>>, headers: HeaderMap) -> Response {
    event_stream(hub.audit(), &headers)
}
