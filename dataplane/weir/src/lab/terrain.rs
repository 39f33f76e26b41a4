//! What the lab consists of: pods, services, and the rules it starts with.

use std::path::Path;

use anyhow::Context as _;
use weir_lab::{Lab, PodSpec, ServicePort, ServiceSpec, Spec};

/// The service that rules concern, by its virtual addresses.
pub(crate) const RECOGNITION: [&str; 2] = ["10.96.0.10", "fd96::10"];
/// The service in front of the new version.
pub(crate) const CANARY: [&str; 2] = ["10.96.0.11", "fd96::11"];
/// A service in a namespace without rules.
pub(crate) const PLAIN: [&str; 2] = ["10.96.0.20", "fd96::20"];

/// The rules of the lab, as files a user can edit.
const RULES: [(&str, &str); 3] = [
    ("user-header-canary.yaml", include_str!("../../../../k3s/examples/user-header-canary.yaml")),
    ("recognition-mirror.yaml", include_str!("../../../../k3s/examples/recognition-mirror.yaml")),
    ("sticky-split.yaml", include_str!("../../../../k3s/examples/sticky-split.yaml")),
];

/// The pods.
pub(crate) fn spec(id: Option<String>) -> Spec {
    let recognition =
        |pod: &str, version: &str| PodSpec::new(pod).label("app", "vehicle-recognition").label("version", version);
    let pods = vec![
        PodSpec::new("client"),
        recognition("vehicle-recognition-v1", "v1").service_account("vehicle-recognition"),
        recognition("vehicle-recognition-v2", "v2").service_account("vehicle-recognition"),
        PodSpec::new("plain").namespace("plain"),
        PodSpec::new("outside").namespace("plain").outside_mesh(),
    ];
    Spec { id, pods, ..Spec::default() }
}

/// Where the servers run, with their ports and versions.
pub(crate) const SERVERS: [(&str, u16, &str); 3] =
    [("vehicle-recognition-v1", 8080, "v1"), ("vehicle-recognition-v2", 8080, "v2"), ("plain", 8080, "v1")];

fn services() -> Vec<ServiceSpec> {
    let service = |name: &str, namespace: &str, vips: [&str; 2], port: u16, pod: &str| ServiceSpec {
        name: name.to_owned(),
        namespace: namespace.to_owned(),
        vip4: vips[0].parse().ok(),
        vip6: vips[1].parse().ok(),
        ports: vec![ServicePort::http(port, 8080)],
        pods: vec![pod.to_owned()],
    };
    vec![
        service("vehicle-recognition", "default", RECOGNITION, 80, "vehicle-recognition-v1"),
        service("service-canary", "default", CANARY, 8080, "vehicle-recognition-v2"),
        service("plain", "plain", PLAIN, 80, "plain"),
    ]
}

/// Writes the documents of the lab: the cluster's objects, and the rules (the lab's own or somebody else's folder).
pub(crate) fn write_documents(lab: &Lab, folder: &Path, rules: Option<&Path>) -> anyhow::Result<()> {
    std::fs::create_dir_all(folder)?;
    std::fs::write(folder.join("cluster.yaml"), weir_lab::manifests(lab, &services())?)?;
    let Some(rules) = rules else {
        for (name, text) in RULES {
            std::fs::write(folder.join(name), text)?;
        }
        return Ok(());
    };
    for entry in std::fs::read_dir(rules).with_context(|| format!("cannot read the rules in {}", rules.display()))? {
        let path = entry?.path();
        let is_document =
            path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|known| extension == *known));
        if let (true, Some(name)) = (is_document, path.file_name()) {
            std::fs::copy(&path, folder.join(name))?;
        }
    }
    Ok(())
}
