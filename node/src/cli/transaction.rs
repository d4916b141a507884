//! `sale`, `close`, `cash`: one transaction out of flags, for a shop without a POS app and for trying things out
//! (`refund` and `void` are in `reversal`). It only spells the JSON that a till takes; the till judges it.

use clap::{Args, ValueEnum};
use engine::money::Currency;
use serde_json::{Value, json};

use super::basket::{BasketFlags, CommonFlags, Fields, amount_of, put};
use super::client::{Client, Role};
use super::out::Out;
use super::table::Table;
use super::words;
use crate::error::Failure;

/// Record one sale
///
/// Example: tillsync sale --currency GBP --line 85123A:6:15.30::Lantern --tax-rate 20 --card 15.30
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

/// Record the end of a till's day, with the cash that was counted
///
/// The till adds up its own totals; you say what was counted in the drawer.
#[derive(Debug, Args)]
pub(super) struct Close {
    /// Cash counted, by currency, such as GBP=120.00
    #[arg(long, value_name = "CUR=AMOUNT")]
    counted: Vec<String>,
    #[command(flatten)]
    common: CommonFlags,
}

/// Record cash into or out of a drawer without a sale
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

/// An error of the flags.
pub(super) fn usage(operation: &str, error: String) -> Failure {
    Failure::usage(error).during(operation)
}

/// Gives the transaction to the till. A script gets the line that `capture` would print; a person on a terminal reads
/// the same in words.
pub(super) fn send(client: &Client, transaction: Fields, out: &mut Out) -> Result<(), Failure> {
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
    use super::super::reversal::{Refund, Void};
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
