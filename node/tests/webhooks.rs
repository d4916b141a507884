//! The change feed brought to receivers: signed, in order, each change once or again in the same bytes under the same id, while
//! receivers fail, hubs are killed and others are slow.

mod common;

use std::process::Command;

use common::postgres::Server;
use common::receiver::{Answer, Receiver};
use common::{Company, Node, captured, path, sales, till, tillsync, until};
use serde_json::{Value, json};

/// Runs `db webhook …`.
fn webhook(server: &Server, arguments: &[&str]) -> Result<Value, (i32, String)> {
    let url = server.url("postgres");
    let all = [&["db", "webhook"], arguments, &["--json", "--database", &url]].concat();
    let output = tillsync(&all, "");
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    Err((output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).trim().to_owned()))
}

/// Adds a webhook; its id and secret.
fn add(server: &Server, company: &Company, receiver: &Receiver, more: &[&str]) -> (String, String) {
    let url = receiver.url();
    let added = ["add", "--dir", path(&company.dir), "--url", &url];
    let added = webhook(server, &[&added[..], more].concat()).unwrap();
    let word = |field: &str| added[field].as_str().unwrap().to_owned();
    (word("id"), word("secret"))
}

/// What `db webhook list` says of one.
fn listed(server: &Server, id: &str) -> Value {
    let all = webhook(server, &["list"]).unwrap();
    all.as_array().unwrap().iter().find(|it| it["id"] == id).cloned().unwrap_or_default()
}

/// Waits until the tables have so many receipts, and everything of the feed is delivered to a webhook.
fn until_level(server: &Server, id: &str, receipts: &str) {
    until("every receipt in the tables", || server.sql("SELECT count(*) FROM ledger.receipts") == receipts);
    until("everything delivered", || listed(server, id)["behind"] == 0);
}

fn get(hub: &Node, company: &Company, path: &str) -> String {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let bearer = format!("Bearer {}", company.token);
    let mut answer = agent.get(format!("{}{path}", hub.http)).header("Authorization", bearer).call().unwrap();
    answer.body_mut().read_to_string().unwrap()
}

