//! How long an HTTP connection may take for each thing it does, so that a caller who says a byte a minute, or reads none,
//! costs a socket for seconds and not for ever. A [`Seat`] is told by the connection's bytes and bodies what is going on;
//! it decides nothing but whether time is up.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

/// How often the clock is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// So long a body may be on its way, or an answer be unread, before somebody else may get the place of a full house.
const IN_THE_MIDDLE: Duration = Duration::from_secs(2);

/// The deadlines.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// For the head of a request, from its first byte, and for the first byte of the first request.
    pub(super) head: Duration,
    /// Between two requests.
    pub(super) rest: Duration,
    /// For a request's body, and one second more for each `body_bytes_per_second` of it that have come.
    pub(super) body: Duration,
    /// See `body`.
    pub(super) body_bytes_per_second: u64,
    /// For the caller to take any byte of an answer.
    pub(super) reading: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(10),
            rest: Duration::from_secs(75),
            body: Duration::from_secs(20),
            body_bytes_per_second: 8 << 10,
            reading: Duration::from_secs(30),
        }
    }
}

/// What a connection is doing.
#[derive(Debug, Clone, Copy)]
enum Doing {
    /// Nothing was said yet, or nothing since the last answer.
    Waiting { since: Instant, until: Instant },
    /// A head has begun.
    Head { since: Instant, began: Instant },
    /// A body is arriving.
    Body { since: Instant, bytes: u64 },
    /// The request is here; its answer is being made or sent.
    Answering,
}

#[derive(Debug)]
struct State {
    doing: Doing,
    /// Since when the caller has taken no byte of what is ready for it.
    unread_since: Option<Instant>,
}

/// A connection's place, and its clock.
#[derive(Debug)]
pub(super) struct Seat {
    patience: Patience,
    state: Mutex<State>,
    away: Notify,
}

impl Seat {
    pub(super) fn new(patience: Patience) -> Self {
        let since = Instant::now();
        let doing = Doing::Waiting { since, until: since + patience.head };
        Self { patience, state: Mutex::new(State { doing, unread_since: None }), away: Notify::new() }
    }

    /// Since when it waits for its caller, if it does; true: in the middle of something, and not only since just now.
    pub(super) fn waits_since(&self) -> Option<(bool, Instant)> {
        let state = self.state();
        let long = |since: Instant| since.elapsed() >= IN_THE_MIDDLE;
        match state.doing {
            Doing::Waiting { since, .. } | Doing::Head { since, .. } => Some((false, since)),
            Doing::Body { since, .. } => Some((true, since)).filter(|_| long(since)),
            Doing::Answering => state.unread_since.filter(|since| long(*since)).map(|since| (true, since)),
        }
    }

    /// Its connection is to end now.
    pub(super) fn send_away(&self) {
        self.away.notify_one();
    }

    /// Comes back when the connection's time is up, or it was sent away.
    pub(super) async fn expires(&self) {
        loop {
            let (deadline, now) = (self.deadline(), Instant::now());
            if deadline.is_some_and(|deadline| deadline <= now) {
                return;
            }
            let look = deadline.map_or(now + LOOK, |deadline| deadline.min(now + LOOK));
            tokio::select! {
                () = self.away.notified() => return,
                () = sleep_until(look) => {}
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let state = self.state();
        let doing = match state.doing {
            Doing::Waiting { until, .. } => Some(until),
            Doing::Head { began, .. } => Some(began + self.patience.head),
            Doing::Body { since, bytes } => {
                let extra = Duration::from_secs(bytes / self.patience.body_bytes_per_second);
                Some(since + self.patience.body + extra)
            }
            Doing::Answering => None,
        };
        let unread = state.unread_since.map(|since| since + self.patience.reading);
        doing.into_iter().chain(unread).min()
    }

    /// The connection's bytes, watched.
    pub(super) fn watch<S>(self: &Arc<Self>, stream: S) -> Watched<S> {
        Watched { stream, seat: self.clone() }
    }

    /// A request whose head is here.
    pub(super) fn take_in<B>(self: &Arc<Self>, request: axum::http::Request<B>) -> axum::http::Request<Body>
    where
        B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let whole = request.body().is_end_stream();
        self.state().doing =
            if whole { Doing::Answering } else { Doing::Body { since: Instant::now(), bytes: 0 } };
        request.map(|body| Body::new(Arriving { body, seat: self.clone() }))
    }

    /// An answer on its way out.
    pub(super) fn give_out(
        self: Arc<Self>,
        answer: axum::http::Response<Body>,
    ) -> axum::http::Response<Body> {
        self.state().doing = Doing::Answering;
        answer.map(|body| Body::new(Leaving { body, seat: self }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is a single assignment: nothing is half done after a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn bytes_came(&self) {
        let mut state = self.state();
        if let Doing::Waiting { since, .. } = state.doing {
            state.doing = Doing::Head { since, began: Instant::now() };
        }
    }

    fn write_was(&self, taken: bool) {
        let mut state = self.state();
        state.unread_since = if taken { None } else { state.unread_since.or_else(|| Some(Instant::now())) };
    }

    fn body_came(&self, more: u64) {
        if let Doing::Body { bytes, .. } = &mut self.state().doing {
            *bytes += more;
        }
    }

    fn body_is_here(&self) {
        let mut state = self.state();
        if matches!(state.doing, Doing::Body { .. }) {
            state.doing = Doing::Answering;
        }
    }

    fn answered(&self) {
        let since = Instant::now();
        self.state().doing = Doing::Waiting { since, until: since + self.patience.rest };
    }
}

/// A stream that tells its seat when bytes come and when none are taken.
pub(super) struct Watched<S> {
    stream: S,
    seat: Arc<Seat>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(context, buffer))?;
        if buffer.filled().len() > before {
            self.seat.bytes_came();
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.seat.write_was(written.is_ready());
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        self.seat.write_was(written.is_ready());
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// The body of a request. Dropped unread, it is as good as here: nobody waits for it.
struct Arriving<B> {
    body: B,
    seat: Arc<Seat>,
}

impl<B: HttpBody<Data = Bytes> + Unpin> HttpBody for Arriving<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                self.seat.body_came(u64::try_from(bytes).unwrap_or(u64::MAX));
            }
            Some(Err(_)) | None => self.seat.body_is_here(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B> Drop for Arriving<B> {
    fn drop(&mut self) {
        self.seat.body_is_here();
    }
}

/// The body of an answer: when it is gone, the caller may ask the next.
struct Leaving {
    body: Body,
    seat: Arc<Seat>,
}

impl HttpBody for Leaving {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.seat.answered();
    }
}
