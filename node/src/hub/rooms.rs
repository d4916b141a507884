//! Where this process has stores: each in a log that it holds. A hub that is alone has one log and everything in it; where
//! several hubs serve one company, the company's own log has number 0, the shards follow, and a process holds some of them.
//! Stores of the others can be asked, too, if the process reads along (`cluster`).

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, Weak};

use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use engine::lease::shard_of;
use engine::replica::{Identity as ReplicaIdentity, Replica};
use engine::transaction::{Body, HubRecord};
use tokio::sync::watch;

use super::config::base_policy;
use super::door::Door;
use super::{Hub, HubConfig};
use crate::central::webhooks::Board;
use crate::cluster::Elsewhere;
use crate::identity::{Authority, HubList, NodeKey};
use crate::runtime::alarms::Alarms;
use crate::runtime::audit::AuditLog;
use crate::runtime::clock::Clock;
use crate::runtime::links::Directory;
use crate::runtime::restore::RestoredStore;
use crate::runtime::store::{self, Seats, StoreHandle};
use crate::runtime::take_back::TakeBack;
use crate::runtime::workroom::Home;
use crate::storage::Storage;
use crate::transport::NotHere;

/// A log that this process holds, and what is kept in it.
#[derive(Clone)]
pub(crate) struct Room {
    pub(crate) home: Home,
    pub(crate) audit: AuditLog,
    /// Turns true when the room is closed: who works for it goes.
    pub(crate) closes: Arc<watch::Sender<bool>>,
}

impl Room {
    pub(crate) fn new(home: Home, audit: AuditLog) -> Self {
        Self { home, audit, closes: Arc::new(watch::Sender::new(false)) }
    }

    pub(crate) fn storage(&self) -> &Storage {
        &self.home.storage
    }
}

/// The stores of this process, and what all of them need.
pub(crate) struct Rooms {
    pub(crate) dir: PathBuf,
    pub(crate) config: HubConfig,
    pub(crate) clock: Clock,
    pub(crate) key: NodeKey,
    pub(crate) authority: Arc<Authority>,
    pub(crate) directory: Directory,
    pub(crate) alarms: Alarms,
    /// What this process notes of itself.
    pub(crate) audit: AuditLog,
    /// Opens the API to who sits at this machine.
    pub(crate) run_token: String,
    /// How many shards the company has; 0: everything is in log 0.
    pub(crate) shards: u16,
    /// What tills come in by: set once the hub listens.
    pub(crate) door: OnceLock<Door>,
    /// What is one for the whole company, while this process holds the company's log.
    company: RwLock<Weak<Hub>>,
    /// The company's hubs, as tills are told with their papers; empty: this one is alone.
    pub(crate) hubs: HubList,
    /// How the webhooks stand.
    pub(crate) webhooks: Board,
    /// Stores that other hubs hold; `None`: this hub is alone.
    pub(crate) elsewhere: Option<Arc<Elsewhere>>,
    /// For the stores of all rooms that take a bulk in.
    seats: Seats,
    held: RwLock<BTreeMap<u16, Room>>,
    stores: RwLock<BTreeMap<StoreId, StoreHandle>>,
}

impl Rooms {
    #[allow(clippy::too_many_arguments)] // what a hub's directory says, part by part
    pub(crate) fn new(
        dir: PathBuf,
        config: HubConfig,
        key: NodeKey,
        authority: Arc<Authority>,
        (audit, alarms): (AuditLog, Alarms),
        shards: u16,
        elsewhere: Option<Arc<Elsewhere>>,
    ) -> Result<Self, crate::error::Failure> {
        Ok(Self {
            dir,
            clock: config.clock()?,
            config,
            key,
            authority,
            directory: Directory::default(),
            alarms,
            audit,
            run_token: super::new_token(),
            shards,
            door: OnceLock::new(),
            company: RwLock::default(),
            hubs: HubList::default(),
            webhooks: Board::default(),
            elsewhere,
            seats: Seats::of_machine(),
            held: RwLock::default(),
            stores: RwLock::default(),
        })
    }

    /// What is one for the whole company, if it is here.
    pub(crate) fn company(&self) -> Option<Arc<Hub>> {
        self.company.read().unwrap_or_else(PoisonError::into_inner).upgrade()
    }

    /// The company is served by this process from now on.
    pub(crate) fn serves_company(&self, hub: &Arc<Hub>) {
        *self.company.write().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(hub);
    }

