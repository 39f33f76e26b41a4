//! A workload's certificate with its key: an X.509-SVID.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use weir_core::authorization::Principal;

use crate::certificate::{CHAIN, CHAIN_FILE, CertificateError, KEY_FILE, validity};
use crate::trust;

/// A workload's certificate, those that vouch for it, and its key, which is in memory only.
pub struct Svid {
    /// Whose it is.
    pub principal: Principal,
    pub(crate) key: Arc<CertifiedKey>,
    /// From when on it is valid.
    pub not_before: SystemTime,
    /// Until when.
    pub not_after: SystemTime,
}

impl fmt::Debug for Svid {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { principal, not_before, not_after, .. } = self;
        let mut shown = f.debug_struct("Svid");
        shown.field("principal", principal).field("not_before", not_before).field("not_after", not_after);
        shown.finish_non_exhaustive()
    }
}

impl Svid {
    pub(crate) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        let first = chain.first().ok_or(CertificateError::NoCertificate { file: CHAIN_FILE })?;
        let principal = trust::principal(first).map_err(|error| CertificateError::Certificate(error.to_string()))?;
        let (not_before, not_after) = validity(first)?;
        let key = Arc::new(CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())?);
        Ok(Self { principal, key, not_before, not_after })
    }

    /// Reads one, followed by those that vouch for it, and its key, both in PEM.
    ///
    /// # Errors
    /// When either cannot be read, the key is another's, or it is no workload's.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let pem = |file| {
            move |error: rustls::pki_types::pem::Error| CertificateError::Pem { file, reason: error.to_string() }
        };
        let chain = CertificateDer::pem_slice_iter(chain).take(CHAIN + 1).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(pem(CHAIN_FILE))?;
        if chain.len() > CHAIN {
            return Err(CertificateError::TooMany { file: CHAIN_FILE });
        }
        Self::new(chain, PrivateKeyDer::from_pem_slice(key).map_err(pem(KEY_FILE))?)
    }

    /// Whether it can be shown at this time.
    pub fn is_valid(&self, now: SystemTime) -> bool {
        self.not_before <= now && now < self.not_after
    }

    /// When it is to be renewed: at half of its life, or up to a tenth of that earlier, so that not all of a fleet come at once.
    /// `roll` is any number.
    pub fn renewal(&self, roll: u64) -> SystemTime {
        let life = self.not_after.duration_since(self.not_before).unwrap_or_default();
        let half = life / 2;
        let early = u64::try_from((half / 10).as_millis()).unwrap_or(u64::MAX);
        let early = if early == 0 { 0 } else { roll % early };
        self.not_before + half - Duration::from_millis(early)
    }
}
