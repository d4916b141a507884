//! What the plain model found in the engine, each as the smallest story: a scenario in the form of `golden.json`, and
//! the line of the books that was wrong. Engine and model have to agree on all of them.

#![expect(clippy::needless_pass_by_value, reason = "stories are told in literals")]

use engine::scenario::{Scenario, read};
use serde_json::{Value, json};
use sim::compare::disagreements;

fn scenario(config: &Value, records: &Value) -> Scenario {
    let text = json!([{ "name": "finding", "config": config, "records": records }]).to_string();
    read(&text).unwrap().remove(0)
}

/// Runs a story by both, and gives the engine's report.
fn told(config: Value, records: Value) -> Value {
    let scenario = scenario(&config, &records);
    let differing = disagreements(&scenario.records, scenario.policy());
    assert!(differing.is_empty(), "{}", differing.join("\n"));
    scenario.report(&scenario.run())
}

fn record(id: &str, till: &str, seq: u64, kind: &str, at: &str, rest: Value) -> Value {
    let mut record = json!({
        "id": id, "terminal": till, "seq": seq, "kind": kind, "at": format!("2026-11-23T{at}:00Z"),
        "business_day": "2026-11-23", "store": "s1", "currency": "GBP",
    });
    for (key, value) in rest.as_object().unwrap() {
        record[key] = value.clone();
    }
    record
}

fn line(n: u32, amount: i64) -> Value {
    json!({"n": n, "sku": "A", "qty": 1, "amount": amount, "tax": amount / 6})
}

fn cash(amount: i64) -> Value {
    json!([{"type": "cash", "amount": amount}])
}

fn card(amount: i64, status: &str) -> Value {
    json!([{"type": "card", "amount": amount, "status": status, "payment": "P1"}])
}

fn sale(id: &str, till: &str, seq: u64, at: &str, tenders: Value) -> Value {
    record(id, till, seq, "sale", at, json!({"lines": [line(1, 6_000)], "tenders": tenders}))
}

fn void(id: &str, till: &str, seq: u64, at: &str, of: &str, tenders: Value) -> Value {
    record(id, till, seq, "void", at, json!({"original": of, "lines": [line(1, 6_000)], "tenders": tenders}))
}

fn refund(id: &str, till: &str, seq: u64, at: &str, of: &str, tenders: Value) -> Value {
    record(
        id,
        till,
        seq,
        "refund",
        at,
        json!({"original": of, "lines": [line(1, 6_000)], "tenders": tenders}),
    )
}

fn decision(number: u64, case: &str, subject: &str, action: &str, member: &str) -> Value {
    json!({"id": format!("dec{number}"), "kind": "decision", "number": number, "case": case, "subject": subject,
           "action": action, "record": member})
}

fn case<'a>(report: &'a Value, case_type: &str) -> &'a Value {
    let found = report["cases"].as_array().unwrap().iter().find(|case| case["type"] == case_type);
    found.unwrap_or(&Value::Null)
}

#[test]
fn a_float_of_a_locked_day_is_late() {
    let lock =
        json!({"id": "lock1", "kind": "lock", "number": 1, "covers": ["S1"], "open_day": "2026-11-24"});
    let float =
        record("F1", "till-02", 1, "cash_move", "09:00", json!({"movement": "float", "amount": 5_000}));
    let report = told(json!({}), json!([sale("S1", "till-01", 1, "10:00", cash(6_000)), lock, float]));
    assert_eq!(case(&report, "LATE_RECORD")["subject"], "F1", "{report:#}");
}

#[test]
fn a_false_rounding_does_not_hide_that_tenders_are_off() {
    let mut odd = sale("S1", "till-01", 1, "10:00", cash(6_000));
    odd["rounding"] = json!(40);
    let report = told(json!({}), json!([odd]));
    assert_eq!(case(&report, "TENDER_MISMATCH")["subject"], "S1", "{report:#}");
}

#[test]
fn a_void_of_a_mirrored_refund_puts_the_money_back_where_it_was() {
    let records = json!([
        sale("S1", "till-01", 1, "10:00", card(6_000, "declined")),
        refund("R1", "till-01", 2, "10:10", "S1", card(6_000, "mirror")),
        void("V1", "till-01", 3, "10:20", "R1", card(6_000, "mirror")),
    ]);
    let report = told(json!({}), records);
    assert_eq!(report["balances"]["Assets:Receivable:Declined-Cards GBP"], 6_000, "{report:#}");
    assert_eq!(report["balances"]["Assets:Card:Clearing GBP"], Value::Null, "{report:#}");
}

