//! A node's stand-in for the tests of the commands: answers HTTP on loopback from a function and keeps what it was
//! asked. No node, no store, no waiting.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use super::client::{Client, Role};

/// What was asked.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// A listening stand-in; its thread ends with the test process.
pub(super) struct StandIn {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl StandIn {
    /// Answers each request with the bytes that a function makes; none: it breaks off.
    pub(super) fn serve(mut answer: impl FnMut(&Request) -> Vec<u8> + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = requests.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let Some(request) = read(&stream) else { continue };
                let bytes = answer(&request);
                kept.lock().unwrap().push(request);
                // The asker may be gone; that is its own affair.
                let _ = stream.write_all(&bytes);
            }
        });
        Self { address, requests }
    }

    /// Answers every request the same.
    pub(super) fn answer(status: u16, content_type: &'static str, body: &'static str) -> Self {
        Self::serve(move |_| response(status, content_type, body))
    }

    /// Answers by path (with query); what is not listed is 404.
    pub(super) fn routes(routes: &'static [(&'static str, &'static str)]) -> Self {
        Self::serve(move |request| {
            let found = routes.iter().find(|(path, _)| *path == request.path);
            match found {
                Some((_, body)) => response(200, "application/json", body),
                None => response(
                    404,
                    "application/problem+json",
                    r#"{"title":"not found","detail":"no such endpoint"}"#,
                ),
            }
        })
    }

    pub(super) fn api(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn client(&self, role: Role, operation: &'static str) -> Client {
        Client::new(&self.api(), None, role, operation).unwrap()
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

/// The bytes of a response.
pub(super) fn response(status: u16, content_type: &str, body: &str) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body.as_bytes()].concat()
}

fn read(stream: &TcpStream) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else { break };
        headers.push((name.to_ascii_lowercase(), value.to_owned()));
    }
    let header =
        |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let length = header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    if header("transfer-encoding").is_some() {
        body = read_pieces(&mut reader)?;
    } else {
        reader.read_exact(&mut body).ok()?;
    }
    Some(Request { method, path, headers, body })
}

/// A chunked body.
fn read_pieces(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim_end(), 16).ok()?;
        let mut piece = vec![0; length + 2];
        reader.read_exact(&mut piece).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(&piece[..length]);
    }
}
