//! Redirects: where a client is sent to instead of an endpoint.

use std::fmt;

use http::StatusCode;

use super::path::PathChange;
use crate::route::PathMatch;

/// The scheme of a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Port 80 unless said otherwise.
    Http,
    /// Port 443 unless said otherwise.
    Https,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Http => "http",
            Self::Https => "https",
        })
    }
}

/// An answer that sends the client elsewhere. What is not said stays as the client asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The scheme.
    pub scheme: Option<Scheme>,
    /// The host.
    pub host: Option<Box<str>>,
    /// The port. Without one: that of the scheme, if one is said, else the one that the client addressed.
    pub port: Option<u16>,
    /// The path.
    pub path: Option<PathChange>,
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
}

/// What a client asked for.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The scheme it came by.
    pub scheme: Scheme,
    /// The host it named, perhaps with a port.
    pub host: &'a str,
    /// The port it addressed.
    pub port: u16,
    /// The path.
    pub path: &'a str,
    /// The query.
    pub query: Option<&'a str>,
    /// The condition that the path met.
    pub path_match: Option<&'a PathMatch>,
}

impl Redirect {
    /// The value of `Location`. A port that is the scheme's own is left out.
    pub fn location(&self, asked: &Asked<'_>) -> String {
        let scheme = self.scheme.unwrap_or(asked.scheme);
        let host = self.host.as_deref().unwrap_or_else(|| without_port(asked.host));
        let port = self.port.unwrap_or_else(|| self.scheme.map_or(asked.port, Scheme::port));
        let path = self.path.as_ref().map(|path| path.apply(asked.path, asked.path_match));
        let path = path.as_deref().unwrap_or(asked.path);
        let mut location = format!("{scheme}://{host}");
        if port != scheme.port() {
            location.push_str(&format!(":{port}"));
        }
        location.push_str(path);
        if let Some(query) = asked.query {
            location.push('?');
            location.push_str(query);
        }
        location
    }
}

/// A host without its port; an address of IPv6 keeps its brackets.
fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(colon) if host[colon + 1..].bytes().all(|byte| byte.is_ascii_digit()) && !host[..colon].contains(':') => {
            &host[..colon]
        }
        Some(colon) if host[..colon].ends_with(']') => &host[..colon],
        _ => host,
    }
}

impl fmt::Display for Redirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answers {}", self.status.as_u16())?;
        let mut parts = Vec::new();
        parts.extend(self.scheme.map(|scheme| format!("scheme {scheme}")));
        parts.extend(self.host.as_ref().map(|host| format!("host {host}")));
        parts.extend(self.port.map(|port| format!("port {port}")));
        parts.extend(self.path.as_ref().map(|path| format!("path {path}")));
        if !parts.is_empty() {
            write!(f, ", {}", parts.join(", "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_port_and_nothing_else() {
        let cases = [
            ("web", "web"),
            ("web:80", "web"),
            ("web:", "web"),
            ("10.0.0.1:8080", "10.0.0.1"),
            ("[fd00::1]", "[fd00::1]"),
            ("[fd00::1]:8080", "[fd00::1]"),
            ("fd00::1", "fd00::1"),
            ("", ""),
        ];
        for (host, expected) in cases {
            assert_eq!(without_port(host), expected, "{host}");
        }
    }

    #[test]
    fn locations() {
        let redirect = |scheme, host: Option<&str>, port, path| Redirect {
            scheme,
            host: host.map(Into::into),
            port,
            path,
            status: StatusCode::FOUND,
        };
        let full = |path: &str| Some(PathChange::Full(path.into()));
        let https = Some(Scheme::Https);
        // redirect, port addressed, location
        let cases = [
            (redirect(None, Some("example.org"), None, None), 80, "http://example.org/a/b?q=1"),
            (redirect(None, Some("example.org"), None, None), 8080, "http://example.org:8080/a/b?q=1"),
            (redirect(None, None, None, None), 80, "http://web/a/b?q=1"),
            (redirect(https, None, None, None), 8080, "https://web/a/b?q=1"),
            (redirect(https, None, Some(8443), None), 80, "https://web:8443/a/b?q=1"),
            (redirect(https, None, Some(443), None), 80, "https://web/a/b?q=1"),
            (redirect(Some(Scheme::Http), None, None, None), 8080, "http://web/a/b?q=1"),
            (redirect(None, None, Some(80), None), 8080, "http://web/a/b?q=1"),
            (redirect(None, None, Some(8083), full("/x")), 80, "http://web:8083/x?q=1"),
            (redirect(None, None, None, Some(PathChange::prefix("/z"))), 80, "http://web/z/b?q=1"),
            (redirect(None, None, None, Some(PathChange::prefix("/"))), 80, "http://web/b?q=1"),
        ];
        let path_match = PathMatch::prefix("/a");
        for (redirect, port, expected) in cases {
            let asked = Asked {
                scheme: Scheme::Http,
                host: "web:1234",
                port,
                path: "/a/b",
                query: Some("q=1"),
                path_match: Some(&path_match),
            };
            assert_eq!(redirect.location(&asked), expected, "{redirect}");
        }
    }
}
