//! Asks many stores at once and waits no longer than a page may: what comes later is reckoned all the same, kept
//! (`kept`), and there when the page is read again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use maud::{Markup, html};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::show;
use crate::runtime::store::StoreError;

/// So long a page waits for its stores.
const PATIENCE: Duration = Duration::from_millis(120);
/// Stores that reckon for a page at the same time: were it all of them, nothing else would get its turn until they are done.
const AT_ONCE: usize = 4;
/// A page that is not whole is read again after so long, ms.
const AGAIN_MS: u32 = 700;

/// What came, in the order of asking, and how many answers are still to come.
pub struct Gathered<T> {
    /// Answers with their places.
    pub rows: Vec<(usize, T)>,
    /// Answers that did not come in time.
    pub pending: usize,
}

/// Answers of as many as have one in time. Those that have none go on by themselves.
///
/// # Errors
/// One of them refuses.
pub async fn gather<T, F>(asked: impl IntoIterator<Item = F>) -> Result<Gathered<T>, StoreError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let waiting: VecDeque<(usize, F)> = asked.into_iter().enumerate().collect();
    let mut pending = waiting.len();
    let waiting = Arc::new(Mutex::new(waiting));
    let (send, mut receive) = mpsc::unbounded_channel();
    for _ in 0..AT_ONCE.min(pending) {
        let (waiting, send) = (Arc::clone(&waiting), send.clone());
        tokio::spawn(async move {
            let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            while let Some((at, asked)) = next() {
                // Nobody waits any more for an answer that comes late.
                let _ = send.send((at, asked.await));
            }
        });
    }
    drop(send);
    let until = Instant::now() + PATIENCE;
    let mut rows = Vec::with_capacity(pending);
    while let Ok(Some((at, answer))) = timeout_at(until, receive.recv()).await {
        rows.push((at, answer?));
        pending -= 1;
    }
    rows.sort_by_key(|row| row.0);
    Ok(Gathered { rows, pending })
}

/// What a page says that does not have all its stores; it reads itself again.
pub fn unfinished(pending: usize) -> Markup {
    html! {
        @if pending > 0 {
            p.notice.warn role="status" data-again=(AGAIN_MS) {
                (show::count(pending as u64, "store is", "stores are")) " still being reckoned and not shown yet. This page completes itself."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use super::*;

    type Asked = Pin<Box<dyn Future<Output = Result<u32, StoreError>> + Send>>;

    #[tokio::test(start_paused = true)]
    async fn what_does_not_come_in_time_is_counted_and_holds_nobody_up() {
        let after = |ms: u64, value: u32| -> Asked {
            Box::pin(async move {
                tokio::time::sleep(Duration::from_millis(ms)).await;
                Ok(value)
            })
        };
        let begun = Instant::now();
        let some = gather([after(90, 1), after(900, 2), after(5, 3)]).await.unwrap();
        assert_eq!((some.rows, some.pending), (vec![(0, 1), (2, 3)], 1));
        assert_eq!(begun.elapsed().as_millis(), PATIENCE.as_millis());
        let all = gather([after(90, 1), after(5, 3)]).await.unwrap();
        assert_eq!((all.rows, all.pending), (vec![(0, 1), (1, 3)], 0));
        let refused: [Asked; 1] = [Box::pin(async { Err(StoreError::Stopping) })];
        assert!(gather(refused).await.is_err());
        assert!(unfinished(0).into_string().is_empty());
        assert!(unfinished(1).into_string().contains("1 store is still"));
    }
}
