//! Decisions: what each action may do to which hold, as one table (LEDGER-RULES section 9), and the decisions taken so
//! far. The latest decision per case and member counts; an action that the table does not offer has no effect.

use std::collections::BTreeMap;

use super::case::{Case, CaseKey, CaseType, Reason};
use crate::ids::{LogId, RecordId};
use crate::ledger::Account;
use crate::transaction::{Decision, DecisionAction};

/// What a decision does to a held record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// Counts as accepted.
    Approve,
    /// A void becomes a refund.
    Convert,
    /// Judged never to have happened: neither side is posted.
    Remove,
    /// The hold is lifted; later stages judge the record.
    Genuine,
    /// Not a return: the reason side goes to this account, without tax.
    Explain(Account),
}

type Row = (DecisionAction, &'static [Reason]);

/// Which holds an action is for. `write-off` and `recover` are for any held money out and stand below.
const OFFERED: &[Row] = {
    use Reason as R;
    &[
        (
            DecisionAction::Approve,
            &[
                R::RefundOverLimit,
                R::NoReference,
                R::OrphanReference,
                R::AwaitingOriginal,
                R::VoidTenderMismatch,
            ],
        ),
        (DecisionAction::Convert, &[R::VoidAfterClose]),
        (
            DecisionAction::Remove,
            &[
                R::DuplicateCapture,
                R::DuplicatePayment,
                R::DoubleVoid,
                R::ClonedTerminal,
                R::BrokenChain,
                R::RevokedTerminal,
            ],
        ),
        (
            DecisionAction::Genuine,
            &[
                R::DuplicateCapture,
                R::DuplicatePayment,
                R::ClonedTerminal,
                R::BrokenChain,
                R::RevokedTerminal,
                R::CurrencyMismatch,
                R::NegativeAmount,
            ],
        ),
        (DecisionAction::Goodwill, &[R::OverRefund, R::RefundAfterVoid, R::NoReference, R::OrphanReference]),
        (DecisionAction::OverShort, &[R::DoubleVoid, R::OverRefund]),
    ]
};

/// What an action does to a record held for `reason`; `None` if it is not offered there.
#[must_use]
pub fn effect(action: DecisionAction, reason: Reason, money_out: bool) -> Option<Disposition> {
    let any_money_out = matches!(action, DecisionAction::WriteOff | DecisionAction::Recover) && money_out;
    let listed = OFFERED.iter().any(|row| row.0 == action && row.1.contains(&reason));
    if !any_money_out && !listed {
        return None;
    }
    match action {
        DecisionAction::Approve => Some(Disposition::Approve),
        DecisionAction::Convert => Some(Disposition::Convert),
        DecisionAction::Remove => Some(Disposition::Remove),
        DecisionAction::Genuine => Some(Disposition::Genuine),
        DecisionAction::Goodwill => Some(Disposition::Explain(Account::Goodwill)),
        DecisionAction::WriteOff => Some(Disposition::Explain(Account::RefundLosses)),
        DecisionAction::OverShort => Some(Disposition::Explain(Account::CashOverShort)),
        DecisionAction::Recover => Some(Disposition::Explain(Account::Recovery)),
        _ => None,
    }
}

/// Actions on a case as a whole, for cases that hold nothing.
#[must_use]
pub fn offered(case_type: CaseType) -> &'static [DecisionAction] {
    use DecisionAction as A;
    match case_type {
        CaseType::FailedPayment => &[A::Retry, A::Paid, A::BadDebt, A::WriteOff, A::TaxRelief],
        CaseType::PaymentAfterVoid | CaseType::FailedRefundPayment => &[A::Reversed, A::PaidOut],
        CaseType::TenderMismatch => &[A::Classify],
        CaseType::ReversalConflict => &[A::Prefer],
        CaseType::SuspectedDuplicate
        | CaseType::SequenceGap
        | CaseType::ClockSkew
        | CaseType::RefundOtherTender
        | CaseType::LateRecord
        | CaseType::ZMismatch
        | CaseType::CashOverShort
        | CaseType::LineArithmetic
        | CaseType::TaxArithmetic
        | CaseType::NoReference
        | CaseType::RefundWindow => &[A::Acknowledge],
        _ => &[],
    }
}

/// Why a decision cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The action is not offered for the case or its member.
    #[error("{action:?} is not offered for {case}; see the possible decisions of the case")]
    NotOffered {
        /// What was asked.
        action: DecisionAction,
        /// The case.
        case: String,
    },
    /// The member does not belong to the case.
    #[error("record {0} is no member of the case")]
    NotAMember(RecordId),
    /// A reviewer judges his own record.
    #[error("reviewer {0} operated a record of this case; another person has to decide")]
    OwnRecord(String),
    /// A second pair of eyes is missing.
    #[error(
        "{amount_minor} minor units are above the four-eyes limit of {limit_minor}; name a second approver"
    )]
    FourEyes {
        /// What is in question.
        amount_minor: i64,
        /// The limit.
        limit_minor: i64,
    },
    /// `classify` without an account.
    #[error("classify needs an account: {0}")]
    NoAccount(String),
}

