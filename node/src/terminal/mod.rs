//! The till's node: joins once, then captures, with or without a network, and keeps one connection to the hub alive.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::ids::{LogId, StoreId, WriterId};
use engine::replica::{Identity as ReplicaIdentity, Replica};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api;
use crate::backup;
use crate::error::Failure;
use crate::hub::base_policy;
use crate::identity::{Enrolment, NodeKey};
use crate::runtime::StopSignal;
use crate::runtime::alarms::Alarms;
use crate::runtime::audit::AuditLog;
use crate::runtime::clock::{Clock, now_ms};
use crate::runtime::links::dial;
use crate::runtime::restore::{Images, RestoredStore, restore};
use crate::runtime::run_file::RunFile;
use crate::runtime::store::{self, StoreHandle};
use crate::runtime::take_back::TakeBack;
use crate::runtime::workroom::Home;
use crate::storage::vault::Vault;
use crate::storage::{Options, Storage, manifest, private};

/// How long a stop waits for questions to be answered, and then for the hub to take what waits.
const STOP_WAIT_MAX: Duration = Duration::from_secs(3);
/// How often a stop looks whether the hub has taken it.
const DRAIN_LOOK: Duration = Duration::from_millis(20);

/// Uses a join code up: makes the key on this device, gets its certificate, keeps the enrolment.
///
/// # Errors
/// The code does not hold, the hub refuses or cannot be reached, or the directory is a till already.
pub fn join(dir: &Path, code: &str, hub: Option<&str>) -> Result<Value, Failure> {
    crate::runtime::block_on(join_hub(dir, code, hub)).map_err(|failure| failure.during("terminal join"))
}

async fn join_hub(dir: &Path, code: &str, hub: Option<&str>) -> Result<Value, Failure> {
    if let Some(known) = Enrolment::load(dir).map_err(Failure::refused)? {
        let message = format!(
            "{} is terminal {} of store {} already; choose another --dir",
            dir.display(),
            known.terminal,
            known.store
        );
        return Err(Failure::refused(message));
    }
    if dir.join("hub.json").exists() {
        return Err(Failure::refused(format!(
            "{} is the hub's directory; choose another --dir",
            dir.display()
        )));
    }
    private::make_folder(dir).map_err(|error| {
        Failure::refused(format!("cannot make {}: {error}; choose another --dir", dir.display()))
    })?;
    Vault::begin(dir).map_err(Failure::refused)?;
    let enrolment = crate::runtime::links::join(dir, code, hub).await?;
    Ok(json!({
        "company": enrolment.company,
        "store": enrolment.store,
        "terminal": enrolment.terminal,
        "incarnation": enrolment.incarnation,
        "hub": enrolment.hub_address,
    }))
}

/// Runs the till until it is told to stop. A restored one waits for the hub before it records, unless `write_at_once`.
///
/// # Errors
/// The directory is no till's, is in use or damaged, or the address is taken.
pub fn run(dir: &Path, http: &str, write_at_once: bool) -> Result<(), Failure> {
    crate::runtime::block_on(run_until_stopped(dir.to_path_buf(), http.to_owned(), write_at_once))
        .map_err(|failure| failure.during("terminal run"))
}

