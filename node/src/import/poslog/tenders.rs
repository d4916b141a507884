//! How a POSLog transaction was paid: tenders net of change, cash back, and what may be kept of a card. Whether it
//! adds up is asked in `sums`.

use engine::money::Currency;
use engine::transaction::looks_like_card_number;
use serde_json::{Value, json};

use super::super::element::Element;
use super::figures::{Problem, amount_in, amount_of, within};
use super::header::Header;
use super::unknown::refuse_unknown;

/// Types of POSLog and the tender that each is here.
const TYPES: &[(&str, &str)] = &[
    ("Cash", "cash"),
    ("CreditDebit", "card"),
    ("Credit", "card"),
    ("Debit", "card"),
    ("GiftCard", "gift_card"),
    ("GiftCertificate", "gift_card"),
    ("StoredValue", "gift_card"),
    ("Voucher", "store_credit"),
    ("StoreCredit", "store_credit"),
    ("Coupon", "coupon"),
    ("ManufacturerCoupon", "coupon"),
    ("Check", "other"),
    ("TravelersCheck", "other"),
    ("EBT", "other"),
    ("FoodStamps", "other"),
    ("WIC", "other"),
    ("PurchaseOrder", "other"),
    ("CustomerAccount", "other"),
    ("HouseAccount", "other"),
    ("Account", "other"),
    ("Other", "other"),
];

/// What is known in a tender, whether it is used or only says the same again.
const KNOWN: &[&str] = &[
    "TenderID",
    "Amount",
    "TenderChange",
    "Cashback",
    "Rounding",
    "Tip",
    "Gratuity",
    "Authorization",
    "CreditDebit",
    "Check",
    "GiftCard",
    "GiftCertificate",
    "StoredValue",
    "Voucher",
    "Coupon",
    "EBT",
    "CustomerAccount",
    "Account",
];

/// One tender; cash is gathered apart.
#[derive(Debug, Clone)]
struct Paid {
    number: u32,
    tender: &'static str,
    /// Negative where money goes back to the customer.
    minor: i64,
    pending: bool,
    auth: Option<String>,
    brand: Option<String>,
    last4: Option<String>,
}

/// Everything that was paid.
#[derive(Debug, Clone, Default)]
pub(super) struct Tenders {
    paid: Vec<Paid>,
    /// Handed over, and given back.
    cash: Option<(i64, i64)>,
    /// Named as part of a card payment; whether change already says it, the sum tells.
    cashback: i64,
    /// Stated roundings and tips.
    pub(super) rounding: i64,
    pub(super) tip: i64,
}

impl Tenders {
    /// Takes a tender line item in.
    pub(super) fn take(
        &mut self,
        number: u32,
        item: &Element,
        tender: &Element,
        header: &Header,
    ) -> Result<(), Problem> {
        refuse_card_numbers(tender)?;
        refuse_unknown(tender, KNOWN)?;
        let currency = header.currency;
        let named = tender.attribute("TenderType").or_else(|| tender.text_of("TenderType")).unwrap_or("");
        let Some((_, kind)) =
            TYPES.iter().find(|(known, _)| *known == named.rsplit(':').next().unwrap_or(""))
        else {
            let known: Vec<&str> = TYPES.iter().map(|row| row.0).collect();
            return Err(format!("TenderType {named:?} is not understood; known are {}", known.join(", ")));
        };
        let kind = voucher_kind(kind, tender);
        let minor = amount_of(tender, "Amount", currency)?.ok_or("Amount is missing")?;
        let pays_back = tender.attribute("TypeCode").is_some_and(|code| matches!(code, "Refund" | "Return"));
        let minor = if pays_back { -minor.abs() } else { minor };
        let mut change = 0_i64;
        for given in tender.all("TenderChange") {
            for amount in given.all("Amount") {
                change += within("TenderChange/Amount", amount_in(amount, currency))?.abs();
            }
            let back = given.attribute("TenderType").unwrap_or("Cash");
            if back != "Cash" {
                return Err(format!("TenderChange is given as {back:?}; only cash is understood"));
            }
        }
        self.rounding += amount_of(tender, "Rounding", currency)?.unwrap_or(0);
        self.tip +=
            amount_of(tender, "Tip", currency)?.or(amount_of(tender, "Gratuity", currency)?).unwrap_or(0);
        self.cashback += amount_of(tender, "Cashback", currency)?.unwrap_or(0).abs();
        if item.flag("VoidFlag") {
            return self.take_back(kind, minor);
        }
        // Some logs write the change as a tender of its own, others inside the tender that it is the change of.
        let is_change = change != 0 && minor == -change;
        if kind == "cash" || is_change {
            let (handed, back) = self.cash.unwrap_or((0, 0));
            let (plus, minus) = if is_change { (0, change) } else { (minor, change) };
            self.cash = Some((handed + plus, back + minus));
            return Ok(());
        }
        if change != 0 {
            let (handed, back) = self.cash.unwrap_or((0, 0));
            self.cash = Some((handed, back + change));
        }
        let card = kind == "card";
        self.paid.push(Paid {
            number,
            tender: kind,
            minor,
            pending: card && is_pending(tender, header),
            auth: if card { authorisation(tender, header) } else { None },
            brand: if card { brand(tender) } else { None },
            last4: if card { last4(tender) } else { None },
        });
        Ok(())
    }

