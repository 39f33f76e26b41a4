//! Settings of the proxy: what describes this process, never what is routed where.

mod access_log;
mod duration;
mod percent;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::Deserialize;
use weir_core::authorization::Principal;
use weir_core::name::{ClusterName, ServiceName};
use weir_core::share::Share;
use weir_identity::Identities;

pub use access_log::AccessLog;

/// Settings of the proxy. Every field may be left out.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Settings {
    /// Worker threads; 0 (the default) is one for each processor that the process may use.
    pub workers: u16,
    /// Which transparent listeners exist, for connections that the kernel intercepts. Default: none.
    pub transparent: Transparent,
    /// Listeners in front of one service each, for clients that are not intercepted. Default: none.
    pub services: Vec<ServiceListener>,
    /// What concerns the listeners of gateways.
    pub gateways: Gateways,
    /// Packet mark of the proxy's sockets, by which the eBPF programs and nft know them; 0 sets none. Setting one needs
    /// `CAP_NET_ADMIN`. Default: 0x300.
    pub mark: u32,
    /// Where the node is, for services that prefer what is near. Default: nobody knows.
    pub locality: Locality,
    /// Limits of clients' connections.
    pub downstream: Downstream,
    /// Limits of connections to endpoints.
    pub upstream: Upstream,
    /// Limits of copies.
    pub mirror: MirrorLimits,
    /// Limits of what is kept for further tries.
    pub retry: RetryLimits,
    /// Whether traces begin here.
    pub tracing: Tracing,
    /// The access log. Default: none.
    pub access_log: Option<AccessLog>,
    /// Who this node is to others. Default: nobody; then there are no tunnels.
    #[serde(skip)]
    pub identity: Option<OwnIdentity>,
}

/// Who a node is to others, and for whom it speaks.
#[derive(Clone, Debug)]
pub struct OwnIdentity {
    /// Its name, as the documents of pods say it.
    pub node: Arc<str>,
    /// Who sends what no workload sends: health checks, what plugins ask for, what clients of gateways do.
    pub principal: Principal,
    /// What tunnels are made with; nothing yet where none is to be had.
    pub identities: Arc<ArcSwapOption<Identities>>,
}

impl PartialEq for OwnIdentity {
    fn eq(&self, other: &Self) -> bool {
        self.node == other.node && self.principal == other.principal
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            workers: 0,
            transparent: Transparent::default(),
            services: Vec::new(),
            gateways: Gateways::default(),
            mark: 0x300,
            locality: Locality::default(),
            downstream: Downstream::default(),
            upstream: Upstream::default(),
            mirror: MirrorLimits::default(),
            retry: RetryLimits::default(),
            tracing: Tracing::default(),
            access_log: None,
            identity: None,
        }
    }
}

/// The families of the transparent listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Transparent {
    /// IPv4.
    pub ipv4: bool,
    /// IPv6.
    pub ipv6: bool,
}

/// Where a node is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Locality {
    /// Its name, as endpoints name the node that they run on.
    pub node: Option<String>,
    /// Its zone, as endpoints name theirs.
    pub zone: Option<String>,
}

/// A listener in front of one service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceListener {
    /// Where it listens; port 0 takes any free port.
    pub address: SocketAddr,
    /// The service that its connections are for.
    pub service: ServiceName,
    /// The port of that service.
    pub port: u16,
}

impl ServiceListener {
    pub(crate) fn cluster(&self) -> ClusterName {
        ClusterName { service: self.service.clone(), port: self.port }
    }
}

/// What concerns the listeners of gateways.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Gateways {
    /// The addresses of gateways that name none; empty: those are not served. Default: `0.0.0.0` and `::`, all of the
    /// node's.
    pub addresses: Vec<IpAddr>,
    /// The folder with the certificates of listeners that speak TLS: `<namespace>/<name>/tls.crt` and `tls.key` there.
    /// Default: `/etc/weir/certificates`.
    pub certificates: PathBuf,
    /// How long the connections of a listener that is gone may take to end. Default: 10 s.
    #[serde(with = "duration")]
    pub drain: Duration,
}

impl Default for Gateways {
    fn default() -> Self {
        let addresses = vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
        Self { addresses, certificates: "/etc/weir/certificates".into(), drain: Duration::from_secs(10) }
    }
}

