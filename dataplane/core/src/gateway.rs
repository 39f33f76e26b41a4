//! Gateways: ports of the node that clients from outside connect to, and which of their routes a host name leads to.
//!
//! The rules are those of the Gateway API (`Listener.hostname`, `HTTPRouteSpec.hostnames`): of the listeners of a port the
//! one with the most specific host name takes a request, and no other is asked; of its routes those for the most specific
//! host name come first.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use crate::name::ObjectName;
use crate::snapshot::Frontend;

/// Bytes of a host name (RFC 1035, section 2.3.4). What is longer is none.
const HOST_BYTES: usize = 253;

/// Which host names something is for.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hostname {
    /// All of them, also none.
    #[default]
    Any,
    /// Those that end so, kept with the dot that it begins with: `*.example.com` is met by `a.example.com` and
    /// `a.b.example.com`, not by `example.com`.
    Suffix(Box<str>),
    /// This one.
    Exact(Box<str>),
}

impl Hostname {
    /// Reads a host name as it is written: in lower case, with `*` for its first label at most.
    pub fn new(text: &str) -> Self {
        match text.strip_prefix('*') {
            Some(suffix) => Self::Suffix(suffix.into()),
            None => Self::Exact(text.into()),
        }
    }

    /// Whether a host is meant.
    pub fn matches(&self, host: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(&**suffix),
            Self::Exact(exact) => host == &**exact,
        }
    }

    /// The hosts that both mean; `None` if there are none.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Any, one) | (one, Self::Any) => Some(one.clone()),
            (Self::Exact(exact), one) | (one, Self::Exact(exact)) => {
                one.matches(exact).then(|| Self::Exact(exact.clone()))
            }
            (Self::Suffix(one), Self::Suffix(another)) => {
                let (longer, shorter) = if one.len() >= another.len() { (one, another) } else { (another, one) };
                longer.ends_with(&**shorter).then(|| Self::Suffix(longer.clone()))
            }
        }
    }

    /// How specific it is: an exact name more than any suffix, and the longer the more.
    pub fn specificity(&self) -> u32 {
        match self {
            Self::Any => 0,
            Self::Suffix(suffix) => suffix.len() as u32,
            Self::Exact(exact) => (1 << 16) + exact.len() as u32,
        }
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Suffix(suffix) => write!(f, "*{suffix}"),
            Self::Exact(exact) => f.write_str(exact),
        }
    }
}

/// Something for each of several host names.
#[derive(Clone, Debug)]
pub struct Hosts<T> {
    exact: HashMap<Box<str>, T>,
    suffixes: HashMap<Box<str>, T>,
    any: Option<T>,
}

impl<T> Default for Hosts<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), suffixes: HashMap::new(), any: None }
    }
}

impl<T> FromIterator<(Hostname, T)> for Hosts<T> {
    /// Of several for one host name the last counts.
    fn from_iter<I: IntoIterator<Item = (Hostname, T)>>(all: I) -> Self {
        let mut hosts = Self::default();
        for (name, value) in all {
            match name {
                Hostname::Any => hosts.any = Some(value),
                Hostname::Suffix(suffix) => drop(hosts.suffixes.insert(suffix, value)),
                Hostname::Exact(exact) => drop(hosts.exact.insert(exact, value)),
            }
        }
        hosts
    }
}

impl<T> Hosts<T> {
    /// What the most specific name has that means a host. The host is in lower case, without a port.
    pub fn find(&self, host: &str) -> Option<&T> {
        let is_name = host.len() <= HOST_BYTES;
        let exact = || self.exact.get(host);
        let suffix = || {
            if self.suffixes.is_empty() {
                return None;
            }
            let dots = host.match_indices('.').map(|(at, _)| at).filter(|at| *at > 0);
            dots.map(|at| &host[at..]).find_map(|suffix| self.suffixes.get(suffix))
        };
        is_name.then(|| exact().or_else(suffix)).flatten().or(self.any.as_ref())
    }

    /// All of them, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.suffixes.values()).chain(&self.any)
    }
}

