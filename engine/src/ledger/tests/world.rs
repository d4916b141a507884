//! A random world: a few tills with bad clocks, partitions, forks, gaps and hasty cashiers, and a hub that decides,
//! locks, revokes and changes its policy. Everything follows from a seed.

use std::sync::Arc;

use crate::ids::{LogId, RecordId, TerminalId};
use crate::ledger::Books;
use crate::money::Quantity;
use crate::policy::{Policy, PolicyChange};
use crate::record::Record;
use crate::time::{Day, Instant};
use crate::transaction::{
    Adjustment, Basket, Body, CashMovement, Decision, DecisionAction, ForeignOriginal, HubRecord, Line,
    LineFlag, Lock, LogHead, OriginalLine, Outcome, Payment, Reference, Reverses, Settled, Settlement,
    Tender, TenderStatus, TenderType, Transaction,
};

pub(super) type Arrival = (Arc<Record>, Vec<(LogId, u64)>);

const START_MS: i64 = 1_795_000_000_000;
const DAY: Day = Day(20_775);

pub(super) struct World {
    seed: u64,
    pub(super) arrivals: Vec<Arrival>,
    policy: Policy,
}

impl World {
    pub(super) fn new(seed: u64, steps: usize) -> Self {
        let mut world = Self { seed, arrivals: Vec::new(), policy: Policy::default() };
        if world.pick(3) == 0 {
            world.policy.refund_limit_minor = None;
        }
        for step in 0..steps {
            world.step(step);
        }
        world
    }

