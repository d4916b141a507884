//! What each till knew when it wrote: the heads of other logs in the batches' `seen`. It answers one question, whether
//! a record can have been known to another record's till, and judges nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::facts::Facts;
use crate::ids::LogId;

/// Knowledge by (writer, other log): number of the writer → highest number known there.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Seen {
    steps: BTreeMap<LogId, BTreeMap<LogId, BTreeMap<u64, u64>>>,
}

impl Seen {
    fn learn(&mut self, writer: &LogId, seq: u64, log: &LogId, known: u64) -> bool {
        if !self.steps.contains_key(writer) {
            self.steps.insert(writer.clone(), BTreeMap::new());
        }
        let logs = self.steps.get_mut(writer).expect("just inserted");
        let steps = logs.entry(log.clone()).or_default();
        // A till tells with each record what it holds, and mostly that is what it held before.
        let told = steps.range(..=seq).next_back().is_some_and(|(_, before)| *before >= known);
        if !told {
            steps.insert(seq, known);
        }
        !told
    }

    /// The writer's number since which it knew of `seq` in `log`, if it did when it wrote `at`.
    pub(crate) fn since(&self, writer: &LogId, at: u64, log: &LogId, seq: u64) -> Option<u64> {
        let steps = self.steps.get(writer)?.get(log)?;
        steps.range(..=at).find(|(_, known)| **known >= seq).map(|(since, _)| *since)
    }

    /// What was learned with one record, as it was given.
    pub(crate) fn learned_at(&self, writer: &LogId, seq: u64) -> Vec<(LogId, u64)> {
        let logs = self.steps.get(writer).into_iter().flatten();
        logs.filter_map(|(log, steps)| Some((log.clone(), *steps.get(&seq)?))).collect()
    }

    /// Whether anything is known of what `writer` had seen by its number `at`.
    pub(crate) fn tells_about(&self, writer: &LogId, at: u64) -> bool {
        let mut logs = self.steps.get(writer).into_iter().flat_map(BTreeMap::values);
        logs.any(|steps| steps.range(..=at).next().is_some())
    }
}

impl Facts {
    /// Files what the writer of `seq` had seen.
    pub(super) fn learn(&mut self, writer: &LogId, seq: u64, seen: &[(LogId, u64)]) {
        let mut news = false;
        for (log, known) in seen {
            if log == writer {
                continue;
            }
            news |= self.seen.learn(writer, seq, log, *known);
            if !log.terminal.is_hub() {
                self.know_number(log, *known);
            }
        }
        let later = self.logs.get(writer).is_some_and(|log| log.head() > seq || log.at(seq).next().is_some());
        if news && later {
            // Rare: knowledge that arrives after what was written with it may turn a verdict.
            self.families.touch_everything(None);
            self.dirty_everything();
        }
    }
}
