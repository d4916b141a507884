//! POSLog XML of ARTS (version 6.0) and its NCR ACS 2.1 dialect, as transactions of CONTRACT section 2. Rooms: `header`
//! (who, when, which), `goods`, `tax`, `tenders`, `sums` (does it add up), `figures`, `unknown` (money that nobody
//! understood). Elements go by their local name; namespaces are not resolved.

mod figures;
mod goods;
mod header;
mod sums;
mod tax;
mod tenders;
#[cfg(test)]
mod tests;
mod unknown;

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use engine::transaction::mask_card_numbers;
use serde_json::{Value, json};

use super::element::Element;
use super::xml::Transactions;
use super::{Broken, Place, PostVoid, Step};
use figures::{Problem, amount_of, within};
pub use header::Assumed;
use header::Header;
use unknown::{money_in, not_understood, refuse_unknown};

/// Elements that hold sales and returns.
const RETAIL: &[&str] = &["RetailTransaction", "SaleTransaction", "ReturnTransaction", "ExchangeTransaction"];
/// Elements of a transaction beside its head and body.
const HEAD: &[&str] = &[
    "RetailStoreID",
    "BusinessUnit",
    "WorkstationID",
    "TillID",
    "SequenceNumber",
    "BusinessDayDate",
    "BeginDateTime",
    "EndDateTime",
    "OperatorID",
    "CurrencyCode",
    "ReceiptDateTime",
    "TransactionLink",
    "ReceiptNumber",
];
/// What control transactions do that moves no money, whatever figures they report.
const REPORTS: &[&str] = &[
    "BusinessSOD",
    "BusinessEOD",
    "TillSOD",
    "TillEOD",
    "WorkstationSOD",
    "WorkstationEOD",
    "SessionStart",
    "SessionEnd",
    "SessionSettle",
    "OperatorSignOn",
    "OperatorSignOff",
    "NoSale",
    "TillOpen",
    "TillClose",
    "Open",
    "Close",
];
/// Reasons for which a link names the sale that goods come back from.
const RETURNS: &[&str] = &["Return", "Returned", "Refund", "Exchange", ""];
/// Reasons for which a link names what is cancelled.
const VOIDS: &[&str] = &["Void", "Voided", "PostVoid", "PostVoided", "Cancel"];

/// Reads a POSLog, transaction by transaction.
pub struct PosLog<R: Read> {
    transactions: Transactions<R>,
    assumed: Assumed,
}

impl<R: Read> PosLog<R> {
    /// A log; transactions before number `from` are passed over.
    pub fn new(source: R, assumed: Assumed, from: u64) -> Self {
        Self { transactions: Transactions::new(source, from), assumed }
    }

    /// Bytes of the log read so far.
    #[must_use]
    pub fn counter(&self) -> Arc<AtomicU64> {
        self.transactions.counter()
    }

    /// The next transaction; none at the end of the log.
    ///
    /// # Errors
    /// The log cannot be read any further; the transactions before stand.
    pub fn step(&mut self) -> Result<Option<(Place, Step)>, Broken> {
        let Some((place, found)) = self.transactions.next()? else { return Ok(None) };
        let step = match found {
            Ok(transaction) => step(&transaction, &self.assumed).unwrap_or_else(|problem| Step::Refused {
                receipt: header::name_of(&transaction),
                problem: mask_card_numbers(&problem),
            }),
            Err(problem) => Step::Refused { receipt: None, problem: mask_card_numbers(&problem) },
        };
        Ok(Some((place, step)))
    }
}

fn skipped(reason: &str) -> Result<Step, Problem> {
    Ok(Step::Skipped(reason.to_owned()))
}

fn step(transaction: &Element, assumed: &Assumed) -> Result<Step, Problem> {
    if transaction.flag("TrainingModeFlag") {
        return skipped("training mode");
    }
    if let Some(wanted) = &assumed.workstation
        && transaction.text_of("WorkstationID") != Some(wanted)
    {
        return skipped("another workstation");
    }
    let bodies: Vec<&Element> =
        transaction.children.iter().filter(|child| child.name.ends_with("Transaction")).collect();
    let [body] = bodies.as_slice() else {
        return Err(format!("holds {} bodies such as RetailTransaction; it must hold one", bodies.len()));
    };
    let others: Vec<&str> = HEAD.iter().copied().chain([&*body.name]).collect();
    refuse_unknown(transaction, &others)?;
    let step = match &*body.name {
        name if RETAIL.contains(&name) => retail(transaction, body, assumed),
        "ControlTransaction" => control(transaction, body, assumed),
        "TenderControlTransaction" => cash_move(transaction, body, assumed),
        name => match money_in(body) {
            Some(path) => Err(not_understood(&path)),
            None => skipped(name),
        },
    };
    within(&body.name, step)
}

