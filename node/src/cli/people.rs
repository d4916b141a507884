//! `hub people`: who may do what at the hub. Tokens are printed once, by the command that makes them.

use serde_json::json;

use super::client::{Role, Where, escape};
use super::out::Out;
use super::table::{Side, Table};
use super::words::{local_time, text};
use crate::error::Failure;

/// Who may do what at the hub
#[derive(Debug, clap::Subcommand)]
pub(super) enum People {
    /// Everybody with access
    List(List),
    /// Give somebody access, or a new role and token
    Add(Add),
    /// End somebody's access at once
    Remove(Remove),
}

/// Lists everybody with access.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    #[command(flatten)]
    at: Where,
}

/// Gives somebody access. The token is printed once.
#[derive(Debug, clap::Args)]
pub(super) struct Add {
    /// Name, as decisions and the audit log will have it
    #[arg(long)]
    name: String,
    /// viewer (looks), reviewer (decides, locks, exports) or admin (enrols, sets policies)
    #[arg(long)]
    role: String,
    #[command(flatten)]
    at: Where,
}

/// Ends somebody's access.
#[derive(Debug, clap::Args)]
pub(super) struct Remove {
    /// Name
    #[arg(long)]
    name: String,
    #[command(flatten)]
    at: Where,
}

impl People {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::List(list) => {
                let people = list.at.client(Role::Hub, "hub people")?.get("/v1/people")?;
                if out.json() {
                    return out.document(&people);
                }
                let mut table =
                    Table::new(&[("Name", Side::Left), ("Role", Side::Left), ("Since", Side::Left)]);
                for person in people.as_array().into_iter().flatten() {
                    table.row([text(&person["name"]), text(&person["role"]), local_time(&person["since"])]);
                }
                if table.is_empty() {
                    return out.text("Nobody but the admin, who holds the token of `hub init`.");
                }
                out.text(&table.set())
            }
            Self::Add(add) => {
                let body = json!({"name": add.name, "role": add.role});
                let person = add.at.client(Role::Hub, "hub people add")?.post("/v1/people", &body)?;
                if out.json() {
                    return out.document(&person);
                }
                let (name, role, token) =
                    (text(&person["name"]), text(&person["role"]), text(&person["token"]));
                out.text(&format!("{name} is a {role}. Token, shown once:\n\n  {token}\n"))
            }
            Self::Remove(remove) => {
                let client = remove.at.client(Role::Hub, "hub people remove")?;
                let person = client.delete(&format!("/v1/people/{}", escape(&remove.name)))?;
                if out.json() {
                    return out.document(&person);
                }
                out.text(&format!("{} has no access any more.", text(&person["name"])))
            }
        }
    }
}
