//! Guests that do what they should not, each in the text form of WebAssembly: what the node does about it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::support::plugins::{chunked, loaded_of, probe};
use crate::support::upstream::Upstream;
use crate::support::world::World;
use crate::support::{Node, until};
use weir_core::plugin::{Limits, OnFailure, Plugin};
use weir_plugin_host::{Loader, Part, Totals};

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It is served as if nothing were.
    Served,
    /// It is refused, and the next one has a new instance.
    Refused,
}

/// Each guest, what becomes of a request that it sees, and what is counted.
const GUESTS: [(&str, &str, Fate, fn(&Totals) -> bool); 14] = [
    ("endless-loop", ENDLESS, Fate::Refused, |totals| totals.timeouts == 1),
    ("deep-recursion", include_str!("guests/deep-recursion.wat"), Fate::Refused, |totals| totals.traps == 1),
    ("unbounded-growth", include_str!("guests/unbounded-growth.wat"), Fate::Refused, |totals| totals.traps == 1),
    ("greedy-and-content", include_str!("guests/greedy-and-content.wat"), Fate::Served, |totals| {
        totals.memory <= 2 * (32 << 20)
    }),
    // More than endpoints take: the answer is theirs.
    ("huge-headers", include_str!("guests/huge-headers.wat"), Fate::Served, |totals| totals.traps == 0),
    ("many-headers", include_str!("guests/many-headers.wat"), Fate::Served, |totals| totals.traps == 0),
    ("wrong-pointers", include_str!("guests/wrong-pointers.wat"), Fate::Served, |totals| totals.traps == 0),
    ("failing-allocator", include_str!("guests/failing-allocator.wat"), Fate::Served, |totals| totals.traps == 0),
    ("lying-allocator", include_str!("guests/lying-allocator.wat"), Fate::Served, |totals| totals.traps == 0),
    ("calling-allocator", include_str!("guests/calling-allocator.wat"), Fate::Served, |totals| totals.traps == 0),
    ("out-of-order", include_str!("guests/out-of-order.wat"), Fate::Served, |totals| totals.traps == 0),
    ("spam-logs", include_str!("guests/spam-logs.wat"), Fate::Served, |totals| {
        // A hundred in a second; the request may fall into two of them.
        totals.log_lines_dropped >= 9_800
    }),
    ("many-metrics", include_str!("guests/many-metrics.wat"), Fate::Served, |totals| totals.traps == 0),
    ("many-calls", include_str!("guests/many-calls.wat"), Fate::Served, |totals| totals.traps == 0),
];

const ENDLESS: &str = include_str!("guests/endless-loop.wat");
const TRAP: &str = include_str!("guests/trap-in-callback.wat");

/// The callbacks, their parameters and results, and whether a request fails with them.
const CALLBACKS: [(&str, &str, Fate); 9] = [
    ("proxy_on_context_create", "(param $context i32) (param i32)", Fate::Refused),
    ("proxy_on_request_headers", "(param i32 i32 i32) (result i32)", Fate::Refused),
    ("proxy_on_request_body", "(param i32 i32 i32) (result i32)", Fate::Refused),
    ("proxy_on_response_headers", "(param i32 i32 i32) (result i32)", Fate::Refused),
    ("proxy_on_log", "(param i32)", Fate::Served),
    ("proxy_on_done", "(param i32) (result i32)", Fate::Served),
    ("proxy_on_delete", "(param i32)", Fate::Served),
    ("proxy_on_vm_start", "(param i32 i32) (result i32)", Fate::Refused),
    ("proxy_on_configure", "(param i32 i32) (result i32)", Fate::Refused),
];

fn node(text: &str, on_failure: OnFailure) -> (Node, Arc<weir_plugin_host::Plugin>) {
    let upstream = Upstream::saying("served");
    let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}"));
    // Only one of them is about time: the others are not to be stopped on a busy machine for what they do on purpose.
    let callback = if text == ENDLESS { Limits::default().callback } else { Duration::from_secs(1) };
    let limits = Limits { callback, ..Limits::default() };
    let plugins = loaded_of([Plugin { on_failure, limits, ..probe("guest", "") }], &bytes);
    let host = plugins[0].loaded.get().unwrap();
    let node = Node::start(World::new(&[upstream.address]).plugins(plugins));
    // It ends with the test.
    std::mem::forget(upstream);
    (node, host)
}

#[test]
fn each_guest_hurts_nobody_else() {
    for (name, text, fate, is_counted) in GUESTS {
        for policy in [OnFailure::Closed, OnFailure::Open] {
            let (node, host) = node(text, policy);
            let reply = node.ask(&chunked(&["x"]));
            let expected = match (fate, policy) {
                (Fate::Refused, OnFailure::Closed) => (503, Some("plugin_failed")),
                _ => (200, None),
            };
            assert_eq!((reply.status(), reply.cause()), expected, "{name}");
            until(name, || is_counted(&host.totals()));
            // The node goes on, with a new instance where the other is gone.
            assert_eq!(node.ask(&chunked(&["x"])).status(), reply.status(), "{name}");
        }
    }
}

#[test]
fn a_trap_in_any_callback_ends_the_instance_only() {
    for (callback, parameters, fate) in CALLBACKS {
        let body = match callback {
            // The plugin's own context is one as well.
            "proxy_on_context_create" => "(if (i32.ne (local.get $context) (i32.const 1)) (then (unreachable)))",
            _ => "(unreachable)",
        };
        let text =
            TRAP.replace("CALLBACK", callback).replace("PARAMETERS (unreachable)", &format!("{parameters} {body}"));
        let bytes = wat::parse_str(&text).unwrap_or_else(|error| panic!("{callback}: {error}"));
        if matches!(callback, "proxy_on_vm_start" | "proxy_on_configure") {
            // It never comes into force.
            let error = Loader::new(None).load(&probe("guest", ""), Part::Plugin, &bytes).unwrap_err();
            assert!(error.message.contains(callback), "{error:?}");
            continue;
        }
        for _ in 0..2 {
            let (node, host) = node(&text, OnFailure::Closed);
            let reply = node.ask(&chunked(&["x"]));
            let expected = if fate == Fate::Refused { (503, Some("plugin_failed")) } else { (200, None) };
            assert_eq!((reply.status(), reply.cause()), expected, "{callback}");
            until(callback, || host.totals().traps == 1);
        }
    }
}

/// A guest without a test would say nothing about the node.
#[test]
fn every_guest_is_run() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plugins/guests");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.collect();
    let run = GUESTS.iter().map(|(name, ..)| *name).chain(["trap-in-callback"]);
    assert_eq!(files, run.map(|name| format!("{name}.wat")).collect());
}
