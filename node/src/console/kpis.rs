//! The three KPIs on the first page, over the last business days. Every record of them is read, which takes its time in a
//! large company: beside the pages, every few seconds, and never for more than a small part of the time; a page shows the
//! last reckoning.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use maud::{Markup, html};
use serde_json::Value;

use super::layout::{Tone, figure};
use super::show;
use crate::api::kpi;
use crate::hub::Hub;

/// A reckoning is taken anew after so long,
const FRESH: Duration = Duration::from_secs(10);
/// and not before it is so many times as old as it took.
const REST: u32 = 50;
/// A page waits so long for the first one.
const PATIENCE: Duration = Duration::from_millis(80);
/// Business days that are measured, the open one included.
const DAYS: i32 = 30;
const PLOT: (f64, f64) = (240.0, 60.0);

#[derive(Default)]
struct Last {
    report: Option<Arc<Value>>,
    at: Option<Instant>,
    took: Duration,
    under_way: bool,
}

impl Last {
    /// Whether it is time to reckon anew.
    fn is_due(&self) -> bool {
        self.at.is_none_or(|at| at.elapsed() > FRESH.max(self.took * REST))
    }
}

/// The last reckoning.
#[derive(Clone, Default)]
pub struct Kpis {
    last: Arc<Mutex<Last>>,
}

impl Kpis {
    /// The last reckoning, however old.
    pub fn last(&self) -> Option<Arc<Value>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).report.clone()
    }

    /// The last reckoning; starts a new one if it is old, and waits for it a moment if the page `may_wait`.
    pub async fn report(&self, hub: &Arc<Hub>, may_wait: bool) -> Option<Arc<Value>> {
        let start = {
            let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
            let start = last.is_due() && !last.under_way;
            last.under_way |= start;
            start
        };
        if start {
            let (kpis, hub) = (self.clone(), Arc::clone(hub));
            let reckoning = tokio::spawn(async move {
                let begun = Instant::now();
                let since = hub.clock().now().day().plus(1 - DAYS);
                let report = kpi::report(&hub, &kpi::Part::since(since)).await.ok().map(Arc::new);
                let mut last = kpis.last.lock().unwrap_or_else(PoisonError::into_inner);
                last.report = report.or(last.report.take());
                (last.at, last.took) = (Some(Instant::now()), begun.elapsed());
                last.under_way = false;
            });
            if may_wait {
                let _ = tokio::time::timeout(PATIENCE, reckoning).await;
            }
        }
        self.last()
    }
}

/// The KPIs as figures with their history.
pub fn panel(report: Option<&Value>) -> Markup {
    let Some(report) = report else {
        return html! { p.nothing { "The measures are being reckoned; they will be here in a moment." } };
    };
    let days: Vec<&Value> = report["by_day"].as_array().into_iter().flatten().collect();
    let history = |field: &str| days.iter().filter_map(|day| day[field].as_i64()).collect::<Vec<_>>();
    html! {
        div.figures {
            (latency(report, &history("p50_ms")))
            (reconciliation(report, &history("error_rate_ppm")))
            (capture(report, &history("records")))
        }
    }
}

fn latency(report: &Value, history: &[i64]) -> Markup {
    let all = &report["data_latency"]["all"];
    let count = all["latency"]["count"].as_u64().unwrap_or(0);
    let middle = all["latency"]["p50_ms"].as_i64().unwrap_or(0);
    let value = if count == 0 { "–".to_owned() } else { show::brief(middle) };
    let below = html! {
        @if let Some(less) = all["reduction_ppm"].as_i64() {
            // What took any time at all was not sooner by the whole.
            (show::percent(if middle > 0 { less.min(999_999) } else { less })) " sooner than a nightly batch; "
        }
        "95 in 100 within " (show::brief(all["latency"]["p95_ms"].as_i64().unwrap_or(0)))
        ", over " (show::count(count, "receipt", "receipts")) " of the last " (DAYS) " days"
        (plot(history, "Median time to the books, by day", &|ms| show::brief(ms)))
    };
    figure(
        "From the till to the books (median)",
        &value,
        &below,
        if count == 0 { Tone::Calm } else { Tone::Good },
    )
}

