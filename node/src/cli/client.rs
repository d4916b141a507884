//! HTTP to a node, for every command that asks one: where it is, the token, time-outs, and errors as a person reads
//! them. One request at a time, none repeated by itself: whether asking again is safe, only the command knows.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::words::one_line;
use crate::error::Failure;
use crate::runtime::run_file::RunFile;

/// Time to get a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a whole request. Books of years take a while to add up.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(120);
/// Largest answer taken in, in bytes: beyond what a node gives in one page.
const ANSWER_BYTES: u64 = 256 << 20;
/// Longest piece of an answer that is no problem document, as shown in an error.
const SHOWN_CHARACTERS: usize = 200;

/// How a node begins its answer to a path that only the other role serves.
const NO_ENDPOINT: &str = "no such endpoint";

/// Where a command finds its node.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Where {
    /// Address of the node's API, such as http://127.0.0.1:7401 [env: TILLSYNC_API]
    #[arg(long, value_name = "URL", help_heading = "Which node")]
    pub(super) api: Option<String>,
    /// Token for the hub's API [env: TILLSYNC_TOKEN]
    #[arg(long, value_name = "TOKEN", help_heading = "Which node")]
    pub(super) token: Option<String>,
    /// Data directory of a node that runs on this machine: address and token are taken from there
    #[arg(long, value_name = "DIR", help_heading = "Which node")]
    pub(super) dir: Option<PathBuf>,
}

/// Which node a command asks if nothing else is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A till's node.
    Till,
    /// The hub.
    Hub,
}

impl Role {
    fn default_api(self) -> &'static str {
        match self {
            Self::Till => "http://127.0.0.1:7401",
            Self::Hub => "http://127.0.0.1:7480",
        }
    }

    fn is_another(self) -> &'static str {
        match self {
            Self::Till => {
                "is no till; name one with --api or --dir, or ask the hub with `tillsync stores` and `tillsync terminals`"
            }
            Self::Hub => "is no hub; name the hub with --api or --dir",
        }
    }

    fn start(self) -> &'static str {
        match self {
            Self::Till => "`tillsync terminal run --dir DIR`",
            Self::Hub => "`tillsync hub run --dir DIR`",
        }
    }
}

/// What the environment says. Read apart from the arguments, because what is typed outranks a variable: `--dir` of one
/// node must not be sent to the address of another that a profile has exported.
#[derive(Debug, Clone, Default)]
struct Surroundings {
    api: Option<String>,
    token: Option<String>,
}

impl Surroundings {
    fn of_process() -> Self {
        let variable = |name| std::env::var(name).ok().filter(|value: &String| !value.is_empty());
        Self { api: variable("TILLSYNC_API"), token: variable("TILLSYNC_TOKEN") }
    }
}

impl Where {
    /// A client for an operation. Nothing is sent yet.
    ///
    /// # Errors
    /// The address is none, or no node runs on the directory.
    pub(super) fn client(&self, role: Role, operation: &'static str) -> Result<Client, Failure> {
        self.client_in(role, operation, Surroundings::of_process())
    }

    fn client_in(
        &self,
        role: Role,
        operation: &'static str,
        around: Surroundings,
    ) -> Result<Client, Failure> {
        let run = match &self.dir {
            None => None,
            Some(dir) => Some(RunFile::read(dir).ok_or_else(|| {
                let dir = dir.display();
                let start = if dir_is_hub(self) { "hub run" } else { "terminal run" };
                let message = format!("no node runs on {dir}; start it with `tillsync {start} --dir {dir}`");
                Failure::unreachable(message).during(operation)
            })?),
        };
        let (run_api, run_token) = run.map_or((None, None), |run| (Some(run.http), run.token));
        let typed = self.api.clone().or(run_api);
        let api = typed.or(around.api).unwrap_or_else(|| role.default_api().to_owned());
        let token = self.token.clone().or(run_token).or(around.token);
        Client::new(&api, token, role, operation)
    }
}

fn dir_is_hub(at: &Where) -> bool {
    at.dir.as_ref().is_some_and(|dir| dir.join("hub.json").exists())
}

/// Why a request brought no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// Nobody there, or gone while being asked.
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

/// A connection to one node, for one operation.
pub(super) struct Client {
    agent: ureq::Agent,
    api: String,
    token: Option<String>,
    role: Role,
    operation: &'static str,
}

