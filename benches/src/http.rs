//! HTTP/1.1 to a node over one connection that is kept: one write and few reads a request, so that the client costs as
//! little as a client can. Answers of the nodes have a length; nothing else is read here.

use std::io::{Error, ErrorKind, Read, Result, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Longest a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a node.
pub struct Http {
    stream: TcpStream,
    /// Headers that every request carries.
    fixed: String,
    sent: Vec<u8>,
    received: Vec<u8>,
}

/// What a node answered.
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Body.
    pub body: Vec<u8>,
}

impl Http {
    /// Connects to `host:port`; `token` goes into every request.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(address: &str, token: Option<&str>) -> Result<Self> {
        let stream = TcpStream::connect(address)?;
        let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
        Self::on(stream, address, &token)
    }

    /// As [`Http::connect`], with header lines of one's own in every request.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect_as(address: &str, lines: &str) -> Result<Self> {
        Self::on(TcpStream::connect(address)?, address, lines)
    }

    fn on(stream: TcpStream, address: &str, lines: &str) -> Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let fixed = format!("host: {address}\r\n{lines}");
        Ok(Self { stream, fixed, sent: Vec::new(), received: Vec::new() })
    }

    /// Lets the node take longer over an answer.
    ///
    /// # Errors
    /// The system refuses.
    pub fn wait_up_to(self, patience: Duration) -> Result<Self> {
        self.stream.set_read_timeout(Some(patience))?;
        Ok(self)
    }

    /// Reads something.
    ///
    /// # Errors
    /// The connection broke.
    pub fn get(&mut self, path: &str) -> Result<Answer> {
        self.request("GET", path, "", &[])
    }

    /// Sends something.
    ///
    /// # Errors
    /// The connection broke.
    pub fn post(&mut self, path: &str, content_type: &str, body: &[u8]) -> Result<Answer> {
        self.request("POST", path, &format!("content-type: {content_type}\r\n"), body)
    }

    fn request(&mut self, method: &str, path: &str, more: &str, body: &[u8]) -> Result<Answer> {
        self.sent.clear();
        let (fixed, length) = (&self.fixed, body.len());
        write!(self.sent, "{method} {path} HTTP/1.1\r\n{fixed}{more}content-length: {length}\r\n\r\n")?;
        self.sent.extend_from_slice(body);
        self.stream.write_all(&self.sent)?;
        self.received.clear();
        let head = loop {
            if let Some(at) = self.received.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            self.read_more()?;
        };
        let odd = |what: &str| Error::new(ErrorKind::InvalidData, format!("{method} {path}: {what}"));
        let text = std::str::from_utf8(&self.received[..head]).map_err(|_| odd("headers are no text"))?;
        let status =
            text.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| odd("no status"))?;
        let length = text.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
        });
        let end = head + length.ok_or_else(|| odd("no length"))?;
        while self.received.len() < end {
            self.read_more()?;
        }
        Ok(Answer { status, body: self.received[head..end].to_vec() })
    }

    fn read_more(&mut self) -> Result<()> {
        let mut buffer = [0; 16_384];
        match self.stream.read(&mut buffer)? {
            0 => Err(Error::new(ErrorKind::UnexpectedEof, "the node closed the connection")),
            read => {
                self.received.extend_from_slice(&buffer[..read]);
                Ok(())
            }
        }
    }
}

impl Answer {
    /// The body as JSON, if the node agreed.
    ///
    /// # Errors
    /// It refused, or the body is no JSON.
    pub fn json(&self) -> Result<serde_json::Value> {
        if !(200..300).contains(&self.status) {
            let text = String::from_utf8_lossy(&self.body);
            return Err(Error::other(format!("the node answered {}: {text}", self.status)));
        }
        serde_json::from_slice(&self.body).map_err(Error::other)
    }
}
