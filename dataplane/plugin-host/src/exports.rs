//! What plugins export: the callbacks, each taken by the signature that it has.

use wasmtime::{ExternType, Instance, Store, TypedFunc, WasmParams, WasmResults};

use crate::state::State;

/// The callbacks, for messages and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is named for the callback of the ABI")]
pub enum Callback {
    Start,
    VmStart,
    Validate,
    Configure,
    ContextCreate,
    Tick,
    HttpCallResponse,
    GrpcInitialMetadata,
    GrpcReceive,
    GrpcTrailingMetadata,
    GrpcClose,
    QueueReady,
    ForeignFunction,
    NewConnection,
    DownstreamData,
    UpstreamData,
    DownstreamClose,
    UpstreamClose,
    RequestHeaders,
    RequestBody,
    RequestTrailers,
    ResponseHeaders,
    ResponseBody,
    ResponseTrailers,
    Done,
    Log,
    Delete,
}

impl Callback {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Start,
        Self::VmStart,
        Self::Validate,
        Self::Configure,
        Self::ContextCreate,
        Self::Tick,
        Self::HttpCallResponse,
        Self::GrpcInitialMetadata,
        Self::GrpcReceive,
        Self::GrpcTrailingMetadata,
        Self::GrpcClose,
        Self::QueueReady,
        Self::ForeignFunction,
        Self::NewConnection,
        Self::DownstreamData,
        Self::UpstreamData,
        Self::DownstreamClose,
        Self::UpstreamClose,
        Self::RequestHeaders,
        Self::RequestBody,
        Self::RequestTrailers,
        Self::ResponseHeaders,
        Self::ResponseBody,
        Self::ResponseTrailers,
        Self::Done,
        Self::Log,
        Self::Delete,
    ];

    /// The exported function's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "_start",
            Self::VmStart => "proxy_on_vm_start",
            Self::Validate => "proxy_validate_configuration",
            Self::Configure => "proxy_on_configure",
            Self::ContextCreate => "proxy_on_context_create",
            Self::Tick => "proxy_on_tick",
            Self::HttpCallResponse => "proxy_on_http_call_response",
            Self::GrpcInitialMetadata => "proxy_on_grpc_receive_initial_metadata",
            Self::GrpcReceive => "proxy_on_grpc_receive",
            Self::GrpcTrailingMetadata => "proxy_on_grpc_receive_trailing_metadata",
            Self::GrpcClose => "proxy_on_grpc_close",
            Self::QueueReady => "proxy_on_queue_ready",
            Self::ForeignFunction => "proxy_on_foreign_function",
            Self::NewConnection => "proxy_on_new_connection",
            Self::DownstreamData => "proxy_on_downstream_data",
            Self::UpstreamData => "proxy_on_upstream_data",
            Self::DownstreamClose => "proxy_on_downstream_connection_close",
            Self::UpstreamClose => "proxy_on_upstream_connection_close",
            Self::RequestHeaders => "proxy_on_request_headers",
            Self::RequestBody => "proxy_on_request_body",
            Self::RequestTrailers => "proxy_on_request_trailers",
            Self::ResponseHeaders => "proxy_on_response_headers",
            Self::ResponseBody => "proxy_on_response_body",
            Self::ResponseTrailers => "proxy_on_response_trailers",
            Self::Done => "proxy_on_done",
            Self::Log => "proxy_on_log",
            Self::Delete => "proxy_on_delete",
        }
    }
}

/// A callback about headers: before 0.2.0 it was not told whether a body follows.
pub(crate) enum HeadersFn {
    WithEnd(TypedFunc<(u32, u32, u32), u32>),
    WithoutEnd(TypedFunc<(u32, u32), u32>),
}

/// A callback about what came of a call: the context, the number of the call, headers, bytes of the body, trailers.
type CallResponseFn = TypedFunc<(u32, u32, u32, u32, u32), ()>;

/// One instance's callbacks.
#[derive(Default)]
pub(crate) struct Exports {
    pub(crate) context_create: Option<TypedFunc<(u32, u32), ()>>,
    pub(crate) tick: Option<TypedFunc<u32, ()>>,
    pub(crate) http_call_response: Option<CallResponseFn>,
    pub(crate) grpc_initial_metadata: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub(crate) grpc_receive: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub(crate) grpc_trailing_metadata: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub(crate) grpc_close: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub(crate) queue_ready: Option<TypedFunc<(u32, u32), ()>>,
    pub(crate) foreign_function: Option<TypedFunc<(u32, u32, u32), ()>>,
    pub(crate) new_connection: Option<TypedFunc<u32, u32>>,
    pub(crate) downstream_data: Option<TypedFunc<(u32, u32, u32), u32>>,
    pub(crate) upstream_data: Option<TypedFunc<(u32, u32, u32), u32>>,
    pub(crate) downstream_close: Option<TypedFunc<(u32, u32), ()>>,
    pub(crate) upstream_close: Option<TypedFunc<(u32, u32), ()>>,
    pub(crate) request_headers: Option<HeadersFn>,
    pub(crate) request_body: Option<TypedFunc<(u32, u32, u32), u32>>,
    pub(crate) request_trailers: Option<TypedFunc<(u32, u32), u32>>,
    pub(crate) response_headers: Option<HeadersFn>,
    pub(crate) response_body: Option<TypedFunc<(u32, u32, u32), u32>>,
    pub(crate) response_trailers: Option<TypedFunc<(u32, u32), u32>>,
    pub(crate) done: Option<TypedFunc<u32, u32>>,
    pub(crate) log: Option<TypedFunc<u32, ()>>,
    pub(crate) delete: Option<TypedFunc<u32, ()>>,
}

