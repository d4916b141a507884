//! Asking a node, for every command that does: where it is, the token, and errors as a person reads them.

use std::path::PathBuf;

use serde_json::Value;

use crate::client;
pub(super) use crate::client::{CallError, escape, with_query};
use crate::error::Failure;
use crate::runtime::run_file::RunFile;

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
            Some(dir) => {
                Some(RunFile::read(dir).map_err(|failure| failure.during(operation))?.ok_or_else(|| {
                    let dir = dir.display();
                    let message = match node_of(self) {
                        Some(start) => {
                            format!("no node runs on {dir}; start it with `tillsync {start} --dir {dir}`")
                        }
                        None => format!("no node runs on {dir}, and it is no data directory; check --dir"),
                    };
                    Failure::unreachable(message).during(operation)
                })?)
            }
        };
        let (run_api, run_token) = run.map_or((None, None), |run| (Some(run.http), run.token));
        let typed = self.api.clone().or(run_api);
        let api = typed.or(around.api).unwrap_or_else(|| role.default_api().to_owned());
        let token = self.token.clone().or(run_token).or(around.token);
        Client::new(&api, token, role, operation)
    }
}

/// The command that runs the node of the directory, if it is one's.
fn node_of(at: &Where) -> Option<&'static str> {
    let dir = at.dir.as_ref()?;
    if dir.join("hub.json").exists() {
        return Some("hub run");
    }
    dir.join("identity").exists().then_some("terminal run")
}

/// A connection to one node, for one operation.
pub(super) struct Client {
    node: client::Client,
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
        let node = client::Client::new(api, token);
        let node = node.map_err(|error| Failure::usage(error).during(operation))?;
        Ok(Self { node, role, operation })
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
        self.node.get(path)
    }

    /// Reads something that is no JSON; the error can still be judged.
    pub(super) fn try_get_text(&self, path: &str) -> Result<String, CallError> {
        self.node.get_text(path)
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
        self.node.post(path, body)
    }

    /// Puts something in place.
    ///
    /// # Errors
    /// As [`Client::fail`] puts it.
    pub(super) fn put(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.node.put(path, body).map_err(|error| self.fail(&error))
    }

    /// Takes something away.
    ///
    /// # Errors
    /// As [`Client::fail`] puts it.
    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.node.delete(path).map_err(|error| self.fail(&error))
    }

    /// Sends NDJSON; the answer is NDJSON.
    pub(super) fn try_post_lines(&self, path: &str, lines: &[u8]) -> Result<String, CallError> {
        self.node.post_lines(path, lines)
    }

    /// An error as the command's failure: operation, reason, way out.
    pub(super) fn fail(&self, error: &CallError) -> Failure {
        let failure = match error {
            CallError::Unreachable(reason) => {
                let (api, start) = (self.node.api(), self.role.start());
                Failure::unreachable(format!(
                    "{reason} at {api}; is the node running? start it with {start}, or name another with --api or --dir"
                ))
            }
            CallError::Refused { status: 404, text } if text.starts_with(NO_ENDPOINT) => {
                Failure::refused(format!("{} {}", self.node.api(), self.role.is_another()))
            }
            CallError::Usage(_) => Failure::usage(error),
            CallError::Refused { .. } => Failure::refused(error),
            CallError::Strange(what) => Failure::refused(format!(
                "{} answers, but not as a node of Tillsync: {what}; check --api",
                self.node.api()
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
            (client.node.api().to_owned(), client.node.token().unwrap().to_owned())
        };
        let in_dir = Where { dir: Some(dir.path().to_owned()), ..Where::default() };
        let typed = Where { api: Some("t:2/".into()), token: Some("of-flag".into()), ..in_dir.clone() };
        assert_eq!(of(Where::default()), ("http://e:1".to_owned(), "of-env".to_owned()));
        assert_eq!(of(in_dir), ("http://127.0.0.1:9".to_owned(), "of-run".to_owned()));
        assert_eq!(of(typed), ("http://t:2".to_owned(), "of-flag".to_owned()));
        let nothing = Where::default().client_in(Role::Hub, "cases", Surroundings::default()).unwrap();
        assert_eq!(nothing.node.api(), "http://127.0.0.1:7480");
    }

    #[test]
    fn a_directory_on_which_nothing_runs_is_exit_3() {
        let dir = tempfile::tempdir().unwrap();
        let at = Where { dir: Some(dir.path().to_owned()), ..Where::default() };
        let failure = at.client(Role::Till, "status").err().unwrap();
        assert_eq!(failure.code, 3);
        assert!(failure.message.contains("it is no data directory; check --dir"), "{failure}");
        for (made, start) in [("identity", "terminal run"), ("hub.json", "hub run")] {
            std::fs::create_dir(dir.path().join(made)).unwrap();
            let failure = at.client(Role::Hub, "policy set").err().unwrap();
            assert!(failure.message.contains(&format!("tillsync {start}")), "{failure}");
        }
    }
}
