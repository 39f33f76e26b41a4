//! What compiled configurations do with requests.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use weir_config::{SourceFile, compile, parse};
use weir_core::balance::{Algorithm, HealthCheck, Locality, OutlierDetection, Question, TrafficPolicy};
use weir_core::name::{ClusterName, OriginalDst, ServiceName};
use weir_core::revision::Sequence;
use weir_core::route::{Outcome, Request, Source};
use weir_core::snapshot::{Protocol, Snapshot};
use weir_core::split::{StickyKey, Target};
use weir_core::stats::StatsTable;
use weir_core::workload::Enrolment;

const WORLD: &str = include_str!("world.yaml");

fn snapshot(rules: &str) -> Snapshot {
    let text = format!("{WORLD}\n---\n{rules}");
    let parsed = parse(&[SourceFile::new("world.yaml", text)]);
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
    let compiled = compile(&parsed.documents, Sequence(1), &mut StatsTable::default());
    compiled.snapshot.unwrap_or_else(|| panic!("{:?}", compiled.diagnostics))
}

/// What becomes of `METHOD TARGET` with `name: value` lines sent to an address: `rule -> destination` with the
/// endpoints, and `+ mirror` for each copy.
fn decide(snapshot: &Snapshot, address: &str, request: &str) -> String {
    let mut lines = request.lines().map(str::trim);
    let (method, target) = lines.next().unwrap().split_once(' ').unwrap();
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value.trim()).unwrap());
    }
    let method: Method = method.parse().unwrap();
    let source: IpAddr = "10.42.0.9".parse().unwrap();
    let source = Source { address: source, workload: snapshot.workload(source).map(AsRef::as_ref) };
    let request = Request { method: &method, path, query, headers: &headers, source, attributes: &[] };
    let frontend = snapshot.frontend_at(OriginalDst(address.parse().unwrap())).unwrap();
    let decision = frontend.decide(&request, 0);
    let rule = decision.rule().map_or("-", |rule| &rule.name.name);
    let destination = match decision.outcome {
        Outcome::Destination(destination, _) => destination,
        Outcome::NoDestination => return format!("{rule} -> nothing"),
        Outcome::NotFound => return format!("{rule} -> 404"),
        Outcome::Preflight(_) => return format!("{rule} -> preflight"),
        Outcome::Direct(direct) => return format!("{rule} -> {direct}"),
        Outcome::Redirect(redirect) => return format!("{rule} -> {redirect}"),
    };
    let mut text = format!("{rule} -> {}", shown(&destination.name.to_string(), &destination.target));
    for mirror in decision.mirrors().iter().filter(|mirror| mirror.wants(&method, 0)) {
        text.push_str(&format!(" + {}", shown(&mirror.destination.to_string(), &mirror.target)));
    }
    text
}

fn shown(name: &str, target: &Target) -> String {
    match target {
        Target::Unresolved(reason) => format!("{name} ({reason})"),
        Target::Cluster(cluster) => {
            let endpoint = |endpoint: &weir_core::cluster::Endpoint| {
                let known = [&endpoint.workload, &endpoint.version, &endpoint.node];
                let known = known.map(|known| known.as_deref().unwrap_or("-")).join("/");
                let addresses: Vec<String> = endpoint.addresses.iter().map(|address| address.to_string()).collect();
                format!("{} {known}", addresses.join("+"))
            };
            format!("{name} [{}]", cluster.endpoints().iter().map(endpoint).collect::<Vec<_>>().join(", "))
        }
    }
}

const V1: &str = "default/service:8080 [10.42.0.5:80 a/v1/n1, 10.42.0.6:80 b/-/n2]";
const CANARY: &str = "default/service-canary:8080 [10.42.0.7:8080 c/v2/n3]";

