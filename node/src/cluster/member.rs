//! A hub's process as one of several: it says that it is there, looks who else is, and takes, gives away or loses logs.
//!
//! Every step is harmless if what it rests on is out of date by the time it is taken: a log is claimed through its row, and
//! whatever a hub does with a log that is not its own any more changes nothing (storage/postgres).

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::ids::{StoreId, WriterId};
use engine::lease::{HubName, Step, plan};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::reading::{Company, Elsewhere};
use super::table::{Device, Table, log_id};
use super::{Cluster, between, deputy, front};
use crate::api;
use crate::central;
use crate::error::Failure;
use crate::hub::{Door, Hub, Papers, Room, Rooms, RunOptions, fresh_replica, log_options};
use crate::runtime::StopSignal;
use crate::runtime::alarms::Alarms;
use crate::runtime::audit::AuditLog;
use crate::runtime::clock::now_ms;
use crate::runtime::links::{address_of, listen};
use crate::runtime::restore::{Images, Restored, restore};
use crate::runtime::run_file::RunFile;
use crate::runtime::store::StoreHandle;
use crate::runtime::workroom::Home;
use crate::storage::vault::Vault;
use crate::storage::{self, Storage, StorageError, folder_of, hold, manifest, this_process};

/// How often the tables are looked at.
const TICK: Duration = Duration::from_millis(500);
/// A log that could not be opened is tried again after so long.
const TRY_AGAIN: Duration = Duration::from_secs(2);
/// A hub that comes back to a database that was away leaves the others so long to do the same before it takes what they had:
/// as long as a lease, and longer than a writer's pause between two tries.
const OTHERS_COME_BACK: Duration = Duration::from_secs(5);
/// Addresses of hubs that tills are told.
const HUBS_TOLD: usize = 16;
/// Longest that stopping waits for what is being answered.
const FAREWELL: Duration = Duration::from_secs(3);
/// Whoever has least is given a log in which it is not warm after so long.
const COLD_AFTER: Duration = Duration::from_secs(60);
/// Longest that the log's folder is waited for: its reader is going, and keeps what it has judged first.
const FOLDER_WAIT: Duration = Duration::from_secs(5);
const FOLDER_LOOK: Duration = Duration::from_millis(5);

/// Runs a hub that is one of several until it is told to stop.
pub(crate) async fn run(
    cluster: Cluster,
    dir: PathBuf,
    address: String,
    http: String,
    options: RunOptions,
) -> Result<(), Failure> {
    let _held = hold(&dir).map_err(Failure::refused)?;
    if crate::backup::is_restored(&dir)? {
        return Err(Failure::refused(
            "this directory was restored from a backup, or took a loss of its database; bring its log into files (`tillsync hub \
             move --to files`), run it there until it has met its tills, and move it in again",
        ));
    }
    let Papers { config, key, authority } = Papers::load(&dir)?;
    let vault = Vault::of(&dir).map_err(Failure::refused)?;
    let changed = manifest::adopt(&dir).map_err(Failure::refused)?;
    // Its own for good: what a process that died here had is this one's at once.
    let me: HubName = storage::name_of(&dir);
    let (audit, alarms) = (AuditLog::in_memory(), Alarms::default());
    let elsewhere = Arc::new(Elsewhere::new(Company {
        dir: dir.clone(),
        database: cluster.database.clone(),
        log_id: cluster.company,
        shards: cluster.shards,
        me,
        config: config.clone(),
        clock: config.clock()?,
        key: key.clone(),
        vault: vault.clone(),
        audit: audit.clone(),
        alarms: alarms.clone(),
    }));
    let advertised = options.advertise.clone().or_else(|| config.advertise.clone());
    let identity = authority.hub_identity(key.clone()).map_err(Failure::refused)?;
    let rooms = Rooms::new(
        dir.clone(),
        config,
        key,
        authority,
        (audit, alarms),
        cluster.shards,
        Some(elsewhere.clone()),
    )?;
    let rooms = Arc::new(rooms);
    rooms.audit.note_changed(now_ms(), &changed);

    let mut stop_signal = StopSignal::listen()?;
    let (stop, stopped) = watch::channel(false);
    let (http_listener, http_address) = api::serve::bind(&http).await?;
    let quic = listen(&address, identity, rooms.clone(), stopped.clone()).await?;
    let address = advertised.unwrap_or_else(|| address_of(quic));
    let mut member =
        Member::new((me, this_process(&dir)), address, rooms.clone(), elsewhere.clone(), vault, cluster);
    if let Some(Door { endpoint, .. }) = rooms.door.get() {
        elsewhere.reached_by(endpoint.clone());
        tokio::spawn(between::answer(rooms.clone(), endpoint.clone()));
    }
    // The first look is waited for, with everything that it gives this hub to do: then it is ready.
    member.tick().await.map_err(Failure::refused)?;
    while let Some(opened) = member.opening.join_next().await {
        member.opened(opened)?;
    }
    let run_file = RunFile {
        pid: std::process::id(),
        http: http_address.to_string(),
        quic: Some(quic.to_string()),
        token: Some(rooms.run_token.clone()),
        sealed_token: None,
    };
    let _guard = run_file.publish(&dir)?;
    let serving =
        tokio::spawn(api::serve::serve(http_listener, front::router(rooms.clone()), stopped.clone()));
    let watching = tokio::spawn(watch_sight(rooms.clone(), elsewhere.clone()));
    let warming = tokio::spawn(deputy::keep_warm(elsewhere.clone(), me));
    rooms.audit.note(now_ms(), None, None, "started", format!("quic {quic}, http {http_address}"));
    println!("ready quic={quic} http={http_address}");
    tokio::select! {
        () = stop_signal.comes() => {}
        () = member.live() => {}
    }
    watching.abort();
    warming.abort();
    member.leave().await;
    let _ = stop.send(true);
    let _ = tokio::time::timeout(FAREWELL, serving).await;
    Ok(())
}

