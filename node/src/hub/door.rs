//! What tills come in by, once the hub listens.

use crate::identity::Identity;
use crate::transport::Endpoint;

/// The way in.
pub(crate) struct Door {
    pub(crate) endpoint: Endpoint,
    /// The hub's own papers, as the endpoint shows them.
    pub(crate) identity: Identity,
}
