//! Line plots as plain SVG text: sizes to the right and what they cost upwards, both by powers of ten, so that what is flat
//! is a level line and what is proportional rises by one square. No library, no floats.

use std::path::Path;

use super::sheet::{Row, Sheet};
use crate::Outcome;
use crate::table::thousands;

const WIDTH: u64 = 720;
const HEIGHT: u64 = 360;
const LEFT: u64 = 90;
const TOP: u64 = 40;
const BELOW: u64 = 44;
/// Room for one name below the plot.
const NAME: u64 = 20;
/// Colours that most people tell apart, in print too.
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#555555"];

/// Writes a plot of every family that has more than one size: `DIR/<family>.svg`.
///
/// # Errors
/// The disk refuses.
pub fn write(dir: &Path, sheet: &Sheet, what: &str) -> Outcome<()> {
    std::fs::create_dir_all(dir)?;
    for family in sheet.families() {
        let rows: Vec<&Row> = sheet.rows.iter().filter(|row| row.family == family).collect();
        if rows.iter().any(|row| row.medians().len() > 1) {
            std::fs::write(dir.join(format!("{family}.svg")), plot(family, &rows, what))?;
        }
    }
    Ok(())
}

/// log10 of a number in thousandths, 0 for nothing.
fn log(number: u64) -> u64 {
    if number < 2 {
        return 0;
    }
    // log2 bit by bit: squaring what is left over doubles its logarithm.
    let whole = u64::from(number.ilog2());
    let mut rest = (u128::from(number) << 32) >> whole;
    let mut log2 = whole << 16;
    for bit in (0..16).rev() {
        rest = (rest * rest) >> 32;
        if rest >= 2 << 32 {
            rest >>= 1;
            log2 |= 1 << bit;
        }
    }
    // log10(2) = 0.30103; half of a thousandth is rounded up.
    (log2 * 30_103 + (50 << 16)) / (100 << 16)
}

/// Where things lie: whole powers of ten, in thousandths.
struct Scale {
    from: u64,
    to: u64,
}

impl Scale {
    fn over(numbers: impl Iterator<Item = u64>) -> Self {
        let logs: Vec<u64> = numbers.map(log).collect();
        let from = logs.iter().min().copied().unwrap_or(0) / 1_000 * 1_000;
        let to = logs.iter().max().copied().unwrap_or(0).div_ceil(1_000) * 1_000;
        Self { from, to: to.max(from + 1_000) }
    }

    /// How far along `length` a number lies.
    fn place(&self, number: u64, length: u64) -> u64 {
        (log(number).max(self.from) - self.from) * length / (self.to - self.from)
    }

    fn powers(&self) -> impl Iterator<Item = u64> {
        (self.from / 1_000..=self.to / 1_000).map(|power| 10_u64.pow(u32::try_from(power).unwrap_or(0)))
    }
}

fn plot(family: &str, rows: &[&Row], what: &str) -> String {
    let points = || rows.iter().flat_map(|row| row.medians());
    let across = Scale::over(points().map(|(size, _)| size as u64));
    let up = Scale::over(points().map(|(_, value)| value));
    let (right, bottom) = (WIDTH - 30, HEIGHT);
    let x = |size: u64| LEFT + across.place(size, right - LEFT);
    let y = |value: u64| bottom - up.place(value, bottom - TOP);
    let height = HEIGHT + BELOW + NAME * (rows.len() as u64 + 1);
    let unit = rows.first().map(|row| row.unit);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{family}, {}, over {what}</text>\n",
        unit.map_or("", super::sheet::Unit::name),
    );
    for value in up.powers() {
        let (at, name) = (y(value), unit.map_or_else(String::new, |unit| unit.form(value)));
        svg.push_str(&format!("<path d=\"M{LEFT} {at}H{right}\" stroke=\"#ddd\"/><text x=\"{}\" y=\"{}\" text-anchor=\"end\">{name}</text>\n", LEFT - 8, at + 4));
    }
    for size in across.powers() {
        let (at, name) = (x(size), thousands(size));
        svg.push_str(&format!("<path d=\"M{at} {TOP}V{bottom}\" stroke=\"#ddd\"/><text x=\"{at}\" y=\"{}\" text-anchor=\"middle\">{name}</text>\n", bottom + 18));
    }
    for ((row, colour), at) in rows.iter().zip(COLOURS.iter().cycle()).zip(0_u64..) {
        let medians = row.medians();
        let corners: Vec<String> =
            medians.iter().map(|(size, value)| format!("{},{}", x(*size as u64), y(*value))).collect();
        svg.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
            corners.join(" ")
        ));
        for (size, value) in &medians {
            svg.push_str(&format!(
                "<circle cx=\"{}\" cy=\"{}\" r=\"3\" fill=\"{colour}\"/>\n",
                x(*size as u64),
                y(*value)
            ));
        }
        let below = HEIGHT + BELOW + NAME * at;
        let name = format!("{}: {}", row.name, row.verdict());
        svg.push_str(&format!("<rect x=\"{LEFT}\" y=\"{}\" width=\"14\" height=\"4\" fill=\"{colour}\"/><text x=\"{}\" y=\"{below}\">{}</text>\n", below - 6, LEFT + 22, escaped(&name)));
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scale::sheet::{Reading, Unit};

    #[test]
    fn logarithms_are_right_to_a_thousandth() {
        let cases =
            [(0, 0), (1, 0), (2, 301), (10, 1_000), (1_000, 3_000), (2_000, 3_301), (1_000_000, 6_000)];
        for (number, wanted) in cases {
            assert!(log(number).abs_diff(wanted) <= 1, "{number}: {} and not {wanted}", log(number));
        }
    }

    #[test]
    fn what_is_flat_is_a_level_line() {
        let mut sheet = Sheet::default();
        for size in [10, 100] {
            sheet.add(size, vec![Reading { family: "f", row: "r", unit: Unit::Bytes, value: 50 }]);
        }
        let svg = plot("f", &sheet.rows.iter().collect::<Vec<_>>(), "things");
        assert!(
            svg.contains("points=\"90,137 690,137\"") || svg.contains("points=\"90,136 690,136\""),
            "{svg}"
        );
    }
}
