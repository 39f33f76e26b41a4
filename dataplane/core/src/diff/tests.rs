use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::{Map, json};

use super::*;

fn object(text: &str) -> ObjectName {
    let (kind, name) = text.split_once('/').unwrap_or(("RouteRule", text));
    ObjectName::new(kind, "default", name)
}

fn between(from: &[(&str, Value)], to: &[(&str, Value)], limits: &Limits) -> ChangeLog {
    let owned = |set: &[(&str, Value)]| -> BTreeMap<_, _> {
        set.iter().map(|(name, value)| (object(name), value.to_string())).collect()
    };
    let (from, to) = (owned(from), owned(to));
    ChangeLog::between(
        from.iter().map(|(name, text)| (name, text.as_str())),
        to.iter().map(|(name, text)| (name, text.as_str())),
        limits,
    )
}

/// The difference of one document as lines of text, without the line that names it.
fn fields(from: Value, to: Value) -> Vec<String> {
    let text = between(&[("x", from)], &[("x", to)], &Limits::default()).to_string();
    text.lines().skip(1).map(|line| line.trim().to_owned()).collect()
}

#[test]
fn objects_are_added_removed_and_changed() {
    let log = between(
        &[("gone", json!({})), ("same", json!({"a": 1})), ("other", json!({"a": 1}))],
        &[("new", json!({})), ("same", json!({"a": 1})), ("other", json!({"a": 2}))],
        &Limits::default(),
    );
    assert_eq!(
        (log.added.as_slice(), log.removed.as_slice()),
        ([object("new")].as_slice(), [object("gone")].as_slice())
    );
    assert_eq!(
        log.to_string(),
        "- RouteRule default/gone\n+ RouteRule default/new\n~ RouteRule default/other\n  - a: 1\n  + a: 2\n"
    );
    assert_eq!(ChangeLog::default().to_string(), "no difference\n");
}

