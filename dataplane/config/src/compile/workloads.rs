//! Pods to workloads.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use weir_core::authorization::{Guard, Principal};
use weir_core::balance::Weight;
use weir_core::name::ObjectName;
use weir_core::workload::{Enrolment, Mtls, Workload};

use super::names::Names;
use crate::diagnostic::Diagnostic;
use crate::kinds::endpoint_slice::PodRef;

/// A pod as far as endpoints are concerned.
pub(super) struct Known {
    pub(super) name: Arc<str>,
    pub(super) version: Option<Arc<str>>,
    pub(super) node: Option<Arc<str>>,
    pub(super) weight: Option<Weight>,
}

/// All pods.
pub(super) struct Workloads {
    list: Vec<Arc<Workload>>,
    known: HashMap<PodRef, Known>,
    by_address: HashMap<IpAddr, PodRef>,
}

impl Workloads {
    /// Each pod's guard, and how it is reached, come in their order.
    pub(super) fn new(
        names: &Names<'_>,
        of_pods: impl Iterator<Item = (Option<Arc<Guard>>, Mtls)>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut workloads = Self { list: Vec::new(), known: HashMap::new(), by_address: HashMap::new() };
        for ((name, document, pod), (guard, mtls)) in names.pods.iter().zip(of_pods) {
            let version: Option<Arc<str>> = pod.version.as_deref().map(Into::into);
            let reference = reference(name);
            let mut addresses = Vec::new();
            for address in &pod.addresses {
                match workloads.by_address.entry(*address) {
                    Entry::Vacant(free) => {
                        free.insert(reference.clone());
                        addresses.push(*address);
                    }
                    Entry::Occupied(other) if *other.get() == reference => {}
                    // In a cluster this passes: an address can be given anew before the old pod's end is known.
                    Entry::Occupied(other) => {
                        let PodRef { namespace, name } = other.get();
                        let message =
                            format!("{address} is also the address of Pod {namespace}/{name}, which keeps it");
                        diagnostics.push(document.scope().warning(&[], message));
                    }
                }
            }
            let own = pod.enrolment;
            let of_namespace = || names.namespace(&name.namespace).and_then(|namespace| namespace.enrolment);
            let enrolment = own.or_else(of_namespace).unwrap_or(Enrolment::Enrolled);
            let is_of_mesh = of_namespace() == Some(Enrolment::Enrolled) && enrolment == Enrolment::Enrolled;
            let node: Option<Arc<str>> = pod.node.as_deref().map(Into::into);
            workloads.list.push(Arc::new(Workload {
                app: pod.app.as_ref().map_or_else(|| Arc::clone(&name.name), |(_, app)| app.as_str().into()),
                app_label: pod.app.as_ref().map(|(label, app)| (label.as_str().into(), app.as_str().into())),
                version: version.clone(),
                addresses,
                enrolment,
                principal: Principal::new(names.trust_domain, &name.namespace, &pod.service_account),
                guard: guard.filter(|_| enrolment == Enrolment::Enrolled),
                node: node.clone(),
                mtls: Some(mtls).filter(|_| is_of_mesh),
                ..Workload::new(&name.namespace, &name.name, &pod.service_account)
            }));
            workloads
                .known
                .insert(reference, Known { name: Arc::clone(&name.name), version, node, weight: pod.weight });
        }
        workloads
    }

    /// Whose endpoint it is: the pod that its slice names, else the one that has this address.
    pub(super) fn pod<'a>(&'a self, named: Option<&'a PodRef>, address: IpAddr) -> Option<&'a PodRef> {
        named.or_else(|| self.by_address.get(&address))
    }

    pub(super) fn find(&self, pod: &PodRef) -> Option<&Known> {
        self.known.get(pod)
    }

    pub(super) fn into_list(self) -> Vec<Arc<Workload>> {
        self.list
    }
}

fn reference(name: &ObjectName) -> PodRef {
    PodRef { namespace: name.namespace.to_string(), name: name.name.to_string() }
}
