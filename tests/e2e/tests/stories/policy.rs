//! Who may reach which workload: decided in the kernel where that is enough, by the proxy where it takes a request.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use weir_e2e::{PLAIN, RECOGNITION, Story, Terrain, until};

/// Much longer than anything takes that is allowed.
const SILENCE: &str = "2";

/// The label of an enrolled namespace: what no policy allows is denied.
const ENROLLED: &str = "weir.dev/mesh: enabled";

fn policy(name: &str, spec: &str) -> String {
    format!("---\napiVersion: weir.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// What allows the service account of the pod `client` to reach the port of the servers.
fn for_client() -> String {
    policy(
        "for-client",
        "{rules: [{from: [{source: {serviceAccounts: [default]}}], to: [{operation: {ports: ['8080']}}]}]}",
    )
}

/// `200 v1`, `403 denied`, or `silence`.
fn get(story: &Story, from: &str, url: &str) -> String {
    let answer = story.curl(from, &["-m", SILENCE, url]);
    if answer.status == 0 { "silence".to_owned() } else { answer.brief() }
}

/// The addresses of a pod's server, of both families.
fn directly(story: &Story, pod: &str) -> [String; 2] {
    let pod = story.lab.pod(pod).unwrap();
    [format!("http://{}:8080", pod.ip4()), format!("http://[{}]:8080", pod.ip6().unwrap())]
}

fn by_service() -> [String; 2] {
    [format!("http://{}", RECOGNITION[0]), format!("http://[{}]", RECOGNITION[1])]
}

#[test]
fn an_enrolled_namespace_is_closed_until_policies_open_it() {
    let mut story = Story::begin(&Terrain::standard().label(ENROLLED));
    let places = || directly(&story, "v1").into_iter().chain(by_service());
    for url in places() {
        assert_eq!(get(&story, "client", &url), "silence", "{url}");
        assert_eq!(get(&story, "plain", &url), "silence", "{url}");
        // The node itself, which is where probes come from.
        assert_eq!(story.get("node", &directly(&story, "v1")[0], &[]), "200 v1");
    }
    // Others are not concerned, nor is what goes out.
    assert_eq!(get(&story, "client", &format!("http://{}/", PLAIN[0])), "200 plain");
    let denied = story.admin.kernel("denied_policy");
    assert!(denied >= 8, "{denied}");
    let line = story.await_log(&[
        "reason=\"denied_policy\"",
        "source_pod=\"default/client\"",
        "destination_pod=\"default/v1\"",
    ]);
    assert!(line.contains("no policy of namespace default allows it"), "{line}");

    story.apply("policy.yaml", &for_client());
    for url in places() {
        assert_eq!(get(&story, "client", &url), "200 v1", "{url}");
        assert_eq!(get(&story, "plain", &url), "silence", "{url}: another account");
    }
    assert_eq!(story.admin.connections("accepted"), 0, "the proxy saw none of it");
    let labels = ["namespace=\"default\"", "policy=\"\"", "by=\"kernel\""];
    let told = story.admin.metric("weir_policy_denied_total", &labels);
    assert!(told >= 8.0, "{told}\n{}", story.admin.metrics());

    story.remove("policy.yaml");
    assert_eq!(get(&story, "client", &directly(&story, "v1")[0]), "silence");
    story.relabel("weir.dev/authorization: 'off'");
    assert_eq!(get(&story, "plain", &directly(&story, "v1")[0]), "200 v1");
}

#[test]
fn what_takes_a_request_to_decide_is_decided_by_the_proxy() {
    let allow = policy(
        "readers",
        "{selector: {matchLabels: {app: vehicle-recognition}}, rules: [
           {from: [{source: {serviceAccounts: [default]}}], to: [{operation: {methods: [GET], paths: [/public*]}}]},
           {from: [{source: {namespaces: [plain]}}], when: [{key: 'request.headers[x-team]', values: [red]}]}]}",
    );
    let story = Story::begin(&Terrain::standard().file("policy.yaml", allow));
    for place in directly(&story, "v1").into_iter().chain(by_service()) {
        let to = |path: &str| format!("{place}{path}");
        assert_eq!(get(&story, "client", &to("/public/a")), "200 v1", "{place}");
        assert_eq!(get(&story, "client", &to("/private")), "403 denied", "{place}");
        let sneaky = story.curl("client", &["--path-as-is", &to("/public/../private")]);
        assert_eq!(sneaky.brief(), "403 denied", "{place}");
        let post = story.curl("client", &["-X", "POST", "-d", "a", &to("/public/a")]);
        assert_eq!(post.brief(), "403 denied", "{place}");
        assert_eq!(get(&story, "plain", &to("/public/a")), "403 denied", "{place}");
        assert_eq!(story.get("plain", &to("/"), &["x-team: red"]), "200 v1", "{place}");
    }
    assert!(story.admin.metric("weir_proxy_local_replies_total", &["cause=\"denied\""]) >= 16.0);
    for (from, path, expected) in [
        ("client", None, ("by request", "proxy")),
        ("client", Some("/public"), ("allowed", "proxy")),
        ("client", Some("/private"), ("denied", "proxy")),
        ("shadow", Some("/public"), ("allowed", "proxy")),
    ] {
        let path = path.map(|path| ["--path", path]);
        let words = ["policy", "explain", from, "v1", "8080"].into_iter().chain(path.into_iter().flatten());
        let told = story.weir_json(&words.collect::<Vec<_>>());
        assert_eq!((&told["outcome"], &told["decided_by"]), (&expected.0.into(), &expected.1.into()), "{told}");
    }
    assert!(story.admin.kernel("steered") > 0);
    // Where the proxy is gone, nobody could decide.
    assert_eq!(get(&story, "client", &directly(&story, "shadow")[0]), "200 shadow");
}

