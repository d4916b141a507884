//! The company's certificate authority, which lives at the hub: one ed25519 key that signs the hub's and the
//! tills' certificates. It is no public CA: nobody but the company's own nodes trusts it, and it signs only
//! ed25519 node keys. It never decides who gets a certificate. What it is at one moment, and how that is kept, is
//! `reign`'s.

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SerialNumber, SubjectPublicKeyInfo, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, pem::PemObject};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::{BACKDATE_SECONDS, ed25519_key};
use super::reign::{FORMER_LIMIT, Former, Reign, Terms};
use super::{
    CaFingerprint, Identity, IdentityError, NodeKey, Papers, PublicKey, Role, files, keys, system_seconds,
};

/// Longest organisation or common name that X.520 allows, in characters.
const X520_NAME_LIMIT: usize = 64;
/// Life of the CA certificate itself: longer than any till.
const CA_LIFETIME_SECONDS: u64 = 30 * 365 * 86_400;
/// DER of an Ed25519 `SubjectPublicKeyInfo` before its 32 bytes of key (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The company's CA: the certificate that signs now, and the former ones that it followed. Shared by clones of its `Arc`;
/// a rotation while the hub runs changes it in place.
pub struct Authority {
    company: String,
    terms: Terms,
    state: RwLock<Arc<Reign>>,
    /// Where it is kept; `None` in memory.
    dir: Option<PathBuf>,
}

impl Authority {
    /// A CA in memory.
    ///
    /// # Errors
    /// When no randomness is to be had.
    pub fn generate(company: &str) -> Result<Self, IdentityError> {
        Self::with_key(company, NodeKey::generate()?)
    }

    /// Makes the company's CA and keeps it in `dir/identity/ca.{key,crt}`. Interrupted after the key, it goes on
    /// with that key.
    ///
    /// # Errors
    /// When there is one already, or the disk fails.
    pub fn create(dir: &Path, company: &str) -> Result<Self, IdentityError> {
        let (key_path, certificate_path) = paths(dir);
        if certificate_path.exists() {
            return Err(IdentityError::Exists(certificate_path));
        }
        let key = match NodeKey::read(&key_path)? {
            Some(key) => key,
            None => {
                let key = NodeKey::generate()?;
                key.write(&key_path)?;
                key
            }
        };
        let mut authority = Self::with_key(company, key)?;
        let text = keys::pem("CERTIFICATE", &authority.certificate());
        files::write_durably(&certificate_path, text.as_bytes(), files::Readers::All)?;
        authority.dir = Some(dir.to_path_buf());
        Ok(authority)
    }

    /// The CA kept in `dir`, or `None`.
    ///
    /// # Errors
    /// When the files cannot be read or do not belong together.
    pub fn load(dir: &Path) -> Result<Option<Self>, IdentityError> {
        let (key_path, certificate_path) = paths(dir);
        let damaged =
            |path: &Path, reason: String| IdentityError::Damaged { path: path.to_path_buf(), reason };
        let reign = if let Some(reign) = Reign::load(dir)? {
            // A rotation that was interrupted before it deleted the old key.
            files::remove_durably(&key_path)?;
            reign
        } else {
            let Some(text) = files::read(&certificate_path)? else { return Ok(None) };
            let der = CertificateDer::from_pem_slice(&text)
                .map_err(|e| damaged(&certificate_path, e.to_string()))?;
            let key = NodeKey::read(&key_path)?.ok_or_else(|| damaged(&key_path, "it is missing".into()))?;
            Reign { key, certificate: der.to_vec(), since: 0, former: Vec::new() }
        };
        let (_, parsed) = X509Certificate::from_der(&reign.certificate)
            .map_err(|e| damaged(&certificate_path, format!("no X.509: {e}")))?;
        let company = parsed.subject().iter_organization().next().and_then(|o| o.as_str().ok()).unwrap_or("");
        let company = company.to_owned();
        if ed25519_key(&parsed) != Some(reign.key.public()) {
            return Err(damaged(&certificate_path, "it belongs to another key than ca.key".into()));
        }
        let state = RwLock::new(Arc::new(reign));
        Ok(Some(Self { company, terms: Terms::default(), state, dir: Some(dir.to_path_buf()) }))
    }

    /// With other terms than the usual.
    #[must_use]
    pub fn on_terms(self, terms: Terms) -> Self {
        Self { terms, ..self }
    }

    /// How long certificates live here.
    #[must_use]
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// A certificate (DER) for the owner of `public_key`, good as client and as server, issued now.
    ///
    /// # Errors
    /// When the certificate library refuses.
    pub fn issue(&self, public_key: &PublicKey, name: &str, role: Role) -> Result<Vec<u8>, IdentityError> {
        self.issue_at(public_key, name, role, system_seconds())
    }

