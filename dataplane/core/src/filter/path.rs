//! Changes of a path.

use std::borrow::Cow;
use std::fmt;

use crate::route::PathMatch;

/// What becomes of a path. What is written here is as it goes on the wire: encoded, beginning with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathChange {
    /// The whole path.
    Full(Box<str>),
    /// The prefix that the rule's condition names. Kept without a slash at the end, so that none is doubled.
    Prefix(Box<str>),
}

impl PathChange {
    /// A change of the prefix; a slash at the end means nothing, as in the Gateway API.
    pub fn prefix(with: &str) -> Self {
        Self::Prefix(with.trim_end_matches('/').into())
    }

    /// The path instead of this one, which met that condition. Never empty.
    pub fn apply<'a>(&'a self, path: &str, path_match: Option<&PathMatch>) -> Cow<'a, str> {
        let new = match self {
            Self::Full(new) => Cow::Borrowed(&**new),
            Self::Prefix(with) => {
                let prefix = match path_match {
                    Some(PathMatch::Prefix(prefix)) => &**prefix,
                    // What is written without a prefix is the prefix `/`.
                    _ => "",
                };
                Cow::Owned(format!("{with}{}", path.strip_prefix(prefix).unwrap_or(path)))
            }
        };
        if new.is_empty() { Cow::Borrowed("/") } else { new }
    }
}

impl fmt::Display for PathChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(path) => write!(f, "becomes \"{path}\""),
            Self::Prefix(path) if path.is_empty() => f.write_str("its prefix is removed"),
            Self::Prefix(path) => write!(f, "its prefix becomes \"{path}\""),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `HTTPPathModifier` in the Gateway API, and what it does not say.
    #[test]
    fn prefixes_are_replaced_as_the_gateway_api_has_it() {
        let cases = [
            ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
            ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
            ("/foo", "/foo", "/xyz", "/xyz"),
            ("/foo/", "/foo", "/xyz", "/xyz/"),
            ("/foo/bar", "/foo", "", "/bar"),
            ("/foo/", "/foo", "", "/"),
            ("/foo", "/foo", "", "/"),
            ("/foo/", "/foo", "/", "/"),
            ("/foo", "/foo", "/", "/"),
            ("/foo/bar", "/", "/xyz", "/xyz/foo/bar"),
            ("/", "/", "/xyz", "/xyz/"),
            ("/a%2Fb/c", "/a%2Fb", "/x", "/x/c"),
        ];
        for (path, prefix, with, expected) in cases {
            let change = PathChange::prefix(with);
            assert_eq!(change.apply(path, Some(&PathMatch::prefix(prefix))), expected, "{path} {prefix} {with}");
        }
        assert_eq!(PathChange::prefix("/xyz").apply("/foo", None), "/xyz/foo");
        assert_eq!(PathChange::Full("/one".into()).apply("/foo/bar", Some(&PathMatch::prefix("/foo"))), "/one");
        assert_eq!(PathChange::Full("".into()).apply("/foo/bar", None), "/");
    }
}
