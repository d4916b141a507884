//! What a till refuses before it is written: malformed or impossible content. What is merely doubtful (a refund
//! beyond what was sold, tenders that do not add up at a till of another make) is recorded and judged by review.

use super::{
    Basket, Body, DayClose, HubRecord, InputError, Line, LineFlag, Reference, Tender, TenderType,
    Transaction, looks_like_card_number,
};
use crate::money::{AMOUNT_LIMIT_MINOR, QUANTITY_LIMIT};
use crate::policy::Policy;

/// Longest free text, in bytes.
pub const TEXT_LIMIT: usize = 256;
/// Most lines of a transaction.
const LINE_LIMIT: usize = 2_000;
/// Most tenders of a transaction.
const TENDER_LIMIT: usize = 50;

/// Most currencies of a day close, and most rows of each.
const CLOSE_ROWS_LIMIT: usize = 256;

/// A refusal: the field, and what would be right.
pub type Invalid = InputError;

type Check = Result<(), Invalid>;

impl Transaction {
    /// Checks a transaction of any origin against the schema: sizes, ranges, forbidden card data. A record that
    /// fails this is never admitted, at the till or at the hub.
    ///
    /// # Errors
    /// The first field that does not fit.
    pub fn validate_schema(&self) -> Check {
        check_number("receipt", &self.receipt)?;
        if self.receipt.is_empty() {
            return Err(Invalid::at("receipt", "is empty: a receipt has a number"));
        }
        check_optional("operator", self.operator.as_deref())?;
        check_optional("idempotency_key", self.idempotency_key.as_deref())?;
        if self.idempotency_key.as_deref() == Some("") {
            return Err(Invalid::at("idempotency_key", "is empty: give a key of its own, or none"));
        }
        match &self.body {
            Body::Sale(basket) => check_basket(basket),
            Body::Refund { basket, original, reason, approver }
            | Body::Void { basket, original, reason, approver, .. } => {
                check_optional("reason", reason.as_deref())?;
                check_optional("approver", approver.as_deref())?;
                if let Some(original) = original {
                    check_reference("original", original)?;
                }
                check_basket(basket)
            }
            Body::CashMove { amount_minor, reason, .. } => {
                check_optional("reason", reason.as_deref())?;
                check_amount("amount_minor", *amount_minor)
            }
            Body::DayClose(close) => check_close(close),
            // Only the hub's own key writes these, and it makes them from checked input.
            Body::Hub(_) => Ok(()),
        }
    }

    /// Checks what the hub is asked to state in its own log, by a person or a payment provider.
    ///
    /// # Errors
    /// The first field that does not fit.
    pub fn validate_statement(&self) -> Check {
        self.validate_schema()?;
        let Body::Hub(statement) = &self.body else {
            return Err(Invalid::at("kind", "is not a statement of the hub"));
        };
        match statement {
            HubRecord::Payment(payment) => check_named("payment", &payment.payment),
            HubRecord::Settlement(settlement) => {
                check_amount("fees_minor", settlement.fees_minor)?;
                settlement.payments.iter().enumerate().try_for_each(|(at, settled)| {
                    check_named("payment", &settled.payment)
                        .and_then(|()| check_amount("amount_minor", settled.amount_minor))
                        .map_err(|error| nest("payments", at, error))
                })
            }
            HubRecord::Decision(decision) => {
                check_optional("reason", Some(&decision.reason))?;
                check_optional("parameter", decision.parameter.as_deref())?;
                check_optional("reviewer", Some(&decision.reviewer))?;
                check_optional("approver", decision.approver.as_deref())
            }
            HubRecord::Enrol(_)
            | HubRecord::Revoke { .. }
            | HubRecord::Config(_)
            | HubRecord::Lock(_)
            | HubRecord::ForeignOriginal(_) => Ok(()),
        }
    }

    /// Checks what a POS asks this till to record: the schema, and that it could have happened at this till. The
    /// cashier is still there to correct it.
    ///
    /// # Errors
    /// The first field that does not fit, with what would.
    pub fn validate_capture(&self, policy: &Policy) -> Check {
        self.validate_schema()?;
        match &self.body {
            Body::Sale(basket) | Body::Refund { basket, .. } | Body::Void { basket, .. } => {
                if basket.lines.is_empty() {
                    return Err(Invalid::at("lines", "is empty: a transaction has at least one line"));
                }
                check_signs(self).map_or(Ok(()), |(field, problem)| Err(Invalid::at(field, problem)))?;
                check_currency(basket, policy)?;
                check_balance(basket)
            }
            Body::CashMove { amount_minor, .. } if *amount_minor <= 0 => {
                Err(Invalid::at("amount_minor", "must be positive: the movement says the direction"))
            }
            Body::CashMove { .. } | Body::DayClose(_) => Ok(()),
            Body::Hub(_) => Err(Invalid::at("kind", "is a kind that only the hub records")),
        }
    }
}