#[test]
fn the_rule_of_the_issue_works_as_it_is() {
    for version in ["gateway.example.com/v1", "weir.dev/v1"] {
        let rule = include_str!("cases/user-example.yaml").replace("gateway.example.com/v1", version);
        let snapshot = snapshot(&rule);
        for address in ["10.96.0.1:8080", "[fd96::1]:8080"] {
            let tagged = decide(&snapshot, address, "GET /\nx-user-tag: canary-user");
            assert_eq!(tagged, format!("user-header-canary -> {CANARY}"), "{version}");
            assert_eq!(decide(&snapshot, address, "GET /\nx-user-tag: other"), format!("- -> {V1}"), "{version}");
        }
        // It names no service: every service of its namespace, and none of another.
        let other = decide(&snapshot, "10.96.0.3:80", "GET /\nx-user-tag: canary-user");
        assert_eq!(other, "- -> other/elsewhere:80 []");
    }
}

/// Requests to the service's virtual address under a `spec`.
fn check(spec: &str, cases: &[(&str, &str)]) {
    let rule = format!("apiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {{name: r}}\nspec: {spec}\n");
    let snapshot = snapshot(&rule);
    for (request, expected) in cases {
        let expected = expected.replace("$V1", V1).replace("$CANARY", CANARY);
        assert_eq!(decide(&snapshot, "10.96.0.1:8080", request), expected, "{request} under {spec}");
    }
}

#[test]
fn every_condition_reaches_core() {
    let to = "route: {destination: {host: service-canary, port: 8080}}";
    let (hit, miss) = ("r -> $CANARY", "- -> $V1");
    let check = |condition: &str, hits: &[&str], misses: &[&str]| {
        let cases: Vec<_> = hits.iter().map(|request| (*request, hit)).collect();
        let misses = misses.iter().map(|request| (*request, miss));
        check(&format!("{{match: {condition}, {to}}}"), &cases.into_iter().chain(misses).collect::<Vec<_>>());
    };
    check("{headers: {X-A: b}}", &["GET /\nx-a: b"], &["GET /", "GET /\nx-a: B", "GET /\nx-a: bb"]);
    check("{headers: {x-a: {exact: ''}}}", &["GET /\nx-a: "], &["GET /", "GET /\nx-a: b"]);
    check("{headers: {x-a: {prefix: b}}}", &["GET /\nx-a: bc"], &["GET /\nx-a: cb"]);
    check("{headers: {x-a: {suffix: b}}}", &["GET /\nx-a: cb"], &["GET /\nx-a: bc"]);
    check("{headers: {x-a: {regex: 'b|c'}}}", &["GET /\nx-a: c"], &["GET /\nx-a: bc", "GET /\nx-a: cb"]);
    check("{headers: {x-a: {present: true}}}", &["GET /\nx-a: b"], &["GET /"]);
    check("{headers: {x-a: {absent: true}}}", &["GET /"], &["GET /\nx-a: b"]);
    check("{cookies: {u: {prefix: b}}}", &["GET /\ncookie: x=1; u=b2"], &["GET /\ncookie: x=b"]);
    check("{query: {v: '2'}}", &["GET /?a=1&v=2"], &["GET /?v=3", "GET /"]);
    check("{path: {exact: /a}}", &["GET /a?x"], &["GET /a/", "GET /"]);
    check("{path: {prefix: /a/}}", &["GET /a", "GET /a/b"], &["GET /ab"]);
    check("{path: {suffix: .jpg}}", &["GET /x.jpg"], &["GET /x.png"]);
    check("{path: {regex: '/[0-9]+'}}", &["GET /12"], &["GET /12/x"]);
    check("{method: PUT}", &["PUT /"], &["GET /"]);
    check("{method: [PUT, PURGE]}", &["PUT /", "PURGE /"], &["GET /"]);
    check("{method: GET, headers: {x-a: b}}", &["GET /\nx-a: b"], &["PUT /\nx-a: b", "GET /"]);
    check("[{method: PUT}, {headers: {x-a: b}}]", &["PUT /", "GET /\nx-a: b"], &["GET /"]);
    check("{}", &["GET /"], &[]);
}

