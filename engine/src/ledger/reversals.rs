//! Stage E: walking refunds, voids and exchanges in the order K, each against what earlier ones left. Policy holds
//! reserve what they return; other holds reserve nothing. What a reviewer prefers comes right after its original.

use std::collections::{BTreeMap, BTreeSet};

use super::families::Slot;
use super::judgement::{Judgement, PostAs, Take};
use super::order::Place;
use super::returns::NoTake;
use crate::policy::BlindRefunds;
use crate::review::{CaseKey, CaseType, Reason, subject};
use crate::transaction::{Basket, Body, DecisionAction, Kind, Line, LineFlag, Reference, TenderType};

/// A failed check: the hold, who won, and who else is involved.
struct Failure {
    reason: Reason,
    key: CaseKey,
    winner: Option<Slot>,
    involved: Option<Slot>,
}

impl Judgement<'_> {
    /// Stage E.
    pub(crate) fn references(&mut self) {
        for slot in self.unheld() {
            if !self.returns_something(slot) {
                self.fate(slot).post_as = Some(PostAs::Itself);
            }
        }
        for slot in self.walking_order() {
            if self.facts.record(slot).transaction.kind() == Kind::Void {
                self.walk_void(slot);
            } else {
                self.walk_return(slot);
            }
        }
    }

    fn returns_something(&self, slot: Slot) -> bool {
        match &self.facts.record(slot).transaction.body {
            Body::Sale(basket) => basket.lines.iter().any(|line| line.flag == LineFlag::ReturnInSale),
            _ => true,
        }
    }

    /// Who has to be walked, in the order K; a preferred record stands right after what it reverses, but behind what was
    /// locked before a reviewer preferred it (P7: that keeps its place).
    fn walking_order(&self) -> Vec<Slot> {
        let preferred = self.preferred();
        let mut order: Vec<(Place, u8, Place, Slot)> = Vec::new();
        for (place, slot) in &self.order {
            if self.fates[slot].post_as.is_none() {
                let anchor = preferred.get(slot).map(|(target, open)| {
                    let anchor = self.facts.place(*target);
                    let least = if self.facts.is_foreign(*target) { 0 } else { anchor.rank };
                    Place { rank: least.max(place.rank.min(*open)), ..anchor }
                });
                let wins = u8::from(anchor.is_some());
                order.push((anchor.unwrap_or_else(|| place.clone()), wins, place.clone(), *slot));
            }
        }
        order.sort();
        order.into_iter().map(|row| row.3).collect()
    }

    /// The winner that the latest `prefer` names for each original, with the first lock that came after it.
    fn preferred(&self) -> BTreeMap<Slot, (Slot, u64)> {
        let mut preferred = BTreeMap::new();
        let targets: BTreeSet<Slot> = self.order.iter().flat_map(|row| self.facts.targets(row.1)).collect();
        let mut targets: Vec<Slot> = targets.into_iter().collect();
        targets.sort_by_cached_key(|target| self.facts.id_of(*target));
        for target in targets {
            let key = self.conflict(target);
            let mut latest = self
                .facts
                .hub
                .decisions
                .on(&key)
                .filter(|issued| issued.decision.action == DecisionAction::Prefer);
            let Some(issued) = latest.next() else { continue };
            let winner = issued.decision.member.and_then(|member| self.facts.slot(&member));
            if let Some(winner) = winner.filter(|winner| self.facts.targets(*winner).contains(&target)) {
                let place = (issued.log.incarnation, issued.seq, issued.id);
                preferred.insert(winner, (target, self.facts.hub.first_lock_after(place)));
            }
        }
        preferred
    }

    fn conflict(&self, target: Slot) -> CaseKey {
        CaseKey::new(CaseType::ReversalConflict, subject::record(&self.facts.id_of(target)))
    }

    fn own_case(&self, slot: Slot, case_type: CaseType) -> CaseKey {
        CaseKey::new(case_type, subject::record(&self.facts.record(slot).id))
    }

    fn invalid(&self, slot: Slot, involved: Option<Slot>) -> Failure {
        let key = self.own_case(slot, CaseType::InvalidReference);
        Failure { reason: Reason::InvalidReference, key, winner: None, involved }
    }

    /// The original is not here: is it still to come, or does it not exist?
    fn absent(&self, reference: &Reference) -> Failure {
        let known_missing = match (&reference.terminal, reference.seq) {
            (Some(terminal), Some(seq)) => self.facts.is_complete_up_to(terminal, seq),
            _ => false,
        };
        let reason = if known_missing { Reason::OrphanReference } else { Reason::AwaitingOriginal };
        let key = CaseKey::new(reason.case_type(), subject::reference(reference));
        Failure { reason, key, winner: None, involved: None }
    }

    fn awaiting_held(&self, target: Slot) -> Failure {
        let key = CaseKey::new(CaseType::AwaitingOriginal, subject::record(&self.facts.id_of(target)));
        Failure { reason: Reason::AwaitingOriginal, key, winner: None, involved: Some(target) }
    }

    fn conflicting(&self, reason: Reason, target: Slot, winner: Option<Slot>) -> Failure {
        Failure { reason, key: self.conflict(target), winner, involved: Some(target) }
    }

    /// Holds a record for everything that failed, and says what a reviewer made of it.
    fn fail(&mut self, slot: Slot, failures: Vec<Failure>) -> PostAs {
        for failure in failures {
            let draft = self.draft(failure.key.clone());
            draft.members.insert(slot);
            draft.members.extend(failure.involved);
            draft.duels.extend(failure.winner.map(|winner| (slot, winner)));
            let known = self.fates[&slot].holds.iter().any(|hold| hold.key == failure.key);
            if !known {
                self.hold(slot, failure.reason, failure.key);
            }
        }
        let post_as = self.dispose(slot);
        self.fate(slot).post_as = Some(post_as.clone());
        post_as
    }

    fn walk_void(&mut self, slot: Slot) {
        let facts = self.facts;
        let transaction = &facts.record(slot).transaction;
        let Some(reference) = transaction.original() else {
            let failure = self.invalid(slot, None);
            self.fail(slot, vec![failure]);
            return;
        };
        let Some(target) = facts.resolve(reference, Some(slot)) else {
            let failure = self.absent(reference);
            self.fail(slot, vec![failure]);
            return;
        };
        match self.void_failure(slot, target) {
            Some(failure) if failure.reason == Reason::VoidAfterClose => {
                let post_as = self.fail(slot, vec![failure]);
                self.reserve_late_void(slot, target, &post_as);
            }
            Some(failure) => {
                // An approved void counts as accepted, whatever its tenders were.
                if self.fail(slot, vec![failure]) == PostAs::Itself {
                    self.accept_void(slot, target);
                }
            }
            None if self.stands(target) => {
                self.fate(slot).post_as = Some(PostAs::Itself);
                self.accept_void(slot, target);
            }
            None => {
                self.fate(slot).post_as = Some(PostAs::Following(target));
                self.followed_by.insert(target, slot);
                self.free(target);
            }
        }
    }

    /// The first check that a void fails; `None` also for a void that follows a held record.
    fn void_failure(&self, slot: Slot, target: Slot) -> Option<Failure> {
        let kind = self.facts.record(target).transaction.kind();
        if slot == target || !matches!(kind, Kind::Sale | Kind::Refund) {
            return Some(self.invalid(slot, Some(target)));
        }
        if !self.stands(target) {
            return match (self.followed_by.get(&target), &self.fates.get(&target)?.post_as) {
                (_, None) => Some(self.awaiting_held(target)),
                (_, Some(PostAs::Nothing)) => Some(self.invalid(slot, Some(target))),
                (Some(first), _) => Some(self.conflicting(Reason::DoubleVoid, target, Some(*first))),
                (None, _) => None,
            };
        }
        if let Some(first) = self.voided_by.get(&target) {
            return Some(self.conflicting(Reason::DoubleVoid, target, Some(*first)));
        }
        if let Some(last) = self.reversals.get(&target).and_then(|reversals| reversals.last()) {
            return Some(self.conflicting(Reason::VoidAfterRefund, target, Some(*last)));
        }
        if !self.same_tenders(slot, target) {
            let key = self.own_case(slot, CaseType::VoidTenderMismatch);
            let reason = Reason::VoidTenderMismatch;
            return Some(Failure { reason, key, winner: None, involved: Some(target) });
        }
        self.comes_after_close(slot, target).then(|| Failure {
            reason: Reason::VoidAfterClose,
            key: CaseKey::new(CaseType::VoidAfterClose, subject::record(&self.facts.id_of(target))),
            winner: None,
            involved: Some(target),
        })
    }

    fn accept_void(&mut self, slot: Slot, target: Slot) {
        self.voided_by.insert(target, slot);
        // A refund gives back what it had used, and so does the return half of an exchange.
        self.free(target);
        if self.facts.record(target).transaction.kind() == Kind::Sale {
            self.exhaust(target);
        }
    }

    /// A void that only came too late uses up a sale, and frees nothing of a refund until agreed.
    fn reserve_late_void(&mut self, slot: Slot, target: Slot, post_as: &PostAs) {
        let is_sale = self.facts.record(target).transaction.kind() == Kind::Sale;
        match post_as {
            PostAs::Refund => self.accept_void(slot, target),
            PostAs::Suspense | PostAs::Itself => {
                self.voided_by.insert(target, slot);
                if is_sale {
                    self.exhaust(target);
                }
            }
            PostAs::Explained(_) | PostAs::Following(_) | PostAs::Nothing => {}
        }
    }

    fn same_tenders(&self, slot: Slot, target: Slot) -> bool {
        let sums = |slot: Slot| {
            let mut sums: BTreeMap<TenderType, i128> = BTreeMap::new();
            let basket = self.facts.record(slot).transaction.basket();
            for tender in basket.map_or(&[][..], |basket| basket.tenders.as_slice()) {
                *sums.entry(tender.tender).or_insert(0) += i128::from(tender.amount_minor);
            }
            sums.retain(|_, sum| *sum != 0);
            (basket.map(|basket| basket.currency), sums)
        };
        sums(slot) == sums(target)
    }

    /// Another business day, or the original's till had closed, or the card batch was settled.
    fn comes_after_close(&self, slot: Slot, target: Slot) -> bool {
        let (void, original) = (self.facts.record(slot), self.facts.record(target));
        if void.business_day != original.business_day {
            return true;
        }
        let place = self.facts.place(slot);
        let closed = self.facts.closes_after(target).into_iter().any(|close| self.facts.place(close) < place);
        let tenders = original.transaction.basket().map_or(&[][..], |basket| basket.tenders.as_slice());
        let cards = tenders.iter().flat_map(|tender| [&tender.auth, &tender.payment]).flatten();
        let mut settled = cards.filter_map(|payment| self.facts.hub.settled_ms(payment));
        closed || settled.any(|ms| ms <= place.ms)
    }

    fn walk_return(&mut self, slot: Slot) {
        let facts = self.facts;
        let transaction = &facts.record(slot).transaction;
        let Some(basket) = transaction.basket() else { return };
        let whole = transaction.original();
        let (mut takes, mut failures, mut blind) = (Vec::new(), Vec::new(), false);
        let by_line = basket.lines.iter().any(|line| own_reference(line).is_some());
        for line in returned_lines(transaction.kind(), basket) {
            // Where lines name their sales one by one, one that names none and is no item of the whole's sale has none.
            let unnamed = by_line && own_reference(line).is_none();
            match own_reference(line).or(whole) {
                None => blind = true,
                Some(reference) => match self.check_line(slot, basket, line, reference, &takes) {
                    Ok(take) => takes.push(take),
                    Err(_) if unnamed && self.sells_none(slot, basket, line, reference) => blind = true,
                    Err(failure) => failures.push(failure),
                },
            }
        }
        if basket.lines.is_empty() {
            blind |= whole.is_none();
            failures.extend(whole.and_then(|whole| self.check_original(slot, basket, whole).err()));
        }
        if blind {
            failures.extend(self.check_blind(slot));
        }
        if failures.is_empty() {
            failures.extend(self.check_limit(slot, basket));
        }
        if failures.is_empty() {
            self.fate(slot).post_as = Some(PostAs::Itself);
            self.use_up(slot, takes);
            return;
        }
        let only_policy = failures.iter().all(|failure| failure.reason.is_policy_hold());
        let post_as = self.fail(slot, failures);
        // What a reviewer approved counts as accepted: the lines that do name a sale use it up (I4).
        if post_as == PostAs::Itself || (only_policy && post_as == PostAs::Suspense) {
            self.use_up(slot, takes);
        }
    }

    /// Whether the original of a line can be returned at all; gives it if so.
    fn check_original(&self, slot: Slot, basket: &Basket, reference: &Reference) -> Result<Slot, Failure> {
        let target = self.facts.resolve(reference, Some(slot)).ok_or_else(|| self.absent(reference))?;
        let record = self.facts.record(target);
        let (is_sale, currency) = match (self.facts.foreign_sale(target), &record.transaction.body) {
            (Some(sale), _) => (true, Some(sale.currency)),
            (None, Body::Sale(sold)) => (true, Some(sold.currency)),
            _ => (false, None),
        };
        if slot == target || !is_sale {
            return Err(self.invalid(slot, Some(target)));
        }
        if !self.stands(target) {
            return Err(self.awaiting_held(target));
        }
        if currency != Some(basket.currency) {
            return Err(self.invalid(slot, Some(target)));
        }
        Ok(target)
    }

    fn check_line(
        &mut self,
        slot: Slot,
        basket: &Basket,
        line: &Line,
        reference: &Reference,
        before: &[Take],
    ) -> Result<Take, Failure> {
        let target = self.check_original(slot, basket, reference)?;
        self.try_take(target, line, before).map_err(|no| match no {
            NoTake::NoSuchLine => self.invalid(slot, Some(target)),
            NoTake::TooMuch => match self.voided_by.get(&target) {
                Some(void) => self.conflicting(Reason::RefundAfterVoid, target, Some(*void)),
                None => {
                    let last = self.reversals.get(&target).and_then(|reversals| reversals.last()).copied();
                    self.conflicting(Reason::OverRefund, target, last)
                }
            },
        })
    }

    /// Whether the sale of a reference is there and has no such item at all.
    fn sells_none(&mut self, slot: Slot, basket: &Basket, line: &Line, reference: &Reference) -> bool {
        let Ok(target) = self.check_original(slot, basket, reference) else { return false };
        matches!(self.try_take(target, line, &[]), Err(NoTake::NoSuchLine))
    }

    /// A return that names no sale, by the store's policy.
    fn check_blind(&mut self, slot: Slot) -> Option<Failure> {
        let key = self.own_case(slot, CaseType::NoReference);
        match self.facts.policy(slot).blind_refunds {
            BlindRefunds::Hold => {
                Some(Failure { reason: Reason::NoReference, key, winner: None, involved: None })
            }
            BlindRefunds::Flag => {
                self.draft(key).members.insert(slot);
                None
            }
            BlindRefunds::Allow => None,
        }
    }

    /// Money out above the limit needs somebody who approved it.
    fn check_limit(&self, slot: Slot, basket: &Basket) -> Option<Failure> {
        let record = self.facts.record(slot);
        let (out, approver) = match &record.transaction.body {
            Body::Refund { approver, .. } => (basket.total_minor(), approver.is_some()),
            _ => (basket.total_minor().saturating_neg(), false),
        };
        let limit = self.facts.policy(slot).refund_limit_minor?;
        if out <= limit || approver {
            return None;
        }
        let approved = self.facts.hub.decisions.approved(&record.id);
        let key = self.own_case(slot, CaseType::RefundOverLimit);
        // The reviewer's approval counts, but the case stays visible as decided.
        let in_case = self.facts.hub.decisions.on(&key).next().is_some();
        let failure = Failure { reason: Reason::RefundOverLimit, key, winner: None, involved: None };
        (!approved || in_case).then_some(failure)
    }
}

/// The lines that come back: all of a refund, the marked ones of an exchange.
fn returned_lines(kind: Kind, basket: &Basket) -> impl Iterator<Item = &Line> {
    basket.lines.iter().filter(move |line| kind == Kind::Refund || line.flag == LineFlag::ReturnInSale)
}

fn own_reference(line: &Line) -> Option<&Reference> {
    line.original.as_ref().and_then(|original| original.reference.as_ref())
}
