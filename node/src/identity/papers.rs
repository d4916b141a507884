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
    /// What it shows beside its own, so that peers who know only an older company certificate can follow.
    pub chain: Vec<Vec<u8>>,
    /// The company certificates that it believes.
    pub trusted: Vec<Vec<u8>>,
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
