//! The body of a delivery: the next changes of the feed that are for a receiver, with what they are about as it is now.
//!
//! ```json
//! {"hub": "…", "from_seq": 41, "to_seq": 42, "changes": [
//!     {"seq": 42, "at": "…", "topic": "receipt", "store": "store-1", "subject": "…", "data": {…}}]}
//! ```
//!
//! `from_seq` follows the `to_seq` of the delivery before, so a receiver sees that nothing is missing, whatever its filter.

use serde_json::{Value, json};

use super::data;
use super::table::{Cursor, Delivery, Filter};
use crate::database::{DatabaseError, Link};
use crate::runtime::clock::rfc3339;

/// Changes of one delivery.
const CHANGES_MAX: i64 = 500;
/// Bytes of one delivery.
const BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of what one change is about; more is left out.
const DATA_BYTES_MAX: usize = 256 << 10;
/// Room for what stands around the changes.
const FRAME_BYTES: usize = 256;
/// Lines of the feed that are looked through at once.
const WINDOW: i64 = 20_000;
const READING: &str = "reading the feed for a webhook";

/// A line of the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) seq: i64,
    pub(super) at_ms: i64,
    pub(super) topic: String,
    pub(super) store: String,
    pub(super) subject: String,
}

/// What comes next for a receiver.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// The feed has nothing new.
    Nothing,
    /// Nothing up to this number is for it.
    Skip(i64),
    /// The feed was begun anew; its numbers are small again.
    Anew,
    /// Lines from the first to the second number were deleted before they were looked at.
    Missing(i64, i64),
    Deliver(Delivery),
}

/// Looks what comes after a cursor.
pub(super) async fn next(
    link: &Link,
    log_id: &[u8],
    filter: &Filter,
    cursor: &Cursor,
) -> Result<Next, DatabaseError> {
    let sql =
        "SELECT f.last_seq, (SELECT min(c.seq) FROM tillsync.change c WHERE c.log_id = $1 AND c.seq > $2)
        FROM tillsync.feed f WHERE f.log_id = $1";
    let rows = link.query(READING, sql, &[&log_id, &cursor.scanned_seq]).await?;
    let Some(row) = rows.first() else { return Ok(Next::Nothing) };
    let (last, first): (i64, Option<i64>) = (row.get(0), row.get(1));
    let expected = cursor.scanned_seq + 1;
    match first {
        _ if last < cursor.scanned_seq => return Ok(Next::Anew),
        _ if last < expected => return Ok(Next::Nothing),
        Some(first) if first == expected => {}
        Some(first) => return Ok(Next::Missing(expected, first - 1)),
        None => return Ok(Next::Missing(expected, last)),
    }
    let end = last.min(cursor.scanned_seq + WINDOW);
    let changes = changes(link, log_id, filter, cursor.scanned_seq, end).await?;
    if changes.is_empty() {
        return Ok(Next::Skip(end));
    }
    let data = data::of(link, log_id, &changes).await?;
    let whole = changes.len() < usize::try_from(CHANGES_MAX).unwrap_or(usize::MAX);
    let from = cursor.delivered_seq + 1;
    Ok(Next::Deliver(write(log_id, from, whole.then_some(end), changes.iter().zip(data))))
}

async fn changes(
    link: &Link,
    log_id: &[u8],
    filter: &Filter,
    after: i64,
    through: i64,
) -> Result<Vec<Change>, DatabaseError> {
    let sql =
        "SELECT seq, (extract(epoch FROM at) * 1000)::bigint, topic, store, subject FROM tillsync.change
        WHERE log_id = $1 AND seq > $2 AND seq <= $3 AND ($4::text[] IS NULL OR topic = ANY($4))
            AND ($5::text[] IS NULL OR store = ANY($5))
        ORDER BY seq LIMIT $6";
    let values: [&(dyn crate::database::ToSql + Sync); 6] =
        [&log_id, &after, &through, &filter.topics, &filter.stores, &CHANGES_MAX];
    let rows = link.query(READING, sql, &values).await?;
    let read = |row: &crate::database::Row| Change {
        seq: row.get(0),
        at_ms: row.get(1),
        topic: row.get(2),
        store: row.get(3),
        subject: row.get(4),
    };
    Ok(rows.iter().map(read).collect())
}

