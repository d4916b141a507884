//! The records of the set, by slot and by id. Old ones are packed; only their ids stay as they are.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::families::Slot;
use super::slot_index::{SlotIndex, Tag};
use crate::attic::Workroom;
use crate::ids::{LogId, RecordId, StoreId};
use crate::record::Record;
use crate::shelf::{Due, Packing, Shelf, press, unpress};
use crate::time::{Day, Instant};
use crate::transaction::Transaction;

/// Every record of the set.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Records {
    shelf: Shelf<Arc<Record>>,
    form: Form,
}

/// What a packed record leaves out because it is known here.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Form {
    ids: Shelf<RecordId>,
    by_id: SlotIndex,
    logs: Vec<(StoreId, LogId)>,
    numbers: BTreeMap<(StoreId, LogId), u32>,
}

/// A packed record; `T` is its transaction, borrowed or owned.
#[derive(Serialize, Deserialize)]
struct Rested<T> {
    log: u32,
    seq: u64,
    prev: Before,
    business_day: Day,
    at: Instant,
    later_ms: i64,
    transaction: T,
}

/// The record before one in its log.
#[derive(Serialize, Deserialize)]
enum Before {
    None,
    /// So many slots back.
    Back(u32),
    /// One that is not here, or came later.
    Other(RecordId),
}

impl Records {
    /// No records yet.
    pub(crate) fn new(room: &Workroom) -> Self {
        let form = Form {
            ids: Shelf::of_small(room),
            by_id: SlotIndex::new(room),
            logs: Vec::new(),
            numbers: BTreeMap::new(),
        };
        Self { shelf: Shelf::new(room), form }
    }

    /// Where they were made.
    pub(crate) fn room(&self) -> &Workroom {
        self.shelf.room()
    }

    /// The record of a slot.
    pub(crate) fn get(&self, slot: Slot) -> &Arc<Record> {
        self.shelf.get(slot, &self.form)
    }

    /// The id of a slot's record.
    pub(crate) fn id(&self, slot: Slot) -> RecordId {
        self.form.id(slot)
    }

    /// The slot of a record.
    pub(crate) fn slot(&self, id: &RecordId) -> Option<Slot> {
        self.form.slot(id)
    }

    /// Adds the record of the next slot.
    pub(crate) fn push(&mut self, record: &Arc<Record>) {
        self.form.note(record);
        self.shelf.push(Arc::clone(record));
    }

    /// Packs a chunk of what is not in use; whether there was any.
    pub(crate) fn rest_a_chunk(&mut self, due: Due) -> bool {
        self.shelf.rest_a_chunk(due, &self.form) || self.form.ids.rest_a_chunk(due, &Ids)
    }

    /// Packs what an image names.
    pub(crate) fn pack(&mut self) {
        self.shelf.pack(&self.form);
        self.form.ids.pack(&Ids);
    }

    /// Calls `each` for the records of slots in ascending order, and keeps none unpacked for it.
    pub(crate) fn for_slots(&self, slots: &[Slot], each: impl FnMut(Slot, &Arc<Record>)) {
        self.shelf.for_slots(slots, &self.form, each);
    }

    /// Calls `each` for every record by slot, and keeps none unpacked for it.
    pub(crate) fn for_each(&self, each: impl FnMut(Slot, &Arc<Record>)) {
        self.shelf.for_each(&self.form, each);
    }
}

impl Form {
    fn slot(&self, id: &RecordId) -> Option<Slot> {
        self.by_id.find(Tag::of_hash(&id.0)).into_iter().find(|slot| self.id(*slot) == *id)
    }

    fn id(&self, slot: Slot) -> RecordId {
        *self.ids.get(slot, &Ids)
    }

    fn note(&mut self, record: &Record) {
        let slot = Slot::try_from(self.ids.len()).expect("fewer than 2^32 records in one store");
        self.by_id.insert(Tag::of_hash(&record.id.0), slot);
        self.ids.push(record.id);
        let log = (record.store.clone(), record.log.clone());
        if !self.numbers.contains_key(&log) {
            let number = u32::try_from(self.logs.len()).expect("fewer than 2^32 logs in one store");
            self.numbers.insert(log.clone(), number);
            self.logs.push(log);
        }
    }

    fn rested<'a>(&self, slot: Slot, record: &'a Record) -> Rested<&'a Transaction> {
        let before = |id: RecordId| {
            // Mostly the record that was filed before it: what is found there is not looked up.
            let last = slot.checked_sub(1).filter(|last| self.id(*last) == id);
            match last.or_else(|| self.slot(&id)).and_then(|before| slot.checked_sub(before)) {
                Some(slots) => Before::Back(slots),
                None => Before::Other(id),
            }
        };
        Rested {
            log: self.numbers[&(record.store.clone(), record.log.clone())],
            seq: record.seq,
            prev: record.prev.map_or(Before::None, before),
            business_day: record.business_day,
            at: record.at,
            later_ms: record.effective_ms.wrapping_sub(record.at.ms),
            transaction: &record.transaction,
        }
    }

    fn record(&self, slot: Slot, rested: Rested<Transaction>) -> Option<Record> {
        let (store, log) = self.logs.get(rested.log as usize)?.clone();
        let prev = match rested.prev {
            Before::None => None,
            Before::Back(slots) => Some(self.id(slot.checked_sub(slots)?)),
            Before::Other(id) => Some(id),
        };
        Some(Record {
            id: self.id(slot),
            store,
            log,
            seq: rested.seq,
            prev,
            business_day: rested.business_day,
            at: rested.at,
            effective_ms: rested.at.ms.wrapping_add(rested.later_ms),
            transaction: rested.transaction,
        })
    }
}

impl Packing<Arc<Record>> for Form {
    fn pack(&self, first: Slot, rows: &[Arc<Record>]) -> Vec<u8> {
        let rested: Vec<_> = (first..).zip(rows).map(|(slot, record)| self.rested(slot, record)).collect();
        press(&rested)
    }

    fn unpack(&self, first: Slot, bytes: &[u8]) -> Option<Vec<Arc<Record>>> {
        let rows: Vec<Rested<Transaction>> = unpress(bytes)?;
        (first..).zip(rows).map(|(slot, rested)| self.record(slot, rested).map(Arc::new)).collect()
    }
}

/// Ids are packed as they are: they are hashes.
struct Ids;

impl Packing<RecordId> for Ids {
    fn pack(&self, _: Slot, rows: &[RecordId]) -> Vec<u8> {
        rows.iter().flat_map(|id| id.0).collect()
    }

    fn unpack(&self, _: Slot, bytes: &[u8]) -> Option<Vec<RecordId>> {
        let (ids, []) = bytes.as_chunks::<32>() else { return None };
        Some(ids.iter().map(|id| RecordId(*id)).collect())
    }
}
