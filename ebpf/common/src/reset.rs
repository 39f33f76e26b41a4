//! The TCP reset that answers a packet of a flow whose proxy died, so that its client does not
//! wait for an answer that never comes (RFC 9293, section 3.10.7.1).
//!
//! Byte arrays instead of structs: the frame is written as it is, and nothing depends on layout.

/// The headers of the packet to answer, and the answer: together, because in the kernel they lie
/// in a map, not on the small stack.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reset {
    /// Ethernet header.
    pub eth: [u8; 14],
    /// IP header without options or extensions; IPv4 uses the first 20 bytes.
    pub ip: [u8; 40],
    /// First part of the TCP header, up to the flags.
    pub tcp: [u8; 14],
    /// The whole frame of the answer; IPv4 uses the first [`Reset::LEN4`] bytes.
    pub out: [u8; Self::LEN6],
}

impl Reset {
    /// Ethernet, IPv4 without options, TCP without options.
    pub const LEN4: usize = 14 + 20 + 20;
    /// Ethernet, IPv6, TCP without options.
    pub const LEN6: usize = 14 + 40 + 20;

    /// Nothing to answer yet.
    pub const EMPTY: Self = Self { eth: [0; 14], ip: [0; 40], tcp: [0; 14], out: [0; Self::LEN6] };
}

const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const TTL: u8 = 64;

/// Answers an IPv4 packet.
#[inline(always)]
pub fn reset4(reset: &mut Reset) {
    let Reset { eth, ip, tcp, out } = reset;
    swap_ethernet(out, eth);
    fill(out, 14, 40);
    out[14] = 0x45;
    out[17] = 40;
    out[20] = 0x40; // Don't fragment.
    out[22] = TTL;
    out[23] = crate::TCP;
    copy(out, 26, ip, 16, 4);
    copy(out, 30, ip, 12, 4);
    let checksum = fold(sum(out, 14, 20));
    put(out, 24, checksum);
    answer(out, 34, tcp);
    let pseudo = sum(out, 26, 8) + u32::from(crate::TCP) + 20;
    let checksum = fold(pseudo + sum(out, 34, 20));
    put(out, 50, checksum);
}

/// Answers an IPv6 packet.
#[inline(always)]
pub fn reset6(reset: &mut Reset) {
    let Reset { eth, ip, tcp, out } = reset;
    swap_ethernet(out, eth);
    fill(out, 14, 60);
    out[14] = 0x60;
    out[19] = 20;
    out[20] = crate::TCP;
    out[21] = TTL;
    copy(out, 22, ip, 24, 16);
    copy(out, 38, ip, 8, 16);
    answer(out, 54, tcp);
    let pseudo = sum(out, 22, 32) + u32::from(crate::TCP) + 20;
    let checksum = fold(pseudo + sum(out, 54, 20));
    put(out, 70, checksum);
}

#[inline(always)]
fn fill(out: &mut [u8], at: usize, length: usize) {
    let mut i = 0;
    while i < length {
        out[at + i] = 0;
        i += 1;
    }
}

#[inline(always)]
fn put(out: &mut [u8], at: usize, bytes: [u8; 2]) {
    out[at] = bytes[0];
    out[at + 1] = bytes[1];
}

#[inline(always)]
fn swap_ethernet(out: &mut [u8], eth: &[u8; 14]) {
    copy(out, 0, eth, 6, 6);
    copy(out, 6, eth, 0, 6);
    copy(out, 12, eth, 12, 2);
}

/// With ACK the reset takes its sequence number from it. Without, it acknowledges the packet; only
/// a SYN or forged packets come without, and to those the exact number does not matter: one byte
/// is acknowledged.
#[inline(always)]
fn answer(out: &mut [u8], at: usize, tcp: &[u8; 14]) {
    copy(out, at, tcp, 2, 2);
    copy(out, at + 2, tcp, 0, 2);
    out[at + 12] = 0x50;
    if tcp[13] & ACK != 0 {
        copy(out, at + 4, tcp, 8, 4);
        out[at + 13] = RST;
    } else {
        let seq = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]).wrapping_add(1);
        copy(out, at + 8, &seq.to_be_bytes(), 0, 4);
        out[at + 13] = RST | ACK;
    }
}

