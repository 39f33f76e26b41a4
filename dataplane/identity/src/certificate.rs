//! A certificate with its chain and its key, as a server shows it.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

/// Certificates of a chain. A handshake sends all of them.
pub(crate) const CHAIN: usize = 16;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file is not what PEM is (RFC 7468).
    #[error("{file} is no PEM: {reason}")]
    Pem {
        /// Which.
        file: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A file has no certificate.
    #[error("{file} has no certificate")]
    NoCertificate {
        /// Which.
        file: &'static str,
    },
    /// A chain is longer than any that clients follow.
    #[error("{file} has more than {CHAIN} certificates")]
    TooMany {
        /// Which.
        file: &'static str,
    },
    /// The first certificate is not one of X.509.
    #[error("the certificate cannot be read: {0}")]
    Certificate(String),
    /// The key cannot be used, or is another certificate's.
    #[error("the key cannot be used: {0}")]
    Key(#[from] rustls::Error),
}

/// The two files of a certificate, by the names that Kubernetes gives them.
pub(crate) const CHAIN_FILE: &str = "tls.crt";
pub(crate) const KEY_FILE: &str = "tls.key";

/// A certificate with its chain and its key.
pub struct Certificate {
    pub(crate) key: Arc<CertifiedKey>,
    /// The names that it is for, in lower case.
    names: Vec<Box<str>>,
    /// Until when it is valid.
    pub not_after: SystemTime,
}

impl fmt::Debug for Certificate {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("names", &self.names).finish_non_exhaustive()
    }
}

impl Certificate {
    /// Reads a certificate, followed by those that vouch for it, and its key, both in PEM.
    ///
    /// # Errors
    /// When either cannot be read, or the key is not the certificate's.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let (file, pem) = (CHAIN_FILE, |file: &'static str| {
            move |error: rustls::pki_types::pem::Error| CertificateError::Pem { file, reason: error.to_string() }
        });
        let chain = CertificateDer::pem_slice_iter(chain).take(CHAIN + 1).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(pem(file))?;
        let first = chain.first().ok_or(CertificateError::NoCertificate { file })?;
        if chain.len() > CHAIN {
            return Err(CertificateError::TooMany { file });
        }
        let (names, not_after) = facts(first)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(pem(KEY_FILE))?;
        let key = Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?);
        Ok(Self { key, names, not_after })
    }

    /// Whether it is for this name, in lower case: `*` stands for one whole label (RFC 9525, section 6.3).
    pub fn is_for(&self, name: &str) -> bool {
        let rest = name.split_once('.').map(|(_, rest)| rest);
        self.names.iter().any(|known| match known.strip_prefix("*.") {
            Some(suffix) => rest == Some(suffix),
            None => **known == *name,
        })
    }
}

/// The names that a certificate is for, and until when it is valid.
fn facts(der: &CertificateDer<'_>) -> Result<(Vec<Box<str>>, SystemTime), CertificateError> {
    let unread = |error: &dyn fmt::Display| CertificateError::Certificate(error.to_string());
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| unread(&error))?;
    let names = certificate.subject_alternative_name().map_err(|error| unread(&error))?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let names = names.filter_map(|name| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase().into()),
        _ => None,
    });
    Ok((names.collect(), time(certificate.validity().not_after.timestamp())))
}

/// From when on a certificate is valid, and until when.
pub(crate) fn validity(der: &CertificateDer<'_>) -> Result<(SystemTime, SystemTime), CertificateError> {
    let unread = |error: &dyn fmt::Display| CertificateError::Certificate(error.to_string());
    let (_, certificate) = X509Certificate::from_der(der).map_err(|error| unread(&error))?;
    let validity = certificate.validity();
    Ok((time(validity.not_before.timestamp()), time(validity.not_after.timestamp())))
}

fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::testing;

    #[test]
    fn names_and_times() {
        let made = testing::Made::new(&["Shop.example.com", "*.b.example.com"]);
        let certificate = Certificate::read(made.chain.as_bytes(), made.key.as_bytes()).unwrap();
        for (name, expected) in [
            ("shop.example.com", true),
            ("a.b.example.com", true),
            ("c.a.b.example.com", false),
            ("b.example.com", false),
            ("example.com", false),
            ("", false),
        ] {
            assert_eq!(certificate.is_for(name), expected, "{name}");
        }
        assert!(SystemTime::now() < certificate.not_after);
        assert!(!format!("{certificate:?}").contains("key"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let (one, other) = (testing::Made::new(&["a"]), testing::Made::new(&["a"]));
        let long = one.chain.repeat(CHAIN + 1);
        let not_x509 = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (chain, key, expected) in [
            (&*one.chain, &*other.key, "the key cannot be used: keys may not be consistent: KeyMismatch"),
            ("", &one.key, "tls.crt has no certificate"),
            (&one.key, &one.key, "tls.crt has no certificate"),
            (&one.chain, "", "tls.key is no PEM: "),
            (&one.chain, &one.chain, "tls.key is no PEM: "),
            (&long, &one.key, "tls.crt has more than 16 certificates"),
            (not_x509, &one.key, "the certificate cannot be read: "),
            ("-----BEGIN CERTIFICATE-----\n", &one.key, "tls.crt is no PEM: "),
        ] {
            let error = Certificate::read(chain.as_bytes(), key.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
