//! Somebody who has stolen an enrolled till's key, against a real hub process over real QUIC: what each attack gets. The
//! thief speaks the protocol with its own hands; an honest till trades beside it.

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use common::{Company, Node, assert_verified, sale, till, tillsync, until};
use engine::batch::{Batch, BatchEntry, Sealed};
use engine::document::Document;
use engine::ids::{LogId, RecordId, SessionId, WriterId};
use engine::record::{Place, Record};
use engine::sync::{Carried, Digest, Familiar, Held, Message, Short, Status, digest};
use engine::time::{Day, Instant};
use engine::transaction::{Body, Draft, HubRecord, Transaction};
use node::identity::{Enrolment, NodeKey, Role};
use node::transport::{Endpoint, Link, Settings};
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(20);

/// A till's stolen key and place.
struct Thief {
    key: NodeKey,
    enrolment: Enrolment,
    endpoint: Endpoint,
    at: SocketAddr,
}

impl Thief {
    fn with(dir: &Path, company: &Company) -> Self {
        let enrolment = Enrolment::load(dir).unwrap().unwrap();
        let key = NodeKey::load(dir).unwrap().unwrap();
        let identity = enrolment.identity(key.clone()).unwrap();
        let endpoint = Endpoint::till(&identity, Settings::default()).unwrap();
        Self { key, enrolment, endpoint, at: company.quic.as_ref().unwrap().parse().unwrap() }
    }

    /// A link on which the hub has said its first word: what it still owed to the link before comes ahead of that.
    async fn dial(&self) -> Link {
        let mut link = self.endpoint.dial(self.at, Role::Hub).await.unwrap();
        let hello = async {
            loop {
                let frame = link.recv().await.unwrap().unwrap();
                if matches!(Message::decode(&frame), Ok(Message::Hello { .. })) {
                    return;
                }
            }
        };
        timeout(PATIENCE, hello).await.unwrap();
        link
    }

    fn writer(&self) -> WriterId {
        WriterId(self.key.public())
    }

    fn log(&self) -> LogId {
        LogId { terminal: self.enrolment.terminal.parse().unwrap(), incarnation: 1 }
    }

    /// A batch that an honest till could send first in a new session.
    fn batch(&self, nonce: u8, transactions: Vec<Transaction>) -> Batch {
        let at = now();
        let entries = transactions
            .into_iter()
            .map(|transaction| BatchEntry { at, effective_later_ms: 0, transaction })
            .collect();
        Batch {
            store: self.enrolment.store.parse().unwrap(),
            writer: self.writer(),
            log: self.log(),
            nonce: [nonce; 16],
            day: at.day(),
            index: 0,
            first_seq: 1,
            prev: None,
            seen: Vec::new(),
            entries,
        }
    }

    /// Sealed, with its change announced as it should be for a session's first batch of a day.
    fn carry(&self, batch: Batch) -> Carried {
        let (store, day, writer, session) = (batch.store.clone(), batch.day, batch.writer, batch.session());
        let sealed = Sealed::seal(batch, self.key.signing_key());
        let change = Document::new(store, day).prepare(writer, session, &sealed.bytes).id();
        Carried { bytes: sealed.bytes.to_vec(), change }
    }
}

fn now() -> Instant {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Instant::utc(i64::try_from(since.as_millis()).unwrap())
}

fn transaction(receipt: &str) -> Transaction {
    Draft::from_json(&sale(receipt, 100)).unwrap().transaction
}

fn batches(number: u64, carried: Vec<Carried>) -> Vec<u8> {
    Message::Batches { number, batches: carried }.encode()
}

/// Number and sealed batches of a message that brings some, by what came before it on its link.
fn brought(frame: &[u8], familiar: &mut Familiar) -> Option<(u64, Vec<Vec<u8>>)> {
    match Message::decode(frame) {
        Ok(Message::Batches { number, batches }) => {
            Some((number, batches.into_iter().map(|carried| carried.bytes).collect()))
        }
        Ok(Message::Short { number, batches }) => {
            Some((number, batches.iter().map(|short| familiar.read(short).unwrap()).collect()))
        }
        _ => None,
    }
}