    /// A tender that was voided before the end: a second line that takes it back, or the line itself, marked.
    fn take_back(&mut self, kind: &str, minor: i64) -> Result<(), Problem> {
        if minor >= 0 {
            return Ok(());
        }
        if kind == "cash" {
            let (handed, back) = self.cash.unwrap_or((0, 0));
            self.cash = Some((handed + minor, back));
            return Ok(());
        }
        let at = self.paid.iter().rposition(|paid| paid.tender == kind && paid.minor == -minor);
        let at = at.ok_or("takes back a tender that is not there")?;
        self.paid.remove(at);
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paid.is_empty() && self.cash.is_none_or(|cash| cash == (0, 0))
    }

    pub(super) fn sum(&self) -> i64 {
        self.paid.iter().map(|paid| paid.minor).sum::<i64>()
            + self.cash.map_or(0, |(handed, back)| handed - back)
    }

    /// If the sum exceeds what is owed by just the cash back that the cards name, nothing has said yet that it left the
    /// drawer.
    pub(super) fn settle_cashback(&mut self, owed: i64) {
        if self.cashback != 0 && self.sum() - owed == self.cashback {
            let (handed, back) = self.cash.unwrap_or((0, 0));
            self.cash = Some((handed, back + self.cashback));
        }
    }

    /// Some logs write what is paid back without a sign.
    pub(super) fn turn(&mut self) {
        for paid in &mut self.paid {
            paid.minor = -paid.minor;
        }
        self.cash = self.cash.map(|(handed, back)| (back, handed));
    }

    /// In the form of CONTRACT section 2; of a refund, with positive amounts.
    pub(super) fn to_json(&self, refund: bool, receipt: &str) -> Vec<Value> {
        let sign = if refund { -1 } else { 1 };
        let mut tenders: Vec<Value> = self.paid.iter().map(|paid| paid.to_json(sign, receipt)).collect();
        if let Some((handed, back)) = self.cash.filter(|cash| *cash != (0, 0)) {
            let (handed, back) = if refund { (back, handed) } else { (handed, back) };
            tenders.push(json!({
                "type": "cash", "amount_minor": handed - back, "tendered_minor": handed, "change_minor": back,
            }));
        }
        tenders
    }
}

impl Paid {
    fn to_json(&self, sign: i64, receipt: &str) -> Value {
        let mut tender = json!({"type": self.tender, "amount_minor": self.minor * sign});
        let mut put = |name: &str, value: Value| {
            if !value.is_null() {
                tender[name] = value;
            }
        };
        if self.pending {
            put("status", json!("pending"));
            put("payment", json!(format!("{receipt}/{}", self.number)));
        }
        put("auth", json!(self.auth));
        put("card_brand", json!(self.brand));
        put("card_last4", json!(self.last4));
        tender
    }
}

