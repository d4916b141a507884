//! What a hub keeps of a log in a database that another hub writes: an index, in the folder where its own would be, so that it is
//! there if this hub takes the log one day. The folder is held meanwhile as by a writer: there is never a second one in it.

use std::fs::File;
use std::path::Path;

use super::disk::Disk;
use super::index::Index;
use super::inspect::Paths;
use super::options::INDEX_VERSION;
use super::recovery::take_lock;
use super::vault::Vault;
use super::{Position, StorageError};

/// An index over a log that another hub writes.
pub(crate) struct Beside {
    // Before the lock: it lets go of its files first.
    index: Index,
    _lock: File,
}

impl Beside {
    /// Opens the index in a folder, or makes one. `end`: where the log ends. Blocking.
    ///
    /// # Errors
    /// Somebody has the folder ([`StorageError::InUse`]), or the disk refuses.
    pub(crate) fn open(
        dir: &Path,
        log_id: &[u8; 16],
        vault: Option<&Vault>,
        end: Position,
    ) -> Result<Self, StorageError> {
        Disk::default().create_folder(dir)?;
        let lock = take_lock(&Paths::new(dir), true)?;
        // What it knows of a log that was longer then is not of this one.
        let accept = |through| through <= end;
        let (index, ..) = Index::open(dir, log_id, INDEX_VERSION, vault, None, accept)?;
        index.tidy()?;
        Ok(Self { index, _lock: lock })
    }

    pub(crate) fn index(&self) -> &Index {
        &self.index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_beside_a_log_stays_as_long_as_the_log_is_not_shorter_and_one_has_it_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let open = |end| Beside::open(dir.path(), &[7; 16], None, Position(end));
        let beside = open(100).unwrap();
        assert!(matches!(open(100), Err(StorageError::InUse { .. })));
        beside.index().put_batch(vec![(b"one".to_vec(), Some(vec![1; 9_000]))], None).unwrap();
        beside.index().checkpoint(Position(80)).unwrap();
        drop(beside);
        assert_eq!(open(90).unwrap().index().get(b"one").unwrap(), Some(vec![1; 9_000]));
        assert_eq!(open(79).unwrap().index().get(b"one").unwrap(), None);
    }
}
