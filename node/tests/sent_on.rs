//! A till whose company has several hubs, with real processes: it is served by whichever of them lives.

mod common;

use std::path::Path;
use std::time::Instant;

use common::{Company, captured, is_on_postgres, json, path, sales, till, tillsync, until};
use node::identity::{HubAddress, JoinCode};

/// A UDP address of this machine that nobody has now.
fn free_address() -> HubAddress {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.local_addr().unwrap().to_string().parse().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).map(drop).unwrap();
        }
    }
}

/// Whether the hub of this directory has a till connected, and how many records of it.
fn serves(dir: &Path) -> (bool, u64) {
    let tills = json(&["terminals", "--json", "--dir", path(dir)]);
    let stores = json(&["stores", "--json", "--dir", path(dir)]);
    (tills[0]["online"] == true, stores[0]["records"].as_u64().unwrap_or(0))
}

#[test]
fn a_till_whose_hub_is_killed_goes_to_another_that_its_join_code_named() {
    if is_on_postgres() {
        return;
    }
    let mut company = Company::new();
    let first = company.hub();
    let second_at = free_address();
    let enroll =
        ["hub", "enroll", "--store", "s1", "--terminal", "t1", "--json", "--dir", path(&company.dir)];
    let code: JoinCode = json(&enroll)["code"].as_str().unwrap().parse().unwrap();
    let code = code.and_hubs([second_at.clone()]).to_string();
    let till_dir = company.folder().join("t1");
    let joined = tillsync(&["terminal", "join", "--dir", path(&till_dir), "--code", &code], "");
    assert!(joined.status.success(), "{}", String::from_utf8_lossy(&joined.stderr));

    // Two hubs of one company, before there is one log between them: the second is a copy of the first.
    first.stop();
    let (first_dir, second_dir) = (company.dir.clone(), company.folder().join("second"));
    copy(&first_dir, &second_dir);
    let first = company.hub();
    company.dir = second_dir.clone();
    company.quic = Some(second_at.to_string());
    let second = company.hub();

    let till = till(&till_dir);
    captured(&till, &sales("t1", 0, 3));
    let both = [&first_dir, &second_dir];
    until("one of them serves the till", || both.iter().any(|dir| serves(dir) == (true, 3)));
    let (mut serving, other) = if serves(&first_dir).0 { (first, &second_dir) } else { (second, &first_dir) };
    serving.kill();
    let killed = Instant::now();
    captured(&till, &sales("t1", 3, 5));
    until("the other serves it", || serves(other) == (true, 5));
    println!("served again {:?} after its hub was killed", killed.elapsed());
    until("the till knows that nothing waits", || till.status()["waiting"]["count"] == 0);
}
