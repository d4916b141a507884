//! Which records belong to which business day, by log. The days that are in use stay as they are, the others rest packed.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use serde::{Deserialize, Serialize};

use super::families::Slot;
use crate::attic::Workroom;
use crate::ids::{LogId, RecordId};
use crate::record::Record;
use crate::shelf::{Cut, Due, Pressed, Shelf};
use crate::time::Day;
use crate::transaction::Kind;

/// Days that stay unpacked.
const DAYS_AWAKE: usize = 16;

/// The records of every business day.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Days {
    /// A row a day, in the order in which the days came.
    shelf: Shelf<OfDay>,
    rows: BTreeMap<Day, u32>,
}

/// The records of a day by log.
pub(crate) type OfDay = BTreeMap<LogId, OfLog>;

/// What a log has of a day. Kept up to date with every record, so that nobody has to look through a day to say how far it
/// has come.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct OfLog {
    /// In the order of arrival.
    pub(crate) slots: Vec<Slot>,
    /// The lowest and the highest number.
    pub(crate) numbers: (u64, u64),
    /// Number, id and slot of the last day close; of the branches of a fork the one with the higher id.
    pub(crate) close: Option<(u64, RecordId, Slot)>,
}

impl OfLog {
    fn of(slot: Slot, record: &Record) -> Self {
        let mut of_log = Self { slots: Vec::new(), numbers: (record.seq, record.seq), close: None };
        of_log.take(slot, record);
        of_log
    }

    fn take(&mut self, slot: Slot, record: &Record) {
        self.slots.push(slot);
        self.numbers = (self.numbers.0.min(record.seq), self.numbers.1.max(record.seq));
        if record.transaction.kind() == Kind::DayClose {
            self.close = self.close.max(Some((record.seq, record.id, slot)));
        }
    }
}

impl Days {
    /// No days yet.
    pub(crate) fn new(room: &Workroom) -> Self {
        let awake = DAYS_AWAKE.min(room.limits.awake_chunks);
        Self { shelf: Shelf::cut(room, Cut { rows: 1, awake }), rows: BTreeMap::new() }
    }

    /// Files a record.
    pub(crate) fn file(&mut self, slot: Slot, record: &Record) {
        let shelf = &mut self.shelf;
        let row = *self.rows.entry(record.business_day).or_insert_with(|| {
            shelf.push(OfDay::new());
            u32::try_from(shelf.len() - 1).expect("fewer than 2^32 days")
        });
        let of_day = shelf.get_mut(row, &Pressed);
        match of_day.get_mut(&record.log) {
            Some(of_log) => of_log.take(slot, record),
            None => drop(of_day.insert(record.log.clone(), OfLog::of(slot, record))),
        }
    }

    /// Packs a chunk of what is not in use; whether there was any.
    pub(crate) fn rest_a_chunk(&mut self, due: Due) -> bool {
        self.shelf.rest_a_chunk(due, &Pressed)
    }

    /// Packs what an image names.
    pub(crate) fn pack(&mut self) {
        self.shelf.pack(&Pressed);
    }

    /// Every day that has a record, oldest first.
    pub(crate) fn all(&self) -> impl DoubleEndedIterator<Item = Day> {
        self.rows.keys().copied()
    }

    /// What a log has of a day, if it has anything.
    pub(crate) fn of_log(&self, day: Day, log: &LogId) -> Option<&OfLog> {
        self.rows.get(&day).and_then(|row| self.shelf.get(*row, &Pressed).get(log))
    }

    /// The records of some days, ascending. Keeps none of the days unpacked for it.
    pub(crate) fn slots(&self, days: impl RangeBounds<Day>) -> Vec<Slot> {
        let mut rows: Vec<u32> = self.rows.range(days).map(|row| *row.1).collect();
        rows.sort_unstable();
        let mut slots = Vec::new();
        self.shelf.for_slots(&rows, &Pressed, |_, of_day| {
            slots.extend(of_day.values().flat_map(|of_log| &of_log.slots));
        });
        slots.sort_unstable();
        slots
    }
}
