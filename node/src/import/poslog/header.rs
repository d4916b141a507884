//! Who, when and where of a POSLog transaction, and its stable name: store, workstation, business day and sequence
//! number, from which the receipt number is made. The same transaction has the same name in every copy of the log.

use engine::money::Currency;
use engine::time::{Day, Instant};
use engine::transaction::mask_card_numbers;
use jiff::tz::TimeZone;
use serde_json::{Map, Value, json};

use super::super::element::Element;
use super::figures::Problem;

/// What the user says where the log says nothing.
#[derive(Debug, Clone)]
pub struct Assumed {
    /// Time zone of times without an offset.
    pub zone: TimeZone,
    /// Currency of transactions that name none.
    pub currency: Option<Currency>,
    /// Only the transactions of this workstation.
    pub workstation: Option<String>,
}

/// The head of a transaction.
#[derive(Debug, Clone)]
pub(super) struct Header {
    store: String,
    pub(super) workstation: String,
    day: Option<String>,
    pub(super) receipt: String,
    operator: Option<String>,
    at: Instant,
    pub(super) currency: Currency,
    pub(super) offline: bool,
}

impl Header {
    pub(super) fn read(transaction: &Element, assumed: &Assumed) -> Result<Self, Problem> {
        let need = |found: Option<&str>, name: &str| {
            found.map(str::to_owned).ok_or_else(|| {
                format!("{name} is missing: store, workstation and number are the transaction's name")
            })
        };
        let store = need(store_of(transaction), "RetailStoreID")?;
        let workstation = need(transaction.text_of("WorkstationID"), "WorkstationID")?;
        let number = need(transaction.text_of("SequenceNumber"), "SequenceNumber")?;
        let when = transaction.text_of_any(&["EndDateTime", "BeginDateTime", "ReceiptDateTime"]);
        let at =
            instant(when.ok_or("EndDateTime is missing: an import takes the time from the log")?, assumed)?;
        let day = transaction.text_of("BusinessDayDate").map(str::to_owned);
        if let Some(day) = &day {
            day.parse::<Day>().map_err(|error| format!("BusinessDayDate: {error}"))?;
        }
        let currency = match transaction.text_of("CurrencyCode") {
            Some(code) => code.parse().map_err(|error| format!("CurrencyCode: {error}"))?,
            None => {
                assumed.currency.ok_or("CurrencyCode is missing: give --currency, such as --currency USD")?
            }
        };
        let receipt =
            name(&store, &workstation, &day.clone().unwrap_or_else(|| at.day().to_string()), &number);
        let operator = transaction.text_of("OperatorID").map(str::to_owned);
        let offline = transaction.flag("OfflineFlag") || transaction.flag("KeyedOfflineFlag");
        Ok(Self { store, workstation, day, receipt, operator, at, currency, offline })
    }

    /// What every transaction states.
    pub(super) fn fields(&self, kind: &str) -> Map<String, Value> {
        let mut fields = Map::new();
        let mut put = |name: &str, value: Value| fields.insert(name.to_owned(), value);
        put("kind", json!(kind));
        put("receipt", json!(self.receipt));
        put("idempotency_key", json!(format!("poslog:{}", self.receipt)));
        put("at", json!(self.at.to_string()));
        put("currency", json!(self.currency));
        if let Some(day) = &self.day {
            put("business_day", json!(day));
        }
        if let Some(operator) = &self.operator {
            put("operator", json!(operator));
        }
        if self.offline && kind != "cash_move" {
            put("offline", json!(true));
        }
        fields
    }

    /// Receipt number and line that a link names, if it names both till and number. What is not said is as here.
    pub(super) fn original_of(&self, link: &Element) -> Option<(String, Option<u32>)> {
        let number = link.text_of("SequenceNumber")?;
        let store = store_of(link).unwrap_or(&self.store);
        let workstation = link.text_of("WorkstationID").unwrap_or(&self.workstation);
        let day = link.text_of("BusinessDayDate")?;
        let line = link.text_of("LineItemSequenceNumber").and_then(|line| line.parse().ok());
        Some((name(store, workstation, day, number), line))
    }
}

/// Best known name of a transaction, for an answer to one that cannot be read.
pub(super) fn name_of(transaction: &Element) -> Option<String> {
    let day =
        transaction.text_of("BusinessDayDate").or_else(|| transaction.text_of("EndDateTime")?.get(..10))?;
    let (workstation, number) =
        (transaction.text_of("WorkstationID")?, transaction.text_of("SequenceNumber")?);
    Some(mask_card_numbers(&name(store_of(transaction)?, workstation, day, number)))
}

fn store_of(element: &Element) -> Option<&str> {
    element.text_of("RetailStoreID").or_else(|| element.child("BusinessUnit")?.text_of("UnitID"))
}

/// Dots between the parts, none in them: two different transactions never share a name, and no part runs into the next
/// to look like a card number.
fn name(store: &str, workstation: &str, day: &str, number: &str) -> String {
    let day: String = day.chars().filter(|letter| *letter != '-').collect();
    [store, workstation, &day, number].map(part).join(".")
}

fn part(text: &str) -> String {
    let mut part = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
            part.push(char::from(byte));
        } else {
            part.push_str(&format!("%{byte:02X}"));
        }
    }
    part
}

fn instant(text: &str, assumed: &Assumed) -> Result<Instant, Problem> {
    let text = text.trim();
    if let Ok(instant) = text.parse::<Instant>() {
        return Ok(instant);
    }
    let bad = || {
        format!(
            "EndDateTime: {:?} is no time; write 2026-11-23T10:00:00",
            text.chars().take(40).collect::<String>()
        )
    };
    // An offset that was not understood above must not be dropped here.
    let plain = text.len() >= 19 && !text[10..].contains(['+', '-', 'Z', 'z', '[']);
    let local: jiff::civil::DateTime =
        if plain { text.parse().map_err(|_| bad())? } else { return Err(bad()) };
    let zoned = local.to_zoned(assumed.zone.clone()).map_err(|_| bad())?;
    let instant = Instant::in_zone(zoned.timestamp().as_millisecond(), &assumed.zone);
    if instant.is_lawful() { Ok(instant) } else { Err(bad()) }
}
