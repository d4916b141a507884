//! `run.json` in a data directory: where the node that holds it can be asked, and a token for its owner's commands.
//! Readable by the owner only; gone when the node stops properly.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// What `run.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunFile {
    /// Process that wrote it.
    pub pid: u32,
    /// Address of the local API.
    pub http: String,
    /// Address of the QUIC listener (hub).
    pub quic: Option<String>,
    /// A token with all rights, valid while the process lives (hub).
    pub token: Option<String>,
}

/// Removes the file when the node stops.
pub struct RunFileGuard(PathBuf);

impl RunFile {
    /// Writes the file for as long as the guard lives.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn publish(&self, dir: &Path) -> std::io::Result<RunFileGuard> {
        let path = dir.join("run.json");
        let aside = dir.join("run.json.new");
        let _ = fs::remove_file(&aside);
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&aside)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        fs::rename(&aside, &path)?;
        Ok(RunFileGuard(path))
    }

    /// Reads the file of a directory, if a node left one.
    #[must_use]
    pub fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(dir.join("run.json")).ok()?).ok()
    }
}

impl Drop for RunFileGuard {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
