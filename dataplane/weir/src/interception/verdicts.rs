//! What the kernel looks up is what the policies say.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use weir_core::authorization::table::{Ends, Numbers, Table};
use weir_core::authorization::{self, Connection, Said};
use weir_core::revision::Sequence;
use weir_core::snapshot::Snapshot;
use weir_core::stats::StatsTable;
use weir_ebpf_common::{PolicyKey, SOURCE_ANY, TCP, Tuple, UDP, Verdict, find_policy};

use super::desired;

/// The policy map as the programs see it.
struct Map(BTreeMap<PolicyKey, weir_ebpf_common::Policy>);

impl weir_ebpf_common::Policies for Map {
    fn find(&self, key: &PolicyKey) -> Option<weir_ebpf_common::Policy> {
        self.0.get(key).copied()
    }
}

impl Map {
    fn new(table: &Table) -> Self {
        let entry = |(key, answer): (weir_kernel::Policy, weir_kernel::Answer)| {
            let (protocol, port) = match key.port {
                None => (0, 0),
                Some((weir_kernel::Protocol::Tcp, port)) => (TCP, port),
                Some((weir_kernel::Protocol::Udp, port)) => (UDP, port),
            };
            let source = key.source.unwrap_or(SOURCE_ANY);
            let key = PolicyKey { source, guard: key.guard, port: port.to_be(), protocol, zero: 0 };
            (key, weir_ebpf_common::Policy { verdict: answer.verdict, rule: answer.rule })
        };
        Self(desired::policies(table).into_iter().map(entry).collect())
    }
}

/// Three accounts with two pods each, two of them in a namespace of their own, and addresses that are nobody's.
const PODS: [(&str, &str, &str, &str); 6] = [
    ("a", "web-1", "web", "10.0.0.1"),
    ("a", "web-2", "web", "10.0.1.1"),
    ("a", "api-1", "api", "10.0.0.2"),
    ("a", "api-2", "api", "fd00::2"),
    ("b", "db-1", "db", "10.0.0.3"),
    ("b", "db-2", "db", "10.0.1.3"),
];
const STRANGERS: [&str; 4] = ["10.0.0.9", "10.0.1.9", "192.168.0.1", "fd00::9"];
const PORTS: [u16; 4] = [80, 81, 443, 9999];

/// A value of a field, or none, as YAML.
fn field(name: &'static str, values: &'static [&'static str]) -> impl Strategy<Value = String> {
    proptest::option::weighted(0.4, proptest::sample::subsequence(values, 1..=2.min(values.len())))
        .prop_map(move |some| some.map_or_else(String::new, |values| format!("{name}: ['{}'], ", values.join("', '"))))
}

fn source() -> impl Strategy<Value = String> {
    let principals = &["cluster.local/ns/a/sa/web", "cluster.local/ns/a/*", "*/sa/db", "*"];
    let blocks = &["10.0.0.0/24", "10.0.0.0/8", "10.0.0.2", "fd00::/16", "0.0.0.0/0"];
    (
        field("principals", principals),
        field("notPrincipals", principals),
        field("namespaces", &["a", "b"]),
        field("notNamespaces", &["a", "b"]),
        field("ipBlocks", blocks),
        field("notIpBlocks", blocks),
    )
        .prop_map(|(a, b, c, d, e, f)| [a, b, c, d, e, f].concat())
        .prop_filter("says something", |text| !text.is_empty())
        .prop_map(|text| format!("{{source: {{{text}}}}}"))
}

fn operation() -> impl Strategy<Value = String> {
    let ports = &["80", "81", "443"];
    (field("ports", ports), field("notPorts", ports), field("paths", &["/a*", "/b"]), field("methods", &["GET"]))
        .prop_map(|(a, b, c, d)| [a, b, c, d].concat())
        .prop_filter("says something", |text| !text.is_empty())
        .prop_map(|text| format!("{{operation: {{{text}}}}}"))
}

fn condition() -> impl Strategy<Value = String> {
    proptest::sample::select(vec![
        "{key: source.namespace, values: [a]}",
        "{key: source.ip, notValues: ['10.0.1.0/24']}",
        "{key: destination.port, values: ['80', '443']}",
        "{key: source.serviceAccount, values: [a/web]}",
        "{key: 'request.headers[x-tenant]', values: [red]}",
    ])
    .prop_map(str::to_owned)
}

fn rule() -> impl Strategy<Value = String> {
    let list = |name: &'static str, of: BoxedStrategy<String>| {
        proptest::collection::vec(of, 0..3).prop_map(move |all| match &all[..] {
            [] => String::new(),
            all => format!("{name}: [{}], ", all.join(", ")),
        })
    };
    (list("from", source().boxed()), list("to", operation().boxed()), list("when", condition().boxed()))
        .prop_map(|(a, b, c)| format!("{{{a}{b}{c}}}"))
}

