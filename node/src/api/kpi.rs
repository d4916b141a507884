//! The KPIs as JSON: `GET /v1/metrics-report`. Samples come from the stores, the reckoning is `engine::kpi`'s; shares are
//! given in millionths beside their denominators.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Query, State};
use engine::ids::{LogId, StoreId};
use engine::kpi::{Captured, Cell, Latency, Reconciliation, Sample, captured_within, drain, ppm};
use engine::replica::KpiRange;
use engine::time::{Day, Instant};
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::{IntoParams, OpenApi};

use super::openapi::Refused;
use super::problem::Problem;
use super::shapes;
use crate::hub::Hub;
use crate::runtime::clock::{now_ms, rfc3339};
use crate::runtime::store::StoreError;

/// Differences listed at most.
const DIFFERENCES_LISTED: usize = 100;
/// Shares captured within these times of the link.
const WITHIN: [(&str, i64); 3] = [("1m", 60_000), ("5m", 300_000), ("24h", 86_400_000)];

impl Part {
    /// Business days from one on.
    pub fn since(day: Day) -> Self {
        Self { from: Some(day), ..Self::default() }
    }
}

/// Which part of the trade is measured.
#[derive(Deserialize, Default, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Part {
    #[param(value_type = Option<String>)]
    store: Option<StoreId>,
    #[param(value_type = Option<String>, format = Date)]
    from: Option<Day>,
    #[param(value_type = Option<String>, format = Date)]
    to: Option<Day>,
}

#[utoipa::path(get, path = "/v1/metrics-report", tag = "hub", params(Part), responses((status = 200, description = "The three KPIs with their denominators.", body = shapes::MetricsShape), Refused), security(("token" = [])))]
pub(super) async fn metrics_report(
    State(hub): State<Arc<Hub>>,
    Query(part): Query<Part>,
) -> Result<Json<Value>, Problem> {
    report(&hub, &part).await.map(Json)
}

/// Reckons the KPIs over a part of the trade.
///
/// # Errors
/// The part is no part, or the node is stopping.
pub async fn report(hub: &Hub, part: &Part) -> Result<Value, Problem> {
    let days = (part.from.unwrap_or(Day(i32::MIN)), part.to.unwrap_or(Day(i32::MAX)));
    if days.0 > days.1 {
        return Err(Problem::invalid("from: is after to"));
    }
    let stores = match &part.store {
        None => hub.stores(),
        Some(store) => {
            let found = hub.store(store);
            vec![found.ok_or_else(|| Problem::not_found(format!("there is no store {store}")))?]
        }
    };
    let (mut gathered, mut captured) = (Gathered::default(), Captured::default());
    for store in stores {
        let (of_store, counted) =
            store.ask(move |replica| (replica.kpi_days(days), replica.kpi_captured())).await?;
        captured.committed += counted.committed;
        captured.captured += counted.captured;
        captured.in_review += counted.in_review;
        captured.rejected_batches += counted.rejected_batches;
        // A day at a time: every record of it is read, and what a till sells meanwhile has its turn between two.
        for day in of_store {
            let clock = hub.clock().clone();
            let of_day = store
                .ask(move |replica| {
                    let policy = replica.policies().on(Instant::utc(now_ms()).day());
                    let next_batch = |ms: i64| clock.next_at(policy.batch_baseline_minutes, ms);
                    let range = KpiRange { day, now_ms: now_ms(), next_batch: &next_batch };
                    (replica.kpi_samples(&range), replica.kpi_cells((day, day)))
                })
                .await?;
            gathered.take(store.store(), of_day);
        }
    }
    let (store, from, to) = (part.store.clone(), part.from, part.to);
    let reckoned = tokio::task::spawn_blocking(move || {
        let Gathered { samples, imported, reconciled, differences, reconciled_on } = gathered;
        json!({
            "as_of": rfc3339(now_ms()),
            "store": store,
            "from": from,
            "to": to,
            "data_latency": data_latency(&samples, imported),
            "reconciliation": {
                "cells": reconciled.cells, "equal": reconciled.equal, "explained": reconciled.explained,
                "unexplained": reconciled.unexplained,
                "error_rate_ppm": ppm(reconciled.unexplained, reconciled.cells),
                "differences": differences,
            },
            "capture": capture(&samples, &captured),
            "by_day": by_day(&samples, reconciled_on),
        })
    });
    reckoned.await.map_err(|_| StoreError::Stopping.into())
}