/// Limits of clients' connections.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Downstream {
    /// Connections of one worker; further ones are reset. Default: 32,768.
    pub max_connections: usize,
    /// Whether `CONNECT` in HTTP/1.1 is passed on: to services whose endpoints are proxies themselves. Never at gateways.
    /// Default: no.
    pub connect: bool,
    /// Requests of one worker that are under way; further ones are answered with 503. Default: 16,384.
    pub max_requests: usize,
    /// Memory of one worker for bodies of requests in HTTP/2 that arrive before they are passed on: a connection has
    /// `http2.connectionWindow` of it, or 64 KiB beside it when its workload has as much as it leaves to others.
    /// Default: 64 MiB.
    pub window_bytes: usize,
    /// Bytes of a request's head; more is answered with 431. From 8,192 to 16 MiB. Default: 65,536.
    pub head_bytes: usize,
    /// Header lines of a request; more are answered with 431. From 16 to 1,000. Default: 100.
    pub headers: usize,
    /// Bytes of a request's body; more is answered with 413, or cut off. Default: no bound.
    pub body_bytes: Option<u64>,
    /// From the first byte of a request's head (or from the start of the connection) to the last. Default: 10 s.
    #[serde(with = "duration")]
    pub head_timeout: Duration,
    /// How long a client of a port of unknown protocol may be silent before its server is asked whether it speaks first.
    /// Default: 5 ms.
    #[serde(with = "duration")]
    pub detect_timeout: Duration,
    /// How long a connection may be kept open between requests. Default: 5 min.
    #[serde(with = "duration")]
    pub keep_alive: Duration,
    /// How long nothing may move on a connection in the middle of a request, or one that is passed on unchanged.
    /// Default: 5 min.
    #[serde(with = "duration")]
    pub stream_idle: Duration,
    /// How long a client that has ended its side (as `nc` does after its input) may wait for a piece of its answer. It
    /// cannot be told from one that is gone; after this time it is taken for one, and its request is cancelled. A
    /// client that resets its connection is known to be gone at once. Default: 10 s.
    #[serde(with = "duration")]
    pub half_closed: Duration,
    /// What concerns connections in HTTP/2.
    pub http2: Http2,
}

impl Default for Downstream {
    fn default() -> Self {
        Self {
            max_connections: 32_768,
            connect: false,
            max_requests: 16_384,
            window_bytes: 64 << 20,
            head_bytes: 65_536,
            headers: 100,
            body_bytes: None,
            head_timeout: Duration::from_secs(10),
            detect_timeout: Duration::from_millis(5),
            keep_alive: Duration::from_secs(300),
            stream_idle: Duration::from_secs(300),
            half_closed: Duration::from_secs(10),
            http2: Http2::default(),
        }
    }
}

/// Limits of connections to endpoints. All counts are for one worker.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Upstream {
    /// How long connecting may take, waiting for one of `maxConnections` included. Default: 5 s.
    #[serde(with = "duration")]
    pub connect_timeout: Duration,
    /// Requests under way to one endpoint; in HTTP/1.1 each has a connection of its own. At least 1. Default: 1,024.
    pub max_connections: usize,
    /// Requests that wait for one of these; further ones are answered with 503. Default: 1,024.
    pub max_pending: usize,
    /// Unused connections that are kept for each endpoint. Default: 256.
    pub max_idle: usize,
    /// How long an unused connection is kept. Shorter than servers keep theirs. Default: 60 s.
    #[serde(with = "duration")]
    pub idle_timeout: Duration,
    /// Bytes of a response's head; more is answered with 502. From 8,192 to 16 MiB. Default: 65,536.
    pub head_bytes: usize,
    /// Bytes of a body that are read from an endpoint in HTTP/1.1 at a time, at most: the more, the fewer calls of the
    /// kernel, and the more a client that reads slowly has waiting here. From 8,192 to 16 MiB. Default: 131,072.
    pub read_bytes: usize,
    /// How long sent data may stay unacknowledged (`TCP_USER_TIMEOUT`), on both sides. Default: 30 s.
    #[serde(with = "duration")]
    pub user_timeout: Duration,
    /// When TCP begins to probe a silent connection, on both sides. At least 1 s. Default: 60 s.
    #[serde(with = "duration")]
    pub probe_after: Duration,
    /// What concerns connections in HTTP/2.
    pub http2: Http2,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            max_connections: 1_024,
            max_pending: 1_024,
            max_idle: 256,
            idle_timeout: Duration::from_secs(60),
            head_bytes: 65_536,
            read_bytes: 131_072,
            user_timeout: Duration::from_secs(30),
            probe_after: Duration::from_secs(60),
            http2: Http2::default(),
        }
    }
}

