//! Records of the hub's own log in a store: outcomes, decisions, locks, policies, enrolments. They replicate to
//! the tills like everything else.

use serde::{Deserialize, Serialize};

use super::basket::{Line, Tender};
use crate::ids::{LogId, RecordId, StoreId, TerminalId, WriterId};
use crate::money::Currency;
use crate::policy::PolicyChange;
use crate::time::Day;

/// What the hub states in its log of a store.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum HubRecord {
    /// A till was given a key: from now on this writer speaks for it.
    Enrol(Enrolment),
    /// A till lost the right to write.
    Revoke {
        /// The till.
        terminal: TerminalId,
        /// Incarnation, or all of them.
        incarnation: Option<u32>,
        /// Last number that still counts.
        last_valid_seq: u64,
    },
    /// A new version of the store's policy.
    Config(PolicyChange),
    /// Outcome of a pending payment.
    Payment(Payment),
    /// An acquirer's batch.
    Settlement(Settlement),
    /// A reviewer's decision.
    Decision(Decision),
    /// A period is closed.
    Lock(Lock),
    /// A sale of another store of the company that a record of this store refers to; the hub vouches for it.
    ForeignOriginal(ForeignOriginal),
}

/// A till was given a key.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Enrolment {
    /// The till and the generation of its log.
    pub log: LogId,
    /// The key that signs for it.
    pub writer: WriterId,
}

/// What the payment provider finally said about a payment accepted offline.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Paid.
    Approved,
    /// Refused.
    Declined,
    /// Too old to be forwarded.
    Expired,
}

/// Outcome of a pending payment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Payment {
    /// Id of the payment attempt, as in the tender.
    pub payment: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// One payment that an acquirer settled.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settled {
    /// Authorisation or payment id.
    pub payment: String,
    /// Gross amount, minor units, negative for refunds.
    pub amount_minor: i64,
}

/// An acquirer's batch: payments settled and fees kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Settlement {
    /// Currency of the batch.
    pub currency: Currency,
    /// Payments in it.
    pub payments: Vec<Settled>,
    /// Fees kept by the acquirer, minor units.
    pub fees_minor: i64,
}

/// What a reviewer may do (LEDGER-RULES section 9).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionAction {
    /// Counts as accepted.
    Approve,
    /// A late void becomes a refund.
    Convert,
    /// Another member wins.
    Prefer,
    /// Judged never to have happened.
    Remove,
    /// The hold is lifted.
    Genuine,
    /// Kept on purpose, as an expense.
    Goodwill,
    /// A loss.
    WriteOff,
    /// The drawer is known to be wrong.
    OverShort,
    /// To be recovered from somebody.
    Recover,
    /// A difference is explained by an account.
    Classify,
    /// A payment is tried again.
    Retry,
    /// A failed payment was paid after all.
    Paid,
    /// A failed payment is given up.
    BadDebt,
    /// Tax relief on a bad debt.
    TaxRelief,
    /// The acquirer reversed it.
    Reversed,
    /// The customer was paid out.
    PaidOut,
    /// Seen.
    Acknowledge,
}

impl DecisionAction {
    /// All of them, in the order of section 9.
    pub const ALL: &'static [Self] = &[
        Self::Approve,
        Self::Convert,
        Self::Prefer,
        Self::Remove,
        Self::Genuine,
        Self::Goodwill,
        Self::WriteOff,
        Self::OverShort,
        Self::Recover,
        Self::Classify,
        Self::Retry,
        Self::Paid,
        Self::BadDebt,
        Self::TaxRelief,
        Self::Reversed,
        Self::PaidOut,
        Self::Acknowledge,
    ];

    /// The word used in the rules and in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Convert => "convert",
            Self::Prefer => "prefer",
            Self::Remove => "remove",
            Self::Genuine => "genuine",
            Self::Goodwill => "goodwill",
            Self::WriteOff => "write-off",
            Self::OverShort => "over-short",
            Self::Recover => "recover",
            Self::Classify => "classify",
            Self::Retry => "retry",
            Self::Paid => "paid",
            Self::BadDebt => "bad-debt",
            Self::TaxRelief => "tax-relief",
            Self::Reversed => "reversed",
            Self::PaidOut => "paid-out",
            Self::Acknowledge => "acknowledge",
        }
    }
}

impl std::str::FromStr for DecisionAction {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.iter().copied().find(|action| action.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = Self::ALL.iter().map(|action| action.as_str()).collect();
            format!("{text:?} is not an action; the actions are {}", known.join(", "))
        })
    }
}

/// A reviewer's decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Decision {
    /// Number of the decision in the store, from 1.
    pub number: u64,
    /// Type of the case.
    pub case_type: String,
    /// Subject of the case.
    pub subject: String,
    /// Version of the case that the reviewer saw.
    pub case_version: Option<RecordId>,
    /// One member, or all held members.
    pub member: Option<RecordId>,
    /// What to do.
    pub action: DecisionAction,
    /// Account (`classify`), payee (`recover`), tender (`paid`).
    pub parameter: Option<String>,
    /// Terminal whose drawer is meant (`paid`).
    pub terminal: Option<TerminalId>,
    /// Who decided.
    pub reviewer: String,
    /// The second pair of eyes.
    pub approver: Option<String>,
    /// Why.
    pub reason: String,
}

/// Head of a log that a lock covers, with all its ancestors.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LogHead {
    /// The log.
    pub log: LogId,
    /// Its last covered number.
    pub seq: u64,
    /// The record there.
    pub id: RecordId,
}

/// A period is closed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lock {
    /// Number of the lock in the store, from 1.
    pub number: u64,
    /// Head of every log.
    pub heads: Vec<LogHead>,
    /// Next open day.
    pub open_day: Day,
}

/// A sale of another store, with what is needed to judge a return of it here. It posts nothing here.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ForeignOriginal {
    /// Identity of the sale in its own store.
    pub id: RecordId,
    /// Its store.
    pub store: StoreId,
    /// Its log.
    pub log: LogId,
    /// Its number.
    pub seq: u64,
    /// Its receipt number.
    pub receipt: String,
    /// Its business day.
    pub business_day: Day,
    /// Its effective time, milliseconds since 1970.
    pub effective_ms: i64,
    /// Its currency.
    pub currency: Currency,
    /// Its lines.
    pub lines: Vec<Line>,
    /// Its tenders.
    pub tenders: Vec<Tender>,
}
