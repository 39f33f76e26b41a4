//! The embedded authority: a root, which can stay offline, and one authority for each node, which vouches for the workloads of
//! that node. Every node's authority carries the name of its node, so that peers see when one vouches for what does not run there.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams, CidrSubnet,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, NameConstraints, PublicKeyData, RevocationReason, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use weir_core::authorization::{Principal, is_trust_domain};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::certificate::CertificateError;
use crate::sealed::{Passphrase, SealError};
use crate::svid::Svid;
use crate::trust::NODE_UNIT;

/// Clocks of nodes differ: what is signed now was valid a little before.
const SKEW: Duration = Duration::from_secs(60);
/// Characters of a node's name, as Kubernetes bounds it (RFC 1123).
const NODE_NAME: usize = 253;

/// Why an authority cannot do what it is to do.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Its key cannot be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// A certificate or a request cannot be read or made.
    #[error("{0}")]
    Certificate(#[from] rcgen::Error),
    /// It cannot be used.
    #[error(transparent)]
    Unusable(#[from] CertificateError),
    /// It is not what it was taken for.
    #[error("{0}")]
    Wrong(String),
}

/// A key and its certificate, which sign others.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate; for a node's followed by none: the root is known to peers.
    certificate: CertificateDer<'static>,
    not_after: SystemTime,
}

impl Authority {
    fn read(certificate: &str, key: &str, passphrase: &Passphrase) -> Result<Self, AuthorityError> {
        let pem = CertificateDer::from_pem_slice(certificate.as_bytes());
        let certificate = pem.map_err(|error| AuthorityError::Wrong(format!("the certificate is no PEM: {error}")))?;
        let key = open(key, passphrase)?;
        let (_, read) = X509Certificate::from_der(&certificate)
            .map_err(|error| AuthorityError::Wrong(format!("the certificate cannot be read: {error}")))?;
        if read.public_key().raw != key.subject_public_key_info() {
            return Err(AuthorityError::Wrong("the key is not the certificate's".to_owned()));
        }
        let (_, not_after) = crate::certificate::validity(&certificate)?;
        Ok(Self { issuer: Issuer::from_ca_cert_der(&certificate, key)?, certificate, not_after })
    }

    fn key(&self, passphrase: &Passphrase) -> Result<String, AuthorityError> {
        Ok(passphrase.seal(&self.issuer.key().serialize_der())?)
    }
}

fn open(key: &str, passphrase: &Passphrase) -> Result<KeyPair, AuthorityError> {
    let key = passphrase.open(key)?;
    Ok(KeyPair::try_from(&PrivatePkcs8KeyDer::from(key.as_bytes()))?)
}

/// What every certificate here has; nothing of what the library adds by itself.
fn params(now: SystemTime, life: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = (now - SKEW).into();
    params.not_after = (now + life).into();
    params.distinguished_name = DistinguishedName::new();
    params.use_authority_key_identifier_extension = true;
    params
}

fn authority(now: SystemTime, life: Duration, below: u8) -> CertificateParams {
    let mut params = params(now, life);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// The root of a mesh.
pub struct Root {
    authority: Authority,
    trust_domain: String,
}

impl fmt::Debug for Root {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Root").field("trust_domain", &self.trust_domain).finish_non_exhaustive()
    }
}

