//! The only file that names quinn: its settings, lowered as RELIABILITY.md section 4 says, and thin wrappers that
//! speak our words. It decides nothing about peers and knows no frames.

use std::cell::Cell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{HandshakeData, QuicClientConfig, QuicServerConfig};
use quinn::crypto::{CryptoError, HmacKey};
use quinn::{ConnectionError, TransportConfig, VarInt};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Settings, close_code};
use crate::identity::HubAddress;

/// Bidirectional streams a peer may open: the control stream, and room for transfers.
const STREAMS: u32 = 8;
const STREAM_WINDOW: u32 = 512 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;
/// Callers waiting for our first answer; what they may send meanwhile, each and together.
const INCOMING_LIMIT: usize = 256;
const INCOMING_BYTES: u64 = 64 * 1024;
const INCOMING_BYTES_TOTAL: u64 = 4 * 1024 * 1024;
/// Datagrams that wait at a socket, each way.
const SOCKET_BYTES: usize = 2 << 20;
/// Stateless resets (to peers of our former life) are at most one in this time.
const RESET_INTERVAL: Duration = Duration::from_millis(1);
/// A reset that is sent unasked: as long as a small packet, and the token at its end.
const RESET_BYTES: usize = 44;
const TOKEN_BYTES: usize = 16;
/// Bytes read of the reason with which a peer closes: room for the longest `host:port`.
const REASON_LIMIT: usize = 255;
/// QUIC wraps the TLS alert `a` of a failed handshake as error `0x100 + a`.
const TLS_ALERTS: std::ops::RangeInclusive<u64> = 0x100..=0x1ff;

/// Why a connection is no more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// We closed it.
    #[error("closed by this node")]
    Local,
    /// The peer closed it and said why.
    #[error("closed by the peer: {reason} (code {code})")]
    Peer {
        /// One of [`close_code`](super::close_code).
        code: u64,
        /// In the peer's words.
        reason: String,
    },
    /// One side did not believe the other's certificate, or the handshake broke.
    #[error("TLS handshake refused: {0}")]
    Handshake(String),
    /// Nothing was heard for too long.
    #[error("no answer for too long")]
    TimedOut,
    /// The peer restarted and has forgotten the connection.
    #[error("the peer restarted")]
    Restarted,
    /// Anything else that QUIC reports.
    #[error("QUIC: {0}")]
    Transport(String),
}

impl End {
    /// When the peer sent us on to another hub of the company: to which, if it said so.
    pub(super) fn elsewhere(&self) -> Option<Option<HubAddress>> {
        match self {
            Self::Peer { code, reason } if *code == u64::from(close_code::ELSEWHERE) => {
                Some(reason.parse().ok())
            }
            _ => None,
        }
    }
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> Self {
        let text =
            |bytes: &[u8]| String::from_utf8_lossy(&bytes[..bytes.len().min(REASON_LIMIT)]).into_owned();
        match error {
            ConnectionError::LocallyClosed => Self::Local,
            ConnectionError::TimedOut => Self::TimedOut,
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::ApplicationClosed(c) => {
                Self::Peer { code: c.error_code.into_inner(), reason: text(&c.reason) }
            }
            ConnectionError::ConnectionClosed(c) if TLS_ALERTS.contains(&u64::from(c.error_code)) => {
                Self::Handshake(format!("by the peer: {}", text(&c.reason)))
            }
            ConnectionError::TransportError(e) if TLS_ALERTS.contains(&u64::from(e.code)) => {
                Self::Handshake(e.reason)
            }
            other => Self::Transport(other.to_string()),
        }
    }
}

fn transport(settings: &Settings, dialling: bool) -> io::Result<Arc<TransportConfig>> {
    let mut config = TransportConfig::default();
    config.max_concurrent_bidi_streams(STREAMS.into()).max_concurrent_uni_streams(0_u32.into());
    config.stream_receive_window(STREAM_WINDOW.into()).receive_window(CONNECTION_WINDOW.into());
    config.send_window(CONNECTION_WINDOW.into()).datagram_receive_buffer_size(None);
    config.max_idle_timeout(Some(settings.idle.try_into().map_err(io::Error::other)?));
    // The caller keeps the link alive; if both did, every hub would wake for every till once more.
    config.keep_alive_interval(dialling.then_some(settings.keep_alive));
    // 1200 bytes pass everywhere; probing for more has cost other systems black holes on mobile networks.
    config.mtu_discovery_config(None);
    Ok(Arc::new(config))
}

