//! `status`, `pending`, `custody`: how a till is doing and where a receipt is. It shows what the node says and adds up
//! nothing of its own.

use serde_json::Value;

use super::amount;
use super::client::{Role, Where, escape};
use super::out::Out;
use super::table::{Side, Table};
use super::words::{age, count, custody_step, local_time, text, text_or_dash};
use crate::error::Failure;

/// How a till is doing: online or not, what waits, how far the hub has it
///
/// Shows how a till is doing: online or not, what waits and for how long, how far the hub has its receipts, its peers.
#[derive(Debug, clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    at: Where,
}

/// The receipts of a till that the hub does not have yet
#[derive(Debug, clap::Args)]
pub(super) struct Pending {
    #[command(flatten)]
    at: Where,
}

/// Where one receipt is on its way from the till into the books
///
/// Shows where one receipt is: saved, on a peer, at the hub, in the books, in review, exported. Asks the till, or the
/// hub with --api.
#[derive(Debug, clap::Args)]
pub(super) struct Custody {
    /// Receipt number or id
    #[arg(value_name = "RECEIPT")]
    receipt: String,
    #[command(flatten)]
    at: Where,
}

impl Status {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Till, "status")?;
        let status = client.get("/v1/status")?;
        if out.json() { out.document(&status) } else { out.text(&status_page(&status)) }
    }
}

impl Pending {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Till, "pending")?;
        let pending = client.get("/v1/pending")?;
        if out.json() { out.document(&pending) } else { out.text(&pending_page(&pending)) }
    }
}

impl Custody {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Till, "custody")?;
        let transaction = client.get(&format!("/v1/transactions/{}", escape(&self.receipt)))?;
        let custody = &transaction["custody"];
        if out.json() { out.document(custody) } else { out.text(&custody_page(&transaction)) }
    }
}

/// What waits, in a sentence. It ends with what the hub has, because that is what a shopkeeper fears for.
fn waiting_sentence(waiting: &Value, through: &Value) -> String {
    let number = waiting["count"].as_u64().unwrap_or(0);
    let has = match through["receipt"].as_str() {
        _ if number == 0 => "the hub has everything".to_owned(),
        Some(receipt) => format!("the hub has everything up to {receipt}"),
        None => "the hub has nothing of this till yet".to_owned(),
    };
    if number == 0 {
        return format!("Nothing waits; {has}.");
    }
    let verb = if number == 1 { "waits" } else { "wait" };
    let oldest =
        waiting["oldest_seconds"].as_u64().map_or_else(String::new, |it| format!(", oldest {}", age(it)));
    format!("{} {verb}{oldest}; {has}.", count(number, "receipt", "receipts"))
}

fn worth(waiting: &Value) -> String {
    let values = waiting["value_minor"].as_object().into_iter().flatten();
    values.map(|(currency, minor)| amount::show_with_currency(minor, currency)).collect::<Vec<_>>().join(", ")
}

fn status_page(status: &Value) -> String {
    let since = match status["since"].as_str() {
        Some(_) => format!(" since {}", local_time(&status["since"])),
        None => String::new(),
    };
    let link = if status["online"] == true {
        "online"
    } else {
        "offline: receipts are kept here until the network is back"
    };
    let mut list = Table::list();
    list.row(["store", &text(&status["store"])]);
    list.row(["till", &text(&status["terminal"])]);
    list.row(["network", &format!("{link}{since}")]);
    list.row(["unsynced", &waiting_sentence(&status["waiting"], &status["at_hub_through"])]);
    let worth = worth(&status["waiting"]);
    if !worth.is_empty() {
        list.row(["worth", &worth]);
    }
    let (seq, head) = (&status["at_hub_through"]["seq"], &status["head_seq"]);
    list.row(["records", &format!("{} at the hub, {} on this till", text_or_dash(seq), text_or_dash(head))]);
    list.row(["policy", &format!("version {}", text_or_dash(&status["policy_version"]))]);
    if let Some(open) = status["open_cases"].as_u64() {
        list.row(["open cases", &open.to_string()]);
    }
    for alarm in status["alarms"].as_array().into_iter().flatten() {
        list.row([&format!("{}!", text(&alarm["what"])), &text(&alarm["detail"])]);
    }
    let peers = peers(&status["peers"]);
    if peers.is_empty() { list.set() } else { format!("{}\n{}", list.set(), peers.set()) }
}

