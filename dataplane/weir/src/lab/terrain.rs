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
    // A name that a user's folder will not have.
    std::fs::write(folder.join("weir-lab-cluster.yaml"), weir_lab::manifests(lab, &services())?)?;
    let Some(rules) = rules else {
        for (name, text) in RULES {
            std::fs::write(folder.join(name), text)?;
        }
        return Ok(());
    };
    // The files that a node would read, in subfolders, too.
    let files = weir_sources::read(&[rules.to_owned()], &weir_sources::Limits::default()).map_err(|errors| {
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        anyhow::anyhow!("cannot read the rules: {}", told.join("\n"))
    })?;
    anyhow::ensure!(!files.is_empty(), "no .yaml, .yml or .json file in {}", rules.display());
    for file in files {
        let path = folder.join(file.path.strip_prefix(rules).unwrap_or(&file.path));
        let parent = path.parent().context("a file has no folder")?;
        std::fs::create_dir_all(parent).and_then(|()| std::fs::write(&path, &*file.text))?;
    }
    Ok(())
}

/// The services by namespace and name.
pub(crate) const SERVICES: [(&str, &str); 3] =
    [("default", "vehicle-recognition"), ("default", "service-canary"), ("plain", "plain")];

/// A virtual address and the port of a service of the lab, by namespace and name.
pub(crate) fn address_of(namespace: &str, name: &str) -> Option<(&'static str, u16)> {
    match (namespace, name) {
        ("default", "vehicle-recognition") => Some((RECOGNITION[0], 80)),
        ("default", "service-canary") => Some((CANARY[0], 8080)),
        ("plain", "plain") => Some((PLAIN[0], 80)),
        _ => None,
    }
}
