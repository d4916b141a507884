//! Distributions: how long records took to the hub, how soon after the link came back, and cases by type and state.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use engine::kpi::Spread;
use engine::review::CaseState;

use super::{escape, grouped, words};
use crate::run::CONVERGENCE_MS;
use crate::run::{Outcome, Run};

/// Upper ends of the bars, ms, and what stands beside them.
const BINS: &[(i64, &str)] = &[
    (300, "\u{2264} 0.3 s"),
    (1_000, "\u{2264} 1 s"),
    (3_000, "\u{2264} 3 s"),
    (10_000, "\u{2264} 10 s"),
    (30_000, "\u{2264} 30 s"),
    (120_000, "\u{2264} 2 min"),
    (600_000, "\u{2264} 10 min"),
    (3_600_000, "\u{2264} 1 h"),
    (14_400_000, "\u{2264} 4 h"),
    (86_400_000, "\u{2264} 1 day"),
    (i64::MAX, "longer"),
];

/// The section with the plots.
pub(super) fn section(html: &mut String, outcome: &Outcome, run: &Run) {
    html.push_str("<section>\n<h2>How long it took</h2>\n<div class=\"cards\">\n");
    let (mut all, mut offline, mut drained) = (Vec::new(), Vec::new(), Vec::new());
    let mut ups: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    for moment in run.moments.iter().flatten().filter(|moment| moment.what == "link-up") {
        ups.entry(&moment.node).or_default().push(moment.at_ms);
    }
    for way in run.world.watch.iter().flat_map(|watch| watch.ways.values()) {
        let Some(arrived_ms) = way.arrived_ms else { continue };
        let took_ms = (arrived_ms - way.committed_ms).max(0);
        all.push(took_ms);
        if way.offline {
            offline.push(took_ms);
            let ups = ups.get(way.till.as_str()).map_or(&[][..], Vec::as_slice);
            let before = ups.partition_point(|up| *up <= arrived_ms);
            if let Some(up) = before.checked_sub(1).and_then(|at| ups.get(at)) {
                drained.push((arrived_ms - *up.max(&way.committed_ms)).max(0));
            }
        }
    }
    histogram(html, "From the till to the hub", "every record, from the cashier's receipt on", all, "a");
    histogram(html, "Captured offline", "the same, of records captured without a link", offline, "b");
    histogram(html, "Once the link was back", "how long a record that had waited still took", drained, "c");
    let _ = writeln!(
        html,
        "<article class=\"card figure\"><h3>After mending</h3><p class=\"big\">{}</p><p class=\"sub\">until nothing \
         waited anywhere and every node held the same, looked at every 15 s; {} are allowed.</p></article>",
        words::duration(outcome.converged_ms),
        words::duration(CONVERGENCE_MS)
    );
    html.push_str("</div>\n</section>\n");
    cases(html, run);
}

fn histogram(html: &mut String, name: &str, about: &str, durations: Vec<i64>, class: &str) {
    let mut bins = vec![0u64; BINS.len()];
    for ms in &durations {
        bins[BINS.partition_point(|bin| bin.0 < *ms)] += 1;
    }
    let spread = Spread::of(durations);
    let _ = writeln!(html, "<article class=\"card\"><h3>{name}</h3><p class=\"sub\">{about}</p>");
    if spread.count == 0 {
        html.push_str("<p class=\"none\">There were none.</p></article>\n");
        return;
    }
    let _ = writeln!(
        html,
        "<p class=\"quantiles\"><span>half <b>{}</b></span><span>95 % <b>{}</b></span><span>99 % <b>{}</b></span>\
         <span>all <b>{}</b></span></p>",
        words::duration(spread.p50_ms),
        words::duration(spread.p95_ms),
        words::duration(spread.p99_ms),
        words::duration(spread.max_ms)
    );
    let most = bins.iter().copied().max().unwrap_or(1).max(1);
    let _ = writeln!(
        html,
        "<svg class=\"plot\" viewBox=\"0 0 320 {}\" role=\"img\" aria-label=\"{name}\">",
        BINS.len() * 18 + 2
    );
    for (row, ((_, label), figure)) in BINS.iter().zip(&bins).enumerate() {
        let y = row * 18;
        let wide = figure * 190 / most;
        let wide = if *figure > 0 { wide.max(2) } else { 0 };
        let _ = writeln!(
            html,
            "<text x=\"62\" y=\"{t}\" text-anchor=\"end\">{label}</text><path class=\"track\" d=\"M70 {}h190\"/>\
             <rect class=\"bar {class}\" x=\"70\" y=\"{}\" width=\"{wide}\" height=\"12\" rx=\"2\"/>\
             <text class=\"value\" x=\"{}\" y=\"{t}\">{}</text>",
            y + 15,
            y + 3,
            76 + wide,
            if *figure > 0 { grouped(*figure) } else { String::new() },
            t = y + 13,
        );
    }
    let _ = writeln!(html, "</svg><p class=\"sub\">{} records</p></article>", grouped(spread.count));
}

/// Cases by type and state, as bars.
fn cases(html: &mut String, run: &Run) {
    let books = run.world.hub_node().replica().books();
    let mut types: BTreeMap<(u8, &str), [u64; 3]> = BTreeMap::new();
    for case in books.cases() {
        let state = match case.state {
            CaseState::Open => 0,
            CaseState::Decided => 1,
            CaseState::SelfCancelled => 2,
        };
        let key = (case.key.case_type.severity(), case.key.case_type.as_str());
        types.entry(key).or_default()[state] += 1;
    }
    html.push_str("<section>\n<h2>Cases by type and state</h2>\n");
    if types.is_empty() {
        html.push_str("<p class=\"none\">Nothing was doubtful.</p>\n</section>\n");
        return;
    }
    html.push_str(
        "<ul class=\"legend\"><li><i class=\"key open\"></i>open</li><li><i class=\"key decided\"></i>decided</li>\
         <li><i class=\"key cancelled\"></i>cancelled by a void</li></ul>\n<div class=\"scroll\">\n",
    );
    let most = types.values().map(|states| states.iter().sum::<u64>()).max().unwrap_or(1).max(1);
    html.push_str("<table class=\"bars\"><tbody>\n");
    for ((severity, name), states) in &types {
        let _ = write!(
            html,
            "<tr><th><i class=\"key dot s{severity}\"></i>{}</th><td><svg viewBox=\"0 0 400 14\" class=\"stack\" \
             role=\"img\" aria-label=\"{name}\" preserveAspectRatio=\"none\">",
            escape(&words::case_type(name))
        );
        let mut x = 0;
        for (class, figure) in ["open", "decided", "cancelled"].iter().zip(states) {
            let wide = if *figure > 0 { (figure * 400 / most).max(2) } else { 0 };
            if wide > 0 {
                let _ = write!(html, "<rect class=\"{class}\" x=\"{x}\" width=\"{wide}\" height=\"14\"/>");
            }
            x += wide;
        }
        let told: Vec<String> = ["open", "decided", "cancelled"]
            .iter()
            .zip(states)
            .filter(|(_, figure)| **figure > 0)
            .map(|(word, figure)| format!("{} {word}", grouped(*figure)))
            .collect();
        let _ = writeln!(html, "</svg></td><td class=\"told\">{}</td></tr>", told.join(", "));
    }
    html.push_str("</tbody></table>\n</div>\n</section>\n");
}