    /// Whether the owner of a key may connect here.
    ///
    /// # Errors
    /// Another hub has its store, it is not known, or it is revoked.
    pub(crate) fn admits(&self, peer: &WriterId) -> Result<(), NotHere> {
        let admitted = self.directory.admitted(peer);
        let Some(elsewhere) = &self.elsewhere else { return admitted.map(drop).map_err(NotHere::Refused) };
        match admitted {
            // It could only keep a till waiting that another hub may serve.
            _ if elsewhere.is_blind() => Err(NotHere::Elsewhere(None)),
            Ok(store) => {
                let number = self.number_of(&store);
                if self.holds(number) {
                    Ok(())
                } else {
                    Err(NotHere::Elsewhere(elsewhere.address_of(number)))
                }
            }
            // The hub that enrols knows of it first.
            Err(reason) if self.holds(0) => Err(NotHere::Refused(reason)),
            Err(_) => Err(NotHere::Elsewhere(elsewhere.address_of(0))),
        }
    }

    /// Whether tills are enrolled here.
    ///
    /// # Errors
    /// Another hub does it; its address, if it is known.
    pub(crate) fn enrols(&self) -> Result<(), Option<String>> {
        match &self.elsewhere {
            Some(elsewhere) if elsewhere.is_blind() => Err(None),
            Some(elsewhere) if self.company().is_none() => Err(elsewhere.address_of(0)),
            _ => Ok(()),
        }
    }

    fn holds(&self, number: u16) -> bool {
        self.held.read().unwrap_or_else(PoisonError::into_inner).contains_key(&number)
    }

    /// Opens a room with the stores that its log holds.
    pub(crate) fn open(
        &self,
        number: u16,
        room: Room,
        restored: BTreeMap<StoreId, RestoredStore>,
        take_back: Option<&TakeBack>,
    ) {
        for (store, restored) in &restored {
            for (writer, log) in restored.replica.registry().writers() {
                self.directory.enrol(writer, store.clone(), log.clone());
            }
            for log in revoked_logs(&restored.replica) {
                self.directory.revoke(&log);
            }
        }
        let room = Room { home: room.home.with_seats(self.seats.clone()), ..room };
        let mut stores = self.stores.write().unwrap_or_else(PoisonError::into_inner);
        for (store, restored) in restored {
            let handle = self.start_store(&room, &store, restored, take_back.cloned());
            stores.insert(store, handle);
        }
        self.held.write().unwrap_or_else(PoisonError::into_inner).insert(number, room);
    }

    /// Takes a room and its stores out; the caller stops them.
    pub(crate) fn close(&self, number: u16) -> Option<(Room, Vec<StoreHandle>)> {
        let room = self.held.write().unwrap_or_else(PoisonError::into_inner).remove(&number)?;
        let _ = room.closes.send(true);
        let mut stores = self.stores.write().unwrap_or_else(PoisonError::into_inner);
        let its: Vec<StoreId> =
            stores.keys().filter(|store| shard_of(store.as_str(), self.shards) == number).cloned().collect();
        Some((room, its.iter().filter_map(|store| stores.remove(store)).collect()))
    }

