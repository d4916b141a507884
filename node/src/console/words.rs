//! What codes mean, as one would say it to a shop manager: doubts, reasons, decisions, accounts, states of a day. Pure.

use engine::ledger::{Account, DayState};
use engine::replica::CustodyStep;
use engine::review::{CaseState, CaseType, Reason};
use engine::transaction::{DecisionAction, Kind, TenderStatus, TenderType};

use super::layout::Tone;

/// A till's day in a word.
pub fn till_day(state: DayState) -> (Tone, &'static str) {
    match state {
        DayState::Gap => (Tone::Bad, "a number is missing"),
        DayState::Missing => (Tone::Warn, "not all arrived"),
        DayState::Unheard => (Tone::Calm, "nothing heard"),
        DayState::Open => (Tone::Calm, "open"),
        DayState::Complete => (Tone::Warn, "closed, to check"),
        DayState::NoTrade => (Tone::Calm, "no trade"),
        DayState::Finished => (Tone::Good, "finished"),
    }
}

/// How urgent a case is.
pub fn urgency(severity: u8) -> (Tone, &'static str) {
    match severity {
        1 => (Tone::Bad, "today"),
        2 => (Tone::Warn, "before the month is locked"),
        _ => (Tone::Calm, "for information"),
    }
}

/// What became of a case.
pub fn case_state(state: CaseState) -> (Tone, &'static str) {
    match state {
        CaseState::Open => (Tone::Warn, "to decide"),
        CaseState::Decided => (Tone::Good, "decided"),
        CaseState::SelfCancelled => (Tone::Good, "cancelled itself"),
    }
}

/// What a transaction is called.
pub fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Sale => "Sale",
        Kind::Refund => "Refund",
        Kind::Void => "Void",
        Kind::CashMove => "Cash movement",
        Kind::DayClose => "Day close",
        Kind::Hub => "Head office",
    }
}

/// A means of payment.
pub fn tender_name(tender: TenderType) -> &'static str {
    match tender {
        TenderType::Cash => "Cash",
        TenderType::Card => "Card",
        TenderType::GiftCard => "Gift card",
        TenderType::StoreCredit => "Store credit",
        TenderType::Coupon => "Coupon",
        TenderType::Other => "Other",
    }
}

/// How something was paid.
pub fn tender(tender: TenderType, status: TenderStatus) -> String {
    let name = tender_name(tender);
    match status {
        TenderStatus::Approved | TenderStatus::Mirror => name.to_owned(),
        TenderStatus::Pending => format!("{name}, not confirmed yet"),
        TenderStatus::Declined => format!("{name}, declined"),
    }
}

/// A step of the custody ladder.
pub fn custody(step: CustodyStep) -> &'static str {
    match step {
        CustodyStep::Saved => "Saved on the till",
        CustodyStep::OnPeer => "On another till as well",
        CustodyStep::AtHub => "Safe at the hub",
        CustodyStep::Posted => "In the books",
        CustodyStep::InReview => "In the books, to be decided",
        CustodyStep::Exported => "Handed to the bookkeeper",
    }
}

/// What a case is about, in a few words.
pub fn doubt(case: CaseType) -> &'static str {
    match case {
        CaseType::ReversalConflict => "Given back twice",
        CaseType::AwaitingOriginal => "The sale has not arrived yet",
        CaseType::OrphanReference => "The sale does not exist",
        CaseType::NoReference => "Refund without a receipt",
        CaseType::InvalidReference => "Cannot be given back like this",
        CaseType::VoidAfterClose => "Void after the day was closed",
        CaseType::VoidTenderMismatch => "Void paid back differently",
        CaseType::RefundOverLimit => "Refund above the limit",
        CaseType::DuplicateCapture => "The same sale twice",
        CaseType::DuplicatePayment => "One card payment, two sales",
        CaseType::SuspectedDuplicate => "Perhaps rung twice",
        CaseType::ClonedTerminal => "A copied till",
        CaseType::BrokenChain => "A receipt that does not follow",
        CaseType::SequenceGap => "A number is missing",
        CaseType::RevokedTerminal => "From a till that was shut out",
        CaseType::ClockSkew => "The till's clock jumped",
        CaseType::TenderMismatch => "Paid more or less than the total",
        CaseType::CurrencyMismatch => "A currency not taken here",
        CaseType::NegativeAmount => "An amount with the wrong sign",
        CaseType::FailedPayment => "A card payment failed",
        CaseType::FailedRefundPayment => "A card refund failed",
        CaseType::PaymentAfterVoid => "Paid after it was voided",
        CaseType::RefundOtherTender => "Refunded another way than paid",
        CaseType::LateRecord => "Arrived after the day was locked",
        CaseType::ZMismatch => "Day close and receipts differ",
        CaseType::CashOverShort => "Cash too much or too little",
        CaseType::LineArithmetic => "Price times quantity is off",
        CaseType::TaxArithmetic => "The tax is off",
        CaseType::RefundWindow => "Refund after the time limit",
    }
}

