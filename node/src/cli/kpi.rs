//! `kpi`: how late data is, how often books and control totals differ, how much was captured. The hub reckons.

use serde_json::Value;

use super::client::{Role, Where, with_query};
use super::out::Out;
use super::table::{Side, Table};
use super::words::text;
use crate::error::Failure;

/// The three KPIs with their denominators: data latency, reconciliation errors, capture success
///
/// Data latency is held against a nightly batch over the same records. Shares are of the counts beside them.
#[derive(Debug, clap::Args)]
pub(super) struct Kpi {
    /// Only this store
    #[arg(long)]
    store: Option<String>,
    /// First business day
    #[arg(long, value_name = "YYYY-MM-DD")]
    from: Option<String>,
    /// Last business day
    #[arg(long, value_name = "YYYY-MM-DD")]
    to: Option<String>,
    #[command(flatten)]
    at: Where,
}

impl Kpi {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Hub, "kpi")?;
        let parameters =
            [("store", self.store.as_deref()), ("from", self.from.as_deref()), ("to", self.to.as_deref())];
        let report = client.get(&with_query("/v1/metrics-report", &parameters))?;
        if out.json() { out.document(&report) } else { out.text(&page(&report)) }
    }
}

fn page(report: &Value) -> String {
    let latency = &report["data_latency"];
    let heads = [
        ("Data latency", Side::Left),
        ("Records", Side::Right),
        ("p50", Side::Right),
        ("p95", Side::Right),
        ("p99", Side::Right),
        ("Nightly batch p50", Side::Right),
        ("Reduction", Side::Right),
    ];
    let mut table = Table::new(&heads);
    for (name, field) in [("all", "all"), ("made offline", "offline")] {
        let row = &latency[field];
        let (own, batch) = (&row["latency"], &row["batch"]);
        table.row([
            name.to_owned(),
            text(&own["count"]),
            span(&own["p50_ms"]),
            span(&own["p95_ms"]),
            span(&own["p99_ms"]),
            span(&batch["p50_ms"]),
            share(&row["reduction_ppm"]),
        ]);
    }
    let drain = &latency["drain_after_link_up"];
    let mut page = table.set();
    page.push_str(&format!(
        "queued when the link came up: {} records, at the hub p50 {}, p95 {}\n",
        text(&drain["count"]),
        span(&drain["p50_ms"]),
        span(&drain["p95_ms"]),
    ));
    let imported = latency["imported_records_left_out"].as_u64().unwrap_or(0);
    if imported > 0 {
        page.push_str(&format!("{imported} imported records are left out\n"));
    }
    let reconciled = &report["reconciliation"];
    page.push_str(&format!(
        "\nReconciliation: {} cells of Z reports compared, {} equal, {} explained by review, {} unexplained ({})\n",
        text(&reconciled["cells"]),
        text(&reconciled["equal"]),
        text(&reconciled["explained"]),
        text(&reconciled["unexplained"]),
        share(&reconciled["error_rate_ppm"]),
    ));
    let capture = &report["capture"];
    page.push_str(&format!(
        "\nCapture: {} of {} committed records are in the books ({}); {} under review ({})\n",
        text(&capture["captured"]),
        text(&capture["committed"]),
        share(&capture["success_rate_ppm"]),
        text(&capture["in_review"]),
        share(&capture["in_review_ppm"]),
    ));
    for within in capture["within_link"].as_array().into_iter().flatten() {
        page.push_str(&format!(
            "within {} of the link: {} of {} ({})\n",
            text(&within["within"]),
            text(&within["captured"]),
            text(&within["of"]),
            share(&within["share_ppm"]),
        ));
    }
    page
}

/// Millionths as a percentage with as many digits as are not zero.
fn share(ppm: &Value) -> String {
    let Some(ppm) = ppm.as_i64() else { return "–".to_owned() };
    let (sign, ppm) = if ppm < 0 { ("-", ppm.unsigned_abs()) } else { ("", ppm.unsigned_abs()) };
    let digits = format!("{:04}", ppm % 10_000);
    let digits = digits.trim_end_matches('0');
    if digits.is_empty() {
        format!("{sign}{} %", ppm / 10_000)
    } else {
        format!("{sign}{}.{digits} %", ppm / 10_000)
    }
}

/// Milliseconds in the unit that matters.
fn span(ms: &Value) -> String {
    let Some(ms) = ms.as_u64() else { return "–".to_owned() };
    match ms {
        0..10_000 => format!("{ms} ms"),
        _ => super::words::age(ms / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_kpis_stand_with_their_denominators() {
        let spread =
            |count: u64, p50: u64| json!({"count": count, "p50_ms": p50, "p95_ms": p50, "p99_ms": p50});
        let page = page(&json!({
            "data_latency": {
                "all": {"latency": spread(9, 3), "batch": spread(9, 36_000_000), "reduction_ppm": 999_999},
                "offline": {"latency": spread(0, 0), "batch": spread(0, 0), "reduction_ppm": null},
                "drain_after_link_up": spread(0, 0), "imported_records_left_out": 2},
            "reconciliation": {"cells": 4, "equal": 3, "explained": 1, "unexplained": 0, "error_rate_ppm": 0},
            "capture": {"committed": 10, "captured": 9, "success_rate_ppm": 900_000, "in_review": 1, "in_review_ppm": 111_111,
                "within_link": [{"within": "1m", "captured": 9, "of": 9, "share_ppm": 1_000_000}]}
        }));
        assert!(
            page.contains("all                 9  3 ms  3 ms  3 ms               10 h  99.9999 %"),
            "{page}"
        );
        assert!(
            page.contains(
                "4 cells of Z reports compared, 3 equal, 1 explained by review, 0 unexplained (0 %)"
            ),
            "{page}"
        );
        assert!(
            page.contains("9 of 10 committed records are in the books (90 %); 1 under review (11.1111 %)"),
            "{page}"
        );
        assert!(page.contains("within 1m of the link: 9 of 9 (100 %)"), "{page}");
    }
}
