//! Families: which records have to be judged together. Two records that share anything a rule looks at (a reference,
//! a key, a payment, a receipt number) are joined; joining too many is only slow, joining too few would be wrong.
//! Families only grow, and which records are in one is a function of the set.

use std::collections::{BTreeMap, BTreeSet};

/// A record by the order of its arrival here. A handle, never an argument of a rule.
pub(crate) type Slot = u32;

/// Families as a forest; only families of two or more have a list of members.
#[derive(Clone, Debug, Default)]
pub(crate) struct Families {
    parent: Vec<Slot>,
    members: BTreeMap<Slot, Vec<Slot>>,
    touched: BTreeMap<Slot, Option<Slot>>,
}

impl Families {
    /// Adds the next record, alone and touched.
    pub(crate) fn push(&mut self) -> Slot {
        let slot = Slot::try_from(self.parent.len()).expect("fewer than 2^32 records in one store");
        self.parent.push(slot);
        slot
    }

    fn root(&self, slot: Slot) -> Slot {
        let mut at = slot;
        while self.parent[at as usize] != at {
            at = self.parent[at as usize];
        }
        at
    }

    fn size(&self, root: Slot) -> usize {
        self.members.get(&root).map_or(1, Vec::len)
    }

    /// Joins two families, the smaller into the larger, and touches the result.
    pub(crate) fn join(&mut self, a: Slot, b: Slot) {
        let (a, b) = (self.root(a), self.root(b));
        if a == b {
            return;
        }
        let (into, from) = if self.size(a) >= self.size(b) { (a, b) } else { (b, a) };
        let moved = self.members.remove(&from).unwrap_or_else(|| vec![from]);
        self.parent[from as usize] = into;
        self.members.entry(into).or_insert_with(|| vec![into]).extend(moved);
    }

    /// Marks the family of `slot` to be judged again; `cause` is the record that made it necessary.
    pub(crate) fn touch(&mut self, slot: Slot, cause: Option<Slot>) {
        let known = self.touched.entry(slot).or_insert(cause);
        *known = cause.or(*known);
    }

    /// Members of the touched families, each with the cause, and forgets that they were touched.
    pub(crate) fn take_touched(&mut self) -> Vec<(Vec<Slot>, Option<Slot>)> {
        let touched = std::mem::take(&mut self.touched);
        let mut roots: BTreeMap<Slot, Option<Slot>> = BTreeMap::new();
        for (slot, cause) in touched {
            let known = roots.entry(self.root(slot)).or_insert(cause);
            *known = (*known).max(cause);
        }
        roots.into_iter().map(|(root, cause)| (self.of_root(root), cause)).collect()
    }

    /// Forgets what was touched: after a checkpoint was read, everything is as it was judged.
    pub(crate) fn clear_touched(&mut self) {
        self.touched.clear();
    }

    /// Everyone in the family of `slot`.
    pub(crate) fn of(&self, slot: Slot) -> Vec<Slot> {
        self.of_root(self.root(slot))
    }

    fn of_root(&self, root: Slot) -> Vec<Slot> {
        self.members.get(&root).cloned().unwrap_or_else(|| vec![root])
    }

    /// Every family that is there.
    pub(crate) fn touch_everything(&mut self, cause: Option<Slot>) {
        let all: BTreeSet<Slot> = self.parent.iter().copied().collect();
        for slot in all {
            self.touch(slot, cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_records_are_one_family_and_touched_once() {
        let mut families = Families::default();
        let slots: Vec<Slot> = (0..5).map(|_| families.push()).collect();
        families.join(slots[0], slots[3]);
        families.join(slots[3], slots[4]);
        families.touch(slots[4], None);
        families.touch(slots[0], Some(4));
        let touched = families.take_touched();
        assert_eq!(touched.len(), 1);
        assert_eq!(touched[0].0.len(), 3);
        assert_eq!(touched[0].1, Some(4));
        assert_eq!(families.of(slots[1]), vec![slots[1]]);
        assert!(families.take_touched().is_empty());
    }
}
