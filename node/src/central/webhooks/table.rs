//! Subscriptions and cursors in the database. Every change is one statement that says from where it moves, so whoever comes
//! second changes nothing.

use super::secret::Secret;
use crate::database::{DatabaseError, Link, Row};

const READING: &str = "reading the webhooks";
const WRITING: &str = "moving on a webhook";

/// Which changes a subscription is told of; `None`: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) topics: Option<Vec<String>>,
    pub(crate) stores: Option<Vec<String>>,
}

/// Whether deliveries are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Active,
    /// A person stopped it.
    Paused,
    /// The receiver answered 410.
    Gone,
}

impl State {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            State::Active => "active",
            State::Paused => "paused",
            State::Gone => "gone",
        }
    }

    /// What is not known is not delivered to.
    fn read(text: &str) -> Self {
        match text {
            "active" => State::Active,
            "gone" => State::Gone,
            _ => State::Paused,
        }
    }
}

/// A subscription: who is told of what.
#[derive(Debug, Clone)]
pub(crate) struct Subscription {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) secret: Secret,
    pub(crate) filter: Filter,
    pub(crate) state: State,
    pub(crate) created_ms: i64,
}

/// How a subscription stands in the feed of a log. Times are milliseconds since 1970.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) webhook_id: String,
    pub(crate) log_id: Vec<u8>,
    pub(crate) delivered_seq: i64,
    pub(crate) scanned_seq: i64,
    /// The newest number of the feed.
    pub(crate) last_seq: i64,
    /// A delivery is under way.
    pub(crate) under_way: bool,
    pub(crate) last_success_ms: Option<i64>,
    pub(crate) last_error: Option<String>,
    pub(crate) last_error_ms: Option<i64>,
    pub(crate) failing_since_ms: Option<i64>,
    /// For how long it has failed, by the database's clock.
    pub(crate) failing_ms: Option<i64>,
    pub(crate) failures: i32,
}

impl Standing {
    /// Changes that wait at most: not all of them need be for this receiver. A feed that was begun anew waits as a whole.
    pub(crate) fn behind(&self) -> i64 {
        let looked_at = if self.under_way { self.delivered_seq } else { self.scanned_seq };
        if looked_at > self.last_seq { self.last_seq } else { self.last_seq - looked_at }
    }
}

/// Where a subscription is in the feed, and what is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cursor {
    pub(super) delivered_seq: i64,
    pub(super) scanned_seq: i64,
    pub(super) under_way: Option<Delivery>,
}

/// A range of the feed as it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) from_seq: i64,
    pub(super) to_seq: i64,
    pub(super) body: Vec<u8>,
}

/// A column of time as milliseconds.
macro_rules! ms {
    ($column:literal) => {
        concat!("(extract(epoch FROM ", $column, ") * 1000)::bigint")
    };
}

/// Every subscription, oldest first.
pub(crate) async fn subscriptions(link: &Link) -> Result<Vec<Subscription>, DatabaseError> {
    const SQL: &str = concat!(
        "SELECT webhook_id, url, secret, topics, stores, state, ",
        ms!("created_at"),
        " FROM tillsync.webhook ORDER BY created_at, webhook_id"
    );
    let read = |row: Row| {
        let secret = Secret::parse(row.get(2)).ok_or_else(|| {
            let next = "something else has changed Tillsync's tables; remove the webhook and add it again";
            DatabaseError::never(READING, format!("{} has no readable secret", row.get::<_, &str>(0)), next)
        })?;
        Ok(Subscription {
            id: row.get(0),
            url: row.get(1),
            secret,
            filter: Filter { topics: row.get(3), stores: row.get(4) },
            state: State::read(row.get(5)),
            created_ms: row.get(6),
        })
    };
    link.query(READING, SQL, &[]).await?.into_iter().map(read).collect()
}