    /// As [`Authority::issue`], at a given time (seconds since 1970).
    ///
    /// # Errors
    /// When the certificate library refuses.
    pub fn issue_at(
        &self,
        public_key: &PublicKey,
        name: &str,
        role: Role,
        now: u64,
    ) -> Result<Vec<u8>, IdentityError> {
        let mut params = CertificateParams::new([role.server_name().to_owned()]).map_err(failed)?;
        params.distinguished_name = subject(&self.company, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        set_life(&mut params, now, self.terms.life_seconds);
        let spki = [SPKI_PREFIX.as_slice(), public_key].concat();
        let spki = SubjectPublicKeyInfo::from_der(&spki).map_err(failed)?;
        let reign = self.reign();
        let ca = CertificateDer::from(reign.certificate.as_slice());
        let issuer = Issuer::from_ca_cert_der(&ca, reign.key.rcgen_key()?).map_err(failed)?;
        Ok(params.signed_by(&spki, &issuer).map_err(failed)?.der().to_vec())
    }

    /// The hub's own identity. Issued afresh at every start of the hub and at every rotation, so that it needs no file;
    /// tills know the hub by its key, not by this certificate, and do not ask whether it has ended.
    ///
    /// # Errors
    /// When the certificate library refuses.
    pub fn hub_identity(&self, key: NodeKey) -> Result<Identity, IdentityError> {
        let papers = self.hub_papers(&key.public())?;
        Identity::with_papers(key, papers)
    }

    /// The hub's own papers, issued now.
    ///
    /// # Errors
    /// When the certificate library refuses.
    pub fn hub_papers(&self, key: &PublicKey) -> Result<Papers, IdentityError> {
        let certificate = self.issue(key, "hub", Role::Hub)?;
        let reign = self.reign();
        Ok(Papers { certificate, chain: reign.chain(), trusted: reign.known() })
    }

    /// Makes a new CA and lets it sign from now on. The old one vouches for it, by a certificate that goes along with the
    /// hub's, and its key is deleted. Tills that come within `overlap_seconds` notice nothing but a new certificate; those
    /// that come within the grace time after that renew first; later ones must be enrolled anew.
    ///
    /// # Errors
    /// When the disk fails: then the old one goes on.
    pub fn rotate(&self, now: u64, overlap_seconds: u64) -> Result<CaFingerprint, IdentityError> {
        let old = self.reign();
        let key = NodeKey::generate()?;
        let name = format!("Tillsync CA {}", HEXLOWER.encode(&key.public()[..4]));
        let certificate =
            ca_params(&self.company, &name, now).self_signed(&key.rcgen_key()?).map_err(failed)?;
        // The old one's word: the same name and key, signed by the old. It may stand above others of its kind.
        let mut vouched = ca_params(&self.company, &name, now);
        vouched.not_before = date_time_ymd(1970, 1, 1);
        vouched.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        vouched.use_authority_key_identifier_extension = true;
        let old_ca = CertificateDer::from(old.certificate.as_slice());
        let issuer = Issuer::from_ca_cert_der(&old_ca, old.key.rcgen_key()?).map_err(failed)?;
        let vouched = vouched.signed_by(&key.rcgen_key()?, &issuer).map_err(failed)?;
        let full_until = now.saturating_add(overlap_seconds);
        let mut former = old.former.clone();
        former.retain(|former| now < former.renew_until);
        former.push(Former {
            certificate: old.certificate.clone(),
            vouched: vouched.der().to_vec(),
            full_until,
            renew_until: full_until.saturating_add(self.terms.grace_seconds),
        });
        let excess = former.len().saturating_sub(FORMER_LIMIT);
        former.drain(..excess);
        let reign = Reign { key, certificate: certificate.der().to_vec(), since: now, former };
        self.install(reign)?;
        Ok(self.fingerprint())
    }

    /// Ends every former CA now: a till that has not come since must be enrolled anew. Gives their number.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn drop_former(&self) -> Result<usize, IdentityError> {
        let old = self.reign();
        let count = old.former.len();
        if count > 0 {
            self.install(Reign { former: Vec::new(), ..(*old).clone() })?;
        }
        Ok(count)
    }

    fn install(&self, reign: Reign) -> Result<(), IdentityError> {
        if let Some(dir) = &self.dir {
            reign.save(dir)?;
            let (key_path, certificate_path) = paths(dir);
            // From here on the file beside them counts; a leftover key would be a key too many.
            files::remove_durably(&key_path)?;
            let text = keys::pem("CERTIFICATE", &reign.certificate);
            files::write_durably(&certificate_path, text.as_bytes(), files::Readers::All)?;
        }
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(reign);
        Ok(())
    }

    /// The company's name.
    #[must_use]
    pub fn company(&self) -> &str {
        &self.company
    }