/// Checks a decision before the hub records it: offered, separate persons, four eyes.
///
/// # Errors
/// The first rule of section 9 that it breaks.
pub fn permit(
    decision: &Decision,
    case: &Case,
    operators: &[&str],
    money_out: bool,
    four_eyes_limit_minor: i64,
) -> Result<(), Refusal> {
    if let Some(member) = decision.member
        && !case.members.contains(&member)
    {
        return Err(Refusal::NotAMember(member));
    }
    let concerns = |member: &RecordId| decision.member.is_none_or(|named| named == *member);
    let holds = case.held.iter().filter(|(member, _)| concerns(member));
    let on_hold = holds.into_iter().any(|(_, reason)| effect(decision.action, *reason, money_out).is_some());
    let on_case = offered(case.key.case_type).contains(&decision.action);
    if !on_hold && !on_case {
        return Err(Refusal::NotOffered { action: decision.action, case: case.id.clone() });
    }
    if operators.contains(&decision.reviewer.as_str()) {
        return Err(Refusal::OwnRecord(decision.reviewer.clone()));
    }
    let second = decision.approver.as_deref().is_some_and(|approver| approver != decision.reviewer);
    if case.amount_minor.saturating_abs() > four_eyes_limit_minor && !second {
        return Err(Refusal::FourEyes {
            amount_minor: case.amount_minor,
            limit_minor: four_eyes_limit_minor,
        });
    }
    if decision.action == DecisionAction::Classify {
        let account = decision.parameter.as_deref().unwrap_or("").parse::<Account>();
        account.map_err(|error| Refusal::NoAccount(error.to_string()))?;
    }
    Ok(())
}

/// A decision as the hub recorded it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issued {
    /// The hub record.
    pub id: RecordId,
    /// The hub's log.
    pub log: LogId,
    /// Its number there.
    pub seq: u64,
    /// What was decided.
    pub decision: Decision,
}

/// All decisions of a store, by case and by member.
#[derive(Clone, Debug, Default)]
pub struct DecisionBook {
    by_case: BTreeMap<CaseKey, BTreeMap<(u64, RecordId), Issued>>,
    approved_members: BTreeMap<RecordId, BTreeMap<(u64, RecordId), bool>>,
}

impl DecisionBook {
    /// Adds a decision and returns the case it names, if its type is known here.
    pub fn insert(&mut self, issued: Issued) -> Option<CaseKey> {
        let decision = &issued.decision;
        let case_type: CaseType = decision.case_type.parse().ok()?;
        let key = CaseKey::new(case_type, decision.subject.as_str());
        let order = (decision.number, issued.id);
        if let (Some(member), true) = (decision.member, approvable(case_type)) {
            let approves = decision.action == DecisionAction::Approve;
            self.approved_members.entry(member).or_default().insert(order, approves);
        }
        self.by_case.entry(key.clone()).or_default().insert(order, issued);
        Some(key)
    }

    /// Decisions on a case, the latest first.
    pub fn on(&self, key: &CaseKey) -> impl Iterator<Item = &Issued> {
        self.by_case.get(key).into_iter().flat_map(|decisions| decisions.values().rev())
    }

    /// Whether a reviewer has approved this very record, in whatever case it stood: its money needs no approver.
    #[must_use]
    pub fn approved(&self, member: &RecordId) -> bool {
        let orders = self.approved_members.get(member);
        orders.and_then(|orders| orders.values().next_back()).copied().unwrap_or(false)
    }
}

fn approvable(case_type: CaseType) -> bool {
    matches!(
        case_type,
        CaseType::RefundOverLimit
            | CaseType::NoReference
            | CaseType::OrphanReference
            | CaseType::AwaitingOriginal
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_would_return_more_than_was_sold_can_be_approved() {
        for reason in
            [Reason::OverRefund, Reason::DoubleVoid, Reason::RefundAfterVoid, Reason::VoidAfterRefund]
        {
            assert_eq!(effect(DecisionAction::Approve, reason, true), None, "{reason}");
        }
    }

    #[test]
    fn what_a_reviewer_may_do_to_a_hold() {
        use DecisionAction as A;
        let table = [
            (A::Approve, Reason::NoReference, true, Some(Disposition::Approve)),
            (A::Convert, Reason::VoidAfterClose, true, Some(Disposition::Convert)),
            (A::Convert, Reason::OverRefund, true, None),
            (A::Remove, Reason::DoubleVoid, true, Some(Disposition::Remove)),
            (A::Remove, Reason::OverRefund, true, None),
            (A::WriteOff, Reason::OverRefund, true, Some(Disposition::Explain(Account::RefundLosses))),
            (A::WriteOff, Reason::DuplicateCapture, false, None),
            (A::Goodwill, Reason::DoubleVoid, true, None),
        ];
        for (action, reason, money_out, want) in table {
            assert_eq!(effect(action, reason, money_out), want, "{action:?} on {reason}");
        }
    }
}
