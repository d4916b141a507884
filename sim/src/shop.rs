//! What happens in the shops: sales, refunds and voids at any till, honest ones and planted mischief (the same sale
//! reversed twice, more returned than was sold). What was planted is known, so that nothing may escape and nothing
//! honest may be held.

use std::collections::BTreeMap;

use engine::replica::Receipt;
use engine::transaction::Draft;
use serde_json::json;

use crate::chance::Chance;

/// A sale that was acknowledged, and what was done to it.
#[derive(Debug, Clone)]
pub struct Sale {
    /// Till that rang it.
    pub till: String,
    /// Its receipt number.
    pub receipt: String,
    /// Pieces sold.
    pub pieces: i64,
    /// Price of one, minor units.
    pub price_minor: i64,
    /// How it was paid.
    pub tender: &'static str,
    /// Pieces returned by acknowledged refunds.
    pub returned: i64,
    /// Acknowledged voids.
    pub voids: u32,
    /// Receipt numbers of its reversals.
    pub reversals: Vec<String>,
}

impl Sale {
    /// Whether more was reversed than there was: a person must judge it.
    #[must_use]
    pub fn is_mischief(&self) -> bool {
        self.voids > 1 || self.returned > self.pieces || (self.voids == 1 && self.returned > 0)
    }
}

/// What a token stands for until it is answered.
#[derive(Debug, Clone)]
pub enum Asked {
    /// A sale.
    Sale(Sale),
    /// A refund of pieces of the sale with this receipt.
    Refund(String, String, i64),
    /// A void of the sale with this receipt.
    Void(String, String),
}

/// Everything that happened, as it was acknowledged.
#[derive(Debug, Default)]
pub struct Shop {
    /// Acknowledged sales by receipt.
    pub sales: BTreeMap<String, Sale>,
    /// Acknowledged records: receipt → record.
    pub acknowledged: BTreeMap<String, Receipt>,
    /// Money that tills took in: (till, tender) → minor units.
    pub money: BTreeMap<(String, &'static str), i64>,
    /// Asked and not answered yet.
    pub asked: BTreeMap<(String, u64), Asked>,
    numbers: u64,
}

impl Shop {
    /// Thinks up what happens next at a till.
    pub fn happen(&mut self, till: &str, chance: &mut Chance) -> (Draft, Asked) {
        self.numbers += 1;
        let receipt = format!("{till}-{}", self.numbers);
        let known: Vec<&Sale> = self.sales.values().collect();
        let kind = chance.below(10);
        if kind < 6 || known.is_empty() {
            let sale = Sale {
                till: till.to_owned(),
                receipt: receipt.clone(),
                pieces: chance.between(1, 4),
                price_minor: chance.between(50, 2_000),
                tender: if chance.once_in(2) { "cash" } else { "card" },
                returned: 0,
                voids: 0,
                reversals: Vec::new(),
            };
            return (draft("sale", &receipt, &sale, sale.pieces, None), Asked::Sale(sale));
        }
        // Mostly an untouched sale; now and then any, which may be one reversed too much.
        let untouched: Vec<&&Sale> = known.iter().filter(|sale| sale.reversals.is_empty()).collect();
        let sale = if untouched.is_empty() || chance.once_in(4) {
            *chance.pick(&known)
        } else {
            **chance.pick(&untouched)
        };
        let original = sale.receipt.clone();
        if kind < 8 {
            let pieces = chance.between(1, sale.pieces);
            (draft("refund", &receipt, sale, pieces, Some(sale)), Asked::Refund(original, receipt, pieces))
        } else {
            (draft("void", &receipt, sale, sale.pieces, Some(sale)), Asked::Void(original, receipt))
        }
    }

    /// A till acknowledged something.
    pub fn acknowledge(&mut self, till: &str, asked: Asked, receipt: Receipt) {
        let name = receipt.receipt.clone();
        let mut move_money = |tender: &'static str, minor: i64| {
            *self.money.entry((till.to_owned(), tender)).or_default() += minor;
        };
        match asked {
            Asked::Sale(sale) => {
                move_money(sale.tender, sale.pieces * sale.price_minor);
                self.sales.insert(sale.receipt.clone(), sale);
            }
            Asked::Refund(original, own, pieces) => {
                if let Some(sale) = self.sales.get_mut(&original) {
                    move_money(sale.tender, -pieces * sale.price_minor);
                    sale.returned += pieces;
                    sale.reversals.push(own);
                }
            }
            Asked::Void(original, own) => {
                if let Some(sale) = self.sales.get_mut(&original) {
                    move_money(sale.tender, -sale.pieces * sale.price_minor);
                    sale.voids += 1;
                    sale.reversals.push(own);
                }
            }
        }
        self.acknowledged.insert(name, receipt);
    }
}

fn draft(kind: &str, receipt: &str, sale: &Sale, pieces: i64, original: Option<&Sale>) -> Draft {
    let amount = pieces * sale.price_minor;
    let mut text = json!({
        "kind": kind, "receipt": receipt, "currency": "GBP",
        "lines": [{"line": 1, "sku": format!("SKU-{}", sale.price_minor), "quantity": pieces.to_string(),
            "unit_price_minor": sale.price_minor, "amount_minor": amount, "tax_minor": 0}],
        "tenders": [{"type": sale.tender, "amount_minor": amount}],
    });
    if let Some(original) = original {
        text["original"] = json!({"terminal": original.till, "receipt": original.receipt});
        text["approver"] = json!("manager");
        if kind == "void" {
            text["reverses"] = json!("sale");
        }
    }
    Draft::from_json(&text.to_string()).expect("the simulator writes what tills read")
}
