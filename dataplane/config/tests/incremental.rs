//! What is known from before changes nothing but the cost: a set of documents that came about step by step, parsed and
//! compiled with a cache, is what it would be at once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;
use weir_config::{Compiler, Diagnostic, ParseCache, SourceFile, compile, parse};
use weir_core::revision::Sequence;
use weir_core::route::RouteTable;
use weir_core::snapshot::Snapshot;
use weir_core::stats::StatsTable;

/// Each: a file, and what can be in it.
const FILES: [(&str, &[&str]); 24] = [
    (
        "namespace.yaml",
        &[
            "{apiVersion: v1, kind: Namespace, metadata: {name: a}}",
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {weir.dev/mesh: disabled}}}",
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {weir.dev/mesh: enabled}}}",
            "{apiVersion: v1, kind: Namespace, metadata: {name: a, labels: {weir.dev/authorization: audit}}}",
        ],
    ),
    (
        "mtls.yaml",
        &[
            "{apiVersion: weir.dev/v1, kind: PeerAuthentication, metadata: {name: p, namespace: a}, spec: {mtls: {mode: PERMISSIVE}}}",
            "{apiVersion: weir.dev/v1, kind: PeerAuthentication, metadata: {name: p, namespace: a}, spec: {selector: {matchLabels: {app: web}}, portLevelMtls: {'80': {mode: DISABLE}}}}",
            "{apiVersion: weir.dev/v1, kind: PeerAuthentication, metadata: {name: p, namespace: weir-system}, spec: {mtls: {mode: DISABLE}}}",
        ],
    ),
    (
        "policy.yaml",
        &[
            "{apiVersion: weir.dev/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: a}, spec: {rules: [{from: [{source: {namespaces: [b]}}]}]}}",
            "{apiVersion: weir.dev/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: a}, spec: {action: DENY, rules: [{to: [{operation: {paths: [/a]}}]}, {}]}}",
            "{apiVersion: weir.dev/v1, kind: AuthorizationPolicy, metadata: {name: p, namespace: weir-system}, spec: {rules: [{}]}}",
        ],
    ),
    (
        "web.yaml",
        &[
            "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: a}, spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}}",
            "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: a}, spec: {clusterIP: 10.96.0.9, ports: [{name: http, port: 80}, {name: http-more, port: 81}]}}",
            "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: a}, spec: {clusterIP: None, ports: [{name: http, port: 80}]}}",
            "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: a}, spec: {type: ExternalName, externalName: x.example}}",
        ],
    ),
    (
        "canary.yaml",
        &[
            "{apiVersion: v1, kind: Service, metadata: {name: canary, namespace: a}, spec: {clusterIP: 10.96.0.2, ports: [{name: http, port: 80}]}}",
            "{apiVersion: v1, kind: Service, metadata: {name: canary, namespace: a}, spec: {clusterIP: 10.96.0.2, ports: [{name: h2c, port: 80, appProtocol: kubernetes.io/h2c}]}}",
            "{apiVersion: v1, kind: Service, metadata: {name: canary, namespace: a}, spec: {clusterIP: 10.96.0.1, ports: [{name: http, port: 80}]}}",
        ],
    ),
    (
        "other.yaml",
        &[
            "{apiVersion: v1, kind: Service, metadata: {name: other, namespace: b}, spec: {clusterIP: 10.96.0.3, ports: [{name: http, port: 80}]}}",
        ],
    ),
    (
        "web-slice.yaml",
        &[
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web, namespace: a, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: web-1}}]}",
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web, namespace: a, labels: {kubernetes.io/service-name: web}}, addressType: IPv4, ports: [{name: http, port: 8080}, {name: http-more, port: 8081}], endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]}",
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web, namespace: a, labels: {kubernetes.io/service-name: canary}}, addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [{addresses: [10.0.0.5]}]}",
        ],
    ),
    (
        "canary-slice.yaml",
        &[
            "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: canary, namespace: a, labels: {kubernetes.io/service-name: canary}}, addressType: IPv4, ports: [{name: http, port: 8080}, {name: h2c, port: 8080}], endpoints: [{addresses: [10.0.0.3]}]}",
        ],
    ),
    (
        "pod.yaml",
        &[
            "{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: a, labels: {app: web, version: v1}}, status: {podIPs: [{ip: 10.0.0.1}]}}",
            "{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: a, labels: {app: web, version: v2}}, status: {podIPs: [{ip: 10.0.0.1}]}}",
            "{apiVersion: v1, kind: Pod, metadata: {name: web-1, namespace: a, labels: {app: web, version: v2}, annotations: {weir.dev/weight: '7'}}, status: {podIPs: [{ip: 10.0.0.1}]}}",
            "{apiVersion: v1, kind: Pod, metadata: {name: web-2, namespace: a, labels: {app: web}}, status: {podIPs: [{ip: 10.0.0.2}]}}",
        ],
    ),
    (
        "policy.yaml",
        &[
            "{apiVersion: weir.dev/v1, kind: BackendTrafficPolicy, metadata: {name: p, namespace: a}, spec: {targetRefs: [{kind: Service, name: web}], loadBalancer: {type: RoundRobin}}}",
            "{apiVersion: weir.dev/v1, kind: BackendTrafficPolicy, metadata: {name: p, namespace: a}, spec: {targetRefs: [{kind: Service, name: canary}], loadBalancer: {type: Random}}}",
        ],
    ),
    (
        "policy-2.yaml",
        &[
            "{apiVersion: weir.dev/v1, kind: BackendTrafficPolicy, metadata: {name: q, namespace: a}, spec: {targetRefs: [{kind: Service, name: canary}], loadBalancer: {type: LeastRequest}}}",
        ],
    ),
    (
        "rule-1.yaml",
        &[
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: one, namespace: a}, spec: {services: [web], match: {headers: {x-user: one}}, route: {destination: {host: canary}}}}",
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: one, namespace: a}, spec: {services: [web], match: {headers: {x-user: one}}, route: {destination: {host: other.b, port: 80}}}}",
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: one, namespace: a}, spec: {services: [web, canary], priority: 7, match: [{path: {prefix: /x}}, {method: PUT}], route: {destinations: [{host: web, weight: 1}, {host: canary, weight: 2}]}}}",
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: one, namespace: a}, spec: {services: [gone]}}",
        ],
    ),
    (
        "rule-2.yaml",
        &[
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: two, namespace: a}, spec: {mirror: {destination: {host: canary}}}}",
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: two, namespace: a}, spec: {timeouts: {request: 3s}, retry: {attempts: 1, destination: {host: web}}}}",
        ],
    ),
    (
        "rule-3.yaml",
        &[
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: three, namespace: b}, spec: {route: {destination: {host: web.a, port: 80}}}}",
        ],
    ),
    (
        "many.yaml",
        &[concat!(
            "{apiVersion: v1, kind: List, items: [",
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: m1, namespace: a}, spec: {services: [web], match: {headers: {x-user: m1}}, route: {destination: {host: canary}}}},",
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: m2, namespace: a}, spec: {services: [web], match: {headers: {x-user: m2}}, route: {destination: {host: canary}}}},",
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: m3, namespace: a}, spec: {services: [web], match: {headers: {x-user: m3}}, route: {destination: {host: web}}}},",
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: m4, namespace: a}, spec: {services: [web], match: {path: /m4}, route: {destination: {host: none}}}},",
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: m5, namespace: a}, spec: {services: [web], match: {path: /m5}}},",
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: m6, namespace: a}, spec: {services: [web], match: {path: {prefix: /m6}}}}]}",
        )],
    ),
    (
        "route.yaml",
        &[
            "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: a}, spec: {parentRefs: [{group: '', kind: Service, name: web, port: 80}], rules: [{backendRefs: [{name: canary, port: 80}]}]}}",
            "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: a}, spec: {parentRefs: [{group: '', kind: Service, name: web}, {group: '', kind: Service, name: other, namespace: b}], rules: [{matches: [{path: {value: /r}}], backendRefs: [{name: web, port: 80}]}, {}]}}",
            "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: a}, spec: {parentRefs: [{group: '', kind: Service, name: web}, {name: edge}], rules: [{matches: [{path: {value: /r}}], filters: [{type: ExtensionRef, extensionRef: {group: weir.dev, kind: Plugin, name: q}}], backendRefs: [{name: web, port: 80}]}, {}]}}",
        ],
    ),
    (
        "plugin-1.yaml",
        &[
            "{apiVersion: weir.dev/v1, kind: Plugin, metadata: {name: p, namespace: a}, spec: {module: {file: p.wasm}}}",
            "{apiVersion: weir.dev/v1, kind: Plugin, metadata: {name: p, namespace: a}, spec: {module: {file: p.wasm}, services: [web], phase: authn}}",
            "{apiVersion: weir.dev/v1, kind: Plugin, metadata: {name: p, namespace: a}, spec: {module: {file: p.wasm}, rules: [one, {name: m1}, {name: r, kind: HTTPRoute}], gateways: [edge]}}",
            "{apiVersion: weir.dev/v1, kind: Plugin, metadata: {name: p, namespace: a}, spec: {module: {file: p.wasm}, services: [web, canary], protocol: tcp}}",
        ],
    ),
    (
        "plugin-2.yaml",
        &[
            "{apiVersion: weir.dev/v1, kind: Plugin, metadata: {name: q, namespace: a}, spec: {module: {file: q.wasm}, order: -1}}",
            "{apiVersion: weir.dev/v1, kind: Plugin, metadata: {name: q, namespace: a}, spec: {module: {file: q.wasm}, order: 1, rules: [two, g], services: [web], gateways: [edge]}}",
        ],
    ),
    (
        "consumer.yaml",
        &[
            "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: c, namespace: b}, spec: {parentRefs: [{group: '', kind: Service, name: web, namespace: a}], rules: [{backendRefs: [{name: other, port: 80}]}]}}",
        ],
    ),
    (
        "gateway.yaml",
        &[
            "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: a}, spec: {gatewayClassName: weir, listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]}}",
            "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: a}, spec: {gatewayClassName: weir, listeners: [{name: http, port: 80, protocol: HTTP, hostname: '*.example.com'}, {name: more, port: 81, protocol: HTTP, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {weir.dev/mesh: disabled}}}}}]}}",
            "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: edge, namespace: a}, spec: {gatewayClassName: other, listeners: [{name: http, port: 80, protocol: HTTP}]}}",
        ],
    ),
    (
        "gateway-2.yaml",
        &[
            "{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: other, namespace: b}, spec: {gatewayClassName: weir, listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]}}",
        ],
    ),
    (
        "edge-route.yaml",
        &[
            "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: e, namespace: a}, spec: {parentRefs: [{name: edge}, {name: other, namespace: b}], hostnames: [x.example.com, '*.example.com'], rules: [{backendRefs: [{name: web, port: 80}]}]}}",
            "{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: e, namespace: a}, spec: {parentRefs: [{name: edge, sectionName: more}, {group: '', kind: Service, name: web}], rules: [{backendRefs: [{name: canary, port: 80}, {name: other, namespace: b, port: 80}]}]}}",
        ],
    ),
    (
        "grant.yaml",
        &[
            "{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {name: g, namespace: b}, spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: a}], to: [{group: '', kind: Service}]}}",
        ],
    ),
    (
        "wrong.yaml",
        &[
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: wrong, namespace: a}, spec: {priority: high}}",
            // The same name as that of another file.
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: two, namespace: a}, spec: {services: [web]}}",
            "{apiVersion: weir.dev/v1, kind: RouteRule, metadata: {name: wrong, namespace: a}, spec: {services: [none]}}",
        ],
    ),
];

