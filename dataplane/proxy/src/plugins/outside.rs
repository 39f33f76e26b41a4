//! What instances reach beyond their exchanges: services of the mesh, and time.

use std::rc::{Rc, Weak};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, Version, response};
use weir_core::cluster::Cluster;
use weir_core::name::{ClusterName, DEFAULT_NAMESPACE, PeerAddr, ServiceName};
use weir_core::snapshot::Protocol;
use weir_core::split::Target;
use weir_plugin_host::{CallResponse, Environment, HttpCall, Vm};

use crate::body::RequestBody;
use crate::upstream::Picked;
use crate::worker::Worker;

/// Bytes of the body of a response that a plugin is given.
const RESPONSE_BYTES: usize = 1 << 20;

/// The worker that instances are in.
#[derive(Debug)]
pub(super) struct Outside(pub(super) Weak<Worker>);

impl Environment for Outside {
    fn is_known(&self, upstream: &str) -> bool {
        self.0.upgrade().is_some_and(|worker| cluster(&worker, upstream).is_some())
    }

    fn send(&self, vm: &Rc<Vm>, call: HttpCall) {
        let (worker, vm) = (Weak::clone(&self.0), Rc::downgrade(vm));
        tokio::task::spawn_local(async move {
            let id = call.id;
            let response = exchange(&worker, call).await;
            if let Some(vm) = vm.upgrade() {
                vm.on_http_call_response(id, response);
            }
        });
    }

    fn begin_ticking(&self, vm: &Rc<Vm>) {
        let vm = Rc::downgrade(vm);
        tokio::task::spawn_local(async move {
            while let Some(period) = vm.upgrade().and_then(|vm| vm.tick_period()) {
                tokio::time::sleep(period).await;
                let Some(vm) = vm.upgrade() else { return };
                vm.tick();
            }
        });
    }
}

/// Sends a request of a plugin's own, and reads what comes of it.
async fn exchange(worker: &Weak<Worker>, call: HttpCall) -> CallResponse {
    let timeout = call.timeout;
    match tokio::time::timeout(timeout, sent(worker, call)).await {
        Ok(Ok(response)) => response,
        // As Envoy says it: there are plugins that read this.
        Ok(Err(reason)) => failed(StatusCode::SERVICE_UNAVAILABLE, reason),
        Err(_) => failed(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"),
    }
}

async fn sent(worker: &Weak<Worker>, call: HttpCall) -> Result<CallResponse, &'static str> {
    const GONE: &str = "upstream connect error or disconnect/reset before headers";
    let HttpCall { upstream, head, body, .. } = call;
    let worker = worker.upgrade().ok_or(GONE)?;
    let cluster = cluster(&worker, &upstream).ok_or("no such upstream")?;
    let nobody = PeerAddr(([0, 0, 0, 0], 0).into());
    let picked = worker.pools.pick(&cluster, nobody, None, worker.random.next());
    let Picked { endpoint, .. } = picked.ok_or("no healthy upstream")?;
    let version = if cluster.protocol == Protocol::Http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    let mut lease = endpoint.lease(version, &worker.own_account).await.map_err(|_| GONE)?;
    let body = if body.is_empty() { RequestBody::Empty } else { RequestBody::Fixed(Some(body)) };
    let mut parcel = Some(Request::from_parts(head, body));
    let response = match lease.send(&mut parcel).await {
        Ok(response) => response,
        Err(_) if lease.is_reused() && parcel.is_some() => {
            // The endpoint had closed a connection that was kept.
            lease = endpoint.lease_fresh(version, &worker.own_account).await.map_err(|_| GONE)?;
            lease.send(&mut parcel).await.map_err(|_| GONE)?
        }
        Err(_) => return Err(GONE),
    };
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = std::future::poll_fn(|context| lease.poll_frame(context, &mut incoming)).await {
        let frame = frame.map_err(|_| GONE)?;
        match frame.into_data() {
            Ok(data) if body.len() + data.len() > RESPONSE_BYTES => return Err("the response is too large"),
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    lease.give_back();
    Ok(CallResponse { head, body: body.freeze(), trailers })
}

fn failed(status: StatusCode, text: &'static str) -> CallResponse {
    let mut head: response::Parts = Response::new(()).into_parts().0;
    head.status = status;
    CallResponse { head, body: Bytes::from_static(text.as_bytes()), trailers: HeaderMap::new() }
}

/// The cluster that a plugin means, as the snapshot of this moment has it.
fn cluster(worker: &Worker, upstream: &str) -> Option<Arc<Cluster>> {
    let snapshot = worker.snapshot();
    let frontend = snapshot.frontend(&parse_service(upstream)?)?;
    match &frontend.service.target {
        Target::Cluster(cluster) => Some(Arc::clone(cluster)),
        Target::Unresolved(_) => None,
    }
}

/// A service by one of the names that plugins write: `namespace/name:port` as Weir does, `name:port` and
/// `name.namespace:port` (and on, down to `svc.cluster.local`), and `outbound|port|subset|host`, as Istio calls clusters.
pub(crate) fn parse_service(upstream: &str) -> Option<ClusterName> {
    let mut parts = upstream.split('|');
    let (host, port) = match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some("outbound"), Some(port), Some(_), Some(host)) => (host, port),
        _ => upstream.rsplit_once(':')?,
    };
    let port = port.parse().ok()?;
    let name = match host.split_once('/') {
        Some((namespace, name)) => ServiceName::new(namespace, name),
        None => {
            let mut labels = host.trim_end_matches('.').split('.');
            let name = labels.next()?;
            ServiceName::new(labels.next().unwrap_or(DEFAULT_NAMESPACE), name)
        }
    };
    Some(ClusterName { service: name, port })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_have_many_names() {
        for (upstream, expected) in [
            ("shop/cart:80", Some("shop/cart:80")),
            ("cart:80", Some("default/cart:80")),
            ("cart.shop:80", Some("shop/cart:80")),
            ("cart.shop.svc.cluster.local:80", Some("shop/cart:80")),
            ("outbound|80||cart.shop.svc.cluster.local", Some("shop/cart:80")),
            ("outbound|80|v1|cart.shop.svc.cluster.local", Some("shop/cart:80")),
            ("cart", None),
            ("cart:http", None),
            ("outbound|80", None),
        ] {
            assert_eq!(parse_service(upstream).map(|name| name.to_string()).as_deref(), expected, "{upstream}");
        }
    }
}
