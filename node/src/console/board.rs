//! What every store last said for a page that shows them all. A page waits a moment for the newest word of all stores; what
//! comes later is there at its next reading, and until then it shows what was said before. One pass over the stores goes
//! at a time, and rests, so that pages of a busy company cannot take the hub for themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use engine::ids::StoreId;
use maud::{Markup, html};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::show;
use crate::runtime::store::StoreError;
use crate::runtime::store::several::answers;

/// So long a page waits for a pass that began after it was asked for.
const PATIENCE: Duration = Duration::from_millis(120);
/// After a pass, so many times as long as it took, none begins.
const REST: u32 = 3;
/// A page that lacks a store is read again after so long, ms; one that shows something older, after so long.
const UNFINISHED_MS: u32 = 700;
const OLDER_MS: u32 = 2_000;

/// The last words of all stores.
pub struct Board<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Number of the last pass that ended.
    ended: watch::Sender<u64>,
}

struct State<T> {
    rows: BTreeMap<StoreId, Arc<T>>,
    begun: u64,
    rests_until: Instant,
}

/// What a page shows.
pub struct Reading<T> {
    /// The stores that are known, in the order of asking.
    pub rows: Vec<Arc<T>>,
    /// Stores that have never answered yet.
    pub unknown: usize,
    /// Whether all of it was said after the page was asked for.
    pub fresh: bool,
}

impl<T> Default for Board<T> {
    fn default() -> Self {
        let state = State { rows: BTreeMap::new(), begun: 0, rests_until: Instant::now() };
        Self(Arc::new(Shared { state: Mutex::new(state), ended: watch::Sender::new(0) }))
    }
}

impl<T: Send + Sync + 'static> Board<T> {
    /// What every store says, as far as it comes in time. `ask` asks one of them.
    pub async fn read<F>(&self, stores: &[StoreId], ask: impl Fn(&StoreId) -> F) -> Reading<T>
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let mut ended = self.0.ended.subscribe();
        let until = Instant::now() + PATIENCE;
        let wanted = self.0.state().begun + 1;
        while *ended.borrow_and_update() < wanted && Instant::now() < until {
            let wait_until = {
                let mut state = self.0.state();
                let idle = state.begun == *self.0.ended.borrow();
                if idle && state.rests_until <= Instant::now() {
                    state.begun += 1;
                    let asked: Vec<F> = stores.iter().map(&ask).collect();
                    tokio::spawn(Arc::clone(&self.0).pass(state.begun, stores.to_vec(), asked));
                }
                if idle { until.min(state.rests_until.max(Instant::now())) } else { until }
            };
            let _ = timeout_at(wait_until, ended.changed()).await;
        }
        let fresh = *ended.borrow() >= wanted;
        let state = self.0.state();
        let rows: Vec<Arc<T>> = stores.iter().filter_map(|store| state.rows.get(store).cloned()).collect();
        Reading { unknown: stores.len() - rows.len(), rows, fresh }
    }
}

impl<T: Send + Sync + 'static> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks all stores. One that refuses (it begins anew after a panic, or the hub stops) is shown as it was.
    async fn pass<F>(self: Arc<Self>, number: u64, stores: Vec<StoreId>, asked: Vec<F>)
    where
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let begun = Instant::now();
        let mut answers = answers(asked);
        while let Some((at, answer)) = answers.recv().await {
            if let Ok(row) = answer {
                self.state().rows.insert(stores[at].clone(), Arc::new(row));
            }
        }
        self.state().rests_until = Instant::now() + begun.elapsed() * REST;
        self.ended.send_replace(number);
    }
}

/// What a page says that lacks stores, or shows older words; it reads itself again.
pub fn unfinished<T>(reading: &Reading<T>) -> Markup {
    html! {
        @if reading.unknown > 0 {
            p.notice.warn role="status" data-again=(UNFINISHED_MS) {
                (show::count(reading.unknown as u64, "store is", "stores are")) " still being reckoned and not shown yet. This page completes itself."
            }
        } @else if !reading.fresh {
            span hidden data-again=(OLDER_MS) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn stores() -> Vec<StoreId> {
        ["a", "b", "slow"].map(|name| name.parse().unwrap()).to_vec()
    }

    /// A store answers with how often it has been asked; the slow one takes its time.
    fn ask(store: &StoreId, asked: &Arc<AtomicU64>) -> impl Future<Output = Result<u64, StoreError>> + use<> {
        let (slow, asked) = (store.as_str() == "slow", Arc::clone(asked));
        async move {
            let times = asked.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(if slow { 1_000 } else { 1 })).await;
            Ok(times / 3)
        }
    }

    async fn read(board: &Board<u64>, asked: &Arc<AtomicU64>) -> (Vec<u64>, usize, bool) {
        let reading = board.read(&stores(), |store| ask(store, asked)).await;
        (reading.rows.iter().map(|row| **row).collect(), reading.unknown, reading.fresh)
    }

    #[tokio::test(start_paused = true)]
    async fn a_page_waits_a_moment_shows_what_is_known_and_no_second_pass_begins_beside_the_first() {
        let (board, asked) = (Board::default(), Arc::default());
        let begun = Instant::now();
        assert_eq!(read(&board, &asked).await, (vec![0, 0], 1, false));
        assert_eq!(begun.elapsed(), PATIENCE);
        for _ in 0..5 {
            read(&board, &asked).await;
        }
        assert_eq!(asked.load(Ordering::Relaxed), 3, "pages that come meanwhile ask nobody again");
        tokio::time::sleep(Duration::from_millis(500)).await;
        // The pass is over and rests: what it found is shown, and said to be older.
        assert_eq!(read(&board, &asked).await, (vec![0, 0, 0], 0, false));
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(read(&board, &asked).await, (vec![1, 1, 0], 0, false), "the slow store as it was");
    }

    #[tokio::test(start_paused = true)]
    async fn where_stores_answer_at_once_a_page_shows_what_is_so_when_it_is_asked_for() {
        let (board, asked) = (Board::<u64>::default(), Arc::default());
        let quick: Vec<StoreId> = stores()[..2].to_vec();
        for times in 0..20 {
            let reading = board.read(&quick, |store| ask(store, &asked)).await;
            assert!(reading.fresh && reading.unknown == 0);
            assert_eq!(asked.load(Ordering::Relaxed), 2 * (times + 1));
        }
    }
}
