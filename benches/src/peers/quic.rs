//! The limit that this machine sets to a drain over an encrypted line: blocks of transactions over QUIC, appended to a
//! file for each till, fdatasync, acknowledged. No record is looked at. Blocks are made when the tills record, so no
//! drain waits for compression; the hub unpacks what is packed.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use quinn::{Connection, Endpoint, RecvStream, SendStream};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::quic_ends::{self, bytes};
use super::quic_log::{Block, HEAD_BYTES, Log, head, lines};
use super::{Contender, Drained, Fleet, Held, Last, Lived, Nothing, Promises, Reopened, results};
use crate::Outcome;
use crate::drain::Work;
use crate::stats::{Measure, Samples};
use crate::workload::Transaction;

/// Transactions of a block.
const BLOCK_ROWS: usize = 1_000;

/// The limit.
pub struct Quic {
    /// Whether blocks are compressed.
    pub zstd: bool,
}

impl Contender for Quic {
    fn name(&self) -> &'static str {
        if self.zstd {
            results::QUIC
        } else {
            "limit: QUIC + TLS, raw blocks of 1,000, append + fdatasync + ack"
        }
    }

    fn promises(&self) -> Promises {
        Promises {
            durable: true,
            encrypted: true,
            authenticated: false,
            verified: false,
            in_the_books: false,
        }
    }

    fn capture(&self, _work: &[Transaction], _group: usize) -> Outcome<Option<Measure>> {
        Ok(None)
    }

    fn open(&self, tills: usize, _counted: bool) -> Outcome<Option<Box<dyn Fleet>>> {
        Ok(Some(Box::new(Shop::open(tills, self.zstd)?)))
    }
}

struct Hub {
    dir: PathBuf,
    logs: Mutex<BTreeMap<String, Arc<Mutex<Log>>>>,
}

impl Hub {
    fn log(&self, till: &str) -> Outcome<Arc<Mutex<Log>>> {
        let mut logs = self.logs.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = logs.get(till) {
            return Ok(Arc::clone(log));
        }
        let log = Arc::new(Mutex::new(Log::open(&self.dir.join(till))?));
        logs.insert(till.to_owned(), Arc::clone(&log));
        Ok(log)
    }
}

struct Till {
    name: String,
    endpoint: Endpoint,
    blocks: Vec<Block>,
    count: u64,
    file: File,
}

struct Shop {
    tills: Vec<Till>,
    zstd: bool,
    hub: Arc<Hub>,
    address: SocketAddr,
    runtime: Runtime,
    _dir: TempDir,
}

impl Shop {
    fn open(tills: usize, zstd: bool) -> Outcome<Self> {
        let (dir, runtime) = (tempfile::tempdir()?, Runtime::new()?);
        let hub = Arc::new(Hub { dir: dir.path().join("hub"), logs: Mutex::default() });
        std::fs::create_dir(&hub.dir)?;
        let entered = runtime.enter();
        let (endpoint, certificate) = quic_ends::hub()?;
        let address = endpoint.local_addr()?;
        runtime.spawn(accept(endpoint, Arc::clone(&hub)));
        let open_till = |number| -> Outcome<Till> {
            let name = format!("till-{number:02}");
            let file = File::create(dir.path().join(&name))?;
            let endpoint = quic_ends::till(certificate.clone())?;
            Ok(Till { name, endpoint, blocks: Vec::new(), count: 0, file })
        };
        let tills = (1..=tills).map(open_till).collect::<Outcome<_>>()?;
        drop(entered);
        Ok(Self { tills, zstd, hub, address, runtime, _dir: dir })
    }

    /// Every till connects, sends what the hub does not have, waits for the acknowledgement and goes.
    fn meet(&mut self) -> Outcome<Nothing> {
        let (start, address) = (Instant::now(), self.address);
        let visits: Vec<_> = self
            .tills
            .iter_mut()
            .map(|till| {
                let blocks = std::mem::take(&mut till.blocks);
                self.runtime.spawn(visit(
                    till.endpoint.clone(),
                    address,
                    till.name.clone(),
                    blocks,
                    till.count,
                ))
            })
            .collect();
        let mut wire = 0;
        for (visit, till) in visits.into_iter().zip(&mut self.tills) {
            let (blocks, bytes) = self.runtime.block_on(visit)??;
            (till.blocks, wire) = (blocks, wire + bytes);
        }
        Ok(Nothing { took: start.elapsed(), wire: Some(wire) })
    }
}

