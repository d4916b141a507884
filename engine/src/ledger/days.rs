//! Which records belong to which business day, by log. The days that are in use stay as they are, the others rest packed.

use std::collections::BTreeMap;
use std::ops::RangeBounds;

use serde::{Deserialize, Serialize};

use super::families::Slot;
use crate::attic::Workroom;
use crate::ids::LogId;
use crate::shelf::{Cut, Pressed, Shelf};
use crate::time::Day;

/// Days that stay unpacked.
const DAYS_AWAKE: usize = 16;

/// The records of every business day.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Days {
    /// A row a day, in the order in which the days came.
    shelf: Shelf<OfDay>,
    rows: BTreeMap<Day, u32>,
}

/// The records of a day by log, in the order of arrival.
pub(crate) type OfDay = BTreeMap<LogId, Vec<Slot>>;

impl Days {
    /// No days yet.
    pub(crate) fn new(room: &Workroom) -> Self {
        let awake = DAYS_AWAKE.min(room.limits.awake_chunks);
        Self { shelf: Shelf::cut(room, Cut { rows: 1, awake }), rows: BTreeMap::new() }
    }

    /// Files a record.
    pub(crate) fn file(&mut self, day: Day, log: &LogId, slot: Slot) {
        let shelf = &mut self.shelf;
        let row = *self.rows.entry(day).or_insert_with(|| {
            shelf.push(OfDay::new());
            u32::try_from(shelf.len() - 1).expect("fewer than 2^32 days")
        });
        let of_day = shelf.get_mut(row, &Pressed);
        match of_day.get_mut(log) {
            Some(slots) => slots.push(slot),
            None => drop(of_day.insert(log.clone(), vec![slot])),
        }
    }

    /// Packs what is not in use.
    pub(crate) fn rest(&mut self) {
        self.shelf.rest(&Pressed);
    }

    /// Packs what an image names.
    pub(crate) fn pack(&mut self) {
        self.shelf.pack(&Pressed);
    }

    /// Every day that has a record, oldest first.
    pub(crate) fn all(&self) -> impl Iterator<Item = Day> {
        self.rows.keys().copied()
    }

    /// The records of a log on a day, in the order of arrival.
    pub(crate) fn of_log(&self, day: Day, log: &LogId) -> Vec<Slot> {
        let row = self.rows.get(&day);
        row.and_then(|row| self.shelf.get(*row, &Pressed).get(log)).cloned().unwrap_or_default()
    }

    /// The records of some days, ascending. Keeps none of the days unpacked for it.
    pub(crate) fn slots(&self, days: impl RangeBounds<Day>) -> Vec<Slot> {
        let mut rows: Vec<u32> = self.rows.range(days).map(|row| *row.1).collect();
        rows.sort_unstable();
        let mut slots = Vec::new();
        self.shelf.for_slots(&rows, &Pressed, |_, of_day| slots.extend(of_day.values().flatten()));
        slots.sort_unstable();
        slots
    }
}
