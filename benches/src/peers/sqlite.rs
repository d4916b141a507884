//! What a shop would build at home: the till keeps an outbox in SQLite and sends what the hub does not have, in batches
//! over one TCP connection; the hub puts each batch into its own SQLite in one durable commit and answers after it. The
//! hub stores the bytes as they come: it parses nothing, which flatters this row.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use tempfile::TempDir;

use super::outbox::Outbox;
use super::tcp::Frames;
use super::{Contender, Drained, Fleet, Held, Last, Lived, Nothing, Promises, Reopened, results};
use crate::Outcome;
use crate::drain::Work;
use crate::stats::{Measure, Samples};
use crate::workload::Transaction;

/// Rows of a batch.
const BATCH_ROWS: usize = 500;
/// Batches on their way before the first must be acknowledged.
const IN_FLIGHT: usize = 8;
const ZSTD_LEVEL: i32 = 3;

const ASK: u8 = 1;
const ROWS: u8 = 2;
const ROWS_ZSTD: u8 = 3;

/// The outbox.
pub struct Sqlite {
    /// Whether batches are compressed.
    pub zstd: bool,
}

impl Contender for Sqlite {
    fn name(&self) -> &'static str {
        if self.zstd { "SQLite outbox over TCP, zstd-3 batches" } else { results::SQLITE }
    }

    fn promises(&self) -> Promises {
        Promises::DURABLE
    }

    fn capture(&self, work: &[Transaction], group: usize) -> Outcome<Option<Measure>> {
        if self.zstd {
            return Ok(None);
        }
        let dir = tempfile::tempdir()?;
        let path = dir.path().join("till");
        let mut outbox = Outbox::open(&path)?;
        let start = Instant::now();
        outbox.record("till", work, group)?;
        let took = start.elapsed();
        drop(outbox);
        let last = work.last().map(|last| last.json.clone());
        assert_eq!(Outbox::open(&path)?.held("till")?, (work.len(), last), "what was captured");
        Ok(Some(Measure::whole(work.len(), took)))
    }

    fn open(&self, tills: usize, _counted: bool) -> Outcome<Option<Box<dyn Fleet>>> {
        Ok(Some(Box::new(Shop::open(tills, self.zstd)?)))
    }
}

/// The hub's database, if it is open; its connections share it.
type Hub = Arc<Mutex<Option<Outbox>>>;

struct Shop {
    tills: Vec<(String, Outbox)>,
    zstd: bool,
    hub: Hub,
    hub_dir: PathBuf,
    address: SocketAddr,
    passed: Arc<AtomicU64>,
    _dir: TempDir,
}