/// How subscriptions stand in the feed of a log, or of all.
pub(crate) async fn standings(link: &Link, log_id: Option<&[u8]>) -> Result<Vec<Standing>, DatabaseError> {
    const SQL: &str = concat!(
        "SELECT c.webhook_id, c.log_id, c.delivered_seq, c.scanned_seq, f.last_seq, c.body IS NOT NULL, ",
        ms!("c.last_success_at"),
        ", c.last_error, ",
        ms!("c.last_error_at"),
        ", ",
        ms!("c.failing_since"),
        ", ",
        ms!("now() - c.failing_since"),
        ", c.failures
        FROM tillsync.webhook_cursor c JOIN tillsync.feed f ON f.log_id = c.log_id
        WHERE $1::bytea IS NULL OR c.log_id = $1
        ORDER BY c.webhook_id, c.log_id"
    );
    let read = |row: Row| Standing {
        webhook_id: row.get(0),
        log_id: row.get(1),
        delivered_seq: row.get(2),
        scanned_seq: row.get(3),
        last_seq: row.get(4),
        under_way: row.get(5),
        last_success_ms: row.get(6),
        last_error: row.get(7),
        last_error_ms: row.get(8),
        failing_since_ms: row.get(9),
        failing_ms: row.get(10),
        failures: row.get(11),
    };
    Ok(link.query(READING, SQL, &[&log_id]).await?.into_iter().map(read).collect())
}

/// Gives every subscription that has none a cursor in a log, at the feed's beginning: the log is younger than it.
pub(super) async fn begin(link: &Link, log_id: &[u8]) -> Result<(), DatabaseError> {
    let sql = "INSERT INTO tillsync.webhook_cursor (webhook_id, log_id, delivered_seq, scanned_seq)
        SELECT w.webhook_id, $1::bytea, 0, 0 FROM tillsync.webhook w
        WHERE NOT EXISTS (SELECT 1 FROM tillsync.webhook_cursor c WHERE c.webhook_id = w.webhook_id AND c.log_id = $1)
        ON CONFLICT DO NOTHING";
    link.execute(WRITING, sql, &[&log_id]).await.map(drop)
}

/// Keeps a new subscription. It is told of what comes from now on, or of everything that the feeds hold.
pub(crate) async fn add(
    link: &Link,
    subscription: &Subscription,
    from_start: bool,
) -> Result<(), DatabaseError> {
    let operation = "adding a webhook";
    let Subscription { id, url, secret, filter, state, .. } = subscription;
    link.batch(operation, "BEGIN").await?;
    let sql = "INSERT INTO tillsync.webhook (webhook_id, url, secret, topics, stores, state)
        VALUES ($1, $2, $3, $4, $5, $6)";
    let written = secret.written();
    let values: [&(dyn crate::database::ToSql + Sync); 6] =
        [id, url, &written.as_str(), &filter.topics, &filter.stores, &state.as_str()];
    link.execute(operation, sql, &values).await?;
    let sql = "INSERT INTO tillsync.webhook_cursor (webhook_id, log_id, delivered_seq, scanned_seq)
        SELECT $1::text, log_id, CASE WHEN $2::boolean THEN 0 ELSE last_seq END,
            CASE WHEN $2::boolean THEN 0 ELSE last_seq END FROM tillsync.feed";
    link.execute(operation, sql, &[id, &from_start]).await?;
    link.batch(operation, "COMMIT").await
}

/// Removes a subscription and its cursors; `false`: there is none of that id.
pub(crate) async fn remove(link: &Link, id: &str) -> Result<bool, DatabaseError> {
    let operation = "removing a webhook";
    link.batch(operation, "BEGIN").await?;
    let there = link.execute(operation, "DELETE FROM tillsync.webhook WHERE webhook_id = $1", &[&id]).await?;
    link.execute(operation, "DELETE FROM tillsync.webhook_cursor WHERE webhook_id = $1", &[&id]).await?;
    link.batch(operation, "COMMIT").await?;
    Ok(there == 1)
}

/// Changes whether deliveries are made; `false`: there is no such subscription.
pub(crate) async fn set_state(link: &Link, id: &str, state: State) -> Result<bool, DatabaseError> {
    let sql = "UPDATE tillsync.webhook SET state = $2 WHERE webhook_id = $1";
    Ok(link.execute("changing a webhook", sql, &[&id, &state.as_str()]).await? == 1)
}

