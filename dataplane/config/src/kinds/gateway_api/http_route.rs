//! `HTTPRoute`: rules that look at path, method, headers and query.

use std::sync::Arc;

use http::Method;
use serde::{Deserialize, Serialize};
use weir_core::methods::Methods;
use weir_core::retry::{Failures, Retry, RetryTo};
use weir_core::route::{Matcher, PathMatch, Section, Timeouts};

use super::session::{self, SessionSpec};
use super::spec::{BackendSpec, FilterSpec, NamedTextSpec, default_text, normalise_rule, normalise_texts};
use super::texts::{texts, unknown};
use super::{At, RuleSpec, backends, filters, matchers};
use crate::check::Checker;
use crate::kinds::condition::{bounded, expression, header, method, parameter};
use crate::kinds::duration::{self, DurationText};
use crate::kinds::retry::{ATTEMPTS, attempts, backoff, is_status};
use crate::kinds::rules::{Route, Rule, To};
use crate::limits;
use crate::shape::nullable;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with matches, filters, backendRefs, timeouts, retry, sessionPersistence"
)]
pub(crate) struct HttpRuleSpec {
    name: Option<String>,
    matches: Option<Vec<MatchSpec>>,
    #[serde(deserialize_with = "nullable")]
    filters: Vec<FilterSpec>,
    #[serde(deserialize_with = "nullable")]
    backend_refs: Vec<BackendSpec>,
    timeouts: Option<TimeoutsSpec>,
    retry: Option<RetrySpec>,
    session_persistence: Option<SessionSpec>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with path, headers, queryParams, method"
)]
struct MatchSpec {
    path: Option<PathSpec>,
    #[serde(deserialize_with = "nullable")]
    headers: Vec<NamedTextSpec>,
    #[serde(deserialize_with = "nullable")]
    query_params: Vec<NamedTextSpec>,
    method: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with type and value")]
struct PathSpec {
    #[serde(rename = "type")]
    form: Option<String>,
    value: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(
    default,
    deny_unknown_fields,
    rename_all = "camelCase",
    expecting = "an object with request and backendRequest"
)]
struct TimeoutsSpec {
    request: Option<DurationText>,
    backend_request: Option<DurationText>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, expecting = "an object with codes, attempts, backoff")]
struct RetrySpec {
    #[serde(deserialize_with = "nullable")]
    codes: Vec<i64>,
    attempts: Option<i64>,
    backoff: Option<DurationText>,
}

impl RuleSpec for HttpRuleSpec {
    const KIND: &'static str = "HTTPRoute";
    const API_VERSIONS: &'static [&'static str] =
        &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];

    fn nothing() -> &'static Self {
        static NOTHING: HttpRuleSpec = HttpRuleSpec {
            name: None,
            matches: None,
            filters: Vec::new(),
            backend_refs: Vec::new(),
            timeouts: None,
            retry: None,
            session_persistence: None,
        };
        &NOTHING
    }

    fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    fn check<'a>(&'a self, at: At<'_>, checker: &mut Checker<'a>) -> Rule {
        let At { namespace, index, .. } = at;
        let any = Matcher { path: Some(PathMatch::prefix("/")), ..Matcher::default() };
        let matchers = checker.field("matches", |checker| matchers(self.matches.as_deref(), any, matcher, checker));
        let done = checker.field("filters", |checker| {
            filters::of_rule(&self.filters, &filters::TYPES, &matchers, namespace, checker)
        });
        let destinations = checker.field("backendRefs", |checker| {
            if done.filters.redirect.is_some() && !self.backend_refs.is_empty() {
                checker.error("a rule that redirects has no backends");
            }
            backends::destinations(&self.backend_refs, &filters::TYPES, &matchers, &done.filters, namespace, checker)
        });
        if done.filters.redirect.is_none() && destinations.iter().all(|one| one.weight == 0) {
            checker.field("backendRefs", |checker| {
                checker.warning("there is no backend with a weight: requests are answered with 500");
            });
        }
        let timeouts = checker.field("timeouts", |checker| timeouts(self.timeouts.as_ref(), checker));
        let retry = checker.field("retry", |checker| {
            self.retry.as_ref().and_then(|spec| retry(spec, &matchers, checker)).map(Box::new)
        });
        let session = session::of_rule(self.session_persistence.as_ref(), Self::KIND, at, checker);
        Rule {
            section: Some(Section { index, name: self.name.as_deref().map(Into::into) }),
            priority: 0,
            matchers,
            filters: done.filters.shared(),
            route: Some(Route { destinations, is_list: true, sticky: None, session }),
            mirrors: done.mirrors,
            timeouts,
            retry,
            plugins: done.plugins.into(),
        }
    }

    fn normalise(&mut self) {
        for one in self.matches.iter_mut().flatten() {
            if let Some(path) = &mut one.path {
                default_text(&mut path.form, "PathPrefix");
                if path.form.is_none() {
                    default_text(&mut path.value, "/");
                }
            }
            one.path = one.path.take().filter(|path| *path != PathSpec::default());
            normalise_texts(&mut one.headers);
            one.query_params.iter_mut().for_each(|text| default_text(&mut text.form, "Exact"));
        }
        if let Some(retry) = &mut self.retry {
            // Written out, because an empty object is nothing.
            retry.attempts.get_or_insert(ATTEMPTS.into());
        }
        if self.matches.as_deref() == Some(&[MatchSpec::default()]) {
            self.matches = None;
        }
        normalise_rule(&mut self.filters, &mut self.backend_refs);
        self.session_persistence.iter_mut().for_each(SessionSpec::normalise);
    }
}

