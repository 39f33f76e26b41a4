//! Conditions of a route's rule.

use std::sync::Arc;

use weir_core::route::{Condition, Field, Matcher, PathMatch, TextMatch};

use super::spec::{MatchSpec, NamedTextSpec, PathSpec};
use crate::check::Checker;
use crate::kinds::condition::{bounded, expression, header, method, parameter};
use crate::limits;
use crate::wording;

/// The matchers of a rule; one that every request meets where nothing is written.
pub(super) fn matchers<'a>(specs: Option<&'a [MatchSpec]>, checker: &mut Checker<'a>) -> Vec<Arc<Matcher>> {
    let specs = specs.unwrap_or_default();
    if specs.is_empty() {
        return vec![Arc::new(Matcher { path: Some(PathMatch::prefix("/")), ..Matcher::default() })];
    }
    if specs.len() > limits::MATCHES {
        checker.error(format!("at most {} matches, here are {}", limits::MATCHES, specs.len()));
    }
    let specs = specs.iter().enumerate().take(limits::MATCHES);
    specs.map(|(position, one)| Arc::new(checker.element(position, |checker| matcher(one, checker)))).collect()
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
    Matcher { path, methods, conditions }
}

fn texts<'a>(
    specs: &'a [NamedTextSpec],
    field: fn(&str) -> Result<Field, String>,
    checker: &mut Checker<'a>,
) -> Vec<Condition> {
    if specs.len() > limits::CONDITIONS {
        checker.error(format!("at most {} of a kind in one match, here are {}", limits::CONDITIONS, specs.len()));
    }
    let mut conditions: Vec<Condition> = Vec::new();
    for (position, spec) in specs.iter().enumerate().take(limits::CONDITIONS) {
        checker.element(position, |checker| {
            let text = text_match(spec, checker);
            let Some(name) = &spec.name else {
                checker.missing("name", "needs a name");
                return;
            };
            match field(name) {
                Err(message) => checker.error_at("name", message),
                // As the API has it: of several with one name only the first counts.
                Ok(field) if conditions.iter().any(|other| other.field == field) => {
                    checker.warning(format!("{field} is there twice; only the first has an effect"));
                }
                Ok(field) => conditions.extend(text.map(|text| Condition { field, text })),
            }
        });
    }
    conditions
}

fn text_match<'a>(spec: &'a NamedTextSpec, checker: &mut Checker<'a>) -> Option<TextMatch> {
    let Some(value) = spec.value.as_deref() else {
        checker.missing("value", "needs a value");
        return None;
    };
    // As the API has it: a value is at least one character long.
    let value = bounded("value", Some(value), Some("type: RegularExpression and value: .* for any"), checker)?;
    match spec.form.as_deref().unwrap_or("Exact") {
        "Exact" => Some(TextMatch::Exact(value.into())),
        "RegularExpression" => expression("value", value, checker).map(TextMatch::Regex),
        other => {
            checker.error_at("type", unknown("type", other, &["Exact", "RegularExpression"]));
            None
        }
    }
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

/// Says that a word is not among those known.
pub(super) fn unknown(what: &str, found: &str, known: &[&str]) -> String {
    match wording::nearest(found, known.iter().copied()) {
        Some(meant) => format!("unknown {what} `{found}`, did you mean `{meant}`?"),
        None => format!("unknown {what} `{found}`; there are {}", known.join(", ")),
    }
}
