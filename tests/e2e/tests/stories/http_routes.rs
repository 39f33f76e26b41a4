//! `HTTPRoute`s of services: every feature of the Gateway API's data plane, by what really arrives: the path and the host
//! that an endpoint sees, and the location that a client is told, which the API's own suite does not look at.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_e2e::{Answer, CANARY, RECOGNITION, Story, Terrain, rule, until};
use weir_lab::client::{Payload, Request, send};
use weir_lab::{PodSpec, ServicePort};

/// Backends as a rule has them.
const V1: &str = "backendRefs: [{name: vehicle-recognition, port: 80}]";
const V2: &str = "backendRefs: [{name: service-canary, port: 8080}]";
const GONE: &str = "backendRefs: [{name: gone, port: 80}]";

/// A route of `vehicle-recognition` with these rules, in YAML's flow style.
fn route(name: &str, rules: &str) -> String {
    route_of(name, "default", "{group: '', kind: Service, name: vehicle-recognition}", rules)
}

fn route_of(name: &str, namespace: &str, parent: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}, namespace: \
         {namespace}}}\nspec: {{parentRefs: [{parent}], rules: {rules}}}\n"
    )
}

fn story(rules: &str) -> Story {
    Story::begin(&Terrain::standard().file("route.yaml", route("route", rules)))
}

/// curl from the client to a path of `vehicle-recognition`.
fn ask(story: &Story, path: &str, arguments: &[&str]) -> Answer {
    let url = format!("http://{}{path}", RECOGNITION[0]);
    let arguments: Vec<&str> = std::iter::once(&*url).chain(arguments.iter().copied()).collect();
    story.curl("client", &arguments)
}

/// `200 v2 GET /path` of an answer: status, who gave it, and what it was asked.
fn told(answer: &Answer) -> String {
    let body = answer.json();
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    format!("{} {} {}", answer.brief(), text("method"), text("path")).trim_end().to_owned()
}

#[test]
fn matches_and_their_precedence() {
    let prefix = |value: &str| format!("path: {{type: PathPrefix, value: {value}}}");
    let story = story(&format!(
        "[{{matches: [{{{}}}], {V1}}},
          {{matches: [{{{}}}], {V2}}},
          {{matches: [{{path: {{type: Exact, value: /a/b/exact}}}}], {V1}}},
          {{matches: [{{path: {{type: RegularExpression, value: '/r/[0-9]+'}}}}], {V2}}},
          {{matches: [{{{p}, method: POST}}], {V2}}},
          {{matches: [{{{p}, headers: [{{name: X-A, value: b}}, {{name: x-c, type: RegularExpression, value: 'd|e'}}]}},
                     {{{p}, queryParams: [{{name: q, value: 'd e'}}]}}], {V2}}},
          {{matches: [{{{p}}}], {V1}}}]",
        prefix("/a"),
        prefix("/a/b"),
        p = prefix("/m"),
    ));
    let cases: [(&str, &[&str], &str); 19] = [
        ("/a", &[], "200 v1"),
        ("/a/", &[], "200 v1"),
        ("/ab", &[], "404 no_route"),
        ("/x/a", &[], "404 no_route"),
        ("/a/b", &[], "200 v2"),
        ("/a/b/c?q=1", &[], "200 v2"),
        ("/a/b/exact", &[], "200 v1"),
        ("/a/b/exact/not", &[], "200 v2"),
        ("/r/12", &[], "200 v2"),
        ("/r/12/3", &[], "404 no_route"),
        ("/m", &[], "200 v1"),
        ("/m", &["-X", "POST"], "200 v2"),
        ("/m", &["-H", "x-a: b"], "200 v1"),
        ("/m", &["-H", "x-a: b", "-H", "X-C: e"], "200 v2"),
        ("/m", &["-H", "x-a: b", "-H", "x-c: f"], "200 v1"),
        ("/m?q=d%20e", &[], "200 v2"),
        ("/m?q=d+e&x=1", &[], "200 v2"),
        ("/m?q=d", &[], "200 v1"),
        ("/", &[], "404 no_route"),
    ];
    for (path, arguments, expected) in cases {
        assert_eq!(ask(&story, path, arguments).brief(), expected, "{path} {arguments:?}");
    }
}

