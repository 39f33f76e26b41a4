//! The same plugin in several languages (`plugins/guests/languages`), each with its compiler's runtime. What it does is said in
//! `tests.yaml` there, which `make test` runs in the host; here it does it on the wire.

use std::path::Path;
use std::time::Duration;

use crate::support::message::Message;
use crate::support::plugins::{loaded_of, probe};
use crate::support::upstream::{Upstream, response};
use crate::support::world::World;
use crate::support::{Node, get};
use weir_core::plugin::{Limits, Plugin};

/// Enough for each language's collector to have run.
const REQUESTS: usize = 3_000;

fn module(language: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../target/plugins/language-{language}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}: run `make plugins` first", path.display()))
}

fn serves(language: &str) {
    let authority = Upstream::saying("let it pass");
    let upstream = Upstream::answering(|request: &Message| response(200, &request.body));
    // Time is what others measure: this machine may be busy.
    let limits = Limits { callback: Duration::from_secs(1), ..Limits::default() };
    let plugins = loaded_of([Plugin { limits, ..probe(language, "gate") }], &module(language));
    let host = plugins[0].loaded.get::<weir_plugin_host::Plugin>().unwrap();
    let world = World::new(&[upstream.address]).service("auth", &[authority.address]);
    let node = Node::start(world.plugins(plugins));
    let mut client = node.client();
    for count in 1..=REQUESTS {
        let answer = client.ask(&get("/a?b", &["x-first: 1"]));
        let expected = (200, Some(count.to_string()), Some("/a".to_owned()));
        let found = (answer.status(), answer.header("x-count"), answer.header("x-path"));
        assert_eq!((found.0, found.1.map(str::to_owned), found.2.map(str::to_owned)), expected, "{language}");
    }
    let seen = upstream.requests().pop().unwrap();
    let headers = ["x-by", "x-seen", "x-first"].map(|name| seen.header(name));
    assert_eq!(headers, [Some("gate"), Some("GET /a?b"), None], "{language}");

    let answer = client.ask("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello");
    assert_eq!((answer.status(), answer.text()), (200, "gate:hello"), "{language}");

    let answer = client.ask(&get("/", &["x-ask: refuse"]));
    assert_eq!((answer.status(), answer.header("x-by")), (403, Some("gate")), "{language}");
    assert_eq!(answer.text(), "refused by gate", "{language}");

    let answer = client.ask(&get("/", &["x-ask: call"]));
    assert_eq!(answer.status(), 200, "{language}");
    assert_eq!(upstream.requests().last().unwrap().header("x-answer"), Some("let it pass"), "{language}");
    assert!(authority.requests()[0].first.starts_with("GET /check "), "{language}");

    let totals = host.totals();
    assert_eq!((totals.traps, totals.timeouts, totals.instances), (0, 0, 1), "{language}");
    assert!(totals.memory <= 16 << 20, "{language}: {totals:?}");

    assert_eq!(client.ask(&get("/", &["x-ask: fail"])).status(), 503, "{language}");
    assert_eq!(client.ask(&get("/", &[])).status(), 200, "{language}");
    assert_eq!(host.totals().traps, 1, "{language}");
}

#[test]
fn assemblyscript_serves() {
    serves("assemblyscript");
}

#[test]
fn cpp_serves() {
    serves("cpp");
}

#[test]
fn go_serves() {
    serves("go");
}
