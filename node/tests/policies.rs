//! Policies of the company, a store and a till: the narrower counts, they reach tills and new stores, and a till obeys
//! without the network.

mod common;

use common::{Company, Node, path, sale, till, tillsync, until};
use serde_json::Value;

fn refund(receipt: &str, of: &str, amount: i64) -> String {
    format!(
        r#"{{"kind":"refund","receipt":"{receipt}","original_receipt":"{of}","reason":"damaged","currency":"GBP","lines":[{{"sku":"A-5000","quantity":"1","amount_minor":{amount},"tax_minor":0,"original_line":1}}],"tenders":[{{"type":"cash","amount_minor":{amount}}}]}}"#
    )
}

fn capture(node: &Node, line: &str) -> Value {
    let output = tillsync(&["capture", "-", "--api", &node.http], line);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Cases that a till's own books hold, by type.
fn cases_at(node: &Node) -> Vec<String> {
    let agent: ureq::Agent = ureq::Agent::config_builder().build().into();
    let text = agent.get(format!("{}/v1/cases", node.http)).call().unwrap().body_mut().read_to_string();
    let cases: Value = serde_json::from_str(&text.unwrap()).unwrap();
    cases.as_array().unwrap().iter().map(|case| case["type"].as_str().unwrap().to_owned()).collect()
}

fn setting(company: &Company, whose: &[&str], key: &str) -> (String, Value) {
    let policy = company.ask(&[&["policy", "get"], whose].concat());
    (policy["settings"][key].as_str().unwrap().to_owned(), policy["made_for"][key].clone())
}

#[test]
fn a_tills_own_limit_is_obeyed_offline_there_and_nowhere_else() {
    let mut company = Company::new();
    let hub = company.hub();
    let nodes = [till(&company.join("s1", "till-01")), till(&company.join("s1", "till-02"))];
    until("both online", || nodes.iter().all(|node| node.status()["online"] == true));

    let said = company.ask(&["policy", "set", "--company", "refund_limit_minor=4000"]);
    assert_eq!((said["company_version"].as_u64(), said["stores"].as_u64()), (Some(1), Some(1)), "{said}");
    let limit = "refund_limit_minor";
    assert_eq!(setting(&company, &["--store", "s1"], limit), ("4000".into(), "company".into()));
    company.ask(&["policy", "set", "--store", "s1", "--till", "till-01", "refund_limit_minor=1000"]);
    let of = |till| ["--store", "s1", "--till", till];
    assert_eq!(setting(&company, &of("till-01"), limit), ("1000".into(), "till".into()));
    assert_eq!(setting(&company, &of("till-02"), limit), ("4000".into(), "company".into()));
    until("both versions on both tills", || nodes.iter().all(|node| node.status()["policy_version"] == 2));

    drop(hub);
    for (node, name) in nodes.iter().zip(["A", "B"]) {
        until("offline", || node.status()["online"] == false);
        capture(node, &sale(&format!("S-{name}"), 5_000));
        capture(node, &refund(&format!("R-{name}"), &format!("S-{name}"), 2_000));
    }
    // 20.00 is above the limit of till-01 and below that of till-02, and each till knows it by itself.
    until("the judgement of till-01", || cases_at(&nodes[0]) == ["REFUND_OVER_LIMIT"]);
    assert_eq!(cases_at(&nodes[1]), Vec::<String>::new());

    // At the hub, and at either till, it comes out the same.
    let hub = company.hub();
    until("everything everywhere", || {
        let hashes: Vec<Value> = nodes.iter().map(|node| node.status()["view_hash"].clone()).collect();
        let at_hub = company.ask(&["stores"])[0]["view_hash"].clone();
        company.records() == 4 && hashes.iter().all(|hash| *hash == at_hub)
    });
    let cases = company.ask(&["cases"]);
    let of_hub: Vec<&Value> = cases.as_array().unwrap().iter().map(|case| &case["type"]).collect();
    assert_eq!(of_hub, ["REFUND_OVER_LIMIT"]);

    // Taken back, the company's counts again and the refund is in order.
    company.ask(&["policy", "set", "--store", "s1", "--till", "till-01", "refund_limit_minor=inherit"]);
    assert_eq!(setting(&company, &of("till-01"), limit), ("4000".into(), "company".into()));
    until("no case", || cases_at(&nodes[0]).is_empty());
    drop(hub);
}

#[test]
fn what_is_set_for_the_company_holds_in_stores_that_come_later_and_survives_the_hub() {
    let mut company = Company::new();
    let hub = company.hub();
    let nobody =
        tillsync(&["policy", "set", "--company", "ageing_hours=12", "--dir", path(&company.dir)], "");
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("there is no store yet"));
    company.join("s1", "till-01");
    company.ask(&["policy", "set", "--company", "ageing_hours=12"]);
    company.ask(&["policy", "set", "--company", "refund_window_days=30", "ageing_hours=6"]);
    company.ask(&["policy", "set", "--store", "s1", "ageing_hours=48"]);
    company.join("s2", "till-02");
    drop(hub);
    let hub = company.hub();
    company.join("s3", "till-03");
    for (store, wanted) in [("s1", ("48", "store")), ("s2", ("6", "company")), ("s3", ("6", "company"))] {
        let found = setting(&company, &["--store", store], "ageing_hours");
        assert_eq!(found, (wanted.0.to_owned(), wanted.1.into()), "{store}");
        assert_eq!(setting(&company, &["--store", store], "refund_window_days").0, "30", "{store}");
    }
    let view = company.ask(&["policy", "get", "--company"]);
    assert_eq!(view["version"], 2);
    assert_eq!(view["changes"][1]["settings"].as_array().unwrap().len(), 2);
    let audit = company.ask(&["audit"]).to_string();
    assert!(audit.contains("company: ageing_hours=12"), "who changed what is in the audit log");

    let refused = |arguments: &[&str], words: &str| {
        let output = tillsync(&[arguments, &["--dir", path(&company.dir)]].concat(), "");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(1) && said.contains(words), "{arguments:?}: {said}");
    };
    let set = ["policy", "set", "--store", "s1"];
    refused(
        &[&set[..], &["--till", "till-02", "batch_threshold=5"]].concat(),
        "store s1 has no till till-02",
    );
    refused(
        &[&set[..], &["--till", "till-01", "receipt_scope=store"]].concat(),
        "the same for a whole store",
    );
    refused(&[&set[..], &["ageing_hours=never"]].concat(), "give hours");
    drop(hub);
    let away = ["project", "--from-dir", path(&company.dir), "--policy", "till:till-01:batch_threshold=5"];
    let output = tillsync(&[&away[..], &["--json"]].concat(), "");
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines.lines().count(), 3, "scopes are understood by the what-if: {lines}");
}
