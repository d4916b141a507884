//! How much of the books a node keeps in memory, and where the rest rests: in its scratch file.

use std::path::Path;
use std::sync::Arc;

use engine::attic::{Attic, Workroom};
use engine::ledger::WorkLimits;

use super::store::Seats;
use crate::storage::{Scratch, Storage};

/// Where the stores of a node are at home: the log, the scratch file if there is one, and the seats. Clones share them.
#[derive(Clone)]
pub struct Home {
    /// The node's storage.
    pub storage: Storage,
    /// Where packed pieces of the books rest.
    pub scratch: Option<Arc<Scratch>>,
    /// For the stores that take a bulk in.
    pub(super) seats: Seats,
}

impl Home {
    /// The home of a node. Where no scratch file can be made, packed pieces stay in memory.
    #[must_use]
    pub fn of_node(dir: &Path, storage: &Storage) -> Self {
        let scratch = Scratch::open(dir, storage.index()).inspect_err(|error| {
            tracing::warn!("no scratch file, so memory follows the history: {error}");
        });
        Self { storage: storage.clone(), scratch: scratch.ok().map(Arc::new), seats: Seats::of_machine() }
    }

    /// A home without a scratch file: everything stays in memory, and nothing is kept for the next start.
    #[must_use]
    pub fn in_memory(storage: Storage) -> Self {
        Self { storage, scratch: None, seats: Seats::of_machine() }
    }

    /// The same, of a node that has several: they share its seats.
    #[must_use]
    pub fn with_seats(self, seats: Seats) -> Self {
        Self { seats, ..self }
    }

    /// The workroom of one store.
    #[must_use]
    pub fn room(&self) -> Workroom {
        let attic = self.scratch.clone().map(|scratch| scratch as Arc<dyn Attic>);
        Workroom { limits: WorkLimits::default(), attic }.with_images()
    }
}
