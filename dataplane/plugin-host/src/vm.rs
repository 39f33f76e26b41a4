//! One instance of a plugin, and the exchanges and connections that it has.

mod http;
mod tcp;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::fast::RandomState;
use rustix::time::{ClockId, clock_gettime};
use wasmtime::{Instance, Store, Trap, TypedFunc, UpdateDeadline, WasmParams, WasmResults};

use crate::abi::Direction;
use crate::abi::fields::Fields;
use crate::environment::{CallResponse, Environment};
use crate::exports::{Callback, Exports};
use crate::grpc::GrpcEvent;
use crate::host::Exit;
use crate::plugin::Plugin;
use crate::state::{Parting, ROOT, State};
use crate::stats::{Ending, Stats};
use crate::stream::{Buffer, Facts, LocalReply, Stream};
use crate::ticker::TICK;

pub use self::http::HttpContext;
pub use self::tcp::{Closer, TcpContext};

/// Why an instance cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// There is no slot or no memory for it.
    #[error("no instance can be made: {0}")]
    NoSlot(String),
    /// A callback of its start failed.
    #[error("{} failed: {reason}", callback.name())]
    Failed {
        /// Which.
        callback: Callback,
        /// In what way.
        reason: String,
    },
    /// It does not want to start, or not with this configuration.
    #[error("{} refuses {}", .0.name(), if *.0 == Callback::VmStart { "to start" } else { "its configuration" })]
    Refused(Callback),
}

/// An instance. It ends with the first callback that fails.
pub struct Vm {
    this: Weak<Self>,
    plugin: Arc<Plugin>,
    stats: Arc<Stats>,
    exports: Exports,
    /// `None` after a callback has failed.
    store: RefCell<Option<Box<Store<State>>>>,
    /// The exchanges that an instance had when it failed: what it had of them is given back.
    left: RefCell<HashMap<u32, Stream, RandomState>>,
    /// Which exchange it was about when it failed, and whose that was.
    blamed: Cell<Option<(u32, IpAddr)>>,
    /// Whether it was ended because of the time that it took.
    is_stopped: Cell<bool>,
    /// The number of the last context.
    last: Cell<u32>,
    /// Whether somebody calls it again and again.
    is_ticking: Cell<bool>,
    /// Whether somebody tells it of its queues.
    is_listening: Cell<bool>,
}

impl std::fmt::Debug for Vm {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Vm({})", self.plugin.name())
    }
}

/// What a plugin wants of an exchange after a callback.
#[derive(Debug)]
pub enum Step {
    /// It goes on.
    Continue,
    /// It waits, until [`HttpContext::poll_resumed`] says otherwise.
    Pause,
    /// The plugin answers, instead of an endpoint.
    Reply(Box<LocalReply>),
    /// It is broken off.
    Reset,
    /// A body that the plugin holds back has become too large.
    TooLarge,
    /// There is no instance any more. What that means, the plugin's policy says.
    Failed,
}

impl Vm {
    /// Makes an instance, starts it and has it configured.
    ///
    /// # Errors
    /// When there is no room for it, or it fails or refuses on the way.
    pub fn start(plugin: &Arc<Plugin>, environment: Rc<dyn Environment>) -> Result<Rc<Self>, StartError> {
        let state = State::new(plugin, environment);
        let stats = Arc::clone(&state.stats);
        let started = Self::started(plugin, state);
        let (store, exports) = started.inspect_err(|error| {
            stats.on_ending(if let StartError::NoSlot(_) = error { Ending::NoInstance } else { Ending::Trap });
        })?;
        let vm = Rc::new_cyclic(|this| Self {
            this: Weak::clone(this),
            plugin: Arc::clone(plugin),
            stats,
            exports,
            is_ticking: Cell::new(false),
            is_listening: Cell::new(false),
            store: RefCell::new(Some(store)),
            left: RefCell::default(),
            blamed: Cell::new(None),
            is_stopped: Cell::new(false),
            last: Cell::new(ROOT),
        });
        vm.measure();
        vm.dispatch();
        Ok(vm)
    }