/// Finds a sign that the rules hold as NEGATIVE_AMOUNT: the field and what is wrong with it.
#[must_use]
pub fn check_signs(transaction: &Transaction) -> Option<(String, &'static str)> {
    let basket = transaction.basket()?;
    let exchange_allowed = matches!(transaction.body, Body::Sale(_) | Body::Void { .. });
    for (at, line) in basket.lines.iter().enumerate() {
        if let Some((name, problem)) = line_sign(line, exchange_allowed) {
            return Some((format!("lines[{at}].{name}"), problem));
        }
    }
    let returns = basket.lines.iter().any(|line| line.flag == LineFlag::ReturnInSale);
    let allowed = |tender: &Tender| exchange_allowed && (returns || is_cash_back(tender, basket));
    let negative = basket.tenders.iter().position(|tender| tender.amount_minor < 0 && !allowed(tender));
    negative.map(|at| (format!("tenders[{at}].amount_minor"), "is negative: the kind gives the direction"))
}

/// Cash handed out against a card: more change than cash came in, stated as such, and no more than the cards paid. The
/// drawer has less by it and the acquirer owes more, in one transaction and under one authorisation.
fn is_cash_back(tender: &Tender, basket: &Basket) -> bool {
    let stated = tender.cash.is_some_and(|(tendered, change)| {
        tendered >= 0 && tendered.checked_sub(change) == Some(tender.amount_minor)
    });
    let cards = basket.tenders.iter().filter(|tender| tender.tender == TenderType::Card);
    let paid = cards.map(|tender| tender.amount_minor).fold(0, i64::saturating_add);
    tender.tender == TenderType::Cash && stated && paid >= tender.amount_minor.saturating_neg()
}

fn line_sign(line: &Line, exchange_allowed: bool) -> Option<(&'static str, &'static str)> {
    if line.quantity.0 < 0 {
        return Some(("quantity", "is negative: use a refund, return_in_sale or line_void"));
    }
    if line.unit_price_minor.is_some_and(|price| price < 0) {
        return Some(("unit_price_minor", "is negative"));
    }
    if line.discount_minor < 0 {
        return Some(("discount_minor", "is negative: a discount is a positive amount taken off"));
    }
    let reversed = matches!(line.flag, LineFlag::ReturnInSale | LineFlag::LineVoid);
    if reversed && !exchange_allowed {
        return Some(("return_in_sale", "belongs to a sale: every line of a refund is a return"));
    }
    let (amount, tax) =
        if reversed { (-line.amount_minor, -line.tax_minor) } else { (line.amount_minor, line.tax_minor) };
    if amount < 0 {
        let problem = if reversed {
            "must be negative on this line"
        } else {
            "is negative: use return_in_sale or line_void"
        };
        return Some(("amount_minor", problem));
    }
    if tax < 0 {
        return Some(("tax_minor", "has the sign opposite to the amount"));
    }
    if tax > amount && !line.adjustment.tax_exclusive {
        return Some(("tax_minor", "is larger than the amount"));
    }
    None
}

fn check_close(close: &DayClose) -> Check {
    if close.totals.len() > CLOSE_ROWS_LIMIT {
        return Err(Invalid::at("totals", format!("has more than {CLOSE_ROWS_LIMIT} currencies")));
    }
    for totals in &close.totals {
        if totals.tax.len() > CLOSE_ROWS_LIMIT || totals.tenders.len() > CLOSE_ROWS_LIMIT {
            return Err(Invalid::at("totals", format!("has more than {CLOSE_ROWS_LIMIT} rows")));
        }
        for (code, minor) in &totals.tax {
            check_text("tax_code", code)?;
            check_sum("tax_minor", *minor)?;
        }
        for (_, minor) in &totals.tenders {
            check_sum("amount_minor", *minor)?;
        }
        for sum in [totals.sales.sum_minor, totals.refunds.sum_minor, totals.voids.sum_minor] {
            check_sum("sum_minor", sum)?;
        }
        check_sum("expected_cash_minor", totals.expected_cash_minor)?;
        check_sum("counted_cash_minor", totals.counted_cash_minor)?;
        check_sum("grand_total_minor", totals.grand_total_minor)?;
    }
    Ok(())
}

/// A sum over a day or a life: larger than one amount may be, and still far from the edge of 64 bits.
fn check_sum(field: &str, sum: i64) -> Check {
    if sum.unsigned_abs() > 1 << 60 {
        return Err(Invalid::at(field, "is out of range"));
    }
    Ok(())
}

