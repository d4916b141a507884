//! The hub's API where people judge: cases with every possible decision and its effect, decisions, days, locks, outcomes
//! of payments and settled batches, people. It reads requests and shows answers; `hub` does the work.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::routing::{delete, get, post};
use axum::{Extension, Json, Router};
use engine::ids::StoreId;
use engine::ledger::{Effect, Possible};
use engine::replica::Replica;
use engine::review::{Case, CaseState, CaseType};
use engine::time::Day;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, OpenApi, ToSchema};

use super::openapi::Refused;
use super::problem::Problem;
use super::session;
use super::shapes;
use super::views;
use crate::hub::{
    DecisionRequest, Hub, LockRequest, NotDecided, PaymentRequest, Person, Role, SettlementRequest,
};
use crate::runtime::store::several::ask_each;

type Answer = Result<Json<Value>, Problem>;

/// The routes, by the role that they ask for.
pub fn routes(needs: impl Fn(Role, Router<Arc<Hub>>) -> Router<Arc<Hub>>) -> Router<Arc<Hub>> {
    let viewer = Router::new()
        .route("/v1/cases", get(cases))
        .route("/v1/cases/{id}", get(case))
        .route("/v1/days/{store}/{day}", get(day));
    let reviewer = Router::new()
        .route("/v1/cases/{id}/decisions", post(decide))
        .route("/v1/stores/{store}/locks", post(lock))
        .route("/v1/payments", post(payment))
        .route("/v1/settlements", post(settlement));
    let admin = Router::new()
        .route("/v1/people", get(people).post(add_person))
        .route("/v1/people/{name}", delete(remove_person));
    needs(Role::Viewer, viewer).merge(needs(Role::Reviewer, reviewer)).merge(needs(Role::Admin, admin))
}

