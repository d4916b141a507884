//! Callers that say little, say it slowly, or do not listen, over loopback: what each gets, and that others are served.

use std::time::{Duration, Instant};

use axum::routing::{get, post};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::*;

/// Long enough for anything on a busy machine, and far longer than any patience below.
const LONG: Duration = Duration::from_secs(20);

fn hasty() -> Patience {
    Patience {
        head: Duration::from_millis(300),
        rest: Duration::from_millis(1_500),
        body: Duration::from_millis(400),
        body_bytes_per_second: 1_000,
        reading: Duration::from_millis(500),
    }
}

struct Served {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    serving: tokio::task::JoinHandle<()>,
}

async fn served(connections: usize) -> Served {
    let router = Router::new()
        .route("/hello", get(|| async { "hello" }))
        .route("/echo", post(|body: String| async move { body }))
        .route("/whole", get(|| async { vec![b'x'; 64 << 20] }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_millis(1_200)).await;
                "slow"
            }),
        )
        .route("/whoever", get(|ConnectInfo(who): ConnectInfo<SocketAddr>| async move { who.to_string() }));
    let (listener, address) = bind("127.0.0.1:0").await.unwrap();
    let (stop, stopped) = watch::channel(false);
    let limits = Limits { connections, of_address: 2, patience: hasty() };
    let serving = tokio::spawn(serve_within(listener, router, stopped, limits));
    Served { address, stop, serving }
}

async fn say(served: &Served, words: &str) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(words.as_bytes()).await.unwrap();
    stream
}

/// What is said until the connection ends.
async fn to_the_end(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    let read = timeout(LONG, stream.read_to_end(&mut said)).await.expect("the connection ends");
    // A caller who had more to say is told with a reset.
    assert!(read.is_ok() || said.is_empty(), "{read:?}");
    String::from_utf8_lossy(&said).into_owned()
}

async fn hear(stream: &mut TcpStream, last: &str) -> String {
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while !said.ends_with(last.as_bytes()) {
        let count = timeout(LONG, stream.read(&mut buffer)).await.expect("an answer").unwrap();
        assert!(count > 0, "it ended after {:?}", String::from_utf8_lossy(&said));
        said.extend_from_slice(&buffer[..count]);
    }
    String::from_utf8(said).unwrap()
}

const HELLO: &str = "GET /hello HTTP/1.1\r\nhost: x\r\n\r\n";

#[tokio::test]
async fn one_who_says_nothing_or_half_a_head_is_shed() {
    let served = served(8).await;
    for words in ["", "G", "GET /hello HTTP/1.1\r\nhost: x\r\nx-slow: "] {
        let began = Instant::now();
        let mut stream = say(&served, words).await;
        assert_eq!(to_the_end(&mut stream).await, "", "after {words:?}");
        assert!(began.elapsed() >= hasty().head, "{words:?} was given its time");
    }
}

#[tokio::test]
async fn a_head_that_drips_is_shed_however_alive_it_is() {
    let served = served(8).await;
    let mut stream = say(&served, "GET /hello HTTP/1.1\r\n").await;
    let began = Instant::now();
    while began.elapsed() < LONG {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if stream.write_all(b"x: y\r\n").await.is_err() {
            break;
        }
    }
    assert!(began.elapsed() < LONG, "it was allowed to go on");
}

