//! `/api/v1/policy/suggest`: the policies that would allow what none allows and what was tried all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use weir_core::snapshot::Snapshot;
use weir_core::workload::{Enrolment, Workload};

use crate::Node;
use crate::answer::Json;
use crate::drops::Wanted;

/// Policies, and what they are made from.
#[derive(Debug, Serialize)]
pub(crate) struct Suggestion {
    /// The policies as documents; empty when there is nothing to allow.
    yaml: String,
    /// How many connections between two ends were seen that no policy allows.
    seen: usize,
    /// How many of them cannot be said in a policy any more: their pods have gone.
    gone: usize,
    /// How many more there were than are kept.
    unkept: u64,
}

/// Who is let in: a service account, or an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Caller {
    Account { namespace: Arc<str>, account: Arc<str> },
    Address(IpAddr),
}

/// What a policy is for: a namespace, and a label of pods there.
type For = (Arc<str>, Option<(Arc<str>, Arc<str>)>);

pub(crate) async fn suggest(State(node): State<Node>) -> Json<Suggestion> {
    let (wanted, unkept) = node.drops.wanted();
    Json(suggestion(&node.snapshot.load(), &wanted, unkept))
}

fn suggestion(snapshot: &Snapshot, wanted: &[Wanted], unkept: u64) -> Suggestion {
    let mut policies: BTreeMap<For, BTreeMap<Caller, BTreeSet<u16>>> = BTreeMap::new();
    let mut gone = 0;
    for one in wanted {
        let Some(destination) = snapshot.workload(one.destination) else {
            gone += 1;
            continue;
        };
        let caller = caller(snapshot.workload(one.source).map(|workload| &**workload), one.source);
        let key = (Arc::clone(&destination.namespace), destination.app_label.clone());
        policies.entry(key).or_default().entry(caller).or_default().insert(one.port);
    }
    let mut yaml = String::new();
    for (key, callers) in &policies {
        policy(&mut yaml, key, callers);
    }
    Suggestion { yaml, seen: wanted.len(), gone, unkept }
}

fn caller(workload: Option<&Workload>, address: IpAddr) -> Caller {
    match workload.filter(|workload| workload.enrolment == Enrolment::Enrolled) {
        Some(workload) => Caller::Account {
            namespace: Arc::clone(&workload.namespace),
            account: Arc::clone(&workload.service_account),
        },
        None => Caller::Address(address),
    }
}

fn policy(to: &mut String, (namespace, label): &For, callers: &BTreeMap<Caller, BTreeSet<u16>>) {
    let name = label.as_ref().map_or("all", |(_, app)| app);
    // Writing to a String does not fail.
    let _ = write!(
        to,
        "---\napiVersion: weir.dev/v1\nkind: AuthorizationPolicy\nmetadata:\n  name: {name}-observed\n  namespace: {namespace}\n\
         spec:\n"
    );
    if let Some((label, app)) = label {
        let _ = write!(to, "  selector:\n    matchLabels:\n      {label}: \"{app}\"\n");
    }
    to.push_str("  action: ALLOW\n  rules:\n");
    // Those that want the same ports are one rule.
    let mut by_ports: BTreeMap<&BTreeSet<u16>, Vec<&Caller>> = BTreeMap::new();
    callers.iter().for_each(|(caller, ports)| by_ports.entry(ports).or_default().push(caller));
    for (ports, callers) in by_ports {
        to.push_str("    - from:\n");
        let accounts = callers.iter().filter_map(|caller| match caller {
            Caller::Account { namespace, account } => Some(format!("{namespace}/{account}")),
            Caller::Address(_) => None,
        });
        let addresses = callers.iter().filter_map(|caller| match caller {
            Caller::Address(address) => Some(format!("\"{address}\"")),
            Caller::Account { .. } => None,
        });
        for (field, values) in
            [("serviceAccounts", accounts.collect::<Vec<_>>()), ("ipBlocks", addresses.collect::<Vec<_>>())]
        {
            if !values.is_empty() {
                let _ = write!(to, "        - source:\n            {field}: [{}]\n", values.join(", "));
            }
        }
        let ports: Vec<String> = ports.iter().map(|port| format!("\"{port}\"")).collect();
        let _ = write!(to, "      to:\n        - operation:\n            ports: [{}]\n", ports.join(", "));
    }
}

#[cfg(test)]
mod tests {
    use weir_core::revision::{RevisionId, Sequence};

    use super::*;

    #[test]
    fn what_was_tried_becomes_policies() {
        let pod = |namespace: &str, account: &str, app: Option<&str>, address: &str| {
            Arc::new(Workload {
                app_label: app.map(|app| ("app".into(), app.into())),
                addresses: vec![address.parse().unwrap()],
                ..Workload::new(&namespace.into(), &address.into(), account)
            })
        };
        let pods = [
            pod("shop", "web", Some("web"), "10.0.0.1"),
            pod("shop", "web", Some("web"), "10.0.0.2"),
            pod("shop", "db", Some("db"), "10.0.0.3"),
            pod("other", "default", None, "10.0.0.4"),
        ];
        let snapshot = Snapshot::new(Sequence(1), RevisionId::of([]), Vec::new(), &pods);
        let wanted = |source: &str, destination: &str, port| Wanted {
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            port,
        };
        let all = [
            wanted("10.0.0.1", "10.0.0.3", 5432),
            wanted("10.0.0.2", "10.0.0.3", 5432),
            wanted("10.0.0.4", "10.0.0.3", 5432),
            wanted("192.168.0.1", "10.0.0.3", 9100),
            wanted("10.0.0.1", "10.0.0.9", 80),
        ];
        let suggestion = suggestion(&snapshot, &all, 0);
        assert_eq!((suggestion.seen, suggestion.gone), (5, 1));
        assert_eq!(
            suggestion.yaml,
            r#"---
apiVersion: weir.dev/v1
kind: AuthorizationPolicy
metadata:
  name: db-observed
  namespace: shop
spec:
  selector:
    matchLabels:
      app: "db"
  action: ALLOW
  rules:
    - from:
        - source:
            serviceAccounts: [other/default, shop/web]
      to:
        - operation:
            ports: ["5432"]
    - from:
        - source:
            ipBlocks: ["192.168.0.1"]
      to:
        - operation:
            ports: ["9100"]
"#
        );
    }
}