/// Where a gateway listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bind {
    /// The address; `None` for all of the node's.
    pub ip: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:{}", self.port),
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:{}", self.port),
            None => write!(f, "*:{}", self.port),
        }
    }
}

/// A certificate, by the secret that it is kept in.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CertificateName {
    /// The secret's namespace.
    pub namespace: Arc<str>,
    /// Its name there.
    pub name: Arc<str>,
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The listeners of gateways that share an address and a port.
#[derive(Debug)]
pub struct Port {
    /// Where they listen.
    pub bind: Bind,
    /// Whether clients speak TLS there.
    pub is_tls: bool,
    /// The listeners, by their host names.
    pub listeners: Hosts<Listener>,
}

/// A listener of a gateway.
#[derive(Debug)]
pub struct Listener {
    /// The gateway.
    pub gateway: ObjectName,
    /// Its name there.
    pub name: Arc<str>,
    /// What it shows clients in TLS. None: it refuses them.
    pub certificates: Arc<[CertificateName]>,
    /// Its routes, by the host names that they and the listener have in common.
    pub frontends: Hosts<Arc<Frontend>>,
}

impl Port {
    /// What decides about requests for a host. The host is in lower case, without a port; empty where none is said.
    pub fn frontend(&self, host: &str) -> Option<&Arc<Frontend>> {
        self.listeners.find(host)?.frontends.find(host)
    }

    /// Whether a request for a host came over a connection to a name of another listener: nothing of what that asks of
    /// its clients would hold for it (RFC 9110, section 15.5.20). The name is as the host.
    pub fn is_misdirected(&self, server_name: &str, host: &str) -> bool {
        let meant = self.listeners.find(host);
        meant.is_some_and(|meant| !self.listeners.find(server_name).is_some_and(|one| std::ptr::eq(one, meant)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(texts: &[&str]) -> Vec<Hostname> {
        texts.iter().map(|text| if *text == "*" { Hostname::Any } else { Hostname::new(text) }).collect()
    }

    #[test]
    fn the_most_specific_name_is_found() {
        let all = ["*", "*.example.com", "*.b.example.com", "a.b.example.com", "example.com"];
        let hosts: Hosts<String> = names(&all).into_iter().map(|name| (name.clone(), name.to_string())).collect();
        let long = format!("{}.example.com", "a".repeat(250));
        for (host, expected) in [
            ("a.b.example.com", "a.b.example.com"),
            ("c.b.example.com", "*.b.example.com"),
            ("d.c.b.example.com", "*.b.example.com"),
            ("b.example.com", "*.example.com"),
            ("example.com", "example.com"),
            (".example.com", "*"),
            ("badexample.com", "*"),
            ("", "*"),
            (&long, "*"),
        ] {
            assert_eq!(hosts.find(host).map(String::as_str), Some(expected), "{host}");
        }
        assert_eq!(Hosts::<()>::default().find("a"), None);
    }

    #[test]
    fn what_two_names_have_in_common() {
        for (one, other, expected) in [
            ("*", "*", Some("*")),
            ("*", "a.example.com", Some("a.example.com")),
            ("*.example.com", "a.example.com", Some("a.example.com")),
            ("*.example.com", "a.b.example.com", Some("a.b.example.com")),
            ("*.example.com", "example.com", None),
            ("*.example.com", "*.b.example.com", Some("*.b.example.com")),
            ("*.example.com", "*.example.org", None),
            ("*.example.com", "*", Some("*.example.com")),
            ("a.example.com", "b.example.com", None),
            ("*.le.com", "*.example.com", None),
        ] {
            let [one, other] = [one, other].map(|text| names(&[text]).remove(0));
            let expected = expected.map(|text| names(&[text]).remove(0));
            assert_eq!(one.intersection(&other), expected, "{one} {other}");
            assert_eq!(other.intersection(&one), expected, "{other} {one}");
        }
    }

    #[test]
    fn exact_is_more_specific_than_long() {
        let in_order = names(&["*", "*.com", "*.example.com", "a.b", "a.bc"]);
        assert!(in_order.windows(2).all(|pair| pair[0].specificity() < pair[1].specificity()));
    }
}
