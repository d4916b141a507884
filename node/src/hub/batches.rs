//! Export batches as the hub's log keeps them: numbered, immutable, chained by hash. A batch is a range of each store's
//! journal, with everything else that its files depend on, so that it can be written again, byte for byte. It reads no
//! journal and writes no file.

use std::collections::{BTreeMap, HashMap, HashSet};

use engine::ids::{RecordId, StoreId};
use engine::ledger::{Account, JournalEntry};
use engine::money::Currency;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::export::options::Form;
use crate::export::totals::Totals;

/// Kind byte of an export batch in the hub's log.
pub const EXPORT_KIND: u8 = 66;
/// Numbers of journal entries, by the case that they belonged to.
pub(super) type Cases = BTreeMap<StoreId, BTreeMap<String, Vec<u64>>>;

/// One export batch: which entries it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportBatch {
    /// Number, from 1 without gaps.
    pub number: u64,
    /// First and last journal number of each store.
    pub ranges: BTreeMap<StoreId, (u64, u64)>,
    /// Hash of the batch before.
    pub prev: String,
    /// Hash of the entries' hashes and of `prev`.
    pub hash: String,
    /// When it was cut, ms since 1970.
    pub at_ms: i64,
    /// The company's name then; batches of the first version do not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub company: Option<String>,
    /// How it was written first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub form: Option<Form>,
    /// The review cases of its entries then: cases end, files do not change.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub cases: Cases,
}

/// What an export batch holds of one store's journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExportRange {
    pub(crate) number: u64,
    pub(crate) store: StoreId,
    /// First and last number of an entry.
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// When it was cut, ms since 1970.
    pub(crate) at_ms: i64,
}

/// The batches cut so far, and what can be derived from them and the journals.
#[derive(Debug, Default)]
pub struct Exports {
    pub(super) batches: Vec<ExportBatch>,
    /// Control totals of the first batches; read from the journals when first asked for.
    pub(super) totals: Vec<Totals>,
    /// Records with an entry in one of these batches, and when the first of them was cut.
    pub(super) records: HashMap<StoreId, HashMap<RecordId, i64>>,
}

impl Exports {
    /// The batches that a hub's own log entries leave.
    ///
    /// # Errors
    /// A batch cannot be read, or one is missing: another number 3 would hold the same entries once more.
    pub fn restore(own: &[(u8, Vec<u8>)]) -> Result<Self, Failure> {
        let mut exports = Self::default();
        for (_, bytes) in own.iter().filter(|(kind, _)| *kind == EXPORT_KIND) {
            let number = exports.batches.len() as u64 + 1;
            let read = serde_json::from_slice::<ExportBatch>(bytes).map_err(|error| error.to_string());
            let batch = read.and_then(|batch| {
                let follows = batch.number == number && batch.prev == exports.last_hash();
                if follows { Ok(batch) } else { Err(format!("batch {} stands in its place", batch.number)) }
            });
            let batch = batch.map_err(|reason| {
                Failure::refused(format!(
                    "export batch {number} cannot be read: {reason}; restore the directory from a backup"
                ))
            })?;
            exports.batches.push(batch);
        }
        Ok(exports)
    }

    /// Holds the batches against the journals, given as the hashes of their entries: no entry is in two batches or left
    /// out between two, and each batch hashes to what it says. Returns what is wrong.
    #[must_use]
    pub fn problems(&self, journals: &BTreeMap<StoreId, Vec<[u8; 32]>>) -> Vec<String> {
        let mut problems = Vec::new();
        let mut through: BTreeMap<&StoreId, u64> = BTreeMap::new();
        for batch in &self.batches {
            let mut held = Vec::new();
            for (store, (from, to)) in &batch.ranges {
                let last = through.entry(store).or_default();
                if *from != *last + 1 {
                    let number = batch.number;
                    problems.push(format!(
                        "export batch {number} begins at entry {from} of store {store}, after {last}"
                    ));
                }
                *last = *to;
                let at = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
                let range = at(from.saturating_sub(1))..at(*to);
                held.extend(journals.get(store).and_then(|hashes| hashes.get(range)).unwrap_or_default());
            }
            if hash_over(&batch.prev, held.iter()) != batch.hash {
                problems.push(format!("the journals do not hold what export batch {} held", batch.number));
            }
        }
        problems
    }

    /// Last journal number of a store that an export holds.
    pub(super) fn through(&self, store: &StoreId) -> u64 {
        let ranges = self.batches.iter().filter_map(|batch| batch.ranges.get(store));
        ranges.map(|range| range.1).max().unwrap_or(0)
    }

    pub(super) fn last_hash(&self) -> String {
        self.batches.last().map(|batch| batch.hash.clone()).unwrap_or_default()
    }

