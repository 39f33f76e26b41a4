//! What instances reach beyond their exchanges: services of the mesh, and time.

mod grpc;
mod http;

use std::rc::{Rc, Weak};
use std::sync::Arc;

use ::http::{Request, Response, Version};
use weir_core::cluster::Cluster;
use weir_core::name::{ClusterName, DEFAULT_NAMESPACE, PeerAddr, ServiceName};
use weir_core::snapshot::Protocol;
use weir_core::split::Target;
use weir_plugin_host::{Environment, GrpcCall, HttpCall, Notices, Plugin, Vm};

use crate::authorize;
use crate::body::{Incoming, RequestBody};
use crate::tunnel::{Caller, Way};
use crate::upstream::{Endpoint, Lease, Picked, Sender};
use crate::worker::Worker;

/// Bytes of the body of a response, and of a message, that a plugin is given.
const RESPONSE_BYTES: usize = 1 << 20;

/// As Envoy says it: there are plugins that read this.
const GONE: &str = "upstream connect error or disconnect/reset before headers";

/// The worker that instances are in.
#[derive(Debug)]
pub(super) struct Outside(pub(super) Weak<Worker>);

impl Outside {
    /// The revision in force.
    pub(super) fn revision(&self) -> u64 {
        self.0.upgrade().map_or(0, |worker| worker.snapshot().sequence.0)
    }
}

impl Environment for Outside {
    fn is_known(&self, upstream: &str) -> bool {
        self.0.upgrade().is_some_and(|worker| cluster(&worker, upstream).is_some())
    }

    fn may_call(&self, plugin: &Plugin, upstream: &str) -> bool {
        parse_service(upstream).is_some_and(|name| plugin.may_call(&name)) && self.is_known(upstream)
    }

    fn send(&self, vm: &Rc<Vm>, call: HttpCall) {
        let (worker, vm) = (Weak::clone(&self.0), Rc::downgrade(vm));
        tokio::task::spawn_local(async move {
            let id = call.id;
            let response = http::exchange(&worker, call).await;
            if let Some(vm) = vm.upgrade() {
                vm.on_http_call_response(id, response);
            }
        });
    }

    fn call(&self, vm: &Rc<Vm>, call: GrpcCall) {
        tokio::task::spawn_local(grpc::run(Weak::clone(&self.0), Rc::downgrade(vm), call));
    }

    fn begin_listening(&self, vm: &Rc<Vm>, notices: Arc<Notices>) {
        let vm = Rc::downgrade(vm);
        tokio::task::spawn_local(async move {
            while let Some(queue) = std::future::poll_fn(|context| notices.poll_next(context)).await {
                let Some(vm) = vm.upgrade() else { return };
                vm.on_queue_ready(queue);
                // A queue that is filled as fast as it is emptied is nobody else's wait.
                tokio::task::yield_now().await;
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

/// A connection to an endpoint of what a plugin calls, in this version or in the one that the service speaks.
async fn lease(worker: &Worker, cluster: &Arc<Cluster>, version: Option<Version>) -> Result<Leased, &'static str> {
    let nobody = PeerAddr(([0, 0, 0, 0], 0).into());
    let picked = worker.pools.pick(cluster, nobody, None, worker.random.next());
    let Picked { endpoint, .. } = picked.ok_or("no healthy upstream")?;
    let caller = Caller { peer: nobody, proven: None };
    authorize::connection(worker, caller, endpoint.address()).map_err(|_| "a policy denies it")?;
    let way = worker.way(caller, endpoint.address());
    let spoken = if cluster.protocol == Protocol::Http2 { Version::HTTP_2 } else { Version::HTTP_11 };
    let version = version.unwrap_or(spoken);
    let sender = Sender { account: &worker.own_account, way: &way, client: nobody };
    let lease = endpoint.lease(version, sender).await.map_err(|_| GONE)?;
    Ok(Leased { endpoint, version, way, client: nobody, lease })
}

struct Leased {
    endpoint: Rc<Endpoint>,
    version: Version,
    way: Way,
    client: PeerAddr,
    lease: Lease,
}

impl Leased {
    /// Sends a request, on another connection where the endpoint had closed the one that was kept.
    async fn send(
        &mut self,
        worker: &Worker,
        request: Request<RequestBody>,
    ) -> Result<Response<Incoming>, &'static str> {
        let mut parcel = Some(request);
        match self.lease.send(&mut parcel).await {
            Ok(response) => Ok(response),
            Err(_) if self.lease.is_reused() && parcel.is_some() => {
                let sender = Sender { account: &worker.own_account, way: &self.way, client: self.client };
                self.lease = self.endpoint.lease_fresh(self.version, sender).await.map_err(|_| GONE)?;
                self.lease.send(&mut parcel).await.map_err(|_| GONE)
            }
            Err(_) => Err(GONE),
        }
    }
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
