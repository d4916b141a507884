//! `sale`, `refund`, `void`, `close`, `cash`: one transaction out of flags, for a shop without a POS app and for trying
//! things out. It only spells the JSON that a till takes (CONTRACT section 2); the till judges it.

use clap::{Args, ValueEnum};
use engine::money::{Currency, Quantity, TaxRate};
use serde_json::{Map, Value, json};

use super::amount;
use super::client::{Client, Role, Where, escape};
use super::out::Out;
use super::table::Table;
use super::words;
use crate::error::Failure;

/// Records one sale at the till. Example:
///
///   tillsync sale --currency GBP --line 85123A:6:15.30::Lantern --tax-rate 20 --card 15.30
#[derive(Debug, Args)]
pub(super) struct Sale {
    #[command(flatten)]
    basket: BasketFlags,
    /// Tip on top of the goods, for the staff
    #[arg(long, value_name = "AMOUNT")]
    tip: Option<String>,
    #[command(flatten)]
    common: CommonFlags,
}

/// Records one refund at the till: money out, goods back. With --of and without --line it gives back what the receipt
/// says (or its lines --of-line), by the tender it was paid with. Example:
///
///   tillsync refund --of R-1001 --of-line 2 --reason "does not fit"
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
    basket: BasketFlags,
    #[command(flatten)]
    common: CommonFlags,
}

/// Cancels a whole sale or refund that was rung in error: its lines and tenders are read from the till and repeated,
/// the other way round in the books.
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
    common: CommonFlags,
}

/// Records the end of the till's day. The till adds up its own totals; you say what was counted in the drawer.
#[derive(Debug, Args)]
pub(super) struct Close {
    /// Cash counted, by currency, such as GBP=120.00
    #[arg(long, value_name = "CUR=AMOUNT")]
    counted: Vec<String>,
    #[command(flatten)]
    common: CommonFlags,
}

/// Records cash that goes into or out of the drawer without a sale.
#[derive(Debug, Args)]
pub(super) struct Cash {
    /// What kind of movement it is
    #[arg(value_enum)]
    movement: Movement,
    /// How much
    #[arg(long)]
    amount: String,
    /// Currency of the amount, such as GBP
    #[arg(long, value_name = "CUR")]
    currency: Currency,
    /// Why
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    common: CommonFlags,
}

/// What kind of cash movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Movement {
    /// Opening change, from the safe into the drawer
    Float,
    /// Money put into the drawer
    PaidIn,
    /// Money taken from the drawer for an expense
    PaidOut,
    /// From the drawer into the safe
    Pickup,
}

/// Lines and tenders.
#[derive(Debug, Default, Args)]
struct BasketFlags {
    /// A line: SKU:QUANTITY:AMOUNT[:TAX[:DESCRIPTION]], the amount being that of the whole line, tax included
    #[arg(long = "line", value_name = "LINE")]
    lines: Vec<String>,
    /// Currency, such as GBP; not needed where it is read from the original
    #[arg(long, value_name = "CUR")]
    currency: Option<Currency>,
    /// Paid (or paid back) in cash
    #[arg(long, value_name = "AMOUNT")]
    cash: Option<String>,
    /// Paid (or paid back) by card
    #[arg(long, value_name = "AMOUNT")]
    card: Option<String>,
    /// Any other tender, such as gift_card:5.00 (gift_card, store_credit, coupon, other)
    #[arg(long, value_name = "TYPE:AMOUNT")]
    tender: Vec<String>,
    /// The card payment was accepted offline: no answer from the provider yet
    #[arg(long, requires = "card")]
    card_pending: bool,
    /// Last four digits of the card; never more of it
    #[arg(long, value_name = "DIGITS", requires = "card")]
    card_last4: Option<String>,
    /// Authorisation code of the card payment
    #[arg(long, value_name = "CODE", requires = "card")]
    auth: Option<String>,
    /// Id of the payment attempt at the provider
    #[arg(long, value_name = "ID", requires = "card")]
    payment: Option<String>,
    /// Tax code of all lines
    #[arg(long, value_name = "CODE")]
    tax_code: Option<String>,
    /// Tax rate of all lines in per cent; a line without TAX gets the tax that its amount contains
    #[arg(long, value_name = "PERCENT")]
    tax_rate: Option<TaxRate>,
    /// What cash rounding added (or took, if negative)
    #[arg(long, value_name = "AMOUNT", allow_hyphen_values = true)]
    rounding: Option<String>,
}

