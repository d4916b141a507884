//! What hubs of one company ask each other, over connections on which both have shown the company's key: requests of people,
//! passed on to the hub that serves the company, and statements for a store, passed on to the hub that has it. Each request is
//! an HTTP request on a stream of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use engine::codec;
use engine::ids::{RecordId, StoreId};
use engine::lease::HubName;
use engine::replica::{Live, Receipt};
use engine::time::Day;
use engine::transaction::HubRecord;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use crate::api::problem::Problem;
use crate::api::serve::{answer_of, answer_on, ask_on};
use crate::hub::{HANDS_LOOK, Hub, Rooms};
use crate::runtime::alarms::Told;
use crate::runtime::store::StoreError;
use crate::transport::{Endpoint, HubLine, HubStream};

/// Marks a request of somebody at the machine of the hub that passed it on. Only hubs can say so.
pub(super) const FROM_MACHINE: HeaderName = HeaderName::from_static("x-tillsync-from-machine");
/// Path of statements for a store.
const STATE: &str = "/between/state/";
/// Path of how the tills of a log's stores are doing.
const LIVE: &str = "/between/live/";
/// Largest answer to that: some 300 bytes a till.
const LIVE_BYTES: usize = 16 << 20;
/// Longest that it may take.
const LIVE_WAIT: Duration = Duration::from_secs(2);
/// Largest statement.
const STATEMENT_BYTES: usize = 1 << 20;
/// Longest that a statement may take.
const STATE_WAIT: Duration = Duration::from_secs(15);

/// How a hub and the tills of the stores in one of its logs are doing.
#[derive(Serialize, Deserialize)]
pub(super) struct Doing {
    pub(super) tills: Vec<(StoreId, Vec<Live>)>,
    /// What somebody should look at, of everything at that hub.
    pub(super) alarms: Vec<Told>,
}

/// The tables are looked at twice a second.
const NEWS_WAIT: Duration = Duration::from_secs(1);

/// A statement of the hub for one store.
#[derive(Serialize, Deserialize)]
struct Statement {
    /// The hub that states it: the one that serves the company.
    by: HubName,
    record: HubRecord,
    receipt: String,
}

/// What came of it.
#[derive(Serialize, Deserialize)]
enum Stated {
    Recorded {
        id: RecordId,
        receipt: String,
        seq: u64,
        business_day: Day,
        repeated: bool,
    },
    Not(String),
    /// The hub has not got the store, or not any more: nothing is known to be recorded, and another one may have it.
    NotHere,
}

/// Why nothing is known to be recorded.
pub(super) enum NotStated {
    /// The hub that was asked has not got the store.
    NotHere,
    Failed(StoreError),
}

/// The lines to other hubs.
#[derive(Default)]
pub(crate) struct Lines {
    open: Mutex<BTreeMap<String, HubLine>>,
}

impl Lines {
    /// Sends a request to the hub at an address.
    pub(crate) async fn send(
        &self,
        endpoint: &Endpoint,
        address: &str,
        request: Request,
    ) -> Result<Response, String> {
        ask_on(self.stream(endpoint, address).await?, request).await
    }

