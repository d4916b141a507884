//! A node's papers: its certificate, what goes along with it, and whom it believes. They change while the node runs (a
//! renewal, a new company certificate), so every TLS handshake asks [`Identity`] anew. Keeps nothing on disk.

use std::sync::{Arc, PoisonError, RwLock};

use super::certificate::{CertificateFacts, TrustClock, verify_under};
use super::{IdentityError, NodeKey, PublicKey};

/// Certificates (DER) as they are at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Papers {
    /// The node's own.
    pub certificate: Vec<u8>,
    /// What goes along with its own: the company certificate that signed it, and older ones' words for newer ones.
    pub chain: Vec<Vec<u8>>,
    /// The company certificates that it believes.
    pub trusted: Vec<Vec<u8>>,
}

impl Papers {
    /// What peers of the company need beside the node's own certificate: the words of `chain`, by which who knows only an
    /// older company certificate can follow. A company certificate itself proves nothing to who does not believe it already,
    /// and to who does it is no news; a device that joins is the exception, because it knows the fingerprint of one.
    #[must_use]
    pub fn words(&self) -> Vec<Vec<u8>> {
        self.chain.iter().filter(|certificate| !self.trusted.contains(certificate)).cloned().collect()
    }
}

/// Everything a node needs to prove who it is and to judge its peers. Cheap to clone; clones share their papers.
#[derive(Debug, Clone)]
pub struct Identity {
    key: Arc<NodeKey>,
    papers: Arc<RwLock<Arc<(Papers, CertificateFacts)>>>,
    clock: Arc<TrustClock>,
}

impl Identity {
    /// Puts key and certificates (DER) together after checking that they belong together.
    ///
    /// # Errors
    /// When the certificate is another key's, or not signed by this company.
    pub fn new(key: NodeKey, certificate: &[u8], ca: &[u8]) -> Result<Self, IdentityError> {
        let (certificate, ca) = (certificate.to_vec(), ca.to_vec());
        Self::with_papers(key, Papers { certificate, chain: vec![ca.clone()], trusted: vec![ca] })
    }

    /// As [`Identity::new`], with more than one company certificate.
    ///
    /// # Errors
    /// As there.
    pub fn with_papers(key: NodeKey, papers: Papers) -> Result<Self, IdentityError> {
        let facts = check(&key.public(), &papers)?;
        let clock = Arc::new(TrustClock::of(&facts));
        Ok(Self { key: Arc::new(key), papers: Arc::new(RwLock::new(Arc::new((papers, facts)))), clock })
    }

    /// From the next handshake on, these papers count. Connections that stand go on.
    ///
    /// # Errors
    /// As [`Identity::new`]; the old papers stay.
    pub fn replace(&self, papers: Papers) -> Result<(), IdentityError> {
        let facts = check(&self.key.public(), &papers)?;
        self.clock.follow(&facts);
        *self.papers.write().unwrap_or_else(PoisonError::into_inner) = Arc::new((papers, facts));
        Ok(())
    }

    /// The node's key.
    #[must_use]
    pub fn key(&self) -> &NodeKey {
        &self.key
    }

    /// The node's name.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        self.key.public()
    }

    /// The papers as they are now.
    #[must_use]
    pub fn papers(&self) -> Papers {
        self.now().0.clone()
    }

    /// What the node's certificate says now.
    #[must_use]
    pub fn facts(&self) -> CertificateFacts {
        self.now().1.clone()
    }

    /// The time by which peers are judged.
    #[must_use]
    pub fn clock(&self) -> &Arc<TrustClock> {
        &self.clock
    }

    fn now(&self) -> Arc<(Papers, CertificateFacts)> {
        self.papers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn check(key: &PublicKey, papers: &Papers) -> Result<CertificateFacts, IdentityError> {
    let facts = verify_under(&papers.certificate, &papers.chain, &papers.trusted)?;
    if facts.public_key == *key {
        return Ok(facts);
    }
    Err(IdentityError::Certificate {
        operation: "use the certificate",
        reason: "it was issued to another key than this device's; enrol the device anew".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::reign::FORMER_LIMIT;
    use crate::identity::{Authority, Role, verify_chain};

    const START: u64 = 1_800_000_000;

    fn till_of(ca: &Authority) -> Papers {
        let certificate = ca.issue_at(&[1; 32], "S1/T1", Role::Till, START).unwrap();
        Papers { certificate, chain: vec![ca.certificate()], trusted: vec![ca.certificate()] }
    }

    #[test]
    fn without_a_rotation_a_certificate_goes_alone() {
        let ca = Authority::generate("Acme").unwrap();
        for papers in [ca.hub_papers(&[8; 32]).unwrap(), till_of(&ca)] {
            assert!(papers.words().is_empty());
            assert!(verify_under(&papers.certificate, &papers.words(), &[ca.certificate()]).is_ok());
        }
    }

    #[test]
    fn after_any_number_of_rotations_every_till_that_is_known_follows_the_words() {
        let ca = Authority::generate("Acme").unwrap();
        let mut tills = vec![till_of(&ca)];
        for rotation in 1..=FORMER_LIMIT {
            ca.rotate(START, 3_600).unwrap();
            tills.push(till_of(&ca));
            let hub = ca.hub_papers(&[8; 32]).unwrap();
            let words = hub.words();
            assert_eq!(words.len(), rotation, "one for each former authority");
            for till in &tills {
                assert!(verify_under(&hub.certificate, &words, &till.trusted).is_ok(), "{rotation}");
                assert!(verify_under(&till.certificate, &till.words(), &hub.trusted).is_ok(), "{rotation}");
            }
            // Only the newest knows the one that signs now: the others have nothing but the words to go by.
            let alone = tills.iter().filter(|till| verify_chain(&hub.certificate, &till.trusted[0]).is_ok());
            assert_eq!(alone.count(), 1);
        }
        ca.drop_former().unwrap();
        let hub = ca.hub_papers(&[8; 32]).unwrap();
        assert!(hub.words().is_empty());
        assert!(verify_under(&hub.certificate, &hub.words(), &tills[0].trusted).is_err());
    }
}
