//! One client that wants everything, and others beside it that get what they need; and what each has cost.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;

use bytes::Bytes;
use http::Response;
use support::http2::{self, call, run};
use support::upstream::Upstream;
use support::world::{RuleOf, World};
use support::{Client, Node, get, until};
use weir_core::filter::{DirectResponse, Filters};
use weir_core::snapshot::Protocol;
use weir_telemetry::WorkerEvent;

const GREEDY: &str = "127.0.0.2";
const MODEST: &str = "127.0.0.3";

fn world(endpoint: std::net::SocketAddr) -> World {
    World::new(&[endpoint]).pod("greedy-1", "greedy", GREEDY).pod("modest-1", "modest", MODEST)
}

fn from(source: &str, node: &Node) -> Client {
    Client::try_connect_from(source, node.address).unwrap()
}

/// Whether a connection from there is served, or reset.
fn is_served(source: &str, node: &Node, kept: &mut Vec<Client>) -> bool {
    let asked = Client::try_connect_from(source, node.address).and_then(|mut client| {
        client.stream.write_all(get("/", &[]).as_bytes())?;
        client.try_receive().map(|reply| (client, reply.status()))
    });
    match asked {
        Ok((client, status)) => {
            kept.push(client);
            status == 200
        }
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
            false
        }
    }
}

#[test]
fn connections_of_one_leave_as_many_to_the_others() {
    let endpoint = Upstream::saying("ok");
    let node = Node::start_with(world(endpoint.address), |settings| settings.downstream.max_connections = 12);
    let (mut greedy, mut modest) = (Vec::new(), Vec::new());
    let served = (0..20).filter(|_| is_served(GREEDY, &node, &mut greedy)).count();
    assert_eq!(served, 6);
    let served = (0..20).filter(|_| is_served(MODEST, &node, &mut modest)).count();
    assert_eq!(served, 3);
    node.await_event(WorkerEvent::RefusedShare, 31);
    for (app, open, refused) in [("greedy", 6.0, 14.0), ("modest", 3.0, 17.0)] {
        let app = format!("source_namespace=\"default\",source=\"{app}\"");
        assert_eq!(node.metric("weir_workload_connections", &app), open, "{app}");
        let refused_connections = format!("{app},what=\"connection\"");
        assert_eq!(node.metric("weir_workload_refused_total", &refused_connections), refused, "{app}");
    }
    // What one gives back, it can have again.
    greedy.truncate(3);
    node.await_metric("weir_workload_connections", "source=\"greedy\"", 3.0);
    assert!(is_served(GREEDY, &node, &mut greedy));
}

#[test]
fn requests_of_one_leave_as_many_to_the_others() {
    let (answer, begin) = mpsc::channel();
    let endpoint = Upstream::late(begin);
    let node = Node::start_with(world(endpoint.address), |settings| settings.downstream.max_requests = 8);
    let mut waiting: Vec<Client> = (0..4).map(|_| from(GREEDY, &node)).collect();
    waiting.iter_mut().for_each(|client| client.send(get("/", &[])));
    node.await_metric("weir_proxy_requests_in_flight", "source=\"greedy\"", 4.0);
    let mut one_more = from(GREEDY, &node);
    for _ in 0..3 {
        let reply = one_more.ask(&get("/", &[]));
        assert_eq!((reply.status(), reply.cause()), (503, Some("fair_share")));
    }
    let refused = run(async {
        let builder = h2::client::Builder::new();
        http2::Client::connect_from(GREEDY, node.address, &builder).await.ask(call("/a.B/C", b"\0\0\0\0\0")).await
    });
    assert_eq!((refused.header("grpc-status"), refused.header("x-weir-cause")), (Some("14"), Some("fair_share")));
    let mut modest = from(MODEST, &node);
    modest.send(get("/", &[]));
    node.await_metric("weir_proxy_requests_in_flight", "source=\"modest\"", 1.0);
    (0..5).for_each(|_| answer.send(()).unwrap());
    assert_eq!(modest.receive().status(), 200);
    waiting.iter_mut().for_each(|client| assert_eq!(client.receive().status(), 200));
    let refused = "source=\"greedy\",what=\"request\"";
    assert_eq!(node.metric("weir_workload_refused_total", refused), 4.0);
    node.await_metric("weir_proxy_requests_in_flight", "", 0.0);
    answer.send(()).unwrap();
    assert_eq!(one_more.ask(&get("/", &[])).status(), 200, "there is room again");
}

/// The window of its connection that the proxy gives a client, beyond the one that every connection has.
async fn extra_window(source: &str, node: &Node) -> (http2::Client, usize) {
    let mut builder = h2::client::Builder::new();
    builder.max_send_buffer_size(1 << 20);
    let mut client = http2::Client::connect_from(source, node.address, &builder).await;
    // The endpoint takes nothing of it, so that all that can be sent is the window.
    let request = http::Request::post("http://a/").body(()).unwrap();
    let (_, mut first) = client.begin(request, false).await;
    first.reserve_capacity(1 << 20);
    // What the proxy answers by itself comes behind what it says about the window.
    let now = http::Request::get("http://a/").header("x-now", "").body(&b""[..]).unwrap();
    assert_eq!(client.ask(now).await.status, 204);
    let room = first.capacity();
    // Held, so that the stream stays.
    std::mem::forget(first);
    (client, room)
}