/// Sends every till away once this hub has not seen the tables for longer than its leases last: another hub may have their
/// stores by now, and here nothing can be acknowledged. Beside the ticks, which may be waiting for the database.
async fn watch_sight(rooms: Arc<Rooms>, elsewhere: Arc<Elsewhere>) {
    let mut saw = true;
    loop {
        tokio::time::sleep(TICK).await;
        let sees = !elsewhere.is_blind();
        if saw
            && !sees
            && let Some(door) = rooms.door.get()
        {
            tracing::warn!("the database is out of sight: tills are sent to the other hubs");
            door.endpoint.peers().iter().for_each(|peer| door.endpoint.send_elsewhere(peer, ""));
        }
        saw = sees;
    }
}

/// A log that was opened: its number, and the room with what its log holds; `None`: another hub has taken it.
type Opened = (u16, Result<Option<Box<(Room, Restored)>>, Failure>);

/// Why a log is given up. If it is not lost, what its stores have in hand becomes durable first, and the lease is given back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Why {
    /// To a hub that has fewer.
    Given,
    /// Another hub has claimed it, or its storage failed.
    Lost,
    /// This process stops.
    Stops,
}

struct Member {
    me: HubName,
    cluster: Cluster,
    /// Where tills reach this hub.
    address: String,
    holder: String,
    rooms: Arc<Rooms>,
    elsewhere: Arc<Elsewhere>,
    vault: Option<Vault>,
    /// `None` while the database is away.
    table: Option<Table>,
    /// It was away, and is back since then.
    back: Option<Instant>,
    /// Since when a log is to be given to a hub that is not warm in it.
    cold: Option<Instant>,
    /// Up to where the devices of other hubs were read.
    since: String,
    /// What was told of this hub's own.
    told: BTreeSet<Device>,
    told_version: u64,
    opening: JoinSet<Opened>,
    /// Logs that are being opened or closed.
    busy: BTreeSet<u16>,
    /// Logs that could not be opened, and when.
    failed: BTreeMap<u16, Instant>,
    /// What goes on by itself for a log, until it is closed.
    working: BTreeMap<u16, JoinSet<()>>,
    /// What is one for the company, while its log is here.
    company: Option<Arc<Hub>>,
}

impl Member {
    /// A hub, by its name and as a holder of leases, that has not looked at the tables yet.
    fn new(
        (me, holder): (HubName, String),
        address: String,
        rooms: Arc<Rooms>,
        elsewhere: Arc<Elsewhere>,
        vault: Option<Vault>,
        cluster: Cluster,
    ) -> Self {
        Self {
            me,
            cluster,
            address,
            holder,
            rooms,
            elsewhere,
            vault,
            table: None,
            back: None,
            cold: None,
            since: String::new(),
            told: BTreeSet::new(),
            told_version: 0,
            opening: JoinSet::new(),
            busy: BTreeSet::new(),
            failed: BTreeMap::new(),
            working: BTreeMap::new(),
            company: None,
        }
    }

