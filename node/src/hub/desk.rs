//! The enrolment desk: join codes are made here, kept by hash, used once, and turned into a till's place in a store.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use engine::transaction::{Enrolment, HubRecord};
use serde_json::{Value, json};

use super::{Hub, JOIN_KIND};
use crate::error::Failure;
use crate::identity::{Applicant, Grant, HubAddress, JoinCode, PendingJoin, Refusal, Verdict};
use crate::runtime::clock::{now_ms, rfc3339};
use crate::storage::Entry;

/// Join codes that may be open at a time.
const OPEN_CODES: usize = 10_000;

/// The join codes that a hub's own log entries leave.
pub(super) fn restore_joins(own: &[(u8, Vec<u8>)]) -> Vec<PendingJoin> {
    let mut joins: Vec<PendingJoin> = Vec::new();
    for (kind, bytes) in own {
        if *kind != JOIN_KIND {
            continue;
        }
        if let Ok(join) = serde_json::from_slice::<PendingJoin>(bytes) {
            joins.retain(|known| known.secret_hash != join.secret_hash);
            joins.push(join);
        }
    }
    joins
}

impl Hub {
    /// Makes a one-time join code for a till of a store.
    ///
    /// # Errors
    /// A name does not fit, or the terminal belongs to another store.
    pub async fn invite(&self, store: &str, terminal: &str, ttl: Duration) -> Result<Value, Failure> {
        let store: StoreId = store.parse().map_err(Failure::refused)?;
        let terminal: TerminalId = terminal.parse().map_err(Failure::refused)?;
        if terminal.is_hub() {
            return Err(Failure::refused("terminal \"hub\" is the hub's own name; choose another"));
        }
        if let Some((elsewhere, _)) = self.directory.terminal(&terminal).filter(|(known, _)| *known != store)
        {
            let message = format!(
                "terminal {terminal} belongs to store {elsewhere}; terminal names are unique in the company"
            );
            return Err(Failure::refused(message));
        }
        let mut hubs = Vec::new();
        for named in self.addresses() {
            hubs.push(named.parse::<HubAddress>().map_err(|error| {
                Failure::refused(format!(
                    "{named} cannot be put into a join code ({error}); run the hub with --advertise HOST:PORT"
                ))
            })?);
        }
        let code = JoinCode::new(hubs.remove(0), self.authority.fingerprint()).and_hubs(hubs);
        let expires_ms = now_ms().saturating_add(i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX));
        let pending = PendingJoin::new(
            store.as_str(),
            terminal.as_str(),
            &code.secret,
            u64::try_from(expires_ms).unwrap_or(u64::MAX),
        );
        self.keep_join(pending).await?;
        let detail = format!("join code for terminal {terminal}, valid until {}", rfc3339(expires_ms));
        self.audit.note(now_ms(), Some(store.as_str()), None, "invited", detail);
        Ok(
            json!({"code": code.to_string(), "store": store, "terminal": terminal, "expires_at": rfc3339(expires_ms)}),
        )
    }

    /// Makes the state of a join code durable, and remembers it.
    async fn keep_join(&self, pending: PendingJoin) -> Result<(), Failure> {
        let bytes = serde_json::to_vec(&pending).map_err(Failure::refused)?;
        let (send, receive) = tokio::sync::oneshot::channel();
        self.storage.append(vec![Entry { kind: JOIN_KIND, bytes }], move |result| {
            let _ = send.send(result.map(|_| ()));
        });
        receive.await.map_err(|_| Failure::refused("the storage is closed"))?.map_err(Failure::refused)?;
        let mut joins = self.joins.lock().unwrap_or_else(PoisonError::into_inner);
        joins.retain(|known| known.secret_hash != pending.secret_hash);
        if joins.len() >= OPEN_CODES {
            joins.remove(0);
        }
        joins.push(pending);
        Ok(())
    }

    /// Judges a device that asks to be let in. The code is marked as used, durably, before the answer is yes; the same
    /// key gets the same answer again, because the first may have been lost.
    pub(crate) async fn decide(self: Arc<Self>, applicant: Applicant) -> Result<Grant, Refusal> {
        let _one_at_a_time = self.enrolling.lock().await;
        let now = u64::try_from(now_ms()).unwrap_or(0);
        let found = {
            let joins = self.joins.lock().unwrap_or_else(PoisonError::into_inner);
            let judged = joins
                .iter()
                .map(|join| (join.check(&applicant.secret, &applicant.public_key, now), join.clone()));
            judged.into_iter().find(|(verdict, _)| !matches!(verdict, Verdict::NotThisOne))
        };
        let Some((verdict, mut pending)) = found else { return Err(Refusal::Unknown) };
        match verdict {
            Verdict::NotThisOne => return Err(Refusal::Unknown),
            Verdict::Expired => return Err(Refusal::Expired),
            Verdict::UsedByAnother => return Err(Refusal::Used),
            Verdict::Grant | Verdict::GrantAgain => {}
        }
        let failed = |failure: Failure| Refusal::HubFailed { detail: failure.message };
        pending.used_by = Some(applicant.public_key);
        let (store, terminal) = (pending.store.clone(), pending.terminal.clone());
        if matches!(verdict, Verdict::Grant) {
            self.keep_join(pending).await.map_err(failed)?;
        }
        let log = self.enrol(&store, &terminal, WriterId(applicant.public_key)).await.map_err(failed)?;
        Ok(Grant {
            store,
            terminal,
            incarnation: u64::from(log.incarnation),
            time_zone: self.config.time_zone.clone(),
            currency: self.config.currency.to_string(),
            extra: Vec::new(),
        })
    }

    /// Records that a key writes a terminal's log from now on.
    async fn enrol(&self, store: &str, terminal: &str, writer: WriterId) -> Result<LogId, Failure> {
        let store: StoreId = store.parse().map_err(Failure::refused)?;
        let terminal: TerminalId = terminal.parse().map_err(Failure::refused)?;
        let handle = self.store_or_new(&store).await?;
        self.bring_company_policy(&handle).await?;
        let name = terminal.clone();
        let (known, incarnation) = handle
            .ask(move |replica| {
                (replica.registry().log_of(&writer).cloned(), replica.registry().incarnation(&name))
            })
            .await
            .map_err(Failure::refused)?;
        if let Some(log) = known {
            return Ok(log);
        }
        let log = LogId { terminal, incarnation: incarnation + 1 };
        let record = HubRecord::Enrol(Enrolment { log: log.clone(), writer });
        handle
            .state(record, format!("enrol-{}-{}", log.terminal, log.incarnation))
            .await
            .map_err(Failure::refused)?;
        self.directory.enrol(writer, store.clone(), log.clone());
        let detail = format!("terminal {log} has key {writer}");
        self.audit.note(now_ms(), Some(store.as_str()), Some(log.terminal.to_string()), "enrolled", detail);
        Ok(log)
    }
}
