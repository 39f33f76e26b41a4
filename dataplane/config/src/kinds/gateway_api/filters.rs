//! Filters of a route's rule and of its backends.

use std::sync::Arc;
use std::time::Duration;

use http::uri::PathAndQuery;
use http::{HeaderName, HeaderValue, StatusCode};
use weir_core::filter::{
    AllowList, Cors, Filters, HeaderChanges, OriginPattern, PathChange, Redirect, Rewrite, Scheme,
};
use weir_core::methods::Methods;
use weir_core::name::ObjectName;
use weir_core::route::{Matcher, PathMatch};
use weir_core::share::Share;

use super::backends::mirrored;
use super::spec::{
    CorsSpec, ExtensionSpec, FilterSpec, HeaderSpec, HeadersSpec, MirrorSpec, PathChangeSpec, RedirectSpec, RewriteSpec,
};
use super::texts::unknown;
use crate::check::Checker;
use crate::kinds::condition::method;
use crate::kinds::destination::port;
use crate::kinds::metadata::is_subdomain;
use crate::kinds::rules::MirrorTo;
use crate::limits;

/// What the filters of a rule come to.
#[derive(Default)]
pub(super) struct RuleFilters {
    pub(super) filters: Filters,
    pub(super) mirrors: Vec<MirrorTo>,
    pub(super) plugins: Vec<(usize, ObjectName)>,
}

/// A type of filters, and the field that belongs to it.
pub(super) type Type = (&'static str, &'static str);

/// The types of an `HTTPRoute`.
pub(super) const TYPES: [Type; 8] = [
    ("RequestHeaderModifier", "requestHeaderModifier"),
    ("ResponseHeaderModifier", "responseHeaderModifier"),
    ("RequestMirror", "requestMirror"),
    ("RequestRedirect", "requestRedirect"),
    ("URLRewrite", "urlRewrite"),
    ("CORS", "cors"),
    ("ExtensionRef", "extensionRef"),
    ("ExternalAuth", "externalAuth"),
];

/// The types of a `GRPCRoute`: a call is neither redirected, nor does its path mean anything else than what is called.
pub(super) const GRPC_TYPES: [Type; 4] = [TYPES[0], TYPES[1], TYPES[2], TYPES[6]];

/// The filters of a rule, which has these matchers.
pub(super) fn of_rule<'a>(
    specs: &'a [FilterSpec],
    types: &[Type],
    matchers: &[Arc<Matcher>],
    namespace: &str,
    checker: &mut Checker<'a>,
) -> RuleFilters {
    let mut done = RuleFilters::default();
    each(specs, types, checker, |position, form, spec, checker| match form {
        "RequestMirror" => {
            let mirror = spec.request_mirror.as_ref();
            let mirror = mirror.and_then(|mirror| checker.field("requestMirror", |c| mirror_to(mirror, namespace, c)));
            done.mirrors.extend(mirror.map(|mirror| MirrorTo { position: Some(position), ..mirror }));
        }
        "CORS" => {
            let cors = spec.cors.as_ref();
            done.filters.cors = cors.and_then(|cors| checker.field("cors", |checker| self::cors(cors, checker)));
        }
        "ExtensionRef" => {
            let reference = spec.extension_ref.as_ref();
            let plugin = reference.and_then(|one| checker.field("extensionRef", |c| plugin(one, namespace, c)));
            done.plugins.extend(plugin.map(|plugin| (position, plugin)));
        }
        form => common(form, spec, &mut done.filters, checker),
    });
    if done.mirrors.len() > limits::MIRRORS {
        checker.error(format!("at most {} mirrors, here are {}", limits::MIRRORS, done.mirrors.len()));
    }
    together(&done.filters, matchers, checker);
    done
}