    /// Accounts of the batches before one, in the order of batches.
    pub(super) fn earlier(&self, number: u64) -> Vec<(Account, Currency)> {
        let before = usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX);
        let mut seen = HashSet::new();
        let accounts = self.totals.iter().take(before).flat_map(|totals| totals.accounts.keys());
        accounts.filter(|key| seen.insert(*key)).cloned().collect()
    }

    /// Remembers what a batch holds.
    pub(super) fn note(
        &mut self,
        at_ms: i64,
        totals: Totals,
        entries: &BTreeMap<StoreId, Vec<JournalEntry>>,
    ) {
        self.totals.push(totals);
        for (store, entries) in entries {
            let records = self.records.entry(store.clone()).or_default();
            for entry in entries {
                records.entry(entry.record).or_insert(at_ms);
            }
        }
    }
}

pub(super) fn hash_of(prev: &str, entries: &BTreeMap<StoreId, Vec<JournalEntry>>) -> String {
    hash_over(prev, entries.values().flatten().map(|entry| &entry.hash))
}

/// The hash of a batch: of the one before it and of every entry's hash, store by store.
fn hash_over<'a>(prev: &str, hashes: impl Iterator<Item = &'a [u8; 32]>) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("tillsync export v1");
    hasher.update(prev.as_bytes());
    for hash in hashes {
        hasher.update(hash);
    }
    hasher.finalize().to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::options::Wishes;

    /// As the first version wrote it.
    const OLD: &str = r#"{"number":1,"ranges":{"s1":[1,7]},"prev":"","hash":"aa","at_ms":5}"#;

    fn own(batches: &[&str]) -> Vec<(u8, Vec<u8>)> {
        let mut own = vec![(65, b"a join code".to_vec())];
        own.extend(batches.iter().map(|batch| (EXPORT_KIND, batch.as_bytes().to_vec())));
        own
    }

    #[test]
    fn a_batch_of_the_first_version_is_read_and_written_as_it_was() {
        let exports = Exports::restore(&own(&[OLD])).unwrap();
        assert_eq!(exports.through(&"s1".parse().unwrap()), 7);
        assert_eq!(exports.through(&"s2".parse().unwrap()), 0);
        assert_eq!(serde_json::to_string(&exports.batches[0]).unwrap(), OLD);
    }

    #[test]
    fn a_batch_that_cannot_be_read_is_not_forgotten() {
        let second = r#"{"number":2,"ranges":{"s1":[8,9]},"prev":"aa","hash":"bb","at_ms":6}"#;
        assert_eq!(Exports::restore(&own(&[OLD, second])).unwrap().last_hash(), "bb");
        for wrong in [&second[..20], &second.replace("\"aa\"", "\"ab\""), OLD] {
            let failure = Exports::restore(&own(&[OLD, wrong])).unwrap_err();
            assert!(failure.message.starts_with("export batch 2 cannot be read"), "{failure}");
        }
    }

    #[test]
    fn a_journal_that_changed_after_its_export_is_found() {
        let store: StoreId = "s1".parse().unwrap();
        let journal = |n: u8| BTreeMap::from([(store.clone(), vec![[1; 32], [n; 32], [3; 32]])]);
        let batch = |number: u64, range: (u64, u64), prev: &str, held: &[[u8; 32]]| ExportBatch {
            number,
            ranges: BTreeMap::from([(store.clone(), range)]),
            prev: prev.to_owned(),
            hash: hash_over(prev, held.iter()),
            ..serde_json::from_str(OLD).unwrap()
        };
        let first = batch(1, (1, 2), "", &[[1; 32], [2; 32]]);
        let second = batch(2, (3, 3), &first.hash, &[[3; 32]]);
        let overlap = batch(2, (2, 3), &first.hash, &[[2; 32], [3; 32]]);
        let of = |batches: &[&ExportBatch]| Exports {
            batches: batches.iter().map(|batch| (*batch).clone()).collect(),
            ..Exports::default()
        };
        assert_eq!(of(&[&first, &second]).problems(&journal(2)), Vec::<String>::new());
        assert_eq!(of(&[&first, &second]).problems(&journal(9)).len(), 1);
        assert_eq!(of(&[&first, &overlap]).problems(&journal(2)).len(), 1);
        assert_eq!(of(&[&first]).problems(&BTreeMap::new()).len(), 1);
    }

    #[test]
    fn a_batch_keeps_its_form_and_its_cases() {
        let store: StoreId = "s1".parse().unwrap();
        let batch = ExportBatch {
            company: Some("Shops".to_owned()),
            form: Some(Form::of(&Wishes::default(), None).unwrap()),
            cases: Cases::from([(store, BTreeMap::from([("C-1".to_owned(), vec![3, 4])]))]),
            ..serde_json::from_str(OLD).unwrap()
        };
        let text = serde_json::to_string(&batch).unwrap();
        assert_eq!(serde_json::from_str::<ExportBatch>(&text).unwrap(), batch);
    }
}
