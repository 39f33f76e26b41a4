//! Headers as they come, cut, chained and forged.

extern crate std;

use core::net::IpAddr;
use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;

fn ip4(protocol: u8, fragment: u16, options: usize, payload: &[u8]) -> Vec<u8> {
    let header = 20 + options;
    let mut bytes = vec![0; header];
    bytes[0] = 0x40 | (header / 4) as u8;
    bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
    bytes[9] = protocol;
    bytes[12..16].copy_from_slice(&[10, 0, 0, 1]);
    bytes[16..20].copy_from_slice(&[10, 0, 0, 2]);
    bytes.extend_from_slice(payload);
    bytes
}

fn ip6(next: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 40];
    bytes[0] = 0x60;
    bytes[6] = next;
    bytes[8] = 0xfd;
    bytes[23] = 1;
    bytes[24] = 0xfd;
    bytes[39] = 2;
    bytes.extend_from_slice(payload);
    bytes
}

fn tcp(flags: u8) -> Vec<u8> {
    let mut bytes = vec![0; 20];
    bytes[0..2].copy_from_slice(&40000u16.to_be_bytes());
    bytes[2..4].copy_from_slice(&80u16.to_be_bytes());
    bytes[12] = 0x50;
    bytes[13] = flags;
    bytes
}

fn extension(next: u8, rest: Vec<u8>) -> Vec<u8> {
    let mut bytes = vec![next, 0, 0, 0, 0, 0, 0, 0];
    bytes.extend(rest);
    bytes
}

fn kind(ether_type: u16, frame: &[u8]) -> Kind {
    parse(frame, ether_type, 0).kind
}

#[test]
fn tcp_flags_tell_the_place_in_the_flow() {
    for (flags, expected) in [
        (0x02, Kind::Syn),
        (0xc2, Kind::Syn),
        (0x12, Kind::SynAck),
        (0x10, Kind::Established),
        (0x18, Kind::Established),
        (0x11, Kind::Established),
        (0x04, Kind::Reset),
        (0x14, Kind::Reset),
        (0x06, Kind::Reset),
        (0x00, Kind::Established),
    ] {
        assert_eq!(kind(ETH_IP, &ip4(TCP, 0, 0, &tcp(flags))), expected, "{flags:#x}");
        assert_eq!(kind(ETH_IP6, &ip6(TCP, &tcp(flags))), expected, "{flags:#x}");
    }
}

#[test]
fn addresses_ports_and_offsets_are_found_behind_options_and_extensions() {
    let v4 = parse(ip4(TCP, 0, 40, &tcp(2)).as_slice(), ETH_IP, 0);
    let v6 = parse(ip6(0, &extension(60, extension(TCP, tcp(2)))).as_slice(), ETH_IP6, 0);
    for (parsed, src, dst, transport) in [(v4, "10.0.0.1", "10.0.0.2", 60), (v6, "fd00::1", "fd00::2", 56)] {
        assert_eq!(IpAddr::from(parsed.tuple.src), src.parse::<IpAddr>().unwrap());
        assert_eq!(IpAddr::from(parsed.tuple.dst), dst.parse::<IpAddr>().unwrap());
        assert_eq!(u16::from_be(parsed.tuple.src_port), 40000);
        assert_eq!(u16::from_be(parsed.tuple.dst_port), 80);
        assert_eq!(parsed.transport, transport);
    }
}

#[test]
fn what_hides_its_transport_header_is_not_parsed() {
    let long_chain = (0..8).fold(tcp(2), |rest, _| extension(60, rest));
    let cases: [(&str, u16, Vec<u8>); 8] = [
        ("truncated v4", ETH_IP, vec![0x45; 19]),
        ("wrong version", ETH_IP, vec![0x65; 40]),
        ("short header length", ETH_IP, vec![0x44; 40]),
        ("first fragment without TCP flags", ETH_IP, ip4(TCP, 0x2000, 0, &tcp(2)[..8])),
        ("truncated UDP", ETH_IP, ip4(UDP, 0, 0, &[0; 7])),
        ("truncated v6", ETH_IP6, vec![0x60; 39]),
        ("long chain", ETH_IP6, ip6(60, &long_chain)),
        ("VLAN", 0x8100, vec![0; 64]),
    ];
    for (name, ether_type, frame) in cases {
        assert_eq!(kind(ether_type, &frame), Kind::Unparsed, "{name}");
    }
}