async fn run_until_stopped(dir: PathBuf, http: String, write_at_once: bool) -> Result<(), Failure> {
    Vault::finish_encryption(&dir).map_err(Failure::refused)?;
    if backup::is_restored(&dir)? && write_at_once {
        backup::forget_restored(&dir)?;
    }
    let enrolment = Enrolment::load(&dir).map_err(Failure::refused)?;
    let enrolment = enrolment.ok_or_else(|| {
        Failure::refused(format!(
            "{} is no till yet; join it with `tillsync terminal join --dir … --code …`",
            dir.display()
        ))
    })?;
    let key = NodeKey::load(&dir).map_err(Failure::refused)?;
    let key = key.ok_or_else(|| {
        Failure::refused("the till's key is missing; enrol this device anew in an empty directory")
    })?;
    let clock = Clock::in_zone(&enrolment.time_zone).map_err(Failure::refused)?;
    let identity = replica_identity(&enrolment, &key)?;
    let currency = enrolment.currency.parse().map_err(Failure::refused)?;
    let (storage, recovery) = Storage::open(&dir, &Options::default()).map_err(Failure::refused)?;
    tracing::info!(?recovery, "storage opened");
    let changed = manifest::adopt(&dir).map_err(Failure::refused)?;
    let home = Home::of_node(&dir, &storage);
    let fresh = || Replica::new(identity.clone(), base_policy(currency)).in_room(&home.room().of_one_store());
    let mut restored = restore(&storage, Images::of(&home), |store| {
        if *store == identity.store { Ok(fresh()) } else { Err(format!("it belongs to store {store}")) }
    })?;
    let audit = AuditLog::new(storage.clone(), restored.audit);
    audit.note_changed(now_ms(), &changed);
    let own = restored.stores.remove(&identity.store);
    let own = own.unwrap_or_else(|| RestoredStore::of(fresh()));
    let alarms = Alarms::default();
    // Each life of the store's task is a session of its own.
    let (again, rooms) = (identity.clone(), home.clone());
    let fresh = Arc::new(move || {
        let identity = ReplicaIdentity { nonce: rand::random(), ..again.clone() };
        Replica::new(identity, base_policy(currency)).in_room(&rooms.room().of_one_store())
    });
    let take_back = TakeBack::of(&dir, 1)?;
    let told = audit.clone();
    let handle = store::start_for_life(own, home, told, clock.clone(), alarms.clone(), fresh, take_back);

    let mut stop_signal = StopSignal::listen()?;
    let (stop, stopped) = watch::channel(false);
    let (hang_up, hung_up) = watch::channel(false);
    let (listener, address) = api::serve::bind(&http).await?;
    if !address.ip().is_loopback() {
        let message = format!(
            "the till's API answers on loopback only, and {address} is not; use --http 127.0.0.1:7401"
        );
        return Err(Failure::refused(message));
    }
    let run_file = RunFile {
        pid: std::process::id(),
        http: address.to_string(),
        quic: None,
        token: None,
        sealed_token: None,
    };
    let _guard = run_file.publish(&dir)?;
    let till = api::till::Till {
        store: handle.clone(),
        audit: audit.clone(),
        alarms: alarms.clone(),
        clock,
        storage: storage.clone(),
    };
    let serving = tokio::spawn(api::serve::serve(listener, api::till::router(till), stopped));
    let dialling =
        dial(&dir, Arc::new(enrolment), key, handle.clone(), audit.clone(), alarms, hung_up).await?;
    audit.note(now_ms(), Some(identity.store.as_str()), None, "started", format!("http {address}"));
    println!("ready http={address}");
    stop_signal.comes().await;
    audit.note(now_ms(), Some(identity.store.as_str()), None, "stopping", String::new());
    let _ = stop.send(true);
    let _ = tokio::time::timeout(STOP_WAIT_MAX, serving).await;
    let waiting = drain(&handle).await;
    let _ = hang_up.send(true);
    handle.stop().await;
    dialling.abort();
    let closed = storage.close().map_err(Failure::refused);
    if closed.is_ok() {
        // Whoever started the till may have stopped listening; that is no reason to fail.
        let _ = writeln!(std::io::stdout(), "{}", last_word(waiting));
    }
    closed
}

/// Gives what waits a moment to reach the hub, if that listens; returns how many records still wait.
async fn drain(store: &StoreHandle) -> u64 {
    let until = tokio::time::Instant::now() + STOP_WAIT_MAX;
    loop {
        let asked = store.ask(|replica| (replica.waiting().count, replica.hub_link().0)).await;
        let Ok((waiting, online)) = asked else { return 0 };
        if waiting == 0 || !online || tokio::time::Instant::now() >= until {
            return waiting;
        }
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}

/// What the till says as it goes.
fn last_word(waiting: u64) -> String {
    match waiting {
        0 => "stopped waiting=0: the hub holds every record".to_owned(),
        1 => "stopped waiting=1: one record has not reached the hub; it is safe on this device and goes out when the \
              till runs again"
            .to_owned(),
        many => format!(
            "stopped waiting={many}: {many} records have not reached the hub; they are safe on this device and go out \
             when the till runs again"
        ),
    }
}

fn replica_identity(enrolment: &Enrolment, key: &NodeKey) -> Result<ReplicaIdentity, Failure> {
    let store: StoreId = enrolment.store.parse().map_err(Failure::refused)?;
    let incarnation = u32::try_from(enrolment.incarnation).map_err(Failure::refused)?;
    let log = LogId { terminal: enrolment.terminal.parse().map_err(Failure::refused)?, incarnation };
    Ok(ReplicaIdentity {
        store,
        log,
        key: key.signing_key().clone(),
        nonce: rand::random(),
        hub: WriterId(enrolment.hub_public_key),
    })
}