/// Limits of a connection in HTTP/2 (RFC 9113).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Http2 {
    /// Requests under way at a time. A client is told, and its further requests wait on its side; to an endpoint
    /// another connection is made. From 1 to 65,536. Default: 128.
    pub max_streams: u32,
    /// Bytes of one request's or response's body that may arrive before they are passed on. From 16,384 to 2^31 - 1.
    /// Default: 262,144.
    pub stream_window: u32,
    /// The same of all bodies of a connection together. From 65,535 to 2^31 - 1. Default: 1,048,576.
    pub connection_window: u32,
}

impl Default for Http2 {
    fn default() -> Self {
        Self { max_streams: 128, stream_window: 256 << 10, connection_window: 1 << 20 }
    }
}

/// Bytes of a body that wait on a stream of HTTP/2 for the socket, beside one piece that waits for the other side.
pub(crate) const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Limits of copies. All counts are for one worker.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct MirrorLimits {
    /// Memory for what waits of one request's body until its copy is sent, of which no copy has more than it leaves of
    /// `total_bytes` to others. Default: 8 MiB.
    pub copy_bytes: usize,
    /// Memory for the bodies of all copies together, with what is being sent. Default: 16 MiB.
    pub total_bytes: usize,
    /// Copies under way to one destination. Default: 64.
    pub max_copies: usize,
    /// How long a copy may take. Default: 30 s.
    #[serde(with = "duration")]
    pub deadline: Duration,
    /// Bytes of a copy's response that are read before its connection is closed. Default: 1 MiB.
    pub response_bytes: u64,
    /// Failures in a row after which a destination is left alone. At least 1. Default: 5.
    pub breaker_failures: u32,
    /// For how long. Default: 1 s.
    #[serde(with = "duration")]
    pub breaker_pause: Duration,
}

impl Default for MirrorLimits {
    fn default() -> Self {
        Self {
            copy_bytes: 8 << 20,
            total_bytes: 16 << 20,
            max_copies: 64,
            deadline: Duration::from_secs(30),
            response_bytes: 1 << 20,
            breaker_failures: 5,
            breaker_pause: Duration::from_secs(1),
        }
    }
}

/// Limits of what is kept of requests' bodies for further tries. All are for one worker.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RetryLimits {
    /// Memory for the body of one request. One that is longer is tried again only where nothing of it was sent.
    /// Default: 64 KiB.
    pub body_bytes: usize,
    /// Memory for all of them together. Default: 16 MiB.
    pub total_bytes: usize,
}

impl Default for RetryLimits {
    fn default() -> Self {
        Self { body_bytes: 64 << 10, total_bytes: 16 << 20 }
    }
}

/// What is done with requests that are part of no trace.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tracing {
    /// They get a `traceparent`, and so many of a hundred of these say that the trace is to be recorded. From 0 to 100.
    /// Default: they get none, because services that follow such a mark would record all of them, or none.
    #[serde(deserialize_with = "percent::deserialize")]
    pub sampled_percent: Option<Share>,
}

/// A setting outside its range. The message names the field as it is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: it must be from {least} to {most}")]
pub struct OutOfRange {
    field: &'static str,
    value: u64,
    least: u64,
    most: u64,
}

