//! Connections between hubs of one company. All of them show the company's hub key, and nobody else has it: whoever comes
//! with it is a hub, whoever does not is none. What is said on their streams is not this room's business.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::quic::Connection;

/// Streams that one hub may have open at another at a time: a request each.
pub(super) const STREAMS_OF_HUB: u32 = 256;
/// Longest that opening a stream may take.
const OPEN: Duration = Duration::from_secs(5);

/// A stream between two hubs, in both directions.
pub type HubStream = Box<dyn HubIo>;

/// What a stream can do.
pub trait HubIo: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> HubIo for T {}

/// A connection to another hub. Clones share it.
#[derive(Clone)]
pub struct HubLine {
    connection: Connection,
}

impl HubLine {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.connection.end().is_some()
    }

    /// Where the other hub is.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        self.connection.remote()
    }

    /// Opens a stream.
    ///
    /// # Errors
    /// The connection is over, or the other hub takes no more streams in time.
    pub async fn open(&self) -> Result<HubStream, String> {
        match timeout(OPEN, self.connection.open_stream()).await {
            Ok(Ok(stream)) => Ok(Box::new(stream.into_io())),
            Ok(Err(end)) => Err(end.to_string()),
            Err(_) => Err("the other hub takes no more requests".to_owned()),
        }
    }
}
