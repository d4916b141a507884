//! Reading along in a log that another hub writes: its stores as copies, which answer what is asked of them, and images of them in the
//! log's own folder, from which this hub goes on if it takes the log, and from which reading along itself goes on.
//!
//! A copy is judged only where the writer had judged everything, behind its mark in the log ([`engine::entry::Entry::Posted`]):
//! so it never says anything that the writer's books did not say, and journal numbers are the writer's own. An image is made of
//! what was judged so, and of nothing behind the last mark; it names its last entry, and a log that does not have it is not
//! opened from the image (`runtime::checkpoint`).
//!
//! Whatever fails here costs time, never a takeover: images that do not fit are thrown away and the log is read from its start; a
//! folder that cannot be had is done without.

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use engine::entry::{Entry as LogEntry, NODE_KINDS_FROM};
use engine::ids::StoreId;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::between::Doing;
use super::copies::Copy;
use super::nook::Nook;
use super::reading::{Company, Elsewhere, Kept, lock};
use super::table::log_id;
use crate::runtime::alarms::Told;
use crate::runtime::audit::{AUDIT_KIND, AuditEvent};
use crate::runtime::checkpoint::keep_all;
use crate::runtime::clock::now_ms;
use crate::runtime::reached::{Reached, Seen};
use crate::runtime::store::{Job, StoreError, read_journal};
use crate::storage::{Entry, LogReader, Position, StorageError};

/// What was read this recently is new enough.
const FRESH: Duration = Duration::from_millis(100);
/// How often the other hub is asked how its tills are doing.
const LIVE_EVERY: Duration = Duration::from_secs(1);
/// A log that nobody asks about for so long is read along no more.
const IDLE: Duration = Duration::from_secs(600);
/// Tries to read a log anew that did not fit.
const TRIES: u32 = 3;
/// Bytes of the log that are read, judged and rested from at a time, about, and fewest and most entries.
const PORTION_BYTES: u64 = 1 << 20;
const PORTION: [u64; 2] = [16, 8_192];
/// Images are kept under way after so many bytes.
const KEEP_BYTES: u64 = 32 << 20;
/// Stores whose images are kept together.
const KEPT_TOGETHER: usize = 8;
/// Longest that images are kept while this process waits for the log.
const KEEP_LAST: Duration = Duration::from_millis(300);
/// Longest pause after a portion that nobody waits for: as long as it took, so that it has half of a core at most.
const PAUSE: Duration = Duration::from_secs(1);
const PAUSE_LOOK: Duration = Duration::from_millis(10);
/// Events of other hubs that are kept until they are shown.
const EVENTS: usize = 20_000;
/// What an entry costs beside its bytes.
const ROW_BYTES: u64 = 64;

/// What a thread that reads along is asked for.
pub(super) enum Ask {
    /// Something about a store.
    Of(StoreId, Box<Job>),
    /// To read on and keep images; nobody waits for what it reads.
    Freshen(oneshot::Sender<()>),
}

pub(super) struct Reading {
    company: Company,
    number: u16,
    life: u64,
    /// The log's folder; `None`: it is not to be had.
    folder: Option<PathBuf>,
    log: Option<LogReader>,
    // Before the nook: what rests there goes first.
    stores: BTreeMap<StoreId, Copy>,
    nook: Nook,
    at: Position,
    /// The last entries that were read.
    seen: Seen,
    /// Bytes that were read since images were kept last.
    unkept: u64,
    /// How far they reach is noted.
    noted: bool,
    /// Bytes of the log when it was read to its end.
    bytes: u64,
    /// Entries and bytes of the last portion.
    read: (u64, u64),
    /// It was read to its end once.
    whole: bool,
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
    /// Somebody asked for something, and may again.
    lingers: bool,
    /// This process takes the log.
    stop: Arc<AtomicBool>,
    elsewhere: std::sync::Weak<Elsewhere>,
    runtime: Handle,
}

/// Why reading along ended for now.
pub(super) enum Broken {
    /// The log could not be read.
    Unread(StorageError),
    /// What was read does not fit what was read before.
    Misfit(String),
    /// It is enough for now.
    Enough,
}

impl From<StorageError> for Broken {
    fn from(error: StorageError) -> Self {
        Self::Unread(error)
    }
}

