//! What plugins can ask about an exchange, in each of its parts. The names are those of Envoy's attributes, and `weir.*`.

use std::net::TcpListener;

use crate::support::http2::{self, run};
use crate::support::message::Message;
use crate::support::plugins::{loaded, probe, world};
use crate::support::tls::Certificates;
use crate::support::upstream::{Upstream, response};
use crate::support::world::{RuleOf, World};
use crate::support::{Node, get, until};
use weir_core::snapshot::Protocol;

/// What a property is to be.
#[derive(Clone, Copy, Debug)]
enum Is {
    Text(&'static str),
    /// Not the same every time, but a number of which at least this is true.
    AtLeast(u64),
    /// There is something.
    Something,
}
use Is::{AtLeast, Something, Text};

impl Is {
    #[track_caller]
    fn check(self, path: &str, found: Option<&str>) {
        let found = found.unwrap_or_else(|| panic!("nothing is said of {path}"));
        let is_right = match self {
            Text(text) => found == text,
            AtLeast(least) => found.parse::<u64>().is_ok_and(|number| number >= least),
            Something => !["", "none"].contains(&found),
        };
        assert!(is_right, "{path}: {found}, and not {self:?}");
    }
}

fn script(callback: &str, properties: &[(&str, Is)]) -> String {
    let line = |(number, (path, _)): (usize, &(&str, Is))| format!("{callback} property {path} as x-{number}");
    properties.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn check<'m>(properties: &[(&str, Is)], header: impl Fn(&str) -> Option<&'m str>) {
    for (number, (path, expected)) in properties.iter().enumerate() {
        expected.check(path, header(&format!("x-{number}")));
    }
}

#[test]
fn of_a_request() {
    let properties = [
        ("request.path", Text("/a/b?c=d")),
        ("request.url_path", Text("/a/b")),
        ("request.query", Text("c=d")),
        ("request.method", Text("GET")),
        ("request.host", Text("a")),
        ("request.scheme", Text("http")),
        ("request.protocol", Text("HTTP/1.1")),
        ("request.useragent", Text("test")),
        ("request.referer", Text("there")),
        ("request.id", Text("42")),
        ("request.headers.x-many", Text("1,2")),
        ("request.headers_bytes", AtLeast(50)),
        ("request.time", AtLeast(1_700_000_000_000_000_000)),
        ("request.duration", AtLeast(1)),
        ("source.address", Something),
        ("source.port", AtLeast(1)),
        ("destination.address", Something),
        ("destination.port", Text("80")),
        ("connection.id", AtLeast(1)),
        ("connection.requested_server_name", Text("none")),
        ("connection.tls_version", Text("none")),
        ("xds.listener_direction", Text("2")),
        ("xds.virtual_host_name", Text("default/a:80")),
        ("weir.revision", Text("1")),
        ("weir.service", Text("default/a:80")),
        ("weir.workload", Text("default/client-1")),
        ("weir.identity", Text("ns/default/sa/default")),
        ("plugin_name", Text("default/probe-0")),
        ("plugin_root_id", Text("none")),
        ("plugin_vm_id", Something),
        // Not known yet, or nowhere.
        ("response.code", Text("none")),
        ("upstream.address", Text("none")),
        ("nobody.knows", Text("none")),
    ];
    let upstream = Upstream::saying("x");
    let node =
        Node::start(world(&upstream, &[&script("request-headers", &properties)]).pod("client-1", "c", "127.0.0.1"));
    let lines = ["user-agent: test", "referer: there", "x-request-id: 42", "x-many: 1", "x-many: 2"];
    node.ask(&get("/a/b?c=d", &lines));
    let request = &upstream.requests()[0];
    check(&properties, |name| request.header(name));
}

#[test]
fn of_a_response() {
    let properties = [
        ("response.code", Text("201")),
        ("response.headers.x-of", Text("endpoint")),
        ("response.headers_bytes", AtLeast(10)),
        ("response.code_details", Text("via_upstream")),
        ("response.flags", Text("0")),
        ("response.backend_latency", AtLeast(1)),
        ("upstream.address", Something),
        ("upstream.port", AtLeast(1)),
        ("upstream.num_endpoints", Text("1")),
        ("upstream.request_attempt_count", Text("1")),
        ("upstream.locality", Text("zone-1")),
        ("xds.cluster_name", Text("default/b:80")),
        ("xds.route_name", Something),
        ("weir.destination", Text("default/b:80")),
        ("weir.version", Text("v2")),
        ("weir.rule", Something),
        ("request.path", Text("/a")),
        ("weir.cause", Text("none")),
    ];
    let upstream =
        Upstream::answering(|_| b"HTTP/1.1 201 Created\r\nx-of: endpoint\r\ncontent-length: 0\r\n\r\n".to_vec());
    let plugins = loaded([probe("probe-0", &script("response-headers", &properties))]);
    let mut world = World::new(&[]).service("b", &[upstream.address]).plugins(plugins);
    world = world.version(upstream.address, "v2").rule(RuleOf { to: vec![("b", 1)], ..RuleOf::default() });
    world.zones.insert(upstream.address, "zone-1");
    let reply = Node::start(world).ask(&get("/a", &[]));
    check(&properties, |name| reply.header(name));
}

/// When all is over: numbers.
#[test]
fn of_what_has_become_of_it() {
    let properties = [
        ("response.code", 200, 200),
        ("request.size", 5, 5),
        ("response.size", 7, 7),
        ("request.total_size", 6, 1_000),
        ("response.total_size", 8, 1_000),
        ("request.duration", 1, u64::MAX >> 2),
    ];
    let line = |(path, ..): &(&str, u64, u64)| format!("log property {path} into {path}");
    let script: Vec<_> = properties.iter().map(line).collect();
    let plugins = loaded([probe("probe-0", &script.join("\n"))]);
    let host = plugins[0].loaded.get::<weir_plugin_host::Plugin>().unwrap();
    let upstream = Upstream::answering(|_: &Message| response(200, b"goodbye"));
    let node = Node::start(World::new(&[upstream.address]).plugins(plugins));
    node.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    until("the end", || host.metrics().len() == properties.len());
    for (path, least, most) in properties {
        let metric = host.metrics().into_iter().find(|metric| &*metric.name == path).unwrap();
        assert!((least..=most).contains(&metric.value.cast_unsigned()), "{path}: {}", metric.value);
    }
}

#[test]
fn of_a_call_of_grpc() {
    let script = "response-trailers property response.grpc_status as x-status\nresponse-trailers property request.protocol as x-protocol";
    let upstream = http2::Upstream::answering(|_| http2::Answer {
        trailers: vec![("grpc-status", "5")],
        ..http2::Answer::text("x")
    });
    let plugins = loaded([probe("probe", script)]);
    let node = Node::start(World::new(&[upstream.address]).plugins(plugins).protocol(Protocol::Http2));
    run(async {
        let reply = http2::Client::connect(node.address).await.ask(http2::call("/s/m", b"")).await;
        assert_eq!((reply.trailer("x-status"), reply.trailer("x-protocol")), (Some("5"), Some("HTTP/2")));
    });
}

#[test]
fn of_a_connection_in_tls() {
    let properties = [
        ("connection.requested_server_name", Text("a.test")),
        ("connection.tls_version", Text("TLSv1.3")),
        ("connection.mtls", Text("0")),
        ("request.scheme", Text("https")),
    ];
    let upstream = Upstream::saying("x");
    let mut certificates = Certificates::new();
    certificates.put("a.test", "a.test");
    let mut node = Node::start_with(world(&upstream, &[&script("request-headers", &properties)]), |settings| {
        settings.gateways.certificates = certificates.path().to_owned();
    });
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    node.world.hosts.insert("a.test", "a.test");
    node.listen_at(&[address]);
    let mut client = certificates.connect(address, "a.test", &[]);
    assert_eq!(client.ask(&get("/", &[]).replace("host: a\r\n", "host: a.test\r\n")).text(), "x");
    let request = &upstream.requests()[0];
    check(&properties, |name| request.header(name));
}
