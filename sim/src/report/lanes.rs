//! Lanes from moments: when a node was down, linked or cut off, how much waited, what struck. Nothing here draws.

use std::collections::{BTreeMap, BTreeSet};

use crate::watch::Moment;
use crate::world::HUB;

/// From when to when, true ms since the start.
pub(super) type Span = (i64, i64);

/// Everything about one node.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// When it had a link to the hub.
    pub linked: Vec<Span>,
    /// When it was down.
    pub down: Vec<Span>,
    /// When nothing got through between it and the hub, in one direction at least.
    pub blocked: Vec<Span>,
    /// Records waiting, whenever that changed.
    pub waiting: Vec<(i64, u64)>,
    /// When something was captured.
    pub captures: Vec<i64>,
    /// When the hub took records from it, and how many.
    pub syncs: Vec<(i64, u64)>,
    /// Cases that opened: when, severity, what about.
    pub cases: Vec<(i64, u64, String)>,
    /// What struck: when, the name, what else is told.
    pub faults: Vec<(i64, String, String)>,
    open: BTreeMap<&'static str, i64>,
    directions: BTreeSet<String>,
}

impl Lane {
    fn begin(&mut self, what: &'static str, at_ms: i64) {
        self.open.entry(what).or_insert(at_ms);
    }

    fn end(&mut self, what: &'static str, at_ms: i64) {
        let Some(from) = self.open.remove(what) else { return };
        let spans = match what {
            "linked" => &mut self.linked,
            "down" => &mut self.down,
            _ => &mut self.blocked,
        };
        if at_ms > from {
            spans.push((from, at_ms));
        }
    }

    fn unblock(&mut self, at_ms: i64) {
        self.directions.clear();
        self.end("blocked", at_ms);
    }

    fn take(&mut self, moment: &Moment) {
        let at_ms = moment.at_ms;
        match moment.what.as_str() {
            "link-up" => self.begin("linked", at_ms),
            "link-down" => self.end("linked", at_ms),
            "down" => self.begin("down", at_ms),
            "up" => self.end("down", at_ms),
            "block" => {
                self.directions.insert(moment.text.clone());
                self.begin("blocked", at_ms);
            }
            "open" => {
                self.directions.remove(&moment.text);
                if self.directions.is_empty() {
                    self.end("blocked", at_ms);
                }
            }
            "waiting" => self.waiting.push((at_ms, moment.figure)),
            "capture" => self.captures.push(at_ms),
            "sync" => self.syncs.push((at_ms, moment.figure)),
            "case" => self.cases.push((at_ms, moment.figure, moment.text.clone())),
            // Partitions have their bands.
            "partition" | "heal" => {}
            fault => self.faults.push((at_ms, fault.to_owned(), moment.text.clone())),
        }
    }
}

/// A lane for the hub, every till that is named, and every other node that did something, by name.
pub(super) fn lanes(names: &[String], moments: &[Moment], end_ms: i64) -> BTreeMap<String, Lane> {
    let mut lanes: BTreeMap<String, Lane> =
        names.iter().map(|name| (name.clone(), Lane::default())).collect();
    lanes.entry(HUB.to_owned()).or_default();
    for moment in moments {
        if moment.what == "heal" {
            lanes.values_mut().for_each(|lane| lane.unblock(moment.at_ms));
        }
        if moment.what == "sync" {
            let hub = lanes.entry(HUB.to_owned()).or_default();
            hub.syncs.push((moment.at_ms, moment.figure));
        }
        lanes.entry(moment.node.clone()).or_default().take(moment);
    }
    for lane in lanes.values_mut() {
        for what in ["linked", "down", "blocked"] {
            lane.end(what, end_ms);
        }
    }
    lanes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(at_ms: i64, what: &str, text: &str) -> Moment {
        Moment { at_ms, node: "till-01".into(), what: what.into(), figure: 0, text: text.into() }
    }

    #[test]
    fn a_partition_lasts_until_both_ways_are_open() {
        let moments = [
            moment(0, "link-up", ""),
            moment(10, "block", "hub"),
            moment(10, "block", "till-01"),
            moment(40, "link-down", ""),
            moment(50, "open", "hub"),
            moment(60, "open", "till-01"),
            moment(70, "down", ""),
        ];
        let lanes = lanes(&["till-01".into()], &moments, 100);
        let lane = &lanes["till-01"];
        assert_eq!(
            (&lane.linked[..], &lane.blocked[..], &lane.down[..]),
            (&[(0, 40)][..], &[(10, 60)][..], &[(70, 100)][..])
        );
        assert_eq!(lanes.len(), 2, "the hub has a lane too");
    }
}
