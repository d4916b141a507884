//! Tells an open page that something happened, and no more: the page reads itself again, as its reader may.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::Console;
use super::door::Visitor;
use crate::runtime::audit::AuditLog;

/// That tills told how they are is passed on at most so often.
const HINT_EVERY: Duration = Duration::from_secs(1);

/// `GET /live`.
pub async fn events(
    State(console): State<Arc<Console>>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
) -> Response {
    let hub = console.hub.clone();
    changes(console.hub.audit(), &headers, move || hub.is_still(&visitor.person))
}

/// A stream of changes, as long as its reader `may` have it. One that was missed while the line was down is made up for by
/// one that says so.
pub fn changes(log: &AuditLog, headers: &HeaderMap, may: impl Fn() -> bool + Send + 'static) -> Response {
    let resume = headers.get("last-event-id").and_then(|id| id.to_str().ok()?.parse::<u64>().ok());
    let (mut live, mut hints) = (log.listen(), log.hints());
    let missed = resume.and_then(|after| log.read(after, 1).last().map(|event| event.number));
    let (send, receive) = mpsc::channel::<Result<Event, Infallible>>(16);
    tokio::spawn(async move {
        let change =
            |number: u64, what: &str| Event::default().id(number.to_string()).event("change").data(what);
        if let Some(number) = missed
            && send.send(Ok(change(number, "missed"))).await.is_err()
        {
            return;
        }
        let mut hint_from = Instant::now();
        loop {
            let event = tokio::select! {
                event = live.recv() => event,
                hint = async { sleep_until(hint_from).await; hints.changed().await } => {
                    let told = Event::default().event("change").data("told");
                    if hint.is_err() || !may() || send.send(Ok(told)).await.is_err() {
                        return;
                    }
                    hint_from = Instant::now() + HINT_EVERY;
                    continue;
                }
                // A page that was left must not be remembered until something happens.
                () = send.closed() => return,
            };
            match event {
                Ok(event) => {
                    if !may() || send.send(Ok(change(event.number, &event.event))).await.is_err() {
                        return;
                    }
                }
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            }
        }
    });
    let stream = tokio_stream::wrappers::ReceiverStream::new(receive);
    Sse::new(stream).keep_alive(KeepAlive::default()).into_response()
}
