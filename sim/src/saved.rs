//! What the checkpoints of a simulated node have saved, as a node's index keeps it: parts that later ones replace.

use std::collections::BTreeMap;

use engine::replica::{Image, Replica};

/// The parts.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    shared: Vec<u8>,
    chunks: BTreeMap<usize, Vec<u8>>,
}

impl Saved {
    /// Saves what changed in the books of a replica that has nothing to settle.
    pub fn keep(saved: &mut Option<Self>, replica: &mut Replica) {
        let Some(checkpoint) = replica.checkpoint() else { return };
        let saved = saved.get_or_insert_default();
        saved.shared = checkpoint.shared;
        saved.chunks.extend(checkpoint.chunks);
    }

    /// The parts put together, if they are all there.
    #[must_use]
    pub fn image(&self) -> Option<Image> {
        Image::read(&self.shared, |chunk| self.chunks.get(&chunk).cloned()).ok()
    }
}
