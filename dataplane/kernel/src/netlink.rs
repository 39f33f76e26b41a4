//! Questions and orders to the kernel's network configuration, each with a deadline. Works in the
//! network namespace of the thread that opened it.

use std::{collections::BTreeSet, io, net::IpAddr, time::Duration};

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkLayerType, LinkMessage},
    route::{RouteAttribute, RouteHeader, RouteMessage, RouteType},
};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::KernelError;

/// The kernel answers at once; a second means that something is stuck.
const DEADLINE: Duration = Duration::from_secs(1);

pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// A link, as far as this crate cares.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    pub(crate) mac: Option<[u8; 6]>,
    /// The bridge it is a port of.
    pub(crate) master: Option<u32>,
    /// Index of the other end of a pair, and the id of the namespace it is in.
    pub(crate) peer: Option<(u32, i32)>,
    /// Whether frames have an Ethernet header.
    pub(crate) is_ethernet: bool,
}

impl Netlink {
    pub(crate) fn open() -> Result<Self, KernelError> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.connect(&SocketAddr::new(0, 0))?;
            let timeout = nix::sys::time::TimeVal::new(DEADLINE.as_secs() as i64, 0);
            setsockopt(&Borrowed(&socket), ReceiveTimeout, &timeout)?;
            Ok(Self { socket, sequence: 0 })
        };
        open().map_err(failed("opening a netlink socket"))
    }

    /// Sends an order and waits for its acknowledgement.
    pub(crate) fn order(&mut self, what: &str, message: RouteNetlinkMessage, flags: u16) -> Result<(), KernelError> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK | flags).map(drop).map_err(failed(what))
    }

    /// Asks for everything of a kind.
    pub(crate) fn dump(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_DUMP).map_err(failed(what))
    }

    /// Asks for one thing.
    pub(crate) fn ask(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        self.exchange(message, NLM_F_REQUEST | NLM_F_ACK).map_err(failed(what))
    }

    fn exchange(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let mut answers = Vec::new();
        loop {
            let (received, _) = self.socket.recv_from_full()?;
            let mut rest = received.as_slice();
            while !rest.is_empty() {
                let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                let length = (answer.header.length as usize).next_multiple_of(4);
                rest = rest.get(length..).unwrap_or(&[]);
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) => return Ok(answers),
                    _ => {}
                }
            }
        }
    }

    /// All links of this namespace.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>, KernelError> {
        let answers = self.dump("listing links", RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(message) => Some(link(&message)),
                _ => None,
            })
            .collect())
    }

    /// Addresses of this namespace with the index of their link.
    pub(crate) fn addresses(&mut self) -> Result<Vec<(u32, IpAddr)>, KernelError> {
        let answers = self.dump("listing addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        let mut addresses = Vec::new();
        for answer in answers {
            let RouteNetlinkMessage::NewAddress(message) = answer else { continue };
            // On point-to-point links `Address` is the other end; `Local` is always ours.
            let local = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            });
            let any = message.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            addresses.extend(local.or(any).map(|ip| (message.header.index, ip)));
        }
        Ok(addresses)
    }

    /// Links to which the main table sends single addresses without a gateway: as point-to-point links of pods have it.
    pub(crate) fn host_routes(&mut self) -> Result<BTreeSet<u32>, KernelError> {
        let mut found = BTreeSet::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut message = RouteMessage::default();
            message.header.address_family = family;
            for answer in self.dump("listing routes", RouteNetlinkMessage::GetRoute(message))? {
                if let RouteNetlinkMessage::NewRoute(route) = answer {
                    found.extend(host_route(&route));
                }
            }
        }
        Ok(found)
    }
}

fn host_route(route: &RouteMessage) -> Option<u32> {
    let header = &route.header;
    let whole = if header.address_family == AddressFamily::Inet { 32 } else { 128 };
    let is_direct = !route.attributes.iter().any(|attribute| matches!(attribute, RouteAttribute::Gateway(_)));
    let is_host = header.kind == RouteType::Unicast && header.table == RouteHeader::RT_TABLE_MAIN;
    if !is_host || !is_direct || header.destination_prefix_length != whole {
        return None;
    }
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        master: None,
        peer: None,
        is_ethernet: message.header.link_layer_type == LinkLayerType::Ether,
    };
    let (mut peer_index, mut peer_namespace) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().ok(),
            LinkAttribute::Controller(index) => link.master = Some(*index),
            LinkAttribute::Link(index) => peer_index = Some(*index),
            LinkAttribute::LinkNetNsId(id) => peer_namespace = Some(*id),
            _ => {}
        }
    }
    link.peer = peer_index.zip(peer_namespace);
    link
}

fn failed(what: &str) -> impl Fn(io::Error) -> KernelError {
    let what = what.to_owned();
    move |source| KernelError::Netlink { what: what.clone(), source }
}

struct Borrowed<'a>(&'a Socket);

impl std::os::fd::AsFd for Borrowed<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        borrow(self.0)
    }
}

#[expect(unsafe_code, reason = "netlink-sys offers only the number of its descriptor")]
fn borrow(socket: &Socket) -> BorrowedFd<'_> {
    // SAFETY: the socket owns the descriptor and is borrowed for as long as the result.
    unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) }
}