/// The filters of a backend of a rule, which has these matchers and filters of its own.
pub(super) fn of_backend<'a>(
    specs: &'a [FilterSpec],
    types: &[Type],
    matchers: &[Arc<Matcher>],
    rule: &Filters,
    checker: &mut Checker<'a>,
) -> Filters {
    let mut filters = Filters::default();
    each(specs, types, checker, |_, form, spec, checker| match form {
        "RequestMirror" | "CORS" | "ExtensionRef" => {
            checker.error(format!("{form} is a filter of rules, not of single backends"))
        }
        form => common(form, spec, &mut filters, checker),
    });
    together(&filters, matchers, checker);
    if rule.rewrite.path.is_some() && filters.rewrite.path.is_some() {
        checker.error("the rule rewrites the path already; write it at one of the two");
    }
    filters
}

/// Looks at each filter whose type is known and whose field is there, and no other.
fn each<'a>(
    specs: &'a [FilterSpec],
    types: &[Type],
    checker: &mut Checker<'a>,
    mut look: impl FnMut(usize, &'a str, &'a FilterSpec, &mut Checker<'a>),
) {
    if specs.len() > limits::FILTERS {
        checker.error(format!("at most {} filters, here are {}", limits::FILTERS, specs.len()));
    }
    let mut seen = Vec::new();
    for (position, spec) in specs.iter().enumerate().take(limits::FILTERS) {
        checker.element(position, |checker| {
            let Some(form) = spec.form.as_deref() else {
                checker.missing("type", "a filter needs a type");
                return;
            };
            let Some((_, field)) = types.iter().find(|(known, _)| *known == form) else {
                checker.error_at(
                    "type",
                    unknown("type", form, &types.iter().map(|(known, _)| *known).collect::<Vec<_>>()),
                );
                return;
            };
            let written = spec.written();
            if let Some(other) = written.iter().find(|other| *other != field) {
                checker.error_at(other, format!("does not belong to a filter of the type {form}"));
            }
            if !written.contains(field) {
                checker.missing(field, format!("a filter of the type {form} needs it"));
                return;
            }
            if seen.contains(&form) && !matches!(form, "RequestMirror" | "ExtensionRef") {
                checker.error(format!("there is another filter of the type {form}; write both in one"));
                return;
            }
            seen.push(form);
            look(position, form, spec, checker);
        });
    }
}

impl FilterSpec {
    /// Names of the fields that are written.
    fn written(&self) -> Vec<&'static str> {
        let there = [
            self.request_header_modifier.is_some(),
            self.response_header_modifier.is_some(),
            self.request_mirror.is_some(),
            self.request_redirect.is_some(),
            self.url_rewrite.is_some(),
            self.cors.is_some(),
            self.extension_ref.is_some(),
            self.external_auth.is_some(),
        ];
        TYPES.into_iter().zip(there).filter(|(_, there)| *there).map(|((_, field), _)| field).collect()
    }
}

/// Filters that rules and backends have in common.
fn common<'a>(form: &str, spec: &'a FilterSpec, filters: &mut Filters, checker: &mut Checker<'a>) {
    match form {
        "RequestHeaderModifier" => {
            let changes = spec.request_header_modifier.as_ref();
            filters.request = changes
                .map(|changes| checker.field("requestHeaderModifier", |checker| header_changes(changes, checker)))
                .unwrap_or_default();
        }
        "ResponseHeaderModifier" => {
            let changes = spec.response_header_modifier.as_ref();
            filters.response = changes
                .map(|changes| checker.field("responseHeaderModifier", |checker| header_changes(changes, checker)))
                .unwrap_or_default();
        }
        "RequestRedirect" => {
            let redirect = spec.request_redirect.as_ref();
            filters.redirect =
                redirect.map(|redirect| checker.field("requestRedirect", |checker| self::redirect(redirect, checker)));
        }
        "URLRewrite" => {
            let rewrite = spec.url_rewrite.as_ref();
            filters.rewrite = rewrite
                .map(|rewrite| checker.field("urlRewrite", |checker| self::rewrite(rewrite, checker)))
                .unwrap_or_default();
        }
        other => checker.error_at("type", format!("this version of Weir does not have the filter {other}")),
    }
}

