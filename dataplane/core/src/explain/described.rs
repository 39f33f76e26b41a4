//! A request as a person describes it, and finding what it addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::{Deserialize, Serialize};

use super::{Explanation, explain};
use crate::cluster::Family;
use crate::name::{DEFAULT_NAMESPACE, OriginalDst, ServiceName};
use crate::route::{Request, Source};
use crate::snapshot::{Frontend, Snapshot};
use crate::workload::Workload;

/// A request that somebody wants explained.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    /// `http://HOST[:PORT]/PATH[?QUERY]`, where the host is a service (`name`, `name.namespace`,
    /// `name.namespace.svc.cluster.local`) or one of its addresses.
    pub url: String,
    /// The method; `GET` when absent.
    #[serde(default = "get")]
    pub method: String,
    /// Headers, `Name: value` each.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Who sends it: a pod (`name` or `namespace/name`) or an address. Absent: somebody unknown.
    #[serde(default)]
    pub from: Option<String>,
}

fn get() -> String {
    "GET".to_owned()
}

/// Why a description cannot be explained.
#[derive(Debug, PartialEq, Eq)]
pub enum DescribeError {
    /// The URL does not have the form `http://HOST[:PORT]/PATH`.
    BadUrl(String),
    /// The method is not a token.
    BadMethod(String),
    /// A header is not `Name: value`.
    BadHeader(String),
    /// No service has this name or address; what there is follows.
    NoSuchService(String, Vec<String>),
    /// The service has no such port; those it has follow.
    NoSuchPort(String, Vec<u16>),
    /// No workload has this name, and it is not an address.
    NoSuchSource(String),
}

impl std::fmt::Display for DescribeError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BadUrl(url) => write!(f, "\"{url}\" is not of the form http://HOST[:PORT]/PATH"),
            Self::BadMethod(method) => write!(f, "\"{method}\" is not an HTTP method"),
            Self::BadHeader(header) => write!(f, "\"{header}\" is not of the form \"Name: value\""),
            Self::NoSuchService(host, known) if known.is_empty() => {
                write!(f, "no service has the name or address \"{host}\": there are no services at all")
            }
            Self::NoSuchService(host, known) => {
                write!(f, "no service has the name or address \"{host}\"; there are {}", known.join(", "))
            }
            Self::NoSuchPort(service, ports) => {
                let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
                write!(f, "{service} has no such port; it has {}", ports.join(", "))
            }
            Self::NoSuchSource(from) => write!(f, "no workload is called \"{from}\", and it is not an address"),
        }
    }
}

impl std::error::Error for DescribeError {}

impl Described {
    /// Explains the request under a snapshot.
    ///
    /// # Errors
    /// When the description is malformed or names something that the snapshot does not have.
    pub fn explain(&self, snapshot: &Snapshot) -> Result<Explanation, DescribeError> {
        let uri: Uri = self.url.parse().map_err(|_| DescribeError::BadUrl(self.url.clone()))?;
        let (Some(host), Some("http")) = (uri.host(), uri.scheme_str()) else {
            return Err(DescribeError::BadUrl(self.url.clone()));
        };
        let method = Method::from_bytes(self.method.as_bytes());
        let method = method.map_err(|_| DescribeError::BadMethod(self.method.clone()))?;
        let headers = header_map(&self.headers, uri.authority().map(http::uri::Authority::as_str))?;
        let frontend = frontend(snapshot, host, uri.port_u16())?;
        let (addresses, workload) = self.source(snapshot)?;
        let family = family(host, frontend, &addresses);
        // As the proxy sees it: the address of the source that belongs to the family of the connection.
        let suits = |address: &&IpAddr| family.is_none_or(|family| Family::of(**address) == family);
        let address = addresses.iter().find(suits).or(addresses.first()).copied();
        let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let source = Source { address, workload: workload.map(Arc::as_ref) };
        let request = Request {
            method: &method,
            path: uri.path(),
            query: uri.query(),
            headers: &headers,
            source,
            attributes: &[],
        };
        Ok(explain(snapshot, frontend, &request, family))
    }

