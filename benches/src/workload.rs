//! What is sold: seeded transactions of about 400 bytes of JSON, 90 sales, 7 refunds and 3 voids in a hundred. All
//! honest: a sale is reversed once at most and by its own till, so no case may open, and every one is posted.

use std::collections::VecDeque;

use serde_json::{Value, json};
use sim::chance::Chance;

/// How many transactions stand between a sale and its reversal at least: further apart than anything that is on its
/// way at the same time, so that no reversal overtakes its sale.
const REVERSED_AFTER: usize = 256;

/// A transaction as a POS hands it over.
#[derive(Debug, Clone)]
pub struct Transaction {
    /// Its receipt number.
    pub receipt: String,
    /// Its JSON form.
    pub json: String,
    /// What it brought in, minor units; negative if money went out.
    pub net_minor: i64,
}

/// Transactions of one till. The same arguments give the same bytes.
#[must_use]
pub fn transactions(till: &str, count: usize, seed: u64) -> Vec<Transaction> {
    let mut chance = Chance::new(seed, till);
    let mut sales: VecDeque<(usize, Value)> = VecDeque::new();
    let mut made = Vec::with_capacity(count);
    for number in 0..count {
        let receipt = format!("{till}-{seed}-{:07}", number + 1);
        let kind = chance.below(100);
        let old_enough = sales.front().is_some_and(|(at, _)| at + REVERSED_AFTER <= number);
        let reversed = if kind >= 90 && old_enough { sales.pop_front() } else { None };
        let (mut value, direction) = match reversed {
            Some((_, sale)) => (reversal(&sale, kind >= 97), -1),
            None => (sale(&mut chance), 1),
        };
        value["receipt"] = json!(receipt);
        value["idempotency_key"] = json!(code("cart", chance.draw()));
        if direction > 0 {
            sales.push_back((number, value.clone()));
        } else {
            for tender in value["tenders"].as_array_mut().into_iter().flatten() {
                rename_payment(tender, &mut chance);
            }
        }
        let amount = value["tenders"][0]["amount_minor"].as_i64().unwrap_or(0);
        made.push(Transaction { receipt, json: value.to_string(), net_minor: direction * amount });
    }
    made
}

fn sale(chance: &mut Chance) -> Value {
    let pieces = chance.between(1, 3);
    let price = chance.between(50, 3_000);
    let amount = pieces * price;
    let mut tender = json!({"type": "cash", "amount_minor": amount, "status": "approved"});
    if chance.once_in(2) {
        tender["type"] = json!("card");
        tender["card_last4"] = json!(format!("{:04}", chance.below(10_000)));
        rename_payment(&mut tender, chance);
    }
    json!({
        "kind": "sale", "operator": format!("op-{}", chance.below(40)), "currency": "GBP",
        "lines": [{
            "line": 1, "sku": format!("SKU-{:08}", chance.below(100_000_000)), "description": "Lantern, white",
            "quantity": pieces.to_string(), "unit_price_minor": price, "discount_minor": 0,
            "amount_minor": amount, "tax_minor": amount / 6, "tax_code": "S", "tax_rate": "20",
        }],
        "tenders": [tender], "rounding_minor": 0,
    })
}

/// A payment of its own at the provider.
fn rename_payment(tender: &mut Value, chance: &mut Chance) {
    if tender["type"] == "card" {
        let number = chance.draw();
        tender["payment"] = json!(code("pay", number));
        tender["auth"] = json!(code("V", number.rotate_left(17)));
    }
}

/// A number as a name, in runs of digits too short to be taken for a card number, which tills refuse.
fn code(prefix: &str, number: u64) -> String {
    format!("{prefix}-{:06}x{:06}", number / 1_000_000 % 1_000_000, number % 1_000_000)
}

/// The whole sale taken back, as it was paid.
fn reversal(sale: &Value, void: bool) -> Value {
    let mut value = sale.clone();
    value["kind"] = json!(if void { "void" } else { "refund" });
    value["original_receipt"] = sale["receipt"].clone();
    value["approver"] = json!("op-1");
    if void {
        value["reverses"] = json!("sale");
    }
    value
}

/// Sum of what transactions brought in, minor units.
#[must_use]
pub fn net_minor(transactions: &[Transaction]) -> i64 {
    transactions.iter().map(|transaction| transaction.net_minor).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workload_is_of_the_size_and_mix_it_says() {
        let made = transactions("till-1", 5_000, 1);
        let bytes: usize = made.iter().map(|transaction| transaction.json.len()).sum();
        assert!((330..=480).contains(&(bytes / made.len())), "{} bytes", bytes / made.len());
        let of =
            |kind: &str| made.iter().filter(|one| one.json.contains(&format!("\"kind\":\"{kind}\""))).count();
        assert!((4_400..=4_700).contains(&of("sale")), "{}", of("sale"));
        assert!((250..=420).contains(&of("refund")) && (80..=220).contains(&of("void")));
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_and_another_gives_others() {
        let json =
            |seed| transactions("till-1", 300, seed).into_iter().map(|one| one.json).collect::<Vec<_>>();
        assert_eq!(json(7), json(7));
        assert_ne!(json(7), json(8));
    }
}