fn retail(transaction: &Element, retail: &Element, assumed: &Assumed) -> Result<Step, Problem> {
    let header = Header::read(transaction, assumed)?;
    let status =
        retail.attribute("TransactionStatus").or_else(|| retail.text_of("TransactionStatus")).unwrap_or("");
    let unfinished =
        if transaction.flag("CancelFlag") || ["Cancelled", "Canceled", "Failed"].contains(&status) {
            Some("cancelled")
        } else if status.starts_with("Suspended") || status == "InProcess" {
            Some("suspended")
        } else {
            None
        };
    if let Some(reason) = unfinished {
        return match tenders::moves_money(retail, header.currency) {
            true => Err(format!("says that it was {reason}, yet holds tenders: was it paid or not?")),
            false => skipped(reason),
        };
    }
    let voided = transaction.flag("VoidFlag") || retail.flag("VoidFlag") || status == "PostVoided";
    let links: Vec<&Element> =
        transaction.all("TransactionLink").chain(retail.all("TransactionLink")).collect();
    let reason_of = |link: &Element| {
        link.attribute("ReasonCode").or_else(|| link.text_of("ReasonCode")).unwrap_or("").to_owned()
    };
    let link = links.iter().copied().find(|link| VOIDS.contains(&reason_of(link).as_str()));
    if voided || link.is_some() {
        let link = link.or_else(|| links.first().copied());
        return post_void(&header, link, Some(retail));
    }
    let of = links.into_iter().find(|link| RETURNS.contains(&reason_of(link).as_str()));
    let of = of.and_then(|link| header.original_of(link));
    let returning = &*retail.name == "ReturnTransaction";
    let basket = sums::read(retail, &header, returning, of.as_ref().map(|of| of.0.as_str()))?;
    if basket.empty {
        return skipped("nothing sold");
    }
    let mut fields = header.fields(if basket.all_return { "refund" } else { "sale" });
    if basket.all_return {
        fields.extend(of.map(|of| ("original".to_owned(), json!({"receipt": of.0}))));
    }
    fields.extend(basket.fields);
    Ok(Step::Transaction(fields))
}

/// A void names what it cancels; the lines and tenders are those of the original, which the till holds.
fn post_void(header: &Header, link: Option<&Element>, retail: Option<&Element>) -> Result<Step, Problem> {
    let of = link.and_then(|link| header.original_of(link));
    let (of, _) =
        of.ok_or("is a void, and no TransactionLink says of what (workstation, business day and number)")?;
    let (mut repeated, mut total_minor) = (None, None);
    if let Some(retail) = retail {
        total_minor = sums::Stated::read(retail, header.currency)?.grand.map(i64::abs);
        let basket = sums::read(retail, header, false, None);
        repeated = basket.ok().filter(|basket| !basket.empty).map(|basket| {
            let mut fields = basket.fields;
            fields.insert("reverses".to_owned(), json!("sale"));
            fields
        });
    }
    let fields = header.fields("void");
    Ok(Step::Void(Box::new(PostVoid { fields, of, repeated, total_minor })))
}

fn control(transaction: &Element, body: &Element, assumed: &Assumed) -> Result<Step, Problem> {
    if let Some(void) = body.child("PostVoid") {
        let header = Header::read(transaction, assumed)?;
        let links = [void, body, transaction].into_iter().find_map(|at| at.child("TransactionLink"));
        return post_void(&header, links, None);
    }
    let kind = body.children.iter().find(|child| &*child.name != "ReasonCode").map(|child| &*child.name);
    let reported = kind.is_some_and(|kind| REPORTS.contains(&kind));
    match money_in(body).filter(|_| !reported) {
        Some(path) => Err(not_understood(&path)),
        None => skipped(kind.or_else(|| body.text_of("ReasonCode")).unwrap_or("ControlTransaction")),
    }
}

/// Float, pickup, paid in and paid out.
fn cash_move(transaction: &Element, body: &Element, assumed: &Assumed) -> Result<Step, Problem> {
    let header = Header::read(transaction, assumed)?;
    let named: Vec<&Element> = body.children.iter().filter(|child| money_in(child).is_some()).collect();
    let [moved] = named.as_slice() else {
        return match named.first() {
            None => skipped("TenderControlTransaction"),
            Some(_) => Err(not_understood("more than one movement")),
        };
    };
    let movement = match &*moved.name {
        "PaidIn" => "paid_in",
        "PaidOut" => "paid_out",
        "TenderLoan" | "TillLoan" | "Loan" => "float",
        "TenderPickup" | "TillPickup" | "Pickup" => "pickup",
        other => return Err(not_understood(other)),
    };
    let tender = moved.child("Tender").or_else(|| moved.child("TenderTotal")).unwrap_or(moved);
    if tender.attribute("TenderType").is_some_and(|kind| kind != "Cash") {
        return Err(not_understood(&format!("{} of another tender than cash", moved.name)));
    }
    refuse_unknown(moved, &["Amount", "Tender", "TenderTotal"])?;
    let minor = amount_of(tender, "Amount", header.currency)?.ok_or("Amount is missing")?;
    let mut fields = header.fields("cash_move");
    fields.insert("movement".to_owned(), json!(movement));
    fields.insert("amount_minor".to_owned(), json!(minor.abs()));
    if let Some(reason) = moved.text_of_any(&["Reason", "ReasonCode"]) {
        fields.insert("reason".to_owned(), Value::String(reason.to_owned()));
    }
    Ok(Step::Transaction(fields))
}