#[tokio::test]
async fn a_body_that_drips_is_shed_and_one_that_flows_is_taken() {
    let served = served(8).await;
    let mut stream =
        say(&served, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nabc").await;
    assert!(!to_the_end(&mut stream).await.contains("200 OK"));

    let body = "y".repeat(4_000);
    let mut stream = say(&served, "POST /echo HTTP/1.1\r\nhost: x\r\ncontent-length: 4001\r\n\r\n").await;
    // Longer than the patience for a body that does not come, at a pace that is allowed.
    for part in body.as_bytes().chunks(500) {
        stream.write_all(part).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stream.write_all(b"z").await.unwrap();
    assert!(hear(&mut stream, "z").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn one_who_does_not_read_its_answer_is_shed() {
    let served = served(8).await;
    let mut stream = say(&served, "GET /whole HTTP/1.1\r\nhost: x\r\n\r\n").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    // Nothing but what lay in the sockets can still be read.
    let mut said = Vec::new();
    let _ = timeout(LONG, stream.read_to_end(&mut said)).await.expect("the connection ends");
    assert!(said.len() < 64 << 20, "{} bytes", said.len());
}

#[tokio::test]
async fn a_connection_rests_between_requests_and_not_for_ever() {
    let served = served(8).await;
    let mut stream = say(&served, HELLO).await;
    hear(&mut stream, "hello").await;
    tokio::time::sleep(hasty().head * 2).await;
    stream.write_all(HELLO.as_bytes()).await.unwrap();
    hear(&mut stream, "hello").await;
    let began = Instant::now();
    assert_eq!(to_the_end(&mut stream).await, "");
    assert!(began.elapsed() >= hasty().rest);
}

#[tokio::test]
async fn an_answer_may_take_its_time_and_its_length_is_told() {
    let served = served(8).await;
    let mut stream = say(&served, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = hear(&mut stream, "slow").await;
    assert!(answer.contains("content-length: 4"), "{answer}");
    stream.write_all(b"GET /whoever HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let local = stream.local_addr().unwrap().to_string();
    hear(&mut stream, &local).await;
}

#[tokio::test]
async fn in_a_full_house_the_one_that_waits_longest_makes_room() {
    let served = served(3).await;
    let mut waiting = Vec::new();
    for _ in 0..3 {
        waiting.push(say(&served, "GET /hello HTTP/1.1\r\n").await);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let began = Instant::now();
    let mut newcomer = say(&served, HELLO).await;
    hear(&mut newcomer, "hello").await;
    assert!(began.elapsed() < hasty().head, "nobody had to wait for the patience to end");
    assert_eq!(to_the_end(&mut waiting[0]).await, "");
}

#[tokio::test]
async fn in_a_house_full_of_work_a_newcomer_is_told_to_come_back() {
    let served = served(2).await;
    let mut working = Vec::new();
    for _ in 0..2 {
        working.push(say(&served, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let mut newcomer = TcpStream::connect(served.address).await.unwrap();
    let answer = to_the_end(&mut newcomer).await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("application/problem+json"), "{answer}");
    for stream in &mut working {
        hear(stream, "slow").await;
    }
}

#[tokio::test]
async fn one_who_stops_in_the_middle_of_a_body_makes_room_too() {
    let patience = Patience { body: LONG, ..hasty() };
    let house = House { limits: Limits { connections: 1, of_address: 1, patience }, seats: Mutex::default() };
    let remote = SocketAddr::new("192.0.2.7".parse().unwrap(), 1);
    let first = house.seat(1, remote).unwrap();
    let arriving = first.take_in(axum::http::Request::new(Body::from("half of it")));
    assert!(house.seat(2, remote).is_none(), "not at once");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    assert!(house.seat(3, remote).is_some());
    timeout(LONG / 2, first.expires()).await.expect("it was sent away");
    drop(arriving);
}

#[tokio::test]
async fn a_stop_lets_what_is_being_answered_be_answered() {
    let served = served(4).await;
    let (mut idle, mut working) =
        (say(&served, HELLO).await, say(&served, "GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await);
    hear(&mut idle, "hello").await;
    // What has not been read when the node stops is nobody's work yet.
    tokio::time::sleep(Duration::from_millis(300)).await;
    served.stop.send(true).unwrap();
    hear(&mut working, "slow").await;
    timeout(LONG, served.serving).await.expect("it ends").unwrap();
    assert_eq!(to_the_end(&mut idle).await, "");
}

#[test]
fn an_ipv6_line_is_one_address_and_loopback_is_everybody() {
    let network = |text: &str| network_of(text.parse().unwrap());
    assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
    assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
    assert_eq!(network("::ffff:192.0.2.7"), network("192.0.2.7"));
    assert!(network("::1").is_loopback() && network("::ffff:127.0.0.1").is_loopback());
}

#[tokio::test]
async fn one_network_has_a_share_of_the_seats_and_its_own_waiters_make_room() {
    let limits = Limits { connections: 100, of_address: 2, patience: hasty() };
    let house = House { limits, seats: Mutex::default() };
    let remote = |text: &str| SocketAddr::new(text.parse().unwrap(), 1);
    let first = house.seat(1, remote("192.0.2.7")).unwrap();
    house.seat(2, remote("192.0.2.7")).unwrap();
    house.seat(3, remote("198.51.100.9")).unwrap();
    house.seat(4, remote("192.0.2.7")).unwrap();
    timeout(hasty().head / 2, first.expires()).await.expect("its first waiter was sent away");
    let whose: Vec<u64> = house.seats().keys().copied().collect();
    assert_eq!(whose, [2, 3, 4]);
    for seat in house.seats().values() {
        let whole = axum::http::Request::new(Body::empty());
        drop(seat.1.take_in(whole));
    }
    assert!(house.seat(5, remote("192.0.2.7")).is_none(), "all of that network are at work");
    assert!(house.seat(6, remote("198.51.100.9")).is_some());
}
