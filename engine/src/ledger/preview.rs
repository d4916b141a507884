//! What would be, before anybody does it: a decision (the families it touches are judged with it and without it, at
//! the cost of the families, whatever the history) or a changed policy (a copy of the books is judged anew). The books
//! themselves stay as they are.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::books::{Books, Settled};
use super::families::Slot;
use super::journal::{Posting, difference};
use super::judgement::{Outcome, judge};
use crate::ids::{LogId, RecordId, TerminalId};
use crate::policy::PolicyChange;
use crate::record::Record;
use crate::review::{
    Case, CaseKey, CaseState, CaseType, Choice, Issued, MemberFacts, Refusal, choices, permit,
};
use crate::time::{Day, Instant};
use crate::transaction::{Basket, Body, Decision, DecisionAction, HubRecord, Transaction};

/// What a decision changes.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effect {
    /// What would be appended to the journal, by record in the order K.
    pub postings: Vec<(RecordId, Vec<Posting>)>,
    /// The state of the decided case afterwards; `None` if the case ends.
    pub state: Option<CaseState>,
    /// Cases that would open by it.
    pub opens: Vec<Case>,
    /// Other cases that would end by it.
    pub ends: Vec<CaseKey>,
}

/// Something that may be decided on a case, with what it would do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Possible {
    /// Action and member.
    pub choice: Choice,
    /// What it would do; `None` where that hangs on a parameter (`classify` needs its account).
    pub effect: Option<Effect>,
}

impl Books {
    /// The members of a case with what the rules ask about them, in the order K.
    #[must_use]
    pub fn member_facts(&self, case: &Case) -> Vec<MemberFacts> {
        let mut slots: Vec<Slot> = case.members.iter().filter_map(|id| self.facts.slot(id)).collect();
        slots.sort_by_cached_key(|slot| self.facts.place(*slot));
        let facts = |slot: Slot| {
            let record = self.facts.record(slot);
            let basket = record.transaction.basket();
            let amount_minor = basket.map_or(0, Basket::total_minor);
            MemberFacts {
                id: record.id,
                operator: record.transaction.operator.clone(),
                money_out: self.facts.direction(slot) < 0,
                amount_minor,
                cash: self.facts.is_cash(slot),
                closed: !self.facts.closes_after(slot).is_empty(),
            }
        };
        slots.into_iter().map(facts).collect()
    }

    /// Whether a decision may be recorded.
    ///
    /// # Errors
    /// The first rule of section 9 that it breaks.
    pub fn permit(&self, case: &Case, decision: &Decision) -> Result<(), Refusal> {
        let newest = case
            .members
            .iter()
            .filter_map(|id| self.facts.slot(id))
            .max_by_key(|slot| self.facts.entry(*slot).ms);
        let limit = newest
            .map_or(self.base.four_eyes_limit_minor, |slot| self.facts.policy(slot).four_eyes_limit_minor);
        permit(decision, case, &self.member_facts(case), limit)
    }

    /// Number of the next decision of the store.
    #[must_use]
    pub fn next_decision_number(&self) -> u64 {
        self.facts.hub.decisions.next_number()
    }

    /// The decisions in force on a case, the latest first.
    pub fn decisions_on(&self, key: &CaseKey) -> impl Iterator<Item = &Issued> {
        self.facts.hub.decisions.on(key)
    }

    /// Everything that may be decided on a case, each with its effect.
    pub fn options(&mut self, case: &Case) -> Vec<Possible> {
        let members = self.member_facts(case);
        let tried = |books: &mut Self, choice: Choice| {
            let needs_account = choice.action == DecisionAction::Classify;
            let effect = (!needs_account).then(|| books.effect_of(&decision_of(case, &choice)));
            Possible { choice, effect }
        };
        let all = choices(case, &members).into_iter().map(|choice| tried(self, choice));
        // To prefer one who cannot win (a lock covers the other) would change nothing.
        let vain = |it: &Possible| {
            it.choice.action == DecisionAction::Prefer
                && it.effect.as_ref().is_some_and(|effect| effect.postings.is_empty())
        };
        all.filter(|it| !vain(it)).collect()
    }

    /// What a decision would change. Nothing is recorded. Exact for postings: the same as if the hub had recorded it,
    /// knowing every record that is here.
    pub fn effect_of(&mut self, decision: &Decision) -> Effect {
        let Ok(case_type) = decision.case_type.parse::<CaseType>() else { return Effect::default() };
        let key = CaseKey::new(case_type, decision.subject.as_str());
        let tried = self.tried(decision, &key);
        let families = self.families_of(decision, &key);
        for issued in &tried {
            match decision.member {
                Some(_) => drop(self.facts.hub.decisions.insert(issued.clone())),
                None => self.facts.hub.decisions.insert_in_case(issued.clone()),
            }
        }
        let mut effect = Effect::default();
        let (mut outcomes, mut before, mut after) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        for members in &families {
            let verdicts = judge(&self.facts, members);
            outcomes.extend(verdicts.outcomes);
            before.extend(members.iter().filter_map(|slot| self.family_cases.get(slot)).flatten().cloned());
            after.extend(verdicts.cases.into_iter().map(|case| (case.key.clone(), case)));
        }
        if let Some(log_case) = self.log_cases.get(&key) {
            let netted = |slot: Slot| outcomes.get(&slot).is_some_and(|outcome: &Outcome| outcome.netted);
            after.extend(self.facts.log_case(log_case, netted).map(|case| (key.clone(), case)));
        }
        for issued in tried.iter().rev() {
            self.facts.hub.decisions.forget(issued);
        }
        effect.state =
            after.get(&key).map(|case| case.state).or_else(|| self.untouched_state(&key, &families));
        effect.ends =
            before.iter().filter(|known| !after.contains_key(*known) && **known != key).cloned().collect();
        effect.opens = after
            .into_iter()
            .filter(|row| !before.contains(&row.0) && row.0 != key)
            .map(|row| row.1)
            .collect();
        effect.postings = self.changed(outcomes);
        effect
    }

