//! Two nodes: what goes between their pods goes in tunnels of mutual TLS, and nobody else gets in.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use weir_e2e::{Authorities, Far, Load, PATIENCE, Story, Terrain, brief, node_names, service, until, wire};
use weir_lab::client::{ClientError, Connection, Request, bulk};
use weir_lab::server::Mode;
use weir_lab::{PodSpec, ServicePort};

/// Virtual addresses of `far`, port 80, in front of the pod `far` of the remote node.
const FAR: [&str; 2] = ["10.96.0.30", "fd96::30"];
/// Much longer than anything takes that is allowed.
const SILENCE: &str = "2";

fn policy(name: &str, spec: &str) -> String {
    format!("---\napiVersion: weir.dev/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// Everybody with these service accounts may reach everything.
fn for_accounts(accounts: &str) -> String {
    policy("for-accounts", &format!("{{rules: [{{from: [{{source: {{serviceAccounts: [{accounts}]}}}}]}}]}}"))
}

/// A closed namespace with a server on the remote node, and a client and a server here.
fn terrain() -> Terrain {
    let mut terrain =
        Terrain::standard().label("weir.dev/mesh: enabled").file("policy.yaml", for_accounts("default, far"));
    terrain.spec.remote = true;
    terrain.spec.pods.push(PodSpec::new("far").service_account("far").on_remote());
    terrain.spec.pods.push(PodSpec::new("far-client").service_account("far").on_remote());
    terrain.spec.pods.push(PodSpec::new("stranger").service_account("stranger"));
    terrain.services.push(service("far", FAR, ServicePort::http(80, 8080), &["far"]));
    terrain.servers.push(("far".to_owned(), Mode::Http, "far".to_owned()));
    terrain
}

struct Mesh {
    far: Far,
    story: Story,
    authorities: Authorities,
}

impl Mesh {
    fn begin(terrain: &Terrain) -> Self {
        let authorities = Authorities::new();
        let mut story = Story::prepare(terrain);
        let [near, far] = node_names(&story.lab);
        for node in [&near, &far] {
            authorities.node(node, node, "root");
        }
        story.overlay(authorities.settings(&near, &near));
        story.start();
        let far = story.begin_far(&authorities.settings(&far, &far));
        Self { far, story, authorities }
    }

    /// `200 far`, `403 denied`, or `silence`.
    fn get(&self, from: &str, url: &str) -> String {
        let answer = self.story.curl(from, &["-m", SILENCE, url]);
        if answer.status == 0 { "silence".to_owned() } else { answer.brief() }
    }

    fn directly(&self, pod: &str) -> [String; 2] {
        let pod = self.story.lab.pod(pod).unwrap();
        [format!("http://{}:8080/secret-path", pod.ip4()), format!("http://[{}]:8080/secret-path", pod.ip6().unwrap())]
    }
}

fn by_service() -> [String; 2] {
    [format!("http://{}/secret-path", FAR[0]), format!("http://[{}]/secret-path", FAR[1])]
}

/// A request on a connection that stays open: `200 far`.
fn ask(connection: &mut Connection, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: far\r\n\r\n");
    connection.send_raw(request.as_bytes(), PATIENCE).unwrap();
    brief(&connection.receive_raw(PATIENCE).unwrap())
}

/// Waits until a connection has ended, one way or another.
fn await_end(connection: &mut Connection) {
    let end = connection.receive_raw(PATIENCE + Duration::from_secs(1)).unwrap_err();
    assert!(!matches!(end, ClientError::Timeout(_)), "{end}");
}

#[test]
fn what_goes_between_nodes_goes_in_tunnels() {
    let mesh = Mesh::begin(&terrain());
    let mut wire = wire(&mesh.story.lab);
    for url in mesh.directly("far").iter().chain(&by_service()) {
        assert_eq!(mesh.get("client", url), "200 far", "{url}");
    }
    // The other way round, and from a pod beside.
    for url in &mesh.directly("v1") {
        assert_eq!(mesh.get("far-client", url), "200 v1", "{url}");
    }
    let wired = wire.take();
    assert!(wired.frames.len() > 20, "{}", wired.frames.len());
    assert_eq!(wired.with("secret-path"), 0);
    let stray: Vec<String> = wired.segments().into_iter().filter(|segment| !segment.contains(":15008")).collect();
    assert!(stray.is_empty(), "{stray:?}");
    // What is on one node stays there, in the clear.
    assert_eq!(mesh.get("client", &mesh.directly("v1")[0]), "200 v1");
    // Who is not allowed is kept out where it sends, and would be where it arrives.
    assert_eq!(mesh.get("stranger", &mesh.directly("far")[0]), "silence");
    assert_eq!(mesh.get("stranger", &by_service()[0]), "403 denied");
    let shown = mesh.story.weir(&["status"]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    let identity = shown.lines().find(|line| line.starts_with("edge.example/ns/default/sa/default ")).unwrap();
    assert!(identity.ends_with("none"), "{shown}");
    let expiry = mesh.story.admin.metric(
        "weir_identity_certificate_expiry_timestamp_seconds",
        &["namespace=\"default\"", "service_account=\"default\""],
    );
    assert!(expiry > 1.7e9, "{expiry}");
    let opened = mesh.story.admin.connections("tunnel_opened");
    // Two workers, two families, one pair of service accounts.
    assert!((1..=4).contains(&opened), "{opened}");
}

#[test]
fn policies_see_who_calls_from_another_node() {
    let methods = policy(
        "methods",
        "{rules: [{from: [{source: {principals: [edge.example/ns/default/sa/default]}}], to: [{operation: {methods: [GET]}}]}]}",
    );
    let mesh = Mesh::begin(&terrain().file("policy.yaml", methods));
    for url in mesh.directly("far").iter().chain(&by_service()) {
        assert_eq!(mesh.get("client", url), "200 far", "{url}");
        assert_eq!(mesh.story.curl("client", &["-m", SILENCE, "-X", "PUT", url]).brief(), "403 denied", "{url}");
    }
    // Of this one no request is allowed: that is decided before any.
    assert_eq!(mesh.get("stranger", &mesh.directly("far")[0]), "silence");
    assert_eq!(mesh.get("stranger", &by_service()[0]), "403 denied");
    let seen = mesh.story.seen("far");
    assert_eq!(seen.len(), 4, "{seen:#?}");
}

#[test]
fn what_comes_in_the_clear_is_kept_out_or_told_of() {
    // Policies are tried only: how it comes is what is enforced.
    let mut terrain = terrain();
    terrain.label = Some("weir.dev/mesh: enabled\n    weir.dev/authorization: audit".to_owned());
    let mesh = Mesh::begin(&terrain);
    // The far node itself is nobody of the mesh.
    let outside = |mesh: &Mesh| mesh.get("remote", &mesh.directly("v1")[0]);
    assert_eq!(outside(&mesh), "silence");
    // Nor is who says that it is somebody of this node: that address is only checked where it is sent from.
    let status = until("it is known who sends in the clear", || {
        let status = mesh.story.admin.status();
        let first = status["plaintext"][0].clone();
        if first.is_null() { Err(status["kernel"].to_string()) } else { Ok(first) }
    });
    assert_eq!((&status["source"], &status["destination"]), (&json!("172.31.77.2"), &json!("default/v1")));
    assert_eq!(status["let_in"], false);
    let probe = mesh.story.get("node", &mesh.directly("v1")[0], &[]);
    assert_eq!(probe, "200 v1", "probes come from the node itself");

    let authentication = |mode: &str| {
        format!(
            "---\napiVersion: weir.dev/v1\nkind: PeerAuthentication\nmetadata: {{name: all}}\nspec: {{mtls: {{mode: {mode}}}}}\n"
        )
    };
    mesh.story.apply("authentication.yaml", &authentication("PERMISSIVE"));
    assert_eq!(outside(&mesh), "200 v1");
    until("it is told that it is let in", || {
        let row = mesh.story.admin.status()["plaintext"][0].clone();
        if row["let_in"] == true { Ok(()) } else { Err(row.to_string()) }
    });
    let shown = String::from_utf8(mesh.story.weir(&["status"]).stdout).unwrap();
    assert!(shown.contains("in the clear, from"), "{shown}");
    assert_eq!(mesh.get("client", &mesh.directly("far")[0]), "200 far");
    assert!(mesh.story.admin.connections("tunnel_opened") > 0, "who can still comes in a tunnel");

    let told = mesh.story.admin.kernel("passed_plaintext");
    mesh.story.apply("authentication.yaml", &authentication("DISABLE"));
    mesh.far.await_revision(&mesh.story.admin.current()["revision"]);
    assert_eq!(outside(&mesh), "200 v1");
    let mut wire = wire(&mesh.story.lab);
    assert_eq!(mesh.get("client", &mesh.directly("far")[0]), "200 far");
    assert!(wire.take().with("secret-path") > 0, "as ever");
    assert_eq!(mesh.story.admin.kernel("passed_plaintext"), told);
}

#[test]
fn without_its_proxy_a_node_sends_and_takes_nothing_in_the_clear() {
    let mut mesh = Mesh::begin(&terrain());
    let url = mesh.directly("far")[0].clone();
    assert_eq!(mesh.get("client", &url), "200 far");
    let mut wire = wire(&mesh.story.lab);
    mesh.story.kill9();
    assert_eq!(mesh.get("client", &url), "silence");
    assert_eq!(mesh.get("far-client", &mesh.directly("v1")[0]), "silence");
    assert_eq!(mesh.get("client", &mesh.directly("v1")[0]), "200 v1", "what is allowed on the node goes on");
    mesh.story.start();
    assert_eq!(mesh.get("client", &url), "200 far");
    mesh.far.kill9();
    assert_eq!(mesh.get("client", &url), "silence");
    assert_eq!(wire.take().with("secret-path"), 0);
}

#[test]
fn a_root_is_rotated_and_a_node_revoked_without_a_restart() {
    let mesh = Mesh::begin(&terrain());
    let (authorities, story) = (&mesh.authorities, &mesh.story);
    let [near, far] = node_names(&story.lab);
    let url = &mesh.directly("far")[0];
    assert_eq!(mesh.get("client", url), "200 far");
    // A connection that stays open, through all of it.
    let mut connection = story.connect("client", &format!("{}:8080", story.lab.pod("far").unwrap().ip4()));
    assert_eq!(ask(&mut connection, "/first"), "200 far");

    // A new root, believed beside the old one before anybody shows what it vouches for.
    authorities.root("next");
    let read = |folder: &str, name: &str| std::fs::read_to_string(authorities.file(folder, name)).unwrap();
    let both = read("root", "root.crt") + &read("next", "root.crt");
    let put = |folder: &str, name: &str, text: &str| {
        let (path, new) = (authorities.file(folder, name), authorities.file(folder, "..new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    };
    for node in [&near, &far] {
        put(node, "roots.crt", &both);
    }
    authorities.node(&near, "near-next", "next");
    authorities.node(&far, "far-next", "next");
    let certificates = |admin: &weir_e2e::Admin| admin.status()["identities"]["certificates"].clone();
    for (node, next, admin) in [(&near, "near-next", &story.admin), (&far, "far-next", &mesh.far.admin)] {
        let before = certificates(admin);
        put(node, "node.key", &read(next, "node.key"));
        put(node, "node.crt", &read(next, "node.crt"));
        until("other certificates", || {
            let now = certificates(admin);
            // Within a second they end at the same one; when they are renewed has jitter.
            let is_new = |at: usize| now[at] != before[at];
            if now[0]["failure"].is_null() && is_new(0) { Ok(()) } else { Err(now.to_string()) }
        });
        assert_eq!(mesh.get("client", url), "200 far");
    }
    assert_eq!(ask(&mut connection, "/second"), "200 far");
    // Without the old root what was made under it ends.
    for node in [&near, &far] {
        put(node, "roots.crt", &read("next", "root.crt"));
    }
    await_end(&mut connection);
    assert_eq!(mesh.get("client", url), "200 far");

    // The far node is stolen.
    let mut connection = story.connect("client", &format!("{}:8080", story.lab.pod("far").unwrap().ip4()));
    assert_eq!(ask(&mut connection, "/third"), "200 far");
    // So is what it has begun itself.
    let mut inbound = story.connect("far-client", &format!("{}:8080", story.lab.pod("v1").unwrap().ip4()));
    assert_eq!(ask(&mut inbound, "/fourth"), "200 v1");
    put(&near, "revoked.crl", &authorities.revoke("next", &["far-next"]));
    await_end(&mut connection);
    await_end(&mut inbound);
    until("it is not called any more", || {
        let answer = mesh.get("client", url);
        if answer == "200 far" { Err(answer) } else { Ok(()) }
    });
    assert!(story.admin.connections("tunnel_disbelieved") > 0);
    assert_ne!(mesh.get("far-client", &mesh.directly("v1")[0]), "200 v1");
}

#[test]
fn bytes_cross_a_tunnel_unchanged_both_ways_at_once() {
    const MIB: u64 = 1 << 20;
    let mesh = Mesh::begin(&terrain().serve("far", Mode::Bulk));
    for ip in mesh.story.lab.pod("far").unwrap().ips() {
        let to = SocketAddr::new(ip, 8080);
        // One direction ends long before the other: each ends by itself.
        for (up, down) in [(256 * MIB, 256 * MIB), (64 * MIB, 3), (3, 64 * MIB)] {
            let done = bulk(mesh.story.lab.layout(), "client", to, (up, down), PATIENCE).unwrap();
            println!("{up} bytes there and {down} back: {:?}", done.took);
        }
    }
    assert!(mesh.story.admin.connections("tunnel_opened") > 0);
}

#[test]
fn either_node_is_taken_over_and_no_request_in_tunnels_is_lost() {
    let mut mesh = Mesh::begin(&terrain());
    let url = format!("http://{}/fast", FAR[0]);
    let kept = Request::new("GET", &url).unwrap();
    let new = kept.clone().header("connection", "close");
    let loads = [kept, new].map(|request| {
        Load::start(&mesh.story.lab, "client", 3, &request, |response| match brief(response) {
            right if right == "200 far" => Ok(()),
            other => Err(other),
        })
    });
    for load in &loads {
        load.await_good(200);
    }
    for _ in 0..3 {
        assert!(mesh.story.take_over().success());
        mesh.far.take_over(&mesh.story.lab);
    }
    for (load, what) in loads.into_iter().zip(["kept connections", "new connections"]) {
        let report = load.stop();
        println!("{what}: {} requests good, the slowest {:?}", report.good, report.slowest);
        assert_eq!(report.failed, 0, "{what}: {report:#?}");
    }
}
