//! The timeline: a lane for each node over simulated time, days as columns. What falls into the same few pixels is drawn
//! as one, so that a hundred tills, or a week, stay small and readable.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::lanes::{self, Lane, Span};
use super::{count, escape, words};
use crate::run::{Outcome, Run};
use crate::scenario::Scenario;
use crate::trade::DAY_MS;
use crate::world::HUB;

/// Captures, syncs and depths that fall into so many pixels are drawn as one.
const BUCKET: i64 = 2;
/// Height of the axis above the lanes, and of the room below them.
const AXIS: i64 = 40;
/// Most lines in a title.
const TITLE_LINES: usize = 8;
/// The first day starts at this hour.
const FIRST_HOUR: i64 = 8;
const HOUR_MS: i64 = 3_600_000;

/// Faults that get a mark, the gravest first: names, its letter, its class, and what the legend says.
const MARKS: &[(&[&str], &str, &str, &str)] = &[
    (&["wipe", "rot", "rot-found"], "W", "loss", "device wiped or rotten"),
    (&["old-backup", "hub-backup"], "B", "loss", "restored from a backup"),
    (&["clone"], "2", "foe", "device cloned"),
    (&["revoke"], "R", "foe", "till revoked"),
    (&["lie"], "L", "foe", "liar with its key"),
    (&["crash", "torn-write", "restart"], "X", "power", "crash or restart"),
    (&["disk-hangs", "sync-fails", "disk-full"], "D", "power", "disk fails"),
    (&["clock-jump", "clock-1970", "drift"], "T", "clock", "clock wrong"),
    (&["slow"], "S", "clock", "slow"),
    (&["gossip"], "G", "calm", "tills talk directly"),
    (&["decide", "lock", "policy"], "A", "calm", "decision, lock, policy"),
];

/// How lanes are laid out.
struct Layout {
    width: i64,
    span_ms: i64,
    day_width: i64,
    lane: i64,
    most_waiting: u64,
    most_captures: u64,
    most_synced: u64,
}

impl Layout {
    fn x(&self, at_ms: i64) -> i64 {
        at_ms.clamp(0, self.span_ms) * self.width / self.span_ms.max(1)
    }

    fn is_compact(&self) -> bool {
        self.lane < 30
    }

    /// Top and bottom of what is drawn between the marks and the state line.
    fn room(&self) -> (i64, i64) {
        if self.is_compact() { (1, self.lane - 4) } else { (15, self.lane - 8) }
    }

    /// A height for a figure: by its root, so that a few stay visible beside many.
    fn height(&self, figure: u64, most: u64) -> i64 {
        let (top, bottom) = self.room();
        let root = |figure: u64| i64::try_from((figure * 10_000).isqrt()).unwrap_or(0);
        if figure == 0 { 0 } else { ((bottom - top) * root(figure) / root(most).max(1)).max(1) }
    }
}

/// Buckets: place → sum or greatest.
fn bucketed(
    layout: &Layout,
    points: impl Iterator<Item = (i64, u64)>,
    join: fn(u64, u64) -> u64,
) -> BTreeMap<i64, u64> {
    let mut buckets = BTreeMap::new();
    for (at_ms, figure) in points {
        let bucket = layout.x(at_ms) / BUCKET * BUCKET;
        buckets.entry(bucket).and_modify(|old| *old = join(*old, figure)).or_insert(figure);
    }
    buckets
}

fn captures(layout: &Layout, lane: &Lane) -> BTreeMap<i64, u64> {
    bucketed(layout, lane.captures.iter().map(|at| (*at, 1)), |old, new| old + new)
}

fn syncs(layout: &Layout, lane: &Lane) -> BTreeMap<i64, u64> {
    bucketed(layout, lane.syncs.iter().copied(), |old, new| old + new)
}

