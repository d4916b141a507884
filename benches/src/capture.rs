//! Capture alone, without a network: what a cashier waits for. Once in this process (the store's task over a real
//! storage, without HTTP) and once as the product runs, over kept HTTP connections.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use ed25519_dalek::SigningKey;
use engine::ids::{LogId, WriterId};
use engine::replica::{Identity, Replica};
use engine::transaction::Draft;
use node::hub::base_policy;
use node::runtime::audit::AuditLog;
use node::runtime::clock::Clock;
use node::runtime::restore::RestoredStore;
use node::runtime::store::{self, StoreHandle};
use node::runtime::workroom::Home;
use node::storage::vault::{self, Source, Vault};
use node::storage::{Options, Storage};

use crate::process::Node;
use crate::shop::{Shop, post_lines};
use crate::stats::{Measure, Samples, nanos};
use crate::table::row;
use crate::workload::{Transaction, transactions};
use crate::{Outcome, Sizes};

/// How many captures are on their way at the same time.
const AT_A_TIME: usize = 32;
/// Lines of one POST in the NDJSON row.
pub const LINES: usize = 100;

/// The store's task in this process, one at a time and 32 at a time, plain and encrypted.
///
/// # Errors
/// The disk refuses, or something that was captured is not in the books.
pub fn in_process(sizes: &Sizes, round: u64) -> Outcome<Vec<(&'static str, Measure)>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut rows = Vec::new();
    for (row, count, at_a_time, sealed) in [
        (row::CAPTURE_1, sizes.single, 1, false),
        (row::CAPTURE_1_SEALED, sizes.single, 1, true),
        (row::CAPTURE_32, sizes.many, AT_A_TIME, false),
        (row::CAPTURE_32_SEALED, sizes.many, AT_A_TIME, true),
    ] {
        let work = Arc::new(transactions("till-01", count, round));
        rows.push((row, runtime.block_on(through_the_task(work, at_a_time, sealed))?));
    }
    Ok(rows)
}

async fn through_the_task(work: Arc<Vec<Transaction>>, at_a_time: usize, sealed: bool) -> Outcome<Measure> {
    let (dir, keys) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let key = keys.path().join("key");
    vault::new_key_file(&key)?;
    let vault = sealed.then(|| Vault::create(dir.path(), &Source::key_file(&key)?)).transpose()?;
    let (storage, _) = Storage::open(dir.path(), &Options { vault, ..Options::default() })?;
    let handle = start(&storage)?;
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let workers: Vec<_> = (0..at_a_time)
        .map(|_| tokio::spawn(capture_in_turn(handle.clone(), Arc::clone(&work), Arc::clone(&next))))
        .collect();
    let mut samples = Samples::default();
    for worker in workers {
        samples.extend(worker.await??);
    }
    let took = start.elapsed();
    let found = handle.ask(|replica| (replica.books().len(), replica.books().cases().count())).await?;
    assert_eq!(found, (work.len(), 0), "records in the books, and cases");
    handle.stop().await;
    storage.close()?;
    Ok(samples.measure(work.len(), took))
}

/// The store's task in this process, `group` drafts handed over before their answers are waited for.
///
/// # Errors
/// The disk refuses, or something that was captured is not in the books.
#[cfg(feature = "peers")]
pub fn in_groups(work: &[Transaction], group: usize) -> Outcome<Measure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let dir = tempfile::tempdir()?;
        let (storage, _) = Storage::open(dir.path(), &Options::default())?;
        let handle = start(&storage)?;
        let start = Instant::now();
        for chunk in work.chunks(group) {
            let mut waiting = Vec::with_capacity(chunk.len());
            for transaction in chunk {
                waiting.push(handle.capture_later(Draft::from_json(&transaction.json)?).await?);
            }
            for (answer, transaction) in waiting.into_iter().zip(chunk) {
                assert_eq!(answer.await??.receipt, transaction.receipt);
            }
        }
        let took = start.elapsed();
        let found = handle.ask(|replica| (replica.books().len(), replica.books().cases().count())).await?;
        assert_eq!(found, (work.len(), 0), "records in the books, and cases");
        handle.stop().await;
        storage.close()?;
        Ok(Measure::whole(work.len(), took))
    })
}

