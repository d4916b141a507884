//! A run as one page of HTML that needs nothing else: what held, a timeline with a lane for every node, how long records
//! took, the books at the end. It reads what `watch` wrote down and what the hub holds; integers only, and the same run
//! gives the same bytes.

mod books;
mod lanes;
mod plots;
mod timeline;
mod words;

use std::fmt::Write as _;

use crate::run::{Outcome, Run};
use crate::scenario::Scenario;

const STYLE: &str = include_str!("style.css");

/// The page of a run.
#[must_use]
pub fn page(scenario: &Scenario, outcome: &Outcome, run: &Run) -> String {
    let title = if scenario.name.is_empty() { "A run" } else { &scenario.name };
    let mut html = String::with_capacity(256 << 10);
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta name=\"color-scheme\" content=\"light dark\"/>\n<title>{} \u{2013} Tillsync simulator</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n",
        escape(title)
    );
    head(&mut html, title, scenario, outcome, run);
    timeline::section(&mut html, scenario, outcome, run);
    plots::section(&mut html, outcome, run);
    books::section(&mut html, run);
    checked(&mut html, run);
    let _ = write!(
        html,
        "<footer>The same scenario gives the same run and the same page. Trace <code>{}</code>.</footer>\n\
         </body>\n</html>\n",
        escape(&outcome.trace)
    );
    html
}

fn head(html: &mut String, title: &str, scenario: &Scenario, outcome: &Outcome, run: &Run) {
    let tills = count(scenario.tills, "till", "tills");
    let days = count(scenario.days, "day", "days");
    let lost = run.truth.destroyed.len() as u64;
    let struck: u64 = outcome.faults.values().sum();
    html.push_str("<header>\n<p class=\"eyebrow\">Tillsync simulator</p>\n");
    let _ = writeln!(html, "<h1>{}</h1>", escape(title));
    if !scenario.about.is_empty() {
        let _ = writeln!(html, "<p class=\"about\">{}</p>", escape(&scenario.about));
    }
    let _ = write!(
        html,
        "<div class=\"verdict\"><span class=\"tick\" aria-hidden=\"true\">\u{2713}</span><div><p><strong>Everything \
         held.</strong> {tills} traded for {days} through {}. Of {} that cashiers were told is recorded, {}. \
         Every node ended with the same books, and they balance to the penny.</p>",
        count(struck, "fault", "faults"),
        count(outcome.transactions, "transaction", "transactions"),
        if lost == 0 {
            "none is missing at the hub".to_owned()
        } else {
            format!(
                "only the {} on devices that were destroyed before they could sync are gone",
                grouped(lost)
            )
        },
    );
    let planted = match outcome.mischief {
        0 => "No conflicts were planted in this run.".to_owned(),
        planted => format!(
            "The simulator planted {} (goods reversed twice, baskets rung twice); all of it was flagged for a reviewer.",
            count(planted, "conflict", "conflicts")
        ),
    };
    let level = words::duration(outcome.converged_ms);
    let _ = writeln!(html, "<p>{planted} After mending, everybody was level within {level}.</p></div></div>");
    html.push_str("<dl class=\"facts\">\n");
    let facts = [
        ("Seed", scenario.seed.to_string()),
        ("Tills", grouped(scenario.tills)),
        ("Days", grouped(scenario.days)),
        ("Transactions", grouped(outcome.transactions)),
        ("Planted conflicts", grouped(outcome.mischief)),
        ("Cases", grouped(outcome.cases.values().sum())),
        ("Simulated time", words::duration(outcome.simulated_ms)),
        ("Messages", grouped(outcome.messages)),
        ("Sent", words::bytes(outcome.bytes)),
        ("Level after mending", words::duration(outcome.converged_ms)),
    ];
    for (name, value) in facts {
        let _ = writeln!(html, "<div><dt>{name}</dt><dd>{}</dd></div>", escape(&value));
    }
    html.push_str("</dl>\n<p class=\"chips\"><span class=\"lead\">Faults</span>");
    if outcome.faults.is_empty() {
        html.push_str(" <span class=\"chip\">none: a quiet network</span>");
    }
    for (name, times) in &outcome.faults {
        let _ = write!(
            html,
            " <span class=\"chip\">{} <b>{}</b></span>",
            escape(&words::fault(name)),
            grouped(*times)
        );
    }
    html.push_str("</p>\n</header>\n");
}

/// What was held against the run, in words; and what could not be, and why.
fn checked(html: &mut String, run: &Run) {
    let truth = &run.truth;
    html.push_str(
        "<section>\n<h2>What was checked</h2>\n<p class=\"sub\">A run that breaks one of these has no page: it ends \
         with the invariant, the seed and the fewest happenings that break it.</p>\n<ul class=\"checks\">\n",
    );
    let unjudged = |skip: bool, why: &'static str| skip.then_some(why);
    let hub_lost = unjudged(truth.hub_lost, "not judged: the hub lost its disk and came back from a backup");
    let lenient = unjudged(
        truth.policy_changed || truth.locked,
        "not judged: a policy change or a lock may hold honest records for good reasons",
    );
    let custody = unjudged(truth.hub_lost, "judged until the hub lost its disk");
    let rows: [(&str, &str, Option<&str>); 18] = [
        ("All along", "The trial balance is zero on every node, in every currency.", None),
        ("All along", "What a till believes to be at the hub is at the hub.", custody),
        ("All along", "What a till acknowledged to a cashier is held by that till.", None),
        ("All along", "What a liar with a stolen key brings is seen by nobody.", None),
        ("All along", "Queues stay bounded.", None),
        (
            "In the end",
            "Everybody is level within a quarter of an hour after mending; nothing waits anywhere.",
            None,
        ),
        ("In the end", "Every node holds the same documents, and Automerge agrees with the batches.", None),
        ("In the end", "Every node has the same books, to the byte.", None),
        ("In the end", "What was acknowledged is in the hub's books, once.", None),
        (
            "In the end",
            "The journal on the hub's disk is an unbroken chain and adds up to the books.",
            hub_lost,
        ),
        ("In the end", "The suspense balance is explained to the penny by cases and differences.", None),
        ("In the end", "Every planted conflict and every basket rung twice is flagged.", None),
        ("In the end", "Every card payment that failed after an offline sale is flagged.", hub_lost),
        ("In the end", "Nothing that honest people did at honest devices is held.", lenient),
        ("In the end", "The Z report of an honest till agrees with its records.", None),
        (
            "In the end",
            "What a till had received stands before what it then did, whatever clocks said.",
            None,
        ),
        (
            "In the end",
            "The hub's figures of latency, capture and reconciliation are what happened at honest tills.",
            None,
        ),
        (
            "In the end",
            "A second, plain model of the rules, given the same records, has the same books.",
            None,
        ),
    ];
    for (when, what, skip) in rows {
        let (class, mark) = if skip.is_some() { ("skip", "\u{2013}") } else { ("held", "\u{2713}") };
        let _ = writeln!(
            html,
            "<li class=\"{class}\"><span class=\"mark\">{mark}</span><span>{what} <em>{}</em></span></li>",
            skip.unwrap_or(when)
        );
    }
    html.push_str("</ul>\n</section>\n");
}

/// Text as HTML shows it, in elements and in attributes.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

/// A number with its digits in threes.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// A number with the word for one or for many.
fn count(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", grouped(number), if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_through_the_escape() {
        assert_eq!(escape("<b a=\"1\">&'\u{7}"), "&lt;b a=&quot;1&quot;&gt;&amp;&#39; ");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(grouped(12), "12");
    }
}