/// The section with the timeline and its legend.
pub(super) fn section(html: &mut String, scenario: &Scenario, outcome: &Outcome, run: &Run) {
    let moments = run.moments.as_deref().unwrap_or_default();
    let lanes = lanes::lanes(&scenario.till_names(), moments, outcome.simulated_ms);
    let days = i64::try_from(scenario.days).unwrap_or(1).max(1);
    let day_width = (1_140 / days).clamp(120, 760);
    let lane = match lanes.len() {
        0..=16 => 54,
        17..=40 => 24,
        _ => 15,
    };
    let span_ms = outcome.simulated_ms.max(1);
    let width = (span_ms * day_width / DAY_MS).max(1);
    let mut layout =
        Layout { width, span_ms, day_width, lane, most_waiting: 1, most_captures: 1, most_synced: 1 };
    let most = |figures: &mut dyn Iterator<Item = u64>| figures.max().unwrap_or(1).max(1);
    layout.most_waiting = most(&mut lanes.values().flat_map(|lane| lane.waiting.iter().map(|row| row.1)));
    layout.most_captures =
        most(&mut lanes.values().flat_map(|lane| captures(&layout, lane).into_values().collect::<Vec<_>>()));
    layout.most_synced =
        most(&mut lanes.get(HUB).into_iter().flat_map(|lane| syncs(&layout, lane).into_values()));
    let _ = write!(
        html,
        "<section>\n<h2>Timeline</h2>\n<p class=\"sub\">True simulated time from left to right, the first day from \
         08:00. The most that ever waited at a till: {}. Heights go by the root, so that one stays visible beside a \
         hundred. Point at a mark to read what it is.</p>\n",
        count(layout.most_waiting, "record", "records")
    );
    if run.moments.is_none() {
        html.push_str("<p class=\"sub\">Nobody watched this run: the lanes are empty.</p>\n");
    }
    legend(html);
    let mut names: Vec<&String> = lanes.keys().filter(|name| *name != HUB).collect();
    // By number, so that the hundredth stands last.
    names.sort_by_key(|name| (number_in(name), *name));
    let hub = HUB.to_owned();
    names.insert(0, &hub);
    draw(html, &layout, &names, &lanes);
    html.push_str("</section>\n");
}

/// The number of a till; a copy has that of its till.
fn number_in(name: &str) -> u64 {
    let digits = name.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit);
    digits.collect::<String>().parse().unwrap_or(0)
}

fn draw(html: &mut String, layout: &Layout, names: &[&String], lanes: &BTreeMap<String, Lane>) {
    let rows = i64::try_from(names.len()).unwrap_or(0);
    let height = 2 * AXIS + rows * layout.lane;
    let class = if layout.is_compact() { "timeline compact" } else { "timeline" };
    let _ = write!(
        html,
        "<div class=\"{class}\" tabindex=\"0\" role=\"region\" aria-label=\"Timeline, scrolls sideways\">\n\
         <svg class=\"names\" width=\"92\" height=\"{height}\" aria-hidden=\"true\">\n"
    );
    for (row, name) in (0..).zip(names) {
        let y = AXIS + row * layout.lane + layout.lane / 2 + 4;
        let _ = writeln!(html, "<text x=\"84\" y=\"{y}\" text-anchor=\"end\">{}</text>", escape(name));
    }
    let _ = write!(
        html,
        "</svg>\n<svg class=\"lanes\" width=\"{w}\" height=\"{height}\" viewBox=\"0 0 {w} {height}\" role=\"img\" \
         aria-label=\"Lanes of {rows} nodes\">\n<defs><pattern id=\"hatch\" width=\"6\" height=\"6\" \
         patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"6\" height=\"6\" \
         class=\"hatch0\"/><rect width=\"2\" height=\"6\" class=\"hatch1\"/></pattern></defs>\n",
        w = layout.width + 12
    );
    grid(html, layout, height);
    for (row, name) in (0..).zip(names) {
        let Some(lane) = lanes.get(*name) else { continue };
        let y = AXIS + row * layout.lane;
        let _ = writeln!(
            html,
            "<g class=\"lane\" data-node=\"{}\" transform=\"translate(0 {y})\">",
            escape(name)
        );
        draw_lane(html, layout, lane, name.as_str() == HUB);
        html.push_str("</g>\n");
    }
    html.push_str("</svg>\n</div>\n");
}

