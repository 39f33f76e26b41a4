//! A route as it is written. Everything is optional here: what is missing is a matter for the check, which knows more.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::RuleSpec;
use crate::shape::nullable;

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with parentRefs, hostnames and rules",
    bound(deserialize = "R: Deserialize<'de> + Default")
)]
pub(crate) struct Spec<R> {
    #[serde(deserialize_with = "nullable")]
    pub(super) parent_refs: Vec<ReferenceSpec>,
    #[serde(deserialize_with = "nullable")]
    pub(super) hostnames: Vec<String>,
    pub(super) rules: Option<Vec<R>>,
}

/// What refers to a parent or to a backend.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase", expecting = "an object with kind, name and port")]
pub(super) struct ReferenceSpec {
    pub(super) group: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) section_name: Option<String>,
    pub(super) port: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with type, name and value")]
pub(super) struct NamedTextSpec {
    #[serde(rename = "type")]
    pub(super) form: Option<String>,
    pub(super) name: Option<String>,
    pub(super) value: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with type and the field of that type"
)]
pub(super) struct FilterSpec {
    #[serde(rename = "type")]
    pub(super) form: Option<String>,
    pub(super) request_header_modifier: Option<HeadersSpec>,
    pub(super) response_header_modifier: Option<HeadersSpec>,
    pub(super) request_mirror: Option<MirrorSpec>,
    pub(super) request_redirect: Option<RedirectSpec>,
    pub(super) url_rewrite: Option<RewriteSpec>,
    pub(super) cors: Option<CorsSpec>,
    pub(super) extension_ref: Option<ExtensionSpec>,
    pub(super) external_auth: Option<Value>,
}

/// What refers to something that the API does not define.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with group, kind and name")]
pub(super) struct ExtensionSpec {
    pub(super) group: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) name: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with set, add, remove")]
pub(super) struct HeadersSpec {
    #[serde(deserialize_with = "nullable")]
    pub(super) set: Vec<HeaderSpec>,
    #[serde(deserialize_with = "nullable")]
    pub(super) add: Vec<HeaderSpec>,
    #[serde(deserialize_with = "nullable")]
    pub(super) remove: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with name and value")]
pub(super) struct HeaderSpec {
    pub(super) name: Option<String>,
    pub(super) value: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with backendRef and percent or fraction"
)]
pub(super) struct MirrorSpec {
    pub(super) backend_ref: Option<ReferenceSpec>,
    pub(super) percent: Option<i64>,
    pub(super) fraction: Option<FractionSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with numerator and denominator")]
pub(super) struct FractionSpec {
    pub(super) numerator: Option<i64>,
    pub(super) denominator: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with scheme, hostname, path, port, statusCode"
)]
pub(super) struct RedirectSpec {
    pub(super) scheme: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) path: Option<PathChangeSpec>,
    pub(super) port: Option<i64>,
    pub(super) status_code: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with hostname and path")]
pub(super) struct RewriteSpec {
    pub(super) hostname: Option<String>,
    pub(super) path: Option<PathChangeSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with type and replaceFullPath or replacePrefixMatch"
)]
pub(super) struct PathChangeSpec {
    #[serde(rename = "type")]
    pub(super) form: Option<String>,
    pub(super) replace_full_path: Option<String>,
    pub(super) replace_prefix_match: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with allowOrigins, allowMethods, allowHeaders, exposeHeaders, allowCredentials, maxAge"
)]
pub(super) struct CorsSpec {
    #[serde(deserialize_with = "nullable")]
    pub(super) allow_origins: Vec<String>,
    pub(super) allow_credentials: Option<bool>,
    #[serde(deserialize_with = "nullable")]
    pub(super) allow_methods: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) allow_headers: Vec<String>,
    #[serde(deserialize_with = "nullable")]
    pub(super) expose_headers: Vec<String>,
    pub(super) max_age: Option<i64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with name, port, weight, filters"
)]
pub(super) struct BackendSpec {
    pub(super) group: Option<String>,
    pub(super) kind: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) name: Option<String>,
    pub(super) port: Option<i64>,
    pub(super) weight: Option<i64>,
    #[serde(deserialize_with = "nullable")]
    pub(super) filters: Vec<FilterSpec>,
}

/// Leaves out a text that says what is so without it.
pub(super) fn default_text(text: &mut Option<String>, default: &str) {
    if text.as_deref() == Some(default) {
        *text = None;
    }
}

fn default_number(number: &mut Option<i64>, default: i64) {
    *number = number.filter(|number| *number != default);
}

impl<R: RuleSpec> Spec<R> {
    /// Writes what means the same in the same way: without the defaults, which a cluster's API fills in, and with names
    /// of headers in lower case.
    pub(super) fn normalise(&mut self) {
        for parent in &mut self.parent_refs {
            default_text(&mut parent.group, super::GATEWAY_GROUP);
            default_text(&mut parent.kind, "Gateway");
        }
        for rule in self.rules.iter_mut().flatten() {
            rule.normalise();
        }
        // One rule for everything, without anything that it does, is what no rule comes to.
        if self.rules.as_deref() == Some(&[R::default()]) {
            self.rules = None;
        }
    }
}

/// Writes headers' conditions in the same way.
pub(super) fn normalise_texts(headers: &mut [NamedTextSpec]) {
    headers.iter_mut().for_each(|text| default_text(&mut text.form, "Exact"));
    headers.iter_mut().filter_map(|header| header.name.as_mut()).for_each(|name| name.make_ascii_lowercase());
}

/// Writes what rules of every kind have in the same way.
pub(super) fn normalise_rule(filters: &mut [FilterSpec], backends: &mut [BackendSpec]) {
    filters.iter_mut().for_each(FilterSpec::normalise);
    for backend in backends {
        default_text(&mut backend.group, "");
        default_text(&mut backend.kind, "Service");
        default_number(&mut backend.weight, 1);
        backend.filters.iter_mut().for_each(FilterSpec::normalise);
    }
}

impl FilterSpec {
    fn normalise(&mut self) {
        for change in [&mut self.request_header_modifier, &mut self.response_header_modifier].into_iter().flatten() {
            let named = change.set.iter_mut().chain(&mut change.add).filter_map(|header| header.name.as_mut());
            named.chain(&mut change.remove).for_each(|name| name.make_ascii_lowercase());
        }
        if let Some(mirror) = &mut self.request_mirror {
            default_number(&mut mirror.percent, 100);
            if let Some(fraction) = &mut mirror.fraction {
                default_number(&mut fraction.denominator, 100);
            }
            if let Some(backend) = &mut mirror.backend_ref {
                default_text(&mut backend.group, "");
                default_text(&mut backend.kind, "Service");
            }
        }
        if let Some(redirect) = &mut self.request_redirect {
            default_number(&mut redirect.status_code, 302);
        }
        if let Some(cors) = &mut self.cors {
            default_number(&mut cors.max_age, 5);
            cors.allow_credentials = cors.allow_credentials.filter(|allow| *allow);
        }
    }
}
