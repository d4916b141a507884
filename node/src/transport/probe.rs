//! Whether a till would be let in, without being let in: the handshake of a renewal, which proves the hub's key to us and
//! our certificate to it, and then a polite goodbye. No link begins, so none of the till's own is replaced; nothing is
//! asked, so nobody takes it for a second process with one key.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::timeout;

use crate::identity::{HUB_SERVER_NAME, Identity, PublicKey, facts};

use super::endpoint::{dial_sockets, socket_for};
use super::quic::{Caller, Connection, End};
use super::{ALPN_RENEW, DialError, Settings, close_code, tls};

/// A hub that turns us away says so right after its side of the handshake: within a round trip and some work.
const VERDICT: Duration = Duration::from_millis(1_500);
/// At the end, the hub has this long to hear goodbye.
const FAREWELL: Duration = Duration::from_millis(300);

/// Knocks at a hub with this node's papers.
///
/// # Errors
/// Nobody answers, somebody else answers, or the hub would not let us in.
pub async fn probe(
    identity: &Identity,
    address: SocketAddr,
    hub: &PublicKey,
    settings: &Settings,
) -> Result<(), DialError> {
    let unreachable = |reason: String| DialError::Unreachable { address, reason };
    let refused = |reason: String| DialError::Refused { address, reason };
    let sockets = dial_sockets().map_err(|e| unreachable(e.to_string()))?;
    let client = tls::client(identity, &[ALPN_RENEW]).map_err(|e| refused(e.to_string()))?;
    let caller = Caller::new(client, settings).map_err(|e| unreachable(e.to_string()))?;
    let socket = socket_for(&sockets, address).ok_or_else(|| unreachable("no socket of its kind".into()))?;
    let connection = match timeout(settings.connect, socket.dial(&caller, address, HUB_SERVER_NAME)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(End::Handshake(reason))) => return Err(refused(reason)),
        Ok(Err(end)) => return Err(unreachable(end.to_string())),
        Err(_) => return Err(unreachable(format!("no answer within {:?}", settings.connect))),
    };
    let verdict = verdict(&connection, hub).await;
    connection.close(close_code::DONE, "only looking");
    let _ = timeout(FAREWELL, socket.wait_idle()).await;
    verdict.map_err(refused)
}

async fn verdict(connection: &Connection, hub: &PublicKey) -> Result<(), String> {
    let certificate = connection.peer_certificate().ok_or("the hub showed no certificate")?;
    if facts(&certificate).map_err(|e| e.to_string())?.public_key != *hub {
        return Err("another hub of the company answers there".to_owned());
    }
    match timeout(VERDICT, connection.closed()).await {
        // It waits for our question: we are welcome. A hub without room for one more now would let us in later.
        Err(_) => Ok(()),
        Ok(End::Peer { code, .. }) if [close_code::FULL, close_code::DONE].map(u64::from).contains(&code) => {
            Ok(())
        }
        Ok(end) => Err(end.to_string()),
    }
}
