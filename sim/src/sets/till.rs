//! What tills write in random sets: sales, refunds, voids, exchanges, cash movements, day closes; in logs that fork,
//! break and miss numbers.

use std::sync::Arc;

use engine::ids::{LogId, RecordId};
use engine::money::{Quantity, cumulative_share};
use engine::record::Record;
use engine::transaction::{
    Basket, Body, CashMovement, DayClose, Kind, Line, LineFlag, OriginalLine, Reference, Reverses,
    TenderStatus, TenderType,
};

use super::{FIRST_DAY, Place, RecordSet, basket, terminal};

impl RecordSet {
    pub(super) fn till_step(&mut self) {
        let log = LogId {
            terminal: terminal(1 + self.chance.below(3)),
            incarnation: if self.chance.once_in(12) { 2 } else { 1 },
        };
        let body = match self.chance.below(20) {
            0..=6 => self.sale(),
            7..=10 => self.refund(),
            11..=13 => self.void(),
            14 | 15 => self.exchange(),
            16 => self.cash_move(),
            17 => self.again(&log),
            _ => self.day_close(&log),
        };
        let place = self.place(log);
        let seen = if self.chance.once_in(3) { self.seen(&place.log) } else { Vec::new() };
        let transaction = self.transaction(body);
        self.push(place, transaction, seen);
    }

    /// The next place in a log, or one that no honest log has.
    fn place(&mut self, log: LogId) -> Place {
        let own: Vec<Arc<Record>> =
            self.arrivals.iter().map(|row| Arc::clone(&row.0)).filter(|record| record.log == log).collect();
        let top = own.iter().map(|record| record.seq).max().unwrap_or(0);
        let heads: Vec<&Arc<Record>> = own.iter().filter(|record| record.seq == top).collect();
        let head = (!heads.is_empty()).then(|| self.chance.pick(&heads).id);
        let (mut seq, mut prev) = (top + 1, head);
        match self.chance.below(30) {
            0 | 1 if seq > 1 => {
                seq -= 1;
                prev = own.iter().find(|record| record.seq + 1 == seq).map(|record| record.id);
            }
            2 => (seq, prev) = (seq + 1, Some(RecordId::symbolic(&format!("lost {}", self.step)))),
            3 if seq > 1 => prev = Some(RecordId::symbolic("never")),
            _ => {}
        }
        let at_ms = self.now_ms()
            - i64::try_from(self.chance.below(5)).unwrap_or(0) * 100_000
            - if self.chance.once_in(15) { 1_600_000 } else { 0 };
        let business_day = match self.chance.below(40) {
            0..=3 => FIRST_DAY.plus(1),
            4 => FIRST_DAY.plus(3),
            _ => FIRST_DAY,
        };
        Place { log, seq, prev, at_ms, business_day }
    }

    fn sale(&mut self) -> Body {
        Body::Sale(basket::sale(&mut self.chance, self.step))
    }

    /// The same basket once more on the same till: a nervous cashier, or a busy one.
    fn again(&mut self, log: &LogId) -> Body {
        let sold =
            self.some_record_where(|record| record.log == *log && record.transaction.kind() == Kind::Sale);
        match sold.map(|record| record.transaction.body.clone()) {
            Some(body) => body,
            None => self.sale(),
        }
    }

    /// A reference to one of the latest records, in one of the forms a receipt prints.
    fn reference(&mut self) -> Option<(Reference, Arc<Record>)> {
        let record = if self.chance.once_in(3) {
            self.some_record()?
        } else {
            self.some_record_where(|record| record.transaction.kind() == Kind::Sale)?
        };
        let printed = Reference { terminal: Some(record.log.terminal.clone()), ..Reference::default() };
        let reference = match self.chance.below(9) {
            0 => Reference::to_receipt(&record.transaction.receipt),
            1 => Reference { seq: Some(record.seq + u64::from(self.chance.once_in(4))), ..printed },
            2 => Reference { receipt: Some(record.transaction.receipt.clone()), ..printed },
            3 => Reference { id: Some(record.id), seq: Some(record.seq), ..printed },
            4 if self.chance.once_in(3) => Reference::to_receipt(&format!("R-{}", self.chance.below(60))),
            5 if self.chance.once_in(4) => Reference::to_receipt("F-1"),
            6 if self.chance.once_in(3) => Reference {
                id: Some(RecordId::symbolic("nowhere")),
                seq: Some(1 + self.chance.below(3)),
                ..printed
            },
            _ => Reference::to_id(record.id),
        };
        Some((reference, record))
    }

    /// A line that gives back a part of one of a record's lines.
    fn returned(&mut self, number: u32, from: Option<&Record>) -> Line {
        let sold = from.and_then(|record| record.transaction.basket()).map(|basket| basket.lines.clone());
        let Some(sold) = sold.filter(|lines| !lines.is_empty()) else {
            return basket::line(number, "A", Quantity::ONE, 1_200);
        };
        let line = self.chance.pick(&sold).clone();
        let part = Quantity((line.quantity.0.abs() / 10_000).min(1) * 10_000);
        let whole = Quantity(line.quantity.0.abs());
        let part = if part.0 == 0 || self.chance.once_in(2) { whole } else { part };
        let mut back = basket::line(number, &line.sku, part, 0);
        back.amount_minor = cumulative_share(line.amount_minor.abs(), part, whole);
        back.tax_minor = cumulative_share(line.tax_minor.abs(), part, whole);
        back.tax_code = line.tax_code.clone();
        back.adjustment = line.adjustment;
        if line.flag == LineFlag::GiftCardSold && self.chance.once_in(2) {
            back.flag = LineFlag::GiftCardSold;
        }
        if self.chance.once_in(15) {
            back.amount_minor += 100;
        }
        let number = match self.chance.below(6) {
            0 => None,
            1 if self.chance.once_in(3) => Some(9),
            _ => Some(line.number),
        };
        back.original = Some(Box::new(OriginalLine { reference: None, line: number }));
        back
    }

