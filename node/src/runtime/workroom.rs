//! How much of the books a node keeps in memory, and where the rest rests: in its scratch file.

use std::path::Path;
use std::sync::Arc;

use engine::attic::{Attic, Workroom};
use engine::ledger::WorkLimits;

use crate::storage::Scratch;

impl Attic for Scratch {
    fn put(&self, piece: &[u8]) -> Option<u64> {
        self.put(piece)
    }

    fn get(&self, place: u64) -> Result<Vec<u8>, String> {
        self.get(place)
    }

    fn free(&self, place: u64) {
        self.free(place);
    }
}

/// The workroom of a node's stores. Where no scratch file can be made, packed pieces stay in memory.
#[must_use]
pub fn of_node(dir: &Path) -> Workroom {
    let attic = Scratch::create(dir).inspect_err(|error| {
        tracing::warn!("no scratch file, so memory follows the history: {error}");
    });
    Workroom {
        limits: WorkLimits::default(),
        attic: attic.ok().map(|scratch| Arc::new(scratch) as Arc<dyn Attic>),
    }
}
