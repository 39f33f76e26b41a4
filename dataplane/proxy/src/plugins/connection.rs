//! The plugins of a connection that is none of HTTP: they see it when it begins, every piece of data in both directions,
//! and its end.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use weir_core::plugin::{OnFailure, Plugin};
use weir_core::snapshot::Snapshot;
use weir_plugin_host::{Closer, Decided, Direction, Part, Reached, Step, TcpContext};

use super::{LONGEST_PAUSE, facts};
use crate::downstream::Downstream;

/// A plugin has closed the connection, or failed, or held back more than it may.
#[derive(Debug, thiserror::Error)]
#[error("a plugin closed the connection")]
pub(crate) struct Closed;

impl Closed {
    /// Whether it is what ended a relay.
    pub(crate) fn is_cause(error: &std::io::Error) -> bool {
        error.get_ref().is_some_and(|inner| inner.is::<Self>())
    }
}

/// The plugins that see a connection, in the order in which they see what the client sends.
pub(crate) struct Connection {
    links: Vec<Link>,
    downstream: Rc<Downstream>,
}

struct Link {
    plugin: Arc<Plugin>,
    /// `None` once the connection goes on without it.
    context: RefCell<Option<TcpContext>>,
    ways: [Way; 2],
}

/// What a plugin does with the data of one direction.
#[derive(Default)]
struct Way {
    is_holding: Cell<bool>,
    has_seen_end: Cell<bool>,
}

/// What goes on: data, and whether they are the last.
pub(crate) type Passed = (Bytes, bool);

impl Link {
    fn way(&self, direction: Direction) -> &Way {
        &self.ways[usize::from(direction == Direction::Response)]
    }

    /// Whether it lets go on what a step is about.
    fn goes_on(&self, step: &Step) -> Result<bool, Closed> {
        match step {
            Step::Continue => Ok(true),
            Step::Pause => Ok(false),
            Step::Failed if self.plugin.on_failure == OnFailure::Open => Ok(true),
            Step::Failed | Step::Reset | Step::TooLarge | Step::Reply(_) => Err(Closed),
        }
    }
}

impl Connection {
    /// The plugins of a connection to this service; `None` where there are none.
    pub(crate) fn begin(downstream: &Rc<Downstream>, snapshot: &Snapshot) -> Result<Option<Self>, Closed> {
        let Some(frontend) = downstream.meant.service(snapshot) else { return Ok(None) };
        let worker = &downstream.worker;
        let mut links = Vec::with_capacity(frontend.tcp_plugins.len());
        for plugin in frontend.tcp_plugins.iter().filter(|plugin| plugin.share.contains(worker.random.next())) {
            let vm = worker.plugins.of(plugin, Part::Plugin, Some(downstream.peer.0.ip()), worker.clock.millis());
            let context = vm.and_then(|vm| vm.open_tcp(facts::of(downstream, snapshot, frontend, None)));
            match (context, plugin.on_failure) {
                (None, OnFailure::Open) => {}
                (None, _) => return Err(Closed),
                (context, _) => links.push(Link {
                    plugin: Arc::clone(plugin),
                    context: RefCell::new(context),
                    ways: Default::default(),
                }),
            }
        }
        Ok((!links.is_empty()).then(|| Self { links, downstream: Rc::clone(downstream) }))
    }

    /// Waits until all of them let the connection begin.
    pub(crate) async fn begun(&self) -> Result<(), Closed> {
        for link in &self.links {
            let step = link.context.borrow().as_ref().map_or(Step::Continue, TcpContext::on_new_connection);
            if !link.goes_on(&step)? {
                let resumed = std::future::poll_fn(|context| match &*link.context.borrow() {
                    Some(of) => of.poll_resumed(Direction::Request, context),
                    None => Poll::Ready(Step::Continue),
                });
                link.goes_on(&tokio::time::timeout(LONGEST_PAUSE, resumed).await.map_err(|_| Closed)?)?;
            }
        }
        Ok(())
    }

    /// The endpoint is known.
    pub(crate) fn on_endpoint(&self, address: std::net::SocketAddr) {
        let decided = Decided { endpoint: Some(Reached::at(address)), tries: 1, ..Default::default() };
        for link in &self.links {
            link.context.borrow().iter().for_each(|context| context.set_decided(decided.clone()));
        }
    }

    /// What goes on of data that came, and whether they are the last. Data from the endpoint meet the plugins in the
    /// opposite order.
    pub(crate) fn on_data(&self, direction: Direction, data: Bytes, is_end: bool) -> Result<Passed, Closed> {
        self.feed(direction, 0, data, is_end)
    }

    fn link(&self, direction: Direction, place: usize) -> &Link {
        match direction {
            Direction::Request => &self.links[place],
            Direction::Response => &self.links[self.links.len() - 1 - place],
        }
    }

    fn feed(&self, direction: Direction, from: usize, mut data: Bytes, is_end: bool) -> Result<Passed, Closed> {
        for place in from..self.links.len() {
            // Nothing to see, for those that come after one that held everything back.
            if data.is_empty() && !is_end {
                break;
            }
            let link = self.link(direction, place);
            let context = link.context.borrow();
            let Some(context) = &*context else { continue };
            let way = link.way(direction);
            way.has_seen_end.set(way.has_seen_end.get() || is_end);
            let step = context.on_data(direction, &mut data, is_end);
            let has_failed = matches!(step, Step::Failed);
            let goes_on = link.goes_on(&step)?;
            way.is_holding.set(!goes_on);
            if !goes_on {
                return Ok((Bytes::new(), false));
            }
            if has_failed {
                data = joined(context.take_data(direction), data);
            }
        }
        Ok((data, is_end))
    }

    /// What plugins let go of that they held back; an error when one of them closes the connection.
    pub(crate) fn poll_released(
        &self,
        direction: Direction,
        context: &mut Context<'_>,
    ) -> Poll<Result<Passed, Closed>> {
        for place in 0..self.links.len() {
            let link = self.link(direction, place);
            let way = link.way(direction);
            let data = {
                let of = link.context.borrow();
                let Some(of) = &*of else { continue };
                if of.poll_closed(context).is_ready() {
                    return Poll::Ready(Err(Closed));
                }
                if !way.is_holding.get() {
                    continue;
                }
                let Poll::Ready(step) = of.poll_resumed(direction, context) else { continue };
                link.goes_on(&step)?;
                of.take_data(direction)
            };
            way.is_holding.set(false);
            return Poll::Ready(self.feed(direction, place + 1, data, way.has_seen_end.get()));
        }
        Poll::Pending
    }

    /// The connection is over: each side was closed by its peer, if that has said so, or else here.
    fn end(&self) {
        for link in &self.links {
            for direction in [Direction::Request, Direction::Response] {
                let has_ended = link.way(direction).has_seen_end.get();
                let closer = if has_ended { Closer::Remote } else { Closer::Local };
                link.context.borrow().iter().for_each(|context| context.on_close(direction, closer));
            }
        }
    }
}

fn joined(first: Bytes, second: Bytes) -> Bytes {
    match (first.is_empty(), second.is_empty()) {
        (true, _) => second,
        (_, true) => first,
        _ => [first, second].concat().into(),
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.end();
        for link in &self.links {
            let Some(context) = link.context.borrow_mut().take() else { continue };
            let vm = Rc::clone(context.vm());
            drop(context);
            if vm.is_alive() {
                self.downstream.worker.plugins.on_success(&link.plugin);
            }
        }
    }
}
