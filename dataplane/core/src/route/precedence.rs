//! Which of several matching entries wins, as an order.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use super::matcher::Matcher;
use crate::name::ObjectName;

/// How specific the path condition of an entry is. Later variants are more specific.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathSpecificity {
    /// No condition, or the prefix `/`.
    #[default]
    Any,
    /// One that cannot be measured: a regex, a suffix.
    Pattern,
    /// A prefix, the longer the more specific.
    Prefix(usize),
    /// The exact path.
    Exact,
}

/// When a document was created, as Kubernetes writes it: `2026-01-31T12:00:00Z`. Always of this form, so that the order
/// of the texts is the order of the times.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Created(pub Arc<str>);

/// The order among entries; the least comes first and wins.
///
/// 1. at a gateway, the more specific host name;
/// 2. higher `priority` of the rule;
/// 3. exact path, then longer prefix, then a regex or suffix, then none;
/// 4. a method condition before none;
/// 5. more header conditions (cookies count as headers, for that is what they are);
/// 6. more query conditions;
/// 7. the older document, where both say when they were created;
/// 8. `namespace/name` of the document in alphabetical order;
/// 9. position of the rule in its document, then of the match in the rule.
///
/// All but the priority are those of the Gateway API (`HTTPRouteRule.matches`), so that a table in which both kinds of
/// rules meet has one order. Where the API leaves a place open, to regexes and to documents without an age, it is the
/// one said here: a document without an age comes after those that have one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precedence {
    /// [`Hostname::specificity`](crate::gateway::Hostname::specificity) of what the route is for; 0 for rules of services.
    pub hostname: u32,
    /// The rule's `priority`.
    pub priority: i32,
    /// Of the path condition.
    pub path: PathSpecificity,
    /// Whether there is a method condition.
    pub has_method: bool,
    /// Number of header and cookie conditions.
    pub headers: usize,
    /// Number of query conditions.
    pub query: usize,
    /// When the rule's document was created.
    pub created: Option<Created>,
    /// The rule's document.
    pub rule: ObjectName,
    /// Which of the document's rules, from 0.
    pub section: usize,
    /// Which of the rule's matches, from 0.
    pub position: usize,
}

impl Ord for Precedence {
    fn cmp(&self, other: &Self) -> Ordering {
        let specific = |p: &Self| Reverse((p.hostname, p.priority, p.path, p.has_method, p.headers, p.query));
        let by_rule = || (&self.rule.namespace, &self.rule.name).cmp(&(&other.rule.namespace, &other.rule.name));
        specific(self)
            .cmp(&specific(other))
            .then_with(|| (self.created.is_none(), &self.created).cmp(&(other.created.is_none(), &other.created)))
            .then_with(by_rule)
            .then_with(|| self.rule.kind.cmp(&other.rule.kind))
            .then((self.section, self.position).cmp(&(other.section, other.position)))
    }
}

impl Precedence {
    /// The place of the first match of a document that says nothing about its priority and age.
    pub fn of(matcher: &Matcher, rule: &ObjectName) -> Self {
        let (headers, query) = matcher.counts();
        Self {
            hostname: 0,
            priority: 0,
            path: matcher.path_specificity(),
            has_method: !matcher.methods.is_empty(),
            headers,
            query,
            created: None,
            rule: rule.clone(),
            section: 0,
            position: 0,
        }
    }

    /// Why this comes before the other, for people.
    pub fn why_before(&self, other: &Self) -> &'static str {
        if self.hostname != other.hostname {
            "its host name is more specific"
        } else if self.priority != other.priority {
            "its priority is higher"
        } else if self.path != other.path {
            match self.path {
                PathSpecificity::Exact => "an exact path is more specific",
                PathSpecificity::Prefix(_) if matches!(other.path, PathSpecificity::Prefix(_)) => {
                    "its path prefix is longer"
                }
                _ => "its condition on the path is more specific",
            }
        } else if self.has_method != other.has_method {
            "it has a condition on the method"
        } else if self.headers != other.headers {
            "it has more conditions on headers"
        } else if self.query != other.query {
            "it has more conditions on the query"
        } else if self.created != other.created {
            "equally specific, and it is older"
        } else if self.rule != other.rule {
            "equally specific, and its name comes first in the alphabet"
        } else if self.section != other.section {
            "equally specific, and it is an earlier rule of the same document"
        } else {
            "it is an earlier match of the same rule"
        }
    }
}

impl PartialOrd for Precedence {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(
        priority: i32,
        path: PathSpecificity,
        conditions: (bool, usize, usize),
        name: &str,
        position: usize,
    ) -> Precedence {
        let (has_method, headers, query) = conditions;
        let rule = ObjectName::new("RouteRule", "default", name);
        let (created, section) = (None, 0);
        Precedence { hostname: 0, priority, path, has_method, headers, query, created, rule, section, position }
    }

    fn created(at: &str, section: usize) -> Precedence {
        let created = Some(Created(at.into()));
        Precedence { created, section, ..entry(0, PathSpecificity::Any, (false, 0, 0), "z", 0) }
    }

    #[test]
    fn each_point_beats_all_later_ones() {
        use PathSpecificity::{Any, Exact, Pattern, Prefix};
        let in_order = [
            Precedence { hostname: 1, ..entry(-1, Any, (false, 0, 0), "z", 9) },
            entry(1, Any, (false, 0, 0), "z", 9),
            entry(0, Exact, (false, 0, 0), "z", 9),
            entry(0, Prefix(5), (false, 0, 0), "z", 9),
            entry(0, Prefix(2), (true, 0, 0), "z", 9),
            entry(0, Prefix(2), (false, 9, 9), "z", 9),
            entry(0, Pattern, (false, 0, 0), "z", 9),
            entry(0, Any, (true, 0, 0), "z", 9),
            entry(0, Any, (false, 2, 0), "z", 9),
            entry(0, Any, (false, 1, 2), "z", 9),
            entry(0, Any, (false, 1, 1), "a", 9),
            entry(0, Any, (false, 1, 1), "b", 0),
            entry(0, Any, (false, 1, 1), "b", 1),
            created("2025-12-31T23:59:59Z", 1),
            created("2026-01-01T00:00:00Z", 0),
            created("2026-01-01T00:00:00Z", 1),
            entry(0, Any, (false, 0, 0), "a", 0),
            entry(-1, Exact, (true, 9, 9), "a", 0),
        ];
        for (i, one) in in_order.iter().enumerate() {
            for (j, other) in in_order.iter().enumerate() {
                assert_eq!(one.cmp(other), i.cmp(&j), "{one:?} against {other:?}");
            }
        }
    }
}
