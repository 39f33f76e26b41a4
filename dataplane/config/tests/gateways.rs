//! Which route of a gateway a request is decided by.

use http::{HeaderMap, Method};
use weir_config::{SourceFile, compile, parse};
use weir_core::gateway::Bind;
use weir_core::revision::Sequence;
use weir_core::route::{Outcome, Request, Source};
use weir_core::snapshot::Snapshot;
use weir_core::split::Target;
use weir_core::stats::StatsTable;

/// Gateways and routes, with the service that each leads to called like what is expected.
const WORLD: &str = include_str!("gateways.yaml");

fn snapshot() -> Snapshot {
    let mut text = WORLD.to_owned();
    for (number, (namespace, name)) in [
        ("default", "any"),
        ("default", "wild"),
        ("default", "exact"),
        ("default", "deep"),
        ("default", "other-listener"),
        ("default", "second"),
        ("shop", "cart"),
        ("shop", "granted"),
        ("shop", "refused"),
        ("closed", "vault"),
    ]
    .into_iter()
    .enumerate()
    {
        text.push_str(&format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
             spec: {{clusterIP: 10.96.0.{number}, ports: [{{name: http, port: 80}}]}}\n"
        ));
    }
    let parsed = parse(&[SourceFile::new("gateways.yaml", text)]);
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
    let compiled = compile(&parsed.documents, Sequence(1), &mut StatsTable::default());
    compiled.snapshot.unwrap_or_else(|| panic!("{:?}", compiled.diagnostics))
}

/// The service that a request comes to; `404` where nothing is for the host or the path.
fn decide(snapshot: &Snapshot, bind: &str, host: &str, path: &str) -> String {
    let (ip, port) = bind.rsplit_once(':').unwrap();
    let bind = Bind { ip: ip.parse().ok(), port: port.parse().unwrap() };
    let port = snapshot.gateway_port(&bind).unwrap_or_else(|| panic!("nobody at {bind}"));
    let Some(frontend) = port.frontend(host) else { return "404".to_owned() };
    let headers = HeaderMap::new();
    let source = Source { address: "192.0.2.1".parse().unwrap(), workload: None };
    let request = Request { method: &Method::GET, path, query: None, headers: &headers, source, attributes: &[] };
    match frontend.decide(&request, 0).outcome {
        Outcome::Destination(destination, _) => match &destination.target {
            Target::Cluster(cluster) => cluster.name.service.name.to_string(),
            Target::Unresolved(reason) => reason.to_string(),
        },
        Outcome::NotFound => "404".to_owned(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn host_names_lead_to_routes() {
    let snapshot = snapshot();
    for (bind, host, path, expected) in [
        // The listener for all hosts: the most specific name first, then less specific ones.
        ("*:80", "nothing.example.org", "/", "any"),
        ("*:80", "", "/", "any"),
        ("*:80", "a.example.com", "/", "wild"),
        ("*:80", "b.a.example.com", "/", "wild"),
        ("*:80", "shop.example.com", "/exact", "exact"),
        ("*:80", "shop.example.com", "/elsewhere", "wild"),
        ("*:80", "shop.example.com", "/any-only", "any"),
        ("*:80", "a.deep.example.com", "/", "deep"),
        ("*:80", "example.com", "/", "any"),
        // A listener that is for a host: no other listener of the port is asked.
        ("*:80", "only.example.net", "/", "other-listener"),
        ("*:80", "only.example.net", "/any-only", "404"),
        ("*:80", "other.example.net", "/", "404"),
        // A gateway at an address of its own, and routes of one listener.
        ("192.0.2.7:80", "shop.example.com", "/", "404"),
        ("192.0.2.7:80", "a.example.com", "/second", "second"),
        ("192.0.2.7:8080", "a.example.com", "/second", "404"),
        // Namespaces that a listener takes routes from.
        ("*:81", "a", "/cart", "cart"),
        ("*:81", "a", "/vault", "404"),
        // Services of other namespaces.
        ("*:80", "grants.example.com", "/granted", "granted"),
        ("*:80", "grants.example.com", "/refused", "no ReferenceGrant of its namespace allows it"),
    ] {
        assert_eq!(decide(&snapshot, bind, host, path), expected, "{bind} {host} {path}");
    }
}

#[test]
fn listeners_in_tls_show_what_they_may() {
    let parsed = parse(&[SourceFile::new("gateway-tls.yaml", include_str!("cases/gateway-tls.yaml"))]);
    let compiled = compile(&parsed.documents, Sequence(1), &mut StatsTable::default());
    let snapshot = compiled.snapshot.unwrap_or_else(|| panic!("{:?}", compiled.diagnostics));
    let shown = |port: u16| {
        let port = snapshot.gateway_port(&Bind { ip: None, port })?;
        let of = |host: &str| {
            let listener = port.listeners.find(host)?;
            Some(listener.certificates.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        Some((port.is_tls, of("a.example.com"), of("b.example.com")))
    };
    let all = |text: &str| Some(text.to_owned());
    for (port, expected) in [
        (443, Some((true, all("default/shop default/wild"), all("default/shop default/wild")))),
        // Asks for what clients must show: left out.
        (449, None),
        (450, Some((true, all("default/shop"), all("default/shop")))),
        (451, Some((true, all("other/wild"), all("default/shop")))),
        (460, None),
        (461, Some((false, all(""), all("")))),
    ] {
        assert_eq!(shown(port), expected, "{port}");
    }
}

#[test]
fn a_host_of_another_listener_is_misdirected() {
    let snapshot = snapshot();
    let port = snapshot.gateway_port(&Bind { ip: None, port: 80 }).unwrap();
    for (server_name, host, expected) in [
        ("only.example.net", "only.example.net", false),
        ("a.example.com", "b.example.com", false),
        ("", "a.example.com", false),
        ("a.example.com", "only.example.net", true),
        ("only.example.net", "a.example.com", true),
    ] {
        assert_eq!(port.is_misdirected(server_name, host), expected, "{server_name} {host}");
    }
}
