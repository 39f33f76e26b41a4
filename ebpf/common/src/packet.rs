//! Reading headers: just far enough to know the flow and whether it begins here.

use crate::{Addr, TCP, Tuple, UDP};

/// Read access to a packet, for the kernel's buffer and for slices.
pub trait Bytes {
    /// The `N` bytes at `offset`, or nothing when the packet is shorter.
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;
}

impl Bytes for [u8] {
    fn load<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..offset.checked_add(N)?)?.try_into().ok()
    }
}

/// A packet's flow and its place in it.
///
/// A flat value that is complete in every case: an enumeration of cases with contents would have
/// the eBPF compiler copy contents that were never written, which the verifier refuses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// Addresses and ports; ports are zero for protocols without. For ARP only the sender's protocol
    /// address is set, and for a neighbour advertisement the destination is the address that it
    /// claims.
    pub tuple: Tuple,
    /// Place in the flow.
    pub kind: Kind,
    /// Offset of the transport header from the start of the frame.
    pub transport: u32,
}

/// A packet's place in its flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// TCP with SYN and without ACK: a flow begins.
    Syn,
    /// TCP with SYN and ACK: a flow is answered.
    SynAck,
    /// TCP reset.
    Reset,
    /// Any other TCP packet.
    Established,
    /// UDP.
    Datagram,
    /// A protocol without ports, judged packet by packet.
    Other,
    /// ICMPv6 neighbour discovery (RFC 4861) that asks, or who listens to which group (RFC 2710, 3810, for IPv4 2236, 3376): they
    /// never leave the link.
    Neighbour,
    /// A neighbour advertisement: says whose an address is.
    Advertisement,
    /// What only routers say on a link: router advertisements and redirects (RFC 4861).
    Routing,
    /// ICMP that tells of a packet of a flow that it could not be delivered (RFC 792, 4443): whoever gets it heeds it only if it
    /// has such a flow.
    Error,
    /// A fragment that is not the first.
    Fragment,
    /// ARP (RFC 826) for IPv4.
    Arp,
    /// Neither IP nor ARP, for example LLDP.
    Foreign,
    /// Headers that could not be read: truncated, a VLAN tag, too many extension headers.
    Unparsed,
}

const ETH_IP: u16 = 0x0800;
const ETH_ARP: u16 = 0x0806;
const ETH_IP6: u16 = 0x86dd;
const ETH_VLAN: u16 = 0x8100;
const ETH_QINQ: u16 = 0x88a8;

const FIN_SYN_RST_ACK: u8 = 0x17;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Extension headers that are followed. Real stacks send at most two or three; a longer chain is
/// an attempt to hide the transport header.
const MAX_EXTENSIONS: usize = 6;

/// Reads the headers of a frame of `ether_type` (host byte order) whose network header is at
/// `network`.
///
/// VLAN tags are not followed: a pod has no business with them.
#[inline(always)]
pub fn parse<B: Bytes + ?Sized>(frame: &B, ether_type: u16, network: usize) -> Parsed {
    let mut parsed = Parsed { tuple: Tuple::EMPTY, kind: Kind::Unparsed, transport: 0 };
    let kind = match ether_type {
        ETH_IP => parse4(frame, network, &mut parsed),
        ETH_IP6 => parse6(frame, network, &mut parsed),
        ETH_ARP => parse_arp(frame, network, &mut parsed),
        ETH_VLAN | ETH_QINQ => None,
        _ => Some(Kind::Foreign),
    };
    parsed.kind = match kind {
        Some(kind) => kind,
        None => Kind::Unparsed,
    };
    parsed
}

#[inline(always)]
fn parse_arp<B: Bytes + ?Sized>(frame: &B, network: usize, parsed: &mut Parsed) -> Option<Kind> {
    let arp: [u8; 20] = frame.load(network)?;
    // The lengths of both addresses and the protocol fix the place of the sender's.
    if arp[2] != 0x08 || arp[3] != 0 || arp[4] != 6 || arp[5] != 4 {
        return None;
    }
    parsed.tuple.src = Addr::v4([arp[14], arp[15], arp[16], arp[17]]);
    Some(Kind::Arp)
}

#[inline(always)]
fn parse4<B: Bytes + ?Sized>(frame: &B, network: usize, parsed: &mut Parsed) -> Option<Kind> {
    let ip: [u8; 20] = frame.load(network)?;
    let header = usize::from(ip[0] & 0x0f) * 4;
    if ip[0] >> 4 != 4 || header < 20 {
        return None;
    }
    parsed.tuple.src = Addr::v4([ip[12], ip[13], ip[14], ip[15]]);
    parsed.tuple.dst = Addr::v4([ip[16], ip[17], ip[18], ip[19]]);
    parsed.tuple.protocol = ip[9];
    parsed.transport = (network + header) as u32;
    if u16::from_be_bytes([ip[6], ip[7]]) & 0x1fff != 0 {
        return Some(Kind::Fragment);
    }
    read_transport(frame, parsed)
}

