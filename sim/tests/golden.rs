//! The golden scenarios through whole replicas: each till captures offline what the scenario says, then everything is
//! delivered in random orders, cut in the middle and delivered again. Balances and cases must be those of the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use engine::policy::{BlindRefunds, Policy};
use engine::transaction::Draft;
use serde_json::{Value, json};
use sim::chance::Chance;
use sim::world::{Delays, World};

/// Orders tried for each scenario.
const ORDERS: u64 = 12;

#[test]
fn golden_scenarios_hold_in_every_order_of_delivery() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/golden/golden.json");
    let Ok(text) = std::fs::read_to_string(&file) else {
        eprintln!("skipped: {} is not here", file.display());
        return;
    };
    let scenarios: Vec<Value> = serde_json::from_str(&text).unwrap();
    let within: Vec<&Value> = scenarios.iter().filter(|scenario| can_be_captured(scenario)).collect();
    assert!(within.len() >= 24, "only {} scenarios can be captured at tills", within.len());
    for scenario in within {
        for order in 0..ORDERS {
            play(scenario, order);
        }
    }
}

/// Sales, refunds and voids of gapless logs that a till would record. The others (forged chains, decisions, payments,
/// what a till refuses) are held by the engine's own tests, on the books directly.
fn can_be_captured(scenario: &Value) -> bool {
    let mut numbers: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
    // A basket captured twice at one till is absorbed there and makes one record.
    let mut keys = std::collections::HashSet::new();
    for record in scenario["records"].as_array().unwrap() {
        let plain = ["sale", "refund", "void"].contains(&record["kind"].as_str().unwrap());
        let online =
            record["tenders"].as_array().into_iter().flatten().all(|tender| tender.get("status").is_none());
        let forged = record.get("prev").is_some();
        if !plain || !online || forged {
            return false;
        }
        let of_till = numbers.entry(record["terminal"].as_str().unwrap()).or_default();
        let absorbed =
            record["idem"].as_str().is_some_and(|key| !keys.insert((record["terminal"].as_str(), key)));
        if !of_till.insert(record["seq"].as_u64().unwrap()) || absorbed {
            return false;
        }
    }
    let gapless = numbers.values().all(|of_till| of_till.iter().copied().eq(1..=of_till.len() as u64));
    let held = scenario["expect"]["cases"].to_string();
    let refused_at_the_till = ["TENDER_MISMATCH", "NEGATIVE_AMOUNT", "CURRENCY_MISMATCH", "CLOCK_SKEW"];
    gapless && !refused_at_the_till.iter().any(|case| held.contains(case))
}

fn play(scenario: &Value, order: u64) {
    let name = scenario["name"].as_str().unwrap();
    let mut chance = Chance::new(order, name);
    let policy = policy(scenario);
    let records = scenario["records"].as_array().unwrap();
    let tills: BTreeSet<String> =
        records.iter().map(|record| record["terminal"].as_str().unwrap().to_owned()).collect();
    let tills: Vec<String> = tills.into_iter().collect();
    let mut world = World::new(&tills, Delays { link_ms: (1, 30), disk_ms: (0, 2) }, &policy, order);
    // The scenarios' day is over by the till's clocks, so that none of their times is ahead.
    world.run_for(86_400_000);
    let mut captured: Vec<&Value> = records.iter().collect();
    captured.sort_by_key(|record| record["seq"].as_u64());
    for record in captured {
        let till = record["terminal"].as_str().unwrap();
        let token = world.capture(till, draft(record, records));
        world.run_for(10);
        let answer = world.node(till).answers.get(&token).cloned();
        assert!(matches!(answer, Some(Ok(_))), "{name}: {answer:?}");
    }
    for _ in 0..3 {
        let mut waiting = tills.clone();
        while !waiting.is_empty() {
            let at = usize::try_from(chance.below(waiting.len() as u64)).unwrap();
            world.connect(&waiting.swap_remove(at), "hub");
            world.run_for(chance.between(0, 200));
        }
    }
    world.run_for(60_000);
    for node in world.nodes.values() {
        let balances: BTreeMap<String, Value> = node
            .replica()
            .books()
            .balances()
            .into_iter()
            .filter(|(_, minor)| *minor != 0)
            .map(|((account, currency), minor)| {
                (format!("{account} {currency}"), json!(i64::try_from(minor).unwrap()))
            })
            .collect();
        assert_eq!(json!(balances), scenario["expect"]["balances"], "{name}, order {order}, {}", node.name);
        assert_eq!(cases(node.replica()), expected_cases(scenario), "{name}, order {order}, {}", node.name);
    }
}

