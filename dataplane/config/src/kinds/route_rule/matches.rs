//! Conditions of a rule: from what is written to what core decides with.

use std::collections::BTreeMap;
use std::sync::Arc;

use http::Method;
use weir_core::methods::Methods;
use weir_core::route::{Condition, Field, Matcher, PathMatch, TextMatch};

use super::spec::{MatchSpec, MethodText, PathSpec, TextSpec};
use crate::check::Checker;
use crate::kinds::condition::{attribute, bounded, cookie, expression, header, method, parameter};
use crate::limits;
use crate::shape::{OneOrMany, OrText};

/// The matchers of a rule; one that every request meets where nothing is written.
pub(super) fn matchers<'a>(spec: Option<&'a OneOrMany<MatchSpec>>, checker: &mut Checker<'a>) -> Vec<Arc<Matcher>> {
    let Some(spec) = spec else {
        return vec![Arc::new(Matcher::default())];
    };
    if !spec.is_list {
        return spec.items.iter().map(|one| Arc::new(matcher(one, checker))).collect();
    }
    if spec.items.is_empty() {
        checker.error("an empty list matches nothing; leave it out to match every request");
    }
    if spec.items.len() > limits::MATCHES {
        checker.error(format!("at most {} matches, here are {}", limits::MATCHES, spec.items.len()));
    }
    let items = spec.items.iter().enumerate().take(limits::MATCHES);
    items.map(|(position, one)| Arc::new(checker.element(position, |checker| matcher(one, checker)))).collect()
}

fn matcher<'a>(spec: &'a MatchSpec, checker: &mut Checker<'a>) -> Matcher {
    let path = spec.path.as_ref().and_then(|path| checker.field("path", |checker| path_match(path, checker)));
    let methods = spec
        .method
        .as_ref()
        .map(|methods| checker.field("method", |checker| valid_methods(&methods.items, methods.is_list, checker)));
    let mut conditions = Vec::new();
    conditions.extend(checker.field("headers", |checker| texts(&spec.headers, header, checker)));
    // Written in either case they are in another order, and equal content must compile to the same.
    conditions.sort_by_cached_key(|condition| condition.field.to_string());
    conditions.extend(checker.field("cookies", |checker| texts(&spec.cookies, cookie, checker)));
    conditions.extend(checker.field("query", |checker| texts(&spec.query, parameter, checker)));
    conditions.extend(checker.field("plugin", |checker| texts(&spec.plugin, attribute, checker)));
    // There are many matches, and each has few conditions.
    conditions.shrink_to_fit();
    Matcher { path, methods: methods.unwrap_or_default(), conditions }
}

fn texts<'a>(
    written: &'a BTreeMap<String, OrText<TextSpec>>,
    field: fn(&str) -> Result<Field, String>,
    checker: &mut Checker<'a>,
) -> Vec<Condition> {
    if written.len() > limits::CONDITIONS {
        checker.error(format!("at most {} of a kind in one match, here are {}", limits::CONDITIONS, written.len()));
    }
    let mut conditions: Vec<Condition> = Vec::new();
    for (name, text) in written.iter().take(limits::CONDITIONS) {
        checker.field(name, |checker| {
            let text = text_match(&text.0, checker);
            match field(name) {
                Err(message) => checker.error(message),
                Ok(field) if conditions.iter().any(|other| other.field == field) => {
                    checker.error(format!("{field} is there twice: names of headers are the same in both cases"));
                }
                Ok(field) => conditions.extend(text.map(|text| Condition { field, text })),
            }
        });
    }
    conditions
}

