//! How a till stands.

use std::collections::BTreeMap;

use utoipa::ToSchema;

use super::fleet::AlarmShape;

/// What waits at a till.
#[derive(ToSchema)]
pub struct WaitingShape {
    /// How many records.
    count: u64,
    /// Their value by currency.
    value_minor: BTreeMap<String, i64>,
    /// Age of the oldest.
    oldest_seconds: Option<i64>,
}

/// How a till stands.
#[derive(ToSchema)]
pub struct TillStatusShape {
    /// Its store.
    store: String,
    /// Its name.
    terminal: String,
    /// Which device of that name.
    incarnation: u32,
    /// Whether the hub is connected.
    online: bool,
    /// Since when it is, or is not.
    since: Option<String>,
    /// What the hub does not hold yet.
    waiting: WaitingShape,
    /// Up to where the hub holds everything.
    at_hub_through: ThroughShape,
    /// Last number in its log.
    head_seq: u64,
    /// Version of the policy in force.
    policy_version: u64,
    /// Hash of the books; equal on every node that holds the same records.
    view_hash: String,
    /// Cases that are open, as far as it knows.
    open_cases: u64,
    /// Who is connected.
    peers: Vec<PeerShape>,
    /// Version of the program.
    software: String,
    /// What somebody should look at.
    alarms: Vec<AlarmShape>,
    /// Whether the disk is full.
    disk_full: bool,
}

/// A number in a log with its receipt.
#[derive(ToSchema)]
pub struct ThroughShape {
    /// The number; 0: none.
    seq: u64,
    /// The receipt.
    receipt: Option<String>,
}

/// A connected node.
#[derive(ToSchema)]
pub struct PeerShape {
    /// Its name.
    peer: Option<String>,
    /// Whether both hold the same.
    level: bool,
    /// Batches still to be sent.
    backlog: u64,
    /// Batches of it that were refused.
    refused: u64,
    /// What it said last.
    last_status: Option<PeerStatusShape>,
}

/// What a node says of itself.
#[derive(ToSchema)]
pub struct PeerStatusShape {
    /// When it came.
    at: String,
    /// Its clock less ours.
    clock_offset_ms: i64,
    /// Records that wait there.
    waiting: u64,
    /// Its policy.
    policy_version: u64,
    /// Its program.
    software: String,
}

/// What waits at a till, with the first of it.
#[derive(ToSchema)]
pub struct PendingShape {
    /// How many records.
    count: u64,
    /// Their value by currency.
    value_minor: BTreeMap<String, i64>,
    /// Age of the oldest.
    oldest_seconds: Option<i64>,
    /// The first of them.
    records: Vec<PendingRecordShape>,
}

/// A record that waits.
#[derive(ToSchema)]
pub struct PendingRecordShape {
    /// Receipt number.
    receipt: String,
    /// Identity.
    id: String,
    /// Number in the log.
    seq: u64,
    /// What it is.
    kind: String,
    /// Clock of the till.
    at: String,
    /// Its total, if it has a basket.
    total_minor: Option<i64>,
    /// ISO 4217.
    currency: Option<String>,
}
