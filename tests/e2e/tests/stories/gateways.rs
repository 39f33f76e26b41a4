//! Gateways: clients on another machine reach services by the node's own address, as `Gateway`s and their routes say.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use weir_e2e::{Answer, Load, Story, Terrain, brief, until};
use weir_lab::client::Request;

const V1: &str = "backendRefs: [{name: vehicle-recognition, port: 80}]";
const V2: &str = "backendRefs: [{name: service-canary, port: 8080}]";
const LIMIT: Duration = Duration::from_secs(20);

fn gateway(listeners: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: edge}}\n\
         spec: {{gatewayClassName: weir, listeners: {listeners}}}\n"
    )
}

fn route(name: &str, hostnames: &str, rules: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\n\
         spec: {{parentRefs: [{{name: edge}}], hostnames: {hostnames}, rules: {rules}}}\n"
    )
}

fn story(listeners: &str, routes: &str) -> Story {
    begin(&terrain(listeners, routes))
}

fn terrain(listeners: &str, routes: &str) -> Terrain {
    let mut terrain = Terrain::standard().file("gateway.yaml", gateway(listeners)).file("routes.yaml", routes);
    terrain.spec.remote = true;
    terrain
}

fn begin(terrain: &Terrain) -> Story {
    let story = Story::begin(terrain);
    // Listeners follow the configuration a moment later.
    until("the gateways", || {
        let told = told(&story);
        let is_open = !told.is_empty() && told.iter().all(|(_, what)| what.contains("default/edge"));
        if is_open { Ok(()) } else { Err(format!("{told:?}")) }
    });
    story
}

/// The node's addresses, as another machine knows them.
fn addresses(story: &Story) -> Vec<IpAddr> {
    story.lab.uplink.clone()
}

/// curl from the other machine to the node, with this host.
fn ask(story: &Story, port: u16, host: &str, path: &str, arguments: &[&str]) -> Answer {
    let url = format!("http://{}{path}", SocketAddr::new(addresses(story)[0], port));
    let host = format!("Host: {host}");
    let arguments: Vec<&str> = [&*url, "-H", &*host].into_iter().chain(arguments.iter().copied()).collect();
    story.curl("remote", &arguments)
}

#[test]
fn hosts_lead_to_routes_and_what_arrives_is_what_they_say() {
    let routes = route("any", "[]", &format!("[{{matches: [{{path: {{value: /any}}}}], {V1}}}]"))
        + &route(
            "shop",
            "[shop.example.com, '*.shop.example.com']",
            &format!(
                "[{{matches: [{{path: {{value: /old}}}}],
                    filters: [{{type: URLRewrite, urlRewrite: {{hostname: inner, path: {{type: ReplacePrefixMatch,
                               replacePrefixMatch: /new}}}}}}], {V1}}},
                  {{matches: [{{path: {{value: /moved}}}}],
                    filters: [{{type: RequestRedirect, requestRedirect: {{path: {{type: ReplaceFullPath,
                               replaceFullPath: /here}}}}}}]}},
                  {{matches: [{{headers: [{{name: x-user-tag, value: tester}}]}}], {V2}}},
                  {{filters: [{{type: RequestMirror, requestMirror: {{backendRef: {{name: shadow, port: 80}}}}}}], {V1}}}]"
            ),
        );
    let story = story("[{name: http, port: 8080, protocol: HTTP}]", &routes);
    let cases: [(&str, &str, &[&str], &str); 9] = [
        ("shop.example.com", "/", &[], "200 v1"),
        ("SHOP.example.com:8080", "/", &["-H", "x-user-tag: tester"], "200 v2"),
        ("eu.shop.example.com", "/", &["-H", "x-user-tag: tester"], "200 v2"),
        ("other.example.com", "/", &[], "404 no_route"),
        ("other.example.com", "/any", &[], "200 v1"),
        ("shop.example.com", "/any", &["-H", "x-user-tag: tester"], "200 v2"),
        ("shop.example.com", "/", &["--http2-prior-knowledge", "-H", "x-user-tag: tester"], "200 v2"),
        ("", "/any", &[], "200 v1"),
        ("", "/", &[], "404 no_route"),
    ];
    for (host, path, arguments, expected) in cases {
        assert_eq!(ask(&story, 8080, host, path, arguments).brief(), expected, "{host} {path} {arguments:?}");
    }
    // What arrives: path and host as rewritten, and of the client what the node knows, not what it says.
    let arrived = ask(&story, 8080, "shop.example.com", "/old/a?q=1", &["-H", "x-forwarded-for: 10.0.0.1"]).json();
    let remote = story.lab.remote().unwrap().ip4.to_string();
    let header = |name: &str| arrived["headers"][name].clone();
    assert_eq!((&arrived["path"], header("host")), (&json!("/new/a?q=1"), json!("inner")), "{arrived}");
    assert_eq!((header("x-forwarded-for"), header("x-forwarded-proto")), (json!(remote), json!("http")), "{arrived}");
    // A location has the port that the client came to.
    let moved = ask(&story, 8080, "shop.example.com", "/moved", &[]);
    assert_eq!((moved.status, moved.header("location")), (302, "http://shop.example.com:8080/here"));
    until("copies", || {
        let copies = story.seen("shadow").len();
        if copies == 1 { Ok(()) } else { Err(format!("{copies}")) }
    });
    // Every family, and pods too.
    for address in addresses(&story) {
        let url = format!("http://{}/any", SocketAddr::new(address, 8080));
        assert_eq!(story.get("remote", &url, &[]), "200 v1", "{address}");
        assert_eq!(story.get("client", &url, &[]), "200 v1", "{address}");
    }
    let line = story.await_access("/moved", 1).remove(0);
    assert_eq!((&line["service"], &line["status"]), (&json!("default/edge:8080"), &json!(302)), "{line}");
}

