//! Transactions as a POS hands them to a till, spelled from what a scenario says.

use engine::transaction::Draft;
use serde_json::{Value, json};

use crate::scenario::{Item, Paid};
use crate::truth::Sale;

fn draft(text: &Value) -> Draft {
    Draft::from_json(&text.to_string()).expect("the simulator writes what tills read")
}

fn lines(items: &[Item]) -> Vec<Value> {
    let line = |(at, item): (usize, &Item)| {
        let amount = item.pieces * item.price_minor;
        json!({"line": at + 1, "sku": format!("SKU-{at}-{}", item.price_minor), "quantity": item.pieces.to_string(),
            "unit_price_minor": item.price_minor, "amount_minor": amount, "tax_minor": amount / 6})
    };
    items.iter().enumerate().map(line).collect()
}

fn tenders(paid: Paid, receipt: &str, minor: i64, mirror: bool) -> Vec<Value> {
    let cash = |minor: i64| json!({"type": "cash", "amount_minor": minor});
    let card = |minor: i64| json!({"type": "card", "amount_minor": minor, "auth": format!("A-{receipt}")});
    match paid {
        Paid::Cash => vec![cash(minor)],
        Paid::Card => vec![card(minor)],
        Paid::Split => vec![cash(minor - minor / 2), card(minor / 2)],
        Paid::OfflineCard => {
            let status = if mirror { "mirror" } else { "pending" };
            vec![
                json!({"type": "card", "amount_minor": minor, "status": status, "payment": format!("P-{receipt}")}),
            ]
        }
    }
}

fn original(sale: &Sale) -> Value {
    json!({"terminal": sale.till.trim_end_matches("-copy"), "receipt": sale.receipt})
}

/// A sale.
#[must_use]
pub fn sale(receipt: &str, items: &[Item], paid: Paid, key: Option<&str>, tip_minor: i64) -> Draft {
    let total: i64 = items.iter().map(|item| item.pieces * item.price_minor).sum();
    draft(
        &json!({"kind": "sale", "receipt": receipt, "currency": "GBP", "idempotency_key": key, "operator": "op-1",
        "lines": lines(items), "tenders": tenders(paid, receipt, total + tip_minor, false), "tip_minor": tip_minor}),
    )
}

/// A refund of pieces of the first line, in the tender of the sale; a manager agrees, or nobody was asked.
#[must_use]
pub fn refund(receipt: &str, sale: &Sale, pieces: i64, approved: bool) -> Draft {
    let item = Item { pieces, price_minor: sale.items[0].price_minor };
    let minor = pieces * item.price_minor;
    let tender = match sale.paid {
        Paid::Cash | Paid::Split => "cash",
        Paid::Card | Paid::OfflineCard => "card",
    };
    draft(
        &json!({"kind": "refund", "receipt": receipt, "currency": "GBP", "lines": lines(&[item]), "reason": "unwanted",
        "approver": approved.then_some("manager"), "original": original(sale), "tenders": [{"type": tender, "amount_minor": minor}]}),
    )
}

/// A void of the whole sale.
#[must_use]
pub fn void(receipt: &str, sale: &Sale) -> Draft {
    let minor = sale.total_minor() + sale.tip_minor;
    draft(
        &json!({"kind": "void", "receipt": receipt, "currency": "GBP", "reverses": "sale", "original": original(sale),
        "lines": lines(&sale.items), "tenders": tenders(sale.paid, &sale.receipt, minor, true), "tip_minor": sale.tip_minor}),
    )
}

/// A piece of the first line against a new item; the difference is paid in cash, either way.
#[must_use]
pub fn exchange(receipt: &str, sale: &Sale, price_minor: i64) -> Draft {
    let back = sale.items[0].price_minor;
    let mut returned = lines(&[Item { pieces: 1, price_minor: back }]).remove(0);
    returned["line"] = json!(2);
    returned["amount_minor"] = json!(-back);
    returned["tax_minor"] = json!(-(back / 6));
    returned["return_in_sale"] = json!(true);
    returned["original"] = original(sale);
    returned["original_line"] = json!(1);
    let mut new = lines(&[Item { pieces: 1, price_minor }]).remove(0);
    new["sku"] = json!(format!("NEW-{price_minor}"));
    draft(&json!({"kind": "sale", "receipt": receipt, "currency": "GBP", "lines": [new, returned],
        "tenders": [{"type": "cash", "amount_minor": price_minor - back}]}))
}

/// Cash into the drawer or out of it.
#[must_use]
pub fn cash(receipt: &str, amount_minor: i64) -> Draft {
    let movement = if amount_minor > 0 { "float" } else { "pickup" };
    draft(&json!({"kind": "cash_move", "receipt": receipt, "currency": "GBP", "movement": movement,
        "amount_minor": amount_minor.abs().max(1)}))
}

/// The day's close; the drawer is counted right.
#[must_use]
pub fn close(receipt: &str) -> Draft {
    draft(&json!({"kind": "day_close", "receipt": receipt}))
}
