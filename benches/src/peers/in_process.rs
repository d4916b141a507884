//! Document libraries, as far as they are libraries: each till has a document of its own, the hub a copy of each, both
//! in this process and one after the other. What they say to each other is encoded, counted and decoded, but goes over
//! no network. Whoever has something new appends it to a file and fdatasyncs, because they store nothing themselves.
//! One value of opaque bytes for a transaction, one change for each: fields of their own would cost several times more.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::time::Instant;

use tempfile::TempDir;

use super::{Contender, Drained, Fleet, Held, Last, Lived, Nothing, Promises, Reopened};
use crate::Outcome;
use crate::drain::Work;
use crate::stats::{Measure, Samples};
use crate::workload::Transaction;

/// A document that holds a list of transactions, and what it knows of the one it talks with.
pub trait Document: Sized + 'static {
    /// Name of the contender's rows.
    const NAME: &'static str;

    /// A till's, numbered from 1, without transactions.
    ///
    /// # Errors
    /// The library refuses.
    fn of_till(number: u8) -> Outcome<Self>;

    /// A hub's copy, that knows nothing yet.
    ///
    /// # Errors
    /// The library refuses.
    fn copy() -> Outcome<Self>;

    /// Adds transactions in one change and gives what must be kept of it.
    ///
    /// # Errors
    /// The library refuses.
    fn append(&mut self, work: &[Transaction]) -> Outcome<Vec<u8>>;

    /// A new connection: forgets what only a held one knows.
    ///
    /// # Errors
    /// The library refuses.
    fn connect(&mut self) -> Outcome<()> {
        Ok(())
    }

    /// Talks until the hub has everything and the till knows it; gives the bytes of all messages.
    ///
    /// # Errors
    /// The library refuses, or the hub's disk.
    fn meet(&mut self, hub: &mut Self, log: &mut Log) -> Outcome<u64>;

    /// Takes in what was kept.
    ///
    /// # Errors
    /// The library refuses.
    fn load(kept: &[&[u8]]) -> Outcome<Self>;

    /// How many transactions there are, and the last.
    ///
    /// # Errors
    /// The document is not what was made of it.
    fn held(&self) -> Outcome<(usize, Option<Vec<u8>>)>;
}

/// A file to which pieces are appended, each with its length.
pub struct Log(File);

impl Log {
    fn open(path: &Path) -> Outcome<Self> {
        Ok(Self(OpenOptions::new().create(true).append(true).open(path)?))
    }

    /// Appends a piece.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn append(&mut self, piece: &[u8]) -> Outcome<()> {
        let mut framed = u32::try_from(piece.len())?.to_le_bytes().to_vec();
        framed.extend(piece);
        self.0.write_all(&framed)?;
        self.0.sync_data()?;
        Ok(())
    }

    /// Its pieces.
    fn pieces(mut bytes: &[u8]) -> Outcome<Vec<&[u8]>> {
        let mut pieces = Vec::new();
        while let Some((length, rest)) = bytes.split_first_chunk() {
            let length = u32::from_le_bytes(*length) as usize;
            let (piece, rest) = rest.split_at_checked(length).ok_or("a log ends within a piece")?;
            pieces.push(piece);
            bytes = rest;
        }
        Ok(pieces)
    }
}

/// A document library as a contender.
pub struct InProcess<D>(PhantomData<D>);

impl<D> Default for InProcess<D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<D: Document> Contender for InProcess<D> {
    fn name(&self) -> &'static str {
        D::NAME
    }

    fn promises(&self) -> Promises {
        Promises::DURABLE
    }

    fn capture(&self, work: &[Transaction], group: usize) -> Outcome<Option<Measure>> {
        let dir = tempfile::tempdir()?;
        let (mut document, mut log) = (D::of_till(1)?, Log::open(&dir.path().join("till"))?);
        let start = Instant::now();
        for chunk in work.chunks(group) {
            log.append(&document.append(chunk)?)?;
        }
        let took = start.elapsed();
        let last = work.last().map(|last| last.json.clone().into_bytes());
        assert_eq!(document.held()?, (work.len(), last), "what was captured");
        Ok(Some(Measure::whole(work.len(), took)))
    }

    fn open(&self, tills: usize, _counted: bool) -> Outcome<Option<Box<dyn Fleet>>> {
        let dir = tempfile::tempdir()?;
        let hub_dir = dir.path().join("hub");
        std::fs::create_dir(&hub_dir)?;
        let mut pairs = Vec::new();
        for number in 1..=u8::try_from(tills)? {
            pairs.push(Pair {
                till: D::of_till(number)?,
                hub: D::copy()?,
                log: Log::open(&hub_dir.join(number.to_string()))?,
            });
        }
        let till_log = Log::open(&dir.path().join("till"))?;
        Ok(Some(Box::new(Pairs { pairs, till_log, hub_dir, _dir: dir })))
    }
}

