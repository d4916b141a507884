//! A link: frames to and from one peer, over the control stream of its connection.
//!
//! A frame is a little-endian u32 length, at most [`FRAME_LIMIT`], and that many bytes. Before the first frame
//! each side sends the eight bytes `TSLINK1\n`, the accepting side only after it has admitted the caller: so a
//! dialled link is known to be welcome. What waits in the queue goes out together; the queue is limited in frames
//! and in bytes, and a full queue makes the sender wait. Nothing here knows what a frame means.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

use crate::identity::{PublicKey, Role, facts};

use super::leisure::Leisure;
use super::quic::{Connection, End, RecvHalf, SendHalf, Stream};
use super::{ALPN_LINK_SHORT, close_code};

/// Longest frame: a transfer chunk of 1 MiB and its envelope.
pub const FRAME_LIMIT: usize = 1024 * 1024 + 64 * 1024;
/// Frames that wait to be sent.
pub const QUEUE_FRAMES: usize = 256;
/// Bytes that wait to be sent.
pub const QUEUE_BYTES: usize = 2 * FRAME_LIMIT;
/// First bytes in both directions; the digit is the version of the framing.
const PREFACE: &[u8; 8] = b"TSLINK1\n";
/// Smaller frames are copied together into one piece; larger ones travel as they are.
const COPY_LIMIT: usize = 16 * 1024;
/// Most bytes taken from the stream at once: memory grows with what has arrived, not with what was announced.
const READ_LIMIT: usize = 64 * 1024;
/// A frame that has begun must be complete after this …
const FRAME_PATIENCE: Duration = Duration::from_secs(20);
/// … plus a second for each so many bytes announced: a poor mobile network is slow, but not silent.
const FRAME_BYTES_PER_SECOND: usize = 8 * 1024;

/// Why a link could not send or receive. The link is of no use after any of them but `TooLong` in sending.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The connection ended.
    #[error("the link is closed: {0}")]
    Closed(#[from] End),
    /// A frame beyond the limit: ours is not sent, the peer's is not read and the link is closed.
    #[error("a frame of {bytes} bytes on the link, at most {FRAME_LIMIT} are allowed; split it")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// The peer ended the stream within a frame.
    #[error("the peer ended the link in the middle of a frame ({have} of {bytes} bytes)")]
    Truncated {
        /// Bytes that came.
        have: usize,
        /// Bytes that were announced.
        bytes: usize,
    },
    /// The peer began a frame and did not go on.
    #[error("the peer did not finish a frame of {bytes} bytes within {seconds} s; the link was closed")]
    Stalled {
        /// Bytes that were announced.
        bytes: usize,
        /// How long we waited.
        seconds: u64,
    },
    /// The peer speaks something else.
    #[error(
        "the peer does not speak this version of the link protocol; update both nodes to the same version"
    )]
    NotALink,
}

/// Figures of a link, for status pages.
#[derive(Debug, Clone, Copy)]
pub struct LinkStats {
    /// Round-trip time.
    pub rtt: Duration,
    /// UDP bytes sent.
    pub sent_bytes: u64,
    /// UDP bytes received.
    pub received_bytes: u64,
    /// When we last heard from the peer, keep-alives included; as exact as `stats` is called often.
    pub last_received: std::time::Instant,
}

/// A connection to one peer, both directions.
pub struct Link {
    sender: LinkSender,
    receiver: LinkReceiver,
}

impl Link {
    /// The dialling side: opens the control stream and waits to be welcomed. `leisure`: how the link rests, if it was dialled
    /// for a hub that is the only one.
    pub(super) async fn dialled(connection: Connection, leisure: Option<Leisure>) -> Result<Self, LinkError> {
        let mut stream = connection.open_stream().await?;
        stream.send.write_all(vec![PREFACE.to_vec()]).await?;
        let read = read_preface(&connection, &mut stream).await?;
        Ok(Self::over(connection, stream, read.0, read.1, leisure))
    }

