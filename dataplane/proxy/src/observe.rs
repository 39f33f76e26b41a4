//! What became of requests, told to those who pick endpoints by it.

use std::rc::Rc;
use std::time::{Duration, Instant};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use hyper::Response;
use weir_core::balance::Outcome;
use weir_telemetry::{CallStatus, Cause};

use crate::grpc;
use crate::upstream::{Endpoint, Members, Picked};

/// A request on its way to an endpoint. Costs nothing where nobody wants to know.
pub(crate) struct Observation(Option<Observed>);

struct Observed {
    observer: Rc<Members>,
    endpoint: Rc<Endpoint>,
    begun: Instant,
}

impl Observation {
    /// It begins.
    pub(crate) fn begin(picked: &Picked) -> Self {
        Self(picked.observer.as_ref().map(|observer| Observed {
            observer: Rc::clone(observer),
            endpoint: Rc::clone(&picked.endpoint),
            begun: Instant::now(),
        }))
    }

    /// The head of a response came.
    pub(crate) fn answered<B>(self, response: &Response<B>) {
        if self.0.is_some() {
            let headers = response.headers();
            let asked = retry_after(headers).filter(|time| is_overloaded(response.status()) && !time.is_zero());
            self.end(outcome(response.status(), headers), asked);
        }
    }

    /// No response came, for this reason.
    pub(crate) fn failed(self, cause: Cause) {
        match cause {
            Cause::UpstreamClosed
            | Cause::UpstreamGarbage
            | Cause::ConnectFailed
            | Cause::ConnectTimeout
            | Cause::PerTryTimeout
            | Cause::RequestTimeout => self.end(Outcome::Unanswered, None),
            // The client's doing, or this node's.
            _ => {}
        }
    }

    /// A connection that is passed on unchanged was made, or not.
    pub(crate) fn connected(self, is_connected: bool) {
        self.end(if is_connected { Outcome::Good } else { Outcome::Unanswered }, None);
    }

    fn end(self, outcome: Outcome, asked: Option<Duration>) {
        if let Some(Observed { observer, endpoint, begun }) = self.0 {
            observer.observe(&endpoint, outcome, begun.elapsed(), asked);
        }
    }
}

fn is_overloaded(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// How an endpoint answered. Of a call of gRPC that ended before its first message, the status is in the head.
fn outcome(status: StatusCode, headers: &HeaderMap) -> Outcome {
    match headers.get(grpc::STATUS).map(|status| CallStatus::parse(status.as_bytes()).number()) {
        Some(14) => Outcome::GatewayError,
        Some(2 | 13 | 15) => Outcome::ServerError,
        _ => Outcome::of(status.as_u16()),
    }
}

/// When an endpoint wants to be asked again, if it says so in seconds (RFC 9110, section 10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn how_long_endpoints_want_to_be_left_alone() {
        let cases = [("3", Some(3)), (" 10 ", Some(10)), ("0", Some(0)), ("-1", None), ("soon", None)];
        for (text, expected) in cases {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            assert_eq!(retry_after(&headers), expected.map(Duration::from_secs), "{text}");
        }
        assert_eq!(retry_after(&HeaderMap::new()), None);
    }

    #[test]
    fn calls_fail_by_their_own_status() {
        for (call, expected) in [
            (None, Outcome::Good),
            (Some("0"), Outcome::Good),
            (Some("5"), Outcome::Good),
            (Some("13"), Outcome::ServerError),
            (Some("14"), Outcome::GatewayError),
        ] {
            let status = call.map(|status| (grpc::STATUS, HeaderValue::from_static(status)));
            assert_eq!(outcome(StatusCode::OK, &status.into_iter().collect()), expected, "{call:?}");
        }
    }
}
