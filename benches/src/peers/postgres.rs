//! PostgreSQL as the hub, with `synchronous_commit` on: tills keep an outbox in SQLite and send what the server does
//! not have over a connection of their own, by INSERT of batches or by COPY. The server parses each transaction
//! (`jsonb`), which the SQLite hub does not.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Instant;

use postgres::Client;
use tempfile::TempDir;

use super::outbox::Outbox;
use super::tcp::Relay;
use super::{Contender, Drained, Fleet, Held, Last, Lived, Nothing, Promises, Reopened};
use crate::Outcome;
use crate::drain::Work;
use crate::postgres_server::{Server, connect, programs};
use crate::stats::{Measure, Samples};
use crate::workload::Transaction;

/// Rows of a batch.
const BATCH_ROWS: usize = 500;

const TABLE: &str =
    "create table transactions(terminal text not null, seq bigint not null, json jsonb not null,
    primary key(terminal, seq))";
const INSERT: &str = "insert into transactions
    select $1, $2 + place, json::jsonb from unnest($3::text[]) with ordinality as rows(json, place)
    on conflict do nothing";

/// How rows get to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Insert,
    Copy,
}

/// The contender.
pub struct Postgres {
    by: By,
    programs: PathBuf,
}

/// Both ways, or why there is none.
///
/// # Errors
/// No server is installed.
pub fn contenders() -> Result<[Box<dyn Contender>; 2], String> {
    let programs =
        programs().ok_or("PostgreSQL was not measured: no server is installed on this machine.")?;
    Ok([By::Copy, By::Insert]
        .map(|by| -> Box<dyn Contender> { Box::new(Postgres { by, programs: programs.clone() }) }))
}

impl Contender for Postgres {
    fn name(&self) -> &'static str {
        match self.by {
            By::Insert => "SQLite outbox to PostgreSQL, INSERT of 500",
            By::Copy => "SQLite outbox to PostgreSQL, COPY",
        }
    }

    fn promises(&self) -> Promises {
        Promises::DURABLE
    }

    /// The till's SQLite has its own row.
    fn capture(&self, _work: &[Transaction], _group: usize) -> Outcome<Option<Measure>> {
        Ok(None)
    }

    fn open(&self, tills: usize, counted: bool) -> Outcome<Option<Box<dyn Fleet>>> {
        let (dir, server) = (tempfile::tempdir()?, Server::start(&self.programs)?);
        let relay = if counted { Some(Relay::start(server.address())?) } else { None };
        let address = relay.as_ref().map_or(server.address(), |relay| relay.address);
        connect(server.address())?.batch_execute(TABLE)?;
        let open_till = |number| -> Outcome<(String, Outbox)> {
            let name = format!("till-{number:02}");
            let outbox = Outbox::open(&dir.path().join(&name))?;
            Ok((name, outbox))
        };
        let tills = (1..=tills).map(open_till).collect::<Outcome<_>>()?;
        Ok(Some(Box::new(Shop { tills, by: self.by, server, relay, address, _dir: dir })))
    }

    fn needs_relay(&self) -> bool {
        true
    }
}

struct Shop {
    tills: Vec<(String, Outbox)>,
    by: By,
    server: Server,
    relay: Option<Relay>,
    /// Where tills find it: the relay, if there is one.
    address: SocketAddr,
    _dir: TempDir,
}

impl Shop {
    fn passed(&self) -> Option<u64> {
        self.relay.as_ref().map(Relay::bytes)
    }

    /// Every till at once.
    fn each(&mut self, with: impl Fn(&str, &Outbox, &mut Client) -> Outcome<()> + Sync) -> Outcome<Nothing> {
        let (before, start) = (self.passed(), Instant::now());
        let (address, with) = (self.address, &with);
        thread::scope(|scope| {
            let running: Vec<_> = self
                .tills
                .iter_mut()
                .map(|(name, outbox)| scope.spawn(move || with(name, outbox, &mut connect(address)?)))
                .collect();
            running.into_iter().try_for_each(|till| till.join().expect("a till does not panic"))
        })?;
        let took = start.elapsed();
        Ok(Nothing { took, wire: self.passed().zip(before).map(|(after, before)| after - before) })
    }
}

