//! What happens in the shops, thought up from a seed: rush hours, baskets of several lines, tips, split payments, cards
//! taken offline, partial refunds at other tills, exchanges, post-voids, closes; and mischief of a known kind.

use crate::chance::Chance;
use crate::scenario::{Item, Paid, Timed, Trade, What};

/// A day, ms.
pub const DAY_MS: i64 = 86_400_000;
/// What a cashier may pay back alone, minor units, if no policy says otherwise.
const REFUND_LIMIT_MINOR: i64 = 10_000;
/// Shops are open so long from 08:00, ms.
const OPEN_MS: i64 = 12 * 3_600_000;

/// A sale that was thought up, for what refers to it.
struct Planned {
    receipt: String,
    till: usize,
    at_ms: i64,
    pieces: i64,
    touched: bool,
}

struct Thinker<'a> {
    tills: &'a [String],
    chance: Chance,
    happens: Vec<Timed>,
    sales: Vec<Planned>,
    numbers: u64,
}

/// The trade of some days.
#[must_use]
pub fn think_up(seed: u64, tills: &[String], days: u64, trade: &Trade) -> Vec<Timed> {
    let mut thinker = Thinker {
        tills,
        chance: Chance::new(seed, "trade"),
        happens: Vec::new(),
        sales: Vec::new(),
        numbers: 0,
    };
    for day in 0..days {
        let opens_ms = i64::try_from(day).unwrap_or(0) * DAY_MS;
        for (till, name) in tills.iter().enumerate() {
            thinker.open(till, opens_ms);
            let count = thinker.chance.between(1, i64::try_from(trade.transactions * 2).unwrap_or(2).max(1));
            for _ in 0..count {
                thinker.something(till, opens_ms, trade);
            }
            if trade.closes {
                let at_ms = opens_ms + OPEN_MS + thinker.chance.between(300_000, 1_500_000);
                let (till, receipt) = (name.clone(), thinker.number("Z"));
                thinker.put(at_ms, What::Close { till, receipt });
            }
        }
    }
    thinker.fair(seed, days);
    thinker.happens
}

