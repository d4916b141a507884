//! Stores that other hubs have, as this one sees them: it reads along in their logs and can be asked everything that the hub
//! that has the store can be asked, a moment later. What is to be recorded is passed on to that hub.
//!
//! A copy is judged only where the writer had judged everything, behind its mark in the log ([`engine::entry::Entry::Posted`]):
//! so it never says anything that the writer's books did not say, and journal numbers are the writer's own. One thread reads a
//! log for all stores in it, begins when one of them is first asked, and goes when nobody asks for a while.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use engine::attic::{Attic, Workroom};
use engine::entry::{Entry as LogEntry, NODE_KINDS_FROM};
use engine::host::Looked;
use engine::ids::StoreId;
use engine::lease::{HubName, shard_of};
use engine::ledger::WorkLimits;
use engine::replica::{ReadBack, Replica};
use tokio::runtime::Handle;

use super::between::{Doing, Lines};
use super::table::{HubRow, Seen, log_id};
use crate::database::Database;
use crate::hub::{HubConfig, base_policy, replica_identity};
use crate::identity::NodeKey;
use crate::runtime::alarms::{Alarms, Told};
use crate::runtime::audit::{AUDIT_KIND, AuditEvent, AuditLog};
use crate::runtime::clock::{Clock, now_ms};
use crate::runtime::positions::Positions;
use crate::runtime::store::{Job, StoreError, StoreHandle, read_journal};
use crate::storage::vault::Vault;
use crate::storage::{Entry, LogReader, Position, Scratch, StorageError};
use crate::transport::Endpoint;

/// What was read this recently is new enough.
const FRESH: Duration = Duration::from_millis(100);
/// How often the other hub is asked how its tills are doing.
const LIVE_EVERY: Duration = Duration::from_secs(1);
/// A log that nobody asks about for so long is read along no more.
const IDLE: Duration = Duration::from_secs(600);
/// Tries to read a log anew that did not fit.
const TRIES: u32 = 3;

/// What a copy needs.
#[derive(Clone)]
pub(crate) struct Company {
    pub(crate) dir: PathBuf,
    pub(crate) database: Database,
    pub(crate) log_id: [u8; 16],
    pub(crate) shards: u16,
    pub(crate) me: HubName,
    pub(crate) config: HubConfig,
    pub(crate) clock: Clock,
    pub(crate) key: NodeKey,
    pub(crate) vault: Option<Vault>,
    pub(crate) audit: AuditLog,
    pub(crate) alarms: Alarms,
}

/// The other hubs, and the stores that they have.
pub(crate) struct Elsewhere {
    company: Company,
    lines: Arc<Lines>,
    endpoint: RwLock<Option<Endpoint>>,
    seen: RwLock<Seen>,
    /// Why the tables cannot be looked at, while they cannot.
    cut_off: RwLock<Option<String>>,
    /// Stores that have a till.
    stores: RwLock<BTreeSet<StoreId>>,
    readers: Mutex<BTreeMap<u16, Along>>,
    handles: Mutex<BTreeMap<StoreId, StoreHandle>>,
}

/// The thread that reads a log.
struct Along {
    asks: Sender<(StoreId, Job)>,
}

impl Elsewhere {
    pub(crate) fn new(company: Company) -> Self {
        Self {
            company,
            lines: Arc::default(),
            endpoint: RwLock::default(),
            seen: RwLock::default(),
            cut_off: RwLock::default(),
            stores: RwLock::default(),
            readers: Mutex::default(),
            handles: Mutex::default(),
        }
    }

    /// Through what other hubs are reached, once this one listens.
    pub(super) fn reached_by(&self, endpoint: Endpoint) {
        *write(&self.endpoint) = Some(endpoint);
    }

    /// What the tables said last.
    pub(super) fn saw(&self, seen: Seen) {
        *write(&self.seen) = seen;
        *write(&self.cut_off) = None;
    }

    pub(super) fn is_cut_off(&self, reason: String) {
        *write(&self.cut_off) = Some(reason);
    }

    /// Why the tables of the hubs cannot be looked at, while they cannot.
    pub(crate) fn cut_off(&self) -> Option<String> {
        read(&self.cut_off).clone()
    }

    pub(super) fn knows(&self, store: &StoreId) {
        if !read(&self.stores).contains(store) {
            write(&self.stores).insert(store.clone());
        }
    }

