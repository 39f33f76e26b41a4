//! One exchange with a plugin, without a node: whoever it calls answers what the test says.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::SystemTime;

use bytes::Bytes;
use http::{HeaderMap, Response, Version, request, response};
use weir_core::name::{ClusterName, ServiceName};
use weir_plugin_host::{
    CallResponse, Decided, Direction, Environment, Facts, GrpcCall, GrpcEvent, HttpCall, HttpContext, LocalReply,
    Notices, Plugin, Routing, Step, Vm,
};

/// Times that a plugin may ask something of others in one exchange.
const CALLS: usize = 1_000;

/// What services answer.
#[derive(Debug, Default)]
pub(super) struct Services {
    /// By the name that the plugin calls them by.
    pub(super) answers: BTreeMap<String, Answer>,
    waiting: RefCell<Vec<HttpCall>>,
    waiting_grpc: RefCell<Vec<GrpcCall>>,
    /// What was asked: the service, the method, the path.
    pub(super) asked: RefCell<Vec<String>>,
}

/// What a service answers.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) head: response::Parts,
    pub(super) body: Bytes,
}

impl Environment for Services {
    fn is_known(&self, upstream: &str) -> bool {
        self.answers.contains_key(upstream)
    }

    fn may_call(&self, _: &Plugin, upstream: &str) -> bool {
        self.is_known(upstream)
    }

    fn send(&self, _: &Rc<Vm>, call: HttpCall) {
        self.asked.borrow_mut().push(format!("{} {} {}", call.upstream, call.head.method, call.head.uri));
        self.waiting.borrow_mut().push(call);
    }

    fn call(&self, _: &Rc<Vm>, call: GrpcCall) {
        self.asked.borrow_mut().push(format!("{} grpc {}", call.upstream, call.head.uri));
        self.waiting_grpc.borrow_mut().push(call);
    }

    fn begin_listening(&self, _: &Rc<Vm>, _: Arc<Notices>) {}

    fn begin_ticking(&self, _: &Rc<Vm>) {}
}

impl Services {
    /// Answers what was asked, and what is asked meanwhile.
    fn answer(&self, vm: &Rc<Vm>) {
        for _ in 0..CALLS {
            let (calls, grpc) = (self.waiting.take(), self.waiting_grpc.take());
            if calls.is_empty() && grpc.is_empty() {
                return;
            }
            for call in calls {
                let answer = self.answers.get(&*call.upstream).cloned();
                let Some(Answer { head, body }) = answer else { continue };
                vm.on_http_call_response(call.id, CallResponse { head, body, trailers: HeaderMap::new() });
            }
            for call in grpc {
                let body = self.answers.get(&*call.upstream).map(|answer| answer.body.clone()).unwrap_or_default();
                if vm.on_grpc(call.id, GrpcEvent::Message(body)) {
                    vm.on_grpc(call.id, GrpcEvent::Closed(0, "".into()));
                }
            }
        }
    }
}

/// A message: its head and its body.
#[derive(Clone, Debug)]
pub(super) struct Message<H> {
    pub(super) head: H,
    pub(super) body: Bytes,
}

/// What became of an exchange.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What an endpoint would have been sent; `None` where the plugin kept it.
    pub(super) request: Option<Message<request::Parts>>,
    /// What was decided about where it goes.
    pub(super) routing: Routing,
    /// What the client would have been sent.
    pub(super) response: Option<Message<response::Parts>>,
    /// Why it went no further, where it did not.
    pub(super) end: Option<&'static str>,
}

/// Why an exchange goes no further.
enum Stopped {
    Reply(Box<LocalReply>),
    End(&'static str),
}

/// Shows a plugin a request and the response to it.
pub(super) fn exchange(
    vm: &Rc<Vm>,
    services: &Services,
    request: Message<request::Parts>,
    response: Message<response::Parts>,
) -> Outcome {
    let Some(context) = vm.open(facts(&request.head)) else {
        return Outcome { end: Some("fails"), ..Outcome::default() };
    };
    let trial = Trial { context: &context, services };
    let mut outcome = Outcome::default();
    match trial.run(request, response, &mut outcome) {
        Ok(()) => {}
        Err(Stopped::End(end)) => outcome.end = Some(end),
        Err(Stopped::Reply(reply)) => outcome.response = Some(answer(*reply)),
    }
    drop(context);
    services.answer(vm);
    outcome
}

fn answer(reply: LocalReply) -> Message<response::Parts> {
    let mut head = Response::new(()).into_parts().0;
    (head.status, head.headers) = (reply.status, reply.headers);
    Message { head, body: reply.body }
}

fn facts(head: &request::Parts) -> Facts {
    Facts {
        source: ([127, 0, 0, 1], 40_000).into(),
        destination: ([127, 0, 0, 1], 80).into(),
        connection: 1,
        version: Some(Version::HTTP_11),
        scheme: if head.uri.scheme_str() == Some("https") { "https" } else { "http" },
        server_name: None,
        tls_version: None,
        started: SystemTime::now(),
        revision: 1,
        service: ClusterName { service: ServiceName::new("default", "test"), port: 80 },
        workload: None,
        decided: Decided::default(),
    }
}

struct Trial<'t> {
    context: &'t HttpContext,
    services: &'t Services,
}

