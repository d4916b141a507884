//! Policies of the company, of a store and of a till: writing them down, and reading how they came about. All lie in the
//! logs of the stores, which share nothing; so what is set for the company is written into every store's log, and into a
//! new store's before its first till is let in. What a setting means is the engine's to say.

use std::sync::Arc;
use std::time::Duration;

use engine::ids::{StoreId, TerminalId};
use engine::policy::{Policies, PolicyChange, Scope};
use engine::time::Day;
use engine::transaction::HubRecord;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::{Hub, base_policy};
use crate::error::Failure;
use crate::runtime::clock::now_ms;
use crate::runtime::store::StoreHandle;
use crate::runtime::store::several::ask_each;

/// A store that could not be written to (restored, its disk full) gets the company's policy so much later.
const LEVEL_INTERVAL: Duration = Duration::from_secs(300);

/// Whose policy is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// The company's: every store's, where nothing narrower is set.
    Company,
    /// A store's.
    Store(StoreId),
    /// A till's.
    Till(StoreId, TerminalId),
}

impl Whose {
    fn scope(&self) -> Scope {
        match self {
            Self::Company => Scope::Company,
            Self::Store(_) => Scope::Store,
            Self::Till(_, till) => Scope::Till(till.clone()),
        }
    }
}

/// A change of the company's policy, and no other.
fn is_of_company(change: &PolicyChange) -> bool {
    change.parts().next().is_some() && change.parts().all(|part| part.scope == Scope::Company)
}

fn of_company(policies: &Policies) -> Vec<PolicyChange> {
    policies.changes().map(|row| row.1).filter(|change| is_of_company(change)).cloned().collect()
}

impl Hub {
    /// Sets a policy, durably; the tills get it with the store's log. Returns whose it is, its version and, for the
    /// company, in how many stores it stands.
    ///
    /// # Errors
    /// A setting does not fit, there is no such store or till, or the storage refuses.
    pub async fn set_policy(
        &self,
        whose: &Whose,
        settings: &[String],
        from: Option<Day>,
        by: &str,
    ) -> Result<Value, Failure> {
        let lines = settings.iter().map(String::as_str);
        let change = PolicyChange::parse_for(&whose.scope(), lines, from, by).map_err(Failure::refused)?;
        let _one_at_a_time = self.enrolling.lock().await;
        let (said, store) = match whose {
            Whose::Company => (self.set_for_company(change).await?, None),
            Whose::Store(store) => (self.set_in(store, change).await?, Some(store)),
            Whose::Till(store, till) => {
                if self.directory.terminal(till).is_none_or(|known| known.0 != *store) {
                    return Err(Failure::refused(format!(
                        "store {store} has no till {till}; `tillsync terminals` lists them"
                    )));
                }
                let mut said = self.set_in(store, change).await?;
                said["till"] = json!(till);
                (said, Some(store))
            }
        };
        let detail = match whose {
            Whose::Company => format!("company: {}", settings.join(" ")),
            Whose::Store(_) => settings.join(" "),
            Whose::Till(_, till) => format!("till {till}: {}", settings.join(" ")),
        };
        self.audit.note(now_ms(), store.map(StoreId::as_str), Some(by.to_owned()), "policy", detail);
        Ok(said)
    }

    async fn set_in(&self, store: &StoreId, change: PolicyChange) -> Result<Value, Failure> {
        let handle =
            self.store(store).ok_or_else(|| Failure::refused(format!("there is no store {store}")))?;
        let version =
            handle.ask(|replica| replica.policies().version() + 1).await.map_err(Failure::refused)?;
        let record = HubRecord::Config(change);
        handle.state(record, format!("policy-{version}")).await.map_err(Failure::refused)?;
        Ok(json!({"store": store, "version": version}))
    }

    async fn set_for_company(&self, change: PolicyChange) -> Result<Value, Failure> {
        let stores = self.stores();
        if stores.is_empty() {
            return Err(Failure::refused(
                "there is no store yet to keep the company's policy in; enrol the first till, then set it",
            ));
        }
        let mut all = self.company_policy().await?;
        all.push(change);
        let mut behind = Vec::new();
        for store in &stores {
            if let Err(failure) = bring(store, &all).await {
                behind.push(json!({"store": store.store(), "because": failure.message}));
            }
        }
        if behind.len() == stores.len() {
            return Err(Failure::refused(format!("no store could take it: {}", behind[0]["because"])));
        }
        Ok(json!({"company_version": all.len(), "stores": stores.len() - behind.len(), "behind": behind}))
    }

