//! What remains of a sale: each line's quantity, amount and tax, and what a return takes of it. It matches lines and
//! reckons; whether a return is accepted is decided in `reversals`.

use super::families::Slot;
use super::judgement::{Judgement, Take};
use crate::transaction::{Line, LineFlag};

/// What is left of a line, or a part of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct LineLeft {
    pub(crate) number: u32,
    pub(crate) sku: String,
    pub(crate) quantity: i64,
    pub(crate) amount_minor: i128,
    pub(crate) tax_minor: i128,
}

impl LineLeft {
    fn of(line: &Line) -> Self {
        Self {
            number: line.number,
            sku: line.sku.clone(),
            quantity: line.quantity.0,
            amount_minor: i128::from(line.gross_minor()).abs(),
            tax_minor: i128::from(line.tax_minor).abs(),
        }
    }

    fn holds(&self, part: &Self) -> bool {
        self.quantity >= part.quantity
            && self.amount_minor >= part.amount_minor
            && self.tax_minor >= part.tax_minor
    }

    fn take(&mut self, part: &Self) {
        self.quantity = self.quantity.saturating_sub(part.quantity);
        self.amount_minor -= part.amount_minor;
        self.tax_minor -= part.tax_minor;
    }

    fn give_back(&mut self, part: &Self) {
        self.quantity = self.quantity.saturating_add(part.quantity);
        self.amount_minor += part.amount_minor;
        self.tax_minor += part.tax_minor;
    }

    fn not_below_nothing(&mut self) {
        (self.quantity, self.amount_minor, self.tax_minor) =
            (self.quantity.max(0), self.amount_minor.max(0), self.tax_minor.max(0));
    }

    fn empty(&mut self) {
        (self.quantity, self.amount_minor, self.tax_minor) = (0, 0, 0);
    }
}

/// Why a line cannot be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum NoTake {
    /// The sale has no such line.
    NoSuchLine,
    /// More than remains.
    TooMuch,
}

/// What a sale offers to be returned: its items, less what was reversed before tender.
fn sold(lines: &[Line]) -> Vec<LineLeft> {
    let items = lines.iter().filter(|line| matches!(line.flag, LineFlag::Item | LineFlag::GiftCardSold));
    let mut left: Vec<LineLeft> = items.map(LineLeft::of).collect();
    for reversed in lines.iter().filter(|line| line.flag == LineFlag::LineVoid).map(LineLeft::of) {
        let of_item = |line: &LineLeft| line.sku == reversed.sku;
        let whole = left.iter().position(|line| of_item(line) && line.holds(&reversed));
        // A till may print another tax or amount on the reversal: the goods did not leave the shop all the same.
        if let Some(at) = whole.or_else(|| left.iter().position(of_item)) {
            left[at].take(&reversed);
            left[at].not_below_nothing();
        }
    }
    left
}

impl Judgement<'_> {
    /// What remains of a sale, as it was sold if nothing was returned yet.
    fn remaining(&mut self, target: Slot) -> &mut Vec<LineLeft> {
        let facts = self.facts;
        self.remaining.entry(target).or_insert_with(|| match facts.foreign_sale(target) {
            Some(sale) => sold(&sale.lines),
            None => facts
                .record(target)
                .transaction
                .basket()
                .map(|basket| sold(&basket.lines))
                .unwrap_or_default(),
        })
    }

    /// Tries what a returned line takes of a sale, given what the same record has taken before.
    pub(crate) fn try_take(&mut self, target: Slot, line: &Line, before: &[Take]) -> Result<Take, NoTake> {
        let mut left = self.remaining(target).clone();
        for take in before.iter().filter(|take| take.target == target) {
            left[take.line].take(&take.part);
        }
        let at = match_line(&left, line).ok_or(NoTake::NoSuchLine)?;
        let part = LineLeft::of(line);
        if left[at].holds(&part) { Ok(Take { target, line: at, part }) } else { Err(NoTake::TooMuch) }
    }

    /// Uses up what a return takes.
    pub(crate) fn use_up(&mut self, by: Slot, takes: Vec<Take>) {
        for take in &takes {
            self.remaining(take.target)[take.line].take(&take.part);
            let reversals = self.reversals.entry(take.target).or_default();
            if !reversals.contains(&by) {
                reversals.push(by);
            }
        }
        self.takes.insert(by, takes);
    }

    /// Gives back what a return had taken.
    pub(crate) fn free(&mut self, by: Slot) {
        for take in self.takes.remove(&by).unwrap_or_default() {
            if !self.voided_by.contains_key(&take.target) {
                self.remaining(take.target)[take.line].give_back(&take.part);
            }
            if let Some(reversals) = self.reversals.get_mut(&take.target) {
                reversals.retain(|other| *other != by);
            }
        }
    }

    /// Nothing of a voided sale can be returned.
    pub(crate) fn exhaust(&mut self, target: Slot) {
        self.remaining(target).iter_mut().for_each(LineLeft::empty);
    }
}

/// The line of the sale that a returned line means: the one it names; else that with the same number and item; else
/// the first of the item with something left (or the first at all, which is then too much).
fn match_line(left: &[LineLeft], line: &Line) -> Option<usize> {
    if let Some(named) = line.original.as_ref().and_then(|original| original.line) {
        return left.iter().position(|sold| sold.number == named);
    }
    let of_item = |sold: &&LineLeft| sold.sku == line.sku;
    let same = left.iter().position(|sold| sold.number == line.number && of_item(&sold));
    let with_rest = || left.iter().position(|sold| of_item(&sold) && sold.quantity > 0);
    same.or_else(with_rest).or_else(|| left.iter().position(|sold| of_item(&sold)))
}
