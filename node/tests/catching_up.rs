//! Tills of one store that come back together give each other more than their books keep up with: they go on selling.

mod common;

use std::time::{Duration, Instant};

use common::{Company, captured, sales, till, until};

/// More than a store's books may be behind while it listens, from each of the others.
const SALES: usize = 6_000;

#[test]
fn tills_that_receive_more_than_they_keep_up_with_go_on_selling() {
    let mut company = Company::new();
    let hub = company.hub();
    let dirs = ["till-01", "till-02", "till-03"].map(|name| company.join("high-street", name));
    hub.stop();
    let tills = dirs.each_ref().map(|dir| till(dir));
    for (at, till) in tills.iter().enumerate() {
        captured(till, &sales(&format!("T{at}"), 0, SALES));
    }
    let _hub = company.hub();
    for (at, till) in tills.iter().enumerate() {
        until("all of it at the hub", || till.status()["waiting"]["count"] == 0);
        let sold = Instant::now();
        captured(till, &sales(&format!("U{at}"), 0, 1));
        // A till whose books had caught up took nothing in until its next status was due, half a minute later.
        assert!(sold.elapsed() < Duration::from_secs(10), "{at}: {:?}", sold.elapsed());
    }
    let hash = |at: usize| tills[at].status()["view_hash"].clone();
    until("the same books everywhere", || {
        tills.iter().all(|till| till.status()["waiting"]["count"] == 0)
            && hash(0) == hash(1)
            && hash(1) == hash(2)
    });
}
