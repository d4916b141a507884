//! Journal entries in a row as one entry of the log. One by one their hashes, names and frames take several times what
//! they say; in a run the hashes follow from what is said, and one is kept to hold them against.

use serde::{Deserialize, Serialize};

use crate::codec::{self, CodecError};
use crate::columns;
use crate::ids::{RecordId, StoreId};
use crate::ledger::{JournalEntry, JournalHead, Posting};
use crate::time::Day;

/// Most entries of a run.
const ENTRIES_LIMIT: usize = 512;
/// Postings after which a run ends: it must fit an entry of the log.
const POSTINGS_LIMIT: usize = 8_192;
/// Bytes that unpacking may claim.
const UNPACKED_LIMIT: usize = 16 << 20;

/// Entries of one store's journal, in a row.
#[derive(Clone, PartialEq, Debug)]
pub struct JournalRun(Form);

#[derive(Clone, PartialEq, Debug)]
enum Form {
    One(Box<JournalEntry>),
    Packed(Packed),
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
struct Packed {
    /// Number of the first entry.
    first: u64,
    count: u32,
    /// Hash before the first, and of the last.
    prev: [u8; 32],
    hash: [u8; 32],
    /// Bytes of the columns, and the columns compressed.
    plain_len: u32,
    columns: Vec<u8>,
}

/// What of an entry does not follow from its place in the run.
type Row = (Day, RecordId, Option<RecordId>, Vec<Posting>);

impl JournalRun {
    /// Entries in a row as runs.
    pub fn cut(entries: Vec<JournalEntry>) -> impl Iterator<Item = Self> {
        let mut left = entries.into_iter().peekable();
        std::iter::from_fn(move || {
            let (mut run, mut postings) = (vec![left.next()?], 0);
            while run.len() < ENTRIES_LIMIT && postings < POSTINGS_LIMIT {
                let Some(next) = left.next() else { break };
                postings += next.postings.len();
                run.push(next);
            }
            Some(Self::of(run))
        })
    }

    fn of(mut entries: Vec<JournalEntry>) -> Self {
        if entries.len() == 1 {
            return Self(Form::One(Box::new(entries.remove(0))));
        }
        let (first, prev) = entries.first().map_or((0, [0; 32]), |entry| (entry.number, entry.prev));
        let hash = entries.last().map_or([0; 32], |entry| entry.hash);
        let count = u32::try_from(entries.len()).expect("a run is short");
        let rows: Vec<Row> =
            entries.into_iter().map(|it| (it.date, it.record, it.because, it.postings)).collect();
        let packed = columns::pack(&rows).expect("postings have columns");
        let plain_len = u32::try_from(packed.plain_len).expect("a run is far below 4 GiB");
        let columns = packed.bytes;
        Self(Form::Packed(Packed { first, count, prev, hash, plain_len, columns }))
    }

    /// How many entries it has.
    #[must_use]
    pub fn count(&self) -> u32 {
        match &self.0 {
            Form::One(_) => 1,
            Form::Packed(packed) => packed.count,
        }
    }

    /// Number of the last entry.
    #[must_use]
    pub fn last_number(&self) -> u64 {
        match &self.0 {
            Form::One(entry) => entry.number,
            Form::Packed(packed) => packed.first.saturating_add(u64::from(packed.count).saturating_sub(1)),
        }
    }

    /// The entries, with the numbers and hashes that follow from them.
    ///
    /// # Errors
    /// They do not unpack, or are others than those whose last hash was kept.
    pub fn entries(&self) -> Result<Vec<JournalEntry>, CodecError> {
        let packed = match &self.0 {
            Form::One(entry) => return Ok(vec![(**entry).clone()]),
            Form::Packed(packed) => packed,
        };
        let bad = |what: &str| {
            CodecError::Malformed(format!("a run of the journal from entry {}: {what}", packed.first))
        };
        let plain_len = usize::try_from(packed.plain_len).unwrap_or(usize::MAX);
        if plain_len > UNPACKED_LIMIT {
            return Err(bad("it claims too much memory"));
        }
        let plain =
            zstd::bulk::decompress(&packed.columns, plain_len).map_err(|_| bad("it does not unpack"))?;
        let rows: Vec<Row> =
            columns::decode(&plain, UNPACKED_LIMIT).map_err(|error| bad(&error.to_string()))?;
        let Some(before) = packed.first.checked_sub(1).filter(|_| rows.len() == packed.count as usize) else {
            return Err(bad("its numbers are wrong"));
        };
        let mut head = JournalHead { number: before, hash: packed.prev };
        let entries: Vec<JournalEntry> = rows
            .into_iter()
            .map(|(date, record, because, postings)| head.append(date, record, because, postings))
            .collect();
        if head.hash == packed.hash {
            Ok(entries)
        } else {
            Err(bad("its entries are not those that were hashed"))
        }
    }

