//! How many stores of a node take a bulk in at the same time. What a store has taken in and not yet judged is in memory, so a
//! hub to which a thousand stores return at once would hold all of it; a few stores at a time keep every core as busy, and
//! the others' bulks wait packed, as they came. Single sales wait for nobody.

use std::sync::Arc;
use std::time::Duration;

use engine::sync::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// Seats for each core: enough that none waits for a disk.
const SEATS_A_CORE: usize = 4;
/// Batches of fewer bytes need no seat: some 60 records.
const BULK_BYTES: usize = 2 << 10;
/// Whoever has waited so long goes on without one: a store that cannot go on does not stop the others.
const PATIENCE: Duration = Duration::from_secs(60);

/// The seats of a node. Clones share them.
#[derive(Clone)]
pub struct Seats(Arc<Semaphore>);

/// Where the bulks of a store's peers wait: one at a time has a seat. Clones share it.
#[derive(Clone)]
pub(super) struct Queue {
    node: Seats,
    store: Arc<Semaphore>,
}

/// A seat, free again when it is let go of.
pub(crate) struct Seat {
    _of_node: OwnedSemaphorePermit,
    _of_store: OwnedSemaphorePermit,
}

impl Seats {
    /// So many seats.
    #[must_use]
    pub fn new(count: usize) -> Self {
        Self(Arc::new(Semaphore::new(count)))
    }

    /// As many as this machine's cores can keep busy.
    #[must_use]
    pub fn of_machine() -> Self {
        Self::new(SEATS_A_CORE * std::thread::available_parallelism().map_or(1, usize::from))
    }

    /// Whether every seat is taken.
    pub(super) fn are_taken(&self) -> bool {
        self.0.available_permits() == 0
    }
}

impl Queue {
    pub(super) fn new(node: Seats) -> Self {
        Self { node, store: Arc::new(Semaphore::new(1)) }
    }

    /// A seat for a frame, in the order of asking; none for one that brings little, or where none became free in good time.
    pub(super) async fn seat(&self, frame: &[u8]) -> Option<Seat> {
        if frame.len() < BULK_BYTES || !Message::is_batches(frame) {
            return None;
        }
        let seat = async {
            let of_store = Arc::clone(&self.store).acquire_owned().await.ok()?;
            let of_node = Arc::clone(&self.node.0).acquire_owned().await.ok()?;
            Some(Seat { _of_node: of_node, _of_store: of_store })
        };
        timeout(PATIENCE, seat).await.ok().flatten()
    }
}

#[cfg(test)]
mod tests {
    use engine::sync::Carried;
    use tokio::time::Instant;

    use super::*;

    /// A frame with a batch of so many bytes.
    fn brings(bytes: usize) -> Vec<u8> {
        let batch = Carried { bytes: vec![0; bytes], change: [0; 32] };
        Message::Batches { number: 1, batches: vec![batch] }.encode()
    }

    async fn bulk(queue: &Queue) -> Option<Seat> {
        queue.seat(&brings(BULK_BYTES)).await
    }

    /// Whether a seat is there without waiting.
    async fn is_free(queue: &Queue) -> bool {
        timeout(Duration::from_millis(1), bulk(queue)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_has_one_seat_and_a_node_a_few() {
        let seats = Seats::new(2);
        let queues = [(); 3].map(|()| Queue::new(seats.clone()));
        let first = bulk(&queues[0]).await.unwrap();
        assert!(!seats.are_taken());
        assert!(!is_free(&queues[0]).await, "its own bulk before");
        let second = bulk(&queues[1]).await.unwrap();
        assert!(seats.are_taken());
        assert!(!is_free(&queues[2]).await);
        drop(first);
        assert!(is_free(&queues[2]).await);
        assert!(is_free(&queues[0]).await);
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sale_waits_for_nobody_and_a_bulk_not_for_ever() {
        let queue = Queue::new(Seats::new(1));
        let taken = bulk(&queue).await;
        let begun = Instant::now();
        assert!(queue.seat(&brings(300)).await.is_none());
        let days = Message::Days(vec![(engine::time::Day(1), [0; 16]); BULK_BYTES]).encode();
        assert!(queue.seat(&days).await.is_none(), "it brings no records, however long it is");
        assert_eq!(begun.elapsed(), Duration::ZERO);
        assert!(bulk(&queue).await.is_none());
        assert!(begun.elapsed() >= PATIENCE);
        drop(taken);
        assert!(bulk(&queue).await.is_some());
    }
}
