//! What plugins can know of a request, or of a connection that is none of HTTP.

use std::net::SocketAddr;
use std::time::SystemTime;

use http::Version;
use weir_core::filter::Scheme;
use weir_core::name::OriginalDst;
use weir_core::snapshot::{Frontend, Snapshot};
use weir_plugin_host::{Decided, Facts};

use crate::downstream::Downstream;
use crate::plan::{Entrance, Meant};

/// Of a client's connection to this service.
pub(super) fn of(downstream: &Downstream, snapshot: &Snapshot, frontend: &Frontend, version: Option<Version>) -> Facts {
    let Downstream { peer, meant, client, .. } = downstream;
    let destination = match meant {
        Meant::Address(OriginalDst(address)) | Meant::Workload(address) => *address,
        Meant::Gateway(Entrance { bind, .. }) => SocketAddr::new(bind.ip.unwrap_or(peer.0.ip()), bind.port),
        Meant::Service(_) => SocketAddr::new(peer.0.ip(), frontend.name.port),
    };
    let tls = match meant {
        Meant::Gateway(Entrance { tls, .. }) => tls.as_ref(),
        Meant::Address(_) | Meant::Service(_) | Meant::Workload(_) => None,
    };
    Facts {
        source: peer.0,
        destination,
        connection: u64::from(peer.0.port()),
        version,
        scheme: match client.scheme {
            Scheme::Http => "http",
            Scheme::Https => "https",
        },
        server_name: tls.map(|tls| tls.server_name.clone()).filter(|name| !name.is_empty()),
        tls_version: tls.map(|tls| tls.version),
        started: SystemTime::now(),
        revision: snapshot.sequence.0,
        service: frontend.name.clone(),
        workload: snapshot.workload(peer.0.ip()).cloned(),
        decided: Decided::default(),
    }
}
