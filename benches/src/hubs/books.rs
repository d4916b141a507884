//! What the database says of itself and of the logs in it, and the same rows brought into it by its own COPY.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use engine::entry::{Entry as LogEntry, NODE_KINDS_FROM};
use engine::ids::RecordId;
use postgres::Client;

use super::chain::{Chain, LOOK_EVERY};
use super::processor;
use crate::Outcome;
use crate::process::{until, until_within};
use crate::scale::place::PATIENCE;

const WAL: &str = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint";
const ROWS: &str = "SELECT count(*), coalesce(sum(length(bytes)), 0)::bigint FROM tillsync.entry";
const ENTRY_BYTES: &str = "SELECT pg_total_relation_size('tillsync.entry')";
const TABLE_BYTES: &str = "SELECT sum(pg_total_relation_size(c.oid))::bigint
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'tillsync' AND c.relkind = 'r' AND c.relname <> 'entry'";
const FOLLOWED: &str = "SELECT coalesce(sum(journal), 0)::bigint FROM tillsync.follower";
const COMMITS: &str = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()";
const CONNECTIONS: &str = "SELECT application_name, count(*) FROM pg_stat_activity
    WHERE application_name LIKE 'tillsync%' GROUP BY application_name ORDER BY application_name";

/// Logs, and everything that follows from them.
const DATA: &str = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = 'tillsync' AND c.relkind = 'r'
    AND c.relname NOT IN ('schema_version', 'log', 'company', 'hub', 'device', 'webhook', 'webhook_cursor')";

/// A log's new entries.
const NEW: &str =
    "SELECT position, kind, bytes FROM tillsync.entry WHERE log_id = $1 AND position >= $2 ORDER BY position";

/// Somebody who looks at the logs from outside.
pub struct Books {
    client: Client,
    /// Where each log is read on.
    next: BTreeMap<Vec<u8>, i64>,
    /// Records that the journal in the logs has posted.
    posted: BTreeSet<RecordId>,
    /// Entries of all journals.
    entries: i64,
}

/// Numbers of the server at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Bytes of write-ahead log ever written.
    pub wal: u64,
    /// Rows of all logs.
    pub rows: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// What the table of the logs takes on the disk, with its indexes.
    pub entry_disk: u64,
    /// What the books as tables take.
    pub table_disk: u64,
}

/// What COPY brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The rows of all logs, over one connection.
    Logs,
    /// The same over a connection for each log, all at once.
    LogsApart,
    /// The rows of the logs and of the tables that people query, over one connection.
    AllTables,
}

/// A table's name, and rows of it as COPY writes them.
type Part = (String, Vec<u8>);

/// A COPY.
#[derive(Debug, Clone, Copy)]
pub struct Copied {
    /// From the first byte sent until COMMIT has returned everywhere.
    pub took: Duration,
    /// Processor time of the server, ns.
    pub server: u64,
    /// Bytes of write-ahead log.
    pub wal: u64,
}

impl Books {
    /// Looks at a company's logs from now on.
    ///
    /// # Errors
    /// The server refuses.
    pub fn open(chain: &Chain) -> Outcome<Self> {
        let client = chain.server()?.connect()?;
        Ok(Self { client, next: BTreeMap::new(), posted: BTreeSet::new(), entries: 0 })
    }

    /// How it stands.
    ///
    /// # Errors
    /// The server refuses.
    pub fn mark(&mut self) -> Outcome<Mark> {
        let rows = self.client.query_one(ROWS, &[])?;
        let (count, bytes): (i64, i64) = (rows.get(0), rows.get(1));
        Ok(Mark {
            wal: self.number(WAL)?,
            rows: u64::try_from(count)?,
            bytes: u64::try_from(bytes)?,
            entry_disk: self.number(ENTRY_BYTES)?,
            table_disk: self.number(TABLE_BYTES)?,
        })
    }

    /// Bytes of write-ahead log ever written.
    ///
    /// # Errors
    /// The server refuses.
    pub fn wal(&mut self) -> Outcome<u64> {
        self.number(WAL)
    }

    /// Transactions ever committed; the server counts a second late.
    ///
    /// # Errors
    /// The server refuses.
    pub fn commits(&mut self) -> Outcome<u64> {
        self.number(COMMITS)
    }

    /// Connections of hubs by what they are for.
    ///
    /// # Errors
    /// The server refuses.
    pub fn connections(&mut self) -> Outcome<BTreeMap<String, u64>> {
        let rows = self.client.query(CONNECTIONS, &[])?;
        let pair = |row: &postgres::Row| Ok((row.get(0), u64::try_from(row.get::<_, i64>(1))?));
        rows.iter().map(pair).collect()
    }

    fn number(&mut self, sql: &str) -> Outcome<u64> {
        Ok(u64::try_from(self.client.query_one(sql, &[])?.get::<_, i64>(0))?)
    }

