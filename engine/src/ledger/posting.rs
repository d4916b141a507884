//! Stage H: the postings of each record (LEDGER-RULES section 7). The money side is always posted; the reason side is
//! what stages B to E made of the record. What is left over goes to differences, so every record balances.

use std::collections::BTreeMap;

use super::account::Account;
use super::casework::clamp;
use super::facts::Facts;
use super::families::Slot;
use super::journal::Sheet;
use super::judgement::{Judgement, Outcome, PostAs, Standing};
use super::order::Place;
use crate::money::Currency;
use crate::policy::Discounts;
use crate::review::{CaseKey, CaseType, subject};
use crate::transaction::{
    Basket, Body, CashMovement, DayClose, DecisionAction, HubRecord, Kind, Line, LineFlag, Settlement,
    TenderType,
};

/// Largest amount a hub record or a day close may post; what they state has no limit of its own.
const STATED_LIMIT: i128 = 1_000_000_000_000_000_000;

impl Judgement<'_> {
    /// Stage H for every record with lines and tenders.
    pub(crate) fn postings(&mut self) -> Vec<(Slot, Outcome)> {
        let mut outcomes = Vec::with_capacity(self.order.len());
        for at in 0..self.order.len() {
            let (Place { rank, ms, .. }, slot) = self.order[at];
            let (sheet, difference) = self.sheet(slot);
            self.find_difference(slot, difference);
            let fate = &self.fates[&slot];
            let standing = match fate.post_as {
                Some(PostAs::Suspense) | None => Standing::InReview,
                Some(PostAs::Nothing) => Standing::Removed,
                Some(_) => Standing::Posted,
            };
            let undone = self.voided_by.contains_key(&slot) || self.followed_by.contains_key(&slot);
            let twin_ok = fate.stands() && !undone;
            let netted = self.followed_by.contains_key(&slot);
            let postings = sheet.postings().into_boxed_slice();
            outcomes.push((slot, Outcome { standing, postings, twin_ok, netted, rank, ms }));
        }
        outcomes
    }

    /// What the record posts, and what its tenders leave unexplained where it is posted as itself.
    fn sheet(&self, slot: Slot) -> (Sheet, Option<i128>) {
        let post_as = self.fates[&slot].post_as.clone().unwrap_or(PostAs::Suspense);
        if post_as == PostAs::Nothing {
            return (Sheet::default(), None);
        }
        let mut sheet = self.money_side(slot);
        let mut unexplained = None;
        match self.reason_account(slot, &post_as) {
            Some(account) => {
                for (currency, sum) in sheet.sums() {
                    sheet.add(account.clone(), currency, -sum);
                }
            }
            None => {
                self.reason_side(&mut sheet, slot, post_as == PostAs::Refund);
                let sums = sheet.sums();
                unexplained = (post_as == PostAs::Itself).then(|| self.in_own_currency(slot, &sums));
                for (currency, sum) in sums {
                    sheet.add(self.difference_account(slot), currency, -sum);
                }
            }
        }
        (sheet, unexplained)
    }

    /// Every tender, whatever is thought of the record (P2).
    fn money_side(&self, slot: Slot) -> Sheet {
        let mut sheet = Sheet::default();
        let record = self.facts.record(slot);
        let Some(basket) = record.transaction.basket() else { return sheet };
        let direction = i128::from(self.facts.direction(slot));
        for tender in &basket.tenders {
            let currency = tender.currency.unwrap_or(basket.currency);
            for (account, amount) in self.parts(slot, tender) {
                sheet.add(account, currency, direction * i128::from(amount));
            }
            if tender.tender == TenderType::Card && self.relieved(slot, tender) {
                relieve_tax(&mut sheet, basket, tender.amount_minor, currency);
            }
        }
        sheet
    }

    /// The one account that explains a record which is not posted as what it is.
    fn reason_account(&self, slot: Slot, post_as: &PostAs) -> Option<Account> {
        match post_as {
            PostAs::Suspense => Some(match self.facts.record(slot).transaction.kind() {
                Kind::Refund => Account::SuspenseRefunds,
                Kind::Void => Account::SuspenseVoids,
                _ => Account::SuspenseSales,
            }),
            PostAs::Explained(account) => Some(account.clone()),
            PostAs::Following(target) => {
                let held =
                    self.fates.get(target).and_then(|fate| fate.post_as.clone()).unwrap_or(PostAs::Suspense);
                self.reason_account(*target, &held)
            }
            PostAs::Itself | PostAs::Refund | PostAs::Nothing => None,
        }
    }

    /// Sales, returns, tax, tips and rounding. A void mirrors what its original posted.
    fn reason_side(&self, sheet: &mut Sheet, slot: Slot, as_refund: bool) {
        let record = self.facts.record(slot);
        let mirrored = self.void_target(slot).filter(|target| *target != slot);
        let basket = mirrored
            .and_then(|target| self.facts.record(target).transaction.basket())
            .or_else(|| record.transaction.basket());
        let Some(basket) = basket else { return };
        let direction = i128::from(self.facts.direction(slot));
        let returns = as_refund
            || match (record.transaction.kind(), mirrored) {
                (Kind::Void, Some(target)) => self.facts.record(target).transaction.kind() == Kind::Refund,
                (Kind::Void, None) => direction > 0,
                (kind, _) => kind == Kind::Refund,
            };
        let contra = self.facts.policy(mirrored.unwrap_or(slot)).discounts == Discounts::Contra;
        for line in &basket.lines {
            let account = match line.flag {
                LineFlag::GiftCardSold => Account::GiftCards,
                LineFlag::ReturnInSale => Account::Returns,
                LineFlag::Item | LineFlag::LineVoid if returns => Account::Returns,
                LineFlag::Item | LineFlag::LineVoid => Account::Sales,
            };
            let (gross, tax) = (i128::from(line.gross_minor()), i128::from(line.tax_minor));
            let discount = if contra && account == Account::Sales { list_discount(line) } else { 0 };
            sheet.add(Account::Discounts, basket.currency, direction * discount);
            sheet.add(account, basket.currency, -direction * (gross - tax + discount));
            sheet.add(Account::tax(line.tax_code.as_deref()), basket.currency, -direction * tax);
        }
        sheet.add(Account::Tips, basket.currency, -direction * i128::from(basket.tip_minor));
        if self.rounding_fits(mirrored.unwrap_or(slot), basket) {
            sheet.add(Account::CashRounding, basket.currency, -direction * i128::from(basket.rounding_minor));
        }
    }

    /// Rounding is one only up to half a cash unit, and if cash was paid (section 2.7).
    fn rounding_fits(&self, slot: Slot, basket: &Basket) -> bool {
        let cash = basket.tenders.iter().any(|tender| tender.tender == TenderType::Cash);
        let limit = self.facts.policy(slot).rounding_limit_minor(basket.currency);
        basket.rounding_minor == 0 || (cash && basket.rounding_minor.abs() <= limit)
    }

    /// Where a difference goes: to suspense, or to what a reviewer classified it as (a void follows its original).
    fn difference_account(&self, slot: Slot) -> Account {
        let own = self.facts.classified(slot);
        let original = || self.void_target(slot).and_then(|target| self.facts.classified(target));
        own.or_else(original).unwrap_or(Account::SuspenseDifferences)
    }

    /// What the tenders of a record leave unexplained, in its currency.
    fn difference(&self, slot: Slot) -> i128 {
        let mut sheet = self.money_side(slot);
        self.reason_side(&mut sheet, slot, false);
        self.in_own_currency(slot, &sheet.sums())
    }

    fn in_own_currency(&self, slot: Slot, sums: &BTreeMap<Currency, i128>) -> i128 {
        let currency = self.facts.record(slot).transaction.basket().map(|basket| basket.currency);
        currency.and_then(|currency| sums.get(&currency).copied()).unwrap_or(0)
    }

    /// `TENDER_MISMATCH`: posted with a difference that is not just the mirror of the original's.
    fn find_difference(&mut self, slot: Slot, known: Option<i128>) {
        if !self.fates[&slot].stands() {
            return;
        }
        let difference = known.unwrap_or_else(|| self.difference(slot));
        let original = self.void_target(slot).filter(|target| *target != slot);
        let mirrored = original.map_or(0, |target| self.difference(target));
        let basket = self.facts.record(slot).transaction.basket();
        let off = |basket: &&Basket| {
            difference + mirrored != 0 || (original.is_none() && self.misstated(slot, basket))
        };
        if let Some(basket) = basket.filter(off) {
            let key = CaseKey::new(CaseType::TenderMismatch, subject::record(&self.facts.record(slot).id));
            let draft = self.draft(key);
            draft.members.insert(slot);
            draft.amount = Some((difference, basket.currency));
        }
    }

    /// Σ tenders ≠ total + rounding + tip as stated, even where a rounding that is none hides it from the postings.
    fn misstated(&self, slot: Slot, basket: &Basket) -> bool {
        let own = basket.tenders.iter().filter(|one| one.currency.is_none_or(|own| own == basket.currency));
        let paid: i128 = own.map(|tender| i128::from(tender.amount_minor)).sum();
        let owed = [basket.total_minor(), basket.rounding_minor, basket.tip_minor].map(i128::from);
        paid != owed.iter().sum::<i128>() || !self.rounding_fits(slot, basket)
    }

    /// Cash movements, day closes and what the hub states.
    pub(crate) fn other_record(&mut self, slot: Slot) -> Outcome {
        let facts = self.facts;
        let mut sheet = Sheet::default();
        let mut standing = Standing::Posted;
        let holds = facts.integrity_holds(slot);
        let disposed: Vec<_> =
            holds.iter().filter_map(|hold| facts.disposition(&hold.key, slot, hold.reason)).collect();
        let held = holds.len() > disposed.len();
        let removed = facts.ruling(slot, &holds) == Some(crate::review::Disposition::Remove);
        if facts.record(slot).transaction.kind() != Kind::Hub {
            self.note_late(slot);
        }
        match &facts.record(slot).transaction.body {
            _ if removed => standing = Standing::Removed,
            Body::CashMove { movement, amount_minor, currency, .. } => {
                standing = if held { Standing::InReview } else { Standing::Posted };
                self.cash_move(&mut sheet, slot, *movement, (i128::from(*amount_minor), *currency), held);
            }
            Body::DayClose(close) if !held => {
                self.judge_close(slot, close);
                facts.over_short(&mut sheet, slot, close);
            }
            Body::DayClose(_) => standing = Standing::InReview,
            Body::Hub(HubRecord::Settlement(settlement)) => settle(&mut sheet, settlement),
            _ => standing = Standing::NotPosted,
        }
        let Place { rank, ms, .. } = facts.place(slot);
        let postings = sheet.postings().into_boxed_slice();
        Outcome { standing, postings, twin_ok: false, netted: false, rank, ms }
    }

    fn cash_move(
        &mut self,
        sheet: &mut Sheet,
        slot: Slot,
        movement: CashMovement,
        (amount, currency): (i128, Currency),
        held: bool,
    ) {
        let record = self.facts.record(slot);
        let into_drawer = matches!(movement, CashMovement::Float | CashMovement::PaidIn);
        let signed = if into_drawer { amount } else { -amount };
        let reason = match &record.transaction.body {
            Body::CashMove { reason, .. } => {
                reason.as_deref().and_then(|reason| reason.parse::<Account>().ok())
            }
            _ => None,
        };
        let against = match movement {
            _ if held => Account::SuspenseDifferences,
            CashMovement::Float | CashMovement::Pickup => Account::Safe(self.facts.store.clone()),
            CashMovement::PaidIn | CashMovement::PaidOut => {
                let explained = self.facts.classified(slot).or(reason.clone());
                if reason.is_none() && amount != 0 {
                    let key = CaseKey::new(CaseType::TenderMismatch, subject::record(&record.id));
                    let draft = self.draft(key);
                    draft.members.insert(slot);
                    draft.amount = Some((amount, currency));
                }
                explained.unwrap_or(Account::SuspenseDifferences)
            }
        };
        sheet.add(Account::Drawer(record.log.terminal.clone()), currency, signed);
        sheet.add(against, currency, -signed);
    }
}

