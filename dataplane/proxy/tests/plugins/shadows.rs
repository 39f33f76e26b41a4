//! Plugins that are tried out beside the one in force.

use std::sync::Arc;

use crate::support::plugins::{chunked, echo, loaded, probe};
use crate::support::upstream::Upstream;
use crate::support::world::World;
use crate::support::{Node, get, until};
use weir_core::plugin::{Loaded, ModuleLocation, ModuleSource, Plugin, Shadow};
use weir_plugin_host::Compared;

/// A plugin with another beside it.
fn beside(script: &str, shadow: &str) -> Vec<Arc<Plugin>> {
    let shadow = Shadow {
        module: ModuleSource { from: ModuleLocation::File("probe.wasm".into()), sha256: None },
        configuration: shadow.as_bytes().into(),
        loaded: Loaded::default(),
    };
    loaded([Plugin { shadow: Some(Box::new(shadow)), ..probe("current", script) }])
}

/// What became of the comparison of one request.
fn compared(plugins: &[Arc<Plugin>]) -> Compared {
    let host = || plugins[0].shadow.as_ref().unwrap().loaded.get::<weir_plugin_host::Plugin>().unwrap();
    until("the comparison", || {
        let compared = host().comparison().compared();
        compared.same + compared.different == 1
    });
    host().comparison().compared()
}

#[test]
fn what_does_the_same_is_the_same() {
    let upstream = echo();
    for script in [
        "request-headers set x-a b\nresponse-headers set x-c d",
        "response-headers remove content-length\nrequest-body upper\nresponse-body end append !",
        "request-headers reply 403 no",
        "request-headers put weir.route.timeout_ms 1000",
    ] {
        let plugins = beside(script, script);
        let node = Node::start(World::new(&[upstream.address]).plugins(plugins.clone()));
        node.ask(&chunked(&["one", "two"]));
        let compared = compared(&plugins);
        assert_eq!((compared.same, compared.different), (1, 0), "{script}: {compared:?}");
    }
}

#[test]
fn what_differs_is_told_and_not_applied() {
    let upstream = echo();
    for (script, shadow, expected) in [
        ("request-headers set x-a b", "request-headers set x-a c", "the request: x-a is \"b\", and not \"c\""),
        ("", "request-headers set :path /else", "the request: POST /, and not POST /else"),
        ("", "request-headers reply 403 no", "the request: goes on, and not is answered with 403"),
        ("request-headers reply 403 no", "request-headers reply 401 no", "the request: is answered: 403, and not 401"),
        ("", "request-headers panic", "the request: goes on, and not fails"),
        ("", "request-headers put weir.route.destination b:80", "the route: "),
        ("", "request-body upper", "the request's body: 6 bytes passed, and not 6, and not the same ones"),
        ("", "response-headers set x-a b", "the response: x-a is nothing, and not \"b\""),
        ("", "response-body end append !", "the response's body: 6 bytes passed, and not 7"),
        ("", "request-headers call a:80 /", "the request: x-call is nothing, and not \"BadArgument\""),
    ] {
        let plugins = beside(&format!("{script}\nlog log done"), shadow);
        let node = Node::start(World::new(&[upstream.address]).plugins(plugins.clone()));
        let reply = node.ask(&chunked(&["one", "two"]));
        let is_answered = script.contains("reply");
        assert_eq!((reply.status(), reply.text()), if is_answered { (403, "no") } else { (200, "onetwo") }, "{shadow}");
        assert_eq!(reply.header("x-a"), None);
        let compared = compared(&plugins);
        assert_eq!((compared.same, compared.different), (0, 1), "{shadow}: {compared:?}");
        let difference = &compared.last[0];
        assert!(difference.what.starts_with(expected), "{shadow}: {difference:?}");
        assert_eq!(&*difference.request, "POST /");
    }
}

/// Neither its failures nor its time are the business of those whose requests it sees.
#[test]
fn a_shadow_that_fails_again_and_again_hurts_nobody() {
    let upstream = Upstream::saying("served");
    let plugins = beside("request-headers set x-a b", "request-headers loop");
    let node = Node::start(World::new(&[upstream.address]).plugins(plugins));
    for _ in 0..20 {
        assert_eq!(node.ask(&get("/", &[])).text(), "served");
    }
}
