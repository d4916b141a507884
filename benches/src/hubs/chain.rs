//! A company of several hubs in a temporary directory: hubs and tills as processes, their logs in a PostgreSQL server of
//! their own. With no shards it is one hub that keeps its log in files, for comparison.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::lease::shard_of;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::processor;
use crate::Outcome;
use crate::http::Http;
use crate::postgres_server::Server;
use crate::process::{Node, until};
use crate::scale::place::Till;
use crate::shop::{CHUNK_LINES, post_lines};
use crate::workload::{Transaction, transactions};

/// How often somebody is asked whether it has come so far.
pub const LOOK_EVERY: Duration = Duration::from_millis(20);

/// How the hubs of a company keep their logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// One hub, in files of its own.
    Files,
    /// So many hubs, in PostgreSQL.
    Database {
        /// Hubs.
        hubs: usize,
        /// Logs over which the stores are spread.
        shards: u16,
    },
}

impl Kept {
    /// Head of a column.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Files => "1 hub on files".to_owned(),
            Self::Database { hubs: 1, .. } => "1 hub".to_owned(),
            Self::Database { hubs, .. } => format!("{hubs} hubs"),
        }
    }
}

/// The company.
pub struct Chain {
    program: PathBuf,
    // Before the server: hubs go first.
    hubs: Vec<Hub>,
    /// The tills.
    pub tills: Vec<Counter>,
    server: Option<Server>,
    kept: Kept,
    dir: TempDir,
}

struct Hub {
    dir: PathBuf,
    listen: String,
    node: Option<Node>,
}

/// A till at its counter.
pub struct Counter {
    /// Its name.
    pub name: String,
    /// Its process.
    pub till: Till,
}

/// Processor time, ns, by who used it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Used {
    /// All hubs.
    pub hubs: u64,
    /// All tills.
    pub tills: u64,
    /// The database server.
    pub server: u64,
}

impl Used {
    /// What came since.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            hubs: self.hubs.saturating_sub(before.hubs),
            tills: self.tills.saturating_sub(before.tills),
            server: self.server.saturating_sub(before.server),
        }
    }
}

impl Counter {
    /// Whether the till is online and everything it recorded is at a hub.
    fn is_done(http: &mut Http) -> Outcome<bool> {
        let status = http.get("/v1/status")?.json()?;
        Ok(status["online"] == json!(true) && status["waiting"]["count"] == json!(0))
    }

    /// Waits until everything it recorded is at a hub.
    ///
    /// # Errors
    /// That takes too long.
    pub fn until_done(&self) -> Outcome<()> {
        let mut http = self.till.ask()?;
        until("what a till recorded at a hub", LOOK_EVERY, || Self::is_done(&mut http)).map(drop)
    }
}

impl Chain {
    /// Founds the company. Its first hub runs, the others have their directories.
    ///
    /// # Errors
    /// A hub or the server does not start.
    pub fn found(program: &Path, postgres: &Path, kept: Kept) -> Outcome<Self> {
        let dir = tempfile::tempdir()?;
        let (count, server) = match kept {
            Kept::Files => (1, None),
            Kept::Database { hubs, .. } => (hubs, Some(Server::start(postgres)?)),
        };
        let hub = |number: usize| Hub {
            dir: dir.path().join(format!("hub-{number}")),
            listen: "127.0.0.1:0".to_owned(),
            node: None,
        };
        let hubs: Vec<Hub> = (1..=count).map(hub).collect();
        node::hub::init(&hubs[0].dir, "Benches Ltd", "GBP", "Europe/London")?;
        let mut chain = Self { program: program.to_owned(), hubs, tills: Vec::new(), server, kept, dir };
        chain.start_hub(0)?;
        for number in 1..count {
            node::backup::add_hub(&chain.hubs[0].dir, &chain.hubs[number].dir)?;
        }
        Ok(chain)
    }

