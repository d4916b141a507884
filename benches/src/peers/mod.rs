//! Other programs that bring what tills recorded to a hub, measured beside Tillsync in the same run: the same bytes on
//! the same disk. Every one is a [`Contender`] in a file of its own; `round` drives them in turns, `check` looks at
//! what arrived, `results` writes the tables and `charts` what is drawn. Nobody is held to a promise it does not make: [`Promises`] says them.
//!
//! Rooms: `disk` and `quic` (limits; `quic_ends` and `quic_log` are its line and its files), `tillsync`, `sqlite` and `postgres` (over `outbox`, the till's SQLite; `tcp` is
//! the stream between), `automerge`, `loro` and `yrs` (documents, over `in_process`), `samod`.

mod automerge;
mod charts;
mod check;
mod disk;
mod in_process;
mod loro;
mod outbox;
mod postgres;
mod quic;
mod quic_ends;
mod quic_log;
mod results;
mod round;
mod samod;
mod sqlite;
mod tcp;
mod tillsync;
mod yrs;

use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use crate::Outcome;
use crate::drain::Work;
use crate::stats::{Measure, Samples};
use crate::workload::Transaction;

pub use results::Results;
pub use round::{FULL, Sizes, TINY, round};

/// A program that brings transactions from tills to a hub.
pub trait Contender {
    /// Name of its rows; says what a reader must know before comparing.
    fn name(&self) -> &'static str;

    /// What it promises when it says that the hub has something.
    fn promises(&self) -> Promises;

    /// One till records, `group` transactions in each durable step; `None` if that says nothing new of this contender.
    ///
    /// # Errors
    /// The disk refuses, or not everything is there afterwards.
    fn capture(&self, work: &[Transaction], group: usize) -> Outcome<Option<Measure>>;

    /// An empty hub and so many tills; `None` if it has none. `counted` puts a relay between them that counts bytes,
    /// if the contender cannot count without one.
    ///
    /// # Errors
    /// They do not start.
    fn open(&self, tills: usize, counted: bool) -> Outcome<Option<Box<dyn Fleet>>>;

    /// Whether bytes are only counted through a relay, by drains that are not timed.
    fn needs_relay(&self) -> bool {
        false
    }
}

/// A hub and its tills. They are apart except during [`Fleet::drain`], [`Fleet::again_nothing`] and [`Fleet::live`].
pub trait Fleet {
    /// The tills record while the hub is away; not timed. Tills are in the order of the work, always the same.
    ///
    /// # Errors
    /// Something is refused.
    fn record(&mut self, work: &Work) -> Outcome<()>;

    /// They meet, until the hub has acknowledged everything.
    ///
    /// # Errors
    /// Something does not arrive.
    fn drain(&mut self) -> Outcome<Drained>;

    /// What the hub holds of each till.
    ///
    /// # Errors
    /// It cannot be asked.
    fn held(&mut self) -> Outcome<Vec<Held>>;

    /// They meet again with nothing to say.
    ///
    /// # Errors
    /// They do not come to an end.
    fn again_nothing(&mut self) -> Outcome<Option<Nothing>>;

    /// The first till records one at a time, each until the hub has acknowledged it.
    ///
    /// # Errors
    /// One does not arrive.
    fn live(&mut self, work: &[Transaction]) -> Outcome<Option<Lived>>;

    /// The hub stops properly and comes back, until its first answer.
    ///
    /// # Errors
    /// It does not, or something is gone.
    fn reopen(&mut self) -> Outcome<Option<Reopened>>;
}

/// What "the hub has it" means. Nothing is said of what could be built around a contender.
#[derive(Debug, Clone, Copy)]
#[allow(clippy::struct_excessive_bools, reason = "five independent promises, and a table of them")]
pub struct Promises {
    /// It survives a power cut at the hub.
    pub durable: bool,
    /// Nobody on the way can read it.
    pub encrypted: bool,
    /// The hub knows which till it speaks with.
    pub authenticated: bool,
    /// Every record is signed, chained and checked.
    pub verified: bool,
    /// It is posted in a ledger.
    pub in_the_books: bool,
}

