//! nginx: one worker, no access log, upstream connections kept alive, bodies held in memory rather than spooled to disk.

use std::fs;

use anyhow::Context as _;

use super::{Setup, installed};
use crate::process::Launch;

pub(super) fn launch(setup: &Setup<'_>) -> anyhow::Result<Launch> {
    let path = setup.directory.join("nginx.conf");
    fs::write(&path, config(setup)).with_context(|| format!("write {}", path.display()))?;
    let args = ["-p".into(), setup.directory.into(), "-c".into(), path.into(), "-e".into(), "stderr".into()];
    Ok(Launch { program: installed("nginx"), args: args.into(), core: setup.core })
}

fn config(setup: &Setup<'_>) -> String {
    let Setup { directory, address, .. } = setup;
    let http2 = if setup.versions.has_http2_client() { " http2" } else { "" };
    // In this release nothing but calls of gRPC goes to backends in HTTP/2.
    let (pass, scheme) = if setup.versions.has_http2_backend() { ("grpc", "grpc") } else { ("proxy", "http") };
    let directory = directory.display();
    // The worker's descriptors may not outnumber the caller's limit; 1,000 connections are far more than any case opens.
    format!(
        r#"daemon off;
worker_processes 1;
pid "{directory}/nginx.pid";
error_log stderr warn;
events {{
    worker_connections 1000;
}}
http {{
    access_log off;
    client_body_temp_path "{directory}/nginx-body";
    proxy_temp_path "{directory}/nginx-proxy";
    fastcgi_temp_path "{directory}/nginx-fastcgi";
    uwsgi_temp_path "{directory}/nginx-uwsgi";
    scgi_temp_path "{directory}/nginx-scgi";
    keepalive_requests 1000000000;
    tcp_nodelay on;
    upstream stable {{
        server {stable};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    upstream canary {{
        server {canary};
        keepalive 64;
        keepalive_requests 1000000000;
    }}
    map $http_x_user_tag $backend {{
        default stable;
        canary-user canary;
    }}
    server {{
        listen {address}{http2};
        location / {{
            {pass}_pass {scheme}://$backend;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $host;
            client_body_buffer_size 128k;
            proxy_max_temp_file_size 0;
        }}
    }}
}}
"#,
        stable = setup.stable(),
        canary = setup.canary(),
    )
}