/// What stores gave.
#[derive(Default)]
struct Gathered {
    samples: Vec<Sample>,
    imported: u64,
    reconciled: Reconciliation,
    differences: Vec<Value>,
    reconciled_on: BTreeMap<Day, Reconciliation>,
}

/// Samples of a day with how many were imported, and the figures of its Z reports.
type OfDay = ((Vec<Sample>, u64), BTreeMap<LogId, Vec<Cell>>);

impl Gathered {
    fn take(&mut self, store: &StoreId, ((samples, imported), cells): OfDay) {
        self.samples.extend(samples);
        self.imported += imported;
        for (log, cell) in cells.iter().flat_map(|(log, cells)| cells.iter().map(move |cell| (log, cell))) {
            self.reconciled.count(cell);
            self.reconciled_on.entry(cell.day).or_default().count(cell);
            if cell.control_minor != cell.ledger_minor && self.differences.len() < DIFFERENCES_LISTED {
                self.differences.push(json!({
                    "store": store, "terminal": log.terminal, "figure": cell.name, "currency": cell.currency,
                    "control_minor": cell.control_minor, "ledger_minor": cell.ledger_minor, "explained": cell.explained,
                }));
            }
        }
    }
}

fn data_latency(samples: &[Sample], imported: u64) -> Value {
    json!({
        "all": Latency::of(&samples.iter().collect::<Vec<_>>()),
        "offline": Latency::of(&samples.iter().filter(|sample| sample.offline).collect::<Vec<_>>()),
        "drain_after_link_up": drain(samples),
        "imported_records_left_out": imported,
    })
}

fn capture(samples: &[Sample], captured: &Captured) -> Value {
    let within = WITHIN.iter().map(|(name, ms)| {
        let inside = captured_within(samples, *ms);
        let all = samples.len() as u64;
        json!({"within": name, "captured": inside, "of": all, "share_ppm": ppm(inside, all)})
    });
    json!({
        "committed": captured.committed,
        "captured": captured.captured,
        "success_rate_ppm": ppm(captured.captured, captured.committed),
        "in_review": captured.in_review,
        "in_review_ppm": ppm(captured.in_review, captured.captured),
        "rejected_batches_since_start": captured.rejected_batches,
        "within_link": within.collect::<Vec<_>>(),
    })
}

/// The history: latency of the records committed on each day (UTC), and the figures in the Z reports of that business day.
fn by_day(samples: &[Sample], reconciled: BTreeMap<Day, Reconciliation>) -> Value {
    let mut days: BTreeMap<Day, (Vec<&Sample>, Reconciliation)> = BTreeMap::new();
    for sample in samples {
        days.entry(Instant::utc(sample.committed_ms).day()).or_default().0.push(sample);
    }
    for (day, figures) in reconciled {
        days.entry(day).or_default().1 = figures;
    }
    let row = |(day, (samples, figures)): (Day, (Vec<&Sample>, Reconciliation))| {
        let latency = Latency::of(&samples);
        let some = |ms: i64| (!samples.is_empty()).then_some(ms);
        json!({"day": day, "records": latency.latency.count, "p50_ms": some(latency.latency.p50_ms),
            "p95_ms": some(latency.latency.p95_ms), "reduction_ppm": latency.reduction_ppm,
            "cells": figures.cells, "unexplained": figures.unexplained,
            "error_rate_ppm": ppm(figures.unexplained, figures.cells)})
    };
    days.into_iter().map(row).collect()
}

/// What these endpoints are, for OpenAPI.
#[derive(OpenApi)]
#[openapi(paths(metrics_report))]
pub struct Doc;