#[test]
fn routes_of_one_service_have_one_order_and_the_older_comes_first() {
    let aged = |name: &str, created: &str, rules: &str| {
        route(name, rules)
            .replace("namespace: default}", &format!("namespace: default, creationTimestamp: '{created}'}}"))
    };
    let matches = |value: &str| format!("matches: [{{path: {{type: PathPrefix, value: {value}}}}}]");
    let text =
        aged("a-young", "2026-02-01T00:00:00Z", &format!("[{{{}, {V1}}}, {{{}, {V1}}}]", matches("/"), matches("/s")))
            + &aged(
                "z-old",
                "2026-01-01T00:00:00Z",
                &format!("[{{{}, {V2}}}, {{{}, {V2}}}]", matches("/"), matches("/s/long")),
            );
    let story = Story::begin(&Terrain::standard().file("routes.yaml", text));
    for (path, expected) in [("/x", "200 v2"), ("/s/x", "200 v1"), ("/s/long/x", "200 v2")] {
        assert_eq!(ask(&story, path, &[]).brief(), expected, "{path}");
    }
}

#[test]
fn what_no_rule_matches_is_404_only_where_there_are_routes() {
    let story = Story::begin(
        &Terrain::standard()
            .rule("header", "{match: {headers: {x-a: b}}, route: {destination: {host: service-canary, port: 8080}}}"),
    );
    assert_eq!(ask(&story, "/other", &[]).brief(), "200 v1");
    story.apply("route.yaml", &route("route", &format!("[{{matches: [{{path: {{value: /only}}}}], {V1}}}]")));
    let cases: [(&str, &[&str], &str); 3] =
        [("/only", &[], "200 v1"), ("/other", &[], "404 no_route"), ("/other", &["-H", "x-a: b"], "200 v2")];
    for (path, arguments, expected) in cases {
        assert_eq!(ask(&story, path, arguments).brief(), expected, "{path} {arguments:?}");
    }
    story.remove("route.yaml");
    assert_eq!(ask(&story, "/other", &[]).brief(), "200 v1");
}

#[test]
fn headers_are_changed_by_rules_and_by_backends() {
    let changes = "set: [{name: X-Set, value: new}], add: [{name: x-add, value: more}], remove: [X-Remove]";
    let story = story(&format!(
        "[{{matches: [{{path: {{value: /rule}}}}], filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{{changes}}}}}], {V1}}},
          {{matches: [{{path: {{value: /backend}}}}], backendRefs: [{{name: service-canary, port: 8080, filters: [
             {{type: RequestHeaderModifier, requestHeaderModifier: {{{changes}}}}},
             {{type: ResponseHeaderModifier, responseHeaderModifier: {{set: [{{name: x-from, value: backend}}]}}}}]}}]}},
          {{matches: [{{path: {{value: /answer}}}}], filters: [{{type: ResponseHeaderModifier, responseHeaderModifier:
             {{set: [{{name: content-type, value: text/x}}, {{name: x-new, value: '1'}}], add: [{{name: x-served-by, value: more}}], remove: [x-none]}}}}], {V1}}}]"
    ));
    for (path, from) in [("/rule", ""), ("/backend", "backend")] {
        let headers = ["-H", "x-set: old", "-H", "x-add: one", "-H", "x-remove: gone", "-H", "x-kept: yes"];
        let answer = ask(&story, path, &headers);
        let seen = &answer.json()["headers"];
        let found = ["x-set", "x-add", "x-remove", "x-kept"].map(|name| seen[name].as_str().unwrap_or("-").to_owned());
        assert_eq!(found, ["new", "one,more", "-", "yes"], "{path}: {answer:?}");
        assert_eq!(answer.header("x-from"), from, "{path}");
    }
    let answer = ask(&story, "/answer", &[]);
    let found = ["content-type", "x-new", "x-served-by"].map(|name| answer.header(name).to_owned());
    assert_eq!(found, ["text/x", "1", "v1,more"], "{answer:?}");
}

