//! `kill -9` at random moments: of a till in the middle of a capture, of the hub in the middle of a drain. Every line
//! that was acknowledged is in the books exactly once.

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Company, assert_verified, sale, till, tillsync, until};
use serde_json::Value;

/// Moments of the kills, in ms after the start: spread, and the same in every run.
const MOMENTS: [u64; 10] = [3, 90, 14, 45, 7, 140, 25, 60, 1, 110];
/// Rounds, four kills each, unless `TILLSYNC_KILL_ROUNDS` says otherwise; a release is held against 60.
const ROUNDS: usize = 10;
const LINES: usize = 400;

/// Captures lines until the till is killed `after` so many ms; the acknowledged receipts with their ids.
fn capture_until_killed(node: &mut common::Node, lines: &str, after: Duration) -> BTreeMap<String, String> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_tillsync"))
        .args(["capture", "-", "--api", &node.http])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let lines = lines.to_owned();
    let writing = std::thread::spawn(move || {
        // The capture ends with the till; what it did not read is not acknowledged.
        let _ = input.write_all(lines.as_bytes());
    });
    let reading = std::thread::spawn(move || {
        let lines = BufReader::new(output).lines().map_while(Result::ok);
        acknowledged(lines)
    });
    std::thread::sleep(after);
    node.kill();
    let _ = child.wait();
    writing.join().unwrap();
    reading.join().unwrap()
}

fn acknowledged(lines: impl Iterator<Item = String>) -> BTreeMap<String, String> {
    let answers = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    answers
        .filter(|answer| answer["state"] == "saved")
        .map(|answer| {
            (answer["receipt"].as_str().unwrap().to_owned(), answer["id"].as_str().unwrap().to_owned())
        })
        .collect()
}

fn lines(round: usize) -> String {
    (0..LINES).map(|n| sale(&format!("R-{round}-{n}"), 100 + i64::try_from(n).unwrap()) + "\n").collect()
}

#[test]
fn kills_of_the_till_in_mid_capture_and_of_the_hub_in_mid_drain_lose_nothing_and_double_nothing() {
    let mut company = Company::new();
    let mut hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    let rounds = std::env::var("TILLSYNC_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().unwrap());
    let mut kills = 0;
    for round in 0..rounds {
        // Later turns through the list are shifted, so that no moment comes twice.
        let moment = MOMENTS[round % MOMENTS.len()] + (round / MOMENTS.len()) as u64;
        // The till dies in the middle of a capture, once with the hub up and once with it down.
        let mut node = till(&dir);
        if round % 2 == 0 {
            hub.kill();
            kills += 1;
        }
        known.extend(capture_until_killed(&mut node, &lines(round), Duration::from_millis(moment)));
        kills += 1;
        // The cashier goes on where the answers stopped: known receipts are answered with the first answer.
        let node = till(&dir);
        let output = tillsync(&["capture", "-", "--api", &node.http], &lines(round));
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answers = acknowledged(String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned));
        assert_eq!(answers.len(), LINES);
        for (receipt, id) in &answers {
            assert_eq!(known.get(receipt).unwrap_or(id), id, "an acknowledged receipt keeps its record");
        }
        known.extend(answers);
        // The hub dies in the middle of the drain.
        hub.kill();
        hub = company.hub();
        std::thread::sleep(Duration::from_millis(moment * 3));
        hub.kill();
        hub = company.hub();
        kills += 2;
        until("the drain", || node.status()["waiting"]["count"] == 0);
    }
    println!("{kills} kills, {} receipts", known.len());
    assert_eq!(known.len(), rounds * LINES);
    until("every record at the hub", || company.records() == known.len() as u64);
    let drawer: i64 = company.balances()["Assets:Cash:Drawer:till-01 GBP"];
    let taken: i64 = (0..LINES).map(|n| 100 + i64::try_from(n).unwrap()).sum::<i64>();
    assert_eq!(drawer, taken * i64::try_from(rounds).unwrap(), "each line is in the books exactly once");
    hub.kill();
    assert_verified(&company.dir);
    assert_verified(&dir);
}
