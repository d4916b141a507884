//! The hub: every store of the company, the certificate authority, the books. Any till with a certificate talks to
//! the task of its own store and to nothing else.

mod authority;
mod batches;
mod closing;
mod config;
mod desk;
mod door;
mod exports;
mod people;
mod policy;
mod review;
mod rooms;
mod sessions;
mod statements;
mod vouch;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use engine::entry::Entry as LogEntry;
use engine::ids::{StoreId, TerminalId, WriterId};
use engine::lease::HubName;
use engine::transaction::HubRecord;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use authority::authority_offline;
pub(crate) use batches::ExportRange;
pub use batches::{EXPORT_KIND, Exports};
pub use closing::LockRequest;
pub use config::{HubConfig, base_policy, token_hash};
pub(crate) use door::Door;
pub(crate) use people::same;
pub use people::{PERSON_KIND, Person, Role};
pub use policy::{Whose, policy_view, scope_word};
pub use review::{Decided, DecisionRequest, NotDecided};
pub(crate) use rooms::{Room, Rooms, fresh_replica, replica_identity};
pub use sessions::{LIFE_LIMIT, Opened};
pub use statements::{PaymentRequest, SettledRequest, SettlementRequest};

use crate::api;
use crate::backup;
use crate::central;
use crate::cluster;
use crate::database::Database;
use crate::error::Failure;
use crate::identity::{Authority, HubList, NodeKey, PendingJoin};
use crate::runtime::StopSignal;
use crate::runtime::alarms::Alarms;
use crate::runtime::audit::{AUDIT_KIND, AuditEvent, AuditLog};
use crate::runtime::clock::{Clock, now_ms};
use crate::runtime::links::{Directory, address_of, listen};
use crate::runtime::restore::{Images, restore};
use crate::runtime::run_file::RunFile;
use crate::runtime::store::StoreHandle;
use crate::runtime::take_back::TakeBack;
use crate::runtime::workroom::Home;
use crate::storage::vault::Vault;
use crate::storage::{InDatabase, Options, RESERVE_BYTES, Storage, manifest, private};

/// Kind byte of a join code's state in the hub's log.
pub const JOIN_KIND: u8 = 65;

/// A store that changes hands is waited for, so long and so often: a lease, and what taking it over costs.
pub(crate) const HANDS_WAIT: Duration = Duration::from_secs(8);
pub(crate) const HANDS_LOOK: Duration = Duration::from_millis(100);

/// What `hub init` made.
#[derive(Debug)]
pub struct HubInit {
    /// Company name.
    pub company: String,
    /// The admin token: shown once.
    pub token: String,
    /// The hub's public key.
    pub hub_id: String,
}

/// Options of `hub run`.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// `host:port` that join codes name.
    pub advertise: Option<String>,
    /// A restored hub does not wait for its tills.
    pub write_at_once: bool,
    /// A hub that begins in a database spreads its stores over so many logs, so that several hubs can share them.
    pub shards: Option<u16>,
}

/// The running hub: what is one for the whole company, and the stores.
pub struct Hub {
    config: HubConfig,
    clock: Clock,
    key: NodeKey,
    authority: Arc<Authority>,
    /// The company's log.
    storage: Storage,
    audit: AuditLog,
    rooms: Arc<Rooms>,
    directory: Directory,
    joins: Mutex<Vec<PendingJoin>>,
    exports: tokio::sync::Mutex<Exports>,
    run_token: String,
    /// What join codes name: set once the hub listens.
    address: RwLock<String>,
    /// The company's hubs, as tills are told with their papers; empty: this one serves alone.
    hubs: HubList,
    /// One enrolment at a time, so that incarnations and terminal names stay unique; and no new store while the company's
    /// policy changes.
    enrolling: tokio::sync::Mutex<()>,
    alarms: Alarms,
    people: Mutex<BTreeMap<String, Person>>,
    sessions: Mutex<sessions::Sessions>,
    token_gate: Mutex<people::TokenGate>,
    /// One decision or lock at a time: each is judged by what those before it left.
    deciding: tokio::sync::Mutex<()>,
}

