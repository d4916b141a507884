//! A disk that fills up under a running till and under a running hub: what cannot be kept is refused before it is too late
//! to say so, what was acknowledged stays, and when space returns everything goes on without a restart.
//!
//! The disk is a limit on the length of files (`ulimit -f`, its signal ignored): the log cannot grow, as on a full disk.

#![cfg(target_os = "linux")]

mod common;

use std::process::Command;

use common::{Company, Node, assert_verified, sale, tillsync, until};
use serde_json::Value;

/// Lines that are more than the room before the reserve.
const LINES: usize = 6_000;

fn lines(from: usize, to: usize) -> String {
    (from..to).map(|n| sale(&format!("R-{n}"), 100 + i64::try_from(n).unwrap()) + "\n").collect()
}

/// As `lines`, with words that no compression makes small: a hub keeps thousands of ordinary sales in its reserve alone.
fn bulky_lines(from: usize, to: usize) -> String {
    let bulky = |n: usize| {
        let mut sale: Value =
            serde_json::from_str(&sale(&format!("R-{n}"), 100 + i64::try_from(n).unwrap())).unwrap();
        let mut noise = [0; 240];
        blake3::Hasher::new().update(&n.to_le_bytes()).finalize_xof().fill(&mut noise);
        let letters: String = noise.iter().map(|byte| char::from(b'a' + byte % 26)).collect();
        sale["lines"][0]["description"] = letters.as_str().into();
        sale["lines"][0]["sku"] = letters.chars().rev().collect::<String>().into();
        sale.to_string() + "\n"
    };
    (from..to).map(bulky).collect()
}

/// Captures lines; how many were saved, and the refusals.
fn capture(node: &Node, from: usize, to: usize) -> (usize, Vec<String>) {
    capture_lines(node, &lines(from, to))
}

fn capture_lines(node: &Node, lines: &str) -> (usize, Vec<String>) {
    let output = tillsync(&["capture", "-", "--api", &node.http], lines);
    let text = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let saved = answers.iter().filter(|answer| answer["state"] == "saved").count();
    let refused = answers.iter().filter(|answer| answer["state"] != "saved");
    (saved, refused.map(|answer| answer["error"].to_string()).collect())
}

/// Bytes beyond which no file of the process grows any more; `None` lifts the limit.
fn limit_files(node: &Node, bytes: Option<u64>) {
    let limit = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    let arguments = ["--pid".to_owned(), node.pid().to_string(), format!("--fsize={limit}:")];
    assert!(Command::new("prlimit").args(arguments).status().unwrap().success());
}

/// Length of the newest segment: where the log would have to grow.
fn log_bytes(node: &Node) -> u64 {
    let segments = std::fs::read_dir(node.dir.join("log")).unwrap();
    segments.map(|it| it.unwrap().metadata().unwrap().len()).max().unwrap()
}

#[test]
fn a_till_on_a_full_disk_refuses_clearly_keeps_what_it_said_and_goes_on_when_space_returns() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    drop(hub);
    let node = common::till_ignoring_file_size(&dir);
    assert_eq!(capture(&node, 0, 10).0, 10);
    limit_files(&node, Some(log_bytes(&node)));
    let mut saved = 10;
    // The till stops taking lines at the first refusal; asked again it refuses again, and says so in its status.
    let refusal = loop {
        let (now, refused) = capture(&node, saved, saved + LINES);
        saved += now;
        if let Some(refused) = refused.into_iter().next() {
            break refused;
        }
        assert!(saved < 100 * LINES, "the limit holds");
    };
    assert!(refusal.contains("disk full") && refusal.contains("507"), "{refusal}");
    assert_eq!(node.status()["disk_full"], true);
    assert_eq!(capture(&node, saved, saved + 1).0, 0);
    // What waits still reaches the hub: the reserve is there for that.
    let hub = company.hub();
    until("what was saved at the hub", || node.status()["waiting"]["count"] == 0);
    assert_eq!(node.status()["disk_full"], true);
    // Space returns, and nobody restarts anything.
    limit_files(&node, None);
    until("space", || node.status()["disk_full"] == false);
    assert_eq!(capture(&node, saved, saved + 10), (10, Vec::new()));
    saved += 10;
    until("everything at the hub", || company.records() == saved as u64);
    node.stop();
    hub.stop();
    assert_verified(&dir);
    assert_verified(&company.dir);
}

#[test]
fn a_hub_on_a_full_disk_lets_its_tills_wait_and_takes_everything_when_space_returns() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    drop(hub);
    let node = common::till(&dir);
    let mut saved = 0;
    for _ in 0..3 {
        saved += capture_lines(&node, &bulky_lines(saved, saved + LINES)).0;
    }
    assert_eq!(saved, 3 * LINES);
    // The till comes back when the disk is full, so that none of it is there before.
    node.stop();
    let hub = company.hub_ignoring_file_size();
    limit_files(&hub, Some(log_bytes(&hub)));
    let node = common::till(&dir);
    let full = || company.ask(&["stores"])[0]["disk_full"] == true;
    until("the hub full", || full() || company.records() == saved as u64);
    assert!(company.records() < saved as u64, "the sales are more than the room");
    // It answers, and the till waits.
    assert!(node.status()["waiting"]["count"].as_u64().unwrap() > 0);
    limit_files(&hub, None);
    until("everything at the hub", || company.records() == saved as u64);
    until("the till told", || node.status()["waiting"]["count"] == 0);
    node.stop();
    hub.stop();
    assert_verified(&dir);
    assert_verified(&company.dir);
}
