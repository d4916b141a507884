//! A naive second opinion of the books, written differently: it knows only which acknowledged transaction moved how
//! much money at which till, and nothing of families, holds or order.

use std::collections::BTreeMap;

use engine::ledger::{Account, Books};

use crate::shop::Shop;

/// Where the hub's books differ from the money that tills acknowledged.
#[must_use]
pub fn money_differs(shop: &Shop, books: &Books) -> Option<String> {
    let mut expected: BTreeMap<String, i128> = BTreeMap::new();
    for ((till, tender), minor) in &shop.money {
        let account = match *tender {
            "cash" => format!("Assets:Cash:Drawer:{till}"),
            _ => Account::CardClearing.to_string(),
        };
        *expected.entry(account).or_default() += i128::from(*minor);
    }
    let mut found: BTreeMap<String, i128> = BTreeMap::new();
    for ((account, _), minor) in books.balances() {
        if matches!(account, Account::Drawer(_) | Account::CardClearing) {
            *found.entry(account.to_string()).or_default() += minor;
        }
    }
    expected.retain(|_, minor| *minor != 0);
    found.retain(|_, minor| *minor != 0);
    (expected != found).then(|| format!("tills took {expected:?}, the books say {found:?}"))
}
