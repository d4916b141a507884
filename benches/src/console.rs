//! The console of a large company: how long the first page and the grid of days take, at first and when nothing has
//! changed since. The hub's log is written here batch by batch, as tills would have sealed them, because enrolling
//! thousands of tills over the network would take longer than everything else together.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use ed25519_dalek::SigningKey;
use engine::batch::{Batch, BatchEntry, Sealed};
use engine::document::Document;
use engine::entry::{AdmittedBatch, Entry as LogEntry};
use engine::ids::{LogId, RecordId, StoreId, TerminalId, WriterId};
use engine::replica::records_of;
use engine::time::Day;
use engine::transaction::{Body, Draft, Enrolment, HubRecord, Transaction};
use node::identity::NodeKey;
use node::runtime::clock::{Clock, now_ms};
use node::storage::{Entry, Options, Storage};

use crate::http::Http;
use crate::process::Node;
use crate::stats::{Measure, Samples};
use crate::table::row;
use crate::{Outcome, Sizes};

/// Records of one batch.
const BATCH: usize = 100;
/// Days over which the records are spread, today the last.
const DAYS: usize = 5;
/// A first page has every store within so long, whatever the machine does beside.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// A till rings a sale so often, ms: further apart than what looks like a second capture of the same sale.
const SALE_EVERY_MS: i64 = 90_000;
/// How often a page is asked for.
const LOOKS: usize = 20;
/// A sale of three lines' worth, as tills send them.
const SALE: &str = r#"{"kind":"sale","receipt":"R","currency":"GBP","lines":[{"sku":"85123A","quantity":"6","amount_minor":1530,"tax_minor":255,"tax_code":"S","tax_rate":"20"}],"tenders":[{"type":"cash","amount_minor":1530}]}"#;