/// Everything that decides about requests, as text.
fn described(snapshot: &Snapshot) -> String {
    let table = |table: &RouteTable| format!("{:?} {:#?}", table.unmatched(), table.entries());
    let mut text = format!("{}\n", snapshot.revision);
    for frontend in snapshot.frontends() {
        let consumers: BTreeMap<_, _> = frontend.consumers.iter().map(|(name, one)| (name, table(one))).collect();
        let (name, addresses, routes) = (&frontend.name, &frontend.addresses, table(&frontend.routes));
        let _ = writeln!(text, "{name} {addresses:?} {:?} {routes}", frontend.protocol);
        let _ = writeln!(text, "{consumers:?} {:?}", frontend.service);
    }
    for port in snapshot.gateway_ports() {
        let mut listeners: Vec<_> = port.listeners.values().collect();
        listeners.sort_by_key(|listener| (&listener.gateway, &listener.name));
        for listener in listeners {
            let mut tables: Vec<_> = listener.frontends.values().map(|frontend| table(&frontend.routes)).collect();
            tables.sort();
            let _ = writeln!(text, "{} {} {} {tables:#?}", port.bind, listener.gateway, listener.name);
        }
    }
    let workloads: BTreeMap<_, _> = snapshot.workloads().collect();
    let _ = writeln!(text, "{workloads:?}");
    text
}