#[test]
fn services_of_other_namespaces_need_a_grant() {
    let route = route("plain", "[]", "[{backendRefs: [{name: plain, namespace: plain, port: 80}]}]");
    let story = story("[{name: http, port: 8080, protocol: HTTP}]", &route);
    assert_eq!(ask(&story, 8080, "a", "/", &[]).brief(), "500 unresolved");
    story.apply(
        "grant.yaml",
        "{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {name: edge, namespace: plain},
          spec: {from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: default}],
                 to: [{group: '', kind: Service, name: plain}]}}",
    );
    assert_eq!(ask(&story, 8080, "a", "/", &[]).brief(), "200 plain");
    story.remove("grant.yaml");
    assert_eq!(ask(&story, 8080, "a", "/", &[]).brief(), "500 unresolved");
}

/// What `weir status` has of gateways: addresses with listeners, and why one is not served.
fn told(story: &Story) -> Vec<(String, String)> {
    let status = story.weir_json(&["status"]);
    let gateways = status["gateways"].as_array().cloned().unwrap_or_default();
    let one = |gateway: &Value| {
        let what = gateway["failure"].as_str().map_or_else(|| gateway["listeners"].to_string(), str::to_owned);
        (gateway["address"].as_str().unwrap().to_owned(), what)
    };
    gateways.iter().map(one).collect()
}