#[test]
fn who_has_much_of_the_memory_for_windows_gets_small_ones() {
    let endpoint = Upstream::raw(|_| std::thread::park_timeout(support::PATIENCE));
    let direct = DirectResponse { status: http::StatusCode::NO_CONTENT, body: "".into() };
    let filters = Filters { direct: Some(direct), ..Filters::default() };
    let now = RuleOf { header: Some(("x-now", "")), filters, ..RuleOf::default() };
    let node = Node::start_with(world(endpoint.address).rule(now), |settings| {
        settings.downstream.http2.stream_window = 1 << 20;
        settings.downstream.http2.connection_window = 1 << 20;
        settings.downstream.window_bytes = 4 << 20;
    });
    run(async {
        let mut kept = Vec::new();
        let mut rooms = Vec::new();
        for source in [GREEDY, GREEDY, GREEDY, GREEDY, MODEST] {
            let (client, room) = extra_window(source, &node).await;
            kept.push(client);
            rooms.push(room > 65_535);
        }
        // Of four the first two; the others are served as well, with the window that nobody can refuse.
        assert_eq!(rooms, [true, true, false, false, true]);
    });
    assert_eq!(node.metric("weir_workload_refused_total", "source=\"greedy\",what=\"window\""), 2.0);
}

#[test]
fn who_does_not_read_responses_holds_up_nobody_else() {
    const BIG: usize = 1 << 20;
    let sent = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&sent);
    let endpoint = http2::Upstream::serving(move |_, mut reply| {
        let sent = Arc::clone(&counted);
        async move {
            let Ok(mut stream) = reply.send_response(Response::new(()), false) else { return };
            let mut left = BIG;
            while left > 0 {
                stream.reserve_capacity(left.min(16_384));
                let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
                let Some(Ok(room)) = room else { return };
                let piece = room.min(left);
                left -= piece;
                if stream.send_data(Bytes::from(vec![0; piece]), left == 0).is_err() {
                    return;
                }
                sent.fetch_add(piece, Ordering::SeqCst);
            }
        }
    });
    let rule = RuleOf { to: vec![("b", 1)], ..RuleOf::default() };
    let world = world(endpoint.address).service("b", &[endpoint.address]).speaking("b", Protocol::Http2).rule(rule);
    let node = Node::start(world);
    run(async {
        // A client that takes a byte of each response, and no more.
        let mut greedy =
            http2::Client::connect_from(GREEDY, node.address, h2::client::Builder::new().initial_window_size(1)).await;
        let mut unread = Vec::new();
        for _ in 0..8 {
            unread.push(greedy.begin(http::Request::get("http://a/").body(()).unwrap(), true).await);
        }
        // All that the connection to the endpoint takes until somebody reads.
        http2::until(|| sent.load(Ordering::SeqCst) >= 1 << 20).await;
        let builder = h2::client::Builder::new();
        let reply = http2::Client::connect_from(MODEST, node.address, &builder).await.ask(http2::get("/")).await;
        assert_eq!((reply.status, reply.body.len()), (200, BIG));
    });
    assert_eq!(endpoint.connections(), 2);
}

#[test]
fn each_workload_s_requests_bytes_and_time_are_counted() {
    let endpoint = Upstream::saying("hello");
    let node = Node::start(world(endpoint.address));
    for (source, count) in [(GREEDY, 40), (MODEST, 10), ("127.0.0.9", 5)] {
        let mut client = from(source, &node);
        (0..count).for_each(|_| assert_eq!(client.ask(&get("/", &[])).text(), "hello"));
    }
    for (source, count) in [("source=\"greedy\"", 40.0), ("source=\"modest\"", 10.0), ("source=\"\"", 5.0)] {
        node.await_metric("weir_proxy_requests_total", &format!("{source},status=\"2xx\""), count);
        assert_eq!(node.metric("weir_proxy_response_body_bytes_total", source), 5.0 * count);
        assert_eq!(node.metric("weir_workload_connections_opened_total", source), 1.0);
        until("processor time", || node.metric("weir_workload_cpu_seconds_total", source) > 0.0);
    }
    // The durations are those of all together.
    assert_eq!(node.metric("weir_proxy_request_duration_seconds_count", "destination=\"default/a:80\""), 55.0);
}

#[test]
fn what_is_passed_on_unchanged_is_counted_as_well() {
    let endpoint = Upstream::raw(|mut stream| {
        stream.write_all(b"welcome").unwrap();
        let mut heard = [0; 4];
        stream.read_exact(&mut heard).unwrap();
        stream.write_all(b"bye").unwrap();
    });
    let node = Node::start(world(endpoint.address).protocol(Protocol::Opaque));
    let mut client = from(MODEST, &node);
    client.await_text("welcome");
    client.send("quit");
    assert_eq!(client.rest().unwrap(), b"welcomebye");
    for (direction, bytes) in [("from", 4.0), ("to", 10.0)] {
        let labels = format!("source=\"modest\",direction=\"{direction}\"");
        node.await_metric("weir_workload_relayed_bytes_total", &labels, bytes);
    }
}
