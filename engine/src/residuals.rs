//! Amounts as residuals: what is left of an amount when what the rest of its receipt predicts is taken off. A till that
//! reckons as its receipt says leaves zeros, which take next to nothing in a batch's columns. Only the form in which a batch is
//! packed: nothing is judged here, and every value comes back, however absurd (arithmetic wraps at 64 bits).

use crate::batch::BatchEntry;
use crate::money::{Quantity, TaxRate};
use crate::transaction::{Basket, Body, Line};

/// Turns the amounts of entries into residuals.
pub fn take_off(entries: &mut [BatchEntry]) {
    Prediction { undo: false, tax_rounds_down: false }.walk(entries);
}

/// Turns the residuals of entries back into their amounts: undoes [`take_off`] on the same entries in the same order.
pub fn put_back(entries: &mut [BatchEntry]) {
    Prediction { undo: true, tax_rounds_down: false }.walk(entries);
}

/// One walk for both ways, so that they cannot differ: at each field the values before it are the original ones.
struct Prediction {
    undo: bool,
    /// Most tills round tax half up, some down; the last line in which it made a difference tells.
    tax_rounds_down: bool,
}

impl Prediction {
    fn walk(mut self, entries: &mut [BatchEntry]) {
        for entry in entries {
            match &mut entry.transaction.body {
                Body::Sale(basket) | Body::Refund { basket, .. } | Body::Void { basket, .. } => {
                    self.basket(basket);
                }
                Body::CashMove { .. } | Body::DayClose(_) | Body::Hub(_) => {}
            }
        }
    }

    fn basket(&mut self, basket: &mut Basket) {
        let mut owed = basket.rounding_minor.wrapping_add(basket.tip_minor);
        for (line, number) in basket.lines.iter_mut().zip(1_u32..) {
            line.number =
                if self.undo { line.number.wrapping_add(number) } else { line.number.wrapping_sub(number) };
            owed = owed.wrapping_add(self.line(line));
        }
        let mut left = basket.tenders.len();
        for tender in &mut basket.tenders {
            left -= 1;
            // What earlier tenders leave is paid by the last.
            let predicted = if left == 0 { owed } else { 0 };
            let amount = self.field(&mut tender.amount_minor, predicted);
            owed = owed.wrapping_sub(amount);
            if let Some((tendered, change)) = &mut tender.cash {
                self.field(change, tendered.wrapping_sub(amount));
            }
        }
    }

    /// What the line adds to the total.
    fn line(&mut self, line: &mut Line) -> i64 {
        let predicted =
            line.unit_price_minor.map_or(0, |price| extended(price, line.quantity, line.discount_minor));
        let amount = self.field(&mut line.amount_minor, predicted);
        let exclusive = line.adjustment.tax_exclusive;
        let tax = match line.tax_rate {
            None => self.field(&mut line.tax_minor, 0),
            Some(rate) => self.tax(&mut line.tax_minor, amount, rate, exclusive),
        };
        if exclusive { amount.wrapping_add(tax) } else { amount }
    }

    fn tax(&mut self, tax_minor: &mut i64, amount: i64, rate: TaxRate, exclusive: bool) -> i64 {
        let (down, half_up) = tax_of(amount, rate, exclusive);
        let tax = self.field(tax_minor, if self.tax_rounds_down { down } else { half_up });
        if down != half_up && (tax == down || tax == half_up) {
            self.tax_rounds_down = tax == down;
        }
        tax
    }

    /// Changes a field by what is predicted of it; its original value.
    fn field(&self, field: &mut i64, predicted: i64) -> i64 {
        let stored = *field;
        if self.undo {
            *field = stored.wrapping_add(predicted);
            *field
        } else {
            *field = stored.wrapping_sub(predicted);
            stored
        }
    }
}

/// Unit price × quantity − discount, rounded half away from zero, modulo 2⁶⁴.
fn extended(price_minor: i64, quantity: Quantity, discount_minor: i64) -> i64 {
    let product = i128::from(price_minor) * i128::from(quantity.0);
    let half = if product < 0 { -5_000 } else { 5_000 };
    low_64((product + half) / 10_000).wrapping_sub(discount_minor)
}

/// Tax in an amount, or on it if it is exclusive, rounded down and half up, modulo 2⁶⁴.
fn tax_of(amount_minor: i64, rate: TaxRate, exclusive: bool) -> (i64, i64) {
    let rate = i128::from(rate.0);
    let whole = if exclusive { 10_000 } else { 10_000 + rate };
    let product = i128::from(amount_minor) * rate;
    let (down, over) = (product.div_euclid(whole), product.rem_euclid(whole));
    (low_64(down), low_64(down + i128::from(2 * over >= whole)))
}

