//! A node's HTTP API for other programs: a POS application embeds this, and the `tillsync` commands use it. One request at
//! a time, none repeated by itself: a capture whose answer was lost may be sent again as it was (the node answers with the
//! record that is there), and whether anything else may, only the caller knows.
//!
//! ```no_run
//! # fn main() -> Result<(), node::client::CallError> {
//! let till = node::client::Client::new("http://127.0.0.1:7401", None)?;
//! let receipt = till.capture(&serde_json::json!({
//!     "kind": "sale", "receipt": "R-1001", "idempotency_key": "order-7731", "currency": "GBP",
//!     "lines": [{"sku": "LANTERN", "quantity": "1", "amount_minor": 1200}],
//!     "tenders": [{"type": "cash", "amount_minor": 1200}],
//! }))?;
//! println!("{} is record {}", receipt.receipt, receipt.id);
//! # Ok(())
//! # }
//! ```

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

/// Time to get a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole request. Books of years take a while to add up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Largest answer taken in, in bytes: beyond what a node gives in one page.
const ANSWER_BYTES: u64 = 256 << 20;
/// Longest piece of an answer that is no problem document, as shown in an error.
const SHOWN_CHARACTERS: usize = 200;

/// Why a request brought no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// What was given is no address or no token. Nothing was sent.
    #[error("{0}")]
    Usage(String),
    /// Nobody there, or gone while being asked: whether the request was carried out is not known.
    #[error("{0}")]
    Unreachable(String),
    /// The node refused.
    #[error("{text}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// The problem in words.
        text: String,
    },
    /// Somebody answers, but not as a node does.
    #[error("{0}")]
    Strange(String),
}

/// What a till says once a transaction is durable.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Captured {
    /// The record's id: 64 hexadecimal digits.
    pub id: String,
    /// Its number in the till's log.
    pub seq: u64,
    /// The receipt's number.
    pub receipt: String,
}

/// A connection to one node.
#[derive(Debug)]
pub struct Client {
    agent: ureq::Agent,
    api: String,
    token: Option<String>,
}

impl Client {
    /// A client of an address, such as `http://127.0.0.1:7401`; the hub asks for a token.
    ///
    /// # Errors
    /// The address is not one of plain HTTP, or no token looks like that.
    pub fn new(api: &str, token: Option<String>) -> Result<Self, CallError> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A proxy of the environment has no business between a till and itself.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build();
        let api = address(api)?;
        let bad_token =
            |token: &String| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.as_ref().is_some_and(bad_token) {
            return Err(CallError::Usage("the token holds characters that no token has".to_owned()));
        }
        Ok(Self { agent: config.into(), api, token })
    }

    /// The address, as it is asked.
    #[must_use]
    pub fn api(&self) -> &str {
        &self.api
    }

    #[cfg(test)]
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Records a transaction at a till (its form: `POST /v1/transactions` in `/openapi.json`). When this returns `Ok`, it is
    /// durable. After [`CallError::Unreachable`] send the same again, with the same receipt number and key.
    ///
    /// # Errors
    /// The till refused, and nothing was recorded; or there was no answer.
    pub fn capture(&self, transaction: &Value) -> Result<Captured, CallError> {
        let answer = self.post("/v1/transactions", transaction)?;
        serde_json::from_value(answer).map_err(|error| CallError::Strange(format!("no receipt ({error})")))
    }

    /// How a till stands: what waits, whether the hub is there, how far the hub has everything.
    ///
    /// # Errors
    /// As [`CallError`] says.
    pub fn status(&self) -> Result<Value, CallError> {
        self.get("/v1/status")
    }

    /// Reads something.
    ///
    /// # Errors
    /// As [`CallError`] says.
    pub fn get(&self, path: &str) -> Result<Value, CallError> {
        json_of(&self.get_text(path)?)
    }

    /// Reads something that is no JSON.
    ///
    /// # Errors
    /// As [`CallError`] says.
    pub fn get_text(&self, path: &str) -> Result<String, CallError> {
        self.answer(self.with_token(self.agent.get(self.url(path))).call())
    }

    /// Asks the node to do something.
    ///
    /// # Errors
    /// As [`CallError`] says.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        let response = self.with_token(self.agent.post(self.url(path))).send_json(body);
        json_of(&self.answer(response)?)
    }

    /// Puts something in place.
    ///
    /// # Errors
    /// As [`CallError`] says.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        let response = self.with_token(self.agent.put(self.url(path))).send_json(body);
        json_of(&self.answer(response)?)
    }

    /// Takes something away.
    ///
    /// # Errors
    /// As [`CallError`] says.
    pub fn delete(&self, path: &str) -> Result<Value, CallError> {
        let response = self.with_token(self.agent.delete(self.url(path))).call();
        json_of(&self.answer(response)?)
    }

    /// Sends NDJSON; the answer is NDJSON.
    ///
    /// # Errors
    /// As [`CallError`] says.
    pub fn post_lines(&self, path: &str, lines: &[u8]) -> Result<String, CallError> {
        let request = self.with_token(self.agent.post(self.url(path)));
        self.answer(request.header("Content-Type", "application/x-ndjson").send(lines))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.api)
    }

    fn with_token<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        match &self.token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        }
    }

    fn answer(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<String, CallError> {
        let mut response = response.map_err(|error| no_answer(&error))?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(ANSWER_BYTES).lossy_utf8(true).read_to_string();
        let body = body.map_err(|error| no_answer(&error))?;
        if status.is_success() {
            return Ok(body);
        }
        let text = problem_text(&body).unwrap_or_else(|| {
            let shown: String = body
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .chars()
                .take(SHOWN_CHARACTERS)
                .collect();
            format!("{} answered {status}{}{shown}", self.api, if shown.is_empty() { "" } else { ": " })
        });
        Err(CallError::Refused { status: status.as_u16(), text })
    }
}

