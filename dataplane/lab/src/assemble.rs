//! The steps that make a planned layout real. Each may fail; the caller then removes
//! whatever bears the lab's id.

use std::thread;

use nix::net::if_::if_nametoindex;

use crate::inside::enter;
use crate::layout::{Layout, Namespace, Pod};
use crate::{LabError, cgroup, plan, registry, sysctl, tool};

/// Settings of every namespace. IPv6 addresses shall be usable at once, so duplicate address
/// detection is off: the kernel needs both keys for that, before the link exists.
const EVERYWHERE6: [(&str, &str); 4] = [
    ("net.ipv6.conf.all.accept_dad", "0"),
    ("net.ipv6.conf.default.accept_dad", "0"),
    ("net.ipv6.conf.all.accept_ra", "0"),
    ("net.ipv6.conf.default.accept_ra", "0"),
];
/// Settings of nodes.
const NODE4: [(&str, &str); 1] = [("net.ipv4.ip_forward", "1")];
const NODE6: [(&str, &str); 2] = [("net.ipv6.conf.all.forwarding", "1"), ("net.ipv6.conf.default.forwarding", "1")];

/// Makes namespaces, cgroups, links and addresses, and fills in the interface indexes.
pub(crate) fn assemble(layout: &mut Layout) -> Result<(), LabError> {
    for namespace in layout.namespaces() {
        cgroup::create(&namespace.cgroup)?;
    }
    add_namespaces(layout.namespaces())?;
    settle(&layout.node, Role::Node)?;
    if let Some(remote) = &layout.remote {
        settle(remote, Role::Node)?;
    }
    for pod in &layout.pods {
        settle(&pod.namespace, Role::Pod)?;
    }
    let on = |is_remote: bool| layout.pods.iter().filter(move |pod| pod.spec.on_remote == is_remote);
    let mut script = plan::node_script(layout);
    script.extend(on(false).map(plan::host_script));
    tool::ip_batch(Some(&layout.node.name), &script)?;
    if let Some(remote) = layout.remote.as_ref().filter(|_| on(true).next().is_some()) {
        let mut script = plan::far_script(remote);
        script.extend(on(true).map(plan::host_script));
        tool::ip_batch(Some(&remote.name), &script)?;
    }
    let mut scripts: Vec<_> =
        layout.pods.iter().map(|pod| (pod.namespace.name.as_str(), plan::pod_script(pod))).collect();
    if let Some(remote) = &layout.remote {
        scripts.push((&remote.name, plan::remote_script(remote)));
    }
    run_scripts(&scripts)?;
    let whole = layout.clone();
    index(&whole, &mut layout.pods)
}

/// Adds one pod to a lab that stands.
pub(crate) fn add_pod(layout: &Layout, pod: &mut Pod) -> Result<(), LabError> {
    cgroup::create(&pod.namespace.cgroup)?;
    add_namespaces([&pod.namespace])?;
    settle(&pod.namespace, Role::Pod)?;
    tool::ip_batch(Some(&layout.node_of(pod).name), &plan::host_script(pod))?;
    tool::ip_batch(Some(&pod.namespace.name), &plan::pod_script(pod))?;
    index(layout, std::slice::from_mut(pod))
}

/// The first `ip netns add` on a machine turns `/run/netns` into a shared mount, which two
/// at once would do twice: labs take turns.
fn add_namespaces<'a>(all: impl IntoIterator<Item = &'a Namespace>) -> Result<(), LabError> {
    let _turn = registry::lock()?;
    tool::ip_batch(None, &plan::add_namespaces(all))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Role {
    Node,
    Pod,
}

fn settle(namespace: &Namespace, role: Role) -> Result<(), LabError> {
    let six = namespace.ip6.is_some();
    let mut pairs: Vec<(&str, &str)> = Vec::new();
    if six {
        pairs.extend(EVERYWHERE6);
    }
    if role == Role::Node {
        pairs.extend(NODE4);
        pairs.extend(NODE6.iter().filter(|_| six));
    }
    sysctl::set_all(namespace, &pairs)
}

/// The namespaces do not depend on each other, so their scripts run at once.
fn run_scripts(scripts: &[(&str, String)]) -> Result<(), LabError> {
    let results: Vec<Result<(), LabError>> = thread::scope(|scope| {
        let start = |(name, script): &'_ (&str, String)| {
            let (name, script) = ((*name).to_owned(), script.clone());
            scope.spawn(move || tool::ip_batch(Some(&name), &script))
        };
        let threads: Vec<_> = scripts.iter().map(start).collect();
        let joined = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        });
        joined.collect()
    });
    results.into_iter().collect()
}

fn index(layout: &Layout, pods: &mut [Pod]) -> Result<(), LabError> {
    for node in std::iter::once(&layout.node).chain(&layout.remote) {
        enter(node, || {
            for pod in pods.iter_mut().filter(|pod| layout.node_of(pod) == node) {
                let link = pod.host_link.as_str();
                let found = if_nametoindex(link).map_err(std::io::Error::from);
                pod.host_ifindex = found.map_err(LabError::io(format!("find the link {link}")))?;
            }
            Ok(())
        })??;
    }
    Ok(())
}
