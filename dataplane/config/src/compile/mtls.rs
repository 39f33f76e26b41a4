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

#[cfg(test)]
mod tests {
    use weir_core::revision::Sequence;
    use weir_core::stats::StatsTable;
    use weir_core::workload::MtlsMode::{self, Disabled, Permissive, Strict};

    use crate::{SourceFile, compile, parse};

    /// How a pod of an enrolled namespace is reached at ports 80 and 81, with these documents.
    fn reached(documents: &str) -> (Option<[MtlsMode; 2]>, usize) {
        let world = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {weir.dev/mesh: enabled}}
---
apiVersion: v1
kind: Pod
metadata: {name: cart, namespace: shop, labels: {app: cart}}
spec: {nodeName: edge-1, serviceAccountName: cart}
status: {podIPs: [{ip: 10.42.0.7}]}
";
        let text = format!("{world}---\n{documents}").into();
        let parsed = parse(&[SourceFile { path: std::path::Path::new("rules.yaml").into(), text }]);
        assert_eq!(parsed.diagnostics, [], "{documents}");
        let compiled = compile(&parsed.documents, Sequence(1), &mut StatsTable::default());
        let snapshot = compiled.snapshot.unwrap();
        let workload = snapshot.workload("10.42.0.7".parse().unwrap()).unwrap();
        (workload.mtls.as_ref().map(|mtls| [80, 81].map(|port| mtls.at(port))), compiled.diagnostics.len())
    }

    fn document(namespace: &str, name: &str, spec: &str) -> String {
        let kind = "apiVersion: weir.dev/v1\nkind: PeerAuthentication";
        format!("---\n{kind}\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {{{spec}}}\n")
    }

    #[test]
    fn what_is_for_fewer_counts_more() {
        let mode = |mode: &str| format!("mtls: {{mode: {mode}}}");
        let cart = |more: &str| format!("selector: {{matchLabels: {{app: cart}}}}, {more}");
        let root = document("weir-system", "all", &mode("DISABLE"));
        let own = document("shop", "all", &mode("PERMISSIVE"));
        let unset = document("shop", "unset", "");
        let chosen = document("shop", "cart", &cart(&mode("STRICT")));
        let port = document("shop", "port", &cart("portLevelMtls: {'81': {mode: DISABLE}}"));
        let nobody = document("shop", "nobody", "selector: {matchLabels: {app: pay}}, mtls: {mode: DISABLE}");
        let elsewhere = document("other", "all", &mode("DISABLE"));
        let second = document("shop", "b", &mode("DISABLE"));
        for (documents, expected, warnings) in [
            (String::new(), [Strict, Strict], 0),
            (root.clone(), [Disabled, Disabled], 0),
            (root.clone() + &own, [Permissive, Permissive], 0),
            (root.clone() + &unset, [Disabled, Disabled], 0),
            (root + &own + &chosen, [Strict, Strict], 0),
            (own.clone() + &port, [Permissive, Disabled], 0),
            (port, [Strict, Disabled], 0),
            (nobody, [Strict, Strict], 1),
            (elsewhere, [Strict, Strict], 0),
            (own + &second, [Permissive, Permissive], 0),
        ] {
            assert_eq!(reached(&documents), (Some(expected), warnings), "{documents}");
        }
    }
}