fn peers(peers: &Value) -> Table {
    let heads = [
        ("Peer", Side::Left),
        ("State", Side::Left),
        ("To send", Side::Right),
        ("Clock", Side::Right),
        ("Last heard", Side::Left),
    ];
    let mut table = Table::new(&heads);
    for peer in peers.as_array().into_iter().flatten() {
        let last = &peer["last_status"];
        let state = if peer["level"] == true { "level" } else { "catching up" };
        let clock = last["clock_offset_ms"].as_i64().map_or_else(String::new, |ms| format!("{ms:+} ms"));
        table.row([
            &text_or_dash(&peer["peer"]),
            state,
            &text(&peer["backlog"]),
            &clock,
            &local_time(&last["at"]),
        ]);
    }
    table
}

fn pending_page(pending: &Value) -> String {
    let listed = pending["records"].as_array().map_or(&[][..], Vec::as_slice);
    let number = pending["count"].as_u64().unwrap_or(0);
    if number == 0 {
        return "Nothing waits; the hub has everything.\n".to_owned();
    }
    let heads = [
        ("No.", Side::Right),
        ("Receipt", Side::Left),
        ("Kind", Side::Left),
        ("At", Side::Left),
        ("Amount", Side::Right),
        ("", Side::Left),
    ];
    let mut table = Table::new(&heads);
    for record in listed {
        let currency = text(&record["currency"]);
        table.row([
            &text(&record["seq"]),
            &text(&record["receipt"]),
            &text(&record["kind"]),
            &local_time(&record["at"]),
            &amount::show(&record["total_minor"], &currency),
            &currency,
        ]);
    }
    let oldest =
        pending["oldest_seconds"].as_u64().map_or_else(String::new, |it| format!(", oldest {}", age(it)));
    let verb = if number == 1 { "waits" } else { "wait" };
    let worth = worth(pending);
    let worth = if worth.is_empty() { worth } else { format!(", worth {worth}") };
    let more = number.saturating_sub(listed.len() as u64);
    let more = if more == 0 { String::new() } else { format!("({more} more are not listed)\n") };
    format!("{}{more}\n{} {verb}{oldest}{worth}.\n", table.set(), count(number, "receipt", "receipts"))
}

