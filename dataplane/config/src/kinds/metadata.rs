//! `metadata`, the same for every kind. Fields that only a cluster needs are passed over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use weir_core::balance::Weight;
use weir_core::route::Created;
use weir_core::workload::Enrolment;

use crate::check::Checker;
use crate::shape::nullable;

/// Says for a pod (as an annotation) or a namespace (as a label) whether the mesh concerns it.
pub(crate) const MESH: &str = "weir.dev/mesh";

/// Says for a namespace what happens to connections to its pods that no policy allows.
const AUTHORIZATION: &str = "weir.dev/authorization";

/// Says of a pod, or of the endpoints of a slice, how much they are to take of the requests of their services.
const WEIGHT: &str = "weir.dev/weight";

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Metadata {
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    #[serde(rename = "creationTimestamp")]
    pub(crate) created: Option<String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "nullable")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Metadata {
    pub(crate) fn check<'a>(&'a self, checker: &mut Checker<'a>) {
        match &self.name {
            None => checker.missing("name", "every document needs a name"),
            Some(name) if !is_subdomain(name) => checker.error_at("name", not_a_name(name)),
            Some(_) => {}
        }
        if let Some(namespace) = self.namespace.as_deref().filter(|namespace| !is_label(namespace)) {
            checker.error_at("namespace", not_a_name(namespace));
        }
    }

    /// When the document was created, as Kubernetes writes it.
    pub(crate) fn created<'a>(&'a self, checker: &mut Checker<'a>) -> Option<Created> {
        let text = self.created.as_deref()?;
        if !is_timestamp(text) {
            let message = format!("\"{text}\" is not a time like 2026-01-31T12:00:00Z");
            checker.error_at("creationTimestamp", message);
            return None;
        }
        Some(Created(text.into()))
    }

    /// What the annotation of endpoints says that they weigh. What is no weight is warned about and has no effect, as
    /// everybody who owns a pod may write it.
    pub(crate) fn weight<'a>(&'a self, checker: &mut Checker<'a>) -> Option<Weight> {
        let text = self.annotations.get(WEIGHT)?;
        let weight = text.parse().ok().and_then(Weight::new);
        if weight.is_none() {
            let message = format!("is no number from 1 to {} but `{text}`, and has no effect", Weight::MAX);
            checker.field("metadata", |c| c.field("annotations", |c| c.field(WEIGHT, |c| c.warning(message))));
        }
        weight
    }

    /// Keeps of the annotations those that Weir reads: of the kinds of a cluster others change all the time.
    pub(crate) fn keep_own_annotations(&mut self) {
        self.annotations.retain(|key, _| key.starts_with("weir.dev/"));
    }

    /// What the labels say that a pod is one of: the label that does, and its value.
    pub(crate) fn app(&self) -> Option<(&str, &str)> {
        let mut labels = ["app.kubernetes.io/name", "app", "k8s-app"].into_iter();
        let found = labels.find_map(|label| self.labels.get_key_value(label));
        found.map(|(label, app)| (label.as_str(), app.as_str())).filter(|(_, app)| !app.is_empty())
    }

    /// The `version` label, under either of its names.
    pub(crate) fn version(&self) -> Option<&str> {
        let label = self.labels.get("version").or_else(|| self.labels.get("app.kubernetes.io/version"));
        label.map(String::as_str)
    }
}

/// Whether it is the one form that Kubernetes writes: in UTC, with whole seconds.
fn is_timestamp(text: &str) -> bool {
    const FORM: &[u8] = b"0000-00-00T00:00:00Z";
    let fits = |(byte, form): (u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == *form };
    text.len() == FORM.len() && text.bytes().zip(FORM).all(fits)
}

fn not_a_name(name: &str) -> String {
    format!("\"{name}\" is not a name: lower-case letters, digits and \"-\", with a letter or digit at both ends")
}

/// Whether it is a label in the sense of RFC 1123, as names of services and namespaces are.
pub(crate) fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    let inner = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-';
    (1..=63).contains(&bytes.len()) && bytes.iter().all(inner) && bytes[0] != b'-' && !text.ends_with('-')
}

/// Whether it is labels with dots between them, as names of most objects are.
pub(crate) fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(is_label)
}

/// The meaning of a mesh annotation or label. Anything else than the two words is warned about and has no effect:
/// everybody who owns a pod writes these, so that they must not be able to hold up a configuration.
pub(crate) fn enrolment<'a>(
    values: &'a BTreeMap<String, String>,
    field: &'static str,
    checker: &mut Checker<'a>,
) -> Option<Enrolment> {
    match values.get(MESH)?.as_str() {
        "enabled" => Some(Enrolment::Enrolled),
        "disabled" => Some(Enrolment::Outside),
        other => {
            let message = format!("is neither `enabled` nor `disabled` but `{other}`, and has no effect");
            checker.field("metadata", |c| c.field(field, |c| c.field(MESH, |c| c.warning(message))));
            None
        }
    }
}

/// What happens to connections that no policy allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// They are kept out.
    Enforce,
    /// They are told of.
    Audit,
    /// Nothing; policies have no effect.
    Off,
}

/// The meaning of a namespace's label about who may reach its pods. What is none of the words closes: whoever wrote it
/// wanted something to be kept out.
pub(crate) fn authorization<'a>(
    labels: &'a BTreeMap<String, String>,
    checker: &mut Checker<'a>,
) -> Option<Authorization> {
    match labels.get(AUTHORIZATION)?.as_str() {
        "enforce" => Some(Authorization::Enforce),
        "audit" => Some(Authorization::Audit),
        "off" => Some(Authorization::Off),
        other => {
            let message = format!("is none of `enforce`, `audit` and `off` but `{other}`, which counts as `enforce`");
            checker.field("metadata", |c| c.field("labels", |c| c.field(AUTHORIZATION, |c| c.warning(message))));
            Some(Authorization::Enforce)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_one_form() {
        assert!(is_timestamp("2026-01-31T12:00:00Z"));
        for bad in ["", "2026-01-31", "2026-01-31T12:00:00+01:00", "2026-01-31T12:00:00.5Z", "2026-01-31 12:00:00Z"] {
            assert!(!is_timestamp(bad), "{bad}");
        }
    }

    #[test]
    fn what_a_pod_is_one_of_is_what_its_labels_say() {
        let (recommended, common, own) = (("app.kubernetes.io/name", "a"), ("app", "b"), ("k8s-app", "c"));
        let cases: [(&[(&str, &str)], Option<(&str, &str)>); 5] = [
            (&[own, common, recommended], Some(recommended)),
            (&[own, common], Some(common)),
            (&[own], Some(own)),
            (&[("app", "")], None),
            (&[], None),
        ];
        for (labels, expected) in cases {
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            assert_eq!(Metadata { labels, ..Metadata::default() }.app(), expected);
        }
    }

    #[test]
    fn names_are_those_of_kubernetes() {
        for good in ["a", "service-canary", "a1", "1a", &"a".repeat(63)] {
            assert!(is_label(good) && is_subdomain(good), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a_b", "a b", "ä", &"a".repeat(64), "a/b"] {
            assert!(!is_label(bad) && !is_subdomain(bad), "{bad}");
        }
        assert!(is_subdomain("a.b") && !is_subdomain("a..b") && !is_label("a.b"));
    }
}