    /// The CA certificate that signs now, DER.
    #[must_use]
    pub fn certificate(&self) -> Vec<u8> {
        self.reign().certificate.clone()
    }

    /// What join codes carry of it.
    #[must_use]
    pub fn fingerprint(&self) -> CaFingerprint {
        CaFingerprint::of(&self.reign().certificate)
    }

    /// The CA that signs and those that it followed, as they are now.
    #[must_use]
    pub fn reign(&self) -> Arc<Reign> {
        self.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn with_key(company: &str, key: NodeKey) -> Result<Self, IdentityError> {
        let company: String = company.chars().take(X520_NAME_LIMIT).collect();
        let params = ca_params(&company, "Tillsync CA", system_seconds());
        let certificate = params.self_signed(&key.rcgen_key()?).map_err(failed)?.der().to_vec();
        let state = RwLock::new(Arc::new(Reign { key, certificate, since: 0, former: Vec::new() }));
        Ok(Self { company, terms: Terms::default(), state, dir: None })
    }
}

fn ca_params(company: &str, name: &str, now: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(company, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_life(&mut params, now, CA_LIFETIME_SECONDS);
    params
}

fn subject(company: &str, name: &str) -> DistinguishedName {
    let short = |text: &str| text.chars().take(X520_NAME_LIMIT).collect::<String>();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, short(company));
    subject.push(DnType::CommonName, short(name));
    subject
}

fn set_life(params: &mut CertificateParams, now: u64, lifetime: u64) {
    let epoch = date_time_ymd(1970, 1, 1);
    // The year 9999 is the last that X.509 can write; a clock beyond it must not panic the hub.
    let now = now.min(200_000_000_000);
    params.not_before = epoch + Duration::from_secs(now.saturating_sub(BACKDATE_SECONDS));
    params.not_after = epoch + Duration::from_secs(now + lifetime);
    // The library's default serial is the hash of the key: a renewed certificate would repeat it.
    let mut serial = rand::random::<[u8; 16]>();
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
}

// By value, because that is how `map_err` hands it over.
#[allow(clippy::needless_pass_by_value)]
fn failed(error: rcgen::Error) -> IdentityError {
    IdentityError::Certificate { operation: "make a certificate", reason: error.to_string() }
}

fn paths(dir: &Path) -> (PathBuf, PathBuf) {
    let folder = files::folder(dir);
    (folder.join("ca.key"), folder.join("ca.crt"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{LIFETIME_SECONDS, facts, verify_chain};

    #[test]
    fn certificates_name_their_owner_and_only_their_own_company_vouches_for_them() {
        let (ours, theirs) = (Authority::generate("Acme").unwrap(), Authority::generate("Acme").unwrap());
        let key = NodeKey::generate().unwrap();
        let certificate = ours.issue_at(&key.public(), "S1/T2", Role::Till, 1_800_000_000).unwrap();
        let read = verify_chain(&certificate, &ours.certificate()).unwrap();
        assert_eq!((read.public_key, read.role, read.name.as_str()), (key.public(), Role::Till, "S1/T2"));
        assert_eq!(read.not_before, 1_800_000_000 - BACKDATE_SECONDS);
        assert_eq!(read.not_after, 1_800_000_000 + LIFETIME_SECONDS);
        assert!(verify_chain(&certificate, &theirs.certificate()).is_err(), "same name, another key");
        let stranger = NodeKey::generate().unwrap();
        assert!(Identity::new(stranger, &certificate, &ours.certificate()).is_err());
    }

    #[test]
    fn a_renewal_differs_and_a_mad_clock_does_not_panic() {
        let ca = Authority::generate("Acme").unwrap();
        let one = ca.issue_at(&[9; 32], "t", Role::Till, 5).unwrap();
        assert_ne!(one, ca.issue_at(&[9; 32], "t", Role::Till, 5).unwrap(), "the serial is fresh");
        assert_eq!(facts(&one).unwrap().not_before, 0);
        assert!(ca.issue_at(&[9; 32], "t", Role::Till, u64::MAX).is_ok());
    }

    #[test]
    fn the_authority_survives_the_disk_and_an_interrupted_creation() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Authority::load(dir.path()).unwrap().is_none());
        let made = Authority::create(dir.path(), "Café Ünïted").unwrap();
        let read = Authority::load(dir.path()).unwrap().unwrap();
        assert_eq!((read.company(), read.certificate()), ("Café Ünïted", made.certificate()));
        assert!(matches!(Authority::create(dir.path(), "B"), Err(IdentityError::Exists(_))));
        std::fs::remove_file(paths(dir.path()).1).unwrap();
        let again = Authority::create(dir.path(), "Café Ünïted").unwrap();
        assert_eq!(again.reign().key.public(), made.reign().key.public());
    }
}
