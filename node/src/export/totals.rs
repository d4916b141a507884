//! Control totals of an export batch, and the check that what was written says the same. It sums integers and compares;
//! it writes nothing.

use std::collections::BTreeMap;

use engine::ids::StoreId;
use engine::ledger::{Account, JournalEntry};
use engine::money::Currency;
use serde_json::{Map, Value, json};

use super::ExportError;

/// Sums per account, as a format names it, and currency. Zeros are not kept.
pub type Sums = BTreeMap<(String, Currency), i128>;

/// What a bookkeeper compares after an import.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Totals {
    /// Journal entries.
    pub entries: u64,
    /// Sums of debits and of credits.
    pub sides: BTreeMap<Currency, (i128, i128)>,
    /// Balance of every account that the batch touches, also where it is zero.
    pub accounts: BTreeMap<(Account, Currency), i128>,
    /// First and last journal number of each store.
    pub numbers: BTreeMap<StoreId, (u64, u64)>,
}

impl Totals {
    /// Counts an entry. Entries of a store come in the order of their numbers.
    ///
    /// # Errors
    /// The entry does not balance: the program would refuse it, or worse, take it.
    pub fn add(&mut self, store: &StoreId, entry: &JournalEntry) -> Result<(), ExportError> {
        let mut differences: BTreeMap<Currency, i128> = BTreeMap::new();
        for posting in &entry.postings {
            let amount = i128::from(posting.amount_minor);
            let sides = self.sides.entry(posting.currency).or_default();
            if amount > 0 {
                sides.0 += amount;
            } else {
                sides.1 -= amount;
            }
            *differences.entry(posting.currency).or_default() += amount;
            *self.accounts.entry((posting.account.clone(), posting.currency)).or_default() += amount;
        }
        self.entries += 1;
        self.numbers.entry(store.clone()).or_insert((entry.number, 0)).1 = entry.number;
        match differences.into_iter().find(|(_, difference)| *difference != 0) {
            None => Ok(()),
            Some((currency, difference)) => Err(ExportError::Unbalanced {
                store: store.clone(),
                number: entry.number,
                difference: format!("{} {currency}", currency.format(difference)),
            }),
        }
    }

    /// The balances under the names of a format.
    #[must_use]
    pub fn named(&self, name: impl Fn(&Account) -> String) -> Sums {
        let mut sums = Sums::new();
        for ((account, currency), amount) in &self.accounts {
            add(&mut sums, name(account), *currency, *amount);
        }
        without_zeros(sums)
    }

    /// The JSON form.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let sides = self.sides.iter().map(|(currency, (debits, credits))| {
            (currency.to_string(), json!({"debits_minor": minor(*debits), "credits_minor": minor(*credits)}))
        });
        let accounts = self
            .accounts
            .iter()
            .map(|((account, currency), amount)| (format!("{account} {currency}"), minor(*amount)));
        let stores = self
            .numbers
            .iter()
            .map(|(store, (first, last))| (store.to_string(), json!({"first": first, "last": last})));
        json!({
            "entries": self.entries,
            "currencies": sides.collect::<Map<_, _>>(),
            "accounts": accounts.collect::<Map<_, _>>(),
            "stores": stores.collect::<Map<_, _>>(),
        })
    }
}

/// A sum in JSON: a number, or a string where 64 bits do not suffice.
fn minor(amount: i128) -> Value {
    i64::try_from(amount).map_or_else(|_| json!(amount.to_string()), |amount| json!(amount))
}

/// Adds to sums.
pub fn add(sums: &mut Sums, account: String, currency: Currency, amount_minor: i128) {
    *sums.entry((account, currency)).or_default() += amount_minor;
}

/// Sums without the accounts that come to nothing: a summary does not name them.
#[must_use]
pub fn without_zeros(mut sums: Sums) -> Sums {
    sums.retain(|_, amount| *amount != 0);
    sums
}

/// Reads an amount that has exactly the currency's digits back into minor units.
#[must_use]
pub fn read_amount(text: &str, currency: Currency) -> Option<i128> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
    let plain = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let exact = places.len() == usize::from(currency.exponent()) && digits.contains('.') != places.is_empty();
    if whole.is_empty() || !plain(whole) || !plain(places) || !exact {
        return None;
    }
    let value: i128 = format!("{whole}{places}").parse().ok()?;
    Some(if text.starts_with('-') { -value } else { value })
}

/// Compares what was read back with the control totals.
///
/// # Errors
/// An account says something else.
pub fn compare(written: Sums, wanted: &Sums) -> Result<(), ExportError> {
    let written = without_zeros(written);
    let names = wanted.keys().chain(written.keys());
    for name in names {
        let of = |sums: &Sums| sums.get(name).copied().unwrap_or(0);
        let (says, should) = (of(&written), of(wanted));
        if says != should {
            let shown = |amount: i128| format!("{} {}", name.1.format(amount), name.1);
            return Err(ExportError::RoundTrip {
                account: name.0.clone(),
                says: shown(says),
                should: shown(should),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_reads_back_only_with_the_digits_of_its_currency() {
        let read = |text: &str, currency: &str| read_amount(text, currency.parse().unwrap());
        for (text, currency, minor) in [
            ("-12.00", "GBP", Some(-1200)),
            ("0.07", "GBP", Some(7)),
            ("-0.001", "KWD", Some(-1)),
            ("1234567", "JPY", Some(1_234_567)),
            ("12.0", "GBP", None),
            ("12", "GBP", None),
            ("12.", "JPY", None),
            ("12.000", "GBP", None),
            ("1,234.00", "GBP", None),
            ("", "JPY", None),
        ] {
            assert_eq!(read(text, currency), minor, "{text} {currency}");
        }
    }

    #[test]
    fn a_sheet_that_differs_by_one_penny_is_named() {
        let gbp: Currency = "GBP".parse().unwrap();
        let sums = |cash: i128| Sums::from([(("Cash".to_owned(), gbp), cash), (("Nil".to_owned(), gbp), 0)]);
        assert_eq!(compare(sums(1200), &without_zeros(sums(1200))), Ok(()));
        let error = compare(sums(1201), &sums(1200)).unwrap_err().to_string();
        assert!(
            error.contains("Cash") && error.contains("12.01 GBP") && error.contains("12.00 GBP"),
            "{error}"
        );
        assert!(compare(Sums::new(), &sums(1200)).is_err());
        assert!(compare(sums(1200), &Sums::new()).is_err());
    }
}
