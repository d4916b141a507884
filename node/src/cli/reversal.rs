//! `refund` and `void`: what takes an earlier transaction back. Where the flags do not say what, it is read from the
//! till and repeated; whether it may be taken back is judged by the till and the rules, not here.

use clap::Args;
use engine::money::Currency;
use serde_json::{Value, json};

use super::basket::{BasketFlags, CommonFlags, Fields, put};
use super::client::{Role, escape};
use super::out::Out;
use super::transaction::{send, usage};
use super::words;
use crate::error::Failure;

/// Record one refund
///
/// Money out, goods back. With --of and without --line it gives back what the receipt says (or its lines --of-line), by
/// the tender it was paid with.
///
/// Example: tillsync refund --of R-1001 --of-line 2 --reason "does not fit"
#[derive(Debug, Args)]
pub(super) struct Refund {
    /// Receipt of the sale; without it the refund is one without a receipt, which the policy may hold
    #[arg(long, value_name = "RECEIPT")]
    of: Option<String>,
    /// Line of that sale; several: the first belongs to the first --line, and so on
    #[arg(long, value_name = "N", requires = "of")]
    of_line: Vec<u32>,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    /// Who approved it
    #[arg(long, value_name = "WHO")]
    approver: Option<String>,
    #[command(flatten)]
    pub(super) basket: BasketFlags,
    #[command(flatten)]
    pub(super) common: CommonFlags,
}

/// Cancel a whole sale or refund that was rung in error
///
/// Its lines and tenders are read from the till and repeated, the other way round in the books.
#[derive(Debug, Args)]
pub(super) struct Void {
    /// Receipt or id of what is cancelled
    #[arg(long, value_name = "RECEIPT")]
    of: String,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    /// Who approved it
    #[arg(long, value_name = "WHO")]
    approver: Option<String>,
    #[command(flatten)]
    pub(super) common: CommonFlags,
}

impl Refund {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.common.at.client(Role::Till, "refund")?;
        let original = match &self.of {
            Some(of) if self.basket.lines.is_empty() => Some(client.get(&transaction_path(of))?),
            _ => None,
        };
        let transaction = self.transaction(original.as_ref()).map_err(|error| usage("refund", error))?;
        send(&client, transaction, out)
    }

    /// From the flags, or from the sale where the flags name no line.
    pub(super) fn transaction(&self, original: Option<&Value>) -> Result<Fields, String> {
        let mut fields = self.common.fields("refund");
        put(&mut fields, "reason", self.reason.as_deref());
        put(&mut fields, "approver", self.approver.as_deref());
        put(&mut fields, "original_receipt", self.of.as_deref());
        if let Some(original) = original {
            fields.extend(self.whole_lines(original)?);
            return Ok(fields);
        }
        let currency = self.basket.currency.ok_or("--currency is missing, such as --currency GBP")?;
        if self.basket.lines.is_empty() {
            return Err("--line or --of is missing: say what comes back".to_owned());
        }
        if self.of_line.len() > self.basket.lines.len() {
            return Err("there are more --of-line than --line".to_owned());
        }
        fields.extend(self.basket.fields(currency, self.common.minor)?);
        for (line, number) in fields["lines"].as_array_mut().into_iter().flatten().zip(&self.of_line) {
            line["original_line"] = json!(number);
        }
        Ok(fields)
    }

    fn whole_lines(&self, original: &Value) -> Result<Fields, String> {
        let of = self.of.as_deref().unwrap_or_default();
        if original["kind"] != "sale" {
            return Err(format!("{of} is a {}; only a sale can be refunded", words::text(&original["kind"])));
        }
        let currency = original_currency(original)?;
        if self.basket.currency.is_some_and(|stated| stated != currency) {
            return Err(format!("{of} is in {currency}; no rule converts currencies"));
        }
        let mut lines = Vec::new();
        for line in original["lines"].as_array().into_iter().flatten() {
            let number = line["line"].as_u64().unwrap_or(0);
            let wanted =
                self.of_line.is_empty() || self.of_line.iter().any(|wanted| u64::from(*wanted) == number);
            let is_goods = ["return_in_sale", "line_void"].iter().all(|flag| line[*flag] != true);
            if wanted && is_goods {
                let mut line = line.clone();
                line["line"] = json!(lines.len() + 1);
                line["original_line"] = json!(number);
                lines.push(line);
            }
        }
        if let Some(strange) =
            self.of_line.iter().find(|wanted| !lines.iter().any(|line| line["original_line"] == **wanted))
        {
            return Err(format!("{of} has no line {strange} that could be given back"));
        }
        if lines.is_empty() {
            return Err(format!("{of} has no line that could be given back"));
        }
        let mut tenders = self.basket.tenders(currency, self.common.minor)?;
        if tenders.is_empty() {
            tenders.push(same_tender(of, original, &lines)?);
        }
        Ok(Fields::from_iter([
            ("currency".to_owned(), json!(currency)),
            ("lines".to_owned(), json!(lines)),
            ("tenders".to_owned(), json!(tenders)),
            ("rounding_minor".to_owned(), json!(self.basket.rounding_minor(currency, self.common.minor)?)),
        ]))
    }
}

