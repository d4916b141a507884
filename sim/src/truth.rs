//! The known truth of a run: what was acknowledged to whom, what was planted, and what was lost with a device. The
//! checks hold the books against this; nothing here comes from the books.

use std::collections::{BTreeMap, BTreeSet};

use engine::ids::RecordId;
use engine::transaction::{Body, Transaction};

use crate::scenario::{Item, Paid};

/// A sale that a cashier was told is recorded.
#[derive(Debug, Clone)]
pub struct Sale {
    /// Till that rang it.
    pub till: String,
    /// Record and receipt.
    pub id: RecordId,
    /// Receipt number.
    pub receipt: String,
    /// What was sold.
    pub items: Vec<Item>,
    /// How it was paid.
    pub paid: Paid,
    /// Key of the basket.
    pub key: Option<String>,
    /// Tip, minor units.
    pub tip_minor: i64,
    /// Pieces of the first line that acknowledged refunds and exchanges took back.
    pub returned: i64,
    /// Acknowledged voids.
    pub voids: u32,
    /// Receipts of its acknowledged reversals.
    pub reversals: Vec<String>,
    /// The outcome of its card payment, once stated.
    pub outcome: Option<bool>,
}

impl Sale {
    /// Whether more was reversed than there was: a person must judge it.
    #[must_use]
    pub fn is_mischief(&self) -> bool {
        let sold = self.items.first().map_or(0, |item| item.pieces);
        self.voids > 1 || self.returned > sold || (self.voids == 1 && self.returned > 0)
    }

    /// Gross of everything sold, minor units.
    #[must_use]
    pub fn total_minor(&self) -> i64 {
        self.items.iter().map(|item| item.pieces * item.price_minor).sum()
    }
}

/// What a transaction says of a till's day, by the names of a Z's figures (`tender cash`, `tax`): minor units, a sale
/// positive. A close has no figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rung {
    /// Its figures.
    pub figures: BTreeMap<String, i64>,
    /// Whether it is the close of a day.
    pub closes: bool,
}

impl Rung {
    /// Of what a POS handed to a till.
    #[must_use]
    pub fn of(transaction: &Transaction) -> Self {
        let (basket, sign) = match &transaction.body {
            Body::Sale(basket) => (basket, 1),
            Body::Refund { basket, .. } | Body::Void { basket, .. } => (basket, -1),
            Body::CashMove { .. } | Body::Hub(_) => return Self::default(),
            Body::DayClose(_) => return Self { closes: true, ..Self::default() },
        };
        let mut figures: BTreeMap<String, i64> = BTreeMap::new();
        for tender in &basket.tenders {
            *figures.entry(format!("tender {}", tender.tender.as_str())).or_default() +=
                sign * tender.amount_minor;
        }
        for line in &basket.lines {
            *figures.entry("tax".to_owned()).or_default() += sign * line.tax_minor;
        }
        Self { figures, closes: false }
    }
}

/// Everything that is known.
#[derive(Debug, Default)]
pub struct Truth {
    /// What each till acknowledged under each number of its log.
    pub rung: BTreeMap<String, BTreeMap<u64, Rung>>,
    /// Tills whose log may have gone on elsewhere, or for which somebody else has spoken: what they believe of the hub
    /// may rest on another branch.
    pub forked: BTreeSet<String>,
    /// Acknowledged sales by receipt.
    pub sales: BTreeMap<String, Sale>,
    /// Everything acknowledged: receipt → record and till.
    pub acknowledged: BTreeMap<String, (RecordId, String)>,
    /// Receipts that existed only on a device that is gone: the only loss that is allowed.
    pub destroyed: BTreeSet<String>,
    /// Tills whose clock, device or right was tampered with: what they do may be held for good reasons.
    pub suspicious: BTreeSet<String>,
    /// Receipt numbers of what liars tried to bring in.
    pub lies: BTreeSet<String>,
    /// Whether reviewers decided, and whether periods were locked: then holds may be lifted or moved.
    pub decided: bool,
    /// See `decided`.
    pub locked: bool,
    /// Whether the hub itself lost records that only it had.
    pub hub_lost: bool,
    /// Whether a policy change may hold what was honest.
    pub policy_changed: bool,
}

impl Truth {
    /// Something was acknowledged.
    pub fn acknowledge(&mut self, till: &str, receipt: &str, id: RecordId) {
        self.acknowledged.insert(receipt.to_owned(), (id, till.to_owned()));
    }

    /// How many sales are mischief.
    #[must_use]
    pub fn mischief(&self) -> u64 {
        self.sales.values().filter(|sale| sale.is_mischief()).count() as u64
    }

    /// Keys that more than one till acknowledged for sales that nobody voided.
    #[must_use]
    pub fn doubled(&self) -> Vec<Vec<&Sale>> {
        let mut keys: BTreeMap<&str, Vec<&Sale>> = BTreeMap::new();
        for sale in self.sales.values().filter(|sale| sale.voids == 0) {
            if let Some(key) = &sale.key {
                keys.entry(key).or_default().push(sale);
            }
        }
        keys.into_values().filter(|sales| sales.len() > 1).collect()
    }
}
