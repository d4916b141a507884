//! Makes the corpora: small honest inputs of every target, from the product itself, so that a change of a format needs no
//! binary files to be replaced by hand.

use std::fs;
use std::io;
use std::path::Path;

use engine::batch::Sealed;
use engine::codec;
use engine::entry::Entry;
use engine::ids::{BatchHash, SessionId};
use engine::sync::{Carried, Familiar, Held, Message, Status};
use engine::transaction::Draft;
use node::identity::{JoinCode, JoinSecret, NodeKey};

use crate::outside::COMPANY;
use crate::shop::{HUB, Shop, store};

const SALE: &str = r#"{"kind":"sale","receipt":"R-1","currency":"GBP","operator":"ann","lines":[{"sku":"a","description":"apples","quantity":"1.5","unit_price_minor":600,"amount_minor":900,"tax_minor":150,"tax_code":"A","tax_rate":"20"}],"tenders":[{"type":"cash","amount_minor":900,"tendered_minor":1000,"change_minor":100}]}"#;
const REFUND: &str = r#"{"kind":"refund","receipt":"R-2","currency":"GBP","original_receipt":"R-1","reason":"bruised","approver":"eve","lines":[{"sku":"a","quantity":"1","amount_minor":600,"tax_minor":100,"original_line":1}],"tenders":[{"type":"card","amount_minor":600,"payment":"p1","card_last4":"1234"}]}"#;
const CLOSE: &str =
    r#"{"kind":"day_close","receipt":"Z-1","business_day":"2026-11-23","counted":{"GBP":900}}"#;

/// Writes every corpus below `folder`, a folder a target, and gives how many files there are. What is there under the same
/// name is replaced.
///
/// # Errors
/// The disk refuses.
pub fn write(folder: &Path) -> io::Result<usize> {
    let all = all();
    for (target, name, bytes) in &all {
        fs::create_dir_all(folder.join(target))?;
        fs::write(folder.join(target).join(name), bytes)?;
    }
    Ok(all.len())
}

/// Writes the corpora below the folder that `FUZZ_SEEDS` names, if it names one, and ends the process.
pub fn write_if_asked() {
    let Some(folder) = std::env::var_os("FUZZ_SEEDS") else { return };
    match write(Path::new(&folder)) {
        Ok(count) => {
            println!("{count} seeds in {}", Path::new(&folder).display());
            std::process::exit(0);
        }
        Err(error) => {
            eprintln!("cannot write the seeds: {error}");
            std::process::exit(1);
        }
    }
}

/// The seeds of one target.
#[must_use]
pub fn of(target: &str) -> Vec<Vec<u8>> {
    all().into_iter().filter(|seed| seed.0 == target).map(|seed| seed.2).collect()
}

fn all() -> Vec<(&'static str, String, Vec<u8>)> {
    let mut all = Vec::new();
    let mut add = |target, name: &str, bytes: &[u8]| all.push((target, name.to_owned(), bytes.to_vec()));
    for (name, text) in [("sale", SALE), ("refund", REFUND), ("close", CLOSE)] {
        add("transaction", name, text.as_bytes());
    }
    add(
        "import_lines",
        "two-tills",
        [SALE.replace("\"kind\"", "\"store\":\"s2\",\"terminal\":\"t9\",\"kind\""), REFUND.to_owned()]
            .join("\n")
            .as_bytes(),
    );
    for (name, bytes) in batches() {
        add("batch", &name, &bytes);
    }
    for (name, message) in messages() {
        add("message", name, &message.encode());
    }
    for (name, bytes) in entries() {
        add("entry", &name, &bytes);
    }
    add("checkpoint", "books", &checkpoint());
    for (name, text) in [
        ("valid", "Card 4111 1111 1111 1111 was refused"),
        ("almost", "4111-1111-1111-1112 / 378282246310005"),
        ("inside", "id 00004111111111111111000 and 5555555555554444."),
    ] {
        add("card_numbers", name, text.as_bytes());
    }
    let settings = engine::policy::Policy::default().settings();
    let lines: Vec<String> = settings.iter().map(|(key, value)| format!("{key}={value}")).collect();
    add("policy", "all", lines.join("\n").as_bytes());
    add("policy", "durations", b"90s\n1h\n1d\n15m\n250ms");
    for (at, line) in SCENARIOS.lines().enumerate() {
        add("scenario", &format!("golden-{at}"), line.as_bytes());
    }
    for scenario in sim::shipped::ALL {
        add("happenings", scenario.name, scenario.text.as_bytes());
    }
    let hubs = ["192.0.2.7:7440", "[2001:db8::7]:7440", "hub.example.com:7440"];
    for (number, hub) in hubs.iter().enumerate() {
        let at = |text: &&str| text.parse().expect("an address");
        let ca = node::identity::CaFingerprint([3; 16]);
        let code = JoinCode::with_secret(at(hub), ca, JoinSecret([1; 16]));
        add("join_code", &hub.replace([':', '[', ']'], "_"), code.to_string().as_bytes());
        let many = code.and_hubs(hubs.iter().map(at));
        add("join_code", &format!("three_{number}"), many.to_string().as_bytes());
    }
    add("certificate", "till", &COMPANY.leaf);
    add("certificate", "company", &COMPANY.authority.certificate());
    for (name, which, said) in conversations() {
        add("join_desk", name, &[&[which], said.as_slice()].concat());
    }
    for (name, text) in POSLOGS {
        add("poslog", name, text.as_bytes());
    }
    for (name, bytes) in node_files() {
        add("node_files", &name, &bytes);
    }
    // Choices mean nothing to a person: a few lengths of different bytes are as good as any.
    for (target, longest) in [("log_files", 96_usize), ("admission", 768), ("session", 1_024)] {
        for (seed, length) in [(1_u64, longest / 8), (2, longest / 2), (3, longest)] {
            let mut choices = vec![0; length];
            blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut choices);
            add(target, &format!("choices-{seed}"), &choices);
        }
    }
    all
}