    fn refund(&mut self) -> Body {
        let named = self.reference();
        let from = named.as_ref().map(|row| Arc::clone(&row.1));
        let mut basket = Basket {
            currency: from
                .as_ref()
                .and_then(|row| row.transaction.basket())
                .map_or(basket::pounds(), |one| one.currency),
            lines: vec![self.returned(1, from.as_deref())],
            tenders: Vec::new(),
            rounding_minor: 0,
            tip_minor: 0,
        };
        if self.chance.once_in(4) {
            basket.lines.push(self.returned(2, from.as_deref()));
        }
        if self.chance.once_in(20) {
            basket.currency = basket::euros();
        }
        let total = basket.total_minor();
        basket.tenders.push(basket::tender(TenderType::Cash, total));
        match self.chance.below(6) {
            0 => {
                basket.tenders[0].tender = TenderType::Card;
                basket.tenders[0].status = TenderStatus::Pending;
                basket.tenders[0].payment = Some(format!("P{}", self.chance.below(6)));
            }
            1 => {
                basket.tenders[0].tender = TenderType::Card;
                basket.tenders[0].auth = Some(format!("VR-{}", self.chance.below(8)));
            }
            2 if self.chance.once_in(3) => {
                (basket.tenders[0].tender, basket.tenders[0].status) =
                    (TenderType::Card, TenderStatus::Mirror);
            }
            3 if self.chance.once_in(2) => basket.tenders[0].tender = TenderType::StoreCredit,
            _ => {}
        }
        // A refund of goods from several sales names each by line; some lines leave it to the whole.
        if self.chance.once_in(6)
            && let Some((reference, _)) = self.reference()
            && let Some(last) = basket.lines.last_mut()
        {
            let line = last.original.take().and_then(|original| original.line);
            last.original = Some(Box::new(OriginalLine { reference: Some(reference), line }));
        }
        let approver = self.chance.once_in(2).then(|| "mgr".to_owned());
        let original = named.filter(|_| !self.chance.once_in(12)).map(|row| row.0);
        Body::Refund { basket, original, reason: None, approver }
    }

    fn void(&mut self) -> Body {
        let named = self.reference();
        let target = named.as_ref().map(|row| Arc::clone(&row.1));
        let repeated = target.as_ref().and_then(|record| record.transaction.basket().cloned());
        let mut basket = repeated.unwrap_or_else(|| basket::plain(600, 1, "A"));
        let mirrors = !self.chance.once_in(6);
        for tender in basket.tenders.iter_mut().filter(|tender| tender.tender == TenderType::Card && mirrors)
        {
            tender.status = TenderStatus::Mirror;
        }
        if self.chance.once_in(12) {
            basket.tenders[0].tender = TenderType::Cash;
        }
        let refund = target.is_some_and(|record| record.transaction.kind() == Kind::Refund);
        let honest = if refund { Reverses::Refund } else { Reverses::Sale };
        let reverses = if self.chance.once_in(15) { Reverses::Refund } else { honest };
        let original = named.filter(|_| !self.chance.once_in(20)).map(|row| row.0);
        Body::Void { basket, original, reverses, reason: None, approver: None }
    }

    fn exchange(&mut self) -> Body {
        let mut basket = basket::plain(2_400, 1, "B");
        let named = self.reference();
        let mut back = self.returned(2, named.as_ref().map(|row| &*row.1));
        (back.amount_minor, back.tax_minor) = (-back.amount_minor, -back.tax_minor);
        back.flag = LineFlag::ReturnInSale;
        if let Some((reference, _)) = named.filter(|_| !self.chance.once_in(10)) {
            let line = back.original.and_then(|original| original.line);
            back.original = Some(Box::new(OriginalLine { reference: Some(reference), line }));
        }
        basket.tenders[0].amount_minor += back.gross_minor();
        basket.lines.push(back);
        Body::Sale(basket)
    }

    fn cash_move(&mut self) -> Body {
        let movements =
            [CashMovement::Float, CashMovement::PaidIn, CashMovement::PaidOut, CashMovement::Pickup];
        let movement = *self.chance.pick(&movements);
        let reason =
            self.chance.pick(&[None, Some("Expenses:Petty-Cash"), Some("window cleaner")]).map(str::to_owned);
        Body::CashMove { movement, amount_minor: 500, currency: basket::pounds(), reason }
    }

    /// The till's Z report: right, or wrong in one figure.
    fn day_close(&mut self, log: &LogId) -> Body {
        self.books.settle(FIRST_DAY);
        let Some(mut close) = self.books.z_report(log) else { return Body::DayClose(DayClose::default()) };
        let wrong = self.chance.below(12);
        for totals in close.totals.iter_mut().take(1) {
            match wrong {
                0 => totals.expected_cash_minor += 100,
                1 => totals.sales.count += 1,
                2 => totals.refunds.sum_minor += 5,
                3 => totals.grand_total_minor += 1,
                4 => totals.voids.count += 1,
                5 => totals.tax.push(("X".to_owned(), 7)),
                6 => totals.tenders.push((TenderType::Other, 9)),
                _ => {}
            }
            totals.counted_cash_minor =
                totals.expected_cash_minor + *self.chance.pick(&[0, 0, -35, 400, -5_000]);
        }
        Body::DayClose(close)
    }
}