#[test]
fn audit_tells_what_would_be_denied_and_lets_it_in() {
    let terrain = Terrain::standard().label("weir.dev/authorization: audit").file("policy.yaml", for_client());
    let story = Story::begin(&terrain);
    assert_eq!(get(&story, "client", &directly(&story, "v1")[0]), "200 v1");
    assert_eq!(story.admin.kernel("audited_policy"), 0);
    assert_eq!(get(&story, "plain", &directly(&story, "v1")[0]), "200 v1");
    assert_eq!(story.admin.kernel("audited_policy"), 1);
    story.await_log(&["reason=\"audited_policy\"", "source_pod=\"plain/plain\"", "destination_pod=\"default/v1\""]);
    let watched = story.weir(&["watch", "drops", "--once"]);
    let watched = String::from_utf8_lossy(&watched.stdout).into_owned();
    assert!(watched.contains("audited_policy") && watched.contains("plain/plain"), "{watched}");
    // What it needs is suggested, and is what makes it stop.
    let suggested = story.weir(&["policy", "suggest"]);
    story.apply("suggested.yaml", &String::from_utf8_lossy(&suggested.stdout));
    let explained = story.weir_json(&["policy", "explain", "plain/plain", "v1", "8080"]);
    assert_eq!(explained["outcome"], "allowed", "{explained}");
    assert_eq!(get(&story, "plain", &directly(&story, "v1")[0]), "200 v1");
    assert_eq!(story.admin.kernel("audited_policy"), 1);
    assert_eq!(story.admin.kernel("denied_policy"), 0);
}

