//! Which of several matching entries wins, as an order.

use std::cmp::{Ordering, Reverse};

use crate::name::ObjectName;

/// How specific the path condition of an entry is. Later variants are more specific.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathSpecificity {
    /// No condition, or one that cannot be measured (regex, suffix).
    #[default]
    Any,
    /// A prefix, the longer the more specific.
    Prefix(usize),
    /// The exact path.
    Exact,
}

/// The order among entries; the least comes first and wins.
///
/// 1. higher `priority` of the rule;
/// 2. exact path, then longer prefix, then anything else;
/// 3. a method condition before none;
/// 4. more header conditions (cookies count as headers, for that is what they are);
/// 5. more query conditions;
/// 6. `namespace/name` of the rule in alphabetical order;
/// 7. position of the match in the rule.
///
/// Points 2 to 5 and the last two are those of the Gateway API (`HTTPRouteRule.matches`), so that a table in which
/// both kinds of rules meet has one order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Precedence {
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
    /// The rule.
    pub rule: ObjectName,
    /// Which of the rule's matches, from 0.
    pub position: usize,
}

impl Ord for Precedence {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |p: &Self| (Reverse((p.priority, p.path, p.has_method, p.headers, p.query)), p.position);
        let (mine, theirs) = (key(self), key(other));
        let by_rule = || (&self.rule.namespace, &self.rule.name).cmp(&(&other.rule.namespace, &other.rule.name));
        mine.0
            .cmp(&theirs.0)
            .then_with(by_rule)
            .then_with(|| self.rule.kind.cmp(&other.rule.kind))
            .then(mine.1.cmp(&theirs.1))
    }
}

impl Precedence {
    /// Why this comes before the other, for people.
    pub fn why_before(&self, other: &Self) -> &'static str {
        if self.priority != other.priority {
            "its priority is higher"
        } else if self.path != other.path {
            match self.path {
                PathSpecificity::Exact => "an exact path is more specific",
                _ => "its path prefix is longer",
            }
        } else if self.has_method != other.has_method {
            "it has a condition on the method"
        } else if self.headers != other.headers {
            "it has more conditions on headers"
        } else if self.query != other.query {
            "it has more conditions on the query"
        } else if self.rule != other.rule {
            "equally specific, and its name comes first in the alphabet"
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
        Precedence { priority, path, has_method, headers, query, rule, position }
    }

    #[test]
    fn each_point_beats_all_later_ones() {
        use PathSpecificity::{Any, Exact, Prefix};
        let in_order = [
            entry(1, Any, (false, 0, 0), "z", 9),
            entry(0, Exact, (false, 0, 0), "z", 9),
            entry(0, Prefix(5), (false, 0, 0), "z", 9),
            entry(0, Prefix(2), (true, 0, 0), "z", 9),
            entry(0, Prefix(2), (false, 9, 9), "z", 9),
            entry(0, Any, (true, 0, 0), "z", 9),
            entry(0, Any, (false, 2, 0), "z", 9),
            entry(0, Any, (false, 1, 2), "z", 9),
            entry(0, Any, (false, 1, 1), "a", 9),
            entry(0, Any, (false, 1, 1), "b", 0),
            entry(0, Any, (false, 1, 1), "b", 1),
            entry(-1, Exact, (true, 9, 9), "a", 0),
        ];
        for (i, one) in in_order.iter().enumerate() {
            for (j, other) in in_order.iter().enumerate() {
                assert_eq!(one.cmp(other), i.cmp(&j), "{one:?} against {other:?}");
            }
        }
    }
}