impl Facts {
    /// The account that a reviewer gave a difference.
    fn classified(&self, slot: Slot) -> Option<Account> {
        let key = CaseKey::new(CaseType::TenderMismatch, subject::record(&self.record(slot).id));
        let mut decisions = self.hub.decisions.on(&key).filter(|issued| self.applies_to(issued, slot));
        decisions.find_map(|issued| match issued.decision.action {
            DecisionAction::Classify => issued.decision.parameter.as_deref()?.parse().ok(),
            _ => None,
        })
    }

    /// Counted against expected cash of a day close.
    fn over_short(&self, sheet: &mut Sheet, slot: Slot, close: &DayClose) {
        let drawer = Account::Drawer(self.record(slot).log.terminal.clone());
        for totals in &close.totals {
            let counted = i128::from(totals.counted_cash_minor) - i128::from(totals.expected_cash_minor);
            let difference = counted.clamp(-STATED_LIMIT, STATED_LIMIT);
            sheet.add(drawer.clone(), totals.currency, difference);
            sheet.add(Account::CashOverShort, totals.currency, -difference);
        }
        // A close that names a currency many times must not add up beyond 64 bits.
        if sheet.iter().any(|(_, _, amount)| i64::try_from(amount).is_err()) {
            *sheet = Sheet::default();
        }
    }
}

