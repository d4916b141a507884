//! The restated view: what the set requires of the books, record by record in the order K, as a hash. Replicas with
//! the same set have the same hash whatever routes their journals took. Hashed by business day and row by row, so that the
//! cost of asking again follows the records that changed.

use std::collections::BTreeMap;
use std::sync::{LazyLock, OnceLock};

use blake3::hazmat::{ContextKey, HasherExt, hash_derive_key_context};
use serde::{Deserialize, Serialize};

use super::books::Books;
use super::families::Slot;
use super::journal::Posting;
use super::judgement::Outcome;
use super::order::Place;
use crate::codec;
use crate::ids::RecordId;
use crate::time::Day;

/// The key that the context of rows gives: derived once, not for every row.
static CONTEXT: LazyLock<ContextKey> = LazyLock::new(|| hash_derive_key_context("tillsync restated row v2"));

/// The rows of a day as one number: the sum of their hashes modulo 2^256, low limb first. A row that changes is taken out and
/// put in again, wherever it stands: where it stands in the order K is part of it. Two sums can be made to collide by whoever
/// chooses many rows for it; that would hide a difference from those who compare hashes, and change nothing in any book.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(super) struct RowSum([u64; 4]);

impl RowSum {
    fn add(&mut self, row: Self) {
        let mut carry = false;
        for (limb, other) in self.0.iter_mut().zip(row.0) {
            (*limb, carry) = limb.carrying_add(other, carry);
        }
    }

    fn take(&mut self, row: Self) {
        let mut borrow = false;
        for (limb, other) in self.0.iter_mut().zip(row.0) {
            (*limb, borrow) = limb.borrowing_sub(other, borrow);
        }
    }

    /// A record judged otherwise than before.
    pub(super) fn replace(&mut self, id: RecordId, before: Option<&Outcome>, after: &Outcome) {
        if before != Some(after) {
            before.and_then(|before| row(id, before)).into_iter().for_each(|row| self.take(row));
            row(id, after).into_iter().for_each(|row| self.add(row));
        }
    }

    fn bytes(self) -> [u8; 32] {
        let mut bytes = [0; 32];
        for (to, limb) in bytes.chunks_exact_mut(8).zip(self.0) {
            to.copy_from_slice(&limb.to_le_bytes());
        }
        bytes
    }
}

/// What a record adds to its day: nothing if it posts nothing.
fn row(id: RecordId, outcome: &Outcome) -> Option<RowSum> {
    if outcome.postings.is_empty() {
        return None;
    }
    let mut hasher = blake3::Hasher::new_from_context_key(&CONTEXT);
    hasher.update(&outcome.rank.to_le_bytes()).update(&outcome.ms.to_le_bytes()).update(&id.0);
    hasher.update(&codec::encode(&outcome.postings));
    let hash = hasher.finalize();
    let (limbs, _) = hash.as_bytes().as_chunks::<8>();
    Some(RowSum(std::array::from_fn(|at| u64::from_le_bytes(limbs[at]))))
}

impl Books {
    /// Hash of the restated view D(S).
    #[must_use]
    pub fn view_hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("tillsync restated view v1");
        for (day, hash) in self.day_hashes() {
            hasher.update(&day.0.to_le_bytes()).update(&hash);
        }
        *hasher.finalize().as_bytes()
    }

    /// Hash of the view of each business day: what differs when two views differ.
    #[must_use]
    pub fn day_hashes(&self) -> BTreeMap<Day, [u8; 32]> {
        let hash = |sum: &OnceLock<RowSum>, day: Day| sum.get_or_init(|| self.sum_day(day)).bytes();
        self.day_views.iter().map(|(day, sum)| (*day, hash(sum, *day))).collect()
    }

    /// The view of one day: records with their postings, in the order K.
    #[must_use]
    pub fn day_view(&self, day: Day) -> Vec<(RecordId, Vec<Posting>)> {
        let slots: Vec<Slot> = self.facts.days.slots(day..=day);
        let mut places: BTreeMap<Place, Slot> = BTreeMap::new();
        self.facts.records.for_slots(&slots, |slot, record| {
            places.insert(self.facts.place_of(slot, record), slot);
        });
        let mut postings: BTreeMap<Slot, Vec<Posting>> = BTreeMap::new();
        self.outcomes.for_slots(&slots, |slot, outcome| {
            postings.extend(outcome.as_ref().map(|outcome| (slot, outcome.postings.to_vec())));
        });
        let rows = places.into_iter().filter_map(|(place, slot)| Some((place.id, postings.remove(&slot)?)));
        rows.collect()
    }

    fn sum_day(&self, day: Day) -> RowSum {
        let mut sum = RowSum::default();
        self.outcomes.for_slots(&self.facts.days.slots(day..=day), |slot, outcome| {
            outcome.iter().for_each(|outcome| sum.replace(self.facts.id(slot), None, outcome));
        });
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Account;
    use crate::ledger::journal::Sheet;
    use crate::ledger::judgement::Standing;

    fn outcome(ms: i64, minor: i128) -> Outcome {
        let mut sheet = Sheet::default();
        sheet.add(Account::CardClearing, "GBP".parse().unwrap(), minor);
        let postings = sheet.postings().into_boxed_slice();
        Outcome { standing: Standing::Posted, postings, twin_ok: true, netted: false, rank: u64::MAX, ms }
    }

    #[test]
    fn rows_count_in_any_order_and_one_that_is_taken_out_leaves_nothing() {
        let rows: Vec<(RecordId, Outcome)> =
            (0..100).map(|n| (RecordId([n; 32]), outcome(i64::from(n), 100 + i128::from(n)))).collect();
        let sum = |rows: &mut dyn Iterator<Item = &(RecordId, Outcome)>| {
            let mut sum = RowSum::default();
            rows.for_each(|(id, outcome)| sum.replace(*id, None, outcome));
            sum
        };
        let all = sum(&mut rows.iter());
        assert_eq!(all, sum(&mut rows.iter().rev()));
        let mut changed = all;
        let other = outcome(7, 1);
        changed.replace(rows[7].0, Some(&rows[7].1), &other);
        assert_ne!(changed, all);
        changed.replace(rows[7].0, Some(&other), &outcome(8, 1));
        changed.replace(rows[7].0, Some(&outcome(8, 1)), &rows[7].1);
        assert_eq!(changed, all);
        let mut without = all;
        without.replace(rows[0].0, Some(&rows[0].1), &outcome(0, 0));
        assert_eq!(without, sum(&mut rows.iter().skip(1)), "a record that posts nothing has no row");
    }

    #[test]
    fn a_row_tells_its_record_its_place_and_its_postings() {
        let id = RecordId([1; 32]);
        let one = row(id, &outcome(5, 100));
        for (id, other) in [
            (RecordId([2; 32]), outcome(5, 100)),
            (id, outcome(6, 100)),
            (id, outcome(5, 101)),
            (id, Outcome { rank: 3, ..outcome(5, 100) }),
        ] {
            assert_ne!(row(id, &other), one);
        }
    }
}
