//! What a till keeps of its enrolment: `dir/identity/enrolment.json`, one file, so that it is either wholly
//! there or not at all. `node.crt` and `ca.crt` beside it are copies for people with openssl; they are never read.

use std::path::Path;

use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{
    Holds, HubAddress, Identity, IdentityError, NodeKey, Papers, PublicKey, Role, each_once, files, keys,
    verify_chain,
};

/// A till's place in the company.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolment {
    /// Company name.
    pub company: String,
    /// Store of this till.
    pub store: String,
    /// Name of this till in its store.
    pub terminal: String,
    /// 1 for the till's first key, one more for each reinstallation.
    pub incarnation: u64,
    /// The hub's name.
    #[serde(with = "hex_key")]
    pub hub_public_key: PublicKey,
    /// Where the hub was found (`host:port`) when the till joined: the last resort.
    pub hub_address: String,
    /// Where the company's hubs are, as a hub told last; before that, as the join code said.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hub_addresses: Vec<String>,
    /// IANA time zone of the store's business days.
    pub time_zone: String,
    /// ISO 4217 currency of the store.
    pub currency: String,
    /// This till's certificate, DER.
    #[serde(with = "base64")]
    pub certificate: Vec<u8>,
    /// The company's certificate, DER.
    #[serde(with = "base64")]
    pub ca: Vec<u8>,
    /// Company certificates that are believed, DER; empty: only `ca`.
    #[serde(with = "base64_list", default)]
    pub trusted: Vec<Vec<u8>>,
    /// Whatever the hub added.
    #[serde(with = "base64", default)]
    pub extra: Vec<u8>,
}

impl Enrolment {
    /// Keeps it in `dir`, replacing an earlier one.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        let folder = files::folder(dir);
        // Copies for people first; the file that counts last.
        let copies = [("node.crt", &self.certificate), ("ca.crt", &self.ca)];
        for (name, der) in copies {
            let text = keys::pem("CERTIFICATE", der);
            files::write_durably(&folder.join(name), text.as_bytes(), files::Readers::All)?;
        }
        let text = serde_json::to_vec_pretty(self).map_err(|e| IdentityError::Certificate {
            operation: "write down the enrolment",
            reason: e.to_string(),
        })?;
        files::write_durably(&folder.join("enrolment.json"), &text, files::Readers::All)
    }

    /// The enrolment kept in `dir`, or `None` when this till never joined.
    ///
    /// # Errors
    /// When the file cannot be read or its certificates do not fit together.
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let path = files::folder(dir).join("enrolment.json");
        let Some(text) = files::read(&path)? else { return Ok(None) };
        let damaged = |reason: String| IdentityError::Damaged { path: path.clone(), reason };
        let read: Self = serde_json::from_slice(&text).map_err(|e| damaged(e.to_string()))?;
        let facts = verify_chain(&read.certificate, &read.ca).map_err(|e| damaged(e.to_string()))?;
        if facts.role != Role::Till {
            return Err(damaged("its certificate is not a till's".into()));
        }
        Ok(Some(read))
    }

    /// The till's identity, with its key.
    ///
    /// # Errors
    /// When the certificate was issued to another key.
    pub fn identity(&self, key: NodeKey) -> Result<Identity, IdentityError> {
        Identity::with_papers(key, self.papers())
    }

    /// Its certificates.
    #[must_use]
    pub fn papers(&self) -> Papers {
        let trusted = if self.trusted.is_empty() { vec![self.ca.clone()] } else { self.trusted.clone() };
        Papers { certificate: self.certificate.clone(), chain: vec![self.ca.clone()], trusted }
    }

    /// What it holds of what a hub tells with its papers.
    #[must_use]
    pub fn holds(&self) -> Holds {
        Holds::of(&self.papers().trusted, &self.hub_addresses)
    }

    /// Where to look for the company's hubs, in the order of preference: what was told, then what the till joined by.
    #[must_use]
    pub fn hubs(&self) -> Vec<HubAddress> {
        let texts = self.hub_addresses.iter().chain([&self.hub_address]);
        each_once(texts.filter_map(|text| text.parse().ok()))
    }

    /// The same place, with the hubs that a hub has told; none: those of before stay.
    #[must_use]
    pub fn with_hubs(&self, told: &[HubAddress]) -> Self {
        let mut next = self.clone();
        if !told.is_empty() {
            next.hub_addresses = told.iter().map(ToString::to_string).collect();
        }
        next
    }

    /// The same place with other papers.
    #[must_use]
    pub fn with_papers(&self, papers: &Papers) -> Self {
        let ca = papers.chain.first().unwrap_or(&self.ca).clone();
        Self { certificate: papers.certificate.clone(), ca, trusted: papers.trusted.clone(), ..self.clone() }
    }
}

