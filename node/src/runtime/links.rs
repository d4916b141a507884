//! Between the transport and the stores' tasks: an accepted or dialled link becomes a peer of the store that its key
//! belongs to. A key that belongs to none gets nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::alarms::Alarms;
use super::audit::AuditLog;
use super::callers::remember;
use super::clock::{now_ms, rfc3339};
use super::conversation::serve;
use super::store::StoreHandle;
use crate::error::Failure;
use crate::hub::{Door, Rooms};
use crate::identity::{
    Enrolment, HubAddress, HubList, Identity, JoinCode, JoinDesk, JoinError, JoinOutcome, NodeKey, PublicKey,
    Refusal, Role, accept_reply,
};
use crate::transport::{
    Admit, DialEvent, DialPlan, Endpoint, Event, EventSink, Keeper, Settings, close_code, keep_connected,
};

/// Which key belongs to which store and log, over all stores of the hub.
#[derive(Clone, Default)]
pub struct Directory {
    inner: Arc<RwLock<Known>>,
}

#[derive(Default)]
struct Known {
    writers: BTreeMap<WriterId, (StoreId, LogId)>,
    revoked: BTreeSet<LogId>,
    /// Rises with every change.
    version: u64,
}

impl Directory {
    /// A key belongs to a log of a store.
    pub fn enrol(&self, writer: WriterId, store: StoreId, log: LogId) {
        if !log.terminal.is_hub() {
            let mut known = self.inner.write().unwrap_or_else(PoisonError::into_inner);
            let before = known.writers.insert(writer, (store, log));
            known.version += u64::from(before != known.writers.get(&writer).cloned());
        }
    }

    /// A log's key may not connect any more.
    pub fn revoke(&self, log: &LogId) {
        let mut known = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let new = known.revoked.insert(log.clone());
        known.version += u64::from(new);
    }

    /// Changes whenever something is enrolled or revoked.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).version
    }

    /// Every key with its store and log, and whether it is revoked.
    #[must_use]
    pub fn devices(&self) -> Vec<(WriterId, StoreId, LogId, bool)> {
        let known = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let rows = known.writers.iter();
        rows.map(|(writer, (store, log))| (*writer, store.clone(), log.clone(), known.revoked.contains(log)))
            .collect()
    }

    /// The store of a key that may connect.
    ///
    /// # Errors
    /// It is not known, or revoked.
    pub fn admitted(&self, peer: &WriterId) -> Result<StoreId, String> {
        let known = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        match known.writers.get(peer) {
            None => Err("this key is not enrolled here".to_owned()),
            Some((_, log)) if known.revoked.contains(log) => Err(format!("terminal {log} is revoked")),
            Some((store, _)) => Ok(store.clone()),
        }
    }

    /// A device of a terminal, by default the newest: its store, log and key.
    #[must_use]
    pub fn device(
        &self,
        terminal: &TerminalId,
        incarnation: Option<u32>,
    ) -> Option<(StoreId, LogId, WriterId)> {
        let known = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let meant = known.writers.iter().filter(|(_, (_, log))| {
            log.terminal == *terminal && incarnation.is_none_or(|number| number == log.incarnation)
        });
        let newest = meant.max_by_key(|(_, (_, log))| log.incarnation);
        newest.map(|(writer, (store, log))| (store.clone(), log.clone(), *writer))
    }

    /// Whether a log's key may not connect any more.
    #[must_use]
    pub fn is_revoked(&self, log: &LogId) -> bool {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).revoked.contains(log)
    }

    /// The log of a key.
    #[must_use]
    pub fn log_of(&self, writer: &WriterId) -> Option<(StoreId, LogId)> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner).writers.get(writer).cloned()
    }

    /// Store and newest log of a terminal.
    #[must_use]
    pub fn terminal(&self, terminal: &TerminalId) -> Option<(StoreId, LogId)> {
        let known = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        let of_terminal = known.writers.values().filter(|(_, log)| log.terminal == *terminal);
        of_terminal.max_by_key(|(_, log)| log.incarnation).cloned()
    }
}

