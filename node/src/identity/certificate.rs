//! What a certificate says, whose it is, and what time it is when we judge one.
//!
//! **Time.** Tills have bad clocks: some boot in 1970, some in 2099. A till that judged its hub's certificate by
//! such a clock would lock itself out, offline, with nobody near. So a till never judges a hub's certificate by time: it
//! knows the hub's public key, which no expiry could replace. Whether a *till's* certificate has ended is the hub's to
//! say, by the hub's clock (`renewal`), never the till's own. Between tills, [`TrustClock`] believes the system clock
//! only within the life of the node's *own* certificate, which was made by the company's hub and thereby is a
//! statement about time; outside it, the moment of issue is used, raised whenever the node learns a later time that it
//! trusts. A certificate "from the future" is never refused: the company signed it, so it is that late already.
//!
//! Certificates are back-dated by two days against hubs whose clock is set back.

use std::sync::atomic::{AtomicU64, Ordering};

use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{IdentityError, PublicKey, system_seconds};

/// The name every hub's certificate carries; hubs are told apart by their keys.
pub const HUB_SERVER_NAME: &str = "hub.tillsync.internal";
/// The name every till's certificate carries.
pub const TILL_SERVER_NAME: &str = "till.tillsync.internal";
/// How far a certificate's life starts before it is issued.
pub const BACKDATE_SECONDS: u64 = 2 * 86_400;
/// How long a certificate lives after it is issued, unless the hub says otherwise.
pub const LIFETIME_SECONDS: u64 = 30 * 86_400;

/// What the owner of a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The head office.
    Hub,
    /// A till.
    Till,
}

impl Role {
    /// The name in the certificate.
    #[must_use]
    pub fn server_name(self) -> &'static str {
        match self {
            Self::Hub => HUB_SERVER_NAME,
            Self::Till => TILL_SERVER_NAME,
        }
    }
}

/// What we read in a certificate. Only meaningful once its chain is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// The owner's name.
    pub public_key: PublicKey,
    /// The owner's role.
    pub role: Role,
    /// What a person calls the owner (common name).
    pub name: String,
    /// Start of its life, seconds since 1970.
    pub not_before: u64,
    /// End of its life, seconds since 1970.
    pub not_after: u64,
}

/// Reads a node's certificate; every node's key is ed25519, anything else is an error.
///
/// # Errors
/// When it is no certificate of a Tillsync node.
pub fn facts(der: &[u8]) -> Result<CertificateFacts, IdentityError> {
    let bad = |reason: String| IdentityError::Certificate { operation: "read the certificate", reason };
    let (rest, parsed) = X509Certificate::from_der(der).map_err(|e| bad(format!("it is no X.509: {e}")))?;
    if !rest.is_empty() {
        return Err(bad(format!("{} bytes follow it", rest.len())));
    }
    let names = parsed.subject_alternative_name().map_err(|e| bad(e.to_string()))?;
    let has = |wanted: &str| {
        names.as_ref().is_some_and(|n| n.value.general_names.contains(&GeneralName::DNSName(wanted)))
    };
    let role = match (has(HUB_SERVER_NAME), has(TILL_SERVER_NAME)) {
        (true, false) => Role::Hub,
        (false, true) => Role::Till,
        _ => return Err(bad("it names neither a hub nor a till of Tillsync".into())),
    };
    let name =
        parsed.subject().iter_common_name().next().and_then(|n| n.as_str().ok()).unwrap_or("").to_owned();
    let seconds = |t: i64| u64::try_from(t).unwrap_or(0);
    Ok(CertificateFacts {
        public_key: ed25519_key(&parsed).ok_or_else(|| bad("its key is not ed25519".into()))?,
        role,
        name,
        not_before: seconds(parsed.validity().not_before.timestamp()),
        not_after: seconds(parsed.validity().not_after.timestamp()),
    })
}

pub(super) fn ed25519_key(certificate: &X509Certificate<'_>) -> Option<PublicKey> {
    let spki = certificate.public_key();
    let ed25519 = spki.algorithm.algorithm == x509_parser::oid_registry::OID_SIG_ED25519;
    if ed25519 { spki.subject_public_key.data.as_ref().try_into().ok() } else { None }
}