    /// The addresses that the request can come from, none when nobody knows, and whose they are.
    fn source<'s>(&self, snapshot: &'s Snapshot) -> Result<End<'s>, DescribeError> {
        self.from.as_deref().map_or_else(|| Ok((Vec::new(), None)), |from| end(snapshot, from))
    }
}

/// Addresses, and whose they are.
pub(super) type End<'s> = (Vec<IpAddr>, Option<&'s Arc<Workload>>);

/// The addresses of a pod, given as its name or `namespace/name`, or the one that is given itself; and whose they are.
pub(super) fn end<'s>(snapshot: &'s Snapshot, text: &str) -> Result<End<'s>, DescribeError> {
    if let Ok(address) = text.parse() {
        return Ok((vec![address], snapshot.workload(address)));
    }
    let (namespace, name) = text.split_once('/').unwrap_or((DEFAULT_NAMESPACE, text));
    let mut workloads = snapshot.workloads();
    let found = workloads.find(|(_, workload)| *workload.namespace == *namespace && *workload.name == *name);
    let (_, workload) = found.ok_or_else(|| DescribeError::NoSuchSource(text.to_owned()))?;
    Ok((workload.addresses.clone(), Some(workload)))
}

/// Headers, each written as `Name: value`.
pub(super) fn header_map(lines: &[String], authority: Option<&str>) -> Result<HeaderMap, DescribeError> {
    let mut headers = HeaderMap::new();
    for line in lines {
        let bad = || DescribeError::BadHeader(line.clone());
        let (name, value) = line.split_once(':').ok_or_else(bad)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| bad())?;
        headers.append(name, HeaderValue::from_str(value.trim()).map_err(|_| bad())?);
    }
    // What a client would send by itself, so that rules on `host` can be explained.
    if let Some(Ok(host)) = authority.map(HeaderValue::from_str)
        && !headers.contains_key(http::header::HOST)
    {
        headers.insert(http::header::HOST, host);
    }
    Ok(headers)
}

/// The family of the connection: that of the address in the URL, else the only one that the service or the source has.
fn family(host: &str, frontend: &Frontend, source: &[IpAddr]) -> Option<Family> {
    let only = |addresses: &[IpAddr]| {
        let first = Family::of(*addresses.first()?);
        addresses.iter().all(|address| Family::of(*address) == first).then_some(first)
    };
    let service: Vec<IpAddr> = frontend.addresses.iter().map(SocketAddr::ip).collect();
    literal(host).map(Family::of).or_else(|| only(&service)).or_else(|| only(source))
}

/// The address that the host of a URL is, unless it is a name.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// The frontend that a URL's host and port mean.
fn frontend<'s>(snapshot: &'s Snapshot, host: &str, port: Option<u16>) -> Result<&'s Frontend, DescribeError> {
    if let Some(address) = literal(host) {
        let destination = OriginalDst(SocketAddr::new(address, port.unwrap_or(80)));
        let found = snapshot.frontend_at(destination).map(Arc::as_ref);
        return found.ok_or_else(|| unknown(snapshot, &destination.0.to_string()));
    }
    let mut labels = host.split('.');
    let name = labels.next().unwrap_or_default();
    let service = ServiceName::new(labels.next().unwrap_or(DEFAULT_NAMESPACE), name);
    let frontends: Vec<&Frontend> = snapshot.service(&service).map(Arc::as_ref).collect();
    match (port, frontends.as_slice()) {
        (_, []) => Err(unknown(snapshot, host)),
        (None, [only]) => Ok(only),
        (port, several) => {
            let port = port.unwrap_or(80);
            let found = several.iter().copied().find(|frontend| frontend.name.port == port);
            let ports = || several.iter().map(|frontend| frontend.name.port).collect();
            found.ok_or_else(|| DescribeError::NoSuchPort(service.to_string(), ports()))
        }
    }
}

fn unknown(snapshot: &Snapshot, host: &str) -> DescribeError {
    let mut known: Vec<String> = snapshot.frontends().map(|frontend| frontend.name.service.to_string()).collect();
    known.dedup();
    known.truncate(20);
    DescribeError::NoSuchService(host.to_owned(), known)
}

#[cfg(test)]
mod tests;
