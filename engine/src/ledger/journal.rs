//! Postings and journal entries: what is appended, never changed. An entry balances per currency, names its record
//! and what caused it, and is chained to the entry before it by hash. It never decides an account.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::LazyLock;

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use serde::{Deserialize, Serialize};

use super::account::Account;
use crate::codec;
use crate::ids::RecordId;
use crate::money::Currency;
use crate::time::Day;

/// The key that the context of entries gives: derived once, not for every entry.
static CONTEXT: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("tillsync journal entry v1"));

/// An amount on an account: debit positive, credit negative.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Posting {
    /// The account.
    pub account: Account,
    /// The currency of the amount.
    pub currency: Currency,
    /// Minor units; debit positive, credit negative, never zero.
    pub amount_minor: i64,
}

/// One entry of a store's journal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct JournalEntry {
    /// Number in the store, from 1 without gaps.
    pub number: u64,
    /// Accounting date.
    pub date: Day,
    /// The record that the postings explain.
    pub record: RecordId,
    /// What caused a correction of an earlier entry of the record; `None` on its first posting.
    pub because: Option<RecordId>,
    /// Postings; they balance per currency.
    pub postings: Vec<Posting>,
    /// Hash of the entry before; zeros before the first.
    pub prev: [u8; 32],
    /// Hash of everything above.
    pub hash: [u8; 32],
}

impl JournalEntry {
    /// The hash that the content asks for; differs from `hash` if somebody changed either.
    #[must_use]
    pub fn expected_hash(&self) -> [u8; 32] {
        let content = (&self.prev, self.number, self.date, &self.record, &self.because, &self.postings);
        *blake3::Hasher::new_from_context_key(&CONTEXT).update(&codec::encode(&content)).finalize().as_bytes()
    }
}

/// Where the journal stands: the number and hash of its last entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct JournalHead {
    /// Number of the last entry; 0 before the first.
    pub number: u64,
    /// Its hash.
    pub hash: [u8; 32],
}

impl JournalHead {
    /// Makes the next entry and moves on to it.
    pub fn append(
        &mut self,
        date: Day,
        record: RecordId,
        because: Option<RecordId>,
        postings: Vec<Posting>,
    ) -> JournalEntry {
        let number = self.number + 1;
        let mut entry =
            JournalEntry { number, date, record, because, postings, prev: self.hash, hash: [0; 32] };
        entry.hash = entry.expected_hash();
        *self = Self { number, hash: entry.hash };
        entry
    }
}

/// Amounts by account and currency. Zeros are not kept, so two sheets are equal when their books are.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Sheet(BTreeMap<(Account, Currency), i128>);

impl Sheet {
    /// Adds an amount.
    pub fn add(&mut self, account: Account, currency: Currency, amount_minor: i128) {
        if amount_minor == 0 {
            return;
        }
        match self.0.entry((account, currency)) {
            Entry::Vacant(place) => drop(place.insert(amount_minor)),
            Entry::Occupied(mut place) => {
                let sum = place.get().saturating_add(amount_minor);
                if sum == 0 {
                    place.remove();
                } else {
                    place.insert(sum);
                }
            }
        }
    }

    /// Adds postings, `times` times (−1 takes them away).
    pub fn add_all(&mut self, postings: &[Posting], times: i128) {
        for posting in postings {
            self.add(posting.account.clone(), posting.currency, times * i128::from(posting.amount_minor));
        }
    }

    /// Sum per currency: what is missing to balance, negated.
    #[must_use]
    pub fn sums(&self) -> BTreeMap<Currency, i128> {
        let mut sums = BTreeMap::new();
        for ((_, currency), amount) in &self.0 {
            *sums.entry(*currency).or_insert(0) += amount;
        }
        sums
    }

    /// The amounts in the order of accounts.
    pub fn iter(&self) -> impl Iterator<Item = (&Account, Currency, i128)> {
        self.0.iter().map(|((account, currency), amount)| (account, *currency, *amount))
    }

    /// The sheet as postings.
    ///
    /// # Panics
    /// If an amount leaves 64 bits, which the limits of admission exclude for one record.
    #[must_use]
    pub fn postings(&self) -> Vec<Posting> {
        let narrow =
            |amount: i128| i64::try_from(amount).expect("the amounts of one record are bounded on admission");
        self.iter()
            .map(|(account, currency, amount)| Posting {
                account: account.clone(),
                currency,
                amount_minor: narrow(amount),
            })
            .collect()
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The amounts as a map.
    #[must_use]
    pub fn into_map(self) -> BTreeMap<(Account, Currency), i128> {
        self.0
    }
}

/// What has to be appended so that what was posted becomes what is required (D − J of one record); `required` as
/// [`Sheet::postings`] gives it.
#[must_use]
pub fn difference(required: &[Posting], posted: &[Posting]) -> Vec<Posting> {
    // Nearly always: it is posted for the first time.
    if posted.is_empty() {
        return required.to_vec();
    }
    let mut sheet = Sheet::default();
    sheet.add_all(required, 1);
    sheet.add_all(posted, -1);
    sheet.postings()
}
