//! `hub ca`: the company's certificate authority, replaced on a plan or in a hurry.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{Role, Where};
use super::out::Out;
use super::setup::{ask_hub, span};
use super::table::Table;
use super::words::{local_time, text};
use crate::error::Failure;

/// The company's certificate authority
#[derive(Debug, clap::Subcommand)]
pub(super) enum Ca {
    /// Which authority signs, which former ones are still believed, how long certificates live
    Show(Show),
    /// Make a new authority; tills fetch certificates of it by themselves
    Rotate(Rotate),
    /// End every former authority now; tills that have not come since must be enrolled anew
    Drop(Drop),
}

/// Shows the authority.
#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    at: Where,
}

/// Makes a new authority.
#[derive(Debug, clap::Args)]
pub(super) struct Rotate {
    /// How long certificates of the old one stay fully good; afterwards they can only be renewed, within the grace time
    #[arg(long, value_name = "TIME", default_value = "14d", value_parser = overlap)]
    overlap: Duration,
    #[command(flatten)]
    at: Where,
}

/// Ends former authorities.
#[derive(Debug, clap::Args)]
pub(super) struct Drop {
    #[command(flatten)]
    at: Where,
}

impl Ca {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        match self {
            Self::Show(show) => {
                let view = show.at.client(Role::Hub, "hub ca show")?.get("/v1/authority")?;
                if out.json() { out.document(&view) } else { out.text(&page(&view)) }
            }
            Self::Rotate(rotate) => {
                let seconds = rotate.overlap.as_secs();
                let body = json!({"overlap_seconds": seconds});
                let offline = |dir: &Path| {
                    crate::hub::authority_offline(dir, |hub| hub.rotate_authority(seconds, "admin"))
                };
                let view = ask_hub(&rotate.at, "hub ca rotate", "/v1/authority/rotate", &body, offline)?;
                if out.json() {
                    return out.document(&view);
                }
                out.text(&format!("{}\nOpen join codes have ended; make new ones.\n", page(&view)))
            }
            Self::Drop(drop) => {
                let offline = |dir: &Path| {
                    crate::hub::authority_offline(dir, |hub| hub.drop_former_authorities("admin"))
                };
                let view = ask_hub(&drop.at, "hub ca drop", "/v1/authority/drop", &json!({}), offline)?;
                if out.json() { out.document(&view) } else { out.text(&page(&view)) }
            }
        }
    }
}

fn page(view: &Value) -> String {
    let mut list = Table::list();
    list.row(["signs", &text(&view["fingerprint"])]);
    for former in view["former"].as_array().into_iter().flatten() {
        let until = format!(
            "{} good until {}, renewable until {}",
            text(&former["fingerprint"]),
            local_time(&former["full_until"]),
            local_time(&former["renew_until"])
        );
        list.row(["former", &until]);
    }
    let days = |seconds: &Value| format!("{} days", seconds.as_u64().unwrap_or(0) / 86_400);
    list.row(["certificates live", &days(&view["life_seconds"])]);
    list.row(["and can be renewed", &format!("{} after that", days(&view["grace_seconds"]))]);
    list.set()
}

fn overlap(text: &str) -> Result<Duration, String> {
    span(text)
        .filter(|time| time.as_secs() <= 366 * 86_400)
        .ok_or_else(|| format!("{text:?} is not a time of at most a year; write it like 0s, 12h or 14d"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_until_when_former_authorities_are_believed() {
        let page = page(&json!({
            "fingerprint": "ab", "since": null, "life_seconds": 2_592_000, "grace_seconds": 34_560_000,
            "former": [{"fingerprint": "cd", "full_until": "x", "renew_until": "y"}]
        }));
        assert!(page.contains("cd good until x, renewable until y") && page.contains("30 days"), "{page}");
        assert_eq!(overlap("14d"), Ok(Duration::from_secs(14 * 86_400)));
        assert_eq!(overlap("0s"), Ok(Duration::ZERO));
        assert!(overlap("400d").is_err() && overlap("soon").is_err());
    }
}