/// Listens for tills, and for devices with a join code. Returns the address.
///
/// # Errors
/// The address is taken or not ours.
pub(crate) async fn listen(
    address: &str,
    identity: Identity,
    rooms: Arc<Rooms>,
    mut stop: watch::Receiver<bool>,
) -> Result<SocketAddr, Failure> {
    let refused = |error: std::io::Error| {
        Failure::refused(format!("cannot listen on {address}: {error}; choose another address with --listen"))
    };
    let resolved = tokio::net::lookup_host(address).await.map_err(refused)?.next();
    let resolved = resolved.ok_or_else(|| Failure::refused(format!("{address} has no address")))?;
    let admitting = rooms.clone();
    let admit: Admit = Arc::new(move |peer: &PublicKey| admitting.admits(&WriterId(*peer)));
    let desk = JoinDesk::new(rooms.authority.clone(), rooms.key.public(), {
        let rooms = rooms.clone();
        Arc::new(move |applicant| {
            let company = rooms.company();
            Box::pin(async move {
                match company {
                    Some(hub) => hub.decide(applicant).await,
                    None => {
                        Err(Refusal::HubFailed { detail: "another hub enrols tills; ask again".to_owned() })
                    }
                }
            })
        })
    });
    let enrolling = rooms.clone();
    let desk = desk.naming(rooms.hubs.clone()).enrolling_if(Arc::new(move || enrolling.enrols()));
    let events = transport_events(rooms.clone());
    let settings = match rooms.elsewhere {
        Some(_) => Settings::default(),
        None => Settings::default().at_leisure(),
    };
    let endpoint =
        Endpoint::hub(resolved, &identity, Some(desk), admit, events, settings).map_err(refused)?;
    let local = endpoint.local_addr().map_err(refused)?;
    if rooms.elsewhere.is_none() {
        tokio::spawn(remember(rooms.dir.clone(), endpoint.clone(), stop.clone()));
    }
    let _ = rooms.door.set(Door { endpoint: endpoint.clone(), identity });
    tokio::spawn(async move {
        loop {
            let link = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                link = endpoint.accept() => link,
            };
            let Some(link) = link else { break };
            let admitted = rooms.directory.admitted(&WriterId(link.peer())).ok();
            let store = admitted.and_then(|store| rooms.own_store(&store));
            match store {
                Some(store) => {
                    tokio::spawn(serve(store, link));
                }
                // It has gone to another hub a moment ago.
                None if rooms.elsewhere.is_some() => link.control().close(close_code::ELSEWHERE, ""),
                None => link.control().close(close_code::NOT_ADMITTED, "this key is not enrolled here"),
            }
        }
        endpoint.shutdown().await;
    });
    Ok(local)
}

/// Where a listener is reached, as far as it knows itself: one that listens everywhere is at least here.
#[must_use]
pub fn address_of(quic: SocketAddr) -> String {
    let host = if quic.ip().is_unspecified() { "127.0.0.1".to_owned() } else { quic.ip().to_string() };
    if host.contains(':') { format!("[{host}]:{}", quic.port()) } else { format!("{host}:{}", quic.port()) }
}