#[inline(always)]
fn copy(out: &mut [u8], at: usize, from: &[u8], start: usize, length: usize) {
    let mut i = 0;
    while i < length {
        out[at + i] = from[start + i];
        i += 1;
    }
}

/// One's complement sum of an even number of bytes (RFC 1071).
#[inline(always)]
fn sum(bytes: &[u8], at: usize, length: usize) -> u32 {
    let mut sum = 0;
    let mut i = 0;
    while i < length {
        sum += u32::from(u16::from_be_bytes([bytes[at + i], bytes[at + i + 1]]));
        i += 2;
    }
    sum
}

#[inline(always)]
fn fold(sum: u32) -> [u8; 2] {
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    (!(sum as u16)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Addr, Kind, parse};

    const ETH4: [u8; 14] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x08, 0x00];
    const ETH6: [u8; 14] = [1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 0x86, 0xdd];
    const TCP_DATA: [u8; 14] = [0x9c, 0x40, 0, 80, 0, 0, 0, 9, 0xaa, 0xbb, 0xcc, 0xdd, 0x50, 0x18];

    #[test]
    fn the_answer_is_the_mirror_image_with_right_checksums() {
        let mut reset = Reset { eth: ETH4, tcp: TCP_DATA, ..Reset::EMPTY };
        reset.ip[12..20].copy_from_slice(&[10, 0, 0, 1, 10, 43, 0, 9]);
        reset4(&mut reset);
        let out = &reset.out[..Reset::LEN4];
        assert_eq!(out[..12], [2, 2, 2, 2, 2, 2, 1, 1, 1, 1, 1, 1]);
        assert_eq!(out[38..42], TCP_DATA[8..12], "sequence from their acknowledgement");
        assert_eq!(fold(sum(out, 14, 20)), [0, 0]);
        assert_eq!(fold(sum(out, 26, 8) + 6 + 20 + sum(out, 34, 20)), [0, 0]);
        let parsed = parse(out, 0x0800, 14);
        assert_eq!(parsed.kind, Kind::Reset);
        assert_eq!(parsed.tuple.src, Addr::v4([10, 43, 0, 9]));
        assert_eq!(parsed.tuple.dst, Addr::v4([10, 0, 0, 1]));
        assert_eq!(parsed.tuple.dst_port, 40000u16.to_be());

        let mut reset = Reset { eth: ETH6, tcp: TCP_DATA, out: [0xff; 74], ..Reset::EMPTY };
        (reset.ip[8], reset.ip[23], reset.ip[24], reset.ip[39]) = (0xfd, 1, 0xfd, 2);
        reset6(&mut reset);
        let out = reset.out;
        assert_eq!(fold(sum(&out, 22, 32) + 6 + 20 + sum(&out, 54, 20)), [0, 0]);
        let parsed = parse(out.as_slice(), 0x86dd, 14);
        assert_eq!((parsed.kind, parsed.tuple.src_port), (Kind::Reset, 80u16.to_be()));
        assert_eq!(parsed.tuple.src.octets()[15], 2);
    }

    #[test]
    fn a_packet_without_acknowledgement_is_acknowledged() {
        let mut reset = Reset { eth: ETH4, tcp: TCP_DATA, ..Reset::EMPTY };
        reset.tcp[13] = 0x08;
        reset4(&mut reset);
        assert_eq!(reset.out[38..42], [0; 4]);
        assert_eq!(reset.out[42..46], [0, 0, 0, 10]);
        assert_eq!(reset.out[47], RST | ACK);
    }
}
