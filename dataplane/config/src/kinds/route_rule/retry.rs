//! Whether requests that fail are tried again.

use weir_core::methods::Methods;
use weir_core::retry::{Failures, Retry, RetryTo};
use weir_core::route::Timeouts;

use super::matches::methods;
use super::route::named;
use super::spec::{FailureText, RetrySpec, RetryToSpec};
use crate::check::Checker;
use crate::kinds::duration::duration;
use crate::kinds::retry::{attempts, backoff, is_status};
use crate::kinds::rules::To;
use crate::limits;
use crate::shape::Shape;

/// A name, and what it adds to the failures.
type KindOfFailure = (&'static str, fn(&mut Failures));

/// Kinds of failures, as they are written. Those of Envoy and Istio have the names that they have there.
const KINDS: [KindOfFailure; 12] = [
    ("connect-failure", |failures| failures.connect = true),
    ("reset", |failures| failures.reset = true),
    ("timeout", |failures| failures.timeout = true),
    ("5xx", |failures| failures.add_statuses(500..600)),
    ("gateway-error", |failures| failures.add_statuses(502..505)),
    ("retriable-4xx", |failures| failures.add_statuses([409])),
    ("cancelled", |failures| failures.add_call(1)),
    ("deadline-exceeded", |failures| failures.add_call(4)),
    ("resource-exhausted", |failures| failures.add_call(8)),
    ("aborted", |failures| failures.add_call(10)),
    ("internal", |failures| failures.add_call(13)),
    ("unavailable", |failures| failures.add_call(14)),
];

/// Without a word about it: what says that the endpoint is not there, or not well.
fn usual() -> Failures {
    let mut failures = Failures::unanswered();
    failures.add_statuses(502..505);
    failures.add_call(14);
    failures
}

pub(super) fn retry<'a>(
    spec: &'a RetrySpec,
    namespace: &str,
    timeouts: &Timeouts,
    checker: &mut Checker<'a>,
) -> Option<Retry<To>> {
    let attempts = attempts(spec.attempts, checker);
    let on = spec.on.as_ref().map_or_else(usual, |on| checker.field("on", |checker| failures(on, checker)));
    let methods = methods(spec.methods.as_deref(), Methods::Idempotent, checker);
    let backoff = backoff(spec.backoff.as_ref(), checker).unwrap_or_default();
    let to = match &spec.destination {
        None => Some(RetryTo::First),
        Some(to) => checker.field("destination", |checker| destination(&to.0, namespace, checker)),
    };
    let hedge_after = duration("hedgeAfter", spec.hedge_after.as_ref(), checker);
    let ends = [("perTry", timeouts.per_try), ("request", timeouts.request)];
    for (name, end) in ends.into_iter().filter_map(|(name, end)| Some((name, end?))) {
        if hedge_after.is_some_and(|after| after >= end) {
            let message = format!("no try takes as long as this: `timeouts.{name}` is {end:?}, and comes first");
            checker.field("hedgeAfter", |checker| checker.warning(message));
        }
    }
    Some(Retry { attempts: attempts?, on, methods, backoff, hedge_after, to: to? })
}

fn destination<'a>(spec: &'a RetryToSpec, namespace: &str, checker: &mut Checker<'a>) -> Option<RetryTo<To>> {
    match spec {
        RetryToSpec::Named(spec) => named(spec.host.as_deref(), spec.port, namespace, checker).map(RetryTo::Other),
        RetryToSpec::Word(word) => match word.as_str() {
            "first" => Some(RetryTo::First),
            "same" => Some(RetryTo::Same),
            other => {
                checker.error(format!("must be {}, is \"{other}\"", RetryToSpec::ONE));
                None
            }
        },
    }
}

fn failures<'a>(written: &'a [FailureText], checker: &mut Checker<'a>) -> Failures {
    let mut failures = Failures::default();
    if written.is_empty() {
        checker.error("an empty list names no failure; leave it out for the usual ones");
    }
    if written.len() > limits::FAILURES {
        checker.error(format!("at most {} failures, here are {}", limits::FAILURES, written.len()));
    }
    for (position, FailureText(text)) in written.iter().enumerate().take(limits::FAILURES) {
        if let Some((_, add)) = KINDS.iter().find(|(name, _)| name == text) {
            add(&mut failures);
        } else if let Some(status) = text.parse().ok().filter(|status| is_status(*status)) {
            failures.add_statuses([status]);
        } else {
            let known: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
            let message =
                format!("\"{text}\" is no failure: write a status from 400 to 599 or one of {}", known.join(", "));
            checker.element(position, |checker| checker.error(message));
        }
    }
    failures
}
