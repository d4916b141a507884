//! `db webhook`: who is told of changes in the books. At the database; no hub needs to run.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::db::named;
use super::out::Out;
use super::table::{Side, Table};
use super::words::{age, local_time, text, text_or_dash};
use crate::central::webhooks::Standing;
use crate::central::webhooks::desk::{self, Listed, Wanted};
use crate::database::{Link, schema};
use crate::error::Failure;
use crate::runtime::clock::rfc3339;

/// Webhooks (docs/database.md)
#[derive(Debug, clap::Subcommand)]
pub(super) enum Webhook {
    /// Deliver every change to an address from now on; prints the secret that deliveries are signed with, once
    ///
    /// A webhook is told of all hubs whose logs are in the database. Deliveries follow the convention of Standard Webhooks.
    Add(Add),
    /// List webhooks, how far behind each is, and what went wrong last
    List,
    /// End a webhook; what waits for it is not delivered
    Remove(Named),
    /// Stop deliveries; changes wait
    Pause(Named),
    /// Go on where deliveries stopped, also after the receiver answered 410
    Resume(Named),
    /// Send a delivery without changes, once, from this machine
    Test(Named),
}

/// Adds a webhook.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// Data directory of a hub that keeps its log in the database
    #[arg(long)]
    dir: PathBuf,
    /// Where to: https, or http on this very machine
    #[arg(long)]
    url: String,
    /// Only changes of this topic; may be repeated [receipt, custody, journal_entry, case, case_ended, store_day, export,
    /// store_emptied]
    #[arg(long = "topic", value_name = "TOPIC")]
    topics: Vec<String>,
    /// Only changes of this store; may be repeated
    #[arg(long = "store", value_name = "STORE")]
    stores: Vec<String>,
    /// Begin with the oldest change that the feed holds instead of the next one
    #[arg(long)]
    from_start: bool,
}

/// Names a webhook.
#[derive(Debug, clap::Args)]
pub(super) struct Named {
    /// The webhook, as `db webhook list` shows it
    #[arg(value_name = "ID")]
    id: String,
}

impl Webhook {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::Add(add) => add.run(out).map_err(|failure| failure.during("db webhook add")),
            Self::List => list(out).map_err(|failure| failure.during("db webhook list")),
            Self::Remove(at) => at.remove(out).map_err(|failure| failure.during("db webhook remove")),
            Self::Pause(at) => at.pause(out, true).map_err(|failure| failure.during("db webhook pause")),
            Self::Resume(at) => at.pause(out, false).map_err(|failure| failure.during("db webhook resume")),
            Self::Test(at) => at.test(out).map_err(|failure| failure.during("db webhook test")),
        }
    }
}

/// A connection to the database that the process was given; its schema must be this program's.
async fn connected() -> Result<Link, Failure> {
    let link = Link::connect(&named()?, "db webhook").await.map_err(Failure::refused)?;
    let found = schema::version(&link).await.map_err(Failure::refused)?;
    schema::check(found).map_err(Failure::refused)?;
    if found < schema::VERSION {
        return Err(Failure::refused(format!(
            "the schema has version {found}, webhooks need {}; run `tillsync db migrate`",
            schema::VERSION
        )));
    }
    Ok(link)
}

impl Add {
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let wanted = Wanted {
            url: self.url.clone(),
            topics: self.topics.clone(),
            stores: self.stores.clone(),
            from_start: self.from_start,
        };
        desk::check(&self.dir, &wanted)?;
        let added = crate::runtime::block_on(async { desk::add(&connected().await?, wanted).await })?;
        let secret = added.secret.written();
        if out.json() {
            return out.document(&json!({
                "id": added.id,
                "url": added.url,
                "secret": secret.as_str(),
                "topics": added.filter.topics,
                "stores": added.filter.stores,
            }));
        }
        out.text(&format!(
            "{} is told of changes as webhook {}.\nIts deliveries are signed with\n\n    {}\n\nThis is shown once: give it \
            to the receiver. `tillsync db webhook test {}` tries the way there.",
            added.url,
            added.id,
            secret.as_str(),
            added.id
        ))
    }
}

