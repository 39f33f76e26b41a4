//! gRPC: calls of every kind pass, and what fails is told as callers of gRPC understand it.

mod support;

use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request, Response};
use support::Node;
use support::http2::{Answer, Arrived, Client, Upstream, call, rest, run};
use support::upstream::refusing;
use support::world::{RuleOf, World};
use weir_core::route::Timeouts;
use weir_core::snapshot::Protocol;
use weir_telemetry::Cause;

/// A message of gRPC: not compressed, five bytes.
const MESSAGE: &[u8] = b"\0\0\0\0\x05hello";

fn world(endpoints: &[std::net::SocketAddr]) -> World {
    World::new(endpoints).protocol(Protocol::Http2)
}

fn ask(node: &Node, request: Request<&'static [u8]>) -> Arrived {
    run(async { Client::connect(node.address).await.ask(request).await })
}

#[test]
fn a_call_passes_with_its_status() {
    let endpoint = Upstream::answering(|request| Answer {
        headers: vec![("content-type", "application/grpc")],
        body: Bytes::from(request.body.clone()),
        trailers: vec![("grpc-status", "0")],
        ..Answer::text("")
    });
    // Also where the port says that it carries HTTP/1.1, by which no call could go.
    let nodes = [Protocol::Http2, Protocol::Detect, Protocol::Http]
        .map(|protocol| Node::start(world(&[endpoint.address]).protocol(protocol)));
    for node in &nodes {
        let reply = ask(node, call("/echo.Echo/Say", MESSAGE));
        assert_eq!((reply.status, &reply.body[..], reply.trailer("grpc-status")), (200, MESSAGE, Some("0")));
    }
    for (status, count) in [("0", 1.0), ("14", 0.0)] {
        let label = format!("grpc_status=\"{status}\"");
        nodes.iter().for_each(|node| node.await_metric("weir_proxy_grpc_calls_total", &label, count));
    }
    let request = &endpoint.requests()[0];
    assert_eq!((request.target.as_str(), &request.body[..]), ("http://a/echo.Echo/Say", MESSAGE));
    assert_eq!((request.header("te"), request.header("content-type")), (Some("trailers"), Some("application/grpc")));
}

#[test]
fn messages_stream_both_ways_at_the_same_time() {
    let endpoint = Upstream::serving(|request, mut reply| async move {
        let mut stream = reply.send_response(Response::new(()), false).unwrap();
        let mut body = request.into_body();
        while let Some(Ok(message)) = body.data().await {
            body.flow_control().release_capacity(message.len()).unwrap();
            stream.send_data(message, false).unwrap();
        }
        let status = ("grpc-status".parse().unwrap(), "0".parse().unwrap());
        stream.send_trailers(HeaderMap::from_iter([status])).unwrap();
    });
    let node = Node::start(world(&[endpoint.address]));
    run(async {
        let mut client = Client::connect(node.address).await;
        let request = Request::post("http://a/echo.Echo/Chat").header("content-type", "application/grpc");
        let (response, mut stream) = client.begin(request.body(()).unwrap(), false).await;
        let mut received = response.await.unwrap().into_body();
        for number in 0..10_u8 {
            // Each answer comes before the next message is sent.
            let message = Bytes::from(vec![0, 0, 0, 0, 1, number]);
            stream.send_data(message.clone(), false).unwrap();
            assert_eq!(received.data().await.unwrap().unwrap(), message);
        }
        stream.send_data(Bytes::new(), true).unwrap();
        let (left, trailers) = rest(received).await.unwrap();
        assert_eq!((left.len(), trailers.unwrap()["grpc-status"].as_bytes()), (0, &b"0"[..]));
    });
}

#[test]
fn what_the_proxy_answers_itself_has_a_status_of_grpc() {
    let silent = Upstream::serving(|_, reply| async move {
        let _kept = reply;
        std::future::pending().await
    });
    let timeouts = Timeouts { request: Some(Duration::from_millis(50)), ..Timeouts::default() };
    let to = |to, timeouts| RuleOf { to: vec![(to, 1)], timeouts, ..RuleOf::default() };
    let cases = [
        (world(&[]), "14", "no_endpoint"),
        (world(&[refusing()]), "14", "connect_failed"),
        (world(&[]).rule(to("gone", Timeouts::default())), "14", "unresolved"),
        (world(&[silent.address]).rule(to("a", timeouts)), "4", "request_timeout"),
    ];
    for (world, status, cause) in cases {
        let node = Node::start(world);
        let reply = ask(&node, call("/echo.Echo/Say", MESSAGE));
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("application/grpc")), "{cause}");
        assert_eq!((reply.header("grpc-status"), reply.header("x-weir-cause")), (Some(status), Some(cause)));
        assert!(!reply.header("grpc-message").unwrap().is_empty() && reply.body.is_empty(), "{reply:?}");
        node.await_metric("weir_proxy_grpc_calls_total", &format!("grpc_status=\"{status}\""), 1.0);
        // Who does not call gets what browsers understand.
        let reply = ask(&node, support::http2::get("/"));
        assert!(reply.status >= 500 && reply.header("grpc-status").is_none(), "{reply:?}");
    }
}

#[test]
fn the_callers_deadline_holds_also_in_the_middle_of_a_response() {
    let (seen, cancelled) = std::sync::mpsc::channel();
    let endpoint = Upstream::serving(move |request, mut reply| {
        let seen = seen.clone();
        async move {
            if request.uri().path() == "/echo.Echo/Silent" {
                return std::future::pending().await;
            }
            let mut stream = reply.send_response(Response::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(MESSAGE), false).unwrap();
            seen.send(std::future::poll_fn(|context| stream.poll_reset(context)).await.unwrap()).unwrap();
        }
    });
    let node = Node::start(world(&[endpoint.address]));
    let with_deadline = |path| {
        let mut request = call(path, MESSAGE);
        request.headers_mut().insert("grpc-timeout", "100m".parse().unwrap());
        request
    };
    let reply = ask(&node, with_deadline("/echo.Echo/Silent"));
    assert_eq!(reply.header("grpc-status"), Some("4"));
    let reply = ask(&node, with_deadline("/echo.Echo/Trickle"));
    assert_eq!((&reply.body[..], reply.trailer("grpc-status")), (MESSAGE, Some("4")));
    assert_eq!(cancelled.recv_timeout(support::PATIENCE).unwrap(), Reason::CANCEL);
    node.await_cause(Cause::RequestTimeout, 2);
    node.await_metric("weir_proxy_grpc_calls_total", "grpc_status=\"4\"", 2.0);
    let routes = node.telemetry.routes(node.world.keys());
    assert_eq!(routes.iter().map(|route| route.errors()).sum::<u64>(), 2, "a call that fails is an error");
}