    /// The entry alone, in its own form; else the run.
    pub(crate) fn encode(&self, store: &StoreId) -> (bool, Vec<u8>) {
        match &self.0 {
            Form::One(entry) => (true, codec::encode(&(store, entry))),
            Form::Packed(packed) => (false, codec::encode(&(store, packed))),
        }
    }

    /// Reads either form back.
    pub(crate) fn decode<const LIMIT: usize>(
        alone: bool,
        bytes: &[u8],
    ) -> Result<(StoreId, Self), CodecError> {
        if alone {
            let (store, entry) = codec::decode::<(StoreId, JournalEntry), LIMIT>(bytes)?;
            return Ok((store, Self(Form::One(Box::new(entry)))));
        }
        let (store, packed) = codec::decode::<(StoreId, Packed), LIMIT>(bytes)?;
        // A place is kept for each of them before any is unpacked.
        if packed.count == 0 || packed.count as usize > ENTRIES_LIMIT {
            return Err(CodecError::Malformed(format!("a run of {} journal entries", packed.count)));
        }
        Ok((store, Self(Form::Packed(packed))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::Account;

    fn journal(count: usize) -> Vec<JournalEntry> {
        let mut head = JournalHead::default();
        let posting =
            |account, amount_minor| Posting { account, currency: "GBP".parse().unwrap(), amount_minor };
        let entry = |n: usize| {
            let amount = 100 + i64::try_from(n * 37 % 900).unwrap();
            let because = (n % 50 == 49).then(|| RecordId::symbolic("cause"));
            let postings = vec![posting(Account::CardClearing, amount), posting(Account::Sales, -amount)];
            head.append(Day(20_000), RecordId::symbolic(&n.to_string()), because, postings)
        };
        (0..count).map(entry).collect()
    }

    #[test]
    fn a_journal_cut_into_runs_is_the_journal() {
        let store: StoreId = "s1".parse().unwrap();
        for count in [0, 1, 2, 511, 512, 513, 1_300] {
            let entries = journal(count);
            let mut back = Vec::new();
            for run in JournalRun::cut(entries.clone()) {
                let (alone, bytes) = run.encode(&store);
                let (_, read) = JournalRun::decode::<{ 1 << 20 }>(alone, &bytes).unwrap();
                assert_eq!(read, run);
                let own = read.entries().unwrap();
                assert_eq!(
                    (own.len(), own.last().unwrap().number),
                    (run.count() as usize, run.last_number())
                );
                back.extend(own);
            }
            assert_eq!(back, entries);
        }
    }

    #[test]
    fn a_run_takes_little_more_than_the_names_of_its_records() {
        let runs: Vec<JournalRun> = JournalRun::cut(journal(512)).collect();
        let bytes = runs[0].encode(&"s1".parse().unwrap()).1;
        assert!(bytes.len() < 512 * 40, "{}", bytes.len());
    }

    #[test]
    fn a_run_that_claims_more_entries_than_a_run_has_is_refused() {
        let JournalRun(Form::Packed(packed)) = JournalRun::of(journal(10)) else { panic!("ten are packed") };
        let store: StoreId = "s1".parse().unwrap();
        for count in [0, 513, u32::MAX] {
            let lies = JournalRun(Form::Packed(Packed { count, ..packed.clone() }));
            let (alone, bytes) = lies.encode(&store);
            assert!(JournalRun::decode::<{ 1 << 20 }>(alone, &bytes).is_err());
        }
    }

    #[test]
    fn a_changed_entry_is_noticed_by_the_hash_that_was_kept() {
        let mut entries = journal(10);
        let JournalRun(Form::Packed(mut packed)) = JournalRun::of(entries.clone()) else {
            panic!("ten are packed")
        };
        entries[4].postings[0].amount_minor += 1;
        let JournalRun(Form::Packed(changed)) = JournalRun::of(entries) else { panic!("ten are packed") };
        packed.columns = changed.columns;
        packed.plain_len = changed.plain_len;
        assert!(JournalRun(Form::Packed(packed)).entries().is_err());
    }
}
