//! A case: what is doubtful, who is involved, what is held and why. A case is a function of the set of records; its
//! history (opened, changed, resolved) is told in events and kept by the hub.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{RecordId, StoreId};
use crate::money::Currency;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The word used in the rules and in JSON.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ();

            fn from_str(text: &str) -> Result<Self, ()> {
                Self::ALL.iter().copied().find(|word| word.as_str() == text).ok_or(())
            }
        }
    };
}

words! {
    /// What kind of doubt a case is about (section 8).
    CaseType {
        /// Competing reversals of one record.
        ReversalConflict = "REVERSAL_CONFLICT",
        /// The original is not here yet, or is held.
        AwaitingOriginal = "AWAITING_ORIGINAL",
        /// The original does not exist.
        OrphanReference = "ORPHAN_REFERENCE",
        /// A return without a receipt.
        NoReference = "NO_REFERENCE",
        /// A reference to something that cannot be reversed so.
        InvalidReference = "INVALID_REFERENCE",
        /// A void that came after the day's close or the card settlement.
        VoidAfterClose = "VOID_AFTER_CLOSE",
        /// A void that pays back by other tenders.
        VoidTenderMismatch = "VOID_TENDER_MISMATCH",
        /// A refund above the limit without approver.
        RefundOverLimit = "REFUND_OVER_LIMIT",
        /// One basket or receipt number in two records.
        DuplicateCapture = "DUPLICATE_CAPTURE",
        /// One card authorisation in two records.
        DuplicatePayment = "DUPLICATE_PAYMENT",
        /// The same basket twice within a minute.
        SuspectedDuplicate = "SUSPECTED_DUPLICATE",
        /// Two records with one number.
        ClonedTerminal = "CLONED_TERMINAL",
        /// A record that does not follow its predecessor.
        BrokenChain = "BROKEN_CHAIN",
        /// A missing number.
        SequenceGap = "SEQUENCE_GAP",
        /// Records after the last valid one of a revoked till.
        RevokedTerminal = "REVOKED_TERMINAL",
        /// A clock that runs backwards.
        ClockSkew = "CLOCK_SKEW",
        /// Tenders that do not add up, or a cash movement without account.
        TenderMismatch = "TENDER_MISMATCH",
        /// A currency the store does not take.
        CurrencyMismatch = "CURRENCY_MISMATCH",
        /// A sign that the kind of record does not allow.
        NegativeAmount = "NEGATIVE_AMOUNT",
        /// An offline card payment that failed.
        FailedPayment = "FAILED_PAYMENT",
        /// A card refund that failed.
        FailedRefundPayment = "FAILED_REFUND_PAYMENT",
        /// A payment approved after its sale was voided.
        PaymentAfterVoid = "PAYMENT_AFTER_VOID",
        /// A refund by a tender the sale did not have.
        RefundOtherTender = "REFUND_OTHER_TENDER",
        /// A record of a day that was already locked.
        LateRecord = "LATE_RECORD",
        /// A Z report that differs from its records.
        ZMismatch = "Z_MISMATCH",
        /// Counted cash beyond the tolerance.
        CashOverShort = "CASH_OVER_SHORT",
        /// A line whose amount is not price times quantity.
        LineArithmetic = "LINE_ARITHMETIC",
        /// A line whose tax is not its rate.
        TaxArithmetic = "TAX_ARITHMETIC",
        /// A refund after the refund window.
        RefundWindow = "REFUND_WINDOW",
    }
}

words! {
    /// Why a record is held. The order is that of section 5: the first of several is used for decisions.
    Reason {
        /// See the case of this name.
        ClonedTerminal = "CLONED_TERMINAL",
        /// See the case of this name.
        BrokenChain = "BROKEN_CHAIN",
        /// See the case of this name.
        RevokedTerminal = "REVOKED_TERMINAL",
        /// See the case of this name.
        CurrencyMismatch = "CURRENCY_MISMATCH",
        /// See the case of this name.
        NegativeAmount = "NEGATIVE_AMOUNT",
        /// See the case of this name.
        DuplicateCapture = "DUPLICATE_CAPTURE",
        /// See the case of this name.
        DuplicatePayment = "DUPLICATE_PAYMENT",
        /// See the case of this name.
        InvalidReference = "INVALID_REFERENCE",
        /// See the case of this name.
        AwaitingOriginal = "AWAITING_ORIGINAL",
        /// See the case of this name.
        OrphanReference = "ORPHAN_REFERENCE",
        /// Two voids of one record.
        DoubleVoid = "DOUBLE_VOID",
        /// A refund of a voided sale.
        RefundAfterVoid = "REFUND_AFTER_VOID",
        /// A void of a sale that was refunded.
        VoidAfterRefund = "VOID_AFTER_REFUND",
        /// More returned than sold.
        OverRefund = "OVER_REFUND",
        /// See the case of this name.
        VoidTenderMismatch = "VOID_TENDER_MISMATCH",
        /// See the case of this name.
        VoidAfterClose = "VOID_AFTER_CLOSE",
        /// See the case of this name.
        NoReference = "NO_REFERENCE",
        /// See the case of this name.
        RefundOverLimit = "REFUND_OVER_LIMIT",
    }
}

