//! samod: Automerge documents over its own TCP transport, in its own file system storage. It waits for no disk and says
//! nothing of durability, so its acknowledgement means "the hub's document has it". The hub does not offer documents to
//! tills that did not ask for them: by default it would, to every one, and take many times as long.
//!
//! What a till records offline is put into its storage as one snapshot, as samod itself would leave it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use ::automerge::{ActorId, Automerge};
use samod::storage::TokioFilesystemStorage;
use samod::{BackoffConfig, ConnectionId, DocHandle, DocumentId, PeerId, Repo, ShareConfig};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use url::Url;

use super::automerge::{append, held, make_list};
use super::{Contender, Drained, Fleet, Held, Last, Lived, Nothing, Promises, Reopened};
use crate::Outcome;
use crate::drain::Work;
use crate::stats::{Measure, Samples};
use crate::workload::Transaction;

/// The contender.
pub struct Samod;

impl Contender for Samod {
    fn name(&self) -> &'static str {
        "samod 0.16 over TCP, not durable at either end"
    }

    fn promises(&self) -> Promises {
        Promises::NOTHING
    }

    /// It cannot: nothing tells when something is on the disk.
    fn capture(&self, _work: &[Transaction], _group: usize) -> Outcome<Option<Measure>> {
        Ok(None)
    }

    fn open(&self, tills: usize, _counted: bool) -> Outcome<Option<Box<dyn Fleet>>> {
        Ok(Some(Box::new(Shop::open(tills)?)))
    }
}

struct Till {
    id: DocumentId,
    dir: PathBuf,
    /// What it recorded.
    document: Automerge,
}

struct Hub {
    repo: Repo,
    address: SocketAddr,
    accepting: JoinHandle<()>,
}

struct Shop {
    tills: Vec<Till>,
    hub: Option<Hub>,
    passed: Arc<AtomicU64>,
    runtime: Runtime,
    dir: TempDir,
}

/// A till that runs and is connected.
struct Connected {
    repo: Repo,
    handle: DocHandle,
    connection: ConnectionId,
}

impl Shop {
    fn open(tills: usize) -> Outcome<Self> {
        let (dir, runtime) = (tempfile::tempdir()?, Runtime::new()?);
        let passed = Arc::default();
        let hub = runtime.block_on(Hub::open(&dir.path().join("hub"), &passed))?;
        let ids: Outcome<Vec<DocumentId>> = runtime.block_on(async {
            let somewhere = Repo::build_tokio().load().await;
            let mut ids = Vec::new();
            for _ in 0..tills {
                ids.push(somewhere.create(Automerge::new()).await?.document_id().clone());
            }
            somewhere.stop().await;
            Ok(ids)
        });
        let open_till = |(at, id): (usize, DocumentId)| -> Outcome<Till> {
            let number = u8::try_from(at + 1)?;
            let mut document = Automerge::new().with_actor(ActorId::from([number; 16]));
            make_list(&mut document)?;
            Ok(Till { id, dir: dir.path().join(format!("till-{number:02}")), document })
        };
        let tills = ids?.into_iter().enumerate().map(open_till).collect::<Outcome<_>>()?;
        Ok(Self { tills, hub: Some(hub), passed, runtime, dir })
    }

    fn hub(&self) -> Outcome<&Hub> {
        self.hub.as_ref().ok_or_else(|| "the hub is closed".into())
    }

    /// All tills start, which is not timed, and connect at once, until both ends have what the other had.
    fn meet(&self) -> Outcome<(Nothing, Vec<Connected>)> {
        let address = self.hub()?.address;
        self.runtime.block_on(async {
            let mut started = Vec::new();
            for till in &self.tills {
                started.push(till.start().await?);
            }
            let (before, start) = (self.passed.load(Ordering::Relaxed), Instant::now());
            let meeting: Vec<_> = started
                .into_iter()
                .map(|(repo, handle)| tokio::spawn(connect(repo, handle, address)))
                .collect();
            let mut connected = Vec::new();
            for meeting in meeting {
                connected.push(meeting.await??);
            }
            let took = start.elapsed();
            Ok((Nothing { took, wire: Some(self.passed.load(Ordering::Relaxed) - before) }, connected))
        })
    }

    /// As [`Shop::meet`], and the tills go again.
    fn visit(&self) -> Outcome<Nothing> {
        let (nothing, connected) = self.meet()?;
        self.runtime.block_on(async {
            for till in connected {
                till.repo.stop().await;
            }
        });
        Ok(nothing)
    }
}

impl Till {
    async fn start(&self) -> Outcome<(Repo, DocHandle)> {
        let peer = PeerId::from(self.id.to_string().as_str());
        let storage = TokioFilesystemStorage::new(&self.dir);
        let repo = Repo::build_tokio().with_peer_id(peer).with_storage(storage).load().await;
        let handle = repo.find(self.id.clone()).await?.ok_or("a till has lost its document")?;
        Ok((repo, handle))
    }
}