/// Says something of groups to all routers of the link.
fn to_group(igmp: &[u8]) -> Vec<u8> {
    let mut packet = ip4(crate::IGMP, 0, 0, igmp);
    packet[16..20].copy_from_slice(&[224, 0, 0, 22]);
    packet
}

#[test]
fn fragments_and_other_protocols_have_their_own_kinds() {
    let mut fragment6 = vec![UDP, 0, 0x01, 0x00, 0, 0, 0, 0];
    fragment6.extend([0; 8]);
    let mut first6 = vec![UDP, 0, 0, 1, 0, 0, 0, 0];
    first6.extend([0; 8]);
    for (ether_type, frame, expected) in [
        (ETH_IP, ip4(TCP, 0x0001, 0, &[]), Kind::Fragment),
        (ETH_IP, ip4(UDP, 0x2000, 0, &[0; 8]), Kind::Datagram),
        (ETH_IP, ip4(1, 0, 0, &[8, 0]), Kind::Other),
        (ETH_IP, to_group(&[0x22]), Kind::Neighbour),
        (ETH_IP, to_group(&[0x16]), Kind::Neighbour),
        (ETH_IP, to_group(&[0x13]), Kind::Other),
        (ETH_IP, to_group(&[]), Kind::Unparsed),
        (ETH_IP, ip4(crate::IGMP, 0, 0, &[0x22]), Kind::Other),
        (ETH_IP6, ip6(44, &fragment6), Kind::Fragment),
        (ETH_IP6, ip6(44, &first6), Kind::Datagram),
        (ETH_IP6, ip6(58, &[135]), Kind::Neighbour),
        (ETH_IP6, ip6(58, &[143]), Kind::Neighbour),
        (ETH_IP6, ip6(58, &[134]), Kind::Routing),
        (ETH_IP6, ip6(58, &[137]), Kind::Routing),
        (ETH_IP6, ip6(58, &[&[136], &[0; 23][..]].concat()), Kind::Advertisement),
        (ETH_IP6, ip6(58, &[136]), Kind::Unparsed),
        (ETH_IP6, ip6(58, &[128]), Kind::Other),
        (ETH_IP6, ip6(59, &[]), Kind::Other),
    ] {
        assert_eq!(kind(ether_type, &frame), expected);
    }
}

#[test]
fn arp_names_its_sender() {
    let mut arp = vec![0, 1, 8, 0, 6, 4, 0, 1];
    arp.extend([2; 6]);
    arp.extend([10, 0, 0, 9]);
    arp.extend([0; 10]);
    let parsed = parse(arp.as_slice(), ETH_ARP, 0);
    assert_eq!((parsed.kind, parsed.tuple.src), (Kind::Arp, Addr::v4([10, 0, 0, 9])));
    arp[4] = 8;
    assert_eq!(kind(ETH_ARP, &arp), Kind::Unparsed);
}

proptest! {
    /// No input makes the parser panic, and what it calls TCP or UDP really has ports in range.
    #[test]
    fn any_bytes_are_survived(
        frame in proptest::collection::vec(any::<u8>(), 0..200),
        ether_type in prop_oneof![Just(ETH_IP), Just(ETH_IP6), Just(ETH_ARP), any::<u16>()],
        network in 0usize..64,
    ) {
        let parsed = parse(frame.as_slice(), ether_type, network);
        if matches!(parsed.kind, Kind::Syn | Kind::SynAck | Kind::Established | Kind::Datagram) {
            prop_assert!((parsed.transport as usize) < frame.len());
        }
    }
}