    /// Goes on until it is dropped.
    async fn live(&mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                Some(opened) = self.opening.join_next() => {
                    if let Err(failure) = self.opened(opened) {
                        tracing::warn!("{failure}");
                    }
                }
                _ = ticks.tick() => {
                    if let Err(error) = self.tick().await {
                        self.table = None;
                        if self.elsewhere.cut_off().is_none() {
                            tracing::warn!("the other hubs are not seen for now: {error}");
                        }
                        self.elsewhere.is_cut_off(error.to_string());
                    }
                }
            }
        }
    }

    /// Says that this hub is there, looks, and does what follows.
    async fn tick(&mut self) -> Result<(), crate::database::DatabaseError> {
        self.lose_what_is_lost().await;
        if self.table.is_none() {
            let Cluster { database, company, shards } = &self.cluster;
            self.table = Some(Table::connect(database, *company, *shards, self.me).await?);
            self.back = self.elsewhere.cut_off().map(|_| Instant::now());
        }
        let Some(table) = &self.table else { return Ok(()) };
        table.beat(&self.address, &self.holder, &self.elsewhere.warm_in()).await?;
        self.tell_devices().await?;
        let Some(table) = &self.table else { return Ok(()) };
        for device in table.devices(&mut self.since).await? {
            self.elsewhere.knows(&device.store);
            if self.rooms.own_store(&device.store).is_none() {
                self.rooms.directory.enrol(device.writer, device.store.clone(), device.log.clone());
            }
            if device.revoked {
                self.rooms.directory.revoke(&device.log);
            }
        }
        let seen = table.look().await?;
        let members: Vec<_> = seen.hubs.iter().map(|row| row.member).collect();
        let logs = seen.logs.clone();
        let mine: Vec<u16> =
            logs.iter().filter(|log| log.holder == Some(self.me)).map(|log| log.number).collect();
        self.elsewhere.saw(seen);
        let steps = plan(self.me, &members, &logs, &self.elsewhere.warm());
        let cold = |step: &Step| matches!(step, Step::HandOver { warm: false, .. });
        self.cold = steps.iter().any(cold).then(|| self.cold.unwrap_or_else(Instant::now));
        let addresses = self.elsewhere.addresses();
        self.rooms.hubs.set(addresses.iter().take(HUBS_TOLD).filter_map(|address| address.parse().ok()));
        let held = self.rooms.held();
        for number in mine.into_iter().filter(|number| !held.contains_key(number)) {
            self.begin_opening(number);
        }
        let others_come_back = self.back.is_some_and(|since| since.elapsed() < OTHERS_COME_BACK);
        for step in steps {
            match step {
                // Nobody's for now, as every lease after a database's long absence.
                Step::Take(_) if others_come_back => {}
                Step::Take(number) if !held.contains_key(&number) => self.begin_opening(number),
                // It is held here, and its own writer will say whether it still is.
                Step::Take(_) => {}
                // It is making itself warm.
                Step::HandOver { warm: false, .. }
                    if self.cold.is_some_and(|since| since.elapsed() < COLD_AFTER) => {}
                Step::HandOver { number, .. }
                    if held.contains_key(&number) && !self.busy.contains(&number) =>
                {
                    self.close(number, Why::Given).await;
                    self.cold = None;
                }
                Step::HandOver { .. } => {}
            }
        }
        Ok(())
    }

    fn begin_opening(&mut self, number: u16) {
        let rests = self.failed.get(&number).is_some_and(|at| at.elapsed() < TRY_AGAIN);
        if rests || !self.busy.insert(number) {
            return;
        }
        self.elsewhere.takes(number);
        let (rooms, cluster, me, vault) =
            (self.rooms.clone(), self.cluster.clone(), self.me, self.vault.clone());
        self.opening.spawn_blocking(move || (number, open(&rooms, &cluster, number, me, vault)));
    }

    fn opened(&mut self, opened: Result<Opened, tokio::task::JoinError>) -> Result<(), Failure> {
        let (number, opened) = opened.map_err(Failure::refused)?;
        self.busy.remove(&number);
        let (room, restored) = match opened {
            Ok(Some(opened)) => *opened,
            Ok(None) => {
                self.failed.insert(number, Instant::now());
                self.elsewhere.gives(number);
                return Ok(());
            }
            Err(failure) => {
                self.failed.insert(number, Instant::now());
                self.elsewhere.gives(number);
                return Err(failure);
            }
        };
        self.failed.remove(&number);
        let mut work = JoinSet::new();
        let closes = room.closes.subscribe();
        if number == 0 {
            let hub = Hub::of(&self.rooms, &room, &restored.own, self.address.clone())?;
            work = hub.clone().work(&closes);
            self.company = Some(hub);
        }
        let stores = restored.stores.len();
        let records: usize = restored.stores.values().map(|store| store.replica.books().len()).sum();
        let judged: u64 = restored.stores.values().map(|store| store.judged).sum();
        self.rooms.open(number, room.clone(), restored.stores, None);
        work.spawn(central::follow(self.rooms.clone(), number, closes));
        self.working.insert(number, work);
        let what = name_of(number);
        room.audit.note(
            now_ms(),
            None,
            None,
            "hub-took",
            format!(
                "{what}, {stores} stores, {records} records, {judged} of them from checkpoints: {}",
                self.holder
            ),
        );
        Ok(())
    }

    /// Logs that another hub has claimed, or whose storage failed, are not this one's any more.
    async fn lose_what_is_lost(&mut self) {
        for (number, room) in self.rooms.held() {
            if let Some(reason) = room.storage().is_poisoned() {
                tracing::warn!("{} is not this hub's any more: {reason}", name_of(number));
                self.close(number, Why::Lost).await;
            }
        }
    }

    /// Gives a log up.
    async fn close(&mut self, number: u16, why: Why) {
        let Some((room, stores)) = self.rooms.close(number) else { return };
        let orderly = why != Why::Lost;
        if why != Why::Stops {
            // Who holds a handle still, or waits for an answer that does not come, is told where the store is then.
            stores.iter().for_each(StoreHandle::goes_on);
        }
        if orderly {
            room.audit.note(
                now_ms(),
                None,
                None,
                "hub-gave",
                format!("{}: {}", name_of(number), self.holder),
            );
        }
        self.working.remove(&number);
        if number == 0 {
            self.company = None;
        }
        let names: BTreeSet<StoreId> = stores.iter().map(|store| store.store().clone()).collect();
        self.told.retain(|device| !names.contains(&device.store));
        if orderly {
            for store in &stores {
                store.stop().await;
            }
        }
        drop(stores);
        // After it, so that nothing of a till is refused that is being recorded.
        self.send_away(&names);
        let closing = tokio::task::spawn_blocking(move || room.storage().clone().close());
        // A poisoned storage says so again.
        if let Ok(Err(error)) = closing.await
            && orderly
        {
            tracing::warn!("{}: {error}", name_of(number));
        }
        self.elsewhere.gives(number);
    }

    /// Sends the tills of stores to whoever has them now, as soon as that is known.
    fn send_away(&self, stores: &BTreeSet<StoreId>) {
        let Some(door) = self.rooms.door.get() else { return };
        for peer in door.endpoint.peers() {
            if self.rooms.directory.log_of(&WriterId(peer)).is_some_and(|(store, _)| stores.contains(&store))
            {
                door.endpoint.send_elsewhere(&peer, "");
            }
        }
    }

    async fn tell_devices(&mut self) -> Result<(), crate::database::DatabaseError> {
        let version = self.rooms.directory.version();
        let held = self.rooms.held().len() as u64;
        let seen = version.wrapping_mul(1_000).wrapping_add(held);
        let Some(table) = &self.table else { return Ok(()) };
        if seen == self.told_version {
            return Ok(());
        }
        let own: BTreeSet<StoreId> = self.rooms.own().iter().map(|store| store.store().clone()).collect();
        let devices = self.rooms.directory.devices().into_iter().filter(|(_, store, ..)| own.contains(store));
        let devices = devices.map(|(writer, store, log, revoked)| Device { writer, store, log, revoked });
        let new: Vec<Device> = devices.filter(|device| !self.told.contains(device)).collect();
        table.tell(&new).await?;
        self.told.extend(new);
        self.told_version = seen;
        Ok(())
    }

    /// Goes: others take what this hub has, one log after the other as it lets go of it.
    async fn leave(&mut self) {
        self.elsewhere.stops();
        if let Some(table) = &self.table {
            let _ = tokio::time::timeout(FAREWELL, table.leave()).await;
        }
        self.rooms.audit.note(now_ms(), None, None, "stopping", String::new());
        for (_, room) in self.rooms.held() {
            room.storage().will_close();
        }
        while let Some(opened) = self.opening.join_next().await {
            let _ = self.opened(opened);
        }
        let numbers: Vec<u16> = self.rooms.held().into_keys().rev().collect();
        for number in numbers {
            self.close(number, Why::Stops).await;
        }
    }
}

