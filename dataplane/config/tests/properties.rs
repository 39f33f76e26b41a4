//! Properties of whatever text somebody puts into a folder.

use proptest::prelude::*;
use serde_json::{Map, Value};
use weir_config::{Origin, SourceFile, compile, from_canonical, parse};
use weir_core::revision::Sequence;
use weir_core::stats::StatsTable;

fn file(name: &str, text: String) -> SourceFile {
    SourceFile::new(name, text)
}

/// Reads and compiles; all that is asked for is that it ends without a panic, and that what is kept is read again.
fn survive(files: &[SourceFile]) {
    let parsed = parse(files);
    let compiled = compile(&parsed.documents, Sequence(1), &mut StatsTable::default());
    assert_eq!(compiled.snapshot.is_none(), compiled.diagnostics.iter().any(weir_config::Diagnostic::is_error));
    let kept = parsed.documents.iter().map(|document| (document.name.clone(), &*document.canonical, Origin::default()));
    match from_canonical(kept) {
        Ok(again) => assert_eq!(again.documents.id(), parsed.documents.id()),
        Err(diagnostics) => assert!(diagnostics.is_empty(), "what was right is wrong when read again: {diagnostics:?}"),
    }
}

/// Readers of YAML take quadratic time for this; it must not reach them. The bound is a thousand times what it takes.
#[test]
fn what_is_refused_is_refused_at_once() {
    for unit in ["[", "{", "- ", "? ", "!", "*a ", "&a "] {
        let start = std::time::Instant::now();
        let parsed = parse(&[file("a.yaml", unit.repeat((2 << 20) / unit.len()))]);
        assert!(parsed.has_errors() && parsed.documents.is_empty(), "{unit}");
        assert!(start.elapsed() < std::time::Duration::from_secs(30), "{unit} took {:?}", start.elapsed());
    }
}

/// Pieces that texts near to documents are made of.
fn piece() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "apiVersion: weir.dev/v1\n",
        "kind: RouteRule\n",
        "metadata: {name: a}\n",
        "spec:\n",
        "  match:\n",
        "    headers: {x: y}\n",
        "    - path: {prefix: /a}\n",
        "  route: {destination: {host: a, port: 1}}\n",
        "  mirror: {destination: {host: a}}\n",
        "---\n",
        "- ",
        "  ",
        "&a ",
        "*a",
        "<<: *a\n",
        "{",
        "}",
        "[",
        "]",
        ": ",
        "? ",
        "| \n",
        "'",
        "\"",
        "!t ",
        "#",
        "\t",
        "kind: Service\n",
        "apiVersion: v1\n",
        "kind: List\n",
        "items:\n",
        "  ports: [{port: 80}]\n",
        "\u{feff}",
        "\u{85}",
        "%YAML 1.2\n",
        "...\n",
        "null",
        "1e400",
        "0x",
        ".inf",
    ]);
    prop_oneof![4 => words.prop_map(str::to_owned), 1 => any::<String>()]
}

/// A value as JSON text, with the fields of its objects in an order that depends on `seed`.
fn shuffled(value: &Value, seed: u64) -> String {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_by_key(|(key, _)| {
                key.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
            });
            let fields = fields
                .into_iter()
                .map(|(key, value)| format!("{}: {}", Value::from(key.as_str()), shuffled(value, seed)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::Array(list) => {
            let list = list.iter().map(|value| shuffled(value, seed));
            format!("[{}]", list.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Specs that are right.
fn spec() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        "[a-z0-9]{1,8}".prop_map(Value::from),
        ("(exact|prefix|suffix)", "[ -~]{1,8}")
            .prop_map(|(key, text)| Value::from(Map::from_iter([(key, text.into())]))),
    ];
    let texts =
        prop::collection::btree_map("[a-z]{1,6}", text, 0..4).prop_map(|texts| Value::from(Map::from_iter(texts)));
    let matched = (texts.clone(), texts.clone(), texts).prop_map(
        |(headers, cookies, query)| serde_json::json!({"headers": headers, "cookies": cookies, "query": query}),
    );
    let destination = ("[a-z]{1,6}", 1..65_535_u16, 0..100_u32)
        .prop_map(|(host, port, weight)| serde_json::json!({"host": host, "port": port, "weight": weight}));
    let destinations = prop::collection::btree_map("[a-z]{1,6}", destination, 1..4).prop_map(|by_host| {
        by_host
            .into_iter()
            .map(|(host, mut one)| {
                one["host"] = host.into();
                one
            })
            .collect::<Vec<_>>()
    });
    let sometimes = prop::option::of(-1000..1000_i64);
    (prop::collection::vec(matched, 1..4), destinations, sometimes).prop_map(|(matches, destinations, priority)| {
        serde_json::json!({"match": matches, "route": {"destinations": destinations}, "priority": priority})
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        survive(&[file("a.yaml", text.clone()), file("a.json", text)]);
    }

    #[test]
    fn nearly_documents_are_survived(pieces in prop::collection::vec(piece(), 0..24)) {
        survive(&[file("a.yaml", pieces.concat()), file("b.json", pieces.concat())]);
    }

    #[test]
    fn order_of_keys_and_format_do_not_count(spec in spec(), seed in any::<u64>()) {
        let document = serde_json::json!({
            "apiVersion": "weir.dev/v1", "kind": "RouteRule", "metadata": {"name": "r", "labels": {"a": "b", "c": "d"}},
            "spec": spec,
        });
        let of = |name: &str, text: String| {
            let parsed = parse(&[file(name, text)]);
            assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
            parsed.documents.id()
        };
        let id = of("a.json", document.to_string());
        prop_assert_eq!(of("a.json", shuffled(&document, seed)), id);
        prop_assert_eq!(of("a.yaml", shuffled(&document, seed)), id);
        prop_assert_eq!(of("a.yaml", serde_yaml::to_string(&document).unwrap_or_default()), id);
    }
}
