//! A connection that may append to one log.
//!
//! **Claiming** raises the log's fencing token in its row and takes note of it; from then on no append under an older token
//! changes anything, not even one that another connection has already sent and the server has not yet carried out: the row
//! is locked by whoever is in the middle of an append, so a claim waits for its end. That is what makes "look whether it is
//! there" a final answer after a lost connection.
//!
//! **An append** is one transaction: move `next_position` on if token and position are still what this session knows, insert
//! the rows, commit. COMMIT is sent only after both have been answered, so it never commits half.

use super::row::Rows;
use super::{signed, unsigned};
use crate::database::{Database, DatabaseError, Link, Passes, Statement, ToSql, schema};
use engine::lease::HubName;
use std::time::{Duration, Instant};

/// Tries to connect when opening: a server that is just starting is not there at once.
const OPENING_TRIES: u32 = 4;

const TAKE: &str = "UPDATE tillsync.log
    SET fence = fence + 1, writer = $2, holder = $3, hub = $5, lease_until = now() + interval '5 seconds'
    WHERE log_id = $1 AND (lease_until <= now() OR writer = $4)
    RETURNING fence, next_position, total_bytes, last_append";
const AGAIN: &str = "UPDATE tillsync.log SET fence = fence + 1, lease_until = now() + interval '5 seconds'
    WHERE log_id = $1 AND writer = $2
    RETURNING fence, next_position, total_bytes, last_append";
const HOLDER: &str = "SELECT holder, lease_until::text FROM tillsync.log WHERE log_id = $1";
/// A lease that was given back says so: one that ended by itself has a time.
const RELEASE: &str = "UPDATE tillsync.log SET lease_until = '-infinity' WHERE log_id = $1 AND fence = $2";
const BEGIN: &str =
    "INSERT INTO tillsync.log (log_id, next_position, total_bytes, fence, writer, last_append)
    VALUES ($1, 0, 0, 0, $2, $2) ON CONFLICT DO NOTHING";
const ADVANCE: &str = "UPDATE tillsync.log
    SET next_position = $4, total_bytes = total_bytes + $5, last_append = $6,
        lease_until = now() + interval '5 seconds'
    WHERE log_id = $1 AND fence = $2 AND next_position = $3";
const INSERT: &str = "INSERT INTO tillsync.entry (log_id, position, kind, store, bytes, hash)
    SELECT $1::bytea, position, kind, store, bytes, hash
    FROM unnest($2::bigint[], $3::smallint[], $4::text[], $5::bytea[], $6::bytea[])
        AS rows (position, kind, store, bytes, hash)";
const LOOK: &str = "UPDATE tillsync.log SET lease_until = now() + interval '5 seconds'
    WHERE log_id = $1 AND fence = $2 AND next_position = $3";

/// How the time begins until which a log is held that was moved away.
pub(super) const FOR_GOOD: &str = "9999-";

/// How long a hub that is alone waits for another one's lease to end, a little longer than a lease.
const LEASE_WAIT: Duration = Duration::from_secs(8);

/// How a log is claimed.
#[derive(Debug, Clone)]
pub(super) enum Claim {
    /// By a directory that has never seen it: it is made if it is not there.
    Begin { taker: Taker },
    /// By a process that has just started: when the lease has ended, or at once from the process before it in this
    /// directory, which is dead.
    Take { taker: Taker, before: Option<[u8; 16]> },
    /// By the process that had it, over a new connection: only from itself.
    Again { writer: [u8; 16] },
}

/// Who claims a log anew.
#[derive(Debug, Clone)]
pub(super) struct Taker {
    pub(super) writer: [u8; 16],
    /// For people.
    pub(super) holder: String,
    /// The hub, if it is one of several: it does not wait for another one's lease.
    pub(super) hub: Option<HubName>,
}

/// What became of a claim.
pub(super) enum Outcome {
    Mine(Box<Session>, Claimed),
    /// The log is not there, or (`Claim::Again`) not this process's any more.
    NotThere,
    /// Somebody else holds it, by this name, until then.
    Held {
        holder: String,
        until: String,
    },
}

/// What the log's row said when it was claimed.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub(super) writer: [u8; 16],
    pub(super) end: u64,
    pub(super) bytes: u64,
    pub(super) last_append: Vec<u8>,
}

/// One append on its way.
pub(super) struct Group {
    /// Chosen at random: this append and no other.
    pub(super) id: [u8; 16],
    pub(super) from: u64,
    pub(super) rows: Rows,
}

impl Group {
    pub(super) fn to(&self) -> u64 {
        self.from + self.rows.len() as u64
    }
}

/// Why an append was not acknowledged.
pub(super) enum NotAppended {
    /// Somebody else has claimed the log.
    Fenced,
    /// Nothing of it is there.
    Refused(DatabaseError),
    /// It may be there or not; the session is of no use any more.
    Unknown(DatabaseError),
}

/// A connection with a claim.
pub(super) struct Session {
    link: Link,
    log_id: [u8; 16],
    fence: i64,
    advance: Statement,
    insert: Statement,
    look: Statement,
}

