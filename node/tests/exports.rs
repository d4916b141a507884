//! What a bookkeeper gets is accepted by the programs it is for, and the balances that they print are the hub's. A
//! batch, once cut, is the same for ever; what comes later is in the next one, and nothing else is.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Company, Node, assert_verified, path, sale, shared, till, tillsync, until};
use engine::ledger::Account;
use serde_json::Value;

/// Minor units by `ACCOUNT CURRENCY`, as `ledger balances` says it; zeros left out.
type Balances = BTreeMap<String, i64>;

const FORMATS: [&str; 5] = ["hledger", "beancount", "csv", "quickbooks", "xero"];

/// Three days of real trade. Refunds without a receipt are held at first, and allowed later.
#[test]
fn batches_of_real_trade_are_accepted_stay_as_they_are_and_hold_only_what_is_new() {
    let Some(text) = shared("data/uci-sample/transactions.ndjson") else { return };
    let mut company = Company::new();
    let hub = company.hub();
    let tills = trade(&company, &parts(&text, |row| row["store"].as_str().unwrap().to_owned()));
    until("every record at the hub", || company.records() == 373);
    until("references across stores looked up", || company.balances() == later(|| company.balances()));

    let first = cut(&company, "hledger", &[]);
    assert_eq!(first.number, 1);
    assert!(first.totals.keys().any(|account| account.contains("Suspense")), "refunds are held");
    accepted(&first.files[0], &first.totals);
    let mut firsts: Vec<Batch> = FORMATS.iter().map(|format| again(&company, format, 1, &[])).collect();
    firsts.extend(FORMATS.iter().map(|format| again(&company, format, 1, &["--detail", "record"])));
    firsts.extend(FORMATS.iter().map(|format| again(&company, format, 1, &["--detail", "summary"])));
    for batch in &firsts {
        assert_eq!((batch.number, &batch.totals), (1, &first.totals));
        accepted(&batch.files[0], &first.totals);
        assert_eq!(read_back(batch), expected(batch), "{}", batch.format);
    }
    assert_eq!(firsts[0].files, first.files);
    let lines = &firsts.iter().find(|batch| batch.format == "csv").unwrap().files[0].1;
    assert!(lines.contains(",C-"), "what is in suspense names its case");
    let many = firsts.iter().find(|batch| batch.format == "xero" && batch.files.len() > 1);
    assert!(many.is_some(), "a record a journal needs several files of Xero");

    refused(&company, &["export", "--format", "csv"], 1, "--batch 1");
    refused(&company, &["export", "--format", "csv", "--batch", "2"], 1, "no batch 2");
    refused(&company, &["export", "--format", "sage"], 2, "beancount");
    refused(&company, &["export", "--format", "csv", "--store", "nowhere"], 1, "tillsync stores");

    let (receipt, void) = void_of_the_last_cash_sale(&text);
    assert_eq!(custody(&company, &receipt), "exported");
    for store in ["store-1", "store-2", "store-3"] {
        let settings =
            ["policy", "set", "--store", store, "refund_limit_minor=unlimited", "blind_refunds=allow"];
        company.ask(&settings);
    }
    let terminal = serde_json::from_str::<Value>(&void).unwrap()["terminal"].as_str().unwrap().to_owned();
    capture(&tills[&terminal], &void);
    until("the void at the hub", || company.records() == 374);
    assert_ne!(custody(&company, "V-1"), "exported");
    until("nothing in suspense", || !company.balances().keys().any(|name| name.contains("Suspense")));

    let only = cut(&company, "quickbooks", &["--store", "store-1", "--date-format", "dmy"]);
    let second = cut(&company, "xero", &["--detail", "record", "--tax-rate", "Zero Rated Income"]);
    assert_eq!((only.number, second.number), (2, 3));
    for batch in [&only, &second] {
        assert_eq!(read_back(batch), expected(batch), "{}", batch.format);
    }
    assert!(second.files[0].1.contains(",Zero Rated Income,"));
    assert!(only.stores.keys().eq(["store-1"]) && !second.stores.contains_key("store-1"));
    for (store, (from, _)) in only.stores.iter().chain(&second.stores) {
        assert_eq!(*from, first.stores[store].1 + 1, "numbers of {store} go on without a gap");
    }
    assert!(only.entries + second.entries < first.entries / 2, "only the difference");
    let whole = sum([&first.totals, &only.totals, &second.totals]);
    assert_eq!(whole, company.balances());
    assert_eq!(custody(&company, "V-1"), "exported");
    for format in ["hledger", "beancount"] {
        let next = again(&company, format, 3, &[]);
        accepted(&next.files[0], &second.totals);
        let asserts = [" = ", " balance "].iter().any(|sign| next.files[0].1.contains(sign));
        assert!(!asserts, "drawers of batch 1 are not asserted again");
    }

    // Everything that could have moved a byte has happened: later records, another policy, another life.
    hub.stop();
    let hub = company.hub();
    assert_eq!(company.balances(), whole);
    for (at, batch) in firsts.iter().enumerate() {
        let detail: &[&str] = match at / FORMATS.len() {
            0 => &[],
            1 => &["--detail", "record"],
            _ => &["--detail", "summary"],
        };
        assert_eq!(again(&company, &batch.format, 1, detail).files, batch.files, "{}", batch.format);
    }
    assert_eq!(again(&company, "quickbooks", 2, &[]).files, only.files, "dates as when it was cut");
    assert_eq!(again(&company, "xero", 3, &[]).files, second.files, "rate and detail as when it was cut");
    let list = company.ask(&["export", "--list"]);
    let numbers: Vec<u64> =
        list.as_array().unwrap().iter().map(|batch| batch["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(list[1]["prev"], list[0]["hash"]);
    assert_eq!(balances_of(&list[2]["totals"]["accounts"]), second.totals);

    for (_, node) in tills {
        node.stop();
    }
    hub.stop();
    assert_verified(&company.dir);
}

/// Yen have no decimals, dinars three; one drawer holds all of them.
#[test]
fn amounts_have_the_digits_of_their_currency_in_every_program() {
    let mut company = Company::new();
    let _hub = company.hub();
    company.join("s1", "Till_1.a");
    company.ask(&["policy", "set", "--store", "s1", "accepted_currencies=GBP,JPY,KWD"]);
    let node = till(&company.folder().join("Till_1.a"));
    let currencies = ["GBP", "JPY", "KWD"];
    for (n, currency) in currencies.iter().cycle().take(9).enumerate() {
        capture(&node, &sale(&format!("R-{n}"), 1_234_567).replace("GBP", currency));
    }
    until("every record at the hub", || company.records() == 9);
    let batch = cut(&company, "hledger", &[]);
    assert_eq!(batch.totals["Assets:Cash:Drawer:Till_1.a JPY"], 3 * 1_234_567);
    assert!(batch.files[0].1.contains("1234.567 KWD") && batch.files[0].1.contains(" 1234567 JPY"));
    for format in FORMATS {
        for detail in ["record", "summary"] {
            let batch = again(&company, format, 1, &["--detail", detail]);
            accepted(&batch.files[0], &batch.totals);
            assert_eq!(read_back(&batch), expected(&batch), "{format}");
        }
    }
}

/// A week of a chain's groceries, in dollars, rung up at four tills.
#[test]
fn a_week_of_groceries_in_dollars_is_accepted() {
    let Some(text) = groceries() else { return };
    let mut company = Company::in_currency("USD");
    let _hub = company.hub();
    let tills = trade(&company, &parts(&text, |_| "groceries".to_owned()));
    assert_eq!(tills.len(), 4);
    until("every record at the hub", || company.records() == 3_088);
    let batch = cut(&company, "beancount", &[]);
    let control: Value =
        serde_json::from_str(&shared("data/complete-journey/control_totals.json").unwrap()).unwrap();
    let expected_ledger = &control["USD"]["expected_ledger"];
    let of = |prefix: &str| {
        batch.totals.iter().filter(|row| row.0.starts_with(prefix)).map(|row| row.1).sum::<i64>()
    };
    for (account, name) in [
        ("Assets:Cash", "assets:cash"),
        ("Assets:Card:Clearing", "assets:card-clearing"),
        ("Assets:Other-Tender", "assets:other-tender"),
        ("Income:Sales", "income:sales (sales less voids, net of tax)"),
    ] {
        assert_eq!(Some(of(account)), expected_ledger[name].as_i64(), "{account}");
    }
    for format in FORMATS {
        let batch = again(&company, format, 1, &[]);
        accepted(&batch.files[0], &batch.totals);
        assert_eq!(read_back(&batch), expected(&batch), "{format}");
    }
}

/// An export as the command gave it.
struct Batch {
    number: u64,
    format: String,
    entries: u64,
    totals: Balances,
    stores: BTreeMap<String, (u64, u64)>,
    files: Vec<(PathBuf, String)>,
}

fn cut(company: &Company, format: &str, more: &[&str]) -> Batch {
    export(company, format, more)
}

fn again(company: &Company, format: &str, number: u64, more: &[&str]) -> Batch {
    export(company, format, &[&["--batch", &number.to_string()], more].concat())
}

/// Exports into a folder of its own; file names are kept without it, so that two exports can be compared.
fn export(company: &Company, format: &str, more: &[&str]) -> Batch {
    let folder = tempfile::tempdir_in(company.folder()).unwrap().keep();
    let arguments = [&["export", "--format", format, "--out", path(&folder)], more].concat();
    let view = company.ask(&arguments);
    let totals = &view["totals"];
    let stores = totals["stores"].as_object().unwrap().iter();
    let files = view["files"].as_array().unwrap().iter().map(|file| {
        let name = file["name"].as_str().unwrap();
        (PathBuf::from(name), std::fs::read_to_string(folder.join(name)).unwrap())
    });
    Batch {
        number: view["number"].as_u64().unwrap(),
        format: format.to_owned(),
        entries: totals["entries"].as_u64().unwrap(),
        totals: balances_of(&totals["accounts"]),
        stores: stores
            .map(|(store, of)| (store.clone(), (of["first"].as_u64().unwrap(), of["last"].as_u64().unwrap())))
            .collect(),
        files: files.collect(),
    }
}

fn balances_of(accounts: &Value) -> Balances {
    let rows = accounts.as_object().unwrap().iter();
    rows.map(|(account, minor)| (account.clone(), minor.as_i64().unwrap())).filter(|row| row.1 != 0).collect()
}

fn sum<'a>(sheets: impl IntoIterator<Item = &'a Balances>) -> Balances {
    let mut sum = Balances::new();
    for (account, minor) in sheets.into_iter().flatten() {
        *sum.entry(account.clone()).or_default() += minor;
    }
    sum.retain(|_, minor| *minor != 0);
    sum
}

fn refused(company: &Company, arguments: &[&str], code: i32, word: &str) {
    let output = tillsync(&[arguments, &["--dir", path(&company.dir)]].concat(), "");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(word), "{said}");
}