    fn started(plugin: &Arc<Plugin>, state: State) -> Result<(Box<Store<State>>, Exports), StartError> {
        let engine = plugin.module.engine();
        let mut store = Box::new(Store::new(&engine.inner, state));
        store.limiter(|state| &mut state.limits);
        store.epoch_deadline_callback(|mut context| {
            let state = context.data_mut();
            state.plugin.module.engine().ticker.on_callback();
            let now = processor_time();
            let first = *state.looked_at.get_or_insert(now);
            // What it used before the first look is at most a tick.
            if now.saturating_sub(first) + TICK > state.budget {
                return Err(Trap::Interrupt.into());
            }
            Ok(UpdateDeadline::Continue(1))
        });
        engine.ticker.on_callback();
        store.set_epoch_deadline(1);
        let (ready, began) = (plugin.module.ready(), Instant::now());
        let instance = ready.instantiate(&mut *store).map_err(|error| match error.downcast_ref::<Trap>() {
            Some(_) => StartError::Failed { callback: Callback::Start, reason: brief(&error) },
            None => StartError::NoSlot(format!("{error:#}")),
        })?;
        store.data_mut().made_in = began.elapsed();
        let memory = instance.get_memory(&mut *store, "memory");
        let allocate = ["malloc", "proxy_on_memory_allocate"];
        let allocate = allocate.iter().find_map(|name| instance.get_typed_func(&mut *store, name).ok());
        let state = store.data_mut();
        (state.memory, state.allocate) = (memory, allocate);
        run_start(&instance, &mut store)?;
        let exports = Exports::find(&instance, &mut store);
        let (vm_size, size) = (size(&plugin.options.vm_configuration), size(&plugin.options.configuration));
        let failed = |callback| move |error: wasmtime::Error| StartError::Failed { callback, reason: brief(&error) };
        store.data_mut().context = ROOT;
        if let Some(create) = &exports.context_create {
            create.call(&mut *store, (ROOT, 0)).map_err(failed(Callback::ContextCreate))?;
        }
        let steps = [(Callback::VmStart, vm_size), (Callback::Validate, size), (Callback::Configure, size)];
        for (callback, size) in steps {
            let function: Option<TypedFunc<(u32, u32), u32>> =
                crate::exports::function(&instance, &mut store, callback);
            let Some(function) = function else { continue };
            store.data_mut().context = ROOT;
            if function.call(&mut *store, (ROOT, size)).map_err(failed(callback))? == 0 {
                return Err(StartError::Refused(callback));
            }
        }
        store.data_mut().budget = plugin.options.limits.callback;
        Ok((store, exports))
    }

    /// The plugin that it is an instance of.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// How long it took to make it, before anything of it ran; `None` when it is gone.
    pub fn made_in(&self) -> Option<Duration> {
        self.store.borrow().as_ref().map(|store| store.data().made_in)
    }

    /// Whose exchange it was about when it failed; `None` where it failed by itself.
    pub fn blamed(&self) -> Option<IpAddr> {
        self.blamed.get().map(|(_, client)| client)
    }

    /// Whether it was ended because of the time that it took, for which it has held up all others.
    pub fn was_stopped(&self) -> bool {
        self.is_stopped.get()
    }

    /// Whether it can still be used.
    pub fn is_alive(&self) -> bool {
        self.store.borrow().is_some()
    }

    /// Begins an exchange; `None` when the instance is gone.
    pub fn open(self: &Rc<Self>, facts: Facts) -> Option<HttpContext> {
        self.begin(facts).map(|id| HttpContext { vm: Rc::clone(self), id })
    }

    /// Begins a connection that is none of HTTP; `None` when the instance is gone.
    pub fn open_tcp(self: &Rc<Self>, facts: Facts) -> Option<TcpContext> {
        self.begin(facts).map(|id| TcpContext { vm: Rc::clone(self), id })
    }

