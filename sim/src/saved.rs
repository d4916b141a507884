//! What a simulated node keeps for its next start: the last image of its replica, as a node's index does it, and the attic
//! whose pieces the image names.

use std::sync::Arc;

use engine::attic::{Attic, MemoryAttic, Workroom};
use engine::entry::Entry;
use engine::ledger::WorkLimits;
use engine::replica::{Replica, RestoreError};

/// An attic that outlives the starts of its node, and the last image.
#[derive(Debug, Default)]
pub struct Saved {
    attic: Arc<MemoryAttic>,
    image: Option<Image>,
}

#[derive(Debug)]
struct Image {
    bytes: Vec<u8>,
    /// Lines of the log that it holds.
    lines: usize,
}

impl Saved {
    /// Where the replica of the next start is at home.
    #[must_use]
    pub fn room(&self, limits: WorkLimits) -> Workroom {
        Workroom { limits, attic: Some(Arc::clone(&self.attic) as Arc<dyn Attic>) }.with_images()
    }

    /// Keeps an image of a replica that has nothing to settle and `lines` lines in its log; or power fails just before it is
    /// durable, and the last one counts.
    pub fn keep(&mut self, replica: &mut Replica, lines: usize, is_durable: bool) {
        let Some(image) = replica.image().filter(|_| is_durable) else { return };
        self.image = Some(Image { bytes: image.bytes.clone(), lines });
        image.is_durable();
    }

    /// The replica of a log, from the image if there is one.
    ///
    /// # Errors
    /// An entry does not continue the log.
    ///
    /// # Panics
    /// The image is of no use although it is this node's and its log is whole.
    pub fn start(&self, fresh: Replica, entries: &[Entry]) -> Result<Replica, RestoreError> {
        self.attic.restart();
        let image = self.image.as_ref();
        let (begun, newer) = match image.map(|image| (image, entries.split_at_checked(image.lines))) {
            Some((image, Some((_, newer)))) => {
                let resumed = fresh.resume(&image.bytes);
                (resumed.expect("a node's own image is of use to it"), newer)
            }
            Some((image, None)) => panic!("the log has {} lines, the image {}", entries.len(), image.lines),
            None => (fresh, entries),
        };
        let replica = Replica::from_log(begun, newer);
        self.attic.settle();
        replica
    }
}
