//! Sessions: a client comes back to the endpoint that it had, because the answer told it a token that it brings along.
//!
//! The meaning is that of the Gateway API's `sessionPersistence` (GEP-1619). The token says which destination and which
//! endpoint, as hashes of their names, so that it is the same on every node and tells nobody an address; and since when.
//! It is no secret: who makes one up can choose among the endpoints of the rule, and nothing else.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use xxhash_rust::xxh3::xxh3_64;

use crate::cluster::Endpoint;
use crate::name::ClusterName;
use crate::route::Request;

/// How clients of a rule are kept at their endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// How the token travels.
    pub carrier: Carrier,
    /// For how long one endpoint is kept. `None` for as long as there is the endpoint.
    pub timeout: Option<Duration>,
}

/// How a token travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// In a cookie of this name. It outlives the browser where it is permanent.
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// Whether the browser keeps it until the timeout.
        is_permanent: bool,
    },
    /// In a header of this name, which the client has to send back by itself.
    Header(HeaderName),
}

/// What a client brings along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its destination, by [`destination_id`].
    pub destination: u64,
    /// Its endpoint there, by [`endpoint_id`].
    pub endpoint: u64,
    /// When the session began, in seconds since 1970.
    pub since: u64,
}

/// What a token has of a destination.
pub fn destination_id(name: &ClusterName) -> u64 {
    xxh3_64(name.to_string().as_bytes())
}

/// What a token has of an endpoint: of its pod's name, which outlives its address where there is a `StatefulSet`, or of
/// its address where nobody knows the pod.
pub fn endpoint_id(endpoint: &Endpoint) -> u64 {
    match &endpoint.workload {
        Some(pod) => xxh3_64(pod.as_bytes()),
        None => endpoint.addresses.iter().next().map_or(0, |address| xxh3_64(address.to_string().as_bytes())),
    }
}

impl Session {
    /// The token of a request, if it has one that has not expired.
    pub fn token(&self, request: &Request<'_>, now: u64) -> Option<Token> {
        let token = self.any_token(request)?;
        // One from the future is of a clock that was wrong: it would last too long.
        let age = now.checked_sub(token.since)?;
        self.timeout.is_none_or(|timeout| age < timeout.as_secs()).then_some(token)
    }

    /// The token of a request, whether it has expired or not.
    pub fn any_token(&self, request: &Request<'_>) -> Option<Token> {
        let text = match &self.carrier {
            Carrier::Cookie { name, .. } => request.cookies().find(|(found, _)| *found == &**name)?.1,
            Carrier::Header(name) => request.headers.get(name)?.to_str().ok()?,
        };
        Token::parse(text)
    }

    /// The line that tells a client its token.
    pub fn tell(&self, token: Token) -> Option<(HeaderName, HeaderValue)> {
        let (name, text) = match &self.carrier {
            Carrier::Cookie { name, is_permanent } => {
                let lasts = self.timeout.filter(|_| *is_permanent);
                let lasts = lasts.map(|timeout| format!("; Max-Age={}", timeout.as_secs())).unwrap_or_default();
                (http::header::SET_COOKIE, format!("{name}={token}; Path=/{lasts}; HttpOnly; SameSite=Lax"))
            }
            Carrier::Header(name) => (name.clone(), token.to_string()),
        };
        HeaderValue::try_from(text).ok().map(|value| (name, value))
    }
}

impl fmt::Display for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.carrier {
            Carrier::Cookie { name, .. } => write!(f, "the cookie {name}")?,
            Carrier::Header(name) => write!(f, "the header {name}")?,
        }
        f.write_str(" keeps clients at their endpoint")?;
        match self.timeout {
            Some(timeout) => write!(f, " for {}s", timeout.as_secs()),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}-{:x}", self.destination, self.endpoint, self.since)
    }
}

impl Token {
    /// A token as it is written. `None` when it is not one.
    pub fn parse(text: &str) -> Option<Self> {
        let number = |text: &str| {
            let is_hex = text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
            u64::from_str_radix(text, 16).ok().filter(|_| is_hex)
        };
        let mut parts = text.split('-');
        let (destination, endpoint, since) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || destination.len() != 16 || endpoint.len() != 16 {
            return None;
        }
        Some(Self { destination: number(destination)?, endpoint: number(endpoint)?, since: number(since)? })
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Method};