    /// The rooms by number.
    pub(crate) fn held(&self) -> BTreeMap<u16, Room> {
        self.held.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of the log that a store is in.
    pub(crate) fn number_of(&self, store: &StoreId) -> u16 {
        shard_of(store.as_str(), self.shards)
    }

    /// The stores that this process holds, by name.
    pub(crate) fn own(&self) -> Vec<StoreHandle> {
        self.stores.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The stores of one room.
    pub(crate) fn own_of(&self, number: u16) -> Vec<StoreHandle> {
        self.own().into_iter().filter(|store| self.number_of(store.store()) == number).collect()
    }

    /// A store that this process holds.
    pub(crate) fn own_store(&self, store: &StoreId) -> Option<StoreHandle> {
        self.stores.read().unwrap_or_else(PoisonError::into_inner).get(store).cloned()
    }

    /// A store that this process holds, made if it is not there; `None`: its log is not held here.
    pub(crate) fn own_or_new(&self, store: &StoreId) -> Option<StoreHandle> {
        let mut stores = self.stores.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = stores.get(store) {
            return Some(known.clone());
        }
        let held = self.held.read().unwrap_or_else(PoisonError::into_inner);
        let room = held.get(&self.number_of(store))?;
        let fresh = RestoredStore::of(fresh_replica(&self.key, store, &self.config, &room.home));
        let made = self.start_store(room, store, fresh, None);
        stores.insert(store.clone(), made.clone());
        Some(made)
    }

    /// Who may connect follows from what was stated for a store of this process by another hub.
    pub(crate) fn heed(&self, store: &StoreId, record: &HubRecord) {
        match record {
            HubRecord::Enrol(enrolment) => {
                self.directory.enrol(enrolment.writer, store.clone(), enrolment.log.clone());
            }
            HubRecord::Revoke { terminal, incarnation, .. } => {
                for (writer, of, log, _) in self.directory.devices() {
                    let meant = of == *store
                        && log.terminal == *terminal
                        && incarnation.is_none_or(|number| number == log.incarnation);
                    if meant {
                        self.revoke(&log, &writer);
                    }
                }
            }
            _ => {}
        }
    }

    /// Ends the right of a log's key to connect, and its connection.
    pub(crate) fn revoke(&self, log: &LogId, writer: &WriterId) {
        self.directory.revoke(log);
        if let Some(door) = self.door.get() {
            door.endpoint.disconnect(&writer.0, &format!("terminal {log} is revoked"));
        }
    }

    /// Every store of the company, by name.
    pub(crate) fn all(&self) -> Vec<StoreHandle> {
        let own = self.own();
        let Some(elsewhere) = &self.elsewhere else { return own };
        let mut all: BTreeMap<StoreId, StoreHandle> =
            elsewhere.stores().into_iter().map(|handle| (handle.store().clone(), handle)).collect();
        all.extend(own.into_iter().map(|handle| (handle.store().clone(), handle)));
        all.into_values().collect()
    }

    /// A store of the company, if it is there.
    pub(crate) fn store(&self, store: &StoreId) -> Option<StoreHandle> {
        self.own_store(store).or_else(|| self.elsewhere.as_ref()?.store(store))
    }

    /// A store of the company, made if it is not there; `None`: nobody holds its log at the moment.
    pub(crate) fn store_or_new(&self, store: &StoreId) -> Option<StoreHandle> {
        self.own_or_new(store).or_else(|| self.elsewhere.as_ref()?.store_or_new(store))
    }

    fn start_store(
        &self,
        room: &Room,
        store: &StoreId,
        restored: RestoredStore,
        take_back: Option<TakeBack>,
    ) -> StoreHandle {
        let (key, store, config) = (self.key.clone(), store.clone(), self.config.clone());
        let home = room.home.clone();
        let fresh = Arc::new(move || fresh_replica(&key, &store, &config, &home));
        store::start_for_life(
            restored,
            room.home.clone(),
            room.audit.clone(),
            self.clock.clone(),
            self.alarms.clone(),
            fresh,
            take_back,
        )
    }
}

/// The logs that the hub's own log of a store has revoked. A revocation of all of a terminal's logs means those enrolled
/// before it.
pub(crate) fn revoked_logs(replica: &Replica) -> Vec<LogId> {
    let (mut enrolled, mut revoked) = (Vec::new(), Vec::new());
    let own = LogId { terminal: TerminalId::hub(), incarnation: 1 };
    for record in replica.books().log_records(&own, 1) {
        match &record.transaction.body {
            Body::Hub(HubRecord::Enrol(enrolment)) => enrolled.push(enrolment.log.clone()),
            Body::Hub(HubRecord::Revoke { terminal, incarnation, .. }) => {
                let meant = |log: &&LogId| {
                    log.terminal == *terminal && incarnation.is_none_or(|number| number == log.incarnation)
                };
                revoked.extend(enrolled.iter().filter(meant).cloned());
            }
            _ => {}
        }
    }
    revoked
}

/// An empty replica of a store, with a session of its own.
pub(crate) fn fresh_replica(key: &NodeKey, store: &StoreId, config: &HubConfig, home: &Home) -> Replica {
    Replica::new(replica_identity(key, store), base_policy(config.currency)).in_room(&home.room())
}

/// Who the hub is in a store. Hubs of one company share the key; each life of a store is a session of its own.
pub(crate) fn replica_identity(key: &NodeKey, store: &StoreId) -> ReplicaIdentity {
    ReplicaIdentity {
        store: store.clone(),
        log: LogId { terminal: TerminalId::hub(), incarnation: 1 },
        key: key.signing_key().clone(),
        nonce: rand::random(),
        hub: WriterId(key.public()),
    }
}
