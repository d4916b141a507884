//! `backup` and `restore`: copies of a node's directory that can be trusted, and the way back.

use std::path::PathBuf;

use super::out::Out;
use super::words::text;
use crate::error::Failure;

/// Copy the data directory of a running or stopped node to a new directory, consistent and verified
///
/// Everything that was acknowledged before the command began is in the copy. An encrypted directory gives an encrypted
/// backup under the same key, which is needed to verify it. A backup is not run: `tillsync restore` brings it back.
#[derive(Debug, clap::Args)]
pub(super) struct Backup {
    /// Data directory of the node
    #[arg(long)]
    dir: PathBuf,
    /// New directory for the backup
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Bring a backup back into a new directory, for a till or hub to run on
///
/// The node that runs there takes back from the hub (a hub: from its tills) what the backup lacks before it records
/// anything. The old directory must not run any more: two nodes with one key are a cloned terminal.
#[derive(Debug, clap::Args)]
pub(super) struct Restore {
    /// Directory of the backup
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// New data directory
    #[arg(long)]
    dir: PathBuf,
}

impl Backup {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let made = crate::backup::backup(&self.dir, &self.to)?;
        if out.json() {
            return out.document(&made);
        }
        let records = text(&made["checked"]["records"]);
        out.text(&format!(
            "{}: {records} records, verified; made at {}",
            self.to.display(),
            text(&made["made_at"])
        ))
    }
}

impl Restore {
    pub(super) fn run(&self, out: &mut Out) -> Result<(), Failure> {
        let made = crate::backup::restore(&self.from, &self.dir)?;
        if out.json() {
            return out.document(&made);
        }
        let records = text(&made["checked"]["records"]);
        out.text(&format!(
            "{}: {records} records of {}, verified. Run the node there: before it records anything it takes back what the \
             other nodes hold.",
            self.dir.display(),
            text(&made["made_at"])
        ))
    }
}
