//! A receiver of webhooks: a small HTTP server on loopback that keeps what it was sent and answers as a test wants. It
//! checks signatures by its own means.

#![allow(dead_code, reason = "each test file uses its part")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use data_encoding::BASE64;
use hmac::{Hmac, KeyInit, Mac};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;
use sha2::Sha256;

/// What was sent.
#[derive(Debug, Clone)]
pub struct Received {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Received {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("no header {name}: {:?}", self.headers), |(_, value)| value.as_str())
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Refuses what was not signed with a secret, as the documentation says a receiver does.
    pub fn assert_signed(&self, secret: &str) {
        let key = BASE64.decode(secret.strip_prefix("whsec_").unwrap().as_bytes()).unwrap();
        let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(&key).unwrap();
        mac.update(format!("{}.{}.", self.id(), self.header("webhook-timestamp")).as_bytes());
        mac.update(self.body.as_bytes());
        let signature = format!("v1,{}", BASE64.encode(&mac.finalize().into_bytes()));
        assert_eq!(self.header("webhook-signature"), signature);
        let sent: i64 = self.header("webhook-timestamp").parse().unwrap();
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!(sent.abs_diff(i64::try_from(now).unwrap()) < 300, "{sent}");
    }
}

/// How a receiver answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Status(u16),
    /// 307 to another address.
    Elsewhere(String),
    /// Closes the connection without a word.
    Nothing,
    /// Says nothing until the other side gives up or the receiver says something else.
    Silence,
}

type Kept = Arc<Mutex<Vec<Received>>>;
type Saying = Arc<Mutex<Answer>>;

/// A running receiver. Its threads end with the test.
pub struct Receiver {
    port: u16,
    scheme: &'static str,
    kept: Kept,
    saying: Saying,
}

impl Receiver {
    pub fn start() -> Self {
        Self::listen(None)
    }

    /// As `start`, with TLS.
    pub fn start_tls(config: ServerConfig) -> Self {
        Self::listen(Some(Arc::new(config)))
    }

    fn listen(tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let (kept, saying) = (Kept::default(), Arc::new(Mutex::new(Answer::Status(204))));
        let receiver = Self { port, scheme, kept: Arc::clone(&kept), saying: Arc::clone(&saying) };
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (kept, saying, tls) = (Arc::clone(&kept), Arc::clone(&saying), tls.clone());
                std::thread::spawn(move || match tls {
                    None => serve(stream, &kept, &saying),
                    Some(config) => {
                        let server = ServerConnection::new(config).unwrap();
                        serve(StreamOwned::new(server, stream), &kept, &saying);
                    }
                });
            }
        });
        receiver
    }

    pub fn url(&self) -> String {
        format!("{}://localhost:{}/hook", self.scheme, self.port)
    }

    /// Answers like this from now on.
    pub fn says(&self, answer: Answer) {
        *self.saying.lock().unwrap() = answer;
    }

    /// What came, in its order.
    pub fn received(&self) -> Vec<Received> {
        self.kept.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.kept.lock().unwrap().len()
    }

    /// The changes that came, in their order. Each delivery must be signed and go on where the one before ended.
    pub fn changes(&self, secret: &str) -> Vec<Value> {
        let (mut changes, mut through) = (Vec::new(), None);
        for delivery in self.received() {
            delivery.assert_signed(secret);
            let body = delivery.json();
            if let Some(through) = through {
                assert_eq!(body["from_seq"].as_i64().unwrap(), through + 1, "deliveries follow each other");
            }
            through = body["to_seq"].as_i64();
            changes.extend(body["changes"].as_array().unwrap().iter().cloned());
        }
        changes
    }
}

fn serve(stream: impl Read + Write, kept: &Kept, saying: &Saying) {
    let mut stream = BufReader::new(stream);
    while let Some(received) = read(&mut stream) {
        kept.lock().unwrap().push(received);
        let answer = loop {
            let answer = saying.lock().unwrap().clone();
            if answer != Answer::Silence {
                break answer;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let head = match answer {
            Answer::Status(status) => format!("HTTP/1.1 {status} Said\r\n"),
            Answer::Elsewhere(url) => format!("HTTP/1.1 307 Said\r\nlocation: {url}\r\n"),
            Answer::Nothing | Answer::Silence => return,
        };
        let length = if head.contains(" 204 ") { "" } else { "content-length: 0\r\n" };
        if stream.get_mut().write_all(format!("{head}{length}\r\n").as_bytes()).is_err() {
            return;
        }
        let _ = stream.get_mut().flush();
    }
}

fn read(stream: &mut impl BufRead) -> Option<Received> {
    let mut line = String::new();
    stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some("POST"), "{line}");
    let path = words.next()?.to_owned();
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length")?.1.parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Received { path, headers, body: String::from_utf8(body).unwrap() })
}
