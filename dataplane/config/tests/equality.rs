//! What counts as equal content, and that what is kept can be read again.

use std::path::Path;
use std::sync::Arc;

use weir_config::{DocumentSet, Origin, ParseCache, SourceFile, compile, from_canonical, parse};
use weir_core::name::ObjectName;
use weir_core::revision::Sequence;
use weir_core::stats::StatsTable;

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile::new(path, text.to_owned())
}

fn set(text: &str) -> DocumentSet {
    let parsed = parse(&[file("a.yaml", text)]);
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
    parsed.documents
}

fn rule(spec: &str) -> DocumentSet {
    set(&format!("apiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {{name: r}}\nspec: {spec}\n"))
}

#[test]
fn the_same_in_other_words_is_equal() {
    let pairs = [
        ("{match: {headers: {x-a: b}}}", "{match: {headers: {X-A: {exact: b}}}}"),
        ("{match: {method: GET}}", "{match: [{method: [GET]}]}"),
        ("{match: {}, timeouts: {request: 1s}}", "{timeouts: {request: '1s'}, priority: 0, services: ~}"),
        ("{services: [a, {name: b}]}", "{services: [{name: a, port: ~}, b]}"),
        ("{route: {destination: {host: a}}}", "{route: {destination: {weight: 1, host: \"a\"}, sticky: ~}}"),
        (
            "{route: {destination: {host: a}, sticky: {header: X-User}}}",
            "{route: {sticky: {header: x-user}, destination: {host: a}}}",
        ),
        ("{fault: {abort: {httpStatus: 500}}}", "{fault: {abort: {httpStatus: 500, percentage: 100}}}"),
        ("{rateLimit: {requests: 1, per: {header: a}}}", "{rateLimit: {requests: 1, per: {header: A}}}"),
        ("{retry: {}}", "{retry: {attempts: 2, destination: first}}"),
        ("{retry: {on: [503]}}", "{retry: {on: ['503']}}"),
        ("{mirror: {destination: {host: a}}}", "{mirror: [{percentage: 100, destination: {host: a}}]}"),
    ];
    for (one, other) in pairs {
        assert_eq!(rule(one).id(), rule(other).id(), "{one} and {other}");
    }
}

fn http_route(spec: &str) -> DocumentSet {
    set(&format!("apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: r}}\nspec: {spec}\n"))
}

/// A cluster's API fills in defaults: what comes back from there is no other version than what was sent.
#[test]
fn a_route_with_the_defaults_of_its_api_is_equal() {
    let parent = "parentRefs: [{group: '', kind: Service, name: a}]";
    let pairs = [
        ("{}", "{rules: [], hostnames: []}"),
        ("{}", "{rules: [{matches: [{path: {type: PathPrefix, value: /}}]}]}"),
        ("{parentRefs: [{name: a}]}", "{parentRefs: [{group: gateway.networking.k8s.io, kind: Gateway, name: a}]}"),
        (
            "{rules: [{backendRefs: [{name: a, port: 80}], matches: [{headers: [{name: X-A, value: b}]}]}]}",
            "{rules: [{backendRefs: [{group: '', kind: Service, name: a, port: 80, weight: 1}],
              matches: [{path: {type: PathPrefix, value: /}, headers: [{type: Exact, name: x-a, value: b}]}]}]}",
        ),
        (
            "{rules: [{sessionPersistence: {}}]}",
            "{rules: [{sessionPersistence: {type: Cookie, cookieConfig: {lifetimeType: Session}}}]}",
        ),
        (
            "{rules: [{sessionPersistence: {type: Header, sessionName: X-S}}]}",
            "{rules: [{sessionPersistence: {type: Header, sessionName: x-s}}]}",
        ),
        (
            "{rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: a}}]}]}",
            "{rules: [{filters: [{type: RequestRedirect, requestRedirect: {hostname: a, statusCode: 302}}]}]}",
        ),
    ];
    for (one, other) in pairs {
        let with_parent = |spec: &str| http_route(&spec.replacen('{', &format!("{{{parent}, "), 1).replace(", }", "}"));
        if !one.contains("parentRefs") {
            assert_eq!(with_parent(one).id(), with_parent(other).id(), "{one} and {other}");
        }
        assert_eq!(http_route(one).id(), http_route(other).id(), "{one} and {other}");
    }
}