/// Makes a hub: key, certificate authority, admin token, configuration.
///
/// # Errors
/// The directory is a hub already, a value does not fit, or the disk fails.
pub fn init(dir: &Path, company: &str, currency: &str, time_zone: &str) -> Result<HubInit, Failure> {
    let operation = |failure: Failure| failure.during("hub init");
    let currency = currency.parse().map_err(Failure::refused).map_err(operation)?;
    Clock::in_zone(time_zone).map_err(Failure::refused).map_err(operation)?;
    if dir.join("hub.json").exists() {
        return Err(operation(Failure::refused(format!(
            "{} is a hub already; choose another --dir",
            dir.display()
        ))));
    }
    private::make_folder(dir).map_err(|error| {
        operation(Failure::refused(format!("cannot make {}: {error}; choose another --dir", dir.display())))
    })?;
    Vault::begin(dir).map_err(Failure::refused).map_err(operation)?;
    let key = NodeKey::load_or_create(dir).map_err(Failure::refused).map_err(operation)?;
    if Authority::load(dir).map_err(Failure::refused).map_err(operation)?.is_none() {
        Authority::create(dir, company).map_err(Failure::refused).map_err(operation)?;
    }
    let token = new_token();
    let config = HubConfig {
        company: company.to_owned(),
        currency,
        time_zone: time_zone.to_owned(),
        admin_token_hash: token_hash(&token),
        advertise: None,
        certificates: crate::identity::Terms::default(),
    };
    config.create(dir).map_err(operation)?;
    Ok(HubInit { company: company.to_owned(), token, hub_id: WriterId(key.public()).to_string() })
}

fn new_token() -> String {
    let secret: [u8; 20] = rand::random();
    format!("tsk_{}", data_encoding::BASE32_NOPAD.encode(&secret).to_lowercase())
}

/// Runs the hub until it is told to stop.
///
/// # Errors
/// The directory, storage or an address is not usable.
pub fn run(dir: &Path, listen: &str, http: &str, options: &RunOptions) -> Result<(), Failure> {
    crate::runtime::block_on(run_until_stopped(
        dir.to_path_buf(),
        listen.to_owned(),
        http.to_owned(),
        options.clone(),
    ))
    .map_err(|failure| failure.during("hub run"))
}

async fn run_until_stopped(
    dir: PathBuf,
    address: String,
    http: String,
    options: RunOptions,
) -> Result<(), Failure> {
    Vault::finish_encryption(&dir).map_err(Failure::refused)?;
    if options.write_at_once && backup::is_restored(&dir)? {
        backup::forget_restored(&dir)?;
    }
    if let Some(cluster) = cluster::of(&dir, options.shards).await? {
        return cluster::run(cluster, dir, address, http, options).await;
    }
    let hub = Hub::open(&dir, &address, options.advertise.clone())?;
    let mut stop_signal = StopSignal::listen()?;
    let (stop, stopped) = watch::channel(false);
    let (http_listener, http_address) = api::serve::bind(&http).await?;
    let identity = hub.authority.hub_identity(hub.key.clone()).map_err(Failure::refused)?;
    let quic = listen(&address, identity, hub.rooms.clone(), stopped.clone()).await?;
    if options.advertise.is_none() && hub.config.advertise.is_none() {
        hub.listens_on(quic);
    }
    let run_file = RunFile {
        pid: std::process::id(),
        http: http_address.to_string(),
        quic: Some(quic.to_string()),
        token: Some(hub.run_token.clone()),
        sealed_token: None,
    };
    let _guard = run_file.publish(&dir)?;
    let serving =
        tokio::spawn(api::serve::serve(http_listener, api::hub::router(hub.clone()), stopped.clone()));
    let mut work = hub.clone().work(&stopped);
    work.spawn(central::follow(hub.rooms.clone(), 0, stopped));
    hub.audit.note(now_ms(), None, None, "started", format!("quic {quic}, http {http_address}"));
    println!("ready quic={quic} http={http_address}");
    stop_signal.comes().await;
    let _ = stop.send(true);
    hub.storage.will_close();
    hub.audit.note(now_ms(), None, None, "stopping", String::new());
    for store in hub.rooms.own() {
        store.stop().await;
    }
    let _ = tokio::time::timeout(Duration::from_secs(3), serving).await;
    drop(work);
    hub.storage.clone().close().map_err(Failure::refused)
}