fn check_basket(basket: &Basket) -> Check {
    if basket.lines.len() > LINE_LIMIT {
        return Err(Invalid::at(
            "lines",
            format!("has {} lines; the limit is {LINE_LIMIT}", basket.lines.len()),
        ));
    }
    if basket.tenders.len() > TENDER_LIMIT {
        return Err(Invalid::at(
            "tenders",
            format!("has {} tenders; the limit is {TENDER_LIMIT}", basket.tenders.len()),
        ));
    }
    check_amount("rounding_minor", basket.rounding_minor)?;
    check_amount("tip_minor", basket.tip_minor)?;
    let mut numbers = std::collections::BTreeSet::new();
    for (at, line) in basket.lines.iter().enumerate() {
        check_line(line).map_err(|error| nest("lines", at, error))?;
        if !numbers.insert(line.number) {
            return Err(Invalid::at(format!("lines[{at}].line"), format!("repeats number {}", line.number)));
        }
    }
    for (at, tender) in basket.tenders.iter().enumerate() {
        check_tender(tender).map_err(|error| nest("tenders", at, error))?;
    }
    Ok(())
}

fn check_line(line: &Line) -> Check {
    if line.sku.len() > TEXT_LIMIT || line.sku.is_empty() {
        return Err(Invalid::at("sku", format!("must have 1 to {TEXT_LIMIT} characters")));
    }
    check_optional("description", line.description.as_deref())?;
    check_optional("tax_code", line.tax_code.as_deref())?;
    if line.quantity.0.abs() > QUANTITY_LIMIT {
        return Err(Invalid::at("quantity", "is out of range"));
    }
    check_amount("unit_price_minor", line.unit_price_minor.unwrap_or(0))?;
    check_amount("discount_minor", line.discount_minor)?;
    check_amount("amount_minor", line.amount_minor)?;
    check_amount("tax_minor", line.tax_minor)?;
    match line.original.as_ref().and_then(|original| original.reference.as_ref()) {
        Some(reference) => check_reference("original", reference),
        None => Ok(()),
    }
}

fn check_tender(tender: &Tender) -> Check {
    check_amount("amount_minor", tender.amount_minor)?;
    check_code("payment", tender.payment.as_deref())?;
    check_code("auth", tender.auth.as_deref())?;
    if let Some((tendered, change)) = tender.cash {
        check_amount("tendered_minor", tendered)?;
        check_amount("change_minor", change)?;
    }
    let Some(card) = &tender.card else { return Ok(()) };
    check_optional("card_brand", card.brand.as_deref())?;
    check_code("card_token", card.token.as_deref())?;
    match &card.last4 {
        Some(last4) if last4.len() != 4 || !last4.bytes().all(|b| b.is_ascii_digit()) => {
            Err(Invalid::at("card_last4", "must be exactly the last four digits"))
        }
        _ => Ok(()),
    }
}

fn check_reference(field: &str, reference: &Reference) -> Check {
    let names = reference.id.is_some() || reference.receipt.is_some() || reference.seq.is_some();
    if !names {
        return Err(Invalid::at(field, "names nothing: give id, receipt, or terminal and seq"));
    }
    if reference.seq.is_some() && reference.terminal.is_none() && reference.id.is_none() {
        return Err(Invalid::at(field, "has a seq without the terminal it counts for"));
    }
    reference.receipt.as_deref().map_or(Ok(()), |receipt| check_number("original_receipt", receipt))
}

/// The id of a payment: there, and nobody's card number.
fn check_named(field: &str, id: &str) -> Check {
    if id.is_empty() {
        return Err(Invalid::at(field, "is empty: give the id of the payment"));
    }
    check_code(field, Some(id))
}

fn check_currency(basket: &Basket, policy: &Policy) -> Check {
    let accepted = |currency| policy.currencies.is_empty() || policy.currencies.contains(&currency);
    if !accepted(basket.currency) {
        let known = policy.settings().remove("accepted_currencies").unwrap_or_default();
        return Err(Invalid::at(
            "currency",
            format!("{} is not accepted by this store ({known})", basket.currency),
        ));
    }
    let other =
        basket.tenders.iter().position(|tender| tender.currency.is_some_and(|own| own != basket.currency));
    other.map_or(Ok(()), |at| {
        Err(Invalid::at(
            format!("tenders[{at}].currency"),
            "differs from the transaction's; no rule converts currencies",
        ))
    })
}

/// Whether the rounding is more than the cash unit allows is for review to judge: the cash has changed hands.
fn check_balance(basket: &Basket) -> Check {
    let owed = basket.total_minor().saturating_add(basket.rounding_minor).saturating_add(basket.tip_minor);
    let paid = basket.tendered_minor();
    if paid != owed {
        let problem = format!(
            "add up to {paid}, but total {} + rounding {} + tip {} is {owed}",
            basket.total_minor(),
            basket.rounding_minor,
            basket.tip_minor
        );
        return Err(Invalid::at("tenders", problem));
    }
    Ok(())
}

