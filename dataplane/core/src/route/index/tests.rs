use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method};
use proptest::prelude::*;

use super::*;
use crate::name::ObjectName;
use crate::route::{Matcher, RouteTable, Rule, Source};
use crate::split::Split;
use crate::stats::StatsId;

const WORDS: [&str; 4] = ["a", "b", "c", "dd"];

/// Paths of these words, as deep as three of them.
fn path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(&WORDS[..]), 0..4).prop_map(|words| format!("/{}", words.join("/")))
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["x-one", "x-two", "x-three", "cookie"])
}

fn field() -> impl Strategy<Value = Field> {
    prop_oneof![
        name().prop_map(|name| Field::Header(HeaderName::from_static(name))),
        name().prop_map(|name| Field::Cookie(name.into())),
        name().prop_map(|name| Field::Query(name.into())),
    ]
}

fn condition() -> impl Strategy<Value = Condition> {
    let word = || prop::sample::select(&WORDS[..]);
    let text = prop_oneof![
        4 => word().prop_map(|word| TextMatch::Exact(word.into())),
        1 => word().prop_map(|word| TextMatch::Prefix(word.into())),
        1 => Just(TextMatch::Present),
        1 => Just(TextMatch::Absent),
    ];
    (field(), text).prop_map(|(field, text)| Condition { field, text })
}

fn matcher() -> impl Strategy<Value = Matcher> {
    let path = prop_oneof![
        path().prop_map(|path| Some(PathMatch::Exact(path.into()))),
        path().prop_map(|path| Some(PathMatch::prefix(&path))),
        Just(Some(PathMatch::Suffix("dd".into()))),
        Just(None),
    ];
    let methods = prop::sample::select(vec![vec![], vec![Method::GET], vec![Method::PUT, Method::POST]]);
    (path, methods, prop::collection::vec(condition(), 0..3)).prop_map(|(path, methods, conditions)| Matcher {
        path,
        methods,
        conditions,
    })
}

fn entry(number: usize, matcher: Matcher) -> Entry {
    let split = Split::to(Vec::new());
    let name = ObjectName::new("RouteRule", "default", &format!("rule-{number:05}"));
    Entry::new(Arc::new(Rule::new(name, split, StatsId(0))), 0, matcher)
}

fn found(entry: Option<&Arc<Entry>>) -> Option<String> {
    entry.map(|entry| entry.rule.name.to_string())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn finds_what_looking_at_each_finds(
        matchers in prop::collection::vec(matcher(), Index::WORTHWHILE..40),
        path in path(),
        is_put in any::<bool>(),
        headers in prop::collection::vec((name(), "[abc]|dd|cookie=a|x-one=b; x-two=dd"), 0..5),
        query in prop::option::of("(x-one|x-two)=(a|b|dd)(&(x-three|cookie)=c)?"),
    ) {
        let entries = matchers.into_iter().enumerate().map(|(number, matcher)| entry(number, matcher)).collect();
        let table = RouteTable::new(entries);
        let mut map = HeaderMap::new();
        for (name, value) in &headers {
            map.append(*name, HeaderValue::from_str(value).unwrap_or(HeaderValue::from_static("")));
        }
        let source = Source { address: IpAddr::V4(Ipv4Addr::LOCALHOST), workload: None };
        let method = if is_put { Method::PUT } else { Method::GET };
        let request = Request { method: &method, path: &path, query: query.as_deref(), headers: &map, source, attributes: &[] };
        let each = table.entries().iter().find(|entry| entry.matcher.mismatch(&request).is_none());
        prop_assert_eq!(found(table.find(&request)), found(each));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// Entries of the first list stay where `changes` says nothing else of them: gone, with another matcher, or the same
    /// matcher and another rule. The others are new.
    #[test]
    fn an_updated_table_is_what_a_new_one_would_be(
        matchers in prop::collection::vec(matcher(), 0..24),
        changes in prop::collection::vec((0..24_usize, prop::option::of(prop::option::of(matcher()))), 0..6),
        paths in prop::collection::vec(path(), 4),
    ) {
        let mut wanted: BTreeMap<usize, Matcher> = matchers.into_iter().enumerate().collect();
        let table = RouteTable::new(wanted.iter().map(|(number, matcher)| entry(*number, matcher.clone())).collect());
        let mut added = BTreeMap::new();
        let mut gone = BTreeSet::new();
        for (number, change) in changes {
            let before = wanted.remove(&number);
            added.remove(&number);
            gone.insert(entry(number, Matcher::default()).rule.name.clone());
            if let Some(matcher) = change.and_then(|matcher| matcher.or(before)) {
                added.insert(number, Arc::new(entry(number, matcher.clone())));
                wanted.insert(number, matcher);
            }
        }
        let gone: Vec<_> = table.entries().iter().filter(|entry| gone.contains(&entry.rule.name)).collect();
        let gone: Vec<_> = gone.iter().map(|entry| entry.precedence.clone()).collect();
        let updated = table.updated(&gone, added.into_values().collect());
        let new = RouteTable::new(wanted.into_iter().map(|(number, matcher)| entry(number, matcher)).collect());
        let order = |table: &RouteTable| table.entries().iter().map(|one| one.precedence.clone()).collect::<Vec<_>>();
        prop_assert_eq!(order(&updated), order(&new));
        let headers = HeaderMap::new();
        let source = Source { address: IpAddr::V4(Ipv4Addr::LOCALHOST), workload: None };
        for path in &paths {
            let request = Request { method: &Method::GET, path, query: None, headers: &headers, source, attributes: &[] };
            prop_assert_eq!(found(updated.find(&request)), found(new.find(&request)));
        }
    }
}

/// What the index is for: of many entries that differ in one text, a request is compared with few.
#[test]
fn entries_that_differ_in_a_text_are_told_apart_by_it() {
    let header = |value: &str| {
        let field = Field::Header(HeaderName::from_static("x-user"));
        Condition { field, text: TextMatch::Exact(value.into()) }
    };
    let of = |number: usize| match number % 2 {
        0 => Matcher { path: Some(PathMatch::prefix(&format!("/tenant/{number}"))), ..Matcher::default() },
        _ => Matcher {
            path: Some(PathMatch::prefix("/tenant")),
            conditions: vec![header(&format!("user-{number}"))],
            ..Matcher::default()
        },
    };
    let entries: Vec<Entry> = (0..10_000).map(|number| entry(number, of(number))).collect();
    let table = RouteTable::new(entries);
    let index = Index::new(table.entries());
    assert!(index.others.is_empty());
    assert_eq!((index.filed.len(), index.headers.len()), (10_000, 1));
    assert!(index.filed.values().all(|places| places.as_slice().len() == 1));
}