/// Connects to a database and brings its schema up to this program's version.
pub(super) async fn connect(database: &Database) -> Result<Link, DatabaseError> {
    let mut tries = 1;
    let link = loop {
        match Link::connect(database, "hub writer").await {
            Ok(link) => break link,
            // What the server itself refuses, it refuses again; a server that starts says 57P03.
            Err(error)
                if tries < OPENING_TRIES && error.code.as_deref().is_none_or(|code| code == "57P03") =>
            {
                if error.passes != Passes::Later {
                    return Err(error);
                }
                tokio::time::sleep(Duration::from_millis(250 << tries)).await;
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    };
    schema::migrate(&link).await?;
    Ok(link)
}

impl Session {
    /// Claims a log; waits for another one's lease.
    pub(super) async fn claim(link: Link, log_id: [u8; 16], claim: Claim) -> Result<Outcome, DatabaseError> {
        let operation = "claiming the log";
        let id = &log_id[..];
        let (writer, taker) = match claim {
            Claim::Begin { taker } => {
                link.execute(operation, BEGIN, &[&id, &&taker.writer[..]]).await?;
                (taker.writer, Some((taker.clone(), taker.writer)))
            }
            Claim::Take { taker, before } => {
                (taker.writer, Some((taker.clone(), before.unwrap_or(taker.writer))))
            }
            Claim::Again { writer } => (writer, None),
        };
        let wait = if taker.as_ref().is_some_and(|(taker, _)| taker.hub.is_some()) {
            Duration::ZERO
        } else {
            LEASE_WAIT
        };
        let me = &writer[..];
        let began = Instant::now();
        let rows = loop {
            let rows = match &taker {
                Some((taker, before)) => {
                    let hub = taker.hub.as_ref().map(|hub| &hub[..]);
                    let values: [&(dyn ToSql + Sync); 5] = [&id, &me, &taker.holder, &&before[..], &hub];
                    again_at_once(|| link.query(operation, TAKE, &values)).await?
                }
                None => {
                    let values: [&(dyn ToSql + Sync); 2] = [&id, &me];
                    again_at_once(|| link.query(operation, AGAIN, &values)).await?
                }
            };
            if !rows.is_empty() || taker.is_none() {
                break rows;
            }
            let held = link.query(operation, HOLDER, &[&id]).await?;
            let Some(row) = held.first() else { break rows };
            let (holder, until): (String, String) = (row.get(0), row.get(1));
            if began.elapsed() >= wait || until.starts_with(FOR_GOOD) {
                return Ok(Outcome::Held { holder, until });
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        };
        let Some(row) = rows.first() else { return Ok(Outcome::NotThere) };
        let claimed = Claimed {
            writer,
            end: unsigned(row.get(1)),
            bytes: unsigned(row.get(2)),
            last_append: row.get(3),
        };
        let prepared = "preparing the statements of an append";
        let session = Session {
            log_id,
            fence: row.get(0),
            advance: link.prepare(prepared, ADVANCE).await?,
            insert: link.prepare(prepared, INSERT).await?,
            look: link.prepare(prepared, LOOK).await?,
            link,
        };
        Ok(Outcome::Mine(Box::new(session), claimed))
    }

    /// Appends a group. `Ok` means that COMMIT has returned.
    pub(super) async fn append(&self, group: &Group) -> Result<(), NotAppended> {
        let stated = self.state(group).await;
        match stated {
            Ok(true) => {}
            Ok(false) => {
                self.roll_back().await.map_err(NotAppended::Unknown)?;
                return Err(NotAppended::Fenced);
            }
            Err(error) if error.refused => {
                self.roll_back().await.map_err(NotAppended::Unknown)?;
                return Err(NotAppended::Refused(error));
            }
            Err(error) => return Err(NotAppended::Unknown(error)),
        }
        match self.link.batch("committing an append", "COMMIT").await {
            Ok(()) => Ok(()),
            Err(error) if error.refused && error.passes == Passes::AtOnce => Err(NotAppended::Refused(error)),
            Err(error) => Err(NotAppended::Unknown(error)),
        }
    }

    /// Everything but the commit; `false`: the claim does not hold any more.
    async fn state(&self, group: &Group) -> Result<bool, DatabaseError> {
        let operation = "appending to the log";
        // For this transaction too, should something between here and the server share sessions.
        self.link.batch(operation, "BEGIN; SET LOCAL synchronous_commit TO on").await?;
        let (from, to, total) = (signed(group.from), signed(group.to()), signed(group.rows.total));
        let (log, id) = (&self.log_id[..], &group.id[..]);
        let advanced = self
            .link
            .execute(operation, &self.advance, &[&log, &self.fence, &from, &to, &total, &id])
            .await?;
        if advanced != 1 {
            return Ok(false);
        }
        let Rows { positions, kinds, stores, bytes, hashes, .. } = &group.rows;
        let inserted = self
            .link
            .execute(operation, &self.insert, &[&log, positions, kinds, stores, bytes, hashes])
            .await?;
        assert_eq!(inserted, group.rows.len() as u64, "every row of an append is inserted");
        Ok(true)
    }

    async fn roll_back(&self) -> Result<(), DatabaseError> {
        self.link.batch("taking an append back", "ROLLBACK").await
    }

    /// Prolongs the lease, if the claim still holds at the position that this writer knows.
    pub(super) async fn holds(&self, end: u64) -> Result<bool, DatabaseError> {
        let (operation, id, end) = ("prolonging the lease", &self.log_id[..], signed(end));
        Ok(self.link.execute(operation, &self.look, &[&id, &self.fence, &end]).await? == 1)
    }

    /// Gives the lease back: another hub may begin at once.
    pub(super) async fn release(&self) -> Result<(), DatabaseError> {
        let id = &self.log_id[..];
        self.link.execute("giving the lease back", RELEASE, &[&id, &self.fence]).await.map(drop)
    }
}

/// Repeats a statement that lost against another transaction.
async fn again_at_once<T, F: Future<Output = Result<T, DatabaseError>>>(
    statement: impl Fn() -> F,
) -> Result<T, DatabaseError> {
    let mut tries = 0u64;
    loop {
        match statement().await {
            Err(error) if error.passes == Passes::AtOnce && tries < 20 => {
                tries += 1;
                tokio::time::sleep(Duration::from_millis(5 * tries)).await;
            }
            other => return other,
        }
    }
}