/// The tender that gives the lines back as they were paid, if the sale had but one.
fn same_tender(of: &str, original: &Value, lines: &[Value]) -> Result<Value, String> {
    let kinds: Vec<&Value> =
        original["tenders"].as_array().into_iter().flatten().map(|tender| &tender["type"]).collect();
    let total = lines.iter().try_fold(0_i64, |sum, line| {
        // A price without tax is paid with it.
        let tax = if line["tax_exclusive"] == true { line["tax_minor"].as_i64().unwrap_or(0) } else { 0 };
        sum.checked_add(line["amount_minor"].as_i64()?)?.checked_add(tax)
    });
    match (kinds.as_slice(), total) {
        ([kind], Some(total)) => Ok(json!({"type": kind, "amount_minor": total})),
        _ => Err(format!(
            "{of} was paid with several tenders; say with --cash, --card or --tender how it is paid back"
        )),
    }
}

impl Void {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.common.at.client(Role::Till, "void")?;
        let original = client.get(&transaction_path(&self.of))?;
        let transaction = self.transaction(&original).map_err(|error| usage("void", error))?;
        send(&client, transaction, out)
    }

    pub(super) fn transaction(&self, original: &Value) -> Result<Fields, String> {
        let mut fields = self.common.fields("void");
        put(&mut fields, "reason", self.reason.as_deref());
        put(&mut fields, "approver", self.approver.as_deref());
        fields.extend(cancelling(&self.of, original)?);
        Ok(fields)
    }
}

/// What a void repeats of the sale or refund that it cancels.
pub(crate) fn cancelling(of: &str, original: &Value) -> Result<Fields, String> {
    let kind = words::text(&original["kind"]);
    if kind != "sale" && kind != "refund" {
        return Err(format!("{of} is a {kind}; only a sale or a refund can be voided"));
    }
    let mut fields = Fields::new();
    fields.insert("reverses".to_owned(), json!(kind));
    fields.insert("original".to_owned(), json!({"id": original["id"]}));
    for field in ["currency", "lines", "rounding_minor", "tip_minor"] {
        fields.insert(field.to_owned(), original[field].clone());
    }
    fields.insert(
        "tenders".to_owned(),
        original["tenders"].as_array().into_iter().flatten().map(mirrored).collect(),
    );
    Ok(fields)
}

/// A card tender of a void follows what becomes of the original's: its answer may still be on the way (LEDGER-RULES
/// section 3, `mirror`). Cash is cash.
fn mirrored(tender: &Value) -> Value {
    let mut tender = tender.clone();
    if tender["type"] == "card" {
        tender["status"] = json!("mirror");
    }
    tender
}

fn original_currency(original: &Value) -> Result<Currency, String> {
    words::text(&original["currency"]).parse().map_err(|error| format!("the original: {error}"))
}

/// Where the till shows a transaction.
pub(super) fn transaction_path(name: &str) -> String {
    format!("/v1/transactions/{}", escape(name))
}