impl Promises {
    /// It was handed over, and that is all.
    pub const NOTHING: Self =
        Self { durable: false, encrypted: false, authenticated: false, verified: false, in_the_books: false };
    /// It is on the hub's disk, and that is all.
    pub const DURABLE: Self = Self { durable: true, ..Self::NOTHING };
}

/// A drain.
#[derive(Debug, Clone, Copy)]
pub struct Drained {
    /// From the first connection until every till has the acknowledgement of its last record.
    pub acknowledged: Duration,
    /// Until everything is in the hub's books, if it has any.
    pub books: Option<Duration>,
    /// Bytes both ways, if they were counted.
    pub wire: Option<u64>,
    /// The most memory that the hub took, bytes, where it is a process of its own.
    pub peak: Option<u64>,
}

/// What a hub holds of one till.
#[derive(Debug)]
pub struct Held {
    /// How many transactions.
    pub count: usize,
    /// The last of them.
    pub last: Option<Last>,
}

/// A transaction as a hub gives it back.
#[derive(Debug)]
pub enum Last {
    /// The bytes that were handed over.
    Bytes(Vec<u8>),
    /// The same JSON, in any order of fields.
    Json(Value),
    /// A view of it, in which the node has added fields.
    View(Value),
}

/// A meeting at which nothing was said.
#[derive(Debug, Clone, Copy)]
pub struct Nothing {
    /// All tills, one after the other or at once as the contender does.
    pub took: Duration,
    /// Bytes of all tills both ways, if they were counted.
    pub wire: Option<u64>,
}

/// Transactions sent one at a time.
#[derive(Debug, Default)]
pub struct Lived {
    /// Until the till has the hub's acknowledgement.
    pub acknowledged: Samples,
    /// Until it is in the hub's books.
    pub books: Samples,
    /// Bytes both ways, if they were counted.
    pub wire: Option<u64>,
}

/// A hub that stopped and came back.
#[derive(Debug, Clone, Copy)]
pub struct Reopened {
    /// What it had on the disk in between.
    pub disk_bytes: u64,
    /// From the start to the first answer that needed the store.
    pub took: Duration,
}

/// Everybody, in the order of the tables; who cannot take part here is named in the results.
pub fn contenders(program: &Path, results: &mut Results) -> Vec<Box<dyn Contender>> {
    let mut all: Vec<Box<dyn Contender>> = vec![
        Box::new(disk::Disk::Preallocated),
        Box::new(disk::Disk::Growing),
        Box::new(quic::Quic { zstd: true }),
        Box::new(quic::Quic { zstd: false }),
        Box::new(tillsync::Tillsync { program: program.to_owned(), apart: true }),
        Box::new(tillsync::Tillsync { program: program.to_owned(), apart: false }),
        Box::new(tillsync::InProcess),
        Box::new(sqlite::Sqlite { zstd: false }),
        Box::new(sqlite::Sqlite { zstd: true }),
    ];
    match postgres::contenders() {
        Ok(both) => all.extend(both),
        Err(why) => results.absent(why),
    }
    all.push(Box::new(samod::Samod));
    all.push(Box::new(in_process::InProcess::<automerge::Document>::default()));
    all.push(Box::new(in_process::InProcess::<yrs::Document>::default()));
    all.push(Box::new(in_process::InProcess::<loro::Document>::default()));
    all
}

/// Bytes that a directory takes on the disk, preallocated ones included.
fn disk_bytes(dir: &Path) -> std::io::Result<u64> {
    use std::os::unix::fs::MetadataExt;
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        // 512 is the unit of `blocks` on every file system.
        bytes += if metadata.is_dir() { disk_bytes(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(bytes)
}
