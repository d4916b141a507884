//! `doctor`: what is wrong with the node of a directory and what to do next. `crate::doctor` looks; here the node is
//! asked, if it runs, and the findings are shown.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::client::{CallError, Client, Role as ApiRole};
use super::out::Out;
use super::words::one_line;
use crate::doctor::{Addresses, Answers, Finding, Node, Role, State, examine, role_of};
use crate::error::Failure;
use crate::runtime::run_file::RunFile;
use crate::storage::is_in_use;

/// Say what is wrong with a till or hub on this machine, and what to do next
///
/// Looks at certificate, clock, disk, ports, key, versions, the way to the hub and what has not reached it. The node may
/// run or not; nothing is repaired and nothing is changed. Exit code 1 if something is wrong, 0 if nothing is (notes are
/// not wrong).
#[derive(Debug, clap::Args)]
pub(super) struct Doctor {
    /// Data directory of the till or hub
    #[arg(long)]
    dir: PathBuf,
    /// HTTP address that the node will listen on, if it does not run; otherwise the usual one
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Address for tills that the hub will listen on, if it does not run
    #[arg(long, value_name = "ADDR", default_value = "0.0.0.0:7440")]
    listen: String,
    /// HTTP address of the hub, to try from a till as well
    #[arg(long, value_name = "URL")]
    hub_http: Option<String>,
}

impl Doctor {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let (role, found) = match role_of(&self.dir) {
            Ok(role) => (Some(role), self.examine(role)?),
            Err(finding) => (None, vec![finding]),
        };
        let wrong = found.iter().filter(|it| it.state == State::Wrong).count();
        if out.json() {
            out.document(&json!({"well": wrong == 0, "dir": self.dir, "role": role, "checks": found}))?;
        } else {
            out.text(&page(&found, out.colours()))?;
        }
        match wrong {
            0 => Ok(()),
            1 => Err(Failure::refused("doctor: one thing is wrong; what to do is said beside it")),
            many => Err(Failure::refused(format!(
                "doctor: {many} things are wrong; what to do is said beside each"
            ))),
        }
    }

    fn examine(&self, role: Role) -> Result<Vec<Finding>, Failure> {
        let usual = if role == Role::Hub { "127.0.0.1:7480" } else { "127.0.0.1:7401" };
        let at = Addresses {
            http: self.http.clone().unwrap_or_else(|| usual.to_owned()),
            listen: self.listen.clone(),
        };
        let mut found = examine(&self.dir, role, &self.node(role), &at);
        if let Some(api) = &self.hub_http {
            let client = Client::new(api, None, ApiRole::Hub, "doctor")?;
            found.push(match client.try_get_text("/healthz") {
                Ok(_) => Finding::well("hub http", format!("{api} answers")),
                Err(error) => Finding::wrong(
                    "hub http",
                    format!("{api} does not answer as a hub does: {error}"),
                    "check the address and any proxy before it; selling does not need it",
                ),
            });
        }
        Ok(found)
    }

    /// What the directory's node says of itself.
    fn node(&self, role: Role) -> Node {
        match is_in_use(&self.dir) {
            Ok(false) => return Node::Stopped,
            Ok(true) => {}
            Err(error) => return Node::Silent(error.to_string()),
        }
        let run = match RunFile::read(&self.dir) {
            Ok(Some(run)) => run,
            Ok(None) => return Node::Silent("it has not said yet where it can be asked".to_owned()),
            Err(error) => return Node::Silent(format!("its token cannot be read: {error}")),
        };
        self.ask(role, run).unwrap_or_else(Node::Silent)
    }

    fn ask(&self, role: Role, run: RunFile) -> Result<Node, String> {
        let api = if role == Role::Hub { ApiRole::Hub } else { ApiRole::Till };
        let client = Client::new(&run.http, run.token, api, "doctor").map_err(|error| error.to_string())?;
        let get = |path: &str| client.try_get(path).map_err(|error: CallError| error.to_string());
        let metrics = client.try_get_text("/metrics").map_err(|error| error.to_string())?;
        let (status, terminals, alarms) = match role {
            Role::Till => (get("/v1/status")?, Value::Null, Value::Null),
            Role::Hub => (get("/v1/stores")?, get("/v1/terminals")?, get("/v1/alarms")?),
        };
        let poisoned = metrics.lines().any(|line| line == "tillsync_storage_poisoned 1");
        let built = metrics.lines().find(|line| line.starts_with("tillsync_build_info"));
        let software =
            built.and_then(|line| Some(line.split("version=\"").nth(1)?.split('"').next()?.to_owned()));
        let (pid, http, quic) = (run.pid, run.http, run.quic);
        Ok(Node::Running(Answers { pid, http, quic, software, status, terminals, alarms, poisoned }))
    }
}

/// One line a finding, and below it what to do.
fn page(found: &[Finding], colours: bool) -> String {
    let widest = found.iter().map(|it| it.check.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in found {
        let (mark, colour) = match finding.state {
            State::Well => ("ok   ", "32"),
            State::Note => ("note ", "33"),
            State::Wrong => ("WRONG", "31;1"),
            State::Unknown => ("?    ", "2"),
        };
        let mark = if colours { format!("\u{1b}[{colour}m{mark}\u{1b}[0m") } else { mark.to_owned() };
        text.push_str(&format!("{mark}  {:widest$}  {}\n", finding.check, one_line(&finding.found)));
        if let Some(next) = &finding.next {
            text.push_str(&format!("{:7}{:widest$}  → {}\n", "", "", one_line(next)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_to_do_below_what_was_found_and_is_coloured_only_when_asked() {
        let found = [Finding::well("disk", "1 MiB free"), Finding::wrong("clock", "off", "set it")];
        let plain = page(&found, false);
        assert_eq!(plain, "ok     disk   1 MiB free\nWRONG  clock  off\n              → set it\n");
        assert!(page(&found, true).starts_with("\u{1b}[32mok   \u{1b}[0m"));
    }
}
