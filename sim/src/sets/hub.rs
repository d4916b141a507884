//! What the hub writes in random sets: outcomes, settlements, decisions, locks, revocations, policies, originals of
//! other stores.

use engine::ids::{LogId, RecordId, TerminalId, WriterId};
use engine::policy::PolicyChange;
use engine::transaction::{
    Body, Decision, DecisionAction, Enrolment, ForeignOriginal, HubRecord, Lock, LogHead, Outcome, Payment,
    Settled, Settlement, TenderType, Transaction,
};

use super::{FIRST_DAY, Place, RecordSet, START_MS, basket, terminal};

const SETTINGS: [&str; 12] = [
    "refund_limit_minor=500",
    "receipt_scope=store",
    "blind_refunds=flag",
    "refund_window_days=0",
    "accepted_currencies=GBP",
    "over_short_tolerance_minor=100",
    "till:till-01:refund_limit_minor=unlimited",
    "till:till-02:blind_refunds=allow",
    "till:till-01:refund_limit_minor=inherit",
    "company:refund_limit_minor=700",
    "company:receipt_scope=company",
    "refund_limit_minor=inherit",
];

impl RecordSet {
    pub(super) fn hub_step(&mut self) {
        let log = LogId { terminal: TerminalId::hub(), incarnation: 1 };
        let seq = self.arrivals.iter().filter(|row| row.0.log == log).count() as u64 + 1;
        let Some(statement) = self.statement(seq) else { return };
        let seen = if self.chance.once_in(2) { self.seen(&log) } else { Vec::new() };
        let transaction = Transaction {
            receipt: format!("H-{}", self.step),
            operator: None,
            idempotency_key: None,
            offline: false,
            body: Body::Hub(statement),
        };
        let place = Place { log, seq, prev: None, at_ms: self.now_ms(), business_day: FIRST_DAY };
        self.push(place, transaction, seen);
    }

    fn statement(&mut self, seq: u64) -> Option<HubRecord> {
        Some(match self.chance.below(30) {
            0..=5 => HubRecord::Payment(Payment {
                payment: format!("P{}", self.chance.below(6)),
                outcome: *self.chance.pick(&[Outcome::Approved, Outcome::Declined, Outcome::Expired]),
            }),
            6..=20 => HubRecord::Decision(self.decision(seq)?),
            21 | 22 => self.lock(seq),
            23 => self.settlement(),
            24 => HubRecord::Revoke {
                terminal: terminal(3),
                incarnation: *self.chance.pick(&[None, Some(1), Some(2)]),
                last_valid_seq: self.chance.below(8),
            },
            25 if self.chance.once_in(2) => HubRecord::Enrol(Enrolment {
                log: LogId { terminal: terminal(3), incarnation: 2 },
                writer: WriterId([3; 32]),
            }),
            25 | 26 => HubRecord::ForeignOriginal(foreign()),
            _ => {
                let from = self.chance.once_in(2).then_some(FIRST_DAY.plus(1));
                let setting = *self.chance.pick(&SETTINGS);
                HubRecord::Config(PolicyChange::parse([setting], from, "admin").ok()?)
            }
        })
    }

    fn settlement(&mut self) -> HubRecord {
        let auths: Vec<String> = self
            .arrivals
            .iter()
            .filter_map(|row| row.0.transaction.basket())
            .flat_map(|basket| &basket.tenders)
            .filter_map(|tender| tender.auth.clone())
            .collect();
        let mut payments =
            vec![Settled { payment: format!("P{}", self.chance.below(6)), amount_minor: 1_200 }];
        if !auths.is_empty() {
            payments.push(Settled { payment: self.chance.pick(&auths).clone(), amount_minor: 500 });
        }
        HubRecord::Settlement(Settlement { currency: basket::pounds(), payments, fees_minor: 12 })
    }