impl Reason {
    /// The case that a hold for this reason belongs to.
    #[must_use]
    pub fn case_type(self) -> CaseType {
        match self {
            Self::ClonedTerminal => CaseType::ClonedTerminal,
            Self::BrokenChain => CaseType::BrokenChain,
            Self::RevokedTerminal => CaseType::RevokedTerminal,
            Self::CurrencyMismatch => CaseType::CurrencyMismatch,
            Self::NegativeAmount => CaseType::NegativeAmount,
            Self::DuplicateCapture => CaseType::DuplicateCapture,
            Self::DuplicatePayment => CaseType::DuplicatePayment,
            Self::InvalidReference => CaseType::InvalidReference,
            Self::AwaitingOriginal => CaseType::AwaitingOriginal,
            Self::OrphanReference => CaseType::OrphanReference,
            Self::DoubleVoid | Self::RefundAfterVoid | Self::VoidAfterRefund | Self::OverRefund => {
                CaseType::ReversalConflict
            }
            Self::VoidTenderMismatch => CaseType::VoidTenderMismatch,
            Self::VoidAfterClose => CaseType::VoidAfterClose,
            Self::NoReference => CaseType::NoReference,
            Self::RefundOverLimit => CaseType::RefundOverLimit,
        }
    }

    /// Whether the record only lacks approval: such a hold uses up what it returns (section 5, E).
    #[must_use]
    pub fn is_policy_hold(self) -> bool {
        matches!(self, Self::VoidAfterClose | Self::RefundOverLimit)
    }
}

impl CaseType {
    /// Severity when the case opens: 1 the same day, 2 before the period is locked, 3 information.
    #[must_use]
    pub fn severity(self) -> u8 {
        match self {
            Self::NoReference
            | Self::VoidAfterClose
            | Self::RefundOverLimit
            | Self::TenderMismatch
            | Self::FailedPayment
            | Self::CashOverShort => 2,
            Self::AwaitingOriginal
            | Self::SuspectedDuplicate
            | Self::SequenceGap
            | Self::ClockSkew
            | Self::RefundOtherTender
            | Self::LateRecord
            | Self::LineArithmetic
            | Self::TaxArithmetic
            | Self::RefundWindow => 3,
            _ => 1,
        }
    }

    /// Severity once the case is older than the policy's ageing limit.
    #[must_use]
    pub fn aged_severity(self) -> u8 {
        match self {
            Self::AwaitingOriginal => 2,
            Self::SequenceGap => 1,
            other => other.severity(),
        }
    }
}

/// Key of a case. The subject is text so that decisions can name it; `subject` has one maker for each form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct CaseKey {
    /// The type.
    pub case_type: CaseType,
    /// What it is about.
    pub subject: String,
}

impl CaseKey {
    /// A key from its parts.
    pub fn new(case_type: CaseType, subject: impl Into<String>) -> Self {
        Self { case_type, subject: subject.into() }
    }

    /// Short text that names the case in a store: the same wherever the case is found.
    #[must_use]
    pub fn id(&self, store: &StoreId) -> String {
        let mut hasher = blake3::Hasher::new_derive_key("tillsync case id v1");
        for part in [store.as_str(), self.case_type.as_str(), self.subject.as_str()] {
            hasher.update(&(part.len() as u64).to_le_bytes()).update(part.as_bytes());
        }
        let hash = hasher.finalize();
        format!("C-{}", &hash.to_hex()[..10])
    }
}

/// Makers of subjects: one for each form that section 8 names.
pub mod subject {
    use crate::ids::{LogId, RecordId, TerminalId};
    use crate::transaction::Reference;

    /// A record.
    #[must_use]
    pub fn record(id: &RecordId) -> String {
        id.to_string()
    }

    /// What a reference names, whether it is here or not.
    #[must_use]
    pub fn reference(reference: &Reference) -> String {
        if let Some(id) = &reference.id {
            return record(id);
        }
        let mut parts: Vec<String> = Vec::new();
        parts.extend(reference.store.as_ref().map(|store| format!("store:{store}")));
        parts.extend(reference.terminal.as_ref().map(|terminal| format!("till:{terminal}")));
        parts.extend(reference.seq.map(|seq| format!("seq:{seq}")));
        parts.extend(reference.receipt.as_ref().map(|receipt| format!("receipt:{receipt}")));
        parts.join(" ")
    }

    /// An idempotency key.
    #[must_use]
    pub fn idempotency_key(key: &str) -> String {
        format!("key:{key}")
    }

    /// A receipt number, in a till or (without one) in the store.
    #[must_use]
    pub fn receipt(terminal: Option<&TerminalId>, receipt: &str) -> String {
        terminal
            .map_or_else(|| format!("receipt:{receipt}"), |terminal| format!("receipt:{terminal}:{receipt}"))
    }

    /// A point in a log.
    #[must_use]
    pub fn point(log: &LogId, seq: u64) -> String {
        format!("{log}:{seq}")
    }