#[test]
fn a_route_of_calls_with_the_defaults_of_its_api_is_equal() {
    let route = |rules: &str| {
        let spec = format!("{{parentRefs: [{{group: '', kind: Service, name: a}}], rules: {rules}}}");
        set(&format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: GRPCRoute\nmetadata: {{name: r}}\nspec: {spec}\n"
        ))
    };
    let pairs = [
        ("[]", "[{matches: [{headers: []}]}]"),
        (
            "[{backendRefs: [{name: a, port: 80}], matches: [{method: {service: s}, headers: [{name: X-A, value: b}]}]}]",
            "[{backendRefs: [{group: '', kind: Service, name: a, port: 80, weight: 1}],
              matches: [{method: {type: Exact, service: s}, headers: [{type: Exact, name: x-a, value: b}]}]}]",
        ),
    ];
    for (one, other) in pairs {
        assert_eq!(route(one).id(), route(other).id(), "{one} and {other}");
    }
    assert_ne!(route("[{matches: [{method: {service: s}}]}]").id(), route("[{matches: [{method: {method: s}}]}]").id());
}

#[test]
fn a_route_that_says_something_else_is_not_equal() {
    let specs = [
        "{}",
        "{parentRefs: [{name: a}]}",
        "{parentRefs: [{group: '', kind: Service, name: a}]}",
        "{parentRefs: [{group: '', kind: Service, name: a, port: 80}]}",
        "{rules: [{backendRefs: [{name: a, port: 80}]}]}",
        "{rules: [{name: n, backendRefs: [{name: a, port: 80}]}]}",
        "{rules: [{backendRefs: [{name: a, port: 80, weight: 0}]}]}",
        "{rules: [{matches: [{path: {type: Exact, value: /}}]}]}",
        "{rules: [{matches: [{path: {value: /a}}]}]}",
        "{rules: [{}, {}]}",
        "{rules: [{retry: {}}]}",
        "{rules: [{sessionPersistence: {}}]}",
        "{rules: [{sessionPersistence: {sessionName: a}}]}",
        "{rules: [{sessionPersistence: {sessionName: A}}]}",
        "{rules: [{sessionPersistence: {type: Header}}]}",
        "{rules: [{retry: {codes: [500]}}]}",
        "{rules: [{filters: [{type: CORS, cors: {}}]}]}",
        "{rules: [{filters: [{type: CORS, cors: {allowCredentials: true}}]}]}",
    ];
    let ids: std::collections::BTreeSet<_> = specs.iter().map(|spec| http_route(spec).id()).collect();
    assert_eq!(ids.len(), specs.len());
}

#[test]
fn something_else_is_not_equal() {
    let specs = [
        "{}",
        "{match: {headers: {x-a: b}}}",
        "{match: {headers: {x-a: B}}}",
        "{match: {headers: {x-a: {prefix: b}}}}",
        "{match: {cookies: {x-a: b}}}",
        "{match: [{method: GET}, {method: PUT}]}",
        "{match: [{method: PUT}, {method: GET}]}",
        "{match: {method: [GET, PUT]}}",
        "{priority: 1}",
        "{route: {destination: {host: a}}}",
        "{route: {destination: {host: a, port: 1}}}",
        "{route: {destination: {host: a, weight: 2}}}",
        "{mirror: {destination: {host: a}}}",
        "{mirror: {destination: {host: a}, percentage: 0}}",
        "{timeouts: {request: 0s}}",
        "{directResponse: {status: 200}}",
        "{rateLimit: {requests: 1}}",
        "{rateLimit: {requests: 1, burst: 2}}",
        "{fault: {abort: {httpStatus: 500}}}",
        "{fault: {abort: {httpStatus: 500, percentage: 0}}}",
        "{retry: {}}",
        "{retry: {attempts: 1}}",
        "{retry: {on: [503]}}",
        "{retry: {on: [5xx]}}",
        "{retry: {destination: same}}",
        "{retry: {destination: {host: same}}}",
    ];
    let ids: std::collections::BTreeSet<_> = specs.iter().map(|spec| rule(spec).id()).collect();
    assert_eq!(ids.len(), specs.len());
}

