//! `import` with real processes: a store's real POSLog and a week of real baskets come out of the hub's books to the
//! cent; killed at either side and run again, everything is there once; hostile files cost nothing but their refusal.

mod common;

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use common::{Company, Node, assert_verified, path, till, tillsync, until};
use serde_json::{Value, json};

const HEAD: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<POSLog xmlns=\"http://www.nrf-arts.org/IXRetail/namespace/\">\n";

/// A POSLog sale of 1.00 plus its number in cents, paid in cash with change.
fn sale(number: u64) -> String {
    let minor = 100 + number;
    let (amount, given, change) = (decimal(minor), decimal(minor + 50), decimal(50));
    format!(
        "<Transaction><RetailStoreID>9</RetailStoreID><WorkstationID>3</WorkstationID><SequenceNumber>{number}</SequenceNumber>\
         <BusinessDayDate>2017-10-01</BusinessDayDate><EndDateTime>2017-10-01T{:02}:{:02}:{:02}</EndDateTime>\
         <CurrencyCode>USD</CurrencyCode><RetailTransaction><LineItem><SequenceNumber>1</SequenceNumber><Sale><ItemID>A</ItemID>\
         <Description>Apple</Description><ExtendedAmount>{amount}</ExtendedAmount><Quantity>1</Quantity></Sale></LineItem>\
         <LineItem><SequenceNumber>2</SequenceNumber><Tender TenderType=\"Cash\"><Amount>{given}</Amount><TenderChange>\
         <Amount>{change}</Amount></TenderChange></Tender></LineItem>\
         <Total TotalType=\"TransactionGrandAmount\">{amount}</Total></RetailTransaction></Transaction>\n",
        number / 3600,
        number / 60 % 60,
        number % 60,
    )
}

fn decimal(minor: u64) -> String {
    format!("{}.{:02}", minor / 100, minor % 100)
}

fn log_of(sales: u64) -> String {
    let mut log = HEAD.to_owned();
    (1..=sales).for_each(|number| log.push_str(&sale(number)));
    log + "</POSLog>\n"
}

/// Sum of the sales 1 to `sales`.
fn worth(sales: u64) -> i64 {
    i64::try_from((1..=sales).map(|number| 100 + number).sum::<u64>()).unwrap()
}

/// A till of a company, with its hub.
struct Shop {
    company: Company,
    hub: Node,
    dir: PathBuf,
    till: Option<Node>,
}

impl Shop {
    fn open(currency: &str) -> Self {
        let mut company = Company::in_currency(currency);
        let hub = company.hub();
        let dir = company.join("store-1", "till-01");
        let node = till(&dir);
        Self { company, hub, dir, till: Some(node) }
    }

    fn api(&self) -> &str {
        &self.till.as_ref().unwrap().http
    }

