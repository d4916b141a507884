//! The flags of a transaction, and the fields that they spell (CONTRACT section 2). Only form is read here: whether the
//! sums agree is for the till to say.

use clap::Args;
use engine::money::{Currency, Quantity, TaxRate};
use serde_json::{Map, Value, json};

use super::amount;
use super::client::Where;

/// A transaction in the making.
pub(super) type Fields = Map<String, Value>;

/// Lines and tenders.
#[derive(Debug, Default, Args)]
pub(super) struct BasketFlags {
    /// A line: SKU:QUANTITY:AMOUNT[:TAX[:DESCRIPTION]], the amount being that of the whole line, tax included
    #[arg(long = "line", value_name = "LINE")]
    pub(super) lines: Vec<String>,
    /// Currency, such as GBP; not needed where it is read from the original
    #[arg(long, value_name = "CUR")]
    pub(super) currency: Option<Currency>,
    /// Paid (or paid back) in cash
    #[arg(long, value_name = "AMOUNT")]
    pub(super) cash: Option<String>,
    /// Paid (or paid back) by card
    #[arg(long, value_name = "AMOUNT")]
    pub(super) card: Option<String>,
    /// Any other tender, such as gift_card:5.00 (gift_card, store_credit, coupon, other)
    #[arg(long, value_name = "TYPE:AMOUNT")]
    pub(super) tender: Vec<String>,
    /// The card payment was accepted offline: no answer from the provider yet
    #[arg(long, requires = "card")]
    pub(super) card_pending: bool,
    /// Last four digits of the card; never more of it
    #[arg(long, value_name = "DIGITS", requires = "card")]
    pub(super) card_last4: Option<String>,
    /// Authorisation code of the card payment
    #[arg(long, value_name = "CODE", requires = "card")]
    pub(super) auth: Option<String>,
    /// Id of the payment attempt at the provider
    #[arg(long, value_name = "ID", requires = "card")]
    pub(super) payment: Option<String>,
    /// Tax code of all lines
    #[arg(long, value_name = "CODE")]
    pub(super) tax_code: Option<String>,
    /// Tax rate of all lines in per cent; a line without TAX gets the tax that its amount contains
    #[arg(long, value_name = "PERCENT")]
    pub(super) tax_rate: Option<TaxRate>,
    /// What cash rounding added (or took, if negative)
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    pub(super) rounding: Option<String>,
}

/// What every transaction can state.
#[derive(Debug, Default, Args)]
pub(super) struct CommonFlags {
    /// Receipt number; the till numbers it otherwise
    #[arg(long)]
    pub(super) receipt: Option<String>,
    /// Key of the basket: a repeat with the same key is recorded once
    #[arg(long, value_name = "KEY")]
    pub(super) idempotency_key: Option<String>,
    /// Pseudonym of the operator
    #[arg(long, value_name = "WHO")]
    pub(super) operator: Option<String>,
    /// Business day, if it is not the till's present one
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub(super) business_day: Option<String>,
    /// Amounts are whole minor units (1530), not major units (15.30)
    #[arg(long)]
    pub(super) minor: bool,
    #[command(flatten)]
    pub(super) at: Where,
}

impl CommonFlags {
    pub(super) fn fields(&self, kind: &str) -> Fields {
        let mut fields = Fields::from_iter([("kind".to_owned(), json!(kind))]);
        put(&mut fields, "receipt", self.receipt.as_deref());
        put(&mut fields, "idempotency_key", self.idempotency_key.as_deref());
        put(&mut fields, "operator", self.operator.as_deref());
        put(&mut fields, "business_day", self.business_day.as_deref());
        fields
    }
}

impl BasketFlags {
    pub(super) fn fields(&self, currency: Currency, minor: bool) -> Result<Fields, String> {
        let lines = self.lines.iter().enumerate().map(|(at, text)| self.line(at + 1, text, currency, minor));
        Ok(Fields::from_iter([
            ("currency".to_owned(), json!(currency)),
            ("lines".to_owned(), json!(lines.collect::<Result<Vec<_>, _>>()?)),
            ("tenders".to_owned(), json!(self.tenders(currency, minor)?)),
            ("rounding_minor".to_owned(), json!(self.rounding_minor(currency, minor)?)),
        ]))
    }

    fn line(&self, number: usize, text: &str, currency: Currency, minor: bool) -> Result<Value, String> {
        let parts: Vec<&str> = text.splitn(5, ':').collect();
        let [sku, quantity, amount, more @ ..] = parts.as_slice() else {
            return Err(format!(
                "--line {text:?} is not of the form SKU:QUANTITY:AMOUNT[:TAX[:DESCRIPTION]]"
            ));
        };
        let quantity: Quantity = quantity.parse().map_err(|error| format!("--line {text:?}: {error}"))?;
        let amount_minor = amount_of("--line", amount, currency, minor)?;
        let tax_minor = match (more.first().filter(|tax| !tax.is_empty()), self.tax_rate) {
            (Some(tax), _) => amount_of("--line", tax, currency, minor)?,
            (None, Some(rate)) => rate.tax_in_gross(amount_minor),
            (None, None) => 0,
        };
        let mut line = Fields::new();
        line.insert("line".to_owned(), json!(number));
        line.insert("sku".to_owned(), json!(sku));
        line.insert("quantity".to_owned(), json!(quantity.to_string()));
        line.insert("amount_minor".to_owned(), json!(amount_minor));
        line.insert("tax_minor".to_owned(), json!(tax_minor));
        put(&mut line, "description", more.get(1).copied().filter(|text| !text.is_empty()));
        put(&mut line, "tax_code", self.tax_code.as_deref());
        put(&mut line, "tax_rate", self.tax_rate.map(|rate| rate.to_string()).as_deref());
        Ok(Value::Object(line))
    }

    pub(super) fn tenders(&self, currency: Currency, minor: bool) -> Result<Vec<Value>, String> {
        let mut tenders = Vec::new();
        if let Some(cash) = &self.cash {
            tenders
                .push(json!({"type": "cash", "amount_minor": amount_of("--cash", cash, currency, minor)?}));
        }
        if let Some(card) = &self.card {
            let mut tender = Fields::new();
            tender.insert("type".to_owned(), json!("card"));
            tender.insert("amount_minor".to_owned(), json!(amount_of("--card", card, currency, minor)?));
            put(&mut tender, "status", self.card_pending.then_some("pending"));
            put(&mut tender, "card_last4", self.card_last4.as_deref());
            put(&mut tender, "auth", self.auth.as_deref());
            put(&mut tender, "payment", self.payment.as_deref());
            tenders.push(Value::Object(tender));
        }
        for text in &self.tender {
            let wrong = || format!("--tender {text:?} is not of the form gift_card:5.00");
            let (kind, amount) = text.split_once(':').ok_or_else(wrong)?;
            tenders
                .push(json!({"type": kind, "amount_minor": amount_of("--tender", amount, currency, minor)?}));
        }
        Ok(tenders)
    }

    pub(super) fn rounding_minor(&self, currency: Currency, minor: bool) -> Result<i64, String> {
        self.rounding.as_deref().map_or(Ok(0), |text| amount_of("--rounding", text, currency, minor))
    }
}

/// States a field that was given.
pub(super) fn put(fields: &mut Fields, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), json!(value));
    }
}

/// Reads the amount of a flag; the error names the flag.
pub(super) fn amount_of(flag: &str, text: &str, currency: Currency, minor: bool) -> Result<i64, String> {
    amount::parse(text, currency, minor).map_err(|error| format!("{flag}: {error}"))
}
