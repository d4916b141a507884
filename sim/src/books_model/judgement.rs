//! What has been judged so far: who is held and why, which case says so, what a decision makes of it (LEDGER-RULES
//! sections 5, 8, 9). The stages write here; nothing here walks records.

use std::collections::{BTreeMap, BTreeSet};

use engine::ids::RecordId;
use engine::record::Record;
use engine::transaction::Body;
use engine::transaction::{Decision, DecisionAction, Kind, Reverses, TenderType};

use super::set::{Set, Target};

/// Section 5: if several holds apply, the first of this list is the one used for decisions and reporting.
const PRECEDENCE: [&str; 18] = [
    "CLONED_TERMINAL",
    "BROKEN_CHAIN",
    "REVOKED_TERMINAL",
    "CURRENCY_MISMATCH",
    "NEGATIVE_AMOUNT",
    "DUPLICATE_CAPTURE",
    "DUPLICATE_PAYMENT",
    "INVALID_REFERENCE",
    "AWAITING_ORIGINAL",
    "ORPHAN_REFERENCE",
    "DOUBLE_VOID",
    "VOID_AFTER_REFUND",
    "REFUND_AFTER_VOID",
    "OVER_REFUND",
    "VOID_TENDER_MISMATCH",
    "VOID_AFTER_CLOSE",
    "NO_REFERENCE",
    "REFUND_OVER_LIMIT",
];

/// Type and subject: the key of a case (section 8).
pub(super) type Key = (&'static str, String);

/// A record is held for a reason, in a case.
#[derive(Clone)]
pub(super) struct Hold {
    pub(super) reason: &'static str,
    pub(super) case: Key,
}

/// A case while it is put together.
#[derive(Default)]
pub(super) struct Draft {
    pub(super) members: BTreeSet<RecordId>,
    pub(super) held: BTreeMap<RecordId, &'static str>,
    /// Members whose hold a reviewer lifted (`genuine`).
    pub(super) lifted: BTreeSet<RecordId>,
}

pub(super) struct Judgement<'a> {
    pub(super) set: Set<'a>,
    pub(super) cases: BTreeMap<Key, Draft>,
    holds: BTreeMap<RecordId, Vec<Hold>>,
    /// Voids that follow a held record into suspense, and whom they follow.
    pub(super) follows: BTreeMap<RecordId, RecordId>,
    /// Records with a void that is accepted, or held by policy: record -> void.
    pub(super) voided_by: BTreeMap<RecordId, RecordId>,
}

impl<'a> Judgement<'a> {
    pub(super) fn new(set: Set<'a>) -> Self {
        Self {
            set,
            cases: BTreeMap::new(),
            holds: BTreeMap::new(),
            follows: BTreeMap::new(),
            voided_by: BTreeMap::new(),
        }
    }

    /// Adds records to a case that holds nobody.
    pub(super) fn flag(&mut self, case_type: &'static str, subject: String, members: &[RecordId]) {
        self.cases.entry((case_type, subject)).or_default().members.extend(members);
    }

    /// Holds a record, unless a reviewer judged it `genuine` in this very case (section 9).
    pub(super) fn hold(
        &mut self,
        record: &Record,
        reason: &'static str,
        subject: String,
        others: &[RecordId],
    ) {
        let case = (case_of(reason), subject);
        self.flag(case.0, case.1.clone(), others);
        self.flag(case.0, case.1.clone(), &[record.id]);
        let hold = Hold { reason, case: case.clone() };
        let genuine =
            self.decision_on(record, &hold).is_some_and(|made| made.action == DecisionAction::Genuine);
        let draft = self.cases.entry(case).or_default();
        if genuine {
            draft.lifted.insert(record.id);
            return;
        }
        draft.held.entry(record.id).or_insert(reason);
        self.holds.entry(record.id).or_default().push(hold);
    }

    pub(super) fn is_held(&self, id: &RecordId) -> bool {
        self.holds.contains_key(id)
    }

    pub(super) fn holds_of(&self, id: &RecordId) -> &[Hold] {
        self.holds.get(id).map_or(&[], Vec::as_slice)
    }

    /// The hold used for decisions and reporting.
    pub(super) fn first_hold(&self, id: &RecordId) -> Option<&Hold> {
        let place = |hold: &&Hold| PRECEDENCE.iter().position(|reason| *reason == hold.reason);
        self.holds.get(id)?.iter().min_by_key(place)
    }

