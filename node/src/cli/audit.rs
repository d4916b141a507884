//! `audit`: what happened on a node, from its own event log; with `--follow` for as long as one looks. It reads
//! numbered events and asks for those after the last it saw, so that none is missed and none shown twice.

use std::time::Duration;

use serde_json::Value;

use super::client::{CallError, Client, Role, Where, with_query};
use super::out::Out;
use super::words::{local_time, one_line, text};
use crate::error::Failure;

/// Events that a node keeps for reading: no more can come in one answer.
const EVENTS_KEPT: u64 = 20_000;
/// Events shown before following starts.
const SHOWN_BEFORE: u64 = 20;
/// Time between two questions while following.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(500);

/// What happened on a node: connections, batches, refusals, administration
///
/// Shows what happened on a node: connections, batches, refusals, enrolments, administration. Asks the hub, or a till
/// with --api or --dir. With --json a list; while following, one line an event.
#[derive(Debug, clap::Args)]
pub(super) struct Audit {
    /// Keep showing events as they happen
    #[arg(long, short)]
    follow: bool,
    /// Only the last so many events
    #[arg(long, value_name = "N")]
    last: Option<u64>,
    /// Only events after this number
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    #[command(flatten)]
    at: Where,
}

impl Audit {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let client = self.at.client(Role::Hub, "audit")?;
        // Following from a stated number misses nothing; otherwise it begins with a few events for orientation.
        let few = self.follow && self.after == 0;
        let limit = self.last.unwrap_or(if few { SHOWN_BEFORE } else { EVENTS_KEPT });
        let events = read(&client, self.after, limit).map_err(|error| client.fail(&error))?;
        if !self.follow {
            return if out.json() { out.document(&events) } else { out.text(&lines(&events)) };
        }
        let mut after = self.after;
        show(&events, &mut after, out)?;
        loop {
            std::thread::sleep(FOLLOW_INTERVAL);
            let events = read(&client, after, EVENTS_KEPT).map_err(|error| gone(&client, &error, after))?;
            show(&events, &mut after, out)?;
        }
    }
}

fn read(client: &Client, after: u64, limit: u64) -> Result<Value, CallError> {
    let (after, limit) = (after.to_string(), limit.to_string());
    client.try_get(&with_query("/v1/audit", &[("after", Some(&after)), ("limit", Some(&limit))]))
}

/// Shows events while following, and moves on to the last of them.
fn show(events: &Value, after: &mut u64, out: &mut Out) -> Result<(), Failure> {
    if out.json() {
        events.as_array().into_iter().flatten().try_for_each(|event| out.document(event))?;
    } else {
        out.text(&lines(events))?;
    }
    let last = events.as_array().into_iter().flatten().filter_map(|event| event["number"].as_u64()).max();
    *after = last.unwrap_or(0).max(*after);
    Ok(())
}

fn gone(client: &Client, error: &CallError, after: u64) -> Failure {
    let failure = client.fail(error);
    Failure { message: format!("{}. Go on with --follow --after {after}", failure.message), ..failure }
}

/// One line an event: they come one by one, so no column can wait for the widest.
fn lines(events: &Value) -> String {
    let mut page = String::new();
    for event in events.as_array().into_iter().flatten() {
        let who = [text(&event["store"]), text(&event["who"])].into_iter().filter(|part| !part.is_empty());
        let who = who.collect::<Vec<_>>().join(" ");
        let line = format!(
            "{:>6}  {}  {:<14}  {:<24}  {}",
            text(&event["number"]),
            local_time(&event["at"]),
            text(&event["event"]),
            who,
            text(&event["detail"]),
        );
        page.push_str(&one_line(&line));
        page.push('\n');
    }
    page
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::out::Page;
    use super::super::stand_in::{StandIn, response};
    use super::*;

    fn audit(node: &StandIn, follow: bool) -> Audit {
        Audit { follow, last: None, after: 0, at: Where { api: Some(node.api()), ..Where::default() } }
    }

    #[test]
    fn events_are_one_line_each() {
        let events = json!([{"number": 7, "at": "t", "store": "s1", "who": "till-01", "event": "enrolled", "detail": "a\nb"}]);
        assert_eq!(lines(&events), "     7  t  enrolled        s1 till-01                a b\n");
    }

    #[test]
    fn without_following_json_is_one_list() {
        let node = StandIn::routes(&[("/v1/audit?after=0&limit=20000", r#"[{"number":1},{"number":2}]"#)]);
        let page = Page::default();
        audit(&node, false).run(&mut Out::to(page.clone(), true)).unwrap();
        assert_eq!(page.read(), "[{\"number\":1},{\"number\":2}]\n");
    }

    #[test]
    fn following_asks_for_what_came_after_and_says_how_to_go_on_when_the_node_is_gone() {
        let mut asked = 0;
        let node = StandIn::serve(move |request| {
            asked += 1;
            let want = [
                "/v1/audit?after=0&limit=20",
                "/v1/audit?after=2&limit=20000",
                "/v1/audit?after=3&limit=20000",
            ];
            if request.path != want[asked - 1] || asked == 3 {
                return Vec::new();
            }
            response(
                200,
                "application/json",
                ["[{\"number\":1},{\"number\":2}]", "[{\"number\":3}]"][asked - 1],
            )
        });
        let page = Page::default();
        let failure = audit(&node, true).run(&mut Out::to(page.clone(), true)).unwrap_err();
        assert_eq!(page.read(), "{\"number\":1}\n{\"number\":2}\n{\"number\":3}\n");
        assert_eq!(failure.code, 3);
        assert!(failure.message.ends_with("--follow --after 3"), "{failure}");
    }
}
