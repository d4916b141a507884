//! Bar charts as SVG text: rows of bars from the left, each with its value written at its end. Lengths follow the
//! logarithm of the values, because limits and slow rows are a thousandfold apart. Integers only.

use std::fmt::Write;

/// A chart.
pub struct Chart {
    /// What is shown, with its unit.
    pub title: String,
    /// Names of the bars of a row, in their order; one name: no legend.
    pub series: Vec<&'static str>,
    /// The rows, from above.
    pub rows: Vec<Row>,
}

/// A row of a chart.
pub struct Row {
    /// What it is called.
    pub label: String,
    /// Its bars, in the order of the series; a row may have fewer.
    pub bars: Vec<Option<Bar>>,
}

/// A bar.
pub struct Bar {
    /// Its value.
    pub value: u64,
    /// The value as it is written.
    pub text: String,
}

const WIDTH: u64 = 960;
const LABEL_WIDTH: u64 = 440;
const VALUE_WIDTH: u64 = 90;
const LEGEND_WIDTH: u64 = 150;
const BAR_HEIGHT: u64 = 14;
const ROW_GAP: u64 = 8;
const HEAD_HEIGHT: u64 = 56;
const COLOURS: [&str; 3] = ["#2f6f9f", "#d08a2e", "#7a7a7a"];
const INK: &str = "#222222";

/// The chart as an SVG document.
#[must_use]
pub fn svg(chart: &Chart) -> String {
    let bars: usize = chart.rows.iter().map(|row| row.bars.len()).sum();
    let height = HEAD_HEIGHT + bars as u64 * BAR_HEIGHT + chart.rows.len() as u64 * ROW_GAP + ROW_GAP;
    let values: Vec<u64> =
        chart.rows.iter().flat_map(|row| row.bars.iter().flatten()).map(|bar| bar.value).collect();
    let low = values.iter().min().copied().unwrap_or(1);
    let high = values.iter().max().copied().unwrap_or(1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n"
    );
    rect(&mut svg, [0, 0, WIDTH, height], "#ffffff");
    let title = escaped(&chart.title);
    let _ = writeln!(svg, "<text x=\"12\" y=\"22\" font-size=\"15\" fill=\"{INK}\">{title}</text>");
    text(&mut svg, [12, 44], "start", "logarithmic scale");
    if chart.series.len() > 1 {
        for (at, name) in chart.series.iter().enumerate() {
            let x = LABEL_WIDTH + at as u64 * LEGEND_WIDTH;
            rect(&mut svg, [x, 34, 12, 12], COLOURS[at % COLOURS.len()]);
            text(&mut svg, [x + 17, 44], "start", name);
        }
    }
    let mut y = HEAD_HEIGHT;
    for row in &chart.rows {
        let middle = y + row.bars.len() as u64 * BAR_HEIGHT / 2 + 3;
        text(&mut svg, [LABEL_WIDTH - 8, middle], "end", &row.label);
        for (at, bar) in row.bars.iter().enumerate() {
            if let Some(bar) = bar {
                let length = length(bar.value, low, high);
                rect(&mut svg, [LABEL_WIDTH, y, length, BAR_HEIGHT - 2], COLOURS[at % COLOURS.len()]);
                text(&mut svg, [LABEL_WIDTH + length + 6, y + BAR_HEIGHT - 4], "start", &bar.text);
            }
            y += BAR_HEIGHT;
        }
        y += ROW_GAP;
    }
    svg.push_str("</svg>\n");
    svg
}

fn rect(svg: &mut String, [x, y, width, height]: [u64; 4], colour: &str) {
    let _ =
        writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{colour}\"/>");
}

fn text(svg: &mut String, [x, y]: [u64; 2], anchor: &str, text: &str) {
    let text = escaped(text);
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\" fill=\"{INK}\">{text}</text>");
}

/// Length of a bar: the smallest value has a tenth of the room, the largest all of it.
fn length(value: u64, low: u64, high: u64) -> u64 {
    let room = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
    let (from, to) = (binary_log_milli(low), binary_log_milli(high));
    let share = (binary_log_milli(value) - from) * 900 / (to - from).max(1) + 100;
    if low == high { room } else { room * share / 1_000 }
}

/// Binary logarithm in thousandths, linear between powers of two: close enough for the eye.
fn binary_log_milli(value: u64) -> u64 {
    let value = value.max(1);
    let whole = u64::from(value.ilog2());
    let part = (u128::from(value - (1 << whole)) * 1_000) >> whole;
    whole * 1_000 + u64::try_from(part).unwrap_or(999)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_has_all_the_room_and_the_smallest_a_tenth() {
        let room = WIDTH - LABEL_WIDTH - VALUE_WIDTH;
        assert_eq!((length(1_000, 10, 1_000), length(10, 10, 1_000)), (room, room / 10));
        assert_eq!(length(5, 5, 5), room);
        let lengths: Vec<u64> = (10..=1_000).map(|value| length(value, 10, 1_000)).collect();
        assert!(lengths.is_sorted());
    }

    #[test]
    fn every_value_is_written_and_signs_of_xml_are_escaped() {
        let bar = Bar { value: 3, text: "3 <s".to_owned() };
        let rows = vec![Row { label: "a & b".to_owned(), bars: vec![Some(bar), None] }];
        let svg = svg(&Chart { title: "t".to_owned(), series: vec!["p50", "p99"], rows });
        assert!(svg.contains("a &amp; b") && svg.contains("3 &lt;s"), "{svg}");
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
    }
}
