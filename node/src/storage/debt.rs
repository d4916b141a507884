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