    /// Reads on in all logs; how many records their journals have posted by now, durably.
    ///
    /// # Errors
    /// The server refuses, or an entry is not readable.
    pub fn posted(&mut self) -> Outcome<usize> {
        let logs = self.client.query("SELECT log_id FROM tillsync.log", &[])?;
        for log in logs {
            let id: Vec<u8> = log.get(0);
            let from = self.next.get(&id).copied().unwrap_or(0);
            for row in self.client.query(NEW, &[&id, &from])? {
                self.next.insert(id.clone(), row.get::<_, i64>(0) + 1);
                let kind = u8::try_from(row.get::<_, i16>(1))?;
                if kind < NODE_KINDS_FROM
                    && let (_, LogEntry::Journal(run)) = LogEntry::decode(kind, row.get(2))?
                {
                    self.entries += i64::from(run.count());
                    self.posted.extend(run.entries()?.iter().map(|entry| entry.record));
                }
            }
        }
        Ok(self.posted.len())
    }

    /// Waits until the journals in the logs have posted so many records.
    ///
    /// # Errors
    /// That takes too long.
    pub fn until_posted(&mut self, records: usize) -> Outcome<()> {
        until("all records posted", LOOK_EVERY, || Ok(self.posted()? >= records)).map(drop)
    }

    /// Waits until the books as tables have all that the journals had when they were read last.
    ///
    /// # Errors
    /// That takes too long.
    pub fn until_followed(&mut self) -> Outcome<()> {
        let wanted = u64::try_from(self.entries)?;
        until_within("the books as tables", LOOK_EVERY, PATIENCE, || Ok(self.number(FOLLOWED)? >= wanted))
            .map(drop)
    }

    /// Copies rows into equal, empty tables and checks that they are there. Hubs must have stopped.
    ///
    /// # Errors
    /// The server refuses, or not all of it is there afterwards.
    pub fn copy(&mut self, chain: &Chain, what: What) -> Outcome<Copied> {
        let names = |rows: Vec<postgres::Row>| rows.iter().map(|row| row.get(0)).collect::<Vec<String>>();
        let tables = if what == What::AllTables {
            names(self.client.query(DATA, &[])?)
        } else {
            vec!["entry".to_owned()]
        };
        self.client.batch_execute("CREATE SCHEMA copied")?;
        // What each connection brings: tables and their rows.
        let mut into: Vec<(Client, Vec<Part>)> = Vec::new();
        if what == What::LogsApart {
            for id in names(self.client.query("SELECT encode(log_id, 'hex') FROM tillsync.log", &[])?) {
                let rows = self.rows(&format!(
                    "SELECT * FROM tillsync.entry WHERE log_id = '\\x{id}' ORDER BY position"
                ))?;
                into.push((chain.server()?.connect()?, vec![("entry".to_owned(), rows)]));
            }
        } else {
            let all = tables
                .iter()
                .map(|table| Ok((table.clone(), self.rows(&format!("SELECT * FROM tillsync.{table}"))?)));
            into.push((chain.server()?.connect()?, all.collect::<Outcome<_>>()?));
        }
        for table in &tables {
            self.client.batch_execute(&format!(
                "CREATE TABLE copied.{table} (LIKE tillsync.{table} INCLUDING ALL)"
            ))?;
        }
        let (server, wal) = (processor::of_family(chain.server()?.pid()?)?, self.wal()?);
        let start = Instant::now();
        std::thread::scope(|scope| {
            let copying: Vec<_> = into
                .into_iter()
                .map(|(client, parts)| scope.spawn(move || copy_in(client, &parts)))
                .collect();
            copying.into_iter().try_for_each(|copy| copy.join().expect("copying does not panic"))
        })?;
        let took = start.elapsed();
        let copied = Copied {
            took,
            server: processor::of_family(chain.server()?.pid()?)? - server,
            wal: self.wal()? - wal,
        };
        for table in &tables {
            let missing = format!(
                "SELECT count(*) FROM (SELECT * FROM tillsync.{table} EXCEPT ALL SELECT * FROM copied.{table}) AS missing"
            );
            assert_eq!(self.number(&missing)?, 0, "rows of {table} that COPY did not bring");
        }
        self.client.batch_execute("SET client_min_messages TO warning; DROP SCHEMA copied CASCADE")?;
        Ok(copied)
    }

    fn rows(&mut self, select: &str) -> Outcome<Vec<u8>> {
        let mut rows = Vec::new();
        self.client
            .copy_out(&format!("COPY ({select}) TO STDOUT (FORMAT binary)"))?
            .read_to_end(&mut rows)?;
        Ok(rows)
    }
}

/// One transaction.
fn copy_in(mut client: Client, parts: &[Part]) -> Outcome<()> {
    let mut transaction = client.transaction()?;
    for (table, rows) in parts {
        let mut sink = transaction.copy_in(&format!("COPY copied.{table} FROM STDIN (FORMAT binary)"))?;
        sink.write_all(rows)?;
        sink.finish()?;
    }
    Ok(transaction.commit()?)
}
