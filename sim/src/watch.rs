//! What the report shows of a run, written down while it happens and only when somebody wants to look: who was linked and
//! who was down, how much waited, when a record was at the hub. It never changes what happens.

use std::collections::BTreeMap;

use engine::ids::RecordId;

/// Queue depths are looked at so often, true ms.
pub const SAMPLE_MS: i64 = 600_000;

/// Something to look at in the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// When, true ms since the start.
    pub at_ms: i64,
    /// Who.
    pub node: String,
    /// What, in a word: `link-up`, `link-down`, `down`, `up`, `waiting`, `capture`, `sync`, `case`, `block`, `open`,
    /// `heal`, or the name of a fault that struck.
    pub what: String,
    /// A figure that goes with it: records waiting or arrived, the severity of a case.
    pub figure: u64,
    /// What else is told of it.
    pub text: String,
}

/// The way of a record from the till to the hub, true ms since the start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// The till.
    pub till: String,
    /// When the cashier was told that it is recorded.
    pub committed_ms: i64,
    /// Whether the till had no link to the hub then.
    pub offline: bool,
    /// When it was first at the hub.
    pub arrived_ms: Option<i64>,
}

/// What was watched.
#[derive(Debug, Default)]
pub struct Watch {
    /// Moments, in the order of time.
    pub moments: Vec<Moment>,
    /// Records and their way.
    pub ways: BTreeMap<RecordId, Way>,
    /// Batches of the hub that were looked at.
    pub batches: usize,
    /// When queues are looked at next, true ms since the start.
    pub sample_ms: i64,
    waiting: BTreeMap<String, u64>,
}

impl Watch {
    /// Something happened.
    pub fn moment(&mut self, at_ms: i64, node: &str, what: &str, figure: u64, text: String) {
        let moment = Moment { at_ms, node: node.to_owned(), what: what.to_owned(), figure, text };
        self.moments.push(moment);
    }

    /// So many records wait at a node; written down when it is another number than before.
    pub fn waits(&mut self, at_ms: i64, node: &str, count: u64) {
        let last = self.waiting.entry(node.to_owned()).or_default();
        if *last != count {
            *last = count;
            self.moment(at_ms, node, "waiting", count, String::new());
        }
    }
}