    /// The hubs that are there, each with the numbers of the logs that it has.
    pub(crate) fn hubs(&self) -> Vec<(HubRow, Vec<u16>)> {
        let seen = read(&self.seen);
        let logs_of = |row: &HubRow| {
            let its = seen.logs.iter().filter(|log| log.holder == Some(row.member.hub));
            its.map(|log| log.number).collect()
        };
        seen.hubs.iter().map(|row| (row.clone(), logs_of(row))).collect()
    }

    /// Whether a hub has a log, as far as the tables said last.
    pub(super) fn has(&self, hub: HubName, number: u16) -> bool {
        read(&self.seen).logs.iter().any(|log| log.number == number && log.holder == Some(hub))
    }

    /// Where the hub is reached that has a log, if it is another one and known.
    pub(crate) fn address_of(&self, number: u16) -> Option<String> {
        let seen = read(&self.seen);
        let holder = seen.logs.iter().find(|log| log.number == number)?.holder?;
        let hub = seen.hubs.iter().find(|row| row.member.hub == holder)?;
        (holder != self.company.me).then(|| hub.address.clone())
    }

    /// Where tills reach every hub that is there, this one too.
    pub(crate) fn addresses(&self) -> Vec<String> {
        read(&self.seen).hubs.iter().map(|row| row.address.clone()).collect()
    }

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    /// Every store that has a till.
    pub(crate) fn stores(self: &Arc<Self>) -> Vec<StoreHandle> {
        let names = read(&self.stores).clone();
        names.iter().map(|store| self.handle(store)).collect()
    }

    /// A store that has a till.
    pub(crate) fn store(self: &Arc<Self>, store: &StoreId) -> Option<StoreHandle> {
        let known = read(&self.stores).contains(store);
        known.then(|| self.handle(store))
    }

    /// A store, of which nothing may be there yet; `None`: nobody has its log at the moment.
    pub(crate) fn store_or_new(self: &Arc<Self>, store: &StoreId) -> Option<StoreHandle> {
        self.address_of(self.number_of(store)).map(|_| self.handle(store))
    }

    /// This process has a log itself from now on: it is read along no more.
    pub(super) fn is_here(&self, number: u16) {
        lock(&self.readers).remove(&number);
    }

    fn number_of(&self, store: &StoreId) -> u16 {
        shard_of(store.as_str(), self.company.shards)
    }

    fn handle(self: &Arc<Self>, store: &StoreId) -> StoreHandle {
        let mut handles = lock(&self.handles);
        if let Some(handle) = handles.get(store) {
            return handle.clone();
        }
        let (handle, mut jobs) = StoreHandle::to(store.clone());
        let (elsewhere, name) = (Arc::downgrade(self), store.clone());
        tokio::spawn(async move {
            while let Some(job) = jobs.recv().await {
                let Some(elsewhere) = elsewhere.upgrade() else { return };
                elsewhere.pass_on(&name, job);
            }
        });
        handles.insert(store.clone(), handle.clone());
        handle
    }

    /// Gives a job to the thread that reads the store's log; begins it if there is none.
    fn pass_on(self: &Arc<Self>, store: &StoreId, job: Job) {
        let number = self.number_of(store);
        let mut readers = lock(&self.readers);
        let along = readers.entry(number).or_insert_with(|| self.begin(number));
        // It went, for nobody had asked for a while: another begins.
        if let Err(back) = along.asks.send((store.clone(), job)) {
            let next = self.begin(number);
            let _ = next.asks.send(back.0);
            readers.insert(number, next);
        }
    }

    fn begin(self: &Arc<Self>, number: u16) -> Along {
        let (asks, asked) = channel();
        let reading = Reading {
            company: self.company.clone(),
            number,
            log: None,
            scratch: None,
            at: Position(0),
            stores: BTreeMap::new(),
            looked: None,
            live: Arc::default(),
            alarms: Vec::new(),
            asked_live: None,
            stale: Arc::default(),
            events: VecDeque::new(),
            elsewhere: Arc::downgrade(self),
            runtime: Handle::current(),
        };
        let builder = std::thread::Builder::new().name(format!("along-{number}"));
        if let Err(error) = builder.spawn(move || reading.run(&asked)) {
            // Without a thread nobody answers, and whoever asked hears so.
            tracing::error!("no thread to read along with: {error}");
        }
        Along { asks }
    }
}