fn custody(company: &Company, receipt: &str) -> String {
    company.ask(&["custody", receipt])["state"].as_str().unwrap().to_owned()
}

/// What is asked for, a moment later.
fn later<T>(ask: impl Fn() -> T) -> T {
    std::thread::sleep(std::time::Duration::from_millis(700));
    ask()
}

/// Transactions by store and till.
fn parts(text: &str, store: impl Fn(&Value) -> String) -> BTreeMap<(String, String), String> {
    let mut parts: BTreeMap<(String, String), String> = BTreeMap::new();
    for line in text.lines() {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row["store"] = store(&row).into();
        let terminal = row["terminal"].as_str().unwrap().to_owned();
        let part = parts.entry((row["store"].as_str().unwrap().to_owned(), terminal)).or_default();
        part.push_str(&format!("{row}\n"));
    }
    parts
}

/// Enrols and runs the tills, and captures at each what is its own.
fn trade(company: &Company, parts: &BTreeMap<(String, String), String>) -> BTreeMap<String, Node> {
    let tills = parts.iter().map(|((store, terminal), part)| {
        let node = till(&company.join(store, terminal));
        capture(&node, part);
        (terminal.clone(), node)
    });
    tills.collect()
}

fn capture(node: &Node, lines: &str) {
    let output = tillsync(&["capture", "-", "--api", &node.http], lines);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// A void, on its day, of the last sale in cash at a till: the receipt of the sale, and the void.
fn void_of_the_last_cash_sale(text: &str) -> (String, String) {
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let cash = |row: &&Value| {
        row["kind"] == "sale"
            && row["tenders"].as_array().unwrap().iter().all(|tender| tender["type"] == "cash")
    };
    let sale = rows.iter().rfind(cash).unwrap();
    let last = rows.iter().rfind(|row| row["terminal"] == sale["terminal"]).unwrap();
    let mut void = sale.clone();
    let receipt = sale["receipt"].as_str().unwrap().to_owned();
    void["kind"] = "void".into();
    void["reverses"] = "sale".into();
    void["reason"] = "rung up twice".into();
    void["receipt"] = "V-1".into();
    void["original_receipt"] = receipt.clone().into();
    void["at"] = last["at"].clone();
    (receipt, void.to_string())
}

fn groceries() -> Option<String> {
    let name = "data/complete-journey/transactions.ndjson.gz";
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared").join(name);
    if !file.exists() {
        eprintln!("skipped: {} is not here", file.display());
        return None;
    }
    let output = run("gzip", &["-dc", path(&file)])?;
    Some(String::from_utf8(output).unwrap())
}

/// Runs a program; says so when it is not installed.
fn run(program: &str, arguments: &[&str]) -> Option<Vec<u8>> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => {
            let said = [&output.stdout[..], &output.stderr[..]].concat();
            assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&said));
            Some(output.stdout)
        }
        Err(_) => {
            eprintln!("skipped: {program} is not installed");
            None
        }
    }
}

