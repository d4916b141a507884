//! The hub's door as a browser and as a thief of tokens find it: real hub process, plain HTTP by hand.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use common::{Company, captured, sale, till, until};
use serde_json::{Value, json};

/// An answer as it came: status, headers as text, body.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// `name=secret` of the cookie that was set.
    fn cookie(&self) -> String {
        let line = self.head.lines().find(|line| line.to_lowercase().starts_with("set-cookie:")).unwrap();
        line["set-cookie:".len()..].trim().split(';').next().unwrap().to_owned()
    }
}

fn ask(http: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let address = http.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A stream of events, from where its head has come: from then on nothing is missed.
fn listen(http: &str, path: &str, who: (&str, &str)) -> TcpStream {
    let address = http.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    let (name, value) = who;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{name}: {value}\r\n\r\n")
        .unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
    stream
}

fn log_in(http: &str, token: &str, headers: &[(&str, &str)]) -> Answer {
    ask(http, "POST", "/v1/session", headers, &json!({"token": token}).to_string())
}

#[test]
fn a_session_reads_by_its_cookie_and_writes_only_from_the_hubs_own_page() {
    let mut company = Company::new();
    let hub = company.hub();
    let added = company.ask(&["hub", "people", "add", "--name", "anna", "--role", "admin"]);
    let opened = log_in(&hub.http, added["token"].as_str().unwrap(), &[]);
    assert_eq!(opened.status, 201, "{}", opened.body);
    assert!(opened.head.contains("HttpOnly; SameSite=Strict; Path=/"), "{}", opened.head);
    assert!(!opened.body.contains("tsk_"), "the token is not told again");
    let (cookie, csrf) = (opened.cookie(), opened.json()["csrf"].as_str().unwrap().to_owned());
    let cookie = ("Cookie", cookie.as_str());

    assert_eq!(ask(&hub.http, "GET", "/v1/stores", &[], "").status, 401, "nobody");
    assert_eq!(ask(&hub.http, "GET", "/v1/stores", &[cookie], "").status, 200);
    let told = ask(&hub.http, "GET", "/v1/session", &[cookie], "").json();
    assert_eq!(told, json!({"name": "anna", "role": "admin", "csrf": csrf}));

    let write = |headers: &[(&str, &str)]| {
        let body = json!({"name": "bert", "role": "viewer"}).to_string();
        ask(&hub.http, "POST", "/v1/people", headers, &body).status
    };
    let word = ("X-Tillsync-Csrf", csrf.as_str());
    assert_eq!(write(&[cookie]), 403, "the cookie alone: any page can make a browser send it");
    assert_eq!(write(&[cookie, ("X-Tillsync-Csrf", "0")]), 403);
    assert_eq!(write(&[cookie, word, ("Origin", "https://evil.example")]), 403);
    assert_eq!(write(&[cookie, word, ("Sec-Fetch-Site", "cross-site")]), 403);
    assert_eq!(write(&[cookie, word, ("Sec-Fetch-Site", "same-origin")]), 201);
    let foreign = log_in(&hub.http, &company.token, &[("Origin", "https://evil.example")]);
    assert_eq!(foreign.status, 403, "nor can another site's page log a browser in");

    // What anna may not do any more ends at once, in every session of hers.
    let admin = format!("Bearer {}", company.token);
    let removed = ask(&hub.http, "DELETE", "/v1/people/anna", &[("Authorization", &admin)], "");
    assert_eq!(removed.status, 200, "{}", removed.body);
    assert_eq!(ask(&hub.http, "GET", "/v1/stores", &[cookie], "").status, 401);

    let opened = log_in(&hub.http, &company.token, &[]);
    let (cookie, csrf) = (opened.cookie(), opened.json()["csrf"].as_str().unwrap().to_owned());
    let cookie = ("Cookie", cookie.as_str());
    assert_eq!(ask(&hub.http, "DELETE", "/v1/session", &[cookie], "").status, 403);
    let out = ask(&hub.http, "DELETE", "/v1/session", &[cookie, ("X-Tillsync-Csrf", &csrf)], "");
    assert!(out.status == 204 && out.head.contains("Max-Age=0"), "{}", out.head);
    assert_eq!(ask(&hub.http, "GET", "/v1/stores", &[cookie], "").status, 401, "logged out");
}

#[test]
fn a_viewers_session_stays_a_viewers() {
    let mut company = Company::new();
    let hub = company.hub();
    let added = company.ask(&["hub", "people", "add", "--name", "vera", "--role", "viewer"]);
    let opened = log_in(&hub.http, added["token"].as_str().unwrap(), &[]);
    let (cookie, csrf) = (opened.cookie(), opened.json()["csrf"].as_str().unwrap().to_owned());
    let headers = [("Cookie", cookie.as_str()), ("X-Tillsync-Csrf", csrf.as_str())];
    assert_eq!(ask(&hub.http, "GET", "/v1/cases", &headers, "").status, 200);
    assert_eq!(ask(&hub.http, "GET", "/v1/people", &headers, "").status, 403);
    assert_eq!(ask(&hub.http, "POST", "/v1/exports", &headers, "{}").status, 403);
    assert_eq!(ask(&hub.http, "POST", "/v1/enrolments", &headers, "{}").status, 403);
}

#[test]
fn wrong_tokens_slow_their_own_address_down_and_nobody_else() {
    let mut company = Company::new();
    let hub = company.hub();
    let thief = ("X-Forwarded-For", "203.0.113.66");
    for attempt in 0..5 {
        let bearer = format!("Bearer tsk_{attempt}");
        let refused = if attempt % 2 == 0 {
            log_in(&hub.http, &format!("tsk_{attempt}"), &[thief])
        } else {
            ask(&hub.http, "GET", "/v1/stores", &[thief, ("Authorization", &bearer)], "")
        };
        assert_eq!(refused.status, 401, "{}", refused.body);
    }
    let slowed = log_in(&hub.http, &company.token, &[thief]);
    assert_eq!(slowed.status, 429, "the right token is not even looked at: {}", slowed.body);
    assert_eq!(log_in(&hub.http, &company.token, &[]).status, 201, "everybody else logs in as always");
    let neighbour = ("X-Forwarded-For", "203.0.113.67");
    assert_eq!(log_in(&hub.http, &company.token, &[neighbour]).status, 201);
    assert_eq!(log_in(&hub.http, &"t".repeat(100_000), &[neighbour]).status, 401);

    // Wrong tokens from the hub's own machine do not lock its owner out of `--dir`.
    for attempt in 0..9 {
        log_in(&hub.http, &format!("tsk_{attempt}"), &[]);
    }
    assert_eq!(log_in(&hub.http, &company.token, &[]).status, 429);
    assert!(company.ask(&["audit"]).to_string().contains("wrong-token"), "and it is written down");
}

#[test]
fn a_stream_of_events_ends_with_its_readers_right_to_read() {
    let mut company = Company::new();
    let hub = company.hub();
    let added = company.ask(&["hub", "people", "add", "--name", "anna", "--role", "viewer"]);
    let token = added["token"].as_str().unwrap().to_owned();
    let cookie = log_in(&hub.http, &token, &[]).cookie();
    let bearer = format!("Bearer {token}");
    let streams = [("/v1/events", ("Authorization", bearer.as_str())), ("/live", ("Cookie", &cookie))]
        .map(|(path, who)| listen(&hub.http, path, who));
    company.ask(&["hub", "people", "add", "--name", "bert", "--role", "viewer"]);
    company.ask(&["hub", "people", "remove", "--name", "anna"]);
    company.ask(&["hub", "people", "add", "--name", "carl", "--role", "viewer"]);
    for mut stream in streams {
        // To its end: the stream is open until the hub closes it.
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        assert!(told.contains("person-added"), "{told}");
        assert!(!told.contains("carl") && !told.contains("person-removed"), "{told}");
    }
    // An open page asks again by itself; it is not led to a form, which an event source cannot read.
    let events = ("Accept", "text/event-stream");
    assert_eq!(ask(&hub.http, "GET", "/live", &[("Cookie", &cookie), events], "").status, 204);
    assert_eq!(ask(&hub.http, "GET", "/books", &[("Cookie", &cookie)], "").status, 303);
}

/// No event is noted of what a till holds back; whoever has the page open sees it all the same.
#[test]
fn an_open_page_is_told_when_a_till_says_how_much_waits_there() {
    let mut company = Company::new();
    let hub = company.hub();
    let till = till(&company.join("s1", "till-01"));
    until("the till is online", || till.status()["online"] == true);
    company.ask(&["policy", "set", "--store", "s1", "sync_interval=1h"]);
    until("the policy is there", || till.status()["policy_version"] == 1);
    let cookie = log_in(&hub.http, &company.token, &[]).cookie();
    let page = BufReader::new(listen(&hub.http, "/live", ("Cookie", &cookie))).lines();
    captured(&till, &[sale("R-1", 1_250)]);
    // Some minutes of the stream, if it says nothing but that it is still there.
    assert!(page.take(60).any(|line| line.unwrap() == "data: told"));
    let stores = ask(&hub.http, "GET", "/v1/stores", &[("Cookie", &cookie)], "").json();
    assert_eq!(stores[0]["waiting"]["value_minor"]["GBP"], 1_250, "{stores}");
}