#[test]
fn destinations_are_found_by_name_and_port() {
    let cases = [
        ("{host: service-canary}", "r -> $CANARY"),
        ("{host: service-canary.default}", "r -> $CANARY"),
        ("{host: service-canary.default.svc.cluster.local, port: 8080}", "r -> $CANARY"),
        ("{host: elsewhere.other}", "r -> other/elsewhere:80 []"),
        // The client addressed 8080, and the service has it among others.
        ("{host: service}", "r -> $V1"),
        ("{host: two-ports}", "r -> default/two-ports:8080 (the service has no such port)"),
        ("{host: two-ports, port: 80}", "r -> default/two-ports:80 []"),
        ("{host: service-canary, port: 81}", "r -> default/service-canary:81 (the service has no such port)"),
        ("{host: gone}", "r -> default/gone:8080 (no such service)"),
        ("{host: gone, port: 7}", "r -> default/gone:7 (no such service)"),
        ("{host: service-canary, weight: 0}", "r -> nothing"),
    ];
    for (destination, expected) in cases {
        check(&format!("{{route: {{destination: {destination}}}}}"), &[("GET /", expected)]);
    }
    let split = "{route: {destinations: [{host: gone, weight: 0}, {host: service-canary, weight: 7}]}}";
    check(split, &[("GET /", "r -> $CANARY")]);
}

/// A slice of the service `dual`, one endpoint for each `address`, `address of POD` or `address of POD on NODE`.
fn slice(family: &str, name: &str, port: u16, endpoints: &[&str]) -> String {
    let endpoint = |text: &&str| {
        let (text, node) = text.split_once(" on ").unwrap_or((text, "~"));
        let (address, pod) = text.split_once(" of ").unwrap_or((text, ""));
        let target = if pod.is_empty() { "~".to_owned() } else { format!("{{kind: Pod, name: {pod}, uid: {family}}}") };
        format!("{{addresses: ['{address}'], nodeName: {node}, targetRef: {target}}}")
    };
    format!(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: \
         {{kubernetes.io/service-name: dual}}}}\naddressType: {family}\nports: [{{port: {port}}}]\nendpoints: [{}]\n",
        endpoints.iter().map(endpoint).collect::<Vec<_>>().join(", ")
    )
}

#[test]
fn a_pod_with_addresses_of_both_families_is_one_endpoint() {
    let cases: &[(&[&str], &[&str], &str)] = &[
        // Both slices name the pod, whether or not there is a document about it.
        (&["10.0.0.1 of x on n1"], &["fd::1 of x"], "10.0.0.1:80+[fd::1]:80 x/-/n1"),
        (&["10.42.0.5 of a"], &["fd42::5 of a"], "10.42.0.5:80+[fd42::5]:80 a/v1/n1"),
        // No slice names it, but the pod's document has both addresses; or only one does.
        (&["10.42.0.5"], &["fd42::5"], "10.42.0.5:80+[fd42::5]:80 a/v1/n1"),
        (&["10.42.0.5 of a"], &["fd42::5"], "10.42.0.5:80+[fd42::5]:80 a/v1/n1"),
        // Nobody says that it is one pod, not even the node.
        (&["10.0.0.1 on n1"], &["fd::1 on n1"], "10.0.0.1:80 -/-/n1, [fd::1]:80 -/-/n1"),
        (&["10.0.0.1 of x"], &["fd::1 of y"], "10.0.0.1:80 x/-/-, [fd::1]:80 y/-/-"),
        // Whatever the order of the addresses.
        (
            &["10.0.0.2 of x", "10.0.0.1 of y", "10.0.0.3 of z"],
            &["fd::1 of x", "fd::2 of y", "fd::3 of w"],
            "10.0.0.3:80 z/-/-, 10.0.0.1:80+[fd::2]:80 y/-/-, 10.0.0.2:80+[fd::1]:80 x/-/-, [fd::3]:80 w/-/-",
        ),
        // Two addresses of one family are two places where it listens.
        (&["10.0.0.1 of x", "10.0.0.2 of x"], &["fd::1 of x"], "10.0.0.2:80 x/-/-, 10.0.0.1:80+[fd::1]:80 x/-/-"),
        (&["10.0.0.1 of x"], &[], "10.0.0.1:80 x/-/-"),
        (&[], &["fd::1 of x"], "[fd::1]:80 x/-/-"),
    ];
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: dual}\n\
                   spec: {clusterIPs: [10.96.0.9, 'fd96::9'], ports: [{port: 80}]}\n";
    for (v4, v6, expected) in cases {
        for order in [["dual-1", "dual-2"], ["dual-2", "dual-1"]] {
            let slices = slice("IPv4", order[0], 80, v4) + &slice("IPv6", order[1], 80, v6);
            let snapshot = snapshot(&format!("{service}{slices}"));
            for address in ["10.96.0.9:80", "[fd96::9]:80"] {
                let expected = format!("- -> default/dual:80 [{expected}]");
                assert_eq!(decide(&snapshot, address, "GET /"), expected, "{v4:?} and {v6:?}");
            }
        }
    }
    // What listens on another port is something else.
    let slices = slice("IPv4", "four", 80, &["10.0.0.1 of x"]) + &slice("IPv6", "six", 81, &["fd::1 of x"]);
    let apart = decide(&snapshot(&format!("{service}{slices}")), "10.96.0.9:80", "GET /");
    assert_eq!(apart, "- -> default/dual:80 [10.0.0.1:80 x/-/-, [fd::1]:81 x/-/-]");
}

