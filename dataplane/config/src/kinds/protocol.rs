//! What a service port carries, from `appProtocol` and from the name of the port.

use weir_core::snapshot::Protocol;

/// What a port carries, and what HTTP rules do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Carries {
    pub(crate) protocol: Protocol,
    /// HTTP/2 without TLS: rules could concern it, but Weir does not route it yet.
    pub(crate) is_http2: bool,
}

const HTTP: [&str; 3] = ["http", "grpc-web", "ws"];
const HTTP2: [&str; 4] = ["h2c", "http2", "grpc", "h2"];
const OTHERS: [&str; 24] = [
    "tcp",
    "tls",
    "https",
    "wss",
    "mysql",
    "mariadb",
    "postgres",
    "postgresql",
    "redis",
    "mongo",
    "mongodb",
    "cassandra",
    "memcached",
    "kafka",
    "amqp",
    "mqtt",
    "nats",
    "stomp",
    "ldap",
    "smtp",
    "ssh",
    "dns",
    "thrift",
    "sctp",
];

/// `appProtocol` decides; without it the port's name up to a `-` (`http`, `http-api`, `grpc-web`). A name that says
/// nothing leaves the port to detection; an `appProtocol` that says something else than HTTP/1.1 does not.
pub(crate) fn carries(app_protocol: Option<&str>, port_name: &str) -> Carries {
    let opaque = Carries { protocol: Protocol::Opaque, is_http2: false };
    if let Some(said) = app_protocol.filter(|said| !said.is_empty()) {
        let said = said.to_ascii_lowercase();
        return known(said.strip_prefix("kubernetes.io/").unwrap_or(&said)).unwrap_or(opaque);
    }
    let name = port_name.to_ascii_lowercase();
    let prefix = name.split('-').next().unwrap_or_default();
    let by_name = if name.starts_with("grpc-web") { known("grpc-web") } else { known(prefix) };
    by_name.unwrap_or(Carries { protocol: Protocol::Detect, is_http2: false })
}

fn known(said: &str) -> Option<Carries> {
    if HTTP.contains(&said) {
        Some(Carries { protocol: Protocol::Http, is_http2: false })
    } else if HTTP2.contains(&said) {
        Some(Carries { protocol: Protocol::Opaque, is_http2: true })
    } else if OTHERS.contains(&said) {
        Some(Carries { protocol: Protocol::Opaque, is_http2: false })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_decides_and_else_the_name() {
        use Protocol::{Detect, Http, Opaque};
        let cases = [
            (None, "", Detect, false),
            (None, "web", Detect, false),
            (None, "http", Http, false),
            (None, "http-api", Http, false),
            (None, "httpx", Detect, false),
            (None, "grpc", Opaque, true),
            (None, "grpc-web", Http, false),
            (None, "mysql-main", Opaque, false),
            (Some("http"), "mysql", Http, false),
            (Some("HTTP"), "", Http, false),
            (Some("kubernetes.io/h2c"), "http", Opaque, true),
            (Some("kubernetes.io/ws"), "", Http, false),
            (Some("example.com/own"), "http", Opaque, false),
            (Some(""), "http", Http, false),
        ];
        for (app, name, protocol, is_http2) in cases {
            assert_eq!(carries(app, name), Carries { protocol, is_http2 }, "{app:?} {name}");
        }
    }
}