    /// What a reviewer decided about a held record.
    pub(super) fn disposition(&self, record: &Record) -> Option<&'a Decision> {
        let hold = self.first_hold(&record.id)?;
        self.decision_on(record, hold).filter(|made| made.action != DecisionAction::Prefer)
    }

    /// Whether a record counts: it is not held, or a reviewer accepted it (section 9: `approve`, `convert`).
    pub(super) fn counts(&self, record: &Record) -> bool {
        let accepted =
            |made: &Decision| matches!(made.action, DecisionAction::Approve | DecisionAction::Convert);
        !self.is_held(&record.id) || self.disposition(record).is_some_and(accepted)
    }

    /// The latest decision on a held member that its reason allows (section 9).
    pub(super) fn decision_on(&self, record: &Record, hold: &Hold) -> Option<&'a Decision> {
        self.decisions_in(&hold.case, &record.id)
            .into_iter()
            .rfind(|made| self.allows(record, hold.reason, made.action))
    }

    /// Decisions in a case about a member (or about all of them), oldest first.
    pub(super) fn decisions_in(&self, case: &Key, member: &RecordId) -> Vec<&'a Decision> {
        let of_case = |made: &&Decision| made.case_type == case.0 && made.subject == case.1;
        let of_member = |made: &&Decision| made.member.is_none_or(|named| named == *member);
        let all = self.set.decisions().into_iter().map(|row| row.1);
        all.filter(of_case).filter(of_member).collect()
    }

    /// Section 9, "allowed for", for what is held.
    fn allows(&self, record: &Record, reason: &str, action: DecisionAction) -> bool {
        use DecisionAction as A;
        let money_out = self.direction(record) < 0;
        let cash = record
            .transaction
            .basket()
            .is_some_and(|basket| basket.tenders.iter().all(|tender| tender.tender == TenderType::Cash));
        match action {
            A::Approve => [
                "REFUND_OVER_LIMIT",
                "NO_REFERENCE",
                "ORPHAN_REFERENCE",
                "AWAITING_ORIGINAL",
                "VOID_TENDER_MISMATCH",
            ]
            .contains(&reason),
            A::Convert => reason == "VOID_AFTER_CLOSE",
            A::Remove => [
                "DUPLICATE_CAPTURE",
                "DUPLICATE_PAYMENT",
                "DOUBLE_VOID",
                "CLONED_TERMINAL",
                "BROKEN_CHAIN",
                "REVOKED_TERMINAL",
            ]
            .contains(&reason),
            A::Genuine => [
                "DUPLICATE_CAPTURE",
                "DUPLICATE_PAYMENT",
                "CLONED_TERMINAL",
                "BROKEN_CHAIN",
                "REVOKED_TERMINAL",
                "CURRENCY_MISMATCH",
                "NEGATIVE_AMOUNT",
            ]
            .contains(&reason),
            A::Goodwill => {
                ["OVER_REFUND", "REFUND_AFTER_VOID", "NO_REFERENCE", "ORPHAN_REFERENCE"].contains(&reason)
            }
            A::WriteOff | A::Recover => money_out,
            A::OverShort => ["DOUBLE_VOID", "OVER_REFUND"].contains(&reason) && cash,
            _ => false,
        }
    }

    /// The sale or refund that a void cancels, if it is one and is in the set.
    pub(super) fn void_target(&self, record: &Record) -> Option<Target<'a>> {
        if record.transaction.kind() != Kind::Void {
            return None;
        }
        self.set.target(&self.set.resolve(record.transaction.original()?)?)
    }

    /// Direction of the money (section 3): +1 in, −1 out; a void's is opposite to its original's, or, if that is
    /// unknown here, as it says itself.
    pub(super) fn direction(&self, record: &Record) -> i64 {
        self.direction_below(record, &mut BTreeSet::new())
    }

    fn direction_below(&self, record: &Record, passed: &mut BTreeSet<RecordId>) -> i64 {
        let Body::Void { reverses, .. } = &record.transaction.body else {
            return record.transaction.direction();
        };
        let stated = if *reverses == Reverses::Sale { -1 } else { 1 };
        if !passed.insert(record.id) {
            return stated;
        }
        match self.void_target(record) {
            Some(Target::Here(original)) if original.transaction.basket().is_some() => {
                -self.direction_below(original, passed)
            }
            Some(Target::Elsewhere(_)) => -1,
            _ => stated,
        }
    }
}

/// Section 8: the four kinds of competing reversal form one case.
fn case_of(reason: &'static str) -> &'static str {
    match reason {
        "DOUBLE_VOID" | "VOID_AFTER_REFUND" | "REFUND_AFTER_VOID" | "OVER_REFUND" => "REVERSAL_CONFLICT",
        other => other,
    }
}