#[test]
fn redirects_say_where() {
    let mut rules = Vec::new();
    let cases: [(&str, &str, u16, &str); 11] = [
        ("hostname: example.org", "/a/0/x?q=1", 302, "http://example.org/a/0/x?q=1"),
        ("hostname: example.org, statusCode: 301", "/a/1", 301, "http://example.org/a/1"),
        ("scheme: https", "/a/2", 302, "https://HOST/a/2"),
        ("scheme: https, port: 8443", "/a/3", 302, "https://HOST:8443/a/3"),
        ("port: 8083", "/a/4", 302, "http://HOST:8083/a/4"),
        ("port: 80", "/a/5", 302, "http://HOST/a/5"),
        ("path: {type: ReplaceFullPath, replaceFullPath: /full}", "/a/6/x?q=1", 302, "http://HOST/full?q=1"),
        ("path: {type: ReplacePrefixMatch, replacePrefixMatch: /new/}", "/a/7/x", 302, "http://HOST/new/x"),
        ("path: {type: ReplacePrefixMatch, replacePrefixMatch: ''}, statusCode: 303", "/a/8", 303, "http://HOST/"),
        ("statusCode: 307, hostname: h.test", "/a/9", 307, "http://h.test/a/9"),
        ("statusCode: 308, hostname: h.test, scheme: https", "/a/10", 308, "https://h.test/a/10"),
    ];
    for (number, (redirect, ..)) in cases.iter().enumerate() {
        rules.push(format!(
            "{{matches: [{{path: {{value: /a/{number}}}}}], filters: [{{type: RequestRedirect, requestRedirect: {{{redirect}}}}}]}}"
        ));
    }
    let story = story(&format!("[{}]", rules.join(", ")));
    for (redirect, path, status, location) in cases {
        let answer = ask(&story, path, &[]);
        let location = location.replace("HOST", RECOGNITION[0]);
        assert_eq!((answer.status, answer.header("location")), (status, &*location), "{redirect}: {answer:?}");
    }
    // Also in answer to a request whose body nobody reads.
    let request = Request::new("POST", &format!("http://{}/a/1", RECOGNITION[0])).unwrap();
    for body in [Payload::Content(100_000), Payload::Chunked(100_000), Payload::None] {
        let response = send(&story.lab, "client", &request.clone().body(body)).unwrap();
        assert_eq!((response.status, response.header("location")), (301, Some("http://example.org/a/1")));
    }
    assert_eq!(story.admin.status()["routes"][0]["errors"], 0, "a redirect is no error");
}

#[test]
fn paths_and_hosts_are_rewritten() {
    let rewrite = |value: &str, rewrite: &str| {
        format!(
            "{{matches: [{{path: {{value: {value}}}}}], filters: [{{type: URLRewrite, urlRewrite: {{{rewrite}}}}}], {V1}}}"
        )
    };
    let prefix = |with: &str| format!("path: {{type: ReplacePrefixMatch, replacePrefixMatch: '{with}'}}");
    let story = story(&format!(
        "[{}, {}, {}, {}, {{matches: [{{path: {{value: /backend}}}}], backendRefs: [{{name: service-canary, port: 8080, filters:
            [{{type: URLRewrite, urlRewrite: {{hostname: only.v2, {}}}}}]}}]}}]",
        rewrite("/prefix", &prefix("/new")),
        rewrite("/strip", &prefix("/")),
        rewrite("/full", "path: {type: ReplaceFullPath, replaceFullPath: /one}"),
        rewrite("/host", "hostname: other.example"),
        prefix("/moved"),
    ));
    let host = RECOGNITION[0];
    let cases = [
        ("/prefix/a%2Fb?q=1", "/new/a%2Fb?q=1", host),
        ("/prefix", "/new", host),
        ("/strip/a", "/a", host),
        ("/strip", "/", host),
        ("/strip/", "/", host),
        ("/full/a?q=1", "/one?q=1", host),
        ("/host/a", "/host/a", "other.example"),
        ("/backend/a", "/moved/a", "only.v2"),
    ];
    for (path, expected, host) in cases {
        let answer = ask(&story, path, &[]);
        let seen = answer.json();
        assert_eq!((&seen["path"], &seen["headers"]["host"]), (&json!(expected), &json!(host)), "{path}: {answer:?}");
    }
}