/// Days and hours, above and below the lanes.
fn grid(html: &mut String, layout: &Layout, height: i64) {
    let every = match layout.day_width {
        500.. => 3,
        250.. => 6,
        _ => 12,
    };
    let last_hour = layout.span_ms / HOUR_MS;
    for hour in 0..=last_hour {
        let clock = (hour + FIRST_HOUR) % 24;
        let x = layout.x(hour * HOUR_MS);
        let (top, bottom) = (AXIS, height - AXIS);
        if clock == 0 {
            let _ = writeln!(html, "<path class=\"day\" d=\"M{x} 4V{}\"/>", height - 4);
        } else if clock % every == 0 {
            let _ = writeln!(html, "<path class=\"hour\" d=\"M{x} {top}V{bottom}\"/>");
        }
        if clock % every == 0 && x + 14 < layout.width && x > 12 {
            for y in [AXIS - 8, height - AXIS + 16] {
                let _ =
                    writeln!(html, "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\">{clock:02}:00</text>");
            }
        }
        if clock == 0 || hour == 0 {
            let day = (hour + FIRST_HOUR) / 24 + 1;
            // The last column is only named where its name has room.
            if layout.width - x > 40 {
                for y in [14, height - 6] {
                    let _ =
                        writeln!(html, "<text class=\"dayname\" x=\"{}\" y=\"{y}\">Day {day}</text>", x + 5);
                }
            }
        }
    }
}

fn spans(html: &mut String, layout: &Layout, spans: &[Span], class: &str, y: i64, height: i64) {
    let mut path = String::new();
    let mut last = i64::MIN;
    for (from, to) in spans {
        let from_x = layout.x(*from);
        let to_x = layout.x(*to).max(from_x + 1);
        if to_x <= last {
            continue;
        }
        let from_x = from_x.max(last);
        let _ = write!(path, "M{from_x} {y}H{to_x}v{height}H{from_x}z");
        last = to_x;
    }
    if !path.is_empty() {
        let _ = writeln!(html, "<path class=\"{class}\" d=\"{path}\"/>");
    }
}

fn bars(html: &mut String, layout: &Layout, buckets: &BTreeMap<i64, u64>, most: u64, class: &str, up: bool) {
    let (top, bottom) = layout.room();
    let mut path = String::new();
    for (x, figure) in buckets {
        let height = layout.height(*figure, most);
        if up {
            let _ = write!(path, "M{} {bottom}v-{height}", x + 1);
        } else {
            let _ = write!(path, "M{} {top}v{}", x + 1, (height / 2).max(2));
        }
    }
    if !path.is_empty() {
        let _ = writeln!(html, "<path class=\"{class}\" d=\"{path}\"/>");
    }
}

fn draw_lane(html: &mut String, layout: &Layout, lane: &Lane, hub: bool) {
    let (_, bottom) = layout.room();
    let (line, thick) = if layout.is_compact() { (layout.lane - 4, 3) } else { (layout.lane - 8, 5) };
    let _ = writeln!(html, "<path class=\"rule\" d=\"M0 {}H{}\"/>", layout.lane, layout.width);
    spans(html, layout, &lane.blocked, "blocked", 0, layout.lane);
    let whole = [(0, layout.span_ms)];
    if hub {
        spans(html, layout, &whole, "online", line, thick);
        bars(html, layout, &syncs(layout, lane), layout.most_synced, "synced", true);
    } else {
        spans(html, layout, &whole, "offline", line, thick);
        spans(html, layout, &lane.linked, "online", line, thick);
        area(html, layout, lane, bottom);
        bars(html, layout, &captures(layout, lane), layout.most_captures, "captured", false);
        let mut path = String::new();
        for x in syncs(layout, lane).keys() {
            let _ = write!(path, "M{x} {}h{BUCKET}", line + thick / 2);
        }
        if !path.is_empty() {
            let _ = writeln!(html, "<path class=\"sync\" d=\"{path}\"/>");
        }
    }
    spans(html, layout, &lane.down, "down", line - 1, thick + 2);
    marks(html, layout, lane);
}

/// Queue depth as steps.
fn area(html: &mut String, layout: &Layout, lane: &Lane, bottom: i64) {
    let depths = bucketed(layout, lane.waiting.iter().copied(), u64::max);
    // The last of a bucket is what stays.
    let stays = bucketed(layout, lane.waiting.iter().copied(), |_, new| new);
    let mut path = format!("M0 {bottom}");
    let mut level = 0;
    for (x, depth) in &depths {
        let height = layout.height(*depth, layout.most_waiting);
        let after = layout.height(stays[x], layout.most_waiting);
        if height == level && after == level {
            continue;
        }
        let _ = write!(path, "H{x}V{}H{}V{}", bottom - height, x + BUCKET, bottom - after);
        level = after;
    }
    if path.len() > 10 {
        let _ = writeln!(html, "<path class=\"waiting\" d=\"{path}H{}V{bottom}z\"/>", layout.width);
    }
}

