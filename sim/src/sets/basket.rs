//! Baskets of random sets: lines and tenders of sales, honest and otherwise.

use engine::money::{Currency, Quantity, TaxRate, line_amount};
use engine::transaction::{Adjustment, Basket, Line, LineFlag, Tender, TenderStatus, TenderType};

use crate::chance::Chance;

pub(super) fn pounds() -> Currency {
    "GBP".parse().expect("a known code")
}

pub(super) fn euros() -> Currency {
    "EUR".parse().expect("a known code")
}

/// A plain line.
pub(super) fn line(number: u32, sku: &str, quantity: Quantity, amount_minor: i64) -> Line {
    Line {
        number,
        sku: sku.to_owned(),
        description: None,
        quantity,
        unit_price_minor: None,
        discount_minor: 0,
        amount_minor,
        tax_minor: amount_minor / 6,
        tax_code: None,
        tax_rate: None,
        flag: LineFlag::Item,
        original: None,
        adjustment: Adjustment::default(),
    }
}

/// A plain tender.
pub(super) fn tender(tender: TenderType, amount_minor: i64) -> Tender {
    Tender {
        tender,
        amount_minor,
        currency: None,
        status: TenderStatus::Approved,
        payment: None,
        auth: None,
        card: None,
        cash: None,
    }
}

/// A basket of one line, paid in cash.
pub(super) fn plain(amount_minor: i64, pieces: i64, sku: &str) -> Basket {
    Basket {
        currency: pounds(),
        lines: vec![line(1, sku, Quantity::pieces(pieces), amount_minor)],
        tenders: vec![tender(TenderType::Cash, amount_minor)],
        rounding_minor: 0,
        tip_minor: 0,
    }
}

/// A sale of one to three lines, with whatever tills sell and whatever they get wrong.
pub(super) fn sale(chance: &mut Chance, step: i64) -> Basket {
    let mut basket = Basket {
        currency: if chance.once_in(8) { euros() } else { pounds() },
        lines: Vec::new(),
        tenders: Vec::new(),
        rounding_minor: 0,
        tip_minor: 0,
    };
    for number in 1..=u32::try_from(1 + chance.below(3)).unwrap_or(1) {
        basket.lines.push(sold(chance, number));
    }
    if chance.once_in(8) {
        void_a_line(&mut basket);
    }
    if chance.once_in(8) {
        basket.tip_minor = 50;
    }
    if chance.once_in(8) {
        basket.rounding_minor = *chance.pick(&[1, 2, -2, 5]);
    }
    let owed = basket.total_minor() + basket.tip_minor + basket.rounding_minor;
    pay(chance, &mut basket, owed, step);
    mistake(chance, &mut basket);
    basket
}

fn sold(chance: &mut Chance, number: u32) -> Line {
    let sku = *chance.pick(&["A", "A", "B", "C"]);
    let quantity = *chance.pick(&[Quantity::ONE, Quantity::pieces(2), Quantity::pieces(3), Quantity(4_200)]);
    let price = *chance.pick(&[500, 1_200, 2_399, 25_000]);
    let discount = if chance.once_in(6) { 30 } else { 0 };
    let mut line = line(number, sku, quantity, line_amount(price, quantity, discount));
    let rate = TaxRate(2_000);
    match chance.below(8) {
        0 => {
            (line.tax_minor, line.flag) = (0, LineFlag::GiftCardSold);
            line.sku = "GIFT".to_owned();
        }
        1 => {
            line.adjustment.tax_exclusive = true;
            (line.tax_rate, line.tax_minor) = (Some(rate), rate.tax_on_net(line.amount_minor));
        }
        2..=4 => (line.tax_rate, line.tax_minor) = (Some(rate), rate.tax_in_gross(line.amount_minor)),
        _ => {}
    }
    if chance.once_in(3) {
        (line.unit_price_minor, line.discount_minor) = (Some(price), discount);
    }
    line.tax_code = chance.pick(&[None, None, Some("A"), Some("B")]).map(str::to_owned);
    line
}

/// The last line is reversed before tender.
fn void_a_line(basket: &mut Basket) {
    let Some(last) = basket.lines.last() else { return };
    let mut reversed = last.clone();
    reversed.number = last.number + 1;
    (reversed.amount_minor, reversed.tax_minor) = (-last.amount_minor, -last.tax_minor);
    reversed.flag = LineFlag::LineVoid;
    basket.lines.push(reversed);
}

/// Pays an amount by one or two tenders.
pub(super) fn pay(chance: &mut Chance, basket: &mut Basket, owed_minor: i64, step: i64) {
    let first = if chance.once_in(4) { owed_minor / 2 } else { owed_minor };
    for (at, amount_minor) in [first, owed_minor - first].into_iter().enumerate() {
        if at == 0 || amount_minor != 0 {
            basket.tenders.push(some_tender(chance, amount_minor, step * 2 + i64::try_from(at).unwrap_or(0)));
        }
    }
}

fn some_tender(chance: &mut Chance, amount_minor: i64, unique: i64) -> Tender {
    use TenderType as T;
    let kinds = [
        T::Cash,
        T::Cash,
        T::Cash,
        T::Card,
        T::Card,
        T::Card,
        T::GiftCard,
        T::StoreCredit,
        T::Coupon,
        T::Other,
    ];
    let mut tender = tender(*chance.pick(&kinds), amount_minor);
    if tender.tender == T::Card {
        tender.auth = Some(if chance.once_in(6) { "V-same".to_owned() } else { format!("V-{unique}") });
        match chance.below(5) {
            0 | 1 => {
                tender.status = TenderStatus::Pending;
                tender.payment = Some(format!("P{}", chance.below(6)));
            }
            2 if chance.once_in(3) => {
                tender.status = TenderStatus::Declined;
                tender.payment = Some(format!("D{unique}"));
            }
            _ => {}
        }
    }
    tender
}

/// What tills of another make get wrong.
fn mistake(chance: &mut Chance, basket: &mut Basket) {
    match chance.below(60) {
        0..=2 => basket.tenders[0].amount_minor -= 1,
        3 => basket.lines[0].quantity = Quantity(-basket.lines[0].quantity.0),
        4 => basket.lines[0].amount_minor = -basket.lines[0].amount_minor,
        5 => basket.tenders[0].currency = Some("USD".parse().expect("a known code")),
        6 | 7 => {
            basket.lines[0].unit_price_minor = Some(777);
        }
        8 | 9 => {
            (basket.lines[0].tax_rate, basket.lines[0].tax_minor) = (Some(TaxRate(2_000)), 3);
        }
        _ => {}
    }
}