#[test]
fn fields_are_named_as_people_would() {
    let destination = |host: &str, weight| json!({"host": host, "weight": weight});
    let cases: [(&str, Value, Value, &[&str]); 12] = [
        (
            "scalar",
            json!({"spec": {"priority": 1}}),
            json!({"spec": {"priority": 2}}),
            &["- spec.priority: 1", "+ spec.priority: 2"],
        ),
        ("new", json!({"spec": {}}), json!({"spec": {"mirror": {"host": "c"}}}), &[r#"+ spec.mirror: {"host":"c"}"#]),
        ("gone", json!({"spec": {"a": null}}), json!({"spec": {}}), &["- spec.a: null"]),
        ("type", json!({"a": [1]}), json!({"a": {"b": 1}}), &["- a: [1]", r#"+ a: {"b":1}"#]),
        (
            "key",
            json!({"annotations": {"weir.dev/x": "1"}}),
            json!({"annotations": {"weir.dev/x": "2"}}),
            &[r#"- annotations["weir.dev/x"]: "1""#, r#"+ annotations["weir.dev/x"]: "2""#],
        ),
        (
            "destinations by host",
            json!({"to": [destination("a", 90), destination("b", 10)]}),
            json!({"to": [destination("b", 20), destination("c", 80)]}),
            &[
                "- to[host=a]: {\"host\":\"a\",\"weight\":90}",
                "- to[host=b].weight: 10",
                "+ to[host=b].weight: 20",
                "+ to[host=c]: {\"host\":\"c\",\"weight\":80}",
            ],
        ),
        (
            "one host twice",
            json!({"to": [{"host": "a", "port": 1, "weight": 1}, {"host": "a", "port": 2, "weight": 1}]}),
            json!({"to": [{"host": "a", "port": 1, "weight": 1}, {"host": "a", "port": 2, "weight": 3}]}),
            &["- to[host=a,port=2].weight: 1", "+ to[host=a,port=2].weight: 3"],
        ),
        (
            "order counts",
            json!({"ports": [{"name": "a"}, {"name": "b"}]}),
            json!({"ports": [{"name": "b"}, {"name": "a"}]}),
            &[r#"- ports[order]: ["name=a","name=b"]"#, r#"+ ports[order]: ["name=b","name=a"]"#],
        ),
        (
            "also of what is new",
            json!({"ports": []}),
            json!({"ports": [{"name": "b"}, {"name": "a"}]}),
            &[
                r#"- ports[order]: []"#,
                r#"+ ports[order]: ["name=b","name=a"]"#,
                r#"+ ports[name=a]: {"name":"a"}"#,
                r#"+ ports[name=b]: {"name":"b"}"#,
            ],
        ),
        (
            "endpoints by address",
            json!({"endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"], "ready": true}]}),
            json!({"endpoints": [{"addresses": ["10.0.0.2"], "ready": false}]}),
            &[
                r#"- endpoints[addresses=10.0.0.1]: {"addresses":["10.0.0.1"]}"#,
                "- endpoints[addresses=10.0.0.2].ready: true",
                "+ endpoints[addresses=10.0.0.2].ready: false",
            ],
        ),
        (
            "scalars as a whole",
            json!({"methods": ["GET"]}),
            json!({"methods": ["GET", "PUT"]}),
            &[r#"- methods: ["GET"]"#, r#"+ methods: ["GET","PUT"]"#],
        ),
        (
            "by position",
            json!({"matches": [{"path": "/a"}, {}]}),
            json!({"matches": [{"path": "/b"}]}),
            &[r#"- matches[0].path: "/a""#, r#"+ matches[0].path: "/b""#, "- matches[1]: {}"],
        ),
    ];
    for (what, from, to, expected) in cases {
        assert_eq!(fields(from, to), expected, "{what}");
    }
}

#[test]
fn what_is_too_much_is_counted_and_shortened() {
    let many = |value: u32| Value::Object((0..100).map(|n| (format!("f{n:03}"), json!(value))).collect());
    let limits = Limits { fields: 3, value_bytes: 20 };
    let log = between(&[("x", many(1))], &[("x", many(2))], &limits);
    assert_eq!((log.changed[0].fields.len(), log.changed[0].more), (3, 97));
    assert!(log.to_string().ends_with("    and 97 more fields\n"), "{log}");

    let log = between(&[("x", json!({"a": "short"}))], &[("x", json!({"a": "l".repeat(30)}))], &limits);
    let field = &log.changed[0].fields[0];
    assert_eq!((&field.from, &field.to), (&Some(json!("short")), &Some(json!("(32 bytes, not kept)"))));
}

#[test]
fn json_form_round_trips_and_tells_null_from_absent() {
    let log = between(&[("x", json!({"a": null, "b": 1}))], &[("x", json!({"c": null, "b": 2}))], &Limits::default());
    let text = serde_json::to_string(&log).unwrap();
    assert!(text.contains(r#"{"path":"a","from":null}"#), "{text}");
    assert!(text.contains(r#"{"path":"c","to":null}"#), "{text}");
    assert_eq!(serde_json::from_str::<ChangeLog>(&text).unwrap(), log);
}

fn edge(from: &str, to: &str) -> Edge {
    Edge { from: object(from), to: object(to), field: "spec.route.destination.host".to_owned() }
}

/// The graph of a difference among objects with these references.
fn graph(log: &ChangeLog, edges: &[Edge], exists: impl Fn(&ObjectName) -> bool) -> DiffGraph {
    let references = |object: &ObjectName| edges.iter().filter(|edge| edge.from == *object).cloned().collect();
    let referrers = |objects: &BTreeSet<ObjectName>| {
        let referring = edges.iter().filter(|edge| objects.contains(&edge.to));
        referring.map(|edge| edge.from.clone()).collect()
    };
    DiffGraph::of(log, references, referrers, exists)
}

#[test]
fn the_graph_has_what_is_concerned_and_nothing_else() {
    let edges = [
        edge("rule", "Service/a"),
        edge("rule", "Service/b"),
        edge("far", "Service/c"),
        edge("Canary/k", "rule"),
        edge("EndpointSlice/a1", "Service/a"),
        edge("EndpointSlice/c1", "Service/c"),
        edge("rule", "Plugin/none"),
    ];
    // Each: what changed, and all nodes of the graph.
    let cases: [(&[&str], &[&str]); 4] = [
        (
            &["rule"],
            &["Canary/k affected", "Plugin/none missing", "rule changed", "Service/a affected", "Service/b affected"],
        ),
        (&["Service/c"], &["EndpointSlice/c1 affected", "far affected", "Service/c changed"]),
        (
            &["EndpointSlice/a1"],
            &["Canary/k affected", "EndpointSlice/a1 changed", "rule affected", "Service/a affected"],
        ),
        (&["lonely"], &["lonely changed"]),
    ];
    for (changed, expected) in cases {
        let changed =
            changed.iter().map(|name| Changed { object: object(name), fields: Vec::new(), more: 0 }).collect();
        let log = ChangeLog { changed, ..ChangeLog::default() };
        let graph = graph(&log, &edges, |object| &*object.name != "none");
        let name = |object: &ObjectName| match &*object.kind {
            "RouteRule" => object.name.to_string(),
            kind => format!("{kind}/{}", object.name),
        };
        let nodes: BTreeSet<_> =
            graph.nodes.iter().map(|node| format!("{} {}", name(&node.object), node.change)).collect();
        assert_eq!(nodes, expected.iter().map(ToString::to_string).collect::<BTreeSet<_>>(), "{log:?}");
        let kept = |object: &ObjectName| graph.change(object).is_some();
        assert!(graph.edges.iter().all(|edge| kept(&edge.from) && kept(&edge.to)));
    }
}

#[test]
fn the_graph_as_a_tree() {
    let log = ChangeLog { added: vec![object("rule")], removed: vec![object("Service/a")], ..ChangeLog::default() };
    let edges = [edge("rule", "Service/b"), edge("old", "Service/a"), edge("rule", "Service/a")];
    let graph = graph(&log, &edges, |_| true);
    let by = "by spec.route.destination.host";
    assert_eq!(
        graph.to_string(),
        format!(
            "RouteRule default/rule (added)\n\
             |- -> Service default/a (removed) {by}\n\
             `- -> Service default/b (affected) {by}\n\
             Service default/a (removed)\n\
             |- <- RouteRule default/old (affected) {by}\n\
             `- <- RouteRule default/rule (added) {by}\n"
        )
    );
}

#[test]
fn a_graph_is_bounded_and_keeps_what_changed() {
    let added: Vec<_> = (0..1990).map(|n| object(&format!("r{n:05}"))).collect();
    let edges: Vec<_> = (0..50).map(|n| edge("r00000", &format!("Service/s{n}"))).collect();
    let graph = graph(&ChangeLog { added, ..ChangeLog::default() }, &edges, |_| true);
    assert_eq!((graph.nodes.len(), graph.more), (2000, 40));
    assert_eq!(graph.nodes.iter().filter(|node| node.change == NodeChange::Added).count(), 1990);
}

/// Values like those of documents: few distinct keys and names, so that lists share elements.
fn documents() -> impl Strategy<Value = Value> {
    let key = || proptest::sample::select(vec!["name", "host", "port", "a", "x.y/z"]);
    let scalar = prop_oneof![
        Just(Value::Null),
        (0..4_i32).prop_map(Value::from),
        proptest::sample::select(vec!["a", "b", "c", "a]b", ""]).prop_map(Value::from),
    ];
    scalar.prop_recursive(4, 48, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key(), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Map<_, _>>())),
        ]
    })
}

/// Every path of a difference leads, in each value, to what the difference says is there.
fn lookup<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    let mut value = value;
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("[\"") {
            let (key, after) = quoted.split_once("\"]")?;
            (value, rest) = (value.get(key)?, after);
        } else if let Some(inside) = rest.strip_prefix('[') {
            let (key, after) = inside.split_once(']')?;
            value = match key.parse::<usize>() {
                Ok(position) => value.get(position)?,
                Err(_) => value.as_array()?.iter().find(|element| has(element, key))?,
            };
            rest = after;
        } else {
            let path = rest.strip_prefix('.').unwrap_or(rest);
            let end = path.find(['.', '[']).unwrap_or(path.len());
            (value, rest) = (value.get(&path[..end])?, &path[end..]);
        }
    }
    Some(value)
}

fn has(element: &Value, key: &str) -> bool {
    key.split(',').all(|part| {
        let (field, text) = part.split_once('=').unwrap_or((part, ""));
        match element.get(field) {
            Some(Value::String(value)) => value == text,
            Some(Value::Array(list)) => list.first().and_then(Value::as_str) == Some(text),
            Some(other) => serde_json::to_string(other).is_ok_and(|shown| shown == text),
            None => false,
        }
    })
}

/// Stands for a removed element until all changes are made, so that positions stay what they were.
const GONE: &str = "gone";

fn drop_gone(value: &mut Value) {
    match value {
        Value::Array(list) => {
            list.retain(|element| element != GONE);
            list.iter_mut().for_each(drop_gone);
        }
        Value::Object(map) => map.values_mut().for_each(drop_gone),
        _ => {}
    }
}

/// Puts what a difference says into the older value; what results must be the newer one.
fn apply(value: &mut Value, from: &Value, changes: &[FieldChange]) {
    for change in changes.iter().filter(|change| !change.path.ends_with("[order]")) {
        assert_eq!(lookup(from, &change.path), change.from.as_ref(), "{}", change.path);
        let (parent, last) = split(&change.path);
        let Some(last) = last else {
            *value = change.to.clone().unwrap();
            continue;
        };
        let place = pointer(value, parent).expect("the parent of a changed field exists");
        put(place, last, change);
    }
    drop_gone(value);
    for change in changes.iter().filter(|change| change.path.ends_with("[order]")) {
        let list = pointer(value, change.path.strip_suffix("[order]").unwrap()).and_then(Value::as_array_mut).unwrap();
        let order = change.to.as_ref().and_then(Value::as_array).unwrap();
        list.sort_by_key(|element| order.iter().position(|key| has(element, key.as_str().unwrap())));
    }
}

/// The path of what holds a field, and the field's own last step.
fn split(path: &str) -> (&str, Option<&str>) {
    if path.is_empty() {
        return ("", None);
    }
    // Quoted keys end in `"]` and hold no `["`, plain ones have neither bracket nor dot.
    let at = if path.ends_with(']') { path.rfind('[').unwrap() } else { path.rfind('.').unwrap_or(0) };
    (&path[..at], Some(&path[at..]))
}

fn pointer<'v>(value: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    let (parent, last) = split(path);
    let Some(last) = last else { return Some(value) };
    let parent = pointer(value, parent)?;
    let step = last.trim_start_matches('.').trim_start_matches('[').trim_end_matches(']');
    match parent {
        Value::Object(map) => map.get_mut(step.trim_matches('"')),
        Value::Array(list) => match step.parse::<usize>() {
            Ok(position) => list.get_mut(position),
            Err(_) => list.iter_mut().find(|element| has(element, step)),
        },
        _ => None,
    }
}

fn put(place: &mut Value, last: &str, change: &FieldChange) {
    let step = last.trim_start_matches('.').trim_start_matches('[').trim_end_matches(']');
    match (place, &change.to) {
        (Value::Object(map), Some(to)) => drop(map.insert(step.trim_matches('"').to_owned(), to.clone())),
        (Value::Object(map), None) => drop(map.remove(step.trim_matches('"'))),
        (Value::Array(list), to) => {
            let at = match step.parse::<usize>() {
                Ok(position) => Some(position),
                Err(_) => list.iter().position(|element| has(element, step)),
            };
            match (at.filter(|at| *at < list.len()), to) {
                (Some(at), to) => list[at] = to.clone().unwrap_or_else(|| GONE.into()),
                (None, Some(to)) => list.push(to.clone()),
                (None, None) => panic!("{} is not there", change.path),
            }
        }
        (other, _) => panic!("{other} has no fields"),
    }
}

proptest! {
    #[test]
    fn nothing_differs_from_itself(value in documents()) {
        prop_assert!(between(&[("x", value.clone())], &[("x", value)], &Limits::NONE).is_empty());
    }

    #[test]
    fn a_difference_explains_everything(from in documents(), to in documents()) {
        let changes = fields::compare(&from, &to);
        prop_assert_eq!(changes.is_empty(), from == to);
        for change in &changes {
            prop_assert_ne!(&change.from, &change.to, "{}", &change.path);
        }
        let mut applied = from.clone();
        apply(&mut applied, &from, &changes);
        prop_assert_eq!(applied, to);
    }
}
