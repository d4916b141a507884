//! What both nodes tell Prometheus: in its format and by its conventions, true to what happened, and enough for the
//! dashboard and the alerts that are shipped.

mod common;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use common::{Company, Node, sale, till, tillsync, until};

fn get(url: &str, token: Option<&str>) -> (u16, String) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let mut request = agent.get(url);
    if let Some(token) = token {
        request = request.header("Authorization", format!("Bearer {token}"));
    }
    let mut response = request.call().unwrap();
    (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
}

/// The value of a sample, by its name and labels as they are written.
fn value(page: &str, sample: &str) -> f64 {
    let line = page.lines().find(|line| line.rsplit_once(' ').is_some_and(|parts| parts.0 == sample));
    line.unwrap_or_else(|| panic!("{sample} is not in:\n{page}")).rsplit_once(' ').unwrap().1.parse().unwrap()
}

/// `promtool check metrics` says nothing about a page, where promtool is installed.
fn clean(page: &str) {
    let program = std::env::var("PROMTOOL").unwrap_or_else(|_| "promtool".to_owned());
    let child = Command::new(program)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else {
        eprintln!("skipped: promtool is not installed (Debian package prometheus)");
        return;
    };
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}", String::from_utf8_lossy(&said));
}

/// Names of the families on pages.
fn families(pages: &[&str]) -> BTreeSet<String> {
    let lines = pages.iter().flat_map(|page| page.lines());
    lines.filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next().map(str::to_owned)).collect()
}

/// Names of ours in a text.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|it: char| !it.is_ascii_alphanumeric() && it != '_');
    words
        .filter(|word| word.starts_with("tillsync_"))
        .map(|word| word.strip_suffix("_bucket").unwrap_or(word).to_owned())
        .collect()
}

fn capture(node: &Node, lines: &str) {
    let output = tillsync(&["capture", "-", "--api", &node.http], lines);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn both_nodes_tell_prometheus_what_happened() {
    let mut company = Company::new();
    let hub = company.hub();
    let node = till(&company.join("s1", "till-01"));
    until("the till online", || node.status()["online"] == true);
    capture(&node, &format!("{}\n{}\n", sale("S-1", 1_200), sale("S-2", 600)));
    let unapproved = sale("F-1", 1_200).replace("\"sale\"", "\"refund\"");
    capture(&node, &unapproved);
    until("everything at the hub", || node.status()["waiting"]["count"] == 0 && company.records() == 3);

    let metrics = format!("{}/metrics", hub.http);
    assert_eq!(get(&metrics, None).0, 401, "figures of the company are not for everybody");
    let (status, of_hub) = get(&metrics, Some(&company.token));
    assert_eq!(status, 200);
    assert_eq!(value(&of_hub, "tillsync_terminals{store=\"s1\"}"), 1.0);
    assert_eq!(value(&of_hub, "tillsync_terminals_connected{store=\"s1\"}"), 1.0);
    assert_eq!(value(&of_hub, "tillsync_records_captured{store=\"s1\"}"), 3.0);
    assert_eq!(value(&of_hub, "tillsync_cases{type=\"NO_REFERENCE\",state=\"open\"}"), 1.0);
    let suspense = "tillsync_suspense_minor_units{account=\"Assets:Suspense:Refunds\",currency=\"GBP\"}";
    assert_eq!(value(&of_hub, suspense), 1_200.0);
    assert!(value(&of_hub, "tillsync_link_received_bytes_total") > 0.0);

    let page = || get(&format!("{}/metrics", node.http), None).1;
    let of_till = page();
    assert_eq!(value(&of_till, "tillsync_capture_duration_seconds_count"), 3.0);
    assert_eq!(value(&of_till, "tillsync_hub_ack_duration_seconds_count"), 3.0);
    assert_eq!(value(&of_till, "tillsync_hub_connected"), 1.0);
    assert!(value(&of_till, "tillsync_storage_fsync_duration_seconds_count") >= 2.0);

    hub.stop();
    until("the till offline", || node.status()["online"] == false);
    capture(&node, &sale("S-3", 900));
    let offline = page();
    assert_eq!(value(&offline, "tillsync_queue_records"), 1.0);
    assert_eq!(value(&offline, "tillsync_queue_value_minor_units{currency=\"GBP\"}"), 900.0);
    assert_eq!(value(&offline, "tillsync_hub_connected"), 0.0);
    // What waits there is told when the hub is back, with its value and age, until it has come.
    let told = |page: &str| value(page, "tillsync_waiting_records{store=\"s1\"}");
    assert_eq!(told(&of_hub), 0.0);
    for free in [value(&of_hub, "tillsync_disk_free_bytes"), value(&of_till, "tillsync_disk_free_bytes")] {
        assert!(free > 0.0 && free <= value(&of_hub, "tillsync_disk_size_bytes"));
    }
    assert_eq!(value(&of_hub, "tillsync_storage_full"), 0.0);
    for page in [&of_hub, &of_till, &offline] {
        clean(page);
    }

    // What is shipped asks for nothing that is not there.
    let there = families(&[&of_hub, &of_till]);
    for shipped in
        [include_str!("../../monitoring/alerts.yml"), include_str!("../../monitoring/grafana.json")]
    {
        let asked = named(shipped);
        assert!(asked.len() >= 8, "{asked:?}");
        assert!(asked.is_subset(&there), "{:?}", asked.difference(&there));
    }
}
