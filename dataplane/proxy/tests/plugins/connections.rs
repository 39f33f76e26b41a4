//! Plugins that see connections which are none of HTTP.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;

use crate::support::plugins::{loaded, probe};
use crate::support::upstream::{Upstream, refusing};
use crate::support::world::World;
use crate::support::{Node, PATIENCE, until};
use weir_core::plugin::{Limits, OnFailure, Plugin};
use weir_core::snapshot::Protocol;
use weir_telemetry::WorkerEvent;

/// Says hello, sends back what it gets, and at its end says goodbye.
fn polite() -> Upstream {
    Upstream::raw(|mut stream| {
        stream.write_all(b"hello ").unwrap();
        let mut buffer = [0; 1024];
        while let Ok(count @ 1..) = stream.read(&mut buffer) {
            stream.write_all(&buffer[..count]).unwrap();
        }
        let _ = stream.write_all(b" bye");
    })
}

fn plugins(scripts: &[&str]) -> Vec<Arc<Plugin>> {
    let plugins = scripts.iter().enumerate();
    loaded(plugins.map(|(number, script)| probe(&format!("probe-{number}"), &format!("tcp\n{script}"))))
}

fn world(upstream: &Upstream, plugins: Vec<Arc<Plugin>>) -> World {
    World::new(&[upstream.address]).protocol(Protocol::Opaque).tcp_plugins(plugins)
}

/// Sends these, ends, and reads all that comes back.
fn say(node: &Node, pieces: &[&str]) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(node.address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    pieces.iter().try_for_each(|piece| stream.write_all(piece.as_bytes()))?;
    stream.shutdown(Shutdown::Write)?;
    let mut all = String::new();
    stream.read_to_string(&mut all)?;
    Ok(all)
}

#[test]
fn data_are_seen_and_changed_both_ways() {
    let upstream = polite();
    for (scripts, expected) in [
        (vec![""], "hello abc bye"),
        (vec!["downstream-data upper"], "hello ABC bye"),
        (vec!["upstream-data upper"], "HELLO ABC BYE"),
        (vec!["downstream-data end append !", "downstream-data end append ?"], "hello abc!? bye"),
        (vec!["upstream-data end append !", "upstream-data end append ?"], "hello abc bye?!"),
        // Held back until it is all there.
        (vec!["downstream-data pause\ndownstream-data end upper\ndownstream-data end go"], "hello ABC bye"),
        (vec!["downstream-data until abc", "downstream-data upper"], "hello ABC bye"),
        (vec!["downstream-data replace x"], "hello xx bye"),
    ] {
        let node = Node::start(world(&upstream, plugins(&scripts)));
        // The last end of the data is one of them.
        let said = say(&node, &["abc"]).unwrap();
        assert_eq!(said, expected, "{scripts:?}");
    }
}

#[test]
fn a_connection_waits_for_what_a_service_says() {
    let (upstream, good, bad) = (polite(), Upstream::saying("go on"), Upstream::answering_in_turn(&[403]));
    for (callback, name, expected) in [
        ("new-connection", "good", Some("hello abc bye")),
        ("downstream-data", "good", Some("hello abc bye")),
        ("new-connection", "bad", None),
    ] {
        let script = format!("{callback} call {name}:80");
        let world = world(&upstream, plugins(&[&script]));
        let world = world.service("good", &[good.address]).service("bad", &[bad.address]);
        let node = Node::start(world);
        assert_eq!(say(&node, &["abc"]).ok().as_deref().filter(|said| !said.is_empty()), expected, "{script}");
    }
}

#[test]
fn a_plugin_closes_a_connection() {
    let upstream = polite();
    for at in ["new-connection", "downstream-data", "upstream-data"] {
        let node = Node::start(world(&upstream, plugins(&[&format!("{at} close")])));
        let said = say(&node, &["abc"]).unwrap_or_default();
        assert!(!said.contains("bye"), "{at}: {said}");
        node.await_event(WorkerEvent::OpaqueStopped, 1);
    }
    // More than it may hold back.
    let limits = Limits { body: 1_000, ..Limits::default() };
    let holding = Plugin { limits, ..probe("holding", "tcp\ndownstream-data pause") };
    let node = Node::start(world(&upstream, loaded([holding])));
    let _ = say(&node, &[&"x".repeat(100_000), &"x".repeat(100_000)]);
    node.await_event(WorkerEvent::OpaqueStopped, 1);
}

#[test]
fn a_plugin_that_fails_closes_or_opens_the_way() {
    let upstream = polite();
    for at in ["new-connection", "downstream-data", "upstream-data"] {
        for failing in ["panic", "loop"] {
            let script = format!("tcp\n{at} {failing}");
            let of = |on_failure| loaded([Plugin { on_failure, ..probe("failing", &script) }]);
            let node = Node::start(world(&upstream, of(OnFailure::Closed)));
            let said = say(&node, &["abc"]).unwrap_or_default();
            assert!(!said.contains("bye"), "{script}: {said}");
            node.await_event(WorkerEvent::OpaqueStopped, 1);
            let node = Node::start(world(&upstream, of(OnFailure::Open)));
            assert_eq!(say(&node, &["abc"]).unwrap(), "hello abc bye", "{script}");
        }
    }
}

#[test]
fn a_plugin_is_told_of_beginning_and_end() {
    let upstream = polite();
    let script = "new-connection count new\nnew-connection property source.address from\nnew-connection property request.path path\n\
                  downstream-close peer downstream\nupstream-close peer upstream\nlog property upstream.port to\nlog count log";
    let plugins = plugins(&[script]);
    let host = plugins[0].loaded.get::<weir_plugin_host::Plugin>().unwrap();
    let node = Node::start(world(&upstream, plugins));
    say(&node, &["abc"]).unwrap();
    let value = |name: &str| host.metrics().iter().find(|metric| metric.name == name).map_or(0, |metric| metric.value);
    until("the end", || value("log") == 1);
    let port = format!("to.{}", upstream.address.port());
    for name in ["new", "path.", "downstream.Some(Remote)", "upstream.Some(Remote)", &port] {
        assert_eq!(value(name), 1, "{name}: {:?}", host.metrics());
    }
    // Nobody is there: the proxy has closed both.
    let plugins = self::plugins(&["downstream-close peer downstream\nupstream-close peer upstream\nlog count log"]);
    let host = plugins[0].loaded.get::<weir_plugin_host::Plugin>().unwrap();
    let node = Node::start(World::new(&[refusing()]).protocol(Protocol::Opaque).tcp_plugins(plugins));
    let _ = say(&node, &["abc"]);
    let value = |name: &str| host.metrics().iter().find(|metric| metric.name == name).map_or(0, |metric| metric.value);
    until("the end", || value("log") == 1);
    assert_eq!([value("downstream.Some(Local)"), value("upstream.Some(Local)")], [1, 1], "{:?}", host.metrics());
}
