//! What a data directory still holds after a crash, for a checker of crash images (`powerloss.py` and its like): prints
//! `HAVE <receipt>` for every record and `HAVE export-<number>` for every export batch, `BAD …` for whatever `verify` finds,
//! and exits with 0 if the directory opens as a node would open it.
//!
//! `crash_check DIR [KEY_FILE …]`: of several keys the first that fits is taken, as after a rotation that was cut off.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use engine::money::Currency;
use engine::replica::{Identity, Input, Replica};
use engine::time::Instant;
use node::hub::{EXPORT_KIND, HubConfig, base_policy};
use node::identity::{Enrolment, NodeKey};
use node::runtime::restore::{Images, Restored, restore};
use node::runtime::workroom::Home;
use node::storage::{Options, Storage, vault};
use node::verify::verify;

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(dir) = arguments.next() else { return ExitCode::from(2) };
    let keys: Vec<PathBuf> = arguments.collect();
    let fits = |key: &PathBuf| {
        let source = vault::Source::key_file(key).ok();
        let opened = |source| match vault::Vault::open(&dir, &source) {
            // Its node would finish it, and then the key fits or does not.
            Err(vault::VaultError::Unfinished { .. }) => true,
            opened => opened.is_ok_and(|vault| vault.is_some()),
        };
        source.is_some_and(opened)
    };
    vault::declare(keys.iter().find(|key| fits(key)).cloned(), None);
    match check(&dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn check(dir: &Path) -> Result<(), String> {
    vault::Vault::finish_encryption(dir).map_err(|error| error.to_string())?;
    node::backup::is_restored(dir).map_err(|failure| failure.message)?;
    let report = verify(dir).map_err(|failure| failure.message)?;
    for problem in report["problems"].as_array().into_iter().flatten() {
        println!("BAD {problem}");
    }
    let key = NodeKey::load(dir).map_err(|error| error.to_string())?.ok_or("no key")?;
    let enrolment = Enrolment::load(dir).map_err(|error| error.to_string())?;
    let (log, hub, currency) = own(dir, &key, enrolment.as_ref())?;
    let (storage, _) = Storage::open(dir, &Options::default()).map_err(|error| error.to_string())?;
    let home = Home::of_node(dir, &storage);
    let fresh = |store: &StoreId| {
        let identity = Identity {
            store: store.clone(),
            log: log.clone(),
            key: key.signing_key().clone(),
            nonce: [0; 16],
            hub: WriterId(hub),
        };
        Ok(Replica::new(identity, base_policy(currency)).in_room(&home.room()))
    };
    let whole = restore(&storage, Images::None, fresh).map_err(|error| error.to_string())?;
    let restored = restore(&storage, Images::of(&home), fresh).map_err(|error| error.to_string())?;
    let (whole, restored) = (settled(whole), settled(restored));
    for (store, made) in &restored.stores {
        let of_log = &whole.stores[store].replica;
        if made.replica.books().view_hash() != of_log.books().view_hash()
            || made.replica.digest() != of_log.digest()
        {
            println!("BAD the checkpoint of store {store} makes other books than the log");
        }
        let mut logs: BTreeSet<LogId> = made.replica.log_heads().keys().cloned().collect();
        logs.insert(log.clone());
        // What the hub states by itself is promised to nobody in the recording.
        logs.retain(|log| !log.terminal.is_hub());
        for record in logs.iter().flat_map(|log| made.replica.books().log_records(log, 1)) {
            println!("HAVE {}", record.transaction.receipt);
        }
    }
    for (kind, bytes) in &restored.own {
        let batch: serde_json::Value = serde_json::from_slice(bytes).unwrap_or_default();
        if *kind == EXPORT_KIND {
            println!("HAVE export-{}", batch["number"]);
        }
    }
    storage.close().map_err(|error| error.to_string())
}

/// Judges what a start leaves to be judged.
fn settled(mut restored: Restored) -> Restored {
    for made in restored.stores.values_mut() {
        made.replica.handle(Instant::utc(1_800_000_000_000), Input::Wakeup);
        while made.replica.next_wakeup() == Some(0) {
            made.replica.handle(Instant::utc(1_800_000_000_000), Input::Wakeup);
        }
    }
    restored
}

fn own(
    dir: &Path,
    key: &NodeKey,
    enrolment: Option<&Enrolment>,
) -> Result<(LogId, [u8; 32], Currency), String> {
    let Some(enrolment) = enrolment else {
        let config = HubConfig::load(dir).map_err(|failure| failure.message)?;
        return Ok((LogId { terminal: TerminalId::hub(), incarnation: 1 }, key.public(), config.currency));
    };
    let incarnation = u32::try_from(enrolment.incarnation).map_err(|error| error.to_string())?;
    let log = LogId { terminal: enrolment.terminal.parse().map_err(|_| "no terminal")?, incarnation };
    Ok((log, enrolment.hub_public_key, enrolment.currency.parse().map_err(|_| "no currency")?))
}
