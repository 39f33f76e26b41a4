//! One exchange as a plugin has it: the heads, trailers and bodies that it may read and change, and what it decided.

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode, Version, request, response};

use weir_core::name::ClusterName;
use weir_core::route::Rule;
use weir_core::workload::Workload;

use crate::abi::fields::Fields;
use crate::abi::{Direction, Status};

/// What is known of an exchange beside what is in its heads.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The client.
    pub source: SocketAddr,
    /// Where it connected to.
    pub destination: SocketAddr,
    /// Which connection it came on: a number, unique in its worker.
    pub connection: u64,
    /// The version of HTTP that the client speaks; `None` on a connection that is none of HTTP.
    pub version: Option<Version>,
    /// `http` or `https`: what the client speaks.
    pub scheme: &'static str,
    /// The name that the client connected to in TLS; `None` where it said none.
    pub server_name: Option<Box<str>>,
    /// The version of TLS; `None` in the clear.
    pub tls_version: Option<&'static str>,
    /// When it began.
    pub started: SystemTime,
    /// The revision in force when it began.
    pub revision: u64,
    /// The service that it is for.
    pub service: ClusterName,
    /// The workload that it comes from; `None` for one that is none of the node's.
    pub workload: Option<Arc<Workload>>,
    /// What is known once it is decided.
    pub decided: Decided,
}

/// What the proxy has decided about an exchange.
#[derive(Clone, Debug, Default)]
pub struct Decided {
    /// The rule that it met.
    pub rule: Option<Arc<Rule>>,
    /// Where it goes.
    pub destination: Option<ClusterName>,
    /// The endpoint that it went to.
    pub endpoint: Option<Reached>,
    /// Tries, the first included.
    pub tries: u32,
    /// The status that the client got.
    pub status: Option<u16>,
    /// Why the proxy answered itself, or broke off.
    pub cause: Option<&'static str>,
    /// Bytes of the bodies.
    pub request_bytes: u64,
    /// Bytes of the bodies.
    pub response_bytes: u64,
}

/// An endpoint that an exchange went to.
#[derive(Clone, Debug)]
pub struct Reached {
    /// Where it is.
    pub address: SocketAddr,
    /// The version of its pod.
    pub version: Option<Arc<str>>,
    /// The zone that it is in.
    pub zone: Option<Arc<str>>,
    /// How many endpoints its service has.
    pub among: usize,
    /// When it was chosen.
    pub since: Instant,
    /// How long it took until the head of its response was there.
    pub latency: Option<Duration>,
}

impl Reached {
    /// An endpoint of which no more is known.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, version: None, zone: None, among: 1, since: Instant::now(), latency: None }
    }
}

/// What a plugin answers instead of an endpoint.
#[derive(Clone, Debug)]
pub struct LocalReply {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// The status of a call of gRPC, where the plugin gives one.
    pub grpc_status: Option<u32>,
    /// What the plugin says about it: for the log, not for the client.
    pub details: Box<str>,
}

/// A body, or as much of it as a plugin has before it.
#[derive(Debug, Default)]
pub(crate) struct Buffer(Bytes);

impl Buffer {
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.0
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn push(&mut self, data: Bytes) {
        if self.0.is_empty() {
            self.0 = data;
        } else if !data.is_empty() {
            self.edit(|all| all.extend_from_slice(&data));
        }
    }

    pub(crate) fn take(&mut self) -> Bytes {
        std::mem::take(&mut self.0)
    }

    /// Replaces `size` bytes from `start` on. What is beyond the end is put behind it.
    pub(crate) fn splice(&mut self, start: usize, size: usize, new: &[u8]) {
        let start = start.min(self.0.len());
        let end = start.saturating_add(size).min(self.0.len());
        if start == 0 && end == self.0.len() {
            self.0 = Bytes::copy_from_slice(new);
        } else if start == self.0.len() {
            self.edit(|all| all.extend_from_slice(new));
        } else {
            self.0 = [&self.0[..start], new, &self.0[end..]].concat().into();
        }
    }

    fn edit(&mut self, edit: impl FnOnce(&mut BytesMut)) {
        let mut all = self.take().try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        edit(&mut all);
        self.0 = all.freeze();
    }
}

/// One way of an exchange.
#[derive(Debug, Default)]
pub(crate) struct Way {
    pub(crate) trailers: Option<HeaderMap>,
    /// `None` while there is nothing of a body to see.
    pub(crate) body: Option<Buffer>,
    /// Whether it waits for the plugin.
    pub(crate) is_paused: bool,
    /// Whether the head is still the plugin's to change.
    pub(crate) is_open: bool,
}