/// Paths of the copies that a pod got, in order.
fn copies(story: &Story, pod: &str) -> Vec<String> {
    let seen = story.seen(pod);
    let copies = seen.iter().filter(|one| one["headers"]["x-weir-mirror"].is_string());
    copies.map(|one| one["path"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn several_mirrors_each_with_its_share() {
    let mirror = |name: &str, port: u16, rest: &str| {
        format!("{{type: RequestMirror, requestMirror: {{backendRef: {{name: {name}, port: {port}}}{rest}}}}}")
    };
    let story = story(&format!(
        "[{{matches: [{{path: {{value: /both}}}}], filters: [{}, {},
             {{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{{name: x-all, value: 'yes'}}]}}}},
             {{type: URLRewrite, urlRewrite: {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /seen}}}}}}],
             backendRefs: [{{name: vehicle-recognition, port: 80, filters: [{{type: RequestHeaderModifier,
                requestHeaderModifier: {{set: [{{name: x-own, value: 'yes'}}]}}}}]}}]}},
          {{matches: [{{path: {{value: /share}}}}], filters: [{}, {}], {V1}}}]",
        mirror("service-canary", 8080, ""),
        mirror("shadow", 80, ", percent: 100"),
        mirror("service-canary", 8080, ", percent: 20"),
        mirror("shadow", 80, ", fraction: {numerator: 1, denominator: 2}"),
    ));
    let answer = ask(&story, "/both/x?q=1", &["--data", "a picture"]);
    assert_eq!(told(&answer), "200 v1 POST /seen/x?q=1");
    assert_eq!(answer.json()["headers"]["x-own"], "yes");
    for pod in ["v2", "shadow"] {
        let copy = until("the copy", || story.seen(pod).first().cloned().ok_or("none yet"));
        let found = ["path", "method", "body_bytes"].map(|field| copy[field].clone());
        assert_eq!(found, [json!("/seen/x?q=1"), json!("POST"), json!(9)], "{pod}");
        // What a rule says holds for copies, what a backend says does not.
        assert_eq!((&copy["headers"]["x-all"], &copy["headers"]["x-own"]), (&json!("yes"), &Value::Null), "{pod}");
        story.forget(pod);
    }
    let url = format!("http://{}/share/[1-500]", RECOGNITION[0]);
    assert_eq!(story.curl("client", &["--max-time", "30", &url]).exit, 0);
    let total = |pod: &str| {
        let rows = story.admin.status()["mirrors"].as_array().cloned().unwrap_or_default();
        let row = rows.into_iter().find(|row| row["destination"].as_str().is_some_and(|to| to.contains(pod)));
        row.map_or(0, |row| row["sent"].as_u64().unwrap_or_default())
    };
    // Three and a half sigma of a binomial distribution are 31 of 100 and 39 of 250.
    for (pod, service, expected, bound) in [("v2", "service-canary", 101, 32), ("shadow", "shadow", 251, 40)] {
        let count = until("the copies end", || {
            let (sent, got) = (total(service), story.counted(pod)["mirrored"].as_u64().unwrap_or_default());
            if sent > 1 && sent == got + 1 { Ok(sent) } else { Err(format!("{sent} sent, {got} arrived")) }
        });
        assert!(count.abs_diff(expected) <= bound, "{pod}: {count} copies of 501 requests");
    }
    assert!(copies(&story, "v2").iter().all(|path| path.starts_with("/share/")));
}

