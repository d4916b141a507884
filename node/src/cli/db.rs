//! `db`: the schema of the database that hubs keep their logs in. No hub needs to run.

use std::path::PathBuf;

use serde_json::{Value, json};

use super::out::Out;
use super::webhook::Webhook;
use super::words::text;
use crate::backup;
use crate::database::{Database, Link, schema};
use crate::error::Failure;

/// The database that a hub keeps its log in (docs/database.md)
#[derive(Debug, clap::Subcommand)]
pub(super) enum Db {
    /// Bring the schema to this program's version; a starting hub does it too, if its role may
    Migrate,
    /// Say which version the schema has
    Status,
    /// Let a role of the database read the views of the books (schema ledger), and nothing else
    Grant(Grant),
    /// Tell other systems of every change in the books, by signed HTTP requests
    #[command(subcommand)]
    Webhook(Webhook),
    /// Go on with a database that has less than the hub acknowledged, when the newer one is lost for good
    ///
    /// A database that was restored from an older copy, or a standby that lacked the newest commits, is refused by the hub. This
    /// accepts it; the hub then takes back from the tills what they hold before it records anything, as after `tillsync
    /// restore`.
    AcceptLoss(AcceptLoss),
}

/// Accepts an older copy.
#[derive(Debug, clap::Args)]
pub(super) struct AcceptLoss {
    /// Data directory of the hub
    #[arg(long)]
    dir: PathBuf,
}

impl AcceptLoss {
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let done = backup::accept_loss(&self.dir).map_err(|failure| failure.during("db accept-loss"))?;
        if out.json() {
            return out.document(&done);
        }
        out.text(&format!(
            "{} of {} entries are missing in the database. Start the hub and let a till of each store meet it.",
            text(&done["missing"]),
            text(&done["known"])
        ))
    }
}

/// Lets a role read.
#[derive(Debug, clap::Args)]
pub(super) struct Grant {
    /// The role; it must be there (`CREATE ROLE accounting LOGIN PASSWORD '…'`)
    #[arg(value_name = "ROLE")]
    role: String,
}

impl Grant {
    fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let granted = crate::runtime::block_on(async {
            let database = named()?;
            let link = Link::connect(&database, "db").await.map_err(Failure::refused)?;
            schema::grant(&link, &self.role).await.map_err(Failure::refused)?;
            Ok::<_, Failure>(json!({"database": database.shown(), "role": self.role}))
        });
        let granted = granted.map_err(|failure| failure.during("db grant"))?;
        if out.json() {
            return out.document(&granted);
        }
        out.text(&format!(
            "{}: {} may read the views of schema ledger.",
            text(&granted["database"]),
            self.role
        ))
    }
}

impl Db {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let (operation, migrates) = match self {
            Db::Migrate => ("db migrate", true),
            Db::Status => ("db status", false),
            Db::Grant(grant) => return grant.run(out),
            Db::Webhook(webhook) => return webhook.run(out),
            Db::AcceptLoss(accept) => return accept.run(out),
        };
        let done = crate::runtime::block_on(look(migrates)).map_err(|failure| failure.during(operation))?;
        if out.json() {
            return out.document(&done);
        }
        let (place, version) = (text(&done["database"]), text(&done["version"]));
        let known = text(&done["known"]);
        out.text(&match done["migrated_from"].as_i64() {
            Some(from) => format!("{place}: the schema was brought from version {from} to {version}."),
            None if version == known => format!("{place}: the schema has version {version}, this program's."),
            None => format!(
                "{place}: the schema has version {version}, this program knows {known}; run `tillsync db migrate`."
            ),
        })
    }
}

/// The database that the process was given.
pub(super) fn named() -> Result<Database, Failure> {
    Database::of_process().map_err(Failure::refused)?.ok_or_else(|| {
        Failure::usage("no database was named; give --database or the variable TILLSYNC_DATABASE")
    })
}

async fn look(migrates: bool) -> Result<Value, Failure> {
    let database = named()?;
    let link = Link::connect(&database, "db").await.map_err(Failure::refused)?;
    let found = schema::version(&link).await.map_err(Failure::refused)?;
    schema::check(found).map_err(Failure::refused)?;
    let mut answer = json!({"database": database.shown(), "version": found, "known": schema::VERSION});
    if migrates {
        let done = schema::migrate(&link).await.map_err(Failure::refused)?;
        answer["version"] = json!(done.to);
        if done.from != done.to {
            answer["migrated_from"] = json!(done.from);
        }
    }
    Ok(answer)
}