/// Where a subscription is in the feed of a log.
pub(super) async fn cursor(link: &Link, id: &str, log_id: &[u8]) -> Result<Option<Cursor>, DatabaseError> {
    let sql = "SELECT delivered_seq, scanned_seq, from_seq, to_seq, body FROM tillsync.webhook_cursor
        WHERE webhook_id = $1 AND log_id = $2";
    let rows = link.query(READING, sql, &[&id, &log_id]).await?;
    Ok(rows.first().map(|row| {
        let under_way = match (row.get(2), row.get(3), row.get(4)) {
            (Some(from_seq), Some(to_seq), Some(body)) => Some(Delivery { from_seq, to_seq, body }),
            _ => None,
        };
        Cursor { delivered_seq: row.get(0), scanned_seq: row.get(1), under_way }
    }))
}

/// Moves a cursor over what is not for the receiver, or back to the beginning of a feed that was begun anew.
pub(super) async fn skip(
    link: &Link,
    id: &str,
    log_id: &[u8],
    from: &Cursor,
    (delivered_seq, scanned_seq): (i64, i64),
) -> Result<bool, DatabaseError> {
    let sql = "UPDATE tillsync.webhook_cursor SET delivered_seq = $5, scanned_seq = $6
        WHERE webhook_id = $1 AND log_id = $2 AND delivered_seq = $3 AND scanned_seq = $4 AND body IS NULL";
    let values: [&(dyn crate::database::ToSql + Sync); 6] =
        [&id, &log_id, &from.delivered_seq, &from.scanned_seq, &delivered_seq, &scanned_seq];
    Ok(link.execute(WRITING, sql, &values).await? == 1)
}

/// Fixes the bytes of the next delivery, before its first attempt.
pub(super) async fn fix(
    link: &Link,
    id: &str,
    log_id: &[u8],
    from: &Cursor,
    delivery: &Delivery,
) -> Result<bool, DatabaseError> {
    let sql = "UPDATE tillsync.webhook_cursor SET from_seq = $5, to_seq = $6, body = $7
        WHERE webhook_id = $1 AND log_id = $2 AND delivered_seq = $3 AND scanned_seq = $4 AND body IS NULL";
    let Delivery { from_seq, to_seq, body } = delivery;
    let values: [&(dyn crate::database::ToSql + Sync); 7] =
        [&id, &log_id, &from.delivered_seq, &from.scanned_seq, from_seq, to_seq, body];
    Ok(link.execute(WRITING, sql, &values).await? == 1)
}

/// The receiver has it: the cursor moves behind it.
pub(super) async fn accepted(
    link: &Link,
    id: &str,
    log_id: &[u8],
    delivery: &Delivery,
) -> Result<bool, DatabaseError> {
    let sql =
        "UPDATE tillsync.webhook_cursor SET delivered_seq = to_seq, scanned_seq = to_seq, from_seq = NULL,
            to_seq = NULL, body = NULL, last_success_at = now(), failing_since = NULL, failures = 0
        WHERE webhook_id = $1 AND log_id = $2 AND from_seq = $3 AND to_seq = $4";
    let values: [&(dyn crate::database::ToSql + Sync); 4] =
        [&id, &log_id, &delivery.from_seq, &delivery.to_seq];
    Ok(link.execute(WRITING, sql, &values).await? == 1)
}

/// Notes a failed attempt.
pub(super) async fn failed(
    link: &Link,
    id: &str,
    log_id: &[u8],
    delivery: &Delivery,
    reason: &str,
) -> Result<(), DatabaseError> {
    let sql =
        "UPDATE tillsync.webhook_cursor SET last_error = $5, last_error_at = now(), failures = failures + 1,
            failing_since = coalesce(failing_since, now())
        WHERE webhook_id = $1 AND log_id = $2 AND from_seq = $3 AND to_seq = $4";
    let values: [&(dyn crate::database::ToSql + Sync); 5] =
        [&id, &log_id, &delivery.from_seq, &delivery.to_seq, &reason];
    link.execute(WRITING, sql, &values).await.map(drop)
}
