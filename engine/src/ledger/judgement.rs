//! Judging one family: stages B to H of LEDGER-RULES section 5 in their order, each in the room named after what it
//! does. Pure: the same family and facts give the same outcomes and cases, whenever it is asked.

use std::collections::{BTreeMap, BTreeSet};

use super::account::Account;
use super::casework::Draft;
use super::facts::Facts;
use super::families::Slot;
use super::journal::Posting;
use super::order::Place;
use super::returns::LineLeft;
use crate::ids::RecordId;
use crate::review::{Case, CaseKey, CaseType, Disposition, Hold, Issued, Reason, effect, subject};
use crate::transaction::{Body, DecisionAction, Kind, Reverses, TenderType};

/// How the reason side of a record is explained.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum PostAs {
    /// As what it says it is.
    Itself,
    /// A void that became a refund.
    Refund,
    /// Held: nobody knows yet.
    Suspense,
    /// A reviewer named the account.
    Explained(Account),
    /// A void of a held record: where that one is.
    Following(Slot),
    /// Judged never to have happened.
    Nothing,
}

/// What stages B to E say of a record.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fate {
    /// Holds in force.
    pub(crate) holds: Vec<Hold>,
    /// Holds that a decision lifted.
    pub(crate) lifted: Vec<Hold>,
    /// `None` until its stage has come.
    pub(crate) post_as: Option<PostAs>,
    /// Card authorisations that belong to an earlier record.
    pub(crate) foreign_cards: BTreeSet<String>,
}

impl Fate {
    /// Whether the record counts as accepted.
    pub(crate) fn stands(&self) -> bool {
        matches!(self.post_as, Some(PostAs::Itself | PostAs::Refund))
    }
}

/// Where a record stands in the books.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Posted and explained.
    Posted,
    /// Its money is posted, its reason waits for a reviewer.
    InReview,
    /// A reviewer judged that it never happened.
    Removed,
    /// A statement of the hub, which has no money of its own.
    NotPosted,
}

/// What is kept of a judged record.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Outcome {
    pub(crate) standing: Standing,
    /// Required postings (D of section 10).
    pub(crate) postings: Box<[Posting]>,
    /// Takes part in the search for suspected duplicates.
    pub(crate) twin_ok: bool,
    /// A void follows it into suspense.
    pub(crate) netted: bool,
    /// Where it stood in the order K (see `order::Place`).
    pub(crate) rank: u64,
    /// The same, ms since 1970.
    pub(crate) ms: i64,
}

/// A judged family.
#[derive(Clone, Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) outcomes: Vec<(Slot, Outcome)>,
    pub(crate) cases: Vec<Case>,
}

/// Part of a line of a sale that a return took.
#[derive(Clone, Debug)]
pub(crate) struct Take {
    pub(crate) target: Slot,
    pub(crate) line: usize,
    pub(crate) part: LineLeft,
}

/// A family under judgement.
pub(crate) struct Judgement<'a> {
    pub(crate) facts: &'a Facts,
    /// Records with lines and tenders, in the order K.
    pub(crate) order: Vec<(Place, Slot)>,
    pub(crate) fates: BTreeMap<Slot, Fate>,
    pub(crate) drafts: BTreeMap<CaseKey, Draft>,
    /// What remains of the lines of each sale.
    pub(crate) remaining: BTreeMap<Slot, Vec<LineLeft>>,
    /// Accepted or reserving refunds and voids of a record, in the order of acceptance.
    pub(crate) reversals: BTreeMap<Slot, Vec<Slot>>,
    pub(crate) voided_by: BTreeMap<Slot, Slot>,
    pub(crate) followed_by: BTreeMap<Slot, Slot>,
    pub(crate) takes: BTreeMap<Slot, Vec<Take>>,
}

