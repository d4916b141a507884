//! The JSON form of a transaction (input of `capture` and of the till's API). An unknown field is an error that
//! names it; optional fields are filled by the till later.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{
    Adjustment, Basket, Body, CardFacts, CashMovement, CloseTotals, CountSum, DayClose, Line, LineFlag,
    OriginalLine, Reference, Reverses, Tender, TenderStatus, TenderType, Transaction,
};
use crate::ids::{RecordId, StoreId, TerminalId};
use crate::money::{Currency, Quantity, TaxRate};
use crate::time::{Day, Instant};

/// Why an input is not a transaction. The message names the field and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InputError {
    /// Path of the field, such as `lines[2].quantity`; `input` for the whole.
    pub field: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

impl InputError {
    /// An error at `field`.
    pub fn at(field: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self { field: field.into(), problem: problem.to_string() }
    }
}

/// A transaction as a POS hands it over: what the till still has to fill in or check is apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Draft {
    /// The transaction; its receipt is empty if the till shall number it.
    pub transaction: Transaction,
    /// Business day, if stated.
    pub business_day: Option<Day>,
    /// Time, if stated.
    pub at: Option<Instant>,
    /// Store and till that the input claims to be from.
    pub store: Option<StoreId>,
    /// See `store`.
    pub terminal: Option<TerminalId>,
    /// Whether a void said what it reverses.
    pub reverses_stated: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    kind: InputKind,
    receipt: Option<String>,
    idempotency_key: Option<String>,
    operator: Option<String>,
    currency: Option<Currency>,
    #[serde(default)]
    lines: Vec<LineInput>,
    #[serde(default)]
    tenders: Vec<TenderInput>,
    #[serde(default)]
    rounding_minor: i64,
    #[serde(default)]
    tip_minor: i64,
    #[serde(default)]
    offline: bool,
    original: Option<InputReference>,
    original_receipt: Option<String>,
    reverses: Option<Reverses>,
    reason: Option<String>,
    approver: Option<String>,
    movement: Option<CashMovement>,
    amount_minor: Option<i64>,
    counted: Option<BTreeMap<Currency, i64>>,
    business_day: Option<Day>,
    at: Option<String>,
    total_minor: Option<i64>,
    tax_total_minor: Option<i64>,
    store: Option<StoreId>,
    terminal: Option<TerminalId>,
    #[allow(dead_code, reason = "read and ignored, as the contract says")]
    provenance: Option<IgnoredAny>,
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
enum InputKind {
    Sale,
    Refund,
    Void,
    CashMove,
    DayClose,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LineInput {
    line: Option<u32>,
    sku: String,
    description: Option<String>,
    quantity: String,
    unit_price_minor: Option<i64>,
    #[serde(default)]
    discount_minor: i64,
    amount_minor: i64,
    #[serde(default)]
    tax_minor: i64,
    tax_code: Option<String>,
    tax_rate: Option<String>,
    #[serde(default)]
    tax_exclusive: bool,
    #[serde(default)]
    return_in_sale: bool,
    #[serde(default)]
    line_void: bool,
    #[serde(default)]
    gift_card_sold: bool,
    original: Option<InputReference>,
    original_receipt: Option<String>,
    original_line: Option<u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenderInput {
    #[serde(rename = "type")]
    tender: TenderType,
    amount_minor: i64,
    currency: Option<Currency>,
    #[serde(default)]
    status: TenderStatus,
    payment: Option<String>,
    auth: Option<String>,
    card_brand: Option<String>,
    card_last4: Option<String>,
    card_token: Option<String>,
    tendered_minor: Option<i64>,
    change_minor: Option<i64>,
}

impl Draft {
    /// Reads one JSON object. Checks form and stated totals; `Transaction::validate` checks the rest.
    ///
    /// # Errors
    /// Malformed JSON, an unknown or missing field, a value of the wrong form, totals that do not add up.
    pub fn from_json(text: &str) -> Result<Self, InputError> {
        match serde_json::from_str::<Input>(text) {
            Ok(input) => input.into_draft(),
            // To know the field costs several times what reading does: only where it is asked for.
            Err(_) => Input::explained(text)?.into_draft(),
        }
    }
}

impl Input {
    /// Reads, and names the field that does not fit.
    fn explained(text: &str) -> Result<Self, InputError> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let input: Self = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let path = error.path().to_string();
            let field = if matches!(path.as_str(), "." | "?") { "input".to_owned() } else { path };
            InputError::at(field, super::mask_card_numbers(&error.inner().to_string()))
        })?;
        reader.end().map_err(|error| InputError::at("input", error))?;
        Ok(input)
    }

    fn into_draft(self) -> Result<Draft, InputError> {
        let at =
            self.at.as_deref().map(str::parse).transpose().map_err(|error| InputError::at("at", error))?;
        let (store, terminal, business_day) = (self.store.clone(), self.terminal.clone(), self.business_day);
        let reverses_stated = self.reverses.is_some();
        let transaction = Transaction {
            receipt: self.receipt.clone().unwrap_or_default(),
            operator: self.operator.clone(),
            idempotency_key: self.idempotency_key.clone(),
            offline: self.offline,
            body: self.into_body()?,
        };
        Ok(Draft { transaction, business_day, at, store, terminal, reverses_stated })
    }

    fn into_body(self) -> Result<Body, InputError> {
        self.refuse_foreign_fields()?;
        match self.kind {
            InputKind::CashMove => Ok(Body::CashMove {
                movement: self
                    .movement
                    .ok_or_else(|| missing("movement", "float, paid_in, paid_out or pickup"))?,
                amount_minor: self.amount_minor.ok_or_else(|| missing("amount_minor", "minor units"))?,
                currency: self.currency.ok_or_else(|| missing("currency", "an ISO 4217 code"))?,
                reason: self.reason,
            }),
            InputKind::DayClose => Ok(Body::DayClose(DayClose {
                totals: self.counted.unwrap_or_default().into_iter().map(counted_only).collect(),
                ..DayClose::default()
            })),
            InputKind::Sale | InputKind::Refund | InputKind::Void => self.into_basket_body(),
        }
    }

    fn into_basket_body(self) -> Result<Body, InputError> {
        let original = match (self.original, self.original_receipt) {
            (Some(_), Some(_)) => {
                return Err(InputError::at(
                    "original_receipt",
                    "give original or original_receipt, not both",
                ));
            }
            (original, receipt) => original
                .map(|given| given.0)
                .or_else(|| receipt.map(|receipt| Reference::to_receipt(&receipt))),
        };
        let currency = self.currency.ok_or_else(|| missing("currency", "an ISO 4217 code"))?;
        let refunding = self.kind != InputKind::Sale;
        let lines = self
            .lines
            .into_iter()
            .enumerate()
            .map(|(at, line)| line.into_line(at))
            .collect::<Result<Vec<_>, _>>()?;
        let tenders = self.tenders.into_iter().map(TenderInput::into_tender).collect();
        let basket = Basket {
            currency,
            lines,
            tenders,
            rounding_minor: self.rounding_minor,
            tip_minor: self.tip_minor,
        };
        check_total("total_minor", self.total_minor, basket.total_minor())?;
        check_total("tax_total_minor", self.tax_total_minor, basket.tax_minor())?;
        if !refunding {
            return Ok(Body::Sale(basket));
        }
        let (reason, approver) = (self.reason, self.approver);
        Ok(if self.kind == InputKind::Refund {
            Body::Refund { basket, original, reason, approver }
        } else {
            Body::Void {
                basket,
                original,
                reverses: self.reverses.unwrap_or(Reverses::Sale),
                reason,
                approver,
            }
        })
    }

    /// A field of another kind is as wrong as an unknown one.
    fn refuse_foreign_fields(&self) -> Result<(), InputError> {
        use InputKind::{CashMove, DayClose, Refund, Sale, Void};
        let foreign: &[(&str, bool, &[InputKind])] = &[
            ("lines", !self.lines.is_empty(), &[Sale, Refund, Void]),
            ("tenders", !self.tenders.is_empty(), &[Sale, Refund, Void]),
            ("original", self.original.is_some(), &[Refund, Void]),
            ("original_receipt", self.original_receipt.is_some(), &[Refund, Void]),
            ("reverses", self.reverses.is_some(), &[Void]),
            ("reason", self.reason.is_some(), &[Refund, Void, CashMove]),
            ("approver", self.approver.is_some(), &[Refund, Void]),
            ("movement", self.movement.is_some(), &[CashMove]),
            ("amount_minor", self.amount_minor.is_some(), &[CashMove]),
            ("counted", self.counted.is_some(), &[DayClose]),
        ];
        match foreign.iter().find(|(_, given, kinds)| *given && !kinds.contains(&self.kind)) {
            Some((field, ..)) => Err(InputError::at(*field, "does not belong to a transaction of this kind")),
            None => Ok(()),
        }
    }
}

