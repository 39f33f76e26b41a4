//! Conditions of an entry, and which of them a request does not meet.

use std::fmt;

use http::{HeaderName, Method};
use regex::Regex;

use super::precedence::PathSpecificity;
use super::request::Request;

/// A condition on a text: a header, a cookie, a query parameter.
#[derive(Clone, Debug)]
pub enum TextMatch {
    /// Equal, byte by byte.
    Exact(Box<str>),
    /// Begins with.
    Prefix(Box<str>),
    /// Ends with.
    Suffix(Box<str>),
    /// The whole text matches the expression (it is anchored at both ends).
    Regex(Regex),
    /// Is there, with any value.
    Present,
    /// Is not there.
    Absent,
}

impl TextMatch {
    fn is_met_by(&self, value: &str) -> bool {
        match self {
            Self::Exact(wanted) => value == &**wanted,
            Self::Prefix(prefix) => value.starts_with(&**prefix),
            Self::Suffix(suffix) => value.ends_with(&**suffix),
            Self::Regex(regex) => regex.is_match(value),
            Self::Present => true,
            Self::Absent => false,
        }
    }

    /// Whether any of the values meets the condition; for [`TextMatch::Absent`], whether there is none.
    fn is_met_by_any<T: AsRef<str>>(&self, mut values: impl Iterator<Item = T>) -> bool {
        match self {
            Self::Absent => values.next().is_none(),
            Self::Present => values.next().is_some(),
            _ => values.any(|value| self.is_met_by(value.as_ref())),
        }
    }
}

impl fmt::Display for TextMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(text) => write!(f, "exactly \"{text}\""),
            Self::Prefix(text) => write!(f, "prefix \"{text}\""),
            Self::Suffix(text) => write!(f, "suffix \"{text}\""),
            Self::Regex(regex) => write!(f, "regex \"{}\"", shown(regex)),
            Self::Present => f.write_str("present"),
            Self::Absent => f.write_str("absent"),
        }
    }
}

/// A condition on the path.
#[derive(Clone, Debug)]
pub enum PathMatch {
    /// Equal.
    Exact(Box<str>),
    /// Begins with these whole segments: `/v2` is met by `/v2` and `/v2/x`, not by `/v2x`. Kept without a slash at the end.
    Prefix(Box<str>),
    /// Ends with.
    Suffix(Box<str>),
    /// The whole path matches the expression (it is anchored at both ends).
    Regex(Regex),
}

impl PathMatch {
    /// A prefix condition; a slash at the end of the prefix means nothing, as in the Gateway API.
    pub fn prefix(prefix: &str) -> Self {
        Self::Prefix(prefix.trim_end_matches('/').into())
    }

    fn is_met_by(&self, path: &str) -> bool {
        match self {
            Self::Exact(wanted) => path == &**wanted,
            Self::Prefix(prefix) => {
                path.strip_prefix(&**prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            Self::Suffix(suffix) => path.ends_with(&**suffix),
            Self::Regex(regex) => regex.is_match(path),
        }
    }

    fn specificity(&self) -> PathSpecificity {
        match self {
            Self::Exact(_) => PathSpecificity::Exact,
            // Every path begins with "/": that is no condition.
            Self::Prefix(prefix) if prefix.is_empty() => PathSpecificity::Any,
            Self::Prefix(prefix) => PathSpecificity::Prefix(prefix.len()),
            Self::Suffix(_) | Self::Regex(_) => PathSpecificity::Pattern,
        }
    }
}

impl fmt::Display for PathMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(path) => write!(f, "exactly \"{path}\""),
            Self::Prefix(path) if path.is_empty() => f.write_str("prefix \"/\""),
            Self::Prefix(path) => write!(f, "prefix \"{path}\" in whole segments"),
            Self::Suffix(path) => write!(f, "suffix \"{path}\""),
            Self::Regex(regex) => write!(f, "regex \"{}\"", shown(regex)),
        }
    }
}

/// An expression without the anchors that compiling put around it.
fn shown(regex: &Regex) -> &str {
    let text = regex.as_str();
    text.strip_prefix("^(?:").and_then(|text| text.strip_suffix(")$")).unwrap_or(text)
}

/// What a condition looks at.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// A request header. Of several with the same name, one is enough.
    Header(HeaderName),
    /// A cookie.
    Cookie(Box<str>),
    /// A parameter of the query, decoded.
    Query(Box<str>),
    /// Something that a plugin says of the request.
    Plugin(Box<str>),
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Query(name) => write!(f, "query parameter {name}"),
            Self::Plugin(name) => write!(f, "plugin attribute {name}"),
        }
    }
}

