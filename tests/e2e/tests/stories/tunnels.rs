//! Two nodes: what goes between their pods goes in tunnels of mutual TLS, and nobody else gets in.

use serde_json::json;
use weir_e2e::{Authorities, Far, Story, Terrain, node_names, service, until, wire};
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
    let mut terrain = Terrain::standard().label("weir.dev/mesh: enabled").file("policy.yaml", for_accounts("default, far"));
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
    // Who is not allowed is not let in by its certificate either.
    assert_ne!(mesh.get("stranger", &mesh.directly("far")[0]), "200 far");
    let denied = until("the far node has denied it", || {
        let denied = mesh.far.admin.metrics().contains("opaque_denied");
        if denied { Ok(()) } else { Err("no such metric") }
    });
    let () = denied;
    let _ = json!({});
    let _ = &mesh.authorities;
}