#[test]
fn what_endpoints_weigh_is_said_by_pods_and_slices() {
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: dual}\n\
                   spec: {clusterIPs: [10.96.0.9], ports: [{name: db, port: 80, appProtocol: kubernetes.io/ws}]}\n";
    let weighing = |weight: &str, document: &str| {
        document.replace("{name: ", &format!("{{annotations: {{weir.dev/weight: '{weight}'}}, name: "))
    };
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: x}\nstatus: {podIP: 10.0.0.1}\n";
    let slice = slice("IPv4", "dual", 80, &["10.0.0.1", "10.0.0.2"]).replace("port: 80", "name: db, port: 80");
    for (pod, slice, expected) in [
        (pod.to_owned(), slice.clone(), (vec![100, 100], false)),
        (weighing("300", pod), slice.clone(), (vec![300, 100], true)),
        (
            pod.to_owned(),
            slice.replace("{name: dual", "{annotations: {weir.dev/weight: '5'}, name: dual"),
            (vec![5, 5], false),
        ),
        (
            weighing("300", pod),
            slice.replace("{name: dual", "{annotations: {weir.dev/weight: '5'}, name: dual"),
            (vec![300, 5], true),
        ),
        (weighing("0", pod), slice, (vec![100, 100], false)),
    ] {
        let snapshot = snapshot(&format!("{service}{pod}{slice}"));
        let frontend = snapshot.frontends().find(|frontend| &*frontend.name.service.name == "dual").unwrap();
        let Target::Cluster(cluster) = &frontend.service.target else { panic!("no cluster") };
        let weights: Vec<u16> = cluster.endpoints().iter().map(|endpoint| endpoint.weight.get()).collect();
        // Where they differ the kernel cannot share connections between them as it should.
        assert_eq!((weights, frontend.is_intercepted()), expected, "{pod}");
    }
}

#[test]
fn mirrors_copy_safe_methods_unless_told_otherwise() {
    let (kept, copied) = ("r -> $V1", "r -> $V1 + $CANARY");
    let check = |mirror: &str, get: &str, post: &str| {
        check(&format!("{{mirror: {mirror}}}"), &[("GET /", get), ("POST /", post)]);
    };
    check("{destination: {host: service-canary}}", copied, kept);
    check("{destination: {host: service-canary}, methods: ['*']}", copied, copied);
    check("{destination: {host: service-canary}, methods: [POST]}", kept, copied);
    check("{destination: {host: service-canary}, percentage: 0}", kept, kept);
    check("{destination: {host: service-canary}, percentage: 0.0001}", copied, kept);
    let two = "[{destination: {host: service-canary}}, {destination: {host: gone, port: 1}, methods: [POST]}]";
    check(two, copied, "r -> $V1 + default/gone:1 (no such service)");
}

#[test]
fn a_rule_that_leaves_a_port_out_means_the_one_that_is_addressed() {
    let rule = "
apiVersion: weir.dev/v1
kind: RouteRule
metadata: {name: r}
spec:
  services: [two-ports]
  route: {destination: {host: service-canary, port: 8080}}
  mirror: {destination: {host: two-ports}}
";
    let snapshot = snapshot(rule);
    for port in [80, 81] {
        let expected = format!("r -> {CANARY} + default/two-ports:{port} []");
        assert_eq!(decide(&snapshot, &format!("10.96.0.4:{port}"), "GET /"), expected);
    }
}

