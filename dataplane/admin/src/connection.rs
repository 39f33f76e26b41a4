//! A connection to the API: every wait has an end.

use std::convert::Infallible;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper::{Request, rt};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::watch;

use crate::answer::Failure;

/// From one request to the end of the next one's head; longer than a Prometheus server waits between two scrapes.
const HEAD_WITHIN: Duration = Duration::from_secs(75);
/// From a request's head to the response's; a rollback of a large configuration writes to a slow disk.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// From the time that the server ends until a connection without a request is closed: its client may just have sent one.
const FAREWELL: Duration = Duration::from_millis(200);

/// An accepted connection.
#[derive(Debug)]
pub(crate) enum Connection {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Serves a connection until its client closes it, it is silent for too long, or the server ends.
pub(crate) async fn serve(connection: Connection, router: Router, ending: watch::Receiver<bool>) {
    match connection {
        Connection::Tcp(stream) => converse(TokioIo::new(stream), router, ending).await,
        Connection::Unix(stream) => converse(TokioIo::new(stream), router, ending).await,
    }
}

async fn converse(io: impl rt::Read + rt::Write + Unpin, router: Router, mut ending: watch::Receiver<bool>) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: Request<Incoming>| answer(router.clone(), request));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    let mut connection = pin!(builder.serve_connection(io, service));
    let ends = async {
        // An error means that the server is gone altogether.
        let _ = ending.wait_for(|is_ending| *is_ending).await;
        tokio::time::sleep(FAREWELL).await;
    };
    // Whatever ends a connection is its client's doing, and its client knows.
    tokio::select! {
        _ = &mut connection => return,
        () = ends => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(router: TowerToHyperService<Router>, request: Request<Incoming>) -> Result<Response, Infallible> {
    match tokio::time::timeout(ANSWER_WITHIN, router.call(request)).await {
        Ok(response) => response,
        Err(_) => Ok(Failure::new(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long").into_response()),
    }
}