/// The programs that read a file accept it, and print the balances of the batch.
fn accepted((name, text): &(PathBuf, String), totals: &Balances) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join(name);
    std::fs::write(&file, text).unwrap();
    let file = path(&file);
    match name.extension().and_then(|it| it.to_str()) {
        Some("journal") => {
            by_hledger(file, totals);
            by_ledger(file, totals);
        }
        Some("beancount") => by_beancount(file, totals),
        _ => {}
    }
}

fn by_hledger(file: &str, totals: &Balances) {
    if run("hledger", &["-f", file, "check", "--strict"]).is_none() {
        return;
    }
    let table = run("hledger", &["-f", file, "balance", "--flat", "-N", "-O", "csv"]).unwrap();
    let mut printed = Balances::new();
    for row in csv::Reader::from_reader(&table[..]).records() {
        let row = row.unwrap();
        for amount in row[1].split(", ") {
            let (amount, currency) = amount.rsplit_once(' ').unwrap();
            printed.insert(format!("{} {currency}", &row[0]), minor(amount, currency));
        }
    }
    assert_eq!(&printed, totals, "hledger");
}

fn by_ledger(file: &str, totals: &Balances) {
    if run("ledger", &["--pedantic", "-f", file, "balance"]).is_none() {
        return;
    }
    let mut printed = Balances::new();
    for currency in currencies(totals) {
        let only = format!("commodity == \"{currency}\"");
        let form = "%(account)\t%(display_total)\n";
        let arguments =
            ["-f", file, "balance", "--flat", "--no-total", "--limit", &only, "--balance-format", form];
        let table = String::from_utf8(run("ledger", &arguments).unwrap()).unwrap();
        for row in table.lines() {
            let (account, amount) = row.split_once('\t').unwrap();
            let amount = amount.strip_suffix(&format!(" {currency}")).unwrap();
            printed.insert(format!("{account} {currency}"), minor(amount, &currency));
        }
    }
    assert_eq!(&printed, totals, "ledger");
}

