//! Asks many stores, a few at a time: were it all of them at once, nothing else on the hub would get its turn until they
//! are done; were it one after another, whoever asks would wait for the turn of each busy one by itself.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use engine::replica::Replica;
use tokio::sync::mpsc;

use super::{StoreError, StoreHandle};

/// Stores that reckon at the same time.
const AT_ONCE: usize = 4;

/// Answers with the places of what was asked, as they come; the channel ends with the last.
pub fn answers<T, F>(
    asked: impl IntoIterator<Item = F>,
) -> mpsc::UnboundedReceiver<(usize, Result<T, StoreError>)>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let waiting: VecDeque<(usize, F)> = asked.into_iter().enumerate().collect();
    let workers = AT_ONCE.min(waiting.len());
    let waiting = Arc::new(Mutex::new(waiting));
    // No more answers than were asked for are ever in it.
    let (send, receive) = mpsc::unbounded_channel();
    for _ in 0..workers {
        let (waiting, send) = (Arc::clone(&waiting), send.clone());
        tokio::spawn(async move {
            let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            while let Some((at, asked)) = next() {
                let answer = asked.await;
                if send.send((at, answer)).is_err() {
                    // Nobody waits any more.
                    return;
                }
            }
        });
    }
    receive
}

/// What each of some stores answers to the same question, in their order.
///
/// # Errors
/// The first of them that refuses: the node is stopping, or the store changes hands.
pub async fn ask_each<T, Q>(
    stores: impl IntoIterator<Item = StoreHandle>,
    question: Q,
) -> Result<Vec<T>, StoreError>
where
    T: Send + 'static,
    Q: FnOnce(&mut Replica) -> T + Clone + Send + 'static,
{
    let ask = |store: StoreHandle| {
        let question = question.clone();
        async move { store.ask(question).await }
    };
    let asked: Vec<_> = stores.into_iter().map(ask).collect();
    gather(asked).await
}

/// All answers, in the order of asking.
///
/// # Errors
/// The first of them that refuses, or the runtime ends.
pub async fn gather<T, F>(asked: impl IntoIterator<Item = F>) -> Result<Vec<T>, StoreError>
where
    T: Send + 'static,
    F: Future<Output = Result<T, StoreError>> + Send + 'static,
{
    let asked: Vec<F> = asked.into_iter().collect();
    let count = asked.len();
    let (mut answers, mut rows) = (answers(asked), Vec::new());
    while let Some((at, answer)) = answers.recv().await {
        rows.push((at, answer?));
    }
    if rows.len() < count {
        return Err(StoreError::Stopping);
    }
    rows.sort_by_key(|row| row.0);
    Ok(rows.into_iter().map(|row| row.1).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_few_at_a_time_and_in_the_order_of_asking() {
        static UNDER_WAY: AtomicUsize = AtomicUsize::new(0);
        let ask = |number: u64| async move {
            let others = UNDER_WAY.fetch_add(1, Ordering::Relaxed);
            assert!(others < AT_ONCE);
            tokio::time::sleep(Duration::from_millis(number * 7 % 20)).await;
            UNDER_WAY.fetch_sub(1, Ordering::Relaxed);
            Ok(number)
        };
        assert_eq!(gather((0..50).map(ask)).await.unwrap(), (0..50).collect::<Vec<u64>>());
        let refused =
            |number: u64| async move { if number == 3 { Err(StoreError::Stopping) } else { Ok(number) } };
        assert!(gather((0..50).map(refused)).await.is_err());
    }
}