/// A head as it was before the plugin changed it, where it did.
#[derive(Debug, Default)]
pub(crate) struct Unchanged {
    pub(crate) request: Option<request::Parts>,
    pub(crate) response: Option<response::Parts>,
}

/// An exchange.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) facts: Facts,
    pub(crate) request: Option<request::Parts>,
    pub(crate) response: Option<response::Parts>,
    pub(crate) unchanged: Unchanged,
    pub(crate) request_way: Way,
    pub(crate) response_way: Way,
    /// What the plugin answers.
    pub(crate) reply: Option<Box<LocalReply>>,
    /// Whether it has answered, or may not any more.
    pub(crate) is_answered: bool,
    /// Whether the plugin has broken it off.
    pub(crate) is_reset: bool,
    /// Who waits for the plugin.
    pub(crate) waker: Option<Waker>,
    /// How long callbacks about it have taken.
    pub(crate) spent: Duration,
    /// Properties that the plugin has set.
    pub(crate) properties: Vec<(Box<[u8]>, Bytes)>,
}

impl Stream {
    pub(crate) fn new(facts: Facts) -> Self {
        Self {
            facts,
            request: None,
            response: None,
            unchanged: Unchanged::default(),
            request_way: Way::default(),
            response_way: Way::default(),
            reply: None,
            is_answered: false,
            is_reset: false,
            waker: None,
            spent: Duration::ZERO,
            properties: Vec::new(),
        }
    }

    pub(crate) fn way(&mut self, direction: Direction) -> &mut Way {
        match direction {
            Direction::Request => &mut self.request_way,
            Direction::Response => &mut self.response_way,
        }
    }

    pub(crate) fn headers(&mut self, direction: Direction) -> Result<Fields<'_>, Status> {
        match direction {
            Direction::Request => {
                let scheme = self.facts.scheme;
                self.request.as_mut().map(|head| Fields::Request(head, scheme)).ok_or(Status::BadArgument)
            }
            Direction::Response => self.response.as_mut().map(Fields::Response).ok_or(Status::BadArgument),
        }
    }

    /// The same, to be changed: as they are now is remembered, in case that the plugin fails.
    pub(crate) fn headers_to_change(&mut self, direction: Direction) -> Result<Fields<'_>, Status> {
        if !self.way(direction).is_open {
            return Err(Status::BadArgument);
        }
        match direction {
            Direction::Request if self.unchanged.request.is_none() => self.unchanged.request = self.request.clone(),
            Direction::Response if self.unchanged.response.is_none() => self.unchanged.response = self.response.clone(),
            Direction::Request | Direction::Response => {}
        }
        self.headers(direction)
    }

    pub(crate) fn trailers(&mut self, direction: Direction) -> Result<Fields<'_>, Status> {
        self.way(direction).trailers.as_mut().map(Fields::Plain).ok_or(Status::BadArgument)
    }

    /// The plugin lets it go on.
    pub(crate) fn resume(&mut self, direction: Direction) {
        self.way(direction).is_paused = false;
        self.wake();
    }

    /// The plugin breaks it off.
    pub(crate) fn reset(&mut self) {
        self.is_reset = true;
        self.wake();
    }

    /// The plugin answers. Only the first answer counts; when the head of a response has passed, it can only be broken off.
    pub(crate) fn answer(&mut self, reply: LocalReply) {
        if !self.is_answered {
            self.is_answered = true;
            self.reply = Some(Box::new(reply));
            self.wake();
        } else if self.response.is_some() && !self.response_way.is_open {
            self.reset();
        }
    }

    pub(crate) fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

/// A head without anything in it.
pub(crate) fn no_request() -> request::Parts {
    Request::new(()).into_parts().0
}

/// A head without anything in it.
pub(crate) fn no_response() -> response::Parts {
    Response::new(()).into_parts().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_spliced_as_the_specification_says() {
        let cases: [(usize, usize, &str, &str); 8] = [
            (0, 0, "xy", "xyabcdef"),
            (0, 6, "xy", "xy"),
            (0, usize::MAX, "", ""),
            (6, 0, "xy", "abcdefxy"),
            (100, 5, "xy", "abcdefxy"),
            (2, 2, "xyz", "abxyzef"),
            (4, 100, "x", "abcdx"),
            (3, 0, "-", "abc-def"),
        ];
        for (start, size, new, expected) in cases {
            let mut buffer = Buffer::default();
            buffer.push("abc".into());
            buffer.push("def".into());
            buffer.splice(start, size, new.as_bytes());
            assert_eq!(buffer.take(), expected, "{start} {size} {new}");
        }
    }
}