impl Root {
    /// A new one, for a trust domain.
    ///
    /// # Errors
    /// When the trust domain is none.
    pub fn create(trust_domain: &str, now: SystemTime, life: Duration) -> Result<Self, AuthorityError> {
        if !is_trust_domain(trust_domain) {
            let message = format!("`{trust_domain}` is no trust domain: lower-case letters, digits, `.`, `-`, `_`");
            return Err(AuthorityError::Wrong(message));
        }
        let mut params = authority(now, life, 1);
        params.distinguished_name.push(DnType::OrganizationName, trust_domain);
        // The key's identifier tells roots of one trust domain apart.
        let key = KeyPair::generate()?;
        let name = format!("weir root {}", hex(&params.key_identifier(&key)[..4]));
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::URI(format!("spiffe://{trust_domain}").try_into()?)];
        let certificate = params.self_signed(&key)?.der().clone();
        let authority = Authority { issuer: Issuer::new(params, key), certificate, not_after: now + life };
        Ok(Self { authority, trust_domain: trust_domain.to_owned() })
    }

    /// Reads one: its certificate, and its sealed key, both in PEM.
    ///
    /// # Errors
    /// When either cannot be read, or they do not belong together, or it is no root.
    pub fn read(certificate: &str, key: &str, passphrase: &Passphrase) -> Result<Self, AuthorityError> {
        let authority = Authority::read(certificate, key, passphrase)?;
        let trust_domain = trust_domain(&authority.certificate);
        let trust_domain = trust_domain.ok_or_else(|| AuthorityError::Wrong("this is no mesh's root".to_owned()))?;
        Ok(Self { authority, trust_domain })
    }

    /// What it vouches in.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Its certificate, in PEM.
    pub fn certificate(&self) -> String {
        pem("CERTIFICATE", &self.authority.certificate)
    }

    /// Its key, sealed, in PEM.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn key(&self, passphrase: &Passphrase) -> Result<String, AuthorityError> {
        self.authority.key(passphrase)
    }

    /// Signs the authority of a node: its certificate, in PEM. Of the request (PEM) the key counts, and that whoever asks has it.
    ///
    /// # Errors
    /// When the request cannot be read, or is not signed by its own key, or the root does not last as long.
    pub fn sign(&self, node: &str, request: &str, now: SystemTime, life: Duration) -> Result<String, AuthorityError> {
        if !is_node(node) {
            return Err(AuthorityError::Wrong(format!("`{node}` is no name of a node")));
        }
        if now + life > self.authority.not_after {
            return Err(AuthorityError::Wrong("the root does not last as long".to_owned()));
        }
        let request = CertificateSigningRequestParams::from_pem(request)?;
        let mut params = authority(now, life, 0);
        params.distinguished_name.push(DnType::OrganizationName, &*self.trust_domain);
        params.distinguished_name.push(DnType::OrganizationalUnitName, NODE_UNIT);
        params.distinguished_name.push(DnType::CommonName, node);
        params.name_constraints = Some(ids_only());
        let signed = params.signed_by(&request.public_key, &self.authority.issuer)?;
        Ok(signed.pem())
    }

    /// The list of what it has revoked (RFC 5280, section 5), in PEM: the certificates (PEM) of nodes' authorities.
    ///
    /// # Errors
    /// When one of them cannot be read.
    pub fn revoke(&self, certificates: &[String], now: SystemTime, life: Duration) -> Result<String, AuthorityError> {
        let revoked = |pem: &String| {
            let der = CertificateDer::from_pem_slice(pem.as_bytes());
            let der = der.map_err(|error| AuthorityError::Wrong(format!("the certificate is no PEM: {error}")))?;
            let (_, read) = X509Certificate::from_der(&der)
                .map_err(|error| AuthorityError::Wrong(format!("the certificate cannot be read: {error}")))?;
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from_slice(read.raw_serial()),
                revocation_time: now.into(),
                reason_code: Some(RevocationReason::CaCompromise),
                invalidity_date: None,
            })
        };
        let revoked_certs = certificates.iter().map(revoked).collect::<Result<_, AuthorityError>>()?;
        let number = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let list = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + life).into(),
            crl_number: SerialNumber::from(number),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.authority.issuer)?.pem()?)
    }
}

/// What a node's authority may put into names: no host names and no addresses, so that it vouches for nobody outside the mesh.
/// That the ids are of the trust domain is checked by peers: of constraints on URIs (RFC 5280, section 4.2.1.10) libraries
/// know nothing, and refuse the whole chain.
fn ids_only() -> NameConstraints {
    let excluded_subtrees = vec![
        GeneralSubtree::DnsName(String::new()),
        GeneralSubtree::Rfc822Name(String::new()),
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(Ipv4Addr::UNSPECIFIED.into(), 0)),
        GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(Ipv6Addr::UNSPECIFIED.into(), 0)),
    ];
    NameConstraints { permitted_subtrees: Vec::new(), excluded_subtrees }
}