impl Client {
    /// A client of an address.
    ///
    /// # Errors
    /// The address is not one of plain HTTP.
    pub(super) fn new(
        api: &str,
        token: Option<String>,
        role: Role,
        operation: &'static str,
    ) -> Result<Self, Failure> {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            // A proxy of the environment has no business between a till and itself.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT))
            .build();
        let api = address(api).map_err(|error| error.during(operation))?;
        let bad_token =
            |token: &String| token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic());
        if token.as_ref().is_some_and(bad_token) {
            return Err(Failure::usage("the token holds characters that no token has").during(operation));
        }
        Ok(Self { agent: config.into(), api, token, role, operation })
    }

    /// Reads something.
    ///
    /// # Errors
    /// As [`Client::fail`] puts it.
    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.try_get(path).map_err(|error| self.fail(&error))
    }

    /// Reads something; the error can still be judged.
    pub(super) fn try_get(&self, path: &str) -> Result<Value, CallError> {
        let response = self.with_token(self.agent.get(self.url(path))).call();
        json_of(&self.answer(response)?)
    }

    /// Asks the node to do something.
    ///
    /// # Errors
    /// As [`Client::fail`] puts it.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.try_post(path, body).map_err(|error| self.fail(&error))
    }

    /// Asks the node to do something; the error can still be judged.
    pub(super) fn try_post(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        let response = self.with_token(self.agent.post(self.url(path))).send_json(body);
        json_of(&self.answer(response)?)
    }

    /// Puts something in place.
    ///
    /// # Errors
    /// As [`Client::fail`] puts it.
    pub(super) fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let response = self.with_token(self.agent.put(self.url(path))).send_json(body);
        let answer = self.answer(response).and_then(|text| json_of(&text));
        answer.map_err(|error| self.fail(&error))
    }

    /// Takes something away.
    ///
    /// # Errors
    /// As [`Client::fail`] puts it.
    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        let response = self.with_token(self.agent.delete(self.url(path))).call();
        let answer = self.answer(response).and_then(|text| json_of(&text));
        answer.map_err(|error| self.fail(&error))
    }

    /// Sends NDJSON; the answer is NDJSON.
    pub(super) fn try_post_lines(&self, path: &str, lines: &[u8]) -> Result<String, CallError> {
        let request = self.with_token(self.agent.post(self.url(path)));
        self.answer(request.header("Content-Type", "application/x-ndjson").send(lines))
    }

    /// An error as the command's failure: operation, reason, way out.
    pub(super) fn fail(&self, error: &CallError) -> Failure {
        let failure = match error {
            CallError::Unreachable(reason) => {
                let (api, start) = (&self.api, self.role.start());
                Failure::unreachable(format!(
                    "{reason} at {api}; is the node running? start it with {start}, or name another with --api or --dir"
                ))
            }
            CallError::Refused { status: 404, text } if text.starts_with(NO_ENDPOINT) => {
                Failure::refused(format!("{} {}", self.api, self.role.is_another()))
            }
            CallError::Refused { .. } => Failure::refused(error),
            CallError::Strange(what) => Failure::refused(format!(
                "{} answers, but not as a node of Tillsync: {what}; check --api",
                self.api
            )),
        };
        // The node may have named the operation already.
        let named = failure.message.starts_with(&format!("{}: ", self.operation));
        if named { failure } else { failure.during(self.operation) }
    }

    /// What the command is called.
    pub(super) fn operation(&self) -> &'static str {
        self.operation
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
            let shown: String = one_line(&body).chars().take(SHOWN_CHARACTERS).collect();
            format!("{} answered {status}{}{shown}", self.api, if shown.is_empty() { "" } else { ": " })
        });
        Err(CallError::Refused { status: status.as_u16(), text })
    }
}

/// Normalises an address; plain HTTP is all that a node serves.
fn address(api: &str) -> Result<String, Failure> {
    let api = api.trim().trim_end_matches('/');
    if api.starts_with("https://") {
        return Err(Failure::usage(format!(
            "{api}: a node's API is plain HTTP on its own machine; from elsewhere use an SSH tunnel and its http:// address"
        )));
    }
    let host = api.strip_prefix("http://").unwrap_or(api);
    let fits = |byte: u8| byte.is_ascii_graphic() && !b"/?#@\\".contains(&byte);
    if host.is_empty() || host.contains("://") || !host.bytes().all(fits) {
        return Err(Failure::usage(format!("{api:?} is not an address; write --api http://HOST:PORT")));
    }
    Ok(format!("http://{host}"))
}

