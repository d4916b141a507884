//! The image of the books for a restart: what was judged, so that nothing has to be judged again. In parts, one for
//! every chunk of records in the order in which they were filed and one shared, so that saving costs what changed. The
//! records themselves are not in it: the log has them, and they are filed again in the same order on opening. An image
//! that does not fit the records is refused, never mended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::books::Books;
use super::families::Slot;
use super::journal::{JournalHead, Sheet};
use super::judgement::Outcome;
use super::log::LogCase;
use super::outcomes::Outcomes;
use crate::codec;
use crate::ids::{LogId, RecordId};
use crate::money::Currency;
use crate::record::Record;
use crate::review::Case;
use crate::time::Day;

/// Begins a shared part. Another form of any part gets another number.
const FORM: &[u8; 4] = b"TSb2";
/// Memory that decoding the shared part may claim.
const SHARED_LIMIT: usize = 1 << 30;

type Amounts = Vec<(Account, Currency, i128)>;

/// A record with what its writer had seen, as it is filed.
pub type Filed = (Arc<Record>, Vec<(LogId, u64)>);

/// What belongs to no full chunk: the newest outcomes, the journal's head, balances, cases, and what the chunks are.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SharedPart {
    records: u64,
    /// Hash over the ids of the records, in the order in which they were filed.
    set: [u8; 32],
    /// Hash of each chunk part.
    chunks: Vec<[u8; 32]>,
    newest: Vec<Option<Outcome>>,
    in_review: u64,
    journal: JournalHead,
    balances: Vec<(Day, Amounts)>,
    views: Vec<(Day, Option<[u8; 32]>)>,
    family_cases: Vec<(RecordId, Vec<Case>)>,
    log_cases: Vec<(LogCase, Case)>,
    other_cases: Vec<Case>,
}

impl SharedPart {
    /// The bytes that [`Image::read`] reads.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        [FORM, codec::encode(self).as_slice()].concat()
    }
}

/// An image with all its parts, each chunk as it was saved.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    shared: SharedPart,
    chunks: Vec<Vec<u8>>,
}

impl Image {
    /// Puts the parts together.
    ///
    /// # Errors
    /// A chunk is missing, or another than the shared part names.
    pub fn new(shared: SharedPart, chunks: Vec<Vec<u8>>) -> Result<Self, Stale> {
        let same = |(hash, chunk): (&[u8; 32], &Vec<u8>)| blake3::hash(chunk).as_bytes() == hash;
        if shared.chunks.len() != chunks.len() || !shared.chunks.iter().zip(&chunks).all(same) {
            return Err(Stale("its parts do not belong together".to_owned()));
        }
        Ok(Self { shared, chunks })
    }

    /// Reads an image from where it was saved.
    ///
    /// # Errors
    /// A part is missing or is not what it should be.
    pub fn read(shared: &[u8], mut chunk: impl FnMut(usize) -> Option<Vec<u8>>) -> Result<Self, Stale> {
        let shared = shared.strip_prefix(FORM).ok_or_else(|| Stale("it has another form".to_owned()))?;
        let shared: SharedPart =
            codec::decode::<_, SHARED_LIMIT>(shared).map_err(|error| Stale(error.to_string()))?;
        let chunks: Option<Vec<Vec<u8>>> = (0..shared.chunks.len()).map(&mut chunk).collect();
        Self::new(shared, chunks.ok_or_else(|| Stale("a part is missing".to_owned()))?)
    }

    /// How many records it judged.
    pub(crate) fn records(&self) -> u64 {
        self.shared.records
    }

    /// The last journal entry that it knows.
    pub(crate) fn journal_through(&self) -> u64 {
        self.shared.journal.number
    }
}

/// Why an image cannot be used: judge everything anew.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the checkpoint does not fit the records ({0}); the books have to be projected anew from the log")]
pub struct Stale(pub(crate) String);

impl Books {
    /// Chunk parts that changed since the last call.
    pub fn take_changed_chunks(&mut self) -> BTreeSet<usize> {
        self.outcomes.take_changed()
    }

    /// A chunk part. Call after a settle.
    #[must_use]
    pub fn chunk_part(&self, chunk: usize) -> Vec<u8> {
        self.outcomes.packed(chunk).into()
    }

