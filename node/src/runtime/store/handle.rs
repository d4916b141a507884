//! Talking to a store's task: what it is asked to do, and what it may refuse.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use engine::host::NotRecorded;
use engine::ids::{StoreId, WriterId};
use engine::ledger::JournalEntry;
use engine::replica::{Receipt, Replica, Revision};
use engine::sync::Dialect;
use engine::transaction::{Draft, HubRecord};
use tokio::sync::oneshot;

use super::super::conversation::{InHand, Outbox};
use super::line::{Entrance, Jobs, line};
use super::seats::{Queue, Seat, Seats};

/// How often a store is asked whether what it told is durable by now.
const DURABLE_EVERY: Duration = Duration::from_millis(5);

/// Who waits for a record.
pub(super) type Reply = oneshot::Sender<Result<Receipt, StoreError>>;

/// Why a store's task did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was recorded: refused, or the storage failed.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// Nothing was recorded: there is no space.
    #[error("nothing was recorded: the disk is full; free some space, and recording goes on by itself")]
    DiskFull,
    /// Nothing was recorded: the database that the log is in is away.
    #[error("nothing was recorded: the hub's database is away; recording goes on by itself when it is back")]
    DatabaseAway,
    /// Nothing was recorded: the peers of a restored node have not been met.
    #[error(
        "nothing was recorded: this node was restored from a backup and first takes back what the others hold (a till from \
         the hub, the hub from a till of each store); it goes on by itself then, or at once if started with --write-at-once"
    )]
    TakingBack,
    /// The log cannot be read back.
    #[error("{0}")]
    Unreadable(String),
    /// Another hub of the company has the store, and did not record it.
    #[error(
        "another hub of the company has this store, and nothing is known to be recorded: {0}; try again in a few seconds"
    )]
    Elsewhere(String),
    /// The store passes from one hub of the company to another.
    #[error(
        "this store passes from one hub of the company to another at the moment, and nothing is known to be recorded; ask \
         again in a moment"
    )]
    ChangesHands,
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// What a store's task is asked to do.
pub(crate) enum Job {
    Capture(Box<Draft>, Reply),
    State(Box<HubRecord>, String, Reply),
    LinkUp(WriterId, u64, Dialect, Outbox),
    LinkDown(WriterId, u64),
    Frame(WriterId, u64, Vec<u8>, InHand),
    Ask(Box<dyn FnOnce(&mut Replica) + Send>),
    Journal(u64, usize, oneshot::Sender<Result<Vec<JournalEntry>, StoreError>>),
    Stop(oneshot::Sender<()>),
}

/// A way to talk to a store's task. Clones share it.
#[derive(Clone)]
pub struct StoreHandle {
    store: StoreId,
    jobs: Entrance,
    full: Arc<AtomicBool>,
    shown: Shown,
    bulks: Queue,
    goes_on: GoesOn,
}

/// Whether a store that answers no more goes on at another hub, or its node stops. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct GoesOn(Arc<AtomicBool>);

impl GoesOn {
    /// As it is as long as nothing else is said: who answers no more stops with its node.
    pub(crate) fn set(&self, goes_on: bool) {
        self.0.store(goes_on, Ordering::Release);
    }

    /// What somebody is told who gets no answer.
    fn unanswered(&self) -> StoreError {
        if self.0.load(Ordering::Acquire) { StoreError::ChangesHands } else { StoreError::Stopping }
    }
}

/// How far a store's task has come, to be seen without asking it. Clones share it.
#[derive(Clone, Default)]
pub(in super::super) struct Shown(Arc<Mutex<Option<Revision>>>);

impl Shown {
    /// At the end of each turn. Gives what was shown before.
    pub(super) fn show(&self, revision: Revision) -> Option<Revision> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).replace(revision)
    }
}

impl StoreHandle {
    /// A way to talk to somebody else who answers for a store, and what he hears.
    pub(crate) fn to(store: StoreId, goes_on: GoesOn) -> (Self, Jobs) {
        let (handle, jobs) = Self::with(store, Arc::default(), Shown::default(), Seats::of_machine());
        (Self { goes_on, ..handle }, jobs)
    }

    /// A way to talk to a store's task, which says in `full` whether the disk is full, and in `shown` how far it is.
    /// `seats`: of its node.
    pub(super) fn with(store: StoreId, full: Arc<AtomicBool>, shown: Shown, seats: Seats) -> (Self, Jobs) {
        let (jobs, waiting) = line();
        (Self { store, jobs, full, shown, bulks: Queue::new(seats), goes_on: GoesOn::default() }, waiting)
    }

    /// The store goes to another hub: whoever is not answered here any more may ask again.
    pub(crate) fn goes_on(&self) {
        self.goes_on.set(true);
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &StoreId {
        &self.store
    }

    /// Whether nothing is taken in because the disk is full.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        self.full.load(Ordering::Acquire)
    }

