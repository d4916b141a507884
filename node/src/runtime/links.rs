//! Between the transport and the stores' tasks: an accepted or dialled link becomes a peer of the store that its key
//! belongs to. A key that belongs to none gets nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use engine::ids::{LogId, StoreId, TerminalId, WriterId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::audit::AuditLog;
use super::clock::now_ms;
use super::store::StoreHandle;
use crate::error::Failure;
use crate::hub::Hub;
use crate::identity::{
    Enrolment, HubAddress, Identity, JoinCode, JoinDesk, JoinOutcome, NodeKey, PublicKey, Role,
};
use crate::transport::{
    Admit, DialEvent, DialPlan, Endpoint, Event, EventSink, Link, Settings, close_code, keep_connected,
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
}

impl Directory {
    /// A key belongs to a log of a store.
    pub fn enrol(&self, writer: WriterId, store: StoreId, log: LogId) {
        if !log.terminal.is_hub() {
            self.inner.write().unwrap_or_else(PoisonError::into_inner).writers.insert(writer, (store, log));
        }
    }

    /// A log's key may not connect any more.
    pub fn revoke(&self, log: &LogId) {
        self.inner.write().unwrap_or_else(PoisonError::into_inner).revoked.insert(log.clone());
    }

    /// The store of a key that may connect.
    fn admitted(&self, peer: &WriterId) -> Result<StoreId, String> {
        let known = self.inner.read().unwrap_or_else(PoisonError::into_inner);
        match known.writers.get(peer) {
            None => Err("this key is not enrolled here".to_owned()),
            Some((_, log)) if known.revoked.contains(log) => Err(format!("terminal {log} is revoked")),
            Some((store, _)) => Ok(store.clone()),
        }
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
pub async fn listen(
    address: &str,
    identity: Identity,
    hub: Arc<Hub>,
    mut stop: watch::Receiver<bool>,
) -> Result<SocketAddr, Failure> {
    let refused = |error: std::io::Error| {
        Failure::refused(format!("cannot listen on {address}: {error}; choose another address with --listen"))
    };
    let resolved = tokio::net::lookup_host(address).await.map_err(refused)?.next();
    let resolved = resolved.ok_or_else(|| Failure::refused(format!("{address} has no address")))?;
    let directory = hub.directory().clone();
    let admit: Admit = Arc::new(move |peer: &PublicKey| directory.admitted(&WriterId(*peer)).map(|_| ()));
    let desk = JoinDesk::new(hub.authority().clone(), hub.public_key(), {
        let hub = hub.clone();
        Arc::new(move |applicant| Box::pin(hub.clone().decide(applicant)))
    });
    let events = transport_events(hub.audit().clone());
    let endpoint = Endpoint::hub(resolved, &identity, Some(desk), admit, events, Settings::default())
        .map_err(refused)?;
    let local = endpoint.local_addr().map_err(refused)?;
    tokio::spawn(async move {
        loop {
            let link = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => break,
                link = endpoint.accept() => link,
            };
            let Some(link) = link else { break };
            let store =
                hub.directory().admitted(&WriterId(link.peer())).ok().and_then(|store| hub.store(&store));
            match store {
                Some(store) => {
                    tokio::spawn(serve(store, link));
                }
                None => link.control().close(close_code::NOT_ADMITTED, "this key is not enrolled here"),
            }
        }
        endpoint.shutdown().await;
    });
    Ok(local)
}

/// Keeps one connection to the hub alive until `stop`.
///
/// # Errors
/// No socket is to be had.
pub async fn dial(
    enrolment: Arc<Enrolment>,
    key: NodeKey,
    store: StoreHandle,
    audit: AuditLog,
    stop: watch::Receiver<bool>,
) -> Result<JoinHandle<()>, Failure> {
    let identity = enrolment.identity(key).map_err(Failure::refused)?;
    let endpoint = Endpoint::till(&identity, Settings::default()).map_err(Failure::refused)?;
    let plan = DialPlan::new(vec![enrolment.hub_address.clone()], Role::Hub, Some(enrolment.hub_public_key));
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

/// Frames that may wait for a link to take them. The window of unacknowledged batches needs a few dozen; a peer that
/// lets more wait than this does not read.
const FRAMES_WAITING: usize = 1_024;

/// Carries frames between a link and the store's task until either ends.
async fn serve(store: StoreHandle, link: Link) {
    static LINKS: AtomicU64 = AtomicU64::new(1);
    let (peer, number) = (WriterId(link.peer()), LINKS.fetch_add(1, Ordering::Relaxed));
    let (sender, mut receiver) = link.split();
    let control = sender.control().clone();
    let (frames, mut to_send) = mpsc::channel::<Vec<u8>>(FRAMES_WAITING);
    let sending = tokio::spawn(async move {
        while let Some(frame) = to_send.recv().await {
            if sender.send(frame).await.is_err() {
                return;
            }
        }
        sender.finish().await;
        control.close(close_code::DONE, "the conversation is over");
    });
    store.link_up(peer, number, frames).await;
    while let Ok(Some(frame)) = receiver.recv().await {
        if !store.frame(peer, number, frame).await {
            break;
        }
    }
    store.link_down(peer, number).await;
    sending.abort();
}

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
        unreachable @ crate::identity::JoinError::Unreachable { .. } => Failure::unreachable(unreachable),
        other => Failure::refused(other),
    })?;
    enrolment.save(dir).map_err(Failure::refused)?;
    Ok(enrolment)
}

fn transport_events(audit: AuditLog) -> EventSink {
    Arc::new(move |event| {
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

fn note_dial(audit: &AuditLog, store: &str, event: &DialEvent) {
    let (word, detail) = match event {
        DialEvent::Connecting { .. } | DialEvent::Woken { .. } | DialEvent::Connected { .. } => return,
        DialEvent::Lost { reason } => ("lost", reason.clone()),
        DialEvent::Failed { reason } => ("unreachable", reason.clone()),
        DialEvent::Refused { reason } => ("refused-by-hub", reason.clone()),
        DialEvent::Waiting { wait } => {
            ("waiting", format!("next attempt in {} ms at the latest", wait.as_millis()))
        }
    };
    audit.note(now_ms(), Some(store), Some("hub".to_owned()), word, detail);
}