impl Reading {
    pub(super) fn new(
        elsewhere: &Arc<Elsewhere>,
        (number, life): (u16, u64),
        folder: Option<PathBuf>,
        stop: Arc<AtomicBool>,
    ) -> Self {
        Self {
            company: elsewhere.company().clone(),
            number,
            life,
            folder,
            log: None,
            stores: BTreeMap::new(),
            nook: Nook::default(),
            at: Position(0),
            seen: Seen::default(),
            unkept: 0,
            noted: false,
            bytes: 0,
            read: (0, 0),
            whole: false,
            looked: None,
            live: Arc::default(),
            alarms: Vec::new(),
            asked_live: None,
            stale: Arc::default(),
            events: VecDeque::new(),
            lingers: false,
            stop,
            elsewhere: Arc::downgrade(elsewhere),
            runtime: Handle::current(),
        }
    }

    pub(super) fn run(mut self, asked: &Receiver<Ask>) {
        loop {
            let linger = if self.lingers { IDLE } else { Duration::ZERO };
            let ask = match asked.recv_timeout(linger) {
                Ok(ask) => Some(ask),
                Err(RecvTimeoutError::Timeout) => {
                    self.keep(None, &mut |_| {});
                    let elsewhere = self.elsewhere.upgrade();
                    elsewhere.and_then(|elsewhere| elsewhere.leaves(self.number, self.life, asked))
                }
                Err(RecvTimeoutError::Disconnected) => None,
            };
            let Some(ask) = ask else { break };
            let heard = catch_unwind(AssertUnwindSafe(|| self.hear(ask, asked)));
            if heard.is_err() {
                // A piece of the copies cannot be read back, perhaps; everything is in the log.
                tracing::error!(
                    log = self.number,
                    "reading along failed; it begins anew from the log's start"
                );
                self.begin_anew();
            }
        }
        self.keep(Some(KEEP_LAST), &mut |_| {});
    }

    fn hear(&mut self, ask: Ask, asked: &Receiver<Ask>) {
        match ask {
            Ask::Of(store, job) => {
                self.lingers = true;
                self.answer(&store, *job);
            }
            Ask::Freshen(done) => {
                self.freshen(asked);
                let _ = done.send(());
            }
        }
    }

    /// Reads on with pauses and keeps images; whoever asks meanwhile is answered.
    fn freshen(&mut self, asked: &Receiver<Ask>) {
        if self.folder.is_some() && self.nook.is_open() && self.nook.keeps().is_none() {
            // Somebody still had the folder then.
            self.start_over();
        }
        let mut answer = |reading: &mut Self| {
            while let Ok(ask) = asked.try_recv() {
                match ask {
                    Ask::Of(store, job) => reading.answer(&store, *job),
                    Ask::Freshen(done) => drop(done),
                }
                reading.lingers = true;
            }
        };
        for _ in 0..TRIES {
            let read = self.read_slowly(&mut answer);
            match read {
                Ok(()) => return self.keep(None, &mut answer),
                Err(Broken::Enough) => return,
                Err(Broken::Unread(error)) => {
                    tracing::info!(log = self.number, "not kept warm for now: {error}");
                    return;
                }
                Err(Broken::Misfit(reason)) => {
                    tracing::warn!(log = self.number, "read along anew from the start: {reason}");
                    self.begin_anew();
                }
            }
        }
    }

    /// Reads to the end, with pauses.
    fn read_slowly(&mut self, between: &mut dyn FnMut(&mut Self)) -> Result<(), Broken> {
        loop {
            let began = Instant::now();
            if self.portion()? {
                return Ok(());
            }
            let took = began.elapsed();
            self.keep_under_way();
            between(self);
            let since = Instant::now();
            while since.elapsed() < took.min(PAUSE) && !self.stop.load(Ordering::Acquire) {
                std::thread::sleep(PAUSE_LOOK);
            }
        }
    }

