//! The books beside the tills' Z reports, figure by figure (LEDGER-RULES section 15, reconciliation error rate). It
//! compares only; what a difference means is told by cases.

use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::account::Account;
use super::books::Books;
use super::families::Slot;
use super::judgement::Standing;
use super::log::Log;
use crate::ids::{LogId, RecordId};
use crate::kpi::Cell;
use crate::money::Currency;
use crate::time::Day;
use crate::transaction::{Body, DayClose, Kind, LineFlag};

impl Books {
    /// Figures of every Z of some days beside those of the books: net money by tender, tax by code. Records that are (or
    /// were) under review may account for a difference.
    pub(crate) fn z_cells(&self, days: (Day, Day)) -> BTreeMap<LogId, Vec<Cell>> {
        let mut cells: BTreeMap<LogId, Vec<Cell>> = BTreeMap::new();
        let of_days = self.facts.days.slots(days.0..=days.1);
        let closes = self.facts.logs.values().flat_map(Log::close_slots);
        let mut closes: Vec<Slot> = closes.filter(|slot| of_days.binary_search(slot).is_ok()).collect();
        closes.sort_unstable();
        // Every case there ever was: looked through only where a figure differs.
        let doubtful = LazyCell::new(|| -> BTreeSet<RecordId> {
            self.cases().flat_map(|case| case.members.iter().copied()).collect()
        });
        for slot in closes {
            let record = Arc::clone(self.facts.record(slot));
            if let Body::DayClose(close) = &record.transaction.body {
                let of_close = self.cells_of(slot, close, &|id| doubtful.contains(id));
                cells.entry(record.log.clone()).or_default().extend(of_close);
            }
        }
        cells
    }

    /// `is_doubtful`: of what is or was under review.
    fn cells_of(&self, slot: Slot, close: &DayClose, is_doubtful: &dyn Fn(&RecordId) -> bool) -> Vec<Cell> {
        let Some((first, last)) = close.covers else { return Vec::new() };
        let record = self.facts.record(slot);
        let covered = self.facts.covered(&record.log, self.facts.predecessor(slot), first);
        let covered: Vec<Slot> =
            covered.into_iter().filter(|slot| self.facts.record(*slot).seq <= last).collect();
        let accounts_for = |slot: Slot| {
            let record = self.facts.record(slot);
            // The void of a sale that is held goes where the sale went.
            let follows = record.transaction.original().filter(|_| record.transaction.kind() == Kind::Void);
            let sale = follows.and_then(|reference| self.resolve(reference));
            is_doubtful(&record.id) || sale.is_some_and(|sale| is_doubtful(&sale))
        };
        let mut cells = Vec::new();
        for totals in &close.totals {
            let stated =
                totals.tenders.iter().map(|(tender, minor)| (format!("tender {}", tender.as_str()), *minor));
            let tax =
                totals.tax.iter().map(|(code, minor)| (format!("tax {code}").trim_end().to_owned(), *minor));
            for (name, control_minor) in stated.chain(tax) {
                let mut cell = Cell {
                    day: record.business_day,
                    name,
                    currency: totals.currency,
                    control_minor,
                    ledger_minor: 0,
                    explained: true,
                };
                for slot in &covered {
                    let (said, posted) = self.share(*slot, &cell.name, totals.currency);
                    cell.ledger_minor = cell.ledger_minor.saturating_add(posted);
                    cell.explained &= said == posted || accounts_for(*slot);
                }
                let said: i128 = covered
                    .iter()
                    .map(|slot| i128::from(self.share(*slot, &cell.name, totals.currency).0))
                    .sum();
                // What the till stated and its own records do not say, no case explains.
                cell.explained &= said == i128::from(control_minor);
                cells.push(cell);
            }
        }
        cells
    }

    /// What a record says of a figure, and what the books have of it.
    fn share(&self, slot: Slot, name: &str, currency: Currency) -> (i64, i64) {
        let record = self.facts.record(slot);
        let Some(basket) = record.transaction.basket().filter(|basket| basket.currency == currency) else {
            return (0, 0);
        };
        let own =
            self.facts.close_totals(&[slot], None).remove(&currency).unwrap_or_default().close(currency);
        let said = match name.strip_prefix("tender ") {
            Some(tender) => own.tenders.iter().filter(|row| row.0.as_str() == tender).map(|row| row.1).sum(),
            None => own
                .tax
                .iter()
                .filter(|row| format!("tax {}", row.0).trim_end() == name)
                .map(|row| row.1)
                .sum(),
        };
        let postings = self.outcomes.get(slot).map_or(&[][..], |outcome| &outcome.postings);
        let on = |account: &Account| match name.strip_prefix("tender ") {
            Some("cash") => matches!(account, Account::Drawer(_)),
            Some("card") => matches!(
                account,
                Account::CardClearing
                    | Account::OfflinePending
                    | Account::DeclinedCards
                    | Account::SuspensePayments
                    | Account::CustomerRefundsDue
            ),
            Some("gift_card") => *account == Account::GiftCards,
            Some("store_credit") => *account == Account::StoreCredit,
            Some("coupon") => *account == Account::CouponsReceivable,
            Some(_) => *account == Account::OtherTender,
            None => {
                matches!(account, Account::SalesTax(code) if format!("tax {}", code.as_deref().unwrap_or("")).trim_end() == name)
            }
        };
        let sum: i64 = postings
            .iter()
            .filter(|posting| posting.currency == currency && on(&posting.account))
            .fold(0, |sum, posting| sum.saturating_add(posting.amount_minor));
        let sold: i64 = if name == "tender gift_card"
            && self.outcomes.get(slot).is_some_and(|it| it.standing == Standing::Posted)
        {
            let lines = basket.lines.iter().filter(|line| line.flag == LineFlag::GiftCardSold);
            lines
                .map(crate::transaction::Line::gross_minor)
                .sum::<i64>()
                .saturating_mul(self.facts.direction(slot))
        } else {
            0
        };
        if name.starts_with("tax") { (said, -sum) } else { (said, sum.saturating_add(sold)) }
    }
}
