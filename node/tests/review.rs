//! From a doubt to closed books, with real processes: two tills void one sale in a partition; reviewers decide, alone or
//! with a second person; the tills hear of it; payments fail; days are closed and locked.

mod common;

use std::path::Path;

use common::{Company, Node, path, till, tillsync, until};
use serde_json::{Value, json};

/// A reviewer's shell: the hub's address and a token.
struct Desk<'a> {
    company: &'a Company,
    hub: &'a Node,
}

impl Desk<'_> {
    fn person(&self, name: &str, role: &str) -> String {
        let person = self.company.ask(&["hub", "people", "add", "--name", name, "--role", role]);
        person["token"].as_str().unwrap().to_owned()
    }

    /// Runs a command with a token; the answer, or what stderr says and the exit code.
    fn run(&self, token: &str, arguments: &[&str]) -> Result<Value, (i32, String)> {
        let all = [arguments, &["--json", "--api", &self.hub.http, "--token", token]].concat();
        let output = tillsync(&all, "");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        if output.status.success() {
            Ok(serde_json::from_slice(&output.stdout).unwrap())
        } else {
            Err((output.status.code().unwrap(), error))
        }
    }

    fn case(&self, case_type: &str) -> Value {
        let cases = self.company.ask(&["cases", "--type", case_type]);
        assert_eq!(cases.as_array().unwrap().len(), 1, "{case_type}: {cases}");
        let id = cases[0]["id"].as_str().unwrap();
        self.company.ask(&["case", id])
    }
}

