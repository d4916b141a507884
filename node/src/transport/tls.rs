//! TLS 1.3 as nodes use it: which certificates are shown, demanded and believed. No resumption and no early
//! data, so every connection proves both identities anew. Never looks at a socket.

use std::sync::{Arc, OnceLock};

use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    ServerConfig, SignatureScheme,
};

use crate::identity::{
    CaFingerprint, CertificateFacts, Identity, Papers, Role, facts, inside_life, system_seconds, verify_under,
};

use super::{ALPN_HUBS, ALPN_JOIN, ALPN_LINKS, ALPN_RENEW};

/// Certificates that may come along with a peer's own: more than any company has made.
const CHAIN_LIMIT: usize = 8;

/// For accepting. Client certificates must be the company's; whether one has ended, and what a caller without one may do,
/// is left to the listener, which knows what is asked for.
pub(super) fn server(identity: &Identity, join: bool) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let judge = Judge { identity: identity.clone(), provider: provider.clone(), nobody_too: join };
    let mut config = ServerConfig::builder_with_details(provider, identity.clock().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(judge))
        .with_cert_resolver(Arc::new(Shown(identity.clone())));
    // Of what a caller offers, the first in this order is taken.
    config.alpn_protocols = ALPN_LINKS.iter().map(|alpn| alpn.to_vec()).collect();
    if join {
        config.alpn_protocols.extend([ALPN_JOIN.to_vec(), ALPN_RENEW.to_vec(), ALPN_HUBS.to_vec()]);
    }
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// For dialling a node of the same company, for one purpose: in one of these protocols, as the other likes.
pub(super) fn client(identity: &Identity, alpn: &[&[u8]]) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let judge = Judge { identity: identity.clone(), provider: provider.clone(), nobody_too: false };
    let mut config = ClientConfig::builder_with_details(provider, identity.clock().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(judge))
        .with_client_cert_resolver(Arc::new(Shown(identity.clone())));
    config.alpn_protocols = alpn.iter().map(|alpn| alpn.to_vec()).collect();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// What the node shows: its papers at the moment of the handshake.
#[derive(Debug)]
struct Shown(Identity);

impl Shown {
    /// The node's certificate and, beside it, what these papers say that goes along.
    fn certified(&self, beside: fn(&Papers) -> Vec<Vec<u8>>) -> Option<Arc<CertifiedKey>> {
        let papers = self.0.papers();
        let beside = beside(&papers);
        let chain = std::iter::once(papers.certificate).chain(beside).map(CertificateDer::from);
        let PrivateKeyDer::Pkcs8(key) = self.0.key().rustls_key() else { return None };
        let key = ring::sign::any_eddsa_type(&key).ok()?;
        Some(Arc::new(CertifiedKey::new(chain.collect(), key)))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // It looks for the company certificate whose fingerprint is in its code.
        let joins = hello.alpn().is_some_and(|mut wanted| wanted.any(|alpn| alpn == ALPN_JOIN));
        self.certified(if joins { |papers| papers.chain.clone() } else { Papers::words })
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _issuers: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified(Papers::words)
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes nodes of the company, by the papers of the moment.
#[derive(Debug)]
struct Judge {
    identity: Identity,
    provider: Arc<CryptoProvider>,
    /// Whether callers without a certificate get through the handshake.
    nobody_too: bool,
}

impl Judge {
    fn company(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
    ) -> Result<CertificateFacts, Error> {
        if chain.len() > CHAIN_LIMIT {
            return Err(Error::General(format!("{} certificates come along", chain.len())));
        }
        let chain: Vec<Vec<u8>> = chain.iter().map(|der| der.to_vec()).collect();
        verify_under(leaf, &chain, &self.identity.papers().trusted)
            .map_err(|_| CertificateError::UnknownIssuer.into())
    }
}

impl ServerCertVerifier for Judge {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let facts = self.company(leaf, intermediates)?;
        // A hub is known by its key, which has no end; this node's clock might be anything.
        let ended = facts.not_after < self.identity.clock().judge(system_seconds());
        if facts.role == Role::Till && ended {
            return Err(CertificateError::Expired.into());
        }
        rustls::client::verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl ClientCertVerifier for Judge {
    fn client_auth_mandatory(&self) -> bool {
        !self.nobody_too
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.company(leaf, intermediates).map(|_| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls12_signature(self, message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        ServerCertVerifier::verify_tls13_signature(self, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ServerCertVerifier::supported_verify_schemes(self)
    }
}

/// For dialling the hub of a join code, by a device that has no certificate yet. The second value tells
/// afterwards why the hub was not believed, if it was not.
pub(super) fn joiner(ca: CaFingerprint) -> Result<(ClientConfig, Arc<OnceLock<String>>), Error> {
    let provider = Arc::new(ring::default_provider());
    let doubt = Arc::new(OnceLock::new());
    let verifier = CodeVerifier { ca, provider: provider.clone(), doubt: doubt.clone() };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_JOIN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok((config, doubt))
}

/// Believes a hub whose chain ends in the CA of the join code. Time has no say: a new till's clock may be
/// anything, and the code, which expires by the hub's clock, is what is trusted here.
#[derive(Debug)]
struct CodeVerifier {
    ca: CaFingerprint,
    provider: Arc<CryptoProvider>,
    doubt: Arc<OnceLock<String>>,
}

impl CodeVerifier {
    fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        name: &ServerName<'_>,
    ) -> Result<(), Error> {
        let ca =
            chain.iter().find(|c| CaFingerprint::of(c) == self.ca).ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone())?;
        let facts = facts(leaf).map_err(|e| Error::General(e.to_string()))?;
        let parsed = ParsedCertificate::try_from(leaf)?;
        let now = inside_life(&facts, system_seconds());
        let algorithms = self.provider.signature_verification_algorithms.all;
        rustls::client::verify_server_cert_signed_by_trust_anchor(&parsed, &roots, chain, now, algorithms)?;
        rustls::client::verify_server_name(&parsed, name)
    }
}

impl ServerCertVerifier for CodeVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(leaf, intermediates, name).map(|()| ServerCertVerified::assertion()).inspect_err(|e| {
            let _ = self.doubt.set(match e {
                Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
                    "its company certificate is not the one whose fingerprint is in the code".to_owned()
                }
                other => other.to_string(),
            });
        })
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
