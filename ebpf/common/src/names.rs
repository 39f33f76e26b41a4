//! Names of programs and maps, as the kernel and its tools show them (at most 15 characters).

/// Program names; all begin with `weir_`.
pub mod programs {
    /// tcx ingress on the host side of a pod's link.
    pub const FROM_POD: &str = "weir_from_pod";
    /// tcx egress on the host side of a pod's link.
    pub const TO_POD: &str = "weir_to_pod";
    /// tcx ingress on the node's uplinks.
    pub const FROM_NET: &str = "weir_from_net";
    /// Socket lookup in the node's network namespace.
    pub const PICK: &str = "weir_pick";
    /// `connect(2)` of IPv4 sockets in the pods' cgroup.
    pub const CONNECT4: &str = "weir_connect4";
    /// `connect(2)` of IPv6 sockets in the pods' cgroup.
    pub const CONNECT6: &str = "weir_connect6";
}

/// Map names; all begin with `WEIR_`, except the log buffer that aya names itself.
pub mod maps {
    /// One [`Config`](crate::Config).
    pub const CONFIG: &str = "WEIR_CONFIG";
    /// Interface index to [`PodRecord`](crate::PodRecord).
    pub const PODS: &str = "WEIR_PODS";
    /// Cookies of the network namespaces of enrolled pods, for the connect hooks.
    pub const NETNS: &str = "WEIR_NETNS";
    /// Address prefix to [`PlaceRecord`](crate::PlaceRecord).
    pub const PLACES: &str = "WEIR_PLACES";
    /// [`ServiceKey`](crate::ServiceKey) to [`ServiceRecord`](crate::ServiceRecord).
    pub const SERVICES: &str = "WEIR_SERVICES";
    /// [`BackendKey`](crate::BackendKey) to [`BackendRecord`](crate::BackendRecord).
    pub const BACKENDS: &str = "WEIR_BACKENDS";
    /// [`PolicyKey`](crate::PolicyKey) to [`PolicyRecord`](crate::PolicyRecord).
    pub const POLICIES: &str = "WEIR_POLICIES";
    /// [`Count`](crate::Count) per rule that denied or told of something, and processor.
    pub const RULES: &str = "WEIR_RULES";
    /// Addresses of the node itself.
    pub const NODE_ADDRESSES: &str = "WEIR_NODE_ADDR";
    /// Interfaces at which steered packets enter the stack.
    pub const STEER_INTERFACES: &str = "WEIR_STEER_IF";
    /// Listening sockets by slot.
    pub const LISTEN: &str = "WEIR_LISTEN";
    /// [`Tuple`](crate::Tuple) to [`FlowRecord`](crate::FlowRecord).
    pub const FLOWS: &str = "WEIR_FLOWS";
    /// [`Count`](crate::Count) per [`Reason`](crate::Reason) and processor.
    pub const COUNTS: &str = "WEIR_COUNTS";
    /// [`Bucket`](crate::Bucket) per [`Reason`](crate::Reason) and processor.
    pub const BUCKETS: &str = "WEIR_BUCKETS";
    /// Ring buffer of [`Event`](crate::Event).
    pub const EVENTS: &str = "WEIR_EVENTS";
}
