//! Exports for accounting programs: one file a format. They print integers exactly and decide nothing.

pub mod hledger;

use engine::ids::StoreId;
use engine::ledger::JournalEntry;

/// A journal entry with what a bookkeeper reads beside it.
#[derive(Debug, Clone)]
pub struct ExportEntry {
    /// The store whose journal it is from.
    pub store: StoreId,
    /// The entry.
    pub entry: JournalEntry,
    /// Receipt number of its record.
    pub receipt: String,
    /// Kind and till.
    pub text: String,
    /// Receipt number of what caused a correction.
    pub because: Option<String>,
}