#[test]
fn priority_services_and_timeouts_reach_core() {
    let rules = "
apiVersion: weir.dev/v1
kind: RouteRule
metadata: {name: a}
spec: {timeouts: {request: 1m30s, perTry: 0s}, match: {path: {exact: /x}}}
---
apiVersion: weir.dev/v1
kind: RouteRule
metadata: {name: b}
spec:
  priority: 1
  services: [{name: service, port: 8080}]
  route: {destination: {host: service-canary}, sticky: {cookie: user}}
";
    let snapshot = snapshot(rules);
    assert_eq!(decide(&snapshot, "10.96.0.1:8080", "GET /x"), format!("b -> {CANARY}"));
    let frontend = snapshot.frontend_at(OriginalDst("10.96.0.1:8080".parse().unwrap())).unwrap();
    let entries = frontend.routes.entries();
    assert_eq!(entries.len(), 2);
    assert_eq!(entries[1].rule.timeouts.request.map(|timeout| timeout.as_secs()), Some(90));
    assert_eq!(entries[1].rule.timeouts.per_try, None, "0s is no bound");
    assert_eq!(entries[0].rule.split.sticky, Some(StickyKey::Cookie("user".into())), "what makes a split sticky");
    let other = snapshot.frontend_at(OriginalDst("10.96.0.1:9090".parse().unwrap())).unwrap();
    let names: Vec<_> = other.routes.entries().iter().map(|entry| entry.rule.name.name.to_string()).collect();
    assert_eq!(names, ["a"], "b names another port");
}

#[test]
fn retries_reach_core() {
    let rule = |name: &str, retry: &str| {
        format!(
            "---\napiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {{name: {name}}}\nspec: {{services: [service], retry: {retry}}}\n"
        )
    };
    let routed = |retry: &str, method: &str| {
        route(
            "route",
            "default",
            &format!(
                "[{{matches: [{{method: {method}}}], backendRefs: [{{name: service, port: 8080}}], retry: {retry}}}]"
            ),
        )
    };
    let usual = "tried again up to 2 times, at the first destination, after at least 25ms, on no connection, no response, \
                 no answer in time, 502 to 504, gRPC status 14";
    let given =
        "tried again once, at default/service-canary:8080, after at least 1s, on no connection, 429, 500 to 599";
    let hedged = &format!("{usual}; without an answer for 200ms also beside");
    let of_route = "tried again up to 4 times, at the first destination, after at least 25ms, on no connection, \
                    no response, no answer in time, 500, 503";
    // What it says, and whether POST may be done twice.
    let cases = [
        (rule("r", "{}"), usual, false),
        (
            rule(
                "r",
                "{attempts: 1, on: [connect-failure, 5xx, 429], methods: ['*'], backoff: 1s, destination: {host: service-canary}}",
            ),
            given,
            true,
        ),
        (rule("r", "{methods: [POST]}"), usual, true),
        (rule("r", "{hedgeAfter: 200ms}"), hedged, false),
        (routed("{codes: [503, 500], attempts: 4}", "GET"), of_route, false),
        (routed("{codes: [503, 500], attempts: 4}", "POST"), of_route, true),
    ];
    for (documents, told, twice) in cases {
        let snapshot = snapshot(&documents);
        let frontend = snapshot.frontend_at(OriginalDst("10.96.0.1:8080".parse().unwrap())).unwrap();
        let retry = frontend.routes.entries()[0].rule.retry.as_ref().unwrap();
        assert_eq!(retry.describe(), told, "{documents}");
        assert_eq!(retry.methods.contains(&Method::POST), twice, "{documents}");
    }
}

