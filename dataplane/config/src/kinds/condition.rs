//! Pieces of conditions, the same in every kind that has some.

use http::{HeaderName, Method};
use regex::Regex;
use weir_core::route::Field;

use crate::check::Checker;
use crate::limits;
use crate::wording;

/// The header of a condition.
pub(super) fn header(name: &str) -> Result<Field, String> {
    let parsed = HeaderName::from_bytes(name.as_bytes());
    parsed.map(Field::Header).map_err(|_| format!("\"{name}\" is not the name of a header"))
}

/// The query parameter of a condition.
pub(super) fn parameter(name: &str) -> Result<Field, String> {
    if name.is_empty() { Err("a query parameter needs a name".to_owned()) } else { Ok(Field::Query(name.into())) }
}

/// What a plugin says, of a condition.
pub(super) fn attribute(name: &str) -> Result<Field, String> {
    match name {
        "" => Err("what a plugin says has a name".to_owned()),
        name => Ok(Field::Plugin(name.into())),
    }
}

/// A text that is not too long. Where the empty text would mean every text or none, `instead` says what to write.
pub(super) fn bounded<'a>(
    key: &'a str,
    text: Option<&'a str>,
    instead: Option<&str>,
    checker: &mut Checker<'a>,
) -> Option<&'a str> {
    let text = text?;
    if text.len() > limits::CONDITION_BYTES {
        checker.error_at(key, format!("at most {} bytes, here are {}", limits::CONDITION_BYTES, text.len()));
        return None;
    }
    match instead.filter(|_| text.is_empty()) {
        None => Some(text),
        Some(instead) => {
            checker.error_at(key, format!("must not be empty; write {instead}"));
            None
        }
    }
}

/// Anchored at both ends, and bounded in what it may take to compile and to run: a match takes time in proportion to
/// the text, whatever the expression is.
pub(super) fn expression<'a>(key: &'a str, text: &str, checker: &mut Checker<'a>) -> Option<Regex> {
    // By itself first: "a)|(b" would be right, and not anchored, between the anchors' parentheses.
    if let Err(error) = regex_syntax::ast::parse::Parser::new().parse(text) {
        let (at, reason) = (error.span().start.column, error.kind());
        checker.error_at(key, format!("not a regular expression: {reason}, at character {at}"));
        return None;
    }
    let bounded = regex::RegexBuilder::new(&format!("^(?:{text})$"))
        .size_limit(limits::REGEX_BYTES)
        .dfa_size_limit(limits::REGEX_BYTES)
        .build();
    match bounded {
        Ok(regex) => Some(regex),
        Err(regex::Error::CompiledTooBig(limit)) => {
            checker.error_at(key, format!("the expression takes more than {limit} bytes when compiled"));
            None
        }
        Err(error) => {
            // The message is a picture of several lines; the last says what is wrong.
            let message = error.to_string();
            let reason = message.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
            checker.error_at(key, format!("not a regular expression: {reason}"));
            None
        }
    }
}

/// A method, in the case that its letters are sent in.
pub(super) fn method(text: &str) -> Result<Method, String> {
    const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
    let method = Method::from_bytes(text.as_bytes()).map_err(|_| format!("\"{text}\" is not a method"))?;
    if KNOWN.contains(&text) {
        return Ok(method);
    }
    // Methods are case-sensitive (RFC 9110, section 9.1): `get` would never match.
    match wording::nearest(text, KNOWN) {
        Some(meant) if text.eq_ignore_ascii_case(meant) => Err(format!("methods are written in capitals: {meant}")),
        _ => Ok(method),
    }
}
/// The name of a cookie is a token (RFC 6265, section 4.1.1), as the name of a header is.
pub(crate) fn cookie(name: &str) -> Result<Field, String> {
    match HeaderName::from_bytes(name.as_bytes()) {
        Ok(_) => Ok(Field::Cookie(name.into())),
        Err(_) => Err(format!("\"{name}\" is not the name of a cookie")),
    }
}