impl LineInput {
    fn into_line(self, at: usize) -> Result<Line, InputError> {
        let field = |name: &str| format!("lines[{at}].{name}");
        let quantity: Quantity =
            self.quantity.parse().map_err(|error| InputError::at(field("quantity"), error))?;
        let tax_rate = match self.tax_rate.as_deref() {
            Some(text) => {
                Some(text.parse::<TaxRate>().map_err(|error| InputError::at(field("tax_rate"), error))?)
            }
            None => None,
        };
        let flag = match (self.return_in_sale, self.line_void, self.gift_card_sold) {
            (false, false, false) => LineFlag::Item,
            (true, false, false) => LineFlag::ReturnInSale,
            (false, true, false) => LineFlag::LineVoid,
            (false, false, true) => LineFlag::GiftCardSold,
            _ => return Err(InputError::at(field("line_void"), "a line has one flag at most")),
        };
        let reference = self
            .original
            .map(|given| given.0)
            .or_else(|| self.original_receipt.map(|receipt| Reference::to_receipt(&receipt)));
        let original = (reference.is_some() || self.original_line.is_some())
            .then(|| Box::new(OriginalLine { reference, line: self.original_line }));
        let position = u32::try_from(at + 1).map_err(|_| InputError::at("lines", "too many lines"))?;
        Ok(Line {
            number: self.line.unwrap_or(position),
            sku: self.sku,
            description: self.description.filter(|text| !text.is_empty()),
            quantity,
            unit_price_minor: self.unit_price_minor,
            discount_minor: self.discount_minor,
            amount_minor: self.amount_minor,
            tax_minor: self.tax_minor,
            tax_code: self.tax_code,
            tax_rate,
            flag,
            original,
            adjustment: Adjustment { tax_exclusive: self.tax_exclusive },
        })
    }
}

