//! Whom the mesh believes: the roots of its trust domain, and what they have revoked. Certificates are checked as RFC 5280 says,
//! and as X.509-SVID does: one SPIFFE id, of this trust domain.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::CertificateError as Alert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, TrustAnchor, UnixTime};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, OwnedCertRevocationList, RevocationCheckDepth,
    RevocationOptionsBuilder, UnknownStatusPolicy, anchor_from_trusted_cert,
};
use weir_core::authorization::Principal;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::certificate::CHAIN;

/// Roots of a bundle: the one in use, the next, and more than anybody rotates at once.
const ROOTS: usize = 32;
/// Lists of what was revoked: one for each authority.
const LISTS: usize = 256;

/// Who vouches for a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub principal: Principal,
    /// The node whose authority says so, where nodes have their own: it may speak for what runs there only.
    pub node: Option<Box<str>>,
    /// Until when the certificate is valid.
    pub not_after: SystemTime,
}

/// Which side of a connection shows a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

/// Why a peer is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It has shown nothing.
    #[error("no certificate was shown")]
    NoCertificate,
    /// It cannot be read.
    #[error("the certificate cannot be read")]
    Unreadable,
    /// No root of the bundle stands behind it, or what stands behind it may not vouch for it.
    #[error("no root of the trust bundle vouches for the certificate ({0})")]
    Untrusted(String),
    /// Its time has not come.
    #[error("the certificate is not valid yet")]
    NotYet,
    /// Its time is over.
    #[error("the certificate has expired")]
    Expired,
    /// It was revoked, or what vouches for it was.
    #[error("the certificate was revoked")]
    Revoked,
    /// It is not for this side of a connection.
    #[error("the certificate is not for this use")]
    Usage,
    /// It has no SPIFFE id, or more than one, or one that no workload has.
    #[error("the certificate has not exactly one name, a workload's SPIFFE id")]
    NoIdentity,
    /// It is of another trust domain.
    #[error("{0} is of another trust domain")]
    TrustDomain(Principal),
    /// It is another than the one that was called.
    #[error("{found} answered, {expected} was called")]
    Unexpected {
        /// Who has answered.
        found: Principal,
        /// Who was to.
        expected: Principal,
    },
}

impl From<Refusal> for rustls::Error {
    fn from(refusal: Refusal) -> Self {
        let alert = match refusal {
            Refusal::NoCertificate => return Self::NoCertificatesPresented,
            Refusal::Unreadable => Alert::BadEncoding,
            Refusal::Untrusted(_) => Alert::UnknownIssuer,
            Refusal::NotYet => Alert::NotValidYet,
            Refusal::Expired => Alert::Expired,
            Refusal::Revoked => Alert::Revoked,
            Refusal::Usage => Alert::InvalidPurpose,
            Refusal::NoIdentity | Refusal::TrustDomain(_) | Refusal::Unexpected { .. } => {
                Alert::Other(rustls::OtherError(Arc::new(refusal)))
            }
        };
        Self::InvalidCertificate(alert)
    }
}

/// Why a bundle cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file is not what PEM is.
    #[error("the trust bundle or the list of what was revoked is no PEM: {0}")]
    Pem(String),
    /// There is none.
    #[error("the trust bundle has no certificate")]
    NoRoot,
    /// More than anybody needs.
    #[error(
        "the trust bundle has more than {ROOTS} certificates, or there are more than {LISTS} lists of what was revoked"
    )]
    TooMany,
    /// One of them is no authority's.
    #[error("a certificate of the trust bundle cannot be used: {0}")]
    Root(webpki::Error),
    /// A list cannot be read.
    #[error("a list of what was revoked cannot be used: {0}")]
    List(webpki::Error),
}

/// Whom the mesh believes.
pub struct Trust {
    trust_domain: Box<str>,
    roots: Vec<TrustAnchor<'static>>,
    lists: Vec<CertRevocationList<'static>>,
    /// What it was made of, so that it is seen whether it has changed.
    source: (Box<[u8]>, Box<[u8]>),
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Trust");
        shown.field("trust_domain", &self.trust_domain).field("roots", &self.roots.len());
        shown.field("lists", &self.lists.len()).finish_non_exhaustive()
    }
}

impl PartialEq for Trust {
    fn eq(&self, other: &Self) -> bool {
        self.trust_domain == other.trust_domain && self.source == other.source
    }
}