/// A voucher is one of three things, and its type code says which.
fn voucher_kind(kind: &'static str, tender: &Element) -> &'static str {
    let code = tender.child("Voucher").and_then(|voucher| voucher.attribute("TypeCode")).unwrap_or("");
    match kind {
        "store_credit" if code.contains("Gift") => "gift_card",
        "store_credit" if code.contains("Coupon") => "coupon",
        kind => kind,
    }
}

/// Accepted offline and not authorised since, where the log says so.
fn is_pending(tender: &Element, header: &Header) -> bool {
    let authorization = tender.child("Authorization");
    let status = authorization.and_then(|authorization| {
        let name = "OnlineAuthorizationStatus";
        authorization.attribute(name).or_else(|| authorization.text_of(name))
    });
    if let Some(status) = status {
        return status != "Online";
    }
    match authorization {
        Some(authorization) if authorization.flag("ForceOnline") => true,
        Some(authorization) => match authorization.said("HostAuthorized") {
            Some(by_host) => !by_host,
            None => header.offline && authorization.text_of("AuthorizationCode").is_none(),
        },
        None => header.offline,
    }
}

/// Authorisation code, reference and time as one text. A code alone comes again after a while, so it is told apart by
/// the receipt then.
fn authorisation(tender: &Element, header: &Header) -> Option<String> {
    let authorization = tender.child("Authorization")?;
    let code = authorization.text_of_any(&["AuthorizationCode", "ApprovalCode"])?;
    let more = [authorization.text_of("ReferenceNumber"), authorization.text_of("AuthorizationDateTime")];
    let mut parts = vec![code];
    parts.extend(more.into_iter().flatten());
    if parts.len() == 1 {
        parts.push(&header.receipt);
    }
    Some(parts.join("/"))
}

fn brand(tender: &Element) -> Option<String> {
    let card = tender.child("CreditDebit")?;
    let named = card
        .attribute("CreditDescription")
        .or_else(|| card.text_of_any(&["CreditDescription", "IssuerName"]));
    named.or_else(|| card.attribute("CardType")).map(str::to_owned)
}

/// The last four digits of a number of which the log shows no more than it may.
fn last4(tender: &Element) -> Option<String> {
    let card = tender.child("CreditDebit")?;
    let shown =
        card.text_of_any(&["PrimaryAccountNumber", "AccountNumber", "CardNumber", "TruncatedAccountNumber"])?;
    let digits = shown.rsplit(|letter: char| !letter.is_ascii_digit()).next()?;
    (digits.len() == 4).then(|| digits.to_owned())
}

/// A card number in full must not even be read on (LEDGER-RULES section 12).
fn refuse_card_numbers(tender: &Element) -> Result<(), Problem> {
    let mut found = None;
    let long =
        |text: &str| text.bytes().filter(u8::is_ascii_digit).count() >= 15 && looks_like_card_number(text);
    tender.walk("", &mut |path, element| {
        if long(&element.text) || element.attributes.iter().any(|(_, value)| long(value)) {
            found.get_or_insert_with(|| path.to_owned());
        }
    });
    match found {
        None => Ok(()),
        Some(path) => Err(format!(
            "{path} holds what looks like a card number (value withheld): let the POS write no more than its last four digits"
        )),
    }
}

/// Whether any tender of these line items moves money, for a transaction that says it was cancelled.
pub(super) fn moves_money(retail: &Element, currency: Currency) -> bool {
    let items = retail.all("LineItem").filter(|item| !item.flag("VoidFlag"));
    let tenders = items.filter_map(|item| item.child("Tender"));
    let sums = tenders.map(|tender| amount_of(tender, "Amount", currency).ok().flatten().unwrap_or(1));
    sums.fold(0_i64, i64::saturating_add) != 0
}
