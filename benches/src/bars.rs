//! Bar charts as SVG text: one bar for each row, from the left, longest first as the caller sorts them, with the value
//! written at its end. Integers only. A scale may be logarithmic by halves of a decade, because limits and slow rows
//! are a thousandfold apart.

use std::fmt::Write;

/// A chart.
pub struct Chart {
    /// What is shown, with its unit.
    pub title: String,
    /// Names of the bars of a row, in the order of their values; one name: no legend.
    pub series: Vec<&'static str>,
    /// Rows: a label, and a value for each series, with its text.
    pub rows: Vec<(String, Vec<Option<(u64, String)>>)>,
}

const WIDTH: u64 = 960;
const LABEL_WIDTH: u64 = 430;
const VALUE_WIDTH: u64 = 90;
const BAR_HEIGHT: u64 = 14;
const ROW_GAP: u64 = 8;
const HEAD_HEIGHT: u64 = 56;
const COLOURS: [&str; 3] = ["#2f6f9f", "#d08a2e", "#7a7a7a"];

/// The chart as an SVG document; lengths are in proportion to the logarithm of values.
#[must_use]
pub fn svg(chart: &Chart) -> String {
    let bars = chart.rows.iter().map(|(_, values)| values.len() as u64).sum::<u64>();
    let height = HEAD_HEIGHT + bars * BAR_HEIGHT + chart.rows.len() as u64 * ROW_GAP + ROW_GAP;
    let values =
        || chart.rows.iter().flat_map(|(_, values)| values.iter().flatten().map(|(value, _)| *value));
    let (low, high) = (values().min().unwrap_or(1), values().max().unwrap_or(1));
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#ffffff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"15\" fill=\"#222222\">{}</text>\n",
        escaped(&chart.title)
    );
    if chart.series.len() > 1 {
        for (at, name) in chart.series.iter().enumerate() {
            let x = LABEL_WIDTH + at as u64 * 150;
            let colour = COLOURS[at % COLOURS.len()];
            let _ = writeln!(
                text,
                "<rect x=\"{x}\" y=\"34\" width=\"12\" height=\"12\" fill=\"{colour}\"/><text x=\"{}\" y=\"44\" fill=\"#222222\">{}</text>",
                x + 17,
                escaped(name)
            );
        }
    }
    let _ = writeln!(text, "<text x=\"12\" y=\"44\" fill=\"#777777\">logarithmic scale</text>");
    let mut y = HEAD_HEIGHT;
    for (label, values) in &chart.rows {
        let _ = writeln!(
            text,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\" fill=\"#222222\">{}</text>",
            LABEL_WIDTH - 8,
            y + values.len() as u64 * BAR_HEIGHT / 2 + 4,
            escaped(label)
        );
        for (at, value) in values.iter().enumerate() {
            if let Some((value, written)) = value {
                let length = length(*value, low, high);
                let colour = COLOURS[at % COLOURS.len()];
                let _ = writeln!(
                    text,
                    "<rect x=\"{LABEL_WIDTH}\" y=\"{y}\" width=\"{length}\" height=\"{}\" fill=\"{colour}\"/><text x=\"{}\" y=\"{}\" fill=\"#222222\">{}</text>",
                    BAR_HEIGHT - 2,
                    LABEL_WIDTH + length + 6,
                    y + BAR_HEIGHT - 4,
                    escaped(written)
                );
            }
            y += BAR_HEIGHT;
        }
        y += ROW_GAP;
    }
    text.push_str("</svg>\n");
    text
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
    let part = u128::from(value - (1 << whole)) * 1_000 >> whole;
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
        let rows = vec![("a & b".to_owned(), vec![Some((3, "3 <s".to_owned())), None])];
        let text = svg(&Chart { title: "t".to_owned(), series: vec!["p50", "p99"], rows });
        assert!(text.contains("a &amp; b") && text.contains("3 &lt;s"), "{text}");
        assert_eq!(text.matches("<svg").count(), text.matches("</svg>").count());
    }
}
