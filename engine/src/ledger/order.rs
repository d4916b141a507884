//! The canonical order K (LEDGER-RULES section 4): which of two records comes first, whatever the clocks and the
//! network did. Locks come before everything, then effective time, then names. Time of arrival never enters.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::{Facts, UNLOCKED};
use super::families::Slot;
use super::log::LogCase;
use crate::ids::{LogId, RecordId};
use crate::record::Record;
use crate::transaction::Kind;

/// Place of a record in the canonical order.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place {
    pub(crate) rank: u64,
    pub(crate) ms: i64,
    pub(crate) log: LogId,
    pub(crate) seq: u64,
    pub(crate) id: RecordId,
}

impl Facts {
    /// Where a record stands.
    pub(crate) fn place(&self, slot: Slot) -> Place {
        self.place_of(slot, self.record(slot))
    }

    /// Where a record stands that is at hand.
    pub(crate) fn place_of(&self, slot: Slot, record: &Record) -> Place {
        let entry = self.entry(slot);
        let returns = matches!(record.transaction.kind(), Kind::Refund | Kind::Void);
        let rank = if returns { self.rank(slot, &mut BTreeSet::new()) } else { entry.lock };
        Place { rank, ms: entry.ms, log: record.log.clone(), seq: record.seq, id: record.id }
    }

    /// The lock that covers a record, but for a refund or void not before that of what it refers to. (The lines of a void
    /// repeat its original's; an exchange keeps the place that its lock gives it.) A cycle adds nothing.
    fn rank(&self, slot: Slot, above: &mut BTreeSet<Slot>) -> u64 {
        let own = self.entry(slot).lock;
        if own == UNLOCKED || !above.insert(slot) {
            return own;
        }
        let record = self.record(slot);
        let targets = match record.transaction.kind() {
            Kind::Refund => self.targets(slot),
            Kind::Void => {
                let original = record.transaction.original();
                original.and_then(|original| self.resolve(original, Some(slot))).into_iter().collect()
            }
            _ => Vec::new(),
        };
        let local = targets.into_iter().filter(|target| !self.is_foreign(*target) && !above.contains(target));
        let ranks: Vec<u64> =
            local.collect::<Vec<_>>().into_iter().map(|target| self.rank(target, above)).collect();
        above.remove(&slot);
        ranks.into_iter().fold(own, u64::max)
    }

    /// Takes over the lock of what follows a record (a lock covers the ancestors of the head it names), and hands it
    /// on to what comes before. Locks are never taken back, so this only ever lowers the number.
    pub(super) fn settle_lock(&mut self, slot: Slot) {
        let mut pending = vec![slot];
        while let Some(slot) = pending.pop() {
            let id = self.record(slot).id;
            let followers = self.successors(slot).into_iter().map(|next| self.entry(next).lock);
            let lock = followers.fold(self.hub.lock_of_head(&id), u64::min);
            if lock >= self.entry(slot).lock {
                continue;
            }
            self.entry_mut(slot).lock = lock;
            self.touch(slot, None);
            self.dirty_point(slot);
            for referrer in self.referrers_of(slot) {
                self.settle_time(referrer);
            }
            let (log, seq) = (self.record(slot).log.clone(), self.record(slot).seq);
            if !log.terminal.is_hub() {
                self.settle_chain(&log, seq, slot);
                self.dirty_logs.insert(LogCase::Revoked(log.terminal.clone()));
            }
            pending.extend(self.predecessor(slot));
        }
    }

    /// Brings effective times up to date from a record on. Capture has fixed the time over its clock, its log and what
    /// the till had seen; the set adds only this: not before the predecessor, and after what it refers to.
    pub(super) fn settle_time(&mut self, slot: Slot) {
        let referrers = self.referrers_of(slot);
        self.settle_time_with(slot, referrers);
    }

    /// As `settle_time`, for a record whose referrers are at hand.
    pub(super) fn settle_time_with(&mut self, slot: Slot, referrers: Vec<Slot>) {
        if self.cyclic {
            return;
        }
        let mut pending: BTreeSet<Slot> = self.successors(slot).into_iter().collect();
        pending.extend(referrers);
        pending.insert(slot);
        let mut cause: BTreeMap<Slot, Slot> = BTreeMap::new();
        while let Some(slot) = pending.pop_first() {
            let (ms, from) = self.time_of(slot, &BTreeSet::new());
            if ms == self.entry(slot).ms {
                continue;
            }
            match from {
                Some(from) => cause.insert(slot, from),
                None => cause.remove(&slot),
            };
            if leads_back(&cause, slot) {
                self.cyclic = true;
                return;
            }
            self.set_time(slot, ms);
            pending.extend(self.depends_on_time(slot));
        }
    }