    /// The accepting side, after the caller was admitted.
    pub(super) async fn accepted(connection: Connection) -> Result<Self, LinkError> {
        let mut stream = connection.accept_stream().await?;
        let read = read_preface(&connection, &mut stream).await?;
        stream.send.write_all(vec![PREFACE.to_vec()]).await?;
        Ok(Self::over(connection, stream, read.0, read.1, None))
    }

    fn over(
        connection: Connection,
        stream: Stream,
        peer: (PublicKey, Role),
        buffer: Vec<u8>,
        leisure: Option<Leisure>,
    ) -> Self {
        let heard = Arc::new(Mutex::new((0, Instant::now())));
        let control = LinkControl { connection, peer: peer.0, role: peer.1, heard, leisure };
        let (queue, waiting) = mpsc::channel(QUEUE_FRAMES);
        let writer = tokio::spawn(write_frames(stream.send, waiting));
        let room = Arc::new(Semaphore::new(QUEUE_BYTES));
        let alive = Arc::new(Alive(control.connection.clone()));
        Self {
            sender: LinkSender { queue, room, writer, control: control.clone(), _alive: alive.clone() },
            receiver: LinkReceiver {
                stream: stream.recv,
                buffer,
                used: 0,
                began: None,
                control,
                _alive: alive,
            },
        }
    }

    /// The peer's name: the public key of its certificate.
    #[must_use]
    pub fn peer(&self) -> PublicKey {
        self.sender.control.peer
    }

    /// What the peer's certificate says it is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.sender.control.role
    }

    /// Whether both ends know short batches, as they agreed when they connected.
    #[must_use]
    pub fn knows_short(&self) -> bool {
        self.sender.control.connection.alpn() == ALPN_LINK_SHORT
    }

    /// Where the peer is now; changes when it roams.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.sender.control.remote()
    }

    /// As [`LinkSender::send`].
    ///
    /// # Errors
    /// As there.
    pub async fn send(&self, frame: Vec<u8>) -> Result<(), LinkError> {
        self.sender.send(frame).await
    }

    /// As [`LinkReceiver::recv`].
    ///
    /// # Errors
    /// As there.
    pub async fn recv(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        self.receiver.recv().await
    }

    /// A handle to watch and close the link with.
    #[must_use]
    pub fn control(&self) -> LinkControl {
        self.sender.control.clone()
    }

    /// For two tasks.
    #[must_use]
    pub fn split(self) -> (LinkSender, LinkReceiver) {
        (self.sender, self.receiver)
    }
}

/// Shared by both halves: a link that nobody holds any more is closed, although others still watch it.
struct Alive(Connection);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.close(close_code::DONE, "done");
    }
}

/// Watches and closes a link. Cheap to clone; the link ends when both its halves are dropped, watched or not.
#[derive(Clone)]
pub struct LinkControl {
    connection: Connection,
    peer: PublicKey,
    role: Role,
    /// Datagrams counted, and when that count last changed.
    heard: Arc<Mutex<(u64, Instant)>>,
    leisure: Option<Leisure>,
}

impl LinkControl {
    /// The peer's name.
    #[must_use]
    pub fn peer(&self) -> PublicKey {
        self.peer
    }

    /// What the peer is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Where the peer is now.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.connection.remote()
    }

    /// Ends the link now; what waits in the queue is lost. See [`LinkSender::finish`] for the polite way.
    pub fn close(&self, code: u32, reason: &str) {
        self.connection.close(code, reason);
    }

    /// Until the link ends, and why.
    pub async fn closed(&self) -> End {
        self.connection.closed().await
    }

    /// Figures as of now.
    #[must_use]
    pub fn stats(&self) -> LinkStats {
        let figures = self.connection.figures();
        let mut heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        if heard.0 != figures.received_datagrams {
            *heard = (figures.received_datagrams, Instant::now());
        }
        LinkStats {
            rtt: figures.rtt,
            sent_bytes: figures.sent_bytes,
            received_bytes: figures.received_bytes,
            last_received: heard.1.into_std(),
        }
    }

    /// How the link rests; `None`: it never does, because another hub may have to be found soon.
    pub(super) fn leisure(&self) -> Option<Leisure> {
        self.leisure
    }

    /// The connection itself, for what goes beside the frames.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Closes the connection over the peer's fault.
    fn blame(&self, error: LinkError, code: u32) -> LinkError {
        self.connection.close(code, &error.to_string());
        error
    }
}