    /// What was set for the company, oldest first: as the store has it that has most of it.
    ///
    /// # Errors
    /// The hub is stopping.
    pub async fn company_policy(&self) -> Result<Vec<PolicyChange>, Failure> {
        let asked = ask_each(self.stores(), |replica| of_company(replica.policies()));
        Ok(asked.await.map_err(Failure::refused)?.into_iter().rev().max_by_key(Vec::len).unwrap_or_default())
    }

    /// Gives a store what was set for the company before it was there.
    pub(super) async fn bring_company_policy(&self, store: &StoreHandle) -> Result<(), Failure> {
        bring(store, &self.company_policy().await?).await
    }

    /// The company's policy: what is in force where nothing narrower is set, and how it came about.
    ///
    /// # Errors
    /// The hub is stopping.
    pub async fn company_policy_view(&self) -> Result<Value, Failure> {
        let changes = self.company_policy().await?;
        let mut policies = Policies::starting_from(base_policy(self.config.currency));
        for (seq, change) in (1..).zip(&changes) {
            policies.insert(seq, engine::ids::RecordId([0; 32]), change.clone());
        }
        let stores = ask_each(self.stores(), |replica| {
            let policies = replica.policies();
            let own = policies.changes().filter(|row| !is_of_company(row.1)).count();
            json!({"store": replica.identity().store, "version": policies.version(), "own_changes": own, "tills": policies.tills()
                .iter().map(ToString::to_string).collect::<Vec<_>>()})
        });
        let stores = stores.await.map_err(Failure::refused)?;
        let mut view = policy_view(&policies, None);
        view["stores"] = json!(stores);
        Ok(view)
    }
}

/// Writes into a store's log what of the company's policy is not there yet.
async fn bring(store: &StoreHandle, all: &[PolicyChange]) -> Result<(), Failure> {
    let here = store.ask(|replica| of_company(replica.policies()).len()).await.map_err(Failure::refused)?;
    for (number, change) in (1..).zip(all).skip(here) {
        let record = HubRecord::Config(change.clone());
        store.state(record, format!("company-policy-{number}")).await.map_err(Failure::refused)?;
    }
    Ok(())
}

/// Until the hub stops: stores that missed a change of the company's policy get it.
pub(super) async fn keep_level(hub: Arc<Hub>, mut stop: watch::Receiver<bool>) {
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = tokio::time::sleep(LEVEL_INTERVAL) => {}
        }
        let _one_at_a_time = hub.enrolling.lock().await;
        let Ok(all) = hub.company_policy().await else { return };
        if all.is_empty() {
            continue;
        }
        for store in hub.stores() {
            if let Err(failure) = bring(&store, &all).await {
                tracing::warn!(store = %store.store(), "the company's policy waits: {failure}");
            }
        }
    }
}

/// A policy in JSON: every setting, for whom it was made, and the changes. `till`: as that till has it.
#[must_use]
pub fn policy_view(policies: &Policies, till: Option<&TerminalId>) -> Value {
    let latest = Day(i32::MAX);
    let policy = till.map_or_else(|| policies.on(latest), |till| policies.of_till(latest, till));
    let settings: Map<String, Value> =
        policy.settings().into_iter().map(|(key, value)| (key.to_owned(), json!(value))).collect();
    let made_for: Map<String, Value> = policies
        .made_for(latest, till)
        .into_iter()
        .map(|(key, scope)| (key.to_owned(), json!(scope_word(&scope))))
        .collect();
    let changes: Vec<Value> = policies
        .changes()
        .map(|(seq, change)| {
            json!({"seq": seq, "from": change.from, "settings": change.settings, "by": change.by})
        })
        .collect();
    let tills: Vec<String> = policies.tills().iter().map(ToString::to_string).collect();
    json!({
        "version": policies.version(),
        "settings": settings,
        "made_for": made_for,
        "tills": tills,
        "changes": changes,
    })
}

/// A scope in a word.
#[must_use]
pub fn scope_word(scope: &Scope) -> &'static str {
    match scope {
        Scope::Company => "company",
        Scope::Store => "store",
        Scope::Till(_) => "till",
    }
}