impl Thinker<'_> {
    fn put(&mut self, at_ms: i64, what: What) {
        self.happens.push(Timed { at_ms, what });
    }

    fn number(&mut self, letter: &str) -> String {
        self.numbers += 1;
        format!("{letter}{}", self.numbers)
    }

    fn open(&mut self, till: usize, opens_ms: i64) {
        let (till, receipt) = (self.tills[till].clone(), self.number("M"));
        self.put(opens_ms + 60_000, What::Cash { till, receipt, amount_minor: 10_000 });
    }

    /// In some runs a till has a day on which it records more than a page of its document holds.
    fn fair(&mut self, seed: u64, days: u64) {
        let mut chance = Chance::new(seed, "fair");
        if !chance.once_in(4) {
            return;
        }
        let till = chance.pick(self.tills).clone();
        let day = i64::try_from(chance.below(days.max(1))).unwrap_or(0);
        let opens_ms = day * DAY_MS + chance.between(3_600_000, OPEN_MS - 3_600_000);
        for number in 0..chance.between(140, 170) {
            let receipt = format!("F{number}");
            self.put(
                opens_ms + number * 6_000,
                What::Cash { till: till.clone(), receipt, amount_minor: 100 },
            );
        }
    }

    /// A moment of the day: twice as likely in the two rush hours around noon and evening.
    fn moment(&mut self, opens_ms: i64) -> i64 {
        let rush = [4 * 3_600_000, 9 * 3_600_000];
        let at = if self.chance.once_in(2) {
            *self.chance.pick(&rush) + self.chance.between(0, 3_600_000)
        } else {
            self.chance.between(120_000, OPEN_MS - 600_000)
        };
        opens_ms + at
    }

    fn something(&mut self, till: usize, opens_ms: i64, trade: &Trade) {
        let at_ms = self.moment(opens_ms);
        match self.chance.below(20) {
            0..=14 => self.sale(till, at_ms, opens_ms, trade),
            15 | 16 => self.refund(till, at_ms),
            17 => self.exchange(till, at_ms),
            18 => self.sale_and_void(till, at_ms),
            _ => {
                let (till, receipt) = (self.tills[till].clone(), self.number("M"));
                let amount_minor = -self.chance.between(1, 40) * 100;
                self.put(at_ms, What::Cash { till, receipt, amount_minor });
            }
        }
    }

    fn ring(&mut self, till: usize, at_ms: i64, key: Option<String>) -> usize {
        let lines = self.chance.between(1, 4);
        let items: Vec<Item> = (0..lines)
            .map(|_| Item {
                pieces: self.chance.between(1, 4),
                price_minor: self.chance.between(10, 600) * 6,
            })
            .collect();
        let paid = *self.chance.pick(&[
            Paid::Cash,
            Paid::Cash,
            Paid::Card,
            Paid::Card,
            Paid::Card,
            Paid::Split,
            Paid::OfflineCard,
        ]);
        let tip_minor = if self.chance.once_in(12) { self.chance.between(1, 300) } else { 0 };
        let receipt = self.number("R");
        let pieces = items[0].pieces;
        if paid == Paid::OfflineCard {
            let outcome_ms = at_ms + self.chance.between(60_000, 8 * 3_600_000);
            let approved = !self.chance.once_in(6);
            self.put(outcome_ms, What::Outcome { of: receipt.clone(), approved });
        }
        let sale = What::Sale {
            till: self.tills[till].clone(),
            receipt: receipt.clone(),
            items,
            paid,
            key,
            tip_minor,
        };
        self.put(at_ms, sale);
        self.sales.push(Planned { receipt, till, at_ms, pieces, touched: false });
        self.sales.len() - 1
    }

    fn sale(&mut self, till: usize, at_ms: i64, opens_ms: i64, trade: &Trade) {
        let mischief = self.chance.below(100) < trade.mischief_percent;
        if !mischief {
            self.ring(till, at_ms, None);
            return;
        }
        let latest_ms = opens_ms + OPEN_MS - 60_000;
        let later = |chance: &mut Chance| {
            (at_ms + chance.between(60_000, 5_400_000)).min(latest_ms.max(at_ms + 1_000))
        };
        let other = usize::try_from(self.chance.below(self.tills.len() as u64)).unwrap_or(0);
        if self.chance.once_in(4) {
            // One basket rung at two tills: the handheld lost its connection, the clerk took another.
            let key = Some(self.number("K"));
            let first = self.ring(till, at_ms, key.clone());
            self.sales[first].touched = true;
            if other != till {
                let again_ms = later(&mut self.chance);
                let again = self.ring(other, again_ms, key);
                self.sales[again].touched = true;
            }
            return;
        }
        let sale = self.ring(till, at_ms, None);
        self.sales[sale].touched = true;
        let (of, pieces) = (self.sales[sale].receipt.clone(), self.sales[sale].pieces);
        let first_ms = later(&mut self.chance);
        let second_ms = later(&mut self.chance);
        let kinds = self.chance.below(3);
        let void = |thinker: &mut Self, till: usize, at_ms: i64| {
            let (till, receipt) = (thinker.tills[till].clone(), thinker.number("V"));
            thinker.put(at_ms, What::Void { till, receipt, of: of.clone() });
        };
        let refund = |thinker: &mut Self, till: usize, at_ms: i64, pieces: i64, unapproved: bool| {
            let (till, receipt) = (thinker.tills[till].clone(), thinker.number("B"));
            thinker.put(at_ms, What::Refund { till, receipt, of: of.clone(), pieces, unapproved });
        };
        match kinds {
            0 => {
                void(self, till, first_ms);
                void(self, other, second_ms);
            }
            1 => {
                // Above the limit the first waits for a reviewer, and keeps the goods for it meanwhile.
                let unapproved = first_ms % 2 == 0;
                if unapproved {
                    self.make_dear(&of);
                }
                refund(self, till, first_ms, pieces, unapproved);
                refund(self, other, second_ms, 1, false);
            }
            _ => {
                void(self, till, first_ms);
                refund(self, other, second_ms, 1, false);
            }
        }
    }

    /// The pieces of a sale's first line cost more than a cashier may pay back alone.
    fn make_dear(&mut self, receipt: &str) {
        for timed in self.happens.iter_mut().rev() {
            if let What::Sale { receipt: known, items, .. } = &mut timed.what
                && known == receipt
            {
                let dear_minor = REFUND_LIMIT_MINOR / items[0].pieces / 6 * 6 + 6;
                items[0].price_minor = items[0].price_minor.max(dear_minor);
                return;
            }
        }
    }

    /// A sale that nobody has touched and that was made some time before.
    fn untouched(&mut self, at_ms: i64, same_till: Option<usize>) -> Option<usize> {
        let fits = |sale: &&Planned| {
            !sale.touched && sale.at_ms + 300_000 < at_ms && same_till.is_none_or(|till| till == sale.till)
        };
        let receipts: Vec<String> = self.sales.iter().filter(fits).map(|sale| sale.receipt.clone()).collect();
        if receipts.is_empty() {
            return None;
        }
        let receipt = self.chance.pick(&receipts).clone();
        self.sales.iter().position(|sale| sale.receipt == receipt)
    }

    fn refund(&mut self, till: usize, at_ms: i64) {
        let Some(sale) = self.untouched(at_ms, None) else { return };
        self.sales[sale].touched = true;
        let (of, pieces) = (self.sales[sale].receipt.clone(), self.sales[sale].pieces);
        let pieces = self.chance.between(1, pieces);
        let (till, receipt) = (self.tills[till].clone(), self.number("B"));
        self.put(at_ms, What::Refund { till, receipt, of, pieces, unapproved: false });
    }

    fn exchange(&mut self, till: usize, at_ms: i64) {
        let Some(sale) = self.untouched(at_ms, None) else { return };
        self.sales[sale].touched = true;
        let of = self.sales[sale].receipt.clone();
        let price_minor = self.chance.between(10, 600) * 6;
        let (till, receipt) = (self.tills[till].clone(), self.number("X"));
        self.put(at_ms, What::Exchange { till, receipt, of, price_minor });
    }

    /// The cashier notices at once and voids at the same till.
    fn sale_and_void(&mut self, till: usize, at_ms: i64) {
        let sale = self.ring(till, at_ms, None);
        self.sales[sale].touched = true;
        let of = self.sales[sale].receipt.clone();
        let later_ms = at_ms + self.chance.between(20_000, 240_000);
        let (till, receipt) = (self.tills[till].clone(), self.number("V"));
        self.put(later_ms, What::Void { till, receipt, of });
    }
}
