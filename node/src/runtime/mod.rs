//! The node at work: a task for each store (`store`), what happened (`audit`), the clock (`clock`), the address and
//! key of a running node (`run_file`). Roles are one floor up, in `hub` and `terminal`.

pub mod audit;
pub mod checkpoint;
pub mod clock;
pub mod links;
mod notes;
pub mod positions;
pub mod restore;
pub mod run_file;
pub mod store;

use crate::error::Failure;

/// Runs a role to its end.
///
/// # Errors
/// What the role fails with, or that threads cannot be had.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(work)
}

/// Waits until the process is asked to stop (SIGTERM or Ctrl-C).
pub async fn stop_signal() {
    #[cfg(unix)]
    {
        use tokio::signal::unix::{SignalKind, signal};
        if let Ok(mut terminate) = signal(SignalKind::terminate()) {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = tokio::signal::ctrl_c() => {}
            }
            return;
        }
    }
    let _ = tokio::signal::ctrl_c().await;
}