    /// The shared part. Call after a settle.
    #[must_use]
    pub fn shared_part(&mut self) -> SharedPart {
        let amounts = |sheet: &Sheet| {
            sheet.iter().map(|(account, currency, sum)| (account.clone(), currency, sum)).collect()
        };
        let mut others: BTreeMap<_, _> = self.cases.clone();
        let mut family_cases = Vec::new();
        for (slot, keys) in &self.family_cases {
            let cases: Vec<Case> = keys.iter().filter_map(|key| others.remove(key)).collect();
            family_cases.push((self.facts.id(*slot), cases));
        }
        let log_cases =
            self.log_cases.iter().filter_map(|(key, of)| Some((of.clone(), others.remove(key)?))).collect();
        SharedPart {
            records: self.outcomes.len() as u64,
            set: self.facts.records.set_hash(),
            chunks: self.outcomes.chunk_hashes(),
            newest: self.outcomes.newest().to_vec(),
            in_review: self.outcomes.in_review(),
            journal: self.journal,
            balances: self.sheets.iter().map(|(day, sheet)| (*day, amounts(sheet))).collect(),
            views: self.day_views.iter().map(|(day, view)| (*day, view.get().copied())).collect(),
            family_cases,
            log_cases,
            other_cases: others.into_values().collect(),
        }
    }

    /// The whole image. Call after a settle.
    #[must_use]
    pub fn image(&mut self) -> Image {
        let shared = self.shared_part();
        let chunks = (0..shared.chunks.len()).map(|chunk| self.chunk_part(chunk)).collect();
        Image { shared, chunks }
    }

    /// Files a record that an image holds judged, in the order in which they were filed then. [`Books::take_image`]
    /// after the last of them.
    pub fn insert_judged(&mut self, record: Arc<Record>, seen: &[(LogId, u64)]) {
        self.insert(record, seen);
        self.facts.families.clear_touched();
        self.facts.dirty_logs.clear();
        self.facts.take_decided();
    }

    /// Takes the outcomes of an image for the records that were filed.
    ///
    /// # Errors
    /// The image is of other records.
    pub fn take_image(&mut self, image: Image) -> Result<(), Stale> {
        let Image { shared, chunks } = image;
        if self.len() as u64 != shared.records || self.facts.records.set_hash() != shared.set {
            return Err(Stale(format!("it is of {} others", shared.records)));
        }
        self.facts.settle_cycles();
        self.facts.families.clear_touched();
        self.facts.dirty_logs.clear();
        let room = self.facts.records.room().clone();
        let rows = room.limits.chunk_rows;
        let full = self.len() / rows;
        if shared.chunks.len() != full || full * rows + shared.newest.len() != self.len() {
            return Err(Stale("it is cut otherwise".to_owned()));
        }
        self.outcomes = Outcomes::of_image(&room, &chunks, shared.chunks, shared.newest, shared.in_review);
        for (day, view) in shared.views {
            self.day_views.insert(day, view.map_or_else(OnceLock::new, OnceLock::from));
        }
        self.journal = shared.journal;
        for (day, amounts) in shared.balances {
            let sheet = self.sheets.entry(day).or_default();
            amounts.into_iter().for_each(|(account, currency, sum)| sheet.add(account, currency, sum));
        }
        for (id, cases) in shared.family_cases {
            let slot = self.slot_of(&id)?;
            self.family_cases.insert(slot, cases.iter().map(|case| case.key.clone()).collect());
            self.cases.extend(cases.into_iter().map(|case| (case.key.clone(), case)));
        }
        for (log_case, case) in shared.log_cases {
            self.log_cases.insert(case.key.clone(), log_case);
            self.cases.insert(case.key.clone(), case);
        }
        self.cases.extend(shared.other_cases.into_iter().map(|case| (case.key.clone(), case)));
        Ok(())
    }

    /// Books as they were at the checkpoint, with what has come since filed and touched. Every record comes once, in
    /// the order in which they were filed.
    ///
    /// # Errors
    /// The image is of other records.
    pub fn restore(empty: Self, records: &[Filed], image: Image) -> Result<Self, Stale> {
        let mut books = empty;
        let judged = usize::try_from(image.shared.records).unwrap_or(usize::MAX).min(records.len());
        let (judged, newer) = records.split_at(judged);
        for (record, seen) in judged {
            books.insert_judged(Arc::clone(record), seen);
        }
        books.take_image(image)?;
        for (record, seen) in newer {
            books.insert(Arc::clone(record), seen);
        }
        Ok(books)
    }

    fn slot_of(&self, id: &RecordId) -> Result<Slot, Stale> {
        self.facts.slot(id).ok_or_else(|| Stale(format!("no record {}", id.short())))
    }
}
