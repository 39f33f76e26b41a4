//! Envoy: one worker, no access log, no tracing, its connection pool as it comes.

use std::{fs, net::SocketAddr, path::PathBuf};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{Plugin, Setup};
use crate::{machine, process::Launch};

/// Where `install.sh` links the server.
pub(crate) fn program() -> PathBuf {
    machine::project_root().join("target/bench-venv/envoy")
}

/// Of `<program>  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`, what tells it from other releases.
pub(super) fn version(line: &str) -> String {
    format!("Envoy {}", line.split('/').rev().nth(3).unwrap_or(line))
}

pub(crate) fn launch(setup: &Setup<'_>) -> anyhow::Result<Launch> {
    let path = setup.directory.join("envoy.json");
    fs::write(&path, serde_json::to_vec_pretty(&config(setup))?)
        .with_context(|| format!("write {}", path.display()))?;
    let args = [
        "-c".into(),
        path.into(),
        "--concurrency".into(),
        "1".into(),
        "-l".into(),
        "warn".into(),
        "--use-dynamic-base-id".into(),
    ];
    Ok(Launch { program: program(), args: args.into(), core: setup.core })
}

fn config(setup: &Setup<'_>) -> Value {
    let canary_header = json!({"name": "x-user-tag", "string_match": {"exact": "canary-user"}});
    let router = json!({
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
    });
    let filters: Vec<Value> = setup.plugin.map(plugin).into_iter().chain([router]).collect();
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "web", "domains": ["*"], "routes": [
            {"match": {"prefix": "/", "headers": [canary_header]}, "route": {"cluster": "canary"}},
            {"match": {"prefix": "/"}, "route": {"cluster": "stable"}},
        ]}]},
        "http_filters": filters,
    });
    json!({
        "static_resources": {
            "listeners": [{
                "address": address(setup.address),
                "filter_chains": [{"filters": [{
                    "name": "envoy.filters.network.http_connection_manager",
                    "typed_config": manager,
                }]}],
            }],
            "clusters": [cluster("stable", setup.stable(), setup), cluster("canary", setup.canary(), setup)],
        },
    })
}

/// As its documentation shows it: V8, a configuration in a string.
fn plugin(plugin: Plugin<'_>) -> Value {
    json!({
        "name": "envoy.filters.http.wasm",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.wasm.v3.Wasm",
            "config": {
                "name": plugin.name,
                "root_id": "",
                "configuration": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": plugin.configuration},
                "vm_config": {
                    "runtime": "envoy.wasm.runtime.v8",
                    "code": {"local": {"filename": plugin.module()}},
                },
            },
        },
    })
}

fn cluster(name: &str, at: SocketAddr, setup: &Setup<'_>) -> Value {
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(at)}}]}]},
    });
    if setup.versions.has_http2_backend() {
        const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
        let http2 = json!({
            "@type": format!("type.googleapis.com/{OPTIONS}"),
            "explicit_http_config": {"http2_protocol_options": {}},
        });
        cluster["typed_extension_protocol_options"] = json!({ OPTIONS: http2 });
    }
    cluster
}

fn address(at: SocketAddr) -> Value {
    json!({"socket_address": {"address": at.ip(), "port_value": at.port()}})
}
