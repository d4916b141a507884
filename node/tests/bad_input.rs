//! What bad input gets: a clear error that names the field or reason, the right exit code, nothing lost, and the rest
//! goes on.

mod common;

use common::{Company, assert_verified, path, sale, till, tillsync, until};
use serde_json::Value;

#[test]
fn every_bad_line_is_refused_with_its_reason_and_the_good_ones_go_on() {
    let mut company = Company::new();
    let _hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let node = till(&dir);
    until("the till online", || node.status()["online"] == true);
    let good = sale("R-1", 100);
    let cases: &[(&str, String, &str)] = &[
        ("malformed", "{\"kind\":".to_owned(), "EOF"),
        ("unknown field", good.replace("\"kind\"", "\"colour\":1,\"kind\""), "colour: unknown field"),
        (
            "unbalanced",
            good.replace("\"amount_minor\":100}]}", "\"amount_minor\":99}]}").replace("R-1", "R-2"),
            "tenders: add up to 99",
        ),
        (
            "negative",
            good.replace("\"amount_minor\":100,", "\"amount_minor\":-100,").replace("R-1", "R-3"),
            "lines[0].amount_minor",
        ),
        (
            "card number",
            good.replace("\"sku\"", "\"description\":\"4242 4242 4242 4242\",\"sku\"").replace("R-1", "R-4"),
            "card number",
        ),
        ("currency", good.replace("GBP", "GBX").replace("R-1", "R-5"), "is not a currency"),
        ("not accepted", good.replace("GBP", "EUR").replace("R-1", "R-6"), "not accepted by this store"),
        ("reused receipt", good.replace("100", "101"), "already used"),
        (
            "another till's",
            good.replace("\"kind\"", "\"terminal\":\"till-09\",\"kind\"").replace("R-1", "R-7"),
            "this till is till-01",
        ),
        ("long", format!("{{\"kind\":\"{}\"}}", "x".repeat(3 << 20)), "1048576"),
    ];
    let mut input = good.clone() + "\n";
    for (_, line, _) in cases {
        input.push_str(line);
        input.push('\n');
    }
    input.push_str(&sale("R-99", 500));
    let output = tillsync(&["capture", "-", "--api", &node.http], &input);
    assert_eq!(output.status.code(), Some(1), "some were refused");
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), cases.len() + 2);
    for ((name, _, reason), answer) in cases.iter().zip(&answers[1..]) {
        let detail = answer["error"]["detail"].as_str().unwrap_or("accepted");
        assert!(detail.contains(reason), "{name}: {detail}");
        assert!(!text.contains("4242 4242"), "a card number is never repeated");
    }
    assert_eq!(answers[0]["state"], "saved");
    assert_eq!(answers.last().unwrap()["state"], "saved");
    until("the two good ones at the hub", || company.records() == 2);
}

#[test]
fn join_codes_hold_once_and_only_for_a_while() {
    let mut company = Company::new();
    let _hub = company.hub();
    let enroll = |ttl: &str| {
        let arguments = [
            "hub",
            "enroll",
            "--dir",
            path(&company.dir),
            "--store",
            "s",
            "--terminal",
            "till-01",
            "--ttl",
            ttl,
            "--json",
        ];
        common::json(&arguments)["code"].as_str().unwrap().to_owned()
    };
    let join = |name: &str, code: &str| {
        let dir = company.folder().join(name);
        let output = tillsync(&["terminal", "join", "--dir", path(&dir), "--code", code], "");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let code = enroll("15m");
    assert_eq!(join("one", &code).0, Some(0));
    let (exit, reason) = join("two", &code);
    assert!(exit == Some(1) && reason.contains("used by another device"), "{reason}");
    let short = enroll("1s");
    std::thread::sleep(std::time::Duration::from_millis(1_200));
    let (exit, reason) = join("three", &short);
    assert!(exit == Some(1) && reason.contains("expired"), "{reason}");
    let typo = if code.ends_with('7') {
        code[..code.len() - 1].to_owned() + "8"
    } else {
        code[..code.len() - 1].to_owned() + "7"
    };
    assert_eq!(join("four", &typo).0, Some(1));
    // The same terminal anew: another incarnation of it.
    let again = enroll("15m");
    assert_eq!(join("five", &again).0, Some(0));
    let elsewhere =
        ["hub", "enroll", "--dir", path(&company.dir), "--store", "other", "--terminal", "till-01"];
    let output = tillsync(&elsewhere, "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("belongs to store s"));
}

#[test]
fn a_directory_has_one_process_and_a_stranger_gets_nothing() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let node = till(&dir);
    let second = tillsync(&["terminal", "run", "--http", "127.0.0.1:0", "--dir", path(&dir)], "");
    assert_eq!(second.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&second.stderr).contains("in use"),
        "{}",
        String::from_utf8_lossy(&second.stderr)
    );
    let second = tillsync(
        &["hub", "run", "--listen", "127.0.0.1:0", "--http", "127.0.0.1:0", "--dir", path(&company.dir)],
        "",
    );
    assert_eq!(second.status.code(), Some(1));

    // A till of another company, pointed at this hub, is not let in.
    let mut other = Company::new();
    let _their_hub = other.hub();
    let foreign = other.join("store-1", "till-01");
    let file = foreign.join("identity/enrolment.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let (theirs, ours) = (other.quic.clone().unwrap(), company.quic.clone().unwrap());
    std::fs::write(&file, text.replace(&theirs, &ours)).unwrap();
    let stranger = till(&foreign);
    tillsync(&["capture", "-", "--api", &stranger.http], &sale("R-1", 100));
    until("the stranger told why", || {
        let events = common::json(&["audit", "--json", "--api", &stranger.http]);
        events.to_string().contains("refused-by-hub")
    });
    assert_eq!(stranger.status()["waiting"]["count"], 1, "what it captured is still there");
    assert_eq!(company.records(), 0);

    // Nobody at home: exit code 3. No token: refused.
    let nobody = tillsync(&["status", "--api", "http://127.0.0.1:9"], "");
    assert_eq!(nobody.status.code(), Some(3));
    let no_token = tillsync(&["cases", "--api", &hub.http], "");
    assert_eq!(no_token.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&no_token.stderr).contains("token"));
    drop(node);
    drop(hub);
    assert_verified(&dir);
    assert_verified(&company.dir);
}
