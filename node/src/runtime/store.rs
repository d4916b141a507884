//! One store's task: it owns the replica, gives it events, carries out what it says. Captures that wait together go in
//! together; what they persist goes to the storage as one append, hence one fsync. Books follow while the disk works.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use engine::entry::Entry as LogEntry;
use engine::ids::{StoreId, WriterId};
use engine::ledger::JournalEntry;
use engine::replica::{Capture, CaptureError, Input, Output, Outputs, Receipt, Replica};
use engine::sync::{Carried, Message};
use engine::transaction::{Draft, HubRecord};
use tokio::sync::{mpsc, oneshot};

use super::audit::AuditLog;
use super::checkpoint;
use super::clock::{Clock, now_ms};
use super::notes::{Notes, name};
use super::positions::{Looked, Positions};
use crate::storage::{Entry, Position, Storage};

/// Jobs that may wait for a store's task; senders wait beyond that.
const JOBS_WAITING: usize = 1_024;
/// Jobs taken in one turn.
const JOBS_A_TURN: usize = 512;
/// Bytes put into one append of the storage.
const APPEND_BYTES: usize = 4 << 20;
/// Sealed batches kept in memory for sending, in bytes.
const RECENT_BYTES: usize = 2 << 20;

/// Why a store's task did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The transaction was refused.
    #[error(transparent)]
    Capture(#[from] CaptureError),
    /// The storage failed; nothing is recorded until the node is restarted.
    #[error("nothing can be recorded: {0}; restart the node when the disk is well")]
    Storage(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// What a store's task is asked to do.
enum Job {
    Capture(Box<Draft>, oneshot::Sender<Result<Receipt, StoreError>>),
    State(Box<HubRecord>, String, oneshot::Sender<Result<Receipt, StoreError>>),
    LinkUp(WriterId, u64, mpsc::Sender<Vec<u8>>),
    LinkDown(WriterId, u64),
    Frame(WriterId, u64, Vec<u8>),
    Ask(Box<dyn FnOnce(&mut Replica) + Send>),
    Journal(u64, usize, oneshot::Sender<Result<Vec<JournalEntry>, StoreError>>),
    Stop(oneshot::Sender<()>),
}

/// A way to talk to a store's task. Clones share it.
#[derive(Clone)]
pub struct StoreHandle {
    store: StoreId,
    jobs: mpsc::Sender<Job>,
}

impl StoreHandle {
    /// The store.
    #[must_use]
    pub fn store(&self) -> &StoreId {
        &self.store
    }

    /// Records a transaction; answers when it is durable.
    ///
    /// # Errors
    /// Refused, or the storage failed.
    pub async fn capture(&self, draft: Draft) -> Result<Receipt, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Capture(Box::new(draft), reply)).await?;
        answer.await.map_err(|_| StoreError::Stopping)?
    }

    /// Puts transactions to be recorded in a row, without waiting for the answers, which come in the same order.
    ///
    /// # Errors
    /// The node is stopping.
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
        answer.await.map_err(|_| StoreError::Stopping)?
    }

    /// Asks the replica something. Books are up to date when the question is put.
    ///
    /// # Errors
    /// The node is stopping.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Replica) -> T + Send + 'static,
    ) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        let ask = move |replica: &mut Replica| {
            let _ = reply.send(question(replica));
        };
        self.send(Job::Ask(Box::new(ask))).await?;
        answer.await.map_err(|_| StoreError::Stopping)
    }

    /// Entries of the journal from a number on, read from the log; at most `limit`.
    ///
    /// # Errors
    /// The log cannot be read, or the node is stopping.
    pub async fn journal(&self, from: u64, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.send(Job::Journal(from, limit, reply)).await?;
        answer.await.map_err(|_| StoreError::Stopping)?
    }

    /// A link to a peer is up; `frames` takes what is to be sent.
    pub(super) async fn link_up(&self, peer: WriterId, link: u64, frames: mpsc::Sender<Vec<u8>>) {
        let _ = self.send(Job::LinkUp(peer, link, frames)).await;
    }

    pub(super) async fn link_down(&self, peer: WriterId, link: u64) {
        let _ = self.send(Job::LinkDown(peer, link)).await;
    }

    pub(super) async fn frame(&self, peer: WriterId, link: u64, bytes: Vec<u8>) -> bool {
        self.send(Job::Frame(peer, link, bytes)).await.is_ok()
    }

    /// Ends the task after what it has been given is durable.
    pub async fn stop(&self) {
        let (reply, answer) = oneshot::channel();
        if self.send(Job::Stop(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }

    async fn send(&self, job: Job) -> Result<(), StoreError> {
        self.jobs.send(job).await.map_err(|_| StoreError::Stopping)
    }
}

/// What the storage reports of one append.
struct Written {
    entries: u64,
    positions: Vec<(Looked, Position)>,
    failed: Option<String>,
}

type Reply = oneshot::Sender<Result<Receipt, StoreError>>;

struct StoreTask {
    replica: Replica,
    storage: Storage,
    notes: Notes,
    clock: Clock,
    jobs: mpsc::Receiver<Job>,
    written: mpsc::UnboundedReceiver<Written>,
    report: mpsc::UnboundedSender<Written>,
    positions: Positions,
    /// Newest sealed batches, for sending without reading them back.
    recent: VecDeque<(u64, Carried)>,
    recent_bytes: usize,
    links: BTreeMap<WriterId, (u64, mpsc::Sender<Vec<u8>>)>,
    replies: BTreeMap<u64, Reply>,
    next_token: u64,
    /// To be appended at the end of the turn.
    pending: Vec<(Entry, Looked)>,
    handed_out: u64,
    durable: u64,
    failed: Option<String>,
    stopping: Vec<oneshot::Sender<()>>,
}

/// Starts a store's task over a restored replica.
#[must_use]
pub fn start(
    replica: Replica,
    storage: Storage,
    audit: AuditLog,
    clock: Clock,
    positions: Positions,
) -> StoreHandle {
    let (jobs, jobs_in) = mpsc::channel(JOBS_WAITING);
    let (report, written) = mpsc::unbounded_channel();
    let handle = StoreHandle { store: replica.identity().store.clone(), jobs };
    let task = StoreTask {
        replica,
        storage,
        notes: Notes::new(audit, handle.store.clone()),
        clock,
        jobs: jobs_in,
        written,
        report,
        positions,
        recent: VecDeque::new(),
        recent_bytes: 0,
        links: BTreeMap::new(),
        replies: BTreeMap::new(),
        next_token: 0,
        pending: Vec::new(),
        handed_out: 0,
        durable: 0,
        failed: None,
        stopping: Vec::new(),
    };
    tokio::spawn(task.run());
    handle
}

impl StoreTask {
    async fn run(mut self) {
        self.give(Input::Wakeup);
        self.submit();
        loop {
            let wait = self.until_wakeup();
            tokio::select! {
                biased;
                written = self.written.recv() => {
                    if let Some(written) = written {
                        self.take_written(written);
                    }
                }
                job = self.jobs.recv() => match job {
                    Some(job) => self.take_jobs(job),
                    None => return,
                },
                () = tokio::time::sleep(wait) => self.give(Input::Wakeup),
            }
            while let Ok(written) = self.written.try_recv() {
                self.take_written(written);
            }
            self.submit();
            if self.replica.next_wakeup().is_some_and(|at| at <= now_ms()) {
                self.give(Input::Wakeup);
                self.submit();
            }
            self.notes.note_counts();
            if !self.stopping.is_empty() && (self.durable == self.handed_out || self.failed.is_some()) {
                self.write_checkpoint();
                for reply in self.stopping.drain(..) {
                    let _ = reply.send(());
                }
                return;
            }
        }
    }

    /// Keeps what was judged for the next start. Without it the next start is slower, nothing else.
    fn write_checkpoint(&mut self) {
        if self.failed.is_none()
            && let Err(error) = checkpoint::write(&self.storage, &self.replica)
        {
            tracing::warn!("no checkpoint was written: {error}");
        }
    }

    fn until_wakeup(&self) -> Duration {
        let at = [self.replica.next_wakeup(), self.notes.due_ms()].into_iter().flatten().min();
        let ms = at.map_or(60_000, |at| (at - now_ms()).clamp(1, 60_000));
        Duration::from_millis(u64::try_from(ms).unwrap_or(1))
    }

    /// Takes what waits, captures together.
    fn take_jobs(&mut self, first: Job) {
        let mut captures = Vec::new();
        let mut next = Some(first);
        for _ in 0..JOBS_A_TURN {
            let Some(job) = next.take().or_else(|| self.jobs.try_recv().ok()) else { break };
            match job {
                Job::Capture(draft, reply) => {
                    if let Some(token) = self.promise(reply) {
                        captures.push(Capture { token, draft: *draft });
                    }
                }
                other => {
                    self.take_captures(&mut captures);
                    self.take_job(other);
                }
            }
        }
        self.take_captures(&mut captures);
    }

    fn take_captures(&mut self, captures: &mut Vec<Capture>) {
        if !captures.is_empty() {
            self.give(Input::Capture(std::mem::take(captures)));
        }
    }

    fn take_job(&mut self, job: Job) {
        match job {
            Job::Capture(..) => {}
            Job::State(record, receipt, reply) => {
                if let Some(token) = self.promise(reply) {
                    self.give(Input::State { token, record, receipt });
                }
            }
            Job::LinkUp(peer, link, frames) => {
                if self.links.insert(peer, (link, frames)).is_some() {
                    self.give(Input::PeerDown(peer));
                }
                self.give(Input::PeerUp(peer));
            }
            Job::LinkDown(peer, link) => {
                if self.links.get(&peer).is_some_and(|known| known.0 == link) {
                    self.links.remove(&peer);
                    self.give(Input::PeerDown(peer));
                }
            }
            Job::Frame(peer, link, bytes) => {
                if self.links.get(&peer).is_some_and(|known| known.0 == link) && self.failed.is_none() {
                    self.give(Input::Message(peer, bytes));
                }
            }
            Job::Ask(ask) => {
                self.give(Input::Wakeup);
                ask(&mut self.replica);
            }
            Job::Journal(from, limit, reply) => {
                self.give(Input::Wakeup);
                let _ = reply.send(self.read_journal(from, limit));
            }
            Job::Stop(reply) => self.stopping.push(reply),
        }
    }

    /// Remembers who waits for an answer; refuses at once if the storage has failed.
    fn promise(&mut self, reply: Reply) -> Option<u64> {
        if let Some(reason) = &self.failed {
            let _ = reply.send(Err(StoreError::Storage(reason.clone())));
            return None;
        }
        self.next_token += 1;
        self.replies.insert(self.next_token, reply);
        Some(self.next_token)
    }

    fn give(&mut self, input: Input) {
        let outputs = self.replica.handle(self.clock.now(), input);
        self.obey(outputs);
    }

    fn obey(&mut self, outputs: Outputs) {
        for output in outputs {
            match output {
                Output::Persist { entry, ordinal } => self.keep(&entry, ordinal),
                Output::Captured { token, result } => {
                    if let Some(reply) = self.replies.remove(&token) {
                        let _ = reply.send(result.map_err(StoreError::from));
                    }
                }
                Output::Send(peer, message) => self.send(peer, &message),
                Output::SendBatches { peer, number, ordinals } => self.send_batches(peer, number, &ordinals),
                Output::Disconnect(peer, reason) => {
                    self.notes.note(Some(name(self.replica.registry(), &peer)), "disconnect", reason);
                    self.links.remove(&peer);
                    let outputs = self.replica.handle(self.clock.now(), Input::PeerDown(peer));
                    self.obey(outputs);
                }
                Output::Event(event) => self.notes.event(self.replica.registry(), event),
                Output::Case(event) => self.notes.case(&event),
            }
        }
    }

    /// Puts an entry in line for the storage.
    fn keep(&mut self, entry: &LogEntry, ordinal: Option<u64>) {
        if let (LogEntry::Batch(batch), Some(ordinal)) = (entry, ordinal) {
            let carried = Carried { bytes: batch.bytes.clone(), change: batch.change };
            self.recent_bytes += carried.bytes.len();
            self.recent.push_back((ordinal, carried));
            while self.recent_bytes > RECENT_BYTES {
                let Some((_, oldest)) = self.recent.pop_front() else { break };
                self.recent_bytes -= oldest.bytes.len();
            }
        }
        let (kind, bytes) = entry.encode(&self.replica.identity().store);
        self.pending.push((Entry { kind, bytes }, Looked::of(entry)));
    }

    /// Hands what is in line to the storage.
    fn submit(&mut self) {
        while !self.pending.is_empty() && self.failed.is_none() {
            let mut bytes = 0;
            let mut fits = self.pending.len();
            for (at, (entry, _)) in self.pending.iter().enumerate() {
                bytes += entry.bytes.len();
                if bytes > APPEND_BYTES && at > 0 {
                    fits = at;
                    break;
                }
            }
            let rest = self.pending.split_off(fits);
            let turn = std::mem::replace(&mut self.pending, rest);
            let looked: Vec<Looked> = turn.iter().map(|(_, looked)| *looked).collect();
            self.handed_out += turn.len() as u64;
            let report = self.report.clone();
            self.storage.append(turn.into_iter().map(|(entry, _)| entry).collect(), move |result| {
                let _ = report.send(match result {
                    Ok(at) => Written {
                        entries: at.len() as u64,
                        positions: looked.into_iter().zip(at).collect(),
                        failed: None,
                    },
                    Err(error) => {
                        Written { entries: 0, positions: Vec::new(), failed: Some(error.to_string()) }
                    }
                });
            });
        }
    }

    fn take_written(&mut self, written: Written) {
        if let Some(reason) = written.failed {
            self.fail(&reason);
        }
        if self.failed.is_some() {
            return;
        }
        self.durable += written.entries;
        for (looked, at) in written.positions {
            self.positions.note(looked, at);
        }
        let entries = self.durable;
        self.give(Input::Durable { entries });
    }

    /// The storage failed: whoever waits hears it, and nothing is promised any more.
    fn fail(&mut self, reason: &str) {
        if self.failed.is_none() {
            tracing::error!(store = %self.replica.identity().store, "the storage failed: {reason}");
            self.failed = Some(reason.to_owned());
            for reply in std::mem::take(&mut self.replies).into_values() {
                let _ = reply.send(Err(StoreError::Storage(reason.to_owned())));
            }
        }
    }

    fn send(&mut self, peer: WriterId, message: &Message) {
        let Some((_, frames)) = self.links.get(&peer) else { return };
        if frames.try_send(message.encode()).is_err() {
            // It asks and does not listen, or is gone: its conversation ends, and begins anew when it reads again.
            self.links.remove(&peer);
            self.notes.note(
                Some(name(self.replica.registry(), &peer)),
                "stalled",
                "does not read".to_owned(),
            );
            self.give(Input::PeerDown(peer));
        }
    }

    fn send_batches(&mut self, peer: WriterId, number: u64, ordinals: &[u64]) {
        let carried: Result<Vec<Carried>, String> =
            ordinals.iter().map(|ordinal| self.carried(*ordinal)).collect();
        match carried {
            Ok(batches) => self.send(peer, &Message::Batches { number, batches }),
            Err(reason) => {
                tracing::error!("a batch cannot be read back: {reason}");
                self.notes.note(Some(name(self.replica.registry(), &peer)), "unreadable", reason);
                self.links.remove(&peer);
                self.give(Input::PeerDown(peer));
            }
        }
    }

    fn carried(&self, ordinal: u64) -> Result<Carried, String> {
        if let Some((first, _)) = self.recent.front()
            && let Some((_, carried)) =
                ordinal.checked_sub(*first).and_then(|at| self.recent.get(usize::try_from(at).ok()?))
        {
            return Ok(carried.clone());
        }
        let at = usize::try_from(ordinal)
            .ok()
            .and_then(|at| self.positions.batches.get(at))
            .ok_or("it is not durable")?;
        let entry = self.storage.read(*at).map_err(|error| error.to_string())?;
        match LogEntry::decode(entry.kind, &entry.bytes) {
            Ok((_, LogEntry::Batch(batch))) => Ok(Carried { bytes: batch.bytes, change: batch.change }),
            Ok(_) => Err(format!("position {at} holds no batch")),
            Err(error) => Err(error.to_string()),
        }
    }

    fn read_journal(&self, from: u64, limit: usize) -> Result<Vec<JournalEntry>, StoreError> {
        let first = usize::try_from(from.saturating_sub(1)).unwrap_or(usize::MAX);
        let wanted = self.positions.journal.iter().skip(first).take(limit);
        wanted
            .map(|at| {
                let failed =
                    |reason: String| StoreError::Storage(format!("the journal cannot be read: {reason}"));
                let entry = self.storage.read(*at).map_err(|error| failed(error.to_string()))?;
                match LogEntry::decode(entry.kind, &entry.bytes) {
                    Ok((_, LogEntry::Journal(entry))) => Ok(entry),
                    Ok(_) => Err(failed(format!("position {at} holds something else"))),
                    Err(error) => Err(failed(error.to_string())),
                }
            })
            .collect()
    }
}