/// The rule behind a case, in plain words.
pub fn rule(case: CaseType) -> &'static str {
    match case {
        CaseType::ReversalConflict => {
            "A sale can be given back once. Here voids or refunds together give back more than was sold. The first one counts; what comes after it is held, because its money has left the drawer without a sale behind it."
        }
        CaseType::AwaitingOriginal => {
            "This gives back a sale that has not arrived yet; its till may be offline. When the sale arrives, the case ends by itself."
        }
        CaseType::OrphanReference => {
            "This gives back a sale that does not exist: everything of that till is here, and no such receipt is among it."
        }
        CaseType::NoReference => {
            "Goods were taken back without a receipt. Your policy wants somebody to look at it."
        }
        CaseType::InvalidReference => {
            "It names a receipt that cannot be reversed so: a void of a void, a refund of something that is no sale, another currency, or a line that is not there."
        }
        CaseType::VoidAfterClose => {
            "A void cancels a sale on the same day, before the till is closed. After that it is a refund: convert it, or say what it was."
        }
        CaseType::VoidTenderMismatch => {
            "A void must give the money back as it was paid. This one gave it back another way or another amount."
        }
        CaseType::RefundOverLimit => {
            "The refund is above the store's limit, and nobody approved it at the till."
        }
        CaseType::DuplicateCapture => {
            "Two receipts carry the same number or come from the same basket. The first one counts, the other is held."
        }
        CaseType::DuplicatePayment => {
            "One card authorisation is on two receipts. The card was charged once, so only the first counts."
        }
        CaseType::SuspectedDuplicate => {
            "The same goods for the same price on the same till within a minute. Both count; please look whether it was one customer."
        }
        CaseType::ClonedTerminal => {
            "Two receipts of one till have the same number: the till was copied, or restored from a backup. One branch counts, the other is held."
        }
        CaseType::BrokenChain => {
            "Every receipt names the one before it. This one names another than the one that is there."
        }
        CaseType::SequenceGap => {
            "A till numbers its receipts without gaps. One number has not arrived, and later ones have."
        }
        CaseType::RevokedTerminal => "The till made these receipts after it was shut out.",
        CaseType::ClockSkew => "The till's clock ran backwards, or its business day does not fit the time.",
        CaseType::TenderMismatch => {
            "What was paid differs from the total. The difference stands in suspense until it is explained."
        }
        CaseType::CurrencyMismatch => {
            "The store does not take this currency, or a refund is in another than its sale."
        }
        CaseType::NegativeAmount => "An amount has a sign that this kind of receipt cannot have.",
        CaseType::FailedPayment => {
            "The card payment was accepted offline and failed later. The goods are gone."
        }
        CaseType::FailedRefundPayment => "The money of a card refund did not reach the customer.",
        CaseType::PaymentAfterVoid => {
            "The sale was voided, and its card payment went through afterwards. The customer has money to get back."
        }
        CaseType::RefundOtherTender => {
            "The money went back another way than it came in. Only for your information."
        }
        CaseType::LateRecord => "The day was locked when this arrived. It counts on the first open day.",
        CaseType::ZMismatch => {
            "The figures of the till's day close differ from its receipts, or receipts are missing."
        }
        CaseType::CashOverShort => {
            "The counted cash differs from what should be in the drawer by more than is tolerated."
        }
        CaseType::LineArithmetic => "The amount of a line is not its price times its quantity.",
        CaseType::TaxArithmetic => "The tax of a line is not what its rate gives.",
        CaseType::RefundWindow => "The refund came later than the store's time for refunds.",
    }
}

