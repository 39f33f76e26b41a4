//! What a rule does to requests themselves: answers, limits, faults.

use std::time::Duration;

use http::StatusCode;
use weir_core::filter::{Abort, DirectResponse, Fault, Filters, RateLimit};

use super::route::{share, sticky_key};
use super::spec::{AbortSpec, DelaySpec, DirectSpec, FaultSpec, RateLimitSpec, Spec};
use crate::check::Checker;
use crate::kinds::duration::duration;
use crate::limits;

pub(super) fn filters<'a>(spec: &'a Spec, checker: &mut Checker<'a>) -> Filters {
    if spec.direct_response.is_some() {
        let others = [
            ("route", spec.route.is_some()),
            ("mirror", spec.mirror.is_some()),
            ("timeouts", spec.timeouts.is_some()),
            ("retry", spec.retry.is_some()),
        ];
        for (key, _) in others.into_iter().filter(|(_, is_written)| *is_written) {
            checker.error_at(key, "a rule with a directResponse sends requests nowhere");
        }
    }
    let direct = spec.direct_response.as_ref();
    let direct = direct.and_then(|direct| checker.field("directResponse", |checker| direct.check(checker)));
    let limit = spec.rate_limit.as_ref();
    let limit = limit.and_then(|limit| checker.field("rateLimit", |checker| limit.check(checker)));
    let fault = spec.fault.as_ref();
    let fault = fault.map(|fault| checker.field("fault", |checker| fault.check(checker)));
    Filters { direct, limit, fault, ..Filters::default() }
}

impl DirectSpec {
    fn check<'a>(&'a self, checker: &mut Checker<'a>) -> Option<DirectResponse> {
        let body = self.body.as_deref().unwrap_or_default();
        if body.len() > limits::DIRECT_BYTES {
            checker.error_at("body", format!("at most {} bytes, here are {}", limits::DIRECT_BYTES, body.len()));
        }
        let Some(written) = self.status else {
            checker.missing("status", "must be a status from 200 to 599");
            return None;
        };
        let status = status(written, 200);
        if status.is_none() {
            checker.error_at("status", format!("must be from 200 to 599, is {written}"));
        }
        let has_none = |status: &StatusCode| matches!(status.as_u16(), 204 | 205 | 304);
        if status.as_ref().is_some_and(has_none) && !body.is_empty() {
            checker.error_at("body", format!("a response with status {written} has none"));
        }
        Some(DirectResponse { status: status?, body: body.into() })
    }
}

fn status(written: i64, least: u16) -> Option<StatusCode> {
    let status = u16::try_from(written).ok().filter(|status| (least..600).contains(status))?;
    StatusCode::from_u16(status).ok()
}

impl RateLimitSpec {
    fn check<'a>(&'a self, checker: &mut Checker<'a>) -> Option<RateLimit> {
        let mut count = |key, written: Option<i64>| match written {
            None => None,
            Some(written) => {
                let most = i64::from(limits::RATE);
                let valid = u32::try_from(written).ok().filter(|_| (1..=most).contains(&written));
                if valid.is_none() {
                    checker.error_at(key, format!("must be from 1 to {most}, is {written}"));
                }
                Some(valid)
            }
        };
        let (requests, burst) = (count("requests", self.requests), count("burst", self.burst));
        if requests.is_none() {
            checker.missing("requests", format!("must be from 1 to {}", limits::RATE));
        }
        let unit = duration("unit", self.unit.as_ref(), checker).unwrap_or(Duration::from_secs(1));
        if !(Duration::from_secs(1)..=Duration::from_secs(86_400)).contains(&unit) {
            checker.error_at("unit", "must be from 1s to 24h");
        }
        let key = self.per.as_ref().and_then(|per| checker.field("per", |checker| sticky_key(per, checker)));
        let requests = requests??;
        Some(RateLimit { requests, unit, burst: burst.flatten().unwrap_or(requests), key })
    }
}

impl FaultSpec {
    fn check<'a>(&'a self, checker: &mut Checker<'a>) -> Fault {
        if self.delay.is_none() && self.abort.is_none() {
            checker.error("needs delay, abort or both");
        }
        let delay = self.delay.as_ref().and_then(|delay| checker.field("delay", |checker| delay.check(checker)));
        let abort = self.abort.as_ref().and_then(|abort| checker.field("abort", |checker| abort.check(checker)));
        Fault {
            delay: delay.zip(
                self.delay
                    .as_ref()
                    .and_then(|delay| checker.field("delay", |checker| share(delay.percentage, checker))),
            ),
            abort: abort.zip(
                self.abort
                    .as_ref()
                    .and_then(|abort| checker.field("abort", |checker| share(abort.percentage, checker))),
            ),
        }
    }
}

impl DelaySpec {
    fn check<'a>(&'a self, checker: &mut Checker<'a>) -> Option<Duration> {
        if self.fixed_delay.is_none() {
            checker.missing("fixedDelay", "must say how long requests wait");
        }
        let delay = duration("fixedDelay", self.fixed_delay.as_ref(), checker);
        if delay.is_some_and(|delay| delay > Duration::from_secs(3_600)) {
            checker.error_at("fixedDelay", "must be at most 1h");
        }
        delay
    }
}

impl AbortSpec {
    fn check<'a>(&'a self, checker: &mut Checker<'a>) -> Option<Abort> {
        match (self.http_status, self.grpc_status) {
            (Some(written), None) => {
                let status = status(written, 400);
                if status.is_none() {
                    checker.error_at("httpStatus", format!("must be from 400 to 599, is {written}"));
                }
                status.map(Abort::Status)
            }
            (None, Some(written)) => {
                let code = u8::try_from(written).ok().filter(|code| (1..=16).contains(code));
                if code.is_none() {
                    checker.error_at("grpcStatus", format!("must be from 1 to 16, is {written}"));
                }
                code.map(Abort::Call)
            }
            _ => {
                checker.error("needs exactly one of httpStatus, grpcStatus");
                None
            }
        }
    }
}
