//! Who workloads are: SPIFFE ids of the form that Kubernetes meshes use.

use std::fmt;
use std::sync::Arc;

/// What the ids of workloads begin with.
const SCHEME: &str = "spiffe://";
/// Bytes of an id (SPIFFE-ID, section 2.3).
const ID_BYTES: usize = 2_048;
/// Bytes of a trust domain (SPIFFE-ID, section 2.1).
const TRUST_DOMAIN_BYTES: usize = 255;

/// Who a workload is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Principal {
    text: Arc<str>,
    namespace: Arc<str>,
}

impl Principal {
    /// A service account's, in a trust domain.
    pub fn new(trust_domain: &str, namespace: &Arc<str>, service_account: &str) -> Self {
        let text = format!("{trust_domain}/ns/{namespace}/sa/{service_account}").into();
        Self { text, namespace: Arc::clone(namespace) }
    }

    /// The one with this SPIFFE id (SPIFFE-ID, section 2): `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
    /// `None` for any other kind of id.
    pub fn from_id(id: &str) -> Option<Self> {
        let text = id.strip_prefix(SCHEME).filter(|_| id.len() <= ID_BYTES)?;
        let parts: Vec<&str> = text.splitn(6, '/').collect();
        match *parts {
            [trust_domain, "ns", namespace, "sa", service_account]
                if is_trust_domain(trust_domain) && is_segment(namespace) && is_segment(service_account) =>
            {
                Some(Self { text: text.into(), namespace: namespace.into() })
            }
            _ => None,
        }
    }

    /// `TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Its SPIFFE id.
    pub fn id(&self) -> String {
        format!("{SCHEME}{}", self.text)
    }

    /// What vouches for it.
    pub fn trust_domain(&self) -> &str {
        self.text.split_once('/').map_or("", |(trust_domain, _)| trust_domain)
    }

    /// The namespace that it runs in.
    pub fn namespace(&self) -> &Arc<str> {
        &self.namespace
    }

    /// The service account that it runs as.
    pub fn service_account(&self) -> &str {
        self.text.rsplit_once('/').map_or("", |(_, name)| name)
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Whether this names a trust domain: lower-case letters, digits, `.`, `-` and `_` (SPIFFE-ID, section 2.1).
pub fn is_trust_domain(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    (1..=TRUST_DOMAIN_BYTES).contains(&text.len()) && text.bytes().all(is_fine)
}

/// Whether this is a segment of a path (SPIFFE-ID, section 2.2).
fn is_segment(text: &str) -> bool {
    let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    !text.is_empty() && text != "." && text != ".." && text.bytes().all(is_fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_and_written() {
        let principal = Principal::from_id("spiffe://edge.example/ns/shop/sa/cart.v1").unwrap();
        assert_eq!(principal, Principal::new("edge.example", &"shop".into(), "cart.v1"));
        assert_eq!(principal.as_str(), "edge.example/ns/shop/sa/cart.v1");
        assert_eq!(principal.id(), "spiffe://edge.example/ns/shop/sa/cart.v1");
        assert_eq!(
            (principal.trust_domain(), &**principal.namespace(), principal.service_account()),
            ("edge.example", "shop", "cart.v1")
        );
    }

    #[test]
    fn other_ids_are_refused() {
        let long = format!("spiffe://a/ns/b/sa/{}", "c".repeat(ID_BYTES));
        for id in [
            "",
            "edge.example/ns/shop/sa/cart",
            "https://edge.example/ns/shop/sa/cart",
            "SPIFFE://edge.example/ns/shop/sa/cart",
            "spiffe://Edge.example/ns/shop/sa/cart",
            "spiffe://edge.example:80/ns/shop/sa/cart",
            "spiffe://user@edge.example/ns/shop/sa/cart",
            "spiffe:///ns/shop/sa/cart",
            "spiffe://edge.example",
            "spiffe://edge.example/ns/shop",
            "spiffe://edge.example/sa/shop/ns/cart",
            "spiffe://edge.example/ns/shop/sa/cart/",
            "spiffe://edge.example/ns/shop/sa/cart/more",
            "spiffe://edge.example/ns//sa/cart",
            "spiffe://edge.example/ns/shop/sa/",
            "spiffe://edge.example/ns/../sa/cart",
            "spiffe://edge.example/ns/shop/sa/c%61rt",
            "spiffe://edge.example/ns/shop/sa/cart?q",
            "spiffe://edge.example/ns/shop/sa/cart#f",
            "spiffe://edge.example/ns/sh\u{f6}p/sa/cart",
            &long,
        ] {
            assert_eq!(Principal::from_id(id), None, "{id}");
        }
    }
}