fn shop() -> Shop {
    let mut shop = Shop::new(1);
    for text in [SALE, REFUND] {
        shop.capture(1, Draft::from_json(text).expect("a draft of ours is one"));
    }
    shop.link(1);
    shop.carry_all();
    shop.capture(1, Draft::from_json(CLOSE).expect("a draft of ours is one"));
    shop.carry_all();
    shop.wait(5_000);
    shop
}

/// What a batch target reads: sealed batches, and their bodies.
fn batches() -> Vec<(String, Vec<u8>)> {
    let shop = shop();
    let mut found = Vec::new();
    for (at, entry) in shop.entries(HUB).iter().enumerate() {
        if let Entry::Batch(batch) = entry {
            let sealed = Sealed::open(batch.bytes.clone().into()).expect("what was sealed opens");
            found.push((format!("sealed-{at}"), batch.bytes.clone()));
            found.push((format!("body-{at}"), codec::encode(&sealed.batch)));
            let columns = engine::columns::encode(&sealed.batch).expect("a batch has columns");
            found.push((format!("columns-{at}"), columns));
        }
    }
    found
}

fn entries() -> Vec<(String, Vec<u8>)> {
    let shop = shop();
    let mut found = Vec::new();
    for node in [HUB, 1] {
        for (at, entry) in shop.entries(node).iter().enumerate() {
            let (kind, bytes) = entry.encode(&store());
            found.push((format!("kind-{kind}-{node}-{at}"), [&[kind], bytes.as_slice()].concat()));
        }
    }
    found
}

fn messages() -> Vec<(&'static str, Message)> {
    let shop = shop();
    let batch = shop.entries(1).into_iter().find_map(|entry| match entry {
        Entry::Batch(batch) => Some(Carried { bytes: batch.bytes, change: batch.change }),
        _ => None,
    });
    let day = engine::time::Day(20_000);
    let (mut familiar, carried) = (Familiar::default(), Vec::from_iter(batch.clone()));
    let mut short = || familiar.write(&carried).expect("one record is small");
    let batches = [short(), short()].concat();
    vec![
        ("short", Message::Short { number: 1, batches }),
        ("hello", Message::Hello { store: store(), digest: [7; 32], clock_ms: 5 }),
        ("days", Message::Days(vec![(day, [1; 16]), (engine::time::Day(20_001), [2; 16])])),
        (
            "vector",
            Message::Vector {
                held: vec![Held { day, sessions: vec![(SessionId([4; 16]), 9)] }],
                reply: true,
            },
        ),
        ("batches", Message::Batches { number: 1, batches: batch.into_iter().collect() }),
        ("ack", Message::Ack { number: 7, digest: [7; 8] }),
        ("refused", Message::Refused { batch: BatchHash([6; 32]), reason: "no".to_owned() }),
        ("status", Message::Status(Status { software: "0.1.0".to_owned(), ..Status::default() })),
        ("clock", Message::Clock { sent_ms: 5, echo: Some((3, 4)) }),
    ]
}

fn checkpoint() -> Vec<u8> {
    let mut shop = shop();
    let image = shop.nodes[HUB].host.replica_mut().image().expect("nothing waits to be judged");
    image.bytes.strip_prefix(&engine::image::frame(&[])[..4]).expect("its form")[32..].to_vec()
}

