//! How much of the books a node keeps in memory, and where the rest rests: in its scratch file.

use std::path::Path;
use std::sync::Arc;

use engine::attic::{Attic, Workroom};
use engine::ledger::WorkLimits;

use crate::storage::{Scratch, Storage};

/// Where the stores of a node are at home: the log, and the scratch file if there is one. Clones share both.
#[derive(Clone)]
pub struct Home {
    /// The node's storage.
    pub storage: Storage,
    /// Where packed pieces of the books rest.
    pub scratch: Option<Arc<Scratch>>,
}

impl Home {
    /// The home of a node. Where no scratch file can be made, packed pieces stay in memory.
    #[must_use]
    pub fn of_node(dir: &Path, storage: &Storage) -> Self {
        let scratch = Scratch::open(dir, storage.index()).inspect_err(|error| {
            tracing::warn!("no scratch file, so memory follows the history: {error}");
        });
        Self { storage: storage.clone(), scratch: scratch.ok().map(Arc::new) }
    }

    /// A home without a scratch file: everything stays in memory, and nothing is kept for the next start.
    #[must_use]
    pub fn in_memory(storage: Storage) -> Self {
        Self { storage, scratch: None }
    }

    /// The workroom of one store.
    #[must_use]
    pub fn room(&self) -> Workroom {
        let attic = self.scratch.clone().map(|scratch| scratch as Arc<dyn Attic>);
        Workroom { limits: WorkLimits::default(), attic }.with_images()
    }
}
