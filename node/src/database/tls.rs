//! TLS to the database: its certificate must be under the authority that the address names, and be for the host that it
//! names. There is no way to encrypt without knowing to whom.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::DatabaseError;

/// What makes TLS connections that believe the certificates in a PEM file.
pub(super) fn under(file: &Path) -> Result<MakeRustlsConnect, DatabaseError> {
    let wrong = |what: String| DatabaseError::address(&format!("sslrootcert {}: {what}", file.display()));
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(file).map_err(|e| wrong(e.to_string()))? {
        // A store of hundreds holds some that are of no use to us.
        let _ = roots.add(certificate.map_err(|e| wrong(e.to_string()))?);
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate of an authority".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| wrong(e.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