/// The plugin that a filter names.
fn plugin<'a>(reference: &'a ExtensionSpec, namespace: &str, checker: &mut Checker<'a>) -> Option<ObjectName> {
    let ExtensionSpec { group, kind, name } = reference;
    let is_plugin = group.as_deref() == Some("weir.dev") && kind.as_deref() == Some("Plugin");
    if !is_plugin {
        let written = |text: &Option<String>| text.clone().unwrap_or_default();
        let message = format!(
            "the only extension that there is has the group weir.dev and the kind Plugin, here are \"{}\" and \"{}\"",
            written(group),
            written(kind)
        );
        checker.error(message);
        return None;
    }
    match name.as_deref() {
        None | Some("") => {
            checker.missing("name", "must name a plugin");
            None
        }
        Some(name) => Some(ObjectName::new("Plugin", namespace, name)),
    }
}

/// What filters must not be with one another, and with the matches.
fn together(filters: &Filters, matchers: &[Arc<Matcher>], checker: &mut Checker<'_>) {
    if filters.redirect.is_some() && filters.rewrite != Rewrite::default() {
        checker.error("a redirect and a rewrite do not go together: what is redirected is not sent to a backend");
    }
    let redirected = filters.redirect.as_ref().and_then(|redirect| redirect.path.as_ref());
    let changes = [redirected, filters.rewrite.path.as_ref()];
    let replaces_prefix = changes.into_iter().flatten().any(|change| matches!(change, PathChange::Prefix(_)));
    let has_prefix = |matcher: &Arc<Matcher>| matches!(matcher.path, Some(PathMatch::Prefix(_)));
    if replaces_prefix && !matchers.iter().all(has_prefix) {
        checker.error("replacePrefixMatch needs a path of the type PathPrefix in every match of the rule");
    }
}

/// Headers that say where a message goes or ends; they are the proxy's to write.
const FRAMING: [&str; 7] =
    ["connection", "content-length", "keep-alive", "proxy-connection", "te", "transfer-encoding", "upgrade"];

fn header_name(name: &str) -> Result<HeaderName, String> {
    let parsed =
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("\"{name}\" is not the name of a header"))?;
    if FRAMING.contains(&parsed.as_str()) {
        return Err(format!("{parsed} says how a message is sent and cannot be changed"));
    }
    Ok(parsed)
}

fn header_changes<'a>(spec: &'a HeadersSpec, checker: &mut Checker<'a>) -> HeaderChanges {
    let set = checker.field("set", |checker| headers(&spec.set, checker));
    let add = checker.field("add", |checker| headers(&spec.add, checker));
    let remove = checker.field("remove", |checker| {
        bound(spec.remove.len(), limits::CHANGED_HEADERS, "headers", checker);
        let names = spec.remove.iter().enumerate().take(limits::CHANGED_HEADERS);
        let valid = names.filter_map(|(position, name)| match header_name(name) {
            Ok(name) => Some(name),
            Err(message) => {
                checker.element(position, |checker| checker.error(message));
                None
            }
        });
        valid.collect()
    });
    HeaderChanges { remove, set, add }
}

fn headers<'a>(specs: &'a [HeaderSpec], checker: &mut Checker<'a>) -> Vec<(HeaderName, HeaderValue)> {
    bound(specs.len(), limits::CHANGED_HEADERS, "headers", checker);
    let mut valid: Vec<(HeaderName, HeaderValue)> = Vec::new();
    for (position, spec) in specs.iter().enumerate().take(limits::CHANGED_HEADERS) {
        checker.element(position, |checker| {
            let Some(name) = &spec.name else {
                checker.missing("name", "needs a name");
                return;
            };
            let name = match header_name(name) {
                Ok(name) => name,
                Err(message) => return checker.error_at("name", message),
            };
            let value = spec.value.as_deref().unwrap_or_default();
            if value.len() > limits::CONDITION_BYTES {
                let message = format!("at most {} bytes, here are {}", limits::CONDITION_BYTES, value.len());
                return checker.error_at("value", message);
            }
            match HeaderValue::from_str(value) {
                Err(_) => checker.error_at("value", "must be visible characters and spaces of ASCII"),
                // As the API has it: of several with one name only the first counts.
                Ok(_) if valid.iter().any(|(other, _)| *other == name) => {
                    checker.warning(format!("{name} is there twice; only the first has an effect"));
                }
                Ok(value) => valid.push((name, value)),
            }
        });
    }
    valid
}