/// How a caller proves itself and whom it believes.
#[derive(Clone)]
pub(super) struct Caller(quinn::ClientConfig);

impl Caller {
    pub(super) fn new(tls: rustls::ClientConfig, settings: &Settings) -> io::Result<Self> {
        let crypto = QuicClientConfig::try_from(tls).map_err(io::Error::other)?;
        let mut config = quinn::ClientConfig::new(Arc::new(crypto));
        config.transport_config(transport(settings, true)?);
        Ok(Self(config))
    }
}

/// A UDP socket that speaks QUIC; one that listens can end connections of its former life.
#[derive(Clone)]
pub(super) struct Socket(quinn::Endpoint, Option<Arc<Resets>>);

/// What stateless resets are made of, and what they are sent by.
struct Resets {
    key: ResetKey,
    socket: UdpSocket,
}

impl Socket {
    /// Listens. With the same `reset_key` as in a former life, peers of that life learn at once that their
    /// connections are gone, instead of waiting for their idle time-out.
    pub(super) fn listen(
        address: SocketAddr,
        tls: rustls::ServerConfig,
        reset_key: [u8; 32],
        settings: &Settings,
    ) -> io::Result<Self> {
        let crypto = QuicServerConfig::try_from(tls).map_err(io::Error::other)?;
        let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
        server.transport_config(transport(settings, false)?).migration(true).max_incoming(INCOMING_LIMIT);
        server.incoming_buffer_size(INCOMING_BYTES).incoming_buffer_size_total(INCOMING_BYTES_TOTAL);
        let socket = bind(address)?;
        let resets = Resets { key: ResetKey(reset_key), socket: socket.try_clone()? };
        let mut endpoint = quinn::EndpointConfig::new(Arc::new(ResetKey(reset_key)));
        endpoint.min_reset_interval(RESET_INTERVAL);
        // The default ids are signed with a key of this process: packets of a former life would be dropped
        // before the reset that they deserve. Unsigned ones are as unguessable and cost nothing more.
        endpoint.cid_generator(|| Box::<RandomIds>::default());
        let endpoint = quinn::Endpoint::new(endpoint, Some(server), socket, Arc::new(quinn::TokioRuntime))?;
        Ok(Self(endpoint, Some(Arc::new(resets))))
    }

    /// Only dials.
    pub(super) fn dial_only(address: SocketAddr) -> io::Result<Self> {
        Self::dials(quinn::EndpointConfig::default(), address)
    }

    fn dials(config: quinn::EndpointConfig, address: SocketAddr) -> io::Result<Self> {
        let socket = bind(address)?;
        let endpoint = quinn::Endpoint::new(config, None, socket, Arc::new(quinn::TokioRuntime))?;
        Ok(Self(endpoint, None))
    }

    /// Tells a peer of a former life that its connection is gone, before it says anything: the reset (RFC 9000, 10.3) that its
    /// next word would get. Not sent again if it is lost or the socket has no room: then that word will do.
    pub(super) fn reset(&self, to: SocketAddr, id: ConnectionId) {
        let Some(resets) = &self.1 else { return };
        let mut datagram: [u8; RESET_BYTES] = rand::random();
        // The first bits of a short header; the rest must look like any packet.
        datagram[0] = 0x40 | (datagram[0] & 0x3f);
        let (_, token) = datagram.split_at_mut(RESET_BYTES - TOKEN_BYTES);
        token.copy_from_slice(&resets.key.hash(&id).as_bytes()[..TOKEN_BYTES]);
        let _ = resets.socket.send_to(&datagram, to);
    }

    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    pub(super) async fn dial(&self, caller: &Caller, to: SocketAddr, name: &str) -> Result<Connection, End> {
        let connecting =
            self.0.connect_with(caller.0.clone(), to, name).map_err(|e| End::Transport(e.to_string()))?;
        Ok(Connection(connecting.await?, None))
    }

    /// The next caller, or `None` once the socket is closed.
    pub(super) async fn next_caller(&self) -> Option<Incoming> {
        self.0.accept().await.map(Incoming)
    }

    pub(super) fn close(&self, code: u32, reason: &str) {
        self.0.close(code.into(), reason.as_bytes());
    }

    /// Until the last connection has said goodbye.
    pub(super) async fn wait_idle(&self) {
        self.0.wait_idle().await;
    }
}