impl TenderInput {
    fn into_tender(self) -> Tender {
        let card = CardFacts { brand: self.card_brand, last4: self.card_last4, token: self.card_token };
        let cash = self.tendered_minor.map(|tendered| (tendered, self.change_minor.unwrap_or(0)));
        Tender {
            tender: self.tender,
            amount_minor: self.amount_minor,
            currency: self.currency,
            status: self.status,
            payment: self.payment,
            auth: self.auth,
            card: (card != CardFacts::default()).then_some(card),
            cash,
        }
    }
}

fn missing(field: &str, want: &str) -> InputError {
    InputError::at(field, format!("is missing: give {want}"))
}

fn check_total(field: &str, stated: Option<i64>, sum: i64) -> Result<(), InputError> {
    match stated {
        Some(stated) if stated != sum => {
            Err(InputError::at(field, format!("is {stated}, but the lines add up to {sum}")))
        }
        _ => Ok(()),
    }
}

fn counted_only((currency, counted_cash_minor): (Currency, i64)) -> CloseTotals {
    CloseTotals {
        currency,
        sales: CountSum::default(),
        refunds: CountSum::default(),
        voids: CountSum::default(),
        tax: Vec::new(),
        tenders: Vec::new(),
        expected_cash_minor: 0,
        counted_cash_minor,
        grand_total_minor: 0,
    }
}

