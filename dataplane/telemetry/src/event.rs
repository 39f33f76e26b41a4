//! What can happen to connections and to mirrored copies.

/// Something that happened to a connection of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum WorkerEvent {
    /// A client's connection was accepted.
    Accepted,
    /// A client's connection ended, however.
    Closed,
    /// The connection turned out not to be HTTP and was passed on unchanged.
    Opaque,
    /// A connection was upgraded to another protocol and passed on unchanged from there.
    Upgraded,
    /// The client's address is not one that the configuration knows: reset.
    RefusedUnknown,
    /// The client connected to the proxy's own address: reset.
    RefusedOwn,
    /// The worker has as many connections as it may: reset.
    RefusedLimit,
    /// The client's workload has as many connections as it leaves to the others: reset.
    RefusedShare,
    /// A connection could not be passed on unchanged: reset.
    OpaqueFailed,
    /// A plugin closed one, or has failed.
    OpaqueStopped,
    /// A policy denies the client to reach the endpoint: reset.
    OpaqueDenied,
    /// A client outside the mesh was let in by TLS.
    TlsAccepted,
    /// A client was not: it has nothing in common with the listener, broke off, or does not speak TLS.
    TlsFailed,
    /// A tunnel to a workload of another node was made.
    TunnelOpened,
    /// It could not be.
    TunnelFailed,
    /// A tunnel to a workload of this node was made.
    TunnelAccepted,
    /// It was not: the peer is not believed, or broke off.
    TunnelRefused,
    /// A tunnel was closed because its peer is not believed any more.
    TunnelDisbelieved,
    /// Accepting failed because file descriptors or memory ran out; tried again after a pause.
    AcceptExhausted,
    /// Accepting failed for another reason.
    AcceptFailed,
    /// A client's connection had no request for a while and gave its buffers back until the next one.
    Rested,
    /// A connection was closed because nothing moved on it for too long.
    IdleClosed,
    /// A connection was cut off because draining took too long.
    DrainClosed,
    /// A connection was ended because it made more work than its requests are worth.
    FloodClosed,
    /// A connection was ended because a change of policies no longer allows it.
    DeniedClosed,
    /// A connection to an endpoint was opened.
    UpstreamConnected,
    /// A connection to an endpoint was used again.
    UpstreamReused,
    /// A request was sent again, because the connection it was sent on had been closed meanwhile.
    UpstreamRetried,
    /// A connection to an endpoint ended.
    UpstreamClosed,
    /// An endpoint that answered badly is left alone for a while.
    EndpointEjected,
    /// That while is over.
    EndpointReadmitted,
    /// An endpoint fails its health checks from now on.
    EndpointUnhealthy,
    /// It passes them again.
    EndpointHealthy,
}

impl WorkerEvent {
    /// How many events there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every event, in the order of declaration.
    pub const ALL: [Self; 33] = [
        Self::Accepted,
        Self::Closed,
        Self::Opaque,
        Self::Upgraded,
        Self::RefusedUnknown,
        Self::RefusedOwn,
        Self::RefusedLimit,
        Self::RefusedShare,
        Self::OpaqueFailed,
        Self::OpaqueStopped,
        Self::OpaqueDenied,
        Self::TlsAccepted,
        Self::TlsFailed,
        Self::TunnelOpened,
        Self::TunnelFailed,
        Self::TunnelAccepted,
        Self::TunnelRefused,
        Self::TunnelDisbelieved,
        Self::AcceptExhausted,
        Self::AcceptFailed,
        Self::Rested,
        Self::IdleClosed,
        Self::DrainClosed,
        Self::FloodClosed,
        Self::DeniedClosed,
        Self::UpstreamConnected,
        Self::UpstreamReused,
        Self::UpstreamRetried,
        Self::UpstreamClosed,
        Self::EndpointEjected,
        Self::EndpointReadmitted,
        Self::EndpointUnhealthy,
        Self::EndpointHealthy,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Closed => "closed",
            Self::Opaque => "opaque",
            Self::Upgraded => "upgraded",
            Self::RefusedUnknown => "refused_unknown",
            Self::RefusedOwn => "refused_own",
            Self::RefusedLimit => "refused_limit",
            Self::RefusedShare => "refused_share",
            Self::OpaqueFailed => "opaque_failed",
            Self::OpaqueStopped => "opaque_stopped",
            Self::OpaqueDenied => "opaque_denied",
            Self::TlsAccepted => "tls_accepted",
            Self::TlsFailed => "tls_failed",
            Self::TunnelOpened => "tunnel_opened",
            Self::TunnelFailed => "tunnel_failed",
            Self::TunnelAccepted => "tunnel_accepted",
            Self::TunnelRefused => "tunnel_refused",
            Self::TunnelDisbelieved => "tunnel_disbelieved",
            Self::AcceptExhausted => "accept_exhausted",
            Self::AcceptFailed => "accept_failed",
            Self::Rested => "rested",
            Self::IdleClosed => "idle_closed",
            Self::DrainClosed => "drain_closed",
            Self::FloodClosed => "flood_closed",
            Self::DeniedClosed => "denied_closed",
            Self::UpstreamConnected => "upstream_connected",
            Self::UpstreamReused => "upstream_reused",
            Self::UpstreamRetried => "upstream_retried",
            Self::UpstreamClosed => "upstream_closed",
            Self::EndpointEjected => "endpoint_ejected",
            Self::EndpointReadmitted => "endpoint_readmitted",
            Self::EndpointUnhealthy => "endpoint_unhealthy",
            Self::EndpointHealthy => "endpoint_healthy",
        }
    }
}

