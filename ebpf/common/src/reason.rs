//! Why a packet, a connection or a lookup went the way it went: the closed set that is counted.

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What a program did, and why. The number is the index in the counters map.
        #[repr(u8)]
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// Every reason, in the order of its number.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// Stable name, for metrics and logs.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }
        }
    };
}

reasons! {
    /// First packet of a flow that goes to the proxy.
    Steered = "steered",
    /// Later packet of a flow that a local transparent socket owns.
    SteeredEstablished = "steered_established",
    /// First packet of a flow that no rule concerns: straight on.
    PassedDirect = "passed_direct",
    /// Later packet of a flow that goes straight on.
    PassedEstablished = "passed_established",
    /// To one of the node's own addresses.
    PassedNode = "passed_node",
    /// To a pod, from a socket of the proxy.
    PassedProxy = "passed_proxy",
    /// To a pod, from another socket of the node, for example a kubelet probe.
    PassedLocalSocket = "passed_local_socket",
    /// The proxy is gone and the mode says open: straight on.
    PassedNoProxy = "passed_no_proxy",
    /// A first packet that the guard of a pod's link let through.
    PassedGuard = "passed_guard",
    /// Neighbour discovery (ARP, NDP) with the pod's own addresses.
    PassedNeighbour = "passed_neighbour",
    /// Later fragment; its first fragment was judged.
    PassedFragment = "passed_fragment",
    /// On a link without an entry for its pod.
    PassedUnknownPod = "passed_unknown_pod",
    /// The socket lookup chose the proxy's listener.
    Picked = "picked",
    /// The socket lookup found no listener for a steered packet.
    PickedNone = "picked_none",
    /// A connection was given a backend of its service at connect time.
    Balanced = "balanced",
    /// Source address that the pod does not own.
    DroppedSpoofed = "dropped_spoofed",
    /// Denied by policy.
    DeniedPolicy = "denied_policy",
    /// Would be denied by policy, or is to be told of: straight on.
    AuditedPolicy = "audited_policy",
    /// To a workload that is reached in tunnels only, and was not: neither from a pod of this node, nor from the node itself.
    DroppedPlaintext = "dropped_plaintext",
    /// The same to a workload that may be reached so as well: straight on.
    PassedPlaintext = "passed_plaintext",
    /// The proxy is gone and the mode says closed.
    DroppedNoProxy = "dropped_no_proxy",
    /// Headers that cannot be read: truncated, too many extension headers, a VLAN tag.
    DroppedUnparsed = "dropped_unparsed",
    /// A flow of the proxy that no socket owns any more: answered with a TCP reset.
    ResetOrphan = "reset_orphan",
    /// A service that has no backend refused a connection.
    RefusedNoBackend = "refused_no_backend",
    /// An event that was not reported because too many came at once.
    EventSuppressed = "event_suppressed",
    /// A steered packet whose destination MAC could not be rewritten.
    DroppedRewrite = "dropped_rewrite",
}

impl Reason {
    /// Number of reasons, which is the size of the counters map.
    pub const COUNT: u32 = Self::ALL.len() as u32;

    /// The reason with this number, if there is one.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether something was kept from its destination.
    pub const fn is_loss(self) -> bool {
        matches!(
            self,
            Self::DroppedSpoofed
                | Self::DeniedPolicy
                | Self::DroppedPlaintext
                | Self::DroppedNoProxy
                | Self::DroppedUnparsed
                | Self::DroppedRewrite
                | Self::ResetOrphan
                | Self::RefusedNoBackend
        )
    }
}

#[cfg(test)]
mod tests {
    use super::Reason;

    #[test]
    fn numbers_are_indices_and_names_are_unique() {
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert_eq!(Reason::from_number(index as u8), Some(*reason));
            let name = reason.name();
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{name}");
            assert!(Reason::ALL.iter().all(|other| other == reason || other.name() != name), "{name}");
        }
        assert_eq!(Reason::from_number(Reason::COUNT as u8), None);
    }
}
