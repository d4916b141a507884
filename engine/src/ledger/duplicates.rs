//! Stages C and D: what a record says by itself (currency, signs), and the same thing said twice (one basket, one
//! receipt number, one card authorisation). The first by K is posted, the others are held.

use std::collections::{BTreeMap, BTreeSet};

use super::families::Slot;
use super::judgement::Judgement;
use crate::policy::ReceiptScope;
use crate::review::{CaseKey, CaseType, Reason, subject};
use crate::transaction::{Basket, Kind, TenderStatus, TenderType, check_signs};

impl Judgement<'_> {
    /// Stage C. Tenders that do not add up are found where they are posted.
    pub(crate) fn structure(&mut self) {
        for slot in self.unheld() {
            let record = self.facts.record(slot);
            let Some(basket) = record.transaction.basket() else { continue };
            let accepted = &self.facts.policy(slot).currencies;
            let by_record = CaseKey::new(CaseType::CurrencyMismatch, subject::record(&record.id));
            let mut reasons = Vec::new();
            if !(accepted.is_empty() || accepted.contains(&basket.currency)) || mixes_currencies(basket) {
                reasons.push((Reason::CurrencyMismatch, by_record.clone()));
            }
            if check_signs(&record.transaction).is_some() {
                reasons.push((
                    Reason::NegativeAmount,
                    CaseKey { case_type: CaseType::NegativeAmount, ..by_record },
                ));
            }
            for (reason, key) in reasons {
                self.hold(slot, reason, key);
            }
        }
    }

    /// Stage D. What a void names is left out: the cashier has already undone it.
    pub(crate) fn duplicates(&mut self) {
        let undone: BTreeSet<Slot> =
            self.in_order().into_iter().filter_map(|slot| self.void_target(slot)).collect();
        let candidates: Vec<Slot> = self.unheld().into_iter().filter(|slot| !undone.contains(slot)).collect();
        if candidates.len() < 2 {
            return;
        }
        let captured = self.groups_by_key(&candidates);
        let mut held_for: BTreeMap<Slot, Slot> = BTreeMap::new();
        for (key, group) in captured {
            // Once held for a key, the same receipt number on the same pair says nothing new.
            let nothing_new = group[1..].iter().all(|later| held_for.get(later) == Some(&group[0]));
            if group.len() > 1 && !nothing_new {
                held_for.extend(group[1..].iter().map(|later| (*later, group[0])));
                self.hold_later(&group, Reason::DuplicateCapture, &key);
            }
        }
        for (auth, group) in self.groups_by_card(&candidates) {
            let key = CaseKey::new(CaseType::DuplicatePayment, auth.1.as_str());
            if group.len() > 1 {
                self.hold_later(&group, Reason::DuplicatePayment, &key);
                for later in &group[1..] {
                    let held = self.fates[later].holds.iter().any(|hold| hold.key == key);
                    if held {
                        self.fate(*later).foreign_cards.insert(auth.1.clone());
                    }
                }
            }
        }
    }

    fn hold_later(&mut self, group: &[Slot], reason: Reason, key: &CaseKey) {
        for later in &group[1..] {
            self.hold(*later, reason, key.clone());
        }
        self.draft(key.clone()).members.extend(group);
    }

    /// The record that a void names.
    pub(crate) fn void_target(&self, slot: Slot) -> Option<Slot> {
        let transaction = &self.facts.record(slot).transaction;
        if transaction.kind() != Kind::Void {
            return None;
        }
        self.facts.resolve(transaction.original()?, Some(slot))
    }

    /// Groups by idempotency key, then by receipt number within its scope; members in the order K.
    fn groups_by_key(&self, candidates: &[Slot]) -> Vec<(CaseKey, Vec<Slot>)> {
        let (mut keys, mut receipts) =
            (BTreeMap::<String, Vec<Slot>>::new(), BTreeMap::<String, Vec<Slot>>::new());
        for slot in candidates {
            let record = self.facts.record(*slot);
            if let Some(key) = &record.transaction.idempotency_key {
                keys.entry(subject::idempotency_key(key)).or_default().push(*slot);
            }
            let till =
                (self.facts.receipt_scope(*slot) == ReceiptScope::Till).then_some(&record.log.terminal);
            receipts.entry(subject::receipt(till, &record.transaction.receipt)).or_default().push(*slot);
        }
        let keyed = keys.into_iter().chain(receipts);
        keyed.map(|(subject, group)| (CaseKey::new(CaseType::DuplicateCapture, subject), group)).collect()
    }

    /// Groups by card authorisation and kind. A void repeats the authorisation that it gives back and claims none.
    fn groups_by_card(&self, candidates: &[Slot]) -> BTreeMap<(Kind, String), Vec<Slot>> {
        let mut groups = BTreeMap::<(Kind, String), Vec<Slot>>::new();
        for slot in candidates {
            let transaction = &self.facts.record(*slot).transaction;
            let Some(basket) = transaction.basket().filter(|_| transaction.kind() != Kind::Void) else {
                continue;
            };
            for auth in claimed_cards(basket) {
                groups.entry((transaction.kind(), auth)).or_default().push(*slot);
            }
        }
        groups
    }
}

fn mixes_currencies(basket: &Basket) -> bool {
    basket.tenders.iter().any(|tender| tender.currency.is_some_and(|own| own != basket.currency))
}

fn claimed_cards(basket: &Basket) -> BTreeSet<String> {
    let cards = basket.tenders.iter().filter(|tender| tender.tender == TenderType::Card);
    cards
        .filter(|tender| tender.status != TenderStatus::Mirror)
        .filter_map(|tender| tender.auth.clone())
        .collect()
}