/// Keeps one connection to the hub alive until `stop`.
///
/// # Errors
/// No socket is to be had.
pub async fn dial(
    dir: &Path,
    enrolment: Arc<Enrolment>,
    key: NodeKey,
    store: StoreHandle,
    audit: AuditLog,
    alarms: Alarms,
    stop: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, Failure> {
    let identity = enrolment.identity(key).map_err(Failure::refused)?;
    let hubs = HubList::of(enrolment.hubs());
    let keeper = keeper(dir, &enrolment, identity.clone(), hubs.clone(), audit.clone(), alarms);
    let endpoint =
        Endpoint::till_for_life(&identity, keeper, Settings::default()).map_err(Failure::refused)?;
    let plan = DialPlan::new(hubs, Role::Hub, Some(enrolment.hub_public_key));
    let (links, mut dialled) = mpsc::channel(1);
    let name = store.store().to_string();
    let events = Arc::new(move |event| note_dial(&audit, &name, &event));
    tokio::spawn(async move {
        while let Some(link) = dialled.recv().await {
            tokio::spawn(serve(store.clone(), link));
        }
    });
    Ok(tokio::spawn(keep_connected(endpoint, plan, links, events, stop)))
}

/// Takes what the hub answers about papers and about where the hubs are: checked, on disk, and then in use.
fn keeper(
    dir: &Path,
    enrolment: &Enrolment,
    identity: Identity,
    hubs: HubList,
    audit: AuditLog,
    alarms: Alarms,
) -> Keeper {
    let (dir, enrolment) = (dir.to_path_buf(), Arc::new(Mutex::new(enrolment.clone())));
    let held = enrolment.clone();
    let holds = move || held.lock().unwrap_or_else(PoisonError::into_inner).holds();
    Keeper::new(holds, move |hub, reply| {
        let mut enrolment = enrolment.lock().unwrap_or_else(PoisonError::into_inner);
        if *hub != enrolment.hub_public_key {
            return Err("another node than this till's hub offered papers".to_owned());
        }
        let present = enrolment.papers();
        if !reply.twin.is_empty() {
            let detail = format!(
                "this till's key is used by another process as well ({}): {CLONE_ADVICE}",
                reply.twin
            );
            alarms.raise(&enrolment.terminal, "cloned", detail.clone());
            audit.note(now_ms(), Some(&enrolment.store), Some("hub".to_owned()), "cloned", detail);
        }
        let papers = accept_reply(reply, &identity.public(), &present).map_err(|e| e.to_string())?;
        let next = enrolment.with_hubs(&reply.hubs());
        let next = if papers == present { next } else { next.with_papers(&papers) };
        if next == *enrolment {
            return Ok(());
        }
        next.save(&dir).map_err(|e| e.to_string())?;
        if next.hub_addresses != enrolment.hub_addresses {
            hubs.set(next.hubs());
            let detail = format!("the company's hubs are at {}", next.hub_addresses.join(", "));
            audit.note(now_ms(), Some(&next.store), Some("hub".to_owned()), "hubs", detail);
        }
        if papers == present {
            *enrolment = next;
            return Ok(());
        }
        identity.replace(papers).map_err(|e| e.to_string())?;
        let ends = i64::try_from(identity.facts().not_after).unwrap_or(i64::MAX).saturating_mul(1_000);
        let detail =
            format!("certificate until {}, {} company certificates", rfc3339(ends), next.trusted.len());
        audit.note(now_ms(), Some(&next.store), Some("hub".to_owned()), "renewed", detail);
        *enrolment = next;
        Ok(())
    })
}

/// What to do about a clone, at both ends.
const CLONE_ADVICE: &str = "a copied or restored data directory; stop one of them and enrol it anew in an empty \
                            directory. Records that both wrote are a CLONED_TERMINAL case";

/// Joins the hub of a code and keeps the enrolment.
///
/// # Errors
/// The code does not hold, the hub refuses or cannot be reached, or the disk fails.
pub async fn join(dir: &Path, code: &str, hub: Option<&str>) -> Result<Enrolment, Failure> {
    let code: JoinCode = code.parse().map_err(Failure::refused)?;
    let hub: Option<HubAddress> = hub.map(str::parse).transpose().map_err(Failure::refused)?;
    let key = NodeKey::load_or_create(dir).map_err(Failure::refused)?;
    let label = std::env::var("HOSTNAME").unwrap_or_default();
    let joined = crate::transport::join(&code, hub.as_ref(), &key, &label, &Settings::default()).await;
    let enrolment = joined.map_err(|error| match error {
        later @ (JoinError::Unreachable { .. } | JoinError::Elsewhere { .. }) => Failure::unreachable(later),
        other => Failure::refused(other),
    })?;
    enrolment.save(dir).map_err(Failure::refused)?;
    Ok(enrolment)
}

fn transport_events(rooms: Arc<Rooms>) -> EventSink {
    Arc::new(move |event| {
        let audit = &rooms.audit;
        let note =
            |who: Option<String>, event: &str, detail: String| audit.note(now_ms(), None, who, event, detail);
        match event {
            // The store's task notes who is connected, by name.
            Event::Accepted { .. } | Event::Ended { .. } => {}
            Event::Replaced { peer, remote, older } => {
                note(
                    Some(WriterId(peer).short()),
                    "replaced",
                    format!("connected anew from {remote}, before from {older}"),
                );
            }
            Event::Rejected { remote, reason } => note(Some(remote.to_string()), "rejected", reason),
            Event::Cloned { peer, remote } => {
                let (store, name) = rooms.directory.log_of(&WriterId(peer)).map_or_else(
                    || (None, WriterId(peer).short()),
                    |(store, log)| (Some(store), log.to_string()),
                );
                let detail = format!("{name} runs twice with one key, last from {remote}: {CLONE_ADVICE}");
                rooms.alarms.raise(&name, "cloned", detail.clone());
                audit.note(now_ms(), store.as_ref().map(StoreId::as_str), Some(name), "cloned", detail);
            }
            Event::Renewed { peer, ends, ended } => {
                let ends = rfc3339(i64::try_from(ends).unwrap_or(i64::MAX).saturating_mul(1_000));
                let after = if ended { ", after its old one had ended" } else { "" };
                note(Some(WriterId(peer).short()), "renewed", format!("certificate until {ends}{after}"));
            }
            Event::Join { remote, outcome } => {
                let detail = match outcome {
                    JoinOutcome::Granted { store, terminal, .. } => {
                        format!("terminal {terminal} of store {store} joined")
                    }
                    JoinOutcome::Refused(refusal) => format!("refused: {refusal}"),
                    JoinOutcome::Broken(reason) => format!("broke off: {reason}"),
                };
                note(Some(remote.to_string()), "join", detail);
            }
        }
    })
}

/// Why a till that let its link rest dials anew.
const PACED_SOON: &str = "the hub may be one of several: the link is watched closely";

fn note_dial(audit: &AuditLog, store: &str, event: &DialEvent) {
    let (word, detail) = match event {
        DialEvent::Connecting { .. } | DialEvent::Woken { .. } | DialEvent::Connected { .. } => return,
        DialEvent::Lost { reason } => ("lost", reason.clone()),
        DialEvent::Failed { reason } => ("unreachable", reason.clone()),
        DialEvent::Refused { reason } => ("refused-by-hub", reason.clone()),
        DialEvent::Moved { to: Some(hub) } => {
            ("moved", format!("the hub that this till knew has moved its store to {hub}"))
        }
        DialEvent::Moved { to: None } => {
            ("moved", "another hub is taking this till's store over; asking again".to_owned())
        }
        DialEvent::Paced { rests } => {
            ("paced", (if *rests { "the only hub: the link may rest" } else { PACED_SOON }).to_owned())
        }
        DialEvent::Waiting { wait } => {
            ("waiting", format!("next attempt in {} ms at the latest", wait.as_millis()))
        }
    };
    audit.note(now_ms(), Some(store), Some("hub".to_owned()), word, detail);
}