fn lines(diagnostics: &[Diagnostic]) -> Vec<String> {
    diagnostics.iter().map(ToString::to_string).collect()
}

/// What becomes of a file: another content (of those that it can have), or it goes.
fn step() -> impl Strategy<Value = (usize, Option<usize>)> {
    (0..FILES.len(), prop::option::weighted(0.8, 0..4_usize))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn step_by_step_is_as_at_once(steps in prop::collection::vec(prop::collection::vec(step(), 1..4), 1..24)) {
        let (mut cache, mut compiler, mut stats) =
            (ParseCache::default(), Compiler::default(), StatsTable::default());
        let mut files: BTreeMap<usize, Arc<SourceFile>> = BTreeMap::new();
        for changes in steps {
            for (file, content) in changes {
                let (path, contents) = FILES[file];
                match content {
                    Some(content) => {
                        let text = contents[content % contents.len()].to_owned();
                        files.insert(file, Arc::new(SourceFile::new(path, text)));
                    }
                    None => drop(files.remove(&file)),
                }
            }
            let all: Vec<_> = files.values().cloned().collect();
            let parsed = cache.parse(&all);
            let at_once = parse(&all);
            prop_assert_eq!(parsed.documents.id(), at_once.documents.id());
            prop_assert_eq!((parsed.found, lines(&parsed.diagnostics)), (at_once.found, lines(&at_once.diagnostics)));

            let compiled = compiler.compile(&parsed.documents, Sequence(1), &mut stats);
            let at_once = compile(&at_once.documents, Sequence(1), &mut stats);
            prop_assert_eq!(lines(&compiled.diagnostics), lines(&at_once.diagnostics));
            prop_assert_eq!(compiled.snapshot.as_ref().map(described), at_once.snapshot.as_ref().map(described));
        }
    }
}
