//! From holds and findings to cases: members, verdicts, amounts and state. A case is drafted while a family is judged
//! and finished when all is known; the cases of a log are built here too. Nothing here holds or frees a record.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::families::Slot;
use super::judgement::{Judgement, PostAs};
use super::log::LogCase;
use crate::ids::RecordId;
use crate::money::Currency;
use crate::review::{
    Case, CaseKey, CaseState, CaseType, Disposition, Knowledge, Reason, Verdict, offered, subject,
};

/// A case in the making.
#[derive(Clone, Debug, Default)]
pub(crate) struct Draft {
    pub(crate) members: BTreeSet<Slot>,
    pub(crate) held: BTreeMap<Slot, Reason>,
    pub(crate) lifted: BTreeSet<Slot>,
    /// Held members that a reviewer has disposed of, or that a void nets.
    pub(crate) disposed: BTreeSet<Slot>,
    pub(crate) netted: BTreeSet<Slot>,
    /// Loser and winner.
    pub(crate) duels: BTreeSet<(Slot, Slot)>,
    /// What is in question, where it is not the total of the held members.
    pub(crate) amount: Option<(i128, Currency)>,
    /// What the case is about, where the subject is no record.
    pub(crate) about: Option<String>,
    pub(crate) severity: Option<u8>,
}

impl Judgement<'_> {
    pub(crate) fn draft(&mut self, key: CaseKey) -> &mut Draft {
        self.drafts.entry(key).or_default()
    }

    /// Enters every hold in its case. Cases of a log are built from the log.
    pub(crate) fn draft_holds(&mut self) {
        for slot in self.in_order() {
            let fate = self.fates[&slot].clone();
            let disposed = fate.post_as != Some(PostAs::Suspense);
            let netted = self.followed_by.contains_key(&slot);
            for hold in fate.holds.into_iter().filter(|hold| !of_a_log(hold.reason)) {
                let draft = self.draft(hold.key);
                draft.members.insert(slot);
                draft.held.insert(slot, hold.reason);
                draft.disposed.extend(disposed.then_some(slot));
                draft.netted.extend(netted.then_some(slot));
            }
            for hold in fate.lifted.into_iter().filter(|hold| !of_a_log(hold.reason)) {
                let draft = self.draft(hold.key);
                draft.members.insert(slot);
                draft.lifted.insert(slot);
            }
        }
        self.involve_originals();
    }

    /// A conflict is about a record and everybody who reversed it; a limit about the sale that is returned.
    fn involve_originals(&mut self) {
        let facts = self.facts;
        for (key, draft) in &mut self.drafts {
            let members: Vec<Slot> = draft.members.iter().copied().collect();
            match key.case_type {
                CaseType::RefundOverLimit => {
                    draft.members.extend(members.into_iter().flat_map(|slot| facts.targets(slot)));
                }
                CaseType::ReversalConflict => {
                    let about = |slot: &Slot| subject::record(&facts.id_of(*slot)) == key.subject;
                    if let Some(original) = members.into_iter().find(about) {
                        draft.members.extend(self.reversals.get(&original).into_iter().flatten());
                        draft.members.extend(self.voided_by.get(&original));
                        draft.members.extend(self.followed_by.get(&original));
                    }
                }
                _ => {}
            }
        }
    }

    /// The cases of the family.
    pub(crate) fn finish_cases(self) -> Vec<Case> {
        let facts = self.facts;
        let drafts = self.drafts.into_iter().filter(|(_, draft)| draft.is_a_case());
        drafts.map(|(key, draft)| facts.finish_case(key, draft)).collect()
    }
}

fn of_a_log(reason: Reason) -> bool {
    matches!(reason, Reason::ClonedTerminal | Reason::BrokenChain | Reason::RevokedTerminal)
}

impl Draft {
    /// A draft whose conflict turned out to be none (all that is left is a mention) is no case.
    fn is_a_case(&self) -> bool {
        !self.members.is_empty()
    }

    fn state(&self, facts: &Facts, key: &CaseKey) -> CaseState {
        let mut waiting = self.held.keys().filter(|slot| !self.netted.contains(slot)).peekable();
        if !self.held.is_empty() {
            return if waiting.peek().is_none() {
                CaseState::SelfCancelled
            } else if waiting.all(|slot| self.disposed.contains(slot)) {
                CaseState::Decided
            } else {
                CaseState::Open
            };
        }
        let answered = |slot: &Slot| {
            let mut decisions = facts.hub.decisions.on(key);
            decisions.any(|issued| {
                offered(key.case_type).contains(&issued.decision.action) && facts.applies_to(issued, *slot)
            })
        };
        let decided =
            !self.lifted.is_empty() || (!self.members.is_empty() && self.members.iter().any(answered));
        if decided { CaseState::Decided } else { CaseState::Open }
    }
}

impl Facts {
    /// Makes a case of a draft.
    pub(crate) fn finish_case(&self, key: CaseKey, draft: Draft) -> Case {
        let state = draft.state(self, &key);
        let members: BTreeSet<RecordId> = draft.members.iter().map(|slot| self.id_of(*slot)).collect();
        let opened = draft.held.keys().map(|slot| self.entry(*slot).ms).min();
        let newest = || draft.members.iter().map(|slot| self.entry(*slot).ms).max().unwrap_or(0);
        let (amount, currency) = match draft.amount {
            Some((amount, currency)) => (amount, Some(currency)),
            None => self.held_amount(&draft.held),
        };
        let mut verdicts: Vec<Verdict> =
            draft.duels.iter().map(|(loser, winner)| self.verdict(*loser, *winner)).collect();
        verdicts.sort_by_key(|verdict| (verdict.loser, verdict.winner));
        Case {
            id: key.id(&self.store),
            about: draft.about.unwrap_or_else(|| self.describe(&key.subject)),
            severity: draft.severity.unwrap_or_else(|| key.case_type.severity()),
            state,
            version: Case::version_of(&members),
            members,
            held: draft.held.iter().map(|(slot, reason)| (self.id_of(*slot), *reason)).collect(),
            amount_minor: clamp(amount),
            currency,
            verdicts,
            opened_ms: opened.unwrap_or_else(newest),
            decisions: self.hub.decisions.on(&key).map(|issued| issued.id).collect(),
            key,
        }
    }

