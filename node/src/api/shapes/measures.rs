//! The three KPIs.

use utoipa::ToSchema;

/// The three KPIs with their denominators; shares in millionths.
#[derive(ToSchema)]
pub struct MetricsShape {
    /// When it was asked.
    as_of: String,
    /// The store, if one was named.
    store: Option<String>,
    /// First day.
    from: Option<String>,
    /// Last day.
    to: Option<String>,
    /// From the till into the books.
    data_latency: DataLatencyShape,
    /// Z reports against the books.
    reconciliation: ReconciliationShape,
    /// What is here of what was made.
    capture: CaptureShape,
    /// The history.
    by_day: Vec<MetricsDayShape>,
}

/// Data latency.
#[derive(ToSchema)]
pub struct DataLatencyShape {
    /// Of all records.
    all: LatencyShape,
    /// Of those made without a link.
    offline: LatencyShape,
    /// From the link to the hub.
    drain_after_link_up: SpreadShape,
    /// Imported records, which are not counted.
    imported_records_left_out: u64,
}

/// Latency and its parts.
#[derive(ToSchema)]
pub struct LatencyShape {
    /// From commit at the till to the books.
    latency: SpreadShape,
    /// Of it: waiting for the link.
    waiting: SpreadShape,
    /// Of it: from there to the hub.
    transfer: SpreadShape,
    /// Of it: from there into the books.
    projection: SpreadShape,
    /// From commit to the first nightly batch that could have carried it.
    batch: SpreadShape,
    /// How much shorter, in millionths.
    reduction_ppm: Option<i64>,
}

/// A spread of durations, ms.
#[derive(ToSchema)]
pub struct SpreadShape {
    /// How many.
    count: u64,
    /// The middle one.
    p50_ms: i64,
    /// 95 in 100 are at most this.
    p95_ms: i64,
    /// 99 in 100 are at most this.
    p99_ms: i64,
    /// The longest.
    max_ms: i64,
    /// Their mean.
    mean_ms: i64,
}

/// Figures of Z reports beside those of the books.
#[derive(ToSchema)]
pub struct ReconciliationShape {
    /// How many.
    cells: u64,
    /// Equal.
    equal: u64,
    /// Different, and records under review account for it.
    explained: u64,
    /// Different without a reason.
    unexplained: u64,
    /// Their share.
    error_rate_ppm: Option<i64>,
    /// The first of those that differ.
    differences: Vec<DifferenceShape>,
}

/// A figure that differs.
#[derive(ToSchema)]
pub struct DifferenceShape {
    /// The store.
    store: String,
    /// The till.
    terminal: String,
    /// Which figure.
    figure: String,
    /// ISO 4217.
    currency: String,
    /// What the Z says.
    control_minor: i64,
    /// What the books say.
    ledger_minor: i64,
    /// Whether records under review account for it.
    explained: bool,
}

/// What is here of what was made.
#[derive(ToSchema)]
pub struct CaptureShape {
    /// Numbers known from any source.
    committed: u64,
    /// Of them here.
    captured: u64,
    /// Their share.
    success_rate_ppm: Option<i64>,
    /// Of them under review.
    in_review: u64,
    /// Their share.
    in_review_ppm: Option<i64>,
    /// Batches that were refused since the hub started.
    rejected_batches_since_start: u64,
    /// How soon after the link.
    within_link: Vec<WithinShape>,
}

/// What was captured within a time of the link.
#[derive(ToSchema)]
pub struct WithinShape {
    /// `1m`, `5m`, `24h`.
    within: String,
    /// How many.
    captured: u64,
    /// Of how many.
    of: u64,
    /// Their share.
    share_ppm: Option<i64>,
}

/// The KPIs of one day.
#[derive(ToSchema)]
pub struct MetricsDayShape {
    /// The day.
    day: String,
    /// Records that were committed on it.
    records: u64,
    /// Their latency: the middle one.
    p50_ms: Option<i64>,
    /// 95 in 100 are at most this.
    p95_ms: Option<i64>,
    /// Against the nightly batch.
    reduction_ppm: Option<i64>,
    /// Figures in Z reports of this business day.
    cells: u64,
    /// Of them different without a reason.
    unexplained: u64,
    /// Their share.
    error_rate_ppm: Option<i64>,
}