/// As many changes as fit. `end`: up to where the feed was looked through, if these are all that it had.
fn write<'a>(
    log_id: &[u8],
    from_seq: i64,
    end: Option<i64>,
    changes: impl Iterator<Item = (&'a Change, Value)>,
) -> Delivery {
    let mut list = String::new();
    let (mut to_seq, mut all) = (from_seq, true);
    for (change, data) in changes {
        let written = line(change, &data);
        if !list.is_empty() && list.len() + written.len() + FRAME_BYTES > BODY_BYTES_MAX {
            all = false;
            break;
        }
        if !list.is_empty() {
            list.push(',');
        }
        list.push_str(&written);
        to_seq = change.seq;
    }
    let to_seq = end.filter(|_| all).unwrap_or(to_seq);
    let hub = data_encoding::HEXLOWER.encode(log_id);
    let body = format!(r#"{{"hub":"{hub}","from_seq":{from_seq},"to_seq":{to_seq},"changes":[{list}]}}"#);
    Delivery { from_seq, to_seq, body: body.into_bytes() }
}

fn line(change: &Change, data: &Value) -> String {
    let Change { seq, at_ms, topic, store, subject } = change;
    let mut line = json!({
        "seq": seq,
        "at": rfc3339(*at_ms),
        "topic": topic,
        "store": store,
        "subject": subject,
        "data": data,
    });
    let written = line.to_string();
    if written.len() <= DATA_BYTES_MAX {
        return written;
    }
    line["data"] = Value::Null;
    line["data_left_out"] = Value::Bool(true);
    line.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(seq: i64) -> Change {
        let [topic, store, subject] = ["receipt", "store-1", "ab"].map(str::to_owned);
        Change { seq, at_ms: 0, topic, store, subject }
    }

    fn written(end: Option<i64>, sizes: &[usize]) -> (i64, Vec<Value>, usize) {
        let changes: Vec<Change> = (1..).zip(sizes).map(|(n, _)| change(2 * n)).collect();
        let data = sizes.iter().map(|size| json!({"x": "x".repeat(*size)}));
        let delivery = write(&[0xab, 0xcd], 1, end, changes.iter().zip(data));
        let body: Value = serde_json::from_slice(&delivery.body).unwrap();
        assert_eq!((&body["hub"], &body["from_seq"]), (&json!("abcd"), &json!(1)));
        assert_eq!(body["to_seq"], json!(delivery.to_seq));
        (delivery.to_seq, body["changes"].as_array().unwrap().clone(), delivery.body.len())
    }

    #[test]
    fn a_delivery_reaches_as_far_as_was_looked_or_as_its_last_change() {
        assert_eq!(written(Some(99), &[1, 1]).0, 99);
        assert_eq!(written(None, &[1, 1]).0, 4);
    }

    #[test]
    fn a_delivery_has_at_most_a_mebibyte_and_begins_the_next_where_it_ended() {
        let (to, changes, bytes) = written(Some(99), &[200 << 10; 8]);
        assert_eq!((to, changes.len()), (10, 5));
        assert!(bytes <= BODY_BYTES_MAX, "{bytes}");
    }

    #[test]
    fn what_is_too_large_is_left_out_and_said_so() {
        let (to, changes, _) = written(Some(99), &[DATA_BYTES_MAX, 1]);
        assert_eq!((to, changes.len()), (99, 2));
        assert_eq!((&changes[0]["data"], &changes[0]["data_left_out"]), (&Value::Null, &json!(true)));
        assert!(changes[1]["data"]["x"].is_string() && changes[1].get("data_left_out").is_none());
    }
}
