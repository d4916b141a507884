//! `tillsync demo`: the product itself on loopback, told as a shopkeeper would tell it. A hub and its tills run as
//! processes of their own with real enrolment, QUIC and disks; between each till and the hub is a cable that can be
//! pulled. Nothing printed is known beforehand: it is read from the nodes.

mod cable;
mod cast;
mod story;

use std::path::PathBuf;

use crate::error::Failure;

/// What `demo` is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where the data directories are made; a temporary folder that goes away otherwise.
    pub dir: Option<PathBuf>,
    /// Number of tills, at least 3.
    pub tills: usize,
    /// Sales before the network fails, over all tills.
    pub transactions: usize,
    /// Keep everything running afterwards.
    pub serve: bool,
}

/// Runs the demo.
///
/// # Errors
/// Something did not go as it must; the message says what.
pub fn run(options: &Options) -> Result<(), Failure> {
    story::tell(options).map_err(|failure| failure.during("demo"))
}