    /// A day close: till and number, with the incarnation only where there was more than one.
    #[must_use]
    pub fn close(log: &LogId, seq: u64) -> String {
        if log.incarnation == 1 { format!("{}:{seq}", log.terminal) } else { point(log, seq) }
    }
}

/// Whether the loser of a reversal conflict knew of the winner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Knowledge {
    /// Neither could know: two honest tills in a partition.
    Concurrent,
    /// The loser had received the winner: a question of procedure, or fraud.
    Knowing,
}

/// The verdict on one loser.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The held record.
    pub loser: RecordId,
    /// The record that took what it wanted.
    pub winner: RecordId,
    /// Whether the loser had seen the winner.
    pub knowledge: Knowledge,
    /// If knowing: the number in the loser's log from which on its till had the winner.
    pub known_since: Option<u64>,
}

/// A hold: the reason, and whether a decision lifted it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    pub reason: Reason,
    /// The case it belongs to.
    pub key: CaseKey,
}

/// What has to happen to a case.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CaseState {
    /// A held member has no disposition, or an advisory is not acknowledged.
    Open,
    /// A reviewer has decided.
    Decided,
    /// What was held is netted by a void.
    SelfCancelled,
}

impl CaseState {
    /// The word used in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Decided => "decided",
            Self::SelfCancelled => "self-cancelled",
        }
    }
}

/// A case as the set stands.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Case {
    /// Short stable text.
    pub id: String,
    /// Type and subject.
    pub key: CaseKey,
    /// What it is about, for people: `receipt 1004 of till-01`.
    pub about: String,
    /// 1 the same day, 2 before the period is locked, 3 information.
    pub severity: u8,
    /// What has to happen.
    pub state: CaseState,
    /// Everyone involved.
    pub members: BTreeSet<RecordId>,
    /// Members whose reason side is not (or was not, until decided) explained, with the reason.
    pub held: BTreeMap<RecordId, Reason>,
    /// What is in question, minor units: the gross of the held members, or the difference.
    pub amount_minor: i64,
    /// Currency of the amount.
    pub currency: Option<Currency>,
    /// Reversal conflicts: whether each loser knew.
    pub verdicts: Vec<Verdict>,
    /// Effective time of what opened it, ms.
    pub opened_ms: i64,
    /// Hash of the members: a decision names the version that the reviewer saw.
    pub version: RecordId,
    /// Hub records of the decisions in force.
    pub decisions: Vec<RecordId>,
}

impl Case {
    /// The version of a case: the hash of its member ids.
    #[must_use]
    pub fn version_of(members: &BTreeSet<RecordId>) -> RecordId {
        let mut hasher = blake3::Hasher::new_derive_key("tillsync case version v1");
        for member in members {
            hasher.update(&member.0);
        }
        RecordId(*hasher.finalize().as_bytes())
    }

    /// Severity at a time: gaps and awaited originals become urgent with age.
    #[must_use]
    pub fn severity_at(&self, now_ms: i64, ageing_hours: u32) -> u8 {
        let aged = now_ms.saturating_sub(self.opened_ms) > i64::from(ageing_hours) * 3_600_000;
        if aged { self.severity.min(self.key.case_type.aged_severity()) } else { self.severity }
    }

    /// Knowing, if any loser knew; `None` where the question does not arise.
    #[must_use]
    pub fn knowledge(&self) -> Option<Knowledge> {
        self.verdicts.iter().map(|verdict| verdict.knowledge).max()
    }
}

/// What happened to a case in a settle.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub enum CaseChange {
    /// It is new.
    Opened,
    /// Members, amounts or severity changed, or it is open again.
    Changed,
    /// A reviewer's decision settled it.
    Decided,
    /// A void netted it.
    SelfCancelled,
    /// The condition no longer holds.
    Resolved,
}

/// A change of a case, for the hub's case log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CaseEvent {
    /// What happened.
    pub change: CaseChange,
    /// The case after it (before it, if resolved).
    pub case: Case,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_several_reasons_is_the_one_section_5_lists_first() {
        assert!(Reason::ALL.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(Reason::ClonedTerminal < Reason::DuplicateCapture);
        assert!(
            Reason::OrphanReference < Reason::DoubleVoid && Reason::OverRefund < Reason::VoidTenderMismatch
        );
        for reason in Reason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
    }

    #[test]
    fn a_gap_becomes_urgent_with_age() {
        let key = CaseKey::new(CaseType::SequenceGap, "till-01/1:2");
        let case = Case {
            id: key.id(&"s1".parse().unwrap()),
            severity: key.case_type.severity(),
            key,
            about: String::new(),
            state: CaseState::Open,
            members: BTreeSet::new(),
            held: BTreeMap::new(),
            amount_minor: 0,
            currency: None,
            verdicts: Vec::new(),
            opened_ms: 0,
            version: RecordId::default(),
            decisions: Vec::new(),
        };
        assert_eq!(case.severity_at(3_600_000, 24), 3);
        assert_eq!(case.severity_at(25 * 3_600_000, 24), 1);
    }
}
