//! A company whose stores are spread over shards: which logs it has. Its own log has number 0; the ids of the others follow
//! from its id, and how many there are stands in one row. Who has which log is the hubs' affair (cluster/).

use super::StorageError;
use super::held::gone;
use crate::database::{Database, DatabaseError, Link, schema};
use std::path::Path;
use std::thread;

/// The first version of the schema that knows shards.
const SINCE: i32 = 3;
const SHARDS: &str = "SELECT shards FROM tillsync.company WHERE log_id = $1";

/// The id of a log of a company: its own, and those of its shards, which follow from it.
#[must_use]
pub(crate) fn log_id(company: [u8; 16], number: u16) -> [u8; 16] {
    if number == 0 {
        return company;
    }
    let mut hasher = blake3::Hasher::new_derive_key("tillsync 2026 shard of a company v1");
    hasher.update(&company).update(&number.to_le_bytes());
    let mut id = [0; 16];
    hasher.finalize_xof().fill(&mut id);
    id
}

/// How many shards a company has; `None`: its stores are all in its own log.
///
/// # Errors
/// The database cannot be asked.
pub(crate) async fn shards(link: &Link, company: [u8; 16]) -> Result<Option<u16>, DatabaseError> {
    let rows = link.query("reading how many shards there are", SHARDS, &[&&company[..]]).await?;
    Ok(rows.first().map(|row| u16::try_from(row.get::<_, i32>(0)).unwrap_or(0)))
}

/// As `shards`, over a connection of its own; 0: none. Blocking, and may be called from inside a runtime.
///
/// # Errors
/// The company was moved out of the database, or that cannot be asked.
pub(crate) fn spread(database: &Database, company: [u8; 16]) -> Result<u16, StorageError> {
    let asked = |link: Link| async move {
        let version = schema::version(&link).await?;
        schema::check(version)?;
        let shards = if version < SINCE { None } else { shards(&link, company).await? };
        let gone = if version == 0 { None } else { gone(&link, company).await? };
        Ok((shards.unwrap_or(0), gone))
    };
    match ask(database, asked)? {
        (shards, None) => Ok(shards),
        (_, Some(gone)) => {
            Err(StorageError::Moved { place: database.shown().to_owned(), holder: gone.holder })
        }
    }
}

/// Asks over a connection that lasts as long as the question, on a thread of its own.
pub(super) fn ask<T: Send, F: Future<Output = Result<T, DatabaseError>>>(
    database: &Database,
    question: impl FnOnce(Link) -> F + Send,
) -> Result<T, StorageError> {
    let asking = || -> Result<T, StorageError> {
        super::runtime(Path::new("the reader"))?.block_on(async {
            let link = Link::connect(database, "reader").await?;
            Ok(question(link).await?)
        })
    };
    let answer = thread::scope(|scope| scope.spawn(asking).join());
    answer.unwrap_or(Err(StorageError::Closed { operation: "read" }))
}
