//! The chart of accounts (LEDGER-RULES section 6): names, code numbers and what each is for. It never moves money;
//! `posting` decides which account explains a record.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ids::{StoreId, TerminalId};

/// An account of the store's books. Almost in the order of the code numbers: the place is part of the stored form.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Account {
    /// Cash in the drawer of a till.
    Drawer(TerminalId),
    /// Cash in the safe of the store.
    Safe(StoreId),
    /// Card payments authorised, not yet settled.
    CardClearing,
    /// Card payments accepted offline, no answer yet.
    OfflinePending,
    /// Goods gone, payment declined or expired.
    DeclinedCards,
    /// To be recovered from a customer, employee or acquirer.
    Recovery,
    /// Coupons that a manufacturer repays.
    CouponsReceivable,
    /// Other tenders that somebody repays.
    OtherTender,
    /// Payouts of the acquirer.
    BankSettlement,
    /// Reason side of held sales.
    SuspenseSales,
    /// Reason side of held refunds.
    SuspenseRefunds,
    /// Reason side of held voids.
    SuspenseVoids,
    /// Tender that differs from the total.
    SuspenseDifferences,
    /// Card money that no record explains yet.
    SuspensePayments,
    /// Tax payable, by tax code.
    SalesTax(Option<Arc<str>>),
    /// Tips owed to employees.
    Tips,
    /// Multi-purpose gift cards.
    GiftCards,
    /// Store credit.
    StoreCredit,
    /// Refunds promised, not yet paid out.
    CustomerRefundsDue,
    /// Sales, net of tax.
    Sales,
    /// Accepted refunds, net of tax.
    Returns,
    /// Cash rounding.
    CashRounding,
    /// Counted less expected cash.
    CashOverShort,
    /// Declined offline cards given up.
    BadDebt,
    /// Refunds paid without a sale behind them.
    RefundLosses,
    /// The same, on purpose.
    Goodwill,
    /// Fees of the acquirer.
    CardFees,
    /// Any other account a reviewer or a reason code names.
    Named(Arc<str>),
    /// Discounts against sales at list price, net of tax. It came later: its place is where old entries leave room.
    Discounts,
}

/// Why a text is not an account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is not an account; give Assets:, Liabilities:, Equity:, Income: or Expenses: followed by a name of letters, \
     digits and '-', such as Expenses:Petty-Cash"
)]
pub struct BadAccount(pub String);

/// Accounts without a dimension: account, code, name.
const PLAIN: &[(Account, u16, &str)] = &[
    (Account::CardClearing, 1110, "Assets:Card:Clearing"),
    (Account::OfflinePending, 1120, "Assets:Card:Offline-Pending"),
    (Account::DeclinedCards, 1130, "Assets:Receivable:Declined-Cards"),
    (Account::Recovery, 1140, "Assets:Receivable:Recovery"),
    (Account::CouponsReceivable, 1150, "Assets:Coupons-Receivable"),
    (Account::OtherTender, 1150, "Assets:Other-Tender"),
    (Account::BankSettlement, 1200, "Assets:Bank:Settlement"),
    (Account::SuspenseSales, 1910, "Assets:Suspense:Sales"),
    (Account::SuspenseRefunds, 1910, "Assets:Suspense:Refunds"),
    (Account::SuspenseVoids, 1910, "Assets:Suspense:Voids"),
    (Account::SuspenseDifferences, 1920, "Assets:Suspense:Differences"),
    (Account::SuspensePayments, 1930, "Assets:Suspense:Payments"),
    (Account::SalesTax(None), 2100, "Liabilities:Sales-Tax"),
    (Account::Tips, 2200, "Liabilities:Tips"),
    (Account::GiftCards, 2300, "Liabilities:Gift-Cards"),
    (Account::StoreCredit, 2300, "Liabilities:Store-Credit"),
    (Account::CustomerRefundsDue, 2400, "Liabilities:Customer-Refunds-Due"),
    (Account::Sales, 4000, "Income:Sales"),
    (Account::Returns, 4100, "Income:Returns"),
    (Account::Discounts, 4200, "Income:Discounts"),
    (Account::CashRounding, 4900, "Income:Cash-Rounding"),
    (Account::CashOverShort, 5100, "Expenses:Cash-Over-Short"),
    (Account::BadDebt, 5200, "Expenses:Bad-Debt"),
    (Account::RefundLosses, 5300, "Expenses:Refund-Losses"),
    (Account::Goodwill, 5310, "Expenses:Goodwill"),
    (Account::CardFees, 5400, "Expenses:Card-Fees"),
];