#[test]
fn timeouts_of_requests_and_of_tries() {
    let timeouts = |value: &str, timeouts: &str| {
        format!(
            "{{matches: [{{path: {{value: {value}}}}}], filters: [{{type: URLRewrite, urlRewrite: {{path:
            {{type: ReplacePrefixMatch, replacePrefixMatch: /delay}}}}}}], timeouts: {{{timeouts}}}, {V1}}}"
        )
    };
    let story = story(&format!(
        "[{}, {}, {}]",
        timeouts("/request", "request: 500ms"),
        timeouts("/try", "backendRequest: 500ms, request: 20s"),
        timeouts("/none", "request: 0s"),
    ));
    for (path, expected) in [
        ("/request/3s", "504 request_timeout"),
        ("/try/3s", "504 per_try_timeout"),
        ("/none/1s", "200 v1"),
        ("/request/1ms", "200 v1"),
    ] {
        let begun = Instant::now();
        assert_eq!(ask(&story, path, &[]).brief(), expected, "{path}");
        assert!(begun.elapsed() < Duration::from_secs(3) || expected.starts_with("200"), "{path}: answered in time");
    }
}

#[test]
fn cors_is_answered_and_told() {
    let cors = |value: &str, cors: &str| {
        format!("{{matches: [{{path: {{value: {value}}}}}], filters: [{{type: CORS, cors: {{{cors}}}}}], {V1}}}")
    };
    let story = story(&format!(
        "[{}, {}, {}]",
        cors(
            "/some",
            "allowOrigins: ['https://a.test', 'https://*.b.test'], allowMethods: [GET, PUT], allowHeaders: [x-one, x-two],
             exposeHeaders: [x-served-by], allowCredentials: true, maxAge: 60",
        ),
        cors("/any", "allowOrigins: ['*'], allowMethods: ['*']"),
        cors("/gone", "allowOrigins: ['https://a.test'], exposeHeaders: ['*'], allowCredentials: true").replace(V1, GONE),
    ));
    let preflight = |path: &str, origin: &str| {
        let (origin, method) = (format!("origin: {origin}"), "access-control-request-method: PUT");
        ask(
            &story,
            path,
            &["-X", "OPTIONS", "-H", &origin, "-H", method, "-H", "access-control-request-headers: x-one"],
        )
    };
    let names = ["origin", "methods", "headers", "credentials"].map(|name| format!("access-control-allow-{name}"));
    let shown = |answer: &Answer| {
        let values: Vec<String> = names.iter().map(|name| answer.header(name).to_owned()).collect();
        format!("{} {}", answer.status, values.join("|"))
    };
    for (path, origin, expected) in [
        ("/some", "https://a.test", "204 https://a.test|GET, PUT|x-one, x-two|true"),
        ("/some", "https://sub.b.test", "204 https://sub.b.test|GET, PUT|x-one, x-two|true"),
        ("/some", "https://b.test", "204 |||"),
        ("/some", "http://a.test", "204 |||"),
        ("/any", "https://any.test", "204 *|*||"),
    ] {
        let answer = preflight(path, origin);
        assert_eq!(shown(&answer), expected, "{path} {origin}: {answer:?}");
    }
    assert!(story.seen("v1").is_empty(), "no preflight reached an endpoint");
    assert_eq!(preflight("/some", "https://a.test").header("access-control-max-age"), "60");
    let answer = ask(&story, "/some", &["-H", "origin: https://a.test"]);
    assert_eq!(
        (shown(&answer), answer.header("access-control-expose-headers")),
        ("200 https://a.test|||true".into(), "x-served-by")
    );
    assert_eq!(answer.header("vary"), "Origin");
    assert_eq!(shown(&ask(&story, "/some", &["-H", "origin: https://c.test"])), "200 |||");
    assert_eq!(shown(&ask(&story, "/any", &["-H", "origin: https://c.test"])), "200 *|||");
    // Scripts may read also what Weir answers itself.
    let answer = ask(&story, "/gone", &["-H", "origin: https://a.test"]);
    assert_eq!(shown(&answer), "500 https://a.test|||true");
    assert!(answer.header("access-control-expose-headers").contains("x-weir-cause"), "{answer:?}");
    // Without the method that is meant, OPTIONS is a request like any other.
    assert_eq!(told(&ask(&story, "/some", &["-X", "OPTIONS", "-H", "origin: https://a.test"])), "200 v1 OPTIONS /some");
}

