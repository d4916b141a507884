//! Threads that file what is read back: the log is one, its stores are many, and most of a start is filing. A store stays
//! with one thread, so its entries keep their order.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle, available_parallelism};

use engine::host::Looked;
use engine::ids::StoreId;
use engine::replica::{ReadBack, Stale};

use super::checkpoint::Saved;
use super::restore::RestoredStore;
use crate::storage::Position;

/// More threads wait for the one that reads.
const THREADS_MAX: usize = 8;
/// Entries, and bytes of them in the log, that are handed over together.
const HANDED_ENTRIES: usize = 64;
const HANDED_BYTES: usize = 128 << 10;
/// Handfuls that wait for a thread.
const WAITING: usize = 4;

/// What did not fit.
pub(super) enum Misfit {
    /// An entry, and where it stands.
    Entry { at: Position, reason: String },
    /// The image of a store.
    Image(StoreId, Stale),
}

impl Misfit {
    fn at(&self) -> Position {
        match self {
            Self::Entry { at, .. } => *at,
            Self::Image(..) => Position(0),
        }
    }
}

/// Something to be filed, in order.
enum Job {
    Begin(Box<RestoredStore>, Option<Saved>),
    /// For the store that was begun as the nth of the thread.
    Take {
        nth: usize,
        at: Position,
        looked: Looked,
        ready: ReadBack,
    },
}

/// Where entries are handed in.
pub(super) struct Filing<'scope> {
    threads: Vec<Thread<'scope>>,
    places: BTreeMap<StoreId, Filed>,
}

/// Where a store is filed.
#[derive(Clone, Copy)]
struct Filed {
    thread: usize,
    nth: usize,
    /// The last entry that its image holds.
    through: Option<Position>,
}

struct Thread<'scope> {
    to: SyncSender<Vec<Job>>,
    handful: Vec<Job>,
    bytes: usize,
    stores: Vec<StoreId>,
    files: ScopedJoinHandle<'scope, Result<Vec<RestoredStore>, Misfit>>,
}

/// A thread has met a misfit; `finish` tells which.
pub(super) struct Stopped;

impl<'scope> Filing<'scope> {
    /// No stores yet.
    pub(super) fn new(scope: &'scope Scope<'scope, '_>) -> Self {
        let count = available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let thread = |_| {
            let (to, from) = sync_channel(WAITING);
            let files = scope.spawn(move || file(&from));
            Thread { to, handful: Vec::new(), bytes: 0, stores: Vec::new(), files }
        };
        Self { threads: (0..count).map(thread).collect(), places: BTreeMap::new() }
    }

    /// Whether a store was begun.
    pub(super) fn knows(&self, store: &StoreId) -> bool {
        self.places.contains_key(store)
    }

    /// Whether the image of a store that was begun holds its entry at a position.
    pub(super) fn holds(&self, store: &StoreId, at: Position) -> bool {
        self.places[store].through.is_some_and(|through| at <= through)
    }

    /// Begins a store, with whoever has the fewest.
    pub(super) fn begin(
        &mut self,
        store: &StoreId,
        made: RestoredStore,
        saved: Option<Saved>,
    ) -> Result<(), Stopped> {
        let fewest = (0..self.threads.len()).min_by_key(|at| self.threads[*at].stores.len());
        let at = fewest.expect("there is at least one thread");
        let thread = &mut self.threads[at];
        let through = saved.as_ref().map(|saved| saved.through);
        self.places.insert(store.clone(), Filed { thread: at, nth: thread.stores.len(), through });
        thread.stores.push(store.clone());
        thread.give(Job::Begin(Box::new(made), saved), 0)
    }

    /// Hands in an entry of `bytes` bytes of a store that was begun.
    pub(super) fn take(
        &mut self,
        store: &StoreId,
        at: Position,
        looked: Looked,
        ready: ReadBack,
        bytes: usize,
    ) -> Result<(), Stopped> {
        let Filed { thread, nth, .. } = self.places[store];
        self.threads[thread].give(Job::Take { nth, at, looked, ready }, bytes)
    }

    /// Waits until everything is filed.
    ///
    /// # Errors
    /// The first that did not fit.
    pub(super) fn finish(self) -> Result<BTreeMap<StoreId, RestoredStore>, Misfit> {
        let mut filed = Vec::new();
        for Thread { to, handful, stores, files, .. } in self.threads {
            // If the thread has stopped, its own word says why.
            let _ = to.send(handful);
            drop(to);
            filed.push((stores, files));
        }
        let (mut restored, mut first): (BTreeMap<_, _>, Option<Misfit>) = (BTreeMap::new(), None);
        for (stores, files) in filed {
            match files.join() {
                Ok(Ok(made)) => restored.extend(stores.into_iter().zip(made)),
                Ok(Err(misfit)) => {
                    first = Some(match first {
                        Some(known) if known.at() < misfit.at() => known,
                        _ => misfit,
                    });
                }
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        first.map_or(Ok(restored), Err)
    }
}

impl Thread<'_> {
    fn give(&mut self, job: Job, bytes: usize) -> Result<(), Stopped> {
        self.handful.push(job);
        self.bytes += bytes;
        if self.handful.len() < HANDED_ENTRIES && self.bytes < HANDED_BYTES {
            return Ok(());
        }
        self.bytes = 0;
        self.to.send(std::mem::take(&mut self.handful)).map_err(|_| Stopped)
    }
}

fn file(from: &Receiver<Vec<Job>>) -> Result<Vec<RestoredStore>, Misfit> {
    let mut stores: Vec<RestoredStore> = Vec::new();
    for job in from.iter().flatten() {
        match job {
            Job::Begin(made, None) => stores.push(*made),
            Job::Begin(made, Some(saved)) => {
                let store = made.replica.identity().store.clone();
                stores.push(saved.apply(*made).map_err(|stale| Misfit::Image(store, stale))?);
            }
            Job::Take { nth, at, looked, ready } => {
                let made = &mut stores[nth];
                made.note(looked, at);
                let taken = made.replica.take_back(ready);
                taken.map_err(|error| Misfit::Entry { at, reason: error.to_string() })?;
            }
        }
    }
    Ok(stores)
}