/// What every transaction can state.
#[derive(Debug, Default, Args)]
struct CommonFlags {
    /// Receipt number; the till numbers it otherwise
    #[arg(long)]
    receipt: Option<String>,
    /// Key of the basket: a repeat with the same key is recorded once
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Pseudonym of the operator
    #[arg(long, value_name = "WHO")]
    operator: Option<String>,
    /// Business day, if it is not the till's present one
    #[arg(long, value_name = "YYYY-MM-DD")]
    business_day: Option<String>,
    /// Amounts are whole minor units (1530), not major units (15.30)
    #[arg(long)]
    minor: bool,
    #[command(flatten)]
    at: Where,
}

type Fields = Map<String, Value>;

impl Sale {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let transaction = self.transaction().map_err(|error| usage("sale", error))?;
        let client = self.common.at.client(Role::Till, "sale")?;
        send(&client, transaction, out)
    }

    fn transaction(&self) -> Result<Fields, String> {
        let currency = self.basket.currency.ok_or("--currency is missing, such as --currency GBP")?;
        if self.basket.lines.is_empty() {
            return Err(
                "--line is missing: a sale has at least one, such as --line 85123A:6:15.30".to_owned()
            );
        }
        let mut fields = self.common.fields("sale");
        fields.extend(self.basket.fields(currency, self.common.minor)?);
        if let Some(tip) = &self.tip {
            fields
                .insert("tip_minor".to_owned(), json!(amount_of("--tip", tip, currency, self.common.minor)?));
        }
        Ok(fields)
    }
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
    fn transaction(&self, original: Option<&Value>) -> Result<Fields, String> {
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

    fn transaction(&self, original: &Value) -> Result<Fields, String> {
        let kind = words::text(&original["kind"]);
        if kind != "sale" && kind != "refund" {
            return Err(format!("{} is a {kind}; only a sale or a refund can be voided", self.of));
        }
        let mut fields = self.common.fields("void");
        put(&mut fields, "reason", self.reason.as_deref());
        put(&mut fields, "approver", self.approver.as_deref());
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

impl Close {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let transaction = self.transaction().map_err(|error| usage("close", error))?;
        let client = self.common.at.client(Role::Till, "close")?;
        send(&client, transaction, out)
    }

    fn transaction(&self) -> Result<Fields, String> {
        let mut counted = Fields::new();
        for text in &self.counted {
            let wrong = || format!("--counted {text:?} is not of the form GBP=120.00");
            let (currency, amount) = text.split_once('=').ok_or_else(wrong)?;
            let known: Currency = currency.parse().map_err(|error| format!("--counted: {error}"))?;
            let minor = amount_of("--counted", amount, known, self.common.minor)?;
            if counted.insert(currency.to_owned(), json!(minor)).is_some() {
                return Err(format!("--counted names {currency} twice"));
            }
        }
        let mut fields = self.common.fields("day_close");
        fields.insert("counted".to_owned(), Value::Object(counted));
        Ok(fields)
    }
}

impl Cash {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let transaction = self.transaction().map_err(|error| usage("cash", error))?;
        let client = self.common.at.client(Role::Till, "cash")?;
        send(&client, transaction, out)
    }

    fn transaction(&self) -> Result<Fields, String> {
        let movement = match self.movement {
            Movement::Float => "float",
            Movement::PaidIn => "paid_in",
            Movement::PaidOut => "paid_out",
            Movement::Pickup => "pickup",
        };
        let minor = amount_of("--amount", &self.amount, self.currency, self.common.minor)?;
        let mut fields = self.common.fields("cash_move");
        fields.insert("movement".to_owned(), json!(movement));
        fields.insert("amount_minor".to_owned(), json!(minor));
        fields.insert("currency".to_owned(), json!(self.currency));
        put(&mut fields, "reason", self.reason.as_deref());
        Ok(fields)
    }
}

