//! What a service port carries, from `appProtocol` and from the name of the port.

use weir_core::snapshot::Protocol;

const HTTP: [&str; 3] = ["http", "grpc-web", "ws"];
const HTTP2: [&str; 3] = ["h2c", "http2", "grpc"];
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
/// nothing leaves the port to detection; an `appProtocol` that says something else than HTTP does not.
pub(crate) fn carries(app_protocol: Option<&str>, port_name: &str) -> Protocol {
    if let Some(said) = app_protocol.filter(|said| !said.is_empty()) {
        let said = said.to_ascii_lowercase();
        return known(said.strip_prefix("kubernetes.io/").unwrap_or(&said)).unwrap_or(Protocol::Opaque);
    }
    let name = port_name.to_ascii_lowercase();
    let prefix = name.split('-').next().unwrap_or_default();
    let by_name = if name.starts_with("grpc-web") { known("grpc-web") } else { known(prefix) };
    by_name.unwrap_or(Protocol::Detect)
}

fn known(said: &str) -> Option<Protocol> {
    if HTTP.contains(&said) {
        Some(Protocol::Http)
    } else if HTTP2.contains(&said) {
        Some(Protocol::Http2)
    } else if OTHERS.contains(&said) {
        Some(Protocol::Opaque)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_protocol_decides_and_else_the_name() {
        use Protocol::{Detect, Http, Http2, Opaque};
        let cases = [
            (None, "", Detect),
            (None, "web", Detect),
            (None, "http", Http),
            (None, "http-api", Http),
            (None, "httpx", Detect),
            (None, "grpc", Http2),
            (None, "grpc-api", Http2),
            (None, "http2", Http2),
            (None, "grpc-web", Http),
            (None, "h2", Detect),
            (None, "mysql-main", Opaque),
            (Some("http"), "mysql", Http),
            (Some("HTTP"), "", Http),
            (Some("kubernetes.io/h2c"), "http", Http2),
            (Some("kubernetes.io/ws"), "", Http),
            (Some("example.com/own"), "http", Opaque),
            (Some(""), "http", Http),
        ];
        for (app, name, protocol) in cases {
            assert_eq!(carries(app, name), protocol, "{app:?} {name}");
        }
    }
}
