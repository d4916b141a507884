//! What it costs a till to come back when neither side has anything new: on a metered line that is what a day of bad
//! coverage costs.

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use common::{Company, captured, is_on_postgres, sales, till, until};
use serde_json::Value;

/// IPv4 and UDP headers of a datagram, bytes.
const HEADERS: u64 = 28;
/// Everything a reconnect may take, both ways, headers and handshake included.
const BYTES_MAX: u64 = 5_000;
/// After so long without a word all is said; shorter than the time between two that keep the link alive.
const QUIET: Duration = Duration::from_millis(400);

/// Stands between one till and its hub and counts what passes; where the till dials.
fn counting(hub: SocketAddr) -> (SocketAddr, Arc<AtomicU64>) {
    let front = UdpSocket::bind("127.0.0.1:0").unwrap();
    let back = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (at, passed) = (front.local_addr().unwrap(), Arc::new(AtomicU64::new(0)));
    let (front_too, back_too, counted) =
        (front.try_clone().unwrap(), back.try_clone().unwrap(), passed.clone());
    let (tell, told) = std::sync::mpsc::channel();
    thread::spawn(move || {
        let (mut buffer, mut till) = ([0; 2048], None);
        while let Ok((length, from)) = front.recv_from(&mut buffer) {
            if till.replace(from) != Some(from) {
                tell.send(from).unwrap();
            }
            counted.fetch_add(length as u64 + HEADERS, Ordering::SeqCst);
            let _ = back_too.send_to(&buffer[..length], hub);
        }
    });
    let counted = passed.clone();
    thread::spawn(move || {
        let (mut buffer, mut till) = ([0; 2048], None);
        while let Ok((length, _)) = back.recv_from(&mut buffer) {
            till = told.try_iter().last().or(till);
            counted.fetch_add(length as u64 + HEADERS, Ordering::SeqCst);
            let _ = front_too.send_to(&buffer[..length], till.expect("a till has spoken first"));
        }
    });
    (at, passed)
}

/// From its next start on, the till of a directory dials here.
fn look_at(dir: &Path, address: SocketAddr) {
    let file = dir.join("identity/enrolment.json");
    let mut kept: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    kept["hub_address"] = address.to_string().into();
    std::fs::write(&file, kept.to_string()).unwrap();
}

#[test]
fn a_reconnect_with_nothing_new_takes_five_kilobytes_at_most() {
    if is_on_postgres() {
        eprintln!("skipped: a hub on a database tells its own address, and the till would go past the relay");
        return;
    }
    let mut company = Company::new();
    let _hub = company.hub();
    let dir = company.join("high-street", "till-01");
    let node = till(&dir);
    captured(&node, &sales("T", 0, 300));
    until("all of it at the hub", || node.status()["waiting"]["count"] == 0);
    node.stop();

    let hub: SocketAddr = company.quic.as_ref().unwrap().parse().unwrap();
    let taken = (0..3).map(|_| {
        let (at, passed) = counting(hub);
        look_at(&dir, at);
        let node = till(&dir);
        until("the till is there", || node.status()["online"] == true);
        let mut before = 0;
        until("all is said", || {
            thread::sleep(QUIET);
            std::mem::replace(&mut before, passed.load(Ordering::SeqCst)) == passed.load(Ordering::SeqCst)
        });
        node.stop();
        before
    });
    let taken: Vec<u64> = taken.collect();
    // The least of them: on a machine with other work a word may have to be acknowledged by itself, or a link be kept alive.
    let least = taken.iter().min().unwrap();
    assert!((3_600..=BYTES_MAX).contains(least), "{taken:?} bytes");
}