    fn begin(&self, facts: Facts) -> Option<u32> {
        let id = {
            let mut store = self.store.borrow_mut();
            let state = store.as_mut()?.data_mut();
            let mut id = self.last.get();
            loop {
                id = id.checked_add(1).unwrap_or(ROOT + 1);
                if !state.streams.contains_key(&id) {
                    break;
                }
            }
            self.last.set(id);
            state.streams.insert(id, Stream::new(facts));
            id
        };
        if let Some(create) = &self.exports.context_create
            && self.call(Callback::ContextCreate, id, create, (id, ROOT)).is_err()
        {
            self.left.borrow_mut().remove(&id);
            return None;
        }
        Some(id)
    }

    /// How often [`Vm::tick`] is to be called; `None` for never again.
    pub fn tick_period(&self) -> Option<Duration> {
        let store = self.store.borrow();
        let period = store.as_ref().map(|store| store.data().tick_period).filter(|period| !period.is_zero());
        self.is_ticking.set(period.is_some());
        period
    }

    /// A request that the plugin sent has ended.
    pub fn on_http_call_response(&self, id: u32, response: CallResponse) {
        let counts = {
            let mut store = self.store.borrow_mut();
            let Some(state) = store.as_mut().map(|store| store.data_mut()) else { return };
            if !state.open_calls.remove(&id) {
                return;
            }
            let response = state.call_response.insert(response);
            let headers = Fields::Response(&mut response.head).len();
            [headers, response.body.len(), response.trailers.len()]
                .map(|count| u32::try_from(count).unwrap_or(u32::MAX))
        };
        let [headers, body, trailers] = counts;
        if let Some(function) = &self.exports.http_call_response {
            // What failed is told by the instance being gone.
            let _ = self.call(Callback::HttpCallResponse, ROOT, function, (ROOT, id, headers, body, trailers));
        }
        if let Some(store) = self.store.borrow_mut().as_mut() {
            store.data_mut().call_response = None;
        }
    }

    /// Something came of a call of gRPC. Whether the plugin still wants to know of it.
    pub fn on_grpc(&self, id: u32, event: GrpcEvent) -> bool {
        let Exports { grpc_initial_metadata, grpc_receive, grpc_trailing_metadata, grpc_close, .. } = &self.exports;
        let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
        let told = {
            let mut store = self.store.borrow_mut();
            let Some(state) = store.as_mut().map(|store| store.data_mut()) else { return false };
            let Some(open) = state.open_grpc.get(&id) else { return false };
            // A call of one message is told of that, or of its failure.
            let (is_stream, is_receive) = (open.is_stream, matches!(event, GrpcEvent::Message(_)));
            if matches!(event, GrpcEvent::Closed(..)) || is_receive && !is_stream {
                state.open_grpc.remove(&id);
            }
            match event {
                GrpcEvent::Initial(_) | GrpcEvent::Trailing(_) if !is_stream => return true,
                GrpcEvent::Initial(map) => {
                    let size = count(state.grpc.initial.insert(map).len());
                    (Callback::GrpcInitialMetadata, grpc_initial_metadata, size)
                }
                GrpcEvent::Message(message) => {
                    (Callback::GrpcReceive, grpc_receive, count(state.grpc.message.insert(message).len()))
                }
                GrpcEvent::Trailing(map) => {
                    let size = count(state.grpc.trailing.insert(map).len());
                    (Callback::GrpcTrailingMetadata, grpc_trailing_metadata, size)
                }
                GrpcEvent::Closed(code, message) => {
                    state.grpc.status = (code, message);
                    (Callback::GrpcClose, grpc_close, code)
                }
            }
        };
        let (callback, function, number) = told;
        if let Some(function) = function {
            // What failed is told by the instance being gone.
            let _ = self.call(callback, ROOT, function, (ROOT, id, number));
        }
        let mut store = self.store.borrow_mut();
        let Some(state) = store.as_mut().map(|store| store.data_mut()) else { return false };
        (state.grpc.initial, state.grpc.trailing, state.grpc.message) = (None, None, None);
        state.open_grpc.contains_key(&id)
    }