impl CommonFlags {
    fn fields(&self, kind: &str) -> Fields {
        let mut fields = Fields::from_iter([("kind".to_owned(), json!(kind))]);
        put(&mut fields, "receipt", self.receipt.as_deref());
        put(&mut fields, "idempotency_key", self.idempotency_key.as_deref());
        put(&mut fields, "operator", self.operator.as_deref());
        put(&mut fields, "business_day", self.business_day.as_deref());
        fields
    }
}

impl BasketFlags {
    fn fields(&self, currency: Currency, minor: bool) -> Result<Fields, String> {
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

    fn tenders(&self, currency: Currency, minor: bool) -> Result<Vec<Value>, String> {
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

    fn rounding_minor(&self, currency: Currency, minor: bool) -> Result<i64, String> {
        self.rounding.as_deref().map_or(Ok(0), |text| amount_of("--rounding", text, currency, minor))
    }
}

fn put(fields: &mut Fields, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        fields.insert(name.to_owned(), json!(value));
    }
}

fn amount_of(flag: &str, text: &str, currency: Currency, minor: bool) -> Result<i64, String> {
    amount::parse(text, currency, minor).map_err(|error| format!("{flag}: {error}"))
}

fn original_currency(original: &Value) -> Result<Currency, String> {
    words::text(&original["currency"]).parse().map_err(|error| format!("the original: {error}"))
}

fn transaction_path(name: &str) -> String {
    format!("/v1/transactions/{}", escape(name))
}

fn usage(operation: &str, error: String) -> Failure {
    Failure::usage(error).during(operation)
}

/// Gives the transaction to the till. A script gets the line that `capture` would print; a person on a terminal reads
/// the same in words.
fn send(client: &Client, transaction: Fields, out: &mut Out) -> Result<(), Failure> {
    let named = ["receipt", "idempotency_key"].iter().any(|field| transaction.contains_key(*field));
    let answer = client
        .post("/v1/transactions", &Value::Object(transaction))
        .map_err(|failure| unknown_fate(failure, named))?;
    if out.json() || !out.terminal() {
        return out.document(&answer);
    }
    let mut list = Table::list();
    list.row(["receipt", &words::text(&answer["receipt"])]);
    list.row(["number", &words::text(&answer["seq"])]);
    list.row(["state", words::custody_step(&words::text(&answer["state"]))]);
    list.row(["id", &words::text(&answer["id"])]);
    out.text(&list.set())
}

/// A connection that broke off leaves open whether the till has it: the person must not ring it twice.
fn unknown_fate(failure: Failure, named: bool) -> Failure {
    if failure.code != 3 || failure.message.contains("nobody answers") {
        return failure;
    }
    let advice = if named {
        "It may have been saved: repeat the same command, it is recorded once"
    } else {
        "It may have been saved: look at `tillsync pending` before ringing it again"
    };
    Failure { message: format!("{}. {advice}", failure.message), ..failure }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::out::Page;
    use super::super::stand_in::{StandIn, response};
    use super::*;

    #[derive(Parser)]
    enum Shop {
        Sale(Sale),
        Refund(Refund),
        Void(Void),
        Close(Close),
        Cash(Cash),
    }

    fn shop(line: &str) -> Shop {
        Shop::try_parse_from(std::iter::once("shop").chain(line.split(' ')))
            .unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    fn spelled(line: &str) -> Result<Value, String> {
        let fields = match shop(line) {
            Shop::Sale(sale) => sale.transaction(),
            Shop::Refund(refund) => {
                refund.transaction(refund.basket.lines.is_empty().then(original).as_ref())
            }
            Shop::Void(void) => void.transaction(&original()),
            Shop::Close(close) => close.transaction(),
            Shop::Cash(cash) => cash.transaction(),
        };
        fields.map(Value::Object)
    }

    /// A sale as a till shows it.
    fn original() -> Value {
        json!({
            "id": "abc", "kind": "sale", "receipt": "R-1", "seq": 4, "currency": "GBP",
            "lines": [
                {"line": 1, "sku": "a", "quantity": "2", "discount_minor": 0, "amount_minor": 1000, "tax_minor": 167},
                {"line": 2, "sku": "b", "quantity": "1", "discount_minor": 0, "amount_minor": 500, "tax_minor": 83}
            ],
            "tenders": [{"type": "card", "amount_minor": 1500, "status": "pending", "payment": "p"}],
            "rounding_minor": 0, "tip_minor": 0, "total_minor": 1500, "custody": {}, "postings": []
        })
    }

    #[test]
    fn a_sale_is_spelled_as_the_contract_has_it() {
        let sale = spelled(
            "sale --currency GBP --line 85123A:6:15.30::Lantern:red --line x:0.42:4.20:0.70 --tax-rate 20 --tax-code S \
             --cash 12 --card 7.50 --card-last4 4242 --auth V-77 --receipt R-1001 --operator op-7 --tip 0.01 --rounding -0.01",
        )
        .unwrap();
        assert_eq!(
            sale,
            json!({
                "kind": "sale", "receipt": "R-1001", "operator": "op-7", "currency": "GBP",
                "lines": [
                    {"line": 1, "sku": "85123A", "quantity": "6", "amount_minor": 1530, "tax_minor": 255,
                     "description": "Lantern:red", "tax_code": "S", "tax_rate": "20"},
                    {"line": 2, "sku": "x", "quantity": "0.42", "amount_minor": 420, "tax_minor": 70,
                     "tax_code": "S", "tax_rate": "20"}
                ],
                "tenders": [
                    {"type": "cash", "amount_minor": 1200},
                    {"type": "card", "amount_minor": 750, "card_last4": "4242", "auth": "V-77"}
                ],
                "rounding_minor": -1, "tip_minor": 1
            })
        );
    }

    #[test]
    fn minor_units_are_taken_as_they_are() {
        let sale =
            spelled("sale --minor --currency GBP --line a:1:1530:255 --tender gift_card:1530").unwrap();
        assert_eq!(sale["lines"][0]["amount_minor"], 1530);
        assert_eq!(sale["tenders"][0], json!({"type": "gift_card", "amount_minor": 1530}));
    }

    #[test]
    fn what_cannot_be_spelled_is_a_usage_error_that_names_the_flag() {
        let cases = [
            ("sale --line a:1:2", "--currency is missing"),
            ("sale --currency GBP", "--line is missing"),
            ("sale --currency GBP --line a:1", "--line \"a:1\" is not of the form"),
            ("sale --currency GBP --line a:x:2", "--line \"a:x:2\": \"x\" is not a quantity"),
            ("sale --currency GBP --line a:1:2.005", "--line: \"2.005\" has 3 decimals"),
            ("sale --currency GBP --line a:1:2 --cash two", "--cash: \"two\" is not an amount"),
            ("sale --currency GBP --line a:1:2 --tender gift", "--tender \"gift\" is not"),
            (
                "refund --currency GBP --line a:1:2 --of R-1 --of-line 1 --of-line 2",
                "there are more --of-line",
            ),
            ("refund --of R-1 --of-line 7", "R-1 has no line 7"),
            ("close --counted 120", "--counted \"120\" is not of the form"),
            ("close --counted GBP=1 --counted GBP=2", "--counted names GBP twice"),
        ];
        for (line, start) in cases {
            let error = spelled(line).unwrap_err();
            assert!(error.starts_with(start), "{line}: {error}");
        }
    }

    #[test]
    fn a_refund_names_the_lines_of_its_sale() {
        let refund =
            spelled("refund --of R-1 --line b:1:5.00:0.83 --of-line 2 --currency GBP --cash 5 --reason late")
                .unwrap();
        assert_eq!(refund["original_receipt"], "R-1");
        assert_eq!(refund["lines"][0]["original_line"], 2);
        assert_eq!(refund["tenders"], json!([{"type": "cash", "amount_minor": 500}]));
        let whole = spelled("refund --of R-1 --of-line 2").unwrap();
        assert_eq!(whole["lines"][0]["original_line"], 2);
        assert_eq!(whole["lines"][0]["line"], 1);
        assert_eq!(whole["tenders"], json!([{"type": "card", "amount_minor": 500}]));
        assert_eq!(whole["currency"], "GBP");
    }

    #[test]
    fn a_void_repeats_the_original_and_its_card_tender_follows_the_original_s() {
        let void = spelled("void --of R-1 --reason twice --receipt V-1").unwrap();
        assert_eq!(
            void,
            json!({
                "kind": "void", "receipt": "V-1", "reason": "twice", "reverses": "sale", "original": {"id": "abc"},
                "currency": "GBP", "lines": original()["lines"], "rounding_minor": 0, "tip_minor": 0,
                "tenders": [{"type": "card", "amount_minor": 1500, "status": "mirror", "payment": "p"}]
            })
        );
    }

    #[test]
    fn a_void_of_something_else_is_refused_here() {
        let Shop::Void(void) = shop("void --of Z-1") else { panic!() };
        assert_eq!(
            void.transaction(&json!({"kind": "day_close"})).unwrap_err(),
            "Z-1 is a day_close; only a sale or a refund can be voided"
        );
    }

    #[test]
    fn closes_and_cash_movements_are_spelled() {
        assert_eq!(
            spelled("close --counted GBP=120.00 --counted JPY=700").unwrap(),
            json!({"kind": "day_close", "counted": {"GBP": 12000, "JPY": 700}})
        );
        assert_eq!(
            spelled("cash paid-out --amount 4.20 --currency GBP --reason stamps").unwrap(),
            json!({"kind": "cash_move", "movement": "paid_out", "amount_minor": 420, "currency": "GBP", "reason": "stamps"})
        );
    }

    #[test]
    fn the_original_is_asked_from_the_till_by_its_receipt() {
        let node = StandIn::serve(|request| match request.method.as_str() {
            "GET" => response(200, "application/json", &original().to_string()),
            _ => response(201, "application/json", r#"{"receipt":"V-2","id":"x","seq":9,"state":"saved"}"#),
        });
        let Shop::Void(mut void) = shop("void --of R/1") else { panic!() };
        void.common.at.api = Some(node.api());
        let page = Page::default();
        void.run(&mut Out::to(page.clone(), false)).unwrap();
        let requests = node.requests();
        assert_eq!(requests[0].path, "/v1/transactions/R%2F1");
        assert_eq!(requests[1].json()["original"], json!({"id": "abc"}));
        assert_eq!(serde_json::from_str::<Value>(&page.read()).unwrap()["seq"], 9);
    }

    #[test]
    fn a_connection_that_breaks_off_says_that_it_may_have_been_saved() {
        let node = StandIn::serve(|_| Vec::new());
        let failure =
            send(&node.client(Role::Till, "sale"), Fields::new(), &mut Out::to(Page::default(), false))
                .unwrap_err();
        assert_eq!(failure.code, 3);
        assert!(failure.message.contains("look at `tillsync pending`"), "{failure}");
    }
}
