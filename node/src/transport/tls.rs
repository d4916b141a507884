//! TLS 1.3 as nodes use it: which certificates are shown, demanded and believed. No resumption and no early
//! data, so every connection proves both identities anew. Never looks at a socket.

use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};

use crate::identity::{CaFingerprint, Identity, facts, inside_life, system_seconds};

use super::{ALPN_JOIN, ALPN_LINK};

/// For accepting. Client certificates are checked against the company's; going without one is left to the
/// listener, which lets such a caller do nothing but join.
pub(super) fn server(identity: &Identity, join: bool) -> Result<ServerConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots(identity)?, provider.clone());
    let verifier = if join { verifier.allow_unauthenticated() } else { verifier };
    let verifier = verifier.build().map_err(|e| Error::General(e.to_string()))?;
    let mut config = ServerConfig::builder_with_details(provider, identity.clock().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(identity), identity.key().rustls_key())?;
    config.alpn_protocols = vec![ALPN_LINK.to_vec()];
    if join {
        config.alpn_protocols.push(ALPN_JOIN.to_vec());
    }
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// For dialling a node of the same company.
pub(super) fn client(identity: &Identity) -> Result<ClientConfig, Error> {
    let provider = Arc::new(ring::default_provider());
    let mut config = ClientConfig::builder_with_details(provider, identity.clock().clone())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots(identity)?)
        .with_client_auth_cert(chain(identity), identity.key().rustls_key())?;
    config.alpn_protocols = vec![ALPN_LINK.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
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

/// The CA's certificate goes along, because a joining till knows only its fingerprint.
fn chain(identity: &Identity) -> Vec<CertificateDer<'static>> {
    vec![identity.certificate().to_vec().into(), identity.ca().to_vec().into()]
}

fn roots(identity: &Identity) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(identity.ca().to_vec().into())?;
    Ok(Arc::new(roots))
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
