//! Accounting examples of LEDGER-RULES section 7 that no fixture has, as tables an accountant can read.

use serde_json::{Value, json};

use crate::scenario::project;

fn balances(config: &Value, records: &Value) -> Value {
    let scenario = json!({"name": "table", "config": config, "records": records});
    project(&scenario.to_string()).unwrap()[0]["balances"].clone()
}

fn sale(id: &str, lines: &Value, tenders: &Value) -> Value {
    json!({"id": id, "kind": "sale", "terminal": "till-01", "seq": 1, "at": "2026-11-23T10:00:00+00:00",
        "business_day": "2026-11-23", "currency": "GBP", "lines": lines, "tenders": tenders})
}

#[test]
fn a_discount_is_net_of_sales_or_stands_against_them_and_a_void_mirrors_it() {
    let lines = json!([{"n": 1, "sku": "A", "qty": 1, "unit_price": 12000, "discount": 1200, "amount": 10800, "tax": 1800}]);
    let tenders = json!([{"type": "cash", "amount": 10800}]);
    let one = sale("S1", &lines, &tenders);
    let net = json!({"Assets:Cash:Drawer:till-01 GBP": 10800, "Income:Sales GBP": -9000, "Liabilities:Sales-Tax GBP": -1800});
    assert_eq!(balances(&json!({}), &json!([one])), net);
    let contra = json!({"discounts": "contra"});
    let want = json!({"Assets:Cash:Drawer:till-01 GBP": 10800, "Income:Discounts GBP": 1000,
        "Income:Sales GBP": -10000, "Liabilities:Sales-Tax GBP": -1800});
    assert_eq!(balances(&contra, &json!([one])), want);
    let mut void = one.clone();
    void["id"] = json!("V1");
    void["kind"] = json!("void");
    void["seq"] = json!(2);
    void["original"] = json!("S1");
    assert_eq!(balances(&contra, &json!([one, void])), json!({}));
}

#[test]
fn gift_cards_coupons_and_store_credit_are_what_somebody_owes() {
    let sold = json!([{"n": 1, "sku": "GC", "qty": 1, "amount": 5000, "gift_card_sold": true}]);
    let want = json!({"Assets:Cash:Drawer:till-01 GBP": 5000, "Liabilities:Gift-Cards GBP": -5000});
    assert_eq!(
        balances(&json!({}), &json!([sale("S1", &sold, &json!([{"type": "cash", "amount": 5000}]))])),
        want
    );
    let lines = json!([{"n": 1, "sku": "A", "qty": 1, "amount": 12000, "tax": 2000}]);
    let tenders = json!([{"type": "gift_card", "amount": 5000}, {"type": "store_credit", "amount": 2000},
        {"type": "coupon", "amount": 1000}, {"type": "other", "amount": 4000}]);
    let want = json!({"Assets:Coupons-Receivable GBP": 1000, "Assets:Other-Tender GBP": 4000, "Income:Sales GBP": -10000,
        "Liabilities:Gift-Cards GBP": 5000, "Liabilities:Sales-Tax GBP": -2000, "Liabilities:Store-Credit GBP": 2000});
    assert_eq!(balances(&json!({}), &json!([sale("S1", &lines, &tenders)])), want);
}

#[test]
fn cash_moves_between_drawer_safe_and_the_account_of_the_reason() {
    let movement = |id: &str, seq: u64, kind: &str, amount: i64, reason: Value| {
        json!({"id": id, "kind": "cash_move", "terminal": "till-01", "seq": seq, "at": "2026-11-23T09:00:00+00:00",
            "business_day": "2026-11-23", "currency": "GBP", "movement": kind, "amount": amount, "reason": reason})
    };
    let records = json!([
        movement("M1", 1, "float", 10000, Value::Null),
        movement("M2", 2, "paid_out", 700, json!("Expenses:Petty-Cash")),
        movement("M3", 3, "paid_in", 200, Value::Null),
        movement("M4", 4, "pickup", 5000, Value::Null)
    ]);
    let want = json!({"Assets:Cash:Drawer:till-01 GBP": 4500, "Assets:Cash:Safe:s1 GBP": -5000,
        "Assets:Suspense:Differences GBP": -200, "Expenses:Petty-Cash GBP": 700});
    assert_eq!(balances(&json!({}), &records), want);
}

#[test]
fn a_settled_batch_moves_clearing_to_the_bank_less_fees() {
    let lines = json!([{"n": 1, "sku": "A", "qty": 1, "amount": 12000, "tax": 2000}]);
    let records = json!([
        sale("S1", &lines, &json!([{"type": "card", "amount": 12000, "auth": "V-1"}])),
        {"id": "B1", "kind": "settlement", "number": 1, "at": "2026-11-24T02:00:00+00:00", "business_day": "2026-11-24",
         "currency": "GBP", "payments": [{"payment": "V-1", "amount": 12000}], "fees": 180}
    ]);
    let want = json!({"Assets:Bank:Settlement GBP": 11820, "Expenses:Card-Fees GBP": 180, "Income:Sales GBP": -10000,
        "Liabilities:Sales-Tax GBP": -2000});
    assert_eq!(balances(&json!({}), &records), want);
}

#[test]
fn a_circle_of_references_and_a_policy_that_makes_no_sense_are_no_way_out_of_the_rules() {
    let reversal = |id: &str, seq: u64, of: &str| {
        json!({"id": id, "kind": "void", "terminal": "till-01", "seq": seq, "at": "2026-11-23T10:00:00+00:00",
            "business_day": "2026-11-23", "currency": "GBP", "original": of,
            "lines": [{"n": 1, "sku": "A", "qty": 1, "amount": 600}], "tenders": [{"type": "cash", "amount": 600}]})
    };
    let circle = json!({"name": "circle", "records": [reversal("V1", 1, "V2"), reversal("V2", 2, "V1")]});
    let report = &project(&circle.to_string()).unwrap()[0];
    let cases: Vec<&str> =
        report["cases"].as_array().unwrap().iter().map(|case| case["type"].as_str().unwrap()).collect();
    assert_eq!(cases, ["INVALID_REFERENCE", "INVALID_REFERENCE"]);
    let bad = json!({"name": "bad", "config": {"refund_limit": -5}, "records": []});
    let error = project(&bad.to_string()).unwrap_err().to_string();
    assert!(
        error.contains("scenario bad, field config.refund_limit") && error.contains("unlimited"),
        "{error}"
    );
}