impl Shop {
    fn open(tills: usize, zstd: bool) -> Outcome<Self> {
        let dir = tempfile::tempdir()?;
        let hub_dir = dir.path().join("hub");
        std::fs::create_dir(&hub_dir)?;
        let hub: Hub = Arc::new(Mutex::new(Some(Outbox::open(&hub_dir.join("hub"))?)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let of_thread = Arc::downgrade(&hub);
        // Ends with the program: it waits for a connection that never comes.
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let Some(hub) = of_thread.upgrade() else { return };
                thread::spawn(move || serve(&hub, stream));
            }
        });
        let open_till = |number| -> Outcome<(String, Outbox)> {
            let name = format!("till-{number:02}");
            let outbox = Outbox::open(&dir.path().join(&name))?;
            Ok((name, outbox))
        };
        let tills = (1..=tills).map(open_till).collect::<Outcome<_>>()?;
        Ok(Self { tills, zstd, hub, hub_dir, address, passed: Arc::default(), _dir: dir })
    }

    /// Every till at once; bytes and time of all of them.
    fn each(&mut self, with: impl Fn(&str, &Outbox, &mut Frames) -> Outcome<()> + Sync) -> Outcome<Nothing> {
        let (before, start) = (self.passed.load(Ordering::Relaxed), Instant::now());
        let (address, passed, with) = (self.address, &self.passed, &with);
        thread::scope(|scope| {
            let running: Vec<_> = self
                .tills
                .iter_mut()
                .map(|(name, outbox)| {
                    scope.spawn(move || with(name, outbox, &mut Frames::connect(address, passed)?))
                })
                .collect();
            running.into_iter().try_for_each(|till| till.join().expect("a till does not panic"))
        })?;
        Ok(Nothing { took: start.elapsed(), wire: Some(self.passed.load(Ordering::Relaxed) - before) })
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
        let zstd = self.zstd;
        let Nothing { took, wire } = self.each(|name, outbox, hub| {
            hub.send(ASK, name.as_bytes())?;
            let (mut sent, mut acknowledged, mut in_flight) = (hub.receive_number()?, 0, 0);
            outbox.batches(name, sent, BATCH_ROWS, |jsons| {
                send_rows(hub, sent, jsons, zstd)?;
                sent += jsons.len() as u64;
                in_flight += 1;
                if in_flight == IN_FLIGHT {
                    acknowledged = hub.receive_number()?;
                    in_flight -= 1;
                }
                Ok(())
            })?;
            for _ in 0..in_flight {
                acknowledged = hub.receive_number()?;
            }
            assert_eq!(acknowledged, sent, "what the hub acknowledged to {name}");
            Ok(())
        })?;
        Ok(Drained { acknowledged: took, books: None, wire, peak: None })
    }

    fn held(&mut self) -> Outcome<Vec<Held>> {
        let hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
        let hub = hub.as_ref().ok_or("the hub is closed")?;
        let held = |(name, _): &(String, Outbox)| {
            let (count, last) = hub.held(name)?;
            Ok(Held { count, last: last.map(|json| Last::Bytes(json.into_bytes())) })
        };
        self.tills.iter().map(held).collect()
    }

    fn again_nothing(&mut self) -> Outcome<Option<Nothing>> {
        let nothing = self.each(|name, outbox, hub| {
            hub.send(ASK, name.as_bytes())?;
            assert_eq!(hub.receive_number()?, outbox.head(name)?, "what the hub has of {name}");
            Ok(())
        })?;
        Ok(Some(nothing))
    }

    fn live(&mut self, work: &[Transaction]) -> Outcome<Option<Lived>> {
        let mut lived = Lived::default();
        let (name, outbox) = &mut self.tills[0];
        let mut hub = Frames::connect(self.address, &self.passed)?;
        hub.send(ASK, name.as_bytes())?;
        let mut seq = hub.receive_number()?;
        let before = self.passed.load(Ordering::Relaxed);
        let mut samples = Samples::default();
        for transaction in work {
            let from = Instant::now();
            let next = outbox.insert(name, seq, std::iter::once(transaction.json.as_str()))?;
            send_rows(&mut hub, seq, std::slice::from_ref(&transaction.json), self.zstd)?;
            assert_eq!(hub.receive_number()?, next, "what the hub acknowledged");
            samples.push(from.elapsed());
            seq = next;
        }
        lived.acknowledged = samples;
        lived.wire = Some(self.passed.load(Ordering::Relaxed) - before);
        Ok(Some(lived))
    }

    fn reopen(&mut self) -> Outcome<Option<Reopened>> {
        let mut hub = self.hub.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(database) = hub.take() {
            database.checkpoint()?;
        }
        let disk_bytes = super::disk_bytes(&self.hub_dir)?;
        let start = Instant::now();
        let database = Outbox::open(&self.hub_dir.join("hub"))?;
        assert!(database.head(&self.tills[0].0)? > 0, "the hub lost everything");
        let took = start.elapsed();
        *hub = Some(database);
        Ok(Some(Reopened { disk_bytes, took }))
    }
}

fn send_rows(hub: &mut Frames, after_seq: u64, jsons: &[String], zstd: bool) -> Outcome<()> {
    let mut body = after_seq.to_le_bytes().to_vec();
    let lines = jsons.join("\n");
    if zstd {
        body.extend(zstd::bulk::compress(lines.as_bytes(), ZSTD_LEVEL)?);
        hub.send(ROWS_ZSTD, &body)?;
    } else {
        body.extend(lines.as_bytes());
        hub.send(ROWS, &body)?;
    }
    Ok(())
}

/// One connection at the hub. An error closes it; the till then misses its acknowledgement.
fn serve(hub: &Hub, stream: TcpStream) -> Outcome<()> {
    let (mut frames, mut terminal) = (Frames::accepted(stream)?, String::new());
    while let Some((kind, body)) = frames.receive()? {
        let number = if kind == ASK {
            terminal = String::from_utf8(body)?;
            let hub = hub.lock().unwrap_or_else(PoisonError::into_inner);
            hub.as_ref().ok_or("the hub is closed")?.head(&terminal)?
        } else {
            let (after_seq, lines) = body.split_first_chunk().ok_or("a frame of rows is too short")?;
            let unpacked;
            let lines = if kind == ROWS_ZSTD {
                unpacked = zstd::stream::decode_all(lines)?;
                &unpacked[..]
            } else {
                lines
            };
            let lines = std::str::from_utf8(lines)?.lines();
            let mut hub = hub.lock().unwrap_or_else(PoisonError::into_inner);
            let hub = hub.as_mut().ok_or("the hub is closed")?;
            hub.insert(&terminal, u64::from_le_bytes(*after_seq), lines)?
        };
        frames.send(0, &number.to_le_bytes())?;
    }
    Ok(())
}
