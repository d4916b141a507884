//! `tillsync project`: what would be. Scenarios of records that never happened, or the real books of a stopped node under
//! a changed policy. Touches no running node and changes nothing in a directory.

use std::path::Path;

use engine::ids::{StoreId, WriterId};
use engine::ledger::{Books, Settled};
use engine::policy::PolicyChange;
use engine::replica::{Identity as ReplicaIdentity, Replica};
use engine::review::{CaseChange, CaseEvent};
use engine::time::{Day, Instant};
use serde_json::{Map, Value, json};

use crate::api::views;
use crate::error::Failure;
use crate::hub::base_policy;
use crate::runtime::clock::now_ms;
use crate::runtime::restore::restore_at_rest;
use crate::storage::Logs;
use crate::verify::{own_log, owner};

/// Projects scenarios (a JSON list, or NDJSON) and gives `{"name","balances","cases"}` for each.
///
/// # Errors
/// The text is not of that form; the message names scenario and field.
pub fn project(text: &str) -> Result<Vec<Value>, Failure> {
    engine::scenario::project(text).map_err(|error| Failure::refused(error).during("project"))
}

/// What a changed policy would post or hold differently in the books of a stopped node, store by store.
///
/// # Errors
/// A setting does not fit, no such store, the directory is no node's, in use, or damaged.
pub fn under_policy(
    dir: &Path,
    store: Option<&str>,
    settings: &[String],
    from: Option<Day>,
) -> Result<Vec<Value>, Failure> {
    project_dir(dir, store, settings, from).map_err(|failure| failure.during("project"))
}

fn project_dir(
    dir: &Path,
    store: Option<&str>,
    settings: &[String],
    from: Option<Day>,
) -> Result<Vec<Value>, Failure> {
    let change = PolicyChange::parse(settings.iter().map(String::as_str), from, "what-if")
        .map_err(Failure::refused)?;
    let wanted = store.map(str::parse::<StoreId>).transpose().map_err(Failure::refused)?;
    let (key, hub, currency) = owner(dir)?;
    let logs = Logs::open(dir).map_err(Failure::refused)?;
    let stores = restore_at_rest(&logs, |store| {
        // The directory's own log: under another name what waits unsealed in it would be another till's, and count twice.
        let log = own_log(dir, WriterId(key.public()) == hub);
        let (key, nonce) = (key.signing_key().clone(), [0; 16]);
        Ok(Replica::new(
            ReplicaIdentity { store: store.clone(), log, key, nonce, hub },
            base_policy(currency),
        ))
    });
    let stores = stores?.stores;
    if let Some(wanted) = wanted.as_ref().filter(|wanted| !stores.contains_key(*wanted)) {
        let known: Vec<String> = stores.keys().map(ToString::to_string).collect();
        return Err(Failure::refused(format!(
            "there is no store {wanted} in {}; there are {}",
            dir.display(),
            known.join(", ")
        )));
    }
    let today = Instant::utc(now_ms()).day();
    let chosen = stores.into_iter().filter(|(store, _)| wanted.as_ref().is_none_or(|wanted| wanted == store));
    let report = |(store, made): (StoreId, crate::runtime::restore::RestoredStore)| {
        let books = made.replica.books();
        let (then, settled) = books.under_policy(change.clone(), today);
        report(&store, &change, books, &then, &settled)
    };
    Ok(chosen.map(report).collect())
}

fn report(store: &StoreId, change: &PolicyChange, now: &Books, then: &Books, settled: &Settled) -> Value {
    let of = |wanted: &[CaseChange]| -> Vec<Value> {
        let chosen = settled.cases.iter().filter(|event| wanted.contains(&event.change));
        chosen.map(case_view).collect()
    };
    let (before, after) = (now.balances(), then.balances());
    let mut balances = Map::new();
    for key in before.keys().chain(after.keys()) {
        let (was, is) = (before.get(key).copied().unwrap_or(0), after.get(key).copied().unwrap_or(0));
        if was != is {
            let name = format!("{} {}", key.0, key.1);
            balances.insert(name, json!({"now_minor": views::amount(was), "then_minor": views::amount(is)}));
        }
    }
    let settings: Map<String, Value> =
        change.settings.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    json!({
        "store": store,
        "policy": settings,
        "from": change.from,
        "records": now.len(),
        "entries": settled.journal.iter().map(|entry| views::journal_entry(then, entry)).collect::<Vec<_>>(),
        "balances": balances,
        "cases": {
            "opened": of(&[CaseChange::Opened]),
            "ended": of(&[CaseChange::Resolved]),
            "changed": of(&[CaseChange::Changed, CaseChange::Decided, CaseChange::SelfCancelled]),
        },
    })
}

fn case_view(event: &CaseEvent) -> Value {
    let case = &event.case;
    json!({
        "id": case.id,
        "type": case.key.case_type.as_str(),
        "about": case.about,
        "state": case.state.as_str(),
        "amount_minor": case.amount_minor,
        "currency": case.currency,
    })
}