fn name_of(number: u16) -> String {
    if number == 0 { "the company's log".to_owned() } else { format!("shard {number}") }
}

/// Claims a log and reads what it holds. Blocking.
fn open(
    rooms: &Rooms,
    cluster: &Cluster,
    number: u16,
    me: HubName,
    vault: Option<Vault>,
) -> Result<Option<Box<(Room, Restored)>>, Failure> {
    let during = |error: StorageError| Failure::refused(format!("{}: {error}", name_of(number)));
    let dir = folder_of(&rooms.dir, number);
    let mut options = log_options(&cluster.database, Some(me));
    options.log_id = Some(log_id(cluster.company, number));
    options.vault = vault;
    let since = Instant::now();
    let opened = loop {
        match Storage::open(&dir, &options) {
            Err(StorageError::InUse { .. }) if since.elapsed() < FOLDER_WAIT => {
                std::thread::sleep(FOLDER_LOOK);
            }
            other => break other,
        }
    };
    let (storage, recovery) = match opened {
        Ok(opened) => opened,
        // It was nobody's when this hub looked. Two that begin at the same moment want the same.
        Err(StorageError::LeaseHeld { holder, .. }) => {
            tracing::info!(number, holder, "another hub was faster");
            return Ok(None);
        }
        Err(error) => return Err(during(error)),
    };
    tracing::info!(number, end = recovery.end.0, "log taken");
    let home = Home::of_node(&dir, &storage);
    let read = restore(&storage, Images::of(&home), |store| {
        Ok(fresh_replica(&rooms.key, store, &rooms.config, &home))
    });
    let mut restored = match read {
        Ok(restored) => restored,
        Err(failure) => {
            let _ = storage.close();
            return Err(failure.into());
        }
    };
    let audit = rooms.audit.kept_in(storage, std::mem::take(&mut restored.audit));
    Ok(Some(Box::new((Room::new(home, audit), restored))))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::database::Database;
    use crate::runtime::store::StoreError;
    use crate::storage::Options;

    /// A hub of a company with one shard, which it holds: in files, for a database has no part in this.
    fn member(dir: &Path) -> Member {
        crate::hub::init(dir, "Chain", "GBP", "Europe/London").unwrap();
        let Papers { config, key, authority } = Papers::load(dir).unwrap();
        let database = Database::parse("postgres://hub:word@127.0.0.1:1/books").unwrap();
        let (audit, alarms) = (AuditLog::in_memory(), Alarms::default());
        let (me, company, shards) = (storage::name_of(dir), [1; 16], 1);
        let elsewhere = Arc::new(Elsewhere::new(Company {
            dir: dir.to_path_buf(),
            database: database.clone(),
            log_id: company,
            shards,
            me,
            config: config.clone(),
            clock: config.clock().unwrap(),
            key: key.clone(),
            vault: None,
            audit: audit.clone(),
            alarms: alarms.clone(),
        }));
        let others = Some(elsewhere.clone());
        let rooms =
            Rooms::new(dir.to_path_buf(), config, key, authority, (audit, alarms), shards, others).unwrap();
        let (storage, _) = Storage::open(&dir.join("shard"), &Options::default()).unwrap();
        let room = Room::new(Home::in_memory(storage), rooms.audit.clone());
        rooms.open(1, room, BTreeMap::new(), None);
        let cluster = Cluster { database, company, shards };
        Member::new((me, String::new()), String::new(), Arc::new(rooms), elsewhere, None, cluster)
    }

    #[tokio::test]
    async fn who_asks_for_a_store_that_is_given_away_hears_that_and_not_that_the_node_stops() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [mut gives, mut stops] = dirs.each_ref().map(|dir| member(&dir.path().join("hub")));
        let store_of = |member: &Member| member.rooms.own_or_new(&"high-street".parse().unwrap()).unwrap();
        let [given, stopped] = [store_of(&gives), store_of(&stops)];
        assert!(given.ask(|_| ()).await.is_ok() && stopped.ask(|_| ()).await.is_ok());
        gives.close(1, Why::Given).await;
        assert_eq!(given.ask(|_| ()).await, Err(StoreError::ChangesHands));
        stops.leave().await;
        assert_eq!(stopped.ask(|_| ()).await, Err(StoreError::Stopping));
    }
}
