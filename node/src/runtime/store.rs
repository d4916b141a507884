//! One store's task: it owns the host of the store's replica, gives it events and carries out what it asks for, with the
//! node's disk and links. Captures that wait together go in together. What is grouped, promised and refused is decided
//! by `engine::host`; nothing is decided here.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::entry::Entry as LogEntry;
use engine::host::{Effect, Host, Line, Looked, NotRecorded, Stored};
use engine::ids::{StoreId, WriterId};
use engine::ledger::JournalEntry;
use engine::replica::{Capture, Input, Receipt, Replica};
use engine::sync::{Carried, Message};
use engine::transaction::{Draft, HubRecord};
use tokio::sync::{mpsc, oneshot};

use super::audit::AuditLog;
use super::checkpoint;
use super::clock::{Clock, now_ms};
use super::notes::{Notes, name};
use super::positions::Positions;
use crate::storage::{Entry, Position, Storage};

/// Jobs that may wait for a store's task; senders wait beyond that.
const JOBS_WAITING: usize = 1_024;
/// Jobs taken in one turn.
const JOBS_A_TURN: usize = 512;

/// Why a store's task did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Nothing was recorded: refused, or the storage failed.
    #[error(transparent)]
    NotRecorded(#[from] NotRecorded),
    /// The log cannot be read back.
    #[error("{0}")]
    Unreadable(String),
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
    positions: Vec<(Looked, Position)>,
    failed: Option<String>,
}

type Reply = oneshot::Sender<Result<Receipt, StoreError>>;

struct StoreTask {
    host: Host,
    storage: Storage,
    notes: Notes,
    clock: Clock,
    jobs: mpsc::Receiver<Job>,
    written: mpsc::UnboundedReceiver<Written>,
    report: mpsc::UnboundedSender<Written>,
    positions: Positions,
    links: BTreeMap<WriterId, (u64, mpsc::Sender<Vec<u8>>)>,
    replies: BTreeMap<u64, Reply>,
    next_token: u64,
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
        host: Host::new(replica),
        storage,
        notes: Notes::new(audit, handle.store.clone()),
        clock,
        jobs: jobs_in,
        written,
        report,
        positions,
        links: BTreeMap::new(),
        replies: BTreeMap::new(),
        next_token: 0,
        stopping: Vec::new(),
    };
    tokio::spawn(task.run());
    handle
}

impl StoreTask {
    async fn run(mut self) {
        self.give(Input::Wakeup);
        self.turn();
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
            self.turn();
            self.notes.note_counts();
            if !self.stopping.is_empty() && (self.host.is_settled() || self.host.failed().is_some()) {
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
        if self.host.failed().is_none()
            && let Err(error) = checkpoint::write(&self.storage, self.host.replica())
        {
            tracing::warn!("no checkpoint was written: {error}");
        }
    }

    fn until_wakeup(&self) -> Duration {
        let at = [self.host.replica().next_wakeup(), self.notes.due_ms()].into_iter().flatten().min();
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
                    let token = self.promise(reply);
                    captures.push(Capture { token, draft: *draft });
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
                let token = self.promise(reply);
                self.give(Input::State { token, record, receipt });
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
                if self.links.get(&peer).is_some_and(|known| known.0 == link) {
                    self.give(Input::Message(peer, bytes));
                }
            }
            Job::Ask(ask) => {
                self.give(Input::Wakeup);
                ask(self.host.replica_mut());
            }
            Job::Journal(from, limit, reply) => {
                self.give(Input::Wakeup);
                let _ = reply.send(self.read_journal(from, limit));
            }
            Job::Stop(reply) => self.stopping.push(reply),
        }
    }

    /// Remembers who waits for an answer.
    fn promise(&mut self, reply: Reply) -> u64 {
        self.next_token += 1;
        self.replies.insert(self.next_token, reply);
        self.next_token
    }

    fn give(&mut self, input: Input) {
        self.host.give(self.clock.now(), input);
    }

    /// Does what the host asks for, until it asks for nothing more.
    fn turn(&mut self) {
        loop {
            let effects = self.host.turn(self.clock.now());
            if effects.is_empty() {
                return;
            }
            for effect in effects {
                self.carry_out(effect);
            }
        }
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Append(lines) => self.append(lines),
            Effect::Answer(token, result) => {
                if let Some(reply) = self.replies.remove(&token) {
                    let _ = reply.send(result.map_err(StoreError::from));
                }
            }
            Effect::Send(peer, frame) => self.send(peer, frame),
            Effect::SendBatches { peer, number, batches } => self.send_batches(peer, number, batches),
            Effect::End(peer, reason) => {
                self.notes.note(Some(self.name(&peer)), "disconnect", reason);
                self.links.remove(&peer);
            }
            Effect::Event(event) => self.notes.event(self.host.replica().registry(), event),
            Effect::Case(event) => self.notes.case(&event),
        }
    }

    fn name(&self, peer: &WriterId) -> String {
        name(self.host.replica().registry(), peer)
    }

    fn append(&mut self, lines: Vec<Line>) {
        let looked: Vec<Looked> = lines.iter().map(|line| line.looked).collect();
        let entries = lines.into_iter().map(|line| Entry { kind: line.kind, bytes: line.bytes }).collect();
        let report = self.report.clone();
        self.storage.append(entries, move |result| {
            let _ = report.send(match result {
                Ok(at) => Written { positions: looked.into_iter().zip(at).collect(), failed: None },
                Err(error) => Written { positions: Vec::new(), failed: Some(error.to_string()) },
            });
        });
    }

    fn take_written(&mut self, written: Written) {
        if let Some(reason) = written.failed {
            if self.host.failed().is_none() {
                tracing::error!(store = %self.host.replica().identity().store, "the storage failed: {reason}");
            }
            self.host.append_failed(&reason);
            return;
        }
        let lines = written.positions.len() as u64;
        for (looked, at) in written.positions {
            self.positions.note(looked, at);
        }
        self.host.appended(self.clock.now(), lines);
    }

    fn send(&mut self, peer: WriterId, frame: Vec<u8>) {
        let Some((_, frames)) = self.links.get(&peer) else { return };
        if frames.try_send(frame).is_err() {
            // It asks and does not listen, or is gone: its conversation ends, and begins anew when it reads again.
            self.links.remove(&peer);
            self.notes.note(Some(self.name(&peer)), "stalled", "does not read".to_owned());
            self.give(Input::PeerDown(peer));
        }
    }

    fn send_batches(&mut self, peer: WriterId, number: u64, batches: Vec<Stored>) {
        let carried: Result<Vec<Carried>, String> = batches
            .into_iter()
            .map(|stored| match stored {
                Stored::Here(carried) => Ok(carried),
                Stored::InLog(ordinal) => self.read_batch(ordinal),
            })
            .collect();
        match carried {
            Ok(batches) => self.send(peer, Message::Batches { number, batches }.encode()),
            Err(reason) => {
                tracing::error!("a batch cannot be read back: {reason}");
                self.notes.note(Some(self.name(&peer)), "unreadable", reason);
                self.links.remove(&peer);
                self.give(Input::PeerDown(peer));
            }
        }
    }

    fn read_batch(&self, ordinal: u64) -> Result<Carried, String> {
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
                    |reason: String| StoreError::Unreadable(format!("the journal cannot be read: {reason}"));
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