/// A socket with room for what arrives while this process does something else: with the usual 200 KiB a hub that is busy lost
/// datagrams of many tills that came back at once. The system may allow less.
fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind(address)?;
    #[cfg(unix)]
    {
        use rustix::net::sockopt;
        // As good as it gets: without it QUIC sends again what was lost.
        let _ = sockopt::set_socket_recv_buffer_size(&socket, SOCKET_BYTES);
        let _ = sockopt::set_socket_send_buffer_size(&socket, SOCKET_BYTES);
    }
    Ok(socket)
}

/// Dials from a socket that this connection has for itself and that goes with it. Whatever arrives there is meant for it, so
/// the caller needs no connection ids: none are handed out beforehand, and what it gets is shorter by one each time. Never
/// two connections on such a socket: one of them would get what is the other's.
pub(super) async fn dial_alone(caller: &Caller, to: SocketAddr, name: &str) -> Result<Connection, End> {
    let mut config = quinn::EndpointConfig::default();
    config.cid_generator(|| Box::new(NoIds));
    let from: SocketAddr = match to {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = Socket::dials(config, from).map_err(|e| End::Transport(e.to_string()))?;
    socket.dial(caller, to, name).await
}

/// Somebody who calls and has not been answered.
pub(super) struct Incoming(quinn::Incoming);

impl Incoming {
    pub(super) fn remote(&self) -> SocketAddr {
        self.0.remote_address()
    }

    pub(super) fn address_is_proven(&self) -> bool {
        self.0.remote_address_validated()
    }

    /// Asks the caller to come again with a token that proves its address; nothing is kept of this call.
    pub(super) fn ask_again(self) {
        // Fails only for a caller that came with a token, and then the call is dropped: as good.
        let _ = self.0.retry();
    }

    pub(super) fn refuse(self) {
        self.0.refuse();
    }

    pub(super) async fn answer(self) -> Result<Connection, End> {
        // Never into_0rtt: its data would come before the caller's certificate.
        GIVEN.set(None);
        let answering = self.0.accept()?;
        let id = GIVEN.take();
        Ok(Connection(answering.await?, id))
    }
}

/// By what a listener's peers name a connection in their packets.
pub(super) type ConnectionId = [u8; 8];

/// One authenticated connection; of an accepted one, by what the peer names it.
#[derive(Clone)]
pub(super) struct Connection(quinn::Connection, Option<ConnectionId>);

/// Figures of a connection, as quinn counts them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Figures {
    pub(super) rtt: Duration,
    pub(super) sent_bytes: u64,
    pub(super) received_bytes: u64,
    pub(super) received_datagrams: u64,
    /// Frames sent that a peer has to acknowledge: keep-alives, pieces of streams, and questions whether they came.
    pub(super) asked_frames: u64,
}

impl Connection {
    pub(super) fn remote(&self) -> SocketAddr {
        self.0.remote_address()
    }

    /// Which of our connections of this process it is; never reused while it lives.
    pub(super) fn id(&self) -> usize {
        self.0.stable_id()
    }

    /// By what the peer names it, if it was accepted.
    pub(super) fn named(&self) -> Option<ConnectionId> {
        self.1
    }

    pub(super) fn alpn(&self) -> Vec<u8> {
        let data = self.0.handshake_data().and_then(|d| d.downcast::<HandshakeData>().ok());
        data.and_then(|d| d.protocol).unwrap_or_default()
    }

    /// The certificate (DER) that TLS has verified; `None` when the peer showed none.
    pub(super) fn peer_certificate(&self) -> Option<Vec<u8>> {
        let chain = self.0.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        chain.first().map(|leaf| leaf.to_vec())
    }

    /// Lets the peer open so many streams at a time.
    pub(super) fn allow_streams(&self, count: u32) {
        self.0.set_max_concurrent_bi_streams(count.into());
    }

    pub(super) async fn open_stream(&self) -> Result<Stream, End> {
        let (send, recv) = self.0.open_bi().await?;
        Ok(Stream { send: SendHalf(send), recv: RecvHalf(recv) })
    }

    pub(super) async fn accept_stream(&self) -> Result<Stream, End> {
        let (send, recv) = self.0.accept_bi().await?;
        Ok(Stream { send: SendHalf(send), recv: RecvHalf(recv) })
    }

    pub(super) fn close(&self, code: u32, reason: &str) {
        self.0.close(VarInt::from_u32(code), reason.as_bytes());
    }

    pub(super) async fn closed(&self) -> End {
        self.0.closed().await.into()
    }

