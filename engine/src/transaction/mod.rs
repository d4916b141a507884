//! The business fact: what a till or the hub states happened (LEDGER-RULES section 3). Types only; the JSON form
//! is read in `json`, and `validate` says what a till refuses before it is written.
//!
//! The order of fields and variants is the canonical encoding (FORMAT.md): append, never reorder.

mod basket;
mod card_scan;
mod hub;
mod json;
mod validate;

pub use basket::{
    Adjustment, Basket, CardFacts, Line, LineFlag, OriginalLine, Reference, Tender, TenderStatus, TenderType,
};
pub use card_scan::{looks_like_card_number, mask_card_numbers};
pub use hub::{
    Decision, DecisionAction, Enrolment, ForeignOriginal, HubRecord, Lock, LogHead, Outcome, Payment,
    Settled, Settlement,
};
pub use json::{Draft, InputError};
pub use validate::{Invalid, TEXT_LIMIT, check_signs};

use serde::{Deserialize, Serialize};

use crate::money::Currency;

/// A transaction as it is recorded: kind, receipt number and content. Who, when and where are in the record.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Transaction {
    /// Number printed on the receipt; unique in the till unless a case says otherwise.
    pub receipt: String,
    /// Pseudonym of the operator.
    pub operator: Option<String>,
    /// One per basket, made when the basket is opened.
    pub idempotency_key: Option<String>,
    /// Made while the payment provider or the hub could not be reached, if the POS says so.
    pub offline: bool,
    /// What happened.
    pub body: Body,
}

/// What happened, by kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Body {
    /// Goods sold; an exchange has `return_in_sale` lines.
    Sale(Basket),
    /// Goods returned. Direction: money out.
    Refund {
        /// Lines and tenders of the refund, as positive amounts.
        basket: Basket,
        /// The sale, if the cashier named one.
        original: Option<Reference>,
        /// Why, in the operator's words.
        reason: Option<String>,
        /// Who approved, if anybody.
        approver: Option<String>,
    },
    /// A post-void: cancels a whole sale or refund.
    Void {
        /// Lines and tenders repeated from the original.
        basket: Basket,
        /// What is cancelled.
        original: Option<Reference>,
        /// Kind of what is cancelled, for when the original is unknown here.
        reverses: Reverses,
        /// Why, in the operator's words.
        reason: Option<String>,
        /// Who approved, if anybody.
        approver: Option<String>,
    },
    /// Cash into or out of a drawer without a sale.
    CashMove {
        /// Direction and purpose.
        movement: CashMovement,
        /// Positive amount in minor units.
        amount_minor: i64,
        /// Currency of the amount.
        currency: Currency,
        /// Reason code or words.
        reason: Option<String>,
    },
    /// The till's Z report.
    DayClose(DayClose),
    /// A record of the hub's own log.
    Hub(HubRecord),
}

/// What a void cancels.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reverses {
    /// A sale: money out.
    Sale,
    /// A refund: money in.
    Refund,
}

/// Direction and purpose of a cash movement.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CashMovement {
    /// Opening change: safe to drawer.
    Float,
    /// Money put into the drawer.
    PaidIn,
    /// Money taken from the drawer for an expense.
    PaidOut,
    /// Drawer to safe.
    Pickup,
}

/// The till's own totals at the end of its day (Z report).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DayClose {
    /// Z number, from 1 without gaps.
    pub z_number: u64,
    /// First and last `seq` covered.
    pub covers: Option<(u64, u64)>,
    /// Totals per currency.
    pub totals: Vec<CloseTotals>,
}

/// Totals of a day close in one currency, all in minor units.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CloseTotals {
    /// The currency.
    pub currency: Currency,
    /// Number and gross sum of sales, refunds, voids.
    pub sales: CountSum,
    /// Refunds (positive sum).
    pub refunds: CountSum,
    /// Voids (positive sum).
    pub voids: CountSum,
    /// Tax per code, net of returns and voids.
    pub tax: Vec<(String, i64)>,
    /// Net money per tender type.
    pub tenders: Vec<(TenderType, i64)>,
    /// What the drawer should hold.
    pub expected_cash_minor: i64,
    /// What was counted.
    pub counted_cash_minor: i64,
    /// Perpetual grand total: never resets, never decreases.
    pub grand_total_minor: i64,
}

/// A count with a sum in minor units.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct CountSum {
    /// How many.
    pub count: u64,
    /// Sum in minor units.
    pub sum_minor: i64,
}

/// The kinds, for display, filters and holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A sale.
    Sale,
    /// A refund.
    Refund,
    /// A post-void.
    Void,
    /// A cash movement.
    CashMove,
    /// A day close.
    DayClose,
    /// A record of the hub.
    Hub,
}

impl Kind {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sale => "sale",
            Self::Refund => "refund",
            Self::Void => "void",
            Self::CashMove => "cash_move",
            Self::DayClose => "day_close",
            Self::Hub => "hub",
        }
    }
}

impl Transaction {
    /// The kind of the transaction.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match &self.body {
            Body::Sale(_) => Kind::Sale,
            Body::Refund { .. } => Kind::Refund,
            Body::Void { .. } => Kind::Void,
            Body::CashMove { .. } => Kind::CashMove,
            Body::DayClose(_) => Kind::DayClose,
            Body::Hub(_) => Kind::Hub,
        }
    }

    /// Lines and tenders, for the kinds that have them.
    #[must_use]
    pub fn basket(&self) -> Option<&Basket> {
        match &self.body {
            Body::Sale(basket) | Body::Refund { basket, .. } | Body::Void { basket, .. } => Some(basket),
            Body::CashMove { .. } | Body::DayClose(_) | Body::Hub(_) => None,
        }
    }

    /// What the transaction as a whole refers to, if it names something.
    #[must_use]
    pub fn original(&self) -> Option<&Reference> {
        match &self.body {
            Body::Refund { original, .. } | Body::Void { original, .. } => original.as_ref(),
            _ => None,
        }
    }

    /// Whether goods or money flow to the customer as a whole: +1 money in, −1 money out, 0 neither.
    #[must_use]
    pub fn direction(&self) -> i64 {
        match &self.body {
            Body::Sale(_) => 1,
            Body::Refund { .. } => -1,
            Body::Void { reverses: Reverses::Sale, .. } => -1,
            Body::Void { reverses: Reverses::Refund, .. } => 1,
            Body::CashMove { .. } | Body::DayClose(_) | Body::Hub(_) => 0,
        }
    }
}