/// 32 bytes as 64 hexadecimal digits.
pub(super) mod hex_key {
    use super::{Deserialize, Deserializer, HEXLOWER, Serializer, fixed};

    pub fn serialize<S: Serializer>(key: &[u8; 32], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&HEXLOWER.encode(key))
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<[u8; 32], D::Error> {
        fixed(&String::deserialize(d)?)
    }
}

/// Bytes as base64.
pub(super) mod base64 {
    use super::{BASE64, Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&BASE64.encode(bytes))
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Vec<u8>, D::Error> {
        BASE64.decode(String::deserialize(d)?.as_bytes()).map_err(D::Error::custom)
    }
}

/// Pieces of bytes, each as base64.
pub(super) mod base64_list {
    use super::{BASE64, Deserialize, Deserializer, Serializer};
    use serde::de::Error as _;

    pub fn serialize<S: Serializer>(list: &[Vec<u8>], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(list.iter().map(|bytes| BASE64.encode(bytes)))
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(d: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let texts = Vec::<String>::deserialize(d)?;
        texts.iter().map(|text| BASE64.decode(text.as_bytes()).map_err(D::Error::custom)).collect()
    }
}

/// Exactly N bytes in hexadecimal.
pub(super) fn fixed<E: serde::de::Error, const N: usize>(text: &str) -> Result<[u8; N], E> {
    let bytes = HEXLOWER.decode(text.as_bytes()).map_err(E::custom)?;
    bytes.try_into().map_err(|b: Vec<u8>| E::custom(format!("{} bytes instead of {N}", b.len())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Authority;

    #[test]
    fn an_enrolment_is_kept_and_checked_when_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Enrolment::load(dir.path()).unwrap().is_none());
        let ca = Authority::generate("Acme").unwrap();
        let key = NodeKey::load_or_create(dir.path()).unwrap();
        let mut kept = Enrolment {
            company: "Acme".into(),
            store: "S1".into(),
            terminal: "T1".into(),
            incarnation: 1,
            hub_public_key: [3; 32],
            hub_address: "hub:7440".into(),
            hub_addresses: Vec::new(),
            time_zone: "Europe/London".into(),
            currency: "GBP".into(),
            certificate: ca.issue(&key.public(), "S1/T1", Role::Till).unwrap(),
            ca: ca.certificate(),
            trusted: Vec::new(),
            extra: vec![0, 255],
        };
        kept.save(dir.path()).unwrap();
        assert_eq!(Enrolment::load(dir.path()).unwrap().unwrap(), kept);
        assert_eq!(kept.identity(key).unwrap().facts().name, "S1/T1");
        assert!(kept.identity(NodeKey::generate().unwrap()).is_err(), "a copied enrolment without its key");
        let file = dir.path().join("identity/enrolment.json");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(!text.contains("hub_addresses"), "a till of one hub keeps the file it always had");

        let at = |text: &str| text.parse::<HubAddress>().unwrap();
        assert_eq!(kept.hubs(), [at("hub:7440")]);
        kept = kept.with_hubs(&[at("b:1"), at("hub:7440"), at("c:1")]);
        kept.save(dir.path()).unwrap();
        kept = Enrolment::load(dir.path()).unwrap().unwrap();
        assert_eq!(kept.hubs(), [at("b:1"), at("hub:7440"), at("c:1")]);
        assert_eq!(kept.with_hubs(&[]).hubs(), kept.hubs(), "nothing to say changes nothing");
        assert_eq!(kept.with_hubs(&[at("d:1")]).hubs(), [at("d:1"), at("hub:7440")], "the last resort stays");

        kept.ca = Authority::generate("Acme").unwrap().certificate();
        kept.save(dir.path()).unwrap();
        assert!(matches!(Enrolment::load(dir.path()), Err(IdentityError::Damaged { .. })));
    }
}