/// Normalises an address; plain HTTP is all that a node serves.
fn address(api: &str) -> Result<String, CallError> {
    let api = api.trim().trim_end_matches('/');
    if api.starts_with("https://") {
        return Err(CallError::Usage(format!(
            "{api}: a node's API is plain HTTP on its own machine; from elsewhere use an SSH tunnel and its http:// address"
        )));
    }
    let host = api.strip_prefix("http://").unwrap_or(api);
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"/?#@\\".contains(&byte);
    if host.is_empty() || host.contains("://") || !host.bytes().all(fits) {
        return Err(CallError::Usage(format!("{api:?} is not an address; write --api http://HOST:PORT")));
    }
    Ok(format!("http://{host}"))
}

/// Makes text fit into a path or query.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// A path with the parameters that are there.
#[must_use]
pub fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let given = parameters.iter().filter_map(|(name, value)| value.map(|value| (name, value)));
    let query: Vec<String> = given.map(|(name, value)| format!("{name}={}", escape(value))).collect();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) }
}

fn json_of(text: &str) -> Result<Value, CallError> {
    serde_json::from_str(text).map_err(|error| CallError::Strange(format!("no JSON ({error})")))
}

/// What a problem document (RFC 9457) says, if the body is one.
fn problem_text(body: &str) -> Option<String> {
    let problem: Value = serde_json::from_str(body).ok()?;
    let part = |name: &str| problem.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    part("detail").or_else(|| part("title")).map(str::to_owned)
}

fn no_answer(error: &ureq::Error) -> CallError {
    use std::io::ErrorKind::{ConnectionRefused, InvalidData, UnexpectedEof};
    match error {
        ureq::Error::Io(io) if io.kind() == ConnectionRefused => {
            CallError::Unreachable("nobody answers".to_owned())
        }
        ureq::Error::Io(io) if io.kind() == InvalidData => CallError::Strange(io.to_string()),
        ureq::Error::Io(io) if io.kind() == UnexpectedEof => {
            CallError::Unreachable("the node broke off".to_owned())
        }
        ureq::Error::Io(io) => CallError::Unreachable(format!("no answer ({io})")),
        ureq::Error::Timeout(_) => CallError::Unreachable("no answer in time".to_owned()),
        ureq::Error::HostNotFound => CallError::Unreachable("no such host".to_owned()),
        ureq::Error::ConnectionFailed => CallError::Unreachable("no connection".to_owned()),
        other => CallError::Strange(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_plain_http_without_a_path() {
        for (given, want) in
            [("127.0.0.1:7401", "http://127.0.0.1:7401"), ("http://[::1]:1/", "http://[::1]:1")]
        {
            assert_eq!(address(given).unwrap(), want);
        }
        for bad in ["https://x", "ftp://x", "", "http://x/y", "a b", "http://u@x"] {
            assert!(matches!(address(bad), Err(CallError::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn names_with_odd_letters_fit_into_an_address() {
        assert_eq!(escape("R 1/2#é"), "R%201%2F2%23%C3%A9");
        assert_eq!(
            with_query("/v1/cases", &[("state", Some("open")), ("store", None)]),
            "/v1/cases?state=open"
        );
        assert_eq!(with_query("/v1/cases", &[("state", None)]), "/v1/cases");
    }
}
