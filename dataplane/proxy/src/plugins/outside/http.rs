//! Requests that a plugin sends.

use std::rc::Weak;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, response};
use weir_plugin_host::{CallResponse, HttpCall};

use super::{GONE, RESPONSE_BYTES, cluster, lease};
use crate::body::RequestBody;
use crate::worker::Worker;

/// Sends a request of a plugin's own, and reads what comes of it.
pub(super) async fn exchange(worker: &Weak<Worker>, call: HttpCall) -> CallResponse {
    let timeout = call.timeout;
    match tokio::time::timeout(timeout, sent(worker, call)).await {
        Ok(Ok(response)) => response,
        // As Envoy says it: there are plugins that read this.
        Ok(Err(reason)) => failed(StatusCode::SERVICE_UNAVAILABLE, reason),
        Err(_) => failed(StatusCode::GATEWAY_TIMEOUT, "upstream request timeout"),
    }
}

async fn sent(worker: &Weak<Worker>, call: HttpCall) -> Result<CallResponse, &'static str> {
    let HttpCall { upstream, head, body, trailers, .. } = call;
    let worker = worker.upgrade().ok_or(GONE)?;
    let cluster = cluster(&worker, &upstream).ok_or("no such upstream")?;
    let mut leased = lease(&worker, &cluster, None).await?;
    let is_empty = body.is_empty() && trailers.is_empty();
    let body = if is_empty { RequestBody::Empty } else { RequestBody::Fixed { data: Some(body), trailers } };
    let response = leased.send(&worker, Request::from_parts(head, body)).await?;
    let (head, mut incoming) = response.into_parts();
    let (mut body, mut trailers) = (BytesMut::new(), HeaderMap::new());
    while let Some(frame) = std::future::poll_fn(|context| leased.lease.poll_frame(context, &mut incoming)).await {
        let frame = frame.map_err(|_| GONE)?;
        match frame.into_data() {
            Ok(data) if body.len() + data.len() > RESPONSE_BYTES => return Err("the response is too large"),
            Ok(data) => body.extend_from_slice(&data),
            Err(frame) => trailers = frame.into_trailers().unwrap_or_default(),
        }
    }
    leased.lease.give_back();
    Ok(CallResponse { head, body: body.freeze(), trailers })
}

fn failed(status: StatusCode, text: &'static str) -> CallResponse {
    let mut head: response::Parts = Response::new(()).into_parts().0;
    head.status = status;
    CallResponse { head, body: Bytes::from_static(text.as_bytes()), trailers: HeaderMap::new() }
}
