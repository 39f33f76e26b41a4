//! Requests, real and as people describe them, under a configuration with every kind of condition: deciding ends, is
//! the same for the same user, and an explanation names the rule that decides.
#![no_main]

use std::sync::LazyLock;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use libfuzzer_sys::fuzz_target;
use weir_config::{SourceFile, compile, parse};
use weir_core::explain::{Described, explain};
use weir_core::filter::{Asked, Scheme};
use weir_core::revision::Sequence;
use weir_core::route::{Outcome, Request, Source};
use weir_core::session::Token;
use weir_core::snapshot::Snapshot;
use weir_core::split::ChosenBy;
use weir_core::stats::StatsTable;

static SNAPSHOT: LazyLock<Snapshot> = LazyLock::new(|| {
    let texts = [
        include_str!("../../../dataplane/config/tests/world.yaml"),
        include_str!("../../../dataplane/config/tests/cases/everything-right.yaml"),
        include_str!("../rules.yaml"),
    ];
    let files = texts.map(|text| SourceFile::new("fuzz.yaml", text));
    let parsed = parse(&files);
    assert!(!parsed.has_errors(), "{:?}", parsed.diagnostics);
    let compiled = compile(&parsed.documents, Sequence(1), &mut StatsTable::default());
    compiled.snapshot.expect("the configuration is right")
});

fuzz_target!(|data: &[u8]| {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let (target, method, from) = (line(), line(), line());
    let fields: Vec<&[u8]> = lines.collect();
    if let (Ok(url), Ok(method), Ok(from)) = (str::from_utf8(target), str::from_utf8(method), str::from_utf8(from)) {
        let headers = fields.iter().filter_map(|field| str::from_utf8(field).ok()).map(str::to_owned).collect();
        let from = (!from.is_empty()).then(|| from.to_owned());
        let _any_answer = Described { url: url.into(), method: method.into(), from, headers }.explain(&SNAPSHOT);
    }
    let Ok(method) = Method::from_bytes(method) else { return };
    let Ok(uri) = http::Uri::try_from(target) else { return };
    let mut headers = HeaderMap::new();
    for field in fields.iter().take(64) {
        let (name, value) = field.split_at(field.iter().position(|byte| *byte == b':').unwrap_or(0));
        if let (Ok(name), Ok(value)) =
            (HeaderName::from_bytes(name), HeaderValue::from_bytes(value.get(1..).unwrap_or_default()))
        {
            headers.append(name, value);
        }
    }
    let address = std::net::IpAddr::from([10, 42, 0, from.first().copied().unwrap_or(9)]);
    let source = Source { address, workload: SNAPSHOT.workload(address).map(AsRef::as_ref) };
    let request =
        Request { method: &method, path: uri.path(), query: uri.query(), headers: &headers, source, attributes: &[] };
    for token in headers.values().filter_map(|value| Token::parse(value.to_str().ok()?)) {
        assert_eq!(Token::parse(&token.to_string()), Some(token));
    }
    for frontend in SNAPSHOT.frontends() {
        let (one, other) = (frontend.decide(&request, 0), frontend.decide(&request, u64::MAX));
        let name = |decision: &weir_core::route::Decision<'_>| decision.rule().map(|rule| rule.title());
        assert_eq!(name(&one), explain(&SNAPSHOT, frontend, &request, None).rule);
        assert_eq!(name(&one), name(&other), "no draw decides which rule matches");
        match (one.outcome, other.outcome) {
            (Outcome::Destination(chosen, ChosenBy::Key), Outcome::Destination(again, _)) => {
                assert_eq!(chosen.name, again.name, "no draw decides for a user with a key");
            }
            (Outcome::Redirect(redirect), _) => {
                let (scheme, path) = (Scheme::Http, uri.path());
                let asked =
                    Asked { scheme, host: "a", port: 80, path, query: uri.query(), path_match: one.path_match() };
                let location = redirect.location(&asked);
                assert!(HeaderValue::try_from(&location).is_ok(), "{location:?} can be sent");
            }
            (Outcome::Preflight(preflight), _) => drop(preflight.answer(&headers)),
            _ => {}
        }
        if let Some(path) = one.filters().and_then(|filters| filters.rewrite.path.as_ref()) {
            let path = path.apply(uri.path(), one.path_match());
            assert!(path.parse::<PathAndQuery>().is_ok(), "{path:?} can be sent");
        }
    }
});
