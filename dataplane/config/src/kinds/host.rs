//! The host of a destination: a service by its name in the cluster's DNS.

use weir_core::name::ServiceName;

use crate::kinds::metadata::is_label;

/// `name`, `name.namespace`, `name.namespace.svc` or `name.namespace.svc.cluster.local`. Without a namespace it is the
/// rule's own.
pub(super) fn parse(host: &str, own_namespace: &str) -> Option<ServiceName> {
    let host =
        host.strip_suffix(".cluster.local").map_or(host, |rest| if rest.ends_with(".svc") { rest } else { host });
    let host = match host.strip_suffix(".svc") {
        Some(rest) if rest.contains('.') => rest,
        _ => host,
    };
    let (name, namespace) = host.split_once('.').map_or((host, None), |(name, namespace)| (name, Some(namespace)));
    let is_valid = is_label(name) && namespace.is_none_or(is_label);
    is_valid.then(|| ServiceName::new(namespace.unwrap_or(own_namespace), name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_four_forms_and_nothing_else() {
        let cases = [
            ("canary", Some("own/canary")),
            ("canary.team", Some("team/canary")),
            ("canary.team.svc", Some("team/canary")),
            ("canary.team.svc.cluster.local", Some("team/canary")),
            ("canary.svc", Some("svc/canary")),
            ("canary.team.cluster.local", None),
            ("canary.team.example.com", None),
            ("canary:8080", None),
            ("http://canary", None),
            ("10.0.0.1", None),
            ("Canary", None),
            ("canary.", None),
            ("", None),
        ];
        for (host, expected) in cases {
            assert_eq!(parse(host, "own").map(|name| name.to_string()).as_deref(), expected, "{host}");
        }
    }
}
