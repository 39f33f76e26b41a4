//! `HAProxy`: one thread, no log, upstream connections shared as far as it will share them.

use std::fs;

use anyhow::Context as _;

use super::{Setup, installed};
use crate::process::Launch;

pub(super) fn launch(setup: &Setup<'_>) -> anyhow::Result<Launch> {
    let path = setup.directory.join("haproxy.cfg");
    fs::write(&path, config(setup)).with_context(|| format!("write {}", path.display()))?;
    Ok(Launch {
        program: installed("haproxy"),
        args: ["-db".into(), "-f".into(), path.into()].into(),
        core: setup.core,
    })
}

fn config(setup: &Setup<'_>) -> String {
    let address = setup.address;
    let proto = if setup.versions.has_http2_backend() { " proto h2" } else { "" };
    format!(
        "global
    nbthread 1
    maxconn 4000
defaults
    mode http
    timeout connect 1s
    timeout client 30s
    timeout server 30s
    http-reuse always
    option http-keep-alive
frontend web
    bind {address}
    acl canary req.hdr(x-user-tag) -m str canary-user
    use_backend canary if canary
    default_backend stable
backend stable
    server s1 {stable}{proto}
backend canary
    server c1 {canary}{proto}
",
        stable = setup.stable(),
        canary = setup.canary(),
    )
}
