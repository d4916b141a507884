//! Decisions: what each action may do to which hold, as one table (LEDGER-RULES section 9), and the decisions taken so
//! far. The latest decision per case and member counts; an action that the table does not offer has no effect.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

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

/// Something that may be decided on a case: an action for one held member, or for the case as a whole.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Choice {
    /// What to do.
    pub action: DecisionAction,
    /// To whom; `None`: the case as a whole.
    pub member: Option<RecordId>,
}

/// What the rules of section 9 ask about a member of a case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemberFacts {
    /// The record.
    pub id: RecordId,
    /// Pseudonym of its operator, if stated.
    pub operator: Option<String>,
    /// Whether its money went out.
    pub money_out: bool,
    /// Its gross, minor units.
    pub amount_minor: i64,
    /// Whether all its money is cash: only a drawer can be over or short.
    pub cash: bool,
    /// Whether its till has closed the day since.
    pub closed: bool,
}

/// Everything that may be decided on a case, member by member in the order of `members`, then on the whole.
#[must_use]
pub fn choices(case: &Case, members: &[MemberFacts]) -> Vec<Choice> {
    let mut choices = Vec::new();
    for member in members {
        let Some(reason) = case.held.get(&member.id) else { continue };
        let fits = |action: &DecisionAction| {
            effect(*action, *reason, member.money_out).is_some()
                && (*action != DecisionAction::OverShort || member.cash)
        };
        let actions = DecisionAction::ALL.iter().copied().filter(fits);
        choices.extend(actions.map(|action| Choice { action, member: Some(member.id) }));
        let competes = case.key.case_type == CaseType::ReversalConflict && !case.verdicts.is_empty();
        choices
            .extend(competes.then_some(Choice { action: DecisionAction::Prefer, member: Some(member.id) }));
    }
    // What is held waits for a word on each member; looking at it is not enough.
    let on_whole = if case.held.is_empty() { offered(case.key.case_type) } else { &[] };
    let whole = on_whole.iter().copied().filter(|action| *action != DecisionAction::Prefer);
    choices.extend(whole.map(|action| Choice { action, member: None }));
    choices
}

/// Why a decision cannot be recorded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The action is not offered for the case or its member.
    #[error("{action} is not offered for case {case}; possible: {possible}")]
    NotOffered {
        /// What was asked.
        action: &'static str,
        /// The case.
        case: String,
        /// What is.
        possible: String,
    },
    /// The member does not belong to the case.
    #[error("record {0} is no member of the case; `tillsync case` lists them")]
    NotAMember(RecordId),
    /// The case has changed since the reviewer looked.
    #[error("the case has other members now than when it was looked at; look again, then decide")]
    Stale,
    /// `prefer` without a winner.
    #[error("prefer needs the member that shall win; name it with --member")]
    NoWinner,
    /// A decision without reason.
    #[error("a decision needs its reason in words")]
    NoReason,
    /// A reviewer judges his own record.
    #[error("reviewer {0} operated a record of this case; another person has to decide")]
    OwnRecord(String),
    /// A second pair of eyes is missing.
    #[error(
        "{amount_minor} minor units are above the four-eyes limit of {limit_minor}; a second approver is needed"
    )]
    FourEyes {
        /// What is in question.
        amount_minor: i64,
        /// The limit.
        limit_minor: i64,
    },
    /// A record of a closed day is to be removed by one person alone.
    #[error(
        "the till has closed its day since; removing the record changes the drawer: a second approver is needed"
    )]
    RemoveAfterClose,
    /// `classify` without an account.
    #[error("classify needs an account: {0}")]
    NoAccount(String),
    /// A parameter that the action does not know.
    #[error("{action} takes {want}, not {given:?}")]
    Parameter {
        /// What was asked.
        action: &'static str,
        /// What it takes.
        want: &'static str,
        /// What was given.
        given: String,
    },
}