#[test]
fn of_the_kinds_of_a_cluster_only_what_is_used_counts() {
    let pairs = [
        (
            "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {clusterIP: 10.0.0.1, ports: [{port: 80}]}}",
            "{apiVersion: v1, kind: Service, metadata: {name: a, namespace: default, uid: x, annotations: {b: c}},
              spec: {type: ClusterIP, clusterIP: 10.0.0.1, clusterIPs: [10.0.0.1], ports: [{port: 80, protocol: TCP}],
                     selector: {x: y}}, status: {loadBalancer: {}}}",
        ),
        (
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: a}, addressType: IPv4,
              endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]}",
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [],
              metadata: {name: a, annotations: {endpoints.kubernetes.io/last-change-trigger-time: now}},
              endpoints: [{addresses: [10.0.0.2], conditions: {ready: true, serving: true}, hints: {}},
                          {addresses: [10.0.0.1]}]}",
        ),
        (
            "{apiVersion: v1, kind: Pod, metadata: {name: a}, status: {podIP: 10.0.0.1}}",
            "{apiVersion: v1, kind: Pod, metadata: {name: a, resourceVersion: '5'}, spec: {containers: [{}]},
              status: {podIPs: [{ip: 10.0.0.1}], podIP: 10.0.0.1, phase: Running, conditions: [{}]}}",
        ),
        (
            "{apiVersion: v1, kind: Namespace, metadata: {name: a}}",
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, namespace: b}, status: {phase: Active}}",
        ),
    ];
    for (one, other) in pairs {
        assert_eq!(set(one).id(), set(other).id(), "{one} and {other}");
    }
}

/// Nodes of several releases compare these: what changes one of them makes every node see a change where there is none.
#[test]
fn content_has_the_id_that_it_always_had() {
    for (text, id) in [
        (include_str!("world.yaml"), "9ee134d8d0702dd5e7223cd3aed1b0bb924b8f69afd8c21ea05646c8edce2323"),
        (
            include_str!("cases/everything-right.yaml"),
            "502d47e327f2363edc9bd41635d7ab5f7e61fdc50d4b943c155dfa7c495b0050",
        ),
        (include_str!("cases/traffic-policy.yaml"), "e791c90015d6f63683fbf34e75585dfdd2a407a5fb0d78c3951bd2214ddd9c03"),
        (include_str!("cases/filters.yaml"), "f2a2a2b65ffe3a571deb081af2cf21551b61e2c7744aeaca778fcbe6b6da0a11"),
        (include_str!("cases/retry.yaml"), "64602b215e90b6998a6da2c4f080b9f27d6443f3cdac2ebbf63d08894b1aa3c4"),
    ] {
        assert_eq!(set(text).id().to_string(), id);
    }
}

#[test]
fn layout_of_files_does_not_count() {
    let world = include_str!("world.yaml");
    let whole = set(world).id();
    let pieces: Vec<_> = world.split("\n---\n").enumerate().map(|(n, text)| file(&format!("{n}.yaml"), text)).collect();
    assert_eq!(parse(&pieces).documents.id(), whole);
    let reversed: Vec<_> = pieces.into_iter().rev().collect();
    assert_eq!(parse(&reversed).documents.id(), whole);
}

#[test]
fn what_is_kept_is_read_again() {
    for text in [
        include_str!("world.yaml"),
        include_str!("cases/everything-right.yaml"),
        include_str!("cases/retry.yaml"),
        include_str!("cases/traffic-policy.yaml"),
        include_str!("cases/filters.yaml"),
        include_str!("cases/health-check.yaml"),
    ] {
        let before = set(text);
        let kept: Vec<_> = before
            .iter()
            .map(|document| (document.name.clone(), Arc::clone(&document.canonical), document.origin.clone()))
            .collect();
        let kept = kept.iter().map(|(name, canonical, origin)| (name.clone(), &**canonical, origin.clone()));
        let after = from_canonical(kept).unwrap().documents;
        assert_eq!(after.id(), before.id());
        let said = |set: &DocumentSet| {
            let compiled = compile(set, Sequence(1), &mut StatsTable::default());
            let snapshot = compiled.snapshot.unwrap();
            let frontends: Vec<String> = snapshot.frontends().map(|frontend| format!("{frontend:?}")).collect();
            (frontends, compiled.diagnostics.len())
        };
        assert!(said(&after) == said(&before), "it does not decide the same");
        for (one, other) in before.iter().zip(after.iter()) {
            assert_eq!(one.origin, other.origin);
        }
    }
}

#[test]
fn what_is_kept_wrongly_is_refused() {
    let rule = ObjectName::new("RouteRule", "default", "r");
    let right = r#"{"apiVersion":"weir.dev/v1","kind":"RouteRule","metadata":{"name":"r","namespace":"default"}}"#;
    let cases = [
        ("{", "log:3: RouteRule default/r: not valid JSON: EOF while parsing an object at line 1 column 1"),
        (
            r#"{"apiVersion":"weir.dev/v1","kind":"RouteRule","metadata":{"name":"r"},"spec":{"newer":1}}"#,
            "log:3:1: RouteRule default/r: spec.newer: unknown field `newer`; the fields here are services, priority, \
             match, route, mirror, timeouts, retry, directResponse, rateLimit, fault",
        ),
        (
            r#"{"apiVersion":"weir.dev/v1","kind":"RouteRule","metadata":{"name":"s"}}"#,
            "log:3: RouteRule default/r: is kept under this name, but it is RouteRule default/s",
        ),
    ];
    let origin = Origin { file: Some(Path::new("log").into()), line: Some(3) };
    for (json, expected) in cases {
        let said = from_canonical([(rule.clone(), json, origin.clone())]).unwrap_err();
        let said: Vec<String> = said.iter().filter(|said| said.is_error()).map(ToString::to_string).collect();
        assert_eq!(said, [expected]);
    }
    assert_eq!(from_canonical([(rule, right, Origin::default())]).unwrap().documents.len(), 1);
}