/// That `leaf` was signed by `ca`, judged at a time within the leaf's own life.
///
/// # Errors
/// When it is another company's, or no certificate of a Tillsync node.
pub fn verify_chain(leaf: &[u8], ca: &[u8]) -> Result<CertificateFacts, IdentityError> {
    verify_under(leaf, &[], &[ca.to_vec()])
}

/// That `leaf` was signed by one of the company certificates `trusted`, at once or by way of what came along in `chain`
/// (an older company certificate's word for a newer one), judged at a time within the leaf's own life.
///
/// # Errors
/// When it is another company's, or no certificate of a Tillsync node.
pub fn verify_under(
    leaf: &[u8],
    chain: &[Vec<u8>],
    trusted: &[Vec<u8>],
) -> Result<CertificateFacts, IdentityError> {
    let facts = facts(leaf)?;
    let bad = |e: rustls::Error| IdentityError::Certificate {
        operation: "verify the certificate against the company's",
        reason: e.to_string(),
    };
    let mut roots = RootCertStore::empty();
    for ca in trusted {
        roots.add(CertificateDer::from(ca.as_slice())).map_err(bad)?;
    }
    let between: Vec<CertificateDer<'_>> =
        chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let der = CertificateDer::from(leaf);
    let parsed = rustls::server::ParsedCertificate::try_from(&der).map_err(bad)?;
    let now = inside_life(&facts, system_seconds());
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, &roots, &between, now, algorithms.all)
        .map_err(bad)?;
    Ok(facts)
}

/// The moment of the certificate's life that is nearest to `seconds`: for judgements in which time has no say.
#[must_use]
pub fn inside_life(facts: &CertificateFacts, seconds: u64) -> UnixTime {
    let moment = seconds.clamp(facts.not_before, facts.not_after.max(facts.not_before));
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(moment))
}

/// What time it is when a peer's certificate is judged; see the head of this file.
#[derive(Debug)]
pub struct TrustClock {
    floor: AtomicU64,
    ceiling: AtomicU64,
}

impl TrustClock {
    /// The clock of the owner of this certificate.
    #[must_use]
    pub fn of(own: &CertificateFacts) -> Self {
        let issued = own.not_before.saturating_add(BACKDATE_SECONDS);
        Self { floor: AtomicU64::new(issued), ceiling: AtomicU64::new(own.not_after) }
    }

    /// It is at least this late, says somebody whom we trust (the hub, over a verified link).
    pub fn raise(&self, seconds: u64) {
        if seconds <= self.ceiling.load(Ordering::Relaxed) {
            self.floor.fetch_max(seconds, Ordering::Relaxed);
        }
    }

    /// The node has a newer certificate, which says more about the time.
    pub(super) fn follow(&self, own: &CertificateFacts) {
        self.ceiling.store(own.not_after, Ordering::Relaxed);
        self.floor.store(own.not_before.saturating_add(BACKDATE_SECONDS), Ordering::Relaxed);
    }

    /// The time to judge by when the system clock says `system` (seconds since 1970).
    #[must_use]
    pub fn judge(&self, system: u64) -> u64 {
        let floor = self.floor.load(Ordering::Relaxed);
        let ceiling = self.ceiling.load(Ordering::Relaxed);
        if (floor..=ceiling).contains(&system) { system } else { floor }
    }
}

impl rustls::time_provider::TimeProvider for TrustClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_secs(self.judge(system_seconds()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_till_that_boots_in_1970_or_2099_judges_by_what_its_certificate_says() {
        let own = CertificateFacts {
            public_key: [7; 32],
            role: Role::Till,
            name: "S1/T1".into(),
            not_before: 1_000_000,
            not_after: 1_000_000 + BACKDATE_SECONDS + LIFETIME_SECONDS,
        };
        let clock = TrustClock::of(&own);
        let issued = 1_000_000 + BACKDATE_SECONDS;
        assert_eq!(clock.judge(0), issued, "1970");
        assert_eq!(clock.judge(u64::MAX), issued, "2099");
        assert_eq!(clock.judge(issued + 5), issued + 5, "a good clock is believed");
        clock.raise(issued + 100);
        assert_eq!(clock.judge(0), issued + 100, "learned from the hub");
        clock.raise(u64::MAX);
        assert_eq!(clock.judge(0), issued + 100, "nonsense is not learned");
    }
}