/// The signatures of what the host calls, in numbers of 32 bits: parameters and results; several where there are.
const SIGNATURES: [(&str, &[(usize, usize)]); 30] = [
    ("_initialize", &[(0, 0)]),
    ("_start", &[(0, 0)]),
    ("malloc", &[(1, 1)]),
    ("proxy_on_memory_allocate", &[(1, 1)]),
    ("proxy_on_context_create", &[(2, 0)]),
    ("proxy_on_vm_start", &[(2, 1)]),
    ("proxy_validate_configuration", &[(2, 1)]),
    ("proxy_on_configure", &[(2, 1)]),
    ("proxy_on_tick", &[(1, 0)]),
    ("proxy_on_http_call_response", &[(5, 0)]),
    ("proxy_on_grpc_receive_initial_metadata", &[(3, 0)]),
    ("proxy_on_grpc_receive", &[(3, 0)]),
    ("proxy_on_grpc_receive_trailing_metadata", &[(3, 0)]),
    ("proxy_on_grpc_close", &[(3, 0)]),
    ("proxy_on_queue_ready", &[(2, 0)]),
    ("proxy_on_foreign_function", &[(3, 0)]),
    ("proxy_on_new_connection", &[(1, 1)]),
    ("proxy_on_downstream_data", &[(3, 1)]),
    ("proxy_on_upstream_data", &[(3, 1)]),
    ("proxy_on_downstream_connection_close", &[(2, 0)]),
    ("proxy_on_upstream_connection_close", &[(2, 0)]),
    ("proxy_on_request_headers", &[(3, 1), (2, 1)]),
    ("proxy_on_request_body", &[(3, 1)]),
    ("proxy_on_request_trailers", &[(2, 1)]),
    ("proxy_on_response_headers", &[(3, 1), (2, 1)]),
    ("proxy_on_response_body", &[(3, 1)]),
    ("proxy_on_response_trailers", &[(2, 1)]),
    ("proxy_on_done", &[(1, 1)]),
    ("proxy_on_log", &[(1, 0)]),
    ("proxy_on_delete", &[(1, 0)]),
];

impl Exports {
    /// Whether a module exports what the host needs, and nothing under a name that the host knows and cannot call.
    pub(crate) fn check(module: &wasmtime::Module) -> Result<(), String> {
        if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
            return Err("there is no memory with the name memory".to_owned());
        }
        let has = |name| matches!(module.get_export(name), Some(ExternType::Func(_)));
        if !has("malloc") && !has("proxy_on_memory_allocate") {
            return Err(
                "there is neither proxy_on_memory_allocate nor malloc, so nothing can be handed over".to_owned()
            );
        }
        let wrong = |(name, allowed): &(&str, &[(usize, usize)])| {
            let Some(ExternType::Func(function)) = module.get_export(name) else { return None };
            let words = function.params().chain(function.results()).all(|one| one.is_i32());
            let counts = (function.params().len(), function.results().len());
            let expected: Vec<_> =
                allowed.iter().map(|(takes, gives)| format!("takes {takes} and gives {gives}")).collect();
            let expected = expected.join(" or ");
            (!words || !allowed.contains(&counts)).then(|| {
                format!(
                    "{name} takes {} numbers and gives {}; one that {expected} of 32 bits can be called",
                    counts.0, counts.1
                )
            })
        };
        let wrong: Vec<String> = SIGNATURES.iter().filter_map(wrong).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    pub(crate) fn find(instance: &Instance, store: &mut Store<State>) -> Self {
        let mut exports = Self::default();
        let store = &mut *store;
        exports.context_create = function(instance, store, Callback::ContextCreate);
        exports.tick = function(instance, store, Callback::Tick);
        exports.http_call_response = function(instance, store, Callback::HttpCallResponse);
        exports.grpc_initial_metadata = function(instance, store, Callback::GrpcInitialMetadata);
        exports.grpc_receive = function(instance, store, Callback::GrpcReceive);
        exports.grpc_trailing_metadata = function(instance, store, Callback::GrpcTrailingMetadata);
        exports.grpc_close = function(instance, store, Callback::GrpcClose);
        exports.queue_ready = function(instance, store, Callback::QueueReady);
        exports.foreign_function = function(instance, store, Callback::ForeignFunction);
        exports.new_connection = function(instance, store, Callback::NewConnection);
        exports.downstream_data = function(instance, store, Callback::DownstreamData);
        exports.upstream_data = function(instance, store, Callback::UpstreamData);
        exports.downstream_close = function(instance, store, Callback::DownstreamClose);
        exports.upstream_close = function(instance, store, Callback::UpstreamClose);
        exports.request_headers = headers(instance, store, Callback::RequestHeaders);
        exports.request_body = function(instance, store, Callback::RequestBody);
        exports.request_trailers = function(instance, store, Callback::RequestTrailers);
        exports.response_headers = headers(instance, store, Callback::ResponseHeaders);
        exports.response_body = function(instance, store, Callback::ResponseBody);
        exports.response_trailers = function(instance, store, Callback::ResponseTrailers);
        exports.done = function(instance, store, Callback::Done);
        exports.log = function(instance, store, Callback::Log);
        exports.delete = function(instance, store, Callback::Delete);
        exports
    }
}

/// An exported function with this signature, if there is one.
pub(crate) fn function<P: WasmParams, R: WasmResults>(
    instance: &Instance,
    store: &mut Store<State>,
    callback: Callback,
) -> Option<TypedFunc<P, R>> {
    instance.get_typed_func(store, callback.name()).ok()
}

fn headers(instance: &Instance, store: &mut Store<State>, callback: Callback) -> Option<HeadersFn> {
    let with_end = function(instance, store, callback).map(HeadersFn::WithEnd);
    with_end.or_else(|| function(instance, store, callback).map(HeadersFn::WithoutEnd))
}
