//! The versions of the schema, and how one becomes the next.
//!
//! A step is a list of statements that may be run again: one that was cut off is repeated from its beginning, which makes
//! steps safe also where a transaction does not cover definitions of tables. The row of `tillsync.schema_version` is
//! locked meanwhile, so two hubs that start together migrate one after the other. Steps are never changed once they were
//! released; a new version is a new step.

use super::{DatabaseError, Link, Patience};

/// The newest version that this program knows.
pub const VERSION: i32 = STEPS[STEPS.len() - 1].0;

/// A version, what it is for, and its statements.
type Step = (i32, &'static str, &'static str);

const STEPS: &[Step] = &[
    (1, "the log", include_str!("schema/1.sql")),
    (2, "the books as tables", include_str!("schema/2.sql")),
    (3, "several hubs", include_str!("schema/3.sql")),
    (4, "webhooks", include_str!("schema/4.sql")),
    (5, "hubs that are warm in logs of others", include_str!("schema/5.sql")),
];

/// Tries when several hubs make the first tables at once.
const RACES: usize = 20;

const BOOTSTRAP: &str = "CREATE SCHEMA IF NOT EXISTS tillsync;
    CREATE TABLE IF NOT EXISTS tillsync.schema_version (
        id integer PRIMARY KEY CHECK (id = 1),
        version integer NOT NULL,
        changed_at timestamptz NOT NULL
    );
    INSERT INTO tillsync.schema_version (id, version, changed_at) VALUES (1, 0, now()) ON CONFLICT DO NOTHING";

/// What a migration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// The version that was found; 0: none.
    pub from: i32,
    /// The version now.
    pub to: i32,
}

/// The version of a database's schema; 0: it has none.
///
/// # Errors
/// The database cannot be asked.
pub async fn version(link: &Link) -> Result<i32, DatabaseError> {
    let operation = "reading the version of the schema";
    let sql = "SELECT count(*) FROM information_schema.tables
        WHERE table_schema = 'tillsync' AND table_name = 'schema_version'";
    let there = link.query(operation, sql, &[]).await?;
    if there.first().map(|row| row.get::<_, i64>(0)) != Some(1) {
        return Ok(0);
    }
    let rows = link.query(operation, "SELECT version FROM tillsync.schema_version WHERE id = 1", &[]).await?;
    Ok(rows.first().map_or(0, |row| row.get(0)))
}

/// Brings the schema to the newest version.
///
/// # Errors
/// It is newer than this program, the role may not change it, or the database fails.
pub async fn migrate(link: &Link) -> Result<Migrated, DatabaseError> {
    let mut tries = 0;
    loop {
        let done = step_by_step(link).await;
        match done {
            Err(error) if error.is_race_of_makers() && tries < RACES => {
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(20 * tries as u64)).await;
            }
            other => return other,
        }
    }
}

async fn step_by_step(link: &Link) -> Result<Migrated, DatabaseError> {
    let from = version(link).await?;
    check(from)?;
    if from == VERSION {
        return Ok(Migrated { from, to: from });
    }
    if from == 0 {
        link.batch("making the schema tillsync", BOOTSTRAP).await?;
    }
    for (number, purpose, sql) in STEPS.iter().filter(|(number, ..)| *number > from) {
        let step = one_step(link, *number, sql).await;
        if step.is_err() {
            let _ = link.batch("undoing a migration", "ROLLBACK").await;
        }
        step?;
        tracing::info!(version = number, "database schema: {purpose}");
    }
    Ok(Migrated { from, to: VERSION })
}

async fn one_step(link: &Link, number: i32, sql: &str) -> Result<(), DatabaseError> {
    let operation = "migrating the schema";
    link.batch(operation, "BEGIN").await?;
    let sql_lock = "SELECT version FROM tillsync.schema_version WHERE id = 1 FOR UPDATE";
    let rows = link.query(operation, sql_lock, &[]).await?;
    // Another hub was faster.
    if rows.first().is_some_and(|row| row.get::<_, i32>(0) >= number) {
        return link.batch(operation, "COMMIT").await;
    }
    link.batch_patiently(operation, sql, Patience::Long).await?;
    let note = "UPDATE tillsync.schema_version SET version = $1, changed_at = now() WHERE id = 1";
    link.execute(operation, note, &[&number]).await?;
    link.batch(operation, "COMMIT").await
}

/// Lets a role read the views of the books and nothing else.
///
/// # Errors
/// There is no such role, or this one may not grant.
pub async fn grant(link: &Link, role: &str) -> Result<(), DatabaseError> {
    let role = role.replace('"', "\"\"");
    let sql = format!(
        "GRANT USAGE ON SCHEMA ledger TO \"{role}\"; GRANT SELECT ON ALL TABLES IN SCHEMA ledger TO \"{role}\""
    );
    link.batch("granting the right to read", &sql).await
}

/// Refuses a schema that is newer than this program.
///
/// # Errors
/// It is.
pub fn check(found: i32) -> Result<(), DatabaseError> {
    if found <= VERSION {
        return Ok(());
    }
    let reason = format!("the schema has version {found}, this program knows {VERSION}");
    Err(DatabaseError::never("opening the database", reason, "update tillsync"))
}