impl Named {
    fn remove(&self, out: &mut Out) -> Result<(), Failure> {
        crate::runtime::block_on(async { desk::remove(&connected().await?, &self.id).await })?;
        if out.json() {
            return out.document(&json!({"id": self.id, "removed": true}));
        }
        out.text(&format!("{} is removed; nothing more is delivered.", self.id))
    }

    fn pause(&self, out: &mut Out, pauses: bool) -> Result<(), Failure> {
        let state =
            crate::runtime::block_on(async { desk::pause(&connected().await?, &self.id, pauses).await })?;
        if out.json() {
            return out.document(&json!({"id": self.id, "state": state.as_str()}));
        }
        let said = if pauses { "is paused; changes wait for it" } else { "goes on where it stopped" };
        out.text(&format!("{} {said}.", self.id))
    }

    fn test(&self, out: &mut Out) -> Result<(), Failure> {
        let message = crate::runtime::block_on(async { desk::test(&connected().await?, &self.id).await })?;
        if out.json() {
            return out.document(&json!({"id": self.id, "message_id": message, "accepted": true}));
        }
        out.text(&format!("{}: the receiver accepted {message}.", self.id))
    }
}

fn list(out: &mut Out) -> Result<(), Failure> {
    let all = crate::runtime::block_on(async { desk::list(&connected().await?).await })?;
    let all: Vec<Value> = all.iter().map(view).collect();
    if out.json() {
        return out.document(&all);
    }
    if all.is_empty() {
        return out.text("There are no webhooks.");
    }
    let columns = ["webhook", "state", "to", "topics", "stores", "behind", "last success", "last error"];
    let side = |name| (name, if name == "behind" { Side::Right } else { Side::Left });
    let mut table = Table::new(&columns.map(side));
    let listed = |value: &Value| {
        let words = value.as_array().map(|words| words.iter().map(text).collect::<Vec<_>>().join(", "));
        words.unwrap_or_else(|| "all".to_owned())
    };
    for webhook in &all {
        let newest = |field: &str| {
            let logs = webhook["logs"].as_array().into_iter().flatten();
            logs.map(|log| log[field].clone()).max_by_key(text).unwrap_or_default()
        };
        let failing = webhook["failing_seconds"].as_u64().filter(|_| webhook["state"] == "active");
        let state = match failing {
            Some(seconds) => format!("failing for {}", age(seconds)),
            None => text(&webhook["state"]),
        };
        table.row([
            text(&webhook["id"]),
            state,
            text(&webhook["url"]),
            listed(&webhook["topics"]),
            listed(&webhook["stores"]),
            text(&webhook["behind"]),
            text_or_dash(&Value::String(local_time(&newest("last_success_at")))),
            text_or_dash(&webhook["last_error"]),
        ]);
    }
    out.text(&table.set())
}

/// A webhook as JSON, with how it stands in the feed of each log.
fn view((subscription, standings): &Listed) -> Value {
    let logs: Vec<Value> = standings
        .iter()
        .map(|row| {
            json!({
                "hub": data_encoding::HEXLOWER.encode(&row.log_id),
                "delivered_seq": row.delivered_seq,
                "last_seq": row.last_seq,
                "behind": row.behind(),
                "last_success_at": row.last_success_ms.map(rfc3339),
                "last_error": row.last_error,
                "last_error_at": row.last_error_ms.map(rfc3339),
                "failing_since": row.failing_since_ms.map(rfc3339),
                "failures": row.failures,
            })
        })
        .collect();
    let worst = standings.iter().filter_map(|row| row.failing_ms).max();
    let error = standings.iter().max_by_key(|row| row.last_error_ms).and_then(|row| row.last_error.clone());
    json!({
        "id": subscription.id,
        "url": subscription.url,
        "topics": subscription.filter.topics,
        "stores": subscription.filter.stores,
        "state": subscription.state.as_str(),
        "created_at": rfc3339(subscription.created_ms),
        "behind": standings.iter().map(Standing::behind).sum::<i64>(),
        "failing_seconds": worst.map(|ms| ms / 1_000),
        "last_error": error,
        "logs": logs,
    })
}