/// A frame and the room it takes in the queue.
type Waiting = (Vec<u8>, OwnedSemaphorePermit);

/// The sending half.
pub struct LinkSender {
    queue: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    writer: JoinHandle<()>,
    control: LinkControl,
    _alive: Arc<Alive>,
}

impl LinkSender {
    /// Queues a frame, waiting while the queue holds [`QUEUE_FRAMES`] frames or [`QUEUE_BYTES`] bytes. That it is
    /// queued does not mean that it arrived. Frames of one caller keep their order.
    ///
    /// # Errors
    /// When the link has ended, or the frame is too long.
    pub async fn send(&self, frame: Vec<u8>) -> Result<(), LinkError> {
        let bytes = frame.len();
        let too_long = LinkError::TooLong { bytes };
        if bytes > FRAME_LIMIT {
            return Err(too_long);
        }
        let permits = u32::try_from(bytes).map_err(|_| too_long)?;
        let queued = async {
            let room = self.room.clone().acquire_many_owned(permits).await.ok()?;
            self.queue.send((frame, room)).await.ok()
        };
        match queued.await {
            Some(()) => Ok(()),
            None => Err(LinkError::Closed(self.control.connection.end().unwrap_or(End::Local))),
        }
    }

    /// Sends what waits, ends our direction, and returns when the peer has all of it or the link has ended. The
    /// peer's `recv` gives `None` then.
    pub async fn finish(self) {
        let Self { queue, writer, .. } = self;
        drop(queue);
        let _ = writer.await;
    }

    /// A handle to watch and close the link with.
    #[must_use]
    pub fn control(&self) -> &LinkControl {
        &self.control
    }
}

/// Until the queue's senders are gone or the connection is; then dropping `waiting` frees whoever waits.
async fn write_frames(mut stream: SendHalf, mut waiting: mpsc::Receiver<Waiting>) {
    let mut frames = Vec::with_capacity(QUEUE_FRAMES);
    while waiting.recv_many(&mut frames, QUEUE_FRAMES).await > 0 {
        let mut rooms = Vec::with_capacity(frames.len());
        let mut pieces = Vec::new();
        let mut small = Vec::new();
        for (frame, room) in frames.drain(..) {
            // `send` has checked the length.
            let length = u32::try_from(frame.len()).expect("a frame is at most FRAME_LIMIT");
            small.extend(length.to_le_bytes());
            if frame.len() <= COPY_LIMIT {
                small.extend_from_slice(&frame);
            } else {
                pieces.push(std::mem::take(&mut small));
                pieces.push(frame);
            }
            rooms.push(room);
        }
        if !small.is_empty() {
            pieces.push(small);
        }
        if stream.write_all(pieces).await.is_err() {
            return;
        }
    }
    stream.finish().await;
}

/// The receiving half.
pub struct LinkReceiver {
    stream: RecvHalf,
    /// Bytes that have arrived and from where on they are unread.
    buffer: Vec<u8>,
    used: usize,
    /// When the frame that is being received began.
    began: Option<Instant>,
    control: LinkControl,
    _alive: Arc<Alive>,
}

