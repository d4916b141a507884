//! Joining, over the network: dials the hub of a code without a certificate and holds the join conversation.
//! Keeps nothing; saving the enrolment is the caller's.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::identity::{
    Enrolment, HUB_SERVER_NAME, HubAddress, JoinCode, JoinError, NodeKey, ask_to_join, each_once, facts,
};

use super::endpoint::{dial_sockets, socket_for};
use super::quic::{Caller, Connection, End, Socket};
use super::search::HOPS_MAX;
use super::{Settings, close_code, tls};

/// At the end, the hub has this long to hear goodbye.
const FAREWELL: Duration = Duration::from_millis(500);

/// Joins the company of the code's hubs with this key: they are tried in turn, and one that sends on is followed. `hub`
/// dials another address than the code's; the enrolment then keeps that one.
///
/// # Errors
/// When nobody answers, somebody else answers, or the hub refuses.
pub async fn join(
    code: &JoinCode,
    hub: Option<&HubAddress>,
    key: &NodeKey,
    label: &str,
    settings: &Settings,
) -> Result<Enrolment, JoinError> {
    let code = hub.map_or_else(|| code.clone(), |hub| code.clone().at(hub.clone()));
    let mut failed = None;
    for entry in code.hubs() {
        match join_from(entry, &code, key, label, settings).await {
            Ok((enrolment, granted_by)) => return Ok(keeping(enrolment, entry, granted_by, &code)),
            Err(e @ (JoinError::Unreachable { .. } | JoinError::Elsewhere { .. })) => {
                // That some hub of the company answers is the better news.
                failed = match failed {
                    Some(known @ JoinError::Elsewhere { .. }) => Some(known),
                    _ => Some(e),
                };
            }
            Err(e) => return Err(e),
        }
    }
    Err(failed.unwrap_or_else(|| JoinError::Broken("the code names no hub".into())))
}

/// From one of the code's addresses to the hub that enrols. Gives where that was.
async fn join_from(
    entry: &HubAddress,
    code: &JoinCode,
    key: &NodeKey,
    label: &str,
    settings: &Settings,
) -> Result<(Enrolment, HubAddress), JoinError> {
    let mut name = entry.clone();
    for _ in 0..=HOPS_MAX {
        match join_at(&name, code, key, label, settings).await? {
            Answer::Enrolled(enrolment) => return Ok((*enrolment, name)),
            Answer::Elsewhere(Some(hub)) => name = hub,
            Answer::Elsewhere(None) => break,
        }
    }
    Err(JoinError::Elsewhere { address: name.to_string() })
}

/// The hub at a name. Only silence is a reason to try the name's next address.
async fn join_at(
    name: &HubAddress,
    code: &JoinCode,
    key: &NodeKey,
    label: &str,
    settings: &Settings,
) -> Result<Answer, JoinError> {
    let unreachable = |reason: String| JoinError::Unreachable { address: name.to_string(), reason };
    let sockets = dial_sockets().map_err(|e| unreachable(e.to_string()))?;
    let found = tokio::net::lookup_host(name.as_str()).await.map_err(|e| unreachable(e.to_string()))?;
    let mut failed = unreachable("the name has no address".into());
    for address in found {
        match attempt(&sockets, address, code, key, label, settings).await {
            Err(e @ JoinError::Unreachable { .. }) => failed = e,
            other => return other,
        }
    }
    Err(failed)
}

/// The enrolment with what was learnt of where the hubs are. A till that found the only one where the code said keeps that
/// address alone.
fn keeping(enrolment: Enrolment, entry: &HubAddress, granted_by: HubAddress, code: &JoinCode) -> Enrolment {
    let hubs = each_once([granted_by].into_iter().chain(code.hubs().iter().cloned()));
    let hub_addresses =
        if hubs == [entry.clone()] { Vec::new() } else { hubs.iter().map(ToString::to_string).collect() };
    Enrolment { hub_address: entry.to_string(), hub_addresses, ..enrolment }
}

/// What a hub of the company answered to a device with a code.
enum Answer {
    Enrolled(Box<Enrolment>),
    /// Another hub enrols: where, if it is known.
    Elsewhere(Option<HubAddress>),
}

async fn attempt(
    sockets: &[Socket],
    address: SocketAddr,
    code: &JoinCode,
    key: &NodeKey,
    label: &str,
    settings: &Settings,
) -> Result<Answer, JoinError> {
    let unreachable = |reason: String| JoinError::Unreachable { address: address.to_string(), reason };
    let wrong_hub = |reason: String| JoinError::WrongHub { address: address.to_string(), reason };
    let (client, doubt) = tls::joiner(code.ca).map_err(|e| unreachable(e.to_string()))?;
    let caller = Caller::new(client, settings).map_err(|e| unreachable(e.to_string()))?;
    let socket = socket_for(sockets, address).ok_or_else(|| unreachable("no socket of its kind".into()))?;
    let dialled = timeout(settings.connect, socket.dial(&caller, address, HUB_SERVER_NAME)).await;
    let connection = match dialled {
        Ok(Ok(connection)) => connection,
        Ok(Err(end)) => {
            return Err(match (doubt.get(), end) {
                (Some(reason), _) => wrong_hub(reason.clone()),
                // It speaks TLS, but has no ear for join conversations.
                (None, End::Handshake(reason)) => wrong_hub(reason),
                (None, end) => unreachable(end.to_string()),
            });
        }
        Err(_) => return Err(unreachable(format!("no answer within {:?}", settings.connect))),
    };
    let result = converse(&connection, code, key, label).await;
    let elsewhere = connection.end().and_then(|end| end.elsewhere());
    connection.close(close_code::DONE, "thank you");
    let _ = timeout(FAREWELL, socket.wait_idle()).await;
    match (result, elsewhere) {
        (Ok(enrolment), _) => Ok(Answer::Enrolled(Box::new(enrolment))),
        (Err(_), Some(hub)) => Ok(Answer::Elsewhere(hub)),
        (Err(e), None) => Err(e),
    }
}

async fn converse(
    connection: &Connection,
    code: &JoinCode,
    key: &NodeKey,
    label: &str,
) -> Result<Enrolment, JoinError> {
    let broken = |e: String| JoinError::Broken(e);
    let certificate =
        connection.peer_certificate().ok_or_else(|| broken("the hub has no certificate".into()))?;
    let hub = facts(&certificate).map_err(|e| broken(e.to_string()))?.public_key;
    let stream = connection.open_stream().await.map_err(|e| broken(e.to_string()))?;
    ask_to_join(&mut stream.into_io(), code, key, label, &hub).await
}
