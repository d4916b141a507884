//! One link's frames, between the transport and the store's task, with a limit on everything that a peer can make wait:
//! frames and bytes of it that the store has not judged yet (so that its share of the store's attention is bounded, however
//! much it says), bytes a second in the long run, and answers that it does not read. Nothing here looks into a frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use engine::ids::WriterId;
use engine::sync::Dialect;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::store::{Seat, StoreHandle};
use crate::metrics::{RECEIVED_BYTES, SENT_BYTES};
use crate::transport::{FRAME_LIMIT, Link, LinkControl, close_code};

/// Frames of a link that may wait for the store's task.
const FRAMES_IN_HAND: usize = 64;
/// Their bytes: a peer's whole window, and one frame.
const BYTES_IN_HAND: usize = (4 << 20) + FRAME_LIMIT;
/// Frames that may wait for a link to take them. The window of unacknowledged batches needs a few dozen; a peer that
/// lets more wait than this does not read.
const FRAMES_WAITING: usize = 1_024;
/// Their bytes.
const BYTES_WAITING: usize = 16 << 20;

/// After the store has let go of a peer, what waits for it may still go out for this long.
const FAREWELL: Duration = Duration::from_secs(5);

/// How much a peer may say in the long run; beyond it, it is read more slowly, which its own QUIC stack notices.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    bytes_per_second: u64,
    frames_per_second: u64,
    /// So much of it may come at once, as time at full pace.
    burst: Duration,
}

/// A month of a busy till (a million sales) at once, and then more than any till sells.
pub(super) const PACE: Pace =
    Pace { bytes_per_second: 8 << 20, frames_per_second: 2_000, burst: Duration::from_secs(30) };

impl Pace {
    /// What a frame costs, as time at full pace.
    fn cost(self, bytes: usize) -> Duration {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let micros = bytes.saturating_mul(1_000_000) / self.bytes_per_second;
        Duration::from_micros(micros.saturating_add(1_000_000 / self.frames_per_second))
    }
}

/// How far a peer has gone ahead of its pace.
#[derive(Debug, Default)]
struct Paced {
    free_at: Option<Instant>,
}

impl Paced {
    /// Counts a frame; how long to wait before the next is read.
    fn count(&mut self, pace: Pace, bytes: usize, now: Instant) -> Duration {
        let free_at = self.free_at.unwrap_or(now).max(now) + pace.cost(bytes);
        self.free_at = Some(free_at);
        (free_at - now).saturating_sub(pace.burst)
    }
}

/// The room that a frame takes until the store has judged it, and its seat if it is a bulk.
pub(crate) struct InHand {
    _frame: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
    seat: Option<Seat>,
}

impl InHand {
    /// The seat, which is kept until the books have the bulk.
    pub(super) fn take_seat(&mut self) -> Option<Seat> {
        self.seat.take()
    }
}

/// Where a store's task puts what a peer shall get. Letting go of it ends the link: what waits is still sent, for a moment,
/// and a peer that does not even read that is cut off with it.
pub(crate) struct Outbox {
    frames: mpsc::Sender<(Vec<u8>, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
    control: LinkControl,
}

impl Outbox {
    /// False when the peer does not read, or is gone: then the link is cut at once, with all that waits on it.
    pub(super) fn put(&self, frame: Vec<u8>) -> bool {
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let room = Arc::clone(&self.room).try_acquire_many_owned(bytes);
        let put = room.is_ok_and(|room| self.frames.try_send((frame, room)).is_ok());
        if !put {
            self.control.close(close_code::STALLED, "it does not read");
        }
        put
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        // No runtime any more: no links either.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let control = self.control.clone();
        runtime.spawn(async move {
            tokio::time::sleep(FAREWELL).await;
            control.close(close_code::DONE, "the conversation is over");
        });
    }
}

/// Carries frames between a link and the store's task until either ends.
pub(super) async fn serve(store: StoreHandle, link: Link) {
    static LINKS: AtomicU64 = AtomicU64::new(1);
    let (peer, number) = (WriterId(link.peer()), LINKS.fetch_add(1, Ordering::Relaxed));
    let dialect = if link.knows_short() { Dialect::Short } else { Dialect::Full };
    let (sender, mut receiver) = link.split();
    let control = sender.control().clone();
    let (frames, mut to_send) = mpsc::channel::<(Vec<u8>, OwnedSemaphorePermit)>(FRAMES_WAITING);
    let sending = tokio::spawn(async move {
        while let Some((frame, _room)) = to_send.recv().await {
            SENT_BYTES.add(frame.len());
            if sender.send(frame).await.is_err() {
                return;
            }
        }
        sender.finish().await;
        control.close(close_code::DONE, "the conversation is over");
    });
    let room = Arc::new(Semaphore::new(BYTES_WAITING));
    let outbox = Outbox { frames, room, control: receiver.control().clone() };
    store.link_up(peer, number, dialect, outbox).await;
    let (frames_free, bytes_free) =
        (Arc::new(Semaphore::new(FRAMES_IN_HAND)), Arc::new(Semaphore::new(BYTES_IN_HAND)));
    let mut paced = Paced::default();
    while let Ok(Some(frame)) = receiver.recv().await {
        RECEIVED_BYTES.add(frame.len());
        let wait = paced.count(PACE, frame.len(), Instant::now());
        let bytes = u32::try_from(frame.len()).unwrap_or(u32::MAX);
        let (Ok(frame_room), Ok(byte_room)) = (
            Arc::clone(&frames_free).acquire_owned().await,
            Arc::clone(&bytes_free).acquire_many_owned(bytes).await,
        ) else {
            break;
        };
        // Of a peer that goes meanwhile, what it has said still counts.
        let seat = tokio::select! {
            biased;
            seat = store.seat(&frame) => seat,
            _ = receiver.control().closed() => None,
        };
        let in_hand = InHand { _frame: frame_room, _bytes: byte_room, seat };
        if !store.frame(peer, number, frame, in_hand).await {
            break;
        }
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
    store.link_down(peer, number).await;
    sending.abort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_may_come_with_a_months_sales_at_once_and_not_for_ever() {
        let (mut paced, now) = (Paced::default(), Instant::now());
        // 29 bytes a sale on the wire, chunks of 256 KiB.
        let chunks = 29_000_000 / (256 << 10);
        for _ in 0..chunks {
            assert_eq!(paced.count(PACE, 256 << 10, now), Duration::ZERO);
        }
        let waits: Vec<Duration> = (0..3_000).map(|_| paced.count(PACE, 256 << 10, now)).collect();
        assert!(waits.last().is_some_and(|wait| *wait > Duration::from_secs(60)), "{:?}", waits.last());
        // Tiny frames cost as well.
        let mut tiny = Paced::default();
        let last = (0..100_000).map(|_| tiny.count(PACE, 1, now)).last();
        assert!(last.is_some_and(|wait| wait > Duration::from_secs(15)), "{last:?}");
        assert_eq!(tiny.count(PACE, 1, now + Duration::from_secs(600)), Duration::ZERO, "rest pays it off");
    }
}
