//! Stores that other hubs have, as this one sees them: it reads along in their logs and can be asked everything that the hub
//! that has the store can be asked, a moment later. What is to be recorded is passed on to that hub.
//!
//! One thread reads a log for all stores in it (`along`), begins when one of them is first asked or when the log is to be kept warm
//! (`deputy`), and goes when nobody asks for a while. When this process takes a log, its thread lets go of the log's folder first.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use engine::ids::StoreId;
use engine::lease::{HubName, Warm, shard_of};
use engine::replica::Receipt;
use engine::transaction::HubRecord;

use super::along::{Ask, Reading};
use super::between::{Lines, NotStated};
use super::table::{HubRow, Seen};
use crate::database::Database;
use crate::hub::{HANDS_LOOK, HANDS_WAIT, HubConfig};
use crate::identity::NodeKey;
use crate::runtime::alarms::Alarms;
use crate::runtime::audit::AuditLog;
use crate::runtime::clock::Clock;
use crate::runtime::store::{GoesOn, Job, StoreError, StoreHandle};
use crate::storage::vault::Vault;
use crate::storage::{Position, folder_of};
use crate::transport::Endpoint;

/// How long a lease lasts that is not prolonged (storage/postgres).
const LEASE: Duration = Duration::from_secs(5);
/// Images of a log are nearly new if no more came after them than this: some seconds of reading at most.
const WARM_ENTRIES: u64 = 20_000;
const WARM_BYTES: u64 = 4 << 20;

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
    /// When they were looked at last.
    seen_at: RwLock<Option<Instant>>,
    /// Why the tables cannot be looked at, while they cannot.
    cut_off: RwLock<Option<String>>,
    /// Stores that have a till.
    stores: RwLock<BTreeSet<StoreId>>,
    readers: Mutex<Readers>,
    handles: Mutex<BTreeMap<StoreId, StoreHandle>>,
    /// Who reads a log along lets go of it when this process takes it: its stores go on here. Not when the process stops.
    goes_on: GoesOn,
    /// How far the images reach that are kept here of logs.
    kept: Mutex<BTreeMap<u16, Kept>>,
}

/// The threads that read logs.
#[derive(Default)]
struct Readers {
    along: BTreeMap<u16, Along>,
    begun: u64,
    /// Logs that this process has or takes: their folders are not for reading along.
    here: BTreeSet<u16>,
}

/// The thread that reads a log.
struct Along {
    life: u64,
    asks: Sender<Ask>,
    stop: Arc<AtomicBool>,
}

/// How far images of a log reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) from: Position,
    /// Bytes of the log when it was read to its end.
    pub(super) bytes: u64,
}

impl Kept {
    /// Entries and bytes that a log has beyond it.
    pub(super) fn lacks(self, (end, bytes): (u64, u64)) -> (u64, u64) {
        (end.saturating_sub(self.from.0), bytes.saturating_sub(self.bytes))
    }
}

impl Elsewhere {
    pub(crate) fn new(company: Company) -> Self {
        let goes_on = GoesOn::default();
        goes_on.set(true);
        Self {
            company,
            lines: Arc::default(),
            endpoint: RwLock::default(),
            seen: RwLock::default(),
            seen_at: RwLock::default(),
            cut_off: RwLock::default(),
            stores: RwLock::default(),
            readers: Mutex::default(),
            handles: Mutex::default(),
            kept: Mutex::default(),
            goes_on,
        }
    }

    /// This process stops: whoever is not answered is told so.
    pub(super) fn stops(&self) {
        self.goes_on.set(false);
    }

    /// Through what other hubs are reached, once this one listens.
    pub(super) fn reached_by(&self, endpoint: Endpoint) {
        *write(&self.endpoint) = Some(endpoint);
    }

    /// What the tables said last.
    pub(super) fn saw(&self, seen: Seen) {
        *write(&self.seen) = seen;
        *write(&self.seen_at) = Some(Instant::now());
        *write(&self.cut_off) = None;
    }

    pub(super) fn is_cut_off(&self, reason: String) {
        *write(&self.cut_off) = Some(reason);
    }

