//! How workloads are reached from other nodes: what is for one workload, else for its namespace, else for all.

use std::collections::HashSet;

use weir_core::name::ObjectName;
use weir_core::workload::{Mtls, MtlsMode};

use super::guards::ROOT;
use super::names::Names;
use crate::diagnostic::Diagnostic;
use crate::document::Document;
use crate::kinds::peer_authentication::PeerAuthentication;
use crate::kinds::pod::Pod;
use crate::place::Segment;

type Found<'s> = (&'s Document, &'s PeerAuthentication);

/// How each pod of the mesh is reached, in their order.
pub(super) fn of_pods(names: &Names<'_>, diagnostics: &mut Vec<Diagnostic>) -> Vec<Mtls> {
    // Of several for the same the first by name counts.
    let of_namespace = |namespace: &str| {
        let mut own = names
            .authentications
            .iter()
            .filter(|(document, one)| *document.name.namespace == *namespace && one.selector.is_empty());
        own.find_map(|(_, one)| one.mode)
    };
    let for_all = of_namespace(ROOT).unwrap_or(MtlsMode::Strict);
    let mut used: HashSet<&ObjectName> = HashSet::new();
    let mut of_pod = |(name, _, pod): &(&ObjectName, &Document, &Pod)| {
        let own: Option<&Found<'_>> = names.authentications.iter().find(|(document, one)| {
            document.name.namespace == name.namespace && !one.selector.is_empty() && one.selector.is_for(&pod.labels)
        });
        let wider = || of_namespace(&name.namespace).unwrap_or(for_all);
        let Some((document, own)) = own else { return Mtls::all(wider()) };
        used.insert(&document.name);
        Mtls { mode: own.mode.unwrap_or_else(wider), ports: own.ports.clone() }
    };
    let all = names.pods.iter().map(&mut of_pod).collect();
    for (document, one) in &names.authentications {
        if !one.selector.is_empty() && !used.contains(&document.name) {
            let path = [Segment::Key("spec"), Segment::Key("selector")];
            let message = "no pod has these labels, or another is for all that do; this has no effect".to_owned();
            diagnostics.push(document.scope().warning(&path, message));
        }
    }
    all
}