#[test]
fn a_change_closes_what_it_no_longer_allows() {
    let terrain = Terrain::standard().label(ENROLLED).file("policy.yaml", for_client());
    // A rule, so that what goes to the service goes by the proxy.
    let story = Story::begin(&terrain.rule("all", "{timeouts: {request: 30s}}"));
    let to: Vec<String> = [directly(&story, "v1"), by_service()].concat();
    let mut open: Vec<_> = to
        .iter()
        .map(|url| {
            let address: String = url.trim_start_matches("http://").to_owned();
            let address = if address.contains("8080") { address } else { format!("{address}:80") };
            story.connect("client", &address)
        })
        .collect();
    let ask = |connection: &mut weir_lab::client::Connection| -> io::Result<String> {
        let mut stream = connection.stream();
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")?;
        let mut answer = [0; 4096];
        let count = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..count]).lines().next().unwrap_or_default().to_owned())
    };
    for connection in &mut open {
        assert_eq!(ask(connection).unwrap(), "HTTP/1.1 200 OK");
    }
    // Another rule, that allows the same: nothing is cut.
    story.apply("policy.yaml", &for_client().replace("rules: [{", "rules: [{to: [{operation: {ports: ['9']}}]}, {"));
    for connection in &mut open {
        assert_eq!(ask(connection).unwrap(), "HTTP/1.1 200 OK");
    }
    story.apply("policy.yaml", &for_client().replace("'8080'", "'8081'"));
    let (direct, proxied) = open.split_at_mut(2);
    for (connection, url) in direct.iter_mut().zip(&to) {
        let error = ask(connection).expect_err(url);
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset, "{url}: {error}");
    }
    for connection in proxied {
        assert_eq!(ask(connection).unwrap(), "HTTP/1.1 403 Forbidden");
    }
    assert!(story.admin.kernel("denied_policy") >= 2);
}

#[test]
fn datagrams_and_their_answers() {
    // The client's namespace is closed as well: answers come to it because it has asked.
    let story = Story::begin(&Terrain::standard().label(ENROLLED));
    let (client, server) = (story.lab.pod("client").unwrap(), story.lab.pod("v1").unwrap());
    let families: [(IpAddr, IpAddr); 2] =
        [(client.ip4().into(), server.ip4().into()), (client.ip6().unwrap().into(), server.ip6().unwrap().into())];
    for (from, to) in families {
        let bind = |pod: &str, address: SocketAddr| -> UdpSocket {
            let socket = story.lab.enter(pod, move || UdpSocket::bind(address)).unwrap().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
            socket
        };
        let (there, here) = (bind("v1", SocketAddr::new(to, 5353)), bind("client", SocketAddr::new(from, 0)));
        let mut buffer = [0; 16];
        let mut arrives = |from: &UdpSocket, to: SocketAddr, at: &UdpSocket| {
            from.send_to(b"datagram", to).unwrap();
            at.recv_from(&mut buffer).ok().map(|(_, from)| from)
        };
        assert_eq!(arrives(&here, there.local_addr().unwrap(), &there), None, "nothing allows it");
        assert_eq!(arrives(&there, here.local_addr().unwrap(), &here), None, "nor the other way");
        story.apply("policy.yaml", &policy("names", "{rules: [{to: [{operation: {ports: ['5353']}}]}]}"));
        let seen = arrives(&here, there.local_addr().unwrap(), &there);
        assert_eq!(seen, Some(here.local_addr().unwrap()));
        assert_eq!(arrives(&there, here.local_addr().unwrap(), &here), Some(there.local_addr().unwrap()), "the answer");
        let other = bind("v1", SocketAddr::new(to, 5354));
        assert_eq!(arrives(&other, here.local_addr().unwrap(), &here), None, "no answer to anything");
        story.remove("policy.yaml");
    }
}

#[test]
fn what_needs_no_proxy_keeps_flowing_without_one() {
    let allow = for_client()
        + &policy("paths", "{selector: {matchLabels: {version: v2}}, rules: [{to: [{operation: {paths: [/a]}}]}]}");
    let mut story = Story::begin(&Terrain::standard().label(ENROLLED).file("policy.yaml", allow));
    let (v1, v2) = (directly(&story, "v1"), directly(&story, "v2"));
    let v2 = v2.map(|url| format!("{url}/a"));
    assert_eq!(get(&story, "plain", &v2[0]), "200 v2");
    story.kill9();
    until("the slot to be empty", || match &*get(&story, "plain", &v2[0]) {
        "silence" => Ok(()),
        other => Err(other.to_owned()),
    });
    for url in &v1 {
        assert_eq!(get(&story, "client", url), "200 v1", "{url}");
        assert_eq!(get(&story, "plain", url), "silence", "{url}");
    }
    story.launch();
    story.await_ready();
    assert_eq!(get(&story, "plain", &v2[0]), "200 v2");
    assert_eq!(get(&story, "plain", &v1[0]), "silence");
}
