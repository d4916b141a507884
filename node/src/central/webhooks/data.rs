//! What changes are about, read when a delivery is made: the same columns as the views of the schema `ledger`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::body::Change;
use crate::database::{DatabaseError, Link, Row};
use crate::runtime::clock::rfc3339;

const READING: &str = "reading what a webhook tells of";

const RECEIPTS: &str = "SELECT r.store, r.record_id, r.receipt, r.kind, r.terminal, r.incarnation, r.seq,
        r.business_day::text, (extract(epoch FROM r.at) * 1000)::bigint, (extract(epoch FROM r.at_hub) * 1000)::bigint,
        r.operator, r.currency, r.total_minor, r.tax_minor,
        CASE WHEN EXISTS (
            SELECT 1 FROM tillsync.journal_entry e
            JOIN tillsync.export_range x ON x.log_id = e.log_id AND x.store = e.store
                AND e.number BETWEEN x.first_number AND x.last_number
            WHERE e.log_id = r.log_id AND e.store = r.store AND e.record_id = r.record_id
        ) THEN 'exported' ELSE r.custody END
    FROM unnest($2::text[], $3::text[]) AS wanted (store, subject)
    JOIN tillsync.receipt r ON r.log_id = $1 AND r.store = wanted.store AND r.record_id = wanted.subject";
const ENTRIES: &str =
    "SELECT e.store, e.number::text, e.number, e.date::text, e.record_id, e.because, encode(e.hash, 'hex')
    FROM unnest($2::text[], $3::text[]) AS wanted (store, subject)
    JOIN tillsync.journal_entry e ON e.log_id = $1 AND e.store = wanted.store AND e.number = wanted.subject::bigint";
const POSTINGS: &str = "SELECT p.store, p.number::text, p.line, p.account, p.currency, p.amount_minor
    FROM unnest($2::text[], $3::text[]) AS wanted (store, subject)
    JOIN tillsync.posting p ON p.log_id = $1 AND p.store = wanted.store AND p.number = wanted.subject::bigint
    ORDER BY p.store, p.number, p.line";
const CASES: &str =
    "SELECT c.store, c.case_id, c.type, c.subject, c.about, c.severity, c.state, c.amount_minor, c.currency,
        (extract(epoch FROM c.opened_at) * 1000)::bigint
    FROM unnest($2::text[], $3::text[]) AS wanted (store, subject)
    JOIN tillsync.review_case c ON c.log_id = $1 AND c.store = wanted.store AND c.case_id = wanted.subject";
const MEMBERS: &str = "SELECT m.store, m.case_id, m.record_id, m.held
    FROM unnest($2::text[], $3::text[]) AS wanted (store, subject)
    JOIN tillsync.case_member m ON m.log_id = $1 AND m.store = wanted.store AND m.case_id = wanted.subject
    ORDER BY m.store, m.case_id, m.record_id";
const DAYS: &str = "SELECT d.store, d.day::text || ' ' || d.terminal || ' ' || d.incarnation::text, d.day::text, d.terminal,
        d.incarnation, d.state, d.records, d.not_arrived, d.closed, d.z_agrees, coalesce(d.day < f.open_day, false)
    FROM unnest($2::text[], $3::text[]) AS wanted (store, subject)
    JOIN tillsync.store_day d ON d.log_id = $1 AND d.store = wanted.store AND d.day = wanted.subject::date
    JOIN tillsync.follower f ON f.log_id = d.log_id AND f.store = d.store";
const EXPORTS: &str = "SELECT x.store, x.number::text, x.number, x.first_number, x.last_number,
        (extract(epoch FROM x.at) * 1000)::bigint
    FROM unnest($2::text[], $3::text[]) AS wanted (store, subject)
    JOIN tillsync.export_range x ON x.log_id = $1 AND x.store = wanted.store AND x.number = wanted.subject::bigint";

/// By store and subject.
type Found = BTreeMap<(String, String), Value>;

/// What each change is about; null where it is about nothing that can be read, or no more.
pub(super) async fn of(link: &Link, log_id: &[u8], changes: &[Change]) -> Result<Vec<Value>, DatabaseError> {
    let asking = Asking { link, log_id, changes };
    let receipts = asking.find(&["receipt", "custody"], RECEIPTS, receipt).await?;
    let mut entries = asking.find(&["journal_entry"], ENTRIES, entry).await?;
    asking.append(&["journal_entry"], POSTINGS, (&mut entries, "postings"), posting).await?;
    let mut cases = asking.find(&["case"], CASES, case).await?;
    asking.append(&["case"], MEMBERS, (&mut cases, "members"), member).await?;
    let days = asking.find(&["store_day"], DAYS, day).await?;
    let exports = asking.find(&["export"], EXPORTS, export).await?;
    let about = |change: &Change| {
        let found = match change.topic.as_str() {
            "receipt" | "custody" => &receipts,
            "journal_entry" => &entries,
            "case" => &cases,
            "store_day" => &days,
            "export" => &exports,
            _ => return Value::Null,
        };
        found.get(&(change.store.clone(), change.subject.clone())).cloned().unwrap_or_default()
    };
    Ok(changes.iter().map(about).collect())
}