fn capture(node: &Node, transaction: &Value) {
    let output = tillsync(&["capture", "-", "--api", &node.http], &transaction.to_string());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn basket(kind: &str, receipt: &str, minor: i64, tender: &Value) -> Value {
    json!({"kind": kind, "receipt": receipt, "currency": "GBP", "operator": "op-7",
        "lines": [{"sku": "lantern", "quantity": "2", "amount_minor": minor, "tax_minor": minor / 6}],
        "tenders": [tender]})
}

fn cash(minor: i64) -> Value {
    json!({"type": "cash", "amount_minor": minor})
}

fn reversal(kind: &str, receipt: &str, of: &str, minor: i64) -> Value {
    let mut it = basket(kind, receipt, minor, &cash(minor));
    it["original_receipt"] = json!(of);
    it
}

fn today() -> String {
    jiff::Zoned::now().with_time_zone(jiff::tz::TimeZone::get("Europe/London").unwrap()).date().to_string()
}

fn refused(result: Result<Value, (i32, String)>, words: &str) {
    let (code, error) = result.expect_err(words);
    assert_eq!(code, 1, "{error}");
    assert!(error.contains(words), "{error}");
}

#[test]
fn from_a_double_void_in_a_partition_to_locked_books() {
    let mut company = Company::new();
    let hub = company.hub();
    let dirs = [company.join("s1", "till-01"), company.join("s1", "till-02")];
    let tills: Vec<Node> = dirs.iter().map(|dir| till(dir)).collect();
    until("both tills online", || tills.iter().all(|node| node.status()["online"] == true));
    capture(&tills[0], &basket("sale", "S-1", 12_000, &cash(12_000)));
    capture(&tills[0], &basket("sale", "S-2", 60_000, &cash(60_000)));
    until("the sales at the other till", || {
        ["S-1", "S-2"]
            .iter()
            .all(|name| tillsync(&["custody", name, "--json", "--api", &tills[1].http], "").status.success())
    });
    hub.stop();
    for (node, name) in tills.iter().zip(["A", "B"]) {
        capture(node, &reversal("void", &format!("V-1{name}"), "S-1", 12_000));
        capture(node, &reversal("void", &format!("V-2{name}"), "S-2", 60_000));
    }
    let hub = company.hub();
    until("both conflicts at the hub", || {
        company.ask(&["cases", "--type", "REVERSAL_CONFLICT"]).as_array().unwrap().len() == 2
    });
    let desk = Desk { company: &company, hub: &hub };
    people_and_decisions(&desk, &tills);
    a_case_that_resolved_itself(&desk, &tills);
    payments_and_settlements(&desk, &tills);
    days_and_locks(&desk, &tills);
    kpis(&company);
    for node in tills {
        node.stop();
    }
    hub.stop();
    for dir in dirs.iter().map(std::path::PathBuf::as_path).chain([company.dir.as_path()]) {
        verified(dir);
    }
}

fn verified(dir: &Path) {
    let output = tillsync(&["verify", "--dir", path(dir)], "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

fn people_and_decisions(desk: &Desk<'_>, tills: &[Node]) {
    let (anna, bert) = (desk.person("anna", "reviewer"), desk.person("bert", "reviewer"));
    let (operator, viewer) = (desk.person("op-7", "reviewer"), desk.person("vic", "viewer"));
    let conflicts = desk.company.ask(&["cases", "--type", "REVERSAL_CONFLICT"]);
    let of = |minor: i64| {
        let found = conflicts.as_array().unwrap().iter().find(|case| case["amount_minor"] == minor);
        found.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (small, large) = (of(12_000), of(60_000));
    let decide = |case: &str, extra: &[&str]| {
        ["decide", case, "--action", "over-short", "--reason", "counted twice"]
            .iter()
            .chain(extra)
            .map(|it| (*it).to_owned())
            .collect::<Vec<String>>()
    };
    let run = |token: &str, arguments: &[String]| {
        desk.run(token, &arguments.iter().map(String::as_str).collect::<Vec<_>>())
    };

    // The case shows what each possible decision would do; the one that is taken does exactly that.
    let case = desk.company.ask(&["case", &small]);
    let option = case["options"].as_array().unwrap().iter().find(|option| option["action"] == "over-short");
    let shown = option.unwrap()["effect"].clone();
    let held = case["members"].as_array().unwrap().iter().find(|member| !member["held"].is_null()).unwrap();
    assert_eq!((case["verdict"].as_str(), case["state"].as_str()), (Some("concurrent"), Some("open")));

    refused(run("tsk_nobody", &decide(&small, &[])), "needs a token");
    refused(run(&viewer, &decide(&small, &[])), "vic is a viewer; this needs a reviewer");
    refused(run(&operator, &decide(&small, &[])), "reviewer op-7 operated a record of this case");
    refused(
        desk.run(&anna, &["decide", &small, "--action", "approve", "--reason", "x"]),
        "approve is not offered",
    );
    refused(desk.run(&anna, &["decide", &small, "--action", "over-short"]), "needs its reason");
    refused(run(&anna, &decide(&small, &["--member", "S-9"])), "is no member of the case");
    refused(desk.run(&anna, &["hub", "people", "list"]), "anna is a reviewer; this needs a admin");

    let before = desk.company.balances();
    let tried = run(&anna, &decide(&small, &["--dry-run"])).unwrap();
    assert_eq!(tried["effect"], shown);
    assert_eq!(desk.company.balances(), before);
    let taken = run(&anna, &decide(&small, &["--member", held["receipt"].as_str().unwrap()])).unwrap();
    assert_eq!((taken["state"].as_str(), &taken["effect"]), (Some("decided"), &shown));
    let after = desk.company.balances();
    let sum = |balances: &std::collections::BTreeMap<String, i64>, account: &str| {
        balances.get(&format!("{account} GBP")).copied().unwrap_or(0)
    };
    let changed = |account: &str| sum(&after, account) - sum(&before, account);
    assert_eq!((changed("Assets:Suspense:Voids"), changed("Expenses:Cash-Over-Short")), (-12_000, 12_000));

    // Above the limit, two people: the second proves who they are.
    refused(run(&anna, &decide(&large, &[])), "above the four-eyes limit of 50000");
    refused(run(&anna, &decide(&large, &["--approver-token", &anna])), "cannot be the second approver");
    refused(run(&anna, &decide(&large, &["--approver-token", &viewer])), "not that of a reviewer");
    let stale = "0".repeat(64);
    refused(run(&anna, &decide(&large, &["--version", &stale, "--approver-token", &bert])), "look again");
    let taken = run(&anna, &decide(&large, &["--approver-token", &bert])).unwrap();
    assert_eq!((taken["reviewer"].as_str(), taken["approver"].as_str()), (Some("anna"), Some("bert")));
    assert_eq!(sum(&desk.company.balances(), "Assets:Suspense:Voids"), 0);
    let view_hash = desk.company.ask(&["stores"])[0]["view_hash"].clone();
    until("the tills have the decisions in their books", || {
        tills.iter().all(|node| node.status()["view_hash"] == view_hash)
    });

    // Access ends at once.
    desk.company.ask(&["hub", "people", "remove", "--name", "bert"]);
    refused(desk.run(&bert, &["cases"]), "needs a token");
}

fn a_case_that_resolved_itself(desk: &Desk<'_>, tills: &[Node]) {
    let mut early = basket("refund", "R-1", 600, &cash(600));
    early["original"] = json!({"terminal": "till-01", "receipt": "S-3", "seq": 5});
    early["lines"][0]["quantity"] = json!("1");
    capture(&tills[1], &early);
    until("the refund waits for its sale", || {
        desk.company.ask(&["cases", "--type", "AWAITING_ORIGINAL"]).as_array().unwrap().len() == 1
    });
    let case = desk.case("AWAITING_ORIGINAL");
    capture(&tills[0], &basket("sale", "S-3", 1_200, &cash(1_200)));
    until("the sale answers it", || {
        desk.company.ask(&["cases", "--type", "AWAITING_ORIGINAL"]).as_array().unwrap().is_empty()
    });
    let token = desk.company.token.clone();
    let id = case["id"].as_str().unwrap();
    refused(desk.run(&token, &["decide", id, "--action", "approve", "--reason", "x"]), "is no more since");
    refused(desk.run(&token, &["case", "C-nothing"]), "there is no case");
    refused(desk.run(&token, &["cases", "--type", "NOPE"]), "is not one of");
}

fn payments_and_settlements(desk: &Desk<'_>, tills: &[Node]) {
    let card = json!({"type": "card", "amount_minor": 3_000, "status": "pending", "payment": "P-1"});
    capture(&tills[0], &basket("sale", "S-4", 3_000, &card));
    let card = json!({"type": "card", "amount_minor": 2_400, "auth": "V-77"});
    capture(&tills[0], &basket("sale", "S-5", 2_400, &card));
    until("the card sales at the hub", || desk.company.balances().contains_key("Assets:Card:Clearing GBP"));
    let declined = ["payment", "P-1", "--outcome", "declined"];
    assert_eq!(desk.company.ask(&declined)["recorded"], true);
    assert_eq!(desk.company.ask(&declined)["recorded"], false, "the same word twice is one record");
    assert_eq!(desk.company.balances()["Assets:Receivable:Declined-Cards GBP"], 3_000);
    let case = desk.case("FAILED_PAYMENT");
    let id = case["id"].as_str().unwrap();
    desk.company.ask(&["decide", id, "--action", "bad-debt", "--reason", "gone"]);
    assert_eq!(desk.company.balances()["Expenses:Bad-Debt GBP"], 3_000);

    let file = desk.company.folder().join("batch.json");
    let batch = json!({"batch": "B-1", "currency": "GBP", "fees_minor": 24,
        "payments": [{"payment": "V-77", "amount_minor": 2_400}]});
    std::fs::write(&file, batch.to_string()).unwrap();
    for new in [1, 0] {
        assert_eq!(desk.company.ask(&["settle", path(&file)])["stores"][0]["recorded"], new);
    }
    let balances = desk.company.balances();
    assert_eq!((balances["Assets:Bank:Settlement GBP"], balances["Expenses:Card-Fees GBP"]), (2_376, 24));
    assert!(!balances.contains_key("Assets:Card:Clearing GBP"));
    std::fs::write(&file, batch.to_string().replace("2400", "2401")).unwrap();
    let token = desk.company.token.clone();
    refused(desk.run(&token, &["settle", path(&file)]), "was stated with other content");
}

fn days_and_locks(desk: &Desk<'_>, tills: &[Node]) {
    let (day, token) = (today(), desk.company.token.clone());
    let status = || desk.company.ask(&["close-status", "--store", "s1", "--day", &day]);
    assert_eq!(status()["state"], "open");
    refused(desk.run(&token, &["lock", "--store", "s1", "--through", &day]), "till-01: not closed");
    for node in tills {
        let expected = tillsync(&["close", "--api", &node.http, "--json"], "");
        assert!(expected.status.success(), "{}", String::from_utf8_lossy(&expected.stderr));
    }
    until("the day is finished", || status()["state"] == "finished");
    let view = status();
    assert_eq!(view["terminals"].as_array().unwrap().len(), 2);
    assert!(
        view["terminals"].as_array().unwrap().iter().all(|till| till["close"]["agrees"] == true),
        "{view}"
    );
    let lock = desk.company.ask(&["lock", "--store", "s1", "--through", &day]);
    assert_eq!((lock["lock"].as_u64(), lock["heads"].as_array().unwrap().len()), (Some(1), 2));
    refused(desk.run(&token, &["lock", "--store", "s1", "--through", &day]), "is locked already");
    refused(desk.run(&token, &["lock", "--store", "s1", "--through", "2099-01-01"]), "still to come");
    assert_eq!(status()["locked"], true);

    // What comes late for a locked day is posted on the first open one, and says so.
    let before = desk.company.ask(&["ledger", "balances", "--day", &day]);
    capture(&tills[1], &basket("sale", "S-late", 600, &cash(600)));
    until("the late sale", || {
        !desk.company.ask(&["cases", "--type", "LATE_RECORD"]).as_array().unwrap().is_empty()
    });
    assert_eq!(desk.company.ask(&["ledger", "balances", "--day", &day])["balances"], before["balances"]);
    assert_eq!(desk.company.balances().values().sum::<i64>(), 0, "the trial balance");
}

/// Data latency, reconciliation and capture, from what really happened above.
fn kpis(company: &Company) {
    let report = company.ask(&["kpi"]);
    let records = company.records();
    let all = &report["data_latency"]["all"];
    assert_eq!(all["latency"]["count"].as_u64(), Some(records), "{report}");
    assert!(all["latency"]["p50_ms"].as_i64().unwrap() < 60_000, "{report}");
    assert!(all["reduction_ppm"].as_i64().unwrap() > 900_000, "{report}");
    let offline = &report["data_latency"]["offline"]["latency"];
    assert!(offline["count"].as_u64().unwrap() >= 4, "four voids were made in the partition: {report}");
    assert!(report["data_latency"]["drain_after_link_up"]["count"].as_u64().unwrap() >= 4, "{report}");
    let capture = &report["capture"];
    assert_eq!((capture["committed"].as_u64(), capture["captured"].as_u64()), (Some(records), Some(records)));
    assert_eq!(capture["success_rate_ppm"], 1_000_000);
    let cells = &report["reconciliation"];
    assert!(cells["cells"].as_u64().unwrap() >= 4, "{report}");
    assert_eq!(cells["unexplained"], 0, "{report}");
    assert_eq!(
        cells["cells"].as_u64().unwrap(),
        cells["equal"].as_u64().unwrap() + cells["explained"].as_u64().unwrap()
    );
    let sum = |field: &str| -> u64 {
        report["by_day"].as_array().unwrap().iter().map(|day| day[field].as_u64().unwrap()).sum()
    };
    assert_eq!(
        (sum("records"), sum("cells")),
        (records, cells["cells"].as_u64().unwrap()),
        "the days add up"
    );
}
