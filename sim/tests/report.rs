//! The page of a run: a lane for every node, every tag closed, nothing let in that is not escaped, small enough to send.
//! With `REPORT_PAGES` set to a folder, the pages are put there to be looked at.

use sim::report::page;
use sim::run::run_explicit;
use sim::scenario::{Scenario, Timed, What};
use sim::world::HUB;

const HOUR_MS: i64 = 3_600_000;

/// Trade with a few plain faults: partitions, crashes, a wrong clock, a slow till.
fn weather(tills: u64, days: u64, transactions: u64) -> Scenario {
    let mut scenario = Scenario::swarm(5, tills, days, transactions, false);
    let mut put = |at_ms: i64, what: What| scenario.happens.push(Timed { at_ms, what });
    for (number, till) in (0..).zip(Scenario::swarm(5, tills, days, 1, false).till_names()) {
        let from_ms = HOUR_MS * (2 + number * 5 % (i64::try_from(days).unwrap() * 24 - 12));
        let (from, to) = (till.clone(), HUB.to_owned());
        put(from_ms, What::Block { from: from.clone(), to: to.clone() });
        put(from_ms + HOUR_MS * (2 + number % 6), What::Open { from, to });
        if number % 3 == 1 {
            let (node, at_ms) = (till.clone(), from_ms + HOUR_MS / 2);
            put(at_ms, What::Crash { node, down_ms: 1_200_000, survive: 0 });
        }
        if number % 7 == 2 {
            put(from_ms + 60_000, What::Clock { node: till.clone(), ahead_ms: 600_000 });
            put(from_ms + HOUR_MS, What::Slow { node: till, disk_ms: 90, link_ms: 800, bytes_a_ms: 0 });
        }
    }
    put(7 * HOUR_MS, What::Crash { node: HUB.to_owned(), down_ms: HOUR_MS, survive: 0 });
    scenario
}

fn rendered(scenario: &Scenario, file: &str) -> String {
    let (outcome, run) = run_explicit(&scenario.explicit(), true).expect("the run holds");
    let html = page(scenario, &outcome, &run);
    if let Ok(folder) = std::env::var("REPORT_PAGES") {
        std::fs::write(std::path::Path::new(&folder).join(file), &html).expect("a page is written");
    }
    html
}

/// Every element that is opened is closed in order, attributes are quoted, and no text holds a stray `<` or `&`.
fn assert_well_formed(html: &str) {
    let mut open: Vec<&str> = Vec::new();
    let body = html.strip_prefix("<!DOCTYPE html>").expect("it starts as HTML does");
    let mut rest = body;
    while let Some(at) = rest.find('<') {
        let after = &rest[at + 1..];
        let end = after.find('>').expect("every tag ends");
        let tag = &after[..end];
        assert!(!tag.contains('<') && tag.matches('"').count().is_multiple_of(2), "a tag is broken: {tag:?}");
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in order");
        } else if !tag.ends_with('/') {
            open.push(tag.split_whitespace().next().expect("a tag has a name"));
        }
        rest = &after[end + 1..];
    }
    assert!(open.is_empty(), "still open: {open:?}");
    for part in body.split('&').skip(1) {
        let name = part.split(';').next().unwrap_or_default();
        assert!(
            name.len() < 7 && name.chars().all(|c| c.is_alphanumeric() || c == '#'),
            "a stray &: {name:?}"
        );
    }
}

fn assert_lanes(html: &str, scenario: &Scenario) {
    for node in scenario.till_names().iter().map(String::as_str).chain([HUB]) {
        assert!(html.contains(&format!("data-node=\"{node}\"")), "{node} has a lane");
    }
}

#[test]
fn a_small_run_is_a_whole_page() {
    let mut scenario = weather(3, 2, 24);
    scenario.name = "<script>alert(\"1\")</script> & co".into();
    scenario.about = "Three tills' \"worst\" <weekend>".into();
    let html = rendered(&scenario, "small.html");
    assert_well_formed(&html);
    assert_lanes(&html, &scenario);
    assert!(!html.contains("<script") && !html.contains("<weekend"), "what scenarios say is text");
    for word in ["Everything held", "Trial balance, GBP", "What was checked", "class=\"captured\""] {
        assert!(html.contains(word), "the page says {word}");
    }
    assert!(!html.contains("http") && !html.contains("@import"), "it needs nothing else");
    assert!((20_000..400_000).contains(&html.len()), "{} bytes", html.len());
    assert_eq!(html, rendered(&scenario, "small.html"), "the same run gives the same bytes");
}

#[test]
fn watching_changes_nothing() {
    let scenario = weather(2, 1, 6).explicit();
    let (seen, _) = run_explicit(&scenario, true).unwrap();
    let (unseen, _) = run_explicit(&scenario, false).unwrap();
    assert_eq!(seen, unseen);
}

/// And no larger than `most` bytes, about twice what such a page takes.
fn assert_readable(scenario: &Scenario, file: &str, most: usize) {
    let html = rendered(scenario, file);
    assert_well_formed(&html);
    assert_lanes(&html, scenario);
    assert!(html.len() < most, "{} bytes", html.len());
}

#[test]
fn a_hundred_tills_stay_readable() {
    assert_readable(&weather(100, 1, 1), "wide.html", 240_000);
}

#[test]
fn a_week_stays_readable() {
    assert_readable(&weather(10, 7, 1), "long.html", 100_000);
}