fn text_match<'a>(spec: &'a TextSpec, checker: &mut Checker<'a>) -> Option<TextMatch> {
    let TextSpec { exact, prefix, suffix, regex, present, absent } = spec;
    let written = [exact, prefix, suffix, regex].into_iter().flatten().count();
    if written + usize::from(present.is_some()) + usize::from(absent.is_some()) != 1 {
        checker.error("needs exactly one of exact, prefix, suffix, regex, present, absent");
        return None;
    }
    for (key, flag, other) in [("present", present, "absent"), ("absent", absent, "present")] {
        if *flag == Some(false) {
            checker.error_at(key, format!("must be true; write {other}: true for the opposite"));
            return None;
        }
    }
    let bounded = |key, text: &'a Option<String>, checker: &mut Checker<'a>| {
        // The empty text is equal only to an empty value, and begins and ends every other.
        let instead = (key != "exact").then_some("present: true for any value");
        bounded(key, text.as_deref(), instead, checker)
    };
    if let Some(text) = bounded("exact", exact, checker) {
        Some(TextMatch::Exact(text.into()))
    } else if let Some(text) = bounded("prefix", prefix, checker) {
        Some(TextMatch::Prefix(text.into()))
    } else if let Some(text) = bounded("suffix", suffix, checker) {
        Some(TextMatch::Suffix(text.into()))
    } else if let Some(text) = bounded("regex", regex, checker) {
        expression("regex", text, checker).map(TextMatch::Regex)
    } else if present.is_some() {
        Some(TextMatch::Present)
    } else {
        absent.map(|_| TextMatch::Absent)
    }
}

/// What to write instead of an empty condition on the path.
const EVERY_PATH: &str = "prefix: / for every path";

fn path_match<'a>(spec: &'a PathSpec, checker: &mut Checker<'a>) -> Option<PathMatch> {
    let PathSpec { exact, prefix, suffix, regex } = spec;
    if [exact, prefix, suffix, regex].into_iter().flatten().count() != 1 {
        checker.error("needs exactly one of exact, prefix, suffix, regex");
        return None;
    }
    for (key, text, from_start) in [("exact", exact, true), ("prefix", prefix, true), ("suffix", suffix, false)] {
        let Some(text) = bounded(key, text.as_deref(), Some(EVERY_PATH), checker) else { continue };
        if from_start && !text.starts_with('/') {
            checker.error_at(key, "a path begins with \"/\"");
        }
        if text.contains(['?', '#']) {
            checker.error_at(key, "a path has no \"?\" and no \"#\"; conditions on the query are under `query`");
        }
    }
    let some = |text: &Option<String>| text.as_deref().map(Box::<str>::from);
    if let Some(path) = some(exact) {
        Some(PathMatch::Exact(path))
    } else if let Some(prefix) = prefix {
        Some(PathMatch::prefix(prefix))
    } else if let Some(suffix) = some(suffix) {
        Some(PathMatch::Suffix(suffix))
    } else {
        let text = bounded("regex", regex.as_deref(), Some(EVERY_PATH), checker)?;
        expression("regex", text, checker).map(PathMatch::Regex)
    }
}

/// Under `methods`, those that something is done with; these where nothing is written.
pub(super) fn methods<'a>(written: Option<&'a [MethodText]>, usual: Methods, checker: &mut Checker<'a>) -> Methods {
    match written {
        None => usual,
        Some([only]) if only.0 == "*" => Methods::Any,
        Some(written) => checker.field("methods", |checker| {
            if written.iter().any(|method| method.0 == "*") {
                checker.error("\"*\" stands for every method and must be the only one");
            }
            Methods::Only(valid_methods(written, true, checker))
        }),
    }
}

/// The methods as valid, each once.
fn valid_methods<'a>(written: &'a [MethodText], is_list: bool, checker: &mut Checker<'a>) -> Vec<Method> {
    if written.is_empty() {
        checker.error("an empty list names no method; leave it out");
    }
    if written.len() > limits::METHODS {
        checker.error(format!("at most {} methods, here are {}", limits::METHODS, written.len()));
    }
    let mut methods = Vec::new();
    for (position, text) in written.iter().enumerate().take(limits::METHODS) {
        match (method(&text.0), is_list) {
            (Ok(method), _) if methods.contains(&method) => {}
            (Ok(method), _) => methods.push(method),
            (Err(message), true) => checker.element(position, |checker| checker.error(message)),
            (Err(message), false) => checker.error(message),
        }
    }
    methods
}