impl<'de> Deserialize<'de> for InputReference {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            id: Option<RecordId>,
            store: Option<StoreId>,
            terminal: Option<TerminalId>,
            receipt: Option<String>,
            seq: Option<u64>,
        }
        let Fields { id, store, terminal, receipt, seq } = Fields::deserialize(deserializer)?;
        Ok(Self(Reference { id, store, terminal, receipt, seq }))
    }
}

/// A reference in JSON form, where an unknown field is an error.
struct InputReference(Reference);

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Draft::from_json(text).unwrap_err().to_string()
    }

    #[test]
    fn the_example_of_the_contract_is_read() {
        let draft = Draft::from_json(
            r#"{"kind":"sale","receipt":"R-1001","idempotency_key":"cart-77","operator":"op-7","currency":"GBP",
             "lines":[{"line":1,"sku":"85123A","description":"Lantern","quantity":"6","unit_price_minor":255,
             "discount_minor":0,"amount_minor":1530,"tax_minor":255,"tax_code":"S","tax_rate":"20"}],
             "tenders":[{"type":"card","amount_minor":1530,"status":"approved","payment":"pay-9","auth":"V-77",
             "card_last4":"4242"}],"rounding_minor":0,"tip_minor":0}"#,
        )
        .unwrap();
        assert_eq!(draft.transaction.receipt, "R-1001");
        assert_eq!(draft.transaction.basket().unwrap().total_minor(), 1_530);
    }

    #[test]
    fn every_error_names_its_field() {
        let cases = [
            ("{", "input: EOF"),
            (r#"{"kind":"sale","colour":1}"#, "colour: unknown field `colour`"),
            (r#"{"kind":"gift"}"#, "kind: unknown variant `gift`"),
            (r#"{"kind":"sale","currency":"GBX"}"#, "currency: \"GBX\" is not a currency"),
            (
                r#"{"kind":"sale","lines":[{"sku":"a","quantity":"x","amount_minor":1}],"currency":"GBP"}"#,
                "lines[0].quantity: ",
            ),
            (
                r#"{"kind":"sale","lines":[{"sku":"a","quantity":"1","amount_minor":1.5}]}"#,
                "lines[0].amount_minor: ",
            ),
            (
                r#"{"kind":"sale","currency":"GBP","total_minor":5}"#,
                "total_minor: is 5, but the lines add up to 0",
            ),
            (r#"{"kind":"sale","currency":"GBP","reverses":"sale"}"#, "reverses: does not belong"),
            (r#"{"kind":"sale","currency":"GBP"} x"#, "input: trailing"),
        ];
        for (text, start) in cases {
            assert!(error(text).starts_with(start), "{text}: {}", error(text));
        }
    }

    #[test]
    fn short_and_long_references_are_read() {
        let text = r#"{"kind":"refund","currency":"GBP","original_receipt":null,"lines":[{"sku":"a","quantity":"1",
            "amount_minor":1,"original_receipt":"R-1","original_line":3}]}"#;
        let draft = Draft::from_json(text).unwrap();
        assert_eq!(draft.transaction.original(), None);
        let line = &draft.transaction.basket().unwrap().lines[0];
        assert_eq!(line.original.as_ref().unwrap().line, Some(3));
        let void = r#"{"kind":"void","currency":"GBP","original":{"terminal":"till-1","seq":4}}"#;
        assert_eq!(Draft::from_json(void).unwrap().transaction.original().unwrap().seq, Some(4));
        assert!(error(r#"{"kind":"void","currency":"GBP","original":{"tml":1}}"#).contains("tml"));
    }
}