fn reconciliation(report: &Value, history: &[i64]) -> Markup {
    let of = |field: &str| report["reconciliation"][field].as_u64().unwrap_or(0);
    let (cells, wrong) = (of("cells"), of("unexplained"));
    let value = match report["reconciliation"]["error_rate_ppm"].as_i64() {
        Some(ppm) => show::percent(ppm),
        None => "–".to_owned(),
    };
    let below = html! {
        @if cells == 0 { "No till has closed a day yet." } @else {
        (show::count(wrong, "figure", "figures")) " of " (show::number(cells)) " in the tills' Z reports differ from the books without a reason; "
        (show::number(of("explained"))) " differ by receipts under review"
        }
        (plot(history, "Reconciliation errors, by day", &|ppm| show::percent(ppm)))
    };
    let tone = if wrong > 0 {
        Tone::Bad
    } else if cells == 0 {
        Tone::Calm
    } else {
        Tone::Good
    };
    figure("Reconciliation errors", &value, &below, tone)
}

fn capture(report: &Value, history: &[i64]) -> Markup {
    let of = |field: &str| report["capture"][field].as_u64().unwrap_or(0);
    let (committed, captured) = (of("committed"), of("captured"));
    let value = match report["capture"]["success_rate_ppm"].as_i64() {
        Some(ppm) => show::percent(ppm),
        None => "–".to_owned(),
    };
    let below = html! {
        (show::number(captured)) " of " (show::count(committed, "receipt", "receipts")) " that tills are known to have made are here; "
        (show::number(of("in_review"))) " under review"
        (plot(history, "Receipts, by day", &|count| show::number(u64::try_from(count).unwrap_or(0))))
    };
    let tone = if captured < committed {
        Tone::Warn
    } else if committed == 0 {
        Tone::Calm
    } else {
        Tone::Good
    };
    figure("Receipts captured", &value, &below, tone)
}

/// A line over days, with its range in words for who does not see it.
#[allow(
    clippy::float_arithmetic,
    clippy::cast_precision_loss,
    reason = "positions on a drawing, not amounts"
)]
fn plot(values: &[i64], name: &str, say: &dyn Fn(i64) -> String) -> Markup {
    let (Some(low), Some(high)) = (values.iter().min(), values.iter().max()) else { return html! {} };
    if values.len() < 2 {
        return html! {};
    }
    let top = (*high).max(1) as f64;
    let x = |at: usize| at as f64 * PLOT.0 / (values.len() - 1) as f64;
    let y = |value: i64| PLOT.1 - 4.0 - value as f64 / top * (PLOT.1 - 10.0);
    let points: Vec<String> =
        values.iter().enumerate().map(|(at, value)| format!("{:.1} {:.1}", x(at), y(*value))).collect();
    let line = format!("M{}", points.join("L"));
    let area = format!("{line}L{} {} L0 {}Z", PLOT.0, PLOT.1, PLOT.1);
    let words = format!("{name}: {} to {} over {} days", say(*low), say(*high), values.len());
    html! {
        svg.plot viewBox={ "0 0 " (PLOT.0) " " (PLOT.1) } preserveAspectRatio="none" role="img" aria-label=(words) {
            path.area d=(area) {}
            path.line d=(line) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reckoning_that_takes_long_is_taken_rarely() {
        let last = |ago: u64, took: u64| Last {
            at: Instant::now().checked_sub(Duration::from_secs(ago)),
            took: Duration::from_millis(took),
            ..Last::default()
        };
        assert!(Last::default().is_due() && last(11, 5).is_due() && last(110, 2_000).is_due());
        assert!(!last(5, 5).is_due() && !last(90, 2_000).is_due());
    }
}