/// What the hub said until it refused something, or ended the link: the words of either.
async fn answer(link: &mut Link) -> String {
    let listen = async {
        loop {
            match link.recv().await {
                Ok(Some(frame)) => match Message::decode(&frame) {
                    Ok(Message::Refused { reason, .. }) => return format!("refused: {reason}"),
                    Ok(Message::Ack { number, .. }) => return format!("ack {number}"),
                    _ => {}
                },
                Ok(None) => return "ended".to_owned(),
                Err(error) => return format!("ended: {error}"),
            }
        }
    };
    timeout(PATIENCE, listen).await.unwrap_or_else(|_| "no answer".to_owned())
}

fn sell(node: &Node, receipt: &str) {
    let output = tillsync(&["capture", "-", "--api", &node.http], &sale(receipt, 100));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// A store with an honest till that runs and a thief.
fn scene(company: &mut Company) -> (Node, Node, Thief) {
    let hub = company.hub();
    let honest = till(&company.join("store-1", "till-01"));
    let stolen = company.join("store-1", "till-66");
    until("the honest till online", || honest.status()["online"] == true);
    let thief = Thief::with(&stolen, company);
    (hub, honest, thief)
}

fn honest_trade_goes_on(company: &Company, honest: &Node, receipt: &str) {
    sell(honest, receipt);
    until("the honest sale at the hub", || honest.status()["waiting"]["count"] == 0);
    assert_eq!(honest.status()["online"], true);
    assert!(company.records() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_no_honest_till_sends_are_refused_with_a_reason_and_nothing_of_them_counts() {
    let mut company = Company::new();
    let (hub, honest, thief) = scene(&mut company);
    let plain = || thief.batch(1, vec![transaction("X-1")]);
    let with = |change: &dyn Fn(&mut Batch)| {
        let mut batch = plain();
        change(&mut batch);
        vec![batches(1, vec![thief.carry(batch)])]
    };
    let flipped = |at: usize| {
        let mut carried = thief.carry(plain());
        carried.bytes[at] ^= 1;
        vec![batches(1, vec![carried])]
    };
    let stranger = NodeKey::from_seed(&[66; 32]);
    let foreign = {
        let batch = Batch { writer: WriterId(stranger.public()), ..plain() };
        let session = batch.session();
        let sealed = Sealed::seal(batch.clone(), stranger.signing_key());
        let change = Document::new(batch.store, batch.day).prepare(batch.writer, session, &sealed.bytes).id();
        vec![batches(1, vec![Carried { bytes: sealed.bytes.to_vec(), change }])]
    };
    let statement =
        HubRecord::Revoke { terminal: "till-01".parse().unwrap(), incarnation: None, last_valid_seq: 0 };
    let honest_message = batches(1, vec![thief.carry(plain())]);
    let status = Status { software: "x".repeat(1 << 20), ..Status::default() };
    let hello = |store: &str| Message::Hello { store: store.parse().unwrap(), digest: [0; 32], clock_ms: 0 };

    let attacks: Vec<(&str, Vec<Vec<u8>>, &str)> = vec![
        ("noise", vec![vec![1, 255, 254, 253, 0, 7]], "ended"),
        ("an empty frame", vec![Vec::new()], "ended"),
        ("another protocol version", vec![vec![9; 40]], "ended"),
        (
            "a list of 2^63 items",
            vec![[1, 3, 1, 253, 255, 255, 255, 255, 255, 255, 255, 127].to_vec()],
            "ended",
        ),
        ("a message cut short", vec![honest_message[..honest_message.len() - 1].to_vec()], "ended"),
        ("a message with more behind it", vec![[honest_message.as_slice(), &[0]].concat()], "ended"),
        ("a megabyte of version text", vec![Message::Status(status).encode()], "ended"),
        ("another store's hello", vec![hello("store-9").encode()], "ended"),
        ("batches out of turn", vec![batches(7, vec![thief.carry(plain())])], "ended"),
        ("thanks for what was not sent", vec![Message::Ack { number: 9, digest: [9; 8] }.encode()], "ended"),
        ("a forged signature", flipped(10), "signature"),
        ("a body changed after signing", flipped(90), "refused"),
        ("another till's log", with(&|b| b.log.terminal = "till-01".parse().unwrap()), "enrolled for log"),
        ("a key that nobody enrolled", foreign, "not enrolled"),
        ("another store's batch", with(&|b| b.store = "store-9".parse().unwrap()), "belongs to store"),
        ("a gap in the numbers", with(&|b| b.first_seq = 5), "does not follow"),
        (
            "a predecessor of its own making",
            with(&|b| (b.first_seq, b.prev) = (2, Some(RecordId([7; 32])))),
            "predecessor",
        ),
        ("a batch before those before it", with(&|b| b.index = 3), "missing here"),
        ("knowledge of records that are not", with(&|b| b.seen = vec![(thief.writer(), 99)]), "missing here"),
        ("a day that is none", with(&|b| b.day = Day(i32::MAX)), "not lawful"),
        ("a time beyond all clocks", with(&|b| b.entries[0].effective_later_ms = u64::MAX), "not lawful"),
        (
            "a change that differs",
            vec![batches(
                1,
                vec![Carried {
                    change: thief.carry(thief.batch(2, vec![transaction("X-3")])).change,
                    ..thief.carry(plain())
                }],
            )],
            "differs",
        ),
        (
            "a statement of the hub",
            with(&|b| b.entries[0].transaction.body = Body::Hub(statement.clone())),
            "may record",
        ),
    ];
    let count = attacks.len();
    for (name, frames, wanted) in attacks {
        let mut link = thief.dial().await;
        for frame in frames {
            link.send(frame).await.unwrap();
        }
        let got = answer(&mut link).await;
        assert!(got.contains(wanted), "{name}: got {got:?}, wanted {wanted:?}");
    }
    eprintln!("{count} attacks with frames");
    assert_eq!(company.records(), 0, "nothing of it is in anybody's books");
    let noted = company.ask(&["audit"]).to_string();
    for word in ["garbled", "refused", "till-66"] {
        assert!(noted.contains(word), "the audit log has {word}");
    }

    // What is lawful is taken once; again, or another in its place, is not.
    let first = thief.carry(plain());
    let other = thief.carry(thief.batch(1, vec![transaction("X-9")]));
    for (name, carried, wanted, records) in [
        ("the first of a session", first.clone(), "ack", 1),
        ("the same again", first, "ack", 1),
        ("another in its place", other, "used twice", 1),
    ] {
        let mut link = thief.dial().await;
        link.send(batches(1, vec![carried])).await.unwrap();
        let got = answer(&mut link).await;
        assert!(got.contains(wanted), "{name}: {got}");
        until(name, || company.records() == records);
    }
    honest_trade_goes_on(&company, &honest, "R-1");
    drop(honest);
    hub.stop();
    assert_verified(&company.dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn short_batches_that_no_honest_till_writes_are_refused_and_nothing_of_them_counts() {
    let mut company = Company::new();
    let (hub, honest, thief) = scene(&mut company);
    let plain = || thief.batch(1, vec![transaction("X-1")]);
    let short = |change: &dyn Fn(&mut Short)| {
        let mut batches = Familiar::default().write(&[thief.carry(plain())]).unwrap();
        change(&mut batches[0]);
        Message::Short { number: 1, batches }.encode()
    };
    let endless = {
        let mut batches = Familiar::default().write(&[thief.carry(plain())]).unwrap();
        // The same 47 bytes of what follows the first, again and again.
        let rest = [&[7; 64][..], &[0x0F, 0x20], &[0x8F, 0x20, 0x5D].repeat(9_000)].concat();
        batches.push(Short { like: 1, change: [0; 8], rest });
        Message::Short { number: 1, batches }.encode()
    };
    let attacks = [
        ("a short batch by a body that nobody sent", short(&|short| short.like = 3), "ended"),
        ("a short batch without a signature", short(&|short| short.rest.truncate(63)), "ended"),
        ("a short batch that copies without end", endless, "ended"),
        ("a short batch with a forged signature", short(&|short| short.rest[9] ^= 1), "signature"),
        (
            "a short batch whose body is changed",
            short(&|short| *short.rest.last_mut().unwrap() ^= 1),
            "refused",
        ),
        ("a short batch whose change differs", short(&|short| short.change[7] ^= 1), "differs"),
    ];
    for (name, frame, wanted) in attacks {
        let mut link = thief.dial().await;
        link.send(frame).await.unwrap();
        let got = answer(&mut link).await;
        assert!(got.contains(wanted), "{name}: got {got:?}, wanted {wanted:?}");
    }
    assert_eq!(company.records(), 0, "nothing of it is in anybody's books");
    let noted = company.ask(&["audit"]).to_string();
    for word in ["it makes more bytes than it may", "it has no signature", "is not expected here"] {
        assert!(noted.contains(word), "the audit log has {word}");
    }
    let mut link = thief.dial().await;
    link.send(short(&|_| ())).await.unwrap();
    assert_eq!(answer(&mut link).await, "ack 1", "unchanged it is lawful");
    assert_eq!(company.records(), 1);
    honest_trade_goes_on(&company, &honest, "R-1");
    drop(honest);
    hub.stop();
    assert_verified(&company.dir);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_till_reads_its_own_store_and_no_other() {
    let mut company = Company::new();
    let (_hub, honest, _) = scene(&mut company);
    sell(&honest, "SECRET-1");
    until("the sale at the hub", || company.records() == 1);
    let spy = Thief::with(&company.join("store-2", "till-20"), &company);
    let today = now().day();
    let days = (-3..=3).map(|shift| Day(today.0 + shift));
    let questions = [
        Message::Hello { store: "store-1".parse().unwrap(), digest: [0; 32], clock_ms: 0 },
        Message::Days(days.clone().map(|day| (day, [0; 16])).collect()),
        Message::Vector { held: days.map(|day| Held { day, sessions: Vec::new() }).collect(), reply: true },
    ];
    for question in questions {
        let mut link = spy.dial().await;
        link.send(question.encode()).await.unwrap();
        let mut familiar = Familiar::default();
        // The end of the link, or silence after the answers: either way not a record of the other store.
        while let Ok(Ok(Some(frame))) = timeout(Duration::from_millis(700), link.recv()).await {
            let text = String::from_utf8_lossy(&frame).into_owned();
            assert!(!text.contains("SECRET-1") && !text.contains("till-01"), "{text:?}");
            for bytes in brought(&frame, &mut familiar).into_iter().flat_map(|(_, batches)| batches) {
                let sealed = Sealed::open(Arc::from(bytes)).unwrap();
                assert_eq!(sealed.batch.store.as_str(), "store-2");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn endless_refusals_fill_neither_the_audit_log_nor_anybodys_time() {
    let mut company = Company::new();
    let (_hub, honest, thief) = scene(&mut company);
    let link = thief.dial().await;
    let (sender, mut receiver) = link.split();
    let reading = tokio::spawn(async move { while let Ok(Some(_)) = receiver.recv().await {} });
    for number in 1..=3_000_u64 {
        let carried = Carried { bytes: number.to_le_bytes().to_vec(), change: [0; 32] };
        sender.send(batches(number, vec![carried])).await.unwrap();
    }
    honest_trade_goes_on(&company, &honest, "R-1");
    let events = company.ask(&["audit"]);
    let noted = events.as_array().unwrap().iter().filter(|event| event["event"] == "refused").count();
    assert!((50..=105).contains(&noted), "{noted} of 3000 are told one by one");
    reading.abort();
}

/// Resident memory of a process in bytes.
fn resident(node: &Node) -> u64 {
    let run: serde_json::Value =
        serde_json::from_slice(&std::fs::read(node.dir.join("run.json")).unwrap()).unwrap();
    let statm = std::fs::read_to_string(format!("/proc/{}/statm", run["pid"])).unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_sessions_do_not_grow_the_hub_without_end() {
    let mut company = Company::new();
    let (hub, honest, thief) = scene(&mut company);
    let before = resident(&hub);
    let link = thief.dial().await;
    let (sender, mut receiver) = link.split();
    let reading = tokio::spawn(async move { while let Ok(Some(_)) = receiver.recv().await {} });
    let mut number = 0_u128;
    for _ in 0..40 {
        let sessions = (0..40_000)
            .map(|_| {
                number += 1;
                (SessionId(number.to_le_bytes()), 1)
            })
            .collect();
        let held = vec![Held { day: now().day(), sessions }];
        if sender.send(Message::Vector { held, reply: false }.encode()).await.is_err() {
            break;
        }
    }
    honest_trade_goes_on(&company, &honest, "R-1");
    let grown = resident(&hub).saturating_sub(before);
    eprintln!("1.6 million made-up sessions: the hub grew by {} MiB", grown >> 20);
    assert!(grown < 160 << 20, "{grown}");
    reading.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_asks_and_does_not_read_is_let_go() {
    let mut company = Company::new();
    let (hub, honest, thief) = scene(&mut company);
    let before = resident(&hub);
    let link = thief.dial().await;
    let days: Vec<(Day, [u8; 16])> = (0..40_000).map(|day| (Day(day), [1; 16])).collect();
    let question = Message::Days(days).encode();
    // Each question has an answer of hundreds of KiB. It ends with the link.
    let asking = async { while link.send(question.clone()).await.is_ok() {} };
    timeout(Duration::from_secs(60), asking).await.expect("the hub lets go");
    until("and says so", || company.ask(&["audit"]).to_string().contains("does not read"));
    let grown = resident(&hub).saturating_sub(before);
    eprintln!("answers that nobody read: the hub grew by {} MiB", grown >> 20);
    assert!(grown < 160 << 20, "{grown}");
    honest_trade_goes_on(&company, &honest, "R-1");
}

#[tokio::test(flavor = "multi_thread")]
async fn valid_and_endless_data_of_one_till_does_not_starve_another() {
    let mut company = Company::new();
    let (_hub, honest, thief) = scene(&mut company);
    let link = thief.dial().await;
    let (sender, mut receiver) = link.split();
    let sender = Arc::new(sender);
    let answering = sender.clone();
    // It acknowledges what it gets, as an honest till does, or the hub would end the conversation in time.
    let reading = tokio::spawn(async move {
        let (mut came, mut familiar) = (Digest::default(), Familiar::default());
        while let Ok(Some(frame)) = receiver.recv().await {
            if let Some((number, batches)) = brought(&frame, &mut familiar) {
                let hash = |bytes: Vec<u8>| Sealed::open(bytes.into()).unwrap().hash;
                came = digest(came, batches.into_iter().map(hash));
                let _ = answering.send(Message::Ack { number, digest: came }.encode()).await;
            }
        }
    });
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let flood = tokio::spawn(async move {
        let (mut prev, mut effective_ms, mut document) = (None, 0, None);
        for number in 1_u64.. {
            let first_seq = (number - 1) * 20 + 1;
            let mut batch = thief.batch(3, Vec::new());
            // One day, one session, one batch after the other: as an honest till that never stops.
            let start = now();
            (batch.index, batch.first_seq, batch.prev) =
                (u32::try_from(number - 1).unwrap(), first_seq, prev);
            for seq in first_seq..first_seq + 20 {
                let transaction = transaction(&format!("F-{seq}"));
                let ms = start.ms.max(effective_ms);
                let at = Instant { ms, ..start };
                effective_ms = ms;
                let place = Place {
                    store: batch.store.clone(),
                    writer: batch.writer,
                    log: batch.log.clone(),
                    seq,
                    prev,
                    business_day: batch.day,
                    at,
                    effective_ms,
                };
                prev = Some(Record::new(place, transaction.clone()).id);
                batch.entries.push(BatchEntry { at, effective_later_ms: 0, transaction });
            }
            let (writer, session) = (batch.writer, batch.session());
            let document = document.get_or_insert_with(|| Document::new(batch.store.clone(), batch.day));
            let sealed = Sealed::seal(batch, thief.key.signing_key());
            let prepared = document.prepare(writer, session, &sealed.bytes);
            let carried = Carried { bytes: sealed.bytes.to_vec(), change: prepared.id() };
            document.admit(prepared);
            if sender.send(batches(number, vec![carried])).await.is_err() {
                return;
            }
            counted.store(number, Ordering::Relaxed);
        }
    });
    until("the flood has begun", || sent.load(Ordering::Relaxed) > 100);
    for sale in 0..3 {
        honest_trade_goes_on(&company, &honest, &format!("R-{sale}"));
    }
    // Whether it still flows is the hub's to say: it may let go of one who reads too slowly what he is told.
    let taken = company.records();
    let (flows, batches) = (!flood.is_finished(), sent.load(Ordering::Relaxed));
    eprintln!(
        "3 honest sales beside {taken} records of the flood; {batches} batches sent, still flowing: {flows}"
    );
    assert!(taken > 1_000, "what it sent was valid and was taken: {taken}");
    flood.abort();
    reading.abort();
}
