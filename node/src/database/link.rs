//! One connection to the database. Its settings are made and then verified, because an acknowledgement rests on them;
//! every statement has a time limit, because a server that hangs must not hang the hub.

use std::time::Duration;

use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls, Row, Statement};

use super::{Database, DatabaseError, tls};

/// How long connecting, greetings and settings included, may take.
const CONNECT: Duration = Duration::from_secs(10);
/// After so long without a word from the other side the kernel asks; it gives up a minute later at the latest.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
const KEEPALIVE_EVERY: Duration = Duration::from_secs(5);
const KEEPALIVE_TIMES: u32 = 4;

/// How long a statement may take, as this side sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// A row, a group of an append, a page: 15 s.
    Short,
    /// A migration, a full count: 10 minutes.
    Long,
}

impl Patience {
    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Patience::Short => 15,
            Patience::Long => 600,
        })
    }
}

/// A connection whose settings are what an acknowledgement needs. Ends when it is dropped.
pub struct Link {
    client: Client,
}

impl Link {
    /// Connects. `purpose` is what the server's list of connections shows.
    ///
    /// # Errors
    /// The server cannot be reached, refuses, or is set up so that what it commits may be lost.
    pub async fn connect(database: &Database, purpose: &str) -> Result<Self, DatabaseError> {
        let connecting = async {
            let link = Self::dial(database, purpose).await?;
            link.settle().await?;
            Ok(link)
        };
        tokio::time::timeout(CONNECT, connecting)
            .await
            .unwrap_or_else(|_| Err(DatabaseError::silent("connecting", CONNECT.as_secs())))
    }

    async fn dial(database: &Database, purpose: &str) -> Result<Self, DatabaseError> {
        let mut config = database.config.clone();
        config
            .application_name(format!("tillsync {purpose}"))
            .connect_timeout(CONNECT)
            .keepalives_idle(KEEPALIVE_IDLE)
            .keepalives_interval(KEEPALIVE_EVERY)
            .keepalives_retries(KEEPALIVE_TIMES)
            .tcp_user_timeout(Duration::from_secs(30));
        let failed = |e: tokio_postgres::Error| DatabaseError::of("connecting", &e);
        // The connection works as long as the client lives; what ends it is seen by the statement it cuts off.
        let client = if let Some(roots) = &database.roots {
            let (client, connection) = config.connect(tls::under(roots)?).await.map_err(failed)?;
            tokio::spawn(connection);
            client
        } else {
            let (client, connection) = config.connect(NoTls).await.map_err(failed)?;
            tokio::spawn(connection);
            client
        };
        Ok(Self { client })
    }

    /// What every session needs. No `statement_timeout`: it would also cut a commit short that waits for its standby, and
    /// PostgreSQL reports such a commit as done. A transaction in which this side stands still is ended by the server, sooner
    /// than a lease on a log (5 s): a hub that was paused before its COMMIT would otherwise keep the log's row from the next.
    async fn settle(&self) -> Result<(), DatabaseError> {
        self.batch(
            "setting up the session",
            "SET synchronous_commit TO on; SET statement_timeout TO 0; SET lock_timeout TO '10s'; \
             SET idle_in_transaction_session_timeout TO '3s'",
        )
        .await?;
        let unsafe_setting = |what: String| {
            let next =
                "set it right in the server's configuration: an acknowledgement must survive a power failure";
            DatabaseError::never("checking the server's settings", what, next)
        };
        let shown = self.query("checking the session", "SHOW synchronous_commit", &[]).await?;
        let commit: String = shown.first().map(|row| row.get(0)).unwrap_or_default();
        if commit != "on" {
            return Err(unsafe_setting(format!("synchronous_commit is {commit:?}")));
        }
        let sql = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'fsync'";
        // Only PostgreSQL and its descendants have this setting.
        let fsync = self.query("checking the server's settings", sql, &[]).await?;
        match fsync.first().map(|row| row.get::<_, String>(0)) {
            Some(off) if off == "off" => Err(unsafe_setting("fsync is off".to_owned())),
            _ => Ok(()),
        }
    }

    /// Whether the connection is known to have ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Runs statements without parameters, one after the other.
    ///
    /// # Errors
    /// One of them fails.
    pub async fn batch(&self, operation: &'static str, sql: &str) -> Result<(), DatabaseError> {
        self.batch_patiently(operation, sql, Patience::Short).await
    }

    /// As `batch`, with a time limit of its own.
    ///
    /// # Errors
    /// One of them fails.
    pub async fn batch_patiently(
        &self,
        operation: &'static str,
        sql: &str,
        patience: Patience,
    ) -> Result<(), DatabaseError> {
        within(operation, patience, self.client.batch_execute(sql)).await
    }

    /// Prepares a statement.
    ///
    /// # Errors
    /// The server does not take it.
    pub async fn prepare(&self, operation: &'static str, sql: &str) -> Result<Statement, DatabaseError> {
        within(operation, Patience::Short, self.client.prepare(sql)).await
    }

    /// Runs a statement; the number of rows that it touched.
    ///
    /// # Errors
    /// It fails.
    pub async fn execute<S: ?Sized + tokio_postgres::ToStatement>(
        &self,
        operation: &'static str,
        statement: &S,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<u64, DatabaseError> {
        within(operation, Patience::Short, self.client.execute(statement, values)).await
    }

    /// Runs a query.
    ///
    /// # Errors
    /// It fails.
    pub async fn query<S: ?Sized + tokio_postgres::ToStatement>(
        &self,
        operation: &'static str,
        statement: &S,
        values: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, DatabaseError> {
        within(operation, Patience::Short, self.client.query(statement, values)).await
    }
}

async fn within<T>(
    operation: &'static str,
    patience: Patience,
    work: impl Future<Output = Result<T, tokio_postgres::Error>>,
) -> Result<T, DatabaseError> {
    let limit = patience.limit();
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result.map_err(|e| DatabaseError::of(operation, &e)),
        Err(_) => Err(DatabaseError::silent(operation, limit.as_secs())),
    }
}
