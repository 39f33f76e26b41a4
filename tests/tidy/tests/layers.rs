//! Layers: arrows between crates point down only, and some libraries have one user.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

/// From the bottom up; a crate uses crates of lower rows only.
const LAYERS: [&[&str]; 7] = [
    &["weir-ebpf-common", "weir-core"],
    &["weir-config", "weir-kernel", "weir-plugin-host", "weir-identity", "weir-telemetry"],
    &["weir-proxy", "weir-plugin-modules", "weir-sources"],
    &["weir-revisions"],
    &["weir-canary", "weir-admin", "weir-lab"],
    &["weir"],
    &["weir-e2e", "weir-bench", "weir-tidy"],
];

/// Libraries that one crate wraps for all others.
const SOLE_USERS: [(&str, &str); 5] = [
    ("aya", "weir-kernel"),
    ("aya-log", "weir-kernel"),
    ("wasmtime", "weir-plugin-host"),
    ("rustls", "weir-identity"),
    ("redb", "weir-revisions"),
];

/// What `weir-core` must never reach, not even through something else.
const NOT_IN_CORE: [&str; 8] = ["tokio", "mio", "hyper", "rand", "aya", "wasmtime", "rustls", "tracing"];

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).args(arguments).current_dir(weir_tidy::root()).output().unwrap();
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What cargo says of the workspace, for this machine's platform: what others need is not there after a build here.
fn metadata() -> Value {
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let flags = ["--format-version", "1", "--locked", "--offline", "--filter-platform", host];
    serde_json::from_str(&cargo(&[&["metadata"], &flags[..]].concat())).unwrap()
}

/// Direct dependencies (not those of tests) of the workspace's crates.
fn direct(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let members: BTreeSet<&str> =
        metadata["workspace_members"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    let packages = metadata["packages"].as_array().unwrap().iter();
    let packages = packages.filter(|package| members.contains(package["id"].as_str().unwrap()));
    let row = |package: &Value| {
        let dependencies = package["dependencies"].as_array().unwrap().iter();
        let dependencies = dependencies.filter(|dependency| dependency["kind"].as_str() != Some("dev"));
        let names = dependencies.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect();
        (package["name"].as_str().unwrap().to_owned(), names)
    };
    packages.map(row).collect()
}

#[test]
fn arrows_point_down() {
    let height: BTreeMap<&str, usize> =
        LAYERS.iter().enumerate().flat_map(|(height, row)| row.iter().map(move |name| (*name, height))).collect();
    for (user, used) in direct(&metadata()) {
        let mine = height.get(&*user).unwrap_or_else(|| panic!("{user} has no layer: give it one in this test"));
        for name in used.iter().filter(|name| name.starts_with("weir")) {
            assert!(height[&**name] < *mine, "{user} uses {name}, which is not below it");
        }
    }
}

#[test]
fn wrapped_libraries_have_one_user() {
    for (user, used) in direct(&metadata()) {
        for (library, owner) in SOLE_USERS {
            assert!(!used.contains(library) || user == owner, "{user} uses {library}: only {owner} may");
        }
    }
}

#[test]
fn core_reaches_no_runtime() {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().unwrap();
    let node = |id: &str| nodes.iter().find(|node| node["id"].as_str() == Some(id));
    let core = nodes.iter().filter_map(|node| node["id"].as_str()).find(|id| id.contains("/core#")).unwrap();
    let (mut reached, mut open) = (BTreeSet::new(), vec![core.to_owned()]);
    while let Some(id) = open.pop() {
        for dependency in node(&id).and_then(|node| node["deps"].as_array()).into_iter().flatten() {
            let kinds = dependency["dep_kinds"].as_array().unwrap();
            let normal = kinds.iter().any(|kind| kind["kind"].is_null());
            let package = dependency["pkg"].as_str().unwrap();
            if normal && reached.insert(package.to_owned()) {
                open.push(package.to_owned());
            }
        }
    }
    assert!(reached.len() > 5, "the dependencies of weir-core were not found: {reached:?}");
    let name = |id: &str| {
        let package =
            metadata["packages"].as_array().unwrap().iter().find(|package| package["id"].as_str() == Some(id));
        package.and_then(|package| package["name"].as_str()).unwrap_or_default().to_owned()
    };
    let names: BTreeSet<String> = reached.iter().map(|id| name(id)).collect();
    for library in NOT_IN_CORE {
        assert!(!names.contains(library), "weir-core reaches {library}");
    }
}