    use super::*;
    use crate::cluster::Addresses;
    use crate::name::ServiceName;
    use crate::route::Source;

    const TOKEN: Token = Token { destination: 0x1, endpoint: 0xfedc_ba98_7654_3210, since: 1_000 };
    const TEXT: &str = "0000000000000001-fedcba9876543210-3e8";

    fn session(carrier: Carrier, timeout: Option<u64>) -> Session {
        Session { carrier, timeout: timeout.map(Duration::from_secs) }
    }

    fn cookie(is_permanent: bool) -> Carrier {
        Carrier::Cookie { name: "s".into(), is_permanent }
    }

    #[test]
    fn only_what_was_written_is_a_token() {
        assert_eq!((TOKEN.to_string().as_str(), Token::parse(TEXT)), (TEXT, Some(TOKEN)));
        for text in [
            "",
            "-",
            "0000000000000001-fedcba9876543210",
            "0000000000000001-fedcba9876543210-",
            "0000000000000001-fedcba9876543210-3e8-1",
            "1-fedcba9876543210-3e8",
            "0000000000000001-FEDCBA9876543210-3e8",
            "0000000000000001-+edcba9876543210-3e8",
            "0000000000000001-fedcba9876543210-10000000000000000",
        ] {
            assert_eq!(Token::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_token_is_found_where_it_travels_until_it_expires() {
        let header = Carrier::Header(HeaderName::from_static("x-s"));
        let cases = [
            (cookie(false), None, ("cookie", format!("a=b; s={TEXT}")), 9_999_999, true),
            (cookie(false), None, ("cookie", format!("t={TEXT}")), 1_000, false),
            (cookie(false), None, ("x-s", TEXT.to_owned()), 1_000, false),
            (header.clone(), None, ("x-s", TEXT.to_owned()), 1_000, true),
            (header, Some(10), ("x-s", TEXT.to_owned()), 1_009, true),
            (cookie(true), Some(10), ("cookie", format!("s={TEXT}")), 1_010, false),
            (cookie(true), Some(10), ("cookie", format!("s={TEXT}")), 999, false),
        ];
        for (carrier, timeout, (name, value), now, expected) in cases {
            let session = session(carrier, timeout);
            let name = HeaderName::try_from(name).unwrap();
            let headers = HeaderMap::from_iter([(name, HeaderValue::try_from(value).unwrap())]);
            let source = Source { address: [10, 0, 0, 1].into(), workload: None };
            let request =
                Request { method: &Method::GET, path: "/", query: None, headers: &headers, source, attributes: &[] };
            assert_eq!(session.token(&request, now), expected.then_some(TOKEN), "{session:?} {headers:?} at {now}");
        }
    }

    #[test]
    fn clients_are_told_in_a_line() {
        let cases = [
            (cookie(false), Some(60), format!("s={TEXT}; Path=/; HttpOnly; SameSite=Lax")),
            (cookie(true), Some(60), format!("s={TEXT}; Path=/; Max-Age=60; HttpOnly; SameSite=Lax")),
            (Carrier::Header(HeaderName::from_static("x-s")), None, TEXT.to_owned()),
        ];
        for (carrier, timeout, expected) in cases {
            let (_, value) = session(carrier, timeout).tell(TOKEN).unwrap();
            assert_eq!(value, expected);
        }
    }

    #[test]
    fn a_pod_is_the_same_at_another_address() {
        let endpoint = |address: &str, pod: Option<&str>| Endpoint {
            addresses: Addresses::from(address.parse::<std::net::SocketAddr>().unwrap()),
            workload: pod.map(Into::into),
            version: None,
            node: None,
            zone: None,
            weight: crate::balance::Weight::default(),
        };
        let id = |address, pod| endpoint_id(&endpoint(address, pod));
        assert_eq!(id("10.0.0.1:80", Some("db-0")), id("10.0.0.2:80", Some("db-0")));
        assert_ne!(id("10.0.0.1:80", Some("db-0")), id("10.0.0.1:80", Some("db-1")));
        assert_ne!(id("10.0.0.1:80", None), id("10.0.0.2:80", None));
        let name = |name| destination_id(&ClusterName { service: ServiceName::new("default", name), port: 80 });
        assert_ne!(name("a"), name("b"));
    }
}