/// Beancount names accounts in its own way: tills with a capital, nothing but dashes, and no tax without a name.
fn by_beancount(file: &str, totals: &Balances) {
    if run("bean-check", &[file]).is_none() {
        return;
    }
    let script = "
import sys
try:
    from beancount import loader
except ImportError:
    sys.exit()
entries, errors, _ = loader.load_file(sys.argv[1])
assert not errors, errors
sums = {}
for entry in entries:
    for posting in getattr(entry, 'postings', []):
        key = posting.account + ' ' + posting.units.currency
        sums[key] = sums.get(key, 0) + posting.units.number
for key, number in sorted(sums.items()):
    print(key, number)
";
    let Some(table) = run("python3", &["-c", script, file]) else { return };
    if table.is_empty() {
        eprintln!("skipped: python3 does not find the beancount that bean-check belongs to");
        return;
    }
    let mut printed = Balances::new();
    for row in String::from_utf8(table).unwrap().lines() {
        let words: Vec<&str> = row.split(' ').collect();
        printed.insert(format!("{} {}", words[0], words[1]), minor(words[2], words[1]));
    }
    printed.retain(|_, minor| *minor != 0);
    let name = |account: &str| {
        account
            .replace("Drawer:till", "Drawer:Till")
            .replace("Till_1.a", "Till-1-a")
            .replace("Liabilities:Sales-Tax ", "Liabilities:Sales-Tax:Uncoded ")
    };
    let wanted: Balances = totals.iter().map(|(account, minor)| (name(account), *minor)).collect();
    assert_eq!(printed, wanted, "Beancount");
}