    /// A stream to an address, over the line there is or a new one.
    async fn stream(&self, endpoint: &Endpoint, address: &str) -> Result<HubStream, String> {
        let known = self.lock().get(address).filter(|line| !line.is_over()).cloned();
        if let Some(line) = known
            && let Ok(stream) = line.open().await
        {
            return Ok(stream);
        }
        let mut resolved = tokio::net::lookup_host(address).await.map_err(|error| error.to_string())?;
        let at = resolved.next().ok_or_else(|| format!("{address} has no address"))?;
        let line = endpoint.dial_hub(at).await.map_err(|error| error.to_string())?;
        self.lock().insert(address.to_owned(), line.clone());
        line.open().await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, HubLine>> {
        // Every change is one insertion.
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the tills of the stores in a log are doing, as the hub knows that has it.
    pub(super) async fn live(&self, endpoint: &Endpoint, address: &str, number: u16) -> Option<Doing> {
        let asked = async {
            let request = Request::get(format!("{LIVE}{number}")).header(header::HOST, "hub");
            let answer = self.send(endpoint, address, request.body(Body::empty()).ok()?).await.ok()?;
            let there = answer.status() == StatusCode::OK;
            let bytes = axum::body::to_bytes(answer.into_body(), LIVE_BYTES).await.ok()?;
            codec::decode::<_, LIVE_BYTES>(&bytes).ok().filter(|_| there)
        };
        timeout(LIVE_WAIT, asked).await.ok().flatten()
    }

    /// Has a statement recorded by the hub that has the store.
    pub(crate) async fn state(
        &self,
        endpoint: &Endpoint,
        address: &str,
        store: &StoreId,
        (by, record, receipt): (HubName, HubRecord, String),
    ) -> Result<Receipt, NotStated> {
        let bytes = codec::encode(&Statement { by, record, receipt });
        let path = format!("{STATE}{}", data_encoding::HEXLOWER.encode(store.as_str().as_bytes()));
        let asked = async {
            let request = Request::post(path).header(header::HOST, "hub").body(Body::from(bytes));
            let answer = self.send(endpoint, address, request.map_err(|e| e.to_string())?).await?;
            let (status, body) = (answer.status(), answer.into_body());
            let bytes = axum::body::to_bytes(body, STATEMENT_BYTES).await.map_err(|e| e.to_string())?;
            if status != StatusCode::OK {
                return Err(format!("it answered {status}"));
            }
            codec::decode::<Stated, STATEMENT_BYTES>(&bytes).map_err(|error| error.to_string())
        };
        // What was cut off may have been recorded: a statement has a receipt of its own, and saying it again is harmless.
        match timeout(STATE_WAIT, asked).await {
            Ok(Ok(Stated::Recorded { id, receipt, seq, business_day, repeated })) => {
                Ok(Receipt { id, receipt, seq, business_day, repeated })
            }
            Ok(Ok(Stated::NotHere)) => Err(NotStated::NotHere),
            Ok(Ok(Stated::Not(reason)) | Err(reason)) => {
                Err(NotStated::Failed(StoreError::Elsewhere(reason)))
            }
            Err(_) => Err(NotStated::Failed(StoreError::Elsewhere("it does not answer".to_owned()))),
        }
    }
}

/// Answers other hubs until the endpoint is closed.
pub(super) async fn answer(rooms: Arc<Rooms>, endpoint: Endpoint) {
    while let Some(stream) = endpoint.asked_by_hub().await {
        let rooms = rooms.clone();
        tokio::spawn(async move {
            answer_on(stream, |request| {
                let rooms = rooms.clone();
                async move { respond(&rooms, request).await }
            })
            .await;
        });
    }
}

async fn respond(rooms: &Arc<Rooms>, mut request: Request) -> Response {
    if let Some(store) = request.uri().path().strip_prefix(STATE) {
        let store = data_encoding::HEXLOWER.decode(store.as_bytes()).ok();
        let store = store.and_then(|name| String::from_utf8(name).ok()?.parse().ok());
        return match store {
            Some(store) => state(rooms, &store, request.into_body()).await,
            None => StatusCode::BAD_REQUEST.into_response(),
        };
    }
    if let Some(number) = request.uri().path().strip_prefix(LIVE) {
        let mut doing = Doing { tills: Vec::new(), alarms: rooms.alarms.told() };
        for handle in number.parse().map(|number| rooms.own_of(number)).unwrap_or_default() {
            let live = handle.ask(|replica| replica.live()).await;
            doing.tills.extend(live.ok().map(|live| (handle.store().clone(), live)));
        }
        return codec::encode(&doing).into_response();
    }
    let Some(hub) = rooms.company() else {
        return nobody("the hub that was asked does not serve the company at the moment").into_response();
    };
    if request.headers_mut().remove(FROM_MACHINE).is_some()
        && let Ok(token) = HeaderValue::from_str(&format!("Bearer {}", rooms.run_token))
    {
        request.headers_mut().insert(header::AUTHORIZATION, token);
    }
    // The hub that passed it on says whom it speaks for, as a proxy does.
    request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([127, 0, 0, 1], 0))));
    company(hub, request).await
}

/// What the company's own endpoints answer.
pub(super) async fn company(hub: Arc<Hub>, request: Request) -> Response {
    answer_of(crate::api::hub::router(hub), request).await
}

async fn state(rooms: &Arc<Rooms>, store: &StoreId, body: Body) -> Response {
    let Ok(bytes) = axum::body::to_bytes(body, STATEMENT_BYTES).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let Ok(statement) = codec::decode::<Statement, STATEMENT_BYTES>(&bytes) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let serves = serves_company(rooms, statement.by).await;
    let stated = match rooms.own_or_new(store) {
        _ if !serves => Stated::Not("the hub that asked does not serve the company any more".to_owned()),
        None => Stated::NotHere,
        Some(handle) => match handle.state(statement.record.clone(), statement.receipt).await {
            // It was here a moment ago. Saying it again is harmless, see there.
            Err(StoreError::ChangesHands) => Stated::NotHere,
            Err(error) => Stated::Not(error.to_string()),
            Ok(receipt) => {
                rooms.heed(store, &statement.record);
                // Who reads along sees what follows from it only when that is durable, too.
                let _ = handle.until_durable().await;
                let Receipt { id, receipt, seq, business_day, repeated } = receipt;
                Stated::Recorded { id, receipt, seq, business_day, repeated }
            }
        },
    };
    codec::encode(&stated).into_response()
}

/// Whether a hub serves the company: one that was paused and woke up does not know yet that another one decides. One that has
/// just begun to may be known here a moment later only.
async fn serves_company(rooms: &Rooms, hub: HubName) -> bool {
    let Some(elsewhere) = &rooms.elsewhere else { return false };
    let since = Instant::now();
    while !elsewhere.has(hub, 0) {
        if since.elapsed() >= NEWS_WAIT {
            return false;
        }
        tokio::time::sleep(HANDS_LOOK).await;
    }
    true
}

/// Nobody serves the company, or cannot be reached.
pub(super) fn nobody(detail: &str) -> Problem {
    let detail = format!("{detail}; try again in a few seconds");
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no hub serves the company at the moment", detail).passing()
}
