//! `tillsync project`: what the rules make of a set of records that never happened. Touches no node.

use serde_json::Value;

use crate::error::Failure;

/// Projects scenarios (a JSON list, or NDJSON) and gives `{"name","balances","cases"}` for each.
///
/// # Errors
/// The text is not of that form; the message names scenario and field.
pub fn project(text: &str) -> Result<Vec<Value>, Failure> {
    engine::scenario::project(text).map_err(|error| Failure::refused(error).during("project"))
}