#[test]
fn what_was_removed_as_a_clone_is_decided_as_revoked_too() {
    let mut clone = sale("S1x", "till-01", 1, "10:05", cash(6_000));
    clone["receipt"] = json!("other");
    let revoke = json!({"id": "rv", "kind": "revoke", "target": "till-01", "last_valid_seq": 0});
    let records = json!([
        sale("S1", "till-01", 1, "10:00", cash(6_000)),
        clone,
        revoke,
        decision(1, "CLONED_TERMINAL", "till-01/1:1", "remove", "S1x"),
        decision(2, "REVOKED_TERMINAL", "till-01", "remove", "S1"),
    ]);
    let report = told(json!({}), records);
    assert_eq!(case(&report, "REVOKED_TERMINAL")["status"], "decided", "{report:#}");
}

#[test]
fn no_drawer_is_short_of_a_card_refund() {
    let records = json!([
        sale("S1", "till-01", 1, "10:00", card(6_000, "approved")),
        refund("R1", "till-01", 2, "11:00", "S1", card(6_000, "approved")),
        refund("R2", "till-02", 1, "11:01", "S1", card(6_000, "approved")),
        decision(1, "REVERSAL_CONFLICT", "S1", "over-short", "R2"),
    ]);
    let report = told(json!({}), records);
    assert_eq!(report["balances"]["Expenses:Cash-Over-Short GBP"], Value::Null, "{report:#}");
    assert_eq!(case(&report, "REVERSAL_CONFLICT")["status"], "open", "{report:#}");
}

#[test]
fn a_converted_void_of_an_exchange_gives_the_return_half_back() {
    let lines = json!([line(1, 9_000), {"n": 2, "sku": "A", "qty": 1, "amount": -6_000, "tax": -1_000,
        "return_in_sale": true, "original": "S1", "original_line": 1}]);
    let exchange = json!({"lines": lines, "tenders": cash(3_000)});
    let mut late = exchange.clone();
    late["original"] = json!("X1");
    late["business_day"] = json!("2026-11-24");
    let records = json!([
        sale("S1", "till-01", 1, "10:00", cash(6_000)),
        record("X1", "till-01", 2, "sale", "11:00", exchange),
        record("V1", "till-02", 1, "void", "12:00", late),
        decision(1, "VOID_AFTER_CLOSE", "X1", "convert", "V1"),
        refund("R1", "till-02", 2, "13:00", "S1", cash(6_000)),
    ]);
    let report = told(json!({}), records);
    assert_eq!(case(&report, "REVERSAL_CONFLICT"), &Value::Null, "{report:#}");
}

#[test]
fn an_action_that_means_nothing_leaves_the_tax_relief_alone() {
    let records = json!([
        sale("S1", "till-01", 1, "10:00", card(6_000, "declined")),
        decision(1, "FAILED_PAYMENT", "P1", "tax-relief", "S1"),
        decision(2, "FAILED_PAYMENT", "P1", "convert", "S1"),
    ]);
    let report = told(json!({}), records);
    assert_eq!(report["balances"]["Expenses:Bad-Debt GBP"], 5_000, "{report:#}");
    assert_eq!(report["balances"]["Liabilities:Sales-Tax GBP"], Value::Null, "{report:#}");
}

#[test]
fn a_void_preferred_after_the_lock_does_not_displace_what_was_locked() {
    let mut prefer = decision(1, "REVERSAL_CONFLICT", "S1", "prefer", "V1");
    let lock = json!({"id": "lock1", "kind": "lock", "number": 1, "covers": ["S1", "R1"]});
    let story = |prefer: Value, lock: Value| {
        json!([
            sale("S1", "till-01", 1, "10:00", cash(6_000)),
            refund("R1", "till-03", 1, "10:20", "S1", cash(6_000)),
            void("V1", "till-02", 1, "10:30", "S1", cash(6_000)),
            lock,
            prefer,
        ])
    };
    // In a scenario the hub's records are numbered by kind, locks before decisions.
    let report = told(json!({}), story(prefer.clone(), lock));
    assert_eq!(case(&report, "REVERSAL_CONFLICT")["held"], json!({"V1": "VOID_AFTER_REFUND"}), "{report:#}");
    // Without the lock the reviewer's word decides.
    prefer["number"] = json!(2);
    let unlocked = json!({"id": "lock1", "kind": "lock", "number": 1, "covers": []});
    let report = told(json!({}), story(prefer, unlocked));
    assert_eq!(case(&report, "REVERSAL_CONFLICT")["held"], json!({"R1": "REFUND_AFTER_VOID"}), "{report:#}");
}