#[test]
fn what_rules_do_to_requests_reaches_core() {
    let snapshot = snapshot(include_str!("cases/filters.yaml"));
    let name = ClusterName { service: ServiceName::new("default", "web"), port: 80 };
    let entries = snapshot.frontend(&name).unwrap().routes.entries();
    let mut told: Vec<String> = entries
        .iter()
        .map(|entry| {
            let filters = entry.rule.filters.as_ref().unwrap();
            format!("{} {}", entry.rule.name.name, filters.describe().join("; "))
        })
        .collect();
    told.sort();
    let expected = [
        "direct answer: 503 with 7 bytes",
        "fault fault: 10 % wait for 2s, 0.5 % are answered with 503",
        "fault-call fault: 100 % are answered with gRPC status 14",
        "limit limit: 10 requests in 60s, 2 at once, for each calling identity",
    ];
    assert_eq!(told, expected);
}

#[test]
fn health_checks_reach_core() {
    let snapshot = snapshot(include_str!("cases/health-check.yaml"));
    let policy = |port: u16| {
        let name = ClusterName { service: ServiceName::new("default", "web"), port };
        let Target::Cluster(cluster) = &snapshot.frontend(&name).unwrap().service.target else { panic!("{name}") };
        TrafficPolicy::clone(&cluster.policy)
    };
    let check = |port: u16| HealthCheck::clone(policy(port).health.as_ref().unwrap());
    assert_eq!((policy(82).max_requests, policy(82).max_retries), (Some(100), Some(0)));
    assert_eq!((policy(81).max_requests, policy(81).max_retries), (None, None));
    let (s, ms) = (Duration::from_secs, Duration::from_millis);
    let usual = HealthCheck {
        question: Question::Tcp,
        interval: s(3),
        timeout: s(1),
        healthy_threshold: 1,
        unhealthy_threshold: 3,
    };
    let asked = Question::Http {
        method: Method::HEAD,
        path: "/healthz?full=1".into(),
        host: Some(HeaderValue::from_static("web.local")),
        statuses: vec![200, 204],
    };
    let http =
        HealthCheck { question: asked, interval: s(5), timeout: ms(500), healthy_threshold: 4, unhealthy_threshold: 2 };
    assert_eq!(check(80), http);
    assert_eq!(check(82), usual);
    assert_eq!(check(81), HealthCheck { question: Question::Grpc { service: "a.B".into() }, ..usual });
}

#[test]
fn policies_reach_core() {
    let snapshot = snapshot(include_str!("cases/traffic-policy.yaml"));
    let policy = |service: &str, port: u16| {
        let name = ClusterName { service: ServiceName::new("default", service), port };
        let Target::Cluster(cluster) = &snapshot.frontend(&name).unwrap().service.target else { panic!("{name}") };
        TrafficPolicy::clone(&cluster.policy)
    };
    let s = Duration::from_secs;
    let expected = TrafficPolicy {
        algorithm: Algorithm::ConsistentHash(StickyKey::Header("x-user".parse().unwrap())),
        slow_start: Some(s(30)),
        locality: Locality::SameNode,
        panic_percent: 30,
        health: None,
        max_requests: None,
        max_retries: None,
        outliers: Some(OutlierDetection {
            consecutive_5xx: Some(3),
            consecutive_gateway_errors: Some(2),
            consecutive_local_failures: None,
            failure_percentage: Some(60),
            request_volume: 50,
            interval: s(5),
            base_ejection: s(10),
            max_ejection: s(60),
            max_ejection_percent: 80,
        }),
    };
    assert_eq!(policy("web", 80), expected);
    let admin = TrafficPolicy {
        algorithm: Algorithm::PeakEwma,
        locality: Locality::SameNode,
        outliers: Some(OutlierDetection::default()),
        ..TrafficPolicy::default()
    };
    assert_eq!(policy("web", 81), admin, "its own, and not that of its service");
    assert_eq!(policy("near", 80), TrafficPolicy { locality: Locality::OnlyNode, ..TrafficPolicy::default() });
    assert_eq!(policy("service", 8080), TrafficPolicy::default());
}

/// A route of `service` with these rules, in YAML's flow style.
fn route(name: &str, namespace: &str, rules: &str) -> String {
    let parent = "{group: '', kind: Service, name: service, namespace: default, port: 8080}";
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{parentRefs: [{parent}], rules: {rules}}}\n"
    )
}