    /// Whether the tables were not seen for longer than a lease lasts: whatever this hub has may be another one's by now.
    pub(crate) fn is_blind(&self) -> bool {
        read(&self.seen_at).is_some_and(|at| at.elapsed() >= LEASE)
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

    /// Which hubs say that they are warm in which logs.
    pub(super) fn warm(&self) -> Warm {
        let seen = read(&self.seen);
        seen.hubs.iter().flat_map(|row| row.warm.iter().map(|number| (row.member.hub, *number))).collect()
    }

    /// What the tables said last.
    pub(super) fn seen(&self) -> Seen {
        read(&self.seen).clone()
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

    /// This process takes a log: who reads it along keeps what he has and lets go of its folder, which takes a moment.
    pub(super) fn takes(&self, number: u16) {
        let mut readers = lock(&self.readers);
        readers.here.insert(number);
        if let Some(along) = readers.along.remove(&number) {
            along.stop.store(true, Ordering::Release);
        }
        lock(&self.kept).remove(&number);
    }

    /// It has not got it, or no more.
    pub(super) fn gives(&self, number: u16) {
        let mut readers = lock(&self.readers);
        readers.here.remove(&number);
        // Who read it meanwhile did without its folder.
        if let Some(along) = readers.along.remove(&number) {
            along.stop.store(true, Ordering::Release);
        }
    }

    /// A thread wants to go; it does not if it is asked for something, which it gets. `None`: it is known no more.
    pub(super) fn leaves(&self, number: u16, life: u64, asked: &Receiver<Ask>) -> Option<Ask> {
        let mut readers = lock(&self.readers);
        let ask = asked.try_recv().ok();
        if ask.is_none() && readers.along.get(&number).is_some_and(|along| along.life == life) {
            readers.along.remove(&number);
        }
        ask
    }

    /// Images of a log that reach so far are durable.
    pub(super) fn keeps(&self, number: u16, kept: Kept) {
        lock(&self.kept).insert(number, kept);
    }

    /// There are none.
    pub(super) fn keeps_nothing(&self, number: u16) {
        lock(&self.kept).remove(&number);
    }

    pub(super) fn kept(&self, number: u16) -> Option<Kept> {
        lock(&self.kept).get(&number).copied()
    }

    /// Where a log ends, and its bytes, as far as the tables said last.
    pub(super) fn end_of(&self, number: u16) -> (u64, u64) {
        read(&self.seen).ends.get(&number).copied().unwrap_or_default()
    }

    /// Logs that somebody else has and that are read along.
    pub(super) fn along(&self) -> Vec<u16> {
        lock(&self.readers).along.keys().copied().collect()
    }

    /// Whether this process has a log or takes it.
    pub(super) fn is_here(&self, number: u16) -> bool {
        lock(&self.readers).here.contains(&number)
    }

    /// Logs that this hub would open in a moment: it keeps images of them that are nearly new. The company's own, which has no
    /// stores, is among them if all others are that it would read along in.
    pub(super) fn warm_in(&self) -> Vec<u16> {
        let is_warm = |number: u16| {
            let lacks = self.kept(number).map(|kept| kept.lacks(self.end_of(number)));
            lacks.is_some_and(|(entries, bytes)| entries <= WARM_ENTRIES && bytes <= WARM_BYTES)
        };
        let others: Vec<u16> = (1..=self.company.shards).filter(|number| !self.is_here(*number)).collect();
        let mut warm: Vec<u16> = others.iter().copied().filter(|number| is_warm(*number)).collect();
        if warm.len() == others.len() && !self.is_here(0) {
            warm.insert(0, 0);
        }
        warm
    }

    /// Reads a log along as far as it goes and keeps images of its stores; nobody waits for it. Gives what ends with it.
    pub(super) fn freshen(self: &Arc<Self>, number: u16) -> tokio::sync::oneshot::Receiver<()> {
        let (done, ends) = tokio::sync::oneshot::channel();
        self.put(number, Ask::Freshen(done));
        ends
    }

    /// Has a statement recorded by whoever has the store; waits while it changes hands.
    pub(super) async fn state(
        &self,
        number: u16,
        store: &StoreId,
        record: HubRecord,
        receipt: String,
    ) -> Result<Receipt, StoreError> {
        let since = Instant::now();
        loop {
            if let Some((endpoint, address)) = self.way_to(number) {
                let statement = (self.company.me, record.clone(), receipt.clone());
                match self.lines.state(&endpoint, &address, store, statement).await {
                    Ok(receipt) => return Ok(receipt),
                    Err(NotStated::Failed(error)) => return Err(error),
                    Err(NotStated::NotHere) => {}
                }
            }
            if self.has(self.company.me, number) || since.elapsed() >= HANDS_WAIT {
                return Err(StoreError::Elsewhere("no hub has it at the moment".to_owned()));
            }
            tokio::time::sleep(HANDS_LOOK).await;
        }
    }

    fn number_of(&self, store: &StoreId) -> u16 {
        shard_of(store.as_str(), self.company.shards)
    }

    fn handle(self: &Arc<Self>, store: &StoreId) -> StoreHandle {
        let mut handles = lock(&self.handles);
        if let Some(handle) = handles.get(store) {
            return handle.clone();
        }
        let (handle, mut jobs) = StoreHandle::to(store.clone(), self.goes_on.clone());
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
        self.put(self.number_of(store), Ask::Of(store.clone(), Box::new(job)));
    }

    fn put(self: &Arc<Self>, number: u16, ask: Ask) {
        let mut readers = lock(&self.readers);
        let left = match readers.along.get(&number) {
            Some(along) => along.asks.send(ask).err().map(|back| back.0),
            None => Some(ask),
        };
        // There is none, or its thread died.
        if let Some(ask) = left {
            readers.begun += 1;
            let next = self.begin(number, readers.begun, !readers.here.contains(&number));
            let _ = next.asks.send(ask);
            readers.along.insert(number, next);
        }
    }

    /// Begins to read a log, in its own folder if that is free.
    fn begin(self: &Arc<Self>, number: u16, life: u64, in_folder: bool) -> Along {
        let (asks, asked) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let folder = folder_of(&self.company.dir, number);
        let folder = in_folder.then_some(folder);
        let reading = Reading::new(self, (number, life), folder, stop.clone());
        let builder = std::thread::Builder::new().name(format!("along-{number}"));
        if let Err(error) = builder.spawn(move || reading.run(&asked)) {
            // Without a thread nobody answers, and whoever asked hears so.
            tracing::error!("no thread to read along with: {error}");
        }
        Along { life, asks, stop }
    }

    pub(super) fn company(&self) -> &Company {
        &self.company
    }

    /// Through what the hub is reached that has a log, and where, if both are known.
    pub(super) fn way_to(&self, number: u16) -> Option<(Endpoint, String)> {
        read(&self.endpoint).clone().zip(self.address_of(number))
    }
}

fn read<T>(cell: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    cell.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(cell: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    cell.write().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn lock<T>(cell: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Every change is one insertion or removal.
    cell.lock().unwrap_or_else(PoisonError::into_inner)
}