fn currencies(totals: &Balances) -> BTreeSet<String> {
    totals.keys().map(|name| name.rsplit_once(' ').unwrap().1.to_owned()).collect()
}

/// An amount with exactly the digits of its currency, in minor units.
fn minor(text: &str, currency: &str) -> i64 {
    let digits = match currency {
        "JPY" => 0,
        "KWD" => 3,
        _ => 2,
    };
    assert_eq!(text.split_once('.').map_or(0, |(_, places)| places.len()), digits, "{text} {currency}");
    text.replace('.', "").parse().unwrap()
}

/// What a table says, added up by whoever imports it; by account code for Xero, by nothing for plain text.
fn read_back(batch: &Batch) -> Balances {
    let mut sums = Balances::new();
    for (name, text) in &batch.files {
        let mut journals: BTreeMap<String, i64> = BTreeMap::new();
        let mut lines = 0;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        if name.extension().is_none_or(|it| it != "csv") || name.to_str().unwrap().ends_with("-totals.csv") {
            continue;
        }
        for row in reader.deserialize::<BTreeMap<String, String>>() {
            let row = row.unwrap();
            let of = |column: &str| row[column].as_str();
            let side = |debit: &str, credit: &str, read: &dyn Fn(&str) -> i64| match (of(debit), of(credit)) {
                (amount, "") => read(amount),
                ("", amount) => -read(amount),
                both => panic!("{both:?}"),
            };
            let (account, currency, amount, journal) = match batch.format.as_str() {
                "csv" => {
                    let amount = side("debit_minor", "credit_minor", &|text| text.parse().unwrap());
                    let journal = format!("{} {} {}", of("store"), of("date"), of("journal_no"));
                    (of("account").to_owned(), of("currency").to_owned(), amount, journal)
                }
                "quickbooks" => {
                    let currency = of("Currency");
                    let amount = side("Debits", "Credits", &|text| minor(text, currency));
                    assert!(of("Journal No.").len() <= 21);
                    (of("Account Name").to_owned(), currency.to_owned(), amount, of("Journal No.").to_owned())
                }
                _ => {
                    let currency = name.to_str().unwrap().split('-').rev().nth(1).unwrap();
                    let journal = format!("{} {}", of("Narration"), of("Date"));
                    (
                        of("AccountCode").to_owned(),
                        currency.to_owned(),
                        minor(of("Amount"), currency),
                        journal,
                    )
                }
            };
            lines += 1;
            *journals.entry(format!("{journal} {currency}")).or_default() += amount;
            *sums.entry(format!("{account} {currency}")).or_default() += amount;
        }
        assert!(journals.values().all(|sum| *sum == 0), "each journal balances within its file");
        assert!(batch.format != "xero" || lines <= 300, "{lines} lines");
    }
    sums.retain(|_, minor| *minor != 0);
    sums
}

/// What `read_back` should find.
fn expected(batch: &Batch) -> Balances {
    match batch.format.as_str() {
        "csv" | "quickbooks" => batch.totals.clone(),
        "xero" => {
            let mut codes = Balances::new();
            for (name, minor) in &batch.totals {
                let (account, currency) = name.rsplit_once(' ').unwrap();
                let code = account.parse::<Account>().unwrap().code();
                *codes.entry(format!("{code} {currency}")).or_default() += minor;
            }
            codes.retain(|_, minor| *minor != 0);
            codes
        }
        _ => Balances::new(),
    }
}
