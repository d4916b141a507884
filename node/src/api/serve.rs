//! Serving an API on an address until the node stops.

use std::net::SocketAddr;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::error::Failure;

/// Largest request body, in bytes: a full chunk of NDJSON lines.
pub const BODY_BYTES: usize = 8 << 20;

/// Binds an address.
///
/// # Errors
/// It is taken or not ours; the message says what to do.
pub async fn bind(address: &str) -> Result<(TcpListener, SocketAddr), Failure> {
    let refused = |error: std::io::Error| {
        Failure::refused(format!(
            "cannot serve HTTP on {address}: {error}; choose another address with --http"
        ))
    };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let local = listener.local_addr().map_err(refused)?;
    Ok((listener, local))
}

/// Serves until `stop` turns true.
pub async fn serve(listener: TcpListener, router: Router, mut stop: watch::Receiver<bool>) {
    let router = router.layer(axum::extract::DefaultBodyLimit::max(BODY_BYTES));
    let stopped = async move {
        let _ = stop.wait_for(|stop| *stop).await;
    };
    if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stopped).await {
        tracing::error!("the HTTP server ended: {error}");
    }
}