/// Requests and answers of the join desk, as a till and a hub make them: which side hears it, and what.
fn conversations() -> Vec<(&'static str, u8, Vec<u8>)> {
    let zeros = |count: usize| "0".repeat(count);
    let request = format!(
        r#"{{"v":1,"secret":"{}","public_key":"{}","proof":"{}","label":"till"}}"#,
        zeros(32),
        zeros(64),
        zeros(128)
    );
    let refused = r#"{"refused":{"reason":"too_many_attempts","seconds":9}}"#;
    let granted = r#"{"granted":{"certificate":"","ca":"","hub_public_key":"","company":"c","store":"s1","terminal":"t1","incarnation":1,"time_zone":"Europe/London","currency":"GBP","extra":""}}"#;
    let question = format!(r#"{{"v":1,"instance":"{}"}}"#, zeros(32));
    let reply = COMPANY.authority.reply(&COMPANY.leaf, 1_800_000_000).expect("a reply");
    let reply = serde_json::to_vec(&reply).expect("a reply is JSON");
    vec![
        ("request", 0, request.into_bytes()),
        ("question", 1, question.into_bytes()),
        ("refused", 2, refused.as_bytes().to_vec()),
        ("granted", 2, granted.as_bytes().to_vec()),
        ("papers", 3, reply),
    ]
}

/// Files of a node behind the choice that names them.
fn node_files() -> Vec<(String, Vec<u8>)> {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let _ = NodeKey::load_or_create(dir.path()).expect("a key");
    let authority = node::identity::Authority::create(dir.path(), "Fuzzed Shops").expect("a company");
    drop(authority);
    fs::write(dir.path().join("hub.json"), HUB_JSON).expect("a file");
    fs::write(dir.path().join("run.json"), RUN_JSON).expect("a file");
    fs::write(dir.path().join("restored.json"), r#"{"complete":true}"#).expect("a file");
    node::storage::manifest::adopt(dir.path()).expect("a manifest");
    let files = crate::files::FILES.iter().enumerate();
    let read = files.filter_map(|(at, name)| Some((at, name, fs::read(dir.path().join(name)).ok()?)));
    read.map(|(at, name, content)| {
        // First the choice of the file, then that there is no second.
        let at = u16::try_from(at).expect("few files");
        let choices = [&at.to_le_bytes()[..], &[0, 0], content.as_slice()].concat();
        (name.replace('/', "-"), choices)
    })
    .collect()
}

const HUB_JSON: &str = r#"{"company":"Fuzzed Shops","currency":"GBP","time_zone":"Europe/London","admin_token_hash":"00","advertise":"hub.example.com:7440","certificates":{"life_seconds":2592000,"grace_seconds":34560000}}"#;
const RUN_JSON: &str = r#"{"pid":1,"role":"till","http":"127.0.0.1:7441","token":"abc"}"#;

/// A scenario for each kind of record.
const SCENARIOS: &str = include_str!("seeds/scenarios.ndjson");

const POSLOGS: &[(&str, &str)] = &[
    (
        "sale",
        r#"<?xml version="1.0"?><POSLog xmlns="http://www.nrf-arts.org/IXRetail/namespace/"><Transaction><BusinessUnit><UnitID>s1</UnitID></BusinessUnit><RetailStoreID>s1</RetailStoreID><WorkstationID>1</WorkstationID><SequenceNumber>7</SequenceNumber><BusinessDayDate>2026-11-23</BusinessDayDate><EndDateTime>2026-11-23T10:00:00</EndDateTime><OperatorID>ann</OperatorID><CurrencyCode>GBP</CurrencyCode><RetailTransaction><LineItem><SequenceNumber>1</SequenceNumber><Sale ItemType="Stock"><ItemID>a</ItemID><Description>apples</Description><RegularSalesUnitPrice>3.00</RegularSalesUnitPrice><ActualSalesUnitPrice>3.00</ActualSalesUnitPrice><ExtendedAmount>6.00</ExtendedAmount><Quantity>2</Quantity><Tax><Amount>1.00</Amount><Percent>20</Percent></Tax></Sale></LineItem><LineItem><SequenceNumber>2</SequenceNumber><Tender TenderType="Cash"><Amount>6.00</Amount></Tender></LineItem><Total TotalType="TransactionGrandAmount">6.00</Total></RetailTransaction></Transaction></POSLog>"#,
    ),
    (
        "void",
        r#"<POSLog><Transaction CancelFlag="true"><RetailStoreID>s1</RetailStoreID><WorkstationID>1</WorkstationID><SequenceNumber>8</SequenceNumber><EndDateTime>2026-11-23T10:01:00+00:00</EndDateTime><RetailTransaction TransactionStatus="PostVoided"><TransactionLink ReasonCode="Void"><RetailStoreID>s1</RetailStoreID><WorkstationID>1</WorkstationID><SequenceNumber>7</SequenceNumber></TransactionLink></RetailTransaction></Transaction><Transaction><RetailStoreID>s1</RetailStoreID><WorkstationID>1</WorkstationID><SequenceNumber>9</SequenceNumber><EndDateTime>2026-11-23T20:00:00+00:00</EndDateTime><ControlTransaction><BusinessEOD/></ControlTransaction></Transaction></POSLog>"#,
    ),
];
