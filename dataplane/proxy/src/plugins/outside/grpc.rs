//! Calls of gRPC that a plugin makes.

use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Weak;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};
use weir_core::name::ClusterName;
use weir_plugin_host::{GRPC_PREFIX, GrpcCall, GrpcEvent, Vm};

use super::{RESPONSE_BYTES, cluster, lease};
use crate::body::RequestBody;
use crate::grpc::{self, Code};
use crate::worker::Worker;

/// Why a call goes no further.
enum Over {
    /// The plugin does not want to know more.
    Unwanted,
    /// It has ended, with this status.
    Ended(u32, Box<str>),
}

fn ended(code: Code, message: &str) -> Over {
    Over::Ended(code as u32, message.into())
}

fn unavailable(reason: &str) -> Over {
    ended(Code::Unavailable, reason)
}

/// Makes a call, and tells the plugin what comes of it, until it is over or the plugin gives it up.
pub(super) async fn run(worker: Weak<Worker>, vm: Weak<Vm>, call: GrpcCall) {
    let (id, timeout, messages) = (call.id, call.timeout, call.messages.clone());
    let made = tokio::time::timeout(timeout, make(&worker, &vm, call));
    let cancelled = poll_fn(|context| messages.poll_cancelled(context));
    let made = tokio::select! {
        () = cancelled => return,
        made = made => made,
    };
    let over = match made {
        Ok(Err(over)) => over,
        Err(_) => ended(Code::DeadlineExceeded, "upstream request timeout"),
    };
    if let (Over::Ended(code, message), Some(vm)) = (over, vm.upgrade()) {
        vm.on_grpc(id, GrpcEvent::Closed(code, message));
    }
}

async fn make(worker: &Weak<Worker>, vm: &Weak<Vm>, call: GrpcCall) -> Result<Infallible, Over> {
    let GrpcCall { id, upstream, mut head, messages, .. } = call;
    let worker = worker.upgrade().ok_or_else(|| unavailable("the proxy stops"))?;
    let cluster = cluster(&worker, &upstream).ok_or_else(|| unavailable("no such upstream"))?;
    let ClusterName { service, port } = &cluster.name;
    let authority = HeaderValue::try_from(format!("{}.{}:{port}", service.name, service.namespace));
    head.headers.insert(HOST, authority.map_err(|_| unavailable("no such upstream"))?);
    let mut leased = lease(&worker, &cluster, Some(Version::HTTP_2)).await.map_err(unavailable)?;
    let request = Request::from_parts(head, RequestBody::Messages(messages));
    let response = leased.send(&worker, request).await.map_err(unavailable)?;
    drop(worker);
    let tell = |event| {
        let is_wanted = vm.upgrade().is_some_and(|vm| vm.on_grpc(id, event));
        if is_wanted { Ok(()) } else { Err(Over::Unwanted) }
    };
    let (head, mut incoming) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(of_http(head.status));
    }
    // Of a call that fails at once, the head is the end.
    if let Some(over) = status(&head.headers) {
        tell(GrpcEvent::Trailing(head.headers))?;
        return Err(over);
    }
    tell(GrpcEvent::Initial(head.headers))?;
    let mut waiting = Waiting::default();
    while let Some(frame) = poll_fn(|context| leased.lease.poll_frame(context, &mut incoming)).await {
        match frame.map_err(|_| unavailable("the call broke off"))?.into_data() {
            Ok(data) => {
                waiting.0.extend_from_slice(&data);
                while let Some(message) = waiting.next()? {
                    tell(GrpcEvent::Message(message))?;
                }
            }
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                let over = status(&trailers);
                tell(GrpcEvent::Trailing(trailers))?;
                return Err(over.unwrap_or_else(without_status));
            }
        }
    }
    Err(without_status())
}

fn without_status() -> Over {
    ended(Code::Unknown, "the call ended without a status")
}

/// How a call ends by what its trailers say.
fn status(trailers: &HeaderMap) -> Option<Over> {
    let code = trailers.get(grpc::STATUS)?.to_str().ok().and_then(|code| code.parse().ok());
    let message = trailers.get(grpc::MESSAGE).map_or_else(String::new, grpc::decode);
    Some(Over::Ended(code.unwrap_or(Code::Unknown as u32), message.into()))
}

/// How a call ends that was answered by a proxy on the way
/// (<https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md>).
fn of_http(status: StatusCode) -> Over {
    let code = match status.as_u16() {
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502..=504 => Code::Unavailable,
        _ => Code::Unknown,
    };
    ended(code, &format!("the answer has the status {}", status.as_u16()))
}

/// What has come of messages, and is not one yet.
#[derive(Default)]
struct Waiting(BytesMut);

impl Waiting {
    /// The next message, when all of it is there.
    fn next(&mut self) -> Result<Option<Bytes>, Over> {
        let Some((prefix, rest)) = self.0.split_first_chunk::<GRPC_PREFIX>() else { return Ok(None) };
        let [compressed, size @ ..] = *prefix;
        let size = u32::from_be_bytes(size) as usize;
        if compressed != 0 {
            return Err(ended(Code::Internal, "a message is compressed, which nobody asked for"));
        }
        if size > RESPONSE_BYTES {
            return Err(ended(Code::ResourceExhausted, "a message is too large"));
        }
        if rest.len() < size {
            return Ok(None);
        }
        self.0.advance(GRPC_PREFIX);
        Ok(Some(self.0.split_to(size).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_in_any_pieces() {
        let sent = b"\0\0\0\0\x03one\0\0\0\0\0\0\0\0\0\x03two";
        for size in 1..=sent.len() {
            let (mut waiting, mut messages) = (Waiting::default(), Vec::new());
            for piece in sent.chunks(size) {
                waiting.0.extend_from_slice(piece);
                while let Ok(Some(message)) = waiting.next() {
                    messages.push(message);
                }
            }
            assert_eq!(messages, ["one", "", "two"], "{size}");
        }
        for (wrong, code) in [(&b"\x01\0\0\0\0"[..], Code::Internal), (b"\0\0\x10\0\x01", Code::ResourceExhausted)] {
            let next = Waiting(BytesMut::from(wrong)).next();
            assert!(matches!(next, Err(Over::Ended(is, _)) if is == code as u32), "{wrong:?}");
        }
    }
}
