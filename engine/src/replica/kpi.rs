//! Gathers the samples of the KPIs (`crate::kpi`) from what the hub holds: records, batches, connections, closes. It
//! reads only.

use std::collections::BTreeMap;

use super::{BatchMeta, LinkSpan, Replica};
use crate::ids::{LogId, SessionId};
use crate::kpi::{Captured, Cell, Sample};
use crate::record::Record;
use crate::shelf::Pressed;
use crate::time::Day;

/// Which records are looked at, and when nightly batches would have been.
pub struct KpiRange<'a> {
    /// The business day.
    pub day: Day,
    /// Now, ms since 1970.
    pub now_ms: i64,
    /// The first nightly batch at or after a time, ms since 1970.
    pub next_batch: &'a dyn Fn(i64) -> i64,
}

/// Nightly batches tried for a record before its till's link is given up, one a night.
const NIGHTS: usize = 400;

impl Replica {
    /// The business days of which something is here, from the first to the last of a range.
    #[must_use]
    pub fn kpi_days(&self, days: (Day, Day)) -> Vec<Day> {
        self.documents.range(days.0..=days.1).map(|(day, _)| *day).collect()
    }

    /// The way of every captured record of a day, in the order of arrival. Records with a time before their till was
    /// enrolled are history that was imported, and left out (but counted): nobody could have been quicker.
    #[must_use]
    pub fn kpi_samples(&self, range: &KpiRange<'_>) -> (Vec<Sample>, u64) {
        let (mut samples, mut imported) = (Vec::new(), 0);
        let (first, last) = (SessionId([0; 16]), SessionId([u8::MAX; 16]));
        let of_day = self.places.range((range.day, first)..=(range.day, last));
        let mut ordinals: Vec<u32> = of_day.flat_map(|(_, ordinals)| ordinals).copied().collect();
        ordinals.sort_unstable();
        for ordinal in ordinals {
            let Some(meta) = self.batches.at(ordinal.into()) else { continue };
            let log = self.registry.log_of(&meta.writer).filter(|log| !log.terminal.is_hub());
            let Some(log) = log else { continue };
            let enrolled_ms = self.books.enrolled_at(log).unwrap_or(i64::MIN);
            let spans: Vec<&LinkSpan> = self.links.of(&meta.writer).collect();
            let posted =
                ((ordinal as usize) < self.posted_ms.len()).then(|| *self.posted_ms.get(ordinal, &Pressed));
            let posted_ms = posted.unwrap_or(range.now_ms);
            self.books.visit_log(log, (meta.first_seq, meta.last_seq), |record| {
                if record.at.ms < enrolled_ms {
                    imported += 1;
                } else {
                    samples.push(sample(record, meta, posted_ms, &spans, range));
                }
            });
        }
        (samples, imported)
    }

    /// What tills committed, as far as anybody knows, and what of it is here.
    #[must_use]
    pub fn kpi_captured(&self) -> Captured {
        let mut sum = Captured { rejected_batches: self.refused, ..Captured::default() };
        for (_, log) in self.registry.writers().filter(|(_, log)| !log.terminal.is_hub()) {
            let (known, here) = self.books.capture_count(log);
            sum.committed += known.max(self.heard(log).head_seq);
            sum.captured += here;
        }
        sum.in_review = self.books.in_review();
        sum
    }

    /// Every figure that a Z of some days can be held against, by till and close.
    #[must_use]
    pub fn kpi_cells(&self, days: (Day, Day)) -> BTreeMap<LogId, Vec<Cell>> {
        self.books.z_cells(days)
    }
}

fn sample(
    record: &Record,
    meta: &BatchMeta,
    posted_ms: i64,
    spans: &[&LinkSpan],
    range: &KpiRange<'_>,
) -> Sample {
    // The offset told nearest in time: clocks drift.
    let told = spans.iter().filter_map(|span| Some((span.up_ms, span.clock?.0)));
    let offset_ms = told.min_by_key(|row| (row.0 - record.at.ms).abs()).map_or(0, |row| row.1);
    let committed_ms = record.at.ms.saturating_sub(offset_ms);
    let was_up = |at_ms: i64| {
        spans.iter().any(|span| span.up_ms <= at_ms && span.down_ms.is_none_or(|down_ms| at_ms < down_ms))
    };
    let offline = !was_up(committed_ms);
    let came = spans.iter().map(|span| span.up_ms).filter(|up_ms| *up_ms <= meta.admitted_ms).max();
    let link_up_ms = came.filter(|up_ms| offline && *up_ms >= committed_ms);
    let mut batch_ms = (range.next_batch)(committed_ms);
    for _ in 0..NIGHTS {
        // A night that is still to come is taken to find the till there.
        if batch_ms > range.now_ms || was_up(batch_ms) {
            break;
        }
        batch_ms = (range.next_batch)(batch_ms.saturating_add(1));
    }
    Sample { committed_ms, link_up_ms, arrived_ms: meta.admitted_ms, posted_ms, batch_ms, offline }
}