impl Fleet for Shop {
    fn record(&mut self, work: &Work) -> Outcome<()> {
        for ((name, outbox), (_, transactions)) in self.tills.iter_mut().zip(work) {
            outbox.record(name, transactions, BATCH_ROWS)?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Outcome<Drained> {
        let by = self.by;
        let Nothing { took, wire } = self.each(|name, outbox, server| {
            let from = head(server, name)?;
            match by {
                By::Insert => insert(name, outbox, server, from),
                By::Copy => copy(name, outbox, server, from),
            }
        })?;
        Ok(Drained { acknowledged: took, books: None, wire, peak: None })
    }

    fn held(&mut self) -> Outcome<Vec<Held>> {
        let mut server = connect(self.server.address())?;
        let mut all = Vec::new();
        for (name, _) in &self.tills {
            let count: i64 =
                server.query_one("select count(*) from transactions where terminal = $1", &[name])?.get(0);
            let last = server.query_opt(
                "select json::text from transactions where terminal = $1 order by seq desc limit 1",
                &[name],
            )?;
            let last = last.map(|row| serde_json::from_str(row.get(0))).transpose()?;
            all.push(Held { count: usize::try_from(count)?, last: last.map(Last::Json) });
        }
        Ok(all)
    }

    fn again_nothing(&mut self) -> Outcome<Option<Nothing>> {
        let nothing = self.each(|name, outbox, server| {
            assert_eq!(head(server, name)?, i64::try_from(outbox.head(name)?)?, "what the hub has of {name}");
            Ok(())
        })?;
        Ok(Some(nothing))
    }

    fn live(&mut self, work: &[Transaction]) -> Outcome<Option<Lived>> {
        if self.by == By::Copy {
            // One at a time both are the same INSERT.
            return Ok(None);
        }
        let passed = self.relay.as_ref();
        let (name, outbox) = &mut self.tills[0];
        let mut server = connect(self.address)?;
        let insert = server.prepare(INSERT)?;
        let mut seq = outbox.head(name)?;
        let (before, mut samples) = (passed.map(Relay::bytes), Samples::default());
        for transaction in work {
            let from = Instant::now();
            let json = transaction.json.as_str();
            let next = outbox.insert(name, seq, std::iter::once(json))?;
            let inserted = server.execute(&insert, &[name, &i64::try_from(seq)?, &[json].as_slice()])?;
            assert_eq!(inserted, 1, "rows inserted");
            samples.push(from.elapsed());
            seq = next;
        }
        let wire = passed.map(Relay::bytes).zip(before).map(|(after, before)| after - before);
        Ok(Some(Lived { acknowledged: samples, wire, ..Lived::default() }))
    }

    /// Table and index alone on the disk, without the write-ahead log.
    fn reopen(&mut self) -> Outcome<Option<Reopened>> {
        let mut server = connect(self.server.address())?;
        let bytes: i64 = server.query_one("select pg_total_relation_size('transactions')", &[])?.get(0);
        drop(server);
        self.server.stop()?;
        let start = Instant::now();
        self.server.resume()?;
        let mut server = connect(self.server.address())?;
        assert!(head(&mut server, &self.tills[0].0)? > 0, "the hub lost everything");
        Ok(Some(Reopened { disk_bytes: u64::try_from(bytes)?, took: start.elapsed() }))
    }
}

/// Last number of a terminal; 0: none.
fn head(server: &mut Client, terminal: &str) -> Outcome<i64> {
    let row = server.query_one("select max(seq) from transactions where terminal = $1", &[&terminal])?;
    Ok(row.get::<_, Option<i64>>(0).unwrap_or(0))
}

fn insert(name: &str, outbox: &Outbox, server: &mut Client, from: i64) -> Outcome<()> {
    let (insert, mut seq) = (server.prepare(INSERT)?, from);
    outbox.batches(name, u64::try_from(from)?, BATCH_ROWS, |jsons| {
        let inserted = server.execute(&insert, &[&name, &seq, &jsons])?;
        assert_eq!(inserted, jsons.len() as u64, "rows inserted");
        seq += i64::try_from(jsons.len())?;
        Ok(())
    })
}

fn copy(name: &str, outbox: &Outbox, server: &mut Client, from: i64) -> Outcome<()> {
    let (mut rows, mut seq) = (server.copy_in("copy transactions from stdin")?, from);
    let (first, mut text) = (seq, String::new());
    outbox.batches(name, u64::try_from(from)?, BATCH_ROWS, |jsons| {
        text.clear();
        for json in jsons {
            seq += 1;
            // A backslash is COPY's own sign; JSON has no raw tabs or line ends.
            let json = json.replace('\\', "\\\\");
            text.push_str(&format!("{name}\t{seq}\t{json}\n"));
        }
        Ok(rows.write_all(text.as_bytes())?)
    })?;
    assert_eq!(i64::try_from(rows.finish()?)?, seq - first, "rows copied");
    Ok(())
}
