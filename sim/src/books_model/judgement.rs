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
    "REFUND_AFTER_VOID",
    "VOID_AFTER_REFUND",
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
    /// Refunds, voids and exchanges that stage E has not come to yet.
    pub(super) waiting: BTreeSet<RecordId>,
    /// Refunds and exchanges that count or reserve: sale -> reversals.
    pub(super) reversals: BTreeMap<RecordId, Vec<RecordId>>,
}

impl<'a> Judgement<'a> {
    pub(super) fn new(set: Set<'a>) -> Self {
        Self {
            set,
            cases: BTreeMap::new(),
            holds: BTreeMap::new(),
            follows: BTreeMap::new(),
            voided_by: BTreeMap::new(),
            waiting: BTreeSet::new(),
            reversals: BTreeMap::new(),
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
        let holds = self.holds.entry(record.id).or_default();
        if !holds.iter().any(|known| known.case == hold.case) {
            holds.push(hold);
        }
    }

    pub(super) fn is_held(&self, id: &RecordId) -> bool {
        self.holds.contains_key(id)
    }

    pub(super) fn holds_of(&self, id: &RecordId) -> &[Hold] {
        self.holds.get(id).map_or(&[], Vec::as_slice)
    }

    /// What a reviewer decided about a held record. Section 5: the first hold is the one used for decisions. (Silent: of
    /// several cases for that one reason, the first that has a decision.)
    pub(super) fn disposition(&self, record: &Record) -> Option<&'a Decision> {
        let mut holds = self.holds_of(&record.id).to_vec();
        holds.sort_by_key(|hold| {
            (PRECEDENCE.iter().position(|reason| *reason == hold.reason), hold.case.clone())
        });
        let first = holds.first()?.reason;
        holds.iter().filter(|hold| hold.reason == first).find_map(|hold| self.decision_on(record, hold))
    }

    /// Whether a record counts: it is not held, or a reviewer accepted it (section 9: `approve`, `convert`).
    pub(super) fn counts(&self, record: &Record) -> bool {
        let accepted =
            |made: &Decision| matches!(made.action, DecisionAction::Approve | DecisionAction::Convert);
        let free = !self.is_held(&record.id) && !self.waiting.contains(&record.id);
        let follows = self.follows.contains_key(&record.id);
        (free && !follows) || self.disposition(record).is_some_and(accepted)
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
        let all = self.set.decisions().into_iter().filter(|row| of_case(&row.1));
        all.filter(|(by, made)| self.is_about(by, made, member)).map(|row| row.1).collect()
    }

    /// Whether a decision names a member: itself, or as one of "all". All are those that the hub had when it decided,
    /// if what it had is known: "earlier decisions stay in force for the members they named" (section 8).
    fn is_about(&self, by: &Record, made: &Decision, member: &RecordId) -> bool {
        let Some(named) = made.member else {
            let had = self.set.seen_until(by);
            return self.set.records.get(member).is_none_or(|record| {
                had.is_empty() || had.iter().any(|row| row.0 == record.log && record.seq <= row.1)
            });
        };
        named == *member
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
        self.set.target(&self.set.original_of(record)?)
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
        passed.insert(record.id);
        match self.void_target(record) {
            // References that run in a circle say nothing.
            Some(Target::Here(original))
                if original.transaction.basket().is_some() && !passed.contains(&original.id) =>
            {
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
