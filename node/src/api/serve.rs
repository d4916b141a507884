//! Serving an API on an address until the node stops, with a bounded number of connections: when all places are taken, one
//! that waits for its caller makes room, the one that waits longest; when none does, the newcomer is told to come back.
//! How long each may take is `patience`'s business. The one file that knows hyper.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::{StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;

use super::patience::{Patience, Seat};
use super::problem::Problem;
use crate::error::Failure;

/// Largest request body, in bytes: a full chunk of NDJSON lines.
pub const BODY_BYTES: usize = 8 << 20;
/// A larger one is read to its end before it is refused, if it is no larger than this.
const BODY_READ_ON_BYTES: usize = 64 << 20;
/// Most connections at a time. Each is a file descriptor, of which a process is often given no more than 1,024.
pub const CONNECTIONS_MAX: usize = 512;
/// Most connections from one IPv4 address or IPv6 /64. A proxy on this machine speaks for everybody, so loopback has all.
pub const CONNECTIONS_OF_ADDRESS_MAX: usize = 64;
/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 64 << 10;
/// How long nobody is let in after the system would not give a descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Binds an address.
///
/// # Errors
/// It is taken or not ours; the message says what to do.
pub async fn bind(address: &str) -> Result<(TcpListener, SocketAddr), Failure> {
    let refused = |error: std::io::Error| {
        Failure::refused(format!(
            "cannot serve HTTP on {address}: {error}; choose another address with --http"
        ))
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let local = listener.local_addr().map_err(refused)?;
    Ok((listener, local))
}

/// Serves until `stop` turns true; then what is being answered is answered, and nothing else.
pub async fn serve(listener: TcpListener, router: Router, stop: watch::Receiver<bool>) {
    serve_within(listener, router, stop, Limits::default()).await;
}

/// What callers are given.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    of_address: usize,
    patience: Patience,
}

impl Default for Limits {
    fn default() -> Self {
        let patience = Patience::default();
        Self { connections: CONNECTIONS_MAX, of_address: CONNECTIONS_OF_ADDRESS_MAX, patience }
    }
}