    /// How far the store was at the end of its task's last turn: who asks again and again asks only when this has changed, so
    /// that a store where nothing happens is not woken. `None`: it has to be asked.
    #[must_use]
    pub fn revision_shown(&self) -> Option<Revision> {
        *self.shown.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records a transaction; answers when it is durable.
    ///
    /// # Errors
    /// Refused, or the storage failed.
    pub async fn capture(&self, draft: Draft) -> Result<Receipt, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Capture(Box::new(draft), reply)).await?;
        answer.await.map_err(|_| self.goes_on.unanswered())?
    }

    /// Puts transactions to be recorded in a row, without waiting for the answers, which come in the same order.
    ///
    /// # Errors
    /// The node is stopping, or the store changes hands.
    pub async fn capture_later(
        &self,
        draft: Draft,
    ) -> Result<oneshot::Receiver<Result<Receipt, StoreError>>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Capture(Box::new(draft), reply)).await?;
        Ok(answer)
    }

    /// Records a statement of the hub; answers when it is durable.
    ///
    /// # Errors
    /// The storage failed.
    pub async fn state(&self, record: HubRecord, receipt: String) -> Result<Receipt, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::State(Box::new(record), receipt, reply)).await?;
        answer.await.map_err(|_| self.goes_on.unanswered())?
    }

    /// Asks the replica something. Books are up to date when the question is put.
    ///
    /// # Errors
    /// The node is stopping, or the store changes hands.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Replica) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let ask = move |replica: &mut Replica| {
            let _ = reply.send(question(replica));
        };
        self.send(Job::Ask(Box::new(ask))).await?;
        answer.await.map_err(|_| self.goes_on.unanswered())
    }

    /// Entries of the journal from a number on, read from the log; at most `limit`.
    ///
    /// # Errors
    /// The log cannot be read, the node is stopping, or the store changes hands.
    pub async fn journal(&self, from: u64, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Journal(from, limit, reply)).await?;
        answer.await.map_err(|_| self.goes_on.unanswered())?
    }

    /// Waits until everything that follows from what was recorded so far is durable: the journal, too.
    ///
    /// # Errors
    /// The node is stopping, or the store changes hands.
    pub async fn until_durable(&self) -> Result<(), StoreError> {
        let (persisted, told) = self.ask(|replica| (replica.persisted(), replica.revision())).await?;
        self.is_durable_at(told, persisted).await.map(drop)
    }

    /// Waits until what a store told is durable. `false`: it began anew meanwhile, and has to be asked again.
    ///
    /// # Errors
    /// The node is stopping, or the store changes hands.
    pub(crate) async fn is_durable_at(&self, told: Revision, persisted: u64) -> Result<bool, StoreError> {
        loop {
            let (durable, now) = self.ask(|replica| (replica.durable(), replica.revision())).await?;
            if !told.is_of_one_life_with(&now) {
                return Ok(false);
            }
            if durable >= persisted {
                return Ok(true);
            }
            tokio::time::sleep(DURABLE_EVERY).await;
        }
    }

    /// A link to a peer is up; `frames` takes what is to be sent.
    pub(in super::super) async fn link_up(
        &self,
        peer: WriterId,
        link: u64,
        dialect: Dialect,
        frames: Outbox,
    ) {
        let _ = self.send(Job::LinkUp(peer, link, dialect, frames)).await;
    }

    pub(in super::super) async fn link_down(&self, peer: WriterId, link: u64) {
        let _ = self.send(Job::LinkDown(peer, link)).await;
    }

    /// A seat for a frame that is a bulk, once there is one.
    pub(in super::super) async fn seat(&self, frame: &[u8]) -> Option<Seat> {
        self.bulks.seat(frame).await
    }

    pub(in super::super) async fn frame(
        &self,
        peer: WriterId,
        link: u64,
        bytes: Vec<u8>,
        room: InHand,
    ) -> bool {
        self.send(Job::Frame(peer, link, bytes, room)).await.is_ok()
    }

    /// Ends the task after what it has been given is durable.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.send(Job::Stop(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        if self.jobs.put(job).await { Ok(()) } else { Err(self.goes_on.unanswered()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What somebody hears whose question waits when the task ends, and what somebody who asks after it.
    async fn told_at_the_end_of(store: StoreHandle, jobs: Jobs) -> [StoreError; 2] {
        let waits = store.clone();
        let waits = async move { waits.ask(|replica| replica.revision()).await.unwrap_err() };
        let ends = async move {
            while jobs.is_empty() {
                tokio::task::yield_now().await;
            }
        };
        let (waited, ()) = tokio::join!(waits, ends);
        [waited, store.journal(1, 1).await.unwrap_err()]
    }

    #[tokio::test]
    async fn whoever_is_not_answered_hears_whether_the_store_goes_on_at_another_hub() {
        let with =
            || StoreHandle::with("s1".parse().unwrap(), Arc::default(), Shown::default(), Seats::new(1));
        let (stops, jobs) = with();
        assert_eq!(told_at_the_end_of(stops, jobs).await, [StoreError::Stopping, StoreError::Stopping]);
        let (given, jobs) = with();
        given.clone().goes_on();
        assert_eq!(
            told_at_the_end_of(given, jobs).await,
            [StoreError::ChangesHands, StoreError::ChangesHands]
        );
    }

    #[tokio::test]
    async fn a_store_that_is_read_along_goes_on_unless_the_node_stops() {
        let goes_on = GoesOn::default();
        goes_on.set(true);
        let (store, jobs) = StoreHandle::to("s1".parse().unwrap(), goes_on.clone());
        drop(jobs);
        assert_eq!(store.until_durable().await, Err(StoreError::ChangesHands));
        goes_on.set(false);
        assert_eq!(store.until_durable().await, Err(StoreError::Stopping));
    }
}