    /// Enrols tills, each in a store of its own, all shards used equally, and waits until they are online.
    ///
    /// # Errors
    /// A till does not join.
    pub fn enrol(&mut self, count: usize) -> Outcome<()> {
        let mut http = self.ask(0)?;
        for (number, store) in stores(count, self.shards()).into_iter().enumerate() {
            let name = format!("till-{:03}", number + 1);
            let request = json!({"store": store, "terminal": name}).to_string();
            let answer = http.post("/v1/enrolments", "application/json", request.as_bytes())?.json()?;
            let dir = self.dir.path().join(&name);
            node::terminal::join(&dir, answer["code"].as_str().unwrap_or_default(), None)?;
            self.tills.push(Counter { name, till: Till::start(&self.program, dir)? });
        }
        self.tills.iter().try_for_each(Counter::until_done)
    }

    /// The server.
    ///
    /// # Errors
    /// The company keeps its log in files.
    pub fn server(&self) -> Outcome<&Server> {
        self.server.as_ref().ok_or_else(|| "there is no database".into())
    }

    /// How many shards there are; 0: the log is in files.
    #[must_use]
    pub fn shards(&self) -> u16 {
        match self.kept {
            Kept::Files => 0,
            Kept::Database { shards, .. } => shards,
        }
    }

    /// A connection to a hub's API.
    ///
    /// # Errors
    /// It does not run.
    pub fn ask(&self, hub: usize) -> Outcome<Http> {
        Ok(self.hub(hub)?.connect()?.wait_up_to(crate::scale::place::PATIENCE)?)
    }

    /// A hub's process.
    ///
    /// # Errors
    /// It does not run.
    pub fn hub(&self, hub: usize) -> Outcome<&Node> {
        self.hubs[hub].node.as_ref().ok_or_else(|| format!("hub {} does not run", hub + 1).into())
    }

    /// Starts a hub, where it was before if it was.
    ///
    /// # Errors
    /// It does not start.
    pub fn start_hub(&mut self, hub: usize) -> Outcome<()> {
        let shards = self.shards().to_string();
        let url = self.server.as_ref().map(Server::url);
        let Hub { dir, listen, node } = &mut self.hubs[hub];
        let mut arguments = vec!["hub", "run", "--listen", listen.as_str(), "--http", "127.0.0.1:0"];
        if url.is_some() {
            arguments.extend(["--shards", shards.as_str()]);
        }
        let started = Node::start_on(&self.program, dir, &arguments, None, url.as_deref())?;
        *listen = started.quic.clone().ok_or("the hub did not say where it listens")?;
        *node = Some(started);
        Ok(())
    }

    /// Starts all hubs and waits until the logs are spread evenly over them.
    ///
    /// # Errors
    /// One does not start, or they do not agree.
    pub fn start_hubs(&mut self) -> Outcome<()> {
        for hub in 0..self.hubs.len() {
            if self.hubs[hub].node.is_none() {
                self.start_hub(hub)?;
            }
        }
        self.until_spread(self.hubs.len())
    }

    /// Waits until every log is held, and no hub has two more than another.
    ///
    /// # Errors
    /// They do not agree.
    pub fn until_spread(&self, hubs: usize) -> Outcome<()> {
        let Some(server) = &self.server else { return Ok(()) };
        let (mut server, logs) = (server.connect()?, i64::from(self.shards()) + 1);
        let held = "SELECT count(*) FROM tillsync.log WHERE lease_until > now() GROUP BY hub";
        until("logs spread over the hubs", LOOK_EVERY, || {
            let counts: Vec<i64> = server.query(held, &[])?.iter().map(|row| row.get(0)).collect();
            let (most, least) = (counts.iter().max().unwrap_or(&0), counts.iter().min().unwrap_or(&0));
            Ok(counts.len() == hubs && counts.iter().sum::<i64>() == logs && most - least <= 1)
        })
        .map(drop)
    }

    /// Where a hub keeps everything that is not in the database.
    #[must_use]
    pub fn dir(&self, hub: usize) -> &Path {
        &self.hubs[hub].dir
    }

    /// Takes a hub's process out, for it to be stopped or killed.
    pub fn take_hub(&mut self, hub: usize) -> Option<Node> {
        self.hubs[hub].node.take()
    }

    /// Stops all hubs properly.
    ///
    /// # Errors
    /// One does not stop.
    pub fn stop_hubs(&mut self) -> Outcome<()> {
        self.hubs.iter_mut().filter_map(|hub| hub.node.take()).try_for_each(Node::stop)
    }

    /// Stops all tills properly.
    ///
    /// # Errors
    /// One does not stop.
    pub fn stop_tills(&mut self) -> Outcome<()> {
        self.tills.iter_mut().try_for_each(|counter| counter.till.end(true))
    }