/// First page and grid of a hub with many stores.
///
/// # Errors
/// The hub does not start, or a page is not what it should be.
pub fn measure(program: &Path, sizes: &Sizes) -> Outcome<Vec<(&'static str, Measure)>> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path().join("hub");
    let token = node::hub::init(&dir, "Benches Ltd", "GBP", "Europe/London")?.token;
    fill(&dir, sizes)?;
    let mut rows = Vec::new();
    let mut run = |name| {
        let start = Instant::now();
        let arguments = ["hub", "run", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0"];
        let hub = Node::start(program, &dir, &arguments, None)?;
        rows.push((name, Measure::once(start.elapsed())));
        Outcome::Ok(hub)
    };
    // The first start judges every record, because nobody has; the second finds saved books, as every other one will.
    run(row::CONSOLE_JUDGE)?.stop()?;
    let hub = run(row::CONSOLE_START)?;
    let cookie = log_in(&hub.http, &token)?;
    let mut http = Http::connect_as(&hub.http, &format!("cookie: {cookie}\r\n"))?;
    let mut look = |path: &str, holds: &str| -> Outcome<Duration> {
        let start = Instant::now();
        let answer = http.get(path)?;
        let took = start.elapsed();
        let page = String::from_utf8(answer.body)?;
        if answer.status != 200 || !page.contains(holds) {
            return Err(format!("{path} answered {} without {holds:?}", answer.status).into());
        }
        Ok(took)
    };
    let tills = sizes.console.0 * sizes.console.1;
    let whole = format!("of {tills}");
    // The first look gets what is reckoned by then; the page itself asks again until it has every store.
    let start = Instant::now();
    rows.push((row::CONSOLE_FIRST, Measure::once(look("/", "Tills online")?)));
    while look("/", &whole).is_err() {
        if start.elapsed() > WHOLE_WITHIN {
            return Err(format!("the first page does not get all of {tills} tills").into());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    rows.push((row::CONSOLE_WHOLE, Measure::once(start.elapsed())));
    rows.push((row::CONSOLE_GRID_FIRST, Measure::once(look("/days", "store-000")?)));
    let pages = [("/", whole.as_str(), row::CONSOLE_AGAIN), ("/days", "store-000", row::CONSOLE_GRID_AGAIN)];
    for (path, holds, name) in pages {
        let mut samples = Samples::default();
        for _ in 0..LOOKS {
            samples.push(look(path, holds)?);
        }
        rows.push((name, samples.latency()));
    }
    hub.stop()?;
    Ok(rows)
}

/// Logs in as the console's form does; the session's cookie.
///
/// # Errors
/// The hub does not answer, or opens no session.
pub fn log_in(address: &str, token: &str) -> Outcome<String> {
    let mut stream = TcpStream::connect(address)?;
    let body = format!(r#"{{"token":"{token}"}}"#);
    let head = format!(
        "POST /v1/session HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    stream.write_all(body.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let line = answer.lines().find(|line| line.to_lowercase().starts_with("set-cookie:"));
    let line = line.ok_or_else(|| format!("no session: {answer}"))?;
    let cookie = line.split_once(':').map_or("", |parts| parts.1).split(';').next().unwrap_or("").trim();
    Ok(cookie.to_owned())
}

/// Writes the log of a hub that has met every till of every store.
fn fill(dir: &Path, sizes: &Sizes) -> Outcome<()> {
    let (stores, tills, records) = sizes.console;
    let hub = NodeKey::load(dir)?.ok_or("the hub has no key")?.signing_key().clone();
    let (storage, _) = Storage::open(dir, &Options::default())?;
    let today = Clock::in_zone("Europe/London")?.now().day();
    let sale = Draft::from_json(SALE)?.transaction;
    for number in 0..stores {
        let store: StoreId = format!("store-{number:03}").parse()?;
        let mut log = StoreLog { store, entries: Vec::new(), day: today, document: None };
        let devices: Vec<(LogId, SigningKey)> = (0..tills)
            .map(|till| {
                let name = format!("till-{number:03}-{till}");
                let key = SigningKey::from_bytes(&seed_of(&name));
                Ok((LogId { terminal: name.parse()?, incarnation: 1 }, key))
            })
            .collect::<Outcome<_>>()?;
        let enrol = |(log, key): &(LogId, SigningKey)| Transaction {
            receipt: format!("enrol-{}", log.terminal),
            operator: None,
            idempotency_key: None,
            offline: false,
            body: Body::Hub(HubRecord::Enrol(Enrolment {
                log: log.clone(),
                writer: WriterId(key.verifying_key().to_bytes()),
            })),
        };
        log.begin(today.plus(1 - i32::try_from(DAYS)?));
        let own = LogId { terminal: TerminalId::hub(), incarnation: 1 };
        log.write(&own, &hub, devices.iter().map(enrol).collect(), &mut (1, None), 0)?;
        let mut heads: Vec<(u64, Option<RecordId>)> = vec![(1, None); tills];
        for back in (0..DAYS).rev() {
            log.begin(today.plus(-i32::try_from(back)?));
            for (at, (of, key)) in devices.iter().enumerate() {
                let mut left = records / DAYS;
                let mut index = 0;
                while left > 0 {
                    let count = left.min(BATCH);
                    let first = heads[at].0;
                    let numbered =
                        |seq: u64| Transaction { receipt: format!("{}-{seq}", of.terminal), ..sale.clone() };
                    let work = (first..first + count as u64).map(numbered).collect();
                    log.write(of, key, work, &mut heads[at], index)?;
                    left -= count;
                    index += 1;
                }
            }
        }
        for chunk in log.entries.chunks(16) {
            storage.append_blocking(chunk.to_vec())?;
        }
    }
    storage.close()?;
    Ok(())
}

/// The log of a store in the making.
struct StoreLog {
    store: StoreId,
    entries: Vec<Entry>,
    day: Day,
    document: Option<Document>,
}

impl StoreLog {
    fn begin(&mut self, day: Day) {
        if self.day != day || self.document.is_none() {
            self.day = day;
            self.document = Some(Document::new(self.store.clone(), day));
        }
    }

    /// Seals a batch of a writer, the `index`th of its session and day, and takes it into the log.
    fn write(
        &mut self,
        log: &LogId,
        key: &SigningKey,
        work: Vec<Transaction>,
        head: &mut (u64, Option<RecordId>),
        index: u32,
    ) -> Outcome<()> {
        let ms =
            now_ms() - i64::from(Clock::in_zone("Europe/London")?.now().day().0 - self.day.0) * 86_400_000;
        let writer = WriterId(key.verifying_key().to_bytes());
        let count = work.len() as u64;
        // A till rings one sale after the other, the last of them now.
        let before_last = (0..i64::try_from(count)?).rev();
        let entries = work.into_iter().zip(before_last).map(|(transaction, before_last)| BatchEntry {
            at: engine::time::Instant::utc(ms - before_last * SALE_EVERY_MS),
            effective_later_ms: 0,
            transaction,
        });
        let batch = Batch {
            store: self.store.clone(),
            writer,
            log: log.clone(),
            nonce: [1; 16],
            day: self.day,
            index,
            first_seq: head.0,
            prev: head.1,
            seen: Vec::new(),
            entries: entries.collect(),
        };
        let sealed = Sealed::seal(batch, key);
        let document = self.document.as_mut().ok_or("no day has begun")?;
        let prepared = document.prepare(writer, sealed.batch.session(), &sealed.bytes);
        let change = prepared.id();
        document.admit_unread(&prepared);
        *head = (head.0 + count, records_of(&sealed).last().map(|record| record.id));
        let admitted =
            AdmittedBatch { admitted_ms: ms, from: Some(writer), change, bytes: sealed.bytes.to_vec() };
        let (kind, bytes) = LogEntry::Batch(admitted).encode(&self.store);
        self.entries.push(Entry { kind, bytes });
        Ok(())
    }
}

/// 32 bytes that a name gives.
fn seed_of(name: &str) -> [u8; 32] {
    let mut seed = [0_u8; 32];
    for (at, byte) in name.bytes().enumerate() {
        seed[at % 32] = seed[at % 32].wrapping_mul(31).wrapping_add(byte);
    }
    seed
}
