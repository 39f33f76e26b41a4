//! What a story plays on: pods, services, servers, rules, settings.

use serde_json::{Value, json};
use weir_lab::server::Mode;
use weir_lab::{PodSpec, ServicePort, ServiceSpec, Spec};

/// Virtual addresses of `vehicle-recognition`, port 80, in front of the pod `v1`.
pub const RECOGNITION: [&str; 2] = ["10.96.0.10", "fd96::10"];
/// Virtual addresses of `service-canary`, port 8080, in front of the pod `v2`.
pub const CANARY: [&str; 2] = ["10.96.0.11", "fd96::11"];
/// Virtual addresses of `shadow`, port 80, in front of the pod `shadow`, which shall not be disturbed by requests.
pub const SHADOW: [&str; 2] = ["10.96.0.12", "fd96::12"];
/// Virtual addresses of `plain` in the namespace `plain`, port 80, in front of the pod `plain`. No rule concerns it.
pub const PLAIN: [&str; 2] = ["10.96.0.20", "fd96::20"];

/// The description of a story's beginning.
#[derive(Debug, Clone)]
pub struct Terrain {
    /// Pods and the node.
    pub spec: Spec,
    /// Services, which become documents.
    pub services: Vec<ServiceSpec>,
    /// Pods with a server on port 8080: name, mode, version.
    pub servers: Vec<(String, Mode, String)>,
    /// Files in the folder beside `cluster.yaml`.
    pub files: Vec<(String, String)>,
    /// A label of the namespace `default`, as YAML.
    pub label: Option<String>,
    /// Laid over the settings of the node.
    pub settings: Value,
}

impl Terrain {
    /// Client, two versions, a mirror target, a service without rules, a pod outside the mesh. No rules yet.
    #[must_use]
    pub fn standard() -> Self {
        let recognition = |name: &str| {
            PodSpec::new(name)
                .label("app", "vehicle-recognition")
                .label("version", name)
                .service_account("vehicle-recognition")
        };
        let pods = vec![
            PodSpec::new("client"),
            recognition("v1"),
            recognition("v2"),
            PodSpec::new("shadow"),
            PodSpec::new("plain").namespace("plain"),
            PodSpec::new("outside").namespace("plain").outside_mesh(),
        ];
        let server = |name: &str| (name.to_owned(), Mode::Http, name.to_owned());
        let mut plain = service("plain", PLAIN, ServicePort::http(80, 8080), &["plain"]);
        plain.namespace = "plain".to_owned();
        Self {
            spec: Spec { pods, ..Spec::default() },
            services: vec![
                service("vehicle-recognition", RECOGNITION, ServicePort::http(80, 8080), &["v1"]),
                service("service-canary", CANARY, ServicePort::http(8080, 8080), &["v2"]),
                service("shadow", SHADOW, ServicePort::http(80, 8080), &["shadow"]),
                plain,
            ],
            servers: ["v1", "v2", "shadow", "plain"].map(server).to_vec(),
            files: Vec::new(),
            label: None,
            settings: json!({}),
        }
    }

    /// Adds a file of documents.
    #[must_use]
    pub fn file(mut self, name: &str, text: impl Into<String>) -> Self {
        self.files.push((name.to_owned(), text.into()));
        self
    }

    /// Gives the namespace `default` a label, written in YAML.
    #[must_use]
    pub fn label(mut self, label: &str) -> Self {
        self.label = Some(label.to_owned());
        self
    }

    /// Adds a rule, written as its `spec` in YAML, in a file of its name.
    #[must_use]
    pub fn rule(self, name: &str, spec: &str) -> Self {
        self.file(&format!("{name}.yaml"), rule(name, spec))
    }

    /// Adds a plugin of `plugins/` for `vehicle-recognition`, with more of its `spec` in YAML, in a file of its name.
    #[must_use]
    pub fn plugin(self, name: &str, more: &str) -> Self {
        self.file(&format!("{name}.yaml"), plugin(name, more))
    }

    /// Lays something over the node's settings.
    #[must_use]
    pub fn settings(mut self, overlay: Value) -> Self {
        crate::settings::merge(&mut self.settings, overlay);
        self
    }

    /// What the pod serves instead.
    #[must_use]
    pub fn serve(mut self, pod: &str, mode: Mode) -> Self {
        self.servers.retain(|(name, ..)| name != pod);
        self.servers.push((pod.to_owned(), mode, pod.to_owned()));
        self
    }

    /// A pod where nothing listens.
    #[must_use]
    pub fn silent(mut self, pod: &str) -> Self {
        self.servers.retain(|(name, ..)| name != pod);
        self
    }

    /// The port of a service, instead of the one it has.
    #[must_use]
    pub fn port(mut self, service: &str, port: &ServicePort) -> Self {
        for one in self.services.iter_mut().filter(|one| one.name == service) {
            one.ports = vec![port.clone()];
        }
        self
    }
}

/// A document with a plugin of `plugins/` for `vehicle-recognition`, and more of its `spec` in YAML.
#[must_use]
pub fn plugin(name: &str, more: &str) -> String {
    let file = crate::binaries::plugin(name);
    format!(
        "apiVersion: weir.dev/v1\nkind: Plugin\nmetadata: {{name: {name}}}\nspec:\n  module: {{file: {}}}\n  services: \
         [vehicle-recognition]\n  {more}\n",
        file.display()
    )
}

/// A service in `default`.
#[must_use]
pub fn service(name: &str, vips: [&str; 2], port: ServicePort, pods: &[&str]) -> ServiceSpec {
    ServiceSpec {
        name: name.to_owned(),
        namespace: "default".to_owned(),
        vip4: vips[0].parse().ok(),
        vip6: vips[1].parse().ok(),
        ports: vec![port],
        pods: pods.iter().map(|pod| (*pod).to_owned()).collect(),
    }
}

/// A `RouteRule` document from its name and its `spec`, which is written in YAML's flow style.
#[must_use]
pub fn rule(name: &str, spec: &str) -> String {
    format!("---\napiVersion: weir.dev/v1\nkind: RouteRule\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}
