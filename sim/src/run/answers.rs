//! What tills and the hub are asked, what they answer, and how that becomes truth.

use engine::host::NotRecorded;
use engine::replica::Receipt;
use engine::transaction::Draft;

use super::Run;
use crate::truth::{Rung, Sale};
use crate::world::START_MS;

/// What a token stands for until it is answered.
pub(super) enum Asked {
    Sale(Box<Sale>),
    Refund { of: String, pieces: i64, receipt: String },
    Exchange { of: String, receipt: String },
    Void { of: String, receipt: String },
    Other { receipt: String },
}

impl Asked {
    fn receipt(&self) -> &str {
        match self {
            Self::Sale(sale) => &sale.receipt,
            Self::Refund { receipt, .. }
            | Self::Exchange { receipt, .. }
            | Self::Void { receipt, .. }
            | Self::Other { receipt } => receipt,
        }
    }
}

impl Run {
    pub(super) fn ask(&mut self, till: &str, draft: Draft, asked: Asked) {
        // Somebody who copied a till sells there too, now and then.
        let till = match self.copies.get(till) {
            Some(copy) if asked.receipt().bytes().last().is_some_and(|digit| digit % 3 == 0) => copy.clone(),
            _ => till.to_owned(),
        };
        if !self.world.nodes[&till].is_up() {
            return;
        }
        self.rings.insert(draft.transaction.receipt.clone(), Rung::of(&draft.transaction));
        self.last.insert(till.clone(), draft.clone());
        let token = self.world.capture(&till, draft);
        self.asked.insert((till.clone(), token), asked);
        let waiting = self.world.nodes[&till].replica().waiting().count;
        self.moment(&till, "capture", waiting);
        let at_ms = self.world.now_ms - START_MS;
        if let Some(watch) = &mut self.world.watch {
            watch.waits(at_ms, &till, waiting);
        }
    }

    /// What was asked before power failed and not answered may or may not have happened. The cashier looks at the till
    /// afterwards, as people do, and counts what it holds.
    pub(super) fn abandon(&mut self, node: &str) {
        let unanswered: Vec<(String, u64)> =
            self.asked.keys().filter(|(till, _)| till == node).cloned().collect();
        let last = self.last.remove(node);
        let mut again = None;
        for key in unanswered {
            let Some(asked) = self.asked.remove(&key) else { continue };
            let kept = self.world.nodes[node].replica().own_record(asked.receipt()).cloned();
            if let Some(record) = kept {
                let receipt = Receipt {
                    id: record.id,
                    receipt: record.transaction.receipt.clone(),
                    seq: record.seq,
                    business_day: record.business_day,
                    repeated: false,
                };
                self.acknowledge(node, asked, &receipt);
            } else if last.as_ref().is_some_and(|draft| draft.transaction.receipt == asked.receipt()) {
                again = Some(asked);
            }
        }
        // The POS sends its last basket again, because it cannot know whether the till has recorded it.
        if let Some(draft) = last {
            let receipt = draft.transaction.receipt.clone();
            let token = self.world.capture(node, draft);
            self.asked.insert((node.to_owned(), token), again.unwrap_or(Asked::Other { receipt }));
        }
    }

    /// Takes the answers that nodes have given.
    pub(super) fn collect(&mut self) {
        let answered: Vec<(String, u64, Result<Receipt, NotRecorded>)> = self
            .world
            .nodes
            .values_mut()
            .flat_map(|node| {
                let name = node.name.to_string();
                std::mem::take(&mut node.answers)
                    .into_iter()
                    .map(move |(token, result)| (name.clone(), token, result))
            })
            .collect();
        for (till, token, result) in answered {
            // A disk that failed may have written it all the same: known when the till has restarted and somebody looks.
            if matches!(result, Err(NotRecorded::Storage(_))) {
                continue;
            }
            if let (Some((of, approved)), Ok(_)) = (self.outcomes.remove(&token), &result)
                && let Some(sale) = self.truth.sales.get_mut(&of)
            {
                sale.outcome = Some(approved);
            }
            let Some(asked) = self.asked.remove(&(till.clone(), token)) else { continue };
            if let Ok(receipt) = result {
                self.acknowledge(&till, asked, &receipt);
            }
        }
    }

    pub(super) fn acknowledge(&mut self, till: &str, asked: Asked, receipt: &Receipt) {
        self.truth.acknowledge(till, &receipt.receipt, receipt.id);
        if let Some(rung) = self.rings.get(&receipt.receipt) {
            self.truth.rung.entry(till.to_owned()).or_default().insert(receipt.seq, rung.clone());
        }
        match asked {
            Asked::Sale(mut sale) => {
                sale.id = receipt.id;
                till.clone_into(&mut sale.till);
                self.truth.sales.insert(sale.receipt.clone(), *sale);
            }
            Asked::Refund { of, pieces, receipt } => {
                if let Some(sale) = self.truth.sales.get_mut(&of) {
                    sale.returned += pieces;
                    sale.reversals.push(receipt);
                }
            }
            Asked::Exchange { of, receipt } => {
                if let Some(sale) = self.truth.sales.get_mut(&of) {
                    sale.returned += 1;
                    sale.reversals.push(receipt);
                }
            }
            Asked::Void { of, receipt } => {
                if let Some(sale) = self.truth.sales.get_mut(&of) {
                    sale.voids += 1;
                    sale.reversals.push(receipt);
                }
            }
            Asked::Other { .. } => {}
        }
    }
}
