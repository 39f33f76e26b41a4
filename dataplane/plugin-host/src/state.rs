//! What an instance has beside its memory: its contexts, and what it is doing at the moment.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use bytes::Bytes;
use foldhash::fast::RandomState;
use http::HeaderMap;
use wasmtime::{Memory, StoreLimits, StoreLimitsBuilder, TypedFunc};

use crate::abi::{LogLevel, Status};
use crate::environment::{CallResponse, Environment, HttpCall};
use crate::grpc::{GrpcCall, OpenGrpc};
use crate::host::Denied;
use crate::plugin::Plugin;
use crate::shared::Notices;
use crate::stats::Stats;
use crate::stream::Stream;

/// The context that stands for the plugin itself.
pub(crate) const ROOT: u32 = 1;

/// Elements of the largest table that a module may have.
pub(crate) const TABLE_ELEMENTS: usize = 100_000;

/// What the plugin is called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    Running,
    /// The host wants memory of it: nearly nothing may be asked then.
    Allocating,
}

/// What a call's number tells of it, in its last two bits: as in Envoy, whose numbers some plugins look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Number {
    HttpCall = 0,
    GrpcCall = 1,
    GrpcStream = 2,
}

/// What came of a call of gRPC, while the plugin is told.
#[derive(Debug, Default)]
pub(crate) struct GrpcNow {
    pub(crate) initial: Option<HeaderMap>,
    pub(crate) trailing: Option<HeaderMap>,
    pub(crate) message: Option<Bytes>,
    /// The status and its text; until the next call ends.
    pub(crate) status: (u32, Box<str>),
}

/// How an instance ends.
#[derive(Debug, Default)]
pub(crate) enum Parting {
    /// It does not.
    #[default]
    NotYet,
    /// It has something to do before, and will say when that is done; and who is told then.
    Waits(Option<Waker>),
    /// There is nothing that it waits for.
    Done,
}

/// What an instance is told of its queues, as long as there is the instance.
#[derive(Debug, Default)]
pub(crate) struct Listening(pub(crate) Arc<Notices>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// How the lines of the current second are counted.
#[derive(Debug)]
struct LogRate {
    since: Instant,
    lines: u32,
}

/// What belongs to an instance's store.
pub(crate) struct State {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) stats: Arc<Stats>,
    pub(crate) memory: Option<Memory>,
    pub(crate) allocate: Option<TypedFunc<u32, u32>>,
    pub(crate) limits: StoreLimits,
    pub(crate) stage: Stage,
    /// What it may not call.
    pub(crate) denied: Denied,
    /// The context that host functions concern.
    pub(crate) context: u32,
    pub(crate) streams: HashMap<u32, Stream, RandomState>,
    /// How often the plugin wants to be called; zero for never.
    pub(crate) tick_period: Duration,
    /// What it is started in.
    pub(crate) environment: Rc<dyn Environment>,
    /// Requests that it wants to send, until the callback has returned.
    pub(crate) outbox: Vec<HttpCall>,
    /// The same, of gRPC.
    pub(crate) grpc_outbox: Vec<GrpcCall>,
    /// Requests that are under way.
    pub(crate) open_calls: HashSet<u32, RandomState>,
    pub(crate) open_grpc: HashMap<u32, OpenGrpc, RandomState>,
    last_call: u32,
    /// What came of one, while the plugin is told.
    pub(crate) call_response: Option<CallResponse>,
    pub(crate) grpc: GrpcNow,
    /// Once it has a queue.
    pub(crate) notices: Option<Listening>,
    /// The number under which it is told of revisions, if it wants to be; and what it is told, while it is.
    pub(crate) revisions: Option<u32>,
    pub(crate) foreign_arguments: Option<Bytes>,
    /// Processor time that a callback may use, and how much the thread had used when it was first looked at.
    pub(crate) budget: Duration,
    pub(crate) looked_at: Option<Duration>,
    /// How long it took to make the instance.
    pub(crate) made_in: Duration,
    pub(crate) parting: Parting,
    log_rate: LogRate,
}

impl State {
    pub(crate) fn new(plugin: &Arc<Plugin>, environment: Rc<dyn Environment>) -> Self {
        let limits = StoreLimitsBuilder::new()
            .memory_size(plugin.options.limits.memory)
            .table_elements(TABLE_ELEMENTS)
            .memories(1)
            .instances(1)
            .build();
        Self {
            plugin: Arc::clone(plugin),
            stats: plugin.stats(),
            memory: None,
            allocate: None,
            limits,
            stage: Stage::Running,
            denied: plugin.options.denied,
            context: 0,
            streams: HashMap::default(),
            tick_period: Duration::ZERO,
            environment,
            outbox: Vec::new(),
            grpc_outbox: Vec::new(),
            open_calls: HashSet::default(),
            open_grpc: HashMap::default(),
            last_call: 0,
            call_response: None,
            grpc: GrpcNow::default(),
            notices: None,
            revisions: None,
            foreign_arguments: None,
            budget: plugin.options.limits.start,
            looked_at: None,
            parting: Parting::NotYet,
            made_in: Duration::ZERO,
            log_rate: LogRate { since: Instant::now(), lines: 0 },
        }
    }

    /// The exchange that host functions concern.
    pub(crate) fn stream(&mut self) -> Result<&mut Stream, Status> {
        self.streams.get_mut(&self.context).ok_or(Status::BadArgument)
    }

    /// The number of one more call.
    pub(crate) fn number(&mut self, kind: Number) -> u32 {
        self.last_call = self.last_call.checked_add(4).unwrap_or(4);
        self.last_call | kind as u32
    }

    /// Whether as many calls are under way as may be.
    pub(crate) fn is_full_of_calls(&self) -> bool {
        self.open_calls.len() + self.open_grpc.len() >= self.plugin.options.limits.calls
    }

    /// Logs what the plugin says, unless it says too much.
    pub(crate) fn log(&mut self, level: LogLevel, message: &[u8]) {
        let limits = &self.plugin.options.limits;
        let now = Instant::now();
        if now.duration_since(self.log_rate.since) >= Duration::from_secs(1) {
            self.log_rate = LogRate { since: now, lines: 0 };
        }
        if self.log_rate.lines >= limits.log_lines {
            self.stats.on_dropped_line();
            return;
        }
        self.log_rate.lines += 1;
        let message = String::from_utf8_lossy(&message[..message.len().min(limits.log_line)]);
        let message = message.trim_end();
        let plugin = self.plugin.name();
        match level {
            LogLevel::Trace => tracing::trace!(plugin, "{message}"),
            LogLevel::Debug => tracing::debug!(plugin, "{message}"),
            LogLevel::Info => tracing::info!(plugin, "{message}"),
            LogLevel::Warn => tracing::warn!(plugin, "{message}"),
            LogLevel::Error => tracing::error!(plugin, "{message}"),
            LogLevel::Critical => tracing::error!(plugin, critical = true, "{message}"),
        }
    }

    /// Wakes everybody who waits for the plugin: it is gone.
    pub(crate) fn wake_all(&mut self) {
        self.streams.values_mut().for_each(Stream::wake);
    }
}