#[allow(clippy::cast_possible_truncation, reason = "modulo 2⁶⁴ is meant")]
fn low_64(value: i128) -> i64 {
    value as i64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::transaction::{
        Adjustment, Draft, LineFlag, Reverses, Tender, TenderStatus, TenderType, Transaction,
    };

    /// Any number, the edges often.
    fn amount() -> impl Strategy<Value = i64> {
        prop_oneof![any::<i64>(), -3_000_i64..3_000, Just(i64::MIN), Just(i64::MAX), Just(0)]
    }

    prop_compose! {
        fn line()(
            number in any::<u32>(), quantity in amount(), unit_price_minor in proptest::option::of(amount()),
            (discount_minor, amount_minor, tax_minor) in (amount(), amount(), amount()),
            tax_rate in proptest::option::of(prop_oneof![any::<u32>(), 0_u32..3_000]), tax_exclusive in any::<bool>(),
        ) -> Line {
            Line {
                number, sku: "a".to_owned(), description: None, quantity: Quantity(quantity), unit_price_minor,
                discount_minor, amount_minor, tax_minor, tax_code: None, tax_rate: tax_rate.map(TaxRate),
                flag: LineFlag::Item, original: None, adjustment: Adjustment { tax_exclusive },
            }
        }
    }

    prop_compose! {
        fn tender()(amount_minor in amount(), cash in proptest::option::of((amount(), amount()))) -> Tender {
            Tender {
                tender: TenderType::Cash, amount_minor, currency: None, status: TenderStatus::Approved, payment: None,
                auth: None, card: None, cash,
            }
        }
    }

    prop_compose! {
        fn basket()(
            lines in prop::collection::vec(line(), 0..5), tenders in prop::collection::vec(tender(), 0..4),
            rounding_minor in amount(), tip_minor in amount(),
        ) -> Basket {
            Basket { currency: "GBP".parse().unwrap(), lines, tenders, rounding_minor, tip_minor }
        }
    }

    fn body() -> impl Strategy<Value = Body> {
        (basket(), 0..3).prop_map(|(basket, kind)| match kind {
            0 => Body::Sale(basket),
            1 => Body::Refund { basket, original: None, reason: None, approver: None },
            _ => {
                let reverses = Reverses::Sale;
                Body::Void { basket, original: None, reverses, reason: None, approver: None }
            }
        })
    }

    fn entry(transaction: Transaction) -> BatchEntry {
        BatchEntry { at: "2026-11-23T10:00:00Z".parse().unwrap(), effective_later_ms: 0, transaction }
    }

    proptest! {
        #[test]
        fn every_amount_comes_back_however_absurd(bodies in prop::collection::vec(body(), 0..6)) {
            let of = |body| Transaction {
                receipt: String::new(), operator: None, idempotency_key: None, offline: false, body,
            };
            let entries: Vec<BatchEntry> = bodies.into_iter().map(|body| entry(of(body))).collect();
            let mut changed = entries.clone();
            take_off(&mut changed);
            put_back(&mut changed);
            prop_assert_eq!(&changed, &entries);
            // What a peer sends as residuals need not come from amounts.
            put_back(&mut changed);
            take_off(&mut changed);
            prop_assert_eq!(changed, entries);
        }
    }

    /// The amounts of a sale's residuals: line, tax, tender, change.
    fn left_of(lines: &str, tenders: &str) -> Vec<i64> {
        let text = format!(
            r#"{{"kind":"sale","receipt":"R-1","currency":"GBP","tip_minor":100,"lines":[{lines}],"tenders":[{tenders}]}}"#
        );
        let mut entries = [entry(Draft::from_json(&text).unwrap().transaction)];
        take_off(&mut entries);
        let basket = entries[0].transaction.basket().unwrap();
        assert!(basket.lines.iter().all(|line| line.number == 0), "lines are numbered from 1");
        let of_line = |line: &Line| [line.amount_minor, line.tax_minor];
        let of_tender = |tender: &Tender| [Some(tender.amount_minor), tender.cash.map(|cash| cash.1)];
        let lines = basket.lines.iter().flat_map(of_line);
        lines.chain(basket.tenders.iter().flat_map(of_tender).flatten()).collect()
    }

    #[test]
    fn what_follows_from_the_receipt_is_zero_and_the_rest_is_its_difference() {
        const LINE: &str = r#"{"sku":"a","quantity":"3","unit_price_minor":333,"discount_minor":9,"amount_minor":990,
            "tax_minor":165,"tax_rate":"20"}"#;
        const CARD: &str = r#"{"type":"card","amount_minor":1090}"#;
        let cases: [(String, &str, &[i64]); 7] = [
            (LINE.into(), CARD, &[0, 0, 0]),
            (LINE.replace("990", "989"), CARD, &[-1, 0, 1]),
            (LINE.replace("165", "164"), CARD, &[0, -1, 0]),
            (LINE.replace(r#""unit_price_minor":333,"#, ""), CARD, &[990, 0, 0]),
            (LINE.replace(r#","tax_rate":"20""#, ""), CARD, &[0, 165, 0]),
            (
                LINE.replace("165", "198,\"tax_exclusive\":true"),
                r#"{"type":"card","amount_minor":288},{"type":"cash","amount_minor":1000,"tendered_minor":2000,"change_minor":1000}"#,
                &[0, 0, 288, 0, 0],
            ),
            (
                // 0.535 kg at 9.99 is 5.34465; tax on 5.34 at 17.5 % is 0.7953, contained.
                r#"{"sku":"a","quantity":"0.535","unit_price_minor":999,"amount_minor":534,"tax_minor":80,"tax_rate":"17.5"}"#.into(),
                r#"{"type":"card","amount_minor":634}"#,
                &[0, 0, 0],
            ),
        ];
        for (lines, tenders, left) in cases {
            assert_eq!(left_of(&lines, tenders), left, "{lines} {tenders}");
        }
    }

    #[test]
    fn a_till_that_rounds_tax_down_is_known_by_its_first_line_that_shows_it() {
        let line = |number: u32| {
            format!(
                r#"{{"line":{number},"sku":"a","quantity":"1","unit_price_minor":100,"amount_minor":100,"tax_minor":16,"tax_rate":"20"}}"#
            )
        };
        let lines = [line(1), line(2), line(3)].join(",");
        assert_eq!(left_of(&lines, r#"{"type":"card","amount_minor":400}"#), [0, -1, 0, 0, 0, 0, 0]);
    }
}
