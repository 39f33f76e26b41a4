//! Filters, applied: what a request's rule and its destination change on the way there and back.
//!
//! On the way there the rule's come first, then copies are made, then the destination's: what a rule says holds for
//! mirrors as well. On the way back it is the other way round, and CORS comes last: nobody may take back what it says.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST, HeaderMap, HeaderValue, ORIGIN};
use http::uri::{PathAndQuery, Uri};
use http::{Method, StatusCode, request};
use weir_core::filter::{Abort, Asked, DirectResponse, Filters, Preflight, Redirect, Scheme};
use weir_core::route::{Decision, Matcher, Outcome};
use weir_core::snapshot::Frontend;
use weir_telemetry::Cause;

use crate::grpc;
use crate::plan::Local;

/// The filters of a request's rule and destination; made only when there is something to do.
pub(crate) struct FilterChain {
    rule: Option<Arc<Filters>>,
    destination: Option<Arc<Filters>>,
    /// What the request met: the path that it was found by may be what is replaced.
    matcher: Arc<Matcher>,
    /// Who asks, where that matters.
    origin: Option<HeaderValue>,
}

impl FilterChain {
    pub(crate) fn new(decision: &Decision<'_>, headers: &HeaderMap) -> Option<Box<Self>> {
        let entry = decision.entry?;
        let rule = entry.rule.filters.clone();
        let destination = decision.destination().and_then(|destination| destination.filters.clone());
        // Another try may go to a destination that has some.
        if rule.is_none() && destination.is_none() && entry.rule.retry.is_none() {
            return None;
        }
        let has_cors = rule.as_ref().is_some_and(|filters| filters.cors.is_some());
        let origin = headers.get(ORIGIN).filter(|_| has_cors).cloned();
        Some(Box::new(Self { rule, destination, matcher: Arc::clone(&entry.matcher), origin }))
    }

    /// The request goes to another destination.
    pub(crate) fn set_destination(&mut self, filters: Option<Arc<Filters>>) {
        self.destination = filters;
    }

    /// Applies what the rule says to the head of a request.
    pub(crate) fn on_request(&self, head: &mut request::Parts) {
        if let Some(filters) = &self.rule {
            self.change(filters, head);
        }
    }

    /// Applies what the destination says to the head of a request.
    pub(crate) fn on_way_out(&self, head: &mut request::Parts) {
        if let Some(filters) = &self.destination {
            self.change(filters, head);
        }
    }

    /// Applies both to the head of an endpoint's response.
    pub(crate) fn on_response(&self, headers: &mut HeaderMap) {
        for filters in [&self.destination, &self.rule].into_iter().flatten() {
            filters.response.apply(headers);
        }
        self.on_answer(headers);
    }

    /// Lets a browser read also what the proxy answers.
    pub(crate) fn on_answer(&self, headers: &mut HeaderMap) {
        if let Some(cors) = self.rule.as_ref().and_then(|filters| filters.cors.as_ref()) {
            cors.on_response(self.origin.as_ref(), headers);
        }
    }

    fn change(&self, filters: &Filters, head: &mut request::Parts) {
        filters.request.apply(&mut head.headers);
        // What it names is not the service's to rewrite.
        if head.method == Method::CONNECT {
            return;
        }
        if let Some(host) = &filters.rewrite.host {
            head.headers.insert(HOST, host.clone());
        }
        if let Some(path) = &filters.rewrite.path {
            let new = path.apply(head.uri.path(), self.matcher.path.as_ref());
            let target = match head.uri.query() {
                Some(query) => format!("{new}?{query}").parse::<PathAndQuery>(),
                None => new.parse(),
            };
            // Of a path that was parsed and one that the configuration checked: always another.
            if let Ok(target) = target {
                head.uri = Uri::from(target);
            }
        }
    }
}

/// An answer that a rule gives without an endpoint.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// Set when it is to be counted as a failure.
    pub(crate) cause: Option<Cause>,
    /// Whether a browser may read it by what CORS says; of a preflight that is what it is about.
    pub(crate) has_cors: bool,
}

impl Answer {
    fn new(status: StatusCode, headers: HeaderMap) -> Self {
        Self { status, headers, body: Bytes::new(), cause: None, has_cors: true }
    }

    fn with_text(self, text: &str) -> Self {
        let mut headers = self.headers;
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        Self { headers, body: Bytes::copy_from_slice(text.as_bytes()), ..self }
    }
}

/// What a request gets when its rule makes it fail.
pub(crate) fn failed(abort: Abort, is_call: bool) -> Local {
    let answer = match abort {
        Abort::Call(code) if is_call => {
            let mut headers = HeaderMap::new();
            headers.insert(CONTENT_TYPE, grpc::TYPE);
            headers.insert(grpc::STATUS, HeaderValue::from(u16::from(code)));
            Answer::new(StatusCode::OK, headers)
        }
        Abort::Call(_) => return Local::Failure(Cause::Fault),
        Abort::Status(status) => Answer::new(status, HeaderMap::new()).with_text("the rule makes this request fail\n"),
    };
    Local::Answer(Box::new(Answer { cause: Some(Cause::Fault), ..answer }))
}

/// The answer to a request that goes to no destination.
pub(crate) fn answer(
    decision: &Decision<'_>,
    frontend: &Frontend,
    scheme: Scheme,
    head: &request::Parts,
) -> Result<Answer, Cause> {
    match decision.outcome {
        Outcome::Preflight(preflight) => Ok(preflighted(&preflight, head)),
        Outcome::Redirect(redirect) => redirected(redirect, decision, (frontend, scheme), head),
        Outcome::Direct(DirectResponse { status, body }) => Ok(match &**body {
            "" => Answer::new(*status, HeaderMap::new()),
            body => Answer::new(*status, HeaderMap::new()).with_text(body),
        }),
        Outcome::NotFound => Err(Cause::NoRoute),
        Outcome::NoDestination | Outcome::Destination(..) => Err(Cause::NoDestination),
    }
}

fn preflighted(preflight: &Preflight<'_>, head: &request::Parts) -> Answer {
    Answer { has_cors: false, ..Answer::new(StatusCode::NO_CONTENT, preflight.answer(&head.headers)) }
}

fn redirected(
    redirect: &Redirect,
    decision: &Decision<'_>,
    (frontend, scheme): (&Frontend, Scheme),
    head: &request::Parts,
) -> Result<Answer, Cause> {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).filter(|host| !host.is_empty());
    let service = &frontend.name.service;
    let own_name = || format!("{}.{}", service.name, service.namespace);
    let asked = Asked {
        scheme,
        host: &host.map_or_else(own_name, str::to_owned),
        port: frontend.name.port,
        path: head.uri.path(),
        query: head.uri.query(),
        path_match: decision.path_match(),
    };
    let location = HeaderValue::try_from(redirect.location(&asked)).map_err(|_| Cause::BadRequest)?;
    let headers = HeaderMap::from_iter([(http::header::LOCATION, location)]);
    Ok(Answer::new(redirect.status, headers))
}
