//! `run.json` in a data directory: where the node that holds it can be asked, and a token for its owner's commands.
//! Readable by the owner only; gone when the node stops properly. In an encrypted directory the token is encrypted, and
//! the addresses are not: to ask a till needs no key.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::storage::vault::{self, Vault};

/// Name that a sealed token is bound to.
const TOKEN: &str = "run.json token";

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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The token of an encrypted directory, as it lies there (hex).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed_token: Option<String>,
}

/// Removes the file when the node stops.
pub struct RunFileGuard(PathBuf);

impl RunFile {
    /// Writes the file for as long as the guard lives.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn publish(&self, dir: &Path) -> Result<RunFileGuard, Failure> {
        let mut shown = self.clone();
        if Vault::of(dir).map_err(Failure::refused)?.is_some() {
            let token = self.token.as_ref().map(|token| vault::cover(dir, TOKEN, token.as_bytes()));
            let token = token.transpose().map_err(Failure::refused)?;
            shown.sealed_token = token.map(|token| data_encoding::HEXLOWER.encode(&token));
            shown.token = None;
        }
        Ok(shown.write(dir)?)
    }

    fn write(&self, dir: &Path) -> std::io::Result<RunFileGuard> {
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
    ///
    /// # Errors
    /// It holds an encrypted token, and the key is missing or another one.
    pub fn read(dir: &Path) -> Result<Option<Self>, Failure> {
        let text = fs::read(dir.join("run.json")).ok();
        let Some(mut file) = text.and_then(|text| serde_json::from_slice::<Self>(&text).ok()) else {
            return Ok(None);
        };
        if let Some(sealed) = &file.sealed_token {
            let sealed = data_encoding::HEXLOWER.decode(sealed.as_bytes()).map_err(Failure::refused)?;
            let token = vault::uncover(dir, TOKEN, sealed).map_err(Failure::refused)?;
            file.token = Some(String::from_utf8(token).map_err(Failure::refused)?);
        }
        Ok(Some(file))
    }
}

impl Drop for RunFileGuard {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