const DRAWER: &str = "Assets:Cash:Drawer:";
const SAFE: &str = "Assets:Cash:Safe:";
const TAX: &str = "Liabilities:Sales-Tax:";
/// Roots under which a named account may stand, with the code of accounts outside the chart.
const ROOTS: &[(&str, u16)] =
    &[("Assets:", 1990), ("Liabilities:", 2990), ("Equity:", 3000), ("Income:", 4990), ("Expenses:", 5990)];
/// Longest name a reviewer may give an account, in bytes.
const NAME_LIMIT: usize = 120;

impl Account {
    /// Tax payable under a tax code.
    #[must_use]
    pub fn tax(code: Option<&str>) -> Self {
        Self::SalesTax(code.map(Arc::from))
    }

    /// Whether amounts here wait for a reviewer.
    #[must_use]
    pub fn is_suspense(&self) -> bool {
        matches!(
            self,
            Self::SuspenseSales
                | Self::SuspenseRefunds
                | Self::SuspenseVoids
                | Self::SuspenseDifferences
                | Self::SuspensePayments
        )
    }

    /// The code number of the chart.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self {
            Self::Drawer(_) => 1010,
            Self::Safe(_) => 1020,
            Self::SalesTax(_) => 2100,
            Self::Named(name) => {
                ROOTS.iter().find(|root| name.starts_with(root.0)).map_or(9990, |root| root.1)
            }
            plain => PLAIN.iter().find(|row| row.0 == *plain).map_or(9990, |row| row.1),
        }
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Drawer(terminal) => write!(f, "{DRAWER}{terminal}"),
            Self::Safe(store) => write!(f, "{SAFE}{store}"),
            Self::SalesTax(Some(code)) => write!(f, "{TAX}{code}"),
            Self::Named(name) => f.write_str(name),
            plain => {
                f.write_str(PLAIN.iter().find(|row| row.0 == *plain).map_or("Equity:Unknown", |row| row.2))
            }
        }
    }
}

impl FromStr for Account {
    type Err = BadAccount;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || BadAccount(text.chars().take(80).collect());
        if let Some(row) = PLAIN.iter().find(|row| row.2 == text) {
            return Ok(row.0.clone());
        }
        if let Some(terminal) = text.strip_prefix(DRAWER) {
            return terminal.parse().map(Self::Drawer).map_err(|_| bad());
        }
        if let Some(store) = text.strip_prefix(SAFE) {
            return store.parse().map(Self::Safe).map_err(|_| bad());
        }
        if let Some(code) = text.strip_prefix(TAX) {
            return Ok(Self::tax(Some(code)));
        }
        let rooted = ROOTS.iter().any(|root| text.len() > root.0.len() && text.starts_with(root.0));
        let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b':');
        let parts = text
            .split(':')
            .all(|part| part.starts_with(|c: char| c.is_ascii_uppercase() || c.is_ascii_digit()));
        if rooted && plain && parts && text.len() <= NAME_LIMIT {
            Ok(Self::Named(text.into()))
        } else {
            Err(bad())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_account_reads_back_what_it_prints() {
        for text in PLAIN.iter().map(|row| row.2).chain([
            "Assets:Cash:Drawer:till-01",
            "Assets:Cash:Safe:s1",
            "Liabilities:Sales-Tax:A",
            "Expenses:Petty-Cash",
        ]) {
            assert_eq!(text.parse::<Account>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_name_that_no_ledger_program_takes_is_refused() {
        for text in ["Petty", "Expenses:", "Expenses:petty", "Expenses:A B", "Assets::X", "Expenses:\u{e9}"] {
            assert!(text.parse::<Account>().is_err(), "{text}");
        }
        assert!(
            PLAIN.windows(2).all(|pair| pair[0].1 <= pair[1].1),
            "the chart is in the order of its codes"
        );
    }
}