/// The trust domain of a root: the SPIFFE id of a signing certificate has no path (X.509-SVID, section 4.1).
fn trust_domain(der: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let names = certificate.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(id) => id.strip_prefix("spiffe://").filter(|one| is_trust_domain(one)).map(str::to_owned),
        _ => None,
    })
}

/// Whether a node can have this name.
pub fn is_node(name: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    (1..=NODE_NAME).contains(&name.len()) && name.bytes().all(is_fine)
}

/// The authority of a node.
pub struct NodeAuthority {
    authority: Authority,
    node: String,
}

impl fmt::Debug for NodeAuthority {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeAuthority").field("node", &self.node).finish_non_exhaustive()
    }
}

impl NodeAuthority {
    /// A new key for a node, sealed, and the request for its certificate, both in PEM.
    ///
    /// # Errors
    /// When it cannot be sealed.
    pub fn request(node: &str, passphrase: &Passphrase) -> Result<(String, String), AuthorityError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, node);
        let request = params.serialize_request(&key)?.pem()?;
        Ok((passphrase.seal(&key.serialize_der())?, request))
    }

    /// Reads one: its certificate, and its sealed key, both in PEM.
    ///
    /// # Errors
    /// When either cannot be read, or they do not belong together, or it is no node's.
    pub fn read(certificate: &str, key: &str, passphrase: &Passphrase) -> Result<Self, AuthorityError> {
        let authority = Authority::read(certificate, key, passphrase)?;
        let node = crate::trust::node(&authority.certificate);
        let node = node.ok_or_else(|| AuthorityError::Wrong("this is no node's authority".to_owned()))?;
        Ok(Self { authority, node: node.into() })
    }

    /// Whose it is.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Until when it can vouch for anything.
    pub fn not_after(&self) -> SystemTime {
        self.authority.not_after
    }

    /// A new key and certificate for a workload, which must run on this node: whether it does is for the caller to know. It ends
    /// with the authority at the latest.
    ///
    /// # Errors
    /// When the authority itself has expired.
    pub fn issue(&self, principal: &Principal, now: SystemTime, life: Duration) -> Result<Svid, AuthorityError> {
        let left = self.authority.not_after.duration_since(now).unwrap_or_default();
        if left.is_zero() {
            return Err(AuthorityError::Wrong(format!("the authority of node {} has expired", self.node)));
        }
        let key = KeyPair::generate()?;
        let leaf = self.sign(principal, &key, now, life.min(left))?;
        let chain = vec![leaf.der().clone(), self.authority.certificate.clone()];
        Ok(Svid::new(chain, PrivatePkcs8KeyDer::from(key.serialize_der()).into())?)
    }

    /// Its own certificate.
    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.authority.certificate
    }

    fn sign(
        &self,
        principal: &Principal,
        key: &KeyPair,
        now: SystemTime,
        life: Duration,
    ) -> Result<rcgen::Certificate, AuthorityError> {
        let mut params = params(now, life);
        // Without a subject: then the name below is critical (X.509-SVID, section 4.4).
        params.subject_alt_names = vec![SanType::URI(principal.id().try_into()?)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Ok(params.signed_by(key, &self.authority.issuer)?)
    }

    /// The same in PEM, as others write it.
    #[cfg(test)]
    pub(crate) fn issue_pem(
        &self,
        principal: &Principal,
        now: SystemTime,
        life: Duration,
    ) -> Result<(String, String), AuthorityError> {
        let key = KeyPair::generate()?;
        let leaf = self.sign(principal, &key, now, life)?;
        Ok((leaf.pem() + &pem("CERTIFICATE", &self.authority.certificate), key.serialize_pem()))
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// PEM of what has this label.
fn pem(label: &str, der: &[u8]) -> String {
    let encoded = pkcs8::der::pem::encode_string(label, pkcs8::der::pem::LineEnding::LF, der);
    encoded.unwrap_or_default()
}