impl LinkReceiver {
    /// The next frame; `None` when the peer has finished, or closed the connection with code 0. Waits as long as the
    /// connection lives, but a frame that has begun must go on. Safe to cancel: no byte is lost.
    ///
    /// # Errors
    /// When the connection ends otherwise, or the peer breaks the framing (the connection is then closed).
    pub async fn recv(&mut self) -> Result<Option<Vec<u8>>, LinkError> {
        // Not under a deadline: between frames a link may rest.
        if self.unread().is_empty() && !self.read_more().await? {
            return Ok(None);
        }
        // Kept across cancelled calls, or a receiver inside a `select!` would wait for ever.
        let began = *self.began.get_or_insert_with(Instant::now);
        self.fill_by(began, FRAME_PATIENCE, 4, 0).await?;
        let head = self.unread().first_chunk::<4>().copied().unwrap_or_default();
        let bytes = usize::try_from(u32::from_le_bytes(head)).unwrap_or(usize::MAX);
        if bytes > FRAME_LIMIT {
            return Err(self.control.blame(LinkError::TooLong { bytes }, close_code::PROTOCOL));
        }
        let extra = u64::try_from(bytes / FRAME_BYTES_PER_SECOND).unwrap_or(0);
        self.fill_by(began, FRAME_PATIENCE + Duration::from_secs(extra), 4 + bytes, bytes).await?;
        self.began = None;
        Ok(Some(self.take_frame(bytes)))
    }

    /// A handle to watch and close the link with.
    #[must_use]
    pub fn control(&self) -> &LinkControl {
        &self.control
    }

    fn unread(&self) -> &[u8] {
        &self.buffer[self.used..]
    }

    async fn fill_by(
        &mut self,
        began: Instant,
        patience: Duration,
        wanted: usize,
        bytes: usize,
    ) -> Result<(), LinkError> {
        match timeout_at(began + patience, self.fill(wanted)).await {
            Ok(filled) => filled,
            Err(_) => {
                let stalled = LinkError::Stalled { bytes, seconds: patience.as_secs() };
                Err(self.control.blame(stalled, close_code::STALLED))
            }
        }
    }

    async fn fill(&mut self, wanted: usize) -> Result<(), LinkError> {
        while self.unread().len() < wanted {
            if !self.read_more().await? {
                let have = self.unread().len();
                return Err(self
                    .control
                    .blame(LinkError::Truncated { have, bytes: wanted }, close_code::PROTOCOL));
            }
        }
        Ok(())
    }

    async fn read_more(&mut self) -> Result<bool, LinkError> {
        if self.used > 0 {
            self.buffer.drain(..self.used);
            self.used = 0;
        }
        match self.stream.read_into(&mut self.buffer, READ_LIMIT).await {
            Err(End::Peer { code, .. }) if code == u64::from(close_code::DONE) => Ok(false),
            other => Ok(other?),
        }
    }

    fn take_frame(&mut self, bytes: usize) -> Vec<u8> {
        let end = 4 + bytes;
        // A large frame alone in the buffer is handed over without a copy of its own buffer.
        if self.used == 0 && self.buffer.len() == end && bytes > COPY_LIMIT {
            let mut frame = std::mem::take(&mut self.buffer);
            frame.drain(..4);
            return frame;
        }
        let frame = self.unread()[4..end].to_vec();
        self.used += end;
        frame
    }
}

/// Waits for the peer's first bytes; gives its name and what came after them.
async fn read_preface(
    connection: &Connection,
    stream: &mut Stream,
) -> Result<((PublicKey, Role), Vec<u8>), LinkError> {
    let blame = |error: LinkError| {
        connection.close(close_code::PROTOCOL, &error.to_string());
        error
    };
    let certificate = connection.peer_certificate().ok_or_else(|| blame(LinkError::NotALink))?;
    let facts = facts(&certificate).map_err(|e| blame(LinkError::Closed(End::Handshake(e.to_string()))))?;
    let mut buffer = Vec::new();
    while buffer.len() < PREFACE.len() {
        if !stream.recv.read_into(&mut buffer, READ_LIMIT).await? {
            return Err(blame(LinkError::NotALink));
        }
    }
    if !buffer.starts_with(PREFACE) {
        return Err(blame(LinkError::NotALink));
    }
    buffer.drain(..PREFACE.len());
    Ok(((facts.public_key, facts.role), buffer))
}
