//! What is owed to the log: bytes that will be appended because of what was taken in, so that nobody else counts on
//! their room.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::shared::Shared;

/// What one store owes. Given up with it.
pub struct Debt {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Debt {
    pub(super) fn none(shared: Arc<Shared>) -> Self {
        Self { shared, bytes: 0 }
    }

    /// So many bytes more will be appended.
    pub fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.shared.owed.fetch_add(bytes, Ordering::AcqRel);
    }

    /// All that was owed was handed to the log.
    pub fn is_paid(&mut self) {
        self.shared.owed.fetch_sub(std::mem::take(&mut self.bytes), Ordering::AcqRel);
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        self.is_paid();
    }
}

#[cfg(test)]
mod tests {
    use crate::storage::{Entry, Options, Storage};

    #[test]
    fn what_is_owed_is_nobody_elses_room_until_it_is_paid_or_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let (storage, _) = Storage::open(dir.path(), &Options::default()).unwrap();
        storage.append_blocking(vec![Entry { kind: 1, bytes: vec![0; 100] }]).unwrap();
        let free = storage.room();
        assert!(free > 9_000, "{free}");
        let (mut one, mut other) = (storage.debt(), storage.debt());
        one.add(4_000);
        other.add(1_000);
        one.add(500);
        assert_eq!(storage.room(), free - 5_500);
        one.is_paid();
        assert_eq!(storage.room(), free - 1_000);
        other.add(usize::MAX / 2);
        assert_eq!(storage.room(), 0);
        drop(other);
        assert_eq!(storage.room(), free);
        // Room is set aside beside what is owed.
        one.add(free);
        let (told, hears) = std::sync::mpsc::channel();
        storage.set_aside(2_000, move |there| told.send(there.is_ok()).unwrap());
        assert!(hears.recv().unwrap());
        assert!(storage.room() >= 2_000, "{}", storage.room());
        storage.close().unwrap();
    }
}
