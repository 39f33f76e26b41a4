//! What the node's network needs so that marked packets reach the proxy: per family one rule for
//! each steering link and one route; and the bridge's address pinned. All of it is found again by
//! its protocol number, so that it can be changed and removed without a memory.

use std::{collections::BTreeSet, net::IpAddr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    link::{LinkAttribute, LinkMessage},
    route::{RouteAttribute, RouteMessage, RouteProtocol, RouteScope, RouteType},
    rule::{RuleAction, RuleAttribute, RuleMessage},
};
use weir_ebpf_common::{MARK_MASK, MARK_STEER};

use crate::{
    KernelError, KernelSettings,
    netlink::{Link, Netlink},
};

/// Marks rules and routes as ours (`ip rule list proto 87`); above the kernel's and the well-known
/// daemons' numbers in `rtnetlink.h` and `/etc/iproute2/rt_protos`.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(87);
/// Routing table of the local route: the mark's value.
const TABLE: u32 = MARK_STEER;
/// Before the main table (32766), behind the local one (0).
const PRIORITY: u32 = 512;

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// The links that matter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Topology {
    pub(crate) bridge: Link,
    pub(crate) bridge_mac: [u8; 6],
    pub(crate) uplinks: Vec<Link>,
    /// Addresses of the node itself.
    pub(crate) addresses: BTreeSet<IpAddr>,
    loopback: u32,
}

impl Topology {
    pub(crate) fn read(netlink: &mut Netlink, settings: &KernelSettings) -> Result<Self, KernelError> {
        let links = netlink.links()?;
        let find = |name: &str| {
            let found = links.iter().find(|link| link.name == name).cloned();
            found.ok_or_else(|| KernelError::NoLink(name.to_owned()))
        };
        let bridge = find(&settings.bridge)?;
        let bridge_mac = bridge.mac.ok_or_else(|| KernelError::Setting {
            name: "bridge",
            problem: format!("{} has no hardware address", settings.bridge),
        })?;
        let addresses = netlink.addresses()?.into_iter().map(|(_, ip)| ip).collect();
        Ok(Self {
            uplinks: settings.uplinks.iter().map(|name| find(name)).collect::<Result<_, _>>()?,
            loopback: find("lo")?.index,
            bridge,
            bridge_mac,
            addresses,
        })
    }

    /// The links at which marked packets enter the stack.
    pub(crate) fn steering(&self) -> impl Iterator<Item = &Link> {
        std::iter::once(&self.bridge).chain(&self.uplinks)
    }
}

/// Sets rules, routes and the bridge's address. Returns how many things were not as they should.
pub(crate) fn ensure(netlink: &mut Netlink, topology: &Topology) -> Result<usize, KernelError> {
    let wanted: BTreeSet<&str> = topology.steering().map(|link| link.name.as_str()).collect();
    let mut changed = 0;
    for family in FAMILIES {
        let mut missing = wanted.clone();
        for rule in own_rules(netlink, family)? {
            let is_wanted = interface(&rule).is_some_and(|name| missing.remove(name))
                && rule.attributes.contains(&RuleAttribute::FwMark(MARK_STEER));
            if !is_wanted {
                netlink.order("removing an old rule", RouteNetlinkMessage::DelRule(rule), 0)?;
                changed += 1;
            }
        }
        for name in missing {
            let what = format!("adding the rule for marked packets from {name}");
            let message = RouteNetlinkMessage::NewRule(rule(family, name));
            netlink.order(&what, message, NLM_F_CREATE | NLM_F_EXCL)?;
            changed += 1;
        }
        if own_routes(netlink, family)?.is_empty() {
            changed += 1;
        }
        let message = RouteNetlinkMessage::NewRoute(route(family, topology.loopback));
        netlink.order(
            "adding the local route for marked packets (is the loopback link up?)",
            message,
            NLM_F_CREATE | NLM_F_REPLACE,
        )?;
    }
    pin_mac(netlink, topology)?;
    Ok(changed)
}

/// Removes rules and routes. The bridge keeps its address: the kernel has no way back to a chosen
/// one.
pub(crate) fn remove(netlink: &mut Netlink) -> Result<(), KernelError> {
    for family in FAMILIES {
        for rule in own_rules(netlink, family)? {
            netlink.order("removing a rule", RouteNetlinkMessage::DelRule(rule), 0)?;
        }
        for route in own_routes(netlink, family)? {
            netlink.order("removing a route", RouteNetlinkMessage::DelRoute(route), 0)?;
        }
    }
    Ok(())
}

/// A bridge takes the lowest address of its ports unless one was set; the programs address frames
/// to it, so it must not change when a pod comes.
fn pin_mac(netlink: &mut Netlink, topology: &Topology) -> Result<(), KernelError> {
    let mut message = LinkMessage::default();
    message.header.index = topology.bridge.index;
    message.attributes.push(LinkAttribute::Address(topology.bridge_mac.to_vec()));
    netlink.order("pinning the bridge's hardware address", RouteNetlinkMessage::SetLink(message), 0)
}

fn rule(family: AddressFamily, interface: &str) -> RuleMessage {
    let mut message = RuleMessage::default();
    message.header.family = family;
    message.header.action = RuleAction::ToTable;
    message.attributes = vec![
        RuleAttribute::Iifname(interface.to_owned()),
        RuleAttribute::FwMark(MARK_STEER),
        RuleAttribute::FwMask(MARK_MASK),
        RuleAttribute::Table(TABLE),
        RuleAttribute::Priority(PRIORITY),
        RuleAttribute::Protocol(PROTOCOL),
    ];
    message
}

fn route(family: AddressFamily, loopback: u32) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.protocol = PROTOCOL;
    message.header.scope = RouteScope::Host;
    message.header.kind = RouteType::Local;
    message.attributes = vec![RouteAttribute::Table(TABLE), RouteAttribute::Oif(loopback)];
    message
}

fn interface(rule: &RuleMessage) -> Option<&str> {
    rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Iifname(name) => Some(name.as_str()),
        _ => None,
    })
}

fn own_rules(netlink: &mut Netlink, family: AddressFamily) -> Result<Vec<RuleMessage>, KernelError> {
    let mut message = RuleMessage::default();
    message.header.family = family;
    let answers = netlink.dump("listing rules", RouteNetlinkMessage::GetRule(message))?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRule(rule) if rule.attributes.contains(&RuleAttribute::Protocol(PROTOCOL)) => {
                Some(rule)
            }
            _ => None,
        })
        .collect())
}

fn own_routes(netlink: &mut Netlink, family: AddressFamily) -> Result<Vec<RouteMessage>, KernelError> {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    let answers = netlink.dump("listing routes", RouteNetlinkMessage::GetRoute(message))?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route)
                if route.header.protocol == PROTOCOL && route.attributes.contains(&RouteAttribute::Table(TABLE)) =>
            {
                Some(route)
            }
            _ => None,
        })
        .collect())
}