/// Makes text fit into a path or query.
pub(super) fn escape(text: &str) -> String {
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
pub(super) fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
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
    use serde_json::json;

    use super::super::stand_in::StandIn;
    use super::*;

    fn client(api: &str, token: Option<&str>) -> Client {
        Client::new(api, token.map(str::to_owned), Role::Till, "status").unwrap()
    }

    #[test]
    fn nobody_there_is_exit_3_with_a_way_out() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let failure = client(&closed.to_string(), None).get("/v1/status").unwrap_err();
        assert_eq!(failure.code, 3);
        assert_eq!(
            failure.message,
            format!(
                "status: nobody answers at http://{closed}; is the node running? start it with `tillsync terminal run --dir DIR`, or name another with --api or --dir"
            )
        );
    }

    #[test]
    fn a_node_that_breaks_off_is_not_reachable_either() {
        let node = StandIn::serve(|_| Vec::new());
        assert_eq!(client(&node.api(), None).get("/v1/status").unwrap_err().code, 3);
    }

    #[test]
    fn a_problem_document_becomes_the_error_line() {
        let body = r#"{"type":"about:blank","title":"not authorised","status":401,"detail":"this needs the hub's token"}"#;
        let node = StandIn::answer(401, "application/problem+json", body);
        let failure = client(&node.api(), None).get("/v1/cases").unwrap_err();
        assert_eq!(failure, Failure::refused("status: this needs the hub's token"));
    }

    #[test]
    fn an_operation_that_the_node_names_is_not_named_twice() {
        let node =
            StandIn::answer(422, "application/problem+json", r#"{"title":"refused","detail":"status: no"}"#);
        assert_eq!(client(&node.api(), None).get("/x").unwrap_err().message, "status: no");
    }

    #[test]
    fn a_node_of_the_other_role_is_said_so() {
        let node = StandIn::routes(&[]);
        let failure = node.client(Role::Till, "status").get("/v1/status").unwrap_err();
        assert!(failure.message.contains("is no till;"), "{failure}");
        let failure = node.client(Role::Hub, "cases").get("/v1/cases").unwrap_err();
        assert!(failure.message.contains("is no hub;"), "{failure}");
    }

    #[test]
    fn what_is_no_node_is_said_so() {
        let node = StandIn::answer(200, "text/html", "<html>");
        let failure = client(&node.api(), None).get("/v1/status").unwrap_err();
        assert_eq!(failure.code, 1);
        assert!(failure.message.contains("not as a node of Tillsync"), "{failure}");
        let node = StandIn::answer(502, "text/html", "<h1>Bad\nGateway</h1>");
        let failure = client(&node.api(), None).get("/v1/status").unwrap_err();
        assert!(failure.message.ends_with("answered 502 Bad Gateway: <h1>Bad Gateway</h1>"), "{failure}");
    }

    #[test]
    fn the_token_travels_as_bearer_and_bodies_as_json() {
        let node = StandIn::answer(200, "application/json", "{\"ok\":1}");
        let client = client(&node.api(), Some("tsk_1"));
        assert_eq!(client.post("/v1/enrolments", &json!({"store": "s"})).unwrap(), json!({"ok": 1}));
        let request = node.requests().remove(0);
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/v1/enrolments"));
        assert_eq!(request.header("authorization"), Some("Bearer tsk_1"));
        assert_eq!(request.json(), json!({"store": "s"}));
    }

    #[test]
    fn what_is_typed_outranks_the_directory_and_that_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let run = r#"{"pid":1,"http":"127.0.0.1:9","quic":null,"token":"of-run"}"#;
        std::fs::write(dir.path().join("run.json"), run).unwrap();
        let around = || Surroundings { api: Some("http://e:1".into()), token: Some("of-env".into()) };
        let of = |at: Where| {
            let client = at.client_in(Role::Hub, "cases", around()).unwrap();
            (client.api, client.token.unwrap())
        };
        let in_dir = Where { dir: Some(dir.path().to_owned()), ..Where::default() };
        let typed = Where { api: Some("t:2/".into()), token: Some("of-flag".into()), ..in_dir.clone() };
        assert_eq!(of(Where::default()), ("http://e:1".to_owned(), "of-env".to_owned()));
        assert_eq!(of(in_dir), ("http://127.0.0.1:9".to_owned(), "of-run".to_owned()));
        assert_eq!(of(typed), ("http://t:2".to_owned(), "of-flag".to_owned()));
        let nothing = Where::default().client_in(Role::Hub, "cases", Surroundings::default()).unwrap();
        assert_eq!(nothing.api, "http://127.0.0.1:7480");
    }

    #[test]
    fn a_directory_on_which_nothing_runs_is_exit_3() {
        let dir = tempfile::tempdir().unwrap();
        let at = Where { dir: Some(dir.path().to_owned()), ..Where::default() };
        let failure = at.client(Role::Till, "status").err().unwrap();
        assert_eq!(failure.code, 3);
        assert!(failure.message.contains("no node runs on"), "{failure}");
    }

    #[test]
    fn addresses_are_plain_http_without_a_path() {
        for (given, want) in
            [("127.0.0.1:7401", "http://127.0.0.1:7401"), ("http://[::1]:1/", "http://[::1]:1")]
        {
            assert_eq!(address(given).unwrap(), want);
        }
        for bad in ["https://x", "ftp://x", "", "http://x/y", "a b", "http://u@x"] {
            assert_eq!(address(bad).unwrap_err().code, 2, "{bad}");
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
