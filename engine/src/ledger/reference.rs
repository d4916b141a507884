//! What a reference means in the set: by id, else by till and number or receipt, else by receipt in the store. It
//! finds records and never says whether reversing them is right.

use std::collections::BTreeSet;

use super::facts::{Facts, references};
use super::families::Slot;
use crate::transaction::{Body, ForeignOriginal, HubRecord, Kind, Reference, Reverses};

impl Facts {
    /// The sale of another store that a hub record vouches for.
    pub(crate) fn foreign_sale(&self, slot: Slot) -> Option<&ForeignOriginal> {
        match &self.record(slot).transaction.body {
            Body::Hub(HubRecord::ForeignOriginal(sale)) => Some(sale),
            _ => None,
        }
    }

    pub(crate) fn is_foreign(&self, slot: Slot) -> bool {
        self.foreign_sale(slot).is_some()
    }

    /// Every record that fits a reference; records of this store first of all.
    pub(crate) fn candidates(&self, reference: &Reference) -> Vec<Slot> {
        let elsewhere = reference.store.as_ref().is_some_and(|store| *store != self.store);
        let local = if elsewhere { Vec::new() } else { self.local_candidates(reference) };
        if local.is_empty() { self.foreign_candidates(reference) } else { local }
    }

    fn local_candidates(&self, reference: &Reference) -> Vec<Slot> {
        if let Some(id) = &reference.id {
            return self.slot(id).into_iter().collect();
        }
        let fits_receipt = |slot: &Slot| {
            reference
                .receipt
                .as_ref()
                .is_none_or(|receipt| self.record(*slot).transaction.receipt == *receipt)
        };
        match (&reference.terminal, reference.seq, &reference.receipt) {
            (Some(terminal), Some(seq), _) => {
                let logs: Vec<_> = self.logs_of(terminal).collect();
                logs.into_iter().flat_map(|(_, log)| log.at(seq)).filter(fits_receipt).collect()
            }
            (Some(terminal), None, Some(receipt)) => {
                let of_till = |slot: &Slot| self.record(*slot).log.terminal == *terminal;
                self.with_receipt(receipt).into_iter().filter(of_till).collect()
            }
            (None, _, Some(receipt)) => self.with_receipt(receipt),
            _ => Vec::new(),
        }
    }

    fn foreign_candidates(&self, reference: &Reference) -> Vec<Slot> {
        let fits = |sale: &ForeignOriginal| {
            reference.id.map_or_else(
                || {
                    reference.store.as_ref().is_none_or(|store| *store == sale.store)
                        && reference.terminal.as_ref().is_none_or(|terminal| *terminal == sale.log.terminal)
                        && reference.seq.is_none_or(|seq| seq == sale.seq)
                        && reference.receipt.as_ref().is_none_or(|receipt| *receipt == sale.receipt)
                },
                |id| id == sale.id,
            )
        };
        let names = reference.id.is_some() || reference.seq.is_some() || reference.receipt.is_some();
        let all = self.foreign.values().copied();
        all.filter(|slot| names && self.foreign_sale(*slot).is_some_and(fits)).collect()
    }

    /// The record that a reference in `from` means. If several carry the number: the kind that can be meant first,
    /// then the first by lock and by the time of capture.
    pub(crate) fn resolve(&self, reference: &Reference, from: Option<Slot>) -> Option<Slot> {
        let candidates = self.candidates(reference);
        if candidates.len() <= 1 {
            return candidates.first().copied();
        }
        let wanted = match from.map(|from| &self.record(from).transaction.body) {
            Some(Body::Void { reverses: Reverses::Refund, .. }) => Kind::Refund,
            _ => Kind::Sale,
        };
        let order = |slot: &Slot| {
            let entry = self.entry(*slot);
            let record = self.record(*slot);
            let kind = record.transaction.kind();
            let fit = match kind {
                kind if kind == wanted => 0,
                Kind::Sale | Kind::Refund => 1,
                _ => 2,
            };
            (fit, entry.lock, record.effective_ms, record.log.clone(), record.seq, record.id)
        };
        candidates.into_iter().filter(|slot| Some(*slot) != from).min_by_key(order)
    }

    /// The records that a record refers to and that are in the set, itself aside.
    pub(crate) fn targets(&self, slot: Slot) -> Vec<Slot> {
        let found: BTreeSet<Slot> = references(self.record(slot))
            .filter_map(|reference| self.resolve(reference, Some(slot)))
            .filter(|target| *target != slot)
            .collect();
        found.into_iter().collect()
    }
}