    /// What each till has to sell.
    #[must_use]
    pub fn work(&self, records: usize, seed: u64) -> Vec<(String, Vec<Transaction>)> {
        let each = records.div_ceil(self.tills.len().max(1));
        self.tills
            .iter()
            .map(|counter| (counter.name.clone(), transactions(&counter.name, each, seed)))
            .collect()
    }

    /// All tills at once record what they have to sell, in lines; returns when it is durable at the tills.
    ///
    /// # Errors
    /// Something is refused.
    pub fn capture(&self, work: &[(String, Vec<Transaction>)]) -> Outcome<()> {
        self.each(|at, counter| {
            let mut http = counter.till.ask()?;
            work[at].1.chunks(CHUNK_LINES).try_for_each(|chunk| post_lines(&mut http, chunk))
        })
        .map(drop)
    }

    /// All tills at once do something; how long after the beginning each was done.
    ///
    /// # Errors
    /// One cannot.
    pub fn each(&self, task: impl Fn(usize, &Counter) -> Outcome<()> + Sync) -> Outcome<Vec<Duration>> {
        let (start, task) = (Instant::now(), &task);
        std::thread::scope(|scope| {
            let spawn = |(at, counter)| {
                scope.spawn(move || {
                    task(at, counter)?;
                    Outcome::Ok(start.elapsed())
                })
            };
            let at_work: Vec<_> = self.tills.iter().enumerate().map(spawn).collect();
            at_work.into_iter().map(|till| till.join().expect("a till's thread does not panic")).collect()
        })
    }

    /// Starts all tills at once and waits until each says that nothing waits; how long after the beginning each said so.
    ///
    /// # Errors
    /// One does not start, or something does not arrive.
    pub fn start_tills(&mut self) -> Outcome<Vec<Duration>> {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let spawn = |counter: &mut Counter| {
                counter.till.again()?;
                counter.until_done()?;
                Outcome::Ok(start.elapsed())
            };
            let starting: Vec<_> =
                self.tills.iter_mut().map(|counter| scope.spawn(move || spawn(counter))).collect();
            starting.into_iter().map(|till| till.join().expect("a till's thread does not panic")).collect()
        })
    }

    /// Processor time of everybody who runs.
    ///
    /// # Errors
    /// The system does not tell.
    pub fn used(&self) -> Outcome<Used> {
        let mut used = Used::default();
        for node in self.hubs.iter().filter_map(|hub| hub.node.as_ref()) {
            used.hubs += processor::of(node.pid())?;
        }
        for counter in &self.tills {
            used.tills += counter.till.node().map_or(Ok(0), |node| processor::of(node.pid()))?;
        }
        if let Some(server) = &self.server {
            used.server = processor::of_family(server.pid()?)?;
        }
        Ok(used)
    }

    /// Records of all stores, as head office counts them when one of the hubs is asked.
    ///
    /// # Errors
    /// The connection broke.
    pub fn records(http: &mut Http) -> Outcome<u64> {
        let stores = http.get("/v1/stores")?.json()?;
        let of_store = |store: &Value| store["records"].as_u64().ok_or("a hub does not tell records");
        Ok(stores.as_array().into_iter().flatten().map(of_store).sum::<Result<u64, _>>()?)
    }
}

/// Names of stores that use all shards equally.
fn stores(count: usize, shards: u16) -> Vec<String> {
    let mut names = (1..).map(|number| format!("store-{number:05}"));
    let next = |place: usize| {
        let wanted = u16::try_from(place % usize::from(shards.max(1))).unwrap_or(0) + 1;
        names.find(|name| shards == 0 || shard_of(name, shards) == wanted).unwrap_or_default()
    };
    (0..count).map(next).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stores_use_all_shards_equally_and_have_names_of_their_own() {
        let names = stores(16, 8);
        for shard in 1..=8 {
            assert_eq!(names.iter().filter(|name| shard_of(name, 8) == shard).count(), 2);
        }
        assert_eq!(stores(3, 0), ["store-00001", "store-00002", "store-00003"]);
        let mut once = names.clone();
        once.sort();
        once.dedup();
        assert_eq!(once.len(), names.len());
    }
}