/// A store as the log has it.
struct Copy {
    replica: Replica,
    positions: Positions,
    /// What stands behind the writer's last mark.
    tail: Vec<ReadBack>,
}

struct Reading {
    company: Company,
    number: u16,
    log: Option<LogReader>,
    /// Where the copies rest; `None`: in memory.
    scratch: Option<Arc<Scratch>>,
    at: Position,
    stores: BTreeMap<StoreId, Copy>,
    looked: Option<Instant>,
    /// How the tills are doing, as the other hub said last, and when it was asked.
    live: Arc<Mutex<Option<Doing>>>,
    /// Alarms that it told.
    alarms: Vec<Told>,
    asked_live: Option<Instant>,
    /// Something was recorded through here: what was read before is not new enough.
    stale: Arc<AtomicBool>,
    /// What the other hub noted, to be shown here as well.
    events: VecDeque<AuditEvent>,
    elsewhere: std::sync::Weak<Elsewhere>,
    runtime: Handle,
}

/// Why reading along ended for now.
enum Broken {
    /// The log could not be read.
    Unread(StorageError),
    /// What was read does not fit what was read before.
    Misfit(String),
}

impl From<StorageError> for Broken {
    fn from(error: StorageError) -> Self {
        Self::Unread(error)
    }
}

impl Reading {
    fn run(mut self, asked: &Receiver<(StoreId, Job)>) {
        loop {
            match asked.recv_timeout(IDLE) {
                Ok((store, job)) => self.answer(&store, job),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn answer(&mut self, store: &StoreId, job: Job) {
        match job {
            Job::Ask(question) => {
                self.read_on();
                question(&mut self.copy(store).replica);
            }
            Job::Journal(from, limit, reply) => {
                self.read_on();
                let read = match (&self.log, self.stores.get(store)) {
                    (Some(log), Some(copy)) => {
                        read_journal(&copy.positions, (from, limit), |at| log.read(at))
                    }
                    _ => Ok(Vec::new()),
                };
                let _ = reply.send(read);
            }
            Job::State(record, receipt, reply) => {
                let (elsewhere, number, store) = (self.elsewhere.upgrade(), self.number, store.clone());
                let stale = self.stale.clone();
                self.runtime.spawn(async move {
                    let nobody = || StoreError::Elsewhere("no hub has it at the moment".to_owned());
                    let stated = match elsewhere {
                        None => Err(StoreError::Stopping),
                        Some(elsewhere) => {
                            let endpoint = read(&elsewhere.endpoint).clone();
                            match endpoint.zip(elsewhere.address_of(number)) {
                                None => Err(nobody()),
                                Some((endpoint, address)) => {
                                    let lines = elsewhere.lines.clone();
                                    let by = elsewhere.company.me;
                                    lines.state(&endpoint, &address, &store, (by, *record, receipt)).await
                                }
                            }
                        }
                    };
                    stale.store(true, Ordering::Release);
                    let _ = reply.send(stated);
                });
            }
            Job::Capture(_, reply) => {
                let _ = reply.send(Err(StoreError::Elsewhere("tills record, hubs do not".to_owned())));
            }
            Job::Stop(reply) => {
                let _ = reply.send(());
            }
            // Tills of the store are with the hub that has it.
            Job::LinkUp(..) | Job::LinkDown(..) | Job::Frame(..) => {}
        }
    }

    /// Reads what is new. A log that cannot be read now leaves what was read before.
    fn read_on(&mut self) {
        self.ask_live();
        let stale = self.stale.swap(false, Ordering::AcqRel);
        if !stale && self.looked.is_some_and(|looked| looked.elapsed() < FRESH) {
            return;
        }
        for tried in 1..=TRIES {
            match self.read() {
                Ok(()) => break,
                Err(Broken::Unread(error)) => {
                    tracing::warn!(log = self.number, "not read along for now: {error}");
                    break;
                }
                Err(Broken::Misfit(reason)) => {
                    tracing::warn!(log = self.number, tried, "read along anew from the start: {reason}");
                    (self.log, self.at) = (None, Position(0));
                    self.stores.clear();
                }
            }
        }
        self.looked = Some(Instant::now());
    }

    fn read(&mut self) -> Result<(), Broken> {
        let log = match &self.log {
            Some(log) => log.clone(),
            None => {
                let id = log_id(self.company.log_id, self.number);
                let opened = LogReader::open(self.company.database.clone(), id, self.company.vault.as_ref())?;
                let Some(log) = opened else { return Ok(()) };
                let dir = self.company.dir.join("logs").join(format!("along-{:03}", self.number));
                self.scratch = Scratch::for_now(&dir)
                    .inspect_err(|error| tracing::warn!("no scratch file, so memory follows it: {error}"))
                    .ok()
                    .map(Arc::new);
                self.log.insert(log).clone()
            }
        };
        let end = log.look()?;
        if end < self.at {
            return Err(Broken::Misfit(format!("it ends at {end} and ended at {} before", self.at)));
        }
        let from = self.at;
        if end > from {
            log.replay(from, &mut |at, entry| self.take(at, &entry))?;
        }
        let now = self.company.clock.at(now_ms());
        for (store, copy) in &mut self.stores {
            let missing = copy.replica.read_along(now);
            copy.replica.rest();
            if missing > 0 {
                return Err(Broken::Misfit(format!(
                    "{missing} journal entries of store {store} are not there"
                )));
            }
        }
        self.company.audit.take_in(self.events.drain(..));
        let heard = lock(&self.live).take();
        if let Some(Doing { tills, alarms }) = heard {
            for (store, tills) in tills {
                self.copy(&store).replica.hear_elsewhere(tills);
            }
            self.company.alarms.hear(&alarms, &self.alarms);
            self.alarms = alarms;
        }
        Ok(())
    }

    /// Asks the hub that has the stores how their tills are doing; nobody waits for it.
    fn ask_live(&mut self) {
        if self.asked_live.is_some_and(|asked| asked.elapsed() < LIVE_EVERY) {
            return;
        }
        self.asked_live = Some(Instant::now());
        let Some(elsewhere) = self.elsewhere.upgrade() else { return };
        let (number, live) = (self.number, self.live.clone());
        self.runtime.spawn(async move {
            let endpoint = read(&elsewhere.endpoint).clone();
            let Some((endpoint, address)) = endpoint.zip(elsewhere.address_of(number)) else { return };
            let heard = elsewhere.lines.live(&endpoint, &address, number).await;
            *lock(&live) = heard;
        });
    }

    fn take(&mut self, at: Position, entry: &Entry) -> Result<(), Broken> {
        self.at = Position(at.0 + 1);
        let misfit = |reason: String| Broken::Misfit(format!("entry {at}: {reason}"));
        if entry.kind == AUDIT_KIND {
            self.events.extend(AuditEvent::decode(&entry.bytes));
            if self.events.len() > EVENTS {
                self.events.pop_front();
            }
            return Ok(());
        }
        if entry.kind >= NODE_KINDS_FROM {
            return Ok(());
        }
        let (store, read) =
            LogEntry::decode(entry.kind, &entry.bytes).map_err(|error| misfit(error.to_string()))?;
        let mark = matches!(read, LogEntry::Posted(_));
        // What changes no books waits for nothing.
        let aside = matches!(read, LogEntry::Link(_) | LogEntry::Custody(_));
        let looked = Looked::of(&read);
        let ready = ReadBack::of(read).map_err(|error| misfit(error.to_string()))?;
        let copy = self.copy(&store);
        copy.positions.note(looked, at);
        copy.tail.push(ready);
        if mark || aside && copy.tail.len() == 1 {
            for ready in copy.tail.drain(..) {
                copy.replica.take_back(ready).map_err(|error| misfit(error.to_string()))?;
            }
            copy.replica.rest();
        }
        Ok(())
    }

    fn copy(&mut self, store: &StoreId) -> &mut Copy {
        let company = &self.company;
        let attic = self.scratch.clone().map(|scratch| scratch as Arc<dyn Attic>);
        let room = Workroom { limits: WorkLimits::default(), attic };
        self.stores.entry(store.clone()).or_insert_with(|| {
            let policy = base_policy(company.config.currency);
            let replica = Replica::new(replica_identity(&company.key, store), policy).in_room(&room);
            let positions = Positions::new(replica.room());
            Copy { replica, positions, tail: Vec::new() }
        })
    }
}

/// Events of other hubs that are kept until they are shown.
const EVENTS: usize = 20_000;

fn read<T>(cell: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    cell.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(cell: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    cell.write().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(cell: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every change is one insertion or removal.
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}
