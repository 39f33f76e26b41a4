//! What `weir explain` prints, from documents to text.

use super::*;

const CLUSTER: &str = "\
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80, name: http}]}
---
apiVersion: v1
kind: Service
metadata: {name: next}
spec: {clusterIP: 10.96.0.2, ports: [{port: 80, name: http}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: next-1, labels: {kubernetes.io/service-name: next}}
addressType: IPv4
ports: [{port: 8080, name: http}]
endpoints: [{addresses: [10.42.0.7]}]
";

fn rule(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {{name: {name}}}\nspec: {{services: [web], {spec}}}\n"
    )
}

/// What is printed about `GET http://web/` with a header, after the line with the version.
fn told(rules: &str, limit: usize) -> String {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("rules.yaml"), format!("{CLUSTER}{rules}")).unwrap();
    let compiled = compile_paths(&[folder.path().to_owned()]).unwrap();
    let snapshot = compiled.snapshot.unwrap_or_else(|| panic!("{:?}", compiled.diagnostics));
    let headers = vec!["x-user: a".to_owned()];
    let described = Described { url: "http://web/".to_owned(), method: "GET".to_owned(), headers, from: None };
    let text = text(&described.explain(&snapshot).unwrap(), limit);
    let (first, rest) = text.split_once('\n').unwrap();
    assert!(first.starts_with("default/web:80  (from files, version "), "{first}");
    rest.to_owned()
}

#[test]
fn a_request_without_rules_goes_to_its_service() {
    assert_eq!(
        told("", 10),
        "  not intercepted: no rule concerns this service, its traffic stays in the kernel\n\
         rules, in order of precedence\n  none\n\
         goes to the service itself: no rule matches\n\
         \x20 -> default/web:80 (100 %): 503: no endpoint of the service is ready\n"
    );
}

#[test]
fn the_winner_its_losers_and_where_it_goes_are_told() {
    let rules = [
        rule("canary", "match: {headers: {x-user: a}}, route: {destination: {host: next}}, timeouts: {request: 2s}"),
        rule("other", "match: {headers: {x-user: b}}, route: {destination: {host: next}}"),
        rule("all", "mirror: {destination: {host: next}, percentage: 5}"),
    ];
    let text = told(&rules.concat(), 10);
    for line in [
        "  WINS  RouteRule default/canary match 0: header x-user exactly \"a\"",
        "  no    RouteRule default/other match 0: header x-user exactly \"b\"",
        "  loses RouteRule default/all match 0: ",
        "goes to, by RouteRule default/canary: there is one destination\n  -> default/next:80 (100 %): 10.42.0.7:8080",
        "timeout 2000 ms\n",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
    assert!(!text.contains("more (--all)"), "{text}");
}

#[test]
fn a_thousand_rules_are_no_flood() {
    let mut rules: Vec<String> = (0..1_000)
        .map(|number| {
            rule(
                &format!("r{number}"),
                &format!("match: {{headers: {{x-user: u{number}, y: z}}}}, timeouts: {{request: 1s}}"),
            )
        })
        .collect();
    rules.push(rule("wins", "match: {headers: {x-user: a}}, timeouts: {request: 1s}"));
    rules.push(rule("loses", "timeouts: {request: 1s}"));
    let entries = |text: &str| text.lines().filter(|line| line.contains(" match 0: ")).count();
    let text = told(&rules.concat(), 10);
    assert_eq!(entries(&text), 10, "{text}");
    for line in [
        "WINS  RouteRule default/wins",
        "loses RouteRule default/loses",
        "... and 992 more (--all): 992 do not match\n",
    ] {
        assert!(text.contains(line), "no {line:?} in:\n{text}");
    }
    let one = told(&rules.concat(), 1);
    assert!(one.contains("... and 1001 more (--all): 1 lose, 1000 do not match\n") && one.contains("WINS"), "{one}");
    assert_eq!(entries(&told(&rules.concat(), usize::MAX)), 1_002);
}

#[test]
fn shares_are_told_as_people_write_them() {
    for (share, expected) in
        [(100.0, "100"), (0.0, "0"), (33.333_333, "33.3333"), (12.5, "12.5"), (0.01, "0.01"), (20.0, "20")]
    {
        assert_eq!(percent(share), expected);
    }
}
