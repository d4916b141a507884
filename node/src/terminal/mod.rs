//! The till's node: joins once, then captures, with or without a network, and keeps one connection to the hub alive.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::ids::{LogId, StoreId, WriterId};
use engine::replica::{Identity as ReplicaIdentity, Replica};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::api;
use crate::error::Failure;
use crate::hub::base_policy;
use crate::identity::{Enrolment, NodeKey};
use crate::runtime::audit::AuditLog;
use crate::runtime::clock::{Clock, now_ms};
use crate::runtime::links::dial;
use crate::runtime::positions::Positions;
use crate::runtime::restore::{RestoredStore, restore};
use crate::runtime::run_file::RunFile;
use crate::runtime::store;
use crate::storage::{Options, Storage};

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
    std::fs::create_dir_all(dir).map_err(|error| {
        Failure::refused(format!("cannot make {}: {error}; choose another --dir", dir.display()))
    })?;
    let enrolment = crate::runtime::links::join(dir, code, hub).await?;
    Ok(json!({
        "company": enrolment.company,
        "store": enrolment.store,
        "terminal": enrolment.terminal,
        "incarnation": enrolment.incarnation,
        "hub": enrolment.hub_address,
    }))
}

/// Runs the till until it is told to stop.
///
/// # Errors
/// The directory is no till's, is in use or damaged, or the address is taken.
pub fn run(dir: &Path, http: &str) -> Result<(), Failure> {
    crate::runtime::block_on(run_until_stopped(dir.to_path_buf(), http.to_owned()))
        .map_err(|failure| failure.during("terminal run"))
}

async fn run_until_stopped(dir: PathBuf, http: String) -> Result<(), Failure> {
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
    let fresh = || Replica::new(identity.clone(), base_policy(currency));
    let mut restored = restore(&storage, |store| {
        if *store == identity.store { Ok(fresh()) } else { Err(format!("it belongs to store {store}")) }
    })?;
    let audit = AuditLog::new(storage.clone(), restored.audit);
    let own = restored.stores.remove(&identity.store);
    let RestoredStore { replica, positions } =
        own.unwrap_or_else(|| RestoredStore { replica: fresh(), positions: Positions::default() });
    let handle = store::start(replica, storage.clone(), audit.clone(), clock, positions);

    let (stop, stopped) = watch::channel(false);
    let (listener, address) = api::serve::bind(&http).await?;
    if !address.ip().is_loopback() {
        let message = format!(
            "the till's API answers on loopback only, and {address} is not; use --http 127.0.0.1:7401"
        );
        return Err(Failure::refused(message));
    }
    let run_file = RunFile { pid: std::process::id(), http: address.to_string(), quic: None, token: None };
    let _guard = run_file.publish(&dir)?;
    let till = api::till::Till { store: handle.clone(), audit: audit.clone() };
    let serving = tokio::spawn(api::serve::serve(listener, api::till::router(till), stopped.clone()));
    let dialling = dial(Arc::new(enrolment), key, handle.clone(), audit.clone(), stopped).await?;
    audit.note(now_ms(), Some(identity.store.as_str()), None, "started", format!("http {address}"));
    println!("ready http={address}");
    crate::runtime::stop_signal().await;
    audit.note(now_ms(), Some(identity.store.as_str()), None, "stopping", String::new());
    let _ = stop.send(true);
    handle.stop().await;
    dialling.abort();
    let _ = tokio::time::timeout(Duration::from_secs(3), serving).await;
    storage.close().map_err(Failure::refused)
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
