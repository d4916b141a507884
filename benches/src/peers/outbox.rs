//! A till's transactions in SQLite: WAL with `synchronous=FULL`, so that a commit is on the disk when it returns.

use std::path::Path;

use rusqlite::{Connection, OptionalExtension, params};

use crate::Outcome;
use crate::workload::Transaction;

/// A database of transactions, a till's or a hub's.
pub struct Outbox(Connection);

impl Outbox {
    /// Opens it; makes it if it is not there.
    ///
    /// # Errors
    /// SQLite refuses, or will not be as durable as it must.
    pub fn open(path: &Path) -> Outcome<Self> {
        let database = Connection::open(path)?;
        let mode: String = database.query_row("pragma journal_mode=wal", [], |row| row.get(0))?;
        database.execute_batch(
            "pragma synchronous=full;
             create table if not exists transactions(terminal text not null, seq integer not null,
                 json text not null, primary key(terminal, seq)) without rowid;",
        )?;
        let synchronous: i64 = database.query_row("pragma synchronous", [], |row| row.get(0))?;
        if (mode.as_str(), synchronous) != ("wal", 2) {
            return Err(format!("SQLite has journal mode {mode}, synchronous {synchronous}").into());
        }
        database.set_prepared_statement_cache_capacity(16);
        Ok(Self(database))
    }

    /// Records in one durable commit; what is there already stays as it is.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn insert<'a>(
        &mut self,
        terminal: &str,
        after_seq: u64,
        jsons: impl Iterator<Item = &'a str>,
    ) -> Outcome<u64> {
        let transaction = self.0.transaction()?;
        let mut seq = i64::try_from(after_seq)?;
        {
            let mut insert = transaction
                .prepare_cached("insert into transactions values(?, ?, ?) on conflict do nothing")?;
            for json in jsons {
                seq += 1;
                insert.execute(params![terminal, seq, json])?;
            }
        }
        transaction.commit()?;
        Ok(u64::try_from(seq)?)
    }

    /// Records transactions, `group` in each commit.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn record(&mut self, terminal: &str, work: &[Transaction], group: usize) -> Outcome<()> {
        let mut seq = self.head(terminal)?;
        for chunk in work.chunks(group) {
            seq = self.insert(terminal, seq, chunk.iter().map(|one| one.json.as_str()))?;
        }
        Ok(())
    }

    /// Last number of a terminal; 0: none.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn head(&self, terminal: &str) -> Outcome<u64> {
        let mut query = self.0.prepare_cached("select max(seq) from transactions where terminal = ?")?;
        let head: Option<i64> = query.query_row([terminal], |row| row.get(0))?;
        Ok(u64::try_from(head.unwrap_or(0))?)
    }

    /// What a terminal recorded after a number, in batches of up to `rows`, until `batch` says stop with an error.
    ///
    /// # Errors
    /// SQLite refuses, or `batch` does.
    pub fn batches(
        &self,
        terminal: &str,
        after_seq: u64,
        rows: usize,
        mut batch: impl FnMut(&[String]) -> Outcome<()>,
    ) -> Outcome<()> {
        let mut query = self
            .0
            .prepare_cached("select json from transactions where terminal = ? and seq > ? order by seq")?;
        let mut found = query.query(params![terminal, i64::try_from(after_seq)?])?;
        let mut buffer: Vec<String> = Vec::with_capacity(rows);
        while let Some(row) = found.next()? {
            buffer.push(row.get(0)?);
            if buffer.len() == rows {
                batch(&buffer)?;
                buffer.clear();
            }
        }
        if buffer.is_empty() { Ok(()) } else { batch(&buffer) }
    }

    /// How many there are of a terminal, and the last of them.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn held(&self, terminal: &str) -> Outcome<(usize, Option<String>)> {
        let count: i64 =
            self.0.query_row("select count(*) from transactions where terminal = ?", [terminal], |row| {
                row.get(0)
            })?;
        let last = self.0.query_row(
            "select json from transactions where terminal = ? order by seq desc limit 1",
            [terminal],
            |row| row.get(0),
        );
        Ok((usize::try_from(count)?, last.optional()?))
    }

    /// Brings everything from the write-ahead log into the database file.
    ///
    /// # Errors
    /// SQLite refuses.
    pub fn checkpoint(&self) -> Outcome<()> {
        let busy: i64 = self.0.query_row("pragma wal_checkpoint(truncate)", [], |row| row.get(0))?;
        if busy == 0 { Ok(()) } else { Err("the write-ahead log is in use".into()) }
    }
}