async fn serve_within(
    listener: TcpListener,
    router: Router,
    mut stop: watch::Receiver<bool>,
    limits: Limits,
) {
    let router = router.layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES)).layer(from_fn(refuse_large));
    let house = Arc::new(House { limits, seats: Mutex::default() });
    let mut connections = JoinSet::new();
    let mut number: u64 = 0;
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // The caller went, or there is no descriptor left: then one that waits gives its own back.
                tracing::warn!("an HTTP connection was not accepted: {error}");
                house.make_room(None);
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        number += 1;
        match house.seat(number, remote) {
            Some(seat) => {
                let place = Place { house: house.clone(), number };
                connections.spawn(converse(stream, remote, seat, place, router.clone(), stop.clone()));
            }
            None => turn_away(&stream),
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Answers requests on a stream that is no socket, one after the other, until the other side goes.
pub async fn answer_on<S, F>(stream: S, answer: impl Fn(Request) -> F)
where
    S: AsyncRead + AsyncWrite + Unpin,
    F: Future<Output = Response>,
{
    let answer = service_fn(|request: hyper::Request<Incoming>| {
        let answered = answer(request.map(Body::new));
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let http = http1::Builder::new();
    // Who hangs up in the middle does so at his own cost.
    let _ = http.serve_connection(TokioIo::new(stream), answer).await;
}

/// Sends a request on a stream that is used for nothing else.
///
/// # Errors
/// The other side is gone, or does not speak HTTP.
pub async fn ask_on<S>(stream: S, request: Request) -> Result<Response, String>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    Ok(answer.map(Body::new))
}

/// What a router answers to one request.
pub async fn answer_of(router: Router, request: Request) -> Response {
    TowerToHyperService::new(router).call(request).await.unwrap_or_else(|never| match never {})
}

/// Refuses a body that says itself that it is too large, after reading it to its end: a caller who is still sending would
/// find the connection broken instead of an answer.
async fn refuse_large(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok());
    let length: usize = length.and_then(|length| length.parse().ok()).unwrap_or(0);
    if length <= BODY_BYTES {
        return next.run(request).await;
    }
    if length <= BODY_READ_ON_BYTES {
        let mut body = request.into_body().into_data_stream();
        while let Some(Ok(_)) = body.next().await {}
    }
    let detail =
        format!("the body has {length} bytes, and at most {BODY_BYTES} are taken: send less at a time");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body too large", detail).into_response()
}

/// Who is being served.
struct House {
    limits: Limits,
    seats: Mutex<BTreeMap<u64, (IpAddr, Arc<Seat>)>>,
}

impl House {
    /// A seat for a newcomer, if there is one or somebody who waits can make room.
    fn seat(&self, number: u64, remote: SocketAddr) -> Option<Arc<Seat>> {
        let network = network_of(remote.ip());
        let of_network = |(whose, _): &&(IpAddr, Arc<Seat>)| *whose == network;
        let (all, of_it) = {
            let seats = self.seats();
            (seats.len(), seats.values().filter(of_network).count())
        };
        let crowded = !network.is_loopback() && of_it >= self.limits.of_address;
        if crowded && !self.make_room(Some(network)) {
            return None;
        }
        if !crowded && all >= self.limits.connections && !self.make_room(None) {
            return None;
        }
        let seat = Arc::new(Seat::new(self.limits.patience));
        self.seats().insert(number, (network, seat.clone()));
        Some(seat)
    }

    /// Sends away the connection that has waited longest for its caller, of all or of one network: between requests
    /// rather than in the middle of one.
    fn make_room(&self, of: Option<IpAddr>) -> bool {
        let mut seats = self.seats();
        let of_it = seats.iter().filter(|(_, (whose, _))| of.is_none_or(|of| *whose == of));
        let waiting = of_it.filter_map(|(number, (_, seat))| Some((seat.waits_since()?, *number)));
        let Some((_, longest)) = waiting.min() else { return false };
        if let Some((_, seat)) = seats.remove(&longest) {
            seat.send_away();
        }
        true
    }

    fn seats(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, (IpAddr, Arc<Seat>)>> {
        // Every change is a single insertion or removal: nothing is half done after a panic.
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the house, given back when the connection ends.
struct Place {
    house: Arc<House>,
    number: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.house.seats().remove(&self.number);
    }
}

/// Whom an address stands for: an IPv6 line is a /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) if !v6.is_loopback() => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
        other => other,
    }
}

/// Holds one connection to its end, its deadline, or the node's stop.
async fn converse(
    stream: TcpStream,
    remote: SocketAddr,
    seat: Arc<Seat>,
    _place: Place,
    router: Router,
    mut stop: watch::Receiver<bool>,
) {
    // Answers are small and somebody waits for each.
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let serving = seat.clone();
    let answer = service_fn(move |request: hyper::Request<Incoming>| {
        let mut request: Request = serving.take_in(request);
        request.extensions_mut().insert(ConnectInfo(remote));
        let (answering, serving) = (router.call(request), serving.clone());
        async move { Ok::<Response<Body>, Infallible>(serving.give_out(answering.await?)) }
    });
    let io = TokioIo::new(seat.watch(stream));
    let connection = http1::Builder::new().max_buf_size(HEAD_BYTES).serve_connection(io, answer);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        () = seat.expires() => return,
        _ = stop.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
    }
    tokio::select! {
        _ = connection => {}
        () = seat.expires() => {}
    }
}

/// The one word that costs nothing: what does not fit into the socket at once is not said.
fn turn_away(stream: &TcpStream) {
    let detail = "every connection is in use; try again in a moment";
    let problem = Problem::new(axum::http::StatusCode::SERVICE_UNAVAILABLE, "busy", detail);
    let body = problem.to_json().to_string();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
         connection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.try_write(answer.as_bytes());
}

#[cfg(test)]
mod tests;
