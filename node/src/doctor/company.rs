//! What nodes know of each other: whether the hub is there and would let the till in, what has not reached it and since
//! when, which versions run.

use std::net::SocketAddr;
use std::path::Path;

use serde_json::Value;

use super::directory::Told;
use super::{Answers, Finding, Node, Role, age, seconds_since};
use crate::identity::{Enrolment, Identity, PublicKey};
use crate::runtime::clock::now_ms;
use crate::transport::{DialError, Settings, probe};

/// What waits for longer is more than a bad line (as the alert `TillsyncQueueOld`).
const WAITING_OLD_SECONDS: u64 = 4 * 3_600;
/// A till that has not met its hub for longer is worth knowing.
const CONTACT_OLD_SECONDS: u64 = 86_400;

/// Whether a till's hub can be reached and would let it in. A till that is connected need not try.
pub(super) fn hub_of_till(
    dir: &Path,
    papers: Option<(Enrolment, Identity)>,
    node: &Node,
    found: &mut Vec<Finding>,
) {
    if let Node::Running(answers) = node
        && answers.status["online"] == true
    {
        return found.push(Finding::well("hub", "the till is connected to it"));
    }
    let Some((enrolment, identity)) = papers else {
        return found.push(Finding::unknown("hub", "without its certificate the till cannot ask"));
    };
    let asked = crate::runtime::block_on(async {
        Ok::<_, crate::error::Failure>(ask_hubs(&enrolment, &identity).await)
    });
    found.push(asked.unwrap_or_else(|error| Finding::unknown("hub", error.to_string())));
    if found.last().is_some_and(|it| it.state == super::State::Wrong) && dir.join("run.json").exists() {
        let next = "tillsync audit --dir DIR --last 20 says what the node itself met";
        found.push(Finding::note("hub", "the running till has no line to it", next));
    }
}

/// All hubs that the till knows of, at once: one that lets it in is enough, and of the others the first says what is wrong.
async fn ask_hubs(enrolment: &Enrolment, identity: &Identity) -> Finding {
    let hubs = enrolment.hubs();
    if hubs.is_empty() {
        let next = "enrol the device anew in an empty directory";
        return Finding::wrong("hub", format!("{:?} is no address", enrolment.hub_address), next);
    }
    let mut asking = Vec::new();
    for name in hubs {
        let (key, identity) = (enrolment.hub_public_key, identity.clone());
        asking.push(tokio::spawn(async move { knock(name.as_str(), &key, &identity).await.map(|()| name) }));
    }
    let mut first = None;
    for asked in asking {
        match asked.await {
            Ok(Ok(name)) => {
                return Finding::well("hub", format!("{name} answers and would let this till in"));
            }
            Ok(Err(finding)) => first = first.or(Some(finding)),
            Err(error) => first = first.or(Some(Finding::unknown("hub", error.to_string()))),
        }
    }
    first.unwrap_or_else(|| Finding::unknown("hub", "nobody could be asked"))
}

async fn knock(name: &str, hub: &PublicKey, identity: &Identity) -> Result<(), Finding> {
    let addresses: Vec<SocketAddr> = match tokio::net::lookup_host(name).await {
        Ok(found) => found.collect(),
        Err(error) => {
            return Err(Finding::wrong(
                "hub",
                format!("the name {name} is not found: {error}"),
                "check this machine's network and its name server (resolvectl query); the till sells meanwhile",
            ));
        }
    };
    let mut last = Finding::wrong("hub", format!("{name} has no address"), "check the name server");
    for address in addresses {
        last = match probe(identity, address, hub, &Settings::default()).await {
            Ok(()) => return Ok(()),
            Err(DialError::Unreachable { reason, .. }) => Finding::wrong(
                "hub",
                format!("{name} ({address}) does not answer: {reason}"),
                "check this machine's network, that UDP to that port is let out, and that the hub runs (on its \
                 machine: tillsync doctor --dir DIR); the till sells meanwhile",
            ),
            // Not at this door: whoever only asks for papers is not sent on.
            Err(DialError::Elsewhere { .. }) => return Ok(()),
            Err(DialError::Ended { reason, .. } | DialError::Refused { reason, .. }) => Finding::wrong(
                "hub",
                format!("{name} ({address}) answers and does not let this till in: {reason}"),
                "at the hub, `tillsync audit --last 50` says why; a till that was revoked or is not enrolled there is \
                 enrolled anew in an empty directory",
            ),
        };
    }
    Err(last)
}