/// Why a receipt is held.
pub fn held(reason: Reason) -> &'static str {
    match reason {
        Reason::DoubleVoid => "already voided by another",
        Reason::RefundAfterVoid => "the sale was voided before",
        Reason::VoidAfterRefund => "the sale was refunded before",
        Reason::OverRefund => "more given back than was sold",
        other => doubt(other.case_type()),
    }
}

/// A decision: what it is called, and what it says.
pub fn action(action: DecisionAction) -> (&'static str, &'static str) {
    match action {
        DecisionAction::Approve => ("Accept it", "It is right; it counts like any other."),
        DecisionAction::Convert => ("Make it a refund", "The void was late; it counts as a refund of today."),
        DecisionAction::Prefer => (
            "Let this one count",
            "It counts instead of the one that counts now; that one is then held and needs its own decision.",
        ),
        DecisionAction::Remove => {
            ("It never happened", "Neither goods nor money moved; both sides are taken out of the books.")
        }
        DecisionAction::Genuine => ("It is genuine", "It happened as it says; the hold is lifted."),
        DecisionAction::Goodwill => ("Goodwill", "The money was given on purpose and is an expense."),
        DecisionAction::WriteOff => ("Write it off", "The money is gone and is a loss."),
        DecisionAction::OverShort => (
            "The drawer is wrong",
            "The cash was not paid out, or twice; the drawer shows it when it is counted.",
        ),
        DecisionAction::Recover => ("Get it back", "Somebody owes the money; say who."),
        DecisionAction::Classify => {
            ("Put it on an account", "Name the account that explains the difference.")
        }
        DecisionAction::Retry => {
            ("Try the card again", "Nothing is posted; the next answer of the card company counts.")
        }
        DecisionAction::Paid => ("It was paid after all", "By cash or by card; say which."),
        DecisionAction::BadDebt => ("Give it up", "The customer will not pay; it is a bad debt."),
        DecisionAction::TaxRelief => ("Reclaim the tax", "Where the law allows it for a bad debt."),
        DecisionAction::Reversed => {
            ("The card company reversed it", "The customer has the money back on the card.")
        }
        DecisionAction::PaidOut => ("The customer was paid out", "By cash or by card; say which."),
        DecisionAction::Acknowledge => ("Seen", "Nothing changes in the books."),
    }
}

/// What an account is for.
pub fn account(account: &Account) -> &'static str {
    match account {
        Account::Drawer(_) => "Cash in the drawer",
        Account::Safe(_) => "Cash in the safe",
        Account::CardClearing => "Card payments on their way",
        Account::OfflinePending => "Card payments not confirmed yet",
        Account::DeclinedCards => "Card payments that failed",
        Account::Recovery => "To be got back",
        Account::CouponsReceivable => "Coupons to be repaid",
        Account::OtherTender => "Other means of payment",
        Account::BankSettlement => "Paid out by the card company",
        Account::SuspenseSales => "Sales to be decided",
        Account::SuspenseRefunds => "Refunds to be decided",
        Account::SuspenseVoids => "Voids to be decided",
        Account::SuspenseDifferences => "Differences to be explained",
        Account::SuspensePayments => "Card money to be explained",
        Account::SalesTax(_) => "Tax owed",
        Account::Tips => "Tips owed to staff",
        Account::GiftCards => "Gift cards sold",
        Account::StoreCredit => "Store credit owed",
        Account::CustomerRefundsDue => "Owed to customers",
        Account::Sales => "Sales without tax",
        Account::Returns => "Refunds without tax",
        Account::Discounts => "Discounts",
        Account::CashRounding => "Cash rounding",
        Account::CashOverShort => "Cash too much or too little",
        Account::BadDebt => "Bad debt",
        Account::RefundLosses => "Losses on refunds",
        Account::Goodwill => "Goodwill",
        Account::CardFees => "Card fees",
        Account::Named(_) => "",
    }
}
