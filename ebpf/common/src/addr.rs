//! One address type for both families, so that one map and one comparison serve both.

/// An IPv6 address, or an IPv4 address in its mapped form (`::ffff:a.b.c.d`, RFC 4291 section
/// 2.5.5.2), in network byte order.
///
/// Four words instead of sixteen bytes: the eBPF compiler then copies and compares words.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Debug)]
pub struct Addr {
    /// The address's words as they lie in memory on the wire.
    pub words: [u32; 4],
}

const MAPPED: u32 = u32::from_ne_bytes([0, 0, 0xff, 0xff]);

impl Addr {
    /// The mapped form of an IPv4 address.
    #[inline(always)]
    pub const fn v4(octets: [u8; 4]) -> Self {
        Self::v4_word(u32::from_ne_bytes(octets))
    }

    /// The mapped form of an IPv4 address given as it lies in memory on the wire.
    #[inline(always)]
    pub const fn v4_word(word: u32) -> Self {
        Self { words: [0, 0, MAPPED, word] }
    }

    /// An IPv6 address.
    #[inline(always)]
    pub const fn v6(octets: [u8; 16]) -> Self {
        let o = octets;
        Self {
            words: [
                u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
                u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
                u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
                u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
            ],
        }
    }

    /// The sixteen bytes in network order.
    pub const fn octets(self) -> [u8; 16] {
        let [a, b, c, d] = self.words;
        let (a, b, c, d) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes(), d.to_ne_bytes());
        [a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3], c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]]
    }

    /// Whether this is an IPv4 address in mapped form.
    #[inline(always)]
    pub const fn is_v4(&self) -> bool {
        self.words[0] == 0 && self.words[1] == 0 && self.words[2] == MAPPED
    }

    /// Whether every bit is zero: the unused entry of an address list, and IPv6's unspecified address.
    #[inline(always)]
    pub const fn is_zero(&self) -> bool {
        self.words[0] | self.words[1] | self.words[2] | self.words[3] == 0
    }

    /// IPv6 link-local, `fe80::/10`.
    #[inline(always)]
    pub const fn is_link_local(&self) -> bool {
        u32::from_be(self.words[0]) & 0xffc0_0000 == 0xfe80_0000
    }

    /// IPv6 multicast, `ff00::/8`.
    #[inline(always)]
    pub const fn is_multicast6(&self) -> bool {
        u32::from_be(self.words[0]) & 0xff00_0000 == 0xff00_0000
    }

    /// IPv4 multicast or limited broadcast.
    #[inline(always)]
    pub const fn is_multicast4(&self) -> bool {
        let host = u32::from_be(self.words[3]);
        self.is_v4() && (host & 0xf000_0000 == 0xe000_0000 || host == u32::MAX)
    }
}

impl From<core::net::IpAddr> for Addr {
    fn from(address: core::net::IpAddr) -> Self {
        match address {
            core::net::IpAddr::V4(v4) => Self::v4(v4.octets()),
            core::net::IpAddr::V6(v6) => Self::v6(v6.octets()),
        }
    }
}

impl From<Addr> for core::net::IpAddr {
    fn from(address: Addr) -> Self {
        core::net::Ipv6Addr::from(address.octets()).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::Addr;

    #[test]
    fn addresses_survive_the_round_trip_and_know_their_kind() {
        for (text, v4, link_local, multicast) in [
            ("10.42.0.7", true, false, false),
            ("0.0.0.0", true, false, false),
            ("224.0.0.251", true, false, true),
            ("255.255.255.255", true, false, true),
            ("fd77::9", false, false, false),
            ("fe80::1", false, true, false),
            ("ff02::1", false, false, true),
            ("2001:db8::ffff:1.2.3.4", false, false, false),
        ] {
            let ip: IpAddr = text.parse().unwrap();
            let addr = Addr::from(ip);
            assert_eq!(IpAddr::from(addr), ip, "{text}");
            assert_eq!(addr.is_v4(), v4, "{text}");
            assert_eq!(addr.is_link_local(), link_local, "{text}");
            assert_eq!(addr.is_multicast6() || addr.is_multicast4(), multicast, "{text}");
        }
    }
}
