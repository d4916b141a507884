//! Lines, tenders and references of a sale, refund or void.

use serde::{Deserialize, Serialize};

use crate::ids::{RecordId, StoreId, TerminalId};
use crate::money::{Currency, Quantity, TaxRate};

/// What was sold or returned and how it was paid. Amounts are positive; the kind gives the direction.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Basket {
    /// Currency of every amount here unless a tender says otherwise.
    pub currency: Currency,
    /// Line items, in the order of the receipt.
    pub lines: Vec<Line>,
    /// Tenders, net of change.
    pub tenders: Vec<Tender>,
    /// Cash rounding: `Σ tenders − total − tip`.
    pub rounding_minor: i64,
    /// Tip, owed to employees.
    pub tip_minor: i64,
}

impl Basket {
    /// Sum of line amounts, tax included.
    #[must_use]
    pub fn total_minor(&self) -> i64 {
        self.lines.iter().map(Line::gross_minor).fold(0, i64::saturating_add)
    }

    /// Sum of line taxes.
    #[must_use]
    pub fn tax_minor(&self) -> i64 {
        self.lines.iter().map(|line| line.tax_minor).fold(0, i64::saturating_add)
    }

    /// Sum of tenders.
    #[must_use]
    pub fn tendered_minor(&self) -> i64 {
        self.tenders.iter().map(|tender| tender.amount_minor).fold(0, i64::saturating_add)
    }
}

/// One line item.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// Line number, from 1.
    pub number: u32,
    /// Item code.
    pub sku: String,
    /// Text on the receipt.
    pub description: Option<String>,
    /// How many, or what weight.
    pub quantity: Quantity,
    /// Price of one, if the POS states it.
    pub unit_price_minor: Option<i64>,
    /// Discount on the line, positive.
    pub discount_minor: i64,
    /// Amount after discount, as the till printed it: tax inclusive unless `adjustment.tax_exclusive`.
    pub amount_minor: i64,
    /// Tax of the line as the till printed it.
    pub tax_minor: i64,
    /// Tax code of the till.
    pub tax_code: Option<String>,
    /// Tax rate, if stated.
    pub tax_rate: Option<TaxRate>,
    /// What the line is, beyond an ordinary item.
    pub flag: LineFlag,
    /// The line of an earlier sale that this one returns.
    pub original: Option<Box<OriginalLine>>,
    /// Rare attributes.
    pub adjustment: Adjustment,
}

impl Line {
    /// Amount including tax.
    #[must_use]
    pub fn gross_minor(&self) -> i64 {
        if self.adjustment.tax_exclusive {
            self.amount_minor.saturating_add(self.tax_minor)
        } else {
            self.amount_minor
        }
    }
}

/// What a line is, beyond an ordinary item.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LineFlag {
    /// An ordinary item.
    #[default]
    Item,
    /// Goods taken back in an exchange; the amount is negative.
    ReturnInSale,
    /// Reversed before tender; the amount is negative.
    LineVoid,
    /// A multi-purpose gift card sold: a liability, no tax.
    GiftCardSold,
}

/// Rare attributes of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Adjustment {
    /// `amount_minor` excludes tax.
    pub tax_exclusive: bool,
}

/// The line of an earlier sale that a line returns.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct OriginalLine {
    /// The sale; `None`: the one that the transaction names.
    pub reference: Option<Reference>,
    /// Its line number; `None`: the line with the same number and item, or else the first of that item.
    pub line: Option<u32>,
}

/// A reference to an earlier transaction, as printed on its receipt or as known here.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Reference {
    /// Its record id, if known.
    pub id: Option<RecordId>,
    /// The store that made it.
    pub store: Option<StoreId>,
    /// The till that made it.
    pub terminal: Option<TerminalId>,
    /// Its receipt number.
    pub receipt: Option<String>,
    /// Its number in the till's log.
    pub seq: Option<u64>,
}

impl Reference {
    /// A reference by record id.
    #[must_use]
    pub fn to_id(id: RecordId) -> Self {
        Self { id: Some(id), ..Self::default() }
    }

    /// A reference by receipt number alone, looked up in the store.
    #[must_use]
    pub fn to_receipt(receipt: &str) -> Self {
        Self { receipt: Some(receipt.to_owned()), ..Self::default() }
    }
}

/// One means of payment in a basket.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tender {
    /// How it was paid.
    pub tender: TenderType,
    /// Amount, net of change.
    pub amount_minor: i64,
    /// Currency, if it is not the basket's.
    pub currency: Option<Currency>,
    /// What the payment provider said.
    pub status: TenderStatus,
    /// Id of the payment attempt.
    pub payment: Option<String>,
    /// Card authorisation: acquirer, merchant, terminal, retrieval reference, code, as one text.
    pub auth: Option<String>,
    /// What may be kept about the card.
    pub card: Option<CardFacts>,
    /// What the customer handed over, and the change.
    pub cash: Option<(i64, i64)>,
}

/// What may be kept about a card (LEDGER-RULES section 12).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CardFacts {
    /// Scheme.
    pub brand: Option<String>,
    /// Last four digits.
    pub last4: Option<String>,
    /// The payment provider's token.
    pub token: Option<String>,
}

/// How something was paid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenderType {
    /// Notes and coins in the till's drawer.
    Cash,
    /// A payment card.
    Card,
    /// A gift card redeemed.
    GiftCard,
    /// Store credit redeemed.
    StoreCredit,
    /// A manufacturer's coupon that is repaid.
    Coupon,
    /// Anything else that somebody repays.
    Other,
}

impl TenderType {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cash => "cash",
            Self::Card => "card",
            Self::GiftCard => "gift_card",
            Self::StoreCredit => "store_credit",
            Self::Coupon => "coupon",
            Self::Other => "other",
        }
    }
}

/// What the payment provider said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TenderStatus {
    /// Done.
    #[default]
    Approved,
    /// Accepted offline, not authorised.
    Pending,
    /// Refused.
    Declined,
    /// In a void: takes the state of the original's tender.
    Mirror,
}
