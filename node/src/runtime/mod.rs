//! The node at work: a task for each store (`store`), what happened (`audit`), the clock (`clock`), the address and
//! key of a running node (`run_file`), who was connected (`callers`), what a restored node waits for (`take_back`),
//! where the books rest (`workroom`). Roles are one floor up, in `hub` and `terminal`.

pub mod alarms;
pub mod audit;
mod callers;
pub mod checkpoint;
pub mod clock;
mod conversation;
mod filing;
pub mod links;
mod notes;
pub mod positions;
pub mod reached;
pub mod restore;
pub mod run_file;
pub mod store;
pub mod supervise;
pub mod take_back;
pub mod workroom;

use crate::error::Failure;

/// Runs a role to its end.
///
/// # Errors
/// What the role fails with, or that threads cannot be had.
pub fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(work)
}

/// The wish of a person or of the system that the node stops: SIGTERM or Ctrl-C.
///
/// Made before the node says `ready`: a wish that comes a moment after that word is heard, not obeyed by dying.
pub struct StopSignal {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl StopSignal {
    /// Listens from now on.
    ///
    /// # Errors
    /// The system refuses the handlers.
    pub fn listen() -> Result<Self, Failure> {
        #[cfg(unix)]
        {
            use tokio::signal::unix::{SignalKind, signal};
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            })
        }
        #[cfg(not(unix))]
        {
            Ok(Self {})
        }
    }

    /// Waits for it.
    pub async fn comes(&mut self) {
        #[cfg(unix)]
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
        #[cfg(not(unix))]
        let _ = tokio::signal::ctrl_c().await;
    }
}
