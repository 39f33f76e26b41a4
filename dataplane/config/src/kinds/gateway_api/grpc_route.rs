//! `GRPCRoute`: rules that look at the service and method that are called, which are the path, and at headers.

use serde::{Deserialize, Serialize};
use weir_core::route::{Matcher, PathMatch, Section, Timeouts};

use super::session::{self, SessionSpec};
use super::spec::{BackendSpec, FilterSpec, NamedTextSpec, default_text, normalise_rule, normalise_texts};
use super::texts::{texts, unknown};
use super::{At, RuleSpec, backends, filters, matchers};
use crate::check::Checker;
use crate::kinds::condition::{bounded, expression, header};
use crate::kinds::rules::{Route, Rule};
use crate::shape::nullable;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with matches, filters, backendRefs"
)]
pub(crate) struct GrpcRuleSpec {
    name: Option<String>,
    matches: Option<Vec<MatchSpec>>,
    #[serde(deserialize_with = "nullable")]
    filters: Vec<FilterSpec>,
    #[serde(deserialize_with = "nullable")]
    backend_refs: Vec<BackendSpec>,
    session_persistence: Option<SessionSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with method and headers")]
struct MatchSpec {
    method: Option<MethodSpec>,
    #[serde(deserialize_with = "nullable")]
    headers: Vec<NamedTextSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with type, service and method")]
struct MethodSpec {
    #[serde(rename = "type")]
    form: Option<String>,
    service: Option<String>,
    method: Option<String>,
}

impl RuleSpec for GrpcRuleSpec {
    const KIND: &'static str = "GRPCRoute";
    const API_VERSIONS: &'static [&'static str] =
        &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2"];

    fn nothing() -> &'static Self {
        static NOTHING: GrpcRuleSpec = GrpcRuleSpec {
            name: None,
            matches: None,
            filters: Vec::new(),
            backend_refs: Vec::new(),
            session_persistence: None,
        };
        &NOTHING
    }

    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn check<'a>(&'a self, at: At<'_>, checker: &mut Checker<'a>) -> Rule {
        let At { namespace, index, .. } = at;
        let matchers =
            checker.field("matches", |checker| matchers(self.matches.as_deref(), Matcher::default(), matcher, checker));
        let types = &filters::GRPC_TYPES;
        let done =
            checker.field("filters", |checker| filters::of_rule(&self.filters, types, &matchers, namespace, checker));
        let destinations = checker.field("backendRefs", |checker| {
            backends::destinations(&self.backend_refs, types, &matchers, &done.filters, namespace, checker)
        });
        if destinations.iter().all(|one| one.weight == 0) {
            checker.field("backendRefs", |checker| {
                checker.warning("there is no backend with a weight: calls are answered with status 14, unavailable");
            });
        }
        let session = session::of_rule(self.session_persistence.as_ref(), Self::KIND, at, checker);
        Rule {
            section: Some(Section { index, name: self.name().map(Into::into) }),
            priority: 0,
            matchers,
            filters: done.filters.shared(),
            route: Some(Route { destinations, is_list: true, sticky: None, session }),
            mirrors: done.mirrors,
            timeouts: Timeouts::default(),
            retry: None,
            plugins: done.plugins.into(),
        }
    }

    fn normalise(&mut self) {
        for one in self.matches.iter_mut().flatten() {
            if let Some(method) = &mut one.method {
                default_text(&mut method.form, "Exact");
            }
            normalise_texts(&mut one.headers);
        }
        if self.matches.as_deref() == Some(&[MatchSpec::default()]) {
            self.matches = None;
        }
        normalise_rule(&mut self.filters, &mut self.backend_refs);
        self.session_persistence.iter_mut().for_each(SessionSpec::normalise);
    }
}

fn matcher<'a>(spec: &'a MatchSpec, checker: &mut Checker<'a>) -> Matcher {
    let path = spec.method.as_ref().and_then(|spec| checker.field("method", |checker| called(spec, checker)));
    let conditions = checker.field("headers", |checker| texts(&spec.headers, header, checker));
    Matcher { path, methods: Vec::new(), conditions }
}

/// The condition on the path, which is `/service/method`.
fn called<'a>(spec: &'a MethodSpec, checker: &mut Checker<'a>) -> Option<PathMatch> {
    let instead = Some("a name, or leave it out for any");
    let service = bounded("service", spec.service.as_deref(), instead, checker);
    let method = bounded("method", spec.method.as_deref(), instead, checker);
    match spec.form.as_deref().unwrap_or("Exact") {
        "Exact" => {
            if let Some(service) = service.filter(|service| !service.split('.').all(is_identifier)) {
                checker.error_at("service", format!("\"{service}\" is not the name of a service: package.Service"));
                return None;
            }
            if let Some(method) = method.filter(|method| !is_identifier(method)) {
                checker.error_at("method", format!("\"{method}\" is not the name of a method"));
                return None;
            }
            match (service, method) {
                (Some(service), Some(method)) => Some(PathMatch::Exact(format!("/{service}/{method}").into())),
                (Some(service), None) => Some(PathMatch::prefix(&format!("/{service}"))),
                (None, Some(method)) => Some(PathMatch::Suffix(format!("/{method}").into())),
                (None, None) => named_nothing(spec, checker),
            }
        }
        "RegularExpression" => {
            if (service, method) == (None, None) {
                return named_nothing(spec, checker);
            }
            // Each by itself first: what is wrong in one must not be made right by the other.
            let is_valid = [("service", service), ("method", method)]
                .map(|(key, text)| text.is_none_or(|text| expression(key, text, checker).is_some()));
            if is_valid.contains(&false) {
                return None;
            }
            let [service, method] = [service, method].map(|text| text.unwrap_or("[^/]+"));
            expression("service", &format!("/(?:{service})/(?:{method})"), checker).map(PathMatch::Regex)
        }
        other => {
            checker.error_at("type", unknown("type", other, &["Exact", "RegularExpression"]));
            None
        }
    }
}

fn named_nothing(spec: &MethodSpec, checker: &mut Checker<'_>) -> Option<PathMatch> {
    // What was written and refused has been told already.
    if spec.service.is_none() && spec.method.is_none() {
        checker.error("needs a service, a method or both; leave it out for any");
    }
    None
}

fn is_identifier(text: &str) -> bool {
    let is_first = |first: char| first.is_ascii_alphabetic() || first == '_';
    text.starts_with(is_first) && text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}
