//! The words of proxy-wasm, in the numbers that plugins and the host exchange. What they mean is defined by the
//! proxy-wasm ABI, version 0.2.1 (`proxy-wasm/spec`, `abi-versions/v0.2.1`).

pub(crate) mod fields;
pub(crate) mod pairs;

/// What every host function answers (`proxy_status_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Status {
    Ok = 0,
    NotFound = 1,
    BadArgument = 2,
    SerializationFailure = 3,
    ParseFailure = 4,
    InvalidMemoryAccess = 6,
    Empty = 7,
    CasMismatch = 8,
    InternalFailure = 10,
}

/// Why a host function did not do what it was called for.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The plugin is told.
    With(Status),
    /// The plugin is ended.
    Trap(wasmtime::Error),
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Self::With(status)
    }
}

impl From<wasmtime::Error> for Refused {
    fn from(error: wasmtime::Error) -> Self {
        Self::Trap(error)
    }
}

/// What a host function comes to.
pub(crate) type Answer = Result<(), Refused>;

/// Which bytes are meant (`proxy_buffer_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BufferKind {
    /// A body, or the data of a connection that is none of HTTP.
    Stream(StreamKind),
    CallResponseBody,
    GrpcMessage,
    VmConfiguration,
    PluginConfiguration,
    ForeignArguments,
}

impl BufferKind {
    pub(crate) fn parse(number: u32) -> Result<Self, Status> {
        Ok(match number {
            0..=3 => Self::Stream(StreamKind::parse(number)?),
            4 => Self::CallResponseBody,
            5 => Self::GrpcMessage,
            6 => Self::VmConfiguration,
            7 => Self::PluginConfiguration,
            8 => Self::ForeignArguments,
            _ => return Err(Status::BadArgument),
        })
    }
}

/// Which fields are meant (`proxy_header_map_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MapKind {
    RequestHeaders,
    RequestTrailers,
    ResponseHeaders,
    ResponseTrailers,
    GrpcInitialMetadata,
    GrpcTrailingMetadata,
    CallResponseHeaders,
    CallResponseTrailers,
}

impl MapKind {
    pub(crate) fn parse(number: u32) -> Result<Self, Status> {
        Ok(match number {
            0 => Self::RequestHeaders,
            1 => Self::RequestTrailers,
            2 => Self::ResponseHeaders,
            3 => Self::ResponseTrailers,
            4 => Self::GrpcInitialMetadata,
            5 => Self::GrpcTrailingMetadata,
            6 => Self::CallResponseHeaders,
            7 => Self::CallResponseTrailers,
            _ => return Err(Status::BadArgument),
        })
    }
}

/// One of the two ways of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the endpoint.
    Request,
    /// From the endpoint to the client.
    Response,
}

/// What `proxy_continue_stream` and `proxy_close_stream` concern (`proxy_stream_type_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StreamKind {
    /// Whether it is an exchange of HTTP; otherwise it is a connection that is none.
    pub(crate) is_http: bool,
    pub(crate) direction: Direction,
}

impl StreamKind {
    pub(crate) fn parse(number: u32) -> Result<Self, Status> {
        let (is_http, direction) = match number {
            0 => (true, Direction::Request),
            1 => (true, Direction::Response),
            2 => (false, Direction::Request),
            3 => (false, Direction::Response),
            _ => return Err(Status::BadArgument),
        };
        Ok(Self { is_http, direction })
    }
}

/// How important what a plugin logs is (`proxy_log_level_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum LogLevel {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

impl LogLevel {
    pub(crate) fn parse(number: u32) -> Result<Self, Status> {
        Ok(match number {
            0 => Self::Trace,
            1 => Self::Debug,
            2 => Self::Info,
            3 => Self::Warn,
            4 => Self::Error,
            5 => Self::Critical,
            _ => return Err(Status::BadArgument),
        })
    }
}

/// The versions of the ABI that a module may be made for; told by the name of a function that it exports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AbiVersion {
    /// `proxy_abi_version_0_1_0`.
    V0_1_0,
    /// `proxy_abi_version_0_2_0`.
    V0_2_0,
    /// `proxy_abi_version_0_2_1`.
    V0_2_1,
}

impl AbiVersion {
    /// What a module of a version exports.
    const MARKERS: [(&'static str, Self); 3] = [
        ("proxy_abi_version_0_1_0", Self::V0_1_0),
        ("proxy_abi_version_0_2_0", Self::V0_2_0),
        ("proxy_abi_version_0_2_1", Self::V0_2_1),
    ];

    /// The version that a module with these exports is made for: the newest that it names.
    pub(crate) fn of<'e>(exports: impl Iterator<Item = &'e str>) -> Option<Self> {
        exports.filter_map(|name| Self::MARKERS.iter().find(|(marker, _)| *marker == name)).map(|(_, one)| *one).max()
    }
}

impl std::fmt::Display for AbiVersion {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_2_1 => "0.2.1",
        })
    }
}