    /// Does what callbacks asked for, now that they have returned.
    fn dispatch(&self) {
        let mut store = self.store.borrow_mut();
        let Some(state) = store.as_mut().map(|store| store.data_mut()) else { return };
        let ticks = !state.tick_period.is_zero() && !self.is_ticking.get();
        let listens = state.notices.as_ref().filter(|_| !self.is_listening.get()).map(|one| Arc::clone(&one.0));
        if state.outbox.is_empty() && state.grpc_outbox.is_empty() && !ticks && listens.is_none() {
            return;
        }
        let (calls, grpc) = (std::mem::take(&mut state.outbox), std::mem::take(&mut state.grpc_outbox));
        let environment = Rc::clone(&state.environment);
        drop(store);
        let Some(this) = self.this.upgrade() else { return };
        calls.into_iter().for_each(|call| environment.send(&this, call));
        grpc.into_iter().for_each(|call| environment.call(&this, call));
        if ticks {
            self.is_ticking.set(true);
            environment.begin_ticking(&this);
        }
        if let Some(notices) = listens {
            self.is_listening.set(true);
            environment.begin_listening(&this, notices);
        }
    }

    /// Somebody has put something into a queue of the plugin's.
    pub fn on_queue_ready(&self, queue: u32) {
        if let Some(function) = &self.exports.queue_ready {
            // What failed is told by the instance being gone.
            let _ = self.call(Callback::QueueReady, ROOT, function, (ROOT, queue));
        }
    }

    /// Another revision is in force: a plugin is told that wants to know, with its number as eight bytes.
    pub fn on_revision(&self, sequence: u64) {
        let Some(function) = &self.exports.foreign_function else { return };
        let arguments = Bytes::copy_from_slice(&sequence.to_le_bytes());
        let (number, size) = {
            let mut store = self.store.borrow_mut();
            let Some(state) = store.as_mut().map(|store| store.data_mut()) else { return };
            let Some(number) = state.revisions else { return };
            (number, size(state.foreign_arguments.insert(arguments)))
        };
        // What failed is told by the instance being gone.
        let _ = self.call(Callback::ForeignFunction, ROOT, function, (ROOT, number, size));
        if let Some(store) = self.store.borrow_mut().as_mut() {
            store.data_mut().foreign_arguments = None;
        }
    }

    /// Its time has come.
    pub fn tick(&self) {
        if let Some(tick) = &self.exports.tick {
            // What failed is told by the instance being gone.
            let _ = self.call(Callback::Tick, ROOT, tick, ROOT);
        }
    }

    /// Runs a callback. When it fails, the instance is gone.
    fn call<P: WasmParams, R: WasmResults>(
        &self,
        callback: Callback,
        context: u32,
        function: &TypedFunc<P, R>,
        parameters: P,
    ) -> Result<R, Ending> {
        let mut slot = self.store.borrow_mut();
        let store = slot.as_mut().ok_or(Ending::NoInstance)?;
        let state = store.data_mut();
        (state.context, state.looked_at) = (context, None);
        self.plugin.module.engine().ticker.on_callback();
        store.set_epoch_deadline(1);
        let began = Instant::now();
        let result = function.call(&mut **store, parameters);
        let took = began.elapsed();
        self.stats.on_call(took);
        if let Some(stream) = store.data_mut().streams.get_mut(&context) {
            stream.spent += took;
        }
        let error = match result {
            Ok(result) => {
                drop(slot);
                self.dispatch();
                return Ok(result);
            }
            Err(error) => error,
        };
        let ending = ending(&error);
        self.stats.set_memory(0);
        let (plugin, reason) = (self.plugin.name(), brief(&error));
        let state = store.data_mut();
        let is_parting = context == ROOT && matches!(callback, Callback::Done | Callback::Delete);
        if !is_parting {
            self.stats.on_ending(ending);
            tracing::warn!(plugin, callback = callback.name(), "the plugin's instance has ended: {reason}");
            self.plugin.on_failure(format!("{}: {reason}", callback.name()));
        } else {
            // It was to end anyway.
            tracing::debug!(plugin, callback = callback.name(), "the plugin's instance has not ended well: {reason}");
        }
        self.is_stopped.set(ending == Ending::Timeout);
        let about = state.streams.get(&state.context);
        self.blamed.set(about.map(|stream| (state.context, stream.facts.source.ip())));
        state.wake_all();
        *self.left.borrow_mut() = std::mem::take(&mut store.data_mut().streams);
        *slot = None;
        Err(ending)
    }