fn settle(sheet: &mut Sheet, settlement: &Settlement) {
    let sum: i128 = settlement.payments.iter().map(|settled| i128::from(settled.amount_minor)).sum();
    let gross = sum.clamp(-STATED_LIMIT, STATED_LIMIT);
    let fees = i128::from(settlement.fees_minor).clamp(-STATED_LIMIT, STATED_LIMIT);
    sheet.add(Account::BankSettlement, settlement.currency, gross - fees);
    sheet.add(Account::CardFees, settlement.currency, fees);
    sheet.add(Account::CardClearing, settlement.currency, -gross);
}

/// The discount of an item, net of its share of the line's tax: what the sale at list price is more (section 7).
fn list_discount(line: &Line) -> i128 {
    let (discount, gross) = (i128::from(line.discount_minor), i128::from(line.gross_minor()));
    if discount <= 0 || line.flag != LineFlag::Item {
        return 0;
    }
    if line.adjustment.tax_exclusive {
        return discount;
    }
    match line.tax_rate {
        _ if gross > 0 => {
            let net = gross - i128::from(line.tax_minor);
            (2 * discount * net + gross).div_euclid(2 * gross)
        }
        // Given away: only the rate tells the tax that the list price would have held.
        Some(rate) => discount - i128::from(rate.tax_in_gross(line.discount_minor)),
        None => discount,
    }
}

/// Tax relief on a bad debt: the tax of the share of the basket that this tender should have paid, per tax code.
fn relieve_tax(sheet: &mut Sheet, basket: &Basket, tender_minor: i64, currency: Currency) {
    let (paid, total) = (i128::from(tender_minor), i128::from(basket.total_minor()));
    if total <= 0 {
        return;
    }
    let mut by_code: BTreeMap<Option<&str>, i128> = BTreeMap::new();
    for line in &basket.lines {
        *by_code.entry(line.tax_code.as_deref()).or_insert(0) += i128::from(line.tax_minor);
    }
    for (code, tax) in by_code {
        let share = i128::from(clamp((2 * tax * paid.min(total) + total).div_euclid(2 * total)));
        sheet.add(Account::tax(code), currency, share);
        sheet.add(Account::BadDebt, currency, -share);
    }
}
