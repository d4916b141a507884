//! What the hub's metrics say of webhooks.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::post::Outcome;
use crate::metrics::Counter;

/// Attempts by their outcome, and how far behind each subscription is.
#[derive(Default)]
pub(crate) struct Board {
    accepted: Counter,
    gone: Counter,
    failed: Counter,
    /// By subscription and log.
    behind: Mutex<BTreeMap<(String, [u8; 16]), i64>>,
}

impl Board {
    pub(super) fn count(&self, outcome: &Outcome) {
        let counter = match outcome {
            Outcome::Accepted => &self.accepted,
            Outcome::Gone => &self.gone,
            Outcome::Failed { .. } => &self.failed,
        };
        counter.add(1);
    }

    /// How far the subscriptions are behind in the feed of a log; whoever is not named is there no more.
    pub(super) fn stands(&self, log_id: [u8; 16], behind: impl Iterator<Item = (String, i64)>) {
        let mut all = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, log), _| *log != log_id);
        all.extend(behind.map(|(id, count)| ((id, log_id), count)));
    }

    /// Attempts so far, by their outcome.
    pub(crate) fn attempts(&self) -> [(&'static str, u64); 3] {
        [("accepted", self.accepted.sum()), ("failed", self.failed.sum()), ("gone", self.gone.sum())]
    }

    /// Changes that wait, by subscription, over the logs that this hub delivers for.
    pub(crate) fn behind(&self) -> BTreeMap<String, i64> {
        let all = self.behind.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = BTreeMap::new();
        for ((id, _), count) in all.iter() {
            *sums.entry(id.clone()).or_insert(0) += count;
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subscription_is_behind_in_all_logs_together() {
        let board = Board::default();
        let said = |rows: &[(&str, i64)]| {
            rows.iter().map(|(id, count)| ((*id).to_owned(), *count)).collect::<Vec<_>>().into_iter()
        };
        board.stands([1; 16], said(&[("wh_a", 3), ("wh_b", 1)]));
        board.stands([2; 16], said(&[("wh_a", 4)]));
        assert_eq!(board.behind(), said(&[("wh_a", 7), ("wh_b", 1)]).collect());
        board.stands([1; 16], said(&[]));
        assert_eq!(board.behind(), said(&[("wh_a", 4)]).collect());
    }
}