impl Settings {
    /// Checks that every number is within its range.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check(&self) -> Result<(), OutOfRange> {
        const BUFFER: (u64, u64) = (8_192, 16 << 20);
        const COUNT: (u64, u64) = (1, 1 << 24);
        const STREAMS: (u64, u64) = (1, 1 << 16);
        const WINDOW: u64 = (1 << 31) - 1;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        // From a millisecond to a day.
        let time = |field, duration| (field, millis(duration), (1, 86_400_000));
        let (down, up, mirror) = (&self.downstream, &self.upstream, &self.mirror);
        let ranges = [
            ("workers", u64::from(self.workers), (0, 1_024)),
            ("downstream.maxConnections", down.max_connections as u64, COUNT),
            ("downstream.maxRequests", down.max_requests as u64, COUNT),
            ("downstream.windowBytes", down.window_bytes as u64, (0, 1 << 34)),
            ("downstream.headBytes", down.head_bytes as u64, BUFFER),
            ("downstream.headers", down.headers as u64, (16, 1_000)),
            time("downstream.headTimeout", down.head_timeout),
            time("downstream.detectTimeout", down.detect_timeout),
            time("downstream.keepAlive", down.keep_alive),
            time("downstream.streamIdle", down.stream_idle),
            time("downstream.halfClosed", down.half_closed),
            ("downstream.http2.maxStreams", down.http2.max_streams.into(), STREAMS),
            ("downstream.http2.streamWindow", down.http2.stream_window.into(), (16_384, WINDOW)),
            ("downstream.http2.connectionWindow", down.http2.connection_window.into(), (65_535, WINDOW)),
            time("upstream.connectTimeout", up.connect_timeout),
            ("upstream.maxConnections", up.max_connections as u64, COUNT),
            ("upstream.maxPending", up.max_pending as u64, (0, COUNT.1)),
            ("upstream.maxIdle", up.max_idle as u64, (0, COUNT.1)),
            time("upstream.idleTimeout", up.idle_timeout),
            ("upstream.headBytes", up.head_bytes as u64, BUFFER),
            ("upstream.readBytes", up.read_bytes as u64, BUFFER),
            time("upstream.userTimeout", up.user_timeout),
            ("upstream.probeAfter", millis(up.probe_after), (1_000, 86_400_000)),
            ("upstream.http2.maxStreams", up.http2.max_streams.into(), STREAMS),
            ("upstream.http2.streamWindow", up.http2.stream_window.into(), (16_384, WINDOW)),
            ("upstream.http2.connectionWindow", up.http2.connection_window.into(), (65_535, WINDOW)),
            ("mirror.copyBytes", mirror.copy_bytes as u64, (0, 1 << 30)),
            ("mirror.totalBytes", mirror.total_bytes as u64, (0, 1 << 34)),
            ("mirror.maxCopies", mirror.max_copies as u64, (0, COUNT.1)),
            time("mirror.deadline", mirror.deadline),
            ("mirror.breakerFailures", u64::from(mirror.breaker_failures), (1, 1_000_000)),
            time("mirror.breakerPause", mirror.breaker_pause),
            ("retry.bodyBytes", self.retry.body_bytes as u64, (0, 1 << 30)),
            ("retry.totalBytes", self.retry.total_bytes as u64, (0, 1 << 34)),
        ];
        for (field, value, (least, most)) in ranges {
            if !(least..=most).contains(&value) {
                return Err(OutOfRange { field, value, least, most });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_fields_are_read_as_written() {
        assert_eq!(Settings::default().check(), Ok(()));
        let text = r#"{"workers": 2, "services": [{"address": "127.0.0.1:0",
            "service": {"namespace": "default", "name": "a"}, "port": 80}], "downstream": {"headTimeout": "3s"}}"#;
        let settings: Settings = serde_json::from_str(text).unwrap();
        assert_eq!((settings.workers, settings.downstream.head_timeout), (2, Duration::from_secs(3)));
        assert_eq!(settings.services[0].cluster().to_string(), "default/a:80");
        assert_eq!(settings.mirror, MirrorLimits::default());
    }

    #[test]
    fn unknown_fields_bad_durations_and_values_out_of_range_are_refused() {
        for text in [
            r#"{"worker": 2}"#,
            r#"{"downstream": {"headTimeout": 3}}"#,
            r#"{"mirror": {"deadline": "soon"}}"#,
            r#"{"tracing": {"sampledPercent": -0.5}}"#,
            r#"{"tracing": {"sampledPercent": 101}}"#,
        ] {
            assert!(serde_json::from_str::<Settings>(text).is_err(), "{text}");
        }
        let mut settings = Settings::default();
        settings.downstream.head_bytes = 100;
        let message = settings.check().unwrap_err().to_string();
        assert_eq!(message, "downstream.headBytes is 100: it must be from 8192 to 16777216");
    }
}
