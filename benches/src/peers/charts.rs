//! Which charts are drawn of the results.

use super::results::{Figure, Results, bytes};
use crate::bars::{Bar, Chart, Row};
use crate::table::{micros, thousands};

impl Results {
    /// File names and charts, as far as something was measured for them.
    #[must_use]
    pub fn charts(&self) -> Vec<(String, Chart)> {
        let mut charts = Vec::new();
        for tills in self.tills() {
            let drain = [Figure::Drain(tills), Figure::DrainBooks(tills)];
            let series = vec!["acknowledged", "in the books"];
            let title = format!("Drain, transactions a second, tills: {tills}");
            charts.push((format!("drain-{tills}.svg"), self.chart(title, series, &drain, thousands)));
            let title = format!("Drain, bytes on the wire for each transaction, tills: {tills}");
            let wire = self.chart(title, vec!["wire"], &[Figure::DrainWire(tills)], bytes);
            charts.push((format!("wire-{tills}.svg"), wire));
        }
        let title = "Drain of the last tenth, bytes on the wire for each transaction".to_owned();
        let again = self.chart(title, vec!["wire"], &[Figure::AgainWire], bytes);
        charts.push(("wire-again.svg".to_owned(), again));
        let title = "One at a time until acknowledged, µs".to_owned();
        let live = self.chart(title, vec!["p50", "p99"], &[Figure::LiveP50, Figure::LiveP99], micros);
        charts.push(("live.svg".to_owned(), live));
        charts.retain(|(_, chart)| !chart.rows.is_empty());
        charts
    }

    /// Medians, in the order of the tables.
    fn chart(
        &self,
        title: String,
        series: Vec<&'static str>,
        figures: &[Figure],
        form: fn(u64) -> String,
    ) -> Chart {
        let mut rows = Vec::new();
        for name in self.names() {
            let median = |figure: &Figure| {
                self.of(name, *figure).map(|[median, ..]| Bar { value: median, text: form(median) })
            };
            let mut bars: Vec<_> = figures.iter().map(median).collect();
            // No empty bar where a contender has nothing more to show.
            while bars.last().is_some_and(Option::is_none) {
                bars.pop();
            }
            if !bars.is_empty() {
                rows.push(Row { label: name.to_owned(), bars });
            }
        }
        Chart { title, series, rows }
    }
}