/// What became of a copy of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum MirrorEvent {
    /// It was sent whole, and a response head came back.
    Sent,
    /// The copy fell too far behind the request: its queue was full.
    Overflow,
    /// As many copies as may be were under way to this destination.
    Busy,
    /// The worker's memory for copies was used up.
    Budget,
    /// No connection to the endpoint could be made.
    Connect,
    /// The copy took longer than it may.
    Timeout,
    /// The rule's destination names a service or port that does not exist.
    Unresolved,
    /// No endpoint of the destination is ready.
    NoEndpoint,
    /// A policy denies the client to reach the endpoint.
    Denied,
    /// The client broke its request off, and so the copy.
    Aborted,
    /// The endpoint closed the connection or sent something that is not HTTP.
    Failed,
    /// The destination failed several times in a row and is left alone for a moment.
    Breaker,
}

impl MirrorEvent {
    /// How many events there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every event, in the order of declaration.
    pub const ALL: [Self; 12] = [
        Self::Sent,
        Self::Overflow,
        Self::Busy,
        Self::Budget,
        Self::Connect,
        Self::Timeout,
        Self::Unresolved,
        Self::NoEndpoint,
        Self::Denied,
        Self::Aborted,
        Self::Failed,
        Self::Breaker,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Overflow => "overflow",
            Self::Busy => "busy",
            Self::Budget => "budget",
            Self::Connect => "connect",
            Self::Timeout => "timeout",
            Self::Unresolved => "unresolved",
            Self::NoEndpoint => "no_endpoint",
            Self::Denied => "denied",
            Self::Aborted => "aborted",
            Self::Failed => "failed",
            Self::Breaker => "breaker",
        }
    }
}

/// Something that happened about trying requests again. Counted at the destination that it happened at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RetryEvent {
    /// A try failed and was followed by another: there was no connection.
    FailedConnect,
    /// The same: the connection ended without a response.
    FailedReset,
    /// The same: the try took too long.
    FailedTimeout,
    /// The same: the endpoint answered with a status below 500.
    Failed4xx,
    /// The same: the endpoint answered with a status of 500 or more.
    Failed5xx,
    /// The same: the callee answered with a status of gRPC.
    FailedCall,
    /// A request came here again after a try here.
    Retried,
    /// A request came here after its try at another destination.
    TakenOver,
    /// A request failed that was tried as often as its rule allows.
    Exhausted,
    /// A request failed and was not tried again, because too many were.
    OverBudget,
    /// The same: its body was too long to be kept.
    BodyTooLong,
    /// The same: there was too little time left, or the endpoint asked for more.
    TooLate,
    /// A try here took long, and another one was begun beside it.
    Hedged,
    /// That other one was answered well before it.
    HedgeWon,
}

impl RetryEvent {
    /// How many events there are.
    pub const COUNT: usize = Self::ALL.len();

    /// Every event, in the order of declaration.
    pub const ALL: [Self; 14] = [
        Self::FailedConnect,
        Self::FailedReset,
        Self::FailedTimeout,
        Self::Failed4xx,
        Self::Failed5xx,
        Self::FailedCall,
        Self::Retried,
        Self::TakenOver,
        Self::Exhausted,
        Self::OverBudget,
        Self::BodyTooLong,
        Self::TooLate,
        Self::Hedged,
        Self::HedgeWon,
    ];

    /// The stable name.
    pub fn name(self) -> &'static str {
        match self {
            Self::FailedConnect => "failed_connect",
            Self::FailedReset => "failed_reset",
            Self::FailedTimeout => "failed_timeout",
            Self::Failed4xx => "failed_4xx",
            Self::Failed5xx => "failed_5xx",
            Self::FailedCall => "failed_call",
            Self::Retried => "retried",
            Self::TakenOver => "taken_over",
            Self::Exhausted => "exhausted",
            Self::OverBudget => "over_budget",
            Self::BodyTooLong => "body_too_long",
            Self::TooLate => "too_late",
            Self::Hedged => "hedged",
            Self::HedgeWon => "hedge_won",
        }
    }

    /// Whether it is a try that failed without its request failing.
    pub fn is_failed_try(self) -> bool {
        (self as usize) <= Self::FailedCall as usize
    }
}