    fn answer(&mut self, store: &StoreId, job: Job) {
        match job {
            Job::Ask(question) => {
                self.read_on();
                if self.stop.load(Ordering::Acquire) && !self.whole {
                    // A part of the books would be no answer; whoever asks again asks the store itself.
                    return;
                }
                match self.copy(store) {
                    Ok(copy) => question(&mut copy.replica),
                    Err(_) => {
                        self.begin_anew();
                        self.read_on();
                        if let Ok(copy) = self.copy(store) {
                            question(&mut copy.replica);
                        }
                    }
                }
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
                    let stated = match elsewhere {
                        None => Err(StoreError::Stopping),
                        Some(elsewhere) => elsewhere.state(number, &store, *record, receipt).await,
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
                Ok(()) | Err(Broken::Enough) => break,
                Err(Broken::Unread(error)) => {
                    tracing::warn!(log = self.number, "not read along for now: {error}");
                    break;
                }
                Err(Broken::Misfit(reason)) => {
                    tracing::warn!(log = self.number, tried, "read along anew from the start: {reason}");
                    self.begin_anew();
                }
            }
        }
        self.looked = Some(Instant::now());
    }

    /// Reads to the end.
    fn read(&mut self) -> Result<(), Broken> {
        while !self.portion()? {
            if self.stop.load(Ordering::Acquire) {
                return Err(Broken::Enough);
            }
            self.keep_under_way();
        }
        self.company.audit.take_in(self.events.drain(..));
        let heard = lock(&self.live).take();
        if let Some(Doing { tills, alarms }) = heard {
            for (store, tills) in tills {
                if let Ok(copy) = self.copy(&store) {
                    copy.replica.hear_elsewhere(tills);
                }
            }
            self.company.alarms.hear(&alarms, &self.alarms);
            self.alarms = alarms;
        }
        Ok(())
    }

    /// Reads and judges a portion; gives whether that was all.
    fn portion(&mut self) -> Result<bool, Broken> {
        if self.stop.load(Ordering::Acquire) {
            return Err(Broken::Enough);
        }
        let Some(log) = self.begun()? else { return Ok(true) };
        let end = log.look()?;
        if end < self.at {
            return Err(Broken::Misfit(format!("it ends at {end} and ended at {} before", self.at)));
        }
        let from = self.at;
        if end > from {
            // As large as those before it.
            let (read, bytes) = if self.read.0 > 0 { self.read } else { (end.0, log.bytes()) };
            let entries = PORTION_BYTES.saturating_mul(read) / bytes.max(1);
            let to = Position(from.0 + entries.clamp(PORTION[0], PORTION[1]));
            self.read = (0, 0);
            let (stop, reading) = (self.stop.clone(), &mut *self);
            log.replay((from, to), &mut |at, entry| {
                if stop.load(Ordering::Acquire) {
                    return Err(Broken::Enough);
                }
                let bytes = entry.bytes.len() as u64 + ROW_BYTES;
                reading.read = (reading.read.0 + 1, reading.read.1 + bytes);
                reading.unkept += bytes;
                reading.take(at, &entry)
            })?;
        }
        self.judge()?;
        let all = self.at >= end;
        if all {
            if !self.stores.values().all(Copy::is_met) {
                return Err(Broken::Misfit("a checkpoint is of another log".to_owned()));
            }
            self.nook.settle();
            (self.bytes, self.whole) = (log.bytes(), true);
        }
        Ok(all)
    }

    fn judge(&mut self) -> Result<(), Broken> {
        let now = self.company.clock.at(now_ms());
        for (store, copy) in &mut self.stores {
            if self.stop.load(Ordering::Acquire) {
                return Err(Broken::Enough);
            }
            let missing = copy.replica.read_along(now);
            copy.replica.rest();
            if missing > 0 {
                return Err(Broken::Misfit(format!(
                    "{missing} journal entries of store {store} are not there"
                )));
            }
        }
        Ok(())
    }

    /// The log, once there is one; what is kept of it is where reading begins.
    fn begun(&mut self) -> Result<Option<LogReader>, Broken> {
        if let Some(log) = &self.log {
            return Ok(Some(log.clone()));
        }
        let id = log_id(self.company.log_id, self.number);
        let opened = LogReader::open(self.company.database.clone(), id, self.company.vault.as_ref())?;
        let Some(log) = opened else {
            self.tell_kept(Kept { from: Position(0), bytes: 0 });
            return Ok(None);
        };
        let end = log.look()?;
        // Nothing was read yet: whoever was only asked for begins with its image.
        self.stores.clear();
        if !self.nook.is_open() {
            let aside = self.company.dir.join("logs").join(format!("along-{:03}", self.number));
            let vault = self.company.vault.as_ref();
            self.nook = Nook::open(self.folder.as_deref(), &aside, (&id, vault), end, &self.stop);
        }
        if let Some(reached) = self.nook.reached() {
            if !reached.seen.is_in(end, |at| log.read(at))? {
                return Err(Broken::Misfit("it is another one than when it was read last".to_owned()));
            }
            self.resume(&log, &reached)?;
        }
        self.log = Some(log.clone());
        Ok(Some(log))
    }

    /// Begins where the images of all stores reach.
    fn resume(&mut self, log: &LogReader, reached: &Reached) -> Result<(), Broken> {
        for store in &reached.stores {
            self.copy(store)?.is_known_before(reached.seen.at)?;
        }
        self.nook.settle();
        let (mut seen, events) = (Seen::default(), &mut self.events);
        log.replay((reached.begins(), reached.from), &mut |at, entry| {
            seen.take(at, &entry);
            if entry.kind == AUDIT_KIND {
                events.extend(AuditEvent::decode(&entry.bytes));
            }
            Ok::<(), Broken>(())
        })?;
        tracing::info!(log = self.number, from = reached.from.0, "read along from where the checkpoints end");
        (self.at, self.bytes, self.seen, self.noted) = (reached.from, reached.bytes, seen, true);
        self.tell_kept(Kept { from: reached.from, bytes: reached.bytes });
        Ok(())
    }

    /// Forgets what was read and what is kept.
    fn begin_anew(&mut self) {
        self.stores.clear();
        if !self.nook.forget() {
            // It is done without from now on.
            self.folder = None;
        }
        self.start_over();
        if let Some(elsewhere) = self.elsewhere.upgrade() {
            elsewhere.keeps_nothing(self.number);
        }
    }

    /// Forgets what was read.
    fn start_over(&mut self) {
        self.stores.clear();
        (self.log, self.nook, self.at, self.seen) = (None, Nook::default(), Position(0), Seen::default());
        (self.unkept, self.noted, self.bytes, self.whole) = (0, false, 0, false);
    }

    fn tell_kept(&self, kept: Kept) {
        if let Some(elsewhere) = self.elsewhere.upgrade()
            && !self.stop.load(Ordering::Acquire)
        {
            elsewhere.keeps(self.number, kept);
        }
    }

    fn keep_under_way(&mut self) {
        if self.unkept >= KEEP_BYTES {
            self.keep(None, &mut |_| {});
        }
    }

    /// Keeps images of what was judged, some at a time with `between` after each, for so long at most. Without them the next one to
    /// read is slower, nothing else.
    fn keep(&mut self, longest: Option<Duration>, between: &mut dyn FnMut(&mut Self)) {
        let until = longest.map(|longest| Instant::now() + longest);
        let kept = catch_unwind(AssertUnwindSafe(|| self.keep_until(until, between)));
        match kept {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(log = self.number, "no checkpoints were kept: {error}"),
            Err(_) => self.begin_anew(),
        }
    }

    fn keep_until(
        &mut self,
        until: Option<Instant>,
        between: &mut dyn FnMut(&mut Self),
    ) -> Result<(), StorageError> {
        let changed: Vec<StoreId> = self
            .stores
            .iter()
            .filter(|(_, copy)| copy.is_changed())
            .map(|(store, _)| store.clone())
            .collect();
        if self.log.is_none()
            || self.nook.keeps().is_none()
            || self.noted && self.unkept == 0 && changed.is_empty()
        {
            return Ok(());
        }
        for together in changed.chunks(KEPT_TOGETHER) {
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
            self.keep_some(together)?;
            between(self);
        }
        let Some((index, _)) = self.nook.keeps() else { return Ok(()) };
        // Of a store without an image every entry comes from there on.
        let from = self.stores.values().filter_map(Copy::unsaved).fold(self.at, Position::min);
        let imaged = self.stores.iter().filter(|(_, copy)| copy.is_imaged());
        let stores = imaged.map(|(store, _)| store.clone()).collect();
        let reached = Reached { from, stores, seen: self.seen.clone(), bytes: self.bytes };
        reached.note(index)?;
        (self.unkept, self.noted) = (0, true);
        self.tell_kept(Kept { from, bytes: self.bytes });
        Ok(())
    }

    fn keep_some(&mut self, stores: &[StoreId]) -> Result<(), StorageError> {
        let Some((index, scratch)) = self.nook.keeps() else { return Ok(()) };
        let (mut images, mut of) = (Vec::new(), Vec::new());
        for store in stores {
            let Some(copy) = self.stores.get_mut(store) else { continue };
            if let Some(image) = copy.image(self.at) {
                images.push(image);
                of.push(store);
            }
        }
        keep_all(images, index, Some(scratch))?;
        for store in of {
            if let Some(copy) = self.stores.get_mut(store) {
                copy.is_kept();
            }
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
            let Some((endpoint, address)) = elsewhere.way_to(number) else { return };
            let heard = elsewhere.lines().live(&endpoint, &address, number).await;
            *lock(&live) = heard;
        });
    }

    fn take(&mut self, at: Position, entry: &Entry) -> Result<(), Broken> {
        self.seen.take(at, entry);
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
        let store = LogEntry::store_of(&entry.bytes).map_err(|error| misfit(error.to_string()))?;
        self.copy(&store)?.take(at, entry)
    }

    /// A store; one that is not known yet begins with its image, if there is one.
    fn copy(&mut self, store: &StoreId) -> Result<&mut Copy, Broken> {
        if !self.stores.contains_key(store) {
            let copy = Copy::begin(&self.company, &self.nook, store)?;
            self.stores.insert(store.clone(), copy);
        }
        Ok(self.stores.get_mut(store).expect("it was put there"))
    }
}
