//! What a person has to judge: cases, and the decisions on them (LEDGER-RULES sections 8 and 9). Nothing here reads
//! records; the merge layer in `ledger` finds cases and asks here what a decision may do.

mod case;
mod decision;

pub use case::{
    Case, CaseChange, CaseEvent, CaseKey, CaseState, CaseType, Hold, Knowledge, Reason, Verdict, subject,
};
pub use decision::{
    Choice, DecisionBook, Disposition, Issued, MemberFacts, Refusal, choices, effect, offered, permit,
};