    /// Copied books under a changed policy, with what the change did: entries that would be appended, cases that would
    /// open, change or end. Days that a lock covers keep the policy they were locked with.
    #[must_use]
    pub fn under_policy(&self, change: PolicyChange, today: Day) -> (Self, Settled) {
        let mut copy = self.clone();
        copy.settle(today);
        let log = LogId { terminal: TerminalId::hub(), incarnation: u32::MAX };
        let at = Instant::utc(i64::from(today.0).saturating_mul(86_400_000).max(0));
        let record = Record {
            id: RecordId([0xff; 32]),
            store: self.store().clone(),
            log,
            seq: u64::MAX,
            prev: None,
            business_day: today,
            at,
            effective_ms: at.ms,
            transaction: Transaction {
                receipt: "what-if".to_owned(),
                operator: None,
                idempotency_key: None,
                offline: false,
                body: Body::Hub(HubRecord::Config(change)),
            },
        };
        copy.insert(Arc::new(record), &[]);
        let settled = copy.settle(today);
        (copy, settled)
    }

    /// A case that no family and no log has (a suspected duplicate) is decided by any word on it.
    fn untouched_state(&self, key: &CaseKey, families: &BTreeSet<Vec<Slot>>) -> Option<CaseState> {
        let of_family = |slot: &Slot| self.family_cases.get(slot).is_some_and(|keys| keys.contains(key));
        let known = families.iter().flatten().any(of_family) || self.log_cases.get(key).is_some();
        (!known && self.cases.get(key).is_some()).then_some(CaseState::Decided)
    }

    fn changed(&self, outcomes: BTreeMap<Slot, Outcome>) -> Vec<(RecordId, Vec<Posting>)> {
        let mut changed: Vec<(Slot, Vec<Posting>)> = Vec::new();
        for (slot, outcome) in outcomes {
            let now = self.outcomes.get(slot).map_or(&[][..], |known| &known.postings);
            let missing = difference(&outcome.postings, now);
            if !missing.is_empty() {
                changed.push((slot, missing));
            }
        }
        changed.sort_by_cached_key(|row| self.facts.place(row.0));
        changed.into_iter().map(|(slot, postings)| (self.facts.record(slot).id, postings)).collect()
    }

    /// The decision as the hub would have it. One on all members names everybody who is here now.
    fn tried(&self, decision: &Decision, key: &CaseKey) -> Vec<Issued> {
        let hub = LogId { terminal: TerminalId::hub(), incarnation: u32::MAX };
        let number = self.next_decision_number();
        let members: Vec<Option<RecordId>> = match decision.member {
            Some(member) => vec![Some(member)],
            None => match self.cases.get(key) {
                Some(case) if !case.members.is_empty() => case.members.iter().copied().map(Some).collect(),
                _ => vec![None],
            },
        };
        let issue = |(at, member): (usize, Option<RecordId>)| {
            let mut id = [0xff; 32];
            id[..8].copy_from_slice(&(at as u64).to_be_bytes());
            let decision = Decision { number, member, ..decision.clone() };
            Issued { id: RecordId(id), log: hub.clone(), seq: u64::MAX, decision }
        };
        members.into_iter().enumerate().map(issue).collect()
    }

    /// The families that a decision touches, as `settle` would.
    fn families_of(&self, decision: &Decision, key: &CaseKey) -> BTreeSet<Vec<Slot>> {
        let of_case = self.cases.get(key).into_iter().flat_map(|case| &case.members);
        let named = of_case.chain(&decision.member).filter_map(|id| self.facts.slot(id));
        let about = decision.subject.parse::<RecordId>().ok();
        let about = about.and_then(|id| self.facts.slot(&id).or_else(|| self.facts.first_referrer(&id)));
        named.chain(about).map(|slot| self.facts.families.of(slot)).collect()
    }
}

/// A choice as a decision, for trying it.
fn decision_of(case: &Case, choice: &Choice) -> Decision {
    Decision {
        number: 0,
        case_type: case.key.case_type.as_str().to_owned(),
        subject: case.key.subject.clone(),
        case_version: Some(case.version),
        member: choice.member,
        action: choice.action,
        parameter: None,
        terminal: None,
        reviewer: String::new(),
        approver: None,
        reason: String::new(),
    }
}