#[test]
fn listeners_come_and_go_and_one_that_cannot_be_is_told() {
    let routes = route("all", "[]", &format!("[{{{V1}}}]"));
    let story = story("[{name: http, port: 8080, protocol: HTTP}]", &routes);
    let await_told = |expected: &[(&str, &str)]| {
        until("the gateways", || {
            let told = told(&story);
            let is_it = |((at, what), (address, part)): (&(String, String), &(&str, &str))| {
                at == address && what.contains(part)
            };
            let is_so = told.len() == expected.len() && told.iter().zip(expected).all(is_it);
            if is_so { Ok(()) } else { Err(format!("{told:?}")) }
        });
    };
    await_told(&[("0.0.0.0:8080", "default/edge/http"), ("[::]:8080", "default/edge/http")]);
    // Somebody on the node has the second port.
    let taken = story.lab.enter("node", || std::net::TcpListener::bind("0.0.0.0:8081")).unwrap().unwrap();
    story.apply(
        "gateway.yaml",
        &gateway("[{name: http, port: 8080, protocol: HTTP}, {name: more, port: 8081, protocol: HTTP}]"),
    );
    await_told(&[("0.0.0.0:8080", "http"), ("0.0.0.0:8081", "in use"), ("[::]:8080", "http"), ("[::]:8081", "more")]);
    let output = story.weir(&["status"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("NOT served") && text.contains("(default/edge/more)"), "{text}");
    assert_eq!(ask(&story, 8080, "a", "/", &[]).brief(), "200 v1");
    drop(taken);
    await_told(&[("0.0.0.0:8080", "http"), ("0.0.0.0:8081", "more"), ("[::]:8080", "http"), ("[::]:8081", "more")]);
    assert_eq!(ask(&story, 8081, "a", "/", &[]).brief(), "200 v1");
    // A request under way when its listener goes is answered, and nobody is accepted there any more.
    let node = SocketAddr::new(addresses(&story)[0], 8081).to_string();
    let mut slow = story.connect("remote", &node);
    let request = Request::new("GET", &format!("http://{node}/drip?bytes=20&every=50ms")).unwrap();
    let slow = thread::spawn(move || slow.exchange(&request, LIMIT));
    until("the request at its endpoint", || {
        let seen = story.seen("v1");
        let is_there =
            seen.iter().any(|request| request["path"].as_str().is_some_and(|path| path.starts_with("/drip")));
        if is_there { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    story.apply("gateway.yaml", &gateway("[{name: http, port: 8080, protocol: HTTP}]"));
    await_told(&[("0.0.0.0:8080", "http"), ("[::]:8080", "http")]);
    let response = slow.join().unwrap().unwrap();
    assert_eq!((response.status, response.body.len()), (200, 20));
    until("nobody at 8081", || match ask(&story, 8081, "a", "/", &[]) {
        answer if answer.exit == 7 => Ok(()),
        answer => Err(format!("{answer:?}")),
    });
    assert_eq!(ask(&story, 8080, "a", "/", &[]).brief(), "200 v1");
}

#[test]
fn gateways_go_to_the_next_process_without_a_request_lost() {
    let routes = route("all", "[]", &format!("[{{{V1}}}]"));
    let mut terrain = terrain("[{name: http, port: 8080, protocol: HTTP}]", &routes);
    // Without it a connection that is being made while a process closes its listener is reset (docs/gateway.md).
    terrain.spec.sysctls.push(("net.ipv4.tcp_migrate_req".to_owned(), "1".to_owned()));
    let mut story = begin(&terrain);
    let url = format!("http://{}/fast", SocketAddr::new(addresses(&story)[0], 8080));
    let kept = Request::new("GET", &url).unwrap();
    let new = kept.clone().header("connection", "close");
    let loads = [kept, new].map(|request| {
        Load::start(&story.lab, "remote", 2, &request, |response| match brief(response) {
            right if right == "200 v1" => Ok(()),
            other => Err(other),
        })
    });
    for _ in 0..2 {
        loads.iter().for_each(|load| load.await_good(100));
        let ended = story.take_over();
        assert!(ended.success(), "{ended}");
    }
    loads.iter().for_each(|load| load.await_good(100));
    for load in loads {
        let report = load.stop();
        assert_eq!(report.failed, 0, "{report:#?}");
    }
}

/// Puts a certificate for a name into a folder of certificates; the file that clients trust.
fn certificate(folder: &Path, secret: &str, name: &str) -> PathBuf {
    let key = KeyPair::generate().unwrap();
    let made = CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    let folder = folder.join("default").join(secret);
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
    std::fs::write(folder.join("tls.crt"), made.pem()).unwrap();
    folder.join("tls.crt")
}

#[test]
fn clients_speak_tls_by_the_certificate_of_the_name_that_they_ask() {
    let certificates = tempfile::tempdir().unwrap();
    let shop = certificate(certificates.path(), "shop", "shop.example.com");
    let wild = certificate(certificates.path(), "wild", "*.wild.example.com");
    let routes = route(
        "shop",
        "[shop.example.com]",
        &format!(
            "[{{matches: [{{path: {{value: /moved}}}}],
                filters: [{{type: RequestRedirect, requestRedirect: {{path: {{type: ReplaceFullPath,
                           replaceFullPath: /here}}}}}}]}},
              {{{V1}}}]"
        ),
    ) + &route("wild", "['*.wild.example.com']", &format!("[{{{V2}}}]"));
    let terrain = terrain(
        "[{name: shop, port: 8443, protocol: HTTPS, hostname: shop.example.com, tls: {certificateRefs: [{name: shop}]}},
          {name: wild, port: 8443, protocol: HTTPS, hostname: '*.wild.example.com',
           tls: {certificateRefs: [{name: wild}]}}]",
        &routes,
    );
    let terrain = terrain.settings(json!({"proxy": {"gateways": {"certificates": certificates.path()}}}));
    let story = begin(&terrain);
    let ask = |trusted: &Path, name: &str, path: &str, arguments: &[&str]| {
        let resolve = format!("{name}:8443:{}", addresses(&story)[0]);
        let url = format!("https://{name}:8443{path}");
        let common = ["--cacert", trusted.to_str().unwrap(), "--resolve", &*resolve, &*url];
        story.curl("remote", &[&common[..], arguments].concat())
    };
    let versions: [(&[&str], &str); 3] =
        [(&["--http1.1"], "HTTP/1.1"), (&["--http2"], "HTTP/2"), (&["--no-alpn"], "HTTP/1.1")];
    for (count, (arguments, version)) in (1..).zip(versions) {
        let answer = ask(&shop, "shop.example.com", "/", &[arguments, &["-H", "x-forwarded-proto: http"]].concat());
        assert_eq!(answer.brief(), "200 v1", "{arguments:?}");
        let arrived = &answer.json()["headers"];
        assert_eq!(
            (&arrived["x-forwarded-proto"], &arrived["host"]),
            (&json!("https"), &json!("shop.example.com:8443"))
        );
        let line = story.await_access("/", count).pop().unwrap();
        assert_eq!(line["protocol"], json!(version), "{line}");
    }
    assert_eq!(ask(&wild, "a.wild.example.com", "/", &[]).brief(), "200 v2");
    // Neither by the other's certificate, nor by the other's connection.
    assert_eq!(ask(&wild, "shop.example.com", "/", &[]).exit, 60);
    let elsewhere = ask(&shop, "shop.example.com", "/", &["-H", "Host: a.wild.example.com"]);
    assert_eq!(elsewhere.brief(), "421 misdirected");
    assert_eq!(ask(&shop, "nobody.example.com", "/", &[]).exit, 35);
    let moved = ask(&shop, "shop.example.com", "/moved", &[]);
    assert_eq!((moved.status, moved.header("location")), (302, "https://shop.example.com:8443/here"));
    let clear = story.curl("remote", &[&*format!("http://{}", SocketAddr::new(addresses(&story)[0], 8443))]);
    assert_eq!(clear.brief(), "400 tls_required");
    // A new certificate, while the node runs.
    let renewed = certificate(certificates.path(), "shop", "shop.example.com");
    until("the new certificate", || match ask(&renewed, "shop.example.com", "/", &[]) {
        answer if answer.brief() == "200 v1" => Ok(()),
        answer => Err(answer.brief()),
    });
    // One that breaks stays as it was, and the trouble is told.
    std::fs::write(&renewed, "").unwrap();
    until("the trouble", || {
        let text = String::from_utf8_lossy(&story.weir(&["status"]).stdout).into_owned();
        if text.contains("shop: tls.crt has no certificate") { Ok(()) } else { Err(text) }
    });
    let status = story.weir_json(&["status"])["certificates"].clone();
    assert!(status[0]["name"] == "default/shop" && status[0]["not_after"].is_string(), "{status}");
    let metrics = story.admin.metrics();
    for line in [
        r#"weir_gateway_listening{address="0.0.0.0:8443"} 1"#,
        r#"weir_gateway_certificate_error{certificate="default/shop"} 1"#,
        r#"weir_gateway_certificate_error{certificate="default/wild"} 0"#,
        r#"weir_gateway_certificate_not_after_timestamp_seconds{certificate="default/wild"} 6"#,
    ] {
        assert!(metrics.contains(line), "{line} in:\n{metrics}");
    }
    assert_eq!((&status[1]["name"], &status[1]["failure"]), (&json!("default/wild"), &Value::Null));
}