fn bound(found: usize, most: usize, what: &str, checker: &mut Checker<'_>) {
    if found > most {
        checker.error(format!("at most {most} {what}, here are {found}"));
    }
}

fn mirror_to<'a>(spec: &'a MirrorSpec, namespace: &str, checker: &mut Checker<'a>) -> Option<MirrorTo> {
    let share = share(spec, checker);
    let Some(backend) = &spec.backend_ref else {
        checker.missing("backendRef", "a mirror needs a backend");
        return None;
    };
    let to = checker.field("backendRef", |checker| mirrored(backend, namespace, checker));
    // As the API has it: all of them, whatever they do. A `RouteRule` copies only safe ones unless told otherwise.
    Some(MirrorTo { to: to?, share: share?, methods: Methods::Any, position: None })
}

fn share<'a>(spec: &'a MirrorSpec, checker: &mut Checker<'a>) -> Option<Share> {
    match (spec.percent, &spec.fraction) {
        (None, None) => Some(Share::ALL),
        (Some(_), Some(_)) => {
            checker.error("has both percent and fraction; use one of them");
            None
        }
        (Some(percent), None) => {
            let share = Share::from_percent(percent as f64);
            if share.is_none() {
                checker.error_at("percent", format!("must be between 0 and 100, is {percent}"));
            }
            share
        }
        (None, Some(fraction)) => checker.field("fraction", |checker| {
            let denominator = fraction.denominator.unwrap_or(100);
            let Some(numerator) = fraction.numerator else {
                checker.missing("numerator", "a fraction needs a numerator");
                return None;
            };
            let share = Share::from_fraction(numerator, denominator);
            if share.is_none() {
                checker.error(format!("must be between 0 and 1, is {numerator}/{denominator}"));
            }
            share
        }),
    }
}

fn redirect<'a>(spec: &'a RedirectSpec, checker: &mut Checker<'a>) -> Redirect {
    let scheme = spec.scheme.as_deref().and_then(|scheme| match scheme {
        "http" => Some(Scheme::Http),
        "https" => Some(Scheme::Https),
        other => {
            checker.error_at("scheme", unknown("scheme", other, &["http", "https"]));
            None
        }
    });
    let status = spec.status_code.unwrap_or(302);
    if ![301, 302, 303, 307, 308].contains(&status) {
        checker.error_at("statusCode", format!("must be 301, 302, 303, 307 or 308, is {status}"));
    }
    Redirect {
        scheme,
        host: hostname(spec.hostname.as_deref(), checker).map(Into::into),
        port: port(spec.port, checker),
        path: spec.path.as_ref().and_then(|path| checker.field("path", |checker| path_change(path, checker))),
        status: u16::try_from(status)
            .ok()
            .and_then(|status| StatusCode::from_u16(status).ok())
            .unwrap_or(StatusCode::FOUND),
    }
}

fn rewrite<'a>(spec: &'a RewriteSpec, checker: &mut Checker<'a>) -> Rewrite {
    let host = hostname(spec.hostname.as_deref(), checker);
    Rewrite {
        // A name is letters, digits, "-" and ".": always a valid value.
        host: host.and_then(|host| HeaderValue::from_str(host).ok()),
        path: spec.path.as_ref().and_then(|path| checker.field("path", |checker| path_change(path, checker))),
    }
}

fn hostname<'a>(name: Option<&'a str>, checker: &mut Checker<'a>) -> Option<&'a str> {
    let name = name?;
    if !is_subdomain(name) {
        checker.error_at("hostname", format!("\"{name}\" is not the name of a host"));
        return None;
    }
    Some(name)
}