    /// Gross total of the held members, if they are of one currency (the first one's otherwise).
    fn held_amount(&self, held: &BTreeMap<Slot, Reason>) -> (i128, Option<Currency>) {
        let mut sums: BTreeMap<Currency, i128> = BTreeMap::new();
        for basket in held.keys().filter_map(|slot| self.record(*slot).transaction.basket()) {
            *sums.entry(basket.currency).or_insert(0) += i128::from(basket.total_minor());
        }
        sums.into_iter().next().map_or((0, None), |(currency, sum)| (sum, Some(currency)))
    }

    /// A subject as people know it.
    fn describe(&self, subject: &str) -> String {
        let record = subject.parse::<RecordId>().ok();
        let local = record.and_then(|id| self.slot(&id)).map(|slot| self.record(slot));
        match (local, record) {
            (Some(record), _) => {
                let (kind, receipt) = (record.transaction.kind().as_str(), &record.transaction.receipt);
                format!("{kind} {receipt} of {}", record.log.terminal)
            }
            (None, Some(id)) => format!("record {}", id.short()),
            (None, None) => subject.to_owned(),
        }
    }

    fn verdict(&self, loser: Slot, winner: Slot) -> Verdict {
        let (late, first) = (self.record(loser), self.record(winner));
        let since = if late.log == first.log {
            (first.seq < late.seq).then_some(first.seq)
        } else {
            self.seen.since(&late.log, late.seq, &first.log, first.seq)
        };
        let knowledge = if since.is_some() { Knowledge::Knowing } else { Knowledge::Concurrent };
        Verdict { loser: late.id, winner: first.id, knowledge, known_since: since }
    }

    /// Builds a case of a log anew; `None` if there is nothing (any more).
    pub(crate) fn log_case(&self, case: &LogCase, netted: impl Fn(Slot) -> bool) -> Option<Case> {
        let mut draft = Draft::default();
        match case {
            LogCase::Chain(id, hold) => {
                let key = case.key();
                let held = self.logs.get(id).and_then(|log| log.held.get(hold));
                for slot in held.into_iter().flatten() {
                    self.enter(&mut draft, &key, *slot, hold.reason, netted(*slot));
                }
                if !draft.members.is_empty() && hold.reason == Reason::ClonedTerminal {
                    draft.members.extend(self.fork_winner(id, hold.point));
                }
            }
            LogCase::Gap(id, seq) => {
                let log = self.logs.get(id)?;
                if self.follows_a_gap(id, *seq) {
                    draft.members.extend(log.at(*seq));
                }
                let closed = || log.close_after(seq.saturating_sub(1)).is_some();
                draft.severity = (!draft.members.is_empty() && closed()).then_some(1);
            }
            LogCase::Skew(id, seq) => {
                let at = self.logs.get(id).into_iter().flat_map(|log| log.at(*seq));
                draft.members.extend(at.filter(|slot| self.clock_is_skewed(*slot)));
            }
            LogCase::Revoked(terminal) => {
                let key = case.key();
                for slot in self.logs_of(terminal).flat_map(|(_, log)| log.from(0)) {
                    let (record, entry) = (self.record(slot), self.entry(slot));
                    if self.hub.is_revoked(&record.log, record.seq, entry.lock) {
                        self.enter(&mut draft, &key, slot, Reason::RevokedTerminal, netted(slot));
                    }
                }
            }
            LogCase::Tail(id, seq) => return self.tail(id, *seq),
        }
        if draft.members.is_empty() {
            return None;
        }
        let key = case.key();
        draft.about = Some(key.subject.clone());
        Some(self.finish_case(key, draft))
    }

    fn enter(&self, draft: &mut Draft, key: &CaseKey, slot: Slot, reason: Reason, netted: bool) {
        draft.members.insert(slot);
        if self.disposition(key, slot, reason) == Some(Disposition::Genuine) {
            draft.lifted.insert(slot);
            return;
        }
        draft.held.insert(slot, reason);
        // A branch of a fork may belong to a revoked till too: what a reviewer made of it in one case holds in both.
        let ruling = self.ruling(slot, &self.integrity_holds(slot));
        draft.disposed.extend(ruling.map(|_| slot));
        draft.netted.extend(netted.then_some(slot));
    }

    /// Somebody knows of numbers after the head: the last of them is missing. No member is there to name.
    fn tail(&self, id: &crate::ids::LogId, seq: u64) -> Option<Case> {
        let log = self.logs.get(id)?;
        if log.known_to != seq || log.head() >= seq || id.terminal.is_hub() {
            return None;
        }
        let key = LogCase::Tail(id.clone(), seq).key();
        let last = log.at(log.head()).collect::<BTreeSet<Slot>>();
        let mut case = self
            .finish_case(key.clone(), Draft { about: Some(key.subject), members: last, ..Draft::default() });
        case.members.clear();
        case.version = Case::version_of(&case.members);
        Some(case)
    }
}

pub(crate) fn clamp(amount: i128) -> i64 {
    i64::try_from(amount).unwrap_or(if amount < 0 { i64::MIN } else { i64::MAX })
}
