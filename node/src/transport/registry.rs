//! Who is connected to a listening endpoint, so that each certificate has one connection and all together have a
//! limit. It only keeps the list; the listener acts on it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::identity::PublicKey;

use super::quic::Connection;

/// The active connection of each peer.
#[derive(Default)]
pub(super) struct Registry {
    list: Mutex<BTreeMap<PublicKey, Connection>>,
    changed: Notify,
}

impl Registry {
    /// Makes this the peer's connection and gives back the one it replaces.
    pub(super) fn put(&self, peer: PublicKey, connection: Connection) -> Option<Connection> {
        let older = self.list().insert(peer, connection);
        self.changed.notify_one();
        older
    }

    /// Forgets this connection of the peer; a newer one stays. True when it was the peer's active one.
    pub(super) fn remove(&self, peer: &PublicKey, connection: &Connection) -> bool {
        let mut list = self.list();
        let active = list.get(peer).is_some_and(|c| c.id() == connection.id());
        if active {
            list.remove(peer);
            self.changed.notify_one();
        }
        active
    }

    /// Until a connection came or went since this was last asked; for one who asks.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    pub(super) fn get(&self, peer: &PublicKey) -> Option<Connection> {
        self.list().get(peer).cloned()
    }

    pub(super) fn all(&self) -> Vec<Connection> {
        self.list().values().cloned().collect()
    }

    pub(super) fn peers(&self) -> Vec<PublicKey> {
        self.list().keys().copied().collect()
    }

    pub(super) fn len(&self) -> usize {
        self.list().len()
    }

    fn list(&self) -> MutexGuard<'_, BTreeMap<PublicKey, Connection>> {
        // Each method leaves the map whole, so a panic elsewhere does not make it wrong.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