    pub(super) fn end(&self) -> Option<End> {
        self.0.close_reason().map(End::from)
    }

    pub(super) fn figures(&self) -> Figures {
        let stats = self.0.stats();
        Figures {
            rtt: stats.path.rtt,
            sent_bytes: stats.udp_tx.bytes,
            received_bytes: stats.udp_rx.bytes,
            received_datagrams: stats.udp_rx.datagrams,
            asked_frames: stats.frame_tx.ping + stats.frame_tx.stream + stats.frame_tx.immediate_ack,
        }
    }
}

/// A stream in both directions.
pub(super) struct Stream {
    pub(super) send: SendHalf,
    pub(super) recv: RecvHalf,
}

impl Stream {
    /// As tokio sees streams, for conversations that do not care what carries them.
    pub(super) fn into_io(self) -> impl AsyncRead + AsyncWrite + Unpin + Send + 'static {
        tokio::io::join(self.recv.0, self.send.0)
    }
}

/// Our direction.
pub(super) struct SendHalf(quinn::SendStream);

impl SendHalf {
    /// Hands all pieces to QUIC, in order, waiting where its window is full. A piece is not copied.
    pub(super) async fn write_all(&mut self, pieces: Vec<Vec<u8>>) -> Result<(), End> {
        let mut pieces: Vec<_> = pieces.into_iter().map(Into::into).collect();
        self.0.write_all_chunks(&mut pieces).await.map_err(|e| match e {
            quinn::WriteError::ConnectionLost(e) => e.into(),
            other => End::Transport(other.to_string()),
        })
    }

    /// Says that nothing follows, and waits until the peer has everything.
    pub(super) async fn finish(&mut self) {
        if self.0.finish().is_ok() {
            let _ = self.0.stopped().await;
        }
    }
}

/// The peer's direction.
pub(super) struct RecvHalf(quinn::RecvStream);

impl RecvHalf {
    /// Appends what has arrived, at most `limit` bytes, to `buffer`; false at the end of the stream.
    pub(super) async fn read_into(&mut self, buffer: &mut Vec<u8>, limit: usize) -> Result<bool, End> {
        let chunk = self.0.read_chunk(limit, true).await.map_err(|e| match e {
            quinn::ReadError::ConnectionLost(e) => End::from(e),
            other => End::Transport(other.to_string()),
        })?;
        if let Some(chunk) = &chunk {
            buffer.extend_from_slice(&chunk.bytes);
        }
        Ok(chunk.is_some())
    }
}

/// Signs stateless resets with a key that survives restarts.
struct ResetKey([u8; 32]);

impl ResetKey {
    fn hash(&self, data: &[u8]) -> blake3::Hash {
        blake3::keyed_hash(&self.0, data)
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature: &mut [u8]) {
        signature.copy_from_slice(&self.hash(data).as_bytes()[..signature.len()]);
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        let expected = self.hash(data);
        let given = <[u8; 32]>::try_from(signature).map_err(|_| CryptoError)?;
        // blake3 compares hashes in constant time.
        if expected == blake3::Hash::from(given) { Ok(()) } else { Err(CryptoError) }
    }
}

/// For who is the only one at its address.
struct NoIds;

impl quinn::ConnectionIdGenerator for NoIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        quinn::ConnectionId::new(&[])
    }

    fn cid_len(&self) -> usize {
        0
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

thread_local! {
    /// The last id that was made on this thread. quinn makes a connection's id while it accepts the caller, and does not tell.
    static GIVEN: Cell<Option<ConnectionId>> = const { Cell::new(None) };
}

/// Connection ids of 8 random bytes.
#[derive(Default)]
struct RandomIds;

impl quinn::ConnectionIdGenerator for RandomIds {
    fn generate_cid(&mut self) -> quinn::ConnectionId {
        let id: ConnectionId = rand::random();
        GIVEN.set(Some(id));
        quinn::ConnectionId::new(&id)
    }

    fn cid_len(&self) -> usize {
        8
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::net::sockopt;

    use super::*;

    #[test]
    fn a_socket_has_as_much_room_as_the_system_allows() {
        let allowed = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
        let allowed: usize = allowed.trim().parse().unwrap();
        let socket = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        // Linux doubles what it is asked for and says so.
        assert_eq!(sockopt::socket_recv_buffer_size(&socket).unwrap(), 2 * allowed.min(SOCKET_BYTES));
    }
}
