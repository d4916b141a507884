//! Threads that file what is read back: the log is one, its stores are many, and most of a start is filing. A store stays
//! with one thread, so its entries keep their order.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle, available_parallelism};

use engine::host::Looked;
use engine::ids::StoreId;
use engine::replica::ReadBack;

use super::restore::RestoredStore;
use crate::storage::Position;

/// More threads wait for the one that reads.
const THREADS_MAX: usize = 8;
/// Entries, and bytes of them in the log, that are handed over together.
const HANDED_ENTRIES: usize = 64;
const HANDED_BYTES: usize = 128 << 10;
/// Handfuls that wait for a thread.
const WAITING: usize = 4;

/// An entry that did not fit, and where it stands.
pub(super) struct Misfit {
    pub(super) at: Position,
    pub(super) reason: String,
}

/// Something to be filed, in order.
enum Job {
    Begin(Box<RestoredStore>),
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
    /// Thread of a store, and which it is there.
    places: BTreeMap<StoreId, (usize, usize)>,
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

    /// Begins a store, with whoever has the fewest.
    pub(super) fn begin(&mut self, store: &StoreId, made: RestoredStore) -> Result<(), Stopped> {
        let fewest = (0..self.threads.len()).min_by_key(|at| self.threads[*at].stores.len());
        let at = fewest.expect("there is at least one thread");
        let thread = &mut self.threads[at];
        self.places.insert(store.clone(), (at, thread.stores.len()));
        thread.stores.push(store.clone());
        thread.give(Job::Begin(Box::new(made)), 0)
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
        let (thread, nth) = self.places[store];
        self.threads[thread].give(Job::Take { nth, at, looked, ready }, bytes)
    }

    /// Waits until everything is filed.
    ///
    /// # Errors
    /// The first entry of the log that did not fit.
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
                        Some(known) if known.at.0 < misfit.at.0 => known,
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
            Job::Begin(made) => stores.push(*made),
            Job::Take { nth, at, looked, ready } => {
                let made = &mut stores[nth];
                made.positions.note(looked, at);
                let taken = made.replica.take_back(ready);
                taken.map_err(|error| Misfit { at, reason: error.to_string() })?;
            }
        }
    }
    Ok(stores)
}