#[test]
fn routes_take_what_they_match_and_refuse_the_rest() {
    let to_canary = "backendRefs: [{name: service-canary, namespace: default, port: 8080}]";
    let rules = format!(
        "[{{matches: [{{path: {{value: /c}}}}], {to_canary}}},
          {{matches: [{{path: {{value: /r}}}}], filters: [{{type: RequestRedirect, requestRedirect: {{hostname: a.b}}}}]}},
          {{matches: [{{path: {{value: /o}}}}], filters: [{{type: CORS, cors: {{allowOrigins: ['*']}}}}], {to_canary}}},
          {{matches: [{{path: {{value: /n}}}}]}},
          {{matches: [{{path: {{value: /k}}}}], backendRefs: [{{group: a.b, kind: Bucket, name: x}}]}},
          {{matches: [{{path: {{value: /m}}}}], filters: [{{type: RequestMirror, requestMirror:
             {{backendRef: {{name: service, port: 8080}}}}}}], {to_canary}}},
          {{matches: [{{path: {{value: /b}}}}], backendRefs: [{{name: service-canary, port: 8080, filters:
             [{{type: RequestRedirect, requestRedirect: {{hostname: c.d}}}}]}}]}}]"
    );
    let canary = format!("web -> {CANARY}");
    let cases = [
        ("GET /c", &*canary),
        ("GET /c/d", &canary),
        ("GET /r", "web -> answers 302, host a.b"),
        ("GET /o", &canary),
        ("OPTIONS /o\norigin: http://a\naccess-control-request-method: PUT", "web -> preflight"),
        ("GET /n", "web -> nothing"),
        ("GET /k", "web -> default/x:8080 (it is not a Service)"),
        ("POST /m", &format!("web -> {CANARY} + {V1}")),
        ("GET /b", "web -> answers 302, host c.d"),
        ("GET /", "- -> 404"),
    ];
    let own = snapshot(&route("web", "default", &rules));
    for (request, expected) in cases {
        assert_eq!(decide(&own, "10.96.0.1:8080", request), expected, "{request}");
    }
    assert_eq!(decide(&own, "10.96.0.1:9090", "GET /c"), "- -> default/service:9090 []", "another port");
    // One that says nothing is for everything, and leads nowhere.
    let nothing = snapshot(&route("web", "default", "[]"));
    assert_eq!(decide(&nothing, "10.96.0.1:8080", "GET /any"), "web -> nothing");
}

#[test]
fn calls_are_matched_by_what_they_call() {
    let to = |name: &str| format!("backendRefs: [{{name: {name}, namespace: default, port: 8080}}]");
    let (stable, canary) = (to("service"), to("service-canary"));
    let rules = format!(
        "[{{matches: [{{method: {{service: pkg.Echo}}}}], {stable}}},
          {{matches: [{{method: {{service: pkg.Echo, method: Say}}}}], {canary}}},
          {{matches: [{{method: {{method: Watch}}}}], {canary}}},
          {{matches: [{{method: {{type: RegularExpression, service: 'a[.].*'}}}}], {canary}}},
          {{matches: [{{method: {{type: RegularExpression, method: 'Get.*'}}, headers: [{{name: x-a, value: b}}]}}], {stable}}},
          {{matches: [{{headers: [{{name: x-user, value: me}}]}}], {canary}}}]"
    );
    let route = route("calls", "default", &rules).replace("kind: HTTPRoute", "kind: GRPCRoute");
    let (stable, canary) = (format!("calls -> {V1}"), format!("calls -> {CANARY}"));
    let cases = [
        ("POST /pkg.Echo/Say", &canary),
        ("POST /pkg.Echo/Other", &stable),
        ("POST /pkg.Echo/Watch", &stable),
        ("POST /pkg.Echoes/Watch", &canary),
        ("POST /a.b.C/Any", &canary),
        ("POST /x.Y/GetIt\nx-a: b", &stable),
        ("POST /x.Y/GetIt\nx-user: me", &canary),
    ];
    let snapshot = snapshot(&route);
    for (request, expected) in cases {
        assert_eq!(&decide(&snapshot, "10.96.0.1:8080", request), expected, "{request}");
    }
    for request in ["POST /pkg.Echoes/Say", "POST /ab.C/Any", "POST /x.Y/GetIt", "POST /x/y/GetIt\nx-a: b"] {
        assert_eq!(decide(&snapshot, "10.96.0.1:8080", request), "- -> 404", "{request}");
    }
}

