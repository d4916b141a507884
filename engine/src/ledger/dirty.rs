//! Cases of logs that have to be built anew. Filing a record may change the gap, the skew and the missing tail at its number
//! and at the next one, so what is noted are numbers, as spans: a log that arrives in order is one span.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::log::LogCase;
use crate::ids::LogId;

/// Cases to be looked at, each once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct DirtyLogs {
    /// Numbers where every case is to be looked at.
    numbers: BTreeMap<LogId, Spans>,
    /// Cases that stand at no single number.
    others: BTreeSet<LogCase>,
}

/// What is to be looked at now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Taken {
    /// Spans of numbers: the first and the last of each.
    pub(crate) spans: Vec<(LogId, u64, u64)>,
    /// Other cases.
    pub(crate) cases: Vec<LogCase>,
}

impl DirtyLogs {
    /// Notes a case.
    pub(crate) fn insert(&mut self, case: LogCase) {
        match case {
            LogCase::Gap(log, seq) | LogCase::Skew(log, seq) | LogCase::Tail(log, seq) => {
                self.numbers(&log, seq, seq);
            }
            LogCase::Chain(..) | LogCase::Revoked(_) => drop(self.others.insert(case)),
        }
    }

    /// Notes every case at the numbers from the first to the last.
    pub(crate) fn numbers(&mut self, log: &LogId, first: u64, last: u64) {
        if let Some(spans) = self.numbers.get_mut(log) {
            spans.add(first, last);
        } else {
            self.numbers.entry(log.clone()).or_default().add(first, last);
        }
    }

    /// Takes out about `limit` cases and numbers, the first ones.
    pub(crate) fn take(&mut self, limit: usize) -> Taken {
        let mut taken = Taken::default();
        while taken.cases.len() < limit {
            let Some(case) = self.others.pop_first() else { break };
            taken.cases.push(case);
        }
        let mut left = u64::try_from(limit - taken.cases.len()).unwrap_or(u64::MAX);
        while left > 0 {
            let Some(mut entry) = self.numbers.first_entry() else { break };
            match entry.get_mut().take(left) {
                Some((first, last)) => {
                    left -= (last - first).saturating_add(1).min(left);
                    taken.spans.push((entry.key().clone(), first, last));
                }
                None => drop(entry.remove()),
            }
        }
        taken
    }

    /// Whether nothing is noted.
    pub(crate) fn is_empty(&self) -> bool {
        self.others.is_empty() && self.numbers.values().all(|spans| spans.0.is_empty())
    }
}

/// Numbers as spans: the last of each by its first. No two touch.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Spans(BTreeMap<u64, u64>);

impl Spans {
    fn add(&mut self, mut first: u64, mut last: u64) {
        // Every span that begins before the number after the last, and does not end before the number before the first.
        while let Some((&from, &to)) = self.0.range(..=last.saturating_add(1)).next_back() {
            if to.saturating_add(1) < first {
                break;
            }
            if from <= first && last <= to {
                return;
            }
            self.0.remove(&from);
            (first, last) = (first.min(from), last.max(to));
        }
        self.0.insert(first, last);
    }

    /// Takes out the first `limit` numbers of the first span.
    fn take(&mut self, limit: u64) -> Option<(u64, u64)> {
        let (first, last) = self.0.pop_first()?;
        let end = last.min(first.saturating_add(limit.saturating_sub(1)));
        if end < last {
            self.0.insert(end + 1, last);
        }
        Some((first, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> LogId {
        LogId { terminal: "till-1".parse().unwrap(), incarnation: 1 }
    }

    #[test]
    fn spans_hold_what_a_plain_set_holds() {
        let (mut spans, mut plain) = (Spans::default(), BTreeSet::new());
        for step in 0_u64..400 {
            let first = step * 7_919 % 997;
            let last = first + step % 4;
            spans.add(first, last);
            plain.extend(first..=last);
            let ends: Vec<_> = spans.0.iter().map(|(first, last)| (*first, *last)).collect();
            assert!(ends.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "two touch after step {step}");
            assert!(spans.0.iter().flat_map(|(first, last)| *first..=*last).eq(plain.iter().copied()));
        }
        spans.add(0, u64::MAX);
        spans.add(u64::MAX, u64::MAX);
        assert_eq!(spans.0, BTreeMap::from([(0, u64::MAX)]));
    }

    #[test]
    fn whatever_is_noted_comes_out_once_in_parts() {
        let mut dirty = DirtyLogs::default();
        let revoked = LogCase::Revoked("till-1".parse().unwrap());
        for seq in [5, 6, 7, 6, 20] {
            dirty.insert(LogCase::Gap(log(), seq));
            dirty.insert(LogCase::Tail(log(), seq));
        }
        dirty.insert(revoked.clone());
        assert_eq!(dirty.take(2), Taken { spans: vec![(log(), 5, 5)], cases: vec![revoked] });
        assert_eq!(dirty.take(2), Taken { spans: vec![(log(), 6, 7)], cases: vec![] });
        assert!(!dirty.is_empty());
        assert_eq!(dirty.take(usize::MAX), Taken { spans: vec![(log(), 20, 20)], cases: vec![] });
        assert!(dirty.is_empty());
        assert_eq!(dirty.take(10), Taken::default());
    }

    #[test]
    fn a_log_in_order_is_one_span() {
        let mut dirty = DirtyLogs::default();
        (1..10_000).for_each(|seq| dirty.numbers(&log(), seq, seq + 1));
        assert_eq!(dirty.take(usize::MAX).spans, [(log(), 1, 10_000)]);
    }
}
