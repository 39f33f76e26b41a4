//! Why the proxy answered itself, or cut a response off.

/// The reason of a reply that no endpoint made, or of an abort. The names are part of the interface: they stand in
/// `x-weir-cause`, in access logs and in metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Cause {
    /// The request breaks HTTP in a way that the parser does not see, such as two `Host` headers.
    BadRequest,
    /// What the client sent is not an HTTP request.
    Garbage,
    /// The client speaks in the clear where TLS is spoken.
    TlsRequired,
    /// The connection was made to the name of another listener of the gateway.
    Misdirected,
    /// The head of the request did not arrive in time.
    HeaderTimeout,
    /// The head of the request is larger than allowed.
    HeadTooLarge,
    /// The target of the request is longer than allowed.
    TargetTooLong,
    /// The body of the request is larger than allowed.
    BodyTooLarge,
    /// `CONNECT` is not offered.
    ConnectMethod,
    /// The client's workload has as many requests under way as it leaves to the others.
    FairShare,
    /// The configuration no longer has the service that the client is connected to.
    UnknownService,
    /// The service has routes, and none of them matches.
    NoRoute,
    /// The rule has had as many requests as it may.
    RateLimited,
    /// The rule makes requests fail.
    Fault,
    /// A policy denies the client to reach the endpoint, or to ask it for this.
    Denied,
    /// A plugin failed, or has no instance, and its requests must not go on without it.
    PluginFailed,
    /// A plugin broke the request off.
    PluginReset,
    /// A plugin held the request, or its response, back for too long.
    PluginTimeout,
    /// A plugin made a body longer than its head says, without taking `content-length` away.
    PluginLength,
    /// A plugin answered while the body of the request was on its way.
    PluginReply,
    /// The rule has no destination, or every one has weight 0.
    NoDestination,
    /// The rule's destination names a service or port that does not exist.
    Unresolved,
    /// No endpoint of the destination is ready.
    NoEndpoint,
    /// The chosen endpoint is an address of this proxy.
    Loop,
    /// Too many requests to the endpoint are under way or waiting.
    Overflow,
    /// The endpoint refused the connection, or could not be reached.
    ConnectFailed,
    /// The endpoint did not accept the connection in time.
    ConnectTimeout,
    /// This node has no file descriptors or ports left for a connection.
    OutOfSockets,
    /// This node has no certificate to show for the client, or none that is valid.
    NoIdentity,
    /// The endpoint closed the connection before the head of a response.
    UpstreamClosed,
    /// What the endpoint sent is not an HTTP response.
    UpstreamGarbage,
    /// The rule's bound on the whole request passed.
    RequestTimeout,
    /// The rule's bound on one try passed.
    PerTryTimeout,
    /// Nothing moved on either side for too long.
    IdleTimeout,
    /// The node stopped, and had waited for the request as long as it may.
    Drained,
    /// The endpoint closed the connection in the middle of its response; the client's was cut off too.
    UpstreamAborted,
    /// The client went away before its response was complete.
    DownstreamGone,
    /// The client broke its request off in the middle of the body.
    RequestAborted,
}

impl Cause {
    /// How many causes there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every cause, in the order of declaration.
    pub const ALL: [Self; 38] = [
        Self::BadRequest,
        Self::Garbage,
        Self::TlsRequired,
        Self::Misdirected,
        Self::HeaderTimeout,
        Self::HeadTooLarge,
        Self::TargetTooLong,
        Self::BodyTooLarge,
        Self::ConnectMethod,
        Self::FairShare,
        Self::UnknownService,
        Self::NoRoute,
        Self::RateLimited,
        Self::Fault,
        Self::Denied,
        Self::PluginFailed,
        Self::PluginReset,
        Self::PluginTimeout,
        Self::PluginLength,
        Self::PluginReply,
        Self::NoDestination,
        Self::Unresolved,
        Self::NoEndpoint,
        Self::Loop,
        Self::Overflow,
        Self::ConnectFailed,
        Self::ConnectTimeout,
        Self::OutOfSockets,
        Self::NoIdentity,
        Self::UpstreamClosed,
        Self::UpstreamGarbage,
        Self::RequestTimeout,
        Self::PerTryTimeout,
        Self::IdleTimeout,
        Self::Drained,
        Self::UpstreamAborted,
        Self::DownstreamGone,
        Self::RequestAborted,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BadRequest => "bad_request",
            Self::Garbage => "garbage",
            Self::TlsRequired => "tls_required",
            Self::Misdirected => "misdirected",
            Self::HeaderTimeout => "header_timeout",
            Self::HeadTooLarge => "head_too_large",
            Self::TargetTooLong => "target_too_long",
            Self::BodyTooLarge => "body_too_large",
            Self::ConnectMethod => "connect_method",
            Self::FairShare => "fair_share",
            Self::UnknownService => "unknown_service",
            Self::NoRoute => "no_route",
            Self::RateLimited => "rate_limited",
            Self::Fault => "fault",
            Self::Denied => "denied",
            Self::PluginFailed => "plugin_failed",
            Self::PluginReset => "plugin_reset",
            Self::PluginTimeout => "plugin_timeout",
            Self::PluginLength => "plugin_length",
            Self::PluginReply => "plugin_reply",
            Self::NoDestination => "no_destination",
            Self::Unresolved => "unresolved",
            Self::NoEndpoint => "no_endpoint",
            Self::Loop => "loop",
            Self::Overflow => "overflow",
            Self::ConnectFailed => "connect_failed",
            Self::ConnectTimeout => "connect_timeout",
            Self::OutOfSockets => "out_of_sockets",
            Self::NoIdentity => "no_identity",
            Self::UpstreamClosed => "upstream_closed",
            Self::UpstreamGarbage => "upstream_garbage",
            Self::RequestTimeout => "request_timeout",
            Self::PerTryTimeout => "per_try_timeout",
            Self::IdleTimeout => "idle_timeout",
            Self::Drained => "drained",
            Self::UpstreamAborted => "upstream_aborted",
            Self::DownstreamGone => "downstream_gone",
            Self::RequestAborted => "request_aborted",
        }
    }
}