#[test]
fn a_consumers_routes_take_the_place_of_the_producers() {
    let backend = |name: &str| format!("[{{backendRefs: [{{name: {name}, namespace: default, port: 8080}}]}}]");
    let producer = route("producer", "default", &backend("service"));
    let rule = "---\napiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {name: rule}\nspec:\n  services: [service]\n  \
                match: {method: PUT}\n  route: {destination: {host: service-canary, port: 8080}}\n";
    // Requests come from a pod of the namespace `other`.
    let cases = [
        (route("consumer", "other", &backend("service-canary")), format!("consumer -> {CANARY}")),
        (route("consumer", "third", &backend("service-canary")), format!("producer -> {V1}")),
    ];
    for (consumer, expected) in cases {
        let snapshot = snapshot(&format!("{producer}{consumer}{rule}"));
        assert_eq!(decide(&snapshot, "10.96.0.1:8080", "GET /"), expected);
        assert_eq!(decide(&snapshot, "10.96.0.1:8080", "PUT /"), format!("rule -> {CANARY}"));
    }
}

#[test]
fn ports_are_intercepted_only_where_a_rule_concerns_http() {
    let snapshot = snapshot(include_str!("cases/user-example.yaml"));
    let found: Vec<_> = snapshot
        .frontends()
        .map(|frontend| (frontend.name.to_string(), frontend.protocol, frontend.is_intercepted()))
        .collect();
    let expected = [
        ("default/headless:80", Protocol::Detect, true),
        ("default/service:53", Protocol::Udp, false),
        ("default/service:3306", Protocol::Opaque, false),
        ("default/service:8080", Protocol::Http, true),
        ("default/service:9090", Protocol::Detect, true),
        ("default/service-canary:8080", Protocol::Detect, true),
        ("default/two-ports:80", Protocol::Detect, true),
        ("default/two-ports:81", Protocol::Detect, true),
        ("other/elsewhere:80", Protocol::Detect, false),
    ];
    assert_eq!(found, expected.map(|(name, protocol, is)| (name.to_owned(), protocol, is)));
    assert!(snapshot.frontend_at(OriginalDst("10.96.0.1:53".parse().unwrap())).is_none(), "UDP is not TCP");
}

#[test]
fn pods_are_workloads() {
    let snapshot = snapshot("");
    let mut found: Vec<_> = snapshot
        .workloads()
        .map(|(address, workload)| {
            let enrolled = workload.enrolment == Enrolment::Enrolled;
            format!("{address} {} {} {enrolled}", workload.name, workload.identity())
        })
        .collect();
    found.sort();
    let expected = [
        "10.42.0.5 a ns/default/sa/recognition true",
        "10.42.0.6 b ns/default/sa/default false",
        "10.42.0.7 c ns/default/sa/default true",
        "10.42.0.9 client ns/other/sa/default false",
        "fd42::5 a ns/default/sa/recognition true",
        "fd42::9 inside ns/other/sa/default true",
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_examples_of_the_reference_are_right() {
    let pages = [
        include_str!("../../../docs/route-rule.md"),
        include_str!("../../../docs/http-route.md"),
        include_str!("../../../docs/backend-traffic-policy.md"),
    ];
    let examples = |page: &'static str| page.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next());
    let examples: Vec<&str> = pages.into_iter().flat_map(examples).collect();
    assert!(examples.len() >= 4, "{} examples", examples.len());
    for example in examples {
        // What begins with a space is a part of a spec.
        let head = "apiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {name: example}\nspec:\n";
        let text = if example.starts_with(' ') { format!("{head}{example}") } else { example.to_owned() };
        let parsed = parse(&[SourceFile::new("route-rule.md", text)]);
        assert_eq!(parsed.diagnostics, [], "{example}");
        assert_eq!(parsed.documents.len(), 1, "{example}");
    }
}
