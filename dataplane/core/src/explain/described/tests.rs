use super::*;
use crate::cluster::{Addresses, Cluster, Endpoint};
use crate::name::ClusterName;
use crate::revision::{RevisionId, Sequence};
use crate::snapshot::Protocol;
use crate::split::{Destination, Target};
use crate::stats::StatsId;

fn endpoint(addresses: Addresses, pod: Option<&str>) -> Endpoint {
    Endpoint {
        addresses,
        workload: pod.map(Into::into),
        version: None,
        node: None,
        zone: None,
        weight: crate::balance::Weight::default(),
    }
}

fn frontend_of(name: &str, port: u16, addresses: &[&str], endpoints: Vec<Endpoint>) -> Arc<Frontend> {
    let name = ClusterName { service: ServiceName::new("default", name), port };
    let target = Target::Cluster(Arc::new(Cluster::new(name.clone(), Protocol::Http, endpoints)));
    let service = Destination::new(name.clone(), target, 1, StatsId(0));
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Arc::new(Frontend { addresses, ..Frontend::new(name, Protocol::Http, service) })
}

fn workload(name: &str, addresses: &[&str]) -> Arc<Workload> {
    Arc::new(Workload {
        app: "web".into(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        ..Workload::new(&"default".into(), &name.into(), "default")
    })
}

fn snapshot() -> Snapshot {
    let both = Addresses::Both("10.0.0.1:80".parse().unwrap(), "[fd42::1]:80".parse().unwrap());
    let four = "10.0.0.2:80".parse::<SocketAddr>().unwrap();
    let endpoints = || vec![endpoint(four.into(), None), endpoint(both, Some("a"))];
    let frontends = vec![
        frontend_of("web", 8080, &["10.96.0.1:8080"], Vec::new()),
        frontend_of("api", 80, &["[fd96::2]:80"], Vec::new()),
        frontend_of("api", 81, &["[fd96::2]:81"], Vec::new()),
        frontend_of("dual", 80, &["10.96.0.3:80", "[fd96::3]:80"], endpoints()),
        frontend_of("six", 80, &["[fd96::4]:80"], vec![endpoint(four.into(), None)]),
    ];
    let workloads =
        [workload("four", &["10.0.0.9"]), workload("six", &["fd42::9"]), workload("two", &["10.0.0.8", "fd42::8"])];
    Snapshot::new(Sequence(1), RevisionId::of([]), frontends, &workloads)
}

/// The endpoints that are named for a request from somewhere.
#[test]
fn the_endpoints_are_those_that_the_connection_can_come_to() {
    let (four, six) = ("10.0.0.2:80, 10.0.0.1:80 (a)", "[fd42::1]:80 (a)");
    let cases = [
        ("http://10.96.0.3/", None, four),
        ("http://[fd96::3]/", None, six),
        ("http://10.96.0.3/", Some("two"), four),
        ("http://[fd96::3]/", Some("two"), six),
        ("http://dual/", Some("four"), four),
        ("http://dual/", Some("six"), six),
        ("http://dual/", Some("fd42::77"), six),
        ("http://dual/", Some("two"), "10.0.0.2:80, 10.0.0.1:80 or [fd42::1]:80 (a)"),
        ("http://dual/", None, "10.0.0.2:80, 10.0.0.1:80 or [fd42::1]:80 (a)"),
        ("http://six/", Some("two"), "10.0.0.2:80"),
    ];
    for (url, from, expected) in cases {
        let from = from.map(str::to_owned);
        let described = Described { url: url.to_owned(), method: get(), headers: Vec::new(), from };
        let found = described.explain(&snapshot()).unwrap().destinations.remove(0).endpoints.join(", ");
        assert_eq!(found, expected, "{described:?}");
    }
}

fn check(url: &str, expected: Result<&str, &str>) {
    let described = Described { url: url.to_owned(), method: get(), headers: Vec::new(), from: None };
    let found = described.explain(&snapshot()).map(|explanation| explanation.service);
    assert_eq!(found.map_err(|error| error.to_string()), expected.map(str::to_owned).map_err(str::to_owned), "{url}");
}

#[test]
fn finds_what_a_url_addresses() {
    check("http://web/", Ok("default/web:8080"));
    check("http://web.default.svc.cluster.local/x", Ok("default/web:8080"));
    check("http://10.96.0.1:8080/", Ok("default/web:8080"));
    check("http://[fd96::2]/", Ok("default/api:80"));
    check("http://api:81/", Ok("default/api:81"));
    check("http://api:82/", Err("default/api has no such port; it has 80, 81"));
    check(
        "http://gone/",
        Err(
            "no service has the name or address \"gone\"; there are default/api, default/dual, default/six, default/web",
        ),
    );
    check("ftp://web/", Err("\"ftp://web/\" is not of the form http://HOST[:PORT]/PATH"));
}

#[test]
fn malformed_descriptions_say_what_is_wrong() {
    let described = |method: &str, header: &str, from: Option<&str>| {
        let headers = vec![header.to_owned()];
        let described =
            Described { url: "http://web/".into(), method: method.into(), headers, from: from.map(Into::into) };
        described.explain(&snapshot()).unwrap_err().to_string()
    };
    assert_eq!(described("G T", "a: b", None), "\"G T\" is not an HTTP method");
    assert_eq!(described("GET", "ab", None), "\"ab\" is not of the form \"Name: value\"");
    assert_eq!(described("GET", "a: b", Some("ann")), "no workload is called \"ann\", and it is not an address");
}