#[test]
fn weights_and_backends_that_are_not_there() {
    let backends =
        |value: &str, backends: &str| format!("{{matches: [{{path: {{value: {value}}}}}], backendRefs: [{backends}]}}");
    let story = story(&format!(
        "[{}, {}, {}, {}, {}]",
        backends(
            "/split",
            "{name: vehicle-recognition, port: 80, weight: 70}, {name: service-canary, port: 8080, weight: 30},
             {name: gone, port: 80, weight: 0}",
        ),
        backends("/none", ""),
        backends("/zero", "{name: service-canary, port: 8080, weight: 0}"),
        backends("/gone", "{name: gone, port: 80}"),
        backends("/kind", "{group: example.com, kind: Bucket, name: b}"),
    ));
    let url = format!("http://{}/split?[1-500]", RECOGNITION[0]);
    assert_eq!(story.curl("client", &["--max-time", "30", "-f", &url]).exit, 0, "no request failed");
    let counts = ["v1", "v2"].map(|pod| story.counted(pod)["total"].as_u64().unwrap_or_default());
    assert_eq!(counts[0] + counts[1], 500, "{counts:?}");
    // Five sigma of a binomial distribution.
    assert!(counts[1].abs_diff(150) <= 51, "{counts:?}");
    for (path, expected) in [
        ("/none", "500 no_destination"),
        ("/zero", "500 no_destination"),
        ("/gone", "500 unresolved"),
        ("/kind", "500 unresolved"),
    ] {
        assert_eq!(ask(&story, path, &[]).brief(), expected, "{path}");
    }
    let told = "of HTTPRoute default/route rules[4] does not resolve: it is not a Service";
    assert!(ask(&story, "/kind", &[]).body.contains(told));
}

#[test]
fn a_parent_port_limits_the_route_to_it() {
    let mut terrain = Terrain::standard();
    let ports = ["a", "b", "c"].into_iter().zip([80, 81, 82]);
    let ports: Vec<ServicePort> =
        ports.map(|(name, port)| ServicePort { name: name.to_owned(), ..ServicePort::http(port, 8080) }).collect();
    terrain.services[0] = weir_lab::ServiceSpec { ports, ..terrain.services[0].clone() };
    let parent = "{group: '', kind: Service, name: vehicle-recognition, port: 81},
                  {group: '', kind: Service, name: vehicle-recognition, sectionName: c}";
    let story = Story::begin(&terrain.file("route.yaml", route_of("route", "default", parent, &format!("[{{{V2}}}]"))));
    for (port, expected) in [(80, "200 v1"), (81, "200 v2"), (82, "200 v2")] {
        let url = format!("http://{}:{port}/", RECOGNITION[0]);
        assert_eq!(story.get("client", &url, &[]), expected, "{port}");
    }
}

#[test]
fn a_consumer_route_is_for_callers_of_its_namespace_alone() {
    let mut terrain = Terrain::standard();
    terrain.spec.pods.push(PodSpec::new("consumer").namespace("team"));
    let producer =
        route("producer", "[{matches: [{path: {value: /p}}], backendRefs: [{name: vehicle-recognition, port: 80}]}]");
    let parent = "{group: '', kind: Service, name: vehicle-recognition, namespace: default}";
    let consumer = route_of(
        "consumer",
        "team",
        parent,
        "[{matches: [{path: {value: /c}}], backendRefs: [{name: service-canary, namespace: default, port: 8080}]}]",
    );
    let story = Story::begin(&terrain.file("consumer.yaml", consumer));
    let check = |cases: [(&str, &str, &str); 4]| {
        for (from, path, expected) in cases {
            let url = format!("http://{}{path}", RECOGNITION[0]);
            assert_eq!(story.get(from, &url, &[]), expected, "{from} {path}");
        }
    };
    check([
        ("consumer", "/c", "200 v2"),
        ("consumer", "/other", "404 no_route"),
        ("client", "/c", "200 v1"),
        ("client", "/other", "200 v1"),
    ]);
    story.apply("producer.yaml", &producer);
    check([
        ("consumer", "/c", "200 v2"),
        ("consumer", "/p", "404 no_route"),
        ("client", "/c", "404 no_route"),
        ("client", "/p", "200 v1"),
    ]);
}

