//! Whom the node believes when it asks others by TLS itself.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;

/// What computes for TLS, in the whole process.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// The certificates of authorities (DER): of a file with PEM, or those of the host. Where the host has none, nobody is
/// believed.
///
/// # Errors
/// When the file cannot be read, or is none of certificates.
pub fn authorities(file: Option<&Path>) -> Result<Vec<Vec<u8>>, String> {
    let found = match file {
        Some(path) => of_file(path)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    Ok(found.into_iter().map(|one| one.as_ref().to_vec()).collect())
}

fn of_file(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let failed = |error: String| format!("{}: {error}", path.display());
    let pem = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    all.map_err(|error| failed(error.to_string()))
}