fn path_change<'a>(spec: &'a PathChangeSpec, checker: &mut Checker<'a>) -> Option<PathChange> {
    let (full, prefix) = (&spec.replace_full_path, &spec.replace_prefix_match);
    match (spec.form.as_deref(), full, prefix) {
        (Some("ReplaceFullPath"), Some(path), None) => checker
            .field("replaceFullPath", |checker| is_path(path, checker))
            .then(|| PathChange::Full((&**path).into())),
        (Some("ReplacePrefixMatch"), None, Some(path)) => {
            let is_valid = path.is_empty() || checker.field("replacePrefixMatch", |checker| is_path(path, checker));
            is_valid.then(|| PathChange::prefix(path))
        }
        (Some("ReplaceFullPath"), _, _) => {
            checker.error("the type ReplaceFullPath needs replaceFullPath and nothing else");
            None
        }
        (Some("ReplacePrefixMatch"), _, _) => {
            checker.error("the type ReplacePrefixMatch needs replacePrefixMatch and nothing else");
            None
        }
        (Some(other), _, _) => {
            checker.error_at("type", unknown("type", other, &["ReplaceFullPath", "ReplacePrefixMatch"]));
            None
        }
        (None, _, _) => {
            checker.missing("type", "needs a type: ReplaceFullPath or ReplacePrefixMatch");
            None
        }
    }
}

fn is_path(path: &str, checker: &mut Checker<'_>) -> bool {
    let is_valid = path.starts_with('/')
        && !path.contains(['?', '#'])
        && path.len() <= limits::CONDITION_BYTES
        && path.parse::<PathAndQuery>().is_ok();
    if !is_valid {
        checker.error("must be a path as it is sent: beginning with \"/\", encoded, without \"?\" and \"#\"");
    }
    is_valid
}

fn cors<'a>(spec: &'a CorsSpec, checker: &mut Checker<'a>) -> Option<Cors> {
    let origins = checker.field("allowOrigins", |checker| {
        bound(spec.allow_origins.len(), limits::CORS_VALUES, "origins", checker);
        if spec.allow_origins.is_empty() {
            checker.warning("no origin is allowed: scripts of other origins may do nothing");
        }
        let patterns = spec.allow_origins.iter().enumerate().take(limits::CORS_VALUES);
        let valid = patterns.filter_map(|(position, text)| {
            checker.element(position, |checker| {
                let is_origin = text == "*" || text.starts_with("http://") || text.starts_with("https://");
                let pattern = OriginPattern::new(text).filter(|_| is_origin);
                if pattern.is_none() {
                    let forms = "scheme://host, scheme://host:port, with a * in the host, or just *";
                    checker.error(format!("\"{text}\" is not an origin; write {forms}"));
                }
                pattern
            })
        });
        valid.collect()
    });
    let methods =
        checker.field("allowMethods", |checker| allowed(&spec.allow_methods, |text| method(text).map(|_| ()), checker));
    let is_header = |text: &str| match HeaderName::from_bytes(text.as_bytes()) {
        Ok(_) => Ok(()),
        Err(_) => Err(format!("\"{text}\" is not the name of a header")),
    };
    let headers = checker.field("allowHeaders", |checker| allowed(&spec.allow_headers, is_header, checker));
    let exposed = checker.field("exposeHeaders", |checker| allowed(&spec.expose_headers, is_header, checker));
    let max_age = spec.max_age.unwrap_or(5);
    let max_age = u64::try_from(max_age).ok().filter(|age| (1..=i32::MAX as u64).contains(age));
    if max_age.is_none() {
        checker.error_at("maxAge", format!("must be a number of seconds, 1 to {}", i32::MAX));
    }
    let max_age = Duration::from_secs(max_age?);
    Some(Cors { origins, credentials: spec.allow_credentials.unwrap_or_default(), methods, headers, exposed, max_age })
}

fn allowed<'a>(
    texts: &'a [String],
    check: impl Fn(&str) -> Result<(), String>,
    checker: &mut Checker<'a>,
) -> AllowList {
    bound(texts.len(), limits::CORS_VALUES, "values", checker);
    if texts.iter().any(|text| text == "*") {
        if texts.len() > 1 {
            checker.error("\"*\" stands for every value and must be the only one");
        }
        return AllowList::Any;
    }
    for (position, text) in texts.iter().enumerate().take(limits::CORS_VALUES) {
        if let Err(message) = check(text) {
            checker.element(position, |checker| checker.error(message));
        }
    }
    // Valid names with commas between are a valid value; of others there is no configuration.
    AllowList::These(HeaderValue::from_str(&texts.join(", ")).ok().filter(|_| !texts.is_empty()))
}