#[test]
fn the_address_decides_and_not_the_name_that_a_client_says() {
    let story = story(&format!("[{{{V2}}}]"));
    for host in ["vehicle-recognition", "shadow.default", "anything.example"] {
        let answer = ask(&story, "/", &["-H", &format!("host: {host}")]);
        assert_eq!((answer.brief(), answer.json()["headers"]["host"].clone()), ("200 v2".to_owned(), json!(host)));
    }
    // A pod's own address is no service.
    let pod = format!("http://{}:8080/", story.lab.pod("v1").unwrap().ip4());
    assert_eq!(story.get("client", &pod, &["host: vehicle-recognition"]), "200 v1");
    assert_eq!(story.get("client", &format!("http://{}:8080/", CANARY[0]), &[]), "200 v2");
}

#[test]
fn rules_have_names_and_are_explained() {
    let mut text = route(
        "web",
        &format!(
            "[{{name: to-canary, matches: [{{path: {{value: /canary}}}}], {V2}}},
              {{matches: [{{path: {{value: /old}}}}], filters: [{{type: RequestRedirect, requestRedirect:
                 {{path: {{type: ReplacePrefixMatch, replacePrefixMatch: /new}}}}}}]}}]"
        ),
    );
    text += &rule("tagged", "{services: [vehicle-recognition], match: {headers: {x-tag: b}}}");
    let story = Story::begin(&Terrain::standard().file("web.yaml", text));
    assert_eq!(ask(&story, "/canary", &[]).brief(), "200 v2");
    for (path, rule, answer) in [
        ("/canary", json!("HTTPRoute default/web rule to-canary"), Value::Null),
        ("/old/a", json!("HTTPRoute default/web rules[1]"), json!("302: a redirect")),
        ("/other", Value::Null, json!("404: the service has routes, and none of them matches")),
    ] {
        let explained = story.explain("client", &format!("http://vehicle-recognition{path}"), &[]);
        assert_eq!((&explained["rule"], &explained["answer"]), (&rule, &answer), "{path}: {explained:#}");
    }
    let told = story.explain("client", "http://vehicle-recognition/old/a", &[]);
    assert_eq!(told["filters"], json!(["redirect: answers 302, path its prefix becomes \"/new\""]));
}

#[test]
fn routes_in_force_change_like_rules_do() {
    let story = story(&format!("[{{{V1}}}]"));
    assert_eq!(ask(&story, "/", &[]).brief(), "200 v1");
    let change = story.apply("route.yaml", &route("route", &format!("[{{{V2}}}]")));
    assert_eq!(ask(&story, "/", &[]).brief(), "200 v2");
    assert!(change.to_string().contains("spec.rules[0].backendRefs"), "{change}");
    // One that is wrong changes nothing.
    let before = story.admin.sequence();
    story.write("route.yaml", &route("route", "[{backendRefs: [{name: vehicle-recognition}]}]"));
    let rejected = until("the rejection", || {
        let status = story.admin.status();
        if status["rejected"].is_null() { Err("not yet".to_owned()) } else { Ok(status["rejected"].to_string()) }
    });
    assert!(rejected.contains("spec.rules[0].backendRefs[0].port"), "{rejected}");
    assert_eq!((story.admin.sequence(), ask(&story, "/", &[]).brief()), (before, "200 v2".to_owned()));
    story.remove("route.yaml");
    assert_eq!(ask(&story, "/", &[]).brief(), "200 v1");
}