    /// A decision on some case of the set as it stands, mostly one that makes sense there.
    fn decision(&mut self, seq: u64) -> Option<Decision> {
        use DecisionAction as A;
        self.books.settle(FIRST_DAY);
        let cases: Vec<_> = self.books.cases().cloned().collect();
        if cases.is_empty() {
            return None;
        }
        let case = self.chance.pick(&cases).clone();
        let fitting: &[A] = match case.key.case_type.as_str() {
            "REVERSAL_CONFLICT" => {
                &[A::Prefer, A::Prefer, A::Goodwill, A::OverShort, A::Recover, A::Remove, A::WriteOff]
            }
            "FAILED_PAYMENT" => &[A::Paid, A::BadDebt, A::TaxRelief, A::TaxRelief, A::Retry],
            "FAILED_REFUND_PAYMENT" | "PAYMENT_AFTER_VOID" => &[A::Reversed, A::PaidOut],
            "VOID_AFTER_CLOSE" => &[A::Convert, A::Convert, A::WriteOff],
            "TENDER_MISMATCH" => &[A::Classify, A::Acknowledge],
            "REFUND_OVER_LIMIT"
            | "NO_REFERENCE"
            | "ORPHAN_REFERENCE"
            | "AWAITING_ORIGINAL"
            | "VOID_TENDER_MISMATCH" => {
                &[A::Approve, A::Approve, A::Approve, A::Goodwill, A::WriteOff, A::Recover]
            }
            "SUSPECTED_DUPLICATE" | "CLOCK_SKEW" | "SEQUENCE_GAP" | "Z_MISMATCH" | "LATE_RECORD" => {
                &[A::Acknowledge]
            }
            _ => &[A::Genuine, A::Genuine, A::Remove, A::WriteOff, A::Acknowledge],
        };
        let any = [
            A::Approve,
            A::Convert,
            A::Prefer,
            A::Remove,
            A::Genuine,
            A::Goodwill,
            A::OverShort,
            A::Classify,
            A::Retry,
        ];
        let action =
            if self.chance.once_in(8) { *self.chance.pick(&any) } else { *self.chance.pick(fitting) };
        let members: Vec<RecordId> = case.members.iter().copied().collect();
        let member = (action == A::Prefer || !self.chance.once_in(3)).then(|| *self.chance.pick(&members));
        // Partitioned reviewers: the number of a decision may repeat one that is already there.
        let number = if self.chance.once_in(10) { seq.saturating_sub(1).max(1) } else { seq };
        Some(Decision {
            number,
            case_type: case.key.case_type.as_str().to_owned(),
            subject: case.key.subject.clone(),
            case_version: Some(case.version),
            member,
            action,
            parameter: self
                .chance
                .pick(&[None, Some("Expenses:Other"), Some("card"), Some("cash")])
                .map(str::to_owned),
            terminal: self.chance.once_in(2).then(|| terminal(2)),
            reviewer: self.chance.pick(&["anna", "anna", "anna", "bob"]).to_string(),
            approver: self.chance.once_in(4).then(|| "carl".to_owned()),
            reason: String::new(),
        })
    }

    /// A lock of a few heads, or of all of them.
    fn lock(&mut self, seq: u64) -> HubRecord {
        let mut heads = Vec::new();
        for _ in 0..=self.chance.below(3) {
            if let Some(record) = self.some_record() {
                heads.push(LogHead { log: record.log.clone(), seq: record.seq, id: record.id });
            }
        }
        let open_day = FIRST_DAY.plus(i32::from(self.chance.once_in(2)));
        HubRecord::Lock(Lock { number: seq, heads, open_day })
    }
}

/// A sale of another store that the hub vouches for.
fn foreign() -> ForeignOriginal {
    let sold = basket::plain(2_400, 2, "A");
    ForeignOriginal {
        id: RecordId::symbolic("elsewhere"),
        store: "s2".parse().expect("a plain name"),
        log: LogId { terminal: "till-90".parse().expect("a plain name"), incarnation: 1 },
        seq: 7,
        receipt: "F-1".to_owned(),
        business_day: FIRST_DAY,
        effective_ms: START_MS,
        currency: sold.currency,
        lines: sold.lines,
        tenders: vec![basket::tender(TenderType::Card, 2_400)],
    }
}