impl Trial<'_> {
    fn run(
        &self,
        request: Message<request::Parts>,
        response: Message<response::Parts>,
        outcome: &mut Outcome,
    ) -> Result<(), Stopped> {
        let (Message { mut head, body }, is_whole) = match self.request(request, outcome) {
            // It sees what it answers itself, too.
            Err(Stopped::Reply(reply)) => (answer(*reply), true),
            passed => passed.map(|()| (response, false))?,
        };
        let step = self.context.on_response_headers(&mut head, body.is_empty());
        if !self.goes_on(step, Direction::Response)? {
            return Err(Stopped::End("waits for ever"));
        }
        self.context.take_response(&mut head);
        let body = match (body.is_empty(), is_whole) {
            (true, _) => body,
            (_, true) => self.pieces(Direction::Response, [(body, true)])?,
            (_, false) => self.body(Direction::Response, body)?,
        };
        outcome.response = Some(Message { head, body });
        Ok(())
    }

    /// Shows it the request, up to where it goes on.
    fn request(&self, request: Message<request::Parts>, outcome: &mut Outcome) -> Result<(), Stopped> {
        let Self { context, .. } = self;
        let Message { mut head, mut body } = request;
        let (is_end, mut is_seen) = (body.is_empty(), false);
        let step = context.on_request_headers(&mut head, is_end);
        if !self.goes_on(step, Direction::Request)? {
            if !context.wants_body_first() || is_end {
                return Err(Stopped::End("waits for ever"));
            }
            is_seen = true;
            body = self.body(Direction::Request, body)?;
        }
        context.take_request(&mut head);
        context.add_routing(&mut outcome.routing);
        if !is_end && !is_seen {
            body = self.body(Direction::Request, body)?;
        }
        outcome.request = Some(Message { head, body });
        Ok(())
    }

    /// Whether it lets go what a step is about; where it waits, until services have answered.
    fn goes_on(&self, step: Step, direction: Direction) -> Result<bool, Stopped> {
        match step {
            Step::Pause => {
                self.services.answer(self.context.vm());
                let polled = self.context.poll_resumed(direction, &mut Context::from_waker(Waker::noop()));
                match polled {
                    Poll::Ready(step) => decided(step),
                    Poll::Pending => Ok(false),
                }
            }
            step => {
                self.services.answer(self.context.vm());
                decided(step)
            }
        }
    }

    /// A whole body, which it may change: as a piece, and then its end.
    fn body(&self, direction: Direction, body: Bytes) -> Result<Bytes, Stopped> {
        self.pieces(direction, [(body, false), (Bytes::new(), true)])
    }

    fn pieces<const N: usize>(&self, direction: Direction, pieces: [(Bytes, bool); N]) -> Result<Bytes, Stopped> {
        let mut passed = Vec::new();
        for (mut data, is_end) in pieces {
            let step = self.context.on_body(direction, &mut data, is_end);
            if self.goes_on(step, direction)? {
                let held = self.context.take_body(direction);
                passed.extend_from_slice(if data.is_empty() { &held } else { &data });
            } else if is_end {
                return Err(Stopped::End("waits for ever"));
            }
        }
        Ok(passed.into())
    }
}

fn decided(step: Step) -> Result<bool, Stopped> {
    match step {
        Step::Continue => Ok(true),
        Step::Pause => Ok(false),
        Step::Reply(reply) => Err(Stopped::Reply(reply)),
        Step::Reset => Err(Stopped::End("is broken off")),
        Step::TooLarge => Err(Stopped::End("is too large")),
        Step::Failed => Err(Stopped::End("fails")),
    }
}