/// A title of several lines, cut.
fn title(lines: &[String]) -> String {
    let mut text = lines.iter().take(TITLE_LINES).cloned().collect::<Vec<_>>().join("\n");
    if lines.len() > TITLE_LINES {
        let _ = write!(text, "\nand {} more", lines.len() - TITLE_LINES);
    }
    // Line ends are kept: they are what a title breaks at.
    text.split('\n').map(escape).collect::<Vec<_>>().join("\n")
}

/// When, as day and time of day.
fn when(at_ms: i64) -> String {
    let minutes = at_ms / 60_000 + FIRST_HOUR * 60;
    format!("day {} {:02}:{:02}", minutes / 1_440 + 1, minutes / 60 % 24, minutes % 60)
}

/// Cases as dots and faults as lettered marks; several in one place are one with a longer title.
fn marks(html: &mut String, layout: &Layout, lane: &Lane) {
    let (size, dot) = if layout.is_compact() { (10, 3) } else { (13, 4) };
    let mut faults: BTreeMap<i64, (usize, Vec<String>)> = BTreeMap::new();
    for (at_ms, name, text) in &lane.faults {
        let grade = MARKS.iter().position(|mark| mark.0.contains(&name.as_str())).unwrap_or(MARKS.len() - 1);
        let place = layout.x(*at_ms) / (size + 1) * (size + 1);
        let entry = faults.entry(place).or_insert((grade, Vec::new()));
        entry.0 = entry.0.min(grade);
        let told = if text.is_empty() { String::new() } else { format!(", {text}") };
        entry.1.push(format!("{}: {}{told}", when(*at_ms), words::fault(name)));
    }
    let mut cases: BTreeMap<i64, (u64, Vec<String>)> = BTreeMap::new();
    for (at_ms, severity, text) in &lane.cases {
        let place = layout.x(*at_ms) / (2 * dot + 1) * (2 * dot + 1);
        let entry = cases.entry(place).or_insert((*severity, Vec::new()));
        entry.0 = entry.0.min(*severity);
        entry.1.push(format!("{}: {text}", when(*at_ms)));
    }
    let y = if layout.is_compact() { 6 } else { 25 };
    for (x, (severity, lines)) in &cases {
        let _ = writeln!(
            html,
            "<circle class=\"s{severity}\" cx=\"{}\" cy=\"{y}\" r=\"{dot}\"><title>{}</title></circle>",
            x + dot,
            title(lines)
        );
    }
    for (x, (grade, lines)) in &faults {
        let (_, letter, class, _) = MARKS[*grade];
        let _ = writeln!(
            html,
            "<g class=\"mark {class}\" transform=\"translate({x} 1)\"><title>{}</title><rect width=\"{size}\" \
             height=\"{size}\" rx=\"3\"/><text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{letter}</text></g>",
            title(lines),
            (size + 1) / 2,
            if layout.is_compact() { 8 } else { 10 }
        );
    }
}

fn legend(html: &mut String) {
    html.push_str("<ul class=\"legend\">\n");
    for (class, text) in [
        ("online", "linked to the hub"),
        ("offline", "no link"),
        ("down", "down"),
        ("blocked", "partition"),
        ("waiting", "records waiting"),
        ("captured", "captures"),
        ("synced", "records taken in (hub)"),
    ] {
        let _ = writeln!(html, "<li><i class=\"key {class}\"></i>{text}</li>");
    }
    html.push_str("<li><i class=\"key syncdot\"></i>sync</li>\n");
    for (severity, text) in [(1, "case, same day"), (2, "case, before the lock"), (3, "case, information")] {
        let _ = writeln!(html, "<li><i class=\"key dot s{severity}\"></i>{text}</li>");
    }
    for (_, letter, class, text) in MARKS {
        let _ = writeln!(html, "<li><i class=\"key letter {class}\">{letter}</i>{text}</li>");
    }
    html.push_str("</ul>\n");
}
