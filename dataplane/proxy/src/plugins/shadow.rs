//! A version of a plugin that is tried out beside the one in force: it sees copies of what that sees, what it does is
//! compared, and nothing of it is applied.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, request, response};
use weir_plugin_host::{Decided, Direction, HttpContext, LocalReply, Plugin, Routing, Step};
use xxhash_rust::xxh3::Xxh3;

/// What is tried out, for one request.
#[derive(Debug)]
pub(super) struct Shadow {
    host: Arc<Plugin>,
    /// `None` once they have gone different ways.
    context: RefCell<Option<HttpContext>>,
    /// What the request is, for people.
    request: Box<str>,
    /// What the callback in which both are has come to, until the other's has too.
    step: RefCell<Option<Step>>,
    head: RefCell<Head>,
    trailers: RefCell<Option<HeaderMap>>,
    bodies: [Body; 2],
    /// Whether decisions about the route are compared already.
    is_routed: Cell<bool>,
    difference: RefCell<Option<String>>,
}

/// A head as it is after the callback.
#[derive(Debug, Default)]
enum Head {
    #[default]
    None,
    Request(Box<request::Parts>),
    Response(Box<response::Parts>),
}

/// What has passed of a body: here, and there.
#[derive(Debug, Default)]
struct Body {
    passed: RefCell<[Passed; 2]>,
    /// Whether both have seen its end.
    is_ended: Cell<bool>,
}

#[derive(Default)]
struct Passed {
    bytes: u64,
    hash: Xxh3,
}

impl std::fmt::Debug for Passed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} bytes", self.bytes)
    }
}

impl Passed {
    fn add(&mut self, data: &[u8]) {
        self.bytes += data.len() as u64;
        self.hash.update(data);
    }
}

impl Shadow {
    pub(super) fn new(context: HttpContext, head: &request::Parts) -> Self {
        Self {
            host: Arc::clone(context.vm().plugin()),
            request: format!("{} {}", head.method, head.uri).into(),
            context: RefCell::new(Some(context)),
            step: RefCell::default(),
            head: RefCell::default(),
            trailers: RefCell::default(),
            bodies: Default::default(),
            is_routed: Cell::new(false),
            difference: RefCell::default(),
        }
    }

    /// They are not the same: from here on nothing is compared, since the one would see what the other has made of it.
    fn differ(&self, what: String) {
        self.difference.borrow_mut().get_or_insert(what);
        drop(self.context.borrow_mut().take());
    }

    pub(super) fn wants_body(&self, direction: Direction) -> bool {
        self.context.borrow().as_ref().is_some_and(|context| context.wants_body(direction))
    }

    pub(super) fn on_request(&self, head: &request::Parts, is_end: bool) {
        if let Some(context) = &*self.context.borrow() {
            let mut head = Box::new(head.clone());
            let step = context.on_request_headers(&mut head, is_end);
            if !matches!(step, Step::Continue) {
                context.take_request(&mut head);
            }
            *self.step.borrow_mut() = Some(step);
            *self.head.borrow_mut() = Head::Request(head);
        }
    }

    pub(super) fn on_response(&self, head: &response::Parts, is_end: bool) {
        if let Some(context) = &*self.context.borrow() {
            let mut head = Box::new(head.clone());
            let step = context.on_response_headers(&mut head, is_end);
            if !matches!(step, Step::Continue) {
                context.take_response(&mut head);
            }
            *self.step.borrow_mut() = Some(step);
            *self.head.borrow_mut() = Head::Response(head);
        }
    }

    /// Compares what a callback has come to.
    pub(super) fn compare_step(&self, of: &str, step: &Step) {
        let Some(own) = self.step.borrow_mut().take() else { return };
        let difference = match (step, &own) {
            (Step::Reply(one), Step::Reply(other)) => replies(one, other),
            (one, other) if std::mem::discriminant(one) == std::mem::discriminant(other) => None,
            (one, other) => Some(format!("{}, and not {}", name(one), name(other))),
        };
        match difference {
            Some(what) => self.differ(format!("{of}: {what}")),
            // It goes no further, or the one that decides when it does would have to be asked.
            None if !matches!(own, Step::Continue) => drop(self.context.borrow_mut().take()),
            None => {}
        }
    }

    pub(super) fn compare_request(&self, head: &request::Parts) {
        let Head::Request(own) = std::mem::take(&mut *self.head.borrow_mut()) else { return };
        if self.difference.borrow().is_some() {
            return;
        }
        let mut what = String::new();
        if (&own.method, &own.uri) != (&head.method, &head.uri) {
            let _ = write!(what, "{} {}, and not {} {}; ", head.method, head.uri, own.method, own.uri);
        }
        if let Some(what) = finished(what, &head.headers, &own.headers) {
            self.differ(format!("the request: {what}"));
        }
    }

    pub(super) fn compare_response(&self, head: &response::Parts) {
        let Head::Response(own) = std::mem::take(&mut *self.head.borrow_mut()) else { return };
        if self.difference.borrow().is_some() {
            return;
        }
        let mut what = String::new();
        if own.status != head.status {
            let _ = write!(what, "{}, and not {}; ", head.status.as_u16(), own.status.as_u16());
        }
        if let Some(what) = finished(what, &head.headers, &own.headers) {
            self.differ(format!("the response: {what}"));
        }
    }