/// When the till last met its hub.
pub(super) fn contact(node: &Node, told: Option<&Told>, found: &mut Vec<Finding>) {
    let finding = match (node, told) {
        (Node::Running(answers), _) => {
            let online = answers.status["online"] == true;
            match (online, seconds_since(&answers.status["since"])) {
                (true, Some(seconds)) => Finding::well("contact", format!("online for {}", age(seconds))),
                (true, None) => Finding::well("contact", "online"),
                (false, Some(seconds)) => late("offline for", seconds),
                (false, None) => never(),
            }
        }
        (Node::Stopped, Some(told)) => match told.heard_ms {
            Some(at_ms) => {
                late("last met the hub before", u64::try_from((now_ms() - at_ms) / 1_000).unwrap_or(0))
            }
            None => never(),
        },
        (Node::Stopped | Node::Silent(_), _) => Finding::unknown("contact", "nobody could be asked"),
    };
    found.push(finding);
}

fn late(words: &str, seconds: u64) -> Finding {
    let text = format!("{words} {}", age(seconds));
    if seconds > CONTACT_OLD_SECONDS {
        return Finding::note("contact", text, "find out why: see hub");
    }
    Finding::well("contact", text)
}

fn never() -> Finding {
    Finding::note("contact", "it has not met the hub since it was started or joined", "see hub")
}

/// What has not reached the hub.
pub(super) fn waiting(node: &Node, told: Option<&Told>, found: &mut Vec<Finding>) {
    let waits = match (node, told) {
        (Node::Running(answers), _) => {
            let waiting = &answers.status["waiting"];
            let values = waiting["value_minor"].as_object().into_iter().flatten();
            let values = values.map(|(currency, minor)| format!("{minor} {currency}")).collect();
            (waiting["count"].as_u64().unwrap_or(0), waiting["oldest_seconds"].as_u64(), values)
        }
        (Node::Stopped, Some(told)) => {
            let values = told.waiting.value_minor.iter();
            let values: Vec<String> = values.map(|(currency, minor)| format!("{minor} {currency}")).collect();
            let age_ms = told.waiting.oldest_ms.map(|oldest| now_ms() - oldest);
            let age = age_ms.and_then(|ms| u64::try_from(ms / 1_000).ok());
            (told.waiting.count, age, values)
        }
        (Node::Stopped | Node::Silent(_), _) => {
            return found.push(Finding::unknown("unsynced", "nobody could be asked"));
        }
    };
    found.push(queue(waits));
}

fn queue((count, oldest_seconds, values): (u64, Option<u64>, Vec<String>)) -> Finding {
    if count == 0 {
        return Finding::well("unsynced", "the hub holds every record");
    }
    let oldest = oldest_seconds.unwrap_or(0);
    let worth =
        if values.is_empty() { String::new() } else { format!(", in minor units {}", values.join(", ")) };
    let records = if count == 1 { "1 record waits".to_owned() } else { format!("{count} records wait") };
    let text = format!("{records} for the hub, the oldest for {}{worth}", age(oldest));
    if oldest > WAITING_OLD_SECONDS {
        let next = "they are safe here as long as this disk is: bring the till and its hub together, see hub";
        return Finding::wrong("unsynced", text, next);
    }
    Finding::note("unsynced", text, "they go out by themselves when the till runs and the hub is reached")
}

/// What a running hub knows of its tills.
pub(super) fn tills_of_hub(node: &Node, found: &mut Vec<Finding>) {
    let Node::Running(answers) = node else {
        return found.push(Finding::unknown("tills", "the hub was not asked"));
    };
    let tills: Vec<&Value> = list(&answers.terminals).filter(|till| till["revoked"] != true).collect();
    let online = tills.iter().filter(|till| till["online"] == true).count();
    let waiting: u64 = tills.iter().filter_map(|till| till["waiting"].as_u64()).sum();
    let text = format!("{online} of {} connected, which say that {waiting} records wait there", tills.len());
    found.push(if online == tills.len() {
        Finding::well("tills", text)
    } else {
        let next = "`tillsync terminals` shows which are not; on such a till: tillsync doctor --dir DIR";
        Finding::note("tills", text, next)
    });
}

fn list(answer: &Value) -> impl Iterator<Item = &Value> {
    answer.as_array().into_iter().flatten()
}

/// Whether this program, the running node and the others are of one version.
pub(super) fn versions(role: Role, node: &Node, found: &mut Vec<Finding>) {
    let Node::Running(answers) = node else { return };
    let here = env!("CARGO_PKG_VERSION");
    found.push(version(role, answers, here));
}