fn alarms(hub: &Node, company: &Company) -> Vec<String> {
    let all: Value = serde_json::from_str(&get(hub, company, "/v1/alarms")).unwrap();
    all.as_array().unwrap().iter().map(|alarm| alarm["what"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_change_is_delivered_once_in_order_signed_and_with_what_it_is_about() {
    let Some(server) = Server::start() else { return };
    let url = server.url("postgres");
    let mut company = Company::new();
    let hub = company.hub_with(&["--database", &url], false);
    let [one, two] = [("store-1", "till-01"), ("store-2", "till-02")].map(|(s, t)| till(&company.join(s, t)));
    captured(&one, &sales("A", 0, 20));
    until("the first sales in the tables", || server.sql("SELECT count(*) FROM ledger.receipts") == "20");

    let receivers = [Receiver::start(), Receiver::start(), Receiver::start()];
    let (all, secret) = add(&server, &company, &receivers[0], &["--from-start"]);
    let filter = ["--topic", "receipt", "--topic", "journal_entry", "--store", "store-2"];
    let old: i64 = server.sql("SELECT last_seq FROM tillsync.feed").parse().unwrap();
    let (some, of_some) = add(&server, &company, &receivers[1], &filter);
    captured(&one, &sales("A", 20, 600));
    captured(&two, &sales("B", 0, 30));
    until_level(&server, &all, "630");
    until_level(&server, &some, "630");

    let line = |it: &Value| {
        let word = |field: &str| it[field].as_str().unwrap().to_owned();
        format!("{}|{}|{}|{}", it["seq"], word("topic"), word("store"), word("subject"))
    };
    // The feed may go on while it is compared.
    let tells = |receiver: &Receiver, secret: &str, which: &str| {
        let lines: Vec<String> = receiver.changes(secret).iter().map(line).collect();
        let feed =
            format!("SELECT seq, topic, store, subject FROM ledger.changes WHERE {which} ORDER BY seq");
        lines.join("\n") == server.sql(&feed)
    };
    until("the whole feed is told", || tells(&receivers[0], &secret, "true"));
    let told = receivers[0].changes(&secret);
    assert!(receivers[0].received().iter().all(|it| it.json()["changes"].as_array().unwrap().len() <= 500));

    // The second heard of nothing before it was there, of nothing that it did not ask for, and misses no number.
    let from = receivers[1].received()[0].json()["from_seq"].as_i64().unwrap();
    assert!(from > old);
    let asked = format!("seq >= {from} AND store = 'store-2' AND topic IN ('receipt', 'journal_entry')");
    until("what was asked for is told", || tells(&receivers[1], &of_some, &asked));
    assert!(receivers[1].changes(&of_some).len() >= 60);

    let of = |topic: &str| told.iter().filter(|it| it["topic"] == topic).collect::<Vec<_>>();
    let total: i64 = of("receipt").iter().map(|it| it["data"]["total_minor"].as_i64().unwrap()).sum();
    assert_eq!(total.to_string(), server.sql("SELECT sum(total_minor) FROM ledger.receipts"));
    for entry in of("journal_entry") {
        let postings = entry["data"]["postings"].as_array().unwrap();
        assert_eq!(postings.iter().map(|it| it["amount_minor"].as_i64().unwrap()).sum::<i64>(), 0, "{entry}");
        assert!(postings.len() >= 2, "{entry}");
    }
    let row = of("receipt")[0];
    let view = server.sql(&format!(
        "SELECT receipt, kind, terminal, seq, business_day, currency, total_minor FROM ledger.receipts
        WHERE record_id = '{}'",
        row["subject"].as_str().unwrap()
    ));
    let word = |field: &str| match &row["data"][field] {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let fields = ["receipt", "kind", "terminal", "seq", "business_day", "currency", "total_minor"];
    assert_eq!(fields.map(word).join("|"), view);
    let days = of("store_day");
    assert!(!days.is_empty() && days.iter().all(|it| it["data"]["records"].is_i64()), "{days:?}");

    // A receiver that was added and removed hears nothing more.
    let (third, _) = add(&server, &company, &receivers[2], &[]);
    assert_eq!(webhook(&server, &["remove", &third]).unwrap()["removed"], true);
    let page = get(&hub, &company, "/metrics");
    assert!(page.contains("tillsync_webhook_deliveries_total{outcome=\"accepted\"}"), "{page}");
    until("the metric says that nothing waits", || {
        get(&hub, &company, "/metrics").contains(&format!("tillsync_webhook_behind{{webhook=\"{all}\"}} 0\n"))
    });
    captured(&one, &sales("A", 600, 601));
    until_level(&server, &all, "631");
    assert_eq!(receivers[2].count(), 0);
    hub.stop();
}

#[test]
fn what_fails_or_breaks_off_comes_again_in_the_same_bytes_under_the_same_id() {
    let Some(server) = Server::start() else { return };
    let url = server.url("postgres");
    let at = ["--database", url.as_str()];
    let mut company = Company::new();
    let mut hub = company.hub_with(&at, false);
    let one = till(&company.join("store-1", "till-01"));
    let (receiver, other) = (Receiver::start(), Receiver::start());
    receiver.says(Answer::Status(500));
    let (id, secret) = add(&server, &company, &receiver, &[]);
    captured(&one, &sales("A", 0, 3));
    for (answer, why) in [
        (Answer::Status(503), "503"),
        (Answer::Elsewhere(other.url()), "redirects are not followed"),
        (Answer::Nothing, ""),
    ] {
        receiver.says(answer.clone());
        let seen = receiver.count();
        until("an attempt", || receiver.count() > seen);
        until("its error in the list", || {
            let row = listed(&server, &id);
            row["last_error"].as_str().is_some_and(|error| error.contains(why))
                && row["failing_seconds"].is_i64()
        });
        // Meanwhile there is more to say; it waits its turn.
        captured(&one, &sales(&format!("B{seen}-"), 0, 1));
    }
    let attempts = receiver.received();
    let first = &attempts[0];
    for attempt in &attempts {
        attempt.assert_signed(&secret);
        assert_eq!((attempt.id(), &attempt.body), (first.id(), &first.body));
    }
    assert_eq!(other.count(), 0);
    assert_eq!(first.header("content-type"), "application/json");
    assert_eq!(first.path, "/hook");

    // A day of failures is an alarm, and no end.
    server.sql("UPDATE tillsync.webhook_cursor SET failing_since = now() - interval '25 hours'");
    until("an alarm", || alarms(&hub, &company).contains(&"webhook-failing".to_owned()));
    assert_eq!(listed(&server, &id)["state"], "active");

    // The receiver has a delivery and the hub dies before it hears so.
    let seen = receiver.count();
    receiver.says(Answer::Silence);
    until("a delivery that is not answered", || receiver.count() > seen);
    hub.kill();
    let unanswered = receiver.received().last().unwrap().clone();
    receiver.says(Answer::Status(200));
    captured(&one, &sales("C", 0, 2));
    hub = company.hub_with(&at, false);
    until_level(&server, &id, "8");
    let after =
        &receiver.received()[receiver.received().iter().position(|it| it.id() == first.id()).unwrap()..];
    let last = after.iter().rposition(|it| it.id() == first.id()).unwrap();
    assert_eq!((unanswered.id(), &unanswered.body), (first.id(), &first.body));
    assert_eq!(after[last].body, first.body);

    // And from there on without a gap.
    let mut through = first.json()["to_seq"].as_i64().unwrap();
    for delivery in &after[last + 1..] {
        assert_eq!(delivery.json()["from_seq"].as_i64().unwrap(), through + 1);
        through = delivery.json()["to_seq"].as_i64().unwrap();
    }
    assert!(through > first.json()["to_seq"].as_i64().unwrap());
    until("the alarm ends", || alarms(&hub, &company).is_empty());
    hub.stop();
}

#[test]
fn a_receiver_that_is_gone_or_slow_holds_up_nobody() {
    let Some(server) = Server::start() else { return };
    let url = server.url("postgres");
    let at = ["--database", url.as_str()];
    let mut company = Company::new();
    let mut hub = company.hub_with(&at, false);
    let one = till(&company.join("store-1", "till-01"));
    let [gone, slow, well] = [(); 3].map(|()| Receiver::start());
    gone.says(Answer::Status(410));
    slow.says(Answer::Silence);
    let [gone_has, slow_has, well_has] =
        [&gone, &slow, &well].map(|receiver| add(&server, &company, receiver, &["--from-start"]));
    let [of_gone, of_slow, of_well] = [&gone_has, &slow_has, &well_has].map(|(id, _)| id.as_str());
    captured(&one, &sales("A", 0, 5));
    until("the slow one was asked", || slow.count() > 0);
    until_level(&server, of_well, "5");
    captured(&one, &sales("A", 5, 10));
    until_level(&server, of_well, "10");
    assert!(listed(&server, of_slow)["behind"].as_i64().unwrap() > 0);
    until("the one that is gone is said so", || listed(&server, of_gone)["state"] == "gone");
    until("an alarm", || alarms(&hub, &company) == ["webhook-gone"]);
    assert_eq!(gone.count(), 1);

    // A hub that stops waits for no receiver, and one that starts remembers.
    hub.stop();
    hub = company.hub_with(&at, false);
    until("the alarm again", || alarms(&hub, &company) == ["webhook-gone"]);
    assert_eq!(webhook(&server, &["pause", of_well]).unwrap()["state"], "paused");
    // The courier ends with the hub's next look.
    until("nothing is delivered to who pauses", || {
        let seen = well.count();
        let sold = server.sql("SELECT count(*) FROM ledger.receipts");
        captured(&one, &sales(&format!("P{sold}-"), 0, 1));
        until("the sale in the tables", || server.sql("SELECT count(*) FROM ledger.receipts") != sold);
        std::thread::sleep(std::time::Duration::from_millis(2_500));
        well.count() == seen && listed(&server, of_well)["behind"] != 0
    });
    let sold = server.sql("SELECT count(*) FROM ledger.receipts");
    let everybody = [(of_gone, &gone), (of_slow, &slow), (of_well, &well)];
    for (id, receiver) in everybody {
        receiver.says(Answer::Status(200));
        assert_eq!(webhook(&server, &["resume", id]).unwrap()["state"], "active");
        until_level(&server, id, &sold);
    }
    until("no alarm", || alarms(&hub, &company).is_empty());
    // Everybody hears everything; what was sent twice has one id.
    for ((id, secret), receiver) in [(&gone_has, &gone), (&slow_has, &slow), (&well_has, &well)] {
        until("every number of the feed was told", || {
            let mut told = std::collections::BTreeMap::new();
            for delivery in receiver.received() {
                delivery.assert_signed(secret);
                for change in delivery.json()["changes"].as_array().unwrap() {
                    let before = told.insert(change["seq"].as_i64().unwrap(), delivery.id().to_owned());
                    assert!(before.is_none_or(|before| before == delivery.id()), "{id}: {change}");
                }
            }
            let feed = server.sql("SELECT seq FROM tillsync.change ORDER BY seq");
            told.keys().map(ToString::to_string).collect::<Vec<_>>().join("\n") == feed
        });
    }
    hub.stop();
}

/// What was deleted before it was delivered is said, and a feed that begins anew is told from its beginning.
#[test]
fn a_feed_that_was_tampered_with_stops_no_deliveries() {
    let Some(server) = Server::start() else { return };
    let url = server.url("postgres");
    let at = ["--database", url.as_str()];
    let mut company = Company::new();
    let mut hub = company.hub_with(&at, false);
    let one = till(&company.join("store-1", "till-01"));
    let receiver = Receiver::start();
    let (id, _) = add(&server, &company, &receiver, &[]);
    captured(&one, &sales("A", 0, 3));
    until_level(&server, &id, "3");
    let seen = receiver.count();
    webhook(&server, &["pause", &id]).unwrap();
    hub.stop();
    hub = company.hub_with(&at, false);
    captured(&one, &sales("A", 3, 6));
    until("more in the tables", || server.sql("SELECT count(*) FROM ledger.receipts") == "6");
    let first: i64 = server.sql("SELECT delivered_seq + 2 FROM tillsync.webhook_cursor").parse().unwrap();
    server.sql(&format!("DELETE FROM tillsync.change WHERE seq < {first}"));
    webhook(&server, &["resume", &id]).unwrap();
    until_level(&server, &id, "6");
    let begins = |at: i64| receiver.received()[seen..].iter().any(|it| it.json()["from_seq"] == json!(at));
    assert!(begins(first));
    assert_eq!(alarms(&hub, &company), ["webhook-changes-deleted"]);
    hub.stop();

    let seen = receiver.count();
    server.sql(
        "TRUNCATE tillsync.follower, tillsync.journal_entry, tillsync.posting, tillsync.balance, tillsync.receipt,
        tillsync.review_case, tillsync.case_member, tillsync.store_day, tillsync.change, tillsync.feed",
    );
    server.sql("UPDATE tillsync.webhook_cursor SET delivered_seq = 100000, scanned_seq = 100000");
    hub = company.hub_with(&at, false);
    until_level(&server, &id, "6");
    until("the beginning was told", || {
        receiver.received()[seen..].iter().any(|it| it.json()["from_seq"] == json!(1))
    });
    hub.stop();
}

#[test]
fn what_is_not_safe_is_refused_and_https_is_checked() {
    let Some(server) = Server::start() else { return };
    let url = server.url("postgres");
    let mut company = Company::new();
    let added = |dir: &Company, url: &str, more: &[&str]| {
        webhook(&server, &[&["add", "--dir", path(&dir.dir), "--url", url], more].concat())
    };
    let refused = |dir: &Company, url: &str, more: &[&str]| added(dir, url, more).unwrap_err();
    let good = "https://erp.example/hook";
    let (code, said) = refused(&company, good, &[]);
    assert!(code == 1 && said.contains("in no database"), "{said}");
    let mut secretive = Company::encrypted("Secretive");
    let hub = secretive.hub_with(&["--database", &url], false);
    let (code, said) = refused(&secretive, good, &[]);
    assert!(code == 1 && said.contains("is encrypted"), "{said}");
    hub.stop();

    company.hub_with(&["--database", &url], false).stop();
    for (bad, more, why) in [
        ("http://erp.example/", &[][..], "this machine only"),
        ("https://user:word@erp.example/", &[], "user or password"),
        (good, &["--topic", "receipts"], "topics are receipt, custody"),
        (good, &["--store", "no store"], "store"),
    ] {
        let (code, said) = refused(&company, bad, more);
        assert!(code == 2 && said.contains(why), "{bad} {more:?}: {code} {said}");
    }
    for command in ["remove", "pause", "resume", "test"] {
        let (code, said) = webhook(&server, &[command, "wh_none"]).unwrap_err();
        assert!(code == 1 && said.contains("no webhook"), "{said}");
    }

    // A receiver whose certificate is under an authority that this machine believes, and the same where it does not.
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = ca.self_signed(&ca_key).unwrap();
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
        )
        .unwrap();
    let receiver = Receiver::start_tls(config);
    let (id, secret) = add(&server, &company, &receiver, &["--topic", "receipt", "--store", "store-1"]);
    let roots = company.folder().join("roots.pem");
    std::fs::write(&roots, root.pem()).unwrap();
    let test = |roots: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tillsync"));
        command.args(["db", "webhook", "test", &id, "--json", "--database", &url]);
        if let Some(file) = roots {
            command.env("SSL_CERT_FILE", file);
        }
        command.output().unwrap()
    };
    let output = test(Some(path(&roots)));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ping = &receiver.received()[0];
    ping.assert_signed(&secret);
    assert_eq!(ping.json()["changes"], json!([]));
    let output = test(None);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("certificate"), "{said}");
    assert_eq!(receiver.count(), 1);

    let row = listed(&server, &id);
    assert_eq!((&row["topics"], &row["stores"]), (&json!(["receipt"]), &json!(["store-1"])));
    assert!(!row.to_string().contains("whsec_"), "{row}");
    let page = tillsync(&["db", "webhook", "list", "--database", &url], "");
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains(&id) && page.contains("receipt") && !page.contains("whsec_"), "{page}");
}
