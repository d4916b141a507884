//! Stage G: what is posted and still worth a look. An advisory never changes a posting.

use super::facts::Facts;
use super::families::Slot;
use super::judgement::Judgement;
use crate::money::line_amount;
use crate::review::{Case, CaseKey, CaseType, subject};
use crate::transaction::{Basket, Kind, Line, LineFlag};

impl Judgement<'_> {
    /// Stage G for records with lines and tenders.
    pub(crate) fn advisories(&mut self) {
        for slot in self.in_order() {
            let facts = self.facts;
            let record = facts.record(slot);
            let Some(basket) = record.transaction.basket() else { continue };
            let stands = self.fates[&slot].stands();
            let refund = record.transaction.kind() == Kind::Refund;
            self.note_late(slot);
            let findings = [
                (CaseType::RefundOtherTender, stands && refund && self.paid_back_otherwise(slot, basket)),
                (CaseType::RefundWindow, stands && refund && self.after_window(slot)),
                (CaseType::LineArithmetic, basket.lines.iter().any(line_is_off)),
                (CaseType::TaxArithmetic, basket.lines.iter().any(tax_is_off)),
            ];
            for (case_type, found) in findings {
                if found {
                    let key = CaseKey::new(case_type, subject::record(&record.id));
                    self.draft(key).members.insert(slot);
                }
            }
        }
    }

    /// `LATE_RECORD`: a lock had closed the day before the record came. Cash movements and day closes are posted to the
    /// open day like everything else, so they are named as well.
    pub(crate) fn note_late(&mut self, slot: Slot) {
        let facts = self.facts;
        let record = facts.record(slot);
        if facts.hub.is_late(record.business_day, facts.entry(slot).lock) {
            let key = CaseKey::new(CaseType::LateRecord, subject::record(&record.id));
            self.draft(key).members.insert(slot);
        }
    }

    /// A refund by a tender type that none of its sales had.
    fn paid_back_otherwise(&self, slot: Slot, basket: &Basket) -> bool {
        let targets = self.facts.targets(slot);
        let tenders_of = |target: &Slot| match self.facts.foreign_sale(*target) {
            Some(sale) => sale.tenders.clone(),
            None => self
                .facts
                .record(*target)
                .transaction
                .basket()
                .map(|sold| sold.tenders.clone())
                .unwrap_or_default(),
        };
        let paid: Vec<_> = targets.iter().flat_map(tenders_of).map(|tender| tender.tender).collect();
        !targets.is_empty() && basket.tenders.iter().any(|tender| !paid.contains(&tender.tender))
    }

    fn after_window(&self, slot: Slot) -> bool {
        let window = i64::from(self.facts.policy(slot).refund_window_days);
        let day = i64::from(self.facts.record(slot).business_day.0);
        self.facts.targets(slot).into_iter().any(|target| {
            let sold = self
                .facts
                .foreign_sale(target)
                .map_or(self.facts.record(target).business_day, |sale| sale.business_day);
            day - i64::from(sold.0) > window
        })
    }
}

/// Price times quantity differs from the amount by more than one minor unit.
fn line_is_off(line: &Line) -> bool {
    let Some(price) = line.unit_price_minor else { return false };
    let sign = if matches!(line.flag, LineFlag::ReturnInSale | LineFlag::LineVoid) { -1 } else { 1 };
    let product = i128::from(price) * i128::from(line.quantity.0) / 10_000;
    // Far outside the limits of an amount the product alone says enough.
    if product.abs() > i128::from(crate::money::AMOUNT_LIMIT_MINOR) * 4 {
        return true;
    }
    let expected = sign * line_amount(price, line.quantity, line.discount_minor);
    (i128::from(expected) - i128::from(line.amount_minor)).abs() > 1
}

fn tax_is_off(line: &Line) -> bool {
    let Some(rate) = line.tax_rate else { return false };
    let amount = line.amount_minor.abs();
    let expected =
        if line.adjustment.tax_exclusive { rate.tax_on_net(amount) } else { rate.tax_in_gross(amount) };
    (i128::from(expected) - i128::from(line.tax_minor.abs())).abs() > 1
}

impl Facts {
    /// Time runs backwards in the log or before something the till had seen, or the business day is not near.
    pub(crate) fn clock_is_skewed(&self, slot: Slot) -> bool {
        let record = self.record(slot);
        let tolerance = self.policy(slot).clock_tolerance_ms;
        let behind = |ms: i64| ms.saturating_sub(record.at.ms) > tolerance;
        let before = self.predecessor(slot).map(|before| self.record(before));
        let after_predecessor = before.is_some_and(|before| behind(before.at.ms));
        // Capture raised the time beyond clock and predecessor: so much was the till behind something it had seen.
        let known_ms = before.map_or(i64::MIN, |before| before.effective_ms);
        let raised = record.effective_ms > record.at.ms && record.effective_ms > known_ms;
        let first_or_follows = record.seq == 1 || before.is_some();
        let after_seen = raised && first_or_follows && behind(record.effective_ms.saturating_sub(1));
        let off_day = (i64::from(record.business_day.0) - i64::from(record.at.day().0)).abs() > 1;
        after_predecessor || after_seen || off_day
    }

    /// `SUSPECTED_DUPLICATE` of a record with one before it in the order K, if neither is held nor undone.
    pub(crate) fn suspect(
        &self,
        slot: Slot,
        is_twin: impl Fn(Slot) -> bool,
        same_key: impl Fn(Slot) -> bool,
    ) -> Option<Case> {
        if !is_twin(slot) {
            return None;
        }
        let window = self.policy(slot).duplicate_window_ms;
        let mut twins = self.twins(slot, window);
        twins.retain(|other| is_twin(*other) && !same_key(*other));
        if twins.is_empty() {
            return None;
        }
        let place = self.place(slot);
        let earlier = twins.into_iter().map(|other| (self.place(other), other));
        let (_, first) = earlier.filter(|other| other.0 < place).max()?;
        let draft = super::casework::Draft { members: [slot, first].into(), ..Default::default() };
        Some(self.finish_case(self.suspect_key(slot), draft))
    }

    /// The key of a record's suspected duplicate.
    pub(crate) fn suspect_key(&self, slot: Slot) -> CaseKey {
        CaseKey::new(CaseType::SuspectedDuplicate, subject::record(&self.record(slot).id))
    }
}