fn check_amount(field: &str, amount: i64) -> Check {
    if amount.unsigned_abs() > AMOUNT_LIMIT_MINOR.unsigned_abs() {
        return Err(Invalid::at(
            field,
            format!("is out of range: the limit is {AMOUNT_LIMIT_MINOR} minor units"),
        ));
    }
    Ok(())
}

fn check_optional(field: &str, text: Option<&str>) -> Check {
    text.map_or(Ok(()), |text| check_text(field, text))
}

/// Free text: bounded, printable, no card number.
fn check_text(field: &str, text: &str) -> Check {
    check_printable(field, text)?;
    if looks_like_card_number(text) {
        return Err(card_number(field));
    }
    Ok(())
}

/// A receipt number. Many are as long as a GTIN (13 or 14 digits) and pass the Luhn test by chance, so only the
/// lengths that card schemes use today count.
fn check_number(field: &str, text: &str) -> Check {
    check_printable(field, text)?;
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    if digits >= 15 && looks_like_card_number(text) {
        return Err(card_number(field));
    }
    Ok(())
}

/// An id of a payment provider: often a long number, judged like a receipt number.
fn check_code(field: &str, text: Option<&str>) -> Check {
    text.map_or(Ok(()), |text| check_number(field, text))
}

fn card_number(field: &str) -> Invalid {
    Invalid::at(field, "holds what looks like a card number, which must never be stored (value withheld)")
}

fn check_printable(field: &str, text: &str) -> Check {
    if text.len() > TEXT_LIMIT {
        return Err(Invalid::at(field, format!("has {} bytes; the limit is {TEXT_LIMIT}", text.len())));
    }
    if text.chars().any(char::is_control) {
        return Err(Invalid::at(field, "holds a control character"));
    }
    Ok(())
}

fn nest(list: &str, at: usize, error: Invalid) -> Invalid {
    Invalid { field: format!("{list}[{at}].{}", error.field), problem: error.problem }
}

#[cfg(test)]
mod tests {
    use super::super::Draft;
    use super::*;

    const CASH: &str = r#"{"type":"cash","amount_minor":100}"#;

    fn refusal(change: &str, with: &str) -> String {
        let good = r#"{"kind":"sale","receipt":"R-1","currency":"GBP","lines":[{"sku":"a","description":"d","quantity":"1",
            "amount_minor":100,"tax_minor":20}],"tenders":[{"type":"cash","amount_minor":100}],"rounding_minor":0}"#;
        assert!(good.contains(change), "{change}");
        let draft = Draft::from_json(&good.replace(change, with)).unwrap();
        draft
            .transaction
            .validate_capture(&Policy::default())
            .map_or_else(|error| error.to_string(), |()| "accepted".into())
    }

    #[test]
    fn what_could_not_have_happened_is_refused_with_its_field() {
        let cases = [
            (r#""amount_minor":100,"#, r#""amount_minor":-100,"#, "lines[0].amount_minor: is negative"),
            (r#""tax_minor":20"#, r#""tax_minor":101"#, "lines[0].tax_minor: is larger"),
            (r#""quantity":"1""#, r#""quantity":"-1""#, "lines[0].quantity: is negative"),
            (r#""amount_minor":100}"#, r#""amount_minor":99}"#, "tenders: add up to 99"),
            (
                r#""description":"d""#,
                r#""description":"4242 4242 4242 4242""#,
                "lines[0].description: holds what looks like",
            ),
            (
                r#""rounding_minor":0"#,
                r#""rounding_minor":0,"tip_minor":99000000000000"#,
                "tip_minor: is out of range",
            ),
            (r#""receipt":"R-1""#, r#""receipt":"""#, "receipt: is empty"),
            (r#""sku":"a""#, r#""sku":"a","line":2"#, "accepted"),
            (
                CASH,
                r#"{"type":"card","amount_minor":120},{"type":"cash","amount_minor":-20}"#,
                "tenders[1].amount_minor",
            ),
            (
                CASH,
                r#"{"type":"card","amount_minor":120},{"type":"cash","amount_minor":-20,"tendered_minor":0,"change_minor":20}"#,
                "accepted",
            ),
            (
                CASH,
                r#"{"type":"other","amount_minor":120},{"type":"cash","amount_minor":-20,"tendered_minor":0,"change_minor":20}"#,
                "tenders[1].amount_minor",
            ),
        ];
        for (change, with, start) in cases {
            let got = refusal(change, with);
            assert!(got.starts_with(start), "{with}: {got}");
            assert!(!got.contains("4242 4242"), "{got}");
        }
    }
}