/// Makes a join code while no hub runs on the directory.
///
/// # Errors
/// A value does not fit, or the directory is in use.
pub fn enroll_offline(dir: &Path, store: &str, terminal: &str, ttl: Duration) -> Result<Value, Failure> {
    crate::runtime::block_on(async {
        let hub = Hub::open(dir, "127.0.0.1:7440", None)?;
        let view = hub.invite(store, terminal, ttl).await?;
        hub.shut_down().await?;
        Ok(view)
    })
    .map_err(|failure| failure.during("hub enroll"))
}

/// Ends a till's right to write while no hub runs on the directory.
///
/// # Errors
/// The till is not known, or the directory is in use.
pub fn revoke_offline(
    dir: &Path,
    terminal: &str,
    incarnation: Option<u32>,
    after_seq: Option<u64>,
) -> Result<Value, Failure> {
    crate::runtime::block_on(async {
        let hub = Hub::open(dir, "127.0.0.1:7440", None)?;
        let view = hub.revoke(terminal, incarnation, after_seq).await?;
        hub.shut_down().await?;
        Ok(view)
    })
    .map_err(|failure| failure.during("hub revoke"))
}

impl Hub {
    /// Opens a hub's directory and starts the tasks of its stores.
    ///
    /// # Errors
    /// The directory is no hub, is in use, or is damaged.
    pub fn open(dir: &Path, listen: &str, advertise: Option<String>) -> Result<Arc<Self>, Failure> {
        let Papers { config, key, authority } = Papers::load(dir)?;
        backup::is_restored(dir)?;
        let (storage, recovery) = Storage::open(dir, &storage_options()?).map_err(Failure::refused)?;
        tracing::info!(?recovery, "storage opened");
        let changed = manifest::adopt(dir).map_err(Failure::refused)?;
        let home = Home::of_node(dir, &storage);
        let restored =
            restore(&storage, Images::of(&home), |store| Ok(fresh_replica(&key, store, &config, &home)))?;
        let audit = AuditLog::new(storage, restored.audit);
        audit.note_changed(now_ms(), &changed);
        let (dir, audit_of_room) = (dir.to_path_buf(), audit.clone());
        let rooms =
            Arc::new(Rooms::new(dir.clone(), config, key, authority, (audit, Alarms::default()), 0, None)?);
        let room = Room::new(home, audit_of_room);
        let hub = Self::of(&rooms, &room, &restored.own, advertise.unwrap_or_else(|| listen.to_owned()))?;
        let take_back = TakeBack::of(&dir, restored.stores.len())?;
        rooms.open(0, room, restored.stores, take_back.as_ref());
        Ok(hub)
    }

    /// What is one for the whole company, over the company's log and what that log holds beside stores.
    pub(crate) fn of(
        rooms: &Arc<Rooms>,
        room: &Room,
        own: &[(u8, Vec<u8>)],
        address: String,
    ) -> Result<Arc<Self>, Failure> {
        let hub = Arc::new(Self {
            address: RwLock::new(address),
            hubs: rooms.hubs.clone(),
            clock: rooms.clock.clone(),
            authority: rooms.authority.clone(),
            directory: rooms.directory.clone(),
            joins: Mutex::new(desk::restore_joins(own)),
            exports: tokio::sync::Mutex::new(Exports::restore(own)?),
            run_token: rooms.run_token.clone(),
            enrolling: tokio::sync::Mutex::new(()),
            alarms: rooms.alarms.clone(),
            people: Mutex::new(people::restore_people(own)),
            sessions: Mutex::default(),
            token_gate: Mutex::default(),
            deciding: tokio::sync::Mutex::new(()),
            audit: room.audit.clone(),
            storage: room.storage().clone(),
            key: rooms.key.clone(),
            config: rooms.config.clone(),
            rooms: rooms.clone(),
        });
        rooms.serves_company(&hub);
        Ok(hub)
    }