impl Trust {
    /// Believes the certificates of a bundle (PEM), except for what these lists (PEM, RFC 5280 section 5) say was revoked.
    ///
    /// # Errors
    /// When either cannot be read, or the bundle is empty.
    pub fn read(trust_domain: &str, bundle: &[u8], revoked: &[u8]) -> Result<Self, TrustError> {
        let pem = |error: rustls::pki_types::pem::Error| TrustError::Pem(error.to_string());
        let roots: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(bundle).take(ROOTS + 1).collect::<Result<_, _>>().map_err(pem)?;
        let lists: Vec<CertificateRevocationListDer<'static>> = CertificateRevocationListDer::pem_slice_iter(revoked)
            .take(LISTS + 1)
            .collect::<Result<_, _>>()
            .map_err(pem)?;
        if roots.is_empty() {
            return Err(TrustError::NoRoot);
        }
        if roots.len() > ROOTS || lists.len() > LISTS {
            return Err(TrustError::TooMany);
        }
        let anchor = |root: &CertificateDer<'_>| anchor_from_trusted_cert(root).map(|anchor| anchor.to_owned());
        let list = |list: &CertificateRevocationListDer<'_>| OwnedCertRevocationList::from_der(list).map(Into::into);
        Ok(Self {
            trust_domain: trust_domain.into(),
            roots: roots.iter().map(anchor).collect::<Result<_, _>>().map_err(TrustError::Root)?,
            lists: lists.iter().map(list).collect::<Result<_, _>>().map_err(TrustError::List)?,
            source: (bundle.into(), revoked.into()),
        })
    }

    /// The client that shows this chain (PEM), if that is believed at this time.
    ///
    /// # Errors
    /// Why it is not.
    pub fn peer(&self, chain: &[u8], now: SystemTime) -> Result<Peer, Refusal> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).take(CHAIN + 1).collect();
        let chain = chain.map_err(|_| Refusal::Unreadable)?;
        if chain.len() > CHAIN { Err(Refusal::Unreadable) } else { self.verify(&chain, Side::Client, now) }
    }

    /// Who shows this chain, if that is believed at this time.
    pub(crate) fn verify(&self, chain: &[CertificateDer<'_>], side: Side, now: SystemTime) -> Result<Peer, Refusal> {
        let (first, others) = chain.split_first().ok_or(Refusal::NoCertificate)?;
        let leaf = EndEntityCert::try_from(first).map_err(|_| Refusal::Unreadable)?;
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let usage = match side {
            Side::Client => KeyUsage::client_auth(),
            Side::Server => KeyUsage::server_auth(),
        };
        let lists: Vec<&CertRevocationList<'_>> = self.lists.iter().collect();
        // A list that is overdue still says what was revoked; where an authority has none, nothing was.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Allow)
                .with_expiration_policy(ExpirationPolicy::Ignore)
                .build()
        });
        let algorithms = aws_lc_rs::default_provider().signature_verification_algorithms;
        let path = leaf
            .verify_for_usage(algorithms.all, &self.roots, others, now, usage, revocation, None)
            .map_err(refusal)?;
        let node = path.intermediate_certificates().next().and_then(|issuer| node(&issuer.der()));
        let principal = principal(first)?;
        if principal.trust_domain() != &*self.trust_domain {
            return Err(Refusal::TrustDomain(principal));
        }
        let (_, not_after) = crate::certificate::validity(first).map_err(|_| Refusal::Unreadable)?;
        Ok(Peer { principal, node, not_after })
    }
}

fn refusal(error: webpki::Error) -> Refusal {
    match error {
        webpki::Error::CertNotValidYet { .. } => Refusal::NotYet,
        webpki::Error::CertExpired { .. } => Refusal::Expired,
        webpki::Error::CertRevoked => Refusal::Revoked,
        webpki::Error::RequiredEkuNotFoundContext(_) => Refusal::Usage,
        webpki::Error::BadDer | webpki::Error::BadDerTime => Refusal::Unreadable,
        other => Refusal::Untrusted(format!("{other:?}")),
    }
}

/// Who a certificate is for: its only name, which is a workload's SPIFFE id (X.509-SVID, section 2).
pub(crate) fn principal(der: &CertificateDer<'_>) -> Result<Principal, Refusal> {
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| Refusal::Unreadable)?;
    let names = certificate.subject_alternative_name().map_err(|_| Refusal::Unreadable)?;
    let mut ids = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(id) => Some(*id),
        _ => None,
    });
    match (ids.next(), ids.next()) {
        (Some(id), None) => Principal::from_id(id).ok_or(Refusal::NoIdentity),
        _ => Err(Refusal::NoIdentity),
    }
}

/// What the subjects of nodes' authorities have as their unit.
pub(crate) const NODE_UNIT: &str = "weir node";

/// The node whose authority this is the certificate of.
pub(crate) fn node(der: &CertificateDer<'_>) -> Option<Box<str>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let subject = certificate.subject();
    let unit = subject.iter_organizational_unit().next()?.as_str().ok()?;
    let name = subject.iter_common_name().next()?.as_str().ok()?;
    (unit == NODE_UNIT).then(|| name.into())
}