    fn set_time(&mut self, slot: Slot, ms: i64) {
        self.entry_mut(slot).ms = ms;
        self.touch(slot, None);
        self.dirty_point(slot);
    }

    fn depends_on_time(&self, slot: Slot) -> Vec<Slot> {
        let mut dependents = self.successors(slot);
        dependents.extend(self.referrers_of(slot));
        dependents
    }

    /// The effective time by the law, and the record that raises it over that of capture.
    fn time_of(&self, slot: Slot, cut: &BTreeSet<(Slot, Slot)>) -> (i64, Option<Slot>) {
        if self.is_foreign(slot) {
            return (self.entry(slot).ms, None);
        }
        let own = (self.record(slot).effective_ms, None);
        let before = self.predecessor(slot).map(|before| (self.entry(before).ms, Some(before)));
        let targets = self
            .targets(slot)
            .into_iter()
            .filter(|target| *target != slot && !cut.contains(&(slot, *target)));
        let after = targets.map(|target| (self.entry(target).ms.saturating_add(1), Some(target)));
        before
            .into_iter()
            .chain(after)
            .fold(own, |latest, other| if other.0 > latest.0 { other } else { latest })
    }

    /// References that run in a circle contribute nothing. This happens only where somebody names a receipt that did
    /// not exist yet; then all times are reckoned anew, without the references that lie on a circle.
    pub(crate) fn settle_cycles(&mut self) {
        if !self.cyclic {
            return;
        }
        let component = self.strong_components();
        let mut cut = BTreeSet::new();
        for slot in self.slots() {
            let same = |target: &Slot| component[slot as usize] == component[*target as usize];
            cut.extend(self.targets(slot).into_iter().filter(same).map(|target| (slot, target)));
        }
        let before: Vec<i64> = self.slots().map(|slot| self.entry(slot).ms).collect();
        for slot in self.slots() {
            if !self.is_foreign(slot) {
                let ms = self.record(slot).effective_ms;
                self.entry_mut(slot).ms = ms;
            }
        }
        let mut pending: BTreeSet<Slot> = self.slots().collect();
        while let Some(slot) = pending.pop_first() {
            let (ms, _) = self.time_of(slot, &cut);
            if ms != self.entry(slot).ms {
                self.entry_mut(slot).ms = ms;
                pending.extend(self.depends_on_time(slot));
            }
        }
        for slot in self.slots() {
            if self.entry(slot).ms != before[slot as usize] {
                self.touch(slot, None);
                self.dirty_point(slot);
            }
        }
    }

    /// Tarjan's components of the graph of predecessors and references, without recursion.
    fn strong_components(&self) -> Vec<u32> {
        let count = self.slots().len();
        let (mut index, mut low) = (vec![0u32; count], vec![0u32; count]);
        let mut component = vec![0u32; count];
        let (mut next, mut found) = (1u32, 0u32);
        let (mut open, mut path): (Vec<Slot>, Vec<(Slot, Vec<Slot>)>) = (Vec::new(), Vec::new());
        for start in self.slots() {
            if index[start as usize] == 0 {
                path.push((start, self.comes_after(start)));
            }
            while let Some((slot, rest)) = path.last_mut() {
                let at = *slot as usize;
                if index[at] == 0 {
                    (index[at], low[at]) = (next, next);
                    next += 1;
                    open.push(*slot);
                }
                if let Some(target) = rest.pop() {
                    let to = target as usize;
                    if index[to] == 0 {
                        path.push((target, self.comes_after(target)));
                    } else if component[to] == 0 {
                        low[at] = low[at].min(index[to]);
                    }
                    continue;
                }
                if low[at] == index[at] {
                    found += 1;
                    while let Some(member) = open.pop() {
                        component[member as usize] = found;
                        if member as usize == at {
                            break;
                        }
                    }
                }
                path.pop();
                if let Some((parent, _)) = path.last() {
                    low[*parent as usize] = low[*parent as usize].min(low[at]);
                }
            }
        }
        component
    }

    fn comes_after(&self, slot: Slot) -> Vec<Slot> {
        let mut before = self.targets(slot);
        before.extend(self.predecessor(slot));
        before
    }
}

/// Whether the causes of a raised time lead back to itself: the references run in a circle.
fn leads_back(cause: &BTreeMap<Slot, Slot>, start: Slot) -> bool {
    let mut at = start;
    while let Some(before) = cause.get(&at) {
        if *before == start {
            return true;
        }
        at = *before;
    }
    false
}
