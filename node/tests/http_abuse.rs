//! Callers that open connections and say little, against the HTTP of a real hub and a real till: others are answered all the
//! while, and nothing of them is left.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use common::{Company, Node, json, sale, till, tillsync, until};
use node::api::serve::CONNECTIONS_MAX;

/// What half-open callers say, each in its turn: nothing, half a head, half a body.
const HALVES: [&str; 3] = [
    "",
    "GET /v1/status HTTP/1.1\r\nhost: x\r\nx-more: ",
    "POST /v1/transactions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100000\r\n\r\n{",
];

fn half_open(node: &Node, which: usize) -> TcpStream {
    let mut stream = TcpStream::connect(node.http.trim_start_matches("http://")).unwrap();
    // A server that is about to send somebody away may do so before this caller has said its half.
    let _ = stream.write_all(HALVES[which % HALVES.len()].as_bytes());
    stream
}

fn descriptors(node: &Node) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", node.pid())).unwrap().count()
}

/// Whether the server has ended the connection.
fn is_ended(stream: &mut TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    match stream.read(&mut [0; 4096]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => error.kind() != ErrorKind::WouldBlock,
    }
}

#[test]
fn six_hundred_half_open_callers_at_till_and_hub_keep_nobody_from_selling() {
    let mut company = Company::new();
    let hub = company.hub();
    let dir = company.join("store-1", "till-01");
    let till = till(&dir);
    until("the till is online", || till.status()["online"] == true);
    let (before_till, before_hub) = (descriptors(&till), descriptors(&hub));

    let callers = CONNECTIONS_MAX + 88;
    let mut at_till: Vec<TcpStream> = (0..callers).map(|which| half_open(&till, which)).collect();
    let mut at_hub: Vec<TcpStream> = (0..callers).map(|which| half_open(&hub, which)).collect();
    assert!(descriptors(&till) <= before_till + CONNECTIONS_MAX + 16, "{} descriptors", descriptors(&till));
    assert!(descriptors(&hub) <= before_hub + CONNECTIONS_MAX + 16, "{} descriptors", descriptors(&hub));

    let began = Instant::now();
    for number in 0..5 {
        let captured = tillsync(&["capture", "-", "--api", &till.http], &sale(&format!("R-{number}"), 500));
        assert!(captured.status.success(), "{}", String::from_utf8_lossy(&captured.stderr));
    }
    until("the sales are at the hub", || company.records() == 5);
    assert!(json(&["status", "--json", "--api", &till.http]).is_object());
    println!("five sales beside {} half-open callers: {} ms", 2 * callers, began.elapsed().as_millis());

    // Nobody has to come and throw them out.
    until("every half-open caller is shed", || {
        at_till.retain_mut(|stream| !is_ended(stream));
        at_hub.retain_mut(|stream| !is_ended(stream));
        at_till.is_empty() && at_hub.is_empty()
    });
    let back = |node: &Node, before: usize| descriptors(node) <= before + 8;
    until("their descriptors are given back", || back(&till, before_till) && back(&hub, before_hub));
}