    /// Imports and gives exit code, summary, answers and diagnostics.
    fn import(&self, format: &str, file: &Path, more: &[&str]) -> Imported {
        let arguments = ["import", "--json", "--format", format, path(file), "--api", self.api()];
        let output = tillsync(&[&arguments, more].concat(), "");
        Imported::of(output.status.code(), &output.stdout, &output.stderr)
    }

    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let file = self.company.folder().join(name);
        std::fs::write(&file, content).unwrap();
        file
    }

    fn sum(&self, account: &str) -> i64 {
        let balances = self.company.balances();
        assert_eq!(balances.values().sum::<i64>(), 0, "the trial balance");
        balances.iter().filter(|row| row.0.starts_with(account)).map(|row| row.1).sum()
    }

    /// What is open, for a person to judge or to know, by type and receipt.
    fn cases(&self) -> Vec<(String, String)> {
        let cases = self.company.ask(&["cases"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let one = |case: &Value| (text(&case["type"]), text(&case["members"][0]["receipt"]));
        cases.as_array().unwrap().iter().map(one).collect()
    }

    fn close(mut self) {
        self.till.take().unwrap().stop();
        self.hub.stop();
        assert_verified(&self.dir);
        assert_verified(&self.company.dir);
    }
}

#[derive(Debug)]
struct Imported {
    code: Option<i32>,
    summary: Value,
    answers: Vec<Value>,
    stderr: String,
}

impl Imported {
    fn of(code: Option<i32>, stdout: &[u8], stderr: &[u8]) -> Self {
        let lines = String::from_utf8_lossy(stdout);
        let mut answers: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let has_summary = answers.last().is_some_and(|last| last.get("summary").is_some());
        let summary = if has_summary { answers.pop().unwrap()["summary"].take() } else { Value::Null };
        Self { code, summary, answers, stderr: String::from_utf8_lossy(stderr).into_owned() }
    }

    fn refusals(&self) -> Vec<&str> {
        self.answers.iter().filter_map(|answer| answer["error"]["detail"].as_str()).collect()
    }
}

fn shared(name: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(name);
    if file.exists() {
        return Some(file);
    }
    eprintln!("skipped: {} is not here", file.display());
    None
}

#[test]
fn a_generated_poslog_is_in_the_books_once_however_often_it_is_imported() {
    let shop = Shop::open("USD");
    let control = "<Transaction><ControlTransaction><NoSale/></ControlTransaction></Transaction>";
    let file = shop.file("log.xml", log_of(100).replace("</POSLog>", &format!("{control}</POSLog>")));
    let first = shop.import("poslog", &file, &[]);
    assert_eq!(first.code, Some(0), "{first:?}");
    assert_eq!(
        first.summary,
        json!({"read": 101, "recorded": 100, "known": 0, "skipped": {"NoSale": 1}, "refused": 0})
    );
    assert_eq!(first.answers[6]["receipt"], "9.3.20171001.7");
    let again = shop.import("poslog", &file, &[]);
    assert_eq!((&again.summary["recorded"], &again.summary["known"]), (&json!(0), &json!(100)));
    let (ids, ids_again) = (first.answers.iter().map(|a| &a["id"]), again.answers.iter().map(|a| &a["id"]));
    assert!(ids.eq(ids_again), "the first answers again");
    let rest = shop.import("poslog", &file, &["--from", "91"]);
    assert_eq!(rest.summary["read"], 11);
    let by_hand = shop.import("poslog", &file, &["--workstation", "4"]);
    assert_eq!(by_hand.summary["skipped"], json!({"another workstation": 101}));
    until("all of it at the hub", || shop.company.records() == 100);
    until("the books", || shop.sum("Assets:Cash") == worth(100));
    assert_eq!(shop.sum("Income:Sales"), -worth(100));
    shop.close();
}

#[test]
fn the_log_of_a_real_store_comes_out_to_the_cent_and_what_opens_is_what_a_person_must_see() {
    let Some(file) = shared("poslog-ncr/POSLog.xml") else { return };
    let shop = Shop::open("USD");
    let imported = shop.import("poslog", &file, &["--time-zone", "America/Los_Angeles"]);
    assert_eq!(imported.code, Some(0), "{imported:?}");
    assert_eq!(imported.summary["recorded"], 42);
    assert_eq!(imported.summary["skipped"], json!({"OperatorSignOn": 4, "OperatorSignOff": 3, "NoSale": 2}));
    let again = shop.import("poslog", &file, &[]);
    assert_eq!(again.summary["known"], 42, "the time zone is no part of a transaction's name");
    until("all of it at the hub", || shop.company.records() == 42);
    until("the books", || shop.sum("Assets:Cash:Drawer:till-01") == 6_646);
    assert_eq!(shop.sum("Assets:Card:Clearing"), 257_726);
    // A bottle's deposit was paid back without a receipt: by the default policy that sale waits for a person.
    assert_eq!(shop.sum("Assets:Suspense"), -1_188);
    assert_eq!(shop.sum("Liabilities:Sales-Tax"), -5_715);
    assert_eq!(shop.sum("Income"), -(264_372 - 5_715 - 1_188));
    let mut cases = shop.cases();
    cases.sort();
    // A record of history is older than what the till had seen of the hub by then, and which is chance: for information.
    assert_eq!(cases.len(), 2, "{cases:?}");
    assert_eq!(cases[0].0, "CLOCK_SKEW");
    assert_eq!(cases[1], ("NO_REFERENCE".to_owned(), "9.34.20171001.101".to_owned()));
    shop.company.ask(&["policy", "set", "--store", "store-1", "blind_refunds=allow"]);
    until("the deposit allowed", || shop.sum("Assets:Suspense") == 0);
    assert_eq!(shop.sum("Income"), -(264_372 - 5_715));
    if let Some(small) = shared("poslog-ncr/SMALL.xml") {
        assert_eq!(shop.import("poslog", &small, &[]).summary["recorded"], 1);
    }
    shop.close();
}

#[test]
fn a_week_of_real_baskets_of_many_tills_through_a_pipe_equals_its_control_totals() {
    let Some(packed) = shared("complete-journey/transactions.ndjson.gz") else { return };
    let Some(control) = shared("complete-journey/control_totals.json") else { return };
    let Ok(mut unpack) = Command::new("gzip").args(["-dc", path(&packed)]).stdout(Stdio::piped()).spawn()
    else {
        eprintln!("skipped: gzip is not installed");
        return;
    };
    let shop = Shop::open("USD");
    // As another till's lines they are refused; taken over on purpose, they keep their origin in their numbers.
    let line = r#"{"kind":"sale","receipt":"R-1","terminal":"till-09","currency":"USD","lines":[{"sku":"a","quantity":"1","amount_minor":1}],"tenders":[{"type":"cash","amount_minor":1}]}"#;
    let refused = shop.import("ndjson", &shop.file("other.ndjson", line), &[]);
    assert_eq!((refused.code, &refused.summary["refused"]), (Some(1), &json!(1)));
    assert!(refused.refusals()[0].contains("this till is till-01"), "{refused:?}");

    let output = Command::new(env!("CARGO_BIN_EXE_tillsync"))
        .args(["import", "--json", "--format", "ndjson", "--take-all", "-", "--api", shop.api()])
        .stdin(unpack.stdout.take().unwrap())
        .output()
        .unwrap();
    unpack.wait().unwrap();
    let imported = Imported::of(output.status.code(), &output.stdout, &output.stderr);
    assert_eq!(imported.code, Some(0), "{}", imported.stderr);
    assert_eq!(imported.summary["recorded"], 3_088);
    assert_eq!(imported.answers[0]["receipt"], "427/till-03/40788303218");
    until("all of it at the hub", || shop.company.records() == 3_088);
    let control: Value = serde_json::from_str(&std::fs::read_to_string(control).unwrap()).unwrap();
    let expected = &control["USD"]["expected_ledger"];
    let total = |name: &str| expected[name].as_i64().unwrap();
    until("the books", || shop.sum("Assets:Cash") == total("assets:cash"));
    assert_eq!(shop.sum("Assets:Card:Clearing"), total("assets:card-clearing"));
    assert_eq!(shop.sum("Assets:Other-Tender") + shop.sum("Assets:Coupons"), total("assets:other-tender"));
    assert_eq!(shop.sum("Income:Sales"), total("income:sales (sales less voids, net of tax)"));
    assert_eq!(shop.sum("Assets:Suspense"), 0);
    shop.close();
}

#[test]
fn returns_of_other_tills_and_stores_find_their_sales_when_all_are_taken_into_one_log() {
    let Some(file) = shared("uci-sample/transactions.ndjson") else { return };
    let Some(control) = shared("uci-sample/control_totals.json") else { return };
    let shop = Shop::open("GBP");
    let settings =
        ["policy", "set", "--store", "store-1", "refund_limit_minor=unlimited", "blind_refunds=allow"];
    shop.company.ask(&settings);
    let imported = shop.import("ndjson", &file, &["--take-all"]);
    assert_eq!((imported.code, &imported.summary["recorded"]), (Some(0), &json!(373)), "{}", imported.stderr);
    until("all of it at the hub", || shop.company.records() == 373);
    let control: Value = serde_json::from_str(&std::fs::read_to_string(control).unwrap()).unwrap();
    let expected = &control["GBP"]["expected_ledger"];
    let total = |name: &str| expected[name].as_i64().unwrap();
    until("the books", || shop.sum("Assets:Cash") == total("assets:cash"));
    assert_eq!(shop.sum("Assets:Suspense"), 0);
    assert_eq!(shop.sum("Income:Returns"), total("income:returns (refunds, net of tax)"));
    assert_eq!(shop.sum("Liabilities:Sales-Tax"), total("liabilities:sales-tax"));
    shop.close();
}

/// Starts an import whose answers are read as they come.
fn start(file: &Path, api: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_tillsync"))
        .args(["import", "--format", "poslog", path(file), "--api", api])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn read_answers(child: &mut Child, number: usize) -> BufReader<std::process::ChildStdout> {
    let mut answers = BufReader::new(child.stdout.take().unwrap());
    for _ in 0..number {
        let mut line = String::new();
        assert!(answers.read_line(&mut line).unwrap() > 0, "the import ended early");
    }
    answers
}

#[test]
fn killed_at_either_side_and_run_again_every_transaction_is_there_once() {
    let mut shop = Shop::open("USD");
    let sales = 4_000;
    let file = shop.file("log.xml", log_of(sales));

    // The till dies in the middle.
    let mut child = start(&file, shop.api());
    let mut answers = read_answers(&mut child, 300);
    shop.till.as_mut().unwrap().kill();
    let mut rest = String::new();
    answers.read_to_string(&mut rest).unwrap();
    let mut reason = String::new();
    child.stderr.take().unwrap().read_to_string(&mut reason).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{reason}");
    assert!(reason.contains("Run the same import again to go on"), "{reason}");
    let answered = 300 + rest.lines().count();
    assert!(answered < 4_000 && reason.contains(&format!("--from {} passes over", answered + 1)), "{reason}");

    // The importer dies in the middle.
    shop.till = Some(till(&shop.dir));
    let mut child = start(&file, shop.api());
    let _answers = read_answers(&mut child, 1_000);
    child.kill().unwrap();
    child.wait().unwrap();

    let again = shop.import("poslog", &file, &[]);
    assert_eq!((again.code, &again.summary["read"]), (Some(0), &json!(sales)));
    assert!(again.summary["known"].as_u64().unwrap() >= 1_000, "{}", again.summary);
    let third = shop.import("poslog", &file, &[]);
    assert_eq!(third.summary["known"], sales);
    until("all of it at the hub", || shop.company.records() == sales);
    until("the books", || shop.sum("Assets:Cash") == worth(sales));
    shop.close();
}

#[test]
fn hostile_files_are_refused_with_place_and_reason_and_the_rest_goes_on() {
    let shop = Shop::open("USD");
    let mut laughs = "<!DOCTYPE POSLog [<!ENTITY l0 \"ha\">".to_owned();
    for depth in 1..=9 {
        let _ = write!(laughs, "<!ENTITY l{depth} \"{}\">", format!("&l{};", depth - 1).repeat(10));
    }
    laughs.push_str("]><POSLog><Transaction><a>&l9;</a></Transaction></POSLog>");
    let utf16: Vec<u8> = "\u{feff}<POSLog/>".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cut = log_of(3).replace("</POSLog>", "").trim_end().trim_end_matches("</Transaction>").to_owned();
    let fatal: Vec<(&str, Vec<u8>, &str, u64)> = vec![
        ("laughs.xml", laughs.into_bytes(), "has a DOCTYPE", 0),
        ("utf16.xml", utf16, "is in UTF-16", 0),
        ("cut.xml", cut.into_bytes(), "the file ends in the middle of this transaction", 2),
        (
            "text.xml",
            [HEAD.as_bytes(), b"<Transaction><a>", &vec![b'x'; 3 << 20]].concat(),
            "of more than 1048576 bytes",
            0,
        ),
        ("deep.xml", (HEAD.to_owned() + &"<a>".repeat(100_000)).into_bytes(), "nested deeper than 64", 0),
        ("none.xml", b"<POSLog><Transaction></Wrong></POSLog>".to_vec(), "(line 1, column 22)", 0),
    ];
    for (name, bytes, want, before) in fatal {
        let imported = shop.import("poslog", &shop.file(name, bytes), &[]);
        assert_eq!(imported.code, Some(1), "{name}: {imported:?}");
        assert!(imported.stderr.contains(want), "{name}: {}", imported.stderr);
        assert!(
            imported.stderr.contains("import: ") && imported.stderr.contains(name),
            "{}",
            imported.stderr
        );
        assert_eq!(imported.answers.len() as u64, before, "{name}");
    }
    let hostile = [
        sale(10).replace("Apple", "4242 4242 4242 4242"),
        sale(11).replace("<ExtendedAmount>1.11", "<ExtendedAmount>99999999999999999999"),
        sale(12).replace("<ExtendedAmount>1.12", "<ExtendedAmount>1,12"),
        sale(13).replace("TenderType=\"Cash\"", "TenderType=\"Beads\""),
        sale(14).replace("<TenderChange>", "<SurchargeAmount>0.30</SurchargeAmount><TenderChange>"),
        sale(15).replace("<WorkstationID>3</WorkstationID>", ""),
        sale(16).replace("2017-10-01T", "2092-10-01T"),
    ];
    let file = shop.file("mixed.xml", format!("{HEAD}{}{}{}</POSLog>", sale(9), hostile.concat(), sale(17)));
    let imported = shop.import("poslog", &file, &[]);
    assert_eq!((imported.code, &imported.summary["recorded"]), (Some(1), &json!(2)), "{imported:?}");
    let wants = [
        "card number",
        "out of range",
        "is no amount of USD",
        "TenderType \"Beads\"",
        "SurchargeAmount",
        "WorkstationID is missing",
        "ahead of this till's clock",
    ];
    for (refusal, want) in imported.refusals().iter().zip(wants) {
        assert!(refusal.contains(want), "{want}: {refusal}");
    }
    assert_eq!(imported.refusals().len(), wants.len());
    assert_eq!((&imported.answers[1]["transaction"], &imported.answers[1]["line"]), (&json!(2), &json!(4)));
    assert!(!format!("{imported:?}").contains("4242 4242"), "a card number is never repeated");
    shop.close();
}

#[test]
fn a_long_log_through_a_pipe_takes_little_memory() {
    let shop = Shop::open("USD");
    let sales = 1_000;
    let mut child = Command::new(env!("CARGO_BIN_EXE_tillsync"))
        .args(["import", "--format", "poslog", "-", "--api", shop.api()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        let note = format!("<RetailTransaction><Note>{}</Note>", "n".repeat(64 << 10));
        pipe.write_all(HEAD.as_bytes()).unwrap();
        for number in 1..=sales {
            pipe.write_all(sale(number).replace("<RetailTransaction>", &note).as_bytes()).unwrap();
        }
        pipe
    });
    // A pipe that stays open: what is in it is answered all the same.
    let _answers = read_answers(&mut child, usize::try_from(sales).unwrap());
    if let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", child.id())) {
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak_kb: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
        assert!(peak_kb < 48 << 10, "{peak_kb} kB");
        eprintln!("peak {peak_kb} kB over {} MB", sales * 64 / 1_024);
    }
    writer.join().unwrap().write_all(b"</POSLog>").unwrap();
    assert!(child.wait().unwrap().success());
    shop.close();
}