    /// Starts what goes on by itself; it ends when the set is dropped.
    pub(crate) fn work(self: Arc<Self>, stopped: &watch::Receiver<bool>) -> JoinSet<()> {
        let mut work = JoinSet::new();
        work.spawn(vouch::vouch(self.clone(), stopped.clone()));
        work.spawn(statements::expire(self.clone(), stopped.clone()));
        work.spawn(policy::keep_level(self, stopped.clone()));
        work
    }

    /// Without a better word, join codes name the address that the hub listens on; one that listens everywhere is at
    /// least here.
    fn listens_on(&self, quic: std::net::SocketAddr) {
        *self.address.write().unwrap_or_else(PoisonError::into_inner) = address_of(quic);
    }

    fn address(&self) -> String {
        self.address.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The company's hubs, as tills are told; who knows of a change sets it.
    #[must_use]
    pub fn hubs(&self) -> &HubList {
        &self.hubs
    }

    /// What a join code names, as far as there is room: this hub first, then the company's.
    #[must_use]
    pub fn addresses(&self) -> Vec<String> {
        let others = self.hubs.get();
        [self.address()].into_iter().chain(others.iter().map(ToString::to_string)).collect()
    }

    async fn shut_down(&self) -> Result<(), Failure> {
        for store in self.rooms.own() {
            store.stop().await;
        }
        self.storage.clone().close().map_err(Failure::refused)
    }

    /// Every store, by name.
    #[must_use]
    pub fn stores(&self) -> Vec<StoreHandle> {
        self.rooms.all()
    }

    /// A store, if it is there.
    #[must_use]
    pub fn store(&self, store: &StoreId) -> Option<StoreHandle> {
        self.rooms.store(store)
    }

    /// A store, made if it is not there.
    async fn store_or_new(&self, store: &StoreId) -> Result<StoreHandle, Failure> {
        let since = Instant::now();
        loop {
            match self.rooms.store_or_new(store) {
                Some(handle) => return Ok(handle),
                // It is changing hands.
                None if since.elapsed() < HANDS_WAIT => tokio::time::sleep(HANDS_LOOK).await,
                None => {
                    return Err(Failure::refused(format!(
                        "store {store} belongs to another hub of the company that is not there at the moment; try again in a \
                         few seconds"
                    )));
                }
            }
        }
    }

    /// The hubs that serve the company, each with its stores. A hub that is alone has all of them.
    #[must_use]
    pub fn hubs_view(&self) -> Value {
        let Some(elsewhere) = &self.rooms.elsewhere else {
            let stores: Vec<_> = self.stores().iter().map(|store| json!(store.store())).collect();
            let software = env!("CARGO_PKG_VERSION");
            return json!([{"address": self.address(), "serves_company": true, "stores": stores, "logs": [0], "warm": [],
                "software": software, "since": null, "process": null}]);
        };
        let stores = self.stores();
        let hubs = elsewhere.hubs().into_iter().map(|(row, logs)| {
            let its = stores.iter().filter(|store| logs.contains(&self.rooms.number_of(store.store())));
            json!({
                "address": row.address,
                "serves_company": logs.contains(&0),
                "stores": its.map(|store| json!(store.store())).collect::<Vec<_>>(),
                "logs": logs,
                "warm": row.warm,
                "software": row.software,
                "since": row.since,
                "process": row.holder,
            })
        });
        hubs.collect()
    }

    /// The audit log.
    #[must_use]
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// The hub's log.
    #[must_use]
    pub fn storage(&self) -> &Storage {
        &self.storage
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &HubConfig {
        &self.config
    }

    /// The clock of the stores.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The company's certificate authority.
    #[must_use]
    pub fn authority(&self) -> &Arc<Authority> {
        &self.authority
    }

    /// The hub's public key.
    #[must_use]
    pub fn public_key(&self) -> crate::identity::PublicKey {
        self.key.public()
    }

    /// Which key belongs to which store.
    #[must_use]
    pub fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The stores of this process, and the way to those of others.
    pub(crate) fn rooms(&self) -> &Rooms {
        &self.rooms
    }

    /// What somebody should look at.
    #[must_use]
    pub fn alarms(&self) -> &Alarms {
        &self.alarms
    }

    /// Ends a till's right to write after a number (by default the last that arrived), and its connection. The newest
    /// device of that name, unless an incarnation is named.
    ///
    /// # Errors
    /// The till is not known.
    pub async fn revoke(
        &self,
        terminal: &str,
        incarnation: Option<u32>,
        after_seq: Option<u64>,
    ) -> Result<Value, Failure> {
        let terminal: TerminalId = terminal.parse().map_err(Failure::refused)?;
        let Some((store, log, writer)) = self.directory.device(&terminal, incarnation) else {
            let device = incarnation.map_or_else(String::new, |number| format!(", device {number},"));
            return Err(Failure::refused(format!(
                "terminal {terminal}{device} is not enrolled here; `tillsync terminals` lists them"
            )));
        };
        let handle = self.store_or_new(&store).await?;
        let arrived = log.clone();
        let last = handle.ask(move |replica| replica.log_heads().get(&arrived).copied().unwrap_or(0)).await;
        let last_valid_seq = after_seq.unwrap_or(last.map_err(Failure::refused)?);
        let record = HubRecord::Revoke {
            terminal: terminal.clone(),
            incarnation: Some(log.incarnation),
            last_valid_seq,
        };
        handle
            .state(record, format!("revoke-{terminal}-{}", log.incarnation))
            .await
            .map_err(Failure::refused)?;
        self.rooms.revoke(&log, &writer);
        let detail = format!("terminal {log}: records after {last_valid_seq} are held");
        self.audit.note(now_ms(), Some(store.as_str()), Some(terminal.to_string()), "revoked", detail);
        Ok(
            json!({"store": store, "terminal": terminal, "incarnation": log.incarnation, "last_valid_seq": last_valid_seq}),
        )
    }
}

/// What a hub's directory says of it.
pub(crate) struct Papers {
    pub(crate) config: HubConfig,
    pub(crate) key: NodeKey,
    pub(crate) authority: Arc<Authority>,
}

impl Papers {
    /// Reads them.
    ///
    /// # Errors
    /// The directory is no hub, or is damaged.
    pub(crate) fn load(dir: &Path) -> Result<Self, Failure> {
        let config = HubConfig::load(dir)?;
        config.clock()?;
        let key = NodeKey::load(dir).map_err(Failure::refused)?;
        let key = key.ok_or_else(|| {
            Failure::refused(format!("{} has no key; restore it from a backup", dir.display()))
        })?;
        let authority = Authority::load(dir).map_err(Failure::refused)?;
        let authority = authority.ok_or_else(|| {
            Failure::refused("the certificate authority is missing; restore it from a backup")
        })?;
        Ok(Self { key, authority: Arc::new(authority.on_terms(config.certificates)), config })
    }
}

/// How a hub's log is opened: as the directory says, in the database that this process was given, if any.
fn storage_options() -> Result<Options, Failure> {
    let database = Database::of_process().map_err(Failure::refused)?;
    Ok(match database {
        Some(database) => log_options(&database, None),
        None => Options { reserve_bytes: 2 * RESERVE_BYTES, ..Options::default() },
    })
}

/// How a log in a database is opened; `hub`: by one of several hubs. A hub takes in a till's whole outage at once, and its
/// reserve for a full disk is as much larger.
pub(crate) fn log_options(database: &Database, hub: Option<HubName>) -> Options {
    let database = Some(InDatabase { database: database.clone(), store_of: store_of_entry, hub });
    Options { reserve_bytes: 2 * RESERVE_BYTES, database, ..Options::default() }
}

/// The store of an entry, for who looks at a log in a database. The hub's own entries are about none.
fn store_of_entry(kind: u8, bytes: &[u8]) -> Option<String> {
    if kind == AUDIT_KIND {
        return AuditEvent::decode(bytes)?.store;
    }
    LogEntry::decode(kind, bytes).ok().map(|(store, _)| store.to_string())
}
