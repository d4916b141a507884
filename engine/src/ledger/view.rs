//! The restated view: what the set requires of the books, record by record in the order K, as a hash. Replicas with
//! the same set have the same hash whatever routes their journals took. Hashed by business day, so that the cost of
//! asking follows the days that changed.

use std::collections::BTreeMap;

use super::books::Books;
use super::families::Slot;
use super::journal::Posting;
use super::order::Place;
use crate::codec;
use crate::ids::RecordId;
use crate::time::Day;

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
        self.day_views.iter().map(|(day, hash)| (*day, *hash.get_or_init(|| self.hash_day(*day)))).collect()
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

    /// Of what [`Books::day_view`] says. A record takes its place and the bytes of its postings in memory meanwhile, so that a
    /// hub that is asked after a bulk does not need more for it than for the bulk.
    fn hash_day(&self, day: Day) -> [u8; 32] {
        let (mut slots, mut ends, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
        self.outcomes.for_slots(&self.facts.days.slots(day..=day), |slot, outcome| {
            if let Some(outcome) = outcome.as_ref().filter(|outcome| !outcome.postings.is_empty()) {
                bytes.extend(codec::encode(&outcome.postings));
                slots.push(slot);
                ends.push(bytes.len());
            }
        });
        let mut rows: Vec<(Place, usize)> = Vec::with_capacity(slots.len());
        self.facts.records.for_slots(&slots, |slot, record| {
            rows.push((self.facts.place_of(slot, record), rows.len()));
        });
        rows.sort_unstable();
        let mut hasher = blake3::Hasher::new_derive_key("tillsync restated day v1");
        for (place, at) in rows {
            let begin = if at == 0 { 0 } else { ends[at - 1] };
            hasher.update(&place.id.0).update(&bytes[begin..ends[at]]);
        }
        *hasher.finalize().as_bytes()
    }
}