/// Judges a family.
pub(crate) fn judge(facts: &Facts, members: &[Slot]) -> Verdicts {
    let mut judgement = Judgement::new(facts, members);
    judgement.integrity();
    judgement.structure();
    judgement.duplicates();
    judgement.dispose_of_early_holds();
    judgement.references();
    judgement.draft_holds();
    judgement.payments();
    judgement.advisories();
    let mut outcomes = judgement.postings();
    for slot in members {
        if facts.record(*slot).transaction.basket().is_none() {
            outcomes.push((*slot, judgement.other_record(*slot)));
        }
    }
    let cases = judgement.finish_cases();
    Verdicts { outcomes, cases }
}

impl<'a> Judgement<'a> {
    fn new(facts: &'a Facts, members: &[Slot]) -> Self {
        let baskets =
            members.iter().copied().filter(|slot| facts.record(*slot).transaction.basket().is_some());
        let mut order: Vec<(Place, Slot)> = baskets.map(|slot| (facts.place(slot), slot)).collect();
        order.sort();
        let fates = order.iter().map(|(_, slot)| (*slot, Fate::default())).collect();
        Self {
            facts,
            order,
            fates,
            drafts: BTreeMap::new(),
            remaining: BTreeMap::new(),
            reversals: BTreeMap::new(),
            voided_by: BTreeMap::new(),
            followed_by: BTreeMap::new(),
            takes: BTreeMap::new(),
        }
    }

    /// The family's records in the order K.
    pub(crate) fn in_order(&self) -> Vec<Slot> {
        self.order.iter().map(|row| row.1).collect()
    }

    /// Records that no earlier stage has held.
    pub(crate) fn unheld(&self) -> Vec<Slot> {
        self.in_order().into_iter().filter(|slot| self.fates[slot].holds.is_empty()).collect()
    }

    pub(crate) fn fate(&mut self, slot: Slot) -> &mut Fate {
        self.fates.entry(slot).or_default()
    }

    /// Whether the original of a reversal counts as accepted. A sale of another store does: the hub vouches for it.
    pub(crate) fn stands(&self, slot: Slot) -> bool {
        self.facts.is_foreign(slot) || self.fates.get(&slot).is_some_and(Fate::stands)
    }

    /// Stage B, as `log` keeps it.
    fn integrity(&mut self) {
        for slot in self.in_order() {
            for hold in self.facts.integrity_holds(slot) {
                self.hold(slot, hold.reason, hold.key);
            }
        }
    }

    /// Holds a record, unless a reviewer found it genuine.
    pub(crate) fn hold(&mut self, slot: Slot, reason: Reason, key: CaseKey) {
        let genuine = self.facts.disposition(&key, slot, reason) == Some(Disposition::Genuine);
        let hold = Hold { reason, key };
        let fate = self.fate(slot);
        if genuine {
            fate.lifted.push(hold);
        } else {
            fate.holds.push(hold);
        }
    }

    /// What becomes of a held record: what a reviewer decided about it, else suspense.
    pub(crate) fn dispose(&self, slot: Slot) -> PostAs {
        let holds = self.fates.get(&slot).map_or(&[][..], |fate| fate.holds.as_slice());
        match self.facts.ruling(slot, holds) {
            Some(Disposition::Approve) => PostAs::Itself,
            Some(Disposition::Convert) => PostAs::Refund,
            Some(Disposition::Remove) => PostAs::Nothing,
            Some(Disposition::Explain(account)) => PostAs::Explained(account),
            Some(Disposition::Genuine) | None => PostAs::Suspense,
        }
    }

    fn dispose_of_early_holds(&mut self) {
        for slot in self.in_order() {
            if !self.fates[&slot].holds.is_empty() {
                let post_as = self.dispose(slot);
                self.fate(slot).post_as = Some(post_as);
            }
        }
    }
}