/// A condition on one field.
#[derive(Clone, Debug)]
pub struct Condition {
    /// Where to look.
    pub field: Field,
    /// What must be true of it.
    pub text: TextMatch,
}

impl Condition {
    fn is_met_by(&self, request: &Request<'_>) -> bool {
        match &self.field {
            Field::Header(name) => {
                let values = request.headers.get_all(name).into_iter();
                match &self.text {
                    // A value that is not text is there all the same.
                    TextMatch::Present => values.count() > 0,
                    TextMatch::Absent => values.count() == 0,
                    text => text.is_met_by_any(values.filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())),
                }
            }
            Field::Cookie(name) => {
                self.text.is_met_by_any(request.cookies().filter(|(n, _)| *n == &**name).map(|(_, value)| value))
            }
            Field::Query(name) => self
                .text
                .is_met_by_any(request.query_parameters().filter(|(n, _)| n == &**name).map(|(_, value)| value)),
            Field::Plugin(name) => {
                self.text.is_met_by_any(request.attributes.iter().filter(|(n, _)| n == name).map(|(_, value)| value))
            }
        }
    }
}

/// All conditions of one entry; a request must meet every one.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// On the path.
    pub path: Option<PathMatch>,
    /// On the method: one of these. Empty: any.
    pub methods: Vec<Method>,
    /// On headers, cookies and query parameters.
    pub conditions: Vec<Condition>,
}

/// The first condition that a request does not meet.
#[derive(Clone, Copy, Debug)]
pub enum Mismatch<'a> {
    /// The path is another.
    Path(&'a PathMatch),
    /// The method is none of these.
    Method(&'a [Method]),
    /// A header, cookie or query parameter is not as wanted.
    Condition(&'a Condition),
}

impl Matcher {
    /// The first condition that the request does not meet, `None` when it meets all. Cheap ones are tried first.
    pub fn mismatch(&self, request: &Request<'_>) -> Option<Mismatch<'_>> {
        if !self.methods.is_empty() && !self.methods.contains(request.method) {
            return Some(Mismatch::Method(&self.methods));
        }
        if let Some(path) = &self.path
            && !path.is_met_by(request.path)
        {
            return Some(Mismatch::Path(path));
        }
        self.conditions.iter().find(|condition| !condition.is_met_by(request)).map(Mismatch::Condition)
    }

    /// Number of conditions on headers, cookies and what plugins say, and on the query.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let query = self.conditions.iter().filter(|condition| matches!(condition.field, Field::Query(_))).count();
        (self.conditions.len() - query, query)
    }

    /// How specific the path condition is.
    pub(crate) fn path_specificity(&self) -> PathSpecificity {
        self.path.as_ref().map(PathMatch::specificity).unwrap_or_default()
    }
}

impl fmt::Display for Matcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if let Some(path) = &self.path {
            parts.push(format!("path {path}"));
        }
        if !self.methods.is_empty() {
            parts.push(format!("method {}", one_of(&self.methods)));
        }
        parts.extend(self.conditions.iter().map(|condition| format!("{} {}", condition.field, condition.text)));
        if parts.is_empty() { f.write_str("every request") } else { f.write_str(&parts.join(" and ")) }
    }
}

fn one_of(methods: &[Method]) -> String {
    methods.iter().map(Method::as_str).collect::<Vec<_>>().join(" or ")
}

impl Mismatch<'_> {
    /// The condition and what the request has instead, as a sentence for people.
    pub fn describe(&self, request: &Request<'_>) -> String {
        match self {
            Self::Path(path) => format!("the path must be {path}, it is \"{}\"", request.path),
            Self::Method(methods) => format!("the method must be {}, it is {}", one_of(methods), request.method),
            Self::Condition(condition) => {
                let found = found(&condition.field, request);
                let found = found.map_or_else(|| "it is absent".to_owned(), |value| format!("it is \"{value}\""));
                format!("{} must be {}, {found}", condition.field, condition.text)
            }
        }
    }
}

/// The values of a field in a request, for an explanation.
fn found(field: &Field, request: &Request<'_>) -> Option<String> {
    let values: Vec<String> = match field {
        Field::Header(name) => request
            .headers
            .get_all(name)
            .into_iter()
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            .collect(),
        Field::Cookie(name) => {
            request.cookies().filter(|(n, _)| *n == &**name).map(|(_, value)| value.to_owned()).collect()
        }
        Field::Query(name) => {
            request.query_parameters().filter(|(n, _)| n == &**name).map(|(_, value)| value.into_owned()).collect()
        }
        Field::Plugin(name) => {
            request.attributes.iter().filter(|(n, _)| n == name).map(|(_, value)| value.to_string()).collect()
        }
    };
    (!values.is_empty()).then(|| values.join("\", \""))
}

#[cfg(test)]
mod tests;
