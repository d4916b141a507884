//! What was typed into a form of the till, as parts of a transaction; and the parts that every form has.

use engine::money::{Currency, Quantity, TaxRate, line_amount};
use maud::{Markup, html};
use serde_json::{Value, json};

use super::strip::Facts;
use crate::api::problem::Problem;
use crate::console::Fields;
use crate::console::show::read_money;

/// Most that a line may hold when it is typed by hand: pieces (in ten-thousandths), and minor units for one.
const QUANTITY_LIMIT: i64 = 99_999 * 10_000;
const PRICE_LIMIT_MINOR: i64 = 1_000_000_000;

/// Who it is, and the key that makes a second tap harmless.
pub fn common(facts: &Facts, fields: &Fields) -> Markup {
    let key = fields.filled("key").unwrap_or_else(fresh_key);
    let operator = fields.filled("operator").unwrap_or_else(|| facts.operator.clone());
    html! {
        input type="hidden" name="key" value=(key);
        div.field { label for="operator" { "Operator" } input #operator name="operator" value=(operator) maxlength="64" autocomplete="off"; }
    }
}

fn fresh_key() -> String {
    let bytes: [u8; 12] = rand::random();
    format!("page-{}", data_encoding::HEXLOWER.encode(&bytes))
}

/// A transaction of a kind with what every form says.
pub fn transaction(kind: &str, fields: &Fields, facts: &Facts) -> Result<Value, Problem> {
    let key =
        fields.filled("key").ok_or_else(|| Problem::invalid("the form has no key; load the page again"))?;
    let mut it = json!({"kind": kind, "idempotency_key": key, "offline": !facts.online});
    put(&mut it, "operator", fields.filled("operator"));
    put(&mut it, "reason", fields.filled("reason"));
    put(&mut it, "approver", fields.filled("approver"));
    Ok(it)
}

/// Sets a field that has a value.
pub fn put(transaction: &mut Value, name: &str, value: Option<String>) {
    if let Some(value) = value {
        transaction[name] = json!(value);
    }
}

/// A line as it was typed.
pub struct Typed {
    /// The line in capture form.
    pub json: Value,
    /// Its amount, minor units.
    pub amount_minor: i64,
}

/// Reads a typed line: what, how many, the price of one with tax, the rate.
pub fn line(
    number: usize,
    what: &str,
    quantity: &str,
    price: &str,
    rate: &str,
    facts: &Facts,
) -> Result<Typed, Problem> {
    let name = if what.trim().is_empty() { "Goods" } else { what.trim() };
    let wrong = |problem: String| Problem::invalid(format!("{name}: {problem}"));
    let quantity = if quantity.trim().is_empty() { "1" } else { quantity.trim() };
    let quantity: Quantity =
        quantity.replace(',', ".").parse().map_err(|_| wrong(format!("{quantity:?} is no quantity")))?;
    if !(1..=QUANTITY_LIMIT).contains(&quantity.0) {
        return Err(wrong("the quantity must be above 0 and below 100,000".to_owned()));
    }
    let price = amount(price, facts.currency).map_err(|problem| wrong(problem.detail))?;
    let rate = rate.trim().trim_end_matches('%').trim().replace(',', ".");
    let rate = if rate.is_empty() { "0".to_owned() } else { rate };
    let tax_rate: TaxRate = rate.parse().map_err(|_| wrong(format!("{rate:?} is no tax rate")))?;
    let amount_minor = line_amount(price, quantity, 0);
    let mut json = json!({
        "line": number, "sku": name, "description": name, "quantity": quantity.to_string(), "unit_price_minor": price,
        "amount_minor": amount_minor, "tax_minor": tax_rate.tax_in_gross(amount_minor), "tax_rate": rate,
    });
    // The code goes with the rate; another rate has one that only the shop's own POS knows.
    if let (usual, Some(code)) = &facts.tax
        && usual.parse() == Ok(tax_rate)
    {
        json["tax_code"] = json!(code);
    }
    Ok(Typed { json, amount_minor })
}

/// Reads an amount that cannot be negative.
pub fn amount(text: &str, currency: Currency) -> Result<i64, Problem> {
    let minor = read_money(text, currency);
    minor.filter(|minor| (0..=PRICE_LIMIT_MINOR).contains(minor)).ok_or_else(|| {
        Problem::invalid(format!(
            "{:?} is no amount in {currency}; type for example {}",
            text.trim(),
            currency.format(1250)
        ))
    })
}

/// Which till a form means, if it names one.
pub fn tender(how: &str, total_minor: i64, fields: &Fields) -> Value {
    match how {
        "card" => {
            let mut tender = json!({"type": "card", "amount_minor": total_minor});
            put(&mut tender, "auth", fields.filled("auth"));
            tender
        }
        "card-later" => {
            let payment = format!("pay-{}", fields.text("key"));
            json!({"type": "card", "amount_minor": total_minor, "status": "pending", "payment": payment})
        }
        _ => json!({"type": "cash", "amount_minor": total_minor}),
    }
}