impl Facts {
    /// Holds of stage B: clone, broken chain, revocation.
    pub(crate) fn integrity_holds(&self, slot: Slot) -> Vec<Hold> {
        let entry = self.entry(slot);
        let record = self.record(slot);
        let chain = entry.chain.map(|hold| Hold {
            reason: hold.reason,
            key: CaseKey::new(hold.reason.case_type(), subject::point(&record.log, hold.point)),
        });
        let revoked = self.hub.is_revoked(&record.log, record.seq, entry.lock).then(|| Hold {
            reason: Reason::RevokedTerminal,
            key: CaseKey::new(CaseType::RevokedTerminal, record.log.terminal.as_str()),
        });
        chain.into_iter().chain(revoked).collect()
    }

    /// What a reviewer made of a record that is held for several reasons: the first of them is the one used for decisions
    /// (section 5). Approving a missing reference must not pass what exceeds its sale in another line.
    pub(crate) fn ruling(&self, slot: Slot, holds: &[Hold]) -> Option<Disposition> {
        let mut holds = holds.to_vec();
        holds.sort();
        let decided = holds.iter().map(|hold| (hold.reason, self.disposition(&hold.key, slot, hold.reason)));
        let in_force: Vec<_> = decided.filter(|row| row.1 != Some(Disposition::Genuine)).collect();
        let first = in_force.first()?.0;
        in_force.into_iter().filter(|row| row.0 == first).find_map(|row| row.1)
    }

    /// Whether all the money of a record is cash: only a drawer can be over or short (section 9: "of cash").
    pub(crate) fn is_cash(&self, slot: Slot) -> bool {
        let basket = self.record(slot).transaction.basket();
        basket.is_some_and(|one| one.tenders.iter().all(|one| one.tender == TenderType::Cash))
    }

    /// What a decision in force does to a held record.
    pub(crate) fn disposition(&self, key: &CaseKey, slot: Slot, reason: Reason) -> Option<Disposition> {
        let money_out = self.direction(slot) < 0;
        let cash = self.is_cash(slot);
        let possible = |issued: &&Issued| issued.decision.action != DecisionAction::OverShort || cash;
        let issued = self.hub.decisions.on(key).filter(|issued| self.applies_to(issued, slot));
        let mut effects =
            issued.filter(possible).map(|issued| effect(issued.decision.action, reason, money_out));
        effects.find_map(|effect| effect)
    }

    /// Whether a decision names a record: itself, or as one of "all" that the hub had when it decided.
    pub(crate) fn applies_to(&self, issued: &Issued, slot: Slot) -> bool {
        let record = self.record(slot);
        match issued.decision.member {
            Some(member) => member == self.id_of(slot),
            None => {
                !self.seen.tells_about(&issued.log, issued.seq)
                    || self.seen.since(&issued.log, issued.seq, &record.log, record.seq).is_some()
            }
        }
    }

    /// The id people know a record by: for a sale of another store its own, not that of the hub's statement.
    pub(crate) fn id_of(&self, slot: Slot) -> RecordId {
        self.foreign_sale(slot).map_or_else(|| self.record(slot).id, |sale| sale.id)
    }

    /// Money in (+1) or out (−1). A void runs opposite to what it cancels; if that is unknown, it says itself.
    pub(crate) fn direction(&self, slot: Slot) -> i64 {
        let (mut at, mut sign, mut path) = (slot, 1, BTreeSet::new());
        loop {
            let transaction = &self.record(at).transaction;
            let Body::Void { original, reverses, .. } = &transaction.body else {
                return sign * if transaction.kind() == Kind::Refund { -1 } else { 1 };
            };
            let target = original.as_ref().and_then(|original| self.resolve(original, Some(at)));
            let fits = |target: &Slot| {
                let kind = self.record(*target).transaction.kind();
                self.is_foreign(*target) || matches!(kind, Kind::Sale | Kind::Refund | Kind::Void)
            };
            match target.filter(fits) {
                Some(target) if path.insert(at) && !path.contains(&target) => (at, sign) = (target, -sign),
                _ => return sign * if *reverses == Reverses::Sale { -1 } else { 1 },
            }
        }
    }
}