/// Checks a decision before the hub records it: offered, separate persons, four eyes.
///
/// # Errors
/// The first rule of section 9 that it breaks.
pub fn permit(
    decision: &Decision,
    case: &Case,
    members: &[MemberFacts],
    four_eyes_limit_minor: i64,
) -> Result<(), Refusal> {
    if decision.case_version.is_some_and(|seen| seen != case.version) {
        return Err(Refusal::Stale);
    }
    if let Some(member) = decision.member
        && !case.members.contains(&member)
    {
        return Err(Refusal::NotAMember(member));
    }
    if decision.reason.trim().is_empty() {
        return Err(Refusal::NoReason);
    }
    if decision.action == DecisionAction::Prefer && decision.member.is_none() {
        return Err(Refusal::NoWinner);
    }
    let possible = choices(case, members);
    let fits = |choice: &&Choice| {
        choice.action == decision.action
            && (decision.member.is_none() || choice.member.is_none() || choice.member == decision.member)
    };
    if !possible.iter().any(|choice| fits(&choice)) {
        let names: std::collections::BTreeSet<&str> =
            possible.iter().map(|choice| choice.action.as_str()).collect();
        let possible = if names.is_empty() {
            "nothing".to_owned()
        } else {
            names.into_iter().collect::<Vec<_>>().join(", ")
        };
        return Err(Refusal::NotOffered {
            action: decision.action.as_str(),
            case: case.id.clone(),
            possible,
        });
    }
    let persons = std::iter::once(&decision.reviewer).chain(&decision.approver);
    for person in persons {
        if members.iter().any(|member| member.operator.as_ref() == Some(person)) {
            return Err(Refusal::OwnRecord(person.clone()));
        }
    }
    check_second(decision, case, members, four_eyes_limit_minor)?;
    check_parameter(decision)
}

fn check_second(
    decision: &Decision,
    case: &Case,
    members: &[MemberFacts],
    limit_minor: i64,
) -> Result<(), Refusal> {
    let second = decision.approver.as_deref().is_some_and(|approver| approver != decision.reviewer);
    if second {
        return Ok(());
    }
    let concerned = members.iter().filter(|member| match decision.member {
        Some(named) => named == member.id,
        None => case.held.contains_key(&member.id),
    });
    let concerned: Vec<&MemberFacts> = concerned.collect();
    let gross =
        concerned.iter().map(|member| member.amount_minor.saturating_abs()).fold(0, i64::saturating_add);
    let amount_minor = if concerned.is_empty() { case.amount_minor.saturating_abs() } else { gross };
    if amount_minor > limit_minor {
        return Err(Refusal::FourEyes { amount_minor, limit_minor });
    }
    if decision.action == DecisionAction::Remove && concerned.iter().any(|member| member.closed) {
        return Err(Refusal::RemoveAfterClose);
    }
    Ok(())
}

fn check_parameter(decision: &Decision) -> Result<(), Refusal> {
    let parameter = decision.parameter.as_deref();
    match decision.action {
        DecisionAction::Classify => {
            let account = parameter.unwrap_or("").parse::<Account>();
            account.map(|_| ()).map_err(|error| Refusal::NoAccount(error.to_string()))
        }
        DecisionAction::Paid | DecisionAction::PaidOut => match parameter {
            None | Some("cash" | "card") => Ok(()),
            Some(given) => Err(Refusal::Parameter {
                action: decision.action.as_str(),
                want: "cash or card",
                given: given.to_owned(),
            }),
        },
        _ => Ok(()),
    }
}

/// A decision as the hub recorded it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DecisionBook {
    by_case: BTreeMap<CaseKey, BTreeMap<(u64, RecordId), Issued>>,
    approved_members: BTreeMap<RecordId, BTreeMap<(u64, RecordId), bool>>,
    last_number: u64,
}

impl DecisionBook {
    /// Adds a decision and returns the case it names, if its type is known here.
    pub fn insert(&mut self, issued: Issued) -> Option<CaseKey> {
        let decision = &issued.decision;
        self.last_number = decision.number.max(self.last_number);
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

    /// Adds a decision on everybody for one of them: it counts in its case, and for the member nowhere else.
    pub(crate) fn insert_in_case(&mut self, issued: Issued) {
        let decision = &issued.decision;
        self.last_number = decision.number.max(self.last_number);
        if let Ok(case_type) = decision.case_type.parse::<CaseType>() {
            let key = CaseKey::new(case_type, decision.subject.as_str());
            self.by_case.entry(key).or_default().insert((decision.number, issued.id), issued);
        }
    }

    /// Takes back what was never recorded: a decision that was only tried.
    pub(crate) fn forget(&mut self, issued: &Issued) {
        let decision = &issued.decision;
        let Ok(case_type) = decision.case_type.parse::<CaseType>() else { return };
        let (key, order) = (CaseKey::new(case_type, decision.subject.as_str()), (decision.number, issued.id));
        if let Some(decisions) = self.by_case.get_mut(&key) {
            decisions.remove(&order);
            if decisions.is_empty() {
                self.by_case.remove(&key);
            }
        }
        if self.last_number == decision.number {
            self.last_number -= 1;
        }
        if let Some(member) = decision.member
            && let Some(orders) = self.approved_members.get_mut(&member)
        {
            orders.remove(&order);
            if orders.is_empty() {
                self.approved_members.remove(&member);
            }
        }
    }

    /// Number of the next decision in the store: above all that were taken.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.last_number + 1
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