fn version(role: Role, answers: &Answers, here: &str) -> Finding {
    let runs = answers.software.as_deref().unwrap_or(here);
    if runs != here {
        let next = "restart the node, so that it runs what is installed";
        return Finding::note("version", format!("the node runs {runs}, this program is {here}"), next);
    }
    match role {
        Role::Till => {
            let hub = list(&answers.status["peers"])
                .find(|peer| peer["peer"].as_str().is_some_and(|name| name.starts_with("hub")))
                .and_then(|peer| peer["last_status"]["software"].as_str());
            match hub {
                None => Finding::unknown("version", format!("{here} here; the hub has not told its own")),
                Some(hub) if hub == here => Finding::well("version", format!("{here}, as the hub")),
                Some(hub) => Finding::note(
                    "version",
                    format!("{here} here, {hub} at the hub"),
                    "upgrade the hub first, then the tills; docs/operations.md, \"Upgrade\"",
                ),
            }
        }
        Role::Hub => {
            let mut others: Vec<&str> =
                list(&answers.terminals).filter_map(|till| till["software"].as_str()).collect();
            others.retain(|version| *version != here);
            let count = others.len();
            others.sort_unstable();
            others.dedup();
            if count == 0 {
                return Finding::well("version", format!("{here}, as every till that is connected"));
            }
            Finding::note(
                "version",
                format!("{here} here; {count} connected tills run {}", others.join(", ")),
                "`tillsync terminals` shows which; upgrade them one after the other",
            )
        }
    }
}

/// What the node itself wants somebody to look at.
pub(super) fn alarms(role: Role, node: &Node, found: &mut Vec<Finding>) {
    let Node::Running(answers) = node else { return };
    let alarms = if role == Role::Till { &answers.status["alarms"] } else { &answers.alarms };
    let before = found.len();
    found.extend(list(alarms).map(|alarm| {
        let word = |field: &str| alarm[field].as_str().unwrap_or_default().to_owned();
        Finding::wrong(
            "alarm",
            format!("{}: {}: {}", word("about"), word("what"), word("detail")),
            "docs/operations.md, \"What each alert means\", says what to do",
        )
    }));
    if found.len() == before {
        found.push(Finding::well("alarm", "the node raises none"));
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;
    use serde_json::json;

    #[test]
    fn what_waits_is_told_with_its_age_and_value() {
        assert_eq!(queue((0, None, vec![])).state, State::Well);
        let young = queue((1, Some(70), vec!["500 GBP".into()]));
        assert_eq!(young.state, State::Note);
        assert_eq!(
            young.found,
            "1 record waits for the hub, the oldest for 1 minute, in minor units 500 GBP"
        );
        assert_eq!(queue((3, Some(5 * 3_600), vec![])).state, State::Wrong);
    }

    #[test]
    fn versions_that_differ_are_told() {
        let of = |status: Value, terminals: Value, role| {
            version(role, &Answers { status, terminals, ..Answers::default() }, "2.0.0").found
        };
        let older = Answers { software: Some("1.0.0".to_owned()), ..Answers::default() };
        let peers =
            |version: &str| json!({"peers": [{"peer": "hub/1", "last_status": {"software": version}}]});
        assert_eq!(of(peers("2.0.0"), Value::Null, Role::Till), "2.0.0, as the hub");
        assert_eq!(of(peers("1.9.0"), Value::Null, Role::Till), "2.0.0 here, 1.9.0 at the hub");
        let skewed = version(Role::Till, &older, "2.0.0");
        assert_eq!(skewed.found, "the node runs 1.0.0, this program is 2.0.0");
        let tills = json!([{"software": "2.0.0"}, {"software": "1.9.0"}, {"software": null}]);
        assert_eq!(of(Value::Null, tills, Role::Hub), "2.0.0 here; 1 connected tills run 1.9.0");
    }

    #[test]
    fn an_alarm_is_wrong_and_says_whose_it_is() {
        let alarms = json!([{"about": "till-01-1", "what": "cloned", "detail": "runs twice"}]);
        let node = Node::Running(Answers { alarms, ..Answers::default() });
        let mut found = Vec::new();
        super::alarms(Role::Hub, &node, &mut found);
        assert_eq!(
            (found[0].state, found[0].found.as_str()),
            (State::Wrong, "till-01-1: cloned: runs twice")
        );
    }

    #[test]
    fn a_till_that_has_been_away_for_days_is_noted() {
        assert_eq!(late("offline for", 3_600).state, State::Well);
        assert_eq!(late("offline for", 3 * 86_400).state, State::Note);
    }
}