impl Fleet for Shop {
    fn record(&mut self, work: &Work) -> Outcome<()> {
        for (till, (_, transactions)) in self.tills.iter_mut().zip(work) {
            for chunk in transactions.chunks(BLOCK_ROWS) {
                let block = Block::new(till.count, chunk, self.zstd)?;
                till.count += chunk.len() as u64;
                till.file.write_all(&block.bytes)?;
                till.blocks.push(block);
            }
            till.file.sync_data()?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Outcome<Drained> {
        let Nothing { took, wire } = self.meet()?;
        Ok(Drained { acknowledged: took, books: None, wire, peak: None })
    }

    /// From the files themselves.
    fn held(&mut self) -> Outcome<Vec<Held>> {
        let held = |till: &Till| {
            let mut file = File::open(self.hub.dir.join(&till.name))?;
            let (mut first, mut count, mut last) = ([0; HEAD_BYTES], 0, None);
            while file.read_exact(&mut first).is_ok() {
                let (packed, _, length) = head(first)?;
                let mut body = vec![0; length];
                file.read_exact(&mut body)?;
                let lines = lines(packed, &body)?;
                count += lines.split(|byte| *byte == b'\n').count();
                last = lines.rsplit(|byte| *byte == b'\n').next().map(<[u8]>::to_vec);
            }
            Ok(Held { count, last: last.map(Last::Bytes) })
        };
        self.tills.iter().map(held).collect()
    }

    fn again_nothing(&mut self) -> Outcome<Option<Nothing>> {
        self.meet().map(Some)
    }

    fn live(&mut self, work: &[Transaction]) -> Outcome<Option<Lived>> {
        let (till, zstd) = (&mut self.tills[0], self.zstd);
        self.runtime.block_on(async {
            let (connection, mut send, mut receive, _) =
                meet(&till.endpoint, self.address, &till.name).await?;
            let (before, mut samples) = (bytes(&connection), Samples::default());
            for transaction in work {
                let from = Instant::now();
                let block = Block::new(till.count, std::slice::from_ref(transaction), zstd)?;
                till.file.write_all(&block.bytes)?;
                till.file.sync_data()?;
                send.write_all(&block.bytes).await?;
                till.count += 1;
                assert_eq!(number(&mut receive).await?, till.count, "what the hub acknowledged");
                samples.push(from.elapsed());
                till.blocks.push(block);
            }
            let wire = Some(bytes(&connection) - before);
            connection.close(0_u8.into(), b"");
            Ok(Some(Lived { acknowledged: samples, wire, ..Lived::default() }))
        })
    }

    fn reopen(&mut self) -> Outcome<Option<Reopened>> {
        self.hub.logs.lock().unwrap_or_else(PoisonError::into_inner).clear();
        let disk_bytes = super::disk_bytes(&self.hub.dir)?;
        let start = Instant::now();
        for till in &self.tills {
            let log = self.hub.log(&till.name)?;
            assert_eq!(log.lock().unwrap_or_else(PoisonError::into_inner).count, till.count, "what is there");
        }
        Ok(Some(Reopened { disk_bytes, took: start.elapsed() }))
    }
}

/// Connects, says who it is, and hears how many transactions the hub has.
async fn meet(
    endpoint: &Endpoint,
    hub: SocketAddr,
    name: &str,
) -> Outcome<(Connection, SendStream, RecvStream, u64)> {
    let connection = quic_ends::connect(endpoint, hub).await?;
    let (mut send, mut receive) = connection.open_bi().await?;
    send.write_all(&[u8::try_from(name.len())?]).await?;
    send.write_all(name.as_bytes()).await?;
    let has = number(&mut receive).await?;
    Ok((connection, send, receive, has))
}

/// Gives the blocks back, and the bytes that passed.
async fn visit(
    endpoint: Endpoint,
    hub: SocketAddr,
    name: String,
    blocks: Vec<Block>,
    count: u64,
) -> Outcome<(Vec<Block>, u64)> {
    let (connection, mut send, mut receive, mut has) = meet(&endpoint, hub, &name).await?;
    let from = blocks.partition_point(|block| block.after < has);
    let sending = tokio::spawn(async move {
        for block in &blocks[from..] {
            send.write_all(&block.bytes).await?;
        }
        send.finish()?;
        Outcome::Ok(blocks)
    });
    while has < count {
        has = number(&mut receive).await?;
    }
    let blocks = sending.await??;
    let bytes = bytes(&connection);
    connection.close(0_u8.into(), b"");
    Ok((blocks, bytes))
}

async fn number(receive: &mut RecvStream) -> Outcome<u64> {
    let mut bytes = [0; 8];
    receive.read_exact(&mut bytes).await?;
    Ok(u64::from_le_bytes(bytes))
}

async fn accept(endpoint: Endpoint, hub: Arc<Hub>) {
    while let Some(incoming) = endpoint.accept().await {
        tokio::spawn(serve(incoming, Arc::clone(&hub)));
    }
}

/// One connection at the hub. An error closes it; the till then misses its acknowledgement.
async fn serve(incoming: quinn::Incoming, hub: Arc<Hub>) -> Outcome<()> {
    let connection = incoming.await?;
    let (mut send, mut receive) = connection.accept_bi().await?;
    let mut length = [0];
    receive.read_exact(&mut length).await?;
    let mut name = vec![0; usize::from(length[0])];
    receive.read_exact(&mut name).await?;
    let log = hub.log(&String::from_utf8(name)?)?;
    let has = log.lock().unwrap_or_else(PoisonError::into_inner).count;
    send.write_all(&has.to_le_bytes()).await?;
    let mut first = [0; HEAD_BYTES];
    while receive.read_exact(&mut first).await.is_ok() {
        let (_, _, length) = head(first)?;
        let mut block = vec![0; HEAD_BYTES + length];
        block[..HEAD_BYTES].copy_from_slice(&first);
        receive.read_exact(&mut block[HEAD_BYTES..]).await?;
        let log = Arc::clone(&log);
        let appended = tokio::task::spawn_blocking(move || {
            log.lock().unwrap_or_else(PoisonError::into_inner).append(&block)
        });
        send.write_all(&appended.await??.to_le_bytes()).await?;
    }
    // The till closes when it has read the last acknowledgement.
    connection.closed().await;
    Ok(())
}
