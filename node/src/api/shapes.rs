//! What the answers look like, for OpenAPI. The answers themselves are made in `views` and where the work is done; a test asks
//! both nodes for every one of them and finds each field told here, and each required field there (`tests/openapi.rs`).
//! Amounts are whole minor units in fields that end in `_minor`, times RFC 3339, days YYYY-MM-DD.
#![allow(dead_code, reason = "read by OpenAPI only")]

mod books;
mod fleet;
mod measures;
mod records;
mod review;
mod till;

use utoipa::ToSchema;

pub use books::{
    BalancesShape, DayShape, ExportShape, JournalShape, LockedShape, PaymentShape, SettlementShape,
    TrialBalanceShape,
};
pub use fleet::{
    AlarmShape, AuditShape, AuthorityShape, CompanyPolicyMadeShape, HubShape, InvitedShape, PersonShape,
    PolicyMadeShape, PolicyShape, RevokedShape, StoreShape, TerminalShape,
};
pub use measures::MetricsShape;
pub use records::{ReceiptSaved, RecordShape};
pub use review::{CaseShape, DecidedShape};
pub use till::{PendingShape, TillStatusShape};

/// A sum: an integer, or its digits where 64 bits do not hold it.
#[derive(ToSchema)]
#[serde(untagged)]
pub enum Sum {
    /// Minor units.
    Whole(i64),
    /// Minor units, in digits.
    Digits(String),
}