fn timeouts<'a>(spec: Option<&'a TimeoutsSpec>, checker: &mut Checker<'a>) -> Timeouts {
    let Some(spec) = spec else {
        return Timeouts::default();
    };
    duration::timeouts(spec.request.as_ref(), ("backendRequest", spec.backend_request.as_ref()), checker)
}

/// What keeps a response from coming is worth another try whatever the codes are (GEP-1731). A method that may do
/// something twice is only where the rule's matches name it: then the rule is meant for it.
fn retry<'a>(spec: &'a RetrySpec, matchers: &[Arc<Matcher>], checker: &mut Checker<'a>) -> Option<Retry<To>> {
    let mut on = Failures::unanswered();
    checker.field("codes", |checker| {
        if spec.codes.len() > limits::FAILURES {
            checker.error(format!("at most {} codes, here are {}", limits::FAILURES, spec.codes.len()));
        }
        for (position, code) in spec.codes.iter().enumerate().take(limits::FAILURES) {
            match u16::try_from(*code).ok().filter(|code| is_status(*code)) {
                Some(code) => on.add_statuses([code]),
                None => checker.element(position, |c| c.error(format!("must be from 400 to 599, is {code}"))),
            }
        }
    });
    let attempts = attempts(spec.attempts, checker);
    let backoff = backoff(spec.backoff.as_ref(), checker).unwrap_or_default();
    let named = matchers.iter().flat_map(|matcher| matcher.methods.iter().cloned());
    let named: Vec<Method> = named.filter(|method| !method.is_idempotent()).collect();
    let methods = if named.is_empty() {
        Methods::Idempotent
    } else {
        let idempotent = [Method::GET, Method::HEAD, Method::PUT, Method::DELETE, Method::OPTIONS, Method::TRACE];
        Methods::Only(idempotent.into_iter().chain(named).collect())
    };
    Some(Retry { attempts: attempts?, on, methods, backoff, hedge_after: None, to: RetryTo::First })
}

fn matcher<'a>(spec: &'a MatchSpec, checker: &mut Checker<'a>) -> Matcher {
    let path = match &spec.path {
        None => Some(PathMatch::prefix("/")),
        Some(path) => checker.field("path", |checker| path_match(path, checker)),
    };
    let mut methods = Vec::new();
    if let Some(text) = &spec.method {
        match method(text) {
            Ok(method) => methods.push(method),
            Err(message) => checker.error_at("method", message),
        }
    }
    let mut conditions = checker.field("headers", |checker| texts(&spec.headers, header, checker));
    conditions.extend(checker.field("queryParams", |checker| texts(&spec.query_params, parameter, checker)));
    conditions.shrink_to_fit();
    Matcher { path, methods, conditions }
}

fn path_match<'a>(spec: &'a PathSpec, checker: &mut Checker<'a>) -> Option<PathMatch> {
    let value = spec.value.as_deref().unwrap_or("/");
    let value = bounded("value", Some(value), Some("/ for every path"), checker)?;
    match spec.form.as_deref().unwrap_or("PathPrefix") {
        "RegularExpression" => expression("value", value, checker).map(PathMatch::Regex),
        form @ ("Exact" | "PathPrefix") => {
            if let Err(message) = is_plain(value) {
                checker.error_at("value", message);
                return None;
            }
            Some(if form == "Exact" { PathMatch::Exact(value.into()) } else { PathMatch::prefix(value) })
        }
        other => {
            checker.error_at("type", unknown("type", other, &["Exact", "PathPrefix", "RegularExpression"]));
            None
        }
    }
}

/// What the API wants of a path: none that a server could read as another.
fn is_plain(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err("a path begins with \"/\"".to_owned());
    }
    let found = ["//", "/./", "/../", "%2f", "%2F", "#", "?"].into_iter().find(|piece| path.contains(piece));
    let found = found.or_else(|| ["/..", "/."].into_iter().find(|end| path.ends_with(end)));
    found.map_or(Ok(()), |piece| Err(format!("a path has no \"{piece}\" here")))
}