    pub(super) fn compare_routing(&self, routing: &Routing) {
        if self.is_routed.replace(true) {
            return;
        }
        let mut own = Routing::default();
        match &*self.context.borrow() {
            Some(context) => context.add_routing(&mut own),
            None => return,
        }
        if own != *routing {
            self.differ(format!("the route: {routing:?}, and not {own:?}"));
        }
    }

    pub(super) fn set_decided(&self, decided: &Decided) {
        self.context.borrow().iter().for_each(|context| context.set_decided(decided.clone()));
    }

    fn body(&self, direction: Direction) -> &Body {
        &self.bodies[usize::from(direction == Direction::Response)]
    }

    /// Shows it a copy of a piece of a body.
    pub(super) fn on_data(&self, direction: Direction, mut data: Bytes, is_end: bool) {
        let step = match &*self.context.borrow() {
            Some(context) => context.on_body(direction, &mut data, is_end),
            None => return,
        };
        match step {
            Step::Continue => self.body(direction).passed.borrow_mut()[1].add(&data),
            // Perhaps the other does too.
            Step::Pause => {}
            other => self.differ(format!("{}: {}", body_name(direction), name(&other))),
        }
    }

    /// The one in force has let this pass.
    pub(super) fn passed(&self, direction: Direction, data: &Bytes, is_end: bool) {
        let body = self.body(direction);
        body.passed.borrow_mut()[0].add(data);
        if is_end {
            body.is_ended.set(true);
        }
    }

    pub(super) fn on_trailers(&self, direction: Direction, trailers: &HeaderMap) {
        if let Some(context) = &*self.context.borrow() {
            let mut trailers = trailers.clone();
            if !matches!(context.on_trailers(direction, &mut trailers), Step::Continue) {
                context.take_trailers(direction, &mut trailers);
            }
            *self.trailers.borrow_mut() = Some(trailers);
        }
    }

    pub(super) fn compare_trailers(&self, direction: Direction, trailers: &HeaderMap) {
        let Some(own) = self.trailers.borrow_mut().take() else { return };
        if let Some(what) = finished(String::new(), trailers, &own) {
            self.differ(format!("the trailers of {}: {what}", body_name(direction)));
        }
    }

    /// The exchange is over.
    pub(super) fn end(&self, decided: &Decided) {
        let is_alive = self.context.borrow().as_ref().is_some_and(|context| context.vm().is_alive());
        for direction in [Direction::Request, Direction::Response] {
            let body = self.body(direction);
            let [there, here] = &*body.passed.borrow();
            // Of a body that broke off nobody knows how it would have ended.
            if is_alive && body.is_ended.get() && (there.bytes, there.hash.digest()) != (here.bytes, here.hash.digest())
            {
                let same_size = if there.bytes == here.bytes { ", and not the same ones" } else { "" };
                let what = format!("{} bytes passed, and not {}{same_size}", there.bytes, here.bytes);
                self.difference.borrow_mut().get_or_insert(format!("{}: {what}", body_name(direction)));
            }
        }
        if let Some(context) = self.context.borrow_mut().take() {
            context.set_decided(decided.clone());
        }
        self.host.comparison().add(&self.request, self.difference.borrow().as_deref());
    }
}

fn body_name(direction: Direction) -> &'static str {
    match direction {
        Direction::Request => "the request's body",
        Direction::Response => "the response's body",
    }
}

fn name(step: &Step) -> String {
    match step {
        Step::Continue => "goes on".to_owned(),
        Step::Pause => "waits".to_owned(),
        Step::Reply(reply) => format!("is answered with {}", reply.status.as_u16()),
        Step::Reset => "is broken off".to_owned(),
        Step::TooLarge => "is too large".to_owned(),
        Step::Failed => "fails".to_owned(),
    }
}

fn replies(one: &LocalReply, other: &LocalReply) -> Option<String> {
    let mut what = String::new();
    if one.status != other.status {
        let _ = write!(what, "{}, and not {}; ", one.status.as_u16(), other.status.as_u16());
    }
    if one.body != other.body {
        what.push_str("another body; ");
    }
    finished(what, &one.headers, &other.headers).map(|what| format!("is answered: {what}"))
}

/// What was found to differ, with the headers that do.
fn finished(mut what: String, one: &HeaderMap, other: &HeaderMap) -> Option<String> {
    let names = one.keys().chain(other.keys().filter(|name| !one.contains_key(*name)));
    for name in names {
        let [one, other] = [one, other].map(|headers| {
            let values: Vec<_> =
                headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            (!values.is_empty()).then(|| values.join(", "))
        });
        if one != other {
            let shown =
                |value: Option<String>| value.map_or_else(|| "nothing".to_owned(), |value| format!("\"{value}\""));
            let _ = write!(what, "{name} is {}, and not {}; ", shown(one), shown(other));
        }
    }
    (!what.is_empty()).then(|| what.trim_end_matches("; ").to_owned())
}