struct Asking<'a> {
    link: &'a Link,
    log_id: &'a [u8],
    changes: &'a [Change],
}

impl Asking<'_> {
    /// Stores and subjects of some topics, as two columns.
    fn wanted(&self, topics: &[&str]) -> (Vec<&str>, Vec<&str>) {
        let of_topics = self.changes.iter().filter(|change| topics.contains(&change.topic.as_str()));
        let mut pairs: Vec<(&str, &str)> =
            of_topics.map(|change| (change.store.as_str(), change.subject.as_str())).collect();
        if topics.contains(&"store_day") {
            // The subject is day, terminal and incarnation; all tills of a day are read together.
            pairs.iter_mut().for_each(|pair| pair.1 = pair.1.split(' ').next().unwrap_or_default());
        }
        pairs.sort_unstable();
        pairs.dedup();
        pairs.into_iter().unzip()
    }

    async fn rows(&self, topics: &[&str], sql: &str) -> Result<Vec<Row>, DatabaseError> {
        let (stores, subjects) = self.wanted(topics);
        if stores.is_empty() {
            return Ok(Vec::new());
        }
        self.link.query(READING, sql, &[&self.log_id, &stores, &subjects]).await
    }

    async fn find(
        &self,
        topics: &[&str],
        sql: &str,
        read: fn(&Row) -> Value,
    ) -> Result<Found, DatabaseError> {
        let rows = self.rows(topics, sql).await?;
        Ok(rows.iter().map(|row| ((row.get(0), row.get(1)), read(row))).collect())
    }

    /// Adds what belongs to each as a list.
    async fn append(
        &self,
        topics: &[&str],
        sql: &str,
        (to, field): (&mut Found, &str),
        read: fn(&Row) -> Value,
    ) -> Result<(), DatabaseError> {
        to.values_mut().for_each(|value| value[field] = json!([]));
        for row in self.rows(topics, sql).await? {
            let list = to.get_mut(&(row.get(0), row.get(1))).and_then(|value| value[field].as_array_mut());
            if let Some(list) = list {
                list.push(read(&row));
            }
        }
        Ok(())
    }
}

fn receipt(row: &Row) -> Value {
    json!({
        "record_id": row.get::<_, &str>(1),
        "receipt": row.get::<_, &str>(2),
        "kind": row.get::<_, &str>(3),
        "terminal": row.get::<_, &str>(4),
        "incarnation": row.get::<_, i32>(5),
        "seq": row.get::<_, i64>(6),
        "business_day": row.get::<_, &str>(7),
        "at": rfc3339(row.get(8)),
        "at_hub": rfc3339(row.get(9)),
        "operator": row.get::<_, Option<&str>>(10),
        "currency": row.get::<_, Option<&str>>(11),
        "total_minor": row.get::<_, Option<i64>>(12),
        "tax_minor": row.get::<_, Option<i64>>(13),
        "custody": row.get::<_, &str>(14),
    })
}

fn entry(row: &Row) -> Value {
    json!({
        "number": row.get::<_, i64>(2),
        "date": row.get::<_, &str>(3),
        "record_id": row.get::<_, &str>(4),
        "because": row.get::<_, Option<&str>>(5),
        "hash": row.get::<_, &str>(6),
    })
}

fn posting(row: &Row) -> Value {
    json!({
        "line": row.get::<_, i32>(2),
        "account": row.get::<_, &str>(3),
        "currency": row.get::<_, &str>(4),
        "amount_minor": row.get::<_, i64>(5),
    })
}

fn case(row: &Row) -> Value {
    json!({
        "case_id": row.get::<_, &str>(1),
        "type": row.get::<_, &str>(2),
        "subject": row.get::<_, &str>(3),
        "about": row.get::<_, &str>(4),
        "severity": row.get::<_, i32>(5),
        "state": row.get::<_, &str>(6),
        "amount_minor": row.get::<_, i64>(7),
        "currency": row.get::<_, Option<&str>>(8),
        "opened_at": rfc3339(row.get(9)),
    })
}

fn member(row: &Row) -> Value {
    json!({"record_id": row.get::<_, &str>(2), "held": row.get::<_, Option<&str>>(3)})
}

fn day(row: &Row) -> Value {
    json!({
        "day": row.get::<_, &str>(2),
        "terminal": row.get::<_, &str>(3),
        "incarnation": row.get::<_, i32>(4),
        "state": row.get::<_, &str>(5),
        "records": row.get::<_, i64>(6),
        "not_arrived": row.get::<_, i64>(7),
        "closed": row.get::<_, bool>(8),
        "z_agrees": row.get::<_, bool>(9),
        "locked": row.get::<_, bool>(10),
    })
}

fn export(row: &Row) -> Value {
    json!({
        "number": row.get::<_, i64>(2),
        "first_number": row.get::<_, i64>(3),
        "last_number": row.get::<_, i64>(4),
        "at": rfc3339(row.get(5)),
    })
}