impl Hub {
    async fn open(dir: &Path, passed: &Arc<AtomicU64>) -> Outcome<Self> {
        let repo = Repo::build_tokio()
            .with_peer_id(PeerId::from("hub"))
            .with_storage(TokioFilesystemStorage::new(dir))
            .with_share_policy(ShareConfig::read_write().with_announce(false))
            .load()
            .await;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (acceptor, passed) = (repo.make_acceptor(at(address)?)?, Arc::clone(passed));
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let _ = stream.set_nodelay(true);
                if acceptor.accept_tokio_io(Counted { stream, passed: Arc::clone(&passed) }).is_err() {
                    return;
                }
            }
        });
        Ok(Self { repo, address, accepting })
    }
}

fn at(address: SocketAddr) -> Outcome<Url> {
    Ok(Url::parse(&format!("tcp://{address}"))?)
}

async fn connect(repo: Repo, handle: DocHandle, hub: SocketAddr) -> Outcome<Connected> {
    let dialer = repo.dial_tcp(at(hub)?, BackoffConfig::default())?;
    dialer.established().await.map_err(|error| format!("no connection: {error:?}"))?;
    let connection = dialer.connection_id().ok_or("the connection is gone")?;
    handle.they_have_our_changes(connection).await;
    handle.we_have_their_changes(connection).await;
    Ok(Connected { repo, handle, connection })
}

impl Fleet for Shop {
    fn record(&mut self, work: &Work) -> Outcome<()> {
        for (till, (_, transactions)) in self.tills.iter_mut().zip(work) {
            for transaction in transactions {
                append(&mut till.document, std::slice::from_ref(transaction))?;
            }
            // Where samod looks: <id[..2]>/<id[2..]>/snapshot/<name>.
            let id = till.id.to_string();
            let (first, rest) = id.split_at_checked(2).ok_or("a document id is too short")?;
            let dir = till.dir.join(first).join(rest).join("snapshot");
            std::fs::create_dir_all(&dir)?;
            std::fs::write(dir.join("recorded"), till.document.save())?;
        }
        Ok(())
    }

    fn drain(&mut self) -> Outcome<Drained> {
        let Nothing { took, wire } = self.visit()?;
        Ok(Drained { acknowledged: took, books: None, wire, peak: None })
    }

    fn held(&mut self) -> Outcome<Vec<Held>> {
        let hub = self.hub()?;
        self.runtime.block_on(async {
            let mut all = Vec::new();
            for till in &self.tills {
                let handle = hub.repo.find(till.id.clone()).await?.ok_or("the hub has no such document")?;
                let (count, last) =
                    tokio::task::spawn_blocking(move || handle.with_document(|document| held(document)))
                        .await??;
                all.push(Held { count, last: last.map(Last::Bytes) });
            }
            Ok(all)
        })
    }

    fn again_nothing(&mut self) -> Outcome<Option<Nothing>> {
        self.visit().map(Some)
    }

    fn live(&mut self, work: &[Transaction]) -> Outcome<Option<Lived>> {
        let address = self.hub()?.address;
        self.runtime.block_on(async {
            let (repo, handle) = self.tills[0].start().await?;
            let Connected { repo, handle, connection } = connect(repo, handle, address).await?;
            let (before, mut samples) = (self.passed.load(Ordering::Relaxed), Samples::default());
            for transaction in work {
                let (from, writer, one) = (Instant::now(), handle.clone(), transaction.clone());
                tokio::task::spawn_blocking(move || {
                    writer.with_document(|document| append(document, std::slice::from_ref(&one)))
                })
                .await??;
                handle.they_have_our_changes(connection).await;
                samples.push(from.elapsed());
            }
            let wire = Some(self.passed.load(Ordering::Relaxed) - before);
            repo.stop().await;
            Ok(Some(Lived { acknowledged: samples, wire, ..Lived::default() }))
        })
    }

    fn reopen(&mut self) -> Outcome<Option<Reopened>> {
        let dir = self.dir.path().join("hub");
        if let Some(hub) = self.hub.take() {
            hub.accepting.abort();
            self.runtime.block_on(hub.repo.stop());
        }
        let disk_bytes = super::disk_bytes(&dir)?;
        let start = Instant::now();
        self.hub = Some(self.runtime.block_on(Hub::open(&dir, &self.passed))?);
        let held = self.held()?;
        assert!(held.iter().all(|held| held.count > 0), "the hub lost a document");
        Ok(Some(Reopened { disk_bytes, took: start.elapsed() }))
    }
}

/// A stream that counts its bytes, both ways.
struct Counted {
    stream: TcpStream,
    passed: Arc<AtomicU64>,
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.passed.fetch_add((buffer.filled().len() - before) as u64, Ordering::Relaxed);
        polled
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if let Poll::Ready(Ok(written)) = &polled {
            self.passed.fetch_add(*written as u64, Ordering::Relaxed);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
