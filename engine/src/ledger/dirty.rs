//! Cases of logs that have to be built anew. Filing a record names five of them, most of them again, so they are only
//! noted here and sorted when they are asked for.

use serde::{Deserialize, Serialize};

use super::log::LogCase;

/// Cases to be looked at, each once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct DirtyLogs {
    /// As they were noted, some of them more than once.
    noted: Vec<LogCase>,
    /// Sorted, the first at the end.
    sorted: Vec<LogCase>,
    /// Noted ones are sorted and counted once when there are so many.
    compact_at: usize,
}

/// Fewer noted cases are never compacted.
const COMPACT_FROM: usize = 1 << 14;

impl DirtyLogs {
    /// Notes a case.
    pub(crate) fn insert(&mut self, case: LogCase) {
        self.noted.push(case);
        if self.noted.len() >= self.compact_at.max(COMPACT_FROM) {
            self.noted.sort_unstable();
            self.noted.dedup();
            self.compact_at = self.noted.len() * 2;
        }
    }

    /// Notes cases.
    pub(crate) fn extend(&mut self, cases: impl IntoIterator<Item = LogCase>) {
        cases.into_iter().for_each(|case| self.insert(case));
    }

    /// Takes a case out: the first of those that were noted before the others were asked for.
    pub(crate) fn pop(&mut self) -> Option<LogCase> {
        if self.sorted.is_empty() {
            self.sorted = std::mem::take(&mut self.noted);
            self.sorted.sort_unstable_by(|a, b| b.cmp(a));
            self.sorted.dedup();
            self.compact_at = 0;
        }
        self.sorted.pop()
    }

    /// Whether nothing is noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.noted.is_empty() && self.sorted.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::LogId;

    #[test]
    fn whatever_is_noted_comes_out_and_repeats_are_few() {
        let log = LogId { terminal: "till-1".parse().unwrap(), incarnation: 1 };
        let case = |seq: u64| LogCase::Gap(log.clone(), seq);
        let mut dirty = DirtyLogs::default();
        for round in 0..10 {
            dirty.extend((0..10_000).map(|n| case(n * 7_919 % 10_007 + round)));
        }
        assert!(dirty.noted.len() < 40_000, "{}", dirty.noted.len());
        let first = dirty.pop().unwrap();
        assert_eq!(first, case(0));
        dirty.insert(case(0));
        let mut out = 1;
        while let Some(next) = dirty.pop() {
            out += usize::from(next != case(0));
        }
        assert!(dirty.is_empty());
        let distinct: std::collections::BTreeSet<u64> =
            (0..10).flat_map(|round| (0..10_000).map(move |n| n * 7_919 % 10_007 + round)).collect();
        assert_eq!(out, distinct.len());
    }
}