    pub(super) fn books(&self) -> Books {
        Books::new("s1".parse().unwrap(), self.policy.clone())
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) fn pick(&mut self, below: usize) -> usize {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.seed >> 33).unwrap() % below
    }

    pub(super) fn shuffled(&mut self) -> Vec<Arrival> {
        let mut arrivals = self.arrivals.clone();
        let again: Vec<Arrival> = arrivals.iter().filter(|_| self.pick(4) == 0).cloned().collect();
        arrivals.extend(again);
        for at in (1..arrivals.len()).rev() {
            let other = self.pick(at + 1);
            arrivals.swap(at, other);
        }
        arrivals
    }

    fn step(&mut self, step: usize) {
        match self.pick(20) {
            0..=5 => self.till(step, |world| world.sale(step)),
            6..=9 => self.till(step, World::refund),
            10..=12 => self.till(step, World::void),
            13 => self.till(step, World::exchange),
            14 => self.till(step, World::cash_move),
            15 => self.till(step, |_| Body::DayClose(crate::transaction::DayClose::default())),
            _ => self.hub(step),
        }
    }

    fn till(&mut self, step: usize, body: impl FnOnce(&mut Self) -> Body) {
        let terminal: TerminalId = format!("till-0{}", self.pick(3) + 1).parse().unwrap();
        let log = LogId { terminal, incarnation: 1 };
        let own: Vec<Arc<Record>> =
            self.arrivals.iter().map(|row| Arc::clone(&row.0)).filter(|record| record.log == log).collect();
        let head = own.iter().max_by_key(|record| record.seq).cloned();
        let (mut seq, mut prev) = head.map_or((1, None), |head| (head.seq + 1, Some(head.id)));
        match self.pick(25) {
            0 if seq > 1 => {
                (seq, prev) =
                    (seq - 1, own.iter().find(|record| record.seq + 2 == seq).map(|record| record.id));
            }
            1 => (seq, prev) = (seq + 1, Some(RecordId::symbolic(&format!("lost {step}")))),
            2 if seq > 1 => prev = Some(RecordId::symbolic("never")),
            _ => {}
        }
        let seen = if self.pick(3) == 0 { self.seen(&log) } else { Vec::new() };
        let receipt = if self.pick(12) == 0 { "R-dup".to_owned() } else { format!("R-{step}") };
        let key = (self.pick(8) == 0).then(|| format!("k{}", self.pick(3)));
        let body = body(self);
        let skew = i64::try_from(self.pick(5)).unwrap() * 400_000;
        let at = START_MS + i64::try_from(step).unwrap() * 20_000 - skew;
        let day = DAY.plus(i32::from(self.pick(9) == 0));
        self.push(step, log, seq, prev, (at, day), (receipt, key, body), seen);
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a record")]
    fn push(
        &mut self,
        step: usize,
        log: LogId,
        seq: u64,
        prev: Option<RecordId>,
        (at, business_day): (i64, Day),
        (receipt, idempotency_key, body): (String, Option<String>, Body),
        seen: Vec<(LogId, u64)>,
    ) {
        let before = self.arrivals.iter().find(|row| Some(row.0.id) == prev).map(|row| row.0.effective_ms);
        let knew = |record: &Record| seen.iter().any(|(log, to)| *log == record.log && record.seq <= *to);
        let horizon = self.arrivals.iter().filter(|row| knew(&row.0)).map(|row| row.0.effective_ms).max();
        let transaction = Transaction { receipt, operator: None, idempotency_key, offline: false, body };
        transaction.validate_schema().unwrap();
        let record = Record {
            id: RecordId::symbolic(&format!("{} {step}", self.arrivals.len())),
            store: "s1".parse().unwrap(),
            log,
            seq,
            prev,
            business_day,
            at: Instant::utc(at),
            effective_ms: crate::record::effective_ms(Instant::utc(at), before, horizon),
            transaction,
        };
        self.arrivals.push((Arc::new(record), seen));
    }

    fn seen(&mut self, own: &LogId) -> Vec<(LogId, u64)> {
        let mut heads = std::collections::BTreeMap::new();
        for (record, _) in &self.arrivals {
            let head: &mut u64 = heads.entry(record.log.clone()).or_default();
            *head = record.seq.max(*head);
        }
        heads.remove(own);
        heads.into_iter().filter(|_| self.pick(2) == 0).collect()
    }

    fn sale(&mut self, step: usize) -> Body {
        let amount = 1_200 * (1 + i64::try_from(self.pick(3)).unwrap());
        let mut basket = basket(amount, 2, "A");
        let kind = self.pick(6);
        if kind < 3 {
            basket.tenders[0].tender = TenderType::Card;
            basket.tenders[0].auth =
                Some(if self.pick(4) == 0 { "V-same".to_owned() } else { format!("V-{step}") });
        }
        if kind == 0 {
            basket.tenders[0].status = TenderStatus::Pending;
            basket.tenders[0].payment = Some(format!("P{}", self.pick(4)));
        }
        if self.pick(15) == 0 {
            basket.tenders[0].amount_minor -= 1;
        }
        Body::Sale(basket)
    }

    fn some_record(&mut self) -> Option<Arc<Record>> {
        let with_basket: Vec<Arc<Record>> = self
            .arrivals
            .iter()
            .map(|row| Arc::clone(&row.0))
            .filter(|record| record.transaction.basket().is_some())
            .collect();
        let recent = with_basket.len().min(8);
        (recent > 0).then(|| Arc::clone(&with_basket[with_basket.len() - 1 - self.pick(recent)]))
    }

    fn reference(&mut self) -> Option<(Reference, Arc<Record>)> {
        let record = self.some_record()?;
        let reference = match self.pick(6) {
            0 => Reference::to_receipt(&record.transaction.receipt),
            1 => Reference {
                terminal: Some(record.log.terminal.clone()),
                seq: Some(record.seq + u64::from(self.pick(4) == 0)),
                ..Reference::default()
            },
            2 => Reference {
                terminal: Some(record.log.terminal.clone()),
                receipt: Some(record.transaction.receipt.clone()),
                ..Reference::default()
            },
            3 if self.pick(3) == 0 => Reference::to_receipt(&format!("R-{}", self.pick(60))),
            4 if self.pick(4) == 0 => Reference::to_receipt("F-1"),
            _ => Reference::to_id(record.id),
        };
        Some((reference, record))
    }

    fn refund(&mut self) -> Body {
        let named = self.reference();
        let pieces = i64::try_from(1 + self.pick(2)).unwrap();
        let whole = named
            .as_ref()
            .and_then(|row| row.1.transaction.basket())
            .map_or(1_200, |basket| basket.lines[0].amount_minor.abs());
        let mut basket = basket(whole * pieces / 2, pieces, "A");
        if self.pick(5) == 0 {
            (basket.tenders[0].tender, basket.tenders[0].status) = (TenderType::Card, TenderStatus::Pending);
            basket.tenders[0].payment = Some(format!("P{}", self.pick(4)));
        }
        let approver = (self.pick(2) == 0).then(|| "mgr".to_owned());
        let original = named.filter(|_| self.pick(10) > 0).map(|row| row.0);
        Body::Refund { basket, original, reason: None, approver }
    }

    fn void(&mut self) -> Body {
        let named = self.reference();
        let target = named.as_ref().map(|row| Arc::clone(&row.1));
        let mut basket = target
            .as_ref()
            .and_then(|record| record.transaction.basket().cloned())
            .unwrap_or_else(|| basket(600, 1, "A"));
        for tender in basket.tenders.iter_mut().filter(|tender| tender.tender == TenderType::Card) {
            tender.status = TenderStatus::Mirror;
        }
        let refund = target.is_some_and(|record| matches!(record.transaction.body, Body::Refund { .. }));
        let reverses = if refund { Reverses::Refund } else { Reverses::Sale };
        Body::Void { basket, original: named.map(|row| row.0), reverses, reason: None, approver: None }
    }

    fn exchange(&mut self) -> Body {
        let mut basket = basket(2_400, 1, "B");
        let mut back = basket.lines[0].clone();
        (back.number, back.sku) = (2, "A".to_owned());
        (back.amount_minor, back.tax_minor, back.flag) = (-600, -100, LineFlag::ReturnInSale);
        back.original = self.reference().map(|row| OriginalLine { reference: Some(row.0), line: None });
        basket.lines.push(back);
        basket.tenders[0].amount_minor -= 600;
        Body::Sale(basket)
    }

    fn cash_move(&mut self) -> Body {
        let movements =
            [CashMovement::Float, CashMovement::PaidIn, CashMovement::PaidOut, CashMovement::Pickup];
        let movement = movements[self.pick(4)];
        let reason = (self.pick(2) == 0).then(|| "Expenses:Petty-Cash".to_owned());
        Body::CashMove { movement, amount_minor: 500, currency: "GBP".parse().unwrap(), reason }
    }

    fn hub(&mut self, step: usize) {
        let log = LogId { terminal: TerminalId::hub(), incarnation: 1 };
        let seq = self.arrivals.iter().filter(|row| row.0.log == log).count() as u64 + 1;
        let statement = match self.pick(12) {
            0..=2 => {
                let outcome = [Outcome::Approved, Outcome::Declined, Outcome::Expired][self.pick(3)];
                HubRecord::Payment(Payment { payment: format!("P{}", self.pick(4)), outcome })
            }
            3..=7 => match self.decision(seq) {
                Some(decision) => HubRecord::Decision(decision),
                None => return,
            },
            8 => self.lock(seq),
            9 => HubRecord::Settlement(Settlement {
                currency: "GBP".parse().unwrap(),
                payments: vec![Settled { payment: format!("P{}", self.pick(4)), amount_minor: 1_200 }],
                fees_minor: 12,
            }),
            10 if self.pick(2) == 0 => HubRecord::Revoke {
                terminal: "till-03".parse().unwrap(),
                incarnation: None,
                last_valid_seq: self.pick(8) as u64,
            },
            10 => HubRecord::ForeignOriginal(foreign()),
            _ => {
                let settings = ["refund_limit_minor=500", "receipt_scope=store", "blind_refunds=flag"];
                let from = (self.pick(2) == 0).then_some(DAY.plus(1));
                HubRecord::Config(PolicyChange::parse([settings[self.pick(3)]], from, "admin").unwrap())
            }
        };
        let at = START_MS + i64::try_from(step).unwrap() * 20_000;
        let seen = if self.pick(2) == 0 { self.seen(&log) } else { Vec::new() };
        self.push(step, log, seq, None, (at, DAY), (format!("H-{step}"), None, Body::Hub(statement)), seen);
    }

    /// A decision on some case of the world as it stands.
    fn decision(&mut self, number: u64) -> Option<Decision> {
        use DecisionAction as A;
        let mut books = self.books();
        for (record, seen) in &self.arrivals {
            books.insert(Arc::clone(record), seen);
        }
        books.settle(DAY);
        let cases: Vec<_> = books.cases().cloned().collect();
        let case = cases.get(self.pick(cases.len().max(1)))?;
        let actions = [
            A::Approve,
            A::Convert,
            A::Prefer,
            A::Remove,
            A::Genuine,
            A::Goodwill,
            A::WriteOff,
            A::OverShort,
            A::Recover,
            A::Classify,
            A::Paid,
            A::BadDebt,
            A::TaxRelief,
            A::Reversed,
            A::PaidOut,
            A::Acknowledge,
        ];
        let members: Vec<RecordId> = case.members.iter().copied().collect();
        let member = members.get(self.pick(members.len() * 2 + 1)).copied();
        Some(Decision {
            number,
            case_type: case.key.case_type.as_str().to_owned(),
            subject: case.key.subject.clone(),
            case_version: Some(case.version),
            member,
            action: actions[self.pick(actions.len())],
            parameter: Some("Expenses:Other".to_owned()),
            terminal: Some("till-02".parse().unwrap()),
            reviewer: "anna".to_owned(),
            approver: None,
            reason: String::new(),
        })
    }

    fn lock(&mut self, number: u64) -> HubRecord {
        let mut heads = Vec::new();
        for _ in 0..2 {
            if let Some(record) = self.some_record() {
                heads.push(LogHead { log: record.log.clone(), seq: record.seq, id: record.id });
            }
        }
        HubRecord::Lock(Lock { number, heads, open_day: DAY.plus(i32::from(self.pick(3) == 0)) })
    }
}