fn custody_page(transaction: &Value) -> String {
    let custody = &transaction["custody"];
    let title = format!(
        "{} {}, {} number {}",
        text(&transaction["kind"]),
        text(&custody["receipt"]),
        text(&custody["terminal"]),
        text(&custody["seq"]),
    );
    let total = amount::show_with_currency(&transaction["total_minor"], &text(&transaction["currency"]));
    let total = if total.is_empty() { total } else { format!(": {total}") };
    let mut table = Table::bare(&[Side::Left, Side::Left]);
    for step in custody["history"].as_array().into_iter().flatten() {
        table.row([&local_time(&step["at"]), custody_step(&text(&step["state"]))]);
    }
    let cases: Vec<String> = transaction["cases"].as_array().into_iter().flatten().map(text).collect();
    let cases = match cases.as_slice() {
        [] => String::new(),
        cases => format!("\nCases that name it: {}\n", cases.join(", ")),
    };
    let now = custody_step(custody["state"].as_str().unwrap_or("unknown")).to_owned();
    format!("{title}{total}\nnow {now}\n\n{}{cases}\nid {}\n", table.set(), text(&custody["id"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::out::Page;
    use super::super::stand_in::StandIn;
    use super::*;

    #[test]
    fn what_waits_is_said_in_a_sentence() {
        let through = json!({"seq": 7, "receipt": "R-1007"});
        let cases = [
            (json!({"count": 0, "oldest_seconds": null}), &through, "Nothing waits; the hub has everything."),
            (
                json!({"count": 3, "oldest_seconds": 725}),
                &through,
                "3 receipts wait, oldest 12 min; the hub has everything up to R-1007.",
            ),
            (
                json!({"count": 1, "oldest_seconds": 9}),
                &Value::Null,
                "1 receipt waits, oldest 9 s; the hub has nothing of this till yet.",
            ),
        ];
        for (waiting, through, sentence) in cases {
            assert_eq!(waiting_sentence(&waiting, through), sentence);
        }
    }

    #[test]
    fn status_is_one_screen() {
        let page = status_page(&json!({
            "store": "s1", "terminal": "till-01", "online": false, "since": null,
            "waiting": {"count": 2, "value_minor": {"GBP": 3060, "JPY": 7}, "oldest_seconds": 5},
            "at_hub_through": {"seq": 7, "receipt": "R-7"}, "head_seq": 9, "policy_version": 2, "open_cases": 1,
            "peers": [{"peer": "hub/1", "level": false, "backlog": 2,
                       "last_status": {"at": "x", "clock_offset_ms": -40}}]
        }));
        let wanted = "\
store       s1
till        till-01
network     offline: receipts are kept here until the network is back
unsynced    2 receipts wait, oldest 5 s; the hub has everything up to R-7.
worth       GBP 30.60, JPY 7
records     7 at the hub, 9 on this till
policy      version 2
open cases  1

Peer   State        To send   Clock  Last heard
─────  ───────────  ───────  ──────  ──────────
hub/1  catching up        2  -40 ms  x
";
        assert_eq!(page, wanted);
    }

    #[test]
    fn pending_lists_what_waits_with_its_amounts() {
        let page = pending_page(&json!({
            "count": 3, "oldest_seconds": 60, "value_minor": {"GBP": 1530},
            "records": [
                {"seq": 8, "receipt": "R-8", "kind": "sale", "at": "x", "total_minor": 1530, "currency": "GBP"},
                {"seq": 9, "receipt": "Z-1", "kind": "day_close", "at": "y", "total_minor": null, "currency": null}
            ]
        }));
        assert!(page.contains("  8  R-8      sale       x    15.30  GBP\n"), "{page}");
        assert!(
            page.ends_with("(1 more are not listed)\n\n3 receipts wait, oldest 1 min, worth GBP 15.30.\n"),
            "{page}"
        );
    }

    #[test]
    fn custody_tells_the_way_of_a_receipt() {
        let transaction = json!({
            "kind": "sale", "total_minor": 1530, "currency": "GBP", "cases": ["C-1"],
            "custody": {"id": "i", "receipt": "R-1", "terminal": "till-01", "seq": 4, "state": "in_review",
                        "history": [{"state": "saved", "at": "a"}, {"state": "in_review", "at": "b"}]}
        });
        let page = custody_page(&transaction);
        let wanted = "sale R-1, till-01 number 4: GBP 15.30\nnow in the books, held for a person to judge\n\n\
                      a  saved: durable on the till\nb  in the books, held for a person to judge\n\nCases that name it: C-1\n\nid i\n";
        assert_eq!(page, wanted);
    }

    #[test]
    fn custody_json_is_the_ladder_alone() {
        let node = StandIn::routes(&[(
            "/v1/transactions/R-1",
            r#"{"kind":"sale","custody":{"id":"i","state":"saved"}}"#,
        )]);
        let page = Page::default();
        let custody =
            Custody { receipt: "R-1".into(), at: Where { api: Some(node.api()), ..Where::default() } };
        custody.run(&mut Out::to(page.clone(), true)).unwrap();
        assert_eq!(page.read(), "{\"id\":\"i\",\"state\":\"saved\"}\n");
    }
}
