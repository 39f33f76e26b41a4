//! What the properties of an exchange are. Texts are as they are, numbers have 64 bits (little endian), a yes or no is
//! one byte; times are nanoseconds since 1970, spans are nanoseconds. The names are those of Envoy's attributes, and
//! `weir.*` for what only Weir knows.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, REFERER, USER_AGENT};
use http::{Version, request};

use weir_core::name::ClusterName;
use weir_core::workload::Workload;

use crate::stream::Stream;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn written(name: &ClusterName) -> Bytes {
    name.to_string().into()
}

fn number(number: i64) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

fn count(number: u64) -> Bytes {
    self::number(i64::try_from(number).unwrap_or(i64::MAX))
}

fn nanoseconds(time: Duration) -> Bytes {
    number(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX))
}

fn flag(is: bool) -> Bytes {
    Bytes::from_static(if is { &[1] } else { &[0] })
}

fn port(address: SocketAddr) -> Bytes {
    number(i64::from(address.port()))
}

/// A property of an exchange by its group and its name.
pub(crate) fn find(stream: &Stream, group: &str, name: &str) -> Option<Bytes> {
    let facts = &stream.facts;
    let decided = &facts.decided;
    match group {
        "request" => request(stream, name),
        "response" => response(stream, name),
        "source" => address(facts.source, name),
        "destination" => address(facts.destination, name),
        "upstream" => match name {
            "request_attempt_count" => Some(count(decided.tries.into())),
            "num_endpoints" => Some(count(decided.endpoint.as_ref()?.among as u64)),
            "locality" => decided.endpoint.as_ref()?.zone.as_deref().map(text),
            _ => address(decided.endpoint.as_ref()?.address, name),
        },
        "connection" => match name {
            "id" => Some(count(facts.connection)),
            "mtls" => Some(flag(false)),
            "requested_server_name" => facts.server_name.as_deref().map(text),
            "tls_version" => facts.tls_version.map(text),
            _ => None,
        },
        "xds" => match name {
            "cluster_name" => decided.destination.as_ref().map(written),
            "route_name" => decided.rule.as_ref().map(|rule| text(&rule.title())),
            "virtual_host_name" => Some(written(&facts.service)),
            // Envoy's numbers: 1 is inbound, 2 is outbound. Weir stands beside the client.
            "listener_direction" => Some(number(2)),
            _ => None,
        },
        "weir" => match name {
            "revision" => Some(count(facts.revision)),
            "service" => Some(written(&facts.service)),
            "workload" => {
                let name = |workload: &Arc<Workload>| text(&format!("{}/{}", workload.namespace, workload.name));
                facts.workload.as_ref().map(name)
            }
            "identity" => facts.workload.as_ref().map(|workload| text(&workload.identity().to_string())),
            "version" => decided.endpoint.as_ref()?.version.as_deref().map(text),
            "rule" => decided.rule.as_ref().map(|rule| text(&rule.title())),
            "destination" => decided.destination.as_ref().map(written),
            "cause" => decided.cause.map(text),
            _ => None,
        },
        _ => None,
    }
}

fn address(address: SocketAddr, name: &str) -> Option<Bytes> {
    match name {
        "address" => Some(text(&address.to_string())),
        "port" => Some(port(address)),
        _ => None,
    }
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<Bytes> {
    headers.get(name).map(|value| Bytes::copy_from_slice(value.as_bytes()))
}

/// Bytes of all headers: names and values.
fn headers_bytes(headers: &HeaderMap) -> u64 {
    headers.iter().map(|(name, value)| (name.as_str().len() + value.len()) as u64).sum()
}

fn request(stream: &Stream, name: &str) -> Option<Bytes> {
    let facts = &stream.facts;
    match name {
        "time" => {
            return Some(nanoseconds(facts.started.duration_since(UNIX_EPOCH).unwrap_or_default()));
        }
        "duration" => {
            return Some(nanoseconds(SystemTime::now().duration_since(facts.started).unwrap_or_default()));
        }
        "scheme" => return facts.version.map(|_| text(facts.scheme)),
        "protocol" => return facts.version.map(|version| text(protocol(version))),
        "size" => return Some(count(facts.decided.request_bytes)),
        _ => {}
    }
    let head: &request::Parts = stream.request.as_ref()?;
    match name {
        "path" => head.uri.path_and_query().map(|path| text(path.as_str())),
        "url_path" => Some(text(head.uri.path())),
        "query" => Some(text(head.uri.query().unwrap_or_default())),
        "host" => header(&head.headers, &http::header::HOST),
        "method" => Some(text(head.method.as_str())),
        "referer" => header(&head.headers, &REFERER),
        "useragent" => header(&head.headers, &USER_AGENT),
        "id" => header(&head.headers, &REQUEST_ID),
        "headers_bytes" => Some(count(headers_bytes(&head.headers))),
        "total_size" => Some(count(headers_bytes(&head.headers) + facts.decided.request_bytes)),
        _ => None,
    }
}

fn response(stream: &Stream, name: &str) -> Option<Bytes> {
    let decided = &stream.facts.decided;
    match name {
        "code" => {
            let of_head = || stream.response.as_ref().map(|head| head.status.as_u16());
            return Some(number(i64::from(decided.status.or_else(of_head)?)));
        }
        "code_details" => return Some(text(decided.cause.unwrap_or("via_upstream"))),
        "flags" => return Some(number(0)),
        "size" => return Some(count(decided.response_bytes)),
        "backend_latency" => return decided.endpoint.as_ref()?.latency.map(nanoseconds),
        "grpc_status" => {
            let of = |fields: &HeaderMap| fields.get(GRPC_STATUS)?.to_str().ok()?.parse::<i64>().ok();
            let trailers = stream.response_way.trailers.as_ref().and_then(of);
            return trailers.or_else(|| of(&stream.response.as_ref()?.headers)).map(number);
        }
        _ => {}
    }
    let head = stream.response.as_ref()?;
    match name {
        "headers_bytes" => Some(count(headers_bytes(&head.headers))),
        "total_size" => Some(count(headers_bytes(&head.headers) + decided.response_bytes)),
        _ => None,
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_2 => "HTTP/2",
        Version::HTTP_10 => "HTTP/1.0",
        _ => "HTTP/1.1",
    }
}
