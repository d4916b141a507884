//! Stage F: where the money of each tender is now, and what became of payments taken offline. It reads outcomes and
//! decisions on payments; it never holds a record.

use std::collections::BTreeSet;

use super::account::Account;
use super::families::Slot;
use super::judgement::{Judgement, PostAs};
use crate::review::{CaseKey, CaseType, Issued, offered, subject};
use crate::transaction::{DecisionAction, Kind, Outcome, Tender, TenderStatus, TenderType};

/// What is known of a card tender.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum CardState {
    Authorised,
    Waiting,
    Failed,
}

/// Part of a tender and the account it is on.
pub(crate) type Part = (Account, i64);

impl Judgement<'_> {
    /// Where the money of a tender is: usually one account, for a `mirror` those of the tenders it gives back.
    pub(crate) fn parts(&self, slot: Slot, tender: &Tender) -> Vec<Part> {
        if tender.tender == TenderType::Card && self.mirrors(slot, tender) {
            return self.mirrored(slot, tender.amount_minor, &mut BTreeSet::new());
        }
        vec![(self.account(slot, tender), tender.amount_minor)]
    }

    fn account(&self, slot: Slot, tender: &Tender) -> Account {
        match tender.tender {
            TenderType::Cash => Account::Drawer(self.facts.record(slot).log.terminal.clone()),
            TenderType::Card => self.card_account(slot, tender),
            TenderType::GiftCard => Account::GiftCards,
            TenderType::StoreCredit => Account::StoreCredit,
            TenderType::Coupon => Account::CouponsReceivable,
            TenderType::Other => Account::OtherTender,
        }
    }

    fn card_account(&self, slot: Slot, tender: &Tender) -> Account {
        let belongs_elsewhere = |auth: &String| self.fates[&slot].foreign_cards.contains(auth);
        if tender.auth.as_ref().is_some_and(belongs_elsewhere) {
            return Account::SuspensePayments;
        }
        match self.card_state(tender) {
            CardState::Authorised => Account::CardClearing,
            CardState::Waiting => Account::OfflinePending,
            CardState::Failed if self.facts.direction(slot) < 0 => {
                let key = self.payment_case(CaseType::FailedRefundPayment, slot, tender);
                self.paid_out(slot, &key).unwrap_or(Account::CustomerRefundsDue)
            }
            CardState::Failed => {
                let key = self.payment_case(CaseType::FailedPayment, slot, tender);
                self.answered(slot, &key).unwrap_or(Account::DeclinedCards)
            }
        }
    }

    fn card_state(&self, tender: &Tender) -> CardState {
        let outcome = tender.payment.as_ref().and_then(|payment| self.facts.hub.outcome(payment));
        match (tender.status, outcome.map(|outcome| outcome.0)) {
            (TenderStatus::Approved | TenderStatus::Mirror, _) => CardState::Authorised,
            (TenderStatus::Pending, None) => CardState::Waiting,
            (TenderStatus::Pending, Some(Outcome::Approved)) => CardState::Authorised,
            (TenderStatus::Declined, _) | (TenderStatus::Pending, Some(_)) => CardState::Failed,
        }
    }

    /// A void repeats the tenders of its original: one that names the same pending payment gives that back.
    fn mirrors(&self, slot: Slot, tender: &Tender) -> bool {
        let repeats = || {
            let original =
                self.void_target(slot).and_then(|target| self.facts.record(target).transaction.basket());
            let same = |other: &Tender| other.payment.is_some() && other.payment == tender.payment;
            original.is_some_and(|basket| basket.tenders.iter().any(same))
        };
        tender.status == TenderStatus::Mirror || (tender.status == TenderStatus::Pending && repeats())
    }

    /// Gives the tenders of the original back in their order, each from the account it is on now.
    /// `passed` stops voids that name each other in a circle.
    fn mirrored(&self, slot: Slot, amount_minor: i64, passed: &mut BTreeSet<Slot>) -> Vec<Part> {
        let target = self.facts.targets(slot).into_iter().min_by_key(|target| self.facts.place(*target));
        let target = target.filter(|_| passed.insert(slot));
        let basket = target.and_then(|target| self.facts.record(target).transaction.basket());
        let (mut parts, mut left) = (Vec::new(), amount_minor);
        if let (Some(target), Some(basket)) = (target, basket) {
            for original in basket.tenders.iter().filter(|other| other.tender == TenderType::Card) {
                let part = left.min(original.amount_minor);
                if part > 0 {
                    parts.extend(self.mirror_parts(slot, target, original, part, passed));
                    left -= part;
                }
            }
        }
        if left != 0 {
            // What it should mirror is not here: card money that nothing explains yet.
            parts.push((Account::SuspensePayments, left));
        }
        parts
    }

    /// Where a part of the original's tender is now. The original may be a refund that mirrored its sale in turn.
    fn mirror_parts(
        &self,
        slot: Slot,
        target: Slot,
        original: &Tender,
        part: i64,
        passed: &mut BTreeSet<Slot>,
    ) -> Vec<Part> {
        if self.approved_after_void(slot, original) {
            let key = self.payment_case(CaseType::PaymentAfterVoid, target, original);
            return vec![(self.paid_out(slot, &key).unwrap_or(Account::CustomerRefundsDue), part)];
        }
        if self.mirrors(target, original) {
            return self.mirrored(target, part, passed);
        }
        vec![(self.account(target, original), part)]
    }

    /// Voided while it waited, approved after all: the till had not heard of the outcome when it voided.
    fn approved_after_void(&self, slot: Slot, original: &Tender) -> bool {
        let record = self.facts.record(slot);
        let outcome = original.payment.as_ref().and_then(|payment| self.facts.hub.outcome(payment));
        let Some((Outcome::Approved, stated)) = outcome else { return false };
        let stated = self.facts.record(stated);
        original.status == TenderStatus::Pending
            && record.transaction.kind() == Kind::Void
            && self.facts.seen.since(&record.log, record.seq, &stated.log, stated.seq).is_none()
    }

    fn payment_case(&self, case_type: CaseType, slot: Slot, tender: &Tender) -> CaseKey {
        let by_record = || subject::record(&self.facts.record(slot).id);
        CaseKey::new(case_type, tender.payment.clone().unwrap_or_else(by_record))
    }

    /// The latest decision on a payment that does something, with the account the money is on by it.
    fn decided(
        &self,
        slot: Slot,
        key: &CaseKey,
        account: impl Fn(&Issued) -> Option<Account>,
    ) -> Option<Account> {
        let mut decisions =
            self.facts.hub.decisions.on(key).filter(|issued| self.facts.applies_to(issued, slot));
        decisions.find_map(account)
    }

    fn answered(&self, slot: Slot, key: &CaseKey) -> Option<Account> {
        self.decided(slot, key, |issued| match issued.decision.action {
            DecisionAction::Paid => Some(self.till_or_clearing(slot, issued)),
            DecisionAction::BadDebt | DecisionAction::WriteOff | DecisionAction::TaxRelief => {
                Some(Account::BadDebt)
            }
            DecisionAction::Retry => Some(Account::DeclinedCards),
            _ => None,
        })
    }

    fn paid_out(&self, slot: Slot, key: &CaseKey) -> Option<Account> {
        self.decided(slot, key, |issued| match issued.decision.action {
            DecisionAction::Reversed => Some(Account::CardClearing),
            DecisionAction::PaidOut => Some(self.till_or_clearing(slot, issued)),
            _ => None,
        })
    }

    fn till_or_clearing(&self, slot: Slot, issued: &Issued) -> Account {
        if issued.decision.parameter.as_deref() == Some("card") {
            return Account::CardClearing;
        }
        let own = || self.facts.record(slot).log.terminal.clone();
        Account::Drawer(issued.decision.terminal.clone().unwrap_or_else(own))
    }

    /// Tax that comes back because a failed payment is a bad debt and the law allows relief: by decision only.
    pub(crate) fn relieved(&self, slot: Slot, tender: &Tender) -> bool {
        let failed = tender.tender == TenderType::Card && self.card_state(tender) == CardState::Failed;
        if !failed || self.facts.direction(slot) <= 0 {
            return false;
        }
        let key = self.payment_case(CaseType::FailedPayment, slot, tender);
        let mut decisions =
            self.facts.hub.decisions.on(&key).filter(|issued| self.facts.applies_to(issued, slot));
        // An action that the case does not offer has no effect: it must not hide the relief either.
        let allowed = offered(CaseType::FailedPayment);
        let latest = decisions.find(|issued| allowed.contains(&issued.decision.action));
        latest.is_some_and(|issued| issued.decision.action == DecisionAction::TaxRelief)
    }

    /// Stage F: the cases.
    pub(crate) fn payments(&mut self) {
        for slot in self.in_order() {
            if self.fates[&slot].post_as == Some(PostAs::Nothing) {
                continue;
            }
            let record = self.facts.record(slot);
            let Some(basket) = record.transaction.basket() else { continue };
            for tender in basket.tenders.iter().filter(|tender| tender.tender == TenderType::Card) {
                if self.mirrors(slot, tender) {
                    self.find_late_approvals(slot);
                } else if self.card_state(tender) == CardState::Failed && !self.given_back(slot, tender) {
                    let money_in = self.facts.direction(slot) > 0;
                    let case_type =
                        if money_in { CaseType::FailedPayment } else { CaseType::FailedRefundPayment };
                    let key = self.payment_case(case_type, slot, tender);
                    let about = format!("payment {} of receipt {}", key.subject, record.transaction.receipt);
                    let draft = self.draft(key);
                    draft.members.insert(slot);
                    draft.amount = Some((i128::from(tender.amount_minor), basket.currency));
                    draft.about = tender.payment.is_some().then_some(about);
                }
            }
        }
    }

    /// A failed payment whose goods came back needs nobody any more.
    fn given_back(&self, slot: Slot, tender: &Tender) -> bool {
        if self.voided_by.contains_key(&slot) || self.followed_by.contains_key(&slot) {
            return true;
        }
        let reversals = self.reversals.get(&slot).into_iter().flatten();
        let baskets = reversals.filter_map(|by| self.facts.record(*by).transaction.basket());
        let mirrors =
            baskets.flat_map(|basket| &basket.tenders).filter(|back| back.status == TenderStatus::Mirror);
        let back = mirrors.map(|back| i128::from(back.amount_minor)).sum::<i128>();
        back > 0 && back >= i128::from(tender.amount_minor)
    }

    fn find_late_approvals(&mut self, slot: Slot) {
        let facts = self.facts;
        let Some(target) = self.void_target(slot) else { return };
        let Some(basket) = facts.record(target).transaction.basket() else { return };
        for original in basket.tenders.iter().filter(|tender| tender.tender == TenderType::Card) {
            if self.approved_after_void(slot, original) {
                let key = self.payment_case(CaseType::PaymentAfterVoid, target, original);
                let about = format!(
                    "payment {} of receipt {}",
                    key.subject,
                    facts.record(target).transaction.receipt
                );
                let draft = self.draft(key);
                draft.members.extend([slot, target]);
                draft.amount = Some((i128::from(original.amount_minor), basket.currency));
                draft.about = Some(about);
            }
        }
    }
}
