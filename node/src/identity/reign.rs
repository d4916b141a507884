//! The company's CA at one moment: which key signs, which former ones are still believed and how far, and the one file
//! that holds all of that (`dir/identity/authority.json`, written by the first rotation; before it, `ca.key` and `ca.crt`).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::enrolled::base64;
use super::{IdentityError, LIFETIME_SECONDS, NodeKey, files};

/// Former CAs kept; beyond it the oldest is forgotten.
pub const FORMER_LIMIT: usize = 4;

/// How long certificates live, and how long after that they can still be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Terms {
    /// Life of a till's certificate, in seconds.
    pub life_seconds: u64,
    /// So long after its end a certificate still proves who asks for a new one, and nothing else, in seconds.
    pub grace_seconds: u64,
}

impl Default for Terms {
    /// 30 days; and 400 more, so that the till of a yearly market comes back by itself.
    fn default() -> Self {
        Self { life_seconds: LIFETIME_SECONDS, grace_seconds: 400 * 86_400 }
    }
}

/// A CA that another one followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Its certificate.
    #[serde(with = "base64")]
    pub certificate: Vec<u8>,
    /// Its successor, signed by it.
    #[serde(with = "base64")]
    pub vouched: Vec<u8>,
    /// Until then certificates that it signed are as good as any, seconds since 1970.
    pub full_until: u64,
    /// From then until this time they can only be renewed, seconds since 1970.
    pub renew_until: u64,
}

/// The CA that signs, and those that it followed, oldest first.
#[derive(Clone)]
pub struct Reign {
    pub(super) key: NodeKey,
    /// The certificate that signs.
    pub certificate: Vec<u8>,
    /// Since when, seconds since 1970; 0 for the company's first.
    pub since: u64,
    /// Those before it.
    pub former: Vec<Former>,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
struct Kept {
    v: u32,
    #[serde(with = "base64")]
    key: Vec<u8>,
    #[serde(with = "base64")]
    certificate: Vec<u8>,
    since: u64,
    former: Vec<Former>,
}

impl Reign {
    /// What the hub shows beside its certificate: the CA, and each former one's word for its successor.
    #[must_use]
    pub fn chain(&self) -> Vec<Vec<u8>> {
        let vouched = self.former.iter().rev().map(|former| former.vouched.clone());
        std::iter::once(self.certificate.clone()).chain(vouched).collect()
    }

    /// The CAs whose certificates are fully good at a time (seconds since 1970); at `u64::MAX` only the present one.
    #[must_use]
    pub fn accepted(&self, now: u64) -> Vec<Vec<u8>> {
        let former = self.former.iter().filter(|former| now < former.full_until);
        let former = former.map(|former| former.certificate.clone());
        std::iter::once(self.certificate.clone()).chain(former).collect()
    }

    /// Every CA that is known at all, the present one first: who shows another's certificate is a stranger.
    #[must_use]
    pub fn known(&self) -> Vec<Vec<u8>> {
        self.accepted(0)
    }

    pub(super) fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = files::folder(dir).join("authority.json");
        let Some(text) = files::read(&path)? else { return Ok(None) };
        let damaged = |reason: String| IdentityError::Damaged { path: path.clone(), reason };
        let kept: Kept = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        let seed: [u8; 32] =
            kept.key.try_into().map_err(|_| damaged("its key has not 32 bytes".to_owned()))?;
        let Kept { certificate, since, former, .. } = kept;
        Ok(Some(Self { key: NodeKey::from_seed(&seed), certificate, since, former }))
    }

    /// One file, so that a power cut leaves the old CA or the new one.
    pub(super) fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let kept = Kept {
            v: 1,
            key: self.key.signing_key().to_bytes().to_vec(),
            certificate: self.certificate.clone(),
            since: self.since,
            former: self.former.clone(),
        };
        let text = serde_json::to_vec_pretty(&kept).map_err(|e| IdentityError::Certificate {
            operation: "write down the certificate authority",
            reason: e.to_string(),
        })?;
        files::write_durably(&files::folder(dir).join("authority.json"), &text, files::Readers::Owner)
    }
}
