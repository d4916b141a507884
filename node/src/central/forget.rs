//! What the tables hold of a company whose log has left the database: nothing any more, or people who read them would find its
//! books twice when it comes back.

use crate::cluster::log_id;
use crate::database::{Database, Link, Patience};
use crate::error::Failure;

/// Tables with a row's log in `log_id`, those that others follow from last.
const TABLES: [&str; 13] = [
    "webhook_cursor",
    "change",
    "case_member",
    "review_case",
    "store_day",
    "export_range",
    "receipt",
    "posting",
    "journal_entry",
    "balance",
    "account",
    "feed",
    "follower",
];
/// What hubs told each other, by company.
const HUBS: [&str; 2] = ["device", "hub"];

/// Empties the tables of a company's logs. Blocking; may be repeated.
///
/// # Errors
/// The database cannot be reached, or refuses.
pub(crate) fn forget(database: &Database, company: [u8; 16], shards: u16) -> Result<(), Failure> {
    let hex = |id: [u8; 16]| format!("decode('{}', 'hex')", data_encoding::HEXLOWER.encode(&id));
    let logs: Vec<String> = (0..=shards).map(|number| hex(log_id(company, number))).collect();
    let logs = logs.join(", ");
    let of_logs = TABLES.map(|table| format!("DELETE FROM tillsync.{table} WHERE log_id IN ({logs})"));
    let of_hubs = HUBS.map(|table| format!("DELETE FROM tillsync.{table} WHERE company = {}", hex(company)));
    crate::runtime::block_on(async {
        let link = Link::connect(database, "hub move").await.map_err(Failure::refused)?;
        for sql in of_logs.iter().chain(&of_hubs) {
            let emptied = link.batch_patiently("emptying the tables of the books", sql, Patience::Long).await;
            emptied.map_err(Failure::refused)?;
        }
        Ok(())
    })
}