fn foreign() -> ForeignOriginal {
    let Basket { currency, lines, tenders, .. } = basket(2_400, 2, "A");
    ForeignOriginal {
        id: RecordId::symbolic("elsewhere"),
        store: "s2".parse().unwrap(),
        log: LogId { terminal: "till-90".parse().unwrap(), incarnation: 1 },
        seq: 7,
        receipt: "F-1".to_owned(),
        business_day: DAY,
        effective_ms: START_MS,
        currency,
        lines,
        tenders,
    }
}

fn basket(amount_minor: i64, pieces: i64, sku: &str) -> Basket {
    let line = Line {
        number: 1,
        sku: sku.to_owned(),
        description: None,
        quantity: Quantity::pieces(pieces),
        unit_price_minor: None,
        discount_minor: 0,
        amount_minor,
        tax_minor: amount_minor / 6,
        tax_code: None,
        tax_rate: None,
        flag: LineFlag::Item,
        original: None,
        adjustment: Adjustment::default(),
    };
    let tender = Tender {
        tender: TenderType::Cash,
        amount_minor,
        currency: None,
        status: TenderStatus::Approved,
        payment: None,
        auth: None,
        card: None,
        cash: None,
    };
    Basket {
        currency: "GBP".parse().unwrap(),
        lines: vec![line],
        tenders: vec![tender],
        rounding_minor: 0,
        tip_minor: 0,
    }
}