    /// Changes an exchange; `None` when the instance is gone.
    fn with<T>(&self, id: u32, act: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        self.store.borrow_mut().as_mut()?.data_mut().streams.get_mut(&id).map(act)
    }

    /// Takes something of an exchange back, also of one that the instance had when it failed.
    fn recover<T>(&self, id: u32, act: impl FnOnce(&mut Stream) -> T) -> Option<T> {
        match self.store.borrow_mut().as_mut() {
            Some(store) => store.data_mut().streams.get_mut(&id).map(act),
            None => self.left.borrow_mut().get_mut(&id).map(act),
        }
    }

    /// What a callback, with the action that it returned, has come to.
    fn step(&self, id: u32, direction: Direction, result: Result<u32, Ending>) -> Step {
        let Ok(action) = result else { return Step::Failed };
        let step = self.with(id, |stream| {
            // 0 is to go on. Whatever else there is (`StopIteration` and its kin in Envoy) is to wait.
            stream.way(direction).is_paused = action != 0;
            decided(stream, direction)
        });
        step.unwrap_or(Step::Failed)
    }

    /// Whether what waits may go on.
    fn poll_resumed(&self, id: u32, direction: Direction, context: &mut Context<'_>) -> Poll<Step> {
        let polled = self.with(id, |stream| {
            let step = decided(stream, direction);
            if let Step::Pause = step {
                stream.waker = Some(context.waker().clone());
                return Poll::Pending;
            }
            Poll::Ready(step)
        });
        polled.unwrap_or(Poll::Ready(Step::Failed))
    }

    /// Shows data to a plugin, and whether they are the last. With [`Step::Continue`], what goes on is in `data`.
    fn show(
        &self,
        id: u32,
        direction: Direction,
        (callback, function): (Callback, &TypedFunc<(u32, u32, u32), u32>),
        data: &mut Bytes,
        is_end: bool,
    ) -> Step {
        let size = match self.hold(id, direction, data) {
            Ok(size) => size,
            Err(step) => return step,
        };
        let result = self.call(callback, id, function, (id, size, u32::from(is_end)));
        let step = self.step(id, direction, result);
        if matches!(step, Step::Continue) {
            *data = self.take_held(id, direction);
        }
        step
    }

    /// Puts data before a plugin; how much it has before it then. `Err` says what else has come of it.
    fn hold(&self, id: u32, direction: Direction, data: &mut Bytes) -> Result<u32, Step> {
        if !self.is_alive() {
            return Err(Step::Failed);
        }
        let limit = self.plugin.options.limits.body;
        self.stats.on_bytes(data.len());
        let size = self.with(id, |stream| {
            let way = stream.way(direction);
            let (was_held, body) = (way.is_paused, way.body.get_or_insert_with(Buffer::default));
            body.push(std::mem::take(data));
            (body.len() <= limit || !was_held).then(|| body.len())
        });
        let size = size.ok_or(Step::Failed)?.ok_or(Step::TooLarge)?;
        Ok(u32::try_from(size).unwrap_or(u32::MAX))
    }

    /// Takes what a plugin has before it.
    fn take_held(&self, id: u32, direction: Direction) -> Bytes {
        let taken = self.recover(id, |stream| stream.way(direction).body.take());
        taken.flatten().map_or_else(Bytes::new, |mut body| body.take())
    }

