//! HBONE, the tunnel between nodes: HTTP/2 CONNECT in mutual TLS, as Istio's ambient mesh speaks it (`ztunnel`). Here is what
//! the heads of such tunnels say.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HeaderMap};
use http::{Method, StatusCode, Uri};

/// The port of a workload's own address at which tunnels to it are accepted.
pub const PORT: u16 = 15_008;
/// Ports of a workload that belong to its mesh: no tunnel leads there.
const OF_THE_MESH: [u16; 3] = [15_001, 15_006, PORT];
/// Bytes of what a client may say about where a connection comes from.
const FORWARDED_BYTES: usize = 1_024;

/// Why there is no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is no request for a tunnel, or for one to somewhere else.
    BadRequest,
    /// A policy denies it.
    Denied,
    /// The workload does not answer at that port.
    Unreachable,
}

impl Refusal {
    /// What the client is told: the codes that ztunnel answers with.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Denied => StatusCode::UNAUTHORIZED,
            Self::Unreachable => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// What an answer means that opens no tunnel.
    pub fn of(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Self::Denied,
            StatusCode::BAD_REQUEST => Self::BadRequest,
            _ => Self::Unreachable,
        }
    }
}

/// The port that a tunnel is to lead to, of the workload with this address.
///
/// # Errors
/// When it is no request for a tunnel, or is for another address, or for a port that no tunnel leads to.
pub fn target(method: &Method, uri: &Uri, own: IpAddr) -> Result<u16, Refusal> {
    // The address is written as it is: one that stands for the same in other words is not looked for.
    let authority = uri.authority().filter(|_| *method == Method::CONNECT).ok_or(Refusal::BadRequest)?;
    let target: SocketAddr = authority.as_str().parse().map_err(|_| Refusal::BadRequest)?;
    if target.ip() != own {
        return Err(Refusal::BadRequest);
    }
    match target.port() {
        0 => Err(Refusal::Unreachable),
        port if OF_THE_MESH.contains(&port) => Err(Refusal::Unreachable),
        port => Ok(port),
    }
}

/// Where a connection in a tunnel comes from, as the client says (RFC 7239, `for`): an address and port. Nobody vouches for it.
pub fn source(headers: &HeaderMap) -> Option<SocketAddr> {
    let text = headers.get(FORWARDED)?.to_str().ok().filter(|text| text.len() <= FORWARDED_BYTES)?;
    let first = text.split(',').next()?;
    let node = first.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then_some(value)
    })?;
    node.trim_matches('"').parse().ok()
}

/// What `source` reads.
pub fn forwarded(source: SocketAddr) -> String {
    format!("for=\"{source}\"")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn tunnels_lead_to_ports_of_the_own_address_only() {
        let own4: IpAddr = "10.42.0.7".parse().unwrap();
        let own6: IpAddr = "fd42::7".parse().unwrap();
        for (method, uri, own, expected) in [
            (Method::CONNECT, "10.42.0.7:8080", own4, Ok(8080)),
            (Method::CONNECT, "[fd42::7]:8080", own6, Ok(8080)),
            (Method::CONNECT, "[fd42:0::7]:8080", own6, Ok(8080)),
            (Method::CONNECT, "[::ffff:10.42.0.7]:8080", own4, Err(Refusal::BadRequest)),
            (Method::CONNECT, "10.42.0.8:8080", own4, Err(Refusal::BadRequest)),
            (Method::CONNECT, "127.0.0.1:8080", own4, Err(Refusal::BadRequest)),
            (Method::CONNECT, "web:8080", own4, Err(Refusal::BadRequest)),
            (Method::CONNECT, "10.42.0.7", own4, Err(Refusal::BadRequest)),
            (Method::CONNECT, "user@10.42.0.7:80", own4, Err(Refusal::BadRequest)),
            (Method::CONNECT, "10.42.0.7:0", own4, Err(Refusal::Unreachable)),
            (Method::CONNECT, "10.42.0.7:15008", own4, Err(Refusal::Unreachable)),
            (Method::CONNECT, "10.42.0.7:15006", own4, Err(Refusal::Unreachable)),
            (Method::GET, "http://10.42.0.7:8080/", own4, Err(Refusal::BadRequest)),
            (Method::CONNECT, "/", own4, Err(Refusal::BadRequest)),
        ] {
            assert_eq!(target(&method, &uri.parse().unwrap(), own), expected, "{method} {uri}");
        }
    }

    #[test]
    fn what_is_said_of_the_source_is_read() {
        let four: SocketAddr = "10.91.1.10:51198".parse().unwrap();
        let six: SocketAddr = "[fd42::7]:51198".parse().unwrap();
        for (text, expected) in [
            ("for=\"10.91.1.10:51198\"", Some(four)),
            ("for=10.91.1.10:51198", Some(four)),
            ("For=\"10.91.1.10:51198\";host=peer.lab.svc.cluster.local", Some(four)),
            ("proto=http; for=\"10.91.1.10:51198\", for=\"10.0.0.1:1\"", Some(four)),
            ("for=\"[fd42::7]:51198\"", Some(six)),
            ("for=\"10.91.1.10\"", None),
            ("for=_hidden", None),
            ("", None),
        ] {
            let headers = HeaderMap::from_iter([(FORWARDED, HeaderValue::from_static(text))]);
            assert_eq!(source(&headers), expected, "{text}");
        }
        assert_eq!(source(&HeaderMap::new()), None);
        for address in [four, six] {
            let value = HeaderValue::try_from(forwarded(address)).unwrap();
            assert_eq!(source(&HeaderMap::from_iter([(FORWARDED, value)])), Some(address));
        }
        let long = HeaderValue::try_from(format!("for=\"10.91.1.10:1\";by={}", "a".repeat(2_000))).unwrap();
        assert_eq!(source(&HeaderMap::from_iter([(FORWARDED, long)])), None);
    }
}