impl From<NotDecided> for Problem {
    fn from(error: NotDecided) -> Self {
        match error {
            NotDecided::NoCase(text) => Self::not_found(text),
            NotDecided::Stale(text) => Self::new(StatusCode::CONFLICT, "changed meanwhile", text),
            NotDecided::NotAllowed(text) => Self::new(StatusCode::FORBIDDEN, "not allowed", text),
            NotDecided::Refused(text) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", text),
            NotDecided::Failed(error) => error.into(),
        }
    }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CaseFilter {
    state: Option<String>,
    #[param(value_type = Option<String>)]
    store: Option<StoreId>,
    #[serde(rename = "type")]
    case_type: Option<String>,
}

impl CaseFilter {
    /// A word that means nothing would find nothing, and look like good news.
    fn check(&self) -> Result<(), Problem> {
        let states = [CaseState::Open, CaseState::Decided, CaseState::SelfCancelled];
        if let Some(state) =
            self.state.as_deref().filter(|state| !states.iter().any(|known| known.as_str() == *state))
        {
            let known = states.map(CaseState::as_str).join(", ");
            return Err(Problem::invalid(format!("state: {state:?} is not one of {known}")));
        }
        if let Some(named) = self.case_type.as_deref().filter(|named| named.parse::<CaseType>().is_err()) {
            let known = CaseType::ALL.iter().map(|known| known.as_str()).collect::<Vec<_>>().join(", ");
            return Err(Problem::invalid(format!("type: {named:?} is not one of {known}")));
        }
        Ok(())
    }
}

#[utoipa::path(get, path = "/v1/cases", tag = "review", params(CaseFilter), responses((status = 200, description = "Cases, the most urgent first.", body = Vec<shapes::CaseShape>), Refused), security(("token" = [])))]
async fn cases(State(hub): State<Arc<Hub>>, Query(filter): Query<CaseFilter>) -> Answer {
    filter.check()?;
    let stores = match &filter.store {
        None => hub.stores(),
        Some(store) => {
            let found = hub.store(store);
            vec![found.ok_or_else(|| Problem::not_found(format!("there is no store {store}")))?]
        }
    };
    let CaseFilter { state, case_type, .. } = filter;
    let of_stores = ask_each(stores, move |replica| {
        let wanted = replica.books().cases().filter(|case| {
            state.as_ref().is_none_or(|state| case.state.as_str() == state)
                && case_type.as_ref().is_none_or(|wanted| case.key.case_type.as_str() == wanted)
        });
        wanted.map(|case| views::case(replica, case)).collect::<Vec<Value>>()
    })
    .await?;
    let mut views: Vec<Value> = of_stores.into_iter().flatten().collect();
    views.sort_by_key(|view| (view["severity"].as_u64(), view["opened_at"].as_str().map(str::to_owned)));
    Ok(Json(json!(views)))
}

#[utoipa::path(get, path = "/v1/cases/{id}", tag = "review", params(("id" = String, Path, description = "Id of the case")), responses((status = 200, description = "The case in full, with every possible decision and its effect.", body = shapes::CaseShape), Refused), security(("token" = [])))]
async fn case(State(hub): State<Arc<Hub>>, Path(id): Path<String>) -> Answer {
    let (store, case) = hub.find_case(&id).await?;
    let view = store
        .ask(move |replica| {
            let options = replica.options(&case);
            let mut view = views::case_in_full(replica, &case);
            view["options"] = options.iter().map(|option| option_view(replica, option)).collect();
            view["decisions"] = replica.books().decisions_on(&case.key).map(decision_view).collect();
            view
        })
        .await?;
    Ok(Json(view))
}

/// A decision as it was taken.
fn decision_view(issued: &engine::review::Issued) -> Value {
    let decision = &issued.decision;
    json!({
        "id": issued.id,
        "number": decision.number,
        "action": decision.action,
        "member": decision.member,
        "parameter": decision.parameter,
        "terminal": decision.terminal,
        "reviewer": decision.reviewer,
        "approver": decision.approver,
        "reason": decision.reason,
    })
}

fn option_view(replica: &Replica, option: &Possible) -> Value {
    let receipt = |id| replica.books().record(id).map(|record| record.transaction.receipt.clone());
    json!({
        "action": option.choice.action,
        "member": option.choice.member,
        "receipt": option.choice.member.as_ref().and_then(receipt),
        "needs": option.effect.is_none().then_some("parameter"),
        "effect": option.effect.as_ref().map(|effect| effect_view(replica, effect)),
    })
}

/// What a decision does: entries appended by record, the state of its case, cases that open or end.
fn effect_view(replica: &Replica, effect: &Effect) -> Value {
    let books = replica.books();
    let entries = effect.postings.iter().map(|(id, postings)| {
        json!({
            "record": id,
            "receipt": books.record(id).map(|record| &record.transaction.receipt),
            "postings": postings.iter().map(views::posting).collect::<Vec<_>>(),
        })
    });
    let opened = |case: &Case| json!({"type": case.key.case_type.as_str(), "about": case.about, "severity": case.severity});
    json!({
        "entries": entries.collect::<Vec<_>>(),
        "state": effect.state.map(CaseState::as_str),
        "opens": effect.opens.iter().map(opened).collect::<Vec<_>>(),
        "ends": effect.ends.iter().map(|key| key.id(books.store())).collect::<Vec<_>>(),
    })
}

#[utoipa::path(post, path = "/v1/cases/{id}/decisions", tag = "review", params(("id" = String, Path, description = "Id of the case")), request_body = DecisionRequest, responses((status = 201, description = "Recorded.", body = shapes::DecidedShape), (status = 200, description = "Only tried.", body = shapes::DecidedShape), Refused), security(("token" = [])))]
async fn decide(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    Extension(session::Caller(address)): Extension<session::Caller>,
    Path(id): Path<String>,
    Json(request): Json<DecisionRequest>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    if let Some(token) = &request.approver_token {
        session::look_at_another(&hub, address, token)?;
    }
    let done = hub.decide_case(&id, request, &by).await?;
    let store = hub.store(&done.store).ok_or_else(|| Problem::not_found("the store is gone"))?;
    let (effect, wanted) = (done.effect.clone(), id.clone());
    let (effect, state) = store
        .ask(move |replica| {
            let state = replica.books().case(&wanted).map(|case| case.state.as_str());
            (effect_view(replica, &effect), state)
        })
        .await?;
    let decision = &done.decision;
    let view = json!({
        "case": id,
        "store": done.store,
        "decision": done.record.map(|id| json!({"number": decision.number, "id": id})),
        "action": decision.action,
        "member": decision.member,
        "reviewer": decision.reviewer,
        "approver": decision.approver,
        "effect": effect,
        "state": if done.record.is_some() { json!(state) } else { effect["state"].clone() },
    });
    Ok((if done.record.is_some() { StatusCode::CREATED } else { StatusCode::OK }, Json(view)))
}

#[utoipa::path(get, path = "/v1/days/{store}/{day}", tag = "review", params(("store" = String, Path, description = "Name of the store"), ("day" = String, Path, description = "Business day, YYYY-MM-DD")), responses((status = 200, description = "How far the day has come, till by till.", body = shapes::DayShape), Refused), security(("token" = [])))]
async fn day(State(hub): State<Arc<Hub>>, Path((store, day)): Path<(String, String)>) -> Answer {
    let store = store.parse::<StoreId>().map_err(Problem::invalid)?;
    let day = day.parse::<Day>().map_err(Problem::invalid)?;
    Ok(Json(hub.day_view(&store, day).await?))
}

#[utoipa::path(post, path = "/v1/stores/{store}/locks", tag = "review", params(("store" = String, Path, description = "Name of the store")), request_body = LockRequest, responses((status = 201, description = "Locked.", body = shapes::LockedShape), Refused), security(("token" = [])))]
async fn lock(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    Path(store): Path<String>,
    Json(request): Json<LockRequest>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let store = store.parse::<StoreId>().map_err(Problem::invalid)?;
    Ok((StatusCode::CREATED, Json(hub.lock(&store, request, &by).await?)))
}

#[utoipa::path(post, path = "/v1/payments", tag = "review", request_body = PaymentRequest, responses((status = 201, description = "Recorded.", body = shapes::PaymentShape), (status = 200, description = "Known already.", body = shapes::PaymentShape), Refused), security(("token" = [])))]
async fn payment(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    Json(request): Json<PaymentRequest>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let view = hub.payment(request, &by).await?;
    Ok((if view["recorded"] == true { StatusCode::CREATED } else { StatusCode::OK }, Json(view)))
}

#[utoipa::path(post, path = "/v1/settlements", tag = "review", request_body = SettlementRequest, responses((status = 201, description = "Recorded, or known already.", body = shapes::SettlementShape), Refused), security(("token" = [])))]
async fn settlement(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    Json(request): Json<SettlementRequest>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    Ok((StatusCode::CREATED, Json(hub.settlement(request, &by).await?)))
}

#[utoipa::path(get, path = "/v1/people", tag = "review", responses((status = 200, description = "Everybody with access.", body = Vec<shapes::PersonShape>), Refused), security(("token" = [])))]
async fn people(State(hub): State<Arc<Hub>>) -> Json<Value> {
    Json(hub.people_view())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PersonRequest {
    name: String,
    role: Role,
}

#[utoipa::path(post, path = "/v1/people", tag = "review", request_body = PersonRequest, responses((status = 201, description = "Added; the token is shown once.", body = shapes::PersonShape), Refused), security(("token" = [])))]
async fn add_person(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    Json(request): Json<PersonRequest>,
) -> Result<(StatusCode, Json<Value>), Problem> {
    Ok((StatusCode::CREATED, Json(hub.add_person(&request.name, request.role, &by.name).await?)))
}

#[utoipa::path(delete, path = "/v1/people/{name}", tag = "review", params(("name" = String, Path, description = "Name of the person")), responses((status = 200, description = "Access ended.", body = shapes::PersonShape), Refused), security(("token" = [])))]
async fn remove_person(
    State(hub): State<Arc<Hub>>,
    Extension(by): Extension<Person>,
    Path(name): Path<String>,
) -> Answer {
    Ok(Json(hub.remove_person(&name, &by.name).await?))
}

/// What these endpoints are, for OpenAPI.
#[derive(OpenApi)]
#[openapi(paths(cases, case, decide, day, lock, payment, settlement, people, add_person, remove_person))]
pub struct Doc;