    /// Ends a context.
    fn close(&self, id: u32) {
        let Exports { log, done, delete, .. } = &self.exports;
        if !self.is_alive() {
            self.left.borrow_mut().remove(&id);
            return;
        }
        // In the order in which Envoy does it. A failure ends the instance, and with it the rest.
        if let Some(log) = log {
            let _ = self.call(Callback::Log, id, log, id);
        }
        if let Some(done) = done {
            let _ = self.call(Callback::Done, id, done, id);
        }
        if let Some(delete) = delete {
            let _ = self.call(Callback::Delete, id, delete, id);
        }
        if let Some(store) = self.store.borrow_mut().as_mut() {
            store.data_mut().streams.remove(&id);
        }
        self.measure();
    }

    /// It is not configured any more. Whether it has nothing to do before it goes; [`Vm::poll_parted`] says when. Exchanges that it has go on.
    pub fn part(&self) -> bool {
        if let Some(store) = self.store.borrow_mut().as_mut() {
            store.data_mut().parting = Parting::Waits(None);
        }
        let done = self.exports.done.as_ref().map(|done| self.call(Callback::Done, ROOT, done, ROOT));
        let is_done = !matches!(done, Some(Ok(0)));
        let mut store = self.store.borrow_mut();
        let Some(state) = store.as_mut().map(|store| store.data_mut()) else { return true };
        if is_done {
            state.parting = Parting::Done;
        }
        matches!(state.parting, Parting::Done)
    }

    /// Whether it has done what it had to do before it goes.
    pub fn poll_parted(&self, context: &mut Context<'_>) -> Poll<()> {
        match self.store.borrow_mut().as_mut().map(|store| &mut store.data_mut().parting) {
            Some(Parting::Waits(waker)) => {
                *waker = Some(context.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Notes how much memory it has.
    fn measure(&self) {
        let store = self.store.borrow();
        if let Some(store) = store.as_ref()
            && let Some(memory) = store.data().memory
        {
            self.stats.set_memory(memory.data_size(&**store));
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        let parting = self.store.get_mut().as_ref().map(|store| &store.data().parting);
        if let Some(Parting::NotYet) = parting {
            self.part();
        }
        if let Some(delete) = &self.exports.delete {
            // A failure ends it, which is what happens anyway.
            let _ = self.call(Callback::Delete, ROOT, delete, ROOT);
        }
        self.stats.set_memory(0);
    }
}

/// Runs what a module has to be begun with: `_initialize`, and then `main`, or `_start`.
fn run_start(instance: &Instance, store: &mut Store<State>) -> Result<(), StartError> {
    let failed = |error: wasmtime::Error| match error.downcast_ref::<Exit>() {
        // A command that ends well.
        Some(Exit(0)) => Ok(()),
        _ => Err(StartError::Failed { callback: Callback::Start, reason: brief(&error) }),
    };
    let plain = |store: &mut Store<State>, name| instance.get_typed_func::<(), ()>(store, name).ok();
    if let Some(initialize) = plain(store, "_initialize") {
        initialize.call(&mut *store, ()).or_else(failed)?;
        if let Ok(main) = instance.get_typed_func::<(u32, u32), u32>(&mut *store, "main") {
            main.call(&mut *store, (0, 0)).map(drop).or_else(failed)?;
        } else if let Ok(main) = instance.get_typed_func::<(), u32>(&mut *store, "__main_void") {
            main.call(&mut *store, ()).map(drop).or_else(failed)?;
        }
    } else if let Some(start) = plain(store, "_start") {
        start.call(&mut *store, ()).or_else(failed)?;
    }
    Ok(())
}

fn size(bytes: &Bytes) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn ending(error: &wasmtime::Error) -> Ending {
    if error.downcast_ref::<Trap>() == Some(&Trap::Interrupt) { Ending::Timeout } else { Ending::Trap }
}

/// What went wrong, and where in the module.
fn brief(error: &wasmtime::Error) -> String {
    if ending(error) == Ending::Timeout {
        return "it took more processor time than it may".to_owned();
    }
    format!("{error:#}")
}

fn decided(stream: &mut Stream, direction: Direction) -> Step {
    if stream.is_reset {
        return Step::Reset;
    }
    match stream.reply.take() {
        Some(reply) => Step::Reply(reply),
        None if stream.way(direction).is_paused => Step::Pause,
        None => Step::Continue,
    }
}