async fn capture_in_turn(
    handle: StoreHandle,
    work: Arc<Vec<Transaction>>,
    next: Arc<AtomicUsize>,
) -> Outcome<Vec<u64>> {
    let mut times = Vec::new();
    while let Some(transaction) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
        let from = Instant::now();
        let draft = Draft::from_json(&transaction.json)?;
        let receipt = handle.capture(draft).await?;
        times.push(nanos(from.elapsed()));
        assert_eq!(receipt.receipt, transaction.receipt);
    }
    Ok(times)
}

fn start(storage: &Storage) -> Outcome<StoreHandle> {
    let key = SigningKey::from_bytes(&[7; 32]);
    let identity = Identity {
        store: "high-street".parse()?,
        log: LogId { terminal: "till-01".parse()?, incarnation: 1 },
        hub: WriterId(SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes()),
        key,
        nonce: [9; 16],
    };
    let replica = Replica::new(identity, base_policy("GBP".parse()?));
    let audit = AuditLog::new(storage.clone(), VecDeque::new());
    let clock = Clock::in_zone("Europe/London")?;
    Ok(store::start(RestoredStore::of(replica), Home::in_memory(storage.clone()), audit, clock))
}

/// A till's process, offline, over HTTP.
///
/// # Errors
/// A node does not start, refuses something, or loses something.
pub fn product(program: &Path, sizes: &Sizes, round: u64) -> Outcome<Vec<(&'static str, Measure)>> {
    let mut shop = Shop::open(program, 1)?;
    shop.stop_hub()?;
    let till = shop.tills[0].node()?;
    let work = transactions("till-01", sizes.single + 2 * sizes.many, round);
    let (singly, rest) = work.split_at(sizes.single);
    let (together, in_lines) = rest.split_at(sizes.many);
    let rows = vec![
        (row::HTTP_1, over_http(till, singly, 1)?),
        (row::HTTP_EMPTY, nothing(till, sizes.single)?),
        (row::HTTP_32, over_http(till, together, AT_A_TIME)?),
        (row::HTTP_LINES, lines(till, in_lines)?),
    ];
    let status = till.connect()?.get("/v1/status")?.json()?;
    assert_eq!(status["head_seq"].as_u64(), Some(work.len() as u64), "records at the till: {status}");
    assert_eq!(status["open_cases"].as_u64(), Some(0), "cases at the till: {status}");
    Ok(rows)
}

/// Transactions posted one by one, so many at a time.
///
/// # Errors
/// One is refused.
pub fn over_http(till: &Node, work: &[Transaction], at_a_time: usize) -> Outcome<Measure> {
    let next = AtomicUsize::new(0);
    let mut connections = Vec::new();
    for _ in 0..at_a_time {
        connections.push(till.connect()?);
    }
    let start = Instant::now();
    let times: Vec<Outcome<Vec<u64>>> = std::thread::scope(|scope| {
        let workers: Vec<_> = connections
            .iter_mut()
            .map(|http| {
                scope.spawn(|| {
                    let mut times = Vec::new();
                    while let Some(transaction) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let from = Instant::now();
                        let answer =
                            http.post("/v1/transactions", "application/json", transaction.json.as_bytes())?;
                        times.push(nanos(from.elapsed()));
                        if answer.status != 201 {
                            return Err(
                                format!("not saved: {}", String::from_utf8_lossy(&answer.body)).into()
                            );
                        }
                    }
                    Ok(times)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("a worker does not panic")).collect()
    });
    let took = start.elapsed();
    let mut samples = Samples::default();
    for times in times {
        samples.extend(times?);
    }
    Ok(samples.measure(work.len(), took))
}

/// Transactions posted as NDJSON, [`LINES`] in each request.
///
/// # Errors
/// One is refused.
pub fn lines(till: &Node, work: &[Transaction]) -> Outcome<Measure> {
    let mut http = till.connect()?;
    let (mut samples, start) = (Samples::default(), Instant::now());
    for chunk in work.chunks(LINES) {
        let from = Instant::now();
        post_lines(&mut http, chunk)?;
        samples.push(from.elapsed());
    }
    Ok(samples.measure(work.len(), start.elapsed()))
}

/// A request that does nothing: what HTTP costs, client and server together.
fn nothing(till: &Node, count: usize) -> Outcome<Measure> {
    let mut http = till.connect()?;
    let (mut samples, start) = (Samples::default(), Instant::now());
    for _ in 0..count {
        let from = Instant::now();
        let answer = http.get("/healthz")?;
        samples.push(from.elapsed());
        assert_eq!(answer.status, 200);
    }
    Ok(samples.measure(count, start.elapsed()))
}