#[test]
fn a_cache_parses_what_has_changed() {
    let text = |name: &str, time: &str| {
        format!(
            "apiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {{name: {name}}}\nspec: {{timeouts: {{request: {time}}}}}"
        )
    };
    let find = |set: &DocumentSet, name: &str| {
        Arc::clone(set.document(&ObjectName::new("RouteRule", "default", name)).unwrap())
    };
    let mut cache = ParseCache::default();
    let b = Arc::new(file("b.yaml", &text("b", "1s")));
    let first = cache.parse(&[Arc::new(file("a.yaml", &text("a", "1s"))), Arc::clone(&b)]).documents;
    let second = cache.parse(&[b, Arc::new(file("a.yaml", &text("a", "2s")))]).documents;
    assert!(Arc::ptr_eq(&find(&first, "b"), &find(&second, "b")), "what is the same is not parsed again");
    assert_ne!(find(&first, "a").canonical, find(&second, "a").canonical);
    // A file that is gone is gone, also when it comes back under another name.
    let third = cache.parse(&[Arc::new(file("c.yaml", &text("b", "1s")))]).documents;
    assert_eq!(third.len(), 1);
    assert_eq!(find(&third, "b").origin.file.as_deref(), Some(Path::new("c.yaml")));
}

#[test]
fn a_cache_notices_a_name_that_comes_to_be_there_twice() {
    let rule = |file: &str, name: &str| {
        let text = format!(
            "{{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {{name: {name}}}, spec: {{timeouts: {{request: 1s}}}}}}"
        );
        Arc::new(SourceFile::new(file, text))
    };
    let (a, b) = (rule("a.yaml", "a"), rule("b.yaml", "b"));
    // A name that was there before; and one that is new.
    for new in [vec![rule("c.yaml", "a")], vec![rule("c.yaml", "c"), rule("d.yaml", "c")]] {
        let mut cache = ParseCache::default();
        assert!(!cache.parse(&[Arc::clone(&a), Arc::clone(&b)]).has_errors());
        let files: Vec<_> = [Arc::clone(&a)].into_iter().chain(new).collect();
        let parsed = cache.parse(&files);
        assert!(parsed.diagnostics[0].message.starts_with("is also in "), "{:?}", parsed.diagnostics);
        assert_eq!(parsed.documents.id(), parse(&files).documents.id());
        assert!(!cache.parse(&[Arc::clone(&a)]).has_errors(), "and when it is gone");
    }
}

#[test]
fn references_lead_to_documents() {
    let set = set(include_str!("cases/everything-right.yaml"));
    let references = |kind: &str, name: &str| {
        let references = set.references(&ObjectName::new(kind, "cameras", name));
        references.into_iter().map(|(field, to)| format!("{field}: {to}")).collect::<Vec<_>>()
    };
    let expected = [
        "spec.services[0]: Service cameras/recognition",
        "spec.services[1]: Service cameras/recognition",
        "spec.route.destinations[0].host: Service cameras/canary",
        "spec.route.destinations[1].host: Service cameras/recognition",
        "spec.mirror[0].destination.host: Service cameras/canary",
        "spec.mirror[1].destination.host: Service cameras/canary",
    ];
    assert_eq!(references("RouteRule", "all"), expected);
    let expected = [
        "spec.services: Service cameras/canary",
        "spec.services: Service cameras/recognition",
        "spec.mirror.destination.host: Service cameras/canary",
    ];
    assert_eq!(references("RouteRule", "mirror-only"), expected);
    let expected = [
        "metadata.labels[\"kubernetes.io/service-name\"]: Service cameras/recognition",
        "endpoints[0].targetRef: Pod cameras/a",
    ];
    assert_eq!(references("EndpointSlice", "recognition-1"), expected);
    assert_eq!(references("Pod", "a"), ["metadata.namespace: Namespace cameras"]);
    assert_eq!(references("Service", "canary"), Vec::<String>::new());
    assert_eq!(references("Pod", "gone"), Vec::<String>::new());
}