fn policies() -> impl Strategy<Value = String> {
    let policy = (
        proptest::sample::select(vec!["a", "b", "weir-system"]),
        proptest::sample::select(vec!["ALLOW", "ALLOW", "DENY", "AUDIT"]),
        proptest::sample::select(vec!["{}", "{matchLabels: {app: web}}", "{matchLabels: {app: db}}"]),
        proptest::collection::vec(rule(), 0..4),
    );
    proptest::collection::vec(policy, 0..5).prop_map(|all| {
        let documents = all.iter().enumerate().map(|(number, (namespace, action, selector, rules))| {
            format!(
                "---\n{{apiVersion: weir.dev/v1, kind: AuthorizationPolicy, metadata: {{name: p{number}, \
                 namespace: {namespace}}}, spec: {{action: {action}, selector: {selector}, rules: [{}]}}}}\n",
                rules.join(", ")
            )
        });
        documents.collect()
    })
}

/// Services of HTTP at port 80 of each pod, and of something else at 443.
fn world(label: &str) -> String {
    let mut text = format!("---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: a, labels: {{{label}}}}}}}\n");
    for (namespace, name, account, ip) in PODS {
        let slice = if ip.contains(':') { "IPv6" } else { "IPv4" };
        text += &format!(
            "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {account}}}}}, \
             spec: {{serviceAccountName: {account}}}, status: {{podIPs: [{{ip: '{ip}'}}]}}}}\n\
             ---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}}}, \
             spec: {{clusterIP: None, ports: [{{name: http, port: 80}}, {{name: tcp-else, port: 443}}]}}}}\n\
             ---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, namespace: {namespace}, \
             labels: {{kubernetes.io/service-name: {name}}}}}, addressType: {slice}, \
             ports: [{{name: http, port: 80}}, {{name: tcp-else, port: 443}}], endpoints: [{{addresses: ['{ip}']}}]}}\n"
        );
    }
    text
}

fn snapshot(text: &str) -> Snapshot {
    let file = weir_config::SourceFile::new("all.yaml", text);
    let parsed = weir_config::parse(&[file]);
    let compiled = weir_config::compile(&parsed.documents, Sequence(1), &mut StatsTable::default());
    let errors: Vec<_> = parsed.diagnostics.iter().chain(&compiled.diagnostics).filter(|one| one.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}\n{text}");
    compiled.snapshot.unwrap()
}

/// What the policies say, asked one by one.
fn expected(snapshot: &Snapshot, from: IpAddr, to: IpAddr, (protocol, port): (u8, u16)) -> Verdict {
    let Some(guard) = snapshot.guard(to) else { return Verdict::Direct };
    let connection = Connection::new(from, snapshot.workload(from).map(|workload| &**workload), port);
    let may_be_http = protocol == TCP && snapshot.guarded_for_requests().any(|one| one == SocketAddr::new(to, port));
    match guard.decide(&connection, if may_be_http { Said::Nothing } else { Said::Opaque }).verdict {
        authorization::Verdict::Allow => Verdict::Direct,
        authorization::Verdict::Audit => Verdict::Audit,
        authorization::Verdict::Ask => Verdict::Proxy,
        authorization::Verdict::Deny => Verdict::Deny,
    }
}

/// Every connection between every two ends: what the kernel would find in its maps is what the policies say.
fn check(snapshot: &Snapshot, table: &Table) {
    let map = Map::new(table);
    let pods = PODS.map(|(.., ip)| ip);
    for from in pods.iter().chain(&STRANGERS) {
        for to in pods {
            let (from, to): (IpAddr, IpAddr) = (from.parse().unwrap(), to.parse().unwrap());
            for protocol in [TCP, UDP] {
                for port in PORTS {
                    let (Ends { source, .. }, Ends { guard, .. }) = (table.ends(from), table.ends(to));
                    let tuple = Tuple { dst_port: port.to_be(), protocol, ..Tuple::default() };
                    let found = find_policy(&map, source, guard, &tuple).verdict;
                    let expected = expected(snapshot, from, to, (protocol, port));
                    assert_eq!(found, expected, "{from} to {to} port {port} protocol {protocol}");
                }
            }
        }
    }
}

proptest! {
    // Each case has 480 connections.
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_says_what_policies_say(
        policies in policies(),
        next in policies_or_same(),
        label in proptest::sample::select(vec!["", "weir.dev/mesh: enabled", "weir.dev/authorization: audit", "weir.dev/authorization: 'off'"]),
    ) {
        let mut numbers = Numbers::after(7);
        let first = snapshot(&(world(label) + &policies));
        let table = numbers.table(&first, None);
        check(&first, &table);
        let Some(next) = next else { return Ok(()) };
        // While a change is staged, what guards answer of both is in the map: neither may answer for the other.
        let second = snapshot(&(world(label) + &next));
        let staged = numbers.table(&second, None);
        let mut both = table;
        both.entries.extend(staged.entries.clone());
        check(&first, &both);
        let both = Table { places: staged.places, ..both };
        check(&second, &both);
    }
}

fn policies_or_same() -> impl Strategy<Value = Option<String>> {
    proptest::option::weighted(0.3, policies())
}
