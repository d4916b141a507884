//! Families: which records have to be judged together. Two records that share anything a rule looks at (a reference,
//! a key, a payment, a receipt number) are joined; joining too many is only slow, joining too few would be wrong.
//! Families only grow, and which records are in one is a function of the set.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::attic::Workroom;
use crate::shelf::{Due, Pressed, Shelf};

/// A record by the order of its arrival here. A handle, never an argument of a rule.
pub(crate) type Slot = u32;

/// Families as a forest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Families {
    kin: Shelf<Kin>,
    touched: BTreeMap<Slot, Option<Slot>>,
}

/// Where a record stands in its family.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
enum Kin {
    /// It has no other members.
    Alone,
    /// Nearer to the root.
    Under(Slot),
    /// The root, with everybody of the family.
    Root(Vec<Slot>),
}

impl Families {
    /// No records yet.
    pub(crate) fn new(room: &Workroom) -> Self {
        Self { kin: Shelf::of_small(room), touched: BTreeMap::new() }
    }

    /// Adds the next record, alone and not touched.
    pub(crate) fn push(&mut self) -> Slot {
        let slot = Slot::try_from(self.kin.len()).expect("fewer than 2^32 records in one store");
        self.kin.push(Kin::Alone);
        slot
    }

    /// Packs a chunk of what is not in use; whether there was any.
    pub(crate) fn rest_a_chunk(&mut self, due: Due) -> bool {
        self.kin.rest_a_chunk(due, &Pressed)
    }

    /// Packs what an image names.
    pub(crate) fn pack(&mut self) {
        self.kin.pack(&Pressed);
    }

    fn root(&self, slot: Slot) -> Slot {
        let mut at = slot;
        while let Kin::Under(above) = self.kin.get(at, &Pressed) {
            at = *above;
        }
        at
    }

    fn size(&self, root: Slot) -> usize {
        match self.kin.get(root, &Pressed) {
            Kin::Root(members) => members.len(),
            Kin::Alone | Kin::Under(_) => 1,
        }
    }

    /// Joins two families, the smaller into the larger, and touches the result.
    pub(crate) fn join(&mut self, a: Slot, b: Slot) {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        let (into, from) = if self.size(a) >= self.size(b) { (a, b) } else { (b, a) };
        let moved = match self.kin.replace(from, Kin::Under(into), &Pressed) {
            Kin::Root(members) => members,
            Kin::Alone | Kin::Under(_) => vec![from],
        };
        match self.kin.get_mut(into, &Pressed) {
            Kin::Root(members) => members.extend(moved),
            alone => *alone = Kin::Root([into].into_iter().chain(moved).collect()),
        }
    }

    /// Marks the family of `slot` to be judged again; `cause` is the record that made it necessary.
    pub(crate) fn touch(&mut self, slot: Slot, cause: Option<Slot>) {
        let known = self.touched.entry(slot).or_insert(cause);
        *known = cause.or(*known);
    }

    /// Members of touched families, at most `limit`, each with the cause, and forgets that they were touched.
    pub(crate) fn take_touched(&mut self, limit: usize) -> Vec<(Vec<Slot>, Option<Slot>)> {
        let mut roots: BTreeMap<Slot, Option<Slot>> = BTreeMap::new();
        while roots.len() < limit {
            let Some((slot, cause)) = self.touched.pop_first() else { break };
            let known = roots.entry(self.root(slot)).or_insert(cause);
            *known = (*known).max(cause);
        }
        roots.into_iter().map(|(root, cause)| (self.of_root(root), cause)).collect()
    }

    /// Whether anything is touched.
    pub(crate) fn is_touched(&self) -> bool {
        !self.touched.is_empty()
    }

    /// How many records are touched.
    pub(crate) fn touched(&self) -> usize {
        self.touched.len()
    }

    /// Everyone in the family of `slot`.
    pub(crate) fn of(&self, slot: Slot) -> Vec<Slot> {
        self.of_root(self.root(slot))
    }

    fn of_root(&self, root: Slot) -> Vec<Slot> {
        match self.kin.get(root, &Pressed) {
            Kin::Root(members) => members.clone(),
            Kin::Alone | Kin::Under(_) => vec![root],
        }
    }

    /// Every family that is there.
    pub(crate) fn touch_everything(&mut self, cause: Option<Slot>) {
        let mut roots = Vec::new();
        self.kin.for_each(&Pressed, |slot, kin| {
            if !matches!(kin, Kin::Under(_)) {
                roots.push(slot);
            }
        });
        for slot in roots {
            self.touch(slot, cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_records_are_one_family_and_touched_once() {
        let mut families = Families::new(&Workroom::default());
        let slots: Vec<Slot> = (0..5).map(|_| families.push()).collect();
        families.join(slots[0], slots[3]);
        families.join(slots[3], slots[4]);
        families.touch(slots[4], None);
        families.touch(slots[0], Some(4));
        let touched = families.take_touched(usize::MAX);
        assert_eq!(touched.len(), 1);
        assert_eq!(touched[0].0.len(), 3);
        assert_eq!(touched[0].1, Some(4));
        assert_eq!(families.of(slots[1]), vec![slots[1]]);
        assert!(families.take_touched(usize::MAX).is_empty());
    }
}
