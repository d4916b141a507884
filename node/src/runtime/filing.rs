//! Threads that file what is read back: the log is one, its stores are many, and most of a start is filing. A store stays
//! with one thread, so its entries keep their order.

use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle, available_parallelism};

use engine::host::Looked;
use engine::ids::StoreId;
use engine::replica::{ReadBack, Stale};

use super::checkpoint::{Print, Saved};
use super::restore::RestoredStore;
use crate::storage::{Entry, Position};

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
    /// A store whose image is of another log.
    foreign: Option<StoreId>,
}

/// Where a store is filed.
#[derive(Clone, Copy)]
struct Filed {
    thread: usize,
    nth: usize,
    /// The last entry that its image holds.
    last: Option<(Position, Print)>,
    /// The log has it.
    met: bool,
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
        Self { threads: (0..count).map(thread).collect(), places: BTreeMap::new(), foreign: None }
    }

    /// Whether a store was begun.
    pub(super) fn knows(&self, store: &StoreId) -> bool {
        self.places.contains_key(store)
    }

    /// Whether the image of a store that was begun holds an entry of it.
    ///
    /// # Errors
    /// The image says that another one is there.
    pub(super) fn holds(&mut self, store: &StoreId, at: Position, entry: &Entry) -> Result<bool, Stopped> {
        let Some(filed) = self.places.get_mut(store) else { return Ok(false) };
        let Some((through, print)) = filed.last else { return Ok(false) };
        if at == through {
            filed.met = Print::of(entry) == print;
        }
        if at >= through && !filed.met {
            self.foreign.get_or_insert_with(|| store.clone());
            return Err(Stopped);
        }
        Ok(at <= through)
    }

    /// Begins a store, with whoever has the fewest. `known`: before it, the log is known to be that of the image.
    pub(super) fn begin(
        &mut self,
        store: &StoreId,
        made: RestoredStore,
        saved: Option<Saved>,
        known: Position,
    ) -> Result<(), Stopped> {
        let fewest = (0..self.threads.len()).min_by_key(|at| self.threads[*at].stores.len());
        let at = fewest.expect("there is at least one thread");
        let thread = &mut self.threads[at];
        let last = saved.as_ref().map(|saved| saved.last);
        let met = last.is_none_or(|(through, _)| through < known);
        self.places.insert(store.clone(), Filed { thread: at, nth: thread.stores.len(), last, met });
        thread.stores.push(store.clone());
        thread.give(Job::Begin(Box::new(made), saved), 0)
    }

    /// A store should have an image and has none.
    pub(super) fn is_missing(&mut self, store: &StoreId) -> String {
        self.foreign.get_or_insert_with(|| store.clone());
        format!("the image of store {store} is not there")
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

    /// Waits until everything is filed. `whole`: the log was read to its end.
    ///
    /// # Errors
    /// The first that did not fit.
    pub(super) fn finish(self, whole: bool) -> Result<BTreeMap<StoreId, RestoredStore>, Misfit> {
        let unmet =
            || self.places.iter().find(|(_, filed)| whole && !filed.met).map(|(store, _)| store.clone());
        let foreign = self.foreign.clone().or_else(unmet);
        let mut filed = Vec::new();
        for Thread { to, handful, stores, files, .. } in self.threads {
            // If the thread has stopped, its own word says why.
            let _ = to.send(handful);
            drop(to);
            filed.push((stores, files));
        }
        let foreign = foreign.map(|store| Misfit::Image(store, Stale::of_another_log()));
        let (mut restored, mut first): (BTreeMap<_, _>, Option<Misfit>) = (BTreeMap::new(), foreign);
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
