//! `hub move`: the log of a stopped hub into a database, and out of it.

use std::io::Write;
use std::path::PathBuf;

use super::out::Out;
use super::table::{Side, Table};
use super::words::{count, text};
use crate::database::Database;
use crate::error::Failure;
use crate::moving::{To, give_up, run};

/// Move the log of a stopped hub into a database, or back into files (docs/database.md)
///
/// The copy is checked against its source, entry by entry and store by store, before the hub's directory names the new place. The
/// old log is kept. Cut off at any moment, the same command goes on; until the switch the hub runs where it ran before. Tills notice
/// nothing.
#[derive(Debug, clap::Args)]
pub(super) struct Move {
    /// Data directory of the hub
    #[arg(long)]
    dir: PathBuf,
    /// `files`; `database`, the one that TILLSYNC_DATABASE or --database names; or its address, postgres://…
    #[arg(long, value_name = "PLACE", required_unless_present = "give_up")]
    to: Option<String>,
    /// Spread the stores over so many logs there, so that several hubs can share them; otherwise everything is in one
    #[arg(long, value_name = "N")]
    shards: Option<u16>,
    /// Give up a move that was cut off before its switch; the database as for that move
    #[arg(long, conflicts_with_all = ["to", "shards"])]
    give_up: bool,
}

impl Move {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let named = || {
            Database::of_process().map_err(|error| Failure::refused(error).during("hub move"))?.ok_or_else(|| {
                Failure::usage(
                    "hub move: no database was named; give its address in the variable TILLSYNC_DATABASE, or with --database",
                )
            })
        };
        if self.give_up {
            let done = give_up(&self.dir, &named()?)?;
            return if out.json() {
                out.document(&done)
            } else {
                out.text("The move is given up; the log is where it was.")
            };
        }
        let to = match self.to.as_deref().unwrap_or_default() {
            "files" if self.shards.is_some() => {
                return Err(Failure::usage("hub move: --shards is for a move into a database"));
            }
            "files" => To::Files(named()?),
            "database" => To::Database(named()?, self.shards),
            address => {
                let database = Database::parse(address).map_err(|error| {
                    Failure::usage(format!("hub move: --to is files, database, or an address: {error}"))
                })?;
                To::Database(database, self.shards)
            }
        };
        // Beside the answer: a long move must not look like one that hangs.
        let say = |what: &str| {
            let _ = writeln!(std::io::stderr(), "{what} …");
        };
        let done = run(&self.dir, to, &say)?;
        if out.json() {
            return out.document(&done);
        }
        let mut table = Table::new(&[("Store", Side::Left), ("Records", Side::Right), ("Books", Side::Left)]);
        for (store, books) in done["stores"].as_object().into_iter().flatten() {
            let hash = text(&books["view_hash"]);
            table.row([store, &text(&books["records"]), hash.get(..16).unwrap_or(&hash)]);
        }
        let stores = done["stores"].as_object().map_or(0, serde_json::Map::len) as u64;
        let (place, next) = if done["to"] == "files" {
            (format!("the directory {}", self.dir.display()), "without TILLSYNC_DATABASE")
        } else {
            (format!("the database {}", text(&done["database"])), "with its address in TILLSYNC_DATABASE")
        };
        out.text(&format!(
            "{}\n{} of {} are in {place} now, checked one by one; every store's books are the same.\nThe old log is kept: {}. \
             docs/database.md says how to remove it.\nNext: tillsync hub run --dir {}, {next}\n",
            table.set(),
            count(done["entries"].as_u64().unwrap_or(0), "entry", "entries"),
            count(stores, "store", "stores"),
            text(&done["kept"]),
            self.dir.display(),
        ))
    }
}
