//! Several hubs that serve one company. Its stores are spread over shards, logs of their own in the database; a hub holds the
//! lease of some of them, and of each log one hub at a time. Who has a shard has its stores: their tills, their books. Who has
//! the company's own log (number 0) serves the company as well: its people, join codes, exports, and the pages; it reads along
//! in the logs of the others. Ordering, replication and failover of data are the database's.
//!
//! ```text
//! table.rs    who is there, whose lease is in force, which till belongs where: rows in the database
//! member.rs   takes free logs, gives some away, loses those that another hub has claimed (engine::lease says which)
//! reading.rs  stores of other hubs: who reads which log along, who is asked
//! along.rs    a log that is read along: its stores as copies, and images of them for whoever takes it
//! copies.rs   one of those stores
//! nook.rs     where those lie
//! deputy.rs   keeps this hub warm in logs that it would have to take
//! between.rs  what hubs ask each other, over QUIC
//! front.rs    HTTP at any of them
//! ```

mod along;
mod between;
mod copies;
mod deputy;
mod front;
mod member;
mod nook;
mod reading;
mod table;

use std::path::Path;

use crate::database::{Database, Link, schema};
use crate::error::Failure;
use crate::storage::{Place, StorageError, gone, tie};

pub(crate) use member::run;
pub(crate) use reading::Elsewhere;
pub(crate) use table::{begin, log_id};

/// Most shards. Each is a thread and two connections to the database wherever it is held.
pub(crate) const SHARDS_MAX: u16 = 256;

/// A company that several hubs can serve, as a directory and the database say.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) database: Database,
    /// The id of the company's own log.
    pub(crate) company: [u8; 16],
    pub(crate) shards: u16,
}

/// Looks whether the hub of a directory is one of several, or may become one; with `shards`, a company that begins now gets so
/// many. `None`: the hub is alone.
///
/// # Errors
/// The number of shards does not fit, the company has another, or the database cannot be asked.
pub(crate) async fn of(dir: &Path, shards: Option<u16>) -> Result<Option<Cluster>, Failure> {
    let Some(database) = Database::of_process().map_err(Failure::refused)? else {
        return match shards {
            None => Ok(None),
            Some(_) => Err(Failure::refused(
                "--shards is for a hub whose log is in a database; name it with --database",
            )),
        };
    };
    if shards.is_some_and(|count| !(1..=SHARDS_MAX).contains(&count)) {
        return Err(Failure::refused(format!("--shards is 1 to {SHARDS_MAX}")));
    }
    let place = Place::of(dir).map_err(Failure::refused)?;
    if place.is_none() && (shards.is_none() || dir.join("log").exists()) {
        // Begins without shards, or is refused where its log is opened.
        return Ok(None);
    }
    let link = Link::connect(&database, "hub start").await.map_err(Failure::refused)?;
    schema::migrate(&link).await.map_err(Failure::refused)?;
    let company = match &place {
        Some(place) => place.log_id,
        None => {
            // Tied first: whatever a crash leaves, the next start finds the company that this one began.
            let company = rand::random();
            tie(dir, &database, company).map_err(Failure::refused)?;
            company
        }
    };
    if let Some(gone) = gone(&link, company).await.map_err(Failure::refused)? {
        let place = database.shown().to_owned();
        return Err(Failure::refused(StorageError::Moved { place, holder: gone.holder }));
    }
    let known = match table::shards(&link, company).await.map_err(Failure::refused)? {
        None => {
            if let Some(count) = shards {
                table::begin(&link, company, count).await.map_err(Failure::refused)?;
            }
            table::shards(&link, company).await.map_err(Failure::refused)?
        }
        known => known,
    };
    match (known, shards) {
        (None, Some(_)) => Err(Failure::refused(
            "this company's log was begun without shards; `tillsync hub move` brings it out of the database and in again with \
             them",
        )),
        (Some(there), Some(wanted)) if there != wanted => Err(Failure::refused(format!(
            "the company has {there} shards, which never changes; leave --shards out"
        ))),
        (None, None) => Ok(None),
        (Some(shards), _) => Ok(Some(Cluster { database, company, shards })),
    }
}
