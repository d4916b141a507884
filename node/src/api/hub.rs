//! The hub's API: stores, terminals, cases, books, policies, enrolments, exports, audit. Everything but `/healthz` asks
//! who is there (`session`).

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::response::Response;
use axum::routing::{get, post, put};
use axum::{Extension, Json, Router};
use engine::ids::{StoreId, TerminalId};
use engine::time::Day;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::exports;
use super::kpi;
use super::openapi::{ProblemBody, Refused};
use super::problem::Problem;
use super::review;
use super::session;
use super::shapes;
use super::till::{AuditQuery, audit_list, event_stream, find};
use super::views;
use crate::error::Failure;
use crate::hub::{Hub, Person, Role, Whose, policy_view};
use crate::runtime::clock::{now_ms, rfc3339};
use crate::runtime::store::StoreHandle;
use crate::runtime::store::several::ask_each;

/// Journal entries in one answer.
const JOURNAL_PAGE: usize = 1_000;
/// Longest life of a join code.
const TTL_LIMIT: Duration = Duration::from_secs(7 * 86_400);

type Answer = Result<Json<Value>, Problem>;

/// The routes of the hub.
pub fn router(hub: Arc<Hub>) -> Router {
    let needs = |role: Role, routes: Router<Arc<Hub>>| {
        routes.route_layer(from_fn_with_state((hub.clone(), role), session::guard))
    };
    let viewer = Router::new()
        .route("/v1/stores", get(stores))
        .route("/v1/terminals", get(terminals))
        .route("/v1/ledger/balances", get(balances))
        .route("/v1/ledger/trial-balance", get(trial_balance))
        .route("/v1/ledger/journal", get(journal))
        .route("/v1/transactions/{name}", get(transaction))
        .route("/v1/policies", get(company_policy))
        .route("/v1/policies/{store}", get(policy))
        .route("/v1/metrics-report", get(kpi::metrics_report))
        .route("/v1/authority", get(authority))
        .route("/v1/hubs", get(hubs))
        .route("/v1/alarms", get(alarms))
        .route("/metrics", get(crate::metrics::hub::metrics))
        .route("/v1/audit", get(audit))
        .route("/v1/events", get(events));
    let admin = Router::new()
        .route("/v1/terminals/{terminal}/revoke", post(revoke))
        .route("/v1/enrolments", post(enrol))
        .route("/v1/authority/rotate", post(rotate_authority))
        .route("/v1/authority/drop", post(drop_authorities))
        .route("/v1/policies", put(set_company_policy))
        .route("/v1/policies/{store}", put(set_policy));
    Router::new()
        .route("/healthz", get(super::openapi::healthz))
        .route("/readyz", get(readyz))
        .route("/openapi.json", get(|| async { Json(super::openapi::hub()) }))
        .merge(session::routes())
        .merge(needs(Role::Viewer, viewer))
        .merge(needs(Role::Admin, admin))
        .merge(exports::routes(needs))
        .merge(review::routes(needs))
        .fallback(|| async { Problem::not_found("no such endpoint") })
        .with_state(hub.clone())
        .merge(crate::console::router(hub))
        .layer(axum::middleware::from_fn(super::problem::everywhere))
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", failure)
    }
}

/// Which part of the books is asked for.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Part {
    #[param(value_type = Option<String>)]
    store: Option<StoreId>,
    #[param(value_type = Option<String>, format = Date)]
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

#[utoipa::path(get, path = "/v1/stores", tag = "hub", responses((status = 200, description = "Every store with its counts.", body = Vec<shapes::StoreShape>), Refused), security(("token" = [])))]
async fn stores(State(hub): State<Arc<Hub>>) -> Answer {
    let stores = hub.stores();
    let mut views = ask_each(stores.clone(), |replica| {
        let books = replica.books();
        json!({
            "store": replica.identity().store,
            "terminals": replica.registry().writers().filter(|(_, log)| !log.terminal.is_hub()).count(),
            "online": replica.online_count(),
            "records": replica.log_heads().iter().filter(|(log, _)| !log.terminal.is_hub()).map(|(_, seq)| seq).sum::<u64>(),
            "open_cases": books.open_case_count(),
            "policy_version": replica.policies().version(),
            "view_hash": data_encoding::HEXLOWER.encode(&books.view_hash()),
            "waiting": views::waits(&replica.waiting_at_tills()),
        })
    })
    .await?;
    let away = hub.storage().is_away().is_some();
    for (view, store) in views.iter_mut().zip(&stores) {
        view["disk_full"] = json!(store.is_disk_full() && !hub.storage().in_database());
        view["database_away"] = json!(away);
    }
    Ok(Json(json!(views)))
}