#[inline(always)]
fn parse6<B: Bytes + ?Sized>(frame: &B, network: usize, parsed: &mut Parsed) -> Option<Kind> {
    let ip: [u8; 40] = frame.load(network)?;
    if ip[0] >> 4 != 6 {
        return None;
    }
    let mut address = [0; 16];
    address.copy_from_slice(&ip[8..24]);
    parsed.tuple.src = Addr::v6(address);
    address.copy_from_slice(&ip[24..40]);
    parsed.tuple.dst = Addr::v6(address);
    let mut next = ip[6];
    let mut offset = network + 40;
    for _ in 0..MAX_EXTENSIONS {
        match next {
            // Hop-by-hop, routing, destination options, mobility, HIP, shim6 (RFC 7045).
            0 | 43 | 60 | 135 | 139 | 140 => {
                let [following, length]: [u8; 2] = frame.load(offset)?;
                next = following;
                offset += (usize::from(length) + 1) * 8;
            }
            // Authentication header: length in words, minus two (RFC 4302).
            51 => {
                let [following, length]: [u8; 2] = frame.load(offset)?;
                next = following;
                offset += (usize::from(length) + 2) * 4;
            }
            44 => {
                let fragment: [u8; 4] = frame.load(offset)?;
                next = fragment[0];
                offset += 8;
                if u16::from_be_bytes([fragment[2], fragment[3]]) & 0xfff8 != 0 {
                    parsed.tuple.protocol = next;
                    return Some(Kind::Fragment);
                }
            }
            _ => break,
        }
    }
    if matches!(next, 0 | 43 | 44 | 51 | 60 | 135 | 139 | 140) {
        return None;
    }
    parsed.tuple.protocol = next;
    parsed.transport = offset as u32;
    read_transport(frame, parsed)
}

#[inline(always)]
fn read_transport<B: Bytes + ?Sized>(frame: &B, parsed: &mut Parsed) -> Option<Kind> {
    let offset = parsed.transport as usize;
    match parsed.tuple.protocol {
        TCP => {
            // Up to the flags: a first fragment too short for them is refused, so that the flags
            // cannot be smuggled in with the next one (RFC 3128).
            let tcp: [u8; 14] = frame.load(offset)?;
            parsed.tuple.src_port = u16::from_ne_bytes([tcp[0], tcp[1]]);
            parsed.tuple.dst_port = u16::from_ne_bytes([tcp[2], tcp[3]]);
            Some(tcp_kind(tcp[13]))
        }
        UDP => {
            let udp: [u8; 8] = frame.load(offset)?;
            parsed.tuple.src_port = u16::from_ne_bytes([udp[0], udp[1]]);
            parsed.tuple.dst_port = u16::from_ne_bytes([udp[2], udp[3]]);
            Some(Kind::Datagram)
        }
        crate::ICMP => {
            let [kind]: [u8; 1] = frame.load(offset)?;
            Some(if matches!(kind, 3 | 4 | 11 | 12) { Kind::Error } else { Kind::Other })
        }
        crate::ICMPV6 => {
            let [kind]: [u8; 1] = frame.load(offset)?;
            match kind {
                1..=4 => Some(Kind::Error),
                130..=133 | 135 | 143 => Some(Kind::Neighbour),
                134 | 137 => Some(Kind::Routing),
                136 => {
                    parsed.tuple.dst = Addr::v6(frame.load(offset + 8)?);
                    Some(Kind::Advertisement)
                }
                _ => Some(Kind::Other),
            }
        }
        crate::IGMP if parsed.tuple.dst.is_multicast4() => {
            let [kind]: [u8; 1] = frame.load(offset)?;
            Some(if matches!(kind, 0x11 | 0x12 | 0x16 | 0x17 | 0x22) { Kind::Neighbour } else { Kind::Other })
        }
        _ => Some(Kind::Other),
    }
}

#[inline(always)]
const fn tcp_kind(flags: u8) -> Kind {
    let flags = flags & FIN_SYN_RST_ACK;
    if flags & RST != 0 {
        Kind::Reset
    } else if flags & SYN == 0 {
        Kind::Established
    } else if flags & ACK == 0 {
        Kind::Syn
    } else {
        Kind::SynAck
    }
}

#[cfg(test)]
mod tests;
