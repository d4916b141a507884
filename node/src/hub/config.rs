//! The hub's configuration file, `hub.json`: company, currency, time zone, and the hash of the admin token. Written
//! once by `hub init`; people may edit it while the hub is stopped, unless the directory is encrypted.

use std::fs;
use std::path::Path;

use engine::money::Currency;
use engine::policy::Policy;
use serde::{Deserialize, Serialize};

use crate::error::Failure;
use crate::identity::Terms;
use crate::runtime::clock::Clock;
use crate::storage::{manifest, private, vault};

/// Name of the file.
const FILE: &str = "hub.json";

/// Lives of certificates that make sense: from a few seconds (for trying it out) to what browsers once allowed.
const LIFE_SECONDS: std::ops::RangeInclusive<u64> = 3..=825 * 86_400;

/// What `hub.json` says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubConfig {
    /// Company name, as in the certificate authority.
    pub company: String,
    /// Currency of every store unless its policy says otherwise.
    pub currency: Currency,
    /// IANA time zone of the stores.
    pub time_zone: String,
    /// BLAKE3 of the admin token, in hexadecimal. The token itself is printed once and kept nowhere.
    pub admin_token_hash: String,
    /// `host:port` that join codes name; without it, the address the hub listens on.
    pub advertise: Option<String>,
    /// How long tills' certificates live, and how long after their end they can be renewed.
    #[serde(default)]
    pub certificates: Terms,
}

/// Hash of a token, as it is kept.
#[must_use]
pub fn token_hash(token: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("tillsync hub token v1");
    hasher.update(token.as_bytes());
    hasher.finalize().to_hex().to_string()
}

/// What a store starts from: one accepted currency, the rest as the rules say.
#[must_use]
pub fn base_policy(currency: Currency) -> Policy {
    Policy { currencies: vec![currency], ..Policy::default() }
}

impl HubConfig {
    /// Writes the file; never over another one.
    ///
    /// # Errors
    /// The directory is a hub already, or cannot be written.
    pub fn create(&self, dir: &Path) -> Result<(), Failure> {
        let path = dir.join(FILE);
        let failed =
            |error: std::io::Error| Failure::refused(format!("cannot write {}: {error}", path.display()));
        let text = serde_json::to_string_pretty(self).map_err(Failure::refused)?;
        let bytes = vault::cover(dir, FILE, text.as_bytes()).map_err(Failure::refused)?;
        if path.exists() {
            return Err(Failure::refused(format!(
                "{} is a hub already; choose another --dir",
                dir.display()
            )));
        }
        manifest::announce(dir, FILE, &bytes).map_err(Failure::refused)?;
        // Aside and renamed: a power cut leaves no half of it, and `hub init` can be run again.
        let aside = dir.join(format!("{FILE}.new"));
        // It holds the hash of the admin token.
        let mut file =
            private::options().write(true).create(true).truncate(true).open(&aside).map_err(failed)?;
        std::io::Write::write_all(&mut file, &bytes).map_err(failed)?;
        file.sync_all().map_err(failed)?;
        fs::rename(&aside, &path).map_err(failed)?;
        fs::File::open(dir).and_then(|folder| folder.sync_all()).map_err(failed)?;
        manifest::settle(dir, FILE).map_err(Failure::refused)
    }

    /// Reads the file.
    ///
    /// # Errors
    /// The directory is no hub, or the file was damaged.
    pub fn load(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(FILE);
        let text = fs::read(&path).map_err(|error| {
            Failure::refused(format!(
                "{} is no hub ({error}); make one with `tillsync hub init`",
                dir.display()
            ))
        })?;
        let text = vault::uncover(dir, FILE, text).map_err(Failure::refused)?;
        let config: Self = serde_json::from_slice(&text)
            .map_err(|error| Failure::refused(format!("{} is damaged: {error}", path.display())))?;
        if !LIFE_SECONDS.contains(&config.certificates.life_seconds) {
            return Err(Failure::refused(format!(
                "{}: certificates.life_seconds is {}; give {} to {}",
                path.display(),
                config.certificates.life_seconds,
                LIFE_SECONDS.start(),
                LIFE_SECONDS.end()
            )));
        }
        Ok(config)
    }

    /// The clock of the stores.
    ///
    /// # Errors
    /// The time zone is not known.
    pub fn clock(&self) -> Result<Clock, Failure> {
        Clock::in_zone(&self.time_zone).map_err(Failure::refused)
    }
}