#[utoipa::path(get, path = "/v1/terminals", tag = "hub", responses((status = 200, description = "Every till with what it said last.", body = Vec<shapes::TerminalShape>), Refused), security(("token" = [])))]
async fn terminals(State(hub): State<Arc<Hub>>) -> Answer {
    let (directory, alarms) = (hub.directory().clone(), hub.alarms().clone());
    let of_stores = ask_each(hub.stores(), move |replica| {
        let heads = replica.log_heads();
        let terminals = replica.registry().writers().filter(|(_, log)| !log.terminal.is_hub());
        terminals
            .map(|(writer, log)| {
                let online = replica.online(&writer);
                let status = online.flatten();
                json!({
                    "store": replica.identity().store,
                    "terminal": log.terminal,
                    "incarnation": log.incarnation,
                    "key": writer,
                    "online": online.is_some(),
                    "revoked": directory.is_revoked(log),
                    "alarms": alarms.about(&log.to_string()),
                    "records": heads.get(log).copied().unwrap_or(0),
                    "waiting": status.map(|(_, status)| status.waiting),
                    "told_waiting": views::waits(&replica.waiting_at(&writer)),
                    "clock_offset_ms": status.map(|(at_ms, status)| status.clock_ms - at_ms),
                    "policy_version": status.map(|(_, status)| status.policy_version),
                    "software": status.map(|(_, status)| &status.software),
                    "last_status": status.map(|(at_ms, _)| rfc3339(at_ms)),
                })
            })
            .collect::<Vec<Value>>()
    })
    .await?;
    Ok(Json(Value::Array(of_stores.into_iter().flatten().collect())))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct EnrolRequest {
    store: String,
    terminal: String,
    ttl_seconds: Option<u64>,
}

#[utoipa::path(post, path = "/v1/enrolments", tag = "hub", request_body = EnrolRequest, responses((status = 200, description = "A one-time join code.", body = shapes::InvitedShape), Refused), security(("token" = [])))]
async fn enrol(State(hub): State<Arc<Hub>>, Json(request): Json<EnrolRequest>) -> Answer {
    let ttl = Duration::from_secs(request.ttl_seconds.unwrap_or(900)).min(TTL_LIMIT);
    Ok(Json(hub.invite(&request.store, &request.terminal, ttl).await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RevokeRequest {
    after_seq: Option<u64>,
    incarnation: Option<u32>,
}

#[utoipa::path(post, path = "/v1/terminals/{terminal}/revoke", tag = "hub", params(("terminal" = String, Path, description = "Name of the till")), request_body = RevokeRequest, responses((status = 200, description = "Ended: later records of the till are held.", body = shapes::RevokedShape), Refused), security(("token" = [])))]
async fn revoke(
    State(hub): State<Arc<Hub>>,
    Path(terminal): Path<String>,
    Json(request): Json<RevokeRequest>,
) -> Answer {
    Ok(Json(hub.revoke(&terminal, request.incarnation, request.after_seq).await?))
}

#[utoipa::path(get, path = "/v1/authority", tag = "hub", responses((status = 200, description = "The company's certificate authorities.", body = shapes::AuthorityShape), Refused), security(("token" = [])))]
async fn authority(State(hub): State<Arc<Hub>>) -> Json<Value> {
    Json(hub.authority_view())
}

#[utoipa::path(get, path = "/v1/hubs", tag = "hub", responses((status = 200, description = "The hubs that serve the company, and which stores each has.", body = Vec<shapes::HubShape>), Refused), security(("token" = [])))]
async fn hubs(State(hub): State<Arc<Hub>>) -> Json<Value> {
    Json(hub.hubs_view())
}

#[utoipa::path(get, path = "/v1/alarms", tag = "hub", responses((status = 200, description = "What somebody should look at.", body = Vec<shapes::AlarmShape>), Refused), security(("token" = [])))]
async fn alarms(State(hub): State<Arc<Hub>>) -> Json<Value> {
    Json(hub.alarms().view())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RotateRequest {
    overlap_seconds: u64,
}

#[utoipa::path(post, path = "/v1/authority/rotate", tag = "hub", request_body = RotateRequest, responses((status = 200, description = "There is a new authority; the old one vouches for it.", body = shapes::AuthorityShape), Refused), security(("token" = [])))]
async fn rotate_authority(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    Json(request): Json<RotateRequest>,
) -> Answer {
    Ok(Json(hub.rotate_authority(request.overlap_seconds, &by.name)?))
}

#[utoipa::path(post, path = "/v1/authority/drop", tag = "hub", responses((status = 200, description = "Former authorities count no more.", body = shapes::AuthorityShape), Refused), security(("token" = [])))]
async fn drop_authorities(State(hub): State<Arc<Hub>>, Extension(by): Extension<Person>) -> Answer {
    Ok(Json(hub.drop_former_authorities(&by.name)?))
}

async fn summed(hub: &Hub, part: &Part) -> Result<(Balances, String), Problem> {
    let mut sum = Balances::new();
    let mut hasher = blake3::Hasher::new_derive_key("tillsync company view v1");
    let stores = part.stores(hub)?;
    let single = stores.len() == 1;
    let mut only = String::new();
    let day = part.day;
    let asked = ask_each(stores.clone(), move |replica| {
        let books = replica.books();
        (day.map_or_else(|| books.balances(), |day| books.balances_between(day, day)), books.view_hash())
    });
    for (store, (balances, view_hash)) in stores.iter().zip(asked.await?) {
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

#[utoipa::path(get, path = "/v1/ledger/balances", tag = "hub", params(Part), responses((status = 200, description = "Balances by account and currency.", body = shapes::BalancesShape), Refused), security(("token" = [])))]
async fn balances(State(hub): State<Arc<Hub>>, Query(part): Query<Part>) -> Answer {
    let (sum, view_hash) = summed(&hub, &part).await?;
    Ok(Json(json!({"balances": views::balances(&sum), "as_of": rfc3339(now_ms()), "view_hash": view_hash})))
}

#[utoipa::path(get, path = "/v1/ledger/trial-balance", tag = "hub", params(Part), responses((status = 200, description = "Debits, credits and their difference by currency.", body = shapes::TrialBalanceShape), Refused), security(("token" = [])))]
async fn trial_balance(State(hub): State<Arc<Hub>>, Query(part): Query<Part>) -> Answer {
    let (sum, _) = summed(&hub, &part).await?;
    Ok(Json(views::trial_balance(&sum)))
}

#[utoipa::path(get, path = "/v1/ledger/journal", tag = "hub", params(Part), responses((status = 200, description = "Entries of the journal, and the number to read on after.", body = shapes::JournalShape), Refused), security(("token" = [])))]
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

#[utoipa::path(get, path = "/v1/transactions/{name}", tag = "hub", params(("name" = String, Path, description = "Id or receipt number")), responses((status = 200, description = "The transaction with custody, postings and cases.", body = shapes::RecordShape), Refused), security(("token" = [])))]
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

/// Which till's policy is asked for.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfTill {
    /// A till of the store; otherwise the store's own policy
    #[param(value_type = Option<String>)]
    till: Option<TerminalId>,
}

#[utoipa::path(get, path = "/v1/policies/{store}", tag = "hub", params(("store" = String, Path, description = "Name of the store"), OfTill), responses((status = 200, description = "The policy in force, for whom each setting was made (company, store or till; the others are the defaults), and its changes.", body = shapes::PolicyShape), Refused), security(("token" = [])))]
async fn policy(State(hub): State<Arc<Hub>>, Path(name): Path<String>, Query(of): Query<OfTill>) -> Answer {
    let store = known_store(&hub, &name)?;
    let view = store
        .ask(move |replica| {
            let mut view = policy_view(replica.policies(), of.till.as_ref());
            view["store"] = json!(replica.identity().store);
            view["till"] = json!(of.till);
            view
        })
        .await?;
    Ok(Json(view))
}

#[utoipa::path(get, path = "/v1/policies", tag = "hub", responses((status = 200, description = "The company's policy, which holds where no store or till has its own, and who has their own.", body = shapes::PolicyShape), Refused), security(("token" = [])))]
async fn company_policy(State(hub): State<Arc<Hub>>) -> Answer {
    Ok(Json(hub.company_policy_view().await?))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PolicyRequest {
    /// Setting: value; "inherit" takes one back
    #[schema(value_type = Object)]
    settings: Map<String, Value>,
    /// First business day that it judges
    #[schema(value_type = Option<String>, format = Date)]
    from: Option<Day>,
    /// Only for this till of the store
    #[schema(value_type = Option<String>)]
    till: Option<TerminalId>,
}

impl PolicyRequest {
    fn lines(&self) -> Result<Vec<String>, Problem> {
        let line = |(key, value): (&String, &Value)| {
            format!("{key}={}", value.as_str().map_or_else(|| value.to_string(), str::to_owned))
        };
        let lines: Vec<String> = self.settings.iter().map(line).collect();
        if lines.is_empty() {
            return Err(Problem::invalid("settings: is empty; give key=value"));
        }
        Ok(lines)
    }
}

#[utoipa::path(put, path = "/v1/policies/{store}", tag = "hub", params(("store" = String, Path, description = "Name of the store")), request_body = PolicyRequest, responses((status = 200, description = "The new version.", body = shapes::PolicyMadeShape), Refused), security(("token" = [])))]
async fn set_policy(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    Path(name): Path<String>,
    Json(request): Json<PolicyRequest>,
) -> Answer {
    let store = known_store(&hub, &name)?.store().clone();
    let lines = request.lines()?;
    let whose = match request.till {
        Some(till) => Whose::Till(store, till),
        None => Whose::Store(store),
    };
    let mut said = hub.set_policy(&whose, &lines, request.from, &by.name).await?;
    said["settings"] = json!(request.settings);
    Ok(Json(said))
}

#[utoipa::path(put, path = "/v1/policies", tag = "hub", request_body = PolicyRequest, responses((status = 200, description = "The new version, and in how many stores it stands.", body = shapes::CompanyPolicyMadeShape), Refused), security(("token" = [])))]
async fn set_company_policy(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    Json(request): Json<PolicyRequest>,
) -> Answer {
    if request.till.is_some() {
        return Err(Problem::invalid("till: a till belongs to a store; use /v1/policies/{store}"));
    }
    let lines = request.lines()?;
    Ok(Json(hub.set_policy(&Whose::Company, &lines, request.from, &by.name).await?))
}

#[utoipa::path(get, path = "/v1/audit", tag = "hub", params(AuditQuery), responses((status = 200, description = "Events, oldest first.", body = Vec<shapes::AuditShape>), Refused), security(("token" = [])))]
async fn audit(State(hub): State<Arc<Hub>>, Query(query): Query<AuditQuery>) -> Json<Value> {
    audit_list(hub.audit(), &query)
}

#[utoipa::path(get, path = "/v1/events", tag = "hub", responses((status = 200, description = "Events as they happen; Last-Event-ID resumes.", content_type = "text/event-stream", body = String), Refused), security(("token" = [])))]
async fn events(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    headers: HeaderMap,
) -> Response {
    let asked = hub.clone();
    event_stream(hub.audit(), &headers, move || asked.is_still(&by))
}

/// Whether the hub takes in what tills send.
#[utoipa::path(get, path = "/readyz", tag = "hub", responses(
    (status = 200, description = "It does.", content_type = "text/plain", body = String),
    (status = 503, description = "It does not: disk full, database away, or storage failed.", content_type = "application/problem+json", body = ProblemBody),
))]
async fn readyz(State(hub): State<Arc<Hub>>) -> Result<&'static str, Problem> {
    // Who may not ask for more is told no more; metrics and the node's own log say why.
    let storage = hub.storage();
    let title = if storage.is_poisoned().is_some() {
        "storage failed"
    } else if storage.is_away().is_some() {
        "database away"
    } else if storage.is_full() {
        "disk full"
    } else {
        return Ok("ready");
    };
    Err(Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        title,
        "nothing new is taken in; the hub's own log says why",
    ))
}

/// What these endpoints are, for OpenAPI.
#[derive(OpenApi)]
#[openapi(paths(
    readyz,
    stores,
    terminals,
    enrol,
    revoke,
    balances,
    trial_balance,
    journal,
    transaction,
    company_policy,
    set_company_policy,
    policy,
    set_policy,
    authority,
    hubs,
    rotate_authority,
    drop_authorities,
    alarms,
    audit,
    events
))]
pub struct Doc;