/// A till's document, the hub's copy of it, and the hub's file of that.
struct Pair<D> {
    till: D,
    hub: D,
    log: Log,
}

struct Pairs<D> {
    pairs: Vec<Pair<D>>,
    /// The first till's file, for what it records live.
    till_log: Log,
    hub_dir: PathBuf,
    _dir: TempDir,
}

impl<D: Document> Pairs<D> {
    fn meet(&mut self) -> Outcome<Nothing> {
        let (mut bytes, start) = (0, Instant::now());
        for pair in &mut self.pairs {
            pair.till.connect()?;
            pair.hub.connect()?;
            bytes += pair.till.meet(&mut pair.hub, &mut pair.log)?;
        }
        Ok(Nothing { took: start.elapsed(), wire: Some(bytes) })
    }
}

impl<D: Document> Fleet for Pairs<D> {
    fn record(&mut self, work: &Work) -> Outcome<()> {
        for (pair, (_, transactions)) in self.pairs.iter_mut().zip(work) {
            for transaction in transactions {
                pair.till.append(std::slice::from_ref(transaction))?;
            }
        }
        Ok(())
    }

    fn drain(&mut self) -> Outcome<Drained> {
        let Nothing { took, wire } = self.meet()?;
        Ok(Drained { acknowledged: took, books: None, wire, peak: None })
    }

    fn held(&mut self) -> Outcome<Vec<Held>> {
        let held = |pair: &Pair<D>| {
            let (count, last) = pair.hub.held()?;
            Ok(Held { count, last: last.map(Last::Bytes) })
        };
        self.pairs.iter().map(held).collect()
    }

    fn again_nothing(&mut self) -> Outcome<Option<Nothing>> {
        self.meet().map(Some)
    }

    fn live(&mut self, work: &[Transaction]) -> Outcome<Option<Lived>> {
        let Pair { till, hub, log } = &mut self.pairs[0];
        let mut bytes = till.meet(hub, log).map(|_| 0)?;
        let mut samples = Samples::default();
        for transaction in work {
            let from = Instant::now();
            let change = till.append(std::slice::from_ref(transaction))?;
            self.till_log.append(&change)?;
            bytes += till.meet(hub, log)?;
            samples.push(from.elapsed());
        }
        Ok(Some(Lived { acknowledged: samples, wire: Some(bytes), ..Lived::default() }))
    }

    fn reopen(&mut self) -> Outcome<Option<Reopened>> {
        let disk_bytes = super::disk_bytes(&self.hub_dir)?;
        let start = Instant::now();
        for (at, pair) in self.pairs.iter_mut().enumerate() {
            let kept = std::fs::read(self.hub_dir.join((at + 1).to_string()))?;
            pair.hub = D::load(&Log::pieces(&kept)?)?;
            assert!(pair.hub.held()?.0 > 0, "the hub lost a document");
        }
        Ok(Some(Reopened { disk_bytes, took: start.elapsed() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{automerge, loro, yrs};
    use super::*;
    use crate::workload::transactions;

    fn goes_and_comes_back<D: Document>() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        let work = transactions("till-01", 40, 1);
        let last = |at: usize| Some(work[at].json.clone().into_bytes());
        let (mut till, mut hub) = (D::of_till(1).unwrap(), D::copy().unwrap());
        let mut log = Log::open(&path).unwrap();
        till.append(&work[..30]).unwrap();
        assert!(till.meet(&mut hub, &mut log).unwrap() > 0);
        assert_eq!(hub.held().unwrap(), (30, last(29)));
        for transaction in &work[30..] {
            till.append(std::slice::from_ref(transaction)).unwrap();
            till.meet(&mut hub, &mut log).unwrap();
        }
        assert_eq!(hub.held().unwrap(), (40, last(39)));
        // What the hub kept is enough to come back.
        let kept = std::fs::read(&path).unwrap();
        let again = D::load(&Log::pieces(&kept).unwrap()).unwrap();
        assert_eq!(again.held().unwrap(), (40, last(39)), "{}", D::NAME);
    }

    #[test]
    fn every_library_brings_all_transactions_and_keeps_enough_to_come_back() {
        goes_and_comes_back::<automerge::Document>();
        goes_and_comes_back::<yrs::Document>();
        goes_and_comes_back::<loro::Document>();
    }
}
