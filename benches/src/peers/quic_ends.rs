//! The two ends of a QUIC connection with TLS 1.3, as plain as quinn lets them be: the hub has a certificate of its own
//! that tills know, tills have none. Windows are wide, so that the line is never what waits.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Connection, Endpoint, ServerConfig, TransportConfig, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::Outcome;

/// Name in the hub's certificate.
const HUB_NAME: &str = "hub";
const CONNECTION_WINDOW_BYTES: u32 = 64 << 20;
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// Payload of a UDP packet over IPv6 and Ethernet, bytes: where quinn's own probing ends.
const PACKET_BYTES: u16 = 1_452;
/// IPv4 and UDP headers, bytes.
const HEADER_BYTES: u64 = 28;

/// An endpoint that accepts, and what a till needs to know of it.
///
/// # Errors
/// No socket is to be had.
pub fn hub() -> Outcome<(Endpoint, CertificateDer<'static>)> {
    let made = rcgen::generate_simple_self_signed(vec![HUB_NAME.to_owned()])?;
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)?;
    let mut config = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport());
    Ok((Endpoint::server(config, (Ipv4Addr::LOCALHOST, 0).into())?, certificate))
}

/// An endpoint that connects to that hub.
///
/// # Errors
/// No socket is to be had.
pub fn till(certificate: CertificateDer<'static>) -> Outcome<Endpoint> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    let tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport());
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into())?;
    endpoint.set_default_client_config(config);
    Ok(endpoint)
}

/// A connection.
///
/// # Errors
/// The hub is not there.
pub async fn connect(endpoint: &Endpoint, hub: SocketAddr) -> Outcome<Connection> {
    Ok(endpoint.connect(hub, HUB_NAME)?.await?)
}

/// Bytes of a connection so far, both ways, with the headers of its datagrams.
pub fn bytes(connection: &Connection) -> u64 {
    let stats = connection.stats();
    let of = |udp: &quinn::UdpStats| udp.bytes + HEADER_BYTES * udp.datagrams;
    of(&stats.udp_tx) + of(&stats.udp_rx)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Packets are as large as Ethernet lets them be from the start: probing for that would cost bytes.
fn transport() -> Arc<TransportConfig> {
    let mut transport = TransportConfig::default();
    transport.receive_window(VarInt::from_u32(CONNECTION_WINDOW_BYTES));
    transport.stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES));
    transport.send_window(u64::from(CONNECTION_WINDOW_BYTES));
    transport.initial_mtu(PACKET_BYTES);
    transport.mtu_discovery_config(None);
    Arc::new(transport)
}