#[test]
fn a_line_without_a_reference_returns_what_the_refund_names() {
    let lines = json!([line(1, 6_000), {"n": 2, "sku": "A", "qty": 1, "amount": 6_000, "tax": 1_000, "original": "S2"}]);
    let both = json!({"original": "S1", "lines": lines, "tenders": cash(12_000), "approver": "mgr"});
    let records = json!([
        sale("S1", "till-01", 1, "10:00", cash(6_000)),
        sale("S2", "till-01", 2, "10:10", cash(6_000)),
        record("R1", "till-02", 1, "refund", "11:00", both),
    ]);
    let report = told(json!({}), records);
    assert_eq!(report["cases"].as_array().unwrap().len(), 0, "{report:#}");
    assert_eq!(report["balances"]["Income:Returns GBP"], 10_000, "{report:#}");
}

#[test]
fn a_blind_refund_once_approved_uses_up_the_lines_that_name_a_sale() {
    let lines = json!([{"n": 1, "sku": "A", "qty": 1, "amount": 6_000, "tax": 1_000, "original": "S1"}, line(2, 600)]);
    let half_blind = json!({"lines": lines, "tenders": cash(6_600)});
    let records = json!([
        sale("S1", "till-01", 1, "10:00", cash(6_000)),
        record("R1", "till-02", 1, "refund", "11:00", half_blind),
        decision(1, "NO_REFERENCE", "R1", "approve", "R1"),
        refund("R2", "till-03", 1, "12:00", "S1", cash(6_000)),
    ]);
    let report = told(json!({}), records);
    assert_eq!(case(&report, "REVERSAL_CONFLICT")["held"], json!({"R2": "OVER_REFUND"}), "{report:#}");
}

#[test]
fn a_z_counts_the_foreign_notes_that_the_drawer_took() {
    let mut odd =
        sale("S1", "till-01", 1, "10:00", json!([{"type": "cash", "amount": 6_000, "currency": "USD"}]));
    odd["receipt"] = json!("usd");
    let close = record("Z1", "till-01", 2, "close", "18:00", json!({"expected_cash": 0, "counted_cash": 0}));
    let report = told(json!({}), json!([odd, close]));
    // Sixty dollars are in the drawer and the Z does not say so.
    assert_eq!(case(&report, "Z_MISMATCH")["subject"], "till-01:2", "{report:#}");
}

#[test]
fn a_locked_exchange_keeps_its_place_although_its_sale_is_not_locked() {
    let back = json!({"n": 2, "sku": "A", "qty": 1, "amount": -6_000, "tax": -1_000, "return_in_sale": true,
        "original": "S1", "original_line": 1});
    let exchange = json!({"lines": [line(1, 9_000), back], "tenders": cash(3_000), "idem": "k"});
    let mut earlier = sale("Y1", "till-03", 1, "10:30", cash(6_000));
    earlier["idem"] = json!("k");
    let records = json!([
        sale("S1", "till-01", 1, "10:00", cash(6_000)),
        record("X1", "till-02", 1, "sale", "11:00", exchange),
        {"id": "lock1", "kind": "lock", "number": 1, "covers": ["X1"]},
        earlier,
    ]);
    let report = told(json!({}), records);
    assert_eq!(case(&report, "DUPLICATE_CAPTURE")["held"], json!({"Y1": "DUPLICATE_CAPTURE"}), "{report:#}");
}

#[test]
fn what_was_voided_before_tender_cannot_come_back_whatever_its_tax() {
    let voided = json!({"n": 2, "sku": "A", "qty": 1, "amount": -6_000, "tax": -1_010, "line_void": true});
    let kept = json!({"n": 3, "sku": "B", "qty": 1, "amount": 600, "tax": 100});
    let records = json!([
        record(
            "S1",
            "till-01",
            1,
            "sale",
            "10:00",
            json!({"lines": [line(1, 6_000), voided, kept], "tenders": cash(600)})
        ),
        refund("R1", "till-02", 1, "11:00", "S1", cash(6_000)),
    ]);
    let report = told(json!({}), records);
    assert_eq!(case(&report, "REVERSAL_CONFLICT")["held"], json!({"R1": "OVER_REFUND"}), "{report:#}");
}

#[test]
fn approving_a_blind_line_does_not_pass_what_exceeds_the_sale_in_another() {
    let too_much = json!({"n": 1, "sku": "A", "qty": 2, "amount": 6_000, "tax": 1_000, "original": "S1"});
    let records = json!([
        sale("S1", "till-01", 1, "10:00", cash(6_000)),
        record(
            "R1",
            "till-02",
            1,
            "refund",
            "11:00",
            json!({"lines": [too_much, line(2, 600)], "tenders": cash(6_600)})
        ),
        decision(1, "NO_REFERENCE", "R1", "approve", "R1"),
    ]);
    let report = told(json!({}), records);
    assert_eq!(report["balances"]["Assets:Suspense:Refunds GBP"], 6_600, "{report:#}");
    assert_eq!(case(&report, "REVERSAL_CONFLICT")["status"], "open", "{report:#}");
}