fn policy(scenario: &Value) -> Policy {
    let config = &scenario["config"];
    let mut policy = Policy { blind_refunds: BlindRefunds::Hold, ..Policy::default() };
    // One scenario rounds GBP by 2, which the default cash unit of 1 would not allow.
    policy.cash_unit_minor.insert("GBP".parse().unwrap(), 5);
    if let Some(limit) = config["refund_limit"].as_i64() {
        policy.refund_limit_minor = Some(limit);
    }
    policy
}

/// A scenario's record as a POS would hand it over. The original is named as printed: till and receipt.
fn draft(record: &Value, all: &[Value]) -> Draft {
    let lines: Vec<Value> = record["lines"]
        .as_array()
        .unwrap()
        .iter()
        .map(|line| {
            let mut view = json!({
                "line": line["n"], "sku": line["sku"], "quantity": line["qty"].to_string(),
                "amount_minor": line["amount"], "tax_minor": line["tax"],
            });
            if line["return_in_sale"] == true {
                view["return_in_sale"] = json!(true);
                view["original"] = printed(line["original"].as_str().unwrap(), record, all);
                view["original_line"] = line["original_line"].clone();
            }
            view
        })
        .collect();
    let tenders: Vec<Value> = record["tenders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tender| json!({"type": tender["type"], "amount_minor": tender["amount"], "auth": tender["auth"]}))
        .collect();
    let mut view = json!({
        "kind": record["kind"], "receipt": record["receipt"], "currency": record["currency"], "at": record["at"],
        "business_day": record["business_day"], "lines": lines, "tenders": tenders,
        "rounding_minor": record["rounding"].as_i64().unwrap_or(0), "tip_minor": record["tip"].as_i64().unwrap_or(0),
    });
    if let Some(original) = record["original"].as_str() {
        view["original"] = printed(original, record, all);
        if record["kind"] == "void" {
            let target = all.iter().find(|other| other["id"] == original);
            view["reverses"] = target.map_or(json!("sale"), |target| {
                json!(if target["kind"] == "refund" { "refund" } else { "sale" })
            });
        }
    }
    for (from, to) in [("idem", "idempotency_key"), ("approver", "approver")] {
        if let Some(text) = record[from].as_str() {
            view[to] = json!(text);
        }
    }
    Draft::from_json(&view.to_string()).unwrap()
}

fn printed(original: &str, record: &Value, all: &[Value]) -> Value {
    let target = all.iter().find(|other| other["id"] == original);
    let terminal = target.map_or(&record["original_terminal"], |target| &target["terminal"]);
    let seq = target.map_or(&record["original_seq"], |target| &target["seq"]);
    json!({"terminal": terminal, "receipt": original, "seq": seq})
}

/// Type, state and held members of every case, by receipt.
fn cases(replica: &engine::replica::Replica) -> BTreeSet<(String, String, BTreeMap<String, String>)> {
    let books = replica.books();
    let receipt = |id| books.record(id).map(|record| record.transaction.receipt.clone()).unwrap_or_default();
    let found = books.cases().map(|case| {
        let held = case.held.iter().map(|(id, reason)| (receipt(id), reason.as_str().to_owned())).collect();
        (case.key.case_type.as_str().to_owned(), case.state.as_str().to_owned(), held)
    });
    found.collect()
}

fn expected_cases(scenario: &Value) -> BTreeSet<(String, String, BTreeMap<String, String>)> {
    let cases = scenario["expect"]["cases"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let expected = cases.map(|case| {
        let held = case["held"].as_object().unwrap().iter();
        let held = held.map(|(id, reason)| (id.clone(), text(reason))).collect();
        (text(&case["type"]), text(&case["status"]), held)
    });
    expected.collect()
}
