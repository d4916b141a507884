//! Joining, over the network: dials the hub of a code without a certificate and holds the join conversation.
//! Keeps nothing; saving the enrolment is the caller's.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::identity::{
    Enrolment, HUB_SERVER_NAME, HubAddress, JoinCode, JoinError, NodeKey, ask_to_join, facts,
};

use super::endpoint::{dial_sockets, socket_for};
use super::quic::{Caller, Connection, End, Socket};
use super::{Settings, close_code, tls};

/// At the end, the hub has this long to hear goodbye.
const FAREWELL: Duration = Duration::from_millis(500);

/// Joins the company of the code's hub with this key. `hub` dials another address than the code's; the enrolment
/// then keeps that one.
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
    let mut code = code.clone();
    if let Some(hub) = hub {
        code.hub = hub.clone();
    }
    let unreachable =
        |reason: String| JoinError::Unreachable { address: code.hub.as_str().to_owned(), reason };
    let sockets = dial_sockets().map_err(|e| unreachable(e.to_string()))?;
    let found = tokio::net::lookup_host(code.hub.as_str()).await.map_err(|e| unreachable(e.to_string()))?;
    let mut failed = unreachable("the name has no address".into());
    for address in found {
        match attempt(&sockets, address, &code, key, label, settings).await {
            // Only silence is a reason to try the name's next address.
            Err(e @ JoinError::Unreachable { .. }) => failed = e,
            other => return other,
        }
    }
    Err(failed)
}

async fn attempt(
    sockets: &[Socket],
    address: SocketAddr,
    code: &JoinCode,
    key: &NodeKey,
    label: &str,
    settings: &Settings,
) -> Result<Enrolment, JoinError> {
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
    connection.close(close_code::DONE, "thank you");
    let _ = timeout(FAREWELL, socket.wait_idle()).await;
    result
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
